"""Steps of a cell whose products are convolutions: the cell's own lines at every place of a frame.

Inside, channels come last, (B, H, W, C): so a body's vectors, `norm`, `join` and `p.W @ v` mean at each place what they
mean for a row. PyTorch's convolutions read such tensors as they lie ("channels last"), so nothing is copied for it.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.nn.functional import conv2d

from recurra.cells.form import Cell, Use
from recurra.cells.terms import Product
from recurra.engine.eager import CellStepper, adding


class ConvStepper(CellStepper):
    """Steps of a `Cell` in which W and U are kernels, each laid over the places around.

    What the cell declares of U stays: a diagonal U is a kernel for each channel, a U in blocks one for each head's
    channels, and a mask holds for channels at all places of the kernel. A frame is surrounded by zeros, and its size
    stays.

    Args:
        cell: The cell.
        use: How its body takes its net inputs.
        weights: Parameters by the names of `cell.shapes`: matrices W and U with two further axes, height and width of
            the kernel; vectors (C,), or (C, H, W) with a value for each place.
        drop: (B, H, W, K) factors laid on what U multiplies, or None.
    """

    def __init__(self, cell: Cell, use: Use, weights: Mapping[str, Tensor], drop: Tensor | None = None) -> None:
        by_place = {v.name: weights[v.name].movedim(0, -1) for v in cell.vectors if weights[v.name].dim() > 1}
        super().__init__(cell, use, {**weights, **by_place}, drop)

    def _projected(self, x: Tensor) -> Tensor:
        """W x of all gates at every step of x, (T, B, H, W, I)."""
        return convolve(x.flatten(0, 1), self.weight_ih, self.bias).unflatten(0, x.shape[:2])

    def _product(self, weights: Mapping[str, Tensor], gates: Sequence[str]) -> Product:
        U, G = weights["weight_hh"], len(self.cell.gates)
        chosen = [self.cell.gates.index(g) for g in gates]
        if self.cell.recurrent == "diagonal":
            by_head = U.view(G, -1, 1, *U.shape[1:]).transpose(0, 1)
        elif self.cell.recurrent == "blocks":
            by_head = U.view(len(U), G, -1, *U.shape[2:])
        else:
            by_gate = U.view(G, -1, *U.shape[1:])[chosen]
            if "mask_hh" in weights:
                by_gate = by_gate * weights["mask_hh"][..., None, None]
            dense = by_gate.flatten(0, 1)
            return adding(lambda v: convolve(v, dense, None))
        by_head = by_head[:, chosen]  # (heads, gates, rows, columns, height, width)
        kernel, heads = by_head.flatten(0, 2), len(by_head)
        # The channels of a head lie side by side, all its gates; here all heads of a gate are to.
        return adding(
            lambda v: convolve(v, kernel, None, heads).unflatten(-1, by_head.shape[:3]).transpose(-3, -2).flatten(-3)
        )


def convolve(v: Tensor, kernel: Tensor, bias: Tensor | None, groups: int = 1) -> Tensor:
    """A convolution over the places of frames, channels last: (B, H, W, K) to (B, H, W, rows).

    Args:
        v: The frames.
        kernel: (rows, K / groups, height, width), both odd.
        bias: (rows,) or None.
        groups: Groups of channels that do not see each other.
    """
    around = (kernel.shape[-2] // 2, kernel.shape[-1] // 2)
    return conv2d(v.movedim(-1, -3), kernel, bias, padding=around, groups=groups).movedim(-3, -1)
