"""The features of speech against a Fourier transform written out, SciPy's DCT, and the formulas of their papers."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.fft import dct

from recurra.data.spectral import FeatureSettings, MelScale, Transform, deltas, hertz_to_mel, mel_filters, mel_to_hertz
from recurra.errors import DataError

RATE = 8000


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    random = np.random.default_rng(3)
    return (0.1 * random.standard_normal(1234)).astype(np.float32)


def transform(**settings: Any) -> Transform:
    return Transform(FeatureSettings.model_validate(settings), RATE)


def power(x: np.ndarray, window: int, hop: int, size: int) -> np.ndarray:
    """|Σ_n w_n x_(s+n) e^(-2πikn/K)|², written out."""
    x, found = x.astype(np.float64), []
    n, k = np.arange(window), np.arange(size // 2 + 1)[:, None]
    waves = np.exp(-2j * np.pi * k * n / size)
    w = 0.5 * (1 - np.cos(2 * np.pi * n / window))
    for first in range(0, max(1, len(x) - window + hop), hop):
        piece = np.zeros(window)
        piece[: len(x[first : first + window])] = x[first : first + window]
        found.append(np.abs(waves @ (w * piece)) ** 2)
    return np.array(found)


def filters(count: int, size: int, low: float, high: float, scale: MelScale) -> np.ndarray:
    """A triangle at a time, a frequency at a time."""
    mels = np.linspace(float(hertz_to_mel(low, scale)), float(hertz_to_mel(high, scale)), count + 2)
    corners = [float(mel_to_hertz(m, scale)) for m in mels]
    found = np.zeros((count, size // 2 + 1))
    for i in range(count):
        left, top, right = corners[i : i + 3]
        for k in range(size // 2 + 1):
            f = k * RATE / size
            height = (f - left) / (top - left) if f <= top else (right - f) / (right - top)
            found[i, k] = max(0.0, height) * (1 if scale == "htk" else 2 / (right - left))
    return found


def test_power_is_that_of_the_sum_written_out(sound: np.ndarray) -> None:
    expected = power(sound, 200, 80, 256)
    found = transform().power(sound)
    assert found.shape == expected.shape == (transform().frames(len(sound)), 129)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("length", [1, 199, 200, 201, 280, 281])
def test_every_sample_is_in_a_frame(length: int, sound: np.ndarray) -> None:
    made = transform()
    expected = 1 if length <= 200 else 1 + math.ceil((length - 200) / 80)
    assert len(made(sound[:length])) == made.frames(length) == expected


@pytest.mark.parametrize("scale", ["htk", "slaney"])
def test_logarithms_of_mel_bands(scale: MelScale, sound: np.ndarray) -> None:
    made = transform(mels=20, mel_scale=scale, low=60, high=3500, window=32, hop=12.5)
    expected = np.log(np.maximum(power(sound, 256, 100, 256) @ filters(20, 256, 60, 3500, scale).T, 1e-6))
    np.testing.assert_allclose(made(sound), expected, rtol=1e-5, atol=1e-5)


def test_the_scales_are_those_of_the_formulas() -> None:
    np.testing.assert_allclose(hertz_to_mel(1000.0), 999.985537, rtol=1e-8)  # about 1000 mel, by which it was made
    f = np.array([0, 250, 999.9, 1000, 3000, 6400, 8000])
    expected = [v * 3 / 200 if v < 1000 else 15 + 27 * math.log(v / 1000, 6.4) for v in f.tolist()]
    np.testing.assert_allclose(hertz_to_mel(f, "slaney"), expected, rtol=1e-12)
    assert float(hertz_to_mel(6400.0, "slaney")) == pytest.approx(42)
    for scale in ("htk", "slaney"):
        np.testing.assert_allclose(mel_to_hertz(hertz_to_mel(f, scale), scale), f, rtol=1e-12, atol=1e-9)


def test_slaney_bands_have_equal_area() -> None:
    found = mel_filters(8, 1 << 16, RATE, 100, 3900, "slaney")
    np.testing.assert_allclose(found.sum(1) * RATE / (1 << 16), 1, rtol=1e-3)


def test_cepstral_coefficients_are_the_dct_written_out(sound: np.ndarray) -> None:
    logs = transform(mels=26).log_mel(sound)
    M = logs.shape[1]
    i, j = np.arange(13)[:, None], np.arange(M)
    basis = np.sqrt(2 / M) * np.cos(np.pi * i * (j + 0.5) / M)
    basis[0] /= math.sqrt(2)
    found = transform(features="mfcc", mels=26)(sound)
    np.testing.assert_allclose(found, logs @ basis.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found, np.asarray(dct(logs, norm="ortho"))[:, :13], rtol=1e-4, atol=1e-4)


def test_slopes() -> None:
    T = 9
    line = np.stack([3.0 * np.arange(T), -0.5 * np.arange(T)], 1)
    np.testing.assert_allclose(deltas(line)[2:-2], np.tile([3.0, -0.5], (T - 4, 1)))
    values = np.random.default_rng(0).standard_normal((T, 3))
    for t in range(T):
        at = [values[min(max(t + n, 0), T - 1)] for n in range(-2, 3)]
        np.testing.assert_allclose(deltas(values)[t], (at[3] - at[1] + 2 * (at[4] - at[0])) / 10)


def test_slopes_stand_behind_what_they_are_of(sound: np.ndarray) -> None:
    found = transform(mels=10, deltas=2)
    values = found(sound)
    assert len(found.names) == values.shape[1] == 30
    np.testing.assert_allclose(values[:, 10:20], deltas(values[:, :10]), atol=1e-5)
    np.testing.assert_allclose(values[:, 20:], deltas(values[:, 10:20]), atol=1e-5)


def test_each_recording_by_itself_is_blind_to_loudness(sound: np.ndarray) -> None:
    """Where no band is at the floor, a factor in the samples is a number added to every logarithm."""
    made = transform(by_recording=True)
    found = made(sound)
    np.testing.assert_allclose(found.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(found.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(made(sound * 3), found, atol=1e-4)
    assert np.abs(transform()(sound * 3) - transform()(sound)).max() > 1


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(transform(floor=1e-4)(np.zeros(500, np.float32)), math.log(1e-4), rtol=1e-6)
    assert (transform(by_recording=True)(np.zeros(500, np.float32)) == 0).all()


def test_preemphasis(sound: np.ndarray) -> None:
    lifted = np.concatenate([sound[:1], sound[1:] - 0.97 * sound[:-1]])
    np.testing.assert_allclose(transform(preemphasis=0.97)(sound), transform()(lifted), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"high": 5000}, "data.high: 5000 Hz is above half the rate, 4000 Hz"),
        ({"low": 4000}, "data.low: 4000 Hz is not below the highest frequency, 4000 Hz"),
        ({"mels": 128}, "data.mels: 128 bands are too many: no frequency of the spectrum lies in band 5; fewer bands"),
    ],
)
def test_what_a_rate_does_not_have(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        transform(**settings)


def test_settings_that_contradict_each_other() -> None:
    with pytest.raises(ValueError, match="40 mel bands have no 41"):
        FeatureSettings(features="mfcc", coefficients=41)
    with pytest.raises(ValueError, match="100 Hz is not above data"):
        FeatureSettings(low=200, high=100)
