"""The copy problem."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records, StepLabels


class Copy(Problem):
    """A few symbols are shown, and after a long delay they are to be said again, in order.

    Hochreiter & Schmidhuber (1997) in the form of Arjovsky, Shah & Bengio (2016): K symbols drawn from A, then blanks,
    of which the last but K is instead the sign to begin; T + 2K steps in all, with a delay of T from the last symbol to
    the first step of the answer. At the last K steps, whose inputs are blanks, the symbols are asked for; with
    `blanks`, at every other step a blank is, as in the paper. The inputs are one-hot. Who knows all but the symbols
    says them with an accuracy of 1/A.
    """

    name: ClassVar[str] = "copy"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "the copy problem: symbols are said again, in order, after a long delay"

    delay: int = Field(default=200, ge=1, description="T, steps between the last symbol and the answer")
    symbols: int = Field(default=10, ge=1, description="K, symbols to be copied")
    alphabet: int = Field(default=8, ge=2, le=26, description="A, different symbols")
    blanks: bool = Field(default=False, description="ask for a blank at the steps before the answer, too")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""
        letters = [chr(ord("a") + i) for i in range(self.alphabet)]
        classes = [*letters, "blank"] if self.blanks else letters
        blank, begin = self.alphabet, self.alphabet + 1
        K, steps = self.symbols, self.delay + 2 * self.symbols
        shown = random.integers(0, self.alphabet, (count, K))
        places = np.full((count, steps), blank)
        places[:, :K] = shown
        places[:, K + self.delay - 1] = begin
        asked = np.full((count, steps), blank if self.blanks else -1)
        asked[:, -K:] = shown
        return Records(
            values=np.eye(self.alphabet + 2, dtype=np.uint8)[places.reshape(-1)],
            offsets=np.arange(count + 1, dtype=np.int64) * steps,
            features=[*letters, "blank", "begin"],
            step_labels=StepLabels([(name,) for name in classes], asked.reshape(-1)),
            per_step=True,
            settings=AS_ROWS | {"per_step": True},
            place=lambda index: f"{name}, sequence {index}",
        )
