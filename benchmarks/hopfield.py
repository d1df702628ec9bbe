"""How many patterns a Hopfield network holds: the share of wrong units after recall, against the load P / N.

    OMP_NUM_THREADS=2 python benchmarks/hopfield.py --json hopfield.json --plot hopfield.svg

Random patterns of -1 and 1 are stored by Hebb's rule and by the pseudo-inverse; the network begins at a stored pattern
(50 of them at the most) and runs, one unit after the other, until it rests. Theory (Amit, Gutfreund & Sompolinsky 1985)
has Hebb's rule hold patterns up to P = 0.138 N, where 1.6 % of the units are wrong, and lose them all at once beyond.
The knee is told as the load at which the share of wrong units, in the mean over patterns and seeds, passes 5 %. For the
modern network (Ramsauer et al. 2021; β = 1) a step begins at a pattern with a tenth of its values turned round.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.nn import Hopfield, ModernHopfield

LOADS = (0.02, 0.05, 0.08, 0.1, 0.11, 0.12, 0.13, 0.14, 0.15, 0.16, 0.18, 0.2, 0.25, 0.3, 0.4, 0.5, 0.7, 0.9)
WIDTHS = (200, 500, 1000)
KNEE, THEORY = 0.05, 0.138
RECALLED = 50
"""Patterns of a network that are recalled, at most."""


def drawn(rows: int, units: int, generator: torch.Generator) -> Tensor:
    """Patterns of -1 and 1."""
    return torch.randint(0, 2, (rows, units), generator=generator).double() * 2 - 1


def wrong(units: int, load: float, rule: str, seed: int) -> float:
    """The share of units that are wrong when the network, begun at each of the patterns, has come to rest."""
    generator = torch.Generator().manual_seed(seed)
    patterns = drawn(max(1, round(load * units)), units, generator)
    asked = patterns[:RECALLED]
    if rule == "modern":
        probes = torch.where(torch.rand(asked.shape, generator=generator) < 0.1, -asked, asked)
        found = ModernHopfield(patterns).step(probes).sign()
    else:
        memory = Hopfield.store(patterns, "hebbian" if rule == "hebbian" else "pseudo-inverse")
        found = memory.recall(asked, seed=seed).states
    return float((found != asked).double().mean())


def knee(loads: tuple[float, ...], shares: list[float]) -> float | None:
    """The load at which the share passes `KNEE`, along straight lines between what was measured."""
    for (before, low), (after, high) in zip(
        zip(loads, shares, strict=True), zip(loads[1:], shares[1:], strict=True), strict=False
    ):
        if low < KNEE <= high:
            return before + (KNEE - low) / (high - low) * (after - before)
    return None


def measured(seeds: int, widths: tuple[int, ...] = WIDTHS, loads: tuple[float, ...] = LOADS) -> list[dict[str, Any]]:
    """A row for each rule and width: the shares by load, their deviation over seeds, and the knee."""
    rows = []
    for rule, units in [*(("hebbian", N) for N in widths), ("pseudo-inverse", widths[0]), ("modern", widths[0])]:
        found = np.array([[wrong(units, load, rule, seed) for seed in range(seeds)] for load in loads])
        mean = found.mean(1).tolist()
        spread = found.std(1, ddof=1).tolist() if seeds > 1 else None
        rows.append(
            {
                "rule": rule,
                "units": units,
                "loads": loads,
                "wrong": mean,
                "deviation": spread,
                "knee": knee(loads, mean),
            }
        )
    return rows


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """The shares against the load."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4))
    for number, row in enumerate(rows):
        name = f"{'Hebb' if row['rule'] == 'hebbian' else row['rule']}, N = {row['units']}"
        style = "-" if row["rule"] == "hebbian" else "--" if row["rule"] == "pseudo-inverse" else ":"
        axes.plot(row["loads"], row["wrong"], style, color=f"C{number}", marker="o", markersize=3, label=name)
    axes.axvline(THEORY, color="0.5", linewidth=0.8)
    axes.annotate("0.138", (THEORY, 0.47), xytext=(4, 0), textcoords="offset points", color="0.35", va="top")
    axes.set_xlabel("patterns stored, as a share of the units")
    axes.set_ylabel("share of units that are wrong")
    axes.set_ylim(-0.01, 0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc=(0.56, 0.13))
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    rows = measured(given.seeds)
    for row in rows:
        where = "no knee below 0.9 N" if row["knee"] is None else f"knee at {row['knee']:.3f} N"
        print(f"{row['rule']}, {row['units']} units: {where}")
        for load, share in zip(row["loads"], row["wrong"], strict=True):
            print(f"  {load:5.2f} N  {100 * share:6.2f} % wrong")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if given.plot:
        plot(rows, given.plot)


if __name__ == "__main__":
    main()
