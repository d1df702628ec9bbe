"""Influences in the compiled core: a layer's steps, their linear part, and what the parameters have done, in one call.

The core is given a plan, made here: what the linear part's matrices are made of (`recurra.engine.tangent`), which
columns of the influence belong to which parameters (`recurra.engine.reach`), and where all of it lies in memory. It
reads the parameters where they are, so that they may move from step to step.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from recurra.engine import lower
from recurra.engine.eager import State
from recurra.engine.fused import Fused
from recurra.engine.kernel import Loaded
from recurra.engine.lower import Form
from recurra.engine.native import core
from recurra.engine.program import Graph, Value
from recurra.engine.reach import Group, Layer, Piece
from recurra.engine.tangent import DIAGONAL_OF_U, Block
from recurra.engine.trace import Step

MAKE = {
    name: k
    for k, name in enumerate(("row", "column", "rows", "columns", "product", "copy", "numbers", "diagonal", "dot"))
}
"""What the core makes matrices and vectors by (`Make` in native/influence.hpp)."""

FULL = 16
"""Numbers that are a whole number of vectors, whatever these are (`kFull` in native/influence.hpp)."""

AT_ONCE = 16
"""Steps that the core carries an influence over at once, at the most (`kPast` in native/influence.hpp)."""

MOST_PARTS = 4
"""Parts of the state that a unit's parameters may reach where each reaches its own unit alone."""


def why_not_carried(layer: Layer) -> str | None:
    """Why the core cannot carry the influence of a layer's parameters; None where it can."""
    cell, name = layer.cell, layer.cell.name
    if callable(cell.recurrent):
        return f"U of cell {name!r} has a mask"
    if cell.recurrent == "blocks" and cell.size("heads", layer.hidden_size) > 1:
        return f"U of cell {name!r} is in blocks"
    if any(g.own and len(g.rows) > MOST_PARTS for g in layer.groups):
        return f"the state of cell {name!r} has more than {MOST_PARTS} parts"
    try:
        _prepared(layer)
    except _UnforeseenError as error:
        return f"cell {name!r}: {error}"
    return None


class _UnforeseenError(RuntimeError):
    """Something in a program that the plan has no word for."""


def _prepared(layer: Layer) -> tuple[Step, dict[int, int], tuple[str, ...], tuple[str, ...]]:
    """A layer's step for the core: every value of its own for each row, since parameters move. What U multiplies the
    old state with is a net input: added to W x where nothing else asks for one of them, else one of its own.

    Returns:
        The step; the numbers in it of values of the layer's graph; the gates whose products are added; those whose
        products are net inputs of their own.
    """
    graph, step, cell = layer.graph, layer.tangents.step, layer.cell
    olds = [i for parts in step.old.values() for i in parts]
    new = [i for parts in step.new.values() for i in parts]
    order = sorted({*graph.needed([*new, *layer.wanted]), *olds})
    uses = Counter([*new, *layer.wanted, *(a for i in order for a in graph[i].args)])
    first = tuple(next(iter(step.old.values())))
    diagonals = {i for i in order if graph[i].op == "vector" and graph[i].part == DIAGONAL_OF_U}
    out, places, folded, apart = Graph(), {}, [], []
    by_net = len(first) == 1 and cell.recurrent != "diagonal"

    def is_net_input(x: int, product: int) -> bool:
        a, b = graph[x], graph[product]
        together = (a.op, b.op, b.args) == ("x", "U", first) and a.name == b.name
        return together and by_net and uses[x] == uses[product] == 1

    for i in order:
        value = graph[i]
        if i in diagonals:
            continue
        used = diagonals & {*value.args}
        if used:
            others = [a for a in value.args if a not in used]
            if value.op != "mul" or len(others) != 1:
                raise _UnforeseenError("its diagonal U is multiplied with something else than a number of the row")
            u = graph[next(iter(used))]
            places[i] = out.add(Value("U", (places[others[0]],), u.name, width=u.width))
            continue
        if value.op == "add":
            pair = next((p for p in (value.args, value.args[::-1]) if is_net_input(*p)), None)
            if pair is not None:
                folded.append(graph[pair[0]].name)
                places[i] = places[pair[0]]
                continue
        if by_net and value.op == "U" and value.args == first:
            added = [
                p for j in order if graph[j].op == "add" for p in (graph[j].args, graph[j].args[::-1]) if p[1] == i
            ]
            if not any(is_net_input(*p) for p in added):
                apart.append(value.name)
                places[i] = out.leaf("x", _apart(value.name), value.width)
                continue
        args = tuple(places[a] for a in value.args)
        places[i] = out.add(value._replace(args=args, fixed=value.op == "number"))
    fields = ({name: tuple(places[i] for i in parts) for name, parts in v.items()} for v in (step.new, step.old))
    return Step(out, *fields), places, tuple(folded), tuple(apart)


def _apart(gate: str) -> str:
    """What the net input is called that is U h alone."""
    return f"U {gate}"


class _Plan:
    """What the core is told, for one layer, its parameters as they lie in memory, and so many rows.

    Args:
        layer: The layer.
        weights: Its parameters and constants.
        rows: Rows of the batch.
        waits: Carry the influence over several steps at once.
    """

    def __init__(self, layer: Layer, weights: Mapping[str, Tensor], rows: int, waits: bool) -> None:
        self.layer, self.weights, self.rows, self.waits = layer, weights, rows, waits
        self.like = weights["weight_ih"].detach()
        self.held: list[object] = []  # what the core points at
        self.step, self.places, self.folded, self.apart = _prepared(layer)
        self.coefficients: dict[tuple[int, bool], int] = {}
        self.coefficient_list: list[tuple[int, int, int, int]] = []
        self.squares: list[tuple[int, int, int, int]] = []
        self.square_of: dict[int, int] = {}
        self.vectors: list[int] = []
        self.vector_of: dict[tuple[Block, int], int] = {}
        self.makings: list[tuple[int, int, int, int, int, bool]] = []

    def core(self) -> Any:
        """The core's object."""
        layer, H = self.layer, self.layer.hidden_size
        cell = layer.cell
        fused = Fused(cell, layer.use, self.step, H, bool(layer.biases))
        kernel = fused.kernel
        rest = [g for g in kernel.form.gates if g not in self.folded]
        self.gates = (*self.folded, *rest, *map(_apart, self.apart))
        form = Form(self.gates, kernel.form.has_bias, kernel.form.is_diagonal)
        keep = sorted({self.places[i] for i in layer.wanted if i in self.places and self._is_kept(i)})
        self.low = low = lower.forward(form, self.step, keep)
        z = low.array(("z",))
        parts = [(w, low.array(("states", *p)), low.array(("begun", *p))) for p, w in kernel.parts.items()]
        for k in layer.wanted:  # every coefficient has its place before the program is made
            if k in self.places:
                self._array(k)
        loaded = Loaded(
            kernel, low, is_backward=False, is_double=self.like.dtype == torch.float64, input_size=layer.input_size
        )
        inputs: list[Any] = []  # sites that multiply the same share them
        self.inputs_of = []
        for k in range(len(layer.sites)):
            found = self._inputs(k)
            if found not in inputs:
                inputs.append(found)
            self.inputs_of.append(inputs.index(found))
        groups = [self._group(g) for g in layer.groups]
        through = self._through()
        arrays = [
            (self._address(key), self.step.graph[int(key[1])].width if key[0] == "kept" else 0) for key in loaded.keys
        ]
        tensors = [self.like, self.weights["weight_ih"], *([self.like] if kernel.spec.has_bias else [])]
        if cell.gates:
            tensors.append(self.weights["weight_hh"])
        tensors += [self.weights[m.name] for m in cell.matrices]
        packing, total = kernel.packing(loaded, layer.input_size)
        panels = self.like.new_zeros(max(total, 1))
        self.held += [loaded.program, panels, kernel]
        last = len(tensors)
        addresses = [*(t.data_ptr() for t in tensors), panels.data_ptr()]
        packed = [
            (tensor, first, last, place, height, columns, stride, transposed)
            for tensor, first, height, columns, stride, transposed, place in packing
        ]
        size = self.like.element_size()
        sizes = [layer.outputs, layer.input_size, z, len(self.gates) * H]
        return core().Influence(
            loaded.program,
            self.rows,
            torch.get_num_threads(),
            AT_ONCE if self.waits else 1,
            arrays,
            packed,
            addresses,
            [panels.data_ptr() + place * size for place in loaded.begins],
            parts,
            sizes,
            [self._net(k, g) for k, g in enumerate(self.gates)],
            self.coefficient_list,
            self.squares,
            self.vectors,
            self.makings,
            inputs,
            groups,
            through,
            self._giving(),
        )

    # --- where things lie -----------------------------------------------------------------------------------------

    def _at(self, name: str, first: int = 0) -> int:
        """The address of a parameter, from so many numbers on."""
        tensor = self.weights[name]
        return tensor.data_ptr() + first * tensor.element_size()

    def _net(self, place: int, gate: str) -> tuple[int, int, int, int, int, int]:
        """A gate's net input: W x, its biases, and U h where it is taken together with them."""
        cell, H = self.layer.cell, self.layer.hidden_size
        if gate not in (*cell.gates, *cell.inputs):
            first = cell.gates.index(self.apart[place - len(self.gates)]) * H
            return place * H, H, 0, self._at("weight_hh", first * self.weights["weight_hh"].shape[-1]), 0, 0
        i = next(
            (
                i
                for i, _ in self.layer.tangents.sources
                if self.layer.graph[i].op == "x" and self.layer.graph[i].name == gate
            )
        )
        pieces = self.layer.pieces(i)
        biases = [self._at(piece.name, piece.first) for piece in pieces if piece.kind == "one"]
        U = 0
        if gate in self.folded:
            U = self._at("weight_hh", cell.gates.index(gate) * H * self.weights["weight_hh"].shape[-1])
        first, second = [*biases, 0, 0][:2]
        return place * H, H, self._at("weight_ih", pieces[0].first * self.layer.input_size), U, first, second

    def _address(self, key: Any) -> int:
        """Where an array of the program lies; 0 where the core says so itself."""
        kind, *rest = key
        layer = self.layer
        if kind == "kept":
            tensor = self.like.new_zeros(self.rows, self.step.graph[int(rest[0])].width)
            self.held.append(tensor)
            return tensor.data_ptr()
        if kind == "diagonal":
            return self._at("weight_hh", layer.cell.gates.index(rest[0]) * layer.hidden_size)
        if kind in ("vector", "constant", "bias"):
            value = next(v for v in self.step.graph.values if (v.op, v.name, v.part) == (kind, *rest))
            return self._fixed(value)
        return 0

    def _row(self, key: Any) -> int:
        """Numbers from row to row of the batch, of an array whose rows differ."""
        return self.step.graph[int(key[1])].width if key[0] == "kept" else 0

    def _fixed(self, value: Value) -> int:
        """Where a parameter or a constant lies."""
        layer = self.layer
        if value.op == "bias":
            every = (*layer.cell.gates, *layer.cell.inputs)
            name = "bias" if layer.cell.biases == "apart" else "bias_hh"
            if not layer.biases:
                zeros = self.like.new_zeros(value.width)
                self.held.append(zeros)
                return zeros.data_ptr()
            return self._at(name, every.index(value.name) * layer.hidden_size)
        if value.op == "constant":
            own = self.weights[value.name].to(self.like.dtype).contiguous()
            self.held.append(own)
            return own.data_ptr() + value.part * value.width * own.element_size()
        return self._at(value.name, value.part * value.width)

    def _is_kept(self, i: int) -> bool:
        """Whether a value is written to an array for us, none that is there anyway."""
        n = self.places[i]
        value = self.step.graph[n]
        state = {k for parts in self.step.new.values() for k in parts}
        return value.op not in ("number", "old", "vector", "constant", "bias") and (n not in state or value.op == "x")

    def _array(self, i: int) -> int:
        """The array of the program that holds a value; -1 where none does."""
        n = self.places[i]
        value = self.step.graph[n]
        if value.op == "old":
            return self.low.array(("begun", value.name, value.part))
        if self._is_kept(i):
            return self.low.array(("kept", n))
        for name, parts in self.step.new.items():
            if n in parts and value.op != "number":
                return self.low.array(("states", name, parts.index(n)))
        return -1

    def coefficient(self, i: int, width: int) -> int:
        """The number of a coefficient: a value of the layer's graph, for a row of this width."""
        value = self.layer.graph[i]
        spread = value.width == 1 and width > 1
        if (i, spread) in self.coefficients:
            return self.coefficients[i, spread]
        along = 0 if spread else 1
        if value.op == "number":
            number = self.like.new_full((1,), value.number)
            self.held.append(number)
            found = (-1, number.data_ptr(), 0, 0)
        elif value.op == "vector" and value.part == DIAGONAL_OF_U:
            found = (
                -1,
                self._at("weight_hh", self.layer.cell.gates.index(value.name) * self.layer.hidden_size),
                0,
                along,
            )
        elif value.op in ("vector", "constant", "bias"):
            found = (-1, self._fixed(value), 0, along)
        else:
            array = self._array(i)
            if array < 0:
                raise _UnforeseenError(f"{value.op} is in no array")
            found = (array, 0, value.width, along)
        self.coefficients[i, spread] = len(self.coefficient_list)
        self.coefficient_list.append(found)
        return self.coefficients[i, spread]

    # --- matrices -------------------------------------------------------------------------------------------------

    def square(self, n: int) -> int:
        """The number of a matrix: a parameter where it lies, or one that is made."""
        if n in self.square_of:
            return self.square_of[n]
        node, graph = self.layer.tangents.nodes[n], self.layer.graph
        if node.op == "parameter":
            value = graph[node.value]
            first, total = 0, sum(graph[a].width for a in value.args)
            first = sum(graph[a].width for a in value.args[: int(node.side)])
            if value.op == "M":
                data = self._at(value.name, value.part * value.width * total + first)
            else:
                data = self._at(
                    "weight_hh", self.layer.cell.gates.index(value.name) * self.layer.hidden_size * total + first
                )
            self.squares.append((data, node.rows, node.columns, total))
            self.square_of[n] = len(self.squares) - 1
            return self.square_of[n]
        self.squares.append((0, node.rows, node.columns, node.columns))
        made = self.square_of[n] = len(self.squares) - 1
        self._make(n, made, False)
        return made

    def _make(self, n: int, into: int, adds: bool) -> None:
        node = self.layer.tangents.nodes[n]
        if node.op in ("row", "column") and not adds:
            width = node.rows * node.columns
            self._emit(node.op, into, self.coefficient(node.value, width), -1, -1, False)
        elif node.op == "scaled":
            width = node.rows if node.side == "rows" else node.columns
            self._emit(node.side, into, self.coefficient(node.value, width), self.square(node.args[0]), -1, adds)
        elif node.op == "product":
            self._emit("product", into, self.square(node.args[0]), self.square(node.args[1]), -1, adds)
        elif node.op == "sum":
            for k, a in enumerate(node.args):
                self._make(a, into, adds or k > 0)
        else:
            self._emit("copy", into, -1, self.square(n), -1, adds)

    def _emit(self, make: str, *what: Any) -> None:
        self.makings.append((MAKE[make], *what))

    def vector(self, block: Block, width: int) -> int:
        """The number of a vector: what stands on a block's diagonal."""
        key = block, width
        if key not in self.vector_of:
            self.vectors.append(width)
            made = self.vector_of[key] = len(self.vectors) - 1
            adds = False
            if block.diagonal is not None:
                self._emit("numbers", made, self.coefficient(block.diagonal, width), -1, -1, False)
                adds = True
            if block.matrix is not None:
                self._diagonal(block.matrix, made, width, adds)
        return self.vector_of[key]

    def _diagonal(self, n: int, into: int, width: int, adds: bool) -> None:
        node, factors = self.layer.tangents.nodes[n], []
        if node.op == "sum":
            for k, a in enumerate(node.args):
                self._diagonal(a, into, width, adds or k > 0)
            return
        while node.op == "scaled" and len(factors) < 2:
            factors.append(self.coefficient(node.value, width))
            n = node.args[0]
            node = self.layer.tangents.nodes[n]
        if node.op == "product" and len(factors) < 2:
            a, b = (self.square(k) for k in node.args)
            self._emit("dot", into, a, b, *[*factors, -1][:1], adds)
        else:
            first, second = [*factors, -1, -1][:2]
            self._emit("diagonal", into, first, self.square(n), second, adds)

    # --- sites and groups -----------------------------------------------------------------------------------------

    def _inputs(self, k: int) -> tuple[int, int, list[tuple[int, int, int, int]]]:
        """What the parameters of a site multiply."""
        site, graph, pieces, column = self.layer.sites[k], self.layer.graph, [], 0
        own = False
        for piece in site.pieces:
            if piece.kind == "x":
                pieces.append((-1, column, piece.columns, 0))
            elif piece.kind in ("one", "initial"):
                pieces.append((-2, column, 1, 0))
            else:
                widths = [graph[a].width for a in graph[piece.value].args]
                each = self._of_each(piece, sum(widths))
                own = own or each
                first = column
                for a, width in zip(graph[piece.value].args, widths, strict=True):
                    count = 1 if each else width
                    pieces.append((self.coefficient(a, width), first, count, int(each)))
                    first += count
            column += piece.columns
        return site.width if own else 1, -(-column // FULL) * FULL, pieces

    @staticmethod
    def _of_each(piece: Piece, operand: int) -> bool:
        """Whether each unit multiplies a number of its own: a diagonal U."""
        return piece.kind == "U" and piece.columns != operand

    def _runs(self, matrix: int, rows: Sequence[tuple[int, int]], columns: Sequence[tuple[int, int]]) -> list[Any]:
        """Copies of some rows and columns of a matrix, (where, to) each, in runs of columns that follow each other."""
        runs: list[list[int]] = []
        for column, to in columns:
            if runs and runs[-1][0] + runs[-1][2] == column and runs[-1][1] + runs[-1][2] == to:
                runs[-1][2] += 1
            else:
                runs.append([column, to, 1])
        return [(matrix, row, column, to_row, to, count) for row, to_row in rows for column, to, count in runs]

    def _group(self, group: Group) -> tuple[Any, ...]:
        layer, widths, offsets = self.layer, self.layer.widths, self.layer.offsets
        column, members = 0, []
        if group.own:
            width = layer.sites[group.members[0][0]].width
            between = [
                self.vector(layer.D[p, q], width) if (p, q) in layer.D else -1 for p in group.rows for q in group.rows
            ]
            for k, units in group.members:
                site = layer.sites[k]
                of_rows = [self.vector(site.blocks[p], width) if p in site.blocks else -1 for p in group.rows]
                columns = _columns_of_unit(layer, group, k)
                members.append((self.inputs_of[k], column, len(units), columns, list(units), [], [], of_rows))
                column += len(units) * columns
            return True, len(group.rows), column, [offsets[p] for p in group.rows], [], [], [], between, members
        place = {r: n for n, r in enumerate(group.rows)}
        of_part = [
            [(r - offsets[p], place[r]) for r in group.rows if offsets[p] <= r < offsets[p + 1]]
            for p in range(len(widths))
        ]
        mixed = sorted({q for (p, q), b in layer.D.items() if b.matrix is not None and of_part[p] and of_part[q]})
        source = {q: {} for q in mixed}
        sources: list[int] = []
        for q in mixed:
            for unit, n in of_part[q]:
                source[q][unit] = len(sources)
                sources.append(n)
        copied, singles = [], []
        for (p, q), block in sorted(layer.D.items()):
            if block.matrix is not None and of_part[p] and of_part[q]:
                columns = [(unit, source[q][unit]) for unit, _ in of_part[q]]
                copied += self._runs(self.square(block.matrix), of_part[p], columns)
            if block.diagonal is not None:
                there = dict(of_part[q])
                c = self.coefficient(block.diagonal, widths[p])
                singles += [(n, there[unit], c, unit) for unit, n in of_part[p] if unit in there]
        for k, units in group.members:
            site, at_once, in_matrices = layer.sites[k], [], []
            numbers = {unit: u for u, unit in enumerate(units)}
            for p, block in sorted(site.blocks.items()):
                if block.diagonal is not None:
                    c = self.coefficient(block.diagonal, widths[p])
                    at_once += [(n, numbers[unit], c, unit) for unit, n in of_part[p] if unit in numbers]
                if block.matrix is not None:
                    in_matrices += self._runs(self.square(block.matrix), of_part[p], list(numbers.items()))
            members.append((self.inputs_of[k], column, len(units), site.columns, list(units), at_once, in_matrices, []))
            column += len(units) * site.columns
        return False, len(group.rows), column, list(group.rows), sources, copied, singles, [], members

    def _through(self) -> list[tuple[int, int, int]]:
        """How the gradient comes to x: the group and member of units where x enters, and their W."""
        found = []
        for g, group in enumerate(self.layer.groups):
            for n, (k, _) in enumerate(group.members):
                for piece in self.layer.sites[k].pieces:
                    if piece.kind == "x":
                        found.append((g, n, self._at(piece.name, piece.first * self.layer.input_size)))
        return found

    def _giving(self) -> list[tuple[int, int, int, int, int, int, int]]:
        """Which columns of what is collected are the gradient of which numbers of a parameter (`names`)."""
        found = []
        self.names: list[str] = []
        for g, group in enumerate(self.layer.groups):
            for n, (k, _) in enumerate(group.members):
                column = 0
                for piece in self.layer.sites[k].pieces:
                    if piece.name not in self.names:
                        self.names.append(piece.name)
                    stride = 1 if self.weights[piece.name].dim() == 1 else self.weights[piece.name].shape[-1]
                    parameter = self.names.index(piece.name)
                    found.append((g, n, column, piece.columns, parameter, self._first(piece) * stride, stride))
                    column += piece.columns
        return found

    def _first(self, piece: Piece) -> int:
        """The row of a parameter at which a piece begins."""
        in_heads = piece.kind == "U" and self.layer.cell.recurrent == "blocks"
        return piece.first * self.layer.hidden_size if in_heads else piece.first


def _columns_of_unit(layer: Layer, group: Group, k: int) -> int:
    """Columns of the influence that each unit of a site has: where units go one by one, a whole number of vectors."""
    count = layer.sites[k].columns
    return -(-count // FULL) * FULL if group.own else count


class Carried:
    """The influence of one layer's parameters on its state, in the core (see `recurra.engine.influence.Stack`).

    Args:
        layer: The layer.
        rows: Rows of the batch.
        like: A tensor of the type of the parameters.
        waits: Carry the influence over several steps at once. When it is read in between, these are other ones, and
            sums are rounded otherwise: what is to go on bit for bit from any step has each carried by itself.
    """

    def __init__(self, layer: Layer, rows: int, like: Tensor, waits: bool) -> None:
        self.layer, self.rows, self.like, self.waits = layer, rows, like, waits
        self._core: Any = None
        self._plan: _Plan | None = None
        self._addresses: tuple[int, ...] = ()
        self._waiting: list[Tensor] | None = None
        self._state: State = ()
        self._output = like.new_empty(rows, layer.output_size)

    def _placed(self, weights: Mapping[str, Tensor]) -> Any:
        """The core's object, made anew where the parameters lie elsewhere than before."""
        addresses = tuple(v.data_ptr() for v in weights.values())
        if addresses != self._addresses:
            kept = self.tensors() if self._core is not None else self._waiting
            self._plan = _Plan(self.layer, {n: v.detach() for n, v in weights.items()}, self.rows, self.waits)
            self._core, self._addresses, self._state = self._plan.core(), addresses, ()
            self._waiting = None
            if kept is None:
                self.forget()
            else:
                self.restore(kept)
        return self._core

    def advance(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        taken: Tensor | None = None,
    ) -> State:
        """Take a step, and carry the influence over it (see `recurra.engine.influence.Stack.advance`)."""
        found = self._placed(weights)
        if state is not self._state:
            parts = torch.cat(list(state), -1).split(self.layer.widths, -1)
            for k, part in enumerate(parts):
                part = part.contiguous()
                found.state(k, part.data_ptr(), False)
        x = x.contiguous()
        flags = None if taken is None else taken.to(torch.uint8).contiguous()
        found.advance(x.data_ptr(), self._output.data_ptr(), 0 if flags is None else flags.data_ptr())
        self._state = self._read_state()
        return self._state

    def _read_state(self) -> State:
        parts = [self.like.new_empty(self.rows, w) for w in self.layer.widths]
        for k, part in enumerate(parts):
            self._core.state(k, part.data_ptr(), True)
        fields, first = [], 0
        for names in self.layer.tangents.step.new.values():
            own = parts[first : first + len(names)]
            fields.append(own[0] if len(own) == 1 else torch.cat(own, -1))
            first += len(names)
        return tuple(fields)

    def collect(self, delta: Tensor, below: Tensor | None = None) -> None:
        """Add what a loss gives to the parameters; its gradient by x is written to `below`, (B, I)."""
        delta = delta.contiguous()
        self._core.collect(delta.data_ptr(), 0 if below is None else below.data_ptr())

    def _columns(self, group: Group) -> int:
        return sum(len(units) * _columns_of_unit(self.layer, group, k) for k, units in group.members)

    def take(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was collected, by parameter; it is zero from now on."""
        if self._core is None or self._plan is None:  # no step was taken
            return {}
        gradients = {name: torch.zeros_like(weights[name], requires_grad=False) for name in self._plan.names}
        self._core.give([v.data_ptr() for v in gradients.values()])
        return gradients

    def forget(self, rows: Tensor | None = None) -> None:
        """Begin anew: with all rows of the batch, or with those where `rows`, (B,), is True."""
        if self._core is None:
            self._waiting = None
            return
        for g, group in enumerate(self.layer.groups):
            J = self._first(group)
            if rows is not None:
                J = torch.where(rows.view(-1, 1, 1), J, self._influence(g))
            self._write(g, J)

    def _first(self, group: Group) -> Tensor:
        """The influence before the first step: none, or that of first states that are learnt on themselves."""
        layer, first = self.layer, 0
        J = self.like.new_zeros(self.rows, len(group.rows), self._columns(group))
        for k, units in group.members:
            site, columns = layer.sites[k], _columns_of_unit(layer, group, k)
            if site.begins is not None:
                for u, unit in enumerate(units):
                    row = site.begins if group.own else layer.offsets[site.begins] + unit
                    J[:, group.rows.index(row), first + u * columns] = 1
            first += len(units) * columns
        return J

    def _influence(self, g: int) -> Tensor:
        group = self.layer.groups[g]
        J = self.like.new_empty(self.rows, len(group.rows), self._columns(group))
        self._core.influence(g, J.data_ptr(), True)
        return J

    def _write(self, g: int, J: Tensor) -> None:
        J = J.to(self.like).contiguous()
        self._core.influence(g, J.data_ptr(), False)

    def tensors(self) -> list[Tensor]:
        """The influence, by group."""
        if self._core is None:
            return self._waiting or [self._first(group) for group in self.layer.groups]
        return [self._influence(g) for g in range(len(self.layer.groups))]

    def restore(self, tensors: Sequence[Tensor]) -> None:
        """Go on from what `tensors` gave."""
        if self._core is None:
            self._waiting = list(tensors) or None
            return
        for g, J in enumerate(tensors):
            self._write(g, J)


class CarriedStack:
    """The influences of the parameters of layers, each followed by itself, in the core.

    Args:
        layers: The layers, from the first on.
        rows: Rows of the batch.
        like: A tensor of the type of the parameters.
        waits: Carry the influence over several steps at once (see `Carried`).
    """

    def __init__(self, layers: Sequence[Layer], rows: int, like: Tensor, waits: bool) -> None:
        self.layers, self.rows, self.like = layers, rows, like
        self.own = [Carried(layer, rows, like, waits) for layer in layers]

    def advance(
        self,
        weights: Sequence[Mapping[str, Tensor]],
        x: Tensor,
        states: Sequence[State],
        taken: Tensor | None = None,
    ) -> list[State]:
        """See `recurra.engine.influence.Stack.advance`."""
        found = []
        for own, w, state in zip(self.own, weights, states, strict=True):
            new = own.advance(w, x, state, taken)
            found.append(new)
            x = new[0]
        return found

    def collect(self, delta: Tensor, of: int = -1, wants_below: bool = True, goes_down: bool = True) -> Tensor | None:
        """See `recurra.engine.influence.Stack.collect`."""
        below = None
        if not goes_down:
            self.own[of].collect(delta)
            return None
        for m in range(of % len(self.layers), -1, -1):
            own = self.own[m]
            below = self.like.new_empty(self.rows, self.layers[m].input_size) if m or wants_below else None
            own.collect(delta, below)
            if m:
                assert below is not None
                delta = delta.new_zeros(self.rows, self.layers[m - 1].offsets[-1])
                delta[:, : below.shape[-1]] = below
        return below

    def forget(self, rows: Tensor | None = None) -> None:
        """See `recurra.engine.influence.Stack.forget`."""
        for own in self.own:
            own.forget(rows)

    def take(self, weights: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """See `recurra.engine.influence.Stack.take`."""
        return [own.take(w) for own, w in zip(self.own, weights, strict=True)]

    def tensors(self) -> list[Tensor]:
        """See `recurra.engine.influence.Stack.tensors`."""
        return [v for own in self.own for v in own.tensors()]

    def restore(self, tensors: Sequence[Tensor]) -> None:
        """See `recurra.engine.influence.Stack.restore`."""
        given = list(tensors)
        for own in self.own:
            count = len(own.layer.groups)
            own.restore(given[:count])
            del given[:count]
