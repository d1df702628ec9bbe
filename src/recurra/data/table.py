"""Tables of numbers as sequences: wide (a row a sequence) and long (a row a step)."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import polars as pl

from recurra.data import text, ucr
from recurra.data.delimited import (
    ID_NAMES,
    LABEL_NAMES,
    WEAK_LABEL_NAMES,
    Block,
    Columns,
    Growing,
    Table,
    as_strings,
    find_name,
    frame_table,
    is_parquet,
    listed,
    look,
    missing_column,
    open_table,
    short,
)
from recurra.data.opening import name_of
from recurra.data.records import Records, StepLabels, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.errors import DataError

SERIES_NAMES = (
    *("id", "series", "sequence", "seq", "sample", "case", "unit", "trial", "episode", "session", "recording"),
    *("sid", "uid", "subject", "patient", "user", "group"),
)
"""Names of a long table's column that tells which sequence a row belongs to."""
_SEQUENCE_NAMES = SERIES_NAMES[:8]
"""Those that may tell so where no column orders the rows; the others often tell what whole sequences have in common."""
TIME_NAMES = (
    *("time", "t", "step", "date", "timestamp", "index", "datetime", "timestep", "tick", "frame", "cycle", "cycles"),
    *("second", "seconds", "sec", "hour", "day", "month", "week", "ds", "ts", "dt"),
)
"""Names of a long table's column that orders the rows of a sequence."""

_NUMBERED = re.compile(r"^(.*?)[\s_.\-\[(]*(\d+)[\])]?$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", name.strip().lower())


def is_series_name(name: str) -> bool:
    """Whether a column is called as one that tells which sequence a row belongs to."""
    return _plain(name) in SERIES_NAMES or bool(re.search(r"(?:[_\s\-.]id|[a-z]I[dD])$", name.strip()))


def _is_row_name(name: str) -> bool:
    return _plain(name) in ID_NAMES or is_series_name(name) or name.strip().lower().startswith("unnamed:")


def _is_subject(name: str) -> bool:
    """Whether a column tells whom a row was measured on, which rows may share."""
    return _plain(name) in ("id", "subject", "patient", "user", "participant") or (
        is_series_name(name) and _plain(name) not in SERIES_NAMES
    )


def is_time_name(name: str) -> bool:
    """Whether a column is called as one that orders rows."""
    return _plain(name) in TIME_NAMES


@dataclass
class _Labels:
    """The labels of classify, read cell by cell; each distinct cell is held once."""

    separator: str | None
    cells: list[str] = field(default_factory=list)
    pool: dict[str, str] = field(default_factory=dict)

    def extend(self, cells: Iterable[str]) -> None:
        self.cells.extend(self.pool.setdefault(cell, cell) for cell in cells)

    def settle(
        self, schema: Schema | None, place: Callable[[int], str], column: str, *, gaps: bool = False, hint: str = ""
    ) -> list[tuple[str, ...]] | None:
        """The labels of each row; None where there are none and `schema` says that there need be none.

        Args:
            schema: Of the training data.
            place: Where a row stands.
            column: The labels' column.
            gaps: Whether a row may have none: nothing is asked for there.
            hint: What else may help where a row has none and may not.
        """
        if schema and not any(self.cells):
            return None
        if "" in self.pool and not self.separator and not gaps:
            where = place(self.cells.index(""))
            raise DataError(f"{where}, column {column!r}: the label is empty; every sequence needs one{hint}.")
        if schema is None:
            where = f"{place(0).rpartition(', ')[0]}: column {column!r}"
            text.check_classes([cell for cell in self.pool if cell], len(self.cells), where)
        split = {cell: text.split_labels(cell, self.separator) if cell else () for cell in self.pool}
        return text.whole_number_labels([split[cell] for cell in self.cells], schema)


class WideTable:
    """A table with one row a sequence: the steps are numeric columns in the order of the file."""

    name = "wide"
    summary = "a table with a row a sequence: a label and, as numeric columns, the steps (CSV, TSV, ;, |, Parquet)"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether this is a table that has columns of numbers and is neither long nor one of texts."""
        columns = look(path, settings)
        if columns is None:
            return is_parquet(path)  # damaged, which reading tells
        if columns.height and not any(columns.numeric(i) for i in range(columns.width)):
            return False
        if settings.format == self.name:  # it is expected, and may come without what else would tell of it
            return True
        if text.text_column(columns, settings) is not None or _is_long(columns, settings):
            return False
        return columns.header or not ucr.UCR.recognises(path, task, settings)

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read everything, see `Format.read`."""
        schema, settings = _own(self.name, source, schema, settings)
        with _opened(source, settings, schema) as table:
            return _read_wide(table, task, settings, schema)


class LongTable:
    """A table with one row a step: a column tells which sequence a row belongs to, another orders the rows."""

    name = "long"
    summary = "a table with a row a step: an id, a time, values and a target as columns (CSV, TSV, ;, |, Parquet)"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether settings or the columns' names and content tell of an id that several rows share."""
        columns = look(path, settings)
        return columns is not None and (settings.format == self.name or _is_long(columns, settings))

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read everything, see `Format.read`."""
        schema, settings = _own(self.name, source, schema, settings)
        with _opened(source, settings, schema) as table:
            return _read_long(table, task, settings, schema)


WIDE = register(WideTable())
LONG = register(LongTable())


def read_frame(frame: Any, task: str, settings: DataSettings, schema: Schema | None = None) -> Records:
    """Read a pandas or polars dataframe as a table: wide, long or of texts, as a file would be.

    Args:
        frame: A `pandas.DataFrame` (its index is not read) or a `polars.DataFrame`.
        task: "classify" or "regress".
        settings: `format`, `target`, `features`, `id`, `time`, `text`, `ignore` and `label_separator` are heeded.
        schema: What was learnt from the training data, to read further data alike.

    Returns:
        Its sequences; `Records.place` counts rows from 1.

    Raises:
        DataError: It is no dataframe, or anything in it is not as it should be, with row and column.
    """
    table = frame_table(_polars(frame), "the dataframe")
    columns = Columns(table.names, table.sample, header=True)
    format = schema.settings.get("format", schema.format) if schema else settings.format
    if schema and schema.settings.get("format") not in (text.LABELLED.name, LONG.name, WIDE.name):
        format, schema = None, None
    if format == text.LABELLED.name or (format is None and text.text_column(columns, settings) is not None):
        return text.read_text_table(table, task, settings, schema)
    if format == LONG.name or (format is None and _is_long(columns, settings)):
        return _read_long(table, task, settings, schema)
    return _read_wide(table, task, settings, schema)


def _polars(frame: Any) -> pl.DataFrame:
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    if isinstance(frame, pl.DataFrame):
        return frame
    if not (hasattr(frame, "columns") and hasattr(frame, "iloc")):
        raise DataError(f"found {type(frame).__name__}, expected a pandas or polars dataframe.")
    series = []
    for position, name in enumerate(frame.columns):
        column = frame.iloc[:, position]
        if column.dtype.kind in "biufM" and isinstance(column.dtype, np.dtype):
            series.append(moments(str(name), column))
        else:
            cells = [None if missing else cell for cell, missing in zip(column, column.isna(), strict=True)]
            series.append(pl.Series(str(name), cells, strict=False))
    names = [column.name for column in series]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"the dataframe: two columns are named {twice!r}; every column needs a name of its own.")
    return pl.DataFrame(series)


def moments(name: str, column: Any) -> pl.Series:
    """A column or an index of pandas' as polars has it, which knows no dates in days or seconds."""
    values = column.to_numpy()
    if values.dtype.kind == "M" and np.datetime_data(values.dtype)[0] not in ("ns", "us", "ms"):
        values = values.astype("datetime64[ms]")
    return pl.Series(name, values)


def _own(
    format: str, source: Path | BinaryIO, schema: Schema | None, settings: DataSettings
) -> tuple[Schema | None, DataSettings]:
    """The schema where this format wrote it; else None, and settings without what another format found.

    Raises:
        DataError: The network reads text.
    """
    if schema is None or schema.settings.get("format") == format:
        return schema, settings
    if schema.input != "numbers":
        raise DataError(f"{name_of(source)}: holds a table of numbers, but the network reads text.")
    return None, settings.model_copy(update={"columns": None, "header": None, "separator": None})


def _opened(source: Path | BinaryIO, settings: DataSettings, schema: Schema | None):
    if schema is None:
        return open_table(source, settings)
    stored = schema.settings
    known = [str(name) for name in _list(stored.get("columns"))] if stored.get("header") else []
    return open_table(
        source,
        settings.model_copy(update={"columns": None, "header": None, "separator": None}),
        known,
        bool(stored.get("header")),
        str(stored["separator"]) if stored.get("separator") else None,
    )


def _list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


@dataclass
class Roles:
    """What each column of a table is for; positions."""

    features: list[int]
    target: list[int] = field(default_factory=list)
    id: int | None = None
    time: int | None = None
    blank: list[int] = field(default_factory=list)  # columns that only a separator at the end of lines makes
    undecided: bool = False  # wide, no header: the target is the first or the last of `features`
    warnings: list[str] = field(default_factory=list)


def resolved(format: str, table: Table, roles: Roles, settings: DataSettings) -> dict[str, object]:
    """The reading options as settled, by name, for the schema."""
    return {
        "format": format,
        "header": table.header,
        "separator": table.separator,
        "columns": [name for i, name in enumerate(table.names) if i not in roles.blank],
        "target": [table.names[i] for i in roles.target],
        "features": [table.names[i] for i in roles.features],
        "id": None if roles.id is None else table.names[roles.id],
        "time": None if roles.time is None else table.names[roles.time],
        "label_separator": settings.label_separator,
    }


def _stored_roles(table: Table, schema: Schema) -> Roles:
    """The columns that the training data had, found again: by name, else by position."""
    stored = schema.settings
    columns, features, target = (
        [str(name) for name in _list(stored.get(key))] for key in ("columns", "features", "target")
    )
    extra = [str(stored[key]) for key in ("id", "time") if stored.get(key) is not None]
    names = table.names
    if not (table.header and stored.get("header")):
        layouts = [columns, [name for name in columns if name not in target], [*extra, *features], features]
        trailing = Columns(names, table.sample, table.header).blank(len(names) - 1)
        counts = [len(names), len(names) - 1] if trailing else [len(names)]  # a separator at the end of each line
        fitting = [layout for count in counts for layout in layouts if len(layout) == count]
        if not fitting:
            raise DataError(
                f"{table.name}: its rows have {len(names)} cells, the training data had {len(columns)} "
                f"({len(columns) - len(target)} without the target); expected the same columns."
            )
        names = fitting[0]
    roles = Roles([])
    for name in features:
        found = find_name(name, names)
        if found is None:
            raise missing_column(table.name, name, table.names)
        roles.features.append(found)
    targets = [find_name(name, names) for name in target]
    if None not in targets:
        roles.target = [found for found in targets if found is not None]
    if stored.get("id") is not None:
        roles.id = find_name(str(stored["id"]), names)
    if stored.get("time") is not None:
        roles.time = find_name(str(stored["time"]), names)
        if roles.time is None:
            raise missing_column(table.name, str(stored["time"]), table.names)
    return roles


def _named(table: Table, settings: DataSettings) -> tuple[list[int], list[int] | None, set[int]]:
    """The columns that settings name: targets, features (None where not said), and those to leave out."""
    wanted = [settings.target] if isinstance(settings.target, str) else settings.target or []
    target = [table.column(name, "target") for name in wanted]
    ignored = {table.column(name, "ignore") for name in settings.ignore}
    features = [table.column(name, "features") for name in settings.features or []]
    for position in target:
        if features and position in features:
            raise DataError(f"{table.name}: {table.names[position]!r} is both in data.target and in data.features.")
    return target, features or None, ignored


def _unclear(table: Table, task: str, among: Sequence[int]) -> DataError:
    what = "label" if task == "classify" else "number to predict"
    names = [table.names[i] for i in among]
    return DataError(
        f"{table.name}: no column is clearly the {what}. Columns: {listed(names)}. "
        f"Name it: --set data.target={names[-1] if names else 'NAME'}"
    )


def _by_name(names: Sequence[str], among: Sequence[int], known: Sequence[str]) -> list[int]:
    """The columns that are named as targets are."""
    return [i for i in among if _plain(names[i]) in known]


def _wide_roles(table: Table, task: str, settings: DataSettings) -> Roles:
    columns = Columns(table.names, table.sample, table.header)
    target, features, ignored = _named(table, settings)
    roles = Roles([])
    kept = {*target, *(features or [])}
    last = len(table.names) - 1
    if columns.blank(last) and last not in kept and not table.header:
        roles.blank.append(last)  # a separator at the end of each line
    roles.blank += [i for i in table.unnamed if columns.blank(i) and i not in kept]
    left = [i for i in range(len(table.names)) if i not in ignored and i not in roles.blank and i not in target]
    if settings.id is not None:
        roles.id = table.column(settings.id, "id")
    left = [i for i in left if i != roles.id]
    for i in [i for i in left if i not in kept]:
        tells_apart = _tells_rows_apart(table, columns, i)
        if not tells_apart and not (table.header and _is_subject(table.names[i]) and len(left) > 2):
            continue
        left.remove(i)
        if tells_apart and roles.id is None and i not in table.unnamed:
            roles.id = i
        if i not in table.unnamed:
            roles.warnings.append(f"{table.name}: column {table.names[i]!r} names the rows and is no input.")
    series = _series_column(columns, settings) if table.header and settings.format is None else None
    if series is not None and _names_sequences(table.names[series]) and _mostly_shared(columns, series):
        roles.warnings.append(
            f"{table.name}: rows share their {table.names[series]!r}, and each is read as a sequence of its own "
            f"(wide); where they are the steps of one sequence, the table is long: {_WHICH}"
        )
    if not target:
        among = [i for i in left if not (features and i in features)]
        target = _wide_target(table, columns, task, among)
        if not target:
            if features and len(among) == 1:
                target = among
            elif task == "classify" and not features and not _tell_something(table, settings):
                roles.undecided = True
            else:
                raise _unclear(table, task, among)
    roles.target = target
    if task == "classify" and len(target) > 1:
        raise DataError(
            f"{table.name}: data.target names {len(target)} columns, but classify has one; several labels stand in "
            f"one cell, with --set data.label_separator=';'."
        )
    roles.features = features or [i for i in left if i not in target]
    _check_numeric(table, columns, roles.features)
    if not roles.features:
        raise DataError(f"{table.name}: no column is left as input. Columns: {listed(table.names)}.")
    return roles


_WHICH = "--set data.format=long or wide says which."


def _wide_target(table: Table, columns: Columns, task: str, among: Sequence[int]) -> list[int]:
    """The column to predict where none is named; empty where neither name nor content tells."""
    found = _by_name(table.names, among, LABEL_NAMES) or _by_name(table.names, among, WEAK_LABEL_NAMES)
    if not found and task == "classify":
        found = [i for i in among if not columns.numeric(i) and not columns.blank(i)]
        found = [i for i in found if not is_time_name(table.names[i]) and not columns.dates(i)]
        if len(found) > 1:
            found = [i for i in found if not _is_row_name(table.names[i])] or found
    if not found and table.header:
        odd = _without_number(table.names, among)
        found = odd if len(odd) == 1 else []
    if len(found) > 1:
        raise _unclear(table, task, found)
    return found


def _tell_something(table: Table, settings: DataSettings) -> bool:
    """Whether the columns' names tell them apart: not V1, V2, … or none."""
    if settings.columns:
        return True
    matches = [_NUMBERED.match(name) for name in table.names]
    return (
        table.header
        and len({match.group(1) if match else name for match, name in zip(matches, table.names, strict=True)}) > 1
    )


def _tells_rows_apart(table: Table, columns: Columns, i: int) -> bool:
    """Whether a column numbers or names the rows."""
    height = table.sample.height
    if i in table.unnamed and i == 0:
        return True
    if height < 2 or columns.distinct(i) < height:
        return False
    if table.header:
        return _is_row_name(table.names[i])
    if i or height < 5 or not columns.numeric(i):
        return False
    numbers = columns.floats(i)
    return bool(numbers[0] in (0, 1) and (np.diff(numbers) == 1).all())


def _without_number(names: Sequence[str], among: Sequence[int]) -> list[int]:
    """The columns that do not belong to a numbered series such as t_1, t_2, …, where there is one."""
    numbered = [i for i in among if _NUMBERED.match(names[i])]
    return [i for i in among if i not in numbered] if len(numbered) >= 2 else []


class WordsError(DataError):
    """A column of words among the inputs; `said` is the text without the table's name."""

    def __init__(self, name: str, said: str) -> None:
        super().__init__(f"{name}: {said}")
        self.said = said


def _check_numeric(table: Table, columns: Columns, features: Sequence[int]) -> None:
    """Tell of a column of words among the inputs as a whole, rather than of its first cell."""
    for i in features:
        if columns.numeric(i) or columns.blank(i):
            continue
        example = next(cell for cell in columns.cells(i) if cell)
        raise WordsError(
            table.name,
            f"column {table.names[i]!r} holds {short(example)!r}, not numbers; leave it out with "
            f"--set data.ignore={table.names[i]}, or predict it with --set data.target={table.names[i]}",
        )


def _channels(names: Sequence[str]) -> tuple[list[str], list[int]] | None:
    """Channels and step-major order where names are clearly NAME_0, NAME_1, … for several NAMEs; else None."""
    groups: dict[str, dict[int, int]] = {}
    for position, name in enumerate(names):
        match = _NUMBERED.match(name)
        if not match or not match.group(1) or int(match.group(2)) in groups.get(match.group(1), {}):
            return None
        groups.setdefault(match.group(1), {})[int(match.group(2))] = position
    steps = sorted(next(iter(groups.values())))
    if len(groups) < 2 or len(steps) < 2 or steps not in (list(range(len(steps))), list(range(1, len(steps) + 1))):
        return None
    if any(sorted(group) != steps for group in groups.values()):
        return None
    return list(groups), [group[step] for step in steps for group in groups.values()]


def _read_wide(table: Table, task: str, settings: DataSettings, schema: Schema | None) -> Records:
    roles = _stored_roles(table, schema) if schema else _wide_roles(table, task, settings)
    if schema:
        settings = settings.model_copy(update={"label_separator": schema.settings.get("label_separator")})
    if roles.undecided:
        columns = Columns(table.names, table.sample, table.header)
        roles.target = _label_end(columns.floats, roles.features, whole=False)
        roles.undecided = not roles.target
        roles.features = [i for i in roles.features if i not in roles.target]
    names = [table.names[i] for i in roles.features]
    channels = (
        None
        if roles.undecided
        else _channels([str(name) for name in _list(schema.settings["features"])] if schema else names)
    )
    features, order = channels or (["value"], list(range(len(names))))
    kinds = table.sample.dtypes  # made anew at every asking
    nested = any(kinds[i].is_nested() for i in roles.features)
    if nested:  # a column of lists: a whole sequence in one cell
        features, order = ["value"] if len(names) == 1 else names, list(range(len(names)))
    inputs = [roles.features[i] for i in order]
    values, lengths, lines = Growing("f"), Growing("q"), Growing("q")
    labels, numbers, ids = _Labels(settings.label_separator), Growing("d"), []
    for block in table.blocks():
        table.check_blank(block, roles.blank)
        if nested:
            lengths.extend(_append_lists(table, values, block, inputs))
        else:
            matrix = table.numbers(block, inputs)
            lengths.extend(_append_rows(table, values, matrix, block.lines, inputs, len(features)))
        lines.extend(block.lines)
        if roles.target and task == "classify":
            labels.extend(table.strings(block, roles.target[0]))
        elif roles.target:
            numbers.extend(table.numbers(block, roles.target))
        if roles.id is not None:
            ids.extend(table.strings(block, roles.id))
    at = lines.numpy()
    place = _places(table, at)
    flat, counts = values.numpy().reshape(-1, len(features)), lengths.numpy()
    if roles.undecided:
        flat, counts = _take_end(table, roles, flat, counts, labels)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    warnings = [*roles.warnings, *_notes(table)]
    if channels and not schema:
        warnings.append(
            f"{table.name}: read as {len(features)} channels ({listed(features)}) of {len(order) // len(features)} "
            f"steps, by the columns' names."
        )
    records = Records(
        flat,
        offsets,
        place,
        features=features,
        ids=ids or None,
        multi_label=schema.multi_label if schema else settings.label_separator is not None,
        settings=resolved(WIDE.name, table, roles, settings) if schema is None else dict(schema.settings),
        warnings=warnings,
    )
    if roles.target and task == "classify":
        records.labels = labels.settle(schema, place, table.names[roles.target[0]])
    elif roles.target:
        records.targets = schema.targets if schema else [table.names[i] for i in roles.target]
        records.numbers = _settled_numbers(table, numbers, roles.target, at, schema)
    return records


def _notes(table: Table) -> list[str]:
    if table.decimal == ",":
        return [f"{table.name}: the comma inside numbers is read as the decimal point."]
    return []


def _places(table: Table, lines: np.ndarray) -> Callable[[int], str]:
    return lambda index: table.place(int(lines[index]))


def _settled_numbers(
    table: Table, numbers: Growing, target: Sequence[int], lines: np.ndarray, schema: Schema | None
) -> np.ndarray | None:
    """The numbers to predict, a row for each of `lines`; None where there are none and there need be none."""
    matrix = numbers.numpy().reshape(-1, len(target))
    missing = np.isnan(matrix)
    if schema and missing.all():
        return None
    if missing.any():
        row, column = np.argwhere(missing)[0].tolist()
        raise _empty(table, int(lines[row]), target[column], "the number to predict")
    return matrix


def _append_rows(
    table: Table, values: Growing, matrix: np.ndarray, lines: np.ndarray, inputs: Sequence[int], width: int
) -> np.ndarray:
    """Add each row's steps, up to the last that is not empty; their numbers."""
    filled: np.ndarray = ~np.isnan(matrix)
    if filled.all():
        values.extend(matrix)
        return np.full(len(matrix), matrix.shape[1] // width)
    steps = filled.reshape(len(matrix), -1, width)
    some = np.asarray(steps.any(axis=-1))
    lengths = np.where(some.any(axis=-1), some.shape[1] - some[:, ::-1].argmax(1), 0)
    if not lengths.all():
        line = int(lines[np.flatnonzero(lengths == 0)[0]])
        raise DataError(f"{table.place(line)}: the sequence has no step; every sequence needs at least one number.")
    expected = np.repeat(np.arange(some.shape[1]) < lengths[:, None], width, axis=1)
    gaps = np.argwhere(expected & ~filled)
    if len(gaps):
        row, column = gaps[0]
        raise DataError(
            f"{table.place(int(lines[row]))}, column {table.names[inputs[column]]!r}: is empty in the middle of the "
            f"sequence, expected a number (only the end of a row may be empty, where the sequence is shorter)."
        )
    values.extend(matrix[expected])
    return lengths


def _append_lists(table: Table, values: Growing, block: Block, inputs: Sequence[int]) -> np.ndarray:
    """Add each row's lists, side by side; the numbers of their steps."""
    lists = [block.frame.to_series(i) for i in inputs]
    for i, column in zip(inputs, lists, strict=True):
        if not isinstance(column.dtype, pl.List | pl.Array) or not _is_number_type(column.dtype.inner):
            raise DataError(
                f"{table.name}: column {table.names[i]!r} holds {column.dtype}, expected a list of numbers as in "
                f"{next(table.names[j] for j in inputs if table.sample.dtypes[j].is_nested())!r}; leave it out with "
                f"--set data.ignore={table.names[i]}"
            )
    lengths = np.stack([column.cast(pl.List(pl.Float64)).list.len().fill_null(0).to_numpy() for column in lists], 1)
    wrong = np.flatnonzero((lengths != lengths[:, :1]).any(axis=-1) | (lengths[:, 0] == 0))
    if len(wrong):
        row = int(wrong[0])
        found = ", ".join(f"{table.names[i]!r} {length}" for i, length in zip(inputs, lengths[row], strict=True))
        raise DataError(
            f"{table.place(int(block.lines[row]))}: lists of these lengths found: {found}; expected at least one "
            f"number, and as many in each column."
        )
    flat = [column.cast(pl.List(pl.Float64)).explode().fill_null(np.nan).to_numpy() for column in lists]
    matrix = np.stack(flat, axis=1)
    bad = np.argwhere(~np.isfinite(matrix))
    if len(bad):
        step, column = bad[0]
        row = int(np.searchsorted(np.cumsum(lengths[:, 0]), step, side="right"))
        raise DataError(
            f"{table.place(int(block.lines[row]))}, column {table.names[inputs[column]]!r}: found "
            f"{matrix[step, column]:g} (a missing value?) in the list, expected finite numbers."
        )
    values.extend(matrix)
    return lengths[:, 0]


def _is_number_type(dtype: Any) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def _label_like(numbers: np.ndarray) -> bool:
    """Whether a column can be one of labels: whole numbers, several, each met more than once on average."""
    kinds = np.unique(numbers)
    return bool((numbers == np.round(numbers)).all() and 2 <= len(kinds) <= len(numbers) / 2)


def _label_end(column: Callable[[int], np.ndarray], features: Sequence[int], whole: bool) -> list[int]:
    """Which of the two end columns is the label, by its numbers; none where unclear.

    Where not the `whole` file is seen, an end with one value may turn out to be a label later.
    """
    ends = {i: column(i) for i in (features[0], features[-1])}
    alike = [i for i, numbers in ends.items() if _label_like(numbers)]
    constant = [i for i, numbers in ends.items() if len(np.unique(numbers)) == 1]
    return alike if len(alike) == 1 and (whole or not constant) else []


def _take_end(
    table: Table, roles: Roles, flat: np.ndarray, counts: np.ndarray, labels: _Labels
) -> tuple[np.ndarray, np.ndarray]:
    """Take the label out of the values, where only the whole file tells which column it is."""
    width = len(roles.features)
    if (counts != width).any():
        raise _unclear(table, "classify", roles.features)
    matrix = flat.reshape(-1, width)
    ends = {roles.features[0]: 0, roles.features[-1]: width - 1}
    found = _label_end(lambda i: matrix[:, ends[i]], roles.features, whole=True)
    if not found:
        first, last = table.names[roles.features[0]], table.names[roles.features[-1]]
        raise DataError(
            f"{table.name}: whether the first or the last column is the label is not clear. "
            f"Name it: --set data.target={first} or --set data.target={last}"
        )
    roles.target = found
    roles.features = [i for i in roles.features if i not in found]
    labels.extend(str(int(number)) for number in matrix[:, ends[found[0]]].tolist())
    return np.delete(matrix, ends[found[0]], axis=1).reshape(-1, 1), counts - 1


def _series_column(columns: Columns, settings: DataSettings) -> int | None:
    """The column that tells which sequence a row belongs to: named as such, and shared by several rows."""
    if settings.id is not None:
        return find_name(settings.id, columns.names)
    named = [i for i in range(columns.width) if is_series_name(columns.names[i])]
    if settings.format != LONG.name:
        named = [i for i in named if columns.distinct(i) < columns.height and not columns.blank(i)]
    rank = {name: place for place, name in enumerate(SERIES_NAMES)}
    return min(named, key=lambda i: rank.get(_plain(columns.names[i]), len(rank)), default=None)


def _time_column(columns: Columns, settings: DataSettings, series: int | None) -> int | None:
    if settings.time is not None:
        return find_name(settings.time, columns.names)
    taken = settings.target if isinstance(settings.target, list) else [settings.target]
    left_out = {*settings.ignore, *(settings.features or []), *taken}
    rank = {name: place for place, name in enumerate(TIME_NAMES)}
    named = [
        i
        for i in range(columns.width)
        if i != series and is_time_name(columns.names[i]) and columns.names[i] not in left_out
    ]
    return min(named, key=lambda i: rank[_plain(columns.names[i])], default=None)


def _is_long(columns: Columns, settings: DataSettings) -> bool:
    if settings.id is not None or settings.time is not None:
        return True
    if not columns.header or text.holds_prose(columns, settings):
        return False
    series = _series_column(columns, settings)
    if series is None:
        return False
    time = _time_column(columns, settings, series)
    if time is not None or settings.per_step:
        return True
    return _plain(columns.names[series]) in _SEQUENCE_NAMES and _rows_are_steps(columns, settings, series)


def _names_sequences(name: str) -> bool:
    """Whether a column's name speaks of sequences, and not of what these may have in common."""
    plain = _plain(name)
    return plain in _SEQUENCE_NAMES or plain.removesuffix("id") in _SEQUENCE_NAMES


def _mostly_shared(columns: Columns, series: int) -> bool:
    """Whether most rows have their id in common with another."""
    counts = Counter(columns.cells(series)).values()
    return 2 * sum(count for count in counts if count > 1) > columns.height


def _rows_are_steps(columns: Columns, settings: DataSettings, series: int) -> bool:
    """Whether rows that share an id are the steps of one sequence, though no column orders them.

    They are where each id has one label; and where the rows of each id stand together, whatever their labels. But where
    the columns look like steps themselves, each row is a sequence, unless ids have more rows than there are such
    columns, and most of them one label.
    """
    ids, kinds = columns.cells(series), columns.distinct(series)
    label = _label_column(columns, settings, series)
    varying = kinds if label is None else columns.varies_within(label, series)
    if not varying and kinds > 1:
        return True
    if not _mostly_shared(columns, series):
        return False
    others = [i for i in range(columns.width) if i not in (series, label) and columns.names[i] not in settings.ignore]
    values = [columns.names[i] for i in others if columns.numeric(i)]
    numbered = sum(any(map(str.isdigit, name)) for name in values)
    if len(values) >= 8 and (4 * numbered >= 3 * len(values) or len(values) > 50):  # such as t0, t1, …
        return len(values) * kinds < columns.height and 2 * varying <= kinds
    together = 1 + sum(a != b for a, b in pairwise(ids)) == kinds
    return together or settings.per_step is False


def _label_column(columns: Columns, settings: DataSettings, series: int) -> int | None:
    """The column that is to be predicted, as far as settings or its name tell."""
    if isinstance(settings.target, str):
        return find_name(settings.target, columns.names)
    others = [i for i in range(columns.width) if i != series]
    found = _by_name(columns.names, others, LABEL_NAMES) or _by_name(columns.names, others, WEAK_LABEL_NAMES)
    return found[0] if len(found) == 1 else None


def long_roles(table: Table, task: str, settings: DataSettings, *, following: bool = False) -> Roles:
    """What each column of a long table is for, by the settings, the columns' names and the first rows.

    Args:
        table: The table.
        task: "classify" or "regress".
        settings: What was said of its columns.
        following: Whether regress may have no target: where one column is left, its next value is to be predicted.

    Raises:
        DataError: It is not clear, or a column that is named is not there.
    """
    columns = Columns(table.names, table.sample, table.header)
    target, features, ignored = _named(table, settings)
    roles = Roles([])
    roles.id = table.column(settings.id, "id") if settings.id else _series_column(columns, settings)
    if roles.id is None and task == "classify" and not settings.per_step:
        raise DataError(
            f"{table.name}: no column tells which sequence a row belongs to. Columns: {listed(table.names)}. "
            f"Name it: --set data.id=NAME"
        )
    roles.time = table.column(settings.time, "time") if settings.time else _time_column(columns, settings, roles.id)
    left = [i for i in range(len(table.names)) if i not in ignored and i not in target]
    left = [i for i in left if i not in (roles.id, roles.time)]
    left = [i for i in left if not (i in table.unnamed and (columns.blank(i) or i == 0))]
    left = [i for i in left if not table.names[i].lower().startswith("unnamed:")]
    if not target:
        among = [i for i in left if not (features and i in features)]
        if following and task == "regress" and len(left) == 1:
            roles.features = left
            _check_numeric(table, columns, left)
            return roles
        target = _long_target(table, columns, task, among, roles.id)
    if task == "classify" and len(target) > 1:
        raise DataError(f"{table.name}: data.target names {len(target)} columns, but classify has one.")
    roles.target = target
    roles.features = features or [i for i in left if i not in target]
    if not roles.features:
        raise DataError(f"{table.name}: no column is left as input. Columns: {listed(table.names)}.")
    _check_numeric(table, columns, roles.features)
    return roles


def _long_target(table: Table, columns: Columns, task: str, among: Sequence[int], series: int | None) -> list[int]:
    """The column to predict where none is named. A `y` may be one of several inputs, so words come before it."""
    found = _by_name(table.names, among, LABEL_NAMES)
    if not found and task == "classify":
        found = [i for i in among if not columns.numeric(i) and not columns.blank(i)]
    if not found:
        found = _by_name(table.names, among, WEAK_LABEL_NAMES)
    if not found and series is not None:
        found = [i for i in among if columns.constant_within(i, series)]
    if not found and len(among) == 1:
        found = list(among)
    if len(found) != 1:
        raise _unclear(table, task, found or among)
    return found


@dataclass
class _Steps:
    """The rows of a long table, put in order: those of one sequence together, by time.

    Attributes:
        names: A name for each sequence, in the order of their first rows.
        order: The rows as they stand in the file, in the order wanted, (S,) int64.
        offsets: The bounds of the sequences in `order`, (N + 1,) int64.
        lines: The line of each row as it stands in the file, (S,) int64.
    """

    table: Table
    names: list[str]
    order: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray

    def line(self, step: int) -> int:
        """The line of a step, counted in the order wanted."""
        return int(self.lines[self.order[step]])

    def starts(self) -> np.ndarray:
        """For each step the first of its sequence, (S,) int64."""
        return np.repeat(self.offsets[:-1], np.diff(self.offsets))

    def varies(self, values: np.ndarray) -> bool:
        """Whether `values`, (S, K) in the order wanted, change within a sequence."""
        return bool((values != values[self.starts()]).any())

    def mostly_vary(self, values: np.ndarray) -> bool:
        """Whether `values`, (S,) in the order wanted, change within more than half of the sequences."""
        changed = np.add.reduceat(values != values[self.starts()], self.offsets[:-1])
        return 2 * int((changed > 0).sum()) > len(self.names)

    def check_constant(
        self, values: np.ndarray, columns: Sequence[str], reason: str, shown: Sequence[str] | None = None
    ) -> None:
        """Raise where a target changes within a sequence, naming the sequence and both lines.

        Args:
            values: (S, K) in the order wanted.
            columns: A name for each of the K.
            reason: Why they may not.
            shown: What the values stand for, where they are indices.
        """
        starts = self.starts()
        changes = np.argwhere(values != values[starts])
        if len(changes):
            step, column = changes[0].tolist()
            start = int(starts[step])
            name = self.names[int(np.searchsorted(self.offsets, step, side="right")) - 1]
            one, other = (values[at, column] if shown is None else shown[values[at, column]] for at in (start, step))
            raise DataError(
                f"{self.table.name}: {columns[column]!r} changes within sequence {name!r}, from {str(one)!r} in "
                f"{self.table.unit} {self.line(start)} to {str(other)!r} in {self.table.unit} {self.line(step)}; "
                f"{reason}."
            )


def _ordered(
    table: Table, roles: Roles, code: np.ndarray, time: np.ndarray | None, names: list[str], lines: np.ndarray
) -> _Steps:
    """The rows put in order, by the number of each row's sequence and its time.

    Raises:
        DataError: A time that a sequence has twice.
    """
    order = np.argsort(code, kind="stable") if time is None else np.lexsort((time, code))
    offsets = np.concatenate([[0], np.cumsum(np.bincount(code, minlength=len(names)))]).astype(np.int64)
    if time is not None and roles.time is not None:
        same = (np.diff(code[order]) == 0) & (np.diff(time[order]) == 0)
        if same.any():
            step = int(np.flatnonzero(same)[0])
            one, other = sorted(lines[order[step : step + 2]].tolist())
            of = f" of sequence {names[code[order[step]]]!r}" if roles.id is not None else ""
            raise DataError(
                f"{table.name}: the {table.unit}s {one} and {other} give the same time{of} (column "
                f"{table.names[roles.time]!r}); expected each time once."
            )
    return _Steps(table, names, order, offsets, lines)


def _read_long(table: Table, task: str, settings: DataSettings, schema: Schema | None) -> Records:
    roles = _stored_roles(table, schema) if schema else long_roles(table, task, settings)
    if schema:
        settings = settings.model_copy(update={"label_separator": schema.settings.get("label_separator")})
        if roles.id is None and schema.settings.get("id") is not None:
            raise missing_column(table.name, str(schema.settings["id"]), table.names)
    values, lines, codes, times = Growing("f"), Growing("q"), Growing("q"), []
    numbering: dict[str, int] = {}
    labels, numbers = _Labels(settings.label_separator), Growing("d")
    for block in table.blocks():
        matrix = table.numbers(block, roles.features)
        if np.isnan(matrix).any():
            row, column = np.argwhere(np.isnan(matrix))[0].tolist()
            raise _empty(table, int(block.lines[row]), roles.features[column], "a number")
        values.extend(matrix)
        lines.extend(block.lines)
        names = table.strings(block, roles.id) if roles.id is not None else [""] * len(matrix)
        if roles.id is not None and "" in names:
            raise _empty(table, int(block.lines[names.index("")]), roles.id, "the id of a sequence")
        codes.extend(np.array([numbering.setdefault(name, len(numbering)) for name in names]))
        if roles.time is not None:
            times.append(_times(table, block.frame.to_series(roles.time), block.lines, roles.time))
        if roles.target and task == "classify":
            labels.extend(table.strings(block, roles.target[0]))
        elif roles.target:
            numbers.extend(table.numbers(block, roles.target))
    time = np.concatenate(times) if times else None
    steps = _ordered(table, roles, codes.numpy(), time, list(numbering), lines.numpy())
    flat = values.numpy().reshape(-1, len(roles.features))
    if (np.diff(steps.order) != 1).any():
        flat = flat[steps.order]
    records = Records(
        flat,
        steps.offsets,
        lambda index: (
            f"{table.name}, sequence {steps.names[index]!r} ({table.unit} {steps.line(steps.offsets[index])})"
        ),
        features=schema.features if schema else [table.names[i] for i in roles.features],
        ids=steps.names,
        multi_label=schema.multi_label if schema else settings.label_separator is not None,
        settings=resolved(LONG.name, table, roles, settings) if schema is None else dict(schema.settings),
        warnings=[*roles.warnings, *_notes(table)],
    )
    said = (settings.format, settings.id, settings.time, settings.per_step, schema)
    guessed = all(one is None for one in said) and roles.id is not None and roles.time is None
    if roles.id is None:
        records.ids = None
        records.place = lambda index: table.place(steps.line(0))
    if roles.target and task == "classify":
        column = table.names[roles.target[0]]
        per_step = schema.per_step if schema else settings.per_step
        rows = labels.settle(schema, _places(table, steps.lines), column, gaps=bool(per_step), hint=f"; {_OR_SOME}")
        if rows is not None:
            hint = f"{_OR_SOME}; {_OR_WIDE}" if guessed else _OR_SOME
            _set_labels(records, steps, rows, column, per_step, settings.label_separator, hint)
            if records.step_labels is not None and records.multi_label:
                _leave_gaps(records, steps, labels, schema)
    elif roles.target:
        records.targets = schema.targets if schema else [table.names[i] for i in roles.target]
        matrix = _settled_numbers(table, numbers, roles.target, steps.lines, schema)
        if matrix is not None:
            matrix = matrix[steps.order]
            per_step = schema.per_step if schema else settings.per_step
            records.per_step = steps.varies(matrix) if per_step is None else per_step
            if not records.per_step:
                reason = "the training data had one number a sequence" if schema else "data.per_step is false"
                steps.check_constant(matrix, records.targets, reason)
            records.numbers = matrix if records.per_step else matrix[steps.offsets[:-1]]
    if guessed and records.per_step and roles.id is not None:
        records.warnings.append(
            f"{table.name}: rows that share their {table.names[roles.id]!r} are read as the steps of one sequence "
            f"(long); where each row is a sequence of its own, the table is wide: {_WHICH}"
        )
    return records


_OR_WIDE = f"where each row is a sequence of its own: --set data.format={WideTable.name}"
_OR_SOME = "where each step has its own, or only some have one: --set data.per_step=true"


def _set_labels(
    records: Records,
    steps: _Steps,
    rows: list[tuple[str, ...]],
    column: str,
    per_step: bool | None,
    separator: str | None,
    hint: str,
) -> None:
    """Put the labels of a long table's rows into the records: one a sequence, or one a step.

    Where it is not said which, labels that change within most sequences are those of steps; where they change within
    a few, these are taken for mistakes.
    """
    kinds = {row: kind for kind, row in enumerate(dict.fromkeys(rows))}
    kind = np.array([kinds[row] for row in rows])[steps.order]
    if per_step is None and (per_step := steps.mostly_vary(kind)):
        records.warnings.append(
            f"{steps.table.name}: {column!r} changes within most sequences, so each step is taken to have a label of "
            "its own; --set data.per_step=true or false says which."
        )
    if not per_step:
        shown = [(separator or "").join(row) for row in kinds]
        steps.check_constant(kind[:, None], [column], f"classify needs one label a sequence; {hint}", shown)
        records.labels = [rows[row] for row in steps.order[steps.offsets[:-1]].tolist()]
        return
    gap = kinds.get(()) if separator is None else None  # with a separator, an empty cell is a set without labels
    codes = kind if gap is None else np.where(kind == gap, -1, kind)
    records.per_step, records.step_labels = True, StepLabels(list(kinds), codes)


def _leave_gaps(records: Records, steps: _Steps, labels: _Labels, schema: Schema | None) -> None:
    """Ask for nothing at the steps whose cell is empty, where a cell with the separator alone is a set without labels:
    where there is such a cell, or was one in the training data."""
    assert records.step_labels is not None
    told = (
        schema.settings.get("gaps")
        if schema
        else any(cell and not text.split_labels(cell, labels.separator) for cell in labels.pool)
    )
    if told:
        empty = np.array([not cell for cell in labels.cells])[steps.order]
        records.step_labels = replace(records.step_labels, codes=np.where(empty, -1, records.step_labels.codes))
        records.settings["gaps"] = True


def _empty(table: Table, line: int, column: int, expected: str) -> DataError:
    return DataError(f"{table.place(line)}, column {table.names[column]!r}: is empty, expected {expected}.")


def _times(table: Table, column: pl.Series, lines: np.ndarray, position: int) -> np.ndarray:
    """A column of times as numbers that sort alike: as they stand, or microseconds since 1970 for dates."""
    if column.dtype.is_temporal() and not column.null_count():
        return (column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column).cast(pl.Int64).to_numpy()
    if column.dtype.is_numeric():
        column = column.cast(pl.Float64).fill_nan(None)
        if not column.null_count():
            return column.to_numpy()
    cells = as_strings(column)
    plain = pl.Series(cells).str.replace(",", ".", literal=True) if table.decimal == "," else pl.Series(cells)
    numbers = plain.cast(pl.Float64, strict=False).to_numpy()
    finite = np.isfinite(numbers)
    if finite.all():
        return numbers
    moments = np.zeros(len(cells), np.int64)
    for row, cell in enumerate(cells):
        moment = None if finite.mean() >= 0.5 else _moment(cell)
        if moment is None and not (finite[row] and finite.mean() >= 0.5):
            raise DataError(
                f"{table.place(int(lines[row]))}, column {table.names[position]!r}: found {short(cell)!r}, expected a "
                f"time: a number, or a date such as 2024-12-31 or 2024-12-31 23:59:59, as in other rows."
            )
        moments[row] = moment or 0
    return moments


def _moment(cell: str) -> int | None:
    """Microseconds since 1970 of an ISO date or time; None where it is none."""
    try:
        moment = datetime.fromisoformat(f"{cell}-01" if re.fullmatch(r"\d{4}-\d\d", cell) else cell)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
