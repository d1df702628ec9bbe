"""Every cell of the catalogue passes every check of the battery."""

import pytest

from recurra.cells import CATALOGUE, Cell
from recurra.testing import CHECKS, check
from recurra.testing.battery import run
from recurra.testing.subject import Subject

OPTIONS: dict[str, tuple[str, dict]] = {
    "elman, relu": ("elman", {"activation": "relu"}),
    "jordan, 2 outputs": ("jordan", {"output_size": 2}),
    "lstm_projected, to 2": ("lstm_projected", {"proj_size": 2}),
    "slstm, 2 heads": ("slstm", {"heads": 2}),
    "slstm, 3 heads": ("slstm", {"heads": 3}),
    "clockwork, 1 2 3": ("clockwork", {"periods": (1, 2, 3)}),
}
CASES: dict[str, Cell] = {**CATALOGUE, **{name: CATALOGUE[cell](**given) for name, (cell, given) in OPTIONS.items()}}
NEEDLESS = ("reference",)
"""Checks left to tests of their own: every cell's reference is in tests/reference."""


def size(cell: Cell) -> int:
    """Odd; for a cell in heads a multiple of them."""
    return 6 if "heads" in cell.options else 5


PAIRS = [
    (name, check_name)
    for name, cell in CASES.items()
    for check_name in CHECKS
    if check_name not in NEEDLESS and (check_name != "backends" or not cell.gates)  # with a U it runs step by step
]


@pytest.mark.parametrize(("name", "check_name"), PAIRS)
def test_conforms(name: str, check_name: str) -> None:
    """A check that finds itself inapplicable is an error here."""
    run(CHECKS[check_name], Subject(cell=CASES[name], hidden_size=size(CASES[name])), {})


def test_no_cell_is_left_out() -> None:
    assert {CASES[name].name for name, _ in PAIRS} == set(CATALOGUE)
    assert {check_name for _, check_name in PAIRS} == {*CHECKS} - {*NEEDLESS}


@pytest.mark.exhaustive
@pytest.mark.parametrize(("input_size", "hidden_size"), [(1, 6), (4, 12), (7, 18)])
@pytest.mark.parametrize("name", CASES)
def test_conforms_at_other_sizes(name: str, input_size: int, hidden_size: int) -> None:
    report = check(CASES[name], input_size=input_size, hidden_size=hidden_size)
    assert set(report.left_out) <= {"backends", *NEEDLESS}


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", [name for name in CATALOGUE if "layer_norm" not in name])
def test_conforms_with_one_unit(name: str) -> None:
    """But layer normalisation, which makes 0 of one value, whatever it is."""
    assert not check(name, hidden_size=1).faults
