"""Copying beyond what was learnt: bit errors of a neural Turing machine and of LSTMs against the number of vectors.

    OMP_NUM_THREADS=1 python benchmarks/copying.py --runs runs --json copying.json --plots docs/figures

All learn from the same sequences of 1 to 20 vectors of 8 bits, in the same way: recipe `ntm-copy`. Of the LSTMs one has
as many parameters as the machine, the other more units. Each is then scored on 200 sequences of each length; half of
the bits are wrong where nothing is known. Runs that stand in the folder already are not trained again. The second
figure shows what the machine of the first seed does as it copies.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

import recurra

LENGTHS = (1, 5, 10, 15, 20, 25, 30, 40, 60)
NETWORKS: dict[str, dict[str, Any]] = {
    "NTM": {},
    "LSTM, 76 units": {"model.kind": "recurrent", "model.memory": None, "model.hidden_size": 76},
    "LSTM, 256 units": {"model.kind": "recurrent", "model.memory": None, "model.hidden_size": 256},
}
SCORED, SHOWN = 200, 30


def trained(name: str, seed: int, folder: Path, changes: dict[str, Any]) -> recurra.Run:
    """A network's run of a seed, trained where it is not in the folder yet."""
    path = folder / f"{name.lower().replace(', ', '-').replace(' ', '-')}-{seed}"
    if not (path / "summary.json").is_file():
        recurra.train("ntm-copy", settings=NETWORKS[name] | changes, seed=seed, out=path, force=True)
    return recurra.load(path)


def errors(run: recurra.Run, lengths: tuple[int, ...], scored: int = SCORED) -> list[float]:
    """The share of wrong bits at each length."""
    found = []
    for length in lengths:
        options = {"shortest": length, "length": length, "test": scored}
        scores = run.evaluate(settings={f"data.options.{key}": value for key, value in options.items()})
        found.append(scores["metrics"]["hamming_loss"])
    return found


def measured(
    seeds: int, folder: Path, lengths: tuple[int, ...] = LENGTHS, changes: dict[str, Any] | None = None, **options: Any
) -> list[dict[str, Any]]:
    """A row for each network: its size, time, and bit errors by seed and length."""
    rows = []
    for name in NETWORKS:
        runs = [trained(name, seed, folder, changes or {}) for seed in range(seeds)]
        rows.append(
            {
                "network": name,
                "parameters": runs[0].summary["parameters"],
                "seconds": [run.summary["train_seconds"] for run in runs],
                "lengths": lengths,
                "errors": [errors(run, lengths, **options) for run in runs],
            }
        )
    return rows


@torch.no_grad()
def looked(run: recurra.Run, length: int = SHOWN) -> list[tuple[str, np.ndarray]]:
    """What goes in, what is put out, and where the heads are, (T, K) each, along one sequence."""
    network, random = run.network, np.random.default_rng(0)
    x = torch.zeros(2 * length + 1, 1, 9)
    x[:length, 0, :8] = torch.from_numpy(random.integers(0, 2, (length, 8))).float()
    x[length, 0, 8] = 1.0
    output, final, told = network.recurrent(network.inputs(x), return_weightings=True)
    said = torch.sigmoid(network.said(output, final, None))
    said[: length + 1] = 0.0  # of which nothing is asked
    parts = {"given": x, "said": said, "written to": told.writing[:, 0], "read from": told.reading[:, 0]}
    return [(name, values[:, 0].numpy()) for name, values in parts.items()]


def plots(rows: list[dict[str, Any]], shown: list[tuple[str, np.ndarray]], folder: Path) -> None:
    """Errors against length; and the heads over time."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2))
    for number, row in enumerate(rows):
        every = 100 * np.array(row["errors"])
        axes.plot(
            row["lengths"], np.median(every, 0), color=f"C{number}", marker="o", markersize=3, label=row["network"]
        )
        axes.fill_between(row["lengths"], every.min(0), every.max(0), color=f"C{number}", alpha=0.15, linewidth=0)
    axes.axvline(20, color="0.5", linewidth=0.8)
    axes.annotate("longest learnt", (20, 50), xytext=(4, 0), textcoords="offset points", color="0.35", va="top")
    axes.set_xlabel("vectors to be copied")
    axes.set_ylabel("% of bits wrong")
    axes.set_ylim(-1, 52)
    axes.legend(frameon=False)
    _save(figure, axes, folder / "copying.svg")
    tall = [max(8, min(values.shape[1], 32)) for _, values in shown]
    figure, panels = pyplot.subplots(len(shown), figsize=(6.4, 5.2), sharex=True, height_ratios=tall)
    for axes, (name, values) in zip(panels, shown, strict=True):
        extent = (0.5, len(values) + 0.5, -0.5, values.shape[1] - 0.5)
        axes.imshow(values.T, cmap="Blues", origin="lower", aspect="auto", interpolation="none", extent=extent)
        axes.set_ylabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel("step")
    _save(figure, panels[-1], folder / "copying-heads.svg")


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="where the runs are kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plots", type=Path, help="a folder")
    given = parser.parse_args()
    rows = measured(given.seeds, given.runs)
    for row in rows:
        every = 100 * np.array(row["errors"])
        print(f"{row['network']}: {row['parameters']:,} parameters, {np.median(row['seconds']):.0f} s")
        for length, low, middle, high in zip(
            row["lengths"], every.min(0), np.median(every, 0), every.max(0), strict=True
        ):
            print(f"  {length:2} vectors  {middle:6.2f} % of bits wrong ({low:.2f} to {high:.2f})")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if given.plots:
        plots(rows, looked(trained("NTM", 0, given.runs, {})), given.plots)


if __name__ == "__main__":
    main()
