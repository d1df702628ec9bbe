"""What a node of a graph knows after 1, 2, … T rounds: how much of its state comes from each node's features.

    OMP_NUM_THREADS=1 python benchmarks/graphs.py --plot docs/figures/graph-rounds.svg
    OMP_NUM_THREADS=1 python benchmarks/graphs.py --speed 30     # beside PyTorch Geometric's layers

The graph is a molecule, 1-nitronaphthalene without its hydrogen: two rings of carbon and a nitro group; the node is an
oxygen, from which the farthest atom is six bonds away. The network is `MessagePassing` with a GRU as its weights begin:
nothing is learnt. For each atom u the norm of the derivative of the node's state after t rounds by the features of u is
taken, ‖∂h_t^(v) / ∂x^(u)‖, as a share of the sum over all atoms, in the mean over draws of weights and features. An
atom that no message has come from has a derivative of exactly zero.

For speed, 128 such molecules at once, 64 units: a gated graph network of 4 rounds and a convolutional one of 3 layers,
forward and backward, beside PyTorch Geometric's `GatedGraphConv` and `GCNConv` of the same weights. That outputs and
gradients are the same is looked at first; then both take turns, and told are medians of the processor's time.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from recurra.nn.graph import GCN, MessagePassing, gated_graph_conv
from recurra.nn.messages import geometric

RING = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7), (7, 8), (8, 9), (9, 0), (4, 9)]
BONDS = torch.tensor([*RING, (0, 10), (10, 11), (10, 12)]).T
ATOMS = [*"CCCCCCCCCC", "N", "O", "O"]
NODE = 11
"""The oxygen that is asked what it knows."""
WIDTH, FEATURES, ROUNDS = 16, 8, 6
MOLECULES, UNITS = 128, 64


def places() -> list[tuple[float, float]]:
    """Where the atoms are drawn, bonds being 1 long; the ring's atoms follow one another around both hexagons."""
    a = math.sqrt(3) / 2
    ring = [(-a, 1), (-2 * a, 0.5), (-2 * a, -0.5), (-a, -1), (0, -0.5)]
    ring += [(a, -1), (2 * a, -0.5), (2 * a, 0.5), (a, 1), (0, 0.5)]
    return [*ring, (-a, 2.0), (-2 * a, 2.5), (0.0, 2.5)]


def shares(draws: int) -> Tensor:
    """Of what a node knows after each round, the share that comes from each atom, (T + 1, atoms)."""
    total = torch.zeros(ROUNDS + 1, len(ATOMS), dtype=torch.float64)
    for seed in range(draws):
        torch.manual_seed(seed)
        layer = MessagePassing("gru", WIDTH, rounds=ROUNDS, input_size=FEATURES, direction="both", dtype=torch.float64)
        x = torch.randn(len(ATOMS), FEATURES, dtype=torch.float64, requires_grad=True)
        for t, h in enumerate(layer.rounds_of(x, BONDS)):
            rows = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in h[NODE]]
            norms = torch.stack(rows).square().sum((0, 2)).sqrt()
            total[t] += norms / norms.sum()
    return total / draws


def plot(found: Tensor, path: Path) -> None:
    """The molecule after each round; the darker an atom, the more of the node's state comes from it."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 9})
    figure, axes = pyplot.subplots(2, ROUNDS // 2, figsize=(7.2, 5.6))
    at, colours = places(), mpl.colormaps["Blues"]
    for t, (panel, row) in enumerate(zip(axes.flat, found[1:].tolist(), strict=True), 1):
        for a, b in BONDS.T.tolist():
            panel.plot(*zip(at[a], at[b], strict=True), color="0.6", linewidth=1, zorder=1)
        for u, (place, share) in enumerate(zip(at, row, strict=True)):
            reached = share > 0
            panel.scatter(
                *place,
                s=150,
                color=colours(0.12 + 0.88 * math.sqrt(share)) if reached else "white",
                edgecolors="C3" if u == NODE else "0.35" if reached else "0.75",
                linewidths=1.6 if u == NODE else 0.8,
                zorder=2,
            )
            dark = reached and share > 0.2
            colour = "white" if dark else "0.2" if reached else "0.7"
            panel.text(*place, ATOMS[u], color=colour, fontsize=8, ha="center", va="center_baseline", zorder=3)
        panel.set_title(
            f"{t} round{'' if t == 1 else 's'}: {sum(s > 0 for s in row)} of {len(ATOMS)} atoms", fontsize=9
        )
        panel.set_aspect("equal")
        panel.set_axis_off()
        panel.margins(0.12)
    figure.tight_layout(w_pad=0.5)
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def beside() -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    """By name, a training step of ours and of PyTorch Geometric's: the gradient of one and the same number by x."""
    torch.manual_seed(0)
    library = geometric().nn
    index = torch.cat([torch.cat([BONDS, BONDS.flip(0)], 1) + k * len(ATOMS) for k in range(MOLECULES)], 1)
    x = torch.randn(MOLECULES * len(ATOMS), UNITS, requires_grad=True)
    kept = torch.randn(len(x), UNITS)
    gated, their_gated = gated_graph_conv(UNITS, 4), library.GatedGraphConv(UNITS, 4)
    convolutions = GCN(UNITS, [UNITS] * 3)
    theirs = nn.ModuleList(library.GCNConv(UNITS, UNITS) for _ in range(3))
    with torch.no_grad():
        their_gated.weight.copy_(gated.message.get_parameter("weight").T.expand(4, UNITS, UNITS))
        for name, value in their_gated.rnn.named_parameters():
            value.copy_(gated.update.get_parameter(f"{name}_l0"))
        for one, W, b in zip(theirs, convolutions.weights, convolutions.biases, strict=True):
            one.load_state_dict({"lin.weight": W, "bias": b})

    def stacked(x: Tensor) -> Tensor:
        for number, one in enumerate(theirs):
            x = one(x.relu() if number else x, index)
        return x

    def step(run: Callable[[Tensor], Tensor], model: nn.Module) -> Callable[[], Tensor]:
        def once() -> Tensor:
            wanted = [x, *model.parameters()]
            return torch.autograd.grad((run(x) * kept).sum(), wanted)[0]

        return once

    return {
        "gated, 4 rounds": (
            step(lambda x: gated(x, index)[0], gated),
            step(lambda x: their_gated(x, index), their_gated),
        ),
        "convolutions, 3 layers": (step(lambda x: convolutions(x, index), convolutions), step(stacked, theirs)),
    }


def speed(turns: int) -> None:
    """Milliseconds of the processor's time a step, ours and theirs in turn."""
    for name, both in beside().items():
        ours, theirs = (run() for run in both)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
        taken: tuple[list[float], list[float]] = ([], [])
        for _ in range(turns):
            for run, times in zip(both, taken, strict=True):
                start = time.process_time()  # which counts no other program's
                run()
                times.append(1000 * (time.process_time() - start))
        own, other = (statistics.median(times) for times in taken)
        low, *_, high = statistics.quantiles(b / a for a, b in zip(*taken, strict=True))
        print(f"{name}: {own:.1f} ms, PyTorch Geometric {other:.1f} ms; ", end="")
        print(f"{other / own:.2f} times as fast (half of the turns {low:.2f} to {high:.2f})")


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=50)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--speed", type=int, metavar="TURNS", help="measure speed, and nothing else")
    given = parser.parse_args()
    if given.speed:
        speed(given.speed)
        return
    found = shares(given.draws)
    rows: list[dict[str, Any]] = []
    for t, row in enumerate(found.tolist()):
        reached = [u for u, share in enumerate(row) if share > 0]
        rows.append({"rounds": t, "atoms": len(reached), "own": row[NODE], "shares": row})
        print(
            f"{t} rounds: knows {len(reached):2} of {len(row)} atoms; of its state {row[NODE]:.2f} is its own, ", end=""
        )
        print(f"{min(row[u] for u in reached):.4f} that of the atom that counts least")
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), "utf-8")
    if given.plot:
        plot(found, given.plot)


if __name__ == "__main__":
    main()
