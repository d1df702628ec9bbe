"""Layers of PyTorch become layers of ours and go back, seen by what they put out."""

from typing import Any

import pytest
import torch
from torch import nn

import recurra
from recurra import cells
from recurra.errors import DataError, RecipeError
from recurra.nn import Recurrent
from recurra.nn.weights import from_torch, to_torch

torch.set_num_threads(1)

CLASSES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lstm": (nn.LSTM, {}, "lstm"),
    "projected lstm": (nn.LSTM, {"proj_size": 3}, "lstm_projected"),
    "gru": (nn.GRU, {}, "gru_reset_after"),
    "rnn": (nn.RNN, {}, "elman"),
    "rnn with relu": (nn.RNN, {"nonlinearity": "relu"}, "elman"),
}


def fields(state: Any) -> list[torch.Tensor]:
    return [state] if isinstance(state, torch.Tensor) else list(state)


def draw(module: nn.Module) -> None:
    """Random unequal parameters, so that no gate can stand for another."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(0.0, 0.5)


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_there_and_back(name: str, num_layers: int, bidirectional: bool, bias: bool, batch_first: bool) -> None:
    kind, options, cell = CLASSES[name]
    module = kind(
        *(4, 5, num_layers),
        bias=bias,
        batch_first=batch_first,
        bidirectional=bidirectional,
        dtype=torch.double,
        **options,
    )
    draw(module)
    x = torch.randn(3, 6, 4, dtype=torch.double)
    expected, final = module(x)
    begun = [torch.randn_like(field) for field in fields(final)]
    state = begun[0] if len(begun) == 1 else tuple(begun)
    expected, final = module(x, state)

    layer = from_torch(module)
    assert layer.form.name == cell
    again = to_torch(layer)
    assert type(again) is kind
    for one in (layer, again):
        output, found = one(x, state)
        torch.testing.assert_close(output, expected, rtol=1e-12, atol=1e-12)
        for field, value in zip(fields(found), fields(final), strict=True):
            torch.testing.assert_close(field, value, rtol=1e-12, atol=1e-12)
    from_dict = from_torch(
        {f"encoder.rnn.{key}": value for key, value in module.state_dict().items()} | {"head.weight": torch.ones(2, 2)},
        nonlinearity=options.get("nonlinearity", "tanh"),
        batch_first=batch_first,
    )
    assert torch.equal(from_dict(x, state)[0], layer(x, state)[0])


def test_weights_are_copied_and_the_rest_is_kept() -> None:
    module = nn.GRU(4, 5, 2, dropout=0.25, batch_first=True, dtype=torch.double).eval()
    layer = from_torch(module)
    assert (layer.dropout, layer.batch_first, layer.training) == (0.25, True, False)
    again = to_torch(layer)
    assert (again.dropout, again.batch_first, again.training) == (0.25, True, False)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    for value in layer.parameters():
        value.data.zero_()
    for given, returned in zip(module.state_dict().values(), again.state_dict().values(), strict=True):
        assert given.any()
        assert torch.equal(given, returned)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_public_names() -> None:
    assert recurra.from_torch is from_torch
    assert recurra.to_torch is to_torch


def test_a_drop_in_is_read_as_what_it_stands_for() -> None:
    module, x = recurra.LSTM(3, 4), torch.randn(5, 2, 3)
    torch.testing.assert_close(from_torch(module)(x)[0], module(x)[0])


def test_a_named_layer_of_a_state_dict() -> None:
    model = nn.ModuleDict({"a": nn.LSTM(3, 4), "b": nn.GRU(3, 4)})
    state = model.state_dict()
    assert torch.equal(from_torch(state, "b").get_parameter("weight_hh_l0"), state["b.weight_hh_l0"])
    with pytest.raises(DataError, match=r"2 recurrent layers \(a, b\); name one"):
        from_torch(state)
    with pytest.raises(DataError, match="unknown recurrent layer 'bb'; did you mean 'b'"):
        from_torch(state, "bb")


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        (lambda s: {}, DataError, "weight_hh_l0 is expected; it has none"),
        (lambda s: s | {"weight_hh_l0": torch.ones(10, 4)}, DataError, "for a hidden size of 4, 4, 12 or 16 rows"),
        (lambda s: s | {"weight_hh_l0": torch.ones(16)}, DataError, "weight_hh_l0: a matrix is expected, found .16,."),
        (lambda s: s | {"weight_ih_l0": torch.ones(15, 3)}, DataError, r"weight_ih_l0: \(16, 3\) is expected, found"),
        (
            lambda s: {k: v for k, v in s.items() if k != "bias_hh_l0"},
            DataError,
            r"bias_hh_l0: \(16,\) is expected, found none",
        ),
        (
            lambda s: s | {"bias_hx_l0": torch.ones(16)},
            DataError,
            "parameter of torch.nn.LSTM 'bias_hx_l0'; did you mean",
        ),
        (
            lambda s: s | {"weight_hr_l0": torch.ones(4, 3)},
            DataError,
            "for a hidden size of 3, 12 rows with a projection",
        ),
        (lambda s: s | {"bias_hh_l0": 3.0}, DataError, "bias_hh_l0: a tensor is expected, not float"),
        (lambda s: nn.Linear(2, 3), RecipeError, "or a state dict, is expected, not Linear"),
        (lambda s: 3, RecipeError, "not int"),
    ],
)
def test_what_cannot_be_read(change: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        from_torch(change(dict(nn.LSTM(3, 4).state_dict())))


def test_an_unknown_nonlinearity() -> None:
    with pytest.raises(RecipeError, match="unknown nonlinearity 'rleu'; did you mean 'relu'"):
        from_torch(nn.RNN(3, 4).state_dict(), nonlinearity="rleu")


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Recurrent("gru", 3, 4), "the nearest is torch.nn.GRU, which is 'gru_reset_after'"),
        (Recurrent("lstm_peephole", 3, 4), "the nearest is torch.nn.LSTM, which is 'lstm'"),
        (Recurrent("indrnn", 3, 4), "the nearest is torch.nn.RNN, which is 'elman'"),
        (Recurrent("mgu", 3, 4), "the nearest is torch.nn.GRU, which is 'gru_reset_after'"),
        (Recurrent(nn.GRUCell(3, 4), 3, 4), "the nearest is torch.nn.GRU"),
        (Recurrent(cells.elman(activation="sigmoid"), 3, 4), "activation=sigmoid: torch.nn.RNN has tanh and relu only"),
        (Recurrent("lstm", 3, 4, zoneout=0.1), "zoneout=0.1: torch.nn.LSTM does not have it"),
        (Recurrent("lstm", 3, 4, 2, skip="residual"), "skip='residual': torch.nn.LSTM does not have it"),
        (Recurrent("lstm", 3, 4, reverse=True), "reverse=True"),
        (Recurrent("lstm", 3, 4, output_layers=[2]), "output_layers="),
        (Recurrent("lstm", 3, [4, 5], 2), r"hidden_size=\[4, 5\]: torch.nn.LSTM has layers of one size only"),
        (Recurrent("lstm_projected", 3, 4), "proj_size=4: torch.nn.LSTM projects to fewer values than hidden_size, 4"),
    ],
)
def test_what_has_no_twin(layer: Recurrent, text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        to_torch(layer)


def test_irnn_is_an_rnn_with_relu() -> None:
    layer, x = Recurrent("irnn", 3, 4), torch.randn(5, 2, 3)
    torch.testing.assert_close(to_torch(layer)(x)[0], layer(x)[0])
