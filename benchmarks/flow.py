"""How far the gradient reaches back in an LSTM and in a simple network, before and after training: docs/results.md.

    OMP_NUM_THREADS=1 python benchmarks/flow.py --json flow.json --plot flow.svg

Both networks are trained on the adding problem (Hochreiter & Schmidhuber 1997): 200 steps of a number from 0 to 1 and a
mark; one step in each half is marked, and the sum of the two numbers is to be told at the end, so that one of them has
to be kept for 100 steps at least. The LSTM's forget bias begins at 1, the simple network's U is orthogonal. Whoever
always says the mean has a squared error of 1/6.

Measured is ‖∂L_t/∂s_(t-k)‖ / ‖∂L_t/∂s_t‖ in double precision, where L_t is the squared error at the last step and s all
of the state: the median over 64 sequences that nothing was trained on, then the median over the seeds.
"""

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from recurra.analysis import gradient_flow
from recurra.nn import Recurrent
from recurra.version import __version__

STEPS, DISTANCE = 200, 100
CELLS = {"lstm": ("LSTM", 0.01), "elman": ("SRN", 0.001)}
"""What each is called, and its highest learning rate; the simple network does not learn at 0.01 or 0.0001 either."""


class Adder(nn.Module):
    """A recurrent layer, and a linear read-out of its last output."""

    def __init__(self, cell: str, units: int) -> None:
        super().__init__()
        init = {"U": "orthogonal"} if cell == "elman" else None
        self.layer = Recurrent(cell, 2, units, init=init)
        self.out = nn.Linear(units, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,) sums from x, (T, B, 2)."""
        return self.out(self.layer(x)[0][-1])[:, 0]


def sums(rows: int, generator: torch.Generator, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """The adding problem: x (T, B, 2) and the sums (B,); one mark in each half."""
    numbers, marks, half = torch.rand(steps, rows, generator=generator), torch.zeros(steps, rows), steps // 2
    for start in (0, half):
        marks[torch.randint(start, start + half, (rows,), generator=generator), torch.arange(rows)] = 1.0
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(0)


def train(network: Adder, seed: int, updates: int, rate: float, steps: int = STEPS) -> None:
    """Adam, up to the learning rate and down again, batches of 32, gradients clipped at a norm of 1."""
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=updates)
    for _ in range(updates):
        x, y = sums(32, generator, steps)
        optimizer.zero_grad()
        (network(x) - y).square().mean().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


@dataclass
class Measured:
    """One network at one moment: the median ratio at each distance, and its squared error."""

    ratio: list[float]
    error: float


def measured(network: Adder) -> Measured:
    """Of a network as it is now."""
    x, y = sums(64, torch.Generator().manual_seed(10**6))
    many, true = sums(1000, torch.Generator().manual_seed(10**6 + 1))
    flow = gradient_flow(network, x, loss=lambda said: (said - y).square().sum(), bound=False)
    with torch.no_grad():
        error = float((network(many) - true).square().mean())
    return Measured(flow.median.tolist(), error)


def run(cell: str, seed: int, updates: int, units: int) -> dict[str, Measured]:
    """Before and after training."""
    torch.manual_seed(seed)
    network = Adder(cell, units)
    found = {"before": measured(network)}
    train(network, seed, updates, CELLS[cell][1])
    return found | {"after": measured(network)}


def table(found: dict[str, list[dict[str, Measured]]]) -> str:
    """The ratios at 100 steps: the median over the seeds, the range, and the squared errors."""
    lines = [f"| | ratio at {DISTANCE} steps, median (range) | squared error, median (range) |", "|---|---|---|"]
    middle = {}
    for moment in ("before", "after"):
        for cell, runs in found.items():
            ratios = [each[moment].ratio[DISTANCE] for each in runs]
            errors = [each[moment].error for each in runs]
            middle[cell, moment] = float(np.median(ratios))
            told = (f"{np.median(v):.2g} ({min(v):.2g} to {max(v):.2g})" for v in (ratios, errors))
            lines.append(f"| {CELLS[cell][0]}, {moment} training | {' | '.join(told)} |")
    for moment in ("before", "after"):
        share = middle["lstm", moment] / middle["elman", moment]
        lines.append(f"| LSTM over SRN, {moment} | {share:.2g} | |")
    return "\n".join(lines)


def plot(found: dict[str, list[dict[str, Measured]]], path: Path) -> None:
    """Medians over the seeds as lines, their range as a band, in colours for a light and a dark ground."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink = "#7d8590"
    style = {"svg.fonttype": "none", "svg.hashsalt": "recurra", "text.color": ink, "axes.labelcolor": ink}
    style |= {
        "axes.edgecolor": ink,
        "xtick.color": ink,
        "ytick.color": ink,
        "font.size": 11,
        "axes.titlelocation": "left",
    }
    style |= {"axes.spines.top": False, "axes.spines.right": False}
    with rc_context(style):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        for axes, moment in zip(figure.subplots(1, 2, sharey=True), ("before", "after"), strict=True):
            for (cell, runs), colour in zip(found.items(), ("#3b82d0", "#e0762f"), strict=True):
                ratios = np.maximum(np.array([each[moment].ratio for each in runs]), 1e-45)
                back = np.arange(ratios.shape[1])
                axes.fill_between(back, ratios.min(0), ratios.max(0), color=colour, alpha=0.2, linewidth=0)
                axes.plot(back, np.median(ratios, 0), color=colour, label=CELLS[cell][0])
            axes.axvline(DISTANCE, color=ink, linewidth=0.8, linestyle=(0, (4, 3)))
            axes.set_yscale("log")
            axes.set_title(f"{moment} training")
            axes.set_xlabel("steps back, t − k")
        figure.axes[0].set_ylabel("‖∂L_t/∂s_k‖ / ‖∂L_t/∂s_t‖")
        figure.axes[1].legend(frameon=False)
        figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """Train, measure, print the table; each network is told on the standard error stream."""
    parser = argparse.ArgumentParser(description="How far gradients reach back: LSTM and simple network")
    parser.add_argument("--seeds", type=int, default=5, help="networks of each kind")
    parser.add_argument("--updates", type=int, default=4000, help="updates of 32 sequences")
    parser.add_argument("--units", type=int, default=32, help="units of the layer")
    parser.add_argument("--json", type=Path, help="write every number")
    parser.add_argument("--plot", type=Path, help="draw the curves: .svg, .png")
    chosen = parser.parse_args()
    begun, found = time.perf_counter(), {cell: [] for cell in CELLS}
    for seed in range(chosen.seeds):
        for cell, runs in found.items():
            runs.append(run(cell, seed, chosen.updates, chosen.units))
            after = runs[-1]["after"]
            told = f"{CELLS[cell][0]} seed {seed}: error {after.error:.4f}, ratio {after.ratio[DISTANCE]:.2g}"
            print(f"{told}, {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    told = f"{datetime.now(UTC):%Y-%m-%d}, Recurra {__version__}, torch {torch.__version__}, Python "
    told += (
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    print(f"{told}, {time.perf_counter() - begun:.0f} s\n\n{table(found)}")
    if chosen.json:
        numbers = {cell: [{k: vars(v) for k, v in each.items()} for each in runs] for cell, runs in found.items()}
        chosen.json.write_text(json.dumps({"measured": told, "runs": numbers}))
    if chosen.plot:
        plot(found, chosen.plot)


if __name__ == "__main__":
    main()
