"""Texts held against texts: how many words or characters were put in, left out, or taken for others."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

Edit = tuple[str | None, str | None]
"""What is true, and what was said for it; None where there is nothing on that side."""

Unit = Literal["word", "character"]

RATES: dict[str, Unit] = {"wer": "word", "cer": "character"}
"""The error rates, and what they count."""


class Edits(NamedTuple):
    """What makes one sequence into another, the fewest that do."""

    substituted: int
    inserted: int
    deleted: int

    @property
    def total(self) -> int:
        """Their number, Levenshtein's distance."""
        return sum(self)


def aligned(true: Sequence[str], said: Sequence[str]) -> list[Edit]:
    """Both sequences side by side, with the fewest edits (Levenshtein 1966; Wagner & Fischer 1974).

    Of several ways the one is taken that, from the end, puts one for another before it leaves out, and leaves out
    before it puts in.
    """
    m, n = len(true), len(said)
    cost = [list(range(n + 1))]
    for i, t in enumerate(true, 1):
        row, above = [i], cost[-1]
        for j, s in enumerate(said, 1):
            row.append(min(above[j - 1] + (t != s), above[j] + 1, row[j - 1] + 1))
        cost.append(row)
    found: list[Edit] = []
    i, j = m, n
    while i or j:
        if i and j and cost[i][j] == cost[i - 1][j - 1] + (true[i - 1] != said[j - 1]):
            i, j = i - 1, j - 1
            found.append((true[i], said[j]))
        elif i and cost[i][j] == cost[i - 1][j] + 1:
            i -= 1
            found.append((true[i], None))
        else:
            j -= 1
            found.append((None, said[j]))
    return found[::-1]


def edits(true: Sequence[str], said: Sequence[str]) -> Edits:
    """How many of each kind."""
    pairs = [pair for pair in aligned(true, said) if pair[0] != pair[1]]
    inserted = sum(t is None for t, _ in pairs)
    deleted = sum(s is None for _, s in pairs)
    return Edits(len(pairs) - inserted - deleted, inserted, deleted)


def counts(true: Sequence[str], said: Sequence[str], unit: Unit) -> np.ndarray:
    """(N, 4) float64: for each text its substitutions, insertions and deletions, and how many words (or characters) are
    true. Words are what stands between blanks; characters are those of the words, with one blank between two words."""
    cut: Callable[[str], list[str]] = str.split if unit == "word" else _characters
    return np.array(
        [(*edits(cut(a), cut(b)), len(cut(a))) for a, b in zip(true, said, strict=True)], np.float64
    ).reshape(-1, 4)


def error_rate(sums: np.ndarray) -> np.ndarray:
    """Edits over what is true, of sums of `counts`, (…, 4) -> (…); where nothing is true, the edits themselves."""
    return sums[..., :3].sum(-1) / np.maximum(sums[..., 3], 1)


def rates(true: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """wer and cer over all texts together."""
    return {name: float(error_rate(counts(true, said, unit).sum(0))) for name, unit in RATES.items()}


def confused(true: Sequence[str], said: Sequence[str]) -> Counter[Edit]:
    """How often each word was taken for another, left out or put in."""
    found: Counter[Edit] = Counter()
    for a, b in zip(true, said, strict=True):
        found.update(pair for pair in aligned(a.split(), b.split()) if pair[0] != pair[1])
    return found


def _characters(text: str) -> list[str]:
    return list(" ".join(text.split()))
