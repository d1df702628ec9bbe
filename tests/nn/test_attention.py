"""Attention against the papers' formulas, written once more in NumPy, one query and one step at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.nn.attention import KINDS, Attention, Kind


def made(kind: Kind, Q: int = 3, M: int = 4) -> Attention:
    torch.manual_seed(1)
    hidden_size = 5 if kind == "additive" else None
    return Attention(kind, Q, Q if kind == "dot" else M, hidden_size=hidden_size).double()


def by_hand(attention: Attention, q: np.ndarray, memory: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Context and weights of one query (Q,) over a memory (S, M) without padding, from the formulas."""
    p = {name: value.detach().numpy() for name, value in attention.named_parameters()}
    scores = []
    for m in memory:
        if attention.kind == "additive":
            inner = np.tanh(p["query.weight"] @ q + p["query.bias"] + p["key.weight"] @ m)
            scores.append(float(p["score.weight"][0] @ inner))
        else:
            scores.append(float(q @ (m if attention.kind == "dot" else p["key.weight"] @ m)))
    e = np.exp(np.array(scores) - max(scores))
    weights = e / e.sum()
    return weights @ memory, weights


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20)
@given(data=st.data())
def test_the_formulas_for_every_query_and_length(kind: Kind, data: st.DataObject) -> None:
    S, B, T = (data.draw(st.integers(1, 5)) for _ in range(3))
    lengths = data.draw(st.lists(st.integers(1, S), min_size=B, max_size=B))
    attention = made(kind)
    q = torch.randn(T, B, attention.query_size, dtype=torch.float64)
    memory = torch.randn(S, B, attention.memory_size, dtype=torch.float64)
    context, weights = attention(q, memory, lengths)
    for t in range(T):
        for b, n in enumerate(lengths):
            c, w = by_hand(attention, q[t, b].numpy(), memory[:n, b].numpy())
            np.testing.assert_allclose(context[t, b].detach().numpy(), c, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(weights[t, b, :n].detach().numpy(), w, rtol=1e-12, atol=1e-12)
            assert not weights[t, b, n:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_padding_does_not_leak_be_it_no_number(kind: Kind) -> None:
    attention = made(kind)
    q = torch.randn(2, 3, attention.query_size, dtype=torch.float64)
    memory = torch.randn(4, 3, attention.memory_size, dtype=torch.float64)
    lengths, results = [4, 1, 0], []
    for filling in (0.0, torch.nan):
        filled = memory.clone()
        for b, n in enumerate(lengths):
            filled[n:, b] = filling
        filled.requires_grad_()
        attention.zero_grad()
        context, weights = attention(q, filled, lengths)
        context.sum().backward()
        results.append([context, weights, filled.grad, *(p.grad for p in attention.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
        assert clean.isfinite().all()
    assert not results[0][0][:, 2].any()  # nothing to look at


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: Kind) -> None:
    attention = made(kind)
    q = torch.randn(2, 2, attention.query_size, dtype=torch.float64, requires_grad=True)
    memory = torch.randn(3, 2, attention.memory_size, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *v: attention(*v, [3, 2]), (q, memory))


@pytest.mark.parametrize("kind", KINDS)
def test_a_memory_made_once_serves_chosen_rows(kind: Kind) -> None:
    attention = made(kind)
    memory = torch.randn(4, 3, attention.memory_size, dtype=torch.float64)
    q = torch.randn(2, 2, attention.query_size, dtype=torch.float64)
    ready = attention.memory(memory, [4, 2, 3]).select(torch.tensor([2, 2]))
    context, weights = attention(q, ready)
    for b in range(2):
        alone = attention(q[:, b : b + 1], memory[:3, 2:])
        torch.testing.assert_close(context[:, b], alone[0][:, 0])
        torch.testing.assert_close(weights[:, b, :3], alone[1][:, 0])


def test_one_query_a_sequence_and_scores_by_the_width() -> None:
    torch.manual_seed(0)
    q, memory = torch.randn(2, 4), torch.randn(3, 2, 4)
    context, weights = Attention("dot", 4, 4, scaled=True)(q, memory)
    assert context.shape == (2, 4)
    torch.testing.assert_close(weights, torch.softmax(torch.einsum("bq,sbq->bs", q, memory) / 2, -1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("genral", 3, 4), "did you mean 'general'"),
        (("dot", 3, 4), "memory_size: 3 is expected"),
        (("dot", 0, 0), "query_size"),
    ],
)
def test_what_cannot_be(arguments: tuple[Kind, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Attention(*arguments)


def test_sizes_that_do_not_fit() -> None:
    attention = Attention("general", 3, 4)
    with pytest.raises(ValueError, match=r"query: \(T, B, 3\)"):
        attention(torch.zeros(1, 2, 4), torch.zeros(5, 2, 4))
    with pytest.raises(ValueError, match=r"memory: \(S, B, 4\)"):
        attention(torch.zeros(1, 2, 3), torch.zeros(5, 2, 3))
    with pytest.raises(ValueError, match="2 sequences are expected"):
        attention(torch.zeros(1, 2, 3), torch.zeros(5, 3, 4))
    with pytest.raises(ValueError, match="from 0 to T = 5"):
        attention(torch.zeros(1, 2, 3), torch.zeros(5, 2, 4), lengths=[6, 1])
