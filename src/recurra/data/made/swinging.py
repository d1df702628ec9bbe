"""A light that swings over a frame of 2 × 2."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from recurra.data.made.films import Film, records
from recurra.data.records import Records


class Swinging(Film):
    """A light that swings over a frame of 2 × 2 pixels, as a pendulum does that may go any way.

    Both coordinates are oscillations of one period, each with an amplitude and a phase of its own, so that the light
    goes along a line, a circle or an ellipse, either way round. A pixel is the brighter the nearer the light: its grey
    is 1/2 + (s x + r y) / 4, s and r being ±1 by its column and row. One frame tells where the light is, but not where
    it goes: that takes memory.
    """

    name: ClassVar[str] = "swinging"
    summary: ClassVar[str] = "a light that swings over a frame of 2 by 2 pixels"

    shortest: float = Field(default=10.0, gt=2, description="frames of the shortest period")
    longest: float = Field(default=14.0, gt=2, description="likewise of the longest; periods are drawn between the two")
    faintest: float = Field(default=0.3, ge=0, le=1, description="least amplitude; drawn between this and 1")
    length: int = Field(default=50, ge=2, description="frames of a clip")

    @model_validator(mode="after")
    def _in_order(self) -> "Swinging":
        if self.shortest > self.longest:
            raise ValueError(f"shortest is {self.shortest:g}, longest {self.longest:g}; it is to be no more")
        return self

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Drawn.draw`."""
        period = random.uniform(self.shortest, self.longest, (count, 1, 1))
        amplitude = random.uniform(self.faintest, 1, (count, 1, 2))
        phase = random.uniform(0, 2 * np.pi, (count, 1, 2))
        time = np.arange(self.length)[:, None]
        x, y = np.moveaxis(amplitude * np.cos(2 * np.pi * time / period + phase), -1, 0)
        pixels = [0.5 + (s * x + r * y) / 4 for r in (-1, 1) for s in (-1, 1)]
        return records(np.stack(pixels, -1).reshape(count, self.length, 2, 2), name)
