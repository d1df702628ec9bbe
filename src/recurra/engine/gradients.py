"""The gradients of a kernel's matrices, as PyTorch makes them from δ: for large ones, and where states are set anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from recurra.engine.lower import Key
from recurra.engine.memory import BLOCKS

if TYPE_CHECKING:
    from recurra.engine.kernel import Kernel

SLIM = 128
"""Columns of a matrix up to which its gradient is quicker made as a transpose (measured)."""

SLIM_FROM = 1 << 18
"""Numbers of δ from which on it is so."""


@dataclass(frozen=True)
class Product:
    """A product whose matrix has a gradient.

    Attributes:
        tensor: Which of the kernel's tensors holds the matrix.
        row, rows: The rows of that which are multiplied with: the first, and how many.
        columns: The columns of the matrix.
        source, column: The array of δ, and the first of its columns.
        operands: What is multiplied, side by side.
    """

    tensor: int
    row: int
    rows: int
    columns: int
    source: Key
    column: int
    operands: tuple[int, ...]


def together(products: Sequence[Product]) -> list[Product]:
    """Products with the same operands whose rows, and whose δ, lie side by side, taken as one."""
    found: list[Product] = []
    for p in sorted(products, key=lambda p: (p.tensor, p.row)):
        if found:
            q = found[-1]
            same = (p.tensor, p.source, p.operands) == (q.tensor, q.source, q.operands)
            if same and p.row == q.row + q.rows and p.column == q.column + q.rows:
                found[-1] = Product(q.tensor, q.row, q.rows + p.rows, q.columns, q.source, q.column, q.operands)
                continue
        found.append(p)
    return found


@dataclass
class Arrays:
    """Tensors by the keys of arrays.

    Attributes:
        whole: (T, B, width): all steps.
        some: (S, B, width): the steps at hand.
        rows: (B, width).
    """

    whole: dict[Key, Tensor] = field(default_factory=dict)
    some: dict[Key, Tensor] = field(default_factory=dict)
    rows: dict[Key, Tensor] = field(default_factory=dict)

    def steps(self, key: Key, start: int, stop: int) -> Tensor:
        """The steps at hand, (S, B, width)."""
        some = self.some.get(key)
        return self.whole[key][start:stop] if some is None else some[: stop - start]


class Gradients:
    """The gradients of a kernel's matrices, put together from δ piece by piece.

    Args:
        kernel: The kernel.
        tensors: What it is given.
        wanted: Which gradients are wanted.

    Attributes:
        found: By the number of a tensor its gradient, once `finish` has been called.
    """

    def __init__(self, kernel: Kernel, tensors: Sequence[Tensor], wanted: Sequence[bool]) -> None:
        self.kernel, self.tensors, self.wanted = kernel, tensors, wanted
        self.first = kernel.places["U"]
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
            key = self.kernel.key_of_operand(i, arrays.some.keys() | arrays.whole.keys())
            return [(slice(None), arrays.steps(key, start, stop))]
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

    def _add_blocks(self, out: Tensor, product: Product, delta: Tensor, values: Tensor) -> None:
        heads, H = self.kernel.spec.heads, self.kernel.spec.hidden_size
        d = delta.unflatten(-1, (-1, heads, H // heads))  # gates taken together lie side by side
        v = values.unflatten(-1, (heads, -1))
        given = torch.einsum("tbghr,tbhk->hgrk", d, v).flatten(1, 2)
        first = product.row // heads
        out[:, first : first + given.shape[1]] += given

    def finish(self) -> dict[int, Tensor]:
        """The gradients, by the numbers of the tensors."""
        for gradient, transposed in self.slim.values():
            gradient.copy_(transposed.t())
        return self.found
