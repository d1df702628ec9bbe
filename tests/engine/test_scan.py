"""The scan against the step-by-step run, and which cells are found to be affine in their state."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.func import jacfwd, jacrev

from recurra import cells
from recurra.cells import CATALOGUE, cell
from recurra.engine.scan import scan
from recurra.math import exp, norm, sigmoid, split, sqrt, tanh, where
from recurra.nn import Recurrent

LINEAR = ["integrator", "linear_recurrence", "min_gru", "min_lstm"]


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(4)


@settings(max_examples=60)
@given(steps=st.integers(0, 40), rows=st.integers(0, 3), size=st.integers(1, 3), seed=st.integers(0, 99))
def test_a_scan_is_the_recurrence(steps: int, rows: int, size: int, seed: int) -> None:
    torch.manual_seed(seed)
    a, b, start = (random(*shape, rows, size).requires_grad_() for shape in ((steps,), (steps,), ()))
    found, state, expected = scan(a, b, start), start, []
    for t in range(steps):
        state = a[t] * state + b[t]
        expected.append(state)
    assert found.shape == (steps, rows, size)
    if not steps:
        return
    wanted = torch.stack(expected)
    torch.testing.assert_close(found, wanted)
    weight = torch.randn_like(wanted)
    ours = torch.autograd.grad((found * weight).sum(), [a, b, start])
    theirs = torch.autograd.grad((wanted * weight).sum(), [a, b, start])
    torch.testing.assert_close(ours, theirs)


def test_a_scan_takes_few_operations_one_after_another() -> None:
    """About 2 √T products in a row, where the loop takes T."""
    T = 10_000
    a = random(T, 1, 1).requires_grad_()
    node, depth = scan(a, random(T, 1, 1), random(1, 1)).grad_fn, 0
    seen: dict[Any, int] = {}
    stack: list[tuple[Any, int]] = [(node, 0)]
    while stack:
        node, depth = stack.pop()
        if node is not None and seen.get(node, -1) < depth:
            seen[node] = depth
            stack += [(below, depth + 1) for below, _ in node.next_functions]
    assert max(seen.values()) < 6 * T**0.5


def both(one: Any, *arguments: Any, **options: Any) -> tuple[Recurrent, Recurrent]:
    """A layer that scans, and its twin that takes one step after another."""
    layer = Recurrent(one, *arguments, dtype=torch.float64, backend="scan", **options)
    twin = Recurrent(one, *arguments, dtype=torch.float64, backend="eager", **options)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    twin.load_state_dict(layer.state_dict())
    assert (layer.choice.backend, twin.choice.backend) == ("scan", "eager")
    return layer, twin


@pytest.mark.parametrize("how", ["plain", "lengths", "mask", "reset", "mask and reset"])
@pytest.mark.parametrize("steps", [1, 2, 30])
@pytest.mark.parametrize("name", LINEAR)
def test_a_scan_equals_the_step_by_step_run(name: str, steps: int, how: str) -> None:
    """Outputs, final state, all states, every gradient; two layers, both directions."""
    layer, twin = both(name, 3, 4, 2, bidirectional=True, zoneout=0.3)
    x, begun = random(steps, 5, 3).requires_grad_(), random(4, 5, 4).requires_grad_()
    flags: dict[str, Any] = {}
    if how == "lengths":
        flags["lengths"] = torch.randint(0, steps + 1, (5,))
    if "mask" in how:
        flags["mask"] = torch.rand(steps, 5) < 0.6
    if "reset" in how:
        flags["reset"] = torch.rand(steps, 5) < 0.3
    found = [one.eval()(x, begun, return_states=True, **flags) for one in (layer, twin)]
    torch.testing.assert_close(found[0][0], found[1][0])
    torch.testing.assert_close(tuple(found[0][1]), tuple(found[1][1]))
    torch.testing.assert_close(tuple(found[0][2]), tuple(found[1][2]))
    weights = [torch.randn_like(v) for v in (found[0][0], found[0][1].h, found[0][2].h)]
    gradients = []
    for one, (output, final, states) in zip((layer, twin), found, strict=True):
        total = torch.stack([(v * w).sum() for v, w in zip((output, final.h, states.h), weights, strict=True)]).sum()
        gradients.append(torch.autograd.grad(total, [x, begun, *one.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_a_step_at_a_time_equals_the_scan() -> None:
    layer, _ = both("min_gru", 3, 4)
    x, state, outputs = random(50, 2, 3), None, []
    for x_t in x:
        out, state = layer.step(x_t, state)
        outputs.append(out)
    torch.testing.assert_close(layer(x)[0], torch.stack(outputs))


# --- which cells -----------------------------------------------------------------------------------------------------


def test_which_cells_of_the_catalogue_are_scanned() -> None:
    chosen = {name: Recurrent(name, 3, 4).choice for name in CATALOGUE}
    assert sorted(name for name, choice in chosen.items() if "is affine in its state" in choice.reason) == LINEAR
    for name in LINEAR:
        assert Recurrent(name, 3, 4, backend="scan").choice.backend == "scan"
    for name in {*CATALOGUE} - {*LINEAR}:
        with pytest.raises(ValueError, match=f"backend: 'scan' cannot be: cell '{name}' is not affine in its state"):
            Recurrent(name, 3, 4, backend="scan")
    with pytest.raises(ValueError, match="backend: 'scan' cannot be: memory='recompute' asks for less than all steps"):
        Recurrent("min_gru", 3, 4, backend="scan", memory="recompute")
    assert chosen["min_gru"].reason == (
        "cell 'min_gru' is affine in its state, but a scan is slower on a CPU, so its steps run in the compiled core, "
        "one after another"
    )
    assert chosen["lstm"].reason == (
        "cell 'lstm' is not affine in its state (U_o multiplies the state), so its steps run in the compiled core, "
        "one after another"
    )
    assert Recurrent(torch.nn.GRUCell(3, 4), 3, 4).choice.reason == (
        "'GRUCell' is a plain function, run one step after another"
    )


@cell(state="h", inputs="a b")
def every_operation(z, s):
    chosen = where(z.a > 0, s.h, z.b)
    return (2 - (s.h - z.a) / exp(z.b)) * 0.5 + z.a * -s.h + chosen - (s.h * z.a - 1) / 3 + torch.add(z.a, s.h, alpha=2)


@cell(
    state="h c t:1",
    inputs="g",
    biases="apart",
    matrices={"M": ("H", "H")},
    vectors="v:2H",
    constants={"k": lambda H: torch.ones(H)},
)
def several_fields(z, s, p):
    a = sigmoid(z.g.x)
    return a * s.h + p.M @ z.g, s.c * p.k + split(p.v, 2)[1] * z.g.b + norm(z.g), s.t + 1


@cell(state="h", inputs="g")
def forgetting(z, s):
    """Its new state does not depend on the old one at all."""
    return tanh(z.g)


@cell(state="h c", inputs="f o n")
def qrnn(z, s):
    """QRNN with fo-pooling (Bradbury et al. 2017), its window one step."""
    f = sigmoid(z.f)
    c = f * s.c + (1 - f) * tanh(z.n)
    return sigmoid(z.o) * c, c


@cell(state="h c d", inputs="f r n", vectors="v_f", start={"d": 0.5})
def sru(z, s, p):
    """SRU as first published (Lei et al. 2018); d sees the old c as well as the new."""
    f, r = sigmoid(z.f), sigmoid(z.r)
    c = f * s.c + (1 - f) * z.n
    return r * tanh(c) + (1 - r) * z.n, c, tanh(c - p.v_f * s.c)


@pytest.mark.parametrize("one", [qrnn, sru])
@pytest.mark.parametrize("how", ["plain", "lengths", "mask and reset"])
@pytest.mark.parametrize("steps", [0, 1, 12])
def test_what_no_step_reads_is_computed_from_what_is_scanned(one: Any, how: str, steps: int) -> None:
    layer, twin = both(one, 3, 4, 2, bidirectional=True, zoneout=0.3)
    x, begun = random(steps, 5, 3).requires_grad_(), [random(4, 5, 4).requires_grad_() for _ in one.fields]
    flags: dict[str, Any] = {}
    if how == "lengths":
        flags["lengths"] = torch.randint(0, steps + 1, (5,))
    if how == "mask and reset":
        flags = {"mask": torch.rand(steps, 5) < 0.6, "reset": torch.rand(steps, 5) < 0.3}
    ours, theirs = (each.eval()(x, begun, return_states=True, **flags) for each in (layer, twin))
    found, expected = ((output, *final, *states) for output, final, states in (ours, theirs))
    torch.testing.assert_close(found, expected)
    weights = [torch.randn_like(v) for v in found]
    gradients = []
    for each, values in ((layer, found), (twin, expected)):
        total = torch.stack([(v * w).sum() for v, w in zip(values, weights, strict=True)]).sum()
        gradients.append(torch.autograd.grad(total, [x, *begun, *each.parameters()], materialize_grads=True))
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("one", [every_operation, several_fields, forgetting])
def test_cells_of_ones_own_that_are_scanned(one: Any) -> None:
    layer, twin = both(one, 3, 4)
    x = random(9, 2, 3)
    found, expected = (each(x, reset=torch.arange(9).unsqueeze(1).expand(9, 2) == 5) for each in (layer, twin))
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(tuple(found[1]), tuple(expected[1]))


BODIES: dict[str, tuple[Any, str]] = {
    "a product": (lambda z, s: z.g * s.h * s.h, "it multiplies the state with itself"),
    "a quotient": (lambda z, s: z.g / s.h, "it divides by the state"),
    "a quotient of states": (lambda z, s: (s.h + z.g) / s.h, "it divides by the state"),
    "tanh": (lambda z, s: tanh(s.h) + z.g, "it takes tanh of the state"),
    "where": (lambda z, s: where(s.h > 0, s.h, z.g), "it takes gt of the state"),
    "a comparison": (lambda z, s: z.g * (s.h > 0), "it takes gt of the state"),
    "a method": (lambda z, s: s.h.clamp(0) + z.g, "it takes lt of the state"),
    "a root": (lambda z, s: sqrt(s.h + 1) + z.g, "it takes sqrt of the state"),
    "an index": (lambda z, s: s.h[:, :] + z.g, "cannot be written down as a program (it takes getitem of a value)"),
    "its parts": (lambda z, s: z.g / len(s.h), "cannot be written down as a program (it takes len of a value)"),
}


@pytest.mark.parametrize(("body", "reason"), BODIES.values(), ids=BODIES)
def test_a_body_that_is_not_affine_runs_step_by_step_and_says_why(body: Any, reason: str) -> None:
    layer = Recurrent(cell(state="h", inputs="g")(body), 3, 4)
    assert layer.choice.backend == ("eager" if "written down" in reason else "native")
    assert reason in layer.choice.reason
    assert layer(torch.ones(3, 2, 3))[0].shape == (3, 2, 4)


def test_a_field_that_reads_another_is_not_scanned() -> None:
    @cell(state="h c", inputs="g")
    def crossed(z, s):
        return s.h + s.c, s.c + z.g

    choice = Recurrent(crossed, 3, 4).choice
    assert choice.backend == "native"
    assert "(its new h depends on the old c)" in choice.reason


def test_the_scan_is_chosen_by_what_the_cell_is_not_by_its_name() -> None:
    assert re.search("affine", Recurrent(cells.integrator(activation="relu"), 3, 4).choice.reason)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # PyTorch's own
@pytest.mark.parametrize("name", LINEAR)
def test_second_derivatives_agree_whichever_way_they_are_taken(name: str) -> None:
    layer, x = Recurrent(name, 2, 2, dtype=torch.float64), random(5, 1, 2)

    def loss(x: Tensor) -> Tensor:
        return layer(x)[0].sin().sum()

    expected = jacrev(jacrev(loss))(x)
    assert expected.any()
    torch.testing.assert_close(jacfwd(jacrev(loss))(x), expected)
    torch.testing.assert_close(jacrev(jacfwd(loss))(x), expected)
    torch.testing.assert_close(jacfwd(jacfwd(loss))(x), expected)
