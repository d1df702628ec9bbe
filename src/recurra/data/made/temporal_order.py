"""The temporal order problem."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records

SYMBOLS = ("E", "B", "a", "b", "c", "d", "X", "Y")
"""One input each: start, end, four that mean nothing, and the two whose order counts."""

CLASSES = {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}
"""What is asked for, by the two symbols in their order."""


class TemporalOrder(Problem):
    """Which of X and Y stood at two places far apart in a sequence of symbols that mean nothing.

    Hochreiter & Schmidhuber (1997), experiment 6a: a sequence begins with E, ends with B and is otherwise drawn from
    a, b, c, d, but for two places, which hold X or Y. For a length L its length is drawn from L to 1.1 L, the first
    place from 0.1 L to 0.2 L, the second from 0.5 L to 0.6 L (the paper: L = 100). The four orders are the classes Q
    (X, X), R (X, Y), S (Y, X) and U (Y, Y). The inputs are one-hot.
    """

    name: ClassVar[str] = "temporal_order"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "the temporal order problem: in which order two rare symbols came"

    length: int = Field(default=100, ge=10, description="L, steps of the shortest sequence")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""

        def between(low: int, high: int) -> np.ndarray:
            """`count` whole numbers from low/10 to high/10 of the length, both included."""
            return random.integers(low * self.length // 10, high * self.length // 10, count, endpoint=True)

        lengths, first, second = between(10, 11), between(1, 2), between(5, 6)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        symbols = random.integers(SYMBOLS.index("a"), SYMBOLS.index("d"), offsets[-1], endpoint=True)
        orders = random.integers(0, 2, (count, 2))
        symbols[offsets[:-1]], symbols[offsets[1:] - 1] = SYMBOLS.index("E"), SYMBOLS.index("B")
        for place, which in zip((first, second), orders.T, strict=True):
            symbols[offsets[:-1] + place] = SYMBOLS.index("X") + which
        return Records(
            values=np.eye(len(SYMBOLS), dtype=np.uint8)[symbols],
            offsets=offsets,
            features=list(SYMBOLS),
            labels=[(CLASSES["XY"[a] + "XY"[b]],) for a, b in orders.tolist()],
            settings=AS_ROWS,
            place=lambda index: f"{name}, sequence {index}",
        )
