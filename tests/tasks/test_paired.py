"""The paired difference of two forecasts, against statsmodels' regression on a constant and against draws."""

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from recurra.tasks.paired import paired_difference


@pytest.mark.parametrize(("n", "horizon"), [(30, 1), (200, 1), (200, 12), (1000, 30)])
def test_variance_is_that_of_newey_and_west(n: int, horizon: int) -> None:
    random = np.random.default_rng(n)
    one, other = random.gamma(2, size=n), random.gamma(2.2, size=n)
    found = paired_difference(one, other, np.arange(n), horizon)
    assert found is not None
    lags = max(horizon - 1, round(n ** (1 / 3)))
    fit = sm.OLS(one - other, np.ones(n)).fit(cov_type="HAC", cov_kwds={"maxlags": lags, "use_correction": False})
    few = np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    statistic = fit.tvalues[0] * few
    assert found.mean == pytest.approx(fit.params[0])
    assert found.p_value == pytest.approx(2 * stats.t.sf(abs(statistic), n - 1), rel=1e-9)
    half = stats.t.ppf(0.975, n - 1) * fit.bse[0] / few
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


def test_it_finds_what_there_is_and_no_more() -> None:
    random = np.random.default_rng(0)
    alike = better = 0
    for _ in range(400):
        base = random.normal(size=(2, 300))
        x = base.copy()
        for t in range(1, 300):  # losses that go on for a while, as in volatile times
            x[:, t] += 0.4 * x[:, t - 1]
        found = paired_difference(x[0], x[1], np.arange(300), 1)
        less = paired_difference(x[0] - 0.6, x[1], np.arange(300), 1)
        assert found is not None
        assert less is not None
        alike += found.verdict != "no different"
        better += less.verdict == "better"
    assert alike / 400 < 0.1  # 0.05 is nominal
    assert better / 400 > 0.9


def test_what_several_series_lose_at_one_time_counts_once() -> None:
    random = np.random.default_rng(2)
    d = random.normal(0.1, 1, 100)
    once = paired_difference(d, np.zeros(100), np.arange(100), 1)
    thrice = paired_difference(np.tile(d, 3), np.zeros(300), np.tile(np.arange(100), 3), 1)
    assert once is not None
    assert thrice is not None
    assert (thrice.low, thrice.high, thrice.origins) == pytest.approx((once.low, once.high, 100))


def test_few_origins_unknown_losses_and_none_that_differ() -> None:
    assert paired_difference(np.ones(7), np.zeros(7), np.arange(7), 1) is None
    found = paired_difference(np.ones(20), np.ones(20), np.arange(20), 1)
    assert found is not None
    assert (found.mean, found.low, found.high, found.p_value, found.verdict) == (0, 0, 0, 1, "no different")
    gaps = np.where(np.arange(30) % 3 == 0, np.nan, np.arange(30.0))
    found = paired_difference(gaps, np.zeros(30), np.arange(30), 1)
    assert found is not None
    assert (found.origins, found.mean) == (20, np.nanmean(gaps))
