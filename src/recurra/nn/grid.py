"""Cells on a two-dimensional grid: a state runs along each dimension, and every place joins the two."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recurra.cells import Cell, find
from recurra.engine.eager import CellStepper, State
from recurra.errors import unknown
from recurra.nn.arguments import Layout, flag, whole, within_lengths
from recurra.nn.initialise import fill, initialise

DIMENSIONS = ("vertical", "horizontal")
ORIGINS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "top left": ("", ()),
    "top right": ("_tr", (1,)),
    "bottom left": ("_bl", (0,)),
    "bottom right": ("_br", (0, 1)),
}
"""The corner that a run begins in: the ending of its parameters' names, and the axes to turn round so that it is the
top left one."""

Origin = Literal["top left", "top right", "bottom left", "bottom right"]
Dimension = Literal["vertical", "horizontal"]


class GridState(NamedTuple):
    """What stands at the sides of a grid: the states that enter it, or those that leave it on the other side.

    Attributes:
        vertical: One state a column, a tuple of the cell's fields, each (layers * origins, C, B, width).
        horizontal: One state a row, each field (layers * origins, R, B, width).
    """

    vertical: Any
    horizontal: Any


class Grid(nn.Module):
    """Two-dimensional Grid LSTM (Kalchbrenner, Danihelka & Graves 2015), over any cell.

    Each place (r, c) of a grid is a block. It takes a state from above and one from the left, and gives one downwards
    and one to the right, each by the equations of a cell:

        v_(r,c) = cell_v(input [x_(r,c); h of h_(r,c-1)], state v_(r-1,c))
        h_(r,c) = cell_h(input [x_(r,c); h of v_(r-1,c)], state h_(r,c-1))

    For LSTM that is the paper's LSTM(H, m, W): the gates of both see the same H = [x; h_v; h_h], since W multiplies x
    and the other hidden vector and U its own; each has a memory of its own. The paper's block puts out tanh(o ⊙ m),
    where the catalogue's `lstm` puts out o ⊙ tanh(m).

    Blocks of an anti-diagonal do not need one another, so they are computed together, R + C - 1 steps in all.

    Args:
        cell: A cell, or its name.
        input_size: Width I of the input of a place; 0 for none, where all that enters comes from the sides.
        hidden_size: Width H.
        num_layers: Grids one over another, each reading at its places the two hidden vectors of the one below.
        origins: The corner in which a run begins, or several: a run from each, outputs side by side (as
            multi-dimensional RNNs have it, Graves, Fernández & Schmidhuber 2007).
        tied: Both dimensions have the same parameters.
        priority: The dimension that is computed last, and sees the other's new hidden vector in place of the old one
            (the paper's priority dimension); None for none.
        batch_first: Inputs and outputs are (B, R, C, ...) instead of (R, C, B, ...).
        device: Where the parameters are made.
        dtype: Their type.

    Parameters are named as in `Recurrent`, after layer, dimension and origin: `weight_ih_l0_vertical`,
    `weight_hh_l0_horizontal`, `bias_l1_vertical_br`; `weight_ih_l0` where they are tied. The columns of `weight_ih` are
    those of x, then those of the other hidden vector.

    Raises:
        ValueError: An argument that cannot be, named with what is accepted.
        CellError: A cell whose body and declaration disagree.

    Example:
        >>> grid = Grid("lstm", input_size=3, hidden_size=16, origins=["top left", "bottom right"])
        >>> output, state = grid(torch.zeros(5, 7, 2, 3))
        >>> output.shape, state.vertical.c.shape
        (torch.Size([5, 7, 2, 64]), torch.Size([2, 7, 2, 16]))
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        origins: Origin | Sequence[Origin] = "top left",
        tied: bool = False,
        priority: Dimension | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        found = find(cell) if isinstance(cell, str) else cell
        if not isinstance(found, Cell):
            raise ValueError(f"cell: a cell made with recurra.cell, or the name of one, is expected, not {cell!r}")
        self.cell = found
        self.input_size = 0 if input_size == 0 else whole("input_size", input_size)
        self.hidden_size, self.num_layers = whole("hidden_size", hidden_size), whole("num_layers", num_layers)
        self.origins = _origins(origins)
        if priority is not None and priority not in DIMENSIONS:
            raise ValueError("priority: " + unknown("dimension", str(priority), DIMENSIONS))
        self.tied, self.priority, self.batch_first = flag("tied", tied), priority, flag("batch_first", batch_first)
        self.widths = self.cell.widths(self.hidden_size)
        self.output_size = 2 * self.widths[0] * len(self.origins)
        self._use = self.cell.use(self.hidden_size)
        self._names: list[str] = []
        for k in range(self.num_layers):
            below = self.output_size if k else self.input_size
            for suffix in self._suffixes(k):
                self._register(suffix, below + self.widths[0], {"device": device, "dtype": dtype})
        self.reset_parameters()

    def _suffixes(self, k: int) -> list[str]:
        """The endings of a layer's parameters: origins one after another, vertical before horizontal."""
        dimensions = ("",) if self.tied else tuple(f"_{dimension}" for dimension in DIMENSIONS)
        return [f"_l{k}{dimension}{ORIGINS[origin][0]}" for origin in self.origins for dimension in dimensions]

    def _register(self, suffix: str, width: int, factory: dict[str, Any]) -> None:
        shapes = self.cell.shapes(width, self.hidden_size)
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, **factory)))
        like = self.get_parameter("weight_ih" + suffix)
        constants = self.cell.constant_values(self.hidden_size)
        mask = self.cell.mask_of_u(self.hidden_size)
        for name, value in (constants if mask is None else {**constants, "mask_hh": mask}).items():
            kind = like.dtype if value.is_floating_point() else value.dtype
            self.register_buffer(name + suffix, value.to(like.device, kind), persistent=False)
        self._names = [*shapes, *constants, *([] if mask is None else ["mask_hh"])]

    def _weights(self, suffix: str) -> dict[str, Tensor]:
        return {name: getattr(self, name + suffix) for name in self._names}

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew: parameters are drawn as the cell says."""
        for k in range(self.num_layers):
            for suffix in self._suffixes(k):
                initialise(self.cell, self._weights(suffix))

    def extra_repr(self) -> str:
        """What `print(grid)` shows."""
        parts = [repr(self.cell), str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        parts += [f"origins={list(self.origins)}"] if self.origins != ("top left",) else []
        for key in ("tied", "priority", "batch_first"):
            if getattr(self, key):
                parts.append(f"{key}={getattr(self, key)!r}")
        return ", ".join(parts)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: tuple[Any, Any] | None = None,
        mask: Tensor | None = None,
    ) -> tuple[Tensor, GridState]:
        """Run over grids.

        Args:
            x: (R, C, B, I), or (B, R, C, I) with `batch_first`.
            state: What enters at the sides where runs begin: (vertical, horizontal), each a tuple of the cell's
                fields, (layers * origins, C, B, width) and (layers * origins, R, B, width); None for the cell's start,
                for both or for one of them. Columns and rows are counted from the left and the top, wherever a run
                begins.
            lengths: Rows and columns of each grid, (B,) each; a grid stands in the top left corner of its part of the
                batch. Nothing that stands outside matters.
            mask: (R, C, B) or (B, R, C) as `x`, True where valid. A masked place hands both states on as they are and
                puts out zeros.

        Returns:
            The output, (R, C, B, 2 * width * origins) or as `x` is laid out: at each place the vertical, then the
            horizontal hidden vector, origin by origin; and the states that leave the grid, a `GridState`.

        Raises:
            ValueError: Sizes or types that do not fit, naming the argument, what was found and what is expected.
        """
        x = self._checked(x)
        valid = self._valid(x, lengths, mask)
        begun = self._begun(state, x)
        ends: list[list[State]] = [[], []]
        for k in range(self.num_layers):
            outputs = []
            for i, origin in enumerate(self.origins):
                turned, (across, down) = ORIGINS[origin][1], begun[k * len(self.origins) + i]
                flags = None if valid is None else valid.flip(turned)
                edges = _turned(across, 1 in turned), _turned(down, 0 in turned)
                output, *final = self._sweep(self._steppers(k, origin), x.flip(turned), edges, flags)
                outputs.append(output.flip(turned))
                for end, last, axis in zip(ends, final, (1, 0), strict=True):
                    end.append(_turned(last, axis in turned))
            x = torch.cat(outputs, -1)
        left = [self.cell.state_type(*map(torch.stack, zip(*end, strict=True))) for end in ends]
        return x.permute(2, 0, 1, 3) if self.batch_first else x, GridState(*left)

    def _steppers(self, k: int, origin: str) -> list[CellStepper]:
        """What takes a step of each dimension."""
        ending = ORIGINS[origin][0]
        suffixes = [f"_l{k}{ending}"] * 2 if self.tied else [f"_l{k}_{d}{ending}" for d in DIMENSIONS]
        return [CellStepper(self.cell, self._use, self._weights(suffix)) for suffix in suffixes]

    def _sweep(
        self, steppers: Sequence[CellStepper], x: Tensor, edges: tuple[State, State], valid: Tensor | None
    ) -> tuple[Tensor, State, State]:
        """One run from the top left corner: the output, and the states that leave below and at the right."""
        R, C, B, _ = x.shape
        if valid is not None:
            x = torch.where(valid.unsqueeze(-1), x, x.new_zeros(()))  # so that no NaN outside reaches a gradient
        columns, rows = ([list(field.unbind(0)) for field in edge] for edge in edges)
        outputs: dict[tuple[int, int], Tensor] = {}
        for places in _diagonals(R, C):
            along_r, along_c = ([place[axis] for place in places] for axis in (0, 1))
            down = tuple(torch.cat([field[c] for c in along_c]) for field in columns)
            across = tuple(torch.cat([field[r] for r in along_r]) for field in rows)
            here = x[along_r, along_c].flatten(0, 1)
            new = self._block(steppers, here, down, across)
            if valid is not None:
                taken = valid[along_r, along_c].reshape(-1, 1)
                held = (down, across)
                new = [tuple(map(torch.where, [taken] * len(n), n, h)) for n, h in zip(new, held, strict=True)]
            for fields, values, index in zip((columns, rows), new, (along_c, along_r), strict=True):
                for field, value in zip(fields, values, strict=True):
                    for at, v in zip(index, value.unflatten(0, (len(places), B)).unbind(0), strict=True):
                        field[at] = v
            put_out = torch.cat([new[0][0], new[1][0]], -1)
            outputs.update(zip(places, put_out.unflatten(0, (len(places), B)).unbind(0), strict=True))
        width = 2 * self.widths[0]
        output = torch.stack(list(outputs.values())) if outputs else x.new_zeros(0, B, width)
        order = {place: i for i, place in enumerate(outputs)}
        by_rows = [order[r, c] for r in range(R) for c in range(C)]
        output = output[by_rows].reshape(R, C, B, width)
        if valid is not None:
            output = torch.where(valid.unsqueeze(-1), output, output.new_zeros(()))
        last = [
            tuple(torch.stack(field) if field else edge for field, edge in zip(fields, given, strict=True))
            for fields, given in zip((columns, rows), edges, strict=True)
        ]
        return output, last[0], last[1]

    def _block(self, steppers: Sequence[CellStepper], x: Tensor, down: State, across: State) -> list[State]:
        """Blocks side by side, as many as x, (n, I), has rows: the new vertical and horizontal states."""
        old, new = [down, across], [down, across]
        order = (1, 0) if self.priority == "vertical" else (0, 1)
        for i in order:
            last = self.priority == DIMENSIONS[i]
            other = (new if last else old)[1 - i][0]
            prepared = steppers[i].prepare(torch.cat([x, other], -1).unsqueeze(0))
            new[i] = steppers[i](prepared[0], old[i])
        return new

    def _checked(self, x: Any) -> Tensor:
        """The input, (R, C, B, I)."""
        layout = "(B, R, C, I)" if self.batch_first else "(R, C, B, I)"
        if not isinstance(x, Tensor):
            raise ValueError(f"x: a tensor {layout} is expected, not {type(x).__name__}")
        if x.dim() != 4:
            raise ValueError(f"x: {layout} is expected, not {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x: input_size is {self.input_size}, but {tuple(x.shape)} ends with {x.shape[-1]}")
        expected = self._weights(self._suffixes(0)[0])["weight_ih"].dtype
        if x.dtype != expected and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"x: {expected} is expected, as the parameters are, not {x.dtype}")
        return x.permute(1, 2, 0, 3) if self.batch_first else x

    def _valid(self, x: Tensor, lengths: Any, mask: Any) -> Tensor | None:
        """(R, C, B), True at the places that count; None where all do."""
        R, C, B, _ = x.shape
        valid = None
        if mask is not None:
            if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
                found = mask.dtype if isinstance(mask, Tensor) else type(mask).__name__
                raise ValueError(f"mask: a boolean tensor is expected, not {found}")
            expected = (B, R, C) if self.batch_first else (R, C, B)
            if tuple(mask.shape) != expected:
                raise ValueError(f"mask: {expected} is expected, not {tuple(mask.shape)}")
            valid = (mask.permute(1, 2, 0) if self.batch_first else mask).to(x.device)
        if lengths is not None:
            pair = isinstance(lengths, (tuple, list)) and len(lengths) == 2
            if not pair or any(isinstance(each, int) for each in lengths):
                told = "a pair is expected, the rows of each grid and the columns of each, such as ([3, 5], [4, 4])"
                raise ValueError(f"lengths: {told}, not {lengths!r}")
            rows, columns = lengths
            inside = within_lengths(rows, R, B, x.device).unsqueeze(1) & within_lengths(columns, C, B, x.device)
            valid = inside if valid is None else valid & inside
        return valid

    def _begun(self, state: Any, x: Tensor) -> list[tuple[State, State]]:
        """The states that enter each layer and origin's grid, each field (C, B, width) and (R, B, width)."""
        R, C = x.shape[:2]
        pair = (None, None) if state is None else state
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise ValueError(f"state: a pair is expected, vertical and horizontal, not {type(state).__name__}")
        sides = [
            self._side(name, given, x, places) for name, given, places in zip(DIMENSIONS, pair, (C, R), strict=True)
        ]
        return list(zip(*sides, strict=True))

    def _side(self, name: str, given: Any, x: Tensor, places: int) -> list[State]:
        """What enters at one side, for each layer and origin."""
        runs, B = self.num_layers * len(self.origins), x.shape[2]
        if given is None:
            start = self.cell.initial_state(B, self.hidden_size, x)
            return [tuple(v.expand(places, -1, -1) for v in start)] * runs
        fields = self.cell.state_type._fields
        values = (given,) if isinstance(given, Tensor) else given
        if not isinstance(values, (tuple, list)) or len(values) != len(fields):
            found = len(values) if isinstance(values, (tuple, list)) else type(values).__name__
            raise ValueError(f"state.{name}: {len(fields)} field(s) are expected ({', '.join(fields)}), not {found}")
        for field, value, width in zip(fields, values, self.widths, strict=True):
            expected = (runs, places, B, width)
            shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if shape != expected:
                raise ValueError(f"state.{name}.{field}: a tensor {expected} is expected, not {shape}")
        return list(zip(*(value.to(x.dtype).unbind(0) for value in values), strict=True))


class DepthGrid(nn.Module):
    """Layers over time whose depth is a dimension of a grid: the paper's stacked 2-LSTM.

    Where `Recurrent` hands each layer the hidden vector of the one below, here a state with a memory of its own runs
    upwards too, through the cell's gates. x enters along one side alone: it is projected to the state with which each
    step's column begins (every field but counts and those that start at infinity). What the column ends with is the
    output.

    Args:
        cell: A cell, or its name.
        input_size: Width I of an input.
        hidden_size: Width H.
        depth: Blocks one above another.
        shared: All of them have the same parameters (a tied network, in the paper's words); the number of blocks then
            costs no parameters.
        tied: The two dimensions have the same parameters.
        priority: As in `Grid`; "vertical" is depth, "horizontal" is time.
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        device: Where the parameters are made.
        dtype: Their type.

    Parameters: `weight_enter` (widths of the fields, I), `bias_enter`, and those of `grids.0`, `grids.1`, …

    Raises:
        ValueError: An argument that cannot be, named with what is accepted.
        CellError: A cell whose body and declaration disagree.

    Example:
        >>> layers = DepthGrid("lstm", 3, 16, depth=4)
        >>> output, state = layers(torch.zeros(9, 2, 3))
        >>> output.shape, state.c.shape
        (torch.Size([9, 2, 16]), torch.Size([4, 2, 16]))
    """

    def __init__(
        self,
        cell: Cell | str,
        input_size: int,
        hidden_size: int,
        depth: int,
        *,
        shared: bool = False,
        tied: bool = False,
        priority: Dimension | None = None,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.depth = whole("input_size", input_size), whole("depth", depth)
        self.shared, self.batch_first = flag("shared", shared), flag("batch_first", batch_first)
        factory: Any = {"device": device, "dtype": dtype}
        grids = [
            Grid(cell, 0, hidden_size, tied=tied, priority=priority, **factory) for _ in range(1 if shared else depth)
        ]
        self.grids, self.cell, self.output_size = nn.ModuleList(grids), grids[0].cell, grids[0].widths[0]
        self._entering = [
            (f.name, width)
            for f, width in zip(self.cell.fields, grids[0].widths, strict=True)
            if not f.is_bookkeeping and math.isfinite(self.cell.begins(f))
        ]
        rows = sum(width for _, width in self._entering)
        self.weight_enter = nn.Parameter(torch.empty(rows, input_size, **factory))
        self.bias_enter = nn.Parameter(torch.empty(rows, **factory))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew; the projection of x is drawn as W of a cell is, a field at a time."""
        for grid in self.grids:
            assert isinstance(grid, Grid)
            grid.reset_parameters()
        for block in self.weight_enter.split([width for _, width in self._entering]):
            fill(block, "xavier")
        fill(self.bias_enter, 0.0)

    def forward(
        self, x: Tensor, state: Any = None, *, lengths: Any = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Run over sequences.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or one sequence, (T, I).
            state: What enters each depth before the first step, as a previous call returned it: a tuple of the cell's
                fields, each (depth, B, width), or (depth, width) for one sequence.
            lengths: (B,) steps of each sequence.
            mask: As `x` without its last axis, True where valid. A masked step holds the state and puts out zeros.

        Returns:
            The hidden vector that leaves at the top at every step, and the state after the last one, a named tuple.

        Raises:
            ValueError: Sizes or types that do not fit, naming the argument, what was found and what is expected.
        """
        if not isinstance(x, Tensor) or x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: (T, B, I), (B, T, I) or (T, I) with I = {self.input_size} is expected, not {found}")
        if x.dtype != self.weight_enter.dtype and not torch.is_autocast_enabled(x.device.type):
            raise ValueError(f"x: {self.weight_enter.dtype} is expected, as the parameters are, not {x.dtype}")
        layout = Layout(single=x.dim() == 2, rows_first=self.batch_first)
        x = layout.inward(x)
        T, B = x.shape[:2]
        valid = layout.flags("mask", mask, x)
        if lengths is not None:
            within = within_lengths(lengths, T, B, x.device)
            valid = within if valid is None else valid & within
        if valid is not None:
            x = torch.where(valid.unsqueeze(-1), x, x.new_zeros(()))  # so that no NaN of the padding reaches a gradient
        rising, ended = self._enter(x), []
        for grid, begun in zip(self.grids, self._begun(state, B, layout), strict=True):
            rows = self.depth if self.shared else 1
            flags = None if valid is None else valid.expand(rows, T, B)
            _, (rising, across) = grid(x.new_empty(rows, T, B, 0), (rising, begun), mask=flags)
            ended.append([field[0] for field in across])
        output = rising[0][0]
        if valid is not None:
            output = torch.where(valid.unsqueeze(-1), output, output.new_zeros(()))
        fields = (torch.cat(field) for field in zip(*ended, strict=True))
        return layout.outward(output), self.cell.state_type(*(v.squeeze(1) if layout.single else v for v in fields))

    def _enter(self, x: Tensor) -> Any:
        """The state with which each step's column begins, each field (1, T, B, width)."""
        T, B = x.shape[:2]
        projected = linear(x, self.weight_enter, self.bias_enter).split([width for _, width in self._entering], -1)
        given = dict(zip((name for name, _ in self._entering), projected, strict=True))
        grid = self.grids[0]
        assert isinstance(grid, Grid)
        start = self.cell.initial_state(B, grid.hidden_size, x)
        fields = zip(self.cell.fields, start, strict=True)
        return tuple(given.get(f.name, v.expand(T, -1, -1)).unsqueeze(0) for f, v in fields)

    def _begun(self, state: Any, B: int, layout: Layout) -> list[Any]:
        """What enters the rows of each grid: None, or each field (1, rows, B, width)."""
        if state is None:
            return [None] * len(self.grids)
        values, fields = (state,) if isinstance(state, Tensor) else state, self.cell.state_type._fields
        grid = self.grids[0]
        assert isinstance(grid, Grid)
        if not isinstance(values, (tuple, list)) or len(values) != len(fields):
            found = len(values) if isinstance(values, (tuple, list)) else type(values).__name__
            raise ValueError(f"state: {len(fields)} field(s) are expected ({', '.join(fields)}), not {found}")
        for name, value, width in zip(fields, values, grid.widths, strict=True):
            expected = (self.depth, width) if layout.single else (self.depth, B, width)
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if found != expected:
                raise ValueError(f"state.{name}: a tensor {expected} is expected, not {found}")
        rows = [v.unsqueeze(1) if layout.single else v for v in values]
        parts = [v.chunk(len(self.grids)) for v in rows]  # (rows of the grid, B, width) each
        return [tuple(v.unsqueeze(0) for v in part) for part in zip(*parts, strict=True)]


def _origins(origins: Any) -> tuple[str, ...]:
    """The corners, checked."""
    chosen = (origins,) if isinstance(origins, str) else origins
    if not isinstance(chosen, Sequence) or not chosen:
        raise ValueError(f"origins: a corner or several are expected ({', '.join(ORIGINS)}), not {origins!r}")
    for i, origin in enumerate(chosen):
        if origin not in ORIGINS:
            raise ValueError("origins: " + unknown("corner", str(origin), ORIGINS))
        if origin in chosen[:i]:
            raise ValueError(f"origins: {origin!r} is named twice")
    return tuple(chosen)


def _diagonals(R: int, C: int) -> Iterator[list[tuple[int, int]]]:
    """The places of each anti-diagonal, from the top left corner on."""
    for d in range(R + C - 1 if R and C else 0):
        yield [(r, d - r) for r in range(max(0, d - C + 1), min(d, R - 1) + 1)]


def _turned(state: State, turn: bool) -> State:
    """A side's state, its places in the other order."""
    return tuple(v.flip(0) for v in state) if turn else state
