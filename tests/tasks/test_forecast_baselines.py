"""Baselines of forecasts against loops over origins, statsmodels, and what is known of made series."""

from pathlib import Path

import numpy as np
import pytest
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

from recurra.data.series import SeriesWindows
from recurra.data.series_reader import SeriesReader, SeriesSettings
from recurra.tasks.forecast_baselines import AUTOREGRESSION, DRIFT, LAST, SEASONAL, Baseline, baselines, fitted


def _test_part(data: object, **settings: object) -> tuple[SeriesWindows, int]:
    parts = SeriesReader().parts(data, "forecast", SeriesSettings.model_validate(settings))
    assert parts.test is not None
    return parts.test, parts.schema.season


def _by_name(windows: SeriesWindows, season: int, **options: int) -> dict[str, Baseline]:
    return {one.name: one for one in baselines(windows, season, **options)}


def _rmse(windows: SeriesWindows, baseline: Baseline) -> float:
    return float(np.sqrt(np.nanmean((baseline.forecasts - windows.truth) ** 2)))


def test_each_is_what_a_loop_over_origins_finds() -> None:
    random = np.random.default_rng(3)
    data = [random.normal(size=(90, 2)).cumsum(0), random.normal(size=(70, 2)).cumsum(0)]
    data[0][[70, 71, 80], 0] = np.nan
    windows, _ = _test_part(data, horizon=7, context=6, season=4)
    found = _by_name(windows, 4)
    for i, (which, origin) in enumerate(windows.places.tolist()):
        y = data[which].copy()
        for t in range(1, len(y)):
            y[t] = np.where(np.isnan(y[t]), y[t - 1], y[t])
        first = int(windows.places[windows.places[:, 0] == which, 1].min())
        slope = (y[first - 1] - y[0]) / (first - 1)
        for h in range(7):
            np.testing.assert_allclose(found[LAST].forecasts[i, h], y[origin - 1])
            np.testing.assert_allclose(found[DRIFT].forecasts[i, h], y[origin - 1] + (h + 1) * slope)
            np.testing.assert_allclose(found[SEASONAL].forecasts[i, h], y[origin - 4 + h % 4])


@pytest.mark.parametrize(("file", "order", "rmse"), [("airline-passengers", 16, 17.2), ("monthly-sunspots", 24, 18.2)])
def test_autoregression_is_statsmodels(data_folder: Path, file: str, order: int, rmse: float) -> None:
    windows, season = _test_part(data_folder / "timeseries" / f"{file}.csv", horizon=3, context=12)
    assert season == 12
    (found,) = (one for one in baselines(windows, season) if one.name == AUTOREGRESSION)
    y = windows.series.targets[:, 0]
    first = int(windows.places[0, 1])
    chosen = ar_select_order(y[:first], 24, ic="aic").ar_lags
    assert len(chosen or []) == order
    fitted = AutoReg(y[:first], order).fit()
    for i in (0, 1, len(windows) - 1):
        origin = int(windows.places[i, 1])
        wanted = AutoReg(y[:origin], order).predict(fitted.params, start=origin, end=origin + 2)
        np.testing.assert_allclose(found.forecasts[i, :, 0], wanted, rtol=1e-8)
    one_step, _ = _test_part(data_folder / "timeseries" / f"{file}.csv", horizon=1, context=12)
    assert _rmse(one_step, _by_name(one_step, season)[AUTOREGRESSION]) == pytest.approx(rmse, abs=0.05)
    assert f"of order {order} (by AIC, of at most 24)" in found.words


def test_on_a_random_walk_and_on_a_wave() -> None:
    random = np.random.default_rng(0)
    walk, season = _test_part(random.normal(size=4000).cumsum(), horizon=1, context=4, season=6)
    found = _by_name(walk, season)
    assert _rmse(walk, found[LAST]) == pytest.approx(1.0, rel=0.05)
    assert _rmse(walk, found[SEASONAL]) == pytest.approx(6**0.5, rel=0.1)
    wave = np.sin(np.arange(400) * 2 * np.pi / 20) + 0.05 * random.normal(size=400)
    windows, season = _test_part(wave, horizon=10, context=20)
    assert season == 20  # found by autocorrelation, as there are no dates
    found = _by_name(windows, season)
    assert _rmse(windows, found[SEASONAL]) == pytest.approx(0.05 * 2**0.5, rel=0.2)
    assert _rmse(windows, found[AUTOREGRESSION]) < _rmse(windows, found[SEASONAL])


def test_series_that_no_autoregression_fits_have_their_last_value() -> None:
    windows, _ = _test_part({"flat": np.full(60, 3.0), "not": np.arange(60.0) % 7}, horizon=2, context=4, season=7)
    found = _by_name(windows, 7)[AUTOREGRESSION]
    assert (found.forecasts[windows.places[:, 0] == 0] == 3.0).all()
    assert np.isfinite(found.forecasts).all()


def test_between_gaps_a_lower_order_is_fitted() -> None:
    random = np.random.default_rng(0)
    y = np.zeros(200)
    for t in range(1, 200):
        y[t] = 0.9 * y[t - 1] + random.normal()
    y[4::5] = np.nan  # no order above 3 has a step without a gap before it
    windows, _ = _test_part({"a": y}, horizon=1, context=8, season=10)
    found = _by_name(windows, 10)[AUTOREGRESSION]
    assert "of at most 20, or of fewer where gaps leave too few steps" in found.words
    assert "cannot be fitted" not in found.words
    model = fitted(y[:150], 20)
    assert model is not None
    assert model.order >= 1
    assert model.coefficients.sum() == pytest.approx(0.9, abs=0.1)
    alone = fitted(np.where(np.arange(60) % 2, np.nan, np.arange(60.0)), 20)
    assert alone is not None
    assert alone.order == 0


def test_nothing_behind_an_origin_changes_its_forecasts() -> None:
    random = np.random.default_rng(1)
    y = random.normal(size=(120, 2)).cumsum(0)
    windows, _ = _test_part(y, horizon=3, context=8, season=5)
    before = baselines(windows, 5)
    for index in (0, 3, len(windows) - 1):
        origin = int(windows.places[index, 1])
        other = y.copy()
        other[origin:] = random.permutation(other[origin:]) * 1e6
        after = baselines(_test_part(other, horizon=3, context=8, season=5)[0], 5)
        for one, another in zip(before, after, strict=True):
            assert np.array_equal(one.forecasts[: index + 1], another.forecasts[: index + 1]), one.name
