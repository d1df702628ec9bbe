"""Prices of one or several assets: a geometric random walk with volatile and quiet times."""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from recurra.data.made.source import Made

FIRST_DAY = np.datetime64("2000-01-03")
"""A Monday; there is a price on every day from Monday to Friday."""

WARM_UP = 500
"""Days drawn and left out, after which the volatility has forgotten how it began."""


class Prices(Made):
    """Daily prices p_t = p_(t-1) exp(r_t) whose returns nobody can foretell, but whose size one can.

    r_t - drift = predictability (r_(t-1) - drift) + σ_t ε_t, with σ_t² = ω + reaction (σ_(t-1) ε_(t-1))² +
    persistence σ_(t-1)²: a GARCH(1, 1) process (Bollerslev 1986), its ε_t of Student's t distribution brought to
    variance 1 (Bollerslev 1987), and ω such that σ_t² is volatility² on average. With predictability 0 the best
    forecast of a price is the last one, but for the drift; what does better in a test has been lucky, or has seen the
    future.
    """

    name: ClassVar[str] = "prices"
    task: ClassVar[str] = "forecast"
    summary: ClassVar[str] = "daily prices, a random walk with volatile times: what cannot be forecast"

    days: int = Field(default=2500, ge=10, le=100_000, description="days of each asset, Monday to Friday")
    assets: int = Field(default=1, ge=1, description="assets, a series each; drawn independently")
    start: float = Field(default=100.0, gt=0, description="price before the first day")
    drift: float = Field(default=0.0, description="mean of the daily logarithmic return")
    volatility: float = Field(default=0.01, gt=0, description="deviation of the daily return, over all days")
    reaction: float = Field(default=0.09, ge=0, lt=1, description="share of the last squared return in the variance")
    persistence: float = Field(default=0.9, ge=0, lt=1, description="share of the last variance in the next")
    tails: float = Field(default=6.0, gt=2, description="degrees of freedom of the t distribution; few: many extremes")
    predictability: float = Field(
        default=0.0, gt=-1, lt=1, description="correlation of a return with the one before; 0: a random walk"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of all that is drawn")

    @model_validator(mode="after")
    def _volatility_stays_finite(self) -> "Prices":
        if self.reaction + self.persistence >= 1:
            raise ValueError("reaction and persistence: a sum below 1 is expected, or the volatility grows for ever")
        return self

    def parts(self) -> dict[str, Any]:
        """See `Made.parts`: one table, which is cut in time."""
        days = np.busday_offset(FIRST_DAY, np.arange(self.days))
        frame = pl.DataFrame({"date": np.tile(days, self.assets), "price": np.concatenate(self._prices())})
        if self.assets > 1:
            frame.insert_column(0, pl.Series("asset", np.repeat(self._names(), self.days)))
        return {"train": frame}

    def rows(self) -> Iterator[list[dict[str, object]]]:
        """See `Made.rows`: the days of one asset after another."""
        for rows in self.parts()["train"].iter_slices(self.days):
            yield [{**row, "date": str(row["date"])} for row in rows.iter_rows(named=True)]

    def _names(self) -> list[str]:
        return [f"asset {i + 1}" for i in range(self.assets)]

    def _prices(self) -> list[np.ndarray]:
        """The prices of each asset, (days,), as an exchange has them: to four digits behind the point."""
        T = self.days + WARM_UP
        prices = []
        for asset in range(self.assets):
            random = np.random.default_rng([self.seed, asset])
            epsilon = random.standard_t(self.tails, T) * np.sqrt((self.tails - 2) / self.tails)
            omega = self.volatility**2 * (1 - self.reaction - self.persistence)
            shocks, variance = np.empty(T), self.volatility**2
            for t in range(T):
                shocks[t] = np.sqrt(variance) * epsilon[t]
                variance = omega + self.reaction * shocks[t] ** 2 + self.persistence * variance
            returns = np.empty(T)
            last = 0.0
            for t in range(T):
                returns[t] = last = self.predictability * last + shocks[t]
            walk = np.cumsum(returns[WARM_UP:] + self.drift)
            prices.append(np.round(self.start * np.exp(walk), 4))
        return prices
