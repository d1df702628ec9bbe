"""From sound to features of speech: logarithms of mel bands, or cepstral coefficients, a row every few milliseconds."""

import math
from functools import cached_property
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field, model_validator

from recurra.errors import DataError

MelScale = Literal["htk", "slaney"]

AT_ONCE = 4096
"""Frames whose spectra are taken together."""

DELTA_REACH = 2
"""Frames to either side that a delta is taken over, as in HTK."""


class FeatureSettings(BaseModel):
    """The `data.*` settings that say what is read off a sound."""

    features: Literal["log_mel", "mfcc"] = Field(
        default="log_mel",
        description="what a frame is: logarithms of the power in mel bands, or cepstral coefficients of these",
    )
    window: float = Field(default=25.0, gt=0, le=1000, description="milliseconds of sound in a frame")
    hop: float = Field(default=10.0, gt=0, le=1000, description="milliseconds from one frame to the next")
    mels: int = Field(default=40, ge=1, le=512, description="mel bands")
    mel_scale: MelScale = Field(
        default="htk",
        description="htk: 2595 log₁₀(1 + f / 700), bands as high as each other; slaney: linear up to 1000 Hz, bands of "
        "equal area",
    )
    low: float = Field(default=20.0, ge=0, description="lowest frequency of a band, Hz")
    high: float | None = Field(default=None, gt=0, description="highest one, Hz; half the rate when left out")
    floor: float = Field(
        default=1e-6, gt=0, description="least power of a band, so that silence has a logarithm; full scale is 1"
    )
    preemphasis: float = Field(default=0.0, ge=0, lt=1, description="a in x_t - a x_(t-1), which lifts the high tones")
    coefficients: int = Field(default=13, ge=1, description="mfcc: coefficients, of which the first is loudness")
    deltas: Literal[0, 1, 2] = Field(default=0, description="add the features' slopes (1), and the slopes of these (2)")
    by_recording: bool = Field(
        default=False,
        description="mean 0 and deviation 1 of each feature over each recording by itself, which takes out how loud it "
        "is and what the microphone was",
    )

    @model_validator(mode="after")
    def _bands_can_be(self) -> "FeatureSettings":
        if self.high is not None and self.high <= self.low:
            raise ValueError(f"high: {self.high:g} Hz is not above data.low, {self.low:g} Hz")
        if self.features == "mfcc" and self.coefficients > self.mels:
            raise ValueError(f"coefficients: {self.mels} mel bands have no {self.coefficients}; mels is to be as many")
        return self


def hertz_to_mel(hertz: np.ndarray | float, scale: MelScale = "htk") -> np.ndarray:
    """Mel of a frequency.

    htk: 2595 log₁₀(1 + f / 700) (O'Shaughnessy 1987; the HTK Book, eq. 5.13). slaney: 3 f / 200 up to 1000 Hz, and 27
    steps for each factor of 6.4 above (Slaney's Auditory Toolbox, 1998).
    """
    f = np.asarray(hertz, np.float64)
    if scale == "htk":
        return 2595 * np.log10(1 + f / 700)
    return np.where(f < 1000, 3 * f / 200, 15 + 27 * np.log(np.maximum(f, 1000) / 1000) / math.log(6.4))


def mel_to_hertz(mel: np.ndarray | float, scale: MelScale = "htk") -> np.ndarray:
    """The inverse of `hertz_to_mel`."""
    m = np.asarray(mel, np.float64)
    if scale == "htk":
        return 700 * (10 ** (m / 2595) - 1)
    return np.where(m < 15, 200 * m / 3, 1000 * np.exp((np.maximum(m, 15) - 15) * math.log(6.4) / 27))


def mel_filters(count: int, size: int, rate: int, low: float, high: float, scale: MelScale = "htk") -> np.ndarray:
    """Triangles over the frequencies of a spectrum, their corners evenly set apart in mel.

    Args:
        count: Bands M.
        size: Points of the Fourier transform.
        rate: Samples a second.
        low: Lowest frequency, Hz.
        high: Highest, Hz.
        scale: "htk": each triangle is 1 at its top; "slaney": each has the area of 1 Hz.

    Returns:
        (M, size // 2 + 1) float64.
    """
    first, last = hertz_to_mel(np.array([low, high]), scale).tolist()
    corners = mel_to_hertz(np.linspace(first, last, count + 2), scale)
    left, top, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    f = np.arange(size // 2 + 1) * rate / size
    filters = np.maximum(0, np.minimum((f - left) / (top - left), (right - f) / (right - top)))
    return filters if scale == "htk" else filters * 2 / (right - left)


def deltas(values: np.ndarray) -> np.ndarray:
    """The slope of each feature: d_t = Σ_n n (c_(t+n) - c_(t-n)) / 2 Σ_n n², n from 1 to 2 (the HTK Book, eq. 5.16);
    beyond either end stands its last row.

    Args:
        values: (T, D).

    Returns:
        (T, D).
    """
    reach, T = DELTA_REACH, len(values)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    found = np.zeros_like(values)
    for n in range(1, reach + 1):
        found += n * (padded[reach + n : reach + n + T] - padded[reach - n : reach - n + T])
    return found / (2 * sum(n * n for n in range(1, reach + 1)))


class Transform:
    """What the settings say, for sounds of one rate.

    A frame is `window` long, weighed by Hann's window (periodic: w_n = (1 - cos 2πn/N) / 2); the first begins with the
    sound, and the last is the first that reaches its end, filled up with zeros. Its power spectrum |X_k|² (of as many
    points as the next power of two, not divided by anything) goes through the mel filters; then comes the natural
    logarithm, with a floor. MFCC are the orthonormal DCT-II of these logarithms.

    Args:
        settings: What to read off.
        rate: Samples a second.

    Raises:
        DataError: Frequencies that the rate does not have, or bands so narrow that no point of the spectrum is in one.
    """

    def __init__(self, settings: FeatureSettings, rate: int) -> None:
        self.settings, self.rate, s = settings, rate, settings
        self.window = max(1, round(s.window * rate / 1000))
        self.hop = max(1, round(s.hop * rate / 1000))
        self.size = 1 << (self.window - 1).bit_length()
        self.high = rate / 2 if s.high is None else s.high
        if self.high > rate / 2:
            raise DataError(
                f"data.high: {self.high:g} Hz is above half the rate, {rate / 2:g} Hz, where a sound has nothing."
            )
        if s.low >= self.high:
            raise DataError(f"data.low: {s.low:g} Hz is not below the highest frequency, {self.high:g} Hz.")
        empty = np.flatnonzero(~(self.filters > 0).any(1))
        if len(empty):
            raise DataError(
                f"data.mels: {s.mels} bands are too many: no frequency of the spectrum lies in band {empty[0] + 1}; "
                f"fewer bands, or a longer data.window than {s.window:g} ms."
            )

    @cached_property
    def filters(self) -> np.ndarray:
        """(M, size // 2 + 1)."""
        s = self.settings
        return mel_filters(s.mels, self.size, self.rate, s.low, self.high, s.mel_scale)

    @property
    def names(self) -> list[str]:
        """A name for each feature."""
        s = self.settings
        one = (
            [f"mel_{i + 1}" for i in range(s.mels)]
            if s.features == "log_mel"
            else [f"c_{i}" for i in range(s.coefficients)]
        )
        return [f"{mark}{name}" for mark in ("", "Δ", "ΔΔ")[: 1 + s.deltas] for name in one]

    def frames(self, samples: int) -> int:
        """Frames of a sound of so many samples."""
        return 1 + max(0, math.ceil((samples - self.window) / self.hop))

    def power(self, samples: np.ndarray) -> np.ndarray:
        """The power spectrum of each frame, (T, size // 2 + 1) float64, of (n,) samples."""
        from scipy.fft import rfft

        x = samples.astype(np.float64)
        if self.settings.preemphasis:
            x = np.concatenate([x[:1], x[1:] - self.settings.preemphasis * x[:-1]])
        T = self.frames(len(x))
        x = np.pad(x, (0, max(0, self.window + (T - 1) * self.hop - len(x))))
        pieces = np.lib.stride_tricks.sliding_window_view(x, self.window)[:: self.hop][:T]
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        spectra = [
            np.abs(np.asarray(rfft(pieces[first : first + AT_ONCE] * hann, self.size))) ** 2
            for first in range(0, T, AT_ONCE)
        ]
        return np.concatenate(spectra)

    def log_mel(self, samples: np.ndarray) -> np.ndarray:
        """The logarithm of the power in each band, (T, M) float64."""
        return np.log(np.maximum(self.power(samples) @ self.filters.T, self.settings.floor))

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The features of a sound, (T, D) float32, of (n,) samples at the transform's rate."""
        from scipy.fft import dct

        s, found = self.settings, self.log_mel(samples)
        if s.features == "mfcc":
            found = np.asarray(dct(found, type=2, norm="ortho", axis=1))[:, : s.coefficients]
        every = [found]
        for _ in range(s.deltas):
            every.append(deltas(every[-1]))
        found = np.concatenate(every, 1)
        if s.by_recording:
            deviation = found.std(0)
            found = (found - found.mean(0)) / np.where(deviation > 1e-6, deviation, 1.0)
        return found.astype(np.float32)
