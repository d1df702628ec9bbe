"""Random states that a layer could have: a count of steps is a whole number."""

import torch
from torch import Tensor

from recurra.nn import Recurrent


def drawn_state(layer: Recurrent, rows: int | None) -> list[Tensor]:
    """Each field (layers * directions, rows, width), or (layers * directions, width) where rows is None."""
    state = []
    for f, width in zip(layer.form.fields, layer.form.widths(layer._places[0].hidden_size), strict=True):
        shape = (len(layer._places), *(() if rows is None else (rows,)), width)
        counts = torch.randint(0, 8, shape).double()
        state.append(counts if f.is_bookkeeping else torch.randn(shape, dtype=torch.float64))
    return state
