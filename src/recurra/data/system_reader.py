"""The data of `simulate`: records of inputs and outputs from tables, folders of tables, and arrays."""

import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from recurra.data.arrays import archived
from recurra.data.delimited import Columns, Table, is_parquet, listed, look, missing_column, position, short
from recurra.data.numerals import is_number
from recurra.data.opening import digest, entries, first_bytes
from recurra.data.parts import role
from recurra.data.reader import Parts, Reader
from recurra.data.series_table import Whole, as_frame, open_whole
from recurra.data.settings import DataSettings
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known
from recurra.data.systems import Signals, Span, SystemSchema, SystemSettings
from recurra.data.table import is_series_name, is_time_name
from recurra.data.times import SPAN_WORDS, Beyond, read_times
from recurra.errors import DataError, unknown

FORMATS = ("table", "npz")
"""How records are laid out: CSV, TSV or Parquet; NumPy's archives of u and y."""

INPUT_NAMES, OUTPUT_NAMES = ("u", "input", "inputs", "in", "输入"), ("y", "output", "outputs", "out", "输出")
"""What columns of inputs and outputs are called, with or without a number behind."""

RECORD_NAMES = ("run", "record", "experiment", "trial", "session", "measurement", "dataset")
"""What a column is called that may tell records apart, beside those of series."""

EVENLY = 1e-3
"""Share of a step by which times may be off: they are often rounded."""


@dataclass
class _Record:
    """One record as read.

    Attributes:
        name: How messages call it.
        unit: What `lines` count.
        lines: (T,) int64.
        u: (T, I) float64.
        y: (T, K) float64, NaN where missing; None where there are none.
        id: Its name in the data.
        period: From step to step where there are times.
    """

    name: str
    unit: str
    lines: np.ndarray
    u: np.ndarray
    y: np.ndarray | None
    id: str | None = None
    period: float | None = None

    def cut(self, first: int, stop: int) -> "_Record":
        """Some of its rows."""
        y = None if self.y is None else self.y[first:stop]
        return _Record(self.name, self.unit, self.lines[first:stop], self.u[first:stop], y, self.id, self.period)

    def place(self, row: int) -> str:
        """How messages call one row."""
        return f"{self.name}, {self.unit} {int(self.lines[row])}"


@dataclass
class _Taken:
    """Which rows of a source a part takes.

    Attributes:
        part: The part.
        source: The source's name.
        columns: Its inputs and outputs.
        rows: Those named; None for all.
        records: What was read of them.
    """

    part: str
    source: str
    columns: tuple[list[str], list[str]]
    rows: list[Span] | None
    records: list[_Record]

    @property
    def key(self) -> str:
        """The setting that names the rows."""
        return "data.rows" if self.part == "train" else f"data.{self.part}_rows"

    @property
    def spans(self) -> list[Span]:
        """The rows taken; of several records, which have no rows to be named, none."""
        if self.rows is not None:
            return self.rows
        return [(0, len(self.records[0].u))] if len(self.records) == 1 else []


@dataclass
class _Roles:
    inputs: list[str]
    outputs: list[str]
    notes: list[str] = field(default_factory=list)


class SystemReader(Reader[Signals, SystemSchema]):
    """Reads records, and cuts from each, in time, the parts that are not given apart."""

    settings = SystemSettings
    schema = SystemSchema
    undealt = "parts of a recording are taken from its end"

    def parts(
        self,
        source: Any,
        task: str,
        settings: SystemSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SystemSchema | None = None,
    ) -> Parts[Signals, SystemSchema]:
        """See `Reader.parts`. What is not given apart is cut from the end of each training record: first the validation
        part, then, last in time, the test part."""
        _check_format(settings.format, "data.format")
        sources, warnings = _find(source, validation, test, task, settings)
        sum = hashlib.sha256()
        read: dict[str, list[_Record]] = {}
        roles: _Roles | None = None
        spans: list[_Taken] = []
        for part in PARTS:
            own = any(settings.columns_of(part)) or settings.rows_of(part) is not None
            if part not in sources and not own:
                continue
            given = sources.get(part) or sources["train"]
            named = settings.columns_of(part) if part != "train" and any(settings.columns_of(part)) else None
            opened = _open(given, settings, sum)
            if roles is None:
                roles = _roles(opened, given.name, settings)
                warnings += roles.notes + _left_out(opened, roles, settings)
            columns = roles.inputs, roles.outputs
            if named is not None:
                columns = named[0] or roles.inputs, named[1] or roles.outputs
                _check_counts(part, columns, roles)
                _check_distinct(_Roles(*columns), f"{part}_")
            read[part] = _records(opened, given.name, *columns, settings, settings.rows_of(part), part)
            spans.append(_Taken(part, given.name, columns, settings.rows_of(part), read[part]))
        assert roles is not None
        _check_apart(spans)
        name = sources["train"].name
        for records in read.values():
            _check(records, roles)
        fractions = {part: 0.0 if part in read else getattr(settings, f"{part}_fraction") for part in PARTS[1:]}
        whole = read["train"]
        _cut(read, fractions, name)
        _check_varies(read["train"], roles, warnings)
        step = _step([record for records in (whole, *read.values()) for record in records], warnings, settings)
        schema = SystemSchema(
            task="simulate",
            format=_format(sources["train"]),
            settings=settings.model_dump(),
            inputs=roles.inputs,
            outputs=roles.outputs,
            period=settings.period or step,
            step=step,
        )
        parts = {part: _signals(records) for part, records in read.items()}
        told = {part: sources[part].name if part in sources else name for part in parts}
        for part, share in fractions.items():
            if share:
                told[part] = f"the last {share:.3g} of {name}" if part == "test" else f"{share:.3g} of {name}, in time"
        train = parts["train"]
        if settings.window:
            stride = settings.stride or max(1, settings.window // 10)
            if short := int((train.lengths < settings.window).sum()):
                warnings.append(
                    f"{name}: {short} of {len(train)} training records {'is' if short == 1 else 'are'} shorter than "
                    f"data.window, {settings.window}, and a window each"
                )
            train = train.windows(settings.window, stride)
        return Parts(
            train=train,
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=warnings,
            sources=told,
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: SystemSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Signals, list[str]]:
        """See `Reader.part`. Where outputs need not be there, they may be missing, altogether or behind the first
        steps."""
        _check_format(format, "--input-format")
        settings: SystemSettings = self.settings_of(schema)
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        columns, rows = (schema.inputs, schema.outputs), None
        if isinstance(source, str) and is_known(source) and any(settings.columns_of("test")):
            named = settings.columns_of("test")
            columns = named[0] or columns[0], named[1] or columns[1]
        if isinstance(source, str) and is_known(source):
            rows, source = settings.test_rows, _in_set(source, settings)
        given = as_source(source if as_frame(source) is None else Source("the dataframe", as_frame(source)), "the data")
        if given is None:
            raise DataError("no data; give a path, '-' for standard input, a dataframe, or arrays (u, y).")
        if isinstance(given.data, Path) and given.data.is_dir() and not _is_folder_of_records(given.data):
            _check_folder(given.data)
            found, _ = find_sources(given.data, None, None, schema.task, settings, _rank)
            given = found.get("test", found["train"])
        opened = _open(given, settings, hashlib.sha256())
        records = _records(opened, given.name, *columns, settings, rows, None, needed=targets)
        _check_steps(records, schema)
        _check(records, _Roles(*columns), needed=targets)
        if len({record.y is None for record in records}) > 1:
            shape = len(schema.outputs)
            for record in records:
                record.y = np.full((len(record.u), shape), np.nan) if record.y is None else record.y
        return _signals(records), _unmeasured(records)

    def describe(self, source: Any, settings: SystemSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings.model_copy(update={"window": 0}))
        schema, lines = parts.schema, []
        for name, part in parts.named.items():
            lengths = part.lengths
            assert part.outputs is not None
            lines += [
                f"{name}: {parts.sources[name]} ({schema.format})",
                f"  records    {len(part):,}",
                f"  steps      {int(lengths.min()):,} to {int(lengths.max()):,}, median {float(lengths.median()):g}",
            ]
            for kind, names, values in (
                ("input", schema.inputs, part.inputs),
                ("output", schema.outputs, part.outputs),
            ):
                for k, column in enumerate(names):
                    one = values[:, k].numpy()
                    spread = f"{one.min():.6g} to {one.max():.6g}, mean {one.mean():.6g}, deviation {one.std():.4g}"
                    lines.append(f"  {kind:<9}  {column}: {spread}")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


# --- where records are ------------------------------------------------------------------------------------------------


def _check_format(format: str | None, setting: str) -> None:
    if format is not None and format not in FORMATS:
        raise DataError(f"{setting}: {unknown('format', format, FORMATS)}")


def _is_npz(path: Path) -> bool:
    return first_bytes(path, 4) == b"PK\3\4" and path.suffix.lower() == ".npz"


def _rank(path: Path) -> int | None:
    """0 for a table or a folder of records, 1 for an archive of arrays; None for anything else."""
    if path.is_dir():
        return 0 if _is_folder_of_records(path) else None
    if _is_npz(path):
        return 1
    columns = look(path, DataSettings())
    return 0 if is_parquet(path) or (columns is not None and columns.height) else None


def _is_folder_of_records(path: Path) -> bool:
    """Whether every file of a folder is a record: they are tables or archives, and no name tells of a part."""
    inside = entries(path)
    return bool(inside) and all(e.is_file() and role(e.name) is None and _rank(e) is not None for e in inside)


def _check_folder(path: Path) -> None:
    """Raise DataError where a path is a folder of records, and of what is none beside them."""
    if not path.is_dir():
        return
    inside = [e for e in entries(path) if role(e.name) is None]
    strays = [e.name for e in inside if not e.is_file() or _rank(e) is None]
    if strays and len(inside) - len(strays) > 1 and not any(role(e.name) == "train" for e in entries(path)):
        raise DataError(
            f"{path}: its tables are records of a system, and beside them is what is no table with rows: "
            f"{listed(strays)}. Expected records alone; or give the parts by name, train.csv or a folder train, "
            "test.csv."
        )


def _in_set(name: str, settings: SystemSettings) -> Path:
    """The path of a known set's records."""
    folder = folder_of(name)
    if folder is None:
        raise DataError(f"data.name: {name!r} holds no records of a system.")
    return folder / settings.file if settings.file else folder


def _find(
    source: Any, validation: Any, test: Any, task: str, settings: SystemSettings
) -> tuple[dict[str, Source], list[str]]:
    """Where each part comes from that is given apart."""
    framed = [as_frame(given) for given in (source, validation, test)]
    source, validation, test = (
        given if frame is None else Source("the dataframe", frame)
        for given, frame in zip((source, validation, test), framed, strict=True)
    )
    name = source if isinstance(source, str) and is_known(source) else settings.name if source is None else None
    if settings.file is not None and settings.path is None and name is not None:
        source = _in_set(name, settings)
    place = settings.path if source is None else source
    if isinstance(place, (str, os.PathLike)):
        _check_folder(Path(place).expanduser())
    return find_sources(source, validation, test, task, settings, _rank)


def _format(given: Source) -> str:
    if isinstance(given.data, Path):
        return "npz" if given.data.is_file() and _is_npz(given.data) else "table"
    return "table" if isinstance(given.data, pl.DataFrame) or hasattr(given.data, "read") else "arrays"


# --- how they are read ------------------------------------------------------------------------------------------------


def _open(given: Source, settings: SystemSettings, sum: Any) -> list[tuple[str, Whole | tuple[Any, Any]]]:
    """The tables or pairs of arrays of a source, each with its name; their content is added to a SHA-256."""
    data = given.data
    if isinstance(data, Path):
        paths = entries(data) if data.is_dir() else [data]
        found: list[tuple[str, Whole | tuple[Any, Any]]] = []
        for path in paths:
            sum.update(digest(path))
            if _is_npz(path):
                arrays = archived(path)
                if "u" not in arrays:
                    raise DataError(f"{path}: an array 'u' of inputs is expected, and 'y' of outputs; found "
                                    f"{', '.join(arrays) or 'none'}.")  # fmt: skip
                pair = (arrays["u"], arrays["y"]) if "y" in arrays else arrays["u"]
                found += _named(_pairs(pair, str(path)), str(path))
            else:
                found.append((str(path), open_whole(path, str(path), settings.table)))
        return found
    if isinstance(data, pl.DataFrame):
        sum.update(repr(data.schema).encode())
        sum.update(data.hash_rows(seed=0).to_numpy().tobytes())
        return [(given.name, open_whole(data, given.name, settings.table))]
    if hasattr(data, "read"):
        return [(given.name, open_whole(data, given.name, settings.table))]
    pairs = _pairs(data, given.name)
    for u, y in pairs:
        for values in (u, y):
            if values is not None:
                sum.update(np.ascontiguousarray(values).tobytes())
    return _named(pairs, given.name)


def _named(pairs: list[tuple[np.ndarray, np.ndarray | None]], name: str) -> list[tuple[str, Whole | tuple[Any, Any]]]:
    """Pairs of arrays, each with its name."""
    return [(f"{name}, record {i}" if len(pairs) > 1 else name, pair) for i, pair in enumerate(pairs)]


def _pairs(data: Any, name: str) -> list[tuple[np.ndarray, np.ndarray | None]]:
    """Arrays handed over: u or (u, y) of one record, or lists of those of several."""
    u, y = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    us, several = _arrays(u, name, "u")
    if y is None:
        return [(one, None) for one in us]
    ys, many = _arrays(y, name, "y")
    if several != many or len(us) != len(ys):
        raise DataError(f"{name}: {len(us)} records of inputs, {len(ys)} of outputs; as many are expected.")
    for i, (a, b) in enumerate(zip(us, ys, strict=True)):
        if len(a) != len(b):
            where = f"{name}, record {i}" if several else name
            raise DataError(f"{where}: {len(a)} steps of inputs, {len(b)} of outputs; as many are expected.")
    return list(zip(us, ys, strict=True))


def _arrays(given: Any, name: str, letter: str) -> tuple[list[np.ndarray], bool]:
    """Arrays (T, width) of each record, and whether several were given."""
    several = isinstance(given, (list, tuple)) and bool(given) and np.ndim(given[0]) > 0
    found = []
    for one in given if several else [given]:
        if np.iscomplexobj(one):
            raise DataError(f"{name}: {letter}: holds complex numbers; real ones are expected, such as two columns.")
        try:
            values = np.asarray(one, np.float64)
        except (ValueError, TypeError) as error:
            raise DataError(f"{name}: {letter}: numbers are expected: {error}") from error
        if values.ndim == 3 and not several:
            return list(values), True
        if values.ndim not in (1, 2):
            raise DataError(f"{name}: {letter}: has {values.ndim} axes; (T,) or (T, width) of a record is expected.")
        found.append(values[:, None] if values.ndim == 1 else values)
    return found, several


def _roles(opened: list[tuple[str, Whole | tuple[Any, Any]]], name: str, settings: SystemSettings) -> _Roles:
    """Which columns are inputs and which outputs: named, or found by their names or places."""
    first = opened[0][1]
    if isinstance(first, tuple):
        u, y = first
        widths = [np.shape(v)[1] if np.ndim(v) > 1 else 1 for v in (u, y) if v is not None]
        names = [
            [letter] if width == 1 else [f"{letter}{k}" for k in range(width)]
            for letter, width in zip("uy", widths, strict=False)
        ]
        if len(names) < 2:
            raise DataError(f"{name}: has inputs alone; training takes a pair (u, y).")
        return _Roles(*names)
    table = first.table
    inputs, outputs = (
        None if given is None else [table.names[table.column(column, setting)] for column in given]
        for given, setting in ((settings.inputs, "inputs"), (settings.outputs, "outputs"))
    )
    if inputs is not None and outputs is not None:
        _check_distinct(_Roles(inputs, outputs))
        return _Roles(inputs, outputs)
    taken = {settings.id, settings.time, *(inputs or []), *(outputs or [])}
    for part in PARTS[1:]:
        taken |= {column for given in settings.columns_of(part) for column in given or []}
    columns = Columns(table.names, first.frame.head(1000), table.header)
    free = [n for i, n in enumerate(table.names) if n not in taken and columns.numeric(i) and not columns.blank(i)]
    if inputs is None and outputs is None:
        inputs, outputs = ([n for n in free if _is_called(n, names)] for names in (INPUT_NAMES, OUTPUT_NAMES))
        if not (inputs and outputs) and len(free) == 2:
            inputs, outputs = [free[0]], [free[1]]
    elif inputs is None:
        inputs = free
    else:
        outputs = free
    if not inputs or not outputs:
        for place, column in enumerate(table.names):
            if column not in (*taken, *free) and _is_called(column, INPUT_NAMES + OUTPUT_NAMES):
                raise DataError(f"{name}: {_without_numbers(columns, place, column)}")
        raise DataError(
            f"{name}: which columns are the system's inputs and which its outputs is not told by their names: "
            f"{listed(table.names)}. Name them: --set data.inputs=NAME --set data.outputs=NAME"
        )
    _check_distinct(_Roles(inputs, outputs))
    said = f"{name}: {listed(inputs)} taken as input, {listed(outputs)} as output"
    return _Roles(inputs, outputs, [f"{said}; data.inputs and data.outputs name others"])


def _without_numbers(columns: Columns, place: int, name: str) -> str:
    """What is told of a column that is called as an input or output, and holds none."""
    cells = [cell for cell in columns.cells(place) if cell.strip()]
    if not cells:
        return f"column {name!r} is empty; inputs and outputs are numbers."
    found = next((cell for cell in cells if not is_number(cell)), cells[0])
    return (
        f"column {name!r} holds {short(found)!r}, which is no number; inputs and outputs are numbers: write states as "
        "numbers, such as 1 and 0."
    )


def _check_distinct(roles: _Roles, part: str = "") -> None:
    """Raise DataError where a column is named twice."""
    for kind, names in (("inputs", roles.inputs), ("outputs", roles.outputs)):
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise DataError(f"data.{part}{kind}: the column {twice!r} is named twice; once is expected.")
    if both := next((name for name in roles.inputs if name in roles.outputs), None):
        raise DataError(
            f"data.{part}inputs and data.{part}outputs: the column {both!r} is named in both; an output is to be told, "
            "and not given."
        )


def _left_out(opened: list[tuple[str, Whole | tuple[Any, Any]]], roles: _Roles, settings: SystemSettings) -> list[str]:
    """What is told of columns of the training records that nothing is read of."""
    name, whole = opened[0]
    if isinstance(whole, tuple):
        return []
    table = whole.table
    named = {*roles.inputs, *roles.outputs}
    named |= {column for part in PARTS[1:] for given in settings.columns_of(part) for column in given or []}
    named |= {column for column in (settings.id, settings.time) if column is not None}
    read = {position(column, table.names) for column in named}
    columns = Columns(table.names, whole.frame.head(1000), table.header)
    rest = [n for i, n in enumerate(table.names) if i not in read and not columns.blank(i)]
    if not rest:
        return []
    told = [f"{name}: nothing is read of {listed(rest)}; data.time names a column of times, data.id one that tells "
            "records apart"]  # fmt: skip
    for column in rest:
        if settings.id is None and (column.strip().lower() in RECORD_NAMES or is_series_name(column)):
            distinct = len(set(whole.strings(column)))
            if 1 < distinct <= len(whole.lines) // 2:
                told.append(
                    f"{name}: column {column!r} holds {distinct:,} different words, and is called as one that tells "
                    f"records apart; all rows are taken for one record: --set data.id={column} parts them"
                )
    times = next((n for n in rest if is_time_name(n)), None)
    if times is not None and settings.time is None and settings.id is None:
        at = np.arange(len(whole.lines))
        try:
            _period(_Record(name, table.unit, whole.lines, np.empty((len(at), 0)), None), whole, times, at)
        except DataError as error:
            told.append(f"{error} Rows are counted all the same, for data.time is left out")
    return told


def _is_called(name: str, among: tuple[str, ...]) -> bool:
    return name.strip().lower().rstrip("0123456789").rstrip("_") in among


def _check_counts(part: str, columns: tuple[list[str], list[str]], roles: _Roles) -> None:
    for kind, own, expected in (("inputs", columns[0], roles.inputs), ("outputs", columns[1], roles.outputs)):
        if len(own) != len(expected):
            raise DataError(
                f"data.{part}_{kind}: {len(own)} columns, data.{kind} are {len(expected)}; as many are expected."
            )


def _records(
    opened: list[tuple[str, Whole | tuple[Any, Any]]],
    source: str,
    inputs: list[str],
    outputs: list[str],
    settings: SystemSettings,
    rows: list[Span] | None,
    part: str | None,
    needed: bool = True,
) -> list[_Record]:
    """The records of a source; `part` is None of further data."""
    found: list[_Record] = []
    for name, content in opened:
        if isinstance(content, tuple):
            u, y = (
                None if v is None else _arrays(v, name, letter)[0][0] for v, letter in zip(content, "uy", strict=True)
            )
            assert u is not None
            for values, names, kind in ((u, inputs, "inputs"), (y, outputs, "outputs")):
                if values is not None and values.shape[1] != len(names):
                    raise DataError(f"{name}: {values.shape[1]} {kind}, {len(names)} are expected.")
            found.append(_Record(name, "row", np.arange(len(u)), u, y))
        else:
            found += _of_table(name, content, inputs, outputs, settings, needed, len(opened) > 1, part is None)
    if rows is None or not found:
        return found
    key = "data.rows" if part == "train" else f"data.{part or 'test'}_rows"
    if len(found) > 1:
        raise DataError(f"{key}: {source} holds {len(found)} records; rows are of one.")
    (whole,) = found
    for first, stop in rows:
        if not first < stop <= len(whole.u):
            raise DataError(f"{key}: [{first}, {stop}] does not lie within the {len(whole.u):,} rows of {source}.")
    return [whole.cut(first, stop) for first, stop in rows]


def _of_table(
    name: str,
    whole: Whole,
    inputs: list[str],
    outputs: list[str],
    settings: SystemSettings,
    needed: bool,
    several: bool,
    further: bool,
) -> list[_Record]:
    """The records of a table: one, or one for each id; of `further` data, which need have no ids and no times."""
    table = whole.table
    inputs = [_column(table, name, "inputs", further) for name in inputs]
    if needed or all(position(name, table.names) is not None for name in outputs):
        there = [_column(table, name, "outputs", further) for name in outputs]
    else:
        there = []
    u, y = whole.numbers(inputs), whole.numbers(there) if there else None
    both = u if y is None else np.hstack([u, y])
    filled = np.flatnonzero(np.isfinite(both).any(1))
    rows = np.arange(filled[-1] + 1) if len(filled) else np.arange(0)  # lines behind the last number are no steps
    lines, unit = whole.lines, table.unit
    if settings.id is None or (further and position(settings.id, table.names) is None):
        keys = [(None, rows)]
    else:
        cells = np.array(whole.strings(_column(table, settings.id, "id", further)))
        keys = [(str(key), rows[cells[rows] == key]) for key in dict.fromkeys(cells[rows].tolist())]
    found = []
    for key, at in keys:
        called = name if key is None else f"{name}, record {key!r}"
        own = Path(name).stem if several and key is None else key
        record = _Record(called, unit, lines[at], u[at], None if y is None else y[at], own)
        if settings.time is not None and len(at) and not (further and position(settings.time, table.names) is None):
            record.period = _period(record, whole, settings.time, at)
        found.append(record)
    return found


def _column(table: Table, name: str, setting: str, further: bool) -> str:
    """The column of that name, as the table has it.

    Raises:
        DataError: There is none; by the setting, or by the training data.
    """
    found = position(name, table.names)
    if found is None:
        raise missing_column(table.name, name, table.names, None if further else setting)
    return table.names[found]


def _period(record: _Record, whole: Whole, column: str, at: np.ndarray) -> float:
    """From step to step, in seconds where times are dates.

    Raises:
        DataError: They do not rise evenly; how many do not, and the first.
    """
    table = whole.table
    column = table.names[table.column(column, "time")]
    cells = [whole.strings(column)[i] for i in at.tolist()]
    read = read_times(whole.frame.to_series(table.names.index(column)).gather(at.tolist()))
    if isinstance(read, int):
        why = f"lies beyond the dates that can be told, {SPAN_WORDS}" if isinstance(read, Beyond) else "is no time"
        raise DataError(f"{record.place(read)}: column {column!r}: {cells[read]!r} {why}.")
    times = read.values.astype(np.float64) / (1e9 if read.dated else 1.0)
    steps = np.diff(times)
    if not len(steps):
        return 1.0
    usual = float(np.median(steps))
    if usual <= 0:
        raise DataError(f"{record.place(1)}: column {column!r}: times do not rise.")
    off = np.flatnonzero(np.abs(steps - usual) > EVENLY * usual)
    if len(off):
        row = int(off[0]) + 1
        raise DataError(
            f"{record.place(row)}: column {column!r}: {cells[row]} comes {steps[row - 1]:.6g} after {cells[row - 1]}, "
            f"where {usual:.6g} is usual ({len(off):,} such); the steps of a record are of one length: resample it."
        )
    return usual


# --- what is held against them ----------------------------------------------------------------------------------------


def _check(records: list[_Record], roles: _Roles, needed: bool = True) -> None:
    for record in records:
        if not len(record.u):
            raise DataError(f"{record.name}: no row holds a number.")
        for names, values, kind in ((roles.inputs, record.u, "input"), (roles.outputs, record.y, "output")):
            if values is None:
                if needed:
                    raise DataError(f"{record.name}: has no outputs; {listed(roles.outputs)} expected.")
                continue
            missing = ~np.isfinite(values)
            if kind == "output" and not needed:
                known = missing.any(1).argmax() if missing.any() else len(values)
                missing = missing.any(1) & ~missing.all(1) | (~missing.any(1) & (np.arange(len(values)) > known))
                missing = missing[:, None] & np.ones(values.shape, bool)
                if missing.any():
                    row = int(missing.any(1).argmax())
                    raise DataError(
                        f"{record.place(row)}: outputs are known again, or in part, behind a step without; known "
                        "outputs begin a record and have no gap."
                    )
                continue
            if missing.any():
                row, k = (int(i[0]) for i in np.nonzero(missing))
                raise DataError(
                    f"{record.place(row)}: {kind} {names[k]!r} is missing ({int(missing.sum()):,} such); every step of "
                    "a record needs its numbers: fill them in, or name stretches without gaps (data.rows)."
                )


def _unmeasured(records: list[_Record]) -> list[str]:
    """What is told of records whose outputs are not all known."""
    known = [0 if r.y is None else int(np.isfinite(r.y).all(1).sum()) for r in records]
    lacking = [(r, n) for r, n in zip(records, known, strict=True) if n < len(r.u)]
    if not lacking:
        return []
    first, steps = lacking[0]
    others = f" ({len(lacking):,} such records)" if len(lacking) > 1 else ""
    if steps:
        return [f"{first.name}: its outputs are known for the first {steps:,} of {len(first.u):,} steps{others}"]
    return [
        f"{first.name}: no outputs are known{others}; it is simulated as if the system had stood still before its "
        "first step"
    ]


def _check_apart(taken: list[_Taken]) -> None:
    """Raise DataError where two parts of one file share rows, of which one or both are named."""
    for i, part in enumerate(taken):
        for other in taken[:i]:
            if (part.source, part.columns) != (other.source, other.columns) or part.rows is other.rows is None:
                continue
            for first, stop in part.spans:
                for low, high in other.spans:
                    if max(first, low) < min(stop, high):
                        whole = "" if other.rows is not None else " (all, for data.rows is left out)"
                        raise DataError(
                            f"{part.key}: [{first}, {stop}] shares the rows {max(first, low)} to "
                            f"{min(stop, high) - 1} with {other.key}{whole}; parts are expected to have rows of their "
                            "own."
                        )


def _step(records: list[_Record], warnings: list[str], settings: SystemSettings) -> float | None:
    """From row to row of every record, by its times; None where there are none.

    Raises:
        DataError: They differ.
    """
    timed = [(record, record.period) for record in records if record.period is not None]
    if not timed:
        return None
    first, step = timed[0]
    for record, other in timed:
        if abs(other - step) > EVENLY * step:
            raise DataError(
                f"{record.name}: from row to row are {other:.6g}, in {first.name} {step:.6g}; all records of a system "
                "are to be of one step: resample them."
            )
    if settings.period is not None and abs(settings.period - step) > EVENLY * step:
        warnings.append(
            f"{first.name}: column {settings.time!r} rises by {step:.6g} a row, and data.period says "
            f"{settings.period:g} s: right where times are not in seconds alone; figures take the latter"
        )
    return step


def _check_steps(records: list[_Record], schema: SystemSchema) -> None:
    """Raise DataError where further records are of another step than those of the training part."""
    if (step := schema.step) is None:
        return
    for record in records:
        if record.period is not None and abs(record.period - step) > EVENLY * step:
            raise DataError(
                f"{record.name}: from row to row are {record.period:.6g}, in the training data {step:.6g}; the network "
                "knows no other step: resample the record."
            )


def _check_varies(records: list[_Record], roles: _Roles, warnings: list[str]) -> None:
    name = records[0].name
    for names, kind in ((roles.inputs, "input"), (roles.outputs, "output")):
        values = np.concatenate([record.u if kind == "input" else record.y for record in records])  # type: ignore[misc]
        for k, column in enumerate(names):
            if values[:, k].min() == values[:, k].max():
                said = f"{name}: {kind} {column!r} is {values[0, k]:.6g} at every step of the training part"
                if kind == "output":
                    raise DataError(f"{said}; there is nothing to learn.")
                warnings.append(f"{said}, so nothing can be learnt of it")


def _cut(read: dict[str, list[_Record]], fractions: dict[str, float], name: str) -> None:
    """Cut the parts that are missing from the end of each training record."""
    if sum(fractions.values()) >= 1:
        raise DataError(
            f"data.validation_fraction {fractions['validation']:g} and data.test_fraction {fractions['test']:g} leave "
            "nothing to train on; expected a sum below 1."
        )
    whole, read["train"] = read["train"], []
    for record in whole:
        steps = len(record.u)
        test = round(fractions["test"] * steps)
        validation = round(fractions["validation"] * steps)
        bounds = [steps - test - validation, steps - test, steps]
        for part, first, stop in zip(("train", *PARTS[1:]), [0, *bounds[:-1]], bounds, strict=True):
            wanted = part == "train" or fractions[part]
            if wanted and stop - first < 2:
                if part == "train":
                    left = ", of which validation and test part take the rest" if test or validation else ""
                    raise DataError(
                        f"{record.name}: has {steps} step{'s' * (steps != 1)}{left}; too few to learn from, 2 and more "
                        "are expected."
                    )
                raise DataError(f"{record.name}: has {steps} steps, too few for a {part} part; give it apart, or go "
                                f"without: --set data.{part}_fraction=0.")  # fmt: skip
            if wanted:
                read.setdefault(part, []).append(record.cut(first, stop))


def _signals(records: list[_Record]) -> Signals:
    ids = [record.id or "" for record in records] if any(record.id for record in records) else None
    return Signals.of([(record.u, record.y) for record in records], ids)
