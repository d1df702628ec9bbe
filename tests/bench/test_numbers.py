"""How times are taken and what is made of them."""

import gc
import math
from collections import Counter

import pytest

from recurra.bench import timing
from recurra.bench.figures import Figure, Goal, means
from recurra.bench.report import quantity
from recurra.bench.shapes import SHAPES, SIX, Shape, parse
from recurra.bench.suites import SUITES
from recurra.bench.timing import Effort, Ratio, interleaved, ratio
from recurra.errors import RecipeError


@pytest.fixture(autouse=True)
def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "PAUSE", 0.0)
    monkeypatch.setattr(timing, "LEAST", 0.0)


def test_a_ratio_is_that_of_the_medians_and_its_spread_that_within_rounds() -> None:
    assert ratio([6.0, 4.0, 20.0], [2.0, 4.0, 1.0]) == Ratio(3.0, low=2.0, high=11.5)
    assert ratio([3.0], [2.0]) == Ratio(1.5, 1.5, 1.5)


def test_everybody_is_timed_once_a_round_in_changing_order() -> None:
    turns: list[str] = []
    runs = {name: lambda name=name: turns.append(name) for name in "abc"}
    samples = interleaved(runs, Effort(exactly=20))
    assert {name: len(own) for name, own in samples.items()} == dict.fromkeys("abc", 20)
    rounds = ["".join(turns[i : i + 3]) for i in range(3, 63, 3)]  # behind one of each, that tells how long it takes
    assert {"".join(sorted(one)) for one in rounds} == {"abc"}
    assert len(set(rounds)) == 6
    assert len(turns) == 63


def test_quick_work_is_repeated_within_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, counts = [0.0], Counter[str]()

    def work(name: str, seconds: float) -> None:
        counts[name] += 1
        clock[0] += seconds

    monkeypatch.setattr(timing, "LEAST", 1.0)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    samples = interleaved({"quick": lambda: work("quick", 0.25), "slow": lambda: work("slow", 3.0)}, Effort(exactly=2))
    assert samples == {"quick": [0.25, 0.25], "slow": [3.0, 3.0]}
    assert counts == {"quick": 1 + 2 * 4, "slow": 1 + 2}


def test_time_is_spent_but_a_least_number_of_rounds_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def work() -> None:
        clock[0] += 1.0

    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    assert len(interleaved({"a": work}, Effort(seconds=0.5, rounds=4))["a"]) == 4
    assert len(interleaved({"a": work}, Effort(seconds=9.5, rounds=4))["a"]) == 10


def test_no_garbage_is_collected_within_a_sample() -> None:
    seen: list[bool] = []
    interleaved({"a": lambda: seen.append(gc.isenabled())}, Effort(exactly=1))
    assert set(seen) == {False}
    assert gc.isenabled()


def test_shapes_by_name_and_by_sizes() -> None:
    assert parse("rows") == Shape(128, 28, 28, 128)
    assert parse("b20t35i650h650l2") == SHAPES["wordlm"]
    assert (str(parse("B1T2I3H4")), str(parse("wordlm")), SHAPES["wordlm"].sizes) == (
        *("B1T2I3H4", "wordlm"),
        "B20T35I650H650L2",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [("row", "unknown shape 'row'; did you mean 'rows'?"), ("B0T2I3H4", "every size is 1 or more"), ("B1T2", "B32T50")],
)
def test_a_shape_that_cannot_be_is_refused(text: str, said: str) -> None:
    with pytest.raises(RecipeError) as error:
        parse(text)
    assert said in str(error.value)


def test_work_grows_as_the_products_do() -> None:
    assert Shape(2, 3, 5, 7).work == 2 * 3 * 7 * (5 + 7)
    assert Shape(2, 3, 5, 7, layers=2).work == 2 * 3 * 7 * (5 + 7 + 7 + 7)


def figure(cell: str, value: float, shape: Shape = SHAPES["rows"], against: str = "torch.nn") -> Figure:
    samples = {"ours": [1.0], against: [value]}
    return Figure("train", cell, shape, against, Ratio(value, value, value), samples, "ours", against)


def test_a_mean_is_geometric_and_of_what_it_concerns() -> None:
    goal = Goal("train", "torch.nn", ("lstm",), (SHAPES["rows"], SHAPES["small"]), least=1.0, mean=2.0)
    figures = [figure("lstm", 2.0), figure("lstm", 8.0, SHAPES["small"]), figure("elman", 100.0)]
    figures += [figure("lstm", 100.0, SHAPES["wide"]), figure("lstm", 100.0, against="jax")]
    (mean,) = means(figures, [goal, Goal("train", "keras", ("lstm",), (SHAPES["rows"],), mean=1.0)])
    assert math.isclose(mean.value, 4.0)
    assert (mean.count, mean.whole, mean.reached) == (2, 2, True)
    (short,) = means(figures[:1], [goal])
    assert (short.count, short.whole) == (1, 2)


def test_a_bound_is_reached_on_either_side() -> None:
    floor, ceiling = (
        Goal("train", "torch.nn", (), (), least=1.25),
        Goal("length", "half the steps", (), (), most=2.1),
    )
    assert [floor.reached(v) for v in (1.2, 1.25, float("nan"))] == [False, True, False]
    assert [ceiling.reached(v) for v in (2.2, 2.1, float("nan"))] == [False, True, False]
    assert (str(floor), str(ceiling)) == ("≥ 1.25", "≤ 2.1")


@pytest.mark.parametrize("name", SUITES)
def test_goals_concern_what_their_suite_measures(name: str) -> None:
    suite = SUITES[name]
    assert suite.goals
    for goal in suite.goals:
        assert goal.suite == name
        assert set(goal.cells) <= set(suite.cells)
        assert set(goal.shapes) <= set(suite.shapes)
        assert (goal.least, goal.most, goal.mean) != (None, None, None)
    assert len(SIX) == 6


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (2.5, "s", "2.5 s"),
        (0.01234, "s", "12.3 ms"),
        (0.25, "s", "250 ms"),
        (4.2e-7, "s", "0.42 µs"),
        (5e6, "B", "5.0 MB"),
    ],
)
def test_quantities_are_told_in_units_that_suit_them(value: float, unit: str, said: str) -> None:
    assert quantity(value, unit) == said
