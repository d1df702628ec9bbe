"""`model.kind = "tdnn"`: a time-delay network in place of recurrent layers, in tasks that take sequences."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.errors import RecipeError, RunError
from recurra.nn import TDNN
from recurra.run import recipe as recipes
from recurra.run.api import resume
from recurra.run.inspect import inspect
from recurra.tasks.model import ModelSettings, SequenceModel
from stopped import check_same_weights, stopped_after

TDNN_KIND = {"model.kind": "tdnn", "model.hidden_size": 6, "train.samples": 64, "train.batch_size": 16}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(2)


def test_the_last_output_of_each_sequence_is_pooled() -> None:
    settings = ModelSettings(kind="tdnn", hidden_size=[5, 4], num_layers=2, delays=[3, 2], dropout=0.5)
    network = SequenceModel(settings, 3, input_size=2).double().eval()
    assert isinstance(network.recurrent, TDNN)
    assert network.recurrent.dropout == 0.5
    x, lengths = torch.randn(6, 3, 2, dtype=torch.float64), torch.tensor([6, 1, 4])
    said, _ = network(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        hidden = network.recurrent(x[:length, [b]])[0][-1]
        torch.testing.assert_close(said[[b]], network.output(hidden))
        torch.testing.assert_close(network(x[:length, [b]])[0], network.output(hidden))


@pytest.mark.parametrize("pool", ["last", "mean", "max", "attention"])
def test_classify_is_learnt_with_a_tdnn(pool: str) -> None:
    settings = TDNN_KIND | {"model.pool": pool, "model.num_layers": 2, "model.bidirectional": False}
    run = recurra.train("digits", settings=settings)
    assert isinstance(run.network.recurrent, TDNN)
    assert run.recipe.model.delays == [5, 5]
    assert run.summary["parameters"] == sum(p.numel() for p in run.network.parameters())
    again = recurra.load("runs/digits")
    again_said = again.predict(np.zeros((2, 8, 8))).outputs
    assert again_said.shape == (2, 10)
    page = run.report.read_text("utf-8")
    assert "time-delay network, 6 over 5 steps, 6 over 5 steps" in page
    with pytest.raises(RunError, match="its network is a TDNN, and has no recurrence to look into"):
        inspect("runs/digits")


def test_digits_are_told_by_a_tdnn() -> None:
    settings = {"model.kind": "tdnn", "model.pool": "mean", "model.delays": [8], "model.bidirectional": None}
    run = recurra.train("digits", settings=settings | {"train.samples": 3200, "train.lr": 0.02})
    assert run.summary["test"]["accuracy"] > 0.75


def test_the_state_is_carried_and_a_run_goes_on() -> None:
    settings = TDNN_KIND | {"train.samples": 12, "train.batch_size": 1, "model.delays": [7], "report.snapshots": []}
    settings |= {"train.checkpoint_seconds": 0}
    whole = recurra.train("sine", settings=settings, out="whole")
    with stopped_after(7):
        recurra.train("sine", settings=settings, out="stopped")
    resumed = resume("stopped")
    check_same_weights(whole, resumed)


def test_words_are_tagged_by_a_tdnn(tmp_path: Path) -> None:
    lines = ["in O\nrome B-LOC\n", "to O\nnew B-LOC\nyork I-LOC\n", "he O\nsaw O\nrome B-LOC\n"] * 12
    (tmp_path / "train.conll").write_text("\n".join(lines))
    settings = TDNN_KIND | {"train.samples": 400, "train.lr": 0.02, "model.delays": [2]}
    run = recurra.train("tag", tmp_path / "train.conll", settings=settings)
    assert run.summary["test"]["f1"] > 0.9


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"model.zoneout": 0.1}, r"model.zoneout: is of recurrent layers, and kind = .tdnn. has none"),
        ({"model.skip": "residual"}, "model.skip: is of recurrent layers"),
        ({"model.init": {"U": "identity"}}, "model.init: is of recurrent layers"),
        ({"model.bidirectional": True}, r"model.bidirectional: kind = .tdnn. reads the past alone"),
        ({"model.delays": [2, 3]}, r"model.delays: 2 for 1 layers \(model.num_layers\)"),
        ({"model.delays": [0]}, "model.delays"),
        ({"model.activation": "tahn"}, "model.activation: unknown function 'tahn'; did you mean 'tanh'"),
        ({"model.kind": "tddn"}, "model.kind.*'tddn'.*did you mean 'tdnn'"),
        ({"model.kind": "recurrent", "model.delays": [3]}, r"model.delays: are those of kind = .tdnn."),
    ],
)
def test_what_a_tdnn_cannot_have_is_told(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        recipes.load("classify", {"model.kind": "tdnn"} | settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"learn.rule": "rtrl"},
            "learn.rule: 'rtrl' follows a recurrence along time, which model.kind = tdnn has none of",
        ),
        ({"learn.rule": "tbptt"}, "learn.rule: 'tbptt' follows a recurrence"),
        ({"train.error_norm": 0.1}, "train.error_norm: errors are followed through a recurrence"),
    ],
)
def test_what_needs_a_recurrence_is_told(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        recurra.train("sine", settings=TDNN_KIND | {"train.batch_size": 1} | settings)
