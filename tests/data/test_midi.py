"""MIDI files: against a reader by hand, there and back, and whatever may be wrong with one."""

import contextlib
import io
import struct
import sys
from pathlib import Path
from typing import Any

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from recurra.data.midi import TICKS, read_midi, runs, write_midi
from recurra.errors import DataError, MissingExtraError


def by_hand(data: bytes) -> tuple[dict[int, list[tuple[float, float]]], float]:
    """The notes of a file of one track, by pitch, as (begin, end) in beats, and its length; as the standard has it."""
    header, size, kind, tracks, division = struct.unpack(">4sIHHH", data[:14])
    assert (header, size, kind, tracks) == (b"MThd", 6, 0, 1)
    assert data[14:18] == b"MTrk"
    track = data[22:]
    assert len(track) == struct.unpack(">I", data[18:22])[0]
    place, tick, status = 0, 0, 0
    begun: dict[int, int] = {}
    notes: dict[int, list[tuple[float, float]]] = {}

    def number() -> int:
        nonlocal place
        value = 0
        while True:
            byte = track[place]
            place += 1
            value = value << 7 | byte & 127
            if byte < 128:
                return value

    while place < len(track):
        tick += number()
        if track[place] >= 128:
            status = track[place]
            place += 1
        if status == 0xFF:
            place += 1
            size = number()
            place += size
            continue
        pitch, velocity = track[place], track[place + 1]
        place += 2
        if status >> 4 == 9 and velocity:
            begun[pitch] = tick
        else:
            assert status >> 4 in (8, 9)
            notes.setdefault(pitch, []).append((begun.pop(pitch) / division, tick / division))
    assert not begun
    return notes, tick / division


ROLLS = arrays.arrays(
    np.bool_, st.tuples(st.integers(1, 12), st.just(128)), elements=st.sampled_from([False, False, True])
)
STEPS = st.sampled_from([0.25, 1.0, 1 / 3, 0.1, 2.5, 1 / 7, 0.013])


@given(ROLLS, STEPS)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_again(roll: np.ndarray, step: float) -> None:
    played = read_midi(io.BytesIO(write_midi(roll, step, tempo=96, meter=(3, 4))), step)
    assert np.array_equal(played.sounding, roll)
    assert (played.meter, played.drums, played.short, played.hanging) == ((3, 4), 0, 0, 0)
    assert played.tempo == pytest.approx(96)


@given(ROLLS)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_what_the_standard_says(roll: np.ndarray) -> None:
    notes, length = by_hand(write_midi(roll, 0.5))
    assert length == len(roll) * 0.5
    expected = {p: [(a * 0.5, b * 0.5) for a, b in runs(roll[:, p])] for p in range(128) if roll[:, p].any()}
    assert notes == expected


def test_mido_reads_it() -> None:
    roll = np.zeros((4, 88), bool)
    roll[1:3, 39] = True
    file = mido.MidiFile(file=io.BytesIO(write_midi(roll, 1.0, tempo=150, lowest=21)))
    said = [(m.type, m.time) for m in file.tracks[0]]
    assert said == [
        ("set_tempo", 0),
        ("time_signature", 0),
        ("note_on", TICKS),
        ("note_off", 2 * TICKS),
        ("end_of_track", TICKS),
    ]
    assert file.tracks[0][0].tempo == 400_000
    assert file.tracks[0][2].note == 60
    assert file.length == pytest.approx(4 * 60 / 150)
    trill = mido.MidiFile(file=io.BytesIO(write_midi(np.array([[0, 1], [1, 0]]), 1.0)))
    kinds = [(m.type, m.note) for m in trill.tracks[0] if not m.is_meta]
    assert kinds == [
        ("note_on", 1),
        ("note_off", 1),
        ("note_on", 0),
        ("note_off", 0),
    ]  # a key is let go before the next


def saved(tracks: list[list[Any]], type: int = 1, ticks: int = 100) -> io.BytesIO:
    """A file of messages with times since the one before."""
    made = mido.MidiFile(type=type, ticks_per_beat=ticks, tracks=[mido.MidiTrack(track) for track in tracks])
    file = io.BytesIO()
    made.save(file=file)
    return io.BytesIO(file.getvalue())


def on(note: int, time: int = 0, channel: int = 0, velocity: int = 64) -> mido.Message:
    return mido.Message("note_on", note=note, time=time, channel=channel, velocity=velocity)


def off(note: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=note, time=time, channel=channel)


def pedal(value: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=64, value=value, time=time, channel=channel)


def frames(file: io.BytesIO, step: float = 1.0, **options: Any) -> dict[int, list[int]]:
    """The frames in which each pitch sounds."""
    sounding = read_midi(file, step, **options).sounding
    return {p: np.flatnonzero(sounding[:, p]).tolist() for p in np.flatnonzero(sounding.any(0)).tolist()}


def test_notes_are_put_into_the_nearest_frames() -> None:
    file = saved([[on(60, 40), off(60, 110), on(62, 0), off(62, 10), on(64, 90), off(64, 310)]])
    # 60 from 0.4 to 1.5 beats, 62 from 1.5 to 1.6, 64 from 2.5 to 5.6
    assert frames(file) == {60: [0, 1], 62: [2], 64: [3, 4, 5]}


def test_short_notes_are_counted() -> None:
    played = read_midi(saved([[on(60), off(60, 49), on(62), off(62, 50)]]), 1.0)
    assert (played.notes, played.short) == (2, 1)


def test_tracks_and_channels_are_joined_and_a_velocity_of_zero_ends() -> None:
    tracks = [
        [on(60), on(60, 200, velocity=0)],
        [on(72), on(72, 100, velocity=0)],
        [on(60, 100, channel=1), off(60, 300, channel=1)],
        [on(67, 300), off(67, 100)],
    ]
    assert frames(saved(tracks)) == {60: [0, 1, 2, 3], 67: [3], 72: [0]}


def test_drums_are_left_out() -> None:
    played = read_midi(saved([[on(36, channel=9), on(60), off(36, 100, channel=9), off(60)]]), 1.0)
    assert (played.drums, played.notes) == (1, 1)
    assert np.flatnonzero(played.sounding.any(0)).tolist() == [60]


def test_the_pedal_holds_notes() -> None:
    track = [pedal(127), on(60), off(60, 100), on(64), off(64, 100), pedal(0, 200), on(67), off(67, 100)]
    assert frames(saved([track])) == {60: [0, 1, 2, 3], 64: [1, 2, 3], 67: [4]}
    assert frames(saved([track]), pedal=False) == {60: [0], 64: [1], 67: [4]}
    again = [pedal(127), on(60), off(60, 100), on(60, 100), off(60, 50), pedal(0, 150)]
    assert frames(saved([again])) == {60: [0, 1, 2, 3]}
    assert frames(saved([[pedal(127, channel=1), on(60), off(60, 100), pedal(0, 200, channel=1)]])) == {60: [0]}


def test_notes_without_an_end_sound_to_the_last() -> None:
    played = read_midi(saved([[on(60), on(64, 100), off(64, 300), off(65)]]), 1.0)
    assert played.hanging == 1
    assert played.sounding[:, 60].tolist() == [1, 1, 1, 1]


def test_the_longest_track_is_the_length() -> None:
    end = mido.MetaMessage("end_of_track", time=250)
    assert len(read_midi(saved([[on(60), off(60, 100)], [end]]), 1.0).sounding) == 3
    assert len(read_midi(saved([[on(60), off(60, 100), end]]), 0.5).sounding) == 7


def test_tempo_and_meter_are_the_first_that_are_named() -> None:
    faster = mido.MetaMessage("set_tempo", tempo=300_000, time=100)
    track = [mido.MetaMessage("set_tempo", tempo=600_000), on(60), off(60, 100), faster]
    track.append(mido.MetaMessage("time_signature", numerator=6, denominator=8))
    played = read_midi(saved([track]), 1.0)
    assert (played.tempo, played.meter) == (100.0, (6, 8))
    plain = read_midi(saved([[on(60), off(60, 100)]]), 1.0)
    assert (plain.tempo, plain.meter) == (120.0, (4, 4))


# --- what may be wrong ------------------------------------------------------------------------------------------------


def test_a_file_cut_short_anywhere(tmp_path: Path) -> None:
    whole = write_midi(np.eye(6, 88, dtype=bool), 1.0, lowest=21)
    path = tmp_path / "cut.mid"
    for size in range(4, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError) as told:
            read_midi(path, 1.0)
        assert (
            str(told.value) == f"{path}: is cut short: its {size:,} bytes end within the 1 track it promises."
            or size < 12
        )


@given(st.lists(st.tuples(st.integers(4, 110), st.integers(0, 255)), min_size=1, max_size=5))
@settings(max_examples=200, deadline=None)
def test_a_damaged_file_is_read_or_told(changes: list[tuple[int, int]]) -> None:
    data = bytearray(write_midi(np.eye(6, 88, dtype=bool), 1.0, lowest=21))
    for place, value in changes:
        data[place % len(data)] = value
    with contextlib.suppress(DataError):
        read_midi(io.BytesIO(bytes(data)), 1.0)


def test_what_is_no_midi_file(tmp_path: Path) -> None:
    path = tmp_path / "no.mid"
    path.write_bytes(b"RIFF....")
    with pytest.raises(
        DataError, match=r"no\.mid: is no MIDI file; it begins with the bytes 52 49 46 46, not with MThd"
    ):
        read_midi(path, 1.0)
    path.write_bytes(b"RIFF\x10\0\0\0RMIDdata")
    with pytest.raises(DataError, match=r"no\.mid: is MIDI within RIFF \(RMID\); save it as plain MIDI"):
        read_midi(path, 1.0)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"no\.mid: is empty"):
        read_midi(path, 1.0)
    with pytest.raises(DataError, match=r"nom\.mid: no such file or folder. Did you mean"):
        read_midi(tmp_path / "nom.mid", 1.0)


def test_times_that_are_not_in_beats_and_patterns_that_are_separate() -> None:
    data = bytearray(saved([[on(60), off(60, 100)]]).getvalue())
    data[12:14] = b"\xe7\x28"  # 25 frames a second, 40 ticks a frame
    with pytest.raises(DataError, match="counted in frames of film"):
        read_midi(io.BytesIO(bytes(data)), 1.0)
    data[12:14] = b"\0\0"
    with pytest.raises(DataError, match="its header says 0 ticks a beat"):
        read_midi(io.BytesIO(bytes(data)), 1.0)
    with pytest.raises(DataError, match="separate patterns"):
        read_midi(saved([[on(60), off(60, 100)]], type=2), 1.0)


def test_more_tracks_are_promised_than_are_there() -> None:
    data = bytearray(saved([[on(60), off(60, 100)]]).getvalue())
    data[10:12] = b"\xff\xff"
    with pytest.raises(DataError, match=r"is cut short: its \d+ bytes end within the 65,535 tracks it promises"):
        read_midi(io.BytesIO(bytes(data)), 1.0)


def test_a_key_signature_that_is_none_is_told() -> None:
    key = mido.MetaMessage("key_signature", key="C")
    data = saved([[key, on(60), off(60, 100)]]).getvalue().replace(b"\xff\x59\x02\x00\x00", b"\xff\x59\x02\x04\x02")
    with pytest.raises(DataError, match=r"is damaged at about byte 28: Could not decode key"):
        read_midi(io.BytesIO(data), 1.0)


def test_a_pause_of_years_is_told() -> None:
    with pytest.raises(DataError, match=r"lasts 2,684,355 beats, 2,684,355 frames of 1; expected at most 1,000,000"):
        read_midi(saved([[on(60), off(60, 100), mido.MetaMessage("end_of_track", time=0xFFFFFFF - 100)]]), 1.0)


def test_without_mido_the_command_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mido", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'recurra\[music\]'"):
        read_midi(io.BytesIO(b"MThd" + bytes(20)), 1.0)
    with pytest.raises(MissingExtraError, match=r"pip install 'recurra\[music\]'"):
        write_midi(np.zeros((2, 88)), 1.0)
