"""The task tag: its scores beside seqeval's, its network, and a run from a file to tagged text."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seqeval.metrics
import torch
from hypothesis import given
from hypothesis import strategies as st

import recurra
from recurra.data.schemes import entities, find_scheme, written
from recurra.data.sentence_reader import SentenceReader
from recurra.data.sentences import Sentences, SentenceSettings
from recurra.errors import RecipeError, RunError
from recurra.run.compare import compare
from recurra.tasks.single_words import contrasts
from recurra.tasks.tag import Tag, TagTrainSettings
from recurra.tasks.tag_scores import entity_counts, entity_scores, kind_rows, tag_rows
from recurra.tasks.tagger import Tagger, TagModelSettings
from recurra.tasks.tagging import Tagging

TAGS = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in ("PER", "LOC", "a-b"))]

tagged = st.lists(st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=8), min_size=1)


@given(tagged)
@pytest.mark.filterwarnings("ignore")  # of seqeval's, where nothing is true or said
def test_entities_are_scored_as_seqeval_scores_them(pairs: list[list[tuple[str, str]]]) -> None:
    """Over any tags at all, in any mixture of schemes."""
    true, said = ([[pair[i] for pair in sentence] for sentence in pairs] for i in (0, 1))
    scores = entity_scores(entity_counts(true, said).sum(0))
    expected = [getattr(seqeval.metrics, f"{name}_score")(true, said) for name in ("precision", "recall", "f1")]
    np.testing.assert_allclose(scores, expected, atol=1e-12)
    report: Any = seqeval.metrics.classification_report(true, said, output_dict=True)
    for row in kind_rows(true, said):
        if row["support"]:  # seqeval's report leaves out what is nowhere true
            other = report[row["kind"]]
            for mine, theirs in (("precision",) * 2, ("recall",) * 2, ("f1", "f1-score"), ("support",) * 2):
                assert row[mine] == pytest.approx(other[theirs])


@given(tagged)
def test_a_scheme_written_and_read_marks_the_same_entities(pairs: list[list[tuple[str, str]]]) -> None:
    spans = [entities([tag for tag, _ in sentence]) for sentence in pairs]
    for scheme in ("iob1", "iob2", "iobes", "bilou"):
        anew = [written(found, len(sentence), scheme) for found, sentence in zip(spans, pairs, strict=True)]
        assert [entities(tags) for tags in anew] == spans
        found = find_scheme(anew)
        assert found == scheme or {found, scheme} <= {None, "iob2", "iob1", "iobes", "bilou"}
        if found is not None:  # whichever is found holds them without a break
            assert [written(e, len(t), found) for e, t in zip(spans, anew, strict=True)] == anew


def test_tag_rows_count_words() -> None:
    (noun, verb) = tag_rows([["N", "V", "N"]], [["N", "N", "N"]])
    assert (noun["kind"], noun["precision"], noun["recall"], noun["support"], noun["said"]) == ("N", 2 / 3, 1, 2, 3)
    assert (verb["kind"], verb["precision"], verb["recall"], verb["said"]) == ("V", 0, 0, 0)


SENTENCES = [
    ("Fly from New York to Rome", "O O B-from I-from O B-to", "fly"),
    ("to New York from Rome", "O B-to I-to O B-from", "fly"),
    ("is 747 big", "O B-plane O", "ask"),
    ("Rome", "O", "ask"),
]


def made(sentences: list[tuple[str, str, str]] = SENTENCES, **settings: Any) -> tuple[Sentences, Any]:
    lists = tuple([part[i] for part in sentences] for i in range(3))
    whole = SentenceSettings(validation_fraction=0, test_fraction=0, **settings)
    parts = SentenceReader().parts(lists, "tag", whole)
    return parts.train, parts.schema


def network(schema: Any, **settings: Any) -> tuple[Tag, Tagger]:
    torch.manual_seed(3)
    task = Tag(schema, TagTrainSettings())
    found = task.network(TagModelSettings(hidden_size=7, embedding_size=5, **settings)).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(0, 0.5)
    return task, found


SETTINGS: dict[str, dict[str, Any]] = {
    "words alone": {"character_size": 0, "casing_size": 0},
    "all": {"cell": "lstm", "num_layers": 2, "head": [6]},
    "crf": {"crf": True, "label_pool": "mean"},
    "last": {"label_pool": "last", "bidirectional": False},
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_sentences_in_a_batch_are_read_as_each_alone(kind: str) -> None:
    data, schema = made()
    task, tagger = network(schema, **SETTINGS[kind])
    together = task.predict(tagger, data)
    for i in range(len(data)):
        alone = task.predict(tagger, data.select([i]))
        assert together.said(i) == alone.said(0)
        first, stop = int(data.offsets[i]), int(data.offsets[i + 1])
        np.testing.assert_allclose(together.probabilities[first:stop], alone.probabilities, atol=1e-6)
        np.testing.assert_allclose(together.surprise[i], alone.surprise[0], rtol=1e-5)
        assert together.labels is not None
        assert alone.labels is not None
        np.testing.assert_allclose(together.labels[i], alone.labels[0], atol=1e-6)
    order = task.predict(tagger, data.select([3, 0, 2, 1]))
    assert [order.said(i) for i in (1, 3, 2, 0)] == [together.said(i) for i in range(4)]


@pytest.mark.parametrize("crf", [False, True])
def test_the_loss_is_that_of_the_scores(crf: bool) -> None:
    data, schema = made()
    task, tagger = network(schema, crf=crf)
    batch = task.collate(data, torch.arange(4))
    outputs, _ = tagger(*batch.inputs)
    said = task.predict(tagger, data)
    words = task.scores(said)["loss"]
    assert said.labels is not None
    assert data.labels is not None
    labels = -np.log(said.labels[np.arange(4), data.labels.numpy()]).mean()
    assert task.loss(tagger, outputs, batch).item() == pytest.approx(words + labels, rel=1e-5)
    task.settings.label_weight = 0.25
    assert task.loss(tagger, outputs, batch).item() == pytest.approx(words + 0.25 * labels, rel=1e-5)


def test_what_a_word_looks_like_reaches_the_network() -> None:
    data, schema = made(lowercase=True)
    task, tagger = network(schema)
    other, _ = made([("fly from New York to Rome", *SENTENCES[0][1:]), *SENTENCES[1:]])
    one, two = (task.predict(tagger, d.select([0])).probabilities for d in (data, other))
    assert data.words.equal(other.words)
    assert np.abs(one - two).max() > 1e-6
    plain, blind = network(schema, character_size=0, casing_size=0)
    one, two = (plain.predict(blind, d.select([0])).probabilities for d in (data, other))
    np.testing.assert_array_equal(one, two)


def test_scores() -> None:
    data, schema = made()
    assert data.tags is not None
    assert data.labels is not None
    task = Tag(schema, TagTrainSettings())
    tags = data.tags.numpy().copy()
    tags[5] = schema.tags.index("O")  # Rome of the first sentence
    labels = np.eye(2)[data.labels.numpy()]
    labels[3] = labels[3][::-1]
    said = Tagging(data, schema, tags, np.ones(len(tags)), np.full(4, np.nan), labels)
    found = task.scores(said)
    true = [data.tags[int(a) : int(b)] for a, b in zip(data.offsets, data.offsets[1:], strict=False)]
    assert len(true) == 4
    assert found["f1"] == pytest.approx(2 * 4 / (4 + 5))
    assert (found["precision"], found["recall"]) == (1.0, pytest.approx(4 / 5))
    assert found["accuracy"] == pytest.approx(14 / 15)
    assert (found["sequence_accuracy"], found["intent_accuracy"]) == (0.75, 0.75)
    assert "loss" not in found
    assert task.scores(said.first(3))["intent_accuracy"] == 1.0
    assert set(task.intervals(said)) == {"sequence_accuracy", "intent_accuracy"}  # four sentences say no more


def test_a_tag_never_seen_counts_as_an_entity_that_was_missed() -> None:
    _, schema = made()
    lists = ([["fly", "via", "Rome"]], [["O", "O", "B-via"]], ["fly"])
    further, warnings = SentenceReader().part(lists, schema)
    assert "'B-via'" in warnings[0]
    task, tagger = network(schema)
    said = task.predict(tagger, further)
    assert np.isnan(said.surprise).all()
    none = replace(said, tags=np.full(3, schema.tags.index("O")))
    assert task.scores(none)["recall"] == 0
    assert task.scores(none)["accuracy"] == pytest.approx(2 / 3)


def test_baselines_see_single_words() -> None:
    """Where a word has several tags, no more than the commoner one can be told; the sentence's label likewise."""
    data, schema = made([*SENTENCES[:2], ("from Rome", "O B-from", "fly"), ("big Rome", "O O", "ask")])
    task, tagger = network(schema)
    found = task.baselines(data, task.predict(tagger, data))
    said = {"Fly": 1, "from": 3, "New": 1, "York": 1, "to": 2, "Rome": 2, "big": 1}  # right of each word, at most
    assert found["most frequent tag"]["accuracy"] == pytest.approx(sum(said.values()) / 15)
    assert found["single words"]["accuracy"] == pytest.approx(sum(said.values()) / 15)
    assert found["single words"]["intent_accuracy"] == 0.75


def test_contrasts_are_one_word_with_two_tags_in_two_sentences() -> None:
    data, schema = made()
    assert data.tags is not None
    task = Tag(schema, TagTrainSettings())
    nothing = np.full(4, np.nan)
    right = Tagging(data, schema, data.tags.numpy(), np.ones(15), nothing)
    alone = task.by_word(right, task.alone(data))
    several, found = contrasts(right, alone, 5)
    assert {data.forms[i] for i in data.surface[torch.from_numpy(several)].tolist()} == {"New", "York", "Rome"}
    assert {word: set(places) for word, places in found} == {
        "rome": {(1, 4), (0, 5)},
        "new": {(1, 1), (0, 2)},
        "york": {(1, 2), (0, 3)},
    }
    for word, (one, other) in found:
        assert right.true(one[0])[one[1]] != right.true(other[0])[other[1]]
        said = [alone.said(i)[at] for i, at in (one, other)]
        assert said[0] == said[1], word
    wrong = replace(right, tags=np.full(15, schema.tags.index("O")))
    assert contrasts(wrong, alone, 5)[1] == []


def test_vectors_are_begun_with(tmp_path: Path) -> None:
    data, schema = made()
    file = tmp_path / "v.txt"
    file.write_text("2 3\nrome 1 2 3\nNEW 4 5 6\n")
    task = Tag(schema, TagTrainSettings())
    settings = TagModelSettings(embedding_size=3, vectors=str(file), freeze_vectors=True)
    tagger = task.build(settings, data)
    assert tagger.embedding is not None
    weight = tagger.embedding.weight
    assert weight[schema.vocabulary.index("rome")].tolist() == [1, 2, 3]
    assert weight[schema.vocabulary.index("new")].tolist() == [4, 5, 6]
    assert not weight.requires_grad
    (note,) = task.notes
    assert "vectors for 2 of the 9 words of the vocabulary (22.2%)" in note


TINY = {"train.epochs": 30, "model.hidden_size": 12, "model.embedding_size": 12, "train.lr": 0.02}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A small run on cities that are told apart by the words before them alone."""
    folder = tmp_path_factory.mktemp("tag")
    random = np.random.default_rng(0)
    cities = ["Rome", "Paris", "Oslo", "New York", "Bern"]
    lines = []
    for _ in range(120):
        a, b = random.choice(cities, 2, replace=False)
        kind = random.choice(["fly", "ride"])
        spans = [("from", a, "from"), ("to", b, "to")]
        random.shuffle(spans)
        words, tags = [kind], ["O"]
        for before, city, slot in spans:
            words += [before, *city.split()]
            tags += ["O", f"B-{slot}", *[f"I-{slot}"] * (len(city.split()) - 1)]
        lines.append({"tokens": words, "tags": tags, "label": kind})
    (folder / "train.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    return recurra.train("tag", str(folder / "train.jsonl"), out=folder / "run", settings=TINY)


def test_a_run_learns_what_single_words_do_not_tell(run: Any) -> None:
    summary = run.summary
    assert summary["main_metric"] == "f1"
    assert summary["test"]["f1"] == 1
    assert summary["test"]["intent_accuracy"] == 1
    assert summary["baselines"]["single words"]["f1"] < 0.8
    report = (run.path / "report.html").read_text()
    assert "What the order of words decides" in report
    assert '<span class="right">' in report
    rows = (run.path / "test_predictions.csv").read_text().splitlines()
    assert rows[0] == "index,step,token,target,tag,probability,label"


def test_predictions_are_text_objects_or_rows(run: Any, tmp_path: Path) -> None:
    (tmp_path / "new.txt").write_text("ride to Oslo from New York\n")
    said = run.predict(str(tmp_path / "new.txt"))
    assert run.written(said, "text") == "[ride] ride to Oslo/B-to from New/B-from York/I-from\n"
    coloured = run.written(said, "text", colour=True)
    assert "\x1b[" in coloured
    assert "Oslo" in coloured
    (line,) = (json.loads(line) for line in run.written(said, "jsonl").splitlines())
    assert line == {
        "tokens": ["ride", "to", "Oslo", "from", "New", "York"],
        "tags": ["O", "O", "B-to", "O", "B-from", "I-from"],
        "label": "ride",
    }
    (tmp_path / "said.jsonl").write_text(run.written(said, "jsonl"))  # what was written is read again
    assert run.evaluate(str(tmp_path / "said.jsonl"))["metrics"]["f1"] == 1


def test_a_state_is_not_carried() -> None:
    settings = {"learn.carry_state": True, "train.batch_size": 1, "train.shuffle": False}
    lists = tuple([part[i] for part in SENTENCES] for i in range(3))
    with pytest.raises(RecipeError, match="a sentence does not go on where the last one ended"):
        recurra.train("tag", lists, settings={**settings, "model.bidirectional": False, "data.test_fraction": 0.25})


def test_a_run_is_gone_on_with_under_other_tags(tmp_path: Path) -> None:
    """What tags are called the same keep their weights, wherever they now stand."""
    settings = {**TINY, "train.epochs": 1, "model.crf": True}
    lists = ([["ride", "to", "Oslo"], ["fly", "to", "Bern"]] * 10, [["O", "O", "B-to"], ["O", "O", "B-to"]] * 10)
    first = recurra.train("tag", lists, out=tmp_path / "first", settings=settings)
    more = (lists[0], [["A-x", "O", "B-to"], ["A-x", "O", "B-to"]] * 10)
    second = recurra.train(
        "tag",
        more,
        out=tmp_path / "second",
        from_run=tmp_path / "first",
        settings={"train.epochs": 1, "train.lr": 1e-9},
    )
    assert second.schema.tags == ["A-x", *first.schema.tags]
    for name in ("output.weight", "output.bias", "crf.start", "crf.end"):
        torch.testing.assert_close(second.network.state_dict()[name][1:], first.network.state_dict()[name])
    old, new = (each.network.crf.transition for each in (first, second))
    torch.testing.assert_close(new[1:, 1:], old)
    assert old.abs().max() > 0


def test_runs_are_compared_by_entities(run: Any, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run.path, other)
    (difference,) = compare([run.path, other]).differences
    assert difference.value == 0
    assert difference.paired
    assert difference.interval == (0, 0)


def test_a_network_of_another_task_is_refused(tmp_path: Path) -> None:
    settings = {"train.epochs": 1, "model.hidden_size": 4, "model.embedding_size": 4, "train.batch_size": 2}
    run = recurra.train("language", ["to be or not to be\n" * 40], out=tmp_path / "text", settings=settings)
    data = ([["a", "b"], ["b", "a"]] * 10, [["X", "Y"], ["Y", "X"]] * 10)
    with pytest.raises(RunError, match="that run learnt language, whose network is not one of tag"):
        recurra.train("tag", data, from_run=run.path, out=tmp_path / "tags")
