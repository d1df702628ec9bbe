"""The recurrence alone, without the products that a layer does once for all steps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recurra.bench.peers import ours
from recurra.bench.problem import Problem
from recurra.nn import explain


@dataclass(frozen=True)
class Alone:
    """What is timed.

    Attributes:
        forward: One run forward, keeping what the backward pass needs.
        both: One run forward and backward.
        operations: Multiplications and additions of U's products in one pass.
        backend: How ours ran.
    """

    forward: Callable[[], Any]
    both: Callable[[], Any]
    operations: float
    backend: str


def alone(problem: Problem) -> Alone:
    """The recurrence of a one-layer problem, taken through the public interface.

    The problem should have one input, so that projecting it is 1 / H of the work; and no gradient by a weight is asked
    for, so that their product over all steps is not done.
    """
    layer = ours.layer(problem).requires_grad_(False)
    x = problem.x.clone().requires_grad_()

    def forward() -> Tensor:
        return layer(x)[0]

    def both() -> tuple[Tensor, ...]:
        return torch.autograd.grad(forward(), (x,), problem.dy)

    products = problem.weights["weight_hh_l0"].numel()
    return Alone(forward, both, 2.0 * problem.shape.T * problem.shape.B * products, explain(layer).backend)
