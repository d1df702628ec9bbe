"""What a person does with the command, and with the same calls in Python, from data of every kind to predictions."""

import csv
import gzip
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from safetensors.torch import load_file

import recurra
from recurra.cli import app, main
from recurra.files import sha256
from recurra.run import recipe as recipes
from recurra.run.folder import FORMAT
from recurra.run.progress import Progress
from recurra.tasks import TASKS

TINY: dict[str, Any] = {"train.epochs": 2, "train.batch_size": 8, "model.hidden_size": 4}
COMMANDS = [str(one.name or getattr(one.callback, "__name__", "")) for one in app.registered_commands]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


Command = Callable[..., tuple[str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the command, which must end well, and gives what it said on standard output and on standard error."""

    def run(*words: str, **settings: Any) -> tuple[str, str]:
        given = [part for key, value in settings.items() for part in ("--set", f"{key}={_toml(value)}")]
        capsys.readouterr()
        status = main([*words, *given])
        said = capsys.readouterr()
        assert status == 0, said.err
        return said.out, said.err

    return run


def _toml(value: Any) -> str:
    return json.dumps(value) if not isinstance(value, str) else value


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def numbers(n: int = 40, features: int = 1, seed: int = 0) -> tuple[list[np.ndarray], list[str]]:
    """Sequences of unequal lengths that rise or fall, with some noise."""
    generator = np.random.default_rng(seed)
    x, y = [], []
    for i in range(n):
        steps = int(generator.integers(3, 9))
        slope = 1.0 if i % 2 else -1.0
        series = slope * np.arange(steps)[:, None] + generator.normal(0, 0.1, (steps, features))
        x.append(series.astype(np.float32))
        y.append("rises" if slope > 0 else "falls")
    return x, y


def table(n: int = 40, steps: int = 4) -> str:
    """A CSV table, a sequence a row, with its class."""
    lines = ["class," + ",".join(f"t{t}" for t in range(steps))]
    for i in range(n):
        slope = 1 if i % 2 else -1
        lines.append(f"{'rises' if i % 2 else 'falls'},{','.join(str(slope * (t + i % 7)) for t in range(steps))}")
    return "\n".join(lines) + "\n"


def texts(n: int = 40) -> list[tuple[str, str]]:
    """Labels and sentences."""
    return [
        ("good" if i % 2 else "bad", f"a {'lovely' if i % 2 else 'dreadful'} film with scene {i % 5}") for i in range(n)
    ]


# --- the words themselves ---------------------------------------------------------------------------------------------


def test_without_words_the_commands_are_listed(command: Command) -> None:
    out, err = command()
    assert out.startswith("Usage: recurra ")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S.*\.$", out, re.MULTILINE), name
    assert "..." not in out.partition("Commands:")[2]
    assert err == ""


def test_version(command: Command) -> None:
    assert command("--version") == (f"recurra {recurra.__version__}\n", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_every_argument_does(name: str, command: Command) -> None:
    out, _ = command(name, "--help")
    assert out == command(name, "-h")[0]
    assert out.startswith(f"Usage: recurra {name} ")
    entries = out.partition("Arguments:")[2] or out.partition("Options:")[2]
    entry = re.compile(r"^  (\S.*?)(?:  +(\S.*)|\n {8,}(\S.*))?$", re.MULTILINE)
    described = {found[1]: found[2] or found[3] for found in entry.finditer(entries) if not found[1].endswith(":")}
    assert described
    assert all(described.values()), described


# --- recipes ----------------------------------------------------------------------------------------------------------


def test_recipes_lists_all(command: Command) -> None:
    out, _ = command("recipes")
    for name, values in recipes.built_in().items():
        assert re.search(rf"^{name} +{values['task']} ", out, re.MULTILINE), name
    for name in TASKS:
        assert re.search(rf"^{name} +{name} +the default", out, re.MULTILINE), name


@pytest.mark.parametrize("name", [*recipes.built_in(), *TASKS])
def test_a_recipe_is_printed_whole(name: str, command: Command) -> None:
    out, _ = command("recipes", name)
    printed = tomllib.loads(out)
    made = recipes.load(name)
    assert recipes.parse(printed, "printed") == made
    for key, field in recipes.keys(made.task).items():
        place: Any = printed
        for part in key.split("."):
            place = place.get(part) if isinstance(place, dict) else None
        assert place is not None or field.default is None, key


def test_a_printed_recipe_trains_to_the_same_weights(here: Path, command: Command) -> None:
    short = {"train.samples": 256, "model.hidden_size": 8}
    command("train", "digits", "--out", "one", **short)
    out, _ = command("recipes", "digits")
    (here / "mine.toml").write_text(out)
    command("train", "mine.toml", "--out", "two", **short)
    command("train", "one/recipe.toml", "--out", "three")
    digests = {recurra.load(name).summary["sha256"] for name in ("one", "two", "three")}
    assert len(digests) == 1


# --- train, and what it leaves ----------------------------------------------------------------------------------------


def test_a_run_folder_is_as_it_is_promised(here: Path, command: Command) -> None:
    out, err = command("train", "digits", **{"train.samples": 640, "data.validation_fraction": 0.1, "seed": 3})
    run = here / "runs" / "digits"
    names = {path.name for path in run.iterdir() if not path.name.startswith(".")}
    assert names == {
        "recipe.toml",
        "schema.json",
        "metrics.jsonl",
        "checkpoints",
        "model.safetensors",
        "summary.json",
        "test_predictions.csv",
        "report.html",
    }
    assert list((run / "checkpoints").iterdir()) == []

    recipe = tomllib.loads((run / "recipe.toml").read_text())
    assert recipe["train"]["samples"] == 640
    assert recipe["seed"] == 3
    assert recipe["train"]["momentum"] == 0.9  # a default, filled in

    summary = json.loads((run / "summary.json").read_text())
    assert summary["task"] == "classify"
    assert summary["recipe"]["model"]["cell"] == recipe["model"]["cell"]
    assert summary["samples_seen"] == 640
    assert summary["seed"] == 3
    assert summary["sha256"] == sha256(run / "model.safetensors")
    assert summary["parameters"] == sum(
        t.numel()
        for name, t in load_file(run / "model.safetensors").items()
        if not name.endswith(("mean", "deviation"))
    )
    assert summary["format_version"] == FORMAT
    assert set(summary["test"]) >= {"accuracy", "f1", "loss"}
    assert set(summary["validation"]) >= {"accuracy", "f1", "loss"}
    assert summary["baselines"]["majority"]["accuracy"] < 0.2 < summary["test"]["accuracy"]
    assert summary["train_seconds"] > 0
    assert summary["versions"]["torch"].startswith(torch.__version__.split("+")[0])
    low, high = summary["test_intervals"]["accuracy"]
    assert low < summary["test"]["accuracy"] < high

    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted({line["step"] for line in lines})
    assert lines[-1]["samples"] == 640
    assert all(set(line["validation"]) >= {"accuracy", "loss"} for line in lines)

    said = rows((run / "test_predictions.csv").read_text())
    assert len(said) == summary["data"]["sequences"]["test"] == 360
    right = [row["target"] == row["prediction"] for row in said]
    assert np.mean(right) == pytest.approx(summary["test"]["accuracy"])

    html = (run / "report.html").read_text()
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert not re.search(r"(src|href)=[\"']https?://", html)

    accuracy = f"test accuracy {summary['test']['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})"
    first, second, third = out.splitlines()
    assert first == f"{accuracy}; majority baseline {summary['baselines']['majority']['accuracy']:.4f}"
    assert re.fullmatch(r"trained in \d+\.\d s on 640 sequences, [\d,]+ steps a second", second)
    assert third == "report runs/digits/report.html"
    assert err.startswith("digits (seed 3): gru 96, both directions")
    assert "update 10 of 10, loss " in err


def test_parts_given_apart(here: Path, command: Command) -> None:
    for name, n in (("a.csv", 40), ("b.csv", 12), ("c.csv", 8)):
        (here / name).write_text(table(n))
    words = ("train", "classify", "--data", "a.csv", "--validation", "b.csv", "--test", "c.csv", "--out", "new")
    command(*words, **TINY)
    summary = recurra.load("new").summary
    assert summary["data"]["sequences"] == {"train": 40, "validation": 12, "test": 8}
    assert summary["data"]["sources"] == {"train": "a.csv", "validation": "b.csv", "test": "c.csv"}
    assert recurra.load("new").recipe.data.validation == str(here / "b.csv")


def test_a_recipe_of_ones_own(here: Path, command: Command) -> None:
    (here / "good.csv").write_text(table())
    (here / "mine.toml").write_text(
        'task = "classify"\nseed = 7\n[data]\npath = "good.csv"\n[model]\ncell = "elman"\nhidden_size = 5\n'
        'options = { activation = "relu" }\n[train]\nsamples = 64\n'
    )
    _, err = command("train", "mine.toml")
    assert err.startswith("mine (seed 7): elman 5")
    run = recurra.load("runs/mine")
    assert run.recipe.model.options == {"activation": "relu"}
    assert run.recipe.data.path == str(here / "good.csv")  # whole, so that the run is gone on with from anywhere


def test_one_way_to_say_how_long_takes_the_place_of_the_other(command: Command) -> None:
    command("train", "sine", "--out", "new", **{"train.samples": 5})
    assert recurra.load("new").recipe.train.epochs is None
    assert recurra.load("new").summary["samples_seen"] == 5


def test_what_is_laid_over_a_recipe_stays_with_that_run() -> None:
    over = recipes.load("mnist-lstm", {"model.options.forget_bias": 2.0})
    assert over.model.options == {"forget_bias": 2.0}
    assert recipes.load("mnist-lstm").model.options == {"forget_bias": 1.0}


def test_a_setting_is_taken_out(command: Command) -> None:
    out, _ = command("recipes", "imdb")
    assert tomllib.loads(out)["data"]["max_length"] == 400
    assert recipes.load("imdb", dict([recipes.assignment("data.max_length=")])).data.max_length is None


def test_force_puts_a_new_run_in_the_place_of_the_old(command: Command) -> None:
    command("train", "sine", "--out", "new", **{"train.samples": 5})
    old = recurra.load("new").summary["sha256"]
    command("train", "sine", "--out", "new", "--seed", "1", "--force", **{"train.samples": 5})
    assert recurra.load("new").summary["seed"] == 1
    assert recurra.load("new").summary["sha256"] != old


def test_an_empty_folder_is_trained_in(here: Path, command: Command) -> None:
    (here / "new").mkdir()
    command("train", "sine", "--out", "new", **{"train.samples": 5})
    assert recurra.load("new").summary["samples_seen"] == 5


def test_the_format_is_named(here: Path, command: Command) -> None:
    (here / "x.txt").write_text("1 2 3 4\n2 3 4 5\n" * 10)
    command("train", "classify", "--data", "x.txt", "--input-format", "ucr", "--out", "new", **TINY)
    assert recurra.load("new").schema.format == "ucr"


# --- several seeds, resuming, warm starts -----------------------------------------------------------------------------


def test_several_seeds(here: Path, command: Command) -> None:
    (here / "good.csv").write_text(table())
    words = ("train", "classify", "--data", "good.csv", "--seeds", "3", "--seed", "5", "--out", "new")
    out, _ = command(*words, **TINY)
    runs = [recurra.load(f"new/seed-{seed}") for seed in (5, 6, 7)]
    summary = json.loads((here / "new/summary.json").read_text())
    values = [run.summary["test"]["accuracy"] for run in runs]
    assert summary["test"]["accuracy"] == pytest.approx(np.mean(values))
    assert summary["test_deviation"]["accuracy"] == pytest.approx(np.std(values, ddof=1))
    assert summary["seeds"] == [5, 6, 7]
    assert (here / "new/report.html").read_text().lstrip().lower().startswith("<!doctype html>")
    assert len({run.summary["sha256"] for run in runs}) == 3
    lines = out.splitlines()
    assert lines[:3] == [
        f"seed-{run.summary['seed']}: test accuracy {v:.4f}" for run, v in zip(runs, values, strict=True)
    ]
    assert lines[3].startswith(f"test accuracy {np.mean(values):.4f}, mean over 3 seeds (standard deviation ")

    shutil.rmtree(here / "new/seed-7")  # as where the third had not begun
    (here / "new/summary.json").unlink()
    out, _ = command("train", "--resume", "new")
    assert json.loads((here / "new/summary.json").read_text())["test"] == summary["test"]
    assert out.splitlines()[:4] == lines[:4]


def test_folds(here: Path, command: Command) -> None:
    (here / "good.csv").write_text(table())
    words = ("train", "classify", "--data", "good.csv", "--folds", "3", "--seeds", "2", "--out", "new")
    out, _ = command(*words, "--set", "data.split_seed=4", **TINY)
    names = [f"seed-{seed}-fold-{fold}" for seed in (0, 1) for fold in range(3)]
    runs = [recurra.load(f"new/{name}") for name in names]
    tested = [pl.read_csv(run.path / "test_predictions.csv").height for run in runs]
    sizes = [sum(run.summary["data"]["sequences"].values()) for run in runs]
    assert sum(tested[:3]) == sum(tested[3:]) == sizes[0]  # each sequence once a seed
    assert runs[1].summary["data"]["sources"]["test"] == "fold 1 of 3 of good.csv, split seed 4"
    assert len({run.summary["sha256"] for run in runs}) == 6
    summary = json.loads((here / "new/summary.json").read_text())
    values = np.array([run.summary["test"]["accuracy"] for run in runs])
    assert (summary["seeds"], summary["folds"], summary["runs"]) == ([0, 1], 3, names)
    assert summary["test"]["accuracy"] == pytest.approx(values.mean())
    assert summary["test_deviation"]["accuracy"] == pytest.approx(values.std(ddof=1))
    of_means = values.reshape(2, 3).mean(1).std(ddof=1)
    assert summary["test_deviation_of_seeds"]["accuracy"] == pytest.approx(of_means)
    lines = out.splitlines()
    assert lines[:6] == [f"{name}: test accuracy {value:.4f}" for name, value in zip(names, values, strict=True)]
    assert lines[6].startswith(f"test accuracy {values.mean():.4f}, mean over 3 folds with 2 seeds (standard deviation")
    report = (here / "new/report.html").read_text()
    assert "mean over 3 folds with 2 seeds" in report
    assert "Nadeau" in report
    assert f'<a href="{names[4]}/report.html">1, fold 1</a>' in report

    shutil.rmtree(here / "new/seed-1-fold-2")
    (here / "new/summary.json").unlink()
    out, _ = command("train", "--resume", "new")
    assert json.loads((here / "new/summary.json").read_text())["test"] == summary["test"]
    out, _ = command("compare", "new", "new")
    assert "paired over 6 runs (Student's t, widened for folds: Nadeau & Bengio)" in out


def test_a_stopped_run_goes_on(here: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "good.csv").write_text(table())
    words = ("train", "classify", "--data", "good.csv", "--set", "train.checkpoint_seconds=0")
    command(*words, "--out", "unbroken", **TINY)

    def update(self: Progress, step: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Progress, "update", update)
        assert main([*words, "--out", "new", *(f"--set={key}={value}" for key, value in TINY.items())]) == 130
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")  # the data are found from anywhere
    _, err = command("train", "--resume", str(here / "new"))
    assert "going on after update 4 of 8" in err
    unbroken = recurra.load(here / "unbroken").summary
    assert recurra.load(here / "new").summary["sha256"] == unbroken["sha256"]
    finished, _ = command("train", "--resume", str(here / "new"))  # nothing is left to do
    assert "test accuracy" in finished


def test_warm_start_with_other_classes(here: Path, command: Command) -> None:
    (here / "old.csv").write_text(table())
    (here / "new.csv").write_text(table().replace("rises", "up") + "level,1,1,1,1\n" * 10)
    command("train", "classify", "--data", "old.csv", "--out", "old", **TINY, **{"model.cell": "lstm"})
    words = ("train", "classify", "--data", "new.csv", "--from", "old", "--out", "new")
    _, err = command(*words, **{"train.epochs": 1, "train.lr": 1e-12, "train.optimizer": "sgd"})
    assert "warning: new in this run, so learnt from nothing: level, up\n" in err
    old, new = recurra.load("old"), recurra.load("new")
    assert new.recipe.model == old.recipe.model.model_copy(update={"bidirectional": True})  # as it was decided there
    assert new.schema.classes == ["falls", "level", "up"]
    before, after = (run.network.state_dict() for run in (old, new))
    assert torch.equal(after["recurrent.weight_hh_l0"], before["recurrent.weight_hh_l0"])
    assert torch.allclose(after["output.weight"][0], before["output.weight"][0], atol=1e-6)
    assert torch.equal(after["mean"], before["mean"])


def test_warm_start_on_texts_keeps_the_vocabulary(command: Command) -> None:
    labels, sentences = zip(*texts(), strict=True)
    old = recurra.train("classify", (list(sentences), list(labels)), out="old", settings=TINY | {"data.min_count": 1})
    further = [f"{s} indeed" for s in sentences]
    new = recurra.train("classify", (further, list(labels)), out="new", from_run="old", settings={"train.epochs": 1})
    assert new.schema.vocabulary == old.schema.vocabulary
    assert "indeed" not in new.schema.vocabulary


def test_warm_start_of_regression(command: Command) -> None:
    x, _ = numbers()
    y = np.array([float(a.sum()) for a in x])
    old = recurra.train("regress", (x, y), out="old", settings=TINY)
    new = recurra.train(
        "regress", (x, y * 2), out="new", from_run="old", settings={"train.epochs": 1, "train.lr": 1e-9}
    )
    assert torch.allclose(new.network.output.weight, old.network.output.weight, atol=1e-6)
    assert torch.equal(new.network.target_mean, old.network.target_mean)


# --- evaluate, predict, compare ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs on a table, a further table with ids, and one without classes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "good.csv").write_text(table())
    (folder / "more.csv").write_text(table(9))
    unknown = [line.partition(",")[2] for line in table(9).splitlines()]
    (folder / "unknown.csv").write_text("\n".join(unknown) + "\n")
    settings = TINY | {"train.epochs": 20, "train.lr": 0.02}
    recurra.train("classify", folder / "good.csv", out=folder / "run", settings=settings)
    recurra.train("classify", folder / "good.csv", out=folder / "wide", settings=settings | {"model.hidden_size": 9})
    return folder


def test_evaluate_on_the_own_test_part(trained: Path, command: Command) -> None:
    run = recurra.load(trained / "run")
    out, _ = command("evaluate", str(trained / "run"), "--json")
    found = json.loads(out)
    assert found["metrics"] == run.summary["test"]
    assert found["sequences"] == 8
    out, _ = command("evaluate", str(trained / "run"))
    low, high = run.summary["test_intervals"]["accuracy"]
    line = rf"accuracy +{run.summary['test']['accuracy']:.4f} +{low:.4f} to {high:.4f}"
    assert re.search(line, out)


def test_evaluate_on_further_data(trained: Path, command: Command) -> None:
    out, _ = command("evaluate", str(trained / "run"), "--data", str(trained / "more.csv"), "--json")
    found = json.loads(out)
    said, _ = command("predict", str(trained / "run"), "--data", str(trained / "more.csv"))
    truth = [row["class"] for row in rows((trained / "more.csv").read_text())]
    right = [row["prediction"] == label for row, label in zip(rows(said), truth, strict=True)]
    assert found["metrics"]["accuracy"] == pytest.approx(np.mean(right))
    assert found["sequences"] == 9


def test_predict_from_a_file_and_from_standard_input(
    trained: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (trained / "unknown.csv").read_bytes()
    out, _ = command("predict", str(trained / "run"), "--data", str(trained / "unknown.csv"))
    said = rows(out)
    assert list(said[0]) == ["index", "prediction", "p_falls", "p_rises"]
    assert [row["index"] for row in said] == [str(i) for i in range(9)]
    for row in said:
        chances = {"falls": float(row["p_falls"]), "rises": float(row["p_rises"])}
        assert sum(chances.values()) == pytest.approx(1)
        assert row["prediction"] == max(chances, key=lambda label: chances[label])
    assert np.mean([row["prediction"] == ("rises" if i % 2 else "falls") for i, row in enumerate(said)]) > 0.7
    for content in (data, gzip.compress(data)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert command("predict", str(trained / "run"), "--data", "-")[0] == out


def test_predict_into_files(here: Path, trained: Path, command: Command) -> None:
    words = ("predict", str(trained / "run"), "--data", str(trained / "unknown.csv"))
    out, _ = command(*words)
    assert command(*words, "--out", "said.csv") == ("", "")
    assert (here / "said.csv").read_text() == out
    command(*words, "--out", "said.jsonl")
    lines = [json.loads(line) for line in (here / "said.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == [row["prediction"] for row in rows(out)]
    assert lines[0]["p_falls"] == float(rows(out)[0]["p_falls"])
    command(*words, "--out", "said.csv", "--force", "--output-format", "jsonl")
    assert (here / "said.csv").read_text() == (here / "said.jsonl").read_text()
    assert command(*words, "--output-format", "jsonl")[0] == (here / "said.jsonl").read_text()
    for name in ("said.npz", "said.text", "said.csv.gz"):
        assert main([*words, "--out", name]) == 2
        assert not (here / name).exists()
    command(*words, "--out", "said")
    assert (here / "said").read_text() == out


def test_predict_to_a_pipe(here: Path, trained: Path, command: Command) -> None:
    words = ("predict", str(trained / "run"), "--data", str(trained / "unknown.csv"))
    os.mkfifo(here / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((here / "pipe").read_text()))
    reader.start()
    command(*words, "--out", "pipe")
    reader.join()
    assert read == [command(*words)[0]]
    assert (here / "pipe").is_fifo()  # it is written to, not replaced by a file


def test_compare(trained: Path, command: Command) -> None:
    names = (str(trained / "run"), str(trained / "wide"))
    out, _ = command("compare", *names)
    runs = [recurra.load(name) for name in names]
    for run in runs:
        assert re.search(rf"^{run.path.name}\b.* {run.summary['test']['accuracy']:.4f} ", out, re.MULTILINE)
    assert re.search(r"model\.hidden_size +4 +9", out)
    found = json.loads(command("compare", *names, "--json")[0])
    difference = runs[1].summary["test"]["accuracy"] - runs[0].summary["test"]["accuracy"]
    assert found["differences"][0]["value"] == pytest.approx(difference)
    assert found["recipe"] == {"model.hidden_size": [4, 9]}


# --- data -------------------------------------------------------------------------------------------------------------


def test_data_shows_a_file(here: Path, command: Command) -> None:
    (here / "good.csv").write_text(table())
    out, err = command("data", "good.csv")
    assert out.splitlines()[:6] == [
        "train: good.csv (wide)",
        "  sequences  40",
        "  steps      4 each",
        "  classes    2",
        "    falls  20 (50.0%)",
        "    rises  20 (50.0%)",
    ]
    assert "falls | 0 -1 -2 -3" in out
    assert err == ""


def test_data_shows_a_set_by_its_name(command: Command) -> None:
    out, _ = command("data", "digits")
    assert "sequences  1,797" in out or "sequences  1,437" in out
    assert "  steps      8 each" in out
    assert "  classes    10" in out


def test_data_for_another_task_and_with_settings(here: Path, command: Command) -> None:
    (here / "good.csv").write_text("y,a,b\n" + "".join(f"{i / 2},{i},{i + 1}\n" for i in range(10)))
    out, _ = command("data", "good.csv", "--task", "regress")
    assert "target     y: 0 to 4.5, mean 2.25" in out
    out, _ = command("data", "good.csv", "--task", "regress", "--set", "data.target=b")
    assert "target     b: 1 to 10, mean 5.5" in out


def test_data_shows_a_made_source_for_its_own_task(command: Command) -> None:
    options = {"data.options.length": 10, "data.options.training": 50}
    out, _ = command("data", "adding", **options)
    lines = out.splitlines()
    assert lines[:3] == ["train: adding (train part) (adding)", "  sequences  50", "  steps      10 each"]
    assert [line for line in lines if line.startswith("  target     sum: ")]
    assert command("data", **options, **{"data.name": "adding"})[0] == out


def test_data_are_named_by_settings_alone(here: Path, command: Command) -> None:
    (here / "good.csv").write_text(table())
    assert command("data", **{"data.path": "good.csv"}) == command("data", "good.csv")
    for name, say in (("a.txt", "the dog {} runs\n"), ("b.txt", "der Hund {} rennt\n")):
        (here / name).write_text("".join(say.format(i) for i in range(10)))
    out, _ = command("data", "--task", "translate", **{"data.source": "a.txt", "data.target": "b.txt"})
    assert out.startswith("train: ")
    assert "the dog 0 runs | der Hund 0 rennt" in out or "the dog 1 runs | der Hund 1 rennt" in out


def test_data_prints_rows(command: Command) -> None:
    settings = {"data.options.length": 4}
    out, _ = command("data", "parity", "--lines", "11", **settings)
    assert out.splitlines()[0] == "id,step,bit,label"
    assert [(row["id"], row["step"]) for row in rows(out)] == [(str(i), str(t)) for i in range(2) for t in range(4)]
    lines, _ = command("data", "parity", "--lines", "11", "--output-format", "jsonl", **settings)
    said = [{key: str(value) for key, value in json.loads(line).items()} for line in lines.splitlines()]
    assert said == rows(out)
    again, _ = command("data", "parity", "--lines", "8", "--output-format", "csv", **settings)
    assert again == out
    other, _ = command("data", "parity", "--lines", "8", **settings | {"data.options.seed": 1})
    assert other != out


def test_data_prints_all_rows_of_what_has_an_end(command: Command) -> None:
    out, _ = command("data", "sine", "--output-format", "csv", **{"data.options.training": 3})
    assert len(rows(out)) == 60


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_rows_without_end_stop_when_nobody_reads_them(form: str) -> None:
    words = [sys.executable, "-m", "recurra", "data", "drifting", "--output-format", form]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        said = [process.stdout.readline() for _ in range(20_000)]  # more than a pipe holds
        assert all(said)
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) in (0, 1)
    if form == "csv":
        assert [line.split(",")[0] for line in said[1:]] == [str(i) for i in range(19_999)]
    else:
        assert json.loads(said[-1])["step"] == 19_999


def test_data_fetch_prints_the_folder(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(name: str, progress: Any) -> Path:
        progress("a file", 3, 10)
        return Path("/kept") / name

    monkeypatch.setattr("recurra.data.fetch.fetch", fetch)
    out, err = command("data", "fetch", "mnist")
    assert out == "/kept/mnist\n"
    assert "terms: " in err
    assert "━" not in err  # no bar where there is no terminal


# --- every kind of data -----------------------------------------------------------------------------------------------


SERIES = {
    "one.ts": (
        "@univariate true\n@equalLength true\n@classLabel true falls rises\n@data\n",
        lambda s: ",".join(s[:3, 0]),
    ),
    "several.ts": (
        "@univariate false\n@dimensions 2\n@equalLength true\n@classLabel true falls rises\n@data\n",
        lambda s: ":".join(",".join(s[:3, d]) for d in range(2)),
    ),
    "unequal.ts": (
        "@univariate false\n@dimensions 2\n@equalLength false\n@classLabel true falls rises\n@data\n",
        lambda s: ":".join(",".join(s[:, d]) for d in range(2)),
    ),
}


@pytest.mark.parametrize("name", SERIES)
def test_ts_files_are_read_without_options(name: str, here: Path, command: Command) -> None:
    head, written = SERIES[name]
    for part, seed in (("TRAIN", 1), ("TEST", 2)):
        lines = [f"{written(a.astype(str))}:{label}" for a, label in zip(*numbers(40, 2, seed), strict=True)]
        (here / f"{name.removesuffix('.ts')}_{part}.ts").write_text(head + "\n".join(lines) + "\n")
    data = name.replace(".ts", "_TRAIN.ts")
    command("train", "classify", "--data", data, "--out", "new", **TINY | {"train.epochs": 15, "train.lr": 0.02})
    run = recurra.load("new")
    assert run.schema.format == "ts"
    assert len(run.schema.features) == (1 if name == "one.ts" else 2)
    assert run.summary["data"]["sequences"]["test"] == 40
    assert run.summary["test"]["accuracy"] > 0.9


@pytest.mark.parametrize("separator", ["\t", ",", "  "])
def test_ucr_files_are_read_without_options(separator: str, here: Path, command: Command) -> None:
    for part, n in (("TRAIN", 40), ("TEST", 24)):
        made = [line.split(",") for line in table(n).splitlines()[1:]]
        lines = [separator.join(["1" if label == "rises" else "-1", *values]) for label, *values in made]
        (here / f"Slopes_{part}.txt").write_text("\n".join(lines) + "\n")
    command("train", "classify", "--data", str(here), "--out", "new", **TINY)
    run = recurra.load("new")
    assert run.schema.format == "ucr"
    assert run.schema.classes == ["-1", "1"]
    assert run.summary["data"]["sequences"]["test"] == 24


def test_a_number_at_every_step_from_a_long_table(here: Path, command: Command) -> None:
    lines = ["id,time,x,y"]
    for i in range(20):
        total = 0.0
        for t in range(4 + i % 3):
            total += (i * 7 + t * 3) % 5
            lines.append(f"s{i},{t},{(i * 7 + t * 3) % 5},{total}")
    (here / "long.csv").write_text("\n".join(lines) + "\n")
    words = ("train", "regress", "--data", "long.csv", "--out", "new")
    command(*words, **TINY | {"train.epochs": 60, "train.lr": 0.03, "data.target": "y", "model.hidden_size": 12})
    run = recurra.load("new")
    assert run.schema.per_step
    assert run.summary["test"]["rmse"] < 0.5 * run.summary["baselines"]["mean"]["rmse"]
    said = rows(command("predict", "new", "--data", "long.csv")[0])
    assert len(said) == len(lines) - 1
    first = [row for row in said if row["id"] == "s0"]
    assert [row["step"] for row in first] == ["0", "1", "2", "3"]
    scored = json.loads(command("evaluate", "new", "--data", "long.csv", "--json")[0])
    truth = [float(line.rpartition(",")[2]) for line in lines[1:]]
    errors = [float(row["prediction"]) - y for row, y in zip(said, truth, strict=True)]
    assert scored["metrics"]["rmse"] == pytest.approx(float(np.sqrt(np.mean(np.square(errors)))), rel=1e-5)


def test_a_sequence_to_a_number_from_a_table(here: Path, command: Command) -> None:
    lines = [f"{i % 9 + i % 5},{i % 9},{i % 5}" for i in range(60)]
    (here / "sums.csv").write_text("sum,a,b\n" + "\n".join(lines) + "\n")
    words = ("train", "regress", "--data", "sums.csv", "--out", "new")
    command(*words, **TINY | {"train.epochs": 60, "train.lr": 0.03, "model.hidden_size": 8, "data.target": "sum"})
    run = recurra.load("new")
    assert run.schema.targets == ["sum"]
    assert run.summary["test"]["rmse"] < 0.5 * run.summary["baselines"]["mean"]["rmse"]
    assert list(rows(command("predict", "new", "--data", "sums.csv")[0])[0]) == ["index", "prediction"]


@pytest.mark.parametrize("unit", ["word", "character"])
def test_texts(unit: str, here: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "t.tsv").write_text("label\ttext\n" + "".join(f"{label}\t{text}\n" for label, text in texts()))
    words = ("train", "classify", "--data", "t.tsv", "--out", "new")
    command(*words, **TINY | {"train.epochs": 12, "train.lr": 0.03, "data.unit": unit, "model.embedding_size": 8})
    run = recurra.load("new")
    assert run.schema.input == "tokens"
    assert ("lovely" in run.schema.vocabulary) == (unit == "word")
    assert ("v" in run.schema.vocabulary) == (unit == "character")
    assert run.summary["test"]["accuracy"] > 0.9
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a dreadful thing\na lovely thing\n")))
    said = rows(command("predict", "new", "--data", "-")[0])
    assert [row["prediction"] for row in said] == ["bad", "good"]


def test_several_labels_at_once(here: Path, command: Command) -> None:
    lines = [("red;round" if i % 3 == 0 else "red" if i % 3 == 1 else "round", i % 3) for i in range(60)]
    told = ["a crimson ball", "a crimson box", "a blue ball"]
    (here / "t.tsv").write_text("label\ttext\n" + "".join(f"{labels}\t{told[kind]}\n" for labels, kind in lines))
    settings = TINY | {"train.epochs": 20, "train.lr": 0.03, "model.embedding_size": 8, "data.label_separator": ";"}
    command("train", "classify", "--data", "t.tsv", "--out", "new", **settings)
    run = recurra.load("new")
    assert run.schema.multi_label
    assert run.schema.classes == ["red", "round"]
    assert run.predict(["a crimson ball", "a blue ball"]).labels == ["red;round", "round"]


# --- the same in Python -----------------------------------------------------------------------------------------------


def as_arrays() -> tuple[Any, Any]:
    x, y = numbers()
    return np.stack([a[:3] for a in x]), np.array(y)


def as_tensors() -> tuple[Any, Any]:
    x, y = as_arrays()
    return torch.tensor(x), torch.tensor([label == "rises" for label in y]).long()


def as_lists() -> tuple[Any, Any]:
    return numbers(features=2)


def as_pandas() -> Any:
    return pd.read_csv(io.StringIO(table()))


def as_polars() -> Any:
    return pl.read_csv(io.StringIO(table()).read().encode())


def as_texts() -> tuple[Any, Any]:
    labels, sentences = zip(*texts(), strict=True)
    return list(sentences), list(labels)


@pytest.mark.parametrize("make", [as_arrays, as_tensors, as_lists, as_pandas, as_polars, as_texts])
def test_data_handed_over_in_python(make: Callable[[], Any]) -> None:
    data = make()
    settings = TINY | {"train.epochs": 15, "train.lr": 0.02, "data.min_count": 1, "model.embedding_size": 8}
    run = recurra.train("classify", data, out="new", settings=settings)
    assert run.summary["test"]["accuracy"] > 0.9
    found = run.evaluate(data)
    assert found["sequences"] == 40
    assert found["metrics"]["accuracy"] > 0.9
    again = recurra.load("new")
    alone = (
        data[0] if isinstance(data, tuple) else data.drop(columns="class") if make is as_pandas else data.drop("class")
    )
    said = again.predict(alone)
    assert len(said) == len(said.labels) == 40
    assert said.targets is None
    assert said.outputs.shape == (40, 2)
    assert set(said.labels) == set(run.schema.classes)
    assert np.array_equal(said.outputs, run.predict(data).outputs)
    assert again.rows(said)[0]["prediction"] == said.labels[0]


def test_regression_in_python_with_several_numbers() -> None:
    x, _ = numbers(60)
    y = np.array([[a.sum(), len(a)] for a in x])
    run = recurra.train("regress", (x, y), out="new", settings=TINY | {"train.epochs": 40, "train.lr": 0.03})
    assert run.predict(x).outputs.shape == (60, 2)
    assert run.evaluate((x, y))["metrics"]["rmse"] < 0.6 * run.summary["baselines"]["mean"]["rmse"]
    assert set(run.rows(run.predict(x))[0]) == {"index", "prediction_target_0", "prediction_target_1"}


def test_rare_classes_count_as_much_as_common_ones() -> None:
    generator = np.random.default_rng(0)
    rare = generator.random(240) < 0.1
    x = (generator.normal(0, 1, (240, 3, 1)) + rare[:, None, None] * 0.8).astype(np.float32)
    data = (x, np.where(rare, "rare", "common"))
    settings = TINY | {"train.epochs": 8, "train.lr": 0.02, "data.validation_fraction": 0.0}
    found = {}
    for name, weights in (("plain", "none"), ("balanced", "balanced"), ("table", {"rare": 20.0})):
        run = recurra.train("classify", data, out=name, settings=settings | {"train.class_weights": weights})
        found[name] = np.mean(np.array(run.predict(x).labels)[rare] == "rare")
    assert found["plain"] < 0.4
    assert found["balanced"] > 0.5
    assert found["table"] > 0.5


def test_sets_of_labels_in_python() -> None:
    x, y = as_arrays()
    sets = [{label, "odd"} if i % 4 == 0 else {label} for i, label in enumerate(y)]
    run = recurra.train("classify", (x, sets), out="new", settings=TINY)
    assert run.schema.multi_label
    assert run.schema.classes == ["falls", "odd", "rises"]
    assert run.predict(x).outputs.shape == (40, 3)


def test_seeds_and_resume_in_python() -> None:
    x, y = numbers()
    done = recurra.train_seeds(2, "classify", (x, y), out="new", settings=TINY)
    assert [run.summary["seed"] for run in done.runs] == [0, 1]
    assert done.report == Path("new/report.html")
    again = recurra.resume("new", (x, y))
    assert again.summary["test"] == done.summary["test"]


# --- a cell of one's own ----------------------------------------------------------------------------------------------

OWN = """
from recurra import cell
from recurra.math import sigmoid, tanh

@cell(state="h", gates="u n")
def simple_gate(z, s):
    \"\"\"A gate u between the old state and a new one.\"\"\"
    u = sigmoid(z.u)
    return u * s.h + (1 - u) * tanh(z.n)

def leaky(x, h):
    return 0.5 * h + 0.5 * x.mean(-1, keepdim=True)
"""


@pytest.mark.parametrize(
    ("name", "parameters"), [("simple_gate", 2 * 2 * 4 * (1 + 4 + 1) + 2 * 8 + 2), ("leaky", 2 * 4 + 2)]
)
def test_a_cell_from_a_file(
    name: str, parameters: int, here: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "mine.py").write_text(OWN)
    (here / "good.csv").write_text(table())
    words = ("train", "classify", "--data", "good.csv", "--out", "new")
    own = {"model.cell": f"mine.py:{name}"}
    command(*words, **TINY | own | {"train.epochs": 30, "train.lr": 0.05})
    run = recurra.load("new")
    assert (
        run.summary["parameters"] == parameters
    )  # of two gates in two directions (none of a function), and of the head
    assert run.summary["test"]["accuracy"] > 0.7
    said = command("predict", "new", "--data", "good.csv")[0]
    (here / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert command("predict", str(here / "new"), "--data", str(here / "good.csv"))[0] == said


# --- the built-in recipes on their own data ---------------------------------------------------------------------------

MNIST = sorted(name for name in recipes.built_in() if "mnist" in name)
NEEDS_DATA = {"imdb", "sst-text", "sst-text-2", *MNIST}

SMALL: dict[str, dict[str, Any]] = {
    "adding": {"data.options.length": 12},
    "copy": {"data.options.delay": 5, "data.options.symbols": 3, "train.epochs": None},
    "ntm-copy": {"data.options.length": 3, "model.memory": [8, 4], "train.epochs": None},
    "temporal-order": {"data.options.length": 20},
    "reber": {},
    "parity": {"data.options.length": 6},
    "drifting": {"data.options.length": 20, "train.epochs": None},
}
"""The problems, and what makes them small."""


TINY_MODEL: dict[str, Any] = {"model.hidden_size": 8, "model.embedding_size": 8}

TEXTS: dict[str, dict[str, Any]] = {
    "atis": {"train.samples": 160},
    "ud-pos": {"train.samples": 160},
    "shakespeare-quick": {"train.samples": 6_000},
    "shakespeare": {"train.samples": 6_000},
    "jsb": {"train.samples": 64},
    "sst-tree": {"train.samples": 100},
    "sst-tree-2": {"train.samples": 100},
    "ptb": {"train.samples": 3_000, "data.max_vocabulary": 200},
    "multi30k-de": {
        **{"train.samples": 64, "model.encoder_size": 8, "model.beam": 1, "train.decoded": 8, "model.max_output": 5},
        **{"data.max_vocabulary": 400},
    },
}
"""Recipes of texts, and what makes them small."""


@pytest.mark.parametrize("name", TEXTS)
def test_a_recipe_of_texts_on_its_own_data(name: str, data_folder: Path) -> None:
    run = recurra.train(name, settings=TINY_MODEL | TEXTS[name])
    part = "test" if run.summary["test"] else "validation"
    assert run.main_metric in run.summary[part]
    assert recurra.load(f"runs/{name}").report.is_file()


def test_the_recipe_of_molecules(data_folder: Path, here: Path, command: Command) -> None:
    out, _ = command("train", "mutag", "--folds", "2", **{"model.hidden_size": 4, "train.epochs": 1})
    assert "mean over 2 folds" in out
    assert "counts baseline" in out
    run = recurra.load("runs/mutag/seed-0-fold-1")
    assert run.summary["data"]["sequences"] == {"train": 75, "validation": 19, "test": 94}
    assert len(rows(command("predict", str(run.path), "--data", "mutag")[0])) == 188
    assert "188" in command("data", "mutag", "--task", "graph")[0]


SYSTEMS: dict[str, dict[str, Any]] = {
    "tanks": {"model.members": 2, "data.stride": 60, "train.samples": 160},
    "silverbox": {
        "data.rows": [[40580, 43000]],
        "data.validation_rows": [[43000, 43400]],
        "data.test_rows": [[0, 900]],
        "train.samples": 160,
    },
}
"""Recipes of systems, and what makes them small."""


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_recipe_of_systems(name: str, data_folder: Path, here: Path, command: Command) -> None:
    recurra.train(name, settings=SYSTEMS[name] | {"model.hidden_size": 4})
    run = recurra.load(f"runs/{name}")
    assert np.isfinite(run.summary["test"]["rmse"])
    u, y = (table[:90] for table in run.task.reader.part(run.recipe.data.name, run.schema)[0].records()[0])
    lines = [",".join(run.schema.inputs + run.schema.outputs), *(f"{a},{b}" for (a,), (b,) in zip(u, y, strict=True))]
    (here / "more.csv").write_text("\n".join(lines))
    said = rows(command("predict", f"runs/{name}", "--data", "more.csv")[0])
    assert [row["step"] for row in said] == [str(step) for step in range(50, 90)]
    found = json.loads(command("evaluate", f"runs/{name}", "--data", "more.csv", "--json")[0])
    assert found["metrics"]["rmse"] == pytest.approx(
        float(np.sqrt(np.mean([(float(row["prediction"]) - b) ** 2 for row, (b,) in zip(said, y[50:], strict=True)]))),
        rel=1e-5,
    )
    assert "input" in command("data", "more.csv", "--task", "simulate", *_set_columns(run))[0]


def _set_columns(run: recurra.Run) -> list[str]:
    return ["--set", f"data.inputs={run.schema.inputs[0]}", "--set", f"data.outputs={run.schema.outputs[0]}"]


SPOKEN: dict[str, dict[str, Any]] = {
    "spoken-digits": {"train.samples": 160},
    "spoken-numbers": {
        **{"data.join_training": 32, "data.join_validation": 8, "data.join_test": 8, "train.samples": 64},
        "data.held_out_validation": "index=5",
        "model.beam": 1,
    },
    "spoken-translate": {
        **{"data.join_training": 32, "data.join_validation": 8, "data.join_test": 8, "train.samples": 64},
        "data.held_out_validation": "index=5",
        **{"model.beam": 1, "train.decoded": 8},
    },
}
"""Recipes of speech, and what makes them small."""


@pytest.fixture(scope="module")
def few_digits(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some of the real recordings, as an archive of the same form."""
    path = tmp_path_factory.mktemp("fsdd") / "recordings.tar.gz"
    with tarfile.open(data_folder / "fsdd" / "recordings.tar.gz") as all_, tarfile.open(path, "w:gz") as few:
        for member in filter(tarfile.TarInfo.isfile, all_):
            _, speaker, index = member.name.removesuffix(".wav").split("_")
            if speaker in ("theo", "george") and int(index) < 8:
                few.addfile(member, all_.extractfile(member))
    return path.parent


@pytest.mark.parametrize("name", SPOKEN)
def test_a_recipe_of_speech(name: str, few_digits: Path, here: Path, command: Command) -> None:
    command("train", name, "--data", str(few_digits), **{"model.hidden_size": 8} | SPOKEN[name])
    run = recurra.load(f"runs/{name}")
    assert run.main_metric in run.summary["test"]
    assert run.report.is_file()
    with tarfile.open(few_digits / "recordings.tar.gz") as archive:
        member = archive.getmembers()[0]
        content = archive.extractfile(member)
        assert content is not None
        (here / "one.wav").write_bytes(content.read())
    out, _ = command("predict", f"runs/{name}", "--data", "one.wav")
    assert out.startswith("one.wav\t")
    table = rows(command("predict", f"runs/{name}", "--data", "one.wav", "--output-format", "csv")[0])
    assert [row["id"] for row in table] == ["one.wav"]
    command("inspect", f"runs/{name}", "--sequences", "4")
    assert "index=0-4" in command("data", str(few_digits), "--task", run.recipe.task, *_set(run))[0]


def _set(run: recurra.Run) -> list[str]:
    """The settings of a run's recipe that its data are read with."""
    data = run.recipe.data
    return ["--set", f"data.pattern={data.pattern}", "--set", f"data.held_out={data.held_out}"]


@pytest.mark.parametrize("name", ["stdlib", "numerals"])
def test_a_recipe_of_texts_that_needs_no_file(name: str) -> None:
    small = {"stdlib": {"train.samples": 6_000}, "numerals": {"train.samples": 64, "train.decoded": 8}}
    run = recurra.train(name, settings=TINY_MODEL | small[name])
    assert run.main_metric in run.summary["test"]


FORECASTS: dict[str, dict[str, Any]] = {
    "prices": {"data.options.days": 300, "train.epochs": 1, "model.hidden_size": 4},
    "airline": {"train.epochs": 2},
    "sunspots": {"train.epochs": 1, "data.stride": 60, "model.hidden_size": 4},
    "etth1": {
        **{"data.context": 48, "data.horizon": 8, "model.hidden_size": 8, "train.epochs": 1},
        **{"data.train_end": 400, "data.validation_end": 500, "data.test_end": 600},
    },
}
"""Recipes of forecasts, and what makes them small."""


def test_prices_are_not_foretold(here: Path, command: Command) -> None:
    out, _ = command("train", "prices", **FORECASTS["prices"])
    run = recurra.load("runs/prices")
    assert {"last value", "drift", "AR"} < set(run.summary["baselines"])
    assert "of the best other method" in out
    assert "which may be chance: the network is not shown to be better" in " ".join(out.split())
    days = ["--set", "data.options.days=300"]
    (here / "prices.csv").write_text(command("data", "prices", "--lines", "300", *days)[0])
    said = rows(command("predict", "runs/prices", "--data", "prices.csv")[0])
    assert [(row["series"], row["time"]) for row in said] == [("price", "2001-02-26")]  # the day after 300 others
    assert float(said[0]["lower"]) < float(said[0]["mean"]) < float(said[0]["upper"])
    told = command("data", "prices.csv", "--task", "forecast")[0]
    assert "  times      2000-01-03 to 2001-02-23, on business days (column 'date')\n" in told
    assert "train: 210 rows, 2000-01-03 to 2000-10-20, " in told
    found = run.evaluate("prices.csv")
    assert set(found["metrics"]) == set(run.summary["test"])


@pytest.mark.parametrize("name", sorted(set(FORECASTS) - {"prices"}))
def test_a_recipe_of_forecasts(name: str, data_folder: Path, here: Path, command: Command) -> None:
    command("train", name, **FORECASTS[name])
    run = recurra.load(f"runs/{name}")
    assert run.main_metric in run.summary["test"]
    assert {"last value", "AR"} < set(run.summary["baselines"])
    source = {"etth1": "ett/ETTh1.csv", "airline": "timeseries/airline-passengers.csv"}
    path = data_folder / source.get(name, "timeseries/monthly-sunspots.csv")
    said = rows(command("predict", f"runs/{name}", "--data", str(path))[0])
    first = {"airline": "1961-01", "sunspots": "1984-01", "etth1": "2018-06-26 20:00"}[name]
    assert said[0]["time"].startswith(first)
    assert all(float(row["lower"]) < float(row["mean"]) < float(row["upper"]) for row in said)
    assert len(said) == (8 * 7 if name == "etth1" else 1)


FILMS: dict[str, dict[str, Any]] = {
    "frames-2x2": {},
    "bouncing": {"model.patch": 4, "data.options.length": 6},
    "frames-label": {"model.patch": 4, "data.options.length": 6},
}
"""Recipes of films, and what makes them small."""


@pytest.mark.parametrize("name", FILMS)
def test_a_film_is_learnt_and_evaluated(name: str) -> None:
    sizes = {f"data.options.{part}": count for part, count in (("training", 40), ("validation", 10), ("test", 12))}
    recurra.train(name, settings=FILMS[name] | sizes | {"train.epochs": 1, "model.hidden_size": 4})
    run = recurra.load(f"runs/{name}")
    assert run.evaluate(run.recipe.data.name)["metrics"] == pytest.approx(run.summary["test"], abs=1e-6)


def test_every_built_in_recipe_is_run_by_a_test() -> None:
    others = {"digits", "sine", "stdlib", "numerals", "mutag", *SMALL, *TEXTS, *SPOKEN, *SYSTEMS, *FORECASTS, *FILMS}
    assert set(recipes.built_in()) == NEEDS_DATA | others


@pytest.mark.parametrize("name", SMALL)
def test_a_problem_is_learnt_evaluated_and_gone_on_with(name: str, here: Path, command: Command) -> None:
    sizes = {f"data.options.{part}": count for part, count in (("training", 40), ("validation", 10), ("test", 12))}
    settings = SMALL[name] | sizes | {"train.samples": 64, "model.hidden_size": 4}
    recurra.train(name, settings=settings)
    run = recurra.load(f"runs/{name}")
    assert run.summary["data"]["sequences"] == {"train": 40, "validation": 10, "test": 12}
    assert run.recipe.data.options["seed"] == 0  # every option is in the recipe, also those that nobody gave
    source = run.recipe.data.name or ""
    evaluated = run.evaluate(source)["metrics"]
    assert evaluated == pytest.approx(run.summary["test"], abs=1e-6)
    lines = ["--lines", "400", "--output-format", "csv"]
    options = [f"data.options.{k}={v}" for k, v in run.recipe.data.options.items() if v is not None]
    said, _ = command("data", source, *lines, *(word for each in options for word in ("--set", each.lower())))
    (here / "more.csv").write_text(said)
    if name != "drifting":  # of which the rows are one sequence, and the run has no id to tell several by
        found = run.evaluate(here / "more.csv")
        assert found["sequences"] == len({row["id"] for row in rows(said)})
        assert set(found["metrics"]) == set(evaluated)
    else:
        assert run.evaluate(here / "more.csv")["sequences"] == 1


def test_digits_learns(command: Command) -> None:
    command("train", "digits", **{"train.samples": 3200})
    assert recurra.load("runs/digits").summary["test"]["accuracy"] > 0.9


def test_sine_carries_its_state(command: Command) -> None:
    out, _ = command("train", "sine")
    run = recurra.load("runs/sine")
    assert run.summary["samples_seen"] == run.summary["updates"] == 100
    assert re.match(rf"test rmse {run.summary['test']['rmse']:.4f} \(95 % interval ", out)
    html = (run.path / "report.html").read_text()
    for step in (25, 50, 75, 100):
        assert re.search(rf"\b{step}\b", html)


@pytest.fixture(scope="module")
def small_mnist(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first images of the real MNIST files, as files of the same form."""
    folder = tmp_path_factory.mktemp("mnist")
    for part, count in (("train", 300), ("t10k", 200)):
        for kind, head, size in (("images-idx3", 16, 784), ("labels-idx1", 8, 1)):
            name = f"{part}-{kind}-ubyte.gz"
            with gzip.open(data_folder / "mnist" / name) as file:
                content = file.read(head + count * size)
            (folder / name).write_bytes(gzip.compress(content[:4] + struct.pack(">I", count) + content[8:]))
    return folder


@pytest.mark.parametrize("name", MNIST)
def test_mnist_recipes_run(name: str, small_mnist: Path, command: Command) -> None:
    small = {"train.samples": 256, "model.hidden_size": 8}
    out, _ = command("train", name, "--data", str(small_mnist), **small)
    run = recurra.load(f"runs/{name}")
    sequences = run.summary["data"]["sequences"]
    assert sequences["train"] + sequences.get("validation", 0) == 300
    assert ("validation" in sequences) == bool(run.recipe.data.validation_fraction)
    assert sequences["test"] == 200
    assert len(run.schema.features) == (1 if run.recipe.data.pixels else 28)
    first = run.recipe.report.first
    if first is not None:
        assert f"test accuracy first {first}: {run.summary['test'][f'accuracy_first_{first}']:.4f}" in out


@pytest.mark.exhaustive
def test_mnist_by_its_name(data_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RECURRA_DATA", str(data_folder))
    command("train", "mnist-gru", **{"train.samples": 12_800})
    assert recurra.load("runs/mnist-gru").summary["test"]["accuracy"] > 0.6


@pytest.mark.parametrize(("name", "classes"), [("sst-text", 5), ("sst-text-2", 2)])
def test_sentiment_of_sentences_and_their_phrases(
    name: str, classes: int, here: Path, data_folder: Path, command: Command
) -> None:
    (here / "sst").mkdir()
    for part, lines in (("train", 60), ("dev", 30), ("test", 40)):
        trees = (data_folder / "sst" / f"{part}.txt").read_bytes().split(b"\n")[:lines]
        (here / "sst" / f"{part}.txt").write_bytes(b"\n".join([*trees, b""]))
    command("train", name, "--data", "sst", **{"train.samples": 256, "model.hidden_size": 8})
    run = recurra.load(f"runs/{name}")
    assert len(run.schema.classes) == classes
    sequences = run.summary["data"]["sequences"]
    roots = [line[1] for line in (here / "sst" / "test.txt").read_text("utf-8").split("\n") if line]
    assert sequences["test"] == sum(classes == 5 or root != "2" for root in roots)
    assert sequences["train"] > 300  # phrases
    evaluated = json.loads(command("evaluate", f"runs/{name}", "--data", "sst", "--json")[0])
    assert evaluated["metrics"] == pytest.approx(run.summary["test"], abs=1e-6)
    (here / "said.txt").write_text("It's a (really) fine film.\nnot bad\n")
    said = rows(command("predict", f"runs/{name}", "--data", "said.txt")[0])
    assert [row["prediction"] in run.schema.classes for row in said] == [True, True]
    said = rows(command("predict", f"runs/{name}", "--data", "sst/test.txt")[0])
    assert len(said) == 40  # an answer for each tree, the neutral ones too


@pytest.mark.exhaustive
def test_imdb_runs(data_folder: Path, command: Command) -> None:
    command("train", "imdb", "--data", str(data_folder / "imdb"), **{"train.samples": 1280, "model.hidden_size": 8})
    run = recurra.load("runs/imdb")
    assert run.schema.classes == ["0", "1"]
    assert run.summary["data"]["sequences"]["test"] == 25_000
