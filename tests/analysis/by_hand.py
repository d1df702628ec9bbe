"""References: layers stepped by hand with PyTorch's own cells and autograd, in double precision."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent


def drawn(cell: Cell | str, inputs: int = 3, units: int = 4, **options: object) -> Recurrent:
    """A layer in double precision, every parameter moved away from where it begins."""
    layer = Recurrent(cell, inputs, units, dtype=torch.float64, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.3 * torch.randn_like(p))
    return layer


def linear(U: Tensor) -> Recurrent:
    """h_t = U h_(t-1) + W x_t."""
    layer = Recurrent(CATALOGUE["elman"](activation="identity"), 2, len(U), dtype=torch.float64)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").copy_(U)
    return layer


def joined(layer: Recurrent, state: Sequence[Tensor]) -> Tensor:
    """The fields that hold values of units, of one layer and row, side by side."""
    kept = [v[0, 0] for f, v in zip(layer.form.fields, state, strict=True) if not f.is_bookkeeping]
    return torch.cat(kept)


def states_along(layer: Recurrent, x: Tensor) -> list[tuple[Tensor, ...]]:
    """The state before the first step and after each, by single steps of a layer of one direction."""
    state = tuple(v.unsqueeze(0) for v in layer.form.initial_state(x.shape[1], _hidden(layer), x))
    found = [state]
    for x_t in x:
        _, new = layer.step(x_t, found[-1])
        found.append(tuple(v.detach() for v in new))
    return found


def _hidden(layer: Recurrent) -> int:
    assert isinstance(layer.hidden_size, int)
    return layer.hidden_size


def leaves_of(layer: Recurrent, state: Sequence[Tensor]) -> list[Tensor]:
    """The state as new leaves."""
    return [
        v.detach().clone().requires_grad_(not f.is_bookkeeping) for f, v in zip(layer.form.fields, state, strict=True)
    ]


def delta(layer: Recurrent, x: Tensor, states: list[tuple[Tensor, ...]], t: int, k: int, g: Tensor) -> Tensor:
    """∂L_t/∂s_k, (B, S), where L_t is g · h_t summed over the rows: steps k + 1, …, t are taken by hand from s_k."""
    leaves = leaves_of(layer, states[k + 1])
    state: Sequence[Tensor] = leaves
    for x_t in x[k + 1 : t + 1]:
        _, state = layer.step(x_t, tuple(state))
    asked = [v for v in leaves if v.requires_grad]
    loss = (state[0][0] * g).sum()
    found = torch.autograd.grad(loss, asked, allow_unused=True, materialize_grads=True)
    return torch.cat([v[0] for v in found], -1)


class Unrolled(nn.Module):
    """`torch.nn.LSTM` step by step, with something that can be added to each state of each layer and direction.

    Args:
        lstm: The layer, time first.
    """

    def __init__(self, lstm: nn.LSTM) -> None:
        super().__init__()
        self.lstm = lstm
        self.added: dict[tuple[int, int, int], tuple[Tensor, Tensor]] = {}  # (layer, direction, step) -> for h, c

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As `torch.nn.LSTM`."""
        T, B, H = *x.shape[:2], self.lstm.hidden_size
        finals = []
        for k in range(self.lstm.num_layers):
            outputs = []
            for d in range(2 if self.lstm.bidirectional else 1):
                end = f"_l{k}" + ("_reverse" if d else "")
                W, U, b, b2 = (getattr(self.lstm, n + end) for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
                h, c, along = x.new_zeros(B, H), x.new_zeros(B, H), {}
                for t in range(T - 1, -1, -1) if d else range(T):
                    i, f, g, o = (x[t] @ W.T + h @ U.T + b + b2).chunk(4, -1)
                    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                    h = o.sigmoid() * c.tanh()
                    eps = torch.zeros_like(h, requires_grad=True), torch.zeros_like(h, requires_grad=True)
                    h, c = h + eps[0], c + eps[1]
                    self.added[k, d, t] = eps
                    along[t] = h
                outputs.append(torch.stack([along[t] for t in range(T)]))
                finals.append((h, c))
            x = torch.cat(outputs, -1)
        h, c = (torch.stack(v) for v in zip(*finals, strict=True))
        return x, (h, c)
