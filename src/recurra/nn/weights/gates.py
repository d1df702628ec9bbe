"""The parameters of one layer and direction taken apart by gate, and put together again in another order."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from recurra.cells.form import Cell
from recurra.nn.recurrent import Recurrent


@dataclass
class Gates:
    """One layer and direction, by gate.

    Attributes:
        W: (H, I) of each gate.
        U: (H, K) of each gate, K the width of what U multiplies.
        b: (H,) of each gate; none where there is no bias.
        second: (H,) of each gate, the bias beside `U h`, where there are two.
        extras: Vectors and matrices under the cell's names for them.
    """

    W: dict[str, Tensor]
    U: dict[str, Tensor]
    b: dict[str, Tensor] = field(default_factory=dict)
    second: dict[str, Tensor] = field(default_factory=dict)
    extras: dict[str, Tensor] = field(default_factory=dict)


def split(stacked: Tensor, order: str) -> dict[str, Tensor]:
    """The rows of each gate of a tensor in which they are stacked in this order, "i f g o"."""
    names = order.split()
    return dict(zip(names, stacked.chunk(len(names)), strict=True))


def stack(by_gate: dict[str, Tensor], order: str) -> Tensor:
    """The inverse of `split`."""
    return torch.cat([by_gate[name] for name in order.split()])


@torch.no_grad()
def put(layer: Recurrent, suffix: str, given: Gates) -> None:
    """Copy parameters into a layer; `suffix` says where, as in "_l0_reverse".

    A gate that the cell does not have is left out, which is right where it takes that gate from another one.
    Biases that are not given are zero, and two biases are added where the cell has one.
    """
    assert isinstance(layer.cell, Cell)
    zero = {gate: W.new_zeros(len(W)) for gate, W in given.W.items()}
    first, second, order = given.b or zero, given.second or zero, " ".join(layer.cell.gates)
    values = {"weight_ih": stack(given.W, order), "weight_hh": stack(given.U, order), **given.extras}
    if layer.cell.biases == 2:
        values |= {"bias_ih": stack(first, order), "bias_hh": stack(second, order)}
    else:
        values["bias"] = stack(first, order) + stack(second, order)
    for name, value in values.items():
        layer.get_parameter(name + suffix).copy_(value)


def taken(layer: Recurrent, suffix: str) -> Gates:
    """The parameters of a layer of a dense cell, by gate; the inverse of `put`."""
    cell = layer.cell
    assert isinstance(cell, Cell)
    order = " ".join(cell.gates)

    def found(name: str) -> Tensor:
        return layer.get_parameter(name + suffix).detach()

    two = cell.biases == 2
    return Gates(
        W=split(found("weight_ih"), order),
        U=split(found("weight_hh"), order),
        b=split(found("bias_ih" if two else "bias"), order),
        second=split(found("bias_hh"), order) if two else {},
        extras={one.name: found(one.name) for one in (*cell.vectors, *cell.matrices)},
    )


def suffixes(layer: Recurrent) -> list[str]:
    """The endings of a layer's parameter names, "_l0", "_l0_reverse", layer by layer, forward before backward."""
    start = "weight_ih"
    return [name.removeprefix(start) for name, _ in layer.named_parameters() if name.startswith(start)]
