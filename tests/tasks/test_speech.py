"""The task speech: its network, its loss, what it says, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import recurra
from recurra.data.speech import collate
from recurra.data.speech_reader import SpeechReader, SpeechSettings
from recurra.errors import DataError, RecipeError, RunError
from recurra.run.sections.speech import in_rows
from recurra.tasks.hearing import HearingSettings, masked, stacked
from recurra.tasks.speech import Recogniser, Speech, SpeechModelSettings, SpeechTrainSettings, Spoken, too_short
from spoken import RATE, TONES, folders, named, phrase, tone, transcribed, write

SMALL: dict[str, Any] = {
    "data.mels": 20,
    "model.hidden_size": 12,
    "model.stack": 2,
    "train.batch_size": 8,
    "train.lr": 0.02,
}


def made(folder: Path, model: dict[str, Any] | None = None, **data: Any) -> tuple[Speech, Recogniser, Any]:
    """A task with its network, untrained, and its training part."""
    torch.manual_seed(0)
    parts = SpeechReader().parts(
        folder,
        "speech",
        SpeechSettings.model_validate({"mels": 8, "validation_fraction": 0, "test_fraction": 0} | data),
    )
    task = Speech(parts.schema, SpeechTrainSettings())
    network = task.build(SpeechModelSettings.model_validate({"hidden_size": 5} | (model or {})), parts.train)
    return task, network.eval(), parts.train


# --- frames put together, and hidden ----------------------------------------------------------------------------------


def test_frames_are_put_together_in_order() -> None:
    x = torch.arange(2 * 5 * 3).view(5, 2, 3).float()
    found, lengths = stacked(x, torch.tensor([5, 3]), 2)
    assert lengths is not None
    assert lengths.tolist() == [3, 2]
    assert found.shape == (3, 2, 6)
    assert torch.equal(found[1, 0], torch.cat([x[2, 0], x[3, 0]]))
    assert torch.equal(found[2, 0], torch.cat([x[4, 0], x[4, 0]]))  # the last again
    assert torch.equal(found[1, 1], torch.cat([x[2, 1], x[2, 1]]))
    alone, none = stacked(x[:3, 1:], None, 2)
    assert none is None
    assert torch.equal(alone[:, 0], found[:2, 1])
    assert stacked(x, None, 1)[0] is x


def test_masks_hide_stretches_and_bands() -> None:
    torch.manual_seed(1)
    settings = HearingSettings(stack=2, time_masks=1, time_mask=4, band_masks=1, band_mask=2)
    lengths = torch.tensor([20, 6])
    x = torch.ones(20, 2, 2 * 5)
    for _ in range(50):
        hidden = masked(x, lengths, settings) == 0
        for row, length in enumerate(lengths.tolist()):
            bands = hidden[:, row].all(0)
            assert torch.equal(bands[:5], bands[5:])  # of each frame of a step
            assert int(bands[:5].sum()) <= 2
            steps = hidden[:, row].all(1).nonzero().flatten()
            assert len(steps) <= min(4, length // 2)
            if len(steps):
                assert steps.tolist() == list(range(int(steps[0]), int(steps[-1]) + 1))
                assert int(steps[-1]) < length
    every = [masked(x, lengths, settings) for _ in range(20)]
    assert any((e == 0).any() for e in every)
    assert any(not torch.equal(e, every[0]) for e in every)


def test_nothing_is_hidden_outside_training(tmp_path: Path) -> None:
    masks = {"time_masks": 2, "band_masks": 2, "stack": 2}
    task, network, data = made(folders(tmp_path, 4), masks)
    first, again = task.predict(network, data), task.predict(network, data)
    assert first.probabilities is not None
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    plain = made(tmp_path, masks | {"time_masks": 0, "band_masks": 0})[1]
    plain.load_state_dict(network.state_dict())
    np.testing.assert_array_equal(first.probabilities, task.predict(plain, data).probabilities)
    batch = collate(data, torch.arange(4))
    with torch.no_grad():
        drawn = [network.train()(*batch.inputs)[0] for _ in range(2)]
    assert not torch.equal(*drawn)


# --- the network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [1, 3])
def test_a_recording_is_told_alike_alone_and_beside_longer_ones(stack: int, tmp_path: Path) -> None:
    _, network, data = made(transcribed(tmp_path, 6), {"stack": stack})
    network.double()
    order = torch.sort(data.lengths).indices
    together, _ = network(*collate(data, order).to(torch.device("cpu"), torch.float64).inputs)
    for row, index in enumerate(order.tolist()):
        alone, _ = network(*collate(data, torch.tensor([index])).to(torch.device("cpu"), torch.float64).inputs)
        torch.testing.assert_close(together[: len(alone), row], alone[:, 0], atol=1e-12, rtol=0)


def test_features_are_brought_to_a_common_scale(tmp_path: Path) -> None:
    _, network, data = made(folders(tmp_path, 4), {"stack": 3})
    steps = (data.sounds.values.repeat(1, 3) - network.mean) / network.deviation
    torch.testing.assert_close(steps.mean(0), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(steps.std(0, correction=0), torch.ones(24), atol=1e-3, rtol=0)


def test_transcripts_are_read_in_both_directions_unless_told_otherwise(tmp_path: Path) -> None:
    assert made(transcribed(tmp_path, 6))[1].recurrent.bidirectional
    assert not made(tmp_path, {"bidirectional": False})[1].recurrent.bidirectional


# --- loss and predictions ---------------------------------------------------------------------------------------------


def test_the_loss_of_transcripts_is_pytorch_s(tmp_path: Path) -> None:
    task, network, data = made(transcribed(tmp_path, 6), {"stack": 2})
    batch = collate(data, torch.arange(6))
    outputs, _ = network(*batch.inputs)
    assert batch.lengths is not None
    assert batch.targets is not None
    assert batch.target_lengths is not None
    expected = sum(
        F.ctc_loss(
            outputs[: -(-int(data.lengths[i]) // 2), i : i + 1].log_softmax(-1),
            data.symbols.sequence(i).unsqueeze(0).long(),
            torch.tensor([-(-int(data.lengths[i]) // 2)]),
            torch.tensor([len(data.symbols.sequence(i))]),
            reduction="sum",
        )
        for i in range(6)
    )
    found, expected = task.loss(network, outputs, batch).detach(), torch.as_tensor(expected).detach()
    torch.testing.assert_close(found, expected / batch.target_lengths.sum())
    said = task.predict(network, data)
    assert said.losses is not None
    assert float(said.losses.sum()) == pytest.approx(float(expected), rel=1e-4)


def test_too_short_for_its_transcript_is_told_and_teaches_nothing(tmp_path: Path) -> None:
    transcribed(tmp_path, 6)
    write(tmp_path / "train" / "2.wav", tone("low")[: RATE // 50])
    rows = (tmp_path / "train.csv").read_text().split("\n")
    rows[3] = "train/2.wav,low low"
    (tmp_path / "train.csv").write_text("\n".join(rows))
    task, network, data = made(tmp_path, {"stack": 2})
    assert too_short(data, 2).tolist() == [2]
    (note,) = task.notes
    assert "1 of 6 training recordings have fewer steps than their transcripts take" in note
    assert "train/2.wav" in note
    loss = task.loss(network, network(*collate(data, torch.arange(6)).inputs)[0], collate(data, torch.arange(6)))
    assert torch.isfinite(loss)
    scores = task.scores(task.predict(network, data))
    assert scores["too_short"] == 1
    assert np.isfinite(scores["loss"])


def test_scores_of_transcripts_by_hand(tmp_path: Path) -> None:
    task, network, data = made(transcribed(tmp_path, 6))
    said = task.predict(network, data)
    schema = task.schema
    code = {symbol: i + 1 for i, symbol in enumerate(schema.symbols)}
    said.texts = ["low high", "high", "low"]
    kind = type(said.readings[0]) if said.readings else None
    assert kind is not None
    said.readings = [kind([code["low"]], 0.0), kind([code["high"]], 0.0), kind([code["high"], code["low"]], 0.0)]
    said.losses = None
    found = task.scores(said)
    assert found["wer"] == pytest.approx(2 / 4)
    assert found["exact_match"] == pytest.approx(1 / 3)
    assert found["cer"] == pytest.approx((5 + 5) / (8 + 4 + 3))


def test_what_is_written_of_predictions(tmp_path: Path) -> None:
    task, network, data = made(folders(tmp_path, 4))
    said = task.predict(network, data)
    rows = list(task.rows(said, targets=True))
    assert [row["id"] for row in rows] == list(data.names)
    assert list(rows[0]) == ["index", "target", "prediction", "p_high", "p_low", "p_middle", "id"]
    assert task.text(said).split("\n")[0] == f"{data.names[0]}\t{said.said[0]}"
    assert len(said.first(2)) == 2
    assert said.first(2).said == said.said[:2]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"learn.carry_state": True}, "learn.carry_state"),
        ({"train.error_norm": 0.1}, "train.error_norm"),
        ({"learn.rule": "rtrl"}, "learn.rule: 'rtrl' goes forward"),
        ({"train.label_smoothing": 0.1}, "train.label_smoothing: is for labels"),
        ({"model.stack": 0}, "model.stack"),
        ({"data.hopp": 3}, "data.hopp: unknown key; did you mean data.hop"),
        ({"data.mel_scale": "bark"}, "data.mel_scale"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=expected):
        recurra.train("speech", transcribed(tmp_path / "d", 8), out=tmp_path / "run", settings=SMALL | settings)


# --- whole runs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels_run(tmp_path_factory: pytest.TempPathFactory) -> recurra.Run:
    folder = tmp_path_factory.mktemp("labels")
    settings = SMALL | {
        **{"data.pattern": "{label}_{speaker}_{index}.wav", "data.held_out": "index=0-1", "train.epochs": 12},
        **{"data.speed": 0.03, "data.gain": 6.0, "data.noise": 30.0},
    }
    return recurra.train("speech", named(folder / "d", 8), out=folder / "run", settings=settings)


@pytest.fixture(scope="module")
def texts_run(tmp_path_factory: pytest.TempPathFactory) -> recurra.Run:
    folder = tmp_path_factory.mktemp("texts")
    transcribed(folder / "d", 48)
    transcribed(folder / "d", 10, "test.csv", seed=1)
    settings = SMALL | {"train.epochs": 25, "model.stack": 2}
    return recurra.train("speech", folder / "d", out=folder / "run", settings=settings)


def test_labels_are_learnt(labels_run: recurra.Run) -> None:
    assert labels_run.main_metric == "accuracy"
    assert labels_run.summary["test"]["accuracy"] > 0.9
    assert labels_run.summary["baselines"]["majority"]["accuracy"] == pytest.approx(1 / 3)
    html = labels_run.report.read_text()
    assert "Class by class" in html
    assert "What was heard" in html


def test_transcripts_are_learnt(texts_run: recurra.Run) -> None:
    summary = texts_run.summary
    assert texts_run.main_metric == "wer"
    assert summary["test"]["wer"] < 0.2 < summary["baselines"]["commonest"]["wer"]
    low, high = summary["test_intervals"]["wer"]
    assert low <= summary["test"]["wer"] <= high
    assert "taken for another" in texts_run.report.read_text()


def test_words_over_a_recording_stand_in_rows_where_they_would_be_written_over_each_other() -> None:
    assert in_rows([0.1, 0.5, 0.9], ["one", "two", "three"], 1.0) == [0, 0, 0]
    assert in_rows([0.1, 0.12, 0.14, 0.5], ["one", "two", "three", "four"], 1.0) == [0, 1, 2, 0]
    assert in_rows([0.1, 0.12], ["one", "two"], 0.2) == [0, 0]  # the same places of a shorter recording lie apart
    assert in_rows([0.1, 0.12, 0.16], ["一二三四", "a", "b"], 1.0) == [0, 1, 1]
    assert in_rows([], [], 1.0) == []


def test_predict_takes_files_folders_and_sounds(texts_run: recurra.Run, tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.wav", phrase(["low", "high"]))
    write(tmp_path / "in" / "b.wav", phrase(["high"], rate=16000), 16000)
    alone = texts_run.predict(path)
    assert alone.said == ["low high"]
    both = texts_run.predict(tmp_path / "in")
    assert both.names == ["a.wav", "b.wav"]
    assert both.said == ["low high", "high"]
    assert any("16,000" in warning for warning in both.warnings)
    assert texts_run.predict((RATE, phrase(["low", "high"]))).said == ["low high"]
    assert texts_run.predict([(RATE, phrase(["low", "high"]))]).said == ["low high"]


def test_evaluate_needs_what_is_true(labels_run: recurra.Run, texts_run: recurra.Run, tmp_path: Path) -> None:
    transcribed(tmp_path, 8, "all.csv", seed=5)
    found = texts_run.evaluate(tmp_path / "all.csv")
    assert found["sequences"] == 8
    assert found["metrics"]["wer"] < 0.3
    with pytest.raises(DataError, match="does not tell what was said"):
        texts_run.evaluate(write(tmp_path / "a.wav", phrase(["low"])))
    again = labels_run.evaluate(named(tmp_path / "n", 2))
    assert again["sequences"] == 12
    with pytest.raises(DataError, match=r"a\.wav: the name is not as data\.pattern says"):
        labels_run.evaluate(tmp_path / "a.wav")
    assert labels_run.predict(tmp_path / "a.wav").said[0] in TONES  # whatever it is called


def test_a_run_is_gone_on_with_bit_for_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changes of the sound are those of their epoch and recording, wherever the run was stopped."""
    from recurra.run.training import Training

    folder = named(tmp_path / "d", 3)
    settings = SMALL | {
        **{"data.pattern": "{label}_{speaker}_{index}.wav", "data.speed": 0.1, "data.noise": 20.0, "train.epochs": 3},
        **{"model.time_masks": 1, "train.checkpoint_seconds": 0.0},
    }
    whole = recurra.train("speech", folder, out=tmp_path / "whole", settings=settings)
    kept, count = Training._save, 0

    def stop(self: Training) -> None:
        nonlocal count
        kept(self)
        count += 1
        if count == 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_save", stop)
        with pytest.raises(KeyboardInterrupt):
            recurra.train("speech", folder, out=tmp_path / "stopped", settings=settings)
    again = recurra.resume(tmp_path / "stopped")
    assert isinstance(again, recurra.Run)
    assert again.summary["sha256"] == whole.summary["sha256"]


def test_the_sound_is_changed_in_training_alone_and_otherwise_in_every_epoch(tmp_path: Path) -> None:
    task, _, data = made(folders(tmp_path, 4), speed=0.2, noise=10.0)
    few = torch.arange(3)

    def drawn(epoch: int) -> torch.Tensor:
        task.plan(data, seed=1, epoch=epoch)
        return task.collate(data, few).x

    first, second, again = drawn(0), drawn(1), drawn(0)
    assert torch.equal(first, again)
    assert first.shape != second.shape or not torch.equal(first, second)
    plain = collate(data, few).x
    assert first.shape != plain.shape or not torch.equal(first, plain)
    assert torch.equal(task.few(data, 12)[0].x, collate(data, torch.arange(12)).x)  # what instruments look at


def test_another_label_is_learnt_on_top(labels_run: recurra.Run, tmp_path: Path) -> None:
    folder = named(tmp_path / "d", 4)
    for i in range(4):
        write(folder / f"gap_ann_{i}.wav", np.zeros(900 + i, np.int16))
    more = recurra.train(
        "speech",
        folder,
        out=tmp_path / "run",
        from_run=labels_run.path,
        settings=_data_of(labels_run) | {"train.epochs": 2},
    )
    assert more.schema.classes == ["gap", "high", "low", "middle"]
    assert any("new in this run, so learnt from nothing: gap" in warning for warning in more.summary["warnings"])
    wrong = _data_of(labels_run) | {"data.mels": 30}
    with pytest.raises(RunError, match="that run reads 20 features at 8,000 samples a second"):
        recurra.train("speech", folder, out=tmp_path / "no", from_run=labels_run.path, settings=wrong)


def _data_of(run: recurra.Run) -> dict[str, Any]:
    return {"data.mels": 20, "data.pattern": run.recipe.data.pattern, "train.batch_size": 8}


def test_runs_are_compared(texts_run: recurra.Run, labels_run: recurra.Run) -> None:
    from recurra.run.compare import compare

    found = compare([texts_run.path, texts_run.path])
    assert (found.metric, found.higher_is_better) == ("wer", False)
    assert found.differences[0].paired
    assert found.differences[0].interval == (0.0, 0.0)
    assert compare([labels_run.path, labels_run.path]).higher_is_better


def test_it_can_be_inspected(texts_run: recurra.Run) -> None:
    from recurra.run.inspect import inspect

    found = inspect(texts_run.path, sequences=4)
    assert found.has_loss
    assert len(found.found.parts) == 2


def test_spoken_of_nothing_known() -> None:
    """What is said has a length, also where nothing is true of it."""
    assert len(Spoken([], np.empty(0), None, schema=None)) == 0  # pyright: ignore[reportArgumentType]
