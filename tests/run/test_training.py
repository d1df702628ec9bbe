"""What the training loop promises: batches add up, weights count, what cannot be is refused before anything is made."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.data import Schema
from recurra.errors import RecipeError, RunError
from recurra.files import sha256
from recurra.learn import TrainSettings
from recurra.run.folder import RunFolder
from recurra.run.training import total_updates
from recurra.run.words import outcome
from recurra.tasks import Predictions
from recurra.tasks.classify import Classify

TINY: dict[str, Any] = {"model.hidden_size": 5, "train.epochs": 2, "train.evaluate_every": 1000, "train.shuffle": False}


def data(n: int = 60, width: int = 2, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    x = generator.normal(size=(n, 4, width)).astype(np.float32)
    return x, ["rare" if i % 6 == 0 else "often" for i in range(n)]


def train(folder: Path, source: Any = None, task: str = "classify", **settings: Any) -> recurra.Run:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return recurra.train(task, data() if source is None else source, out=folder, settings={**TINY, **named}, seed=1)


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_accumulated_batches_are_one_large_batch(tmp_path: Path, weights: str) -> None:
    common: dict[str, Any] = {"train__class_weights": weights, "train__optimizer": "sgd", "train__precision": "64-true"}
    one = train(tmp_path / "one", train__batch_size=12, **common)
    many = train(tmp_path / "many", train__batch_size=4, train__accumulate=3, **common)
    assert one.summary["updates"] == many.summary["updates"] == 8
    for name, value in one.network.state_dict().items():
        torch.testing.assert_close(many.network.state_dict()[name], value, rtol=1e-9, atol=1e-12)


def test_an_epoch_is_planned_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[int] = []
    plan = Classify.plan

    def counted(task: Classify, data: Any, *, seed: int, epoch: int) -> list[torch.Tensor]:
        planned.append(epoch)
        return plan(task, data, seed=seed, epoch=epoch)

    monkeypatch.setattr(Classify, "plan", counted)
    train(tmp_path / "run")
    assert planned == [0, 1]


def test_class_weights_count_in_a_batch_of_one(tmp_path: Path) -> None:
    plain = train(tmp_path / "plain", train__batch_size=1)
    balanced = train(tmp_path / "balanced", train__batch_size=1, train__class_weights="balanced")
    assert plain.summary["sha256"] != balanced.summary["sha256"]


def test_double_precision_is_kept(tmp_path: Path) -> None:
    run = train(tmp_path / "run", train__precision="64-true")
    assert {p.dtype for p in run.network.parameters()} == {torch.float64}
    assert run.evaluate()["metrics"]["accuracy"] == run.summary["test"]["accuracy"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"learn__carry_state": True}, "train.batch_size is 1 and train.shuffle false"),
        ({"learn__carry_state": True, "train__batch_size": 1}, "model.bidirectional is to be false"),
        ({"train__early_stopping": 3, "data__validation_fraction": 0.0}, "needs a validation part"),
        ({"train__precision": "bf16-true"}, "bf16-mixed"),
        ({"train__device": "tpu"}, "unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_trained_leaves_nothing_behind(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        train(tmp_path / "run", **settings)
    assert not list(tmp_path.iterdir())


def test_samples_and_epochs_say_how_long() -> None:
    def updates(sequences: int, **values: Any) -> int:
        settings = TrainSettings.model_validate(values)
        return total_updates(settings, sequences, -(-sequences // settings.batch_size))

    assert updates(60_000, samples=100_000, batch_size=128) == 781
    assert updates(84, samples=1000, batch_size=512) == 11
    assert updates(100, epochs=3, batch_size=32) == 12
    assert updates(100, epochs=3, batch_size=32, accumulate=2) == 6
    assert updates(40, batch_size=32) == 400  # small: at most 200 epochs
    assert updates(10**6, batch_size=32) == 3 * 31250  # large: at least 3


def test_batches_of_steps_say_how_long_too(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(int(n), 2)).astype(np.float32) for n in generator.integers(1, 30, size=120)]
    labels = ["long" if len(a) > 15 else "short" for a in x]
    run = train(tmp_path / "run", (x, labels), train__batch_steps=64, train__shuffle=True, train__epochs=3)
    seen = run.summary["samples_seen"], run.summary["steps_seen"]
    whole = recurra.load(tmp_path / "run").summary["data"]["sequences"]["train"]
    assert seen[0] == 3 * whole
    assert seen[1] > 3 * whole
    half = train(tmp_path / "half", (x, labels), train__batch_steps=64, train__shuffle=True, train__epochs=None,
                 train__samples=3 * whole)  # fmt: skip
    assert half.summary["updates"] == run.summary["updates"]


class Weights:
    """A listener that keeps the weights behind every update."""

    def __init__(self) -> None:
        self.network: Any = None
        self.kept: list[dict[str, torch.Tensor]] = []

    def begin(self, training: Any) -> None:
        self.network = training.network

    def update(self, step: int, loss: float) -> None:
        self.kept.append({k: v.detach().clone() for k, v in self.network.named_parameters()})

    def evaluation(self, line: dict[str, Any]) -> None: ...

    def end(self) -> None: ...


def test_averaged_sgd_keeps_the_mean_of_all_weights_since_nothing_got_better(tmp_path: Path) -> None:
    """Labels that say nothing of the inputs: the validation part soon does no better."""
    generator = np.random.default_rng(2)
    x = generator.normal(size=(80, 4, 2)).astype(np.float32)
    labels = [str(label) for label in generator.integers(0, 2, size=80)]
    settings = {"train.average_after": 2, "train.epochs": 12, "train.evaluate_every": None, "train.lr": 0.05}
    settings |= {"train.select": "last", "model.hidden_size": 5, "data.validation_fraction": 0.2}
    listener = Weights()
    run = recurra.train("classify", (x, labels), out=tmp_path / "run", settings=settings, seed=1, listener=listener)
    begun = [line["step"] for line in run.history if line.get("averaging")]
    assert len(begun) == 1
    assert 0 < begun[0] < len(listener.kept)
    for name, value in run.network.named_parameters():
        mean = torch.stack([weights[name] for weights in listener.kept[begun[0] :]]).double().mean(0)
        torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-7)


def test_a_run_without_a_test_part_is_told_by_its_validation_part(tmp_path: Path) -> None:
    run = train(tmp_path / "run", data__test_fraction=0.0)
    told = outcome(run)
    validation, (low, high) = run.summary["validation"], run.summary["validation_intervals"]["accuracy"]
    assert low < validation["accuracy"] < high
    assert f"validation accuracy {validation['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})" in told
    assert f"majority baseline {run.summary['baselines']['majority']['accuracy']:.4f}" in told
    page = run.report.read_text()
    assert "validation sequence 0" in page
    assert "Of the validation part, by which the weights were chosen; there was no test part." in page
    assert "scores on a test part are the honest ones.</" in page
    assert re.search(r"<th scope=\"col\">validation</th>", page)
    assert not re.search(r"<th scope=\"col\">test</th>", page)
    assert "test" not in told.replace(str(tmp_path), "")


def test_the_first_sequences_are_counted_in_sequences() -> None:
    schema = Schema(task="regress", format="x", input="numbers", features=["a"], targets=["y"], per_step=True)
    said = Predictions(np.arange(6.0)[:, None], np.zeros((6, 1)), np.array([0, 1, 4, 6]), None, schema)
    few = said.first(2)
    assert (len(few), few.outputs.ravel().tolist()) == (2, [0.0, 1.0, 2.0, 3.0])


def test_a_warm_start_does_not_swap_columns(tmp_path: Path) -> None:
    pl = pytest.importorskip("polars")
    x, labels = data(30)
    rows = [(i, t, *x[i, t], labels[i]) for i in range(30) for t in range(4)]
    frame = pl.DataFrame(rows, schema=["id", "time", "ax", "ay", "label"], orient="row")
    train(tmp_path / "first", frame)
    swapped = frame.select("id", "time", "ay", "ax", "label")
    with pytest.raises(RunError, match=r"that run reads ax, ay, the new data have them in another order"):
        recurra.train("classify", swapped, out=tmp_path / "second", from_run=tmp_path / "first")


def test_a_warm_start_keeps_its_source(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    with pytest.raises(RunError, match="is the run that --from names"):
        recurra.train("classify", data(), out=first.path, from_run=first.path, force=True)
    assert sha256(first.path / "model.safetensors") == first.summary["sha256"]


def test_a_run_in_progress_is_not_overwritten(tmp_path: Path) -> None:
    first = train(tmp_path / "first")
    with RunFolder(first.path).locked(), pytest.raises(RunError, match="another process is training"):
        recurra.train("classify", data(), out=first.path, force=True, settings=TINY)
    assert sha256(first.path / "model.safetensors") == first.summary["sha256"]
    recurra.train("classify", data(seed=3), out=first.path, force=True, settings=TINY)
    assert sha256(first.path / "model.safetensors") != first.summary["sha256"]
    assert [p.name for p in tmp_path.iterdir()] == ["first"]


def test_the_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(42)
    expected = torch.rand(3)
    torch.manual_seed(42)
    train(tmp_path / "run")
    torch.testing.assert_close(torch.rand(3), expected)
