"""`ConvRecurrent`: any cell along a film, its products convolutions over the places of a frame."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from recurra.cells import find
from recurra.cells.form import Cell, Start
from recurra.engine.convolution import ConvStepper
from recurra.engine.eager import State
from recurra.nn.arguments import FrameLayout, Layout, whole
from recurra.nn.recurrent import Choice, Recurrent, _Place


class ConvRecurrent(Recurrent):
    """A recurrent layer, or a stack of them, of any cell, whose state is a picture (Shi et al. 2015).

    Where the cell multiplies by W or U, kernels are laid over the places around: in each of its equations W x_t is
    W ∗ x_t and U h_(t-1) is U ∗ h_(t-1). With `lstm_peephole` it is the ConvLSTM of the paper, with `gru` a ConvGRU.
    Frames are surrounded by zeros, and keep their size, which may be another at every call. What the cell says at each
    place is as it stands: `norm` is over the channels of a place, a further matrix is a convolution of one place.

    Args:
        cell: A cell, or the name of one. (A plain function has products of its own; `Recurrent` runs it.)
        input_channels: Channels I of a frame.
        hidden_channels: Channels C of the state; one number, or one for each layer.
        kernel_size: Height and width of the kernels, odd.
        num_layers: Layers, each reading the states of the one below.
        input_kernel_size: That of W, where it is another.
        frame_size: Height and width of all frames, where the cell's vectors (the peepholes of `lstm_peephole`) are to
            have a value of their own at each place, as in the paper. Without it they have one for each channel, so that
            the same network reads frames of any size.
        bidirectional: As `Recurrent` has it; likewise all that follow. The feed-forward layers of `input_layers` and
            `output_layers`, and the matrices of `skip`, see one place.
        reverse: See there.
        batch_first: See there.
        dropout: See there.
        input_dropout: See there.
        recurrent_dropout: See there.
        weight_drop: See there.
        zoneout: See there.
        skip: See there.
        learn_initial_state: See there; a first value for each channel.
        input_layers: See there.
        output_layers: See there.
        path_activation: See there.
        init: See there; "identity" is a kernel that is 1 in its middle.
        memory: See there.
        device: See there.
        dtype: See there.

    Parameters are those of `Recurrent`; `weight_ih_l0` (gates * C, I, k, k) and `weight_hh_l0` (gates * C, C, k, k) are
    kernels. A diagonal U is (gates * C, 1, k, k): each channel sees its own past only.

    Raises:
        ValueError: An argument that cannot be, named with what is accepted.
        CellError: A cell whose body and declaration disagree.

    Example:
        >>> layer = ConvRecurrent("lstm", 1, 8, kernel_size=3, batch_first=True)
        >>> output, state = layer(torch.zeros(4, 10, 1, 16, 12), lengths=[10, 5, 0, 7])
        >>> output.shape, state.c.shape
        (torch.Size([4, 10, 8, 16, 12]), torch.Size([1, 4, 8, 16, 12]))
    """

    _axes: ClassVar[tuple[str, ...]] = ("C", "H", "W")
    _steps = ConvStepper

    def __init__(
        self,
        cell: Cell | str,
        input_channels: int,
        hidden_channels: int | Sequence[int],
        kernel_size: int = 3,
        num_layers: int = 1,
        *,
        input_kernel_size: int | None = None,
        frame_size: tuple[int, int] | None = None,
        bidirectional: bool = False,
        reverse: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float = 0.0,
        skip: Literal["residual", "highway"] | None = None,
        learn_initial_state: bool = False,
        input_layers: Sequence[int] = (),
        output_layers: Sequence[int] = (),
        path_activation: Any = "tanh",
        init: str | Mapping[str, Start] | None = None,
        memory: Literal["store", "recompute"] = "store",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        found = find(cell) if isinstance(cell, str) else cell
        if not isinstance(found, Cell):
            raise ValueError(f"cell: a cell or its name is expected, whose products can be convolutions, not {cell!r}")
        # Before the parameters are made, whose shapes they settle.
        self.kernel_size = _odd("kernel_size", kernel_size)
        self.input_kernel_size = _odd(
            "input_kernel_size", kernel_size if input_kernel_size is None else input_kernel_size
        )
        self.frame_size = None if frame_size is None else _size(frame_size)
        super().__init__(
            found,
            input_channels,
            hidden_channels,
            num_layers,
            bidirectional=bidirectional,
            reverse=reverse,
            batch_first=batch_first,
            dropout=dropout,
            input_dropout=input_dropout,
            recurrent_dropout=recurrent_dropout,
            weight_drop=weight_drop,
            zoneout=zoneout,
            skip=skip,
            learn_initial_state=learn_initial_state,
            input_layers=input_layers,
            output_layers=output_layers,
            path_activation=path_activation,
            init=init,
            memory=memory,
            device=device,
            dtype=dtype,
        )
        if self.frame_size is not None:
            self._try()

    @torch.no_grad()
    def _try(self) -> None:
        """Run one frame.

        Raises:
            ValueError: The cell takes a vector in a way in which it cannot have a value for each place.
        """
        like = next(self.parameters())
        assert self.frame_size is not None
        try:
            self(like.new_zeros(1, 1, self.input_size, *self.frame_size))
        except RuntimeError as error:
            raise ValueError(
                f"frame_size: cell {self.form.name!r} has vectors over the channels of a place, as of a norm, which "
                "are the same at all places; leave it out"
            ) from error

    def _shapes(self, place: _Place) -> dict[str, tuple[int, ...]]:
        shapes = super()._shapes(place)
        assert isinstance(self.cell, Cell)
        for name, size in (("weight_ih", self.input_kernel_size), ("weight_hh", self.kernel_size)):
            if name in shapes:
                columns = () if len(shapes[name]) > 1 else (1,)  # of a diagonal
                shapes[name] = (*shapes[name], *columns, size, size)
        if self.frame_size is not None:
            shapes |= {v.name: (*shapes[v.name], *self.frame_size) for v in self.cell.vectors}
        return shapes

    def _choose(self) -> Choice:
        return Choice("eager", "its products are convolutions, which run one step after another in tensor code")

    def _forward_packed(self, x: PackedSequence, state: Any, *others: Any) -> tuple[Any, ...]:
        raise ValueError("x: frames are expected as a tensor, padded to the longest film, beside lengths; not packed")

    def _check_axes(self, x: Tensor) -> None:
        if x.dim() not in (4, 5):
            raise ValueError(f"x: (T, B, C, H, W), (B, T, C, H, W) or (T, C, H, W) is expected, not {tuple(x.shape)}")
        if x.shape[-3] != self.input_size:
            raise ValueError(f"x: input_channels is {self.input_size}, but {tuple(x.shape)} has {x.shape[-3]}")
        if self.frame_size not in (None, tuple(x.shape[-2:])):
            raise ValueError(f"x: frame_size is {self.frame_size}, but its frames are {tuple(x.shape[-2:])}")

    def _layout(self, x: Tensor) -> Layout:
        return FrameLayout(x.dim() == 4, self.batch_first, *x.shape[-2:])

    def _fixed(self, place: _Place, x: Tensor, B: int) -> State:
        rows = self.form.initial_state(1, place.hidden_size, x)
        return tuple(row.expand(B, *x.shape[2:4], -1) for row in rows)

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        cell, channels, hidden, *others = super().extra_repr().split(", ")
        own = [f"kernel_size={self.kernel_size}"]
        if self.input_kernel_size != self.kernel_size:
            own.append(f"input_kernel_size={self.input_kernel_size}")
        if self.frame_size is not None:
            own.append(f"frame_size={self.frame_size}")
        return ", ".join([cell, channels, hidden, *own, *others])


def _odd(name: str, value: Any) -> int:
    """An odd number, so that a kernel has a middle."""
    if whole(name, value) % 2 == 0:
        raise ValueError(f"{name}: an odd number is expected, so that the kernel has a middle, not {value}")
    return int(value)


def _size(value: Any) -> tuple[int, int]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError(f"frame_size: height and width are expected, such as (16, 16), not {value!r}")
    return whole("frame_size", value[0]), whole("frame_size", value[1])
