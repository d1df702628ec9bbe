"""Comparisons of made run folders whose answers are known."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize_scalar

from recurra.errors import RunError
from recurra.run import stream
from recurra.run.compare import compare, paired_share_interval, share_interval, welch_interval
from recurra.tasks.scores import mean_interval, regress_scores

Z = 1.959963984540054


def write_run(
    folder: Path,
    rows: list[dict[str, Any]] | None,
    test: dict[str, float],
    task: str = "classify",
    seed: int = 0,
    recipe: dict[str, Any] | None = None,
    **summary: Any,
) -> Path:
    """A run folder with the files that a comparison reads."""
    folder.mkdir(parents=True)
    (folder / "recipe.toml").write_text(f'name = "made"\ntask = "{task}"\n')
    whole = {
        "task": task,
        "recipe": {"name": folder.name, "task": task, "seed": seed, **(recipe or {})},
        "test": test,
        "test_intervals": {},
        "validation": {},
        "baselines": {},
        "sha256": "0" * 64,
        "seed": seed,
        "parameters": 1234,
        "train_seconds": 2.5,
    }
    (folder / "summary.json").write_text(json.dumps(whole | summary))
    if rows is not None:
        with (folder / "test_predictions.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def classified(folder: Path, targets: str, predictions: str, **more: Any) -> Path:
    """A run that tested one letter an item."""
    rows = [
        {"index": i, "target": t, "prediction": p} for i, (t, p) in enumerate(zip(targets, predictions, strict=True))
    ]
    right = sum(t == p for t, p in zip(targets, predictions, strict=True))
    return write_run(folder, rows, {"accuracy": right / len(targets), "f1": 0.5}, **more)


def regressed(folder: Path, errors: np.ndarray, targets: np.ndarray, **more: Any) -> Path:
    """A run that predicted a number at each of the steps, (N, T)."""
    rows = [
        {"index": i, "step": t, "target": targets[i, t], "prediction": targets[i, t] + errors[i, t]}
        for i in range(len(errors))
        for t in range(errors.shape[1])
    ]
    scores = regress_scores(targets.ravel(), (targets + errors).ravel())
    return write_run(folder, rows, scores, task="regress", **more)


def several(
    folder: Path, values: list[float], targets: str = "ab" * 10, first_seed: int = 0, same: bool = True
) -> Path:
    """A folder of runs that differ in their seed, with these accuracies."""
    folder.mkdir()
    seeds = list(range(first_seed, first_seed + len(values)))
    for seed, value in zip(seeds, values, strict=True):
        rows = [{"index": i, "target": t if same else t.upper(), "prediction": "a"} for i, t in enumerate(targets)]
        write_run(folder / f"seed-{seed}", rows, {"accuracy": value}, seed=seed)
    (folder / "recipe.toml").write_text('name = "made"\ntask = "classify"\n')
    whole = {
        "task": "classify",
        "recipe": {"name": "made", "task": "classify"},
        "seeds": seeds,
        "runs": [f"seed-{seed}" for seed in seeds],
        "test": {"accuracy": float(np.mean(values))},
    }
    (folder / "summary.json").write_text(json.dumps(whole))
    return folder


def folded(folder: Path, values: list[float]) -> Path:
    """A folder of runs of one seed, each with another fold for its test part."""
    several(folder, values)
    for fold in range(len(values)):
        path = folder / f"seed-{fold}" / "summary.json"
        told = json.loads(path.read_text())
        told |= {"seed": 0, "recipe": {**told["recipe"], "data": {"folds": len(values), "fold": fold}}}
        path.write_text(json.dumps(told))
    path = folder / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seeds": [0], "folds": len(values)}))
    return folder


class TestIntervals:
    @given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200))
    def test_paired_share_agrees_with_mcnemar(self, gained: int, lost: int, both: int) -> None:
        """The interval leaves out 0 exactly where McNemar's statistic (gained − lost)² / (gained + lost) exceeds z²."""
        if not gained + lost + both:
            both = 1
        low, high = paired_share_interval(gained, lost, gained + lost + both)
        found = (gained - lost) / (gained + lost + both)
        assert -1 <= low <= found + 1e-9
        assert found - 1e-9 <= high <= 1
        statistic = abs(gained - lost) / math.sqrt(gained + lost) if gained + lost else 0.0
        if abs(statistic - Z) > 1e-6:
            assert (low > 1e-12 or high < -1e-12) == (statistic > Z)

    @given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))
    def test_paired_share_turns_over_with_the_order(self, gained: int, lost: int, both: int) -> None:
        total = gained + lost + both
        low, high = paired_share_interval(gained, lost, total)
        assert paired_share_interval(lost, gained, total) == pytest.approx((-high, -low), abs=1e-6)

    @pytest.mark.parametrize(("gained", "lost", "total"), [(12, 3, 100), (5, 9, 40), (1, 0, 30)])
    def test_paired_share_inverts_the_score_test(self, gained: int, lost: int, total: int) -> None:
        """At each bound the score statistic is ±z, with the share of losses that makes the counts likeliest."""
        for bound, sign in zip(paired_share_interval(gained, lost, total), (1, -1), strict=True):

            def against(q: float, bound: float = bound) -> float:
                rest = max(1 - 2 * q - bound, 1e-300)
                return -(
                    gained * math.log(max(q + bound, 1e-300))
                    + lost * math.log(max(q, 1e-300))
                    + (total - gained - lost) * math.log(rest)
                )

            span = (max(0.0, -bound), (1 - bound) / 2)
            likeliest: Any = minimize_scalar(against, bounds=span, method="bounded", options={"xatol": 1e-12})
            q = float(likeliest.x)
            score = (gained - lost - total * bound) / math.sqrt(total * (2 * q + bound * (1 - bound)))
            assert score == pytest.approx(sign * Z, abs=1e-3)

    def test_unpaired_share_known_value(self) -> None:
        # Newcombe 1998, Statistics in Medicine 17:873-890, table II, 56/70 less 48/80, method 10
        assert share_interval(56, 70, 48, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)

    def test_means_as_scipy_has_them(self) -> None:
        generator = np.random.default_rng(0)
        a, b = generator.normal(1.0, 0.3, 6), generator.normal(0.5, 1.0, 9)
        expected = stats.ttest_ind(a, b, equal_var=False).confidence_interval()
        assert welch_interval(a, b) == pytest.approx((expected.low, expected.high))
        expected = stats.ttest_rel(a, b[:6]).confidence_interval()
        assert mean_interval(a - b[:6]) == pytest.approx((expected.low, expected.high))
        assert welch_interval(np.ones(3), np.zeros(3)) == (1.0, 1.0)


class TestSingleRuns:
    def test_same_items_are_paired(self, tmp_path: Path) -> None:
        targets = "abc" * 20
        first = classified(tmp_path / "first", targets, "abc" * 16 + "bbb" * 4)
        other = classified(tmp_path / "other", targets, "abd" + "abc" * 18 + "bbb")
        found = compare([first, other])
        assert (found.metric, found.higher_is_better) == ("accuracy", True)
        assert [run.name for run in found.runs] == ["first", "other"]
        [difference] = found.differences
        assert difference.value == pytest.approx((57 - 52) / 60)
        assert difference.paired
        assert difference.interval == pytest.approx(paired_share_interval(6, 1, 60))
        assert "6 right only here, 1 only there" in difference.method

    @pytest.mark.parametrize(
        ("other", "paired"),
        [
            ({"fingerprint": "b", "sources": {"test": "0.2 of b.csv"}}, False),
            ({"fingerprint": "b", "sources": {"test": "0.2 of a.csv"}}, True),  # trained on more, tested on the same
            ({"fingerprint": "a", "sources": {"test": "0.2 of c.csv"}}, True),  # the same file under another name
        ],
    )
    def test_other_data_with_the_same_targets_are_not(
        self, tmp_path: Path, other: dict[str, Any], paired: bool
    ) -> None:
        mine = {"fingerprint": "a", "sources": {"test": "0.2 of a.csv"}}
        first = classified(tmp_path / "first", "ab" * 20, "ab" * 15 + "ba" * 5, data=mine)
        second = classified(tmp_path / "second", "ab" * 20, "ab" * 19 + "ba", data=other)
        [difference] = compare([first, second]).differences
        assert difference.paired == paired
        assert ("unpaired" in difference.method) != paired

    def test_other_items_are_not(self, tmp_path: Path) -> None:
        first = classified(tmp_path / "first", "ab" * 20, "ab" * 15 + "ba" * 5)
        other = classified(tmp_path / "other", "ba" * 20, "ba" * 19 + "ab")
        [difference] = compare([first, other]).differences
        assert not difference.paired
        assert difference.interval == pytest.approx(share_interval(38, 40, 30, 40))
        assert "unpaired" in difference.method

    def test_ids_tell_items_apart(self, tmp_path: Path) -> None:
        for name in ("x", "y"):
            rows = [{"index": i, "id": f"{name}{i}", "target": "a", "prediction": "a"} for i in range(10)]
            write_run(tmp_path / name, rows, {"accuracy": 1.0})
        assert not compare([tmp_path / "x", tmp_path / "y"]).differences[0].paired

    def test_unknown_labels_are_wrong(self, tmp_path: Path) -> None:
        """An unknown label is written as nothing; labels that look like numbers stay as they are written."""
        rows = [{"index": i, "target": "" if i < 2 else "01", "prediction": "01"} for i in range(10)]
        wrong = [{**row, "prediction": "1"} for row in rows]
        write_run(tmp_path / "x", rows, {"accuracy": 0.8})
        write_run(tmp_path / "y", wrong, {"accuracy": 0.0})
        assert "0 right only here, 8 only there" in compare([tmp_path / "x", tmp_path / "y"]).differences[0].method

    def test_errors_of_the_same_sequences(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        targets = generator.normal(size=(80, 5))
        errors = generator.normal(size=(80, 5)) * np.exp(generator.normal(size=(80, 1)))
        first = regressed(tmp_path / "first", errors, targets)
        other = regressed(tmp_path / "other", 0.8 * errors, targets)
        apart = regressed(tmp_path / "apart", 0.8 * errors, targets + 1)
        found = compare([first, other, apart])
        paired, unpaired = found.differences
        assert (found.metric, found.higher_is_better) == ("rmse", False)
        assert (paired.paired, unpaired.paired) == (True, False)
        assert paired.value == pytest.approx(-0.2 * math.sqrt(np.mean(errors**2)))
        assert paired.interval is not None
        assert unpaired.interval is not None
        # Drawn together, 0.8 rmse − rmse is −0.2 rmse: the interval is a fifth of that of the rmse itself.
        by_sequence = (errors**2).sum(1)
        draws = [math.sqrt(by_sequence[generator.integers(0, 80, 80)].sum() / 400) for _ in range(4000)]
        low, high = -0.2 * np.quantile(draws, [0.975, 0.025])
        assert paired.interval == pytest.approx((low, high), rel=0.06)
        assert np.ptp(unpaired.interval) > 4 * np.ptp(paired.interval)
        assert "other: paired" in found.to_text(120)
        assert "better than first" in found.to_text(120)

    def test_several_numbers_a_sequence(self, tmp_path: Path) -> None:
        for name, error in (("x", 1.0), ("y", 3.0)):
            rows = [
                {"index": i, "target_a": i, "target_b": 0.0, "prediction_a": i + error, "prediction_b": error}
                for i in range(9)
            ]
            write_run(tmp_path / name, rows, {"rmse": error}, task="regress")
        [difference] = compare([tmp_path / "x", tmp_path / "y"]).differences
        assert difference.value == 2.0
        assert difference.interval == pytest.approx((2.0, 2.0))

    def test_too_few_sequences(self, tmp_path: Path) -> None:
        zero = np.zeros((1, 50))
        first, other = regressed(tmp_path / "x", zero + 1, zero), regressed(tmp_path / "y", zero + 2, zero)
        [difference] = compare([first, other]).differences
        assert difference.interval is None
        assert difference.method == "no interval: only 1 test sequence"

    def test_recipes(self, tmp_path: Path) -> None:
        a = classified(tmp_path / "x", "ab", "ab", recipe={"model": {"cell": "gru", "size": 8}, "train": {"lr": 0.1}})
        b = classified(tmp_path / "y", "ab", "ab", recipe={"model": {"cell": "lstm", "size": 8}}, seed=4)
        found = compare([a, b])
        assert found.recipe == {"seed": [0, 4], "model.cell": ["gru", "lstm"], "train.lr": [0.1, None]}
        assert compare([a, a]).recipe == {}
        assert "the recipes do not differ" in compare([a, a]).to_text()


class TestSeeds:
    values = ([0.90, 0.92, 0.91, 0.95], [0.93, 0.94, 0.96, 0.96])

    def test_the_same_seeds_and_items_are_paired(self, tmp_path: Path) -> None:
        first, other = (several(tmp_path / name, v) for name, v in zip("xy", self.values, strict=True))
        found = compare([first, other])
        expected = stats.ttest_rel(self.values[1], self.values[0]).confidence_interval()
        [difference] = found.differences
        assert difference.paired
        assert difference.interval == pytest.approx((expected.low, expected.high))
        assert found.runs[0].seeds == [0, 1, 2, 3]
        assert found.runs[0].value == pytest.approx(0.92)
        assert found.runs[0].deviation == pytest.approx(np.std(self.values[0], ddof=1))
        assert found.runs[0].train_seconds == 2.5

    @pytest.mark.parametrize("how", [{"first_seed": 7}, {"same": False}])
    def test_other_seeds_or_items_are_not(self, tmp_path: Path, how: dict[str, Any]) -> None:
        first, other = several(tmp_path / "x", self.values[0]), several(tmp_path / "y", self.values[1], **how)
        expected = stats.ttest_ind(self.values[1], self.values[0], equal_var=False).confidence_interval()
        [difference] = compare([first, other]).differences
        assert not difference.paired
        assert difference.interval == pytest.approx((expected.low, expected.high))

    def test_folds_are_paired_one_by_one(self, tmp_path: Path) -> None:
        """The interval by Nadeau & Bengio's eq. 9, with test parts a third the size of what is left to learn from."""
        paths = [folded(tmp_path / name, v) for name, v in zip("xy", self.values, strict=True)]
        found = compare(paths)
        [difference] = found.differences
        gaps = np.array(self.values[1]) - self.values[0]
        half = stats.t.ppf(0.975, 3) * math.sqrt((1 / 4 + 1 / 3) * gaps.var(ddof=1))
        assert difference.paired
        assert difference.interval == pytest.approx((gaps.mean() - half, gaps.mean() + half))
        assert "paired over 4 runs" in difference.method
        assert (found.runs[0].folds, found.runs[0].seeds) == (4, [0])
        half = stats.t.ppf(0.975, 3) * math.sqrt((1 / 4 + 1 / 3) * np.var(self.values[0], ddof=1))
        assert found.runs[0].interval == pytest.approx((0.92 - half, 0.92 + half))
        assert "folds" in found.to_text(200)
        [difference] = compare([paths[0], several(tmp_path / "z", self.values[1])]).differences
        assert difference.method == "no interval: not the same folds of the same data"

    def test_one_run_against_several(self, tmp_path: Path) -> None:
        first, other = several(tmp_path / "x", self.values[0]), classified(tmp_path / "y", "ab", "ab")
        [difference] = compare([first, other]).differences
        assert difference.value == pytest.approx(0.08)
        assert difference.interval is None
        assert difference.method == "no interval: one run against several seeds"

    def test_a_single_seed(self, tmp_path: Path) -> None:
        first, other = several(tmp_path / "x", [0.9]), several(tmp_path / "y", [0.8])
        [difference] = compare([first, other]).differences
        assert (difference.interval, difference.method) == (None, "no interval: a single seed")
        assert "no interval: a single seed" in compare([first, other]).to_text(100)


def along(folder: Path, rmse: float, rows: int = 100, targets: int = 90, plain: float = 1.5, **summary: Any) -> Path:
    """A run that learnt from a stream."""
    told = {"rows": rows, "so_far": {"rmse": rmse, "mae": rmse / 2}, "plain": {"mean so far": {"rmse": plain}}}
    return write_run(folder, None, {}, task="regress", **{"stream": told, "samples_seen": targets, **summary})


class TestStreams:
    def test_scores_along_the_stream_are_compared(self, tmp_path: Path) -> None:
        first, other = along(tmp_path / "x", 0.75), along(tmp_path / "y", 0.5, recipe={"model": {"cell": "lstm"}})
        found = compare([first, other])
        assert [run.value for run in found.runs] == [0.75, 0.5]
        assert found.runs[1].test == {"rmse": 0.5, "mae": 0.25}
        [difference] = found.differences
        assert (difference.value, difference.interval, difference.paired) == (-0.25, None, False)
        assert difference.method.startswith("no interval: a stream is one sequence")
        assert found.recipe == {"model.cell": [None, "lstm"]}
        text = found.to_text(120)
        assert text.startswith("rmse along the stream, over 90 targets (lower is better)")
        assert "no interval" in text
        assert json.loads(found.to_json())["targets"] == 90

    def test_other_targets_are_told(self, tmp_path: Path) -> None:
        found = compare([along(tmp_path / "x", 0.75), along(tmp_path / "y", 0.5, plain=1.25)])
        assert found.differences[0].method == "no interval: not the same stream, its targets were others"

    def test_runs_as_they_are_made(self, tmp_path: Path) -> None:
        text = "a,kind\n" + "".join(f"{i % 7},{'odd' if i % 2 else 'even'}\n" for i in range(40))
        options = {"data.classes": ["even", "odd"], "model.hidden_size": 3, "train.threads": 1}
        runs = [
            stream.train(
                "classify",
                io.BytesIO(text.encode()),
                out=tmp_path / cell,
                settings={**options, "model.cell": cell},
                write=lambda _: None,
            )
            for cell in ("gru", "elman")
        ]
        found = compare([run.path for run in runs])
        assert [run.value for run in found.runs] == [run.summary["stream"]["so_far"]["accuracy"] for run in runs]
        assert (found.metric, found.targets) == ("accuracy", 40)
        assert found.recipe == {"model.cell": ["gru", "elman"]}

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            ({"rows": 120}, r"y: its stream had 120 rows, that of .*x 100; scores along streams can be compared over"),
            ({"targets": 9}, r"y: its stream had 9 targets, that of .*x 90; scores along"),
            ({"stream": []}, r"summary\.json: is damaged: 'stream' or 'samples_seen' is missing"),
            ({"samples_seen": None}, r"summary\.json: is damaged: 'stream' or 'samples_seen' is missing"),
            ({"stream": {"rows": 1, "so_far": {}}}, r"is damaged: 'plain' of 'stream' is missing"),
            ({"stream": {"rows": 1, "so_far": {"rmse": "low"}, "plain": {}}}, r"a score in 'stream' is not a number"),
            ({"stream": {"rows": 100, "so_far": {}, "plain": {}}}, r"y: it has no rmse to compare; no target came"),
        ],
    )
    def test_what_cannot_be_compared_is_told(self, tmp_path: Path, other: dict[str, Any], message: str) -> None:
        runs = [along(tmp_path / "x", 0.75), along(tmp_path / "y", 0.5, **other)]
        with pytest.raises(RunError, match=message) as caught:
            compare(runs)
        assert len(str(caught.value).splitlines()) <= 2

    def test_a_stream_and_a_test_part_are_two_things(self, tmp_path: Path) -> None:
        one = along(tmp_path / "x", 0.75)
        other = regressed(tmp_path / "y", np.ones((30, 4)), np.zeros((30, 4)))
        for runs in ([one, other], [other, one]):
            with pytest.raises(RunError, match=r"x: it learnt from a stream, and .*y did not; a score along a stream"):
                compare(runs)


class TestOutput:
    def test_text(self, tmp_path: Path) -> None:
        first = classified(tmp_path / "[red]x", "ab" * 100, "ab" * 75 + "ba" * 25)
        other = classified(tmp_path / "y", "ab" * 100, "ab" * 99 + "ba", test_intervals={"accuracy": [0.96, 0.99]})
        text = compare([first, other]).to_text(150)
        lines = [line.split() for line in text.splitlines()]
        assert lines[0] == ["test", "accuracy", "(higher", "is", "better)"]
        assert ["[red]x", "0.7500", "0.5000", "1,234", "2.5", "s"] in lines
        low, high = paired_share_interval(48, 0, 200)
        [row] = [line for line in lines if line and line[0] == "y"]
        assert row == f"y 0.9900 0.9600 to 0.9900 +0.2400 {low:+.4f} to {high:+.4f} 0.5000 1,234 2.5 s".split()
        assert "better than [red]x" in text

    @pytest.mark.parametrize("width", [80, 150])
    def test_no_number_is_broken_on_a_terminal(self, tmp_path: Path, width: int) -> None:
        first = classified(tmp_path / "first", "ab" * 100, "ab" * 75 + "ba" * 25)
        other = classified(tmp_path / "other", "ab" * 100, "ab" * 99 + "ba", test_intervals={"accuracy": [0.96, 0.99]})
        lines = compare([first, other]).to_text(width).splitlines()
        assert max(map(len, lines)) <= width
        rows = [line for line in lines if line.startswith("other ")]
        assert len(rows) == (2 if width == 80 else 1)
        for number in ("0.9900", "0.9600 to 0.9900", "+0.2400", "1,234", "2.5 s"):
            assert any(number in row for row in rows)

    def test_steps_are_drawn_by_whole_sequences(self, tmp_path: Path) -> None:
        """Each of 60 sequences is wholly right or wholly wrong, so that its 40 steps tell no more than one would."""
        right = {"first": np.arange(60) < 30, "other": np.arange(60) % 4 > 0}  # 0.5 and 0.75
        for name, whole in right.items():
            rows = [
                {"index": i, "step": t, "target": "a", "prediction": "a" if whole[i] else "b"}
                for i in range(60)
                for t in range(40)
            ]
            write_run(tmp_path / name, rows, {"accuracy": float(whole.mean())})
        [found] = compare([tmp_path / "first", tmp_path / "other"]).differences
        gap = right["other"].astype(float) - right["first"]
        assert found.value == pytest.approx(0.25)
        assert found.paired
        assert found.method == "paired, the same 60 sequences (bootstrap)"
        assert found.interval is not None
        half = Z * float(gap.std()) / math.sqrt(60)
        assert found.interval == pytest.approx((0.25 - half, 0.25 + half), abs=0.25 * half)

    def test_text_says_when_nothing_can_be_told(self, tmp_path: Path) -> None:
        first = classified(tmp_path / "x", "ab" * 20, "ab" * 19 + "aa")
        other = classified(tmp_path / "y", "ab" * 20, "ab" * 19 + "bb")
        assert "0 is inside: the runs cannot be told apart" in compare([first, other]).to_text(120)

    def test_runs_of_one_name_are_told_apart(self, tmp_path: Path) -> None:
        first, other = classified(tmp_path / "a" / "run", "ab", "ab"), classified(tmp_path / "b" / "run", "ab", "ab")
        assert [run.name for run in compare([first, other]).runs] == [str(first), str(other)]

    def test_json(self, tmp_path: Path) -> None:
        first, other = classified(tmp_path / "x", "ab" * 9, "ab" * 9), classified(tmp_path / "y", "ab" * 9, "ba" * 9)
        found = json.loads(compare([first, other]).to_json())
        assert found["runs"][1]["value"] == 0.0
        assert found["differences"][0]["interval"] == pytest.approx(paired_share_interval(0, 18, 18))


def ready(tmp_path: Path) -> list[Path]:
    return [classified(tmp_path / "x", "ab", "ab"), classified(tmp_path / "y", "ab", "ab")]


def other_summary(**changes: Any) -> Callable[[list[Path]], None]:
    def change(runs: list[Path]) -> None:
        path = runs[1] / "summary.json"
        whole = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({key: value for key, value in whole.items() if value is not None}))

    return change


def other_table(text: bytes) -> Callable[[list[Path]], object]:
    return lambda runs: (runs[1] / "test_predictions.csv").write_bytes(text)


class TestFaults:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            (lambda runs: runs.pop(), r"two or more run folders are expected, not 1"),
            (lambda runs: runs.append(runs[0] / "no"), r"no: no such file or folder"),
            (lambda runs: (runs[1] / "recipe.toml").unlink(), r"y: is no run folder"),
            (lambda runs: (runs[1] / "summary.json").unlink(), r"y: .*not finished"),
            (lambda runs: (runs[1] / "summary.json").write_text("{"), r"summary\.json.*: is damaged"),
            (lambda runs: (runs[1] / "summary.json").write_text("[]"), r"summary\.json: is damaged"),
            (other_summary(test=None), r"summary\.json: is damaged: 'test' is missing"),
            (other_summary(seed="one"), r"summary\.json: is damaged: 'seed' is missing or not what it should be"),
            (other_summary(test={"accuracy": "high"}), r"summary\.json: is damaged: a score in 'test' is not a number"),
            (other_summary(task="dance"), r"summary\.json: is damaged: there is no task 'dance'"),
            (other_summary(task="regress", test={"rmse": 1.0}), r"y: its task is regress, that of .*x is classify"),
            (other_summary(test={}), r"y: it has no test accuracy to compare; its data had no test part"),
            (lambda runs: (runs[1] / "test_predictions.csv").unlink(), r"y.test_predictions\.csv: is missing"),
            (other_table(b""), r"test_predictions\.csv: is damaged"),
            (other_table(b"index,target,prediction\n"), r"test_predictions\.csv: is damaged: .* or no row"),
            (other_table(b"index,target\n0,a\n"), r"is damaged: it has no column 'prediction'"),
            (other_table(b"target,prediction\na,a\n"), r"is damaged: it has no column 'index'"),
            (other_table(b"index,target,prediction\n0,a,b,c\n"), r"test_predictions\.csv: is damaged"),
            (other_table(b"index,target,prediction\n0,\xff\xfe,b\n"), r"test_predictions\.csv: is damaged"),
        ],
    )
    def test_are_named(self, tmp_path: Path, damage: Callable[[list[Path]], object], message: str) -> None:
        runs = ready(tmp_path)
        damage(runs)
        with pytest.raises(RunError, match=message) as caught:
            compare(runs)
        assert len(str(caught.value).splitlines()) <= 2

    def test_words_where_numbers_should_be(self, tmp_path: Path) -> None:
        rows = [{"index": i, "target": "high", "prediction": 1.0} for i in range(3)]
        for name in "xy":
            write_run(tmp_path / name, rows, {"rmse": 1.0}, task="regress")
        with pytest.raises(RunError, match=r"column 'target' is missing or holds no numbers"):
            compare([tmp_path / "x", tmp_path / "y"])


# --- texts ------------------------------------------------------------------------------------------------------------


def read(folder: Path, losses: list[float | None], symbols: list[int], **more: Any) -> Path:
    """A language model that read some lines."""
    rows = [
        {"index": i, "symbols": n, "loss": loss, "perplexity": None}
        for i, (n, loss) in enumerate(zip(symbols, losses, strict=True))
    ]
    total = sum(n * (loss or 0.0) for n, loss in zip(symbols, losses, strict=True)) / sum(symbols)
    return write_run(folder, rows, {"loss": total}, task="language", main_metric="loss", **more)


def test_language_models_are_compared_line_by_line(tmp_path: Path) -> None:
    """One that has the same loss more at every symbol has that as its difference, whichever lines are drawn."""
    random = np.random.default_rng(0)
    symbols = [0, *random.integers(1, 40, 30).tolist()]
    losses = [None, *random.uniform(1, 3, 30).tolist()]
    more = [None if loss is None else loss + 0.25 for loss in losses]
    found = compare([read(tmp_path / "x", losses, symbols), read(tmp_path / "y", more, symbols)])
    (difference,) = found.differences
    assert difference.value == pytest.approx(0.25)
    assert difference.paired
    assert difference.interval == pytest.approx((0.25, 0.25))
    other = compare([read(tmp_path / "a", losses, symbols), read(tmp_path / "b", losses[:-1], symbols[:-1])])
    assert not other.differences[0].paired


def test_translators_are_compared_by_sentences_drawn_anew(tmp_path: Path) -> None:
    from sacrebleu.metrics.bleu import BLEU

    true = [
        f"the {a} sees the {b} in the garden today" for a in ("cat", "dog", "bird") for b in ("sun", "moon", "tree")
    ]
    good, bad = list(true), [text.replace("garden today", "house now") for text in true]
    folders = []
    for name, said in (("x", bad), ("y", good), ("z", bad)):
        rows: list[dict[str, Any]] = [
            {"index": i, "source": "s", "target": a, "prediction": b, "score": -1.0}
            for i, (a, b) in enumerate(zip(true, said, strict=True))
        ]
        score = BLEU().corpus_score(said, [true]).score
        folders.append(write_run(tmp_path / name, rows, {"bleu": score}, task="translate", main_metric="bleu"))
    better, same = compare(folders).differences
    assert better.value == pytest.approx(100 - BLEU().corpus_score(bad, [true]).score)
    assert better.interval is not None
    assert 0 < better.interval[0] <= better.value <= better.interval[1]
    assert same.interval == (0.0, 0.0)


def test_runs_without_a_test_part_are_compared_by_their_validation_part(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, None, {}, task="language", validation={"loss": loss}, main_metric="loss",
                  validation_intervals={"loss": [loss - 0.1, loss + 0.1]})
        for name, loss in (("x", 1.5), ("y", 1.4))
    ]  # fmt: skip
    found = compare(runs)
    assert found.differences[0].value == pytest.approx(-0.1)
    assert found.differences[0].interval is None
    assert found.runs[0].interval == (1.4, 1.6)
    assert found.to_text().startswith("validation loss (lower is better)")
    tested = write_run(tmp_path / "z", None, {"loss": 1.3}, task="language", main_metric="loss")
    with pytest.raises(RunError, match=r"x: it has no test loss to compare"):
        compare([runs[0], tested])
