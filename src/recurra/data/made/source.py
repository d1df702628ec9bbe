"""What a made source is: options that a recipe can set, its parts, and its rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, ClassVar
from zlib import crc32

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recurra.data.records import Records

STREAMS = ("train", "validation", "test", "rows")
"""Random streams of a problem, in the order of their numbers: one for each part, and one for rows without end."""

AS_ROWS: dict[str, object] = {"id": "id", "time": "step"}
"""How the rows of a problem are read again: kept in a run, so that it reads what `recurra data` prints."""

_AT_ONCE = 16
"""Sequences drawn together for rows without end."""


class Made(BaseModel, ABC):
    """A source that needs no file. Its fields are the options that a recipe sets as `data.options`.

    One file a source; registered in `recurra.data.made.MADE`.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    name: ClassVar[str]
    task: ClassVar[str]
    """The task that it is for."""
    summary: ClassVar[str]
    """One line for the documentation."""

    @abstractmethod
    def parts(self) -> dict[str, Any]:
        """What each part holds: train, and validation and test where it has them. Records; of running text, files; of
        series, a table."""

    def rows(self) -> Iterator[list[dict[str, object]]]:
        """The sequences of the training part, each as the rows of a long table."""
        yield from rows(self.parts()["train"])


class Drawn(Made):
    """A source whose sequences are drawn, each part from a random stream of its own.

    The streams are settled by `seed` and the problem's name, so that parts (and problems) share none, and a part of
    another size begins with the same sequences.
    """

    training: int = Field(default=10_000, ge=1, description="sequences to train on")
    validation: int = Field(default=1_000, ge=0, description="sequences to choose the best weights by; 0: none")
    test: int = Field(default=1_000, ge=1, description="sequences to measure on")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of all that is drawn")

    @abstractmethod
    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """The next `count` sequences of a stream; `name` is what messages call them."""

    def stream(self, part: str) -> np.random.Generator:
        """The random numbers of a part, or of rows without end ("rows")."""
        key = (crc32(self.name.encode()), STREAMS.index(part))
        return np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))

    def parts(self) -> dict[str, Records]:
        """See `Made.parts`."""
        sizes = {"train": self.training, "validation": self.validation, "test": self.test}
        return {
            part: self.draw(self.stream(part), count, f"{self.name} ({part} part)")
            for part, count in sizes.items()
            if count
        }

    def rows(self) -> Iterator[list[dict[str, object]]]:
        """Sequences without end, each as the rows of a long table; none of them is in a part."""
        random, index = self.stream("rows"), 0
        while True:
            yield from rows(self.draw(random, _AT_ONCE, self.name), index)
            index += _AT_ONCE


class Problem(Drawn):
    """A problem of memory: what goes in are rows of numbers, what is asked for is known."""


def rows(records: Records, first: int = 0) -> Iterator[list[dict[str, object]]]:
    """Each sequence as rows of a long table: `id, step`, what goes in, and what is asked for (None at steps where
    nothing is). Several labels at once are joined by ';', which alone is a set without labels.

    Args:
        records: The sequences; numbers go in.
        first: The first one's id.
    """
    for index, (start, stop) in enumerate(pairwise(records.offsets.tolist())):
        asked = [_asked(records, index, place) for place in range(start, stop)]
        values = _plain(records.values[start:stop])
        yield [
            {"id": first + index, "step": step, **dict(zip(records.features, row, strict=True)), **target}
            for step, (row, target) in enumerate(zip(values, asked, strict=True))
        ]


def _plain(values: np.ndarray) -> list[list[object]]:
    """Rows as Python's numbers; those in single precision with no more digits than tell them apart."""
    if values.dtype == np.float32:
        return [[float(str(value)) for value in row] for row in values]
    return values.tolist()


def _asked(records: Records, sequence: int, step: int) -> dict[str, object]:
    """The columns of what is asked for at a step."""
    if records.step_labels is not None:
        labels = records.step_labels[step]
        return {"label": None if labels is None else ";".join(labels) or ";"}
    if records.labels is not None:
        return {"label": ";".join(records.labels[sequence])}
    if records.numbers is not None:
        row = _plain(records.numbers[step if records.per_step else sequence][None])[0]
        return dict(zip(records.targets, row, strict=True))
    return {}
