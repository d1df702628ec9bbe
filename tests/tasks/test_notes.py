"""Notes: losses against loops in float64, what counts and what does not, baselines, transposition, real chorales."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.cli import main
from recurra.data.midi import write_midi
from recurra.data.roll_reader import RollReader
from recurra.data.rolls import RollSchema, RollSettings
from recurra.data.sequences import Sequences
from recurra.errors import RecipeError, RunError
from recurra.learn import LearnSettings
from recurra.run.compare import compare
from recurra.run.training import Silent
from recurra.tasks.notes import Heard, Notes, NotesTrainSettings, frequencies, room, told, transitions
from recurra.tasks.roll_model import RollModel, RollModelSettings

LENGTHS = (5, 1, 9, 4)


def pieces(lengths: tuple[int, ...] = LENGTHS, seed: int = 0, density: float = 0.06) -> Sequences:
    random = np.random.default_rng(seed)
    values = (random.random((sum(lengths), 88)) < density).astype(np.uint8)
    values[:, 40] |= random.random(sum(lengths)) < 0.5
    return Sequences(torch.from_numpy(values), torch.tensor(np.cumsum([0, *lengths])))


def task(**schema: Any) -> Notes:
    made = RollSchema(task="notes", format="json", step=1.0, **schema)
    return Notes(made, NotesTrainSettings())


def network(**model: Any) -> RollModel:
    torch.manual_seed(1)
    found = RollModel(RollModelSettings.model_validate({"hidden_size": 6, "cell": "elman", **model})).double()
    for p in found.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return found.eval()


def by_hand(model: RollModel, data: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """Nats of every frame, and the probabilities of keys in every frame and behind the last: h_t = tanh(W v_(t-1) + U
    h_(t-1) + b), p = σ(V h_t + c), with v_0 = 0 and h_0 = 0, in plain NumPy."""
    p = {name: value.detach().numpy() for name, value in model.named_parameters()}
    nats, said = [], []
    for i in range(len(data)):
        frames = data.sequence(i).numpy().astype(float)
        h, before = np.zeros(6), np.zeros(88)
        for frame in [*frames, None]:
            h = np.tanh(p["recurrent.weight_ih_l0"] @ before + p["recurrent.weight_hh_l0"] @ h + p["recurrent.bias_l0"])
            chances = 1 / (1 + np.exp(-(p["output.weight"] @ h + p["output.bias"])))
            said.append(chances)
            if frame is None:
                break
            nats.append(-sum(math.log(c if on else 1 - c) for c, on in zip(chances, frame, strict=True)))
            before = frame
    return np.array(nats), np.array(said)


def test_the_loss_is_that_of_a_loop_over_every_frame() -> None:
    data, model = pieces(), network()
    nats, said = by_hand(model, data)
    heard = task().predict(model, data, dtype=torch.float64)
    np.testing.assert_allclose(heard.nats, nats, rtol=1e-10)
    assert heard.probabilities is not None
    np.testing.assert_allclose(heard.probabilities, said, rtol=1e-5)
    scores = task().scores(heard)
    assert scores["nll"] == pytest.approx(nats.mean())  # every frame, the first of each piece among them
    batch = task().collate(data, torch.arange(4)).to(torch.device("cpu"), torch.float64)
    outputs, _ = model(*batch.inputs)
    assert float(task().loss(model, outputs, batch).detach()) == pytest.approx(nats.mean())
    alike = task().collate(data.select([0, 0]), torch.arange(2)).to(torch.device("cpu"), torch.float64)
    assert alike.lengths is None
    loss = task().loss(model, model(*alike.inputs)[0], alike)
    assert float(loss.detach()) == pytest.approx(nats[:5].mean())


def test_frames_of_a_batch_do_not_see_themselves_nor_what_follows() -> None:
    data, model = pieces((6,)), network(num_layers=2, hidden_size=6)
    whole = task().predict(model, data, dtype=torch.float64)
    for t in range(6):
        changed = data.values.clone()
        changed[t:] = 1 - changed[t:]
        other = task().predict(model, Sequences(changed, data.offsets), dtype=torch.float64)
        assert whole.probabilities is not None
        assert other.probabilities is not None
        assert np.array_equal(whole.probabilities[: t + 1], other.probabilities[: t + 1])
        assert not np.array_equal(whole.probabilities[t + 1], other.probabilities[t + 1])


@pytest.mark.parametrize("keys", ["independent", "nade"])
def test_windows_learn_from_the_same_frames_as_the_whole(keys: str) -> None:
    data, model = pieces(), network(keys=keys)
    batch = task().collate(data, torch.arange(4)).to(torch.device("cpu"), torch.float64)
    total, asked, state = 0.0, 0, None
    for first in range(0, 9, 4):
        window = batch.window(first, first + 4)
        outputs, state = model(*window.inputs, state)
        loss = task().loss(model, outputs, window)
        total, asked = total + float(loss.detach()) * window.targets_asked, asked + window.targets_asked
    assert asked == sum(LENGTHS)
    nats = task().predict(model, data, dtype=torch.float64).nats
    assert total / asked == pytest.approx(nats.mean())


def test_keys_that_see_each_other() -> None:
    data, model = pieces(), network(keys="nade", nade_size=5)
    heard = task().predict(model, data, dtype=torch.float64)
    batch = task().collate(data, torch.tensor([2])).to(torch.device("cpu"), torch.float64)
    seen = model(*batch.inputs)[0][:, 0]
    assert batch.targets is not None
    for t in (0, 4, 8):  # of a frame, the sum over its keys of what each says given the keys below it
        logits = model.logits(seen[t : t + 1], batch.targets[t]).detach()[0]
        p = torch.where(batch.targets[t, 0] == 1, logits, -logits).sigmoid().log()
        assert heard.nats[6 + t] == pytest.approx(-float(p.sum()))
    looked = task().look(model, data, dtype=torch.float64)
    assert looked.probabilities is None
    assert task().scores(looked) == {"nll": pytest.approx(task().scores(heard)["nll"])}
    again = task().predict(model, data, dtype=torch.float64)
    assert again.probabilities is not None
    assert heard.probabilities is not None
    assert np.array_equal(again.probabilities, heard.probabilities)


def test_scores_are_those_of_counting() -> None:
    data = pieces()
    random = np.random.default_rng(5)
    chances = np.where(random.random((19, 88)) < 0.3, 1 - data.values.numpy(), data.values.numpy()) * 0.6 + 0.2
    heard = told(data, chances)
    true, said = data.values.numpy() == 1, chances >= 0.5
    tp, fp, fn = (true & said).sum(), (~true & said).sum(), (true & ~said).sum()
    found = task().scores(heard)
    assert found["accuracy"] == pytest.approx(tp / (tp + fp + fn))
    assert found["precision"] == pytest.approx(tp / (tp + fp))
    assert found["recall"] == pytest.approx(tp / (tp + fn))
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    assert found["nll"] == pytest.approx(-np.log(np.where(true, chances, 1 - chances)).sum(1).mean())
    silent = told(data, np.full((19, 88), 0.01))
    assert (task().scores(silent)["precision"], task().scores(silent)["f1"]) == (0, 0)
    few = heard.first(2)
    assert (len(few), len(few.nats)) == (2, 6)
    assert few.probabilities is not None
    assert len(few.probabilities) == 8
    assert task().scores(few)["nll"] == pytest.approx(heard.nats[:6].mean())


def test_intervals_hold_the_score() -> None:
    heard = task().predict(network(), pieces((4, 7, 3, 9, 5, 6, 8, 2, 3, 4, 5, 6) * 3), dtype=torch.float64)
    scores, found = task().scores(heard), task().intervals(heard)
    assert set(found) == set(scores)
    for name, (low, high) in found.items():
        assert low <= scores[name] <= high
    assert task().intervals(heard.first(3)) == {}


def test_baselines_are_those_of_loops() -> None:
    train, test = pieces(), pieces((3, 6), seed=2)
    counts, after = np.zeros(88), np.zeros((2, 88))
    seen = np.zeros((2, 88))
    for i in range(len(train)):
        frames = train.sequence(i).numpy()
        counts += frames.sum(0)
        for before, now in pairwise(frames):
            for key in range(88):
                seen[before[key], key] += 1
                after[before[key], key] += now[key]
    often = (counts + 0.5) / (sum(LENGTHS) + 1)
    rates = (after + 0.5) / (seen + 1)
    np.testing.assert_allclose(frequencies(train), often)
    np.testing.assert_allclose(transitions(train), rates)
    nats: dict[str, list[float]] = {"key frequencies": [], "last frame": []}
    for i in range(len(test)):
        before = None
        for frame in test.sequence(i).numpy():
            p = often if before is None else rates[before, np.arange(88)]
            nats["key frequencies"].append(-np.log(np.where(frame, often, 1 - often)).sum())
            nats["last frame"].append(-np.log(np.where(frame, p, 1 - p)).sum())
            before = frame
    said = task().baselines(train, Heard(test, np.zeros(9), None))
    assert {name: scores["nll"] for name, scores in said.items()} == {
        name: pytest.approx(np.mean(values)) for name, values in nats.items()
    }


# --- transposition ---------------------------------------------------------------------------------------------------


def test_pieces_stay_on_the_keyboard() -> None:
    values = np.zeros((5, 88), np.uint8)
    values[0, [2, 50]] = values[2, [40, 87]] = values[3, 10] = 1
    data = Sequences(torch.from_numpy(values), torch.tensor([0, 2, 3, 5]))
    low, high = room(data, 6)
    assert low.tolist() == [-2, -6, -6]
    assert high.tolist() == [6, 0, 6]


def test_each_epoch_has_pieces_in_other_keys_and_validation_in_its_own() -> None:
    data, moving = pieces((6,) * 30), task(transpose=5)
    low, high = room(data, 5)
    plans = [moving.plan(data, seed=3, epoch=epoch) for epoch in range(40)]
    assert all(torch.equal(a, b) for a, b in zip(plans[0], moving.plan(data, seed=3, epoch=0), strict=True))
    shifts = np.zeros((40, 30), int)
    for epoch, plan in enumerate(plans):
        for batch in plan:
            shifts[epoch, batch[:, 0].numpy()] = batch[:, 1].numpy()
    assert (shifts >= low).all()
    assert (shifts <= high).all()
    assert (shifts.min(0) == low).mean() > 0.9
    assert (shifts.max(0) == high).mean() > 0.9
    indices = torch.tensor([[4, int(low[4])], [7, int(high[7])]])
    batch = moving.collate(data, indices)
    assert batch.targets is not None
    for column, (index, shift) in enumerate(indices.tolist()):
        expected = np.zeros((6, 88))
        t, key = np.nonzero(data.sequence(index).numpy())
        expected[t, key + shift] = 1
        assert np.array_equal(batch.targets[:, column].numpy(), expected)
        assert np.array_equal(batch.x[1:, column].numpy(), expected[:-1])
        assert not batch.x[0].any()
    assert torch.equal(task().plan(data, seed=3, epoch=0)[0], plans[0][0][:, 0])


# --- what cannot be --------------------------------------------------------------------------------------------------


def test_settings_that_cannot_be() -> None:
    with pytest.raises(RecipeError, match=r"model\.bidirectional: a network that reads the frames to come"):
        task().check(RollModelSettings(bidirectional=True), LearnSettings())
    with pytest.raises(RecipeError, match=r"learn\.carry_state: a piece does not go on"):
        task().check(RollModelSettings(), LearnSettings(carry_state=True))
    model = network()
    with torch.no_grad():
        model.output.bias[0] = torch.nan  # type: ignore[index]
    with pytest.raises(RunError, match="training diverged"):
        task().predict(model, pieces(), dtype=torch.float64)


def test_frames_of_another_length_are_not_gone_on_with() -> None:
    other = RollSchema(task="notes", format="json", step=0.25)
    assert task().unlike(other) == "its frames are 0.25 beats long (data.step), those of the new data 1"
    assert task().unlike(task().schema) is None


# --- whole runs ------------------------------------------------------------------------------------------------------

SMALL = {"model.hidden_size": 8, "train.epochs": 2, "train.batch_size": 4, "data.step": 0.5}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"model.keys": "nade", "model.nade_size": 4, "data.transpose": 3},
        {"learn.rule": "tbptt", "learn.k1": 3, "learn.k2": 3, "model.num_layers": 2, "model.output_dropout": 0.2},
        {"model.kind": "tdnn", "model.delays": [4]},
        {"model.kind": "ntm", "model.memory": [6, 3]},
        {"train.precision": "64-true", "model.keys": "nade"},
        {"model.head": [5], "train.temporal_l2": 0.1, "train.average": 0.9, "model.cell": "gru"},
    ],
    ids=str,
)
def test_a_run_from_python(tmp_path: Path, settings: dict[str, Any]) -> None:
    rolls = [pieces((n,), seed=n).values.numpy() for n in range(4, 34)]
    run = recurra.train("notes", rolls, out=tmp_path / "run", settings=SMALL | settings)
    assert set(run.summary["test"]) == {"nll", "accuracy", "precision", "recall", "f1"}
    assert set(run.summary["baselines"]) == {"key frequencies", "last frame"}
    said = run.predict(rolls[:3])
    frames, chances = said.of(1)
    assert np.array_equal(frames, rolls[1])
    assert chances.shape == (6, 88)
    rows = run.rows(said)
    assert len(rows) == 4 + 5 + 6 + 3
    assert [(rows[4]["index"], rows[4]["step"], rows[4]["loss"]), rows[5]["step"]] == [(0, 4, None), 0]
    assert rows[7]["p_61"] == pytest.approx(float(chances[2, 40]), abs=1e-6)
    again = run.evaluate(rolls)
    assert again["sequences"] == 30
    assert "What it writes" in run.report.read_text("utf-8")


def test_a_run_that_was_stopped_ends_with_the_same_weights(tmp_path: Path) -> None:
    class Stop(Silent):
        def update(self, step: int, loss: float) -> None:
            if step == 7:
                raise KeyboardInterrupt

    (tmp_path / "a.json").write_text(json.dumps([[[60 + t % 5, 48 + n] for t in range(5)] for n in range(30)]))
    settings = SMALL | {"data.transpose": 4, "model.output_dropout": 0.3, "train.checkpoint_seconds": 0.0}
    whole = recurra.train("notes", tmp_path / "a.json", out=tmp_path / "whole", settings=settings)
    with pytest.raises(KeyboardInterrupt):
        recurra.train("notes", tmp_path / "a.json", out=tmp_path / "run", settings=settings, listener=Stop())
    assert main(["train", "--resume", str(tmp_path / "run")]) == 0
    assert recurra.load(tmp_path / "run").summary["sha256"] == whole.summary["sha256"]


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    rolls = [pieces((n,), seed=n).values.numpy() for n in range(4, 34)]
    run = recurra.train("notes", rolls, out=tmp_path / "run", settings=SMALL)
    frozen = {"train.lr": 1e-9, "train.epochs": 1, "data.step": 0.5}
    other = recurra.train("notes", rolls[::-1], out=tmp_path / "other", settings=frozen, from_run=run.path)
    torch.testing.assert_close(other.network.output.weight, run.network.output.weight, atol=1e-6, rtol=0)
    with pytest.raises(RunError, match=r"its frames are 0\.5 beats long \(data\.step\), those of the new data 0\.25"):
        recurra.train("notes", rolls, out=tmp_path / "third", from_run=run.path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.mid", write_midi(np.eye(6, 88), 1.0, lowest=21)[:60], "cut.mid: is cut short: its 60 bytes end within"),
        ("odd.json", b'{"train": [[[60, "C4"]]]}', "piece 1, frame 1: 'C4' is no pitch of MIDI"),
        ("empty.json", b"[]", "empty.json: holds no piece"),
        ("silent.json", b"[[[], []], [[]]]", "silent.json: holds no note"),
        (
            "low.json",
            b"[[[5]], [[7]]]",
            "low.json: holds no note; expected pieces in which at least one of the 88 keys",
        ),
        ("text.json", b"do re mi", "text.json: is not pieces as JSON, or MIDI files"),
        ("one.json", b"[[[60], [62]]]", "1 sequence is too few to split off a test part"),
    ],
)
def test_bad_input_is_told_in_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    assert main(["train", "notes", "--data", str(tmp_path / name), "--out", str(tmp_path / "run")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_a_midi_file_names_its_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mid").write_bytes(write_midi(np.eye(6, 88), 1.0, lowest=21))
    assert main(["data", str(tmp_path / "a.mid")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'a.mid'}: is a MIDI file, which the task notes reads\n"
    assert main(["data", str(tmp_path / "a.mid"), "--task", "notes"]) == 0
    assert "pieces     1" in capsys.readouterr().out


def test_predictions_by_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rolls = [pieces((n,), seed=n).values.numpy() for n in range(4, 34)]
    run = recurra.train("notes", rolls, out=tmp_path / "run", settings=SMALL)
    (tmp_path / "new.json").write_text("[[[60], [62, 64]]]")
    capsys.readouterr()
    assert main(["predict", str(run.path), "--data", str(tmp_path / "new.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("index,step,loss,p_21,p_22,")
    assert lines[3].startswith("0,2,,")
    words = ["predict", str(run.path), "--data", str(tmp_path / "new.json"), "--output-format", "jsonl"]
    assert main(words) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows == run.rows(run.predict(tmp_path / "new.json"))
    assert main(["evaluate", str(run.path), "--data", str(tmp_path / "new.json"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["nll"] == pytest.approx(np.mean([row["loss"] for row in rows[:2]]))


def test_the_same_scores_from_the_file_of_predictions(tmp_path: Path) -> None:
    rolls = [pieces((n,), seed=n).values.numpy() for n in range(4, 34)]
    run = recurra.train("notes", rolls, out=tmp_path / "run", settings=SMALL)
    lines = (run.path / "test_predictions.csv").read_text("utf-8").splitlines()
    assert lines[0] == "index,step,target,prediction,loss"
    losses = [float(line.split(",")[-1]) for line in lines[1:]]
    assert np.mean(losses) == pytest.approx(run.summary["test"]["nll"])
    other = recurra.train("notes", rolls, out=tmp_path / "other", settings=SMALL | {"model.hidden_size": 3})
    (difference,) = compare([run.path, other.path]).differences
    assert difference.value == pytest.approx(other.summary["test"]["nll"] - run.summary["test"]["nll"])
    assert difference.method == "paired, the same 6 sequences (bootstrap)"


def test_chorales_are_learnt(data_folder: Path, tmp_path: Path) -> None:
    path = data_folder / "jsb" / "jsb-chorales-quarter.json"
    settings = {"model.hidden_size": 48, "train.epochs": 6, "train.lr": 0.02, "train.batch_size": 8}
    run = recurra.train("notes", path, out=tmp_path / "run", settings=settings)
    test, plain = run.summary["test"]["nll"], run.summary["baselines"]
    assert test < plain["last frame"]["nll"] - 0.5
    assert 10 < plain["last frame"]["nll"] < plain["key frequencies"]["nll"] < 11.2
    data = RollReader().parts(path, "notes", RollSettings())
    given = json.loads(path.read_text())
    often = np.full(88, 0.5)
    for piece in given["train"]:
        for frame in piece:
            often[np.array(frame, int) - 21] += 1
    often /= 13_807 + 1
    nats = [
        -math.fsum(math.log(often[k] if k + 21 in frame else 1 - often[k]) for k in range(88))
        for piece in given["test"]
        for frame in piece
    ]
    assert plain["key frequencies"]["nll"] == pytest.approx(np.mean(nats))
    assert data.test is not None
    assert len(nats) == len(data.test.values) == 4725
