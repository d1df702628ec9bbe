"""A cell's programs in the compiled core, and tensors brought to them and back.

The core runs the recurrence; what does not depend on the step before is done here, many steps in one product: W x
beforehand where the core does not project x itself, and afterwards the gradients of the matrices. Steps are taken some
at a time, so that what lies between the core and these products is still in cache, and little of it there at once.
"""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from recurra.engine import lower
from recurra.engine.adjoint import derive, kept
from recurra.engine.lower import Form, Key, Lowered, MatrixKey
from recurra.engine.memory import BLOCKS
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

SLIM = 128
"""Columns of a matrix up to which its gradient is quicker made as a transpose (measured)."""

SLIM_FROM = 1 << 18
"""Numbers of δ from which on it is so."""

Part = tuple[str, int]
"""A part of a state field, as the programs have it: the field's name and which part."""

KEEP, DROP, RECOMPUTE = range(3)
"""What a forward run keeps for the derivative: all it needs, nothing, or the states at some steps."""


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

    def __init__(self, kernel: "Kernel", low: Lowered, is_backward: bool, is_double: bool, input_size: int) -> None:
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

    def run(
        self,
        T: int,
        B: int,
        threads: int,
        reverse: bool,
        arrays: "Arrays",
        panels: Sequence[int],
        flags: "_Flags",
        start: int,
    ) -> None:
        """Run it over so many steps from `start` on."""
        valid, resets, more = flags.at(start, T)
        addresses = arrays.addresses(self.keys, start)
        global _spent
        begun = time.perf_counter()
        self.program.run(T, B, threads, reverse, addresses, panels, valid, resets, more)
        _spent += time.perf_counter() - begun


_spent = 0.0


def seconds_in_core() -> float:
    """The time that this process has spent in recurrences in the core so far; of use where one thread calls it."""
    return _spent


class Arrays:
    """Tensors by the keys of arrays.

    Attributes:
        whole: (T, B, width): all steps.
        some: (S, B, width): the steps at hand.
        rows: (B, width) or (width,).
        held: What else must live as long.
    """

    def __init__(self) -> None:
        self.held: list[Tensor] = []
        self.whole: dict[Key, Tensor] = {}
        self.some: dict[Key, Tensor] = {}
        self.rows: dict[Key, Tensor] = {}

    def addresses(self, keys: Iterable[Key], start: int) -> list[int]:
        """For each key the address of its first number from step `start` on, and how far steps and rows lie apart."""
        found = []
        for key in keys:
            if (tensor := self.rows.get(key)) is not None:
                found += (tensor.data_ptr(), 0, tensor.stride(0))
            elif (tensor := self.some.get(key)) is not None:
                found += (tensor.data_ptr(), tensor.stride(0), tensor.stride(1))
            elif (tensor := self.whole.get(key)) is not None:
                step = tensor.stride(0)
                found += (tensor.data_ptr() + start * step * tensor.element_size(), step, tensor.stride(1))
            else:
                found += (0, 0, 0)
        return found

    def steps(self, key: Key, start: int, stop: int) -> Tensor:
        """The steps at hand, (S, B, width)."""
        some = self.some.get(key)
        return self.whole[key][start:stop] if some is None else some[: stop - start]


class _Flags:
    """Which steps are taken and before which the state is set anew, as the core has them."""

    def __init__(self, mask: Tensor | None, reset: Tensor | None) -> None:
        self.mask, self.reset = (None if v is None else v.contiguous().view(torch.uint8) for v in (mask, reset))

    def at(self, start: int, steps: int) -> tuple[int, int, bool]:
        """Their addresses from a step on, 0 where there are none, and whether resets follow behind the last one."""
        valid, resets = (0 if v is None else v.data_ptr() + start * v.stride(0) for v in (self.mask, self.reset))
        return valid, resets, self.reset is not None and start + steps < len(self.reset)


@dataclass
class Ran:
    """What a forward run leaves behind.

    Attributes:
        along: The first so many state fields at every step, part by part, (T, B, width) each.
        final: The last state, part by part, (B, width) each.
        saved: What the derivative needs beside what the run was given.
    """

    along: list[Tensor]
    final: list[Tensor]
    saved: list[Tensor]


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
        last = 2 + spec.has_bias + bool(spec.gates) + len(spec.matrices) + len(self.vectors)
        self.places = {"vectors": last - len(self.vectors), "begun": last, "initial": last + len(self.parts)}

    def __deepcopy__(self, memo: dict[int, object]) -> "Kernel":
        return self  # nothing of it can change

    def __reduce__(self) -> tuple[object, ...]:
        return kernel_of, (self.key,)

    # --- programs ----------------------------------------------------------------------------------------------------

    def _program(self, kind: str, dtype: torch.dtype, projects: int, input_size: int) -> Loaded:
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

    def packed(self, program: Loaded, tensors: Sequence[Tensor], threads: int) -> tuple[Tensor, list[int]]:
        """A program's matrices in panels: the memory that holds them, and where in it each begins."""
        x = tensors[0]
        if program.packing is None:
            program.packing = self._packing(program, x.shape[-1])
        places, total = program.packing
        memory = BLOCKS.empty([total], x)
        start, size, todo = memory.data_ptr(), x.element_size(), []
        for tensor, first, rows, columns, stride, transposed, place in places:
            matrix = tensors[tensor].data_ptr() + first * size
            todo.append((matrix, rows, columns, stride, transposed, start + place * size))
        core().pack(program.is_double, todo, threads if total > SHARED_WORK else 1)
        return memory, [start + place * size for place in program.begins]

    def _packing(self, program: Loaded, input_size: int) -> tuple[list[tuple[int, int, int, int, int, bool, int]], int]:
        """For each matrix or block of one: its tensor, where in that it begins, rows, columns, how far rows lie apart,
        whether it is transposed, and where its panels begin; and the numbers that all panels take."""
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
                places.append((self._tensor(key), first, rows, columns, stride, key.transposed, total))
                total += size
        return places, total

    def _tensor(self, key: MatrixKey) -> int:
        """Which of the tensors holds a matrix."""
        if key.letter == "W":
            return 1
        first = 2 + self.spec.has_bias
        return first if key.letter == "U" else first + bool(self.spec.gates) + self.spec.matrices.index(key.name)

    # --- runs --------------------------------------------------------------------------------------------------------

    def _threads(self, T: int, B: int) -> int:
        return torch.get_num_threads() if T * B * max(self.work, self.spec.hidden_size) > SHARED_WORK else 1

    def _projects(self, tensors: Sequence[Tensor], threads: int) -> int:
        """The width of x where the core projects it; 0 where that is done beforehand."""
        x, W = tensors[:2]
        enough = x.shape[1] >= ROWS_TO_PROJECT * threads
        return x.shape[-1] if enough and W.numel() + self.work < PROJECTED_IN_CORE else 0

    def constants(self, tensors: Sequence[Tensor]) -> Arrays:
        """What is the same at every step."""
        arrays, first = Arrays(), self.places["vectors"]
        for i, tensor in zip(self.vectors, tensors[first:], strict=False):
            value = self.graph[i]
            arrays.rows[("fixed", i) if value.args else (value.op, value.name, value.part)] = tensor
        for name in ("begun", "initial"):
            for part, tensor in zip(self.parts, tensors[self.places[name] :], strict=False):
                arrays.rows[name, *part] = tensor
        H = self.spec.hidden_size
        if self.spec.has_bias:
            for gate, tensor in zip(self.form.gates, tensors[2].split(H), strict=True):
                arrays.rows["input_bias", gate] = tensor
        if self.spec.heads == 0 and self.spec.gates:
            for gate, tensor in zip(self.spec.gates, tensors[2 + self.spec.has_bias].split(H), strict=True):
                arrays.rows["diagonal", gate] = tensor
        arrays.whole["input",] = tensors[0]
        return arrays

    def steps_at_once(self, T: int, B: int, mode: int) -> int:
        """How many steps are taken at a time."""
        if mode == RECOMPUTE:
            return math.isqrt(max(T - 1, 0)) + 1
        width = len(self.form.gates) * self.spec.hidden_size
        return max(1, min(T, AT_ONCE // (B * width)))

    def forward(
        self, tensors: Sequence[Tensor], mask: Tensor | None, reset: Tensor | None, reverse: bool, along: int, mode: int
    ) -> Ran:
        """Run along time.

        Args:
            tensors: As the class says; all contiguous.
            mask: (T, B), True where a step is taken.
            reset: (T, B), True where the state is set anew before a step.
            reverse: Run from the last step to the first.
            along: How many state fields are wanted at every step.
            mode: KEEP, DROP or RECOMPUTE.
        """
        x = tensors[0]
        T, B, _ = x.shape
        arrays, names = self.constants(tensors), list(self.step.old)[:along]
        S = self.steps_at_once(T, B, mode)
        for part, width in self.parts.items():
            everywhere = part[0] in names or (mode == KEEP and ("states", *part) in self._needed)
            into = arrays.whole if everywhere else arrays.some
            into["states", *part] = BLOCKS.empty((T if everywhere else S, B, width), x)
        runs = self._run_of(tensors, arrays, mask, reset, reverse, S, keep=mode == KEEP, whole=True)
        chunks = [(start, min(start + S, T)) for start in range(0, T, S)]
        boundaries = []
        for start, stop in chunks[::-1] if reverse else chunks:
            runs(start, stop)
            last = {p: arrays.steps(("states", *p), start, stop)[0 if reverse else -1].clone() for p in self.parts}
            boundaries.append([arrays.rows["begun", *p] for p in self.parts])
            for part, state in last.items():
                arrays.rows["begun", *part] = state
        final = [arrays.rows["begun", *p] for p in self.parts]
        states = {p: arrays.whole[k] for p in self.parts if (k := ("states", *p)) in arrays.whole}
        saved = []
        if mode == KEEP:
            saved = [v for p, v in states.items() if p[0] not in names]
            saved += arrays.held[-1:] if self.kept_apart else []
        elif mode == RECOMPUTE and len(chunks) > 1:
            saved = [torch.stack(part) for part in zip(*boundaries[1:], strict=True)]
        return Ran([v for p, v in states.items() if p[0] in names], final, saved)

    def _run_of(
        self,
        tensors: Sequence[Tensor],
        arrays: Arrays,
        mask: Tensor | None,
        reset: Tensor | None,
        reverse: bool,
        S: int,
        *,
        keep: bool,
        whole: bool,
    ):
        """What runs some steps forward, from the arrays' "begun"; what it keeps has its place for all steps or some."""
        x, W = tensors[:2]
        T, B, input_size = x.shape
        threads = self._threads(T, B)
        projects = self._projects(tensors, threads)
        program = self._program("keep" if keep else "drop", x.dtype, projects, input_size)
        (memory, panels), flags = self.packed(program, tensors, threads), _Flags(mask, reset)
        arrays.held.append(memory)
        if keep and self.kept_apart:
            steps = T if whole else S
            flat = BLOCKS.empty([steps * B * sum(self.kept_widths)], x)
            arrays.held.append(flat)
            (arrays.whole if whole else arrays.some).update(self._kept_in(flat, steps, B))
        z = None
        if ("z",) in program.keys:
            z = arrays.some["z",] = BLOCKS.empty((min(S, T), B, len(W)), x)

        def run(start: int, stop: int) -> None:
            if z is not None:
                rows, out = x[start:stop].flatten(0, 1), z[: stop - start].flatten(0, 1)
                if self.spec.has_bias:
                    torch.addmm(tensors[2], rows, W.t(), out=out)
                else:
                    torch.mm(rows, W.t(), out=out)
            program.run(stop - start, B, threads, reverse, arrays, panels, flags, start)

        return run

    @cached_property
    def _multiplied(self) -> set[int]:
        """The values that products multiply."""
        return {a for i in self.adjoint.of_product for a in self.graph[i].args}

    @cached_property
    def _needed(self) -> set[Key]:
        """The arrays that the derivative reads."""
        low = lower.backward(self.form, self.step, self.adjoint, self.keep)
        found = {low.arrays[array] for kind, _, array, *_ in low.slots if array >= 0}
        return found | {
            ("states", self.graph[a].name, self.graph[a].part) for a in self._multiplied if self.graph[a].op == "old"
        }

    @cached_property
    def products(self) -> list["_Product"]:
        """The products whose matrices have gradients that are made outside the core."""
        found = [i for i in self.adjoint.of_product if self.spec.heads or self.graph[i].op == "M"]
        return _together([self._product(i) for i in found])

    def _product(self, i: int) -> "_Product":
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
        first = 2 + spec.has_bias
        place = first if value.op == "U" else first + bool(spec.gates) + spec.matrices.index(value.name)
        columns = sum(graph[a].width for a in value.args)
        return _Product(place, row, value.width, columns, source, column, value.args)

    def shapes_saved(self, fields: int, T: int, B: int) -> list[tuple[int, ...]]:
        """The shapes of what `forward` saves in mode KEEP."""
        names = list(self.step.old)[:fields]
        states = [w for p, w in self.parts.items() if p[0] not in names and ("states", *p) in self._needed]
        return [*((T, B, w) for w in states), *([(T * B * sum(self.kept_widths),)] if self.kept_apart else [])]

    @cached_property
    def kept_widths(self) -> list[int]:
        """The widths of the values that are kept apart from states."""
        return [self.graph[i].width for i in self.kept_apart]

    def _kept_in(self, flat: Tensor, steps: int, B: int) -> dict[Key, Tensor]:
        """The arrays of what is kept, one behind another in one tensor."""
        parts = flat.split([steps * B * width for width in self.kept_widths])
        shapes = [(steps, B, width) for width in self.kept_widths]
        return {("kept", i): v.view(shape) for i, v, shape in zip(self.kept_apart, parts, shapes, strict=True)}

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
    ) -> list[Tensor | None]:
        """The gradients of `tensors`.

        Args:
            tensors, mask, reset, reverse, mode: As in `forward`.
            along, saved: What that gave.
            of_along, of_final: The gradients of what it gave; None for zero.
            wanted: Which gradients are wanted.
        """
        x, W = tensors[:2]
        T, B, input_size = x.shape
        H, G = self.spec.hidden_size, len(self.form.gates)
        arrays, parts = self.constants(tensors), list(self.parts)
        S = self.steps_at_once(T, B, mode)
        threads = self._threads(T, B)
        projects = input_size if wanted[0] and input_size >= 16 and self._projects(tensors, threads) else 0
        program = self._program("backward", x.dtype, projects, input_size)
        flags, gradients = _Flags(mask, reset), _Gradients(self, tensors, wanted)
        rest = list(saved)
        for part, states in zip(parts, along, strict=False):
            arrays.whole["states", *part] = states
        again, boundaries = None, None
        if mode == KEEP:
            for part in parts[len(along) :]:
                if ("states", *part) in self._needed:
                    arrays.whole["states", *part] = rest.pop(0)
            for flat in rest:
                arrays.whole |= self._kept_in(flat, T, B)
        else:
            boundaries = rest
            if not rest and S < T:
                boundaries = self.forward(tensors, mask, reset, reverse, 0, RECOMPUTE).saved
            for part, width in self.parts.items():
                arrays.whole.pop(("states", *part), None)
                arrays.some["states", *part] = BLOCKS.empty((S, B, width), x)
            again = self._run_of(tensors, arrays, mask, reset, reverse, S, keep=True, whole=False)
        memory, panels = self.packed(program, tensors, threads)
        arrays.held.append(memory)
        for key in program.keys:
            if key[0] in ("dproduct", "operand"):
                arrays.some[key] = BLOCKS.empty((S, B, self.graph[int(key[1])].width), x)
        sums = x.new_zeros(sum(program.sums.values())).split([*program.sums.values()])
        arrays.rows |= {("sum", *key): part for key, part in zip(program.sums, sums, strict=True)}
        dz = arrays.some["dz",] = (BLOCKS.empty if len(self.adjoint.of_x) == G else BLOCKS.zeros)((S, B, G * H), x)
        if projects:
            arrays.whole["dinput",] = BLOCKS.empty((T, B, input_size), x)
        for n, (part, width) in enumerate(self.parts.items()):
            given = of_along[n] if n < len(of_along) else None
            if given is not None:
                arrays.whole["given", *part] = given if given.stride(-1) == 1 or width == 1 else given.contiguous()
            final = of_final[n]
            arrays.rows["carry", *part] = (
                x.new_zeros(B, width) if final is None else final.clone(memory_format=torch.contiguous_format)
            )
            if reset is not None:
                arrays.rows["of_reset", *part] = x.new_zeros(B, width)
        of_x = None
        if wanted[0]:
            gradients.of_x = arrays.whole["dinput",] if projects else BLOCKS.empty((T, B, input_size), x)
            of_x = None if projects else gradients.of_x
        chunks = [(start, min(start + S, T)) for start in range(0, T, S)]
        chunks = chunks if reverse else chunks[::-1]
        first = [arrays.rows["begun", *p] for p in parts]
        for n, (start, stop) in enumerate(chunks):
            k = len(chunks) - 2 - n  # how many there are in front of it but for the first
            if k < 0:
                begun = first
            elif boundaries is not None:
                begun = [v[k] for v in boundaries]
            else:
                at = stop if reverse else start - 1
                begun = [
                    v[at] if (v := arrays.whole.get(("states", *p))) is not None else first[i]
                    for i, p in enumerate(parts)
                ]
            for part, state in zip(parts, begun, strict=True):
                arrays.rows["begun", *part] = state
            if again is not None:
                again(start, stop)
            program.run(stop - start, B, threads, reverse, arrays, panels, flags, start)
            if of_x is not None:
                torch.mm(dz[: stop - start].flatten(0, 1), W, out=of_x[start:stop].flatten(0, 1))
            gradients.add(arrays, reset, reverse, start, stop)
        return gradients.all(arrays, reset is not None)


class _Gradients:
    """The gradients of what a kernel is given, put together from δ.

    Args:
        kernel: The kernel.
        tensors: What it is given.
        wanted: Which gradients are wanted.
    """

    def __init__(self, kernel: Kernel, tensors: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        self.kernel, self.tensors, self.wanted = kernel, tensors, wanted
        self.of_x: Tensor | None = None
        self.first = 2 + kernel.spec.has_bias
        self.found: dict[int, Tensor] = {}
        self.products = [p for p in kernel.products if wanted[p.tensor]]
        if wanted[1]:
            self.found[1] = BLOCKS.empty(tensors[1].shape, tensors[1])
        for p in self.products:
            is_all = p.rows * p.columns == tensors[p.tensor].numel() and tensors[p.tensor].dim() == 2
            self.found[p.tensor] = (BLOCKS.empty if is_all else BLOCKS.zeros)(
                tensors[p.tensor].shape, tensors[p.tensor]
            )
        self.slim: dict[tuple[object, ...], tuple[Tensor, Tensor]] = {}  # by key the gradient, and its transpose so far
        self.begun: set[tuple[object, ...]] = set()  # what has been written to, and is added to from now on

    def add(self, arrays: Arrays, reset: Tensor | None, reverse: bool, start: int, stop: int) -> None:
        """Add what the steps from `start` to `stop` give."""
        kernel, tensors = self.kernel, self.tensors
        if self.wanted[1]:
            dz = arrays.steps(("dz",), start, stop)
            self._add(self.found[1], dz, tensors[0][start:stop], ("W",))
        for product in self.products:
            delta = arrays.steps(product.source, start, stop)
            if product.rows < delta.shape[-1]:
                delta = delta[..., product.column : product.column + product.rows]
            rows = self.found[product.tensor]
            blocks = kernel.spec.heads if product.tensor == self.first and kernel.spec.gates else 1
            column = 0
            for operand in product.operands:
                width = kernel.graph[operand].width
                pairs = self._operand(arrays, operand, reset, reverse, start, stop)
                for steps, values in pairs:
                    if blocks > 1:
                        self._add_blocks(rows, product, delta[steps], values)
                    else:
                        place = rows[product.row : product.row + product.rows, column : column + width]
                        self._add(place, delta[steps], values, (product.tensor, product.row, column))
                column += width

    def _operand(
        self, arrays: Arrays, i: int, reset: Tensor | None, reverse: bool, start: int, stop: int
    ) -> list[tuple[slice, Tensor]]:
        """What a product multiplied, for some of the steps and then for others."""
        value = self.kernel.graph[i]
        if value.op != "old":
            for key in (("operand", i), ("kept", i)):
                if key in arrays.some or key in arrays.whole:
                    return [(slice(None), arrays.steps(key, start, stop))]
            new = {v: (name, k) for name, parts in self.kernel.step.new.items() for k, v in enumerate(parts)}
            return [(slice(None), arrays.steps(("states", *new[i]), start, stop))]
        states = arrays.steps(("states", value.name, value.part), start, stop)
        begun = arrays.rows["begun", value.name, value.part].unsqueeze(0)
        if reset is None:
            ends = (slice(-1, None), slice(0, -1)) if reverse else (slice(0, 1), slice(1, None))
            pairs = [(ends[0], begun), (ends[1], states[1:] if reverse else states[:-1])]
            if len(states) == 1:
                return pairs[:1]
            return pairs if begun.any() else pairs[1:]
        before = torch.cat([states[1:], begun] if reverse else [begun, states[:-1]])
        anew = torch.cat([reset, torch.zeros_like(reset[:1])])[start + reverse : stop + reverse]
        initial = arrays.rows["initial", value.name, value.part]
        return [(slice(None), torch.where(anew.unsqueeze(-1), initial, before))]

    def _add(self, out: Tensor, delta: Tensor, values: Tensor, key: tuple[object, ...]) -> None:
        """Add the product of δ and what was multiplied, over rows and steps."""
        d, v = delta.flatten(0, 1), values.expand(*delta.shape[:2], -1).flatten(0, 1)
        is_slim = v.shape[1] <= SLIM and v.shape[1] < d.shape[1] and d.numel() > SLIM_FROM
        if key in self.slim or (is_slim and key not in self.begun):  # whichever it was at first, it stays
            if key not in self.slim:
                self.slim[key] = out, BLOCKS.empty((v.shape[1], d.shape[1]), v)
            out, d, v = self.slim[key][1], v, d
        fresh = key not in self.begun
        self.begun.add(key)
        torch.addmm(out, d.t(), v, beta=0 if fresh else 1, out=out)

    def _add_blocks(self, out: Tensor, product: "_Product", delta: Tensor, values: Tensor) -> None:
        heads, H = self.kernel.spec.heads, self.kernel.spec.hidden_size
        d = delta.unflatten(-1, (-1, heads, H // heads))  # gates taken together lie side by side
        v = values.unflatten(-1, (heads, -1))
        given = torch.einsum("tbghr,tbhk->hgrk", d, v).flatten(1, 2)
        first = product.row // heads
        out[:, first : first + given.shape[1]] += given

    def all(self, arrays: Arrays, has_reset: bool) -> list[Tensor | None]:
        """The gradients, in the order of what the kernel is given."""
        kernel, wanted, H = self.kernel, self.wanted, self.kernel.spec.hidden_size
        for gradient, transposed in self.slim.values():
            gradient.copy_(transposed.t())
        found: list[Tensor | None] = [None] * len(wanted)
        found[0] = self.of_x
        for n, gradient in self.found.items():
            found[n] = gradient

        def together(name: str, gates: Sequence[str]) -> Tensor:
            found = [arrays.rows.get(("sum", name, gate)) for gate in gates]
            if len(found) == 1 and found[0] is not None:
                return found[0]
            return torch.cat([self.tensors[0].new_zeros(H) if v is None else v for v in found])

        if kernel.spec.has_bias and wanted[2]:
            found[2] = together("bias", kernel.form.gates)
        if kernel.spec.heads == 0 and kernel.spec.gates and wanted[self.first]:
            found[self.first] = together("diagonal", kernel.spec.gates)
        for n, i in enumerate(kernel.vectors, kernel.places["vectors"]):
            found[n] = arrays.rows.get(("sum", "fixed", i))
        for n, part in enumerate(kernel.parts):
            found[kernel.places["begun"] + n] = arrays.rows["carry", *part]
            found[kernel.places["initial"] + n] = arrays.rows["of_reset", *part] if has_reset else None
        return [v if w else None for v, w in zip(found, wanted, strict=True)]


@dataclass(frozen=True)
class _Product:
    """A product whose matrix has a gradient: rows and columns of the tensor, δ's array and column, the operands."""

    tensor: int
    row: int
    rows: int
    columns: int
    source: Key
    column: int
    operands: tuple[int, ...]


def _together(products: list[_Product]) -> list[_Product]:
    """Products with the same operands whose rows, and whose δ, lie side by side, taken as one."""
    found: list[_Product] = []
    for p in sorted(products, key=lambda p: (p.tensor, p.row)):
        if found:
            q = found[-1]
            same = (p.tensor, p.source, p.operands) == (q.tensor, q.source, q.operands)
            if same and p.row == q.row + q.rows and p.column == q.column + q.rows:
                found[-1] = _Product(q.tensor, q.row, q.rows + p.rows, q.columns, q.source, q.column, q.operands)
                continue
        found.append(p)
    return found


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
