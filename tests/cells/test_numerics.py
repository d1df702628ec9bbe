"""Where numbers are large, small or coarse: results and gradients of every cell stay numbers."""

import pytest
import torch

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent


@pytest.mark.parametrize("scale", [0.0, 1e2, 1e4, 1e6])
@pytest.mark.parametrize("one", CATALOGUE.values(), ids=CATALOGUE)
def test_inputs_of_any_size_leave_results_and_gradients_finite(one: Cell, scale: float) -> None:
    torch.manual_seed(0)
    layer, x = Recurrent(one, 4, 6), (scale * torch.randn(20, 2, 4)).requires_grad_()
    output, _ = layer(x)
    output.sum().backward()
    assert output.isfinite().all()
    for value in (x, *layer.parameters()):
        assert value.grad is not None
        assert value.grad.isfinite().all()


@pytest.mark.parametrize("one", CATALOGUE.values(), ids=CATALOGUE)
def test_long_sequences_leave_results_and_gradients_finite(one: Cell) -> None:
    torch.manual_seed(0)
    layer = Recurrent(one, 2, 4)
    output, _ = layer(torch.randn(1000, 1, 2))
    output[-1].sum().backward()
    assert output.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_slow_decay_survives_16_bits(dtype: torch.dtype) -> None:
    """Where a itself is rounded to 1: the factor before the input would be zero, and its gradient infinite."""
    torch.manual_seed(0)
    layer = Recurrent("linear_recurrence", 3, 256, dtype=dtype)
    output, _ = layer(torch.randn(8, 2, 3, dtype=dtype))
    output.float().square().sum().backward()
    assert (output != 0).any((0, 1)).all()
    gradient = layer.get_parameter("nu_a_l0").grad
    assert gradient is not None
    assert gradient.isfinite().all()


@pytest.mark.parametrize("nu", [-25.0, -12.0, -3.0, 0.0, 2.0])
def test_the_factor_of_a_linear_recurrence_keeps_its_digits(nu: float) -> None:
    """In 32 bits too, and where the decay is within their rounding of 1."""
    layer = Recurrent("linear_recurrence", 1, 1, init={"nu_a": nu, "W": 1.0})
    output, _ = layer(torch.ones(1, 1, 1))
    exactly = (-torch.expm1(-2 * torch.tensor(nu, dtype=torch.float64).exp())).sqrt()
    assert abs(output.item() / exactly.item() - 1) < 1e-6


@pytest.mark.parametrize(
    ("f", "i", "share"), [(-300.0, -300.0, 0.5), (-300.0, -301.0, 0.731058579), (0.0, 50.0, 1 / 3)]
)
def test_gates_that_are_both_shut_still_share(f: float, i: float, share: float) -> None:
    """f / (f + i) of two logistic gates that 32 bits round to zero."""
    layer = Recurrent("min_lstm", 1, 1, init={"W": 0.0, "b_f": f, "b_i": i, "b_n": 0.0})
    output, _ = layer(torch.ones(1, 1, 1), torch.ones(1, 1, 1))
    assert abs(output.item() - share) < 1e-6
