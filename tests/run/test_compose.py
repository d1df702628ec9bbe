"""What runs of notes write: against a loop over the network, from prompts of every kind, as MIDI, JSON and drawings."""

import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from zlib import crc32

import numpy as np
import pytest
import torch

import recurra
from recurra.cli import main
from recurra.data.midi import read_midi, write_midi
from recurra.errors import RecipeError
from recurra.run.generation.notes import Tune, compose
from recurra.run.roll_drawing import Roll, drawing
from recurra.run.training import Silent
from recurra.tasks.roll_model import RollModel, RollModelSettings

BEGUN = (np.random.default_rng(4).random((7, 88)) < 0.05).astype(np.uint8)
SHORT = np.eye(3, 88, 40, dtype=np.uint8)
NOTHING = np.zeros((0, 88), np.uint8)


def made(**model: Any) -> RollModel:
    torch.manual_seed(5)
    found = RollModel(RollModelSettings.model_validate({"hidden_size": 6, **model})).double().eval()
    for p in found.parameters():
        torch.nn.init.normal_(p, std=0.6)
    return found


def by_hand(
    model: RollModel, prompt: np.ndarray, length: int, seed: int, sample: int = 0, temperature: float = 1.0
) -> np.ndarray:
    """A loop that reads the whole piece anew for each frame."""
    random = np.random.default_rng([seed, crc32((prompt != 0).tobytes()), sample])
    piece = [frame.astype(float) for frame in prompt]
    for _ in range(length):
        uniform = random.random(88)
        x = torch.tensor(np.array([np.zeros(88), *piece])).unsqueeze(1)
        seen = model(x)[0][-1]
        frame = np.zeros(88)
        for key in range(88):  # as keys below it have fallen out, where it sees them
            logit = float(model.logits(seen, torch.from_numpy(frame).unsqueeze(0))[0, key])
            frame[key] = uniform[key] < 1 / (1 + np.exp(-logit / temperature))
        piece.append(frame)
    return np.array(piece) != 0


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"keys": "nade"},
        {"num_layers": 2, "cell": "gru", "head": [5]},
        {"kind": "tdnn"},
        {"kind": "ntm", "memory": (6, 3)},
    ],
    ids=str,
)
@torch.no_grad()
def test_a_piece_is_that_of_a_loop(model: dict[str, Any]) -> None:
    network = made(**model)
    for prompt in (BEGUN, NOTHING):
        (piece,) = compose(network, [prompt], length=3, seed=7, temperature=0.8)
        assert np.array_equal(piece, by_hand(network, prompt, 3, 7, temperature=0.8))


def test_a_prompt_has_the_same_pieces_whatever_is_beside_it() -> None:
    network = made()
    prompts = [BEGUN, NOTHING, SHORT]
    together = compose(network, prompts, length=6, samples=2, seed=3)
    assert [len(piece) for piece in together] == [13, 13, 6, 6, 9, 9]
    alone = [piece for prompt in prompts for piece in compose(network, [prompt], length=6, samples=2, seed=3)]
    assert all(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))
    assert not np.array_equal(together[0], together[1])
    assert not np.array_equal(together[0], compose(network, [BEGUN], length=6, seed=4)[0])


def test_at_temperature_zero_a_key_sounds_where_that_is_more_probable() -> None:
    network = made()
    one, other = (compose(network, [BEGUN], length=5, seed=seed, temperature=0.0)[0] for seed in (0, 1))
    assert np.array_equal(one, other)
    x = torch.from_numpy(np.concatenate([np.zeros((1, 88)), one])).unsqueeze(1)
    chances = network.probabilities(network(x)[0][:, 0]).numpy()
    assert np.array_equal(one[7:], chances[7:12] > 0.5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"length": 0}, "length: a whole number above 0 is expected, not 0"),
        ({"samples": -1}, "samples: a whole number above 0 is expected, not -1"),
        ({"temperature": -0.5}, "temperature: a number from 0 on is expected, not -0.5"),
        ({"temperature": float("nan")}, "temperature: a number from 0 on is expected, not nan"),
        ({"seed": -1}, "seed: a whole number from 0 on is expected, not -1"),
    ],
    ids=str,
)
def test_settings_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        compose(made(), [NOTHING], **options)


# --- drawings --------------------------------------------------------------------------------------------------------


def rectangles(svg: str, kind: str) -> list[dict[str, str]]:
    return [dict(e.attrib) for e in ElementTree.fromstring(svg).iter() if e.get("class") == kind]


def test_a_drawing_has_a_bar_for_each_note() -> None:
    roll = np.zeros((8, 88), bool)
    roll[0:4, 40] = roll[2:3, 44] = roll[6:8, 40] = True
    svg = drawing([Roll(roll, given=3)], 1.0)
    assert [float(r["width"]) for r in rectangles(svg, "given")] == [3 * 14 - 1, 14 - 1]
    assert [float(r["width"]) for r in rectangles(svg, "note")] == [14 - 1, 2 * 14 - 1]
    low, high = (rectangles(svg, "note")[0], rectangles(svg, "given")[1])
    assert float(low["y"]) - float(high["y"]) == 4 * 7.0  # four semitones higher, four rows up
    assert len(rectangles(svg, "bar")) == 3


def test_a_drawing_of_chances_is_as_strong_as_they_are() -> None:
    roll, chances = np.zeros((4, 88), bool), np.zeros((4, 88))
    roll[1, 40], chances[1, 40], chances[2, 41], chances[3, 42] = True, 0.75, 0.3, 0.01
    svg = drawing([Roll(roll, "a < b", chances=chances)], 1.0, (3, 4))
    assert sorted(float(r["opacity"]) for r in rectangles(svg, "chance")) == [0.3, 0.75]
    assert len(rectangles(svg, "true")) == 1
    assert "a &lt; b" in svg


def test_drawings_of_anything_are_well_formed() -> None:
    for roll in (np.zeros((1, 88)), np.ones((3, 88)), np.eye(2000, 88), np.zeros((0, 88))):
        for step in (0.01, 1, 64):
            ElementTree.fromstring(drawing([Roll(roll != 0), Roll(roll[:1] != 0)], step))


# --- by the command --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a few updates, from MIDI files at 90 beats a minute in three-four time."""
    folder = tmp_path_factory.mktemp("music")
    for n in range(12):
        roll = np.random.default_rng(n).random((6 + n, 88)) < 0.05
        roll[:, 40] = True
        (folder / f"{n}.mid").write_bytes(write_midi(roll, 0.5, tempo=90, meter=(3, 4), lowest=21))
    settings = {"model.hidden_size": 8, "train.epochs": 2, "data.step": 0.5}
    recurra.train("notes", folder, out=folder / "run", settings=settings)
    return folder / "run"


def command(capsys: pytest.CaptureFixture[str], *words: Any) -> tuple[int, str, str]:
    status = main(["generate", *map(str, words)])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_json_is_written_and_read_again(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, err = command(capsys, run, "--length", 12, "--samples", 2, "--seed", 3, "--temperature", 0.7)
    tunes = recurra.load(run).generate(length=12, samples=2, seed=3, temperature=0.7)
    assert (status, err) == (0, "")
    assert json.loads(out) == [tune.pitches for tune in tunes]
    assert len(out.splitlines()) == 2
    assert command(capsys, run, "--length", 12, "--samples", 2, "--seed", 3, "--temperature", 0.7)[1] == out
    assert len(json.loads(command(capsys, run)[1])[0]) == 64
    (tmp_path / "begun.json").write_text(json.dumps(json.loads(out)[:1]))
    _, more, _ = command(capsys, run, "--prompt-file", tmp_path / "begun.json", "--length", 5)
    assert json.loads(more)[0][:12] == json.loads(out)[0]
    assert len(json.loads(more)[0]) == 17
    _, rest, _ = command(capsys, run, "--prompt-file", tmp_path / "begun.json", "--length", 5, "--no-echo")
    assert json.loads(rest)[0] == json.loads(more)[0][12:]
    assert recurra.load(run).evaluate(tmp_path / "begun.json")["sequences"] == 1


def test_midi_keeps_the_pace_of_the_prompt_or_of_the_training_data(
    run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = [run, "--length", 10, "--temperature", 1.5]
    assert command(capsys, *words, "--out", tmp_path / "a.mid") == (0, "", "")
    (tune,) = recurra.load(run).generate(length=10, temperature=1.5)
    played = read_midi(tmp_path / "a.mid", 0.5)
    assert np.array_equal(played.sounding[:, 21:109] != 0, tune.sounding)
    assert (round(played.tempo), played.meter) == (90, (3, 4))
    status, _, err = command(capsys, *words, "--out", tmp_path / "a.mid")
    assert (status, err) == (2, f"error: {tmp_path / 'a.mid'}: exists already; --force overwrites it\n")
    command(capsys, *words, "--out", tmp_path / "b.mid", "--tempo", 132)
    assert round(read_midi(tmp_path / "b.mid", 0.5).tempo) == 132
    command(capsys, run, "--prompt-file", tmp_path / "b.mid", "--length", 2, "--out", tmp_path / "c.midi")
    again = read_midi(tmp_path / "c.midi", 0.5)
    assert round(again.tempo) == 132
    assert np.array_equal(again.sounding[:10], played.sounding)
    assert len(again.sounding) == 12


def test_prompts_from_python_and_from_standard_input(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loaded = recurra.load(run)
    of_array, of_list = loaded.generate(SHORT, length=4), loaded.generate([[61], [62], [63]], length=4)
    assert of_array[0].pitches == of_list[0].pitches
    assert of_array[0].prompt == 3
    assert of_array[0].without_prompt().pitches == of_array[0].pitches[3:]
    assert [tune.prompt for tune in loaded.generate([SHORT, BEGUN], length=2)] == [3, 7]
    with pytest.raises(RecipeError, match="unknown option of music 'temprature'; did you mean 'temperature'"):
        loaded.generate(temprature=3)
    (tmp_path / "a.json").write_text("[[61], [62], [63]]")
    assert loaded.generate([str(tmp_path / "a.json")] * 2, length=4)[1].pitches == of_list[0].pitches
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[[61], [62], [63]]"), "utf-8"))
    _, out, _ = command(capsys, run, "--prompt-file", "-", "--length", 4)
    assert json.loads(out) == [of_list[0].pitches]


def test_drawings_by_the_command(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command(capsys, run, "--length", 8, "--samples", 3, "--out", tmp_path / "a.svg")
    svg = (tmp_path / "a.svg").read_text("utf-8")
    assert "2 of 3" in svg
    (tune,) = recurra.load(run).generate(length=8)
    assert command(capsys, run, "--length", 8, "--output-format", "svg")[1] == tune.to_svg()
    assert isinstance(tune, Tune)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt", "a"], "--prompt: a run of notes has no such option; did you mean --prompt-file? It has --length"),
        (["--top-k", "3"], "--top-k: a run of notes has no such option"),
        (["--no-echo", "--beam", "2"], "--beam: a run of notes has no such option"),
        (["--length", "0"], "length: a whole number above 0 is expected, not 0"),
        (["--tempo", "0"], "tempo: beats a minute from 4 to 2000 are expected, not 0"),
        (["--samples", "2", "--out", "a.mid"], "--samples 2: a MIDI file holds one piece; JSON and SVG hold several"),
        (["--output-format", "mdi"], "--output-format: unknown format of music 'mdi'; did you mean 'midi'?"),
        (["--out", "a.wav"], "--out: a.wav: a name that ends with .mid, .midi, .svg, .json is expected"),
        (["--prompt-file", "nowhere.mid"], "nowhere.mid: no such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_told(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = command(capsys, run, *words)
    assert (status, out) == (2, "")
    assert said in err
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1


def test_a_prompt_that_is_none(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.mid").write_bytes(write_midi(SHORT, 1.0)[:40])
    status, _, err = command(capsys, run, "--prompt-file", tmp_path / "cut.mid")
    assert (status, "cut.mid: is cut short" in err) == (2, True)
    (tmp_path / "text.txt").write_text("the cat")
    assert (
        "text.txt: is not pieces as JSON, or MIDI files"
        in command(capsys, run, "--prompt-file", tmp_path / "text.txt")[2]
    )
    (tmp_path / "low.json").write_text("[[[5, 60]]]")
    status, out, err = command(capsys, run, "--prompt-file", tmp_path / "low.json", "--length", 1)
    assert (status, json.loads(out)[0][0]) == (0, [60])
    assert "warning: " in err
    assert "1 of 2 sounding pitches lie beyond the 88 keys" in err


def test_a_run_that_is_not_finished_writes_with_what_it_has(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Stop(Silent):
        def update(self, step: int, loss: float) -> None:
            if step == 3:
                raise KeyboardInterrupt

    settings = {"model.hidden_size": 6, "train.batch_size": 2, "train.checkpoint_seconds": 0.0}
    with pytest.raises(KeyboardInterrupt):
        recurra.train("notes", run.parent, out=tmp_path / "run", settings=settings, listener=Stop())
    status, out, err = command(capsys, tmp_path / "run", "--length", 5)
    assert (status, len(json.loads(out)[0])) == (0, 5)
    assert "is not finished: taken are the" in err
