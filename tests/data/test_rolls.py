"""Piano rolls from JSON, MIDI files and Python: what is read, how it is held to the keyboard, and what is told."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data.midi import write_midi
from recurra.data.roll_reader import RollReader, read_pieces
from recurra.data.rolls import RollSettings, name_of_key
from recurra.data.sequences import Sequences
from recurra.errors import DataError

READER = RollReader()
C = [[60], [60, 64], [60, 64, 67]]
D = [[62], [], [62, 66, 69], [62]]


def parts(data: Any, test: Any = None, **settings: Any) -> Any:
    return READER.parts(data, "notes", RollSettings(**settings), test=test)


def whole(data: Any, **settings: Any) -> Any:
    return parts(data, validation_fraction=0, test_fraction=0, **settings)


def pitches(data: Sequences) -> list[list[list[int]]]:
    """The pitches of each frame of each piece."""
    return [[(21 + np.flatnonzero(frame)).tolist() for frame in data.sequence(i).numpy()] for i in range(len(data))]


def placed(path: Path, data: Any) -> Path:
    path.write_text(json.dumps(data), "utf-8")
    return path


def test_json_in_all_its_shapes(tmp_path: Path) -> None:
    assert pitches(whole(placed(tmp_path / "a.json", [C, D])).train) == [C, D]
    assert pitches(whole(placed(tmp_path / "b.json", C)).train) == [C]
    found = parts(placed(tmp_path / "c.json", {"train": [C, D], "valid": [D], "test": [C]}))
    assert (pitches(found.train), pitches(found.validation), pitches(found.test)) == ([C, D], [D], [C])
    assert found.sources["validation"] == f"{tmp_path / 'c.json'} (validation part)"
    (tmp_path / "d.json.gz").write_bytes(gzip.compress(json.dumps([C, D]).encode()))
    assert pitches(whole(tmp_path / "d.json.gz").train) == [C, D]
    separate = [[[60, -1, 48.0, -1], [64, 60, -1, -1]]]
    assert pitches(whole(placed(tmp_path / "e.json", separate)).train) == [[[48, 60], [60, 64]]]


PIECES = st.lists(
    st.lists(st.sets(st.integers(21, 108), max_size=4).map(sorted), min_size=1, max_size=6).filter(any),
    min_size=1,
    max_size=4,
)


@given(PIECES)
@settings(max_examples=40, deadline=None)
def test_python_lists_arrays_and_json_say_the_same(pieces: list[list[list[int]]]) -> None:
    listed = whole(pieces)
    assert pitches(listed.train) == pieces
    rolls = [np.zeros((len(piece), 88), bool) for piece in pieces]
    for roll, piece in zip(rolls, pieces, strict=True):
        for t, frame in enumerate(piece):
            roll[t, np.array(frame, int) - 21] = True
    wide = [np.pad(roll, ((0, 0), (21, 19))) for roll in rolls]
    for data in (rolls, wide, [torch.from_numpy(roll) for roll in rolls], [roll.astype(np.float32) for roll in rolls]):
        assert torch.equal(whole(data).train.values, listed.train.values)
    read, _ = READER.part(io.BytesIO(json.dumps(pieces).encode()), listed.schema)
    assert torch.equal(read.values, listed.train.values)
    assert torch.equal(read.offsets, listed.train.offsets)


def test_arrays_alone_and_by_part() -> None:
    rolls = np.random.default_rng(0).random((5, 7, 88)) < 0.1
    found = parts({"train": rolls[:3], "valid": [rolls[3]], "test": rolls[4]})
    assert [len(part) for part in (found.train, found.validation, found.test)] == [3, 1, 1]
    assert np.array_equal(found.test.values.numpy() != 0, rolls[4])
    assert len(whole(rolls).train) == 5
    assert len({whole(rolls).fingerprint, whole(rolls[:4]).fingerprint, whole(rolls[::-1]).fingerprint}) == 3


def test_parts_that_are_missing_are_split_off(tmp_path: Path) -> None:
    rolls = np.random.default_rng(0).random((20, 7, 88)) < 0.1
    found = parts(list(rolls), split_seed=3)
    assert [len(part) for part in (found.train, found.validation, found.test)] == [14, 2, 4]
    assert found.sources["test"] == "0.2 of the training data given, split seed 3"
    found = parts(
        placed(tmp_path / "a.json", {"train": [C, D] * 5, "test": [D]}), test=placed(tmp_path / "t.json", [C])
    )
    assert (pitches(found.test), len(found.validation)) == ([C], 1)


def test_a_file_for_each_part(tmp_path: Path) -> None:
    for name, data in (("train", [C, D]), ("valid", [C]), ("test", [D])):
        placed(tmp_path / f"{name}.json", data)
    found = parts(tmp_path)
    assert (pitches(found.train), pitches(found.validation), pitches(found.test)) == ([C, D], [C], [D])
    assert pitches(READER.part(tmp_path, found.schema)[0]) == [D]
    assert pitches(parts(tmp_path / "train.json").test) == [D]


def midi(path: Path, piece: list[list[int]], step: float = 1.0, **options: Any) -> Path:
    roll = np.zeros((len(piece), 128), bool)
    for t, frame in enumerate(piece):
        roll[t, frame] = True
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(write_midi(roll, step, **options))
    return path


def test_folders_of_midi_files(tmp_path: Path) -> None:
    for name, piece in (("train/a.mid", C), ("train/more/b.MIDI", D), ("valid/c.mid", C), ("test/d.mid", D)):
        midi(tmp_path / name, piece, tempo=90 if piece is C else 110, meter=(3, 4))
    found = parts(tmp_path, step=1)
    assert (pitches(found.train), found.train.ids) == ([C, D], ["a.mid", "more/b.MIDI"])
    assert (pitches(found.validation), pitches(found.test)) == ([C], [D])
    assert (found.schema.format, found.schema.tempo, found.schema.meter) == ("midi", pytest.approx(100), (3, 4))
    one = whole(tmp_path / "train", step=1)
    assert len(one.train) == 2
    assert pitches(READER.part(tmp_path / "test" / "d.mid", found.schema)[0]) == [D]
    assert pitches(READER.part(io.BytesIO((tmp_path / "test/d.mid").read_bytes()), found.schema)[0]) == [D]


def test_a_folder_of_songs_is_no_parts_by_a_word_in_their_names(tmp_path: Path) -> None:
    for name, piece in (("train song.mid", C), ("other.mid", D), ("sub/x.mid", C)):
        midi(tmp_path / name, piece)
    assert whole(tmp_path, step=1).train.ids == ["other.mid", "sub/x.mid", "train song.mid"]
    midi(tmp_path / "apart/train.mid", C)
    midi(tmp_path / "apart/test.mid", D)
    found = parts(tmp_path / "apart", step=1, validation_fraction=0)
    assert (pitches(found.train), pitches(found.test)) == ([C], [D])
    midi(tmp_path / "songs/bach/a.mid", C)
    midi(tmp_path / "songs/mozart/b.mid", D)
    assert len(whole(tmp_path / "songs", step=1).train) == 2


def test_frames_of_another_length(tmp_path: Path) -> None:
    midi(tmp_path / "a.mid", C, step=1.0)
    assert pitches(whole(tmp_path / "a.mid", step=0.5).train) == [[frame for frame in C for _ in range(2)]]


def test_notes_beyond_the_keyboard(tmp_path: Path) -> None:
    data = [[[20, 21, 60], [108, 109, 127], [0]], [[60]]]
    found = whole(data)
    assert pitches(found.train) == [[[21, 60], [108], []], [[60]]]
    assert found.warnings == [
        "the training data given: 4 of 8 sounding pitches lie beyond the 88 keys (A0 to C8; the first in the training "
        "data given: piece 1) and are left out; data.outside = octave moves them."
    ]
    moved = whole(data, outside="octave")
    assert pitches(moved.train) == [[[21, 32, 60], [97, 103, 108], [24]], [[60]]]
    assert "are moved by octaves" in moved.warnings[0]


def test_silence_at_the_ends_is_left_out_where_that_is_asked() -> None:
    data = [[[], [60], [], [62], [], []]]
    assert len(whole(data).train.values) == 6
    assert pitches(whole(data, trim=True).train) == [[[60], [], [62]]]


def test_long_pieces_become_several_in_training_alone() -> None:
    found = parts({"train": [D, C, D + D + C], "test": [D + D]}, max_length=4, validation_fraction=0)
    assert pitches(found.train) == [D, C, D, D, C]
    assert pitches(found.test) == [D + D]
    assert found.warnings == [
        "the training data given (train part): 1 of 3 training pieces are longer than 4 frames (the longest has 11) "
        "and become several."
    ]


def test_pieces_without_a_note_are_left_out() -> None:
    found = whole([C, [[], []], D, []])
    assert pitches(found.train) == [C, D]
    assert found.warnings == ["the training data given: 2 pieces have no note (the first is piece 2), left out."]
    with pytest.raises(DataError, match="holds no note; expected pieces in which at least one of the 88 keys sounds"):
        whole([[[]], [[], []]])
    with pytest.raises(DataError, match="the training data given: holds no piece"):
        whole([])


def test_what_is_told_of_midi_files(tmp_path: Path) -> None:
    import mido

    track = mido.MidiTrack([mido.Message("note_on", note=n, channel=c) for n, c in ((36, 9), (60, 0), (62, 0))])
    track += [mido.Message("note_off", note=60, time=10), mido.MetaMessage("end_of_track", time=400)]
    mido.MidiFile(tracks=[track], ticks_per_beat=100).save(tmp_path / "a.mid")
    found = whole(tmp_path / "a.mid", step=1)
    where = tmp_path / "a.mid"
    assert found.warnings == [
        f"{where}: 1 strokes of drums (channel 10) are left out.",
        f"{where}: 1 of 2 notes are shorter than half a frame (data.step = 1 beats) and fill one; a smaller step keeps "
        "them apart.",
        f"{where}: 1 of 2 notes have no end, and sound to the last.",
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"train": [C], "tset": [D]}, "'tset' is no part; expected train, valid and test"),
        ({"valid": [C], "val": [D]}, "names the validation part twice, the second time as 'val'"),
        ({"test": [C]}, "has no train part, only test"),
        ({}, "is an empty table; expected the parts train, valid and test"),
        ([C, 5], "piece 2: a list of frames is expected, not 5"),
        ([C, [[60], 60]], "piece 2, frame 2: a list of pitches is expected, not 60"),
        ([C, [[60], [128]]], "piece 2, frame 2: 128 is no pitch of MIDI; a whole number from 0 to 127 is expected"),
        ([C, [[60.5]]], "piece 2, frame 1: 60.5 is no pitch"),
        ([C, [["C4"]]], "piece 2, frame 1: 'C4' is no pitch"),
        ([C, [[True]]], "piece 2, frame 1: True is no pitch"),
        ([C, [[[60]]]], "piece 2, frame 1: a list is no pitch"),
        ({"train": {"a": 1}}, r"\(train part\): a list of pieces is expected, not a table"),
        (7, "a list of pieces is expected, not 7"),
    ],
    ids=str,
)
def test_json_of_another_shape(tmp_path: Path, data: Any, said: str) -> None:
    path = placed(tmp_path / "x.json", data)
    if data == 7:
        path.write_text("[7]")
        said = "x.json: piece 1: a list of frames is expected, not 7"
    with pytest.raises(DataError, match=said) as told:
        whole(path)
    assert str(told.value).startswith(str(path))


def test_arrays_of_another_shape() -> None:
    for array, said in (
        (
            np.zeros((4, 12)),
            r"piece 1: an array \(frames, 88\) of keys or \(frames, 128\) of pitches is expected, not \(4, 12\)",
        ),
        (np.zeros(5), r"an array \(frames, keys\) or \(pieces, frames, keys\) is expected, not \(5,\)"),
        (np.full((3, 88), 0.5), "piece 1, frame 1, column 1: 0.5 is neither 0 nor 1"),
    ):
        with pytest.raises(DataError, match=said):
            whole(array)


def test_files_that_are_neither(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"train": [[[60]],}')
    with pytest.raises(DataError, match=r"a\.json, line 1, column 19: is no JSON: "):
        whole(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"b\.json(: lists within lists without end|, line 1)"):
        whole(tmp_path / "b.json")
    (tmp_path / "c.txt").write_text("hello")
    with pytest.raises(
        DataError, match=r"c\.txt: is not pieces as JSON, or MIDI files; it begins with the bytes 68 65"
    ):
        whole(tmp_path / "c.txt")
    (tmp_path / "d.mid").write_bytes(write_midi(np.eye(4, 88), 1.0, lowest=21)[:-9])
    with pytest.raises(DataError, match=r"d\.mid: is cut short"):
        whole(tmp_path / "d.mid")
    with pytest.raises(DataError, match=r"data\.format: unknown format 'midy'; did you mean 'midi'"):
        whole(tmp_path / "d.mid", format="midy")
    with pytest.raises(DataError, match=r"c\.txt: is not the format json"):
        READER.part(tmp_path / "c.txt", whole([C]).schema, format="json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        whole(tmp_path / "empty")
    with pytest.raises(DataError, match="no data"):
        whole(None)


def test_one_file_of_several_in_a_folder(data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placed(tmp_path / "fast.json", [C])
    placed(tmp_path / "slow.json", [D])
    with pytest.raises(
        DataError, match=r"several sets of pieces \(fast.json, slow.json\); name one: --set data.file=fast"
    ):
        whole(tmp_path)
    found = whole(tmp_path, file="slow.json")
    assert pitches(found.train) == [D]
    assert pitches(READER.part(tmp_path, found.schema)[0]) == [D]
    with pytest.raises(DataError, match=r"slowly\.json: no such file or folder. Did you mean"):
        whole(tmp_path, file="slowly.json")
    (tmp_path / "jsb").mkdir()  # a recipe's set is not what lies here under its name
    monkeypatch.chdir(tmp_path)
    quarter = parts(None, name="jsb", file="jsb-chorales-quarter.json")
    assert [len(part) for part in (quarter.train, quarter.validation, quarter.test)] == [229, 76, 77]
    assert [len(part.values) for part in (quarter.train, quarter.validation, quarter.test)] == [13807, 4602, 4725]
    given = json.loads((data_folder / "jsb" / "jsb-chorales-quarter.json").read_text())
    assert pitches(quarter.test) == [[sorted(frame) for frame in piece] for piece in given["test"]]
    separate = parts(None, name="jsb", file="Jsb16thSeparated.json")
    joined = parts(None, name="jsb", file="jsb-chorales-16th.json")
    assert torch.equal(separate.test.values, joined.test.values)


def test_further_pieces_are_those_of_the_test_part(tmp_path: Path) -> None:
    schema = whole([C]).schema
    path = placed(tmp_path / "a.json", {"train": [C], "test": [D]})
    data, warnings = READER.part(path, schema)
    assert (pitches(data), warnings) == ([D], [f"{path}: its test part is read."])
    found, _ = read_pieces(path, RollSettings())
    assert len(found.pieces) == 1


def test_what_the_reader_makes_of_it_is_described(tmp_path: Path) -> None:
    midi(tmp_path / "a.mid", C, tempo=90)
    said = READER.describe(str(tmp_path / "a.mid"), RollSettings(step=1), "notes")
    assert said.splitlines() == [
        f"train: {tmp_path / 'a.mid'} (midi)",
        "  pieces     1",
        "  frames     3; 3 to 3 a piece, median 3; 0 of them silent",
        "  notes      2.00 a frame, from C4 to G4",
        "  first      a.mid",
        "a frame: 1 beat; 90 beats a minute; 4/4",
    ]


def test_keys_have_their_names() -> None:
    assert [name_of_key(key) for key in (0, 1, 2, 3, 12, 48, 87)] == ["A0", "B♭0", "B0", "C1", "A1", "A4", "C8"]
