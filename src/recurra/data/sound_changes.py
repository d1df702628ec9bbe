"""Sound as it might have been recorded otherwise: faster, louder, noisier. For training alone."""

from fractions import Fraction
from typing import Protocol

import numpy as np

from recurra.data.spectral import Transform

FINEST = 100
"""Parts of a whole in which speeds are drawn, so that resampling stays cheap."""

QUIET = 20.0
"""Decibels by which the quietest noise is below the loudest."""


class _Wanted(Protocol):
    """How much is changed at the most."""

    speed: float
    gain: float
    noise: float | None


class Changes:
    """Changes of a sound, drawn anew for each key.

    speed: played faster or slower by a factor from 1 - speed to 1 + speed, which moves its pitch, too (Ko et al. 2015).
    gain: louder or softer by up to so many decibels. noise: white, its power that of the sound less a number of
    decibels drawn from `noise` to 20 more.

    Args:
        wanted: How much.
        transform: What makes features of the sound.
    """

    def __init__(self, wanted: _Wanted, transform: Transform) -> None:
        self.wanted, self.transform = wanted, transform

    def __call__(self, samples: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """The features of a changed sound, (T, D) float32; the same for the same key."""
        return self.transform(self.sound(samples, key))

    def sound(self, samples: np.ndarray, key: tuple[int, ...]) -> np.ndarray:
        """The changed sound, float32."""
        random = np.random.default_rng(np.random.SeedSequence(key))
        w, x = self.wanted, samples
        factor = 1 + w.speed * (2 * random.random() - 1)
        if w.speed:
            x = played(x, factor)
        level = w.gain * (2 * random.random() - 1)
        x = x.astype(np.float64) * 10 ** (level / 20)
        if w.noise is not None:
            power = float(np.mean(x**2)) * 10 ** (-(w.noise + QUIET * random.random()) / 10)
            x = x + power**0.5 * random.standard_normal(len(x))
        return x.astype(np.float32)


def played(samples: np.ndarray, factor: float) -> np.ndarray:
    """A sound played so many times as fast, the factor rounded to hundredths."""
    from scipy.signal import resample_poly

    ratio = Fraction(round(factor * FINEST), FINEST)
    if ratio == 1:
        return samples
    return resample_poly(samples, ratio.denominator, ratio.numerator).astype(np.float32)
