"""Series cut in time into training, validation and test rows, and into the windows of each."""

from collections.abc import Mapping

import numpy as np
import polars as pl

from recurra.data.series import Preparation, Series, SeriesWindows
from recurra.data.series_grid import Axis, Laid
from recurra.data.series_settings import SeriesSchema, SeriesSettings
from recurra.data.sources import PARTS, Source
from recurra.data.times import CALENDAR, QUARTERS, WEEKS, read_times, usual_calendar
from recurra.errors import DataError


def bounds_of(laid: Laid, axis: Axis, settings: SeriesSettings, name: str) -> dict[str, np.ndarray]:
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
    if settings.train_end is not None:
        cuts["train"] = _cut(series, axis, settings.train_end, "train_end", name)
    if settings.validation_end is not None:
        cuts["validation"] = _cut(series, axis, settings.validation_end, "validation_end", name)
    elif "train" in cuts:  # what is left is shared out as the fractions are
        left, both = np.maximum(end - cuts["train"], 0), sum(shares.values())
        share = shares["validation"] / both if both else 0.0
        cuts["validation"] = cuts["train"] + np.ceil(share * left - 1e-9).astype(np.int64)
        if both and not left.any():
            raise DataError(f"data.train_end: {settings.train_end} leaves no row of {name} to validate or test on.")
    else:
        cuts["validation"] = end - sizes["test"]
    cuts.setdefault("train", cuts["validation"] - sizes["validation"])
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
            is_wanted = shares[part] > 0 or stops[part] is not None
            if is_wanted and (high > low).any():
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
            unit, count = "D", 1
            if found.format == WEEKS:
                count = 7
            elif "%d" not in found.format:
                unit, count = "M", 3 if found.format == QUARTERS else 1
            moment = np.datetime64(last, "ns").astype(f"datetime64[{unit}]")
            last = int((moment + count).astype("datetime64[ns]").astype(np.int64)) - 1
    else:
        try:
            last = int(np.floor((float(end) - axis.first) / axis.step + 1e-6))
        except ValueError:
            raise DataError(f"data.{key}: {end!r} is no number, as the times of {name} are.") from None
    counts = [int(np.searchsorted(series.times[series.rows(i)], last, "right")) for i in range(len(series))]
    return np.array(counts, np.int64)


def told(part: str, rows: np.ndarray, series: Series, axis: Axis, sources: Mapping[str, Source], name: str) -> str:
    """What `Parts.sources` says of a part: where it is, and from when to when."""
    there = np.flatnonzero(rows[:, 1] > rows[:, 0])
    first = min(series.times[series.offsets[i] + rows[i, 0]] for i in there)
    last = max(series.times[series.offsets[i] + rows[i, 1] - 1] for i in there)
    shown = axis.written(np.array([first, last]))
    count = int((rows[:, 1] - rows[:, 0])[there].sum())
    where = sources[part].name if part in sources else name
    return f"{where}: {count:,} rows, {shown[0]} to {shown[1]}"


def windows_of(
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


def check_windows(
    parts: Mapping[str, SeriesWindows],
    bounds: Mapping[str, np.ndarray],
    schema: SeriesSchema,
    preparation: Preparation,
    series: Series,
    name: str,
    warnings: list[str],
) -> None:
    """Tell of series without a window in a part.

    Raises:
        DataError: A part has none at all; what a window takes, and what there is.
    """
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


def sizes(settings: SeriesSettings, bounds: Mapping[str, np.ndarray], season: int, name: str) -> tuple[int, int]:
    """Context and horizon: as set, else by the season and as the parts allow."""
    rows = {part: int((bound[:, 1] - bound[:, 0]).max()) for part, bound in bounds.items()}
    horizon = settings.horizon
    if horizon is None:
        most = min([rows["train"] // 4, *((3 * rows[part] + 3) // 4 for part in rows if part != "train")])
        horizon = max(1, min(season, most))
    context = settings.context
    if context is None:
        left = (rows["train"] - horizon - sum(settings.lags)) // 2
        context = max(1, min(max(2 * season, 2 * horizon, 16), left))
    return context, horizon


def calendar_of(settings: SeriesSettings, axis: Axis, series: Series, train: np.ndarray) -> list[str]:
    """The features of the calendar: as set, else those that training rows hold twice round.

    Raises:
        DataError: Some are set, and there are no dates.
    """
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
