"""Whether one forecast is better than another from the same origins: the paired difference, with its interval."""

import math
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student


@dataclass(frozen=True)
class PairedDifference:
    """How the mean loss of one method differs from another's.

    Attributes:
        mean: Mean loss of the first less that of the second; below 0 the first is better.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: Of the test that there is no difference, both sides.
        origins: Different times that were compared.
    """

    mean: float
    low: float
    high: float
    p_value: float
    origins: int

    @property
    def verdict(self) -> str:
        """ "better", "worse", or "no different" where the interval holds 0."""
        return "better" if self.high < 0 else "worse" if self.low > 0 else "no different"


def paired_difference(loss: np.ndarray, other: np.ndarray, times: np.ndarray, horizon: int) -> PairedDifference | None:
    """Diebold and Mariano's test (1995), with the correction for few origins of Harvey, Leybourne and Newbold (1997).

    What several series lose at one time is averaged first, for it is no independent evidence. The variance of the mean
    is that of Newey and West (1987): Bartlett's weights over H - 1 lags, by which forecasts overlap, or over the cube
    root of the number of origins if that is more, since volatile times cluster.

    Args:
        loss: (W,), the loss of each window, such as its mean squared error; NaN where nothing is known.
        other: (W,), the other method's on the same windows.
        times: (W,), the time of each window's origin.
        horizon: H, steps that a window forecasts.

    Returns:
        None for fewer than 8 different times.
    """
    difference = np.asarray(loss, np.float64) - np.asarray(other, np.float64)
    known = np.isfinite(difference)
    origins, place = np.unique(np.asarray(times)[known], return_inverse=True)
    n = len(origins)
    if n < 8:
        return None
    d = np.bincount(place, difference[known], n) / np.bincount(place, minlength=n)
    mean = float(d.mean())
    x = d - mean
    lags = min(n - 1, max(horizon - 1, round(n ** (1 / 3))))
    weights = 1 - np.arange(1, lags + 1) / (lags + 1)
    covariances = np.array([x[lag:] @ x[:-lag] for lag in range(1, lags + 1)]) / n
    variance = float(x @ x / n + 2 * weights @ covariances)
    h = min(horizon, n // 2)
    few = math.sqrt((n + 1 - 2 * h + h * (h - 1) / n) / n)
    error = math.sqrt(max(variance, 0.0) / n) / few
    if error == 0:
        return PairedDifference(mean, mean, mean, 1.0 if mean == 0 else 0.0, n)
    half = error * float(student.ppf(0.975, n - 1))
    p = 2 * float(student.sf(abs(mean) / error, n - 1))
    return PairedDifference(mean, mean - half, mean + half, p, n)
