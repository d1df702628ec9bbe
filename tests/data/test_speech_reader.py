"""Recordings from folders, archives, tables and Python; how they are split, joined and converted, and what is told."""

import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.io import wavfile

from recurra.data.reader import Parts
from recurra.data.recordings import Condition, Pattern
from recurra.data.sound_changes import Changes, played
from recurra.data.sounds import read_parts
from recurra.data.spectral import Transform
from recurra.data.speech import SILENCE, Recordings, SpeechSchema, Waves, collate
from recurra.data.speech_reader import SpeechReader, SpeechSettings
from recurra.data.wave import at_rate
from recurra.errors import DataError
from spoken import RATE, TONES, folders, named, packed, phrase, tone, transcribed, write

PATTERN = "{label}_{speaker}_{index}.wav"


def settings(**given: Any) -> SpeechSettings:
    return SpeechSettings.model_validate(given)


def parts(source: Any, seed: int = 0, **given: Any) -> Parts[Recordings, SpeechSchema]:
    return SpeechReader().parts(source, "speech", settings(**given), seed=seed)


# --- where ------------------------------------------------------------------------------------------------------------


def test_a_folder_a_class(tmp_path: Path) -> None:
    read = parts(folders(tmp_path / "d"))
    assert read.schema.classes == ["high", "low", "middle"]
    assert (len(read.train), len(read.validation or ()), len(read.test or ())) == (21, 3, 6)
    assert read.schema.rate == RATE
    for part in read.named.values():
        assert part.texts is not None
        assert part.sounds.targets is not None
        for name, text, code in zip(part.names, part.texts, part.sounds.targets.tolist(), strict=True):
            assert name.split("/")[0] == text == read.schema.classes[code]


def test_features_are_those_of_the_file(tmp_path: Path) -> None:
    read = parts(folders(tmp_path / "d"), mels=20)
    name = read.train.names[3]
    samples = np.asarray(wavfile.read(tmp_path / "d" / name)[1]) / 32768
    expected = Transform(settings(mels=20), RATE)(samples.astype(np.float32))
    np.testing.assert_array_equal(read.train.sounds.sequence(3), expected)


def test_the_same_in_an_archive(tmp_path: Path) -> None:
    folder = named(tmp_path / "d")
    given: dict[str, Any] = {"pattern": PATTERN, "held_out": "speaker=bob"}
    loose = parts(folder, **given)
    for kind in ("d.tar", "d.tar.gz"):
        read = parts(packed(folder, tmp_path / kind), **given)
        assert read.schema.format == "archive"
        assert torch.equal(read.train.sounds.values, loose.train.sounds.values)
        assert read.train.texts == loose.train.texts
    alone = tmp_path / "alone"
    alone.mkdir()
    packed(folder, alone / "all.tar.gz")
    assert torch.equal(parts(alone, **given).train.sounds.values, loose.train.sounds.values)


def test_a_table_of_transcripts_with_parts(tmp_path: Path) -> None:
    transcribed(tmp_path, 20)
    transcribed(tmp_path, 6, "test.csv", seed=1)
    read = parts(tmp_path)
    assert read.schema.output == "transcript"
    assert read.schema.symbols == sorted(read.schema.symbols, key=lambda s: read.schema.symbols.index(s))
    assert set(read.schema.symbols) == set(TONES)
    assert read.test is not None
    assert len(read.test) == 6
    assert read.train.symbols is not None
    assert read.train.texts is not None
    for i, text in enumerate(read.train.texts):
        said = [read.schema.symbols[k - 1] for k in read.train.symbols.sequence(i).tolist()]
        assert said == text.split()


def test_a_table_by_other_names(tmp_path: Path) -> None:
    for word in TONES:
        for i in range(4):
            write(tmp_path / "clips" / f"{word}{i}.wav", tone(word, seed=i))
    rows = ["clip|who|word", *(f"{word}{i}|{i}|{word}" for word in TONES for i in range(4))]
    (tmp_path / "all.csv").write_text("\n".join([*rows, ""]))
    read = parts(tmp_path / "all.csv", target="word", separator="|", held_out="who=3")
    assert read.schema.output == "label"
    assert read.test is not None
    assert sorted(read.test.names) == ["high3", "low3", "middle3"]


def test_sounds_from_python() -> None:
    words = [word for word in TONES for _ in range(5)]
    sounds = [tone(word, seed=i) for i, word in enumerate(words)]
    by_rate = parts(([(RATE, x) for x in sounds], words), validation_fraction=0)
    set_ = parts((sounds, words), rate=RATE, validation_fraction=0)
    tensors = parts(([torch.from_numpy(x / 32768) for x in sounds], np.array(words)), rate=RATE, validation_fraction=0)
    for read in (set_, tensors):
        torch.testing.assert_close(read.train.sounds.values, by_rate.train.sounds.values, atol=1e-5, rtol=0)
        assert read.schema.classes == by_rate.schema.classes
    phrases = [["low", "high"], ["high"]] * 5
    read = parts(([(RATE, phrase(p)) for p in phrases], [" ".join(p) for p in phrases]))
    assert read.schema.output == "transcript"


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held_out", "test"),
    [
        ("speaker=bob", {"bob": {0, 1, 2, 3, 4, 5}}),
        ("index=0-1", {"ann": {0, 1}, "bob": {0, 1}}),
        ("index = 5 , 0", {"ann": {0, 5}, "bob": {0, 5}}),
    ],
)
def test_what_is_held_out(held_out: str, test: dict[str, set[int]], tmp_path: Path) -> None:
    read = parts(named(tmp_path / "d"), pattern=PATTERN, held_out=held_out, held_out_validation="index=2")
    for name, part in read.named.items():
        for file in part.names:
            _, speaker, index = file.removesuffix(".wav").split("_")
            held = int(index) in test.get(speaker, ())
            assert (name == "test") == held
            assert held or (name == "validation") == (index == "2")
    assert held_out in read.sources["test"]


def test_conditions() -> None:
    assert Condition("index=2-10", "held_out").holds("7")
    assert not Condition("index=2-10", "held_out").holds("11")
    assert Condition("day=2-10", "held_out").holds("2-10")
    assert not Condition("speaker=a", "held_out").holds("ab")
    for wrong in ("speaker", "=a", "a=", "a=b,"):
        with pytest.raises(DataError, match=r"data\.held_out: .* is no condition"):
            Condition(wrong, "held_out")


def test_patterns() -> None:
    assert Pattern(PATTERN).read("x/y/3_ann-b_07.wav", "") == {"label": "3", "speaker": "ann-b", "index": "07"}
    assert Pattern("{speaker}/{label}.wav").read("data/ann/yes.wav", "") == {"speaker": "ann", "label": "yes"}
    with pytest.raises(DataError, match=r"d/3_ann\.wav: the name is not as data\.pattern says"):
        Pattern(PATTERN).read("3_ann.wav", "d/3_ann.wav")
    for wrong, said in (("{a}_{a}.wav", "the field 'a' twice"), ("x.wav", "no field"), ("{a}_{b.wav", "half a brace")):
        with pytest.raises(DataError, match=said):
            Pattern(wrong)


# --- joined -----------------------------------------------------------------------------------------------------------


def joined(folder: Path, **given: Any) -> Parts[Recordings, SpeechSchema]:
    sizes = {"join_training": 12, "join_validation": 5, "join_test": 7}
    base = {
        "pattern": PATTERN,
        "held_out": "index=0-1",
        "join": [2, 3],
        "join_by": "speaker",
        "held_out_validation": "index=2",
    }
    return parts(folder, **(base | sizes | given))


def test_joined_recordings_say_what_their_pieces_say(tmp_path: Path) -> None:
    read = joined(named(tmp_path / "d"), speed=0.1, silence=[0.1, 0.2])
    assert {name: len(part) for name, part in read.named.items()} == {"train": 12, "validation": 5, "test": 7}
    waves, texts = read.train.waves, read.train.texts
    assert waves is not None
    assert texts is not None
    assert {len(text.split()) for text in texts} == {2, 3}
    files = {tone(w, seed=100 * s + i).tobytes(): (w, s) for w in TONES for s in (0, 1) for i in range(6)}
    for k in range(len(waves)):
        said, speakers, lengths = [], set(), []
        for piece, count in waves.pieces[waves.offsets[k] : waves.offsets[k + 1]].tolist():
            lengths.append(count)
            if piece == SILENCE:
                assert 0.1 * RATE - 1 <= count <= 0.2 * RATE + 1
                continue
            own = waves.samples[waves.bounds[piece] : waves.bounds[piece + 1]]
            word, speaker = files[np.rint(own * 32768).astype(np.int16).tobytes()]
            said.append(word)
            speakers.add(speaker)
        assert " ".join(said) == texts[k]
        assert len(speakers) == 1
        assert len(waves[k]) == sum(lengths)
        assert read.train.seconds[k] == pytest.approx(sum(lengths) / RATE)


def test_no_recording_is_in_two_parts_and_the_seed_settles_all(tmp_path: Path) -> None:
    given = settings(
        **{"name": None, "pattern": PATTERN, "held_out": "index=0-1", "join": [2, 3], "join_by": "speaker"},
        held_out_validation="index=2",
    )
    folder = named(tmp_path / "d")
    first, other, again = (read_parts(folder, given, None, None, seed, None, []) for seed in (0, 1, 0))
    names = {part: {r.name for r in heard.recordings} for part, heard in first.parts.items()}
    assert sum(map(len, names.values())) == len(set().union(*names.values())) == 36
    for part, plan in first.plans.items():
        assert plan is not None
        used = {piece for pieces in plan.plan for piece, _ in pieces} - {SILENCE}
        assert used <= set(range(len(first.parts[part])))
        for pieces in plan.plan:
            own = [piece for piece, _ in pieces if piece != SILENCE]
            assert len(own) == len(set(own))
        assert plan == again.plans[part]
    assert first.plans["train"] != other.plans["train"]
    gaps = [[n for pieces in plan.plan[:5] for _, n in pieces[:1]] for plan in first.plans.values() if plan is not None]
    assert gaps[0] != gaps[1] != gaps[2] != gaps[0]  # each part has random numbers of its own


def test_too_few_to_join(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"data\.join: \d recordings of speaker \w+ are too few for sequences of up to 20"
    ):
        joined(named(tmp_path / "d"), join=[2, 20])
    with pytest.raises(DataError, match=r"data\.join_by: unknown field 'speker'; did you mean 'speaker'"):
        joined(tmp_path / "d", join_by="speker")


def test_words_of_another_language(tmp_path: Path) -> None:
    words = {"low": "tief", "middle": "mittel", "high": "hoch"}
    read = joined(named(tmp_path / "d"), words=words)
    assert set(read.schema.symbols) == set(words.values())
    with pytest.raises(DataError, match=r"data\.words has no word for 'middle'"):
        joined(tmp_path / "d", words={"low": "tief", "high": "hoch"})


# --- waves and changes ------------------------------------------------------------------------------------------------


def test_waves_put_together() -> None:
    sounds = [np.arange(3, dtype=np.float32), np.full(2, 9, np.float32)]
    waves = Waves.of(sounds, [[(SILENCE, 1), (1, 0)], [(0, 0), (SILENCE, 2), (0, 0)]])
    assert [waves[i].tolist() for i in range(2)] == [[0, 9, 9], [0, 1, 2, 0, 0, 0, 1, 2]]
    assert waves.select([1])[0].tolist() == waves[1].tolist()
    assert Waves.of(sounds)[1].tolist() == [9, 9]


def test_changes_are_drawn_from_their_key() -> None:
    x = (tone("middle", 0.5) / 32768).astype(np.float32)
    made = Changes(settings(speed=0.2, gain=6.0, noise=10.0), Transform(settings(), RATE))
    np.testing.assert_array_equal(made(x, (0, 1, 2)), made(x, (0, 1, 2)))
    several = [made.sound(x, (0, 1, i)) for i in range(20)]
    assert len({len(y) for y in several}) > 5
    assert all(0.79 < len(x) / len(y) < 1.22 for y in several)
    alone = Changes(settings(gain=6.0), Transform(settings(), RATE))
    levels = [20 * np.log10(np.abs(alone.sound(x, (i,))).max() / np.abs(x).max()) for i in range(40)]
    assert -6 <= min(levels) < -3 < 3 < max(levels) <= 6
    noisy = Changes(settings(noise=10.0), Transform(settings(), RATE))
    ratios = [10 * np.log10(np.mean(x**2) / np.mean((noisy.sound(x, (i,)) - x) ** 2)) for i in range(40)]
    assert 9.5 < min(ratios) < 16 < 24 < max(ratios) < 30.5


def test_a_sound_played_faster_is_higher() -> None:
    t = np.arange(RATE) / RATE
    fast = played(np.sin(2 * np.pi * 500 * t).astype(np.float32), 1.25)
    assert len(fast) == RATE / 1.25
    assert np.abs(np.fft.rfft(fast)).argmax() == 500
    x = np.ones(5, np.float32)
    assert played(x, 1.004) is x


def test_a_batch_is_padded_with_what_does_not_count(tmp_path: Path) -> None:
    read = parts(transcribed(tmp_path, 8))
    batch = collate(read.train, torch.tensor([2, 0]))
    assert batch.lengths is not None
    assert batch.targets is not None
    assert batch.target_lengths is not None
    assert read.train.symbols is not None
    for row, index in enumerate((2, 0)):
        own = read.train.sounds.sequence(index)
        assert torch.equal(batch.x[: len(own), row], own)
    expected = torch.cat([read.train.symbols.sequence(i) for i in (2, 0)])
    assert torch.equal(batch.targets, expected)
    assert batch.target_lengths.sum() == len(expected)
    assert batch.steps == int(batch.lengths.sum())


# --- what is told -----------------------------------------------------------------------------------------------------


def told(read: Parts[Any, Any], words: str) -> None:
    assert any(words in warning for warning in read.warnings), read.warnings


def test_another_rate_width_or_number_of_channels_is_told(tmp_path: Path) -> None:
    folders(tmp_path)
    write(tmp_path / "low" / "0.wav", tone("low", rate=16000), 16000)
    write(tmp_path / "low" / "1.wav", np.stack([tone("low")] * 2, 1))
    write(tmp_path / "high" / "0.wav", (tone("high") / 32768).astype(np.float32))
    read = parts(tmp_path)
    assert read.schema.rate == RATE
    told(read, "1 of 30 recordings at 16,000 samples a second brought to 8,000; the first: low/0.wav")
    told(read, "1 of 30 recordings of several channels, of which the mean is taken; the first: low/1.wav (2)")
    told(read, "samples of several widths, all brought to full scale at 1: 29 of 16-bit, 1 of 32-bit float")
    part, warnings = SpeechReader().part(tmp_path / "low" / "0.wav", read.schema)
    assert any("16,000" in warning for warning in warnings)
    samples = (tone("low", rate=16000) / 32768).astype(np.float32)
    np.testing.assert_allclose(
        part.sounds.values, Transform(settings(), RATE)(at_rate(samples, 16000, RATE)), rtol=1e-5
    )


def test_files_of_other_formats_are_told(tmp_path: Path) -> None:
    folders(tmp_path / "d")
    for name in ("low/x.flac", "low/.hidden.mp3", "high/y.mp3"):
        (tmp_path / "d" / name).write_bytes(b"fLaC")
    said = "2 files of sound in other formats than WAV left out; the first: high/y.mp3."
    told(parts(tmp_path / "d"), f"{tmp_path / 'd'}: {said}")
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        archive.add(tmp_path / "d", "d")
    told(parts(tmp_path / "d.tar"), said.replace("high", "d/high"))
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "a.flac").write_bytes(b"fLaC")
    with pytest.raises(DataError, match=r"holds no WAV file\. .*: 1 file of sound in other formats than WAV left out"):
        parts(tmp_path / "e")


def test_what_a_table_or_an_archive_in_a_folder_hides_is_told(tmp_path: Path) -> None:
    folder = folders(tmp_path / "d")
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.wav"))]
    rows = ["file,label", *(f"{name},{name.split('/')[0]}" for name in names[1:20])]
    (folder / "some.csv").write_text("\n".join([*rows, ""]))
    read = parts(folder, pattern=PATTERN)
    said = "11 of 30 WAV files beside it, which it does not name, are left out; the first: high/0.wav."
    told(read, f"{folder}: some.csv is read; {said}")
    told(read, "some.csv: data.pattern is not heeded, since a table tells of its files.")
    assert not parts(folder / "some.csv").warnings
    (folder / "some.csv").unlink()
    packed(folders(tmp_path / "e"), folder / "all.tar")
    told(parts(folder), f"{folder}: all.tar is read; 30 of 30 WAV files beside it are left out; the first: high/0.wav.")


def test_a_recording_in_several_rows_is_told(tmp_path: Path) -> None:
    transcribed(tmp_path, 12)
    table = tmp_path / "train.csv"
    lines = table.read_text().strip().split("\n")
    table.write_text("\n".join([*lines, lines[2].partition(",")[0] + ",another text", lines[2], ""]))
    told(parts(table), "train.csv: 1 of 12 recordings stand in several rows, so that parts which are split off may")
    told(parts(table), "the first: 1.wav (lines 3, 14, 15).")
    write(tmp_path / "a.wav", tone("low"))
    (tmp_path / "x.csv").write_text("file,label\na.wav,low\na,low\na.wav,high\n")
    with pytest.raises(
        DataError, match=r"x\.csv, line 4: a\.wav is labelled 'high', but 'low' in line 2; one label is"
    ):
        parts(tmp_path / "x.csv")


def test_parts_in_a_mapping() -> None:
    def some(each: int, seed: int) -> tuple[list[Any], list[str]]:
        return [(RATE, tone(word, seed=seed + i)) for word in TONES for i in range(each)], [*TONES] * each

    read = parts({"train": some(4, 0), "valid": some(2, 10), "test": some(3, 20)})
    assert {name: len(part) for name, part in read.named.items()} == {"train": 12, "validation": 6, "test": 9}
    assert len(parts({"train": some(4, 0)}).named) == 3
    part, _ = SpeechReader().part({"train": some(4, 0), "test": some(3, 20)}, read.schema, targets=True)
    assert read.test is not None
    assert torch.equal(part.sounds.values, read.test.sounds.values)
    for given, said in (
        ({"trian": some(4, 0)}, "'trian' is no part; expected train, valid and test"),
        ({"train": some(4, 0), "Train": some(4, 0)}, "names the train part twice, the second time as 'Train'"),
        ({"test": some(4, 0)}, "has no train part, only test"),
    ):
        with pytest.raises(DataError, match=said):
            parts(given)


@pytest.mark.parametrize("nothing", [None, float("nan"), np.nan, pd.NA, pd.NaT, ""])
def test_no_label_is_no_class(nothing: Any) -> None:
    sounds = [(RATE, tone(word, seed=i)) for i in range(4) for word in TONES]
    with pytest.raises(DataError, match="sound 5 has no label; every recording needs one"):
        parts((sounds, [*TONES, *TONES][:5] + [nothing] + [*TONES] * 2))


def test_whole_numbers_in_a_type_too_wide_are_refused() -> None:
    sounds, words = [tone(word, seed=i) for i in range(4) for word in TONES], [*TONES] * 4
    short = parts((sounds, words), rate=RATE)
    wide = parts(([x.astype(np.int32) << 16 for x in sounds], words), rate=RATE)
    torch.testing.assert_close(wide.train.sounds.values, short.train.sounds.values)
    for made in (lambda x: x.tolist(), lambda x: x.astype(np.int32), lambda x: torch.from_numpy(x).long() << 8):
        with pytest.raises(
            DataError, match=r"sound 0: whole numbers of \d\d bits, of which the largest is [\d,]+; full"
        ):
            parts(([made(x) for x in sounds], words), rate=RATE)


def test_a_rate_as_a_floating_point_number() -> None:
    sounds, words = [tone(word, seed=i) for i in range(4) for word in TONES], [*TONES] * 4
    assert parts(([(8000.0, x) for x in sounds], words)).schema.rate == 8000
    with pytest.raises(DataError, match=r"sound 0: 8000\.5 samples a second; expected a whole number"):
        parts(([(8000.5, x) for x in sounds], words))
    with pytest.raises(DataError, match="sound 1: is no array of samples"):
        parts(([(8000, sounds[0]), (8000, [[1, 2], [3]])], ["a", "b"]))


def test_empty_transcripts_are_told(tmp_path: Path) -> None:
    transcribed(tmp_path, 12)
    transcribed(tmp_path, 5, "test.csv", seed=1)
    for table in ("train.csv", "test.csv"):
        lines = (tmp_path / table).read_text().split("\n")
        lines[2] = lines[2].partition(",")[0] + ","
        (tmp_path / table).write_text("\n".join(lines))
    read = parts(tmp_path, validation_fraction=0)
    assert len(read.train) == 11
    assert read.test is not None
    assert len(read.test) == 5
    told(read, "1 recording with an empty transcript left out of training; the first: train/1.wav")
    told(read, "1 recording with an empty transcript, of which every word said counts as wrong; the first: test/1.wav")


def test_what_training_never_had_is_told(tmp_path: Path) -> None:
    transcribed(tmp_path / "a", 12)
    read = parts(tmp_path / "a", validation_fraction=0)
    write(tmp_path / "b" / "0.wav", phrase(["low"]))
    (tmp_path / "b" / "x.csv").write_text("file,transcript\n0.wav,low tide\n")
    part, warnings = SpeechReader().part(tmp_path / "b", read.schema, targets=True)
    assert part.symbols is not None
    assert part.symbols.sequence(0).tolist() == [read.schema.symbols.index("low") + 1, 0]
    assert any(
        "1 transcript with symbols that the training data do not have, which cannot be said: 'tide'" in w
        for w in warnings
    )
    labelled = parts(folders(tmp_path / "c"))
    write(tmp_path / "d" / "odd" / "0.wav", tone("low"))
    part, warnings = SpeechReader().part(tmp_path / "d", labelled.schema, targets=True)
    assert part.sounds.targets is not None
    assert part.sounds.targets.tolist() == [-1]
    assert any("that count as wrong: odd" in warning for warning in warnings)


def test_a_recording_shorter_than_a_frame_is_told(tmp_path: Path) -> None:
    folders(tmp_path)
    write(tmp_path / "low" / "0.wav", tone("low")[:50])
    read = parts(tmp_path, test_fraction=0, validation_fraction=0)
    told(read, "1 recording shorter than a frame of 25 ms, filled up with silence; the first: low/0.wav")


def broken(make: Callable[[Path], object]) -> Callable[[Path], Any]:
    def made(folder: Path) -> Any:
        folders(folder / "d", 4)
        make(folder / "d")
        return folder / "d"

    return made


def cut(folder: Path) -> None:
    path = folder / "low" / "2.wav"
    path.write_bytes(path.read_bytes()[:300])


def bad_archive(folder: Path) -> Path:
    packed(folders(folder / "d", 4), folder / "d.tar.gz")
    path = folder / "d.tar.gz"
    path.write_bytes(path.read_bytes()[:-2000])
    return path


def table_without(column: str) -> Callable[[Path], Any]:
    def made(folder: Path) -> Any:
        transcribed(folder, 4)
        text = (folder / "train.csv").read_text()
        (folder / "train.csv").write_text(text.replace(column, "other", 1))
        return folder

    return made


def missing_file(folder: Path) -> Path:
    transcribed(folder, 4)
    shutil.move(folder / "train" / "3.wav", folder / "train" / "3b.wav")
    return folder


FAULTS: dict[str, tuple[Callable[[Path], Any], dict[str, Any], str]] = {
    "cut off": (broken(cut), {}, r"low/2\.wav: is cut off: its header tells of [\d,]+ bytes, 300 are there"),
    "empty file": (broken(lambda d: (d / "low" / "1.wav").write_bytes(b"")), {}, r"low/1\.wav: is empty"),
    "no sound": (broken(lambda d: (d / "low" / "1.wav").write_text("hello")), {}, r"low/1\.wav: starts with the bytes"),
    "nothing": (lambda d: d, {}, r": holds no WAV file"),
    "one class": (
        broken(lambda d: [shutil.rmtree(d / w) for w in ("low", "high")]),
        {},
        r"is labelled 'middle'; expected two",
    ),
    "no labels": (lambda d: write(d / "a.wav", tone("low")).parent, {}, r"nothing tells what was said"),
    "names": (broken(lambda d: None), {"pattern": PATTERN}, r"high/0\.wav: the name is not as data\.pattern says"),
    "field": (
        lambda d: named(d / "d"),
        {"pattern": PATTERN, "held_out": "speeker=ann"},
        r"data\.held_out: unknown field 'speeker'; did you mean 'speaker'",
    ),
    "all held out": (
        lambda d: named(d / "d"),
        {"pattern": PATTERN, "held_out": "speaker=ann,bob"},
        r"'speaker=ann,bob' holds of all of 36 recordings",
    ),
    "cut archive": (bad_archive, {}, r"d\.tar\.gz: is no tar archive that can be read to its end"),
    "no files in a table": (table_without("file"), {}, r"no column is called as one of files \(file, filename"),
    "no targets in a table": (table_without("transcript"), {}, r"nothing tells what was said"),
    "column": (lambda d: transcribed(d, 4), {"target": "transcripts"}, r"transcripts.*did you mean 'transcript'"),
    "missing file": (missing_file, {}, r"line 5: .*train/3\.wav: no such file or folder\. Did you mean .*3b\.wav"),
    "format": (
        lambda d: folders(d / "d", 4),
        {"format": "foder"},
        r"data\.format: unknown format 'foder'; did you mean 'folder'",
    ),
    "rate of arrays": (
        lambda d: ([tone("low")] * 4, list("abab")),
        {},
        r"sound 0: its rate is not known; set data\.rate",
    ),
    "as many": (lambda d: ([(8000, tone("low"))] * 4, ["a"]), {}, r"4 sounds but 1 targets"),
    "no sound in python": (lambda d: (["a.wav"], ["a"]), {}, r"a\.wav: no such file"),
    "bands": (lambda d: folders(d / "d", 4), {"mels": 200}, r"data\.mels: 200 bands are too many"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_told(fault: str, tmp_path: Path) -> None:
    make, given, expected = FAULTS[fault]
    with pytest.raises(DataError, match=expected):
        parts(make(tmp_path), **given)


def test_settings_that_cannot_be() -> None:
    for given, said in (
        ({"join": [5, 3]}, "from 5 to 3 recordings"),
        ({"silence": [0.5, 0.1]}, "the least comes first"),
        ({"join": [2, 3], "output": "label"}, "have a transcript, not a label"),
    ):
        with pytest.raises(ValueError, match=said):
            settings(**given)


# --- the real ones ----------------------------------------------------------------------------------------------------


def test_the_free_spoken_digits(data_folder: Path) -> None:
    read = parts(data_folder / "fsdd", pattern=PATTERN, held_out="index=0-4")
    assert {name: len(part) for name, part in read.named.items()} == {"train": 2430, "validation": 270, "test": 300}
    assert read.schema.classes == list("0123456789")
    assert read.schema.rate == RATE
    assert read.warnings == []
    assert sum(float(part.seconds.sum()) for part in read.named.values()) == pytest.approx(1312.4, abs=0.5)
