"""Output layers over a vocabulary: full, sampled and adaptive softmax, each over hidden states (N, H).

All of them give exact probabilities; they differ in what a loss in training costs.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

AT_ONCE = 1 << 24
"""Entries of the logits that are held at once where no derivative is needed: 64 MB."""


HELD = 1 << 21
"""Entries of the logits that are held at once where a loss is learnt from: few enough to stay in a cache."""

Products = Literal["float32", "bfloat16"]


class _CrossEntropy(torch.autograd.Function):
    """Loss and derivatives together, a few rows at a time, so that the logits of all rows never stand in memory.

    With z = W h + b, p = softmax(z) and t the target's distribution, the derivative by z is p - t, which takes the
    place of z as soon as that is known; the way back only multiplies.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: float,
        dtype: torch.dtype,
    ) -> Tensor:
        h, w, V = hidden.to(dtype), weight.to(dtype), len(weight)
        by_hidden = torch.empty_like(hidden)
        by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        total = torch.zeros((), dtype=torch.float64, device=hidden.device)
        at_once = max(1, HELD // V)
        for first in range(0, len(h), at_once):
            rows = slice(first, first + at_once)
            wanted = targets[rows, None]
            z = torch.mm(h[rows], w.t()).to(bias.dtype).add_(bias)
            said = (1 - smoothing) * z.gather(1, wanted)
            if smoothing:
                said += smoothing * z.mean(1, keepdim=True)
            largest = z.amax(1, keepdim=True)
            p = z.sub_(largest).exp_()
            sum = p.sum(1, keepdim=True)
            total += (sum.log() + largest - said).sum()
            slope = p.div_(sum)
            if smoothing:
                slope -= smoothing / V
            slope.scatter_add_(1, wanted, torch.full_like(said, smoothing - 1))
            by_bias += slope.sum(0)
            slope = slope.to(dtype)
            by_hidden[rows] = torch.mm(slope, w)
            if dtype == weight.dtype:
                by_weight.addmm_(slope.t(), h[rows])
            else:
                by_weight += torch.mm(slope.t(), h[rows])
        ctx.save_for_backward(by_hidden, by_weight, by_bias)
        return total.to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        by_hidden, by_weight, by_bias = ctx.saved_tensors
        (scale,) = grads
        return by_hidden * scale, by_weight * scale, by_bias * scale, None, None, None


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    smoothing: float = 0.0,
    products: Products = "float32",
) -> Tensor:
    """The sum over rows of the cross entropy of `softmax(W h + b)` with the targets, in nats, to be learnt from.

    It takes a fraction of the memory of PyTorch's, and less time.

    Args:
        hidden: h, (N, H).
        weight: W, (V, H).
        bias: b, (V,).
        targets: (N,) int64.
        smoothing: Share of a target that is spread over all symbols.
        products: In which precision W h and the derivatives' products are computed: "bfloat16" is several times as
            fast on processors that have it, and rounds derivatives to about three digits. All else is in that of h.
    """
    if torch.is_autocast_enabled(hidden.device.type) or hidden.dtype != weight.dtype:
        logits = F.linear(hidden, weight, bias)
        return F.cross_entropy(logits, targets, reduction="sum", label_smoothing=smoothing)
    dtype = torch.bfloat16 if products == "bfloat16" else hidden.dtype
    return cast(Tensor, _CrossEntropy.apply(hidden, weight, bias, targets, smoothing, dtype))


class FullSoftmax(nn.Module):
    """`p = softmax(W h + b)`.

    Args:
        width: Width H of the hidden state.
        symbols: Size V of the vocabulary.
        tied: An embedding (V, H) whose vectors are W as well (Press & Wolf 2017; Inan, Khosravi & Socher 2017).
        products: As for `cross_entropy`, in training.
    """

    def __init__(
        self, width: int, symbols: int, tied: nn.Embedding | None = None, products: Products = "float32"
    ) -> None:
        super().__init__()
        self.symbols = symbols
        self.products: Products = products
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

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """The sum over rows of -log p(target), in nats.

        Args:
            hidden: (N, H).
            targets: (N,) int64.
        """
        if not self.training:
            return F.cross_entropy(self.logits(hidden), targets, reduction="sum")
        return cross_entropy(hidden, self.matrix, self.bias, targets, products=self.products)

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

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """See `FullSoftmax.loss`; in training, the estimate."""
        if not self.training:
            return super().loss(hidden, targets)
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

    def loss(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """See `FullSoftmax.loss`."""
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
