"""`Stream`: what a layer gives over a sequence, taken step by step as inputs come."""

import os
import threading
from typing import Any

import numpy as np
import pytest
import torch
from comparing import TOLERANCE, VARIANTS, Case, case, drawn_for, pair
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_up import cells
from torch import Tensor, nn

from recurra import GRU, LSTM, RNN, Recurrent, Stream
from recurra.cells import Cell, cell
from recurra.engine import native
from recurra.errors import DataError

DOUBLE, SINGLE = torch.float64, torch.float32


def near(found: Tensor, expected: Tensor, dtype: torch.dtype = DOUBLE) -> None:
    expected = expected.detach().double()
    assert found.shape == expected.shape
    largest = max(expected.abs().max().item(), 1e-2) if expected.numel() else 0.0
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=TOLERANCE[dtype] * largest, equal_nan=True)


def along(stream: Stream, x: Tensor) -> Tensor:
    """The outputs of single steps."""
    return torch.stack([stream.step(x_t) for x_t in x])


def check(one: Cell, at: Case) -> None:
    """Steps one by one, then in blocks, then as arrays of NumPy: as the eager layer in float64, and so is the state."""
    ours, eager = pair(one, at)
    given = drawn_for(ours, at)
    x = given.x.to(at.dtype)
    state = None if given.state is None else eager.state_type(*given.state)
    output, final = eager(x.double(), state)
    stream = Stream(ours, at.B)
    assert stream.backend == "native", stream.reason
    for run in (
        lambda: along(stream, x),
        lambda: torch.cat([stream.block(x[:1]), stream.block(x[1:])]),
        lambda: torch.from_numpy(np.stack([stream.step(x_t.numpy()) for x_t in x])),
        lambda: torch.from_numpy(stream.block(x.numpy())),
    ):
        stream.reset()
        if state is not None:
            stream.state = state
        near(run(), output, at.dtype)
        for ours_now, theirs in zip(stream.state, final, strict=True):
            for a, b in zip(ours_now, theirs, strict=True):
                near(a, b, at.dtype)


CASES = [
    case(T=1, B=1, I=1, H=1),
    case(T=4, B=1, I=17, H=65),
    case(T=30, B=3, I=3, H=7),
    case(T=3, B=30, I=3, H=16),
    case(T=5, B=1, I=3, H=6, num_layers=3),
    case(T=4, B=2, I=5, H=6, num_layers=2, learn_initial_state=True, has_state=False),
    case(T=3, B=1, I=40, H=150, dtype=SINGLE),
    case(T=27, B=5, I=2, H=7, dtype=SINGLE, num_layers=2),
]


@pytest.mark.parametrize("at", CASES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_cell_of_the_catalogue(name: str, at: Case) -> None:
    check(VARIANTS[name], at)


@settings(max_examples=30)
@given(one=cells(), H=st.sampled_from([1, 2, 6, 7, 17]), B=st.sampled_from([1, 3]), layers=st.sampled_from([1, 2]))
def test_cells_that_are_made_up(one: Cell, H: int, B: int, layers: int) -> None:
    check(one, case(T=3, B=B, I=3, H=H, num_layers=layers))


OF_PYTORCH: dict[str, tuple[type, type, dict[str, Any]]] = {
    "LSTM": (LSTM, nn.LSTM, {"num_layers": 2}),
    "LSTM without biases": (LSTM, nn.LSTM, {"bias": False}),
    "projected LSTM": (LSTM, nn.LSTM, {"num_layers": 2, "proj_size": 3}),
    "GRU": (GRU, nn.GRU, {"num_layers": 3, "batch_first": True, "dropout": 0.5}),
    "RNN": (RNN, nn.RNN, {}),
    "RNN with relu": (RNN, nn.RNN, {"nonlinearity": "relu", "num_layers": 2}),
}


@pytest.mark.parametrize("backend", ["native", "eager"])
@pytest.mark.parametrize("which", [0, 1], ids=["ours", "PyTorch's"])
@pytest.mark.parametrize("name", OF_PYTORCH)
def test_a_drop_in_and_pytorchs_own(name: str, which: int, backend: Any) -> None:
    *classes, options = OF_PYTORCH[name]
    torch.manual_seed(0)
    theirs = classes[1](5, 7, **options, dtype=DOUBLE).eval()
    model = classes[which](5, 7, **options, dtype=DOUBLE)  # in training: that a stream is not
    model.load_state_dict(theirs.state_dict())
    x = torch.randn(6, 2, 5, dtype=DOUBLE)
    expected, final = theirs(x.transpose(0, 1) if theirs.batch_first else x)
    stream = Stream(model, 2, backend=backend)
    assert stream.backend == backend
    near(
        torch.cat([along(stream, x[:2]), stream.block(x[2:])]),
        expected.transpose(0, 1) if theirs.batch_first else expected,
    )
    for ours_now, last in zip(stream.state, final if isinstance(final, tuple) else (final,), strict=True):
        near(ours_now, last)
    stream.state = final
    near(stream.state[0], final[0] if isinstance(final, tuple) else final)


def test_a_step_is_the_layers_step() -> None:
    layer = Recurrent("lstm", 3, 5, 2, dtype=DOUBLE)
    stream = Stream(layer)
    _, state = layer.step(torch.ones(3, dtype=DOUBLE))
    stream.step(torch.ones(3, dtype=DOUBLE))
    for x in torch.randn(4, 3, dtype=DOUBLE):
        expected, state = layer.step(x, state)
        near(stream.step(x), expected)
    near(stream.state.h.squeeze(1), state.h)


# --- what is not the core's ------------------------------------------------------------------------------------------


def doubled(x: Tensor, h: Tensor) -> Tensor:
    return torch.tanh(2 * x[..., :4] + h)


def in_one_function(z: Any, s: Any) -> Tensor:
    return torch.special.i0e(z.h)


EAGER: dict[str, tuple[dict[str, Any], str]] = {
    "a plain function": ({"cell": doubled}, "'doubled' is a plain function"),
    "no program": ({"cell": cell(state="h", gates="h")(in_one_function)}, "cannot be written down as a program"),
    "the model's wish": ({"backend": "eager"}, "the model's backend='eager' asks for it"),
    "skip": ({"num_layers": 3, "skip": "highway"}, "skip='highway' is no part of the compiled core"),
    "input_layers": ({"input_layers": [3, 2]}, "input_layers=(3, 2) is no part"),
    "output_layers": ({"output_layers": [3]}, "output_layers=(3,) is no part"),
    "zoneout": ({"zoneout": 0.25}, "zoneout=0.25 is no part"),
    "batch_first": ({"batch_first": True, "num_layers": 2, "hidden_size": [4, 3], "backend": "eager"}, "asks for it"),
    "float16": ({"dtype": torch.float16}, "float32 or float64, not in torch.float16"),
}


@pytest.mark.parametrize("name", EAGER)
def test_what_the_core_cannot_run_is_run_eagerly_and_says_so(name: str) -> None:
    options, reason = EAGER[name]
    torch.manual_seed(0)
    layer = Recurrent(**{"cell": "gru", "input_size": 4, "hidden_size": 4, "dropout": 0.5, "dtype": DOUBLE, **options})
    stream = Stream(layer, 3)
    assert stream.backend == "eager"
    assert reason in stream.reason
    dtype = options.get("dtype", DOUBLE)
    x = torch.randn(6, 3, 4).to(
        stream.dtype if isinstance(layer.cell, Cell) else DOUBLE if name != "a plain function" else SINGLE
    )
    output, _ = layer.eval()(x.transpose(0, 1) if layer.batch_first else x)
    found = torch.cat([along(stream, x[:2]), stream.block(x[2:])])
    expected = output.transpose(0, 1) if layer.batch_first else output
    torch.testing.assert_close(
        found,
        expected.detach(),
        rtol=1e-2 if dtype == torch.float16 else 1e-6,
        atol=1e-6 if dtype != torch.float16 else 1e-2,
    )
    assert not found.requires_grad
    with pytest.raises(ValueError, match="backend: 'native' cannot be"):
        Stream(layer, backend="native")


def test_without_a_core_a_stream_is_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_loaded", lambda: None)
    layer = Recurrent("lstm", 2, 3)
    stream = Stream(layer)
    assert stream.backend == "eager"
    assert "no C++ compiler" in stream.reason
    near(stream.block(torch.ones(4, 2)), layer(torch.ones(4, 2))[0], SINGLE)
    assert Stream(nn.LSTM(2, 3)).backend == "eager"


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["native", "eager"])
def backend(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_what_comes_back_is_of_the_kind_that_was_given(backend: Any) -> None:
    stream = Stream(Recurrent("gru", 3, 4), backend=backend)
    for x, shape in ((torch.ones(3), (4,)), (torch.ones(1, 3), (1, 4)), (nn.Parameter(torch.ones(3)), (4,))):
        y = stream.step(x)
        assert (type(y), y.shape, y.dtype, y.requires_grad) == (Tensor, shape, SINGLE, False)
        y = stream.step(x.detach().numpy())
        assert (type(y), y.shape, y.dtype) == (np.ndarray, shape, np.float32)
    for x, shape in ((np.ones((5, 3)), (5, 4)), (np.ones((5, 1, 3)), (5, 1, 4)), (np.ones((0, 3)), (0, 4))):
        y = stream.block(x)  # of float64: brought to the model's type
        assert (type(y), y.shape, y.dtype) == (np.ndarray, shape, np.float32)
        assert stream.block(torch.from_numpy(x).float()).shape == shape
    rows = Stream(Recurrent("gru", 3, 4), 2, backend=backend)
    assert rows.step(np.ones((2, 3))).shape == (2, 4)
    assert rows.block(torch.ones(5, 2, 3)).shape == (5, 2, 4)


def test_an_output_is_written_where_it_is_wanted(backend: Any) -> None:
    torch.manual_seed(0)
    layer = Recurrent("lstm", 3, 4)
    x = torch.randn(5, 3)
    expected = layer(x)[0].detach()
    stream = Stream(layer, backend=backend)
    found = np.full((5, 4), np.nan, np.float32)
    for x_t, y in zip(x, found, strict=True):
        assert stream.step(x_t.numpy(), y) is y
    near(torch.from_numpy(found), expected, SINGLE)
    stream.reset()
    tensor = torch.full((5, 4), torch.nan)
    assert stream.step(x[0], tensor[0]).data_ptr() == tensor.data_ptr()
    assert stream.block(x[1:], tensor[1:]).data_ptr() == tensor[1].data_ptr()
    near(tensor, expected, SINGLE)


def test_numbers_may_lie_as_they_will(backend: Any) -> None:
    torch.manual_seed(0)
    layer = Recurrent("lstm", 3, 4)
    whole = torch.randn(6, 2, 6)
    x = whole[::2, :, ::2]
    expected = layer(x)[0]
    stream = Stream(layer, 2, backend=backend)
    read_only = x.numpy()
    read_only.flags.writeable = False
    big_endian = x.numpy().astype(">f4")
    for run in (
        lambda: along(stream, x),
        lambda: stream.block(x),
        lambda: torch.from_numpy(stream.block(read_only)),
        lambda: torch.from_numpy(np.stack([stream.step(v) for v in read_only])),
        lambda: torch.from_numpy(np.stack([stream.step(v) for v in x.numpy().astype(np.float64)])),
        lambda: torch.from_numpy(stream.block(np.asfortranarray(x.numpy()))),
    ):
        stream.reset()
        near(run(), expected, SINGLE)
    with pytest.raises(ValueError, match="float32 or float64"):
        stream.block(big_endian)


WRONG: list[tuple[Any, Any, str]] = [
    ([1.0, 2.0, 3.0], None, "x: an array of NumPy or a tensor is expected, not list"),
    (np.ones(4, np.float32), None, r"x: \(2, 3\) is expected, not \(4,\)"),
    (np.ones(3, np.float32), None, r"x: \(2, 3\) is expected, not \(3,\)"),
    (torch.ones(3, 2), None, r"x: \(2, 3\) is expected, not \(3, 2\)"),
    (torch.ones(2, 3, dtype=DOUBLE), None, "x: torch.float32 is expected, as the parameters are, not torch.float64"),
    (torch.ones(2, 3, device="meta"), None, "x: it lies on meta, but the parameters on cpu"),
    (np.ones((2, 3), np.int64), None, "x: an array of float32 or float64 is expected, not of int64"),
    (np.ones((2, 3), complex), None, "not of complex128"),
    (
        np.ones((2, 3), np.float32),
        np.empty((2, 5), np.float32),
        r"out: float32 \(2, 4\) is expected, not float32 \(2, 5\)",
    ),
    (np.ones((2, 3), np.float32), np.empty((2, 4)), r"out: float32 \(2, 4\) is expected, not float64 \(2, 4\)"),
    (np.ones((2, 3), np.float32), torch.empty(2, 4), "out: ndarray is expected, as x is, not Tensor"),
    (torch.ones(2, 3), np.empty((2, 4), np.float32), "out: Tensor is expected, as x is, not ndarray"),
    (np.ones((2, 3), np.float32), np.empty((4, 2), np.float32).T, "out: numbers side by side"),
    (torch.ones(2, 3), torch.empty(4, 2).t(), "out: numbers side by side"),
    (torch.ones(2, 3), torch.empty(2, 4, requires_grad=True), "out: numbers side by side"),
]


@pytest.mark.parametrize(("x", "out", "message"), WRONG)
def test_what_does_not_fit_is_refused_and_the_state_stays(backend: Any, x: Any, out: Any, message: str) -> None:
    stream = Stream(Recurrent("lstm", 3, 4), 2, backend=backend)
    stream.step(torch.ones(2, 3))
    before = stream.to_bytes()
    with pytest.raises(ValueError, match=message):
        stream.step(x, out)
    assert stream.to_bytes() == before


def test_a_block_that_does_not_fit_is_refused(backend: Any) -> None:
    with pytest.raises(ValueError, match=r"x: \(T, 2, 3\) is expected, not \(2, 3\)"):
        Stream(Recurrent("lstm", 3, 4), 2, backend=backend).block(torch.ones(2, 3))
    with pytest.raises(ValueError, match=r"x: \(T, 1, 3\) or \(T, 3\) is expected, not \(3,\)"):
        Stream(Recurrent("lstm", 3, 4), backend=backend).block(torch.ones(3))


def test_models_that_cannot_stream() -> None:
    with pytest.raises(ValueError, match="a bidirectional layer reads the future"):
        Stream(Recurrent("lstm", 3, 4, bidirectional=True))
    with pytest.raises(ValueError, match="reverse=True begins with the last step"):
        Stream(Recurrent("lstm", 3, 4, reverse=True))
    with pytest.raises(ValueError, match="a bidirectional layer reads the future"):
        Stream(LSTM(3, 4, bidirectional=True))
    with pytest.raises(TypeError, match="a Recurrent, an LSTM, GRU or RNN is expected, not Linear"):
        Stream(nn.Linear(3, 4))
    with pytest.raises(ValueError, match="rows: a whole number from 1 on is expected, not 0"):
        Stream(Recurrent("lstm", 3, 4), 0)
    with pytest.raises(ValueError, match="unknown backend 'nativ'; did you mean 'native'"):
        Stream(Recurrent("lstm", 3, 4), backend="nativ")  # type: ignore[arg-type]


# --- state -----------------------------------------------------------------------------------------------------------


def test_parameters_are_copied_until_refreshed(backend: Any) -> None:
    torch.manual_seed(0)
    layer = Recurrent("gru", 3, 4, learn_initial_state=True)
    stream, x = Stream(layer, backend=backend), torch.randn(6, 3)
    first, state = layer(x[:3])
    near(stream.block(x[:3]), first, SINGLE)
    before, _ = layer(x[3:], state)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.25)
    saved = stream.to_bytes()
    near(stream.block(x[3:]), before, SINGLE)
    stream.load_bytes(saved)
    stream.refresh()
    near(stream.block(x[3:]), layer(x[3:], state)[0], SINGLE)
    stream.reset()
    near(stream.block(x), layer(x)[0], SINGLE)


def test_rows_begin_anew_by_themselves(backend: Any) -> None:
    torch.manual_seed(0)
    layer = Recurrent("slstm", 3, 4, 2, learn_initial_state=True)
    stream, x = Stream(layer, 3, backend=backend), torch.randn(4, 3, 3)
    for chosen in ([0, 2], torch.tensor([0, 2]), np.array([True, False, True]), [True, False, True]):
        stream.reset()
        stream.block(x)
        stream.reset(chosen)
        reset = torch.zeros(8, 3, dtype=torch.bool)
        reset[4, [0, 2]] = True
        near(stream.block(x), layer(torch.cat([x, x]), reset=reset)[0][4:], SINGLE)
    before = stream.to_bytes()
    stream.reset([])
    assert stream.to_bytes() == before
    wrongs: list[Any] = [[3], [-1], [0.5], [True], "all", [[0]]]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="rows: whole numbers from 0 to 2, or 3 truth values, are expected"):
            stream.reset(wrong)


def test_a_state_is_checked(backend: Any) -> None:
    stream = Stream(Recurrent("lstm", 3, 4, 2), backend=backend)
    h = torch.ones(2, 4)
    stream.state = (h, list(2 * h))
    assert [v.shape for v in getattr(stream, "state")] == [(2, 1, 4), (2, 1, 4)]  # noqa: B009 the type is another now
    for wrong, message in (
        (h, r"state: 2 field\(s\) are expected \(h, c\), not 1"),
        (3, "not int"),
        ((h, h[:1]), "state.c: 2 layers are expected, not 1"),
        ((h, 1.0), "state.c: 2 layers are expected, not float"),
        ((torch.ones(2, 5), h), r"state.h\[0\]: a tensor \(1, 4\) is expected, not \(5,\)"),
        (([1.0, 2.0], h), r"state.h\[0\]: a tensor \(1, 4\) is expected, not float"),
    ):
        with pytest.raises(ValueError, match=message):
            stream.state = wrong


def test_layers_of_several_widths_have_lists(backend: Any) -> None:
    layer = Recurrent("lstm_projected", 3, [4, 6], 2, dtype=DOUBLE)
    stream, x = Stream(layer, 2, backend=backend), torch.randn(3, 2, 3, dtype=DOUBLE)
    output, final = layer(x)
    near(stream.block(x), output)
    state = stream.state
    assert [v.shape for v in state.c] == [(2, 4), (2, 6)]
    for ours_now, theirs in zip(state.c, final.c, strict=True):
        near(ours_now, theirs)
    stream.reset()
    stream.state = state
    near(stream.block(x), layer(x, final)[0])


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [SINGLE, DOUBLE, torch.float16], ids=str)
def test_a_state_comes_back_from_bytes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Recurrent("slstm", 3, 4, 2, dtype=dtype)
    stream, x = Stream(layer, 2), torch.randn(8, 2, 3).to(dtype)
    stream.block(x[:5])
    saved = stream.to_bytes()
    assert isinstance(saved, bytes)
    expected = stream.block(x[5:])
    other = Stream.from_bytes(layer, saved, rows=2)
    assert other.block(x[5:]).equal(expected)
    stream.load_bytes(bytearray(saved))
    assert stream.block(x[5:]).equal(expected)


SAVED = Stream(Recurrent("lstm", 1, 2))
BYTES = SAVED.to_bytes()


def test_any_cut_or_changed_byte_is_found() -> None:
    for k in range(len(BYTES)):
        with pytest.raises(DataError, match="state of a stream: "):
            SAVED.load_bytes(BYTES[:k])
        changed = bytearray(BYTES)
        changed[k] ^= 1
        with pytest.raises(DataError, match="state of a stream: "):
            SAVED.load_bytes(changed)
    with pytest.raises(DataError, match="damaged or cut off"):
        SAVED.load_bytes(BYTES + b"\0")


@given(st.binary())
@example(BYTES[:14] + b"\1\0\xff\xff\xff\xff")
def test_any_bytes_are_refused_in_words(data: bytes) -> None:
    for given_bytes in (data, BYTES[:14] + data, BYTES[:20] + data):
        with pytest.raises(DataError, match="state of a stream: "):
            SAVED.load_bytes(given_bytes)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Stream(Recurrent("lstm_coupled", 1, 2)), r"cell lstm_coupled\(\) stands in it, but the stream has lstm"),
        (Stream(Recurrent("lstm", 1, 3)), r"widths \[\[3, 3\]\] stands in it, but the stream has \[\[2, 2\]\]"),
        (Stream(Recurrent("lstm", 1, 2, 2)), r"widths \[\[2, 2\], \[2, 2\]\] stands in it"),
        (Stream(Recurrent("lstm", 1, 2), 4), "rows 4 stands in it, but the stream has 1"),
        (Stream(Recurrent("lstm", 1, 2, dtype=DOUBLE)), "type float64 stands in it, but the stream has float32"),
    ],
)
def test_bytes_of_another_stream_are_refused(other: Stream, message: str) -> None:
    with pytest.raises(DataError, match=message):
        SAVED.load_bytes(other.to_bytes())
    with pytest.raises(DataError, match="bytes are expected, not str"):
        SAVED.load_bytes("state")  # type: ignore[arg-type]


def test_the_input_may_be_wider_in_another_stream_of_the_state() -> None:
    """It is the state that has to fit."""
    Stream(Recurrent("lstm", 5, 2)).load_bytes(BYTES)


# --- threads ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["lstm", "gru_reset_after"])
def test_large_steps_are_shared_with_a_thread(name: str) -> None:
    torch.manual_seed(0)
    layer = Recurrent(name, 300, 330, dtype=DOUBLE)
    x = torch.randn(200, 300, dtype=DOUBLE)
    stream = Stream(layer)
    expected = layer(x)[0]
    near(along(stream, x), expected)
    stream.reset()
    near(stream.block(x), expected)


@pytest.mark.usefixtures("two_threads")
def test_a_forked_process_goes_on_by_itself() -> None:
    torch.manual_seed(0)
    layer = Recurrent("lstm", 300, 330, dtype=DOUBLE)
    x = torch.randn(100, 300, dtype=DOUBLE)
    stream = Stream(layer)
    expected = layer(x)[0].detach().numpy()
    found = [stream.step(v) for v in x[:50].numpy()]
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        rest = np.stack([stream.step(v) for v in x[50:].numpy()])
        del stream
        os.write(writing, b"y" if np.allclose(rest, expected[50:], rtol=0, atol=1e-12) else b"n")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert os.read(reading, 1) == b"y"
    found += [stream.step(v) for v in x[50:].numpy()]
    np.testing.assert_allclose(np.stack(found), expected, rtol=0, atol=1e-12)


def test_threads_of_python_have_a_stream_each_or_are_told() -> None:
    torch.manual_seed(0)
    layer = Recurrent("lstm", 64, 64)
    x = torch.randn(3000, 64)
    expected = Stream(layer).block(x)
    shared, told, right = Stream(layer), [], []

    def alone() -> None:
        right.append(Stream(layer).block(x).equal(expected))

    def together() -> None:
        try:
            for _ in range(5):
                shared.block(x)
                shared.reset()
        except RuntimeError as error:
            told.append(str(error))

    for target in (alone, together):
        threads = [threading.Thread(target=target) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert right == [True] * 4
    assert all("another thread is at one" in text for text in told)
    assert len(told) > 0


def test_a_stream_says_what_it_is() -> None:
    text = repr(Stream(Recurrent("gru", 3, 4, 2), 5))
    assert text == "Stream(gru(), input_size=3, output_size=4, layers=2, rows=5, backend='native')"
