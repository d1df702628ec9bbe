"""What the report of a tagger shows: each kind of entity, sentences with their tags, and what order decides."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from recurra.data.sentences import Sentences
from recurra.run.content import Section
from recurra.run.training import Training
from recurra.tasks.single_words import contrasts
from recurra.tasks.tag import Tag
from recurra.tasks.tag_scores import kind_rows, tag_rows
from recurra.tasks.tagging import Tagging

KINDS, SENTENCES, PAIRS, MISTAKES = 30, 10, 5, 12
"""Rows, sentences and pairs that are shown at most."""


Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]


def sections(training: Training, part: Sentences, said: Tagging | None) -> list[Section]:
    """The sections of a tagger's report; none where there is neither a test nor a validation part."""
    task = training.task
    if said is None or part.tags is None or not isinstance(task, Tag):
        return []
    alone = task.by_word(said, task.alone(training.parts.train))
    found = [_kinds(said), _examples(said)]
    if (order := _order(said, alone)) is not None:
        found.append(order)
    return found


def _kinds(said: Tagging) -> Section:
    """How well each kind of entity is found, or each tag where they mark none; and what is taken for what."""
    every = range(len(said))
    true, found = [said.true(i) for i in every], [said.said(i) for i in every]
    entities = bool(said.schema.scheme)
    rows = (kind_rows if entities else tag_rows)(true, found)
    shown = [(r["kind"], r["support"], r["said"], r["precision"], r["recall"], r["f1"]) for r in rows[:KINDS]]
    caption = f"{'Entities' if entities else 'Tags'}, the most frequent first"
    if len(rows) > KINDS:
        caption += f" ({KINDS} of {len(rows)})"
    mistaken = Counter(
        (a, b) for one, other in zip(true, found, strict=True) for a, b in zip(one, other, strict=True) if a != b
    )
    total = sum(mistaken.values())
    tables: list[Table] = [
        (caption, ("kind" if entities else "tag", "true", "said", "precision", "recall", "F1"), shown)
    ]
    if total:
        confused = [(a, b, n, n / total) for (a, b), n in mistaken.most_common(MISTAKES)]
        tables.append(("What is taken for what", ("true", "said", "words", "share of all mistakes"), confused))
    words = (
        "An entity is found where its kind and both its ends are right, as in the CoNLL evaluation and seqeval."
        if entities
        else "Scores of each tag over all words."
    )
    return Section("Entities" if entities else "Tags", [words], tables=tables)


def _examples(said: Tagging) -> Section:
    """Sentences with their tags: those with the most mistakes, and two without."""
    wrong, right = [], []
    for i in range(len(said)):
        mistakes = sum(a != b for a, b in zip(said.true(i), said.said(i), strict=True))
        (wrong if mistakes else right).append((mistakes, i))
    wrong.sort(key=lambda item: (-item[0], item[1]))
    marked = [i for _, i in right if any(tag != "O" for tag in said.true(i))]
    shown = [i for _, i in wrong[: SENTENCES - 2]] + marked[:2]
    figures = [(_caption(said, i), _sentence(said.data.tokens(i), said.true(i), said.said(i))) for i in shown]
    counted = f"{len(right):,} of {len(said):,} sentences have every tag right."
    told = "Under a word stands its tag: on blue where it is right, on orange the true one and what was said instead."
    return Section("Sentences", [f"{counted} {told} Those with the most mistakes come first."], figures=figures)


def _caption(said: Tagging, index: int) -> str:
    name = f"sentence {index}" if said.data.ids is None else said.data.ids[index]
    if (label := said.label(index)) is None:
        return name
    if said.data.labels is None:
        return f"{name}: {label}"
    code = int(said.data.labels[index])
    true = said.schema.labels[code] if code >= 0 else "a label never seen"
    return f"{name}: {label}" + ("" if true == label else f", in truth {true}")


def _sentence(tokens: Sequence[str], true: Sequence[str], said: Sequence[str]) -> Markup:
    """A sentence with its tags under its words."""
    words = []
    for token, right, found in zip(tokens, true, said, strict=True):
        if right == found == "O":
            words.append(Markup("<span>{}</span>").format(token))
        elif right == found:
            words.append(Markup('<span class="right">{}<small>{}</small></span>').format(token, found))
        else:
            words.append(Markup('<span class="wrong">{}<small>{} → {}</small></span>').format(token, right, found))
    return Markup('<p class="tagged">{}</p>').format(Markup(" ").join(words))


def _order(said: Tagging, alone: Tagging) -> Section | None:
    """The same word with two tags in two sentences, by the network and by one that sees the word alone."""
    tags = said.data.tags
    assert tags is not None
    several, found = contrasts(said, alone, PAIRS)
    if not several.any():
        return None
    true = tags.numpy()
    counts = int(several.sum())
    ours, theirs = (float(np.mean(each.tags[several] == true[several])) for each in (said, alone))
    words = [
        f"{counts:,} of {len(true):,} words are such as stand with several tags in these sentences, so that the word "
        f"alone does not tell its tag. Of these the network has {ours:.1%} right, and a feed-forward network that "
        f"reads single words, trained on the same sentences, {theirs:.1%}."
    ]
    rows: list[tuple[object, ...]] = []
    for word, places in found:
        for index, at in places:
            step = int(said.data.offsets[index]) + at
            names = (said.data.names[int(codes[step])] for codes in (true, said.tags, alone.tags))
            rows.append((word, _around(said.data.tokens(index), at), *names))
    if rows:
        words.append("Below, one word each in two sentences, with another tag in either.")
    table = ("One word, two sentences", ("word", "sentence", "true", "network", "word alone"), rows)
    return Section("What the order of words decides", words, tables=[table] if rows else [])


def _around(tokens: Sequence[str], at: int) -> Markup:
    """A sentence with one of its words set off; of a long one what stands around it."""
    first, stop = max(0, at - 12), min(len(tokens), at + 13)
    before, after = [*(["…"] if first else []), *tokens[first:at]], tokens[at + 1 : stop]
    after = [*after, "…"] if stop < len(tokens) else after
    word = Markup("<strong>{}</strong>").format(tokens[at])
    return Markup(" ").join([*map(escape, before), word, *map(escape, after)])
