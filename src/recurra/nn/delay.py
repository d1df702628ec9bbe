"""Memory without a loop (§6.1): autoregression, the time-delay network, and NARX."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.stats import norm

from recurra.errors import DataError, unknown

Criterion = Literal["aic", "bic"]


@dataclass(frozen=True)
class Forecast:
    """What an autoregression says of the values to come.

    Attributes:
        mean: (..., H) float64, the h-th what is expected h steps ahead.
        deviation: (H,) of the error h steps ahead, σ (Σ_(j<h) ψ_j²)^½; it leaves out that coefficients are estimates.
        level: Share of intervals that hold the true value, where errors are Gaussian and the coefficients right.
    """

    mean: np.ndarray
    deviation: np.ndarray
    level: float

    @property
    def lower(self) -> np.ndarray:
        """(..., H), the lower bounds."""
        return self.mean - self._half

    @property
    def upper(self) -> np.ndarray:
        """(..., H), the upper bounds."""
        return self.mean + self._half

    @property
    def _half(self) -> np.ndarray:
        return float(norm.ppf((1 + self.level) / 2)) * self.deviation


class AR:
    """Autoregressive model, y_t = w_0 + Σ_(i=1..p) w_i y_(t-i) + ε_t with ε_t of mean 0 and variance σ² (eq. 6.2).

    Fitted by least squares over the steps that have p others before them: conditional on the first p, and not by exact
    likelihood. Erratum: the source writes w_p y_(t-p) within the sum.

    >>> model = AR(1).fit([0.0, 4.0, 6.0, 7.0, 7.5])
    >>> float(round(model.intercept, 9)), model.coefficients.round(9).tolist()
    (4.0, [0.5])
    >>> model.forecast([7.5], 2).mean.round(9).tolist()
    [7.75, 7.875]

    Args:
        order: p; 0 for the mean alone.

    Attributes:
        intercept: w_0.
        coefficients: (p,), w_1 to w_p.
        variance: σ², the sum of squared residuals divided by `degrees_of_freedom`.
        observations: n, the steps that were fitted.
        omitted: Steps left out because their value, or one of the p before it, is missing.
        aic: 2 k - 2 log L (Akaike 1974), with Gaussian errors of variance SSR / n, and k = p + 2, as σ² is one too.
        bic: k log n - 2 log L (Schwarz 1978).
        criteria: Where `select` has chosen the order: the criterion of each, from 0 on, over the same steps.
    """

    intercept: float
    coefficients: np.ndarray
    variance: float
    observations: int
    omitted: int
    aic: float
    bic: float
    criteria: np.ndarray | None

    def __init__(self, order: int) -> None:
        if order < 0:
            raise ValueError(f"order: {order}, expected 0 or more")
        self.order = order

    def __repr__(self) -> str:
        return f"AR({self.order})"

    @property
    def degrees_of_freedom(self) -> int:
        """n - p - 1: each coefficient takes one, and the intercept."""
        return self.observations - self.order - 1

    def fit(self, y: ArrayLike | Sequence[ArrayLike]) -> Self:
        """Fit to a series, or to several, which then share one set of coefficients; returns the model itself.

        Args:
            y: (T,) numbers in order of time, NaN where missing; or several such, of any lengths.

        Raises:
            DataError: Too few values, an infinite one, or values that follow a recursion of fewer terms exactly, so
                that the coefficients are not determined.
        """
        p, least = self.order, _Squares(_series(y), self.order)
        if least.rank <= p:
            exact = "are all equal" if least.rank == 1 else f"follow a recursion of order {least.rank - 1} exactly"
            raise DataError(
                f"series: the values {exact}, which leaves the coefficients of order {p} undetermined; an order of at "
                f"most {least.rank - 1} is expected"
            )
        constant, *weights = solve_triangular(least.R, least.projected).tolist()
        self.coefficients = np.array(weights)
        self.intercept = float(least.mean * (1 - self.coefficients.sum()) + least.scale * constant)
        self.observations, self.omitted, self.criteria = least.rows, least.omitted, None
        self.variance = float(least.scale**2 * least.squares[p] / self.degrees_of_freedom)
        self.aic, self.bic = (float(least.criteria(which)[p]) for which in ("aic", "bic"))
        return self

    @classmethod
    def select(cls, y: ArrayLike | Sequence[ArrayLike], max_order: int, criterion: Criterion = "aic") -> "AR":
        """The order from 0 to `max_order` whose criterion is smallest, fitted.

        The criteria are compared over the same steps for each order, those with `max_order` others before them; the
        order chosen is then fitted anew to every step that it can be. Orders that the values leave undetermined are
        not among those compared, and their criterion is NaN.

        Args:
            y: See `fit`.
            max_order: The largest order that may be chosen.
            criterion: "aic" or "bic".

        Raises:
            DataError: See `fit`.
        """
        if criterion not in ("aic", "bic"):
            raise ValueError(unknown("criterion", str(criterion), ["aic", "bic"]))
        series = _series(y)
        least = _Squares(series, cls(max_order).order)
        criteria = least.criteria(criterion)
        criteria[least.rank :] = np.nan
        found = cls(int(np.nanargmin(criteria))).fit(series)
        found.criteria = criteria
        return found

    def weights(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """What the forecasts are made of: that of h steps ahead is a_h + Σ_i B_(h, i) y_(T+1-i), i = 1..p.

        Returns:
            a: (H,). B: (H, p), the latest value first.
        """
        w, p = self.coefficients, self.order
        a, B = np.zeros(p + horizon), np.vstack([np.eye(p)[::-1], np.zeros((horizon, p))])
        for h in range(p, p + horizon):  # the first p rows are the values that are known
            a[h] = self.intercept + w @ a[h - p : h][::-1]
            B[h] = w @ B[h - p : h][::-1]
        return a[p:], B[p:]

    def psi(self, horizon: int) -> np.ndarray:
        """ψ_0 to ψ_(H-1), (H,): what is left of an ε after so many steps, ψ_j = Σ_i w_i ψ_(j-i) with ψ_0 = 1."""
        psi = np.zeros(self.order + horizon)
        for j in range(horizon):
            before = psi[j : j + self.order][::-1]
            psi[j + self.order] = self.coefficients @ before if j else 1.0
        return psi[self.order :]

    def forecast(self, history: ArrayLike, horizon: int, level: float = 0.95) -> Forecast:
        """The values that come after `history`, with intervals.

        Args:
            history: (..., T) numbers in order of time, of which the last p are read; several series at once, or ends
                of one.
            horizon: H, steps ahead.
            level: Share of intervals that are to hold the true value.

        Raises:
            DataError: There are fewer than p values, or one of the last p is missing.
        """
        history, p = _numbers(history), self.order
        if history.shape[-1] < p:
            raise DataError(f"history: has {history.shape[-1]} values, an autoregression of order {p} reads {p}")
        last = history[..., history.shape[-1] - p :][..., ::-1]
        if not np.isfinite(last).all():
            raise DataError(
                f"history: of the last {p} values {int((~np.isfinite(last)).sum())} are missing or infinite"
            )
        a, B = self.weights(horizon)
        deviation = np.sqrt(self.variance * np.cumsum(self.psi(horizon) ** 2))
        return Forecast(a + last @ B.T, deviation, level)

    def one_step(self, y: ArrayLike) -> np.ndarray:
        """What is said of each value from the p before it, (..., T); NaN for the first p, and behind missing ones."""
        y, p = _numbers(y), self.order
        said = np.full(y.shape, np.nan)
        if y.shape[-1] > p:
            lags = sliding_window_view(y, p, -1)[..., :-1, ::-1] if p else np.zeros((*y.shape, 0))
            said[..., p:] = self.intercept + lags @ self.coefficients
        return said


class _Squares:
    """Least squares of every order up to p at once, over the same steps: one factorisation, since the designs nest.

    The values are brought to mean 0 and deviation 1 beforehand, which leaves w_1 to w_p as they are and keeps a series
    far from zero as well determined as one about it.

    Attributes:
        R: (p + 1, p + 1). projected: (p + 1,), Qᵀ y.
        squares: (p + 1,), the sum of squared residuals of each order.
        rank: How many columns, the constant first, do not depend on those before them.
    """

    def __init__(self, series: list[np.ndarray], order: int) -> None:
        every = np.concatenate(series)
        known = every[np.isfinite(every)]
        self.mean, self.scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        if self.scale <= 8 * np.finfo(np.float64).eps * abs(self.mean):
            self.scale = 1.0
        rows = [sliding_window_view((y - self.mean) / self.scale, order + 1) for y in series if len(y) > order]
        table = np.concatenate(rows) if rows else np.empty((0, order + 1))
        whole = ~np.isnan(table).any(1)
        self.rows, self.omitted = int(whole.sum()), int((~whole).sum())
        if self.rows < order + 2:
            raise DataError(_too_short(series, order, self.rows, self.omitted))
        table = table[whole]
        design = np.column_stack([np.ones(self.rows), table[:, -2::-1]])
        Q, self.R = np.linalg.qr(design)
        target = table[:, -1]
        self.projected = Q.T @ target
        left = target - Q @ self.projected
        tails = np.append(np.cumsum(self.projected[:0:-1] ** 2)[::-1], 0.0)
        self.squares = left @ left + tails
        tolerance = np.finfo(np.float64).eps * self.rows**1.5  # of columns of norm n^½
        dependent = np.abs(np.diag(self.R)) <= tolerance
        self.rank = int(dependent.argmax()) if dependent.any() else order + 1

    def criteria(self, which: str) -> np.ndarray:
        """AIC or BIC of every order, (p + 1,)."""
        n, k = self.rows, np.arange(len(self.squares)) + 2
        with np.errstate(divide="ignore"):  # residuals that are all zero: no order is better
            twice = n * (np.log(2 * np.pi * self.scale**2 * self.squares / n) + 1)
        return twice + (2.0 if which == "aic" else np.log(n)) * k


def _too_short(series: list[np.ndarray], order: int, rows: int, omitted: int) -> str:
    where = f"has {len(series[0])} values" if len(series) == 1 else f"{len(series)} series, the longest of them with "
    where += "" if len(series) == 1 else f"{max(map(len, series))} values"
    found = f"{rows} with {order} others before them" + (f" ({omitted} left out for missing values)" if omitted else "")
    return f"series: {where}, of which {found}; an autoregression of order {order} takes at least {order + 2}"


def _series(y: Any) -> list[np.ndarray]:
    """One series or several, as a list of (T,) float64."""
    if isinstance(y, (list, tuple)) and len(y) and np.ndim(y[0]):
        found = [_numbers(one) for one in y]
    else:
        values = _numbers(y)
        found = [values] if values.ndim == 1 else list(values)
    for i, one in enumerate(found):
        name = "series" if len(found) == 1 else f"series {i}"
        if one.ndim != 1:
            raise DataError(f"{name}: has {one.ndim} axes, expected one, of time")
        if np.isinf(one).any():
            raise DataError(f"{name}: value {int(np.isinf(one).argmax())} is infinite")
    return found


def _numbers(values: Any) -> np.ndarray:
    try:
        found = np.asarray(values, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"series: numbers are expected: {error}") from error
    if not found.ndim:
        raise DataError(f"series: a single number, {found}, expected several in order of time")
    return found
