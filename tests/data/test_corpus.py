"""Running text: split by position, read by pieces, kept in a file where it is long; what cannot be read is told."""

import gzip
import io
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from recurra.data import corpus as corpora
from recurra.data.corpus import Corpus, CorpusReader, CorpusSettings, Text, encoded
from recurra.data.made.stdlib import Stdlib
from recurra.data.units import Unit, Units
from recurra.errors import DataError

READER = CorpusReader()
LINES = [f"line {i} of naïve text, with {'x' * (i % 7)} and more\n" for i in range(400)]


def text_of(corpus: Corpus | None) -> str:
    assert corpus is not None
    return corpus.text()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("".join(LINES), "utf-8")
    return path


def test_a_file_is_split_by_position(file: Path):
    whole = "".join(LINES)
    settings = CorpusSettings(validation_fraction=0.1, test_fraction=0.2)
    parts = READER.parts(file, "language", settings)
    first, second = int(len(whole) * 0.7), int(len(whole) * 0.8)
    assert text_of(parts.train) == whole[:first]
    assert text_of(parts.validation) == whole[first:second]
    assert text_of(parts.test) == whole[second:]
    assert parts.train.characters == first
    assert parts.sources["test"] == f"the last 0.2 of {file}"
    assert "before the last 0.2" in parts.sources["validation"]
    again = READER.parts(file, "language", settings, seed=5)
    np.testing.assert_array_equal(again.train.symbols, parts.train.symbols)


@pytest.mark.parametrize("unit", ["word", "subword"])
def test_no_symbol_is_cut_in_two(file: Path, unit: Unit):
    settings = CorpusSettings(unit=unit, validation_fraction=0.1, test_fraction=0.0, max_vocabulary=300)
    parts = READER.parts(file, "language", settings)
    assert parts.test is None
    there = [part for part in (parts.train, parts.validation) if part is not None]
    assert sum(part.characters for part in there) == len("".join(LINES))
    assert all(int(part.lengths.sum()) == len(part.symbols) == len(part) for part in there)
    assert sum(len(part.lengths) for part in there) == len(LINES)
    if unit == "subword":
        assert text_of(there[0]) + text_of(there[1]) == "".join(LINES)
        assert text_of(there[0]).endswith("\n")


def test_only_the_training_part_settles_the_vocabulary(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("ab\n" * 300 + "z?\n" * 60, "utf-8")
    parts = READER.parts(path, "language", CorpusSettings(validation_fraction=0.2, test_fraction=0.0))
    assert "z" not in parts.schema.units.symbols
    assert parts.validation is not None
    assert (parts.validation.symbols == 1).sum() == 120
    assert any("120 of 216 characters (55.56%) are not in the vocabulary" in said for said in parts.warnings)


@pytest.mark.parametrize("piece", [5, 64, 1000])
def test_pieces_of_any_size_give_the_whole(file: Path, monkeypatch: pytest.MonkeyPatch, piece: int):
    whole = "".join(LINES)
    monkeypatch.setattr(corpora, "PIECE", piece)
    text = Text("it", [file])
    assert "".join(text.pieces()) == whole
    assert "".join(text.pieces(37, 1001)) == whole[37:1001]
    assert text.length() == len(whole)
    assert whole[: text.behind_line(1001)] == whole[: whole.index("\n", 1000) + 1]
    assert text.behind_line(len(LINES[0])) == len(LINES[0])  # a line begins there already
    for unit in ("character", "word", "subword"):
        units = Units.learn([whole], unit, lines=True, size=400)
        np.testing.assert_array_equal(encoded(text, units).symbols, units.encoded(whole))


def test_a_long_text_lies_in_a_file_of_the_cache(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = "".join(LINES)
    monkeypatch.setenv("RECURRA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpora, "IN_MEMORY", 1000)
    monkeypatch.setattr(corpora, "PIECE", 300)
    text, units = Text("it", [file]), Units.learn([whole], "character")
    times: list[int] = []
    for _ in range(2):
        found = encoded(text, units, key=text.digest())
        assert isinstance(found.symbols, np.memmap)
        assert found.text() == whole
        assert found.characters == len(whole)
        assert len(found.lengths) == len(LINES)
        (kept,) = (tmp_path / "cache" / "symbols").iterdir()
        times.append(kept.stat().st_mtime_ns)
    assert times[0] == times[1]
    other = encoded(text, units, 10, 2000, text.digest())
    assert other.text() == whole[10:2000]
    assert len(list((tmp_path / "cache" / "symbols").iterdir())) == 2
    parts = READER.parts(file, "language", CorpusSettings())
    assert text_of(parts.train) + text_of(parts.validation) + text_of(parts.test) == whole


def test_many_files_are_one_text(tmp_path: Path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.txt").write_text("zwei\n" * 50)
    (tmp_path / "a.txt").write_text("eins\n" * 50 + "ende")
    (tmp_path / "c.txt.gz").write_bytes(gzip.compress(b"drei\n" * 50))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\0\0")
    (tmp_path / ".hidden").write_text("no")
    settings = CorpusSettings(validation_fraction=0, test_fraction=0)
    parts = READER.parts(tmp_path, "language", settings)
    assert text_of(parts.train) == "eins\n" * 50 + "ende\n" + "zwei\n" * 50 + "drei\n" * 50
    assert parts.warnings == [f"{tmp_path}: what is no text is left out (1): picture.png."]


def test_parts_by_their_names(tmp_path: Path):
    for part in ("train", "valid", "test"):
        (tmp_path / f"ptb.{part}.txt").write_text(f"{part} is here\n" * 40)
    for source in (tmp_path, tmp_path / "ptb.train.txt"):
        parts = READER.parts(source, "language", CorpusSettings(unit="word"))
        assert text_of(parts.validation).startswith("<unk> is here\n<unk>")
        assert text_of(parts.train) == "train is here\n" * 40
    test, said = READER.part(tmp_path, parts.schema)
    assert len(test.lengths) == 40
    assert said[0] == f"{tmp_path}: ptb.test.txt is read."
    assert "40 of 160 words (25.00%)" in said[1]


def test_texts_given_in_python_and_on_standard_input():
    settings = CorpusSettings(validation_fraction=0, test_fraction=0)
    parts = READER.parts(["abc\n" * 60, "cab\n" * 60], "language", settings)
    assert text_of(parts.train) == "abc\n" * 60 + "cab\n" * 60
    found, said = READER.part(io.BytesIO(b"bac\n"), parts.schema)
    assert found.text() == "bac\n"
    assert said == []


def test_the_fingerprint_is_that_of_the_content(file: Path, tmp_path: Path):
    first = READER.parts(file, "language", CorpusSettings()).fingerprint
    other = tmp_path / "other.txt"
    other.write_bytes(file.read_bytes())
    assert READER.parts(other, "language", CorpusSettings()).fingerprint == first
    other.write_bytes(file.read_bytes() + b"!")
    assert READER.parts(other, "language", CorpusSettings()).fingerprint != first


def test_what_cannot_be_read_is_told(tmp_path: Path, file: Path):
    def reading(content: bytes, **settings: object) -> None:
        path = tmp_path / "bad.txt"
        path.write_bytes(content)
        READER.parts(path, "language", CorpusSettings.model_validate(settings))

    with pytest.raises(DataError, match="is empty"):
        reading(b"")
    with pytest.raises(DataError, match=r"bad.txt: holds 11 characters to train on, in one line; expected a running"):
        reading(b"hello world, ")
    with pytest.raises(DataError, match=r"line 401: byte \d+ \(ff\) is not utf-8"):
        reading("".join(LINES).encode() + b"\xff" * 5)
    with pytest.raises(DataError, match="character 600 is NUL, which no text holds; is it a binary file"):
        reading(b"text\n" * 120 + b"\0\1\2" * 2000)
    with pytest.raises(DataError, match="holds 1 character in the test part; give it apart"):
        reading(b"text\n" * 60, test_fraction=0.001, validation_fraction=0)
    with pytest.raises(DataError, match="leave nothing to train on"):
        reading(b"text\n" * 60, test_fraction=0.5, validation_fraction=0.5)
    with pytest.raises(DataError, match=r"data\.format: 'csv' is none for running text"):
        reading(b"text\n" * 60, format="csv")
    with pytest.raises(DataError, match="no such file"):
        READER.parts(tmp_path / "stori.txt", "language", CorpusSettings())
    with pytest.raises(DataError, match="is dict; a path or a list of texts is expected"):
        READER.parts({"a": 1}, "language", CorpusSettings())
    parts = READER.parts(file, "language", CorpusSettings())
    with pytest.raises(DataError, match=r"data\.unit: 'word', but the vocabulary that is gone on with is of the unit"):
        READER.parts(file, "language", CorpusSettings(unit="word"), kept=parts.schema)
    kept = READER.parts(["other text\n" * 30], "language", CorpusSettings(), kept=parts.schema)
    assert kept.schema.units == parts.schema.units
    with pytest.raises(DataError, match="holds 1 character; of two the second can be predicted"):
        READER.part(["a"], parts.schema)


def test_the_standard_library_is_split_by_its_files():
    settings = CorpusSettings(name="stdlib", options={"package": "json"})
    parts = READER.parts(None, "language", settings)
    assert "class JSONDecoder" in "".join(text_of(part) for part in parts.named.values())
    made = Stdlib().parts()
    places = {path: part for part, files in made.items() for path in files}
    assert sum(map(len, made.values())) == len(places)
    root = Path(sysconfig.get_path("stdlib"))
    assert root / "json" / "decoder.py" in places
    assert not [path for path in places if {"test", "site-packages"} & set(path.relative_to(root).parts)]
    shares = {part: len(files) / len(places) for part, files in made.items()}
    assert 0.02 < shares["validation"] < 0.1
    assert 0.02 < shares["test"] < 0.1
    assert made["train"] == sorted(made["train"])
    more = Stdlib(test=10).parts()
    assert set(made["test"]) < set(more["test"])
    with pytest.raises(DataError, match="nosuch holds no Python files"):
        Stdlib(package="nosuch").parts()
    (row,) = next(Stdlib(package="json").rows())
    assert list(row) == ["text"]


def test_what_a_text_looks_like(file: Path):
    settings = CorpusSettings(unit="word", test_fraction=0, validation_fraction=0)
    said = READER.describe(file, settings, "language").splitlines()
    assert said[:3] == [f"train: {file}", f"  words       {len(LINES) * 11 - 58:,}", f"  lines       {len(LINES)}"]
    assert "vocabulary of" in said[-1]
    assert "'line'" in said[-1]


def test_shakespeare_and_the_treebank(data_folder: Path):
    settings = CorpusSettings(validation_fraction=0.1, test_fraction=0)
    parts = READER.parts(data_folder / "tinyshakespeare", "language", settings)
    text = (data_folder / "tinyshakespeare" / "input.txt").read_text("utf-8")
    assert text_of(parts.validation) == text[int(len(text) * 0.9) :]
    assert len(parts.schema.units) == 65 + 4
    settings = CorpusSettings(unit="word", cut="blanks")
    parts = READER.parts(data_folder / "ptb", "language", settings)
    assert [len(part) for part in parts.named.values()] == [929_589, 73_760, 82_430]
    assert [len(part.lengths) for part in parts.named.values()] == [42_068, 3_370, 3_761]
