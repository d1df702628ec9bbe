"""Layers that can answer as a recurrent node of ONNX does."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from recurra.nn.recurrent import Recurrent


class OnnxLayer(nn.Module):
    """What `from_onnx` gives: a layer that is called as any other, and can answer as the node of ONNX does."""

    batch_first: bool
    input_size: int
    hidden_size: Any
    bidirectional: bool

    def as_node(
        self,
        X: Tensor,
        sequence_lens: Tensor | Sequence[int] | None = None,
        initial_h: Tensor | None = None,
        initial_c: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Answer as the node does.

        Args:
            X: (T, B, I); with layout 1, (B, T, I).
            sequence_lens: (B,) steps of each sequence. Outputs after them are zero, as ONNX has it.
            initial_h: (directions, B, H); with layout 1, (B, directions, H). Zero where it is not given.
            initial_c: Likewise, of an LSTM.

        Returns:
            Y, (T, directions, B, H), or (B, T, directions, H) with layout 1; then Y_h and, of an LSTM, Y_c, laid out
            as `initial_h` is. A row of length 0 ends with the state that it began with.

        Raises:
            ValueError: Sizes or types that do not fit.
        """
        if X.dim() != 3:
            raise ValueError(f"X: {'(B, T, I)' if self.batch_first else '(T, B, I)'} is expected, not {tuple(X.shape)}")
        for name, given in (("initial_h", initial_h), ("initial_c", initial_c)):
            if given is not None and given.dim() != 3:
                raise ValueError(f"{name}: 3 dimensions are expected, not {tuple(given.shape)}")
        state = None
        if initial_h is not None or initial_c is not None:
            zero = X.new_zeros(1 + self.bidirectional, X.shape[not self.batch_first], self.hidden_size)
            state = [zero if given is None else self._turned(given) for given in (initial_h, initial_c)]
            state = state[: len(self.state_type._fields)]
        output, final = self(X, state, lengths=sequence_lens)
        Y = output.unflatten(-1, (1 + self.bidirectional, self.hidden_size))
        return (Y if self.batch_first else Y.transpose(1, 2), *(self._turned(field) for field in final))

    @property
    def state_type(self) -> Any:
        """The named tuple of the state's fields."""
        raise NotImplementedError

    def _turned(self, state: Tensor) -> Tensor:
        return state.transpose(0, 1) if self.batch_first else state


class OnnxRecurrent(Recurrent, OnnxLayer):
    """A node as a `Recurrent` layer: both directions have the same activations."""


class OnnxDirections(OnnxLayer):
    """A bidirectional node whose directions have activations of their own: a layer for each.

    Args:
        ahead: The forward direction.
        back: The other one, a layer with `reverse`.
    """

    def __init__(self, ahead: Recurrent, back: Recurrent) -> None:
        super().__init__()
        self.ahead, self.back = ahead, back
        self.batch_first, self.bidirectional = ahead.batch_first, True
        self.input_size, self.hidden_size = ahead.input_size, ahead.hidden_size

    @property
    def state_type(self) -> Any:
        """The named tuple of the state's fields."""
        return self.ahead.state_type

    def forward(self, x: Tensor, state: Any = None, **options: Any) -> tuple[Any, ...]:
        """As `Recurrent` of two directions, with the same arguments."""
        halves = [None, None] if state is None else [_half(state, k) for k in range(2)]
        ran = [run(x, half, **options) for run, half in zip((self.ahead, self.back), halves, strict=True)]
        output, *states = zip(*ran, strict=True)
        joined = [self.state_type(*map(torch.cat, zip(*both, strict=True))) for both in states]
        return torch.cat(output, -1), *joined


def _half(state: Any, direction: int) -> tuple[Tensor, ...]:
    """The state of one of two directions."""
    fields = (state,) if isinstance(state, Tensor) else state
    return tuple(field[direction : direction + 1] for field in fields)
