"""A cell against an independent reference in NumPy."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from recurra.cells import Cell
from recurra.testing.subject import TOLERANCES, Subject, fault, same, slopes

STEPS, ROWS = 4, 3
TINY = 1e-30
"""The length of a complex step: f'(a) = Im f(a + iε) / ε, with no difference in which digits could be lost."""


def by_symbol(cell: Cell, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One layer's stacked parameters, named as in `Cell.shapes`, taken apart under their symbols (`Cell.symbols`).

    W_g (H, I); U_g (H, K), diagonal (H,), or in blocks (heads, H / heads, K / heads); b_g, b'_g (H,).
    """
    every = (*cell.gates, *cell.inputs)
    found = {}
    for name, value in parameters.items():
        if name == "weight_hh":
            blocks = value.chunk(len(cell.gates), 1 if cell.recurrent == "blocks" else 0)
            found |= {f"U_{gate}": v for gate, v in zip(cell.gates, blocks, strict=True)}
        elif name == "bias_hh":
            found |= {f"b'_{g}": v for g, v in zip(cell.gates, value.chunk(len(cell.gates)), strict=True)}
        elif name in ("weight_ih", "bias", "bias_ih"):
            letter = name[0].upper() if name == "weight_ih" else "b"
            found |= {f"{letter}_{g}": v for g, v in zip(every, value.chunk(len(every)), strict=True)}
        else:
            found[name] = value
    return found


def compare(subject: Subject) -> None:
    """A run of one layer against the reference; then, where that is analytic, the slope along a random direction.

    Raises:
        FaultError: They differ.
    """
    assert subject.reference is not None
    cell, layer = subject.cell, subject.layer()
    x, begun = subject.inputs(STEPS, ROWS).requires_grad_(), subject.begun(layer, ROWS)
    leaves = {**dict(layer.named_parameters()), "x": x}
    leaves |= {f"state {f.name}": v for f, v in zip(cell.fields, begun, strict=True) if v.requires_grad}
    results = subject.results(layer, x, begun)
    results = {name: v for name, v in results.items() if name == "output" or name.startswith("final")}
    values = {name: v.detach().numpy() for name, v in leaves.items()}

    expected = {name: torch.from_numpy(v) for name, v in _referred(subject, subject.reference, values, begun).items()}
    same(results, expected, ("as computed", "in the reference"))
    if not subject.analytic:
        return
    weights = {name: torch.randn_like(v) for name, v in expected.items()}
    along = {name: torch.randn_like(v) for name, v in leaves.items()}
    ours = slopes(results, weights, leaves).values()
    parts = torch.cat([(slope * d).flatten() for slope, d in zip(ours, along.values(), strict=True)])
    moved = {name: v + TINY * 1j * along[name].numpy() for name, v in values.items()}
    there = _referred(subject, subject.reference, moved, begun)
    theirs = sum(float(np.sum(np.imag(v) * weights[name].numpy())) for name, v in there.items()) / TINY
    if not abs(float(parts.sum()) - theirs) <= TOLERANCES[torch.float64] * float(parts.abs().sum()):
        fault(f"the derivative along a random direction is {float(parts.sum()):.6g}, in the reference {theirs:.6g}")


def _referred(
    subject: Subject, reference: Callable[..., object], values: Mapping[str, np.ndarray], begun: list[Tensor]
) -> dict[str, np.ndarray]:
    """The reference's results under the names of ours."""
    cell = subject.cell
    parameters = {name: values[f"{name}_l0"] for name in cell.shapes(subject.input_size, subject.hidden_size)}
    weights = {
        k: v.numpy() for k, v in by_symbol(cell, {k: torch.from_numpy(v) for k, v in parameters.items()}).items()
    }
    state = [values.get(f"state {f.name}", v.detach().numpy())[0] for f, v in zip(cell.fields, begun, strict=True)]
    found = reference(weights, values["x"], *state)
    if not isinstance(found, tuple) or len(found) != 2 or len(found[1]) != len(cell.fields):
        fields = ", ".join(f.name for f in cell.fields)
        fault(f"the reference should return (outputs, final state), the state a tuple of {fields}")
    outputs, final = found
    named = {f"final {f.name}": np.asarray(v)[None] for f, v in zip(cell.fields, final, strict=True)}
    return {"output": np.asarray(outputs), **named}
