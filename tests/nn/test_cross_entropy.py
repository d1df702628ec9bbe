"""The cross entropy of a linear layer against PyTorch's, of which all outputs are made at once."""

import pytest
import torch
from torch.nn import functional as F

from recurra.nn import cross_entropy
from recurra.nn.cross_entropy import linear_cross_entropy


def drawn(rows: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(rows)
    x, weight = (
        torch.randn(rows, 5, dtype=dtype, requires_grad=True),
        torch.randn(7, 5, dtype=dtype, requires_grad=True),
    )
    return x, weight, torch.randn(7, dtype=dtype, requires_grad=True), torch.randint(0, 7, (rows,))


@pytest.mark.parametrize("rows", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("has_bias", [True, False])
def test_the_same_as_all_at_once(rows: int, smoothing: float, has_bias: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS", 4)
    x, weight, bias, targets = drawn(rows)
    given = (x, weight, bias) if has_bias else (x, weight)
    ours = linear_cross_entropy(x, weight, bias if has_bias else None, targets, smoothing=smoothing)
    outputs = F.linear(x, weight, bias if has_bias else None)
    theirs = F.cross_entropy(outputs, targets, label_smoothing=smoothing, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for a, b in zip(torch.autograd.grad(3 * ours, given), torch.autograd.grad(3 * theirs, given), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_products_in_another_type_are_near() -> None:
    x, weight, bias, targets = drawn(300, torch.float32)
    exact = torch.autograd.grad(linear_cross_entropy(x, weight, bias, targets), (x, weight, bias))
    near = linear_cross_entropy(x, weight, bias, targets, products=torch.bfloat16)
    assert near.dtype == torch.float32
    for a, b in zip(torch.autograd.grad(near, (x, weight, bias)), exact, strict=True):
        assert a.dtype == torch.float32
        assert 0 < float((a - b).norm() / b.norm()) < 0.02


def test_nothing_is_kept_where_no_gradient_is_asked_for() -> None:
    x, weight, bias, targets = drawn(6)
    with torch.no_grad():
        value = linear_cross_entropy(x, weight, bias, targets)
    torch.testing.assert_close(value, F.cross_entropy(F.linear(x, weight, bias), targets, reduction="sum"))


def test_derivatives_by_finite_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cross_entropy, "ROWS", 4)
    x, weight, bias, targets = drawn(6)
    assert torch.autograd.gradcheck(
        lambda a, b, c: linear_cross_entropy(a, b, c, targets, smoothing=0.1), (x, weight, bias)
    )


def test_autocast_names_the_type_of_products() -> None:
    x, weight, bias, targets = drawn(40, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        said = linear_cross_entropy(x, weight, bias, targets)
    assert torch.equal(said, linear_cross_entropy(x, weight, bias, targets, products=torch.bfloat16))
    said.backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
