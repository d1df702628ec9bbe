"""A cell's programs for the compiled core, for one size of the state and every size of a batch.

How they are laid out and run for a size of the batch is `recurra.engine.layout`'s part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from recurra.engine import lower
from recurra.engine.adjoint import derive, kept
from recurra.engine.gradients import Product, together
from recurra.engine.layout import KEEP, RECOMPUTE, Backward, Flags, Forward, Ran, Shape
from recurra.engine.lower import Form, Key, Lowered, MatrixKey
from recurra.engine.native import core
from recurra.engine.program import Graph, Value
from recurra.engine.trace import Step

AT_ONCE = 1 << 21
"""Numbers between the core and the products around it, for as many steps as are taken at a time (measured)."""

SHARED_WORK = 1 << 19
"""Multiplications of a whole run from which on waking a second thread costs less than it gains (measured)."""

PROJECTED_IN_CORE = 3 << 17
"""Numbers of W and U together that stay in a processor's second-level cache beside everything else."""

ROWS_TO_PROJECT = 6
"""Rows of a thread from which on the core's products are as quick as those of a whole sequence at once."""

LAYOUTS = 256
"""Sizes of batches of which a kernel keeps what is laid out for them."""

Part = tuple[str, int]
"""A part of a state field, as the programs have it: the field's name and which part."""


@dataclass(frozen=True)
class Spec:
    """What a kernel is made of, beside the step.

    Attributes:
        gates: Gates with U, in the order of its rows.
        inputs: Further gates, without U.
        hidden_size: Rows of W of a gate.
        has_bias: Whether something is added to W x beforehand.
        heads: Blocks of U; 1 for a dense or masked one, 0 for a diagonal one.
        matrices: Further matrices.
    """

    gates: tuple[str, ...]
    inputs: tuple[str, ...]
    hidden_size: int
    has_bias: bool
    heads: int
    matrices: tuple[str, ...]


class Loaded:
    """A program as the core has it, for one type of numbers.

    Args:
        kernel: The kernel.
        low: The program.
        is_backward: Whether it is a derivative.
        is_double: Whether it computes in float64.
        input_size: The width of x.
    """

    def __init__(self, kernel: Kernel, low: Lowered, is_backward: bool, is_double: bool, input_size: int) -> None:
        self.keys, self.matrices = low.arrays, low.matrices
        fields = [self._field(low, part, width, is_backward) for part, width in kernel.parts.items()]
        sums = [(width, low.array(("sum", *key))) for key, width in low.sums.items()]
        sizes = [kernel.size(key, input_size) for key in low.matrices]
        self.sums, self.is_double = low.sums, is_double
        self.packing: tuple[list[tuple[int, int, int, int, int, bool, int]], int] | None = None
        self.begins: list[int] = []
        self.program = core().Program(
            low.instructions, low.slots, fields, sizes, sums, low.cleared, len(low.arrays), is_backward, is_double
        )

    @staticmethod
    def _field(low: Lowered, part: Part, width: int, is_backward: bool) -> tuple[int, int, int, int, int, int, int]:
        states = low.array(("states", *part))
        old = [s for s, (kind, _, array, *_) in enumerate(low.slots) if kind == lower.KINDS["old"] and array == states]
        if (
            not old and not is_backward
        ):  # a step that is not taken keeps the old state, whether the cell reads it or not
            begun = low.array(("begun", *part))
            low.slots.append((lower.KINDS["old"], width, states, begun, 0, 0.0))
            old = [len(low.slots) - 1]
        carry, given, of_reset = (low.array((name, *part)) for name in ("carry", "given", "of_reset"))
        return width, states, low.array(("initial", *part)), old[0] if old else -1, carry, given, of_reset


class Kernel:
    """A cell's step and derivative for the core, for one hidden_size.

    Tensors come and go as a list, in this order: x (T, B, I), W, the bias of W x where there is one, U where there is
    one, further matrices, `vectors`, the state before the first step by parts, the state that resets set, likewise.

    Args:
        spec: What of the cell a step does not say.
        step: The cell's step.
    """

    def __init__(self, spec: Spec, step: Step) -> None:
        self.spec, self.step, self.graph = spec, step, step.graph
        self.key = _written(spec, step)
        _KERNELS.setdefault(self.key, self)
        graph = self.graph
        order = graph.needed(i for parts in step.new.values() for i in parts)
        self.adjoint = derive(step)
        self.parts: dict[Part, int] = {
            (name, k): graph[i].width for name, parts in step.old.items() for k, i in enumerate(parts)
        }
        self.keep = kept(step, self.adjoint, step.old)
        self.computed = lower.fixed_values(step)
        read = {a for i in order if not graph[i].fixed for a in graph[i].args}
        read |= {i for parts in step.new.values() for i in parts}
        self.vectors = sorted(i for i in read if graph[i].fixed and graph[i].op != "number")
        self.form = Form((*spec.gates, *spec.inputs), spec.has_bias, is_diagonal=spec.heads == 0)
        self.operands = {}  # of each matrix, the widths of what it multiplies
        for i in order:
            if graph[i].op in ("U", "M"):
                self.operands[graph[i].op, graph[i].name] = [graph[a].width for a in graph[i].args]
        new = {i for parts in step.new.values() for i in parts if graph[i].op != "x"}
        self.kept_apart = [i for i in self.keep if i not in new and not graph[i].fixed and graph[i].op != "old"]
        self._loaded: dict[tuple[object, ...], Loaded] = {}
        self._layouts: dict[tuple[object, ...], Any] = {}
        U = 2 + spec.has_bias
        matrices = U + bool(spec.gates)
        vectors = matrices + len(spec.matrices)
        last = vectors + len(self.vectors)
        self.counts = [0, *accumulate(len(parts) for parts in step.old.values())]  # parts of the first so many fields
        self.tensor_count = last + 2 * len(self.parts)
        self.widths = list(self.parts.values())
        initial = last + len(self.parts)
        self.places = {"U": U, "matrices": matrices, "vectors": vectors, "begun": last, "initial": initial}

    def __deepcopy__(self, memo: dict[int, object]) -> Kernel:
        return self  # nothing of it can change

    def __reduce__(self) -> tuple[object, ...]:
        return kernel_of, (self.key,)

    # --- programs ----------------------------------------------------------------------------------------------------

    def program(self, kind: str, dtype: torch.dtype, projects: int, input_size: int) -> Loaded:
        """The program of a kind ("keep", "drop" or "backward"); made when first asked for."""
        key = (kind, dtype, bool(projects), input_size)
        if key not in self._loaded:
            if kind == "backward":
                low = lower.backward(self.form, self.step, self.adjoint, self.keep, projects)
            else:
                low = lower.forward(self.form, self.step, self.keep if kind == "keep" else (), projects)
            self._loaded[key] = Loaded(self, low, kind == "backward", dtype == torch.float64, input_size)
        return self._loaded[key]

    @cached_property
    def work(self) -> int:
        """Multiplications of one row and step in products of the recurrence."""
        values = [self.graph[i] for i in self.graph.needed(i for parts in self.step.new.values() for i in parts)]
        found = sum(
            v.width * sum(self.graph[a].width for a in v.args) // max(self.spec.heads, 1)
            for v in values
            if v.op in ("U", "M")
        )
        return found if self.spec.heads else len(self.spec.gates) * self.spec.hidden_size

    def size(self, key: MatrixKey, input_size: int) -> tuple[int, int, int]:
        """A matrix as the core multiplies with it: the operand's width, the product's, and the blocks."""
        rows, columns = self._extent(key, input_size)[1::2]
        blocks = self.spec.heads if key.letter == "U" else 1
        return (rows, columns, blocks) if key.transposed else (columns, rows, blocks)

    def _extent(self, key: MatrixKey, input_size: int) -> tuple[int, int, int, int]:
        """First row, rows, first column and columns of a part of a matrix."""
        H = self.spec.hidden_size
        if key.letter == "W":
            return self.form.gates.index(key.name) * H, H, 0, input_size
        widths = self.operands[key.letter, key.name]
        first, width = sum(widths[: key.columns]), widths[key.columns]
        if key.letter == "U":
            return self.spec.gates.index(key.name) * H, H, first, width
        rows = next(v.width for v in self.graph.values if v.op == "M" and v.name == key.name)
        return key.rows * rows, rows, first, width

    def packed(self, program: Loaded, tensors: Sequence[Tensor]) -> tuple[Tensor, list[int]]:
        """A program's matrices in panels: the memory that holds them, and where in it each begins."""
        x = tensors[0]
        places, total = self.packing(program, x.shape[-1])
        memory = x.new_empty(total)
        start, size, todo = memory.data_ptr(), x.element_size(), []
        for tensor, first, rows, columns, stride, transposed, place in places:
            matrix = tensors[tensor].data_ptr() + first * size
            todo.append((matrix, rows, columns, stride, transposed, start + place * size))
        core().pack(program.is_double, todo, 1)
        return memory, [start + place * size for place in program.begins]

    def packing(self, program: Loaded, input_size: int) -> tuple[list[tuple[int, int, int, int, int, bool, int]], int]:
        """For each matrix or block of one: its tensor, where in that it begins, rows, columns, how far rows lie apart,
        whether it is transposed, and where its panels begin; and the numbers that all panels take."""
        if program.packing is not None:
            return program.packing
        spec, places, total = self.spec, [], 0
        program.begins = []
        for key in program.matrices:
            row, rows, column, columns = self._extent(key, input_size)
            stride = input_size if key.letter == "W" else sum(self.operands[key.letter, key.name])
            blocks = spec.heads if key.letter == "U" else 1
            rows, row, columns, stride = rows // blocks, row // blocks, columns // blocks, stride // blocks
            size = core().packed_size(program.is_double, rows, columns, key.transposed)
            program.begins.append(total)
            for n in range(blocks):  # (heads, gates * rows, columns)
                first = (n * len(spec.gates) * rows + row) * stride + column
                places.append(
                    (self.tensor_of(key.letter, key.name), first, rows, columns, stride, key.transposed, total)
                )
                total += size
        program.packing = places, total
        return places, total

    @cached_property
    def constants(self) -> dict[Key, tuple[int, int, int]]:
        """What is the same at every step, and the state before the first one: by key the number of the tensor, the
        first number in it, and the width."""
        spec, H = self.spec, self.spec.hidden_size
        found: dict[Key, tuple[int, int, int]] = {}
        if spec.has_bias:
            found |= {("input_bias", gate): (2, k * H, H) for k, gate in enumerate(self.form.gates)}
        if spec.heads == 0 and spec.gates:
            found |= {("diagonal", gate): (self.places["U"], k * H, H) for k, gate in enumerate(spec.gates)}
        for n, i in enumerate(self.vectors, self.places["vectors"]):
            value = self.graph[i]
            found[("fixed", i) if value.args else (value.op, value.name, value.part)] = n, 0, value.width
        for name in ("begun", "initial"):
            for n, (part, width) in enumerate(self.parts.items(), self.places[name]):
                found[name, *part] = n, 0, width
        return found

    def tensor_of(self, letter: str, name: str) -> int:
        """Which of the tensors holds a matrix: W, U, or "M", a further one of that name."""
        if letter == "M":
            return self.places["matrices"] + self.spec.matrices.index(name)
        return 1 if letter == "W" else self.places["U"]

    # --- runs --------------------------------------------------------------------------------------------------------

    def _threads(self, T: int, B: int) -> int:
        return torch.get_num_threads() if T * B * max(self.work, self.spec.hidden_size) > SHARED_WORK else 1

    def projects(self, shape: Shape) -> int:
        """The width of x where the core projects it; 0 where that is done beforehand."""
        enough = ROWS_TO_PROJECT * shape.threads <= shape.B
        numbers = len(self.form.gates) * self.spec.hidden_size * shape.inputs + self.work
        return shape.inputs if enough and numbers < PROJECTED_IN_CORE else 0

    def _shape(self, x: Tensor, mode: int) -> Shape:
        T, B, inputs = x.shape
        if mode == RECOMPUTE:
            at_once = math.isqrt(max(T - 1, 0)) + 1
        else:
            at_once = max(1, min(T, AT_ONCE // (B * len(self.form.gates) * self.spec.hidden_size)))
        return Shape(T, B, inputs, x.dtype, self._threads(T, B), at_once)

    def _laid_out(self, key: tuple[object, ...], make: Callable[[], Any]) -> Any:
        """What is laid out for the sizes of a batch, made when first asked for; not more than some are kept."""
        found = self._layouts.get(key)
        if found is None:
            if len(self._layouts) >= LAYOUTS:
                self._layouts.clear()
            found = self._layouts[key] = make()
        return found

    def forward(
        self,
        tensors: Sequence[Tensor],
        mask: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        along: int,
        mode: int,
        leading: bool = False,
    ) -> Ran:
        """Run along time.

        Args:
            tensors: As the class says; all contiguous.
            mask: (T, B), True where a step is taken.
            reset: (T, B), True where the state is set anew before a step.
            reverse: Run from the last step to the first.
            along: How many state fields are wanted at every step.
            mode: KEEP, DROP or RECOMPUTE.
            leading: Whether the last state has an axis of one in front.
        """
        shape = self._shape(tensors[0], mode)

        def make() -> Forward:
            names, keep = list(self.step.old)[:along], mode == KEEP
            whole = [p[0] in names or (keep and ("states", *p) in self.needed) for p in self.parts]
            return Forward(self, shape, keep=keep, whole=whole)

        flags = None if mask is None and reset is None else Flags(mask, reset)
        laid: Forward = self._laid_out((shape, along, mode), make)
        return laid.run(tensors, flags, reverse, self.counts[along], mode, leading)

    @cached_property
    def _multiplied(self) -> set[int]:
        """The values that products multiply."""
        return {a for i in self.adjoint.of_product for a in self.graph[i].args}

    @cached_property
    def needed(self) -> set[Key]:
        """The arrays that the derivative reads."""
        low = lower.backward(self.form, self.step, self.adjoint, self.keep)
        found = {low.arrays[array] for kind, _, array, *_ in low.slots if array >= 0}
        return found | {
            ("states", self.graph[a].name, self.graph[a].part) for a in self._multiplied if self.graph[a].op == "old"
        }

    @cached_property
    def products(self) -> list[Product]:
        """The products whose matrices have gradients that are made outside the core."""
        found = [i for i in self.adjoint.of_product if self.spec.heads or self.graph[i].op == "M"]
        return together([self._product(i) for i in found])

    def _product(self, i: int) -> Product:
        """A product with a matrix, as its gradient is made."""
        value, graph, spec = self.graph[i], self.graph, self.spec
        delta = self.adjoint.of_product[i]
        gates = [g for g, d in self.adjoint.of_x.items() if d == delta]
        if gates:
            gate = value.name if value.name in gates else gates[0]
            source: Key = ("dz",)
            column = self.form.gates.index(gate) * spec.hidden_size
        else:
            source, column = ("dproduct", i), 0
        row = spec.gates.index(value.name) * spec.hidden_size if value.op == "U" else value.part * value.width
        columns = sum(graph[a].width for a in value.args)
        return Product(self.tensor_of(value.op, value.name), row, value.width, columns, source, column, value.args)

    def shapes_saved(self, fields: int, T: int, B: int) -> list[tuple[int, ...]]:
        """The shapes of what `forward` saves in mode KEEP."""
        names = list(self.step.old)[:fields]
        states = [w for p, w in self.parts.items() if p[0] not in names and ("states", *p) in self.needed]
        return [*((T, B, w) for w in states), *([(self.kept_places(T * B)[1],)] if self.kept_apart else [])]

    def kept_places(self, rows: int) -> tuple[dict[Key, tuple[int, int]], int]:
        """Where values that are kept apart from states lie behind each other, for so many rows of all steps: by key the
        first number and the width; and how many numbers that are."""
        found: dict[Key, tuple[int, int]] = {}
        total = 0
        for i in self.kept_apart:
            found["kept", i] = total, self.graph[i].width
            total += rows * self.graph[i].width
        return found, total

    @cached_property
    def second_alone(self) -> list[tuple[int, int]]:
        """The gates whose second bias is added to U h alone, each with the number of the tensor that holds it."""
        values = [(n, self.graph[i]) for n, i in enumerate(self.vectors, self.places["vectors"])]
        return [(self.spec.gates.index(v.name), n) for n, v in values if v.op == "bias" and v.name in self.spec.gates]

    @cached_property
    def reads_second(self) -> bool:
        """Whether the derivative reads any of these second biases."""
        numbers = {n for _, n in self.second_alone}
        return any(n in numbers for key, (n, *_) in self.constants.items() if key in self.needed)

    def key_of_operand(self, i: int, keys: Container[Key]) -> Key:
        """The array where a value that a product multiplied stands at every step, among these."""
        for key in (("operand", i), ("kept", i)):
            if key in keys:
                return key
        return next(("states", name, k) for name, parts in self.step.new.items() for k, v in enumerate(parts) if v == i)

    def backward(
        self,
        tensors: Sequence[Tensor],
        along: Sequence[Tensor],
        saved: Sequence[Tensor],
        of_along: Sequence[Tensor | None],
        of_final: Sequence[Tensor | None],
        mask: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        mode: int,
        wanted: Sequence[bool],
        tidy: bool = False,
    ) -> list[Tensor | None]:
        """The gradients of `tensors`.

        Args:
            tensors, mask, reset, reverse, mode: As in `forward`.
            along, saved: What that gave.
            of_along, of_final: The gradients of what it gave; None for zero.
            wanted: Which gradients are wanted.
            tidy: Whether gradients given at steps that are not taken are of no account.
        """
        shape, has_reset = self._shape(tensors[0], mode), reset is not None
        # Numbers of a row must lie side by side; rows and steps may lie anywhere, or all in one place.
        given = [v if v is None or v.stride(-1) == 1 else v.contiguous() for v in of_along]
        given += [None] * (len(self.parts) - len(given))
        strides = tuple(None if v is None else (v.stride(0), v.stride(1)) for v in given)
        key = (shape, mode, reverse, has_reset, tuple(wanted), strides, tidy)
        laid: Backward = self._laid_out(
            key, lambda: Backward(self, shape, mode, reverse, has_reset, wanted, strides, tidy)
        )
        return laid.run(tensors, along, saved, given, of_final, mask, reset)


_KERNELS: dict[str, Kernel] = {}


def kernel_of(key: str) -> Kernel:
    """The kernel of this `Kernel.key`, made anew where there is none: in another process, say."""
    if key not in _KERNELS:
        (gates, inputs, *sizes, matrices), values, new, old = json.loads(key)
        graph = Graph()
        for op, args, *rest in values:
            graph.add(Value(op, tuple(args), *rest))
        both = ({name: tuple(parts) for name, parts in fields.items()} for fields in (new, old))
        _KERNELS[key] = Kernel(Spec(tuple(gates), tuple(inputs), *sizes, matrices=tuple(matrices)), Step(graph, *both))
    return _KERNELS[key]


def _written(spec: Spec, step: Step) -> str:
    """What a kernel is made of, in words."""
    values = [[*v] for v in step.graph.values]
    return json.dumps([[*vars(spec).values()], values, step.new, step.old])
