"""Scores of forecasts: arrays in, numbers out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from recurra.errors import RunError
from recurra.tasks.scores import FEWEST, Interval, bootstrap_interval

Statistic = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Scored:
    """What the scores of W forecasts are made of; all in the targets' own units.

    Attributes:
        truth: (W, H, K), NaN where unknown.
        middle: (W, H, K), the forecasts.
        quantiles: (W, H, K, Q); None where there are none.
        levels: The Q levels, rising.
        bounds: Which of them the interval lies between.
        mase_scale: (W, K), the mean absolute error of the seasonal naive forecast over the training rows of the
            window's series (Hyndman & Koehler 2006).
        deviation: (W, K), that of the training rows, where errors are told in units of it, too.
        blocks: (W,), which windows count as one in an interval, for those near each other are not independent.
    """

    truth: np.ndarray
    middle: np.ndarray
    quantiles: np.ndarray | None
    levels: Sequence[float]
    bounds: tuple[int, int]
    mase_scale: np.ndarray
    deviation: np.ndarray | None
    blocks: np.ndarray

    def metrics(self, steps: slice = slice(None)) -> dict[str, float]:
        """Every metric, over some steps of the horizon."""
        sums = {name: v.sum(0, keepdims=True) for name, v in self._columns(steps).items()}
        return {name: float(statistic(sums[name])[0]) for name, statistic in self._statistics(sums).items()}

    def each(self, metric: str) -> np.ndarray:
        """A metric's loss of every window, (W,): of rmse the squared error; NaN where nothing is known."""
        total, count = self._columns(slice(None))[metric].T
        return np.where(count > 0, total / np.where(count > 0, count, 1.0), np.nan)

    def intervals(self) -> dict[str, Interval]:
        """The 95 % interval of every metric: blocks of windows drawn anew (Künsch 1989, of blocks that do not overlap).
        Nothing for fewer than `FEWEST` blocks."""
        names, block = np.unique(self.blocks, return_inverse=True)
        if len(names) < FEWEST:
            return {}
        columns = {}
        for name, values in self._columns(slice(None)).items():
            columns[name] = np.zeros((len(names), values.shape[1]))
            np.add.at(columns[name], block, values)
        return {
            name: bootstrap_interval(columns[name], statistic, seed=0)
            for name, statistic in self._statistics(columns).items()
        }

    @property
    def shares(self) -> dict[str, np.ndarray]:
        """For each metric what every window adds to it, and the count of it, (W, 2); see `statistic`."""
        return self._columns(slice(None))

    def _statistics(self, columns: dict[str, np.ndarray]) -> dict[str, Statistic]:
        """Each metric as a function of sums; those left out of which nothing is known."""
        return {name: statistic(name) for name, values in columns.items() if values[:, 1].sum() > 0}

    def _columns(self, steps: slice) -> dict[str, np.ndarray]:
        """For each metric and window what is added up, and the count of it: (W, 2)."""
        truth, middle = self.truth[:, steps], self.middle[:, steps]
        if not np.isfinite(middle).all():
            raise RunError(
                "the forecasts hold NaN or infinite values: training diverged; a smaller train.lr or a bound on the "
                "gradient (train.clip_norm) is the usual remedy"
            )
        known = np.isfinite(truth)
        error = np.where(known, middle - truth, 0.0)
        size = np.abs(error)
        count = known.sum((1, 2))
        both = np.abs(np.where(known, truth, 0.0)) + np.abs(middle)
        found = {
            "rmse": np.stack([np.square(error).sum((1, 2)), count], 1),
            "mae": np.stack([size.sum((1, 2)), count], 1),
            "mse": np.stack([np.square(error).sum((1, 2)), count], 1),
            "smape": np.stack([(200 * size / np.where(both > 0, both, 1.0)).sum((1, 2)), count], 1),
        }
        scale = self.mase_scale[:, None]
        scaled = known & np.isfinite(scale) & (scale > 0)
        found["mase"] = np.stack(
            [np.where(scaled, size / np.where(scaled, scale, 1.0), 0.0).sum((1, 2)), scaled.sum((1, 2))], 1
        )
        if self.deviation is not None:
            own = size / self.deviation[:, None]
            found["mse_normalised"] = np.stack([np.square(own).sum((1, 2)), count], 1)
            found["mae_normalised"] = np.stack([own.sum((1, 2)), count], 1)
        if self.quantiles is not None:
            low, high = (self.quantiles[:, steps, :, at] for at in self.bounds)
            found["coverage"] = np.stack([(known & (low <= truth) & (truth <= high)).sum((1, 2)), count], 1)
            loss = np.zeros(len(truth))
            for at, level in enumerate(self.levels):
                short = np.where(known, truth - self.quantiles[:, steps, :, at], 0.0)
                loss += np.maximum(level * short, (level - 1) * short).sum((1, 2))
            found["pinball"] = np.stack([loss / len(self.levels), count], 1)
        return {name: v.astype(np.float64) for name, v in found.items()}

    def shares_below(self) -> np.ndarray:
        """The share of truths that lie below each quantile, (Q,): the levels themselves, where these are right."""
        assert self.quantiles is not None
        known = np.isfinite(self.truth)
        below = [(known & (self.truth <= self.quantiles[..., at])).sum() for at in range(len(self.levels))]
        return np.array(below) / max(1, known.sum())


def statistic(metric: str) -> Statistic:
    """A metric as a function of the sums of `Scored.shares` over windows, (R, 2) -> (R,)."""
    return (lambda sums: np.sqrt(_share(sums))) if metric == "rmse" else _share


def _share(sums: np.ndarray) -> np.ndarray:
    """The first column over the second, (R, 2) -> (R,)."""
    return sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], 1.0)


def blocks(times: np.ndarray, horizon: int) -> np.ndarray:
    """Windows whose origins lie near each other, (W,): runs of the horizon, or of the cube root of the number of
    origins, whichever is more (of the order that Hall, Horowitz & Jing 1995 find best).

    Args:
        times: (W,), the time of each window's origin; windows of several series at one time belong together.
        horizon: Steps that windows forecast, and so may overlap by.
    """
    origins, place = np.unique(times, return_inverse=True)
    return place // max(horizon, round(len(origins) ** (1 / 3)))
