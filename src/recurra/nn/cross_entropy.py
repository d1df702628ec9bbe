"""Cross entropy of a linear layer's outputs without all of them in memory at once."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 256
"""Rows whose outputs are held together: of 10,000 symbols ten megabytes, which a processor's cache still holds."""


def linear_cross_entropy(
    x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, *, smoothing: float = 0.0
) -> Tensor:
    """The sum over rows of the cross entropy, in nats, of softmax(W x + b) with the target.

    With label smoothing ε the target is (1 - ε) of its symbol and ε spread over all symbols (Szegedy et al. 2016), as
    `torch.nn.functional.cross_entropy` has it. The outputs are made some rows at a time, each with its gradient, so
    that a large vocabulary costs little memory.

    Args:
        x: (M, H).
        weight: W, (V, H).
        bias: b, (V,).
        targets: (M,) int64.
        smoothing: ε.
    """
    return _LinearCrossEntropy.apply(x, weight, bias, targets, smoothing)  # type: ignore[no-any-return]


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, smoothing: float) -> Tensor:
        wants = any(ctx.needs_input_grad[:3])
        V = len(weight)
        total = x.new_zeros((), dtype=torch.float64)
        grads = [torch.empty_like(x), torch.zeros_like(weight), None if bias is None else torch.zeros_like(bias)]
        for first in range(0, len(x), ROWS):
            rows, wanted = x[first : first + ROWS], targets[first : first + ROWS].unsqueeze(1)
            outputs = torch.mm(rows, weight.T) if bias is None else torch.addmm(bias, rows, weight.T)
            logs = torch.logsumexp(outputs, 1, keepdim=True)
            said = (logs - outputs.gather(1, wanted)).sum(dtype=torch.float64)
            total += (1 - smoothing) * said
            if smoothing:
                total += smoothing * (logs.sum(dtype=torch.float64) - outputs.sum(dtype=torch.float64) / V)
            if wants:
                slopes = outputs.sub_(logs).exp_()
                if smoothing:
                    slopes -= smoothing / V
                slopes.scatter_add_(1, wanted, slopes.new_full((1, 1), smoothing - 1).expand_as(wanted))
                torch.mm(slopes, weight, out=grads[0][first : first + ROWS])
                grads[1].addmm_(slopes.T, rows)
                if grads[2] is not None:
                    grads[2] += slopes.sum(0)
        ctx.grads = grads if wants else None
        return total.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        grads, ctx.grads = ctx.grads, None
        return (*(None if g is None else g.mul_(slope) for g in grads), None, None)
