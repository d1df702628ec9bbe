"""The data of `forecast`: series of tables and arrays, cut in time into their parts."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from pydantic import Field, field_validator

from recurra.data.arrays import archived
from recurra.data.delimited import is_parquet, look
from recurra.data.opening import digest, first_bytes
from recurra.data.reader import Parts, Reader
from recurra.data.sequences import AnySchema
from recurra.data.series import Missing, Preparation, Scaling, Series, SeriesWindows, Transform, differenced
from recurra.data.series_grid import Axis, Laid, axis_of, lay
from recurra.data.series_table import Layout, Named, Roles, Rows, as_frame, find_roles, open_whole, read_rows
from recurra.data.settings import DataSettings, PlaceSettings
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, made_sources
from recurra.data.times import CALENDAR, calendar_names, parsed_frequency, read_times, usual_calendar
from recurra.errors import DataError, unknown

FORMATS = ("table", "npy")
"""How series are laid out: CSV, TSV or Parquet; NumPy's own files."""

MOST_CATEGORIES = 50
"""Different words of a static column at most."""


class SeriesSettings(PlaceSettings):
    """The `data.*` settings of forecast: where series are, what their columns are for, and how windows are cut."""

    file: str | None = Field(default=None, description="the file in a known set's folder, where it holds several")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    layout: Layout | None = Field(
        default=None,
        description="long: an id column tells series apart; wide: each column is a series; variables: the columns are "
        "variables of one series; found when left out, and said",
    )
    time: str | None = Field(default=None, description="column of times; found from the content when left out")
    time_format: str | None = Field(default=None, description='how dates are written, such as "%d/%m/%Y"')
    frequency: str | None = Field(
        default=None,
        description='steps of time: "15min", "1h", "1d", "business", "1w", "1mo", "3mo", "1y"; "rows": every row is a '
        "step, whatever its time; found from the times when left out",
    )
    id: str | list[str] | None = Field(default=None, description="long: column, or columns, that name a series")
    target: str | list[str] | None = Field(default=None, description="column, or columns, to forecast")
    past: list[str] | None = Field(
        default=None, description="covariates known up to the present alone; when left out, all other numbers"
    )
    known: list[str] | None = Field(
        default=None, description="covariates known ahead; when left out, those that go on behind the last target"
    )
    static: list[str] = Field(default_factory=list, description="columns of what a series has throughout")
    ignore: list[str] = Field(default_factory=list, description="columns to leave out")
    calendar: list[Literal["minute", "hour", "weekday", "day", "yearday", "month", "quarter"]] | None = Field(
        default=None,
        description="features of the calendar, each as sine and cosine; when left out, those that differ from step to "
        "step and come round twice in the training part",
    )
    season: int | None = Field(
        default=None,
        ge=1,
        description="steps after which series repeat themselves, for the seasonal baseline and MASE; by the steps of "
        "time, else found from autocorrelation",
    )
    context: int | None = Field(
        default=None, ge=1, description="rows read before a forecast; when left out, two seasons or horizons"
    )
    horizon: int | None = Field(default=None, ge=1, description="rows forecast; when left out, a season")
    stride: int = Field(default=1, ge=1, description="rows between the origins of training windows")
    test_stride: int = Field(
        default=1, ge=1, description="rows between the origins that are validated and tested on (rolling origin)"
    )
    train_end: str | int | None = Field(
        default=None, description="last time of the training part, or the number of its rows"
    )
    validation_end: str | int | None = Field(
        default=None, description="last time of the validation part, or the number of rows up to there"
    )
    test_end: str | int | None = Field(default=None, description="likewise of the test part; rows behind it are unused")
    missing: Missing = Field(
        default="mask",
        description="missing numbers: mask: 0, and told apart; interpolate: between the known ones of the window's "
        "past; forward: the last one before; error",
    )
    transform: Transform = Field(default="none", description="of the targets, undone in forecasts")
    difference: int | list[int] = Field(
        default_factory=list,
        description="lags at which targets are differenced in turn; undone in forecasts",
    )
    scaling: Scaling = Field(
        default="last",
        description="of the targets: series: by the training rows of each; window: by the window's own past; last: "
        "less the window's last value, by the series' deviation; none",
    )

    @field_validator("difference")
    @classmethod
    def _lags_are_positive(cls, value: int | list[int]) -> int | list[int]:
        lags = [value] if isinstance(value, int) else value
        if any(lag < 1 for lag in lags):
            raise ValueError("a lag is a number of rows from 1")
        return value

    @property
    def lags(self) -> tuple[int, ...]:
        """The lags of the differences."""
        return (self.difference,) if isinstance(self.difference, int) else tuple(self.difference)

    @property
    def table(self) -> DataSettings:
        """How a delimited file is read."""
        return DataSettings(
            header=self.header, separator=self.separator, columns=self.columns, encoding=self.encoding, format=None
        )


class SeriesSchema(AnySchema):
    """What the training series settled."""

    task: Literal["forecast"]
    layout: Layout
    time: str | None = None
    time_format: str | None = None
    dated: bool = False
    frequency: str = "step"
    first: float = 0.0  # of times that are numbers: step 0
    step: float = 1.0
    ids: list[str] = Field(default_factory=list)
    id_columns: list[str] = Field(default_factory=list)
    targets: list[str]
    columns: list[str] = Field(default_factory=list)  # wide: the columns that are series
    past: list[str] = Field(default_factory=list)
    known: list[str] = Field(default_factory=list)  # those of the table; the calendar's come behind
    calendar: list[str] = Field(default_factory=list)
    static: list[str] = Field(default_factory=list)  # a column, or "column=word" for each word of one
    static_columns: list[str] = Field(default_factory=list)
    season: int = 1
    context: int
    horizon: int
    masked: bool = False  # whether training rows miss numbers, and the network is told which
    mean: list[list[float]] = Field(default_factory=list)
    deviation: list[list[float]] = Field(default_factory=list)
    naive: list[list[float | None]] = Field(default_factory=list)
    """MASE's scale of each series and target: the mean error of the seasonal naive forecast on the training rows, in
    their own units; None where it is 0 or unknown."""
    past_scale: list[list[float]] = Field(default_factory=list)
    known_scale: list[list[float]] = Field(default_factory=list)
    static_scale: list[list[float]] = Field(default_factory=list)

    @property
    def known_names(self) -> list[str]:
        """All that is known ahead, those of the calendar last."""
        return [*self.known, *calendar_names(self.calendar)]

    @property
    def axis(self) -> Axis:
        """The steps of time."""
        return Axis(parsed_frequency(self.frequency), self.dated, self.first, self.step)


class SeriesReader(Reader[SeriesWindows, SeriesSchema]):
    """Reads series, lays them on equal steps of time, and cuts them into training, validation and test rows."""

    settings = SeriesSettings
    schema = SeriesSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: SeriesSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SeriesSchema | None = None,
    ) -> Parts[SeriesWindows, SeriesSchema]:
        """See `Reader.parts`. Parts are cut in time: training rows first, then validation, then test rows."""
        _check_format(settings.format, "data.format")
        sources, warnings = _find(source, validation, test, task, settings)
        sum = hashlib.sha256()
        tables: dict[str, Rows] = {}
        roles: Roles | None = None
        for part, given in sources.items():
            whole = _opened(given, settings, sum, [] if roles is None else _columns(roles))
            if roles is None:
                named = _named(settings)
                if _is_stacked(whole.frame) and _format(given) in ("arrays", "npy"):
                    named.ids, named.time = ["series"], "step"
                roles = find_roles(whole, named)
                warnings += roles.notes
            rows = read_rows(whole, roles, settings.time_format)
            warnings += rows.notes
            tables[part] = rows
        assert roles is not None
        name = sources["train"].name
        wanted = None if settings.frequency is None else parsed_frequency(settings.frequency)
        axis = axis_of(tables["train"], wanted)
        laid = lay(tables, axis, [], strict=settings.missing == "error")
        bounds = _bounds(laid, axis, settings, name)
        warnings += laid.warnings
        features = _calendar(settings, axis, laid.series, bounds["train"])
        if features:
            laid = lay(tables, axis, features, strict=settings.missing == "error")
        statics, static_names = _statics(tables, laid.series.ids, name, warnings)
        series = replace(laid.series, static=statics)
        _check_values(series, bounds["train"], settings, roles, name, warnings)
        season = settings.season or axis.frequency.season or _season(series, bounds["train"])
        context, horizon = _sizes(settings, bounds, season, name)
        preparation, scales = _learn(series, bounds["train"], settings, season, len(roles.known), name, warnings)
        schema = SeriesSchema(
            task="forecast",
            format=_format(sources["train"]),
            settings=settings.model_dump(),
            layout=roles.layout,
            time=roles.time,
            time_format=tables["train"].time_format,
            dated=axis.dated,
            frequency=axis.frequency.text,
            first=axis.first,
            step=axis.step,
            ids=list(series.ids),
            id_columns=roles.ids,
            targets=["value"] if roles.layout == "wide" else roles.targets,
            columns=roles.targets if roles.layout == "wide" else [],
            past=roles.past,
            known=roles.known,
            calendar=features,
            static=static_names,
            static_columns=roles.static,
            season=season,
            context=context,
            horizon=horizon,
            masked=settings.missing == "mask" and _misses(series, bounds["train"]),
            **scales,
        )
        parts = {
            part: _windows(
                series, rows, preparation, schema, settings.stride if part == "train" else settings.test_stride
            )
            for part, rows in bounds.items()
        }
        _check_windows(parts, bounds, schema, preparation, series, name, warnings)
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=warnings,
            sources={part: _told(part, bounds[part], series, axis, sources, name) for part in parts},
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: SeriesSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[SeriesWindows, list[str]]:
        """See `Reader.part`.

        With `targets`, every window of the series; else one at the end of each, which forecasts what follows. What is
        known ahead must then be there for the rows that are forecast.
        """
        _check_format(format, "--input-format")
        settings: SeriesSettings = self.settings_of(schema)
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        warnings: list[str] = []
        given = _further(source, schema, settings)
        roles = Roles(
            schema.layout, schema.time, schema.id_columns, schema.columns or schema.targets, schema.past, schema.known,
            schema.static_columns,
        )  # fmt: skip
        whole = _opened(given, settings, hashlib.sha256(), _columns(roles))
        rows = read_rows(whole, roles, schema.time_format)
        warnings += rows.notes
        H = schema.horizon
        laid = lay(
            {"test": rows}, schema.axis, schema.calendar, ahead=0 if targets else H, strict=settings.missing == "error"
        )
        warnings += laid.warnings
        statics = _kept_statics({"test": rows}, laid.series.ids, schema, given.name, warnings)
        series = replace(laid.series, static=statics)
        preparation = _kept_preparation(series, schema, settings, given.name, warnings)
        _check_transform(series, settings.transform, schema.targets, given.name)
        need = schema.context + preparation.before
        if targets:
            rows_of = np.stack([np.full(len(series), need), series.ends], 1)
            windows = _windows(series, rows_of, preparation, schema, settings.test_stride)
            if not len(windows):
                raise DataError(
                    f"{given.name}: its longest series has {int(series.ends.max()):,} rows; to measure on it takes "
                    f"{need + H:,}: {need:,} that are read before a forecast and {H:,} that are forecast."
                )
            return windows, warnings
        short = np.flatnonzero(series.ends < need)
        if len(short):
            one = int(short[0])
            of = f"series {series.ids[one]!r}" if len(series) > 1 else "it"
            raise DataError(
                f"{given.name}: {of} has {int(series.ends[one]):,} rows up to its last value; the network reads "
                f"{need:,} before a forecast."
            )
        _check_known(series, schema, given.name)
        places = np.stack([np.arange(len(series)), series.ends], 1)
        return SeriesWindows(series, places, schema.context, H, preparation), warnings

    def describe(self, source: Any, settings: SeriesSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        schema, series = parts.schema, parts.train.series
        axis, lines = schema.axis, []
        told = parts.sources["train"].partition(": ")[0]
        spans = [series.times[series.rows(i)] for i in range(len(series))]
        rows = series.ends
        lines.append(f"{told} ({schema.format}, {schema.layout})")
        many = (
            f"{int(rows.min()):,} to {int(rows.max()):,} rows" if rows.min() < rows.max() else f"{int(rows[0]):,} rows"
        )
        lines.append(
            f"  series     {len(series):,}, {many}{' each' if len(series) > 1 and rows.min() == rows.max() else ''}"
        )
        ends = axis.written(np.array([min(one[0] for one in spans), max(one[-1] for one in spans)]))
        column = f"column {schema.time!r}" if schema.time else "no column: rows are counted"
        lines.append(f"  times      {ends[0]} to {ends[1]}, {_frequency_words(schema)} ({column})")
        for k, name in enumerate(schema.targets):
            values = np.concatenate([series.targets[series.rows(i), k] for i in range(len(series))])
            gone = int((~np.isfinite(values)).sum())
            missing = f", {gone:,} missing ({schema.settings['missing']})" if gone else ""
            lines.append(
                f"  target     {name}: {np.nanmin(values):.6g} to {np.nanmax(values):.6g}, mean "
                f"{np.nanmean(values):.6g}{missing}"
            )
        for kind, names in (("past", schema.past), ("known", schema.known), ("static", schema.static)):
            if names:
                lines.append(f"  {kind:<10} {', '.join(names)}")
        lines.append(f"  calendar   {', '.join(schema.calendar) or 'none'}")
        lines.append(f"  season     {schema.season:,} steps")
        lines.append(f"  window     {schema.context:,} rows read, {schema.horizon:,} forecast")
        for name, part in parts.named.items():
            lines.append(f"{name}: {parts.sources[name].partition(': ')[2]}, {len(part):,} windows")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


def _frequency_words(schema: SeriesSchema) -> str:
    if schema.dated:
        return schema.axis.frequency.words
    return f"{schema.step:g} apart" if schema.time else "row by row"


# --- where, and how it is opened --------------------------------------------------------------------------------------
def _check_format(format: str | None, setting: str) -> None:
    if format is not None and format not in FORMATS:
        raise DataError(f"{setting}: {unknown('format', format, FORMATS)}")


def _rank(path: Path) -> int | None:
    """0 for a table, 1 for NumPy's files; None for anything else."""
    if not path.is_file():
        return None
    if _is_npy(path):
        return 1
    columns = look(path, DataSettings())
    return 0 if is_parquet(path) or (columns is not None and columns.height) else None


def _is_npy(path: Path) -> bool:
    head = first_bytes(path, 6)
    return head == b"\x93NUMPY" or (head[:4] == b"PK\3\4" and path.suffix.lower() == ".npz")


def _find(
    source: Any, validation: Any, test: Any, task: str, settings: SeriesSettings
) -> tuple[dict[str, Source], list[str]]:
    """Where each part comes from that is not cut off the training part, in the order of time."""
    frames = {part: as_frame(given) for part, given in (("train", source), ("validation", validation), ("test", test))}
    source, validation, test = (
        given if frames[part] is None else Source("the dataframe", frames[part])
        for part, given in (("train", source), ("validation", validation), ("test", test))
    )
    name = source if isinstance(source, str) and is_known(source) else settings.name if source is None else None
    if settings.file is not None and settings.path is None and name is not None:
        folder = folder_of(name)
        if folder is not None:
            source = folder / settings.file
    found, warnings = find_sources(source, validation, test, task, settings, _rank)
    return {part: found[part] for part in PARTS if part in found}, warnings


def _further(source: Any, schema: SeriesSchema, settings: SeriesSettings) -> Source:
    """Where further data come from."""
    if (frame := as_frame(source)) is not None:
        return Source("the dataframe", frame)
    if isinstance(source, str) and is_known(source):
        folder = folder_of(source)
        if folder is None:
            return made_sources(source, schema.task, settings.options).popitem()[1]
        source = folder / settings.file if settings.file else folder
    given = as_source(source, "the data given")
    if given is None:
        raise DataError("no data; give a path, '-' for standard input, a dataframe, or an array.")
    if isinstance(given.data, Path) and given.data.is_dir():
        found, _ = find_sources(given.data, None, None, schema.task, SeriesSettings(), _rank)
        return found.get("test", found["train"])
    return given


def _opened(given: Source, settings: SeriesSettings, sum: Any, known: Sequence[str]) -> Any:
    """A source as a table, read to its end, its content added to a SHA-256."""
    data = given.data
    if isinstance(data, Path):
        sum.update(digest(data))
        if settings.format == "npy" or (settings.format is None and _is_npy(data)):
            return open_whole(_array_frame(archived(data), given.name), given.name, settings.table)
        return open_whole(data, given.name, settings.table, known)
    if hasattr(data, "read"):
        return open_whole(data, given.name, settings.table, known)
    frame = data if isinstance(data, pl.DataFrame) else _array_frame(data, given.name)
    sum.update(repr(frame.schema).encode())
    sum.update(frame.hash_rows(seed=0).to_numpy().tobytes())
    return open_whole(frame, given.name, settings.table, known)


def _array_frame(data: Any, name: str) -> pl.DataFrame:
    """Arrays as a table: (T,) or (T, K) one series; a list or mapping of them, or (N, T, K), several (long form)."""
    if isinstance(data, Mapping):
        named = {str(key): _array(value, name) for key, value in data.items()}
        if len(named) == 1 and "x" in named:
            return _array_frame(named["x"], name)
    elif isinstance(data, list | tuple) and not all(isinstance(one, int | float) for one in data):
        named = {str(i): _array(one, name) for i, one in enumerate(data)}
    else:
        array = _array(data, name)
        if array.ndim == 1:
            return pl.DataFrame({"value": array})
        if array.ndim == 2:
            return pl.DataFrame({f"value_{k}": column for k, column in enumerate(array.T)})
        named = {str(i): one for i, one in enumerate(array)}
    if not named:
        raise DataError(f"{name}: holds no series.")
    several = [one[:, None] if one.ndim == 1 else one for one in named.values()]
    widths = {one.shape[1] if one.ndim == 2 else -1 for one in several}
    if len(widths) > 1 or -1 in widths:
        raise DataError(f"{name}: expected arrays (T,) or (T, K) with one K for all series.")
    K = widths.pop()
    columns = ["value"] if K == 1 else [f"value_{k}" for k in range(K)]
    ids = np.repeat(list(named), [len(one) for one in several])
    frame = pl.DataFrame({"series": ids, "step": np.concatenate([np.arange(len(one)) for one in several])})
    joined = np.concatenate(several)
    return frame.with_columns([pl.Series(column, joined[:, k]) for k, column in enumerate(columns)])


def _is_stacked(frame: pl.DataFrame) -> bool:
    """Whether several arrays were put into one table."""
    return frame.columns[:2] == ["series", "step"]


def _array(values: Any, name: str) -> np.ndarray:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    try:
        array = np.asarray(values)
        array = array.astype(np.float64) if array.dtype.kind in "biuf" else array
    except ValueError:
        array = np.empty(0, object)
    if array.dtype != np.float64 or not 1 <= array.ndim <= 3:
        raise DataError(
            f"{name}: found {type(values).__name__}, expected a dataframe, an array (T,), (T, K) or (N, T, K), or a "
            "list or mapping of arrays (T,) or (T, K)."
        )
    if np.isinf(array).any():
        raise DataError(f"{name}: holds an infinite number; NaN stands for one that is missing.")
    return array


def _format(source: Source) -> str:
    if source.made:
        return source.made
    if isinstance(source.data, Path):
        return "npy" if _is_npy(source.data) else "table"
    return "dataframe" if source.name == "the dataframe" else "arrays"


def _named(settings: SeriesSettings) -> Named:
    def listed(value: str | list[str] | None) -> list[str] | None:
        return [value] if isinstance(value, str) else value

    return Named(
        settings.layout, settings.time, listed(settings.id), listed(settings.target), settings.past, settings.known,
        settings.static, settings.ignore,
    )  # fmt: skip


def _columns(roles: Roles) -> list[str]:
    time = [] if roles.time is None else [roles.time]
    return [*time, *roles.ids, *roles.targets, *roles.past, *roles.known, *roles.static]


# --- parts ------------------------------------------------------------------------------------------------------------
def _bounds(laid: Laid, axis: Axis, settings: SeriesSettings, name: str) -> dict[str, np.ndarray]:
    """Part -> (N, 2), the rows of each series that belong to it."""
    series, ends = laid.series, laid.series.ends
    apart = [part for part in PARTS[1:] if part in laid.parts]
    stops = {"train": settings.train_end, "validation": settings.validation_end, "test": settings.test_end}
    for part in apart:
        if stops[part] is not None:
            raise DataError(f"data.{part}_end: the {part} part has a file of its own; its end is that of the file.")
    first, stop = laid.parts["train"].T
    rest = [part for part in PARTS[1:] if part not in apart]
    if apart and stops["train"] is not None and not rest:
        raise DataError("data.train_end: each part has a file of its own; they end where their files do.")
    total = stop - first
    shares = {part: getattr(settings, f"{part}_fraction") if part in rest else 0.0 for part in PARTS[1:]}
    if sum(shares.values()) >= 1:
        raise DataError(
            f"data.validation_fraction {shares['validation']:g} and data.test_fraction {shares['test']:g} leave "
            "nothing to train on; expected a sum below 1."
        )
    sizes = {part: np.ceil(share * total - 1e-9).astype(np.int64) for part, share in shares.items()}
    cuts: dict[str, np.ndarray] = {}
    end = (
        stop if settings.test_end is None else np.minimum(stop, _cut(series, axis, settings.test_end, "test_end", name))
    )
    if settings.validation_end is not None:
        cuts["validation"] = _cut(series, axis, settings.validation_end, "validation_end", name)
    elif settings.train_end is not None and settings.test_end is not None:
        cuts["validation"] = (_cut(series, axis, settings.train_end, "train_end", name) + end + 1) // 2
    else:
        cuts["validation"] = end - sizes["test"]
    if settings.train_end is not None:
        cuts["train"] = _cut(series, axis, settings.train_end, "train_end", name)
    else:
        cuts["train"] = cuts["validation"] - sizes["validation"]
    validation = np.minimum(cuts["validation"], end)
    train = np.minimum(cuts["train"], validation)
    if (cuts["train"] > cuts["validation"]).all() and settings.train_end is not None:
        raise DataError("data.train_end: lies behind data.validation_end; expected training rows first.")
    bounds = {"train": np.stack([first, np.maximum(train, first)], 1)}
    middle = {"validation": (train, validation), "test": (validation, end)}
    for part in PARTS[1:]:
        if part in apart:
            bounds[part] = laid.parts[part]
        else:
            low, high = middle[part]
            if (high > low).any():
                bounds[part] = np.stack([np.maximum(low, first), np.maximum(high, low)], 1)
    if not (bounds["train"][:, 1] > bounds["train"][:, 0]).any():
        raise DataError(f"{name}: no row is left to train on; it has {int(ends.max()):,} up to its last value.")
    return bounds


def _cut(series: Series, axis: Axis, end: str | int, key: str, name: str) -> np.ndarray:
    """How many rows of each series come up to an end: its time, or that number."""
    if isinstance(end, int):
        return np.minimum(end, series.ends)
    if axis.dated:
        found = read_times(pl.Series([end]))
        if isinstance(found, int) or not found.dated:
            raise DataError(f"data.{key}: {end!r} is no date; expected such as 2017-06-30 or 2017-06-30 23:00.")
        last = int(found.values[0])
        if found.format is not None and "%H" not in found.format:  # the whole day, or month
            unit = "M" if "%d" not in found.format else "D"
            moment = np.datetime64(last, "ns").astype(f"datetime64[{unit}]")
            last = int((moment + 1).astype("datetime64[ns]").astype(np.int64)) - 1
    else:
        try:
            last = int(np.floor((float(end) - axis.first) / axis.step + 1e-6))
        except ValueError:
            raise DataError(f"data.{key}: {end!r} is no number, as the times of {name} are.") from None
    counts = [int(np.searchsorted(series.times[series.rows(i)], last, "right")) for i in range(len(series))]
    return np.array(counts, np.int64)


def _told(part: str, rows: np.ndarray, series: Series, axis: Axis, sources: Mapping[str, Source], name: str) -> str:
    """What `Parts.sources` says of a part: where it is, and from when to when."""
    there = np.flatnonzero(rows[:, 1] > rows[:, 0])
    first = min(series.times[series.offsets[i] + rows[i, 0]] for i in there)
    last = max(series.times[series.offsets[i] + rows[i, 1] - 1] for i in there)
    shown = axis.written(np.array([first, last]))
    count = int((rows[:, 1] - rows[:, 0])[there].sum())
    where = sources[part].name if part in sources else name
    return f"{where}: {count:,} rows, {shown[0]} to {shown[1]}"


def _windows(
    series: Series, rows: np.ndarray, preparation: Preparation, schema: SeriesSchema, stride: int
) -> SeriesWindows:
    """Every window whose forecast lies in these rows of a series; what it reads may lie before them."""
    need = schema.context + preparation.before
    places: list[np.ndarray] = []
    for i, (first, stop) in enumerate(rows.tolist()):
        origins = np.arange(max(first, need), stop - schema.horizon + 1, stride)
        places.append(np.stack([np.full(len(origins), i), origins], 1))
    joined = np.concatenate(places).astype(np.int64) if places else np.empty((0, 2), np.int64)
    windows = SeriesWindows(series, joined, schema.context, schema.horizon, preparation)
    known = np.concatenate([[0], np.cumsum(np.isfinite(series.targets).any(1))])
    rows_of = series.offsets[joined[:, 0]] + joined[:, 1]
    there = (known[rows_of] > known[rows_of - schema.context]) & (known[rows_of + schema.horizon] > known[rows_of])
    return windows if there.all() else windows.select(np.flatnonzero(there))


def _check_windows(
    parts: Mapping[str, SeriesWindows],
    bounds: Mapping[str, np.ndarray],
    schema: SeriesSchema,
    preparation: Preparation,
    series: Series,
    name: str,
    warnings: list[str],
) -> None:
    need = schema.context + preparation.before
    for part, windows in parts.items():
        sizes = bounds[part][:, 1] - bounds[part][:, 0]
        if not len(windows):
            longest = int(sizes.max())
            if part == "train":
                before = f" and {preparation.before:,} for differences" if preparation.before else ""
                raise DataError(
                    f"{name}: the longest series has {longest:,} training rows; a window takes "
                    f"{need + schema.horizon:,}: {schema.context:,} read (data.context){before}, {schema.horizon:,} "
                    "forecast (data.horizon)."
                )
            raise DataError(
                f"{name}: the {part} part has {longest:,} rows of a series at most; data.horizon forecasts "
                f"{schema.horizon:,}. Lower it, or give the part more (data.{part}_fraction, or "
                f"{'data.train_end' if part == 'validation' else 'data.validation_end'})."
            )
        without = np.setdiff1d(np.flatnonzero(sizes > 0), windows.places[:, 0])
        if len(without):
            shown = f"{series.ids[int(without[0])]!r}"
            warnings.append(
                f"{name}: {len(without):,} of {len(series):,} series have no window of {need:,} and {schema.horizon:,} "
                f"rows in the {part} part, the first {shown}"
            )


def _sizes(settings: SeriesSettings, bounds: Mapping[str, np.ndarray], season: int, name: str) -> tuple[int, int]:
    """Context and horizon: as set, else by the season and as the parts allow."""
    rows = {part: int((bound[:, 1] - bound[:, 0]).max()) for part, bound in bounds.items()}
    horizon = settings.horizon
    if horizon is None:
        most = min([rows["train"] // 4, *(rows[part] for part in rows if part != "train")])
        horizon = max(1, min(season, most))
    context = settings.context
    if context is None:
        left = (rows["train"] - horizon - sum(settings.lags)) // 2
        context = max(1, min(max(2 * season, 2 * horizon, 16), left))
    return context, horizon


def _calendar(settings: SeriesSettings, axis: Axis, series: Series, train: np.ndarray) -> list[str]:
    if settings.calendar is not None:
        if settings.calendar and not axis.dated:
            raise DataError("data.calendar: the series have no dates; data.time names the column of times.")
        return sorted(set(settings.calendar), key=CALENDAR.index)
    if not axis.dated:
        return []
    starts = series.offsets[:-1]
    there = train[:, 1] > train[:, 0]
    spans = series.times[(starts + train[:, 1] - 1)[there]] - series.times[(starts + train[:, 0])[there]]
    return usual_calendar(axis.frequency, int(spans.max(initial=0)))


# --- what the training rows tell --------------------------------------------------------------------------------------
def _training(series: Series, train: np.ndarray) -> list[slice]:
    return [slice(int(o + a), int(o + b)) for o, (a, b) in zip(series.offsets[:-1], train.tolist(), strict=True)]


def _misses(series: Series, train: np.ndarray) -> bool:
    return any(not np.isfinite(series.targets[rows]).all() for rows in _training(series, train))


def _check_transform(series: Series, transform: Transform, names: Sequence[str], name: str) -> None:
    """Raise where a target has no logarithm or root."""
    bound = {"none": -np.inf, "log": 0.0, "log1p": -1.0, "sqrt": 0.0}[transform]
    wrong = series.targets < bound if transform == "sqrt" else series.targets <= bound
    if not wrong.any():
        return
    row, k = np.argwhere(wrong)[0].tolist()
    raise DataError(
        f"{name}, line {int(series.lines[row])}, column {names[k]!r}: found {series.targets[row, k]:g}, which has no "
        f"{transform}; data.transform wants numbers {'from' if transform == 'sqrt' else 'above'} {bound:g}."
    )


def _check_values(
    series: Series, train: np.ndarray, settings: SeriesSettings, roles: Roles, name: str, warnings: list[str]
) -> None:
    """Count what is missing, and tell of targets that are so throughout, or that do not vary."""
    names = list(roles.targets) if roles.layout != "wide" else ["value"] * series.targets.shape[1]
    _check_transform(series, settings.transform, names, name)
    told = np.array([one for i in range(len(series)) for one in range(*series.rows(i).indices(len(series.times)))])
    gone = ~np.isfinite(series.targets[told])
    if gone.any():
        count, of = int(gone.sum()), gone.size
        treated = {
            "mask": "0 to the network, which is told that they are missing",
            "interpolate": "filled on the line between the known values of the window that is read",
            "forward": "filled with the last value before them",
        }[settings.missing]
        first = int(told[np.flatnonzero(gone.any(1))[0]])
        line = int(series.lines[first])
        where = f", the first in line {line}" if line else ""
        warnings.append(
            f"{name}: {count:,} of {of:,} values of the targets are missing{where}; read as: {treated} (data.missing = "
            f"{settings.missing!r}), and nothing is scored there"
        )
    for values, kind, columns in ((series.past, "past", roles.past), (series.known, "known", roles.known)):
        for k, column in enumerate(columns):
            missing = int((~np.isfinite(values[told, k])).sum())
            if missing:
                warnings.append(
                    f"{name}: {missing:,} of {len(told):,} values of {column!r} ({kind}) are missing; read as the last "
                    "one before them, where there is one"
                )
    flat: list[str] = []
    for i, rows in enumerate(_training(series, train)):
        for k in range(series.targets.shape[1]):
            values = series.targets[rows, k]
            values = values[np.isfinite(values)]
            label = " ".join(part for part in (series.ids[i] if len(series) > 1 else "", names[k]) if part)
            if not len(values) and rows.stop > rows.start and len(series) == 1:
                raise DataError(f"{name}: column {names[k]!r} has no number in the training rows; expected some.")
            if len(values) and (values == values[0]).all():
                flat.append(f"{label} ({values[0]:g})")
    if flat:
        many = "1 target does" if len(flat) == 1 else f"{len(flat):,} targets do"
        warnings.append(f"{name}: {many} not vary in the training rows, so there is nothing to be learnt: {flat[0]}")


def _learn(
    series: Series, train: np.ndarray, settings: SeriesSettings, season: int, known: int, name: str, warnings: list[str]
) -> tuple[Preparation, dict[str, Any]]:
    """Scales of the training rows, and what a schema keeps of them."""
    N, K = len(series), series.targets.shape[1]
    past, ahead, static = (_column_scale(some[:0]) for some in (series.past, series.known, series.static))
    plain = Preparation(
        settings.transform, settings.lags, settings.scaling, settings.missing, np.zeros((N, K)), np.ones((N, K)),
        past, ahead, static,
    )  # fmt: skip
    mean, deviation, naive = (np.full((N, K), np.nan) for _ in range(3))
    slices = _training(series, train)
    for i, rows in enumerate(slices):
        mean[i], deviation[i] = _moments(differenced(plain.apply(series.targets[rows]), settings.lags))
        naive[i] = naive_error(series.targets[rows], season)
    mean, deviation, unknown_ones = _usable(mean, deviation)
    if unknown_ones:
        warnings.append(
            f"{name}: {unknown_ones:,} series have too few training rows for scales of their own; they have the mean "
            "ones of the others"
        )
    everything = np.concatenate([np.arange(rows.start, rows.stop) for rows in slices])
    past = _column_scale(series.past[everything])
    ahead = _column_scale(series.known[everything])
    ahead[0, known:], ahead[1, known:] = 0.0, 1.0  # the calendar's are between -1 and 1
    static = _column_scale(series.static)
    preparation = replace(plain, mean=mean, deviation=deviation, past=past, known=ahead, static=static)
    return preparation, {
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
        "naive": [[x if np.isfinite(x) and x > 0 else None for x in row] for row in naive.tolist()],
        "past_scale": past.tolist(),
        "known_scale": ahead.tolist(),
        "static_scale": static.tolist(),
    }


def naive_error(values: np.ndarray, season: int) -> np.ndarray:
    """Mean absolute error of the seasonal naive forecast within a series, (K,): the scale of MASE (Hyndman and Koehler
    2006). NaN where it is not known.

    Args:
        values: (T, K), NaN where missing.
        season: Steps of a season; a series that is shorter is measured by its last value.
    """
    season = season if len(values) > season else 1
    errors = np.abs(values[season:] - values[:-season])
    counts = np.isfinite(errors).sum(0)
    sums = np.where(np.isfinite(errors), errors, 0).sum(0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each column, what is missing passed over; NaN where all is."""
    known = np.isfinite(values)
    counts = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / counts
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / counts)
    none = ~known.any(0)
    return np.where(none, np.nan, mean), np.where(none, np.nan, deviation)


def _usable(mean: np.ndarray, deviation: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales without gaps: the mean ones of all series where one has none, 1 where nothing varies."""
    gone = np.isnan(mean)
    for values, otherwise in ((mean, 0.0), (deviation, 1.0)):
        for k in range(values.shape[1]):
            own = values[~gone[:, k], k]
            values[gone[:, k], k] = own.mean() if len(own) else otherwise
    small = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    return mean, np.where(small, 1.0, deviation), int(gone.any(1).sum())


def _column_scale(values: np.ndarray) -> np.ndarray:
    """(2, n): mean and deviation of each column; 0 and 1 where there is none."""
    if not len(values):
        return np.stack([np.zeros(values.shape[1]), np.ones(values.shape[1])])
    mean, deviation = _moments(values)
    mean = np.nan_to_num(mean, nan=0.0)
    varies = np.isfinite(deviation) & (deviation > 1e-12 * np.maximum(1.0, np.abs(mean)))
    return np.stack([mean, np.where(varies, deviation, 1.0)])


def _season(series: Series, train: np.ndarray) -> int:
    """The lag at which training rows are most like themselves: the highest peak of the autocorrelation behind its first
    fall, where it is above 0.3; else 1. Over many series, of the longest."""
    rows = max(_training(series, train), key=lambda one: one.stop - one.start)
    best, lag = 0.3, 1
    for column in series.targets[rows].T:
        known = np.isfinite(column)
        if known.sum() < 16:
            continue
        steps = np.arange(len(column))
        line = np.polyfit(steps[known], column[known], 1)
        x = np.where(known, column - np.polyval(line, steps), 0.0)
        size = 1 << (2 * len(x) - 1).bit_length()
        power = np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2)[: len(x) // 3]
        if power[0] <= 0:
            continue
        likeness = power / power[0] * len(x) / (len(x) - np.arange(len(power)))
        peaks = [i for i in range(2, len(likeness) - 1) if likeness[i - 1] < likeness[i] >= likeness[i + 1]]
        for i in peaks:
            if likeness[i] > best + 1e-9:
                best, lag = float(likeness[i]), i
    return lag


# --- what series have throughout --------------------------------------------------------------------------------------
def _static_cells(tables: Mapping[str, Rows], ids: Sequence[str]) -> dict[str, list[str]]:
    """Static column -> its cell of each series.

    Raises:
        DataError: A column that changes within a series, or is empty.
    """
    found: dict[str, dict[str, str]] = {}
    for rows in tables.values():
        for column, cells in rows.static.items():
            have = found.setdefault(column, {})
            for row, (code, cell) in enumerate(zip(rows.code.tolist(), cells, strict=True)):
                name = rows.ids[code]
                if name not in have:
                    have[name] = cell
                elif have[name] != cell:
                    raise DataError(
                        f"{rows.place(row)}, column {column!r}: found {cell!r}, where series {name!r} had "
                        f"{have[name]!r} before; expected one value throughout (data.static)."
                    )
    return {column: [have[name] for name in ids] for column, have in found.items()}


def _as_numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def _statics(
    tables: Mapping[str, Rows], ids: Sequence[str], name: str, warnings: list[str]
) -> tuple[np.ndarray, list[str]]:
    """(N, G) numbers, and a name for each: words are columns of 0 and 1."""
    columns: list[list[float]] = []
    names: list[str] = []
    for column, cells in _static_cells(tables, ids).items():
        numbers = _as_numbers(cells)
        if numbers is not None and np.isfinite(numbers).all():
            columns.append(numbers)
            names.append(column)
            continue
        words = sorted(set(cells))
        if len(words) > MOST_CATEGORIES:
            warnings.append(
                f"{name}: column {column!r} has {len(words):,} different words, too many to be told apart; left out"
            )
            continue
        for word in words:
            columns.append([float(cell == word) for cell in cells])
            names.append(f"{column}={word}")
    return (np.array(columns, np.float64).T if columns else np.zeros((len(ids), 0))), names


def _kept_statics(
    tables: Mapping[str, Rows], ids: Sequence[str], schema: SeriesSchema, name: str, warnings: list[str]
) -> np.ndarray:
    """The columns that the training data had."""
    cells_of = _static_cells(tables, ids)
    columns: list[list[float]] = []
    for title in schema.static:
        if title in cells_of:
            numbers = _as_numbers(cells_of[title])
            if numbers is None:
                raise DataError(f"{name}: column {title!r} holds words; the training data had numbers there.")
            columns.append(numbers)
        else:
            column, _, word = title.partition("=")
            columns.append([float(cell == word) for cell in cells_of[column]])
    for column in schema.static_columns:
        words = {title.partition("=")[2] for title in schema.static if title.startswith(f"{column}=")}
        strange = sorted(set(cells_of[column]) - words) if words else []
        if strange:
            warnings.append(f"{name}: column {column!r} has words that training did not: {', '.join(strange[:5])}")
    return np.array(columns, np.float64).T if columns else np.zeros((len(ids), 0))


def _kept_preparation(
    series: Series, schema: SeriesSchema, settings: SeriesSettings, name: str, warnings: list[str]
) -> Preparation:
    """The training data's scales by name; those of strange series from their own rows."""
    place = {known: i for i, known in enumerate(schema.ids)}
    if len(schema.ids) == 1 and len(series) == 1:
        place[series.ids[0]] = 0  # one series goes on with the scale of the one, whatever it is called
    K = series.targets.shape[1]
    mean, deviation = np.full((len(series), K), np.nan), np.full((len(series), K), np.nan)
    scales = (schema.past_scale, schema.known_scale, schema.static_scale)
    past, known, static = (np.array(scale, np.float64).reshape(2, -1) for scale in scales)
    found = Preparation(
        settings.transform, settings.lags, settings.scaling, settings.missing, mean, deviation, past, known, static
    )
    strange: list[str] = []
    for i, one in enumerate(series.ids):
        if one in place:
            mean[i], deviation[i] = schema.mean[place[one]], schema.deviation[place[one]]
        else:
            strange.append(one)
            first = slice(int(series.offsets[i]), int(series.offsets[i]) + schema.context + found.before)
            mean[i], deviation[i] = _moments(differenced(found.apply(series.targets[first]), settings.lags))
    if strange and settings.scaling in ("series", "last"):
        warnings.append(
            f"{name}: {len(strange):,} series that training did not have, the first {strange[0]!r}; scaled by the "
            f"first {schema.context + found.before:,} rows of each"
        )
    mean, deviation, _ = _usable(mean, deviation)
    return replace(found, mean=mean, deviation=deviation)


def _check_known(series: Series, schema: SeriesSchema, name: str) -> None:
    """Raise where what is known ahead ends before the horizon."""
    if not schema.known:
        return
    for i in range(len(series)):
        start = int(series.offsets[i] + series.ends[i])
        ahead = series.known[start : start + schema.horizon, : len(schema.known)]
        wrong = np.argwhere(~np.isfinite(ahead))
        if len(wrong):
            step, k = wrong[0].tolist()
            at = schema.axis.written(series.times[start + step : start + step + 1])[0]
            of = f" of series {series.ids[i]!r}" if len(series) > 1 else ""
            raise DataError(
                f"{name}: column {schema.known[k]!r}{of} has no number at {at}, step {step + 1} of the "
                f"{schema.horizon:,} forecast; what is known ahead must be there for all of them."
            )
