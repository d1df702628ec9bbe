"""Autoregression beside statsmodels, and beside what is known in closed form."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from statsmodels.tsa.ar_model import AutoReg, ar_select_order

from recurra.errors import DataError
from recurra.nn import AR


@pytest.fixture(scope="module")
def sunspots(data_folder: Path) -> np.ndarray:
    return pl.read_csv(data_folder / "timeseries" / "monthly-sunspots.csv")["Sunspots"].to_numpy().astype(float)


@pytest.fixture(scope="module")
def airline(data_folder: Path) -> np.ndarray:
    return pl.read_csv(data_folder / "timeseries" / "airline-passengers.csv")["Passengers"].to_numpy().astype(float)


def walk(steps: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y = np.zeros(steps)
    for t in range(steps):
        y[t] = 0.3 + 0.9 * y[t - 1] - 0.4 * y[t - 2] + 0.2 * y[t - 3] + rng.normal()
    return y


@pytest.mark.parametrize("name", ["sunspots", "airline"])
@pytest.mark.parametrize("order", [1, 2, 13, 27])
def test_coefficients_variance_and_forecasts_are_those_of_statsmodels(
    name: str, order: int, request: pytest.FixtureRequest
) -> None:
    y = request.getfixturevalue(name)
    theirs, ours = AutoReg(y, order).fit(), AR(order).fit(y)
    np.testing.assert_allclose([ours.intercept, *ours.coefficients], theirs.params, rtol=1e-8)
    freedom = len(y) - order - (order + 1)  # theirs divides by the number of steps
    assert ours.degrees_of_freedom == freedom
    assert ours.variance == pytest.approx(theirs.sigma2 * theirs.nobs / freedom, rel=1e-8)
    assert (ours.aic, ours.bic) == pytest.approx((theirs.aic, theirs.bic), rel=1e-10)
    said = ours.forecast(y, 40)
    np.testing.assert_allclose(said.mean, theirs.forecast(40), rtol=1e-8)
    wider = (theirs.nobs / freedom) ** 0.5
    bounds = theirs.get_prediction(len(y), len(y) + 39).conf_int(0.05)
    np.testing.assert_allclose(said.lower, said.mean + (bounds[:, 0] - said.mean) * wider, rtol=1e-7)
    np.testing.assert_allclose(said.upper, said.mean + (bounds[:, 1] - said.mean) * wider, rtol=1e-7)
    np.testing.assert_allclose(ours.one_step(y)[order:], theirs.fittedvalues, rtol=1e-8)
    assert np.isnan(ours.one_step(y)[:order]).all()


@pytest.mark.parametrize("criterion", ["aic", "bic"])
@pytest.mark.parametrize("most", [1, 8, 24])
def test_the_order_is_chosen_as_statsmodels_chooses_it(sunspots: np.ndarray, criterion: str, most: int) -> None:
    y = sunspots[:400]
    theirs = ar_select_order(y, most, criterion)  # type: ignore[arg-type]
    ours = AR.select(y, most, criterion)  # type: ignore[arg-type]
    assert ours.order == max(theirs.ar_lags or [0])
    alike = AR(ours.order).fit(y)
    assert ours.coefficients.tolist() == alike.coefficients.tolist()
    assert (ours.observations, alike.criteria) == (len(y) - ours.order, None)
    for p in range(most + 1):
        fitted = AutoReg(y, p, hold_back=most).fit()
        assert ours.criteria is not None
        assert ours.criteria[p] == pytest.approx(getattr(fitted, criterion), rel=1e-10)


def test_order_0_is_the_mean() -> None:
    y = walk(50)
    model = AR(0).fit(y)
    assert model.intercept == pytest.approx(y.mean())
    assert model.variance == pytest.approx(y.var(ddof=1))
    said = model.forecast([], 3)
    np.testing.assert_allclose(said.mean, np.full(3, y.mean()))
    np.testing.assert_allclose(said.deviation, np.full(3, y.std(ddof=1)))


def test_intervals_of_order_1_are_those_in_closed_form() -> None:
    model = AR(1).fit(walk(200))
    (w,), sigma = model.coefficients, model.variance**0.5
    deviations = [sigma * np.sqrt((1 - w ** (2 * h)) / (1 - w**2)) for h in (1, 2, 30)]
    np.testing.assert_allclose(model.forecast([1.0], 30).deviation[[0, 1, 29]], deviations, rtol=1e-12)
    np.testing.assert_allclose(model.psi(5), w ** np.arange(5), rtol=1e-12)
    said = model.forecast([1.0], 1, level=0.5)
    assert (said.upper - said.lower)[0] == pytest.approx(2 * 0.6744897501960817 * sigma)


def test_intervals_hold_what_they_promise() -> None:
    y = walk(60_000, seed=3)
    model = AR(3).fit(y[:30_000])
    windows = np.lib.stride_tricks.sliding_window_view(y[30_000:], 8)
    said = model.forecast(windows[:, :3], 5, level=0.8)
    inside = (windows[:, 3:] >= said.lower) & (windows[:, 3:] <= said.upper)
    np.testing.assert_allclose(inside.mean(0), 0.8, atol=0.015)


def test_several_series_share_their_coefficients_as_stacked_rows_have_them() -> None:
    series = [walk(40, 1) + 100, walk(9, 2) + 100, walk(3, 3), walk(25, 4)]
    rows = [(one[t], 1.0, *one[t - 3 : t][::-1]) for one in series for t in range(3, len(one))]
    table = np.array(rows)
    expected, left, *_ = np.linalg.lstsq(table[:, 1:], table[:, 0], rcond=None)
    model = AR(3).fit(series)
    np.testing.assert_allclose([model.intercept, *model.coefficients], expected, rtol=1e-9)
    assert model.observations == len(table)
    assert model.variance == pytest.approx(float(left[0]) / (len(table) - 4))
    together = model.forecast(np.stack([series[0][-9:], series[1], series[3][-9:]]), 4)
    for one, said in zip((series[0], series[1], series[3]), together.mean, strict=True):
        np.testing.assert_allclose(said, model.forecast(one, 4).mean, rtol=1e-12)


def test_missing_values_leave_out_the_steps_that_need_them_and_are_counted() -> None:
    y = walk(60)
    y[[20, 40]] = np.nan
    kept = [t for t in range(2, 60) if not np.isnan(y[t - 2 : t + 1]).any()]
    design = np.array([(1.0, y[t - 1], y[t - 2]) for t in kept])
    expected = np.linalg.lstsq(design, y[kept], rcond=None)[0]
    model = AR(2).fit(y)
    np.testing.assert_allclose([model.intercept, *model.coefficients], expected, rtol=1e-10)
    assert (model.observations, model.omitted) == (52, 6)
    assert np.isnan(model.one_step(y)[[21, 22]]).all()
    with pytest.raises(DataError, match=r"history: of the last 2 values 1 are missing"):
        model.forecast(y[:22], 1)


def test_a_series_far_from_zero_is_as_well_determined() -> None:
    y = walk(300)
    near, far = AR(3).fit(y), AR(3).fit(y * 1e-3 + 1e6)
    np.testing.assert_allclose(far.coefficients, near.coefficients, rtol=1e-5)


def test_tensors_are_read_too() -> None:
    y = walk(30)
    assert AR(2).fit(torch.from_numpy(y)).intercept == AR(2).fit(y).intercept


@pytest.mark.parametrize("value", [0.0, 0.1, -1e9, 3.0000001])
def test_equal_values_are_told(value: float) -> None:
    y = np.full(50, value)
    with pytest.raises(DataError, match="values are all equal, which leaves the coefficients of order 2 undetermined"):
        AR(2).fit(y)
    chosen = AR.select(y, 5)
    assert chosen.order == 0
    assert chosen.forecast(y, 1).mean[0] == pytest.approx(value)


def test_an_exact_recursion_is_told_and_not_fitted_with_more_terms() -> None:
    y = np.sin(0.3 * np.arange(200)) + 5
    with pytest.raises(DataError, match=r"follow a recursion of order 2 exactly.* at most 2 is expected"):
        AR(4).fit(y)
    chosen = AR.select(y, 6, "bic")
    assert chosen.order == 2
    np.testing.assert_allclose(chosen.forecast(y, 50).mean, np.sin(0.3 * np.arange(200, 250)) + 5, atol=1e-9)


@pytest.mark.parametrize(
    ("y", "order", "text"),
    [
        ([1.0, 2.0, 4.0], 2, "has 3 values, of which 1 with 2 others before them; .* order 2 takes at least 4"),
        ([], 0, "has 0 values, of which 0"),
        ([1.0, np.nan, 2.0, 5.0], 1, r"of which 1 with 1 others before them \(2 left out for missing values\)"),
        ([np.nan] * 9, 0, r"has 9 values, of which 0 .*\(9 left out for missing values\)"),
        ([[1.0, 2.0], [3.0]], 2, "2 series, the longest of them with 2 values, of which 0"),
        ([1.0, np.inf, 2.0, 3.0, 3.5], 1, "series: value 1 is infinite"),
        ([[1.0, 2.0], [3.0, np.inf]], 0, "series 1: value 1 is infinite"),
        (["a", "b"], 1, "numbers are expected: could not convert string to float"),
        (5.0, 1, "a single number, 5.0"),
        (np.zeros((2, 3, 4)), 1, "series 0: has 2 axes"),
    ],
)
def test_what_cannot_be_fitted_is_told(y: object, order: int, text: str) -> None:
    with pytest.raises(DataError, match=text):
        AR(order).fit(y)  # type: ignore[arg-type]


def test_what_cannot_be_asked_is_told() -> None:
    with pytest.raises(ValueError, match="order: -1, expected 0 or more"):
        AR(-1)
    with pytest.raises(ValueError, match="unknown criterion 'aci'; did you mean 'aic'"):
        AR.select(walk(20), 2, "aci")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="history: has 1 values, an autoregression of order 2 reads 2"):
        AR(2).fit(walk(20)).forecast([1.0], 3)
