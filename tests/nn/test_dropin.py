"""The drop-ins are PyTorch's classes in all but what runs: arguments, parameters, errors, copies, whole programs."""

import copy
import inspect
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dropin_pairs import (
    CELLS,
    LAYERS,
    OURS,
    THEIRS,
    assert_close,
    assert_same,
    pair,
    results_and_gradients,
    state_of,
    tensors,
)
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence

import recurra

EVERY = (*LAYERS, *CELLS)
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in EVERY),
    *((name, {"bias": False, "dtype": torch.float64}) for name in EVERY),
    *((name, {"num_layers": 3, "bidirectional": True, "batch_first": True, "dropout": 0.25}) for name in LAYERS),
    ("RNN", {"nonlinearity": "relu"}),
    ("RNNCell", {"nonlinearity": "relu"}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
]


def input_of(module: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*((6,) if isinstance(module, nn.RNNBase) else ()), 4, module.input_size, dtype=dtype)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(7)


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's recurrent kernels are gone."""

    class Gone:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"PyTorch's kernel {name} was called")

    monkeypatch.setattr("torch.nn.modules.rnn._VF", Gone())


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_made_alike(name: str, options: dict[str, Any]) -> None:
    theirs, ours = pair(name, 3, 4, **options)
    assert isinstance(ours, THEIRS[name])
    assert repr(ours) == repr(theirs)
    assert inspect.signature(type(ours)) == inspect.signature(type(theirs))
    assert list(inspect.signature(ours.forward).parameters) == list(inspect.signature(theirs.forward).parameters)
    a, b = ours.state_dict(), theirs.state_dict()
    assert list(a) == list(b)
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    for key in a:
        torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)
    extra = {"_flat_weights"} if name in LAYERS else set()  # the one thing of PyTorch's that the twins do without
    assert vars(theirs).keys() - vars(ours).keys() == extra
    assert vars(ours).keys() <= vars(theirs).keys()


@pytest.mark.parametrize("name", EVERY)
def test_the_same_values_after_beginning_anew(name: str) -> None:
    theirs, ours = pair(name, 3, 4)
    for module in (theirs, ours):
        torch.manual_seed(3)
        module.reset_parameters()  # type: ignore[operator]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("name", EVERY)
def test_weights_load_both_ways(name: str) -> None:
    theirs, ours = pair(name, 3, 4)
    x = input_of(ours)
    for source, target in ((THEIRS[name](3, 4), ours), (OURS[name](3, 4), theirs)):
        assert target.load_state_dict(source.state_dict()).missing_keys == []
        assert_close(tensors(target(x)), tensors(source(x)), 1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_all_weights_and_flattening(name: str) -> None:
    theirs, ours = pair(name, 3, 4, num_layers=2, bidirectional=True)
    assert isinstance(ours, nn.RNNBase)
    assert isinstance(theirs, nn.RNNBase)
    ours.flatten_parameters()
    assert [[p.shape for p in row] for row in ours.all_weights] == [
        [p.shape for p in row] for row in theirs.all_weights
    ]
    assert ours.all_weights[3][1] is ours.weight_hh_l1_reverse
    assert [id(p) for p in ours._flat_weights] == [id(p) for p in ours.parameters()]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_copies(name: str, options: dict[str, Any]) -> None:
    _, ours = pair(name, 3, 4, **options)
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    x = input_of(ours, next(ours.parameters()).dtype)
    ours.eval()
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False).eval()):
        assert type(other) is type(ours)
        assert next(other.parameters()) is not next(ours.parameters())
        assert_close(tensors(other(x)), tensors(ours(x)), 0)
        with torch.no_grad():
            next(other.parameters()).fill_(0.5)
        assert not torch.equal(tensors(other(x))[0], tensors(ours(x))[0])


@pytest.mark.parametrize("name", EVERY)
def test_other_types_and_devices(name: str) -> None:
    theirs, ours = pair(name, 3, 4)
    x = input_of(ours, torch.float64)
    assert_same(theirs.double(), ours.double(), x)
    empty = OURS[name](3, 4, device="meta")
    assert tensors(empty(x.float().to("meta")))[0].is_meta
    moved = empty.to_empty(device="cpu").double()
    moved.load_state_dict(ours.state_dict())
    assert_close(tensors(moved(x)), tensors(ours(x)), 0)


BAD_ARGUMENTS: list[tuple[tuple[str, ...], tuple[Any, ...], dict[str, Any]]] = [
    (LAYERS, (0, 4), {}),
    (LAYERS, (3, 0), {}),
    (LAYERS, (3.0, 4), {}),
    (LAYERS, (3, "4"), {}),
    (LAYERS, (3, 4, 0), {}),
    (LAYERS, (3, 4), {"dropout": 1.5}),
    (LAYERS, (3, 4), {"dropout": "much"}),
    (LAYERS, (3, 4), {"dropout": True}),
    (LAYERS, (3, 4), {"bias": 1}),
    (LAYERS, (3, 4), {"batch_first": 1}),
    (LAYERS, (3, 4), {"proj_size": 4}),
    (LAYERS, (3, 4), {"proj_size": -1}),
    (("RNN",), (3, 4), {"nonlinearity": "sin"}),
    (EVERY, (3, 4), {"hiden": 2}),
    (EVERY, (3,), {}),
]


def told(call: Callable[..., Any], *args: Any, **options: Any) -> tuple[type[BaseException], str]:
    """The error that a call raises."""
    with pytest.raises((ValueError, TypeError, RuntimeError, IndexError, AttributeError)) as caught:
        call(*args, **options)
    return caught.type, str(caught.value)


@pytest.mark.parametrize(("names", "arguments", "options"), BAD_ARGUMENTS, ids=str)
def test_arguments_that_cannot_be(names: tuple[str, ...], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    for name in names:
        assert told(OURS[name], *arguments, **options) == told(THEIRS[name], *arguments, **options)


def test_dropout_of_one_layer_is_warned_of() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        recurra.GRU(3, 4, dropout=0.5)


def zeros(name: str, *shape: int, **options: Any) -> Any:
    field = torch.zeros(*shape, **options)
    return (field, field.clone()) if "LSTM" in name else field


BAD_CALLS: dict[str, Callable[[Any, str, Tensor], Any]] = {
    "one dimension": lambda m, n, x: m(x[0, 0]),
    "four dimensions": lambda m, n, x: m(x[None]),
    "no tensor": lambda m, n, x: m([1.0]),
    "another width": lambda m, n, x: m(x[..., :2]),
    "another type": lambda m, n, x: m(x.double()),
    "whole numbers": lambda m, n, x: m(x.long()),
    "a state without rows": lambda m, n, x: m(x, zeros(n, 2, 4)),
    "a state with rows for one sequence": lambda m, n, x: m(x[:, 0], zeros(n, 2, 1, 4)),
    "a state of other rows": lambda m, n, x: m(x, zeros(n, 2, 3, 4)),
    "a state of one layer": lambda m, n, x: m(x, zeros(n, 1, 2, 4)),
    "a state of another width": lambda m, n, x: m(x, zeros(n, 2, 2, 5)),
    "one sequence's state of one layer": lambda m, n, x: m(x[:, 0], zeros(n, 1, 4)),
    "a state elsewhere": lambda m, n, x: m(x, zeros(n, 2, 2, 4, device="meta")),
    "three fields": lambda m, n, x: m(x, (torch.zeros(2, 2, 4),) * 3),
    "a state of the other kind": lambda m, n, x: m(x, torch.zeros(2, 2, 4) if "LSTM" in n else (torch.zeros(2, 2, 4),)),
}


@pytest.mark.parametrize("call", BAD_CALLS)
@pytest.mark.parametrize("name", LAYERS)
def test_calls_that_cannot_be(name: str, call: str) -> None:
    theirs, ours = pair(name, 3, 4, num_layers=2)
    x = torch.randn(5, 2, 3)
    expected = told(BAD_CALLS[call], theirs, name, x)
    assert told(BAD_CALLS[call], ours, name, x) == expected


BAD_PACKED: dict[str, Callable[[Any, str, Any], Any]] = {
    "another width": lambda m, n, x: m(PackedSequence(x.data[:, :2], x.batch_sizes)),
    "another type": lambda m, n, x: m(PackedSequence(x.data.double(), x.batch_sizes)),
    "a state of other rows": lambda m, n, x: m(x, zeros(n, 2, 3, 4)),
    "a state of one layer": lambda m, n, x: m(x, zeros(n, 1, 2, 4)),
    "a state of another width": lambda m, n, x: m(x, zeros(n, 2, 2, 5)),
}


@pytest.mark.parametrize("call", BAD_PACKED)
def test_calls_with_packed_sequences_that_cannot_be(call: str) -> None:
    x = pack_sequence([torch.randn(5, 3), torch.randn(2, 3)])
    for name in ("RNN", "GRU"):
        theirs, ours = pair(name, 3, 4, num_layers=2)
        assert told(BAD_PACKED[call], ours, name, x) == told(BAD_PACKED[call], theirs, name, x)
    # PyTorch's LSTM leaves these to its kernels, which tell of matrices; ours are checked as in its other layers.
    kind, text = told(BAD_PACKED[call], recurra.LSTM(3, 4, 2), "LSTM", x)
    assert kind in (ValueError, RuntimeError)
    assert "does not match weight dtype" in text or "Expected hidden[0] size" in text or "input_size" in text


BAD_STEPS: dict[str, Callable[[Any, str, Tensor], Any]] = {
    "three dimensions": lambda m, n, x: m(x[None]),
    "a state of three": lambda m, n, x: m(x, zeros(n, 1, 2, 4)),
    "other rows": lambda m, n, x: m(x, zeros(n, 3, 4)),
    "one row for several": lambda m, n, x: m(x, zeros(n, 1, 4)),
    "another width": lambda m, n, x: m(x, zeros(n, 2, 5)),
    "another width of the input": lambda m, n, x: m(x[:, :2]),
    "a state without rows": lambda m, n, x: m(x, zeros(n, 4)),
    "a row for none": lambda m, n, x: m(x[0], zeros(n, 1, 4)),
    "another type": lambda m, n, x: m(x.double()),
    "a state of another type": lambda m, n, x: m(x, zeros(n, 2, 4, dtype=torch.float64)),
}


@pytest.mark.parametrize("call", BAD_STEPS)
@pytest.mark.parametrize("name", CELLS)
def test_steps_that_cannot_be(name: str, call: str) -> None:
    theirs, ours = pair(name, 3, 4)
    x = torch.randn(2, 3)
    assert told(BAD_STEPS[call], ours, name, x) == told(BAD_STEPS[call], theirs, name, x)


def test_fields_of_an_lstm_cell_that_do_not_fit() -> None:
    theirs, ours = pair("LSTMCell", 3, 4)
    x, h = torch.randn(2, 3), torch.zeros(2, 4)
    for hx in ((h,), (h, h, h), (h, torch.zeros(2, 5)), (h, torch.zeros(3, 4)), h):
        assert told(ours, x, hx) == told(theirs, x, hx)


def test_an_activation_that_is_set_later_and_unknown() -> None:
    theirs, ours = pair("RNNCell", 3, 4)
    for cell in (theirs, ours):
        cell.nonlinearity = "sin"  # type: ignore[assignment]
    assert told(ours, torch.zeros(2, 3)) == told(theirs, torch.zeros(2, 3))


@pytest.mark.usefixtures("no_kernels")
@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_pytorch_runs_none_of_it(name: str, options: dict[str, Any]) -> None:
    ours = OURS[name](3, 4, **options)
    x = input_of(ours, next(ours.parameters()).dtype)
    results_and_gradients(ours, x)
    results_and_gradients(ours, x[0])
    if name in LAYERS:
        results_and_gradients(ours, pack_padded_sequence(x, torch.tensor([1] * x.shape[1]), enforce_sorted=False))
    with pytest.raises(AssertionError, match="kernel"):
        THEIRS[name](3, 4)(input_of(ours))


def weight(name: str) -> str:
    return "weight_hh_l0" if name in LAYERS else "weight_ih"  # a cell's first step does not tell what U is


@pytest.mark.parametrize("name", EVERY)
def test_parameters_that_are_replaced(name: str) -> None:
    theirs, ours = pair(name, 3, 4, dtype=torch.float64)
    x = input_of(ours, torch.float64)
    before = tensors(ours(x))
    for module in (theirs, ours):
        value = torch.full_like(module.get_parameter(weight(name)), 0.3)
        setattr(module, weight(name), nn.Parameter(value))
    assert not torch.equal(tensors(ours(x))[0], before[0])
    assert_same(theirs, ours, x)


@pytest.mark.parametrize("name", EVERY)
def test_other_parameters_for_one_call(name: str) -> None:
    theirs, ours = pair(name, 3, 4)
    x = input_of(ours, torch.float64)
    others = {key: torch.randn_like(p, dtype=torch.float64) for key, p in ours.named_parameters()}
    found, expected = (tensors(torch.func.functional_call(module, others, (x,))) for module in (ours, theirs))
    assert_close(found, expected, 1e-10)
    x = x.float()
    assert_close(tensors(ours(x)), tensors(theirs(x)), 1e-5)  # and then the old ones again


@pytest.mark.parametrize("name", EVERY)
def test_a_weight_that_is_computed(name: str) -> None:
    """DropConnect as programs have it: the parameter goes under another name, its place takes a tensor."""
    theirs, ours = pair(name, 3, 4, dtype=torch.float64)
    x = input_of(ours, torch.float64)
    gradients = []
    for module in (theirs, ours):
        raw = module._parameters.pop(weight(name))
        assert raw is not None
        module.register_parameter("raw", raw)
        for scale in (0.5, 2.0):  # the second call must not see what the first one saw
            setattr(module, weight(name), raw * scale)
            output = tensors(module(x))[0]
        gradients.append([output, *torch.autograd.grad(output.square().sum(), raw)])
    assert_close(gradients[1], gradients[0], 1e-10)


PARAMETRISATIONS: dict[str, Callable[..., nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("how", PARAMETRISATIONS)
@pytest.mark.parametrize("name", EVERY)
def test_parametrisations(name: str, how: str) -> None:
    results = []
    for module in pair(name, 3, 4, dtype=torch.float64):
        x = input_of(module, torch.float64).fill_(0.5)
        plain = tensors(module(x))[0]
        torch.manual_seed(2)
        PARAMETRISATIONS[how](module, weight(name)).eval()  # in training each look at a spectral norm improves it
        results.append(results_and_gradients(module, x))
        assert not torch.equal(results[-1][0][0], plain) or how == "weight_norm"  # which begins at the same weight
    for theirs, ours in zip(*results, strict=True):
        assert_close(ours, theirs, 1e-10)


class Tagger(nn.Module):
    """A program's model, as written for PyTorch's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = torch.nn.LSTM(4, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.again = torch.nn.GRU(12, 5, batch_first=True)
        self.last = torch.nn.RNNCell(5, 5)
        self.score = nn.Linear(5, 3)

    def forward(self, x: Tensor, lengths: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        encoded, (h, _) = self.encode(packed)
        padded, _ = pad_packed_sequence(encoded, batch_first=True, total_length=x.shape[1])
        output, carried = self.again(padded, carried)
        assert carried is not None
        return self.score(self.last(output[:, -1], carried[0]) + h[-1, :, :5]), carried.detach()


def program() -> tuple[list[float], dict[str, Tensor], nn.Module]:
    """Train on segments with the state carried along; subclasses and containers as programs have them."""

    class Residual(torch.nn.GRU):
        def forward(self, input: Any, hx: Any = None) -> Any:
            output, hx = super().forward(input, hx)
            return output + input, hx

    class First(nn.Module):
        def forward(self, pair: tuple[Tensor, Any]) -> Tensor:
            return pair[0]

    torch.manual_seed(0)
    model = Tagger().double()
    front = nn.Sequential(torch.nn.LSTM(4, 4, batch_first=True), First(), Residual(4, 4, batch_first=True)).double()
    assert sum(isinstance(m, (torch.nn.LSTM, torch.nn.GRU)) for m in [*model.modules(), *front.modules()]) == 4
    optimiser = torch.optim.Adam([*model.parameters(), *front.parameters()], lr=0.01)
    x, y = torch.randn(5, 24, 4).double(), torch.tensor([0, 1, 2, 1, 0])
    losses, carried = [], None
    for k in range(8):
        segment = front(x[:, 3 * k : 3 * k + 3])[0]
        scores, carried = model(segment, torch.tensor([3, 1, 2, 3, 1]), carried)
        loss = nn.functional.cross_entropy(scores, y)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        losses.append(loss.item())
    return losses, model.state_dict(), model


def test_a_program_with_pytorchs_names_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, weights, _ = program()
    assert min(expected[4:]) < min(expected[:4])  # it learns something, so that there is something to compare
    for name in EVERY:
        monkeypatch.setattr(torch.nn, name, getattr(recurra, name))
    found, ours, model = program()
    assert type(model.get_submodule("encode")) is recurra.LSTM
    assert torch.tensor(found) == pytest.approx(torch.tensor(expected), rel=1e-9)
    assert list(ours) == list(weights)
    for key, value in ours.items():
        torch.testing.assert_close(value, weights[key], rtol=1e-7, atol=1e-9)
    assert model.load_state_dict(weights).unexpected_keys == []


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning")  # PyTorch's own
@pytest.mark.parametrize("name", EVERY)
def test_torchscript(name: str) -> None:
    ours = OURS[name](3, 4)
    x = input_of(ours)
    for module in (ours, nn.Sequential(ours)):
        with pytest.raises(RuntimeError, match=rf"torch\.jit\.script: {name} .*torch\.compile.*state_dict"):
            torch.jit.script(module)
    traced: Any = torch.jit.trace(ours, x)
    assert_close(tensors(traced(2 * x)), tensors(ours(2 * x)), 1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_what_a_program_sets_is_obeyed(name: str) -> None:
    theirs, ours = pair(name, 3, 4, num_layers=2)
    for module in (theirs, ours):
        module.dropout, module.batch_first = 0.5, True  # type: ignore[assignment]
    x = torch.randn(2, 5, 3)
    assert_same(theirs, ours, x, state_of(ours, 2, x.dtype))
