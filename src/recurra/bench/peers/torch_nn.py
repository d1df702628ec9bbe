"""PyTorch's own layers, packed where lengths differ; its cells where one step at a time is taken."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from recurra.bench.problem import Contestant, NotHere, Problem, of_module
from recurra.errors import RecipeError
from recurra.nn.weights import to_torch


def make(problem: Problem) -> Contestant:
    """The twin of the cell, with its weights; `NotHere` where PyTorch has none."""
    try:
        twin = to_torch(problem.layer)
    except RecipeError as error:
        raise NotHere(str(error)) from error
    if problem.kind == "stream":
        return _stepwise(problem, twin)
    forward = (lambda x: twin(x)[0]) if problem.lengths is None else partial(_packed, twin, problem.lengths)
    return of_module(problem, twin, forward, partial(_named, problem.weights))


def _packed(twin: nn.Module, lengths: Tensor, x: Tensor) -> Tensor:
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    return pad_packed_sequence(twin(packed)[0], total_length=len(x))[0]


def _named(weights: dict[str, Tensor], name: str) -> str | None:
    """PyTorch has two biases everywhere; where the cell has one, the gradient by either is that by their sum."""
    if name in weights:
        return name
    return name.replace("bias_ih", "bias") if name.startswith("bias_ih") else None


def _stepwise(problem: Problem, twin: nn.RNNBase) -> Contestant:
    """One call of the cell a step, the state carried from each to the next."""
    if twin.num_layers > 1:
        raise NotHere("a cell of torch.nn is one layer")
    options = {"nonlinearity": twin.nonlinearity} if isinstance(twin, nn.RNN) else {}
    cell = getattr(nn, f"{type(twin).__name__}Cell")(twin.input_size, twin.hidden_size, **options)
    cell.load_state_dict({name.removesuffix("_l0"): v for name, v in twin.state_dict().items()})
    steps = problem.x.unbind(0)

    @torch.no_grad()
    def run() -> list[Tensor]:
        outputs, state = [], None
        for x_t in steps:
            state = cell(x_t, state)
            outputs.append(state[0] if isinstance(state, tuple) else state)
        return outputs

    return Contestant(run, lambda outputs: {"output": torch.stack(outputs)})
