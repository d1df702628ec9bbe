"""What rules that go forward in time do with whole sequences and with streams, beyond one gradient of one layer."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from gradients_by_name import EXACT, apart, drawn, random
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from recurra import learn
from recurra.cells import CATALOGUE, cell
from recurra.engine import native
from recurra.learn.rule import Rule
from recurra.nn import Recurrent

FORWARD: dict[str, Callable[[], Rule]] = {
    "rtrl": learn.RTRL,
    "rtrl in tensor code": lambda: learn.RTRL(backend="eager"),
    "by layer": lambda: learn.RTRL("by_layer"),
    "by layer in tensor code": lambda: learn.RTRL("by_layer", backend="eager"),
    "snap1": lambda: learn.SnAp(1),
    "eprop": learn.EProp,
}
BY_LAYER = {name: rule for name, rule in FORWARD.items() if not name.startswith("rtrl")}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(5)


def taken(module: nn.Module) -> dict[str, Tensor]:
    """The gradients, which are none from then on."""
    found = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in module.named_parameters()}
    module.zero_grad()
    return found


def total(final: Any) -> Tensor:
    """A loss of every number of a final state, alike in none."""
    fields = (final,) if isinstance(final, Tensor) else final
    return torch.stack([((1 + i) * v + 0.3 * i).square().sum() for i, v in enumerate(fields)]).sum()


# --- final states ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("rule", [*BY_LAYER, "uoro"])
def test_a_final_state_is_the_output_at_each_rows_last_step(rule: str, layers: int) -> None:
    """What x is made of learns from a loss of either alike."""
    make = BY_LAYER.get(rule, learn.UORO)
    embedding, layer = nn.Embedding(7, 3).double(), drawn(Recurrent("lstm", 3, 5, layers))
    network = nn.ModuleList([embedding, layer])
    symbols, lengths = torch.randint(0, 7, (6, 3)), torch.tensor([6, 3, 1])
    _, final = make().along(layer, embedding(symbols), lengths=lengths)
    final[0][-1].square().sum().backward()
    by_state = taken(network)
    y, _ = make().along(layer, embedding(symbols), lengths=lengths)
    y[lengths - 1, torch.arange(3)].square().sum().backward()
    assert apart(by_state, taken(network)) < EXACT
    assert by_state["0.weight"].norm() > 1e-3


@pytest.mark.parametrize("name", ["elman", "lstm", "gru_reset_after"])
@pytest.mark.parametrize("rule", FORWARD)
def test_padding_does_not_count_in_a_loss_of_final_states(rule: str, name: str) -> None:
    layer = drawn(Recurrent(name, 3, 5, 2, learn_initial_state=True))
    x, lengths = random(7, 4, 3), [7, 4, 0, 2]
    total(FORWARD[rule]().along(layer, x, lengths=torch.tensor(lengths))[1]).backward()
    together = taken(layer)
    for b, n in enumerate(lengths):
        if n:
            total(FORWARD[rule]().along(layer, x[:n, b : b + 1])[1]).backward()
        else:
            total(FORWARD[rule]().along(layer, x[:1, b : b + 1], lengths=torch.tensor([0]))[1]).backward()
    assert apart(together, taken(layer)) < EXACT


# --- several calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["rtrl", "rtrl in tensor code"])
def test_two_runs_before_a_backward_pass(rule: str) -> None:
    layer, x = drawn(Recurrent("gru", 3, 5)), random(2, 6, 2, 3)
    both = FORWARD[rule]()
    (both.along(layer, x[0])[0].square().sum() + both.along(layer, x[1])[0].sin().sum()).backward()
    found = taken(layer)
    (layer(x[0])[0].square().sum() + layer(x[1])[0].sin().sum()).backward()
    assert apart(found, taken(layer)) < EXACT


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("rule", ["rtrl", "rtrl in tensor code"])
def test_a_call_that_goes_on_knows_of_the_calls_before(rule: str, rows: int | None) -> None:
    shape = (3, 4, 3) if rows is None else (3, 4, rows, 3)
    layer, x, one = drawn(Recurrent("lstm", 3, 5)), random(*shape), FORWARD[rule]()
    state, expected_state = None, None
    for part in x:
        y, state = one.along(layer, part, state)
        y.square().sum().backward()
        state = tuple(v.detach() for v in state)
    found = taken(layer)
    for part in x:
        y, expected_state = layer(part, expected_state)
        y.square().sum().backward(retain_graph=True)
    assert apart(found, taken(layer)) < EXACT


@pytest.mark.parametrize(
    ("rule", "how"),
    [
        *product(["rtrl", "rtrl in tensor code", "tbptt"], ["set anew", "other rows"]),
        *product(["rtrl", "rtrl in tensor code"], ["run on without a gradient"]),  # tbptt runs such steps again
    ],
)
def test_a_state_that_another_call_has_not_left_begins_anew(rule: str, how: str) -> None:
    """A row that was set to zeros between calls, say, where its sequence ended."""
    make = FORWARD.get(rule, lambda: learn.TruncatedBPTT(6, 9))
    layer, x, one = drawn(Recurrent("lstm", 3, 5)), random(2, 6, 3, 3), make()
    y, final = one.along(layer, x[0])
    y.sum().backward()
    layer.zero_grad()
    state, rows = tuple(v.detach() for v in final), 3
    if how == "set anew":
        state = tuple(v * torch.tensor([1.0, 0.0, 1.0]).view(3, 1) for v in state)
    elif how == "run on without a gradient":
        with torch.no_grad():
            state = one.along(layer, x[0], state)[1]
    else:
        state, rows = tuple(v[:, :2] for v in state), 2
    y, _ = one.along(layer, x[1, :, :rows], state)
    torch.testing.assert_close(y.detach(), layer(x[1, :, :rows], state)[0].detach())
    (y[:, 1] if how == "set anew" else y).square().sum().backward()
    found = taken(layer)
    y = layer(x[1, :, :rows], state)[0]
    (y[:, 1] if how == "set anew" else y).square().sum().backward()
    assert apart(found, taken(layer)) < EXACT


@pytest.mark.parametrize("rule", [*FORWARD, "tbptt", "bptt"])
def test_a_sequence_of_no_steps_has_no_gradient(rule: str) -> None:
    layer = drawn(Recurrent("gru", 3, 5))
    make = {**FORWARD, "tbptt": learn.TruncatedBPTT, "bptt": learn.BPTT}[rule]
    found = learn.gradients(layer, random(0, 2, 3), lambda y, t: y.sum(), make())
    assert all(not v.any() for v in found.values())


# --- first states, parametrisations, parameters that move -----------------------------------------------------------


@cell(state="h c", gates="a b")
def untraceable(z: Any, s: Any) -> tuple[Tensor, Tensor]:
    """No program knows a running sum along the units."""
    c = torch.tanh(z.a).cumsum(-1) * 0.2 + 0.5 * s.c
    return torch.sigmoid(z.b) * torch.tanh(c), c


class Own(nn.Module):
    """A module of one's own as the step."""

    def __init__(self) -> None:
        super().__init__()
        self.by_x, self.by_state = nn.Linear(3, 5), nn.Linear(5, 5)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.by_x(x) + self.by_state(h))


@pytest.mark.parametrize("make", [lambda: untraceable, Own, lambda: CATALOGUE["lstm"]], ids=["cell", "module", "lstm"])
def test_first_states_that_are_learnt(make: Callable[[], Any]) -> None:
    layer, x = drawn(Recurrent(make(), 3, 5, learn_initial_state=True)), random(6, 2, 3)
    reset = torch.tensor([[False, False], [False, True], *[[False, False]] * 2, [True, False], [False, False]])
    expected = learn.gradients(layer, x, lambda y, t: y.square().sum())
    assert apart(learn.gradients(layer, x, lambda y, t: y.square().sum(), "rtrl"), expected) < EXACT
    assert any("initial_h" in name for name in expected)
    found = []
    for rule in (learn.RTRL(), learn.BPTT()):
        rule.begin(layer, rows=2)
        for t in range(6):
            rule.step(rule(x[t], reset[t]).square().sum())
        rule.finish()
        found.append(taken(layer))
    assert apart(*found) < EXACT


def test_snap_follows_first_states_within_their_units_and_snap2_everywhere() -> None:
    layer, x = drawn(Recurrent("lstm", 3, 5, learn_initial_state=True)), random(6, 2, 3)
    expected = learn.gradients(layer, x, lambda y, t: y.square().sum())
    found = {rule: learn.gradients(layer, x, lambda y, t: y.square().sum(), rule) for rule in ("snap1", "snap2")}
    assert apart(found["snap2"], expected) < EXACT
    share = {n: float((v * expected[n]).sum() / expected[n].square().sum()) for n, v in found["snap1"].items()}
    assert share["initial_c_l0"] > 0.4
    assert share["initial_h_l0"] > 0.02


def test_uoro_is_right_on_average_about_first_states() -> None:
    layer, x = drawn(Recurrent("gru_reset_after", 2, 3, learn_initial_state=True)), random(4, 2, 2)
    expected = learn.gradients(layer, x, lambda y, t: y.square().sum())["initial_h_l0"]
    rule, every = learn.UORO(1), []
    for _ in range(1500):
        every.append(learn.gradients(layer, x, lambda y, t: y.square().sum(), rule)["initial_h_l0"])
    found = torch.stack(every)
    error = found.std(0) / len(found) ** 0.5
    assert (error > 0).all()
    assert ((found.mean(0) - expected).abs() < 5 * error).all()


@pytest.mark.parametrize("make", [lambda: nn.GRU(3, 5), lambda: Recurrent("gru_reset_after", 3, 5)])
@pytest.mark.parametrize("rule", ["rtrl", "rtrl in tensor code"])
def test_what_a_parametrisation_is_made_of_learns(make: Callable[[], nn.Module], rule: str) -> None:
    layer, x = weight_norm(drawn(make()), "weight_hh_l0"), random(6, 2, 3)
    expected = learn.gradients(layer, x, lambda y, t: y.square().sum())
    assert "parametrizations.weight_hh_l0.original0" in expected
    assert apart(learn.gradients(layer, x, lambda y, t: y.square().sum(), FORWARD[rule]()), expected) < EXACT
    online = FORWARD[rule]().begin(layer, rows=2)
    for x_t in x:
        online.step(online(x_t).square().sum())
    found = taken(layer)
    assert apart({n: found[n] for n in expected}, expected) < EXACT


def test_a_parameter_that_is_none_of_the_cells_is_refused() -> None:
    layer = Recurrent("gru", 3, 5)
    layer.register_parameter("scale", nn.Parameter(torch.ones(3)))
    with pytest.raises(ValueError, match=r"layer: rtrl follows the parameters of the cells, and 'scale' is none"):
        learn.RTRL().begin(layer)
    layer.scale.requires_grad_(False)
    learn.RTRL().begin(layer)


@pytest.mark.skipif(native.why_not() is not None, reason="the core is not built")
@pytest.mark.parametrize("name", CATALOGUE)
def test_parameters_that_move_at_every_step_do_so_in_the_core_too(name: str) -> None:
    x = random(8, 2, 3)
    found = []
    for backend in ("auto", "eager"):
        torch.manual_seed(5)
        layer = drawn(Recurrent(name, 3, 8))
        rule = learn.RTRL(backend=backend).begin(layer, rows=2)  # type: ignore[arg-type]
        outputs = []
        for x_t in x:
            y = rule(x_t)
            outputs.append(y.detach())
            rule.step(y.square().sum())
            with torch.no_grad():
                for p in layer.parameters():
                    assert p.grad is not None
                    p.sub_(0.05 * p.grad).mul_(0.98)
            layer.zero_grad()
        found.append([torch.stack(outputs), *layer.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


# --- a stream -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", FORWARD)
def test_a_loss_of_an_earlier_output_is_refused(rule: str) -> None:
    layer, x = drawn(Recurrent("gru", 3, 5)), random(4, 3)
    online = FORWARD[rule]().begin(layer)
    first, second = online(x[0]), online(x[1])
    with pytest.raises(ValueError, match="loss: it is made of an earlier step's output"):
        online.step(first.sum() + second.sum())
    online.step(online(x[2]).sum())  # and the rule can go on


@pytest.mark.parametrize("rule", [*FORWARD, "tbptt", "bptt"])
def test_a_row_that_waits_puts_out_zeros(rule: str) -> None:
    """As a masked step of a layer does; so a loss of all rows is the same whichever rule."""
    layer, x = drawn(Recurrent("gru", 3, 5)), random(6, 2, 3)
    mask = torch.tensor([[True, True], [True, False], [False, True], [True, True], [False, False], [True, True]])
    layer_says, _ = layer(x, mask=mask)
    layer_says.square().sum().backward()
    expected = taken(layer)
    make = {**FORWARD, "tbptt": lambda: learn.TruncatedBPTT(6), "bptt": learn.BPTT}[rule]
    online = make().begin(layer, rows=2)
    outputs = []
    for t in range(6):
        y = online(x[t], taken=mask[t])
        outputs.append(y.detach())
        online.step(y.square().sum())
    online.finish()
    torch.testing.assert_close(torch.stack(outputs), layer_says.detach())
    if rule in ("rtrl", "rtrl in tensor code", "by layer", "tbptt", "bptt"):
        assert apart(taken(layer), expected) < EXACT
