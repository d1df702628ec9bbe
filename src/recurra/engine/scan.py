"""Cells that are affine in their state, computed over all steps in parallel.

Where a body's new state is `a ⊙ s + b`, with a and b made of the input alone, two steps in a row are one step of the
same kind: `a_2 ⊙ (a_1 ⊙ s + b_1) + b_2 = (a_2 a_1) ⊙ s + (a_2 b_1 + b_2)`. That product is associative, so steps may be
taken together in any grouping (Blelloch 1990; Martin & Cundy 2018). Whether a body is of this kind is found by running
it once on an `Affine` in the state's place, which keeps account of a and b and refuses whatever else is done to it.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from recurra.cells.form import Cell
from recurra.cells.terms import plain
from recurra.engine.eager import CellStepper, State

ENOUGH_WORK = 2048
"""Values of one step, rows times units, from which on a step is bound by arithmetic, not by calls (measured)."""


class NotAffineError(RuntimeError):
    """Something was done to a state that does not leave it affine."""


class Affine:
    """A value that is affine in the old state, `Σ a_k ⊙ s_k + b`, where a and b do not depend on the state.

    Args:
        slopes: a by field.
        b: The rest.
    """

    def __init__(self, slopes: Mapping[str, Any], b: Any = 0.0) -> None:
        self.slopes, self.b = dict(slopes), b

    def plus(self, other: Any) -> "Affine":
        """The sum with another value of this kind, or with one that does not depend on the state."""
        if not isinstance(other, Affine):
            return Affine(self.slopes, self.b + other)
        shared = {key: a + other.slopes[key] for key, a in self.slopes.items() if key in other.slopes}
        return Affine({**other.slopes, **self.slopes, **shared}, self.b + other.b)

    def times(self, factor: Any) -> "Affine":
        """The product with a value that does not depend on the state."""
        if isinstance(factor, Affine):
            raise NotAffineError("it multiplies the state with itself")
        return Affine({key: a * factor for key, a in self.slopes.items()}, self.b * factor)

    def __add__(self, other: Any) -> "Affine":
        return self.plus(plain(other))

    __radd__ = __add__

    def __sub__(self, other: Any) -> "Affine":
        return self.plus(-plain(other))

    def __rsub__(self, other: Any) -> "Affine":
        return (-self).plus(plain(other))

    def __mul__(self, other: Any) -> "Affine":
        return self.times(plain(other))

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> "Affine":
        if isinstance(other, Affine):
            raise NotAffineError("it divides by the state")
        return self.times(1 / plain(other))

    def __rtruediv__(self, other: Any) -> "Affine":
        raise NotAffineError("it divides by the state")

    def __neg__(self) -> "Affine":
        return self.times(-1.0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NotAffineError(f"it takes {name} of the state")

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """What a tensor's operators and PyTorch's functions do with such a value."""
        if func in OPERATIONS and not kwargs and len(args) <= 2:
            return OPERATIONS[func](*args)
        raise NotAffineError(f"it takes {func.__name__.strip('_')} of the state")


def _refuse(name: str) -> Callable[..., Any]:
    def refuse(self: Affine, *others: Any) -> Any:
        raise NotAffineError(f"it takes {name} of the state")

    return refuse


for _name in ("pow", "rpow", "mod", "rmod", "matmul", "rmatmul", "abs", "lt", "le", "gt", "ge", "getitem", "bool"):
    setattr(Affine, f"__{_name}__", _refuse(_name))


def _of(forward: str, backward: str) -> Callable[..., Any]:
    """An operation of two values, one of which is affine in the state."""

    def apply(first: Any, second: Any) -> Any:
        if isinstance(first, Affine):
            return getattr(first, forward)(second)
        return getattr(second, backward)(first)

    return apply


OPERATIONS: dict[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__), _of("__add__", "__radd__")),
    **dict.fromkeys((torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__), _of("__mul__", "__rmul__")),
    **dict.fromkeys((torch.sub, Tensor.sub, Tensor.__sub__), _of("__sub__", "__rsub__")),
    **dict.fromkeys((torch.div, Tensor.div, Tensor.__truediv__), _of("__truediv__", "__rtruediv__")),
    Tensor.__rsub__: _of("__rsub__", "__sub__"),
    Tensor.__rtruediv__: _of("__rtruediv__", "__truediv__"),
    torch.neg: Affine.__neg__,
}
"""What PyTorch's functions and a tensor's operators do with a value that is affine in the state."""


def obstacle(cell: Cell, hidden_size: int) -> str | None:
    """Why a cell cannot be computed by a scan, in words; None where it can."""
    if cell.gates:
        return f"U_{cell.gates[0]} multiplies the state"
    shapes = cell.shapes(1, hidden_size)
    weights = {name: torch.full(shape, 0.5) for name, shape in shapes.items()} | cell.constant_values(hidden_size)
    try:
        with torch.no_grad():
            _coefficients(CellStepper(cell, cell.use(hidden_size), weights), torch.full((1, 1, 1), 0.5))
    except NotAffineError as error:
        return str(error)
    except TypeError as error:  # what Python, not PyTorch, is asked to do with a state: an index, a number
        return f"its body asks of the state what cannot be traced ({error})"
    return None


def _coefficients(step: CellStepper, x: Tensor) -> list[tuple[Tensor, Tensor]]:
    """a and b of each field at every step, (T, B, H) each, for x, (T, B, I)."""
    T, B, _ = x.shape
    rows = x.flatten(0, 1).unsqueeze(0)  # the steps in the place of the batch: no step needs another one
    old: Any = tuple(Affine({f.name: 1.0}) for f in step.cell.fields)
    found = []
    for f, new in zip(step.cell.fields, step(step.prepare(rows)[0], old), strict=True):
        slopes, b = (new.slopes, new.b) if isinstance(new, Affine) else ({}, new)
        others = [name for name in slopes if name != f.name]
        if others:
            raise NotAffineError(f"its new {f.name} depends on the old {others[0]}")
        width = step.cell.size(f.width, step.width)
        a, b = (torch.as_tensor(v, dtype=x.dtype, device=x.device) for v in (slopes.get(f.name, 0.0), b))
        found.append(tuple(v.expand(T * B, width).unflatten(0, (T, B)) for v in (a, b)))
    return found


def run(
    step: CellStepper,
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
    """Run along time, as `recurra.engine.eager.run` does, for a cell without an `obstacle`.

    Returns:
        The state after every step, each field (T, B, width), and the final state.
    """
    T = len(x)
    if mask is not None:
        x = torch.where(mask.unsqueeze(-1), x, x.new_zeros(()))
    if reset is not None and reverse:
        reset = torch.cat([reset[1:], torch.zeros_like(reset[:1])])
    states, final = [], []
    for (a, b), f, begun, first in zip(_coefficients(step, x), step.cell.fields, state, initial, strict=True):
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
    if torch.compiler.is_compiling():  # the compiler refuses a function with a forward mode; it derives by itself
        return _either_way(a, b, start, reverse)
    states = _Scan.apply(a, b, start, reverse)
    assert isinstance(states, Tensor)
    return states


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
