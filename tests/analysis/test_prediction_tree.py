"""The prediction tree: against all paths one by one, and its drawings."""

import json
import math
import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from recurra.analysis.prediction_tree import MOST_BRANCHES, PredictionTree, prediction_tree, shown
from recurra.analysis.result import AnalysisError
from recurra.nn import Recurrent

SYMBOLS = ["a", "b", " ", "\n", "<", "é", "語"]
V = len(SYMBOLS)


class Model(nn.Module):
    """A GRU over symbols."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.rows_seen: list[int] = []
        self.embedding, self.recurrent, self.out = nn.Embedding(V, 4), Recurrent("gru", 4, 6), nn.Linear(6, V)
        for p in self.parameters():
            nn.init.normal_(p.requires_grad_(False))

    def step(self, symbols: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.rows_seen.append(len(symbols))
        y, state = self.recurrent.step(self.embedding(symbols), state)
        return self.out(y).log_softmax(-1), state

    def after(self, text: list[int]) -> np.ndarray:
        """The distribution after a text, read whole, in float64."""
        y, _ = self.recurrent(self.embedding(torch.tensor(text)))
        scores = self.out(y[-1]).double().numpy()
        return np.exp(scores) / np.exp(scores).sum()


def by_hand(model: Model, text: list[int], depth: int, width: int, least: float, path: float = 1.0) -> list[Any]:
    """The children after a text, each by reading the whole of it anew."""
    if not depth:
        return []
    p = model.after(text)
    kept = sorted(range(V), key=lambda v: -p[v])[:width]
    return [
        (SYMBOLS[v], p[v], by_hand(model, [*text, v], depth - 1, width, least, path * p[v]))
        for v in kept
        if path * p[v] >= least
    ]


def check_same(tree: PredictionTree, expected: list[Any]) -> None:
    assert [c.symbol for c in tree.children] == [symbol for symbol, _, _ in expected]
    for child, (_, probability, children) in zip(tree.children, expected, strict=True):
        assert child.probability == pytest.approx(probability, rel=1e-4)
        check_same(child, children)


def grown(seed: int = 0, **options: Any) -> PredictionTree:
    model = Model(seed)
    state = model.step(torch.tensor([1]), None)[1]
    model.rows_seen.clear()
    return prediction_tree(model.step, state, torch.tensor([0]), SYMBOLS, prompt="ba", **options)


@pytest.mark.parametrize(
    ("depth", "width", "least"), [(1, 3, 0.0), (4, 2, 0.0), (5, V, 0.03), (9, 3, 0.02), (3, 99, 0)]
)
def test_a_tree_is_that_of_all_paths_one_by_one(depth: int, width: int, least: float) -> None:
    for seed in range(3):
        tree = grown(seed, depth=depth, width=width, min_probability=least)
        assert (tree.symbol, tree.probability) == ("ba", 1.0)
        check_same(tree, by_hand(Model(seed), [1, 0], depth, width, least))


def test_every_depth_is_one_batch() -> None:
    model = Model()
    prediction_tree(model.step, None, torch.tensor([0]), SYMBOLS, depth=4, width=2, min_probability=0)
    assert model.rows_seen == [1, 2, 4, 8]


@given(st.integers(0, 50), st.integers(1, 4), st.integers(1, 9), st.floats(0, 0.5))
def test_what_holds_for_every_tree(seed: int, depth: int, width: int, least: float) -> None:
    tree = grown(seed, depth=depth, width=width, min_probability=least)

    def check(branch: PredictionTree, left: int) -> None:
        shares = [c.probability for c in branch.children]
        assert math.fsum(shares) <= 1 + 1e-12
        assert shares == sorted(shares, reverse=True)
        assert len(shares) <= width
        assert not shares or left
        for child in branch.children:
            check(child, left - 1)

    check(tree, depth)
    paths = list(tree.paths())
    assert all(probability >= least * (1 - 1e-9) for _, probability in paths)
    assert math.fsum(probability for _, probability in paths) <= 1 + 1e-9
    merged = list(tree.merged().paths())
    assert [probability for _, probability in merged] == pytest.approx([probability for _, probability in paths])
    assert ["".join(path) for path, _ in merged] == ["".join(path) for path, _ in paths]


def test_json_has_three_keys_on_every_branch() -> None:
    tree = PredictionTree(
        "f", 1.0, (PredictionTree("o", 0.75, (PredictionTree('"', 0.5),)), PredictionTree("\n", 0.25))
    )
    assert json.loads(tree.to_json()) == {
        "symbol": "f",
        "probability": 1.0,
        "children": [
            {"symbol": "o", "probability": 0.75, "children": [{"symbol": '"', "probability": 0.5, "children": []}]},
            {"symbol": "\n", "probability": 0.25, "children": []},
        ],
    }


def test_runs_in_which_nothing_branches_become_one() -> None:
    leaf = PredictionTree("x", 0.5)
    tree = PredictionTree("q", 1.0, (PredictionTree("u", 0.9, (PredictionTree("i", 0.5, (leaf, leaf)),)), leaf))
    assert tree.merged() == PredictionTree("q", 1.0, (PredictionTree("ui", 0.45, (leaf, leaf)), leaf))
    assert tree.merged(" ").children[0].symbol == "u i"


def test_printed() -> None:
    tree = PredictionTree(
        "a b", 1.0, (PredictionTree("o", 0.5, (PredictionTree("xy", 0.013),)), PredictionTree("語", 0.25))
    )
    assert str(tree).splitlines() == [
        "a b",
        "├── o    50 % ██████",
        "│   └── xy  1.3 % ▏",
        "└── 語   25 % ███",
    ]


def test_what_cannot_be_seen_has_a_sign() -> None:
    assert shown("\n \t") == "↵␣⇥"
    assert shown(" to be ", edges=False) == "␣to be␣"
    assert shown("\x1b[2J") == "\ufffd[2J"  # so that a symbol does nothing to a terminal
    assert shown("") == "∅"


def test_drawn() -> None:
    tree = grown(1, depth=5, width=4, min_probability=0.01)
    root = ElementTree.fromstring(tree.to_svg())
    name = "{http://www.w3.org/2000/svg}"
    branches, texts = root.findall(f"{name}path"), root.findall(f"{name}text")

    def walk(branch: PredictionTree) -> list[PredictionTree]:
        return [each for child in branch.children for each in (child, *walk(child))]

    every = walk(tree)
    assert len(branches) == len(every) > 20
    thick = [float(b.get("stroke-width", 0)) for b in branches]
    assert thick == pytest.approx([1 + 7 * each.probability for each in every], abs=0.006)
    symbols = [t for t in texts if t.get("class") == "symbol"]
    assert [t.text for t in symbols] == [shown("ba"), *(shown(each.symbol) for each in every)]
    assert sum(t.get("class") == "share" for t in texts) == len(every)
    width, height = float(root.get("width", 0)), float(root.get("height", 0))
    assert all(0 < float(t.get("x", -1)) < width and 0 < float(t.get("y", -1)) < height for t in texts)
    places = [(t.get("x"), t.get("y")) for t in symbols]
    assert len(set(places)) == len(places)  # none upon another
    leaves = sorted(float(t.get("y", 0)) for t, each in zip(symbols[1:], every, strict=True) if not each.children)
    assert np.diff(leaves) == pytest.approx(27)
    assert "prefers-color-scheme: dark" in tree.to_svg()


def test_a_drawing_of_any_text_is_well_formed() -> None:
    tree = PredictionTree("<&\x00\"'" + "x" * 500, 1.0, (PredictionTree("</text>", 1.0),))
    root = ElementTree.fromstring(tree.to_svg())
    assert float(root.get("width", 0)) < 600  # a long prompt loses its beginning
    assert [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")][-1] == "</text>"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"depth": 0}, "depth: a whole number from 1 to 200 is expected, not 0"),
        ({"width": 0}, "width: a whole number above 0 is expected, not 0"),
        ({"min_probability": 1.5}, "min_probability: a number from 0 to 1 is expected, not 1.5"),
        ({"min_probability": math.nan}, "min_probability: a number from 0 to 1 is expected, not nan"),
        (
            {"depth": 9, "width": 7, "min_probability": 0},
            f"the tree has more than {MOST_BRANCHES:,} branches at depth 6; take a smaller depth or width",
        ),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], words: str) -> None:
    with pytest.raises(AnalysisError, match=re.escape(words)):
        grown(**options)


def test_a_deep_tree() -> None:
    tree = grown(depth=200, width=1, min_probability=0)
    assert len(next(iter(tree.paths()))[0]) == 200
    assert json.loads(tree.to_json()) == tree.to_dict()
    assert len(str(tree).splitlines()) == 201
    assert tree.to_svg()
    assert len(tree.merged().children) == 1
