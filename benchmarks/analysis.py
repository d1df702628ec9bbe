"""The figures of docs/analysis.md, drawn anew into docs/figures.

    OMP_NUM_THREADS=1 python benchmarks/analysis.py

An LSTM and a simple network are trained on the adding problem of benchmarks/flow.py, of 100 steps, and looked at with
the instruments; memory capacity is that of cells as they begin.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from cycler import cycler
from flow import Adder, sums, train
from matplotlib import rc_context
from matplotlib.figure import Figure

from recurra import analysis
from recurra.nn import Recurrent

FOLDER = Path(__file__).parents[1] / "docs" / "figures"
STEPS = 100
INK = "#7d8590"
COLOURS = ("#3b82d0", "#e0762f", "#2a9d8f", "#a3608f")
"""All of them legible on a light and on a dark ground."""


@contextmanager
def sheet(name: str, columns: int = 1) -> Iterator[Any]:
    """Axes of a figure that is written as NAME.svg at the end."""
    style: dict[Any, Any] = {f"{part}.color": INK for part in ("text", "xtick", "ytick")}
    style |= {"axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlelocation": "left", "axes.titlesize": 11}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "axes.prop_cycle": cycler(color=COLOURS)}
    style |= {"font.size": 11, "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "recurra"}
    with rc_context(style):
        figure = Figure(figsize=(4.2 * max(columns, 1.3), 3.5), layout="constrained")
        yield figure.subplots(1, columns)
        lines, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=4 if columns > 1 else 2)
        figure.savefig(FOLDER / f"{name}.svg", transparent=True, metadata={"Date": None})


def trained(cell: str, rate: float) -> Adder:
    """A network that was trained on sums of two of 100 numbers."""
    torch.manual_seed(0)
    network = Adder(cell, 32)
    train(network, 0, 2500, rate, STEPS)
    return network


def simple(scale: float) -> Recurrent:
    """A simple network whose U is an orthogonal matrix times a number."""
    torch.manual_seed(0)
    layer = Recurrent("elman", 2, 32, init={"U": "orthogonal"})
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").mul_(scale)
    return layer


def main() -> None:
    """Draw all figures; what they show is printed too."""
    argparse.ArgumentParser(description="The figures of docs/analysis.md").parse_args()
    FOLDER.mkdir(exist_ok=True)
    x, y = sums(16, torch.Generator().manual_seed(1), STEPS)
    noise = torch.randn(STEPS, 16, 2, generator=torch.Generator().manual_seed(2))

    def loss(said: torch.Tensor) -> torch.Tensor:
        return (said - y).square().sum()

    def look(network: Adder) -> analysis.Recording:
        return analysis.record(network, x, loss=loss)

    lstm, srn = look(trained("lstm", 0.01)), look(trained("elman", 0.001))
    chaotic, orthogonal = (analysis.record(simple(s), 0.1 * noise) for s in (1.6, 1.0))

    with sheet("gradient-flow") as axes:
        flows = [("LSTM, trained", lstm), ("simple, trained", srn), ("simple, U orthogonal", orthogonal)]
        flows += [("simple, U 1.6 times that", chaotic)]
        for k, (label, one) in enumerate(flows):
            flow = analysis.gradient_flow(one)
            flow.plot(axes, label=label, colour=f"C{k}")
            print(f"{label}\n{flow}\n")
        axes.set_ylim(1e-10, 1e4)

    with sheet("jacobians", 2) as both:
        for axes, (label, one) in zip(both, (("LSTM, trained", lstm), ("simple, trained", srn)), strict=True):
            found = analysis.state_jacobians(one)
            found.plot(axes)
            axes.set_title(label)
            print(found)

    with sheet("spans", 2) as both:
        for axes, (label, one) in zip(both, (("LSTM, trained", lstm), ("simple, trained", srn)), strict=True):
            analysis.state_jacobians(one, steps=range(64)).over_spans().plot(axes)
            axes.set_title(label)
            axes.set_ylim(1e-12, 1e2)

    with sheet("exponents") as axes:
        for k, (label, one) in enumerate(
            (("LSTM, trained", lstm), ("simple, trained", srn), ("simple, U 1.6", chaotic))
        ):
            found = analysis.lyapunov_exponents(one, count=32)
            found.plot(axes, label=label, colour=f"C{k}")
            print(found)

    with sheet("gates", 2) as (left, right):
        found = analysis.gates(lstm)
        found.plot(left)
        found.plot_saturation(right)
        print(found)

    with sheet("capacity", 2) as (left, right):
        for k, cell in enumerate(("residual", "lstm", "gru")):
            torch.manual_seed(0)
            found = analysis.memory_capacity(Recurrent(cell, 1, 32))
            found.plot(left, label=cell, colour=f"C{k}")
            right.plot(found.steps, found.saturated, color=f"C{k}", label=cell, marker="o", markersize=3.5)
            print(found)
        right.set_xscale("log")
        right.set_xlabel("steps taken")
        right.set_ylabel("share of gates and units saturated")


if __name__ == "__main__":
    main()
