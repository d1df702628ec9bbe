"""Several contestants timed in turn, and what their times say."""

import gc
import math
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST = 0.02
"""Seconds that a sample takes at the least: quicker work is done several times in a row, and the mean taken."""

PAUSE = 0.02
"""Seconds between two samples, in which one's waiting threads fall asleep and leave the processors to the next.
PyTorch's OpenMP spins for 4 to 8 ms after its work, which would count against whoever comes next."""

Samples = dict[str, list[float]]
"""By contestant, the seconds (or bytes) of every sample; the n-th of each were taken in the same round."""


@dataclass(frozen=True)
class Effort:
    """How long is measured.

    Attributes:
        seconds: For all contestants of one piece of work together.
        rounds: Rounds at the least, however long they take.
        exactly: Rounds, however long they take; None leaves it to the time.
    """

    seconds: float = 10.0
    rounds: int = 5
    exactly: int | None = None


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    effort: Effort,
    seed: int = 0,
    clocks: Mapping[str, Callable[[], float]] | None = None,
) -> Samples:
    """Time each in every round, in an order drawn anew, so that what slows the machine down for a while meets all.

    Args:
        runs: What is timed, warm already.
        effort: How long.
        seed: Of the order.
        clocks: By contestant, what its seconds are read from; else they are those that pass.
    """
    order, dice = list(runs), random.Random(seed)
    times = {name: _times(run) for name, run in runs.items()}
    samples: Samples = {name: [] for name in runs}
    begun = time.perf_counter()
    while _goes_on(len(samples[order[0]]), time.perf_counter() - begun, effort):
        dice.shuffle(order)
        for name in order:
            samples[name].append(_sample(runs[name], times[name], (clocks or {}).get(name)))
    return samples


def _goes_on(done: int, seconds: float, effort: Effort) -> bool:
    if effort.exactly is not None:
        return done < effort.exactly
    return done < effort.rounds or seconds < effort.seconds


def _times(run: Callable[[], Any]) -> int:
    """How often the work is done in one sample."""
    return max(1, math.ceil(LEAST / max(_sample(run, 1), 1e-9)))


def _sample(run: Callable[[], Any], times: int, clock: Callable[[], float] | None = None) -> float:
    """Seconds of one run, the mean of so many in a row."""
    clock = clock or time.perf_counter
    time.sleep(PAUSE)
    collecting = gc.isenabled()
    gc.disable()  # as timeit does: whose turn it falls into is chance
    try:
        begun = clock()
        for _ in range(times):
            run()
        return (clock() - begun) / times
    finally:
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class Ratio:
    """How much larger one contestant's samples are than another's.

    Attributes:
        value: Of the two medians.
        low: First quartile of the ratio within a round.
        high: Third quartile.
    """

    value: float
    low: float
    high: float


def ratio(above: Sequence[float], below: Sequence[float]) -> Ratio:
    """`above` over `below`, samples of the same rounds."""
    rounds = [a / b for a, b in zip(above, below, strict=True)]
    low, _, high = statistics.quantiles(rounds, n=4, method="inclusive") if len(rounds) > 1 else rounds * 3
    return Ratio(statistics.median(above) / statistics.median(below), low, high)
