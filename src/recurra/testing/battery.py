"""The battery over one cell: as a pytest class to inherit, and as a function that tells in words."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch

from recurra.cells import Cell, find
from recurra.cells.check import FAULTS_OF_CODE
from recurra.errors import CellError, unknown
from recurra.testing.checks import CHECKS, Check
from recurra.testing.subject import FaultError, Inapplicable, Subject

SEED = 20


class ConformanceError(CellError):
    """A cell of which some check does not hold; the text tells which, where, and what to look for."""


@dataclass(frozen=True)
class Report:
    """What came of the checks of one cell.

    Attributes:
        cell: The cell, with its options.
        passed: The checks that hold.
        left_out: Those that do not concern it, or were left out, and why.
        faults: Those that do not hold, and what was found.
    """

    cell: str
    passed: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        verdict = (
            f"{len(self.faults)} of {len(CHECKS)} checks fail" if self.faults else f"{len(self.passed)} checks hold"
        )
        lines = [f"cell {self.cell}: {verdict}"]
        lines += [f"  {name} fails: {text}" for name, text in self.faults.items()]
        lines += [f"  {name} left out: {why}" for name, why in self.left_out.items()]
        return "\n".join(lines)


def check(
    cell: Cell | str,
    *,
    input_size: int = 3,
    hidden_size: int = 5,
    smooth: bool = True,
    state: tuple[str, ...] | None = None,
    parameters: Mapping[str, tuple[int, ...]] | None = None,
    reference: Callable[..., Any] | None = None,
    analytic: bool = True,
    leave_out: Mapping[str, str] | None = None,
) -> Report:
    """Run every check on a cell, without pytest.

    Args:
        cell: The cell, or its name (`recurra.cells.find`).
        input_size: Width I of an input.
        hidden_size: Width H of the state; a cell in heads needs a multiple of them.
        smooth: Whether its equations have derivatives wherever a state can be.
        state: The state fields that it should have.
        parameters: The names and shapes of parameters that it should have at these sizes, as `Cell.shapes` has them.
        reference: The cell once more in NumPy; see `CellTests`.
        analytic: Whether the reference takes complex numbers.
        leave_out: Checks to leave out, each with the reason.

    Returns:
        What held, and what was left out and why; `print` shows it.

    Raises:
        ConformanceError: Some check does not hold. The text tells of all of them.
        CellError: The cell's declaration and body disagree, or it does not exist.
    """
    subject = Subject(
        cell=_cell(cell),
        input_size=input_size,
        hidden_size=hidden_size,
        smooth=smooth,
        state=state,
        parameters=parameters,
        reference=reference,
        analytic=analytic,
    )
    reasons = _reasons(leave_out)
    subject.cell.use(hidden_size)  # what is wrong with the declaration or the sizes is told once
    subject.cell.shapes(input_size, hidden_size)
    report = Report(repr(subject.cell))
    for one in CHECKS.values():
        try:
            run(one, subject, reasons)
            report.passed.append(one.name)
        except Inapplicable as why:
            report.left_out[one.name] = str(why)
        except FaultError as found:
            report.faults[one.name] = str(found)
    if report.faults:
        raise ConformanceError(str(report))
    return report


def run(one: Check, subject: Subject, left_out: Mapping[str, str]) -> None:
    """Run one check from a random seed of its own, leaving the caller's random numbers alone.

    Raises:
        FaultError: It does not hold: what should, what was found, and what to look for.
        Inapplicable: It does not concern the cell, or is left out.
    """
    if one.name in left_out:
        raise Inapplicable(left_out[one.name])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            one.run(subject)
        except FaultError as found:
            raise FaultError(f"{_expected(one)}, but {found}. {one.advice}") from None
        except FAULTS_OF_CODE as error:
            first = str(error).strip().partition("\n")[0].rstrip(".")
            raise FaultError(f"{_expected(one)}, but {type(error).__name__}: {first}. {one.advice}") from error


def _expected(one: Check) -> str:
    return f"expected: {one.claim[:1].lower()}{one.claim[1:]}"


def _cell(cell: Any) -> Cell:
    found = find(cell) if isinstance(cell, str) else cell
    if not isinstance(found, Cell):
        raise CellError(f"cell: a cell made with recurra.cell is expected, not {found!r}")
    return found


def _reasons(leave_out: Any) -> Mapping[str, str]:
    """Which checks are left out, and why."""
    reasons = {} if leave_out is None else leave_out
    if not isinstance(reasons, Mapping) or not all(isinstance(why, str) and why for why in reasons.values()):
        raise CellError(f"leave_out: each check with the reason is expected, {{'formula': 'why'}}, not {leave_out!r}")
    for name in reasons:
        if name not in CHECKS:
            raise CellError("leave_out: " + unknown("check", str(name), CHECKS))
    return reasons


class CellTests:
    """The battery as a class for pytest: a cell's test is a class that inherits it and names the cell.

        class TestLeaky(recurra.testing.CellTests):
            cell = leaky

    Each check is a test of its own (`test_carried_state`, …; `recurra.testing.CHECKS` has them all). One that does not
    concern the cell is skipped, with the reason.

    Attributes:
        cell: The cell, or its name.
        input_size: Width I of an input.
        hidden_size: Width H; a cell in heads needs a multiple of them.
        smooth: False where the equations have a kink at which a state can stand, so that no differences can be taken.
        state: The state fields that saved states rely on.
        parameters: The names and shapes that saved models rely on, at these sizes: `{"weight_ih": (5, 3), …}`.
        reference: The cell once more, written independently in NumPy: `(weights, x, *state) -> (outputs, final)` with
            weights by symbol ("W_g" (H, I), "U_g" (H, K), "b_g" (H,), vectors and matrices by name), x (T, B, I),
            each state field (B, width), outputs (T, B, width) and the final state as a tuple. Given complex numbers it
            also tells the derivative.
        analytic: False where the reference takes real numbers only.
        leave_out: Checks to leave out, each with the reason.
    """

    cell: ClassVar[Cell | str]
    input_size: ClassVar[int] = 3
    hidden_size: ClassVar[int] = 5
    smooth: ClassVar[bool] = True
    state: ClassVar[tuple[str, ...] | None] = None
    parameters: ClassVar[Mapping[str, tuple[int, ...]] | None] = None
    reference: ClassVar[Callable[..., Any] | None] = None
    analytic: ClassVar[bool] = True
    leave_out: ClassVar[Mapping[str, str]] = {}

    @classmethod
    def subject(cls) -> Subject:
        """What the checks work on.

        Raises:
            CellError: The class names no cell.
        """
        if not hasattr(cls, "cell"):
            raise CellError(f"{cls.__name__}: no cell is named; `cell = my_cell` is expected in the class")
        reference = inspect.getattr_static(cls, "reference")  # as it stands, a function of a class is no method
        return Subject(
            cell=_cell(cls.cell),
            input_size=cls.input_size,
            hidden_size=cls.hidden_size,
            smooth=cls.smooth,
            state=cls.state,
            parameters=cls.parameters,
            reference=reference.__func__ if isinstance(reference, staticmethod) else reference,
            analytic=cls.analytic,
        )


def _test(one: Check) -> Callable[[CellTests], None]:
    def test(self: CellTests) -> None:
        import pytest

        subject = self.subject()
        try:
            run(one, subject, _reasons(self.leave_out))
        except Inapplicable as why:
            pytest.skip(str(why))
        except FaultError as found:
            pytest.fail(f"cell {subject.cell!r}: {found}", pytrace=False)

    test.__doc__ = one.claim
    return test


for _check in CHECKS.values():
    setattr(CellTests, f"test_{_check.name}", _test(_check))
