"""What the training loop promises: batches add up, weights count, what cannot be is refused before anything is made."""

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
from recurra.tasks import Predictions

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
