"""Times of a table: how they are written, at what equal steps they stand, and what the calendar says of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import time
from typing import Literal

import numpy as np
import polars as pl

from recurra.errors import DataError, unknown

NS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
WEEK = 7 * NS["d"]

Unit = Literal["fixed", "month", "business", "step", "rows"]

_SHORT_DAYS = ("%d.%m.%y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%y-%m-%d", "%y/%m/%d")
FORMATS = (
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m-%d %H:%M:%S%.f"),
    *("%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y/%m/%d", "%Y.%m.%d %H:%M:%S", "%Y.%m.%d %H:%M", "%Y.%m.%d"),
    *("%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%d.%m.%Y", "%Y%m%d"),
    *("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M", "%d/%m/%Y", "%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M", "%m/%d/%Y"),
    *("%d-%m-%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%d-%m-%Y", "%m-%d-%Y %H:%M:%S", "%m-%d-%Y %H:%M", "%m-%d-%Y"),
    *("%d.%m.%Y %I:%M:%S %p", "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", "%Y-%m-%d %I:%M:%S %p"),
    *("%d.%m.%Y %I:%M %p", "%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p", "%Y-%m-%d %I:%M %p"),
    *("%d-%b-%Y", "%d %b %Y", "%b %d, %Y", "%B %d, %Y", "%d %B %Y"),
    *(f"{day}{time}" for day in _SHORT_DAYS for time in (" %H:%M:%S", " %H:%M", "")),
    *("%d-%b-%y", "%d %b %y"),
)
"""How dates are written, in the order in which they are tried; with a day or a month first where only that fits."""
MONTHS = ("%Y-%m", "%Y/%m", "%Y%m", "%Ym%m", "%b %Y", "%B %Y", "%b-%Y", "%m/%Y", "%b-%y", "%b %y")
"""Likewise dates without a day: the first of the month."""
WEEKS = "%G-W%V"
"""Likewise weeks of ISO 8601: their Monday."""
EPOCHS = {"unix": ("s", 5e8, 4.2e9), "unix_ms": ("ms", 5e11, 4.2e12)}
"""Seconds and milliseconds since 1970, and the numbers that are taken for such: those from 1985 to 2103."""
QUARTERS = "%Yq%q"

SPAN = (np.datetime64("1677-09-22", "us"), np.datetime64("2262-04-11", "us"))
"""The times that 64 bits of nanoseconds can tell: from the first, up to the second."""
SPAN_WORDS = "from 1678 to 2261"
CENTURY = 50
"""Years of two digits are those of 1900 from here on, and of 2000 below (as in RFC 5280, section 4.1.2.5.1)."""

_QUARTER = r"^(\d{4})[- ]?[qQ]([1-4])$"
_QUARTER_FIRST = r"^[qQ]([1-4])[-/ ]?(\d{4})$"
_ZONE = r"\s*(?:Z|[+-]\d\d:?\d\d)$"


@dataclass(frozen=True)
class Frequency:
    """Equal steps of time.

    Attributes:
        unit: fixed: so many nanoseconds; month: so many months; business: days from Monday to Friday; step: numbers
            that rise by as much; rows: whatever the times, each row is a step.
        count: How many nanoseconds, months, days; 1 for steps and rows.
        month_end: month: whether each time is the last day of its month.
        workday: month: whether it is the last from Monday to Friday instead.
        base: rows: the steps at which most rows stand, by which times go on; None without dates.
    """

    unit: Unit
    count: int
    month_end: bool = False
    base: "Frequency | None" = None
    workday: bool = False

    @property
    def text(self) -> str:
        """As settings name it: 15min, 1h, 1d, 1w, 1mo, 1mo-end, 1mo-workday, 1y, business, step, rows."""
        if self.unit == "month":
            count, name = (self.count // 12, "y") if self.count % 12 == 0 else (self.count, "mo")
            return f"{count}{name}{'-workday' if self.workday else '-end' if self.month_end else ''}"
        if self.unit == "rows":
            return f"rows:{self.base.text}" if self.base else "rows"
        if self.unit != "fixed":
            return self.unit
        if self.count % WEEK == 0:
            return f"{self.count // WEEK}w"
        name = next(name for name in reversed(NS) if self.count % NS[name] == 0)
        return f"{self.count // NS[name]}{name}"

    @property
    def words(self) -> str:
        """As messages call it."""
        names = {"1h": "hourly", "1d": "daily", "1w": "weekly", "1mo": "monthly", "3mo": "quarterly", "1y": "yearly"}
        names |= {"business": "on business days", "step": "numbered", "rows": "row by row"}
        text = self.text.partition(":")[0]
        return names.get(text.removesuffix("-end").removesuffix("-workday"), f"every {text}")

    @property
    def season(self) -> int | None:
        """Steps after which such series tend to repeat themselves; None where the calendar does not tell."""
        if self.unit == "month":
            return max(1, 12 // self.count)
        if self.unit == "business":
            return 5
        if self.base is not None:
            return self.base.season
        if self.unit == "fixed":
            if self.count < NS["d"]:
                return _per(NS["d"], self.count)
            return _per(365 * NS["d"], self.count) if self.count % WEEK == 0 else _per(WEEK, self.count)
        return None

    def ahead(self, times: np.ndarray, steps: np.ndarray | int) -> np.ndarray:
        """Times so many steps behind these.

        Raises:
            DataError: A time is beyond `SPAN`.
        """
        if self.base is not None:
            return self.base.ahead(times, steps)
        times, steps = np.broadcast_arrays(np.asarray(times, np.int64), np.asarray(steps, np.int64))
        self._check_span(times, steps)
        if self.unit == "month":
            return _months_ahead(times, steps * self.count, self.month_end, self.workday)
        if self.unit == "business":
            days, rest = np.divmod(times, NS["d"])
            later = np.busday_offset(days.astype("datetime64[D]"), steps, roll="forward")
            return later.astype(np.int64) * NS["d"] + rest
        return times + steps * self.count

    def _check_span(self, times: np.ndarray, steps: np.ndarray) -> None:
        if self.unit in ("step", "rows") or not times.size:
            return
        days = {"month": 31 * self.count, "business": 7 / 5}.get(self.unit, self.count / NS["d"])
        latest = float((times / NS["d"] + steps * days).max()) + (3 if self.unit == "business" else 0)
        if latest >= SPAN[1].astype("datetime64[D]").astype(np.int64):
            raise DataError(f"times go on beyond the year 2261; dates that can be told are {SPAN_WORDS}.")

    def places(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which step from the first each time is, and whether it stands on one. `times` rise."""
        if self.unit == "rows":
            return np.arange(len(times)), np.ones(len(times), bool)
        if self.unit == "month":
            months = times.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)
            places = np.floor_divide(months - months[0], self.count)
        elif self.unit == "business":
            days = np.floor_divide(times, NS["d"]).astype("datetime64[D]")
            places = np.busday_count(days[0], days)
        else:
            places = np.floor_divide(times - times[0], self.count)
        return places, self.ahead(times[0], places) == times


def _per(period: int, count: int) -> int | None:
    """How often `count` goes into a period; None where it does not do so twice, or too often to be learnt."""
    return round(period / count) if 2 * count <= period <= 2000 * count else None


def _months_ahead(times: np.ndarray, months: np.ndarray, end: bool, workday: bool) -> np.ndarray:
    """The same day and time of day so many months later, or the month's last day, or its last from Monday to Friday."""
    moments = times.view("datetime64[ns]") if times.flags.c_contiguous else times.copy().view("datetime64[ns]")
    month = moments.astype("datetime64[M]")
    day = (moments.astype("datetime64[D]") - month.astype("datetime64[D]")).astype(np.int64)
    rest = np.mod(times, NS["d"])
    later = month + months
    if workday:
        return _last_workday(later).astype(np.int64) * NS["d"] + rest
    last = ((later + 1).astype("datetime64[D]") - later.astype("datetime64[D]")).astype(np.int64) - 1
    day = last if end else np.minimum(day, last)
    return (later.astype("datetime64[D]").astype(np.int64) + day) * NS["d"] + rest


def _last_workday(months: np.ndarray) -> np.ndarray:
    """The last day of each month from Monday to Friday."""
    return np.busday_offset((months + 1).astype("datetime64[D]"), -1, roll="forward")


def parsed_frequency(text: str) -> Frequency:
    """A frequency as settings (or a schema) name it.

    Raises:
        DataError: It is none.
    """
    words = {
        **{"minutely": "1min", "hourly": "1h", "daily": "1d", "weekly": "1w", "monthly": "1mo", "quarterly": "3mo"},
        **{"yearly": "1y", "annual": "1y", "b": "business", "1b": "business", "h": "1h", "d": "1d", "w": "1w"},
        **{"ms": "1mo", "m": "1mo-end", "me": "1mo-end", "q": "3mo", "y": "1y", "t": "1min", "min": "1min"},
    }
    text = words.get(text.strip().lower(), text.strip().lower())
    if text == "business":
        return Frequency("business", 1)
    if text == "step":
        return Frequency("step", 1)
    if found := re.fullmatch(r"rows(?::(.+))?", text):
        return Frequency("rows", 1, base=parsed_frequency(found[1]) if found[1] else None)
    if (found := re.fullmatch(r"(\d+)\s*(mo|q|y)(-end|-workday)?", text)) and int(found[1]):
        count = int(found[1]) * {"mo": 1, "q": 3, "y": 12}[found[2]]
        return Frequency("month", count, found[3] == "-end", workday=found[3] == "-workday")
    if (found := re.fullmatch(r"(\d+)\s*(ns|us|ms|s|min|m|h|d|w)", text)) and int(found[1]):
        return Frequency("fixed", int(found[1]) * {**NS, "m": NS["min"], "w": WEEK}[found[2]])
    known = ["15min", "1h", "1d", "business", "1w", "1mo", "3mo", "1y", "rows"]
    raise DataError(f"data.frequency: {unknown('frequency', text, known)}")


def found_frequency(times: Sequence[np.ndarray], dated: bool) -> Frequency:
    """The steps at which most of these times stand.

    Args:
        times: Those of each series, rising and none twice.
        dated: Whether they are nanoseconds since 1970.
    """
    several = [one for one in times if len(one) > 1]
    if not several:
        return Frequency("fixed", NS["d"]) if dated else Frequency("step", 1)
    steps = np.concatenate([np.diff(one) for one in several])
    kinds, counts = np.unique(steps, return_counts=True)
    usual = int(kinds[counts.argmax()])
    if not dated:
        return Frequency("step", usual)
    moments = np.concatenate([np.asarray(one, np.int64) for one in several]).view("datetime64[ns]")
    if usual >= 28 * NS["d"] and len(np.unique(moments.view(np.int64) % NS["d"])) == 1:
        months = moments.astype("datetime64[M]")
        days = (moments.astype("datetime64[D]") - months.astype("datetime64[D]")).astype(np.int64)
        left = ((months + 1).astype("datetime64[D]") - moments.astype("datetime64[D]")).astype(np.int64)
        gaps = np.concatenate(
            [np.diff(one.view("datetime64[ns]").astype("datetime64[M]").astype(np.int64)) for one in several]
        )
        same, end = bool((days == days[0]).all()), bool((left == 1).all())
        if same or end or (_last_workday(months) == moments.astype("datetime64[D]")).all():
            kinds, counts = np.unique(gaps, return_counts=True)
            count = max(1, int(kinds[counts.argmax()]))
            return Frequency("month", count, end and not same, workday=not (same or end))
    if usual == NS["d"]:
        weekdays = (np.floor_divide(moments.view(np.int64), NS["d"]) + 3) % 7  # 1970-01-01 was a Thursday
        if (weekdays < 5).all() and (steps >= 3 * NS["d"]).any():
            return Frequency("business", 1)
    return Frequency("fixed", usual)


# --- how times are written --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """A column of times, read.

    Attributes:
        values: Nanoseconds since 1970, int64, where there are dates; else the numbers, float64.
        dated: Which of the two.
        format: How the dates are written; None for numbers, and for dates that a typed column holds.
        other: How they may be meant as well, where nothing tells a day from a month.
    """

    values: np.ndarray
    dated: bool
    format: str | None = None
    other: str | None = None


class Beyond(int):
    """The position of a time that is beyond `SPAN`."""


def looks_like_times(cells: Sequence[str]) -> bool:
    """Whether the cells are dates, those that are empty passed over."""
    filled = [cell for cell in cells if cell]
    return bool(filled) and bool(_formats(pl.Series(filled, dtype=pl.String)))


def read_times(column: pl.Series, format: str | None = None) -> Times | int:
    """The times of a column; the position of the first cell that is none, or a `Beyond` one, where there is one.

    Args:
        column: Typed, or as written.
        format: How dates are written, such as "%d/%m/%Y"; found from the cells where None.

    Raises:
        DataError: `format` is none that dates are written in.
    """
    if column.dtype.is_temporal():
        return _typed(column)
    if column.dtype.is_numeric():
        values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
        wrong = np.flatnonzero(~np.isfinite(values))
        if len(wrong):
            return int(wrong[0])
        if (values == np.round(values)).all():
            column = column.cast(pl.Int64)
    cells = column.cast(pl.String).fill_null("").str.strip_chars()
    formats = [format] if format else _formats(cells.filter(cells != ""))
    if not formats or format in EPOCHS:
        numbers = cells.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy()
        wrong = np.flatnonzero(~np.isfinite(numbers))
        if len(wrong):
            return int(wrong[0])
        for name, (unit, least, most) in EPOCHS.items():
            whole = bool((numbers == np.round(numbers)).all() and numbers.min() >= least and numbers.max() <= most)
            if (format == name and numbers.max() < 4.2e9 * NS["s"] / NS[unit]) or (format is None and whole):
                return Times(np.round(numbers).astype(np.int64) * NS[unit], True, name)
        return Times(numbers, False)
    try:
        moments = _moments(cells, formats[0])
    except pl.exceptions.PolarsError as error:
        raise DataError(
            f"data.time_format: {formats[0]!r} is no way to write a time ({str(error).splitlines()[0]}); expected such "
            "as %d/%m/%Y or %Y-%m-%d %H:%M."
        ) from error
    if moments.null_count():
        row = int(moments.is_null().arg_max() or 0)
        return row if _read(cells[row : row + 1], formats[0]).null_count() else Beyond(row)
    return Times(moments.to_numpy().copy(), True, formats[0], *formats[1:2])


def _typed(column: pl.Series) -> Times | int:
    """The times of a column of dates."""
    local = column = column.cast(pl.Datetime("us")) if column.dtype == pl.Date else column
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone:
        local = column.dt.replace_time_zone(None)
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    if column.null_count():
        return int(column.is_null().arg_max() or 0)
    moments = column.cast(pl.Datetime("us"))  # of nanoseconds no date is beyond
    inside = (moments >= SPAN[0].item()) & (moments < SPAN[1].item())
    if not inside.all():
        return Beyond((~inside).arg_max() or 0)
    return Times(of_zone(local, column).cast(pl.Datetime("ns")).cast(pl.Int64).to_numpy().copy(), True)


def of_zone(local: pl.Series, utc: pl.Series) -> pl.Series:
    """Times with a zone: in UTC; but days as the clocks there count them, for with summer time they are not equal in
    UTC."""
    hours, same = local.dt.time(), utc.dt.time()
    if hours.n_unique() == 1 and (same.n_unique() > 1 or hours[0] == time()):
        return local
    return utc


def _formats(cells: pl.Series) -> list[str]:
    """The formats that fit most cells, the likeliest first: a second one only where a day may be a month, or a year."""
    first, digits = cells.head(20), bool(cells.str.contains(r"^\d+$").all())
    fitting: list[str] = []
    fewest = len(cells) // 2 + 1
    for format in (*FORMATS, *MONTHS, QUARTERS, WEEKS):
        if (format in ("%Y%m%d", "%Y%m")) != digits or _read(first, format).null_count() > len(first) // 2:
            continue
        wrong = _read(cells, format).null_count()
        if wrong < fewest:
            fitting, fewest = [format], wrong
        elif wrong == fewest and fitting and {format[:2], fitting[0][:2]} <= {"%d", "%m", "%y"}:
            fitting.append(format)
    if digits and fewest and fitting:  # dates without a sign between their parts are so all of them, or none
        return []
    if len(fitting) > 1:  # the one whose times stand at equal steps is meant
        gaps = [_gaps(_moments(cells, format).drop_nulls().to_numpy()) for format in fitting]
        fitting = [format for format, count in zip(fitting, gaps, strict=True) if count == min(gaps)]
    return fitting


def _gaps(times: np.ndarray) -> int:
    """Steps that are missing between times, and times that are on no step."""
    times = np.unique(times)
    if not len(times):
        return 0
    places, on = found_frequency([times], True).places(times)
    return int(places[-1] + 1 - len(times) + 2 * (~on).sum())


def _moments(cells: pl.Series, format: str) -> pl.Series:
    """Nanoseconds since 1970, null where a cell is not written so, or is beyond `SPAN`; see `of_zone` for zones."""
    cells, offsets = _without_zone(cells, format)
    moments = _read(cells, format)
    inside = (moments >= SPAN[0].item()) & (moments < SPAN[1].item())
    kept = pl.select(pl.when(pl.lit(inside)).then(pl.lit(moments))).to_series()
    exact = _read(cells, format, "ns") if "%.f" in format else kept.cast(pl.Datetime("ns"))
    local = pl.select(pl.when(pl.lit(kept.is_not_null())).then(pl.lit(exact))).to_series().cast(pl.Int64)
    if offsets is None or local.null_count():
        return local
    there, utc = (one.cast(pl.Datetime("ns")) for one in (local, local - offsets))
    return of_zone(there, utc).cast(pl.Int64)


def _without_zone(cells: pl.Series, format: str) -> tuple[pl.Series, pl.Series | None]:
    """Cells without a zone at their end, and how far each is from UTC in nanoseconds; None where none has one."""
    if not format.startswith("%Y-%m-%d %H"):
        return cells, None
    cells = cells.str.replace(r"^(\d{4}-\d\d-\d\d)[T_]", "$1 ")
    if not cells.str.contains(r"\d\d:\d\d(?:\.\d+)?" + _ZONE).any():
        return cells, None
    found = cells.str.extract_groups(r"([+-])(\d\d):?(\d\d)$").struct.unnest()
    sign, hours, minutes = (found.to_series(i) for i in range(3))
    size = hours.cast(pl.Int64).fill_null(0) * 60 + minutes.cast(pl.Int64).fill_null(0)
    offsets = size * (1 - 2 * (sign == "-").fill_null(False).cast(pl.Int64)) * NS["min"]
    return cells.str.replace(_ZONE, ""), offsets


def _read(cells: pl.Series, format: str, unit: Literal["us", "ns"] = "us") -> pl.Series:
    """The moments of cells, their zones passed over; null where one is not written so.

    A year has as many digits as its format says: polars reads `23` by `%Y` as well, as a year of the Romans.
    """
    cells = _without_zone(cells, format)[0]
    full, short = "%Y" in format, "%y" in format
    if format == QUARTERS:
        cells = cells.str.replace(_QUARTER_FIRST, "$2-q$1").str.replace(_QUARTER, "$1-q$2")
        for quarter in range(4):
            cells = cells.str.replace(f"-q{quarter + 1}$", f"-{3 * quarter + 1:02d}")
        format = "%Y-%m"
    if format == WEEKS:
        cells, format = cells.str.replace(r"^(\d{4})-?W(\d\d)$", "$1-W$2-1"), f"{format}-%u"
    if format in MONTHS:  # polars knows no date without a day
        cells, format = pl.select(pl.format("{}|01", pl.lit(cells).str.to_lowercase())).to_series(), f"{format}|%d"
    moments = cells.str.to_datetime(format, time_unit=unit, strict=False, exact=True)
    if full:
        moments = pl.select(pl.when(pl.lit(moments.dt.year() >= 1000)).then(pl.lit(moments))).to_series()
    if short:  # which chrono takes for those from 1970 to 2069
        early = pl.lit(moments.dt.year() >= 2000 + CENTURY)
        moments = pl.select(
            pl.when(early).then(pl.lit(moments.dt.offset_by("-100y"))).otherwise(pl.lit(moments))
        ).to_series()
    return moments


def written(times: np.ndarray, frequency: Frequency, dated: bool, first: float = 0.0, step: float = 1.0) -> list[str]:
    """Times as a file has them: dates as short as their steps allow, or numbers.

    Args:
        times: As in `Series.times`.
        frequency: Their steps.
        dated: Whether they are dates.
        first: Of numbers, that which is step 0.
        step: And what a step adds.
    """
    if not dated:
        numbers = first + times * step
        return [f"{x:.12g}" for x in numbers.tolist()]
    moments = times.astype(np.int64).view("datetime64[ns]")
    if not (times % NS["d"]).any():
        if frequency.unit == "month" and (moments.astype("datetime64[M]") == moments).all():
            return moments.astype("datetime64[M]").astype(str).tolist()
        return moments.astype("datetime64[D]").astype(str).tolist()
    unit = "s" if not (times % NS["s"]).any() else "ns"
    return [text.replace("T", " ") for text in moments.astype(f"datetime64[{unit}]").astype(str).tolist()]


# --- the calendar -----------------------------------------------------------------------------------------------------

CALENDAR = ("minute", "hour", "weekday", "day", "yearday", "month", "quarter")
"""Features of the calendar, each a place on a circle: its sine and cosine."""

PERIODS = {
    "minute": NS["h"],
    "hour": NS["d"],
    "weekday": WEEK,
    "day": 30 * NS["d"],
    "yearday": 365 * NS["d"],
    "month": 365 * NS["d"],
    "quarter": 365 * NS["d"],
}
"""About how long each takes to come round."""


def usual_calendar(frequency: Frequency, span: int) -> list[str]:
    """The features that tell steps apart and that have come round twice in a span of so many nanoseconds."""
    frequency = frequency.base or frequency
    fixed = frequency.count if frequency.unit == "fixed" else 0
    if frequency.unit == "business":
        names = ["weekday", "yearday"]
    elif frequency.unit == "month":
        names = ["month"] if frequency.count < 3 else ["quarter"] if frequency.count < 12 else []
    elif not fixed or fixed >= 300 * NS["d"]:
        names = []
    elif fixed < NS["h"]:
        names = ["minute", "hour", "weekday", "yearday"]
    elif fixed < NS["d"]:
        names = ["hour", "weekday", "yearday"]
    else:
        names = ["weekday", "yearday"] if fixed % WEEK else ["yearday"]
    return [name for name in names if 2 * PERIODS[name] <= span]


def calendar_names(names: Sequence[str]) -> list[str]:
    """What the columns of `calendar` are called."""
    return [f"{name} {part}" for name in names for part in ("sine", "cosine")]


def calendar(times: np.ndarray, names: Sequence[str]) -> np.ndarray:
    """(S, 2 * len(names)) float64 of times in nanoseconds since 1970: sine and cosine of each.

    minute and hour turn evenly, so that half past is half way; weekday begins on Monday, day with the first of the
    month, yearday, month and quarter with the year.
    """
    moments = times.astype(np.int64).view("datetime64[ns]")
    days = moments.astype("datetime64[D]")
    months, years = days.astype("datetime64[M]"), days.astype("datetime64[Y]")

    def within(parts: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return (parts.astype("datetime64[D]") - whole.astype("datetime64[D]")).astype(np.int64)

    turns = {
        "minute": lambda: (times % NS["h"]) / NS["h"],
        "hour": lambda: (times % NS["d"]) / NS["d"],
        "weekday": lambda: ((days.astype(np.int64) + 3) % 7) / 7,
        "day": lambda: within(days, months) / within(months + 1, months),
        "yearday": lambda: within(days, years) / within(years + 1, years),
        "month": lambda: (months.astype(np.int64) % 12) / 12,
        "quarter": lambda: (months.astype(np.int64) % 12 // 3) / 4,
    }
    angles = [2 * np.pi * turns[name]() for name in names]
    return np.stack([f(angle) for angle in angles for f in (np.sin, np.cos)], 1) if names else np.zeros((len(times), 0))
