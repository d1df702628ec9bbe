"""Shapes that move, and what they are or where they go at every frame."""

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from recurra.data.made.films import Film, covered, grid, records
from recurra.data.records import Records, StepLabels

DIRECTIONS = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}
"""Where a shape goes, x to the right and y downwards."""

SHAPES = ("disc", "square", "diamond", "cross")


class MovingShapes(Film):
    """A shape that goes up, down, left or right before noise, and turns at random and before it reaches a wall.

    Every frame has a label: the direction in which the shape has just moved, which no frame shows by itself, and which
    is not asked for at the first; or, with `label = "shape"`, which shape it is, another one in each clip.
    """

    name: ClassVar[str] = "moving_shapes"
    summary: ClassVar[str] = "a shape that moves before noise: at every frame where it goes, or what it is"

    label: Literal["direction", "shape"] = Field(default="direction", description="what is asked for at every frame")
    size: int = Field(default=16, ge=8, description="pixels of a frame in height and width")
    radius: float = Field(default=2.5, gt=0, description="from a shape's middle to its edge, in pixels")
    speed: float = Field(default=1.0, gt=0, description="pixels a frame")
    turns: float = Field(default=0.1, ge=0, le=1, description="probability of a turn at a frame")
    noise: float = Field(default=0.1, ge=0, description="standard deviation of what is added to every pixel")
    length: int = Field(default=20, ge=2, description="frames of a clip")

    @model_validator(mode="after")
    def _there_is_room(self) -> "MovingShapes":
        if self.size - 2 * self.radius < 2 * self.speed:
            raise ValueError(
                f"radius: a shape of {2 * self.radius:g} pixels cannot move to and fro by {self.speed:g} in {self.size}"
            )
        return self

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Drawn.draw`."""
        steps = np.array(list(DIRECTIONS.values()), np.float64) * self.speed
        low, high = self.radius, self.size - self.radius
        shapes = random.integers(len(SHAPES), size=count)
        places = random.uniform(low, high, (count, 2))
        x, y = grid(self.size)
        frames, moved = np.empty((count, self.length, self.size, self.size)), np.full((count, self.length), -1)
        now = np.full(count, -1)
        for t in range(self.length):
            if t:
                now = _turned(random, now, places, steps, self.turns, low, high)
                places += steps[now]
                moved[:, t] = now
            for shape, kind in enumerate(SHAPES):
                rows = np.flatnonzero(shapes == shape)
                u, v = (axis - places[rows, i, None, None] for i, axis in enumerate((x, y)))
                frames[rows, t] = covered(distance(kind, u, v, self.radius))
        if self.noise:
            frames = np.clip(frames + random.normal(0, self.noise, frames.shape), 0, 1)
        if self.label == "shape":
            labels = StepLabels([(kind,) for kind in SHAPES], np.repeat(shapes, self.length))
        else:
            labels = StepLabels([(direction,) for direction in DIRECTIONS], moved.reshape(-1))
        return records(frames, name, labels)


def _turned(
    random: np.random.Generator,
    now: np.ndarray,
    places: np.ndarray,
    steps: np.ndarray,
    turns: float,
    low: float,
    high: float,
) -> np.ndarray:
    """Where each shape goes next, (N,): on, unless it turns or the wall is in its way; then anywhere where it can."""
    there = places[:, None] + steps  # (N, 4, 2)
    can = np.all((there >= low) & (there <= high), axis=-1)
    goes_on = (now >= 0) & (random.random(len(now)) >= turns) & can[np.arange(len(now)), now]
    other = np.logical_and(can, np.arange(len(steps)) != now.reshape(-1, 1))
    drawn = np.where(other, random.random(other.shape), -1.0).argmax(1)
    return np.where(goes_on, now, drawn)


def distance(kind: str, u: np.ndarray, v: np.ndarray, radius: float) -> np.ndarray:
    """The signed distance of places (u, v), as seen from a shape's middle, to its edge; negative within."""
    a, b = np.abs(u), np.abs(v)
    if kind == "disc":
        return np.hypot(u, v) - radius
    if kind == "square":
        return np.maximum(a, b) - 0.85 * radius
    if kind == "diamond":
        return (a + b - radius) / 2**0.5
    return np.minimum(np.maximum(a, 3 * b), np.maximum(3 * a, b)) - radius
