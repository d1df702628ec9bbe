"""The compiled core gives what eager gives: every cell of the catalogue, and cells that a test makes up."""

import itertools
import math
from typing import Any

import pytest
import torch
from comparing import TOLERANCE, VARIANTS, Case, case, check, drawn_for, flat, off, pair, results
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cells

from recurra.cells import Cell, cell
from recurra.math import join, sigmoid, sin, split, tanh

SINGLE = torch.float32

CASES = [
    case(T=1, B=1, I=1, H=1),
    case("mask", T=5, B=3, I=1, H=7),
    case("lengths", T=4, B=13, I=17, H=63, reverse=True),
    case("reset", T=3, B=30, I=3, H=65),
    case("mask reset", "strided", T=6, B=30, I=17, H=16, reverse=True),
    case("mask", "sum", T=2, B=3, I=20, H=500),
    case("mask reset", T=7, B=3, I=3, H=7, reverse=True, memory="recompute"),
    case("lengths", T=10, B=13, I=17, H=16, memory="recompute"),
    case("reset", T=11, B=13, I=2, H=5, memory="recompute"),
    case("", "sum", T=1, B=30, I=17, H=7, memory="recompute"),
    case(
        "lengths reset", T=6, B=5, I=3, H=7, num_layers=2, bidirectional=True, learn_initial_state=True, has_state=False
    ),
    case("lengths mask", T=5, B=3, I=17, H=6, num_layers=2, bidirectional=True, memory="recompute", batch_first=True),
    case("reset", "final", T=5, B=3, I=3, H=6, learn_initial_state=True, has_state=False),
    case("lengths", "output", T=6, B=13, I=3, H=6, batch_first=True),
    case("mask reset", "output", T=13, B=13, H=6, memory="recompute"),
    case("lengths", "final", T=10, B=3, H=7, memory="recompute", reverse=True),
    case("mask", "last field", T=6, B=3, I=3, H=6, reverse=True),
    case("", "one step", T=6, B=3, I=3, H=6, has_state=False),
    case("", "final", T=9, B=3, I=3, H=6, frozen="weight_hh", of_x=False, memory="recompute"),
    case("reset", "output", T=4, B=3, I=3, H=6, frozen="weight_ih"),
    case("mask reset", T=5, B=13, I=17, H=63, dtype=SINGLE),
    case("lengths", "strided", T=7, B=30, I=1, H=7, dtype=SINGLE, memory="recompute", reverse=True),
    case("reset", "sum", T=2, B=3, I=20, H=500, dtype=SINGLE),
    case("", T=1, B=1, I=1, H=1, dtype=SINGLE),
]


@pytest.mark.parametrize("at", CASES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_cell_of_the_catalogue(name, at) -> None:
    check(VARIANTS[name], at)


@st.composite
def made_up_cases(draw: st.DrawFn) -> Case:
    """Sizes and options; small ones, since what is to be found is in the equations."""
    flags = draw(st.lists(st.sampled_from(["lengths", "mask", "reset"]), unique=True))
    kind: Any = draw(st.sampled_from(["all", "output", "final", "last field", "sum", "one step", "strided"]))
    options = {"reverse": draw(st.booleans()), "memory": draw(st.sampled_from(["store", "recompute"]))}
    sizes = {
        key: draw(st.sampled_from(of)) for key, of in {"T": (1, 2, 5), "B": (1, 3, 14, 30), "I": (1, 3, 18)}.items()
    }
    return case(" ".join(flags), kind, H=draw(st.sampled_from([2, 3, 6, 7, 17, 1])), **sizes, **options)


@settings(max_examples=50)
@given(one=cells(), at=made_up_cases())
def test_cells_that_are_made_up(one: Cell, at: Case) -> None:
    check(one, at)


def swapped(z, s):
    return s.c + 0 * z.a, s.h


def untouched_net_inputs(z, s):
    return z.n, z.a


def one_value_twice(z, s):
    v = tanh(z.a + z.n)
    return v, v


def unread(z, s):
    return tanh(z.a + z.n), sigmoid(s.h)


def one_number_a_row(z, s):
    return tanh(z.a + z.n), torch.mean(s.h, -1, keepdim=True) + 0 * s.c


def a_mean_in_the_place_of_h(z, s):
    return tanh(z.a(torch.mean(s.h, -1, keepdim=True) + 0 * s.h) + z.n), s.c / 2


def called_in_a_call(z, s):
    return tanh(z.a(tanh(z.a(tanh(z.a)) + z.n))), tanh(z.a(s.c))


ODD = [swapped, untouched_net_inputs, one_value_twice, unread, one_number_a_row, a_mean_in_the_place_of_h]
ODD += [called_in_a_call]
DECLARED = {body.__name__: cell(state="h c", gates="a", inputs="n")(body) for body in ODD if body is not swapped}
DECLARED |= {
    "swapped": cell(state="h c", gates="a")(swapped),
    "a matrix beside a diagonal U": cell(state="h", gates="a", recurrent="diagonal", matrices={"M": ("H", "H")})(
        lambda z, s, p: tanh(z.a + p.M @ sigmoid(s.h))
    ),
    "U and matrices one number wide": cell(
        state="h", gates="a", biases="apart", matrices={"M": ("H", 1), "N": (1, "H")}
    )(lambda z, s, p: tanh(z.a(p.N @ s.h) + z.a.b + p.M @ torch.mean(s.h, -1, keepdim=True))),
    "a matrix of three parts": cell(state="h", gates="a", matrices={"M": ("H", "2H"), "N": ("3H", "H")})(
        lambda z, s, p: tanh(z.a + p.M @ join(*split(p.N @ s.h, 3)[:2]) * split(p.N @ s.h, 3)[2])
    ),
    "vectors and constants one number wide": cell(
        state="h", gates="a", vectors="v:1", constants={"k": lambda hidden_size: torch.tensor([0.3])}
    )(lambda z, s, p: tanh(z.a + sigmoid(p.v) * s.h * p.k)),
    "a count that scales": cell(state="h t:1", gates="a")(lambda z, s: (tanh(z.a) * sin(s.t), s.t + 1)),
}


@pytest.mark.parametrize("H", [1, 2, 7])
@pytest.mark.parametrize("name", DECLARED)
def test_an_odd_cell(name: str, H: int) -> None:
    check(DECLARED[name], case("mask reset lengths", T=5, B=14, H=H))
    check(DECLARED[name], case("", "output", T=5, B=2, I=18, H=H, memory="recompute", reverse=True))


# --- how a layer is used ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_projected, 3", "slstm", "clockwork"])
def test_backward_twice(name: str, memory: str) -> None:
    """What is kept for the derivative is not used up or written to by it."""
    at = case("mask reset", T=7, B=13, memory=memory)
    ours, _ = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    x = on.x.requires_grad_()
    assert on.state is not None
    output, final = ours(x, on.state, **on.flags)
    total = output.square().sum() + final[0].sum()
    sources = [x, *ours.parameters()]
    first = torch.autograd.grad(total, sources, retain_graph=True)
    again = torch.autograd.grad(2 * total, sources)
    for a, b in zip(again, first, strict=True):
        assert torch.equal(a, 2 * b)


@pytest.mark.parametrize("name", VARIANTS)
def test_recomputed_gradients_are_those_of_what_is_stored(name: str) -> None:
    """But for the order in which the steps' parts of them are added up."""
    for T, kind in itertools.product((1, 2, 7, 13), ("all", "output")):
        found = []
        for memory in ("store", "recompute"):
            at = case("mask reset", kind, T=T, B=13, I=17, memory=memory)
            ours, _ = pair(VARIANTS[name], at)
            found.append(results(ours, at, drawn_for(ours, at)))
        for key, value in found[0].items():
            assert off(found[1][key], value) <= 1e-13, (T, key)


@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "lstm_projected, 3"])
def test_inputs_in_any_layout(name: str) -> None:
    """Transposed, taken apart, of every second step: what counts is what stands there."""
    at = case("mask reset", T=6, B=13, I=5)
    ours, _ = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    expected = results(ours, at, on)
    assert on.state is not None
    wide = torch.randn(at.T, 2, at.B, 2 * at.I, dtype=torch.float64)
    wide[:, 1, :, ::2] = on.x
    on.x = wide[:, 1, :, ::2]
    on.state = [torch.stack([v, v], -1)[..., 1] for v in on.state]
    on.flags = {k: torch.stack([v.t(), v.t()], -1)[..., 0].t() for k, v in on.flags.items()}
    for key, value in results(ours, at, on).items():
        assert torch.equal(value, expected[key]), key


@pytest.mark.parametrize("name", ["lstm", "gru", "irnn", "lstm_layer_norm", "min_gru", "slstm"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nothing_has_a_gradient(name: str, dtype: torch.dtype) -> None:
    at = case("mask", T=9, B=14, I=17, H=7, dtype=dtype)
    ours, eager = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    assert on.state is not None
    expected = flat(eager(on.x, on.state, **on.flags, return_states=True))
    with torch.inference_mode():
        found = flat(ours(on.x.to(dtype), [v.to(dtype) for v in on.state], **on.flags, return_states=True))
    assert not any(v.requires_grad for v in found)
    for a, b in zip(found, expected, strict=True):
        assert off(a, b) <= TOLERANCE[dtype]


@pytest.mark.parametrize("name", ["lstm", "gru_reset_after", "elman"])
def test_parameters_changed_in_place_between_forward_and_backward_are_told(name: str) -> None:
    ours, _ = pair(VARIANTS[name], case())
    output, _ = ours(torch.randn(3, 2, 3, dtype=torch.float64))
    with torch.no_grad():
        ours.get_parameter("weight_hh_l0").add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


# --- NaN and infinities ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", VARIANTS)
def test_nan_and_infinities_come_out_where_eager_has_them(name: str, bad: float) -> None:
    """In the outputs and states; in one number of the input, of the state or of a weight."""
    at = case("reset", T=4, B=14, I=3, H=6)
    for where in ("x", "state", "weight"):
        ours, eager = pair(VARIANTS[name], at)
        on = drawn_for(ours, at)
        assert on.state is not None
        if where == "x":
            on.x[1, 5, 2] = bad
        elif where == "state":
            on.state[0][0, 5, 1] = bad
        else:
            with torch.no_grad():
                for layer in (ours, eager):
                    layer.get_parameter("weight_ih_l0")[1, 1] = bad
        expected = flat(eager(on.x, on.state, **on.flags, return_states=True))
        for a, b in zip(flat(ours(on.x, on.state, **on.flags, return_states=True)), expected, strict=True):
            assert off(a, b) <= 1e-12, where


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", VARIANTS)
def test_nan_in_the_padding_reaches_nothing(name: str, memory: str) -> None:
    at = case("lengths mask", T=6, B=27, I=17, memory=memory, reverse=True)
    ours, _ = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    clean = results(ours, at, on)
    valid = on.flags["mask"] & (torch.arange(at.T).unsqueeze(1) < on.flags["lengths"])
    on.x = torch.where(valid.unsqueeze(-1), on.x, math.nan)
    for key, value in results(ours, at, on).items():
        assert torch.equal(value, clean[key]), key
