"""A penalty on errors that grow or shrink on their way back through time (Pascanu, Mikolov & Bengio 2013)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

Fields = list[Tensor]
"""The state's fields, each of every layer in turn."""


def error_norm(
    layer: Any, x: Tensor, error: Callable[[Tensor, Any], Tensor], *, state: Any = None, lengths: Tensor | None = None
) -> Tensor:
    """Ω, the mean of `(‖δ_k ∂s_k/∂s_(k-1)‖ / ‖δ_k‖ - 1)²` over steps and sequences.

    δ_k is the error at the state s_k: all of its fields, in all layers. As in the paper (eqs 9 and 10) errors and
    states are constants where Ω is differentiated, and only what the parameters do to `∂s_k/∂s_(k-1)` at once is
    followed. The paper sums over steps; a mean does not grow with their number. The paper's state is the net input, so
    there only U moves that derivative; here W and b do too, through f'.

    The errors are found from the last step to the first, one step after another, and Ω from all steps in one call,
    which takes some thirty times as long as the derivative of a small network in the compiled core.

    Args:
        layer: A `recurra.Recurrent` in one direction, without skip connections, and in evaluation, so that no dropout
            is drawn.
        x: What it reads, (T, B, I).
        error: From its output, (T, B, H), and its final state to the loss.
        state: The state to begin with; no error is followed into it.
        lengths: (B,), or None where all have T steps.

    Returns:
        Ω, from which derivatives lead to the layer's parameters where it depends on them; 0 where nothing is passed on.
    """
    T, B = x.shape[:2]
    if T < 2:
        return x.new_zeros(())
    x = x.detach()
    with torch.no_grad():
        output, final, states = layer(x, state, lengths=lengths, return_states=True)
    steps = torch.full((B,), T, device=x.device) if lengths is None else lengths.to(x.device)
    taken = torch.arange(T, device=x.device).unsqueeze(1) < steps  # (T, B)
    along, kinds = _flat(states), [f.is_bookkeeping for f in layer.form.fields]
    counted = [i for i, spared in enumerate(s for s, v in zip(kinds, states, strict=True) for _ in v) if not spared]
    widths = [along[i].shape[-1] for i in counted]

    def pulled(inputs: Tensor, old: Fields, errors: Tensor, create_graph: bool = False) -> Tensor:
        """`errors`, (B, S), of the state after a step, through the step's derivative."""
        old = [v.clone().requires_grad_() for v in old]
        of_fields = iter(old)
        _, new = layer(inputs.unsqueeze(0), layer.state_type(*([next(of_fields) for _ in v] for v in states)))
        after = _flat(new)
        found = torch.autograd.grad(
            [after[i] for i in counted],
            [old[i] for i in counted],
            errors.split(widths, -1),
            create_graph=create_graph,
            materialize_grads=True,
        )
        return torch.cat(found, -1)

    from_output, from_final = _entering(output, final, error)
    first = sum(widths[: counted.index(len(states[0]) - 1)])  # where the last layer's output stands in a row
    wide = torch.float32 if x.device.type == "mps" else torch.float64  # an error is soon too small for single precision
    directions = x.new_zeros(T, B, sum(widths))  # of δ_k
    passed = torch.cat([from_final[i] for i in counted], -1).to(wide)
    for k in range(T - 1, 0, -1):
        here = taken[k].unsqueeze(-1)
        passed[:, first : first + widths[0]] += torch.where(here, from_output[k], 0.0)
        length = torch.linalg.vector_norm(passed, dim=-1, keepdim=True)
        directions[k] = torch.where(length > 0, passed / length, 0.0)
        earlier = pulled(x[k], [v[k - 1] for v in along], directions[k])
        passed = torch.where(here, length * earlier, passed)

    errors, there = directions[1:].flatten(0, 1), (taken[1:] & directions[1:].any(-1)).flatten()
    after = pulled(x[1:].flatten(0, 1), [v[:-1].flatten(0, 1) for v in along], errors, create_graph=True)
    ratio = torch.linalg.vector_norm(after, dim=-1)
    return torch.where(there, (ratio - 1).square(), 0.0).sum() / there.sum().clamp(min=1)


def _flat(state: Sequence[Any]) -> Fields:
    """Every field of every layer by itself."""
    return [values for field in state for values in field]


def _entering(output: Tensor, final: Any, error: Callable[[Tensor, Any], Tensor]) -> tuple[Tensor, Fields]:
    """The derivative of the loss by the output and by the final state themselves, nothing passed on."""
    given = output.detach().requires_grad_()
    stacked = [isinstance(field, Tensor) for field in final]  # else a list, of layers of different widths
    ended = [[v.detach().requires_grad_() for v in ([f] if one else f)] for f, one in zip(final, stacked, strict=True)]
    loss = error(given, type(final)(*(f[0] if one else f for f, one in zip(ended, stacked, strict=True))))
    leaves = [given, *(v for field in ended for v in field)]
    found, *rest = torch.autograd.grad(loss, leaves, materialize_grads=True)
    by_layer = ((v,) if v.dim() == 2 else v.unbind() for v in rest)
    return found, [v for layers in by_layer for v in layers]
