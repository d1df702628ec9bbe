"""How the gradient goes back through time: ‖δ_(t,k)‖ against t - k, its growth, and how far it reaches."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from recurra.analysis.record import How, Recording, chosen
from recurra.analysis.result import AnalysisError, Result, check_seed, check_whole, drawn_on, number
from recurra.analysis.system import Direction, System

GONE = 0.01
"""The share of the gradient at which it counts as gone."""

SMALLEST_DRAWN = 1e-10

GROWN = 100.0
"""How many times its size a gradient that explodes has reached."""


@dataclass(frozen=True, eq=False)
class GradientFlow(Result):
    """Gradients by earlier states, δ_(t,k) = ∂L_t/∂s_k, over many t and rows.

    L_t is the part of the loss that enters the state s_t after step t, so δ_(t,t) is its gradient there and δ_(t,k) =
    D_(k+1)ᵀ … D_tᵀ δ_(t,t) (eq. 6.45). A state is all its fields side by side, each taken by itself: ∂L_t/∂c_k of an
    LSTM is what c_k passes on to step k + 1, h_k held still.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        source: What the gradients are those of: the "loss" given, or "random" ones at the output.
        steps: Steps of the longest row.
        pairs: (L,) gradients measured at each distance.
        mean: (L,) mean of ‖δ_(t,k)‖ / ‖δ_(t,t)‖ at the distances t - k = 0, 1, …
        median: (L,) its median.
        low: (L,) a tenth of them are below.
        high: (L,) a tenth of them are above.
        size: (L,) median of ‖δ_(t,k)‖ itself.
        fields: For each state field, (L,) the median of its part's norm over ‖δ_(t,t)‖.
        bound: γ of eq. 6.46, the largest norm of a factor ∂s_t/∂s_(t-1): ‖δ_(t,k)‖ <= γ^(t-k) ‖δ_(t,t)‖. None where it
            was not asked for.
        factor: The mean factor: by so much a gradient is multiplied at a step, in the geometric mean. None where none
            goes back a step.
    """

    name: str
    cell: str
    source: Literal["loss", "random"]
    steps: int
    pairs: np.ndarray
    mean: np.ndarray
    median: np.ndarray
    low: np.ndarray
    high: np.ndarray
    size: np.ndarray
    fields: dict[str, np.ndarray] = field(repr=False)
    bound: float | None
    factor: float | None

    @property
    def span(self) -> int:
        """The longest distance measured, in steps."""
        return len(self.median) - 1

    @property
    def memory(self) -> int | None:
        """Effective memory length: the first distance at which the median has fallen to 1 %; None where at none."""
        gone = np.flatnonzero(self.median <= GONE)
        return int(gone[0]) if len(gone) else None

    @property
    def verdict(self) -> Literal["explodes", "vanishes", "holds"] | None:
        """What becomes of the gradient over the distances measured; None where it goes back no step."""
        if not self.span:
            return None
        grown = np.flatnonzero(self.median >= GROWN)
        if len(grown) and (self.memory is None or grown[0] < self.memory):
            return "explodes"
        return "holds" if self.memory is None else "vanishes"

    @property
    def words(self) -> str:
        """The verdict in a sentence or two."""
        if not self.span and self.steps == 1:
            return "A sequence of one step has no way back."
        if not self.span:
            return "The loss reads only the first step that this direction takes, so nothing goes back."
        if self.verdict == "explodes":
            at = int(np.flatnonzero(self.median >= GROWN)[0])
            return (
                f"The gradient explodes: {_steps(at)} back it has grown {GROWN:g}-fold. Clip it, begin with a smaller "
                "U, or take a gated cell."
            )
        if self.memory is not None:
            share = "nothing" if self.median[self.memory] == 0 else "1 %"
            if self.memory <= 1:
                return f"The gradient falls to {share} within one step: this layer learns nothing from earlier steps."
            return (
                f"The gradient falls to {share} within {_steps(self.memory)}: this layer cannot learn dependencies "
                "much longer than that."
            )
        return (
            f"The gradient reaches back over all {_steps(self.span)} measured: there it is still "
            f"{_share(self.median[-1])} of what it was."
        )

    def _derived(self) -> tuple[str, ...]:
        """See `Result`."""
        return ("span", "memory", "verdict", "words")

    def __str__(self) -> str:
        lines = [f"gradient flow of {self.name} ({self.cell}), {self.source} gradients", f"  {self.words}"]
        factor = "" if self.factor is None else f"{number(self.factor)} in the mean"
        bound = "" if self.bound is None or self.steps == 1 else f"at the most {number(self.bound)} (γ of eq. 6.46)"
        if factor or bound:
            lines.append(f"  a step multiplies it by {'; '.join(part for part in (factor, bound) if part)}")
        if not self.span:
            return "\n".join(lines)
        shown = sorted({d for d in (1, 2, 5, 10, 20, 50, 100, 200, 500, self.span) if 0 < d <= self.span})
        lines += [f"  {'steps back':>12}  {'median':>9}  {'10 % to 90 %':>22}"]
        lines += [
            f"  {d:>12}  {number(self.median[d]):>9}  {number(self.low[d]):>9} to {number(self.high[d]):>9}"
            for d in shown
        ]
        return "\n".join(lines)

    def plot(self, axes: Any = None, label: str | None = None, colour: str = "C0") -> Any:
        """Median and range against the distance, on a logarithmic axis; the dashed line is 1 %.

        What is smaller than 1e-10 is not drawn.
        """
        axes = drawn_on(axes)
        seen = 1 + int(np.flatnonzero(self.high >= SMALLEST_DRAWN)[-1])
        distance = np.arange(seen)
        low, median, high = (np.maximum(v[:seen], SMALLEST_DRAWN) for v in (self.low, self.median, self.high))
        axes.set_yscale("log")
        axes.fill_between(distance, low, high, color=colour, alpha=0.2, linewidth=0)
        axes.plot(distance, median, color=colour, label=label)
        axes.axhline(GONE, color="0.5", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("steps back, t − k")
        axes.set_ylabel("‖∂L_t/∂s_k‖ / ‖∂L_t/∂s_t‖")
        return axes

    def plot_fields(self, axes: Any = None) -> Any:
        """The median of each state field's part against the distance, over the whole gradient at its end."""
        axes = drawn_on(axes)
        axes.set_yscale("log")
        for k, (name, values) in enumerate(self.fields.items()):
            seen = np.flatnonzero(values >= SMALLEST_DRAWN)
            axes.plot(seen, values[seen], color=f"C{k}", label=name)
        axes.set_xlabel("steps back, t − k")
        axes.set_ylabel("‖∂L_t/∂s_k‖ of each field / ‖∂L_t/∂s_t‖")
        return axes


def gradient_flow(
    model: nn.Module | Recording | System,
    x: Any = None,
    *,
    depth: int = -1,
    direction: Direction | None = None,
    ends: int | None = 32,
    span: int = 1000,
    bound: bool = True,
    seed: int = 0,
    **how: Unpack[How],
) -> GradientFlow:
    """The norm of ∂L_t/∂s_k against t - k (eqs 6.45, 6.46), in double precision.

    Args:
        model: A module with a recurrent layer, or what `record` made of one.
        x: What the module is called with (see `record`).
        depth: Which layer of a stack.
        direction: Which direction of a layer that has both.
        ends: At so many steps t of each row, evenly taken among those at which a gradient enters and the last one with
            them, a gradient sets out; None: at all.
        span: So many steps it is followed back at the most.
        bound: Whether γ is found, for which every factor ∂s_t/∂s_(t-1) is made.
        seed: Of the random gradients.
        **how: Further arguments of `record`: `loss`, and others.

    Returns:
        The norms over distances, their growth, and what follows from it in words.

    Raises:
        AnalysisError: The model cannot be examined (see `record`), or nothing enters where it is asked for.

    Example:
        >>> flow = gradient_flow(nn.LSTM(3, 8), torch.zeros(60, 2, 3))
        >>> flow.verdict, flow.memory < 20
        ('vanishes', True)
    """
    if ends is not None:
        check_whole("ends", ends)
    check_whole("span", span)
    check_seed(seed)
    system = chosen(model, x, depth, direction, how, gradient_flow)
    entering = _random(system, seed) if system.gradient is None else system.gradient
    places = _ends(system, entering, ends)
    logs = _followed(system, entering, places, span)
    relative = logs[0] - logs[0][:1]
    by_field = {name: logs[i] - logs[0][:1] for i, name in enumerate(system.fields, 1)}
    there = ~np.isnan(relative)
    longest = there.sum(0) - 1
    last = np.take_along_axis(relative, longest[None], 0)[0]
    steps, total = longest.sum(), last.sum()
    sizes = np.exp(relative)
    low, median, high = _quantiles(sizes, (0.1, 0.5, 0.9))
    return GradientFlow(
        name=system.name,
        cell=system.form.name,
        source="random" if system.gradient is None else "loss",
        steps=system.steps,
        pairs=there.sum(1),
        mean=np.nanmean(sizes, 1),
        median=median,
        low=low,
        high=high,
        size=_quantiles(np.exp(logs[0]), (0.5,))[0],
        fields={name: _quantiles(np.exp(v), (0.5,))[0] for name, v in by_field.items()},
        bound=largest_factor(system) if bound else None,
        factor=math.exp(total / steps) if steps else None,
    )


def _random(system: System, seed: int) -> Tensor:
    """A gradient of length 1 in a random direction at the output of every step, (T, B, S)."""
    x, width = system.x, system.new[0].shape[-1]
    drawn = torch.randn(*x.shape[:2], width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = (drawn / drawn.norm(dim=-1, keepdim=True)).to(system.new[0])
    rest = sum(system.fields.values()) - width
    return torch.cat([drawn, drawn.new_zeros(*drawn.shape[:2], rest)], -1)


def _ends(system: System, entering: Tensor, count: int | None) -> Tensor:
    """(n, 2): the steps and rows at which gradients set out.

    Raises:
        AnalysisError: None enters anywhere.
    """
    there = (entering != 0).any(-1) & system.taken
    found = []
    for b in range(there.shape[1]):
        steps = there[:, b].nonzero().flatten()
        if count is not None and len(steps) > count:
            steps = steps[torch.linspace(0, len(steps) - 1, count + 1)[1:].round().long()]
        found.append(torch.stack([steps, torch.full_like(steps, b)], -1))
    places = torch.cat(found)
    if not len(places):
        raise AnalysisError(f"{system.name}: no gradient of the loss enters the steps that are examined")
    return places


def _followed(system: System, entering: Tensor, places: Tensor, span: int) -> np.ndarray:
    """Logarithms of norms, (1 + fields, L, n): of the whole gradient and of each field, at each distance from where it
    set out; NaN beyond the row's first step. Norms are kept apart from directions, so that none is ever too small."""
    t, b = places.cpu().unbind(-1)
    gradient = entering[t, b]
    scale = torch.zeros(len(t), dtype=torch.float64)
    widths, last = list(system.fields.values()), int(t.max())
    logs = torch.full((1 + len(widths), min(span, last) + 1, len(t)), math.nan, dtype=torch.float64)
    for k in range(last, -1, -1):
        active = ((t >= k) & (t - k <= span)).nonzero().flatten()
        if len(active):
            norms = gradient[active].norm(dim=-1)
            own = scale[active] + norms.double().log().cpu()
            logs[0, t[active] - k, active] = own
            gradient[active] /= torch.where(norms > 0, norms, 1.0).unsqueeze(-1)
            scale[active] = own
            for i, part in enumerate(gradient[active].split(widths, -1), 1):
                logs[i, t[active] - k, active] = own + part.norm(dim=-1).double().log().cpu()
            if k:
                going_on = active[t[active] - k < span]
                gradient[going_on] = system.pulled(k, b[going_on], gradient[going_on])
    return logs.numpy()


def largest_factor(system: System) -> float:
    """The largest norm of a factor ∂s_t/∂s_(t-1), the first step's aside, which no gradient passes."""
    t, b = system.taken.nonzero(as_tuple=True)
    t, b = t[t > 0], b[t > 0]
    pieces = zip(t.split(512), b.split(512), strict=True)
    norms = [torch.linalg.matrix_norm(system.jacobians(*piece), 2) for piece in pieces if len(t)]
    return max((float(each.max()) for each in norms), default=0.0)


def _quantiles(values: np.ndarray, shares: tuple[float, ...]) -> list[np.ndarray]:
    """Quantiles over the last axis, NaN left out."""
    return list(np.nanquantile(values, shares, axis=1))


def _steps(count: int) -> str:
    return f"{count:,} step" + ("" if count == 1 else "s")


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"
