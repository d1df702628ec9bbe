"""Scores of tags: of words, of whole sentences, and of the entities that tags mark; arrays in, numbers out."""

from collections import Counter
from collections.abc import Sequence
from typing import TypedDict

import numpy as np

from recurra.data.schemes import entities


class KindRow(TypedDict):
    """How well one kind of entity, or one tag, is found."""

    kind: str
    precision: float
    recall: float
    f1: float
    support: int
    said: int


def entity_counts(true: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> np.ndarray:
    """(N, 3) whole numbers: for each sentence the entities met exactly (kind and both ends), those said, those true.

    Args:
        true: The tags of N sentences.
        said: Likewise.
    """
    rows = []
    for right, found in zip(true, said, strict=True):
        there, claimed = set(entities(right)), set(entities(found))
        rows.append((len(there & claimed), len(claimed), len(there)))
    return np.array(rows, np.int64).reshape(-1, 3)


def entity_scores(counts: np.ndarray) -> np.ndarray:
    """Precision, recall and F1 of sums of `entity_counts`, (…, 3) -> (…, 3); 0 where nothing was said or is true."""
    met, said, true = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    precision, recall = met / np.maximum(said, 1), met / np.maximum(true, 1)
    return np.stack([precision, recall, 2 * met / np.maximum(said + true, 1)], -1)


def kind_rows(true: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> list[KindRow]:
    """Precision, recall, F1 and counts of each kind of entity, the most frequent first."""
    met, claimed, there = Counter[str](), Counter[str](), Counter[str]()
    for right, found in zip(true, said, strict=True):
        one, other = set(entities(right)), set(entities(found))
        met.update(e.kind for e in one & other)
        claimed.update(e.kind for e in other)
        there.update(e.kind for e in one)
    return _rows(met, claimed, there)


def tag_rows(true: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> list[KindRow]:
    """The same of each tag by itself, over words."""
    met, claimed, there = Counter[str](), Counter[str](), Counter[str]()
    for right, found in zip(true, said, strict=True):
        met.update(a for a, b in zip(right, found, strict=True) if a == b)
        claimed.update(found)
        there.update(right)
    return _rows(met, claimed, there)


def _rows(met: Counter[str], claimed: Counter[str], there: Counter[str]) -> list[KindRow]:
    rows: list[KindRow] = []
    for kind in sorted(there | claimed, key=lambda kind: (-there[kind], kind)):
        precision, recall, f1 = entity_scores(np.array([met[kind], claimed[kind], there[kind]])).tolist()
        rows.append(
            {
                "kind": kind,
                "precision": precision,
                "recall": recall,
                "f1": f1,
                "support": there[kind],
                "said": claimed[kind],
            }
        )
    return rows
