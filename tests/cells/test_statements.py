"""What the documents say of the cells in words, or show as a limiting case, each a test on layers run over sequences.

The identifiers are those of docs/equations.md.
"""

from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy, one_hot, softsign

from recurra.cells import CATALOGUE, Cell
from recurra.math import relu, sigmoid, tanh
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 9, 3, 4, 5
OPEN, CLOSED = 1e3, -1e3
"""Net inputs at which a gate is exactly 1 or 0 in double precision."""


def made(cell: str, hidden: int = HIDDEN, seed: int = 1, backend: Any = "auto", **options: object) -> Recurrent:
    """A layer in double precision, every parameter drawn anew."""
    torch.manual_seed(seed)
    layer = Recurrent(CATALOGUE[cell](**options), INPUT, hidden, backend=backend, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    return layer


def sequences(steps: int = STEPS, seed: int = 2) -> Tensor:
    return torch.randn(steps, ROWS, INPUT, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def states(seed: int, width: int = HIDDEN) -> Tensor:
    return torch.randn(1, ROWS, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def part(layer: Recurrent, symbol: str) -> Tensor:
    """W_g, U_g, b_g or b'_g of a layer as a view that can be written to."""
    letter, gate = symbol.split("_")
    cell = layer.cell
    assert isinstance(cell, Cell)
    gates = (*cell.gates, *cell.inputs) if letter in "Wb" else cell.gates
    names = {"W": "weight_ih_l0", "U": "weight_hh_l0", "b'": "bias_hh_l0"}
    first_bias = "bias_ih_l0" if "bias_ih_l0" in dict(layer.named_parameters()) else "bias_l0"
    stacked = layer.get_parameter(names.get(letter, first_bias))
    return stacked.detach().chunk(len(gates))[gates.index(gate)]


def fix(layer: Recurrent, gate: str, net: float) -> None:
    """Let a gate have this net input, whatever the layer reads."""
    for letter in ("W", "U"):
        part(layer, f"{letter}_{gate}").zero_()
    part(layer, f"b_{gate}").fill_(net)


def copy(source: Recurrent, target: Recurrent, gates: str) -> None:
    for gate in gates.split():
        for letter in "WUb":
            part(target, f"{letter}_{gate}").copy_(part(source, f"{letter}_{gate}"))


def same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=1e-13)


def differ(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() > 1e-2)


# --- B: simple recurrent networks ------------------------------------------------------------------------------------


def test_b1_any_function_of_the_last_state_and_the_input() -> None:
    """Eq. 6.4: h_t = f(h_(t-1), x_t), h_0 = 0."""

    def turned(x_t: Tensor, h: Tensor) -> Tensor:
        return torch.sin(h.roll(1, -1)) + x_t.prod(-1, keepdim=True)

    x, h = sequences(), torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    output, final = Recurrent(turned, INPUT, HIDDEN)(x)
    for t in range(STEPS):
        h = turned(x[t], h)
        same(output[t], h)
    same(final.h[0], h)


def own_activation(a: Tensor) -> Tensor:
    return a / (1 + a.abs())


@pytest.mark.parametrize(
    ("activation", "f"),
    [("logistic", sigmoid), ("tanh", tanh), ("relu", relu), (torch.atan, torch.atan), (own_activation, softsign)],
    ids=["logistic", "tanh", "relu", "torch.atan", "one's own"],
)
def test_b2_a_simple_network_of_any_activation(activation: object, f: Callable[[Tensor], Tensor]) -> None:
    """Eqs 6.5-6.7: z_t = U h_(t-1) + W x_t + b, h_t = f(z_t)."""
    layer, x, h = made("elman", activation=activation), sequences(), torch.zeros(ROWS, HIDDEN, dtype=torch.float64)
    W, U, b = (part(layer, f"{letter}_h") for letter in "WUb")
    outputs, final = layer(x)
    for t in range(STEPS):
        h = f(h @ U.T + x[t] @ W.T + b)
        same(outputs[t], h)
    same(final.h[0], h)


def test_b3_a_linear_output() -> None:
    """Eqs 6.8-6.9: h_t = f(U h_(t-1) + W x_t + b), y_t = V h_t."""
    torch.manual_seed(1)
    network = Recurrent("elman", INPUT, HIDDEN, output_layers=[2], dtype=torch.float64)
    hidden = Recurrent("elman", INPUT, HIDDEN, dtype=torch.float64)
    parameters = dict(network.named_parameters())
    hidden.load_state_dict({name: parameters[name] for name, _ in hidden.named_parameters()})
    (V,) = [p for name, p in parameters.items() if name not in dict(hidden.named_parameters())]
    assert V.shape == (2, HIDDEN)
    x = sequences()
    y, final = network(x)
    h, expected = hidden(x)
    same(y, h @ V.T)
    same(final.h, expected.h)


def test_b6_the_same_words_in_another_order_give_another_output() -> None:
    layer, x = made("elman"), sequences()
    turned = torch.cat([x[:-1].flip(0), x[-1:]])
    assert differ(layer(x)[1].h, layer(turned)[1].h)
    part(layer, "U_h").zero_()  # without a memory the last word alone counts
    assert torch.equal(layer(x)[1].h, layer(turned)[1].h)


def test_b6_one_set_of_weights_serves_every_length_and_every_step() -> None:
    """The gradient of the shared weights is the sum of those of a network unfolded with weights of its own a step."""
    layer = made("elman")
    for steps in (1, 2, 17, 60):
        x = sequences(steps)
        layer.zero_grad()
        layer(x)[1].h.sum().backward()
        unfolded = [{name: p.detach().clone().requires_grad_() for name, p in layer.named_parameters()} for _ in x]
        h = None
        for x_t, weights in zip(x, unfolded, strict=True):
            _, h = functional_call(layer, weights, (x_t[None], h))
        assert h is not None
        h.h.sum().backward()
        for name, shared in layer.named_parameters():
            copies = [weights[name].grad for weights in unfolded]
            assert shared.grad is not None
            same(shared.grad, torch.stack([g for g in copies if g is not None]).sum(0))


WORDS = ("leave", "arrive", "Taipei", "Tokyo", "Paris", "on", "Monday", "Sunday")
SLOTS = ("other", "origin", "destination")


def bookings() -> tuple[Tensor, Tensor]:
    """ "leave Taipei on Monday", "arrive Tokyo on Sunday", …: one-hot words (T, B, I) and slots (T, B)."""
    verbs, cities, days = WORDS[:2], WORDS[2:5], WORDS[6:]
    sentences = [(verb, city, "on", day) for verb in verbs for city in cities for day in days]
    words = torch.tensor([[WORDS.index(word) for word in sentence] for sentence in sentences])
    slots = torch.zeros_like(words)
    slots[:, 1] = 1 + words[:, 0]
    return one_hot(words, len(WORDS)).float().transpose(0, 1), slots.transpose(0, 1)


class Tagger(nn.Module):
    """A hidden layer, recurrent or of single words, and a distribution over slots for each word."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        single = nn.Sequential(nn.Linear(len(WORDS), 16), nn.Tanh())
        self.hidden = Recurrent("elman", len(WORDS), 16) if recurrent else single
        self.slots = nn.Linear(16, len(SLOTS))

    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return self.slots(h if isinstance(h, Tensor) else h[0])


def test_b6_taipei_as_origin_and_as_destination() -> None:
    """Side by side: a net over single words has one answer for "Taipei"; a recurrent one has two, both right."""
    x, slots = bookings()
    held_out = (x[1, :, WORDS.index("Taipei")] == 1) & (x[3, :, WORDS.index("Sunday")] == 1)
    right = {}
    for recurrent in (False, True):
        torch.manual_seed(0)
        tagger = Tagger(recurrent)
        optimiser = torch.optim.Adam(tagger.parameters(), lr=0.02)
        for _ in range(150):
            optimiser.zero_grad()
            cross_entropy(tagger(x[:, ~held_out]).flatten(0, 1), slots[:, ~held_out].flatten()).backward()
            optimiser.step()
        right[recurrent] = tagger(x).argmax(-1) == slots
    assert held_out.sum() == 2
    assert right[False][[0, 2, 3]].all(), "words that are never a slot are learnt by either"
    assert right[False][1].float().mean() == 0.5, "of each city it knows one use"
    assert right[True].all(), "sentences that it was not shown included"


# --- D8: remedies for vanishing gradients ----------------------------------------------------------------------------


def state_jacobian(layer: Recurrent, x: Tensor, h: Tensor) -> Tensor:
    """∂h_T / ∂h_0 of one sequence, (H, H)."""
    found = torch.autograd.functional.jacobian(lambda h: layer(x, h)[1].h[0], h[None])
    assert isinstance(found, Tensor)
    return found[:, 0]


def test_d8_the_integrator_passes_the_gradient_on_unchanged() -> None:
    """Eq. 6.47: h_t depends on h_(t-1) by a factor of 1, over any span."""
    jacobian = state_jacobian(made("integrator"), sequences(200)[:, 0], states(3)[0, 0])
    assert torch.equal(jacobian, torch.eye(HIDDEN, dtype=torch.float64))


def test_d8_the_residual_form_has_a_linear_and_a_nonlinear_path() -> None:
    """Eq. 6.48: ∂h_t / ∂h_(t-1) = I + diag(f'(z_t)) U, which is I only where the second path is cut."""
    layer, x, h = made("residual"), sequences(1)[:, 0], states(3)[0, 0]
    W, U, b = (part(layer, f"{letter}_g") for letter in "WUb")
    slope = 1 - tanh(x[0] @ W.T + h @ U.T + b) ** 2
    eye = torch.eye(HIDDEN, dtype=torch.float64)
    same(state_jacobian(layer, x, h), eye + slope[:, None] * U)
    U.zero_()
    assert torch.equal(state_jacobian(layer, sequences(200)[:, 0], h), eye)


def test_d8_the_memory_of_the_residual_form_fills_up() -> None:
    """With a logistic g, the state only grows, and what comes late hardly moves it any more."""
    layer = made("residual", activation="logistic")
    part(layer, "U_g").abs_()
    x = sequences(200).requires_grad_()
    outputs, _ = layer(x)
    assert (outputs.diff(dim=0) > 0).all()
    first, last = (torch.autograd.grad(outputs[t].sum(), x, retain_graph=True)[0][t].abs().max() for t in (0, -1))
    assert last < 1e-6 * first


def test_d8_an_irnn_begins_as_a_copy_of_its_state() -> None:
    """Le, Jaitly & Hinton 2015: at U = I and f = ReLU a positive state and its gradient pass unchanged."""
    layer = Recurrent("irnn", INPUT, HIDDEN, dtype=torch.float64)
    h, silence = states(3).abs()[0, 0], torch.zeros(100, INPUT, dtype=torch.float64)
    assert torch.equal(layer(silence, h[None])[1].h[0], h)
    assert torch.equal(state_jacobian(layer, silence, h), torch.eye(HIDDEN, dtype=torch.float64))


@pytest.mark.parametrize(("cell", "U"), [("elman", "orthogonal"), ("elman", "identity"), ("irnn", "identity")])
def test_d8_first_values_of_u_with_which_an_error_keeps_its_length(cell: str, U: str) -> None:
    """Where f' is 1, as at rest, 100 steps turn an error and neither lengthen nor shorten it."""
    torch.manual_seed(1)
    layer = Recurrent(cell, INPUT, HIDDEN, init={"U": U}, dtype=torch.float64)
    at_rest = torch.full((HIDDEN,), 1e-100, dtype=torch.float64)  # above zero, where ReLU is on
    silence = torch.zeros(100, INPUT, dtype=torch.float64)
    jacobian = state_jacobian(layer, silence, at_rest)
    same(jacobian @ jacobian.T, torch.eye(HIDDEN, dtype=torch.float64))


@pytest.mark.parametrize(
    ("cell", "first_values", "least", "most"),
    [
        ("irnn", {"b": -100.0}, 0.0, 0.0),
        ("irnn", {"U": "identity*0.5"}, 0.0, 0.51**30),
        ("irnn", {"U": "identity*1.5"}, 1.49**30, 1.51**30),
        ("lstm", {"U": "orthogonal*8"}, 50.0, float("inf")),
    ],
    ids=["dead units", "a small U", "a large U", "gates and a large U"],
)
def test_d8_neither_rectified_units_nor_gates_are_safe(
    cell: str, first_values: dict[str, Any], least: float, most: float
) -> None:
    """ReLU vanishes as well, and an LSTM explodes as well: the largest factor over 30 steps."""
    torch.manual_seed(1)
    layer = Recurrent(cell, INPUT, 16, init=first_values, dtype=torch.float64)
    begun = tuple(torch.full((1, 16), 0.1, dtype=torch.float64) for _ in layer.form.fields)
    x = sequences(30)[:, 0]

    def last(*state: Tensor) -> Tensor:
        return torch.cat([v[0] for v in layer(x, layer.state_type(*state))[1]])

    found: Any = torch.autograd.functional.jacobian(last, begun)
    whole = torch.cat([v[:, 0] for v in found], -1)
    assert least <= torch.linalg.matrix_norm(whole, 2) <= most


# --- E: gated cells --------------------------------------------------------------------------------------------------


@given(sizes=st.tuples(st.integers(1, 40), st.integers(1, 40)))
def test_e1_an_lstm_has_four_times_the_parameters_of_a_simple_cell(sizes: tuple[int, int]) -> None:
    simple, lstm = (sum(p.numel() for p in Recurrent(cell, *sizes).parameters()) for cell in ("elman", "lstm"))
    assert lstm == 4 * simple


@pytest.mark.parametrize("cell", [name for name, one in CATALOGUE.items() if "lstm" in name and "f" in one.gates])
@pytest.mark.parametrize("bias", [1, 2])
def test_e2_the_forget_gates_bias_begins_at_1_or_2(cell: str, bias: int) -> None:
    for one in (CATALOGUE[cell](forget_bias=bias), *([CATALOGUE[cell]] if bias == 1 else [])):
        layer = Recurrent(one, INPUT, HIDDEN)
        for gate in one.gates:
            assert torch.equal(part(layer, f"b_{gate}"), torch.full((HIDDEN,), float(bias if gate == "f" else 0)))


def test_e2_so_that_the_cell_begins_by_remembering() -> None:
    h, c, silence = states(3), states(4), torch.zeros(1, ROWS, INPUT, dtype=torch.float64)
    for bias in (0.0, 1.0, 2.0):
        layer = Recurrent(CATALOGUE["lstm"](forget_bias=bias), INPUT, HIDDEN, dtype=torch.float64)
        same(layer(silence, (0 * h, c))[1].c, c / (1 + torch.tensor(-bias, dtype=torch.float64).exp()))


def test_e3_without_a_forget_gate_is_an_lstm_that_never_forgets() -> None:
    """Eq. 6.58 is eq. 6.49 at f = 1."""
    plain, lstm, x, begun = made("lstm_no_forget"), made("lstm", seed=5), sequences(), (states(3), states(4))
    copy(plain, lstm, "i g o")
    fix(lstm, "f", OPEN)
    for found, expected in zip(
        plain(x, begun, return_states=True)[2], lstm(x, begun, return_states=True)[2], strict=True
    ):
        same(found, expected)


def test_e3_its_memory_only_grows_until_the_output_is_saturated() -> None:
    layer, x = made("lstm_no_forget"), sequences(100)
    for gate, net in {"i": 0.0, "g": 1.0, "o": OPEN}.items():
        fix(layer, gate, net)
    output, _, every = layer(x, return_states=True)
    added = tanh(torch.ones((), dtype=torch.float64)) / 2
    same(every.c[0], (added * torch.arange(1, 101))[:, None, None].expand(100, ROWS, HIDDEN))
    assert (output[-1] == 1).all()


def test_e4_the_output_gate_looks_at_the_new_cell_the_others_at_the_old() -> None:
    """Eqs 6.59-6.61, one step from a cell at c: with all else at rest each gate shows what it sees."""
    layer, x, c = made("lstm_peephole"), sequences(1), states(4)
    for gate in "ifgo":
        fix(layer, gate, 0.0)
    part(layer, "b_g").fill_(OPEN)
    v_i, v_f, v_o = (layer.get_parameter(f"v_{gate}_l0").detach() for gate in "ifo")
    output, final = layer(x, (states(3), c))
    new = sigmoid(v_f * c) * c + sigmoid(v_i * c)
    same(final.c, new)
    same(output, sigmoid(v_o * new) * tanh(new))
    assert differ(sigmoid(v_o * new), sigmoid(v_o * c))


def test_e4_without_peepholes_it_is_an_lstm() -> None:
    layer, lstm, x = made("lstm_peephole"), made("lstm", seed=5), sequences()
    copy(layer, lstm, "i f g o")
    assert differ(layer(x)[0], lstm(x)[0])
    for gate in "ifo":
        layer.get_parameter(f"v_{gate}_l0").detach().zero_()
    same(layer(x)[0], lstm(x)[0])


def test_e5_coupled_gates_are_an_lstm_whose_forget_gate_is_1_minus_i() -> None:
    """Eqs 6.62-6.63; 1 - σ(a) = σ(-a), so the forget gate's weights are the input gate's with their signs turned."""
    coupled, lstm, x, begun = made("lstm_coupled"), made("lstm", seed=5), sequences(), (states(3), states(4))
    copy(coupled, lstm, "i g o")
    for letter in "WUb":
        part(lstm, f"{letter}_f").copy_(-part(coupled, f"{letter}_i"))
    for found, expected in zip(
        coupled(x, begun, return_states=True)[2], lstm(x, begun, return_states=True)[2], strict=True
    ):
        same(found, expected)


def both_grus(seed: int = 1) -> tuple[Recurrent, Recurrent]:
    """Both forms with the same weights; the second bias of the one is zero, as the other has none."""
    before, after = made("gru", seed=seed), made("gru_reset_after", seed=seed + 1)
    copy(before, after, "r z n")
    after.get_parameter("bias_hh_l0").detach().zero_()
    return before, after


def test_e6_reset_before_the_product_and_after_it() -> None:
    """Eq. 6.64, U (r ⊙ h), and PyTorch's and cuDNN's form, r ⊙ (U h)."""
    before, after = both_grus()
    x, h = sequences(1), states(3)
    W, U, b = ({gate: part(before, f"{letter}_{gate}") for gate in "rzn"} for letter in "WUb")
    r, z = (sigmoid(x @ W[gate].T + h @ U[gate].T + b[gate]) for gate in "rz")
    for layer, from_state in ((before, (r * h) @ U["n"].T), (after, r * (h @ U["n"].T))):
        same(layer(x, h)[0], z * h + (1 - z) * tanh(x @ W["n"].T + from_state + b["n"]))


def test_e6_weights_of_one_form_are_not_weights_of_the_other() -> None:
    before, after = both_grus()
    x = sequences()
    assert differ(before(x)[0], after(x)[0])
    for layer in (before, after):
        U = part(layer, "U_n")
        U.copy_(torch.diag(U.diagonal().clone()))  # which commutes with r
    same(before(x)[0], after(x)[0])


# --- E7: the limiting cases ------------------------------------------------------------------------------------------


def test_e7_lstm_f_0_i_1_clears_the_memory_and_writes_the_candidate() -> None:
    layer, x = made("lstm"), sequences()
    fix(layer, "f", CLOSED)
    fix(layer, "i", OPEN)
    h = states(3)
    _, _, every = layer(x, (h, states(4)), return_states=True)
    W, U, b = (part(layer, f"{letter}_g") for letter in "WUb")
    before = torch.cat([h, every.h[0, :-1]])
    same(every.c[0], tanh(x @ W.T + before @ U.T + b))
    cleared = layer(x, (h, states(5)), return_states=True)[2]
    assert torch.equal(cleared.c, every.c), "the old memory is gone"
    other = layer(x, (states(6), states(4)), return_states=True)[2]
    assert differ(other.c[0, 0], every.c[0, 0]), "the candidate still sees the past through h"


def test_e7_lstm_f_1_i_0_copies_the_memory() -> None:
    layer = made("lstm")
    fix(layer, "f", OPEN)
    fix(layer, "i", CLOSED)
    c = states(4)
    for x in (sequences(), sequences(100, seed=7)):
        every = layer(x, (states(3), c), return_states=True)[2]
        assert torch.equal(every.c[0], c.expand(len(x), ROWS, HIDDEN))


@pytest.mark.parametrize("form", [0, 1], ids=["gru", "gru_reset_after"])
def test_e7_gru_z_0_r_1_is_a_simple_network(form: int) -> None:
    layer, simple, x, h = both_grus()[form], made("elman", seed=9), sequences(), states(3)
    fix(layer, "z", CLOSED)
    fix(layer, "r", OPEN)
    for letter in "WUb":
        part(simple, f"{letter}_h").copy_(part(layer, f"{letter}_n"))
    same(layer(x, h)[0], simple(x, h)[0])


@pytest.mark.parametrize("form", [0, 1], ids=["gru", "gru_reset_after"])
def test_e7_gru_z_0_r_0_sees_the_input_alone(form: int) -> None:
    layer, x = both_grus()[form], sequences()
    fix(layer, "z", CLOSED)
    fix(layer, "r", CLOSED)
    output = layer(x, states(3))[0]
    same(output, tanh(x @ part(layer, "W_n").T + part(layer, "b_n")))
    assert torch.equal(output, layer(x, states(5))[0])


@pytest.mark.parametrize("form", [0, 1], ids=["gru", "gru_reset_after"])
def test_e7_gru_z_1_copies_the_state(form: int) -> None:
    layer, h = both_grus()[form], states(3)
    fix(layer, "z", OPEN)
    for x in (sequences(), sequences(100, seed=7)):
        assert torch.equal(layer(x, h)[0], h.expand(len(x), ROWS, HIDDEN))


# --- F: deep and two-way ---------------------------------------------------------------------------------------------


def layer_of(stack: Recurrent, k: int, suffix: str = "") -> Recurrent:
    """One layer and direction of a stack as a layer of its own."""
    found = {name: p for name, p in stack.named_parameters() if name.endswith(f"_l{k}{suffix}")}
    own = {name.replace(f"_l{k}{suffix}", "_l0"): p for name, p in found.items()}
    layer = Recurrent(stack.cell, own["weight_ih_l0"].shape[1], HIDDEN, dtype=torch.float64)
    layer.load_state_dict(own)
    return layer


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_f1_a_stack_is_its_layers_run_one_by_one(cell: str) -> None:
    """Eq. 6.68; of simple cells it is the recurrent multi-layer perceptron."""
    stack, x = Recurrent(cell, INPUT, HIDDEN, num_layers=3, dtype=torch.float64), sequences()
    output, final = stack(x)
    for k in range(3):
        x, own = layer_of(stack, k)(x)
        for found, expected in zip(final, own, strict=True):
            same(found[k], expected[0])
    same(output, x)


@pytest.mark.parametrize("cell", ["elman", "lstm", "gru"])
def test_f2_two_directions_are_two_runs_side_by_side(cell: str) -> None:
    """Eqs 6.69-6.71."""
    both, x = Recurrent(cell, INPUT, HIDDEN, bidirectional=True, dtype=torch.float64), sequences()
    output, final = both(x)
    forward, ahead = layer_of(both, 0)(x)
    backward, back = layer_of(both, 0, "_reverse")(x.flip(0))
    same(output, torch.cat([forward, backward.flip(0)], -1))
    for found, first, second in zip(final, ahead, back, strict=True):
        same(found, torch.cat([first, second]))


def test_f3_deeper_paths_from_x_to_h_and_from_h_to_y() -> None:
    """Section 6.7: several layers before the recurrent one and after it, written out with layers of PyTorch."""
    torch.manual_seed(1)
    layer = Recurrent("elman", INPUT, HIDDEN, input_layers=[6, 3], output_layers=[7, 2], dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.7)
    middle = Recurrent("elman", 3, HIDDEN, dtype=torch.float64)
    above = [nn.Linear(HIDDEN, 7), nn.Tanh(), nn.Linear(7, 2, bias=False)]
    below = [nn.Linear(INPUT, 6), nn.Tanh(), nn.Linear(6, 3), nn.Tanh()]
    own = layer.state_dict()
    middle.load_state_dict({name: own.pop(name) for name in middle.state_dict()})
    paths = [nn.Sequential(*path).double() for path in (below, above)]
    for path, letter in zip(paths, "xy", strict=True):
        for k, linear in enumerate(one for one in path if isinstance(one, nn.Linear)):
            names = {name: f"{name}_{letter}{k}" for name, _ in linear.named_parameters()}
            linear.load_state_dict({name: own.pop(theirs) for name, theirs in names.items()})
    assert not own

    x = sequences()
    found, final = layer(x, states(3))
    h, expected = middle(paths[0](x), states(3))
    same(found, paths[1](h))
    same(final.h, expected.h)


# --- H: named in the summary -----------------------------------------------------------------------------------------


def test_h1_a_clockwork_module_moves_at_its_own_pace() -> None:
    """Koutník et al. 2014: a module of period T moves at the steps that T divides, and rests at all others."""
    layer = made("clockwork", hidden=4, periods=(1, 2, 4, 8))
    output, _ = layer(sequences(17))
    moves = (output.diff(dim=0) != 0).all(1)  # from step t - 1 to t = 1, 2, …
    assert moves.tolist() == [[t % period == 0 for period in (1, 2, 4, 8)] for t in range(1, 17)]
    still = (output.diff(dim=0) == 0).all(1)
    assert torch.equal(still, ~moves)


def test_h1_a_slow_module_does_not_read_a_faster_one() -> None:
    layer = made("clockwork", hidden=4, periods=(1, 2, 4, 8))
    x = sequences(17)[:, 0]
    h = torch.zeros(1, 4, dtype=torch.float64, requires_grad=True)
    t = torch.zeros(1, 1, dtype=torch.float64)
    last = layer(x[:1], (h, t))[0][0]
    jacobian = torch.stack([torch.autograd.grad(value, h, retain_graph=True)[0][0] for value in last])
    assert torch.equal(jacobian != 0, torch.ones(4, 4, dtype=torch.bool).triu())


@pytest.mark.parametrize("cell", ["min_gru", "min_lstm", "linear_recurrence"])
def test_h6_a_linear_recurrence_is_the_same_run_at_once_and_step_by_step(cell: str) -> None:
    layer, x, h = made(cell, backend="scan"), sequences(50), states(3)
    output, final = layer(x, h)
    for t in range(50):
        output_t, (h,) = layer.step(x[t], h)
        same(output[t], output_t)
    same(final.h, h)
