"""Tags that mark spans: the schemes IOB1, IOB2, IOBES and BILOU, the entities they mark, and what each allows.

A tag is `O`, outside of any entity, or a prefix with the entity's kind, such as `B-LOC`. Where tags do not keep to
their scheme they are read as the CoNLL evaluation does (conlleval.pl, Tjong Kim Sang & Buchholz 2000), and so as
seqeval: an inside that follows nothing of its kind begins an entity.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Scheme = Literal["iob1", "iob2", "iobes", "bilou"]

SCHEMES: tuple[Scheme, ...] = ("iob1", "iob2", "iobes", "bilou")

_TAG = re.compile(r"[BIESLU]-.+", re.DOTALL)
_AS_IOBES = {"L": "E", "U": "S"}


@dataclass(frozen=True)
class Entity:
    """Some words of a sentence that belong together: those from `start` up to, but not with, `stop`."""

    kind: str
    start: int
    stop: int


def is_tag(tag: str) -> bool:
    """Whether this is a tag of some scheme.

    >>> is_tag("B-LOC"), is_tag("O"), is_tag("NOUN")
    (True, True, False)
    """
    return tag == "O" or _TAG.fullmatch(tag) is not None


def part(tag: str) -> tuple[str, str]:
    """Prefix and kind of a tag, the prefix as IOBES writes it; `O` has no kind.

    >>> part("B-fromloc.city_name"), part("U-LOC"), part("O")
    (('B', 'fromloc.city_name'), ('S', 'LOC'), ('O', ''))
    """
    if tag == "O":
        return "O", ""
    prefix, _, kind = tag.partition("-")
    return _AS_IOBES.get(prefix, prefix), kind


def entities(tags: Sequence[str]) -> list[Entity]:
    """The entities that a sentence's tags mark, in any scheme, in order.

    >>> [(e.kind, e.start, e.stop) for e in entities(["B-PER", "I-PER", "O", "I-LOC", "B-LOC"])]
    [('PER', 0, 2), ('LOC', 3, 4), ('LOC', 4, 5)]
    """
    found: list[Entity] = []
    start, open_kind, was = 0, None, "O"
    for i, tag in enumerate(tags):
        prefix, kind = part(tag)
        goes_on = open_kind == kind and prefix in "IE" and was in "BI"
        if open_kind is not None and not goes_on:
            found.append(Entity(open_kind, start, i))
            open_kind = None
        if prefix != "O" and not goes_on:
            start, open_kind = i, kind
        was = prefix
    if open_kind is not None:
        found.append(Entity(open_kind, start, len(tags)))
    return found


def written(spans: Sequence[Entity], length: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence of `length` words with these entities, as a scheme has them.

    >>> written([Entity("LOC", 0, 2), Entity("LOC", 2, 3)], 4, "iob1")
    ['I-LOC', 'I-LOC', 'B-LOC', 'O']
    """
    tags = ["O"] * length
    inside, last, single = {"iobes": "IES", "bilou": "ILU"}.get(scheme, "IIB")
    for before, span in zip([None, *spans], spans, strict=False):
        first = "B"
        if scheme == "iob1" and (before is None or before.stop < span.start or before.kind != span.kind):
            first = "I"
        size = span.stop - span.start
        prefixes = [first, *inside * (size - 2), last] if size > 1 else [first if scheme == "iob1" else single]
        tags[span.start : span.stop] = [f"{prefix}-{span.kind}" for prefix in prefixes]
    return tags


def find_scheme(sentences: Iterable[Sequence[str]]) -> Scheme | None:
    """The scheme that tags are written in; None where they mark no entities.

    IOBES and BILOU are known by their own prefixes. Of the other two it is IOB1 where every B parts an entity from one
    of its kind before it, and some entity begins with an I; else IOB2.
    """
    prefixes: set[str] = set()
    needless_begin = bare_inside = False
    for tags in sentences:
        before, was = "O", ""
        for tag in tags:
            if not is_tag(tag):
                return None
            prefixes.add(tag[0])
            prefix, kind = part(tag)
            if prefix == "B" and (before == "O" or was != kind):
                needless_begin = True
            if prefix == "I" and (before == "O" or was != kind):
                bare_inside = True
            before, was = prefix, kind
    if not prefixes - {"O"}:
        return None
    if prefixes & {"E", "S"}:
        return "iobes"
    if prefixes & {"L", "U"}:
        return "bilou"
    return "iob1" if bare_inside and not needless_begin else "iob2"


def first_break(tags: Sequence[str], scheme: Scheme) -> int | None:
    """The first word of a sentence whose tag its scheme does not allow there; None where all are as they should be.

    >>> first_break(["O", "I-LOC"], "iob2"), first_break(["O", "I-LOC"], "iob1")
    (1, None)
    """
    kept = written(entities(tags), len(tags), scheme)
    return next((i for i, (tag, right) in enumerate(zip(tags, kept, strict=True)) if tag != right), None)


def allowed(tags: Sequence[str], scheme: Scheme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which tags may begin a sentence, follow one another, and end it.

    Args:
        tags: K tags.
        scheme: What they keep to.

    Returns:
        (K,), (K, K) and (K,) bool; row i, column j of the second: whether j may follow i.
    """
    parts = [part(tag) for tag in tags]
    begins = np.array([_may_follow(("O", ""), after, scheme) for after in parts])
    follows = np.array([[_may_follow(before, after, scheme) for after in parts] for before in parts])
    ends = np.array([_may_follow(before, ("O", ""), scheme) for before in parts])
    return begins, follows, ends


def _may_follow(before: tuple[str, str], after: tuple[str, str], scheme: Scheme) -> bool:
    (left, kind), (right, next_kind) = before, after
    if scheme == "iob1":
        return right != "B" or (left != "O" and kind == next_kind)
    goes_on = right in ("I", "E")
    if scheme == "iob2":
        return not goes_on or (left in ("B", "I") and kind == next_kind)
    is_open = left in ("B", "I")
    return goes_on and kind == next_kind if is_open else not goes_on
