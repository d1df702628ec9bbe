"""What training rows settle: scales, season, what is missing, and what each series has throughout."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from recurra.data.series import Missing, Preparation, Series, Transform, differenced
from recurra.data.series_settings import SeriesSchema, SeriesSettings
from recurra.data.series_table import Roles, Rows
from recurra.errors import DataError

MOST_CATEGORIES = 50
"""Different words of a static column at most."""


def training_rows(series: Series, train: np.ndarray) -> list[slice]:
    """The rows of each series to train on, among those of all."""
    return [slice(int(o + a), int(o + b)) for o, (a, b) in zip(series.offsets[:-1], train.tolist(), strict=True)]


def misses(series: Series, train: np.ndarray) -> bool:
    """Whether a target is missing anywhere in the training rows."""
    return any(not np.isfinite(series.targets[rows]).all() for rows in training_rows(series, train))


def check_transform(series: Series, transform: Transform, names: Sequence[str], name: str) -> None:
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


def effective(wanted: Missing, masked: bool) -> Missing:
    """How missing numbers are read: as set, but where training rows miss none, there is nothing to learn a mask by."""
    return "forward" if wanted == "mask" and not masked else wanted


def tell_missing(series: Series, missing: Missing, name: str, warnings: list[str]) -> np.ndarray:
    """Count the missing values of the targets, and tell how they are read; returns the rows that lie in the past."""
    starts = series.offsets[:-1]
    told = np.concatenate([np.arange(start, start + end) for start, end in zip(starts, series.ends, strict=True)])
    gone = ~np.isfinite(series.targets[told])
    if gone.any():
        treated = {
            "mask": "0 to the network, which is told that they are missing",
            "interpolate": "the line between the known values of the window that is read",
            "forward": "the last value before them",
        }[missing]
        line = int(series.lines[told[np.flatnonzero(gone.any(1))[0]]])
        where = f", the first in line {line}" if line else ""
        warnings.append(
            f"{name}: {int(gone.sum()):,} of {gone.size:,} values of the targets are missing{where}; read as {treated} "
            f"(data.missing = {missing!r}), and nothing is scored there"
        )
    return told


def check_values(
    series: Series, train: np.ndarray, settings: SeriesSettings, roles: Roles, name: str, warnings: list[str]
) -> None:
    """Count what is missing, and tell of targets that are so throughout, or that do not vary."""
    names = list(roles.targets) if roles.layout != "wide" else ["value"] * series.targets.shape[1]
    check_transform(series, settings.transform, names, name)
    told = tell_missing(series, effective(settings.missing, misses(series, train)), name, warnings)
    for values, kind, columns in ((series.past, "past", roles.past), (series.known, "known", roles.known)):
        for k, column in enumerate(columns):
            missing = int((~np.isfinite(values[told, k])).sum())
            if missing:
                warnings.append(
                    f"{name}: {missing:,} of {len(told):,} values of {column!r} ({kind}) are missing; read as the last "
                    "one before them, where there is one"
                )
    flat: list[str] = []
    for i, rows in enumerate(training_rows(series, train)):
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


def learn(
    series: Series, train: np.ndarray, settings: SeriesSettings, season: int, known: int, name: str, warnings: list[str]
) -> tuple[Preparation, dict[str, Any]]:
    """Scales of the training rows, and what a schema keeps of them."""
    N, K = len(series), series.targets.shape[1]
    past, ahead, static = (_column_scale(some[:0]) for some in (series.past, series.known, series.static))
    plain = Preparation(
        settings.transform, settings.lags, settings.scaling, effective(settings.missing, misses(series, train)),
        np.zeros((N, K)), np.ones((N, K)), past, ahead, static,
    )  # fmt: skip
    mean, deviation, size, naive = (np.full((N, K), np.nan) for _ in range(4))
    slices = training_rows(series, train)
    for i, rows in enumerate(slices):
        v = plain.apply(series.targets[rows])
        mean[i], deviation[i] = _moments(differenced(v, settings.lags))
        size[i] = _size(v)
        naive[i] = naive_error(series.targets[rows], season)
    mean, deviation, unknown_ones = _usable(mean, deviation, size)
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
    away = np.where(known, values - mean, 0)
    largest = np.abs(away).max(0, initial=0.0)
    unit = np.where(largest > 0, largest, 1.0)  # the squares of small numbers would vanish
    deviation = unit * np.sqrt(((away / unit) ** 2).sum(0) / counts)
    none = ~known.any(0)
    return np.where(none, np.nan, mean), np.where(none, np.nan, deviation)


def _size(values: np.ndarray) -> np.ndarray:
    """The largest of each column, its sign left out; 0 where there is none."""
    return np.abs(np.where(np.isfinite(values), values, 0.0)).max(0, initial=0.0)


def _unvaried(deviation: np.ndarray, size: np.ndarray) -> np.ndarray:
    """A usable deviation: that of what does not vary, but for rounding, is 1, or its size where that is less."""
    flat = np.where((size > 0) & (size < 1), size, 1.0)
    return np.where(deviation > 1e-12 * size, deviation, flat)


def _usable(mean: np.ndarray, deviation: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Scales without gaps: the mean ones of all series where one has none."""
    gone = np.isnan(mean)
    for values, otherwise in ((mean, 0.0), (deviation, 1.0)):
        for k in range(values.shape[1]):
            own = values[~gone[:, k], k]
            values[gone[:, k], k] = own.mean() if len(own) else otherwise
    return mean, _unvaried(deviation, np.where(gone, 0.0, size)), int(gone.any(1).sum())


def _column_scale(values: np.ndarray) -> np.ndarray:
    """(2, n): mean and deviation of each column; 0 and 1 where there is none."""
    if not len(values):
        return np.stack([np.zeros(values.shape[1]), np.ones(values.shape[1])])
    mean, deviation = _moments(values)
    return np.stack([np.nan_to_num(mean, nan=0.0), _unvaried(np.nan_to_num(deviation, nan=0.0), _size(values))])


def found_season(series: Series, train: np.ndarray) -> int:
    """The lag at which training rows are most like themselves: the first peak of the autocorrelation that is nearly as
    high as its highest (0.85 of it), where it is above 0.3; else 1. Without a linear trend; of many series the longest,
    of many targets the one most like itself."""
    rows = max(training_rows(series, train), key=lambda one: one.stop - one.start)
    best, lag = 0.3, 1  # the later peaks of a season are as high as its first
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
        highest = max((float(likeness[i]) for i in peaks), default=0.0)
        if highest > best:
            best, lag = highest, next(i for i in peaks if likeness[i] >= 0.85 * highest)
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
                if not cell:
                    raise DataError(
                        f"{rows.place(row)}, column {column!r}: is empty, expected what series {name!r} has throughout "
                        "(data.static)."
                    )
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


def statics_of(
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


def kept_statics(
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


def kept_preparation(
    series: Series, schema: SeriesSchema, settings: SeriesSettings, name: str, warnings: list[str]
) -> Preparation:
    """The training data's scales by name; those of strange series from their own rows."""
    place = {known: i for i, known in enumerate(schema.ids)}
    if len(schema.ids) == 1 and len(series) == 1:
        place[series.ids[0]] = 0  # one series goes on with the scale of the one, whatever it is called
    K = series.targets.shape[1]
    mean, deviation, size = (np.full((len(series), K), np.nan) for _ in range(3))
    scales = (schema.past_scale, schema.known_scale, schema.static_scale)
    past, known, static = (np.array(scale, np.float64).reshape(2, -1) for scale in scales)
    missing = effective(settings.missing, schema.masked)
    found = Preparation(
        settings.transform, settings.lags, settings.scaling, missing, mean, deviation, past, known, static
    )
    strange: list[str] = []
    for i, one in enumerate(series.ids):
        if one in place:
            mean[i], deviation[i], size[i] = schema.mean[place[one]], schema.deviation[place[one]], 0.0
        else:
            strange.append(one)
            first = slice(int(series.offsets[i]), int(series.offsets[i]) + schema.context + found.before)
            v = found.apply(series.targets[first])
            mean[i], deviation[i] = _moments(differenced(v, settings.lags))
            size[i] = _size(v)
    if strange and settings.scaling in ("series", "last"):
        warnings.append(
            f"{name}: {len(strange):,} series that training did not have, the first {strange[0]!r}; scaled by the "
            f"first {schema.context + found.before:,} rows of each"
        )
    mean, deviation, _ = _usable(mean, deviation, size)
    return replace(found, mean=mean, deviation=deviation)


def check_known(series: Series, which: np.ndarray, schema: SeriesSchema, name: str) -> None:
    """Raise where what is known ahead of these series ends before the horizon."""
    if not schema.known:
        return
    for i in which.tolist():
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
