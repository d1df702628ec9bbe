"""Where a layer's parameters enter a step, and which units of the state they can reach.

A parameter enters at one unit of a net input (or of a product, a vector, …), together with a number that it
multiplies. Which units it can reach at all, in any number of steps, follows from how U multiplies: with a diagonal U
its own, with one in blocks those of its head, with a masked one those that the mask lets through. What it cannot reach
need not be followed, and parameters that reach the same units are followed together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import linear

from recurra.cells.form import Biases, Cell, Use
from recurra.engine import eager
from recurra.engine.interpret import compute
from recurra.engine.program import Value
from recurra.engine.tangent import DIAGONAL_OF_U, Block, Tangents
from recurra.engine.trace import Step

Pattern = np.ndarray
"""Which numbers of a matrix can be other than zero: (rows, columns) bool."""


@dataclass(frozen=True)
class Piece:
    """Parameters of one place where they enter a step: as many rows of a parameter as the place has units.

    Attributes:
        value: The value of the program.
        kind: "x", "U", "M", "one" for what is not multiplied, or "initial" for a first state that is learnt.
        name: The parameter.
        first: The row of it at which the place begins; for a U in heads, the gate's number.
        columns: Numbers that each unit has.
    """

    value: int
    kind: str
    name: str
    first: int
    columns: int


@dataclass(frozen=True)
class Site:
    """A place where parameters enter a step, or several that do the same to it.

    Attributes:
        width: Units.
        blocks: By part of the state, what they do to the new state at once.
        pieces: The parameters.
        columns: Numbers that each unit has, of all pieces.
        begins: The part of the state that they are, before the first step, where they enter nowhere else.
    """

    width: int
    blocks: dict[int, Block]
    pieces: tuple[Piece, ...]
    columns: int
    begins: int | None = None


@dataclass(frozen=True)
class Group:
    """Units of sites that reach the same units of the state.

    Attributes:
        rows: The numbers of the state that they reach, in order; of an `own` group, the parts of the state.
        members: By site, its units.
        own: Each unit reaches the unit of its own number alone, in some parts of the state.
    """

    rows: tuple[int, ...]
    members: tuple[tuple[int, tuple[int, ...]], ...]
    own: bool


class Layer:
    """One layer's step with its linear part, and how far its parameters reach.

    Args:
        cell: The cell.
        use: How its body takes its net inputs.
        step: Its step, written down.
        hidden_size: Units.
        input_size: The width of x.
        steps: Steps within which what a parameter reaches is followed; None for all.
        explicit: Follow what passes from one step to the next through products and sums over a row too.
        biases: Those that the layer has, where not as its cell declares.
        learnt: The state fields whose first value is a parameter, `initial_h`.
    """

    def __init__(
        self,
        cell: Cell,
        use: Use,
        step: Step,
        hidden_size: int,
        input_size: int,
        steps: int | None = None,
        explicit: bool = True,
        biases: Biases | None = None,
        learnt: Sequence[str] = (),
    ) -> None:
        self.cell, self.use, self.hidden_size, self.input_size = cell, use, hidden_size, input_size
        self.biases = cell.biases if biases is None else biases
        self.tangents = Tangents(step, cell.recurrent == "diagonal")
        self.graph = step.graph
        self.widths = self.tangents.widths
        self.offsets = np.concatenate([[0], np.cumsum(self.widths)]).tolist()
        self.outputs = len(next(iter(step.old.values())))  # parts of the first field, which the layer puts out
        D, E = self.tangents.D, self.tangents.E
        if not explicit:
            D = {k: Block(b.diagonal, None) for k, b in D.items() if b.diagonal is not None}
        self.D = D
        self.sites = self._sites(E) + self._first_states(learnt)
        self.groups = self._groups(steps)
        values = self.tangents.values()
        operands = {a for s in self.tangents.sources for a in self.graph[s.value].args}
        self.wanted = sorted({*self.tangents.new, *values, *operands})
        begins = ("x", "old", "bias", "vector", "constant")
        self.given = [i for i, value in enumerate(self.graph.values) if value.op in begins]
        self.order = self.graph.needed(self.wanted, self.given)

    # --- what is known beforehand ---------------------------------------------------------------------------------

    def _sites(self, E: Mapping[tuple[int, int], Block]) -> list[Site]:
        """Where parameters enter; those that do the same to the new state together."""
        alike: dict[tuple[Any, ...], list[Piece]] = {}
        for k, source in enumerate(self.tangents.sources):
            blocks = {p: b for (p, place), b in E.items() if place == k}
            key = self.graph[source.value].width, tuple(sorted(blocks.items()))
            pieces = self.pieces(source.value)
            if blocks and pieces:
                alike.setdefault(key, []).extend(pieces)
        return [
            Site(width, dict(blocks), tuple(pieces), sum(p.columns for p in pieces))
            for (width, blocks), pieces in alike.items()
        ]

    def _first_states(self, learnt: Sequence[str]) -> list[Site]:
        found, part = [], 0
        for name, parts in self.tangents.step.old.items():
            first = 0
            for i in parts:
                width = self.graph[i].width
                if name in learnt:
                    piece = Piece(i, "initial", f"initial_{name}", first, 1)
                    found.append(Site(width, {}, (piece,), 1, part))
                first += width
                part += 1
        return found

    def pieces(self, i: int) -> list[Piece]:
        """The parameters that enter at a value of the program."""
        value, cell, H = self.graph[i], self.cell, self.hidden_size
        gates, every = cell.gates, (*cell.gates, *cell.inputs)
        if value.op == "x":
            first = every.index(value.name) * H
            found = [Piece(i, "x", "weight_ih", first, self.input_size)]
            if self.biases not in (0, "apart"):
                found.append(Piece(i, "one", "bias_ih" if self.biases == 2 else "bias", first, 1))
            if self.biases == 2 and value.name in gates and value.name not in self.use.parts:
                found.append(Piece(i, "one", "bias_hh", first, 1))
            return found
        if value.op == "U":
            place = gates.index(value.name)
            operand = sum(self.graph[a].width for a in value.args)
            if cell.recurrent == "diagonal":
                return [Piece(i, "U", "weight_hh", place * H, 1)]
            if cell.recurrent == "blocks":
                return [Piece(i, "U", "weight_hh", place, operand // cell.size("heads", H))]
            return [Piece(i, "U", "weight_hh", place * H, operand)]
        if value.op == "M":
            columns = sum(self.graph[a].width for a in value.args)
            return [Piece(i, "M", value.name, value.part * value.width, columns)]
        if value.op == "bias":
            if not self.biases:
                return []
            name = "bias" if self.biases == "apart" else "bias_hh"
            return [Piece(i, "one", name, every.index(value.name) * H, 1)]
        return [Piece(i, "one", value.name, value.part * value.width, 1)]

    @cached_property
    def _mask(self) -> Pattern | None:
        """Which numbers of a gate's U can be other than zero, (H, K), where not all can."""
        H, cell = self.hidden_size, self.cell
        if cell.recurrent == "blocks":
            heads, K = cell.size("heads", H), self.use.operand
            return np.kron(np.eye(heads, dtype=bool), np.ones((H // heads, K // heads), dtype=bool))
        mask = cell.mask_of_u(H)
        return None if mask is None else mask.numpy() != 0

    def _patterns(self) -> list[Pattern]:
        """Which numbers of each matrix can be other than zero."""
        found: list[Pattern] = []
        for node in self.tangents.nodes:
            args = [found[a] for a in node.args]
            if node.op == "parameter" and self.graph[node.value].op == "U" and self._mask is not None:
                found.append(self.operand(self._mask, node.value, int(node.side)))
            elif node.op == "product":
                found.append((args[0].astype(np.int32) @ args[1].astype(np.int32)) > 0)
            elif node.op == "sum":
                found.append(np.logical_or.reduce(args))
            elif node.op == "scaled":
                found.append(args[0])
            else:
                found.append(np.ones((node.rows, node.columns), dtype=bool))
        return found

    def operand(self, matrix: Any, product: int, part: int) -> Any:
        """The columns of a product's matrix that multiply one of its operands."""
        widths = [self.graph[a].width for a in self.graph[product].args]
        first = sum(widths[:part])
        return matrix[:, first : first + widths[part]]

    def _whole(self, blocks: Mapping[int, Block], width: int, patterns: Sequence[Pattern]) -> Pattern:
        """The pattern of what blocks, by part of the state, say: (S, width)."""
        found = np.zeros((self.offsets[-1], width), dtype=bool)
        for p, block in blocks.items():
            rows = found[self.offsets[p] : self.offsets[p + 1]]
            if block.diagonal is not None:
                rows |= np.eye(self.widths[p], width, dtype=bool)
            if block.matrix is not None:
                rows |= patterns[block.matrix]
        return found

    def _groups(self, steps: int | None) -> list[Group]:
        """Units of sites that reach the same units of the state within so many steps."""
        patterns = self._patterns()
        columns = [
            self._whole({p: b for (p, r), b in self.D.items() if r == q}, w, patterns)
            for q, w in enumerate(self.widths)
        ]
        D = np.concatenate(columns, 1).astype(np.int32)
        self.mixes = any(b.matrix is not None for b in self.D.values())
        alike: dict[tuple[int, ...], dict[int, list[int]]] = {}
        own: dict[tuple[int, ...], list[int]] = {}
        unit = np.concatenate([np.arange(w) for w in self.widths])
        part = np.repeat(np.arange(len(self.widths)), self.widths)
        for k, site in enumerate(self.sites):
            reached = self._whole(site.blocks, site.width, patterns)
            if site.begins is not None:
                reached[self.offsets[site.begins] : self.offsets[site.begins + 1]] |= np.eye(site.width, dtype=bool)
                within_units = D * (unit[:, None] == unit)
                reached |= (within_units @ reached.astype(np.int32)) > 0  # that they go into a step is none by itself
            taken = 1
            while steps is None or taken < steps:
                further = reached | ((D @ reached.astype(np.int32)) > 0)
                taken += 1
                if (further == reached).all():
                    break
                reached = further
            is_own = site.width > 1 and not (reached & (unit[:, None] != np.arange(site.width))).any()
            if is_own and all(self.widths[p] == site.width for p in {*part[reached.any(1)].tolist()}):
                own.setdefault(tuple(sorted({*part[reached.any(1)].tolist()})), []).append(k)
                continue
            for j in range(site.width):
                rows = tuple(np.flatnonzero(reached[:, j]).tolist())
                alike.setdefault(rows, {}).setdefault(k, []).append(j)
        found = [
            Group(parts, tuple((k, tuple(range(self.sites[k].width))) for k in sites), True)
            for parts, sites in own.items()
        ]
        return found + [
            Group(rows, tuple((k, tuple(units)) for k, units in members.items()), False)
            for rows, members in alike.items()
        ]

    @property
    def numbers(self) -> int:
        """Numbers of influence that are kept for each row of a batch."""
        per_group = [
            len(g.rows) * sum(len(units) * self.sites[k].columns for k, units in g.members) for g in self.groups
        ]
        return sum(per_group)

    # --- one step -------------------------------------------------------------------------------------------------

    def matrix(self, weights: Mapping[str, Tensor], i: int) -> Tensor:
        """What a product multiplies with, (width, operand); of a diagonal U, (width,)."""
        value, cell, H = self.graph[i], self.cell, self.hidden_size
        if value.op == "M":
            return weights[value.name].narrow(0, value.part * value.width, value.width)
        U, place = weights["weight_hh"], cell.gates.index(value.name)
        if cell.recurrent == "blocks":
            heads = U.shape[0]
            return torch.block_diag(*U.view(heads, len(cell.gates), H // heads, -1)[:, place])
        own = U.narrow(0, place * H, H)
        return own * weights["mask_hh"] if "mask_hh" in weights else own

    def values(self, weights: Mapping[str, Tensor], x: Tensor, state: Sequence[Tensor]) -> dict[int, Tensor]:
        """Compute a step: the new state and all that its linear part is made of.

        Args:
            weights: Parameters by the names of `Cell.shapes`, and constants.
            x: (B, I).
            state: The old state's fields, each (B, width).
        """
        given = self.begins(weights, x, state)
        found = compute(self.graph, self.order, self.wanted, given, lambda v, args: self.product(weights, v, args))
        return dict(zip(self.wanted, found, strict=True))

    def begins(self, weights: Mapping[str, Tensor], x: Tensor, state: Sequence[Tensor]) -> dict[int, Tensor]:
        """The values that a step begins with; arguments as `values` has them."""
        cell, H = self.cell, self.hidden_size
        every = (*cell.gates, *cell.inputs)
        bias, second = eager.biases(cell, self.use, weights)
        apart = eager.biases_apart(cell, weights) if self.biases else {}
        z = dict(zip(every, linear(x, weights["weight_ih"], bias).split(H, -1), strict=True))
        old = dict(zip(self.tangents.state, torch.cat(list(state), -1).split(self.widths, -1), strict=True))
        given: dict[int, Tensor] = {}
        for i in self.given:
            value = self.graph[i]
            if value.op == "x":
                given[i] = z[value.name]
            elif value.op == "old":
                given[i] = old[i]
            elif value.op == "bias":
                own = apart if cell.biases == "apart" else second
                given[i] = own[value.name] if self.biases else x.new_zeros(())
            elif value.part == DIAGONAL_OF_U:
                given[i] = weights["weight_hh"].narrow(0, cell.gates.index(value.name) * H, H)
            else:
                given[i] = weights[value.name].narrow(0, value.part * value.width, value.width)
        return given

    def product(self, weights: Mapping[str, Tensor], value: Value, args: list[Tensor]) -> Tensor:
        """A product of the program with U or a matrix, of operands side by side."""
        matrix = self.matrix(weights, self._place_of[value])
        operand = torch.cat(args, -1)
        return operand * matrix if matrix.dim() == 1 else linear(operand, matrix)

    @cached_property
    def _place_of(self) -> dict[Value, int]:
        return {value: i for i, value in enumerate(self.graph.values)}

    def new_state(self, values: Mapping[int, Tensor], rows: int) -> tuple[Tensor, ...]:
        """The new state's fields, each (B, width)."""
        fields, step = [], self.tangents.step
        for parts in step.new.values():
            fields.append(torch.cat([values[i].expand(rows, self.graph[i].width) for i in parts], -1))
        return tuple(fields)

    @property
    def output_size(self) -> int:
        """The width of the first field, which the layer puts out."""
        return self.offsets[self.outputs]
