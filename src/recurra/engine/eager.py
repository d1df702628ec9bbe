"""The reference run: the cell's own lines, one step after another, in ordinary tensor code.

Every other way of running a cell must agree with this one.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from recurra.cells.form import Cell, Stateful, Use
from recurra.cells.terms import LinearMap, NetInput, Product
from recurra.errors import CellError

State = tuple[Tensor, ...]


class Stepper(Protocol):
    """What `run` needs: inputs of all steps made ready at once, then one step at a time."""

    def prepare(self, x: Tensor) -> Sequence[Any]:
        """What each step needs of the input x, (T, B, I): one entry a step."""
        ...

    def __call__(self, prepared: Any, state: State) -> State:
        """The state after one step."""
        ...


class CellStepper:
    """Steps of a `Cell` with the weights of one layer and direction.

    The inputs of all steps are projected in one product. At each step one more product serves all gates whose U
    multiplies the state; only a gate that the body gives another operand has a product of its own.

    Args:
        cell: The cell.
        use: How its body takes its net inputs (`cell.use`).
        weights: Parameters by the names of `cell.shapes`, constants, and `mask_hh` where U has a mask.
        drop: (B, K) factors laid on what U multiplies, the same at every step (variational dropout), or None.
    """

    def __init__(self, cell: Cell, use: Use, weights: Mapping[str, Tensor], drop: Tensor | None = None) -> None:
        self.cell, self.drop = cell, drop
        self.every = (*cell.gates, *cell.inputs)
        self.shared = [g for g in cell.gates if g in use.of_state]
        self.apart = [g for g in self.shared if g in use.parts | use.called or cell.biases == "apart"]
        self.single = [g for g in self.every if g not in self.shared]
        self.weight_ih = weights["weight_ih"]
        self.width = len(self.weight_ih) // len(self.every)
        self.bias, self.second_bias = biases(cell, use, weights)
        self.bias_apart = biases_apart(cell, weights)
        self.product = self._product(weights, self.shared) if self.shared else None
        called = [g for g in cell.gates if g in use.called]
        self.products = {g: self._caller(self._product(weights, [g]), g) for g in called}
        maps = {m.name: LinearMap(weights[m.name]) for m in cell.matrices}
        self.p = cell.p_type(*(maps.get(name, weights[name]) for name in cell.p_type._fields))

    def _product(self, weights: Mapping[str, Tensor], gates: Sequence[str]) -> Product:
        """The product of U with an operand, the named gates side by side."""
        return _product(self.cell, weights, gates)

    def _projected(self, x: Tensor) -> Tensor:
        """W x of all gates, with the biases that belong to it, at every step of x, (T, B, I)."""
        return linear(x, self.weight_ih, self.bias)

    def _caller(self, product: Product, gate: str) -> Product:
        drop, bias = self.drop, self.second_bias.get(gate)

        def call(operand: Tensor, added: Tensor | None) -> Tensor:
            if bias is not None:
                added = bias if added is None else added + bias
            return product(operand if drop is None else operand * drop, added)

        return call

    def prepare(self, x: Tensor) -> Sequence[tuple[Any, ...]]:
        """Project x, (T, B, I): for each step what the shared product is added to, then `W x + b` of other gates."""
        projected = self._projected(x)
        H, T = self.width, len(x)
        if not self.apart and self.every[: len(self.shared)] == tuple(self.shared):
            added, *others = projected.split([len(self.shared) * H, *(H for _ in self.single)], -1)
        else:
            by_gate = dict(zip(self.every, projected.split(H, -1), strict=True))
            others = [by_gate[g] for g in (*self.apart, *self.single)]
            halves = {g: self._before_half(g, by_gate[g]) for g in self.apart}
            added = torch.cat([halves.get(g, by_gate[g]) for g in self.shared], -1) if self.shared else None
        steps = [added.unbind(0) if added is not None else [None] * T, *(other.unbind(0) for other in others)]
        return list(zip(*steps, strict=True))

    def _before_half(self, gate: str, like: Tensor) -> Tensor:
        """What `z.g.h` is without `U_g h`: the second bias, or zero."""
        bias = self.second_bias.get(gate)
        return torch.zeros_like(like) if bias is None else bias.expand_as(like)

    def __call__(self, prepared: tuple[Any, ...], state: State) -> State:
        """One step; `prepared` is one entry of `prepare`."""
        added, *others = prepared
        products: dict[str, Tensor] = {}
        if self.product is not None:
            operand = state[0] if self.drop is None else state[0] * self.drop
            products = dict(zip(self.shared, self.product(operand, added).split(self.width, -1), strict=True))
        z: dict[str, Tensor | NetInput] = dict(products)
        for gate, x in zip((*self.apart, *self.single), others, strict=True):
            half, product, bias = products.get(gate), self.products.get(gate), self.bias_apart.get(gate)
            if bias is not None and gate in self.cell.inputs:
                half = x.new_zeros(())
            plain = half is None and product is None and bias is None
            z[gate] = x if plain else NetInput(x, half, product, bias)
        net_inputs = self.cell.z_type(*(z[g] for g in self.every))
        return self.cell.step(net_inputs, self.cell.state_type(*state), self.p)


def where_taken(mask: Tensor, v: Tensor) -> Tensor:
    """Zeros where no step is taken: of what stands there nothing, not even NaN, reaches the gradients.

    Args:
        mask: (T, B), True where a step is taken.
        v: (T, B, width), or with places before the width, (T, B, ..., width).
    """
    return torch.where(_for_each(mask, v), v, v.new_zeros(()))


def biases(cell: Cell, use: Use, weights: Mapping[str, Tensor]) -> tuple[Tensor | None, dict[str, Tensor]]:
    """What the projected input is added to, and by gate the second biases that belong to `z.g.h` alone."""
    first, second = weights.get("bias", weights.get("bias_ih")), weights.get("bias_hh")
    if cell.biases == "apart":
        return None, {}
    if first is None or second is None:
        return first, {}
    if not use.parts and len(first) == len(second):
        return first + second, {}
    pieces = list(first.chunk(len(cell.gates) + len(cell.inputs)))
    alone = {}
    for i, (gate, bias) in enumerate(zip(cell.gates, second.chunk(len(cell.gates)), strict=True)):
        if gate in use.parts:
            alone[gate] = bias
        else:
            pieces[i] = pieces[i] + bias
    return torch.cat(pieces), alone


def biases_apart(cell: Cell, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """By gate, the biases that the body adds itself."""
    if cell.biases != "apart":
        return {}
    every = (*cell.gates, *cell.inputs)
    return dict(zip(every, weights["bias"].chunk(len(every)), strict=True))


def _product(cell: Cell, weights: Mapping[str, Tensor], gates: Sequence[str]) -> Product:
    """The product of U with an operand, the named gates side by side."""
    U, G = weights["weight_hh"], len(cell.gates)
    chosen = [cell.gates.index(g) for g in gates]
    if cell.recurrent == "diagonal":
        diagonal = _chosen(U.view(G, -1), chosen)
        return adding(lambda v: (v.unsqueeze(1) * diagonal).flatten(1))
    if cell.recurrent == "blocks":
        heads, rows, columns = U.shape
        blocks = _chosen(U.view(heads, G, rows // G, columns).transpose(0, 1), chosen)
        by_head = (heads, columns)
        return adding(lambda v: torch.einsum("bhk,ghjk->bghj", v.unflatten(1, by_head), blocks).flatten(1))
    dense = _chosen(U.view(G, -1, U.shape[-1]), chosen)
    if "mask_hh" in weights:
        dense = dense * weights["mask_hh"]
    transposed = dense.reshape(-1, dense.shape[-1]).t()
    return lambda v, added: v @ transposed if added is None else torch.addmm(added, v, transposed)


def adding(multiply: Callable[[Tensor], Tensor]) -> Product:
    """A product that is also added to something."""
    return lambda v, added: multiply(v) if added is None else multiply(v) + added


def _chosen(by_gate: Tensor, chosen: list[int]) -> Tensor:
    """The chosen gates of (G, ...); a view where they stand side by side."""
    first, last = chosen[0], chosen[-1] + 1
    return by_gate[first:last] if chosen == list(range(first, last)) else by_gate[chosen]


class FunctionStepper:
    """Steps of a plain function or module `f(x_t, state) -> state` (eq. 6.4).

    Args:
        function: Given x_t, (B, I), and the state: one tensor where `form` has one field, else a tuple.
        form: Its name and the fields of its state.
    """

    def __init__(self, function: Callable[..., Any], form: Stateful) -> None:
        self.function, self.form = function, form

    def prepare(self, x: Tensor) -> Sequence[Tensor]:
        """The input of each step."""
        return x.unbind(0)

    def __call__(self, prepared: Tensor, state: State) -> State:
        """One step.

        Raises:
            CellError: The function returns another state than it was given.
        """
        new = self.function(prepared, state[0] if len(state) == 1 else state)
        new = (new,) if isinstance(new, Tensor) else new
        expected = [tuple(v.shape) for v in state]
        if not isinstance(new, (tuple, list)) or not all(isinstance(v, Tensor) for v in new):
            kind = type(new).__name__
            raise CellError(f"function {self.form.name!r}: a state of shapes {expected} is expected, not a {kind}")
        new = tuple(new)
        found = [tuple(v.shape) for v in new]
        if found != expected:
            raise CellError(f"function {self.form.name!r}: a state of shapes {expected} is expected, not {found}")
        return new


def run(
    step: Stepper,
    x: Tensor,
    state: State,
    initial: State,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
    zoneout: float = 0.0,
    training: bool = False,
    spared: Sequence[bool] | None = None,
) -> tuple[list[State], State]:
    """Run along time.

    Args:
        step: What takes one step.
        x: (T, B, I) inputs; what stands at masked places does not matter.
        state: The state before the first step (the last one, if `reverse`), each field (B, width).
        initial: What a reset sets the state to, each field (B, width).
        mask: (T, B), True where a step is to be taken; elsewhere the state is held.
        reset: (T, B), True where the state is set to `initial` before that step. Running backward, it is set where
            the run crosses from step t to t - 1.
        reverse: Run from the last step to the first.
        zoneout: Share of the state's units that keep their old value at a step (Krueger et al. 2017); out of training
            the mean of both.
        training: Whether zoneout draws at random.
        spared: For each state field, whether zoneout leaves it alone; a count of steps, say.

    Returns:
        The state after every step, in the order of time, and the final state.
    """
    T = x.shape[0]
    if mask is not None:
        x = where_taken(mask, x)
    whole, some = _rows_at_each_step(mask, T, default=True)
    _, resets = _rows_at_each_step(reset, T, default=False)
    prepared = step.prepare(x) if T else []
    states: list[State] = [()] * T
    for t in range(T - 1, -1, -1) if reverse else range(T):
        crossed = t + 1 if reverse else t
        if reset is not None and crossed < T and resets[crossed]:
            state = _choose(reset[crossed], initial, state)
        if some[t]:
            new = step(prepared[t], state)
            if zoneout:
                zoned = _zoneout(new, state, zoneout, training)
                new = tuple(n if s else z for n, z, s in zip(new, zoned, spared or [False] * len(new), strict=True))
            state = new if mask is None or whole[t] else _choose(mask[t], new, state)
        states[t] = state
    return states, state


def run_again(
    step: Stepper,
    x: Tensor,
    state: State,
    initial: State,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
    **how: Any,
) -> tuple[list[State], State]:
    """`run` that keeps the states at about √T of T steps, and runs what lies between again for the derivative.

    Args and returns as `run` has them.
    """
    T = len(x)
    length = math.isqrt(max(T - 1, 0)) + 1
    along: list[State] = [()] * T
    for start in sorted(range(0, T, length), reverse=reverse):
        stop = min(start + length, T)
        if reverse and reset is not None and stop < T:  # where the run crosses from one piece to the next
            state = _choose(reset[stop], initial, state)
        masks, resets = (None if v is None else v[start:stop] for v in (mask, reset))
        piece = functools.partial(run, step, mask=masks, reset=resets, reverse=reverse, **how)
        along[start:stop], state = checkpoint(
            lambda x, *given, piece=piece: piece(x, given[: len(initial)], given[len(initial) :]),
            x[start:stop],
            *state,
            *initial,
            use_reentrant=False,
        )
    return along, state


def _choose(rows: Tensor, yes: State, no: State) -> State:
    return tuple(torch.where(_for_each(rows, a), a, b) for a, b in zip(yes, no, strict=True))


def _for_each(flags: Tensor, v: Tensor) -> Tensor:
    """Flags of steps or rows, with further axes so that each stands for all values that `v` has there."""
    return flags.reshape(*flags.shape, *(1 for _ in range(v.dim() - flags.dim())))


def _zoneout(new: State, old: State, share: float, training: bool) -> State:
    if training:
        return tuple(torch.where(torch.rand_like(n) < share, o, n) for n, o in zip(new, old, strict=True))
    return tuple(share * o + (1 - share) * n for n, o in zip(new, old, strict=True))


def _rows_at_each_step(rows: Tensor | None, T: int, default: bool) -> tuple[list[bool], list[bool]]:
    """Whether all rows, and whether any row, is True at each step: a step that concerns all or none can be plain."""
    if rows is None:
        return [default] * T, [default] * T
    if not is_readable(rows):
        return [False] * T, [True] * T
    return rows.all(1).tolist(), rows.any(1).tolist()


def is_readable(tensor: Tensor) -> bool:
    """Whether the values can be read here: not inside a compiled graph or a transform such as vmap."""
    return not torch.compiler.is_compiling() and not is_functorch_wrapped_tensor(tensor)
