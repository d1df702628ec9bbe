"""The gradient that a learning rule finds, by parameter."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from recurra.learn.followed import Followed
from recurra.learn.rule import Rule
from recurra.learn.rules import NAMES, find
from recurra.nn.convolutional import ConvRecurrent

LossOfStep = Callable[[Tensor, int], Tensor]
"""`loss_fn(output_t, t) -> scalar`: the loss of one step, from 0 on; the loss is their sum (eq. 6.27)."""


def gradients(
    layer: nn.Module,
    x: Tensor,
    loss_fn: LossOfStep,
    rule: Rule | str = "bptt",
    *,
    lengths: Tensor | Sequence[int] | None = None,
) -> dict[str, Tensor]:
    """The gradient of a loss, summed over time (eqs 6.26-6.28), by each parameter of a recurrent layer.

    Args:
        layer: A `Recurrent`, a drop-in (`recurra.LSTM`, `GRU`, `RNN`), or PyTorch's own.
        x: (T, B, I), (B, T, I) with `batch_first`, or (T, I).
        loss_fn: From the output at step t, (B, H) or (H,), and t to the loss of that step.
        rule: A rule, or its name: "bptt", "tbptt", "rtrl", "snap1", "eprop", "uoro".
        lengths: (B,) steps of each sequence; what the output is behind its end is zero.

    Returns:
        Gradients by the names of `layer.named_parameters()`; those of parameters on which the loss does not depend are
        zero. The parameters' `.grad` stays as it is.

    Raises:
        TypeError: The layer, x or the rule is none.
        ValueError: The rule cannot take this layer, or the loss is no scalar.

    Example:
        >>> layer = nn.LSTM(3, 4)
        >>> found = gradients(layer, torch.randn(5, 2, 3), lambda y, t: y.square().sum(), "rtrl")
        >>> found["weight_hh_l0"].shape
        torch.Size([16, 4])
    """
    if isinstance(rule, str):
        rule = find(rule)
    if not isinstance(rule, Rule):
        found = f"the class {rule.__name__}" if isinstance(rule, type) else repr(rule)
        raise TypeError(
            f"rule: a rule such as RTRL(), or the name of one ({', '.join(NAMES)}), is expected, not {found}"
        )
    Followed(layer)
    if not isinstance(x, Tensor):
        raise TypeError(f"x: a tensor is expected, not {type(x).__name__}")
    output, _ = rule.along(layer, x, lengths=lengths)
    rows = x.dim() > 1 + (3 if isinstance(layer, ConvRecurrent) else 1)
    along = 1 if getattr(layer, "batch_first", False) and rows else 0
    total = output.new_zeros(())
    for t, y in enumerate(output.unbind(along)):
        loss = loss_fn(y, t)
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss_fn: a scalar is expected at every step, not {found} at step {t}")
        total = total + loss
    named = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    found = (
        torch.autograd.grad(total, list(named.values()), allow_unused=True)
        if total.requires_grad
        else [None] * len(named)
    )
    return {name: torch.zeros_like(p) if g is None else g for (name, p), g in zip(named.items(), found, strict=True)}
