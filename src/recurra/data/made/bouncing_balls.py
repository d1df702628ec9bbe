"""Bouncing balls."""

from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from recurra.data.made.films import Film, covered, grid, records
from recurra.data.records import Records


class BouncingBalls(Film):
    """Balls that fly straight ahead, and are thrown back by the walls and by each other.

    They are of one size and mass, and lose nothing: at a wall the velocity across it turns round, where two balls meet
    they exchange their velocities along the line between them. Every impact is found at its own instant, between frames
    too. Places, directions and speeds are drawn.
    """

    name: ClassVar[str] = "bouncing_balls"
    summary: ClassVar[str] = "balls that are thrown back by the walls and by each other, filmed"

    size: int = Field(default=16, ge=4, description="pixels of a frame in height and width")
    balls: int = Field(default=2, ge=1, le=8, description="how many there are")
    radius: float = Field(default=2.0, gt=0, description="of a ball, in pixels")
    slowest: float = Field(default=0.5, ge=0, description="pixels a frame, at the start")
    fastest: float = Field(default=1.5, gt=0, description="likewise; speeds are drawn between the two")
    length: int = Field(default=20, ge=2, description="frames of a clip")

    @model_validator(mode="after")
    def _there_is_room(self) -> "BouncingBalls":
        if self.slowest > self.fastest:
            raise ValueError(f"slowest is {self.slowest:g}, fastest {self.fastest:g}; it is to be no more")
        side = self.size - 2 * self.radius
        if side <= 0 or self.balls * (4 * self.radius**2) > 0.5 * self.size**2:
            raise ValueError(
                f"radius: {self.balls} balls of radius {self.radius:g} leave no room to fly in {self.size} by "
                f"{self.size} pixels"
            )
        return self

    def draw(self, random: np.random.Generator, count: int, name: str) -> Records:
        """See `Drawn.draw`."""
        x, y = grid(self.size)
        frames = np.empty((count, self.length, self.size, self.size))
        for clip in frames:
            places, velocities = self._begin(random)
            for frame in clip:
                distances = [np.hypot(x - px, y - py) - self.radius for px, py in places]
                frame[:] = covered(np.min(distances, axis=0))
                fly(places, velocities, 1.0, self.radius, self.size)
        return records(frames, name)

    def _begin(self, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Places that do not overlap, and velocities, (balls, 2) each."""
        while True:
            places = random.uniform(self.radius, self.size - self.radius, (self.balls, 2))
            apart = np.linalg.norm(places[:, None] - places, axis=-1) + 1e9 * np.eye(self.balls)
            if apart.min() > 2 * self.radius:
                break
        angle, speed = random.uniform(0, 2 * np.pi, self.balls), random.uniform(self.slowest, self.fastest, self.balls)
        return places, speed[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def fly(places: np.ndarray, velocities: np.ndarray, time: float, radius: float, size: float) -> None:
    """Let balls of one mass fly for some time, from impact to impact; both arrays, (n, 2), are changed.

    Args:
        places: The middles of the balls.
        velocities: Their velocities.
        time: How long.
        radius: Of each ball.
        size: Of the square that they are in.
    """
    while True:
        with np.errstate(divide="ignore", invalid="ignore"):
            to_wall = np.where(velocities > 0, size - radius - places, radius - places) / velocities
        to_wall = np.where(velocities == 0, np.inf, np.maximum(to_wall, 0.0))
        first, pair = float(to_wall.min()), None
        for i in range(len(places)):
            for j in range(i):
                meeting = _meeting(places[i] - places[j], velocities[i] - velocities[j], 2 * radius)
                if meeting < first:
                    first, pair = meeting, (i, j)
        if first >= time:
            places += time * velocities
            return
        places += first * velocities
        time -= first
        if pair is None:
            velocities[np.unravel_index(to_wall.argmin(), to_wall.shape)] *= -1
        else:
            i, j = pair
            along = (places[i] - places[j]) / np.linalg.norm(places[i] - places[j])
            exchanged = ((velocities[i] - velocities[j]) @ along) * along
            velocities[i] -= exchanged
            velocities[j] += exchanged


def _meeting(apart: np.ndarray, relative: np.ndarray, distance: float) -> float:
    """When two balls are so far apart, infinite where they fly past each other or away: the smaller root t of
    |apart + t relative|² = distance²."""
    closing, square = float(apart @ relative), float(relative @ relative)
    if closing >= 0:
        return np.inf
    under = closing**2 - square * (float(apart @ apart) - distance**2)
    return max(0.0, (-closing - under**0.5) / square) if under >= 0 else np.inf
