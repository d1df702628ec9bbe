"""Output layers over a vocabulary: full, sampled and adaptive softmax, each over hidden states (N, H).

All of them give exact probabilities; they differ in what a loss in training costs.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.nn.arguments import is_autocast
from recurra.nn.cross_entropy import linear_cross_entropy

AT_ONCE = 1 << 24
"""Entries of the logits that are held at once where no derivative is needed: 64 MB."""


class FullSoftmax(nn.Module):
    """`p = softmax(W h + b)`.

    Args:
        width: Width H of the hidden state.
        symbols: Size V of the vocabulary.
        tied: An embedding (V, H) whose vectors are W as well (Press & Wolf 2017; Inan, Khosravi & Socher 2017).
    """

    def __init__(self, width: int, symbols: int, tied: nn.Embedding | None = None) -> None:
        super().__init__()
        self.symbols = symbols
        self._tied = (tied,)  # in a tuple, so that it is no part of this module, whose parameters are its own
        if tied is None:
            bound = 1 / math.sqrt(width)
            self.weight = nn.Parameter(torch.empty(symbols, width).uniform_(-bound, bound))
        elif tuple(tied.weight.shape) != (symbols, width):
            raise ValueError(f"tied: an embedding of {symbols} × {width} is expected, not {tuple(tied.weight.shape)}")
        self.bias = nn.Parameter(torch.zeros(symbols))

    @property
    def matrix(self) -> Tensor:
        """W, (V, H)."""
        (tied,) = self._tied
        return cast(Tensor, self.weight) if tied is None else tied.weight

    def learn_counts(self, counts: Tensor) -> None:
        """Begin with what is known before any training, how often each symbol comes: b is its logarithm.

        Args:
            counts: (V,), in the training part.
        """
        share = (counts.double() + 0.5) / (counts.sum() + 0.5 * len(counts))
        with torch.no_grad():
            self.bias.copy_(share.log() - share.log().mean())

    def logits(self, hidden: Tensor) -> Tensor:
        """W h + b, (N, V)."""
        return F.linear(hidden, self.matrix, self.bias)

    def loss(self, hidden: Tensor, targets: Tensor, products: torch.dtype | None = None) -> Tensor:
        """The sum over rows of -log p(target), in nats.

        Args:
            hidden: (N, H).
            targets: (N,) int64.
            products: As for `linear_cross_entropy`.
        """
        if hidden.dtype != self.bias.dtype and not is_autocast(hidden.device.type):
            return F.cross_entropy(self.logits(hidden), targets, reduction="sum")
        return linear_cross_entropy(hidden, self.matrix, self.bias, targets, products=products)

    @torch.no_grad()
    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """-log p(target) of every row, (N,), exact, without a derivative."""
        rows = max(1, AT_ONCE // self.symbols)
        return torch.cat(
            [
                F.cross_entropy(self.logits(h), y, reduction="none")
                for h, y in zip(hidden.split(rows), targets.split(rows), strict=True)
            ]
        )

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """(N, V), in nats."""
        return F.log_softmax(self.logits(hidden), -1)


class SampledSoftmax(FullSoftmax):
    """A full softmax whose loss, in training, looks at the target and at k other symbols that are drawn.

    Importance sampling of the normaliser (Bengio & Senécal 2003, 2008) with the same symbols for the whole batch (Jean
    et al. 2015): `Z ≈ exp z_y + Σ_(j drawn, j ≠ y) exp(z_j) / π_j`, where π_j is how likely j is to be among those that
    are drawn, each once. In expectation that is Z; with k = V all are drawn, and it is.

    Args:
        width: Width H of the hidden state.
        symbols: Size V of the vocabulary.
        samples: How many symbols k are drawn for a batch; at most V.
        power: Symbols are drawn with a chance that goes with their count in the training part to this power.
        tied: As for `FullSoftmax`.
    """

    chance: Tensor
    log_inclusion: Tensor

    def __init__(
        self, width: int, symbols: int, samples: int, power: float = 0.75, tied: nn.Embedding | None = None
    ) -> None:
        super().__init__(width, symbols, tied)
        if samples < 1:
            raise ValueError(f"samples: a number from 1 on is expected, not {samples}")
        self.samples, self.power = min(samples, symbols), power
        self.register_buffer("chance", torch.full((symbols,), 1 / symbols))
        self.register_buffer("log_inclusion", torch.zeros(symbols))
        self._propose(torch.ones(symbols))

    def learn_counts(self, counts: Tensor) -> None:
        """See `FullSoftmax.learn_counts`; the counts also settle what is drawn."""
        super().learn_counts(counts)
        self._propose(counts)

    def _propose(self, counts: Tensor) -> None:
        share = (counts.double() + 0.5) ** self.power
        share /= share.sum()
        self.chance.copy_(share)
        self.log_inclusion.copy_(inclusion(share, self.samples).log())

    def loss(self, hidden: Tensor, targets: Tensor, products: torch.dtype | None = None) -> Tensor:
        """See `FullSoftmax.loss`; in training, the estimate, whose products are small ones."""
        if not self.training:
            return super().loss(hidden, targets, products)
        drawn = torch.multinomial(self.chance, self.samples)
        matrix = self.matrix
        z = torch.addmm(self.bias[drawn] - self.log_inclusion[drawn], hidden, matrix[drawn].t())
        z = z.masked_fill(drawn == targets.unsqueeze(1), -torch.inf)  # the target stands for itself
        wanted = (hidden * matrix[targets]).sum(1) + self.bias[targets]
        return (torch.logaddexp(z.logsumexp(1), wanted) - wanted).sum()


def inclusion(chance: Tensor, count: int) -> Tensor:
    """How likely each symbol is to be among `count` that are drawn one after another without being put back, (V,).

    By Rosén's (1997) approximation `1 - exp(-c p_j)`, c such that the sum is `count`: drawing in turn is a race of
    exponential clocks with rates p_j, which is stopped when `count` have come in.

    Args:
        chance: (V,) chances p of a single draw, all above 0.
        count: How many; all of them where it is V.
    """
    chance = chance.double()
    if count >= len(chance):
        return torch.ones_like(chance)
    low, high = 0.0, 1.0
    while float(-torch.expm1(-high * chance).sum()) < count:
        high *= 2
    for _ in range(100):
        c = (low + high) / 2
        low, high = (c, high) if float(-torch.expm1(-c * chance).sum()) < count else (low, c)
    return -torch.expm1(-high * chance)


class AdaptiveSoftmax(nn.Module):
    """Frequent symbols by themselves, rarer ones in groups, looked at where they are needed (Grave et al. 2017).

    PyTorch's own layer, over the symbols in the order of their counts, which this one keeps.

    Args:
        width: Width H of the hidden state.
        symbols: Size V of the vocabulary.
        cutoffs: Ranks at which a group ends, rising, each below V; the last group ends with V.
        narrowing: Each further group is seen through a state narrower by this factor.
    """

    rank: Tensor

    def __init__(self, width: int, symbols: int, cutoffs: Sequence[int], narrowing: float = 4.0) -> None:
        super().__init__()
        self.symbols = symbols
        if list(cutoffs) != sorted(set(cutoffs)) or not cutoffs or not 0 < cutoffs[0] <= cutoffs[-1] < symbols:
            raise ValueError(f"cutoffs: rising numbers between 0 and {symbols} are expected, not {list(cutoffs)}")
        narrow = [width / narrowing ** (i + 1) for i in range(len(cutoffs))]
        if narrow[-1] < 1:
            raise ValueError(f"cutoffs: {len(cutoffs)} groups leave the last {narrow[-1]:.2g} of {width} units")
        self.layer = nn.AdaptiveLogSoftmaxWithLoss(width, symbols, list(cutoffs), div_value=narrowing, head_bias=True)
        self.register_buffer("rank", torch.arange(symbols))

    def learn_counts(self, counts: Tensor) -> None:
        """Put the symbols in the order of their counts, (V,)."""
        order = torch.argsort(counts, descending=True, stable=True)
        self.rank[order] = torch.arange(self.symbols, device=self.rank.device)

    def loss(self, hidden: Tensor, targets: Tensor, products: torch.dtype | None = None) -> Tensor:
        """See `FullSoftmax.loss`; its products are small ones, and stay as they are."""
        return -self.layer(hidden, self.rank[targets]).output.sum()

    @torch.no_grad()
    def nats(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """See `FullSoftmax.nats`."""
        return -self.layer(hidden, self.rank[targets]).output

    def log_probabilities(self, hidden: Tensor) -> Tensor:
        """(N, V), in nats."""
        return self.layer.log_prob(hidden)[:, self.rank]


Softmax = FullSoftmax | SampledSoftmax | AdaptiveSoftmax
"""Any of them."""
