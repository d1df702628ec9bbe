"""Gradient flow: against steps taken by hand, linear networks, and whole models differentiated by autograd."""

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from by_hand import Unrolled, delta, drawn, joined, linear, states_along
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

import recurra
from recurra.analysis import AnalysisError, System, gradient_flow, record
from recurra.cells import CATALOGUE
from recurra.nn import Recurrent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_from_the_last_step_back(name: str) -> None:
    layer, x = drawn(name), torch.randn(7, 1, 3, dtype=torch.float64)
    g = torch.randn(1, layer.form.widths(4)[0], dtype=torch.float64)
    flow = gradient_flow(layer, x, loss=lambda returned: (returned[0][-1] * g).sum())
    states = states_along(layer, x)
    found = [delta(layer, x, states, 6, 6 - d, g).norm().item() for d in range(7)]
    np.testing.assert_allclose(flow.size, found, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(flow.median, np.array(found) / found[0], rtol=1e-9, atol=1e-14)
    assert flow.pairs.tolist() == [1] * 7


def test_many_ends_and_ragged_rows() -> None:
    layer, lengths = drawn("lstm"), [9, 4, 7]
    x = torch.randn(9, 3, 3, dtype=torch.float64)
    G = torch.randn(9, 3, 4, dtype=torch.float64)
    flow = gradient_flow(
        layer, x, ends=None, options={"lengths": lengths}, loss=lambda returned: (returned[0] * G).sum()
    )
    states, ratios, by_field = states_along(layer, x), {}, {}
    for b, length in enumerate(lengths):
        for t in range(length):
            for k in range(t + 1):
                found = delta(layer, x, states, t, k, G[t])[b]
                ratios.setdefault(t - k, []).append((found.norm() / G[t, b].norm()).item())
                by_field.setdefault(t - k, []).append((found[4:].norm() / G[t, b].norm()).item())
    assert flow.span == 8
    for d, values in ratios.items():
        assert flow.pairs[d] == len(values)
        found = (flow.mean[d], flow.low[d], flow.median[d], flow.high[d], flow.fields["c"][d])
        expected = (np.mean(values), *np.quantile(values, (0.1, 0.5, 0.9)), np.median(by_field[d]))
        np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert flow.fields["c"][0] == 0, "what a loss asks of h_t alone"


def test_few_ends_are_taken_evenly_and_the_last_is_among_them() -> None:
    layer, x = drawn("gru"), torch.randn(20, 2, 3, dtype=torch.float64)
    flow = gradient_flow(layer, x, ends=5, span=6)
    assert flow.span == 6
    assert flow.pairs.tolist() == [10, 10, 10, 10, 10, 8, 8]  # t = 4, 8, 11, 15, 19 in each row
    whole = gradient_flow(layer, x, ends=None)
    assert whole.pairs[0] == 40
    assert whole.pairs[19] == 2


@pytest.mark.parametrize(("factor", "verdict"), [(0.5, "vanishes"), (0.99, "holds"), (1.5, "explodes")])
def test_a_linear_network_of_one_factor(factor: float, verdict: str) -> None:
    Q = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    flow = gradient_flow(linear(factor * Q), torch.randn(31, 4, 2, dtype=torch.float64))
    for values in (flow.mean, flow.median, flow.low, flow.high, flow.size):
        np.testing.assert_allclose(values, factor ** np.arange(31.0), rtol=1e-9)
    assert flow.bound == pytest.approx(factor, rel=1e-12)
    assert flow.factor == pytest.approx(factor, rel=1e-12)
    assert flow.verdict == verdict
    assert flow.memory == {0.5: 7, 0.99: None, 1.5: None}[factor]
    said = {0.5: "within 7 steps", 0.99: "over all 30 steps measured: there it is still 74 %", 1.5: "12 steps back"}
    assert said[factor] in flow.words
    assert flow.words in str(flow)


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_d6_an_error_is_a_product_of_factors_within_a_bound(scale: float) -> None:
    """Eqs 6.45 and 6.46: δ_(t,k) = Π diag(f'(z_i)) Uᵀ δ_(t,t), and its norm is γ^(t-k) of ‖δ_(t,t)‖ at the most."""
    layer = Recurrent("elman", 3, 4, init={"U": f"orthogonal*{scale}"}, dtype=torch.float64)
    x, C = 0.3 * torch.randn(9, 1, 3, dtype=torch.float64), torch.randn(9, 4, dtype=torch.float64)
    U = layer.get_parameter("weight_hh_l0").detach()
    slopes = 1 - layer(x)[0][:, 0].detach() ** 2  # f'(z_i) of tanh
    written = recurra.learn.explain_bptt(layer, x, lambda y, t: (y[0] * C[t]).sum())
    flow = gradient_flow(layer, x, ends=None, loss=lambda returned: (returned[0][:, 0] * C).sum())
    gamma = max(torch.linalg.matrix_norm(torch.diag(slope) @ U.T, 2).item() for slope in slopes[:-1])
    ratios: dict[int, list[float]] = {}
    for t in range(9):
        begun = slopes[t] * C[t]
        for k in range(t + 1):
            delta = begun
            for i in range(t - 1, k - 1, -1):
                delta = torch.diag(slopes[i]) @ U.T @ delta
            torch.testing.assert_close(written.net_inputs["h_l0"][t, k, 0], delta, rtol=1e-11, atol=1e-15)
            assert delta.norm() <= gamma ** (t - k) * begun.norm() * (1 + 1e-12)
            at_state = U.T @ written.net_inputs["h_l0"][t, k + 1, 0] if k < t else C[t]  # ∂L_t/∂h_k, by eq. 6.33
            ratios.setdefault(t - k, []).append((at_state.norm() / C[t].norm()).item())
    for d, values in ratios.items():
        assert flow.median[d] == pytest.approx(np.median(values), rel=1e-11)
    assert flow.bound is not None
    assert all(max(values) <= flow.bound**d * (1 + 1e-12) for d, values in ratios.items())
    assert (flow.median[8] > 10) == (scale > 1), "one of the two explodes"
    assert (flow.median[8] < 0.1) == (scale < 1), "the other one vanishes"


def test_the_bound_is_no_forecast() -> None:
    """γ > 1 need not explode: a network that is not normal."""
    flow = gradient_flow(linear(torch.tensor([[0.5, 3.0], [0.0, 0.5]])), torch.zeros(40, 1, 2, dtype=torch.float64))
    assert flow.bound == pytest.approx(np.linalg.norm([[0.5, 3.0], [0.0, 0.5]], 2))
    assert flow.bound is not None
    assert flow.bound > 3
    assert flow.verdict == "vanishes"
    distance = np.arange(40.0)
    assert (flow.high <= flow.bound**distance * (1 + 1e-12)).all()


def test_what_is_far_too_small_for_a_float_still_has_a_factor() -> None:
    flow = gradient_flow(linear(1e-3 * torch.eye(2, dtype=torch.float64)), torch.zeros(200, 1, 2, dtype=torch.float64))
    assert flow.median[-1] == 0, "1e-597"
    assert flow.factor == pytest.approx(1e-3, rel=1e-9)


def test_dead_units_pass_nothing() -> None:
    layer = drawn("irnn")
    with torch.no_grad():
        layer.get_parameter("bias_l0").fill_(-100.0)
    flow = gradient_flow(layer, torch.randn(9, 2, 3, dtype=torch.float64))
    assert flow.memory == 1
    assert flow.words == "The gradient falls to nothing within one step: this layer learns nothing from earlier steps."
    assert flow.factor == 0


@pytest.mark.parametrize("bound", [True, False])
def test_a_loss_that_reads_only_the_first_step_taken_says_nothing_of_the_rest(bound: bool) -> None:
    layer = nn.LSTM(3, 8, batch_first=True, bidirectional=True)
    recording = record(layer, torch.randn(4, 50, 3), loss=lambda returned: returned[0][:, -1].sin().sum())
    flow = gradient_flow(recording, direction="backward", bound=bound)
    assert flow.words == "The loss reads only the first step that this direction takes, so nothing goes back."
    assert (flow.steps, flow.span, flow.verdict, flow.factor, flow.memory) == (50, 0, None, None, None)
    assert "in the mean" not in str(flow)
    assert ("at the most" in str(flow)) == bound
    told = json.loads(flow.to_json(), parse_constant=pytest.fail)
    assert (told["verdict"], told["factor"], told["steps"]) == (None, None, 50)
    other = gradient_flow(recording, direction="forward")
    assert (other.span, other.verdict) == (49, "vanishes")


def test_e8_open_forget_gates_pass_on_what_a_simple_network_loses() -> None:
    """At 100 steps, the gradient of an LSTM over that of a simple network with an orthogonal U."""
    lstm = Recurrent(CATALOGUE["lstm"](forget_bias=6.0), 2, 16)
    srn = Recurrent("elman", 2, 16, init={"U": "orthogonal"})
    x = torch.randn(140, 8, 2)
    ratio = {layer.form.name: gradient_flow(layer, x, bound=False).median[100] for layer in (lstm, srn)}
    assert ratio["lstm"] > 0.01
    assert ratio["lstm"] > 100 * ratio["elman"]


# --- whole models ----------------------------------------------------------------------------------------------------


class Model(nn.Module):
    """A user's own: an LSTM between other layers, read in one of several ways."""

    def __init__(self, read: str, **options: Any) -> None:
        super().__init__()
        self.enter = nn.Linear(2, 3)
        self.rnn: nn.Module = nn.LSTM(3, 4, **options)
        self.query = nn.Parameter(torch.randn(4 * (2 if options.get("bidirectional") else 1)))
        self.read = read

    def forward(self, x: Tensor) -> Tensor:
        output, (h, c) = self.rnn(self.enter(x))
        if self.read == "last":
            return output[-1].sin().sum(-1)
        if self.read == "final":
            return (h[-1] * c[0]).sin().sum(-1)
        if self.read == "steps":
            return output.sin().sum((0, 2))
        weights = torch.softmax(output @ self.query, 0)  # attention: every output matters for every other one
        return (weights.unsqueeze(-1) * output).sum(0).sin().sum(-1)


def totals(system: System) -> dict[int, Tensor]:
    """By step, the sum over t of all δ_(t,k): the whole gradient by the state, (B, S)."""
    assert system.gradient is not None
    rows = torch.arange(system.x.shape[1])
    found = {}
    whole = torch.zeros_like(system.gradient[0])
    for k in range(system.steps - 1, -1, -1):
        whole = whole + system.gradient[k]
        found[int(system.places[k, 0, 0])] = whole
        whole = system.pulled(k, rows, whole)
    return found


@pytest.mark.parametrize("read", ["last", "final", "steps", "attention"])
@pytest.mark.parametrize(
    "options", [{}, {"bidirectional": True}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}], ids=str
)
def test_a_models_own_loss_reaches_every_layer_and_direction(read: str, options: dict[str, Any]) -> None:
    model = Model(read, **options).double()
    assert isinstance(model.rnn, nn.LSTM)
    x = torch.randn(6, 3, 2, dtype=torch.float64)
    recording = record(model, x, loss=lambda said: said.sum())
    by_hand = Unrolled(model.rnn)
    model.rnn = by_hand
    loss = model(x).sum()
    for system in recording.systems:
        for step, found in totals(system).items():
            eps = by_hand.added[system.depth, int(system.direction == "backward"), step]
            expected = torch.autograd.grad(loss, eps, retain_graph=True, allow_unused=True, materialize_grads=True)
            torch.testing.assert_close(found, torch.cat(expected, -1), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"skip": "residual", "num_layers": 2},
        {"skip": "highway", "num_layers": 2, "bidirectional": True},
        {"input_layers": (5,), "output_layers": (6, 2)},
        {"zoneout": 0.3},
        {"reverse": True},
        {"learn_initial_state": True, "dropout": 0.5, "num_layers": 2},
        {"memory": "recompute"},
    ],
    ids=str,
)
def test_options_of_a_layer(options: dict[str, Any]) -> None:
    """Followed to its beginning, the whole gradient is autograd's by the state that was given."""
    layer, x = drawn("lstm", **options).eval(), torch.randn(5, 3, 3, dtype=torch.float64)
    lengths, places = [5, 2, 4], len(layer._places)
    begun = tuple(torch.randn(places, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    weights = torch.randn(5, 3, layer.output_size, dtype=torch.float64)

    def loss(returned: Any) -> Tensor:
        return (returned[0] * weights).sum() + returned[1].h.sin().sum() + returned[1].c.square().sum()

    expected = torch.autograd.grad(loss(layer(x, begun, lengths=lengths)), begun)
    recording = record(layer, (x, begun), options={"lengths": lengths}, loss=loss)
    assert len(recording.systems) == places
    for i, system in enumerate(recording.systems):
        assert system.lengths.tolist() == lengths
        torch.testing.assert_close(to_the_beginning(system), torch.cat([g[i] for g in expected], -1))


def to_the_beginning(system: System) -> Tensor:
    """The whole gradient by the state before each row's first step, (B, S)."""
    assert system.gradient is not None
    rows = torch.arange(len(system.lengths))
    whole = torch.zeros_like(system.gradient[0])
    for k in range(system.steps - 1, -1, -1):
        pulled = system.pulled(k, rows, whole + system.gradient[k])
        whole = torch.where((k < system.lengths).unsqueeze(-1), pulled, whole)
    return whole


def test_a_single_sequence_and_rows_first() -> None:
    layer, x = drawn("gru"), torch.randn(6, 1, 3, dtype=torch.float64)
    expected = gradient_flow(layer, x, loss=lambda returned: returned[0].sin().sum()).median
    single = gradient_flow(layer, x[:, 0], loss=lambda returned: returned[0].sin().sum() + 0 * returned[1].h.sum())
    np.testing.assert_allclose(single.median, expected, rtol=1e-12)
    layer.batch_first = True
    rows_first = gradient_flow(layer, x.transpose(0, 1), loss=lambda returned: returned[0].sin().sum())
    np.testing.assert_allclose(rows_first.median, expected, rtol=1e-12)


@pytest.mark.parametrize("kind", [nn.RNN, nn.LSTM, nn.GRU, recurra.RNN, recurra.LSTM, recurra.GRU])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_packed_padded_and_told_lengths_are_alike(kind: Any, bidirectional: bool) -> None:
    layer = kind(3, 4, bidirectional=bidirectional, bias=not bidirectional).double()
    x, lengths = torch.randn(8, 3, 3, dtype=torch.float64), [3, 8, 5]
    x[3:, 0] = 1e3  # padding, which must not matter
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    twin = recurra.from_torch(layer)
    ours = [gradient_flow(twin, x, options={"lengths": lengths}, direction=d, seed=1) for d in sides(bidirectional)]
    theirs = [gradient_flow(layer, packed, direction=d, seed=1) for d in sides(bidirectional)]
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a.median, b.median, rtol=1e-9)
        assert a.bound == pytest.approx(b.bound, rel=1e-9)
        assert a.pairs.tolist() == b.pairs.tolist() == [16, 13, 10, 7, 5, 3, 2, 1]
    if not bidirectional:
        told = gradient_flow(layer, x, lengths=lengths, seed=1)
        np.testing.assert_allclose(told.median, ours[0].median, rtol=1e-9)


def sides(bidirectional: bool) -> list[Any]:
    return ["forward", "backward"] if bidirectional else ["forward"]


def test_a_loss_over_a_packed_output() -> None:
    layer, x = nn.GRU(3, 4).double(), torch.randn(6, 2, 3, dtype=torch.float64)
    packed = pack_padded_sequence(x, torch.tensor([4, 6]), enforce_sorted=False)
    found = gradient_flow(layer, packed, loss=lambda returned: returned[0].data.sin().sum(), ends=None)
    inside = torch.arange(6).unsqueeze(1) < torch.tensor([4, 6])
    expected = gradient_flow(layer, x, lengths=[4, 6], loss=lambda returned: returned[0][inside].sin().sum(), ends=None)
    np.testing.assert_allclose(found.median, expected.median, rtol=1e-9)


def test_nothing_crosses_a_reset_and_masked_steps_do_not_count() -> None:
    layer, x = drawn("lstm"), torch.randn(9, 1, 3, dtype=torch.float64)
    x[3] = math.nan
    mask, reset = torch.ones(9, 1, dtype=torch.bool), torch.zeros(9, 1, dtype=torch.bool)
    mask[3], reset[5] = False, True
    for backward in (False, True):
        layer = drawn("lstm", reverse=backward)
        system = record(layer, x, options={"mask": mask, "reset": reset}).system()
        pieces = [[0, 1, 2, 4], [5, 6, 7, 8]]
        pieces = [piece[::-1] for piece in pieces[::-1]] if backward else pieces
        assert system.lengths.tolist() == [4, 4]
        assert system.places[:, 0, 0].tolist() == pieces[0]
        assert system.places[:, 1, 0].tolist() == pieces[1]
        layer.reverse = False
        for place in layer._places:
            place.reverse = False
        for row, piece in enumerate(pieces):
            states = states_along(layer, x[piece])
            for k in range(4):
                torch.testing.assert_close(system.joined([v[k, row] for v in system.old]), joined(layer, states[k]))
                torch.testing.assert_close(system.joined([v[k, row] for v in system.new]), joined(layer, states[k + 1]))


def test_a_final_state_that_was_reset_afterwards_asks_nothing_of_the_last_step() -> None:
    layer, x = drawn("gru"), torch.randn(5, 2, 3, dtype=torch.float64)
    mask, reset = torch.ones(5, 2, dtype=torch.bool), torch.zeros(5, 2, dtype=torch.bool)
    mask[3:, 0], reset[4, 0] = False, True
    system = record(
        layer, x, options={"mask": mask, "reset": reset}, loss=lambda returned: returned[1].h.sum()
    ).system()
    assert system.gradient is not None
    own = {int(b): system.gradient[: system.lengths[i], i] for i, b in enumerate(system.places[0, :, 1])}
    assert not own[0].any()
    assert own[1][-1].all()


# --- loops over steps ------------------------------------------------------------------------------------------------


class Loop(nn.Module):
    """A model that takes steps itself."""

    def __init__(self, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.step = make()

    def forward(self, x: Tensor) -> Tensor:
        state, outputs = None, []
        for x_t in x:
            if isinstance(self.step, nn.RNNBase):
                output, state = self.step(x_t.unsqueeze(0), state)
                outputs.append(output[0])
            elif isinstance(self.step, Recurrent):
                output, state = self.step.step(x_t, state)
                outputs.append(output)
            else:
                state = self.step(x_t, state)
                outputs.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(outputs)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("single", [False, True])
def test_a_model_that_takes_steps_itself_is_as_one_run(kind: str, single: bool) -> None:
    layer = getattr(nn, kind)(3, 4).double()
    cell = getattr(nn, kind + "Cell")(3, 4).double()
    with torch.no_grad():
        for name, p in cell.named_parameters():
            p.copy_(getattr(layer, name + "_l0"))
    x = torch.randn(6, 3, dtype=torch.float64) if single else torch.randn(6, 2, 3, dtype=torch.float64)
    weights = torch.randn(6, *x.shape[1:-1], 4, dtype=torch.float64)
    expected = gradient_flow(layer, x, loss=lambda returned: (returned[0].sin() * weights).sum())
    loops = [Loop(lambda: cell)] if single else [Loop(lambda: cell), Loop(lambda: layer)]
    loops += [Loop(lambda: recurra.from_torch(layer))] * (not single)
    for model in loops:
        found = gradient_flow(model, x, loss=lambda said: (said.sin() * weights).sum())
        np.testing.assert_allclose(found.median, expected.median, rtol=1e-9)
        assert found.source == "loss"


# --- what is left, and errors ----------------------------------------------------------------------------------------


def test_the_model_is_left_as_it_was() -> None:
    model = Model("steps", dropout=0.5, num_layers=2)
    model.enter.eval()
    before = {name: module.training for name, module in model.named_modules()}
    values = {name: p.clone() for name, p in model.named_parameters()}
    drawn_next = torch.random.get_rng_state()
    gradient_flow(model, torch.randn(5, 2, 2, generator=torch.Generator()), loss=lambda said: said.sum())
    assert {name: module.training for name, module in model.named_modules()} == before
    assert all(p.grad is None and p.requires_grad and p.equal(values[name]) for name, p in model.named_parameters())
    assert not model.rnn._forward_hooks
    assert torch.equal(torch.random.get_rng_state(), drawn_next)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # PyTorch's compiler has its own
def test_a_compiled_model_is_looked_at_as_it_was_written() -> None:
    model, x = Model("last"), torch.randn(5, 2, 2)
    model.rnn = recurra.LSTM(3, 4)
    compiled: Any = torch.compile(model, backend="eager", fullgraph=True)  # which a hook would break
    found = gradient_flow(compiled, x, seed=3)
    np.testing.assert_array_equal(found.median, gradient_flow(model, x, seed=3).median)


def test_hooks_are_taken_off_where_a_model_fails() -> None:
    model = Model("last")
    with pytest.raises(RuntimeError):
        gradient_flow(model, torch.zeros(5, 2, 7))
    assert not model.rnn._forward_hooks
    assert model.training


class Two(nn.Module):
    """Two layers, of which one is not called, and one called on two sequences apart."""

    def __init__(self) -> None:
        super().__init__()
        self.spare, self.twice = nn.GRU(2, 3), nn.LSTM(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(x)[0][-1] - self.twice(x.flip(0))[0][-1]


X = torch.zeros(4, 2, 2)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: gradient_flow(nn.Linear(2, 2), X),
            r"Linear: a recurrent layer is expected in it .* and there is none",
        ),
        (lambda: gradient_flow(X, X), r"model: a torch.nn.Module is expected, not Tensor"),  # type: ignore[arg-type]
        (lambda: gradient_flow(nn.GRU(2, 3)), r"x: what the model is called with is missing"),
        (lambda: gradient_flow(record(nn.GRU(2, 3), X), X), r"x: the model was run already"),
        (lambda: gradient_flow(record(nn.GRU(2, 3), X), layer="a"), r"layer: the model was run already"),
        (lambda: gradient_flow(Two(), X), r"spare: the model does not call this layer .* another one: twice"),
        (lambda: gradient_flow(Two(), X, layer="twcie"), r"unknown recurrent layer 'twcie'; did you mean 'twice'"),
        (lambda: gradient_flow(Two(), X, layer="twice"), r"call 2 of it does not go on with the state that call 1"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, depth=1), r"GRU has 1 layer, so a whole number from -1 to 0 .* not 1"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, depth=0.5), r"depth: .* from -1 to 0 is expected, not 0.5"),  # type: ignore
        (lambda: gradient_flow(nn.GRU(2, 3), X, direction="backward"), r"GRU runs forward only, not backward"),
        (
            lambda: gradient_flow(nn.GRU(2, 3), X, direction="bakward"),  # type: ignore[arg-type]
            r"unknown direction 'bakward'; did you mean 'backward'",
        ),
        (lambda: gradient_flow(nn.GRU(2, 3), X, ends=0), r"ends: a whole number above 0 is expected, not 0"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, span=1.5), r"span: a whole number above 0"),  # type: ignore[arg-type]
        (lambda: gradient_flow(nn.GRU(2, 3), X, lengths=[0, 0]), r"no step to examine: every sequence"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, lengths=[5, 1]), r"lengths: from 0 to T = 4 is expected, found 5"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, loss=lambda r: r[0]), r"scalar is expected, .* tensor \(4, 2, 3\)"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, loss=lambda r: 1.0), r"scalar .* returned float"),  # type: ignore
        (lambda: gradient_flow(nn.GRU(2, 3), X, loss=lambda r: X.sum()), r"loss: it does not depend on what GRU"),
        (lambda: gradient_flow(nn.GRU(2, 3), X, seed="x"), r"seed: a whole number from 0"),  # type: ignore[arg-type]
        (lambda: gradient_flow(record(nn.GRU(2, 3), X).system(), X), r"x: the model was run already"),
        (
            lambda: gradient_flow(nn.GRU(2, 3), X, lenghts=[2, 2]),  # type: ignore[call-arg]
            r"^gradient_flow: unknown argument 'lenghts'; did you mean 'lengths'\? Known: bound, depth",
        ),
        (
            lambda: gradient_flow(record(nn.GRU(2, 3), X), spna=3),  # type: ignore[call-arg]
            r"^gradient_flow: unknown argument 'spna'; did you mean 'span'",
        ),
        (
            lambda: gradient_flow(Two(), X, layer=nn.GRU(2, 3)),
            r"layer: this GRU is no recurrent layer of the model, which has 'spare', 'twice'",
        ),
        (lambda: gradient_flow(Two(), X, layer=3), r"layer: the name of a layer, or the layer itself"),  # type: ignore
        (
            lambda: gradient_flow(nn.GRU(2, 3), X, loss=3),  # type: ignore[arg-type]
            r"loss: a function from what the model returns to a scalar is expected, not int",
        ),
        (
            lambda: gradient_flow(nn.GRU(2, 3), X, options=[1]),  # type: ignore[arg-type]
            r"options: a table of arguments by their names is expected, not \[1\]",
        ),
        (lambda: gradient_flow(nn.GRU(2, 3), X, options={1: 2}), r"options: a table"),  # type: ignore[dict-item]
        (
            lambda: gradient_flow(nn.GRU(2, 3), X, lengths=[2, 2], loss=lambda r: r[0][3].sum()),
            r"no gradient of the loss enters the steps that are examined",
        ),
        (
            lambda: gradient_flow(
                Recurrent("gru", 2, 3), X, options={"return_states": True}, loss=lambda r: r[0].sum()
            ),
            r"return_states=True, so a loss may depend on it in ways",
        ),
    ],
)
def test_what_cannot_be_examined_is_told(call: Callable[[], Any], text: str) -> None:
    with pytest.raises(AnalysisError, match=text):
        call()


def test_a_layer_may_be_named_by_itself() -> None:
    model, x = Model("last"), torch.randn(5, 2, 2)
    expected = gradient_flow(model, x, layer="rnn")
    np.testing.assert_array_equal(gradient_flow(model, x, layer=model.rnn).median, expected.median)


def spoilt(value: float, t: int = 2, b: int = 1) -> Tensor:
    x = torch.randn(4, 3, 2)
    x[t, b, 0] = value
    return x


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_told_with_its_place(value: float) -> None:
    text = f"GRU: its input is {value} at step 2 of sequence 1 \\(both from 0\\), where finite numbers are expected"
    with pytest.raises(AnalysisError, match=text):
        gradient_flow(nn.GRU(2, 3), spoilt(value))
    gradient_flow(nn.GRU(2, 3), spoilt(value), lengths=[4, 2, 4])  # behind its end
    layer = nn.GRU(2, 3)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0")[1, 2] = value
    with pytest.raises(AnalysisError, match=f"GRU: its weight_hh_l0 holds {value}, where finite numbers are expected"):
        record(layer, X)


def test_a_state_that_grows_beyond_all_numbers_is_told() -> None:
    layer = Recurrent("irnn", 2, 3)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").fill_(1e30)
    with pytest.raises(AnalysisError, match=r"Recurrent: its state is inf at step \d+ of sequence 0"):
        gradient_flow(layer, torch.rand(30, 2, 2))


def test_a_loss_that_is_not_finite_is_told() -> None:
    layer, x = nn.GRU(2, 3), torch.randn(4, 2, 2)
    with pytest.raises(AnalysisError, match="loss: it is nan, where a finite number is expected"):
        gradient_flow(layer, x, loss=lambda returned: math.nan * returned[0].sum())
    text = r"loss: its gradient by the state of GRU is nan at step 3 of sequence 0 \(both from 0\)"
    with pytest.raises(AnalysisError, match=text):
        gradient_flow(layer, x, loss=lambda returned: (returned[0][-1] * 0).sum().sqrt())


def test_where_no_derivative_can_be_taken_that_is_told() -> None:
    layer, x = nn.GRU(2, 3), torch.randn(4, 2, 2)
    recording = record(layer, x)
    for call in (
        lambda: gradient_flow(layer, x),
        lambda: gradient_flow(layer, x, loss=lambda returned: returned[0].sum()),
        lambda: gradient_flow(recording),
    ):
        with torch.inference_mode(), pytest.raises(AnalysisError, match=r"^torch\.inference_mode: no derivative"):
            call()
    with torch.no_grad():
        assert gradient_flow(layer, x, loss=lambda returned: returned[0].sum()).span == 3


def test_errors_are_the_houses() -> None:
    with pytest.raises(recurra.RecurraError):
        gradient_flow(nn.Linear(2, 2), X)
    assert issubclass(AnalysisError, recurra.RecurraError)


# --- plain functions -------------------------------------------------------------------------------------------------


def test_a_plain_function_is_followed_like_a_cell() -> None:
    U = torch.randn(3, 3)

    def step(x: Tensor, s: Tensor) -> Tensor:
        return torch.tanh(s @ U.T + x)

    layer = Recurrent(step, 3, 3)
    flow = gradient_flow(layer, torch.randn(8, 2, 3))
    twin = Recurrent("elman", 3, 3)
    with torch.no_grad():
        twin.get_parameter("weight_ih_l0").copy_(torch.eye(3))
        twin.get_parameter("weight_hh_l0").copy_(U)
        twin.get_parameter("bias_l0").zero_()
    torch.manual_seed(0)
    torch.randn(3, 3)
    expected = gradient_flow(twin, torch.randn(8, 2, 3))
    np.testing.assert_allclose(flow.median, expected.median, rtol=1e-4)
    assert flow.cell == "step"


def test_a_module_as_a_cell_runs_in_double_precision() -> None:
    cell = nn.LSTMCell(3, 4)
    layer = Recurrent(cell, 3, 4)
    recording = record(layer, torch.randn(5, 2, 3))
    assert recording.system().new[1].dtype == torch.float64
    assert cell.weight_hh.dtype == torch.float32
    flow = gradient_flow(recording, seed=2)
    assert list(flow.fields) == ["h", "c"]


def test_a_function_that_mixes_rows_is_refused() -> None:
    layer = Recurrent(lambda x, s: torch.tanh(x + s.mean(0)), 3, 3)
    with pytest.raises(AnalysisError, match="it must treat each row by itself"):
        gradient_flow(layer, torch.randn(8, 2, 3))
