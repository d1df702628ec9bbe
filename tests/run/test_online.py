"""Learning from a stream: honest predictions, the weights of a plain loop, states apart, no end that loses rows."""

import csv
import io
import json
import math
import multiprocessing
import os
import random
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file

import recurra
from recurra import learn
from recurra.cli import main
from recurra.data import Schema, Sequences
from recurra.errors import RecipeError, RunError
from recurra.files import sha256
from recurra.learn.optimise import make_optimizer
from recurra.run import stream
from recurra.run.figures import number
from recurra.run.running import Scale, Scores
from recurra.tasks import TASKS, Predictions
from recurra.tasks.model import ModelSettings, SequenceModel
from recurra.tasks.regress import RegressTrainSettings

SMALL: dict[str, Any] = {"model.cell": "lstm", "model.hidden_size": 4, "train.threads": 1}
RULES: dict[str, dict[str, Any]] = {
    "rtrl": {"learn.rule": "rtrl"},
    "rtrl, every third row": {"learn.rule": "rtrl", "learn.k1": 3},
    "rtrl by layer": {"learn.rule": "rtrl", "learn.stack": "by_layer", "model.num_layers": 2, "model.cell": "gru"},
    "snap1": {"learn.rule": "snap1"},
    "eprop": {"learn.rule": "eprop"},
    "uoro": {"learn.rule": "uoro"},
    "tbptt": {"learn.rule": "tbptt", "learn.k1": 4, "learn.k2": 7},
}


def drawn(count: int, columns: int = 2, seed: int = 0) -> np.ndarray:
    """(count, columns + 1): inputs of unlike scales, and what is to be predicted: a mean of past inputs."""
    x = np.random.default_rng(seed).normal(size=(count, columns)) * (1 + 4 * np.arange(columns)) + 3
    y = np.convolve(x.sum(1), [0.5, 0.3, 0.2])[:count]
    return np.round(np.column_stack([x, y]), 4)


def table(values: np.ndarray, **columns: list[Any]) -> str:
    """As CSV: x0, x1, … and y, with further columns."""
    names = [*columns, *(f"x{i}" for i in range(values.shape[1] - 1)), "y"]
    rows = [
        [*(column[i] for column in columns.values()), *("" if math.isnan(v) else v for v in row)]
        for i, row in enumerate(values.tolist())
    ]
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([names, *rows])
    return text.getvalue()


def go(
    folder: Path, text: str, task: str = "regress", write: Callable[[dict[str, Any]], None] | None = None, **more: Any
) -> list[dict[str, Any]]:
    """Learn from a stream; the rows of its predictions."""
    found: list[dict[str, Any]] = []
    options = {key: more.pop(key) for key in ("tell", "stop", "from_run") if key in more}
    given = {**SMALL, **{key.replace("__", "."): value for key, value in more.items()}}

    def both(row: dict[str, Any]) -> None:
        found.append(row)
        if write is not None:
            write(row)

    stream.train(task, io.BytesIO(text.encode()), out=folder, settings=given, write=both, **options)
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


class KilledError(Exception):
    """Ends a run at once, with nothing saved."""


def killed_at(index: int) -> Callable[[dict[str, Any]], None]:
    def write(row: dict[str, Any]) -> None:
        if row["index"] == index:
            raise KilledError

    return write


# What it computes


def test_it_is_a_plain_loop_over_the_rule(tmp_path: Path) -> None:
    """The same with the objects that a person's own loop has, and scales made of all rows so far by NumPy."""
    values = drawn(60)
    said = go(tmp_path / "run", table(values), train__optimizer="sgd", train__lr=0.05, train__momentum=0.0)

    torch.manual_seed(0)
    network = SequenceModel(
        ModelSettings(cell="lstm", hidden_size=4, bidirectional=False), 1, input_size=2, per_step=True
    )
    rule = learn.RTRL().begin(network.recurrent)
    optimizer = torch.optim.SGD(network.parameters(), 0.05)
    for t, (row, loss_so_far) in enumerate(zip(values, np.cumsum(np.ones(60)), strict=True)):
        seen, earlier, upto = values[: t + 1, :2], values[:t, 2], values[: t + 1, 2]
        spread = np.where(seen.std(0) > 0, seen.std(0), 1.0)
        x = torch.tensor((row[:2] - seen.mean(0)) / spread, dtype=torch.float32)
        out = network.output(network.head(rule(x)))
        known = (earlier.mean(), earlier.std() if t > 1 else 1.0) if t else (0.0, 1.0)
        assert said[t]["prediction"] == pytest.approx(float(out.detach()) * known[1] + known[0], rel=2e-4, abs=2e-4)
        target = (row[2] - upto.mean()) / (upto.std() if t else 1.0)
        loss = (out - target).square().mean()
        optimizer.zero_grad()
        assert rule.step(loss)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        assert said[t]["target"] == row[2]
        errors = [(one["prediction"] - one["target"]) ** 2 for one in said[: t + 1]]
        assert said[t]["loss"] == pytest.approx(sum(errors) / loss_so_far)
    for name, value in network.state_dict().items():
        if name not in ("mean", "deviation", "target_mean", "target_deviation"):
            torch.testing.assert_close(weights(tmp_path / "run")[name], value, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("rule", RULES)
def test_no_prediction_knows_its_target_nor_what_comes_later(rule: str, tmp_path: Path) -> None:
    values = drawn(24)
    told = values.copy()
    told[12, 2] += 5
    told[13:] += 1
    one = go(tmp_path / "one", table(values), **_keys(RULES[rule]))
    other = go(tmp_path / "other", table(told), **_keys(RULES[rule]))
    predictions = [[row["prediction"] for row in said] for said in (one, other)]
    assert predictions[0][:13] == predictions[1][:13]
    assert all(a != b for a, b in zip(predictions[0][16:], predictions[1][16:], strict=True))


def _keys(settings: dict[str, Any]) -> dict[str, Any]:
    return {key.replace(".", "__"): value for key, value in settings.items()}


@pytest.mark.parametrize("rule", ["rtrl", "snap1", "eprop"])
def test_it_learns(rule: str, tmp_path: Path) -> None:
    go(tmp_path / "run", table(drawn(300)), train__lr=0.03, train__evaluate_every=100, **_keys(RULES[rule]))
    found = recurra.load(tmp_path / "run").summary["stream"]
    assert found["window"]["rmse"] < 0.6 * found["plain"]["mean so far"]["rmse"]


def test_rows_without_a_target_are_only_predicted(tmp_path: Path) -> None:
    values = drawn(20)
    values[5:9, 2] = np.nan
    said = go(tmp_path / "run", table(values))
    assert [row["target"] for row in said[4:9]] == [values[4, 2], None, None, None, None]
    assert [row["loss"] for row in said[4:9]] == [said[4]["loss"]] * 5
    assert all(math.isfinite(row["prediction"]) for row in said)
    summary = recurra.load(tmp_path / "run").summary
    assert (summary["stream"]["rows"], summary["samples_seen"], summary["updates"]) == (20, 16, 16)


def test_the_next_value_of_a_single_column(tmp_path: Path) -> None:
    """One column is asked for its next value: the same predictions as with that value in a column of its own."""
    values = np.round(np.sin(np.arange(40) / 3), 4)
    alone = go(tmp_path / "alone", "v\n" + "".join(f"{v}\n" for v in values))
    apart = np.column_stack([values[:-1], values[1:]])
    beside = go(tmp_path / "beside", table(apart))
    assert alone[0] | {"next": None} == {
        "index": 0,
        "prediction": None,
        "target": values[0],
        "loss": None,
        "next": None,
    }
    assert [row["prediction"] for row in alone[1:]] == [row["prediction"] for row in beside]
    assert [row["target"] for row in alone] == values.tolist()
    following = [row["next"] for row in alone[:-1]]
    np.testing.assert_allclose(following, [row["prediction"] for row in alone[1:]], rtol=1e-4, atol=1e-5)
    for name in ("recurrent.weight_hh_l0", "output.weight"):
        assert torch.equal(weights(tmp_path / "alone")[name], weights(tmp_path / "beside")[name])


STILL: dict[str, Any] = {"train__lr": 1e-30, "model__normalise": "none", "train__normalise_targets": False}
"""Nothing that one row does reaches another but by the state."""


@pytest.mark.parametrize("rule", ["rtrl", "tbptt"])
def test_streams_that_come_interleaved_have_states_of_their_own(rule: str, tmp_path: Path) -> None:
    values = drawn(30)
    ids = [str("abc"[random.Random(i).randrange(3)]) for i in range(30)]
    together = go(tmp_path / "all", table(values, id=ids), **STILL, **_keys(RULES[rule]))
    for name in "abc":
        mine = [i for i in range(30) if ids[i] == name]
        alone = go(tmp_path / name, table(values[mine]), **STILL, **_keys(RULES[rule]))
        assert [together[i]["prediction"] for i in mine] == [row["prediction"] for row in alone]
        assert all(together[i]["id"] == name for i in mine)


def test_a_reset_is_a_new_beginning(tmp_path: Path) -> None:
    values = drawn(20)
    values[10:, :2] = values[:10, :2]
    column = [int(i == 10) for i in range(20)]
    said = [row["prediction"] for row in go(tmp_path / "a", table(values, new=column), data__reset="new", **STILL)]
    assert said[10:] == said[:10]
    assert len(set(said)) == 10
    plain = [row["prediction"] for row in go(tmp_path / "plain", table(values), **STILL)]
    assert plain[10:] != plain[:10]


def test_of_too_many_streams_the_one_silent_for_longest_begins_anew_and_it_is_told(tmp_path: Path) -> None:
    values = np.repeat(drawn(1), 8, 0)
    told: list[str] = []
    ids = list("abacabca")  # of two: c takes the place of b, then b that of c, and so on
    said = go(tmp_path / "run", table(values, id=ids), **STILL, data__streams=2, tell=told.append)
    predictions = [row["prediction"] for row in said]
    new = predictions[0]
    assert [p == new for p in predictions] == [True, True, False, True, False, True, True, True]
    (warning,) = [text for text in told if text.startswith("warning")]
    assert "'b' came again after its state was given up: data.streams = 2" in warning


def test_classes_and_sets_of_labels(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=300)
    text = "x,label\n" + "".join(f"{v:.3f},{'up' if v > 0 else 'down'}\n" for v in x)
    said = go(tmp_path / "one", text, "classify", data__classes=["up", "down"], train__lr=0.03)
    assert list(said[0]) == ["index", "prediction", "p_down", "p_up", "target", "loss"]
    assert said[0]["p_down"] + said[0]["p_up"] == pytest.approx(1)
    found = recurra.load(tmp_path / "one").summary["stream"]
    assert found["so_far"]["accuracy"] == pytest.approx(np.mean([row["prediction"] == row["target"] for row in said]))
    assert found["so_far"]["accuracy"] > 0.85
    assert found["plain"]["commonest so far"]["accuracy"] < 0.7
    text = "x,label\n" + "".join(f"{v:.3f},{'big;' * int(abs(v) > 1)}{'up' * int(v > 0)}\n" for v in x)
    said = go(
        tmp_path / "set", text, "classify", data__classes=["up", "big"], data__label_separator=";", train__lr=0.03
    )
    assert {row["target"] for row in said} == {"", "up", "big", "big;up"}
    last = said[-100:]
    assert np.mean([set(row["prediction"].split(";")) == set(row["target"].split(";")) for row in last]) > 0.6


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_quicker_optimiser_takes_the_same_steps(optimizer: Any) -> None:
    settings = RegressTrainSettings(optimizer=optimizer, weight_decay=0.1)
    found = []
    for fused in (False, True):
        torch.manual_seed(0)
        parameters = [("weight", torch.nn.Parameter(torch.randn(5, 3))), ("bias", torch.nn.Parameter(torch.randn(5)))]
        steps = make_optimizer(parameters, settings, fused=fused)
        for _ in range(20):
            for _, p in parameters:
                p.grad = torch.randn_like(p)
            steps.step()
        found.append([p.detach() for _, p in parameters])
    torch.testing.assert_close(found[0], found[1])


# Figures that run along


@settings(max_examples=40)
@given(
    st.lists(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3), min_size=1, max_size=20),
    st.sampled_from(["feature", "global", "unit", "none"]),
)
def test_a_running_scale_is_that_of_the_whole(rows: list[list[float]], how: Any) -> None:
    scale = Scale(3, how)
    mean, deviation = torch.zeros(3), torch.ones(3)
    for row in rows:
        scale.add(np.array(row))
        scale.fill(mean, deviation)
    network = SequenceModel(ModelSettings(hidden_size=1), 1, input_size=3)
    whole = torch.tensor(rows)
    network.scale_from(Sequences(whole, torch.tensor([0, len(rows)])), how)
    size = float(whole.abs().max())
    torch.testing.assert_close(mean, network.mean.expand(3), rtol=1e-4, atol=1e-6 * size)
    varied = deviation > 1e-4 * size  # less is lost in single precision, by the one or the other
    torch.testing.assert_close(deviation[varied], network.deviation.expand(3)[varied], rtol=1e-2, atol=1e-4 * size)
    again = Scale(3, how)
    again.restore(scale.tensors())
    other_mean, other_deviation = torch.zeros(3), torch.ones(3)
    again.fill(other_mean, other_deviation)
    assert torch.equal(other_mean, mean)
    assert torch.equal(other_deviation, deviation)


def scored(schema: Schema, window: int, outputs: np.ndarray, targets: np.ndarray) -> Scores:
    task = TASKS[schema.task](schema, TASKS[schema.task].train_settings())
    found = Scores(task, window)
    for i, (said, target) in enumerate(zip(outputs, targets, strict=True)):
        found.add(said, target)
        if i == len(outputs) // 2:  # through a checkpoint
            kept, found = found.tensors(), Scores(task, window)
            found.restore(kept)
    return found


def test_scores_are_those_of_the_task() -> None:
    random = np.random.default_rng(1)
    numbers = Schema(task="regress", format="long", input="numbers", features=["x"], targets=["u", "v"], per_step=True)
    classes = Schema(task="classify", format="long", input="numbers", classes=list("abc"), per_step=True)
    several = classes.model_copy(update={"multi_label": True})
    shares = random.dirichlet(np.ones(3), 50)
    for schema, outputs, targets in (
        (numbers, random.normal(size=(50, 2)), random.normal(size=(50, 2))),
        (classes, shares, random.integers(3, size=50)),
        (several, random.random((50, 3)), random.random((50, 3)) > 0.5),
    ):
        found = scored(schema, 20, outputs, targets)
        task = TASKS[schema.task](schema, TASKS[schema.task].train_settings())
        last, whole = (
            task.scores(Predictions(outputs[n:], targets[n:], np.array([0, 50 - n]), None, schema)) for n in (30, 0)
        )
        last.pop("sequence_accuracy", None)
        assert found.window() == pytest.approx(last)
        assert found.so_far() == pytest.approx({name: whole[name] for name in found.so_far()})
        assert found.recent_loss == pytest.approx(last.get("loss", last.get("mse")))
    plain = scored(numbers, 20, *(2 * [np.array([[1.0, 1.0], [3.0, 3.0], [5.0, 5.0]])])).plain()["mean so far"]
    assert plain["mse"] == pytest.approx((2**2 + 3**2) / 2)
    said = scored(classes, 20, shares[:4], np.array([0, 1, 1, 1])).plain()
    assert said == {"commonest so far": {"accuracy": pytest.approx(1 / 3)}}


def test_metrics_are_a_line_for_so_many_targets(tmp_path: Path) -> None:
    values = drawn(50)
    values[::5, 2] = np.nan
    said = go(tmp_path / "run", table(values), train__evaluate_every=15)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["samples"] for line in lines] == [15, 30]
    errors = [(row["prediction"] - row["target"]) ** 2 for row in said if row["target"] is not None]
    assert [line["window"]["mse"] for line in lines] == pytest.approx([np.mean(errors[:15]), np.mean(errors[15:30])])
    assert lines[1]["so_far"]["mse"] == pytest.approx(np.mean(errors[:30]))
    assert all("seconds" not in line for line in lines)


# Ends


@pytest.mark.parametrize("rule", RULES)
def test_killed_and_gone_on_it_ends_as_the_unbroken_run(rule: str, tmp_path: Path) -> None:
    """Killed three times, each time the rows behind the last checkpoint come again."""
    values = drawn(28)
    ids = [("a", "b")[i % 3 == 0] for i in range(28)]
    text = table(values, id=ids)
    keys = {
        **_keys(RULES[rule]),
        "train__checkpoint_seconds": 0.0,
        "train__evaluate_every": 6,
        "train__clip_norm": 0.0,
        "train__clip_quantile": 0.5,
    }
    whole = go(tmp_path / "whole", text, **keys)
    lines = text.splitlines(keepends=True)
    with pytest.raises(KilledError):
        go(tmp_path / "run", text, write=killed_at(9), **keys)
    again: list[dict[str, Any]] = []
    for index in (10, 19, None):
        told: list[str] = []
        with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 7')  # as a power cut may leave it
        done = _done(tmp_path / "run")
        rest = lines[0] + "".join(lines[1 + done :])
        options: dict[str, Any] = {"write": killed_at(index) if index else again.append, "tell": told.append}
        if index:
            with pytest.raises(KilledError):
                stream.resume(tmp_path / "run", io.BytesIO(rest.encode()), **options)
        else:
            stream.resume(tmp_path / "run", io.BytesIO(rest.encode()), **options)
        assert told[0].endswith(f"{done} rows are learnt; the stream goes on with row {done + 1} (index {done})")
    assert again == whole[again[0]["index"] :]
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(tmp_path / "run")[name]), name
    for name in ("metrics.jsonl",):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    one, other = (recurra.load(tmp_path / name).summary for name in ("whole", "run"))
    assert one["stream"] == other["stream"]
    assert one["sha256"] == other["sha256"]


def _done(folder: Path) -> int:
    """The rows that the last checkpoint knows of."""
    path = folder / "checkpoints" / "last.safetensors"
    if not path.is_file():
        return 0
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["facts"])["progress"]["lines"]


KILLED = {**SMALL, "train.checkpoint_seconds": 0.02, "train.evaluate_every": 7}
ROWS = 80


def learn_slowly(folder: str) -> None:
    """Learn, or go on, slowly: what the processes that are killed do. The file is read from its beginning."""
    path = str(Path(folder).parent / "rows.csv")

    def write(_: dict[str, Any]) -> None:
        time.sleep(0.01)

    if Path(folder, "recipe.toml").is_file():
        stream.resume(folder, path, write=write)
    else:
        stream.train("regress", path, out=folder, settings=KILLED, write=write)


def test_killed_at_random_moments(tmp_path: Path) -> None:
    """By SIGKILL, which leaves a process no time for anything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["recurra.run.stream", "tests.run.test_online"])
    (tmp_path / "rows.csv").write_text(table(drawn(ROWS)))
    folder, moments, kills = tmp_path / "run", random.Random(5), 0
    for _ in range(100):
        process = context.Process(target=learn_slowly, args=(str(folder),))
        process.start()
        process.join(120 if kills >= 5 else moments.uniform(0.05, 0.6))
        if not process.is_alive():
            assert process.exitcode == 0
            break
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
    assert kills >= 3
    go(tmp_path / "whole", table(drawn(ROWS)), **_keys(KILLED))
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(value, weights(folder)[name]), name
    assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()
    assert not list(folder.rglob("*.partial"))


@contextmanager
def running(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """The command, its standard input, output and error open."""
    line = [sys.executable, "-m", "recurra", "train", "regress", "--stream", "--out", str(folder), "--set"]
    line += ["model.hidden_size=3", "--set", "data.target=y", *words]
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(line, text=True, bufsize=1, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_each_line_is_answered_at_once_and_an_interrupt_ends_the_stream_well(tmp_path: Path) -> None:
    with running(tmp_path / "run") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        lines = table(drawn(5)).splitlines(keepends=True)
        process.stdin.write(lines[0])
        for i, line in enumerate(lines[1:]):
            process.stdin.write(line)
            if i == 0:
                assert process.stdout.readline() == "index,prediction,target,loss\n"
            assert process.stdout.readline().startswith(f"{i},")  # which would never come if more were waited for
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        said = process.stderr.read()
    assert "stopped by SIGINT\n5 rows, 5 learnt from" in said
    assert "Traceback" not in said
    (tmp_path / "more.csv").write_text(table(drawn(5)))
    assert len(recurra.load(tmp_path / "run").predict(str(tmp_path / "more.csv")).outputs) == 5


def test_a_reader_that_goes_away_ends_the_stream_quietly(tmp_path: Path) -> None:
    with running(tmp_path / "run") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(table(drawn(2)))
        assert process.stdout.readline().startswith("index")
        process.stdout.close()
        process.stdin.write(table(drawn(9)).partition("\n")[2])
        process.stdin.close()
        assert process.wait(30) == 1
        said = process.stderr.read()
    assert "Traceback" not in said
    assert "Error" not in said
    assert "Exception" not in said
    found = recurra.load(tmp_path / "run")
    assert found.summary["stream"]["rows"] >= 2
    assert found.network is not None


@pytest.mark.parametrize("while_it_waits", [False, True])
def test_a_signal_ends_the_stream_between_two_rows(while_it_waits: bool, tmp_path: Path) -> None:
    """While a row is learnt, it is learnt to its end; while the next one is waited for, there is nothing to end."""
    out, into = os.pipe()
    stop, before = stream.Stop(), signal.getsignal(signal.SIGTERM)

    def write(row: dict[str, Any]) -> None:
        if row["index"] == 4 and not while_it_waits:
            os.kill(os.getpid(), signal.SIGTERM)
        elif row["index"] == 4:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM)).start()

    lines = table(drawn(20)).splitlines(keepends=True)
    with os.fdopen(out, "rb") as binary, os.fdopen(into, "wb") as pipe, stop.listening():
        pipe.write("".join(lines[: 6 if while_it_waits else None]).encode())
        pipe.flush()
        stream.train("regress", binary, out=tmp_path / "run", settings=SMALL, write=write, stop=stop)
    assert stop.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before
    found = recurra.load(tmp_path / "run")
    assert (found.summary["stream"]["rows"], found.summary["samples_seen"]) == (5, 5)
    assert found.network is not None


def test_what_was_learnt_is_saved_while_no_line_comes(tmp_path: Path) -> None:
    out, into = os.pipe()
    stop, found = stream.Stop(), []

    def look() -> None:
        found.append(_done(tmp_path / "run"))
        pipe.close()

    def write(row: dict[str, Any]) -> None:
        if row["index"] == 2:
            assert _done(tmp_path / "run") == 0
            threading.Timer(3, look).start()

    with os.fdopen(out, "rb") as binary, os.fdopen(into, "wb") as pipe, stop.listening():
        pipe.write(table(drawn(3)).encode())
        pipe.flush()
        given = {**SMALL, "train.checkpoint_seconds": 1.0}
        stream.train("regress", binary, out=tmp_path / "run", settings=given, write=write, stop=stop)
    assert found == [3]


def test_a_stream_is_not_starved_by_looks_at_the_clock() -> None:
    stop, looks = stream.Stop(), []
    with stop.listening(), stop.meanwhile(1e-6, lambda: looks.append(0)), stop.waiting():
        until = time.monotonic() + 1
        while time.monotonic() < until:
            time.sleep(0.01)
    assert 2 < len(looks) <= 1 / stream.SHORTEST


def test_a_stop_before_the_first_row_leaves_nothing(tmp_path: Path) -> None:
    out, into = os.pipe()
    stop = stream.Stop()
    with stop.listening():
        os.kill(os.getpid(), signal.SIGINT)
    with os.fdopen(out, "rb") as binary, os.fdopen(into, "wb"), pytest.raises(KeyboardInterrupt):
        stream.train("regress", binary, out=tmp_path / "run", write=lambda _: None, stop=stop)
    assert list(tmp_path.iterdir()) == []


def test_after_its_end_a_stream_goes_on(tmp_path: Path) -> None:
    """Rows of a file that were learnt are passed over; a pipe begins with the next, with a header or without."""
    lines = table(drawn(30)).splitlines(keepends=True)
    whole = go(tmp_path / "whole", "".join(lines))
    go(tmp_path / "file", "".join(lines[:11]))
    (tmp_path / "all.csv").write_text("".join(lines))
    rest: list[dict[str, Any]] = []
    stream.resume(tmp_path / "file", str(tmp_path / "all.csv"), write=rest.append)
    assert rest == whole[10:]
    for name, header in (("with", lines[0]), ("without", "")):
        go(tmp_path / name, "".join(lines[:11]))
        rest.clear()
        stream.resume(tmp_path / name, io.BytesIO((header + "".join(lines[11:])).encode()), write=rest.append)
        assert rest == whole[10:]
        assert sha256(tmp_path / name / "model.safetensors") == sha256(tmp_path / "whole" / "model.safetensors")


WINDOWS: dict[str, dict[str, Any]] = {
    "tbptt, k1 = k2 = 5": {"learn.rule": "tbptt", "learn.k1": 5, "learn.k2": 5},
    "tbptt, k1 = 3, k2 = 7": {"learn.rule": "tbptt", "learn.k1": 3, "learn.k2": 7},
    "tbptt, the first state learnt": {
        **{"learn.rule": "tbptt", "learn.k1": 3, "learn.k2": 7},
        **{"model.cell": "gru", "model.learn_initial_state": True},
    },
    "rtrl, k1 = 4": {"learn.rule": "rtrl", "learn.k1": 4},
    "uoro, k1 = 3": {"learn.rule": "uoro", "learn.k1": 3},
}


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        *((rule, "numbers") for rule in WINDOWS),
        *(("tbptt, k1 = 3, k2 = 7", kind) for kind in ("labels", "sets of labels", "the next value")),
    ],
)
def test_stopped_within_a_window_it_ends_as_the_unbroken_run(rule: str, kind: str, tmp_path: Path) -> None:
    """At every place in a window, where there are two streams, targets that are missing, and states that begin anew."""
    keys = {**_keys(WINDOWS[rule]), "data__reset": "reset", "train__clip_quantile": 0.5, "train__evaluate_every": 4}
    if "labels" in kind:
        keys |= {"data__classes": ["a", "b", "c"]} | ({"data__label_separator": "|"} if "sets" in kind else {})
    text, task = _interleaved(kind)
    lines = text.splitlines(keepends=True)
    whole = go(tmp_path / "whole", text, task, **keys)
    for stop in range(1, 8):
        folder = tmp_path / f"{stop}"
        first = go(folder, "".join(lines[: 1 + stop]), task, **keys)
        assert recurra.load(folder).network is not None
        rest: list[dict[str, Any]] = []
        told: list[str] = []
        stream.resume(folder, io.BytesIO("".join(lines[1 + stop :]).encode()), write=rest.append, tell=told.append)
        assert f"the stream goes on with row {stop + 1} " in told[0]
        assert first + rest == whole
        assert sha256(folder / "model.safetensors") == sha256(tmp_path / "whole" / "model.safetensors"), stop
        assert (folder / "metrics.jsonl").read_bytes() == (tmp_path / "whole" / "metrics.jsonl").read_bytes()


def _interleaved(kind: str) -> tuple[str, str]:
    """Seventeen rows of two streams, and the task that they are for."""
    values, task = drawn(17), "regress"
    ids = [("a", "b")[i % 3 == 1] for i in range(17)]
    resets = [int(i == 9) for i in range(17)]
    if kind == "the next value":
        rows = [[i, reset, v[0]] for i, reset, v in zip(ids, resets, values, strict=True)]
        return "id,reset,x\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), task
    if kind != "numbers":
        labels = ["a", "b", "c", "a|c", ""] if kind == "sets of labels" else ["a", "b", "c", "b", ""]
        rows = [[i, r, *v[:2], labels[k * 3 % 5]] for k, (i, r, v) in enumerate(zip(ids, resets, values, strict=True))]
        return "id,reset,x0,x1,label\n" + "".join(",".join(map(str, row)) + "\n" for row in rows), "classify"
    values[[2, 3, 7], -1] = math.nan
    return table(values, id=ids, reset=resets), task


@pytest.mark.parametrize(("rule", "updates"), [("rtrl", 10), ("rtrl, every third row", 4), ("tbptt", 3)])
def test_what_is_under_way_at_the_end_is_learnt(rule: str, updates: int, tmp_path: Path) -> None:
    go(tmp_path / "run", table(drawn(10)), **_keys(RULES[rule]))
    assert recurra.load(tmp_path / "run").summary["updates"] == updates


def test_weights_that_no_summary_vouches_for_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped between the weights and the summary of a later end, a run is one that is not finished."""
    lines = table(drawn(12)).splitlines(keepends=True)
    go(tmp_path / "run", "".join(lines[:6]))

    def stopped(*_: Any) -> None:
        raise KilledError

    monkeypatch.setattr(stream, "write_report", stopped)
    with pytest.raises(KilledError):
        stream.resume(tmp_path / "run", io.BytesIO("".join(lines[6:]).encode()), write=lambda _: None)
    with pytest.raises(RunError, match="is not finished; go on with it: recurra train --stream --resume"):
        _ = recurra.load(tmp_path / "run").network


def test_a_file_that_has_fewer_rows_than_were_learnt_is_another_one(tmp_path: Path) -> None:
    go(tmp_path / "run", table(drawn(9)))
    (tmp_path / "few.csv").write_text(table(drawn(5)))
    with pytest.raises(recurra.errors.DataError, match="has 5 rows, of which 9 are learnt already"):
        stream.resume(tmp_path / "run", str(tmp_path / "few.csv"), write=lambda _: None)


DIVERGED = {"train__optimizer": "sgd", "train__lr": 1e30, "train__clip_norm": 0.0, "train__checkpoint_seconds": 0.0}


def test_a_diverged_loss_stops_and_the_last_good_checkpoint_stays(tmp_path: Path) -> None:
    """The rows before it are learnt well; behind one that is far from all others the weights are huge, then none."""
    values = drawn(40)
    values[30, -1] = 1e9
    source, run = tmp_path / "rows.csv", tmp_path / "run"
    source.write_text(table(values))
    given = {**SMALL, "model.cell": "elman", "model.options": {"activation": "relu"}, "train.clip_norm": 0.0}
    given |= {"train.optimizer": "sgd", "train.normalise_targets": False, "train.checkpoint_seconds": 0.0}
    with pytest.raises(RunError) as said:
        stream.train("regress", str(source), out=run, settings=given, write=lambda _: None)
    path = run / "checkpoints" / "last.safetensors"
    kept = load_file(path)
    assert all(float(v.abs().max()) < 10 for name, v in kept.items() if name.startswith("model."))
    assert not (run / "summary.json").exists()
    message, command = str(said.value).splitlines()
    assert re.search(r" at index 3\d of the stream; the last good", message)
    assert message.endswith(
        f"; the last good checkpoint stays, that of row {_done(run)}. Try a lower train.lr (now 0.003) or "
        "train.clip_norm (now none), or another model.cell:"
    )
    assert 20 < _done(run) <= 30
    assert main([*shlex.split(command)[1:], "--set", "train.clip_norm=1"]) == 0
    then = recurra.load(f"{run}-2").summary
    assert then["recipe"]["train"]["lr"] == 0.0003
    assert then["stream"]["rows"] == 40
    assert f"{run} is not finished: taken are the weights of its last checkpoint" in then["warnings"][0]
    with pytest.raises(RunError) as again:
        stream.resume(run, str(source), write=lambda _: None)
    assert str(again.value).splitlines()[0] == message
    for name, value in load_file(path).items():
        assert torch.equal(value, kept[name]), name


def test_where_no_checkpoint_was_good_none_stays(tmp_path: Path) -> None:
    with pytest.raises(
        RunError, match=r"at index \d+ of the stream; no checkpoint was good, and none stays\. Try"
    ) as said:
        go(tmp_path / "run", table(drawn(30)), model__cell="elman", model__options={"activation": "relu"}, **DIVERGED)
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    assert "--from" not in str(said.value)


def test_a_stream_that_went_on_behind_its_end_gives_its_newer_weights(tmp_path: Path) -> None:
    lines = table(drawn(20)).splitlines(keepends=True)
    go(tmp_path / "run", "".join(lines[:11]), train__checkpoint_seconds=0.0)
    assert recurra.load(tmp_path / "run").so_far[1] == ""
    with pytest.raises(KilledError):
        stream.resume(tmp_path / "run", io.BytesIO("".join(lines[11:]).encode()), write=killed_at(15))
    network, said = recurra.load(tmp_path / "run").so_far
    assert said.endswith(
        "run has gone on since its end: taken are the weights of its last checkpoint, after 15 updates"
    )
    go(tmp_path / "whole", "".join(lines[:16]))
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(network.state_dict()[name], value), name


def test_a_prediction_that_is_no_number_is_not_written(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    more = {**DIVERGED, "train__lr": 1e300}
    with pytest.raises(RunError, match="the network's output is no number at index 1 of the stream"):
        go(tmp_path / "run", "a,y\n1,5\n2,\n", write=said.append, **more)
    assert len(said) == 1


def test_a_gradient_that_is_no_number_stops_before_the_weights_move(tmp_path: Path) -> None:
    """States near zero pass an error on through U alone, thirty powers of ten a row; the loss stays finite."""
    text = "a,y\n" + "".join(f"0,{i % 2}\n" for i in range(9))
    more = {"model__cell": "elman", "model__init": {"U": "identity*1e30"}, "model__normalise": "none"}
    with pytest.raises(RunError, match=r"the norm of the gradient became (nan|inf) at index [1-9] of the stream"):
        go(tmp_path / "run", text, train__checkpoint_seconds=0.0, train__optimizer="sgd", train__lr=1e-300, **more)


MEMORY = """
import sys
from pathlib import Path
from recurra.run import stream

def write(row):
    if row["index"] in (20_000, 199_999):
        print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096, flush=True)

given = {"model.hidden_size": 4, "data.target": "next", "train.checkpoint_seconds": 5.0, "train.threads": 1}
stream.train("regress", "-", out=sys.argv[1], settings=given, write=write)
"""


@pytest.mark.exhaustive
def test_memory_does_not_grow_with_the_stream(tmp_path: Path) -> None:
    """Over 180,000 rows, with checkpoints and metrics."""
    rows = [sys.executable, "-m", "recurra", "data", "drifting", "--lines", "200000"]
    with subprocess.Popen(rows, stdout=subprocess.PIPE) as source:
        line = [sys.executable, "-c", MEMORY, str(tmp_path / "run")]
        done = subprocess.run(line, stdin=source.stdout, capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.splitlines())
    assert late - early <= 2 << 20


# With other commands, other runs


def test_the_finished_run_predicts_and_is_scored(tmp_path: Path) -> None:
    values = drawn(60)
    said = go(tmp_path / "run", table(values, id=["a"] * 60), **STILL)
    path = tmp_path / "more.csv"
    path.write_text(table(values, id=["a"] * 60))
    run = recurra.load(tmp_path / "run")
    predicted = run.predict(str(path)).outputs[:, 0]
    np.testing.assert_allclose(predicted, [row["prediction"] for row in said], rtol=1e-5)
    assert run.evaluate(str(path))["metrics"]["rmse"] == pytest.approx(run.summary["stream"]["so_far"]["rmse"])
    with pytest.raises(RunError, match="had no test part"):
        run.evaluate()


def test_the_report_shows_the_error_along_the_stream(tmp_path: Path) -> None:
    go(tmp_path / "run", table(drawn(30)), train__evaluate_every=10)
    page = (tmp_path / "run" / "report.html").read_text()
    found = recurra.load(tmp_path / "run").summary["stream"]
    assert "RMSE along the stream" in page
    assert "Each of 30 predictions was made before its target was seen." in page
    for value in (found["so_far"]["rmse"], found["window"]["rmse"], found["plain"]["mean so far"]["rmse"]):
        assert number(value) in page
    assert "RMSE, last rows over training: last rows from" in page
    assert "test part" not in page


def test_a_stream_begins_with_the_weights_scales_and_classes_of_a_run(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(6, 1)).astype(np.float32) * 3 + 1 for _ in range(60)]
    y = ["up" if one[-1, 0] > 1 else "down" for one in x]
    first = recurra.train(
        "classify",
        (x, y),
        out=tmp_path / "first",
        settings={**SMALL, "model.bidirectional": False, "train.epochs": 60, "train.lr": 0.03},
    )
    text = "value,label\n" + "".join(f"{v:.4f},{'up' if v > 1 else 'down'}\n" for v in np.concatenate(x)[:, 0])
    said: list[dict[str, Any]] = []
    stream.train("classify", io.BytesIO(text.encode()), out=tmp_path / "then", from_run=first.path, write=said.append)
    assert np.mean([row["prediction"] == row["target"] for row in said[:60]]) > 0.9
    found = weights(tmp_path / "then")
    for name in ("mean", "deviation"):
        assert torch.equal(found[name], weights(tmp_path / "first")[name])
    assert recurra.load(tmp_path / "then").schema.classes == ["down", "up"]


def test_a_network_that_reads_the_future_is_refused(tmp_path: Path) -> None:
    x = [np.random.default_rng(i).normal(size=(5, 1)).astype(np.float32) for i in range(30)]
    first = recurra.train(
        "classify", (x, ["a", "b"] * 15), out=tmp_path / "first", settings={**SMALL, "train.epochs": 1}
    )
    with pytest.raises(RecipeError, match=r"learn\.rule: model\.bidirectional = True reads the future"):
        stream.train("classify", io.BytesIO(b"value,label\n1,a\n"), from_run=first.path, write=lambda _: None)


def test_rows_of_a_recipe_that_mean_nothing_here_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    text = "step,value,next\n" + "".join(f"{i},{i % 3},{(i + 1) % 3}\n" for i in range(5))
    given = {"data.target": "next", "model.hidden_size": 3}
    run = stream.train("drifting", io.BytesIO(text.encode()), settings=given, write=lambda _: None, tell=told.append)
    assert (
        told[0] == "note: on a stream these of the recipe say nothing: data.name, data.options, learn.carry_state, "
        "train.epochs, train.schedule"
    )
    assert run.recipe.train.schedule == "constant"
    assert run.recipe.learn.rule == "rtrl"
    assert run.recipe.train.optimizer == "adam"
    assert run.path == Path("runs/drifting")


def test_in_double_precision(tmp_path: Path) -> None:
    go(tmp_path / "run", table(drawn(10)), train__precision="64-true")
    assert weights(tmp_path / "run")["output.weight"].dtype == torch.float64
    assert recurra.load(tmp_path / "run").network.output.weight.dtype == torch.float64


def test_the_caller_s_random_numbers_stay(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    go(tmp_path / "run", table(drawn(5)))
    assert torch.equal(torch.rand(1), expected)


# What a person can get wrong

GOOD = table(drawn(6))
OWN = 'task = "regress"\n[data]\nper_step = false\n'
ALIKE = "train regress --stream --data good.csv "
NONSENSE = "says nothing about a stream, which comes once, a line at a time; leave it out"
BESIDE = "beside --stream: a stream comes once, a line at a time; leave it out"
REFUSED = {
    "--set data.classes=['a','b']": "data.classes: regress has no classes",
    "--set learn.rule=bptt": "learn.rule: bptt goes back from the end, and a stream has none; rtrl, snap1, eprop",
    "--set learn.rule=rtlr": "learn.rule: unknown rule 'rtlr'; did you mean 'rtrl'?",
    "--set learn.k2=3": "learn.k2: it belongs to the rule tbptt, and rule is 'rtrl'",
    "--set model.bidirectional=true": "learn.rule: model.bidirectional = True reads the future",
    "--set model.output_dropout=0.1": "model.output_dropout: on a stream one pass both predicts and learns",
    "--set model.zoneout=0.1": "model.zoneout: on a stream one pass both predicts and learns",
    "--set train.epochs=3": f"train.epochs: {NONSENSE}",
    "--set train.schedule=cosine": f"train.schedule: {NONSENSE}",
    "--set train.shuffle=true": f"train.shuffle: {NONSENSE}",
    "--set data.options.length=4": "data.options: data.name is not set; only these sources have options: ",
    "--set data.name=digits": f"data.name: {NONSENSE}",
    "--set train.precision=bf16-mixed": "train.precision: a stream is learnt in 32-true or 64-true",
    "--set data.per_step=false": f"data.per_step: {NONSENSE}",
    "--set data.per_step=true": f"data.per_step: {NONSENSE}",
    "--set learn.carry_state=true": f"learn.carry_state: {NONSENSE}",
    "--set report.snapshots=[1]": f"report.snapshots: {NONSENSE}",
    "--set report.first=3": f"report.first: {NONSENSE}",
    "--set data.bad_lines=pass": "data.bad_lines: unknown value 'pass'.",
    "--set data.streams=0": "data.streams: a whole number from 1 is expected, not 0",
    "--seeds 2": f"--seeds {BESIDE}",
    "--validation good.csv": f"--validation {BESIDE}",
    "--test good.csv": f"--test {BESIDE}",
    "--input-format long": f"--input-format {BESIDE}",
    "--output-format xml": "--output-format: unknown format 'xml'.",
    "--out run": "run: exists already; --out names another folder",
    "--from other": "--from HERE/other: that run reads 1 number a step, the new data are 2 numbers a step",
}
WRONG = {
    **{ALIKE + words: says for words, says in REFUSED.items()},
    "train regress --stream --data empty.csv": "empty.csv: is empty.",
    **{
        f"train regress --stream --data {name}": f"{name}: no such file; a stream is read from lines, and those of the "
        f"source {name} come by a pipe: recurra data {name} --output-format csv | recurra train {pipe}"
        for name, pipe in {
            "drifting": "regress --stream --set data.target=next",
            "adding": "regress --stream --set data.target=sum",
            "parity": "classify --stream",
        }.items()
    },
    "train regress --stream --data none.csv": "none.csv: no such file or folder.",
    "train own.toml --stream --data good.csv": "data.per_step: on a stream there is a target at every line",
    "train regress --stream --data .": ".: is a folder; a file is expected here.",
    "train classify --stream --data good.csv --set data.target=y": "good.csv: the labels that there are must be known",
    "train classify --stream --data good.csv --set train.class_weights=balanced": "train.class_weights: a stream does",
    "train regress --data good.csv --output-format csv": "--output-format: goes with --stream; recurra predict writes",
    "train regress --data good.csv --set data.bad_lines=skip": "data.bad_lines: is a setting of streams; it goes with",
    "train regress --data good.csv --set data.reset=x0": "data.reset: is a setting of streams; it goes with --stream",
    "train --stream --data good.csv": "NAME is missing: a recipe, a task or a TOML file; known: ",
    "train --stream --resume run --set train.lr=1": "--set beside --resume: a run goes on with the recipe it",
    "train --stream --resume run --data empty.csv": "empty.csv: is empty.",
    "train --stream --resume none --data good.csv": "none: no such file or folder.",
    "train --stream --resume other --data good.csv": "other: learns from no stream; go on with it: recurra train --",
    "train --resume run": "run: learns from a stream; go on with it: recurra train --stream --resume run",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with good and bad files, a run on a stream and another run."""
    folder = tmp_path_factory.mktemp("place")
    for name, text in {"empty.csv": "", "good.csv": GOOD, "own.toml": OWN}.items():
        (folder / name).write_text(text)
    go(folder / "run", GOOD)
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    recurra.train(
        "regress",
        (x, x.sum(1)),
        out=folder / "other",
        settings={**SMALL, "train.epochs": 1, "model.bidirectional": False},
    )
    return folder


@pytest.mark.parametrize("words", WRONG)
def test_what_is_said(
    words: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    status = main(words.split())
    said = capsys.readouterr()
    assert status == 2, said
    assert said.err.strip().splitlines()[-1].startswith(f"error: {WRONG[words]}".replace("HERE", str(place)))
    assert "Traceback" not in said.err
    after = {path: path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}
    assert {k: v for k, v in after.items() if k.name != ".lock"} == {
        k: v for k, v in before.items() if k.name != ".lock"
    }


def test_bad_lines_are_left_out_and_counted_where_that_is_asked(tmp_path: Path) -> None:
    lines = table(drawn(20)).splitlines(keepends=True)
    lines[5], lines[9] = "1,2\n", "x,1,2\n"
    told: list[str] = []
    said = go(tmp_path / "run", "".join(lines), data__bad_lines="skip", tell=told.append)
    assert [row["index"] for row in said] == [i for i in range(20) if i not in (4, 8)]
    warnings = [text for text in told if text.startswith("warning")]
    assert warnings[0].startswith("warning: standard input, line 6: 2 cells found, 3 expected")
    assert warnings[1].startswith("warning: standard input, line 10, column 'x0': found 'x', expected a number")
    assert recurra.load(tmp_path / "run").summary["stream"]["skipped"] == 2
    assert "20 rows, 18 learnt from, 2 that could not be read left out" in stream.outcome(
        recurra.load(tmp_path / "run")
    )
    clean = go(tmp_path / "clean", "".join(line for i, line in enumerate(lines) if i not in (5, 9)))
    assert [row["prediction"] for row in said] == [row["prediction"] for row in clean]


def test_of_many_bad_lines_few_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    go(tmp_path / "run", GOOD + "bad\n" * 50, data__bad_lines="skip", tell=told.append)
    assert len([text for text in told if text.startswith("warning")]) == stream.TOLD
    assert recurra.load(tmp_path / "run").summary["stream"]["skipped"] == 50


def test_a_first_row_that_cannot_be_read_is_left_out_as_any_other(tmp_path: Path) -> None:
    lines = table(drawn(20)).splitlines(keepends=True)
    told: list[str] = []
    said = go(tmp_path / "run", "".join([lines[0], "x,1,2\n", *lines[1:]]), data__bad_lines="skip", tell=told.append)
    assert "warning: standard input, line 2, column 'x0': found 'x', expected a number. Skipped." in told
    clean = go(tmp_path / "clean", "".join(lines))
    assert [row["index"] for row in said] == list(range(1, 21))
    assert [row["prediction"] for row in said] == [row["prediction"] for row in clean]


def test_what_is_said_of_a_bad_line_is_a_sentence(tmp_path: Path) -> None:
    told: list[str] = []
    lines = ['{"a": 1, "y": 2}', '{"a": 1, "q": 2}', *['{"a": 1, "y": 2}'] * 3]
    go(tmp_path / "run", "\n".join(lines), data__bad_lines="skip", data__target="y", tell=told.append)
    assert "warning: standard input, line 2: unknown column 'q'. Known: a, y. Skipped." in told


UNREAD = "could not be read"


@pytest.mark.parametrize(
    ("good", "bad", "said"),
    [
        (
            "1,1,1\n",
            "x,1,1\n" * 100,
            f"of 101 rows 100 {UNREAD}, and 1 were learnt from; the first: standard input, line 3",
        ),
        (
            "1,1,\n" * 3,
            "x,1,1\n" * 3,
            f"of 6 rows 3 {UNREAD}, and 0 were learnt from; the first: standard input, line 5",
        ),
        ("1,1,1\n" * 2, "x,1,1\n" * 100, None),
        ("1,1,1\n", "x,1,1\n" * 50, None),
        ("1,1,\n" * 4, "x,1,1\n" * 3, None),
    ],
)
def test_a_stream_of_which_next_to_nothing_could_be_read_has_failed(
    good: str, bad: str, said: str | None, tmp_path: Path
) -> None:
    def run() -> None:
        go(tmp_path / "run", f"x0,x1,y\n{good}{bad}", data__bad_lines="skip")

    if said is None:
        run()
        return
    with pytest.raises(recurra.errors.DataError) as caught:
        run()
    assert str(caught.value).startswith(said)
    assert recurra.load(tmp_path / "run").summary["stream"]["rows"] == good.count("\n") + bad.count("\n")
    stream.resume(tmp_path / "run", io.BytesIO(b"1,1,1\n"), write=lambda _: None)  # what came before does not count


def test_a_bad_line_ends_the_run_with_what_was_learnt(tmp_path: Path) -> None:
    lines = table(drawn(20)).splitlines(keepends=True)
    with pytest.raises(recurra.errors.DataError, match="line 12: 1 cells found, 3 expected"):
        go(tmp_path / "run", "".join([*lines[:11], "bad\n", *lines[11:]]))
    rest: list[dict[str, Any]] = []
    stream.resume(tmp_path / "run", io.BytesIO("".join(lines[11:]).encode()), write=rest.append)
    assert rest == go(tmp_path / "whole", "".join(lines))[10:]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_the_command_writes_rows(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(GOOD)
    words = "train regress --stream --data rows.csv --set model.hidden_size=3 --output-format"
    assert main([*words.split(), format]) == 0
    said = capsys.readouterr()
    if format == "csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(said.out)))
    else:
        rows = [json.loads(line) for line in said.out.splitlines()]
    assert [int(row["index"]) for row in rows] == list(range(6))
    assert [float(row["target"]) for row in rows] == drawn(6)[:, 2].tolist()
    assert "6 rows, 6 learnt from" in said.err
    assert (tmp_path / "runs" / "regress" / "model.safetensors").is_file()
