"""Parity."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records, StepLabels

CLASSES = [("even",), ("odd",)]


class Parity(Problem):
    """Whether the ones among the bits so far are even or odd in number.

    One bit a step, each drawn with equal chance, with lengths drawn from `shortest` to `length`. With `asked = "steps"`
    the parity of all bits up to each step is asked for, with "end" only that of the whole sequence.
    """

    name: ClassVar[str] = "parity"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "parity: whether the ones so far are even or odd in number"

    length: int = Field(default=50, ge=1, description="steps of the longest sequence")
    shortest: int | None = Field(default=None, ge=1, description="steps of the shortest; as the longest when left out")
    asked: Literal["steps", "end"] = Field(default="steps", description="ask at every step, or at the end alone")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""
        shortest = self.length if self.shortest is None else min(self.shortest, self.length)
        lengths = random.integers(shortest, self.length, count, endpoint=True)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        bits = random.integers(0, 2, offsets[-1], dtype=np.uint8)
        ones = np.concatenate([[0], np.cumsum(bits, dtype=np.int64)])
        odd = (ones[1:] - np.repeat(ones[offsets[:-1]], lengths)) % 2
        steps = self.asked == "steps"
        return Records(
            values=bits[:, None],
            offsets=offsets,
            features=["bit"],
            labels=None if steps else [CLASSES[i] for i in odd[offsets[1:] - 1].tolist()],
            step_labels=StepLabels(CLASSES, odd) if steps else None,
            per_step=steps,
            settings=AS_ROWS | {"per_step": steps},
            place=lambda index: f"{name}, sequence {index}",
        )
