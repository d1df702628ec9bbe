"""From a graph to the lists that the compiled core runs.

What the core knows (native/recurrence.hpp): slots, each a block of rows of one value, and instructions on them. Arrays,
matrices and sums go by keys here; who calls the core puts tensors in their places.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from recurra.cells.form import Cell
from recurra.engine.adjoint import Adjoint
from recurra.engine.interpret import OPERATIONS
from recurra.engine.program import PRODUCTS, Graph
from recurra.engine.trace import Step

ON_NUMBERS = (
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "floor", "exp", "log", "sqrt", "rsqrt", "sin", "cos"),
    *("tanh", "sigmoid", "relu", "softplus", "log_sigmoid", "pow", "remainder", "maximum", "minimum"),
    *("lt", "le", "gt", "ge", "eq", "ne", "where", "fma", "fnma", "copy"),
)
"""The core's operations on each number by itself, in its order."""

OPS = {name: i for i, name in enumerate((*ON_NUMBERS, "broadcast", "row_sum", "accumulate", "product"))}
KINDS = {name: i for i, name in enumerate(("scratch", "stream", "old", "carry", "number", "vector"))}

assert {*OPERATIONS} <= {*ON_NUMBERS}

Key = tuple[str | int, ...]
"""What an array is: ("x", gate), ("states", field, part), …"""


class MatrixKey(NamedTuple):
    """A part of U of a gate or of a further matrix, or of the transpose of either."""

    name: str
    rows: int
    columns: int
    transposed: bool


@dataclass
class Lowered:
    """A program for the core.

    Attributes:
        instructions: (op, d, a, b, c, aux).
        slots: (kind, width, array, first, number).
        arrays: What each array is.
        matrices: What each matrix is.
        sums: What is added up over rows and steps: values that are the same for every row, by number.
        cleared: Slots of streams that are zero where a step is not taken.
    """

    instructions: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    slots: list[tuple[int, int, int, int, float]] = field(default_factory=list)
    arrays: list[Key] = field(default_factory=list)
    matrices: list[MatrixKey] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)

    def array(self, key: Key) -> int:
        """The number of an array."""
        if key not in self.arrays:
            self.arrays.append(key)
        return self.arrays.index(key)


class _Builder:
    """Puts instructions together for values of a graph.

    Args:
        cell: The cell.
        graph: The graph.
        places: Where values lie that are not scratch: (kind, array, array of the first).
    """

    def __init__(self, cell: Cell, graph: Graph, places: dict[int, tuple[str, Key, Key | None]]) -> None:
        self.cell, self.graph, self.places = cell, graph, places
        self.out = Lowered()
        self.slot_of: dict[int, int] = {}
        self.free: dict[int, list[int]] = defaultdict(list)
        self.wide: dict[tuple[int, int], int] = {}

    def slot(self, kind: str, width: int, array: Key | None = None, first: Key | None = None, number: float = 0.0) -> int:
        """A new slot."""
        a, b = (-1 if key is None else self.out.array(key) for key in (array, first))
        self.out.slots.append((KINDS[kind], width, a, b, number))
        return len(self.out.slots) - 1

    def of(self, i: int) -> int:
        """The slot of a value."""
        if i not in self.slot_of:
            value = self.graph[i]
            if i in self.places:
                kind, array, first = self.places[i]
                self.slot_of[i] = self.slot(kind, value.width, array, first)
            elif value.op == "number":
                self.slot_of[i] = self.slot("number", 1, number=value.number)
            else:
                spare = self.free[value.width]
                self.slot_of[i] = spare.pop() if spare else self.slot("scratch", value.width)
        return self.slot_of[i]

    def emit(self, op: str, d: int, args: Sequence[int] = (), aux: int = 0) -> None:
        """An instruction."""
        a, b, c = (*args, -1, -1, -1)[:3]
        self.out.instructions.append((OPS[op], d, a, b, c, aux))

    def as_wide(self, i: int, width: int) -> int:
        """The slot of a value, one number a row brought to as many as are needed."""
        value = self.graph[i]
        if value.width == width or value.op == "number":
            return self.of(i)
        if (i, width) not in self.wide:
            self.wide[i, width] = self.slot("scratch", width)
            self.emit("broadcast", self.wide[i, width], [self.of(i)])
        return self.wide[i, width]

    def run(self, order: Iterable[int], needed_later: Iterable[int]) -> None:
        """The instructions that compute these values."""
        order = [i for i in order if self.graph[i].op != "number"]
        later, steps = set(needed_later), self._fused(order, set(needed_later))
        last = {a: n for n, (_, _, args) in enumerate(steps) for a in args}
        for n, (op, i, args) in enumerate(steps):
            self._step(op, i, args)
            for a in set(args):
                slot = self.slot_of.get(a)
                scratch = slot is not None and self.out.slots[slot][0] == KINDS["scratch"]
                if last[a] == n and a not in later and a not in self.places and scratch and a != i:
                    self.free[self.graph[a].width].append(self.slot_of.pop(a))

    def _fused(self, order: list[int], later: set[int]) -> list[tuple[str, int, tuple[int, ...]]]:
        """Operations, values and arguments, a product and a sum taken together where nobody else wants the product."""
        graph, within = self.graph, set(order)
        uses = Counter(a for i in order for a in graph[i].args)
        gone: set[int] = set()

        def alone(i: int, ops: Iterable[str]) -> bool:
            free = i in within and i not in self.places and i not in later and i not in gone
            return graph[i].op in ops and uses[i] == 1 and free

        steps = []
        for i in reversed(order):
            if i in gone:
                continue
            value = graph[i]
            op, args = value.op, value.args
            if op in ("add", "sub"):
                pairs = [(args[1], args[0])] if op == "sub" else [(args[1], args[0]), (args[0], args[1])]
                for one, other in pairs:
                    same = graph[one].width == value.width and graph[other].width in (value.width, 1)
                    if op == "add" and same and graph[other].width == value.width and alone(one, PRODUCTS):
                        if not self._is_diagonal(one) and graph[other].op != "number":
                            op, args = "product", (one, other)
                            break
                    if same and alone(one, ("mul",)):
                        op, args = ("fma" if op == "add" else "fnma"), (*graph[one].args, other)
                        gone.add(one)
                        break
                if op == "product":
                    gone.add(args[0])
                    args = (*graph[args[0]].args, args[1], args[0])
            steps.append((op, i, args))
        return steps[::-1]

    def _is_diagonal(self, i: int) -> bool:
        return self.graph[i].op in ("U", "Ut") and self.cell.recurrent == "diagonal"

    def _step(self, op: str, i: int, args: tuple[int, ...]) -> None:
        value = self.graph[i]
        if op == "product":
            *operands, added, product = args
            self._product(i, product, operands, self.as_wide(added, value.width))
        elif op in PRODUCTS:
            self._product(i, i, args, -1)
        elif op == "row_sum":
            d = self.of(i)
            for k, a in enumerate(args):
                self.emit("row_sum", d, [self.of(a)], aux=min(k, 1))
        else:
            sources = [self.as_wide(a, value.width) for a in args]
            self.emit(op, self.of(i), sources)

    def _product(self, i: int, product: int, operands: Sequence[int], added: int) -> None:
        value, d = self.graph[product], self.of(i)
        if self._is_diagonal(product):
            diagonal = self.slot("vector", value.width, ("diagonal", value.name))
            self.emit("mul", d, [self.as_wide(operands[0], value.width), diagonal])
            return
        for k, operand in enumerate(operands):
            if value.op.endswith("t"):
                key = MatrixKey(value.name, int(value.number), value.part, True)
                width = self._rows(value.name)
            else:
                key, width = MatrixKey(value.name, value.part, k, False), self.graph[operand].width
            if key not in self.out.matrices:
                self.out.matrices.append(key)
            source = self.as_wide(operand, width)
            self.emit("product", d, [source, -1, d if k else added], self.out.matrices.index(key))

    def _rows(self, name: str) -> int:
        """The width of the products with a matrix, which its transpose multiplies."""
        return next(v.width for v in self.graph.values if v.op in ("U", "M") and v.name == name)


def fixed_values(step: Step) -> list[int]:
    """Values that are the same for every row and computed from others that are: once, before the first step."""
    graph = step.graph
    order = graph.needed(i for parts in step.new.values() for i in parts)
    read = {a for i in order if not graph[i].fixed for a in graph[i].args} | {
        i for parts in step.new.values() for i in parts
    }
    return [i for i in order if graph[i].fixed and i in read and graph[i].args]


def _fixed_places(graph: Graph, computed: Iterable[int]) -> dict[int, tuple[str, Key, Key | None]]:
    places: dict[int, tuple[str, Key, Key | None]] = {}
    for i, value in enumerate(graph.values):
        if value.op in ("vector", "constant", "bias"):
            places[i] = ("vector", (value.op, value.name, value.part), None)
        elif value.op == "x":
            places[i] = ("stream", ("x", value.name), None)
        elif value.op == "old":
            places[i] = ("old", ("states", value.name, value.part), ("begun", value.name, value.part))
    for i in computed:
        places[i] = ("vector", ("fixed", i), None)
    return places


def forward(cell: Cell, step: Step, keep: Sequence[int]) -> Lowered:
    """The step: it writes the new states, and what is kept for the derivative."""
    graph, fixed = step.graph, fixed_values(step)
    places = _fixed_places(graph, fixed)
    new = [(name, k, i) for name, parts in step.new.items() for k, i in enumerate(parts)]
    copies = []
    for name, k, i in new:
        if i in places or graph[i].op == "number" or graph[i].fixed:
            copies.append((i, ("states", name, k), graph[step.old[name][k]].width))
        else:
            places[i] = ("stream", ("states", name, k), None)
    for i in keep:
        if i not in places:
            places[i] = ("stream", ("kept", i), None)
    build = _Builder(cell, graph, places)
    order = [i for i in graph.needed([i for *_, i in new], [i for i in places if graph[i].op in ("x", "old")] + fixed)]
    build.run([i for i in order if not graph[i].fixed], [*keep, *(i for *_, i in new)])
    for i, key, width in copies:
        build.emit("copy", build.slot("stream", width, key), [build.as_wide(i, width)])
    return build.out


def backward(cell: Cell, step: Step, adjoint: Adjoint, keep: Sequence[int]) -> Lowered:
    """The derivative: it writes δ of the net inputs and of the products, and carries δ of the state."""
    graph, fixed = step.graph, fixed_values(step)
    places = _fixed_places(graph, fixed)
    states = {i: (name, k) for name, parts in step.new.items() for k, i in enumerate(parts)}
    for i in keep:
        if i not in places:
            places[i] = ("stream", ("states", *states[i]) if i in states else ("kept", i), None)
    given = [*places]
    for i, value in enumerate(graph.values):
        if value.op == "gradient":
            places[i] = ("carry", ("carry", value.name, value.part), None)
            given.append(i)
    wanted: list[tuple[int, Key, int]] = [
        *((i, ("dx", gate), _width_of(graph, "x", gate)) for gate, i in adjoint.of_x.items()),
        *((d, ("dproduct", i), graph[i].width) for i, d in adjoint.of_product.items() if d not in adjoint.of_x.values()),
        *((a, ("operand", a), graph[a].width) for i in adjoint.of_product for a in graph[i].args if graph[a].op != "old"),
    ]
    order = graph.needed([*adjoint.outputs(), *(i for i, *_ in wanted)], given)
    order = [i for i in order if not graph[i].fixed]
    streams: list[tuple[int, Key, int]] = []
    for i, key, width in dict.fromkeys(wanted):
        if i in places or graph[i].op == "number" or graph[i].width != width or graph[i].fixed:
            streams.append((i, key, width))
        else:
            places[i] = ("stream", key, None)
    build = _Builder(cell, graph, places)
    build.run(order, [*adjoint.outputs(), *(i for i, *_ in wanted)])
    for i, key, width in streams:
        if key[0] == "operand" and i in places:
            continue  # it is kept, or an input, as it stands
        build.emit("copy", build.slot("stream", width, key), [build.as_wide(i, width)])
    for value, i in adjoint.of_fixed.items():
        build.out.sums.append(value)
        build.emit("accumulate", -1, [build.as_wide(i, graph[value].width)], aux=len(build.out.sums) - 1)
    _carry_on(build, step, adjoint)
    for s, (kind, _, array, *_) in enumerate(build.out.slots):
        if kind == KINDS["stream"] and build.out.arrays[array][0] in ("dx", "dproduct"):
            build.out.cleared.append(s)
    return build.out


def _carry_on(build: _Builder, step: Step, adjoint: Adjoint) -> None:
    """δ of the old state becomes what the step before is given; all is read before any is overwritten."""
    graph, moves = build.graph, []
    for name, parts in adjoint.of_old.items():
        for k, i in enumerate(parts):
            width = graph[step.old[name][k]].width
            carry = build.slot("carry", width, ("carry", name, k))
            if i is None:
                moves.append((carry, build.of(graph.number(0))))
                continue
            source = build.as_wide(i, width)
            if build.out.slots[source][0] == KINDS["carry"]:
                aside = build.slot("scratch", width)
                build.emit("copy", aside, [source])
                source = aside
            moves.append((carry, source))
    for carry, source in moves:
        build.emit("copy", carry, [source])


def _width_of(graph: Graph, op: str, name: str) -> int:
    return next(v.width for v in graph.values if v.op == op and v.name == name)
