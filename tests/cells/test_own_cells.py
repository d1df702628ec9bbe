"""Cells of one's own, one for each thing the form can say, against loops written out by hand: values and gradients."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.cells import Cell, cell
from recurra.math import exp, log_sigmoid, maximum, norm, relu, sigmoid, tanh, where
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 4, 3, 5, 6

Loop = Callable[..., tuple[list[Tensor], tuple[Tensor, ...]]]
"""`loop(w, x, *state) -> (output of every step, final state)`, w being the layer's parameters by name."""


def agree(one: Cell, loop: Loop, state: bool = True) -> None:
    """Whether a layer of the cell and the loop give the same outputs, final state and gradients.

    Args:
        one: The cell.
        loop: The same, written out.
        state: Begin with a random state; otherwise with the cell's own, which the loop is given too.
    """
    torch.manual_seed(3)
    layer = Recurrent(one, INPUT, HIDDEN, dtype=torch.float64)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.7)
    w = {name.removesuffix("_l0"): p for name, p in layer.named_parameters()}
    x = torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64, requires_grad=True)
    begun = one.initial_state(ROWS, HIDDEN, x)
    if state:
        begun = tuple(torch.randn_like(field).requires_grad_() for field in begun)
    inputs = [*w.values(), x, *(begun if state else ())]

    outputs, final = layer(x, [field.unsqueeze(0) for field in begun] if state else None)
    results = [outputs, *(field.squeeze(0) for field in final)]
    loop_outputs, loop_final = loop(w, x, *begun)
    expected = [torch.stack(loop_outputs), *loop_final]
    weights = [torch.randn_like(result) for result in expected]
    for found, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10)
    gradients = (torch.autograd.grad(_sum(v, weights), inputs, allow_unused=True) for v in (results, expected))
    for p, found, wanted in zip(inputs, *gradients, strict=True):
        assert wanted is not None
        assert found is not None, "a parameter has no part in the result"
        assert wanted.abs().max() > 0
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-10, msg=lambda text, p=p: f"{p.shape}: {text}")


def _sum(values: list[Tensor], weights: list[Tensor]) -> Tensor:
    finite = [(torch.where(v.isfinite(), v, 0) * w).sum() for v, w in zip(values, weights, strict=True)]
    return torch.stack(finite).sum()


def gates(w: dict[str, Tensor], names: str) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """(W, U, b) of each gate, cut out of the stacked parameters by counting rows."""
    found = {}
    for i, name in enumerate(names.split()):
        rows = slice(i * HIDDEN, (i + 1) * HIDDEN)
        found[name] = (w["weight_ih"][rows], w["weight_hh"][rows], w["bias"][rows])
    return found


def net(weights: tuple[Tensor, Tensor, Tensor], x: Tensor, h: Tensor) -> Tensor:
    W, U, b = weights
    return x @ W.T + h @ U.T + b


# --- vectors ---------------------------------------------------------------------------------------------------------


@cell(state="h c", gates="i f g o", vectors="v_i v_f v_o")
def lstm_peephole(z, s, p):
    i = sigmoid(z.i + p.v_i * s.c)
    f = sigmoid(z.f + p.v_f * s.c)
    c = f * s.c + i * tanh(z.g)
    o = sigmoid(z.o + p.v_o * c)
    return o * tanh(c), c


def test_peepholes() -> None:
    def loop(w, x, h, c):
        g, outputs = gates(w, "i f g o"), []
        for x_t in x:
            i = 1 / (1 + (-net(g["i"], x_t, h) - c * w["v_i"]).exp())
            f = 1 / (1 + (-net(g["f"], x_t, h) - c * w["v_f"]).exp())
            c = f * c + i * net(g["g"], x_t, h).tanh()
            h = c.tanh() / (1 + (-net(g["o"], x_t, h) - c * w["v_o"]).exp())
            outputs.append(h)
        return outputs, (h, c)

    agree(lstm_peephole, loop)


# --- state of another width, a further matrix ------------------------------------------------------------------------


@cell(state="h:proj_size c", gates="i f g o", matrices={"W_hr": ("proj_size", "H")}, biases=2)
def lstm_projected(z, s, p, *, proj_size=2):
    i, f, o = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o)
    c = f * s.c + i * tanh(z.g)
    return p.W_hr @ (o * tanh(c)), c


@pytest.mark.parametrize("proj_size", [1, 4])
def test_projected_state_is_pytorchs(proj_size: int) -> None:
    peer = torch.nn.LSTM(INPUT, HIDDEN, proj_size=proj_size, dtype=torch.float64)
    names = {"weight_ih": "weight_ih", "weight_hh": "weight_hh", "bias_ih": "bias_ih", "bias_hh": "bias_hh"}

    def loop(w, x, h, c):
        parameters = {f"{name}_l0": w[name] for name in names} | {"weight_hr_l0": w["W_hr"]}
        outputs, (h, c) = torch.func.functional_call(peer, parameters, (x, (h.unsqueeze(0), c.unsqueeze(0))))
        return list(outputs), (h[0], c[0])

    agree(lstm_projected(proj_size=proj_size), loop)


@cell(state="h y:outputs", gates="h", matrices={"V": ("outputs", "H")})
def jordan(z, s, p, *, outputs=3):
    """Jordan 1986: what is fed back is the output."""
    h = sigmoid(z.h(s.y))
    return h, p.V @ h


def test_an_operand_of_another_width() -> None:
    def loop(w, x, h, y):
        outputs = []
        for x_t in x:
            h = (x_t @ w["weight_ih"].T + y @ w["weight_hh"].T + w["bias"]).sigmoid()
            y = h @ w["V"].T
            outputs.append(h)
        return outputs, (h, y)

    one = jordan(outputs=2)
    assert one.shapes(5, 6)["weight_hh"] == (6, 2)
    layer = Recurrent(one, INPUT, HIDDEN)
    assert layer(torch.zeros(2, 1, INPUT))[1].y.shape == (1, 1, 2)
    agree(one, loop, state=False)


# --- how U multiplies ------------------------------------------------------------------------------------------------


@cell(state="h", gates="h", recurrent="diagonal")
def independent(z, s):
    """IndRNN, Li et al. 2018."""
    return relu(z.h)


def test_diagonal() -> None:
    def loop(w, x, h):
        outputs = []
        for x_t in x:
            h = (x_t @ w["weight_ih"].T + w["weight_hh"] * h + w["bias"]).clamp(min=0)
            outputs.append(h)
        return outputs, (h,)

    agree(independent, loop)


def clocks(hidden_size: int, *, periods: tuple[int, ...]) -> Tensor:
    """The period of every unit: equal groups, slowest last."""
    return torch.tensor([float(period) for period in periods]).repeat_interleave(hidden_size // len(periods))


def faster_sees_slower(hidden_size: int, *, periods: tuple[int, ...]) -> Tensor:
    period = clocks(hidden_size, periods=periods)
    return (period.unsqueeze(1) <= period.unsqueeze(0)).float()


@cell(state="h t:1", gates="h", recurrent=faster_sees_slower, constants={"T": clocks})
def clockwork(z, s, p, *, periods=(1, 2, 4)):
    """Koutník et al. 2014: a unit of period T moves at every T-th step; the time since the start is in the state."""
    return where(s.t % p.T == 0, tanh(z.h), s.h), s.t + 1


def test_a_constant_mask_and_time_kept_in_the_state() -> None:
    def loop(w, x, h, t):
        periods = torch.tensor([1, 1, 2, 2, 4, 4])
        U = torch.stack([w["weight_hh"][i] * (periods[i] <= periods) for i in range(HIDDEN)])
        outputs = []
        for step, x_t in enumerate(x):
            new = (x_t @ w["weight_ih"].T + h @ U.T + w["bias"]).tanh()
            h = torch.cat([(new if step % int(periods[i]) == 0 else h)[:, i : i + 1] for i in range(HIDDEN)], 1)
            outputs.append(h)
        return outputs, (h, t + len(x))

    agree(clockwork, loop, state=False)
    layer = Recurrent(clockwork, INPUT, HIDDEN)
    assert "mask_hh_l0" not in layer.state_dict(), "constants are not saved"
    assert "T_l0" not in layer.state_dict()
    x = torch.randn(7, 2, INPUT)
    whole, end = layer(x)
    first, carried = layer(x[:3])
    rest, carried = layer(x[3:], carried)
    torch.testing.assert_close(torch.cat([first, rest]), whole)
    assert carried.t.unique().tolist() == end.t.unique().tolist() == [7]
    again = torch.zeros(7, 2, dtype=torch.bool)
    again[3, 1] = True
    torch.testing.assert_close(layer(x, reset=again)[0][3:, 1], layer(x[3:])[0][:, 1])


@cell(state="h c n m", gates="z i f o", recurrent="blocks", start={"m": float("-inf")})
def slstm(z, s, *, heads=2):
    """sLSTM, Beck et al. 2024, eqs 8-17: exponential gates made safe by the running maximum m, from -∞."""
    log_f = log_sigmoid(z.f)
    m = maximum(log_f + s.m, z.i)
    i, f = exp(z.i - m), exp(log_f + s.m - m)
    c = f * s.c + i * tanh(z.z)
    n = f * s.n + i
    return sigmoid(z.o) * c / n, c, n, m


def test_blocks_by_head_and_a_start_at_minus_infinity() -> None:
    def loop(w, x, h, c, n, m):
        per_head = HIDDEN // 2
        U = {}
        for g, name in enumerate("zifo"):
            blocks = [w["weight_hh"][head, g * per_head : (g + 1) * per_head] for head in range(2)]
            U[name] = torch.block_diag(*blocks)
        W, b = w["weight_ih"].chunk(4), w["bias"].chunk(4)
        c = n = torch.zeros_like(h)
        m, outputs = None, []
        for x_t in x:
            a = {name: x_t @ W[g].T + h @ U[name].T + b[g] for g, name in enumerate("zifo")}
            log_f = -torch.log1p((-a["f"]).exp())
            new_m = a["i"] if m is None else torch.maximum(log_f + m, a["i"])
            f = torch.zeros_like(h) if m is None else (log_f + m - new_m).exp()
            i, m = (a["i"] - new_m).exp(), new_m
            c, n = f * c + i * a["z"].tanh(), f * n + i
            h = a["o"].sigmoid() * c / n
            outputs.append(h)
        assert m is not None
        return outputs, (h, c, n, m)

    assert slstm.shapes(5, 6)["weight_hh"] == (2, 12, 3)
    assert slstm.initial_state(1, 6, torch.zeros(0))[3].isneginf().all()
    agree(slstm, loop, state=False)


# --- net inputs with another operand, in parts, without U ------------------------------------------------------------


@pytest.mark.parametrize("order", ["f n", "n f"])
def test_another_operand(order: str) -> None:
    @cell(state="h", gates=order)
    def minimal(z, s):
        """Minimal gated unit, Zhou et al. 2016."""
        f = sigmoid(z.f)
        return (1 - f) * s.h + f * tanh(z.n(f * s.h))

    def loop(w, x, h):
        g, outputs = gates(w, order), []
        for x_t in x:
            f = net(g["f"], x_t, h).sigmoid()
            h = h + f * (net(g["n"], x_t, f * h).tanh() - h)
            outputs.append(h)
        return outputs, (h,)

    agree(minimal, loop)


@cell(state="h c", gates="i f g o", vectors="a_x a_h a_c b_c", start={"a_x": 1.0, "a_h": 1.0, "a_c": 1.0})
def lstm_layer_norm(z, s, p):
    """Ba, Kiros & Hinton 2016, eqs 20-22: the four net inputs are normalised together, input and state apart."""
    x = norm(torch.cat([z.i.x, z.f.x, z.g.x, z.o.x], -1), p.a_x.repeat(4))
    h = norm(torch.cat([z.i.h, z.f.h, z.g.h, z.o.h], -1), p.a_h.repeat(4))
    i, f, g, o = (x + h).chunk(4, -1)
    c = sigmoid(f) * s.c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(norm(c, p.a_c, p.b_c)), c


def test_both_parts_normalised() -> None:
    def normal(v: Tensor) -> Tensor:
        mean = v.mean(-1, keepdim=True)
        return (v - mean) / ((v - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()

    def loop(w, x, h, c):
        outputs = []
        for x_t in x:
            left = normal(x_t @ w["weight_ih"].T + w["bias"]) * torch.cat([w["a_x"]] * 4)
            right = normal(h @ w["weight_hh"].T) * torch.cat([w["a_h"]] * 4)
            i, f, g, o = (left + right).split(HIDDEN, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * (normal(c) * w["a_c"] + w["b_c"]).tanh()
            outputs.append(h)
        return outputs, (h, c)

    agree(lstm_layer_norm, loop)


@cell(state="h", inputs="z n")
def min_gru(z, s):
    """Feng et al. 2024: affine in the state, since no gate sees it."""
    u = sigmoid(z.z)
    return (1 - u) * s.h + u * z.n


def test_net_inputs_without_recurrence() -> None:
    def loop(w, x, h):
        W, b, outputs = w["weight_ih"].chunk(2), w["bias"].chunk(2), []
        for x_t in x:
            u = (x_t @ W[0].T + b[0]).sigmoid()
            h = h - u * h + u * (x_t @ W[1].T + b[1])
            outputs.append(h)
        return outputs, (h,)

    assert set(min_gru.shapes(5, 6)) == {"weight_ih", "bias"}
    agree(min_gru, loop)


# --- every way of taking net inputs, with every kind of U ------------------------------------------------------------


def every_other(hidden_size: int, **options: Any) -> Tensor:
    place = torch.arange(hidden_size)
    return ((place.unsqueeze(1) + place) % 2).float()


def written_out(weight: Tensor, kind: Any, gate: int) -> Tensor:
    """The full matrix U of one gate."""
    if kind == "diagonal":
        return torch.diag(weight[gate * HIDDEN : (gate + 1) * HIDDEN])
    if kind == "blocks":
        each = HIDDEN // 2
        return torch.block_diag(*(weight[head, gate * each : (gate + 1) * each] for head in range(2)))
    U = weight[gate * HIDDEN : (gate + 1) * HIDDEN]
    return U if kind == "dense" else U * every_other(HIDDEN)


@pytest.mark.parametrize("biases", [0, 1, 2])
@pytest.mark.parametrize("kind", ["dense", "diagonal", "blocks", every_other])
@pytest.mark.parametrize("order", ["w c p a b", "c w b a p", "p b a c w", "a p w b c"])
def test_gates_are_told_apart(order: str, kind: Any, biases: Any) -> None:
    """w is taken whole, c called, p in parts, a in all ways, b whole and called; n has no U. Gates in any order."""

    @cell(state="h c", gates=order, inputs="n", recurrent=kind, biases=biases)
    def every_way(z, s, *, heads=2):
        h = tanh(z.w) + z.c(s.h * s.c) * 0.3 + sigmoid(z.p.x) * z.p.h + tanh(z.n)
        return tanh(h + z.b * z.b(s.c)), tanh(z.a + 0.5 * z.a(s.c) - z.a.h * z.a.x)

    def loop(w, x, h, c):
        names = order.split()
        U = {name: written_out(w["weight_hh"], kind, k) for k, name in enumerate(names)}
        W = dict(zip((*names, "n"), w["weight_ih"].split(HIDDEN), strict=True))
        zero = torch.zeros(6 * HIDDEN, dtype=torch.float64)
        first = dict(zip((*names, "n"), w.get("bias", w.get("bias_ih", zero)).split(HIDDEN), strict=True))
        second = dict(zip(names, w.get("bias_hh", zero[HIDDEN:]).split(HIDDEN), strict=True))
        outputs = []
        for x_t in x:

            def left(name, x_t=x_t):
                return x_t @ W[name].T + first[name]

            def right(name, v):
                return v @ U[name].T + second[name]

            new = (left("w") + right("w", h)).tanh() + 0.3 * (left("c") + right("c", h * c))
            new = new + left("p").sigmoid() * right("p", h) + left("n").tanh()
            new = new + (left("b") + right("b", h)) * (left("b") + right("b", c))
            whole = left("a") + right("a", h)
            c = (whole + 0.5 * (left("a") + right("a", c)) - right("a", h) * left("a")).tanh()
            h = new.tanh()
            outputs.append(h)
        return outputs, (h, c)

    agree(every_way, loop)


# --- functions -------------------------------------------------------------------------------------------------------


def test_torchs_functions_mean_the_same() -> None:
    @cell(state="h c", gates="i f g o")
    def plain(z, s):
        c = torch.sigmoid(z.f) * s.c + torch.sigmoid(z.i) * torch.tanh(z.g)
        return torch.sigmoid(z.o) * torch.tanh(c), c

    @cell(state="h c", gates="i f g o")
    def ours(z, s):
        c = sigmoid(z.f) * s.c + sigmoid(z.i) * tanh(z.g)
        return sigmoid(z.o) * tanh(c), c

    one, other = Recurrent(plain, 3, 4), Recurrent(ours, 3, 4)
    other.load_state_dict(one.state_dict())
    x = torch.randn(5, 2, 3)
    assert torch.equal(one(x)[0], other(x)[0])


def test_an_activation_may_be_a_module_of_ones_own() -> None:
    from recurra.cells import elman

    gelu = torch.nn.GELU()
    layer = Recurrent(elman(activation=gelu), 3, 4)
    x = torch.randn(2, 3)
    W, b = layer.get_parameter("weight_ih_l0"), layer.get_parameter("bias_l0")
    torch.testing.assert_close(layer.step(x)[0], gelu(x @ W.T + b))
