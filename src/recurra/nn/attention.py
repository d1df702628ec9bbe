"""Attention: a vector for each query, the mean of a memory's steps by how well they answer it."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from recurra.errors import unknown
from recurra.nn.arguments import whole, within_lengths

KINDS = ("additive", "dot", "general")
Kind = Literal["additive", "dot", "general"]


class Memory(NamedTuple):
    """The steps of B sequences that attention looks at, made once for all queries; rows first.

    Attributes:
        values: What is averaged, (B, S, M); zero where it is padding.
        keys: What queries are compared with, (B, S, K).
        padded: (B, 1, S), True behind a sequence's end; None where all have S steps.
        has_empty: Whether some sequence has no step at all.
    """

    values: Tensor
    keys: Tensor
    padded: Tensor | None
    has_empty: bool

    def select(self, rows: Tensor) -> "Memory":
        """The memories of the sequences in `rows`, (B',), which may name one several times."""
        padded = None if self.padded is None else self.padded.index_select(0, rows)
        return Memory(self.values.index_select(0, rows), self.keys.index_select(0, rows), padded, self.has_empty)


class Attention(nn.Module):
    """Content-based attention over the steps of a padded memory.

    With a query q (the state of a decoder) and the memory's steps m_1 … m_S, a step's weight and the context are

        α_s = exp(e_s) / Σ_r exp(e_r)
        c   = Σ_s α_s m_s

    and the score e_s is, by kind,

        additive:  v · tanh(W q + U m_s + b)    Bahdanau, Cho & Bengio (2015), section A.1.2
        dot:       q · m_s                      Luong, Pham & Manning (2015), eq. 8
        general:   q · (U m_s)                  ibid.

    Args:
        kind: "additive", "dot" or "general".
        query_size: Width Q of a query.
        memory_size: Width M of a memory's step; "dot" needs M = Q.
        hidden_size: additive: width of what tanh is taken of; Q when left out.
        scaled: Divide the scores of dot and general by √Q, so that they do not grow with the width (Vaswani et al.
            2017, section 3.2.1).

    Raises:
        ValueError: A kind that there is not, or widths that do not fit.

    Example:
        >>> attention = Attention("general", query_size=4, memory_size=6)
        >>> context, weights = attention(torch.zeros(3, 2, 4), torch.randn(5, 2, 6), lengths=[5, 2])
        >>> context.shape, weights[0, 1].tolist()
        (torch.Size([3, 2, 6]), [0.5, 0.5, 0.0, 0.0, 0.0])
    """

    def __init__(
        self, kind: Kind, query_size: int, memory_size: int, *, hidden_size: int | None = None, scaled: bool = False
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(unknown("attention", str(kind), KINDS))
        self.kind: Kind = kind
        self.query_size, self.memory_size = whole("query_size", query_size), whole("memory_size", memory_size)
        if kind == "dot" and query_size != memory_size:
            raise ValueError(
                f"memory_size: {query_size} is expected, as query_size is, for attention 'dot', not {memory_size}; "
                "'general' takes any width"
            )
        if hidden_size is not None and kind != "additive":
            raise ValueError(f"hidden_size: None is expected with {kind!r}, which has no hidden layer")
        if scaled and kind == "additive":
            raise ValueError("scaled: False is expected with 'additive', whose scores do not grow with the width")
        self.scaled = scaled
        width = query_size if hidden_size is None else whole("hidden_size", hidden_size)
        if kind != "dot":
            self.key = nn.Linear(memory_size, width, bias=False)
        if kind == "additive":
            self.query = nn.Linear(query_size, width)
            self.score = nn.Linear(width, 1, bias=False)

    def memory(self, values: Tensor, lengths: Tensor | Sequence[int] | None = None) -> Memory:
        """A memory made ready for any number of queries.

        Args:
            values: (S, B, M).
            lengths: (B,) steps of each sequence, 0 allowed; None where all have S.

        Raises:
            ValueError: Sizes that do not fit.
        """
        if values.dim() != 3 or values.shape[-1] != self.memory_size:
            raise ValueError(f"memory: (S, B, {self.memory_size}) is expected, not {tuple(values.shape)}")
        padded, has_empty = None, len(values) == 0
        if lengths is not None:
            within = within_lengths(lengths, len(values), values.shape[1], values.device)
            padded = ~within.T.unsqueeze(1)
            has_empty = has_empty or not bool(within.any(0).all())
            # Whatever stands behind the end, a number that is none too, would come back by 0 · NaN.
            values = torch.where(within.unsqueeze(-1), values, values.new_zeros(()))
        values = values.transpose(0, 1).contiguous()
        keys = values if self.kind == "dot" else self.key(values)
        return Memory(values, keys, padded, has_empty)

    def forward(
        self, query: Tensor, memory: Tensor | Memory, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Contexts and weights.

        Args:
            query: (T, B, Q), or (B, Q) for one query a sequence.
            memory: (S, B, M), or what `memory` made of it.
            lengths: (B,) steps of each sequence of a memory that is a tensor.

        Returns:
            The contexts, (T, B, M) or (B, M); the weights, (T, B, S) or (B, S), zero on padding, with a sum of 1 where
            a sequence has any step at all.

        Raises:
            ValueError: Sizes that do not fit.
        """
        if query.dim() == 2:
            context, weights = self(query.unsqueeze(0), memory, lengths)
            return context.squeeze(0), weights.squeeze(0)
        if query.dim() != 3 or query.shape[-1] != self.query_size:
            raise ValueError(f"query: (T, B, {self.query_size}) is expected, not {tuple(query.shape)}")
        ready = self.memory(memory, lengths) if isinstance(memory, Tensor) else memory
        if len(ready.values) != query.shape[1]:
            raise ValueError(f"memory: {query.shape[1]} sequences are expected, as in query, not {len(ready.values)}")
        weights = self._weights(query.transpose(0, 1), ready)
        context = torch.bmm(weights, ready.values)
        return context.transpose(0, 1), weights.transpose(0, 1)

    def _weights(self, query: Tensor, memory: Memory) -> Tensor:
        """(B, T, S) for queries (B, T, Q)."""
        if self.kind == "additive":
            both = self.query(query).unsqueeze(2) + memory.keys.unsqueeze(1)
            scores = self.score(torch.tanh(both)).squeeze(-1)
        else:
            scores = torch.bmm(query, memory.keys.transpose(1, 2))
            if self.scaled:
                scores = scores / math.sqrt(self.query_size)
        if memory.padded is not None:
            scores = scores.masked_fill(memory.padded, -torch.inf)
        weights = torch.softmax(scores, -1)
        if memory.has_empty and memory.padded is not None:  # nothing to look at has weights 0, not 0 / 0
            weights = weights.masked_fill(memory.padded, 0.0)
        return weights

    def extra_repr(self) -> str:
        """What `print(module)` shows."""
        parts: list[Any] = [repr(self.kind), self.query_size, self.memory_size]
        return ", ".join(map(str, parts)) + (", scaled=True" if self.scaled else "")


class AttentionPool(nn.Module):
    """Attention as a pooling: a vector for each sequence, its steps weighted by how well they answer a learnt query.

    Yang, Yang, Dyer, He, Smola & Hovy (2016), eqs 5-7, where h_t are the states of a recurrent layer and the query v
    is a parameter ("u_w" there):

        e_t = v · tanh(W h_t + b)
        α_t = exp(e_t) / Σ_s exp(e_s)
        c   = Σ_t α_t h_t

    Args:
        input_size: Width M of a step.
        hidden_size: Width of what tanh is taken of; M when left out.

    Example:
        >>> pooled, weights = AttentionPool(6)(torch.randn(5, 2, 6), lengths=[5, 2])
        >>> pooled.shape, weights.shape, weights[2:, 1].tolist()
        (torch.Size([2, 6]), torch.Size([5, 2]), [0.0, 0.0, 0.0])
    """

    def __init__(self, input_size: int, hidden_size: int | None = None) -> None:
        super().__init__()
        self.input_size = whole("input_size", input_size)
        width = self.input_size if hidden_size is None else whole("hidden_size", hidden_size)
        self.hidden = nn.Linear(self.input_size, width)
        self.query = nn.Linear(width, 1, bias=False)

    def forward(self, steps: Tensor, lengths: Tensor | Sequence[int] | None = None) -> tuple[Tensor, Tensor]:
        """The pooled vectors and the weights.

        Args:
            steps: (T, B, M), T at least 1.
            lengths: (B,) steps of each sequence; None where all have T. A sequence without any has weights 0.

        Returns:
            (B, M), and (T, B): zero on padding, with a sum of 1 over each sequence.

        Raises:
            ValueError: Sizes that do not fit.
        """
        if steps.dim() != 3 or steps.shape[-1] != self.input_size or not len(steps):
            raise ValueError(f"steps: (T, B, {self.input_size}) is expected, not {tuple(steps.shape)}")
        within = None
        if lengths is not None:
            within = within_lengths(lengths, len(steps), steps.shape[1], steps.device)
            steps = torch.where(within.unsqueeze(-1), steps, steps.new_zeros(()))
        scores = self.query(torch.tanh(self.hidden(steps))).squeeze(-1)
        if within is not None:
            scores = scores.masked_fill(~within, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, 0)
        if within is not None:  # of a sequence without steps all scores are alike
            weights = weights.masked_fill(~within, 0.0)
        return torch.einsum("tb,tbm->bm", weights, steps), weights
