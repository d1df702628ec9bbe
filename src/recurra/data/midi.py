"""MIDI files: which notes sound in each frame, read and written by mido."""

import io
import math
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from recurra.data.opening import name_of, open_binary
from recurra.errors import DataError, MissingExtraError

if TYPE_CHECKING:
    from mido import MidiFile

PITCHES = 128
"""Pitches that MIDI has; 60 is the middle C."""

DRUMS = 9
"""The channel, from 0, whose notes are no pitches (General MIDI)."""

PEDAL = 64
"""The controller that holds notes (sustain)."""

TICKS = 480
"""Ticks of a beat in files that are written."""

TEMPO, METER = 120.0, (4, 4)
"""Beats a minute and time signature of a file that names none, as the MIDI specification has it."""

MOST_FRAMES = 1_000_000
"""Frames of a piece at most: damaged files have pauses of years."""

VELOCITY = 80
"""How hard keys are struck in files that are written."""

FAULTS = (OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError)
"""What mido raises over a file that is damaged, beside an error of its own."""


@dataclass
class Played:
    """What a MIDI file plays.

    Attributes:
        sounding: (T, 128) uint8: 1 where a pitch sounds in a frame.
        tempo: Beats (quarter notes) a minute, at the beginning.
        meter: The time signature at the beginning: beats in a bar, and which note is a beat.
        notes: Notes that were read.
        drums: Notes of the drum channel, which are left out.
        short: Notes shorter than half a frame, which fill one.
        hanging: Notes that no event ends, which sound to the end.
    """

    sounding: np.ndarray
    tempo: float = TEMPO
    meter: tuple[int, int] = METER
    notes: int = 0
    drums: int = 0
    short: int = 0
    hanging: int = 0


@dataclass
class _Notes:
    """Notes as they are gathered: (begin, end, pitch) in ticks."""

    done: list[tuple[int, int, int]] = field(default_factory=list)
    begun: dict[tuple[int, int, int], list[int]] = field(default_factory=lambda: defaultdict(list))
    held: dict[int, dict[tuple[int, int], list[int]]] = field(default_factory=lambda: defaultdict(dict))
    pedals: set[int] = field(default_factory=set)

    def begin(self, track: int, channel: int, pitch: int, tick: int) -> None:
        for start in self.held[channel].pop((track, pitch), []):  # struck again under the pedal
            self.done.append((start, tick, pitch))
        self.begun[track, channel, pitch].append(tick)

    def end(self, track: int, channel: int, pitch: int, tick: int) -> None:
        starts = self.begun.get((track, channel, pitch))
        if not starts:
            return
        start = starts.pop(0)
        if channel in self.pedals:
            self.held[channel].setdefault((track, pitch), []).append(start)
        else:
            self.done.append((start, tick, pitch))

    def release(self, channel: int, tick: int) -> None:
        self.pedals.discard(channel)
        for (_, pitch), starts in self.held.pop(channel, {}).items():
            self.done += [(start, tick, pitch) for start in starts]

    def finish(self, tick: int) -> int:
        """End what still sounds; how many notes no event had ended."""
        for channel in list(self.held):
            self.release(channel, tick)
        left = [(start, pitch) for (_, _, pitch), starts in self.begun.items() for start in starts]
        self.done += [(start, tick, pitch) for start, pitch in left]
        return len(left)


def read_midi(source: Path | BinaryIO, step: float, *, pedal: bool = True) -> Played:
    """Read which notes sound in each frame. All tracks are joined.

    A note that begins at beat a and ends at beat b sounds from frame ⌊a / step + ½⌋ to before frame ⌊b / step + ½⌋,
    and in one frame at the least. The piece lasts as long as its longest track.

    Args:
        source: The file, or an open one.
        step: Length of a frame in beats (quarter notes).
        pedal: Whether notes are held as long as the sustain pedal is down.

    Raises:
        DataError: No MIDI file, one that is cut short or damaged, or whose times are not counted in beats.
        MissingExtraError: mido is not installed.
    """
    name = name_of(source)
    with open_binary(source) as file:
        data = file.read()
    midi = _parsed(data, name)
    if midi.ticks_per_beat == 0:
        raise DataError(f"{name}: its header says 0 ticks a beat; expected 1 or more. Is it damaged?")
    if midi.ticks_per_beat < 0:
        raise DataError(f"{name}: its times are counted in frames of film (SMPTE), not in beats; save it in beats.")
    if midi.type == 2:
        raise DataError(f"{name}: holds separate patterns (MIDI format 2); save it as format 0 or 1.")
    played, spans, last = _gathered(midi, pedal)
    frames = np.floor(np.array(spans, dtype=np.float64).reshape(-1, 3)[:, :2] / (midi.ticks_per_beat * step) + 0.5)
    frames = frames.astype(np.int64)
    length = int(max(math.floor(last / (midi.ticks_per_beat * step) + 0.5), (frames[:, 0] + 1).max(initial=0)))
    if length > MOST_FRAMES:
        raise DataError(
            f"{name}: lasts {last / midi.ticks_per_beat:,.0f} beats, {length:,} frames of {step:g}; expected at most "
            f"{MOST_FRAMES:,}. Is it damaged?"
        )
    played.sounding = np.zeros((length, PITCHES), np.uint8)
    for (first, stop), (begin, end, pitch) in zip(frames.tolist(), spans, strict=True):
        played.sounding[first : max(stop, first + 1), pitch] = 1
        played.short += end - begin < midi.ticks_per_beat * step / 2
    return played


def _parsed(data: bytes, name: str) -> "MidiFile":
    try:
        from mido import MidiFile
        from mido.midifiles.meta import KeySignatureError
    except ImportError as error:
        raise MissingExtraError("MIDI files need another package: pip install 'recurra[music]'") from error
    if data[:4] == b"RIFF" and data[8:12] == b"RMID":
        raise DataError(f"{name}: is MIDI within RIFF (RMID); save it as plain MIDI.")
    if data[:4] != b"MThd":
        raise DataError(f"{name}: is no MIDI file; it begins with the bytes {data[:4].hex(' ')}, not with MThd.")
    file, promised = io.BytesIO(data), int.from_bytes(data[10:12])
    short = DataError(
        f"{name}: is cut short: its {len(data):,} bytes end within the {promised:,} track{'s' * (promised != 1)} it "
        "promises."
    )
    try:
        midi = MidiFile(file=file)
    except EOFError as error:
        raise short from error
    except (*FAULTS, KeySignatureError) as error:
        raise DataError(f"{name}: is damaged at about byte {file.tell():,}: {error}.") from error
    if len(midi.tracks) < promised:  # mido takes a number of 32,768 and above for a negative one
        raise short
    return midi


def _gathered(midi: "MidiFile", pedal: bool) -> tuple[Played, list[tuple[int, int, int]], int]:
    """What is played, its notes as (begin, end, pitch) in ticks, and the tick at which the longest track ends."""
    played = Played(np.empty((0, PITCHES), np.uint8))
    events: list[tuple[int, int, Any]] = []
    last = 0
    for number, track in enumerate(midi.tracks):
        tick = 0
        for message in track:
            tick += message.time
            events.append((tick, number, message))
        last = max(last, tick)
    events.sort(key=lambda event: event[0])  # stable: what comes together stays in its order
    notes, tempo, meter = _Notes(), None, None
    for tick, number, message in events:
        kind = message.type
        if kind in ("note_on", "note_off"):
            begins = kind == "note_on" and message.velocity > 0
            if message.channel == DRUMS:
                played.drums += begins
            elif begins:
                played.notes += 1
                notes.begin(number, message.channel, message.note, tick)
            else:
                notes.end(number, message.channel, message.note, tick)
        elif kind == "control_change" and message.control == PEDAL and pedal:
            if message.value >= 64:
                notes.pedals.add(message.channel)
            else:
                notes.release(message.channel, tick)
        elif kind == "set_tempo" and tempo is None and message.tempo:
            tempo = 60e6 / message.tempo
        elif kind == "time_signature" and meter is None:
            meter = (message.numerator, message.denominator)
    played.hanging = notes.finish(last)
    played.tempo, played.meter = tempo or TEMPO, meter or METER
    return played, sorted(notes.done), last


def write_midi(
    sounding: np.ndarray, step: float, *, tempo: float = TEMPO, meter: tuple[int, int] = METER, lowest: int = 0
) -> bytes:
    """A MIDI file of one track. A key that sounds in several frames in a row is one note.

    Args:
        sounding: (T, K): true where a pitch sounds in a frame.
        step: Length of a frame in beats.
        tempo: Beats a minute.
        meter: Time signature.
        lowest: The pitch of the first column.

    Returns:
        The file's bytes; `read_midi` with the same step gives what sounds.

    Raises:
        MissingExtraError: mido is not installed.
    """
    try:
        from mido import Message, MetaMessage, MidiFile, MidiTrack
    except ImportError as error:
        raise MissingExtraError("MIDI files need another package: pip install 'recurra[music]'") from error
    on = np.asarray(sounding) != 0
    changes = np.diff(on.astype(np.int8), axis=0, prepend=0, append=0)  # (T + 1, K)
    track = MidiTrack()
    track.append(MetaMessage("set_tempo", tempo=round(60e6 / tempo)))
    track.append(MetaMessage("time_signature", numerator=meter[0], denominator=meter[1]))
    ticks = [round(frame * step * TICKS) for frame in range(len(changes))]
    before = 0
    for frame, tick in enumerate(ticks):
        for kind, change in (("note_off", -1), ("note_on", 1)):
            for key in np.flatnonzero(changes[frame] == change).tolist():
                track.append(Message(kind, note=lowest + key, velocity=VELOCITY, time=tick - before))
                before = tick
    track.append(MetaMessage("end_of_track", time=ticks[-1] - before))
    file = io.BytesIO()
    MidiFile(type=0, ticks_per_beat=TICKS, tracks=[track]).save(file=file)
    return file.getvalue()


def runs(on: np.ndarray) -> list[tuple[int, int]]:
    """Where a key sounds in a row: (first frame, the one behind the last) each.

    >>> runs(np.array([0, 1, 1, 0, 1]))
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.asarray(on) != 0, prepend=False, append=False)).tolist()
    return [(first, stop) for first, stop in list(pairwise(edges))[::2]]
