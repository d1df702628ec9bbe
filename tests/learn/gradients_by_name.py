"""What tests of learning rules share: layers drawn in double precision, and gradients by name laid side by side."""

from typing import Any

import torch
from torch import Tensor

EXACT = 1e-10
"""A relative difference that rounding in double precision explains."""


def drawn(layer: Any) -> Any:
    """The layer in double precision, its parameters moved away from where they begin, so that no two are alike."""
    layer = layer.double()
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest relative difference of a parameter's gradient; where none is expected, what was found."""
    assert list(found) == list(expected)
    return max(float((found[n] - g).norm() / (g.norm() if g.any() else 1)) for n, g in expected.items())
