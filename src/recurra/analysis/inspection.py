"""All instruments at once, on every layer and direction of a recurrent layer."""

from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
from torch import nn

from recurra.analysis.capacity import MemoryCapacity, memory_capacity
from recurra.analysis.flow import GradientFlow, gradient_flow, largest_factor
from recurra.analysis.gates import Gates, gates
from recurra.analysis.jacobians import (
    LyapunovExponents,
    SpanSingularValues,
    StateJacobians,
    lyapunov_exponents,
    state_jacobians,
)
from recurra.analysis.record import How, Recording, recorded
from recurra.analysis.result import Result, plain
from recurra.analysis.system import System

NUMBERS = 1 << 23
"""Of the Jacobians that are kept: 64 MiB for each layer and direction."""

MOST_STEPS, MOST_ROWS, MOST_EXPONENTS = 64, 8, 64
"""Steps and rows of the Jacobians that are made, and exponents that are found."""

FEWEST_NOISE, MOST_NOISE = 30, 300
"""Steps of noise that memory capacity is measured after: four times the longest row, within these bounds."""


@dataclass(frozen=True, eq=False)
class Part(Result):
    """What was found of one layer and direction.

    Jacobians, exponents and the bound of the flow are those of its longest rows.

    Attributes:
        name: Which it is.
        cell: Its cell.
        units: Units of its state, all fields together.
        rows: Sequences (or stretches of them) that were examined.
        steps: Steps of the longest.
        flow: The gradient's way back through time.
        jacobians: What one step does, at steps evenly taken.
        spans: What many steps do.
        lyapunov: What a step does in the long run; None where the sequences have one step.
        gates: Openness and saturation.
    """

    name: str
    cell: str
    units: int
    rows: int
    steps: int
    flow: GradientFlow
    jacobians: StateJacobians
    spans: SpanSingularValues
    lyapunov: LyapunovExponents | None
    gates: Gates

    def to_dict(self) -> dict[str, Any]:
        """As `Result` has it; of singular values the largest, the middle and the smallest, medians over the rows."""
        ends = {"largest": 0, "smallest": -1}
        told = {name: np.nanmedian(self.jacobians.singular[..., at], 1) for name, at in ends.items()}
        told["median"] = np.nanmedian(np.median(self.jacobians.singular, -1), 1)
        told |= {"steps": self.jacobians.steps, "radius": np.nanmedian(self.jacobians.radius, 1)}
        return super().to_dict() | {"jacobians": plain(told)}

    def __str__(self) -> str:
        found = (self.flow, self.jacobians, self.spans, self.lyapunov, self.gates)
        return "\n".join(str(each) for each in found if each is not None)

    def plot(self, axes: Any = None) -> Any:
        """The gradient's way back through time."""
        return self.flow.plot(axes)


@dataclass(frozen=True, eq=False)
class Inspection(Result):
    """What was found of a recurrent layer, each of its layers and directions by itself.

    Attributes:
        name: The layer's name in its model.
        parts: Each layer and direction.
        capacity: Its memory capacity, of the last layer that runs forward on what runs forward; None where none does.
    """

    name: str
    parts: list[Part]
    capacity: MemoryCapacity | None

    @property
    def words(self) -> list[str]:
        """What follows from the numbers, a sentence or two each."""
        said = []
        for part in self.parts:
            where = f"{part.name}: " if len(self.parts) > 1 else ""
            said.append(where + part.flow.words)
            said += [where + each for each in _of_activities(part.gates)]
        return said + ([self.capacity.words] if self.capacity is not None else [])

    def _derived(self) -> tuple[str, ...]:
        """See `Result`."""
        return ("words",)

    def __str__(self) -> str:
        found = [*self.parts, self.capacity] if self.capacity is not None else self.parts
        return "\n\n".join(str(each) for each in found)

    def plot(self, axes: Any = None) -> Any:
        """The gradient's way back through time, a curve for each layer and direction."""
        for k, part in enumerate(self.parts):
            axes = part.flow.plot(axes, label=part.name, colour=f"C{k}")
        return axes


def inspect(
    model: nn.Module | Recording,
    x: Any = None,
    *,
    ends: int = 32,
    span: int = 1000,
    seed: int = 0,
    **how: Unpack[How],
) -> Inspection:
    """Gradient flow, Jacobians, Lyapunov exponents, gates and memory capacity of every layer and direction.

    Jacobians are those of the longest sequences, up to eight, and fewer of wide states; singular values and radii are
    found at up to 64 steps of them.

    Args:
        model: A module with a recurrent layer, or what `record` made of one.
        x: What the module is called with (see `record`).
        ends: See `gradient_flow`.
        span: See `gradient_flow`.
        seed: Of the random gradients and of the noise that measures memory capacity.
        **how: Further arguments of `record`.

    Raises:
        AnalysisError: The model cannot be examined (see `record`).

    Example:
        >>> import torch
        >>> found = inspect(nn.GRU(3, 8), torch.zeros(20, 2, 3))
        >>> found.parts[0].flow.verdict
        'vanishes'
    """
    recording = recorded(model, x, how, inspect)
    parts = []
    for system in recording.systems:
        few, units = _few_rows(system), sum(system.fields.values())
        spread, block = _steps(few)
        flow = gradient_flow(system, ends=ends, span=span, bound=False, seed=seed)
        lyapunov = None
        if system.steps > 1:
            lyapunov = lyapunov_exponents(few, count=min(units, MOST_EXPONENTS), seed=seed)
        parts.append(
            Part(
                name=system.name,
                cell=system.form.name,
                units=units,
                rows=system.x.shape[1],
                steps=system.steps,
                flow=replace(flow, bound=largest_factor(few)),
                jacobians=state_jacobians(few, steps=spread),
                spans=state_jacobians(few, steps=block).over_spans(),
                lyapunov=lyapunov,
                gates=gates(system),
            )
        )
    return Inspection(recording.name, parts, _capacity(recording, seed))


def _few_rows(system: System) -> System:
    """The longest rows, as many as have Jacobians of a bearable size."""
    units = sum(system.fields.values())
    count = min(len(system.lengths), MOST_ROWS, max(1, NUMBERS // (MOST_STEPS * units**2)))
    rows = system.lengths.argsort(descending=True, stable=True)[:count]
    return system.rows(rows)


def _steps(system: System) -> tuple[list[int], list[int]]:
    """Steps evenly taken over all there are, and steps in a row from the middle."""
    T = system.steps
    spread = sorted({int(t) for t in np.linspace(0, T - 1, min(T, MOST_STEPS)).round()})
    begun = max(0, (T - MOST_STEPS) // 2)
    return spread, list(range(begun, min(T, begun + MOST_STEPS)))


def _of_activities(found: Gates) -> list[str]:
    """What is to be said of gates and units, where there is something."""
    said = []
    for each in found.activities:
        if each.dead:
            said.append(
                f"{each.dead} of {len(each.left)} ReLU units of {each.name} are dead: they are 0 at every step, and no "
                "gradient passes them."
            )
        elif each.kind == "tanh" and each.saturated > 0.5:
            said.append(
                f"The tanh of {each.name} is at an end of its range {100 * each.saturated:.0f} % of the time, where "
                "little gradient passes."
            )
        elif each.kind == "gate" and each.left.mean() > 0.9:
            said.append(f"The gate {each.name} is shut {100 * each.left.mean():.0f} % of the time.")
        elif each.kind == "gate" and each.right.mean() > 0.9:
            said.append(f"The gate {each.name} is open {100 * each.right.mean():.0f} % of the time.")
    return said


def _capacity(recording: Recording, seed: int) -> MemoryCapacity | None:
    if recording.layer.reverse:
        return None
    longest = max(system.steps for system in recording.systems)
    steps = min(MOST_NOISE, max(FEWEST_NOISE, 4 * longest))
    return memory_capacity(recording, depth=0 if recording.layer.bidirectional else -1, steps=steps, seed=seed)
