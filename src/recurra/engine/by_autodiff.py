"""The influence of parameters on the state for steps of which no program is known.

The state Jacobian and what the parameters do at once are taken by automatic differentiation of the whole step
(`torch.func.jacrev`), so it runs anything that is made of PyTorch's functions: a plain function, or a cell whose body
cannot be written down. It is the slow way, and the reference for the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import jacrev, vmap

from recurra.engine.eager import State

StepOf = Callable[[Mapping[str, Tensor], Tensor, State], State]
"""`(parameters, x, state) -> state`, of a batch: x (B, I), each field of the state (B, width)."""


class ByAutodiff:
    """As `recurra.engine.influence.Stack`, for one layer whose step is any function.

    Args:
        step: The step.
        names: The parameters that are followed.
        rows: Rows of the batch.
        widths: The widths of the state's fields.
        like: A tensor of the type and on the device of the parameters.
        begins: Of parameters that are first states, at which number of the state each begins.
        differentiate: How Jacobians are taken.
    """

    def __init__(
        self,
        step: StepOf,
        names: Sequence[str],
        rows: int,
        widths: Sequence[int],
        like: Tensor,
        begins: Mapping[str, int] | None = None,
        differentiate: Callable[..., Any] = jacrev,
    ) -> None:
        self.step, self.names, self.rows, self.widths, self.like = step, names, rows, list(widths), like
        self.begins = begins or {}
        self.kept: dict[str, Tensor] = {}
        self.sums: dict[str, Tensor] = {}
        self._jacobians = vmap(differentiate(self._flat, argnums=(0, 1, 2)), in_dims=(None, 0, 0, None))
        self._by_x: Tensor | None = None

    def _flat(self, own: Mapping[str, Tensor], x: Tensor, state: Tensor, others: Mapping[str, Tensor]) -> Tensor:
        """A step of one row, its state's fields side by side."""
        fields = tuple(v.unsqueeze(0) for v in state.split(self.widths))
        return torch.cat(self.step({**others, **own}, x.unsqueeze(0), fields), -1).squeeze(0)

    def advance(
        self,
        weights: Sequence[Mapping[str, Tensor]],
        x: Tensor,
        states: Sequence[State],
        taken: Tensor | None = None,
    ) -> list[State]:
        """See `recurra.engine.influence.Stack.advance`."""
        (every,), (state,) = weights, states
        own = {name: every[name].detach() for name in self.names}
        others = {name: v for name, v in every.items() if name not in own}
        flat = torch.cat(list(state), -1)
        with torch.no_grad():
            at_once, self._by_x, D = self._jacobians(own, x, flat, others)
            new = self.step(every, x, state)
        for name, value in own.items():
            given = at_once[name].flatten(2)
            J = self.kept[name] if name in self.kept else self._first(name, given)
            given = torch.baddbmm(given, D, J)
            self.kept[name] = given if taken is None else torch.where(taken.view(-1, 1, 1), given, J)
            self.sums.setdefault(name, torch.zeros_like(value))
        if taken is not None:
            new = tuple(torch.where(taken.unsqueeze(-1), a, b) for a, b in zip(new, state, strict=True))
        return [tuple(v.detach() for v in new)]

    def _first(self, name: str, like: Tensor) -> Tensor:
        """The influence before the first step, (B, S, parameters): none, or that of a first state on itself."""
        first = torch.zeros_like(like)
        if name in self.begins:
            count = like.shape[-1]
            first[:, self.begins[name] : self.begins[name] + count] = torch.eye(count).to(like)
        return first

    def collect(self, delta: Tensor, of: int = -1, wants_below: bool = True, goes_down: bool = True) -> Tensor | None:
        """See `recurra.engine.influence.Stack.collect`."""
        for name, J in self.kept.items():
            self.sums[name] += torch.einsum("bs,bsp->p", delta, J).view_as(self.sums[name])
        if not wants_below or not goes_down:
            return None
        assert self._by_x is not None
        return torch.einsum("bs,bsi->bi", delta, self._by_x)

    def forget(self, rows: Tensor | None = None) -> None:
        """See `recurra.engine.influence.Stack.forget`."""
        if rows is None:
            self.kept = {}
        else:
            self.kept = {n: torch.where(rows.view(-1, 1, 1), self._first(n, J), J) for n, J in self.kept.items()}

    def take(self, weights: Sequence[Mapping[str, Tensor]]) -> list[dict[str, Tensor]]:
        """See `recurra.engine.influence.Stack.take`."""
        found, self.sums = self.sums, {}
        return [{name: found.get(name, torch.zeros_like(weights[0][name])) for name in self.names}]

    def tensors(self) -> list[Tensor]:
        """See `recurra.engine.influence.Stack.tensors`."""
        return [self.kept[name] for name in self.names if name in self.kept]

    def restore(self, tensors: Sequence[Tensor]) -> None:
        """See `recurra.engine.influence.Stack.restore`."""
        self.kept = dict(zip(self.names, [v.to(self.like) for v in tensors], strict=len(tensors) > 0))
