"""What the form of a cell says when a declaration or a body is wrong, and what a body may do with what it is given."""

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recurra import cells
from recurra.cells import Cell, cell
from recurra.cells.form import StateField
from recurra.errors import CellError
from recurra.math import maximum, norm, relu, sigmoid, tanh, where
from recurra.nn import Recurrent


def simple(z, s):
    return tanh(z.h)


def told(text: str) -> str:
    """A pattern for exactly this text; LINE stands for a place in this file."""
    return "^" + re.escape(text).replace("LINE", r"test_cell_form\.py, line \d+") + "$"


# --- declarations ----------------------------------------------------------------------------------------------------

WRONG_DECLARATIONS: dict[str, tuple[dict[str, Any], str]] = {
    "no state": ({"state": " "}, 'a state is expected, such as state="h"'),
    "no net input": ({"gates": ""}, 'at least one net input is expected, such as gates="h"'),
    "field twice": ({"state": "h h"}, "'h' is declared twice"),
    "gate twice": ({"gates": "h i i"}, "'i' is declared twice"),
    "gate and input": ({"inputs": "h"}, "'h' is declared twice"),
    "vector twice": ({"vectors": "v v"}, "'v' is declared twice"),
    "vector and matrix": ({"vectors": "v", "matrices": {"v": ("H", "H")}}, "'v' is declared twice"),
    "vector and constant": ({"vectors": "v", "constants": {"v": torch.zeros}}, "'v' is declared twice"),
    "vector and field": ({"vectors": "h"}, "'h' is declared twice"),
    "vector and U": ({"vectors": "U_h"}, "'U_h' is the name of a W, U or b of its net inputs; another one is needed"),
    "field and all biases": (
        {"state": "h b"},
        "'b' is the name of a W, U or b of its net inputs; another one is needed",
    ),
    "no identifier": ({"gates": "h 1st"}, "'1st' is not a name that Python allows for an attribute"),
    "keyword": ({"state": "h lambda"}, "'lambda' is not a name that Python allows for an attribute"),
    "underscore": ({"vectors": "_v"}, "'_v' is not a name that Python allows for an attribute"),
    "layer's own name": ({"vectors": "bias"}, "'bias' is a name of the layer's own; another one is needed"),
    "initial state's name": (
        {"vectors": "initial_h"},
        "'initial_h' is a name of the layer's own; another one is needed",
    ),
    "width unknown": ({"state": "h:proj"}, "state field 'h': unknown size 'proj'. Known: H (H is hidden_size)"),
    "width nothing": ({"state": "h:"}, "state field 'h': unknown size ''. Known: H (H is hidden_size)"),
    "width 0": (
        {"state": "h:0"},
        "state field 'h': a whole number above 0, or 'H' for hidden_size, is expected, not 0",
    ),
    "width -1": ({"state": "h:-1"}, "state field 'h': unknown size '-1'. Known: H (H is hidden_size)"),
    "matrix of one size": ({"matrices": {"W": ("H",)}}, "matrix 'W': (rows, columns) is expected, not ('H',)"),
    "matrix of a letter": ({"matrices": {"W_o": "HH"}}, "matrix 'W_o': (rows, columns) is expected, not 'HH'"),
    "matrix rows": ({"matrices": {"W_o": ("K", 3)}}, "matrix 'W_o': unknown size 'K'. Known: H (H is hidden_size)"),
    "matrix columns": (
        {"matrices": {"W_o": (3, 0)}},
        "matrix 'W_o': a whole number above 0, or 'H' for hidden_size, is expected, not 0",
    ),
    "matrix of True": (
        {"matrices": {"W_o": (3, True)}},
        "matrix 'W_o': a whole number above 0, or 'H' for hidden_size, is expected, not True",
    ),
    "biases": ({"biases": 3}, "biases is 0, 1, 2 or 'apart', not 3"),
    "kind of U": (
        {"recurrent": "dens"},
        "unknown kind of U 'dens'; did you mean 'dense'? Known: blocks, dense, diagonal",
    ),
    "no heads": ({"recurrent": "blocks"}, "recurrent='blocks': unknown size 'heads'. Known: H (H is hidden_size)"),
    "start of nothing": (
        {"start": {"b_g": 1.0}},
        "start: unknown parameter or state field 'b_g'; did you mean 'b_h'? Known: U, U_h, W, W_h, b, b_h, h",
    ),
    "start of no U": (
        {"inputs": "g", "start": {"U_g": 1.0}},
        "start: unknown parameter or state field 'U_g'; did you mean 'W_g'? Known: U, U_h, W, W_g, W_h, b, b_g, b_h, h",
    ),
    "start of U where no gate has one": (
        {"gates": "", "inputs": "g", "start": {"U": 1.0}},
        "start: unknown parameter or state field 'U'. Known: W, W_g, b, b_g, h",
    ),
    "start of b where there is none": (
        {"biases": 0, "start": {"b_h": 1.0}},
        "start: unknown parameter or state field 'b_h'; did you mean 'W_h'? Known: U, U_h, W, W_h, h",
    ),
    "start by no way": (
        {"start": {"U": "orthogonl"}},
        "start of 'U': unknown initialisation 'orthogonl'; did you mean 'orthogonal'? "
        "Known: identity, normal, ones, orthogonal, uniform, unit, xavier, zeros",
    ),
    "start by a list": ({"start": {"U": [1]}}, "start of 'U': a number or a named initialisation is expected, not [1]"),
    "field by a name": (
        {"start": {"h": "orthogonal"}},
        "state field 'h' starts at a number or an option with one, not 'orthogonal'",
    ),
}


@pytest.mark.parametrize(("declared", "message"), WRONG_DECLARATIONS.values(), ids=WRONG_DECLARATIONS)
def test_a_declaration_that_contradicts_itself(declared: dict[str, Any], message: str) -> None:
    with pytest.raises(CellError, match=told(f"cell 'simple': {message}")):
        cell(**{"state": "h", "gates": "h", **declared})(simple)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"state": ["h"]}, "state: names in one text are expected, such as state='a b', not ['h']"),
        ({"gates": ["i", "f"]}, "gates: names in one text are expected, such as gates='a b', not ['i', 'f']"),
        ({"vectors": None}, "vectors: names in one text are expected, such as vectors='a b', not None"),
        ({"gates": "i, f"}, "gates: names are separated by spaces, not commas: 'i, f'"),
        ({"start": ["b"]}, "start: a mapping by name is expected, {name: …}, not ['b']"),
        ({"matrices": "M"}, "matrices: a mapping by name is expected, {name: …}, not 'M'"),
        ({"constants": "T"}, "constants: a mapping by name is expected, {name: …}, not 'T'"),
    ],
)
def test_a_declaration_of_the_wrong_kind(declared: Any, message: str) -> None:
    with pytest.raises(CellError, match=told(f"cell: {message}")):
        cell(**{"state": "h", "gates": "h", **declared})


def test_a_body_that_is_none() -> None:
    with pytest.raises(CellError, match=told("cell: a function (z, s) or (z, s, p) is expected as its body, not 3")):
        cell(state="h", gates="h")(3)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda z: z.h, "its body takes (z, s) or (z, s, p), and options as keyword-only arguments"),
        (lambda z, s, p, q: z.h, "its body takes (z, s) or (z, s, p), and options as keyword-only arguments"),
        (lambda z, s, *, slope: z.h, "option 'slope' has no default"),
    ],
)
def test_a_body_that_takes_the_wrong_arguments(body: Callable[..., Any], message: str) -> None:
    with pytest.raises(CellError, match=told(f"cell 'lambda': {message}")):
        cell(state="h", gates="h")(body)


def test_what_a_declaration_is_read_as() -> None:
    @cell(
        state="h:P c k:3",
        gates="i f",
        inputs="g",
        vectors="v_i",
        matrices={"W_r": ("P", "H")},
        biases=2,
        start={"c": -1.5, "U_f": "identity", "k": "first"},
    )
    def one(z, s, p, *, P=2, first=7.0):
        return p.W_r @ tanh(z.i + z.g), z.f * p.v_i, s.k

    assert one.fields == (StateField("h", "P"), StateField("c", "H", -1.5), StateField("k", 3, "first"))
    assert one.widths(5) == (2, 5, 3)
    assert dict(one.start) == {"U_f": "identity"}
    assert one.symbols == ("W_i", "U_i", "b_i", "b'_i", "W_f", "U_f", "b_f", "b'_f", "W_g", "b_g", "v_i", "W_r")
    assert one.shapes(4, 5) == {
        "weight_ih": (15, 4),
        "weight_hh": (10, 2),
        "bias_ih": (15,),
        "bias_hh": (10,),
        "v_i": (5,),
        "W_r": (2, 5),
    }
    assert [v.tolist() for v in one.initial_state(1, 2, torch.zeros(0))] == [[[0, 0]], [[-1.5, -1.5]], [[7, 7, 7]]]
    assert one(P=3, first=1).widths(5) == (3, 5, 3)


def test_a_cell_without_biases_has_none() -> None:
    assert cell(state="h", gates="h", biases=0)(simple).shapes(2, 3) == {"weight_ih": (3, 2), "weight_hh": (3, 3)}


def test_a_second_bias_belongs_to_U() -> None:  # noqa: N802
    without = cell(state="h", inputs="h", biases=2)(simple)
    assert without.shapes(2, 3) == {"weight_ih": (3, 2), "bias_ih": (3,)}
    assert without.symbols == ("W_h", "b_h")


def test_the_width_of_what_U_multiplies_is_that_of_the_operand() -> None:  # noqa: N802
    """`z.h.x` alone says nothing of it."""
    one = cell(state="h y:2", gates="h")(lambda z, s: (tanh(z.h(s.y)) * z.h.x, s.y))
    assert one.shapes(4, 3)["weight_hh"] == (3, 2)


# --- options ---------------------------------------------------------------------------------------------------------


ACTIVATIONS = "Known: cube, identity, logistic, relu, sigmoid, sin, softplus, tanh"


@cell(state="h:width c", gates="h", start={"b_h": "bias", "U": "how"})
def optional(z, s, *, activation=tanh, bias=1.0, width=2, clip=False, how="orthogonal", anything=None):
    return activation(z.h)[:, :width], tanh(z.h)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"activaton": "relu"},
            "unknown option 'activaton'; did you mean 'activation'? "
            "Known: activation, anything, bias, clip, how, width",
        ),
        ({"activation": "rellu"}, f"option 'activation': unknown function 'rellu'; did you mean 'relu'? {ACTIVATIONS}"),
        ({"activation": 3}, f"option 'activation': unknown function '3'. {ACTIVATIONS}"),
        (
            {"activation": ["relu"]},
            f"option 'activation': unknown function \"['relu']\"; did you mean 'relu'? {ACTIVATIONS}",
        ),
        ({"bias": "1"}, "option 'bias': a number is expected, not '1'"),
        ({"bias": True}, "option 'bias': a number is expected, not True"),
        ({"bias": math.nan}, "option 'bias': a number is expected, not nan"),
        ({"clip": 1}, "option 'clip': True or False is expected, not 1"),
        ({"how": 1}, "option 'how': a name is expected, not 1"),
        (
            {"how": "best"},
            "start of 'U': unknown initialisation 'best'. "
            "Known: activation, anything, bias, clip, how, identity, normal, ones, orthogonal, uniform, unit, width, "
            "xavier, zeros",
        ),
        ({"width": 0}, "option 'width': a whole number above 0, or 'H' for hidden_size, is expected, not 0"),
        ({"width": 2.5}, "option 'width': a whole number above 0, or 'H' for hidden_size, is expected, not 2.5"),
    ],
)
def test_an_option_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CellError, match=told(f"cell 'optional': {message}")):
        optional(**options)


def test_options_that_can_be() -> None:
    assert optional(activation="relu").options["activation"] is relu
    assert optional(activation=torch.cos).options["activation"] is torch.cos
    assert optional(bias=2, clip=True, how="zeros", anything=[1]).options["anything"] == [1]
    assert optional().options == optional.options


# --- bodies ----------------------------------------------------------------------------------------------------------

TWO = {"state": "h c", "gates": "i f"}
MATRIX = "a matrix of a cell stands left of what it multiplies, `p.W @ v`, and can do nothing else"
PARAMETRIC = nn.PReLU()


def both(z):
    return tanh(z.i + z.f)


WRONG_BODIES: dict[str, tuple[dict[str, Any], Callable[..., Any], str]] = {
    "unknown net input": (
        TWO,
        lambda z, s: (tanh(z.ii), tanh(z.f)),
        " (LINE): unknown net input 'ii'; did you mean 'i'? Known: f, i",
    ),
    "unknown field": (TWO, lambda z, s: (tanh(z.i), z.f * s.d), " (LINE): unknown state field 'd'. Known: c, h"),
    "unknown parameter": (
        {**TWO, "vectors": "v_i"},
        lambda z, s, p: (tanh(z.i), z.f * p.v_f),
        " (LINE): unknown parameter 'v_f'; did you mean 'v_i'? Known: v_i",
    ),
    "no parameter at all": (
        TWO,
        lambda z, s, p: (tanh(z.i), z.f * p.v_f),
        " (LINE): unknown parameter 'v_f'; there is none",
    ),
    "too few fields": (TWO, lambda z, s: both(z), ": its body returns 1 value(s); its state has 2 field(s): h, c"),
    "too many fields": (
        TWO,
        lambda z, s: (both(z),) * 3,
        ": its body returns 3 value(s); its state has 2 field(s): h, c",
    ),
    "wrong width": (
        TWO,
        lambda z, s: (both(z), both(z)[:, :3]),
        ": its new 'c' should be (B, 5), here (2, 5), but is (2, 3)",
    ),
    "a row for all": (TWO, lambda z, s: (both(z)[0], s.c), ": its new 'h' should be (B, 5), here (2, 5), but is (5,)"),
    "a number": (TWO, lambda z, s: (both(z), 0.0), ": its new 'c' should be (B, 5), here (2, 5), but is float"),
    "nothing": (
        TWO,
        lambda z, s: both(z) and None,
        " (LINE): RuntimeError: Boolean value of Tensor with more than one value is ambiguous",
    ),
    "unused gate": (TWO, lambda z, s: (tanh(z.i), s.c), ": declared, but never used in its body: z.f"),
    "gate only looked at": (
        TWO,
        lambda z, s: (tanh(z.i), (s.c, z.f)[0]),
        ": declared, but never used in its body: z.f",
    ),
    "unused input": (
        {**TWO, "inputs": "g"},
        lambda z, s: (both(z), s.c),
        ": declared, but never used in its body: z.g",
    ),
    "unused vector": (
        {**TWO, "vectors": "v_i v_f"},
        lambda z, s, p: (both(z) * p.v_i, s.c),
        ": declared, but never used in its body: p.v_f",
    ),
    "body without p": (
        {**TWO, "vectors": "v_i"},
        lambda z, s: (both(z), s.c),
        ": declared, but never used in its body: p.v_i",
    ),
    "U never used": (
        TWO,
        lambda z, s: (tanh(z.i), tanh(z.f.x)),
        ": U_f is never used; a net input without U is declared in `inputs`",
    ),
    "input called": (
        {**TWO, "inputs": "g"},
        lambda z, s: (both(z), z.g(s.h)),
        " (LINE): z.g(v): 'g' is declared in `inputs`, so it has no U",
    ),
    "half of an input": (
        {**TWO, "inputs": "g"},
        lambda z, s: (both(z), z.g.h),
        " (LINE): z.g.h: 'g' is declared in `inputs`, so it has no U",
    ),
    "part of an input": (
        {**TWO, "inputs": "g"},
        lambda z, s: (both(z), z.g.x),
        " (LINE): z.g.x: 'g' is declared in `inputs`, so it has no U",
    ),
    "operands": (
        {**TWO, "state": "h c:2"},
        lambda z, s: (tanh(z.i + z.f(s.c)), s.c),
        ": its gates share one stacked U, but what they multiply has widths 2 and 5",
    ),
    "operand of a row": (
        {**TWO, "vectors": "v"},
        lambda z, s, p: (tanh(z.i), tanh(z.f(p.v))),
        " (LINE): z.f(v): v is (B, K), not (5,)",
    ),
    "two operands": (
        TWO,
        lambda z, s: (tanh(z.i), tanh(z.f(s.h, s.c))),
        " (LINE): TypeError: NetInput.__call__() takes 2 positional arguments but 3 were given",
    ),
    "missing import": (
        TWO,
        lambda z, s: (tanh(z.i), softmax(z.f)),  # noqa: F821  # pyright: ignore[reportUndefinedVariable]
        " (LINE): NameError: name 'softmax' is not defined",
    ),
    "shapes": (
        {**TWO, "state": "h c:2"},
        lambda z, s: (tanh(z.i + z.f), s.c * s.h),
        " (LINE): RuntimeError: The size of tensor a (2) must match the size of tensor b (5) "
        "at non-singleton dimension 1",
    ),
    "method": (
        TWO,
        lambda z, s: (tanh(z.i), z.f.tahn()),
        " (LINE): AttributeError: 'Tensor' object has no attribute 'tahn'",
    ),
    "matrix from the right": (
        {**TWO, "matrices": {"A": ("H", "H")}},
        lambda z, s, p: (both(z), s.c @ p.A),
        f" (LINE): TypeError: {MATRIX}",
    ),
    "matrix unit by unit": (
        {**TWO, "matrices": {"A": ("H", "H")}},
        lambda z, s, p: (both(z), p.A * s.c),
        f" (LINE): TypeError: {MATRIX}",
    ),
    "matrix turned": (
        {**TWO, "matrices": {"A": ("H", "H")}},
        lambda z, s, p: (both(z), p.A.T @ s.c),
        f" (LINE): TypeError: {MATRIX}",
    ),
    "a condition": (
        TWO,
        lambda z, s: (both(z), s.c if z.i else z.f),
        " (LINE): RuntimeError: Boolean value of Tensor with more than one value is ambiguous",
    ),
    "a function of numbers": (
        TWO,
        lambda z, s: (both(z), math.tanh(z.i) + z.f),
        " (LINE): ValueError: only one element tensors can be converted to Python scalars",
    ),
    "an activation with parameters": (
        TWO,
        lambda z, s, *, activation=PARAMETRIC: (activation(both(z)), s.c),
        ": option 'activation': PReLU has parameters, which would not be trained; declare `vectors`",
    ),
    "matrix of another width": (
        {**TWO, "matrices": {"A": ("H", 2)}},
        lambda z, s, p: (both(z), p.A @ s.c),
        " (LINE): RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x5 and 2x5)",
    ),
    "diagonal of another width": (
        {"state": "h c", "gates": "i", "recurrent": "diagonal"},
        lambda z, s: (tanh(z.i(s.h[:, :3])), s.c),
        ": a diagonal U multiplies 5 values, not 3",
    ),
    "mask of another width": (
        {"state": "h", "gates": "i", "recurrent": lambda H: torch.ones(H, 1)},
        lambda z, s: tanh(z.i),
        ": the mask of U should be (5, 5), but is (5, 1)",
    ),
    "mask that is none": (
        {"state": "h", "gates": "i", "recurrent": lambda H: None},
        lambda z, s: tanh(z.i),
        ": 'recurrent' should make a tensor, not NoneType",
    ),
    "constant that is none": (
        {**TWO, "constants": {"k": lambda H: 3}},
        lambda z, s, p: (both(z), s.c * p.k),
        ": 'k' should make a tensor, not int",
    ),
    "constant that fails": (
        {**TWO, "constants": {"k": lambda: 3}},
        lambda z, s, p: (both(z), s.c * p.k),
        ", 'k': TypeError: <lambda>() takes 0 positional arguments but 1 was given",
    ),
}


@pytest.mark.parametrize(("declared", "body", "message"), WRONG_BODIES.values(), ids=WRONG_BODIES)
def test_a_body_that_disagrees_with_its_declaration(
    declared: dict[str, Any], body: Callable[..., Any], message: str
) -> None:
    """Told when a layer is built, not when it is run."""
    made = cell(**declared)(body)
    with pytest.raises(CellError, match=told(f"cell 'lambda'{message}")):
        Recurrent(made, 3, 5)


def test_heads_must_share_the_units_out() -> None:
    @cell(state="h", gates="h", recurrent="blocks")
    def headed(z, s, *, heads=2):
        return tanh(z.h)

    with pytest.raises(CellError, match="cell 'headed': 5 units cannot be shared out among 2 heads"):
        Recurrent(headed, 3, 5)
    with pytest.raises(
        CellError, match="option 'heads': a whole number above 0, or 'H' for hidden_size, is expected, not 0"
    ):
        headed(heads=0)


def test_heads_must_share_out_what_U_multiplies() -> None:  # noqa: N802
    @cell(state="h y:3", gates="h", recurrent="blocks")
    def headed(z, s, *, heads=2):
        return tanh(z.h(s.y)), s.y

    with pytest.raises(CellError, match="cell 'headed': 3 units cannot be shared out among 2 heads"):
        Recurrent(headed, 3, 4)


def test_the_line_told_is_the_bodys_own() -> None:
    """Even where the error arises in a function that the body calls."""

    def helper(v):
        return v @ torch.zeros(1, 1)

    @cell(state="h", gates="h")
    def calling(z, s):
        h = tanh(z.h)
        return helper(h)

    line = calling.body.__code__.co_firstlineno + 3
    with pytest.raises(CellError, match=rf"^cell 'calling' \(test_cell_form\.py, line {line}\): RuntimeError: mat1"):
        Recurrent(calling, 3, 4)


def test_a_net_input_must_be_taken_the_same_way_at_every_call() -> None:
    """What the first look did not see is not made ready; it is told, not computed wrongly."""

    @cell(state="h", gates="h g")
    def changing(z, s):
        if s.h.mean() == 0:
            return tanh(z.g(s.h) + z.h.h)
        return tanh(z.g(s.h) + z.h(s.h))

    with pytest.raises(CellError, match="a body takes each net input in the same way at every call"):
        Recurrent(changing, 3, 5)(torch.zeros(1, 1, 3))


# --- what a net input can be used for --------------------------------------------------------------------------------

USES: dict[str, Callable[..., tuple[Any, ...]]] = {
    "add": lambda a, b: (a + 1, 1 + a, a + b, a - 1, 1 - a),
    "multiply": lambda a, b: (2 * a, a * 2, a * b),
    "divide": lambda a, b: (a / 2, 2 / (a + 9), b / (a + 9), a / (b + 9)),
    "power": lambda a, b: (a**2, 2**a, -a, abs(a)),
    "order": lambda a, b: ((a < 0) + 0.0, (a <= 0) + 0.0, (a > 0) + 0.0, (a >= b) + 0.0),
    "equality": lambda a, b: (where(a == b, a, 3 * b), where(a != b, a, 3 * b), (a == tanh(a)) + 0.0),
    "methods": lambda a, b: (a.tanh(), a.sigmoid() * 2, a[:, :1] + b, a.clamp(0)),
    "functions": lambda a, b: (tanh(a), sigmoid(b), maximum(a, b), where(a > b, a, b), norm(a)),
    "torch's": lambda a, b: (torch.sigmoid(a), torch.nn.functional.relu(b), torch.atan2(a, b)),
    "several": lambda a, b: (torch.cat([a, b], -1)[:, :4], torch.stack((a, b)).sum(0)),
    "product": lambda a, b: (a @ torch.ones(4, 4), torch.ones(2, 2) @ a),
    "beside a tensor": lambda a, b: (tanh(a) + a, tanh(b) * a, tanh(b) - a, torch.add(tanh(a), b)),
}


@pytest.mark.parametrize("terms", USES.values(), ids=USES)
def test_a_net_input_stands_for_its_tensor(terms: Callable[..., tuple[Any, ...]]) -> None:
    """`z.a` and `z.b` are also taken apart here, which makes them more than tensors."""

    @cell(state="h", gates="a b", biases=0)
    def user(z, s):
        return sum(terms(z.a, z.b)) + 0 * (z.a.h + z.b.h)

    layer = Recurrent(user, 3, 4)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    W, U = layer.get_parameter("weight_ih_l0"), layer.get_parameter("weight_hh_l0")
    a, b = (x @ W.T + h @ U.T).chunk(2, -1)
    torch.testing.assert_close(layer.step(x, h.unsqueeze(0))[0], sum(terms(a, b)), atol=1e-4, rtol=1e-4)


def test_a_net_input_can_be_the_new_state_itself() -> None:
    @cell(state="h g", gates="a", biases=0)
    def linear(z, s):
        return z.a, z.a.h

    layer = Recurrent(linear, 3, 4)
    x, h = torch.randn(2, 3), torch.randn(2, 4)
    half = h @ layer.get_parameter("weight_hh_l0").T
    output, state = layer.step(x, (h.unsqueeze(0), h.unsqueeze(0)))
    torch.testing.assert_close(output, x @ layer.get_parameter("weight_ih_l0").T + half)
    torch.testing.assert_close(state.g[0], half)


def test_a_cell_prints_as_its_call() -> None:
    assert repr(optional(activation="relu")).startswith("optional(activation=relu, bias=1.0, width=2, clip=False")
    assert isinstance(optional, Cell)


def test_the_docstring_of_a_cell_is_its_bodys() -> None:
    @cell(state="h", gates="h")
    def told(z, s):
        """What it is."""
        return tanh(z.h)

    assert told.__doc__ == "What it is."
    assert (Cell.__doc__ or "").startswith("A recurrent cell")


# --- widths, biases apart, starts, chrono ----------------------------------------------------------------------------


def test_biases_apart_are_in_no_part_but_in_the_whole() -> None:
    seen: dict[str, Tensor] = {}

    @cell(state="h", gates="a b", inputs="c", biases="apart")
    def apart(z, s):
        seen.update(x=z.a.x, h=z.a.h, b=z.a.b, called=z.b(2 * s.h), of_input=z.c.x, whole=z.c + 0)
        return tanh(z.a + z.b.b + z.c.b)

    layer = Recurrent(apart, 3, 2, dtype=torch.float64, backend="eager")  # which runs the body itself
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    x, h = torch.randn(1, 5, 3, dtype=torch.float64), torch.randn(1, 5, 2, dtype=torch.float64)
    output, _ = layer(x, h)
    W, U, b = (layer.get_parameter(name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_l0"))
    (W_a, W_b, W_c), (U_a, U_b), (b_a, b_b, b_c) = W.chunk(3), U.chunk(2), b.chunk(3)
    torch.testing.assert_close(seen["x"], x[0] @ W_a.T)
    torch.testing.assert_close(seen["h"], h[0] @ U_a.T)
    torch.testing.assert_close(seen["b"], b_a.detach().requires_grad_())
    torch.testing.assert_close(seen["called"], x[0] @ W_b.T + 2 * h[0] @ U_b.T + b_b)
    torch.testing.assert_close(seen["of_input"], x[0] @ W_c.T)
    torch.testing.assert_close(seen["whole"], x[0] @ W_c.T + b_c)
    torch.testing.assert_close(output[0], torch.tanh(x[0] @ W_a.T + h[0] @ U_a.T + b_a + b_b + b_c))


def test_widths_of_vectors_and_states() -> None:
    @cell(state="h:2H t:1", gates="a", vectors="v u:3H k:size n:2", matrices={"M": ("2H", "size")})
    def wide(z, s, p, *, size="H"):
        used = tanh(z.a) + p.v + p.u.sum() + p.n.sum()
        return p.M @ (p.k.sum() + torch.cat([used, used], -1)[:, : len(p.k)]), s.t

    assert wide.shapes(3, 4) == {
        "weight_ih": (4, 3),
        "weight_hh": (4, 8),
        "bias": (4,),
        "v": (4,),
        "u": (12,),
        "k": (4,),
        "n": (2,),
        "M": (8, 4),
    }
    assert wide(size=5).shapes(3, 4)["M"] == (8, 5)
    assert wide.widths(4) == (8, 1)
    assert [f.is_bookkeeping for f in wide.fields] == [False, True]


def test_a_tuple_may_come_as_a_list() -> None:
    """As it does from a recipe."""
    assert cells.clockwork(periods=[1, 3]).options["periods"] == (1, 3)
    with pytest.raises(CellError, match=told("cell 'clockwork': option 'periods': a tuple is expected, not 3")):
        cells.clockwork(periods=3)


def test_what_is_no_declaration() -> None:
    with pytest.raises(CellError, match=told('cell: it is called with a declaration, @cell(state="h", gates="h"), and '
                                             "that with the body")):  # fmt: skip
        cell(simple)
    with pytest.raises(CellError, match=told("cell: constant 'T': a function (hidden_size, **options) is expected, not "
                                             "Tensor")):  # fmt: skip
        cell(state="h", gates="h", constants={"T": torch.ones(3)})  # type: ignore[dict-item]
    with pytest.raises(CellError, match="recurrent says how U multiplies, and without gates there is none"):
        cell(state="h", inputs="h", recurrent="diagonal")(simple)


@pytest.mark.parametrize("kind", [torch.float64, torch.bool])
def test_a_new_state_of_another_type(kind: torch.dtype) -> None:
    one = cell(state="h", gates="h")(lambda z, s: tanh(z.h).to(kind))
    with pytest.raises(CellError, match=f"its new 'h' should be of the type of the old, torch.float32, but is {kind}"):
        Recurrent(one, 3, 4)


@pytest.mark.parametrize("periods", [(), (0, 1), (2, -1), (1.5,), ("a",)])
def test_periods_that_cannot_be(periods: tuple[Any, ...]) -> None:
    message = f"cell 'clockwork': option 'periods': whole numbers above 0 are expected, not {periods}"
    with pytest.raises(CellError, match="^" + re.escape(message) + "$"):
        Recurrent(cells.clockwork(periods=periods), 3, 4)


@pytest.mark.parametrize("longest", [0.0, 1, -3.5])
def test_a_span_that_cannot_be(longest: float) -> None:
    message = f"cell 'leaky': option 'longest': a number of steps above 1 is expected, not {longest}"
    with pytest.raises(CellError, match="^" + re.escape(message) + "$"):
        Recurrent(cells.leaky(longest=longest), 3, 4)


def test_another_value_error_of_a_body_names_its_line() -> None:
    @cell(state="h", gates="h")
    def mine(z, s, *, a=1.0):
        raise ValueError("b: is wrong")

    with pytest.raises(CellError, match=r"^cell 'mine' \(test_cell_form.py, line \d+\): ValueError: b: is wrong$"):
        Recurrent(mine, 3, 4)


DECLARATIONS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "no such gate": ({"chrono": "g"}, lambda z, s: tanh(z.a), ": chrono: unknown gate 'g'"),
    "no bias": ({"chrono": "-a", "biases": 0}, lambda z, s: tanh(z.a), ": chrono sets biases, and it has none"),
    "a flag": ({"biases": True}, lambda z, s: tanh(z.a), ": biases is 0, 1, 2 or 'apart', not True"),
    "a width of 0": ({"vectors": "v:0"}, lambda z, s, p: tanh(z.a) * p.v, ": vector 'v': a whole number above 0"),
    "no H at all": ({"vectors": "v:0H"}, lambda z, s, p: tanh(z.a) * p.v, ": vector 'v': a whole number above 0"),
    "no such size": ({"vectors": "v:h"}, lambda z, s, p: tanh(z.a) * p.v, ": vector 'v': unknown size 'h'"),
}


@pytest.mark.parametrize(("declared", "body", "message"), DECLARATIONS.values(), ids=DECLARATIONS)
def test_a_declaration_that_cannot_be_told_when_it_is_made(declared: Any, body: Any, message: str) -> None:
    with pytest.raises(CellError, match="^" + re.escape(f"cell 'lambda'{message}")):
        cell(**{"state": "h", "gates": "a", **declared})(body)


APART: dict[str, tuple[dict[str, Any], Any, str]] = {
    "forgotten": (
        {"biases": "apart"},
        lambda z, s: tanh(z.a.x + z.a.h),
        "its biases are apart, but z.a.b is never used",
    ),
    "a matrix behind": (
        {"matrices": {"M": ("H", "H")}},
        lambda z, s, p: tanh(z.a) @ p.M,
        f"TypeError: {MATRIX}",
    ),
    "not apart": (
        {},
        lambda z, s: tanh(z.a.b + z.a),
        "z.a.b: a bias stands alone only where a cell declares biases='apart'",
    ),
    "no U": (
        {"biases": "apart"},
        lambda z, s: tanh(z.a.x + z.a.b),
        "U_a is never used; a net input without U is declared in `inputs`",
    ),
}


@pytest.mark.parametrize(("declared", "body", "message"), APART.values(), ids=APART)
def test_a_body_that_misuses_biases(declared: Any, body: Any, message: str) -> None:
    with pytest.raises(CellError, match=re.escape(message) + "$"):
        Recurrent(cell(**{"state": "h", "gates": "a", **declared})(body), 3, 4)
