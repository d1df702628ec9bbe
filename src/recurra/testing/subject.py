"""What a check works on: a cell with sizes, weights and states drawn at random, and ways to compare two runs of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.func import functional_call

from recurra.cells import Cell
from recurra.nn import Recurrent

TOLERANCES: Mapping[torch.dtype, float] = {torch.float64: 1e-9, torch.float32: 1e-3}
"""How far two ways to the same numbers may lie apart, of the largest entry of the tensor that they are in: 64 bits
against 64, two orders of the same sums; 32 bits against 64, rounding over a few steps and back."""

SMALL = 1e-3
"""A tensor all of whose entries are smaller than this share of the run's largest is measured by that one instead: what
is left of numbers that cancel is rounding."""

Results = dict[str, Tensor]
"""Every result of a run by name: "output", "final c", and each field at every step, "c"."""

AXES = {"output": ("step", "row", "unit"), "final": ("layer", "row", "unit"), "": ("layer", "step", "row", "unit")}
"""What the axes of a result are, by the first word of its name."""


class FaultError(AssertionError):
    """What a check found wrong with a cell, in words."""


class Inapplicable(Exception):  # noqa: N818 (it is no error)
    """A check that does not concern a cell, and why."""


def fault(text: str) -> NoReturn:
    """Say what is wrong."""
    raise FaultError(text)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A cell under test.

    Attributes:
        cell: The cell.
        input_size: Width I of an input.
        hidden_size: Width H; odd, so that nothing is divided by chance. A cell in heads needs a multiple of them.
        smooth: Whether its equations have derivatives wherever a state can be, so that differences can be taken.
        state: The names of its state's fields that saved states rely on, or None.
        parameters: The names and shapes of its parameters, of those sizes, that saved models rely on, or None.
        reference: The cell once more, independently: `(weights, x, *state) -> (outputs, final state)` in NumPy, or
            None (see `recurra.testing.CellTests`).
        analytic: Whether `reference` takes complex numbers, so that its derivative is found by a complex step.
    """

    cell: Cell
    input_size: int = 3
    hidden_size: int = 5
    smooth: bool = True
    state: tuple[str, ...] | None = None
    parameters: Mapping[str, tuple[int, ...]] | None = None
    reference: Callable[..., Any] | None = None
    analytic: bool = True

    def layer(self, num_layers: int = 1, **options: Any) -> Recurrent:
        """A layer in double precision, every parameter moved away from where it begins: no two are equal."""
        options = {"dtype": torch.float64, **options}
        layer = Recurrent(self.cell, self.input_size, self.hidden_size, num_layers, **options)
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(0.3 * torch.randn_like(p))
        return layer

    def inputs(self, steps: int, rows: int) -> Tensor:
        """Random inputs, (T, B, I)."""
        return torch.randn(steps, rows, self.input_size, dtype=torch.float64)

    def begun(self, layer: Recurrent, rows: int) -> list[Tensor]:
        """A state that can occur, each row after another number of steps; fields that can be learnt ask for slopes."""
        if not rows:
            return list(layer(self.inputs(0, 0))[1])
        lengths = [1 + b % 3 for b in range(rows)]
        with torch.no_grad():
            _, final = layer(self.inputs(3, rows), lengths=lengths)
        fields = zip(self.cell.fields, final, strict=True)
        return [v.clone().requires_grad_(not f.is_bookkeeping) for f, v in fields]

    def results(
        self, layer: Recurrent, x: Tensor, state: Any = None, own: Mapping[str, Tensor] | None = None, **flags: Any
    ) -> Results:
        """Everything that a run gives; `own` are parameters to take instead of the layer's."""
        flags["return_states"] = True
        output, final, states = functional_call(layer, dict(own or {}), (x, state), flags)
        return {"output": output, **{f"final {name}": v for name, v in final._asdict().items()}, **states._asdict()}


def joined(parts: Sequence[Results], axis: str) -> Results:
    """Results of several rows ("row") or stretches of time ("step") side by side; of time, the last final state."""
    found = {}
    for name, last in parts[-1].items():
        has_axis = axis in axes(name)
        found[name] = torch.cat([part[name] for part in parts], axes(name).index(axis)) if has_axis else last
    return found


def axes(name: str) -> tuple[str, ...]:
    """What the axes of a result are."""
    return AXES.get(name.partition(" ")[0], AXES[""])


def same(
    found: Results,
    expected: Results,
    between: tuple[str, str],
    leaves: Mapping[str, Tensor] | None = None,
    tolerance: float = TOLERANCES[torch.float64],
) -> None:
    """Compare two runs: every result, and the slopes of a random weighing of all results.

    Args:
        found: One run.
        expected: The other.
        between: What each of them is, in a few words.
        leaves: What slopes are taken of, by name: shared by both runs.
        tolerance: Of the largest entry.

    Raises:
        FaultError: They differ; the text says where first and by how much.
    """
    least = SMALL * max((_size(value) for value in expected.values()), default=0.0)
    for name, value in expected.items():
        _close(found[name], value, name, between, tolerance * max(_size(value), least, SMALL**2))
    if leaves:
        weights = {name: torch.randn_like(value) for name, value in expected.items()}
        ours, theirs = (slopes(results, weights, leaves) for results in (found, expected))
        same(ours, theirs, between, tolerance=tolerance)


def slopes(results: Results, weights: Results, leaves: Mapping[str, Tensor]) -> Results:
    """The gradient of a weighing of all results with respect to each leaf; what is infinite counts nothing."""
    terms = [torch.where(v.isfinite(), v * weights[name], 0.0).sum() for name, v in results.items() if v.requires_grad]
    if not terms:
        fault("no result has a gradient: nothing that it puts out depends on its parameters")
    found = torch.autograd.grad(torch.stack(terms).sum(), list(leaves.values()), materialize_grads=True)
    return {f"the gradient of {name}": v for name, v in zip(leaves, found, strict=True)}


def _size(value: Tensor) -> float:
    """The largest finite entry."""
    return float(value.detach().masked_fill(~value.isfinite(), 0.0).abs().max()) if value.numel() else 0.0


def _close(found: Tensor, expected: Tensor, name: str, between: tuple[str, str], allowed: float) -> None:
    """Compare two tensors entry by entry; infinities must be the same, and NaN is wrong."""
    if found.shape != expected.shape:
        fault(f"{name} has the shape {tuple(found.shape)} {between[0]}, but {tuple(expected.shape)} {between[1]}")
    wrong = ~((found - expected).abs().masked_fill(found == expected, 0.0) <= allowed)
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        if name.startswith("the gradient"):
            where = f"at {list(place)}"
        else:
            where = "at " + ", ".join(f"{axis} {k}" for axis, k in zip(axes(name), place, strict=True))
        fault(
            f"{name} {where} is {found[place].item():.6g} {between[0]}, but {expected[place].item():.6g} "
            f"{between[1]} (they may differ by {allowed:.1e})"
        )
