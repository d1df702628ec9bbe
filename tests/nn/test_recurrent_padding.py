"""Lengths, masks and resets, in both directions, for every cell: against each sequence alone, and a slow reference.

Definitions (docs/conventions.md): a masked step holds the state and puts out zeros; a reset sets the state to the
initial state before its step, running backward where it crosses from step t to t - 1; what stands behind a sequence's
length does not matter.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from drawn import drawn_state
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from recurra.cells import CATALOGUE, cell
from recurra.math import tanh
from recurra.nn import Recurrent

INPUT, HIDDEN = 3, 4
CELLS = sorted(CATALOGUE)
Row = tuple[Tensor, ...]


def make(name: Any, **options: Any) -> Recurrent:
    layer = Recurrent(name, INPUT, HIDDEN, dtype=torch.float64, **options)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(2)


# --- each alone ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bidirectional", "batch_first"), [(False, True), (True, True), (False, False)])
@pytest.mark.parametrize("name", CELLS)
def test_a_padded_batch_is_each_sequence_alone(name: str, bidirectional: bool, batch_first: bool) -> None:
    """Outputs, final state, all states, every gradient; the padding is NaN, so that nothing of it may be touched."""
    lengths = [4, 0, 6, 1]
    steps, rows = 6, len(lengths)
    layer = make(name, num_layers=2, bidirectional=bidirectional, batch_first=batch_first)
    padded = torch.full((rows, steps, INPUT), torch.nan, dtype=torch.float64)
    alone = [random(length, INPUT).requires_grad_() for length in lengths]
    with torch.no_grad():
        for b, x in enumerate(alone):
            padded[b, : len(x)] = x
    padded.requires_grad_()
    fields = len(layer.state_type._fields)
    begun = [field.requires_grad_() for field in drawn_state(layer, rows)]
    out_weight, final_weight = random(rows, steps, layer.output_size), [torch.randn_like(field) for field in begun]

    output, final, states = layer(
        padded if batch_first else padded.transpose(0, 1), begun, lengths=lengths, return_states=True
    )
    output = output if batch_first else output.transpose(0, 1)
    total = (output * out_weight).sum() + sum((f * w).sum() for f, w in zip(final, final_weight, strict=True))
    ours = torch.autograd.grad(total, [padded, *begun, *layer.parameters()])

    expected_total = torch.zeros((), dtype=torch.float64)
    for b, length in enumerate(lengths):
        row_output, row_final, row_states = layer(alone[b], [field[:, b] for field in begun], return_states=True)
        torch.testing.assert_close(output[b, :length], row_output)
        assert (output[b, length:] == 0).all()
        for i in range(fields):
            torch.testing.assert_close(final[i][:, b], row_final[i])
            of_row = states[i][:, b] if batch_first else states[i][:, :, b]
            torch.testing.assert_close(of_row[:, :length], row_states[i])
        expected_total = expected_total + (row_output * out_weight[b, :length]).sum()
        expected_total = expected_total + sum((f * w[:, b]).sum() for f, w in zip(row_final, final_weight, strict=True))
    theirs = torch.autograd.grad(expected_total, [*alone, *begun, *layer.parameters()], materialize_grads=True)
    for b, length in enumerate(lengths):
        torch.testing.assert_close(ours[0][b, :length], theirs[b])
        assert (ours[0][b, length:] == 0).all()
    for found, wanted in zip(ours[1:], theirs[rows:], strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_masked_steps_might_as_well_not_be_there(name: str, bidirectional: bool) -> None:
    layer = make(name, num_layers=2, bidirectional=bidirectional)
    mask = torch.tensor([[1, 0, 1, 1, 0, 1, 0], [0, 0, 1, 1, 1, 1, 1], [0] * 7, [1] * 7]).bool()
    x = random(7, 4, INPUT)
    holed = x.masked_fill(~mask.T.unsqueeze(-1), torch.nan).requires_grad_()
    output, final = layer(holed, mask=mask.T)
    assert (output[~mask.T] == 0).all()
    total = output.square().sum() + sum(field.square().sum() for field in final)
    ours = torch.autograd.grad(total, [holed, *layer.parameters()])
    expected_total = torch.zeros((), dtype=torch.float64)
    dense = x.clone().requires_grad_()
    for b in range(4):
        row_output, row_final = layer(dense[mask[b], b])
        torch.testing.assert_close(output[mask[b], b], row_output)
        torch.testing.assert_close(tuple(field[:, b] for field in final), tuple(row_final))
        expected_total = expected_total + row_output.square().sum() + sum(f.square().sum() for f in row_final)
    theirs = torch.autograd.grad(expected_total, [dense, *layer.parameters()])
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("name", CELLS)
def test_resets_cut_a_sequence_into_sequences(name: str, bidirectional: bool) -> None:
    layer = make(name, num_layers=2, bidirectional=bidirectional)
    x = random(7, 2, INPUT).requires_grad_()
    cuts = [[2, 5], [1, 2, 6]]
    reset = torch.zeros(7, 2, dtype=torch.bool)
    for b, places in enumerate(cuts):
        reset[places, b] = True
    output, _ = layer(x, reset=reset)
    pieces = []
    for b, places in enumerate(cuts):
        edges = [0, *places, 7]
        row = [layer(x[start:end, b])[0] for start, end in itertools.pairwise(edges)]
        pieces.append(torch.cat(row))
    expected = torch.stack(pieces, 1)
    torch.testing.assert_close(output, expected)
    weight = torch.randn_like(output)
    inputs = [x, *layer.parameters()]
    for found, wanted in zip(
        torch.autograd.grad((output * weight).sum(), inputs),
        torch.autograd.grad((expected * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(found, wanted)


def test_a_reset_ends_what_was_carried_in() -> None:
    layer = make("lstm")
    x, begun = random(3, 2, INPUT), [random(1, 2, HIDDEN) for _ in range(2)]
    reset = torch.tensor([[True, False], [False, False], [False, True]])
    output, _ = layer(x, begun, reset=reset)
    fresh, carried = layer(x)[0], layer(x, begun)[0]
    torch.testing.assert_close(output[:, 0], fresh[:, 0])
    torch.testing.assert_close(output[:2, 1], carried[:2, 1])
    torch.testing.assert_close(output[2, 1], layer(x[2:, 1])[0][0])


# --- against a slow reference that loops over rows -------------------------------------------------------------------


def slow_row(
    step: Callable[[Tensor, Row], Row],
    x: Tensor,
    begun: Row,
    initial: Row,
    valid: Sequence[bool],
    reset: Sequence[bool],
    reverse: bool,
) -> tuple[list[Row], Row]:
    """One sequence in one direction, the definitions word for word: the state at every step, and the final one."""
    states: dict[int, Row] = {}
    state, order = begun, list(range(len(x)))
    for t in reversed(order) if reverse else order:
        crossed = t + 1 if reverse else t
        if crossed < len(x) and reset[crossed]:
            state = initial
        if valid[t]:
            state = step(x[t], state)
        states[t] = state
    return [states[t] for t in order], state


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    steps, rows = draw(st.integers(0, 6)), draw(st.integers(1, 4))
    flags = st.lists(st.lists(st.booleans(), min_size=rows, max_size=rows), min_size=steps, max_size=steps)
    return {
        "steps": steps,
        "rows": rows,
        "lengths": draw(st.none() | st.lists(st.integers(0, steps), min_size=rows, max_size=rows)),
        "mask": draw(st.none() | flags),
        "reset": draw(st.none() | flags),
        "begun": draw(st.booleans()),
        "batch_first": draw(st.booleans()),
        "learnt": draw(st.booleans()),
        "name": draw(st.sampled_from(CELLS)),
        "seed": draw(st.integers(0, 1000)),
    }


def flags_of(values: list[list[bool]] | None, steps: int, rows: int) -> Tensor | None:
    return None if values is None else torch.tensor(values, dtype=torch.bool).reshape(steps, rows)


@settings(max_examples=50, deadline=None)
@given(batch=batches())
def test_lengths_masks_and_resets_mean_what_they_say(batch: dict[str, Any]) -> None:
    steps, rows, lengths = batch["steps"], batch["rows"], batch["lengths"]
    torch.manual_seed(batch["seed"])
    layer = make(
        batch["name"], bidirectional=True, batch_first=batch["batch_first"], learn_initial_state=batch["learnt"]
    )
    mask, reset = flags_of(batch["mask"], steps, rows), flags_of(batch["reset"], steps, rows)
    x = random(steps, rows, INPUT)
    begun = drawn_state(layer, rows) if batch["begun"] else None

    def turned(v: Any) -> Any:
        return v.transpose(0, 1) if v is not None and batch["batch_first"] else v

    output, final, states = layer(
        turned(x), begun, lengths=lengths, mask=turned(mask), reset=turned(reset), return_states=True
    )
    output = turned(output)
    assert output.shape == (steps, rows, 2 * HIDDEN)

    for b in range(rows):
        within = [t < (steps if lengths is None else lengths[b]) for t in range(steps)]
        valid = [within[t] and (mask is None or bool(mask[t, b])) for t in range(steps)]
        cleared = [within[t] and reset is not None and bool(reset[t, b]) for t in range(steps)]
        for place, suffix in enumerate(("", "_reverse")):
            single = make(batch["name"])
            own = layer.state_dict()
            single.load_state_dict({name: own[f"{name}{suffix}"] for name in single.state_dict()})
            initial = tuple(
                own.get(
                    f"initial_{f.name}_l0{suffix}", torch.full((width,), single.form.begins(f), dtype=torch.float64)
                )
                for f, width in zip(single.form.fields, single.form.widths(HIDDEN), strict=True)
            )

            def step(x_t: Tensor, state: Row, single: Recurrent = single) -> Row:
                _, new = single.step(x_t, [field.unsqueeze(0) for field in state])
                return tuple(field[0] for field in new)

            first = initial if begun is None else tuple(field[place, b] for field in begun)
            every, last = slow_row(step, x[:, b], first, initial, valid, cleared, bool(suffix))
            torch.testing.assert_close(tuple(field[place, b] for field in final), last)
            for t in range(steps):
                half = output[t, b].split(HIDDEN)[place]
                torch.testing.assert_close(half, every[t][0] if valid[t] else torch.zeros_like(half))
                for i, value in enumerate(every[t]):
                    found = states[i][place, b, t] if batch["batch_first"] else states[i][place, t, b]
                    torch.testing.assert_close(found, value)


@settings(max_examples=40, deadline=None)
@given(
    steps=st.integers(0, 5),
    rows=st.integers(0, 3),
    size=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    bidirectional=st.booleans(),
    batch_first=st.booleans(),
    name=st.sampled_from(CELLS),
)
def test_shapes(steps: int, rows: int, size: list[int], bidirectional: bool, batch_first: bool, name: str) -> None:
    layer = Recurrent(name, INPUT, size, len(size), bidirectional=bidirectional, batch_first=batch_first)
    lead = (rows, steps) if batch_first else (steps, rows)
    output, final, states = layer(torch.zeros(*lead, INPUT), lengths=[steps] * rows, return_states=True)
    directions = 2 if bidirectional else 1
    assert output.shape == (*lead, size[-1] * directions)
    for f, last, every in zip(layer.form.fields, final, states, strict=True):
        widths = [1 if f.is_bookkeeping else width for width in size for _ in range(directions)]
        assert isinstance(last, Tensor) == isinstance(every, Tensor) == (len(set(widths)) == 1)
        assert [v.shape for v in last] == [(rows, width) for width in widths]
        assert [v.shape for v in every] == [(*lead, width) for width in widths]


# --- how lengths can be given, and edges -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_as",
    [
        torch.tensor([2, 4, 0]),
        torch.tensor([2, 4, 0], dtype=torch.int32),
        torch.tensor([2, 4, 0], dtype=torch.uint8),
        (2, 4, 0),
        np.array([2, 4, 0]),
        np.array([0, 4, 2])[::-1],
        torch.tensor([2, 4, 0], dtype=torch.uint16),
        np.array([2, 4, 0], np.uint64),
    ],
    ids=["int64", "int32", "uint8", "tuple", "numpy", "numpy, backward", "uint16", "numpy uint64"],
)
def test_lengths_of_any_kind_and_order(given_as: Any) -> None:
    layer, x = make("gru"), random(4, 3, INPUT)
    assert torch.equal(layer(x, lengths=given_as)[0], layer(x, lengths=[2, 4, 0])[0])


@pytest.mark.parametrize("given_as", [2, [2], torch.tensor(2), torch.tensor([2])])
def test_the_length_of_one_sequence(given_as: Any) -> None:
    layer, x = make("gru"), random(4, INPUT)
    output, final = layer(x, lengths=given_as)
    torch.testing.assert_close(output[:2], layer(x[:2])[0])
    torch.testing.assert_close(final.h, layer(x[:2])[1].h)


def test_mask_and_reset_of_one_sequence() -> None:
    layer, x = make("gru", bidirectional=True), random(5, INPUT)
    flags = torch.tensor([False, True, False, True, True])
    together = layer(x.unsqueeze(1), mask=flags.unsqueeze(1), reset=flags.unsqueeze(1))[0]
    assert torch.equal(layer(x, mask=flags, reset=flags)[0], together.squeeze(1))


def test_what_stands_in_the_padding_of_reset_and_mask_does_not_matter() -> None:
    layer, x = make("lstm", bidirectional=True), random(4, 2, INPUT)
    lengths, begun = [2, 4], [random(2, 2, HIDDEN) for _ in range(2)]
    clean = torch.tensor([[False, False], [True, False], [False, True], [False, False]])
    noisy = clean | torch.tensor([[False, False], [False, False], [True, False], [True, False]])
    expected = layer(x, begun, lengths=lengths, reset=clean)
    found = layer(x, begun, lengths=lengths, reset=noisy, mask=torch.ones(4, 2, dtype=torch.bool))
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1].c, expected[1].c)


def test_a_reset_at_a_masked_step_still_resets() -> None:
    layer, x = make("lstm"), random(3, 1, INPUT)
    mask, reset = torch.tensor([[True], [False], [True]]), torch.tensor([[False], [True], [False]])
    output, _ = layer(x, mask=mask, reset=reset)
    torch.testing.assert_close(output[2, 0], layer(x[2])[0][0])


def test_padding_does_not_move_what_is_kept_apart_from_it() -> None:
    """A cell that counts its steps counts only those that it takes."""

    @cell(state="h n:1", gates="h")
    def counting(z, s):
        return tanh(z.h), s.n + 1

    layer = make(counting, bidirectional=True)
    mask = torch.tensor([[True, False], [True, False], [False, True]])
    _, final = layer(random(3, 2, INPUT), mask=mask)
    assert final.n[:, :, 0].tolist() == [[2, 1], [2, 1]]
