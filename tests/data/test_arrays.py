"""Python data: arrays, tensors, lists, texts, dataframes and NumPy files."""

import io
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recurra.data import DataSettings, load_part, load_parts
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0)
finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=5), elements=finite))
def test_every_way_to_hand_over_equal_lengths_gives_the_same(x: np.ndarray):
    y = [f"class {i % 2}" for i in range(len(x))]
    with tempfile.TemporaryDirectory() as name:
        np.savez(Path(name) / "a.npz", x=x, y=np.array(y))
        ways = [
            (x, y),
            (torch.from_numpy(x), np.array(y)),
            (list(x), pd.Series(y)),
            (x.tolist(), tuple(y)),
            Path(name) / "a.npz",
        ]
        parts = [load_parts(way, "classify", ALL) for way in ways]
    for part in parts:
        assert part.train.targets is not None
        assert part.train.targets.tolist() == [i % 2 for i in range(len(x))]
        assert part.train.offsets.tolist() == [i * x.shape[1] for i in range(len(x) + 1)]
        np.testing.assert_array_equal(part.train.values.numpy(), x.reshape(len(x) * x.shape[1], -1))
    assert len({part.fingerprint for part in parts[:4]}) == 1


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.integers(1, 3), st.integers(0, 999))
def test_unequal_lengths(lengths: list[int], width: int, seed: int):
    random = np.random.default_rng(seed)
    series = [random.standard_normal((length, width), np.float32) for length in lengths]
    padded = np.zeros((len(series), max(lengths), width), np.float32)
    for i, values in enumerate(series):
        padded[i, : len(values)] = values
    y = np.arange(len(series)) % 2
    file = io.BytesIO()
    np.savez(file, x=padded, y=y, lengths=np.array(lengths))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.npz"
        path.write_bytes(file.getvalue())
        parts = [load_parts((series, y), "classify", ALL), load_parts(path, "classify", ALL)]
    for part in parts:
        assert part.train.lengths.tolist() == lengths
        np.testing.assert_array_equal(part.train.values.numpy(), np.concatenate(series))


@pytest.mark.parametrize("kind", ["u1", "i8", "f8", "?", "f2"])
def test_bytes_stay_bytes_and_all_else_is_single_precision(kind: str):
    x = np.ones((2, 3, 1), kind)
    assert load_parts((x, [0, 1]), "classify", ALL).train.values.dtype == (
        torch.uint8 if kind == "u1" else torch.float32
    )


@pytest.mark.parametrize(
    "y",
    [[1, 0, 1], [1.0, 0.0, 1.0], np.array([1, 0, 1]), torch.tensor([1, 0, 1]), [[1], [0], [1]][0:3], ["1", "0", "1"]],
)
def test_labels_may_be_written_in_many_ways(y):
    parts = load_parts((np.zeros((3, 2)), y), "classify", ALL)
    assert parts.schema.classes == ["0", "1"]


def test_zeros_and_ones_by_class_are_several_labels():
    y = np.array([[1, 0, 1], [0, 1, 0]], bool)
    parts = load_parts((np.zeros((2, 2)), y), "classify", ALL)
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("y", "targets", "per_step"),
    [
        ([0.5, 2], [[0.5], [2.0]], False),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]], False),
        (np.arange(6).reshape(2, 3, 1), [[0], [1], [2], [3], [4], [5]], True),
        ([np.array([1, 2, 3]), np.array([4, 5, 6])], [[1], [2], [3], [4], [5], [6]], True),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]], False),
    ],
)
def test_numbers_to_predict(y, targets: list, per_step: bool):
    parts = load_parts((np.zeros((2, 3)), y), "regress", ALL)
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == targets
    assert parts.train.per_step == parts.schema.per_step == per_step


def test_parts_given_apart():
    x, y = np.arange(24.0).reshape(4, 3, 2), [0, 1, 0, 1]
    parts = load_parts((x, y), "classify", DataSettings(), validation=(x[:2], y[:2]), test=(x[2:], ["0", "2"]))
    assert parts.validation is not None
    assert parts.test is not None
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (4, 2, 2)
    assert parts.test.targets is not None
    assert parts.test.targets.tolist() == [0, -1]
    assert parts.sources == {
        "train": "the training data given",
        "validation": "the validation data given",
        "test": "the test data given",
    }
    assert any("('2'); they count as wrong" in warning for warning in parts.warnings)


def test_the_fingerprint_is_of_the_values_and_the_targets():
    x = np.arange(6.0).reshape(2, 3)
    given = [(x, [0, 1]), (x.copy(), ["0", "1"]), (x, [1, 0]), (x.T, [0, 1, 1]), (x.reshape(2, 3, 1) + 1, [0, 1])]
    first, same, *others = [load_parts(data, "classify", ALL).fingerprint for data in given]
    assert first == same
    assert len({first, *others}) == 4


@pytest.mark.parametrize("library", [pd.DataFrame, pl.DataFrame])
def test_dataframes_are_read_as_tables(library):
    wide = {"label": ["a", "b"] * 3, "t0": [i / 2 for i in range(6)], "t1": [i / 3 for i in range(6)]}
    parts = load_parts(library(wide), "classify", ALL)
    assert parts.schema.format == "wide"
    assert parts.schema.classes == ["a", "b"]
    assert parts.train.lengths.tolist() == [2] * 6
    further, _ = load_part(library({"t0": [1.0], "t1": [2.0]}), parts.schema)
    assert further.values[:, 0].tolist() == [1, 2]
    long = {
        "id": [1, 1, 2, 2, 2],
        "time": [0, 1, 0, 1, 2],
        "u": [1.0, 2, 3, 4, 5],
        "v": [5.0, 4, 3, 2, 1],
        "label": list("aabbb"),
    }
    parts = load_parts(library(long), "classify", ALL)
    assert parts.schema.format == "long"
    assert parts.train.lengths.tolist() == [2, 3]
    assert load_part(library(long), parts.schema, targets=True)[0].lengths.tolist() == [2, 3]
    texts = {"text": ["good and nice", "bad and ugly", "very good", "very bad"], "label": ["p", "n", "p", "n"]}
    parts = load_parts(library(texts), "classify", ALL.model_copy(update={"min_count": 1}))
    assert parts.schema.input == "tokens"
    assert load_part(library({"text": ["good"]}), parts.schema)[0].lengths.tolist() == [1]


def test_numpy_files_on_standard_input_and_without_targets(tmp_path: Path):
    schema = load_parts((np.zeros((2, 3, 2)), [0, 1]), "classify", ALL).schema
    np.save(tmp_path / "x.npy", np.ones((4, 3, 2)))
    assert len(load_part(tmp_path / "x.npy", schema)[0]) == 4
    for file in ("x.npy", "x.npz"):
        np.savez(tmp_path / "x.npz", x=np.ones((4, 3, 2)))
        with (tmp_path / file).open("rb") as stream:
            assert len(load_part(stream, schema, format="npy")[0]) == 4


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def no_npy() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", "text")
    return file.getvalue()


ONES = np.ones((2, 3))
FILE_FAULTS = {
    "cut npy": (npy(ONES)[:-5], r"cannot be read as NumPy arrays"),
    "cut npz": (npz(x=ONES, y=ONES[0])[:-30], r"cannot be read as NumPy arrays"),
    "no npy": (no_npy(), r"cannot be read as NumPy arrays"),
    "pickled": (
        npy(np.array([[1], [1, 2]], object)),
        r"cannot be read as NumPy arrays \(Object arrays cannot be loaded",
    ),
    "names": (npz(x_train=ONES), r"holds the arrays x_train; expected x, and y and lengths or neither"),
    "lengths": (npz(x=ONES, lengths=np.array([1, 4])), r"sequence 1: its length is 4; expected 1 to 3"),
    "lengths of what": (
        npz(x=ONES[0], lengths=np.array([1, 1, 1])),
        r"lengths have shape \(3,\) and type int64; expected",
    ),
    "lengths shape": (npz(x=ONES, lengths=np.array([1.5])), r"lengths have shape \(1,\) and type float64; expected"),
}


@pytest.mark.parametrize("fault", FILE_FAULTS)
def test_faults_of_numpy_files_are_told(tmp_path: Path, fault: str):
    content, message = FILE_FAULTS[fault]
    path = tmp_path / ("a.npy" if content.startswith(b"\x93") else "a.npz")
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.np[yz][:,] {message}"):
        load_parts(path, "classify", ALL)


NAN = np.array([[1.0, 2.0], [3.0, np.nan]])
FAULTS = {
    "shape": (np.zeros(3), None, r"has shape \(3,\); expected \(N, T, D\) or \(N, T\)"),
    "empty": (np.zeros((2, 0, 3)), None, r"holds no values"),
    "empty list": ([], None, r"holds no sequences"),
    "no steps": ([[1.0], []], [0, 1], r"sequence 1: has no steps"),
    "kind": (3, [0], r"is int; expected an array or tensor"),
    "words": (np.array([["a", "b"]]), [0], r"sequence 0: holds <U1 values; expected numbers"),
    "complex": (np.zeros((2, 2), complex), [0, 1], r"holds complex128 values; expected numbers"),
    "ragged steps": ([[[1, 2], [3]], [[1, 2]]], [0, 1], r"sequence 0: its steps have unequal numbers of values"),
    "widths": ([np.zeros((2, 2)), np.zeros((2, 3))], [0, 1], r"sequence 1: has 3 values a step, but sequence 0 has 2"),
    "dimensions": ([np.zeros((2, 2, 2))] * 2, [0, 1], r"sequence 0: has shape \(2, 2, 2\)"),
    "nan": (NAN, [0, 1], r"sequence 1: step 2 is NaN \(missing\); expected a finite number"),
    "mixed texts": (["a", 3], [0, 1], r"sequence 1: is int among texts; expected a text"),
    "blank text": (["a", " "], [0, 1], r"sequence 1: the text has no tokens"),
    "count": (ONES, [0, 1, 2], r"2 sequences but 3 targets; expected one for each"),
    "one target": (ONES, 5, r"targets are int; expected one for each of 2 sequences"),
    "no targets": (ONES, None, r"has no labels, which training needs"),
    "fraction": (ONES, [0.5, 1], r"sequence 0: the label is 0\.5; expected a text or a whole number"),
    "no label": (ONES, ["a", None], r"sequence 1: the label is None; expected"),
    "blank label": (ONES, ["a", ""], r"sequence 1: the label is empty"),
    "one class": (ONES, [1, 1], r"only the class '1' in the training data"),
    "matrix": (
        ONES,
        np.array([[0, 2], [1, 0]]),
        r"sequence 0: labels have shape \(2, 2\); expected \(N,\), or zeros and ones",
    ),
}
REGRESS_FAULTS = {
    "nan": (ONES, [0.5, np.nan], r"sequence 1: the number to predict is NaN \(missing\)"),
    "words": (ONES, ["a", "b"], r"targets: holds <U1 values; expected numbers"),
    "steps": (ONES, [[1, 2, 3], [1, 2]], r"sequence 1: has 3 steps but 2 targets; expected one for each step"),
    "shape": (ONES, np.zeros((2, 4, 1)), r"targets have shape \(2, 4, 1\); expected \(N,\), \(N, K\), or \(N, T, K\)"),
    "no targets": (ONES, None, r"has no numbers to predict, which training needs"),
}


@pytest.mark.parametrize(
    ("task", "x", "y", "message"),
    [pytest.param("classify", *fault, id=name) for name, fault in FAULTS.items()]
    + [pytest.param("regress", *fault, id=f"regress {name}") for name, fault in REGRESS_FAULTS.items()],
)
def test_faults_are_told(task: str, x, y, message: str):
    with pytest.raises(DataError, match=rf"the training data given[:,] {message}"):
        load_parts(x if y is None else (x, y), task, ALL)
