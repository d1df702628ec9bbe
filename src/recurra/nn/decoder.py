"""The decoder of an encoder-decoder network: it reads what was said so far, and looks at a memory."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recurra.nn.arguments import whole
from recurra.nn.attention import Attention, Memory
from recurra.nn.recurrent import Recurrent

Feeding = Literal["none", "input", "between"]
FEEDINGS = ("none", "input", "between")


@dataclass(frozen=True)
class DecoderState:
    """All that the next step depends on, of R texts.

    Attributes:
        layers: The state of the recurrent layers.
        upper: "between": that of the layers above attention.
        vector: "input": the last step's vector, (R, C).
        memory: What attention looks at, of A sequences, each for R / A texts side by side; None without attention.
        beside: What is read at every step beside a symbol, (R, width); None where there is nothing.
        weights: The weights of the last step, (R, S); None without attention.
    """

    layers: Any
    upper: Any = None
    vector: Tensor | None = None
    memory: Memory | None = None
    beside: Tensor | None = None
    weights: Tensor | None = None

    def select(self, rows: Tensor) -> "DecoderState":
        """The texts in `rows`, (R',): as many of each sequence that is still there, side by side."""
        memory, R = self.memory, _rows(self.layers)
        if memory is not None:
            each = R // len(memory.values)
            sequences = torch.unique_consecutive(rows // each)
            if len(sequences) < len(memory.values):
                memory = memory.select(sequences)
        chosen = [None if v is None else v.index_select(0, rows) for v in (self.vector, self.beside, self.weights)]
        return DecoderState(
            selected(self.layers, rows), selected(self.upper, rows), chosen[0], memory, chosen[1], chosen[2]
        )


def selected(state: Any, rows: Tensor) -> Any:
    """The rows named, (R',), of the state of recurrent layers, or of a time-delay network; None of none."""
    if state is None:
        return None
    fields = [
        field.index_select(1, rows) if isinstance(field, Tensor) else [v.index_select(0, rows) for v in field]
        for field in state
    ]
    return tuple(fields) if type(state) is tuple else type(state)(*fields)


def _rows(state: Any) -> int:
    first = state[0]
    return first.shape[1] if isinstance(first, Tensor) else len(first[0])


class Decoder(nn.Module):
    """Recurrent layers over the symbols said so far, attention over a memory, and a vector at every step.

    With e_t the vector of the symbol said before step t (Cho et al. 2014; Sutskever, Vinyals & Le 2014),

        h_t = f(h_(t-1), e_t)                        no attention: the vector is h_t itself
        c_t = attention(h_t; m_1 … m_S)
        v_t = tanh(W [c_t; h_t] + b)                 Luong, Pham & Manning (2015), eq. 5

    and by `feeding` the contexts go back into the layers or not:

        none:     not. All steps of the layers, then all of attention, are one call each.
        input:    h_t = f(h_(t-1), [e_t; v_(t-1)])   ibid., section 3.3: one step after another
        between:  h_t of the lowest layer alone asks; the layers above read [h_t; c_t], and their states take the place
                  of h_t in v_t. All steps of each are one call, and the upper layers see every context so far (in the
                  manner of Wu et al. 2016, whose upper layers read the context of the lowest).

    Args:
        layers: The recurrent layers that read the symbols, of any cell, forward; time first.
        attention: None for a decoder that sees the memory's last state alone.
        feeding: "none", "input" or "between".
        upper: "between": the layers above, whose inputs are as wide as state and context together.
        size: Width C of the vectors; without attention they are as wide as the state, and None is expected.
        dropout: "between": share of h_t that is dropped, in training, on its way to the layers above, as between any
            two layers.

    Raises:
        ValueError: Parts that do not fit together.
    """

    def __init__(
        self,
        layers: Recurrent,
        attention: Attention | None = None,
        *,
        feeding: Feeding = "none",
        upper: Recurrent | None = None,
        size: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if feeding not in FEEDINGS:
            raise ValueError(f"feeding: one of {', '.join(FEEDINGS)} is expected, not {feeding!r}")
        if layers.bidirectional or layers.reverse:
            raise ValueError("layers: a decoder goes forward: bidirectional=False and reverse=False are expected")
        if attention is None and (feeding != "none" or size is not None):
            raise ValueError("feeding: 'none', and size: None are expected without attention")
        if (upper is None) == (feeding == "between"):
            raise ValueError("upper: layers above attention are expected with feeding='between', and only there")
        self.layers, self.attention, self.upper, self.feeding = layers, attention, upper, feeding
        self.size = layers.output_size
        if attention is not None:
            self.size = whole("size", layers.output_size if size is None else size)
            top = layers.output_size if upper is None else upper.output_size
            self.join = nn.Linear(attention.memory_size + top, self.size)
        self.dropout = nn.Dropout(dropout)

    @property
    def input_size(self) -> int:
        """Width of a symbol's vector and of what is read beside it."""
        return self.layers.input_size - (self.size if self.feeding == "input" else 0)

    def forward(self, inputs: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The vectors of T steps whose symbols are all known.

        Args:
            inputs: The vectors of the symbols, (T, R, width).
            state: The state to begin with.

        Returns:
            v, (T, R, C); the state after the last step, whose `weights` are those of all steps, (T, R, S).
        """
        if self.feeding == "input":
            vectors, weights = [], []
            for x in inputs:
                v, state = self.step(x, state)
                vectors.append(v)
                weights.append(state.weights)
            return torch.stack(vectors), replace(state, weights=torch.stack(weights))
        if state.beside is not None:
            inputs = torch.cat([inputs, state.beside.expand(len(inputs), -1, -1)], -1)
        h, layers = self.layers(inputs, state.layers)
        if self.attention is None:
            return h, replace(state, layers=layers)
        context, weights = self._look(h, state.memory)
        top, upper = h, state.upper
        if self.upper is not None:
            top, upper = self.upper(torch.cat([self.dropout(h), context], -1), state.upper)
        v = torch.tanh(self.join(torch.cat([context, top], -1)))
        return v, replace(state, layers=layers, upper=upper, weights=weights)

    def step(self, x: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """The vectors of one step, (R, C), and the state after it; `x` is (R, width)."""
        if self.feeding != "input":
            v, state = self(x.unsqueeze(0), state)
            return v[0], replace(state, weights=None if state.weights is None else state.weights[0])
        vector = x.new_zeros(len(x), self.size) if state.vector is None else state.vector
        parts = [x, vector] if state.beside is None else [x, state.beside, vector]
        h, layers = self.layers(torch.cat(parts, -1).unsqueeze(0), state.layers)
        context, weights = self._look(h, state.memory)
        v = torch.tanh(self.join(torch.cat([context, h], -1)))[0]
        return v, replace(state, layers=layers, vector=v, weights=weights[0])

    def _look(self, h: Tensor, memory: Memory | None) -> tuple[Tensor, Tensor]:
        """Contexts and weights for states (T, R, H); several texts of a sequence share its memory."""
        assert self.attention is not None
        assert memory is not None
        (T, R, H), A = h.shape, len(memory.values)
        if A == R:
            return self.attention(h, memory)
        each = R // A
        queries = h.view(T, A, each, H).transpose(1, 2).reshape(T * each, A, H)
        context, weights = self.attention(queries, memory)
        return tuple(v.reshape(T, each, A, -1).transpose(1, 2).reshape(T, R, -1) for v in (context, weights))


class Bridge(nn.Module):
    """The first state of recurrent layers from a vector: s = tanh(W x + b) for every field of the state.

    After Bahdanau, Cho & Bengio (2015), section A.2.2, there of a GRU's one field. Fields that count steps, and those
    that begin at infinity, begin as the cell says.

    Args:
        size: Width of the vector.
        layers: The layers whose state is made.
        bounded: Whether by a tanh; else s = W x + b, for states that may be of any size.
    """

    def __init__(self, size: int, layers: Recurrent, *, bounded: bool = True) -> None:
        super().__init__()
        self.bounded = bounded
        self.layers = [layers]  # in a list, so that it does not count as a part of this one
        self.map = nn.Linear(size, sum(width for row in self._widths() for width in row if width))

    def _widths(self) -> list[list[int]]:
        """The width of each field of each layer; 0 for one that is not made here."""
        (layers,) = self.layers
        return [
            [
                width if layers._is_learnt(field) else 0
                for field, width in zip(layers.form.fields, place.widths, strict=True)
            ]
            for place in layers._places
        ]

    def forward(self, x: Tensor) -> Any:
        """The state, as `Recurrent` takes it, for vectors (B, size)."""
        (layers,) = self.layers
        begun = layers._initial(x.new_zeros(1, len(x), layers.input_size), len(x))
        values = torch.tanh(self.map(x)) if self.bounded else self.map(x)
        rows, place = [], 0
        for widths, fields in zip(self._widths(), begun, strict=True):
            row = []
            for width, field in zip(widths, fields, strict=True):
                row.append(values[:, place : place + width] if width else field)
                place += width
            rows.append(row)
        return layers._gathered(rows)
