"""Ragged sequences in two flat arrays: the one form in which every reader's data reach the tasks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


@dataclass(frozen=True)
class Sequences:
    """N sequences of unequal length, laid end to end.

    Attributes:
        values: Numbers, (S, D) float32 or uint8, or token indices, (S,) int32; S is the sum of all lengths.
        offsets: (N + 1,) int64; sequence i is `values[offsets[i]:offsets[i + 1]]`.
        targets: None where unknown, else by task: a class index each, (N,) int64, -1 for a label that is not among
            the schema's classes; several labels at once, (N, C) bool; numbers, (N, K) float32. At every step: the same
            with S rows.
        per_step: Whether `targets` has a row for every step rather than one a sequence.
        asked: (S,) bool: the steps that have a target; None where all have, or where there is one a sequence.
        ids: A name for each sequence where the data give one.
    """

    values: Tensor
    offsets: Tensor
    targets: Tensor | None = None
    per_step: bool = False
    asked: Tensor | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Steps of each sequence, (N,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def sequence(self, index: int) -> Tensor:
        """The values of one sequence, (T, D) or (T,): a view."""
        return self.values[int(self.offsets[index]) : int(self.offsets[index + 1])]

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Sequences":
        """The named sequences, in the order given (copied)."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        offsets, steps = steps_of(self.offsets, chosen)
        targets = self.targets
        if targets is not None:
            targets = targets[steps if self.per_step else chosen]
        asked = None if self.asked is None else self.asked[steps]
        ids = None if self.ids is None else [self.ids[i] for i in chosen.tolist()]
        return replace(self, values=self.values[steps], offsets=offsets, targets=targets, asked=asked, ids=ids)


def steps_of(offsets: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the steps of some sequences stand among those of all.

    Args:
        offsets: (N + 1,) int64, the bounds of all sequences.
        chosen: (M,) int64, which of them, in any order.

    Returns:
        (M + 1,) bounds of the chosen ones laid end to end, and the place of each of their steps.
    """
    lengths = offsets[chosen + 1] - offsets[chosen]
    bounds = torch.zeros(len(chosen) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=bounds[1:])
    return bounds, torch.repeat_interleave(offsets[chosen] - bounds[:-1], lengths) + torch.arange(int(bounds[-1]))


class AnySchema(BaseModel):
    """What a reader learnt from the training data, and all it needs to read further data in the same way.

    Kept in the run folder as `schema.json`. Each kind of data has one of its own.
    """

    model_config = ConfigDict(extra="forbid")

    task: Any
    format: str
    settings: dict[str, object] = Field(default_factory=dict)  # the reading options as resolved: columns, separator, …


class Schema(AnySchema):
    """That of sequences with one target each, or one at every step."""

    task: Literal["classify", "regress", "tag"]
    input: Literal["numbers", "tokens"]
    features: list[str] = Field(default_factory=list)  # numbers: a name for each of the D values of a step
    vocabulary: list[str] = Field(default_factory=list)  # tokens: index -> symbol; 0 is padding, 1 the unknown symbol
    classes: list[str] = Field(default_factory=list)  # classify: index -> label
    multi_label: bool = False
    targets: list[str] = Field(default_factory=list)  # regress: a name for each of the K numbers
    per_step: bool = False  # a target at every step
    permutation: list[int] = Field(
        default_factory=list
    )  # which step of a sequence is read 1st, 2nd, …; empty: in order


PADDING, UNKNOWN = 0, 1
"""The first two indices of every vocabulary."""
