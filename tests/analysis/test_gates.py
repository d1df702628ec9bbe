"""Gates: found and named in every cell, their values those that NumPy gives from the states."""

import numpy as np
import pytest
import torch
from by_hand import drawn, states_along
from torch import Tensor, nn

import recurra
from recurra.analysis import AnalysisError, Gates, gates
from recurra.cells import CATALOGUE
from recurra.math import sigmoid, tanh
from recurra.nn import Recurrent

FOUND = {
    "elman": "tanh h",
    "jordan": "tanh h, tanh V_y",
    "irnn": "relu h",
    "indrnn": "relu h",
    "integrator": "tanh g",
    "residual": "tanh g",
    "leaky": "tanh h",
    "clockwork": "tanh h",
    "lstm": "gate i, gate f, gate o, tanh g, tanh c",
    "lstm_no_forget": "gate i, gate o, tanh g, tanh c",
    "lstm_peephole": "gate i, gate f, tanh g, gate o, tanh c",
    "lstm_coupled": "gate i, gate o, tanh g, tanh c",
    "lstm_projected": "gate i, gate f, gate o, tanh g, tanh c",
    "lstm_layer_norm": "gate i, gate f, gate o, tanh g, tanh c",
    "slstm": "gate f, tanh z, gate o",
    "gru": "gate r, gate z, tanh n",
    "gru_reset_after": "gate r, gate z, tanh n",
    "gru_layer_norm": "gate r, gate z, tanh n",
    "mgu": "gate f, tanh n",
    "min_gru": "gate z",
    "min_lstm": "gate f, gate i, gate f-i, gate i-f",
    "linear_recurrence": "",
}


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def logistic(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def numbers(layer: Recurrent, x: Tensor) -> tuple[dict[str, np.ndarray], np.ndarray, list[list[np.ndarray]]]:
    """Weights by name, inputs, and the states before and after each step, (B, width)."""
    weights = {name[:-3]: p.detach().numpy() for name, p in layer.named_parameters()}
    return weights, x.numpy(), [[v[0].numpy() for v in state] for state in states_along(layer, x)]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_has_the_gates_of_its_equations(name: str) -> None:
    found = gates(drawn(name), torch.randn(6, 3, 3, dtype=torch.float64))
    assert ", ".join(f"{each.kind} {each.name}" for each in found.activities) == FOUND[name]
    for each in found.activities:
        low = {"gate": 0, "tanh": -1, "relu": 0}[each.kind]
        assert (each.over_time >= low).all()
        assert (each.over_time.shape, each.left_over_time.shape) == ((6,), (6,))
        assert (each.over_time <= (np.inf if each.kind == "relu" else 1)).all()
    assert found.gates == [each for each in found.activities if each.kind == "gate"]
    assert str(found).startswith(f"gates of Recurrent ({name})\n  ")


@pytest.mark.parametrize("lengths", [None, [6, 2, 4]])
def test_values_of_an_lstm(lengths: list[int] | None) -> None:
    layer, x = drawn("lstm"), 6 * torch.randn(6, 3, 3, dtype=torch.float64)
    found = gates(layer, x, options={"lengths": lengths})
    w, inputs, states = numbers(layer, x)
    there = np.arange(6)[:, None] < (lengths or [6, 6, 6])
    z = np.stack([inputs[t] @ w["weight_ih"].T + states[t][0] @ w["weight_hh"].T + w["bias"] for t in range(6)])
    i, f, g, o = np.split(z, 4, -1)
    c = np.stack([state[1] for state in states[1:]])
    expected = {"i": logistic(i), "f": logistic(f), "o": logistic(o), "g": np.tanh(g), "c": np.tanh(c)}
    for name, values in expected.items():
        check(found, name, values, there, low=0.1 if name in "ifo" else -0.9)


@pytest.mark.parametrize("name", ["gru", "mgu"])
def test_values_where_a_gate_stands_in_a_product(name: str) -> None:
    layer, x = drawn(name), 3 * torch.randn(5, 2, 3, dtype=torch.float64)
    found = gates(layer, x)
    w, inputs, states = numbers(layer, x)
    parts = {"gru": "r z n", "mgu": "f n"}[name].split()
    W, U, b = (dict(zip(parts, np.split(w[k], len(parts)), strict=True)) for k in ("weight_ih", "weight_hh", "bias"))
    h = np.stack([state[0] for state in states[:-1]])
    expected = {g: logistic(inputs @ W[g].T + h @ U[g].T + b[g]) for g in parts[:-1]}
    expected["n"] = np.tanh(inputs @ W["n"].T + (expected[parts[0]] * h) @ U["n"].T + b["n"])
    for gate, values in expected.items():
        check(found, gate, values, np.ones((5, 2), dtype=bool), low=-0.9 if gate == "n" else 0.1)


def check(found: Gates, name: str, values: np.ndarray, there: np.ndarray, low: float) -> None:
    """values (T, B, U) of steps that are there."""
    each, kept = found[name], values[there]
    np.testing.assert_allclose(each.mean, kept.mean(0), rtol=1e-9)
    np.testing.assert_allclose(each.left, (kept < low).mean(0))
    np.testing.assert_allclose(each.right, (kept > 0.9).mean(0))
    assert name == "c" or 0 < each.saturated < 1, "numbers that say something"
    for t in range(len(values)):
        step = values[t][there[t]]
        assert each.over_time[t] == pytest.approx(step.mean(), rel=1e-9)
        assert each.left_over_time[t] == pytest.approx((step < low).mean())
        assert each.right_over_time[t] == pytest.approx((step > 0.9).mean())


def test_slstms_gate_behind_a_logarithm_is_told_as_a_gate() -> None:
    layer, x = drawn("slstm"), torch.randn(5, 2, 3, dtype=torch.float64)
    w, inputs, states = numbers(layer, x)
    units = {name: slice(4 * k, 4 * k + 4) for k, name in enumerate("zifo")}["f"]
    h = np.stack([state[0] for state in states[:-1]])
    U = w["weight_hh"].reshape(-1, 4)[units]
    expected = logistic(inputs @ w["weight_ih"][units].T + h @ U.T + w["bias"][units])
    np.testing.assert_allclose(gates(layer, x)["f"].mean, expected.mean((0, 1)), rtol=1e-9)


def test_dead_units_are_counted() -> None:
    layer = Recurrent("irnn", 2, 5, dtype=torch.float64)
    with torch.no_grad():
        layer.get_parameter("bias_l0")[:2] = -50.0
        layer.get_parameter("bias_l0")[2:] = 50.0
    found = gates(layer, torch.randn(9, 3, 2, dtype=torch.float64))
    assert found["h"].dead == 2
    assert found["h"].left.tolist() == [1, 1, 0, 0, 0]
    assert "2 of 5 units dead" in str(found)


def test_layers_of_pytorch_and_directions() -> None:
    layer = nn.GRU(3, 4, bidirectional=True)
    with torch.no_grad():
        layer.get_parameter("bias_ih_l0")[4:8] = 20.0
        layer.get_parameter("bias_ih_l0_reverse")[4:8] = -20.0
    x = torch.randn(5, 2, 3)
    assert gates(layer, x, direction="forward")["z"].openness > 0.999
    assert gates(layer, x, direction="backward")["z"].openness < 0.001


@recurra.cell(state="h", gates="f g")
def twice(z, s):
    """The same gate is computed in two places."""
    return sigmoid(z.f) * s.h + (1 - sigmoid(z.f)) * tanh(z.g)


@recurra.cell(state="h", gates="f g")
def by_methods(z, s):
    """Functions as methods of the values."""
    f = z.f.sigmoid()
    return f * s.h + (1 - f) * z.g.tanh()


def test_a_name_that_is_none_is_told() -> None:
    found = gates(nn.LSTM(3, 4), torch.randn(5, 2, 3))
    assert "f" in found
    assert "q" not in found
    with pytest.raises(AnalysisError, match=r"unknown gate or unit 'F'; did you mean 'f'\? Known: c, f, g, i, o"):
        found["F"]


def test_what_has_no_name_has_a_number() -> None:
    x = torch.randn(5, 2, 3)
    told = [f"{each.kind}: {each.name}" for each in gates(Recurrent(twice, 3, 4), x).activities]
    assert told == ["gate: gate 1", "gate: gate 2", "tanh: tanh 1"]
    assert [each.name for each in gates(Recurrent(by_methods, 3, 4), x).activities] == ["f", "g"]
    plain = Recurrent(lambda x, s: torch.tanh(torch.sigmoid(x) * s), 3, 3)
    assert [each.name for each in gates(plain, x).activities] == ["gate 1", "tanh 1"]


def test_what_is_computed_from_parameters_is_no_unit() -> None:
    U = torch.randn(3, 3)
    plain = Recurrent(lambda x, s: torch.tanh(x + s @ torch.sigmoid(U)), 3, 3)
    assert [each.name for each in gates(plain, torch.randn(5, 2, 3)).activities] == ["tanh 1"]


def test_a_cell_with_nothing_to_hear() -> None:
    found = gates(Recurrent("linear_recurrence", 3, 4), torch.randn(5, 2, 3))
    assert found.activities == []
    assert "none: nothing in it passes" in str(found)
