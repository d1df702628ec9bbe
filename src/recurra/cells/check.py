"""What is checked of a cell: its declaration when it is made, its body when a layer is built of it.

The body is run once on tensors of two rows, with stand-ins for `z` and `p` that note what is asked of them. So a name
that is not declared, a declaration without use and a state of the wrong shape are told of before any training, and
the engine knows which products each net input needs.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from keyword import iskeyword
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import Tensor, nn

from recurra.cells.terms import LinearMap, NetInput
from recurra.errors import CellError, unknown
from recurra.math import ACTIVATIONS

if TYPE_CHECKING:
    from recurra.cells.form import Cell, Stateful

MULTIPLE_OF_H = re.compile(r"(\d*)H")

INITIALISATIONS = ("xavier", "orthogonal", "identity", "uniform", "unit", "normal", "zeros", "ones")
"""The initialisations a `start` entry can name (`recurra.nn.initialise` carries them out)."""

KINDS_OF_U = ("dense", "diagonal", "blocks")

KINDS_OF_BIAS = (0, 1, 2, "apart")

RESERVED = ("weight_ih", "weight_hh", "bias", "bias_ih", "bias_hh", "mask_hh", "weight_skip", "bias_skip")
"""Names that a layer gives to its own parameters."""

FAULTS_OF_CODE = (ArithmeticError, AttributeError, LookupError, NameError, RuntimeError, TypeError, ValueError)
"""What a mistake in a person's own lines raises; it is told again as a `CellError` that names the cell and the line."""


class OptionError(CellError):
    """An option of a cell whose value its equations cannot have."""


@dataclass(frozen=True)
class Use:
    """How a body takes its net inputs.

    Attributes:
        whole: Gates taken as `z.g`.
        of_state: Gates whose U multiplies the state itself: taken as `z.g` or `z.g.h`.
        parts: Gates taken as `z.g.x` or `z.g.h`.
        called: Gates taken as `z.g(v)`.
        operand: Width K of what U multiplies.
    """

    whole: frozenset[str]
    of_state: frozenset[str]
    parts: frozenset[str]
    called: frozenset[str]
    operand: int


def fail(cell: str, text: str) -> NoReturn:
    """Raise the error of the cell of this name."""
    raise CellError(f"cell {cell!r}: {text}")


# --- the declaration ------------------------------------------------------------------------------------------------


def arguments(texts: Mapping[str, Any], mappings: Mapping[str, Any]) -> None:
    """Check the kinds of what a cell is declared with.

    Raises:
        CellError: One is of another kind, a list of names instead of a text, say.
    """
    for name, value in texts.items():
        if not isinstance(value, str):
            raise CellError(f"cell: {name}: names in one text are expected, such as {name}='a b', not {value!r}")
        if "," in value:
            raise CellError(f"cell: {name}: names are separated by spaces, not commas: {value!r}")
    for name, value in mappings.items():
        if value is not None and not isinstance(value, Mapping):
            raise CellError(f"cell: {name}: a mapping by name is expected, {{name: …}}, not {value!r}")
    for name, value in (mappings.get("constants") or {}).items():
        if not callable(value):
            kind = type(value).__name__
            raise CellError(f"cell: constant {name!r}: a function (hidden_size, **options) is expected, not {kind}")


def options(name: str, body: Callable[..., Any]) -> dict[str, Any]:
    """The options of a body: its keyword-only arguments and their defaults."""
    found = {}
    for p in inspect.signature(body).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            if p.default is p.empty:
                fail(name, f"option {p.name!r} has no default")
            found[p.name] = p.default
    return found


def positional(body: Callable[..., Any]) -> int:
    """How many positional arguments a body takes: 2 for (z, s), 3 for (z, s, p)."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in kinds for p in inspect.signature(body).parameters.values())


def pair(cell: str, name: str, size: Any) -> tuple[Any, Any]:
    """The (rows, columns) that a matrix is declared with."""
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        fail(cell, f"matrix {name!r}: (rows, columns) is expected, not {size!r}")
    return size[0], size[1]


def option(cell: "Cell", name: str, value: Any) -> Any:
    """The value of an option, if the cell has it and it can have that value; activations may be named."""
    if name not in cell.options:
        fail(cell.name, unknown("option", name, cell.options))
    default = cell.options[name]
    if name in cell.sizes:
        _check_size(cell, f"option {name!r}", value)
    if callable(default) and not callable(value):
        if not isinstance(value, str) or value not in ACTIVATIONS:
            fail(cell.name, f"option {name!r}: " + unknown("function", str(value), ACTIVATIONS))
        return ACTIVATIONS[value]
    if isinstance(default, tuple) and isinstance(value, (tuple, list)):
        return tuple(value)
    if isinstance(value, float) and math.isnan(value):
        fail(cell.name, f"option {name!r}: a number is expected, not nan")
    kinds = ((bool, "True or False"), ((int, float), "a number"), (str, "a name"), (tuple, "a tuple"))
    for kind, words in kinds:
        if isinstance(default, kind) and name not in cell.sizes:
            if not isinstance(value, kind) or isinstance(value, bool) != isinstance(default, bool):
                fail(cell.name, f"option {name!r}: {words} is expected, not {value!r}")
            break
    return value


def state(form: "Stateful") -> None:
    """Check the declaration of a state.

    Raises:
        CellError: It contradicts itself.
    """
    names = [f.name for f in form.fields]
    if not names:
        fail(form.name, 'a state is expected, such as state="h"')
    _check_names(form.name, names)
    for f in form.fields:
        _check_size(form, f"state field {f.name!r}", f.width)
        if not isinstance(form.value(f.start), (int, float)):
            fail(form.name, f"state field {f.name!r} starts at a number or an option with one, not {f.start!r}")


def declaration(cell: "Cell") -> None:
    """Check the rest of a cell's declaration.

    Raises:
        CellError: It contradicts itself.
    """
    gates, further = [*cell.gates, *cell.inputs], [p.name for p in (*cell.vectors, *cell.matrices)]
    if not gates:
        fail(cell.name, 'at least one net input is expected, such as gates="h"')
    _check_names(cell.name, gates)
    letters = [*"WUb", *(f"{letter}_{gate}" for letter in "WUb" for gate in gates)]
    fields = [f.name for f in cell.fields]
    for name in (*further, *cell.constants, *fields):
        if name in letters:  # which `start` would not know apart
            fail(cell.name, f"{name!r} is the name of a W, U or b of its net inputs; another one is needed")
    _check_names(cell.name, [*further, *cell.constants, *fields])
    without_u = [f"U_{gate}" for gate in cell.inputs] + ([] if cell.gates else ["U"])
    without_b = [] if cell.biases else [name for name in letters if name[0] == "b"]
    _check_start(cell, [name for name in (*letters, *further, *fields) if name not in (*without_u, *without_b)])

    if positional(cell.body) not in (2, 3):
        fail(cell.name, "its body takes (z, s) or (z, s, p), and options as keyword-only arguments")
    if cell.biases not in KINDS_OF_BIAS or isinstance(cell.biases, bool):
        fail(cell.name, f"biases is 0, 1, 2 or 'apart', not {cell.biases!r}")
    if not callable(cell.recurrent) and cell.recurrent not in KINDS_OF_U:
        fail(cell.name, unknown("kind of U", str(cell.recurrent), KINDS_OF_U))
    if cell.recurrent != "dense" and not cell.gates:
        fail(cell.name, "recurrent says how U multiplies, and without gates there is none")
    if cell.recurrent == "blocks":
        _check_size(cell, "recurrent='blocks'", "heads")
    for v in cell.vectors:
        _check_size(cell, f"vector {v.name!r}", v.width)
    for m in cell.matrices:
        _check_size(cell, f"matrix {m.name!r}", m.rows)
        _check_size(cell, f"matrix {m.name!r}", m.columns)
    for gate in cell.chrono:
        if gate.removeprefix("-") not in gates:
            fail(cell.name, "chrono: " + unknown("gate", gate.removeprefix("-"), gates))
        if not cell.biases:
            fail(cell.name, "chrono sets biases, and it has none")


def _check_start(cell: "Cell", names: list[str]) -> None:
    for key, start in cell.start.items():
        if key not in names:
            fail(cell.name, "start: " + unknown("parameter or state field", key, names))
        check_initialisation(cell, f"start of {key!r}", cell.value(start), [*INITIALISATIONS, *cell.options])


def check_initialisation(cell: "Cell", what: str, value: Any, known: Sequence[str] = INITIALISATIONS) -> None:
    """Check that a value is a number, a named initialisation, which may be scaled, or a function from a shape.

    Raises:
        CellError: It is something else.
    """
    if isinstance(value, str):
        try:
            name, _ = name_and_factor(value)
        except ValueError as error:
            fail(cell.name, f"{what}: {error}")
        if name not in INITIALISATIONS:
            fail(cell.name, f"{what}: " + unknown("initialisation", name, known))
    if isinstance(value, bool) or not (isinstance(value, (int, float, str)) or callable(value)):
        fail(cell.name, f"{what}: a number or a named initialisation is expected, not {value!r}")


def name_and_factor(start: str) -> tuple[str, float]:
    """The name and the factor of a named initialisation, "orthogonal*1.2"; the factor is 1 where there is none.

    Raises:
        ValueError: What stands behind the * is no number.
    """
    name, times, text = start.partition("*")
    try:
        factor = float(text) if times else 1.0
    except ValueError:
        factor = math.nan
    if not math.isfinite(factor):
        raise ValueError(f"{start!r}: a number is expected behind the *, such as 'orthogonal*1.2'")
    return name.strip(), factor


def _check_names(cell: str, names: list[str]) -> None:
    """Names that Python and the layer allow, each once."""
    for i, name in enumerate(names):
        if not name.isidentifier() or iskeyword(name) or name.startswith("_"):
            fail(cell, f"{name!r} is not a name that Python allows for an attribute")
        if name in RESERVED or name.startswith("initial_"):
            fail(cell, f"{name!r} is a name of the layer's own; another one is needed")
        if name in names[:i]:
            fail(cell, f"{name!r} is declared twice")


def _check_size(form: "Stateful", what: str, size: Any) -> None:
    """A size is a whole number, a multiple of H, or the name of an option that holds one of these."""
    if isinstance(size, str) and not MULTIPLE_OF_H.fullmatch(size):
        if size not in form.options:
            fail(form.name, f"{what}: " + unknown("size", size, ["H", *form.options]) + " (H is hidden_size)")
        size, what = form.options[size], f"{what}: option {size!r}"
    multiple = MULTIPLE_OF_H.fullmatch(size) if isinstance(size, str) else None
    number = int(multiple[1] or 1) if multiple else size
    if not isinstance(number, int) or isinstance(number, bool) or number < 1:
        fail(form.name, f"{what}: a whole number above 0, or 'H' for hidden_size, is expected, not {size!r}")


# --- the body -------------------------------------------------------------------------------------------------------


def use(cell: "Cell", hidden_size: int) -> Use:
    """Run the body once on tensors of two rows and see how it takes its net inputs; see `Cell.use`."""
    H = hidden_size
    for name, value in cell.options.items():
        own = next(value.parameters(), None) if isinstance(value, nn.Module) else None
        if own is not None:
            kind = type(value).__name__
            fail(cell.name, f"option {name!r}: {kind} has parameters, which would not be trained; declare `vectors`")
    state = cell.state_type(*(torch.full((2, width), 0.5) for width in cell.widths(H)))
    notes = _Notes(cell, state[0].shape[-1])
    values: dict[str, Any] = {v.name: torch.full((cell.size(v.width, H),), 0.5) for v in cell.vectors}
    values |= cell.constant_values(H)
    for m in cell.matrices:
        values[m.name] = LinearMap(torch.full((cell.size(m.rows, H), cell.size(m.columns, H)), 0.5))
    p = _Asked("parameter", values)
    z = _Asked("net input", {gate: _Noted(gate, torch.full((2, H), 0.5), notes) for gate in notes.ways})
    _check_new_state(cell, state, _run(cell, z, state, p))

    ways = notes.ways
    idle = [f"z.{gate}" for gate in ways if not ways[gate]]
    idle += [f"p.{name}" for name in values if name not in p._asked]
    if idle:
        fail(cell.name, f"declared, but never used in its body: {', '.join(idle)}")
    without_b = [gate for gate in ways if cell.biases == "apart" and ways[gate] <= {".x", ".h"}]
    if without_b:
        fail(cell.name, f"its biases are apart, but z.{without_b[0]}.b is never used")
    without_u = [gate for gate in cell.gates if ways[gate] <= {".x", ".b"}]
    if without_u:
        fail(cell.name, f"U_{without_u[0]} is never used; a net input without U is declared in `inputs`")
    if len(notes.operands) > 1:
        widths = " and ".join(map(str, sorted(notes.operands)))
        fail(cell.name, f"its gates share one stacked U, but what they multiply has widths {widths}")
    return Use(
        whole=frozenset(gate for gate in cell.gates if "" in ways[gate]),
        of_state=frozenset(gate for gate in cell.gates if ways[gate] & {"", ".h"}),
        parts=frozenset(gate for gate in cell.gates if ways[gate] & {".x", ".h", ".b"}),
        called=frozenset(gate for gate in cell.gates if "(v)" in ways[gate]),
        operand=notes.operands.pop() if notes.operands else H,
    )


def made(cell: "Cell", name: str, make: Callable[..., Tensor], hidden_size: int) -> Tensor:
    """The constant that a function of (hidden_size, **options) makes."""
    try:
        value = make(hidden_size, **cell.options)
    except FAULTS_OF_CODE as error:
        _tell_option(cell, error)
        raise CellError(f"cell {cell.name!r}, {name!r}: {type(error).__name__}: {error}") from error
    if not isinstance(value, Tensor):
        fail(cell.name, f"{name!r} should make a tensor, not {type(value).__name__}")
    return value


def _run(cell: "Cell", z: Any, state: Any, p: Any) -> tuple[Any, ...]:
    try:
        with torch.no_grad():
            return cell.step(z, state, p)
    except FAULTS_OF_CODE as error:
        _tell_option(cell, error)
        text = str(error) if isinstance(error, _MisuseError) else f"{type(error).__name__}: {error}"
        if isinstance(error, AttributeError) and error.obj is state:
            text = unknown("state field", str(error.name), state._fields)
        raise CellError(_where(cell, error) + text) from error


def _tell_option(cell: "Cell", error: Exception) -> None:
    """Raise OptionError where a cell's own ValueError begins with the name of an option: "longest: …"."""
    option, colon, said = str(error).partition(": ")
    if isinstance(error, ValueError) and colon and option in cell.options:
        raise OptionError(f"cell {cell.name!r}: option {option!r}: {said}") from error


def _where(cell: "Cell", error: Exception) -> str:
    """The cell and the line of its body in which an error arose."""
    code, trace, line = getattr(cell.body, "__code__", None), error.__traceback__, None
    while trace is not None:
        line = trace.tb_lineno if trace.tb_frame.f_code is code else line
        trace = trace.tb_next
    place = f" ({Path(code.co_filename).name}, line {line})" if code and line else ""
    return f"cell {cell.name!r}{place}: "


def _check_new_state(cell: "Cell", old: Any, new: tuple[Any, ...]) -> None:
    if len(new) != len(old):
        fields = ", ".join(old._fields)
        fail(cell.name, f"its body returns {len(new)} value(s); its state has {len(old)} field(s): {fields}")
    for f, before, value in zip(cell.fields, old, new, strict=True):
        found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        if found != tuple(before.shape):
            width = before.shape[-1]
            fail(cell.name, f"its new {f.name!r} should be (B, {width}), here (2, {width}), but is {found}")
        if value.dtype != before.dtype:
            fail(
                cell.name, f"its new {f.name!r} should be of the type of the old, {before.dtype}, but is {value.dtype}"
            )


class _MisuseError(RuntimeError):
    """What a body asks of `z` or `p` that they do not have."""


class _Notes:
    """In which ways a body takes its net inputs, and how wide what U multiplies is."""

    def __init__(self, cell: "Cell", state_width: int) -> None:
        self.cell, self.state_width = cell, state_width
        self.ways: dict[str, set[str]] = {gate: set() for gate in (*cell.gates, *cell.inputs)}
        self.operands: set[int] = set()

    def add(self, gate: str, way: str, operand: Tensor | None = None) -> None:
        """Note that `z.<gate><way>` was taken."""
        if way == ".b" and self.cell.biases != "apart":
            raise _MisuseError(f"z.{gate}.b: a bias stands alone only where a cell declares biases='apart'")
        parts = (".h", "(v)") if self.cell.biases == "apart" else (".x", ".h", "(v)")
        if way in parts and gate in self.cell.inputs:
            raise _MisuseError(f"z.{gate}{way}: {gate!r} is declared in `inputs`, so it has no U")
        if operand is not None and operand.dim() != 2:
            raise _MisuseError(f"z.{gate}(v): v is (B, K), not {tuple(operand.shape)}")
        if way not in (".x", ".b") and gate in self.cell.gates:
            self.operands.add(self.state_width if operand is None else operand.shape[-1])
        self.ways[gate].add(way)


class _Noted(NetInput):
    """Stands for a net input and notes how it is taken."""

    __slots__ = ("_gate", "_notes", "_value")

    def __init__(self, gate: str, value: Tensor, notes: _Notes) -> None:
        super().__init__(value, value, lambda operand, added: self._take("(v)", operand), value[0])
        self._gate, self._value, self._notes = gate, value, notes

    def _take(self, way: str, operand: Tensor | None = None) -> Tensor:
        self._notes.add(self._gate, way, operand)
        return self._value

    @property
    def x(self) -> Tensor:
        return self._take(".x")

    @property
    def h(self) -> Tensor:
        return self._take(".h")

    @property
    def b(self) -> Tensor:
        self._take(".b")
        return self._value[0]

    @property
    def whole(self) -> Tensor:
        return self._take("")


class _Asked:
    """Values by name; offers the nearest name for one that is not there, and notes which are asked for."""

    def __init__(self, kind: str, values: Mapping[str, Any]) -> None:
        self._kind, self._values, self._asked = kind, values, set()

    def __getattr__(self, name: str) -> Any:
        if name not in self._values:
            raise _MisuseError(unknown(self._kind, name, self._values))
        self._asked.add(name)
        return self._values[name]
