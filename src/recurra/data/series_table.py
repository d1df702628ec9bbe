"""Tables of series: which column is what, and their rows as numbers, with the line of each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import polars as pl

from recurra.data.delimited import (
    ID_NAMES,
    Block,
    Columns,
    Table,
    as_strings,
    frame_table,
    grouped_or_not,
    listed,
    missing_column,
    open_table,
    position,
    short,
    written_otherwise,
)
from recurra.data.settings import DataSettings
from recurra.data.table import is_series_name, is_time_name, moments
from recurra.data.times import SPAN_WORDS, Beyond, looks_like_times, of_zone, read_times
from recurra.errors import DataError

Layout = Literal["long", "wide", "variables"]

TARGET_NAMES = ("y", "target", "value", "values", "目标", "数值")
"""Names of a column to be forecast, where several hold numbers."""

MISSING_MARKS = (
    *("", "na", "n/a", "nan", "null", "none", "nil", "?", "-", "--", ".", "missing"),
    *("#n/a", "#na", "#n/a n/a", "<na>", "nat", "-nan"),  # as Excel, pandas and C write it
)
"""What stands in a cell, in upper or lower case, where a number is missing."""

MOST_VARIABLES = 20
"""Columns of numbers that are taken for the variables of one series; more are taken for a series each."""


@dataclass
class Roles:
    """What each column of a table of series is for, by name.

    Attributes:
        layout: long: rows of several series, told apart by `ids`; wide: each target column is a series of its own;
            variables: the target columns are the variables of one series.
        time: None where there is no time.
        ids: Columns that together name a series.
        targets: What is forecast.
        past: Covariates known up to the present.
        known: Covariates known ahead.
        static: What a series has throughout.
        notes: What was chosen for a person, and how to choose otherwise.
    """

    layout: Layout
    time: str | None
    ids: list[str]
    targets: list[str]
    past: list[str]
    known: list[str]
    static: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass
class Rows:
    """The rows of one table, each a step of one series.

    Attributes:
        name: How messages call the table.
        unit: What `lines` count: lines, or rows.
        lines: (R,) int64.
        code: (R,) int64, which of `ids` a row belongs to.
        ids: Names of the series, in the order in which they are met.
        times: (R,) int64 nanoseconds or float64 numbers; None without a time.
        dated: Whether the times are dates.
        time_format: How dates are written.
        targets: (R, K) float64, NaN where missing.
        past: (R, P) likewise.
        known: (R, F) likewise.
        static: Name -> the cells of a static column.
        time: The column of times; None without one.
        beside: Further columns that are called as those of times are.
        notes: What a person should know.
    """

    name: str
    unit: str
    lines: np.ndarray
    code: np.ndarray
    ids: list[str]
    times: np.ndarray | None
    dated: bool
    time_format: str | None
    targets: np.ndarray
    past: np.ndarray
    known: np.ndarray
    static: dict[str, list[str]]
    time: str | None = None
    beside: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def place(self, row: int) -> str:
        """How messages call one row."""
        return f"{self.name}, {self.unit} {int(self.lines[row])}"


@dataclass
class Whole:
    """A table read to its end."""

    table: Table
    frame: pl.DataFrame
    lines: np.ndarray
    truths: set[str] = field(default_factory=set)  # columns that were true and false, and are 1 and 0

    def numbers(self, columns: Sequence[str]) -> np.ndarray:
        """Some columns as numbers, (rows, len(columns)) float64; NaN where missing.

        Raises:
            DataError: A cell that is neither a number nor a mark of one that is missing, with its line and column.
        """
        if not columns:
            return np.empty((len(self.lines), 0))
        places = [self.table.names.index(name) for name in columns]
        cleared = self.frame
        for place in places:
            column = cleared.to_series(place)
            if column.dtype == pl.String:
                plain = column.str.strip_chars().str.to_lowercase()
                kept = pl.select(pl.when(~pl.lit(plain).is_in(list(MISSING_MARKS))).then(pl.lit(column))).to_series()
                cleared = cleared.with_columns(kept.alias(column.name))
        return self.table.numbers(Block(cleared, self.lines), places)

    def strings(self, column: str) -> list[str]:
        """A column as written, "" where empty."""
        return as_strings(self.frame.to_series(self.table.names.index(column)))


def open_whole(
    source: Path | BinaryIO | pl.DataFrame, name: str, options: DataSettings, known: Sequence[str] = ()
) -> Whole:
    """Read a table to its end.

    Args:
        source: A file, an open one, or a dataframe.
        name: How messages call a dataframe.
        options: How a delimited file is read.
        known: Column names known from training data.

    Raises:
        DataError: It cannot be read as a table.
    """
    if isinstance(source, pl.DataFrame):
        table = frame_table(source, name)
        return _whole(table)
    with open_table(source, options, known, bool(known) or None) as table:
        return _whole(table)


def _whole(table: Table) -> Whole:
    blocks = list(table.blocks())
    frame = pl.concat([block.frame for block in blocks]) if len(blocks) > 1 else blocks[0].frame
    truths = [column.name for column in frame.iter_columns() if _is_true_or_false(column)]
    ones = [frame[name].cast(pl.String).str.to_lowercase().replace({"true": "1", "false": "0"}) for name in truths]
    lines = np.concatenate([block.lines for block in blocks]).astype(np.int64)
    names = {table.names[frame.columns.index(name)] for name in truths}
    return Whole(table, frame.with_columns(ones), lines, names)


def _is_true_or_false(column: pl.Series) -> bool:
    """Whether a column holds nothing but true and false, which count as 1 and 0."""
    if column.dtype != pl.String:
        return column.dtype == pl.Boolean
    cells = column.drop_nulls().str.to_lowercase()
    return len(cells) > 0 and all(bool(some.is_in(["true", "false"]).all()) for some in (cells.head(20), cells))


# --- which column is what ---------------------------------------------------------------------------------------------


@dataclass
class Named:
    """The columns that settings name: None where they leave one open."""

    layout: Layout | None
    time: str | None
    ids: list[str] | None
    targets: list[str] | None
    past: list[str] | None
    known: list[str] | None
    static: list[str]
    ignore: list[str]


def find_roles(whole: Whole, named: Named) -> Roles:
    """What each column is for, by the settings, the columns' names and their content.

    Raises:
        DataError: A column that is named is not there, or nothing is left to forecast.
    """
    table, names = whole.table, whole.table.names
    columns = Columns(names, whole.frame.head(1000), table.header)

    def checked(wanted: list[str] | None, setting: str) -> list[str] | None:
        found = None if wanted is None else [names[table.column(name, setting)] for name in wanted]
        if found is not None and len(set(found)) < len(found):
            twice = next(name for name in found if found.count(name) > 1)
            raise DataError(f"data.{setting}: names the column {twice!r} of {table.name} twice.")
        return found

    left_out = {names[i] for name in named.ignore if (i := position(name, names)) is not None}
    said = {key: checked(getattr(named, key), _SETTINGS[key]) for key in ("ids", "targets", "past", "known", "static")}
    for name in named.ignore:
        table.column(name, "ignore")
    for one, other in combinations(said, 2):
        if both := sorted({*(said[one] or [])} & {*(said[other] or [])}):
            raise DataError(
                f"{table.name}: the column {both[0]!r} is both in data.{_SETTINGS[one]} and in data.{_SETTINGS[other]}."
            )
    left_out |= {name for some in said.values() for name in some or []}
    notes: list[str] = []
    if named.time is not None:
        time = names[table.column(named.time, "time")]
    else:
        time = _time_column(columns, [name for name in names if name not in left_out])
    free = [
        name
        for i, name in enumerate(names)
        if name not in left_out and name != time and not (i in table.unnamed and (columns.blank(i) or i == 0))
    ]
    times = None if time is None else whole.strings(time)
    doubled = times is not None and len(set(times)) < 0.75 * len(times)
    ids = said["ids"]
    if ids is None:
        ids = [] if named.layout in ("wide", "variables") else _id_columns(whole, free, times, doubled)
        if ids:
            notes.append(
                f"{table.name}: rows are told apart by {listed(ids)} (long form); data.id names another column"
            )
    if named.layout == "long" and not ids:
        raise DataError(
            f"{table.name}: no column tells the series of a long table apart. Columns: {listed(names)}. Name it: "
            "--set data.id=NAME"
        )
    free = [name for name in free if name not in ids]
    numeric = [name for name in free if columns.numeric(names.index(name)) or columns.blank(names.index(name))]
    words = [name for name in free if name not in numeric]
    counted = [name for name in numeric if _counts_rows(whole, name)] if said["targets"] is None else []
    if counted and len(counted) < len(numeric):
        numeric = [name for name in numeric if name not in counted]
        notes.append(f"{table.name}: {listed(counted)} counts the rows and is left out")
    targets = said["targets"]
    by_name = False
    if targets is None:
        filled = [name for name in numeric if not columns.blank(names.index(name))]
        filled = [name for name in filled if name not in whole.truths] or filled
        called = [name for name in filled if name.strip().lower() in TARGET_NAMES]
        by_name = len(called) == 1 and len(filled) > 1
        targets = called if by_name else filled
    if not targets:
        _check_written(whole, words)
        raise DataError(
            f"{table.name}: no column of numbers is left to forecast. Columns: {listed(names)}. Name it: "
            "--set data.target=NAME"
        )
    if words:
        _check_times(whole, time, words)
        one = len(words) == 1
        hold = "holds no numbers and is" if one else "hold no numbers and are"
        notes.append(f"{table.name}: {listed(words)} {hold} left out")
    _check_written(whole, words)
    layout: Layout = named.layout or ("long" if ids else "wide" if len(targets) > MOST_VARIABLES else "variables")
    if named.layout is None and not ids and len(targets) > 1:
        notes.append(_layout_told(table.name, layout, len(targets)))
    others = [name for name in numeric if name not in targets]
    past = said["past"] if said["past"] is not None else ([] if layout == "wide" else others)
    known = said["known"] or []
    if said["past"] is None and past:
        if said["known"] is None:
            known = _going_on(whole, time, ids, targets, past)
            past = [name for name in past if name not in known]
        notes += [
            f"{table.name}: {listed(some)} {'is a covariate' if len(some) == 1 else 'are covariates'} {kind}; "
            f"data.{key} = [] leaves {'it' if len(some) == 1 else 'them'} out"
            for key, kind, some in (
                ("known", "known ahead, for there are numbers behind the last target", known),
                ("past", "known up to the present", past),
            )
            if some and said[key] is None
        ]
    return Roles(layout, time, ids, targets, past, known, said["static"] or [], notes)


_SETTINGS = {"ids": "id", "targets": "target", "past": "past", "known": "known", "static": "static"}


def _layout_told(name: str, layout: Layout, count: int) -> str:
    if layout == "variables":
        return (
            f"{name}: its {count} columns of numbers are read as the variables of one series, forecast together; where "
            "each is a series of its own: --set data.layout=wide"
        )
    return (
        f"{name}: each of its {count} columns of numbers is read as a series of its own; where they are variables of "
        "one: --set data.layout=variables"
    )


def _is_time(name: str) -> bool:
    return is_time_name(name) or name.strip().lower() in ("year", "年", "时间", "日期")


def _time_column(columns: Columns, among: Sequence[str]) -> str | None:
    """The column of times: dates, or rising numbers in a column that is called so."""
    called = [name for name in among if _is_time(name)]
    for name in (*called, *(name for name in among if name not in called)):
        i = columns.names.index(name)
        if (name in called or not columns.numeric(i)) and looks_like_times(columns.cells(i)):
            return name
    for name in called:
        i = columns.names.index(name)
        if columns.numeric(i):
            numbers = columns.floats(i)
            steps = np.diff(numbers[np.isfinite(numbers)])
            if len(steps) and (steps > 0).mean() > 0.5:
                return name
    return None


def _id_columns(whole: Whole, among: Sequence[str], times: list[str] | None, doubled: bool) -> list[str]:
    """The columns that tell series apart: one called so, or of words, or up to three of these together. By them no time
    is given twice."""
    if times is not None and not doubled:
        return []
    called = [name for name in among if is_series_name(name)]
    words = [name for name in among if name not in called and not _numeric(whole, name)]
    candidates = [name for name in (*called, *words) if len(set(whole.strings(name))) < len(whole.lines)][:6]
    if times is None:
        for name in called:
            cells = whole.strings(name)
            if name in candidates and 1 + sum(a != b for a, b in pairwise(cells)) == len(set(cells)):
                return [name]
        return []
    cells_of = {name: whole.strings(name) for name in candidates}
    for count in (1, 2, 3):
        for some in combinations(candidates, count):
            if len(set(zip(*(cells_of[name] for name in some), times, strict=True))) == len(times):
                return list(some)
    return []


def telling_apart(whole: Whole, roles: Roles, ignored: Sequence[str]) -> list[str]:
    """The columns that tell series apart in a further table, where the training data held one series; none if this
    does, too."""
    used = {roles.time, *roles.targets, *roles.past, *roles.known, *roles.static, *ignored}
    times = whole.strings(roles.time) if roles.time in whole.table.names else None
    doubled = times is not None and len(set(times)) < 0.75 * len(times)
    found = _id_columns(whole, [name for name in whole.table.names if name not in used], times, doubled)
    return found if any(len(set(whole.strings(name))) > 1 for name in found) else []


def _counts_rows(whole: Whole, name: str) -> bool:
    """Whether a column that is called as one of names holds the numbers of the rows."""
    if name.strip().lower() not in ID_NAMES:
        return False
    numbers = whole.numbers([name])[:, 0]
    return len(numbers) > 1 and bool((np.diff(numbers) == 1).all())


def _check_times(whole: Whole, time: str | None, words: Sequence[str]) -> None:
    """Raise where no column has times that can be read, but one is called so."""
    called = [name for name in words if is_time_name(name)]
    if time is None and called:
        cell = next((cell for cell in whole.strings(called[0]) if cell), "")
        raise DataError(
            f"{whole.table.name}: the column {called[0]!r} holds no times that are known; found {short(cell)!r}. "
            "data.time_format says how they are written, such as %d/%m/%Y, or data.ignore leaves the column out."
        )


def _check_written(whole: Whole, words: Sequence[str]) -> None:
    """Raise where most cells of a column are numbers with other signs in them."""
    for name in words:
        filled = [(row, cell) for row, cell in enumerate(whole.strings(name)) if cell][:1000]
        wrong = [(row, cell, how) for row, cell in filled if (how := written_otherwise(cell)) is not None]
        if 2 * len(wrong) > len(filled):
            row, cell, how = wrong[0]
            raise DataError(
                f"{whole.table.place(int(whole.lines[row]))}, column {name!r}: found {short(cell)!r}, expected a "
                f"number {how}; or leave the column out: --set data.ignore='[\"{name}\"]'."
            )


def _tell_grouped(whole: Whole, columns: Sequence[str], notes: list[str]) -> None:
    """Tell of numbers whose mark may part thousands: between commas it cannot."""
    if whole.table.separator in (None, ","):
        return
    for name in columns:
        if (cell := grouped_or_not(whole.strings(name))) is not None:
            mark = "point" if "." in cell else "comma"
            notes.append(
                f"{whole.table.name}: every {mark} in column {name!r} has three digits behind it, as in {cell}; it is "
                "read as a decimal mark, so take it out where it parts thousands"
            )


def _numeric(whole: Whole, name: str) -> bool:
    i = whole.table.names.index(name)
    return Columns(whole.table.names, whole.frame.head(1000), True).numeric(i)


def _going_on(
    whole: Whole, time: str | None, ids: Sequence[str], targets: Sequence[str], among: Sequence[str]
) -> list[str]:
    """The columns that have numbers in the rows of a series behind its last that has a target."""
    there = np.any(np.isfinite(whole.numbers(targets)), 1)
    if there.all():
        return []
    order = np.arange(len(there))
    if time is not None:
        found = read_times(whole.frame.to_series(whole.table.names.index(time)))
        if not isinstance(found, int):
            order = np.argsort(found.values, kind="stable")
    names = list(zip(*(whole.strings(name) for name in ids), strict=True)) if ids else [()] * len(order)
    place = np.argsort(order)
    last: dict[tuple[str, ...], int] = {}
    for row in order[there[order]].tolist():
        last[names[row]] = int(place[row])
    behind = np.array([place[row] > last.get(name, place[row]) for row, name in enumerate(names)], bool)
    if not behind.any():
        return []
    filled = np.all(np.isfinite(whole.numbers(among))[behind], 0)
    return [name for name, all_there in zip(among, filled.tolist(), strict=True) if all_there]


# --- rows -------------------------------------------------------------------------------------------------------------


def read_rows(whole: Whole, roles: Roles, time_format: str | None = None) -> Rows:
    """The rows of a table whose columns are known.

    Args:
        whole: The table.
        roles: What its columns are for.
        time_format: How its dates are written; found where None.

    Raises:
        DataError: A column of the training data is missing; a cell that is no time or number, with line and column.
    """
    table = whole.table
    for name in (roles.time, *roles.ids, *roles.past, *roles.known, *roles.static):
        if name is not None and name not in table.names:
            raise missing_column(table.name, name, table.names)
    columns = [name for name in roles.targets if name in table.names]
    if not columns or (roles.layout != "wide" and len(columns) < len(roles.targets)):
        absent = next(name for name in roles.targets if name not in table.names)
        raise missing_column(table.name, absent, table.names)
    notes: list[str] = []
    times, dated, format = _times(whole, roles.time, time_format, notes)
    _tell_grouped(whole, [*columns, *roles.past, *roles.known], notes)
    targets, past, known = (whole.numbers(some) for some in (columns, roles.past, roles.known))
    static = {name: whole.strings(name) for name in roles.static}
    R = len(whole.lines)
    lines, ids = whole.lines, [""]
    code = np.zeros(R, np.int64)
    if roles.layout == "wide":
        ids, K = columns, len(columns)
        code = np.repeat(np.arange(K), R)
        targets = targets.T.reshape(-1, 1)
        past, known = (np.tile(some, (K, 1)) for some in (past, known))
        lines = np.tile(lines, K)
        times = None if times is None else np.tile(times, K)
        static = {name: cells * K for name, cells in static.items()}
    elif roles.ids:
        cells = [whole.strings(name) for name in roles.ids]
        joined = [" / ".join(row) for row in zip(*cells, strict=True)]
        empty = next((i for i, row in enumerate(zip(*cells, strict=True)) if "" in row), None)
        if empty is not None:
            column = next(name for name, some in zip(roles.ids, cells, strict=True) if not some[empty])
            raise DataError(
                f"{table.place(int(lines[empty]))}, column {column!r}: is empty, expected the name of a series."
            )
        numbering: dict[str, int] = {}
        code = np.array([numbering.setdefault(name, len(numbering)) for name in joined], np.int64)
        ids = list(numbering)
    elif roles.layout == "variables" and len(roles.targets) == 1:
        ids = list(roles.targets)
    used = {roles.time, *roles.ids, *roles.targets, *roles.past, *roles.known, *roles.static}
    beside = [name for name in table.names if _is_time(name) and name not in used - {*roles.past, *roles.known}]
    return Rows(
        table.name, table.unit, lines, code, ids, times, dated, format, targets, past, known, static, roles.time,
        beside, notes,
    )  # fmt: skip


def _times(
    whole: Whole, column: str | None, format: str | None, notes: list[str]
) -> tuple[np.ndarray | None, bool, str | None]:
    if column is None:
        return None, False, None
    table, i = whole.table, whole.table.names.index(column)
    found = read_times(whole.frame.to_series(i), format)
    if isinstance(found, int) and format is not None:
        other = read_times(whole.frame.to_series(i))
        if not isinstance(other, int) and other.dated:
            notes.append(f"{table.name}: dates in column {column!r} are read as {other.format}, and not as {format}")
            found = other
    if isinstance(found, int):
        cell = whole.strings(column)[found]
        if isinstance(found, Beyond):
            raise DataError(
                f"{table.place(int(whole.lines[found]))}, column {column!r}: found {short(cell)!r}; dates that can be "
                f"told are {SPAN_WORDS}. --set data.ignore='[\"{column}\"]' counts rows as steps."
            )
        shown = f"found {short(cell)!r}" if cell else "is empty"
        raise DataError(
            f"{table.place(int(whole.lines[found]))}, column {column!r}: {shown}, expected a time as in other rows: a "
            "number, or a date such as 2024-12-31 or 2024-12-31 23:59; data.time_format says how dates are written."
        )
    if found.format is not None and "%y" in found.format:
        notes.append(f"{table.name}: years of two digits in column {column!r} are read as 1950 to 2049")
    if found.other:
        notes.append(
            f"{table.name}: dates in column {column!r} are read as {found.format}; where they are {found.other}: "
            f"--set data.time_format={found.other}"
        )
    return found.values, found.dated, found.format


def as_frame(data: Any) -> pl.DataFrame | None:
    """A pandas or polars dataframe or series as polars; the index of a pandas one, where it holds times, is a column.

    None for anything else.
    """
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    if isinstance(data, pl.DataFrame):
        return data
    if isinstance(data, pl.Series):
        return data.to_frame(data.name or "value")
    if type(data).__module__.partition(".")[0] != "pandas":
        return None
    index = data.index
    if type(index).__name__ == "PeriodIndex":
        index = index.to_timestamp()
    frame = data.to_frame(data.name or "value") if data.ndim == 1 else data
    columns: list[pl.Series] = []
    if type(index).__name__ == "DatetimeIndex":
        name = "time" if index.name is None else str(index.name)
        if index.tz is not None:
            columns.append(of_zone(*(moments(name, one.tz_localize(None)) for one in (index, index.tz_convert("UTC")))))
        else:
            columns.append(moments(name, index))
    for place, name in enumerate(frame.columns):
        cells = frame.iloc[:, place]
        if isinstance(cells.dtype, np.dtype) and cells.dtype.kind in "biufM":
            columns.append(moments(str(name), cells))
        else:
            columns.append(
                pl.Series(str(name), [None if gone else cell for cell, gone in zip(cells, cells.isna(), strict=True)])
            )
    counts = Counter(column.name for column in columns)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise DataError(f"the dataframe: two columns are named {twice!r}; every column needs a name of its own.")
    return pl.DataFrame(columns)
