"""The reference run: the cell's own lines, one step after another, in ordinary tensor code.

Every other way of running a cell must agree with this one.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from torch import Tensor

from recurra.cells.form import Cell, NetInput, Use

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

    The inputs of all steps are projected in one product. At each step, the gates whose net input has the usual
    operand share one product too; those that the body calls with another operand have their own.

    Args:
        cell: The cell.
        use: How its body uses its gates (`cell.use`).
        weights: Parameters by the names of `cell.shapes`, and constants.
        drop: (B, K) factors laid on what U multiplies, the same at every step (variational dropout), or None.
    """

    def __init__(self, cell: Cell, use: Use, weights: Mapping[str, Tensor], drop: Tensor | None = None) -> None:
        self.cell, self.drop = cell, drop
        self.weight_ih = weights["weight_ih"]
        self.width = len(self.weight_ih) // (len(cell.gates) + len(cell.inputs))
        self.parameters = SimpleNamespace(**weights)
        self.shared = [g for g in cell.gates if g in use.plain or g in use.halves]
        self.single = [g for g in (*cell.gates, *cell.inputs) if g not in self.shared]
        # Where no gate is taken apart, the shared product is added to the projected input in one operation.
        self.fused = bool(self.shared) and not use.halves and not use.called & set(self.shared)
        self.bias = weights.get("bias", weights.get("bias_ih"))
        bias_hh = weights.get("bias_hh")
        self.bias_hh = dict(zip(cell.gates, bias_hh.chunk(len(cell.gates)), strict=True)) if bias_hh is not None else {}
        self.products = {g: _shared_product(cell, weights["weight_hh"], [g]) for g in cell.gates if g in use.called}
        if self.shared:
            self.shared_product = _shared_product(cell, weights["weight_hh"], self.shared)
            self.shared_bias = torch.cat([self.bias_hh[g] for g in self.shared]) if self.bias_hh else None

    def prepare(self, x: Tensor) -> Sequence[tuple[Tensor, ...]]:
        """Project x, (T, B, I): for each step the shared gates' net input side by side, then the others' one by one."""
        projected = torch.nn.functional.linear(x, self.weight_ih, self.bias)
        by_gate = dict(zip((*self.cell.gates, *self.cell.inputs), projected.split(self.width, -1), strict=True))
        if not self.fused:
            pieces = [by_gate[g] for g in (*self.shared, *self.single)]
        else:
            together = projected if not self.single else torch.cat([by_gate[g] for g in self.shared], -1)
            if self.shared_bias is not None:
                together = together + self.shared_bias
            pieces = [together, *(by_gate[g] for g in self.single)]
        return list(zip(*(piece.unbind(0) for piece in pieces), strict=True))

    def __call__(self, prepared: tuple[Tensor, ...], state: State) -> State:
        """One step; `prepared` is one entry of `prepare`."""
        z: dict[str, Tensor | NetInput] = {}
        operand = state[0] if self.drop is None else state[0] * self.drop
        if self.fused:
            whole = self.shared_product(operand, prepared[0])
            z.update(zip(self.shared, whole.split(self.width, -1), strict=True))
            singles = prepared[1:]
        elif self.shared:
            halves = self.shared_product(operand, self.shared_bias).split(self.width, -1)
            for gate, x, half in zip(self.shared, prepared, halves, strict=False):
                z[gate] = NetInput(x, lambda half=half: half, self._caller(gate) if gate in self.products else None)
            singles = prepared[len(self.shared) :]
        else:
            singles = prepared
        for gate, x in zip(self.single, singles, strict=True):
            z[gate] = NetInput(x, None, self._caller(gate)) if gate in self.products else x
        return self.cell.step(SimpleNamespace(**z), self.cell.state_type(*state), self.parameters)

    def _caller(self, gate: str) -> Callable[[Tensor], Tensor]:
        product, bias, drop = self.products[gate], self.bias_hh.get(gate), self.drop
        return lambda operand: product(operand if drop is None else operand * drop, bias)


class FunctionStepper:
    """Steps of a plain function or module `f(x_t, state) -> state` (eq. 6.4)."""

    def __init__(self, function: Callable[..., Any], single: bool) -> None:
        self.function, self.single = function, single

    def prepare(self, x: Tensor) -> Sequence[Tensor]:
        """The input of each step."""
        return x.unbind(0)

    def __call__(self, prepared: Tensor, state: State) -> State:
        """One step."""
        new = self.function(prepared, state[0] if self.single else state)
        return (new,) if isinstance(new, Tensor) else tuple(new)


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

    Returns:
        The state after every step, in the order of time, and the final state.
    """
    T = x.shape[0]
    if mask is not None:
        x = torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))  # so that no NaN of the padding reaches a gradient
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
                new = _zoneout(new, state, zoneout, training)
            state = new if mask is None or whole[t] else _choose(mask[t], new, state)
        states[t] = state
    return states, state


def _choose(rows: Tensor, yes: State, no: State) -> State:
    rows = rows.unsqueeze(-1)
    return tuple(torch.where(rows, a, b) for a, b in zip(yes, no, strict=True))


def _zoneout(new: State, old: State, share: float, training: bool) -> State:
    if training:
        return tuple(torch.where(torch.rand_like(n) < share, o, n) for n, o in zip(new, old, strict=True))
    return tuple(share * o + (1 - share) * n for n, o in zip(new, old, strict=True))


def _rows_at_each_step(rows: Tensor | None, T: int, default: bool) -> tuple[list[bool], list[bool]]:
    """Whether all rows, and whether any row, is True at each step: lets steps that concern every row or none be plain.

    Where the values cannot be read (inside a transform or a compiled graph), every step is treated as mixed.
    """
    if rows is None:
        return [default] * T, [default] * T
    if torch.compiler.is_compiling() or torch._C._functorch.is_functorch_wrapped_tensor(rows):
        return [False] * T, [True] * T
    return rows.all(1).tolist(), rows.any(1).tolist()


Product = Callable[[Tensor, Tensor | None], Tensor]


def _shared_product(cell: Cell, weight: Tensor, gates: Sequence[str]) -> Product:
    """The product of U, for the named gates side by side, with an operand: `(v, added) -> U v + added`."""
    every = list(cell.gates)
    chosen = [every.index(g) for g in gates]
    if len(chosen) == len(every):
        return _product(cell, weight, len(every))
    if cell.recurrent == "blocks":
        heads, rows, columns = weight.shape
        by_gate = weight.view(heads, len(every), rows // len(every), columns)
        return _product(cell, by_gate[:, chosen].reshape(heads, -1, columns), len(chosen))
    if chosen == list(range(chosen[0], chosen[-1] + 1)):
        width = len(weight) // len(every)
        return _product(cell, weight[chosen[0] * width : (chosen[-1] + 1) * width], len(chosen))
    parts = weight.chunk(len(every))
    return _product(cell, torch.cat([parts[i] for i in chosen]), len(chosen))


def _product(cell: Cell, weight: Tensor, gates: int) -> Product:
    if cell.recurrent == "diagonal":

        def diagonal(v: Tensor, added: Tensor | None) -> Tensor:
            product = v.repeat(1, gates) * weight
            return product if added is None else product + added

        return diagonal
    if cell.recurrent == "blocks":
        heads, _, columns = weight.shape
        split = weight.view(heads, gates, -1, columns)

        def blocks(v: Tensor, added: Tensor | None) -> Tensor:
            product = torch.einsum("bnk,ngjk->bgnj", v.view(len(v), heads, columns), split).reshape(len(v), -1)
            return product if added is None else product + added

        return blocks
    if callable(cell.recurrent):
        H = len(weight) // gates
        mask = cell.recurrent(H, **cell.options).to(weight)
        weight = weight * mask.repeat(gates, 1)
    transposed = weight.t()

    def dense(v: Tensor, added: Tensor | None) -> Tensor:
        return v @ transposed if added is None else torch.addmm(added, v, transposed)

    return dense
