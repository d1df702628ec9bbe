"""Carries out a program in ordinary tensor code: what a backend computes, a value at a time.

It is the reference for every other way to run a program, and what a scan computes its factors with. All of PyTorch's
transforms go through it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.engine.program import Graph, Value

Products = Callable[[Value, list[Tensor]], Tensor]
"""Carries out a product with U or with a matrix, on operands side by side."""

OPERATIONS: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "abs": torch.abs,
    "sign": torch.sign,
    "floor": torch.floor,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softplus": F.softplus,
    "log_sigmoid": F.logsigmoid,
    "pow": torch.pow,
    "remainder": torch.remainder,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "where": lambda condition, a, b: torch.where(condition if condition.dtype == torch.bool else condition != 0, a, b),
    "fma": lambda a, b, c: torch.addcmul(c, a, b),
}


def compute(
    graph: Graph,
    order: Sequence[int],
    wanted: Sequence[int],
    given: Mapping[int, Tensor],
    products: Products | None = None,
) -> list[Tensor]:
    """Compute values of a graph.

    Args:
        graph: The graph.
        order: What to compute, one after another, as `Graph.needed` has it.
        wanted: What to return.
        given: The values that they are made of: (rows, width), or (width,) where a value is the same for every row.
        products: How products are carried out.

    Returns:
        What was wanted, in that order; each can be brought to (rows, width).
    """
    like = next(iter(given.values()))
    found: dict[int, Any] = dict(given)
    for i in order:
        value = graph[i]
        args = [found[a] for a in value.args]
        if value.op == "number":
            found[i] = like.new_tensor(value.number)
        elif value.op == "row_sum":
            widths = [graph[a].width for a in value.args]
            found[i] = sum(_wide(a, w).sum(-1, keepdim=True) for a, w in zip(args, widths, strict=True))
        elif value.op in OPERATIONS:
            found[i] = OPERATIONS[value.op](*args)
        else:
            assert products is not None, f"{value.op} {value.name} is neither given nor to be computed"
            found[i] = products(value, args)
    return [found[i] for i in wanted]


def _wide(value: Tensor, width: int) -> Tensor:
    """A value of one number a row in the place of as many as `width`."""
    return value if value.dim() and value.shape[-1] == width else value.expand(*value.shape[:-1], width)
