"""Unbiased online recurrent optimisation (UORO; Tallec & Ollivier 2017): an influence of rank one, right on average.

`J ≈ s̃ θ̃ᵀ`, one number for each unit of the state and one for each parameter. At every step a random sign is drawn for
each unit, ν, and `s̃ ← ρ_0 D s̃ + ρ_1 ν`, `θ̃ ← θ̃ / ρ_0 + νᵀ I / ρ_1`; the expectation of the product is the influence,
whatever ρ_0 and ρ_1 are, and these are chosen to keep its variance small.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from recurra.engine.influence import Linear, by_parameter
from recurra.engine.reach import Layer

TINY = 1e-7


class RankOne:
    """The influence of one layer's parameters on its state, as an outer product.

    Args:
        layer: The layer.
        rows: Rows of the batch.
        like: A tensor of the type and on the device that it is kept in.
        generator: What the signs are drawn by.
    """

    def __init__(self, layer: Layer, rows: int, like: Tensor, generator: torch.Generator) -> None:
        self.layer, self.rows, self.like, self.generator = layer, rows, like, generator
        first = like.new_zeros(rows, layer.offsets[-1])
        self.kept = [first, *(like.new_zeros(rows, site.width, site.columns) for site in layer.sites)]
        self.sums = [like.new_zeros(site.width, site.columns) for site in layer.sites]
        self.forget()

    def advance(self, linear: Linear, x: Tensor, taken: Tensor | None = None) -> None:
        """Carry the influence over one step (see `recurra.engine.influence.Influence.advance`)."""
        state, *parameters = self.kept
        drawn = torch.randint(0, 2, state.shape, generator=self.generator)
        signs = (2 * drawn - 1).to(state)
        passed = (linear.jacobian @ state.unsqueeze(-1)).squeeze(-1)
        given = []
        for site in self.layer.sites:
            units = (signs.unsqueeze(1) @ linear.at_once(site.blocks, site.width)).squeeze(1)
            given.append((units.unsqueeze(-1) * linear.inputs(site, x)).expand(-1, site.width, -1))
        keep = (_norm(parameters) / (_norm([passed]) + TINY)).sqrt() + TINY
        admit = (_norm(given) / (_norm([signs]) + TINY)).sqrt() + TINY
        new = [keep * passed + admit * signs]
        new += [
            old / keep.unsqueeze(-1) + now / admit.unsqueeze(-1) for old, now in zip(parameters, given, strict=True)
        ]
        if taken is not None:
            new = [
                torch.where(taken.view(-1, *[1] * (v.dim() - 1)), v, old) for v, old in zip(new, self.kept, strict=True)
            ]
        self.kept = new

    def collect(self, delta: Tensor) -> None:
        """Add what a loss gives to the parameters; delta, (B, S), is its gradient by the new state."""
        state, *parameters = self.kept
        share = (delta * state).sum(-1)
        for total, v in zip(self.sums, parameters, strict=True):
            total += torch.einsum("b,buk->uk", share, v)

    def forget(self, rows: Tensor | None = None) -> None:
        """Begin anew: with all rows of the batch, or with those where `rows`, (B,), is True."""
        chosen = torch.ones(self.rows, dtype=torch.bool) if rows is None else rows
        for v in self.kept:
            v.masked_fill_(chosen.to(v.device).view(-1, *[1] * (v.dim() - 1)), 0)
        state, *parameters = self.kept
        for site, v in zip(self.layer.sites, parameters, strict=True):
            if site.begins is not None:  # its influence on itself is the identity, as signs times signs are on average
                first = self.layer.offsets[site.begins]
                drawn = torch.randint(0, 2, (int(chosen.sum()), site.width), generator=self.generator)
                signs = (2 * drawn - 1).to(v)
                state[chosen, first : first + site.width] = signs
                v[chosen] = signs.unsqueeze(-1)

    def take(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was collected, by parameter; it is zero from now on."""
        return by_parameter(self.layer, self.sums, weights)


def _norm(parts: list[Tensor]) -> Tensor:
    """The norm of each row over all parts, (B, 1)."""
    return torch.stack([v.flatten(1).square().sum(1) for v in parts]).sum(0).sqrt().unsqueeze(-1)
