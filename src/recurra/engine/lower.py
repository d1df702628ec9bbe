"""From a graph to the lists that the compiled core runs.

What the core knows (native/recurrence.hpp): slots, each a block of rows of one value, and instructions on them. Arrays,
matrices and sums go by keys here; who calls the core puts tensors in their places.

Keys of arrays, T steps and B rows each where nothing else is said:
    ("z",)              W x + b of all gates side by side, where it is computed beforehand
    ("input",)          x, where the core projects it
    ("states", f, k)    part k of field f
    ("begun", f, k)     (B, width), the state before the first step
    ("initial", f, k)   (B, width), what a reset sets it to
    ("kept", i)         value i of the step, kept for the derivative
    ("dz",)             δ of W x + b of all gates side by side
    ("dproduct", i)     δ of product i, where it is no gate's δ
    ("operand", i)      value i, which a product multiplies
    ("dinput",)         δ of x, where the core computes it
    ("carry", f, k)     (B, width), δ of the state, from step to step
    ("given", f, k)     δ of the state at every step that stands for itself
    ("of_reset", f, k)  (B, width), δ of what resets set the state to
    ("sum", …)          (width,), what is added up over rows and steps
    ("vector", name, part), ("constant", …), ("bias", …), ("fixed", i), ("diagonal", gate), ("input_bias", gate)
                        (width,), the same for every row
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from recurra.engine.adjoint import Adjoint
from recurra.engine.interpret import OPERATIONS
from recurra.engine.program import PRODUCTS, Graph, Value
from recurra.engine.trace import Step

ON_NUMBERS = (
    *("add", "sub", "mul", "div", "neg", "abs", "sign", "floor", "exp", "log", "sqrt", "rsqrt", "sin", "cos"),
    *("tanh", "sigmoid", "relu", "softplus", "log_sigmoid", "pow", "remainder", "maximum", "minimum"),
    *("lt", "le", "gt", "ge", "eq", "ne", "where", "fma", "fnma", "tanh_slope", "sigmoid_slope", "copy"),
)
"""The core's operations on each number by itself, in its order."""

ON_ROWS = ("broadcast", "move", "row_sum", "row_dot", "accumulate", "product")
OPS = {name: i for i, name in enumerate((*ON_NUMBERS, *ON_ROWS))}
KINDS = {name: i for i, name in enumerate(("scratch", "stream", "old", "carry", "number", "vector"))}

assert {*OPERATIONS} <= {*ON_NUMBERS}

Key = tuple[str | int, ...]
"""What an array is: ("z",), ("states", field, part), …"""


class MatrixKey(NamedTuple):
    """A part of a matrix or of its transpose: of W or U of a gate, or of a further one.

    Attributes:
        letter: "W", "U" or "M".
        name: The gate, or the further matrix.
        rows: Which part of its rows, of hidden_size each; of a further matrix alone.
        columns: Which of the operands side by side it multiplies.
        transposed: Whether it is the transpose.
    """

    letter: str
    name: str
    rows: int
    columns: int
    transposed: bool


class Place(NamedTuple):
    """Where a value lies that is not scratch."""

    kind: str
    array: Key
    first: Key | None = None
    column: int = 0


@dataclass(frozen=True)
class Form:
    """What of a cell the core has to know beside its step.

    Attributes:
        gates: Gates and inputs, as their rows of W are stacked.
        has_bias: Whether W x is added to something before the first step.
        is_diagonal: Whether U multiplies each number by itself.
    """

    gates: tuple[str, ...]
    has_bias: bool
    is_diagonal: bool


@dataclass
class Lowered:
    """A program for the core.

    Attributes:
        instructions: (op, d, a, b, c, aux).
        slots: (kind, width, array, first, column, number).
        arrays: What each array is.
        matrices: What each matrix is.
        sums: What is added up over rows and steps, each an array ("sum", *key), with its width.
        cleared: Slots of streams that are zero where a step is not taken.
    """

    instructions: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    slots: list[tuple[int, int, int, int, int, float]] = field(default_factory=list)
    arrays: list[Key] = field(default_factory=list)
    matrices: list[MatrixKey] = field(default_factory=list)
    sums: dict[Key, int] = field(default_factory=dict)
    cleared: list[int] = field(default_factory=list)

    def array(self, key: Key) -> int:
        """The number of an array."""
        if key not in self.arrays:
            self.arrays.append(key)
        return self.arrays.index(key)


class _Builder:
    """Puts instructions together for values of a graph.

    Args:
        form: The cell's.
        graph: The graph.
        places: Where values lie that are not scratch.
        projects: Whether W x + b is computed here, from the input's width; else it is read.
    """

    def __init__(self, form: Form, graph: Graph, places: dict[int, Place], projects: int = 0) -> None:
        self.form, self.graph, self.places, self.projects = form, graph, places, projects
        self.out = Lowered()
        self.slot_of: dict[int, int] = {}
        self.free: dict[int, list[int]] = defaultdict(list)
        self.wide: dict[tuple[int, int], int] = {}
        self.input: int | None = None

    def slot(
        self,
        kind: str,
        width: int,
        array: Key | None = None,
        first: Key | None = None,
        column: int = 0,
        number: float = 0.0,
    ) -> int:
        """A new slot."""
        a, b = (-1 if key is None else self.out.array(key) for key in (array, first))
        self.out.slots.append((KINDS[kind], width, a, b, column, number))
        return len(self.out.slots) - 1

    def scratch(self, width: int) -> int:
        """A slot of scratch that is free."""
        spare = self.free[width]
        return spare.pop() if spare else self.slot("scratch", width)

    def of(self, i: int) -> int:
        """The slot of a value."""
        if i not in self.slot_of:
            value = self.graph[i]
            place = self.places.get(i)
            if value.op == "number":
                self.slot_of[i] = self.slot("number", 1, number=value.number)
            elif place is None:
                self.slot_of[i] = self.scratch(value.width)
            else:
                self.slot_of[i] = self.slot(place.kind, value.width, place.array, place.first, place.column)
            if value.op == "x" and self.form.gates and (place is None or place.array[0] == "kept"):
                self._project(value.name, self.slot_of[i], value.width)
        return self.slot_of[i]

    def _project(self, gate: str, d: int, width: int) -> None:
        """W x + b of a gate: computed, or fetched from where it stands among the others."""
        if not self.projects:
            self.emit("move", d, [self.z(gate, width)])
            return
        if self.input is None:
            self.input = self.slot("stream", self.projects, ("input",))
        added = self.slot("vector", width, ("input_bias", gate)) if self.form.has_bias else -1
        self.emit("product", d, [self.input, -1, added], self.matrix(MatrixKey("W", gate, 0, 0, False)))

    def z(self, gate: str, width: int) -> int:
        """W x + b of a gate where it stands among the others; only some instructions can read it there."""
        return self.slot("stream", width, ("z",), column=self.form.gates.index(gate) * width)

    def emit(self, op: str, d: int, args: Sequence[int] = (), aux: int = 0) -> None:
        """An instruction."""
        a, b, c = (*args, -1, -1, -1)[:3]
        self.out.instructions.append((OPS[op], d, a, b, c, aux))

    def matrix(self, key: MatrixKey) -> int:
        """The number of a matrix."""
        if key not in self.out.matrices:
            self.out.matrices.append(key)
        return self.out.matrices.index(key)

    def as_wide(self, i: int, width: int) -> int:
        """The slot of a value, one number a row brought to as many as are needed."""
        value = self.graph[i]
        if value.width == width or value.op == "number":
            return self.of(i)
        if (i, width) not in self.wide:
            self.wide[i, width] = self.slot("scratch", width)
            self.emit("broadcast", self.wide[i, width], [self.of(i)])
        return self.wide[i, width]

    def as_rows(self, i: int, width: int) -> int:
        """Likewise, and a number as rows of it: for instructions on rows."""
        if self.graph[i].op != "number":
            return self.as_wide(i, width)
        if (i, width) not in self.wide:
            self.wide[i, width] = self.slot("scratch", width)
            self.emit("copy", self.wide[i, width], [self.of(i)])
        return self.wide[i, width]

    def add_up(self, key: Key, source: int, width: int) -> None:
        """Add a value up over rows and steps."""
        self.out.sums.setdefault(key, width)
        self.emit("accumulate", -1, [source], aux=list(self.out.sums).index(key))

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
            if op == "row_sum":  # of products of two values, which nobody else wants
                both = {a: graph[a].args for a in args if alone(a, ("mul",))}
                both = {a: v for a, v in both.items() if all(graph[b].width == graph[a].width for b in v)}
                gone |= {*both}
                args = tuple(b for a in args for b in both.get(a, (a, -1)))
            if op == "mul":
                for given, slope in (args, args[::-1]):
                    found = self._slope(slope)
                    if found and alone(slope, ("mul", "sub")):
                        op, args = found[0], (given, found[1])
                        gone |= {slope, *(a for a in graph[slope].args if a != found[1] and alone(a, ("mul", "sub")))}
                        break
            if op in ("add", "sub"):
                pairs = [(args[1], args[0])] if op == "sub" else [(args[1], args[0]), (args[0], args[1])]
                for one, other in pairs:
                    same = graph[one].width == value.width and graph[other].width in (value.width, 1)
                    wide = graph[other].width == value.width and graph[other].op != "number"
                    if op == "add" and same and wide and alone(one, PRODUCTS) and not self._is_diagonal(one):
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

    def _slope(self, i: int) -> tuple[str, int] | None:
        """The derivative that a value is, y (1 - y) of sigmoid or 1 - y² of tanh, and its y; None if it is neither."""
        graph, value = self.graph, self.graph[i]

        def is_one_minus(i: int) -> bool:
            return graph[i].op == "sub" and graph[graph[i].args[0]] == Value("number", number=1.0, fixed=True)

        if is_one_minus(i):
            square = graph[value.args[1]]
            if square.op == "mul" and square.args[0] == square.args[1]:
                return "tanh_slope", square.args[0]
        elif value.op == "mul":
            for y, rest in (value.args, value.args[::-1]):
                if is_one_minus(rest) and graph[rest].args[1] == y:
                    return "sigmoid_slope", y
        return None

    def _is_diagonal(self, i: int) -> bool:
        return self.graph[i].op in ("U", "Ut") and self.form.is_diagonal

    def _step(self, op: str, i: int, args: tuple[int, ...]) -> None:
        value = self.graph[i]
        if op == "product":
            *operands, added, product = args
            self._product(i, product, operands, self._added(added, value.width))
        elif op in PRODUCTS:
            self._product(i, i, args, -1)
        elif op == "row_sum":
            pairs = list(zip(args[::2], args[1::2], strict=True))
            sources = [[self.as_rows(a, self.graph[a].width) for a in pair if a >= 0] for pair in pairs]
            d = self.of(i)
            for k, source in enumerate(sources):
                self.emit("row_dot" if len(source) > 1 else "row_sum", d, source, aux=min(k, 1))
        elif op != "x":  # which is projected or fetched when it is first asked for
            sources = [self.as_wide(a, value.width) for a in args]
            self.emit(op, self.of(i), sources)

    def _added(self, i: int, width: int) -> int:
        """What a product is added to: W x where it stands, if nobody else asks for it by itself."""
        value = self.graph[i]
        if value.op == "x" and not self.projects and i not in self.slot_of and i not in self.places:
            return self.z(value.name, width)
        return self.as_wide(i, width)

    def _product(self, i: int, product: int, operands: Sequence[int], added: int) -> None:
        value = self.graph[product]
        if self._is_diagonal(product):
            diagonal = self.slot("vector", value.width, ("diagonal", value.name))
            source = self.as_wide(operands[0], value.width)
            self.emit("mul", self.of(i), [source, diagonal])
            return
        for k, operand in enumerate(operands):
            letter = value.op[0]
            if value.op.endswith("t"):
                key = MatrixKey(letter, value.name, int(value.number), value.part, True)
                width = next(v.width for v in self.graph.values if v.op == letter and v.name == value.name)
            else:
                key, width = MatrixKey(letter, value.name, value.part, k, False), self.graph[operand].width
            source = self.as_rows(operand, width)
            self.emit("product", self.of(i), [source, -1, self.of(i) if k else added], self.matrix(key))


def fixed_values(step: Step) -> list[int]:
    """Values that are the same for every row and computed from others that are: once, before the first step."""
    graph = step.graph
    new = {i for parts in step.new.values() for i in parts}
    order = graph.needed(new)
    read = {a for i in order if not graph[i].fixed for a in graph[i].args} | new
    return [i for i in order if graph[i].fixed and i in read and graph[i].args]


def _places(graph: Graph, fixed: Iterable[int]) -> dict[int, Place]:
    """Where values lie that are given at every step."""
    places = {}
    for i, value in enumerate(graph.values):
        if value.op in ("vector", "constant", "bias"):
            places[i] = Place("vector", (value.op, value.name, value.part))
        elif value.op == "old":
            places[i] = Place("old", ("states", value.name, value.part), ("begun", value.name, value.part))
    return places | {i: Place("vector", ("fixed", i)) for i in fixed}


def forward(form: Form, step: Step, keep: Sequence[int], projects: int = 0) -> Lowered:
    """The step: it writes the new states, and what is kept for the derivative.

    Args:
        form: The cell's.
        step: The step.
        keep: The values to be kept.
        projects: The width of x where the core is to project it; 0 where that was done beforehand.
    """
    graph, fixed = step.graph, fixed_values(step)
    places = _places(graph, fixed)
    given = [*places]
    new = [(name, k, i) for name, parts in step.new.items() for k, i in enumerate(parts)]
    copies = []
    for name, k, i in new:
        if i in places or graph[i].op in ("number", "x") or graph[i].fixed:
            copies.append((i, ("states", name, k), graph[step.old[name][k]].width))
        else:
            places[i] = Place("stream", ("states", name, k))
    for i in keep:
        if i not in places:
            places[i] = Place("stream", ("kept", i))
    build = _Builder(form, graph, places, projects)
    order = graph.needed([*(i for *_, i in new), *keep], given)
    build.run([i for i in order if not graph[i].fixed], [*keep, *(i for *_, i in new)])
    for i in keep:
        build.of(i)
    for i, key, width in copies:
        build.emit("copy", build.slot("stream", width, key), [build.as_wide(i, width)])
    _clear(build.out, "kept")  # a δ of zero is multiplied with it
    return build.out


def backward(form: Form, step: Step, adjoint: Adjoint, keep: Sequence[int], projects: int = 0) -> Lowered:
    """The derivative: it writes δ of the net inputs and of the products, and carries δ of the state.

    Args:
        form: The cell's.
        step: The step.
        adjoint: Its derivative.
        keep: The values that were kept.
        projects: The width of x where the core is to compute δ of x as well.
    """
    graph, fixed = step.graph, fixed_values(step)
    places = _places(graph, fixed)
    states = {i: (name, k) for name, parts in step.new.items() for k, i in enumerate(parts) if graph[i].op != "x"}
    for i in keep:
        if i not in places:
            places[i] = Place("stream", ("states", *states[i]) if i in states else ("kept", i))
    given = [*places]
    for i, value in enumerate(graph.values):
        if value.op == "gradient":
            places[i] = Place("carry", ("carry", value.name, value.part))
            given.append(i)
    of_gates = set(adjoint.of_x.values())
    diagonal = {i: d for i, d in adjoint.of_product.items() if form.is_diagonal and graph[i].op == "U"}
    products = {i: d for i, d in adjoint.of_product.items() if i not in diagonal}
    operands = {a for i in products for a in graph[i].args if graph[a].op != "old"}
    wanted = [
        *((d, ("dproduct", i), graph[i].width) for i, d in products.items() if d not in of_gates),
        *((a, ("operand", a), graph[a].width) for a in sorted(operands)),
    ]
    outputs = [*adjoint.outputs(), *(i for i, *_ in wanted), *operands, *(graph[i].args[0] for i in diagonal)]
    order = [i for i in graph.needed(outputs, given) if not graph[i].fixed]
    streams = []
    for i, key, width in wanted:
        if i in places or graph[i].op == "number" or graph[i].width != width or graph[i].fixed:
            streams.append((i, key, width))
        else:
            places[i] = Place("stream", key)
    build = _Builder(form, graph, places)
    build.form = Form((), form.has_bias, form.is_diagonal)  # what is kept of W x is read, not projected anew
    build.run(order, outputs)
    for i, key, width in streams:
        if not (key[0] == "operand" and i in places):  # else it is kept, as it stands
            build.emit("copy", build.slot("stream", width, key), [build.as_wide(i, width)])
    _of_gates(build, form, adjoint, projects)
    for i, d in diagonal.items():
        width = graph[i].width
        product = build.scratch(width)
        build.emit("mul", product, [build.as_wide(d, width), build.as_wide(graph[i].args[0], width)])
        build.add_up(("diagonal", graph[i].name), product, width)
        build.free[width].append(product)
    for i, d in adjoint.of_fixed.items():
        build.add_up(("fixed", i), build.as_rows(d, graph[i].width), graph[i].width)
    _carry_on(build, step, adjoint)
    _clear(build.out, "dz", "dproduct", "dinput", "operand")
    return build.out


def _clear(out: Lowered, *names: str) -> None:
    """Have the core write zeros to these arrays where a step is not taken."""
    for s, (kind, _, array, *_) in enumerate(out.slots):
        if kind == KINDS["stream"] and out.arrays[array][0] in names:
            out.cleared.append(s)


def _of_gates(build: _Builder, form: Form, adjoint: Adjoint, projects: int) -> None:
    """δ of W x + b: side by side, added up for b, and on to x."""
    for k, (gate, i) in enumerate(adjoint.of_x.items()):
        width = _width_of(build.graph, gate)
        source = build.as_rows(i, width)
        stream = build.slot("stream", width, ("dz",), column=form.gates.index(gate) * width)
        build.emit("move", stream, [source])
        if form.has_bias:
            build.add_up(("bias", gate), source, width)
        if projects:
            dinput = build.slot("stream", projects, ("dinput",))
            matrix = build.matrix(MatrixKey("W", gate, 0, 0, True))
            build.emit("product", dinput, [source, -1, dinput if k else -1], matrix)


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


def _width_of(graph: Graph, gate: str) -> int:
    return next(v.width for v in graph.values if v.op == "x" and v.name == gate)
