"""Pairs of texts from files, tables, arrays and vectors; and what is said where they are not as they should be."""

import gzip
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.made import MADE
from recurra.data.made.numerals import name_of
from recurra.data.pairs import PairReader, Pairs, PairSchema, PairSettings, collate, numbered, text_of
from recurra.data.units import END, START, Units
from recurra.errors import DataError

EN = [f"the dog {i} runs" for i in range(20)]
DE = [f"der Hund {i} rennt schnell" for i in range(20)]
READER = PairReader()
WHOLE = {"validation_fraction": 0.0, "test_fraction": 0.0}


def lines(texts: list[str]) -> str:
    return "".join(f"{text}\n" for text in texts)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def written(**files: str | bytes) -> Path:
        for name, content in files.items():
            path = tmp_path / name.replace("__", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return written


def read(data: object = None, /, validation: object = None, test: object = None, **settings: object):
    own = {"source": "en", "target": "de", "unit": "word"} | settings
    return READER.parts(data, "translate", PairSettings.model_validate(own), validation=validation, test=test)


def texts(pairs: Pairs, schema: PairSchema) -> list[tuple[str, str]]:
    """Both sides of all pairs, decoded."""
    assert pairs.target is not None
    return [
        (
            text_of(schema.source, pairs.source.sequence(i).tolist()),
            text_of(schema.target_units, pairs.target.sequence(i).tolist()),
        )
        for i in range(len(pairs))
    ]


@pytest.mark.parametrize("unit", ["word", "character", "subword"])
@pytest.mark.parametrize("vocabulary", ["joint", "apart"])
def test_two_files_packed_or_not(write: Callable[..., Path], unit: str, vocabulary: str) -> None:
    folder = write(
        train__en=lines(EN),
        train__de__gz=gzip.compress(lines(DE).encode()),
        val__en=lines(EN[:3]),
        val__de=lines(DE[:3]),
    )
    parts = read(folder, unit=unit, vocabulary=vocabulary, max_vocabulary=400, test_fraction=0.0)
    assert texts(parts.train, parts.schema) == list(zip(EN, DE, strict=True))
    assert parts.validation is not None
    assert texts(parts.validation, parts.schema) == list(zip(EN[:3], DE[:3], strict=True))
    assert parts.test is None
    assert parts.schema.joint == (vocabulary == "joint")
    again = PairSchema.model_validate_json(parts.schema.model_dump_json())
    assert texts(READER.part((EN, DE), again, targets=True)[0], again) == list(zip(EN, DE, strict=True))


def test_the_same_pairs_however_they_are_given(write: Callable[..., Path]) -> None:
    table = "id\tde\ten\n" + lines([f"{i}\t{de}\t{en}" for i, (en, de) in enumerate(zip(EN, DE, strict=True))])
    folder = write(
        a__en=lines(EN),
        a__de=lines(DE),
        plain__tsv=lines([f"{en}\t{de}" for en, de in zip(EN, DE, strict=True)]),
        header__tsv=table,
        comma__csv="de,en\n" + lines([f'"{de}",{en}' for en, de in zip(EN, DE, strict=True)]),
    )
    whole = {"validation_fraction": 0.0, "test_fraction": 0.0}
    given = [folder / "a", folder / "a.en", folder / "plain.tsv", folder / "header.tsv", folder / "comma.csv", (EN, DE)]
    for source in given:
        parts = read(source, **whole)
        assert texts(parts.train, parts.schema) == list(zip(EN, DE, strict=True)), source
    parts = read(None, source=str(folder / "a.en"), target=str(folder / "a.de"), **whole)
    assert texts(parts.train, parts.schema) == list(zip(EN, DE, strict=True))
    assert (parts.schema.settings["source"], parts.schema.settings["target"]) == ("en", "de")


def test_what_is_trained_on_alone_settles_the_vocabulary() -> None:
    parts = read(([*EN, *(["odd"] * 5)], [*DE, *(["seltsam"] * 5)]), test_fraction=0.2)
    assert len(parts.train) + sum(len(p) for p in (parts.validation, parts.test) if p is not None) == 25
    seen = {word for text in [*parts.train.sources, *(parts.train.targets or [])] for word in text.split()}
    assert set(parts.schema.target_units.symbols[4:]) == seen


@pytest.mark.parametrize(
    ("files", "settings", "said"),
    [
        (
            {"train__en": lines(EN), "train__de": lines(DE[:-2])},
            {},
            r"train\.en: has 20 lines, but .*train\.de has 18; .* Line 19 of train\.en has no partner: 'the dog 18 r",
        ),
        (
            {"train__en": lines(EN), "train__de": lines(DE[:5]).encode() + b"\xff\n" + lines(DE[6:]).encode()},
            {},
            r"train\.de, line 6: byte 125 \(ff\) is not utf-8",
        ),
        ({"train__en": lines(EN[:1]), "train__de": lines(DE[:1])}, {}, "holds 1 pair to learn from; .* at least two"),
        ({"train__en": lines(EN), "train__de": ""}, {}, r"train\.de: is empty"),
        ({"train__en": "", "train__de": ""}, {}, r"train\.en: is empty"),
        ({"train__en": lines(EN), "train__de": lines(DE)}, {"source": None, "target": None}, "say which is translated"),
        ({"train__en": lines(EN), "train__de": lines(DE)}, {"target": "den"}, r"no file ends with \.den; did you mean"),
        (
            {"train__tsv": lines([*(f"{a}\t{a}" for a in EN), "alone"])},
            {},
            r"line 21: has 1 cells .*expected 2: 'alone'",
        ),
        ({"train__tsv": lines([*(f"{a}\t{a}" for a in EN), "a\tb\tc"])}, {}, r"line 21: has 3 cells .*expected 2"),
        ({"train__tsv": "en\tge\n" + lines([f"{a}\t{a}" for a in EN])}, {}, "data.target names a column 'de'"),
        (
            {"train__csv": "a,b\n1,one\n2,two\nx,three\n"},
            {"source": None, "target": None},
            "line 4, column 'a': found 'x', expected a num",
        ),
        (
            {"train__en": lines(EN), "train__de": lines(DE)},
            {"max_length": 3},
            "all pairs are longer than data.max_length",
        ),
        ({"notes": "nothing"}, {}, r"holds no training part; found notes; expected train\.en and train\.de"),
    ],
)
def test_what_is_wrong_is_told(
    write: Callable[..., Path], files: dict[str, str | bytes], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        read(write(**files), **settings)


@pytest.mark.parametrize("name", ["pairs.txt", "pairs.tsv", "pairs.csv", "train.en"])
def test_an_empty_file_is_told_as_such(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=rf"{name}: is empty\.$"):
        read(tmp_path / name, source=None, target=None)


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("source\ttarget", "{0}\t{1}"),
        ("EN\tde", "{0}\t{1}"),
        ("id\tsrc\ttgt", "7\t{0}\t{1}"),
        ("Target\tSource", "{1}\t{0}"),
    ],
)
def test_a_header_beyond_doubt_is_no_pair(write: Callable[..., Path], header: str, row: str) -> None:
    rows = [row.format(*pair) for pair in zip(EN, DE, strict=True)]
    folder = write(train__tsv=lines([header, *rows]), new__tsv=lines([header, *rows[:2]]))
    parts = read(folder / "train.tsv", source=None, target=None, **WHOLE)
    assert (parts.train.sources, parts.train.targets) == (EN, DE)
    assert [w for w in parts.warnings if "is read as the columns' names (data.header=false: as a pair)" in w]
    part, warnings = READER.part(folder / "new.tsv", parts.schema, targets=True)
    assert part.sources == EN[:2]
    swapped = row == "{1}\t{0}"
    assert len(warnings) == (not swapped)  # columns that stood the other way round are kept by name
    if swapped:
        (folder / "new.tsv").write_text(lines(rows[:2]), "utf-8")
        _, warnings = READER.part(folder / "new.tsv", parts.schema, targets=True)
        assert [w for w in warnings if "column 1 as Source and 2 as Target" in w]
    if row == "{0}\t{1}":
        pairs = read(folder / "train.tsv", header=False, source=None, target=None, **WHOLE)
        assert len(pairs.train) == len(EN) + 1
        assert not pairs.warnings


def test_what_may_be_a_header_is_told_and_what_is_none_is_not(write: Callable[..., Path]) -> None:
    def told(*rows: str, **settings: object) -> list[str]:
        place = write(train__tsv=lines(list(rows))) / "train.tsv"
        parts = read(place, source=None, target=None, **WHOLE, **settings)
        assert len(parts.train) == len(rows) - bool(settings.get("header"))
        return [warning.removeprefix(f"{place}: ") for warning in parts.warnings]

    pairs = [f"{a}\t{b}" for a, b in zip(EN, DE, strict=True)]
    looks = "its first line, 'english', 'german', is read as a pair, though it looks like the columns' names"
    assert told("english\tgerman", *pairs) == [f"{looks} (data.header=true)."]
    assert not told("english\tgerman", *pairs, header=True)
    assert not told("english\tgerman", *pairs, header=False)
    assert not told("one\teins", "two\tzwei", "three\tdrei", "twenty two\tzweiundzwanzig")
    assert not told("Go.\tGeh!", *pairs)
    assert not told("is\tes", "it\tes", "so\tso", "to\tzu", "we\twir")  # words, of which two are codes of languages


def test_several_test_sets_are_to_be_named(write: Callable[..., Path]) -> None:
    sets = {f"{name}__{side}": lines(t[:4]) for name in ("test_a", "test_b") for side, t in (("en", EN), ("de", DE))}
    folder = write(train__en=lines(EN), train__de=lines(DE), **sets)
    with pytest.raises(DataError, match=r"several sets for the test part \(test_a, test_b\); name one: --test"):
        read(folder)
    by_setting = PairSettings(source="en", target="de", unit="word", test="test_b")
    for parts in (read(folder, test=folder / "test_b"), READER.parts(folder, "translate", by_setting)):
        assert parts.sources["test"].endswith("test_b.en, test_b.de")


def test_data_are_named_once(write: Callable[..., Path]) -> None:
    folder = write(a__en=lines(EN), a__de=lines(DE), b__de=lines(DE[::-1]))
    files = {"source": str(folder / "a.en"), "target": str(folder / "b.de")}
    assert read(**files).train.targets is not None
    with pytest.raises(DataError, match=r"name the files .*a\.en and .*b\.de, but --data .* data\.source=en\."):
        read(folder, **files)  # which has a.de beside a.en


def test_nothing_is_left_out_or_cut_in_silence(write: Callable[..., Path]) -> None:
    en, de = list(EN), list(DE)
    en[4], de[7], en[9] = "  ", "", "a very long one that goes on and on"
    folder = write(train__en=lines(en), train__de=lines(de), test__en=lines(en), test__de=lines(de))
    parts = read(folder, max_length=6, validation_fraction=0.0)
    assert len(parts.train) == 17
    left_out, long, cut = parts.warnings
    assert "2 pairs with an empty side left out; the first: " in left_out
    assert left_out.endswith("train.en, line 5.")
    assert "1 pair longer than data.max_length, 6 symbols (the longest has 9), left out; the first: " in long
    assert long.endswith("train.en, line 10.")
    assert "1 source longer than data.max_length, 6 symbols (the longest has 9), cut" in cut
    assert parts.test is not None
    assert len(parts.test) == 20
    parts = read(folder, max_length=6, validation_fraction=0.0, too_long="cut")
    assert len(parts.train) == 18
    assert int(parts.train.source.lengths.max()) == 6


def test_further_sources_alone_or_with_their_targets(write: Callable[..., Path]) -> None:
    schema = read((EN, DE)).schema
    folder = write(test__en=lines(EN[:3]), test__de=lines(DE[:3]), lone__txt=lines(EN[:2]))
    assert READER.part(folder / "lone.txt", schema)[0].targets is None
    assert READER.part(folder / "test.en", schema, targets=True)[0].targets == DE[:3]
    assert READER.part(io.BytesIO(lines(EN).encode()), schema)[0].sources == EN
    said = READER.part(["a dog", "", "runs"], schema)
    assert len(said[0]) == 3
    assert "1 source with nothing in it" in said[1][0]
    with pytest.raises(DataError, match=r"lone\.txt: has no partner that ends with \.de"):
        READER.part(folder / "lone.txt", schema, targets=True)
    with pytest.raises(DataError, match="holds vectors; the training data had texts"):
        READER.part(np.eye(3), schema)


def test_vectors_of_another_width(write: Callable[..., Path]) -> None:
    x, y = np.arange(40.0).reshape(20, 2), [f"number {i}" for i in range(20)]
    np.savez(write() / "v.npz", x=x, y=y)
    table = "a,b,name\n" + lines([f"{a},{b},{name}" for (a, b), name in zip(x.tolist(), y, strict=True)])
    for source in ((x, y), write(v__csv=table) / "v.csv", write() / "v.npz"):
        parts = read(source, source=None, target=None, validation_fraction=0.0, test_fraction=0.0)
        assert parts.train.targets == y
        np.testing.assert_array_equal(parts.train.source.values.numpy(), x)
        batch = collate(parts.train, torch.tensor([3, 5]))
        assert batch.source.tolist() == [[[6, 7], [10, 11]]]
        assert batch.source_lengths is None
        with pytest.raises(DataError, match="vectors of 3 numbers; the training data had 2"):
            READER.part(np.eye(3), parts.schema)
        if parts.schema.format == "table":
            typed = READER.part(io.BytesIO(b"a,b\n1,2\n"), parts.schema)[0]
            assert typed.source.values.tolist() == [[1, 2]]


def test_a_batch_is_padded_and_ends_are_marked() -> None:
    parts = read((["a b c", "c"], ["x y", "x y x y"]), validation_fraction=0.0, test_fraction=0.0, vocabulary="apart")
    batch = collate(parts.train, torch.tensor([1, 0]))
    a, b, c = (parts.schema.source.encode(s)[0] for s in "abc")
    x, y = (parts.schema.target_units.encode(s)[0] for s in "xy")
    assert batch.source.T.tolist() == [[c, END, 0, 0], [a, b, c, END]]
    assert batch.source_lengths is not None
    assert batch.source_lengths.tolist() == [2, 4]
    assert batch.given is not None
    assert batch.wanted is not None
    assert batch.given.T.tolist() == [[START, x, y, x, y], [START, x, y, 0, 0]]
    assert batch.wanted.T.tolist() == [[x, y, x, y, END], [x, y, END, 0, 0]]
    assert batch.true.tolist() == [x, x, y, y, x, END, y, END]
    assert batch.steps == 2 + 4 + 5 + 3


@given(st.text(min_size=1).filter(lambda t: t.strip()))
def test_a_text_of_subwords_comes_back(text: str) -> None:
    assert text_of(SUBWORDS, numbered(SUBWORDS, text).tolist()) == text.strip().encode("utf-8", "replace").decode()


SUBWORDS = Units.learn(EN, "subword", size=300)


def test_a_word_is_one_symbol_wherever_it_stands() -> None:
    one, other = numbered(SUBWORDS, "dog the"), numbered(SUBWORDS, "the dog")
    assert sorted(one) == sorted(other)


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (0, "zero"),
        (13, "thirteen"),
        (40, "forty"),
        (99, "ninety nine"),
        (100, "one hundred"),
        (1_010, "one thousand ten"),
        (520_017, "five hundred twenty thousand seventeen"),
        (10**9 + 1, "one billion one"),
    ],
)
def test_names_of_numbers(number: int, name: str) -> None:
    assert name_of(number) == name


def test_no_number_is_in_two_parts() -> None:
    options = {"first": 5, "last": 304, "training": 200, "validation": 50, "test": 50}
    parts = MADE["numerals"].model_validate(options).parts()
    names = [label for records in parts.values() for (label,) in records.labels or []]
    assert sorted(names) == sorted(name_of(n) for n in range(5, 305))
    for records in parts.values():
        for vector, (label,) in zip(records.values, records.labels or [], strict=True):
            digits = vector.reshape(3, 10)
            value = int("".join(str(row.argmax()) for row in digits if row.any()))
            assert name_of(value) == label
    with pytest.raises(ValueError, match="the parts want 300 numbers, but from first = 6 to last = 304 there are 299"):
        MADE["numerals"].model_validate(options | {"first": 6})


def test_captions(data_folder: Path) -> None:
    parts = READER.parts(
        str(data_folder / "multi30k"), "translate", PairSettings(source="en", target="de", unit="word", min_count=2)
    )
    assert {name: len(part) for name, part in parts.named.items()} == {"train": 29000, "validation": 1014, "test": 1000}
    assert not parts.warnings
    assert parts.train.sources[0] == "Two young, White males are outside near many bushes."
    assert (parts.train.targets or [""])[0] == "Zwei junge weiße Männer sind im Freien in der Nähe vieler Büsche."
