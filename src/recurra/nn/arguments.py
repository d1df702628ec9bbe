"""The arguments of a layer and of its calls: what they may be, and how a caller's tensors lie."""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.engine.eager import is_readable
from recurra.errors import unknown
from recurra.math import ACTIVATIONS


@dataclass(frozen=True)
class Layout:
    """How a caller's tensors lie: (T, B, ...) as inside, (B, T, ...), or one sequence, (T, ...)."""

    single: bool
    rows_first: bool

    def inward(self, v: Tensor) -> Tensor:
        """To (T, B, ...)."""
        return v.unsqueeze(1) if self.single else v.transpose(0, 1) if self.rows_first else v

    def outward(self, v: Tensor) -> Tensor:
        """From (T, B, ...)."""
        return v.squeeze(1) if self.single else v.transpose(0, 1) if self.rows_first else v

    def row(self, v: Tensor) -> Tensor:
        """From (B, ...), that is of one step."""
        return v.squeeze(0) if self.single else v

    def flags(self, name: str, flags: Any, x: Tensor) -> Tensor | None:
        """Checked flags of every step of x, (T, B), on its device."""
        if flags is None:
            return None
        if not isinstance(flags, Tensor) or flags.dtype != torch.bool:
            found = flags.dtype if isinstance(flags, Tensor) else type(flags).__name__
            raise ValueError(f"{name}: a boolean tensor is expected, not {found}")
        T, B = x.shape[:2]
        expected = (T,) if self.single else (B, T) if self.rows_first else (T, B)
        if tuple(flags.shape) != expected:
            raise ValueError(f"{name}: {expected} is expected, not {tuple(flags.shape)}")
        return Layout.inward(self, flags).to(x.device)

    def shape(self, rows: int, width: int) -> tuple[int, ...]:
        """Of a caller's tensor that holds so many values for each row, of one step."""
        return (width,) if self.single else (rows, width)

    def given(self, v: Tensor) -> Tensor:
        """The reverse of `row`."""
        return v.unsqueeze(0) if self.single else v


@dataclass(frozen=True)
class FrameLayout(Layout):
    """The same of frames: a caller's channels stand before the places, (..., C, H, W), inside they come last."""

    height: int
    width: int

    def inward(self, v: Tensor) -> Tensor:
        """To (T, B, H, W, C)."""
        return super().inward(v).movedim(-3, -1)

    def outward(self, v: Tensor) -> Tensor:
        """From (T, B, H, W, C)."""
        return super().outward(v.movedim(-1, -3))

    def row(self, v: Tensor) -> Tensor:
        """From (B, H, W, C)."""
        return super().row(v.movedim(-1, -3))

    def shape(self, rows: int, width: int) -> tuple[int, ...]:
        """See `Layout.shape`."""
        return (*super().shape(rows, width), self.height, self.width)

    def given(self, v: Tensor) -> Tensor:
        """See `Layout.given`."""
        return super().given(v).movedim(-3, -1)


def within_lengths(lengths: Any, T: int, B: int, device: torch.device) -> Tensor:
    """(T, B), True at the steps within each sequence's length."""
    if isinstance(lengths, np.ndarray):
        lengths = lengths.tolist()  # of every type and layout, and not all of them are PyTorch's
    try:
        steps = torch.as_tensor(lengths, device=device)
    except (RuntimeError, TypeError, ValueError):
        raise ValueError(f"lengths: {B} whole numbers are expected, not {lengths!r}") from None
    if steps.dim() == 0 and B == 1:
        steps = steps.unsqueeze(0)
    counts = not (steps.is_floating_point() or steps.is_complex() or steps.dtype == torch.bool)
    if tuple(steps.shape) != (B,) or not (counts or B == 0):
        raise ValueError(f"lengths: {B} whole numbers are expected, not {steps.dtype} {tuple(steps.shape)}")
    steps = steps.to(torch.int64)  # PyTorch compares only some unsigned types
    if B and is_readable(steps):
        low, high = int(steps.min()), int(steps.max())
        if low < 0 or high > T:
            raise ValueError(f"lengths: from 0 to T = {T} is expected, found {low if low < 0 else high}")
    return torch.arange(T, device=device).unsqueeze(1) < steps


def sizes_of_layers(hidden_size: Any, num_layers: int) -> list[int]:
    """hidden_size for each layer."""
    if isinstance(hidden_size, str) or not isinstance(hidden_size, Sequence):
        return [whole("hidden_size", hidden_size)] * num_layers
    if len(hidden_size) != num_layers:
        expected = f"one number, or one for each of {num_layers} layers"
        raise ValueError(f"hidden_size: {expected} is expected, not {list(hidden_size)}")
    return [whole("hidden_size", size) for size in hidden_size]


def whole(name: str, value: Any) -> int:
    """A whole number above 0."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: a whole number above 0 is expected, not {value!r}")
    return int(value)


def widths_of_path(name: str, value: Any) -> tuple[int, ...]:
    """The widths of the feed-forward layers of a path."""
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"{name}: a list of widths is expected, such as [64, 32], not {value!r}")
    return tuple(whole(name, width) for width in value)


def activation(value: Any, name: str = "path_activation") -> Any:
    """A function of a tensor, given as such or by name; `name` is that of the argument."""
    if isinstance(value, str) and value in ACTIVATIONS:
        return ACTIVATIONS[value]
    if not callable(value):
        raise ValueError(f"{name}: " + unknown("function", str(value), ACTIVATIONS))
    return value


def flag(name: str, value: Any) -> bool:
    """True or False, and no text that says so."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: True or False is expected, not {value!r}")
    return bool(value)


def check_dtype(dtype: Any) -> None:
    """Parameters are real numbers."""
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise ValueError(f"dtype: a floating-point type such as torch.float32 is expected, not {dtype!r}")


def check_share(name: str, value: Any) -> None:
    """A share is a number from 0 to 1."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ValueError(f"{name}: a share from 0 to 1 is expected, not {value!r}")


def is_autocast(device: str) -> bool:
    """Whether types are chosen operation by operation on a device of this kind; the meta device knows no such thing."""
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
