"""The conformance battery: what must hold of every cell, for the catalogue's and for your own.

    class TestLeaky(recurra.testing.CellTests):
        cell = leaky

is a test of pytest's; `recurra.testing.check(leaky)` is the same without it. `docs/testing.md` tells more.
"""

from recurra.testing.battery import CellTests, ConformanceError, Report, check
from recurra.testing.checks import CHECKS, Check
from recurra.testing.formula import formula_faults, section
from recurra.testing.subject import TOLERANCES

__all__ = [
    "CHECKS",
    "TOLERANCES",
    "CellTests",
    "Check",
    "ConformanceError",
    "Report",
    "check",
    "formula_faults",
    "section",
]
