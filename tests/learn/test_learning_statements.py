"""What the textbook says of learning, each against its own equation, written out step by step in double precision.

The identifiers are those of docs/equations.md.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients_by_name import random
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from recurra import learn
from recurra.engine import native
from recurra.nn import Recurrent

STEPS, INPUT, HIDDEN = 7, 2, 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(4)


def drawn(cell: str) -> Recurrent:
    """A layer whose every parameter is drawn anew."""
    layer = Recurrent(cell, INPUT, HIDDEN, dtype=torch.float64)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.8)
    return layer


def weights(layer: Recurrent) -> tuple[Tensor, Tensor, Tensor]:
    """W, U and b, of all gates."""
    W, U, b = (layer.get_parameter(name).detach() for name in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    return W, U, b


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-13)


# --- D1: the loss and its gradient -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["bptt", "rtrl"])
def test_d1_loss_and_gradient_are_sums_over_time(rule: str) -> None:
    """Eqs 6.26-6.28: L_t = L(y_t, g(h_t)), L = Σ L_t, ∂L/∂U = Σ ∂L_t/∂U, a step's loss at a time."""
    layer, V, labels = drawn("elman"), random(4, HIDDEN), torch.tensor([1, 0, 3, 2, 2, 0, 1])
    x, (W, U, b) = random(STEPS, INPUT), weights(layer)
    U.requires_grad_()
    h, losses = torch.zeros(HIDDEN, dtype=torch.float64), []
    for t in range(STEPS):
        h = torch.tanh(U @ h + W @ x[t] + b)
        losses.append(-torch.log_softmax(V @ h, 0)[labels[t]])
    of_each = [torch.autograd.grad(L_t, U, retain_graph=True)[0] for L_t in losses]

    def loss(y: Tensor, t: int) -> Tensor:
        return cross_entropy(V @ y, labels[t])

    for t in range(STEPS):
        alone = learn.gradients(layer, x, lambda y, s, t=t: loss(y, s) * (s == t), rule)
        same(alone["weight_hh_l0"], of_each[t])
    same(learn.gradients(layer, x, loss, rule)["weight_hh_l0"], torch.stack(of_each).sum(0))
    found = learn.explain_bptt(layer, x, loss)
    same(found.losses, torch.stack(losses).detach())
    same(found.loss, torch.stack(losses).detach().sum())


# --- D2: backpropagation through time, and the same for gated cells --------------------------------------------------


def written_out(layer: Recurrent) -> tuple[learn.WrittenOut, Tensor, Tensor]:
    """What a layer explains of one row, with its x, (T, I), and ∂L_t/∂h_t, (T, H): L_t = C_t · h_t."""
    x, C = random(STEPS, 1, INPUT), random(STEPS, HIDDEN)
    return learn.explain_bptt(layer, x, lambda y, t: (y[0] * C[t]).sum()), x[:, 0], C


def same_gradients(found: learn.WrittenOut, W: Tensor, U: Tensor, b: Tensor) -> None:
    for name, expected in {"weight_ih_l0": W, "weight_hh_l0": U, "bias_l0": b}.items():
        same(found.gradients[name], expected)


def test_d2_errors_and_gradients_of_a_simple_network() -> None:
    """Eqs 6.29-6.39: δ_(t,k) = diag(f'(z_k)) Uᵀ δ_(t,k+1), and its sums, by U, W and b."""
    layer = drawn("elman")
    (W, U, b), (found, x, C) = weights(layer), written_out(layer)
    h = [torch.zeros(HIDDEN, dtype=torch.float64)]  # of step k - 1 at place k
    for x_k in x:
        h.append(torch.tanh(U @ h[-1] + W @ x_k + b))
    by_U, by_W, by_b = torch.zeros_like(U), torch.zeros_like(W), torch.zeros_like(b)
    for t in range(STEPS):
        delta = (1 - h[t + 1] ** 2) * C[t]
        for k in range(t, -1, -1):
            if k < t:
                delta = torch.diag(1 - h[k + 1] ** 2) @ U.T @ delta
            same(found.net_inputs["h_l0"][t, k, 0], delta)
            by_U += torch.outer(delta, h[k])
            by_W += torch.outer(delta, x[k])
            by_b += delta
        assert not found.net_inputs["h_l0"][t, t + 1 :].any()
    same_gradients(found, by_W, by_U, by_b)


def test_d2_errors_and_gradients_of_an_lstm() -> None:
    """At c: ∂L_t/∂c_k = f_(k+1) ⊙ ∂L_t/∂c_(k+1) + o_k ⊙ (1 - tanh²(c_k)) ⊙ ∂L_t/∂h_k."""
    layer = drawn("lstm")
    (W, U, b), (found, x, C) = weights(layer), written_out(layer)
    h, c, gates = [torch.zeros(HIDDEN, dtype=torch.float64)], [torch.zeros(HIDDEN, dtype=torch.float64)], []
    for x_k in x:
        i, f, g, o = (U @ h[-1] + W @ x_k + b).chunk(4)
        i, f, g, o = i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()
        gates.append((i, f, g, o))
        c.append(f * c[-1] + i * g)
        h.append(o * c[-1].tanh())
    by_U, by_W, by_b = torch.zeros_like(U), torch.zeros_like(W), torch.zeros_like(b)
    for t in range(STEPS):
        at_h, at_c = C[t], torch.zeros(HIDDEN, dtype=torch.float64)
        for k in range(t, -1, -1):
            i, f, g, o = gates[k]
            at_c = at_c + o * (1 - c[k + 1].tanh() ** 2) * at_h
            same(found.states["h_l0"][t, k, 0], at_h)
            same(found.states["c_l0"][t, k, 0], at_c)
            of_o = at_h * c[k + 1].tanh() * o * (1 - o)
            of_i, of_f, of_g = at_c * g * i * (1 - i), at_c * c[k] * f * (1 - f), at_c * i * (1 - g**2)
            for gate, delta in {"i": of_i, "f": of_f, "g": of_g, "o": of_o}.items():
                same(found.net_inputs[f"{gate}_l0"][t, k, 0], delta)
            delta = torch.cat([of_i, of_f, of_g, of_o])
            by_U += torch.outer(delta, h[k])
            by_W += torch.outer(delta, x[k])
            by_b += delta
            at_h, at_c = U.T @ delta, f * at_c
    same_gradients(found, by_W, by_U, by_b)


def test_d2_errors_and_gradients_of_a_gru() -> None:
    """At h: ∂L_t/∂h_(k-1) = z_k ⊙ ∂L_t/∂h_k + (…), each other path with the factor 1 - z_k."""
    layer = drawn("gru")
    (W, U, b), (found, x, C) = weights(layer), written_out(layer)
    U_r, U_z, U_n = U.chunk(3)
    h, gates = [torch.zeros(HIDDEN, dtype=torch.float64)], []
    for x_k in x:
        of_r, of_z, of_n = (W @ x_k + b).chunk(3)
        r, z = (of_r + U_r @ h[-1]).sigmoid(), (of_z + U_z @ h[-1]).sigmoid()
        n = torch.tanh(of_n + U_n @ (r * h[-1]))
        gates.append((r, z, n))
        h.append(z * h[-1] + (1 - z) * n)
    by_U, by_W, by_b = torch.zeros_like(U), torch.zeros_like(W), torch.zeros_like(b)
    for t in range(STEPS):
        at_h = C[t]
        for k in range(t, -1, -1):
            r, z, n = gates[k]
            same(found.states["h_l0"][t, k, 0], at_h)
            of_n = (1 - z) * (1 - n**2) * at_h
            of_z = (1 - z) * z * (h[k] - n) * at_h
            of_r = r * (1 - r) * h[k] * (U_n.T @ of_n)
            for gate, delta in {"r": of_r, "z": of_z, "n": of_n}.items():
                same(found.net_inputs[f"{gate}_l0"][t, k, 0], delta)
            by_U += torch.cat([torch.outer(of_r, h[k]), torch.outer(of_z, h[k]), torch.outer(of_n, r * h[k])])
            by_W += torch.outer(torch.cat([of_r, of_z, of_n]), x[k])
            by_b += torch.cat([of_r, of_z, of_n])
            at_h = z * at_h + r * (U_n.T @ of_n) + U_z.T @ of_z + U_r.T @ of_r
    same_gradients(found, by_W, by_U, by_b)


# --- D3: real-time recurrent learning --------------------------------------------------------------------------------


def influence(f: Callable[[Tensor], Tensor], U: Tensor, at_once: Tensor, before: Tensor) -> Tensor:
    """Eq. 6.43, for each entry (i, j) of a matrix: f'(z) ⊙ (I_i(v_j) + U ∂h/∂(i, j)); (H, H, columns) of h, i, j."""
    found = torch.empty_like(before)
    for i in range(before.shape[1]):
        for j in range(before.shape[2]):
            unit = torch.zeros(len(U), dtype=torch.float64)
            unit[i] = at_once[j]
            found[:, i, j] = f(unit + U @ before[:, i, j])
    return found


@pytest.mark.parametrize("backend", ["native", "eager"] if native.why_not() is None else ["eager"])
def test_d3_the_gradient_of_every_step_while_the_weights_move(backend: Any) -> None:
    """Eqs 6.40-6.44, online: an update after every step, the influence carried on with the weights of its own step."""
    layer = drawn("elman")
    x, wanted = random(STEPS, INPUT), random(STEPS, HIDDEN)
    W, U, b = (p.clone() for p in weights(layer))
    h, one = torch.zeros(HIDDEN, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    J = [torch.zeros(HIDDEN, *p.reshape(HIDDEN, -1).shape, dtype=torch.float64) for p in (U, W, b)]
    rule, optimizer = learn.RTRL(backend=backend).begin(layer), torch.optim.SGD(layer.parameters(), lr=0.1)
    for t in range(STEPS):
        old, h = h, torch.tanh(U @ h + W @ x[t] + b)
        slope = 1 - h**2
        J = [influence(lambda v, s=slope: s * v, U, v, of) for v, of in zip((old, x[t], one), J, strict=True)]
        by_U, by_W, by_b = (torch.einsum("hij,h->ij", of, 2 * (h - wanted[t])) for of in J)
        output = rule(x[t])
        same(output.detach(), h)
        assert rule.step((output - wanted[t]).square().sum())
        for name, expected in {"weight_hh_l0": by_U, "weight_ih_l0": by_W, "bias_l0": by_b[:, 0]}.items():
            found = layer.get_parameter(name).grad
            assert found is not None
            same(found, expected)
        optimizer.step()
        optimizer.zero_grad()
        U, W, b = U - 0.1 * by_U, W - 0.1 * by_W, b - 0.1 * by_b[:, 0]


# --- D4: the two compared --------------------------------------------------------------------------------------------


def numbers_kept(steps: int, units: int) -> int:
    """Numbers that BPTT keeps for its way back, of one row."""
    layer, kept = Recurrent("elman", INPUT, units, backend="eager"), []
    parameters = {p.data_ptr() for p in layer.parameters()}

    def pack(v: Tensor) -> Tensor:
        if v.untyped_storage().data_ptr() not in parameters:
            kept.append(v.numel())
        return v

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda v: v):
        layer(torch.randn(steps, 1, INPUT))
    return sum(kept)


def numbers_carried(steps: int, units: int) -> int:
    """Numbers that RTRL carries along, of one row."""
    rule, layer = learn.RTRL(), Recurrent("elman", INPUT, units)
    y, _ = rule.along(layer, torch.randn(steps, 1, INPUT))
    y.sum().backward()
    return sum(v.numel() for v in rule.carried().values())


def operations(rule: learn.Rule, steps: int, units: int) -> int:
    """Operations in the matrix products of a run and its gradient."""
    layer, x = Recurrent("elman", INPUT, units, backend="eager"), torch.randn(steps, 1, INPUT)
    with FlopCounterMode(display=False) as counter:
        rule.along(layer, x)[0].sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize("units", [8, 16, 32])
@pytest.mark.parametrize("steps", [10, 20, 40])
def test_d4_what_the_two_cost_against_steps_and_units(steps: int, units: int) -> None:
    """End of §6.4: BPTT keeps every step; RTRL carries H² (H + I + 1) numbers for any T, and multiplies all by U."""
    T, H = steps, units
    assert numbers_kept(T, H) == T * (2 * H + INPUT)  # h_(k-1), h_k and x_k
    influence = H * H * (H + INPUT + 1)
    assert numbers_carried(T, H) == influence
    there_and_back = 3 * T * 2 * H * (H + INPUT)
    assert 0.9 * there_and_back < operations(learn.BPTT(), T, H) < there_and_back
    forward = T * 2 * H * influence
    assert forward < operations(learn.RTRL(backend="eager"), T, H) < 1.2 * forward
