"""`explain`: what a layer computes at a step, its derivative, and how it is run."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from recurra.cells import Cell
from recurra.engine import native
from recurra.engine.adjoint import derive
from recurra.engine.fused import why_not
from recurra.engine.listing import listing
from recurra.engine.trace import TraceError, trace
from recurra.nn.dropin import cell_of
from recurra.nn.recurrent import Choice, Recurrent


@dataclass(frozen=True)
class Explanation:
    """What `explain` tells; it prints well.

    Attributes:
        cell: The cell, with its options.
        backend: How the layer is run: "native", in the compiled core; "scan", all steps in parallel; "eager", one after
            another in tensor code.
        reason: Why, in words.
        program: The step: a value a line, each computed once. h' is the old h, x_g the gate's W x + b. None where the
            cell cannot be written down; `reason` says what stands against it.
        adjoint: The derivative, likewise: δv is the loss's gradient by v; in front, the values of the step that are
            kept for it. ⊗ is the product of columns and rows; += adds up over rows and steps.
    """

    cell: str
    backend: str
    reason: str
    program: str | None
    adjoint: str | None

    def __str__(self) -> str:
        lines = [self.cell, f"backend: {self.backend}", f"because {self.reason}"]
        for title, text in (("step", self.program), ("derivative", self.adjoint)):
            if text is not None:
                lines += [f"{title}:", *(f"    {line}" for line in text.splitlines())]
        return "\n".join(lines)

    __repr__ = __str__


def explain(layer: nn.Module) -> Explanation:
    """What a layer computes at a step, the derivative of that, and how it is run and why.

    Args:
        layer: A `Recurrent`, or one of the drop-ins (`recurra.LSTM`, …).

    Raises:
        TypeError: It is another module.

    Example:
        >>> print(explain(Recurrent("min_gru", 3, 4, backend="scan")))
        min_gru()
        backend: scan
        because backend='scan' asks for it: all steps in parallel
        step:
            v1 = sigmoid(x_z)
            v2 = 1 - v1
            v3 = h' * v2
            v4 = x_n * v1
            v5 = v3 + v4
            h = v5
        derivative:
            kept: h'; x_n; v1 = sigmoid(x_z)
            v2 = 1 - v1
            v6 = v1 * δh
            v7 = x_n * δh
            v8 = v2 * δh
            v9 = h' * δh
            v10 = v7 - v9
            v11 = v1 * v2
            v12 = v10 * v11
            δx_n = v6
            δx_z = v12
            δh' = v8
    """
    cell, size, choice = _what_it_runs(layer)
    if not isinstance(cell, Cell):
        return Explanation(getattr(cell, "__name__", type(cell).__name__), choice.backend, choice.reason, None, None)
    try:
        step = trace(cell, size)
    except TraceError as error:
        reason = choice.reason
        if str(error) not in reason:
            reason += f"; it cannot be written down as a program ({error})"
        return Explanation(repr(cell), choice.backend, reason, None, None)
    return Explanation(repr(cell), choice.backend, choice.reason, *listing(step, derive(step)))


def _what_it_runs(layer: Any) -> tuple[Any, int, Choice]:
    """The cell of a layer, or its function; hidden_size of the first layer; and how it is run."""
    if isinstance(layer, Recurrent):
        sizes = layer.hidden_size
        return layer.cell, sizes if isinstance(sizes, int) else sizes[0], layer.choice
    cell = cell_of(layer)
    if cell is None:
        kind = type(layer).__name__
        if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)):
            kind = f"torch.nn.{kind}, whose kernels are PyTorch's own; recurra.{kind} takes its weights"
        raise TypeError(f"a recurra.Recurrent or a drop-in such as recurra.LSTM is expected, not {kind}")
    return cell, layer.hidden_size, _choice_of(layer)


def _choice_of(module: nn.Module) -> Choice:
    """How a drop-in is run."""
    if not isinstance(module, nn.RNNBase):
        return Choice("eager", "a call takes one step, in tensor code; recurra.Stream takes steps in the compiled core")
    reason = native.why_not() or why_not(next(module.parameters()))
    if reason is not None:
        return Choice("eager", reason)
    return Choice("native", "a drop-in's steps run in the compiled core, one after another")
