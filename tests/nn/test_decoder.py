"""The decoder against its formulas, one step after another, and its state along a beam."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from recurra.nn import Recurrent
from recurra.nn.attention import Attention
from recurra.nn.decoder import FEEDINGS, Bridge, Decoder, DecoderState, Feeding

E, H, M, C, T, B, S = 3, 4, 5, 6, 4, 3, 5
LENGTHS = [5, 2, 3]


def made(feeding: Feeding, cell: str = "lstm", beside: int = 0) -> Decoder:
    torch.manual_seed(3)
    layers = Recurrent(
        cell, E + beside + (C if feeding == "input" else 0), H, num_layers=1 if feeding == "between" else 2
    )
    upper = Recurrent(cell, H + M, H) if feeding == "between" else None
    return Decoder(layers, Attention("general", H, M), feeding=feeding, upper=upper, size=C).double()


def begun(decoder: Decoder, beside: int = 0) -> DecoderState:
    def state(layers: Recurrent | None) -> object:
        if layers is None:
            return None
        shape = (layers.num_layers, B, H)
        return layers.state_type(*(torch.randn(shape, dtype=torch.float64) for _ in layers.state_type._fields))

    assert decoder.attention is not None
    memory = decoder.attention.memory(torch.randn(S, B, M, dtype=torch.float64), LENGTHS)
    extra = torch.randn(B, beside, dtype=torch.float64) if beside else None
    return DecoderState(state(decoder.layers), state(decoder.upper), memory=memory, beside=extra)


def by_formula(decoder: Decoder, inputs: Tensor, state: DecoderState) -> list[Tensor]:
    """v_t of every step, from the docstring's formulas."""
    assert decoder.attention is not None
    assert state.memory is not None
    layers, upper, v, found = state.layers, state.upper, torch.zeros(B, C, dtype=torch.float64), []
    for x in inputs:
        read = x if state.beside is None else torch.cat([x, state.beside], -1)
        h, layers = decoder.layers.step(torch.cat([read, v], -1) if decoder.feeding == "input" else read, layers)
        c, _ = decoder.attention(h, state.memory)
        if decoder.upper is not None:
            h, upper = decoder.upper.step(torch.cat([h, c], -1), upper)
        v = torch.tanh(torch.cat([c, h], -1) @ decoder.join.weight.T + decoder.join.bias)
        found.append(v)
    return found


@pytest.mark.parametrize("beside", [0, 2])
@pytest.mark.parametrize("feeding", FEEDINGS)
def test_all_steps_at_once_are_the_formulas(feeding: Feeding, beside: int) -> None:
    decoder = made(feeding, beside=beside)
    state, inputs = begun(decoder, beside), torch.randn(T, B, E, dtype=torch.float64)
    vectors, _ = decoder(inputs, state)
    torch.testing.assert_close(vectors, torch.stack(by_formula(decoder, inputs, state)))


@pytest.mark.parametrize("cell", ["gru", "lstm_projected", "clockwork", "slstm"])
@pytest.mark.parametrize("feeding", FEEDINGS)
def test_one_step_after_another_is_all_at_once(feeding: Feeding, cell: str) -> None:
    decoder = made(feeding, cell)
    layers = [decoder.layers] if decoder.upper is None else [decoder.layers, decoder.upper]
    bridges = [Bridge(2, part).double() for part in layers]
    state = begun(made(feeding))
    states = [bridge(torch.randn(B, 2, dtype=torch.float64)) for bridge in bridges]
    state = replace(state, layers=states[0], upper=states[1] if len(states) > 1 else None)
    inputs = torch.randn(T, B, E, dtype=torch.float64)
    vectors, final = decoder(inputs, state)
    assert final.weights is not None
    for t, x in enumerate(inputs):
        v, state = decoder.step(x, state)
        torch.testing.assert_close(v, vectors[t])
        torch.testing.assert_close(state.weights, final.weights[t])
    for a, b in zip(state.layers, final.layers, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("feeding", FEEDINGS)
def test_texts_of_a_sequence_share_its_memory(feeding: Feeding) -> None:
    """Rows as a beam chooses them: two texts of each sequence, and one sequence that is done."""
    decoder = made(feeding)
    state, x = begun(decoder), torch.randn(3, 4, E, dtype=torch.float64)
    assert state.memory is not None
    shared, rows = state, torch.arange(3)
    for t, chosen in enumerate((rows, torch.tensor([0, 0, 2, 2]), torch.tensor([1, 0, 3, 3]))):
        shared, rows = shared.select(chosen), rows[chosen]
        apart = replace(shared, memory=state.memory.select(rows))
        a, apart = decoder.step(x[t, : len(rows)], apart)
        b, shared = decoder.step(x[t, : len(rows)], shared)
        torch.testing.assert_close(a, b)
        torch.testing.assert_close(apart.weights, shared.weights)
    assert shared.memory is not None
    assert len(shared.memory.values) == 2


def test_a_bridge_makes_every_field_but_those_that_count() -> None:
    layers = Recurrent("slstm", 3, 4, num_layers=2)
    learnt = [layers._is_learnt(field) for field in layers.form.fields]
    state = Bridge(5, layers)(torch.randn(2, 5))
    for field, is_learnt in zip(state, learnt, strict=True):
        assert (field.abs() < 1).all() or not is_learnt
        assert bool(field.std() > 0.01) == is_learnt
    layers(torch.randn(1, 2, 3), state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"feeding": "inputs"}, "one of none, input, between"),
        ({"feeding": "between"}, "upper: layers above attention"),
        ({"attention": None, "feeding": "input"}, "expected without attention"),
        ({"layers": Recurrent("gru", 3, 2, bidirectional=True)}, "goes forward"),
    ],
)
def test_parts_that_do_not_fit(arguments: dict[str, object], said: str) -> None:
    whole: dict[str, object] = {"layers": Recurrent("gru", 3, 4), "attention": Attention("general", 4, 4)}
    with pytest.raises(ValueError, match=said):
        Decoder(**(whole | arguments))  # pyright: ignore[reportArgumentType]
