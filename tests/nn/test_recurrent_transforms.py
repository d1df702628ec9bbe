"""Transforms of the eager run: vmap, per-sample gradients, ensembles, forward mode, double backward."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import functional_call, stack_module_state, vmap

from recurra.cells import CATALOGUE
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 4, 3, 2, 3
CELLS = sorted(CATALOGUE)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(6)


def make(name: str, **options: Any) -> Recurrent:
    layer = Recurrent(name, INPUT, HIDDEN, 2, bidirectional=True, dtype=torch.float64, **options)
    for p in layer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return layer


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def loss(layer: Recurrent, parameters: dict[str, Tensor], x: Tensor, length: Any = None) -> Tensor:
    output, final = functional_call(layer, parameters, (x,), {"lengths": length})
    return output.square().sum() + sum(field.sum() for field in final)


@pytest.mark.parametrize("name", CELLS)
def test_vmap_over_inputs_lengths_and_flags(name: str) -> None:
    layer = make(name)
    x, lengths, reset = random(ROWS, STEPS, INPUT), torch.tensor([4, 0, 2]), torch.rand(ROWS, STEPS) < 0.4

    def one(x: Tensor, length: Tensor, reset: Tensor) -> tuple[Tensor, ...]:
        output, final = layer(x, lengths=length.reshape(1), reset=reset)
        return output, *final

    found = vmap(one)(x, lengths, reset)
    for b in range(ROWS):
        expected = one(x[b], lengths[b], reset[b])
        torch.testing.assert_close(tuple(field[b] for field in found), expected)


@pytest.mark.parametrize("name", CELLS)
def test_an_ensemble(name: str) -> None:
    layers = [make(name) for _ in range(3)]
    x = random(STEPS, ROWS, INPUT)
    parameters, buffers = stack_module_state(layers)  # type: ignore[arg-type]
    base = copy.deepcopy(layers[0]).to("meta")
    found = vmap(lambda p, b: functional_call(base, (p, b), (x,))[0])(parameters, buffers)
    for one, layer in zip(found, layers, strict=True):
        torch.testing.assert_close(one, layer(x)[0])


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")  # PyTorch's compiler has its own
@pytest.mark.parametrize("name", CELLS)
def test_one_compiled_or_exported_graph(name: str) -> None:
    """For the numbers of steps that it is made with; masks and resets may have any values."""
    torch.compiler.reset()  # each cell is compiled anew, and only so many versions of one function are allowed
    layer = make(name)
    x = random(STEPS, ROWS, INPUT)
    compiled = torch.compile(layer, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x)[0], layer(x)[0])
    for lengths in ([4, 0, 2], [1, 3, 4]):
        steps, reset = torch.tensor(lengths), torch.rand(STEPS, ROWS) < 0.4
        found = compiled(x, lengths=steps, reset=reset)[0]
        torch.testing.assert_close(found, layer(x, lengths=steps, reset=reset)[0])
    exported = torch.export.export(layer, (x,)).module()
    torch.testing.assert_close(exported(2 * x)[0], layer(2 * x)[0])
