"""UCR text files: what is written is read back, in every separator, and every fault is told."""

import io
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import FORMATS, DataSettings, load_part, load_parts
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0)
numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(st.sampled_from(["-1", "2", "up"]), st.lists(numbers, min_size=1, max_size=6)), min_size=2, max_size=9
    ),
    st.sampled_from(["\t", ",", " ", "  ", ", "]),
    st.booleans(),
)
def test_what_is_written_is_read_back(rows: list[tuple[str, list[float]]], separator: str, windows: bool):
    rows = [("-1", [0.0]), ("up", [1.0]), *rows]
    longest = max(len(values) for _, values in rows)
    lines = [
        separator.join([label, *(repr(value) for value in values), *["NaN"] * (longest - len(values))])
        for label, values in rows
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X_TRAIN.txt"
        path.write_bytes("".join(line + ("\r\n" if windows else "\n") for line in lines).encode())
        parts = load_parts(path, "classify", ALL)
    train = parts.train
    assert parts.schema.format == "ucr"
    assert train.targets is not None
    assert [parts.schema.classes[target] for target in train.targets] == [label for label, _ in rows]
    for i, (_, values) in enumerate(rows):
        np.testing.assert_array_equal(train.sequence(i)[:, 0].numpy(), np.array(values, np.float32))


def load(folder: Path, text: str, name: str = "X_TRAIN.tsv", task: str = "classify", settings: DataSettings = ALL):
    (folder / name).write_text(text)
    return load_parts(folder / name, task, settings)


def test_the_same_class_in_two_spellings_is_one(tmp_path: Path):
    parts = load(tmp_path, "  1.0000000e+00  1.5  2\n  -1.0e+00 1 2\n 1 3 4\n")
    assert parts.schema.classes == ["-1", "1"]
    assert parts.train.values[:, 0].tolist() == [1.5, 2, 1, 2, 3, 4]


def test_numbers_to_predict_come_first(tmp_path: Path):
    parts = load(tmp_path, "0.5\t1\t2\n-2e3\t3\t4\n", task="regress")
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == [[0.5], [-2000.0]]


def test_the_format_is_known_without_the_name_by_a_label_like_first_column(tmp_path: Path):
    rows = [f"{i % 3},{i / 7},{i / 9},{i / 11}" for i in range(12)]
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    assert load_parts(tmp_path / "mine.csv", "classify", ALL).schema.format == "ucr"
    for other in (
        "\n".join(f"{i / 7},{i / 9},{i % 3}" for i in range(12)),  # the label last: a table
        "\n".join(f"{i},{i / 9},{i / 11}" for i in range(12)),  # no number twice: no label
        "label,a,b\n" + "\n".join(rows),
    ):
        (tmp_path / "other.csv").write_text(other)
        assert not FORMATS["ucr"].recognises(tmp_path / "other.csv", "classify", ALL)


def test_unequal_lines_are_read_where_none_is_usual(tmp_path: Path):
    text = "a 1 2 3\nb 1 2\na 1 2 3 4\nb 1\n"
    parts = load(tmp_path, text)
    assert parts.train.lengths.tolist() == [3, 2, 4, 1]
    further, _ = load_part(io.BytesIO(b"a 1 2\nb 1 2\na 1 2\nc 4\n"), parts.schema)
    assert further.lengths.tolist() == [2, 2, 2, 1]
    assert further.targets is not None
    assert further.targets.tolist() == [0, 1, 0, -1]


def test_a_line_that_differs_from_most_is_refused_unless_the_format_is_named(tmp_path: Path):
    text = "a 1 2 3\nb 1 2 3\na 1 2\nb 1 2 3\n"
    with pytest.raises(
        DataError, match=r"X_TRAIN\.tsv, line 3: holds 2 values, but 3 of 4 lines hold 3\..*NaN at the end"
    ):
        load(tmp_path, text)
    parts = load(tmp_path, text, settings=ALL.model_copy(update={"format": "ucr"}))
    assert parts.train.lengths.tolist() == [3, 3, 2, 3]


def test_further_lines_may_have_no_label(tmp_path: Path):
    schema = load(tmp_path, "a\t1\t2\t3\nb\t4\t5\t6\n").schema
    (tmp_path / "new.txt").write_text("\n7 8 9\n\n1 2 3\n")
    further, warnings = load_part(tmp_path / "new.txt", schema)
    assert further.targets is None
    assert further.values[:, 0].tolist() == [7, 8, 9, 1, 2, 3]
    assert warnings == [f"{tmp_path / 'new.txt'}: has no labels; every value is read as input."]
    with pytest.raises(DataError, match=r"new\.txt: has no labels, which are needed"):
        load_part(tmp_path / "new.txt", schema, targets=True)
    (tmp_path / "new.txt").write_text("a 8 9\nb 2 3\n")  # as many fields as values, but the first are labels
    assert load_part(tmp_path / "new.txt", schema)[0].lengths.tolist() == [2, 2]
    (tmp_path / "new.txt").write_text("c 7 8 9\nb 1 2 3\n")
    further, warnings = load_part(tmp_path / "new.txt", schema)
    assert further.targets is not None
    assert further.targets.tolist() == [-1, 1]
    assert "1 of 2 sequences have a label that training data do not have ('c'); they count as wrong" in warnings[0]


@pytest.mark.parametrize("name", ["semicolon", ";"])
def test_a_separator_may_be_named(tmp_path: Path, name: str):
    settings = ALL.model_copy(update={"separator": name})
    parts = load(tmp_path, "a;1;2\nb;3;4\n", settings=settings)
    assert (parts.schema.format, parts.train.values[:, 0].tolist()) == ("ucr", [1, 2, 3, 4])
    assert load_part(io.BytesIO(b"a;5;6\n"), parts.schema)[0].values[:, 0].tolist() == [5, 6]
    with pytest.raises(DataError, match=r"data\.separator: 'both' is not a separator"):
        load(tmp_path, "a;1;2\nb;3;4\n", settings=ALL.model_copy(update={"separator": "both", "format": "ucr"}))


def test_very_long_lines_are_known(tmp_path: Path):
    rows = ["\t".join([str(i % 2), *["1e-05"] * 12_000]) for i in range(6)]  # cut inside a number
    parts = load(tmp_path, "\n".join(rows), "long.data")
    assert parts.schema.format == "ucr"
    assert parts.train.lengths.tolist() == [12_000] * 6


FAULTS = {
    "word": ("a 1 2\nb 1 x\n", r"line 2: value 2 is 'x'; expected a number"),
    "empty": ("a,1,2\nb,,2\n", r"line 2: value 1 is empty; expected a number"),
    "missing": ("a,1,2\nb,1,?\n", r"line 2: value 2 is missing \('\?'\); expected a number"),
    "python": ("a 1 2\nb 1 1_000\n", r"line 2: value 2 is '1_000'; expected a number"),
    "nan inside": ("a 1 2 3\nb 1 NaN 3\n", r"line 2: step 2 is NaN \(missing\); expected a finite number"),
    "infinite": ("a 1 2 3\nb 1 2 -inf\n", r"line 2: step 3 is infinite, or too large for float32"),
    "too large": ("a 1 2 3\nb 1 2 1e39\n", r"line 2: step 3 is infinite, or too large for float32"),
    "nan alone": ("a 1 2\nb NaN NaN\n", r"line 2: holds a label and NaN alone"),
    "label alone": ("a 1 2\n\nb\n", r"line 3: holds one field alone; expected a label and at least one value"),
    "one class": ("a 1 2\na 3 4\n", r"only the class 'a' in the training data; expected at least two"),
    "no label": ("a,1,2\n,3,4\n", r"line 2: the label is empty; expected a class"),
    "nan label": ("a,1,2\nNaN,3,4\n", r"line 2: the label is 'NaN'; expected a class"),
    "padded and ragged": ("a 1 2 NaN\nb 1 2 3\na 1 2\nb 1\n", r"line 3: holds 2 values, but 2 of 4 lines hold 3"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told(tmp_path: Path, fault: str):
    text, message = FAULTS[fault]
    with pytest.raises(DataError, match=rf"X_TRAIN\.tsv[,:] {message}"):
        load(tmp_path, text)


def test_a_target_must_be_a_number(tmp_path: Path):
    with pytest.raises(DataError, match=r"line 2: the number to predict is 'b'; expected a finite number"):
        load(tmp_path, "1 1 2\nb 3 4\n", task="regress")
