"""Piano rolls: which of the 88 keys sound in each frame; from JSON, MIDI files and Python to one form."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from pydantic import Field

from recurra.data.midi import PITCHES, read_midi
from recurra.data.opening import entries, first_bytes, name_of, open_text
from recurra.data.parts import role
from recurra.data.sequences import AnySchema
from recurra.data.settings import PlaceSettings
from recurra.errors import DataError

LOWEST, KEYS = 21, 88
"""The lowest pitch of a piano, A0, and how many keys it has, up to C8."""

FORMATS = ("json", "midi")

ENDINGS = (".mid", ".midi")
"""Of the names of MIDI files, in upper or lower case."""

NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")


class RollSettings(PlaceSettings):
    """The `data.*` settings of notes: where pieces are, and how they become frames."""

    file: str | None = Field(
        default=None, description="which file of the folder, where several stand there: jsb-chorales-quarter.json"
    )
    step: float = Field(
        default=0.25,
        gt=0,
        le=64,
        description="length of a frame in beats (quarter notes): so MIDI files are read, and so music is written",
    )
    outside: Literal["leave_out", "octave"] = Field(
        default="leave_out",
        description="what is done about notes beyond the 88 keys: leave out, or move by octaves (counted and said)",
    )
    pedal: bool = Field(default=True, description="MIDI: notes are held as long as the sustain pedal is down")
    trim: bool = Field(default=False, description="leave out silent frames before the first note and behind the last")
    transpose: int = Field(
        default=0,
        ge=0,
        le=24,
        description="training part: semitones by which a piece is moved at the most, up or down, drawn in each epoch",
    )
    max_length: int | None = Field(
        default=None, ge=1, description="training part: frames of a piece at the most; a longer one becomes several"
    )


class RollSchema(AnySchema):
    """What the training pieces settled."""

    step: float  # beats of a frame
    transpose: int = 0
    tempo: float | None = None  # beats a minute, the median of the training pieces; None where none is known
    meter: tuple[int, int] | None = None  # time signature, the commonest


def name_of_key(key: int) -> str:
    """A key, counted from 0, by its name.

    >>> name_of_key(0), name_of_key(39), name_of_key(87)
    ('A0', 'C4', 'C8')
    """
    octave, note = divmod(key + LOWEST, 12)
    return f"{NAMES[note]}{octave - 1}"


@dataclass
class Gathered:
    """Pieces as they are read.

    Attributes:
        name: What they are called in messages.
        format: "json", "midi" or "arrays".
        pieces: (T, 88) uint8 each.
        ids: A name for each; None where they have none.
        tempos: Beats a minute of those that say it.
        meters: Time signatures likewise.
        warnings: What a person should know.
        within: Where the source has parts in it, their pieces by part, in place of `pieces`.
    """

    name: str
    format: str
    pieces: list[np.ndarray] = field(default_factory=list)
    ids: list[str] | None = None
    tempos: list[float] = field(default_factory=list)
    meters: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    within: dict[str, "Gathered"] = field(default_factory=dict)

    def part(self, name: str) -> "Gathered":
        """A part that is to be within it."""
        found = self.within[name] = Gathered(f"{self.name} ({name} part)", self.format)
        return found


# --- kinds of files --------------------------------------------------------------------------------------------------


def is_midi(path: Path) -> bool:
    """Whether a file is called as MIDI files are, or begins like one."""
    return path.is_file() and (path.suffix.lower() in ENDINGS or first_bytes(path, 4) == b"MThd")


def midi_files(folder: Path) -> list[Path]:
    """The MIDI files of a folder and those in it, in order."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix.lower() in ENDINGS and not path.name.startswith(".")
    ]


def fitting(path: Path, format: str | None) -> int | None:
    """The place of the format in which a path is laid out, JSON first; None where neither fits."""
    if path.is_dir():
        return 1 if format in (None, "midi") and _is_one(path) else None
    if format in (None, "midi") and is_midi(path):
        return 1
    head = first_bytes(path, 64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return 0 if format in (None, "json") and head in (b"[", b"{") else None


def _is_one(folder: Path) -> bool:
    """Whether the MIDI files of a folder are one set, or one part of one; not where names tell of parts in it."""
    if not midi_files(folder):
        return False
    inside = entries(folder)
    if any(entry.is_dir() and role(entry.name) == "train" for entry in inside):
        return False
    directly = [entry for entry in inside if entry.suffix.lower() in ENDINGS]
    roles = {role(entry.name) for entry in directly}
    return not roles or None in roles or (role(folder.name) is not None and "train" not in roles)


# --- reading ---------------------------------------------------------------------------------------------------------


def from_midi(source: Path | BinaryIO, settings: RollSettings) -> Gathered:
    """A MIDI file, or a folder of them.

    Raises:
        DataError: One that is cut short or damaged; no file.
    """
    is_folder = isinstance(source, Path) and source.is_dir()
    found = Gathered(name_of(source), "midi")
    files: list[Any] = midi_files(source) if is_folder and isinstance(source, Path) else [source]
    if not files:
        raise DataError(f"{source}: holds no MIDI files, whose names end with {' or '.join(ENDINGS)}.")
    counts = {"drums": 0, "short": 0, "hanging": 0, "notes": 0}
    keys, ids = _Keys(settings), []
    for file in files:
        played = read_midi(file, settings.step, pedal=settings.pedal)
        for what in counts:
            counts[what] += getattr(played, what)
        piece = keys.of(played.sounding, name_of(file))
        found.pieces.append(piece)
        found.tempos.append(played.tempo)
        found.meters.append(played.meter)
        ids.append(str(file.relative_to(source)) if is_folder else file.name if isinstance(file, Path) else "")
    found.ids = ids if any(ids) else None
    name, notes = found.name, counts["notes"]
    if counts["drums"]:
        found.warnings.append(f"{name}: {counts['drums']:,} strokes of drums (channel 10) are left out.")
    if counts["short"]:
        found.warnings.append(
            f"{name}: {counts['short']:,} of {notes:,} notes are shorter than half a frame (data.step = "
            f"{settings.step:g} beats) and fill one; a smaller step keeps them apart."
        )
    if counts["hanging"]:
        found.warnings.append(f"{name}: {counts['hanging']:,} of {notes:,} notes have no end, and sound to the last.")
    found.warnings += keys.told(name)
    return found


def from_json(source: Path | BinaryIO, settings: RollSettings) -> Gathered:
    """Pitches by frame by piece, `[[[60, 64], …], …]`; the same by part, `{"train": …, "test": …}`; or one piece.

    A pitch of -1 is silence, as files of separate voices have it.

    Raises:
        DataError: No JSON, or JSON of another shape, with its place.
    """
    name = name_of(source)
    with open_text(source, settings.encoding) as text:
        try:
            data = json.loads(text.read())
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {error.lineno}, column {error.colno}: is no JSON: {error.msg}.") from error
        except RecursionError as error:
            raise DataError(
                f"{name}: lists within lists without end; pieces of frames of pitches are expected."
            ) from error
    return from_python(data, name, settings, "json")


def from_python(data: Any, name: str, settings: RollSettings, format: str = "arrays") -> Gathered:
    """Pieces from Python: lists as JSON has them, or arrays (T, 88) or (T, 128) of 0 and 1; a part each in a mapping.

    Raises:
        DataError: Anything else, with its place.
    """
    found = Gathered(name, format)
    if not isinstance(data, Mapping):
        _gather(data, found, settings)
        return found
    for key, pieces in data.items():
        part = role(str(key))
        if part is None:
            raise DataError(f"{name}: {str(key)!r} is no part; expected train, valid and test.")
        if part in found.within:
            raise DataError(f"{name}: names the {part} part twice, the second time as {str(key)!r}.")
        _gather(pieces, found.part(part), settings)
    if not found.within:
        raise DataError(f"{name}: is an empty table; expected the parts train, valid and test.")
    return found


def _gather(data: Any, found: Gathered, settings: RollSettings) -> None:
    keys = _Keys(settings)
    for number, piece in enumerate(_pieces(data, found.name), 1):
        where = f"{found.name}: piece {number}"
        roll = _as_roll(piece, where) if _is_array(piece) else _as_pitches(piece, where)
        found.pieces.append(keys.of(roll, where))
    found.warnings += keys.told(found.name)


def _is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _pieces(data: Any, name: str) -> Iterator[Any]:
    """The pieces among the data, which may be one piece."""
    if _is_array(data):
        if len(data.shape) not in (2, 3):
            raise DataError(f"{name}: an array (frames, keys) or (pieces, frames, keys) is expected, not {data.shape}.")
        yield from [data] if len(data.shape) == 2 else data
        return
    if not isinstance(data, list | tuple):
        raise DataError(f"{name}: a list of pieces is expected, not {_shown(data)}.")
    if not any(map(_is_array, data)) and _depth(data) == 2:
        yield data
        return
    yield from data


def _depth(data: Any) -> int:
    """How deep lists lie within lists, down to the first number."""
    deepest = 0
    if isinstance(data, list | tuple):
        deepest = 1
        for each in data:
            below = _depth(each)
            deepest = max(deepest, 1 + below)
            if below and _holds_number(each):
                break
    return deepest


def _holds_number(data: Any) -> bool:
    while isinstance(data, list | tuple):
        data = next((each for each in data if not isinstance(each, list | tuple) or each), None)
    return data is not None


def _as_pitches(piece: Any, where: str) -> np.ndarray:
    """(T, 128) from the pitches of each frame."""
    if not isinstance(piece, list | tuple):
        raise DataError(f"{where}: a list of frames is expected, not {_shown(piece)}.")
    roll = np.zeros((len(piece), PITCHES), np.uint8)
    for t, frame in enumerate(piece):
        if not isinstance(frame, list | tuple):
            raise DataError(f"{where}, frame {t + 1}: a list of pitches is expected, not {_shown(frame)}.")
        for pitch in frame:
            whole = int(pitch) if isinstance(pitch, float) and pitch.is_integer() else pitch
            if isinstance(whole, bool) or not isinstance(whole, int | np.integer) or not -1 <= whole < PITCHES:
                raise DataError(
                    f"{where}, frame {t + 1}: {_shown(pitch)} is no pitch of MIDI; a whole number from 0 to 127 is "
                    "expected (-1: silence)."
                )
            if whole >= 0:
                roll[t, whole] = 1
    return roll


def _as_roll(piece: Any, where: str) -> np.ndarray:
    """(T, 128) from an array of 0 and 1."""
    array = np.asarray(piece)
    if array.ndim != 2 or array.shape[1] not in (KEYS, PITCHES):
        raise DataError(
            f"{where}: an array (frames, {KEYS}) of keys or (frames, {PITCHES}) of pitches is expected, not "
            f"{tuple(array.shape)}."
        )
    if array.dtype != bool:
        odd = (array != 0) & (array != 1)
        if odd.any():
            t, key = (int(place[0]) for place in np.nonzero(odd))
            raise DataError(f"{where}, frame {t + 1}, column {key + 1}: {array[t, key]} is neither 0 nor 1.")
    if array.shape[1] == PITCHES:
        return array.astype(np.uint8)
    roll = np.zeros((len(array), PITCHES), np.uint8)
    roll[:, LOWEST : LOWEST + KEYS] = array
    return roll


def _shown(value: Any) -> str:
    said = "a table" if isinstance(value, Mapping) else "a list" if isinstance(value, list | tuple) else repr(value)
    return said if len(said) <= 40 else said[:37] + "…"


class _Keys:
    """From pitches to keys; counts notes beyond them."""

    def __init__(self, settings: RollSettings) -> None:
        self.settings, self.outside, self.all = settings, 0, 0
        self.first = ""

    def of(self, sounding: np.ndarray, where: str) -> np.ndarray:
        """(T, 128) to (T, 88)."""
        roll = sounding[:, LOWEST : LOWEST + KEYS].copy()
        beyond = np.flatnonzero(
            np.r_[sounding[:, :LOWEST].any(0), np.zeros(KEYS, bool), sounding[:, LOWEST + KEYS :].any(0)]
        )
        self.all += int(sounding.sum(dtype=np.int64))
        for pitch in beyond.tolist():
            if not self.outside:
                self.first = f"the first in {where}"
            self.outside += int(sounding[:, pitch].sum(dtype=np.int64))
            if self.settings.outside == "octave":
                moved = pitch + 12 * -(-(LOWEST - pitch) // 12) if pitch < LOWEST else pitch
                moved -= 12 * -(-(moved - (LOWEST + KEYS - 1)) // 12) if moved >= LOWEST + KEYS else 0
                roll[:, moved - LOWEST] |= sounding[:, pitch]
        if self.settings.trim and roll.any():
            frames = np.flatnonzero(roll.any(1))
            roll = roll[frames[0] : frames[-1] + 1]
        return roll

    def told(self, name: str) -> list[str]:
        """What a person should know."""
        if not self.outside:
            return []
        counted = f"{name}: {self.outside:,} of {self.all:,} sounding pitches lie beyond the {KEYS} keys"
        keys = f"{name_of_key(0)} to {name_of_key(KEYS - 1)}"
        if self.settings.outside == "octave":
            return [f"{counted} ({keys}; {self.first}) and are moved by octaves."]
        return [f"{counted} ({keys}; {self.first}) and are left out; data.outside = octave moves them."]
