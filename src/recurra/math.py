"""The functions a cell's equations are written with.

They are PyTorch's own under the names of the formulas, so a body written with `torch.sigmoid` means the same:
`sigmoid` (σ, the logistic function), `tanh`, `relu`, `exp`, `log`, `log_sigmoid`, `softplus`, `sqrt`, `maximum`,
`minimum`, `where`, `clamp`, `sin`, `cos`; `cube`, x³; `norm`, layer normalisation of a row; `join` and `split`, which
put the values of several gates side by side and take them apart again.
"""

import torch
from torch import Tensor, clamp, cos, exp, log, maximum, minimum, relu, sigmoid, sin, sqrt, tanh, where
from torch.nn.functional import layer_norm as _layer_norm
from torch.nn.functional import logsigmoid as log_sigmoid
from torch.nn.functional import softplus

logistic = sigmoid


def identity(x: Tensor) -> Tensor:
    """The value itself: no activation."""
    return x


def cube(x: Tensor) -> Tensor:
    """x³: hidden units of it make polynomials of the third degree, which go on beyond the values seen in training."""
    return x * x * x


ACTIVATIONS = {
    "tanh": tanh,
    "logistic": sigmoid,
    "sigmoid": sigmoid,
    "relu": relu,
    "softplus": softplus,
    "sin": sin,
    "cube": cube,
    "identity": identity,
}
"""Activations that a recipe can name."""


def norm(x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """Layer normalisation of each row (Ba, Kiros & Hinton 2016): `scale * (x - mean) / sqrt(variance + ε) + shift`.

    Args:
        x: (B, H) rows to normalise.
        scale: (H,) gain, or None for 1.
        shift: (H,) offset, or None for 0.
        epsilon: Added to the variance.

    PyTorch's own (2.13), which this is, has no right derivative in forward mode over forward mode; forward over reverse
    is right.
    """
    return _layer_norm(x, x.shape[-1:], scale, shift, epsilon)


def join(*parts: Tensor) -> Tensor:
    """Several values side by side, (B, H) each, in one row, (B, parts * H)."""
    return torch.cat(parts, -1)


def split(x: Tensor, parts: int) -> tuple[Tensor, ...]:
    """A row of several values of one width, (B, parts * H), taken apart, (B, H) each."""
    return x.chunk(parts, -1)


__all__ = [
    "ACTIVATIONS",
    "clamp",
    "cos",
    "cube",
    "exp",
    "identity",
    "join",
    "log",
    "log_sigmoid",
    "logistic",
    "maximum",
    "minimum",
    "norm",
    "relu",
    "sigmoid",
    "sin",
    "softplus",
    "split",
    "sqrt",
    "tanh",
    "where",
]
