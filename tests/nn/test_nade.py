"""NADE: against loops in float64, over all vectors that there are, and its draws against what it says of them."""

import itertools

import numpy as np
import pytest
import torch

from recurra.nn import nade
from recurra.nn.nade import Nade, heated


def made(inputs: int = 3, keys: int = 5, hidden: int = 4, seed: int = 0) -> Nade:
    torch.manual_seed(seed)
    layer = Nade(inputs, keys, hidden).double()
    for p in layer.parameters():
        torch.nn.init.normal_(p)
    return layer


def by_hand(layer: Nade, h: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The probability of each entry given those before it, in plain loops (eqs 2 and 3 of the paper)."""
    values = {name: p.detach().numpy() for name, p in layer.named_parameters()}
    found = np.empty(v.shape)
    for row in range(len(v)):
        bias = values["bias.weight"] @ h[row] + values["bias.bias"]
        a = values["hidden.weight"] @ h[row] + values["hidden.bias"]
        for k in range(v.shape[1]):
            found[row, k] = 1 / (1 + np.exp(-(bias[k] + values["weight_out"][k] @ (1 / (1 + np.exp(-a))))))
            a = a + values["weight_in"][k] * v[row, k]
    return found


def test_it_is_what_the_paper_says() -> None:
    layer, random = made(), np.random.default_rng(1)
    h, v = random.normal(size=(7, 3)), (random.random((7, 5)) < 0.5).astype(float)
    said = layer.logits(torch.from_numpy(h), torch.from_numpy(v)).sigmoid().detach().numpy()
    np.testing.assert_allclose(said, by_hand(layer, h, v), rtol=1e-12)


def test_all_vectors_together_have_probability_one() -> None:
    layer = made()
    with torch.no_grad():
        layer.weight_in.mul_(4)
        layer.weight_out.mul_(2)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)
    h = torch.randn(1, 3, dtype=torch.float64)
    p = layer.logits(h.expand(32, 3), every).sigmoid()
    chances = torch.where(every == 1, p, 1 - p).prod(1)
    assert float(chances.detach().sum()) == pytest.approx(1, abs=1e-12)
    marginals = (chances.unsqueeze(1) * every).sum(0).detach()
    found = layer.marginals(h, 4000, seed=3)[0]
    np.testing.assert_allclose(found.numpy(), marginals.numpy(), atol=0.02)
    assert not np.allclose(found.numpy(), p[0].detach().numpy(), atol=0.1)  # given that no other sounds


def test_it_is_drawn_from() -> None:
    layer = made()
    h = torch.randn(1, 3, dtype=torch.float64)
    drawn, chances = layer.draw(h.expand(20_000, 3), torch.rand(20_000, 5, dtype=torch.float64))
    again = layer.logits(h.expand(20_000, 3), drawn).sigmoid()
    np.testing.assert_allclose(chances.numpy(), again.detach().numpy(), rtol=1e-12)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)), dtype=torch.float64)
    p = layer.logits(h.expand(32, 3), every).sigmoid()
    expected = torch.where(every == 1, p, 1 - p).prod(1).detach().numpy()
    places = (drawn @ torch.tensor([16.0, 8, 4, 2, 1], dtype=torch.float64)).long().numpy()
    np.testing.assert_allclose(np.bincount(places, minlength=32) / 20_000, expected, atol=0.015)


def test_a_temperature_sharpens_and_at_zero_takes_what_is_more_probable() -> None:
    layer = made()
    h, uniform = torch.randn(6, 3, dtype=torch.float64), torch.rand(6, 5, dtype=torch.float64)
    drawn, chances = layer.draw(h, uniform, 0.0)
    more = layer.logits(h, drawn).detach() > 0
    assert torch.equal(drawn != 0, more)
    assert set(chances.unique().tolist()) <= {0.0, 1.0}
    logits = torch.tensor([-2.0, 0.5])
    torch.testing.assert_close(heated(logits, 0.5), torch.sigmoid(logits * 2))


def test_pieces_of_many_rows_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = made()
    h, v = torch.randn(9, 3, dtype=torch.float64), (torch.rand(9, 5) < 0.5).double()
    whole = layer.logits(h, v)
    monkeypatch.setattr(nade, "AT_ONCE", 2 * 5 * 4)
    with torch.no_grad():
        torch.testing.assert_close(layer.logits(h, v), whole)


def test_its_gradient() -> None:
    layer = made()
    h = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    v = (torch.rand(2, 5) < 0.5).double()
    assert torch.autograd.gradcheck(lambda h: layer.logits(h, v), (h,))
