"""Every cell of the catalogue against the NumPy reference beside this file: outputs, final state, all gradients."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from numpy_cells import ACTIVATIONS, elman, gradients, gru, gru_reset_after, lstm

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 5, 3, 4, 6
TOLERANCE = 1e-11
"""Of the largest entry; both sides compute in double precision."""


class Case(NamedTuple):
    cell: Cell
    reference: Callable[..., tuple[np.ndarray, tuple[np.ndarray, ...]]]
    gates: str
    fields: str = "h"
    biases: tuple[str, ...] = ("b",)


CASES = {
    **{
        f"elman, {name}": Case(CATALOGUE["elman"](activation=name), lambda w, x, h, f=f: elman(w, x, h, f), "h")
        for name, f in ACTIVATIONS.items()
    },
    "lstm": Case(CATALOGUE["lstm"], lstm, "i f g o", "h c"),
    "gru": Case(CATALOGUE["gru"], gru, "r z n"),
    "gru_reset_after": Case(CATALOGUE["gru_reset_after"], gru_reset_after, "r z n", "h", ("b", "b'")),
}


def drawn_values(case: Case) -> dict[str, np.ndarray]:
    """Unequal random weights by symbol, an input and an initial state."""
    rng = np.random.default_rng(20260901)
    values = {}
    for gate in case.gates.split():
        values[f"W_{gate}"] = rng.normal(size=(HIDDEN, INPUT))
        values[f"U_{gate}"] = rng.normal(size=(HIDDEN, HIDDEN)) / 2
        values |= {f"{b}_{gate}": rng.normal(size=HIDDEN) for b in case.biases}
    values["x"] = rng.normal(size=(STEPS, ROWS, INPUT))
    return values | {field: rng.normal(size=(ROWS, HIDDEN)) for field in case.fields.split()}


def stacked(values: dict[str, np.ndarray], letter: str, case: Case) -> torch.Tensor:
    return torch.tensor(np.concatenate([values[f"{letter}_{gate}"] for gate in case.gates.split()]))


def close(found: torch.Tensor, expected: np.ndarray) -> bool:
    return bool(np.abs(found.detach().numpy() - expected).max() <= TOLERANCE * np.abs(expected).max())


def test_every_cell_has_a_reference() -> None:
    assert {case.cell.name for case in CASES.values()} == set(CATALOGUE)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_final_state_and_gradients(case: Case) -> None:
    values = drawn_values(case)
    rng = np.random.default_rng(7)
    fields = case.fields.split()
    weight_of_output = rng.normal(size=(STEPS, ROWS, HIDDEN))
    weights_of_final = [rng.normal(size=(ROWS, HIDDEN)) for _ in fields]

    def reference(values: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        return case.reference(values, values["x"], *(values[field] for field in fields))

    def loss(values: dict[str, np.ndarray]) -> np.ndarray:
        outputs, final = reference(values)
        return (outputs * weight_of_output).sum() + sum(
            (f * w).sum() for f, w in zip(final, weights_of_final, strict=True)
        )

    layer = Recurrent(case.cell, INPUT, HIDDEN, dtype=torch.float64)
    names = {"W": "weight_ih_l0", "U": "weight_hh_l0"}
    names |= {"b": "bias_l0"} if len(case.biases) == 1 else {"b": "bias_ih_l0", "b'": "bias_hh_l0"}
    assert set(names.values()) == {name for name, _ in layer.named_parameters()}
    with torch.no_grad():
        for letter, name in names.items():
            layer.get_parameter(name).copy_(stacked(values, letter, case))
    x = torch.tensor(values["x"], requires_grad=True)
    state = [torch.tensor(values[field]).unsqueeze(0).requires_grad_() for field in fields]
    outputs, final = layer(x, state)

    expected_outputs, expected_final = reference(values)
    assert close(outputs, expected_outputs)
    assert all(close(f[0], e) for f, e in zip(final, expected_final, strict=True))

    total = (outputs * torch.tensor(weight_of_output)).sum()
    for f, w in zip(final, weights_of_final, strict=True):
        total = total + (f[0] * torch.tensor(w)).sum()
    total.backward()
    expected = gradients(loss, values)
    for letter, name in names.items():
        gradient = layer.get_parameter(name).grad
        assert gradient is not None
        assert close(gradient, stacked(expected, letter, case).numpy()), name
    assert x.grad is not None
    assert close(x.grad, expected["x"])
    for field, begun in zip(fields, state, strict=True):
        assert begun.grad is not None
        assert close(begun.grad[0], expected[field]), field
