"""Each remedy for exploding and vanishing gradients: without it a recipe fails, with it the same recipe learns.

The cases are those of docs/remedies.md, run by the script behind it, from fewer seeds.
"""

import re
import statistics
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from scripts import benchmark

CHECKOUT = Path(__file__).parents[2]
PAGE = CHECKOUT / "docs" / "remedies.md"


remedies = benchmark("remedies")

SLOW = ("error_norm = 1", 'cell = "lstm_layer_norm"')
"""Those of which one seed is enough here."""

PAIRS = [(key, remedy) for key, case in remedies.CASES.items() for remedy in case.remedies]


@cache
def score(key: str, remedy: str | None) -> float:
    """The median over seeds."""
    seeds = range(1 if remedy in SLOW else 3)
    return statistics.median(remedies.run(remedies.CASES[key], remedy, seed).score for seed in seeds)


@pytest.mark.parametrize(("key", "remedy"), PAIRS, ids=[f"{key}: {remedy}" for key, remedy in PAIRS])
def test_without_it_the_recipe_fails_and_with_it_the_recipe_learns(key: str, remedy: str) -> None:
    fails, learns = remedies.CASES[key].bounds
    assert score(key, None) > fails
    assert score(key, remedy) < learns


# --- the page --------------------------------------------------------------------------------------------------------


def rows(key: str) -> list[list[str]]:
    """The table of a case, without its head."""
    page = PAGE.read_text("utf-8")
    found = re.search(
        rf"^### {re.escape(remedies.CASES[key].title)}\n.*?\n((?:\|[^\n]*\n)+)", page, re.MULTILINE | re.DOTALL
    )
    assert found, f"the page has no table of {key}"
    return [[column.strip() for column in line.strip("|").split(" | ")] for line in found[1].splitlines()][2:]


@pytest.mark.parametrize("key", remedies.CASES)
def test_the_page_has_every_case_with_what_its_recipes_reached(key: str) -> None:
    case, table = remedies.CASES[key], rows(key)
    assert [name.strip("`") for name, *_ in table] == [remedies.FAILS, *case.remedies, *case.others]
    middles = [float(score.split()[0]) for _, _, score in table]
    assert middles[0] > case.bounds[0]
    assert max(middles[1 : 1 + len(case.remedies)]) < case.bounds[1]
    assert f"](figures/remedies-{key}.svg)" in PAGE.read_text("utf-8")
    assert (PAGE.parent / "figures" / f"remedies-{key}.svg").is_file()


def test_what_explodes_and_what_vanishes_does_so_before_any_training() -> None:
    first = {key: float(rows(key)[0][1]) for key in remedies.CASES}
    assert min(first["large-u"], first["large-u-lstm"]) > 100
    assert first["dead"] == 0.0
    assert max(first[key] for key in ("small-u", "small-u-leaky", "saturated", "forgets")) < 1e-8


def test_the_problems_are_what_they_say() -> None:
    x, labels = remedies.sums(3)
    assert x.shape == (200, 40, 1)
    assert [label == "above" for label in labels] == [bool(row.sum() > 0) for row in x]
    x, labels = remedies.recall(3)
    assert x.shape == (200, 30, 1)
    assert [label == "above" for label in labels] == [bool(row[0, 0] > 0) for row in x]
    assert abs(x[:, 1:]).max() < 0.6
    assert 60 < labels.count("above") < 140


def test_a_run_that_cannot_go_on_has_an_endless_loss() -> None:
    case = remedies.CASES["large-u"]
    outcome = remedies.run(replace(case, fails={**case.fails, "model.init": {"U": "identity*1e9"}}), None, 0)
    assert outcome.score == float("inf")
    assert len(outcome.losses) < 200
