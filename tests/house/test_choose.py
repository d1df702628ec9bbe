"""docs/choose.md and the script behind its figures: tasks that are what they say, a table of every cell."""

import math
import re
from pathlib import Path

import pytest
import torch

from recurra.cells import CATALOGUE
from scripts import benchmark

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "choose.md").read_text("utf-8")


choose = benchmark("choose")


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a line of the page."""
    below = PAGE[PAGE.index(title) + len(title) :]
    found = re.search(r"\n\n((?:\|.*\n)+)", below)
    assert found
    return [[column.strip() for column in line.strip("|").split("|")] for line in found[1].splitlines()][2:]


@pytest.mark.parametrize("title", ["The same number of units", "The same number of parameters"])
def test_both_tables_have_every_cell_once_and_figures_that_can_be(title: str) -> None:
    table = rows(title)
    assert [row[0] for row in table] == [f"`{name}`" for name in CATALOGUE]
    for _, _, adding, counting, digits in table:
        assert float(adding) < 1
        assert 0.1 < float(digits) <= 1
        counts = [int(n) for n in counting.split()]
        assert len(counts) == 3
        assert counts == sorted(counts)
        assert max(counts) <= choose.FARTHEST


def test_units_of_equal_parameters_are_those_of_the_table() -> None:
    tasks = [make() for make in choose.TASKS.values()]
    for name, units, *_ in rows("The same number of parameters"):
        cell = CATALOGUE[name.strip("`")]
        found = dict.fromkeys(choose.units_of_equal_parameters(cell, task.inputs) for task in tasks)
        assert units == ", ".join(map(str, found))


def test_cells_that_the_page_names_exist() -> None:
    named = re.findall(r"`(\w+)`", PAGE)
    assert set(named) - set(CATALOGUE) <= {"bidirectional", "skip", "init", "num_layers", "zoneout", "OMP_NUM_THREADS"}
    assert len(set(named) & set(CATALOGUE)) == len(CATALOGUE)


def test_sums_are_of_two_marked_numbers_one_in_each_half() -> None:
    x, y = choose.sums(200, torch.Generator().manual_seed(0))
    assert x.shape == (50, 200, 2)
    marks = x[..., 1]
    assert torch.equal(marks[:25].sum(0), torch.ones(200))
    assert torch.equal(marks[25:].sum(0), torch.ones(200))
    torch.testing.assert_close(y, torch.where(marks > 0, x[..., 0], 0.0).sum(0))
    assert y.var() == pytest.approx(1 / 6, rel=0.3), "what the mean alone misses"


def test_what_may_follow_in_a_string() -> None:
    x, y = choose.strings(3)
    assert x.shape == (6, 3, 2)
    symbols = ["".join("ab"[int(v.argmax())] for v in x[:, row] if v.any()) for row in range(3)]
    assert symbols == ["ab", "aabb", "aaabbb"]
    follow = [
        "|".join("".join("abE"[k] for k in range(3) if v[k] > 0) for v in y[:, row] if v[0] >= 0) for row in (0, 1, 2)
    ]
    assert follow == ["ab|E", "ab|ab|b|E", "ab|ab|ab|b|b|E"]


def test_counting_stops_at_the_first_string_that_is_wrong() -> None:
    task = choose.counting()
    _, y = choose.strings(choose.FARTHEST)
    right = (y.clamp(min=0) - 0.5).unsqueeze(0)
    wrong = right.clone()
    wrong[0, 9, 4] *= -1  # the last symbol of the fifth string
    assert task.score(lambda _: torch.cat([right, wrong])) == [choose.FARTHEST, 4]
    _, y = task.batch(torch.Generator())
    perfect = (y.clamp(min=0) - 0.5) * 100
    assert task.loss(perfect, y) < 1e-6
    in_padding = torch.where(y < 0, 50.0, perfect)
    assert task.loss(in_padding, y) < 1e-6


def test_each_networks_gradient_is_clipped_by_itself() -> None:
    gradients = [torch.tensor([[3.0, 0.0], [0.1, 0.0], [math.inf, 1.0]]), torch.tensor([[4.0], [0.2], [1.0]])]
    choose.clip(gradients)
    torch.testing.assert_close(gradients[0], torch.tensor([[0.6, 0.0], [0.1, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(gradients[1], torch.tensor([[0.8], [0.2], [0.0]]))


def test_a_network_learns_and_its_seeds_are_apart() -> None:
    torch.manual_seed(0)
    task = choose.digits()
    scores = choose.trained(task, CATALOGUE["gru"], 16, seeds=2)
    assert min(scores) > 0.7
    assert scores[0] != scores[1]


def test_masked_entries_are_no_parameters() -> None:
    clockwork = CATALOGUE["clockwork"](periods=(1, 2))
    assert choose.count(clockwork, 3, 4) == 4 * 3 + (16 - 4) + 4
    assert choose.count(CATALOGUE["lstm"], 3, 4) == 4 * (4 * 3 + 16 + 4)
