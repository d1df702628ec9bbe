"""The embedded Reber grammar."""

from collections.abc import Iterator
from itertools import islice
from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import AS_ROWS, Problem
from recurra.data.records import Records, StepLabels

SYMBOLS = "BEPSTVX"

REBER: tuple[dict[str, int], ...] = (
    {"B": 1},
    {"T": 2, "P": 3},
    {"S": 2, "X": 4},
    {"T": 3, "V": 5},
    {"X": 3, "S": 6},
    {"P": 4, "V": 6},
    {"E": 7},
    {},
)
"""The Reber grammar: for each node, the symbols that lead on from it and where to; from node 0 to node 7."""


class EmbeddedReber(Problem):
    """Strings of a grammar whose last symbol but one repeats the second: which symbols may come next?

    Smith & Zipser (1989), as in Hochreiter & Schmidhuber (1997), experiment 1: B, then T or P, then a string of the
    Reber grammar (itself from B to E), then the same T or P again, then E; at each fork both ways are taken with equal
    chance. A step is a symbol, one-hot, and asks for the set of symbols that may follow it: one, or two. All but one
    of these sets are told by the last two symbols or so; the T or P behind the inner string only by the second symbol.

    With `apart`, no string of one part is in another, as in the paper: the validation and test parts then hold the
    rarer and longer strings. Without it every part is drawn alike. The last symbol, E, is not put in.
    """

    name: ClassVar[str] = "embedded_reber"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "the embedded Reber grammar: the symbols that may follow, at every step"

    training: int = Field(default=1_000, ge=1, description="strings to train on")
    validation: int = Field(default=250, ge=0, description="strings to choose the best weights by; 0: none")
    apart: bool = Field(default=True, description="no string of one part is in another")

    def parts(self) -> dict[str, Records]:
        """See `Made.parts`."""
        sizes = {"train": self.training, "test": self.test, "validation": self.validation}
        parts: dict[str, Records] = {}
        met: set[str] = set()
        for part, count in sizes.items():
            if count:
                drawn = list(islice((s for s in _strings(self.stream(part)) if s not in met), count))
                parts[part] = _records(drawn, f"{self.name} ({part} part)")
                met |= set(drawn) if self.apart else set()
        return parts

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`."""
        return _records(list(islice(_strings(random), count)), name)


def may_follow(string: str) -> list[str]:
    """For each symbol of a string of the embedded grammar but the last, the symbols that may follow it, sorted.

    >>> may_follow("BTBPVVETE")
    ['PT', 'B', 'PT', 'TV', 'PV', 'E', 'T', 'E']
    """
    node, sets = 0, []
    for symbol in string[2:-2]:
        sets.append("".join(sorted(REBER[node])))
        node = REBER[node][symbol]
    return ["PT", *sets, string[1], "E"]


def _strings(random: np.random.Generator) -> Iterator[str]:
    """Strings of the embedded grammar, without end."""
    while True:
        outer, inner, node = "PT"[random.integers(2)], "", 0
        while REBER[node]:
            ways = list(REBER[node])
            inner += ways[random.integers(2)] if len(ways) > 1 else ways[0]
            node = REBER[node][inner[-1]]
        yield f"B{outer}{inner}{outer}E"


def _records(strings: list[str], name: str) -> Records:
    follow = [symbols for string in strings for symbols in may_follow(string)]
    kinds = {symbols: code for code, symbols in enumerate(dict.fromkeys(follow))}
    given = [SYMBOLS.index(symbol) for string in strings for symbol in string[:-1]]
    return Records(
        values=np.eye(len(SYMBOLS), dtype=np.uint8)[given],
        offsets=np.cumsum([0, *(len(string) - 1 for string in strings)]),
        features=list(SYMBOLS),
        step_labels=StepLabels([tuple(symbols) for symbols in kinds], np.array([kinds[symbols] for symbols in follow])),
        multi_label=True,
        per_step=True,
        settings=AS_ROWS | {"per_step": True, "label_separator": ";"},
        place=lambda index: f"{name}, string {index} ({strings[index]})",
    )
