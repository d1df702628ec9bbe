"""How parameters begin, by name and gate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from recurra.cells.form import Cell, Start

DEFAULTS: Mapping[str, Start] = {"W": "xavier", "U": "orthogonal", "b": 0.0}
"""W Xavier-uniform (Glorot & Bengio 2010) and U orthogonal (Saxe et al. 2014), a gate at a time; biases zero."""


@torch.no_grad()
def initialise(cell: Cell, weights: Mapping[str, Tensor]) -> None:
    """Fill one layer's parameters, named as in `cell.shapes`: the defaults, then what the cell's `start` says.

    Each gate's block of W and U is filled by itself, since an initialisation over all gates stacked would give each
    of them another scale.
    """
    every, H = (*cell.gates, *cell.inputs), len(weights["weight_ih"]) // (len(cell.gates) + len(cell.inputs))
    for gate, block in zip(every, weights["weight_ih"].split(H), strict=True):
        fill(block, _start(cell, "W", gate))
    if cell.gates:
        for gate, block in zip(cell.gates, _gates_of_u(cell, weights["weight_hh"]), strict=True):
            fill(block, _start(cell, "U", gate))
    for bias in ("bias", "bias_ih"):
        if bias in weights:
            for gate, block in zip(every, weights[bias].split(H), strict=True):
                fill(block, _start(cell, "b", gate))
    if "bias_hh" in weights:  # the second bias only adds to the first, so it begins at zero
        weights["bias_hh"].zero_()
    for name in cell.vectors:
        fill(weights[name], cell.value(cell.start.get(name, 0.0)))
    for matrix in cell.matrices:
        fill(weights[matrix.name], cell.value(cell.start.get(matrix.name, "xavier")))


def fill(block: Tensor, start: float | str) -> None:
    """Fill one block of a parameter with a number or by a named initialisation."""
    if not isinstance(start, str):
        block.fill_(float(start))
        return
    if block.dim() == 1 and start in (
        "xavier",
        "orthogonal",
    ):  # a diagonal: Glorot's bound for 1 in, 1 out; ±1
        block.uniform_(-1, 1) if start == "xavier" else block.bernoulli_(0.5).mul_(2).sub_(1)
    elif start == "xavier":
        nn.init.xavier_uniform_(block)
    elif start == "orthogonal":
        nn.init.orthogonal_(block)
    elif start == "identity":
        block.fill_(1.0) if block.dim() == 1 else nn.init.eye_(block)
    elif start == "uniform":  # PyTorch's own: ±1/√H, H being the rows of a gate's block
        bound = len(block) ** -0.5
        block.uniform_(-bound, bound)
    elif start == "normal":
        block.normal_(0.0, block.shape[-1] ** -0.5)
    else:
        block.fill_({"zeros": 0.0, "ones": 1.0}[start])


def _start(cell: Cell, letter: str, gate: str) -> float | str:
    for key in (f"{letter}_{gate}", letter):
        if key in cell.start:
            return cell.value(cell.start[key])
    if letter == "U" and cell.recurrent == "diagonal":
        return "uniform"
    return cell.value(DEFAULTS[letter])


def _gates_of_u(cell: Cell, weight: Tensor) -> list[Tensor]:
    """U of each gate, as views; in blocks by head the blocks of one gate are filled one head at a time."""
    if cell.recurrent != "blocks":
        return list(weight.chunk(len(cell.gates)))
    heads, rows, columns = weight.shape
    by_gate = weight.view(heads, len(cell.gates), rows // len(cell.gates), columns)
    return [by_gate[:, g].reshape(-1, columns) if heads == 1 else by_gate[:, g] for g in range(len(cell.gates))]
