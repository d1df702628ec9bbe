"""Recurra, run as it chooses by itself."""

from typing import Any

import torch
from torch import Tensor, nn

import recurra.nn
from recurra.bench.problem import Contestant, Problem, of_module
from recurra.errors import RecipeError
from recurra.nn import Recurrent, Stream, explain
from recurra.nn.weights import to_torch


def make(problem: Problem) -> Contestant:
    """Training: `Recurrent`. Inference: the drop-in, where there is one. One step at a time: `Stream`."""
    if problem.kind == "stream":
        return _stepwise(problem)
    if problem.kind == "infer" and problem.lengths is None:
        module = drop_in(problem)
        told = explain(module)
        return of_module(problem, module, lambda x: module(x)[0], backend=told.backend, reason=told.reason)
    module = layer(problem)
    told = explain(module)
    return of_module(
        problem,
        module,
        lambda x: module(x, lengths=problem.lengths)[0],
        backend=told.backend,
        reason=told.reason,
    )


def layer(problem: Problem, **options: Any) -> Recurrent:
    """The problem's layer, run as it chooses; further arguments of `Recurrent` as `options`."""
    shape = problem.shape
    made = Recurrent(problem.cell, shape.I, shape.H, shape.layers, **options)
    made.load_state_dict(problem.layer.state_dict())
    return made


def drop_in(problem: Problem) -> nn.Module:
    """The class that stands in place of PyTorch's, or `Recurrent` where there is none."""
    try:
        twin = to_torch(problem.layer)
    except RecipeError:
        return layer(problem)
    options = {"nonlinearity": twin.nonlinearity} if isinstance(twin, nn.RNN) else {}
    kind = getattr(recurra.nn, type(twin).__name__)
    made = kind(twin.input_size, twin.hidden_size, twin.num_layers, **options)
    made.load_state_dict(twin.state_dict())
    return made


def _stepwise(problem: Problem) -> Contestant:
    """One call a step, in a stream that keeps the state."""
    stream, steps = Stream(layer(problem), problem.shape.B), problem.x.unbind(0)

    def run() -> list[Tensor]:
        stream.reset()
        return [stream.step(x_t) for x_t in steps]

    return Contestant(run, lambda outputs: {"output": torch.stack(outputs)}, stream.backend, stream.reason)
