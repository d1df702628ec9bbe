"""A layer of PyTorch's beside its twin, and their results side by side."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

import recurra

LAYERS = ("RNN", "LSTM", "GRU")
CELLS = ("RNNCell", "LSTMCell", "GRUCell")
THEIRS = {name: getattr(nn, name) for name in (*LAYERS, *CELLS)}
OURS = {name: getattr(recurra, name) for name in (*LAYERS, *CELLS)}
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


def pair(name: str, *args: Any, seed: int = 0, **options: Any) -> tuple[nn.Module, nn.Module]:
    """PyTorch's module and ours, each made with the same seed."""
    torch.manual_seed(seed)
    theirs = THEIRS[name](*args, **options)
    torch.manual_seed(seed)
    return theirs, OURS[name](*args, **options)


def tensors(result: Any) -> list[Tensor]:
    """Every tensor of what a layer or cell returns, or is given: output first, then the state's fields."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, PackedSequence):
        return [result.data]
    return [] if result is None else [tensor for part in result for tensor in tensors(part)]


def assert_close(found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    """Equal within a share of the largest entry; shapes, types and strides of the same order too."""
    assert len(found) == len(expected)
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), f"tensor {i}"
        if b.numel():
            off = ((a - b).abs().max() / b.abs().max().clamp_min(1e-30)).item()
            assert off <= tolerance, f"tensor {i} is {off:.1e} off"


def results_and_gradients(
    module: nn.Module, x: Any, hx: Any = None, seed: int = 5
) -> tuple[list[Tensor], list[Tensor]]:
    """What a module returns, and the gradients of x, hx and all parameters for random cotangents."""
    leaves = [v.detach().clone().requires_grad_() for v in tensors(x)]
    given = leaves[0] if isinstance(x, Tensor) else PackedSequence(leaves[0], *x[1:])
    state = [v.detach().clone().requires_grad_() for v in tensors(hx)]
    torch.manual_seed(seed)  # for dropout
    result = module(given, *([] if hx is None else [state[0] if isinstance(hx, Tensor) else tuple(state)]))
    found = tensors(result)
    generator = torch.Generator().manual_seed(seed)
    cotangents = [torch.randn(v.shape, generator=generator, dtype=torch.float64).to(v.dtype) for v in found]
    sources = [*leaves, *state, *module.parameters()]
    return [v.detach() for v in found], list(torch.autograd.grad(found, sources, cotangents))


def assert_same(theirs: nn.Module, ours: nn.Module, x: Any, hx: Any = None) -> None:
    """Outputs, states and gradients of both agree."""
    tolerance = TOLERANCE[tensors(x)[0].dtype]
    for found, expected in zip(results_and_gradients(ours, x, hx), results_and_gradients(theirs, x, hx), strict=True):
        assert_close(found, expected, tolerance)


def state_of(layer: Any, batch: int | None, dtype: torch.dtype) -> Any:
    """A random state for a layer (or None for one sequence's)."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    rows = () if batch is None else (batch,)
    h = torch.randn(count, *rows, layer.proj_size or layer.hidden_size, dtype=dtype)
    if layer.mode != "LSTM":
        return h
    return h, torch.randn(count, *rows, layer.hidden_size, dtype=dtype)
