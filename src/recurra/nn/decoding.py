"""From the distribution of the next symbol to texts: sampling, greedy choice, beam search.

A model is what takes a step: `step(symbols, state) -> (log_probabilities, state)`, with symbols (B,), log-probabilities
(B, V) and a state of tensors in tuples and lists. Everything here is without autograd.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.nn.arguments import whole

Step = Callable[[Tensor, Any], tuple[Tensor, Any]]
Reorder = Callable[[Any, Tensor], Any]

LOW = 1e-3
"""A temperature below which a score divided by it may be more than a number can be."""
NONE = -1  # in the place of a symbol of a row whose text has ended


def select_rows(state: Any, rows: Tensor) -> Any:
    """The rows of a state that `rows` names, in that order; a row may be named often, or never.

    Tensors of three axes or more have their rows on axis 1, time or layers being on axis 0 ((layers, B, width) of
    `Recurrent`, (T, B, width) of a memory); those of one or two axes on axis 0. What is no tensor stays as it is.

    Args:
        state: A tensor, or tuples (named ones too), lists and mappings of them, or None.
        rows: (B',), the numbers of rows.

    Returns:
        The same structure, with B' rows.
    """
    if isinstance(state, Tensor):
        return state.index_select(1 if state.dim() > 2 else 0, rows.to(state.device))
    if isinstance(state, dict):
        return {name: select_rows(value, rows) for name, value in state.items()}
    if isinstance(state, (tuple, list)):
        values = [select_rows(value, rows) for value in state]
        if isinstance(state, list):
            return values
        return type(state)(*values) if hasattr(state, "_fields") else tuple(values)
    return state


def join_rows(states: Sequence[Any]) -> Any:
    """The rows of several states, of the same structure, as one; see `select_rows`.

    Args:
        states: Structures of tensors.

    Returns:
        The same structure, with the rows of the first state, then of the second, and so on.
    """
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(list(states), 1 if first.dim() > 2 else 0)
    if isinstance(first, dict):
        return {name: join_rows([state[name] for state in states]) for name in first}
    if isinstance(first, (tuple, list)):
        values = [join_rows(column) for column in zip(*states, strict=True)]
        if isinstance(first, list):
            return values
        return type(first)(*values) if hasattr(first, "_fields") else tuple(values)
    return first


# --- sampling --------------------------------------------------------------------------------------------------------


class Sampler:
    """Chooses the next symbol of every row from scores of all symbols.

    The distribution is made of the scores in this order: repetitions are made less probable, then come the
    temperature, the `top_k` most probable symbols, and of these the fewest that hold `top_p` of the probability. Every
    row draws from a generator of its own, so that what is drawn for a row does not depend on the rows beside it.

    Args:
        temperature: Scores are divided by it; 0 takes the most probable symbol, the first of equals.
        top_k: Only the so many most probable symbols may come; None for all.
        top_p: Only the fewest symbols whose probabilities together reach it may come (nucleus sampling, Holtzman et al.
            2020).
        repetition_penalty: θ; a symbol that stands in the text already has θ times its log-probability (after Keskar et
            al. 2019, who divide raw scores by θ, whose zero means nothing; 1 for no penalty).
        seed: The generators' seed.
        rows: Rows B, or the number of each row, from which, with the seed, its generator is made.
        forbidden: Symbols that never come.

    Raises:
        ValueError: A setting that cannot be.

    Example:
        >>> Sampler(temperature=0).choose(np.log([[0.2, 0.5, 0.3]]))
        array([1])
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        top_k: int | None = None,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        rows: int | Sequence[int] = 1,
        forbidden: Sequence[int] = (),
    ) -> None:
        self.temperature = _real("temperature", temperature, 0, None)
        self.top_k = None if top_k is None else whole("top_k", top_k)
        self.top_p = _real("top_p", top_p, 0, 1, open_below=True)
        self.repetition_penalty = _real("repetition_penalty", repetition_penalty, 0, None, open_below=True)
        if not isinstance(seed, Integral) or isinstance(seed, bool) or seed < 0:
            raise ValueError(f"seed: a whole number from 0 on is expected, not {seed!r}")
        numbers = rows if isinstance(rows, Sequence) else range(whole("rows", rows))
        self.forbidden = [int(symbol) for symbol in forbidden]
        self._mask = np.zeros(0)  # (V,), -inf for what is forbidden, else 0; made with the first scores
        self.rows = len(numbers)
        self._random = [np.random.default_rng([int(seed), int(n)]).random for n in numbers]
        self._said: np.ndarray | None = None

    def begin(self, prompts: Sequence[Sequence[int]], vocabulary: int) -> None:
        """Say which symbols stand in each row's text before the first is chosen, for the penalty on repetitions.

        Args:
            prompts: B lists of symbols.
            vocabulary: Symbols V that there are.
        """
        if self.repetition_penalty != 1:
            self._said = np.zeros((self.rows, vocabulary), bool)
            for row, prompt in enumerate(prompts):
                self._said[row, list(prompt)] = True

    def probabilities(self, scores: np.ndarray) -> np.ndarray:
        """The distribution that `choose` draws from.

        Args:
            scores: (B, V), log-probabilities, or what differs from them by a number for each row.

        Returns:
            (B, V), float64, each row of sum 1.
        """
        scores = self._scores(scores, self._said)
        if self.temperature == 0:
            return np.equal(np.arange(scores.shape[1]), scores.argmax(1)[:, None]).astype(np.float64)
        weights = self._weights(scores)
        return weights / weights.sum(1, keepdims=True)

    def choose(self, scores: np.ndarray | Tensor, living: Sequence[int] | None = None) -> np.ndarray:
        """The next symbol of each row.

        Args:
            scores: (B, V), as for `probabilities`.
            living: The rows of the sampler that the rows of `scores` are; None for all of them.

        Returns:
            (B,), int64.
        """
        if isinstance(scores, Tensor):
            scores = scores.detach().cpu().double().numpy()
        rows = range(self.rows) if living is None else living
        if len(rows) != len(scores):
            raise ValueError(f"scores: {len(rows)} rows are expected, not {len(scores)}")
        said = self._said if self._said is None or living is None else self._said[list(rows)]
        scores = self._scores(scores, said)
        if self.temperature == 0:
            chosen = scores.argmax(1)
        else:
            sums = np.add.accumulate(self._weights(scores), 1)
            chosen = np.empty(len(rows), np.int64)
            for n, row in enumerate(rows):
                chosen[n] = sums[n].searchsorted(self._random[row]() * sums[n, -1], "right")
        if self._said is not None:
            self._said[list(rows), chosen] = True
        return chosen

    def _scores(self, scores: np.ndarray, said: np.ndarray | None) -> np.ndarray:
        """A copy in float64, without what is forbidden, what stands in the text less probable."""
        if len(self._mask) != scores.shape[1]:
            self._mask = np.zeros(scores.shape[1])
            self._mask[self.forbidden] = -np.inf
        scores = scores + self._mask
        if said is None:
            return scores
        top = scores.max(1, keepdims=True)
        logs = scores - (top + np.log(np.exp(scores - top).sum(1, keepdims=True)))
        return np.multiply(logs, self.repetition_penalty, out=logs, where=said)

    def _weights(self, scores: np.ndarray) -> np.ndarray:
        """What the probabilities are in proportion to; the scores are used up."""
        scores -= np.maximum.reduce(scores, 1, keepdims=True)
        if self.temperature < LOW:
            with np.errstate(over="ignore"):  # e^-inf is the 0 that is meant
                scores /= self.temperature
        elif self.temperature != 1:
            scores /= self.temperature
        weights = np.exp(scores, out=scores)
        if self.top_p < 1 or (self.top_k is not None and self.top_k < weights.shape[1]):
            for row in weights:
                self._cut(row)
        return weights

    def _cut(self, weights: np.ndarray) -> None:
        """Leave the most probable symbols of a row, (V,), of equals the first ones; sorts numbers, not places."""
        count = len(weights) if self.top_k is None else min(self.top_k, len(weights))
        if self.top_p == 1:
            least = np.partition(weights, len(weights) - count)[len(weights) - count]
        else:
            best = np.sort(weights)[::-1][:count]
            before = np.cumsum(best) - best  # what the more probable ones hold
            count = int((before < self.top_p * best.sum()).sum())
            least = best[count - 1]
        equal = np.flatnonzero(weights == least)
        out = weights < least
        out[equal[count - int((weights > least).sum()) :]] = True
        weights[out] = 0


def sample(
    step: Step,
    state: Any,
    first: Tensor,
    length: int,
    sampler: Sampler,
    *,
    end: int | None = None,
    reorder: Reorder = select_rows,
) -> Iterator[Tensor]:
    """Symbol after symbol of B texts, as they are chosen.

    Args:
        step: Takes a step.
        state: The model's state before `first`.
        first: (B,), the symbols that are read first: the last ones of the prompts, or those that begin a text.
        length: Symbols of each text at most.
        sampler: Chooses; it has B rows.
        end: The symbol that ends a text; None for texts that end with their length. It is handed out as the last one.
        reorder: Chooses rows of the state, once texts have ended.

    Yields:
        (B,), int64, the next symbol of every text; -1 for those that have ended.
    """
    symbols, living = first, list(range(len(first)))
    for _ in range(length):
        if not living:
            return
        with torch.no_grad():
            scores, state = step(symbols, state)
        chosen = torch.from_numpy(sampler.choose(scores, living))
        said = torch.full((len(first),), NONE)
        said[living] = chosen
        yield said
        symbols = chosen.to(first.device)
        if end is not None and (kept := (chosen != end).nonzero().flatten()).numel() < len(living):
            living = [living[k] for k in kept.tolist()]
            kept = kept.to(first.device)
            symbols, state = symbols[kept], reorder(state, kept)


# --- beam search -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Hypothesis:
    """A text that a beam search found.

    Attributes:
        symbols: Its symbols, without the one that ends it.
        score: What hypotheses are ordered by: the log-probability divided by `length_penalty` of the length, in which
            an end counts.
        log_probability: Natural logarithm of its probability, the end included where it has ended.
        ended: Whether it came to its end; False where it was cut at the greatest length.
        watched: (n, ...), what was collected at each of its n steps, the one that chose the end included; None where
            nothing was.
    """

    symbols: list[int]
    score: float
    log_probability: float
    ended: bool
    watched: Tensor | None = None


def length_penalty(length: Any, alpha: float) -> Any:
    """((5 + n) / 6)^α, by which log-probabilities of n symbols are divided (Wu et al. 2016, eq. 14).

    >>> float(length_penalty(7, 1.0))
    2.0
    """
    return ((5 + length) / 6) ** alpha


def beam_search(
    step: Step,
    state: Any,
    first: Tensor,
    *,
    end: int | None,
    max_length: int | Tensor,
    beam_size: int = 5,
    alpha: float = 0.6,
    n_best: int = 1,
    patience: float | None = 1.0,
    forbidden: Sequence[int] = (),
    reorder: Reorder = select_rows,
    watch: Callable[[Any], Tensor] | None = None,
) -> list[list[Hypothesis]]:
    """The most probable texts, as far as a beam finds them, for B prompts or sentences at once.

    At each step the `beam_size` best texts of every sentence that go on are kept. Those that end among the `beam_size`
    best candidates are put aside. A sentence is done once enough have ended (see `patience`), or none that goes on can
    still be better than the `n_best` found, and it takes no further room in the batch. With `beam_size=1` and the
    default patience, this is greedy choice.

    Args:
        step: Takes a step.
        state: The model's state before `first`, of B rows.
        first: (B,), the symbols read first.
        end: The symbol that ends a text; None for texts of `max_length` symbols.
        max_length: Symbols of a text at most, the end counted; a number, or (B,).
        beam_size: Texts kept for each sentence.
        alpha: Exponent of `length_penalty`; 0 orders by the log-probability itself, which favours short texts.
        n_best: Texts returned for each sentence, at most.
        patience: A sentence is done once `patience * beam_size` texts have ended (Kasai et al. 2022); None goes on
            until nothing better can come.
        forbidden: Symbols that never come.
        reorder: Chooses rows of the state; the beams of a sentence are rows side by side.
        watch: From the state after a step, (rows, ...), to what is to be collected, such as attention's weights:
            (rows, ...).

    Returns:
        For each sentence its hypotheses, the best first; those that have ended come before those that were cut.

    Raises:
        ValueError: A setting that cannot be.
    """
    beam_size, n_best = whole("beam_size", beam_size), whole("n_best", n_best)
    if n_best > beam_size:
        raise ValueError(f"n_best: {n_best} texts cannot come from a beam of {beam_size}; beam_size is too small")
    alpha = _real("alpha", alpha, 0, None)
    enough = None if patience is None else _real("patience", patience, 0, None, open_below=True) * beam_size
    lengths = torch.as_tensor(max_length).cpu().expand(len(first)).tolist()
    if lengths and min(lengths) < 1:
        raise ValueError(f"max_length: a whole number above 0 is expected, not {min(lengths)}")
    never = torch.as_tensor(list(forbidden), dtype=torch.long, device=first.device)
    found: list[_Found] = [_Found(n_best, enough, alpha, n) for n in lengths]
    with torch.no_grad():
        _search(step, state, first, end, beam_size, never, reorder, watch, found)
    return [f.best() for f in found]


class _Found:
    """What was found for one sentence."""

    def __init__(self, n_best: int, enough: float | None, alpha: float, max_length: int) -> None:
        self.n_best, self.enough, self.alpha, self.max_length = n_best, enough, alpha, max_length
        self.ended: list[Hypothesis] = []
        self.cut: list[Hypothesis] = []

    def add(self, symbols: list[int], log_probability: float, ended: bool, watched: Tensor | None) -> None:
        score = log_probability / length_penalty(len(symbols) + ended, self.alpha)
        (self.ended if ended else self.cut).append(Hypothesis(symbols, score, log_probability, ended, watched))

    def is_done(self, going_on: float) -> bool:
        """Whether nothing more is looked for, where the best of the texts that go on has this log-probability."""
        if going_on == -np.inf or (self.enough is not None and len(self.ended) >= self.enough):
            return True
        if len(self.ended) < self.n_best:
            return False
        # Longer texts are no more probable, and what divides is greatest for the longest: this is a bound.
        worst = sorted((h.score for h in self.ended), reverse=True)[self.n_best - 1]
        return going_on / length_penalty(self.max_length, self.alpha) <= worst

    def best(self) -> list[Hypothesis]:
        """The `n_best` best."""
        ranked = (sorted(of, key=lambda h: h.score, reverse=True) for of in (self.ended, self.cut))
        return [h for of in ranked for h in of][: self.n_best]


def _search(
    step: Step,
    state: Any,
    first: Tensor,
    end: int | None,
    K: int,
    never: Tensor,
    reorder: Reorder,
    watch: Callable[[Any], Tensor] | None,
    found: list[_Found],
) -> None:
    """Put what a beam of K finds into `found`."""
    device, going_on = first.device, list(range(len(first)))  # sentences that are not done: A of them
    symbols, n = first, 0
    total = torch.zeros(len(first), 1, device=device)  # (A, beams): log-probabilities of the texts
    texts = torch.zeros(len(first), 1, 0, dtype=torch.long, device=device)  # (A, beams, n)
    watched: Tensor | None = None  # (A * beams, n, ...)
    while going_on:
        A, beams = total.shape
        scores, state = step(symbols, state)
        if watch is not None:
            seen = watch(state).unsqueeze(1)
            watched = seen if watched is None else torch.cat([watched, seen], 1)
        every = (total.unsqueeze(2) + scores.index_fill(1, never, -torch.inf).view(A, beams, -1)).flatten(1)
        # Each beam ends in one way, so of 2K candidates at least K go on.
        total, places = every.topk(min(2 * K, every.shape[1]))
        origins, chosen = places // scores.shape[1], places % scores.shape[1]
        base = beams * torch.arange(A, device=device).unsqueeze(1)
        n += 1
        if end is not None:
            ends = chosen[:, :K] == end
            for a, k in (ends & (total[:, :K] > -torch.inf)).nonzero().tolist():
                origin = int(origins[a, k])
                seen = None if watched is None else watched[a * beams + origin].clone()
                found[going_on[a]].add(texts[a, origin].tolist(), float(total[a, k]), True, seen)
            total = total.masked_fill(chosen == end, -torch.inf)
        total, order = total.topk(min(K, total.shape[1]))
        origins, chosen = origins.gather(1, order), chosen.gather(1, order)
        texts = torch.cat([texts.gather(1, origins.unsqueeze(2).expand(-1, -1, n - 1)), chosen.unsqueeze(2)], 2)
        rows, kept = base + origins, []
        for a, best in enumerate(total[:, 0].tolist()):
            of = found[going_on[a]]
            if of.is_done(best):
                continue
            if n < of.max_length:
                kept.append(a)
                continue
            for k in (total[a] > -torch.inf).nonzero().flatten().tolist():
                seen = None if watched is None else watched[int(rows[a, k])].clone()
                of.add(texts[a, k].tolist(), float(total[a, k]), False, seen)
        if len(kept) < A:
            still = torch.tensor(kept, dtype=torch.long, device=device)
            going_on = [going_on[a] for a in kept]
            total, texts, chosen, rows = total[still], texts[still], chosen[still], rows[still]
        if going_on:
            symbols, rows = chosen.flatten(), rows.flatten()
            state = reorder(state, rows)
            watched = None if watched is None else watched.index_select(0, rows)


def _real(name: str, value: Any, low: float, high: float | None, open_below: bool = False) -> float:
    """A number from `low` (or above it) to `high`."""
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else np.nan
    fits = np.isfinite(number) and (high is None or number <= high)
    if fits and (number > low or (number == low and not open_below)):
        return number
    least = f"above {low}" if open_below else f"from {low} on"
    expected = f"a number {least}" if high is None else f"a number {least}, at most {high},"
    raise ValueError(f"{name}: {expected} is expected, not {value!r}")
