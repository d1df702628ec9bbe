"""`memory="recompute"`: the same numbers, less kept."""

import gc
from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.cells import CATALOGUE
from recurra.nn import Recurrent

T, B, INPUT, H = 17, 3, 4, 6


def both(cell: Any, **options: Any) -> tuple[Recurrent, Recurrent]:
    torch.manual_seed(1)
    stored = Recurrent(cell, INPUT, H, dtype=torch.float64, **options)
    again = Recurrent(cell, INPUT, H, dtype=torch.float64, memory="recompute", **options)
    again.load_state_dict(stored.state_dict())
    return stored, again


def results(layer: Recurrent, x: Tensor, **flags: Any) -> list[Tensor]:
    torch.manual_seed(2)
    x = x.clone().requires_grad_()
    output, final, states = layer(x, return_states=True, **flags)
    every = [output, *final, *states]
    total = torch.stack([(v * torch.randn_like(v)).nan_to_num(0, 0, 0).sum() for v in every]).sum()
    gradients = torch.autograd.grad(total, [x, *layer.parameters()], materialize_grads=True)
    return [*every, *gradients]


@pytest.mark.parametrize("name", CATALOGUE)
@pytest.mark.parametrize("backend", ["eager", "auto"])
def test_the_same_numbers(name: str, backend: str) -> None:
    stored, again = both(name, backend=backend, num_layers=2, bidirectional=True)
    assert again.choice.backend != "scan"
    torch.manual_seed(3)
    x, mask, reset = torch.randn(T, B, INPUT, dtype=torch.float64), torch.rand(T, B) < 0.8, torch.rand(T, B) < 0.2
    for flags in ({}, {"mask": mask, "reset": reset}):
        expected, found = results(stored, x, **flags), results(again, x, **flags)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("options", [{"recurrent_dropout": 0.4}, {"zoneout": 0.3}, {"weight_drop": 0.3}])
def test_what_is_drawn_is_drawn_once(options: dict[str, Any]) -> None:
    stored, again = both("lstm", backend="eager", **options)
    x = torch.randn(T, B, INPUT, dtype=torch.float64)
    for layer in (stored, again):
        layer.train()
    torch.manual_seed(5)
    expected = results(stored, x)
    torch.manual_seed(5)
    found = results(again, x)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["eager", "native"])
def test_less_is_kept(backend: Any) -> None:
    """Numbers that a graph holds, by what PyTorch saves for the derivative."""

    def kept(layer: Recurrent, steps: int) -> int:
        sizes: dict[int, int] = {}

        def pack(v: Tensor) -> Tensor:
            sizes[v.untyped_storage().data_ptr()] = v.nbytes  # memory that is used again may be a little larger
            return v

        gc.collect()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda v: v):
            layer(torch.randn(steps, 2, INPUT, dtype=torch.float64))
        return sum(sizes.values())

    stored, again = both("lstm", backend=backend)
    lengths = (64, 1024)
    of_stored, of_again = ([kept(layer, n) for n in lengths] for layer in (stored, again))
    assert of_stored[1] > 12 * of_stored[0]  # all steps
    beside = [n * 2 * (H + INPUT) * 8 for n in lengths]  # x and the output, which are there anyway
    grown = (of_again[1] - beside[1]) / max(of_again[0] - beside[0], 1)
    assert grown < 8  # √16 and the parameters
