"""IDX files: what is written is read back, and every fault is told."""

import gzip
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from recurra.data import DataSettings, load_part, load_parts
from recurra.data.idx import IDX, TYPES, read_idx
from recurra.errors import DataError

SETTINGS = DataSettings(validation_fraction=0, test_fraction=0)


def idx(values: np.ndarray, code: int = 0x08) -> bytes:
    return (
        struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + values.astype(TYPES[code]).tobytes()
    )


def write(folder: Path, images: np.ndarray, labels: np.ndarray, part: str = "train") -> Path:
    path = folder / f"{part}-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(images), 1))
    (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(labels))
    return path


@given(st.sampled_from(sorted(TYPES)), hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4), st.data())
def test_every_type_and_shape_is_read_back(code: int, shape: tuple[int, ...], data: st.DataObject):
    values = data.draw(
        hnp.arrays(np.dtype(TYPES[code]), shape, elements={"allow_nan": False} if code >= 0x0D else None)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.idx"
        path.write_bytes(idx(values, code))
        np.testing.assert_array_equal(read_idx(path), values)


def test_images_are_read_row_by_row_with_their_labels(tmp_path: Path):
    images = np.arange(5 * 3 * 4, dtype=np.uint8).reshape(5, 3, 4)
    path = write(tmp_path, images, np.array([7, 10, 7, 2, 10]))
    parts = load_parts(path, "classify", SETTINGS)
    assert parts.schema.format == "idx"
    assert parts.schema.classes == ["2", "7", "10"]  # by value, not as text
    assert parts.schema.features == ["column_0", "column_1", "column_2", "column_3"]
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == [1, 2, 1, 0, 2]
    assert parts.train.values.numpy().dtype == np.uint8
    np.testing.assert_array_equal(parts.train.values.numpy().reshape(5, 3, 4), images)
    assert parts.train.lengths.tolist() == [3] * 5


def test_blank_rows_at_the_end_are_trimmed(tmp_path: Path):
    images = np.zeros((3, 4, 2), np.uint8)
    images[0, 2, 1] = 9  # a blank row before it stays
    images[2, 3, 0] = 1
    path = write(tmp_path, images, np.array([0, 1, 0]))
    parts = load_parts(path, "classify", SETTINGS.model_copy(update={"trim_blank": True}))
    assert parts.train.lengths.tolist() == [3, 1, 4]
    assert parts.train.sequence(0).tolist() == images[0, :3].tolist()
    further, _ = load_part(path, parts.schema)
    assert further.lengths.tolist() == [3, 1, 4]


def test_colour_images_become_steps_of_all_channels(tmp_path: Path):
    images = np.arange(2 * 3 * 4 * 3).reshape(2, 3, 4, 3)
    (tmp_path / "images.idx").write_bytes(idx(images, 0x0D))
    (tmp_path / "labels.idx").write_bytes(idx(np.array([0, 1])))
    parts = load_parts(tmp_path / "images.idx", "classify", SETTINGS)
    assert parts.train.values.shape == (6, 12)
    assert parts.train.values.numpy().dtype == np.float32
    np.testing.assert_array_equal(parts.train.values.numpy().reshape(images.shape), images)


def test_labels_are_numbers_to_predict_for_regress(tmp_path: Path):
    path = write(tmp_path, np.ones((3, 2, 2)), np.array([3, 1, 2]))
    parts = load_parts(path, "regress", SETTINGS)
    assert parts.train.targets is not None
    assert parts.train.targets.tolist() == [[3.0], [1.0], [2.0]]


def test_labels_may_be_missing_later_only(tmp_path: Path):
    path = write(tmp_path, np.ones((3, 2, 2)), np.array([0, 1, 0]))
    schema = load_parts(path, "classify", SETTINGS).schema
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    assert load_part(path, schema)[0].targets is None
    with path.open("rb") as stream:
        assert load_part(stream, schema)[0].targets is None
    with pytest.raises(DataError, match="has no labels, which are needed to measure on it"):
        load_part(path, schema, targets=True)
    with pytest.raises(DataError, match=r"no labels beside it; expected a file such as .*/train-labels-idx1-ubyte\."):
        load_parts(path, "classify", SETTINGS)


IMAGES = np.ones((4, 3, 2), np.uint8)
FAULTS = {
    "magic": (b"\x01" + idx(IMAGES)[1:], r"starts with the bytes 01 00 08 03, which is not IDX"),
    "type": (idx(IMAGES)[:2] + b"\x0a" + idx(IMAGES)[3:], r"starts with the bytes 00 00 0a 03, which is not IDX"),
    "header": (idx(IMAGES)[:9], r"is cut short inside its header"),
    "cut": (idx(IMAGES)[:-5], r"is cut short: its header promises 4 × 3 × 2 numbers, 24 bytes, but 19 follow"),
    "more": (idx(IMAGES) + b"\0", r"goes on after the 24 bytes that its header promises"),
    "huge": (b"\0\0\x08\x04" + b"\xff" * 17, r"is cut short: its header promises 4294967295 × "),
    "none": (idx(IMAGES[:0]), r"holds no values \(its header says 0 × 3 × 2 numbers\)"),
    "no rows": (idx(IMAGES[:, :0]), r"holds no values"),
    "labels": (idx(np.arange(4)), r"holds 4 numbers, which look like labels"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_of_images_are_told(tmp_path: Path, fault: str):
    content, message = FAULTS[fault]
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1, 0, 1])))
    with pytest.raises(DataError, match=message):
        load_parts(path, "classify", SETTINGS)


def test_faults_of_labels_are_told(tmp_path: Path):
    path = write(tmp_path, IMAGES, np.array([0, 1, 0]))
    labels = tmp_path / "train-labels-idx1-ubyte"
    with pytest.raises(DataError, match=r"idx1-ubyte: holds 3 labels, but .*idx3-ubyte\.gz holds 4 images"):
        load_parts(path, "classify", SETTINGS)
    labels.write_bytes(b"\0\0\x08\x01\0\0")
    with pytest.raises(DataError, match=r"idx1-ubyte: is cut short inside its header"):
        load_parts(path, "classify", SETTINGS)
    labels.write_bytes(idx(np.array([0.5, 1, 0, 1]), 0x0D))
    with pytest.raises(DataError, match=r"holds float32 numbers; expected classes as integers"):
        load_parts(path, "classify", SETTINGS)


def test_mnist(data_folder: Path):
    parts = load_parts(data_folder / "mnist", "classify", DataSettings(validation_fraction=0))
    assert parts.test is not None
    assert (len(parts.train), len(parts.test), parts.validation) == (60_000, 10_000, None)
    assert parts.schema.classes == [str(digit) for digit in range(10)]
    assert parts.train.values.shape == (60_000 * 28, 28)
    assert parts.train.targets is not None
    assert parts.train.targets.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert not parts.warnings
    assert IDX.recognises(data_folder / "mnist" / "train-images-idx3-ubyte.gz", "classify", DataSettings())
