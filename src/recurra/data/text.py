"""Texts as sequences of tokens: tables with a text and a label, fastText lines, folders by class, plain lines."""

import re
from array import array
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, TextIO

import numpy as np

from recurra.data.delimited import (
    ID_NAMES,
    LABEL_NAMES,
    TEXT_NAMES,
    WEAK_LABEL_NAMES,
    Columns,
    Table,
    columns_of,
    csv_rows,
    cut,
    find_name,
    is_parquet,
    listed,
    look,
    missing_column,
    named_separator,
    parquet_table,
    position,
    short,
    sniff_header,
    sniff_separator,
    spoken,
)
from recurra.data.numerals import is_number, shortest
from recurra.data.opening import first_lines, name_of, open_text
from recurra.data.records import Records, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.data.tokens import TokenArray
from recurra.errors import DataError

_FASTTEXT = "__label__"
_HEAD = 1000
_WORD = re.compile(r"[぀-ヿ㐀-鿿]|[^\W\d_]+")
_PROSE = 2.5
"""So many words has a cell that is a text rather than a name."""


def split_labels(cell: str, separator: str | None) -> tuple[str, ...]:
    """The label, or with `separator` the labels, that a cell holds."""
    if separator is None:
        return (cell,)
    return tuple(dict.fromkeys(part.strip() for part in cell.split(separator) if part.strip()))


def whole_number_labels(labels: list[tuple[str, ...]], schema: Schema | None) -> list[tuple[str, ...]]:
    """Labels as written, but `1.0` as `1`: the same class leaves different programs in both ways."""
    known = set(schema.classes) if schema else set()
    distinct = {label for row in labels for label in row}
    plain = {label: shortest(label) for label in distinct if label not in known and not label.isdecimal()}
    if all(label == other for label, other in plain.items()):
        return labels
    return [tuple(plain.get(label, label) for label in row) for row in labels]


def text_column(columns: Columns, settings: DataSettings) -> int | None:
    """Which column of a table holds a text: as named, else by its name or content; None where none does."""
    if settings.text is not None:
        return position(settings.text, columns.names)
    if columns.nested or settings.features:
        return None
    targets = [settings.target] if isinstance(settings.target, str) else settings.target or []
    wanted = [*targets, *settings.ignore, *([settings.id] if settings.id else [])]
    left_out = {position(name, columns.names) for name in wanted}
    if columns.header:
        left_out.update(i for i, name in enumerate(columns.names) if name.strip().lower() in LABEL_NAMES)
    among = [
        i
        for i in range(columns.width)
        if i not in left_out and not (columns.numeric(i) or columns.blank(i) or columns.dates(i))
    ]
    if not among or columns.width < 2:
        return None
    row_names = {i for i in range(columns.width) if columns.header and _is_row_name(columns.names[i])}
    named = [
        i for i in among if (columns.header or settings.columns) and columns.names[i].strip().lower() in TEXT_NAMES
    ]
    prose = [i for i in among if _words(columns, i) >= _PROSE]
    numeric = [i for i in range(columns.width) if columns.numeric(i) and not columns.blank(i) and i not in row_names]
    if prose or (named and len(numeric) < 3):
        return max([i for i in named if i in prose] or prose or named, key=lambda i: _length(columns, i))
    # texts of one word each, such as names or molecules, beside a label
    others = [i for i in range(columns.width) if not columns.blank(i) and (columns.width == 2 or i not in row_names)]
    single = [i for i in among if i in others and len(others) > 1]
    if len(numeric) > 1 or len(others) > 3:
        return None
    most = max((columns.distinct(i) for i in single), default=0)
    found = [i for i in single if columns.distinct(i) > columns.height / 2]
    if columns.width == 2 and not numeric and min(map(columns.distinct, others)) < most:
        found = [i for i in single if columns.distinct(i) == most]
    if any(columns.distinct(i) < most for i in others) or numeric:
        return max(found, key=lambda i: _length(columns, i), default=None)
    return None


def holds_prose(columns: Columns, settings: DataSettings) -> bool:
    """Whether a column is named as the text, or has cells of several words."""
    found = text_column(columns, settings)
    return found is not None and (settings.text is not None or _words(columns, found) >= _PROSE)


def check_classes(distinct: Collection[str], rows: int, where: str) -> None:
    """Refuse labels that are measurements: fractions, most of them different.

    Raises:
        DataError: They are; the task that predicts numbers is named.
    """
    if len(distinct) <= 20 or 2 * len(distinct) <= rows:
        return
    if all(map(is_number, distinct)) and not all(float(cell).is_integer() for cell in distinct):
        raise DataError(
            f"{where} holds {len(distinct)} different numbers in {rows} rows, which are no classes; numbers are "
            f"predicted by the task regress (recurra train regress, recurra data --task regress)."
        )


def _is_row_name(name: str) -> bool:
    return name.strip().lower() in ID_NAMES or name.strip().lower().startswith("unnamed:")


def _words(columns: Columns, i: int) -> float:
    cells = [cell for cell in columns.cells(i)[:200] if cell]
    return sum(len(_WORD.findall(cell)) for cell in cells) / max(1, len(cells))


def _length(columns: Columns, i: int) -> float:
    return sum(map(len, columns.cells(i)))


@dataclass
class _Layout:
    """How the lines of a file become rows.

    Attributes:
        kind: "table", "fasttext" or "lines" (a text each, no label).
        names: table: the columns.
        text: table: the column that holds the text.
        target: table: the columns to predict; empty where there are none.
        candidates: table: where no target is named, the columns of which one is chosen once all rows are read.
    """

    kind: str
    separator: str = "\t"
    quoted: bool = False
    header: bool = False
    names: list[str] = field(default_factory=list)
    text: int = 0
    target: list[int] = field(default_factory=list)
    candidates: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def settings(self, label_separator: str | None) -> dict[str, object]:
        if self.kind != "table":
            return {"format": LABELLED.name, "layout": self.kind, "label_separator": label_separator}
        return {
            "format": LABELLED.name,
            "layout": self.kind,
            "separator": self.separator,
            "header": self.header,
            "columns": self.names,
            "text": self.names[self.text],
            "target": [self.names[i] for i in self.target],
            "label_separator": label_separator,
        }


class _Reading:
    """Rows gathered into records: tokens into one array, labels into codes."""

    def __init__(self, layout: _Layout, task: str, settings: DataSettings, schema: Schema | None, name: str, unit: str):
        self.layout, self.task, self.schema, self.name, self.unit = layout, task, schema, name, unit
        self.label_separator = settings.label_separator
        self.tokens = TokenArray(settings.unit, settings.lowercase)
        self.lines = array("q")
        self.cells = {i: _Cells() for i in layout.target or layout.candidates}
        self.labels: list[tuple[str, ...]] = []  # fastText

    def place(self, line: int) -> str:
        return f"{self.name}, {self.unit} {line}"

    def add(self, line: int, text: str) -> None:
        if not self.tokens.add(text):
            raise DataError(f"{self.place(line)}: the text is empty; every sequence needs at least one token.")
        self.lines.append(line)

    def records(self) -> Records:
        if not self.lines:
            raise DataError(f"{self.name}: has no text.")
        layout, lines = self.layout, self.lines
        records = Records(
            self.tokens.values,
            self.tokens.offsets,
            lambda index: self.place(lines[index]),
            symbols=self.tokens.symbols,
            multi_label=self.schema.multi_label if self.schema else self.label_separator is not None,
            warnings=layout.warnings,
        )
        if layout.kind == "fasttext":
            self._fasttext(records)
        elif layout.kind == "table":
            if layout.candidates:
                layout.target = [self._chosen()]
            if self.task == "classify":
                self._classify(records)
            else:
                self._regress(records)
        if not self.schema and len(self.tokens) == len(records.values):
            records.warnings.append(
                f"{self.name}: every text is one word alone; --set data.unit=character cuts it into characters."
            )
        records.settings = dict(self.schema.settings) if self.schema else layout.settings(self.label_separator)
        return records

    def _fasttext(self, records: Records) -> None:
        if self.task != "classify":
            raise DataError(f"{self.name}: holds {_FASTTEXT}… labels; {self.task} needs numbers to predict.")
        several = any(len(labels) != 1 for labels in self.labels)
        if self.schema is None:
            records.multi_label = records.multi_label or several
        if several and not records.multi_label:
            odd = next(i for i, labels in enumerate(self.labels) if len(labels) != 1)
            raise DataError(
                f"{records.place(odd)}: has {len(self.labels[odd])} labels; the training data have one each."
            )
        records.labels = whole_number_labels(self.labels, self.schema)

    def _chosen(self) -> int:
        """The label's column where none is named: the one with the fewest values, two at least."""
        names, rows = self.layout.names, len(self.lines)
        counts = {i: len(cells.numbering) for i, cells in self.cells.items()}
        fitting = [i for i, count in counts.items() if 2 <= count <= rows / 2 and "" not in self.cells[i].numbering]
        if len(counts) == 1:
            return next(iter(counts))
        fewest = [i for i in fitting if counts[i] == min(counts[other] for other in fitting)]
        if len(fewest) != 1:
            raise _unclear(self.name, names, list(counts))
        if len(fitting) > 1:
            others = ", ".join(f"{names[i]!r} has {counts[i]}" for i in fitting if i != fewest[0])
            self.layout.warnings.append(
                f"{self.name}: the label is taken from {names[fewest[0]]!r}, which has {counts[fewest[0]]} values; "
                f"{others}. Another is named by --set data.target=NAME."
            )
        return fewest[0]

    def _classify(self, records: Records) -> None:
        if not self.layout.target:
            return
        cells = self.cells[self.layout.target[0]]
        blank = cells.numbering.get("")
        if self.schema and len(cells.numbering) == 1 and blank is not None:
            return
        if blank is not None and self.label_separator is None:
            column = self.layout.names[self.layout.target[0]]
            line = self.lines[cells.codes.index(blank)]
            raise DataError(f"{self.place(line)}, column {column!r}: the label is empty; every text needs one.")
        if self.schema is None:
            check_classes(
                cells.numbering, len(cells.codes), f"{self.name}: column {self.layout.names[self.layout.target[0]]!r}"
            )
        kinds = whole_number_labels([split_labels(cell, self.label_separator) for cell in cells.numbering], self.schema)
        records.labels = [kinds[code] for code in cells.codes]

    def _regress(self, records: Records) -> None:
        layout = self.layout
        if not layout.target:
            return
        if self.schema and all(not any(self.cells[i].numbering) for i in layout.target):
            return
        columns = []
        for i in layout.target:
            cells = self.cells[i]
            numbers = []
            for code, cell in enumerate(cells.numbering):
                if not is_number(cell) or not np.isfinite(float(cell)):
                    line = self.lines[cells.codes.index(code)]
                    found = repr(short(cell)) if cell else "nothing"
                    raise DataError(
                        f"{self.place(line)}, column {layout.names[i]!r}: found {found}, expected a finite number."
                    )
                numbers.append(float(cell))
            columns.append(np.array(numbers)[np.frombuffer(cells.codes, np.int32)])
        records.numbers = np.stack(columns, axis=1)
        records.targets = [layout.names[i] for i in layout.target]


class _Cells:
    """A column's cells, each distinct one held once."""

    def __init__(self):
        self.numbering: dict[str, int] = {}
        self.codes = array("i")

    def add(self, cell: str) -> None:
        self.codes.append(self.numbering.setdefault(cell, len(self.numbering)))


def _unclear(name: str, names: Sequence[str], among: Sequence[int]) -> DataError:
    return DataError(
        f"{name}: no column is clearly the one to predict. Columns: {listed(names)}. "
        f"Name it: --set data.target={names[among[0]] if among else 'NAME'}"
    )


class LabelledText:
    """A table with a column of texts and one of labels, or fastText lines `__label__x text`."""

    name = "labelled-text"
    summary = "texts with a label: CSV, TSV or Parquet with a column each, or fastText's '__label__x text' lines"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether a column holds texts, or lines start with fastText's mark."""
        if not path.is_file():
            return False
        lines = first_lines(path, 20, settings.encoding)
        if lines and all(line.startswith(_FASTTEXT) for line in lines if line.strip()):
            return True
        columns = look(path, settings)
        return columns is not None and text_column(columns, settings) is not None

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read everything, see `Format.read`.

        With `schema`, a file need not have the labels: where its lines have neither the training data's header
        nor their number of cells (with labels that are known, unless tabs part them), each line is one text.
        """
        if isinstance(source, Path):
            if source.is_dir() and schema:
                return FOLDER.read(source, task, settings, schema)
            if is_parquet(source):
                return read_text_table(parquet_table(source), task, settings, schema)
        name = name_of(source)
        with open_text(source, settings.encoding, newline="\n") as stream:
            return _read_lines(stream, name, task, settings, schema)


def _read_lines(stream: TextIO, name: str, task: str, settings: DataSettings, schema: Schema | None) -> Records:
    head = list(islice(stream, _HEAD))
    if any("\0" in line for line in head[:10]):
        raise DataError(f"{name}: is not a text file.")
    if not any(line.strip() for line in head):
        raise DataError(f"{name}: has no text; its lines are blank.")
    layout = _trained_layout(head, settings, schema) if schema else _settle(head, name, task, settings)
    if schema and layout.kind == "lines" and schema.settings.get("layout") == "table":
        separator = str(schema.settings.get("separator") or ",")
        if len({line.count(separator) for line in head if line.strip()} - {0}) == 1:
            layout.warnings.append(
                f"{name}: has no column {str(schema.settings.get('text'))!r}, as the training data; each line is read "
                "as a text."
            )
    reading = _Reading(layout, task, settings, schema, name, "line")
    lines = chain(head, stream)
    del head
    if layout.kind == "lines":
        _add_plain(reading, lines)
    elif layout.kind == "fasttext":
        _add_fasttext(reading, lines)
    else:
        _add_rows(reading, lines)
    return reading.records()


def _add_plain(reading: _Reading, lines: Iterable[str]) -> None:
    """Every line a text; a blank one in between is a fault, as the results are told apart by their lines."""
    blank = None
    for line, text in enumerate(lines, 1):
        if not text.strip():
            blank = blank or line
            continue
        if blank is not None:
            raise DataError(f"{reading.place(blank)}: the text is empty; every sequence needs at least one token.")
        reading.add(line, text.rstrip("\r\n"))


def _add_fasttext(reading: _Reading, lines: Iterable[str]) -> None:
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        labels: list[str] = []
        rest = text.strip()
        while rest.startswith(_FASTTEXT):
            label, _, rest = rest.partition(" ") if " " in rest else (rest, "", "")
            labels.append(label[len(_FASTTEXT) :])
            rest = rest.lstrip()
        if not all(labels) or not labels:
            raise DataError(f"{reading.place(line)}: found {short(text.strip())!r}, expected '{_FASTTEXT}x text'.")
        reading.add(line, rest)
        reading.labels.append(tuple(dict.fromkeys(labels)))


def _rows(layout: _Layout, lines: Iterable[str], name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a table without its header, each with its line and as many cells as there are columns."""
    count = len(layout.names)
    if layout.quoted:
        rows = csv_rows(iter(lines), layout.separator, 1, name)
    else:
        most = count - 1 if layout.text == count - 1 else -1  # a text at the end may hold the separator
        rows = (
            (line, text.rstrip("\r\n").split(layout.separator, most))
            for line, text in enumerate(lines, 1)
            if text.strip()
        )
    if layout.header:
        next(rows, None)
    for line, row in rows:
        if len(row) != count:
            row = row[:count] if len(row) > count and not any(cell.strip() for cell in row[count:]) else row
        if len(row) != count:
            hint = "; a text that holds one is put in quotes" if layout.quoted and len(row) > count else ""
            raise DataError(
                f"{name}, line {line}: {len(row)} cells found, {count} expected (cells parted by "
                f"{spoken(layout.separator)}{hint})."
            )
        yield line, row


def _add_rows(reading: _Reading, lines: Iterable[str]) -> None:
    text = reading.layout.text
    cells = list(reading.cells.items())
    for line, row in _rows(reading.layout, lines, reading.name):
        reading.add(line, row[text])
        for i, column in cells:
            column.add(row[i].strip())


def read_text_table(table: Table, task: str, settings: DataSettings, schema: Schema | None) -> Records:
    """Read the texts of a dataframe or a Parquet file.

    Raises:
        DataError: Anything that is not as it should be, with its row.
    """
    if schema:
        names = [str(name) for name in _listed(schema.settings.get("target"))]
        wanted = str(schema.settings.get("text", "text"))
        text = find_name(wanted, table.names)
        if text is None:
            raise missing_column(table.name, wanted, table.names)
        found = [find_name(name, table.names) for name in names]
        layout = _Layout("table", names=table.names, header=True, text=text)
        layout.target = [] if None in found else [i for i in found if i is not None]
        settings = _as_trained(settings, schema)
    else:
        layout = _assign(Columns(table.names, table.sample, header=True), table.name, task, settings)
        layout.header = True
    reading = _Reading(layout, task, settings, schema, table.name, table.unit)
    for block in table.blocks():
        columns = [table.strings(block, i) for i in reading.cells]
        for line, text in zip(block.lines.tolist(), table.strings(block, layout.text), strict=True):
            reading.add(line, text)
        for cells, column in zip(reading.cells.values(), columns, strict=True):
            for cell in column:
                cells.add(cell)
    return reading.records()


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _as_trained(settings: DataSettings, schema: Schema) -> DataSettings:
    return settings.model_copy(update={"label_separator": schema.settings.get("label_separator")})


def _settle(head: Sequence[str], name: str, task: str, settings: DataSettings) -> _Layout:
    """The layout of training data."""
    if all(line.startswith(_FASTTEXT) for line in head if line.strip()):
        return _Layout("fasttext")
    separator = named_separator(settings) or sniff_separator(head[:200], settings.label_separator)
    if separator is None:
        raise DataError(
            f"{name}: every line is one text without a label; expected a label beside it, parted by a tab or comma."
        )
    quoted = separator != "\t"
    rows = cut(head, separator, quoted)
    header = settings.header if settings.header is not None else not settings.columns and sniff_header(rows)
    columns = columns_of(rows, header, settings)
    layout = _assign(columns, name, task, settings)
    layout.separator, layout.quoted, layout.header = separator, quoted, bool(header)
    return layout


def _assign(columns: Columns, name: str, task: str, settings: DataSettings) -> _Layout:
    """What each column is for."""
    for setting in ("text", "target", "ignore"):
        value = getattr(settings, setting)
        for wanted in [value] if isinstance(value, str) else value or []:
            if position(wanted, columns.names) is None:
                raise missing_column(name, wanted, columns.names, setting)
    text = text_column(columns, settings)
    if text is None:
        raise DataError(
            f"{name}: no column clearly holds the text. Columns: {listed(columns.names)}. "
            f"Name it: --set data.text={columns.names[-1]}"
        )
    layout = _Layout("table", names=columns.names, text=text)
    targets = [settings.target] if isinstance(settings.target, str) else settings.target or []
    if targets:
        layout.target = [i for target in targets if (i := position(target, columns.names)) is not None]
        if text in layout.target:
            raise DataError(f"{name}: {columns.names[text]!r} is both the text and the target.")
        if task == "classify" and len(targets) > 1:
            raise DataError(f"{name}: data.target names {len(targets)} columns, but classify has one.")
        return layout
    ignored = {position(wanted, columns.names) for wanted in settings.ignore}
    among = [i for i in range(columns.width) if i != text and i not in ignored and not columns.blank(i)]
    if columns.header or settings.columns:
        for known in (LABEL_NAMES, WEAK_LABEL_NAMES):
            named = [i for i in among if columns.names[i].strip().lower() in known]
            if len(named) > 1:
                raise _unclear(name, columns.names, named)
            if named:
                layout.target = named
                return layout
        nameless = columns.names[0] == "column_1" and columns.distinct(0) == columns.height  # pandas' index
        among = [i for i in among if not (_is_row_name(columns.names[i]) or (i == 0 and nameless))] or among
    if task == "regress":
        among = [i for i in among if columns.numeric(i)]
    if not among or (task == "regress" and len(among) > 1):
        raise _unclear(name, columns.names, among)
    if len(among) == 1:
        layout.target = among
    else:
        layout.candidates = among
    return layout


def _trained_layout(head: Sequence[str], settings: DataSettings, schema: Schema) -> _Layout:
    """The layout of further data, by the training data's: a table like theirs, or plain lines."""
    stored = schema.settings
    if all(line.startswith(_FASTTEXT) for line in head if line.strip()):
        return _Layout("fasttext")
    if stored.get("layout") != "table":
        return _Layout("lines")
    names = [str(name) for name in _listed(stored.get("columns"))]
    target = [str(name) for name in _listed(stored.get("target"))]
    text = str(stored.get("text"))
    trained = str(stored.get("separator") or ",")
    for separator in dict.fromkeys([trained, sniff_separator(head[:200]) or trained]):
        quoted = separator != "\t"
        rows = cut(head, separator, quoted)
        if not rows:
            continue
        if stored.get("header") and find_name(text, rows[0]) is not None:
            return _placed(_Layout("table", separator, quoted, True, [cell.strip() for cell in rows[0]]), text, target)
        for columns in (names, [name for name in names if name not in target]):
            layout = _placed(_Layout("table", separator, quoted, False, columns), text, target)
            if len(columns) > 1 and _fits(rows, layout, schema):
                return layout
    return _Layout("lines")


def _placed(layout: _Layout, text: str, target: Sequence[str]) -> _Layout:
    found = find_name(text, layout.names)
    layout.text = 0 if found is None else found
    targets = [find_name(name, layout.names) for name in target]
    layout.target = [] if None in targets else [i for i in targets if i is not None]
    return layout


def _fits(rows: Sequence[Sequence[str]], layout: _Layout, schema: Schema) -> bool:
    """Whether rows can be the training data's columns, rather than plain texts that hold some separators."""
    count = len(layout.names)
    open_ended = not layout.quoted and layout.text == count - 1
    alike = [row for row in rows if len(row) == count or (open_ended and len(row) > count)]
    if len(alike) < 0.9 * len(rows):
        return False
    if layout.separator == "\t":
        return True
    if not layout.target:
        return False
    cells = [row[i].strip() for row in alike for i in layout.target]
    if schema.task == "regress":
        known = sum(map(is_number, cells))
    else:
        separator = schema.settings.get("label_separator")
        parts = [split_labels(cell, str(separator) if separator else None) for cell in cells]
        known = sum(bool({*part, *map(shortest, part)} & set(schema.classes)) for part in parts)
    return known >= len(cells) / 2


class TextFolder:
    """A folder of text files by class: a file a sample, or a line a sample.

    `CLASS/any.txt` with several files in the class folders holds a file a sample; `CLASS.txt`, or class folders
    with one file each (or two or three long ones), a line a sample. `data.lines` names it where that guess is
    wrong.
    """

    name = "text-folder"
    summary = (
        "a folder of texts by class: CLASS/*.txt with a file or a line a sample, or CLASS.txt with a line a sample"
    )

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether a folder has text files for two classes or more."""
        if not path.is_dir() or task != "classify":
            return False
        classes = _classes(path, settings)
        return len(classes) >= 2 and all(_is_text(files[0], settings) for files in classes.values())

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read everything, see `Format.read`.

        With `schema`, a file or an open stream holds a text a line, and a folder without class folders texts
        without labels.
        """
        if not isinstance(source, Path) or source.is_file():
            if schema:
                return LABELLED.read(source, task, settings, schema)
            raise DataError(f"{name_of(source)}: is not a folder; expected one with a folder or file for each class.")
        if task != "classify":
            raise DataError(f"{source}: a folder of texts has classes, not numbers; expected the task classify.")
        return _read_folder(source, settings, schema)


def _text_files(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _classes(folder: Path, settings: DataSettings) -> dict[str, list[Path]]:
    """The files of each class: of its folder, or the one with its name."""
    entries = [
        entry
        for entry in sorted(folder.iterdir())
        if not entry.name.startswith(".") and entry.name not in settings.ignore
    ]
    found = {entry.name: files for entry in entries if entry.is_dir() and (files := _text_files(entry))}
    if found:
        return found
    files = [entry for entry in entries if entry.is_file() and re.search(r"\.(txt|text)(\.(gz|bz2|xz))?$", entry.name)]
    return {_class_name(entry): [entry] for entry in files}


def _class_name(path: Path) -> str:
    return re.sub(r"\.(txt|text)(\.(gz|bz2|xz))?$", "", path.name)


def _is_text(path: Path, settings: DataSettings) -> bool:
    return bool(first_lines(path, 1, settings.encoding))


def _by_line(classes: dict[str, list[Path]], settings: DataSettings) -> bool:
    """Whether a sample is a line rather than a file."""
    if settings.lines is not None:
        return settings.lines == "lines"
    most = max(len(files) for files in classes.values())
    if most > 3:
        return False
    if most == 1:
        return True
    return all(len(first_lines(files[0], 20, settings.encoding)) == 20 for files in classes.values())


def _read_folder(folder: Path, settings: DataSettings, schema: Schema | None) -> Records:
    classes = _classes(folder, settings)
    if not classes:
        raise DataError(f"{folder}: has no text files; expected a folder, or a .txt file, for each class.")
    labelled = True
    if schema:
        settings = settings.model_copy(update={"lines": schema.settings.get("lines", "files")})
        if not any(name in schema.classes for name in classes):
            labelled = any(entry.is_dir() for entry in folder.iterdir() if entry.name in classes)
    by_line = _by_line(classes, settings)
    tokens = TokenArray(settings.unit, settings.lowercase)
    labels: list[tuple[str, ...]] = []
    ids: list[str] = []
    files: list[Path] = []
    lines = array("q")
    for label, paths in classes.items():
        mark = (label,)
        for path in paths:
            with open_text(path, settings.encoding, newline="\n") as stream:
                texts = enumerate(stream, 1) if by_line else [(0, stream.read())]
                for line, text in texts:
                    if by_line and not text.strip():
                        continue
                    if not tokens.add(text.rstrip("\r\n")):
                        where = f"{path}, line {line}" if by_line else str(path)
                        raise DataError(f"{where}: the text is empty; every sequence needs at least one token.")
                    labels.append(mark)
                    files.append(path)
                    lines.append(line)
                    ids.append(f"{path.relative_to(folder)}:{line}" if by_line else str(path.relative_to(folder)))
    if not labels:
        raise DataError(f"{folder}: its text files hold no text.")

    def place(index: int) -> str:
        return f"{files[index]}, line {lines[index]}" if by_line else f"{files[index]}, line 1"

    return Records(
        tokens.values,
        tokens.offsets,
        place,
        symbols=tokens.symbols,
        labels=labels if labelled else None,
        ids=ids,
        settings=dict(schema.settings)
        if schema
        else {"format": FOLDER.name, "layout": "lines", "lines": "lines" if by_line else "files"},
    )


FOLDER = register(TextFolder())
LABELLED = register(LabelledText())
