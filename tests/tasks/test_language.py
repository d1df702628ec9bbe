"""Language: windows cover the text, the state goes on, and it is read as it is symbol by symbol."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.data.corpus import Corpus, CorpusReader, CorpusSchema, CorpusSettings
from recurra.errors import RecipeError
from recurra.run import stream
from recurra.tasks.language import (
    Language,
    LanguageModel,
    LanguageModelSettings,
    LanguageTrainSettings,
    Read,
    bigram,
    counts,
    unigram,
)

RHYME = "the cat sat on the mat, the dog sat on the log; round and round they go.\n"


def corpus(text: str = RHYME * 12, **settings: Any) -> tuple[Corpus, CorpusSchema]:
    settings = {"validation_fraction": 0, "test_fraction": 0, **settings}
    parts = CorpusReader().parts([text], "language", CorpusSettings.model_validate(settings))
    return parts.train, parts.schema


def task_of(schema: CorpusSchema, **settings: Any) -> Language:
    return Language(schema, LanguageTrainSettings.model_validate(settings))


def model_of(schema: CorpusSchema, **settings: Any) -> LanguageModel:
    torch.manual_seed(0)
    given = {"hidden_size": 11, "embedding_size": 7, **settings}
    return LanguageModel(LanguageModelSettings.model_validate(given), len(schema.units))


@pytest.mark.parametrize(("B", "window", "jitter"), [(1, 10, 0), (3, 7, 0), (5, 16, 0.5), (4, 500, 0), (800, 3, 0)])
def test_the_windows_of_an_epoch_cover_each_stretch_in_order(B: int, window: int, jitter: float):
    text, schema = corpus()
    task = task_of(schema, batch_size=B, window=window, window_jitter=jitter)
    sizes, begins = set(), set()
    for epoch in range(6):
        plan = task.plan(text, seed=1, epoch=epoch)
        assert all(torch.equal(a, b) for a, b in zip(plan, task.plan(text, seed=1, epoch=epoch), strict=True))
        sizes.add(len(plan))
        begins.add(int(plan[0][0, 0]))
        for before, after in pairwise(plan):
            assert torch.equal(before[:, 1], after[:, 0])  # each goes on where the last one ended
        rows = torch.stack(plan)  # (n, B, 2)
        assert torch.equal(rows[-1, :-1, 1], rows[0, 1:, 0])  # stretches lie side by side
        covered = int(rows[-1, -1, 1] - rows[0, 0, 0])
        assert len(text) - 1 - window - B < covered <= len(text) - 1
        lengths = (rows[:, 0, 1] - rows[:, 0, 0]).tolist()
        assert min(lengths) >= 1
        assert max(lengths) <= (1 + jitter) * 1.5 * window + 1
        batch = task.collate(text, plan[-1])
        first, stop = plan[-1][-1].tolist()
        np.testing.assert_array_equal(batch.x[:, -1].numpy(), text.symbols[first:stop])
        np.testing.assert_array_equal(batch.targets[:, -1].numpy(), text.symbols[first + 1 : stop + 1])
        assert len(batch) == B
        assert batch.samples == batch.steps == B * lengths[-1]
    assert len(sizes) == 1  # as many in every epoch
    assert len(begins) > 1 or window == 3
    still = task_of(schema, batch_size=B, window=window, shuffle=False)
    assert int(still.plan(text, seed=3, epoch=4)[0][0, 0]) == 0


def by_steps(network: LanguageModel, symbols: np.ndarray) -> np.ndarray:
    """-log p of every symbol but the first, one step after another."""
    network.eval()
    state, found = None, []
    for now, next in zip(symbols[:-1].tolist(), symbols[1:].tolist(), strict=True):
        said, state = network.step(torch.tensor([now]), state)
        assert abs(said.exp().sum().item() - 1) < 1e-5
        found.append(-said[0, next].item())
    return np.array(found)


@pytest.mark.parametrize("softmax", ["full", "sampled", "adaptive"])
@pytest.mark.parametrize("layers", [{}, {"num_layers": 2, "hidden_size": [9, 13]}, {"cell": "gru", "tied": True}])
def test_a_text_read_in_windows_gives_what_steps_give(softmax: str, layers: dict[str, Any]):
    text, schema = corpus(RHYME * 3)
    if layers.get("tied"):
        if softmax == "adaptive":
            return
        layers = {**layers, "embedding_size": 11}
    network = model_of(schema, softmax=softmax, samples=4, **layers, dropout=0.3, output_dropout=0.4)
    whole = task_of(schema, evaluate_streams=1).predict(network, text)
    np.testing.assert_allclose(whole.nats, by_steps(network, text.symbols), atol=1e-5)
    assert network.training is False
    several = task_of(schema, evaluate_streams=4, evaluate_context=40).predict(network.train(), text)
    assert network.training is True
    assert several.nats.shape == whole.nats.shape
    np.testing.assert_allclose(several.nats[:54], whole.nats[:54], atol=1e-5)
    np.testing.assert_allclose(several.nats, whole.nats, atol=0.03)  # forty symbols tell all but a little
    assert not np.array_equal(several.nats, whole.nats)
    two = task_of(schema, evaluate_streams=2, evaluate_context=109).predict(network, text)
    np.testing.assert_allclose(two.nats, whole.nats, atol=1e-5)  # the second begins where the text does


def test_reading_a_prompt_is_taking_its_steps():
    _, schema = corpus()
    network = model_of(schema).eval()
    symbols = torch.tensor(schema.units.encode("the cat")).unsqueeze(1).repeat(1, 2)
    said, state = network.read(symbols)
    other: Any = None
    stepped = said
    for row in symbols:
        stepped, other = network.step(row, other)
    torch.testing.assert_close(said, stepped)
    torch.testing.assert_close(tuple(state), tuple(other))


def test_scores_by_hand():
    text, schema = corpus("ab cd\nef gh\n" * 40, unit="word")
    units = schema.units
    nats = np.linspace(0.5, 3.0, len(text) - 1)
    task = task_of(schema)
    read = Read(nats, text.symbols, text.offsets, text.characters, units)
    found = task.scores(read)
    assert found["loss"] == pytest.approx(nats.mean())
    assert found["perplexity"] == pytest.approx(math.exp(nats.mean()))
    assert found["bits_per_symbol"] == pytest.approx(nats.mean() / math.log(2))
    assert found["bits_per_character"] == pytest.approx(nats.sum() / math.log(2) / (12 * 40 - 2))
    low, high = task.intervals(read)["loss"]
    assert low < nats.mean() < high
    lines: list[Any] = list(task.rows(read))
    assert [line["symbols"] for line in lines[:3]] == [2, 3, 3]  # nothing predicts the first symbol
    assert lines[1]["loss"] == pytest.approx(nats[2:5].mean())
    assert sum(line["symbols"] * line["loss"] for line in lines) == pytest.approx(nats.sum())
    first = read.first(7)
    assert len(first) == 7
    np.testing.assert_array_equal(first.nats, nats[:6])
    assert first.offsets.tolist() == [0, 3, 6, 7]
    assert first.characters == len("ab cd\nef gh\nab")
    assert read.first(10_000) is read


def test_the_lines_of_a_text_that_begins_with_an_empty_one():
    text, schema = corpus("\n" + RHYME * 10)
    task = task_of(schema)
    read = task.predict(model_of(schema), text)
    assert next(task.rows(read)) == {"index": 0, "symbols": 0, "loss": None, "perplexity": None}


def test_baselines_are_distributions_and_know_what_came():
    text, _ = corpus()
    V = len(text.units)
    every = np.arange(V)
    model = bigram(text)
    for given in (text.units.encode("t")[0], text.units.encode("\n")[0], 0):  # 0 never came
        assert np.exp(-model(np.full(V, given), every)).sum() == pytest.approx(1)
    assert np.exp(-unigram(counts(text))(every, every)).sum() == pytest.approx(1)
    letters = Counter(RHYME * 12)
    h, t = text.units.encode("ht")
    assert np.exp(-model(np.array([t]), np.array([h])))[0] == pytest.approx(60 / letters["t"], abs=0.05)
    np.testing.assert_array_equal(counts(text), np.bincount(text.symbols, minlength=V))


def test_the_bigram_by_hand():
    """Kneser–Ney with dictionaries, on a text with pairs that come once and twice."""
    text, schema = corpus("abracadabra abba cab.\n" * 2 + "xyz zyx barb crab\n" * 12)
    units, chars = schema.units, text.text()
    pairs, V = Counter(pairwise(chars)), len(units)
    once, twice = (sum(c == n for c in pairs.values()) for n in (1, 2))
    D = once / (once + 2 * twice)
    model = bigram(text)
    for a in "abz\n":
        total = sum(c for (x, _), c in pairs.items() if x == a)
        kinds = sum(x == a for x, _ in pairs)
        for b in "axb.":
            q = (sum(y == b for _, y in pairs) + 1) / (len(pairs) + V)
            expected = max(pairs[a, b] - D, 0) / total + D * kinds / total * q
            found = np.exp(-model(np.array(units.encode(a)), np.array(units.encode(b))))[0]
            assert found == pytest.approx(expected), (a, b)


def test_dropout_of_symbols_is_the_same_wherever_they_stand():
    text, schema = corpus()
    network = model_of(schema, embedding_dropout=0.5)
    x = torch.from_numpy(text.symbols[:200].astype(np.int64)).reshape(50, 4)
    assert network.embedding is not None
    plain = network.eval().inputs(x)
    torch.testing.assert_close(plain, network.embedding(x))
    dropped = network.train().inputs(x)
    kept = {symbol: (dropped[x == symbol] != 0) for symbol in x.unique().tolist()}
    assert all(bool(rows.all()) or not bool(rows.any()) for rows in kept.values())
    assert 0 < sum(bool(rows.all()) for rows in kept.values()) < len(kept)
    whole = (dropped != 0).all(-1)
    torch.testing.assert_close(dropped[whole], 2 * plain[whole])


def test_output_dropout_is_the_same_at_every_step():
    _, schema = corpus()
    network = model_of(schema, output_dropout=0.5).train()
    said, _ = network(torch.randint(4, 9, (20, 3)))
    gone = said == 0
    assert gone.any()
    assert torch.equal(gone.all(0), gone.any(0))
    assert not torch.equal(gone[0, 0], gone[0, 1])


def test_tied_weights_are_one_parameter_by_all_its_names():
    _, schema = corpus()
    network = model_of(schema, tied=True, embedding_size=11)
    parameters = dict(network.named_parameters())
    found = network.by_symbol(parameters)
    assert found["V"] == found["embedding"] == [parameters["embedding.weight"]]
    assert "output.weight" not in parameters


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cutoffs": [3, 9]}, "model.cutoffs: are those of softmax = 'adaptive'; model.softmax is 'full'"),
        ({"tied": True}, r"a symbol's vector is 7 wide \(model.embedding_size\), the last layer's state 11"),
        ({"bidirectional": True}, "reads the future"),
        ({"tied": True, "embedding_size": 11, "softmax": "adaptive"}, "narrower vectors for rare symbols"),
        ({"softmax": "adaptive", "cutoffs": [5, 99]}, r"model.cutoffs: rising numbers between 0 and 2\d are expected"),
    ],
)
def test_settings_that_cannot_stand_together(settings: dict[str, Any], said: str):
    _, schema = corpus()
    with pytest.raises(RecipeError, match=said):
        model_of(schema, **settings)


def test_more_stretches_than_symbols():
    text, schema = corpus()
    with pytest.raises(RecipeError, match="a text of 876 symbols makes no 1000 stretches; expected 875 at the most"):
        task_of(schema, batch_size=1000).plan(text, seed=0, epoch=0)
    with pytest.raises(RecipeError, match="a text has no sequences"):
        task_of(schema, batch_steps=100)


SETTINGS: dict[str, Any] = {
    "model.hidden_size": 48,
    "model.embedding_size": 16,
    "train.batch_size": 4,
    "train.window": 20,
    "train.lr": 0.02,
    "train.epochs": 12,
    "data.validation_fraction": 0.1,
    "data.test_fraction": 0.1,
}


def test_a_rhyme_is_learnt_by_heart(tmp_path: Path):
    run = recurra.train("language", data=[RHYME * 40], settings=SETTINGS, out=tmp_path / "run")
    test = run.summary["test"]
    assert test["loss"] < 0.3 < run.summary["baselines"]["bigram"]["loss"]
    assert run.summary["samples_seen"] > 12 * 2000
    again = recurra.load(tmp_path / "run")
    said = again.predict([RHYME * 2])
    assert said.nats[len(RHYME) :].mean() < 0.3


class Stops:
    """A listener that breaks a run off."""

    def __init__(self, at: int) -> None:
        self.at = at

    def begin(self, training: Any) -> None: ...

    def update(self, step: int, loss: float) -> None:
        if step == self.at:
            raise KeyboardInterrupt

    def evaluation(self, line: dict[str, Any]) -> None: ...

    def end(self) -> None: ...


def test_a_run_goes_on_with_the_state_that_it_carried(tmp_path: Path):
    """Broken off in the middle of an epoch, with layers of two widths, it ends with the weights of an unbroken run."""
    settings = {**SETTINGS, "train.epochs": 2, "model.num_layers": 2, "model.hidden_size": [9, 14]}
    settings |= {"train.checkpoint_seconds": 0, "model.tied": True, "model.embedding_size": 14}
    settings |= {"model.softmax": "sampled", "model.samples": 5, "train.window_jitter": 0.3, "train.average": 0.9}
    data = [RHYME * 40]
    whole = recurra.train("language", data=data, settings=settings, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        recurra.train("language", data=data, settings=settings, out=tmp_path / "broken", listener=Stops(40))
    broken = recurra.resume(tmp_path / "broken", data=data)
    assert isinstance(broken, recurra.Run)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, broken.network.state_dict()[name]), name


def test_the_state_is_carried_from_window_to_window(tmp_path: Path):
    """With a learning rate of next to nothing, the losses of windows are those of a reading from beginning to end."""
    settings = {**SETTINGS, "train.window": 3, "train.batch_size": 1, "train.epochs": 1, "train.lr": 1e-30}
    settings |= {"train.shuffle": False, "data.validation_fraction": 0, "data.test_fraction": 0}
    data = [RHYME * 3 + "."]  # 219 steps, windows of equal length
    run = recurra.train("language", data=data, settings=settings, out=tmp_path / "run")
    assert run.history[0]["train_loss"] == pytest.approx(run.predict(data).nats.mean(), abs=1e-6)


def test_samples_are_symbols(tmp_path: Path):
    settings = {**SETTINGS, "train.epochs": None, "train.samples": 2000}
    run = recurra.train("language", data=[RHYME * 20], settings=settings, out=tmp_path / "run")
    assert run.summary["samples_seen"] == pytest.approx(2000, rel=0.1)


def test_a_run_goes_on_from_another_with_its_vocabulary(tmp_path: Path):
    first = recurra.train("language", data=[RHYME * 8], settings={**SETTINGS, "train.epochs": 1}, out=tmp_path / "a")
    settings = {key: value for key, value in SETTINGS.items() if not key.startswith("model.")} | {"train.epochs": 1}
    data = ["a tall tree\n" * 90]
    other = recurra.train("language", data=data, settings=settings, from_run=first.path, out=tmp_path / "b")
    assert other.schema.units == first.schema.units
    words = {**settings, "data.unit": "word"}
    with pytest.raises(recurra.RecurraError, match="but the vocabulary that is gone on with is of the unit"):
        recurra.train("language", data=[RHYME], settings=words, from_run=first.path, out=tmp_path / "c")


def test_a_text_is_not_learnt_from_a_stream_of_rows(tmp_path: Path):
    with pytest.raises(RecipeError, match="language has no rows with a target each; classify and regress"):
        stream.train("language", str(tmp_path / "text"), write=print)
