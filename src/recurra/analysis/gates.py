"""Gates over time: how far they stand open, and how often they, and the squashed units, are at the end of their range.

A gate is what passes a logistic function in the cell's equations. The step is taken at all known states at once, and
every activation in it is listened to; names come from the cell's program, by what a value is made of.
"""

from dataclasses import dataclass, field
from typing import Any, Literal, Unpack

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from recurra.analysis.record import How, Recording, chosen
from recurra.analysis.result import AnalysisError, Result, drawn_on
from recurra.analysis.system import Direction, System
from recurra.engine.program import Graph
from recurra.engine.trace import Step, TraceError, trace
from recurra.errors import unknown

LOW, HIGH = 0.1, 0.9
"""Where a gate counts as shut and as open (Karpathy, Johnson & Fei-Fei 2015); a tanh unit beyond ±0.9 is saturated."""

Kind = Literal["gate", "tanh", "relu"]

KINDS: dict[str, Kind] = {
    "sigmoid": "gate",
    "log_sigmoid": "gate",
    "logsigmoid": "gate",
    "tanh": "tanh",
    "relu": "relu",
}
"""The functions that are listened to, by the name that PyTorch or a program has for them."""


@dataclass(frozen=True, eq=False)
class Activity(Result):
    """A gate, or squashed units, along a batch.

    Attributes:
        name: The net input that it is made of, as the cell has it ("f"), or the state field ("c").
        kind: "gate" for a logistic function, from 0 to 1; else "tanh" or "relu".
        mean: (U,) mean value of each unit; of a gate, how far it stands open.
        left: (U,) share of steps at which a unit is left-saturated: a gate below 0.1, a tanh below -0.9, a ReLU at 0.
        right: (U,) share at which it is right-saturated: above 0.9; of a ReLU none.
        over_time: (T,) mean over units and rows at each step.
        left_over_time: (T,) share of units and rows that are left-saturated.
        right_over_time: (T,) share that is right-saturated.
    """

    name: str
    kind: Kind
    mean: np.ndarray = field(repr=False)
    left: np.ndarray = field(repr=False)
    right: np.ndarray = field(repr=False)
    over_time: np.ndarray = field(repr=False)
    left_over_time: np.ndarray = field(repr=False)
    right_over_time: np.ndarray = field(repr=False)

    @property
    def openness(self) -> float:
        """Mean over units, steps and rows."""
        return float(self.mean.mean())

    @property
    def saturated(self) -> float:
        """Share of all values at an end of the range."""
        return float((self.left + self.right).mean())

    @property
    def dead(self) -> int:
        """Of ReLU: units that are 0 at every step of every row, so that no gradient passes them."""
        return int((self.left == 1).sum()) if self.kind == "relu" else 0

    def _derived(self) -> tuple[str, ...]:
        """See `Result`."""
        return ("openness", "saturated", "dead")

    def __str__(self) -> str:
        left, right = (f"{100 * float(v.mean()):.0f} %" for v in (self.left, self.right))
        if self.kind == "gate":
            return f"gate {self.name}: open {self.openness:.2f}; shut (< {LOW}) {left}, open (> {HIGH}) {right}"
        if self.kind == "tanh":
            return f"tanh {self.name}: saturated (beyond ±{HIGH}) {100 * self.saturated:.0f} %"
        return f"ReLU {self.name}: zero {left}; {self.dead} of {len(self.left)} units dead"

    def plot(self, axes: Any = None, label: str | None = None, colour: str = "C0") -> Any:
        """The mean over time."""
        axes = drawn_on(axes)
        axes.plot(np.arange(1, len(self.over_time) + 1), self.over_time, color=colour, label=label or self.name)
        axes.set_xlabel("time step")
        axes.set_ylabel(f"mean of {self.name}")
        return axes


@dataclass(frozen=True, eq=False)
class Gates(Result):
    """All activations of a cell along a batch.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        activities: Each, in the order of the equations.
    """

    name: str
    cell: str
    activities: list[Activity]

    @property
    def gates(self) -> list[Activity]:
        """Those that are gates."""
        return [each for each in self.activities if each.kind == "gate"]

    def __contains__(self, name: str) -> bool:
        return any(each.name == name for each in self.activities)

    def __getitem__(self, name: str) -> Activity:
        found = {each.name: each for each in self.activities}
        if name not in found:
            raise AnalysisError(unknown("gate or unit", str(name), found))
        return found[name]

    def __str__(self) -> str:
        lines = [f"gates of {self.name} ({self.cell})", *(f"  {each}" for each in self.activities)]
        return "\n".join(
            lines if self.activities else [*lines, "  none: nothing in it passes a logistic function, tanh or ReLU"]
        )

    def plot(self, axes: Any = None) -> Any:
        """How far each gate stands open over time; of a cell without gates, the share of units that are saturated."""
        axes = drawn_on(axes)
        for k, each in enumerate(self.gates):
            each.plot(axes, label=each.name, colour=f"C{k}")
        if not self.gates:
            for k, each in enumerate(self.activities):
                share = each.left_over_time + each.right_over_time
                axes.plot(np.arange(1, len(share) + 1), share, color=f"C{k}", label=f"{each.kind} {each.name}")
        axes.set_ylim(-0.02, 1.02)
        axes.set_xlabel("time step")
        axes.set_ylabel("mean openness of each gate" if self.gates else "share of units saturated")
        return axes

    def plot_saturation(self, axes: Any = None) -> Any:
        """Each unit of each gate as a dot: share of the time that it is open against share that it is shut."""
        axes = drawn_on(axes)
        for k, each in enumerate(self.gates):
            axes.plot(
                each.left, each.right, color=f"C{k}", label=each.name, linestyle="", marker="o", markersize=4, alpha=0.7
            )
        axes.plot([0, 1], [1, 0], color="0.5", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"share of the time shut (< {LOW})")
        axes.set_ylabel(f"share of the time open (> {HIGH})")
        return axes


def gates(
    model: nn.Module | Recording | System,
    x: Any = None,
    *,
    depth: int = -1,
    direction: Direction | None = None,
    **how: Unpack[How],
) -> Gates:
    """Openness and saturation of every gate, and saturation of tanh and ReLU units, over time and by unit.

    Args:
        model: A module with a recurrent layer, or what `record` made of one.
        x: What the module is called with (see `record`).
        depth: Which layer of a stack.
        direction: Which direction of a layer that has both.
        **how: Further arguments of `record`.

    Raises:
        AnalysisError: The model cannot be examined (see `record`).

    Example:
        >>> print(gates(nn.LSTM(3, 8), torch.zeros(20, 2, 3))["f"].kind)
        gate
    """
    system = chosen(model, x, depth, direction, how, gates)
    t, b = system.taken.nonzero(as_tuple=True)
    heard = listened(system, system.x[t, b], tuple(v[t, b] for v in system.old))
    place = t.cpu().numpy()
    return Gates(system.name, system.form.name, [_activity(*each, place, system.steps) for each in heard])


def listened(system: System, x: Tensor, old: tuple[Tensor, ...]) -> list[tuple[str, Kind, np.ndarray]]:
    """Take one step of many rows; the name, kind and values, (N, U), of every activation in it.

    A logarithm of a logistic function is told as the function itself.
    """
    listening = _Listening(len(x))
    with torch.no_grad(), listening:
        system.advance(x, old)
    heard = []
    for function, values in listening.heard:
        values = values.exp() if KINDS[function] == "gate" and function != "sigmoid" else values
        width = system.hidden_size if values.shape[-1] % system.hidden_size == 0 else values.shape[-1]
        heard += [(KINDS[function], part.double().cpu().numpy()) for part in values.split(width, -1)]
    names = _names(system, [kind for kind, _ in heard])
    return [(name, kind, values) for name, (kind, values) in zip(names, heard, strict=True)]


class _Listening(TorchFunctionMode):
    """Hears every activation of rows.

    Args:
        rows: How many there are; what is computed from parameters alone has none.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows
        self.heard: list[tuple[str, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "").rstrip("_")
        if name in KINDS and isinstance(found, Tensor) and found.dim() == 2 and len(found) == self.rows:
            self.heard.append((name, found))
        return found


def at_end(kind: Kind, values: np.ndarray, side: Literal["left", "right"]) -> np.ndarray:
    """Which values are at that end of their range."""
    if kind == "relu":
        return values <= 0 if side == "left" else np.zeros(values.shape, dtype=bool)
    if side == "right":
        return values > HIGH
    return values < (LOW if kind == "gate" else -HIGH)


def _activity(name: str, kind: Kind, values: np.ndarray, place: np.ndarray, steps: int) -> Activity:
    """What is told of values (N, U) of steps at `place`."""
    left, right = at_end(kind, values, "left"), at_end(kind, values, "right")
    counts = np.bincount(place, minlength=steps)

    def over_time(values: np.ndarray) -> np.ndarray:
        return np.bincount(place, values.mean(1), minlength=steps) / counts

    return Activity(
        name, kind, values.mean(0), left.mean(0), right.mean(0), over_time(values), over_time(left), over_time(right)
    )


# --- names -----------------------------------------------------------------------------------------------------------


def _names(system: System, kinds: list[Kind]) -> list[str]:
    """A name for each activation: by the cell's program where there is one that has the same ones, else a number."""
    numbered = [f"{kind} {1 + kinds[:i].count(kind)}" for i, kind in enumerate(kinds)]
    if system.cell is None:
        return numbered
    try:
        step = trace(system.cell, system.hidden_size)
    except TraceError:
        return numbered
    values = [i for i, value in enumerate(step.graph.values) if value.op in KINDS and not value.fixed]
    if [KINDS[step.graph[i].op] for i in values] != kinds:  # a body that computes something twice
        return numbered
    names: list[str] = []
    for i, number in zip(values, numbered, strict=True):
        name = _name(step, step.graph[i].args[0]) or number
        names.append(name if name not in names else f"{name} ({number})")
    return names


def _name(step: Step, value: int) -> str:
    """What a value is made of: "f", or "f-i" of a difference; of no net input, the new state field."""
    fields = {part: name for name, parts in step.new.items() for part in parts}
    for through in (False, True):
        inputs: dict[str, int] = {}
        states: dict[str, int] = {}
        _collect(step.graph, value, 1, fields, through, inputs, states)
        signs = inputs or states
        if signs:
            added, taken = ([name for name, sign in signs.items() if sign == s] for s in (1, -1))
            return "+".join(added) + "".join(f"-{name}" for name in taken)
    return ""


def _collect(
    graph: Graph,
    i: int,
    sign: int,
    fields: dict[int, str],
    through: bool,
    inputs: dict[str, int],
    states: dict[str, int],
) -> None:
    """What a value is a sum, difference or multiple of.

    Args:
        graph: The program.
        i: The value.
        sign: Its sign in what is asked for.
        fields: New state fields by value.
        through: Whether what an activation is made of counts too.
        inputs: Takes net inputs and matrices by name, with their signs.
        states: Takes new state fields likewise.
    """
    value = graph[i]
    if value.op in ("x", "U", "M"):
        inputs.setdefault(value.name, sign)
    elif i in fields:
        states.setdefault(fields[i], sign)
    elif value.op in ("add", "sub", "mul", "div", "neg") or (through and value.op in KINDS):
        for k, arg in enumerate(value.args):
            negated = value.op == "neg" or (value.op == "sub" and k == 1)
            _collect(graph, arg, -sign if negated else sign, fields, through, inputs, states)
