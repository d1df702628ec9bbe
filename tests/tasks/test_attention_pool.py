"""Pooling by attention: the paper's formula, padding that counts for nothing, and weights that a reader can see."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import recurra
from recurra.data.batches import collate
from recurra.data.sequences import Sequences
from recurra.errors import RecipeError
from recurra.nn.attention import AttentionPool
from recurra.run.content import Example
from recurra.run.report import _bar, _strengths
from recurra.tasks.model import ModelSettings, SequenceModel


def by_hand(pool: AttentionPool, h: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Yang et al. (2016), eqs 5-7, of one sequence (T, M) without padding: its vector and its weights."""
    p = {name: value.detach().numpy() for name, value in pool.named_parameters()}
    u = np.stack([np.tanh(p["hidden.weight"] @ step + p["hidden.bias"]) for step in h])
    likeness = np.array([float(p["query.weight"][0] @ step) for step in u])
    e = np.exp(likeness - likeness.max())
    weights = e / e.sum()
    return np.sum([w * step for w, step in zip(weights, h, strict=True)], axis=0), weights


@settings(max_examples=30)
@given(data=st.data())
def test_the_formula_for_every_length(data: st.DataObject) -> None:
    T, B, M, H = (data.draw(st.integers(1, 5)) for _ in range(4))
    lengths = data.draw(st.none() | st.lists(st.integers(1, T), min_size=B, max_size=B))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    pool = AttentionPool(M, H).double()
    h = 3 * torch.randn(T, B, M, dtype=torch.float64)
    pooled, weights = pool(h, lengths)
    for b, n in enumerate(lengths or [T] * B):
        expected, w = by_hand(pool, h[:n, b].numpy())
        np.testing.assert_allclose(pooled[b].detach().numpy(), expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(weights[:n, b].detach().numpy(), w, rtol=1e-12, atol=1e-12)
        assert not weights[n:, b].any()


def test_padding_does_not_leak_be_it_no_number() -> None:
    torch.manual_seed(0)
    pool, h, results = AttentionPool(3).double(), torch.randn(4, 3, 3, dtype=torch.float64), []
    for filling in (0.0, torch.nan):
        filled = h.clone()
        filled[1:, 1], filled[:, 2] = filling, filling
        filled.requires_grad_()
        pool.zero_grad()
        pooled, weights = pool(filled, torch.tensor([4, 1, 0]))
        pooled.square().sum().backward()
        results.append([pooled, weights, filled.grad, *(p.grad for p in pool.parameters())])
    for clean, dirty in zip(*results, strict=True):
        assert torch.equal(clean, dirty)
        assert clean.isfinite().all()
    pooled, weights = results[0][:2]
    assert torch.equal(pooled[1], h[0, 1])  # a single step has all the weight
    assert not pooled[2].any()
    assert not weights[:, 2].any()


def test_the_gradient_is_right() -> None:
    torch.manual_seed(0)
    pool = AttentionPool(2, 3).double()
    h = torch.randn(4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pool(x, torch.tensor([4, 1, 3])), (h,))


@pytest.mark.parametrize("steps", [torch.zeros(4, 2, 5), torch.zeros(4, 6), torch.zeros(0, 2, 6)])
def test_sizes_that_do_not_fit(steps: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"steps: \(T, B, 6\) is expected, not "):
        AttentionPool(6)(steps)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_network_pools_by_attention(tokens: bool, bidirectional: bool) -> None:
    options: dict[str, Any] = {
        "hidden_size": 5,
        "embedding_size": 4,
        "pool": "attention",
        "bidirectional": bidirectional,
    }
    torch.manual_seed(0)
    network = SequenceModel(
        ModelSettings.model_validate(options), 4, vocabulary_size=9 if tokens else 0, input_size=0 if tokens else 3
    )
    network.double().eval()
    offsets = torch.tensor([0, 7, 8, 12])
    values = torch.randint(2, 9, (12,), dtype=torch.int32) if tokens else torch.randn(12, 3)
    data = Sequences(values, offsets)
    batch = collate(data, torch.arange(3)).to(torch.device("cpu"), torch.float64)
    together, _ = network(batch.x, batch.lengths)
    weights = network.weights(batch.x, batch.lengths)
    assert weights is not None
    assert network.attention is not None
    for i in range(3):
        x = data.sequence(i).unsqueeze(1)
        h, _ = network.recurrent(network.inputs(x.long() if tokens else x.double()))
        pooled, w = by_hand(network.attention, h[:, 0].detach().numpy())
        said = network.output(torch.from_numpy(pooled))
        torch.testing.assert_close(together[i], said, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(weights[: len(w), i].numpy(), w, rtol=1e-12, atol=1e-12)
        assert not weights[len(w) :, i].any()


def test_other_poolings_have_no_weights() -> None:
    network = SequenceModel(ModelSettings(pool="mean"), 2, input_size=3)
    assert network.weights(torch.zeros(4, 1, 3)) is None
    assert not any("attention" in name for name, _ in network.named_parameters())


MARKS = ("awful", "dull", "fine", "lovely")


def sentences(count: int = 400, seed: int = 0) -> tuple[list[str], list[str]]:
    """Texts of which one word alone says the class, and is not told by its place."""
    generator = np.random.default_rng(seed)
    texts, labels = [], []
    for i in range(count):
        words = [f"word{k}" for k in generator.integers(20, size=generator.integers(4, 12))]
        words[generator.integers(len(words))] = MARKS[i % 4]
        texts.append(" ".join(words))
        labels.append(f"class {MARKS[i % 4]}")
    return texts, labels


SMALL = {
    "model.cell": "gru",
    "model.hidden_size": 8,
    "model.pool": "attention",
    "train.epochs": 12,
    "train.batch_size": 20,
}


def test_what_says_nothing_has_no_weight(tmp_path: Path) -> None:
    """A state that runs forward knows the class from the word on that tells it; what is before counts for little."""
    texts, labels = sentences()
    options = {**SMALL, "model.bidirectional": False, "train.lr": 0.02}
    run = recurra.train("classify", (texts, labels), out=tmp_path / "run", settings=options)
    assert run.summary["test"]["accuracy"] > 0.95
    vocabulary, before, even = run.schema.vocabulary, [], []
    for text in texts[:50]:
        words = text.split(" ")
        place = next(i for i, word in enumerate(words) if word in MARKS)
        weights = run.network.weights(torch.tensor([[vocabulary.index(word)] for word in words]))
        assert weights is not None
        before.append(float(weights[:place].sum()))
        even.append(place / len(words))
    assert np.mean(even) > 0.4
    assert np.mean(before) < 0.15


def test_the_report_shades_words_by_their_weight(tmp_path: Path) -> None:
    texts, labels = sentences(80)
    labels = [labels[i * 7 % 80] for i in range(80)]  # so that some are got wrong
    recurra.train("classify", (texts, labels), out=tmp_path / "run", settings={**SMALL, "train.epochs": 1})
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    shown = page.partition('<section id="examples">')[2].partition("</section>")[0]
    assert "The darker a word, the more it counts in the pooling by attention." in shown
    figures = shown.split('<figure class="example">')[1:]
    assert figures
    for figure in figures:
        strengths = [float(s) for s in re.findall(r"rgb\(59 130 208/([\d.]+)\)", figure)]
        assert max(strengths) == 0.6


def test_the_report_shows_what_told_each_class(tmp_path: Path) -> None:
    texts, labels = sentences()
    run = recurra.train("classify", (texts, labels), out=tmp_path / "run", settings={**SMALL, "train.lr": 0.02})
    assert run.summary["test"]["accuracy"] > 0.9
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    shown = page.partition('<section id="what-the-pooling-weighs">')[2].partition("</section>")[0]
    figures = re.findall(r"<figure>(.*?)<figcaption>(class \w+), p (0\.\d+|1\.000)</figcaption>", shown, re.DOTALL)
    assert [name for _, name, _ in figures] == [f"class {mark}" for mark in MARKS]
    for drawing, name, _ in figures:
        assert name.removeprefix("class ") in re.sub("<[^>]+>", "", drawing).split()
        assert "rgb(59 130 208/0.60)" in drawing
    plain = recurra.train("classify", (texts, labels), out=tmp_path / "max", settings={**SMALL, "model.pool": "max"})
    assert "what-the-pooling-weighs" not in (plain.path / "report.html").read_text("utf-8")


def test_the_report_draws_the_weights_of_numbers(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    x = [generator.normal(size=(generator.integers(3, 9), 2)).astype(np.float32) for _ in range(60)]
    y = [str(i % 2) for i in range(60)]
    recurra.train("classify", (x, y), out=tmp_path / "run", settings={**SMALL, "train.epochs": 1})
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    shown = page.partition('<section id="examples">')[2].partition("</section>")[0]
    assert "the darker, the more a step counts in the pooling by attention." in shown
    assert re.search(
        r'<div class="drawing weights"><img class="strip ink" alt="Weights in the pooling; the heaviest', shown
    )


def test_how_weights_are_drawn() -> None:
    example = Example("test sequence 0", "a", "b", tokens=list("abcd"), weights=np.array([0.1, 0.6, 0.3, 0.0]))
    strengths = _strengths(example.weights)
    assert strengths is not None
    np.testing.assert_allclose(strengths, [0.1, 0.6, 0.3, 0.0])
    drawn = _bar(example)
    assert 'alt="Weights in the pooling; the heaviest, 0.6, at step 2"' in drawn
    assert 'width="4" height="1"' in drawn


def test_its_weights_can_be_decayed_by_name(tmp_path: Path) -> None:
    texts, labels = sentences(60)
    runs = [
        recurra.train("classify", (texts, labels), out=tmp_path / str(i), settings={**SMALL, "train.lr": 0.1, **more})
        for i, more in enumerate([{}, {"train.l2": {"attention": 5.0}}])
    ]
    sizes = [run.network.attention.hidden.weight.detach().norm().item() for run in runs if run.network.attention]
    assert sizes[1] < 0.5 * sizes[0]
    with pytest.raises(RecipeError, match=r"train.l2: unknown parameter 'atention'; did you mean 'attention'\?"):
        recurra.train(
            "classify", (texts, labels), out=tmp_path / "x", settings={**SMALL, "train.l2": {"atention": 0.5}}
        )
