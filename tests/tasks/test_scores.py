"""Scores against scikit-learn, SciPy and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn import metrics

from recurra.errors import RunError
from recurra.tasks import scores


def made(items: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and probabilities that lean towards them."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, classes, items)
    logits = generator.normal(size=(items, classes)) + 1.5 * np.eye(classes)[targets]
    return targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


class TestAccuracyInterval:
    @given(st.integers(1, 10_000), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
    def test_is_wilsons_closed_form(self, total: int, data: st.DataObject, level: float) -> None:
        correct = data.draw(st.integers(0, total))
        z = norm.ppf((1 + level) / 2)
        share = correct / total
        middle = (share + z * z / (2 * total)) / (1 + z * z / total)
        half = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total**2))
        low, high = scores.accuracy_interval(correct, total, level)
        assert low == pytest.approx(middle - half, abs=1e-9)
        assert high == pytest.approx(middle + half, abs=1e-9)

    def test_known_value(self) -> None:
        # Newcombe 1998, Statistics in Medicine 17:857-872, table I, 81 of 263, method 3
        assert scores.accuracy_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)


class TestBootstrap:
    def test_of_a_mean_is_the_normal_interval(self) -> None:
        values = np.random.default_rng(1).normal(3.0, 2.0, 4000)
        low, high = scores.bootstrap_interval(values, lambda sums: sums[:, 0] / 4000, seed=0, resamples=4000)
        error = values.std() / math.sqrt(4000)
        assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
        assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)

    def test_level_widens_it(self) -> None:
        values = np.random.default_rng(1).normal(size=200)
        narrow = scores.bootstrap_interval(values, lambda sums: sums[:, 0], seed=0, level=0.5)
        wide = scores.bootstrap_interval(values, lambda sums: sums[:, 0], seed=0, level=0.99)
        assert wide[0] < narrow[0] < narrow[1] < wide[1]

    def test_seed_decides(self) -> None:
        values = np.random.default_rng(1).normal(size=50)

        def draws(seed: int) -> np.ndarray:
            return scores.bootstrap_draws(values, lambda sums: sums[:, 0], seed, resamples=30)

        np.testing.assert_array_equal(draws(3), draws(3))
        assert not np.array_equal(draws(3), draws(4))

    def test_batches_change_nothing_but_memory(self) -> None:
        """300,000 items take 13 draws at a time; drawn one by one they are the same items."""
        values = np.random.default_rng(1).normal(size=300_000)
        found = scores.bootstrap_draws(values, lambda sums: sums[:, 0], 5, resamples=30)
        generator = np.random.default_rng(5)
        expected = [values[generator.integers(0, 300_000, 300_000)].sum() for _ in range(30)]
        np.testing.assert_allclose(found, expected, atol=1e-8)

    def test_nothing_to_draw_from(self) -> None:
        with pytest.raises(ValueError, match="no items"):
            scores.bootstrap_interval(np.zeros(0), lambda sums: sums[:, 0], seed=0)


class TestClassify:
    @pytest.mark.parametrize(("items", "classes"), [(300, 2), (500, 7), (40, 60)])
    def test_as_sklearn_has_it(self, items: int, classes: int) -> None:
        targets, probabilities = made(items, classes)
        predictions = probabilities.argmax(1)
        found = scores.classify_scores(targets, probabilities)
        assert found == {
            "accuracy": pytest.approx(metrics.accuracy_score(targets, predictions)),
            "f1": pytest.approx(metrics.f1_score(targets, predictions, average="macro")),
            "loss": pytest.approx(metrics.log_loss(targets, probabilities, labels=range(classes))),
        }

    def test_an_unknown_label_is_wrong_and_without_loss(self) -> None:
        probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.3, 0.7]])
        found = scores.classify_scores([0, 1, -1, -1], probabilities)
        assert found == {
            "accuracy": 0.5,
            "f1": pytest.approx(2 / 3),  # each class: one hit, one unknown label taken for it
            "loss": pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2),
            "unknown_labels": 2,
        }
        assert "loss" not in scores.classify_scores([-1, -1], probabilities[:2])

    def test_certainty_about_the_wrong_class_costs_a_finite_loss(self) -> None:
        found = scores.classify_scores([1], np.array([[1.0, 0.0]], dtype=np.float32))
        assert found["loss"] == pytest.approx(87.3365, abs=1e-3)

    def test_nan_is_named(self) -> None:
        with pytest.raises(RunError, match=r"probabilities hold NaN.*train\.lr"):
            scores.classify_scores([0], np.array([[np.nan, 0.5]]))

    def test_intervals(self) -> None:
        targets, probabilities = made(2000, 5)
        predictions = probabilities.argmax(1)
        found = scores.classify_intervals(targets, probabilities)
        point = scores.classify_scores(targets, probabilities)
        assert set(found) == {"accuracy", "f1", "loss"}
        assert found["accuracy"] == scores.accuracy_interval(int((predictions == targets).sum()), 2000)
        for name, (low, high) in found.items():
            assert low < point[name] < high
        generator = np.random.default_rng(8)
        draws = []
        for _ in range(150):
            chosen = generator.integers(0, 2000, 2000)
            draws.append(metrics.f1_score(targets[chosen], predictions[chosen], average="macro"))
        spread = float(np.std(draws))
        assert found["f1"] == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.5 * spread)

    def test_intervals_of_few(self) -> None:
        targets, probabilities = made(scores.FEWEST - 1, 3)
        assert set(scores.classify_intervals(targets, probabilities)) == {"accuracy"}

    def test_per_class_and_confusion(self) -> None:
        targets, predictions = [0, 0, 1, 1, 1, -1], [0, 1, 1, 1, 0, 1]
        assert scores.per_class(targets, predictions, ["a", "b", "never"]) == [
            {"class": "a", "precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2, "predicted": 2},
            {
                "class": "b",
                "precision": 0.5,
                "recall": pytest.approx(2 / 3),
                "f1": pytest.approx(4 / 7),
                "support": 3,
                "predicted": 4,
            },
            {"class": "never", "precision": 0, "recall": 0, "f1": 0, "support": 0, "predicted": 0},
        ]
        assert scores.confusion(targets, predictions, 3).tolist() == [[1, 1, 0], [1, 2, 0], [0, 0, 0]]
        assert scores.confusion([-1], [0], 2).tolist() == [[0, 0], [0, 0]]

    def test_most_wrong(self) -> None:
        probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.99, 0.01], [0.3, 0.7], [0.8, 0.2]])
        assert scores.most_wrong([0, 1, 1, 1, -1], probabilities).tolist() == [2, 1]
        assert scores.most_wrong([0, 1, 1, 1, -1], probabilities, count=1).tolist() == [2]


class TestSeveralLabels:
    def test_as_sklearn_has_it(self) -> None:
        generator = np.random.default_rng(0)
        targets = generator.random((300, 6)) < 0.3
        probabilities = np.clip(0.5 * targets + generator.random((300, 6)) * 0.6, 0.01, 0.99)
        given = probabilities >= 0.5
        bits = np.stack([1 - probabilities, probabilities], axis=-1)
        loss = sum(metrics.log_loss(targets[:, c], bits[:, c], labels=[False, True]) for c in range(6))
        assert scores.multilabel_scores(targets, probabilities) == {
            "accuracy": pytest.approx(metrics.accuracy_score(targets, given)),
            "f1": pytest.approx(metrics.f1_score(targets, given, average="macro")),
            "f1_micro": pytest.approx(metrics.f1_score(targets, given, average="micro")),
            "hamming_loss": pytest.approx(metrics.hamming_loss(targets, given)),
            "loss": pytest.approx(loss),
        }
        intervals = scores.multilabel_intervals(targets, probabilities)
        point = scores.multilabel_scores(targets, probabilities)
        assert set(intervals) == set(point)
        for name, (low, high) in intervals.items():
            assert low < point[name] < high

    def test_labels_never_met_are_left_out_of_the_mean(self) -> None:
        targets = np.array([[1, 0, 0], [1, 0, 0]], dtype=bool)
        found = scores.multilabel_scores(targets, np.where(targets, 0.9, 0.1))
        assert found["f1"] == 1.0

    def test_per_class_and_most_wrong(self) -> None:
        targets = np.array([[1, 0], [1, 1], [0, 1]], dtype=bool)
        probabilities = np.array([[0.9, 0.6], [0.9, 0.9], [0.9, 0.1]])
        rows = scores.per_class(targets, probabilities >= 0.5, ["a", "b"])
        assert rows[0] == {
            "class": "a",
            "precision": pytest.approx(2 / 3),
            "recall": 1.0,
            "f1": pytest.approx(0.8),
            "support": 2,
            "predicted": 3,
        }
        assert scores.most_wrong(targets, probabilities).tolist() == [2, 0]


class TestRegress:
    def test_as_sklearn_has_it(self) -> None:
        generator = np.random.default_rng(0)
        targets = generator.normal(size=(200, 3)) * [1.0, 5.0, 0.1]
        predictions = targets + generator.normal(size=(200, 3)) * 0.3
        assert scores.regress_scores(targets, predictions) == {
            "rmse": pytest.approx(math.sqrt(metrics.mean_squared_error(targets, predictions))),
            "mae": pytest.approx(metrics.mean_absolute_error(targets, predictions)),
            "mse": pytest.approx(metrics.mean_squared_error(targets, predictions)),
            "r2": pytest.approx(metrics.r2_score(targets, predictions)),
        }

    def test_one_number_has_no_r2(self) -> None:
        assert scores.regress_scores([2.0], [5.0]) == {"rmse": 3.0, "mae": 3.0, "mse": 9.0}

    def test_nan_is_named(self) -> None:
        with pytest.raises(RunError, match="predictions hold NaN"):
            scores.regress_scores([1.0, 2.0], [np.inf, 0.0])

    def test_intervals_draw_whole_sequences(self) -> None:
        """Steps of a sequence share one error: drawn singly they would seem ten times as certain as they are."""
        errors = np.repeat(np.random.default_rng(0).normal(size=50), 100)
        by_sequence = scores.regress_intervals(np.zeros(5000), errors, np.arange(0, 5001, 100))["mse"]
        by_step = scores.regress_intervals(np.zeros(5000), errors)["mse"]
        ratio = (by_sequence[1] - by_sequence[0]) / (by_step[1] - by_step[0])
        assert ratio == pytest.approx(10, rel=0.1)

    def test_intervals_hold_the_score(self) -> None:
        generator = np.random.default_rng(0)
        targets, offsets = generator.normal(size=(60, 2)), np.array([0, 10, 15, 16, 30, 48, 60])
        predictions = targets + generator.normal(size=(60, 2))
        point = scores.regress_scores(targets, predictions)
        found = scores.regress_intervals(targets, predictions, offsets)
        assert set(found) == {"rmse", "mae", "mse"}
        for name, (low, high) in found.items():
            assert low < point[name] < high
        assert scores.regress_intervals(targets[:30], predictions[:30], offsets[:5]) == {}

    def test_furthest_off(self) -> None:
        offsets = [0, 1, 4, 6]
        errors = [2.0, 1.0, 1.0, 4.0, 0.0, 1.0]
        assert scores.furthest_off(np.zeros(6), errors, offsets, count=2).tolist() == [1, 0]
