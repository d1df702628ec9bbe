"""Cells that are affine in their state, computed over all steps in parallel.

Where the new state is `a ⊙ s + b`, with a and b made of the input alone, two steps in a row are one step of the same
kind: `a_2 ⊙ (a_1 ⊙ s + b_1) + b_2 = (a_2 a_1) ⊙ s + (a_2 b_1 + b_2)`. That product is associative, so steps may be
taken together in any grouping (Blelloch 1990; Martin & Cundy 2018).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.nn.functional import linear

from recurra.cells.form import Cell
from recurra.engine.affine import affine
from recurra.engine.eager import State, where_taken
from recurra.engine.interpret import compute
from recurra.engine.program import Value
from recurra.engine.trace import Step

ENOUGH_WORK = 2048
"""Values of one step, rows times units, from which on a step is bound by arithmetic, not by calls (measured)."""


Pair = tuple[Tensor, Tensor]

GIVEN = ("x", "bias", "vector", "constant")
"""Values that a step of such a cell begins with, the state aside."""


class Plan:
    """How the steps of a cell are computed at once.

    Args:
        cell: The cell.
        step: Its step, written down.

    Raises:
        NotAffineError: It is not affine in its state.
    """

    def __init__(self, cell: Cell, step: Step) -> None:
        self.cell, self.graph, self.old, self.new = cell, step.graph, step.old, step.new
        self.names = [f.name for f in cell.fields]
        self.forms = affine(step)
        widths = {name: [step.graph[i].width for i in parts] for name, parts in step.old.items()}
        self.wanted = [
            (i, w)
            for name, form in self.forms.items()
            if form is not None
            for both, w in zip(form, widths[name], strict=True)
            for i in both
        ]
        self.given = [i for i, value in enumerate(self.graph.values) if value.op in GIVEN]
        self.order = self.graph.needed([i for i, _ in self.wanted], self.given)
        unread = [name for name, form in self.forms.items() if form is None]
        self.read_out = [both for name in unread for both in zip(step.new[name], widths[name], strict=True)]
        olds = [i for parts in step.old.values() for i in parts]
        self.order_of_read_out = self.graph.needed([i for i, _ in self.read_out], [*self.given, *olds])

    def coefficients(self, given: dict[int, Tensor], weights: Mapping[str, Tensor], like: Tensor) -> dict[str, Pair]:
        """a and b of the fields that are affine, at every step, (T, B, width) each.

        Args:
            given: What `values` gives.
            weights: Parameters by the names of `Cell.shapes`, and constants.
            like: The input, (T, B, I).
        """
        values = iter(self._computed(self.order, self.wanted, given, weights, like))
        found = {}
        for name, form in self.forms.items():
            if form is not None:
                both = [(next(values), next(values)) for _ in form]
                found[name] = _side_by_side([a for a, _ in both]), _side_by_side([b for _, b in both])
        return found

    def read_outs(
        self,
        given: dict[int, Tensor],
        weights: Mapping[str, Tensor],
        like: Tensor,
        before: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The other fields at every step, from the states before each, (T, B, width)."""
        old = {}
        for name, state in before.items():
            parts = state.flatten(0, 1).split([self.graph[i].width for i in self.old[name]], -1)
            old |= dict(zip(self.old[name], parts, strict=True))
        values = iter(self._computed(self.order_of_read_out, self.read_out, {**given, **old}, weights, like))
        names = [name for name, form in self.forms.items() if form is None]
        return {name: _side_by_side([next(values) for _ in self.new[name]]) for name in names}

    def _computed(
        self,
        order: Sequence[int],
        wanted: Sequence[tuple[int, int]],
        given: dict[int, Tensor],
        weights: Mapping[str, Tensor],
        like: Tensor,
    ) -> list[Tensor]:
        """Values of these widths at every step, (T, B, width) each."""
        T, B, _ = like.shape
        numbers = [i for i, _ in wanted]
        found = compute(self.graph, order, numbers, given, lambda value, v: _product(weights, value, v))
        return [v.to(like.dtype).expand(T * B, w).unflatten(0, (T, B)) for v, (_, w) in zip(found, wanted, strict=True)]

    def values(self, weights: Mapping[str, Tensor], x: Tensor) -> dict[int, Tensor]:
        """The values that steps begin with, the state aside; x is (T, B, I)."""
        rows = x.flatten(0, 1)  # steps in the place of rows, since no step needs another one
        inputs, bias = self.cell.inputs, weights.get("bias", weights.get("bias_ih"))
        projected = linear(rows, weights["weight_ih"], None if self.cell.biases == "apart" else bias)
        z = dict(zip(inputs, projected.chunk(len(inputs), -1), strict=True))
        b = {} if bias is None else dict(zip(inputs, bias.chunk(len(inputs)), strict=True))
        found = {}
        for i in self.given:
            value = self.graph[i]
            if value.op == "x":
                found[i] = z[value.name]
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
        x = where_taken(mask, x)
    if reset is not None and reverse:
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    given = plan.values(weights, x)
    after: dict[str, Tensor] = {}

    def computed(name: str, a: Tensor, b: Tensor) -> Tensor:
        """A field at every step, from its a and b before masks, resets and zoneout."""
        k = plan.names.index(name)
        if zoneout and not plan.cell.fields[k].is_bookkeeping:
            held = (torch.rand_like(b) < zoneout).to(b) if training else zoneout
            a, b = held + (1 - held) * a, (1 - held) * b
        if mask is not None:
            taken = mask.unsqueeze(-1)
            a, b = torch.where(taken, a, 1.0), torch.where(taken, b, 0.0)
        if reset is not None:
            anew = reset.unsqueeze(-1)
            a, b = torch.where(anew, 0.0, a), torch.where(anew, a * initial[k] + b, b)
        return scan(a, b, state[k], reverse)

    for name, (a, b) in plan.coefficients(given, weights, x).items():
        after[name] = computed(name, a, b)
    if plan.read_out:
        before = {}
        for name, states in after.items():
            k = plan.names.index(name)
            before[name] = _earlier(states, state[k], reverse)
            if reset is not None:
                before[name] = torch.where(reset.unsqueeze(-1), initial[k], before[name])
        for name, value in plan.read_outs(given, weights, x, before).items():
            after[name] = computed(name, torch.zeros_like(value), value)
    every = tuple(after[name] for name in plan.names)
    last = 0 if reverse else -1
    return every, tuple(v[last] if T else begun for v, begun in zip(every, state, strict=True))


def _side_by_side(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)


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
    return torch.cat([states[1:], first] if reverse else [first, states[:-1]])[: len(states)]


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
