"""Classes, vocabulary and checks: what is settled from training data, and what becomes of further data."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import DataSettings, Schema, load_part, load_parts
from recurra.data.encode import encode, learn, settings_of, sort_classes
from recurra.data.records import Records
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0, min_count=1)
words = st.lists(st.sampled_from([*"abcdefg", "über", "日本"]), min_size=1, max_size=12)


def texts_of(part, schema: Schema) -> list[str]:
    return [" ".join(schema.vocabulary[token] for token in part.sequence(i)) for i in range(len(part))]


@given(st.lists(words, min_size=2, max_size=12), st.integers(1, 3), st.integers(3, 8))
def test_the_vocabulary_is_the_frequent_symbols_in_order(rows: list[list[str]], least: int, most: int):
    texts = [" ".join(row) for row in rows]
    labels = [i % 2 for i in range(len(rows))]
    cut = [[token for word in row for token in (word if word == "日本" else [word])] for row in rows]
    counts = Counter(token for row in cut for token in row)
    wanted = sorted((word for word, count in counts.items() if count >= least), key=lambda word: (-counts[word], word))
    settings = ALL.model_copy(update={"min_count": least, "max_vocabulary": most})
    if not wanted:
        with pytest.raises(DataError, match=rf"no symbol is met {least} times"):
            load_parts((texts, labels), "classify", settings)
        return
    parts = load_parts((texts, labels), "classify", settings)
    assert parts.schema.vocabulary == ["<pad>", "<unk>", *wanted[: most - 2]]
    known = set(parts.schema.vocabulary)
    assert texts_of(parts.train, parts.schema) == [" ".join(w if w in known else "<unk>" for w in row) for row in cut]


def test_the_vocabulary_is_of_the_training_part_alone():
    texts = [f"common word{i}" for i in range(50)]
    settings = DataSettings(validation_fraction=0.2, test_fraction=0.2, min_count=1)
    parts = load_parts((texts, [i % 2 for i in range(50)]), "classify", settings)
    assert len(parts.schema.vocabulary) == 2 + 1 + 30
    assert parts.test is not None
    assert texts_of(parts.test, parts.schema) == ["common <unk>"] * 10
    assert "<unk>" not in " ".join(texts_of(parts.train, parts.schema))


def test_a_vocabulary_may_be_kept_from_an_earlier_run():
    first = load_parts((["a b b", "c c c"], [0, 1]), "classify", ALL)
    again = load_parts((["d c", "b d"], ["x", "y"]), "classify", ALL, vocabulary=first.schema.vocabulary)
    assert again.schema.vocabulary == first.schema.vocabulary == ["<pad>", "<unk>", "c", "b", "a"]
    assert again.train.values.tolist() == [1, 2, 3, 1]
    assert again.schema.classes == ["x", "y"]


def test_a_reader_that_knows_the_special_symbols_does_not_double_them():
    records = Records(
        values=np.array([0, 1, 2, 1, 3], np.int32),
        offsets=np.array([0, 3, 5]),
        symbols=["<pad>", "<unk>", "a", "b"],
        labels=[("x",), ("y",)],
        place=str,
    )
    schema = learn(records, "made", np.arange(2), "classify", "made", ALL)
    assert schema.vocabulary == ["<pad>", "<unk>", "a", "b"]
    assert encode(records, "made", schema)[0].values.tolist() == [0, 1, 2, 1, 3]


@pytest.mark.parametrize(
    ("labels", "ordered"),
    [
        (["10", "9", "-1"], ["-1", "9", "10"]),
        (["1e2", "20", "3.5"], ["3.5", "20", "1e2"]),
        (["b", "10", "9"], ["10", "9", "b"]),
        (["1", "1.0", "01"], ["01", "1", "1.0"]),
    ],
)
def test_classes_are_in_order(labels: list[str], ordered: list[str]):
    assert sort_classes(labels) == ordered


@pytest.mark.parametrize(("keep", "kept"), [("start", [[1, 2, 3], [6, 7]]), ("end", [[3, 4, 5], [6, 7]])])
def test_long_sequences_are_cut_and_counted(keep: str, kept: list[list[int]]):
    series = [np.arange(1, 6), np.array([6, 7])]
    steps = [series[0] * 10, series[1] * 10]
    settings = ALL.model_copy(update={"max_length": 3, "keep": keep})
    parts = load_parts((series, steps), "regress", settings)
    assert [parts.train.sequence(i)[:, 0].tolist() for i in range(2)] == kept
    assert parts.train.targets is not None
    assert parts.train.targets[:, 0].tolist() == [10 * value for row in kept for value in row]
    assert parts.warnings == [f"1 of 2 sequences are longer than 3 steps (the longest has 5); their {keep} is kept."]
    further, warnings = load_part(series, parts.schema)
    assert [further.sequence(i)[:, 0].tolist() for i in range(2)] == kept
    assert len(warnings) == 1


def test_what_was_read_is_not_changed():
    series = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    before = series.copy()
    series.setflags(write=False)
    parts = load_parts((series, [0, 1]), "classify", ALL)
    parts.train.values.mul_(2)
    np.testing.assert_array_equal(series, before)


def test_large_data_are_checked_and_numbered_piece_by_piece(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("recurra.data.encode._PIECE", 4)
    x = np.zeros((5, 3, 2), np.float32)
    x[3, 1, 1] = np.inf
    with pytest.raises(DataError, match=r"sequence 3: step 2 of value_1 is infinite, or too large for float32"):
        load_parts((x, [0, 1, 0, 1, 0]), "classify", ALL)
    parts = load_parts((["a b c", "b c d", "c d d d"], [0, 1, 0]), "classify", ALL)
    assert texts_of(parts.train, parts.schema) == ["a b c", "b c d", "c d d d"]


def test_several_labels_at_once():
    x = np.zeros((4, 2, 1))
    parts = load_parts((x, [{"a", "b"}, ["b"], (), "c"]), "classify", ALL)
    assert parts.schema.multi_label
    assert parts.schema.classes == ["a", "b", "c"]
    assert parts.train.targets is not None
    assert parts.train.targets.int().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 0, 1]]
    further, warnings = load_part((x[:2], [["b", "new"], []]), parts.schema, targets=True)
    assert further.targets is not None
    assert further.targets.int().tolist() == [[0, 1, 0], [0, 0, 0]]
    assert "1 of 2 sequences have a label that training data do not have ('new'); it is left out" in warnings[0]


def test_the_schema_is_kept_as_json():
    parts = load_parts(
        (["a b", "b c"], [0, 1]), "classify", ALL.model_copy(update={"unit": "character", "max_length": 2})
    )
    schema = Schema.model_validate_json(parts.schema.model_dump_json())
    assert schema == parts.schema
    assert settings_of(schema).unit == "character"
    assert settings_of(schema).max_length == 2
    assert load_part(["abc"], schema)[0].lengths.tolist() == [2]


def test_other_input_than_the_training_data():
    numbers = load_parts((np.zeros((2, 3, 2)), [0, 1]), "classify", ALL).schema
    texts = load_parts((["a", "b"], [0, 1]), "classify", ALL).schema
    with pytest.raises(DataError, match=r"holds 1 value a step \(value\), expected 2 \(value_0, value_1\)"):
        load_part(np.zeros((2, 3)), numbers)
    with pytest.raises(DataError, match=r"holds text, but the network reads numbers \(value_0, value_1\)"):
        load_part(["a"], numbers)
    with pytest.raises(DataError, match=r"holds numbers, but the network reads text"):
        load_part(np.zeros((2, 3)), texts)
    steps = load_parts((np.zeros((2, 3)), np.zeros((2, 3, 1))), "regress", ALL).schema
    with pytest.raises(DataError, match=r"holds targets for each sequence, expected for each step"):
        load_part((np.zeros((2, 3)), [1.0, 2.0]), steps)
    with pytest.raises(DataError, match=r"holds 2 numbers to predict \(target_0, target_1\), expected 1 \(target\)"):
        load_part((np.zeros((2, 3)), np.zeros((2, 3, 2))), steps)
