"""A stream whose law changes at random times."""

from collections.abc import Iterator
from itertools import islice, pairwise
from math import cos, pi, sqrt
from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import Problem
from recurra.data.records import Records

SHORTEST, LONGEST = 4.0, 40.0
"""Periods of the oscillation, in steps."""


class Drifting(Problem):
    """A noisy oscillation whose period jumps at random times: the next value is asked for at every step.

    An autoregressive process of order 2 with the poles ρ e^(±2πi/P) (Box & Jenkins 1970):

        x_t = φ_1 x_(t-1) + φ_2 x_(t-2) + σ ε_t,  φ_1 = 2 ρ cos(2π / P),  φ_2 = -ρ²

    with ε_t standard normal and σ such that the variance of x is 1 while P stands. At every step P is drawn anew with a
    chance of 1/`hold`, 1/P uniform from 1/40 to 1/4. Nothing tells of it but the values, so that who learns must go on
    learning. Who knows P has an error of variance σ², the least there is: (1 - ρ²) ((1 + ρ²)² - φ_1²) / (1 + ρ²).

    Each part is a stream of its own, cut into segments that follow one another: read them in order and carry the
    state. As rows it is one stream without end.
    """

    name: ClassVar[str] = "drifting"
    task: ClassVar[str] = "regress"
    summary: ClassVar[str] = "a noisy oscillation whose period jumps at random times: the next value at every step"

    training: int = Field(default=200, ge=1, description="segments of the training part's stream")
    validation: int = Field(default=20, ge=0, description="segments to choose the best weights by; 0: none")
    test: int = Field(default=50, ge=1, description="segments to measure on")
    length: int = Field(default=100, ge=1, description="steps of a segment")
    hold: float = Field(default=500.0, ge=1, description="steps between jumps, on average")
    radius: float = Field(default=0.95, gt=0, lt=1, description="ρ: how long the oscillation rings; near 1, long")

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Problem.draw`: segments that follow one another, from the start of a stream."""
        steps = count * self.length
        values = np.fromiter(islice(self.values(random), steps + 1), np.float32, steps + 1)
        return Records(
            values=values[:-1, None],
            offsets=np.arange(count + 1, dtype=np.int64) * self.length,
            features=["value"],
            numbers=values[1:, None],
            targets=["next"],
            per_step=True,
            settings={"time": "step", "target": "next"},
            place=lambda index: f"{name}, segment {index}",
        )

    def rows(self) -> Iterator[list[dict[str, object]]]:
        """The stream, a row a step."""
        values = (float(str(np.float32(value))) for value in self.values(self.stream("rows")))
        for step, (value, following) in enumerate(pairwise(values)):
            yield [{"step": step, "value": value, "next": following}]

    def values(self, random: np.random.Generator) -> Iterator[float]:
        """The stream x_0, x_1, … without end; before it, x is as it is on average."""
        before, now = random.standard_normal(2)
        first, second, deviation = self.law(_period(random))
        while True:
            yield now
            if random.random() < 1 / self.hold:
                first, second, deviation = self.law(_period(random))
            before, now = now, first * now + second * before + deviation * random.standard_normal()

    def law(self, period: float) -> tuple[float, float, float]:
        """φ_1, φ_2 and σ while the period stands."""
        square = self.radius**2
        first = 2 * self.radius * cos(2 * pi / period)
        return first, -square, sqrt((1 - square) * ((1 + square) ** 2 - first**2) / (1 + square))


def _period(random: np.random.Generator) -> float:
    return 1 / random.uniform(1 / LONGEST, 1 / SHORTEST)
