"""How much quicker a cell that is linear in its state runs as a scan than step by step.

    python benchmarks/scan.py [--threads 1] [--repeats 15]

Forward and backward of one layer, both ways in turn in one process: medians, the quartiles of the ratio, and a check
that both give the same.
"""

import argparse
import platform
import statistics
import time

import torch

import recurra

CELLS = ("min_gru", "linear_recurrence")
SIZES = ((8, 32, 128), (28, 128, 128), (100, 32, 128), (1000, 1, 64), (1000, 32, 128), (4000, 8, 64))
"""Steps, rows, units."""


def seconds(layer: recurra.Recurrent, x: torch.Tensor) -> float:
    """The time of one forward and backward run."""
    layer.zero_grad()
    begun = time.perf_counter()
    layer(x)[0].sum().backward()
    return time.perf_counter() - begun


def compare(name: str, steps: int, rows: int, units: int, repeats: int) -> str:
    """One line of the table."""
    scan, loop = (recurra.Recurrent(name, units, units, backend=backend) for backend in ("auto", "eager"))
    loop.load_state_dict(scan.state_dict())
    assert (scan.choice.backend, loop.choice.backend) == ("scan", "eager")
    x = torch.randn(steps, rows, units)
    torch.testing.assert_close(scan(x)[0], loop(x)[0], atol=1e-5, rtol=1e-4)
    times = [(seconds(scan, x), seconds(loop, x)) for _ in range(repeats + 1)][1:]
    ratios = [slow / fast for fast, slow in times]
    low, middle, high = statistics.quantiles(ratios, n=4)
    fast, slow = (1e3 * statistics.median(each) for each in zip(*times, strict=True))
    sizes = f"T {steps}, B {rows}, H {units}"
    return f"| `{name}` | {sizes} | {fast:.1f} ms | {slow:.1f} ms | {middle:.1f} ({low:.1f} to {high:.1f}) |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"recurra {recurra.__version__}, torch {torch.__version__}, {platform.machine()}, threads {given.threads}\n")
    print("| cell | sizes | scan | steps | steps / scan, median (quartiles) |\n| --- | --- | --- | --- | --- |")
    for name in CELLS:
        for steps, rows, units in SIZES:
            print(compare(name, steps, rows, units, given.repeats), flush=True)


if __name__ == "__main__":
    main()
