"""Clips of frames: what `frames` learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from recurra.data.sequences import AnySchema, steps_of
from recurra.data.settings import PlaceSettings

Target = Literal["next", "label"]


class ClipSettings(PlaceSettings):
    """The `data.*` settings of frames."""

    frames: str | None = Field(default=None, description="npz: name of the array that holds the frames")
    labels: str | None = Field(
        default=None,
        description="npz: name of the array that holds a label for each frame; else a CSV file with columns clip, "
        "frame (from 0), label",
    )
    axes: str | None = Field(
        default=None,
        description="arrays: a letter for each axis, N clips, T frames, H height, W width, C channels, such as TNHW; "
        "NTHW, NTHWC and THW are told by themselves",
    )
    target: Literal["auto", "next", "label"] = Field(
        default="auto",
        description="what is told at every frame: the next one, or its label; auto: its label if it has one",
    )
    colour: Literal["auto", "grey", "rgb"] = Field(
        default="auto", description="channels that are read; auto: grey where no frame has colours"
    )
    size: Annotated[list[int], Field(min_length=2, max_length=2)] | None = Field(
        default=None, description="height and width that all frames are brought to; as they are when left out"
    )
    length: int | None = Field(
        default=None, ge=2, description="frames of a clip; longer ones are cut into several, one behind the other"
    )
    range: Annotated[list[float], Field(min_length=2, max_length=2)] | None = Field(
        default=None,
        description="values that stand for 0 and 1; found when left out: 0 and 255 for bytes (unless 1 is the "
        "largest), else 0 and 1 if all lie between, else the least and largest of the training part",
    )

    @model_validator(mode="after")
    def _can_be(self) -> "ClipSettings":
        if self.size is not None and min(self.size) < 1:
            raise ValueError(f"size: {self.size}: height and width from 1 on are expected, such as [32, 48]")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"range: {self.range}: two rising numbers are expected, such as [0, 255]")
        if self.axes is not None:
            axes = self.axes.upper()
            if len(set(axes)) != len(axes) or not {*"THW"} <= {*axes} <= {*"NTHWC"}:
                raise ValueError(
                    f"axes: {self.axes!r}: T, H and W are expected, perhaps N and C, once each, such as NTHW"
                )
        return self


class ClipSchema(AnySchema):
    """What the training clips settled."""

    height: int
    width: int
    channels: int
    low: float  # the value that stands for 0
    high: float  # and for 1
    target: Target
    classes: list[str] = Field(default_factory=list)  # index -> label

    @property
    def size(self) -> str:
        """The frames' size in words."""
        colours = "" if self.channels == 1 else " in colours" if self.channels == 3 else f" of {self.channels} channels"
        return f"{self.height} × {self.width}{colours}"


@dataclass(frozen=True)
class Clips:
    """N clips, laid end to end.

    Attributes:
        frames: (S, C, H, W) uint8 or float32, as they were read.
        offsets: (N + 1,) int64; clip i is `frames[offsets[i]:offsets[i + 1]]`.
        low: The value that stands for 0.
        high: The value that stands for 1.
        labels: (S,) int64 indices of classes, -1 for a label that the training data do not have; None without labels.
        asked: (S,) bool: frames that have a label; None where all have.
        ids: A name for each clip.
    """

    frames: Tensor
    offsets: Tensor
    low: float
    high: float
    labels: Tensor | None = None
    asked: Tensor | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Frames of each clip, (N,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def scaled(self, frames: Tensor) -> Tensor:
        """Frames as they were read in numbers where 0 and 1 are what they stand for, float32."""
        return (frames.float() - self.low) / (self.high - self.low)

    def clip(self, index: int) -> Tensor:
        """The frames of one clip, (T, C, H, W) float32, scaled."""
        return self.scaled(self.frames[int(self.offsets[index]) : int(self.offsets[index + 1])])

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Clips":
        """The named clips, in the order given (copied)."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        offsets, steps = steps_of(self.offsets, chosen)
        labels, asked = (None if v is None else v[steps] for v in (self.labels, self.asked))
        ids = None if self.ids is None else [self.ids[i] for i in chosen.tolist()]
        return replace(self, frames=self.frames[steps], offsets=offsets, labels=labels, asked=asked, ids=ids)


@dataclass(frozen=True)
class ClipBatch:
    """B clips padded to the longest, time first.

    Attributes:
        frames: (T, B, C, H, W), scaled; zero behind a clip's end.
        lengths: (B,) int64 on the CPU, frames of each.
        labels: (T, B) indices of classes, -1 where there is none to be learnt; None without labels.
        indices: (B,) which of the data's clips these are.
        told: Whether what is told is the next frame, so that the last one of a clip is only a target.
        free: How many of the last frames are told from frames that the network told itself.
    """

    frames: Tensor
    lengths: Tensor
    labels: Tensor | None
    indices: Tensor
    told: Target = "next"
    free: int = 0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None, int]:
        """What a network is called with: the frames that it reads, how many each clip has, and `free`."""
        frames, lengths = self.frames, self.lengths
        if self.told == "next":
            frames, lengths = frames[:-1], lengths - 1
        return frames, None if bool((lengths == len(frames)).all()) else lengths, self.free

    @property
    def within(self) -> Tensor:
        """(T', B) bool on the frames' device: the steps of `inputs` that are no padding."""
        read, lengths, _ = self.inputs
        if lengths is None:
            return read.new_ones(read.shape[:2], dtype=torch.bool)
        return torch.arange(len(read), device=read.device).unsqueeze(1) < lengths.to(read.device)

    @property
    def samples(self) -> int:
        """Clips."""
        return len(self)

    @property
    def steps(self) -> int:
        """Frames that are read."""
        return int(self.lengths.sum()) - (len(self) if self.told == "next" else 0)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "ClipBatch":
        """The batch on another device, its numbers in another precision."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, frames=self.frames.to(device, dtype), labels=labels)


def collate(clips: Clips, indices: Tensor, told: Target, free: int = 0) -> ClipBatch:
    """Pad the named clips to one batch."""
    lengths = clips.lengths[indices]
    steps = torch.arange(int(lengths.max())).unsqueeze(1)
    padded = steps >= lengths
    places = clips.offsets[indices] + steps.minimum(lengths - 1)
    frames = clips.scaled(clips.frames[places])
    labels = None
    if clips.labels is not None:
        known = ~padded if clips.asked is None else clips.asked[places] & ~padded
        labels = torch.where(known, clips.labels[places], -1)
    if padded.any():
        frames = frames.masked_fill(padded[..., None, None, None], 0)
    return ClipBatch(frames, lengths, labels, indices, told, free)
