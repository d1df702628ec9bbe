"""What the report of a graph network shows: its mistakes by class and by size, and graphs with what is said of them."""

import numpy as np
from markupsafe import Markup
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from recurra.data.graphs import Graphs
from recurra.run.content import Section
from recurra.run.sections.classes import class_tables
from recurra.run.training import Training
from recurra.tasks.graph import GraphsTold

DRAWN, LARGEST = 8, 60
"""Graphs that are drawn, and nodes of the largest of them, at most."""

LENGTH, RADIUS = 30, 9
"""Pixels of an edge, and of a node."""

COLOURS = ("#d8e2ec", "#cfe3f7", "#ffd8b0", "#d3ecd3", "#f5d0e0", "#e3d7f2", "#f3ecbf", "#cdeceb", "#e6d5c7", "#d9d9d9")
"""Of nodes, by their labels; more labels share them."""

DASHES = ("", "5 3", "1.5 2.5", "8 3 2 3")
"""Of edges, by their labels."""


def sections(training: Training, part: Graphs, said: GraphsTold | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    if said is None or part.labels is None:
        return []
    return [_classes(said), _graphs(said)]


def _classes(said: GraphsTold) -> Section:
    """How well each class is told, and how well by size."""
    rows = said.asked
    what = "nodes" if said.data.per_node else "graphs"
    true, found = said.truth[rows], said.probabilities[rows].argmax(1)
    tables = class_tables(true, found, said.schema.classes, what, ("Classes", "What is taken for what"))
    sizes, of = (_degrees(said.data), "neighbours") if said.data.per_node else (said.data.lengths.numpy(), "nodes")
    tables.append((f"By the number of {of}", (of, what, "accuracy"), _by_size(sizes[rows], found == true)))
    return Section("Classes", [f"Of {what}, class by class and by their size."], tables=tables)


def _by_size(sizes: np.ndarray, right: np.ndarray) -> list[tuple[object, ...]]:
    """The accuracy in up to four groups of like size."""
    rows: list[tuple[object, ...]] = []
    bounds = np.unique(np.quantile(sizes, [0, 0.25, 0.5, 0.75, 1], method="nearest"))
    for number, low in enumerate(bounds[:-1] if len(bounds) > 1 else bounds):
        last = number >= len(bounds) - 2
        high = bounds[-1] if last else bounds[number + 1] - 1
        among = (sizes >= low) & (sizes <= high)
        name = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        rows.append((name, f"{among.sum():,}", float(right[among].mean())))
    return rows


def _degrees(data: Graphs) -> np.ndarray:
    """How many nodes each hears of, (M,), but itself."""
    source, target = data.edge_index.numpy()
    pairs = np.unique(np.stack([source, target])[:, source != target], axis=1)
    return np.bincount(pairs[1], minlength=len(data.nodes))


def _graphs(said: GraphsTold) -> Section:
    """Graphs of a size that can be drawn: those most surely told wrongly, and two that are right. Of larger ones, whose
    nodes have classes, what is around nodes that are told wrongly."""
    data, classes, truth = said.data, said.schema.classes, said.truth
    found = said.probabilities.argmax(1)
    of_truth = np.where(truth >= 0, said.probabilities[np.arange(len(truth)), truth], np.nan)
    wrong = (found != truth) & (truth >= 0)
    if data.per_node and int(data.lengths.min()) > LARGEST:
        return _surroundings(said, np.flatnonzero(wrong)[np.argsort(of_truth[wrong], kind="stable")][:DRAWN].tolist())
    if data.per_node:
        first = data.offsets.numpy()[:-1]
        doubt = np.minimum.reduceat(np.where(truth >= 0, of_truth, np.inf), first)
        wrong, known = np.logical_or.reduceat(wrong, first), np.logical_or.reduceat(truth >= 0, first)
    else:
        doubt, known = of_truth, truth >= 0
    drawable = np.flatnonzero((data.lengths.numpy() <= LARGEST) & known)
    order = drawable[np.argsort(doubt[drawable], kind="stable")]
    figures = []
    for i in [*order[wrong[order]][: DRAWN - 2].tolist(), *order[~wrong[order]][::-1][:2].tolist()]:
        caption = _name(data, i)
        if not data.per_node:
            caption += f": {classes[found[i]]} ({said.probabilities[i].max():.0%})"
            caption += "" if found[i] == truth[i] else f", in truth {classes[truth[i]]}"
        figures.append((caption, drawing(said, i)))
    if data.per_node:
        words = OF_NODES
    else:
        words = "Each node shows its label."
        if said.schema.edge_labels:
            named = ("drawn out", "dashed", "dotted", "dashed and dotted")
            kinds = ", ".join(f"{label} {how}" for label, how in zip(said.schema.edge_labels, named, strict=False))
            words = f"Each node shows its label. Edges: {kinds}."
    words += " First what was told wrongly with the most certainty, then what is right."
    if left_out := int(known.sum()) - len(drawable):
        words += f" {left_out:,} of {int(known.sum()):,} graphs have more than {LARGEST} nodes and are not drawn."
    return Section("Graphs", [words], figures=figures)


OF_NODES = (
    "Each node shows its class: on blue where it is told rightly, on orange what was said with the truth behind it, "
    "grey where nothing is asked."
)


def _surroundings(said: GraphsTold, nodes: list[int]) -> Section:
    """What is within two steps of some nodes."""
    data, figures = said.data, []
    for node in nodes:
        index = int(data.graph[node])
        own = node - int(data.offsets[index])
        near: dict[int, list[int]] = {}
        for a, b, _ in data.pairs(index):
            near.setdefault(a, []).append(b)
            near.setdefault(b, []).append(a)
        kept = dict.fromkeys([own, *near.get(own, [])])
        kept |= dict.fromkeys(other for one in list(kept) for other in near.get(one, []))
        figures.append((f"{_name(data, index)}, node {own}", drawing(said, index, list(kept)[:LARGEST])))
    words = f"{OF_NODES} Of the nodes that were told wrongly with the most certainty, what is within two steps of them."
    return Section("Graphs", [words if nodes else "No node was told wrongly."], figures=figures)


def _name(data: Graphs, index: int) -> str:
    name = "" if data.ids is None else data.ids[index]
    return name or f"graph {index}, number {int(data.lines[index])} of its file"


def drawing(said: GraphsTold, index: int, nodes: list[int] | None = None) -> Markup:
    """A graph as SVG: of nodes the label, or the class where they have classes and whether it is right.

    Args:
        said: What is said of graphs.
        index: Which graph.
        nodes: Those of its nodes that are drawn, counted within it; all when left out.
    """
    data, first = said.data, int(said.data.offsets[index])
    nodes = list(range(int(data.lengths[index]))) if nodes is None else nodes
    at = {node: i for i, node in enumerate(nodes)}
    pairs = [(at[a], at[b], label) for a, b, label in data.pairs(index) if a in at and b in at]
    places = layout(len(nodes), [(a, b) for a, b, _ in pairs]) * LENGTH
    places = places - places.min(0) + 2 * RADIUS
    wide, high = places.max(0) + 2 * RADIUS
    parts = []
    for a, b, label in pairs:
        (x1, y1), (x2, y2) = places[a], places[b]
        dash = DASHES[label % len(DASHES)] if label >= 0 else ""
        line = '<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="#999" stroke-dasharray="{}"/>'
        parts.append(Markup(line).format(x1, y1, x2, y2, dash))
    for node, (x, y) in zip(nodes, places, strict=True):
        colour, text = _of_class(said, first + node) if data.per_node else _of_label(said, first + node)
        parts.append(Markup('<circle cx="{:.1f}" cy="{:.1f}" r="{}" fill="{}"/>').format(x, y, RADIUS, colour))
        name = '<text x="{:.1f}" y="{:.1f}" text-anchor="middle" font-size="10">{}</text>'
        parts.append(Markup(name).format(x, y + 3.5, text))
    head = Markup('<svg viewBox="0 0 {0:.0f} {1:.0f}" width="{0:.0f}" style="max-width:100%" role="img">')
    return head.format(wide, high) + Markup("").join(parts) + Markup("</svg>")


def _of_label(said: GraphsTold, node: int) -> tuple[str, str]:
    label = int(said.data.nodes[node])
    return (COLOURS[label % len(COLOURS)], said.schema.node_labels[label][:3]) if label >= 0 else ("#eee", "")


def _of_class(said: GraphsTold, node: int) -> tuple[str, str]:
    classes, true, found = said.schema.classes, int(said.truth[node]), int(said.probabilities[node].argmax())
    if true < 0:
        return "#ddd", ""
    return ("#cfe3f7", classes[true]) if true == found else ("#ffd8b0", f"{classes[found]} ({classes[true]})")


def layout(nodes: int, edges: list[tuple[int, int]], steps: int = 100, starts: int = 6) -> np.ndarray:
    """Where to draw nodes, (n, 2), an edge about 1 long.

    The distance of two nodes is to be that of their shortest path: the stress Σ w (‖p_i - p_j‖ - d)², w = d⁻², made
    small by majorisation (Gansner, Koren & North 2004). Rings may come out folded, so there are several beginnings, a
    circle and drawn ones, of which the least stress is kept. Parts that are not connected are held apart.
    """
    if nodes == 1:
        return np.zeros((1, 2))
    a, b = np.array(edges, np.int64).reshape(-1, 2).T
    d = shortest_path(
        coo_array((np.ones(len(a)), (a, b)), shape=(nodes, nodes)).tocsr(), directed=False, unweighted=True
    )
    near = d[np.isfinite(d)].max()
    d = np.where(np.isfinite(d), d, 0.6 * near + 1.5)
    w = np.where(d > 0, d, 1.0) ** -2.0
    np.fill_diagonal(w, 0)
    inverse = np.linalg.pinv(np.diag(w.sum(1)) - w)
    angle = 2 * np.pi * _in_order(d) / nodes
    drawn = np.random.default_rng(0)
    begun = [np.stack([np.cos(angle), np.sin(angle)], 1), *drawn.uniform(-1, 1, (starts - 1, nodes, 2))]
    found = []
    for p in begun:
        p = p * max(1.0, near / 2)
        for _ in range(steps):
            pull = -w * d / np.maximum(_apart(p), 1e-9)
            np.fill_diagonal(pull, 0)
            np.fill_diagonal(pull, -pull.sum(1))
            p = inverse @ (pull @ p)
        found.append((float((w * (_apart(p) - d) ** 2).sum()), len(found), p))
    p = min(found)[2]
    _, axes = np.linalg.eigh(np.cov((p - p.mean(0)).T))
    return (p - p.mean(0)) @ axes[:, ::-1]  # the longest way across


def _apart(p: np.ndarray) -> np.ndarray:
    """The distance of every two points, (n, n)."""
    return np.linalg.norm(p[:, None] - p, axis=2)


def _in_order(d: np.ndarray) -> np.ndarray:
    """Places of nodes on a circle: by their distance along the second eigenvector, so that neighbours are near."""
    order = np.argsort(np.linalg.eigh(np.exp(-d))[1][:, -2], kind="stable")
    return np.argsort(order)
