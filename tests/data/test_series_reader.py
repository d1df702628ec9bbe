"""Series from tables and arrays: what is found, how they are cut, and everything that can be wrong with one."""

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

from recurra.data import Parts
from recurra.data.series import SeriesWindows
from recurra.data.series_reader import SeriesReader
from recurra.data.series_settings import SeriesSchema, SeriesSettings
from recurra.errors import DataError

READER = SeriesReader()

SeriesParts = Parts[SeriesWindows, SeriesSchema]


def _parts(source: Any, **settings: Any) -> SeriesParts:
    apart = {part: settings.pop(part) for part in ("validation", "test") if part in settings}
    return READER.parts(source, "forecast", SeriesSettings.model_validate(settings), **apart)


def _part_of(parts: SeriesParts, name: str) -> SeriesWindows:
    found = parts.named[name]
    assert isinstance(found, SeriesWindows)
    return found


def _daily(days: int, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"date": pd.date_range("2020-01-01", periods=days), **columns})


def _file(folder: Path, text: str, name: str = "series.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def _days(folder: Path, values: list[Any], skip: tuple[int, ...] = ()) -> Path:
    dates = pd.date_range("2020-01-01", periods=len(values) + len(skip))
    kept = [str(day.date()) for i, day in enumerate(dates) if i not in skip]
    rows = (f"{day},{value}" for day, value in zip(kept, values, strict=True))
    return _file(folder, "\n".join(["date,load", *rows, ""]))


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_month_a_row(data_folder: Path) -> None:
    parts = _parts(data_folder / "timeseries" / "airline-passengers.csv")
    s, series = parts.schema, parts.train.series
    assert (s.time, s.targets, s.frequency, s.season, s.calendar) == ("Month", ["Passengers"], "1mo", 12, ["month"])
    assert (s.context, s.horizon) == (24, 12)
    assert series.targets[:3, 0].tolist() == [112, 118, 132]
    assert series.lines[:2].tolist() == [2, 3]
    assert s.axis.written(series.times[[0, -1]]) == ["1949-01", "1960-12"]
    assert parts.warnings == []
    y = pd.read_csv(data_folder / "timeseries" / "airline-passengers.csv")["Passengers"].to_numpy(np.float64)
    assert s.mean[0][0] == pytest.approx(y[:100].mean())
    assert s.deviation[0][0] == pytest.approx(y[:100].std())
    assert s.naive[0][0] == pytest.approx(np.abs(y[12:100] - y[:88]).mean())


def test_the_usual_cut_of_ett(data_folder: Path) -> None:
    path = data_folder / "ett" / "ETTh1.csv"
    ends = {"train_end": 8640, "validation_end": 11520, "test_end": 14400}
    parts = _parts(path, target="OT", past=[], context=336, horizon=96, **ends)
    assert [len(part) for part in parts.named.values()] == [8640 - 336 - 96 + 1, 2880 - 96 + 1, 2880 - 96 + 1]
    frame = pd.read_csv(path)
    test = _part_of(parts, "test")
    np.testing.assert_array_equal(test.truth[5, :, 0], frame["OT"].to_numpy()[11525 : 11525 + 96])
    assert parts.sources["test"].endswith("ETTh1.csv: 2,880 rows, 2017-10-24 00:00:00 to 2018-02-20 23:00:00")
    ends = {"train_end": "2017-06-25", "validation_end": "2017-10-23 23:00", "test_end": "2018-02-20"}
    by_time = _parts(path, target="OT", past=[], context=336, horizon=96, **ends)
    for part in ("train", "validation", "test"):
        assert np.array_equal(_part_of(by_time, part).places, _part_of(parts, part).places)
    known = parts.train.batch([0]).known[:, 0].numpy()
    hours = pd.to_datetime(frame["date"]).dt.hour.to_numpy()[: 336 + 96]
    np.testing.assert_allclose(known[:, 0], np.sin(2 * np.pi * hours / 24), atol=1e-12)


def test_windows_of_the_parts() -> None:
    parts = _parts(np.arange(100.0), context=10, horizon=3, stride=4, test_stride=2, difference=[2])
    assert parts.train.places[:, 1].tolist() == list(range(12, 68, 4))
    assert _part_of(parts, "validation").places[:, 1].tolist() == [70, 72, 74, 76]
    assert _part_of(parts, "test").places[:, 1].tolist() == [80, 82, 84, 86, 88, 90, 92, 94, 96]
    assert (parts.train.truth.max(), parts.train.truth.min()) == (66, 12)


def _long(columns: bool = True, ahead: int = 0) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frames = []
    for i, (name, length) in enumerate((("north", 50), ("south", 40), ("west", 45))):
        own = _daily(length, shop=name, sales=random.normal(i * 10, 1 + i, length))
        if columns:
            own = own.assign(price=np.arange(length) + 100.0 * i, size=[10, 20, 30][i], kind="ab"[i % 2])
        own.loc[length - ahead :, "sales"] = np.nan
        frames.append(own)
    return pd.concat(frames).sample(frac=1, random_state=1)


def test_series_in_rows() -> None:
    parts = _parts(_long(False), horizon=2, context=5)
    s, series = parts.schema, parts.train.series
    assert (s.layout, s.id_columns, s.targets) == ("long", ["shop"], ["sales"])
    assert sorted(s.ids) == ["north", "south", "west"]
    for i, name in enumerate(series.ids):
        own = _long(False).query(f"shop == '{name}'").sort_values("date")
        np.testing.assert_array_equal(series.targets[series.rows(i), 0], own["sales"])
        cut = len(own) - int(np.ceil(0.2 * len(own))) - int(np.ceil(0.1 * len(own)))
        assert s.mean[i][0] == pytest.approx(own["sales"][:cut].mean())
    assert any("rows are told apart by shop" in warning for warning in parts.warnings)
    assert any("earlier than the row before" in warning for warning in parts.warnings)


def test_covariates_and_what_series_have_throughout() -> None:
    frame = _long(ahead=4)
    frame["past"] = frame["sales"] * 2
    parts = _parts(frame, target="sales", static=["size", "kind"], horizon=4, context=6)
    s = parts.schema
    assert (s.known, s.past, s.static) == (["price"], ["past"], ["size", "kind=a", "kind=b"])
    assert any("price is a covariate known ahead" in warning for warning in parts.warnings)
    assert any("past is a covariate known up to the present" in warning for warning in parts.warnings)
    batch = parts.train.batch([0])
    which, origin = parts.train.places[0]
    series = parts.train.series
    i = ["north", "south", "west"].index(str(series.ids[which]))
    assert series.static[which].tolist() == [[10, 20, 30][i], float(i != 1), float(i == 1)]
    price = 100.0 * i + np.arange(origin - 6, origin + 4)
    np.testing.assert_allclose(batch.known[:, 0, 0] * s.known_scale[1][0] + s.known_scale[0][0], price)
    assert batch.past.shape == (6, 1, 1)
    windows, warnings = READER.part(frame, s)
    assert len(warnings) == 1  # that rows are out of order
    assert windows.places[:, 1].tolist() == [series.ends[i] for i in range(3)]
    after = [float(100 * [0, 1, 2][["north", "south", "west"].index(name)]) for name in windows.series.ids]
    known = windows.batch(range(3)).known[6:, :, 0].numpy() * s.known_scale[1][0] + s.known_scale[0][0]
    np.testing.assert_allclose(known, np.array(after) + windows.places[:, 1] + np.arange(4)[:, None])
    firsts = {"north": 48, "south": 38, "west": 43}
    days = (frame["date"] - pd.Timestamp("2020-01-01")).dt.days
    short = frame[[day < firsts[shop] for day, shop in zip(days, frame["shop"], strict=True)]]
    with pytest.raises(DataError, match=r"column 'price' of series '\w+' has no number at 2020-\S+, step 3 of the 4"):
        READER.part(short, s)


def test_columns_as_series_or_as_variables() -> None:
    frame = _daily(60, a=np.arange(60.0), b=np.arange(60.0)[::-1], c=1.5 * np.arange(60) % 7)
    variables = _parts(frame)
    assert (variables.schema.layout, variables.schema.targets) == ("variables", ["a", "b", "c"])
    assert variables.schema.ids == [""]
    assert any("3 columns of numbers are read as the variables of one series" in w for w in variables.warnings)
    wide = _parts(frame, layout="wide")
    assert (wide.schema.ids, wide.schema.targets) == (["a", "b", "c"], ["value"])
    assert len(wide.train) == 3 * len(variables.train)
    many = _daily(60, **{f"m{i}": np.random.default_rng(i).normal(size=60) for i in range(25)})
    found = _parts(many)
    assert (found.schema.layout, len(found.schema.ids)) == ("wide", 25)
    assert any("each of its 25 columns of numbers is read as a series" in warning for warning in found.warnings)
    with_y = _parts(frame.rename(columns={"b": "y"}))
    assert (with_y.schema.targets, with_y.schema.past) == (["y"], ["a", "c"])


@pytest.mark.parametrize(
    ("data", "ids", "targets"),
    [
        (np.random.default_rng(0).normal(size=60), ["value"], ["value"]),
        (torch.rand(60, 2), [""], ["value_0", "value_1"]),
        (np.random.default_rng(0).normal(size=(3, 60, 2)), ["0", "1", "2"], ["value_0", "value_1"]),
        ([np.arange(60.0) % 7, np.arange(50.0) % 5], ["0", "1"], ["value"]),
        ({"a": np.arange(60.0) % 7, "b": np.arange(50.0) % 5}, ["a", "b"], ["value"]),
        (pd.Series(np.arange(60.0) % 7, pd.date_range("2020", periods=60, freq="ME"), name="sun"), ["sun"], ["sun"]),
        (pl.DataFrame({"t": range(60), "v": [float(i % 7) for i in range(60)]}), ["v"], ["v"]),
    ],
)
def test_python_data(data: Any, ids: list[str], targets: list[str]) -> None:
    parts = _parts(data, horizon=2, context=4)
    assert (parts.schema.ids, parts.schema.targets) == (ids, targets)
    windows, _ = READER.part(data, parts.schema)
    assert len(windows) == len(ids)
    assert parts.fingerprint == _parts(data, horizon=2, context=4).fingerprint


def test_files_of_parts_follow_one_another(tmp_path: Path) -> None:
    whole = _daily(90, y=np.arange(90.0))
    paths = {}
    for part, (first, stop) in {"train": (0, 60), "validation": (60, 70), "test": (72, 90)}.items():
        paths[part] = tmp_path / f"{part}.csv"
        whole[first:stop].to_csv(paths[part], index=False)
    apart = {"validation": paths["validation"], "test": paths["test"]}
    for source, named in ((tmp_path, {}), (paths["train"], apart)):
        parts = _parts(source, context=5, horizon=2, **named)
        assert parts.train.truth.max() == 59
        assert (_part_of(parts, "validation").truth.min(), _part_of(parts, "validation").truth.max()) == (60, 69)
        test = _part_of(parts, "test")
        assert (test.truth.min(), test.truth.max()) == (72, 89)
        assert test.batch([0]).values[:5, 0, 0].diff().tolist()[2:] == [0, 0]  # two days are in no file
        told = "2 steps of 90 have no row (daily), the first 2020-03-11; taken as missing"
        assert any(told in warning for warning in parts.warnings)
    with pytest.raises(DataError, match=r"line 2: the test part begins at 2020-01-01, where the part before"):
        _parts(paths["train"], test=paths["train"], validation_fraction=0.0)


def test_parquet_and_numbers_as_times(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pl.DataFrame({"year": range(1700, 1780), "spots": [float(i % 11) for i in range(80)]}).write_parquet(path)
    parts = _parts(path, horizon=3, context=11)
    assert (parts.schema.time, parts.schema.dated, parts.schema.season) == ("year", False, 11)
    windows, _ = READER.part(path, parts.schema)
    assert parts.schema.axis.written(windows.times[0]) == ["1780", "1781", "1782"]
    tenth = pd.DataFrame({"time": np.arange(100) * 0.1 + 0.3, "u": np.arange(100) % 9})
    parts = _parts(tenth, horizon=2, context=5)
    assert parts.schema.step == pytest.approx(0.1)
    windows, _ = READER.part(tenth, parts.schema)
    assert parts.schema.axis.written(windows.times[0]) == ["10.3", "10.4"]


def test_rows_as_steps() -> None:
    days = pd.bdate_range("2020-01-01", periods=120).delete([4, 5, 50, 70])
    frame = pd.DataFrame({"date": days, "price": np.arange(116.0)})
    on_grid = _parts(frame)
    assert on_grid.schema.frequency == "business"
    assert any("4 steps of 120 have no row (on business days)" in warning for warning in on_grid.warnings)
    rows = _parts(frame, frequency="rows", horizon=2)
    assert len(rows.train.series.times) == 116
    assert not any("no row" in warning for warning in rows.warnings)
    windows, _ = READER.part(frame, rows.schema)
    assert rows.schema.axis.written(windows.times[0]) == ["2020-06-17", "2020-06-18"]
    uneven = pd.DataFrame({"time": np.arange(60) ** 1.1, "load": np.arange(60.0)}).sample(frac=1, random_state=0)
    rows = _parts(uneven, frequency="rows", horizon=2)
    assert rows.train.series.targets[:, 0].tolist() == list(range(60))
    windows, _ = READER.part(uneven, rows.schema)
    assert rows.schema.axis.written(windows.times[0]) == ["60", "61"]


def test_missing_values_are_counted_and_told(tmp_path: Path) -> None:
    values: list[Any] = [float(i % 7) for i in range(60)]
    values[20], values[21], values[33] = "", "NA", "#N/A"
    parts = _parts(_days(tmp_path, values), horizon=2, context=6)
    (warning,) = parts.warnings
    assert warning.endswith(
        "3 of 60 values of the targets are missing, the first in line 22; read as 0 to the network, which is told that "
        "they are missing (data.missing = 'mask'), and nothing is scored there"
    )
    assert parts.schema.masked
    batch = parts.train.batch([int(np.flatnonzero(parts.train.places[:, 1] == 22)[0])])
    assert batch.seen[:, 0, 0].tolist() == [True] * 4 + [False] * 2 + [True] * 2
    assert not _parts(_days(tmp_path, values), missing="forward").schema.masked
    whole = _parts(_days(tmp_path, _wave()), horizon=2, context=6)
    windows, (warning,) = READER.part(_days(tmp_path, values), whole.schema, targets=True)
    assert "read as the last value before them (data.missing = 'forward')" in warning  # no mask was learnt
    batch = windows.batch([int(np.flatnonzero(windows.places[:, 1] == 22)[0])])
    assert batch.seen[:6].all()
    assert batch.values[4, 0, 0] == batch.values[3, 0, 0]


TOLD: dict[str, tuple[Callable[[], list[str]], str, dict[str, Any], str]] = {
    "out of order": (
        lambda: [*_rows()[:10], *_rows()[12:14], *_rows()[10:12], *_rows()[14:]],
        "date,load",
        {},
        "series.csv: 1 row is earlier than the row before, the first in line 14; rows are put in the order of time",
    ),
    "gaps": (
        lambda: [row for i, row in enumerate(_rows()) if i not in (7, 8, 30)],
        "date,load",
        {},
        "series.csv: 3 steps of 60 have no row (daily), the first 2020-01-08; taken as missing",
    ),
    "constant": (
        lambda: [f"{row},{5 if i < 50 else i}" for i, row in enumerate(_rows())],
        "date,load,flat",
        {"target": ["load", "flat"]},
        "series.csv: 1 target does not vary in the training rows, so there is nothing to be learnt: flat (5)",
    ),
    "a series without a number": (
        lambda: [f"{row}," for row in _rows()],
        "date,load,none",
        {"layout": "wide", "target": ["load", "none"]},
        "series.csv: 1 series without any number left out, the first 'none'",
    ),
    "a series that is too short": (
        lambda: [f"{row},{i if i > 49 else ''}" for i, row in enumerate(_rows())],
        "date,load,late",
        {"layout": "wide", "context": 8, "horizon": 2},
        "series.csv: 1 of 2 series have no window of 8 and 2 rows in the train part, the first 'late'",
    ),
    "a covariate with gaps": (
        lambda: [f"{row},{i if i % 9 else ''}" for i, row in enumerate(_rows())],
        "date,load,rain",
        {"target": "load", "past": ["rain"]},
        "series.csv: 7 of 60 values of 'rain' (past) are missing; read as the last one before them, where there is one",
    ),
}


def test_dates_of_pandas_in_seconds_and_of_a_zone_with_summer_time() -> None:
    days = pd.date_range("2023-01-01", periods=200)
    for index in (days.as_unit("s"), days.tz_localize("Europe/Berlin")):
        for data in (pd.Series(np.arange(200.0), index), pd.DataFrame({"date": index, "v": np.arange(200.0)})):
            parts = _parts(data)
            assert parts.schema.frequency == "1d"
            assert parts.train.series.times.tolist() == days.as_unit("ns").asi8.tolist()


@pytest.mark.parametrize("mark", [".", ","])
def test_a_mark_that_may_part_thousands_is_told(mark: str, tmp_path: Path) -> None:
    for numbers, told in ((range(1000, 1060), True), ([*range(1000, 1059), 99], True), (range(990, 1050), False)):
        cells = (f"{n // 1000}{mark}{n % 1000:03d}" if n > 99 else str(n) for n in numbers)
        rows = [f"{row[:10]};{cell}" for row, cell in zip(_rows(), cells, strict=True)]
        parts = _parts(_file(tmp_path, _text(*rows, header="date;load")), context=8, horizon=2)
        assert parts.schema.targets == ["load"]
        assert any("has three digits behind it, as in 1" in one for one in parts.warnings) == told


def test_years_of_two_digits_are_told(tmp_path: Path) -> None:
    rows = [f"{day:%m/%d/%y},{i % 7}" for i, day in enumerate(pd.date_range("2023-01-01", periods=60))]
    parts = _parts(_file(tmp_path, _text(*rows)), context=8, horizon=2)
    assert parts.schema.axis.written(parts.train.series.times[:2]) == ["2023-01-01", "2023-01-02"]
    assert any("years of two digits in column 'date' are read as 1950 to 2049" in one for one in parts.warnings)


@pytest.mark.parametrize("name", TOLD)
def test_what_is_told(name: str, tmp_path: Path) -> None:
    make, header, settings, said = TOLD[name]
    parts = _parts(_file(tmp_path, _text(*make(), header=header)), **settings)
    assert said in [warning.replace(f"{tmp_path}/", "") for warning in parts.warnings]


def test_further_dates_may_be_written_otherwise(tmp_path: Path) -> None:
    parts = _parts(_days(tmp_path, _wave()), context=8, horizon=2)
    rows = (f"{day:%d.%m.%Y},{i}" for i, day in enumerate(pd.date_range("2021-01-20", periods=20)))
    windows, warnings = READER.part(_file(tmp_path, _text(*rows), "more.csv"), parts.schema)
    assert parts.schema.axis.written(windows.times[0]) == ["2021-02-09", "2021-02-10"]
    assert [warning.partition(": ")[2] for warning in warnings] == [
        "dates in column 'date' are read as %d.%m.%Y, and not as %Y-%m-%d"
    ]


def test_several_series_where_training_had_one(tmp_path: Path) -> None:
    y = np.sin(np.arange(80.0))
    for one in ([y], y):
        schema = _parts(one, context=8, horizon=2).schema
        assert READER.part(y[:30], schema)[0].places.tolist() == [[0, 30]]
        windows, warnings = READER.part([y, y[:50] + 3], schema)
        assert (len(windows), windows.places[:, 1].tolist()) == (2, [80, 50])
        assert windows.batch([1]).values[:8, 0, 0].isfinite().all()
        assert len(READER.part([y, y[:50] + 3], schema, targets=True)[0]) > 100
    assert any("rows are told apart by series; the training data held one series" in one for one in warnings)
    alone = _parts(_file(tmp_path, _text(*map(str, y), header="y")), context=8, horizon=2).schema
    rows = [f"{name},{value}" for name in "ab" for value in y]
    further = _file(tmp_path, _text(*rows, header="series,y"), "further.csv")
    windows, warnings = READER.part(further, alone)
    assert (list(windows.series.ids), windows.places.tolist()) == (["a", "b"], [[0, 80], [1, 80]])
    dated = _parts(_days(tmp_path, _wave()), context=8, horizon=2).schema
    rows = [f"{row[:10]},{shop},{i}" for i, row in enumerate(_rows()) for shop in ("north", "south")]
    windows, _ = READER.part(_file(tmp_path, _text(*rows, header="date,shop,load"), "shops.csv"), dated)
    assert (list(windows.series.ids), len(windows.series.times)) == (["north", "south"], 2 * 62)


def test_one_array_where_training_had_several() -> None:
    schema = _parts([np.arange(80.0) % 7, np.arange(50.0)], context=8, horizon=2).schema
    with pytest.raises(DataError, match=r"is one array, and the training data were several series; .* such as \[y\]"):
        READER.part(np.arange(60.0), schema)
    assert len(READER.part([np.arange(60.0)], schema)[0]) == 1


def test_a_series_without_a_row_is_told() -> None:
    for data, name in (([np.arange(60.0), []], "'1'"), ({"a": np.ones((0, 2)), "b": np.ones((60, 2))}, "'a'")):
        parts = _parts(data, context=8, horizon=2)
        assert any(one.endswith(f"1 series without any number left out, the first {name}") for one in parts.warnings)


def test_series_too_short_to_go_on_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [f"{row[:10]},{shop},{i}" for i, row in enumerate(_rows()) for shop in ("a", "b") if shop == "a" or i < 6]
    path = _file(tmp_path, _text(*rows, header="date,shop,load"))
    schema = _parts(path, id="shop", context=8, horizon=2).schema
    windows, warnings = READER.part(path, schema)
    assert windows.places.tolist() == [[0, 60]]
    assert warnings[-1].endswith(
        "1 of 2 series are too short and left out; series 'b' has 6 rows up to its last value; the network reads 8 "
        "before a forecast"
    )
    assert READER.part(path, schema, targets=True)[1][-1].endswith("the network reads 10 before a forecast")
    with pytest.raises(DataError, match="6 rows up to its last value"):
        READER.part(_file(tmp_path, _text(*(row for row in rows if ",b," in row), header="date,shop,load")), schema)


def test_unknown_series_are_scaled_by_themselves() -> None:
    parts = _parts(_long(False), horizon=2, context=5)
    other = _long(False).replace({"shop": {"west": "east"}})
    windows, warnings = READER.part(other, parts.schema)
    (warning,) = [one for one in warnings if "did not have" in one]
    assert "1 series that training did not have, the first 'east'; scaled by the first 5 rows of each" in warning
    own = other.query("shop == 'east'").sort_values("date")["sales"][:5]
    at = list(windows.series.ids).index("east")
    assert windows.preparation.deviation[at, 0] == pytest.approx(own.std(ddof=0))


@pytest.mark.parametrize("factor", [1e-30, 1e-14, 1e8])
@pytest.mark.parametrize("scaling", ["series", "window", "last"])
def test_small_and_large_numbers_are_scaled_alike(factor: float, scaling: str) -> None:
    values = np.random.default_rng(0).normal(3, 1, (80, 2))
    frames = (_daily(80, y=v[:, 0], rain=v[:, 1], flat=v[0, 0]) for v in (values, factor * values))
    settings = {"target": ["y", "flat"], "past": ["rain"], "horizon": 2, "context": 8, "scaling": scaling}
    one, other = (_parts(frame, **settings).train.batch([3, 5]) for frame in frames)
    torch.testing.assert_close(other.values[:, :, 0], one.values[:, :, 0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other.past, one.past, rtol=1e-6, atol=1e-6)
    assert (other.scale[:, 1] <= 10 * factor * values[0, 0]).all() or factor > 1  # of what does not vary


def test_what_is_left_to_the_settings() -> None:
    frame = _daily(80, a=np.arange(80) % 7, b=np.arange(80.0))
    assert _parts(frame, calendar=[]).schema.known_names == []
    assert _parts(frame, calendar=["month"]).schema.known_names == ["month sine", "month cosine"]
    assert _parts(frame, target="a", past=[]).schema.past == []
    y = np.arange(56) % 7
    assert _parts(frame, target="a", past=[], season=3).schema.naive == [[np.abs(y[3:] - y[:-3]).mean()]]
    assert _parts(frame, ignore=["b"]).schema.targets == ["a"]
    assert _parts(frame, validation_fraction=0.0).validation is None


def test_columns_that_are_neither_told_apart_nor_forecast(tmp_path: Path) -> None:
    days = [str(day.date()) for day in pd.date_range("2020-01-01", periods=60)]
    rows = [
        f"{i},{day},{i % 7},{['False', 'true'][i % 6 > 0]},{'dry' if i % 5 else 'wet'}" for i, day in enumerate(days)
    ]
    parts = _parts(_file(tmp_path, "\n".join(["id,date,load,holiday,weather", *rows, ""])))
    s = parts.schema
    assert (s.targets, s.past, s.id_columns) == (["load"], ["holiday"], [])
    assert parts.train.series.past[:7, 0].tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert any("id counts the rows and is left out" in warning for warning in parts.warnings)
    assert any("weather holds no numbers and is left out" in warning for warning in parts.warnings)
    frame = pd.concat([_daily(30, shop=shop, item=item, sold=np.arange(30) % 4) for shop in "ab" for item in "xy"])
    both = _parts(frame, horizon=2, context=4)
    assert (both.schema.id_columns, both.schema.ids[1]) == (["shop", "item"], "a / y")


def test_ends_of_parts_are_dates_or_texts() -> None:
    frame = _daily(60, y=np.arange(60) % 7)
    ends = [date(2020, 2, 1), "2020-02-01", datetime(2020, 2, 1, 12), "2020-02-01 12:00", 32]
    cut = [_parts(frame, train_end=end, horizon=2).sources["train"] for end in ends]
    assert set(cut) == {"the dataframe: 32 rows, 2020-01-01 to 2020-02-01"}
    shared = _parts(frame, train_end=30, validation_fraction=0.1, test_fraction=0.2, horizon=2)
    assert [_part_of(shared, part).places[0, 1] for part in ("validation", "test")] == [30, 40]
    tested = _parts(frame, train_end=30, test_end=50, validation_fraction=0.0, horizon=2)
    assert (list(tested.named), tested.sources["test"].partition(": ")[2][:7]) == (["train", "test"], "20 rows")


def test_what_recurra_data_says(tmp_path: Path) -> None:
    path = tmp_path / "a: b.csv"
    _long(ahead=4).sort_values(["shop", "date"]).to_csv(path, index=False)
    settings = SeriesSettings(target="sales", static=["kind"], horizon=3, context=5)
    lines = READER.describe(path, settings, "forecast").replace(f"{tmp_path}/", "").split("\n")
    (target,) = [line for line in lines if line.startswith("  target ")]
    assert [line for line in lines if line != target] == [
        "a: b.csv (table, long)",
        "  series     3, 36 to 46 rows",
        "  times      2020-01-01 to 2020-02-15, daily (column 'date')",
        "  known      price, size",
        "  static     kind=a, kind=b",
        "  calendar   weekday",
        "  season     7 steps",
        "  window     5 rows read, 3 forecast",
        "train: 82 rows, 2020-01-01 to 2020-01-31, 61 windows",
        "validation: 14 rows, 2020-01-25 to 2020-02-05, 8 windows",
        "test: 27 rows, 2020-01-29 to 2020-02-15, 21 windows",
        "warning: a: b.csv: rows are told apart by shop (long form); data.id names another column",
        "warning: a: b.csv: price, size are covariates known ahead, for there are numbers behind the last target; "
        "data.known = [] leaves them out",
    ]


def test_a_season_is_found() -> None:
    random = np.random.default_rng(4)
    wave = np.sin(2 * np.pi * np.arange(400) / 13) + 0.01 * np.arange(400) + 0.3 * random.normal(size=400)
    assert _parts(wave).schema.season == 13
    assert _parts(random.normal(size=400).cumsum()).schema.season == 1


# --- what can be wrong ------------------------------------------------------------------------------------------------

Make = Callable[[Path], tuple[Any, dict[str, Any]]]


def _wave(count: int = 60) -> list[Any]:
    return [float(i % 7) for i in range(count)]


def _replaced(at: int, value: Any) -> list[Any]:
    return [value if i == at else v for i, v in enumerate(_wave())]


def _text(*rows: str, header: str = "date,load") -> str:
    return "\n".join([header, *rows, ""])


def _rows(count: int = 60) -> list[str]:
    return [f"{day.date()},{i % 7}" for i, day in enumerate(pd.date_range("2020-01-01", periods=count))]


FAULTS: dict[str, tuple[Make, str]] = {
    "no number": (
        lambda folder: (_days(folder, _replaced(5, "four")), {}),
        "series.csv, line 7, column 'load': found 'four', expected a number.",
    ),
    "dates that cannot be told": (
        lambda folder: (_file(folder, _text("1600-01-01,3", "1600-01-02,4")), {}),
        "series.csv, line 2, column 'date': found '1600-01-01'; dates that can be told are from 1678 to 2261. --set "
        """data.ignore='["date"]' counts rows as steps.""",
    ),
    "a time in two columns": (
        lambda folder: (
            _file(folder, _text(*(f"{1980 + i // 12},{i % 12 + 1},{i}" for i in range(60)), header="year,month,y")),
            {},
        ),
        "series.csv: 48 times are given twice, the first, 1, in the lines 2 and 14; expected each time once (read from "
        "'month' alone; where 'year' is a part of it, put both into one column); where the rows are of several series, "
        "data.id names the column that tells.",
    ),
    "a column twice": (
        lambda folder: (_days(folder, _wave()), {"target": ["load", "load"]}),
        "data.target: names the column 'load' of series.csv twice.",
    ),
    "a column for two things": (
        lambda folder: (_days(folder, _wave()), {"target": "load", "known": ["load"]}),
        "series.csv: the column 'load' is both in data.target and in data.known.",
    ),
    "JSON": (
        lambda folder: (_file(folder, '[{"date": "2020-01-01",\n"load": 3}]'), {}),
        "series.csv: holds JSON, which is not read here; expected a table of text (CSV, TSV) or Parquet.",
    ),
    **{
        f"numbers such as {cell}": (
            lambda folder, cell=cell: (
                _file(folder, _text(*(f"{row[:10]};{cell}" for row in _rows()), header="day;amount")),
                {},
            ),
            f"series.csv, line 2, column 'amount': found {cell!r}, expected a number {how}; or leave the column out: "
            """--set data.ignore='["amount"]'.""",
        )
        for cell, how in (
            ("1 234,19", "without marks between thousands"),
            ("1\xa0234,19", "without marks between thousands"),
            ("1'234,19", "without marks between thousands"),
            ("10.012,57", "without marks between thousands"),
            ("1,234,189", "without marks between thousands"),
            ("100,13 %", "without '%'"),
            ("€ 100.13", "without '€'"),
        )
    },
    "a mark between thousands beside decimal commas": (
        lambda folder: (
            _file(
                folder,
                _text(*(f"{row[:10]};{1.234 + i / 1000:.3f};1,5" for i, row in enumerate(_rows())), header="day;sum;b"),
            ),
            {},
        ),
        "series.csv, line 2, column 'sum': found '1.234', expected a number with a decimal comma, as in other cells, "
        "without marks between thousands.",
    ),
    "an infinite number": (
        lambda folder: (_days(folder, _replaced(5, "inf")), {}),
        "series.csv, line 7, column 'load': found 'inf', expected a finite number that fits 32 bits.",
    ),
    "no time": (
        lambda folder: (_file(folder, _text(*_rows()[:9], "soon,3", *_rows()[10:])), {"time": "date"}),
        "series.csv, line 11, column 'date': found 'soon', expected a time as in other rows: a number, or a date such "
        "as "
        "2024-12-31 or 2024-12-31 23:59; data.time_format says how dates are written.",
    ),
    "times that are not known": (
        lambda folder: (_file(folder, _text(*(f"day {i},{i % 7}" for i in range(60)))), {}),
        "series.csv: the column 'date' holds no times that are known; found 'day 0'. data.time_format says how they "
        "are "
        "written, such as %d/%m/%Y, or data.ignore leaves the column out.",
    ),
    "a static column with a gap": (
        lambda folder: (
            _file(
                folder, _text(*(f"{row},{'' if i == 3 else 5}" for i, row in enumerate(_rows())), header="date,y,size")
            ),
            {"static": ["size"]},
        ),
        "series.csv, line 5, column 'size': is empty, expected what series 'y' has throughout (data.static).",
    ),
    "an empty time": (
        lambda folder: (_file(folder, _text(*_rows()[:9], ",3", *_rows()[10:])), {"time": "date"}),
        "series.csv, line 11, column 'date': is empty, expected a time as in other rows: a number, or a date such as "
        "2024-12-31 or 2024-12-31 23:59; data.time_format says how dates are written.",
    ),
    "a time twice": (
        lambda folder: (_file(folder, _text(*_rows()[:30], _rows()[29], _rows()[29], *_rows()[30:])), {}),
        "series.csv: 2 times are given twice, the first, 2020-01-30, in the lines 31 and 32; expected each time once; "
        "where the rows are of several series, data.id names the column that tells.",
    ),
    "a time twice in a series": (
        lambda folder: (
            _file(
                folder,
                _text(
                    *(f"{row},a" for row in _rows()),
                    *(f"{row},b" for row in [*_rows()[:3], *_rows()[2:]]),
                    header="date,load,id",
                ),
            ),
            {"id": "id"},
        ),
        "series.csv: 1 time is given twice of series 'b', the first, 2020-01-03, in the lines 64 and 65; expected each "
        "time once.",
    ),
    "irregular hours": (
        lambda folder: (
            _file(
                folder,
                _text(
                    *(
                        f"2020-01-{1 + i // 24:02d} {i % 24:02d}:{17 if i in (30, 50) else 0:02d},{i % 24}"
                        for i in range(100)
                    )
                ),
            ),
            {},
        ),
        "series.csv: 2 of 100 times do not stand at the equal steps of the others (hourly), the first, 2020-01-02 "
        "06:17:00, in line 32; bring them to equal steps, or count rows as steps: --set data.frequency=rows.",
    ),
    "irregular numbers": (
        lambda folder: (
            _file(folder, _text(*(f"{i + (0.4 if i == 9 else 0)},{i % 7}" for i in range(60)), header="time,load")),
            {},
        ),
        "series.csv: 1 of 60 times do not stand at the equal steps of the others (1 apart), the first, 9.4, in line "
        "11; "
        "bring them to equal steps, or count rows as steps: --set data.frequency=rows.",
    ),
    "more gaps than rows": (
        lambda folder: (_file(folder, _text(*_rows(200)[3:5], *_rows(200)[5::5])), {"frequency": "1d"}),
        "series.csv: at equal steps (daily) 152 rows are missing between 41; name other steps (--set "
        "data.frequency=1d), or count rows as steps: --set data.frequency=rows.",
    ),
    "steps that the times do not have": (
        lambda folder: (_days(folder, _wave()), {"frequency": "1w"}),
        "series.csv: 51 of 60 times do not stand at the equal steps of the others (weekly), the first, 2020-01-02, in "
        "line 3; bring them to equal steps, or count rows as steps: --set data.frequency=rows.",
    ),
    "all missing": (
        lambda folder: (_days(folder, [""] * 60), {"target": "load"}),
        "series.csv: holds no number to forecast; every row of its targets is empty.",
    ),
    "one of several all missing in the training rows": (
        lambda folder: (
            _file(folder, _text(*(f"{row},{'1' * (i > 50)}" for i, row in enumerate(_rows())), header="date,y,more")),
            {"target": ["y", "more"]},
        ),
        "series.csv: column 'more' has no number in the training rows; expected some.",
    ),
    "too short": (
        lambda folder: (_days(folder, _wave(20)), {"context": 14, "horizon": 2, "test_fraction": 0.2, "difference": 1}),
        "series.csv: the longest series has 14 training rows; a window takes 17: 14 read (data.context) and 1 for "
        "differences, 2 forecast (data.horizon).",
    ),
    "too short a part": (
        lambda folder: (_days(folder, _wave(60)), {"context": 6, "horizon": 7}),
        "series.csv: the validation part has 6 rows of a series at most; data.horizon forecasts 7. Lower it, or give "
        "the "
        "part more (data.validation_fraction, or data.train_end).",
    ),
    "nothing to train on": (
        lambda folder: (_days(folder, _wave(60)), {"validation_fraction": 0.5, "test_fraction": 0.5}),
        "data.validation_fraction 0.5 and data.test_fraction 0.5 leave nothing to train on; expected a sum below 1.",
    ),
    "an unknown target": (
        lambda folder: (_days(folder, _wave()), {"target": "laod"}),
        "series.csv: data.target names a column 'laod' that is not there; did you mean 'load'? Columns: date, load.",
    ),
    "an unknown covariate": (
        lambda folder: (_days(folder, _wave()), {"target": "load", "known": ["temperature"]}),
        "series.csv: data.known names a column 'temperature' that is not there. Columns: date, load.",
    ),
    "an unknown time": (
        lambda folder: (_days(folder, _wave()), {"time": "Dato"}),
        "series.csv: data.time names a column 'Dato' that is not there; did you mean 'date'? Columns: date, load.",
    ),
    "nothing to forecast": (
        lambda folder: (_file(folder, _text(*(f"{row.partition(',')[0]},x" for row in _rows()))), {}),
        "series.csv: no column of numbers is left to forecast. Columns: date, load. Name it: --set data.target=NAME",
    ),
    "long without an id": (
        lambda folder: (_days(folder, _wave()), {"layout": "long"}),
        "series.csv: no column tells the series of a long table apart. Columns: date, load. Name it: --set "
        "data.id=NAME",
    ),
    "a static column that changes": (
        lambda folder: (
            _file(folder, _text(*(f"{row},{int(i > 30)}" for i, row in enumerate(_rows())), header="date,load,size")),
            {"static": ["size"]},
        ),
        "series.csv, line 33, column 'size': found '1', where series 'load' had '0' before; expected one value "
        "throughout "
        "(data.static).",
    ),
    "no logarithm": (
        lambda folder: (_days(folder, _wave()), {"transform": "log"}),
        "series.csv, line 2, column 'load': found 0, which has no log; data.transform wants numbers above 0.",
    ),
    "no root": (
        lambda folder: (_days(folder, _replaced(4, -2)), {"transform": "sqrt"}),
        "series.csv, line 6, column 'load': found -2, which has no sqrt; data.transform wants numbers from 0.",
    ),
    "missing where none may be": (
        lambda folder: (_days(folder, _replaced(9, "")), {"missing": "error"}),
        "series.csv, line 11: a number is missing at 2020-01-10 of series 'load' (1 such steps), and data.missing is "
        "'error'; fill it in, or take 'mask', 'interpolate' or 'forward'.",
    ),
    "an end that is no date": (
        lambda folder: (_days(folder, _wave()), {"train_end": "spring"}),
        "data.train_end: 'spring' is no date; expected such as 2017-06-30 or 2017-06-30 23:00.",
    ),
    "ends in disorder": (
        lambda folder: (_days(folder, _wave()), {"train_end": 50, "validation_end": 40}),
        "data.train_end: lies behind data.validation_end; expected training rows first.",
    ),
    "an end behind all rows": (
        lambda folder: (_days(folder, _wave()), {"train_end": "2020-04-01"}),
        "data.train_end: 2020-04-01 leaves no row of series.csv to validate or test on.",
    ),
    "a calendar without dates": (
        lambda folder: (np.arange(60.0) % 7, {"calendar": ["hour"]}),
        "data.calendar: the series have no dates; data.time names the column of times.",
    ),
    "steps of the calendar without dates": (
        lambda folder: (np.arange(60.0) % 7, {"frequency": "1h"}),
        "data.frequency: the training data given has no dates, so its steps cannot be 1h; data.time names the column "
        "of "
        "times",
    ),
    "no array": (
        lambda folder: ("what", {}),
        "what: no such file or folder.",
    ),
    "words in an array": (
        lambda folder: (np.array(["a", "b"]), {}),
        "the training data given: found ndarray, expected a dataframe, an array (T,), (T, K) or (N, T, K), or a list "
        "or "
        "mapping of arrays (T,) or (T, K).",
    ),
    "infinite in an array": (
        lambda folder: (np.array([1.0, np.inf]), {}),
        "the training data given: holds an infinite number; NaN stands for one that is missing.",
    ),
    "an unknown format": (
        lambda folder: (_days(folder, _wave()), {"format": "tabel"}),
        "data.format: unknown format 'tabel'; did you mean 'table'? Known: npy, table",
    ),
}


LATER: dict[str, tuple[Callable[[Path], Any], bool, str]] = {
    "too short to go on": (
        lambda folder: _days(folder, _wave(5)),
        False,
        "series.csv: it has 5 rows up to its last value; the network reads 8 before a forecast.",
    ),
    "too short to measure on": (
        lambda folder: _days(folder, _wave(9)),
        True,
        "series.csv: its longest series has 9 rows; to measure on it takes 10: 8 that are read before a forecast and 2 "
        "that are forecast.",
    ),
    "without the target": (
        lambda folder: _file(folder, _text(*_rows(), header="date,laod")),
        False,
        "series.csv: the column 'load' of the training data is missing; did you mean 'laod'? Columns: date, laod.",
    ),
    "without times": (
        lambda folder: _file(folder, _text(*(f"{i % 7},{i}" for i in range(60)), header="load,other")),
        False,
        "series.csv: the column 'date' of the training data is missing. Columns: load, other.",
    ),
    "numbers in place of dates": (
        lambda folder: _file(folder, _text(*(f"{i},{i % 7}" for i in range(60)))),
        False,
        "series.csv, line 2, column 'date': found '0', expected a time as in other rows: a number, or a date such as "
        "2024-12-31 or 2024-12-31 23:59; data.time_format says how dates are written.",
    ),
    "other steps": (
        lambda folder: _file(folder, _text(*(f"2020-01-01 {i:02d}:00,{i % 7}" for i in range(24)))),
        False,
        "series.csv: 23 of 24 times do not stand at the equal steps of the others (daily), the first, 2020-01-01 "
        "01:00:00, in line 3; bring them to equal steps, or count rows as steps: --set data.frequency=rows.",
    ),
    "nothing": (lambda folder: None, False, "no data; give a path, '-' for standard input, a dataframe, or an array."),
}


@pytest.mark.parametrize("name", LATER)
def test_faults_of_further_data(name: str, tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    parts = _parts(_days(tmp_path / "train", _wave()), context=8, horizon=2)
    make, targets, said = LATER[name]
    with pytest.raises(DataError) as error:
        READER.part(make(tmp_path), parts.schema, targets=targets)
    assert str(error.value).replace(f"{tmp_path}/", "") == said


@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, tmp_path: Path) -> None:
    make, said = FAULTS[name]
    source, settings = make(tmp_path)
    with pytest.raises(DataError) as error:
        _parts(source, **settings)
    assert str(error.value).replace(f"{tmp_path}/", "") == said
