"""What a benchmark finds: figures, the goals they are to reach, and means of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recurra.bench.shapes import Shape
from recurra.bench.timing import Ratio, Samples


@dataclass(frozen=True)
class Goal:
    """What figures of a suite are to reach.

    Attributes:
        suite: The suite's name.
        against: Whom the figures are taken against.
        cells: The cells that it concerns.
        shapes: The sizes that it concerns.
        least: What every figure is to be at the least, or None.
        most: What every figure is to be at the most, or None.
        mean: What their geometric mean is to be at the least, or None.
    """

    suite: str
    against: str
    cells: tuple[str, ...]
    shapes: tuple[Shape, ...]
    least: float | None = None
    most: float | None = None
    mean: float | None = None

    def concerns(self, figure: "Figure") -> bool:
        """Whether the figure is one of those."""
        return (
            (self.suite, self.against) == (figure.suite, figure.against)
            and figure.cell in self.cells
            and figure.shape in self.shapes
        )

    def __str__(self) -> str:
        return f"≥ {self.least:g}" if self.least is not None else f"≤ {self.most:g}"

    def reached(self, value: float) -> bool:
        """Whether one figure's value is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


@dataclass(frozen=True)
class Figure:
    """One ratio of the table.

    Attributes:
        suite: The suite's name.
        cell: The cell's name.
        shape: The sizes.
        against: Whom or what ours is compared with.
        ratio: Its value and spread; the suite says of what.
        samples: Every sample behind it, by contestant.
        ours: Which of them is ours.
        theirs: Which is the other.
        unit: Of the samples: "s" or "B".
        backend: How ours ran.
        goal: What it is to reach, if anything is asked of it by itself.
    """

    suite: str
    cell: str
    shape: Shape
    against: str
    ratio: Ratio
    samples: Samples
    ours: str
    theirs: str
    unit: str = "s"
    backend: str = ""
    goal: Goal | None = None


@dataclass(frozen=True)
class Mean:
    """The geometric mean of some figures.

    Attributes:
        goal: What it is to reach.
        value: The mean.
        count: Of how many figures.
        whole: Of how many it is meant to be.
    """

    goal: Goal
    value: float
    count: int
    whole: int

    @property
    def reached(self) -> bool:
        """Whether it is good enough."""
        return self.goal.mean is not None and self.value >= self.goal.mean


def means(figures: Sequence[Figure], goals: Sequence[Goal]) -> list[Mean]:
    """The geometric means that something is asked of, where there is a figure for them."""
    found = []
    for goal in goals:
        values = [figure.ratio.value for figure in figures if goal.concerns(figure)]
        if goal.mean is not None and values:
            mean = math.exp(math.fsum(map(math.log, values)) / len(values))
            found.append(Mean(goal, mean, len(values), len(goal.cells) * len(goal.shapes)))
    return found
