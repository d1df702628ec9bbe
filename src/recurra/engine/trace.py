"""Writes down what a cell's body does: the body is run once on values that keep account of it.

A body may use whatever `recurra.math` has, the operators, and PyTorch's functions of the same names. Anything else ends
the tracing with a `TraceError` that names it, and the cell runs step by step in ordinary tensor code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recurra.cells.check import MULTIPLE_OF_H
from recurra.cells.form import Cell, Size
from recurra.engine.program import Graph


class TraceError(RuntimeError):
    """Something in a body that cannot be written down as a program."""


@dataclass(frozen=True)
class Step:
    """A cell's step, written down.

    Attributes:
        graph: Every value.
        new: For each state field, the values that make it up, side by side.
        old: Likewise the old state.
    """

    graph: Graph
    new: dict[str, tuple[int, ...]]
    old: dict[str, tuple[int, ...]]


class Traced:
    """A value in a body that is being traced: one value of the graph, or several side by side in a row.

    Values that are wider than hidden_size are kept in parts of its width, so that the gates of a layer-normalised cell
    are as many values of one width, like everything else.
    """

    __slots__ = ("graph", "parts")

    def __init__(self, graph: Graph, parts: Sequence[int]) -> None:
        self.graph, self.parts = graph, tuple(parts)

    @property
    def shape(self) -> tuple[Any, int]:
        """Rows, of which nothing is known, and the numbers in a row."""
        return "rows", sum(self.graph[i].width for i in self.parts)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What PyTorch's functions and a tensor's operators do with traced values."""
        return called(func.__name__.strip("_"), *args, **(kwargs or {}))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: called(name, self, *args, **kwargs)


class TracedInput(Traced):
    """A net input: z.g, z.g.x, z.g.h, z.g.b, z.g(v).

    Args:
        graph: The graph.
        x: W_g x_t, with the bias that belongs to it.
        half: The values of U_g h_(t-1) and of the second bias, made when asked for; None without U.
        product: From an operand to the same with it in h's place.
        bias: b_g where it stands apart.
    """

    __slots__ = ("_bias", "_half", "_product", "_x")

    def __init__(
        self,
        graph: Graph,
        x: int,
        half: Callable[[], int] | None,
        product: Callable[[tuple[int, ...]], int] | None,
        bias: int | None,
    ) -> None:
        self.graph, self._x, self._half, self._product, self._bias = graph, x, half, product, bias

    @property
    def parts(self) -> tuple[int, ...]:  # type: ignore[override]
        """The whole net input."""
        whole = self._x if self._half is None else self.graph.apply("add", self._x, self._half())
        return (whole if self._bias is None else self.graph.apply("add", whole, self._bias),)

    def __call__(self, operand: Any) -> Traced:
        """With another operand for U."""
        assert self._product is not None
        x = self._x if self._bias is None else self.graph.apply("add", self._x, self._bias)
        return Traced(self.graph, [self.graph.apply("add", x, self._product(_parts(self.graph, operand)))])

    @property
    def x(self) -> Traced:
        """Its part from the input."""
        return Traced(self.graph, [self._x])

    @property
    def h(self) -> Traced:
        """Its part from the state."""
        assert self._half is not None
        return Traced(self.graph, [self._half()])

    @property
    def b(self) -> Traced:
        """Its bias, where it stands apart."""
        assert self._bias is not None
        return Traced(self.graph, [self._bias])


class TracedMatrix:
    """A matrix to multiply with, p.M @ v."""

    __slots__ = ("_graph", "_name", "_widths")

    def __init__(self, graph: Graph, name: str, widths: Sequence[int]) -> None:
        self._graph, self._name, self._widths = graph, name, widths

    def __matmul__(self, v: Any) -> Traced:
        operand = _parts(self._graph, v)
        if all(self._graph[i].fixed for i in operand):
            raise TraceError(f"it multiplies {self._name} with what is the same for all rows")
        found = [self._graph.product("M", self._name, operand, w, part=k) for k, w in enumerate(self._widths)]
        return Traced(self._graph, found)


# --- what is done with values ----------------------------------------------------------------------------------------


def _parts(graph: Graph, value: Any) -> tuple[int, ...]:
    """The values of the graph that something stands for."""
    _check_slopes()
    if isinstance(value, Traced):
        return value.parts
    if isinstance(value, (int, float)):
        return (graph.number(value),)
    if isinstance(value, Tensor) and value.dim() == 0 and not value.requires_grad:
        return (graph.number(value.item()),)
    raise TraceError(f"it takes a value from outside its body, {type(value).__name__}")


def _graph(args: Sequence[Any]) -> Graph:
    return next(a.graph for a in args if isinstance(a, Traced))


def pointwise(op: str, *args: Any) -> Traced:
    """An operation on each number of a row by itself, on values of as many parts, or of one."""
    graph = _graph(args)
    operands = [_parts(graph, a) for a in args]
    count = max(map(len, operands))
    for parts in operands:
        if len(parts) not in (1, count) or (len(parts) < count and graph[parts[0]].width != 1):
            raise TraceError(f"{op} of rows of different widths")
    spread = [parts * count if len(parts) < count else parts for parts in operands]
    widths = {graph[i].width for parts in spread for i in parts} - {1}
    if len(widths) > 1:
        raise TraceError(f"{op} of rows of different widths")
    return Traced(graph, [graph.apply(op, *each) for each in zip(*spread, strict=True)])


def _check_slopes() -> None:
    """The derivative is derived from the program, so nothing in a body may have another one, or none.

    PyTorch turns gradients off while it runs the forward of an `autograd.Function` too.
    """
    if not torch.is_grad_enabled():
        raise TraceError("part of it has no derivative (torch.no_grad), or one of its own (autograd.Function)")


def called(name: str, *args: Any, **kwargs: Any) -> Any:
    """What a function of this name gives."""
    _check_slopes()
    if name not in FUNCTIONS:
        raise TraceError(f"it takes {name} of a value")
    try:
        return FUNCTIONS[name](*args, **kwargs)
    except TypeError as error:
        raise TraceError(f"it calls {name} in a way that is not foreseen ({error})") from error


def _binary(op: str, swapped: bool = False) -> Callable[..., Any]:
    def apply(a: Any, b: Any) -> Traced:
        return pointwise(op, b, a) if swapped else pointwise(op, a, b)

    return apply


def _with_factor(op: str) -> Callable[..., Any]:
    def apply(a: Any, b: Any, *, alpha: float = 1) -> Traced:
        return pointwise(op, a, b if alpha == 1 else pointwise("mul", b, alpha))

    return apply


def _divided(a: Any, b: Any) -> Traced:
    return pointwise("div", a, b)


def _power(a: Any, b: Any) -> Traced:
    if isinstance(b, (int, float)) and b in (1, 2, 3):
        result = a
        for _ in range(int(b) - 1):
            result = pointwise("mul", result, a)
        return result
    is_root = isinstance(b, float) and b == 0.5
    return pointwise("sqrt", a) if is_root else pointwise("pow", a, b)


def _clamp(x: Any, min: Any = None, max: Any = None) -> Traced:
    """Between two bounds; the derivative on a bound is that inside, as PyTorch has it."""
    for op, bound in (("lt", min), ("gt", max)):
        if bound is not None:
            x = pointwise("where", pointwise(op, x, bound), bound, x)
    return x


def _norm(x: Any, shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Traced:
    """Layer normalisation of a row."""
    graph, parts = x.graph, x.parts
    count = sum(graph[i].width for i in parts)
    if tuple(shape) != (count,):
        raise TraceError(f"layer_norm over {tuple(shape)} of a row of {count}")
    mean = graph.apply("mul", graph.row_sum(parts), graph.number(1 / count))
    centred = Traced(graph, [graph.apply("sub", i, mean) for i in parts])
    squares = [graph.apply("mul", i, i) for i in centred.parts]
    variance = graph.apply("mul", graph.row_sum(squares), graph.number(1 / count))
    scale = graph.apply("rsqrt", graph.apply("add", variance, graph.number(eps)))
    found = pointwise("mul", centred, Traced(graph, [scale]))
    found = found if weight is None else pointwise("mul", found, weight)
    return found if bias is None else pointwise("add", found, bias)


def _cat(values: Sequence[Any], dim: int = 0) -> Traced:
    if dim != -1:
        raise TraceError(f"cat along {dim}; values stand side by side along -1")
    graph = _graph(values)
    return Traced(graph, [i for v in values for i in _parts(graph, v)])


def _chunk(x: Traced, chunks: int, dim: int = 0) -> tuple[Traced, ...]:
    if dim != -1 or len(x.parts) % chunks:
        raise TraceError(f"chunk of {len(x.parts)} parts in {chunks} along {dim}")
    size = len(x.parts) // chunks
    return tuple(Traced(x.graph, x.parts[k : k + size]) for k in range(0, len(x.parts), size))


def _softplus(x: Any, beta: float = 1, threshold: float = 20) -> Traced:
    if beta != 1 or threshold != 20:
        raise TraceError("softplus with another beta than 1, or another threshold than 20")
    return pointwise("softplus", x)


def _sum(x: Traced, dim: Any = None, keepdim: bool = False) -> Traced:
    if dim not in (-1, (-1,), [-1]) or not keepdim:
        raise TraceError("a sum that is not along -1 with keepdim")
    return Traced(x.graph, [x.graph.row_sum(x.parts)])


def _mean(x: Traced, dim: Any = None, keepdim: bool = False) -> Traced:
    return pointwise("mul", _sum(x, dim, keepdim), 1 / sum(x.graph[i].width for i in x.parts))


def _where(condition: Any, a: Any, b: Any) -> Traced:
    return pointwise("where", condition, a, b)


def _lerp(start: Any, end: Any, weight: Any) -> Traced:
    return pointwise("add", start, pointwise("mul", weight, pointwise("sub", end, start)))


def _silu(x: Any) -> Traced:
    return pointwise("mul", x, pointwise("sigmoid", x))


def _layer_norm(x: Any, normalized_shape: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Traced:
    return _norm(x, normalized_shape, weight, bias, eps)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{
        op: lambda x, op=op: pointwise(op, x)
        for op in (
            "neg",
            "abs",
            "sign",
            "floor",
            "exp",
            "log",
            "sqrt",
            "rsqrt",
            "sin",
            "cos",
            "tanh",
            "sigmoid",
            "relu",
        )
    },
    **{op: _binary(op) for op in ("maximum", "minimum", "remainder", "lt", "le", "gt", "ge", "eq", "ne")},
    "add": _with_factor("add"),
    "radd": _binary("add"),
    "sub": _with_factor("sub"),
    "rsub": _binary("sub", swapped=True),
    "mul": _binary("mul"),
    "multiply": _binary("mul"),
    "rmul": _binary("mul"),
    "div": _divided,
    "true_divide": _divided,
    "truediv": _divided,
    "rtruediv": _binary("div", swapped=True),
    "rdiv": _binary("div", swapped=True),
    "mod": _binary("remainder"),
    "pow": _power,
    "square": lambda x: pointwise("mul", x, x),
    "reciprocal": lambda x: pointwise("div", 1.0, x),
    "where": _where,
    "clamp": _clamp,
    "clamp_min": lambda x, min: _clamp(x, min),
    "clamp_max": lambda x, max: _clamp(x, None, max),
    "softplus": _softplus,
    "logsigmoid": lambda x: pointwise("log_sigmoid", x),
    "log_sigmoid": lambda x: pointwise("log_sigmoid", x),
    "silu": _silu,
    "lerp": _lerp,
    "cat": _cat,
    "chunk": _chunk,
    "layer_norm": _layer_norm,
    "sum": _sum,
    "mean": _mean,
}
"""What can be written down, by the name that PyTorch has for it."""

for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "mod", "pow", "neg", "abs"):
    setattr(Traced, f"__{_name}__", lambda self, *others, name=_name: called(name, self, *others))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Traced, f"__{_name}__", lambda self, other, name=_name: called(name, self, other))
Traced.__eq__ = lambda self, other: called("eq", self, other)
Traced.__ne__ = lambda self, other: called("ne", self, other)
Traced.__hash__ = object.__hash__


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: Traced, *others: Any) -> Any:
        raise TraceError(f"it takes {name} of a value")

    return refuse


for _name in ("getitem", "bool", "len", "iter", "float", "int", "matmul", "rmatmul", "rpow", "and", "or", "invert"):
    setattr(Traced, f"__{_name}__", _refuse(_name))


# --- tracing ---------------------------------------------------------------------------------------------------------


def trace(cell: Cell, hidden_size: int) -> Step:
    """Run a cell's body once and write down what it does.

    Raises:
        TraceError: It does something that a program cannot say.
    """
    graph, use = Graph(), cell.use(hidden_size)

    def leaves(op: str, name: str, width: Size, fixed: bool) -> tuple[int, ...]:
        return tuple(
            graph.leaf(op, name, size, part=k, fixed=fixed)
            for k, size in enumerate(widths_of_parts(cell, width, hidden_size))
        )

    old = {f.name: leaves("old", f.name, f.width, False) for f in cell.fields}
    operand = old[cell.fields[0].name]
    second = cell.biases == 2
    in_heads = cell.recurrent == "blocks" and cell.size("heads", hidden_size) > 1

    def net_input(gate: str) -> Traced:
        x = graph.leaf("x", gate, hidden_size)
        bias = graph.leaf("bias", gate, hidden_size, fixed=True) if cell.biases == "apart" else None
        if gate in cell.inputs:
            return Traced(graph, [x]) if bias is None else TracedInput(graph, x, None, None, bias)

        def product(operand: tuple[int, ...]) -> int:
            if len(operand) > 1 and in_heads:
                raise TraceError(f"U_{gate} in blocks multiplies several values side by side")
            found = graph.product("U", gate, operand, hidden_size)
            if second and gate in use.parts:  # else the second bias is added to the first beforehand
                found = graph.apply("add", found, graph.leaf("bias", gate, hidden_size, part=1, fixed=True))
            return found

        return TracedInput(graph, x, lambda: product(operand), product, bias)

    z = cell.z_type(*(net_input(gate) for gate in (*cell.gates, *cell.inputs)))
    constants = cell.constant_values(hidden_size)
    p: dict[str, Any] = {v.name: Traced(graph, leaves("vector", v.name, v.width, True)) for v in cell.vectors}
    for m in cell.matrices:
        p[m.name] = TracedMatrix(graph, m.name, widths_of_parts(cell, m.rows, hidden_size))
    for name, value in constants.items():
        if value.dim() == 0:
            p[name] = Traced(graph, [graph.number(value.item())])
        elif value.dim() == 1:
            p[name] = Traced(graph, [graph.leaf("constant", name, len(value), fixed=True)])
        else:
            raise TraceError(f"constant {name} of shape {tuple(value.shape)}")
    state = cell.state_type(*(Traced(graph, old[f.name]) for f in cell.fields))
    with torch.enable_grad():  # whatever a layer is made under
        new = cell.step(z, state, cell.p_type(*(p[name] for name in cell.p_type._fields)))
        new = [_parts(graph, value) for value in new]
    found = {}
    for f, parts in zip(cell.fields, new, strict=True):
        if [graph[i].width for i in parts] != list(widths_of_parts(cell, f.width, hidden_size)):
            raise TraceError(f"the new {f.name} is not of the width that is declared, or is the same for all rows")
        found[f.name] = parts
    return Step(graph, found, old)


def widths_of_parts(cell: Cell, size: Size, hidden_size: int) -> tuple[int, ...]:
    """The widths of the parts in which something of this size is kept: a multiple of H is as many times H."""
    multiple = MULTIPLE_OF_H.fullmatch(size) if isinstance(size, str) else None
    if multiple and multiple[1]:
        return (hidden_size,) * int(multiple[1])
    return (cell.size(size, hidden_size),)
