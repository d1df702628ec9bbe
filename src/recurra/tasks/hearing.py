"""How a network reads frames of sound: several put together to one step, and some hidden from it in training."""

import math

import torch
from pydantic import BaseModel, Field
from torch import Tensor


class HearingSettings(BaseModel):
    """The `model.*` settings of networks that read frames."""

    stack: int = Field(
        default=1, ge=1, le=16, description="frames that make one step; so many times fewer steps are run"
    )
    time_masks: int = Field(default=0, ge=0, description="training: stretches of steps that are hidden")
    time_mask: int = Field(default=10, ge=1, description="steps of the longest of them")
    band_masks: int = Field(default=0, ge=0, description="training: runs of neighbouring features that are hidden")
    band_mask: int = Field(default=8, ge=1, description="features of the widest of them")


def stacked(x: Tensor, lengths: Tensor | None, count: int) -> tuple[Tensor, Tensor | None]:
    """Frames put together, so many to a step; what the last step lacks is the last frame again.

    Args:
        x: (T, B, D).
        lengths: (B,) on the CPU, or None where all have T frames.
        count: How many.

    Returns:
        (⌈T / count⌉, B, count · D), each step's frames in order of time; and the steps, ⌈lengths / count⌉.
    """
    if count == 1:
        return x, lengths
    T, B, D = x.shape
    S = math.ceil(T / count)
    places = torch.arange(S * count, device=x.device).unsqueeze(1)
    if lengths is None:
        x = x[places.squeeze(1).clamp(max=T - 1)]
    else:
        last = (lengths - 1).clamp(max=T - 1).to(x.device)
        x = x[places.minimum(last), torch.arange(B, device=x.device)]
    steps = x.view(S, count, B, D).transpose(1, 2).reshape(S, B, count * D)
    return steps, None if lengths is None else (lengths + count - 1) // count


def masked(x: Tensor, lengths: Tensor | None, settings: HearingSettings) -> Tensor:
    """Some steps and some features set to 0, which is their mean (SpecAugment, Park et al. 2019, without warping).

    Each mask has a length drawn from 0 to the longest, and a place drawn from all where it fits; no time mask hides
    more than half of a recording.

    Args:
        x: Normalised steps, (T, B, stack · D).
        lengths: (B,), or None where all have T steps.
        settings: How many masks, and how long.
    """
    T, B, width = x.shape
    D = width // settings.stack
    steps = torch.full((B,), T) if lengths is None else lengths
    hidden = torch.zeros(T, B, 1, dtype=torch.bool)
    for _ in range(settings.time_masks):
        hidden |= _stretch(T, steps, (steps // 2).clamp(max=settings.time_mask)).unsqueeze(2)
    bands = torch.zeros(D, B, dtype=torch.bool)
    for _ in range(settings.band_masks):
        bands |= _stretch(D, torch.full((B,), D), torch.full((B,), min(D - 1, settings.band_mask)))
    hidden = hidden | bands.T.repeat(1, settings.stack)
    return x.masked_fill(hidden.to(x.device), 0)


def _stretch(length: int, among: Tensor, longest: Tensor) -> Tensor:
    """(length, B) bool: for each column a run within its first `among`, at most `longest`."""
    size = (torch.rand(len(among)) * (longest + 1)).long()
    first = (torch.rand(len(among)) * (among - size + 1)).long()
    places = torch.arange(length).unsqueeze(1)
    return (places >= first) & (places < first + size)
