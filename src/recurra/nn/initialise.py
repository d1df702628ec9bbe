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

    Each gate's block of W and U is filled by itself, and so is each head's, since an initialisation over all gates
    stacked would give each of them another scale.
    """
    every = (*cell.gates, *cell.inputs)
    for gate, block in zip(every, weights["weight_ih"].chunk(len(every)), strict=True):
        fill(block, _start(cell, "W", gate))
    for gate, blocks in _blocks_of_u(cell, weights).items():
        for block in blocks:
            fill(block, _start(cell, "U", gate))
    if "mask_hh" in weights:
        weights["weight_hh"].mul_(weights["mask_hh"].repeat(len(cell.gates), 1))
    first = weights.get("bias", weights.get("bias_ih"))
    if first is not None:
        for gate, block in zip(every, first.chunk(len(every)), strict=True):
            fill(block, _start(cell, "b", gate))
    if "bias_hh" in weights:
        weights["bias_hh"].zero_()  # it only adds to the first
    for name in cell.vectors:
        fill(weights[name], cell.value(cell.start.get(name, 0.0)))
    for matrix in cell.matrices:
        fill(weights[matrix.name], cell.value(cell.start.get(matrix.name, "xavier")))


@torch.no_grad()
def fill(block: Tensor, start: Start) -> None:
    """Fill a matrix or vector with a number or by a named initialisation.

    A vector is taken for a diagonal matrix: "orthogonal" gives it entries of ±1, "identity" ones.
    """
    vector = block.dim() == 1
    if not isinstance(start, str):
        block.fill_(start)
    elif start in ("zeros", "ones") or (vector and start == "identity"):
        block.fill_(0.0 if start == "zeros" else 1.0)
    elif start == "identity":
        nn.init.eye_(block)
    elif start == "xavier" and vector:
        block.uniform_(-1.0, 1.0)  # ±√(6 / (fan in + fan out)), at most 1 so that no unit grows by itself
    elif start == "xavier":
        nn.init.xavier_uniform_(block)
    elif start == "orthogonal" and vector:
        block.bernoulli_(0.5).mul_(2.0).sub_(1.0)
    elif start == "orthogonal":
        # In 32 bits at least, since the factorisation behind it does not exist for fewer.
        kind = torch.promote_types(block.dtype, torch.float32)
        block.copy_(nn.init.orthogonal_(torch.empty_like(block, dtype=kind)))
    elif start == "uniform":
        block.uniform_(-(len(block) ** -0.5), len(block) ** -0.5)  # as PyTorch's cells begin, ±1/√H
    elif start == "normal":
        block.normal_(0.0, block.shape[-1] ** -0.5)
    else:
        raise ValueError(f"no initialisation is named {start!r}")


def _start(cell: Cell, letter: str, gate: str) -> Start:
    default = "uniform" if letter == "U" and cell.recurrent == "diagonal" else DEFAULTS[letter]
    return cell.value(cell.start.get(f"{letter}_{gate}", cell.start.get(letter, default)))


def _blocks_of_u(cell: Cell, weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The blocks of each gate's U, as views: one, or one a head."""
    if not cell.gates:
        return {}
    U, G = weights["weight_hh"], len(cell.gates)
    if cell.recurrent != "blocks":
        return {gate: [block] for gate, block in zip(cell.gates, U.chunk(G), strict=True)}
    heads, rows, columns = U.shape
    by_gate = U.view(heads, G, rows // G, columns).unbind(1)
    return {gate: list(blocks.unbind(0)) for gate, blocks in zip(cell.gates, by_gate, strict=True)}
