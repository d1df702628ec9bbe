"""`Writer`: a language model that writes, a symbol at a time, with nothing between two steps that can be spared."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recurra.nn.decoding import join_rows, select_rows
from recurra.nn.recurrent import Recurrent
from recurra.nn.stream import Stream

AT_ONCE = 4096
"""Symbols of a prompt that are read in one go."""


class Writer:
    """Recurrent layers that read symbols and score those that may follow, one step after another.

    Steps are taken by a `Stream`; the symbols' vectors are looked up, and the scores computed, in NumPy. A step of a
    small model is then hardly more than what its matrices cost.

    Args:
        recurrent: Layers in one direction, on the CPU, in float32 or float64.
        embedding: (V, E), the symbols' vectors.
        output: What scores the symbols: W (V, H) and b (V,) of `W h + b`; or a function from the last layer's output,
            (B, H), to log-probabilities, (B, V).
        rows: Texts B that are written side by side.
        backend: As for `Stream`.

    Example:
        >>> writer = Writer(Recurrent("gru", 3, 4), torch.zeros(9, 3), (torch.zeros(9, 4), torch.zeros(9)), rows=2)
        >>> writer.read([[1, 2, 3], [4]])  # all but the last symbol of each
        >>> writer.step(np.array([3, 4])).shape
        (2, 9)
    """

    def __init__(
        self,
        recurrent: Recurrent,
        embedding: Tensor,
        output: tuple[Tensor, Tensor] | Callable[[Tensor], Tensor],
        rows: int = 1,
        *,
        backend: Literal["auto", "eager", "native"] = "auto",
    ) -> None:
        self._recurrent, self._vectors, self._output = recurrent, embedding, output
        self._backend: Literal["auto", "eager", "native"] = backend
        self._stream = Stream(recurrent, rows, backend=backend)
        self._embedding = embedding.detach().numpy()
        dtype = self._embedding.dtype
        self._hidden = np.empty((rows, self._stream.output_size), dtype)
        self._given = torch.from_numpy(self._hidden)  # the same memory
        if isinstance(output, tuple):
            weight, self._bias = (v.detach().numpy() for v in output)
            self._weight = weight.T
            self._scores = np.empty((rows, len(weight)), dtype)

    @property
    def rows(self) -> int:
        """Texts that are written side by side."""
        return self._stream.rows

    @property
    def explanation(self) -> str:
        """What takes the steps, and why."""
        return self._stream.reason

    @property
    def state(self) -> Any:
        """The recurrent layers' state, a copy; see `Stream.state`."""
        return self._stream.state

    def read(self, prompts: Sequence[Sequence[int]]) -> None:
        """Begin anew, each text with a prompt, which is read but for its last symbol: that is for the first step.

        Each prompt is read by itself, so that what stands beside it changes nothing.

        Args:
            prompts: B lists of symbols, none of them empty. One that is there several times is read once.
        """
        one = self._stream if self.rows == 1 else Stream(self._recurrent, backend=self._backend)
        states: dict[tuple[int, ...], Any] = {}
        for prompt in map(tuple, prompts):
            if prompt in states:
                continue
            one.reset()
            for first in range(0, len(prompt) - 1, AT_ONCE):
                one.block(self._embedding[list(prompt[first : min(first + AT_ONCE, len(prompt) - 1)])])
            states[prompt] = one.state
        if one is not self._stream:
            self._stream.state = join_rows([states[tuple(prompt)] for prompt in prompts])

    def step(self, symbols: np.ndarray) -> np.ndarray:
        """Read a symbol of each text.

        Args:
            symbols: (B,) whole numbers.

        Returns:
            (B, V), log-probabilities of the next symbol, but for a number for each row. The next step writes over it.
        """
        self._stream.step(self._embedding.take(symbols, 0), self._hidden)
        if not isinstance(self._output, tuple):
            with torch.no_grad():
                return self._output(self._given).numpy()
        scores = np.matmul(self._hidden, self._weight, out=self._scores)
        scores += self._bias
        return scores

    def kept(self, rows: Sequence[int]) -> "Writer":
        """A writer that goes on with some of the texts, in this order."""
        other = Writer(self._recurrent, self._vectors, self._output, len(rows), backend=self._backend)
        other._stream.state = select_rows(self.state, torch.tensor(rows))
        return other
