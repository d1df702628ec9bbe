"""A label at every step, learnt, scored and written: against NumPy."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

import recurra
from recurra.data import DataSettings, Parts, load_parts
from recurra.data.batches import collate
from recurra.run import recipe as recipes
from recurra.tasks import Classify, Predictions, predict
from recurra.tasks.model import ModelSettings, SequenceModel
from recurra.tasks.scores import most_wrong_sequences, step_intervals, step_scores

Labels = list[list[Any]]


def drawn(several: bool, gaps: bool, seed: int = 0) -> tuple[list[np.ndarray], Labels]:
    """Sequences of unequal lengths, with a label (or a set of them) at every step, or at some."""
    random = np.random.default_rng(seed)
    x: list[np.ndarray] = []
    y: Labels = []
    for _ in range(12):
        steps = int(random.integers(2, 7))
        x.append(random.normal(size=(steps, 2)).astype(np.float32))
        row: list[Any] = ["abc"[i] for i in random.integers(0, 3, steps)]
        if several:
            row = [{c for c in "abc" if random.random() < 0.4} for _ in range(steps)]
        if gaps:
            row = [label if random.random() < 0.6 else None for label in row[:-1]] + row[-1:]
        y.append(row)
    return x, y


def loaded(several: bool, gaps: bool, seed: int = 0) -> Parts:
    settings = DataSettings(per_step=True, validation_fraction=0, test_fraction=0)
    return load_parts(drawn(several, gaps, seed), "classify", settings)


def built(parts: Parts, **settings: Any) -> tuple[Classify, SequenceModel]:
    changes = {f"train.{key}": value for key, value in settings.items()}
    task = Classify(parts.schema, recipes.load("classify", changes).train)
    torch.manual_seed(0)
    network = task.build(ModelSettings(hidden_size=5, cell="elman"), parts.train)
    return task, network.double()


def flat(parts: Parts) -> tuple[np.ndarray, np.ndarray]:
    """Targets of all steps, and which of them count, from what was handed over."""
    assert parts.train.targets is not None
    asked = np.ones(len(parts.train.values), bool) if parts.train.asked is None else parts.train.asked.numpy()
    return parts.train.targets.numpy(), asked


def every(parts: Parts) -> Iterator[tuple[Any, int]]:
    for i in range(len(parts.train)):
        yield from ((i, step) for step in range(int(parts.train.lengths[i])))


CASES = pytest.mark.parametrize(("several", "gaps"), [(False, False), (False, True), (True, False), (True, True)])


@CASES
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", ["none", "balanced", {"a": 3.0, "c": 0.5}])
def test_the_loss_is_the_mean_over_the_steps_that_have_a_target(
    several: bool, gaps: bool, smoothing: float, weights: Any
) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts, label_smoothing=smoothing, class_weights=weights)
    targets, asked = flat(parts)
    count = asked.sum()
    assert asked.all() != gaps
    per_class = targets[asked].sum(0) if several else np.bincount(targets[asked], minlength=3)
    if weights == "none":
        w = np.ones(3)
    elif isinstance(weights, dict):
        w = np.array([weights.get(c, 1.0) for c in "abc"])
    else:
        w = np.maximum((count - per_class) / per_class, 1) if several else 1 / per_class
    if not several:
        w = w * count / (w @ per_class)
    total = 0.0
    for i, step in every(parts):
        place = int(parts.train.offsets[i]) + step
        if not asked[place]:
            continue
        x = parts.train.sequence(i).double().unsqueeze(1)
        z = network(x)[0][step, 0].detach().numpy()  # one sequence at a time: no padding
        if several:
            p, t = 1 / (1 + np.exp(-z)), targets[place] * (1 - smoothing) + smoothing / 2
            total -= (w * t * np.log(p) + (1 - t) * np.log(1 - p)).sum()
        else:
            log = z - np.log(np.exp(z).sum())
            share = np.eye(3)[targets[place]] * (1 - smoothing) + smoothing / 3
            total -= (w * share * log).sum()
    batch = collate(parts.train, torch.arange(len(parts.train))).to(torch.device("cpu"), torch.float64)
    outputs, _ = network(batch.x, batch.lengths)
    loss = task.loss(network, outputs, batch)
    assert float(loss.detach()) == pytest.approx(total / count, rel=1e-5)  # class weights are in float32


@CASES
def test_what_nothing_is_asked_of_gets_no_gradient(several: bool, gaps: bool) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts)
    batch = collate(parts.train, torch.arange(len(parts.train))).to(torch.device("cpu"), torch.float64)
    outputs = network(batch.x, batch.lengths)[0].detach().requires_grad_()
    task.loss(network, outputs, batch).backward()
    assert outputs.grad is not None
    assert batch.asked is not None
    assert torch.equal((outputs.grad != 0).any(-1), batch.asked)


def test_a_step_of_which_nothing_is_asked_has_no_loss() -> None:
    parts = loaded(False, True)
    task, network = built(parts)
    batch = collate(parts.train, torch.tensor([0]))
    nothing = type(batch)(batch.x, None, batch.targets, batch.indices, torch.zeros(len(batch.x), 1, dtype=torch.bool))
    outputs = network(batch.x.double())[0]
    loss = task.loss(network, outputs, nothing)
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is None or not p.grad.any() for p in network.parameters())


@CASES
def test_predictions_do_not_depend_on_the_batch(several: bool, gaps: bool) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts)
    one, all_at_once = (predict(task, network, parts.train, batch_size=n, dtype=torch.float64) for n in (1, 12))
    np.testing.assert_allclose(one.outputs, all_at_once.outputs, rtol=1e-12)
    assert one.outputs.shape == (len(parts.train.values), 3)
    np.testing.assert_array_equal(one.offsets, parts.train.offsets.numpy())


@CASES
def test_scores_by_hand(several: bool, gaps: bool) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts)
    said = predict(task, network, parts.train, dtype=torch.float64)
    targets, asked = flat(parts)
    p, scores = said.outputs, task.scores(said)
    right, loss, whole = [], [], []
    hits, marks = np.zeros(3), np.zeros(3)
    for i in range(len(parts.train)):
        of_this = []
        for place in range(int(parts.train.offsets[i]), int(parts.train.offsets[i + 1])):
            if asked[place]:
                true = targets[place] if several else np.arange(3) == targets[place]
                given = p[place] >= 0.5 if several else np.arange(3) == p[place].argmax()
                of_this.append(bool((true == given).all()))
                loss.append(
                    -np.log(np.where(true, p[place], 1 - p[place])).sum() if several else -np.log(p[place] @ true)
                )
                hits += true & given
                marks += true.astype(float) + given
        right += of_this
        whole.append(all(of_this))
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert scores["sequence_accuracy"] == pytest.approx(np.mean(whole))
    assert scores["loss"] == pytest.approx(np.mean(loss))
    assert scores["f1"] == pytest.approx((2 * hits / np.maximum(marks, 1)).sum() / (marks > 0).sum())
    if several:
        assert scores["f1_micro"] == pytest.approx(2 * hits.sum() / marks.sum())
        wrong = (np.array([p[i] >= 0.5 for i in range(len(asked)) if asked[i]]) != targets[asked]).mean()
        assert scores["hamming_loss"] == pytest.approx(wrong)


@CASES
def test_the_baseline_counts_steps(several: bool, gaps: bool) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts)
    targets, asked = flat(parts)
    said = predict(task, network, parts.train, dtype=torch.float64)
    found = task.baselines(parts.train, said)["majority"]
    if several:
        share = targets[asked].mean(0)
        wanted = ((share >= 0.5) == targets[asked]).all(1).mean()
    else:
        wanted = np.bincount(targets[asked]).max() / asked.sum()
    assert found["accuracy"] == pytest.approx(wanted)
    assert "sequence_accuracy" in found


@CASES
def test_rows(several: bool, gaps: bool) -> None:
    parts = loaded(several, gaps)
    task, network = built(parts)
    targets, asked = flat(parts)
    said = predict(task, network, parts.train, dtype=torch.float64)
    rows = list(task.rows(said))
    assert [(row["index"], row["step"]) for row in rows] == list(every(parts))
    assert list(rows[0]) == ["index", "step", "prediction", "p_a", "p_b", "p_c"]
    with_targets = list(task.rows(said, targets=True))
    assert [row for row, there in zip(rows, asked, strict=True) if there] == [
        {key: value for key, value in row.items() if key != "target"} for row in with_targets
    ]
    for row, true in zip(with_targets, targets[asked], strict=True):
        assert row["target"] == (";".join(c for c, t in zip("abc", true, strict=True) if t) if several else "abc"[true])
    for row, p in zip(rows, said.outputs, strict=True):
        best = ";".join(c for c, q in zip("abc", p, strict=True) if q >= 0.5) if several else "abc"[p.argmax()]
        assert row["prediction"] == best
        assert [row["p_a"], row["p_b"], row["p_c"]] == p.tolist()


def test_the_first_sequences() -> None:
    parts = loaded(False, True)
    task, network = built(parts)
    said = predict(task, network, parts.train, dtype=torch.float64)
    few = said.first(3)
    rows = [row for row in task.rows(said, targets=True) if int(str(row["index"])) < 3]
    assert list(task.rows(few, targets=True)) == rows
    assert task.scores(few)["accuracy"] == np.mean([row["target"] == row["prediction"] for row in rows])


# --- scores that need no network --------------------------------------------------------------------------------------


def test_unknown_labels_count_as_wrong_but_not_in_the_loss() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    found = step_scores([0, -1, 1], p, [0, 2, 3])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["sequence_accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-(np.log(0.9) + np.log(0.7)) / 2)
    assert found["unknown_labels"] == 1


def test_a_sequence_of_which_nothing_is_asked_does_not_count() -> None:
    p = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    asked = [True, False, False, True]
    assert (
        step_scores([0, 0, 0, 0], p, [0, 2, 3, 4], asked)["sequence_accuracy"] == 0.5
    )  # the middle one is passed over
    assert most_wrong_sequences([0, 0, 0, 0], p, [0, 2, 3, 4], asked).tolist() == [2]


def test_the_sequences_most_wrong_come_first() -> None:
    p = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.9, 0.1], [0.45, 0.55]])
    targets, offsets = np.array([0, 0, 0, 0, 0]), [0, 2, 3, 4, 5]
    # mean surprise: 0.51 (one of two wrong), 2.30, right, 0.80
    assert most_wrong_sequences(targets, p, offsets).tolist() == [1, 3, 0]
    assert most_wrong_sequences(targets, p, offsets, count=1).tolist() == [1]
    assert most_wrong_sequences(np.eye(2, dtype=bool)[targets], p, offsets).tolist() == [1, 3, 0]


def steps(sequences: int, seed: int, several: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(random.integers(1, 5, sequences))])
    targets = random.integers(0, 3, offsets[-1])
    logits = random.normal(size=(offsets[-1], 3)) + 2 * np.eye(3)[targets]
    if several:
        return np.eye(3, dtype=bool)[targets], 1 / (1 + np.exp(-logits)), offsets
    return targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True), offsets


@pytest.mark.parametrize("several", [False, True])
def test_intervals_are_those_of_sequences_drawn_anew(several: bool) -> None:
    targets, p, offsets = steps(300, 0, several)
    found, scores = step_intervals(targets, p, offsets), step_scores(targets, p, offsets)
    assert found.keys() == scores.keys()
    random = np.random.default_rng(1)
    again: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(400):
        chosen = random.integers(0, 300, 300)
        places = np.concatenate([np.arange(int(offsets[i]), int(offsets[i + 1])) for i in chosen])
        lengths = np.diff(offsets)[chosen]
        one = step_scores(targets[places], p[places], np.concatenate([[0], np.cumsum(lengths)]))
        for name, value in one.items():
            again[name].append(value)
    for name, (low, high) in found.items():
        assert low < scores[name] < high
        spread = float(np.std(again[name]))
        assert low == pytest.approx(np.quantile(again[name], 0.025), abs=0.5 * spread)
        assert high == pytest.approx(np.quantile(again[name], 0.975), abs=0.5 * spread)


def test_steps_of_a_sequence_are_not_taken_for_independent() -> None:
    # each of 100 sequences is wholly right or wholly wrong: 50 steps tell no more than one
    right = np.random.default_rng(0).random(100) < 0.7
    p = np.repeat(np.where(right[:, None], [[0.9, 0.1]], [[0.1, 0.9]]), 50, axis=0)
    low, high = step_intervals(np.zeros(5000, int), p, np.arange(101) * 50)["accuracy"]
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 100), rel=0.2)


def test_too_few_sequences_have_no_bootstrap_interval() -> None:
    targets, p, offsets = steps(4, 0, False)
    assert list(step_intervals(targets, p, offsets)) == ["sequence_accuracy"]


@given(st.integers(0, 50), st.booleans())
@example(0, False)
@example(0, True)
def test_what_is_not_asked_changes_nothing(seed: int, several: bool) -> None:
    targets, p, offsets = steps(8, seed, several)
    random = np.random.default_rng(seed)
    asked = random.random(len(targets)) < 0.5
    asked[0] = True
    other, said = targets.copy(), p.copy()
    other[~asked] = random.permutation(other[~asked])
    said[~asked] = random.permutation(said[~asked])
    assert step_scores(targets, p, offsets, asked) == step_scores(other, said, offsets, asked)
    if seed == 0:  # 2,000 draws each
        assert step_intervals(targets, p, offsets, asked) == step_intervals(other, said, offsets, asked)


# --- a whole run ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("several", [False, True])
def test_a_run_learns_a_label_at_every_step(several: bool, tmp_path: Any) -> None:
    """The label tells which of the last two numbers was larger; several at once, also whether this one is above 0."""
    random = np.random.default_rng(0)
    x = [random.normal(size=(int(random.integers(3, 9)), 1)).astype(np.float32) for _ in range(300)]
    y: Labels = []
    for values in x:
        rises = np.diff(values[:, 0], prepend=0) > 0
        plain: list[Any] = [None, *("up" if up else "down" for up in rises[1:])]
        sets = [
            {*(["up"] if up else []), *(["high"] if v > 0 else [])} for up, v in zip(rises, values[:, 0], strict=True)
        ]
        y.append(sets if several else plain)
    settings = {"data.per_step": True, "train.samples": 6000, "model.hidden_size": 12, "model.normalise": "none"}
    run = recurra.train("classify", (x, y), out=tmp_path / "run", settings=settings)
    assert run.schema.per_step
    assert run.schema.multi_label == several
    test = run.summary["test"]
    assert test["accuracy"] > 0.85
    assert test["accuracy"] > run.summary["baselines"]["majority"]["accuracy"] + 0.2
    assert 0 < test["sequence_accuracy"] < test["accuracy"]
    low, high = run.summary["test_intervals"]["sequence_accuracy"]
    assert low < test["sequence_accuracy"] < high
    said = run.predict(x[:2])
    assert isinstance(said, Predictions)
    assert len(said.labels) == len(x[0]) + len(x[1])
    html = run.report.read_text()
    assert "right at every step" in html
    assert "steps" in html
