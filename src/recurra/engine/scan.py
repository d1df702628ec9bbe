"""Cells that are affine in their state, computed over all steps in parallel.

Where the new state is `a ⊙ s + b`, with a and b made of the input alone, two steps in a row are one step of the same
kind: `a_2 ⊙ (a_1 ⊙ s + b_1) + b_2 = (a_2 a_1) ⊙ s + (a_2 b_1 + b_2)`. That product is associative, so steps may be
taken together in any grouping (Blelloch 1990; Martin & Cundy 2018).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.functional import linear

from recurra.cells.form import Cell
from recurra.engine.affine import affine
from recurra.engine.eager import State
from recurra.engine.interpret import compute
from recurra.engine.program import Value
from recurra.engine.trace import Step

ENOUGH_WORK = 2048
"""Values of one step, rows times units, from which on a step is bound by arithmetic, not by calls (measured)."""


GIVEN = ("x", "bias", "vector", "constant")
"""Values that a step of such a cell begins with, the state aside."""


class Plan:
    """How a cell's a and b are computed.

    Args:
        cell: The cell.
        step: Its step, written down.

    Raises:
        NotAffineError: It is not affine in its state.
    """

    def __init__(self, cell: Cell, step: Step) -> None:
        self.cell, self.graph, self.old = cell, step.graph, step.old
        forms = affine(step)
        self.widths = [self.graph[old].width for old, _, _ in forms]
        self.wanted = [i for _, *both in forms for i in both]
        self.given = [i for i, value in enumerate(self.graph.values) if value.op in GIVEN]
        self.order = self.graph.needed(self.wanted, self.given)

    def coefficients(self, weights: Mapping[str, Tensor], x: Tensor) -> list[tuple[Tensor, Tensor]]:
        """a and b of each state field at every step, (T, B, width) each.

        Args:
            weights: Parameters by the names of `Cell.shapes`, and constants.
            x: (T, B, I).
        """
        T, B, _ = x.shape
        given = self._values(weights, x.flatten(0, 1))  # steps in the place of rows, since no step needs another one
        values = compute(self.graph, self.order, self.wanted, given, lambda value, v: _product(weights, value, v))
        parts = [
            v.to(x.dtype).expand(T * B, width).unflatten(0, (T, B))
            for v, width in zip(values, [w for w in self.widths for _ in "ab"], strict=True)
        ]
        fields, rest = [], iter(zip(parts[::2], parts[1::2], strict=True))
        for f in self.cell.fields:
            mine = [next(rest) for _ in self.old[f.name]]
            one = (
                mine[0]
                if len(mine) == 1
                else (torch.cat([a for a, _ in mine], -1), torch.cat([b for _, b in mine], -1))
            )
            fields.append(one)
        return fields

    def _values(self, weights: Mapping[str, Tensor], rows: Tensor) -> dict[int, Tensor]:
        """The values that the step begins with."""
        inputs, bias = self.cell.inputs, weights.get("bias", weights.get("bias_ih"))
        projected = linear(rows, weights["weight_ih"], None if self.cell.biases == "apart" else bias)
        x = dict(zip(inputs, projected.chunk(len(inputs), -1), strict=True))
        b = {} if bias is None else dict(zip(inputs, bias.chunk(len(inputs)), strict=True))
        found = {}
        for i in self.given:
            value = self.graph[i]
            if value.op == "x":
                found[i] = x[value.name]
            elif value.op == "bias":
                found[i] = b[value.name]
            else:
                found[i] = weights[value.name].narrow(0, value.part * value.width, value.width)
        return found


def _product(weights: Mapping[str, Tensor], value: Value, operands: list[Tensor]) -> Tensor:
    """The product with a further matrix; its parts are of one width, so each has as many rows of it."""
    rows = weights[value.name].narrow(0, value.part * value.width, value.width)
    return linear(torch.cat(operands, -1), rows)


def run(
    plan: Plan,
    weights: Mapping[str, Tensor],
    x: Tensor,
    state: State,
    initial: State,
    *,
    mask: Tensor | None = None,
    reset: Tensor | None = None,
    reverse: bool = False,
    zoneout: float = 0.0,
    training: bool = False,
) -> tuple[State, State]:
    """Run along time, as `recurra.engine.eager.run` does, for a cell that is affine in its state.

    Returns:
        The state after every step, each field (T, B, width), and the final state.
    """
    T = len(x)
    if mask is not None:
        x = torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))
    if reset is not None and reverse:
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    states, final = [], []
    for (a, b), f, begun, first in zip(plan.coefficients(weights, x), plan.cell.fields, state, initial, strict=True):
        if zoneout and not f.is_bookkeeping:
            held = (torch.rand_like(b) < zoneout).to(b) if training else zoneout
            a, b = held + (1 - held) * a, (1 - held) * b
        if mask is not None:
            taken = mask.unsqueeze(-1)
            a, b = torch.where(taken, a, 1.0), torch.where(taken, b, 0.0)
        if reset is not None:
            anew = reset.unsqueeze(-1)
            a, b = torch.where(anew, 0.0, a), torch.where(anew, a * first + b, b)
        after = scan(a, b, begun, reverse)
        states.append(after)
        final.append(begun if T == 0 else after[0] if reverse else after[-1])
    return tuple(states), tuple(final)


def scan(a: Tensor, b: Tensor, start: Tensor, reverse: bool = False) -> Tensor:
    """Every s_t of s_t = a_t ⊙ s_(t-1) + b_t; with `reverse`, of s_t = a_t ⊙ s_(t+1) + b_t.

    Args:
        a, b: (T, B, H).
        start: (B, H), the state before the first step (behind the last one, with `reverse`).
        reverse: Run from the last step to the first.

    Returns:
        (T, B, H).
    """
    if len(a) == 0:
        return b
    kind = torch.promote_types(torch.promote_types(a.dtype, b.dtype), start.dtype)
    a, b, start = a.to(kind), b.to(kind), start.to(kind)
    if torch.compiler.is_compiling() or _forward_modes() > 1:
        # The compiler refuses a function with a forward mode, and PyTorch takes the derivative of such a forward mode
        # in forward mode again for zero; both derive by themselves what is taken apart.
        return _either_way(a, b, start, reverse)
    states = _Scan.apply(a, b, start, reverse)
    assert isinstance(states, Tensor)
    return states


def _forward_modes() -> int:
    """How many forward modes of `torch.func` the caller is in, one inside the other."""
    return sum(level.key() == TransformType.Jvp for level in get_interpreter_stack() or ())


class _Scan(torch.autograd.Function):
    """`scan` with its derivative, which is another scan the other way round.

    Taken apart by autograd, the scan would keep and copy several times what it needs.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
        return _either_way(a, b, start, reverse)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        a, _, start, ctx.reverse = inputs
        ctx.save_for_backward(a, start, output)
        ctx.save_for_forward(a, start, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Of b_t: G_t = g_t + a_(t+1) ⊙ G_(t+1), g_t being the gradient of s_t by itself; of a_t: G_t ⊙ s_(t-1)."""
        a, start, states = ctx.saved_tensors
        whole = scan(_later(a, ctx.reverse), gradients[0], torch.zeros_like(start), not ctx.reverse)
        first = -1 if ctx.reverse else 0
        return whole * _earlier(states, start, ctx.reverse), whole, a[first] * whole[first], None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """ṡ_t = a_t ⊙ ṡ_(t-1) + (ȧ_t ⊙ s_(t-1) + ḃ_t)."""
        a, start, states = ctx.saved_tensors
        of_a, of_b, of_start = tangents[:3]
        rest = torch.zeros_like(states) if of_b is None else of_b
        if of_a is not None:
            rest = rest + of_a * _earlier(states, start, ctx.reverse)
        return scan(a, rest, torch.zeros_like(start) if of_start is None else of_start, ctx.reverse)


def _earlier(states: Tensor, start: Tensor, reverse: bool) -> Tensor:
    """What each step began with."""
    first = start.unsqueeze(0)
    return torch.cat([states[1:], first]) if reverse else torch.cat([first, states[:-1]])


def _later(a: Tensor, reverse: bool) -> Tensor:
    """For each step the a of the step that reads it; for the last one, which none reads, zero."""
    none = torch.zeros_like(a[:1])
    return torch.cat([none, a[:-1]]) if reverse else torch.cat([a[1:], none])


def _either_way(a: Tensor, b: Tensor, start: Tensor, reverse: bool) -> Tensor:
    return _pieces(a.flip(0), b.flip(0), start).flip(0) if reverse else _pieces(a, b, start)


def _pieces(a: Tensor, b: Tensor, start: Tensor) -> Tensor:
    """The scan itself, forward in time.

    The steps are cut into pieces. All pieces are run side by side, each from zero, with the product of its a so far;
    then the state goes from piece to piece; then what each piece began with is added to its steps. With √T pieces that
    is about 2 √T operations one after another instead of T. It is three times the arithmetic, though, so where a single
    step has work enough to fill the processor, one piece is quicker.
    """
    T = len(a)
    length = T if a[0].numel() >= ENOUGH_WORK and a.device.type == "cpu" else math.isqrt(T - 1) + 1
    pieces = -(-T // length)
    if pieces == 1:
        states = [start]
        for step_a, step_b in zip(a.unbind(0), b.unbind(0), strict=True):
            states.append(torch.addcmul(step_b, step_a, states[-1]))
        return torch.stack(states[1:])
    lacking = pieces * length - T
    if lacking:
        a = torch.cat([a, torch.ones_like(a[:1]).expand(lacking, *a.shape[1:])])
        b = torch.cat([b, torch.zeros_like(b[:1]).expand(lacking, *b.shape[1:])])
    steps_a, steps_b = (v.unflatten(0, (pieces, length)).unbind(1) for v in (a, b))
    factors, locals_ = [steps_a[0]], [steps_b[0]]
    for step_a, step_b in zip(steps_a[1:], steps_b[1:], strict=True):
        locals_.append(torch.addcmul(step_b, step_a, locals_[-1]))
        factors.append(step_a * factors[-1])
    begun = [start]
    for factor, local in zip(factors[-1][:-1], locals_[-1][:-1], strict=True):
        begun.append(torch.addcmul(local, factor, begun[-1]))
    inside, product = torch.stack(locals_, 1), torch.stack(factors, 1)
    return torch.addcmul(inside, product, torch.stack(begun).unsqueeze(1)).flatten(0, 1)[:T]
