"""Steps are taken some at a time, and gradients added up from piece to piece: however large the pieces are."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recurra.cells import Cell, slstm
from recurra.engine import gradients, kernel, layout
from recurra.engine.gradients import Gradients
from recurra.nn import Recurrent

STEPS, ROWS, INPUTS, HIDDEN = 23, 5, 3, 40


def results(layer: Recurrent, steps: int = STEPS, **flags: Any) -> list[Tensor]:
    torch.manual_seed(1)
    x = torch.randn(steps, ROWS, INPUTS, dtype=torch.float64, requires_grad=True)
    output, final = layer(x, **flags)
    total = torch.stack([(v * torch.randn_like(v)).sum() for v in (output, *final)]).sum()
    return [output, *final, *torch.autograd.grad(total, [x, *layer.parameters()])]


@pytest.mark.parametrize("slim", ["never", "in some pieces", "always"])
@pytest.mark.parametrize("steps", [1, 4, 7, 22])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}, {"learn_initial_state": True}], ids=str)
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_after", "lstm_projected", "slstm", "indrnn", "min_gru"])
def test_the_same_in_pieces(
    cell: str, options: dict[str, Any], steps: int, slim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(2)
    layer = Recurrent(cell, INPUTS, HIDDEN, backend="native", dtype=torch.float64, **options)
    mask, reset = torch.rand(STEPS, ROWS) < 0.8, torch.rand(STEPS, ROWS) < 0.2
    expected = [results(layer), results(layer, mask=mask, reset=reset)]
    gates = layer.cell.gates + layer.cell.inputs  # type: ignore[union-attr]
    of_a_step = ROWS * HIDDEN * len(gates)
    monkeypatch.setattr(kernel, "AT_ONCE", steps * of_a_step)
    # The last piece has fewer steps than the others, where they do not divide the whole.
    limit = {"never": 1 << 60, "in some pieces": of_a_step * max(1, steps - 1), "always": -1}[slim]
    monkeypatch.setattr(gradients, "SLIM_FROM", limit)
    found = [results(layer), results(layer, mask=mask, reset=reset)]
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [1, 2, 23])
@pytest.mark.parametrize("cell", ["lstm", "gru", "gru_reset_after", "lstm_projected", slstm(heads=4), "min_gru"])
def test_the_core_and_pytorch_make_the_same_gradients(
    cell: Cell | str, steps: int, reverse: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of matrices, which the core makes where they are small; PyTorch makes those of large ones."""
    torch.manual_seed(2)
    layer = Recurrent(cell, INPUTS, HIDDEN, backend="native", dtype=torch.float64, reverse=reverse)
    expected = results(layer, steps=steps)
    made = Gradients.finish
    monkeypatch.setattr(layout, "PRODUCTS_IN_CORE", -1)
    layer._places[0].fused.kernel._layouts.clear()  # type: ignore[union-attr]
    counted = []
    monkeypatch.setattr(Gradients, "finish", lambda self: counted.append(self) or made(self))
    found = results(layer, steps=steps)
    assert len(counted) == 1
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
