"""Connectionist temporal classification: from an output a step to the symbols said (Graves et al. 2006).

At every step the network puts out probabilities of the symbols 1 to C - 1 and of the blank, 0. A path is one of these a
step; what it says is found by taking runs of one symbol for one, and leaving blanks out. The probability of a text is
the sum over all paths that say it.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BLANK = 0
"""The output that says nothing."""

_NEVER = -math.inf


@dataclass(frozen=True)
class Reading:
    """What is read off the outputs of one sequence.

    Attributes:
        symbols: Outputs from 1, in order.
        score: Logarithm of its probability; of the best path alone where no beam was kept.
    """

    symbols: list[int]
    score: float


def said_by(path: list[int]) -> list[int]:
    """What a path says.

    >>> said_by([0, 3, 3, 0, 3, 1, 1])
    [3, 3, 1]
    """
    return [s for i, s in enumerate(path) if s != BLANK and (i == 0 or s != path[i - 1])]


def fewest_steps(symbols: list[int]) -> int:
    """Steps that a text takes at least: one a symbol, and a blank between two that are alike.

    >>> fewest_steps([3, 3, 1])
    4
    """
    return len(symbols) + sum(a == b for a, b in pairwise(symbols))


def best_path(log_probabilities: np.ndarray) -> Reading:
    """What the path of the most probable output at every step says.

    Args:
        log_probabilities: (T, C).
    """
    path = log_probabilities.argmax(1)
    return Reading(said_by(path.tolist()), float(log_probabilities.max(1).sum()))


def prefix_beam(log_probabilities: np.ndarray, beam: int = 8, least: float = 1e-6) -> Reading:
    """The most probable text among those that a beam holds (Hannun et al. 2014, algorithm 1, without a language model).

    Of each beginning of a text two probabilities are kept, of its paths that end in a blank and of those that end in
    its last symbol, so that all paths of one text are summed. With a beam as wide as there are beginnings and a `least`
    of 0, the text is the most probable of all.

    Args:
        log_probabilities: (T, C).
        beam: Beginnings that are kept.
        least: Symbols whose probability at a step is below this are not tried there.
    """
    if beam < 1:
        raise ValueError(f"beam: {beam}; at least one beginning is to be kept")
    bound = math.log(least) if least > 0 else _NEVER
    kept: dict[tuple[int, ...], tuple[float, float]] = {(): (0.0, _NEVER)}
    for row in log_probabilities.astype(np.float64).tolist():
        tried = [s for s, p in enumerate(row) if p >= bound and s != BLANK]
        grown: dict[tuple[int, ...], list[float]] = {}
        blank = row[BLANK]
        for prefix, (ends_blank, ends_symbol) in kept.items():
            either = _sum(ends_blank, ends_symbol)
            here = grown.setdefault(prefix, [_NEVER, _NEVER])
            here[0] = _sum(here[0], either + blank)
            if prefix:
                here[1] = _sum(here[1], ends_symbol + row[prefix[-1]])
            for s in tried:
                # The same symbol again is a new one only behind a blank.
                before = ends_blank if prefix and s == prefix[-1] else either
                longer = grown.setdefault((*prefix, s), [_NEVER, _NEVER])
                longer[1] = _sum(longer[1], before + row[s])
        ranked = sorted(grown.items(), key=lambda item: -_sum(*item[1]))
        kept = {prefix: (ends[0], ends[1]) for prefix, ends in ranked[:beam]}
    best, ends = max(kept.items(), key=lambda item: _sum(*item[1]))
    return Reading(list(best), _sum(*ends))


def _sum(a: float, b: float) -> float:
    """log(e^a + e^b)."""
    if a < b:
        a, b = b, a
    return a if b == _NEVER else a + math.log1p(math.exp(b - a))


def alignment(log_probabilities: np.ndarray, symbols: list[int]) -> list[int] | None:
    """The most probable path that says the symbols (Viterbi), an output a step; None where the steps are too few.

    Args:
        log_probabilities: (T, C).
        symbols: Outputs from 1.
    """
    T = len(log_probabilities)
    if not T or fewest_steps(symbols) > T:
        return None
    states = [BLANK] + [s for symbol in symbols for s in (symbol, BLANK)]
    S = len(states)
    score = np.full(S, _NEVER)
    score[:2] = log_probabilities[0, states[:2]]
    came = np.zeros((T, S), np.int64)
    may_skip = np.array([i > 1 and s != BLANK and s != states[i - 2] for i, s in enumerate(states)])
    for t in range(1, T):
        stay, one = score, np.concatenate([[_NEVER], score[:-1]])
        two = np.where(may_skip, np.concatenate([[_NEVER] * min(2, S), score[:-2]])[:S], _NEVER)
        every = np.stack([stay, one, two])
        came[t] = every.argmax(0)
        score = every.max(0) + log_probabilities[t, states]
    place = S - 1 if S == 1 or score[S - 1] >= score[S - 2] else S - 2
    path = []
    for t in range(T - 1, -1, -1):
        path.append(states[place])
        place -= int(came[t, place])
    return path[::-1]


def losses(
    log_probabilities: Tensor, lengths: Tensor | None, targets: Tensor, target_lengths: Tensor, impossible: float = 0.0
) -> Tensor:
    """-log of the probability of each text, by PyTorch's CTC loss.

    Args:
        log_probabilities: (T, B, C).
        lengths: (B,), or None where all have T steps.
        targets: (Σ target_lengths,) outputs from 1, laid end to end.
        target_lengths: (B,).
        impossible: What stands for a text that so few steps cannot say; where it is 0 that has no gradient either.

    Returns:
        (B,) nats.
    """
    T, B, _ = log_probabilities.shape
    steps = torch.full((B,), T) if lengths is None else lengths
    found = torch.nn.functional.ctc_loss(
        log_probabilities, targets, steps.cpu(), target_lengths.cpu(), BLANK, "none", zero_infinity=impossible == 0
    )
    return found if impossible == 0 else found.masked_fill(found == torch.inf, impossible)
