"""Decoding: sampling against NumPy and scipy, beams against all texts that there are, on tiny models."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from recurra.nn import Recurrent
from recurra.nn.decoding import Sampler, beam_search, join_rows, length_penalty, sample, select_rows

END = 1


class Model(nn.Module):
    """A language model of two layers of other widths, with a state of every kind."""

    def __init__(self, vocabulary: int, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.rows_seen: list[int] = []
        self.embedding = nn.Embedding(vocabulary, 3, dtype=torch.float64)
        self.recurrent = Recurrent("lstm", 3, [4, 5], num_layers=2, dtype=torch.float64)
        self.out = nn.Linear(5, vocabulary, dtype=torch.float64)
        for p in self.parameters():
            nn.init.normal_(p.requires_grad_(False), std=1.2)

    def first(self, B: int) -> dict[str, Any]:
        """Nothing but what makes the rows differ."""
        generator = torch.Generator().manual_seed(5)
        c = [torch.randn(7, n, generator=generator, dtype=torch.float64)[:B] for n in (4, 5)]
        state = self.recurrent.state_type([torch.zeros_like(v) for v in c], c)
        return {"of": state, "row": torch.arange(B), "memory": torch.arange(B).repeat(3, 1).unsqueeze(2), "x": None}

    def step(self, symbols: Tensor, state: dict[str, Any]) -> tuple[Tensor, dict[str, Any]]:
        self.rows_seen.append(len(symbols))
        assert torch.equal(state["memory"][0, :, 0], state["row"])  # reordered alike
        y, of = self.recurrent.step(self.embedding(symbols), state["of"])
        return self.out(y).log_softmax(-1), {**state, "of": of}


def every_text(model: Model, row: int, first: int, V: int, longest: int) -> list[tuple[list[int], float, bool]]:
    """All texts of a model with their log-probabilities, by going through them one by one."""
    found = []
    for n in range(1, longest + 1):
        for body in itertools.product([v for v in range(V) if v != END], repeat=n - 1):
            for last in range(V):
                if last != END and n < longest:
                    continue
                state = select_rows(model.first(7), torch.tensor([row]))
                total, before = 0.0, first
                for symbol in (*body, last):
                    scores, state = model.step(torch.tensor([before]), state)
                    total, before = total + float(scores[0, symbol]), symbol
                found.append(([*body, *([] if last == END else [last])], total, last == END))
    return found


def ranked(texts: list[tuple[list[int], float, bool]], alpha: float) -> list[tuple[list[int], float]]:
    """Those that end first, each kind by the log-probability over ((5 + n) / 6)^alpha, the end counted."""
    scored = [(s, total / ((5 + len(s) + ended) / 6) ** alpha, ended) for s, total, ended in texts]
    return [(s, score) for s, score, _ in sorted(scored, key=lambda of: (not of[2], -of[1]))]


# --- beam search -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_that_is_wide_enough_finds_the_best_of_all_texts(alpha: float) -> None:
    V, longest, B = 4, 4, 3
    model = Model(V)
    found = beam_search(
        model.step,
        model.first(B),
        torch.tensor([0, 2, 3]),
        end=END,
        max_length=longest,
        beam_size=V**longest,
        alpha=alpha,
        n_best=9,
        patience=None,
    )
    for row, first in enumerate([0, 2, 3]):
        expected = ranked(every_text(model, row, first, V, longest), alpha)[:9]
        assert [h.symbols for h in found[row]] == [s for s, _ in expected]
        assert [h.score for h in found[row]] == pytest.approx([score for _, score in expected], rel=1e-5)
        assert all(h.ended for h in found[row])


def test_what_is_cut_comes_after_what_has_ended() -> None:
    V, longest = 3, 3
    model = Model(V, seed=2)
    texts = every_text(model, 0, 0, V, longest)
    found = beam_search(
        model.step,
        model.first(1),
        torch.tensor([0]),
        end=END,
        max_length=longest,
        beam_size=99,
        n_best=len(texts),
        patience=None,
        alpha=0.6,
    )[0]
    assert [h.symbols for h in found] == [s for s, _ in ranked(texts, 0.6)]
    assert [h.ended for h in found] == sorted((ended for _, _, ended in texts), reverse=True)
    assert math.fsum(math.exp(h.log_probability) for h in found) == pytest.approx(1)  # they are all there are


def plain_beam(model: Model, row: int, first: int, K: int, longest: int, patience: float | None) -> list[list[int]]:
    """The best K texts of one sentence by lists: the K best that go on, and what ends among the K best of all."""
    going = [(0.0, [first], select_rows(model.first(7), torch.tensor([row])))]
    ended: list[tuple[float, list[int]]] = []
    for n in range(1, longest + 1):
        every = []
        for total, text, state in going:
            scores, after = model.step(torch.tensor(text[-1:]), state)
            every += [(total + float(s), [*text, v], after) for v, s in enumerate(scores[0])]
        every.sort(key=lambda of: -of[0])
        ended += [(total / ((5 + n) / 6) ** 0.6, text[1:-1]) for total, text, _ in every[:K] if text[-1] == END]
        going = [of for of in every if of[1][-1] != END][:K]
        ended.sort(key=lambda of: -of[0])
        if patience is not None and len(ended) >= patience * K:
            break
        if len(ended) >= K and going[0][0] / ((5 + longest) / 6) ** 0.6 <= ended[K - 1][0]:
            break
    else:  # as long as may be: those that go on are cut
        ended += [(-math.inf, text[1:]) for _, text, _ in going]
    return [text for _, text in ended[:K]]


@pytest.mark.parametrize("beam_size", [1, 2, 3, 7])
@pytest.mark.parametrize("patience", [0.5, 1.0, 2.0, None])
def test_a_narrow_beam_finds_what_one_by_lists_finds(beam_size: int, patience: float | None) -> None:
    first = [0, 2, 5, 8, 3, 7, 6]
    for seed in range(3):
        model = Model(9, seed)
        found = beam_search(
            model.step,
            model.first(7),
            torch.tensor(first),
            end=END,
            max_length=14,
            beam_size=beam_size,
            n_best=beam_size,
            patience=patience,
        )
        for row in range(7):
            expected = plain_beam(model, row, first[row], beam_size, 14, patience)
            assert [h.symbols for h in found[row]] == expected


@pytest.mark.parametrize("beam_size", [1, 2, 3, 7])
@pytest.mark.parametrize("patience", [1.0, None])
def test_sentences_side_by_side_are_searched_as_each_by_itself(beam_size: int, patience: float | None) -> None:
    model, first, lengths = Model(9, seed=3), torch.tensor([0, 2, 5, 8, 3]), torch.tensor([12, 1, 30, 5, 9])
    options: dict[str, Any] = {"end": END, "beam_size": beam_size, "n_best": beam_size, "patience": patience}
    together = beam_search(model.step, model.first(5), first, max_length=lengths, **options)
    assert min(model.rows_seen) < max(model.rows_seen)  # what is done takes no room
    for row in range(5):
        state = select_rows(model.first(5), torch.tensor([row]))
        alone = beam_search(model.step, state, first[row : row + 1], max_length=int(lengths[row]), **options)[0]
        assert [h.symbols for h in alone] == [h.symbols for h in together[row]]
        assert [h.score for h in alone] == pytest.approx([h.score for h in together[row]])
        assert all(len(h.symbols) + h.ended <= lengths[row] for h in alone)


def test_a_hypothesis_says_the_probability_of_its_text() -> None:
    model = Model(9, seed=3)
    for row, hypotheses in enumerate(
        beam_search(model.step, model.first(4), torch.full((4,), 4), end=END, max_length=9, beam_size=3, n_best=3)
    ):
        for h in hypotheses:
            state, total, before = select_rows(model.first(4), torch.tensor([row])), 0.0, 4
            for symbol in h.symbols + [END] * h.ended:
                scores, state = model.step(torch.tensor([before]), state)
                total, before = total + float(scores[0, symbol]), symbol
            assert h.log_probability == pytest.approx(total, rel=1e-5)


def test_a_beam_of_one_is_greedy_choice() -> None:
    model, first = Model(6, seed=4), torch.tensor([0, 2, 3, 4])
    found = beam_search(model.step, model.first(4), first, end=END, max_length=15, beam_size=1)
    steps = torch.stack(
        list(sample(model.step, model.first(4), first, 15, Sampler(temperature=0, rows=4), end=END)), 1
    ).tolist()
    assert [h.symbols for (h,) in found] == [[s for s in row if s not in (END, -1)] for row in steps]


def test_texts_without_an_end_have_the_length_asked_for() -> None:
    model = Model(4, seed=1)
    (found,) = beam_search(
        model.step, model.first(1), torch.tensor([2]), end=None, max_length=3, beam_size=64, n_best=64
    )
    assert sorted(h.symbols for h in found) == [list(s) for s in itertools.product(range(4), repeat=3)]
    assert math.fsum(math.exp(h.log_probability) for h in found) == pytest.approx(1)
    assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)


def test_what_is_watched_follows_its_hypothesis() -> None:
    """The state's first field is that after each step of the very text, however often beams were reordered."""
    model, first = Model(5, seed=5), torch.tensor([0, 3, 2])
    found = beam_search(
        model.step,
        model.first(3),
        first,
        end=END,
        max_length=8,
        beam_size=4,
        n_best=4,
        watch=lambda state: state["of"].h[1],
    )
    ended = set()
    for row, hypotheses in enumerate(found):
        for h in hypotheses:
            state = select_rows(model.first(3), torch.tensor([row]))
            expected = []
            for symbol in [int(first[row]), *h.symbols][: len(h.symbols) + h.ended]:
                _, state = model.step(torch.tensor([symbol]), state)
                expected.append(state["of"].h[1][0])
            assert h.watched is not None
            torch.testing.assert_close(h.watched, torch.stack(expected))
            ended.add(h.ended)
    assert ended == {True, False}


def test_forbidden_symbols_never_come() -> None:
    model = Model(5, seed=6)
    (found,) = beam_search(
        model.step, model.first(1), torch.tensor([0]), end=END, max_length=4, beam_size=50, n_best=50, forbidden=[0, 3]
    )
    assert {s for h in found for s in h.symbols} == {2, 4}
    assert all(math.isfinite(h.score) for h in found)
    assert len(found) == 1 + 2 + 4 + 8 + 16  # every text of the symbols that are left


def test_patience_decides_how_long_is_searched() -> None:
    steps, best = [], []
    for patience in (0.25, 1.0, 3.0, None):
        model = Model(6, seed=6)
        options: dict[str, Any] = {"end": END, "max_length": 40, "beam_size": 4, "patience": patience}
        best.append(beam_search(model.step, model.first(1), torch.tensor([0]), **options)[0][0].score)
        steps.append(len(model.rows_seen))
    assert sorted(set(steps)) == steps
    assert sorted(best) == best


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"beam_size": 0}, "beam_size: a whole number above 0 is expected, not 0"),
        ({"beam_size": 2, "n_best": 3}, "n_best: 3 texts cannot come from a beam of 2"),
        ({"max_length": 0}, "max_length: a whole number above 0 is expected, not 0"),
        ({"alpha": -1}, "alpha: a number from 0 on is expected, not -1"),
        ({"patience": 0}, "patience: a number above 0 is expected, not 0"),
    ],
)
def test_settings_of_a_search_that_cannot_be(options: dict[str, Any], words: str) -> None:
    model = Model(4)
    with pytest.raises(ValueError, match=words):
        beam_search(model.step, model.first(1), torch.tensor([0]), **{"end": END, "max_length": 3, **options})


def test_length_penalty() -> None:
    assert [float(length_penalty(n, 0.6)) for n in (1, 7)] == pytest.approx([1, 2**0.6])


# --- rows of a state -------------------------------------------------------------------------------------------------


class _Fields(NamedTuple):
    h: Tensor
    c: list[Tensor]


def test_rows_of_every_kind_of_state() -> None:
    h, c, n = torch.randn(2, 3, 4), [torch.randn(3, 2), torch.randn(3, 5)], torch.tensor([7, 8, 9])
    rows = torch.tensor([2, 0, 0, 1])
    chosen = select_rows({"of": _Fields(h, c), "n": n, "nothing": None, "pair": (n, "text")}, rows)
    assert isinstance(chosen["of"], _Fields)
    torch.testing.assert_close(chosen["of"].h, h[:, [2, 0, 0, 1]])
    torch.testing.assert_close(chosen["of"].c, [v[[2, 0, 0, 1]] for v in c])
    assert chosen["n"].tolist() == [9, 7, 7, 8]
    assert chosen["nothing"] is None
    assert chosen["pair"][1] == "text"
    again = join_rows([chosen, select_rows(chosen, torch.tensor([3]))])
    torch.testing.assert_close(again["of"].h, h[:, [2, 0, 0, 1, 1]])
    torch.testing.assert_close(again["of"].c, [v[[2, 0, 0, 1, 1]] for v in c])
    assert (again["n"].tolist(), again["nothing"], again["pair"][1]) == ([9, 7, 7, 8, 8], None, "text")
    assert isinstance(again["of"], _Fields)


# --- sampling --------------------------------------------------------------------------------------------------------


def nucleus(p: Sequence[float], top_k: int | None, top_p: float) -> list[float]:
    """The distribution cut, in plain Python: the k most probable, then as few as reach the share."""
    order = sorted(range(len(p)), key=lambda v: (-p[v], v))[: top_k or len(p)]
    whole = math.fsum(p[v] for v in order)
    kept, so_far = [], 0.0
    for v in order:
        kept.append(v)
        so_far += p[v] / whole
        if so_far >= top_p - 1e-12:
            break
    left = math.fsum(p[v] for v in kept)
    return [p[v] / left if v in kept else 0.0 for v in range(len(p))]


@given(st.integers(0, 10**6), st.integers(1, 12), st.none() | st.integers(1, 14), st.floats(0.01, 1.0))
def test_cuts_are_those_of_plain_python(seed: int, V: int, top_k: int | None, top_p: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(3, V)) * 2
    found = Sampler(temperature=0.7, top_k=top_k, top_p=top_p, rows=3).probabilities(scores)
    for row, p in zip(scores, found, strict=True):
        tempered = np.exp(row / 0.7) / np.exp(row / 0.7).sum()
        assert p.tolist() == pytest.approx(nucleus(tempered.tolist(), top_k, top_p))


def test_of_equals_the_first_stay() -> None:
    scores = np.zeros((1, 5))
    assert Sampler(top_k=2).probabilities(scores).tolist() == [[0.5, 0.5, 0, 0, 0]]
    assert Sampler(top_p=0.6).probabilities(scores)[0] == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert Sampler(temperature=0).choose(scores).tolist() == [0]


def test_temperatures_limits() -> None:
    scores = np.random.default_rng(0).normal(size=(2, 6))
    greedy = Sampler(temperature=0, rows=2).probabilities(scores)
    assert greedy.argmax(1).tolist() == scores.argmax(1).tolist()
    assert np.array_equal(Sampler(temperature=1e-300, rows=2).probabilities(scores), greedy)
    assert Sampler(temperature=1e9, rows=2).probabilities(scores) == pytest.approx(np.full((2, 6), 1 / 6))
    softmax = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    assert Sampler(rows=2).probabilities(scores) == pytest.approx(softmax)


def test_what_is_drawn_has_the_distribution() -> None:
    scores, settings = np.random.default_rng(1).normal(size=7) * 2, {"temperature": 1.3, "top_k": 6, "top_p": 0.95}
    sampler = Sampler(**settings, seed=4, rows=20_000)
    counts = np.bincount(sampler.choose(np.tile(scores, (20_000, 1))), minlength=7)
    expected = Sampler(**settings).probabilities(scores[None])[0]
    assert not counts[expected == 0].any()
    assert stats.chisquare(counts[expected > 0], 20_000 * expected[expected > 0]).pvalue > 1e-3


def test_a_repeated_symbol_has_theta_times_its_log_probability() -> None:
    scores = np.random.default_rng(2).normal(size=(2, 4))
    sampler = Sampler(repetition_penalty=1.5, rows=2)
    sampler.begin([[0, 2, 2], []], 4)
    found = sampler.probabilities(scores)
    log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
    weights = np.exp(log_p * [[1.5, 1, 1.5, 1], [1, 1, 1, 1]])
    assert found == pytest.approx(weights / weights.sum(1, keepdims=True))
    assert Sampler(repetition_penalty=1.5, rows=2).probabilities(scores + 8.0) == pytest.approx(np.exp(log_p))

    chosen = int(sampler.choose(scores)[1])  # what is chosen stands in the text from now on
    again = sampler.probabilities(scores)[1]
    weights = np.exp(log_p[1] * np.where(np.arange(4) == chosen, 1.5, 1))
    assert again == pytest.approx(weights / weights.sum())


@pytest.mark.parametrize("settings", [{}, {"top_p": 0.8, "repetition_penalty": 1.3}, {"temperature": 0.5, "top_k": 3}])
def test_a_row_has_the_same_text_whatever_is_beside_it(settings: dict[str, Any]) -> None:
    model, first = Model(7, seed=2), torch.tensor([0, 2, 3, 4, 6])

    def texts(rows: list[int]) -> list[list[int]]:
        sampler = Sampler(**settings, seed=11, rows=rows)
        sampler.begin([[int(first[row])] for row in rows], 7)
        state = select_rows(model.first(5), torch.tensor(rows))
        return torch.stack(list(sample(model.step, state, first[rows], 25, sampler, end=END)), 1).tolist()

    together = texts([0, 1, 2, 3, 4])
    assert len({row.index(END) if END in row else 25 for row in together}) > 2  # they end at different steps
    for row in range(5):
        alone = texts([row])[0]
        assert alone + [-1] * (len(together[row]) - len(alone)) == together[row]
        assert all(s == -1 for s in together[row][together[row].index(END) + 1 if END in together[row] else 25 :])
    assert texts([3, 0]) != texts([0, 3])


def test_texts_that_have_ended_take_no_room() -> None:
    model = Model(4, seed=3)
    list(sample(model.step, model.first(7), torch.zeros(7, dtype=torch.long), 30, Sampler(rows=7), end=END))
    assert model.rows_seen[0] == 7
    assert model.rows_seen == sorted(model.rows_seen, reverse=True)
    assert model.rows_seen[-1] < 7


def test_symbols_come_one_by_one() -> None:
    model = Model(4)
    stream = sample(model.step, model.first(2), torch.tensor([0, 2]), 5, Sampler(rows=2))
    assert not model.rows_seen
    next(stream)
    assert len(model.rows_seen) == 1
    assert len(list(stream)) == 4


def test_a_seed_gives_the_text_and_another_another() -> None:
    model, first = Model(7), torch.tensor([3, 3])

    def text(seed: int) -> list[list[int]]:
        return torch.stack(list(sample(model.step, model.first(2), first, 20, Sampler(seed=seed, rows=2))), 1).tolist()

    assert text(1) == text(1)
    assert text(1) != text(2)
    assert text(1)[0] != text(1)[1]


def test_forbidden_symbols_are_never_drawn() -> None:
    found = Sampler(temperature=3, forbidden=[0, 2], rows=2).probabilities(np.array([[9.0, 1, 9, 0], [9, 0, 9, 1]]))
    assert (found[:, [0, 2]] == 0).all()
    assert (found[:, [1, 3]] > 0).all()
    assert Sampler(temperature=0, forbidden=[0]).choose(np.array([[9.0, 1, 3]])).tolist() == [2]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"temperature": -0.5}, "temperature: a number from 0 on is expected, not -0.5"),
        ({"temperature": math.nan}, "temperature: a number from 0 on is expected, not nan"),
        ({"top_k": 0}, "top_k: a whole number above 0 is expected, not 0"),
        ({"top_p": 0}, "top_p: a number above 0, at most 1, is expected, not 0"),
        ({"top_p": 1.5}, "top_p: a number above 0, at most 1, is expected, not 1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty: a number above 0 is expected, not 0"),
        ({"seed": -1}, "seed: a whole number from 0 on is expected, not -1"),
    ],
)
def test_settings_of_a_sampler_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sampler(**settings)


def test_rows_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="scores: 2 rows are expected, not 3"):
        Sampler(rows=2).choose(np.zeros((3, 4)))
