"""Where in its trees a network errs: by how many words stand below a node, and by how many of its children are wrong.

    recurra train sst-tree && python benchmarks/tree_errors.py runs/sst-tree --plot errors.svg --tree tree.svg

A node is told from its children's states. If errors were carried up, a node above wrong children would be wrong more
often than one above right ones. Leaves have no children and are left out of that.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import recurra
from recurra.run.sections.tree import drawing
from recurra.tasks.scores import accuracy_interval
from recurra.tasks.tree import Labelled

LENGTHS = ((1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 1000))
LARGEST = 25
"""Nodes of the tree that is drawn, at most."""


def counted(said: Labelled) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each node: whether it is told wrongly, words below it, and children that are told wrongly (-1 of a leaf)."""
    data = said.data
    assert data.labels is not None
    labels = data.labels.numpy()
    wrong = (said.probabilities.argmax(1) != labels) & (labels >= 0)
    above = data.over[wrong & (data.over >= 0)]
    bad = np.bincount(above, minlength=len(wrong))
    return wrong, data.words_below, np.where(data.child_counts > 0, bad, -1)


def shares(wrong: np.ndarray, groups: list[tuple[str, np.ndarray]]) -> list[dict[str, Any]]:
    """A row for each group of nodes: how many, the share that is wrong, and its interval (Wilson 1927)."""
    rows = []
    for name, chosen in groups:
        k, n = int(wrong[chosen].sum()), int(chosen.sum())
        low, high = accuracy_interval(k, n)
        rows.append({"nodes": name, "count": n, "wrong": k / n, "low": low, "high": high})
    return rows


def drawn(said: Labelled, wrong: np.ndarray) -> int:
    """The tree that is drawn: of those with at most `LARGEST` nodes and a wrong root, that with the fewest others."""
    counts = np.add.reduceat(wrong, said.data.offsets.numpy()[:-1])
    lengths, roots = said.data.lengths.numpy(), wrong[said.data.roots.numpy()]
    fitting = np.flatnonzero((lengths <= LARGEST) & (lengths >= 13) & roots)
    return int(fitting[np.argmin(counts[fitting] * 1000 - lengths[fitting])])


def plot(tables: dict[str, list[dict[str, Any]]], file: Path) -> None:
    """Two panels of shares with their intervals."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 9}
    figure, axes = plt.subplots(1, 2, figsize=(7, 2.8), layout="constrained", sharey=True)
    for panel, (title, rows) in zip(axes, tables.items(), strict=True):
        values = np.array([row["wrong"] for row in rows])
        bounds = np.array([[row["wrong"] - row["low"], row["high"] - row["wrong"]] for row in rows]).T
        panel.bar(range(len(rows)), 100 * values, yerr=100 * bounds, color="C0", ecolor="0.3", capsize=3)
        panel.set_xticks(range(len(rows)), [row["nodes"] for row in rows])
        panel.set_xlabel(title)
        panel.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("% of nodes told wrongly")
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    """Measure, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run of the task tree")
    parser.add_argument("--data", help="trees with labels; the Stanford treebank's test part when left out")
    parser.add_argument("--plot", type=Path, help="draw the shares into this file (SVG)")
    parser.add_argument("--tree", type=Path, help="draw a tree whose root is wrong into this file (SVG)")
    given = parser.parse_args()
    run = recurra.load(given.run)
    part, _ = run.task.reader.part("sst" if given.data is None else given.data, run.schema, targets=True)
    said = run.task.predict(run.network, part)
    wrong, words, bad = counted(said)
    by_words = [
        (str(low) if low == high else f"{low}–{high}" if high < 1000 else f"{low}+", (words >= low) & (words <= high))
        for low, high in LENGTHS
    ]
    tables = {
        "words below the node": shares(wrong, by_words),
        "children told wrongly": shares(wrong, [(str(k), bad == k) for k in range(int(bad.max()) + 1)]),
    }
    for title, rows in tables.items():
        print(title)
        for row in rows:
            print("  {nodes:>6}  {count:>7,} nodes  {wrong:6.1%} wrong ({low:.1%} to {high:.1%})".format(**row))
    if given.plot is not None:
        plot(tables, given.plot)
    if given.tree is not None:
        text = str(drawing(said, drawn(said, wrong)))
        text = text.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" ', 1)
        given.tree.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
