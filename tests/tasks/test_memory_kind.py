"""`model.kind = "ntm"`: a neural Turing machine in place of recurrent layers, in tasks that take sequences."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.errors import RecipeError, RunError
from recurra.nn import NTM
from recurra.run import recipe as recipes
from recurra.run.api import resume
from recurra.run.inspect import inspect
from recurra.tasks.model import ModelSettings, SequenceModel
from stopped import check_same_weights, stopped_after

NTM_KIND = {
    "model.kind": "ntm",
    "model.hidden_size": 6,
    "model.memory": [8, 4],
    "train.samples": 64,
    "train.batch_size": 16,
}


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(2)


def test_the_settings_are_those_of_the_machine() -> None:
    settings = ModelSettings(
        kind="ntm", cell="lstm", hidden_size=[5, 4], num_layers=2, dropout=0.5, memory=(9, 3), read_heads=2, shift=2
    )
    machine = SequenceModel(settings, 3, input_size=2).recurrent
    assert isinstance(machine, NTM)
    assert (machine.places, machine.width, machine.read_heads, machine.write_heads, machine.shift) == (9, 3, 2, 1, 2)
    assert (machine.controller.hidden_size, machine.controller.dropout) == ([5, 4], 0.5)
    assert machine.controller.form.name == "lstm"
    usual = SequenceModel(ModelSettings(kind="ntm"), 3, input_size=2).recurrent
    assert isinstance(usual, NTM)
    assert (usual.places, usual.width, usual.read_heads, usual.write_heads, usual.shift) == (128, 20, 1, 1, 1)


def test_the_last_output_of_each_sequence_is_pooled() -> None:
    network = SequenceModel(ModelSettings(kind="ntm", memory=(8, 4), hidden_size=5), 3, input_size=2).double().eval()
    x, lengths = torch.randn(6, 3, 2, dtype=torch.float64), torch.tensor([6, 1, 4])
    said, _ = network(x, lengths)
    for b, length in enumerate(lengths.tolist()):
        hidden = network.recurrent(x[:length, [b]])[0][-1]
        torch.testing.assert_close(said[[b]], network.output(hidden))


def test_a_run_whose_network_is_a_machine() -> None:
    settings = NTM_KIND | {
        "model.pool": "attention",
        "model.bidirectional": None,
        "train.l2": {"heads": 1e-4, "U": 1e-4},
    }
    run = recurra.train("digits", settings=settings)
    assert isinstance(run.network.recurrent, NTM)
    assert run.summary["parameters"] == sum(p.numel() for p in run.network.parameters())
    again = recurra.load("runs/digits")
    assert again.predict(np.zeros((2, 8, 8))).outputs.shape == (2, 10)
    page = run.report.read_text("utf-8")
    assert "neural Turing machine, memory of 8 × 4, 2 heads, gru 6" in page
    for text in ("Where it reads and writes", "what goes in", "places written", "places read", "time step"):
        assert text in page
    with pytest.raises(RunError, match="its network is a neural Turing machine, and the instruments follow states"):
        inspect("runs/digits")


def test_the_copy_task_is_learnt_and_longer_sequences_are_scored() -> None:
    settings = {"train.samples": 64, "data.options.training": 64, "data.options.validation": 8, "data.options.test": 40}
    run = recurra.train("ntm-copy", settings=settings | {"data.options.length": 3, "model.memory": [8, 4]})
    assert set(run.summary["test"]) >= {"accuracy", "sequence_accuracy", "hamming_loss", "loss"}
    assert 0.2 < run.summary["test"]["hamming_loss"] < 0.6
    assert "probabilities put out" in run.report.read_text("utf-8")
    same = run.evaluate(settings={"data.options.length": 3})
    assert same["metrics"] == pytest.approx(run.summary["test"], abs=1e-6)
    assert same["sequences"] == 40
    longer = run.evaluate(settings={"data.options.length": 12, "data.options.shortest": 12, "data.options.test": 5})
    assert longer["sequences"] == 5
    assert longer["metrics"] != same["metrics"]
    assert run.recipe.data.options["length"] == 3
    for changed, text in (
        ({"data.options.lenght": 5}, "data.options.lenght.*did you mean length"),
        ({"model.hidden_size": 5}, "model.hidden_size: a run is scored with other options of its source, data.options"),
    ):
        with pytest.raises(RecipeError, match=text):
            run.evaluate(settings=changed)
    with pytest.raises(RecipeError, match=r"data.options.length beside data: it is of the source that the run learnt"):
        run.evaluate("x.csv", settings={"data.options.length": 5})


def test_a_run_on_a_file_has_no_options_to_score_it_with(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(20, 3, 1))
    run = recurra.train("classify", (x, [0, 1] * 10), settings={"train.samples": 8, "model.hidden_size": 2})
    with pytest.raises(RecipeError, match=r"data.options.length: .* did not learn from a source that has options"):
        run.evaluate(settings={"data.options.length": 5})


def test_the_state_is_carried_and_a_run_goes_on() -> None:
    settings = NTM_KIND | {"train.samples": 6, "train.batch_size": 1, "report.snapshots": []}
    settings |= {"train.checkpoint_seconds": 0}
    whole = recurra.train("sine", settings=settings, out="whole")
    apart = recurra.train("sine", settings=settings | {"learn.carry_state": False}, out="apart")
    with stopped_after(4):
        recurra.train("sine", settings=settings, out="stopped")
    resumed = resume("stopped")
    check_same_weights(whole, resumed)
    differs = [not torch.equal(v, apart.network.state_dict()[name]) for name, v in whole.network.state_dict().items()]
    assert any(differs)


def test_words_are_tagged_by_a_machine(tmp_path: Path) -> None:
    lines = ["in O\nrome B-LOC\n", "to O\nnew B-LOC\nyork I-LOC\n", "he O\nsaw O\nrome B-LOC\n"] * 12
    (tmp_path / "train.conll").write_text("\n".join(lines))
    settings = NTM_KIND | {"train.samples": 400, "train.lr": 0.02}
    run = recurra.train("tag", tmp_path / "train.conll", settings=settings)
    assert run.summary["test"]["f1"] > 0.9


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"model.recurrent_dropout": 0.1},
            r"model.recurrent_dropout: is drawn once a sequence, and kind = .ntm. takes",
        ),
        ({"model.weight_drop": 0.1}, "model.weight_drop: is drawn once a sequence"),
        ({"model.bidirectional": True}, r"model.bidirectional: kind = .ntm. goes forward alone"),
        ({"model.memory": [8]}, "model.memory"),
        ({"model.memory": [8, 0]}, "model.memory"),
        ({"model.shift": -1}, "model.shift"),
        ({"model.delays": [3]}, r"model.delays: are those of kind = .tdnn."),
        ({"model.kind": "nmt"}, "model.kind.*'nmt'.*did you mean 'ntm'"),
        ({"model.kind": "recurrent", "model.memory": [8, 4]}, r"model.memory: is of kind = .ntm.; kind is 'recurrent'"),
        ({"model.kind": "tdnn", "model.read_heads": 2}, r"model.read_heads: is of kind = .ntm.; kind is 'tdnn'"),
    ],
)
def test_what_a_machine_cannot_have_is_told(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        recipes.load("classify", {"model.kind": "ntm"} | settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"learn.rule": "rtrl"},
            "learn.rule: 'rtrl' follows states alone, and model.kind = ntm has a memory beside them; bptt is expected",
        ),
        ({"learn.rule": "tbptt"}, "learn.rule: 'tbptt' follows states alone"),
        ({"train.error_norm": 0.1}, "train.error_norm: errors are followed through states alone"),
        ({"model.shift": 4}, "model: shift: from 0 to 3 places is expected in a memory of 8, not 4"),
    ],
)
def test_what_a_machine_cannot_do_is_told(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(RecipeError, match=text):
        recurra.train("sine", settings=NTM_KIND | {"train.batch_size": 1} | settings)


def test_a_stream_is_not_learnt_by_a_machine(tmp_path: Path) -> None:
    from recurra.run import stream

    rows = tmp_path / "rows.csv"
    rows.write_text("x,y\n1,2\n2,3\n3,4\n")
    settings = {"model.kind": "ntm", "data.target": "y"}
    with pytest.raises(RecipeError, match=r"model\.kind: ntm has a memory beside its state"):
        stream.train("regress", str(rows), settings=settings, write=print, tell=print, stop=stream.Stop())


def test_a_memory_larger_than_the_machine_is_told() -> None:
    settings = NTM_KIND | {"model.memory": [100_000_000_000, 1000], "learn.carry_state": False}
    with pytest.raises(RunError, match=r"lower model.hidden_size \(now 6\), model.memory \(now 100000000000 × 1000\)"):
        recurra.train("sine", settings=settings, out="large")
