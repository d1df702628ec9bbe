"""The drop-ins beside PyTorch's own: outputs, states and every gradient, over all that PyTorch accepts."""

import itertools
from typing import Any

import hypothesis.strategies as st
import pytest
import torch
from dropin_pairs import CELLS, LAYERS, TOLERANCE, assert_close, assert_same, pair, state_of, tensors
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

# PyTorch's own, about its LSTM:
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

INPUT, HIDDEN, STEPS, ROWS = 3, 5, 6, 4
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "RNN": ("RNN", {}),
    "RNN, ReLU": ("RNN", {"nonlinearity": "relu"}),
    "LSTM": ("LSTM", {}),
    "LSTM, projected": ("LSTM", {"proj_size": 2}),
    "GRU": ("GRU", {}),
}
FORMS = ("batched", "one sequence", "packed", "packed, unsorted")
PRODUCT = list(
    itertools.product(
        KINDS,
        (1, 2, 3),
        (False, True),
        (False, True),
        (False, True),
        FORMS,
        (False, True),
        (torch.float64, torch.float32),
    )
)
SPREAD = 13  # shares no factor with any choice above, so that every 13th combination has all of them


def made_input(form: str, batch_first: bool, dtype: torch.dtype) -> Any:
    x = torch.randn(STEPS, ROWS, INPUT, dtype=dtype)
    if form == "one sequence":
        return x[:, 0]
    x = x.transpose(0, 1) if batch_first else x
    if form == "batched":
        return x
    lengths = [6, 4, 4, 1] if form == "packed" else [2, 6, 1, 5]
    return pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=form == "packed")


def check(
    kind: str,
    layers: int,
    bidirectional: bool,
    bias: bool,
    batch_first: bool,
    form: str,
    begun: bool,
    dtype: torch.dtype,
) -> None:
    name, options = KINDS[kind]
    theirs, ours = pair(
        name,
        INPUT,
        HIDDEN,
        num_layers=layers,
        bidirectional=bidirectional,
        bias=bias,
        batch_first=batch_first,
        dtype=dtype,
        **options,
    )
    x = made_input(form, batch_first, dtype)
    hx = state_of(ours, None if form == "one sequence" else ROWS, dtype) if begun else None
    assert_same(theirs, ours, x, hx)


@pytest.mark.parametrize("case", PRODUCT[::SPREAD], ids=lambda case: "-".join(map(str, case)))
def test_results_and_gradients(case: tuple[Any, ...]) -> None:
    check(*case)


def test_the_spread_has_every_choice() -> None:
    for i, choices in enumerate(zip(*PRODUCT, strict=True)):
        assert {case[i] for case in PRODUCT[::SPREAD]} == set(choices)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", KINDS)
def test_results_and_gradients_in_every_combination(kind: str) -> None:
    cases = [case for case in PRODUCT if case[0] == kind]
    assert len(cases) * len(KINDS) == len(PRODUCT)
    for case in cases:
        check(*case)


@st.composite
def configurations(draw: st.DrawFn) -> tuple[str, dict[str, Any], Tensor | PackedSequence, bool, int]:
    name, options = KINDS[draw(st.sampled_from(sorted(KINDS)))]
    options = dict(options)
    options["input_size"], options["hidden_size"] = draw(st.integers(1, 5)), draw(st.integers(3, 7))
    options["num_layers"] = draw(st.integers(1, 3))
    for flag in ("bidirectional", "bias", "batch_first"):
        options[flag] = draw(st.booleans())
    dtype = draw(st.sampled_from([torch.float64, torch.float32]))
    seed = draw(st.integers(0, 1000))
    torch.manual_seed(seed)  # weights and states, too, are drawn anew alike when a failure is tried again
    generator = torch.Generator().manual_seed(seed)
    lengths = draw(st.lists(st.integers(1, 7), min_size=1, max_size=5))
    rows = [torch.randn(T, options["input_size"], generator=generator, dtype=torch.float64).to(dtype) for T in lengths]
    form = draw(st.sampled_from(FORMS))
    if form == "one sequence":
        x: Any = rows[0]
    elif form == "batched":
        x = torch.stack([row[: min(lengths)] for row in rows], 0 if options["batch_first"] else 1)
    else:
        x = pack_sequence(rows, enforce_sorted=False)
    return name, options, x, draw(st.booleans()), -1 if form == "one sequence" else len(rows)


@settings(max_examples=150)
@given(configurations())
def test_any_configuration(configuration: tuple[str, dict[str, Any], Any, bool, int]) -> None:
    name, options, x, begun, rows = configuration
    dtype = tensors(x)[0].dtype
    theirs, ours = pair(name, dtype=dtype, **options)
    assert_same(theirs, ours, x, state_of(ours, None if rows < 0 else rows, dtype) if begun else None)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", LAYERS)
def test_dropout_draws_the_same_numbers(name: str, dtype: torch.dtype, batch_first: bool, form: str) -> None:
    theirs, ours = pair(
        name, INPUT, HIDDEN, num_layers=3, bidirectional=True, dropout=0.4, batch_first=batch_first, dtype=dtype
    )
    x = made_input(form, batch_first, dtype)
    torch.manual_seed(1)
    first = tensors(ours(x))[0]
    assert not torch.equal(first, tensors(ours(x))[0])  # or there would be nothing to compare
    assert_same(theirs, ours, x)
    assert_same(theirs.eval(), ours.eval(), x)
    torch.testing.assert_close(tensors(ours(x))[0], tensors(ours(x))[0], rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_everything_dropped(name: str) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, num_layers=2, dropout=1.0)
    assert_same(theirs, ours, torch.randn(STEPS, ROWS, INPUT))


@pytest.mark.parametrize("name", LAYERS)
def test_a_packed_state_is_in_the_callers_order(name: str) -> None:
    _, ours = pair(name, INPUT, HIDDEN, num_layers=2, bidirectional=True, dtype=torch.float64)
    rows = [torch.randn(T, INPUT, dtype=torch.float64) for T in (2, 5, 1, 4)]
    hx = state_of(ours, 4, torch.float64)
    output, *final = tensors(ours(pack_sequence(rows, enforce_sorted=False), hx))
    assert output.shape == (12, 2 * HIDDEN)
    for b, row in enumerate(rows):
        state = hx[:, b] if isinstance(hx, Tensor) else tuple(field[:, b] for field in hx)
        assert_close([field[:, b] for field in final], tensors(ours(row, state))[1:], 1e-12)


@pytest.mark.parametrize("name", LAYERS)
def test_what_comes_back_packed_is_what_pytorch_packs(name: str) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, batch_first=True)
    x = made_input("packed, unsorted", False, torch.float32)
    found, expected = ours(x)[0], theirs(x)[0]
    assert isinstance(found, PackedSequence)
    for a, b in zip(found[1:], expected[1:], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", LAYERS)
def test_a_batch_without_rows(name: str) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, num_layers=2, bidirectional=True)
    x = torch.randn(STEPS, 0, INPUT)
    assert_close(tensors(ours(x)), tensors(theirs(x)), 0)
    assert_close(tensors(ours(x, state_of(ours, 0, x.dtype))), tensors(theirs(x)), 0)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_no_steps_give_no_output_and_the_state_as_it_was(name: str, batch_first: bool) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, num_layers=2, bidirectional=True, batch_first=batch_first)
    x = torch.randn(ROWS, 0, INPUT) if batch_first else torch.randn(0, ROWS, INPUT)
    with pytest.raises(RuntimeError, match="larger than 0"):  # what PyTorch cannot do
        theirs(x)
    hx = state_of(ours, ROWS, x.dtype)
    output, *final = tensors(ours(x, hx))
    assert output.shape == (*x.shape[:2], 2 * HIDDEN)
    assert_close(final, tensors(hx), 0)
    assert not any(field.any() for field in tensors(ours(x))[1:])
    alone = state_of(ours, None, x.dtype)
    output, *final = tensors(ours(torch.randn(0, INPUT), alone))
    assert output.shape == (0, 2 * HIDDEN)
    assert_close(final, tensors(alone), 0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [*LAYERS, *CELLS])
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, dtype=dtype)
    x = torch.randn(*((STEPS,) if name in LAYERS else ()), ROWS, INPUT, dtype=dtype)
    assert_close(tensors(ours(x)), tensors(theirs(x)), 0.03)


@pytest.mark.parametrize("form", ["batched", "packed", "cell"])
@pytest.mark.parametrize("name", LAYERS)
def test_autocast_gives_the_same_types(name: str, form: str) -> None:
    theirs, ours = pair(f"{name}Cell" if form == "cell" else name, INPUT, HIDDEN)
    x = torch.randn(ROWS, INPUT) if form == "cell" else made_input(form, False, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = tensors(ours(x)), tensors(theirs(x))
    assert {v.dtype for v in expected} <= {torch.bfloat16, torch.float32}
    assert_close(found, expected, 0.03)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("rows", [None, 4, 0], ids=["one row", "4 rows", "no rows"])
@pytest.mark.parametrize("name", [*CELLS, "RNNCell, ReLU"])
def test_cells(name: str, rows: int | None, begun: bool, bias: bool, dtype: torch.dtype) -> None:
    options: dict[str, Any] = {"nonlinearity": "relu"} if "ReLU" in name else {}
    theirs, ours = pair(name.partition(",")[0], INPUT, HIDDEN, bias=bias, dtype=dtype, **options)
    shape = () if rows is None else (rows,)
    state = tuple(torch.randn(*shape, HIDDEN, dtype=dtype) for _ in range(2))
    hx = (state if name == "LSTMCell" else state[0]) if begun else None
    assert_same(theirs, ours, torch.randn(*shape, INPUT, dtype=dtype), hx)


@pytest.mark.parametrize("name", LAYERS)
def test_inputs_and_states_that_do_not_lie_in_one_piece(name: str) -> None:
    theirs, ours = pair(name, INPUT, HIDDEN, num_layers=2, dtype=torch.float64)
    x = torch.randn(STEPS, ROWS, 2 * INPUT, dtype=torch.float64)[..., ::2]
    hx = state_of(ours, 2 * ROWS, torch.float64)
    hx = hx[:, ::2] if isinstance(hx, Tensor) else tuple(field[:, ::2] for field in hx)
    assert not x.is_contiguous()
    assert_close(tensors(ours(x, hx)), tensors(theirs(x, hx)), 1e-10)


def test_pytorch_is_compared_with_itself() -> None:
    """The names must not have been replaced before the comparison began."""
    assert pair("LSTM", 2, 3)[0].__class__.__module__ == nn.modules.rnn.__name__
