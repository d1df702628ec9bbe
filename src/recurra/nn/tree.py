"""Recurrent networks over trees and other directed acyclic graphs (section 6.8.1): a node's state from its children's.

Many trees are run at once, level by level (`Forest`). Each class is its equations for the nodes of one level; what
carries states from children to parents is written once, in `TreeLayer`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recurra.cells import find
from recurra.cells.form import Cell
from recurra.engine.eager import CellStepper
from recurra.nn.arguments import whole
from recurra.nn.forest import Forest, Level, TreeError
from recurra.nn.initialise import checked, constants, fill, initialise

State = tuple[Tensor, ...]

__all__ = ["SLSTM", "ChildSum", "ChildSumLSTM", "Forest", "NaryLSTM", "RecursiveNetwork", "TreeError", "TreeLayer"]


class Children:
    """The children of the nodes of a level, a row for each edge, by parent and then by slot.

    Args:
        state: Their states, each field (E, width).
        level: The level.
        nodes: How many nodes the level has; 0 children where `level` is None, which is that of leaves.
    """

    def __init__(self, state: State, level: Level | None, nodes: int) -> None:
        self.state, self.level, self.nodes = state, level, nodes

    def sum(self, v: Tensor) -> Tensor:
        """The sum over each node's children, (nodes, width), of what stands at each edge, (E, width)."""
        if self.level is None:
            return v.new_zeros(self.nodes, v.shape[-1])
        if self.level.arity is not None:
            return v if self.level.arity == 1 else v.view(self.nodes, self.level.arity, -1).sum(1)
        return v.new_zeros(self.nodes, v.shape[-1]).index_add(0, self.level.parents, v)

    def side_by_side(self, v: Tensor, slots: int) -> Tensor:
        """What stands at the edges as (nodes, slots * width), a slot after the other, zero where there is no child."""
        if self.level is None:
            return v.new_zeros(self.nodes, slots * v.shape[-1])
        if self.level.arity == slots:
            return v.view(self.nodes, -1)
        empty = v.new_zeros(self.nodes * slots, v.shape[-1])
        return empty.index_copy(0, self.level.parents * slots + self.level.slots, v).view(self.nodes, -1)

    def of_parent(self, v: Tensor) -> Tensor:
        """For each edge what stands at its parent, (E, width), from (nodes, width)."""
        assert self.level is not None
        return v.index_select(0, self.level.parents)


class TreeLayer(nn.Module, ABC):
    """A layer that goes through trees from the leaves to the root.

    A class of this says how the state of a node comes from its net input W x + b and its children.

    Args:
        input_size: Width I of what a node reads.
        hidden_size: Width H of the state.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    fields: tuple[str, ...]
    """The fields of a state, what a node puts out first."""
    slots: int = 0
    """How many children have matrices of their own; 0 where there can be any number of them."""

    def __init__(self, input_size: int, hidden_size: int, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        self.input_size, self.hidden_size = whole("input_size", input_size), whole("hidden_size", hidden_size)
        self._factory: dict[str, Any] = {"device": device, "dtype": dtype}

    @abstractmethod
    def project(self, x: Tensor) -> Any:
        """What all nodes need of their inputs, (M, I): tensors with a row for each."""

    @abstractmethod
    def node(self, projected: Any, children: Children) -> State:
        """The states of some nodes, each field (nodes, width), of their rows of `project` and their children."""

    def check(self, forest: Forest) -> None:
        """Raises TreeError where a node has more children than the layer has matrices for."""
        slots = self.slots
        if slots and forest.widest > slots:
            _, parents, at = forest.edges
            node = int(parents[at >= slots][0])
            raise TreeError(f"node {node}: a child in slot {int(at[at >= slots][0])}; the layer has {slots}, from 0")

    def forward(self, x: Tensor, forest: Forest) -> tuple[Tensor, State]:
        """The states of all nodes.

        Args:
            x: (M, I), what each node reads; zeros where a node reads nothing.
            forest: The trees.

        Returns:
            (M, H), what each node puts out; all fields of all states, each (M, width).

        Raises:
            TreeError: Another number of nodes, or trees that this layer cannot go through.
        """
        if x.dim() != 2 or len(x) != forest.nodes or x.shape[1] != self.input_size:
            raise TreeError(f"x: ({forest.nodes}, {self.input_size}) is expected, not {tuple(x.shape)}")
        self.check(forest)
        projected = self.project(x)
        leaves = self.leaf(x, projected, forest)
        computed, last, pool = [leaves], None, None
        for level in forest.levels:
            pool = self._pooled(level, pool, last, leaves)
            read = pool if level.children is None else tuple(v.index_select(0, level.children) for v in pool)
            last = self.node(_rows(projected, level.nodes), Children(read, level, len(level.nodes)))
            computed.append(last)
        order = torch.cat([forest.leaves, *(level.nodes for level in forest.levels)])
        back = torch.empty_like(order).index_copy(0, order, torch.arange(len(order), device=order.device))
        states = tuple(torch.cat(values).index_select(0, back) for values in zip(*computed, strict=True))
        return states[0], states

    def leaf(self, x: Tensor, projected: Any, forest: Forest) -> State:
        """The states of the leaves: those of nodes whose children sum to zero."""
        width = [self.width(field) for field in self.fields]
        none = Children(tuple(x.new_zeros(0, w) for w in width), None, len(forest.leaves))
        return self.node(_rows(projected, forest.leaves), none)

    def width(self, field: str) -> int:
        """The width of a state's field."""
        return self.hidden_size

    def _pooled(self, level: Level, pool: State | None, last: State | None, leaves: State) -> State:
        """What a level reads or later ones will; see `Level`."""
        parts = []
        if pool is not None and level.held is not None:
            parts.append([v.index_select(0, level.held) for v in pool])
        if last is not None:
            parts.append(list(last) if level.made is None else [v.index_select(0, level.made) for v in last])
        if len(level.leaves):
            parts.append([v.index_select(0, level.leaves) for v in leaves])
        if len(parts) == 1:
            return tuple(parts[0])
        return tuple(torch.cat(values) for values in zip(*parts, strict=True))

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {self.hidden_size}"


def _rows(projected: Any, nodes: Tensor) -> Any:
    """The rows of some nodes, of tensors however they are held."""
    if isinstance(projected, Tensor):
        return projected.index_select(0, nodes)
    return tuple(None if v is None else v.index_select(0, nodes) for v in projected)


class _Gated(TreeLayer):
    """An LSTM over trees: W (4H, I) and b (4H,) of the gates i, f, g, o, and U of what they read of the children."""

    fields = ("h", "c")

    def __init__(
        self, input_size: int, hidden_size: int, rows: int, columns: int, forget_bias: float, device: Any, dtype: Any
    ) -> None:
        super().__init__(input_size, hidden_size, device, dtype)
        H = self.hidden_size
        self.weight_ih = nn.Parameter(torch.empty(4 * H, self.input_size, **self._factory))
        self.weight_hh = nn.Parameter(torch.empty(rows * H, columns * H, **self._factory))
        self.bias = nn.Parameter(torch.empty(4 * H, **self._factory))
        self.forget_bias = forget_bias
        _Gated.reset_parameters(self)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """W Xavier-uniform, U orthogonal, gate by gate and child by child; biases 0 but for the forget gate's."""
        H = self.hidden_size
        for block in self.weight_ih.split(H):
            fill(block, "xavier")
        _fill_blocks(self.weight_hh, H, "orthogonal")
        self.bias.zero_()[H : 2 * H] = self.forget_bias

    def project(self, x: Tensor) -> Tensor:
        """W x + b of all gates, (M, 4H)."""
        return linear(x, self.weight_ih, self.bias)


class ChildSumLSTM(_Gated):
    """Child-sum Tree-LSTM: any number of children, in no order (Tai, Socher & Manning 2015), their eqs 2-8.

    Formula, for a node j with the children k:
        h̃_j = Σ_k h_k
        i_j = σ(W_i x_j + U_i h̃_j + b_i)
        f_jk = σ(W_f x_j + U_f h_k + b_f)
        g_j = tanh(W_g x_j + U_g h̃_j + b_g)
        o_j = σ(W_o x_j + U_o h̃_j + b_o)
        c_j = i_j ⊙ g_j + Σ_k f_jk ⊙ c_k
        h_j = o_j ⊙ tanh(c_j)

    With one child each it is the LSTM `recurra.cells.lstm`, of the same parameters in the same order.

    Shapes: x (M, I); h, c (M, H); weight_ih (4H, I), weight_hh (4H, H), bias (4H,), gates i, f, g, o.

    Args:
        input_size: Width I of what a node reads.
        hidden_size: Width H of the state.
        forget_bias: Where b_f begins.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, forget_bias: float = 1.0, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, 4, 1, forget_bias, device, dtype)

    def node(self, projected: Tensor, children: Children) -> State:
        """See `TreeLayer.node`."""
        zi, zf, zg, zo = projected.chunk(4, -1)
        if children.level is None:
            c = zi.sigmoid() * zg.tanh()
            return zo.sigmoid() * c.tanh(), c
        h, c = children.state
        Ui, Uf, Ug, Uo = self.weight_hh.chunk(4)
        ui, ug, uo = linear(children.sum(h), torch.cat([Ui, Ug, Uo])).chunk(3, -1)
        f = torch.sigmoid(children.of_parent(zf) + linear(h, Uf))
        c = (zi + ui).sigmoid() * (zg + ug).tanh() + children.sum(f * c)
        return (zo + uo).sigmoid() * c.tanh(), c


class NaryLSTM(_Gated):
    """N-ary Tree-LSTM: up to N children, each with matrices of its own (Tai, Socher & Manning 2015), their eqs 9-14.

    Formula, for a node j with a child in each slot l (zeros where there is none):
        i_j = σ(W_i x_j + Σ_l U_il h_jl + b_i)
        f_jk = σ(W_f x_j + Σ_l U_fkl h_jl + b_f)
        g_j = tanh(W_g x_j + Σ_l U_gl h_jl + b_g)
        o_j = σ(W_o x_j + Σ_l U_ol h_jl + b_o)
        c_j = i_j ⊙ g_j + Σ_l f_jl ⊙ c_jl
        h_j = o_j ⊙ tanh(c_j)

    Every forget gate sees every child (U_fkl with k ≠ l). With N = 1 it is the LSTM.

    Shapes: x (M, I); h, c (M, H); weight_ih (4H, I) and bias (4H,), gates i, f, g, o; weight_hh ((3 + N) H, N H), rows
    i, f_1 … f_N, g, o.

    Args:
        input_size: Width I of what a node reads.
        hidden_size: Width H of the state.
        children: N.
        forget_bias: Where b_f begins.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        children: int = 2,
        *,
        forget_bias: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        N = whole("children", children)
        super().__init__(input_size, hidden_size, 3 + N, N, forget_bias, device, dtype)
        self.slots = N

    def node(self, projected: Tensor, children: Children) -> State:
        """See `TreeLayer.node`."""
        zi, zf, zg, zo = projected.chunk(4, -1)
        if children.level is None:
            c = zi.sigmoid() * zg.tanh()
            return zo.sigmoid() * c.tanh(), c
        H, N = self.hidden_size, self.slots
        h, c = (children.side_by_side(v, N) for v in children.state)
        ui, uf, ug, uo = linear(h, self.weight_hh).split([H, N * H, H, H], -1)
        f = torch.sigmoid(zf.unsqueeze(1) + uf.unflatten(-1, (N, H)))
        c = (zi + ui).sigmoid() * (zg + ug).tanh() + (f * c.unflatten(-1, (N, H))).sum(1)
        return (zo + uo).sigmoid() * c.tanh(), c


class SLSTM(NaryLSTM):
    """S-LSTM: up to N children, gates that also see the children's cells (Zhu, Sobhani & Guo 2015), two in the paper.

    Formula, for a node j with a child in each slot l:
        i_j = σ(W_i x_j + Σ_l U_il h_jl + Σ_l P_il c_jl + b_i)
        f_jk = σ(W_f x_j + Σ_l U_fkl h_jl + Σ_l P_fkl c_jl + b_f)
        g_j = tanh(W_g x_j + Σ_l U_gl h_jl + b_g)
        c_j = i_j ⊙ g_j + Σ_l f_jl ⊙ c_jl
        o_j = σ(W_o x_j + Σ_l U_ol h_jl + P_o c_j + b_o)
        h_j = o_j ⊙ tanh(c_j)

    In the paper words are given as the states of leaves, and no node has an input of its own: W x_j is added here, as
    in the other layers over trees.

    Shapes: x (M, I); h, c (M, H); weight_ih (4H, I) and bias (4H,), gates i, f, g, o; weight_hh ((3 + N) H, N H), rows
    i, f_1 … f_N, g, o; weight_ch ((1 + N) H, N H), rows i, f_1 … f_N; weight_co (H, H), which is P_o.

    Args:
        input_size: Width I of what a node reads.
        hidden_size: Width H of the state.
        children: N.
        forget_bias: Where b_f begins.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        children: int = 2,
        *,
        forget_bias: float = 1.0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, children, forget_bias=forget_bias, device=device, dtype=dtype)
        N, H = self.slots, self.hidden_size
        self.weight_ch = nn.Parameter(torch.empty((1 + N) * H, N * H, **self._factory))
        self.weight_co = nn.Parameter(torch.empty(H, H, **self._factory))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """As the other LSTMs over trees; P Xavier-uniform."""
        super().reset_parameters()
        for weight in (self.weight_ch, self.weight_co):
            _fill_blocks(weight, self.hidden_size, "xavier")

    def node(self, projected: Tensor, children: Children) -> State:
        """See `TreeLayer.node`."""
        H, N = self.hidden_size, self.slots
        zi, zf, zg, zo = projected.chunk(4, -1)
        h, c = (children.side_by_side(v, N) for v in children.state)
        ui, uf, ug, uo = linear(h, self.weight_hh).split([H, N * H, H, H], -1)
        pi, pf = linear(c, self.weight_ch).split([H, N * H], -1)
        f = torch.sigmoid(zf.unsqueeze(1) + (uf + pf).unflatten(-1, (N, H)))
        c = (zi + ui + pi).sigmoid() * (zg + ug).tanh() + (f * c.unflatten(-1, (N, H))).sum(1)
        return (zo + uo + linear(c, self.weight_co)).sigmoid() * c.tanh(), c


class RecursiveNetwork(TreeLayer):
    """Recursive neural network: a node is one layer over its children side by side (Pollack 1990), eqs 6.72-6.75.

    Formula, for a node j with a child in each slot l (zeros where there is none):
        h_j = f(W [h_j1; …; h_jN] + b)
        h_j = x_j                            of a leaf

    With N = 2, and the chain ((h_0 x_1) x_2) …, it is the simple recurrent network with U and W side by side.

    Shapes: x, h (M, H), of which the inner nodes' x is not read; weight_hh (H, N H); bias (H,).

    Args:
        hidden_size: Width H of states, and of what leaves read.
        children: N.
        activation: f, of a tensor.
        device: Of the parameters.
        dtype: Of the parameters.
    """

    fields = ("h",)

    def __init__(
        self,
        hidden_size: int,
        children: int = 2,
        *,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(hidden_size, hidden_size, device, dtype)
        self.slots, self.activation = whole("children", children), activation
        self.weight_hh = nn.Parameter(torch.empty(hidden_size, self.slots * hidden_size, **self._factory))
        self.bias = nn.Parameter(torch.empty(hidden_size, **self._factory))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """W Xavier-uniform, b zero."""
        fill(self.weight_hh, "xavier")
        self.bias.zero_()

    def project(self, x: Tensor) -> tuple[None]:
        """Nothing: inner nodes read no input."""
        return (None,)

    def leaf(self, x: Tensor, projected: Any, forest: Forest) -> State:
        """What leaves read is their state."""
        return (x.index_select(0, forest.leaves),)

    def node(self, projected: Any, children: Children) -> State:
        """See `TreeLayer.node`."""
        h = children.side_by_side(children.state[0], self.slots)
        return (self.activation(linear(h, self.weight_hh, self.bias)),)


class ChildSum(TreeLayer):
    """Any cell of the catalogue, or one of your own, over trees: the state before a node is its children's sum.

    Formula, for a node j with the children k, and the cell's step F:
        s_j = F(x_j, Σ_k s_k)

    With one child each it is `Recurrent` of the same cell. It makes sense of cells whose states can be added up: one
    that keeps a count of steps, or a field that begins elsewhere than at 0 (the exponent of `slstm`), is refused.

    Args:
        cell: A cell, or the name of one.
        input_size: Width I of what a node reads.
        hidden_size: Width H of the state.
        init: How parameters begin, as for `Recurrent`.
        device: Of the parameters.
        dtype: Of the parameters.

    Its parameters are the cell's, named as in `Cell.shapes`: weight_ih, weight_hh, bias, and what else it declares.

    Raises:
        ValueError: A cell that cannot be run over trees.
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        *,
        init: str | Mapping[str, Any] | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, device, dtype)
        found = find(cell) if isinstance(cell, str) else cell
        if not isinstance(found, Cell):
            raise ValueError(f"cell: a cell or its name is expected, not {cell!r}")
        for field in found.fields:
            if field.is_bookkeeping or found.begins(field):
                what = "counts steps" if field.is_bookkeeping else f"begins at {found.begins(field):g}"
                raise ValueError(f"cell: field {field.name!r} of {found.name!r} {what}, so that states cannot be added")
        self.cell = found
        self.fields = tuple(field.name for field in found.fields)
        self.use, self.init = found.use(self.hidden_size), None if init is None else checked(found, init)
        for name, shape in found.shapes(self.input_size, self.hidden_size).items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, **self._factory)))
        for name, value in constants(found, self.hidden_size).items():
            dtype = self.get_parameter("weight_ih").dtype if value.is_floating_point() else value.dtype
            self.register_buffer(name, value.to(self.get_parameter("weight_ih").device, dtype), persistent=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew, as `Recurrent` does."""
        initialise(self.cell, self._weights, self.init)

    @property
    def _weights(self) -> dict[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def width(self, field: str) -> int:
        """See `TreeLayer.width`."""
        return self.cell.widths(self.hidden_size)[self.fields.index(field)]

    def project(self, x: Tensor) -> tuple[Any, ...]:
        """W x + b of all gates."""
        self._stepper = CellStepper(self.cell, self.use, self._weights)
        return tuple(self._stepper.prepare(x.unsqueeze(0))[0])

    def node(self, projected: Any, children: Children) -> State:
        """See `TreeLayer.node`."""
        return self._stepper(projected, tuple(children.sum(v) for v in children.state))


def _fill_blocks(weight: Tensor, width: int, start: str) -> None:
    """Let every square of a matrix begin by itself: a gate's, for one child."""
    for block in weight.split(width):
        for part in block.split(width, 1):
            fill(part, start)
