"""Memory capacity: how many past inputs can be read from a state, and how that wears out as a sequence goes on.

A cell that only ever adds to its state, h_t = h_(t-1) + g(x_t, h_(t-1)) (eq. 6.48), passes its gradient on unharmed,
but its state grows without bound, g is driven to the ends of its range, and what comes in later leaves no trace: the
capacity is used up. A gate makes room.
"""

from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from recurra.analysis.gates import at_end, listened
from recurra.analysis.record import How, Recording, recorded
from recurra.analysis.result import AnalysisError, Result, check_seed, check_whole, drawn_on, number, whole_numbers
from recurra.analysis.system import Given, System, unrolled
from recurra.nn import Recurrent

ROWS_A_UNIT, FEWEST_ROWS, MOST_ROWS = 20, 1000, 4000
"""Sequences of noise for each unit of the state that is read, so that a regression does not fit chance, and bounds."""

HELD_OUT = 0.25
"""The share of them that a regression is scored on."""

CHANCE = 2.0
"""Deviations of what an input that left no trace scores by chance: a share that is no larger is taken for none."""

RIDGE = 1e-6
"""Added to the diagonal of the covariance, over its mean."""


@dataclass(frozen=True, eq=False)
class MemoryCapacity(Result):
    """How much of the last inputs can be read from the state, after more and more steps.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        units: Units that are read: those of the first state field.
        inputs: Numbers that come in at each step.
        steps: (m,) how many steps were taken when the state was read.
        recalled: (m, L) how much of the input of 0, 1, … steps ago is read back: 1 less the share of its variance that
            a linear regression from the state misses, on sequences held out; a mean over the inputs.
        size: (m,) root mean square of the units.
        saturated: (m,) share of the cell's gates and squashed units that are at an end of their range; NaN of a cell
            that has none.
    """

    name: str
    cell: str
    units: int
    inputs: int
    steps: np.ndarray
    recalled: np.ndarray = field(repr=False)
    size: np.ndarray
    saturated: np.ndarray

    @property
    def capacity(self) -> np.ndarray:
        """(m,) Jaeger's memory capacity: the sum over all steps ago, as many past inputs as can be read back."""
        return self.recalled.sum(1)

    @property
    def kept(self) -> float:
        """The last capacity over the largest."""
        capacity = self.capacity
        return float(capacity[-1] / capacity.max()) if capacity.max() > 0 else 0.0

    @property
    def words(self) -> str:
        """What became of the capacity, in a sentence."""
        capacity, steps = self.capacity, int(self.steps[-1])
        said = f"After {steps:,} steps {number(capacity[-1])} past inputs can be read back from {self.units} units"
        if self.kept < 0.5:
            best = int(self.steps[int(capacity.argmax())])
            return f"{said}, after {best:,} there were {number(capacity.max())}: the capacity is used up."
        return f"{said}; the capacity lasts."

    def _derived(self) -> tuple[str, ...]:
        """See `Result`."""
        return ("capacity", "kept", "words")

    def __str__(self) -> str:
        lines = [f"memory capacity of {self.name} ({self.cell})", f"  {self.words}"]
        lines += [f"  {'steps':>7}  {'capacity':>9}  {'size of h':>9}  {'saturated':>9}"]
        for step, capacity, size, share in zip(self.steps, self.capacity, self.size, self.saturated, strict=True):
            shown = "–" if np.isnan(share) else f"{100 * share:.0f} %"
            lines.append(f"  {step:>7}  {number(capacity):>9}  {number(size):>9}  {shown:>9}")
        return "\n".join(lines)

    def plot(self, axes: Any = None, label: str | None = None, colour: str = "C0") -> Any:
        """Capacity against the steps taken."""
        axes = drawn_on(axes)
        axes.plot(self.steps, self.capacity, color=colour, label=label, marker="o", markersize=3.5)
        axes.set_xscale("log")
        axes.set_ylim(0, 1.05 * max(1.0, *(float(np.max(line.get_ydata())) for line in axes.lines)))
        axes.set_xlabel("steps taken")
        axes.set_ylabel("past inputs that can be read back")
        return axes

    def plot_recall(self, axes: Any = None, label: str | None = None, colour: str = "C0") -> Any:
        """How much of each past input is read back at the end, against how many steps ago it was."""
        axes = drawn_on(axes)
        axes.plot(np.arange(self.recalled.shape[1]), self.recalled[-1], color=colour, label=label)
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("steps ago")
        axes.set_ylabel("share that is read back")
        return axes


def memory_capacity(
    model: nn.Module | Recording,
    x: Any = None,
    *,
    depth: int = -1,
    steps: int = 300,
    at: list[int] | None = None,
    lags: int = 100,
    rows: int | None = None,
    seed: int = 0,
    **how: Unpack[How],
) -> MemoryCapacity:
    """How many past inputs can be read back linearly (Jaeger 2001), after more and more steps, in double precision.

    The layer is driven by noise, another sequence for each row: of the mean and deviation that its inputs have where it
    is given some, else of mean 0 and deviation 1. After so many steps, ridge regressions over three quarters of the
    rows read the last inputs from what the layer's first state field holds, and are scored on the other quarter. Where
    Jaeger averages over the time of one long sequence, this averages over rows, so that a state that is never steady,
    because it grows, can be read as well.

    Args:
        model: A module with a recurrent layer, or what `record` made of one. A layer of its own needs no `x`.
        x: What the module is called with (see `record`).
        depth: Which layer of a stack; of both directions, the forward one is read.
        steps: Steps to take.
        at: After how many of them the state is read; about ten numbers from 1 to `steps` when left out.
        lags: How many steps ago an input is asked for at the most.
        rows: How many sequences, at least 4 a unit; 20 a unit, but from 1,000 to 4,000, when left out.
        seed: Of the noise.
        **how: Further arguments of `record`.

    Raises:
        AnalysisError: The model cannot be examined (see `record`), or a number cannot be.

    Example:
        >>> found = memory_capacity(Recurrent("gru", 1, 8), steps=30, rows=400)
        >>> bool(1 < found.capacity[-1] < 8)
        True
    """
    for name, value in (("steps", steps), ("lags", lags), ("rows", rows)):
        if value is not None:
            check_whole(name, value)
    check_seed(seed)
    if at is None:
        at = sorted({int(v) for v in np.geomspace(1, steps, 11).round()})
    at = whole_numbers("at", at, 1, steps)
    if sorted(set(at)) != at:
        raise AnalysisError(f"at: rising numbers of steps are expected, not {at}")
    recording = _of_layer(model, x, how)
    layer, system = recording.layer, recording.system(depth)
    if system.direction == "backward":
        raise AnalysisError(f"{system.name}: it runs backward only, so it holds no past inputs")
    if layer.bidirectional and system.depth:
        raise AnalysisError(
            f"{system.name}: it reads layers that run backward, so it holds more than the past; ask for depth=0"
        )
    is_driven = x is not None or isinstance(model, Recording)
    mean, deviation = _moments(recording.given) if is_driven else (0.0, 1.0)
    units = system.new[0].shape[-1]
    fewest = 4 * units
    if rows is None:
        rows = max(fewest, min(MOST_ROWS, max(FEWEST_ROWS, ROWS_A_UNIT * units)))
    if rows < fewest:
        raise AnalysisError(f"rows: to read {units} units at least {fewest} sequences are expected, not {rows}")
    generator, like = torch.Generator().manual_seed(seed), recording.given.x
    found: list[tuple[np.ndarray, float, float]] = []
    state, last = None, like.new_zeros(0, rows, layer.input_size)
    for begun, end in zip([0, *at[:-1]], at, strict=True):
        for t in range(begun, end):
            noise = torch.randn(1, rows, layer.input_size, dtype=torch.float64, generator=generator).to(like)
            last = torch.cat([last[1 - lags :] if lags > 1 else last[:0], noise])
            if t == end - 1:
                read = _one_step(layer, noise * deviation + mean, state)[recording.systems.index(system)]
                h = read.new[0][0]
                found.append((_recalled(h, last, lags), float(h.square().mean().sqrt()), _saturated(read)))
            with torch.no_grad():
                state = layer(noise * deviation + mean, state)[1]
    recalled, sizes, shares = zip(*found, strict=True)
    return MemoryCapacity(
        name=system.name,
        cell=system.form.name,
        units=units,
        inputs=layer.input_size,
        steps=np.array(at),
        recalled=np.stack(recalled),
        size=np.array(sizes),
        saturated=np.array(shares),
    )


def _of_layer(model: nn.Module | Recording, x: Any, how: How) -> Recording:
    """The recording; of one step of zeros where a layer comes without inputs."""
    if x is None and isinstance(model, (Recurrent, nn.RNNBase)):
        x = next(model.parameters(), torch.zeros(())).new_zeros(1, 1, model.input_size)
    return recorded(model, x, how, memory_capacity)


def _moments(given: Given) -> tuple[Tensor, Tensor]:
    """Mean and deviation of a layer's inputs, (I,), over the steps that are taken and counted."""
    x = given.x[given.mask & given.counted]
    return x.mean(0), x.std(0, correction=0)


def _one_step(layer: Recurrent, x: Tensor, state: Any) -> list[System]:
    everything = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
    return unrolled(layer, Given(x, state, everything, ~everything, everything), "")


def _recalled(h: Tensor, inputs: Tensor, lags: int) -> np.ndarray:
    """How much of each of the last inputs, (L, B, I), can be read from h, (B, U); (lags,), zero before the first."""
    B, count = len(h), len(inputs)
    train = B - max(1, int(HELD_OUT * B))
    asked = inputs.flip(0).permute(1, 0, 2).flatten(1)  # (B, L * I), the last input first
    centre, expected = h[:train].mean(0), asked[:train].mean(0)
    X, Y = h[:train] - centre, asked[:train] - expected
    covariance = X.mT @ X
    ridge = RIDGE * covariance.diagonal().mean() + torch.finfo(h.dtype).tiny
    covariance.diagonal().add_(ridge)
    W = torch.linalg.solve(covariance, X.mT @ Y)
    missed = asked[train:] - expected - (h[train:] - centre) @ W
    share = 1 - missed.square().sum(0) / (asked[train:] - expected).square().sum(0)
    # Where no trace is left, U weights fitted to chance score -U / train, with a deviation of 2 √(U / train / test).
    fitted = h.shape[1] / train
    by_chance = max(0.0, CHANCE * 2 * (fitted / (B - train)) ** 0.5 - fitted)
    share = torch.where(share > by_chance, share, 0.0)
    found = np.zeros(lags)
    found[:count] = share.unflatten(0, (count, -1)).mean(1).double().cpu().numpy()
    return found


def _saturated(system: System) -> float:
    """The share of gates and squashed units that are at an end of their range in the one step of a system."""
    heard = listened(system, system.x[0], tuple(v[0] for v in system.old))
    if not heard:
        return float("nan")
    return float(
        np.mean([np.mean(at_end(kind, values, "left") | at_end(kind, values, "right")) for _, kind, values in heard])
    )
