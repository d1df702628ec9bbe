"""`Recurrent` against PyTorch's layers and against itself: layers, directions, layouts, steps, functions, copies."""

import copy
import pickle
from typing import Any

import pytest
import torch
from drawn import drawn_state
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra import cells
from recurra.cells import CATALOGUE, cell
from recurra.errors import CellError
from recurra.math import sigmoid, tanh
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 5, 3, 4, 6
CELLS = sorted(CATALOGUE)


def draw(module: nn.Module) -> None:
    """Unequal random parameters, biases too, so that no mix-up of gates goes unseen."""
    for p in module.parameters():
        nn.init.normal_(p, std=0.5)


def make(*arguments: Any, **options: Any) -> Recurrent:
    """A layer in double precision with random parameters."""
    layer = Recurrent(*arguments, **{"dtype": torch.float64, **options})
    draw(layer)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(11)


# --- PyTorch's layers ------------------------------------------------------------------------------------------------

PEERS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "lstm": (cells.lstm, nn.LSTM, {}),
    "gru": (cells.gru_reset_after, nn.GRU, {}),
    "tanh": (cells.elman, nn.RNN, {}),
    "relu": (cells.elman(activation="relu"), nn.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("layout", ["steps first", "rows first", "one sequence"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("name", PEERS)
def test_the_same_as_pytorchs_layer(name: str, num_layers: int, bidirectional: bool, layout: str) -> None:
    """Outputs, final state, and the gradients of every parameter, the input and the initial state."""
    one, kind, options = PEERS[name]
    shared = {"num_layers": num_layers, "bidirectional": bidirectional, "batch_first": layout == "rows first"}
    peer = kind(INPUT, HIDDEN, dtype=torch.float64, **shared, **options)
    draw(peer)
    layer = make(one, INPUT, HIDDEN, **shared)
    theirs = dict(peer.named_parameters())
    with torch.no_grad():
        for key, p in layer.named_parameters():
            if key.startswith("bias_l"):  # ours is one, theirs are two that are added
                p.copy_(theirs[key.replace("bias", "bias_ih")] + theirs[key.replace("bias", "bias_hh")])
            else:
                p.copy_(theirs[key])

    rows = () if layout == "one sequence" else (ROWS,)
    shape = (ROWS, STEPS) if layout == "rows first" else (STEPS, *rows)
    x = random(*shape, INPUT).requires_grad_()
    places = num_layers * (2 if bidirectional else 1)
    state = [random(places, *rows, HIDDEN).requires_grad_() for _ in layer.state_type._fields]
    output, final = layer(x, state)
    expected, last = peer(x, tuple(state) if len(state) > 1 else state[0])
    last = last if isinstance(last, tuple) else (last,)
    weights = [torch.randn_like(v) for v in (expected, *last)]

    def gradients(values: tuple[Tensor, ...], parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
        inputs = {**parameters, "x": x, **{f"state {i}": v for i, v in enumerate(state)}}
        total = torch.stack([(v * w).sum() for v, w in zip(values, weights, strict=True)]).sum()
        return dict(zip(inputs, torch.autograd.grad(total, list(inputs.values())), strict=True))

    for found, wanted in zip((output, *final), (expected, *last), strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=0)
    ours = gradients((output, *final), dict(layer.named_parameters()))
    for key, wanted in gradients((expected, *last), theirs).items():
        if key.startswith("bias_hh") and "bias_ih_l0" not in ours:
            continue
        found = ours[key if key in ours else key.replace("bias_ih", "bias")]
        torch.testing.assert_close(found, wanted, atol=1e-10, rtol=1e-10, msg=lambda text, key=key: f"{key}: {text}")


# --- agreement with itself -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_steps_are_the_sequence(name: str, batch_first: bool) -> None:
    layer = make(name, INPUT, [HIDDEN, 3], 2, batch_first=batch_first)
    x = random(ROWS, STEPS, INPUT) if batch_first else random(STEPS, ROWS, INPUT)
    output, final = layer(x)
    state: Any = None
    for t in range(STEPS):
        output_t, state = layer.step(x[:, t] if batch_first else x[t], state)
        torch.testing.assert_close(output_t, output[:, t] if batch_first else output[t])
    for found, wanted in zip(state, final, strict=True):
        for a, b in zip(found, wanted, strict=True):
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", CELLS)
def test_steps_of_one_sequence(name: str) -> None:
    layer = make(name, INPUT, HIDDEN, 2)
    x = random(STEPS, INPUT)
    output, final = layer(x)
    assert output.shape == (STEPS, HIDDEN)
    assert final[0].shape == (2, HIDDEN)
    state: Any = None
    for t in range(STEPS):
        output_t, state = layer.step(x[t], state)
        torch.testing.assert_close(output_t, output[t])
    torch.testing.assert_close(tuple(state), tuple(final))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_layers_are_layers_one_upon_another(name: str, batch_first: bool) -> None:
    """Eq. 6.68 and 6.69-6.71, with a width of its own for each layer."""
    layer = make(name, INPUT, [5, 3], 2, bidirectional=True, batch_first=batch_first)
    assert layer.output_size == 6
    x = random(ROWS, STEPS, INPUT) if batch_first else random(STEPS, ROWS, INPUT)
    output, final, states = layer(x, return_states=True)
    time, below, place = (1 if batch_first else 0), x, 0
    for k, width in enumerate((5, 3)):
        outputs = []
        for suffix in ("", "_reverse"):
            single = make(name, below.shape[-1], width, batch_first=batch_first)
            own = layer.state_dict()
            single.load_state_dict({f"{n[:-3]}_l0": own[f"{n[:-3]}_l{k}{suffix}"] for n in single.state_dict()})
            run, last, every = single(below.flip(time) if suffix else below, return_states=True)
            outputs.append(run.flip(time) if suffix else run)
            for i in range(len(final)):
                torch.testing.assert_close(final[i][place], last[i][0])
                torch.testing.assert_close(states[i][place], every[i][0].flip(time) if suffix else every[i][0])
            place += 1
        below = torch.cat(outputs, -1)
    torch.testing.assert_close(output, below)


def test_what_comes_back_has_the_cells_names_and_known_shapes() -> None:
    layer = Recurrent("lstm", INPUT, HIDDEN, 2, bidirectional=True)
    output, final, states = layer(torch.zeros(STEPS, ROWS, INPUT), return_states=True)
    assert output.shape == (STEPS, ROWS, 2 * HIDDEN)
    assert type(final).__name__ == "lstm_state"
    assert final._fields == states._fields == ("h", "c")
    assert final.h.shape == final.c.shape == (4, ROWS, HIDDEN)
    assert states.h.shape == states.c.shape == (4, STEPS, ROWS, HIDDEN)
    torch.testing.assert_close(torch.cat([states.h[2], states.h[3]], -1), output)
    torch.testing.assert_close(states.c[2][-1], final.c[2])
    torch.testing.assert_close(states.c[3][0], final.c[3])
    _, final, states = layer(torch.zeros(STEPS, INPUT), return_states=True)
    assert final.h.shape == (4, HIDDEN)
    assert states.h.shape == (4, STEPS, HIDDEN)
    first = Recurrent("lstm", INPUT, [3, 2], 2, batch_first=True)
    _, final, states = first(torch.zeros(ROWS, STEPS, INPUT), return_states=True)
    assert [field.shape for field in final.c] == [(ROWS, 3), (ROWS, 2)]
    assert [field.shape for field in states.c] == [(ROWS, STEPS, 3), (ROWS, STEPS, 2)]


@pytest.mark.parametrize("batch_first", [False, True])
def test_a_state_of_several_widths_goes_in_as_it_came_out(batch_first: bool) -> None:
    layer = make("lstm", INPUT, [5, 3], 2, batch_first=batch_first)
    x = random(ROWS, ROWS, INPUT)
    _, final = layer(x)
    again, _ = layer(x, final)
    fresh, _ = layer(x)
    assert not torch.allclose(again, fresh)
    torch.testing.assert_close(layer(x, list(final))[0], again)


# --- functions and modules (eq. 6.4) ---------------------------------------------------------------------------------


def test_a_plain_function() -> None:
    layer = Recurrent(lambda x, h: torch.tanh(x + 0.5 * h), 4, 4)
    x, h = torch.randn(STEPS, ROWS, 4), torch.zeros(ROWS, 4)
    output, final = layer(x)
    for x_t, found in zip(x, output, strict=True):
        h = torch.tanh(x_t + 0.5 * h)
        torch.testing.assert_close(found, h)
    torch.testing.assert_close(final.h[0], h)
    assert list(layer.parameters()) == []


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_pytorchs_cells_run_as_pytorchs_layers(kind: Any) -> None:
    module = kind(INPUT, HIDDEN, dtype=torch.float64)
    layer = Recurrent(module, INPUT, HIDDEN)
    peer = {nn.RNNCell: nn.RNN, nn.GRUCell: nn.GRU, nn.LSTMCell: nn.LSTM}[kind](INPUT, HIDDEN, dtype=torch.float64)
    peer.load_state_dict({f"{name}_l0": p for name, p in module.state_dict().items()})
    x = random(STEPS, ROWS, INPUT)
    output, final = layer(x)
    expected, last = peer(x)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(tuple(final), last if isinstance(last, tuple) else (last,))
    output.sum().backward()
    expected.sum().backward()
    for name, p in layer.named_parameters():
        torch.testing.assert_close(p.grad, peer.get_parameter(name.removeprefix("cell.") + "_l0").grad)


def test_a_function_with_several_fields_says_so() -> None:
    def counting(x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        total, steps = state
        return total + x, steps + 1

    counting.__dict__["state"] = "total steps:1"
    layer = Recurrent(counting, 2, 2, learn_initial_state=True)
    assert {name: tuple(p.shape) for name, p in layer.named_parameters()} == {"initial_total_l0": (2,)}
    output, final = layer(torch.ones(STEPS, ROWS, 2), lengths=[5, 2, 0])
    assert output[:, 0, 0].tolist() == [1, 2, 3, 4, 5]
    assert final.total[0, :, 0].tolist() == final.steps[0, :, 0].tolist() == [5, 2, 0]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("h h", "cell 'counting': 'h' is declared twice"),
        ("h c:", "cell 'counting': state field 'c': unknown size ''. Known: H (H is hidden_size)"),
        ("", "cell 'counting': a state is expected, such as state=\"h\""),
    ],
)
def test_a_function_whose_state_cannot_be(state: str, message: str) -> None:
    def counting(x: Tensor, state: Any) -> Any:
        return state

    counting.__dict__["state"] = state
    with pytest.raises(CellError) as caught:
        Recurrent(counting, 2, 2)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, h: (h, h), "[(3, 4), (3, 4)]"),
        (lambda x, h: h[:, :2], "[(3, 2)]"),
        (lambda x, h: [], "[]"),
        (lambda x, h: None, "a NoneType"),
        (lambda x, h: {"h": h}, "a dict"),
    ],
)
def test_a_function_that_returns_another_state(function: Any, shapes: str) -> None:
    layer = Recurrent(function, 4, 4)
    with pytest.raises(CellError) as caught:
        layer(torch.zeros(1, 3, 4))
    assert str(caught.value) == f"function 'lambda': a state of shapes [(3, 4)] is expected, not {shapes}"


# --- initial states, skips, dropout ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CELLS)
def test_a_learnt_initial_state(name: str) -> None:
    layer = make(name, INPUT, HIDDEN, 2, bidirectional=True, learn_initial_state=True)
    plain = make(name, INPUT, HIDDEN, 2, bidirectional=True)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = random(STEPS, ROWS, INPUT)
    suffixes = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    learnt = [field for field in layer.state_type._fields if f"initial_{field}_l0" in layer.state_dict()]
    fixed = {"clockwork": {"t"}, "slstm": {"m"}}  # a count of steps, and what starts at infinity
    assert {*layer.state_type._fields} - {*learnt} == fixed.get(name, set())
    state = []
    for f, width in zip(layer.form.fields, layer.form.widths(HIDDEN), strict=True):
        starts = [torch.full((width,), layer.form.begins(f), dtype=torch.float64)] * 4
        if f.name in learnt:
            starts = [layer.get_parameter(f"initial_{f.name}{suffix}").detach() for suffix in suffixes]
        state.append(torch.stack(starts).unsqueeze(1).repeat(1, ROWS, 1).requires_grad_())
    output, _ = layer(x)
    expected, _ = plain(x, state)
    torch.testing.assert_close(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for field, begun in zip(layer.state_type._fields, state, strict=True):
        if field not in learnt:
            continue
        assert begun.grad is not None
        for place, suffix in enumerate(suffixes):
            gradient = layer.get_parameter(f"initial_{field}{suffix}").grad
            torch.testing.assert_close(gradient, begun.grad[place].sum(0))


def test_a_learnt_initial_state_begins_at_the_cells_start_and_is_what_a_reset_returns_to() -> None:
    @cell(state="h k", gates="h", start={"k": 2.5})
    def kept(z, s):
        return tanh(z.h), s.k

    layer = Recurrent(kept, 2, 3, learn_initial_state=True)
    assert layer.get_parameter("initial_k_l0").tolist() == [2.5] * 3
    assert layer.get_parameter("initial_h_l0").tolist() == [0.0] * 3
    with torch.no_grad():
        layer.get_parameter("initial_k_l0").fill_(9.0)
    x, reset = torch.zeros(3, 1, 2), torch.tensor([[False], [True], [False]])
    given = (torch.zeros(1, 1, 3), torch.ones(1, 1, 3))
    assert layer(x, given, reset=reset, return_states=True)[2].k[0, :, 0, 0].tolist() == [1, 9, 9]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_skip_connections(bidirectional: bool) -> None:
    width = 2 * HIDDEN if bidirectional else HIDDEN
    x = random(STEPS, ROWS, INPUT)
    for skip in ("residual", "highway"):
        layer = make("gru", INPUT, HIDDEN, 3, bidirectional=bidirectional, skip=skip)
        below = x
        for k in range(3):
            one = make("gru", below.shape[-1], HIDDEN, bidirectional=bidirectional)
            own = {n: v for n, v in layer.state_dict().items() if f"_l{k}" in n and "skip" not in n}
            one.load_state_dict({n.replace(f"_l{k}", "_l0"): v for n, v in own.items()})
            out, _ = one(below)
            if k and skip == "residual":
                out = out + below
            elif k:
                W, b = layer.get_parameter(f"weight_skip_l{k}"), layer.get_parameter(f"bias_skip_l{k}")
                gate = sigmoid(below @ W.T + b)
                out = gate * out + (1 - gate) * below
            below = out
        assert below.shape[-1] == width == layer.output_size
        torch.testing.assert_close(layer(x)[0], below)
    assert "weight_skip_l0" not in layer.state_dict()


@pytest.mark.parametrize("skip", ["residual", "highway"])
def test_skip_connections_between_layers_of_different_widths(skip: Any) -> None:
    layer = make("gru", INPUT, [3, 5, 5], 3, skip=skip)
    assert {n for n in layer.state_dict() if "project" in n} == {"weight_project_l1"}
    x = random(STEPS, ROWS, INPUT)
    below = x
    for k, width in enumerate((3, 5, 5)):
        one = make("gru", below.shape[-1], width)
        one.load_state_dict({n: layer.state_dict()[n.replace("_l0", f"_l{k}")] for n in one.state_dict()})
        out, across = one(below)[0], below
        if k == 1:
            across = below @ layer.get_parameter("weight_project_l1").T
        if k and skip == "residual":
            out = out + across
        elif k:
            W, b = layer.get_parameter(f"weight_skip_l{k}"), layer.get_parameter(f"bias_skip_l{k}")
            gate = sigmoid(below @ W.T + b)
            out = gate * out + (1 - gate) * across
        below = out
    torch.testing.assert_close(layer(x)[0], below)


def test_a_linear_output_is_V_h() -> None:  # noqa: N802
    """Eq. 6.9."""
    layer = make("elman", INPUT, HIDDEN, output_layers=[2])
    plain = make("elman", INPUT, HIDDEN)
    plain.load_state_dict({n: p for n, p in layer.state_dict().items() if n != "weight_y0"})
    x = random(STEPS, ROWS, INPUT)
    V = layer.get_parameter("weight_y0")
    assert V.shape == (2, HIDDEN)
    assert layer.output_size == 2
    torch.testing.assert_close(layer(x)[0], plain(x)[0] @ V.T)
    torch.testing.assert_close(layer(x)[1].h, plain(x)[1].h)


@pytest.mark.parametrize("activation", ["tanh", "relu", torch.sin])
def test_deeper_paths_from_x_to_h_and_from_h_to_y(activation: Any) -> None:
    shape = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    layer = make("lstm", 7, HIDDEN, input_layers=[5, 3], output_layers=(8, 2), path_activation=activation, **shape)
    plain = make("lstm", 3, HIDDEN, **shape)
    own = layer.state_dict()
    plain.load_state_dict({n: own[n] for n in plain.state_dict()})
    assert set(own) - set(plain.state_dict()) == {
        *("weight_x0", "bias_x0", "weight_x1", "bias_x1", "weight_y0", "bias_y0", "weight_y1")
    }
    f = {"tanh": torch.tanh, "relu": torch.relu}.get(activation, activation)
    x = random(ROWS, STEPS, 7)
    below = f(f(x @ own["weight_x0"].T + own["bias_x0"]) @ own["weight_x1"].T + own["bias_x1"])
    expected, final = plain(below, lengths=[5, 0, 2])
    expected = f(expected @ own["weight_y0"].T + own["bias_y0"]) @ own["weight_y1"].T
    expected[1, 0:] = 0
    expected[2, 2:] = 0
    padded = x.clone()
    padded[1, 0:], padded[2, 2:] = torch.nan, torch.nan
    output, last = layer(padded.requires_grad_(), lengths=[5, 0, 2])
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(tuple(last), tuple(final))
    output.sum().backward()
    assert padded.grad is not None
    assert padded.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


# --- packed sequences -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("sort", ["already", "by itself"])
@pytest.mark.parametrize("name", ["lstm", "clockwork", "min_gru"])
def test_packed_sequences_are_what_lengths_say(name: str, sort: str, batch_first: bool) -> None:
    layer = make(name, INPUT, HIDDEN, 2, bidirectional=True, batch_first=batch_first)
    lengths = [5, 3, 1] if sort == "already" else [1, 5, 3]
    x = random(*((ROWS, STEPS) if batch_first else (STEPS, ROWS)), INPUT).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=sort == "already")
    state = drawn_state(layer, ROWS)
    expected, last, every = layer(x, state, lengths=lengths, return_states=True)
    output, final, states = layer(packed, state, return_states=True)
    assert torch.equal(output.batch_sizes, packed.batch_sizes)
    found, found_lengths = pad_packed_sequence(output, batch_first)
    assert found_lengths.tolist() == lengths
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close((*final, *states), (*last, *every))
    weight = torch.randn_like(found)
    ours = torch.autograd.grad((found * weight).sum(), [x, *layer.parameters()])
    theirs = torch.autograd.grad((expected * weight).sum(), [x, *layer.parameters()])
    torch.testing.assert_close(ours, theirs)


@cell(state="h", gates="h", biases=0, start={"W": "zeros", "U": "identity", "h": 1.0})
def holding(z, s):
    """Puts out its old state, that is whatever factor U's operand got."""
    return z.h


@cell(state="h", gates="h", biases=0, start={"W": "identity", "U": "zeros"})
def passing(z, s):
    """Puts out its input."""
    return z.h


def test_recurrent_dropout_drops_the_same_units_at_every_step() -> None:
    layer = Recurrent(holding, 64, 64, recurrent_dropout=0.5)
    output, _ = layer(torch.zeros(4, 20, 64))
    kept = output[0] > 0
    assert 0.4 < kept.float().mean() < 0.6
    for t in range(4):  # scaled by 1 / (1 - 0.5) at every step
        torch.testing.assert_close(output[t], torch.where(kept, 2.0 ** (t + 1), 0.0))
    assert not torch.equal(kept[0], kept[1]), "each sequence draws its own units"
    assert not torch.equal(layer(torch.zeros(4, 20, 64))[0], output), "each run draws anew"
    assert torch.equal(layer.eval()(torch.zeros(4, 20, 64))[0], torch.ones(4, 20, 64))


def test_recurrent_dropout_reaches_an_operand_of_the_bodys_own() -> None:
    @cell(state="h", gates="h", biases=0, start={"W": "zeros", "U": "identity", "h": 1.0})
    def called(z, s):
        return z.h(2 * s.h)

    output, _ = Recurrent(called, 64, 64, recurrent_dropout=0.5)(torch.zeros(2, 20, 64))
    torch.testing.assert_close(output[1], torch.where(output[0] > 0, 16.0, 0.0))
    assert 0.4 < (output[0] > 0).float().mean() < 0.6


def test_input_dropout_drops_the_same_units_at_every_step_in_both_directions() -> None:
    layer = Recurrent(passing, 64, 64, bidirectional=True, input_dropout=0.25)
    output, _ = layer(torch.ones(4, 20, 64))
    kept = output[0, :, :64] > 0
    assert 0.65 < kept.float().mean() < 0.85
    for t in range(4):
        torch.testing.assert_close(output[t], torch.where(kept, 1 / 0.75, 0.0).repeat(1, 2))
    assert torch.equal(layer.eval()(torch.ones(4, 20, 64))[0], torch.ones(4, 20, 128))


def test_dropout_is_between_layers_only() -> None:
    layer = Recurrent(passing, 64, 64, 2, dropout=0.5)
    output, _ = layer(torch.ones(4, 20, 64))
    assert set(output.unique().tolist()) == {0.0, 2.0}, "dropped once, not twice"
    assert not torch.equal(output[0], output[1]), "drawn anew at every step"
    single = Recurrent(passing, 64, 64, dropout=0.5)
    assert torch.equal(single(torch.ones(4, 20, 64))[0], torch.ones(4, 20, 64))
    assert torch.equal(layer.eval()(torch.ones(4, 20, 64))[0], torch.ones(4, 20, 64))


def test_weight_drop_drops_entries_of_U_for_a_whole_sequence() -> None:  # noqa: N802
    layer = Recurrent(cell(state="h", gates="h", biases=0, start={"h": 1.0})(lambda z, s: z.h), 3, 8, weight_drop=0.5)
    U = layer.get_parameter("weight_hh_l0")
    before = U.detach().clone()
    torch.manual_seed(5)
    output, _ = layer(torch.zeros(3, 2, 3))
    torch.manual_seed(5)
    dropped = nn.functional.dropout(before, 0.5)
    h = torch.ones(2, 8)
    for t in range(3):
        h = h @ dropped.T
        torch.testing.assert_close(output[t], h)
    assert torch.equal(U, before), "the parameter itself is left as it is"
    output.sum().backward()
    assert U.grad is not None
    assert torch.equal(U.grad == 0, dropped == 0)
    h = torch.ones(2, 8) @ before.T
    torch.testing.assert_close(layer.eval()(torch.zeros(1, 2, 3))[0][0], h)


def test_zoneout_keeps_a_share_of_every_field_in_training_and_their_mean_otherwise() -> None:
    @cell(state="h c", gates="h")
    def steps(z, s):
        return s.h + 1 + 0 * z.h, s.c + 1

    layer = Recurrent(steps, 1, 64, zoneout=0.25)
    x = torch.zeros(1, 40, 1)
    _, final = layer(x)
    for field in final:
        assert set(field.unique().tolist()) == {0.0, 1.0}
        assert 0.7 < field.mean() < 0.8
    assert not torch.equal(final.h, final.c), "each field draws for itself"
    _, final = layer.eval()(x.repeat(2, 1, 1))
    torch.testing.assert_close(final.h, torch.full_like(final.h, 1.5))
    _, final = Recurrent(steps, 1, 64, zoneout=1.0)(x)
    assert final.h.abs().max() == 0


@pytest.mark.parametrize("training", [False, True])
def test_zoneout_spares_a_count_of_steps(training: bool) -> None:
    layer = Recurrent("clockwork", INPUT, HIDDEN, zoneout=0.5).train(training)
    _, final = layer(torch.randn(STEPS, ROWS, INPUT))
    assert final.t.flatten().tolist() == [STEPS] * ROWS


@pytest.mark.parametrize("name", ["min_gru", "min_lstm", "linear_recurrence", "integrator"])
def test_zoneout_of_a_scan(name: str) -> None:
    layer, x = make(name, INPUT, 200, zoneout=0.25), random(1, 1, INPUT)
    assert layer.choice.backend == "scan"
    begun = [torch.ones(1, 1, 200, dtype=torch.float64)]
    plain = make(name, INPUT, 200, backend="scan")
    plain.load_state_dict(layer.state_dict())
    old, new = begun[0][0], plain(x, begun)[0][0]
    drawn = layer(x, begun)[0][0]
    held = drawn == old
    assert torch.equal(drawn[~held], new[~held])
    assert 0.1 < held.double().mean() < 0.4
    torch.testing.assert_close(layer.eval()(x, begun)[0][0], 0.25 * old + 0.75 * new)


def test_dropout_factors_do_not_depend_on_padding() -> None:
    layer = make("lstm", INPUT, HIDDEN, recurrent_dropout=0.3, input_dropout=0.3)
    x, padding = random(STEPS, ROWS, INPUT), random(2, ROWS, INPUT)
    torch.manual_seed(0)
    short, _ = layer(x)
    torch.manual_seed(0)
    padded, _ = layer(torch.cat([x, padding]), lengths=[STEPS] * ROWS)
    torch.testing.assert_close(padded[:STEPS], short)


# --- a module like any other -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("one", [*CELLS, cells.elman(activation="sin"), nn.LSTMCell(INPUT, HIDDEN)])
def test_a_copy_is_the_same_and_apart(one: Any, make_copy: Any) -> None:
    zoneout = 0.0 if one == "slstm" else 0.1
    layer = Recurrent(one, INPUT, HIDDEN, learn_initial_state=True, zoneout=zoneout).eval()
    twin = make_copy(layer)
    x = torch.randn(STEPS, ROWS, INPUT)
    output, final = layer(x)
    again, last = twin(x)
    assert torch.equal(again, output)
    assert type(last) is type(final)
    with torch.no_grad():
        for p in twin.parameters():
            p.add_(1.0)
    assert torch.equal(layer(x)[0], output)
    assert not torch.equal(twin(x)[0], output)


def test_parameter_names() -> None:
    """Saved models depend on them."""
    layer = Recurrent("lstm", 3, 2, 2, bidirectional=True, skip="highway", learn_initial_state=True)
    each = ("weight_ih", "weight_hh", "bias", "initial_h", "initial_c")
    places = ("_l0", "_l0_reverse", "_l1", "_l1_reverse")
    expected = {f"{name}{place}" for name in each for place in places} | {"weight_skip_l1", "bias_skip_l1"}
    assert {name for name, _ in layer.named_parameters()} == set(layer.state_dict()) == expected
    assert {name for name, _ in Recurrent("gru_reset_after", 3, 2).named_parameters()} == {
        "weight_ih_l0",
        "weight_hh_l0",
        "bias_ih_l0",
        "bias_hh_l0",
    }


def test_it_prints_what_it_is() -> None:
    layer = Recurrent("lstm", 3, [4, 5], 2, batch_first=True, recurrent_dropout=0.2, skip=None)
    assert repr(layer) == (
        "Recurrent(lstm(forget_bias=1.0), 3, [4, 5], num_layers=2, batch_first=True, recurrent_dropout=0.2)"
    )
    assert repr(Recurrent(nn.GRUCell(3, 4), 3, 4)) == "Recurrent(\n  GRUCell, 3, 4\n  (cell): GRUCell(3, 4)\n)"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", CELLS)
def test_types(name: str, dtype: torch.dtype) -> None:
    layer = Recurrent(name, INPUT, HIDDEN, dtype=dtype)
    output, final = layer(torch.randn(STEPS, ROWS, INPUT).to(dtype), lengths=[5, 2, 0])
    assert {output.dtype, *(field.dtype for field in final), *(p.dtype for p in layer.parameters())} == {dtype}
    exact = Recurrent(name, INPUT, HIDDEN, dtype=torch.float64)
    exact.load_state_dict(layer.state_dict())
    tolerance = {torch.float16: 1e-2, torch.bfloat16: 4e-2, torch.float32: 1e-6, torch.float64: 1e-12}[dtype]
    x = torch.randn(STEPS, ROWS, INPUT).to(dtype)
    torch.testing.assert_close(layer(x)[0].double(), exact(x.double())[0], atol=tolerance, rtol=0)


@pytest.mark.parametrize("name", CELLS)
def test_autocast(name: str) -> None:
    layer = Recurrent(name, INPUT, HIDDEN, 2, bidirectional=True)
    x = torch.randn(STEPS, ROWS, INPUT)
    exact, _ = layer(x, lengths=[5, 2, 0])
    with torch.autocast("cpu", torch.bfloat16):
        output, _, states = layer(x, lengths=[5, 2, 0], return_states=True)
        output.float().square().sum().backward()
        from_bf16, _ = layer(x.bfloat16(), lengths=[5, 2, 0])
    tolerance = 4e-2 * max(1.0, float(exact.detach().abs().max()))  # ReLU and sums are not bounded by one
    torch.testing.assert_close(output.float(), exact, atol=tolerance, rtol=0)
    torch.testing.assert_close(from_bf16.float(), exact, atol=tolerance, rtol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert states[0].shape == (4, STEPS, ROWS, HIDDEN)


def test_made_on_no_device_and_begun_later() -> None:
    layer = Recurrent("lstm", INPUT, HIDDEN, 2, skip="highway", learn_initial_state=True, device="meta")
    assert all(p.is_meta for p in layer.parameters())
    layer.to_empty(device="cpu").reset_parameters()
    torch.manual_seed(4)
    layer.reset_parameters()
    torch.manual_seed(4)
    other = Recurrent("lstm", INPUT, HIDDEN, 2, skip="highway", learn_initial_state=True)
    for (name, p), q in zip(layer.named_parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q), name


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("name", CELLS)
def test_on_a_cuda_device(name: str) -> None:
    layer = make(name, INPUT, HIDDEN, 2, bidirectional=True)
    twin = copy.deepcopy(layer).cuda()
    x, reset = random(STEPS, ROWS, INPUT), torch.rand(STEPS, ROWS) < 0.3
    expected, last = layer(x, lengths=[5, 0, 2], reset=reset)
    output, final = twin(x.cuda(), lengths=[5, 0, 2], reset=reset.cuda())
    torch.testing.assert_close(output.cpu(), expected)
    torch.testing.assert_close(tuple(field.cpu() for field in final), tuple(last))
    expected.sum().backward()
    output.sum().backward()
    for p, q in zip(layer.parameters(), twin.parameters(), strict=True):
        assert p.grad is not None
        assert q.grad is not None
        torch.testing.assert_close(q.grad.cpu(), p.grad)


def test_a_run_on_no_device_tells_the_shapes() -> None:
    layer = Recurrent("lstm", INPUT, HIDDEN, 2, bidirectional=True, device="meta")
    output, final = layer(torch.zeros(STEPS, ROWS, INPUT, device="meta"))
    assert output.shape == (STEPS, ROWS, 2 * HIDDEN)
    assert final.c.shape == (4, ROWS, HIDDEN)
