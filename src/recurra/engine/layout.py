"""Where a kernel's arrays lie in what a run is given, and the runs: forward along time, and the derivative back.

What depends on the sizes of a batch alone is put together once. A run then takes memory, has the core go over it, and
does in large products what does not depend on the step before: W x beforehand where the core does not project x
itself, and afterwards the gradients of the matrices, where these are not made in the core. Steps are taken some at a
time, so that what lies between the core and these products is still in cache, and little of it there at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from recurra.engine.gradients import Arrays, Gradients
from recurra.engine.lower import Key
from recurra.engine.memory import BLOCKS, scratch
from recurra.engine.native import core

if TYPE_CHECKING:
    from recurra.engine.kernel import Kernel, Loaded

PRODUCTS_IN_CORE = 1 << 17
"""Numbers of a matrix up to which the core makes its gradient as quickly as PyTorch (measured)."""

PRODUCTS_SHARED = 1 << 21
"""Multiplications for them from which on waking a second thread costs less than it gains (measured)."""

KEEP, DROP, RECOMPUTE = range(3)
"""What a forward run keeps for the derivative: all it needs, nothing, or the states at some steps."""

Route = tuple[int, int, bool, int, int]
"""Where an array lies: which address, the offset from it, whether it moves with the step at which a call begins, and
how far steps and rows lie apart."""

NOWHERE: Route = (-1, 0, False, 0, 0)


class Shape(NamedTuple):
    """The sizes of a run.

    Attributes:
        T: Steps.
        B: Rows.
        inputs: The width of x.
        dtype: The type of numbers.
        threads: Threads.
        at_once: Steps taken at a time.
    """

    T: int
    B: int
    inputs: int
    dtype: torch.dtype
    threads: int
    at_once: int

    def pieces(self, from_the_end: bool) -> list[tuple[int, int]]:
        """First step and the one behind the last of what is taken at a time, in the order in which it is."""
        found = [(start, min(start + self.at_once, self.T)) for start in range(0, self.T, self.at_once)]
        return found[::-1] if from_the_end else found


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


class Flags:
    """Which steps are taken and before which the state is set anew, as the core has them."""

    def __init__(self, mask: Tensor | None, reset: Tensor | None) -> None:
        self.mask, self.reset = (None if v is None else v.contiguous().view(torch.uint8) for v in (mask, reset))

    def at(self, start: int, steps: int) -> tuple[int, int, bool]:
        """Their addresses from a step on, 0 where there are none, and whether resets follow behind the last one."""
        valid, resets = (0 if v is None else v.data_ptr() + start * v.stride(0) for v in (self.mask, self.reset))
        return valid, resets, self.reset is not None and start + steps < len(self.reset)


_spent = 0.0


def seconds_in_core() -> float:
    """The time that this process has spent in recurrences in the core so far; of use where one thread calls it."""
    return _spent


class Laid:
    """A program laid out for the sizes of a batch.

    Args:
        loaded: The program.
        shape: The sizes.
        addresses: How many addresses a call is given.
        routes: Where arrays lie, by key; those that are not there lie nowhere.
        packed_at: The address and the offset of the panels.
        last: Keys of the arrays whose last step is copied, the number of the address it is copied to, and numbers.
        products: Products made behind the program, as the core has them.
        tidy: Whether gradients given at steps that are not taken are of no account.
    """

    def __init__(
        self,
        kernel: Kernel,
        loaded: Loaded,
        shape: Shape,
        addresses: int,
        routes: dict[Key, Route],
        packed_at: tuple[int, int],
        last: Sequence[tuple[Key, int, int]] = (),
        products: Sequence[tuple[Any, ...]] = (),
        tidy: bool = False,
    ) -> None:
        memory, offset = packed_at
        places, _ = kernel.packing(loaded, shape.inputs)
        packed = [(n, at, memory, offset + place, *rest) for n, at, *rest, place in places]
        panels = [(memory, offset + begin) for begin in loaded.begins]
        arrays = [routes.get(key, NOWHERE) for key in loaded.keys]
        copied = [(loaded.keys.index(key), address, 0, numbers) for key, address, numbers in last]
        work = sum(rows * width * columns for *_, rows, width, columns, _, _, _, _ in products)
        threads = shape.threads if work > PRODUCTS_SHARED else 1
        made = list(products)
        self.core = core().Layout(
            loaded.program, shape.B, addresses, arrays, packed, panels, copied, made, threads, tidy
        )
        self.threads = shape.threads

    def run(self, addresses: list[int], start: int, stop: int, reverse: bool, packs: bool, flags: Flags | None) -> None:
        """Run it over some steps."""
        global _spent
        steps = stop - start
        valid, resets, more = (0, 0, False) if flags is None else flags.at(start, steps)
        _spent += self.core.run(addresses, start, steps, self.threads, reverse, packs, valid, resets, more)


def _given(kernel: Kernel, shape: Shape) -> dict[Key, Route]:
    """Where the tensors of a kernel lie, whose numbers are those of their addresses; a state's rows side by side."""
    found: dict[Key, Route] = {("input",): (0, 0, True, shape.B * shape.inputs, shape.inputs)}
    return found | {key: (n, first, False, 0, width) for key, (n, first, width) in kernel.constants.items()}


class Forward:
    """Forward runs of a kernel for one size of a batch.

    Args:
        kernel: The kernel.
        shape: The sizes.
        keep: Whether what the derivative needs is kept.
        whole: Of each part of the state, whether it is wanted at every step; else for the steps at hand.
        again: Whether all is for the steps at hand: when it is run again, piece by piece, for the derivative.
    """

    def __init__(self, kernel: Kernel, shape: Shape, *, keep: bool, whole: Sequence[bool], again: bool = False) -> None:
        self.kernel, self.shape, self.whole, self.again = kernel, shape, whole, again
        T, B, inputs, S = shape.T, shape.B, shape.inputs, shape.at_once
        projects = kernel.projects(shape)
        loaded = kernel.program("keep" if keep else "drop", shape.dtype, projects, inputs)
        count, parts = kernel.tensor_count, kernel.parts
        memory, kept, states, final = count, count + 1, count + 2, count + 2 + len(parts)
        routes = _given(kernel, shape)
        self.width = len(kernel.form.gates) * kernel.spec.hidden_size
        self.projected = 0 if projects or ("z",) not in loaded.keys else S * B * self.width
        routes["z",] = (memory, 0, False, B * self.width, self.width)
        for k, (part, width) in enumerate(parts.items()):
            routes["states", *part] = (states + k, 0, whole[k] and not again, B * width, width)
        places, self.kept = kernel.kept_places((S if again else T) * B) if keep else ({}, 0)
        routes |= {key: (kept, place, not again, B * width, width) for key, (place, width) in places.items()}
        last = [] if again else [(("states", *p), final + k, B * w) for k, (p, w) in enumerate(parts.items())]
        self.laid = Laid(kernel, loaded, shape, count + 2 + 2 * len(parts), routes, (memory, self.projected), last)
        self.memory = self.projected + kernel.packing(loaded, inputs)[1]

    def run(
        self, tensors: Sequence[Tensor], flags: Flags | None, reverse: bool, along: int, mode: int, leading: bool
    ) -> Ran:
        """Run along time; see `Kernel.forward`. The first so many parts of the state are wanted at every step."""
        x, shape, kernel = tensors[0], self.shape, self.kernel
        T, B, S, begun = shape.T, shape.B, shape.at_once, kernel.places["begun"]
        widths, whole = kernel.widths, self.whole
        states = [BLOCKS.empty((T if w else S, B, n), x) for w, n in zip(whole, widths, strict=True)]
        final = [x.new_empty((1, B, n) if leading else (B, n)) for n in widths]
        kept = BLOCKS.empty((self.kept,), x) if self.kept else None
        run, addresses = self.steps(tensors, flags, reverse, states, kept, final)
        pieces = [(0, T)] if S >= T else shape.pieces(reverse)
        boundaries: list[list[Tensor]] = []
        for start, stop in pieces:
            run(start, stop)
            if len(pieces) > 1:
                addresses[begun : begun + len(final)] = [v.data_ptr() for v in final]
                if mode == RECOMPUTE:
                    boundaries.append([v.clone().view(B, -1) for v in final])
        wanted = [v for v, w in zip(states, whole, strict=True) if w]
        saved = []
        if mode == KEEP:
            saved = wanted[along:] if kept is None else [*wanted[along:], kept]
        elif boundaries:
            saved = [torch.stack(part) for part in zip(*boundaries[:-1], strict=True)]
        return Ran(wanted[:along], final, saved)

    def steps(
        self,
        tensors: Sequence[Tensor],
        flags: Flags | None,
        reverse: bool,
        states: Sequence[Tensor],
        kept: Tensor | None,
        final: Sequence[Tensor] = (),
    ) -> tuple[Any, list[int]]:
        """What runs some steps into this memory, and the addresses it reads; those of "begun" may be changed."""
        x, laid = tensors[0], self.laid
        memory = BLOCKS.empty((self.memory,), x) if self.again else scratch(self.memory, x)
        addresses = [v.data_ptr() for v in tensors]
        addresses += [memory.data_ptr(), 0 if kept is None else kept.data_ptr()]
        addresses += [v.data_ptr() for v in states]
        addresses += [v.data_ptr() for v in final] or [0] * len(states)
        z, packs = memory[: self.projected] if self.projected else None, True

        def run(start: int, stop: int, held: Any = memory) -> None:
            nonlocal packs
            if z is not None:
                rows = x[start:stop].flatten(0, 1)
                out = z[: len(rows) * self.width].view(-1, self.width)
                if self.kernel.spec.has_bias:
                    torch.addmm(tensors[2], rows, tensors[1].t(), out=out)
                else:
                    torch.mm(rows, tensors[1].t(), out=out)
            laid.run(addresses, start, stop, reverse, packs, flags)
            packs = False

        return run, addresses


class Backward:
    """Derivatives of a kernel for one size of a batch.

    Args:
        kernel: The kernel.
        shape: The sizes.
        mode: What the forward run kept.
        reverse: Whether time runs from the last step to the first.
        has_reset: Whether states are set anew.
        wanted: Which gradients of the kernel's tensors are wanted.
        given: Of each part of the state, how far steps and rows of the gradients given at every step lie apart; None
            where there are none.
        tidy: Whether those at steps that are not taken are of no account.
    """

    def __init__(
        self,
        kernel: Kernel,
        shape: Shape,
        mode: int,
        reverse: bool,
        has_reset: bool,
        wanted: Sequence[bool],
        given: Sequence[tuple[int, int] | None],
        tidy: bool,
    ) -> None:
        self.kernel, self.shape, self.wanted, self.reverse = kernel, shape, wanted, reverse
        T, B, inputs, S = shape.T, shape.B, shape.inputs, shape.at_once
        spec, parts, stored = kernel.spec, kernel.parts, mode == KEEP
        H, count = spec.hidden_size, kernel.tensor_count
        self.projects = kernel.projects(shape) if wanted[0] else 0
        loaded = kernel.program("backward", shape.dtype, self.projects, inputs)
        memory, kept, states = count, count + 1, count + 2
        carry, of_reset, of_steps, sums = (states + n * len(parts) for n in range(1, 5))
        of_x, of_tensor = sums + 1, sums + 2
        self.again = None if stored else Forward(kernel, shape, keep=True, whole=[True] * len(parts), again=True)

        routes = _given(kernel, shape)
        for k, (part, width) in enumerate(parts.items()):
            routes["states", *part] = (states + k, 0, stored, B * width, width)
            routes["carry", *part] = (carry + k, 0, False, 0, width)
            routes["of_reset", *part] = (of_reset + k, 0, False, 0, width)
            strides = given[k]
            if strides is not None:
                routes["given", *part] = (of_steps + k, 0, True, *strides)
        self.kept, _ = kernel.kept_places((T if stored else S) * B)
        routes |= {key: (kept, place, stored, B * width, width) for key, (place, width) in self.kept.items()}
        routes["dinput",] = (of_x, 0, True, B * inputs, inputs)

        self.width = len(kernel.form.gates) * H
        self.places: dict[Key, tuple[int, int]] = {("dz",): (0, self.width)}  # in memory, and the width
        total = S * B * self.width
        for key in loaded.keys:
            if key[0] in ("dproduct", "operand"):
                self.places[key] = total, kernel.graph[int(key[1])].width
                total += S * B * self.places[key][1]
        for key, (place, width) in self.places.items():
            routes[key] = (memory, place, False, B * width, width)
        self.memory = total + kernel.packing(loaded, inputs)[1]
        self.sums, self.summed = self._sums(loaded)
        for key, place in self.sums.items():
            routes["sum", *key] = (sums, place, False, 0, 0)

        sizes = [self.width * inputs, *(p.rows * p.columns for p in kernel.products)]
        self.in_core = S >= T and not has_reset and max(sizes) <= PRODUCTS_IN_CORE
        products = self._products(routes, of_tensor) if self.in_core else []
        self.covered: dict[int, int] = {}  # by tensor, how many numbers of its gradient are written
        for _, _, (tensor, _), _, rows, columns, _, _, _, adds in products:
            n = tensor - of_tensor
            self.covered[n] = self.covered.get(n, 0) + (0 if adds else rows * columns)
        addresses, packed_at = of_tensor + kernel.places["vectors"], (memory, total)
        self.laid = Laid(kernel, loaded, shape, addresses, routes, packed_at, (), products, tidy)

    def _sums(self, loaded: Loaded) -> tuple[dict[Key, int], int]:
        """Where each sum lies, and how many numbers all have: those of b first, then of a diagonal U, gate by gate."""
        kernel, total, found = self.kernel, 0, dict[Key, int]()
        of_gates = [("bias", g) for g in kernel.form.gates] if kernel.spec.has_bias else []
        of_gates += [("diagonal", g) for g in kernel.spec.gates] if kernel.spec.heads == 0 else []
        for key, width in [*((key, kernel.spec.hidden_size) for key in of_gates), *loaded.sums.items()]:
            if key not in found:
                found[key] = total
                total += width
        return found, total

    def _products(self, routes: dict[Key, Route], of_tensor: int) -> list[tuple[Any, ...]]:
        """The gradients of matrices as the core makes them: sums over rows and steps of δ times what was multiplied."""
        kernel, shape, spec = self.kernel, self.shape, self.kernel.spec
        rows, found, begun = shape.B, list[tuple[Any, ...]](), set[tuple[int, int]]()

        def add(
            delta: Route, column: int, operand: _Operand, tensor: int, offset: int, r: int, columns: int, stride: int
        ) -> None:
            memory, place, *_, d_row = delta
            d = (memory, place + operand.step * rows * d_row + column)
            v, out = (operand.address, operand.offset), (of_tensor + tensor, offset)
            adds = (tensor, offset) in begun
            begun.add((tensor, offset))
            found.append((d, v, out, operand.steps * rows, r, columns, d_row, operand.row, stride, adds))

        if self.wanted[1]:
            x = _Operand(0, 0, 0, shape.inputs, shape.T)
            add(routes["dz",], 0, x, 1, 0, self.width, shape.inputs, shape.inputs)
        for p in kernel.products:
            if not self.wanted[p.tensor]:
                continue
            delta, first = routes[p.source], 0
            blocks = spec.heads if p.tensor == kernel.places["U"] and spec.gates else 1
            for i in p.operands:
                width = kernel.graph[i].width
                for operand in self._operand(routes, i):
                    if blocks == 1:
                        add(delta, p.column, operand, p.tensor, p.row * p.columns + first, p.rows, width, p.columns)
                        continue
                    H, r, k = spec.hidden_size, spec.hidden_size // blocks, width // blocks
                    for head in range(blocks):
                        v = operand._replace(offset=operand.offset + head * k)
                        for g in range(p.rows // H):
                            row = head * len(spec.gates) * r + p.row // blocks + g * r
                            add(delta, p.column + g * H + head * r, v, p.tensor, row * k, r, k, k)
                first += width
        return found

    def _operand(self, routes: dict[Key, Route], i: int) -> list[_Operand]:
        """What a product multiplied, at some of the steps and then at others."""
        kernel, T = self.kernel, self.shape.T
        value = kernel.graph[i]
        if value.op != "old":
            key = kernel.key_of_operand(i, routes)
            address, offset, *_, row = routes[key]
            return [_Operand(0, address, offset, row, T)]
        address, offset, *_, row = routes["begun", value.name, value.part]
        first = _Operand(T - 1 if self.reverse else 0, address, offset, row, 1)
        address, offset, _, step, row = routes["states", value.name, value.part]
        if T == 1:
            return [first]
        return [_Operand(1 - self.reverse, address, offset + self.reverse * step, row, T - 1), first]

    def run(
        self,
        tensors: Sequence[Tensor],
        along: Sequence[Tensor],
        saved: Sequence[Tensor],
        of_steps: Sequence[Tensor | None],
        of_final: Sequence[Tensor | None],
        mask: Tensor | None,
        reset: Tensor | None,
    ) -> list[Tensor | None]:
        """The gradients of `tensors`; see `Kernel.backward`."""
        kernel, shape, wanted, x = self.kernel, self.shape, self.wanted, tensors[0]
        T, B, inputs, S = shape.T, shape.B, shape.inputs, shape.at_once
        widths, vectors, begun = kernel.widths, kernel.places["vectors"], kernel.places["begun"]
        states, kept = self._states(tensors, along, saved)
        carry = [
            x.new_zeros(B, n) if v is None else v.reshape(B, n).clone(memory_format=torch.contiguous_format)
            for v, n in zip(of_final, widths, strict=True)
        ]
        of_reset = [] if reset is None else [x.new_zeros(B, n) for n in widths]
        sums = x.new_zeros(self.summed)
        of_x = BLOCKS.empty((T, B, inputs), x) if wanted[0] else None
        memory = scratch(self.memory, x) if self.again is None else BLOCKS.empty((self.memory,), x)
        if len(kernel.adjoint.of_x) < len(kernel.form.gates):
            memory[: S * B * self.width].zero_()
        found = {
            n: (BLOCKS.empty if numbers == tensors[n].numel() else BLOCKS.zeros)(tensors[n].shape, x)
            for n, numbers in self.covered.items()
        }
        addresses = [v.data_ptr() for v in tensors]
        addresses += [memory.data_ptr(), 0 if kept is None else kept.data_ptr()]
        addresses += [0 if v is None else v.data_ptr() for v in states]
        addresses += [v.data_ptr() for v in carry]
        addresses += [v.data_ptr() for v in of_reset] or [0] * len(carry)
        addresses += [0 if v is None else v.data_ptr() for v in of_steps]
        addresses += [sums.data_ptr(), 0 if of_x is None else of_x.data_ptr()]
        addresses += [found[n].data_ptr() if n in found else 0 for n in range(vectors)]

        found |= self._in_pieces(tensors, states, kept, memory, addresses, saved, of_x, mask, reset)
        result: list[Tensor | None] = [None] * len(wanted)
        result[0] = of_x
        for n, gradient in found.items():
            result[n] = gradient
        spec, H = kernel.spec, kernel.spec.hidden_size
        if spec.has_bias:
            result[2] = sums[: self.width]
        if spec.heads == 0 and spec.gates:
            start = self.width if spec.has_bias else 0
            result[kernel.places["U"]] = sums[start : start + len(spec.gates) * H]
        for n, i in enumerate(kernel.vectors, vectors):
            place = self.sums.get(("fixed", i))
            result[n] = None if place is None else sums[place : place + kernel.graph[i].width]
        result[begun : begun + len(carry)] = carry
        if of_reset:
            result[kernel.places["initial"] :] = of_reset
        return [v if w else None for v, w in zip(result, wanted, strict=True)]

    def _states(
        self, tensors: Sequence[Tensor], along: Sequence[Tensor], saved: Sequence[Tensor]
    ) -> tuple[list[Tensor | None], Tensor | None]:
        """The states, part by part, and what was kept beside them; memory for them where they are computed again."""
        kernel, shape, x = self.kernel, self.shape, tensors[0]
        if self.again is not None:
            some = [BLOCKS.empty((shape.at_once, shape.B, n), x) for n in kernel.widths]
            return [*some], BLOCKS.empty((self.again.kept,), x) if self.again.kept else None
        rest, states = list(saved), list[Tensor | None](along)
        for part in list(kernel.parts)[len(along) :]:
            states.append(rest.pop(0) if ("states", *part) in kernel.needed else None)
        return states, rest[0] if rest else None

    def _of_x(self, memory: Tensor, tensors: Sequence[Tensor], of_x: Tensor | None, start: int, stop: int) -> None:
        """δ of x from δ of W x, where the core does not make it."""
        if of_x is not None and not self.projects:
            rows = (stop - start) * self.shape.B
            dz = memory[: rows * self.width].view(rows, self.width)
            torch.mm(dz, tensors[1], out=of_x[start:stop].flatten(0, 1))

    def _arrays(
        self, tensors: Sequence[Tensor], states: Sequence[Tensor | None], kept: Tensor | None, memory: Tensor
    ) -> Arrays:
        """The arrays from which PyTorch makes the gradients of matrices."""
        kernel, (T, B, *_), S, places = self.kernel, self.shape, self.shape.at_once, self.kernel.places
        arrays, stored = Arrays(), self.again is None
        for key, (place, width) in self.places.items():
            arrays.some[key] = memory[place : place + S * B * width].view(S, B, width)
        for part, tensor in zip(kernel.parts, states, strict=True):
            if tensor is not None:
                (arrays.whole if stored else arrays.some)["states", *part] = tensor
        steps = T if stored else S
        for key, (place, width) in self.kept.items():
            assert kept is not None
            into = arrays.whole if stored else arrays.some
            into[key] = kept[place : place + steps * B * width].view(steps, B, width)
        for name in ("begun", "initial"):
            for part, tensor in zip(kernel.parts, tensors[places[name] :], strict=False):
                arrays.rows[name, *part] = tensor
        return arrays

    def _in_pieces(
        self,
        tensors: Sequence[Tensor],
        states: Sequence[Tensor | None],
        kept: Tensor | None,
        memory: Tensor,
        addresses: list[int],
        saved: Sequence[Tensor],
        of_x: Tensor | None,
        mask: Tensor | None,
        reset: Tensor | None,
    ) -> dict[int, Tensor]:
        """Run some steps at a time, from the last ones to the first; returns the gradients that PyTorch makes."""
        kernel, shape, reverse, again = self.kernel, self.shape, self.reverse, self.again
        parts, first, count = list(kernel.parts), kernel.places["begun"], len(kernel.parts)
        boundaries, run_again, read = None, None, []
        flags = None if mask is None and reset is None else Flags(mask, reset)
        if again is not None:
            boundaries = saved
            if not boundaries and shape.at_once < shape.T:
                boundaries = kernel.forward(tensors, mask, reset, reverse, 0, RECOMPUTE).saved
            run_again, read = again.steps(tensors, flags, reverse, [v for v in states if v is not None], kept)
        gradients, arrays = None, Arrays()
        if not self.in_core:
            gradients, arrays = Gradients(kernel, tensors, self.wanted), self._arrays(tensors, states, kept, memory)
        pieces = shape.pieces(not reverse)
        for n, (start, stop) in enumerate(pieces):
            k = len(pieces) - 2 - n  # how many there are in front of it but for the first
            if k < 0:
                begun = tensors[first : first + count]
            elif boundaries is not None:
                begun = [v[k] for v in boundaries]
            else:  # of a state that is not stored, the derivative reads none
                at = stop if reverse else start - 1
                begun = [tensors[first + i] if v is None else v[at] for i, v in enumerate(states)]
            for part, state in zip(parts, begun, strict=True):
                arrays.rows["begun", *part] = state
            addresses[first : first + count] = [v.data_ptr() for v in begun]
            if run_again is not None:
                read[first : first + count] = addresses[first : first + count]
                run_again(start, stop)
            self.laid.run(addresses, start, stop, reverse, n == 0, flags)
            self._of_x(memory, tensors, of_x, start, stop)
            if gradients is not None:
                gradients.add(arrays, reset, reverse, start, stop)
        return {} if gradients is None else gradients.finish()


class _Operand(NamedTuple):
    """What a product multiplied at some steps: the first one, where it lies, how far rows lie apart, how many steps."""

    step: int
    address: int
    offset: int
    row: int
    steps: int
