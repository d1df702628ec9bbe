"""What methods without a network forecast from the same origins; a report without them tells nothing."""

from dataclasses import dataclass

import numpy as np

from recurra.data.series import SeriesWindows
from recurra.errors import DataError
from recurra.nn.delay import AR

FEWEST_ORDERS, MOST_ORDERS = 8, 48
"""Bounds of the largest order that AIC may choose, which lies at two seasons between them."""

LAST, SEASONAL, DRIFT, AUTOREGRESSION = "last value", "seasonal naive", "drift", "AR"


@dataclass(frozen=True)
class Baseline:
    """Forecasts of one method.

    Attributes:
        name: Its name.
        words: What it is, with all that was chosen for it.
        forecasts: (W, H, K), in the targets' own units, for the windows in their order.
    """

    name: str
    words: str
    forecasts: np.ndarray


def baselines(windows: SeriesWindows, season: int, max_order: int | None = None) -> list[Baseline]:
    """Every baseline, each reading what lies before the origin alone.

    A missing value is taken for the last one before it. What is fitted, is so once to each series' rows before its
    first window, and read on with the values that come to be known (rolling origin).

    Args:
        windows: What is to be forecast.
        season: Steps of a season; 1 for none.
        max_order: The largest order of AR; two seasons when left out, at least `FEWEST_ORDERS` and at most
            `MOST_ORDERS`.
    """
    values = _filled(windows)
    H = windows.horizon
    at = windows.at(np.arange(len(windows)), 0, 1)[0]  # the row of each origin
    steps = np.arange(H)
    last = values[at - 1]
    found = [Baseline(LAST, "the last value before the origin (a random walk)", np.repeat(last[:, None], H, 1))]
    if season > 1:
        first = windows.series.offsets[windows.places[:, 0]]
        back = at[:, None] + steps % season - season
        whole = back >= first[:, None]
        rows = np.where(whole, back, at[:, None] - 1)
        words = f"the value of {season:,} steps before, or of as many seasons as it takes"
        found.append(Baseline(SEASONAL, words, values[rows]))
    words = "the last value, going on as the rows before the first origin went on average"
    found.append(Baseline(DRIFT, words, last[:, None] + (steps[:, None] + 1) * _slopes(windows, values)[:, None]))
    found.append(_autoregression(windows, values, max_order or max(FEWEST_ORDERS, min(2 * season, MOST_ORDERS))))
    return found


def _filled(windows: SeriesWindows) -> np.ndarray:
    """The targets of all rows, each missing one as the last before it in its series; ahead of the first, as that."""
    series, values = windows.series, windows.series.targets.copy()
    for start, stop in zip(series.offsets[:-1], series.offsets[1:], strict=True):
        own = values[start:stop]
        known = np.isfinite(own)
        if not known.all():
            last = np.maximum.accumulate(np.where(known, np.arange(len(own))[:, None], -1))
            own[:] = np.take_along_axis(own, np.where(last < 0, known.argmax(0), last), 0)
    return values


def _first_origins(windows: SeriesWindows) -> dict[int, int]:
    """Series -> the row in it of its first origin."""
    which, origins = windows.places.T
    return {int(one): int(origins[which == one].min()) for one in np.unique(which)}


def _slopes(windows: SeriesWindows, values: np.ndarray) -> np.ndarray:
    """(W, K), how much a series rises a step from its first row to that before its first origin."""
    slopes = np.zeros((len(windows.series), values.shape[1]))
    for one, origin in _first_origins(windows).items():
        start = int(windows.series.offsets[one])
        if origin > 1:
            slopes[one] = (values[start + origin - 1] - values[start]) / (origin - 1)
    return slopes[windows.places[:, 0]]


def _autoregression(windows: SeriesWindows, values: np.ndarray, max_order: int) -> Baseline:
    """AR of each series and target by itself, its order chosen by AIC; the last value where none can be fitted."""
    series, H = windows.series, windows.horizon
    K = values.shape[1]
    forecasts = np.empty((len(windows), H, K))
    orders: list[int] = []
    unfitted, gaps = 0, False
    for one, origin in _first_origins(windows).items():
        mine = np.flatnonzero(windows.places[:, 0] == one)
        at = windows.at(mine, 0, 1)[0]
        start = int(series.offsets[one])
        for k in range(K):
            before = series.targets[start : start + origin, k]
            gaps |= not np.isfinite(before).all()
            model = fitted(before, max_order)
            if model is None:
                unfitted += 1
                forecasts[mine, :, k] = values[at - 1, k][:, None]
                continue
            orders.append(model.order)
            rows = at[:, None] + np.arange(-model.order, 0)
            forecasts[mine, :, k] = model.forecast(values[rows, k], H).mean
    chosen = f"{min(orders)} to {max(orders)}" if orders and min(orders) < max(orders) else f"{max(orders, default=0)}"
    fewer = ", or of fewer where gaps leave too few steps" if gaps else ""
    words = (
        f"autoregression of order {chosen} (by AIC, of at most {max_order}{fewer}), fitted once to the rows before "
        "the first origin of each series, each target by itself"
    )
    if unfitted:
        words += f"; {unfitted:,} that cannot be fitted are forecast by their last value"
    return Baseline(AUTOREGRESSION, words, forecasts)


def fitted(values: np.ndarray, max_order: int) -> AR | None:
    """AR of the order that AIC chooses, of at most a third of the values; None where no order can be fitted.

    Orders are compared over the same steps, those without a gap before them within the largest of them: it is lowered
    until these are twice as many as its coefficients, and half of those of order 1.
    """
    known = np.isfinite(values)
    most = min(max_order, int(known.sum()) // 3 - 1)
    if most < 0:
        return None
    ends = np.flatnonzero(np.diff(known, prepend=False, append=False))
    runs = ends[1::2] - ends[::2]

    def steps(order: int) -> int:
        return int(np.maximum(runs - order, 0).sum())

    while most > 0 and steps(most) < max(2 * (most + 1), steps(1) / 2):
        most -= 1
    try:
        return AR.select(values, most)
    except DataError:  # it does not vary, or what is missing leaves too little
        return None
