"""Readings of CTC against every path, written out."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.nn.ctc import BLANK, alignment, best_path, fewest_steps, losses, prefix_beam, said_by


def outputs(seed: int, T: int, C: int, sharpness: float = 1.0) -> np.ndarray:
    logits = sharpness * np.random.default_rng(seed).standard_normal((T, C))
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def every_text(logs: np.ndarray) -> dict[tuple[int, ...], float]:
    """The probability of every text, by every path; runs and blanks taken out in another way than the code's."""
    T, C = logs.shape
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(C), repeat=T):
        text = tuple(s for s, _ in itertools.groupby(path) if s != 0)
        found[text] += float(np.exp(sum(logs[t, s] for t, s in enumerate(path))))
    return found


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(2, 4), st.floats(0.1, 3))
def test_a_wide_beam_finds_the_most_probable_text(seed: int, T: int, C: int, sharpness: float) -> None:
    logs = outputs(seed, T, C, sharpness)
    texts = every_text(logs)
    assert sum(texts.values()) == pytest.approx(1)
    found = prefix_beam(logs, beam=10_000, least=0)
    assert np.exp(found.score) == pytest.approx(max(texts.values()))
    assert texts[tuple(found.symbols)] == pytest.approx(max(texts.values()))


def test_a_beam_sums_what_the_best_path_does_not() -> None:
    """Graves's example: both steps most probably say nothing, and yet the text of one symbol is the more probable."""
    logs = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
    assert best_path(logs).symbols == []
    found = prefix_beam(logs, 4)
    assert found.symbols == [1]
    assert np.exp(found.score) == pytest.approx(0.64)


def test_the_best_path() -> None:
    logs = outputs(1, 6, 4, 2.0)
    found = best_path(logs)
    best = max(itertools.product(range(4), repeat=6), key=lambda path: sum(logs[t, s] for t, s in enumerate(path)))
    assert found.symbols == [s for s, _ in itertools.groupby(best) if s]
    assert found.score == pytest.approx(sum(logs[t, s] for t, s in enumerate(best)))


def test_a_narrow_beam_is_no_better_than_a_wide_one() -> None:
    for seed in range(8):
        logs = outputs(seed, 12, 5)
        scores = [prefix_beam(logs, beam, 0).score for beam in (1, 4, 200)]
        assert scores[2] >= scores[1] - 1e-9
        assert scores[2] >= scores[0] - 1e-9


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=3))
def test_the_alignment_is_the_most_probable_path_of_its_text(seed: int, T: int, symbols: list[int]) -> None:
    logs = outputs(seed, T, 4)
    paths = [
        path
        for path in itertools.product(range(4), repeat=T)
        if [s for s, _ in itertools.groupby(path) if s] == symbols
    ]
    found = alignment(logs, symbols)
    assert (found is None) == (not paths) == (fewest_steps(symbols) > T)
    if found is not None:
        assert said_by(found) == symbols
        score = sum(logs[t, s] for t, s in enumerate(found))
        assert score == pytest.approx(max(sum(logs[t, s] for t, s in enumerate(path)) for path in paths))


def test_the_loss_is_the_sum_over_paths() -> None:
    lengths, texts = [4, 5, 2], [[1, 2], [3, 3], [2, 2]]  # the last needs three steps, and has two
    logs = np.stack([outputs(i, 5, 4) for i in range(3)], 1)
    arguments = (
        torch.from_numpy(logs),
        torch.tensor(lengths),
        torch.tensor([s for text in texts for s in text]),
        torch.tensor([2, 2, 2]),
    )
    expected = [-np.log(every_text(logs[: lengths[i], i])[tuple(texts[i])]) for i in range(2)]
    np.testing.assert_allclose(losses(*arguments), [*expected, 0.0], rtol=1e-9)
    assert losses(*arguments, impossible=float("nan"))[2].isnan()


def test_a_text_that_is_too_long_has_no_gradient() -> None:
    logs = torch.from_numpy(outputs(0, 2, 3)).unsqueeze(1).requires_grad_()
    loss = losses(logs, None, torch.tensor([1, 1]), torch.tensor([2]))
    loss.sum().backward()
    assert logs.grad is not None
    assert (logs.grad == 0).all()


def test_an_empty_text() -> None:
    logs = outputs(0, 3, 3)
    found = losses(torch.from_numpy(logs).unsqueeze(1), None, torch.zeros(0, dtype=torch.int64), torch.tensor([0]))
    assert float(found[0]) == pytest.approx(-logs[:, BLANK].sum())
    assert alignment(logs, []) == [BLANK] * 3


def test_no_beam_is_refused() -> None:
    with pytest.raises(ValueError, match="beam: 0"):
        prefix_beam(outputs(0, 2, 2), 0)
