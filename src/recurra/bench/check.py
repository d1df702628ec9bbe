"""What is checked before anything is timed: that everybody computes the same."""

import math
from dataclasses import dataclass

from recurra.bench.problem import Contestant, Results
from recurra.bench.shapes import Shape

TOLERANCE = 1e-3
"""How far two runs in float32 may lie apart, of the largest entry of the result that they differ in. Sums over T x B
products in another order, back through hundreds of steps, come to 1e-5 to 2e-4; a wrong gate, a lost bias or a state
that is not carried on, to 1e-2 and more."""


@dataclass(frozen=True)
class Fault:
    """Two runs that differ, or one that failed.

    Attributes:
        suite: Where it was found.
        cell: The cell's name.
        shape: The sizes.
        who: Who differs from ours, or ours where it differs from its own equations.
        text: In what, and by how much.
    """

    suite: str
    cell: str
    shape: Shape
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.suite}, {self.cell}, {self.shape}: {self.who}: {self.text}"


def difference(found: Results, expected: Results) -> str | None:
    """The result that differs most, and by how much, in words; None where all agree.

    A result is NaN, missing or of another shape: that is a difference.
    """
    if missing := sorted(found.keys() ^ expected.keys()):
        return f"only one of the two gives {', '.join(missing)}"
    worst, where = 0.0, ""
    for name, right in expected.items():
        if found[name].shape != right.shape:
            return f"{name}: {tuple(right.shape)} is expected, not {tuple(found[name].shape)}"
        off = float((found[name] - right).abs().max() / right.abs().max().clamp_min(1e-30))
        if math.isnan(off):
            return f"{name} is not a number in one of the two"
        if off > worst:
            worst, where = off, name
    if worst <= TOLERANCE:
        return None
    return f"{where} is off by {worst:.2g} of its largest entry ({TOLERANCE:g} may be rounding)"


def against(contestant: Contestant, expected: Results) -> str | None:
    """Run a contestant once, which warms it up too, and compare."""
    return difference(contestant.results(contestant.run()), expected)
