"""What is made small beside the task's loss: chosen weights, activations, their changes from step to step."""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn

from recurra.errors import RecipeError, unknown

Factor = float | Tensor
"""How much a penalty on a parameter weighs: one number, or one for each entry."""

ALL = ("W", "U", "b", "V", "head", "embedding")
"""Symbols that stand for many parameters; those of one gate, "U_f", go before them."""

BySymbol = Callable[[Mapping[str, Tensor]], Mapping[str, list[Tensor]]]
"""From tensors that are named and laid out as the parameters to views of them by symbol of the equations."""


def is_diagonal(name: str, p: Tensor) -> bool:
    """Whether a parameter is a matrix U of which the diagonal alone is stored, as that of `indrnn`."""
    return p.dim() == 1 and name.rpartition(".")[2].startswith("weight_hh")


def is_matrix(name: str, p: Tensor) -> bool:
    """Whether decay concerns a parameter unless it is asked for by name: biases and other vectors are spared."""
    return p.dim() > 1 or is_diagonal(name, p)


def factors(
    parameters: Mapping[str, Tensor], by_symbol: BySymbol, said: float | Mapping[str, float], key: str
) -> dict[str, Factor]:
    """What a penalty weighs on each parameter; those on which it weighs nothing are left out.

    Args:
        parameters: By name.
        by_symbol: To their parts by symbol.
        said: One number for all matrices, or a table: by symbol (`W`, `U`, `U_f`, `V`), by a parameter's name, or by a
            pattern of names (`*_l0`). The narrower goes before the wider: a gate before all gates, then patterns in
            their order, then whole names.
        key: The recipe's key, for messages.

    Raises:
        RecipeError: A name that stands for nothing here; the nearest that does is offered.
    """
    if not isinstance(said, Mapping):
        return {name: said for name, p in parameters.items() if said and is_matrix(name, p)}
    spread = {name: torch.zeros_like(p, requires_grad=False) for name, p in parameters.items()}
    symbols = by_symbol(spread)

    def parts(place: str) -> tuple[int, list[Tensor]]:
        if place in symbols:
            return (0 if place in ALL else 1), symbols[place]
        if place in spread:
            return 3, [spread[place]]
        found = [part for name, part in spread.items() if fnmatchcase(name, place)]
        if not found:
            raise RecipeError(f"{key}: " + unknown("parameter", place, [*symbols, *spread]))
        return 2, found

    found = [(*parts(place), value) for place, value in said.items()]
    for _, places, value in sorted(found, key=lambda one: one[0]):
        for part in places:
            part.fill_(value)
    return {name: _as_one(factor) for name, factor in spread.items() if factor.any()}


def _as_one(factor: Tensor) -> Factor:
    """One number where all entries have the same."""
    first = factor.flatten()[0]
    return float(first) if bool((factor == first).all()) else factor


@torch.no_grad()
def add_decay(parameters: Mapping[str, nn.Parameter], l1: Mapping[str, Factor], l2: Mapping[str, Factor]) -> None:
    """Add the gradient of `Σ l1 |w| + Σ l2 w²/2` to the gradients; `factors` says what l1 and l2 are."""
    for name, p in parameters.items():
        if p.grad is None:
            continue
        for factor, slope in ((l1.get(name), p.sign()), (l2.get(name), p)):
            if isinstance(factor, Tensor):
                p.grad.addcmul_(slope, factor.to(p))
            elif factor:
                p.grad.add_(slope, alpha=factor)


class Hidden(NamedTuple):
    """What the last recurrent layer put out in one call of a network.

    Attributes:
        output: h, (T, B, H).
        dropped: m ⊙ h, the same with the dropout through which the next part sees it.
        lengths: (B,), or None where all have T steps.
    """

    output: Tensor
    dropped: Tensor
    lengths: Tensor | None


def activation_penalty(hidden: Hidden, size: float, change: float) -> Tensor:
    """Activation and temporal activation regularisation, AR and TAR (Merity, McCann & Socher 2017).

    `size · mean (m ⊙ h_t)² + change · mean (h_t - h_(t-1))²`, with means over units, steps and sequences in place of
    the paper's norms, as in the authors' own program. Padding does not count.

    Args:
        hidden: What the last recurrent layer put out.
        size: α, of the activations.
        change: β, of their changes.
    """
    h, m_h, lengths = hidden
    T, B, H = h.shape
    steps = torch.full((B,), T, device=h.device) if lengths is None else lengths.to(h.device)
    total = h.new_zeros((), dtype=torch.promote_types(h.dtype, torch.float32))
    for weight, values, count in ((size, m_h, steps), (change, h[1:] - h[:-1], (steps - 1).clamp(min=0))):
        if weight:
            valid = torch.arange(len(values), device=h.device).unsqueeze(1) < count
            squares = torch.where(valid.unsqueeze(-1), values.to(total.dtype).square(), 0.0)
            total = total + weight * squares.sum() / (count.sum() * H).clamp(min=1)
    return total
