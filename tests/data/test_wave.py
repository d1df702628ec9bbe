"""WAV files: what is read of them, what is converted, what is refused."""

import io
import struct
import wave
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import wavfile

from recurra.data.wave import as_sound, at_rate, read_wave
from recurra.errors import DataError

TONE = np.round(0.5 * np.sin(2 * np.pi * 440 * np.arange(400) / 8000), 3)


def written(values: np.ndarray, rate: int = 8000) -> bytes:
    file = io.BytesIO()
    wavfile.write(file, rate, values)
    return file.getvalue()


def pcm(values: np.ndarray, width: int, channels: int = 1, rate: int = 8000) -> bytes:
    """By the standard library: whole numbers of so many bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(channels)
        out.setsampwidth(width)
        out.setframerate(rate)
        offset = 128 if width == 1 else 0
        out.writeframes(
            b"".join(int(v + offset).to_bytes(width, "little", signed=width > 1) for v in values.reshape(-1))
        )
    return file.getvalue()


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_whole_numbers_of_every_width_are_full_scale_at_one(width: int) -> None:
    full = 2 ** (8 * width - 1)
    values = np.array([0, 1, -1, full // 2, -full, full - 1], dtype=np.float64)
    found = read_wave(pcm(values, width), "a.wav")
    np.testing.assert_allclose(found.samples, values / full, rtol=1e-6)
    assert (found.rate, found.channels) == (8000, 1)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_floating_point_is_taken_as_it_stands(kind: type) -> None:
    found = read_wave(written(TONE.astype(kind)), "a.wav")
    np.testing.assert_array_equal(found.samples, TONE.astype(kind).astype(np.float32))
    assert found.kind.endswith("float")


def test_channels_are_mixed() -> None:
    left, right = np.array([100, -200, 300]), np.array([300, 200, -100])
    found = read_wave(pcm(np.stack([left, right], 1), 2, channels=2), "a.wav")
    np.testing.assert_allclose(found.samples, (left + right) / 2 / 32768, atol=1e-7)
    assert found.channels == 2


def test_another_rate_keeps_what_is_heard_and_loses_what_cannot_be() -> None:
    """A tone below half the new rate is the same tone; one above it is gone, not folded down."""
    t = np.arange(16000) / 16000
    low, high = np.sin(2 * np.pi * 700 * t), np.sin(2 * np.pi * 6500 * t)
    kept = at_rate(low.astype(np.float32), 16000, 8000)
    assert len(kept) == 8000
    expected = np.sin(2 * np.pi * 700 * np.arange(8000) / 8000)
    np.testing.assert_allclose(kept[200:-200], expected[200:-200], atol=2e-3)
    gone = at_rate(high.astype(np.float32), 16000, 8000)
    assert np.abs(gone[200:-200]).max() < 2e-3
    assert at_rate(kept, 8000, 8000) is kept


WHOLE = written((TONE * 32767).astype(np.int16))


def no_number() -> bytes:
    return written(np.array([0.0, np.nan, 0.1], np.float32))


def law() -> bytes:
    """A header of µ-law."""
    return WHOLE[:20] + struct.pack("<H", 7) + WHOLE[22:]


FAULTS: dict[str, tuple[Callable[[], bytes], str]] = {
    "empty": (lambda: b"", r"a\.wav: is empty"),
    "text": (lambda: b"no sound at all", r"a\.wav: starts with the bytes 6e 6f 20 73; expected a WAV file"),
    "flac": (lambda: b"fLaC\x00\x00\x00\x22", r"a\.wav: is FLAC; expected a WAV file"),
    "cut": (lambda: WHOLE[:500], r"a\.wav: is cut off: its header tells of 844 bytes, 500 are there"),
    "cut in the header": (lambda: WHOLE[:6], r"a\.wav: is cut off"),
    "no samples": (lambda: written(np.zeros(0, np.int16)), r"a\.wav: holds no sample"),
    "no number": (no_number, r"a\.wav: sample 1 is nan; expected a finite number"),
    "compressed": (law, r"a\.wav: its samples are MULAW; expected PCM"),
    "no rate": (lambda: WHOLE[:24] + bytes(8) + WHOLE[32:], r"a\.wav: 0 samples a second"),
    "no format": (lambda: WHOLE[:12] + b"junk" + WHOLE[16:], r"a\.wav: is damaged"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_that_cannot_be_read_is_told_by_name(fault: str) -> None:
    make, expected = FAULTS[fault]
    with pytest.raises(DataError, match=expected):
        read_wave(make(), "a.wav")


def test_a_length_of_nothing_or_all_is_no_promise() -> None:
    """As programs leave it that write into a pipe."""
    promised = WHOLE[:4] + b"\xff\xff\xff\xff" + WHOLE[8:]
    np.testing.assert_array_equal(read_wave(promised, "a").samples, read_wave(WHOLE, "a").samples)


def chunk(kind: bytes, content: bytes, length: int | None = None) -> bytes:
    return kind + struct.pack("<I", len(content) if length is None else length) + content


def riff(*chunks: bytes, length: int | None = None) -> bytes:
    return chunk(b"RIFF", b"WAVE" + b"".join(chunks), length)


@pytest.mark.parametrize("width", [2, 3])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("length", [0, 0xFFFFFFFF, 0x7FFFF024])
def test_what_a_program_wrote_into_a_pipe_is_read_to_its_end(width: int, channels: int, length: int) -> None:
    """Both lengths are left open; a frame that is cut at the end is left out."""
    whole = pcm(np.arange(30) * 7 - 50, width, channels)
    samples = read_wave(whole, "a").samples
    form, told = whole[20:36], {0: 0, 0xFFFFFFFF: 0xFFFFFFFF, 0x7FFFF024: 0x7FFFF000}[length]
    for cut in range(width * channels):
        content = whole[44 : len(whole) - cut]
        found = read_wave(
            riff(chunk(b"fmt ", form), chunk(b"LIST", b"abcd"), chunk(b"data", content, told), length=length), "a"
        )
        np.testing.assert_array_equal(found.samples, samples[: len(samples) - (cut > 0)])


def test_a_cut_file_whose_first_length_was_mended_is_still_cut() -> None:
    form, samples = WHOLE[20:36], WHOLE[44:]
    with pytest.raises(DataError, match=r"a\.wav: is cut off: 800 bytes of samples are promised, 700 are there"):
        read_wave(riff(chunk(b"fmt ", form), chunk(b"data", samples[:700], 800)), "a.wav")
    behind = riff(chunk(b"fmt ", form), chunk(b"data", samples), chunk(b"LIST", b"abcd"))
    np.testing.assert_array_equal(read_wave(behind, "a").samples, read_wave(WHOLE, "a").samples)


def test_large_files_have_their_length_apart() -> None:
    """RF64 (EBU Tech 3306): 64 bits in a chunk of their own."""
    form, samples = chunk(b"fmt ", WHOLE[20:36]), WHOLE[44:]

    def rf64(there: bytes) -> bytes:
        lengths = chunk(
            b"ds64", struct.pack("<QQQI", 4 + 36 + 24 + 8 + len(samples), len(samples), len(samples) // 2, 0)
        )
        return chunk(b"RF64", b"WAVE" + lengths + form + chunk(b"data", there, 0xFFFFFFFF), 0xFFFFFFFF)

    np.testing.assert_array_equal(read_wave(rf64(samples), "a").samples, read_wave(WHOLE, "a").samples)
    with pytest.raises(DataError, match="800 bytes of samples are promised, 790 are there"):
        read_wave(rf64(samples[:-10]), "a")


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_widths_are_told_as_they_are_written(width: int) -> None:
    assert read_wave(pcm(np.array([1, 2]), width), "a").kind == f"{8 * width}-bit"


@settings(max_examples=150)
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_read_or_told(place: int, bytes_: bytes) -> None:
    damaged = WHOLE[:place] + bytes_ + WHOLE[place + len(bytes_) :]
    told = ""
    try:
        assert np.isfinite(read_wave(damaged, "a.wav").samples).all()
    except DataError as error:
        told = str(error)
    assert not told or told.startswith("a.wav: ")


def test_arrays_of_another_shape_or_type_are_refused() -> None:
    with pytest.raises(DataError, match=r"sound 3: samples of shape \(1, 2, 3\)"):
        as_sound(np.zeros((1, 2, 3)), 8000, "sound 3")
    with pytest.raises(DataError, match="type <U1"):
        as_sound(np.array(["a"]), 8000, "sound 3")
