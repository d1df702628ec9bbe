"""A table that comes line by line and may never end: CSV or JSON Lines from standard input, a pipe or a file.

Each line is handed on as soon as it is there, and none is kept. The first one settles the columns, by the rules of a
long table (`recurra.data.table`), or where bad lines are skipped the first that can be read; what a line says that
those do not allow is told with its number.
"""

import codecs
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import polars as pl

from recurra.data.delimited import (
    Table,
    csv_rows,
    decimal_mark,
    find_name,
    fit_header,
    header_names,
    is_number,
    listed,
    missing_column,
    named_separator,
    short,
    sniff_header,
    sniff_separator,
    spoken,
)
from recurra.data.encode import sort_classes
from recurra.data.made import MADE
from recurra.data.numerals import shortest
from recurra.data.opening import name_of, open_binary
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.data.table import LONG, Roles, WordsError, long_roles, resolved
from recurra.data.text import split_labels
from recurra.errors import DataError, unknown

LONGEST = 1 << 24
"""Bytes of a line, at most."""

TRIED = 100
"""Rows that are looked at to settle the columns, at most, where bad lines are skipped."""

LARGEST = 3.4028234663852886e38
"""The largest number in single precision."""

YES, NO = ("1", "true", "yes", "1.0"), ("0", "false", "no", "0.0", "")

Cell = str | int | float | bool | list[Any] | dict[str, Any] | None


@dataclass(frozen=True)
class Row:
    """What one line says.

    Attributes:
        line: Its number, from 1.
        features: The numbers that go in.
        target: What is to be predicted: the labels, or the numbers; None where the line does not tell.
        stream: The id of the stream that it belongs to; "" where all lines are of one.
        reset: Whether the state begins anew before it.
    """

    line: int
    features: list[float]
    target: tuple[str, ...] | list[float] | None
    stream: str = ""
    reset: bool = False


@dataclass(frozen=True)
class Fault:
    """A line that could not be read: which, and why, in words."""

    line: int
    said: str


class UnreadableError(DataError):
    """A stream that cannot be read any further."""


class RowError(DataError):
    """A line that cannot be read, or that does not settle the columns, where another one may."""


class _TwiceError(ValueError):
    """A key that an object of JSON has twice."""


class Lines(Iterator[Row | Fault]):
    """The rows of a stream.

    Args:
        binary: Where the bytes come from.
        name: How messages call it.
        task: "classify" or "regress".
        settings: How to read.
        schema: What an earlier part of the stream settled; then the header may be missing.
        classes: classify: the labels there are, where neither settings nor schema name them.

    Attributes:
        schema: What the first line settled, or the first that could be read.
        looks_ahead: Whether the next line's value is what is to be predicted.
        notes: What a person should know of how the columns are taken.

    Raises:
        DataError: There is no line, or the first ones do not settle the columns.
    """

    def __init__(
        self,
        binary: BinaryIO,
        name: str,
        task: str,
        settings: DataSettings,
        schema: Schema | None = None,
        classes: Sequence[str] = (),
    ) -> None:
        self.name, self.task, self.settings = name, task, settings
        self._binary, self._read, self._line = binary, 0, 0
        self._codec = _by_line(settings.encoding)
        self._waiting: list[tuple[int, str | RowError]] = []  # lines that were read to know the columns by
        self._skips = settings.bad_lines == "skip"
        self._header = False
        self.notes: list[str] = []
        if schema is None:
            self.schema = self._settle(self._kind(), classes)
        else:
            self.schema = schema
            self._go_on()
        stream = cast(Mapping[str, Any], self.schema.settings["stream"])
        self._is_json: bool = stream["lines"] == "jsonl"
        self.looks_ahead: bool = stream["looks_ahead"]
        self._places()

    def __next__(self) -> Row | Fault:
        """The next row, once it is there.

        Raises:
            StopIteration: The stream has ended.
            UnreadableError: It cannot be read any further.
        """
        try:
            text = self._next_line()
            if text is None:
                raise StopIteration
            return self._row(text)
        except UnreadableError:
            raise
        except DataError as error:
            return Fault(self._line, str(error))

    def skip(self, rows: int) -> int:
        """Pass over so many rows, good or not; how many there were."""
        done = 0
        while done < rows:
            try:
                if self._next_line() is None:
                    break
            except UnreadableError:
                raise
            except DataError:
                pass  # it was counted when it was first met
            done += 1
        return done

    # --- lines ------------------------------------------------------------------------------------------------------

    def _next_line(self) -> str | None:
        """The next line that is not blank, without its end; None at the end of the stream.

        Raises:
            RowError: It is no text in the encoding that was named.
            UnreadableError: It is too long, or the stream is damaged.
        """
        found = self._waiting.pop(0) if self._waiting else self._further()
        if found is None:
            return None
        self._line, text = found
        if isinstance(text, RowError):
            raise text
        return text

    def _further(self) -> tuple[int, str | RowError] | None:
        """The next line that was not read yet, with its number: its text, or why it is none."""
        while True:
            try:
                data = self._binary.readline(LONGEST)
            except DataError as error:
                raise UnreadableError(str(error)) from error
            if not data:
                return None
            self._read += 1
            place = f"{self.name}, line {self._read}"
            if len(data) >= LONGEST and not data.endswith(b"\n"):
                raise UnreadableError(f"{place}: is longer than {LONGEST >> 20} MiB.")
            if self._read == 1:
                data = data.removeprefix(b"\xef\xbb\xbf")
            try:
                text = data.decode(self._codec)
            except UnicodeDecodeError as error:
                found = data[error.start : error.start + 4].hex(" ")
                said = f"{place}: byte {error.start} ({found}) is not {self.settings.encoding}."
                return self._read, RowError(said)
            if text.strip():
                return self._read, text.rstrip("\r\n")

    def _peek(self, place: int) -> tuple[int, str] | None:
        """The line that stands so many behind the next one, with its number; it stays to be read.

        Raises:
            RowError: As `_next_line`.
        """
        while len(self._waiting) <= place:
            if (found := self._further()) is None:
                return None
            self._waiting.append(found)
        line, text = self._waiting[place]
        if isinstance(text, RowError):
            raise text
        return line, text

    # --- columns ----------------------------------------------------------------------------------------------------

    def _kind(self, known: str | None = None) -> str:
        """Whether this is CSV or JSON Lines. Where bad lines are skipped, the second line may tell it too.

        Args:
            known: What an earlier part of the stream was.
        """
        looks_on = self._skips and self.settings.header is not False and known != "csv"
        try:
            first = self._peek(0)
            if first is None:
                raise DataError(f"{self.name}: {'has no line that is not blank' if self._read else 'is empty'}.")
            if first[1].lstrip().startswith(("{", "[")):
                return "jsonl"
        except RowError:
            if not (looks_on and self._is_object(1)):
                raise
        return "jsonl" if looks_on and self._is_object(1) else "csv"

    def _is_object(self, place: int) -> bool:
        try:
            found = self._peek(place)
            return found is not None and bool(self._object(found[1], found[0]))
        except RowError:
            return False

    def _settle(self, kind: str, classes: Sequence[str]) -> Schema:
        """Settle the columns by the first row, or where bad lines are skipped by the first that can be read.

        Raises:
            RowError: None of the first rows can be read; why the first of them cannot.
            DataError: What they say is not enough.
        """
        first: RowError | None = None
        for row in range(TRIED if self._skips else 1):
            try:
                if not (self._keys_of(row) if kind == "jsonl" else self._cells_of(row)):
                    break
                schema = self._settled(kind, classes)
            except RowError as error:
                first = first or error
                continue
            if kind == "csv" and self._header:
                self._waiting.pop(0)
            return schema
        assert first is not None
        raise first

    def _keys_of(self, row: int) -> bool:
        """Take the columns from an object of JSON; whether there is one."""
        if (found := self._peek(row)) is None:
            return False
        self._sampled, text = found
        keys = self._object(text, self._sampled)
        self._separator, self._header, self._unnamed = None, True, set[int]()
        named = self.settings.target
        late = [name for name in ([named] if isinstance(named, str) else named or []) if name not in keys]
        self._names = [*keys, *late]  # a target may come with later lines alone
        self._sample: list[Cell] = [*keys.values(), *(None for _ in late)]
        return True

    def _cells_of(self, row: int) -> bool:
        """Take the columns from a row of CSV, and from the header where there is one; whether there is a row."""
        given = self.settings.header
        behind = None if given is False else self._peek(row + 1)
        if behind is None and row and self._header:
            return False
        lines = [line for line in (self._peek(row if given is False else 0), behind) if line is not None]
        if not lines:
            return False
        label_separator = self.settings.label_separator
        separator = named_separator(self.settings) or sniff_separator([text for _, text in lines], label_separator)
        self._separator = separator or ","
        rows = [self._cut(text, line) for line, text in lines]
        if given is None:
            words = not row and not any(map(is_number, rows[0]))
            given = not self.settings.columns and (sniff_header(rows) if len(rows) > 1 else words)
        self._header = given
        if given and behind is None:
            raise DataError(f"{self.name}: has a header ({listed(header_names(rows[0])[0])}) but no row.")
        body, at = rows[1:], behind
        if not given:
            if (at := self._peek(row)) is None:
                return False
            body = [self._cut(at[1], at[0])] if row else rows
        self._sampled = at[0] if at else 0
        place = f"{self.name}, line {self._sampled}"
        count, cells = fit_header(rows[0] if given else None, body)
        if len(cells) != count:
            raise RowError(
                f"{place}: {count} cells found, and the header names {len(cells)} columns (cells parted by "
                f"{spoken(self._separator)})."
            )
        self._names, self._unnamed = header_names(cells)
        if self.settings.columns:
            if len(self.settings.columns) != count:
                raise RowError(
                    f"{place}: data.columns gives {len(self.settings.columns)} names, but the row has {count} cells."
                )
            self._names, self._unnamed = list(self.settings.columns), set()
        elif not given:
            self._unnamed = set()
        self._sample = list(body[0])
        return True

    def _settled(self, kind: str, classes: Sequence[str]) -> Schema:
        """What each column is for, and what else is known from the start."""
        settings = self.settings
        left_out = [*settings.ignore, *([settings.reset] if settings.reset else [])]
        place = f"{self.name}, line {self._sampled}"
        table = self._table(place if kind == "jsonl" else self.name)
        asked = settings.model_copy(update={"ignore": left_out, "format": LONG.name, "per_step": True})
        try:
            if settings.reset:
                table.column(settings.reset, "reset")
            roles = long_roles(table, self.task, asked, following=True)
        except WordsError as error:
            raise RowError(f"{place}: {error.said}") from error
        except DataError as error:
            if kind == "csv" and (self._header or self.settings.header is False or self.settings.columns):
                raise  # names that no other row changes
            raise RowError(str(error)) from error
        looks_ahead = not roles.target
        names = self._names
        targets = [names[i] for i in roles.target] or [f"next {names[roles.features[0]]}"]
        known = self._classes(classes) if self.task == "classify" else []
        kept = settings.model_dump(include={"encoding"}, exclude_defaults=True)
        stream = {"lines": kind, "looks_ahead": looks_ahead, "reset": settings.reset}
        said = resolved(LONG.name, table, roles, settings)
        self._say(roles, targets, looks_ahead)
        return Schema(
            task=cast(Literal["classify", "regress"], self.task),
            format=LONG.name,
            input="numbers",
            features=[names[i] for i in roles.features],
            classes=known,
            multi_label=settings.label_separator is not None,
            targets=targets if self.task == "regress" else [],
            per_step=True,
            settings={**kept, **said, "target": targets, "per_step": True, "stream": stream},
        )

    def _table(self, name: str) -> Table:
        cells = [_shown(cell) for cell in self._sample]
        sample = pl.DataFrame([pl.Series(str(i), [cell or None], pl.String) for i, cell in enumerate(cells)])
        return Table(name, self._names, self._header, sample, iter(()), self._separator, ".", "line", self._unnamed)

    def _classes(self, classes: Sequence[str]) -> list[str]:
        if self.settings.classes is None:
            if not classes:
                raise DataError(
                    f"{self.name}: the labels that there are must be known before they come: "
                    """--set 'data.classes=["LABEL", "LABEL"]' names them"""
                )
            return list(classes)
        found = [str(label) for label in self.settings.classes]
        twice = next((a for a, b in pairwise(sorted(found)) if a == b), None)
        if twice is not None:
            raise DataError(f"data.classes: {twice!r} is there twice")
        if len(found) < 2 and not (found and self.settings.label_separator):
            raise DataError(f"data.classes: {len(found)} found, expected at least two")
        return sort_classes(found)

    def _say(self, roles: Roles, targets: Sequence[str], looks_ahead: bool) -> None:
        """Tell how the columns are taken, since a single line told of them."""
        names = self._names
        what = f"predicted is the {targets[0]!r}" if looks_ahead else f"predicted: {listed(targets)}"
        apart = [] if roles.id is None else [f"streams are told apart by {names[roles.id]!r}"]
        used = {*roles.features, *roles.target, roles.id}
        idle = [name for i, name in enumerate(names) if i not in used and name != self.settings.reset]
        rest = [f"not read: {listed(idle)}"] if idle else []
        self.notes.append("; ".join([f"input: {listed([names[i] for i in roles.features])}", what, *apart, *rest]))

    def _go_on(self) -> None:
        """Take up the columns of an earlier part of the stream; its header may come again, in whatever order."""
        stored = self.schema.settings
        lines = cast(Mapping[str, Any], stored["stream"])["lines"]
        self._names = [str(name) for name in cast(list[Any], stored["columns"])]
        self._separator = cast(str | None, stored["separator"])
        try:
            kind = self._kind(lines)
            if kind != lines:
                was, now = ("JSON Lines", "CSV") if kind == "csv" else ("CSV", "JSON Lines")
                raise DataError(
                    f"{self.name}, line {self._waiting[0][0]}: this is {now}, and the stream began as {was}."
                )
            line, text = self._peek(0) or (0, "")
            cells = [] if kind == "jsonl" else header_names(self._cut(text, line))[0]
        except RowError:
            if not self._skips:
                raise
            return
        if any(find_name(name, cells) is not None for name in self.schema.features):
            self._names = cells
            self._waiting.pop(0)

    def _places(self) -> None:
        """Where in a row each thing stands: positions, or in JSON Lines names."""
        stored = self.schema.settings
        stream = cast(Mapping[str, Any], stored["stream"])
        self._count = len(self._names)
        self._x = [self._place(name) for name in cast(list[str], stored["features"])]
        targets = [] if self.looks_ahead else cast(list[str], stored["target"])
        self._y = [self._place(name) for name in targets]
        self._id = self._place(stored["id"]) if stored["id"] is not None else None
        self._reset = self._place(stream["reset"]) if stream["reset"] is not None else None
        self._known = {label: (label,) for label in self.schema.classes}
        self._expected = {*self._names, *self.settings.ignore} if not self.settings.features else None
        self._decimal: str | None = "." if self._separator == "," else None
        self._found: Mapping[str, Cell] = {}  # what the present line says, in JSON Lines
        self._told = Table(self.name, self._names, True, pl.DataFrame(), iter(()))

    def _place(self, name: Any) -> int:
        found = find_name(str(name), self._names)
        if found is None:
            raise missing_column(self.name, str(name), self._names)
        return found

    # --- rows -------------------------------------------------------------------------------------------------------

    def _row(self, text: str) -> Row:
        """What a line says.

        Raises:
            DataError: What it may not.
        """
        cells = self._cells(text)
        features = [self._number(cells[i], i) for i in self._x]
        stream, reset = "", False
        if self._id is not None:
            stream = _shown(cells[self._id]).strip()
            if not stream:
                raise self._empty(self._id, "the id of a stream")
        if self._reset is not None:
            said = _shown(cells[self._reset]).strip().lower()
            if said not in (*YES, *NO):
                raise self._wrong(self._reset, f"found {short(said)!r}, expected 1 or 0.")
            reset = said in YES
        return Row(self._line, features, self._target(cells), stream, reset)

    def _cells(self, text: str) -> Sequence[Cell]:
        if not self._is_json:
            cells = self._cut(text, self._line)
            if len(cells) != self._count:
                assert self._separator is not None
                raise DataError(
                    f"{self._told.place(self._line)}: {len(cells)} cells found, {self._count} expected (cells parted "
                    f"by {spoken(self._separator)})."
                )
            return cells
        self._found = found = self._object(text, self._line)
        if self._expected is not None and not self._expected.issuperset(found):
            name = next(name for name in found if name not in self._expected)
            raise DataError(f"{self._told.place(self._line)}: {unknown('column', name, self._names)}")
        return [found.get(name) for name in self._names]

    def _cut(self, text: str, line: int) -> list[str]:
        """The cells of a line of CSV."""
        assert self._separator is not None
        if '"' not in text and self._separator != " ":
            return text.split(self._separator)
        try:
            rows = list(csv_rows(iter([text]), self._separator, line, self.name))
        except DataError as error:
            raise RowError(str(error)) from error
        return rows[0][1] if rows else [""]

    def _object(self, text: str, line: int) -> dict[str, Cell]:
        """The object of a line of JSON."""
        place = f"{self.name}, line {line}"
        try:
            found = _OBJECTS.decode(text)
        except json.JSONDecodeError as error:
            said = error.msg[:1].lower() + error.msg[1:]
            raise RowError(f"{place}: not JSON: {said} (character {error.pos + 1}).") from error
        except _TwiceError as error:
            raise RowError(f"{place}: the key {short(str(error))!r} is there twice.") from error
        except (
            ValueError,
            RecursionError,
        ) as error:  # a number of thousands of digits, brackets of thousands of levels
            raise RowError(f"{place}: JSON that cannot be read: {short(str(error), 80)}.") from error
        if not isinstance(found, dict):
            raise RowError(f"{place}: found {short(text.strip())!r}, expected a JSON object, a line each.")
        return found

    def _number(self, cell: Cell, column: int) -> float:
        """A cell as a number.

        Raises:
            DataError: It is none, or not a finite one.
        """
        value = float("nan")
        try:
            if isinstance(cell, str):
                value = self._written(cell)
            elif isinstance(cell, int | float) and not isinstance(cell, bool):
                value = float(cell)
        except (ValueError, OverflowError):
            pass
        if isfinite(value) and -LARGEST <= value <= LARGEST:
            return value
        if cell is None or (isinstance(cell, str) and not cell.strip()):
            raise self._empty(column, "a number")
        raise self._told.bad_number(_shown(cell), self._line, column)

    def _written(self, cell: str) -> float:
        """A number as written; the first with a point or a comma inside tells which of them parts the fraction."""
        if "_" in cell:  # which Python alone would read
            raise ValueError(cell)
        if self._decimal is None and ("," in cell or "." in cell):
            self._decimal = decimal_mark([[cell]], self._separator or "\t")
        if "," in cell and self._decimal == ",":
            cell = cell.replace(",", ".")
        return float(cell)

    def _target(self, cells: Sequence[Cell]) -> tuple[str, ...] | list[float] | None:
        found = [cells[i] for i in self._y]
        if self.task == "classify":
            return self._labels(found[0])
        given = [not (cell is None or (isinstance(cell, str) and not cell.strip())) for cell in found]
        if not any(given):
            return None
        return [self._number(cell, i) for cell, i in zip(found, self._y, strict=True)]

    def _labels(self, cell: Cell) -> tuple[str, ...] | None:
        """The labels of a line; None where nothing is said. With several at once, an empty cell is a set of none."""
        separator = self.settings.label_separator
        if isinstance(cell, str) and (known := self._known.get(cell)) is not None:
            return known
        if cell is None or (separator is None and _shown(cell).strip() == ""):
            return None
        if separator is not None:
            parts = (
                tuple(_shown(part) for part in cell)
                if isinstance(cell, list)
                else split_labels(_shown(cell), separator)
            )
        else:
            parts = (_shown(cell).strip(),)
        labels = tuple(part if part in self._known else shortest(part) for part in parts)
        for label in labels:
            if label not in self._known:
                raise self._wrong(self._y[0], unknown("label", short(label), self.schema.classes))
        return labels

    def _empty(self, column: int, expected: str) -> DataError:
        is_missing = self._is_json and self._names[column] not in self._found
        return self._wrong(column, f"is {'missing' if is_missing else 'empty'}, expected {expected}.")

    def _wrong(self, column: int, said: str) -> DataError:
        return DataError(f"{self._told.place(self._line)}, column {self._names[column]!r}: {said}")


@contextmanager
def open_lines(
    source: str | BinaryIO,
    task: str,
    settings: DataSettings,
    schema: Schema | None = None,
    classes: Sequence[str] = (),
) -> Iterator[Lines]:
    """The rows of a stream.

    Args:
        source: A file, a named pipe, "-" for standard input, or an open binary file. Packed files are unpacked.
        task: See `Lines`.
        settings: See `Lines`.
        schema: See `Lines`.
        classes: See `Lines`.

    Raises:
        DataError: It cannot be opened, holds no line, or the first ones do not settle the columns.
    """
    if isinstance(source, str) and source in MADE and not Path(source).exists():
        raise _no_lines(source)
    opened = sys.stdin.buffer if source == "-" else Path(source).expanduser() if isinstance(source, str) else source
    with open_binary(opened, pipes=True) as binary:
        yield Lines(binary, name_of(opened), task, settings, schema, classes)


def _no_lines(source: str) -> DataError:
    """The error for a source that needs no file, with the pipe that brings its rows."""
    made = MADE[source]
    target = f" --set data.target={list(next(made().rows())[0])[-1]}" if made.task == "regress" else ""
    return DataError(
        f"{source}: no such file; a stream is read from lines, and those of the source {source} come by a pipe: "
        f"recurra data {source} --output-format csv | recurra train {made.task} --stream{target}"
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose keys are all different."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(next(key for key in found if keys.count(key) > 1))
    return found


_OBJECTS = json.JSONDecoder(object_pairs_hook=_once)


def _shown(cell: Cell) -> str:
    """A cell as text: what a label, an id or a message shows of it."""
    if isinstance(cell, str):
        return cell
    if cell is None:
        return ""
    if isinstance(cell, float):
        return shortest(str(cell))
    return json.dumps(cell, ensure_ascii=False)


def _by_line(encoding: str) -> str:
    """The codec of an encoding whose lines end with the byte 10.

    Raises:
        DataError: There is none, or it has other line ends.
    """
    try:
        name = codecs.lookup(encoding).name
        ends_alike = "a\n".encode(name) == b"a\n"
    except (LookupError, TypeError):
        ends_alike = False
    if not ends_alike:
        raise DataError(
            f"data.encoding: {encoding!r} has no lines that end as those of a stream do; expected such as utf-8, "
            "latin-1."
        )
    return encoding
