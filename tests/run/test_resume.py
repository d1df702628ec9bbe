"""A run killed at any instant and taken up again ends as the unbroken run does; equal seeds give equal bytes."""

import json
import multiprocessing
import os
import random
import re
import shlex
import signal
import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import recurra
from recurra.cli import main
from recurra.errors import RunError
from recurra.files import replacing, sha256
from recurra.run import checkpoint, training
from recurra.run.folder import RunFolder

SETTINGS: dict[str, Any] = {
    "model.cell": "gru",
    "model.hidden_size": 12,
    "model.num_layers": 2,
    "model.dropout": 0.2,
    "model.recurrent_dropout": 0.1,
    "train.optimizer": "adamw",
    "train.batch_size": 16,
    "train.accumulate": 2,
    "train.epochs": 30,
    "train.evaluate_every": 7,
    "train.average": 0.9,
    "train.clip_quantile": 0.4,
    "train.clip_adaptive": 0.5,
    "train.l1": {"U_n": 1e-4},
    "train.activation_l2": 0.1,
    "train.temporal_l2": 0.1,
    "train.checkpoint_seconds": 0.02,
    "train.early_stopping": 1000,
    "data.validation_fraction": 0.1,
}


def make_data() -> tuple[list[np.ndarray], list[str]]:
    generator = np.random.default_rng(3)
    x = [generator.normal(size=(int(n), 3)).astype(np.float32) for n in generator.integers(2, 9, size=260)]
    return x, ["up" if a[:, 0].sum() > 0 else "down" for a in x]


class Stop:
    """A listener that stops training after so many updates."""

    def __init__(self, after: int) -> None:
        self.after = after

    def begin(self, training: object) -> None: ...

    def evaluation(self, line: dict[str, Any]) -> None: ...

    def end(self) -> None: ...

    def update(self, step: int, loss: float) -> None:
        if step == self.after:
            raise KeyboardInterrupt


class Slow(Stop):
    """A listener that makes training last, however fast the machine, so that there is time to be killed."""

    def update(self, step: int, loss: float) -> None:
        time.sleep(0.04)


def go(folder: str) -> None:
    """Train, or go on, slowly: what the processes that are killed do."""
    if Path(folder, "recipe.toml").is_file():
        recurra.resume(folder, make_data(), listener=Slow(0))
    else:
        recurra.train("classify", make_data(), out=folder, settings=SETTINGS, seed=5, listener=Slow(0))


def weights_and_figures(folder: Path) -> tuple[dict[str, torch.Tensor], str]:
    return load_file(folder / "model.safetensors"), (folder / "metrics.jsonl").read_text()


def check_whole(folder: Path) -> None:
    """Every file that has its final name can be read from end to end."""
    for path in folder.rglob("*"):
        if path.name.startswith(".") or not path.is_file():
            continue
        if path.suffix == ".safetensors":
            load_file(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            for line in path.read_text().splitlines():
                json.loads(line)
            assert path.read_text()[-1:] in ("", "\n")
        elif path.suffix == ".toml":
            tomllib.loads(path.read_text())
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unbroken") / "run"
    recurra.train("classify", make_data(), out=folder, settings=SETTINGS, seed=5)
    return folder


def test_killed_at_twenty_random_moments(unbroken: Path, tmp_path: Path) -> None:
    # Processes are made from one that has everything imported but has run nothing, so that each begins at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recurra.run.api", "recurra.run.report", "tests.run.test_resume"])
    folder, moments, kills = tmp_path / "run", random.Random(11), 0
    for _ in range(400):
        process = context.Process(target=go, args=(str(folder),))
        process.start()
        if kills >= 20:
            process.join(120)
            assert process.exitcode == 0
            break
        # From before the folder is made to well into training.
        process.join(moments.uniform(0.02, 0.5))
        if process.is_alive():
            assert process.pid is not None
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            kills += 1
        elif (folder / "summary.json").is_file():
            pytest.fail(f"the run ended after {kills} kills, before it could be killed 20 times")
        if folder.exists():
            check_whole(folder)
    assert kills == 20
    expected, figures = weights_and_figures(unbroken)
    found, figures_found = weights_and_figures(folder)
    assert figures_found == figures
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert torch.equal(value, found[name]), name
    assert not list(folder.rglob("*.partial"))


def test_equal_seeds_give_equal_bytes(unbroken: Path, tmp_path: Path) -> None:
    recurra.train("classify", make_data(), out=tmp_path / "again", settings=SETTINGS, seed=5)
    assert sha256(tmp_path / "again" / "model.safetensors") == sha256(unbroken / "model.safetensors")
    assert (tmp_path / "again" / "metrics.jsonl").read_bytes() == (unbroken / "metrics.jsonl").read_bytes()
    predictions = "test_predictions.csv"
    assert (tmp_path / "again" / predictions).read_bytes() == (unbroken / predictions).read_bytes()


def test_another_seed_gives_other_weights(unbroken: Path, tmp_path: Path) -> None:
    recurra.train("classify", make_data(), out=tmp_path / "other", settings=SETTINGS, seed=6)
    assert sha256(tmp_path / "other" / "model.safetensors") != sha256(unbroken / "model.safetensors")


def test_carried_state_survives_a_stop(tmp_path: Path) -> None:
    settings = {"train.checkpoint_seconds": 0.0}
    recurra.train("sine", out=tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        recurra.train("sine", out=tmp_path / "broken", settings=settings, listener=Stop(57))
    recurra.resume(tmp_path / "broken")
    whole, broken = (weights_and_figures(tmp_path / name) for name in ("whole", "broken"))
    assert whole[1] == broken[1]
    for name, value in whole[0].items():
        assert torch.equal(value, broken[0][name]), name


CARRIED: dict[str, dict[str, Any]] = {
    "rtrl": {"learn.rule": "rtrl"},
    "rtrl, k1 = 3": {"learn.rule": "rtrl", "learn.k1": 3},
    "tbptt, k1 = 7, k2 = 12": {"learn.rule": "tbptt", "learn.k1": 7, "learn.k2": 12},
    "uoro": {"learn.rule": "uoro"},
    "uoro, k1 = 3": {"learn.rule": "uoro", "learn.k1": 3},
    "tbptt, layers of two widths": {"learn.rule": "tbptt", "model.num_layers": 2, "model.hidden_size": [4, 3]},
}


@pytest.mark.parametrize("rule", CARRIED)
def test_what_a_rule_carries_survives_a_stop(rule: str, tmp_path: Path) -> None:
    """Stopped within an epoch, the state and all that the rule keeps with it going on from sequence to sequence."""
    generator = np.random.default_rng(4)
    x = [generator.normal(size=(n, 2)).astype(np.float32) for n in (9, 1, 15, 8, 20, 7, 5, 16)]
    y = [["up" if v > 0 else "down" for v in np.cumsum(a[:, 0])] for a in x]
    settings: dict[str, Any] = {
        **{"learn.carry_state": True, "train.batch_size": 1, "train.shuffle": False, "train.epochs": 3},
        **{"model.cell": "lstm", "model.hidden_size": 4, "train.checkpoint_seconds": 0.0},
        **{"data.per_step": True, "data.validation_fraction": 0.0, "data.test_fraction": 0.0, **CARRIED[rule]},
    }
    recurra.train("classify", (x, y), out=tmp_path / "whole", settings=settings)
    for after in (3, 12):
        folder = tmp_path / f"{after}"
        with pytest.raises(KeyboardInterrupt):
            recurra.train("classify", (x, y), out=folder, settings=settings, listener=Stop(after))
        recurra.resume(folder, (x, y))
        whole, broken = (weights_and_figures(path) for path in (tmp_path / "whole", folder))
        assert whole[1] == broken[1]
        for name, value in whole[0].items():
            assert torch.equal(value, broken[0][name]), name


def test_changed_data_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        recurra.train(
            "classify",
            make_data(),
            out=tmp_path / "run",
            settings={**SETTINGS, "train.checkpoint_seconds": 0.0},
            listener=Stop(4),
        )
    x, y = make_data()
    x[0] = x[0] + 1
    with pytest.raises(RunError, match="the data are not those that this run began with"):
        recurra.resume(tmp_path / "run", (x, y))


def test_a_checkpoint_cut_short_is_told(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        recurra.train("sine", out=tmp_path / "run", settings={"train.checkpoint_seconds": 0.0}, listener=Stop(9))
    path = tmp_path / "run" / "checkpoints" / "last.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"last\.safetensors: is damaged or cut short"):
        recurra.resume(tmp_path / "run")


def test_two_processes_do_not_train_in_one_folder(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        recurra.train("sine", out=tmp_path / "run", listener=Stop(9))
    with (
        RunFolder(tmp_path / "run").locked(),
        pytest.raises(RunError, match="another process is training"),
    ):
        recurra.resume(tmp_path / "run")


def test_a_finished_run_is_left_as_it_is(unbroken: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.is_file()}
    recurra.resume(unbroken)
    assert {p: p.stat().st_mtime_ns for p in unbroken.rglob("*") if p.is_file()} == before


def test_a_loss_that_is_no_number_stops_the_run_and_no_checkpoint_that_was_not_good_stays(tmp_path: Path) -> None:
    settings = {
        "train.optimizer": "sgd",
        "train.lr": 1e30,
        "train.schedule": "constant",
        "train.clip_norm": 0.0,
        "train.checkpoint_seconds": 0.0,
        "model.cell": "elman",
        "model.options": {"activation": "relu"},
    }
    said = r"the loss became (nan|inf) at update \d+; no checkpoint was good, and none stays\. Try a lower train\.lr"
    with pytest.raises(RunError, match=said):
        recurra.train("classify", make_data(), out=tmp_path / "run", settings=settings)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


DIVERGES: dict[str, Any] = {
    "train.optimizer": "sgd",
    "train.lr": 0.02,
    "train.schedule": "constant",
    "train.clip_norm": 0.0,
    "train.epochs": 6,
    "train.checkpoint_seconds": 0.0,
    "train.shuffle": False,
    "model.cell": "elman",
    "model.options": {"activation": "relu"},
    "model.hidden_size": 5,
}


def explodes_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the learning rate absurd from an update on: the losses behind it are huge first, and then no numbers."""
    monkeypatch.setattr(training, "learning_rate", lambda at, _, settings: settings.lr if at < step else 1e3)


def table(path: Path) -> str:
    """The data as a file, of sequences of one length."""
    rows = [(y, *x[:2].ravel().tolist()) for x, y in zip(*make_data(), strict=True)]
    path.write_text("label," + ",".join("abcdef") + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("validation", [0.0, 0.1])
def test_after_a_divergence_the_checkpoint_is_good_and_the_command_told_begins_with_it(
    validation: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**DIVERGES, "data.validation_fraction": validation}
    source, run = table(tmp_path / "rows.csv"), tmp_path / "a run"
    recurra.train("classify", source, out=tmp_path / "whole", settings=settings)
    with monkeypatch.context() as patch:
        explodes_at(24, patch)
        with pytest.raises(RunError) as first:
            recurra.train("classify", source, out=run, settings=settings)
        kept = load_file(run / "checkpoints" / "last.safetensors")
        with pytest.raises(RunError) as second:
            recurra.resume(run)
    assert str(first.value) == str(second.value)
    again = load_file(run / "checkpoints" / "last.safetensors")
    for name, value in kept.items():
        assert torch.equal(again[name], value), name
        assert not name.startswith(("model.", "best.")) or float(value.abs().max()) < 10, name
    found = re.fullmatch(
        r".*: the (loss|norm of the gradient) became (nan|inf) at update \d+; the last good checkpoint stays, that of "
        r"update (\d+)\. Try a lower train\.lr \(now 0\.02\).*:\n(recurra train .*)",
        str(first.value),
    )
    assert found is not None, first.value
    step, command = int(found[3]), shlex.split(found[4])
    assert 20 <= step <= 24
    assert command[-4:] == ["--set", "train.lr=0.002", "--out", f"{run}-2"]
    assert main(command[1:]) == 0
    if not validation:
        assert f"{run} is not finished: taken are the weights of its last checkpoint, after {step} updates" in (
            capsys.readouterr().err.replace("\n", " ")
        )
    summary = recurra.load(f"{run}-2").summary
    assert (summary["recipe"]["train"]["lr"], summary["recipe"]["from_run"]) == (0.002, str(run))
    recurra.resume(run)  # as it was before its checkpoint, whole
    assert sha256(run / "model.safetensors") == sha256(tmp_path / "whole" / "model.safetensors")
    assert not list((run / "checkpoints").iterdir())


def test_data_that_are_no_file_are_told_of_as_a_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explodes_at(24, monkeypatch)
    with pytest.raises(RunError) as said:
        recurra.train("classify", make_data(), out=tmp_path / "run", settings=DIVERGES)
    monkeypatch.undo()
    call = str(said.value).splitlines()[1]
    done = eval(call, {"recurra": recurra, "data": make_data()})
    assert done.path == tmp_path / "run-2"
    assert done.summary["recipe"]["train"]["lr"] == 0.002


@pytest.mark.parametrize(
    ("more", "prefix", "said"),
    [
        ({}, "best", "the best weights so far"),
        ({"data.validation_fraction": 0.0}, "model", "the weights of its last checkpoint"),
        ({"data.validation_fraction": 0.0, "train.average": 0.9}, "mean", "the weights of its last checkpoint"),
    ],
)
def test_a_run_that_was_stopped_gives_its_weights_to_another(
    more: dict[str, Any], prefix: str, said: str, tmp_path: Path
) -> None:
    plain = {"train.checkpoint_seconds": 0.0, "train.early_stopping": None, "train.average": 0.0}
    with pytest.raises(KeyboardInterrupt):
        recurra.train(
            "classify", make_data(), out=tmp_path / "run", settings={**SETTINGS, **plain, **more}, listener=Stop(20)
        )
    tensors, facts = checkpoint.read(tmp_path / "run" / "checkpoints" / "last.safetensors")
    kept, step = checkpoint.under_prefix(prefix, tensors), facts["progress"]["best_step"] or 19
    assert kept
    still = {"train.epochs": 1, "train.lr": 1e-30, "train.optimizer": "sgd"}
    done = recurra.train("classify", make_data(), out=tmp_path / "then", from_run=tmp_path / "run", settings=still)
    assert f"{tmp_path / 'run'} is not finished: taken are {said}, after {step} updates" in done.summary["warnings"]
    for name, value in kept.items():
        assert torch.equal(done.network.state_dict()[name], value), name


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_move(tmp_path: Path) -> None:
    """States of zero pass an error on through U alone, thirty powers of ten a step; the loss is finite throughout."""
    x = [np.zeros((9, 2), dtype=np.float32) for _ in range(40)]
    settings = {"model.cell": "elman", "model.init": {"U": "identity*1e30"}, "train.checkpoint_seconds": 0.0}
    with pytest.raises(RunError, match=r"the norm of the gradient became (nan|inf) at update 1\. Try .*model\.init"):
        recurra.train("classify", (x, ["a", "b"] * 20), out=tmp_path / "run", settings=settings)
    assert not (tmp_path / "run" / "checkpoints" / "last.safetensors").exists()


def test_replacing_leaves_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with (
        pytest.raises(
            RunError, match="cannot be written: No space left on device; what stood there before is as it was"
        ),
        replacing(path) as temporary,
    ):
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_time_does_not_reach_the_figures(unbroken: Path) -> None:
    keys = set().union(*(json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()))
    assert keys == {"step", "epoch", "samples", "lr", "train_loss", "gradient_norm", "validation"}
