"""docs/trees.md, and the scripts of its figures."""

import numpy as np

from pages import check_examples
from recurra.data.tree_reader import TreeReader
from recurra.data.trees import TreeSettings
from recurra.tasks.tree import Labelled
from scripts import benchmark


def test_the_example_prints_what_the_page_says() -> None:
    assert len(check_examples("trees.md")) == 1


def test_the_script_compares_the_same_model() -> None:
    """It looks itself whether both have the same gradients."""
    script = benchmark("trees")
    found = script.compared(script.random_trees(30, 6, 0), batches=1, rounds=1)
    assert found["level by level"][0] > found["node by node"][0]


def test_the_script_counts_errors() -> None:
    trees = [
        {"tokens": ["a", "b", None, "c", None], "parents": [2, 2, 4, 4, -1], "labels": [0, 1, 1, None, 0]},
        {"tokens": ["a", None, "b"], "parents": [1, -1, 1], "labels": [1, 0, 0]},
    ]
    whole = TreeSettings(validation_fraction=0, test_fraction=0)
    parts = TreeReader().parts(trees, "tree", whole)
    told = np.eye(2)[[0, 0, 0, 1, 1, 1, 0, 1]]  # wrong: 1, 2 and 4 of the first, 2 of the second; of 3 nothing is known
    wrong, words, bad = benchmark("tree_errors").counted(Labelled(parts.train, parts.schema, told))
    assert wrong.tolist() == [False, True, True, False, True, False, False, True]
    assert words.tolist() == [1, 1, 2, 1, 3, 1, 2, 1]
    assert bad.tolist() == [-1, -1, 1, -1, 1, -1, 1, -1]
    [row] = benchmark("tree_errors").shares(wrong, [("2+", words >= 2)])
    assert (row["count"], row["wrong"]) == (3, 2 / 3)
    assert 0 < row["low"] < 2 / 3 < row["high"] < 1
