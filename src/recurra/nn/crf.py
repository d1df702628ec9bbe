"""A conditional random field over a chain: the tags of a sentence scored together rather than one by one."""

import torch
from torch import Tensor, nn

IMPOSSIBLE = -1e4
"""Score of what may not be: its probability is exactly 0 in single precision too, and no gradient becomes NaN."""


class CRF(nn.Module):
    """Linear-chain conditional random field (Lafferty, McCallum & Pereira 2001, eqs 1 and 2).

    p(y | x) = exp(s(y)) / Z with s(y) = b_(y_1) + Σ_t e_(t, y_t) + Σ_t A_(y_(t-1), y_t) + c_(y_T), where the emissions
    e come from a network, and Z sums exp(s) over all paths y.

    Args:
        tags: K.
        begins: (K,) bool, the tags that may begin a sentence; None: all.
        follows: (K, K) bool, whether the second may follow the first; None: all.
        ends: (K,) bool, the tags that may end a sentence; None: all.

    Shapes:
        start, end: (K,), b and c. transition: (K, K), A, from the row's tag to the column's.
    """

    may_begin: Tensor
    may_follow: Tensor
    may_end: Tensor

    def __init__(
        self, tags: int, begins: Tensor | None = None, follows: Tensor | None = None, ends: Tensor | None = None
    ) -> None:
        super().__init__()
        self.start = nn.Parameter(torch.zeros(tags))
        self.transition = nn.Parameter(torch.zeros(tags, tags))
        self.end = nn.Parameter(torch.zeros(tags))
        for name, given, shape in (
            ("may_begin", begins, (tags,)),
            ("may_follow", follows, (tags, tags)),
            ("may_end", ends, (tags,)),
        ):
            allowed = torch.ones(shape, dtype=torch.bool) if given is None else given.clone()
            if allowed.shape != shape:
                raise ValueError(f"{name}: has the shape {tuple(allowed.shape)}, expected {shape}")
            self.register_buffer(name, allowed, persistent=False)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """b, A and c, with what is not allowed made impossible."""
        return (
            self.start.masked_fill(~self.may_begin, IMPOSSIBLE),
            self.transition.masked_fill(~self.may_follow, IMPOSSIBLE),
            self.end.masked_fill(~self.may_end, IMPOSSIBLE),
        )

    def log_likelihood(self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log p(y | x) of each sentence, (B,) in nats.

        Args:
            emissions: (T, B, K).
            tags: (T, B) int64; whatever stands behind a sentence's end is not looked at.
            lengths: (B,), at least 1 each; None where all have T steps.
        """
        return self.score(emissions, tags, lengths) - self.log_partition(emissions, lengths)

    def score(self, emissions: Tensor, tags: Tensor, lengths: Tensor | None = None) -> Tensor:
        """s(y), (B,); arguments as for `log_likelihood`."""
        start, transition, end = self.scores()
        valid = _valid(emissions, lengths)
        tags = tags.where(valid, 0)
        each = emissions.gather(-1, tags.unsqueeze(-1)).squeeze(-1)
        moved = transition[tags[:-1], tags[1:]].where(valid[1:], 0)
        last = tags[-1] if lengths is None else tags.gather(0, _row(lengths, emissions) - 1).squeeze(0)
        return start[tags[0]] + each.where(valid, 0).sum(0) + moved.sum(0) + end[last]

    def log_partition(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """log Z, (B,), by the forward recursion α_t(j) = e_(t, j) + log Σ_i exp(α_(t-1)(i) + A_(i, j))."""
        *_, last = self._forward(emissions, lengths)
        return torch.logsumexp(last + self.scores()[2], -1)

    @torch.no_grad()
    def marginals(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """p(y_t = k | x) by the forward–backward algorithm, (T, B, K); zero behind a sentence's end."""
        _, transition, end = self.scores()
        valid = _valid(emissions, lengths)
        forward = torch.stack(self._forward(emissions, lengths))
        moves = transition.t().exp()
        beta = end.expand_as(emissions[0])
        backward = [beta]
        for t in range(len(emissions) - 1, 0, -1):
            beta = torch.where(valid[t].unsqueeze(-1), _log_matmul(beta + emissions[t], moves), beta)
            backward.append(beta)
        both = forward + torch.stack(backward[::-1])
        return both.softmax(-1) * valid.unsqueeze(-1)

    @torch.no_grad()
    def decode(self, emissions: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The path of highest score (Viterbi 1967), (T, B) int64; 0 behind a sentence's end."""
        start, transition, end = self.scores()
        valid = _valid(emissions, lengths)
        best = start + emissions[0]
        came_from = []
        for t in range(1, len(emissions)):
            score, origin = (best.unsqueeze(-1) + transition).max(1)
            going = valid[t].unsqueeze(-1)
            best = torch.where(going, score + emissions[t], best)
            # Behind the end a tag comes from itself, so that the last step's choice is handed back to the end.
            came_from.append(torch.where(going, origin, torch.arange(len(start), device=origin.device)))
        tag = (best + end).argmax(-1)
        path = [tag]
        for origin in reversed(came_from):
            tag = origin.gather(1, tag.unsqueeze(1)).squeeze(1)
            path.append(tag)
        return torch.stack(path[::-1]).where(valid, 0)

    def _forward(self, emissions: Tensor, lengths: Tensor | None) -> list[Tensor]:
        """α_t of every step, (B, K) each, held where a sentence has ended."""
        start, transition, _ = self.scores()
        valid = None if lengths is None else _valid(emissions, lengths).unsqueeze(-1)
        moves = transition.exp()
        alpha = start + emissions[0]
        every = [alpha]
        for t in range(1, len(emissions)):
            moved = _log_matmul(alpha, moves) + emissions[t]
            alpha = moved if valid is None else torch.where(valid[t], moved, alpha)
            every.append(alpha)
        return every


def _log_matmul(logs: Tensor, weights: Tensor) -> Tensor:
    """log Σ_i exp(logs_(b, i)) · weights_(i, j), (B, K).

    A matrix product instead of (B, K, K) exponentials. What is below the largest by more than single precision can say
    is raised to that bound, where it adds nothing.
    """
    top = logs.detach().amax(-1, keepdim=True)
    total = (logs - top).exp() @ weights
    return total.clamp(min=torch.finfo(logs.dtype).tiny).log() + top


def _valid(emissions: Tensor, lengths: Tensor | None) -> Tensor:
    """(T, B) bool: the steps that belong to their sentence."""
    steps = torch.arange(len(emissions), device=emissions.device).unsqueeze(1)
    if lengths is None:
        return (steps >= 0).expand(emissions.shape[:2])
    return steps < lengths.to(emissions.device)


def _row(lengths: Tensor, like: Tensor) -> Tensor:
    return lengths.to(like.device).unsqueeze(0)
