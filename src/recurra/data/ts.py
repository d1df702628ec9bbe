"""The `.ts` files of sktime and aeon (time series classification and extrinsic regression)."""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recurra.data.numerals import is_number, numbers, quoted
from recurra.data.opening import first_lines, name_of, open_text
from recurra.data.records import Records, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.errors import DataError, nearest, unknown

_KNOWN = ("@problemname", "@data", "@timestamps", "@missing", "@univariate", "@dimensions", "@dimension",
          "@equallength", "@serieslength", "@classlabel", "@targetlabel")  # fmt: skip


class Ts:
    """A header of `@` lines, then a series a line: its dimensions parted by `:`, values by `,`, the label last.

    Read are univariate and multivariate series of equal or unequal lengths, with classes (`@classLabel true a b`),
    with a number to predict (`@targetLabel true`), or with neither. Series with times (`@timeStamps true`) and
    missing values (`?`) are refused. What the header says of lengths, dimensions and classes is held against the
    data.
    """

    name = "ts"
    summary = "sktime .ts: a header of @ lines, then series with ':' between dimensions and the label last"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the first line that is no comment starts a header of this format."""
        if not path.is_file():
            return False
        lines = [line.split(None, 1)[:1] for line in first_lines(path, 1000, settings.encoding, longest=200)]
        words = [word[0].lower() for word in lines if word and word[0][0] not in "#%"]
        arff = {"@relation", "@attribute"}.intersection(words)
        return bool(words) and words[0].startswith("@") and not arff and not set(words).isdisjoint(_KNOWN)

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read every series.

        Raises:
            DataError: A header that is missing, contradicts the data, or asks for what is not read; a value
                that is no number; dimensions of unequal lengths; a label that the header does not name; with
                file and line.
        """
        name = name_of(source)
        header = _Header()
        values, lengths, places = array("f"), [], []
        labels: list[str] = []
        dimensions = 0
        with open_text(source, settings.encoding) as text:
            lines = _meaningful(text)
            _read_header(lines, header, name)
            _check_task(header, task, name)
            for number, line in lines:
                place = f"{name}, line {number}"
                parts = [part.strip() for part in line.split(":")]
                if header.labelled:
                    if len(parts) < 2:
                        raise DataError(f"{place}: has no label; expected one after the last ':'.")
                    labels.append(_label(parts.pop(), header, place))
                dimensions = dimensions or header.dimensions or len(parts)
                if len(parts) != dimensions:
                    raise DataError(f"{place}: holds {len(parts)} dimensions, expected {dimensions}.")
                series = _series(parts, place)
                length = len(series)
                expected = None if header.equal is False else header.length
                if header.equal and lengths:
                    expected = expected or lengths[0]
                if expected and length != expected:
                    raise DataError(
                        f"{place}: holds {length} steps, expected {expected}: the header says that lengths are equal."
                    )
                values.frombytes(series.tobytes())
                lengths.append(length)
                places.append(number)
        if not lengths:
            raise DataError(f"{name}: holds no series after @data.")
        targets = np.array([[float(label)] for label in labels], np.float32) if header.target else None
        return Records(
            values=np.frombuffer(values, np.float32).reshape(-1, dimensions),
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            features=["value"] if dimensions == 1 else [f"dimension_{i}" for i in range(dimensions)],
            labels=[(label,) for label in labels] if header.classes is not None else None,
            numbers=targets,
            targets=[] if targets is None else ["target"],
            place=lambda index: f"{name}, line {places[index]}",
            warnings=header.warnings,
        )


@dataclass
class _Header:
    """What the `@` lines say."""

    dimensions: int | None = None
    equal: bool | None = None
    length: int | None = None
    classes: list[str] | None = None  # None: no class labels
    target: bool = False
    warnings: list[str] = field(default_factory=list)

    @property
    def labelled(self) -> bool:
        return self.target or self.classes is not None


def _meaningful(text: Iterator[str]) -> Iterator[tuple[int, str]]:
    """Lines that are neither blank nor comments, with their numbers."""
    for number, line in enumerate(text, 1):
        line = line.strip()
        if line and line[0] not in "#%":
            yield number, line


def _read_header(lines: Iterator[tuple[int, str]], header: _Header, name: str) -> None:
    for number, line in lines:
        place = f"{name}, line {number}"
        if not line.startswith("@"):
            raise DataError(f"{place}: series begin before a line '@data'; found {line[:40]!r}.")
        tag, *words = line.split()
        match tag.lower():
            case "@data":
                return
            case "@problemname" | "@missing":  # missing values are refused where they stand
                pass
            case "@timestamps":
                if _flag(tag, words, place):
                    raise DataError(
                        f"{place}: series with times are not read from .ts files; write the values alone "
                        "(@timeStamps false), or a table in long form with a time column."
                    )
            case "@univariate":
                if _flag(tag, words, place):
                    header.dimensions = 1
            case "@dimensions" | "@dimension":
                header.dimensions = _count(tag, words, place)
            case "@equallength":
                header.equal = _flag(tag, words, place)
            case "@serieslength":
                header.length = _count(tag, words, place)
            case "@classlabel":
                header.classes = words[1:] if _flag(tag, words, place) else None
            case "@targetlabel":
                header.target = _flag(tag, words, place)
            case other:
                guess = nearest(other, _KNOWN)
                header.warnings.append(
                    f"{place}: {tag} is unknown and left out." + (f" Did you mean {guess}?" if guess else "")
                )
    raise DataError(f"{name}: has no line '@data', after which the series stand.")


def _flag(tag: str, words: list[str], place: str) -> bool:
    if not words or words[0].lower() not in ("true", "false"):
        raise DataError(f"{place}: {tag} is {words[0] if words else 'empty'}; expected true or false.")
    return words[0].lower() == "true"


def _count(tag: str, words: list[str], place: str) -> int:
    if len(words) != 1 or not words[0].isascii() or not words[0].isdigit() or int(words[0]) < 1:
        raise DataError(f"{place}: {tag} is {' '.join(words) or 'empty'}; expected a whole number from 1.")
    return int(words[0])


def _check_task(header: _Header, task: str, name: str) -> None:
    if header.target and header.classes is not None:
        raise DataError(f"{name}: its header has both @classLabel true and @targetLabel true; expected one.")
    if header.target and task == "classify":
        raise DataError(f"{name}: holds numbers to predict (@targetLabel true), not classes; use the task regress.")
    if header.classes is not None and task == "regress":
        raise DataError(f"{name}: holds classes (@classLabel true), not numbers; use the task classify.")


def _label(label: str, header: _Header, place: str) -> str:
    if header.target:
        if not is_number(label) or not math.isfinite(float(label)):
            raise DataError(f"{place}: the number to predict is {quoted(label)}; expected a finite number.")
    elif header.classes and label not in header.classes:
        raise DataError(f"{place}: " + unknown("label", label, header.classes))
    elif not label:
        raise DataError(f"{place}: has an empty label.")
    return label


def _series(dimensions: list[str], place: str) -> np.ndarray:
    """The (T, D) float32 values of one line."""
    columns: list[np.ndarray] = []
    for index, dimension in enumerate(dimensions, 1):
        of = f" of dimension {index}" if len(dimensions) > 1 else ""
        columns.append(numbers(dimension.split(","), lambda step, of=of: f"{place}: step {step + 1}{of}"))
        if len(columns[-1]) != len(columns[0]):
            raise DataError(
                f"{place}: dimension {index} has {len(columns[-1])} steps, but dimension 1 has {len(columns[0])}."
            )
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused with its place
        return np.stack(columns, axis=1).astype(np.float32)


TS = register(Ts())
