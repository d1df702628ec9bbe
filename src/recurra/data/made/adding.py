"""The adding problem."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records


class Adding(Problem):
    """Two numbers of a long sequence are marked; their sum is asked for at its end.

    Hochreiter & Schmidhuber (1997), section 5.4, in the form of Le, Jaitly & Hinton (2015): a step is a value drawn
    uniformly from 0 to 1 and a marker, which is 1 at two steps, one drawn from each half of the sequence (the middle
    step of an odd length belongs to the second), and 0 elsewhere. Who always says 1 has a mean squared error of
    1/6 = 0.1667.
    """

    name: ClassVar[str] = "adding"
    task: ClassVar[str] = "regress"
    summary: ClassVar[str] = "the adding problem: the sum of the two marked numbers of a long sequence"

    length: int = Field(default=400, ge=2, description="steps of a sequence")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""
        values = np.zeros((count, self.length, 2), np.float32)
        values[..., 0] = random.random((count, self.length), np.float32)
        half, every = self.length // 2, np.arange(count)
        first, second = random.integers(0, half, count), random.integers(half, self.length, count)
        values[every, first, 1] = values[every, second, 1] = 1
        return Records(
            values=values.reshape(-1, 2),
            offsets=np.arange(count + 1, dtype=np.int64) * self.length,
            features=["value", "marker"],
            numbers=values[every, first, :1] + values[every, second, :1],
            targets=["sum"],
            settings=AS_ROWS,
            place=lambda index: f"{name}, sequence {index}",
        )
