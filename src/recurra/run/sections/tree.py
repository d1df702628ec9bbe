"""What the report of a tree network shows: its mistakes by class, and trees with what is said of every node."""

import numpy as np
from markupsafe import Markup

from recurra.data.trees import Trees
from recurra.run.content import Section
from recurra.run.sections.classes import class_tables
from recurra.run.training import Training
from recurra.tasks.tree import Labelled

TREES, LARGEST = 8, 41
"""Trees that are drawn, and nodes of the largest of them, at most."""

ROW, STEP, RADIUS = 34, 50, 10
"""Pixels between two levels, between two leaves, and of a node."""

IN_HALF = 9
"""Leaves of the largest tree that can be read in half of the page's width."""


def sections(training: Training, part: Trees, said: Labelled | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    if said is None or part.labels is None:
        return []
    return [_classes(said), _trees(said)]


def _classes(said: Labelled) -> Section:
    """How well each class of roots is told, and by how deep a phrase is how well nodes are."""
    titles = ("Roots", "What roots are taken for")
    tables = class_tables(said.true_roots, said.of_roots.argmax(1), said.schema.classes, "trees", titles)
    tables.append(("Nodes by the words below them", ("words", "nodes", "accuracy"), _by_words(said)))
    return Section("Classes", ["The root's class is the tree's. Larger phrases are harder than words."], tables=tables)


def _by_words(said: Labelled) -> list[tuple[object, ...]]:
    """The accuracy of nodes by how many words they stand over."""
    data = said.data
    assert data.labels is not None
    counts, labels = data.words_below, data.labels.numpy()
    right = said.probabilities.argmax(1) == labels
    rows: list[tuple[object, ...]] = []
    for low, high in ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, None)):
        among = (labels >= 0) & (counts >= low) & (counts <= (high or counts.max(initial=0)))
        if among.any():
            name = str(low) if low == high else f"{low} to {high}" if high else f"{low} and more"
            rows.append((name, f"{among.sum():,}", float(right[among].mean())))
    return rows


def _trees(said: Labelled) -> Section:
    """Trees of a size that can be drawn: those whose root is most surely told wrongly, and two that are all right."""
    assert said.data.labels is not None
    labels, lengths = said.data.labels.numpy(), said.data.lengths.numpy()
    wrong_nodes = (said.probabilities.argmax(1) != labels) & (labels >= 0)
    wrong = np.add.reduceat(wrong_nodes, said.data.offsets.numpy()[:-1])
    true = said.true_roots
    small = np.flatnonzero((lengths <= LARGEST) & (true >= 0))
    of_truth = said.of_roots[small, true[small]]
    mistaken = small[said.of_roots[small].argmax(1) != true[small]]
    worst = small[np.argsort(of_truth, kind="stable")]
    shown = [i for i in worst.tolist() if i in set(mistaken.tolist())][: TREES - 2]
    largest_right = sorted(small[wrong[small] == 0].tolist(), key=lambda i: -lengths[i])[:2]
    classes = said.schema.classes
    figures = []
    for i in [*shown, *largest_right]:
        told = classes[int(said.of_roots[i].argmax())]
        caption = f"tree {i}, line {int(said.data.lines[i])}: {told}"
        caption += "" if told == classes[true[i]] else f", in truth {classes[true[i]]}"
        figures.append((caption, drawing(said, i)))
    words = [
        "Each node shows the class that is said of it: on blue where it is right, on orange with the true one behind "
        "it where it is not, grey where nothing is known. First the trees whose root was told wrongly with the most "
        f"certainty, then some that are right throughout; of those with at most {LARGEST} nodes."
    ]
    return Section("Trees", words, figures=figures)


def drawing(said: Labelled, index: int) -> Markup:
    """A tree as SVG: words at the bottom, the class said of each node, its colour telling whether that is right."""
    data, classes = said.data, said.schema.classes
    first, stop = int(data.offsets[index]), int(data.offsets[index + 1])
    children, places = data.children(index), dict[int, tuple[float, float]]()
    order: list[int] = []
    open_ = [int(data.roots[index])]
    while open_:
        node = open_.pop()
        order.append(node)
        open_ += children.get(node, [])
    height: dict[int, int] = {}
    column = 0
    leaves = [node for node in _in_reading_order(data, index, children) if node not in children]
    for node in leaves:
        places[node] = (STEP * (column + 0.5), 0.0)
        column += 1
    for node in reversed(order):
        below = children.get(node, [])
        height[node] = 1 + max((height[c] for c in below), default=-1)
        if below:
            places[node] = (sum(places[c][0] for c in below) / len(below), 0.0)
    tall = max(height.values())
    at = {node: (x, ROW * (tall - height[node] + 0.6)) for node, (x, _) in places.items()}
    labels = None if data.labels is None else data.labels.tolist()
    parts = []
    for node in range(first, stop):
        for child in children.get(node, []):
            (x1, y1), (x2, y2) = at[node], at[child]
            parts.append(
                Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#bbb"/>').format(x1, y1, x2, y2)
            )
    for node in range(first, stop):
        x, y = at[node]
        found = int(said.probabilities[node].argmax())
        true = -1 if labels is None else labels[node]
        colour = "#ddd" if true < 0 else "#cfe3f7" if true == found else "#ffd8b0"
        text = classes[found] if true in (-1, found) else f"{classes[found]} ({classes[true]})"
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>').format(x, y, RADIUS, colour))
        parts.append(
            Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" font-size="10">{}</text>').format(x, y + 3.5, text)
        )
        if (word := data.word(node)) is not None:
            parts.append(
                Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="middle" font-size="11">{}</text>').format(
                    x, y + RADIUS + 13, word
                )
            )
    wide, high = STEP * max(1, column), ROW * (tall + 1) + 24
    head = Markup('<svg {2} viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" style="max-width:100%" role="img">')
    opened = head.format(wide, high, Markup('class="wide"') if column > IN_HALF else "")
    return opened + Markup("").join(parts) + Markup("</svg>")


def _in_reading_order(data: Trees, index: int, children: dict[int, list[int]]) -> list[int]:
    found, open_ = [], [int(data.roots[index])]
    while open_:
        node = open_.pop()
        found.append(node)
        open_ += reversed(children.get(node, []))
    return found
