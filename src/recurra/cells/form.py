"""The form of a cell: what it declares, and the few lines of Python that are its equations.

    @cell(state="h c", gates="i f g o", start={"b_f": "forget_bias"})
    def lstm(z, s, *, forget_bias=1.0):
        i, f, o = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o)
        c = f * s.c + i * tanh(z.g)
        return o * tanh(c), c

The body is ordinary tensor code for one step of a batch. It is given

- `z`, the net inputs: `z.g` is `W_g x_t + U_g h_(t-1) + b_g`, (B, H), where h is the first field of the state;
  `z.g(v)` puts `v` in the place of `h_(t-1)`; `z.g.x` and `z.g.h` are its two parts, `W_g x_t + b_g` and
  `U_g h_(t-1)` (plus a bias of its own where the cell declares two); where the bias is declared apart, it is in
  neither, but is `z.g.b`;
- `s`, the old state, a field each: `s.h`, `s.c`;
- `p`, where the body asks for it, the cell's further parameters and constants: vectors, `p.v_i * s.c`, and matrices,
  `p.W_hr @ v`;
- its options, keyword-only arguments with a default.

It returns the new state, one tensor a field in the order declared. A cell knows nothing of time, lengths, masks,
layers, directions, dropout, devices or learning rules. `docs/cells.md` tells how to write one.
"""

import functools
import importlib
import operator
import pickle
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

from torch import Tensor

from recurra.cells import check
from recurra.cells.check import Use
from recurra.cells.terms import plain
from recurra.errors import CellError

Start = float | str | Callable[[tuple[int, ...]], Tensor]
"""How a parameter or state field begins: a number, the name of an option that holds it, a named initialisation, or a
function from a shape to the values."""

Size = int | str
"""A number, "H" for hidden_size, "4H" for a multiple of it, or the name of an option that holds a number or "H"."""

Biases = Literal[0, 1, 2, "apart"]
"""Biases of a gate: none, one for W x + U h, one for each of the two, or one that the body adds itself, `z.g.b`."""

Recurrence = Literal["dense", "diagonal", "blocks"] | Callable[..., Tensor]
"""How U multiplies; a function gives the mask of zeros and ones that is laid over a dense U."""


@dataclass(frozen=True)
class StateField:
    """One part of a state: its name, its width, and its value before the first step."""

    name: str
    width: Size = "H"
    start: Start = 0.0

    @property
    def is_bookkeeping(self) -> bool:
        """Whether it is no value of the layer's units, but a count of steps or the like, of a fixed width ("t:1")."""
        return isinstance(self.width, int)


@dataclass(frozen=True)
class Vector:
    """A further parameter of one row, (width,)."""

    name: str
    width: Size = "H"


@dataclass(frozen=True)
class Matrix:
    """A further matrix of a cell, (rows, columns)."""

    name: str
    rows: Size
    columns: Size


@dataclass(frozen=True, kw_only=True)
class Stateful:
    """What has a state of named fields: a `Cell`, or a plain function of (x_t, state)."""

    name: str
    fields: tuple[StateField, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    state_type: Any = field(init=False, repr=False, compare=False)
    """The named tuple of the fields."""

    def __post_init__(self) -> None:
        check.state(self)
        names = tuple(f.name for f in self.fields)
        object.__setattr__(self, "state_type", _record(f"{self.name}_state", names))

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial(Stateful, name=self.name, fields=self.fields), ()  # its state_type is made again

    def size(self, symbol: Size, hidden_size: int) -> int:
        """The number that a declared size stands for."""
        if isinstance(symbol, int):
            return symbol
        multiple = check.MULTIPLE_OF_H.fullmatch(symbol)
        return int(multiple[1] or 1) * hidden_size if multiple else self.size(self.options[symbol], hidden_size)

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Every size that its declaration names."""
        return tuple(f.width for f in self.fields)

    def widths(self, hidden_size: int) -> tuple[int, ...]:
        """The width of each state field."""
        return tuple(self.size(f.width, hidden_size) for f in self.fields)

    def value(self, start: Start) -> Start:
        """A `start` entry, an option's name replaced by what the option holds."""
        return self.options.get(start, start) if isinstance(start, str) else start

    def begins(self, field: StateField) -> float:
        """The number at which a state field begins."""
        number = self.value(field.start)
        assert isinstance(number, (int, float))
        return float(number)

    def initial_state(self, batch: int, hidden_size: int, like: Tensor) -> tuple[Tensor, ...]:
        """The state before the first step, each field (B, width), on the device and of the type of `like`."""
        return tuple(
            like.new_full((batch, width), self.begins(f))
            for f, width in zip(self.fields, self.widths(hidden_size), strict=True)
        )


@dataclass(frozen=True, kw_only=True, repr=False)
class Cell(Stateful):
    """A recurrent cell: its declaration and its equations, as `recurra.cell` makes it.

    Called with options, it gives the same cell with those: `cells.elman(activation="relu")`.
    """

    body: Callable[..., Any]
    gates: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    vectors: tuple[Vector, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    constants: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    biases: Biases = 1
    recurrent: Recurrence = "dense"
    start: Mapping[str, Start] = field(default_factory=dict)
    chrono: tuple[str, ...] = ()
    z_type: Any = field(init=False, compare=False)
    p_type: Any = field(init=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        check.declaration(self)
        object.__setattr__(self, "z_type", _record("z", (*self.gates, *self.inputs)))
        object.__setattr__(
            self, "p_type", _record("p", (*(p.name for p in (*self.vectors, *self.matrices)), *self.constants))
        )
        object.__setattr__(self, "__doc__", self.body.__doc__)

    def __call__(self, **options: Any) -> "Cell":
        """The same cell with other options.

        Raises:
            CellError: An option that the cell does not have, or a value that it cannot have.
        """
        checked = {name: check.option(self, name, value) for name, value in options.items()}
        return replace(self, options=MappingProxyType({**self.options, **checked}))

    def __repr__(self) -> str:
        options = (f"{name}={getattr(value, '__name__', value)}" for name, value in self.options.items())
        return f"{self.name}({', '.join(options)})"

    def __hash__(self) -> int:
        return hash((self.name, self.body))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cell":
        return self  # nothing of it can change

    def __reduce__(self) -> tuple[Any, ...]:
        """A cell is pickled as the place where it is declared, and the options that were changed."""
        place = self.body.__module__, self.body.__qualname__
        declared = _declared(*place)
        if declared is None or declared.body is not self.body:
            raise pickle.PicklingError(
                f"cell {self.name!r} is not a name of module {place[0]}, so it cannot be pickled"
            )
        changed = {name: value for name, value in self.options.items() if value is not declared.options[name]}
        return _restored, (*place, changed)

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every parameter under its name in the formula: W_i, U_i, b_i, b'_i of each gate, vectors, matrices."""
        biases = ("b", "b'") if self.biases == 2 else ("b",) if self.biases else ()
        return (
            *(f"{letter}_{gate}" for gate in self.gates for letter in ("W", "U", *biases)),
            *(f"{letter}_{gate}" for gate in self.inputs for letter in ("W", *biases[:1])),
            *(p.name for p in (*self.vectors, *self.matrices)),
        )

    @property
    def sizes(self) -> tuple[Size, ...]:
        """Every size that its declaration names."""
        heads = ("heads",) if self.recurrent == "blocks" else ()
        further = (*(v.width for v in self.vectors), *(n for m in self.matrices for n in (m.rows, m.columns)))
        return (*super().sizes, *further, *heads)

    @functools.cached_property
    def _asks_for_p(self) -> bool:
        return check.positional(self.body) == 3

    def step(self, z: Any, s: Any, p: Any) -> tuple[Tensor, ...]:
        """One step of the equations: the new state as a plain tuple in the order of the fields."""
        new = self.body(z, s, p, **self.options) if self._asks_for_p else self.body(z, s, **self.options)
        return tuple(plain(v) for v in new) if isinstance(new, (tuple, list)) else (plain(new),)

    def use(self, hidden_size: int) -> Use:
        """How the body takes its net inputs, found by running it once on small tensors.

        Raises:
            CellError: The body fails, asks for something that is not declared, leaves something declared unused, or
                returns another number of fields, or other widths, than it declares.
        """
        return check.use(self, hidden_size)

    def shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter of one layer and direction.

        `weight_ih` ((gates + inputs) * H, I), gates stacked in the declared order, then inputs; `weight_hh`
        (gates * H, K), where K is the width of what U multiplies, for a diagonal U (gates * H,), in blocks
        (heads, gates * H / heads, K / heads); `bias`, or `bias_ih` and `bias_hh` where the cell declares two; then
        vectors and matrices.
        """
        H, G = hidden_size, len(self.gates)
        rows = (G + len(self.inputs)) * H
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size)}
        if G:
            shapes["weight_hh"] = self._shape_of_u(H, self.use(H).operand)
        if self.biases:
            shapes["bias_ih" if self.biases == 2 else "bias"] = (rows,)
        if self.biases == 2 and G:
            shapes["bias_hh"] = (G * H,)
        shapes |= {v.name: (self.size(v.width, H),) for v in self.vectors}
        shapes |= {m.name: (self.size(m.rows, H), self.size(m.columns, H)) for m in self.matrices}
        return shapes

    def _shape_of_u(self, H: int, K: int) -> tuple[int, ...]:
        G = len(self.gates)
        if self.recurrent == "diagonal":
            if K != H:
                check.fail(self.name, f"a diagonal U multiplies {H} values, not {K}")
            return (G * H,)
        if self.recurrent == "blocks":
            heads = self.size("heads", H)
            if H % heads or K % heads:
                check.fail(self.name, f"{H if H % heads else K} units cannot be shared out among {heads} heads")
            return (heads, G * H // heads, K // heads)
        return (G * H, K)

    def constant_values(self, hidden_size: int) -> dict[str, Tensor]:
        """The untrained constants of one layer."""
        return {name: check.made(self, name, make, hidden_size) for name, make in self.constants.items()}

    def mask_of_u(self, hidden_size: int) -> Tensor | None:
        """The mask of zeros and ones that is laid over each gate's U, (H, K), where the cell declares one."""
        if not callable(self.recurrent):
            return None
        mask, expected = (
            check.made(self, "recurrent", self.recurrent, hidden_size),
            (hidden_size, self.use(hidden_size).operand),
        )
        if tuple(mask.shape) != expected:
            check.fail(self.name, f"the mask of U should be {expected}, but is {tuple(mask.shape)}")
        return mask


def cell(
    body: Callable[..., Any] | None = None,
    /,
    *,
    state: str = "",
    gates: str = "",
    inputs: str = "",
    vectors: str = "",
    matrices: Mapping[str, tuple[Size, Size]] | None = None,
    constants: Mapping[str, Callable[..., Tensor]] | None = None,
    biases: Biases = 1,
    recurrent: Recurrence = "dense",
    start: Mapping[str, Start] | None = None,
    chrono: str = "",
) -> Callable[[Callable[..., Any]], Cell]:
    """Declare a cell; the decorated function is its equations (see the module's text for what it is given).

    Args:
        state: Names of the state's fields, the first being what the layer puts out: "h c". A field of another width
            than hidden_size says so after a colon: "h:proj_size c" by an option's name, "h:2H" by a multiple. A field
            of a fixed width, "t:1", is bookkeeping such as a count of steps: zoneout spares it, and it is not learnt.
        gates: Names of the net inputs that have W, U and b, stacked in this order: "i f g o".
        inputs: Names of the net inputs that have W and b only.
        vectors: Names of parameters of one number a unit, (H,): "v_i v_f v_o"; other widths as in a state: "a:4H".
        matrices: Further matrices by name with their (rows, columns); a size is a number, "H", "4H" or an option's
            name.
        constants: Untrained constants by name, each a function `(hidden_size, **options) -> Tensor`.
        biases: 0, 1 (one for W x + U h), 2 (one for each, as PyTorch's cells have it), or "apart": one that is in no
            net input's parts, for a body that adds it itself, `z.g.b`.
        recurrent: How U multiplies: "dense", "diagonal", "blocks" (block-diagonal by head; needs an option `heads`),
            or a function `(hidden_size, **options) -> mask` of zeros and ones, (H, H), laid over a dense U.
        start: Where a parameter or state field begins, other than by default: keys "W", "U", "b" (all gates), "W_g",
            "U_g", "b_g" (one gate), a vector, matrix or state field by name; values a number, the name of an option
            that holds one, a named initialisation ("identity", "orthogonal", …), or a function from a shape to values.
        chrono: The gates that hold the memory open, for chrono initialisation (Tallec & Ollivier 2018): "f -i" where f
            keeps the old state and i admits the new.

    Raises:
        CellError: A declaration that contradicts itself.
    """
    if body is not None:
        raise CellError('cell: it is called with a declaration, @cell(state="h", gates="h"), and that with the body')
    texts = {"state": state, "gates": gates, "inputs": inputs, "vectors": vectors, "chrono": chrono}
    check.arguments(texts, {"matrices": matrices, "constants": constants, "start": start})

    def declare(body: Callable[..., Any]) -> Cell:
        if not callable(body):
            raise CellError(f"cell: a function (z, s) or (z, s, p) is expected as its body, not {body!r}")
        name = body.__name__.strip("<>")  # of <lambda>
        starts, sizes = dict(start or {}), dict(matrices or {})
        fields = state_fields(state, starts)
        others = {key: value for key, value in starts.items() if key not in {f.name for f in fields}}
        return Cell(
            name=name,
            body=body,
            fields=fields,
            gates=tuple(gates.split()),
            inputs=tuple(inputs.split()),
            vectors=tuple(Vector(name, width) for name, width in _names_and_widths(vectors)),
            matrices=tuple(Matrix(key, *check.pair(name, key, size)) for key, size in sizes.items()),
            constants=MappingProxyType(dict(constants or {})),
            biases=biases,
            recurrent=recurrent,
            start=MappingProxyType(others),
            chrono=tuple(chrono.split()),
            options=MappingProxyType(check.options(name, body)),
        )

    return declare


def state_fields(state: str, starts: Mapping[str, Start] | None = None) -> tuple[StateField, ...]:
    """The fields that a declaration such as "h:proj_size c" names, with their first values."""
    return tuple(StateField(name, width, (starts or {}).get(name, 0.0)) for name, width in _names_and_widths(state))


def _names_and_widths(declared: str) -> list[tuple[str, Size]]:
    """The names, each with its width, in a declaration such as "h:proj_size c"."""
    parts = [one.partition(":") for one in declared.split()]
    return [(name, int(width) if width.isdecimal() else width if colon else "H") for name, colon, width in parts]


@functools.cache
def _record(name: str, fields: tuple[str, ...]) -> Any:
    """A named tuple. It is made at run time, so its values say how they are to be made again."""
    made = namedtuple(name, fields)
    made.__reduce__ = lambda self: (_restored_record, (name, fields, tuple(self)))
    return made


def _restored_record(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return _record(name, fields)(*values)


def _declared(module: str, name: str) -> Cell | None:
    """The cell that stands under a name of a module."""
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
    except (AttributeError, ImportError):
        return None
    return found if isinstance(found, Cell) else None


def _restored(module: str, name: str, options: dict[str, Any]) -> Cell:
    declared = _declared(module, name)
    if declared is None:
        raise pickle.UnpicklingError(f"module {module} has no cell {name!r}")
    return declared(**options)
