"""The copy task of the neural Turing machine."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records, StepLabels


class CopyVectors(Problem):
    """Binary vectors are shown one after another, then an end mark; then they are to be said again, in order.

    Graves, Wayne & Danihelka (2014), section 4.1: every bit is drawn with equal chance, and the number of vectors from
    `shortest` to `length`. L vectors make 2 L + 1 steps: the vectors, whose last input, `end`, is 0; the end, where it
    alone is 1; and L steps without any input, at which the vectors are asked for, as the set of bits that are 1. What
    is learnt from short sequences is to hold for longer ones.
    """

    name: ClassVar[str] = "copy_vectors"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "copying: binary vectors are said again, in order, from sequences of any length"

    width: int = Field(default=8, ge=1, le=16, description="bits of a vector")
    shortest: int = Field(default=1, ge=1, description="vectors of the shortest sequence, no more than of the longest")
    length: int = Field(default=20, ge=1, description="vectors of the longest; lengths are drawn between the two")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""
        shown = random.integers(min(self.shortest, self.length), self.length, count, endpoint=True)
        bits = random.integers(0, 2, (int(shown.sum()), self.width), dtype=np.uint8)
        lengths = 2 * shown + 1
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        step = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        L = np.repeat(shown, lengths)
        values = np.zeros((len(step), self.width + 1), np.uint8)
        values[step < L, :-1] = bits
        values[step == L, -1] = 1
        names = [f"b{i + 1}" for i in range(self.width)]
        vectors, code = np.unique(bits, axis=0, return_inverse=True)
        asked = np.full(len(step), -1)
        asked[step > L] = code.reshape(-1)
        return Records(
            values=values,
            offsets=offsets,
            features=[*names, "end"],
            step_labels=StepLabels(
                [tuple(n for n, one in zip(names, row, strict=True) if one) for row in vectors], asked
            ),
            multi_label=True,
            per_step=True,
            settings=AS_ROWS | {"per_step": True, "label_separator": ";", "gaps": True},
            place=lambda index: f"{name}, sequence {index}",
        )
