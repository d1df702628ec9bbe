"""Gradients that explode or vanish, and what helps: the tables and figures of docs/remedies.md.

    OMP_NUM_THREADS=1 python benchmarks/remedies.py --plots docs/figures

Each case is a recipe whose network does not learn a small problem because of its gradients, and the same recipe with a
key or two changed. All of them are trained by the package's own loop, from several seeds. Two problems serve for all:

- sum: 40 random numbers; is their sum above zero? (200 sequences)
- recall: a sign, then noise a tenth as large, to the 30th or 60th step; what was the sign? (200 sequences)
"""

import argparse
import math
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recurra.analysis.flow import gradient_flow
from recurra.data import load_parts
from recurra.errors import RunError
from recurra.run import recipe
from recurra.run.folder import RunFolder
from recurra.run.training import Training
from recurra.version import __version__

Settings = Mapping[str, Any]

COMMON: Settings = {
    "model.hidden_size": 16,
    "model.bidirectional": False,
    "model.normalise": "none",
    "train.optimizer": "sgd",
    "train.momentum": 0.0,
    "train.schedule": "warmup",
    "train.warmup": 0.3,
    "train.batch_size": 20,
    "train.clip_norm": 0.0,
    "train.select": "last",
    "train.threads": 1,
    "train.checkpoint_seconds": 1e9,
    "train.evaluate_every": 10**9,
}

ROWS = 200


def sums(seed: int, steps: int = 40) -> tuple[np.ndarray, list[str]]:
    """Random numbers, (rows, steps, 1), and whether their sum is above zero."""
    x = np.random.default_rng(seed).normal(size=(ROWS, steps, 1)).astype(np.float32)
    return x, ["above" if total > 0 else "below" for total in x.sum((1, 2))]


def recall(seed: int, steps: int = 30) -> tuple[np.ndarray, list[str]]:
    """A sign, then noise, (rows, steps, 1), and the sign."""
    random = np.random.default_rng(seed)
    sign = random.choice([-1.0, 1.0], ROWS)
    x = 0.1 * random.normal(size=(ROWS, steps, 1))
    x[:, 0, 0] = sign
    return x.astype(np.float32), ["above" if s > 0 else "below" for s in sign]


# --- what is measured ------------------------------------------------------------------------------------------------


def final_loss(training: Training, seed: int) -> float:
    """In nats, the mean of the last tenth of the updates; infinite where training could not go on."""
    last = training.losses[-(training.total // 10) :]
    return statistics.mean(last) if training.progress.finished else math.inf


def sizes(training: Training, seed: int) -> np.ndarray:
    """The size of the state at each of 300 steps, of a network that was trained on 30; means over sequences."""
    x, _ = recall(1000 + seed, steps=300)
    network = training.network.eval()
    with torch.no_grad():
        states, _ = network.recurrent(network.inputs(torch.from_numpy(x).transpose(0, 1)))
    return states.norm(dim=-1).mean(1).numpy()


def growth(training: Training, seed: int) -> float:
    """The size of the state after 300 steps over that after the 30 that the network was trained on."""
    size = sizes(training, seed)
    return float(size[-1] / size[29])


# --- the cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A way to fail, and what helps.

    Attributes:
        title: What is wrong.
        data: From a seed to the problem.
        fails: The recipe that fails, laid over `COMMON`.
        remedies: What is laid over that one.
        bounds: The failing recipe's score is above the first of them, that with a remedy below the second: medians over
            seeds.
        others: Shown beside the remedies, but too little alone.
        score: What is measured.
        measured: In a word.
    """

    title: str
    data: Callable[[int], tuple[np.ndarray, list[str]]]
    fails: Settings
    remedies: Mapping[str, Settings]
    bounds: tuple[float, float]
    others: Mapping[str, Settings] = field(default_factory=dict)
    score: Callable[[Training, int], float] = final_loss
    measured: str = "loss"


PLAIN: Settings = {"model.cell": "elman", "train.lr": 0.1, "train.clip_norm": 1.0, "train.samples": 4000}
BY_VALUE: Settings = {"train.clip_value": 0.03}

CASES: dict[str, Case] = {
    "large-u": Case(
        "Rectified units with ρ(U) = 1.3",
        recall,
        {
            **PLAIN,
            "model.options": {"activation": "relu"},
            "model.init": {"U": "identity*1.3"},
            "train.clip_norm": 0.0,
        },
        {
            "clip_norm = 1": {"train.clip_norm": 1.0},
            "clip_value = 0.03": BY_VALUE,
            "clip_adaptive = 0.05": {"train.clip_adaptive": 0.05},
        },
        (0.65, 0.1),
    ),
    "chaos": Case(
        "tanh units with ρ(U) = 1.5",
        sums,
        {"model.cell": "elman", "model.init": {"U": "orthogonal*1.5"}, "train.lr": 0.3, "train.samples": 6000},
        {
            "clip_norm = 0.3": {"train.clip_norm": 0.3},
            "clip_value = 0.03": BY_VALUE,
            "clip_adaptive = 0.05": {"train.clip_adaptive": 0.05},
            "clip_quantile = 0.1": {"train.clip_quantile": 0.1},
        },
        (0.6, 0.5),
    ),
    "large-u-lstm": Case(
        "An LSTM with a large U",
        sums,
        {"model.cell": "lstm", "model.init": {"U": "orthogonal*8"}, "train.lr": 0.4, "train.samples": 6000},
        {
            'init = { U = "orthogonal" }, clip_norm = 1': {"model.init": {"U": "orthogonal"}, "train.clip_norm": 1.0},
            "weight_decay = 0.03, clip_value = 0.03": {**BY_VALUE, "train.weight_decay": 0.03},
            "l2 = { U = 0.1 }, clip_value = 0.1": {"train.clip_value": 0.1, "train.l2": {"U": 0.1}},
        },
        (0.55, 0.45),
        others={"clip_value = 0.03": BY_VALUE},
    ),
    "small-u": Case(
        "A simple network with a small U",
        recall,
        {**PLAIN, "model.init": {"U": "orthogonal*0.5"}},
        {
            'init = { U = "orthogonal" }': {"model.init": {"U": "orthogonal"}},
            'init = { U = "identity" }': {"model.init": {"U": "identity"}},
            'cell = "irnn"': {"model.cell": "irnn", "model.init": {}},
            "error_norm = 1": {"train.error_norm": 1.0},
        },
        (0.65, 0.2),
    ),
    "small-u-leaky": Case(
        "A small U, over 60 steps",
        partial(recall, steps=60),
        {**PLAIN, "train.optimizer": "adam", "train.lr": 0.001, "model.init": {"U": "orthogonal*0.2"}},
        {'cell = "leaky"': {"model.cell": "leaky"}},
        (0.6, 0.1),
    ),
    "dead": Case(
        "Rectified units that are dead",
        recall,
        {**PLAIN, "model.options": {"activation": "relu"}, "model.init": {"U": "identity", "b": -1.0}},
        {
            'cell = "irnn"': {"model.cell": "irnn", "model.options": {}, "model.init": {}},
            'activation = "tanh", init = { U = "identity" }': {
                "model.options": {"activation": "tanh"},
                "model.init": {"U": "identity"},
            },
        },
        (0.65, 0.1),
    ),
    "saturated": Case(
        "Gates that are saturated",
        sums,
        {**PLAIN, "model.cell": "lstm", "model.init": {"W": "normal*20"}, "train.samples": 6000},
        {
            'init = { W = "xavier" }': {"model.init": {"W": "xavier"}},
            'cell = "lstm_layer_norm"': {"model.cell": "lstm_layer_norm"},
        },
        (0.6, 0.5),
    ),
    "forgets": Case(
        "An LSTM that forgets",
        partial(recall, steps=60),
        {
            **PLAIN,
            "model.cell": "lstm",
            "model.options": {"forget_bias": -1.0},
            "train.optimizer": "adam",
            "train.lr": 0.005,
        },
        {
            "forget_bias = 1": {"model.options": {"forget_bias": 1.0}},
            "init = { chrono = 60 }": {"model.init": {"chrono": 60}},
        },
        (0.6, 0.1),
    ),
    "grows": Case(
        "A state that grows",
        recall,
        {**PLAIN, "model.cell": "irnn"},
        {
            "activation_l2 = 0.1": {"train.activation_l2": 0.1},
            "temporal_l2 = 1": {"train.temporal_l2": 1.0},
        },
        (1e6, 100.0),
        score=growth,
        measured="growth",
    ),
}

FAILS = "as it is"
"""What the recipe that fails is called."""


@dataclass(frozen=True)
class Outcome:
    """What became of one run.

    Attributes:
        score: What the case measures.
        losses: Of all updates, up to where training could not go on.
        flow: Before training, the norm of a random gradient k = 0, 1, … steps back over what it was at the last step:
            medians over 32 sequences.
        sizes: Of the state, after training, where the case is about them.
    """

    score: float
    losses: list[float]
    flow: np.ndarray
    sizes: np.ndarray | None = None


def run(case: Case, remedy: str | None, seed: int) -> Outcome:
    """Train a case as it is, or with one of its remedies."""
    laid_over = {} if remedy is None else {**case.remedies, **case.others}[remedy]
    chosen = recipe.load("classify", {**COMMON, **case.fails, **laid_over, "seed": seed})
    x, labels = case.data(seed)
    parts = load_parts((x, labels), "classify", chosen.data, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "checkpoints").mkdir()
        training = Training(chosen, parts, RunFolder(folder))
        along = torch.from_numpy(x[:32]).transpose(0, 1)
        flow = gradient_flow(training.network.recurrent, along, ends=1, bound=False).median
        try:
            training.run()
        except RunError as error:
            print(error, file=sys.stderr)
        after = sizes(training, seed) if case.score is growth else None
        return Outcome(case.score(training, seed), training.losses, flow, after)


def outcomes(case: Case, seeds: int) -> dict[str, list[Outcome]]:
    """The runs of a case: as it is, and with each remedy."""
    names: list[str | None] = [None, *case.remedies, *case.others]
    return {name or FAILS: [run(case, name, seed) for seed in range(seeds)] for name in names}


def scores(runs: list[Outcome]) -> tuple[float, float, float]:
    """Median, lowest and highest."""
    found = [outcome.score for outcome in runs]
    return statistics.median(found), min(found), max(found)


def reach(runs: list[Outcome]) -> float:
    """What has become of a gradient at the first step, before training: the median over seeds."""
    return statistics.median(float(outcome.flow[-1]) for outcome in runs)


# --- how it is shown -------------------------------------------------------------------------------------------------


def table(case: Case, found: Mapping[str, list[Outcome]]) -> str:
    """The case as a Markdown table."""
    lines = [f"| | gradient at the first step | {case.measured}, median (range) |", "|---|---|---|"]
    for name, runs in found.items():
        middle, low, high = scores(runs)
        told = name if name == FAILS else f"`{name}`"
        lines.append(f"| {told} | {reach(runs):.2g} | {middle:.2g} ({low:.2g} to {high:.2g}) |")
    return "\n".join(lines)


COLOURS = ("#8b949e", "#3b82d0", "#e0762f", "#2ea06b", "#b05fd0")
"""Legible on a light and on a dark ground; the first is of the recipe as it is."""


def plot(case: Case, found: Mapping[str, list[Outcome]], path: Path) -> None:
    """How gradients went back through time before training, and the loss in training: medians over the seeds."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink = "#7d8590"
    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "recurra",
        "text.color": ink,
        "axes.labelcolor": ink,
    }
    style |= {"axes.edgecolor": ink, "xtick.color": ink, "ytick.color": ink, "font.size": 11}
    style |= {"axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False}
    with rc_context(style):
        figure = Figure(figsize=(8.4, 3.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        drawn: list[np.ndarray] = []
        for (name, runs), colour in zip(found.items(), COLOURS, strict=False):
            curves = [outcome.flow if outcome.sizes is None else outcome.sizes for outcome in runs]
            curve = np.median(curves, 0)
            if not any(np.array_equal(curve, other) for other in drawn):  # remedies that begin as the recipe does
                left.plot(np.maximum(curve, SMALLEST), color=colour)
                drawn.append(curve)
            updates = max(len(outcome.losses) for outcome in runs)
            losses = [outcome.losses + [np.inf] * (updates - len(outcome.losses)) for outcome in runs]
            right.plot(_smoothed(np.median(losses, 0)), color=colour, label=name)
        left.set_yscale("log")
        if case.score is growth:
            left.set_title("after training", fontsize=11)
            left.set_xlabel("step")
            left.set_ylabel("size of the state")
        else:
            left.set_title("before training", fontsize=11)
            left.set_xlabel("steps back")
            left.set_ylabel("gradient, relative")
        if right.dataLim.ymax > 10:
            right.set_yscale("log")
            right.set_ylim(bottom=1e-6)
        else:
            right.set_ylim(0, 1)
        right.set_title("in training", fontsize=11)
        right.set_xlabel("update")
        right.set_ylabel("loss, nats")
        figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=10)
        figure.savefig(path, transparent=True, metadata={"Date": None})


SMALLEST = 1e-12
"""What is smaller is drawn as this."""


def _smoothed(values: np.ndarray, over: int = 10) -> np.ndarray:
    """Means of the last ten updates."""
    return np.array([values[max(0, i - over + 1) : i + 1].mean() for i in range(len(values))])


def main() -> None:
    """Train, print the tables and draw the figures; each case goes to the standard error stream too."""
    parser = argparse.ArgumentParser(description="Remedies for gradients that explode or vanish: docs/remedies.md")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each recipe")
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES), help="which cases")
    parser.add_argument("--plots", type=Path, help="folder for a figure of each case")
    chosen = parser.parse_args()
    begun, parts = time.perf_counter(), []
    for key in chosen.cases:
        found = outcomes(CASES[key], chosen.seeds)
        parts.append(f"{CASES[key].title}:\n\n{table(CASES[key], found)}\n")
        print(parts[-1], file=sys.stderr, flush=True)
        if chosen.plots:
            plot(CASES[key], found, chosen.plots / f"remedies-{key}.svg")
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Recurra {__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {time.perf_counter() - begun:.0f} s\n"
    )
    print("\n".join(parts))


if __name__ == "__main__":
    main()
