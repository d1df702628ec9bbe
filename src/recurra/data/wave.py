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
    _check_whole(content, name)
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
    return as_sound(values, rate, name)


def _check_whole(content: bytes, name: str) -> None:
    """Raises DataError where the header promises more than there is; programs that write into a pipe promise nothing
    (0) or all that can be."""
    if content[:4] == b"RF64" or len(content) < 8:
        promised = 0 if len(content) >= 8 else 8
    else:
        (promised,) = struct.unpack("<I" if content[:4] == b"RIFF" else ">I", content[4:8])
    if promised + 8 > len(content) and promised < 0xFFFFFF00:
        raise DataError(f"{name}: is cut off: its header tells of {promised + 8:,} bytes, {len(content):,} are there.")


def as_sound(values: np.ndarray, rate: int, name: str) -> Sound:
    """A sound of samples as they stand in a file, or in an array.

    Args:
        values: (n,), or (n, channels); integers are full scale at the largest of their type, 8 bits are unsigned.
        rate: Samples a second.
        name: How messages call it.

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
    kind = f"{8 * values.dtype.itemsize}-bit{' float' * (values.dtype.kind == 'f')}"
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
