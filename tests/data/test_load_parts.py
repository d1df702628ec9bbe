"""Data sets found by name, split by seed, and read again as they were read in training."""

import gzip
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from recurra.data import DataSettings, load_part, load_parts
from recurra.data.parts import role
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0)


def ucr(rows: int, start: int = 0) -> str:
    return "\n".join(f"{i % 2}\t{(start + i) / 8}\t{i / 4}\t{i / 2}" for i in range(rows)) + "\n"


def ts(rows: int) -> str:
    return "@classLabel true 0 1\n@data\n" + "\n".join(f"{i},{i / 2}:{i % 2}" for i in range(rows))


def wide(rows: int, labels: bool = True) -> str:
    header = ["t0", "t1", "t2"] + (["label"] if labels else [])
    lines = [[f"{i / 8}", f"{i / 4}", f"{i / 2}"] + ([f"c{i % 2}"] if labels else []) for i in range(rows)]
    return "\n".join(",".join(line) for line in [header, *lines])


def fill(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


def sizes(parts) -> tuple[int | None, ...]:
    return tuple(None if part is None else len(part) for part in (parts.train, parts.validation, parts.test))


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train.csv", "train"),
        ("ECG_TRAIN.tsv", "train"),
        ("train-images-idx3-ubyte.gz", "train"),
        ("ptb.valid.txt", "validation"),
        ("Dev", "validation"),
        ("en_ewt-ud-dev.conllu", "validation"),
        ("val.de.gz", "validation"),
        ("validation", "validation"),
        ("t10k-images.idx3-ubyte", "test"),
        ("test_2016_flickr.de.gz", "test"),
        ("X_Test.ts", "test"),
        ("trains.csv", None),
        ("contest.csv", None),
        ("train_test.csv", None),
    ],
)
def test_roles_are_words_of_names(name: str, part: str | None):
    assert role(name) == part


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"train.csv": wide(8), "test.csv": wide(4), "notes.md": "x"}, (8, None, 4)),
        ({"train.csv.gz": wide(8), "valid.csv": wide(6), "TEST.CSV": wide(4)}, (8, 6, 4)),
        ({"X_TRAIN.tsv": ucr(8), "X_TEST.tsv": ucr(4), "Y_TEST.tsv": ucr(6), "README.md": "x"}, (8, None, 4)),
        ({"X_TRAIN.ts": ts(8), "X_TEST.ts": ts(4), "X_TRAIN.txt": ucr(6), "X_TEST.txt": ucr(3)}, (8, None, 4)),
        ({"train/data.csv": wide(8), "dev/data.csv": wide(6), "test/data.csv": wide(4)}, (8, 6, 4)),
        ({"train.tsv": wide(8).replace(",", "\t"), "val.csv": wide(6), "test.csv": wide(4)}, (8, 6, 4)),
        ({"mine.csv": wide(8), "notes.md": "x"}, (8, None, None)),
        ({"train/data.csv": wide(8), "train/.DS_Store": "x", ".git/train.csv": "x"}, (8, None, None)),
    ],
)
def test_the_parts_of_a_folder_are_found_by_name(tmp_path: Path, files: dict[str, str], expected: tuple):
    parts = load_parts(fill(tmp_path / "set", files), "classify", ALL)
    assert sizes(parts) == expected


def test_texts_in_folders_by_part_and_class(tmp_path: Path):
    files = {
        f"{part}/{label}/{i}.txt": f"a {label} text\n"
        for part, count in (("train", 5), ("test", 4))
        for label in ("pos", "neg")
        for i in range(count)
    }
    parts = load_parts(fill(tmp_path, files), "classify", ALL)
    assert parts.schema.format == "text-folder"
    assert sizes(parts) == (10, None, 8)
    assert parts.schema.classes == ["neg", "pos"]
    alone = load_parts(tmp_path / "train", "classify", ALL)
    assert sizes(alone) == (10, None, 8)
    assert load_part(tmp_path, parts.schema, targets=True)[0].targets is not None


def test_a_file_called_like_a_part_brings_those_beside_it(tmp_path: Path):
    files = {"A_TRAIN.ts": ts(8), "A_TEST.ts": ts(4), "B_TEST.ts": ts(2), "A_VAL.ts.gz": ts(6)}
    fill(tmp_path, files)
    parts = load_parts(tmp_path / "A_TRAIN.ts", "classify", ALL)
    assert sizes(parts) == (8, 6, 4)
    assert parts.warnings == [
        f"{tmp_path / 'A_TEST.ts'}: lies beside A_TRAIN.ts and is taken as test part.",
        f"{tmp_path / 'A_VAL.ts.gz'}: lies beside A_TRAIN.ts and is taken as validation part.",
    ]
    given = load_parts(tmp_path / "A_TRAIN.ts", "classify", ALL, test=tmp_path / "B_TEST.ts")
    assert sizes(given) == (8, 6, 2)
    assert given.sources["test"] == str(tmp_path / "B_TEST.ts")
    assert sizes(load_parts(tmp_path / "A_TEST.ts", "classify", ALL)) == (4, None, None)


def test_of_several_files_beside_it_one_is_taken_and_named(tmp_path: Path):
    fill(tmp_path, {"train.csv": wide(8), "dev.csv": wide(6), "valid.csv": wide(4)})
    parts = load_parts(tmp_path / "train.csv", "classify", ALL)
    assert sizes(parts) == (8, 6, None)
    assert parts.warnings == [f"{tmp_path / 'dev.csv'}: lies beside train.csv and is taken as validation part."]


def test_what_is_missing_is_split_off(tmp_path: Path):
    fill(tmp_path, {"X_TRAIN.tsv": ucr(100)})
    parts = load_parts(tmp_path / "X_TRAIN.tsv", "classify", DataSettings(), seed=5)
    assert sizes(parts) == (70, 10, 20)
    assert parts.sources["test"] == f"0.2 of {tmp_path / 'X_TRAIN.tsv'}, split seed 5"
    for part in (parts.train, parts.validation, parts.test):
        assert part is not None
        assert part.targets is not None
        assert part.targets.float().mean() == 0.5
    same = load_parts(tmp_path / "X_TRAIN.tsv", "classify", DataSettings(split_seed=5), seed=6)
    assert same.test is not None
    assert parts.test is not None
    assert same.test.values.equal(parts.test.values)
    assert same.fingerprint == parts.fingerprint
    fill(tmp_path, {"X_TEST.tsv": ucr(30)})
    assert sizes(load_parts(tmp_path, "classify", DataSettings())) == (90, 10, 30)


def test_a_test_file_without_labels_is_left_out_when_only_its_name_tells_of_it(tmp_path: Path):
    fill(tmp_path, {"train.csv": wide(20), "test.csv": wide(6, labels=False)})
    parts = load_parts(tmp_path, "classify", DataSettings(validation_fraction=0))
    assert sizes(parts) == (16, None, 4)
    assert f"{tmp_path / 'test.csv'}: has no labels and is left out, though its name tells of test." in parts.warnings
    with pytest.raises(DataError, match=r"test\.csv: has no labels, which are needed to measure on it"):
        load_parts(tmp_path / "train.csv", "classify", ALL, test=tmp_path / "test.csv")
    further, _ = load_part(tmp_path / "test.csv", parts.schema)
    assert further.targets is None
    assert len(further) == 6


def test_labels_met_at_test_time_alone_are_no_error(tmp_path: Path):
    fill(tmp_path, {"X_TRAIN.tsv": ucr(10), "X_TEST.tsv": ucr(3) + "new\t1\t2\t3\nnewer\t1\t2\t3\n"})
    parts = load_parts(tmp_path, "classify", ALL)
    assert parts.test is not None
    assert parts.test.targets is not None
    assert parts.test.targets.tolist() == [0, 1, 0, -1, -1]
    assert parts.warnings == [
        f"{tmp_path / 'X_TEST.tsv'}: 2 of 5 sequences have a label that training data do not have ('new', 'newer'); "
        "they count as wrong."
    ]


def test_the_fingerprint_is_of_the_content(tmp_path: Path):
    first = load_parts(fill(tmp_path / "a", {"train.csv": wide(8), "test.csv": wide(4)}), "classify", ALL).fingerprint
    moved = load_parts(fill(tmp_path / "b", {"train.csv": wide(8), "test.csv": wide(4)}), "classify", ALL).fingerprint
    other = load_parts(fill(tmp_path / "c", {"train.csv": wide(8), "test.csv": wide(5)}), "classify", ALL).fingerprint
    assert first == moved != other
    texts = {f"{label}/{i}.txt": f"{label} word\n" for label in "ab" for i in range(4)}
    one = load_parts(fill(tmp_path / "d", texts), "classify", ALL).fingerprint
    two = load_parts(fill(tmp_path / "d", {"b/3.txt": "b word changed\n"}), "classify", ALL).fingerprint
    assert one != two


def test_names_are_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RECURRA_DATA", raising=False)
    embedded = load_parts(None, "classify", DataSettings(name="digits"))
    assert sizes(embedded) == (1257, 180, 360)
    assert sizes(load_parts("digits", "classify", DataSettings())) == (1257, 180, 360)
    fill(tmp_path / "sets" / "digits", {"train.csv": wide(20)})
    monkeypatch.setenv("RECURRA_DATA", str(tmp_path / "sets"))
    assert sizes(load_parts(None, "classify", DataSettings(name="digits", validation_fraction=0))) == (16, None, 4)
    path = str(tmp_path / "sets" / "digits" / "train.csv")
    assert sizes(load_parts(None, "classify", DataSettings(name="sine", path=path, validation_fraction=0))) == (
        16,
        None,
        4,
    )
    with pytest.raises(DataError) as caught:
        load_parts(None, "classify", DataSettings(name="mnist"))
    assert str(caught.value) == (
        f"no data set 'mnist' in $RECURRA_DATA ({tmp_path / 'sets'}) or the cache ({tmp_path / 'cache'}). "
        "Download it with: recurra data fetch mnist; or give your own: --data PATH."
    )


def test_the_digits_are_8_rows_of_8():
    parts = load_parts(None, "classify", DataSettings(name="digits"), seed=1)
    assert parts.schema.classes == [str(digit) for digit in range(10)]
    assert parts.train.lengths.unique().tolist() == [8]
    assert parts.train.values.shape[1] == 8
    assert (parts.train.values.min(), parts.train.values.max()) == (0, 16)
    assert parts.test is not None
    assert parts.test.targets is not None
    assert parts.test.targets.bincount().min() >= 34  # each class has its share of 360


def test_the_sine_goes_on_from_segment_to_segment():
    parts = load_parts(None, "regress", DataSettings(name="sine", validation_fraction=0))
    assert sizes(parts) == (100, None, 20)
    assert parts.test is not None
    for part, start in ((parts.train, 0), (parts.test, 100)):
        assert part.per_step
        assert part.targets is not None
        for k in range(len(part)):
            wave = np.sin(np.pi * (start + k + np.arange(21) / 20))
            np.testing.assert_allclose(part.sequence(k)[:, 0], wave[:20], atol=2e-6)
            np.testing.assert_allclose(part.targets[20 * k : 20 * (k + 1), 0], wave[1:], atol=2e-6)


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    schema = load_parts(fill(tmp_path, {"X_TRAIN.tsv": ucr(10)}) / "X_TRAIN.tsv", "classify", ALL).schema

    class Input:
        buffer = io.BytesIO(gzip.compress(ucr(4).encode()))

    monkeypatch.setattr(sys, "stdin", Input())
    further, _ = load_part("-", schema, targets=True)
    assert len(further) == 4
    arrays = load_parts((np.zeros((2, 3)), [0, 1]), "classify", ALL).schema
    with pytest.raises(
        DataError, match=r"the training data were no file \(arrays\); name the format: --input-format idx\|"
    ):
        load_part(io.BytesIO(b"0 1 2 3\n"), arrays)
    assert len(load_part(io.BytesIO(b"0 1 2 3\n"), arrays, format="ucr")[0]) == 1
    with pytest.raises(DataError, match="training reads its data more than once"):
        load_parts(io.BytesIO(b"0 1 2\n"), "classify", ALL)
    with pytest.raises(DataError, match=r"is an open text; open the file for bytes"):
        load_part(io.StringIO("0 1 2\n"), schema)


def test_further_data_may_be_in_another_format(tmp_path: Path):
    fill(tmp_path, {"x.ts": ts(6), "new.tsv": ucr(6), "same.ts": ts(3)})
    schema = load_parts(tmp_path / "x.ts", "classify", ALL).schema
    assert load_part(tmp_path / "same.ts", schema)[0].lengths.tolist() == [2] * 3
    assert load_part(tmp_path / "new.tsv", schema, targets=True)[0].lengths.tolist() == [3] * 6
    assert load_part([[1.0, 2.0]], schema)[0].values.tolist() == [[1.0], [2.0]]


def test_of_a_folder_with_parts_the_test_part_is_read(tmp_path: Path):
    schema = load_parts(fill(tmp_path / "a", {"train.csv": wide(8), "test.csv": wide(4)}), "classify", ALL).schema
    further, warnings = load_part(tmp_path / "a", schema)
    assert len(further) == 4
    assert warnings == [f"{tmp_path / 'a'}: test.csv is read."]
    assert len(load_part(fill(tmp_path / "b", {"test.csv": wide(3)}), schema)[0]) == 3
    assert len(load_part(fill(tmp_path / "c", {"any.csv": wide(2)}), schema)[0]) == 2
    with pytest.raises(DataError, match=r"holds the parts of a data set but no single test part; name one file"):
        load_part(fill(tmp_path / "d", {"train.csv": wide(8)}), schema)


FAULTS: dict[str, tuple[dict[str, str], str, str]] = {
    "several sets": (
        {"A_TRAIN.tsv": ucr(4), "B_TRAIN.tsv": ucr(4)},
        "",
        r"several files for the train part \(A_TRAIN\.tsv, B_TRAIN\.tsv\); name one: --data PATH",
    ),
    "several sets in several formats": (
        {"A_TRAIN.ts": ts(4), "B_TRAIN.tsv": ucr(4)},
        "",
        r"several files for the train part \(A_TRAIN\.ts, B_TRAIN\.tsv\); name one: --data PATH",
    ),
    "several tests": (
        {"train.csv": wide(4), "test_a.csv": wide(4), "test_b.csv": wide(4)},
        "",
        r"several files for the test part \(test_a\.csv, test_b\.csv\); name one: --test PATH",
    ),
    "no training part": (
        {"test.csv": wide(4), "valid.csv": wide(4)},
        "",
        r"holds no training part; found test\.csv, valid\.csv\. Expected a name with 'train'",
    ),
    "several files": ({"a.csv": wide(4), "b.csv": wide(4)}, "", r"holds no training part; found a\.csv, b\.csv"),
    "empty folder": ({".hidden": "x"}, "", r"holds no training part; found nothing"),
    "part folder": (
        {"train/a.json": "{}", "train/b.json": "{}"},
        "",
        r"train: no format fits this folder, which holds a\.json, b\.json",
    ),
    "nothing there": ({"train.csv": wide(4)}, "trian.csv", r"no such file or folder\. Did you mean .*train\.csv\?"),
    "empty file": ({"train.csv": ""}, "train.csv", r"train\.csv: is empty"),
    "picture": (
        {"a.png": "\x89PNG\0\0"},
        "a.png",
        r"no format fits; it starts with the bytes c2 89 50 4e 47 00 00; name one with --input-format: idx, npy, ts",
    ),
    "prose": (
        {"a.txt": "just a few words of prose that go on for so long that they are not shown in whole\n"},
        "a.txt",
        r"no format fits; its first line is 'just a few words .*\.\.\.'; name one",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(tmp_path: Path, fault: str):
    files, path, message = FAULTS[fault]
    with pytest.raises(DataError, match=message):
        load_parts(fill(tmp_path / "set", files) / path, "classify", ALL)


@pytest.mark.parametrize(
    ("source", "task", "settings", "message"),
    [
        (None, "classify", {}, r"no data: name a file or folder \(--data PATH\), or a set"),
        (None, "classify", {"name": "digts"}, r"no data set 'digts' in \$RECURRA_DATA .* Did you mean 'digits'\?"),
        (None, "regress", {"name": "digits"}, r"'digits' is made for the task classify, not for regress"),
        ("digits", "classify", {"format": "tss"}, r"data\.format: unknown format 'tss'; did you mean 'ts'\?"),
        ("x" * 5000, "classify", {}, r"cannot be opened: File name too long"),
        ("a\0b", "classify", {}, r"is no path \(embedded null byte\)"),
        ("/dev/null", "classify", {}, r"is not a regular file; give '-' to read standard input"),
        (__file__, "classify", {"format": "tss"}, r"data\.format: unknown format 'tss'; did you mean 'ts'\?"),
        (__file__, "classify", {"encoding": "utf-7x"}, r"data\.encoding: 'utf-7x' is no encoding"),
        (__file__, "classify", {"encoding": "ascii"}, r"test_load_parts\.py, line \d+: byte \d+ \(c3\) is not ascii"),
    ],
)
def test_faults_of_settings_are_told(
    source: str | None, task: str, settings: dict, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("RECURRA_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message):
        load_parts(source, task, DataSettings(**settings))


def test_a_part_that_is_not_there_is_told_whatever_is_named(tmp_path: Path):
    fill(tmp_path, {"X_TRAIN.tsv": ucr(6)})
    for settings in (ALL, ALL.model_copy(update={"format": "ucr"})):
        with pytest.raises(DataError, match=r"X_TSET\.tsv: no such file or folder"):
            load_parts(tmp_path / "X_TRAIN.tsv", "classify", settings, test=tmp_path / "X_TSET.tsv")


def test_further_data_by_name_and_from_any_open_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path / "mnist", {"train.csv": wide(8), "test.csv": wide(4)})
    monkeypatch.setenv("RECURRA_DATA", str(tmp_path))
    schema = load_parts("mnist", "classify", ALL).schema
    assert len(load_part("mnist", schema, targets=True)[0]) == 4
    with tempfile.NamedTemporaryFile() as file:
        file.write(wide(3).encode())
        file.seek(0)
        assert len(load_part(file, schema)[0]) == 3


def test_not_ascii():
    assert "é" in Path(__file__).read_text(encoding="utf-8")  # for the wrong encoding above
