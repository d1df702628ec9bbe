"""Sound from WAV files: one channel, full scale at 1, at whatever rate is asked for."""

import io
import math
import struct
import warnings
from dataclasses import dataclass

import numpy as np

from recurra.errors import DataError

LARGEST_RATE = 1 << 24
"""Samples a second above which a header is taken to be damaged."""

_OTHERS = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"\xff\xfb": "MP3", b"FORM": "AIFF", b".snd": "AU"}
"""First bytes -> the format that they tell of, of sound in other files."""

_FAULTS = (ValueError, ArithmeticError, TypeError, UnboundLocalError, struct.error)
"""What SciPy's reader raises for a file that is damaged or no WAV file."""


@dataclass(frozen=True)
class Sound:
    """A recording.

    Attributes:
        samples: (n,) float32, the mean of the channels; integers are brought to full scale at 1.
        rate: Samples a second.
        channels: How many channels the file had.
        kind: How its samples were written, such as "16-bit" or "32-bit float".
    """

    samples: np.ndarray
    rate: int
    channels: int = 1
    kind: str = ""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def read_wave(content: bytes, name: str) -> Sound:
    """The sound in a WAV file: PCM of 8 to 64 bits or floating point, any number of channels.

    Args:
        content: The file.
        name: How messages call it.

    Raises:
        DataError: It is empty, no WAV file, compressed, cut off, damaged, or holds no sample or one that is no number.
    """
    if not content:
        raise DataError(f"{name}: is empty; expected a WAV file.")
    if content[:4] not in (b"RIFF", b"RIFX", b"RF64"):
        other = next((kind for head, kind in _OTHERS.items() if content.startswith(head)), None)
        found = f"is {other}" if other else f"starts with the bytes {content[:4].hex(' ')}"
        raise DataError(f"{name}: {found}; expected a WAV file, which starts with RIFF.")
    content, bits = _whole(content, name)
    from scipy.io import wavfile  # takes a while to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", wavfile.WavFileWarning)  # chunks beside the samples, which are passed over
        try:
            rate, values = wavfile.read(io.BytesIO(content))
        except _FAULTS as error:
            said = str(error)
            if said.startswith("Unknown wave file format"):
                kind = said.partition(": ")[2].partition(".")[0]
                raise DataError(f"{name}: its samples are {kind}; expected PCM or floating point.") from error
            raise DataError(f"{name}: is damaged: no samples can be read from it.") from error
    return as_sound(values, rate, name, bits)


def _whole(content: bytes, name: str) -> tuple[bytes, int | None]:
    """The file with its true lengths, and how many bits a sample has in it.

    Raises:
        DataError: The header promises more than there is; programs that write into a pipe promise nothing (0) or all
            that can be, and what they have written is then what there is.
    """
    whole, wide = ("<I" if content[:4] != b"RIFX" else ">I"), content[:4] == b"RF64"
    if len(content) < 12:
        raise DataError(f"{name}: is cut off: {len(content):,} bytes are there, fewer than a header has.")
    (promised,) = struct.unpack(whole, content[4:8])
    is_open = not wide and _is_open(promised)
    if not wide and not is_open and promised + 8 > len(content):
        raise DataError(f"{name}: is cut off: its header tells of {promised + 8:,} bytes, {len(content):,} are there.")
    at, bits, frame, long = 12, None, 1, None
    while at + 8 <= len(content):
        kind, (size,), begin = content[at : at + 4], struct.unpack(whole, content[at + 4 : at + 8]), at + 8
        there = len(content) - begin
        if kind == b"ds64" and there >= 16:
            (long,) = struct.unpack("<Q", content[begin + 8 : begin + 16])
        elif kind == b"fmt " and there >= 16:
            frame, bits = struct.unpack(whole[0] + "HH", content[begin + 12 : begin + 16])
        elif kind == b"data":
            size = long if wide and long is not None and size == 0xFFFFFFFF else size
            if _is_open(size) and (is_open or size > there):
                size = there - there % max(1, frame)
                lengths = struct.pack(whole, begin - 8 + size), struct.pack(whole, size)
                content = content[:4] + lengths[0] + content[8 : at + 4] + lengths[1] + content[begin : begin + size]
            elif size > there:
                raise DataError(f"{name}: is cut off: {size:,} bytes of samples are promised, {there:,} are there.")
            break
        at = begin + size + size % 2
    return content, bits


def _is_open(length: int) -> bool:
    """Whether a length is what programs leave that cannot go back to it."""
    return length == 0 or length >= 0xFFFFFF00 or 0x7FFFF000 <= length <= 0x7FFFFFFF


def as_sound(values: np.ndarray, rate: int, name: str, bits: int | None = None) -> Sound:
    """A sound of samples as they stand in a file, or in an array.

    Args:
        values: (n,), or (n, channels); integers are full scale at the largest of their type, 8 bits are unsigned.
        rate: Samples a second.
        name: How messages call it.
        bits: Of a sample, where it was written in fewer than its type has.

    Raises:
        DataError: No samples, another shape or type, a sample that is no finite number, or a rate that cannot be.
    """
    values = np.asarray(values)
    if not 0 < rate <= LARGEST_RATE:
        raise DataError(f"{name}: {rate:,} samples a second; expected a rate such as 8,000 or 16,000.")
    if values.ndim not in (1, 2) or values.dtype.kind not in "iuf":
        raise DataError(
            f"{name}: samples of shape {values.shape} and type {values.dtype}; expected numbers, (samples,) or "
            "(samples, channels)."
        )
    if not values.size:
        raise DataError(f"{name}: holds no sample.")
    kind = f"{bits or 8 * values.dtype.itemsize}-bit{' float' * (values.dtype.kind == 'f')}"
    channels = 1 if values.ndim == 1 else values.shape[1]
    if values.dtype.kind == "u":
        half = 2.0 ** (8 * values.dtype.itemsize - 1)
        scaled = (values.astype(np.float64) - half) / half
    elif values.dtype.kind == "i":
        scaled = values.astype(np.float64) / 2.0 ** (8 * values.dtype.itemsize - 1)
    else:
        scaled = values.astype(np.float64)
    mixed = scaled if scaled.ndim == 1 else scaled.mean(1)
    if not np.isfinite(mixed).all():
        place = int(np.flatnonzero(~np.isfinite(mixed))[0])
        raise DataError(f"{name}: sample {place} is {mixed[place]}; expected a finite number.")
    return Sound(mixed.astype(np.float32), int(rate), channels, kind)


def at_rate(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """The same sound at another rate, by a polyphase filter (Kaiser window) that leaves no alias.

    Args:
        samples: (n,) float32 at `rate` samples a second.
        rate: That rate.
        wanted: Samples a second that are wanted.

    Returns:
        (⌈n · wanted / rate⌉,) float32.
    """
    if rate == wanted:
        return samples
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return resample_poly(samples.astype(np.float64), wanted // common, rate // common).astype(np.float32)
