"""How parameters begin, by name and gate."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells.check import FAULTS_OF_CODE, check_initialisation, name_and_factor
from recurra.cells.form import Cell, Start
from recurra.errors import CellError, unknown

DEFAULTS: Mapping[str, Start] = {"W": "xavier", "U": "orthogonal", "b": 0.0}
"""W Xavier-uniform (Glorot & Bengio 2010) and U orthogonal (Saxe et al. 2014), a gate at a time; biases zero."""


def checked(cell: Any, init: Any) -> Mapping[str, Start]:
    """The `init` that a caller gives, if the cell has such parameters and they can begin so.

    Raises:
        ValueError: It is neither a name nor a mapping.
        CellError: A parameter that the cell does not have, or a value that is none.
    """
    if not isinstance(cell, Cell):
        raise ValueError("init: the parameters of a plain function are its own, so None is expected")
    if isinstance(init, str):
        letters = ("W", *(["U"] if cell.gates else []), *(["b"] if cell.biases else []))
        init = dict.fromkeys((*letters, *_further(cell)), init)
    if not isinstance(init, Mapping):
        raise ValueError(f"init: a mapping such as {{'U': 'identity', 'b_f': 2.0}} is expected, not {init!r}")
    gates = {"W": (*cell.gates, *cell.inputs), "U": cell.gates, "b": (*cell.gates, *cell.inputs) if cell.biases else ()}
    known = [f"{letter}_{gate}" for letter, names in gates.items() for gate in names]
    known += [
        *(letter for letter, names in gates.items() if names),
        *_further(cell),
        *(["chrono"] if cell.chrono else []),
    ]
    for key, value in init.items():
        if key == "chrono" and not cell.chrono:
            raise CellError(f"cell {cell.name!r}: init: it names no gates that keep its memory, so it has no 'chrono'")
        if key not in known:
            raise CellError(f"cell {cell.name!r}: init: " + unknown("parameter", str(key), known))
        if key == "chrono":
            _check_chrono(cell, value)
        else:
            check_initialisation(cell, f"init of {key!r}", value)
    return dict(init)


def _further(cell: Cell) -> list[str]:
    return [p.name for p in (*cell.vectors, *cell.matrices)]


def _check_chrono(cell: Cell, span: Any) -> None:
    if not isinstance(span, (int, float)) or isinstance(span, bool) or not 2 < span < math.inf:
        raise CellError(f"cell {cell.name!r}: init of 'chrono': a span of more than 2 steps is expected, not {span!r}")


def constants(cell: Cell, hidden_size: int) -> dict[str, Tensor]:
    """What a layer of the cell has beside its parameters: the cell's constants, and the mask of U as `mask_hh`."""
    mask = cell.mask_of_u(hidden_size)
    return cell.constant_values(hidden_size) | ({} if mask is None else {"mask_hh": mask})


@torch.no_grad()
def initialise(cell: Cell, weights: Mapping[str, Tensor], init: Mapping[str, Start] | None = None) -> None:
    """Fill one layer's parameters, named as in `cell.shapes`: as `init` says, else the cell's `start`, else by default.

    Each gate's block of W and U is filled by itself, and so is each head's, since an initialisation over all gates
    stacked would give each of them another scale.
    """
    every = (*cell.gates, *cell.inputs)
    for gate, block in zip(every, weights["weight_ih"].chunk(len(every)), strict=True):
        fill(block, _start(cell, "W", gate, init))
    for gate, blocks in _blocks_of_u(cell, weights).items():
        for block in blocks:
            fill(block, _start(cell, "U", gate, init))
    if "mask_hh" in weights:
        mask = weights["mask_hh"].repeat(len(cell.gates), 1)
        weights["weight_hh"].mul_(mask.reshape(*mask.shape, *(1 for _ in weights["weight_hh"].shape[2:])))
    first = weights.get("bias", weights.get("bias_ih"))
    if first is not None:
        for gate, block in zip(every, first.chunk(len(every)), strict=True):
            fill(block, _start(cell, "b", gate, init))
        if init and "chrono" in init:
            _chrono(cell, dict(zip(every, first.chunk(len(every)), strict=True)), init["chrono"])
    if "bias_hh" in weights:
        weights["bias_hh"].zero_()  # it only adds to the first
    starts: dict[str, Start] = dict.fromkeys((v.name for v in cell.vectors), 0.0)
    starts |= dict.fromkeys((m.name for m in cell.matrices), "xavier")
    for name, default in starts.items():
        values = weights[name]
        by_unit = values if default == "xavier" else values.new_empty(len(values))
        fill(by_unit, cell.value((init or {}).get(name, cell.start.get(name, default))))
        if by_unit is not values:  # a vector, which may have a value for each place of a frame: all begin alike
            values.copy_(by_unit.reshape(-1, *(1 for _ in values.shape[1:])))


def _chrono(cell: Cell, biases: Mapping[str, Tensor], span: Any) -> None:
    """Chrono initialisation (Tallec & Ollivier 2018): a unit forgets after 1 to `span` steps, log-uniformly.

    The bias of the gate that keeps is log(u), u uniform from 1 to span - 1; that of the gate that admits is -log(u).
    """
    u = torch.empty_like(next(iter(biases.values()))).uniform_(1.0, float(span) - 1.0).log_()
    for gate in cell.chrono:
        biases[gate.removeprefix("-")].copy_(-u if gate.startswith("-") else u)


@torch.no_grad()
def fill(block: Tensor, start: Start) -> None:
    """Fill a matrix or vector with a number, by a function, or by a named initialisation or a multiple of one.

    A vector is taken for a diagonal matrix: "orthogonal" gives it entries of ±1, "identity" ones. A kernel of a
    convolution is (rows, columns, height, width): "identity" is 1 in its middle, of "orthogonal" what it multiplies at
    all its places counts as one row.
    """
    if callable(start):
        block.copy_(_made(start, block))
    elif not isinstance(start, str):
        block.fill_(start)
    else:
        name, factor = name_and_factor(start)
        _fill_by_name(block, name)
        if factor != 1:
            block.mul_(factor)


def _fill_by_name(block: Tensor, start: str) -> None:
    vector = block.dim() == 1
    if start in ("zeros", "ones") or (vector and start == "identity"):
        block.fill_(0.0 if start == "zeros" else 1.0)
    elif start == "identity" and block.dim() > 2:
        nn.init.dirac_(block, groups=len(block) if block.shape[1] == 1 else 1)
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
    elif start == "unit":
        block.uniform_(0.0, 1.0)
    elif start == "normal":
        block.normal_(0.0, (block[0].numel() if block.dim() > 1 else len(block)) ** -0.5)
    else:
        raise ValueError(f"no initialisation is named {start!r}")


def _made(start: Callable[[tuple[int, ...]], Tensor], block: Tensor) -> Tensor:
    """What a function makes of a block's shape.

    Raises:
        CellError: It fails, or makes something of another shape.
    """
    name, shape = getattr(start, "__name__", repr(start)), tuple(block.shape)
    try:
        values = torch.as_tensor(start(shape))
    except FAULTS_OF_CODE as error:
        raise CellError(
            f"{name}, which makes first values of shape {shape}: {type(error).__name__}: {error}"
        ) from error
    if values.shape not in ((), block.shape):
        raise CellError(f"{name} should make first values of shape {shape}, not {tuple(values.shape)}")
    return values


def _start(cell: Cell, letter: str, gate: str, init: Mapping[str, Start] | None) -> Start:
    for said in (init or {}, cell.start):
        for key in (f"{letter}_{gate}", letter):
            if key in said:
                return cell.value(said[key])
    return "uniform" if letter == "U" and cell.recurrent == "diagonal" else DEFAULTS[letter]


def by_symbol(cell: Cell, weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """Views of one layer's parameters by symbol: "W_f", "U_f" (one a head), "b_f" (one a bias), a vector's or matrix's
    name; and "W", "U", "b", of all gates.

    Args:
        cell: The cell.
        weights: Named and laid out as in `cell.shapes`: the parameters, or what belongs to them, entry by entry.
    """
    every = (*cell.gates, *cell.inputs)
    found = {p.name: [weights[p.name]] for p in (*cell.vectors, *cell.matrices)}
    for letter, name, gates in (
        ("W", "weight_ih", every),
        ("b", "bias", every),
        ("b", "bias_ih", every),
        ("b", "bias_hh", cell.gates),
    ):
        if name in weights:
            found.setdefault(letter, []).append(weights[name])
            for gate, block in zip(gates, weights[name].chunk(len(gates)), strict=True):
                found.setdefault(f"{letter}_{gate}", []).append(block)
    if cell.gates:
        found["U"] = [weights["weight_hh"]]
        found |= {f"U_{gate}": blocks for gate, blocks in _blocks_of_u(cell, weights).items()}
    return found


def _blocks_of_u(cell: Cell, weights: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
    """The blocks of each gate's U, as views: one, or one a head."""
    if not cell.gates:
        return {}
    U, G = weights["weight_hh"], len(cell.gates)
    if cell.recurrent != "blocks":
        return {gate: [block] for gate, block in zip(cell.gates, U.chunk(G), strict=True)}
    heads, rows = U.shape[:2]
    by_gate = U.view(heads, G, rows // G, *U.shape[2:]).unbind(1)
    return {gate: list(blocks.unbind(0)) for gate, blocks in zip(cell.gates, by_gate, strict=True)}
