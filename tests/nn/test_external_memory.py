"""The neural Turing machine beside the paper's equations in NumPy, one number after another."""

import copy
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import recurra
from recurra.cells import CATALOGUE
from recurra.nn import NTM
from recurra.nn.external_memory import EMPTY, TINY, Weightings, by_content, sharpened, shifted, written

T, B, N_IN = 7, 3, 4


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def values(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def machine(cell: Any = "elman", hidden: Any = 6, **options: Any) -> NTM:
    options = {"memory": (9, 5), "read_heads": 2, "write_heads": 2, "shift": 2, "dtype": torch.float64} | options
    found = NTM(cell, N_IN, hidden, **options)
    with torch.no_grad():
        for p in found.parameters():
            p.copy_(torch.randn_like(p) * 0.7)
    return found


# --- the equations ----------------------------------------------------------------------------------------------------


def softplus(z: float) -> float:
    return math.log1p(math.exp(z))


def sigmoid(z: float) -> float:
    return 1 / (1 + math.exp(-z))


class ByHand:
    """Equations 2 to 9 of Graves, Wayne & Danihelka (2014), with an Elman network as controller, one sequence."""

    def __init__(self, layer: NTM) -> None:
        self.p = {name: v.detach().numpy() for name, v in layer.named_parameters()}
        self.N, self.M, self.R, self.W, self.S = (
            *(layer.places, layer.width),
            *(layer.read_heads, layer.write_heads, layer.shift),
        )
        self.h = np.zeros(len(self.p["controller.weight_hh_l0"]))
        self.memory = np.full((self.N, self.M), EMPTY)
        self.w = np.zeros((self.R + self.W, self.N))
        self.w[:, 0] = 1
        self.r = np.full((self.R, self.M), EMPTY)

    def step(self, x: np.ndarray) -> dict[str, np.ndarray]:
        p, A = self.p, self.R + self.W
        seen = np.concatenate([x, self.r.ravel()])
        net = p["controller.weight_ih_l0"] @ seen + p["controller.weight_hh_l0"] @ self.h + p["controller.bias_l0"]
        self.h = np.tanh(net)
        z = list(p["weight_heads"] @ self.h + p["bias_heads"])
        keys = [[z.pop(0) for _ in range(self.M)] for _ in range(A)]
        beta = [softplus(z.pop(0)) for _ in range(A)]
        gate = [sigmoid(z.pop(0)) for _ in range(A)]
        logits = [[z.pop(0) for _ in range(2 * self.S + 1)] for _ in range(A)]
        gamma = [1 + softplus(z.pop(0)) for _ in range(A)]
        erase = np.array([[sigmoid(z.pop(0)) for _ in range(self.M)] for _ in range(self.W)])
        add = np.array([[math.tanh(z.pop(0)) for _ in range(self.M)] for _ in range(self.W)])
        assert not z
        new = np.zeros_like(self.w)
        for a in range(A):
            k = np.array(keys[a])
            like = [beta[a] * float(k @ row) / (np.linalg.norm(k) * np.linalg.norm(row) + TINY) for row in self.memory]
            content = np.exp(like) / np.sum(np.exp(like))
            mixed = gate[a] * content + (1 - gate[a]) * self.w[a]
            chance = {d: math.exp(v) for d, v in zip(range(-self.S, self.S + 1), logits[a], strict=True)}
            moved = np.zeros(self.N)
            for j in range(self.N):
                for d, v in chance.items():
                    moved[(j + d) % self.N] += mixed[j] * v / sum(chance.values())
            new[a] = moved ** gamma[a] / np.sum(moved ** gamma[a])
        self.w = new
        for i in range(self.N):
            for head in range(self.W):
                self.memory[i] *= 1 - self.w[self.R + head, i] * erase[head]
            for head in range(self.W):
                self.memory[i] += self.w[self.R + head, i] * add[head]
        self.r = self.w[: self.R] @ self.memory
        said = np.concatenate([self.h, self.r.ravel()])
        return {"y": said, "w": self.w.copy(), "r": self.r.copy(), "e": erase, "a": add}


@pytest.mark.parametrize("heads", [{}, {"read_heads": 1, "write_heads": 1, "shift": 1}, {"shift": 0, "memory": (1, 3)}])
def test_it_is_the_papers_equations(heads: dict[str, Any]) -> None:
    layer, x = machine(**heads), values(T, B, N_IN)
    output, state, told = layer(x, return_weightings=True)
    R = layer.read_heads
    for b in range(B):
        by_hand = ByHand(layer)
        for t in range(T):
            wanted = by_hand.step(x[t, b].numpy())
            np.testing.assert_allclose(output[t, b].detach(), wanted["y"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(told.reading[t, b].detach(), wanted["w"][:R], rtol=0, atol=1e-12)
            np.testing.assert_allclose(told.writing[t, b].detach(), wanted["w"][R:], rtol=0, atol=1e-12)
            np.testing.assert_allclose(told.read[t, b].detach(), wanted["r"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(told.erased[t, b].detach(), wanted["e"], rtol=0, atol=1e-12)
            np.testing.assert_allclose(told.added[t, b].detach(), wanted["a"], rtol=0, atol=1e-12)
        np.testing.assert_allclose(state.memory[:, b].detach(), by_hand.memory, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state.weightings[:, b].detach(), by_hand.w, rtol=0, atol=1e-12)
        np.testing.assert_allclose(state.h[0, b].detach(), by_hand.h, rtol=0, atol=1e-12)


def test_gradients_are_right() -> None:
    layer, x = machine("lstm", 3, memory=(4, 3), shift=1), values(3, 2, N_IN).requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
        own = dict(zip(names, parameters, strict=True))
        output, state = torch.func.functional_call(layer, own, (x,), {"lengths": [3, 2]})
        return output, *state

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()), fast_mode=True)
    begun = [v.detach().requires_grad_() for v in layer(x)[1]]
    assert torch.autograd.gradcheck(lambda *state: layer(x.detach(), state)[0], begun)


@pytest.mark.parametrize("S", [0, 1, 3])
def test_gradients_of_addressing_are_right(S: int) -> None:
    w = torch.softmax(values(2, 3, 8), -1).requires_grad_()
    shifts = torch.softmax(values(2, 3, 2 * S + 1), -1).requires_grad_()
    exponent = (1 + values(2, 3, 1).square()).requires_grad_()
    assert torch.autograd.gradcheck(lambda w, s, g: sharpened(shifted(w, s), g), (w, shifts, exponent))
    memory, key, strength = (v.requires_grad_() for v in (values(2, 8, 4), values(2, 3, 4), values(2, 3, 1).exp()))
    assert torch.autograd.gradcheck(by_content, (memory, key, strength))
    assert torch.autograd.gradgradcheck(by_content, (memory, key, strength), fast_mode=True)
    assert torch.autograd.gradgradcheck(sharpened, (w, exponent), fast_mode=True)


# --- weightings -------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([1e-30, 1e-6, 1e-3, 1.0, 30.0, 1e4])


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(0, 2), SIZES, SIZES, SIZES, st.booleans(), st.integers(0, 2**31))
def test_weightings_are_never_negative_and_add_up_to_1(
    N: int, S: int, of_memory: float, of_key: float, of_exponent: float, sharp: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    S = min(S, (N - 1) // 2)
    before = torch.zeros(2, 3, N)
    before[..., 0] = 1.0
    w = by_content(of_memory * drawn(2, N, 4), of_key * drawn(2, 3, 4), 10 * drawn(2, 3, 1).exp())
    w = torch.lerp(before, w, torch.rand(2, 3, 1, generator=generator).round() if sharp else torch.tensor(0.3))
    w = shifted(w, torch.softmax((100 if sharp else 1) * drawn(2, 3, 2 * S + 1), -1))
    w = sharpened(w, 1 + of_exponent * drawn(2, 3, 1).abs())
    assert bool((w >= 0).all())
    torch.testing.assert_close(w.sum(-1), torch.ones(2, 3), rtol=0, atol=1e-5)


@settings(deadline=None)
@given(SIZES, st.integers(0, 2**31))
def test_a_machine_of_any_weights_has_weightings(size: float, seed: int) -> None:
    torch.manual_seed(seed)
    layer = machine(dtype=torch.float32)
    with torch.no_grad():
        for p in layer.parameters():
            p.mul_(size)
    *_, told = layer(torch.randn(5, 2, N_IN), return_weightings=True)
    for w in (told.reading, told.writing):
        assert bool((w >= 0).all())
        torch.testing.assert_close(w.sum(-1), torch.ones(w.shape[:-1]), rtol=0, atol=1e-5)


def test_a_shift_goes_round_the_end() -> None:
    w = torch.tensor([[[0.0, 0.0, 0.25, 0.75]]])
    ahead, back = torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
    assert shifted(w, ahead).tolist() == [[[0.75, 0.0, 0.0, 0.25]]]
    assert shifted(w, back).tolist() == [[[0.0, 0.25, 0.75, 0.0]]]


def test_a_large_exponent_leaves_the_largest() -> None:
    even = torch.full((1, 1, 128), 1 / 128)
    even[..., 77] = 1.2 / 128
    w = sharpened(even, torch.tensor([[[300.0]]]))
    assert w.argmax() == 77
    assert float(w.sum()) == pytest.approx(1)  # 128^-300 is 0 in any precision


def test_heads_erase_first_and_add_then() -> None:
    memory, w = values(1, 2, 3), torch.tensor([[[1.0, 0.0], [1.0, 0.0]]]).double()
    erase, add = torch.tensor([[[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]).double(), values(1, 2, 3)
    found = written(memory, w, erase, add)
    torch.testing.assert_close(found[0, 0], memory[0, 0] * torch.tensor([0.0, 0.0, 1.0]) + add[0].sum(0))
    torch.testing.assert_close(found[0, 1], memory[0, 1])


# --- a machine set by hand --------------------------------------------------------------------------------------------


def copier(places: int, width: int) -> NTM:
    """A machine that copies: h = (x; whether the delimiter has passed), W moves on always, R once it has passed."""
    layer = NTM(CATALOGUE["elman"](activation="identity"), width + 1, width + 2, memory=(places, width))
    seen, passed, sure = width, width + 1, 40.0
    p = dict(layer.named_parameters())
    _, _, gate, shifts, gamma, erase, _ = p["bias_heads"].split([2 * width, 2, 2, 6, 2, width, width])
    with torch.no_grad():
        for v in layer.parameters():
            v.zero_()
        W = p["controller.weight_ih_l0"]
        W[: width + 1, : width + 1] = torch.eye(width + 1)
        W[passed, seen] = 1.0  # from the delimiter on, and
        p["controller.weight_hh_l0"][passed, passed] = 1.0
        gate.fill_(-sure)  # never by content
        gamma.fill_(sure)
        erase.fill_(-sure)
        shifts.copy_(torch.tensor([0.0, sure, 0.0, 0.0, 0.0, 2 * sure]))  # R stays, W goes on
        rows = p["weight_heads"]
        first = 2 * width + 4
        rows[first + 2, passed], rows[first + 2, seen] = 2 * sure, -2 * sure  # R goes on behind the delimiter
        rows[-width:, :width] = sure * torch.eye(width)  # a = 1 for a bit of 1, else 0
    return layer


@pytest.mark.parametrize("length", [1, 2, 20, 40])
def test_a_machine_set_by_hand_copies(length: int) -> None:
    width, rows = 6, 3
    bits = torch.randint(0, 2, (length, rows, width)).float()
    x = torch.zeros(2 * length + 1, rows, width + 1)
    x[:length, :, :width] = bits
    x[length, :, width] = 1
    layer = copier(2 * length + 2, width)
    output, _, told = layer(x, return_weightings=True)
    torch.testing.assert_close(output[length + 1 :, :, width + 2 :], bits)
    assert told.writing[:length, 0, 0].argmax(-1).tolist() == list(range(1, length + 1))
    assert told.reading[:, 0, 0].argmax(-1).tolist() == [0] * (length + 1) + list(range(1, length + 1))


# --- controllers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_of_the_catalogue_is_a_controller(name: str) -> None:
    layer = NTM(name, N_IN, 12, memory=(8, 5), read_heads=2)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    x = torch.randn(T, B, N_IN)
    output, state = layer(x)
    assert output.shape == (T, B, layer.output_size)
    assert state._fields == (*layer.controller.state_type._fields, "memory", "weightings", "read")
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    output.square().sum().backward()
    optimizer.step()
    for name, p in layer.named_parameters():
        assert bool(p.isfinite().all())
        assert not torch.equal(p, before[name]), name


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_the_controllers_backend_changes_nothing(backend: str) -> None:
    layer, x = machine("gru", backend=backend), values(T, B, N_IN)
    torch.manual_seed(5)
    plain, same = machine("gru", backend="eager"), values(T, B, N_IN)
    assert layer.controller.choice.backend == backend
    torch.testing.assert_close(layer(x)[0], plain(same)[0])


def test_a_controller_of_several_layers() -> None:
    layer, x = (
        machine("lstm", [6, 4], num_layers=2, skip="residual", dropout=0.5, learn_initial_state=True),
        values(T, B, N_IN),
    )
    layer.eval()
    output, state = layer(x)
    assert output.shape == (T, B, 4 + 10)
    assert [v.shape for v in state.c] == [(B, 6), (B, 4)]
    first, begun = layer(x[:3])
    second, _ = layer(x[3:], begun)
    torch.testing.assert_close(torch.cat([first, second]), output)
    layer.train()
    assert not torch.equal(layer(x)[0], output)


def test_a_plain_function_as_a_controller() -> None:
    layer = NTM(nn.GRUCell(N_IN + 5, 6), N_IN, 6, memory=(8, 5))
    output, _ = layer(torch.randn(T, B, N_IN))
    output.sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


def test_a_cell_whose_state_is_called_as_the_memory_is() -> None:
    @recurra.cell(state="read", gates="g")
    def reader(z, s):
        """A cell."""
        return torch.tanh(z.g)

    with pytest.raises(ValueError, match="cell: its state has a field 'read', as the memory's has"):
        NTM(reader, 2, 3)


# --- called as Recurrent is -------------------------------------------------------------------------------------------


def close(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("cell", ["elman", "lstm", "clockwork", "slstm"])
def test_steps_are_the_sequence_and_a_state_is_gone_on_with(cell: str) -> None:
    layer, x = machine(cell, 12), values(T, B, N_IN)
    whole, final = layer(x)
    state, said = None, []
    for x_t in x:
        y, state = layer.step(x_t, state)
        said.append(y)
    torch.testing.assert_close(torch.stack(said), whole)
    close(state, final)
    first, middle = layer(x[:2])
    second, end = layer(x[2:], tuple(middle))
    torch.testing.assert_close(torch.cat([first, second]), whole)
    close(end, final)


def test_batch_first_and_a_single_sequence() -> None:
    layer, x = machine("lstm"), values(T, B, N_IN)
    whole, final, told = layer(x, return_weightings=True)
    rows = machine("lstm", batch_first=True)
    rows.load_state_dict(layer.state_dict())
    output, state, by_row = rows(x.transpose(0, 1), return_weightings=True)
    torch.testing.assert_close(output.transpose(0, 1), whole)
    close(state, final)
    torch.testing.assert_close(by_row.reading.transpose(0, 1), told.reading)
    y, _ = rows.step(x[0])
    torch.testing.assert_close(y, whole[0])
    alone, state, of_it = layer(x[:, 1], return_weightings=True)
    torch.testing.assert_close(alone, whole[:, 1])
    torch.testing.assert_close(state.memory, final.memory[:, 1])
    torch.testing.assert_close(state.c, final.c[:, 1])
    torch.testing.assert_close(of_it.writing, told.writing[:, 1])
    again, _ = layer(x[:, 1], state)
    torch.testing.assert_close(again, layer(x[:, 1:2], type(state)(*(v[:, 1:2] for v in final)))[0][:, 0])
    torch.testing.assert_close(layer.step(x[0, 1])[0], whole[0, 1])


@pytest.mark.parametrize("cell", ["gru", "clockwork"])
def test_padding_does_not_leak(cell: str) -> None:
    layer, lengths = machine(cell, 12, learn_initial_state=cell == "gru"), torch.tensor([T, 0, 4])
    x = values(T, B, N_IN)
    padded = x.clone()
    for b, length in enumerate(lengths.tolist()):
        padded[length:, b] = torch.nan
    padded.requires_grad_()
    output, final, told = layer(padded, lengths=lengths, return_weightings=True)
    for b, length in enumerate(lengths.tolist()):
        alone, state, of_it = layer(x[:length, [b]], return_weightings=True)
        torch.testing.assert_close(output[:length, [b]], alone)
        assert not output[length:, b].any()
        close([v[:, [b]] for v in final], list(state))
        for part, own in zip(told, of_it, strict=True):
            torch.testing.assert_close(part[:length, [b]], own)
            assert not part[length:, b].any()
    output.square().sum().backward()
    assert padded.grad is not None
    assert bool(padded.grad.isfinite().all())
    assert not padded.grad[4:, 2].any()
    assert all(bool(p.grad.isfinite().all()) for p in layer.parameters() if p.grad is not None)


def test_no_steps_at_all() -> None:
    layer = machine("lstm")
    output, state, told = layer(values(0, 2, N_IN), return_weightings=True)
    assert output.shape == (0, 2, layer.output_size)
    assert bool((state.memory == EMPTY).all())
    assert state.weightings[:, :, 0].eq(1).all()
    assert isinstance(told, Weightings)
    assert told.added.shape == (0, 2, 2, 5)


def test_a_copy_is_the_same_and_apart() -> None:
    layer, x = machine("lstm"), values(T, B, N_IN)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x)[0], layer(x)[0])
        other.reset_parameters()
        assert not torch.equal(other(x)[0], layer(x)[0])
    assert "memory=(9, 5), read_heads=2" in repr(layer)


def test_in_mixed_precision_the_memory_stays_in_single() -> None:
    layer, x = machine("lstm", dtype=torch.float32), torch.randn(T, B, N_IN)
    with torch.autocast("cpu", torch.bfloat16):
        output, state = layer(x, lengths=[T, 2, 0])
        again, _ = layer(x, state)
    assert state.memory.dtype == state.weightings.dtype == torch.float32
    torch.testing.assert_close(state.weightings.sum(-1), torch.ones(4, B))
    torch.testing.assert_close(output.float(), layer(x, lengths=[T, 2, 0])[0], rtol=0.1, atol=0.1)
    again.float().sum().backward()
    assert layer.weight_heads.grad is not None
    assert bool(layer.weight_heads.grad.isfinite().all())


def test_parameters_by_symbol() -> None:
    layer = machine("lstm")
    found = layer.by_symbol(dict(layer.named_parameters()))
    assert found["heads"][0] is layer.weight_heads
    assert [tuple(v.shape) for v in found["U_f"]] == [(6, 6)]
    assert [tuple(v.shape) for v in found["W_f"]] == [(6, N_IN + 10)]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NTM("lstm", 2, 3, memory=5), r"memory: its places and their width are expected, such as \(128, 20\)"),  # type: ignore[arg-type]
        (lambda: NTM("lstm", 2, 3, memory=(0, 4)), "memory: a whole number above 0 is expected, not 0"),
        (lambda: NTM("lstm", 2, 3, memory=(8, 4), read_heads=0), "read_heads: a whole number above 0 is expected"),
        (lambda: NTM("lstm", 2, 3, memory=(8, 4), shift=4), "shift: from 0 to 3 places is expected in a memory of 8"),
        (lambda: NTM("lstm", 2, 3, bidirectional=True), "bidirectional: a controller takes one step at a time"),
        (lambda: NTM("lstm", 2, 3, recurrent_dropout=0.1), "recurrent_dropout: it is drawn once a sequence"),
        (lambda: NTM("lsmt", 2, 3), "unknown cell 'lsmt'; did you mean 'lstm'"),
        (lambda: NTM("lstm", 2, 3)([1.0]), "x: a tensor is expected, not list"),
        (lambda: NTM("lstm", 2, 3)(torch.zeros(4, 1, 3)), r"x: \(T, B, 2\), .* is expected, not \(4, 1, 3\)"),
        (lambda: NTM("lstm", 2, 3)(torch.zeros(4, 1, 2), lengths=[5]), "lengths: from 0 to T = 4 is expected, found 5"),
        (
            lambda: NTM("lstm", 2, 3)(torch.zeros(4, 1, 2), 3),
            r"state: 5 fields are expected \(h, c, memory, .* not int",
        ),
        (
            lambda: NTM("lstm", 2, 3)(torch.zeros(4, 1, 2), NTM("lstm", 2, 3)(torch.zeros(1, 2, 2))[1]),
            r"state.memory: a tensor \(128, 1, 20\) is expected, not \(128, 2, 20\)",
        ),
    ],
)
def test_what_cannot_be_is_told(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
