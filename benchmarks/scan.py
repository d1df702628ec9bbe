"""A cell that is affine in its state, three ways: as a scan, step by step in tensor code, and in the compiled core.

    python benchmarks/scan.py [--threads 1] [--repeats 15]

Forward and backward of one layer, all ways in turn in one process: medians, the quartiles of the ratios, and a check
that all give the same.
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
    ways = [recurra.Recurrent(name, units, units, backend=backend) for backend in ("scan", "eager", "native")]
    x = torch.randn(steps, rows, units)
    for layer in ways[1:]:
        layer.load_state_dict(ways[0].state_dict())
        torch.testing.assert_close(layer(x)[0], ways[0](x)[0], atol=1e-5, rtol=1e-4)
    times = [[seconds(layer, x) for layer in ways] for _ in range(repeats + 1)][1:]
    scan, loop, core = (f"{1e3 * statistics.median(each):.1f} ms" for each in zip(*times, strict=True))
    over = (times_over([loop / scan for scan, loop, _ in times]), times_over([scan / core for scan, _, core in times]))
    return f"| `{name}` | T {steps}, B {rows}, H {units} | {scan} | {loop} | {core} | {over[0]} | {over[1]} |"


def times_over(ratios: list[float]) -> str:
    """A ratio with its quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    print(f"recurra {recurra.__version__}, torch {torch.__version__}, {platform.machine()}, threads {given.threads}\n")
    print("| cell | sizes | scan | steps | core | steps / scan, median (quartiles) | scan / core |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in CELLS:
        for steps, rows, units in SIZES:
            print(compare(name, steps, rows, units, given.repeats), flush=True)


if __name__ == "__main__":
    main()
