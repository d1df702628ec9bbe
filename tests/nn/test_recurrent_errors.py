"""What `Recurrent` says to arguments and inputs that cannot be."""

import re
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn

from recurra.cells import CATALOGUE, cell
from recurra.errors import CellError
from recurra.math import maximum, tanh
from recurra.nn import Recurrent


@cell(state="h", inputs="g")
def without_u(z, s):
    return s.h + z.g


@cell(state="h m", gates="h", start={"m": float("-inf")})
def endless(z, s):
    return tanh(z.h), maximum(s.m, z.h)


def told(text: str) -> str:
    return "^" + re.escape(text) + "$"


WRONG_ARGUMENTS: dict[str, tuple[dict[str, Any], str]] = {
    "hidden 0": ({"hidden_size": 0}, "hidden_size: a whole number above 0 is expected, not 0"),
    "hidden -1": ({"hidden_size": -1}, "hidden_size: a whole number above 0 is expected, not -1"),
    "hidden 2.5": ({"hidden_size": 2.5}, "hidden_size: a whole number above 0 is expected, not 2.5"),
    "hidden True": ({"hidden_size": True}, "hidden_size: a whole number above 0 is expected, not True"),
    "hidden text": ({"hidden_size": "12"}, "hidden_size: a whole number above 0 is expected, not '12'"),
    "hidden None": ({"hidden_size": None}, "hidden_size: a whole number above 0 is expected, not None"),
    "one of two": (
        {"hidden_size": [4], "num_layers": 2},
        "hidden_size: one number, or one for each of 2 layers is expected, not [4]",
    ),
    "0 among": ({"hidden_size": [4, 0], "num_layers": 2}, "hidden_size: a whole number above 0 is expected, not 0"),
    "input 0": ({"input_size": 0}, "input_size: a whole number above 0 is expected, not 0"),
    "input 3.0": ({"input_size": 3.0}, "input_size: a whole number above 0 is expected, not 3.0"),
    "layers 0": ({"num_layers": 0}, "num_layers: a whole number above 0 is expected, not 0"),
    "layers True": ({"num_layers": True}, "num_layers: a whole number above 0 is expected, not True"),
    "dropout 1.5": ({"dropout": 1.5}, "dropout: a share from 0 to 1 is expected, not 1.5"),
    "dropout nan": ({"dropout": float("nan")}, "dropout: a share from 0 to 1 is expected, not nan"),
    "dropout True": ({"dropout": True}, "dropout: a share from 0 to 1 is expected, not True"),
    "input dropout": ({"input_dropout": -0.1}, "input_dropout: a share from 0 to 1 is expected, not -0.1"),
    "recurrent dropout": ({"recurrent_dropout": "a"}, "recurrent_dropout: a share from 0 to 1 is expected, not 'a'"),
    "weight drop": ({"weight_drop": 2}, "weight_drop: a share from 0 to 1 is expected, not 2"),
    "zoneout": ({"zoneout": None}, "zoneout: a share from 0 to 1 is expected, not None"),
    "zoneout from infinity": (
        {"cell": endless, "zoneout": 0.1},
        "zoneout: 'm' starts at infinity, where it would stay, so zoneout is 0",
    ),
    "skip": ({"skip": "residal"}, "unknown skip 'residal'; did you mean 'residual'? Known: highway, residual"),
    "both directions and backward": (
        {"bidirectional": True, "reverse": True},
        "reverse: True cannot stand beside bidirectional=True, which runs both directions",
    ),
    **{
        f"{name} by name": ({name: "no"}, f"{name}: True or False is expected, not 'no'")
        for name in ("bidirectional", "reverse", "batch_first", "learn_initial_state")
    },
    "dtype by name": (
        {"dtype": "float32"},
        "dtype: a floating-point type such as torch.float32 is expected, not 'float32'",
    ),
    "whole dtype": (
        {"dtype": torch.int64},
        "dtype: a floating-point type such as torch.float32 is expected, not torch.int64",
    ),
    "a layer as a cell": (
        {"cell": nn.LSTM(3, 4)},
        "cell: what takes one step is expected, such as 'lstm'; LSTM runs whole sequences itself",
    ),
    "input layers": ({"input_layers": 5}, "input_layers: a list of widths is expected, such as [64, 32], not 5"),
    "output layers": ({"output_layers": [3, 0]}, "output_layers: a whole number above 0 is expected, not 0"),
    "path activation": (
        {"path_activation": "tanhh"},
        "path_activation: unknown function 'tanhh'; did you mean 'tanh'? Known: cube, identity, logistic, relu, "
        "sigmoid, sin, softplus, tanh",
    ),
    "init": ({"init": 3}, "init: a mapping such as {'U': 'identity', 'b_f': 2.0} is expected, not 3"),
    "init of a function": (
        {"cell": nn.RNNCell(3, 4), "init": "uniform"},
        "init: the parameters of a plain function are its own, so None is expected",
    ),
    "backend": (
        {"backend": "eagre"},
        "unknown backend 'eagre'; did you mean 'eager'? Known: auto, eager, native, scan",
    ),
    "cell name": (
        {"cell": "lsmt"},
        f"unknown cell 'lsmt'; did you mean 'lstm'? Known: {', '.join(sorted(CATALOGUE))}; "
        "one of your own is named as file.py:NAME",
    ),
    "cell a number": ({"cell": 3}, "cell: a cell, its name or a function f(x_t, state) is expected, not 3"),
    "cell a class": (
        {"cell": nn.GRUCell},
        "cell: a cell, its name or a function f(x_t, state) is expected, not <class 'torch.nn.modules.rnn.GRUCell'>",
    ),
    "drop of no U": (
        {"cell": without_u, "weight_drop": 0.1},
        "cell 'without_u': it has no U, so weight_drop and recurrent_dropout are 0",
    ),
    "dropout of no U": (
        {"cell": without_u, "recurrent_dropout": 0.1},
        "cell 'without_u': it has no U, so weight_drop and recurrent_dropout are 0",
    ),
    **{
        f"function with {key}": (
            {"cell": nn.RNNCell(3, 4), key: value},
            "function 'RNNCell': Recurrent does not know its weights, so num_layers is 1, bidirectional False, "
            "skip None, weight_drop and recurrent_dropout 0; a cell declared with recurra.cell can have them all",
        )
        for key, value in {
            "num_layers": 2,
            "bidirectional": True,
            "skip": "residual",
            "weight_drop": 0.5,
            "recurrent_dropout": 0.5,
        }.items()
    },
}


@pytest.mark.parametrize(("arguments", "message"), WRONG_ARGUMENTS.values(), ids=WRONG_ARGUMENTS)
def test_an_argument_that_cannot_be(arguments: dict[str, Any], message: str) -> None:
    given = {"cell": "lstm", "input_size": 3, "hidden_size": 4, **arguments}
    with pytest.raises(ValueError, match=told(message)):
        Recurrent(**given)


WRONG_STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "gate": ({"b_q": 1.0}, "cell 'gru': init: unknown parameter 'b_q'; did you mean 'b_z'? Known: "
             "U, U_n, U_r, U_z, W, W_n, W_r, W_z, b, b_n, b_r, b_z, chrono"),
    "name": ({"U": "ortogonal"}, "cell 'gru': init of 'U': unknown initialisation 'ortogonal'; did you mean "
             "'orthogonal'? Known: identity, normal, ones, orthogonal, uniform, unit, xavier, zeros"),
    "value": ({"U": None}, "cell 'gru': init of 'U': a number or a named initialisation is expected, not None"),
    "flag": ({"U": True}, "cell 'gru': init of 'U': a number or a named initialisation is expected, not True"),
    "span": ({"chrono": 2}, "cell 'gru': init of 'chrono': a span of more than 2 steps is expected, not 2"),
    "endless span": (
        {"chrono": float("inf")},
        "cell 'gru': init of 'chrono': a span of more than 2 steps is expected, not inf",
    ),
    "values of another shape": (
        {"U": lambda shape: torch.ones(3)},
        "<lambda> should make first values of shape (4, 4), not (3,)",
    ),
    "a function of a tensor": (
        {"U_r": nn.init.orthogonal_},
        "orthogonal_, which makes first values of shape (4, 4): AttributeError: 'tuple' object has no attribute "
        "'ndimension'",
    ),
    "no span": ({"chrono": "784"}, "cell 'gru': init of 'chrono': a span of more than 2 steps is expected, not '784'"),
}  # fmt: skip


@pytest.mark.parametrize(("init", "message"), WRONG_STARTS.values(), ids=WRONG_STARTS)
def test_a_start_that_cannot_be(init: Any, message: str) -> None:
    with pytest.raises(CellError, match=told(message)):
        Recurrent("gru", 3, 4, init=init)


def test_a_cell_without_u_has_no_start_for_it() -> None:
    message = "cell 'min_gru': init: unknown parameter 'U'. Known: W, W_n, W_z, b, b_n, b_z, chrono"
    with pytest.raises(CellError, match=told(message)):
        Recurrent("min_gru", 3, 4, init={"U": "identity"})


def test_a_cell_without_memory_gates_has_no_chrono() -> None:
    message = "cell 'elman': init: it names no gates that keep its memory, so it has no 'chrono'"
    with pytest.raises(CellError, match=told(message)):
        Recurrent("elman", 3, 4, init={"chrono": 100})


X = torch.zeros(5, 2, 3)
Call = Callable[[Recurrent], Any]

WRONG_INPUTS: dict[str, tuple[Call, str]] = {
    "x of 1 axis": (lambda layer: layer(X[0, 0]), "x: (T, B, I), (B, T, I) or (T, I) is expected, not (3,)"),
    "x of 4 axes": (lambda layer: layer(X[None]), "x: (T, B, I), (B, T, I) or (T, I) is expected, not (1, 5, 2, 3)"),
    "x too wide": (lambda layer: layer(torch.zeros(5, 2, 4)), "x: input_size is 3, but (5, 2, 4) ends with 4"),
    "x double": (
        lambda layer: layer(X.double()),
        "x: torch.float32 is expected, as the parameters are, not torch.float64",
    ),
    "x whole": (lambda layer: layer(X.long()), "x: torch.float32 is expected, as the parameters are, not torch.int64"),
    "x sparse": (
        lambda layer: layer(X.to_sparse()),
        "x: a dense tensor is expected; sequences of several lengths are padded or packed",
    ),
    "x elsewhere": (
        lambda layer: layer(X.to("meta")),
        "x: it lies on meta, but the parameters on cpu",
    ),
    "x_t an array": (lambda layer: layer.step(cast(Any, X[0].numpy())), "x_t: a tensor is expected, not ndarray"),
    "x an array": (lambda layer: layer(X.numpy()), "x: a tensor is expected, not ndarray"),
    **{
        f"x packed beside {name}": (
            lambda layer, given={name: value}: layer(nn.utils.rnn.pack_padded_sequence(X, [5, 5]), **given),
            f"{name}: None is expected beside a PackedSequence, which has its own lengths",
        )
        for name, value in {"lengths": [5, 5], "mask": X[..., 0] == 0, "reset": X[..., 0] == 0}.items()
    },
    "one length": (lambda layer: layer(X, lengths=[3]), "lengths: 2 whole numbers are expected, not torch.int64 (1,)"),
    "length of all": (lambda layer: layer(X, lengths=3), "lengths: 2 whole numbers are expected, not torch.int64 ()"),
    "lengths of 2 axes": (
        lambda layer: layer(X, lengths=[[3, 3]]),
        "lengths: 2 whole numbers are expected, not torch.int64 (1, 2)",
    ),
    "lengths broken": (
        lambda layer: layer(X, lengths=[3.0, 2.0]),
        "lengths: 2 whole numbers are expected, not torch.float32 (2,)",
    ),
    "lengths true": (
        lambda layer: layer(X, lengths=[True, False]),
        "lengths: 2 whole numbers are expected, not torch.bool (2,)",
    ),
    "lengths ragged": (
        lambda layer: layer(X, lengths=[[3], 2]),
        "lengths: 2 whole numbers are expected, not [[3], 2]",
    ),
    "lengths text": (lambda layer: layer(X, lengths="ab"), "lengths: 2 whole numbers are expected, not 'ab'"),
    "length -1": (lambda layer: layer(X, lengths=[5, -1]), "lengths: from 0 to T = 5 is expected, found -1"),
    "length 6": (lambda layer: layer(X, lengths=[6, 0]), "lengths: from 0 to T = 5 is expected, found 6"),
    "mask of numbers": (
        lambda layer: layer(X, mask=torch.ones(5, 2)),
        "mask: a boolean tensor is expected, not torch.float32",
    ),
    "mask a list": (lambda layer: layer(X, mask=[[True]]), "mask: a boolean tensor is expected, not list"),
    "mask turned": (
        lambda layer: layer(X, mask=torch.ones(2, 5, dtype=torch.bool)),
        "mask: (5, 2) is expected, not (2, 5)",
    ),
    "mask of one sequence": (
        lambda layer: layer(X[:, 0], mask=torch.ones(5, 1, dtype=torch.bool)),
        "mask: (5,) is expected, not (5, 1)",
    ),
    "reset of numbers": (
        lambda layer: layer(X, reset=torch.ones(5, 2).long()),
        "reset: a boolean tensor is expected, not torch.int64",
    ),
    "reset short": (
        lambda layer: layer(X, reset=torch.ones(4, 2, dtype=torch.bool)),
        "reset: (5, 2) is expected, not (4, 2)",
    ),
    "state of one field": (
        lambda layer: layer(X, torch.zeros(1, 2, 4)),
        "state: 2 field(s) are expected (h, c), not 1",
    ),
    "state of three": (
        lambda layer: layer(X, (torch.zeros(1, 2, 4),) * 3),
        "state: 2 field(s) are expected (h, c), not 3",
    ),
    "state without layers": (
        lambda layer: layer(X, (torch.zeros(2, 4),) * 2),
        "state.h: 1 layers * directions are expected, not 2",
    ),
    "state of a row": (
        lambda layer: layer(X, (torch.zeros(1, 2, 4), torch.zeros(1, 1, 4))),
        "state.c[0]: a tensor (2, 4) is expected, not (1, 4)",
    ),
    "state too wide": (
        lambda layer: layer(X, (torch.zeros(1, 2, 5), torch.zeros(1, 2, 4))),
        "state.h[0]: a tensor (2, 4) is expected, not (2, 5)",
    ),
    "state of a batch": (
        lambda layer: layer(X[:, 0], (torch.zeros(1, 2, 4),) * 2),
        "state.h[0]: a tensor (4,) is expected, not (2, 4)",
    ),
    "state of numbers": (lambda layer: layer(X, ([1.0], [1.0])), "state.h[0]: a tensor (2, 4) is expected, not float"),
    "state a number": (lambda layer: layer(X, 1.0), "state: a tuple of h, c is expected, not float"),
    "field a number": (lambda layer: layer(X, (1.0, 2.0)), "state.h: a tensor or list is expected, not float"),
    "field of no axis": (
        lambda layer: layer(X, (torch.tensor(1.0),) * 2),
        "state.h[0]: a tensor (2, 4) is expected, not ()",
    ),
    "state by name": (
        lambda layer: layer(X, {"h": X, "c": X}),
        "state: a tuple of h, c is expected, not dict",
    ),
    "step of a sequence": (lambda layer: layer.step(X), "x_t: (B, I) or (I,) is expected, not (5, 2, 3)"),
    "step too wide": (lambda layer: layer.step(torch.zeros(2, 4)), "x: input_size is 3, but (1, 2, 4) ends with 4"),
}


@pytest.mark.parametrize(("call", "message"), WRONG_INPUTS.values(), ids=WRONG_INPUTS)
def test_an_input_that_cannot_be(call: Call, message: str) -> None:
    with pytest.raises(ValueError, match=told(message)):
        call(Recurrent("lstm", 3, 4))


def test_what_lies_rows_first() -> None:
    layer = Recurrent("gru", 3, 4, batch_first=True)
    with pytest.raises(ValueError, match=told("mask: (5, 2) is expected, not (2, 5)")):
        layer(torch.zeros(5, 2, 3), mask=torch.ones(2, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=told("lengths: from 0 to T = 2 is expected, found 3")):
        layer(torch.zeros(5, 2, 3), lengths=[2, 3, 0, 1, 2])


def test_no_step_of_both_directions() -> None:
    layer = Recurrent("gru", 3, 4, bidirectional=True)
    with pytest.raises(
        ValueError, match="a bidirectional layer reads the future, so it cannot take one step at a time"
    ):
        layer.step(torch.zeros(2, 3))
