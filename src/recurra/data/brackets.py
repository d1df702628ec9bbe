"""Trees in the brackets of the Penn Treebank, a label at every node, as in the Stanford Sentiment Treebank."""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from recurra.data.delimited import short
from recurra.data.opening import first_lines, name_of, open_text
from recurra.data.records import Phrases, Records, register
from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings
from recurra.data.tokens import Numbering, TokenArray
from recurra.errors import DataError

_PIECES = re.compile(r"[()]|[^() \t\r\n\v\f]+")
"""Brackets, and what stands between them and ASCII blanks; words of the treebank hold other blanks (`2\u00a01\\/2`)."""

_BEGINS = re.compile(r"[ \t]*\([ \t]*(\([ \t]*)?[^() \t\r\n\v\f]+([ \t]*\(|[ \t]+[^() \t\r\n\v\f]+[ \t]*\))")
"""How a line begins that begins a tree: `(3 (2 …`, `(2 word)` or, with a bracket around it, `( (S …`."""


@dataclass(frozen=True)
class Trees:
    """N ordered trees with a label at every node and a word at every leaf, laid end to end: M nodes, L leaves.

    Children stand before their parent (postorder), so that one pass over the nodes goes from the leaves to the root,
    which is the last of its tree.

    Attributes:
        words: The leaves' words as written, L of them, in reading order.
        symbols: The different labels, in order of first appearance.
        labels: (M,) int32, the label of each node, an index into `symbols`.
        parents: (M,) int64, the parent of each node, an index among all M; -1 for a root.
        spans: (M, 2) int64, the leaves below each node: `words[first:stop]`. A leaf has one, and is nobody's parent.
        offsets: (N + 1,) int64, the bounds of the trees among the nodes.
        lines: (N,) int64, where each tree begins in its file, counted from 1.
    """

    words: list[str]
    symbols: list[str]
    labels: np.ndarray
    parents: np.ndarray
    spans: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def roots(self) -> np.ndarray:
        """(N,) int64, the root of each tree."""
        return self.offsets[1:] - 1

    def children(self) -> tuple[np.ndarray, np.ndarray]:
        """The children of all nodes, in order, laid end to end, and their bounds, (M + 1,): those of node i are
        `nodes[bounds[i]:bounds[i + 1]]`."""
        nodes = np.argsort(self.parents, kind="stable")
        below = nodes[self.parents[nodes] >= 0]
        return below, np.searchsorted(self.parents[below], np.arange(len(self.parents) + 1))


class _Open(NamedTuple):
    """A bracket that is not closed yet."""

    line: int
    column: int
    label: int
    first: int
    children: list[int]


class _Parser:
    """Reads lines into the arrays of `Trees`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.words: list[str] = []
        self.symbols = Numbering()
        self.met: list[tuple[int, int]] = []  # line and column at which each label is met first
        self.labels, self.parents = array("i"), array("q")
        self.first, self.stop = array("q"), array("q")
        self.offsets, self.lines = array("q", [0]), array("q")
        self.open: list[_Open] = []
        self._wanted: tuple[int, int] | None = None  # an opening bracket whose label comes next
        self._around: tuple[int, int] | None = None  # one without a label around a whole tree, as the Penn Treebank has

    def add(self, line: int, text: str) -> None:
        """Take in a line; a tree may go on over several, of which the further ones are indented."""
        if (self.open or self._around) and text.startswith("("):
            raise self._unclosed()
        for piece in _PIECES.finditer(text):
            self._take(piece[0], line, piece.start() + 1)

    def end(self) -> Trees:
        """All that was read."""
        if self.open or self._wanted or self._around:
            raise self._unclosed()
        if not self.lines:
            raise DataError(f"{self.name}: holds no trees; expected such as (3 (2 It) (4 works)), a label first.")
        return Trees(
            self.words,
            list(self.symbols),
            np.frombuffer(self.labels, np.int32),
            np.frombuffer(self.parents, np.int64),
            np.stack([np.frombuffer(self.first, np.int64), np.frombuffer(self.stop, np.int64)], axis=1),
            np.frombuffer(self.offsets, np.int64),
            np.frombuffer(self.lines, np.int64),
        )

    def _take(self, piece: str, line: int, column: int) -> None:
        if self._wanted:
            if piece == ")":
                raise self._fault(*self._wanted, "the tree is empty, expected a label and a word: (2 word).")
            if piece == "(":
                if self.open or self._around:
                    raise self._fault(line, column, "found '(', expected the label of the bracket before it.")
                self._around, self._wanted = self._wanted, (line, column)
                return
            self._begin(piece)
        elif piece == "(":
            if self._around and not self.open:
                raise self._fault(line, column, "found a second tree within a bracket without a label, expected ')'.")
            if self.open and not self.open[-1].children and len(self.words) > self.open[-1].first:
                raise self._second(line, column, "'('")
            self._wanted = line, column
        elif not self.open and self._around and piece == ")":
            self._around = None
        elif not self.open:
            what = "')', which closes nothing" if piece == ")" else repr(short(piece))
            raise self._fault(line, column, f"found {what}; expected a tree, which begins with '('.")
        elif piece == ")":
            self._close()
        else:
            if len(self.words) > self.open[-1].first:
                raise self._second(line, column, repr(short(piece)))
            self.words.append(piece)

    def _begin(self, label: str) -> None:
        assert self._wanted is not None
        code = self.symbols[label]
        if code == len(self.met):
            self.met.append(self._wanted)
        if not self.open:
            self.lines.append(self._wanted[0])
        self.open.append(_Open(*self._wanted, code, len(self.words), []))
        self._wanted = None

    def _close(self) -> None:
        node, index = self.open.pop(), len(self.labels)
        if len(self.words) == node.first:
            label = list(self.symbols)[node.label]
            raise self._fault(node.line, node.column, f"the tree ({short(label)}) is empty, expected a word or trees.")
        self.labels.append(node.label)
        self.first.append(node.first)
        self.stop.append(len(self.words))
        self.parents.append(-1)
        for child in node.children:
            self.parents[child] = index
        if self.open:
            self.open[-1].children.append(index)
        else:
            self.offsets.append(len(self.labels))

    def _second(self, line: int, column: int, found: str) -> DataError:
        node = self.open[-1]
        after = "trees" if node.children else repr(short(self.words[-1]))
        return self._fault(
            line, column, f"found {found} after {after}; a bracket holds one word, or trees: (3 (2 New) (2 York))."
        )

    def _unclosed(self) -> DataError:
        missing = len(self.open) + (self._wanted is not None) + (self._around is not None)
        line, column = self._around or (self.open[0][:2] if self.open else self._wanted or (0, 0))
        what = "one ')' is" if missing == 1 else f"{missing} ')' are"
        return self._fault(line, column, f"the tree that begins here does not end: {what} missing.")

    def _fault(self, line: int, column: int, said: str) -> DataError:
        return DataError(f"{self.name}, line {line}, column {column}: {said}")


def read_trees(source: Path | BinaryIO, encoding: str = "utf-8") -> Trees:
    """The trees of a file: `(label word)`, or `(label tree tree …)`. A tree goes on over lines that are indented,
    and may stand within a bracket without a label, as those of the Penn Treebank do: `( (S …))`.

    Raises:
        DataError: No trees; brackets that do not match; a bracket that is empty, or holds several words or words
            beside trees; labels of which some are whole numbers and others none. With line and column.
    """
    name = name_of(source)
    with open_text(source, encoding, newline="\n") as stream:
        return parse_trees(enumerate(stream, 1), name)


def parse_trees(lines: Iterable[tuple[int, str]], name: str) -> Trees:
    """The trees of some numbered lines, see `read_trees`; `name` is what messages call them."""
    parser = _Parser(name)
    for line, text in lines:
        parser.add(line, text)
    trees = parser.end()
    whole = [symbol.isdecimal() and symbol.isascii() for symbol in trees.symbols]
    if any(whole) and not all(whole):
        odd = whole.index(False) if whole[0] else whole.index(True)
        (line, column), found = parser.met[odd], trees.symbols[odd]
        expected = "a whole number" if whole[0] else "none"
        raise DataError(
            f"{name}, line {line}, column {column}: found the label {short(found)!r}, expected {expected} as before: "
            f"{short(trees.symbols[0])}."
        )
    return trees


class Brackets:
    """A file of labelled trees: the words of each tree are a sequence, and its root's label is the sequence's.

    With `data.phrases` the training part has a sequence for every node of its trees: the words below it, and its label.
    Further data may also be plain texts, a line each.
    """

    name = "brackets"
    summary = "trees in brackets, a label at every node: (3 (2 It) (4 works)), as in the Stanford Sentiment Treebank"

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the first line begins a tree."""
        return path.is_file() and _begins_a_tree(first_lines(path, 20, settings.encoding))

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read the trees' words and labels, see `Format.read`.

        Raises:
            DataError: As `read_trees`; a task other than classify; another unit than words.
        """
        name = name_of(source)
        if task != "classify":
            raise DataError(f"{name}: holds trees with a label each; the task {task} finds nothing to predict in them.")
        if settings.unit != "word":
            raise DataError(f"data.unit: {settings.unit}; the leaves of the trees of {name} are words: unit = word.")
        with open_text(source, settings.encoding, newline="\n") as stream:
            lines = enumerate(stream, 1)
            if schema is None:
                return _records(parse_trees(lines, name), name, settings, phrases=settings.phrases != "none")
            head = list(islice(lines, 20))
            if _begins_a_tree([text for _, text in head]):
                return _records(parse_trees(chain(head, lines), name), name, settings, phrases=False)
            return _plain_texts(chain(head, lines), name, settings)


def _begins_a_tree(lines: Iterable[str]) -> bool:
    """Whether the first line that is not blank does."""
    return _BEGINS.match(next((line for line in lines if line.strip()), "")) is not None


def _records(trees: Trees, name: str, settings: DataSettings, *, phrases: bool) -> Records:
    """The trees' words as sequences; with `phrases` those of the other nodes behind them, in the order of the trees."""
    number = Numbering()
    words = [plain(word) for word in trees.words]
    if settings.lowercase:
        words = [word.lower() for word in words]
    codes = np.fromiter(map(number.__getitem__, words), np.int32, len(words))
    nodes = trees.roots
    of = np.arange(len(trees))
    if phrases:
        inner = np.ones(len(trees.labels), bool)
        inner[trees.roots] = False
        nodes = np.concatenate([nodes, np.flatnonzero(inner)])
        of = np.concatenate([of, np.repeat(of, np.diff(trees.offsets))[inner]])
    first, stop = trees.spans[nodes].T
    offsets = np.concatenate([[0], np.cumsum(stop - first)])
    values = codes[np.repeat(first - offsets[:-1], stop - first) + np.arange(offsets[-1])]
    labels = trees.labels[nodes]
    lines = trees.lines[of]
    records = Records(
        values,
        offsets,
        lambda index: f"{name}, line {lines[index]}",
        symbols=list(number),
        labels=[(trees.symbols[label],) for label in labels.tolist()],
    )
    if phrases:
        kinds = _kinds(values, offsets, labels) if settings.phrases == "distinct" else np.arange(len(nodes))
        records.phrases = Phrases(sentence=of, whole=np.arange(len(nodes)) < len(trees), kind=kinds)
    return records


def _kinds(values: np.ndarray, offsets: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """A number for each sequence, the same where words and label are."""
    met: dict[tuple[bytes, int], int] = {}
    bounds, said = offsets.tolist(), labels.tolist()
    found = (met.setdefault((values[bounds[i] : bounds[i + 1]].tobytes(), said[i]), i) for i in range(len(said)))
    return np.fromiter(found, np.int64, len(said))


def _plain_texts(lines: Iterable[tuple[int, str]], name: str, settings: DataSettings) -> Records:
    """Every line a text, without a label."""
    tokens, places = TokenArray(settings.unit, settings.lowercase), array("q")
    blank = None
    for line, text in lines:
        if not text.strip():
            blank = blank or line
            continue
        if blank is not None or not tokens.add(text):
            raise DataError(
                f"{name}, line {blank or line}: the text is empty; every sequence needs at least one token."
            )
        places.append(line)
    return Records(tokens.values, tokens.offsets, lambda i: f"{name}, line {places[i]}", symbols=tokens.symbols)


_ESCAPED = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}", "``": '"', "''": '"'}


def plain(word: str) -> str:
    r"""A word of the treebank as it stands in plain text.

    >>> plain("-LRB-"), plain(r"and\/or"), plain("``")
    ('(', 'and/or', '"')
    """
    return _ESCAPED.get(word) or word.replace(r"\/", "/").replace(r"\*", "*")


def bracketed(word: str) -> str:
    """A word as it may stand within brackets: its own are written out, and no ASCII blank parts it.

    >>> bracketed("("), bracketed("f(x)"), bracketed("New York")
    ('-LRB-', 'f-LRB-x-RRB-', 'New\\xa0York')
    """
    word = word.replace("(", "-LRB-").replace(")", "-RRB-")
    return re.sub(r"[ \t\r\n\v\f]", "\u00a0", word)


BRACKETS = register(Brackets())
