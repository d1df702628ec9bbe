"""State Jacobians, their products and Lyapunov exponents: against NumPy, autograd and systems whose answer is known."""

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
from by_hand import drawn, joined, leaves_of, linear, states_along
from torch import Tensor, nn

from recurra.analysis import AnalysisError, gradient_flow, lyapunov_exponents, state_jacobians
from recurra.analysis.jacobians import log_singular_values
from recurra.cells import CATALOGUE
from recurra.nn import Recurrent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_against_single_steps(name: str) -> None:
    layer, x = drawn(name), torch.randn(4, 2, 3, dtype=torch.float64)
    found = state_jacobians(layer, x)
    states = states_along(layer, x)
    for t in range(4):
        for b in range(2):
            leaves = leaves_of(layer, [v[:, b : b + 1] for v in states[t]])
            _, new = layer.step(x[t, b : b + 1], tuple(leaves))
            asked = [v for v in leaves if v.requires_grad]
            rows = [
                torch.cat(
                    [
                        g.flatten()
                        for g in torch.autograd.grad(
                            u, asked, retain_graph=True, allow_unused=True, materialize_grads=True
                        )
                    ]
                )
                for u in joined(layer, new)
            ]
            D = torch.stack(rows).numpy()
            np.testing.assert_allclose(found.matrices[t, b], D, rtol=1e-9, atol=1e-12)
            np.testing.assert_allclose(found.singular[t, b], np.linalg.svd(D)[1], rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(found.radius[t, b], np.abs(np.linalg.eigvals(D)).max(), atol=1e-9)
    assert sum(found.fields.values()) == found.matrices.shape[-1]


def test_more_places_than_are_taken_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = drawn("lstm"), torch.randn(9, 3, 3, dtype=torch.float64)
    whole = state_jacobians(layer, x).matrices
    monkeypatch.setattr("recurra.analysis.system.ROWS_AT_ONCE", 4)
    np.testing.assert_allclose(state_jacobians(layer, x).matrices, whole, rtol=1e-12, atol=1e-15)


def test_ragged_rows_have_no_numbers_behind_their_end() -> None:
    found = state_jacobians(drawn("gru"), torch.randn(5, 3, 3, dtype=torch.float64), options={"lengths": [2, 5, 3]})
    there = np.arange(5)[:, None] < [2, 5, 3]
    for values in (found.matrices, found.singular, found.radius, found.norm):
        assert (np.isfinite(values.reshape(5, 3, -1)).all(-1) == there).all()


def test_the_backward_direction_counts_from_its_own_first_step() -> None:
    layer = nn.GRU(3, 4, bidirectional=True).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    alone = nn.GRU(3, 4).double()
    with torch.no_grad():
        for name, p in alone.named_parameters():
            p.copy_(layer.get_parameter(name + "_reverse"))
    found = state_jacobians(layer, x, direction="backward").matrices
    np.testing.assert_allclose(found, state_jacobians(alone, x.flip(0)).matrices, rtol=1e-9, atol=1e-12)


def test_a_stack_is_examined_layer_by_layer() -> None:
    layer = nn.LSTM(3, 4, 2).double()
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    lower, upper = nn.LSTM(3, 4).double(), nn.LSTM(4, 4).double()
    with torch.no_grad():
        for k, one in enumerate((lower, upper)):
            for name, p in one.named_parameters():
                p.copy_(layer.get_parameter(name[:-1] + str(k)))
    for depth, (one, given) in enumerate(((lower, x), (upper, lower(x)[0].detach()))):
        expected = state_jacobians(one, given).matrices
        np.testing.assert_allclose(state_jacobians(layer, x, depth=depth).matrices, expected, rtol=1e-9, atol=1e-12)


def test_some_steps_alone() -> None:
    layer, x = drawn("mgu"), torch.randn(8, 2, 3, dtype=torch.float64)
    whole, some = state_jacobians(layer, x), state_jacobians(layer, x, steps=[6, 0, 3])
    np.testing.assert_allclose(some.matrices, whole.matrices[[6, 0, 3]], rtol=1e-12)
    assert some.steps.tolist() == [6, 0, 3]
    with pytest.raises(AnalysisError, match="steps one after another are expected"):
        some.products(2)


def test_the_bound_of_the_flow_is_the_largest_norm() -> None:
    layer, x = drawn("elman"), torch.randn(9, 3, 3, dtype=torch.float64)
    flow, found = gradient_flow(layer, x), state_jacobians(layer, x)
    assert flow.bound == pytest.approx(found.norm[1:].max(), rel=1e-12)


# --- products --------------------------------------------------------------------------------------------------------


def exact(factors: Tensor) -> list[float]:
    """Logarithms of the singular values of a product, with 400 digits."""
    with mpmath.workdps(400):
        product = mpmath.eye(factors.shape[-1])
        for D in factors:
            product = mpmath.matrix(D.tolist()) * product
        return [float(mpmath.log(v)) for v in mpmath.svd_r(product, compute_uv=False)]


@pytest.mark.parametrize(("units", "steps"), [(1, 5), (3, 60), (4, 1), (4, 2), (5, 25)])
def test_products_to_the_last_singular_value(units: int, steps: int) -> None:
    factors = torch.randn(steps, 2, units, units, dtype=torch.float64)
    found = log_singular_values(factors)
    for p in range(2):
        np.testing.assert_allclose(found[p], exact(factors[:, p]), rtol=1e-7, atol=1e-9)


def test_products_of_layers_are_those_of_their_jacobians() -> None:
    found = state_jacobians(drawn("lstm", units=2), torch.randn(11, 2, 3, dtype=torch.float64))
    logs = found.products(5)
    assert logs.shape == (4, 4)
    expected = []
    for start in (0, 5):
        expected += [exact(torch.from_numpy(found.matrices[start : start + 5, b])) for b in range(2)]
    np.testing.assert_allclose(logs, expected, rtol=1e-7)
    spans = found.over_spans()
    assert spans.spans.tolist() == [1, 2, 4, 8]
    np.testing.assert_allclose(spans.log_singular[0], np.median(np.log(found.singular.reshape(-1, 4)), 0), rtol=1e-9)


def test_orthogonal_and_singular_factors() -> None:
    Q = torch.linalg.qr(torch.randn(30, 1, 4, 4, dtype=torch.float64)).Q
    np.testing.assert_allclose(log_singular_values(Q), np.zeros((1, 4)), atol=1e-12)
    np.testing.assert_allclose(log_singular_values(0.5 * Q), np.full((1, 4), -30 * math.log(2)), rtol=1e-12)
    Q[7] = torch.diag(torch.tensor([2.0, 0.0, 3.0, 0.0], dtype=torch.float64))
    found = log_singular_values(Q)
    assert torch.exp(found[0, 2:]).max() < 1e-12
    with mpmath.workdps(50):
        np.testing.assert_allclose(torch.exp(found[0, :2]), np.exp(exact(Q[:, 0])[:2]), rtol=1e-9)


def test_rows_that_end_early_have_fewer_products() -> None:
    layer, x = drawn("gru"), torch.randn(8, 3, 3, dtype=torch.float64)
    found = state_jacobians(layer, x, options={"lengths": [8, 3, 5]})
    assert found.products(4).shape == (2 + 0 + 1, 4)
    assert found.products(4, most=2).shape == (2, 4)
    with pytest.raises(AnalysisError, match="span: a whole number from 1 to 8 is expected, not 9"):
        found.products(9)


# --- Lyapunov exponents ----------------------------------------------------------------------------------------------


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues() -> None:
    V = torch.randn(4, 4, dtype=torch.float64)
    values = torch.tensor([0.9, -0.6, 0.3, 0.1], dtype=torch.float64)
    layer = linear(V @ torch.diag(values) @ torch.linalg.inv(V))
    found = lyapunov_exponents(layer, torch.randn(300, 2, 2, dtype=torch.float64), skip=100)
    np.testing.assert_allclose(found.exponents, values.abs().log(), rtol=1e-9)
    assert found.steps == 400
    assert found.rows.shape == (2, 4)
    first = lyapunov_exponents(layer, torch.randn(300, 2, 2, dtype=torch.float64), skip=100, count=2)
    np.testing.assert_allclose(first.exponents, found.exponents[:2], rtol=1e-9)
    assert "1 % is left after 44 steps" in found.words  # ln 100 / -ln 0.9


def test_a_rotation_keeps_what_it_holds() -> None:
    Q = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    found = lyapunov_exponents(linear(Q), torch.randn(50, 3, 2, dtype=torch.float64))
    np.testing.assert_allclose(found.exponents, 0, atol=1e-12)
    assert "neither grow much nor die out" in found.words


def test_one_tanh_unit_by_hand() -> None:
    layer, x = drawn("elman", inputs=1, units=1), torch.randn(40, 1, 1, dtype=torch.float64)
    w, u, b = (layer.get_parameter(n).item() for n in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    h, logs = 0.0, []
    for x_t in x.flatten().tolist():
        h = math.tanh(w * x_t + u * h + b)
        logs.append(math.log(abs(u * (1 - h * h))))
    found = lyapunov_exponents(layer, x, skip=7)
    assert found.exponents[0] == pytest.approx(np.mean(logs[7:]), rel=1e-9)


def henon(x: Tensor, s: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Hénon's map, whose exponents are known."""
    a, b = s
    return 1 - 1.4 * a * a + b + 0 * x, 0.3 * a


henon.state = "a b"  # type: ignore[attr-defined]


def test_chaotic_maps_of_known_exponents() -> None:
    logistic = Recurrent(lambda x, s: 4 * s * (1 - s) + 0 * x, 1, 1)
    x = torch.zeros(2000, 1, 1, dtype=torch.float64)
    begun = torch.full((1, 1, 1), 0.3, dtype=torch.float64)
    found = lyapunov_exponents(logistic, (x, begun))
    assert found.exponents[0] == pytest.approx(math.log(2), abs=0.01)
    assert "chaos" in found.words
    begun = begun, begun
    found = lyapunov_exponents(Recurrent(henon, 1, 1), (x, begun))
    assert found.exponents[0] == pytest.approx(0.4192, abs=0.03)  # Sprott 2003
    assert found.exponents.sum() == pytest.approx(math.log(0.3), rel=1e-9)


def test_rows_of_unequal_length_are_averaged_over_their_own_steps() -> None:
    layer, x = drawn("gru"), torch.randn(30, 3, 3, dtype=torch.float64)
    found = lyapunov_exponents(layer, x, options={"lengths": [30, 12, 2]}, skip=4)
    assert found.rows.shape == (2, 4)
    for row, (b, length) in enumerate(((0, 30), (1, 12))):
        alone = lyapunov_exponents(layer, x[:length, b : b + 1], skip=4)
        # The directions to begin with differ, so of few steps the single exponents do, but not what all volumes do.
        assert found.rows[row].sum() == pytest.approx(alone.rows[0].sum(), rel=1e-9)
    assert found.error.shape == (4,)


def test_jacobians_in_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = drawn("lstm"), torch.randn(30, 2, 3, dtype=torch.float64)
    whole = lyapunov_exponents(layer, x).exponents
    monkeypatch.setattr("recurra.analysis.jacobians.NUMBERS_AT_ONCE", 7 * 2 * 64)
    np.testing.assert_allclose(lyapunov_exponents(layer, x).exponents, whole, rtol=1e-12)


def test_a_state_that_is_overwritten_is_gone() -> None:
    layer = Recurrent(lambda x, s: torch.tanh(x), 2, 2)
    x = torch.randn(12, 2, 2)
    found = lyapunov_exponents(layer, x)
    assert (found.exponents == -np.inf).all()
    assert "gone after a step" in found.words
    assert state_jacobians(layer, x).norm.max() == 0
    assert found.to_dict()["exponents"] == [None, None]


# --- errors ----------------------------------------------------------------------------------------------------------

X = torch.zeros(4, 2, 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: state_jacobians(nn.GRU(2, 3), X, steps=[4]), "steps: whole numbers from 0 to 3 are expected, not 4"),
        (lambda: state_jacobians(nn.GRU(2, 3), X, steps=[0.5]), "steps: whole numbers"),  # type: ignore[list-item]
        (lambda: state_jacobians(nn.GRU(2, 3), X, steps=[]), "steps: at least one is expected"),
        (
            lambda: state_jacobians(nn.GRU(2, 3), X, steps=3),  # type: ignore[arg-type]
            "steps: whole numbers from 0 to 3 are expected, in a list, not 3",
        ),
        (
            lambda: state_jacobians(nn.GRU(2, 3), X).over_spans([0]),
            "spans: whole numbers from 1 to 4 are expected, not 0",
        ),
        (
            lambda: state_jacobians(nn.GRU(2, 3), X).over_spans(0),  # type: ignore[arg-type]
            "spans: whole numbers from 1 to 4 are expected, in a list, not 0",
        ),
        (
            lambda: state_jacobians(nn.GRU(2, 3), X).over_spans("a"),  # type: ignore[arg-type]
            "spans: whole numbers from 1 to 4 are expected, not 'a'",
        ),
        (lambda: state_jacobians(nn.GRU(2, 3), X).over_spans([]), "spans: at least one is expected"),
        (
            lambda: lyapunov_exponents(nn.GRU(2, 3), X, seed=0.5),  # type: ignore[arg-type]
            "seed: a whole number from 0 to 18446744073709551615 is expected, not 0.5",
        ),
        (
            lambda: state_jacobians(nn.LSTM(2, 1024), torch.zeros(40, 2, 2)),
            r"40 steps of 2 sequences with 2048 units would take 2.5 GiB; give fewer sequences, or steps=",
        ),
        (lambda: lyapunov_exponents(nn.GRU(2, 3), X, count=4), "count: a whole number from 1 to 3 is expected, not 4"),
        (lambda: lyapunov_exponents(nn.GRU(2, 3), X, skip=-1), "skip: a whole number from 0 is expected, not -1"),
        (lambda: lyapunov_exponents(nn.GRU(2, 3), X, skip=4), "no sequence has more than 4 steps; the longest has 4"),
    ],
)
def test_what_cannot_be_is_told(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(AnalysisError, match=text):
        call()
