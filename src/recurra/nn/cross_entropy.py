"""Cross entropy of a linear layer's outputs without all of them in memory at once."""

from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recurra.nn.arguments import is_autocast

Products = Literal["full", "bfloat16"]
"""How the key `train.output_products` names what matrices are multiplied in."""

ROWS = 256
"""Rows whose outputs are held together: of 10,000 symbols ten megabytes, which a processor's cache still holds."""


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    products: torch.dtype | None = None,
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
        products: The type that matrices are multiplied in, such as `torch.bfloat16`, three to five times as quick on
            processors that have it; exponentials and sums stay in the type of W. None for that type, or that of
            autocast where it is on.
    """
    kind = x.device.type
    if is_autocast(kind):
        dtype = products or torch.get_autocast_dtype(kind)
        with torch.autocast(kind, enabled=False):
            return _apply(x.to(weight.dtype), weight, bias, targets, smoothing, dtype)
    return _apply(x, weight, bias, targets, smoothing, products or weight.dtype)


def _apply(*given: Any) -> Tensor:
    return cast(Tensor, _LinearCrossEntropy.apply(*given))


def type_of(products: Products) -> torch.dtype | None:
    """The type that matrices are multiplied in; None for that of the weights."""
    return torch.bfloat16 if products == "bfloat16" else None


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        smoothing: float,
        products: torch.dtype,
    ) -> Tensor:
        wants = any(ctx.needs_input_grad[:3])
        V, W = len(weight), weight.to(products)
        total = x.new_zeros((), dtype=torch.float64)
        by_x = torch.empty_like(x) if wants else None
        by_weight = torch.zeros_like(weight) if wants else None
        by_bias = torch.zeros_like(bias) if wants and bias is not None else None
        for first in range(0, len(x), ROWS):
            rows, wanted = x[first : first + ROWS].to(products), targets[first : first + ROWS].unsqueeze(1)
            outputs = torch.mm(rows, W.T).to(weight.dtype)
            if bias is not None:
                outputs += bias
            logs = torch.logsumexp(outputs, 1, keepdim=True)
            total += (1 - smoothing) * (logs - outputs.gather(1, wanted)).sum(dtype=torch.float64)
            if smoothing:
                total += smoothing * (logs - outputs.mean(1, keepdim=True)).sum(dtype=torch.float64)
            if by_x is None or by_weight is None:
                continue
            slopes = outputs.sub_(logs).exp_()
            if smoothing:
                slopes -= smoothing / V
            slopes.scatter_add_(1, wanted, slopes.new_full((1, 1), smoothing - 1).expand_as(wanted))
            if by_bias is not None:
                by_bias += slopes.sum(0)
            slopes = slopes.to(products)
            by_x[first : first + ROWS] = torch.mm(slopes, W)
            if products == weight.dtype:
                by_weight.addmm_(slopes.T, rows)
            else:
                by_weight += torch.mm(slopes.T, rows)
        ctx.slopes = by_x, by_weight, by_bias
        return total.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]  # the decorator hides the name of ctx
        ctx: Any, *grads: Tensor
    ) -> tuple[Tensor | None, ...]:
        return (*(None if v is None else v * grads[0].to(v.dtype) for v in ctx.slopes), None, None, None)
