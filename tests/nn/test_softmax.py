"""Softmaxes: the same probabilities as by hand, and losses whose expectation or value is the full one's."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from recurra.nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax, inclusion

N, H, V = 7, 12, 30


@pytest.fixture
def given() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(N, H, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(V, (N,), generator=generator)
    counts = torch.randint(1, 1000, (V,), generator=generator)
    return hidden, targets, counts


def by_hand(layer: FullSoftmax, hidden: torch.Tensor) -> np.ndarray:
    z = hidden.detach().numpy() @ layer.matrix.detach().numpy().T + layer.bias.detach().numpy()
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def test_the_full_softmax_and_its_derivative(given):
    hidden, targets, counts = given
    layer = FullSoftmax(H, V).double()
    layer.learn_counts(counts)
    expected = by_hand(layer, hidden)
    np.testing.assert_allclose(layer.log_probabilities(hidden).detach().numpy(), expected, atol=1e-12)
    wanted = -expected[np.arange(N), targets.numpy()]
    np.testing.assert_allclose(layer.nats(hidden, targets).numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(layer.loss(hidden, targets).item(), wanted.sum(), atol=1e-12)


def test_large_logits_do_not_overflow():
    layer = FullSoftmax(1, 3)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[900.0], [-900.0], [899.0]]))
    loss = layer.loss(torch.ones(1, 1), torch.tensor([2]))
    assert abs(loss.item() - (1 + np.log1p(np.exp(-1)))) < 1e-4


def test_a_tied_matrix_is_the_embedding_and_gets_both_derivatives(given):
    hidden, targets, _ = given
    embedding = nn.Embedding(V, H).double()
    layer = FullSoftmax(H, V, embedding).double()
    assert [name for name, _ in layer.named_parameters()] == ["bias"]
    whole = nn.ModuleDict({"embedding": embedding, "output": layer})
    assert sorted(whole.state_dict()) == ["embedding.weight", "output.bias"]
    read = embedding(targets)
    layer.loss(hidden.detach() + read, targets).backward()
    weight = embedding.weight.detach().clone().requires_grad_()
    z = (hidden.detach() + weight[targets]) @ weight.t()
    F.cross_entropy(z, targets, reduction="sum").backward()
    torch.testing.assert_close(embedding.weight.grad, weight.grad)
    with pytest.raises(ValueError, match="an embedding of 30 × 13 is expected"):
        FullSoftmax(H + 1, V, embedding)


def test_before_training_the_bias_says_how_often_a_symbol_comes():
    layer = FullSoftmax(H, 4)
    layer.learn_counts(torch.tensor([70, 20, 10, 0]))
    said = layer.log_probabilities(torch.zeros(1, H)).exp()[0]
    np.testing.assert_allclose(said.detach().numpy(), (np.array([70, 20, 10, 0]) + 0.5) / 102, rtol=1e-5)


def test_drawing_every_symbol_gives_the_full_loss(given):
    hidden, targets, counts = given
    layer = SampledSoftmax(H, V, samples=V).double()
    layer.learn_counts(counts)
    sampled = layer.loss(hidden, targets)
    ours = torch.autograd.grad(sampled, (hidden, layer.weight, layer.bias))
    layer.eval()
    full = layer.loss(hidden, targets)
    torch.testing.assert_close(sampled, full)
    for a, b in zip(ours, torch.autograd.grad(full, (hidden, layer.weight, layer.bias)), strict=True):
        torch.testing.assert_close(a, b)


def test_the_sampled_normaliser_is_right_in_expectation(given):
    """exp(loss) · exp(z_y) is the estimate of Z; its mean over many draws is Z."""
    hidden, _, counts = given
    layer = SampledSoftmax(H, V, samples=8).double()
    layer.learn_counts(counts)
    hidden, target = hidden.detach()[:1], torch.tensor([4])
    expected = (layer.eval().loss(hidden, target)).exp().item()
    layer.train()
    torch.manual_seed(0)
    found = np.array([layer.loss(hidden, target).exp().item() for _ in range(6000)])
    assert abs(found.mean() - expected) < 4 * found.std() / np.sqrt(len(found))


def test_how_likely_a_symbol_is_to_be_drawn():
    chance = torch.tensor([0.5, 0.2, 0.1, 0.1, 0.05, 0.05])
    said = inclusion(chance, 3)
    assert abs(said.sum().item() - 3) < 1e-9
    torch.manual_seed(1)
    drawn = torch.multinomial(chance.expand(40_000, -1), 3)
    counted = torch.bincount(drawn.flatten(), minlength=6) / len(drawn)
    torch.testing.assert_close(said, counted.double(), atol=0.03, rtol=0)  # an approximation, as small sizes show most
    assert torch.equal(inclusion(chance, 6), torch.ones(6, dtype=torch.float64))


def test_a_target_among_those_drawn_counts_once():
    layer = SampledSoftmax(2, 2, samples=1).double()
    with torch.no_grad():
        layer.weight.zero_()
        layer.chance.copy_(torch.tensor([1.0, 0.0]))
        layer.log_inclusion.zero_()
    hidden = torch.zeros(2, 2, dtype=torch.float64)
    # symbol 0 is drawn: row 0 is its own target alone, log 1; row 1 stands beside it, log 2
    assert abs(layer.loss(hidden, torch.tensor([0, 1])).item() - np.log(2)) < 1e-12


def test_the_adaptive_softmax_is_a_distribution_over_the_symbols_as_numbered(given):
    hidden, targets, counts = given
    layer = AdaptiveSoftmax(H, V, cutoffs=[6, 15], narrowing=2).double()
    layer.learn_counts(counts)
    assert layer.rank[counts.argmax()] == 0
    said = layer.log_probabilities(hidden)
    np.testing.assert_allclose(said.exp().sum(1).detach().numpy(), 1, atol=1e-12)
    wanted = -said[torch.arange(N), targets]
    torch.testing.assert_close(layer.nats(hidden, targets), wanted.detach())
    torch.testing.assert_close(layer.loss(hidden, targets), wanted.sum())
    with pytest.raises(ValueError, match="rising numbers between 0 and 30"):
        AdaptiveSoftmax(H, V, cutoffs=[6, 40])
    with pytest.raises(ValueError, match="leave the last"):
        AdaptiveSoftmax(H, V, cutoffs=[6, 15, 20])
