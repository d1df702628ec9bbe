"""Speech translation: the translator's encoder reads features; what is said, scored and refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.data.pairs import collate
from recurra.data.spoken_pairs import SpokenPairReader, SpokenPairs, SpokenPairSettings
from recurra.errors import RecipeError
from recurra.run.compare import compare
from recurra.tasks.speech_translate import (
    SpeechTranslate,
    SpeechTranslateTrainSettings,
    SpeechTranslator,
    SpeechTranslatorSettings,
)
from recurra.tasks.translate import Translations
from spoken import RATE, named, phrase, tone, transcribed, write

GERMAN = {"low": "tief", "middle": "mittel", "high": "hoch"}
SMALL: dict[str, Any] = {
    "data.mels": 16,
    "model.hidden_size": 24,
    "model.embedding_size": 8,
    "model.attention": "additive",
    "model.stack": 4,
    "train.batch_size": 8,
    "train.lr": 0.01,
}


def made(folder: Path, **model: Any) -> tuple[SpeechTranslate, SpeechTranslator, SpokenPairs]:
    torch.manual_seed(0)
    settings = SpokenPairSettings(mels=8, validation_fraction=0, test_fraction=0)
    parts = SpokenPairReader().parts(folder, "speech-translate", settings)
    task = SpeechTranslate(parts.schema, SpeechTranslateTrainSettings())
    given = {"hidden_size": 6, "embedding_size": 4, "beam": 2} | model
    network = task.build(SpeechTranslatorSettings.model_validate(given), parts.train)
    assert isinstance(network, SpeechTranslator)
    return task, network.eval(), parts.train


def test_the_encoder_reads_frames_on_a_common_scale(tmp_path: Path) -> None:
    _, network, data = made(transcribed(tmp_path, 6), stack=3)
    x = data.source.sequence(1)
    steps, lengths = network.read(x.unsqueeze(1), None)
    assert lengths is None
    assert steps.shape == (-(-len(x) // 3), 1, 24)
    mean, deviation = data.source.values.mean(0), data.source.values.std(0, correction=0)
    expected = ((x - mean) / deviation)[:3].flatten()
    torch.testing.assert_close(steps[0, 0], expected, atol=1e-4, rtol=1e-4)
    assert network.encoder.input_size == 24
    assert network.own_source_embedding is None


@pytest.mark.parametrize("summary", ["last", "mean"])
def test_a_recording_is_read_alike_alone_and_beside_longer_ones(summary: str, tmp_path: Path) -> None:
    _, network, data = made(transcribed(tmp_path, 5), stack=3, summary=summary, feed=True)
    network.double()
    device = torch.device("cpu")
    order = torch.sort(data.source.lengths).indices
    together = collate(data, order).to(device, torch.float64)
    ready, _ = network(*together.inputs)
    steps, rows = together.within.nonzero().unbind(1)
    for row, index in enumerate(order.tolist()):
        alone = collate(data, torch.tensor([index])).to(device, torch.float64)
        own, _ = network(*alone.inputs)
        torch.testing.assert_close(ready[rows == row][torch.sort(steps[rows == row]).indices], own, atol=1e-12, rtol=0)


def test_how_much_is_said_at_most_follows_from_the_texts(tmp_path: Path) -> None:
    _, network, data = made(transcribed(tmp_path, 6))
    assert data.target is not None
    longest = int(data.target.lengths.max())
    assert network.most(torch.tensor([500, 7])).tolist() == [2 * longest + 1] * 2
    network.settings = network.settings.model_copy(update={"max_output": 3})
    assert network.most(torch.tensor([500])).tolist() == [4]


def test_scores_by_hand(tmp_path: Path) -> None:
    task, _, _ = made(transcribed(tmp_path, 6))
    said = Translations(
        ["a", "b"],
        ["tief hoch", "mittel"],
        ["tief hoch", "hoch mittel mittel"],
        np.array([1.0, 2.0]),
        np.array([3, 4]),
        np.zeros(2),
        np.ones(2, bool),
        2,
    )
    found = task.scores(said)
    assert found["wer"] == pytest.approx(2 / 5)
    assert found["exact_match"] == pytest.approx(1 / 2)
    assert found["loss"] == pytest.approx(3 / 7)
    assert "bleu" not in found
    rows = list(task.rows(said, targets=True))
    assert [row["id"] for row in rows] == ["a", "b"]
    assert task.text(said) == "a\ttief hoch\nb\tmittel\n"


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model.tied": "all"}, "model.tied"),
        ({"model.replace_unknown": True}, "model.replace_unknown: a recording has no word"),
        ({"train.choose_by": "bleu"}, "train.choose_by"),
        ({"train.decoded": 0}, "choose_by is to be 'loss'"),
        ({"learn.rule": "rtrl"}, "learn.rule"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=expected):
        recurra.train("speech-translate", transcribed(tmp_path / "d", 8), out=tmp_path / "r", settings=SMALL | settings)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> recurra.Run:
    folder = tmp_path_factory.mktemp("translated")
    settings = SMALL | {
        **{"data.pattern": "{label}_{speaker}_{index}.wav", "data.held_out": "index=0-2", "data.join": [1, 3]},
        **{"data.held_out_validation": "index=3", "data.join_by": "speaker", "data.silence": [0.04, 0.08]},
        **{"data.join_training": 160, "data.join_validation": 10, "data.join_test": 20, "train.epochs": 14},
        **{f"data.words.{word}": german for word, german in GERMAN.items()},
    }
    return recurra.train("speech-translate", named(folder / "d", 9), out=folder / "run", settings=settings)


def test_it_is_learnt(run: recurra.Run) -> None:
    summary = run.summary
    assert run.main_metric == "wer"
    assert summary["test"]["wer"] < 0.3 < summary["baselines"]["commonest"]["wer"]
    low, high = summary["test_intervals"]["wer"]
    assert low <= summary["test"]["wer"] <= high
    html = run.report.read_text()
    assert "how much the decoder looked at each moment" in html
    assert "taken for another" in html


def test_new_recordings_are_translated(run: recurra.Run, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", phrase(["high", "low"]))
    said = run.predict(path)
    assert said.sources == ["a.wav"]
    assert set(said.said[0].split()) <= set(GERMAN.values())
    assert run.predict((RATE, phrase(["high", "low"]))).said == said.said
    found = run.evaluate(named(tmp_path / "n", 2))
    assert found["sequences"] == 12
    assert set(found["metrics"]) == {"wer", "cer", "exact_match", "loss", "perplexity"}


def test_runs_are_compared(run: recurra.Run) -> None:
    found = compare([run.path, run.path])
    assert (found.metric, found.higher_is_better) == ("wer", False)
    assert found.differences[0].interval == (0.0, 0.0)


def test_a_single_word_is_a_text_too(tmp_path: Path) -> None:
    """Recordings with labels, unjoined, are translated to a word each."""
    for word in GERMAN:
        for i in range(4):
            write(tmp_path / word / f"{i}.wav", tone(word, seed=i))
    read = SpokenPairReader().parts(tmp_path, "speech-translate", SpokenPairSettings(words=GERMAN))
    assert set(read.train.targets or ()) <= set(GERMAN.values())
    assert read.schema.input == "features"
