"""Learning rules: exact ones against automatic differentiation, approximations against what they leave out."""

import copy
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from gradients_by_name import EXACT, apart, drawn, random
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import recurra
from recurra import learn
from recurra.cells import CATALOGUE, cell
from recurra.engine import native
from recurra.engine.influence import Linear
from recurra.learn.followed import Followed
from recurra.math import sigmoid, tanh
from recurra.nn import Recurrent

BACKENDS = ["native", "eager"] if native.why_not() is None else ["eager"]
NOT_IN_THE_CORE = {"clockwork": "has a mask"}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(3)


def by_autograd(layer: nn.Module, x: Tensor, loss_fn: Callable[[Tensor, int], Tensor], **how: Any) -> dict[str, Tensor]:
    """The reference: one loss, differentiated by PyTorch through the run in tensor code."""
    reference = copy.deepcopy(layer)
    if isinstance(reference, Recurrent):
        again = Recurrent(
            reference.cell,
            reference.input_size,
            reference.hidden_size,
            reference.num_layers,
            batch_first=reference.batch_first,
            learn_initial_state=reference.learn_initial_state,
            backend="eager",
        ).double()
        again.load_state_dict(reference.state_dict())
        reference = again
    output = reference(x, **how)[0]
    along = 1 if getattr(layer, "batch_first", False) and x.dim() == 3 else 0
    total = sum((loss_fn(y, t) for t, y in enumerate(output.unbind(along))), x.new_zeros(()))
    if total.requires_grad:  # not where no sequence has a step
        total.backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in reference.named_parameters()}


def gradients_of(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_rtrl_is_the_gradient_of_every_cell(name: str, backend: Any) -> None:
    T, B, width, H = 50, 2, 3, 6
    layer = drawn(Recurrent(name, width, H, learn_initial_state=name not in ("slstm",)))
    x, C = random(T, B, width), random(T, B, layer.output_size)
    rule = learn.RTRL(backend=backend)
    if backend == "native" and name in NOT_IN_THE_CORE:
        with pytest.raises(ValueError, match=NOT_IN_THE_CORE[name]):
            learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), rule)
        return
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), rule)
    assert rule.choice is not None
    assert rule.choice.backend == backend
    assert apart(found, by_autograd(layer, x, lambda y, t: (y * C[t]).sum())) < EXACT


@pytest.mark.parametrize("name", CATALOGUE)
def test_bptt_written_out_is_the_gradient_of_every_cell(name: str) -> None:
    T, B, width, H = 50, 2, 3, 6
    layer = drawn(Recurrent(name, width, H))
    x, C = random(T, B, width), random(T, B, layer.output_size)
    found = learn.explain_bptt(layer, x, lambda y, t: (y * C[t]).sum())
    expected = by_autograd(layer, x, lambda y, t: (y * C[t]).sum())
    assert apart(found.gradients, expected) < EXACT
    for parameter, share in found.shares.items():
        torch.testing.assert_close(share.sum(0), expected[parameter])


@pytest.mark.parametrize("name", ["elman", "indrnn", "lstm", "gru", "clockwork", "lstm_layer_norm", "min_lstm"])
@pytest.mark.parametrize("layers", [2, 3])
def test_rtrl_is_exact_in_a_stack(name: str, layers: int) -> None:
    layer = drawn(Recurrent(name, 3, 5, layers, learn_initial_state=True))
    x, C = random(12, 2, 3), random(12, 2, 5)
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), "rtrl")
    assert apart(found, by_autograd(layer, x, lambda y, t: (y * C[t]).sum())) < EXACT


def test_by_layer_leaves_out_what_passes_through_upper_memories() -> None:
    layer = drawn(Recurrent("lstm", 3, 5, 2))
    x, C = random(9, 2, 3), random(9, 2, 5)
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), learn.RTRL("by_layer"))
    lower, upper = (Recurrent("lstm", size, 5, backend="eager").double() for size in (3, 5))
    for part, k in ((lower, 0), (upper, 1)):
        part.load_state_dict({n: layer.state_dict()[n.replace("_l0", f"_l{k}")] for n in part.state_dict()})
    middle, _ = lower(x)
    given = torch.zeros_like(middle)
    state = None
    for t in range(len(x)):  # the error that comes down at each step through that step alone
        leaf = middle[t : t + 1].detach().requires_grad_()
        y, state = upper(leaf, state)
        (given[t],) = torch.autograd.grad((y[0] * C[t]).sum(), leaf)[0]
        state = tuple(v.detach() for v in state)
    (middle * given).sum().backward()
    (upper(middle.detach())[0] * C).sum().backward()
    expected = gradients_of(lower) | {n.replace("_l0", "_l1"): g for n, g in gradients_of(upper).items()}
    assert apart(found, expected) < EXACT


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.LSTM(3, 5, 2, batch_first=True),
        lambda: nn.GRU(3, 5, bias=False),
        lambda: nn.GRU(3, 5),
        lambda: nn.LSTM(3, 5),
        lambda: nn.RNN(3, 5),
        lambda: recurra.LSTM(3, 5, proj_size=2),
        lambda: recurra.GRU(3, 5, 2),
        lambda: recurra.RNN(3, 5, nonlinearity="relu"),
    ],
)
@pytest.mark.parametrize("rule", ["rtrl", "bptt", "written out"])
def test_pytorchs_layers(make: Callable[[], nn.Module], rule: str) -> None:
    layer = drawn(make())
    x = random(4, 8, 3)
    C = random(8, 8, layer(x)[0].shape[-1])

    def loss(y: Tensor, t: int) -> Tensor:
        return (y * C[t, : len(y)]).sum()

    found = (
        learn.explain_bptt(layer, x, loss).gradients if rule == "written out" else learn.gradients(layer, x, loss, rule)
    )
    assert apart(found, by_autograd(layer, x, loss)) < EXACT


@settings(max_examples=25)
@given(
    name=st.sampled_from(sorted(CATALOGUE)),
    steps=st.integers(1, 9),
    rows=st.integers(1, 4),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 9)),
    seed=st.integers(0, 999),
    with_lengths=st.booleans(),
    double=st.booleans(),
)
def test_any_sizes(
    name: str, steps: int, rows: int, sizes: tuple[int, int], seed: int, with_lengths: bool, double: bool
) -> None:
    torch.manual_seed(seed)
    layer = drawn(Recurrent(name, *sizes))
    lengths = torch.randint(0, steps + 1, (rows,)) if with_lengths else None
    x, C = random(steps, rows, sizes[0]), random(steps, rows, layer.output_size)

    def loss(y: Tensor, t: int) -> Tensor:
        return (y * C[t].to(y)).sum()

    expected = by_autograd(layer, x, loss, lengths=lengths)
    if not double:
        layer, x = layer.float(), x.float()
    found = learn.gradients(layer, x, loss, "rtrl", lengths=lengths)
    for parameter, g in expected.items():
        tolerance = 1e-10 if double else 2e-4
        torch.testing.assert_close(
            found[parameter].double(), g, rtol=tolerance, atol=tolerance * float(1 + g.abs().max())
        )


def influence_by_hand(layer: Recurrent, x: Tensor, keep: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    """The gradient of the sum of the outputs, with an influence that is cut after every step: `keep(J, I)`."""
    followed = Followed(layer)
    (full,) = followed.layers()
    weights = {n: w.detach() for n, w in followed.weights(0).items()}
    state = full.cell.initial_state(1, full.hidden_size, x[0])
    names, S = list(followed.names(0)), full.offsets[-1]
    J = {n: x.new_zeros(S, weights[n].numel()) for n in names}
    total = {n: torch.zeros_like(weights[n]) for n in names}
    for x_t in x:
        linear = Linear(full, weights, full.values(weights, x_t, state), 1, x_t)
        old = [torch.cat(list(state), -1)[0]]

        def step(own: dict[str, Tensor], x_t: Tensor = x_t, state: Any = state) -> Tensor:
            return torch.cat(followed.step({**weights, **own}, x_t, state), -1)[0]

        at_once = torch.func.jacrev(step)({n: weights[n] for n in names})
        assert len(old) == 1
        for n in names:
            I_t = at_once[n].flatten(1)
            J[n] = keep(linear.jacobian[0] @ J[n] + I_t, I_t)
            total[n] += J[n][: full.output_size].sum(0).view_as(total[n])
        state = followed.step(weights, x_t, state)
    return {followed.names(0)[n]: v for n, v in total.items()}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["elman", "lstm", "gru", "gru_reset_after", "mgu", "lstm_peephole"])
def test_snap1_keeps_what_is_reached_in_one_step(name: str, backend: Any) -> None:
    """Menick et al. 2021, eq. 8: entries of the influence where the immediate one is zero are set to zero."""
    layer = drawn(Recurrent(name, 3, 5))
    x = random(10, 1, 3)
    expected = influence_by_hand(layer, x, lambda J, at_once: torch.where(at_once != 0, J, 0))
    found = learn.gradients(layer, x, lambda y, t: y.sum(), learn.SnAp(1, backend=backend))
    assert apart(found, expected) < EXACT
    exact = learn.gradients(layer, x, lambda y, t: y.sum())
    assert apart(found, exact) > 1e-3


@pytest.mark.parametrize("name", ["elman", "lstm", "gru_reset_after"])
def test_snap2_is_rtrl_where_u_is_dense(name: str) -> None:
    layer = drawn(Recurrent(name, 3, 5))
    x = random(10, 2, 3)
    found = learn.gradients(layer, x, lambda y, t: y.square().sum(), "snap2")
    assert apart(found, learn.gradients(layer, x, lambda y, t: y.square().sum())) < EXACT


@pytest.mark.parametrize("name", ["indrnn", "min_gru", "min_lstm", "linear_recurrence", "integrator"])
def test_snap1_and_eprop_are_exact_where_units_go_by_themselves(name: str) -> None:
    layer = drawn(Recurrent(name, 3, 5))
    x = random(10, 2, 3)
    expected = learn.gradients(layer, x, lambda y, t: y.square().sum())
    for rule in ("snap1", "eprop"):
        assert apart(learn.gradients(layer, x, lambda y, t: y.square().sum(), rule), expected) < EXACT


@pytest.mark.skipif("native" not in BACKENDS, reason="the core is not built")
@settings(max_examples=60)
@given(
    name=st.sampled_from(sorted({*CATALOGUE} - {*NOT_IN_THE_CORE, "lstm_projected"})),
    make=st.sampled_from([learn.SnAp, learn.SnAp, learn.RTRL]),
    waits=st.sampled_from([True, True, False]),
    rows=st.integers(1, 3),
    units=st.sampled_from([1, 5, 16, 17, 33]),
    learnt=st.booleans(),
    does=st.lists(
        st.sampled_from([*["step"] * 8, *["loss"] * 3, "wait", "reset", "read", "take", "move"]), max_size=70
    ),
    number=st.integers(0, 2**31),
)
def test_the_core_carries_several_steps_at_once(
    name: str, make: Any, waits: bool, rows: int, units: int, learnt: bool, does: list[str], number: int
) -> None:
    """Whatever comes between steps, and however seldom: all is as if carried at every step."""
    torch.manual_seed(number)
    if name == "slstm":
        units *= 4  # heads
    layer = drawn(Recurrent(name, 3, units, learn_initial_state=learnt))
    followed, like = Followed(layer), random(rows, 3)
    both = [make(backend=backend)._made(followed, rows, like, waits) for backend in ("native", "eager")]
    states = [list(followed.initial(rows, like)) for _ in both]
    totals: list[dict[str, Tensor]] = [{}, {}]
    with torch.no_grad():
        for what in ["step", *does, "take"]:
            x, taken, new = random(rows, 3), torch.rand(rows) < 0.6, torch.rand(rows) < 0.5
            delta = random(rows, sum(v.shape[-1] for v in states[0][0]))
            if what == "move":
                for p in layer.parameters():
                    p.mul_(0.99)
            weights = [followed.weights(0)]
            for k, influences in enumerate(both):
                if what in ("step", "wait"):
                    states[k] = influences.advance(weights, x, states[k], taken if what == "wait" else None)
                elif what == "loss":
                    influences.collect(delta, wants_below=False)
                elif what == "reset":
                    states[k] = [
                        tuple(torch.where(new.unsqueeze(-1), a, b) for a, b in zip(one, other, strict=True))
                        for one, other in zip(followed.initial(rows, like), states[k], strict=True)
                    ]
                    influences.forget(new)
                elif what == "read":
                    influences.restore(influences.tensors())
                elif what == "take":
                    for n, gradient in influences.take(weights)[0].items():
                        totals[k][n] = totals[k].get(n, 0) + gradient
    for n, gradient in totals[1].items():
        torch.testing.assert_close(totals[0][n], gradient, rtol=1e-9, atol=1e-9)


def test_what_u_lets_through_is_all_that_is_kept() -> None:
    def numbers(name: Any, H: int) -> int:
        return Followed(Recurrent(name, 3, H)).layers()[0].numbers

    H = 8
    columns = 3 + H + 1
    assert numbers("elman", H) == H * H * columns
    assert numbers("indrnn", H) == H * (3 + 1 + 1)
    assert numbers("clockwork", H) == sum(2 * reached * columns for reached in (2, 4, 6, 8))
    in_heads = Recurrent(CATALOGUE["slstm"](heads=4), 3, H)
    assert Followed(in_heads).layers()[0].numbers == 4 * 4 * (4 * 2 * 2 * (3 + 2 + 1))
    found = learn.gradients(drawn(in_heads), x := random(9, 2, 3), lambda y, t: y.square().sum(), "rtrl")
    assert apart(found, by_autograd(in_heads, x, lambda y, t: y.square().sum())) < EXACT


def test_eprop_leaves_out_what_passes_through_u() -> None:
    layer = drawn(Recurrent("lstm", 3, 5))
    x = random(10, 2, 3)

    def by_traces() -> dict[str, Tensor]:
        """Bellec et al. 2020 for the LSTM: h_(t-1) is a constant where U multiplies it."""
        reference = copy.deepcopy(layer)
        W, U, b = reference.weight_ih_l0, reference.weight_hh_l0, reference.bias_l0
        h, c, total = x.new_zeros(2, 5), x.new_zeros(2, 5), x.new_zeros(())
        for x_t in x:
            i, f, g, o = (x_t @ W.t() + h.detach() @ U.t() + b).chunk(4, -1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            total = total + h.square().sum()
        total.backward()
        return {n: p.grad for n, p in reference.named_parameters()}

    assert apart(learn.gradients(layer, x, lambda y, t: y.square().sum(), "eprop"), by_traces()) < EXACT


def test_uoro_is_right_on_average() -> None:
    layer = drawn(Recurrent("gru", 2, 3))
    x, C = random(6, 1, 2), random(6, 1, 3)
    expected = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum())
    rule, count = learn.UORO(seed=5), 600
    drawn_ones = [learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), rule) for _ in range(count)]
    for name, g in expected.items():
        found = torch.stack([one[name] for one in drawn_ones])
        error = found.std(0) / count**0.5
        assert ((found.mean(0) - g).abs() < 5 * error + 1e-9).all(), name
        assert found.std(0).mean() > 0.1 * g.abs().mean(), name


# --- truncated backpropagation ---------------------------------------------------------------------------------------


def truncated_by_hand(layer: Recurrent, x: Tensor, C: Tensor, k1: int, k2: int) -> dict[str, Tensor]:
    """Williams & Peng 1990: after every k1 steps their losses, back through the last k2."""
    states: list[Any] = [None]
    with torch.no_grad():
        for x_t in x:
            states.append(layer(x_t.unsqueeze(0), states[-1])[1])
    total = {n: torch.zeros_like(p) for n, p in layer.named_parameters()}
    for end in range(k1, len(x) + k1, k1):
        first, stop = max(0, end - k2), min(end, len(x))
        y, _ = layer(x[first:stop], states[first])
        losses = (y * C[first:stop])[max(end - k1 - first, 0) :].sum()
        for (n, _), g in zip(total.items(), torch.autograd.grad(losses, list(layer.parameters())), strict=True):
            total[n] += g
    return total


@pytest.mark.parametrize(("k1", "k2"), [(4, 4), (3, 7), (1, 5), (5, 6), (20, 20)])
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_truncated_bptt(k1: int, k2: int, name: str) -> None:
    layer = drawn(Recurrent(name, 3, 5, 2))
    x, C = random(17, 2, 3), random(17, 2, 5)
    expected = truncated_by_hand(layer, x, C, k1, k2)
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), learn.TruncatedBPTT(k1, k2))
    assert apart(found, expected) < EXACT
    rule = learn.TruncatedBPTT(k1, k2).begin(layer, rows=2)
    for t in range(17):
        rule.step((rule(x[t]) * C[t]).sum())
    rule.finish()
    assert apart({n: p.grad for n, p in layer.named_parameters()}, expected) < EXACT


def test_ragged_sequences_in_windows() -> None:
    layer = drawn(Recurrent("gru", 3, 5))
    x, C, lengths = random(11, 3, 3), random(11, 3, 5), torch.tensor([11, 2, 6])
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), learn.TruncatedBPTT(3, 5), lengths=lengths)
    each = [truncated_by_hand(layer, x[:n, b : b + 1], C[:n, b : b + 1], 3, 5) for b, n in enumerate(lengths.tolist())]
    assert apart(found, {n: sum(one[n] for one in each) for n in found}) < EXACT  # type: ignore[misc]


def test_a_window_that_is_longer_than_the_sequence_is_bptt() -> None:
    layer = drawn(Recurrent("lstm", 3, 5, learn_initial_state=True))
    x = random(9, 2, 3)
    for rule in (learn.TruncatedBPTT(9), learn.TruncatedBPTT(2, 50)):
        found = learn.gradients(layer, x, lambda y, t: y.square().sum(), rule)
        assert apart(found, learn.gradients(layer, x, lambda y, t: y.square().sum())) < EXACT


# --- streams ---------------------------------------------------------------------------------------------------------

RULES = {
    "bptt": learn.BPTT,
    "tbptt": lambda: learn.TruncatedBPTT(3, 5),
    "rtrl": learn.RTRL,
    "rtrl in tensor code": lambda: learn.RTRL(backend="eager"),
    "rtrl by layer": lambda: learn.RTRL("by_layer"),
    "snap1": lambda: learn.SnAp(1),
    "eprop": learn.EProp,
    "uoro": lambda: learn.UORO(2),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_stream_is_the_sequence_while_parameters_stand_still(rule: str, layers: int) -> None:
    layer = drawn(Recurrent("gru", 3, 5, layers))
    x, C = random(10, 3, 3), random(10, 3, 5)
    expected = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), RULES[rule]())
    online = RULES[rule]().begin(layer, rows=3)
    outputs = []
    for t in range(10):
        y = online(x[t])
        outputs.append(y.detach())
        online.step((y * C[t]).sum())
    online.finish()
    torch.testing.assert_close(torch.stack(outputs), layer(x)[0].detach())
    assert apart({n: p.grad for n, p in layer.named_parameters()}, expected) < EXACT


@pytest.mark.parametrize("rule", ["rtrl", "rtrl in tensor code", "snap1", "tbptt", "bptt", "eprop"])
def test_rows_are_reset_and_wait_by_themselves(rule: str) -> None:
    """A row that begins anew, or takes no step, learns as it would alone."""
    layer, head = drawn(Recurrent("lstm", 3, 5, learn_initial_state=True)), drawn(nn.Linear(5, 1))
    x = random(9, 2, 3)
    reset, taken = torch.rand(9, 2) < 0.3, torch.rand(9, 2) < 0.7

    def run(rows: list[int]) -> dict[str, Tensor]:
        layer.zero_grad()
        online = RULES["tbptt" if rule == "tbptt" else rule]() if rule != "tbptt" else learn.TruncatedBPTT(9)
        online.begin(layer, rows=len(rows))
        for t in range(9):
            y = online(x[t, rows], reset[t, rows], taken[t, rows])
            online.step((head(y).squeeze(-1) * taken[t, rows]).square().sum())
        online.finish()
        return {n: p.grad.clone() for n, p in layer.named_parameters()}

    together, each = run([0, 1]), [run([0]), run([1])]
    assert apart(together, {n: each[0][n] + each[1][n] for n in together}) < EXACT


@pytest.mark.parametrize("rule", RULES)
def test_parameters_move_and_a_checkpoint_goes_on(rule: str) -> None:
    """Stopped and taken up again, everything ends as without a stop, bit for bit."""

    def begun() -> tuple[Any, Any, Any]:
        torch.manual_seed(1)
        layer = Recurrent("gru", 2, 4)
        return layer, torch.optim.SGD(layer.parameters(), lr=0.1), RULES[rule]().begin(layer)

    xs, ys = torch.randn(24, 2), torch.randn(24, 4)

    def go_on(layer: Any, optimizer: Any, online: Any, steps: range) -> None:
        for t in steps:
            if online.step((online(xs[t]) - ys[t]).square().sum()):
                optimizer.step()
                optimizer.zero_grad()

    layer, optimizer, online = begun()
    go_on(layer, optimizer, online, range(12))
    online.finish()
    optimizer.step()
    optimizer.zero_grad()
    kept, weights = {n: v.clone() for n, v in online.tensors().items()}, copy.deepcopy(layer.state_dict())
    go_on(layer, optimizer, online, range(12, 24))
    online.finish()
    optimizer.step()
    again, optimizer, online = begun()
    again.load_state_dict(weights)
    online.restore(kept)
    go_on(again, optimizer, online, range(12, 24))
    online.finish()
    optimizer.step()
    for name, p in layer.named_parameters():
        assert torch.equal(p, again.get_parameter(name)), name


@pytest.mark.parametrize("rule", ["rtrl", "snap1", "tbptt"])
def test_it_learns_online(rule: str) -> None:
    """The next bit of a period of five, from the present one: only a memory can tell."""
    torch.manual_seed(0)
    layer, head = Recurrent("gru_reset_after", 1, 12), nn.Linear(12, 1)
    optimizer = torch.optim.Adam([*layer.parameters(), *head.parameters()], lr=0.01)
    bits = torch.tensor([1.0, 0, 0, 1, 1]).repeat(400)
    online = learn.find(rule).begin(layer)
    losses = []
    for now, following in pairwise(bits):
        loss = nn.functional.binary_cross_entropy_with_logits(head(online(now.view(1)))[0], following)
        losses.append(loss.item())
        if online.step(loss):
            optimizer.step()
            optimizer.zero_grad()
    assert sum(losses[:20]) / 20 > 0.5
    assert sum(losses[-100:]) / 100 < 0.1


def test_what_x_is_made_of_learns_from_the_present_step() -> None:
    below, layer = drawn(nn.Linear(2, 3)), drawn(Recurrent("gru", 3, 5))
    x, C = random(7, 2), random(7, 5)
    for rule in (learn.SnAp(1, backend="eager"), learn.SnAp(1)):
        below.zero_grad()
        online, state, expected = rule.begin(layer), None, torch.zeros_like(below.weight)
        for t in range(7):
            online.step((online(below(x[t])) * C[t]).sum())
            y, state = layer.step(below(x[t]), state)
            expected += torch.autograd.grad((y * C[t]).sum(), below.weight)[0]
            state = tuple(v.detach() for v in state)
        torch.testing.assert_close(below.weight.grad, expected)


# --- functions, and what cannot be -----------------------------------------------------------------------------------


class Own(nn.Module):
    """A step that is no cell."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(7, 4)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.inner(torch.cat([x, h], -1))) + 0.1 * h.flip(-1)


def added_up(x: Tensor, h: Tensor) -> Tensor:
    """A step without parameters."""
    return h + x


def test_a_module_of_ones_own() -> None:
    layer = drawn(Recurrent(Own(), 3, 4))
    x, C = random(12, 2, 3), random(12, 2, 4)
    rule = learn.RTRL()
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), rule)
    assert rule.choice is not None
    assert "automatic differentiation" in rule.choice.reason
    assert apart(found, by_autograd(layer, x, lambda y, t: (y * C[t]).sum())) < EXACT


@cell(state="h", gates="h")
def sorted_cell(z: Any, s: Any) -> Any:
    """A body that is no program."""
    return tanh(z.h) + 0.1 * torch.sort(s.h, -1).values


@cell(state="h c", gates="i f", vectors="a")
def own_cell(z: Any, s: Any, p: Any) -> Any:
    """A body with a product in the middle, and a parameter that is changed before it is used."""
    f = sigmoid(z.f + sigmoid(p.a) * s.c)
    c = f * s.c + (1 - f) * tanh(z.i(f * s.h))
    return tanh(c) * s.h.abs() + f, c


@pytest.mark.parametrize("body", [sorted_cell, own_cell])
def test_a_cell_of_ones_own(body: Any) -> None:
    layer = drawn(Recurrent(body, 3, 4))
    x, C = random(12, 2, 3), random(12, 2, 4)
    found = learn.gradients(layer, x, lambda y, t: (y * C[t]).sum(), "rtrl")
    assert apart(found, by_autograd(layer, x, lambda y, t: (y * C[t]).sum())) < EXACT


def holds(value: float, *shape: int) -> Tensor:
    """Zeros, and a value at the third of four steps."""
    zeros = torch.zeros(shape)
    zeros.select(shape.index(4), 2).fill_(value)
    return zeros


REFUSED: list[tuple[Callable[[], Any], str]] = [
    (lambda: learn.TruncatedBPTT(5, 3), "k2: 3 steps are gone back through after every 5"),
    (lambda: learn.TruncatedBPTT(0), "k1: a whole number from 1 on is expected, not 0"),
    (lambda: learn.TruncatedBPTT(4, 4.5), "k2: a whole number from 1 on is expected, not 4.5"),  # type: ignore[arg-type]
    (lambda: learn.SnAp(0), "n: a whole number of steps from 1 on is expected, not 0"),
    (lambda: learn.RTRL("exakt"), "'exact'"),  # type: ignore[arg-type]
    (lambda: learn.RTRL(backend="nativ"), "'native'"),  # type: ignore[arg-type]
    (lambda: learn.find("rtrll"), "'rtrl'"),
    (lambda: learn.find("snap"), r"'snap1'\? Known: bptt, eprop, rtrl, snap1, snap2, snap3, …, tbptt, uoro$"),
    (lambda: learn.find("snap0"), "did you mean 'snap1'"),
    (lambda: learn.find("snap02"), "did you mean 'snap2'"),
    (lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3, bidirectional=True)), "bidirectional=True reads the future"),
    (lambda: learn.BPTT().begin(Recurrent("lstm", 2, 3, reverse=True)), "reverse=True reads the future"),
    (lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3, zoneout=0.1)), "zoneout=0.1 is no part"),
    (lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3, 2, skip="residual")), "skip='residual' is no part"),
    (lambda: learn.SnAp().begin(Recurrent("lstm", 2, 3, recurrent_dropout=0.5)), "recurrent_dropout=0.5 is no part"),
    (lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3), rows=0), "rows: a whole number from 1 on is expected"),
    (lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3), rows=1.5), "not 1.5"),  # type: ignore[arg-type]
    (lambda: learn.RTRL().tensors(), "the stream has not begun"),
    (lambda: within_a_window(learn.TruncatedBPTT(3, 5)).tensors(), "a window is under way, 2 of 3 steps"),
    (lambda: within_a_window(learn.BPTT()).tensors(), "losses are still to be gone back through"),
    (lambda: stepped(learn.SnAp()).step(torch.ones(3, requires_grad=True)), r"loss: a scalar is expected, not \(3,\)"),
    (lambda: stepped(learn.TruncatedBPTT(3)).step(torch.tensor(1.0)), "loss: it has no gradient"),
    (
        lambda: learn.SnAp().begin(Recurrent(sorted_cell, 2, 3)),
        "snap needs the program of cell 'sorted_cell': it takes sort of a value",
    ),
    (lambda: learn.RTRL().begin(Recurrent(sorted_cell, 2, 3, 2)), "followed in one layer alone; num_layers is 2"),
    (lambda: learn.RTRL("by_layer").begin(Recurrent(sorted_cell, 2, 3, 2)), "in one layer alone; num_layers is 2"),
    (lambda: learn.RTRL().begin(Recurrent(added_up, 3, 3)), "'added_up' has no parameters that are known"),
    (
        lambda: learn.EProp().begin(Recurrent(Own(), 3, 4)),
        "eprop needs the program of cell 'Own': it is a plain function",
    ),
    (
        lambda: learn.explain_bptt(Recurrent(sorted_cell, 2, 3), torch.zeros(4, 1, 2), torch.zeros(4, 1, 3)),
        "'sorted_cell' cannot be written down as a program: it takes sort of a value",
    ),
    (lambda: learn.RTRL().begin(nn.Linear(2, 3)), "a Recurrent, an LSTM, GRU or RNN is expected, not Linear"),
    (lambda: learn.RTRL()(torch.zeros(2)), r"rule.begin\(layer\) comes first"),
    (
        lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3))(torch.zeros(3)),
        r"x: a tensor \(2,\) is expected, not \(3,\)",
    ),
    (
        lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3), rows=2)(torch.zeros(2, 2), reset=torch.tensor([True])),
        r"reset: \(2,\) is expected, not \(1,\)",
    ),
    (
        lambda: learn.RTRL().begin(Recurrent("lstm", 2, 3))(torch.zeros(2, requires_grad=True)),
        "stack='by_layer', which has them learn from the present step",
    ),
    (
        lambda: learn.gradients(Recurrent("lstm", 2, 3), torch.zeros(4, 1, 2), lambda y, t: y.sum(-1), "rtrl"),
        r"loss_fn: a scalar is expected at every step, not a tensor \(1,\) at step 0",
    ),
    (
        lambda: learn.explain_bptt(nn.LSTM(2, 3), torch.zeros(0, 1, 2), torch.zeros(0, 1, 3)),
        r"x: at least one step and one row are expected, not \(0, 1, 2\)",
    ),
    (
        lambda: learn.explain_bptt(nn.GRU(2, 3, batch_first=True), holds(math.nan, 1, 4, 2), torch.zeros(1, 4, 3)),
        "x: finite numbers are expected, but nan comes in at step 2",
    ),
    (
        lambda: learn.explain_bptt(Recurrent("elman", 2, 3), torch.zeros(4, 1, 2), holds(math.inf, 4, 1, 3)),
        "loss: a finite number is expected at every step, but it is inf at step 2",
    ),
    (
        lambda: learn.explain_bptt(
            Recurrent("elman", 2, 3, init={"b": math.inf}), torch.zeros(4, 1, 2), torch.zeros(4, 1, 3)
        ),
        "model: its bias_l0 holds inf, where finite numbers are expected",
    ),
    (
        lambda: learn.explain_bptt(Recurrent("lstm", 2, 3), torch.zeros(4, 1, 2), torch.zeros(4, 1, 2)),
        r"y: \(4, 1, 3\) is expected",
    ),
    (lambda: learn.explain_bptt(nn.Linear(2, 3), torch.zeros(4, 1, 2)), "a module with one of them, is expected"),
    (
        lambda: learn.explain_bptt(
            Recurrent("lstm", 2, 3, bidirectional=True), torch.zeros(4, 1, 2), torch.zeros(4, 1, 6)
        ),
        "bidirectional=True is no part",
    ),
]


def within_a_window(rule: Any) -> Any:
    rule.begin(Recurrent("gru", 2, 3))
    for _ in range(2):
        rule.step(rule(torch.zeros(2)).sum())
    return rule


def stepped(rule: Any) -> Any:
    rule.begin(Recurrent("gru", 2, 3))(torch.zeros(2))
    return rule


@pytest.mark.parametrize("index", range(len(REFUSED)))
def test_what_cannot_be_says_which_part_and_why(index: int) -> None:
    call, said = REFUSED[index]
    with pytest.raises((ValueError, TypeError), match=said):
        call()


def test_what_has_no_share_is_a_dash() -> None:
    layer = drawn(Recurrent("lstm", 2, 3))
    lines = str(learn.explain_bptt(layer, random(1, 1, 2), random(1, 1, 3))).splitlines()
    assert lines[0].startswith("1 step, loss")
    assert lines[2].split()[-3:] == ["weight_ih_l0", "weight_hh_l0", "bias_l0"]
    assert lines[3].split()[-3:] == ["1", "–", "1"]
    assert len(lines) == 4, "over one step nothing changes by any factor"
    assert "nan" not in "".join(lines)


def test_in_evaluation_dropout_is_no_hindrance() -> None:
    layer = drawn(Recurrent("lstm", 2, 3, 2, dropout=0.5, recurrent_dropout=0.2))
    x = random(4, 1, 2)
    with pytest.raises(ValueError, match=r"dropout=0.5"):
        learn.gradients(layer, x, lambda y, t: y.sum(), "rtrl")
    layer.eval()
    expected = learn.gradients(layer, x, lambda y, t: y.sum())
    assert apart(learn.gradients(layer, x, lambda y, t: y.sum(), "rtrl"), expected) < EXACT


OF_TYPE: list[tuple[Callable[[], Any], str]] = [
    (lambda: learn.gradients(Recurrent("gru", 2, 3), torch.zeros(4, 2), added_up, None), "rule: a rule such as RTRL"),  # type: ignore[arg-type]
    (lambda: learn.gradients(Recurrent("gru", 2, 3), torch.zeros(4, 2), added_up, learn.RTRL), "not the class RTRL"),  # type: ignore[arg-type]
    (lambda: learn.gradients("gru", torch.zeros(4, 2), added_up), "layer: a Recurrent, an LSTM, GRU or RNN"),  # type: ignore[arg-type]
    (lambda: learn.gradients(Recurrent("gru", 2, 3), [[0.0]], added_up), "x: a tensor is expected, not list"),  # type: ignore[arg-type]
    (lambda: stepped(learn.RTRL()).step(0.5), "loss: a tensor made of the last output is expected, or None, not float"),
]


@pytest.mark.parametrize("index", range(len(OF_TYPE)))
def test_what_is_no_such_thing_is_told(index: int) -> None:
    run, said = OF_TYPE[index]
    with pytest.raises(TypeError) as error:
        run()
    assert said in str(error.value)


@pytest.mark.parametrize("rule", RULES)
def test_what_another_layer_kept_is_refused(rule: str) -> None:
    def kept(*how: Any) -> dict[str, Tensor]:
        one = RULES[rule]().begin(Recurrent(*how))
        for _ in range(3 if "tbptt" in rule else 1):  # to the end of a window
            one.step(one(torch.zeros(how[1])).sum())
        one.finish()
        return one.tensors()

    one = RULES[rule]().begin(Recurrent("lstm", 3, 5))
    one.restore(kept("lstm", 3, 5))
    for how in [("lstm", 3, 6), ("gru", 3, 5), ("lstm", 3, 5, 2)]:
        with pytest.raises(KeyError, match=r"state\.\d\.\d: .* (is expected|kept)"):
            one.restore(kept(*how))
    if rule not in ("bptt", "tbptt"):
        with pytest.raises(KeyError, match=r"influence\.\d"):
            one.restore(kept("lstm", 20, 5))
