"""Made prices, against what is known of the process that they are drawn from."""

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from recurra.data.made import MADE
from recurra.data.made.prices import Prices


def _returns(**options: object) -> np.ndarray:
    frame = Prices.model_validate({"days": 40_000} | options).parts()["train"]
    prices = frame["price"].to_numpy()
    return np.diff(np.log(prices))


def _correlation(x: np.ndarray, lag: int = 1) -> float:
    return float(np.corrcoef(x[lag:], x[:-lag])[0, 1])


def test_returns_are_no_telling_and_their_size_is() -> None:
    returns = _returns(start=1e6, tails=30.0)
    assert returns.std() == pytest.approx(0.01, rel=0.1)
    assert abs(_correlation(returns)) < 0.03
    assert _correlation(returns**2, 50) > 0.03
    # ρ_1 of the squares of a GARCH(1, 1) process (Bollerslev 1988): a (1 - a b - b²) / (1 - 2 a b - b²)
    a, b = 0.15, 0.6
    wanted = a * (1 - a * b - b * b) / (1 - 2 * a * b - b * b)
    mild = _returns(start=1e6, tails=30.0, reaction=a, persistence=b, days=100_000)
    assert _correlation(mild**2) == pytest.approx(wanted, abs=0.03)
    still = _returns(start=1e6, reaction=0.0, persistence=0.0, tails=30.0)
    assert abs(_correlation(still**2)) < 0.03
    assert still.std() == pytest.approx(0.01, rel=0.02)


def test_what_options_do() -> None:
    quiet = {"start": 1e6, "reaction": 0.0, "persistence": 0.0, "days": 20_000}
    assert _correlation(_returns(predictability=0.3, **quiet)) == pytest.approx(0.3, abs=0.03)
    assert _returns(drift=0.002, **quiet).mean() == pytest.approx(0.002, abs=0.0003)
    shocks = [_returns(tails=tails, **quiet) for tails in (9.0, 100.0)]
    kurtosis = [float(np.mean(x**4) / np.mean(x**2) ** 2) for x in shocks]
    assert kurtosis[0] == pytest.approx(3 + 6 / (9 - 4), rel=0.15)
    assert kurtosis[1] == pytest.approx(3, rel=0.1)


def test_they_are_the_same_of_the_same_seed_and_stand_on_business_days() -> None:
    one, same, other = (Prices(days=300, seed=seed).parts()["train"] for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one["price"].equals(other["price"])
    assert one["date"].dt.weekday().max() == 5
    assert one["date"].diff().drop_nulls().dt.total_days().unique().sort().to_list() == [1, 3]
    longer = Prices(days=400, seed=1).parts()["train"]
    assert longer.height == 400


def test_assets_are_drawn_independently() -> None:
    frame = Prices(days=2000, assets=3).parts()["train"]
    assert frame.columns == ["asset", "date", "price"]
    prices = [one["price"].to_numpy() for one in frame.partition_by("asset")]
    returns = np.diff(np.log(np.stack(prices)))
    assert np.abs(np.corrcoef(returns) - np.eye(3)).max() < 0.08
    first = Prices(days=2000).parts()["train"]
    assert first["price"].equals(frame.filter(pl.col("asset") == "asset 1")["price"])
    assert [len(rows) for rows in Prices(days=20, assets=3).rows()] == [20, 20, 20]


def test_a_volatility_that_grows_for_ever_is_refused() -> None:
    with pytest.raises(ValidationError, match="a sum below 1 is expected"):
        Prices(reaction=0.2, persistence=0.9)
    assert MADE["prices"].task == "forecast"
