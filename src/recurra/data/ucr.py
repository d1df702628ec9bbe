"""The text files of the UCR archive: one series a line, its label first."""

import math
import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from recurra.data.delimited import named_separator
from recurra.data.numerals import is_number, numbers, quoted, shortest
from recurra.data.opening import LONGEST, first_lines, name_of, open_text, plain_name
from recurra.data.records import Records, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.errors import DataError

_LOOKED_AT = 100
"""Lines read to know the format."""


class Ucr:
    """`label value value …` on every line, separated by tabs, commas or blanks, as the UCR archive has it.

    The label may be any token; one that is a whole number is read as such (`1.0000000e+00` is class 1), since
    the archive writes the same class in both ways. For `regress` it is the number to predict.

    Unequal lengths: NaN at the end of a line is no value but padding, as in the archive. Lines that are unequal
    without it are taken as they stand where no length is that of most lines, or where the format is named; where
    most lines agree, one that differs is taken for damaged and refused.
    """

    name = "ucr"
    summary = "UCR archive text: a series a line, its label first, then its values"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the lines are a label and numbers, by the archive's names or by the look of the first column.

        Where `settings.format` expects it, numbers are enough.
        """
        if not path.is_file() or _is_table(settings):
            return False
        try:
            separator = named_separator(settings)
        except DataError:
            return False
        lines = first_lines(path, _LOOKED_AT, settings.encoding)
        rows = [_fields(line, separator)[: -1 if len(line) == LONGEST else None] for line in lines if line.strip()]
        good = [row for row in rows if len(row) > 1 and all(map(is_number, row[1:]))]
        if not good or good[0] is not rows[0]:
            return False
        if re.search(r"_(train|test)(\.(txt|tsv|csv|data))?$", plain_name(path), re.IGNORECASE):
            return True  # a bad line among good ones is told on reading
        if 2 * len(good) <= len(rows):
            return False
        if settings.format == self.name:
            return True
        return (
            task == "classify" and _label_like([row[0] for row in good]) and not _label_like([row[-1] for row in good])
        )

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read every line.

        With `schema`, lines of exactly as many values as the training series had are series without a label.

        Raises:
            DataError: A value that is no number, a line without values, or ragged lines, with file and line.
        """
        name = name_of(source)
        lines = _read_lines(source, name, settings)
        if not (settings.format == self.name or (schema and schema.settings.get("unequal"))):
            _refuse_ragged(lines, name)
        warnings: list[str] = []
        labels = targets = None
        if schema and not _has_labels(lines, schema):
            lines = _with_first_as_value(lines, name)
            warnings.append(f"{name}: has no labels; every value is read as input.")
        elif task == "classify":
            labels = [(_label(first, name, line),) for first, line in zip(lines.firsts, lines.numbers, strict=True)]
        else:
            targets = np.array(
                [[_target(first, name, line)] for first, line in zip(lines.firsts, lines.numbers, strict=True)],
                np.float32,
            )
        equal = len(set(lines.lengths)) == 1
        return Records(
            values=np.frombuffer(lines.values, np.float32).reshape(-1, 1),
            offsets=np.concatenate([[0], np.cumsum(lines.lengths, dtype=np.int64)]),
            features=["value"],
            labels=labels,
            numbers=targets,
            targets=[] if targets is None else ["target"],
            place=lambda index: f"{name}, line {lines.numbers[index]}",
            settings={"length": lines.lengths[0]} if equal else {"unequal": True},
            warnings=warnings,
        )


@dataclass
class _Lines:
    """What the lines of a file hold: a first field each, and values end to end."""

    firsts: list[str] = field(default_factory=list)
    values: array = field(default_factory=lambda: array("f"))
    lengths: list[int] = field(default_factory=list)  # values of each line without padding
    widths: list[int] = field(default_factory=list)  # values of each line with padding
    numbers: list[int] = field(default_factory=list)  # where each line stands, from 1

    def append(self, first: str, row: np.ndarray, width: int, number: int) -> None:
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, which is refused with its place
            self.values.frombytes(row.astype(np.float32).tobytes())
        self.firsts.append(first)
        self.lengths.append(len(row))
        self.widths.append(width)
        self.numbers.append(number)


def _read_lines(source: Path | BinaryIO, name: str, settings: DataSettings) -> _Lines:
    lines = _Lines()
    separator = named_separator(settings)
    with open_text(source, settings.encoding) as text:
        for number, line in enumerate(text, 1):
            if not line.strip():
                continue
            first, *fields = _fields(line, separator)
            row = numbers(fields, lambda index, number=number: f"{name}, line {number}: value {index + 1}")
            filled = np.flatnonzero(~np.isnan(row))
            if not len(filled):
                what = "a label and NaN alone" if fields else "one field alone"
                raise DataError(
                    f"{name}, line {number}: holds {what}; expected a label and at least one value, "
                    "separated by tabs, commas or blanks."
                )
            lines.append(first, row[: filled[-1] + 1], len(row), number)
    if not lines.numbers:
        raise DataError(f"{name}: holds blank lines alone; expected a label and values on each.")
    return lines


def _refuse_ragged(lines: _Lines, name: str) -> None:
    """Raise where one line differs from most others, or where some lines are padded and yet not all equal."""
    (usual, count), *others = Counter(lines.widths).most_common()
    padded = lines.lengths != lines.widths
    if not others or (2 * count <= len(lines.widths) and not padded):
        return
    odd = next(i for i, width in enumerate(lines.widths) if width != usual)
    raise DataError(
        f"{name}, line {lines.numbers[odd]}: holds {lines.widths[odd]} values, but {count} of {len(lines.widths)} "
        f"lines hold {usual}. Series that are shorter are filled up with NaN at the end; "
        f"or name the format to take the lines as they are: --input-format ucr."
    )


def _has_labels(lines: _Lines, schema: Schema) -> bool:
    """Whether the first field of each line is a label, for a file that may come with or without."""
    known = {shortest(first) for first in lines.firsts} <= set(schema.classes)
    length = schema.settings.get("length")
    if length is None:  # the training series were of unequal lengths: only the labels can tell
        return known or schema.task == "regress" or any(not is_number(first) for first in lines.firsts)
    return known or any(width + 1 != length for width in lines.widths)


def _with_first_as_value(lines: _Lines, name: str) -> _Lines:
    whole = _Lines()
    values = np.frombuffer(lines.values, np.float32)
    start = 0
    for first, length, width, number in zip(lines.firsts, lines.lengths, lines.widths, lines.numbers, strict=True):
        place = f"{name}, line {number}: value 1"
        row = np.concatenate([numbers([first], lambda _, place=place: place), values[start : start + length]])
        whole.append(first, row, width + 1, number)
        start += length
    return whole


def _label(first: str, name: str, line: int) -> str:
    if not first or first.lower() == "nan":
        raise DataError(f"{name}, line {line}: the label is {quoted(first)}; expected a class.")
    return shortest(first)


def _target(first: str, name: str, line: int) -> float:
    if not is_number(first) or not math.isfinite(float(first)):
        raise DataError(f"{name}, line {line}: the number to predict is {quoted(first)}; expected a finite number.")
    return float(first)


def _label_like(column: Sequence[str]) -> bool:
    """Few values, each met about twice or more, and no fractions."""
    whole = all(not is_number(field) or float(field).is_integer() for field in column)
    return whole and 2 * len(set(column)) <= len(column)


def _is_table(settings: DataSettings) -> bool:
    """Whether the options speak of named columns, which these files do not have."""
    return bool(
        settings.header or settings.columns or settings.target or settings.features or settings.id or settings.text
    )


def _fields(line: str, separator: str | None) -> list[str]:
    """A line cut at its separator: the one named, else tabs, else commas, else blanks."""
    line = line.strip(" \r\n")
    separator = separator or ("\t" if "\t" in line else "," if "," in line else " ")
    if separator == " ":
        return line.split()
    return [field.strip() for field in line.removesuffix(separator).split(separator)]


UCR = register(Ucr())
