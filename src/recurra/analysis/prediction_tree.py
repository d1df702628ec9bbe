"""The prediction tree of a language model: several of the next symbols are kept, and each is read on from.

After "The quick brown f" a model holds "o" for likely and "a" for possible; after "fo" again it holds something for
likely. A path from the root is a text that the model may say, and the product of the probabilities along it is that
text's.
"""

import json
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from recurra.analysis.result import AnalysisError, check_whole
from recurra.nn.decoding import Reorder, Step, select_rows

if TYPE_CHECKING:
    from rich.tree import Tree

MOST_BRANCHES = 20_000
"""Branches of a tree, at most."""

MOST_DEPTH = 200
"""Symbols of a path, at most."""

SHOWN = {" ": "␣", "\n": "↵", "\t": "⇥", "\r": "␍", "": "∅"}
"""How a drawing writes symbols that cannot be seen."""


@dataclass(frozen=True)
class PredictionTree:
    """A symbol, how probable it is after what stands before it, and what may come after it.

    Attributes:
        symbol: The symbol; of the root, the whole text that was read.
        probability: Of this symbol after all that stand before it on its path; 1 for the root.
        children: The symbols that may follow, the most probable first; their probabilities add up to 1 at most.
    """

    symbol: str
    probability: float
    children: tuple["PredictionTree", ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """`{"symbol", "probability", "children"}`, the children likewise."""
        children = [child.to_dict() for child in self.children]
        return {"symbol": self.symbol, "probability": self.probability, "children": children}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    def paths(self) -> Iterator[tuple[list[str], float]]:
        """Every path from below the root to a symbol that nothing follows: its symbols, and its probability."""
        for child in self.children:
            if not child.children:
                yield [child.symbol], child.probability
            for path, probability in child.paths():
                yield [child.symbol, *path], child.probability * probability

    def merged(self, between: str = "") -> "PredictionTree":
        """The tree with each run of symbols in which nothing branches as one symbol, with the product of the
        probabilities. It is for drawing: what may follow no longer stands beside what else was likely.

        Args:
            between: What is written between two symbols: a blank for words.
        """
        children = []
        for child in self.children:
            text, probability = child.symbol, child.probability
            while len(child.children) == 1:
                child = child.children[0]
                text, probability = text + between + child.symbol, probability * child.probability
            children.append(PredictionTree(text, probability, child.children).merged(between))
        return PredictionTree(self.symbol, self.probability, tuple(children))

    def to_rich(self) -> "Tree":
        """A tree for rich's console: each symbol with its probability, and a bar as long as it."""
        from rich.text import Text
        from rich.tree import Tree

        root = Tree(Text(shown(self.symbol, edges=False), style="bold"), guide_style="dim")
        waiting: list[tuple[PredictionTree, Tree]] = [(self, root)]
        for tree, branch in waiting:
            widest = max((_columns(shown(child.symbol)) for child in tree.children), default=0)
            for child in tree.children:
                name = shown(child.symbol)
                label = Text(name + " " * (widest - _columns(name)), style="bold")
                label.append(f" {_percent(child.probability):>6} ", style="cyan")
                label.append(_bar(child.probability), style="cyan dim")
                waiting.append((child, branch.add(label)))
        return root

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=10_000, color_system=None, force_terminal=False, force_jupyter=False)
        with console.capture() as said:
            console.print(self.to_rich())
        return "\n".join(line.rstrip() for line in said.get().splitlines())

    def to_svg(self) -> str:
        """A drawing that stands for itself: branches as thick as they are probable, paths the fainter the less they
        are. It is legible on light and dark ground, and takes the colours of a page that has `--ink`, `--muted` and
        `--first`."""
        return _Drawing(self).svg()


def prediction_tree(
    step: Step,
    state: Any,
    last: Tensor,
    names: Sequence[str] | Callable[[int], str],
    *,
    prompt: str = "",
    depth: int = 8,
    width: int = 3,
    min_probability: float = 0.02,
    reorder: Reorder = select_rows,
) -> PredictionTree:
    """The most probable symbols after a text, those after each of them, and so on; all of one depth in one batch.

    Args:
        step: Takes a step: `step(symbols, state) -> (log_probabilities, state)`.
        state: The model's state before `last`, of one row.
        last: (1,), the last symbol of the text.
        names: What each symbol is called.
        prompt: The text, for the root.
        depth: Symbols of a path, at most.
        width: Symbols kept after each, at most.
        min_probability: Paths less probable than this are left out: those on which the product of the probabilities,
            from the root on, is smaller. So a tree goes on where the model is sure, and has few branches elsewhere.
        reorder: Chooses rows of the state.

    Raises:
        AnalysisError: An argument that cannot be, or a tree of more than 20,000 branches.

    Example:
        >>> p = torch.tensor([[0.1, 0.9], [0.6, 0.4]]).log()
        >>> tree = prediction_tree(lambda symbols, state: (p[symbols], state), None, torch.tensor([0]), "ab", depth=2)
        >>> {child.symbol: round(child.probability, 1) for child in tree.children}
        {'b': 0.9, 'a': 0.1}
    """
    check_whole("depth", depth, 1, MOST_DEPTH)
    check_whole("width", width)
    if (
        isinstance(min_probability, bool)
        or not isinstance(min_probability, (int, float))
        or not 0 <= min_probability <= 1
    ):
        raise AnalysisError(f"min_probability: a number from 0 to 1 is expected, not {min_probability!r}")
    name = names if callable(names) else names.__getitem__
    levels: list[list[tuple[int, int, float]]] = []  # of each depth: the branch above, the symbol, its probability
    symbols, branches, paths = last, 0, torch.ones(1, dtype=torch.float64, device=last.device)
    for _ in range(depth):
        with torch.no_grad():
            scores, state = step(symbols, state)
        # In float64, so that what is left out leaves a sum below 1 and not 1 and a rounding.
        chances, chosen = scores.double().softmax(-1).topk(min(width, scores.shape[1]))
        so_far = paths.unsqueeze(1) * chances
        kept = (so_far > 0) & (so_far >= min_probability)
        above = torch.arange(len(chosen), device=chosen.device).unsqueeze(1).expand_as(chosen)[kept]
        symbols, paths = chosen[kept], so_far[kept]
        levels.append(list(zip(above.tolist(), symbols.tolist(), chances[kept].tolist(), strict=True)))
        branches += len(symbols)
        if branches > MOST_BRANCHES:
            raise AnalysisError(
                f"the tree has more than {MOST_BRANCHES:,} branches at depth {len(levels)}; take a smaller depth or "
                "width, or a greater min_probability"
            )
        if not len(symbols):
            break
        state = reorder(state, above)
    below: list[list[PredictionTree]] = [[] for _ in levels[-1]]
    for d in reversed(range(len(levels))):
        above_it: list[list[PredictionTree]] = [[] for _ in (levels[d - 1] if d else [None])]
        for (parent, symbol, probability), children in zip(levels[d], below, strict=True):
            above_it[parent].append(PredictionTree(name(symbol), probability, tuple(children)))
        below = above_it
    return PredictionTree(prompt, 1.0, tuple(below[0]))


# --- drawings --------------------------------------------------------------------------------------------------------


def shown(symbol: str, edges: bool = True) -> str:
    """A symbol as a drawing writes it: what cannot be seen by a sign.

    Args:
        symbol: The symbol.
        edges: Whether blanks are written by a sign everywhere, or only where they are first or last.

    >>> shown(" a b\\n"), shown("a b ", edges=False)
    ('␣a␣b↵', 'a b␣')
    """
    if not symbol:
        return SHOWN[""]
    last = len(symbol) - 1
    return "".join(
        c if c == " " and not edges and 0 < i < last else SHOWN.get(c) or (c if c.isprintable() else "\ufffd")
        for i, c in enumerate(symbol)
    )


def _columns(text: str) -> int:
    """Columns of a text on a terminal, or in type of one width."""
    wide = (2 if unicodedata.east_asian_width(c) in "WF" else 0 if unicodedata.combining(c) else 1 for c in text)
    return sum(wide)


def _percent(probability: float) -> str:
    share = 100 * probability
    return f"{share:.0f} %" if share >= 9.5 else f"{share:.1f} %" if share >= 0.95 else f"{share:.2g} %"


def _bar(probability: float, length: int = 12) -> str:
    """A bar of eighths of a column."""
    eighths = max(1, round(8 * length * probability))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


_STYLE = """
.prediction-tree { color: var(--ink, #1d2126); font: 14px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono",
  "Noto Sans Mono CJK SC", monospace; }
.prediction-tree .branch { fill: none; stroke: var(--first, #2b6cb0); stroke-linecap: round; }
.prediction-tree .share { fill: var(--muted, #5a636e); font-size: 11px; text-anchor: end; }
.prediction-tree .symbol { fill: currentColor; font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .prediction-tree { color: var(--ink, #e7e9ec); }
  .prediction-tree .branch { stroke: var(--first, #6cabf2); }
  .prediction-tree .share { fill: var(--muted, #a3acb7); }
}
"""


class _Drawing:
    """A tree drawn from left to right: a column for each depth, a row for each path."""

    COLUMN, ROW, GAP, MARGIN, AROUND = 8.43, 27.0, 84.0, 12.0, 6.0  # of a glyph; between rows, labels; about a label
    LONGEST = 40
    """Glyphs of a label; a longer one loses its beginning."""

    def __init__(self, tree: PredictionTree) -> None:
        self.rows = 0
        self.places: list[tuple[PredictionTree, int, float, float, int]] = []  # depth, row, path's share, above
        self._place(tree, 0, 1.0, -1)
        depths = 1 + max(place[1] for place in self.places)
        widths = [0.0] * depths
        for each, depth, *_ in self.places:
            widths[depth] = max(widths[depth], self.COLUMN * _columns(self._label(each, depth)) + 2 * self.AROUND)
        self.lefts = [self.MARGIN + sum(widths[:d]) + self.GAP * d for d in range(depths)]
        self.width = self.lefts[-1] + widths[-1] + self.MARGIN
        self.height = 2 * self.MARGIN + self.ROW * self.rows

    def _place(self, tree: PredictionTree, depth: int, path: float, above: int) -> float:
        """Give a branch and all that follow it their rows; returns that of the branch."""
        own = len(self.places)
        self.places.append((tree, depth, 0.0, path, above))
        rows = [self._place(child, depth + 1, path * child.probability, own) for child in tree.children]
        if not rows:
            rows, self.rows = [float(self.rows)], self.rows + 1
        row = (rows[0] + rows[-1]) / 2
        self.places[own] = (tree, depth, row, path, above)
        return row

    def _label(self, tree: PredictionTree, depth: int) -> str:
        text = shown(tree.symbol, edges=depth > 0)
        return text if len(text) <= self.LONGEST else "…" + text[1 - self.LONGEST :]

    def svg(self) -> str:
        """The drawing."""
        branches, labels = [], []
        texts: list[str] = []
        for tree, depth, row, path, above in self.places:
            x, y = self.lefts[depth], self.MARGIN + self.ROW * (row + 0.5)
            label = self._label(tree, depth)
            width = self.COLUMN * _columns(label)
            texts.append(tree.symbol if above < 0 else texts[above] + tree.symbol)
            if above >= 0:
                begun, before, row_before, *_ = self.places[above]
                x0 = self.lefts[before] + self.COLUMN * _columns(self._label(begun, before)) + 2 * self.AROUND
                y0 = self.MARGIN + self.ROW * (row_before + 0.5)
                thick, level = 1 + 7 * tree.probability, x - 38  # where the branch is level, for its share to stand on
                way = f"M{x0:.1f},{y0:.1f} C{x0 + 26:.1f},{y0:.1f} {level - 26:.1f},{y:.1f} {level:.1f},{y:.1f}"
                branches.append(
                    f'<path class="branch" d="{way} H{x - 2:.1f}" stroke-width="{thick:.2f}" '
                    f'opacity="{0.2 + 0.8 * path**0.5:.2f}"/>'
                )
                share, height = _percent(tree.probability), y - thick / 2 - 3
                labels.append(f'<text class="share" x="{x - 3:.1f}" y="{height:.1f}">{share}</text>')
            told = f"{shown(texts[-1], edges=False)}: {_percent(path)}"
            labels.append(
                f'<text class="symbol" x="{x + self.AROUND:.1f}" y="{y + 4.8:.1f}" lengthAdjust="spacingAndGlyphs" '
                f'textLength="{width:.1f}" xml:space="preserve" opacity="{0.45 + 0.55 * path**0.5:.2f}">'
                f"{escape(label)}<title>{escape(told)}</title></text>"
            )
        name = escape(f"What may follow {shown(self.places[0][0].symbol, edges=False)}", quote=True)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="prediction-tree" role="img" aria-label="{name}" '
            f'width="{self.width:.0f}" height="{self.height:.0f}" viewBox="0 0 {self.width:.0f} {self.height:.0f}">\n'
            f"<style>{_STYLE}</style>\n" + "\n".join([*branches, *labels]) + "\n</svg>\n"
        )
