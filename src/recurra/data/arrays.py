"""Sequences handed over in Python: arrays, tensors, lists of arrays, texts, dataframes."""

import io
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl
from torch import Tensor

from recurra.data.numerals import shortest
from recurra.data.opening import first_bytes, name_of, open_binary
from recurra.data.records import Records, StepLabels, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.data.tokens import TokenArray
from recurra.errors import DataError

KINDS = (
    "an array or tensor (N, T, D) or (N, T), a list of arrays (T, D) or (T,), a list of texts, each alone or with "
    "targets as a pair (x, y), or a dataframe"
)
"""What can be handed over, for messages."""


def is_frame(data: object) -> bool:
    """Whether `data` is a polars or pandas dataframe."""
    module = type(data).__module__.partition(".")[0]
    return isinstance(data, pl.DataFrame | pl.LazyFrame) or (module == "pandas" and type(data).__name__ == "DataFrame")


def read_data(data: Any, task: str, settings: DataSettings, schema: Schema | None, name: str) -> Records:
    """Read sequences that are handed over in Python.

    Args:
        data: `x`, or a pair `(x, y)`. `x` is an array or tensor (N, T, D) or (N, T), a list of N arrays (T, D) or
            (T,), or a list of N texts. `y` for classify: N labels, or N sets or lists of labels, or booleans
            (N, C), or with `per_step` a label (or several) at every step, as (N, T), as booleans (N, T, C), or as a
            list of N lists of them, None where nothing is asked for; for regress: N numbers, (N, K), or a number at
            every step as (N, T, K) or as a list of N arrays (T, K) or (T,).
        task: "classify" or "regress".
        settings: How texts are cut into tokens; whether there is a label at every step.
        schema: What was learnt from the training data; targets may then be left out.
        name: How messages call the data.

    Raises:
        DataError: None of these, or shapes that do not fit, with the sequence (from 0).
    """
    if is_frame(data):
        from recurra.data.table import read_frame

        return read_frame(data, task, settings, schema)
    x, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    x, y = _plain(x), _plain(y)
    if isinstance(x, list) and x and isinstance(x[0], str):
        records = _from_texts(x, settings, lambda index: f"{name}, sequence {index}")
    else:
        records = _from_arrays(x, name, lambda index: f"{name}, sequence {index}")
    return _with_targets(records, y, task, name, schema.per_step if schema else settings.per_step)


class Npy:
    """NumPy's own files: `.npy` with the values (N, T, D) or (N, T), or `.npz` with `x`, and `y` and `lengths` or not.

    With `lengths` (N,) sequence i is `x[i, :lengths[i]]`. Object arrays, which would have to be unpickled, are refused.
    """

    name = "npy"
    summary = "NumPy .npy with values (N, T, D), or .npz with x, y and, for unequal lengths, lengths"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the file starts like one of NumPy's, or is a zip archive that is called .npz."""
        if not path.is_file():
            return False
        head = first_bytes(path, 6)
        return head == b"\x93NUMPY" or (head[:4] == b"PK\3\4" and path.suffix.lower() == ".npz")

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read the arrays.

        Raises:
            DataError: Damaged or pickled content, arrays under other names, or shapes that do not fit.
        """
        name = name_of(source)
        arrays = archived(source)
        if "x" not in arrays or not arrays.keys() <= {"x", "y", "lengths"}:
            raise DataError(
                f"{name}: holds the arrays {', '.join(arrays) or 'none'}; expected x, and y and lengths or neither."
            )
        x = arrays["x"]
        if "lengths" in arrays:
            x = _shortened(x, arrays["lengths"], name)
        records = _from_arrays(x, name, lambda index: f"{name}, sequence {index}")
        return _with_targets(
            records, _plain(arrays.get("y")), task, name, schema.per_step if schema else settings.per_step
        )


def archived(source: Path | BinaryIO) -> dict[str, np.ndarray]:
    """The arrays of one of NumPy's files by name, that of a `.npy` as `x`.

    Raises:
        DataError: Damaged or pickled content.
    """
    try:
        return _archived(source)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{name_of(source)}: cannot be read as NumPy arrays ({str(error).splitlines()[0]}).") from error


def _archived(source: Path | BinaryIO) -> dict[str, np.ndarray]:
    with open_binary(source) as stream:
        if not isinstance(source, Path):
            stream = io.BytesIO(stream.read())  # a pipe cannot be gone back in, which an archive needs
            head = stream.getvalue()[:6]
        else:
            head = first_bytes(source, 6)
        if head == np.lib.format.MAGIC_PREFIX:
            return {"x": np.lib.format.read_array(stream, allow_pickle=False)}
        with zipfile.ZipFile(io.BytesIO(stream.read())) as archive:
            return {
                entry.removesuffix(".npy"): np.lib.format.read_array(archive.open(entry), allow_pickle=False)
                for entry in archive.namelist()
            }


def _shortened(x: np.ndarray, lengths: np.ndarray, name: str) -> list[np.ndarray]:
    if x.ndim not in (2, 3) or lengths.shape != x.shape[:1] or lengths.dtype.kind not in "iu":
        raise DataError(
            f"{name}: lengths have shape {lengths.shape} and type {lengths.dtype}; expected a whole number for each of "
            f"the sequences in x, which has shape {x.shape}."
        )
    if (odd := np.flatnonzero((lengths < 1) | (lengths > x.shape[1]))).size:
        raise DataError(
            f"{name}, sequence {odd[0]}: its length is {lengths[odd[0]]}; expected 1 to {x.shape[1]}, the steps of x."
        )
    return [row[:length] for row, length in zip(x, lengths.tolist(), strict=True)]


def _with_targets(records: Records, y: Any, task: str, name: str, per_step: bool | None) -> Records:
    place = records.place
    if y is not None:
        if not hasattr(y, "__len__"):
            raise DataError(f"{name}: targets are {_kind_of(y)}; expected one for each of {len(records)} sequences.")
        if len(y) != len(records):
            raise DataError(f"{name}: {len(records)} sequences but {len(y)} targets; expected one for each.")
        if task == "classify" and (per_step or getattr(y, "ndim", 0) == 3):
            records.step_labels, records.multi_label = _step_labels(y, np.diff(records.offsets), place)
            records.per_step = True
        elif task == "classify":
            records.labels, records.multi_label = _labels(y, place)
        else:
            records.numbers, records.per_step = _numbers(y, np.diff(records.offsets), name, place)
            width = records.numbers.shape[1]
            records.targets = ["target"] if width == 1 else [f"target_{i}" for i in range(width)]
    return records


def _plain(data: Any) -> Any:
    """Arrays for tensors, series and frames; lists for tuples; everything else as it is."""
    if isinstance(data, Tensor):
        return data.detach().cpu().numpy()
    if is_frame(data) or (not isinstance(data, np.ndarray) and hasattr(data, "to_numpy")):
        data = data.to_numpy()
    if isinstance(data, np.ndarray) and data.dtype.kind in "OUS":
        return data.tolist()
    return list(data) if isinstance(data, tuple | set | frozenset) else data


def _from_texts(texts: list[Any], settings: DataSettings, place) -> Records:
    tokens = TokenArray(settings.unit, settings.lowercase)
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{place(index)}: is {_kind_of(text)} among texts; expected a text.")
        if not tokens.add(text):
            raise DataError(f"{place(index)}: the text has no tokens; expected at least one.")
    return Records(values=tokens.values, offsets=tokens.offsets, symbols=tokens.symbols, place=place)


def _from_arrays(x: Any, name: str, place) -> Records:
    if isinstance(x, np.ndarray):
        values = _real(x, name)
        if values.ndim not in (2, 3):
            raise DataError(f"{name}: has shape {values.shape}; expected (N, T, D) or (N, T).")
        if values.size == 0:
            raise DataError(f"{name}: holds no values (its shape is {values.shape}).")
        count, steps = values.shape[:2]
        values = values.reshape(count * steps, -1)
        lengths = np.full(count, steps, np.int64)
    elif isinstance(x, list):
        values, lengths = _laid_end_to_end(x, name, place)
    else:
        raise DataError(f"{name}: is {_kind_of(x)}; expected {KINDS}.")
    width = values.shape[1]
    return Records(
        values=values,
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        features=["value"] if width == 1 else [f"value_{i}" for i in range(width)],
        place=place,
    )


def _laid_end_to_end(items: list[Any], name: str, place) -> tuple[np.ndarray, np.ndarray]:
    """The (S, D) values and (N,) lengths of a list of arrays (T, D) or (T,)."""
    pieces: list[np.ndarray] = []
    for index, item in enumerate(items):
        try:
            piece = _real(np.asarray(_plain(item)), place(index))
        except ValueError:  # nested lists of unequal lengths
            raise DataError(f"{place(index)}: its steps have unequal numbers of values.") from None
        if piece.ndim not in (1, 2):
            raise DataError(f"{place(index)}: has shape {piece.shape}; expected (T, D) or (T,).")
        pieces.append(piece.reshape(len(piece), -1) if piece.size else piece.reshape(0, 1))
        if pieces[-1].shape[1] != pieces[0].shape[1] and piece.size:
            raise DataError(
                f"{place(index)}: has {pieces[-1].shape[1]} values a step, but sequence 0 has {pieces[0].shape[1]}."
            )
        if not piece.size:
            raise DataError(f"{place(index)}: has no steps; expected at least one.")
    if not pieces:
        raise DataError(f"{name}: holds no sequences.")
    return np.concatenate(pieces), np.array([len(piece) for piece in pieces], np.int64)


def _real(values: np.ndarray, where: str) -> np.ndarray:
    """Numbers as the networks take them: bytes as they are, everything else as float32."""
    if values.dtype == np.uint8 or values.dtype == np.float32:
        return values
    if values.dtype.kind not in "biuf":
        raise DataError(f"{where}: holds {values.dtype} values; expected numbers.")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused with its place
        return values.astype(np.float32)


def _labels(y: Any, place) -> tuple[list[tuple[str, ...]], bool]:
    """The label, or labels, of each sequence, and whether there may be several."""
    if isinstance(y, np.ndarray) and y.ndim == 2 and y.shape[1] > 1:
        if not np.isin(y, (0, 1)).all():
            raise DataError(f"{place(0)}: labels have shape {y.shape}; expected (N,), or zeros and ones (N, C).")
        return [tuple(str(i) for i in np.flatnonzero(row)) for row in y], True
    rows = y.reshape(-1).tolist() if isinstance(y, np.ndarray) else list(y)
    several = any(isinstance(row, list | tuple | set | frozenset | np.ndarray) for row in rows)
    if not several:
        return [(_label(row, place(i)),) for i, row in enumerate(rows)], False
    labels: list[tuple[str, ...]] = []
    for i, row in enumerate(rows):
        if isinstance(row, str) or not hasattr(row, "__iter__"):
            row = [row]
        labels.append(tuple(sorted({_label(label, place(i)) for label in row})))
    return labels, True


def _step_labels(y: Any, lengths: np.ndarray, place) -> tuple[StepLabels, bool]:
    """The label, or labels, of each step, and whether there may be several."""
    if isinstance(y, np.ndarray) and y.ndim == 3 and not np.isin(y, (0, 1)).all():
        raise DataError(f"{place(0)}: labels have shape {y.shape}; expected (N, T), or zeros and ones (N, T, C).")
    kinds: dict[tuple[str, ...], int] = {}
    codes: list[int] = []
    several = isinstance(y, np.ndarray) and y.ndim == 3
    for i, (row, length) in enumerate(zip(y, lengths.tolist(), strict=True)):
        row = _plain(row)
        if isinstance(row, str) or not hasattr(row, "__len__"):
            raise DataError(f"{place(i)}: its labels are {row!r}; expected one for each of its {length} steps.")
        if len(row) != length:
            raise DataError(f"{place(i)}: has {length} steps but {len(row)} labels; expected one for each step.")
        for step, label in enumerate(row):
            if several:
                labels = tuple(str(c) for c in np.flatnonzero(label))
            elif isinstance(label, list | tuple | set | frozenset | np.ndarray):
                labels = tuple(sorted({_label(one, f"{place(i)}, step {step}") for one in label}))
            elif label is None or label != label:  # NaN
                codes.append(-1)
                continue
            else:
                labels = (_label(label, f"{place(i)}, step {step}"),)
            codes.append(kinds.setdefault(labels, len(kinds)))
    return StepLabels(list(kinds), np.array(codes, np.int64)), several or any(len(row) != 1 for row in kinds)


def _label(label: Any, where: str) -> str:
    if isinstance(label, np.generic | Tensor):
        label = label.item()
    if isinstance(label, bool | str | int):
        text = str(label)
    elif isinstance(label, float) and label.is_integer():
        text = shortest(str(label))
    else:
        raise DataError(
            f"{where}: the label is {label!r}; expected a text or a whole number (or use the task regress)."
        )
    if not text.strip():
        raise DataError(f"{where}: the label is empty.")
    return text


def _numbers(y: Any, lengths: np.ndarray, name: str, place) -> tuple[np.ndarray, bool]:
    """Targets (N, K), or at every step (S, K), and whether they are at every step."""
    if isinstance(y, list) and y and hasattr(y[0], "__len__") and not isinstance(y[0], str):
        values, steps = _laid_end_to_end(y, name, lambda index: f"{place(index)}, target")
        if np.array_equal(steps, lengths):
            return values.astype(np.float32), True
        if (steps == steps[0]).all() and values.shape[1] == 1:
            return values.astype(np.float32).reshape(len(y), -1), False
        odd = int(np.flatnonzero(steps != lengths)[0])
        raise DataError(f"{place(odd)}: has {lengths[odd]} steps but {steps[odd]} targets; expected one for each step.")
    try:
        numbers = _real(np.asarray(y), f"{name}, targets").astype(np.float32)
    except ValueError:
        raise DataError(f"{name}: targets are not numbers of one shape.") from None
    if numbers.ndim == 1:
        return numbers[:, None], False
    if numbers.ndim == 2:
        return numbers, False
    if numbers.ndim == 3 and (numbers.shape[1] == lengths).all():
        return numbers.reshape(-1, numbers.shape[2]), True
    raise DataError(f"{name}: targets have shape {numbers.shape}; expected (N,), (N, K), or (N, T, K) for every step.")


def _kind_of(data: object) -> str:
    return f"{type(data).__module__}.{type(data).__qualname__}".removeprefix("builtins.")


NPY = register(Npy())
