"""The form of a cell: what it declares, and the few lines of Python that are its equations.

    @cell(state="h c", gates="i f g o", start={"b_f": "forget_bias"})
    def lstm(z, s, *, forget_bias=1.0):
        i, f, o = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o)
        c = f * s.c + i * tanh(z.g)
        return o * tanh(c), c

The body is ordinary tensor code for one step of a batch. It is given

- `z`, the net inputs: `z.g` is `W_g x_t + U_g h_(t-1) + b_g`, (B, H); `z.g(v)` puts `v` in the place of `h_(t-1)`;
  `z.g.x` and `z.g.h` are its two parts, `W_g x_t + b_g` and `U_g h_(t-1)` (plus a bias of its own where the cell
  declares two);
- `s`, the old state, a field each: `s.h`, `s.c`;
- `p`, where the body asks for it: the cell's further parameters and constants: `p.v_i`, `p.W_hr`;
- its options, keyword-only arguments with a default.

It returns the new state, one tensor a field in the order declared. A cell knows nothing of time, lengths, masks,
layers, directions, dropout, devices or learning rules.
"""

import inspect
from collections import namedtuple
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType, SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from recurra.errors import CellError, unknown
from recurra.math import ACTIVATIONS

Start = float | str
"""How a parameter or state field begins: a number, the name of an option that holds it, or a named initialisation."""

INITIALISATIONS = ("xavier", "orthogonal", "identity", "uniform", "normal", "zeros", "ones")
"""The initialisations a `start` entry can name (`recurra.nn.initialise` carries them out)."""

Recurrence = Literal["dense", "diagonal", "blocks"]


@dataclass(frozen=True)
class StateField:
    """One part of the state: its name, width (None: hidden_size; a number; or an option's name) and first value."""

    name: str
    width: str | int | None
    start: Start


@dataclass(frozen=True)
class Matrix:
    """A further matrix, (rows, columns); a size is "H", "I", a number, or an option's name."""

    name: str
    rows: str | int
    columns: str | int


@dataclass(frozen=True)
class Use:
    """How the body uses its gates, found by running it once on small tensors.

    Attributes:
        plain: Gates taken as `z.g`.
        halves: Gates of which `z.g.h` is taken.
        called: Gates taken as `z.g(v)`.
        operand: Width of what U multiplies.
    """

    plain: frozenset[str]
    halves: frozenset[str]
    called: frozenset[str]
    operand: int


@dataclass(frozen=True)
class Cell:
    """A recurrent cell: declarations and equations. Made by `recurra.cell`.

    Call it with options to get the same cell with other options: `cells.elman(activation=relu)`.
    """

    name: str
    body: Callable[..., Any]
    fields: tuple[StateField, ...]
    gates: tuple[str, ...]
    inputs: tuple[str, ...] = ()
    vectors: tuple[str, ...] = ()
    matrices: tuple[Matrix, ...] = ()
    constants: Mapping[str, Callable[..., Tensor]] = field(default_factory=dict)
    biases: int = 1
    recurrent: Recurrence | Callable[..., Tensor] = "dense"
    start: Mapping[str, Start] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state_type", namedtuple(f"{self.name}_state", [f.name for f in self.fields]))
        object.__setattr__(self, "_takes_parameters", len(_positional(self.body)) == 3)

    state_type: type = field(init=False, repr=False, compare=False)
    _takes_parameters: bool = field(init=False, repr=False, compare=False)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        """The equations' own docstring."""
        return self.body.__doc__

    def __call__(self, **options: Any) -> "Cell":
        """The same cell with other options.

        Raises:
            CellError: An option that the cell does not have, or a value that it cannot have.
        """
        for name, value in options.items():
            if name not in self.options:
                raise CellError(f"cell {self.name!r}: " + unknown("option", name, self.options))
            options[name] = _checked_option(self, name, value)
        return replace(self, options=MappingProxyType({**self.options, **options}))

    def step(self, z: Any, s: Any, p: Any) -> tuple[Tensor, ...]:
        """One step of the equations: the new state as a plain tuple in the order of the fields."""
        new = self.body(z, s, p, **self.options) if self._takes_parameters else self.body(z, s, **self.options)
        return (new,) if isinstance(new, Tensor) else tuple(new)

    def widths(self, hidden_size: int) -> tuple[int, ...]:
        """The width of each state field."""
        return tuple(hidden_size if f.width is None else self.size(f.width, hidden_size) for f in self.fields)

    def size(self, symbol: str | int, hidden_size: int, input_size: int = 0) -> int:
        """What a declared size stands for: a number, "H", "I", or an option that holds a number."""
        if isinstance(symbol, int):
            return symbol
        value = {"H": hidden_size, "I": input_size}.get(symbol, self.options.get(symbol))
        if not isinstance(value, int) or value < 1:
            raise CellError(f"cell {self.name!r}: option {symbol!r} is a size: a whole number above 0, not {value!r}")
        return value

    def value(self, start: Start) -> float | str:
        """A `start` entry with an option's name replaced by what the option holds."""
        return self.options[start] if isinstance(start, str) and start in self.options else start

    def initial_state(self, batch: int, hidden_size: int, like: Tensor) -> tuple[Tensor, ...]:
        """The state before the first step, each field (B, width), on the device and of the type of `like`."""
        return tuple(
            like.new_full((batch, width), float(self.value(f.start)))
            for f, width in zip(self.fields, self.widths(hidden_size), strict=True)
        )

    def use(self, hidden_size: int) -> Use:
        """Run the body once on small tensors: checks it, and finds how it uses its gates.

        Raises:
            CellError: The body asks for something undeclared, leaves a declared gate unused, or returns another
                number of fields, or other widths, than it declares.
        """
        return _probe(self, hidden_size)

    def shapes(self, input_size: int, hidden_size: int) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter of one layer and direction.

        `weight_ih` ((G + inputs) * H, I), gates stacked in the declared order, those without U last; `weight_hh`
        (G * H, K), for a diagonal U (G * H,), in blocks (heads, G * H / heads, K / heads); `bias`, or `bias_ih` and
        `bias_hh` where the cell declares two; then vectors (H,) and matrices.
        """
        H, G = hidden_size, len(self.gates)
        rows = (G + len(self.inputs)) * H
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, input_size)}
        if G:
            operand = self.use(H).operand
            if self.recurrent == "diagonal":
                if operand != H:
                    raise CellError(f"cell {self.name!r}: a diagonal U needs an operand of width {H}, not {operand}")
                shapes["weight_hh"] = (G * H,)
            elif self.recurrent == "blocks":
                heads = self.size("heads", H)
                if H % heads or operand % heads:
                    raise CellError(f"cell {self.name!r}: hidden_size {H} is not a multiple of its {heads} heads")
                shapes["weight_hh"] = (heads, G * H // heads, operand // heads)
            else:
                shapes["weight_hh"] = (G * H, operand)
        if self.biases == 2:
            shapes |= {"bias_ih": (rows,), "bias_hh": (G * H,)}
        elif self.biases == 1:
            shapes["bias"] = (rows,)
        shapes |= dict.fromkeys(self.vectors, (H,))
        for m in self.matrices:
            shapes[m.name] = (self.size(m.rows, H, input_size), self.size(m.columns, H, input_size))
        return shapes

    def constant_values(self, hidden_size: int) -> dict[str, Tensor]:
        """The untrained constants of one layer."""
        return {name: make(hidden_size, **self.options) for name, make in self.constants.items()}


def cell(
    *,
    state: str,
    gates: str = "",
    inputs: str = "",
    vectors: str = "",
    matrices: Mapping[str, tuple[str | int, str | int]] | None = None,
    constants: Mapping[str, Callable[..., Tensor]] | None = None,
    biases: int = 1,
    recurrent: Recurrence | Callable[..., Tensor] = "dense",
    start: Mapping[str, Start] | None = None,
) -> Callable[[Callable[..., Any]], Cell]:
    """Declare a cell; the decorated function is its equations (see the module's text for what it is given).

    Args:
        state: Names of the state's fields, the first being what the layer puts out: "h c". A field of another width
            than hidden_size says so after a colon: "h:proj_size c" (an option's name or a number).
        gates: Names of the net inputs that have W, U and b, stacked in this order: "i f g o".
        inputs: Names of the net inputs that have W and b only.
        vectors: Names of parameters of one number a unit, (H,): "v_i v_f v_o".
        matrices: Further matrices by name with their (rows, columns); a size is "H", "I", a number or an option's name.
        constants: Untrained constants by name, each a function `(hidden_size, **options) -> Tensor`.
        biases: 0, 1 (one for W x + U h) or 2 (one for each, as PyTorch's cells have it).
        recurrent: How U multiplies: "dense", "diagonal", "blocks" (block-diagonal by head; needs an option `heads`),
            or a function `(hidden_size, **options) -> (H, H) mask` of zeros and ones laid over a dense U.
        start: Where a parameter or state field begins, other than by default: keys "W", "U", "b" (all gates), "W_g",
            "U_g", "b_g" (one gate), a vector, matrix or state field by name; values a number, the name of an option
            that holds one, or a named initialisation ("identity", "orthogonal", …).

    Raises:
        CellError: A declaration that contradicts itself.
    """

    def declare(body: Callable[..., Any]) -> Cell:
        name = body.__name__
        where = f"cell {name!r}: "
        if not 2 <= len(_positional(body)) <= 3:
            raise CellError(where + "its body takes (z, s) or (z, s, p), and options as keyword-only arguments")
        options = _options(body, where)
        starts = dict(start or {})
        fields = []
        for text in state.split():
            field_name, _, width = text.partition(":")
            fields.append(
                StateField(
                    field_name,
                    (int(width) if width.isdigit() else width) or None,
                    starts.pop(field_name, 0.0),
                )
            )
        made = Cell(
            name=name,
            body=body,
            fields=tuple(fields),
            gates=tuple(gates.split()),
            inputs=tuple(inputs.split()),
            vectors=tuple(vectors.split()),
            matrices=tuple(Matrix(key, *size) for key, size in (matrices or {}).items()),
            constants=MappingProxyType(dict(constants or {})),
            biases=biases,
            recurrent=recurrent,
            start=MappingProxyType(starts),
            options=MappingProxyType(options),
        )
        _check_declaration(made, where)
        return made

    return declare


class NetInput:
    """The net input of one gate: a tensor that can also be called with another operand, or taken in its two parts."""

    __slots__ = ("_call", "_half", "_x")

    def __init__(self, x: Tensor, half: Callable[[], Tensor] | None, call: Callable[[Tensor], Tensor] | None) -> None:
        # A half or call that the body never uses (`Cell.use` has found out) is not made ready, and is None.
        self._x, self._half, self._call = x, half, call

    def __call__(self, operand: Any) -> Tensor:
        """`W_g x_t + U_g operand + b_g`."""
        assert self._call is not None
        return self._x + self._call(_plain(operand))

    @property
    def x(self) -> Tensor:
        """`W_g x_t`, with the first bias."""
        return self._x

    @property
    def h(self) -> Tensor:
        """`U_g h_(t-1)`, with the second bias where the cell declares two."""
        assert self._half is not None
        return self._half()

    @property
    def tensor(self) -> Tensor:
        """The whole net input, (B, H)."""
        return self._x + self.h

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Let PyTorch's functions take the net input for the tensor that it stands for."""
        args, kwargs = torch.utils._pytree.tree_map(_plain, (args, kwargs or {}))
        return func(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.tensor, name)


def _plain(value: Any) -> Any:
    return value.tensor if isinstance(value, NetInput) else value


def _operator(name: str) -> Callable[..., Any]:
    def apply(self: NetInput, *others: Any) -> Any:
        return getattr(self.tensor, name)(*map(_plain, others))

    return apply


for _name in (
    "add",
    "radd",
    "sub",
    "rsub",
    "mul",
    "rmul",
    "truediv",
    "rtruediv",
    "pow",
    "rpow",
    "matmul",
    "rmatmul",
):
    setattr(NetInput, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("neg", "abs", "lt", "le", "gt", "ge", "getitem"):
    setattr(NetInput, f"__{_name}__", _operator(f"__{_name}__"))


def _positional(body: Callable[..., Any]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p for p in inspect.signature(body).parameters.values() if p.kind in kinds]


def _options(body: Callable[..., Any], where: str) -> dict[str, Any]:
    options = {}
    for p in inspect.signature(body).parameters.values():
        if p.kind is inspect.Parameter.KEYWORD_ONLY:
            if p.default is inspect.Parameter.empty:
                raise CellError(where + f"option {p.name!r} has no default")
            options[p.name] = p.default
    return options


def _checked_option(cell: Cell, name: str, value: Any) -> Any:
    default = cell.options[name]
    if callable(default) and not callable(value):
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise CellError(f"cell {cell.name!r}, option {name!r}: " + unknown("function", str(value), ACTIVATIONS))
        return ACTIVATIONS[value]
    if isinstance(default, (int, float)) and not isinstance(value, (int, float)):
        raise CellError(f"cell {cell.name!r}, option {name!r}: a number is expected, not {value!r}")
    return value


def _check_declaration(cell: Cell, where: str) -> None:
    names = [*(f.name for f in cell.fields), *cell.gates, *cell.inputs]
    _unique(where, [f.name for f in cell.fields])
    _unique(where, [*cell.gates, *cell.inputs])
    _unique(where, [*cell.vectors, *(m.name for m in cell.matrices), *cell.constants])
    if not cell.fields:
        raise CellError(where + 'a state is expected, such as state="h"')
    if not cell.gates and not cell.inputs:
        raise CellError(where + 'at least one net input is expected, such as gates="h"')
    for name in [*names, *cell.vectors, *cell.constants, *(m.name for m in cell.matrices)]:
        if not name.isidentifier() or name.startswith("_"):
            raise CellError(where + f"{name!r} is not a name that Python allows for an attribute")
    if cell.biases not in (0, 1, 2):
        raise CellError(where + f"biases is 0, 1 or 2, not {cell.biases!r}")
    if isinstance(cell.recurrent, str) and cell.recurrent not in ("dense", "diagonal", "blocks"):
        raise CellError(where + unknown("kind of U", cell.recurrent, ("dense", "diagonal", "blocks")))
    if cell.recurrent == "blocks" and "heads" not in cell.options:
        raise CellError(where + 'recurrent="blocks" needs an option `heads`')
    for f in cell.fields:
        if isinstance(f.width, str) and f.width not in cell.options:
            raise CellError(
                where + f"state field {f.name!r}: " + unknown("width", f.width, [*cell.options, "a number"])
            )
        if isinstance(cell.value(f.start), str):
            raise CellError(where + f"state field {f.name!r} starts at a number or an option, not {f.start!r}")
    keys = [
        *"WUb",
        *(f"{letter}_{g}" for letter in "WUb" for g in cell.gates),
        *(f"{x}_{g}" for x in "Wb" for g in cell.inputs),
    ]
    keys += [*cell.vectors, *(m.name for m in cell.matrices)]
    for key, value in cell.start.items():
        if key not in keys:
            raise CellError(
                where + unknown("parameter or state field in start", key, [*keys, *(f.name for f in cell.fields)])
            )
        if isinstance(value, str) and value not in cell.options and value not in INITIALISATIONS:
            raise CellError(
                where + f"start of {key!r}: " + unknown("initialisation", value, [*INITIALISATIONS, *cell.options])
            )


def _unique(where: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise CellError(where + f"{name!r} is declared twice")
        seen.add(name)


def _probe(cell: Cell, hidden_size: int) -> Use:
    """Run the body on tensors of two rows, with net inputs that note how they are used."""
    where = f"cell {cell.name!r}: "
    B, H = 2, hidden_size
    like = torch.zeros(0)
    state = tuple(torch.full((B, width), 0.5) for width in cell.widths(H))
    used: dict[str, set[str]] = {g: set() for g in (*cell.gates, *cell.inputs)}
    operands: set[int] = set()

    class Probe(NetInput):
        __slots__ = ("gate",)

        @property
        def tensor(self) -> Tensor:
            used[self.gate].add("plain")
            if self.gate in cell.gates:
                operands.add(state[0].shape[-1])
            return like.new_full((B, H), 0.5)

    def probe(gate: str) -> NetInput:
        def half() -> Tensor:
            _has_recurrence(cell, gate, "h")
            used[gate].add("half")
            operands.add(state[0].shape[-1])
            return like.new_full((B, H), 0.5)

        def call(operand: Tensor) -> Tensor:
            _has_recurrence(cell, gate, "(v)")
            used[gate].add("called")
            operands.add(operand.shape[-1])
            return like.new_full((B, H), 0.5)

        made = Probe(like.new_full((B, H), 0.5), half, call)
        made.gate = gate
        return made

    z = Named("net input", where, {g: probe(g) for g in used})
    s = cell.state_type(*state)
    known = {name: like.new_full((H,), 0.5) for name in cell.vectors} | cell.constant_values(H)
    for m in cell.matrices:
        known[m.name] = like.new_full((cell.size(m.rows, H, 1), cell.size(m.columns, H, 1)), 0.5)
    try:
        with torch.no_grad():
            new = cell.step(z, s, Named("parameter", where, known))
    except AttributeError as error:
        if error.obj is s:
            raise CellError(where + unknown("state field", error.name, s._fields)) from error
        raise
    if len(new) != len(cell.fields):
        raise CellError(
            where + f"its body returns {len(new)} value(s); its state has {len(cell.fields)}: {', '.join(s._fields)}"
        )
    for f, old, value in zip(cell.fields, state, new, strict=True):
        if not isinstance(value, Tensor) or value.shape != old.shape:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise CellError(
                where + f"new {f.name!r} should be (B, {old.shape[1]}), here {tuple(old.shape)}, but is {found}"
            )
    idle = [g for g in cell.gates if not used[g]]
    if idle:
        raise CellError(where + f"declared net input(s) never used: {', '.join(idle)}")
    if len(operands) > 1:
        raise CellError(
            where + f"its gates share one stacked U, so their operands need one width; found {sorted(operands)}"
        )
    return Use(
        plain=frozenset(g for g in cell.gates if "plain" in used[g]),
        halves=frozenset(g for g in cell.gates if "half" in used[g]),
        called=frozenset(g for g in cell.gates if "called" in used[g]),
        operand=operands.pop() if operands else hidden_size,
    )


def _has_recurrence(cell: Cell, gate: str, wanted: str) -> None:
    if gate in cell.inputs:
        raise CellError(
            f"cell {cell.name!r}: z.{gate}{'.' if wanted == 'h' else ''}{wanted}: {gate!r} is declared in `inputs`, without U"
        )


class Named(SimpleNamespace):
    """Values by name whose missing names raise an error that offers the nearest one."""

    def __init__(self, kind: str, where: str, values: Mapping[str, Any]) -> None:
        super().__init__(**values)
        self.__dict__["_about"] = (kind, where)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        kind, where = self.__dict__["_about"]
        raise CellError(where + unknown(kind, name, [n for n in self.__dict__ if n != "_about"]))
