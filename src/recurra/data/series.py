"""Series in time, and the windows of them that a forecaster reads and is measured on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Transform = Literal["none", "log", "log1p", "sqrt"]
Scaling = Literal["series", "window", "last", "none"]
Missing = Literal["mask", "interpolate", "forward", "error"]


@dataclass(frozen=True)
class Series:
    """N series laid end to end, S rows in all, each at equal steps of time.

    Attributes:
        targets: (S, K) float64, in their own units; NaN where missing, and in rows that are still to come.
        past: (S, P) float64, covariates that are known up to the present alone; NaN where missing.
        known: (S, F) float64, covariates that are known ahead, those of the calendar last.
        static: (N, G) float64, what a series has throughout.
        times: (S,) int64: nanoseconds since 1970 where the series have dates, else numbers of steps.
        offsets: (N + 1,) int64; series i has the rows `offsets[i]` to `offsets[i + 1]`.
        ends: (N,) int64, how many of a series' rows lie in the past; those behind are there for what is known ahead.
        ids: A name for each series.
        lines: (S,) int64, the line of the file that a row comes from; 0 where it was filled in.
    """

    targets: np.ndarray
    past: np.ndarray
    known: np.ndarray
    static: np.ndarray
    times: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    ids: Sequence[str]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def rows(self, index: int) -> slice:
        """The rows of a series that lie in the past."""
        start = int(self.offsets[index])
        return slice(start, start + int(self.ends[index]))


@dataclass(frozen=True)
class Preparation:
    """How a window's numbers become those that a network reads, and its forecasts numbers in their own units.

    v = transform(y); w = v, differenced at each lag in turn; z = (w - location) / scale. Every statistic is learnt from
    the training rows, or from the window's own past.

    Attributes:
        transform: Of the targets, value by value.
        lags: Of the differences, such as (1,), (12,) or (1, 12).
        scaling: series: mean and deviation of each series' training rows; window: those of the window's past (as RevIN,
            Kim et al. 2022, without its own parameters); last: the window's last value, and the series' deviation (as
            NLinear, Zeng et al. 2023); none. Differences are not shifted, only scaled.
        missing: mask: a missing number is 0 and told apart; interpolate: lies on the line between the known ones of the
            window's past; forward: is as the last one before it. "error" lets none come so far.
        mean: (N, K) of w in each series' training rows.
        deviation: (N, K) likewise, nowhere 0.
        past: (2, P) mean and deviation of each past covariate.
        known: (2, F) of each known one.
        static: (2, G) of each static one.
    """

    transform: Transform
    lags: tuple[int, ...]
    scaling: Scaling
    missing: Missing
    mean: np.ndarray
    deviation: np.ndarray
    past: np.ndarray
    known: np.ndarray
    static: np.ndarray

    @property
    def before(self) -> int:
        """Rows that are needed before the context, for the differences of its first."""
        return sum(self.lags)

    def apply(self, targets: np.ndarray) -> np.ndarray:
        """v of y."""
        if self.transform == "none":
            return targets
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"log": np.log, "log1p": np.log1p, "sqrt": np.sqrt}[self.transform](targets)

    def undo(self, v: Tensor) -> Tensor:
        """y of v. It never falls where v rises, so that quantiles stay quantiles."""
        if self.transform == "none":
            return v
        return {"log": torch.exp, "log1p": torch.expm1, "sqrt": lambda x: x.clamp(min=0).square()}[self.transform](v)

    def slope(self, v: Tensor) -> Tensor:
        """dy/dv, by which a density of v is divided to be one of y."""
        if self.transform == "none":
            return torch.ones_like(v)
        return 2 * v.clamp(min=0) if self.transform == "sqrt" else v.exp()


@dataclass(frozen=True)
class WindowBatch:
    """B windows of C rows of context and H to be forecast, time first.

    Attributes:
        values: (C + H, B, K), z; 0 where missing. What is behind the origin is the truth, for training alone.
        seen: (C + H, B, K) bool, where `values` are known.
        targets: (H, B, K), what each step is to put out where all are forecast at once: (v - base - location) / scale.
            The same as `values[C:]` without differences; 0 where missing.
        asked: (H, B, K) bool, where `targets` are known.
        past: (C, B, P), scaled; 0 where nothing is known of them.
        known: (C + H, B, F), scaled.
        static: (B, G), scaled.
        which: (B,) int64, the series of each.
        indices: (B,) int64, which of the windows these are.
        location: (B, K).
        scale: (B, K).
        base: (H, B, K), what v would be if every difference to come were 0; 0 where none are taken.
        preparation: How to undo it all.
    """

    values: Tensor
    seen: Tensor
    targets: Tensor
    asked: Tensor
    past: Tensor
    known: Tensor
    static: Tensor
    which: Tensor
    indices: Tensor
    location: Tensor
    scale: Tensor
    base: Tensor
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def horizon(self) -> int:
        """H."""
        return len(self.targets)

    @property
    def context(self) -> int:
        """C."""
        return len(self.values) - len(self.targets)

    @property
    def inputs(self) -> tuple["WindowBatch"]:
        """What a network is called with."""
        return (self,)

    @property
    def samples(self) -> int:
        """Windows."""
        return len(self)

    @property
    def steps(self) -> int:
        """Steps that are read or forecast."""
        return self.values.shape[0] * self.values.shape[1]

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "WindowBatch":
        """The batch on another device, its numbers in another precision; what forecasts are undone by stays float64."""
        undone_by = ("location", "scale", "base")
        moved: dict[str, Any] = {
            name: value.to(device, dtype if value.is_floating_point() and name not in undone_by else None)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def restore(self, z: Tensor, steps: Literal["direct", "recursive"] = "direct") -> Tensor:
        """Forecasts in their own units.

        Args:
            z: (..., H, B, K) as `targets` are (direct), or as `values` are (recursive), of which each goes on from the
                one before it.
            steps: Which of the two.

        Returns:
            float64, of the shape of `z`.
        """
        w = z.double() * self.scale + self.location
        if steps == "recursive":
            w = cumulated(w, self.preparation.lags)
        return self.preparation.undo(self.base + w)


@dataclass(frozen=True)
class SeriesWindows:
    """Windows of series: each forecasts `horizon` rows from an origin, by the `context` rows before it.

    Attributes:
        series: The series.
        places: (W, 2) int64: which series, and the row in it of the first step to be forecast.
        context: Rows that are read before it.
        horizon: Rows that are forecast.
        preparation: How their numbers are brought to a common scale.
    """

    series: Series
    places: np.ndarray
    context: int
    horizon: int
    preparation: Preparation

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> Tensor:
        """Steps of each window, (W,) int64."""
        return torch.full((len(self),), self.context + self.horizon, dtype=torch.int64)

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "SeriesWindows":
        """The named windows, in the order given."""
        return replace(self, places=self.places[np.asarray(indices)])

    def at(self, indices: Tensor | np.ndarray | Sequence[int], first: int, stop: int) -> np.ndarray:
        """The rows of `series` from `first` to `stop`, counted from each origin: (stop - first, B)."""
        which, origin = self.places[np.asarray(indices)].T
        return self.series.offsets[which] + origin + np.arange(first, stop)[:, None]

    @property
    def truth(self) -> np.ndarray:
        """What is to be forecast, in its own units: (W, H, K), NaN where missing or not yet known."""
        return self.series.targets[self.at(np.arange(len(self)), 0, self.horizon).T]

    @property
    def times(self) -> np.ndarray:
        """The times that are forecast, (W, H) as in `Series.times`."""
        return self.series.times[self.at(np.arange(len(self)), 0, self.horizon).T]

    @cached_property
    def _transformed(self) -> np.ndarray:
        return self.preparation.apply(self.series.targets)

    def batch(self, indices: Tensor | np.ndarray | Sequence[int]) -> WindowBatch:
        """The batch of these windows, in float64."""
        p, C, H = self.preparation, self.context, self.horizon
        indices = np.asarray(indices)
        which = self.places[indices, 0]
        v = self._transformed[self.at(indices, -C - p.before, H)]
        before, ahead = v[: C + p.before], v[C + p.before :]
        filled = _filled(before, p.missing)
        w = differenced(np.concatenate([before if p.missing == "mask" else filled, ahead]), p.lags)
        w[C:] = differenced(np.concatenate([filled, ahead]), p.lags)[C:]  # what is fed back goes on from filled ones
        base = _continued(filled, p.lags, H)
        location, scale = self._scale(w[:C], which)
        z = (w - location) / scale
        targets = (ahead - base - location) / scale
        seen, asked = np.isfinite(z), np.isfinite(targets)
        rows = self.at(indices, -C, H)
        past = (_filled(self.series.past[rows[:C]], "forward") - p.past[0]) / p.past[1]
        known = (_filled(self.series.known[rows], "forward") - p.known[0]) / p.known[1]
        return WindowBatch(
            values=torch.from_numpy(np.where(seen, z, 0.0)),
            seen=torch.from_numpy(seen),
            targets=torch.from_numpy(np.where(asked, targets, 0.0)),
            asked=torch.from_numpy(asked),
            past=torch.from_numpy(np.nan_to_num(past, nan=0.0)),
            known=torch.from_numpy(np.nan_to_num(known, nan=0.0)),
            static=torch.from_numpy((self.series.static[which] - p.static[0]) / p.static[1]),
            which=torch.from_numpy(which),
            indices=torch.from_numpy(indices),
            location=torch.from_numpy(location),
            scale=torch.from_numpy(scale),
            base=torch.from_numpy(base),
            preparation=p,
        )

    def _scale(self, w: np.ndarray, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Location and scale of windows, (B, K) each; `w` is their past, (C, B, K)."""
        p = self.preparation
        mean, deviation = p.mean[which], p.deviation[which]
        if p.scaling == "none":
            return np.zeros_like(mean), np.ones_like(mean)
        if p.scaling == "window":
            known = np.isfinite(w)
            count = np.maximum(known.sum(0), 1)
            own = np.where(known, w, 0).sum(0) / count
            variance = (np.where(known, w - own, 0) ** 2).sum(0) / count
            # A past that hardly moves would blow up what follows, so some of the series' own deviation is left in.
            deviation = np.sqrt(variance + (0.01 * deviation) ** 2)
            mean = np.where(known.any(0), own, mean)
        elif p.scaling == "last":
            last = _filled(w, "forward")[-1]
            mean = np.where(np.isfinite(last), last, mean)
        return np.zeros_like(mean) if p.lags else mean, deviation


def differenced(v: np.ndarray, lags: Sequence[int]) -> np.ndarray:
    """v differenced at each lag in turn along the first axis; shorter by their sum."""
    for lag in lags:
        v = v[lag:] - v[:-lag]
    return v.copy() if not lags else v


def cumulated(w: Tensor, lags: Sequence[int]) -> Tensor:
    """What differences of (..., H, B, K) add up to, where all before them is 0."""
    for lag in reversed(lags):
        if lag == 1:
            w = w.cumsum(-3)
            continue
        sums = [w[..., start : start + lag, :, :] for start in range(0, w.shape[-3], lag)]
        for i in range(1, len(sums)):
            sums[i] = sums[i] + sums[i - 1][..., : sums[i].shape[-3], :, :]
        w = torch.cat(sums, -3)
    return w


def _continued(v: np.ndarray, lags: Sequence[int], steps: int) -> np.ndarray:
    """How v goes on for so many steps if all its differences to come are 0, (steps, B, K); 0 without lags."""
    if not lags:
        return np.zeros((steps, *v.shape[1:]))
    levels = [v]
    for lag in lags[:-1]:
        levels.append(levels[-1][lag:] - levels[-1][:-lag])
    ahead = np.zeros((steps, *v.shape[1:]))
    for lag, level in zip(reversed(lags), reversed(levels), strict=True):
        ends = list(level[len(level) - lag :])
        for step in range(steps):
            ends.append(ends[step] + ahead[step])
        ahead = np.stack(ends[lag:])
    return ahead


def _filled(values: np.ndarray, how: Missing) -> np.ndarray:
    """(T, ...) without gaps; NaN is left where nothing is known. Ahead of the first known value stands that one."""
    known = np.isfinite(values)
    if known.all() or not len(values):
        return values
    steps = np.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1))
    last = np.maximum.accumulate(np.where(known, steps, -1))
    first = known.argmax(0)[None]
    left = np.where(last < 0, first, last)
    filled = np.take_along_axis(values, left, 0)
    if how != "interpolate":
        return filled
    back = np.maximum.accumulate(np.where(known[::-1], steps, -1))[::-1]  # counted from the end
    right = np.where(back < 0, left, len(values) - 1 - back)
    share = np.where(right > left, (steps - left) / np.maximum(right - left, 1), 0.0)
    return filled + share * (np.take_along_axis(values, right, 0) - filled)
