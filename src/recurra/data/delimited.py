"""Tables cut into cells, block by block, with the line of every row known: the ground under the table formats.

A delimited file is read in blocks of some megabytes. While a file holds no quotes, polars cuts a block into
columns and NumPy counts the separators of its lines; from the first quote on, the `csv` module does, as a quoted
cell may hold separators and line ends. Either way each row keeps the number of its line, so that a bad cell is
told by file, line and column.
"""

import csv
import io
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import polars as pl

from recurra.data import numerals
from recurra.data.opening import first_bytes, first_lines, name_of, open_binary, open_text
from recurra.data.settings import DataSettings
from recurra.errors import DataError, nearest

SEPARATORS = "\t;|,"
"""What is tried, in this order, where no separator is named."""

_BLOCK = 1 << 21
_SAMPLE = 1000
_NAMED_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " "}
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:e[+-]?\d+)?", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d|\d{1,4}[/.-]\d{1,2}[/.-]\d{1,4}")
_WHOLE_DATE = re.compile(r"(?:\d{4}-\d\d|\d{1,4}([/.-])\d{1,2}\1\d{1,4})(?:[ T]\d\d?:\d\d(?::\d\d)?)?")
_GROUPED = re.compile(r"[+-]?\d{1,3}([ \u00a0\u202f\u2009'\u2019.,])\d{3}(?:\1\d{3})*(?:(?!\1)[.,]\d+)?")
_SIGNED = re.compile(r"[+-]?[$€£¥]?\s?\(?[+-]?[\d.,' \u00a0\u202f\u2019]*\d\)?\s?[%$€£¥]?")
_JSON = re.compile(r"\s*(?:\{\s*\"[^\"]*\"\s*:|\[\s*[\[{])")
_MISSING_MARKS = {"na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", "missing"}

LABEL_NAMES = (
    *("label", "labels", "class", "classes", "target", "category", "klass", "sentiment", "species"),
    *("标签", "类别", "分类"),
)
"""Names of a column to predict; `WEAK_LABEL_NAMES` where there is none of these."""
WEAK_LABEL_NAMES = ("y", "outcome", "output", "response", "result", "type", "kind", "tag", "topic", "score", "rating")
TEXT_NAMES = (
    *("text", "sentence", "review", "content", "comment", "message", "tweet", "document", "body", "utterance"),
    *("question", "title", "sms", "description", "headline", "sequence", "phrase", "abstract"),
    *("文本", "内容", "句子", "评论"),
)
"""Names of a column that holds a text."""
ID_NAMES = ("id", "index", "name", "filename", "file", "key", "uid", "uuid", "idx", "path")


class Growing:
    """A flat array that grows in place as blocks are added, so that large data are not held twice."""

    def __init__(self, kind: str):
        self._array = array(kind)

    def __len__(self) -> int:
        return len(self._array)

    def extend(self, values: np.ndarray) -> None:
        """Add values (flattened row by row)."""
        self._array.frombytes(np.ascontiguousarray(values, dtype=self._array.typecode).reshape(-1).view(np.uint8).data)

    def numpy(self) -> np.ndarray:
        """All values as a view, after which nothing can be added."""
        return np.frombuffer(self._array, self._array.typecode) if self._array else np.empty(0, self._array.typecode)


@dataclass
class Block:
    """Some rows of a table.

    Attributes:
        frame: A column for each of the table's, in its order; strings (null where empty) or typed columns.
        lines: The line (or row) of each, from 1.
    """

    frame: pl.DataFrame
    lines: np.ndarray


@dataclass
class Table:
    """A table open for reading.

    Attributes:
        name: How messages call it.
        names: A name for each column.
        header: Whether these names stand in the file.
        sample: The first rows, to know the columns by.
        separator: What stands between cells; None where the file has typed columns.
        decimal: What stands between a number's whole part and its fraction.
        unit: What `Block.lines` counts.
        unnamed: The columns to which the header gives no name.
    """

    name: str
    names: list[str]
    header: bool
    sample: pl.DataFrame
    _blocks: Iterator[Block]
    separator: str | None = None
    decimal: str = "."
    unit: str = "line"
    unnamed: set[int] = field(default_factory=set)

    def blocks(self) -> Iterator[Block]:
        """All rows, once."""
        return self._blocks

    def place(self, line: int) -> str:
        """How messages call one row."""
        return f"{self.name}, {self.unit} {line}"

    def column(self, wanted: str, setting: str) -> int:
        """The position of a column named by `setting`.

        Raises:
            DataError: There is no such column; the nearest is offered.
        """
        found = position(wanted, self.names)
        if found is None:
            raise missing_column(self.name, wanted, self.names, setting)
        return found

    def numbers(self, block: Block, columns: Sequence[int]) -> np.ndarray:
        """Some columns as numbers.

        Returns:
            (rows, len(columns)) float64, NaN where a cell is empty.

        Raises:
            DataError: A cell that is not a finite number, with its line and column.
        """
        frame = block.frame[:, list(columns)]
        cast = frame.select(_as_float(column, self.decimal) for column in frame.iter_columns())
        values = cast.to_numpy()
        wrong = ~np.isfinite(values)
        if wrong.any():
            wrong &= ~empty(frame, nan=self.unit == "row")
        largest = np.finfo(np.float32).max
        wrong |= (values > largest) | (values < -largest)
        if wrong.any():
            row, column = np.argwhere(wrong)[0].tolist()
            raise self.bad_number(frame[row, column], int(block.lines[row]), columns[column])
        return values

    def check_blank(self, block: Block, columns: Sequence[int]) -> None:
        """Raise where a column that the first rows leave empty, and that has no name, holds something."""
        for column in columns:
            cells = self.strings(block, column)
            row = next((row for row, cell in enumerate(cells) if cell), None)
            if row is not None:
                raise DataError(
                    f"{self.place(int(block.lines[row]))}, column {column + 1}: found {short(cells[row])!r}, expected "
                    f"nothing: the column has no name, and is empty in the rows before."
                )

    def bad_number(self, cell: Any, line: int, column: int) -> DataError:
        """The error for a cell that is no number, by its line and the position of its column."""
        shown = cell if isinstance(cell, str) else str(cell)
        expected = "a number"
        if shown.strip().lower() in _MISSING_MARKS:
            expected = "a finite number (a missing value? fill it in, or leave the row out)"
        elif numerals.is_number(shown) and self.decimal == "," and "." in shown:
            grouped = _GROUPED.fullmatch(shown.strip()) is not None
            expected = "a number with a decimal comma, as in other cells" + (f", {_NO_GROUPS}" if grouped else "")
        elif numerals.is_number(shown):
            expected = "a finite number that fits 32 bits"
        elif (other := written_otherwise(shown)) is not None:
            expected = f"a number {other}"
        elif _DECIMAL_COMMA.fullmatch(shown.strip()):
            expected = "a number with a decimal point, as in other cells"
        return DataError(
            f"{self.place(line)}, column {self.names[column]!r}: found {short(shown)!r}, expected {expected}."
        )

    def strings(self, block: Block, column: int) -> list[str]:
        """One column as written, without the blanks around; "" where a cell is empty."""
        return as_strings(block.frame.to_series(column))


class Columns:
    """What a table's first rows tell of its columns."""

    def __init__(self, names: Sequence[str], frame: pl.DataFrame, header: bool):
        self.names = list(names)
        self.header = header
        self._frame = frame
        self._cells: dict[int, list[str]] = {}

    @property
    def width(self) -> int:
        """The number of columns."""
        return self._frame.width

    @property
    def height(self) -> int:
        """The number of rows seen."""
        return self._frame.height

    def cells(self, i: int) -> list[str]:
        """Column `i` as written, "" where empty."""
        if i not in self._cells:
            self._cells[i] = as_strings(self._frame.to_series(i))
        return self._cells[i]

    def numeric(self, i: int) -> bool:
        """Whether most of the cells that are not empty are numbers; a faulty one is told of on reading."""
        column = self._frame.to_series(i)
        if column.dtype != pl.String:
            inner = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else column.dtype
            return inner is not None and inner.is_numeric()
        filled = [cell for cell in self.cells(i) if cell]
        return bool(filled) and sum(map(is_number, filled)) >= len(filled) / 2

    @property
    def nested(self) -> bool:
        """Whether a column holds lists."""
        return any(dtype.is_nested() for dtype in self._frame.dtypes)

    def blank(self, i: int) -> bool:
        """Whether all cells are empty."""
        return not any(self.cells(i))

    def distinct(self, i: int) -> int:
        """How many different cells there are."""
        return len(set(self.cells(i)))

    def floats(self, i: int) -> np.ndarray:
        """The numbers of a numeric column, NaN where a cell is none."""
        cells = [cell.replace(",", ".") for cell in self.cells(i)]
        return np.array([float(cell) if is_number(cell) else np.nan for cell in cells])

    def dates(self, i: int) -> bool:
        """Whether the first cell that is not empty looks like a date."""
        if self._frame.dtypes[i].is_temporal():
            return True
        cell = next((cell for cell in self.cells(i) if cell), "")
        return _DATE.match(cell) is not None

    def constant_within(self, i: int, series: int) -> bool:
        """Whether column `i` has one value for each value of column `series`."""
        return not self.varies_within(i, series)

    def varies_within(self, i: int, series: int) -> int:
        """Within how many of the values of column `series` column `i` has several."""
        pairs = set(zip(self.cells(series), self.cells(i), strict=True))
        return sum(count > 1 for count in Counter(value for value, _ in pairs).values())


def look(path: Path, settings: DataSettings) -> Columns | None:
    """The first rows of a file as a table, whatever faults it has further on; None where it is none.

    Reads little, raises nothing.
    """
    try:
        if not path.is_file():
            return None
        if is_parquet(path):
            frame = pl.scan_parquet(path).head(_SAMPLE).collect()
            return Columns(frame.columns, frame, header=True) if frame.height else None
        lines = first_lines(path, 200, settings.encoding)
    except (DataError, OSError, pl.exceptions.PolarsError):
        return None
    separator = _named(settings.separator) or sniff_separator(lines, settings.label_separator)
    rows = cut(lines, separator, not _plain_quotes(lines, separator)) if separator else []
    if not rows:
        return None
    header = settings.header if settings.header is not None else not settings.columns and sniff_header(rows)
    return columns_of(rows, header, settings)


def columns_of(rows: Sequence[Sequence[str]], header: bool, settings: DataSettings) -> Columns:
    """What rows cut from a text tell of their columns; faulty rows are passed over, as reading will tell of them."""
    body = rows[1:] if header else rows
    width, first = fit_header(rows[0] if header else None, body)
    names = settings.columns or header_names(first)[0]
    names = [*names, *(f"column_{i + 1}" for i in range(len(names), width))][:width]
    padded = [[*row[:width], *[""] * (width - len(row))] for row in body]
    columns = zip(*padded, strict=True) if padded else [()] * width
    frame = pl.DataFrame([pl.Series(str(i), column, pl.String) for i, column in enumerate(columns)])
    return Columns(names, frame, header)


def fit_header(first: Sequence[str] | None, body: Sequence[Sequence[str]]) -> tuple[int, list[str]]:
    """How many cells rows should have, and the header's cells (empty without one), made to fit where they can be.

    A separator at the end of every row, or of the header alone, and R's row names, which have no name in the
    header, are allowed for.
    """
    usual = common_count(body)
    if first is None:
        return usual, [""] * usual
    count = len(first)
    if not body or any(len(row) == count for row in body):
        return count, list(first)
    if count == usual - 1:
        trailing = all(len(row) < usual or not row[-1].strip() for row in body)
        return usual, [*first, ""] if trailing else ["", *first]
    if count == usual + 1 and not first[-1].strip():
        return usual, list(first[:-1])
    return usual, list(first)


def _plain_quotes(lines: Sequence[str], separator: str) -> bool:
    """Whether quotes are plain characters: between tabs, where not every cell that opens with one ends with one."""
    cells = [cell for line in lines for cell in line.rstrip().split(separator) if cell.startswith('"')]
    return separator == "\t" and not all(len(cell) > 1 and cell.endswith('"') for cell in cells)


def missing_column(name: str, wanted: str, names: Sequence[str], setting: str | None = None) -> DataError:
    """The error for a column that is not there, with the nearest and those there are.

    Args:
        name: How messages call the table.
        wanted: The column's name.
        names: The columns there are.
        setting: The setting that names it; None where the training data had it.
    """
    said = (
        f"data.{setting} names a column {wanted!r} that is not there"
        if setting
        else f"the column {wanted!r} of the training data is missing"
    )
    guess = nearest(wanted, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    return DataError(f"{name}: {said}{hint} Columns: {listed(names)}.")


def listed(names: Sequence[str]) -> str:
    """Columns' names, shortened where many."""
    names = [short(name) for name in names]
    return ", ".join(names if len(names) <= 12 else [*names[:8], "…", *names[-3:]])


def find_name(wanted: str, names: Sequence[str]) -> int | None:
    """The position of a name: as it stands, else where case and the blanks around are all that differ."""
    if wanted in names:
        return names.index(wanted)
    folded = [name.strip().lower() for name in names]
    return folded.index(wanted.strip().lower()) if folded.count(wanted.strip().lower()) == 1 else None


def position(wanted: str, names: Sequence[str]) -> int | None:
    """The position of a column that settings name: by its name, or by its number from 1 (from the end: -1)."""
    found = find_name(wanted, names)
    if found is None and re.fullmatch(r"-?\d+", wanted) and 1 <= abs(int(wanted)) <= len(names):
        return int(wanted) - 1 if int(wanted) > 0 else len(names) + int(wanted)
    return found


def short(text: str, length: int = 40) -> str:
    """A cell as shown in a message."""
    return text if len(text) <= length else text[: length - 1] + "…"


def as_strings(series: pl.Series) -> list[str]:
    """A column as strings, "" where null; whole numbers in a column of floats without their `.0`."""
    if series.dtype == pl.String:
        return series.fill_null("").str.strip_chars().to_list()
    if series.dtype.is_float():
        series = series.fill_nan(None)
        numbers = series.drop_nulls().to_numpy()
        if (numbers == np.round(numbers)).all() and (np.abs(numbers) < 2**53).all():
            series = series.cast(pl.Int64)
    return ["" if value is None else str(value) for value in series.to_list()]


def empty(frame: pl.DataFrame, nan: bool) -> np.ndarray:
    """Which cells are empty, (rows, columns) bool; with `nan` a NaN in a typed column is (as in pandas)."""
    tests = []
    for column in frame.iter_columns():
        test = column.is_null()
        if column.dtype == pl.String:
            test = test | (column.str.strip_chars() == "").fill_null(True)
        elif nan and column.dtype.is_float():
            test = test | column.is_nan().fill_null(True)
        tests.append(test.to_numpy())
    return np.stack(tests, axis=1) if tests else np.zeros((frame.height, 0), bool)


def _as_float(column: pl.Series, decimal: str) -> pl.Series:
    if column.dtype == pl.String:
        if decimal == ",":
            points = column.str.contains(".", literal=True)
            column = pl.select(pl.when(~pl.lit(points)).then(pl.lit(column))).to_series().alias(column.name)
            column = column.str.replace(",", ".", literal=True)
        cast = column.cast(pl.Float64, strict=False)
        if cast.null_count() > column.null_count():
            cast = column.str.strip_chars().cast(pl.Float64, strict=False)
        return cast
    if column.dtype.is_numeric() or column.dtype == pl.Boolean or column.dtype == pl.Null:
        return column.cast(pl.Float64)
    return pl.Series(column.name, [None] * len(column), pl.Float64)


def is_number(cell: str) -> bool:
    """Whether a cell is a number, with a decimal point or comma."""
    return numerals.is_number(cell) or _DECIMAL_COMMA.fullmatch(cell.strip()) is not None


_NO_GROUPS = "without marks between thousands"


def written_otherwise(cell: str) -> str | None:
    """How a number should be written, where a cell holds one with other signs in it; None where it does not."""
    cell = cell.strip()
    if _GROUPED.fullmatch(cell):
        return _NO_GROUPS
    if cell and not is_number(cell) and not _WHOLE_DATE.fullmatch(cell) and _SIGNED.fullmatch(cell):
        signs = re.sub(r"[\d.,+-]", "", cell).strip()
        return f"without {signs[0]!r}" if signs else None
    return None


def grouped_or_not(cells: Sequence[str]) -> str | None:
    """One of the numbers of a column, where all that have a point or comma have three digits behind it, as if it parted
    thousands; None where it is plainly a decimal mark."""
    marked = [cell for cell in cells if "." in cell or "," in cell]
    if 2 * len(marked) < sum(map(bool, cells)) or len(marked) < 5:
        return None
    return marked[0] if all(re.fullmatch(r"[+-]?[1-9]\d{0,2}[.,]\d{3}", cell) for cell in marked) else None


def named_separator(settings: DataSettings) -> str | None:
    """The separator as settings name it.

    Raises:
        DataError: It is neither one character nor the name of one.
    """
    found = _named(settings.separator)
    if settings.separator is not None and found is None:
        raise DataError(
            f"data.separator: {settings.separator!r} is not a separator; expected one character, or tab, comma, "
            f"semicolon, pipe or space."
        )
    return found


def _named(separator: str | None) -> str | None:
    known = _NAMED_SEPARATORS.get((separator or "").lower(), separator or "")
    return known if len(known) == 1 and known not in '"\n\r' else None


def cut(lines: Sequence[str], separator: str, quoted: bool = True) -> list[list[str]]:
    """Lines cut into cells, for a first look: blank ones left out, faults passed over."""
    _allow_long_cells()
    if quoted:
        reader = csv.reader(_squeezed(lines, separator), delimiter=separator, skipinitialspace=separator not in "\t ")
    else:
        reader = (line.rstrip("\r\n").split(separator) for line in lines)
    rows: list[list[str]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(row)
    except csv.Error:
        pass  # the reading itself will tell of it, by its line
    return rows


def _squeezed(lines: Iterable[str], separator: str) -> Iterable[str]:
    """The lines as they are; between spaces, several count as one."""
    return lines if separator != " " else (" ".join(line.split()) + "\n" for line in lines)


def common_count(rows: Sequence[Sequence[str]]) -> int:
    """The number of cells that most rows have; the first row's where several are as common."""
    return Counter(len(row) for row in rows).most_common(1)[0][0] if rows else 0


def sniff_separator(lines: Sequence[str], label_separator: str | None = None) -> str | None:
    """What stands between the cells of these lines; None where they seem to have one cell each.

    The separator that gives most rows the same number of cells wins; the more of them numbers the better, so that
    `1,5;2,5` is read as two numbers with a decimal comma, and the fewer of them empty. A date is as good as a number,
    and so is a number with marks between thousands, though it is refused on reading.
    """
    best, best_score = None, 0.0
    for separator in [*SEPARATORS, " "]:
        if separator == label_separator:
            continue
        rows = cut(lines, separator, quoted=separator != "\t")
        count = common_count(rows)
        if count < 2:
            continue
        alike = sum(len(row) == count for row in rows) / len(rows)
        cells = [cell for row in rows for cell in row if cell.strip()]
        numeric = sum(is_number(cell) or _is_plain(cell.strip()) for cell in cells) / len(cells)
        if separator == " ":  # what stands between words, unless a table of numbers lies there
            body = rows[1:] or rows
            alike = sum(len(row) == count for row in body) / len(body)
            numeric = sum(is_number(cell) for row in body for cell in row) / sum(map(len, body))
            if best or alike < 1 or numeric < 0.5:
                continue
        score = alike * (0.3 + 0.7 * numeric) * (0.5 + 0.5 * len(cells) / sum(map(len, rows)))
        if score > best_score:
            best, best_score = separator, score
    return best


def _is_plain(cell: str) -> bool:
    return _WHOLE_DATE.fullmatch(cell) is not None or _GROUPED.fullmatch(cell) is not None


def sniff_header(rows: Sequence[Sequence[str]], known: Sequence[str] = ()) -> bool:
    """Whether the first row names the columns, judged by how it differs from the others.

    Args:
        rows: The first rows, cut into cells.
        known: Names that a header would have to hold, where they are known from training data.
    """
    first, rest = [cell.strip() for cell in rows[0]], rows[1:]
    filled = [cell for cell in first if cell]
    if known:
        folded = {name.lower() for name in known}
        if any(cell.lower() in folded and not is_number(cell) for cell in filled):
            return True
    words = [cell for cell in filled if not is_number(cell)]
    if not words:
        if len(filled) < 3 or not rest:
            return False
        columns = [float(cell.replace(",", ".")) for cell in filled]
        return columns == list(range(len(columns))) and not any(_consecutive(row) for row in rest)
    if len(set(filled)) < len(filled) and len(words) < len(filled):
        return False
    recur = any(
        column < len(row) and row[column].strip() == cell
        for column, cell in enumerate(first)
        if cell and not is_number(cell)
        for row in rest
    )
    if len(words) < len(filled):  # such as label,0,1,2 or country,1990,1991
        if recur or len(filled) - len(words) < 2:
            return False
        named = any(word.lower() in LABEL_NAMES + WEAK_LABEL_NAMES + ID_NAMES for word in words)
        ramps = sum(_consecutive(row) for row in rest)
        return _consecutive(first) and (named or ramps <= len(rest) / 2)
    for column in range(len(first)):
        cells = [row[column].strip() for row in rest if column < len(row) and row[column].strip()]
        alike = is_number if _is_plain(first[column]) else lambda cell: is_number(cell) or _is_plain(cell)
        if first[column] and cells and sum(map(alike, cells)) > len(cells) / 2:
            return True
    known_names = {*LABEL_NAMES, *WEAK_LABEL_NAMES, *TEXT_NAMES, *ID_NAMES}
    if any(word.lower() in known_names for word in words) and all(len(word) < 40 for word in words):
        return True
    if not rest or recur:
        return False
    if _one_series(words):
        return True
    texts = [[row[c] for row in rest if c < len(row)] or [""] for c in range(len(first))]
    longest = max(range(len(first)), key=lambda c: sum(map(len, texts[c])))
    words_each = sum(len(text.split()) for text in texts[longest]) / len(texts[longest])
    if words_each >= 5 and all(len(word.split()) <= 2 for word in words):
        return True
    shorter = 2 * len(first[longest]) < min(map(len, texts[longest]))
    return shorter and len(rest) >= 5 and all(len(word) < 30 for word in words)


def _one_series(words: Sequence[str]) -> bool:
    """Whether these are one name with numbers, such as V1, V2, …."""
    parts = [re.fullmatch(r"(\D+)(\d+)", word) for word in words]
    stems = {part and part.group(1) for part in parts}
    return len(words) > 1 and None not in stems and len(stems) == 1 and _consecutive([p.group(2) for p in parts if p])


def _consecutive(row: Sequence[str]) -> bool:
    cells = [cell.strip() for cell in row if cell.strip().isdecimal()]
    numbers = [int(cell) for cell in cells]
    return len(numbers) > 1 and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def header_names(row: Sequence[str]) -> tuple[list[str], set[int]]:
    """Names for all columns, each its own, and the positions to which the row gives none."""
    names: list[str] = []
    unnamed: set[int] = set()
    taken: Counter[str] = Counter()
    for position, cell in enumerate(row):
        name = " ".join(cell.split())
        if not name:
            unnamed.add(position)
            name = f"column_{position + 1}"
        taken[name] += 1
        names.append(f"{name}.{taken[name] - 1}" if taken[name] > 1 else name)
    return names, unnamed


@contextmanager
def open_table(
    source: Path | BinaryIO,
    settings: DataSettings,
    known: Sequence[str] = (),
    header: bool | None = None,
    separator: str | None = None,
) -> Iterator[Table]:
    """Open a delimited file or a Parquet file as a table.

    Args:
        source: A file, or an open stream of bytes.
        settings: `separator`, `header`, `columns` and `encoding` are heeded.
        known: Column names known from training data.
        header: Whether the training data had a header, where that is known.
        separator: What stood between their cells, where that is known.

    Raises:
        DataError: The file cannot be read as a table.
    """
    if isinstance(source, Path) and is_parquet(source):
        yield parquet_table(source)
        return
    with open_text(source, settings.encoding) as text:
        yield _delimited(text, name_of(source), settings, known, header, separator)


def is_parquet(path: Path) -> bool:
    """Whether a file starts as Parquet files do."""
    return path.is_file() and first_bytes(path, 4) == b"PAR1"


def parquet_table(path: Path) -> Table:
    """A Parquet file as a table.

    Raises:
        DataError: It is damaged.
    """
    with open_binary(path) as file:
        data = file.read()
    try:
        frame = pl.read_parquet(io.BytesIO(data))
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"{path}: starts as a Parquet file but is cut short or damaged ({short(str(error), 80)})."
        ) from error
    return frame_table(frame, str(path))


def frame_table(frame: pl.DataFrame, name: str) -> Table:
    """A dataframe as a table."""
    if not frame.height or not frame.width:
        raise DataError(f"{name}: has {frame.height} rows and {frame.width} columns; expected at least one row.")
    block = Block(frame, np.arange(1, frame.height + 1))
    return Table(name, frame.columns, True, frame.head(_SAMPLE), iter([block]), unit="row")


def _delimited(
    text: TextIO, name: str, settings: DataSettings, known: Sequence[str], header: bool | None, trained: str | None
) -> Table:
    head = _read_block(text)
    lines = head.split("\n", 201)[:200]
    if "\0" in head[:4096]:
        raise DataError(f"{name}: is not a text; expected a table of text or Parquet.")
    if _JSON.match(head):
        raise DataError(f"{name}: holds JSON, which is not read here; expected a table of text (CSV, TSV) or Parquet.")
    separator = named_separator(settings)
    if separator is None and trained and common_count(cut(lines, trained)) > 1:
        separator = trained
    separator = separator or sniff_separator(lines, settings.label_separator) or trained or ","
    rows = cut(lines, separator)
    if not rows:
        raise DataError(f"{name}: has no row; every line is blank.")
    if settings.header is not None:
        header = settings.header
    elif settings.columns and not known:
        header = [cell.strip().lower() for cell in rows[0]] == [column.lower() for column in settings.columns]
    elif not known or not header or any(is_number(cell) for cell in rows[0]):
        header = sniff_header(rows, known)
    else:
        header = True
    first, body = (rows[0], rows[1:]) if header else (None, rows)
    if not body:
        raise DataError(f"{name}: has a header ({listed(header_names(rows[0])[0])}) but no row.")
    count, cells = fit_header(first, body)
    if len(cells) != count:
        raise DataError(
            f"{name}: the header names {len(cells)} columns, but the rows have {count} cells (cells parted by "
            f"{spoken(separator)})."
        )
    names, unnamed = header_names(cells)
    if not header:
        unnamed = set()
    if settings.columns:
        if len(settings.columns) != count:
            raise DataError(
                f"{name}: data.columns gives {len(settings.columns)} names, but the rows have {count} cells."
            )
        names, unnamed = list(settings.columns), set()
    blocks = _cut_blocks(text, head, separator, count, bool(header), name)
    start = next(blocks, None)
    if start is None:
        raise DataError(f"{name}: has no row.")
    sample = start.frame.head(_SAMPLE)
    decimal = decimal_mark(rows, separator)
    return Table(name, names, bool(header), sample, chain([start], blocks), separator, decimal, "line", unnamed)


def decimal_mark(rows: Sequence[Sequence[str]], separator: str) -> str:
    """A comma where cells have one between digits and none has a point there that does not part thousands."""
    if separator == ",":
        return "."
    cells = [cell.strip() for row in rows for cell in row]
    commas = any(_DECIMAL_COMMA.fullmatch(cell) for cell in cells)
    points = [cell for cell in cells if "." in cell and numerals.is_number(cell)]
    return "," if commas and all(_GROUPED.fullmatch(cell) for cell in points) else "."


def spoken(separator: str) -> str:
    """How messages call a separator, in the plural."""
    known = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "pipes", " ": "spaces"}
    return known.get(separator, repr(separator))


def _read_block(text: TextIO) -> str:
    return text.read(_BLOCK) + text.readline()


def _cut_blocks(text: TextIO, head: str, separator: str, count: int, header: bool, name: str) -> Iterator[Block]:
    line = 1
    chunk = head
    if header:
        used, rest = _header_line(chunk, separator)
        chunk, line = rest, line + used
    while chunk:
        if '"' in chunk or separator == " ":
            yield from _quoted_blocks(chain(io.StringIO(chunk), text), separator, count, line, name)
            return
        yield from _plain_block(chunk, separator, count, line, name)
        line += chunk.count("\n")
        chunk = _read_block(text)


def _header_line(chunk: str, separator: str) -> tuple[int, str]:
    """How many lines the first row that is not blank ends at, and what follows."""
    lines = io.StringIO(chunk)
    taken: list[str] = []
    reader = csv.reader(iter(lambda: taken.append(lines.readline()) or taken[-1], ""), delimiter=separator)
    for row in reader:
        if any(cell.strip() for cell in row):
            return len(taken), lines.read()
    return len(taken), ""


def _plain_block(chunk: str, separator: str, count: int, line: int, name: str) -> Iterator[Block]:
    if not chunk.endswith("\n"):
        chunk += "\n"
    data = chunk.encode("utf-8", "surrogatepass")
    codes = np.frombuffer(data, np.uint8)
    mark = separator.encode()
    if len(mark) > 1:  # polars cuts at one byte
        yield from _quoted_blocks(io.StringIO(chunk), separator, count, line, name)
        return
    ends = np.flatnonzero(codes == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    separators = codes == mark[0]
    per_line = np.diff(np.searchsorted(np.flatnonzero(separators), ends), prepend=0)
    content = np.add.reduceat(~separators & (codes > 32), starts) > 0
    wrong = np.flatnonzero(content & (per_line != count - 1))
    if len(wrong):
        raise _ragged(name, line + int(wrong[0]), int(per_line[wrong[0]]) + 1, count, separator)
    if not content.all():
        data = b"".join(data[starts[i] : ends[i] + 1] for i in np.flatnonzero(content))
    if data:
        frame = pl.read_csv(data, has_header=False, separator=separator, quote_char=None, infer_schema=False)
        yield Block(frame, line + np.flatnonzero(content))


def csv_rows(lines: Iterator[str], separator: str, line: int, name: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a text with quoted cells, each with the line it starts on; blank ones left out.

    Args:
        lines: The lines with their ends.
        separator: What stands between the cells.
        line: The number of the first of these lines.
        name: How messages call the file.

    Raises:
        DataError: Quotes that do not close, or do not end their cell.
    """
    _allow_long_cells()
    reader = csv.reader(
        _squeezed(lines, separator), delimiter=separator, skipinitialspace=separator not in "\t ", strict=True
    )
    start = line
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            if "unexpected end" in str(error):
                fault = "a quote opens here that never closes"
            elif "expected after" in str(error):
                fault = (
                    "a quoted cell goes on after its closing quote; a quote inside a cell is written twice, and "
                    f"cells are parted by {spoken(separator)}"
                )
            else:
                fault = str(error)
            raise DataError(f"{name}, line {start}: {fault}.") from error
        if row is None:
            return
        if any(row) and any(cell and not cell.isspace() for cell in row):
            yield start, row
        start = line + reader.line_num


def _quoted_blocks(lines: Iterator[str], separator: str, count: int, line: int, name: str) -> Iterator[Block]:
    rows = csv_rows(iter(lines), separator, line, name)
    size = max(16, (1 << 19) // count)
    while part := list(islice(rows, size)):
        for start, row in part:
            if len(row) != count:
                raise _ragged(name, start, len(row), count, separator)
        columns = zip(*(row for _, row in part), strict=True)
        frame = pl.DataFrame(
            [pl.Series(f"column_{i}", [cell or None for cell in column], pl.String) for i, column in enumerate(columns)]
        )
        yield Block(frame, np.array([start for start, _ in part]))


def _ragged(name: str, line: int, found: int, expected: int, separator: str) -> DataError:
    return DataError(
        f"{name}, line {line}: {found} cells found, {expected} expected (cells parted by {spoken(separator)})."
    )


def _allow_long_cells() -> None:
    """Lift the `csv` module's limit on the length of a cell, meant against runaway quotes; books are longer."""
    if csv.field_size_limit() < 1 << 30:
        csv.field_size_limit(1 << 30)
