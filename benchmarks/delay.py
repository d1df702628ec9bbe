"""Memory with and without a loop: what TDNN, Elman's network and GRU recall of a sign, against the steps since then.

    OMP_NUM_THREADS=1 python benchmarks/delay.py --plot docs/figures/delay.svg

A sequence is a sign, 1 or -1, and noise a fifth as large for so many steps behind it; at the last of these the sign
is to be told.
Each network is trained anew for each gap, on sequences made as they are needed, and tested on 2000 others. The
time-delay network has three layers of 5 steps each, and so reads 13: the present step and 12 before it. The GRU's z,
which keeps the old state, begins with a bias of 3.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.nn import TDNN, Recurrent

GAPS = (1, 4, 8, 12, 13, 16, 24, 36)
DELAYS = (5, 5, 5)
HIDDEN, ROWS, UPDATES, TESTED = 16, 32, 300, 2000
NETWORKS = ("TDNN", "elman", "gru")
NAMES = {"TDNN": "TDNN, 13 steps", "elman": "Elman", "gru": "GRU"}


class Recall(nn.Module):
    """Layers, and of their last output a number whose sign is the answer."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "TDNN":
            self.layers: nn.Module = TDNN(1, HIDDEN, DELAYS)
        else:
            self.layers = Recurrent(kind, 1, HIDDEN, init={"b_z": 3.0} if kind == "gru" else None)
        self.output = nn.Linear(HIDDEN, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B,) for sequences (T, B, 1)."""
        return self.output(self.layers(x)[0][-1]).squeeze(-1)


def made(gap: int, rows: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Sequences of gap + 1 steps, (gap + 1, rows, 1), and whether they begin with 1."""
    x = 0.2 * torch.randn(gap + 1, rows, 1, generator=generator)
    positive = torch.rand(rows, generator=generator) < 0.5
    x[0, :, 0] = torch.where(positive, 1.0, -1.0)
    return x, positive.float()


def accuracy(kind: str, gap: int, seed: int, updates: int = UPDATES) -> float:
    """The share of signs that a network tells rightly once it is trained."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Recall(kind)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(updates):
        x, positive = made(gap, ROWS, generator)
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(x), positive).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        x, positive = made(gap, TESTED, generator)
        return float(((network(x) > 0) == positive.bool()).double().mean())


def measured(seeds: int, gaps: tuple[int, ...] = GAPS, updates: int = UPDATES) -> list[dict[str, Any]]:
    """A row for each network: the median accuracy by gap, the least and the largest, and its parameters."""
    rows = []
    for kind in NETWORKS:
        found = np.array([[accuracy(kind, gap, seed, updates) for seed in range(seeds)] for gap in gaps])
        rows.append(
            {
                "network": kind,
                "gaps": list(gaps),
                "median": np.median(found, 1).tolist(),
                "least": found.min(1).tolist(),
                "largest": found.max(1).tolist(),
                "parameters": sum(p.numel() for p in Recall(kind).parameters()),
            }
        )
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy against the gap."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2))
    for number, row in enumerate(rows):
        axes.plot(row["gaps"], row["median"], color=f"C{number}", marker="o", markersize=3, label=NAMES[row["network"]])
        axes.fill_between(row["gaps"], row["least"], row["largest"], color=f"C{number}", alpha=0.15, linewidth=0)
    axes.axvline(sum(p - 1 for p in DELAYS) + 0.5, color="0.5", linewidth=0.8)
    words = "what the TDNN reads ends here"
    axes.annotate(words, (12.5, 0.62), xytext=(5, 0), textcoords="offset points", color="0.35")
    axes.set_xlabel("steps since the sign")
    axes.set_ylabel("share told rightly")
    axes.set_ylim(0.45, 1.02)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="center right")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    rows = measured(given.seeds)
    for row in rows:
        print(f"{NAMES[row['network']]}, {row['parameters']:,} parameters")
        for gap, *values in zip(row["gaps"], row["median"], row["least"], row["largest"], strict=True):
            middle, least, largest = (100 * v for v in values)
            print(f"  {gap:3} steps  {middle:6.1f} %  ({least:.1f} to {largest:.1f})")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
