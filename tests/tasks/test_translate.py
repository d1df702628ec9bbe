"""Translation: the network against its formula, decoding against every text there is, scores against sacrebleu."""

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
import torch

import recurra
from recurra.data.pairs import PairReader, Pairs, PairSchema, PairSettings, collate
from recurra.data.units import END, START, UNK
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.tasks.translate import Translate, TranslateTrainSettings, by_size, plan
from recurra.tasks.translator import Translator, TranslatorSettings

LETTERS = "abcd"


def reversed_words(count: int, longest: int = 5, seed: int = 0) -> tuple[list[str], list[str]]:
    """Words of letters, and the same words backwards."""
    random = np.random.default_rng(seed)
    words = [[LETTERS[i] for i in random.integers(0, 4, n)] for n in random.integers(1, longest + 1, count)]
    return [" ".join(w) for w in words], [" ".join(w[::-1]) for w in words]


def tiny(train: dict[str, Any] | None = None, count: int = 12, **model: Any) -> tuple[Translate, Translator, Pairs]:
    """A task, a network that has learnt nothing, in float64, and its data."""
    settings = PairSettings(unit="word", validation_fraction=0.0, test_fraction=0.0)
    parts = PairReader().parts(reversed_words(count), "translate", settings)
    torch.manual_seed(5)
    task = Translate(parts.schema, TranslateTrainSettings.model_validate(train or {}))
    own = {"hidden_size": 6, "embedding_size": 5} | model
    network = task.build(TranslatorSettings.model_validate(own), parts.train).double()
    with torch.no_grad():  # texts that differ in their probabilities
        network.output_bias.normal_()
    return task, network, parts.train


SHAPES: list[dict[str, Any]] = [
    {},
    {"attention": "additive", "feeding": "input", "tied": "none"},
    {"attention": "dot", "feeding": "between", "num_layers": 2, "encoder_size": 3, "tied": "all", "summary": "mean"},
    {"attention": "none", "feed": True, "cell": "lstm", "encoder_layers": 2},
    {"attention": "none", "bridge": "copy", "num_layers": 2, "cell": "lstm_peephole"},
]


@pytest.mark.parametrize("model", SHAPES)
def test_a_batch_is_its_sources_one_by_one(model: dict[str, Any]) -> None:
    """Losses, gradients' sum and translations; so that neither padding nor the rows beside tell."""
    task, network, data = tiny(**model)
    together = task.predict(network, data)
    alone = [task.predict(network, data.select(np.array([i]))) for i in range(len(data))]
    assert together.said == [one.said[0] for one in alone]
    assert together.losses is not None
    np.testing.assert_allclose(together.losses, [float(one.losses.sum()) for one in alone if one.losses is not None])
    np.testing.assert_allclose(together.scores, [one.scores[0] for one in alone])
    network.train()
    batch = task.collate(data, torch.arange(len(data)))
    outputs, _ = network(*batch.inputs)
    loss = network.cross_entropy(outputs, batch.true)
    assert float(loss.detach()) == pytest.approx(together.losses.sum())
    parameters = list(network.parameters())
    whole = torch.autograd.grad(loss, parameters, allow_unused=True)
    pieces = [torch.zeros_like(p) for p in parameters]
    for i in range(len(data)):
        one = task.collate(data, torch.tensor([i]))
        single = network.cross_entropy(network(*one.inputs)[0], one.true)
        for total, g in zip(pieces, torch.autograd.grad(single, parameters, allow_unused=True), strict=True):
            total += 0 if g is None else g
    for g, total in zip(whole, pieces, strict=True):
        torch.testing.assert_close(torch.zeros_like(total) if g is None else g, total)


def test_the_plain_encoder_decoder_is_equation_6_24() -> None:
    """h_(T+t) = f_2(h_(T+t-1), ŷ_(t-1)), begun with the encoder's last state h_T, eq. 6.23."""
    _, network, data = tiny(attention="none", bridge="copy", cell="elman", tied="none")
    batch = collate(data, torch.tensor([3]))
    outputs, _ = network(*batch.inputs)
    p = {name: value.detach() for name, value in network.named_parameters()}
    scale = math.sqrt(5)
    h = torch.zeros(6, dtype=torch.float64)
    for symbol in batch.source[:, 0]:
        x = scale * p["own_source_embedding.weight"][symbol]
        h = torch.tanh(p["encoder.weight_ih_l0"] @ x + p["encoder.weight_hh_l0"] @ h + p["encoder.bias_l0"])
    assert batch.given is not None
    for t, symbol in enumerate(batch.given[:, 0]):
        x = scale * p["embedding.weight"][symbol]
        layers = "decoder.layers."
        h = torch.tanh(p[f"{layers}weight_ih_l0"] @ x + p[f"{layers}weight_hh_l0"] @ h + p[f"{layers}bias_l0"])
        torch.testing.assert_close(outputs[t].detach(), h)
        said = torch.log_softmax(p["output.weight"] @ h + p["output_bias"], 0)
        ours = network.log_probabilities(outputs[t : t + 1], torch.arange(len(said)).repeat(1)[:1])
        torch.testing.assert_close(ours[0].detach(), said[0])


@pytest.mark.parametrize("model", SHAPES[:3])
def test_a_wide_beam_finds_the_best_of_all_texts(model: dict[str, Any]) -> None:
    task, network, data = tiny(**model, max_output=3, beam=200, length_penalty=0.7)
    network.eval()
    said = task.predict(network, data.select(np.arange(4)))
    symbols = range(4, len(task.schema.target_units))
    every = [list(text) for n in range(4) for text in itertools.product(symbols, repeat=n)]
    for i in range(4):
        batch = collate(data, torch.tensor([i]))
        given = torch.full((4, len(every)), 0)
        wanted = torch.full((4, len(every)), 0)
        lengths = torch.tensor([len(text) + 1 for text in every])
        for k, text in enumerate(every):
            given[: len(text) + 1, k] = torch.tensor([START, *text])
            wanted[: len(text) + 1, k] = torch.tensor([*text, END])
        source = batch.source.expand(-1, len(every))
        outputs, _ = network(source, None, given, lengths)
        within = torch.arange(4).unsqueeze(1) < lengths
        logs = torch.zeros(4, len(every), dtype=torch.float64)
        logs[within] = network.log_probabilities(outputs, wanted[within]).detach()
        scores = logs.sum(0) / ((5 + lengths) / 6) ** 0.7
        best = every[int(scores.argmax())]
        assert said.said[i] == " ".join(task.schema.target_units.symbols[k] for k in best)
        assert said.scores[i] == pytest.approx(float(scores.max()))


def test_with_every_true_symbol_sampling_is_teacher_forcing() -> None:
    for model in SHAPES:
        _, network, data = tiny(**model)
        batch = collate(data, torch.arange(6))
        forced, _ = network(*batch.inputs)
        assert batch.given is not None
        vectors, _ = network._sampling(batch.given, network.encode(batch.source, batch.source_lengths), 1.0)
        torch.testing.assert_close(network._ready(vectors[batch.within]), forced)


def test_without_a_true_symbol_the_network_reads_what_it_said() -> None:
    _, network, data = tiny()
    batch = collate(data, torch.arange(3))
    assert batch.given is not None
    vectors, _ = network._sampling(batch.given, network.encode(batch.source, batch.source_lengths), 0.0)
    said = network.logits(network._ready(vectors)).argmax(-1)
    given = torch.cat([batch.given[:1], said[:-1]])
    again, _ = network.decoder(
        network._embedded(network.embedding, given), network.encode(batch.source, batch.source_lengths)
    )
    torch.testing.assert_close(again, vectors)


@pytest.mark.parametrize("forcing", ["linear", "exponential", "inverse_sigmoid"])
@pytest.mark.parametrize("last", [0.0, 0.4, 1.0])
def test_schedules_of_teacher_forcing_fall_from_one_to_the_last_share(forcing: str, last: float) -> None:
    task, _, _ = tiny({"forcing": forcing, "forcing_last": last, "epochs": 9})
    shares = [task.forcing(epoch) for epoch in range(9)]
    assert shares[0] == pytest.approx(1)
    assert shares[-1] == pytest.approx(last)
    assert sorted(shares, reverse=True) == shares
    if forcing == "linear":
        assert shares[4] == pytest.approx((1 + last) / 2)


def test_an_unknown_word_is_the_one_looked_at() -> None:
    settings = PairSettings(unit="word", vocabulary="apart", validation_fraction=0.0, test_fraction=0.0)
    parts = PairReader().parts((["one two three"] * 3, ["eins zwei drei"] * 3), "translate", settings)
    task = Translate(parts.schema, TranslateTrainSettings())
    network = task.build(TranslatorSettings(hidden_size=4, embedding_size=4, beam=2), parts.train)
    with torch.no_grad():
        network.output_bias.fill_(-100.0)
        network.output_bias[UNK] = 0.0
    data = PairReader().part(["one Ypsilon three"], parts.schema)[0]
    (best,) = task.decode(network.eval(), collate(data, torch.tensor([0])), 2)
    assert best.watched is not None
    looked = best.watched[: len(best.symbols), :3].argmax(1).tolist()
    assert task.predict(network, data).said == [" ".join(["one", "Ypsilon", "three"][i] for i in looked)]
    network.settings = network.settings.model_copy(update={"replace_unknown": False})
    assert UNK not in task.decode(network, collate(data, torch.tensor([0])), 2)[0].symbols


def test_an_empty_source_says_nothing_and_every_source_has_its_line() -> None:
    task, network, _ = tiny()
    data = PairReader().part(["a b", "", "c"], task.schema)[0]
    said = task.predict(network, data)
    assert said.said[1] == ""
    assert task.text(said) == "".join(f"{text}\n" for text in said.said)
    assert [row["index"] for row in task.rows(said)] == [0, 1, 2]


def test_texts_drawn_are_each_source_s_own() -> None:
    task, network, data = tiny(temperature=1.0)
    together = task.predict(network, data)
    assert together.said == task.predict(network, data).said
    assert len(set(together.said)) > 3


def test_batches_hold_every_pair_and_little_padding() -> None:
    task, _, data = tiny(count=300)
    settings = TranslateTrainSettings(batch_steps=40)
    plans = [plan(data, settings, seed=1, epoch=epoch) for epoch in (0, 1)]
    assert len(plans[0]) == len(plans[1])
    assert [b.tolist() for b in plans[0]] != [b.tolist() for b in plans[1]]
    for batches in (*plans, by_size(data, 40)):
        assert sorted(i for batch in batches for i in batch.tolist()) == list(range(300))
        made = [task.collate(data, batch) for batch in batches]
        assert all(b.given is not None and b.given.numel() <= 40 for b in made)
        padded = sum(b.given.numel() + b.source.numel() for b in made if b.given is not None)
        assert padded < 1.06 * sum(b.steps for b in made)


def test_scores_are_sacrebleu_s() -> None:
    task, network, data = tiny()
    said = ["a b c d a", "b b", "", *(data.targets or [])[3:]]
    found = replace(task.predict(network, data), said=said)
    scores = task.scores(found)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(said, [data.targets or []]).score)
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(said, [data.targets or []]).score)
    assert scores["exact_match"] == pytest.approx(9 / 12)
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    low, high = task.intervals(found)["bleu"]
    assert low < scores["bleu"] < high
    assert task.baselines(data, found)["copy"]["exact_match"] == pytest.approx(
        np.mean([a == b for a, b in zip(data.sources, data.targets or [], strict=True)])
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ({"beam": 0}, "model.beam: 0 texts are none"),
        ({"attention": "dot", "encoder_size": 5}, "model.attention: the encoder's width: 6 is expected"),
        ({"attention": "none", "feeding": "input"}, "model.feeding: 'input' feeds what attention finds"),
        ({"feeding": "between"}, "model.num_layers is 2 or more"),
        ({"bridge": "copy", "encoder_size": 7}, "model.bridge: 'copy' needs encoder and decoder of one cell"),
        ({"bridge": "copy", "bidirectional": True}, "model.bridge: 'copy' takes one direction's state"),
        ({"attention": "none", "bridge": "none"}, "nothing of the source would be seen"),
        ({"attention_size": 3}, "model.attention_size: is the width of additive attention"),
        ({"cell": "lstn"}, "model.cell: unknown cell 'lstn'; did you mean 'lstm'"),
        ({"decoder_cell": "lstn"}, "model.decoder_cell: unknown cell 'lstn'; did you mean 'lstm'"),
    ],
)
def test_models_that_cannot_be(model: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        tiny(**model)


def test_settings_that_do_not_go_with_the_data() -> None:
    apart = PairSettings(unit="word", vocabulary="apart", validation_fraction=0.0, test_fraction=0.0)
    schema = PairReader().parts(reversed_words(9), "translate", apart).schema
    with pytest.raises(RecipeError, match=r"model\.tied: 'all' needs one vocabulary"):
        Translator(TranslatorSettings(tied="all"), schema)
    vectors = PairReader().parts((np.eye(9), ["a"] * 9), "translate", apart).schema
    with pytest.raises(RecipeError, match=r"model\.attention: 'general' looks at the steps of a source"):
        Translator(TranslatorSettings(attention="general"), vectors)
    task = Translate(schema, TranslateTrainSettings())
    with pytest.raises(RecipeError, match=r"learn\.rule: 'rtrl' goes along one sequence"):
        task.check(TranslatorSettings(), LearnSettings(rule="rtrl"))


def test_words_backwards_are_learnt(tmp_path: Path) -> None:
    """Attention has what it takes to say a source backwards, which the run's folder then does from the command."""
    run = recurra.train(
        "translate",
        reversed_words(600, 3),
        test=reversed_words(100, 3, seed=1),
        out=tmp_path / "run",
        settings={
            "data.unit": "word",
            "data.validation_fraction": 0.05,
            "model.hidden_size": 48,
            "model.embedding_size": 16,
            "train.batch_size": 20,
            "train.epochs": 8,
            "train.lr": 0.01,
            "train.label_smoothing": 0.0,
        },
    )
    assert run.summary["test"]["exact_match"] == 1
    assert run.summary["test"]["chrf"] == pytest.approx(100)
    report = run.report.read_text("utf-8")
    assert "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp" in report
    assert "Attention" in report
    again = recurra.load(run.path)
    sources, targets = reversed_words(30, 3, seed=2)
    assert again.written(again.predict(sources), "text") == "".join(f"{t}\n" for t in targets)
    assert again.evaluate((sources, targets))["metrics"]["exact_match"] == 1


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """The schedule of teacher forcing, the order and the draws come again: the same weights."""
    settings: dict[str, Any] = {
        "data.unit": "word",
        "model.hidden_size": 8,
        "model.dropout": 0.2,
        "train.epochs": 3,
        "train.forcing": "linear",
        "train.checkpoint_seconds": 0.0,
        "train.average": 0.9,
    }

    class StopError(Exception):
        pass

    class Stops:
        def begin(self, training: Any) -> None: ...
        def evaluation(self, line: Any) -> None: ...
        def end(self) -> None: ...
        def update(self, step: int, loss: float) -> None:
            if step == 3:
                raise StopError

    data = reversed_words(80)
    whole = recurra.train("translate", data, out=tmp_path / "whole", settings=settings)
    with pytest.raises(StopError):
        recurra.train("translate", data, out=tmp_path / "broken", settings=settings, listener=Stops())
    broken = recurra.resume(tmp_path / "broken", data)
    assert isinstance(broken, recurra.Run)
    for a, b in zip(whole.network.parameters(), broken.network.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_begins_with_the_weights_and_vocabulary_of_another(tmp_path: Path) -> None:
    short = {"data.unit": "word", "train.epochs": 1, "model.hidden_size": 8, "train.precision": "64-true"}
    first = recurra.train("translate", reversed_words(60), out=tmp_path / "first", settings=short)
    files = {name: tmp_path / name for name in ("some.x", "some.y")}
    for path, texts in zip(files.values(), (["a b", "q d"] * 20, ["b a", "d q"] * 20), strict=True):
        path.write_text("".join(f"{text}\n" for text in texts))
    data = {"data.source": str(files["some.x"]), "data.target": str(files["some.y"])}
    went_on = recurra.train(
        "translate",
        out=tmp_path / "second",
        settings={"train.epochs": 1, "train.lr": 1e-9, **data},
        from_run=first.path,
    )
    assert went_on.schema.target_units == first.schema.target_units
    for a, b in zip(first.network.parameters(), went_on.network.parameters(), strict=True):
        torch.testing.assert_close(a.float(), b.float(), rtol=1e-3, atol=1e-5)
    with pytest.raises(recurra.RecurraError, match="holds vectors; that run learnt from texts"):
        recurra.train("translate", (np.eye(20), ["x"] * 20), out=tmp_path / "third", from_run=first.path)


def test_schemas_are_kept() -> None:
    task, _, _ = tiny()
    assert PairSchema.model_validate_json(task.schema.model_dump_json()) == task.schema
