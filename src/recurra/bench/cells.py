"""The cells that are timed beside those of `torch.nn`."""

from collections.abc import Callable
from typing import Any

from recurra import cells
from recurra.cells import Cell, cell
from recurra.errors import CellError, unknown
from recurra.math import exp, relu, sigmoid, sin, tanh


@cell(state="h c", gates="a b g", vectors="v")
def made_up(z, s, p):
    """A cell that nobody has published, and nobody has written a kernel for; it stands for one of your own.

    Formula:
        a_t = σ(W_a x_t + U_a h_(t-1) + v ⊙ c_(t-1) + b_a)
        c_t = a_t ⊙ c_(t-1) + (1 - a_t) ⊙ tanh(W_g x_t + U_g h_(t-1) + b_g)
        d_t = exp(-relu(W_b x_t + U_b h_(t-1) + b_b))
        h_t = d_t ⊙ h_(t-1) + (1 - d_t) ⊙ sin(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_a (H, I); U_a (H, H); b_a (H,); likewise b, g; v (H,).
    """
    a = sigmoid(z.a + p.v * s.c)
    c = a * s.c + (1 - a) * tanh(z.g)
    d = exp(-relu(z.b))
    return d * s.h + (1 - d) * sin(c), c


def find(name: str) -> Cell:
    """The cell of that name: "made_up", one of the catalogue, or one of your own as `file.py:name`.

    Raises:
        CellError: There is none, or it is a plain function, whose weights nobody else could be given.
    """
    if name == made_up.name:
        return made_up
    if ":" not in name and name not in cells.CATALOGUE:
        raise CellError(f"{unknown('cell', name, [made_up.name, *cells.CATALOGUE])}; your own is named as file.py:NAME")
    found: Cell | Callable[..., Any] = cells.find(name)
    if not isinstance(found, Cell):
        raise CellError(f"{name}: a cell declared with recurra.cell is expected, not a plain function")
    return found
