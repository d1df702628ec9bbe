"""Tables of classes, which several sections show."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from recurra.tasks.scores import per_class

MISTAKES = 12
"""Pairs of classes that are taken for each other, at most."""


def class_tables(
    true: np.ndarray, found: np.ndarray, classes: Sequence[str], what: str, titles: tuple[str, str]
) -> list[Any]:
    """How well each class is told, and what is taken for what, as tables of a `Section`.

    Args:
        true: (N,) indices into `classes`; those below 0 are not known, and left out.
        found: (N,) likewise, what is said.
        classes: Their names.
        what: What is counted, such as "trees".
        titles: Of the two tables.

    Returns:
        Both; the first alone where nothing is taken for anything else.
    """
    true, found = true[true >= 0], found[true >= 0]
    rows = [
        (row["class"], row["support"], row["precision"], row["recall"], row["f1"])
        for row in per_class(true, found, classes)
    ]
    tables: list[Any] = [(titles[0], ("class", what, "precision", "recall", "F1"), rows)]
    met = Counter(zip(true.tolist(), found.tolist(), strict=True))
    if confused := [(classes[a], classes[b], n) for (a, b), n in met.most_common() if a != b][:MISTAKES]:
        tables.append((titles[1], ("true", "said", what), confused))
    return tables
