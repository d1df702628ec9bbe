"""IDX, the format of MNIST: images read row by row, every row one step."""

import math
import re
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recurra.data.opening import first_bytes, name_of, open_binary, plain_name
from recurra.data.records import Records, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.errors import DataError

TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""The third byte of an IDX file -> what its numbers are."""

_PIECE = 1 << 24


class Idx:
    """The IDX files of http://yann.lecun.com/exdb/mnist: images in one, their labels in another beside it.

    An array of shape (N, T, …) gives N sequences of T steps; whatever follows is laid out as the values of a
    step, so that a (28, 28) image is 28 steps of 28 values. Unsigned bytes stay bytes, everything else becomes
    float32. The labels are looked for under the same name with `labels` for `images` and `idx1` for `idx3`,
    packed or not.
    """

    name = "idx"
    summary = "IDX files (MNIST): images row by row, labels in the file beside it"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the file starts like IDX, or its name says so."""
        if not path.is_file():
            return False
        return _is_magic(first_bytes(path, 4)) or bool(re.search(r"[-.]idx(\d-ubyte)?$", _plain(path)))

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read images, and their labels where there is such a file.

        Raises:
            DataError: No IDX, cut short, longer than its header says, or images and labels that disagree in
                number.
        """
        name = name_of(source)
        images = read_idx(source)
        if images.ndim < 2:
            raise DataError(
                f"{name}: holds {_shape(images.shape)}, which look like labels; "
                "give the file of the images, and the labels are found beside it."
            )
        if 0 in images.shape:
            raise DataError(f"{name}: holds no values (its header says {_shape(images.shape)}).")
        count, steps = images.shape[:2]
        values = images.reshape(count, steps, -1)
        labels, numbers = self._labels(source, count, task, schema is not None)
        lengths = np.full(count, steps, np.int64)
        if settings.trim_blank:
            lengths = _filled_lengths(values)
            values = values[np.arange(steps) < lengths[:, None]]
        else:
            values = values.reshape(count * steps, -1)
        if values.dtype != np.uint8:
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused with its place
                values = values.astype(np.float32)
        return Records(
            values=values,
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            features=[f"column_{column}" for column in range(values.shape[1])],
            labels=labels,
            numbers=numbers,
            targets=["label"] if numbers is not None else [],
            place=lambda index: f"{name}, image {index + 1}",
        )

    def companions(self, path: Path) -> list[Path]:
        """The further files that belong to `path`: the labels of its images, where there are any."""
        wanted = _without_role(path)
        return [
            entry
            for entry in sorted(path.parent.iterdir())
            if entry != path and is_labels(entry) and _without_role(entry) == wanted
        ]

    def _labels(
        self, source: Path | BinaryIO, count: int, task: str, trained: bool
    ) -> tuple[list[tuple[str, ...]] | None, np.ndarray | None]:
        beside = self.companions(source) if isinstance(source, Path) else []
        if not beside and isinstance(source, Path) and not trained:
            name = plain_name(source)
            wanted = re.sub("images?", "labels", name).replace("idx3", "idx1")
            wanted = wanted if wanted != name else f"{Path(name).stem}-labels.idx"
            raise DataError(f"{source}: no labels beside it; expected a file such as {source.with_name(wanted)}.")
        if not beside:
            return None, None
        labels = read_idx(beside[0])
        if len(labels) != count:
            raise DataError(f"{beside[0]}: holds {len(labels)} labels, but {name_of(source)} holds {count} images.")
        if task == "regress":
            return None, labels.astype(np.float32)[:, None]
        if labels.dtype.kind == "f":
            raise DataError(f"{beside[0]}: holds {labels.dtype.name} numbers; expected classes as integers.")
        return [(str(label),) for label in labels.tolist()], None


def read_idx(source: Path | BinaryIO) -> np.ndarray:
    """The array an IDX file holds, in its own type.

    Raises:
        DataError: A wrong magic number, or fewer or more bytes than the header says.
    """
    name = name_of(source)
    with open_binary(source) as binary:
        magic = binary.read(4)
        if not _is_magic(magic):
            raise DataError(
                f"{name}: starts with the bytes {magic.hex(' ')}, which is not IDX; expected 00 00, a type "
                f"({', '.join(f'{code:02x}' for code in TYPES)}), and the number of dimensions (01 to 04)."
            )
        head = binary.read(4 * magic[3])
        if len(head) < 4 * magic[3]:
            raise DataError(f"{name}: is cut short inside its header.")
        shape = struct.unpack(f">{magic[3]}I", head)
        kind = np.dtype(TYPES[magic[2]])
        expected = math.prod(shape) * kind.itemsize
        content = bytearray()  # grown by what is there, so that a false header cannot ask for memory
        while len(content) < expected and (piece := binary.read(min(_PIECE, expected - len(content)))):
            content += piece
        if len(content) < expected:
            raise DataError(
                f"{name}: is cut short: its header promises {_shape(shape)}, {expected} bytes, "
                f"but {len(content)} follow."
            )
        if binary.read(1):
            raise DataError(f"{name}: goes on after the {expected} bytes that its header promises ({_shape(shape)}).")
    return np.frombuffer(content, kind).reshape(shape)


def is_labels(path: Path) -> bool:
    """Whether a file is called like the labels of IDX images; such a file is no part of its own."""
    return bool(re.search(r"(labels?|idx1)[-_.]", _plain(path) + ".")) and "idx" in _plain(path)


def _is_magic(head: bytes) -> bool:
    return len(head) == 4 and head[:2] == b"\0\0" and head[2] in TYPES and 1 <= head[3] <= 4


def _filled_lengths(values: np.ndarray) -> np.ndarray:
    """For every image the rows up to the last that is not blank, at least one; (N,) int64 from (N, T, D)."""
    filled = (values != 0).max(axis=2)
    last = values.shape[1] - np.argmax(filled[:, ::-1], axis=1)
    return np.where(filled.max(axis=1), last, 1).astype(np.int64)


def _plain(path: Path) -> str:
    return plain_name(path).lower()


def _without_role(path: Path) -> str:
    """A name without what tells images from labels: equal for the two files of one part."""
    return re.sub(r"[-_.]?(images?|labels?|idx\d)", "", _plain(path))


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) + " numbers"


IDX = register(Idx())
