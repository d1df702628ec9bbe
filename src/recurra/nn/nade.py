"""A distribution over vectors of zeros and ones whose entries depend on each other: NADE, told what came before."""

import torch
from torch import Tensor, nn

AT_ONCE = 1 << 22
"""Numbers of the hidden layer that are held at a time where no gradient is asked for."""


class Nade(nn.Module):
    """Conditional neural autoregressive distribution estimator (Larochelle & Murray 2011, eqs 2-5), in the form of the
    RNN-NADE (Boulanger-Lewandowski, Bengio & Vincent 2012, section 5).

    `p(v | h) = Π_k p(v_k | v_1 … v_(k-1), h)`, with
    `a_k = c + R_c h + Σ_(j<k) W_j v_j`,
    `p(v_k = 1 | …) = σ(b_k + (R_b h)_k + V_k · σ(a_k))`: each entry sees those before it, and the biases are what a
    recurrent network makes of the past.

    Args:
        input_size: Width of h.
        keys: Entries K of v.
        hidden_size: Width N of the hidden layer.
    """

    def __init__(self, input_size: int, keys: int, hidden_size: int) -> None:
        super().__init__()
        self.bias = nn.Linear(input_size, keys)
        self.hidden = nn.Linear(input_size, hidden_size)
        self.weight_in = nn.Parameter(torch.empty(keys, hidden_size))
        self.weight_out = nn.Parameter(torch.empty(keys, hidden_size))
        for weight in (self.weight_in, self.weight_out):
            nn.init.normal_(weight, std=hidden_size**-0.5)

    def logits(self, h: Tensor, v: Tensor) -> Tensor:
        """The logit of each entry given those before it.

        Args:
            h: (M, H).
            v: (M, K), of zeros and ones.

        Returns:
            (M, K).
        """
        if not torch.is_grad_enabled() and v.numel() * self.hidden.out_features > AT_ONCE:
            rows = max(1, AT_ONCE // (v.shape[-1] * self.hidden.out_features))
            pieces = zip(h.split(rows), v.split(rows), strict=True)
            return torch.cat([self.logits(some, their) for some, their in pieces])
        seen = v.unsqueeze(-1) * self.weight_in  # (M, K, N)
        before = seen.cumsum(-2) - seen
        active = torch.sigmoid(self.hidden(h).unsqueeze(-2) + before)
        return self.bias(h) + (active * self.weight_out).sum(-1)

    @torch.no_grad()
    def draw(self, h: Tensor, uniform: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
        """Draw entries one after another.

        Args:
            h: (M, H).
            uniform: (M, K), random numbers from 0 to 1; an entry is 1 where its own is below its probability.
            temperature: Logits are divided by it; 0 takes what is more probable.

        Returns:
            (M, K) of zeros and ones; and (M, K), the probability with which each was drawn.
        """
        bias, a = self.bias(h), self.hidden(h)
        drawn, chances = torch.empty_like(bias), torch.empty_like(bias)
        for k in range(bias.shape[-1]):
            logit = bias[:, k] + torch.sigmoid(a) @ self.weight_out[k]
            chances[:, k] = heated(logit, temperature)
            drawn[:, k] = (uniform[:, k] < chances[:, k]).to(h.dtype)
            a = a + drawn[:, k : k + 1] * self.weight_in[k]
        return drawn, chances

    @torch.no_grad()
    def marginals(self, h: Tensor, draws: int, seed: int = 0) -> Tensor:
        """The probability of each entry by itself, about: the mean, over draws of all entries, of its probability given
        those drawn before it.

        Args:
            h: (M, H).
            draws: How many for each row.
            seed: Of the draws.

        Returns:
            (M, K).
        """
        random = torch.Generator().manual_seed(seed)
        total = torch.zeros_like(self.bias(h))
        for _ in range(draws):
            uniform = torch.rand(total.shape, generator=random, dtype=torch.float64).to(h)
            total += self.draw(h, uniform)[1]
        return total / draws


def heated(logits: Tensor, temperature: float) -> Tensor:
    """Probabilities at a temperature: σ(logits / temperature); at 0 those above one half become 1, others 0."""
    return torch.sigmoid(logits / temperature) if temperature > 0 else (logits > 0).to(logits.dtype)
