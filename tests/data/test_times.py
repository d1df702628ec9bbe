"""Times: how they are written, their steps and the calendar, against pandas."""

from datetime import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.times import (
    CALENDAR,
    Beyond,
    Frequency,
    Times,
    calendar,
    calendar_names,
    found_frequency,
    parsed_frequency,
    read_times,
    usual_calendar,
    written,
)
from recurra.errors import DataError

DAY = 86400 * 10**9


def _ns(index: pd.DatetimeIndex) -> np.ndarray:
    return index.as_unit("ns").asi8.copy()


def _read(cells: list[str], format: str | None = None) -> Times:
    found = read_times(pl.Series(cells), format)
    assert isinstance(found, Times)
    return found


@pytest.mark.parametrize(
    ("cells", "same"),
    [
        (["1949-01", "1949-12"], ["1949-01-01", "1949-12-01"]),
        (["1949-01-31", "1949-02-28"], ["1949-01-31", "1949-02-28"]),
        (["2016-07-01 00:00:00", "2016-07-01 13:00:59"], ["2016-07-01 00:00:00", "2016-07-01 13:00:59"]),
        (["2016-07-01T00:30", "2016-07-01T01:30"], ["2016-07-01 00:30", "2016-07-01 01:30"]),
        (["2016-07-01T00:00:00Z", "2016-07-01T02:00:00+01:30"], ["2016-07-01 00:00", "2016-07-01 00:30"]),
        (["2016-07-01 00:00:00.25", "2016-07-01 00:00:01"], ["2016-07-01 00:00:00.25", "2016-07-01 00:00:01"]),
        (["2016/07/01", "2016/07/02"], ["2016-07-01", "2016-07-02"]),
        (["31.12.2019", "01.01.2020"], ["2019-12-31", "2020-01-01"]),
        (["12/31/2019", "01/01/2020"], ["2019-12-31", "2020-01-01"]),
        (["13/01/2020", "14/01/2020"], ["2020-01-13", "2020-01-14"]),
        (["01/01/2020", "02/01/2020", "03/01/2020"], ["2020-01-01", "2020-01-02", "2020-01-03"]),
        (["1990Q1", "1990-Q4"], ["1990-01-01", "1990-10-01"]),
        (["1990M01", "1990M11"], ["1990-01-01", "1990-11-01"]),
        (["Jan 2020", "Feb 2020"], ["2020-01-01", "2020-02-01"]),
        (["20191231", "20200101"], ["2019-12-31", "2020-01-01"]),
        (["200001", "200012", "200101"], ["2000-01-01", "2000-12-01", "2001-01-01"]),
        (["1/1/2000", "2/1/2000", "3/1/2000", "4/1/2000"], ["2000-01-01", "2000-01-02", "2000-01-03", "2000-01-04"]),
        (["1/1/2000", "12/1/2000", "1/1/2001", "2/1/2001"], ["2000-01-01", "2000-12-01", "2001-01-01", "2001-02-01"]),
        (["01/31/2020 11:30 PM", "02/01/2020 12:30 AM"], ["2020-01-31 23:30", "2020-02-01 00:30"]),
        (["1577836800", "1577840400"], ["2020-01-01 00:00", "2020-01-01 01:00"]),
        (["1577836800000", "1577836800250"], ["2020-01-01 00:00", "2020-01-01 00:00:00.25"]),
        (["5 Mar 2020", "17 Mar 2020"], ["2020-03-05", "2020-03-17"]),
        (["01/30/23", "01/31/23"], ["2023-01-30", "2023-01-31"]),
        (["31.12.49 23:00", "01.01.50 00:00"], ["2049-12-31 23:00", "1950-01-01 00:00"]),
        (["29-Feb-52", "01-Mar-52"], ["1952-02-29", "1952-03-01"]),
        (["99-12-31", "00-01-01", "00-01-02"], ["1999-12-31", "2000-01-01", "2000-01-02"]),
        (["Dec-69", "Jan-70"], ["1969-12-01", "1970-01-01"]),
        (["Q1 1990", "q4-1990"], ["1990-01-01", "1990-10-01"]),
        (["2015-W01", "2015W53"], ["2014-12-29", "2015-12-28"]),
        (["1677-09-22", "2262-04-10"], ["1677-09-22", "2262-04-10"]),
        (["2023-03-26T00:00+01:00", "2023-03-27T00:00+02:00"], ["2023-03-26", "2023-03-27"]),
        (["2023-03-26T01:00+01:00", "2023-03-26T03:00+02:00"], ["2023-03-26 00:00", "2023-03-26 01:00"]),
    ],
)
def test_ways_to_write_a_date(cells: list[str], same: list[str]) -> None:
    found = _read(cells)
    assert found.dated
    assert found.values.tolist() == [pd.Timestamp(one).as_unit("ns").value for one in same]


def test_a_format_is_named_and_what_may_be_meant_is_told() -> None:
    either = _read(["01/02/2020", "02/03/2020"])
    assert (either.format, either.other) == ("%d/%m/%Y", "%m/%d/%Y")
    assert _read(["01/02/2020", "02/03/2020"], "%m/%d/%Y").values[0] == pd.Timestamp("2020-01-02").as_unit("ns").value
    by_steps = _read(["1/1/2000", "12/1/2000", "1/1/2001", "2/1/2001"])  # months, or days with years between them
    assert (by_steps.format, by_steps.other) == ("%m/%d/%Y", None)
    with pytest.raises(DataError, match=r"data.time_format: '%d/%H' is no way to write a time"):
        read_times(pl.Series(["01/02"]), "%d/%H")


def test_numbers_and_cells_that_are_no_time() -> None:
    assert _read(["1700", "1701"]).values.tolist() == [1700, 1701]
    assert not _read(["0.5", "1.5"]).dated
    assert read_times(pl.Series(["2020-01-01", "2020-01-02", "tomorrow"])) == 2
    assert read_times(pl.Series(["2020-01-01", None])) == 1
    assert read_times(pl.Series([1.0, float("nan")])) == 1
    assert read_times(pl.Series(["x", "y"])) == 0


@pytest.mark.parametrize("typed", ["datetime64[D]", "datetime64[ns]", "datetime64[us]"])
def test_typed_columns(typed: str) -> None:
    moments = np.array(["2020-02-28", "2020-02-29", "2020-03-01"], typed)
    found = read_times(pl.Series(moments))
    assert isinstance(found, Times)
    assert found.values.tolist() == moments.astype("datetime64[ns]").astype(np.int64).tolist()


@pytest.mark.parametrize("cells", [["2000-01-01", "1677-09-21"], ["2000-01", "2262-05"], ["1.1.2000", "1.1.9999"]])
def test_dates_that_nanoseconds_cannot_tell(cells: list[str]) -> None:
    found = read_times(pl.Series(cells))
    assert isinstance(found, Beyond)
    assert found == 1


def test_typed_dates_that_nanoseconds_cannot_tell() -> None:
    for unit in (pl.Date, pl.Datetime("us"), pl.Datetime("ms")):
        found = read_times(pl.Series([datetime(2000, 1, 1), datetime(1500, 1, 1)]).cast(unit))
        assert isinstance(found, Beyond)
        assert found == 1
    for text in ("1mo", "1d", "business", "rows:1y"):
        frequency = parsed_frequency(text)
        assert frequency.ahead(np.array([80_000 * DAY]), 3)[0] > 80_000 * DAY
        with pytest.raises(DataError, match="go on beyond the year 2261"):
            frequency.ahead(np.array([106_740 * DAY]), np.arange(30))


def test_a_year_has_the_digits_that_its_format_says() -> None:
    assert read_times(pl.Series(["01/31/23"]), "%m/%d/%Y") == 0
    assert read_times(pl.Series(["01/31/2023"]), "%m/%d/%y") == 0


@pytest.mark.parametrize("hour", [0, 9])
def test_days_of_a_zone_with_summer_time_stand_at_equal_steps(hour: int) -> None:
    days = pd.date_range(f"2023-03-01 {hour}:00", periods=60, tz="Europe/Berlin")
    found = read_times(pl.Series(days.to_pydatetime().tolist(), dtype=pl.Datetime("us", "Europe/Berlin")))
    assert isinstance(found, Times)
    assert found.values.tolist() == _ns(days.tz_localize(None)).tolist()
    hours = pd.date_range("2023-03-25", periods=60, freq="h", tz="Europe/Berlin")
    found = read_times(pl.Series(hours.to_pydatetime().tolist(), dtype=pl.Datetime("us", "Europe/Berlin")))
    assert isinstance(found, Times)
    assert found.values.tolist() == _ns(hours.tz_convert("UTC").tz_localize(None)).tolist()


STEPS = {
    "15min": "15min",
    "h": "1h",
    "D": "1d",
    "B": "business",
    "W-TUE": "1w",
    "MS": "1mo",
    "ME": "1mo-end",
    "BME": "1mo-workday",
    "BQE": "3mo-workday",
    "QS": "3mo",
    "QE": "3mo-end",
    "YS": "1y",
    "YE": "1y",
    "2MS": "2mo",
    "36h": "36h",
    "14D": "2w",
}


@pytest.mark.parametrize("pandas_name", STEPS)
def test_steps_are_found_and_go_on(pandas_name: str) -> None:
    start = "1999-11-30 06:30" if pandas_name in ("15min", "h", "36h") else "1999-11-30"
    whole = pd.date_range(start, periods=80, freq=pandas_name)
    times = _ns(whole)
    with_gaps = np.delete(times[:50], [7, 8, 20])
    frequency = found_frequency([with_gaps, times[3:30]], True)
    assert frequency.text == STEPS[pandas_name]
    assert parsed_frequency(frequency.text) == frequency
    assert (frequency.ahead(times[49], np.arange(1, 31)) == times[50:]).all()
    places, on = frequency.places(with_gaps)
    assert on.all()
    assert (times[places] == with_gaps).all()
    off = with_gaps.copy()
    off[10] += 7 * 10**9
    assert np.flatnonzero(~frequency.places(off)[1]).tolist() == [10]


@given(st.datetimes(datetime(1950, 1, 1), datetime(2050, 1, 1)), st.integers(0, 100), st.integers(1, 13))
def test_months_go_on_as_in_pandas(start: datetime, steps: int, months: int) -> None:
    moment = pd.Timestamp(start).as_unit("ns")
    found = Frequency("month", months).ahead(np.array([moment.value]), np.array([steps]))
    assert found[0] == (moment + pd.DateOffset(months=months * steps)).as_unit("ns").value


@pytest.mark.parametrize(
    ("text", "season"),
    [("15min", 96), ("1h", 24), ("1d", 7), ("business", 5), ("1w", 52), ("1mo", 12), ("3mo", 4), ("1y", 1), ("6h", 4)],
)
def test_seasons(text: str, season: int) -> None:
    assert parsed_frequency(text).season == season


def test_frequencies_as_people_name_them() -> None:
    same = {"hourly": "1h", "30 min": "30min", "5m": "5min", "60min": "1h", "7d": "1w", "rows": "rows"}
    same |= {"M": "1mo-end", "MS": "1mo", "B": "business", "12mo": "1y", "2q": "6mo"}
    assert {text: parsed_frequency(text).text for text in same} == same
    for wrong in ("fortnightly", "0h", "0mo", "0y", ""):
        with pytest.raises(DataError, match=rf"data\.frequency: unknown frequency '{wrong}'"):
            parsed_frequency(wrong)


def test_the_calendar_is_that_of_pandas() -> None:
    index = pd.date_range("2019-12-28 22:10", periods=3000, freq="407min")
    found = calendar(_ns(index), CALENDAR)
    turns = {
        "minute": index.minute / 60,
        "hour": (index.hour * 60 + index.minute) / 1440,
        "weekday": index.day_of_week / 7,
        "day": (index.day - 1) / index.days_in_month,
        "yearday": (index.day_of_year - 1) / np.where(index.is_leap_year, 366, 365),
        "month": (index.month - 1) / 12,
        "quarter": (index.quarter - 1) / 4,
    }
    for i, name in enumerate(CALENDAR):
        angle = 2 * np.pi * np.asarray(turns[name])
        np.testing.assert_allclose(found[:, 2 * i], np.sin(angle), atol=1e-9)
        np.testing.assert_allclose(found[:, 2 * i + 1], np.cos(angle), atol=1e-9)
    assert calendar_names(["hour"]) == ["hour sine", "hour cosine"]


def test_features_that_have_not_come_round_twice_are_left_out() -> None:
    hourly = parsed_frequency("1h")
    assert usual_calendar(hourly, 10 * DAY) == ["hour"]
    assert usual_calendar(hourly, 400 * DAY) == ["hour", "weekday"]
    assert usual_calendar(hourly, 800 * DAY) == ["hour", "weekday", "yearday"]
    assert usual_calendar(parsed_frequency("1mo"), 800 * DAY) == ["month"]
    assert usual_calendar(parsed_frequency("1y"), 80_000 * DAY) == []
    assert usual_calendar(parsed_frequency("business"), 20 * DAY) == ["weekday"]


def test_times_are_written_as_short_as_they_can_be() -> None:
    for cells in (["1949-01", "1949-02"], ["1949-01-31", "1949-02-28"], ["2016-07-01 00:00:00", "2016-07-01 01:00:00"]):
        found = _read(cells)
        assert written(found.values, found_frequency([found.values], True), True) == cells
    assert written(np.array([0, 3]), Frequency("step", 1), False, 1700.0, 0.5) == ["1700", "1701.5"]
