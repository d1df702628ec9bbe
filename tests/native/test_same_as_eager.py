"""The compiled core gives what eager gives: every cell of the catalogue, and cells that a test makes up."""

import pytest
import torch
from comparing import VARIANTS, Case, case, check
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cells

from recurra.cells import Cell

SINGLE = torch.float32

CASES = [
    case(T=1, B=1, I=1, H=1),
    case("mask", T=5, B=3, I=1, H=7),
    case("lengths", T=4, B=13, I=17, H=63, reverse=True),
    case("reset", T=3, B=30, I=3, H=65),
    case("mask reset", "strided", T=6, B=30, I=17, H=16, reverse=True),
    case("mask", "sum", T=2, B=3, I=20, H=500),
    case("mask reset", T=7, B=3, I=3, H=7, reverse=True, memory="recompute"),
    case("lengths", T=10, B=13, I=17, H=16, memory="recompute"),
    case("reset", T=11, B=13, I=2, H=5, memory="recompute"),
    case("", "sum", T=1, B=30, I=17, H=7, memory="recompute"),
    case(
        "lengths reset", T=6, B=5, I=3, H=7, num_layers=2, bidirectional=True, learn_initial_state=True, has_state=False
    ),
    case("lengths mask", T=5, B=3, I=17, H=6, num_layers=2, bidirectional=True, memory="recompute", batch_first=True),
    case("reset", "final", T=5, B=3, I=3, H=6, learn_initial_state=True, has_state=False),
    case("lengths", "output", T=6, B=13, I=3, H=6, batch_first=True),
    case("mask", "last field", T=6, B=3, I=3, H=6, reverse=True),
    case("", "one step", T=6, B=3, I=3, H=6, has_state=False),
    case("", "final", T=9, B=3, I=3, H=6, frozen="weight_hh", of_x=False, memory="recompute"),
    case("reset", "output", T=4, B=3, I=3, H=6, frozen="weight_ih"),
    case("mask reset", T=5, B=13, I=17, H=63, dtype=SINGLE),
    case("lengths", "strided", T=7, B=30, I=1, H=7, dtype=SINGLE, memory="recompute", reverse=True),
    case("reset", "sum", T=2, B=3, I=20, H=500, dtype=SINGLE),
    case("", T=1, B=1, I=1, H=1, dtype=SINGLE),
]


@pytest.mark.parametrize("at", CASES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_cell_of_the_catalogue(name, at) -> None:
    check(VARIANTS[name], at)


@st.composite
def made_up_cases(draw: st.DrawFn) -> Case:
    """Sizes and options; small ones, since what is to be found is in the equations."""
    flags = draw(st.lists(st.sampled_from(["lengths", "mask", "reset"]), unique=True))
    kind = draw(st.sampled_from(["all", "output", "final", "last field", "sum", "one step", "strided"]))
    options = {"reverse": draw(st.booleans()), "memory": draw(st.sampled_from(["store", "recompute"]))}
    sizes = {key: draw(st.sampled_from(of)) for key, of in {"T": (1, 2, 5), "B": (1, 3, 14, 30), "I": (1, 3, 18)}.items()}
    return case(" ".join(flags), kind, H=draw(st.sampled_from([2, 3, 6, 7, 17, 1])), **sizes, **options)


@settings(max_examples=50)
@given(one=cells(), at=made_up_cases())
def test_cells_that_are_made_up(one: Cell, at: Case) -> None:
    check(one, at)
