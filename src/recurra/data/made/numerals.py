"""Numbers and their names."""

from typing import ClassVar, Self
from zlib import crc32

import numpy as np
from pydantic import Field, model_validator

from recurra.data.made.source import STREAMS, Made
from recurra.data.records import Records

_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THOUSANDS = ("", "thousand", "million", "billion")

PLACES = 12
"""Digits of the longest number."""


def name_of(number: int) -> str:
    """The English name of a number below 10¹², without hyphens and without "and".

    >>> name_of(0), name_of(21), name_of(300_115), name_of(2_000_000)
    ('zero', 'twenty one', 'three hundred thousand one hundred fifteen', 'two million')
    """
    words: list[str] = []
    for power in reversed(range(len(_THOUSANDS))):
        group = number // 1000**power % 1000
        if not group:
            continue
        if group >= 100:
            words += [_SMALL[group // 100], "hundred"]
        rest = group % 100
        words += [_SMALL[rest]] if 0 < rest < 20 else [_TENS[rest // 10], _SMALL[rest % 10]] if rest >= 20 else []
        if rest >= 20 and rest % 10 == 0:
            words.pop()
        words += [_THOUSANDS[power]] if power else []
    return " ".join(words) or _SMALL[0]


class Numerals(Made):
    """A number as a vector; its English name is asked for: one vector in, a sequence out.

    The vector has ten entries for each decimal place, the highest place first: 1 at the digit that stands there, else
    0. Places before a number's first digit are all 0 (zero itself has its one digit). Every number from `first` to
    `last` belongs to one part at most, so that the names asked for in the test are of numbers never seen.
    """

    name: ClassVar[str] = "numerals"
    task: ClassVar[str] = "translate"
    summary: ClassVar[str] = "a number as a vector, its English name as words"

    first: int = Field(default=0, ge=0, lt=10**PLACES, description="smallest number")
    last: int = Field(default=999_999, ge=1, lt=10**PLACES, description="largest number")
    training: int = Field(default=20_000, ge=2, description="numbers to learn from")
    validation: int = Field(default=2_000, ge=0, description="numbers to choose the best weights by; 0: none")
    test: int = Field(default=5_000, ge=1, description="numbers to measure on")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the draw")

    @model_validator(mode="after")
    def _enough_numbers(self) -> Self:
        wanted, there = self.training + self.validation + self.test, self.last - self.first + 1
        if wanted > there:
            raise ValueError(
                f"the parts want {wanted} numbers, but from first = {self.first} to last = {self.last} there are "
                f"{max(0, there)}"
            )
        return self

    def parts(self) -> dict[str, Records]:
        """See `Made.parts`."""
        key = (crc32(self.name.encode()), STREAMS.index("train"))
        random = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
        sizes = {"train": self.training, "validation": self.validation, "test": self.test}
        drawn = self.first + random.choice(self.last - self.first + 1, sum(sizes.values()), replace=False)
        bounds = np.cumsum([0, *sizes.values()])
        return {
            part: self._records(drawn[start : start + size], f"{self.name} ({part} part)")
            for (part, size), start in zip(sizes.items(), bounds, strict=False)
            if size
        }

    def _records(self, numbers: np.ndarray, name: str) -> Records:
        width = len(str(self.last))
        digits = numbers[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10
        is_there = np.maximum.accumulate(digits > 0, axis=1)
        is_there[:, -1] = True
        values = np.eye(10, dtype=np.uint8)[digits] * is_there[..., None].astype(np.uint8)
        return Records(
            values=values.reshape(len(numbers), width * 10),
            offsets=np.arange(len(numbers) + 1, dtype=np.int64),
            features=[f"{10**place}s_{digit}" for place in range(width - 1, -1, -1) for digit in range(10)],
            labels=[(name_of(number),) for number in numbers.tolist()],
            place=lambda index: f"{name}, number {numbers[index]}",
        )
