"""One piece of work that is timed, and those that compete in it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from recurra.bench.shapes import Shape
from recurra.cells import Cell
from recurra.nn import Recurrent

Kind = Literal["train", "infer", "stream"]

Results = dict[str, Tensor]
"""What one run gives, by name: "output", and where gradients are asked for, those by "x" and by each parameter under
the name that it has in `Recurrent`."""


class NotHere(Exception):  # noqa: N818 (it is no error)
    """Why somebody does not compete in a piece of work, in words."""


@dataclass(frozen=True)
class Problem:
    """A layer's weights, an input and what is to be done with them.

    Attributes:
        kind: "train": forward and backward, with the gradients by all parameters and by x. "infer": forward alone.
            "stream": forward, one call a step.
        layer: The layer as its equations stand, run one step after another: the reference, and where the others get
            their weights from.
        shape: Its sizes.
        threads: How many threads each may use.
        x: (T, B, I), float32.
        dy: The gradient by the output, (T, B, H), random; zero where there is padding.
        lengths: (B,) steps of each sequence, or None where all have T.
    """

    kind: Kind
    layer: Recurrent
    shape: Shape
    threads: int
    x: Tensor
    dy: Tensor
    lengths: Tensor | None

    @property
    def cell(self) -> Cell:
        """The cell that is run."""
        assert isinstance(self.layer.cell, Cell)
        return self.layer.cell

    @property
    def weights(self) -> dict[str, Tensor]:
        """The parameters under the names of `Recurrent`."""
        return {name: p.detach() for name, p in self.layer.named_parameters()}


def draw(cell: Cell, shape: Shape, kind: Kind, *, threads: int = 1, ragged: bool = False, seed: int = 0) -> Problem:
    """A problem with weights as the cell begins with, biases moved away from zero, and a normal input.

    Args:
        cell: The cell.
        shape: The sizes.
        kind: What is to be done.
        threads: How many threads each may use.
        ragged: Draw lengths from T / 2 to T; the first row is whole.
        seed: Of what is drawn; the state of PyTorch's own generator is left as it was.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        layer = Recurrent(cell, shape.I, shape.H, shape.layers, backend="eager")
        with torch.no_grad():
            for p in layer.parameters():
                if p.dim() == 1:  # a bias left out would not be seen at zero
                    p.add_(0.1 * torch.randn_like(p))
        x = torch.randn(shape.T, shape.B, shape.I)
        dy = torch.randn(shape.T, shape.B, layer.output_size)
        lengths = None
        if ragged:
            lengths = torch.randint((shape.T + 1) // 2, shape.T + 1, (shape.B,))
            lengths[0] = shape.T
            dy *= (torch.arange(shape.T).unsqueeze(1) < lengths).unsqueeze(-1)
    return Problem(kind, layer, shape, threads, x, dy, lengths)


@dataclass(frozen=True)
class Contestant:
    """Somebody who does a problem's work.

    Attributes:
        run: Does it once; the results are ready when it returns. This is what is timed.
        results: From what `run` returned to the results by name.
        backend: How ours ran, as `explain` says; empty for the others.
        reason: Why, in words.
    """

    run: Callable[[], Any]
    results: Callable[[Any], Results]
    backend: str = ""
    reason: str = ""


def of_module(
    problem: Problem,
    module: nn.Module,
    forward: Callable[[Tensor], Tensor],
    named: Callable[[str], str | None] = str,
    *,
    backend: str = "",
    reason: str = "",
) -> Contestant:
    """A contestant that PyTorch differentiates.

    Args:
        problem: The work.
        module: Whose parameters the gradients are taken by.
        forward: From x, (T, B, I), to the output, (T, B, H).
        named: From a parameter's name to that in `Recurrent`; None leaves it out of the results, though its gradient
            is computed all the same.
        backend: How it runs, as `explain` says.
        reason: Why.
    """
    if problem.kind != "train":

        def infer() -> Tensor:
            with torch.no_grad():
                return forward(problem.x)

        return Contestant(infer, lambda y: {"output": y}, backend, reason)

    x = problem.x.clone().requires_grad_()
    names = ["x", *(named(name) for name, _ in module.named_parameters())]
    leaves = [x, *module.parameters()]

    def train() -> tuple[Tensor, Sequence[Tensor]]:
        y = forward(x)
        return y, torch.autograd.grad(y, leaves, problem.dy)

    def results(found: tuple[Tensor, Sequence[Tensor]]) -> Results:
        y, gradients = found
        by_name = zip(names, gradients, strict=True)
        return {"output": y.detach(), **{name: v for name, v in by_name if name is not None}}

    return Contestant(train, results, backend, reason)


def from_arrays(output: Any, gradients: Mapping[str, Any] | None = None) -> Results:
    """Results from arrays of another library."""
    found = {"output": output, **(gradients or {})}
    return {name: torch.from_numpy(np.array(v)) for name, v in found.items()}
