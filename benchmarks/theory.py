"""How near a two-layer net comes to a system of physics, by its hidden units, and what becomes of it as one network.

    OMP_NUM_THREADS=1 python benchmarks/theory.py --json theory.json --plot approximation.svg

The nets of theorem 6.1 (`recurra.theory.fit`) for a damped, pushed pendulum and for Lorenz's equations: the error after
one step on states that were not fitted to, over the deviation of states. Then the recurrent network that is made of
both nets (`recurra.theory.approximate`) beside them: the largest difference of any state or output at any of 1,000
steps, begun anew from the nets' state at each step, and unbroken. And the largest difference from the system itself
along 1,000 steps unbroken.
"""

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recurra.theory import Fit, Lorenz, Pendulum, approximate, fit

SYSTEMS = {"pendulum": Pendulum(), "Lorenz": Lorenz()}
UNITS = (2, 4, 8, 16, 32, 64)
STEPS, ROWS = 1000, 4


def measured(name: str, seeds: int, units: tuple[int, ...] = UNITS, updates: int = 100) -> dict[str, Any]:
    """The errors of a system's nets by hidden units (median, least and largest over seeds), and the last one's runs."""
    system, rows = SYSTEMS[name], []
    nets = None
    for hidden_size in units:
        fits = [fit(system, hidden_size, updates=updates, seed=seed) for seed in range(seeds)]
        nets = fits[0]
        states, outputs = [f.state_error for f in fits], [f.output_error for f in fits]
        rows.append(
            {
                "hidden_size": hidden_size,
                "state_error": statistics.median(states),
                "state_range": [min(states), max(states)],
                "output_error": statistics.median(outputs),
            }
        )
    assert nets is not None
    return {"system": name, "errors": rows, **compared(system, nets)}


@torch.no_grad()
def compared(system: Pendulum | Lorenz, nets: Fit, steps: int = STEPS) -> dict[str, float]:
    """The network made of two nets beside the nets themselves, and these beside the system."""
    network, generator = approximate(nets.g, nets.og), torch.Generator().manual_seed(1)
    s, _ = system.draw(ROWS, generator)
    x = system.draw(steps * ROWS, generator)[1].view(steps, ROWS, system.input_size)
    y, along = network.run(s, x)
    anew = unbroken = off = 0.0
    true, own = s, s
    for t in range(steps):
        once_y, once_s = network.run(own, x[t : t + 1])
        said, own = nets.og(own, x[t]), nets.g(own, x[t])
        true = system.advance(true, x[t])
        anew = max(anew, _largest(once_y[0] - said), _largest(once_s[0] - own))
        unbroken = max(unbroken, _largest(y[t] - said), _largest(along[t] - own))
        off = max(off, _largest(own - true))
    return {"anew": anew, "unbroken": unbroken, "from_the_system": off}


def _largest(values: Tensor) -> float:
    return float(values.abs().max())


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """The errors against the hidden units."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "recurra", "font.size": 10})
    figure, axes = pyplot.subplots(figsize=(6.4, 3.4))
    units: list[int] = []
    for colour, found in enumerate(results):
        units = [row["hidden_size"] for row in found["errors"]]
        low, high = zip(*(row["state_range"] for row in found["errors"]), strict=True)
        axes.fill_between(units, low, high, color=f"C{colour}", alpha=0.18, linewidth=0)
        median = [row["state_error"] for row in found["errors"]]
        axes.plot(units, median, color=f"C{colour}", marker="o", markersize=4, label=found["system"])
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(units, [str(n) for n in units])
    axes.set_xlabel("hidden units of the net")
    axes.set_ylabel("error of a step, over the states' deviation")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    given = parser.parse_args()
    results = []
    for name in SYSTEMS:
        found = measured(name, given.seeds)
        results.append(found)
        print(name)
        for row in found["errors"]:
            low, high = row["state_range"]
            print(
                f"  {row['hidden_size']:3} hidden units: state {row['state_error']:.2e} ({low:.1e} to {high:.1e}), "
                f"output {row['output_error']:.2e}"
            )
        print(
            f"  one network beside the two nets, {STEPS:,} steps: begun anew at each {found['anew']:.1e}, unbroken "
            f"{found['unbroken']:.1e}; the nets beside the system {found['from_the_system']:.1e}"
        )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1), "utf-8")
    if given.plot:
        plot(results, given.plot)


if __name__ == "__main__":
    main()
