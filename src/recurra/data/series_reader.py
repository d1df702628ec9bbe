"""The data of `forecast`: series of tables and arrays, cut in time into their parts."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from recurra.data import series_scales as scales
from recurra.data.arrays import archived
from recurra.data.delimited import is_parquet, listed, look
from recurra.data.opening import digest, first_bytes
from recurra.data.reader import Parts, Reader
from recurra.data.series import Series, SeriesWindows
from recurra.data.series_cut import bounds_of, calendar_of, check_windows, sizes, told, windows_of
from recurra.data.series_grid import axis_of, lay
from recurra.data.series_settings import SeriesSchema, SeriesSettings
from recurra.data.series_table import (
    Named,
    Roles,
    Rows,
    Whole,
    as_frame,
    find_roles,
    open_whole,
    read_rows,
    telling_apart,
)
from recurra.data.settings import DataSettings
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, made_sources
from recurra.data.times import calendar, parsed_frequency
from recurra.errors import DataError, unknown

FORMATS = ("table", "npy")
"""How series are laid out: CSV, TSV or Parquet; NumPy's own files."""


class SeriesReader(Reader[SeriesWindows, SeriesSchema]):
    """Reads series, lays them on equal steps of time, and cuts them into training, validation and test rows."""

    settings = SeriesSettings
    schema = SeriesSchema
    undealt = "parts of a series are taken from its end"

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
        laid = lay(tables, axis, strict=settings.missing == "error")
        bounds = bounds_of(laid, axis, settings, name)
        warnings += laid.warnings
        features = calendar_of(settings, axis, laid.series, bounds["train"])

        statics, static_names = scales.statics_of(tables, laid.series.ids, name, warnings)
        series = _with_calendar(replace(laid.series, static=statics), features)
        scales.check_values(series, bounds["train"], settings, roles, name, warnings)
        season = settings.season or axis.frequency.season or scales.found_season(series, bounds["train"])
        context, horizon = sizes(settings, bounds, season, name)
        preparation, learnt = scales.learn(series, bounds["train"], settings, season, len(roles.known), name, warnings)
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
            masked=settings.missing == "mask" and scales.misses(series, bounds["train"]),
            **learnt,
        )
        parts = {
            part: windows_of(
                series, rows, preparation, schema, settings.stride if part == "train" else settings.test_stride
            )
            for part, rows in bounds.items()
        }
        check_windows(parts, bounds, schema, preparation, series, name, warnings)
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=warnings,
            sources={part: told(part, bounds[part], series, axis, sources, name) for part in parts},
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
        self._tell_apart(whole, roles, schema, given, warnings)
        rows = read_rows(whole, roles, schema.time_format)
        warnings += rows.notes
        H = schema.horizon
        laid = lay({"test": rows}, schema.axis, ahead=0 if targets else H, strict=settings.missing == "error")
        warnings += laid.warnings
        statics = scales.kept_statics({"test": rows}, laid.series.ids, schema, given.name, warnings)
        series = _with_calendar(replace(laid.series, static=statics), schema.calendar)
        preparation = scales.kept_preparation(series, schema, settings, given.name, warnings)
        scales.check_transform(series, settings.transform, schema.targets, given.name)
        scales.tell_missing(series, preparation.missing, given.name, warnings)
        need = schema.context + preparation.before
        if targets:
            rows_of = np.stack([np.full(len(series), need), series.ends], 1)
            windows = windows_of(series, rows_of, preparation, schema, settings.test_stride)
            if not len(windows):
                raise DataError(
                    f"{given.name}: its longest series has {int(series.ends.max()):,} rows; to measure on it takes "
                    f"{need + H:,}: {need:,} that are read before a forecast and {H:,} that are forecast."
                )
            _tell_short(
                series, np.setdiff1d(np.arange(len(series)), windows.places[:, 0]), need + H, given.name, warnings
            )
            return windows, warnings
        _tell_short(series, np.flatnonzero(series.ends < need), need, given.name, warnings)
        long = np.flatnonzero(series.ends >= need)
        scales.check_known(series, long, schema, given.name)
        places = np.stack([long, series.ends[long]], 1)
        return SeriesWindows(series, places, schema.context, H, preparation), warnings

    def _tell_apart(self, whole: Whole, roles: Roles, schema: SeriesSchema, given: Source, warnings: list[str]) -> None:
        """Where the training data held one series and further data hold several, find what tells them apart; and the
        other way round.

        Raises:
            DataError: One array, where the training data were several.
        """
        arrays = not isinstance(given.data, Path) and not hasattr(given.data, "read") and given.name != "the dataframe"
        if schema.id_columns == ["series"] and schema.time == "step" and arrays and not _is_stacked(whole.frame):
            if len(schema.ids) == 1:
                roles.ids, roles.time = [], None
                return
            raise DataError(
                f"{given.name}: is one array, and the training data were several series; expected a list or a mapping "
                "of arrays, such as [y]."
            )
        settings: SeriesSettings = self.settings_of(schema)
        if schema.layout != "variables" or schema.id_columns or settings.layout is not None or settings.id is not None:
            return
        if found := telling_apart(whole, roles, settings.ignore):
            roles.ids = found
            warnings.append(f"{given.name}: rows are told apart by {listed(found)}; the training data held one series")

    def describe(self, source: Any, settings: SeriesSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        schema, series = parts.schema, parts.train.series
        axis, lines = schema.axis, []
        told = parts.sources["train"].rpartition(": ")[0]
        spans = [series.times[series.rows(i)] for i in range(len(series))]
        rows = series.ends
        layout = f", {schema.layout}" if len(series) > 1 or len(schema.targets) > 1 else ""
        lines.append(f"{told} ({schema.format}{layout})")
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
            lines.append(f"{name}: {parts.sources[name].rpartition(': ')[2]}, {len(part):,} windows")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


def _tell_short(series: Series, short: np.ndarray, need: int, name: str, warnings: list[str]) -> None:
    """Tell of series that are too short, which are left out.

    Raises:
        DataError: All are.
    """
    if not len(short):
        return
    first = int(short[0])
    of = f"series {series.ids[first]!r}" if len(series) > 1 else "it"
    said = (
        f"{of} has {int(series.ends[first]):,} rows up to its last value; the network reads {need:,} before a forecast"
    )
    if len(short) == len(series):
        raise DataError(f"{name}: {said}.")
    warnings.append(f"{name}: {len(short):,} of {len(series):,} series are too short and left out; {said}")


def _with_calendar(series: Series, features: Sequence[str]) -> Series:
    """Series with what the calendar says of their times, known ahead as it is."""
    return replace(series, known=np.concatenate([series.known, calendar(series.times, features)], 1))


def _frequency_words(schema: SeriesSchema) -> str:
    if schema.dated or (schema.time and schema.axis.frequency.unit == "rows"):
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
    elif isinstance(data, list | tuple) and not data:
        raise DataError(f"{name}: holds no series.")
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
    width = next((one.shape[1] for one in several if one.ndim == 2 and len(one)), 1)
    # A series without a row has one without a number, so that it is told of as any other that holds none.
    several = [one if len(one) else np.full((1, width), np.nan) for one in several]
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
