"""What stands in memory that is not yet written to never shows: here all new tensors are full of NaN."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from comparing import VARIANTS, case, check, drawn_for, flat, pair
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import cells
from torch import Tensor

from recurra.cells import Cell
from recurra.engine.memory import SMALL, Blocks
from recurra.nn import Recurrent


@pytest.fixture(autouse=True, scope="module")
def new_memory_is_nan() -> Iterator[None]:
    settings: Any = torch.utils.deterministic
    before = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = True
    assert torch.zeros(1).new_empty(3, 5).isnan().all()
    yield
    torch.use_deterministic_algorithms(before[0])
    settings.fill_uninitialized_memory = before[1]


CASES = [
    case(T=4, B=3, H=6),
    case("mask reset lengths", T=6, B=30, I=17, H=7, reverse=True),
    case("mask reset lengths", "final", T=6, B=5, I=17, H=65, memory="recompute"),
    case("lengths reset", "output", T=7, B=13, memory="recompute", num_layers=2, bidirectional=True, batch_first=True),
    case("lengths", "last field", T=3, B=1, I=1, H=1),
    case("lengths", "one step", T=5, B=2, I=20, H=6, frozen="weight", reverse=True),
    case("lengths mask", "sum", T=5, B=14, I=18, H=6, dtype=torch.float32),
]


@pytest.mark.parametrize("at", CASES, ids=str)
@pytest.mark.parametrize("name", VARIANTS)
def test_a_cell_of_the_catalogue(name, at) -> None:
    for seed in range(2):
        check(VARIANTS[name], at, seed)


@settings(max_examples=30)
@given(one=cells(), memory=st.sampled_from(["store", "recompute"]), seed=st.integers(0, 99))
def test_cells_that_are_made_up(one: Cell, memory: str, seed: int) -> None:
    """With few rows, so that there are steps which no row takes."""
    check(one, case("lengths mask reset", T=5, B=2, H=3, memory=memory), seed)


@pytest.mark.parametrize("name", VARIANTS)
def test_without_a_gradient(name: str) -> None:
    at = case("lengths mask reset", T=7, B=2, I=17, H=6)
    ours, eager = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    with torch.no_grad():
        found, expected = (flat(layer(on.x, on.state, **on.flags)) for layer in (ours, eager))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", VARIANTS)
def test_steps_that_nobody_takes(name: str) -> None:
    for memory in ("store", "recompute"):
        ours, eager = pair(VARIANTS[name], case(T=5, B=3, memory=memory))
        on = drawn_for(ours, case(T=5, B=3))
        found = []
        for layer in (ours, eager):
            x = on.x.clone().requires_grad_()
            assert on.state is not None
            state = [v.clone().requires_grad_() for v in on.state]
            output, final = layer(x, state, lengths=[0, 0, 0])
            sources = [x, *state, *layer.parameters()]
            total = torch.stack([v.nan_to_num().square().sum() for v in (output, *final)]).sum()
            found.append([output, *final, *torch.autograd.grad(total, sources, materialize_grads=True)])
        for a, b in zip(*found, strict=True):
            assert torch.equal(a, b)


# --- memory that is used again ---------------------------------------------------------------------------------------

LARGE = (1 << 10, 1 << 8)


@pytest.fixture
def as_usual(new_memory_is_nan: None) -> Iterator[None]:
    """Large arrays are used again, which they are not where new ones are to be full of NaN."""
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(True)


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "a view": lambda v: v[3:, ::2].t(),
    "an array of NumPy": lambda v: v.numpy(),
    "a view of bytes": lambda v: v.numpy().data,
    "a graph": lambda v: (v * torch.ones((), requires_grad=True)).grad_fn,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_a_large_array_is_used_again_when_nobody_holds_it(holder: str, as_usual: None) -> None:
    blocks, like = Blocks(), torch.zeros(1)
    first = blocks.empty(LARGE, like)
    place, held = first.data_ptr(), HOLDERS[holder](first)
    del first
    assert blocks.empty(LARGE, like).data_ptr() != place
    del held
    second = blocks.empty(LARGE, like)
    third = blocks.empty(LARGE, like)
    assert place in (second.data_ptr(), third.data_ptr())
    assert second.data_ptr() != third.data_ptr()


def test_what_another_process_may_read_is_not_used_again(as_usual: None) -> None:
    """As what a worker puts into a queue: it lies in shared memory, and whoever took it out holds nothing here."""
    blocks, like = Blocks(), torch.zeros(1)
    first = blocks.empty(LARGE, like).share_memory_()
    del first
    second = blocks.empty(LARGE, like)
    assert not second.is_shared()


def test_results_stay_what_they_are_while_layers_run_on(as_usual: None) -> None:
    layer = Recurrent("lstm", 8, 128, backend="native")
    kept, copies = [], []
    for _ in range(6):
        x = torch.randn(16, 32, 8, requires_grad=True)
        output, final = layer(x)
        assert output.untyped_storage().nbytes() >= SMALL
        output.square().sum().backward()
        assert x.grad is not None
        kept += [output.detach(), final.c.detach(), x.grad]
        copies += [v.detach().clone() for v in kept[-3:]]
        del output, final
    for v, copy in zip(kept, copies, strict=True):
        assert torch.equal(v, copy)
