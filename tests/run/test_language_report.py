"""The report of a language model: what it writes, where a text surprises it."""

from pathlib import Path

import numpy as np
import pytest

import recurra
from recurra.data.corpus import CorpusReader, CorpusSettings
from recurra.run.sections import language
from recurra.tasks.language import Read

RHYME = "the cat sat on the mat; round & round they go.\n"

SETTINGS = {
    "model.hidden_size": 24,
    "model.embedding_size": 12,
    "train.batch_size": 4,
    "train.window": 20,
    "train.epochs": 3,
    "train.lr": 0.02,
}


@pytest.mark.parametrize("unit", ["character", "word"])
def test_a_report_shows_texts_a_tree_and_surprises(tmp_path: Path, unit: str):
    text = RHYME * 60 + RHYME.replace("cat", "mat") + RHYME * 3
    settings = {**SETTINGS, "data.unit": unit, "data.test_fraction": 0.1}
    run = recurra.train("language", data=[text], settings=settings, out=tmp_path / "run")
    page = run.report.read_text("utf-8")
    assert "What it writes" in page
    assert page.count('<pre class="written">') == len(language.WAYS) + 1
    assert "What surprises it" in page
    assert "The most surprising places" in page
    assert page.count("<svg") >= 3
    assert "A symbol is a " + unit in page
    assert "round &amp;" in page  # what a text holds is escaped
    assert "round & round" not in page


def read(text: str, **settings: object) -> Read:
    parts = CorpusReader().parts(
        [text], "language", CorpusSettings.model_validate({"validation_fraction": 0, "test_fraction": 0, **settings})
    )
    corpus = parts.train
    return Read(np.full(len(corpus) - 1, 0.1), corpus.symbols, corpus.offsets, corpus.characters, corpus.units)


def test_the_most_surprising_places_are_apart_and_in_order():
    bits = np.zeros(200)
    bits[[10, 15, 50, 199]] = 5.0, 9.0, 7.0, 8.0
    assert language._most(bits)[:3] == [15, 199, 50]
    assert len(language._most(np.ones(5))) == 1


def test_a_place_is_named_with_what_came_before_it():
    said = read(RHYME * 6)
    place = RHYME.index("&")
    said.nats[place - 1] = 12 * np.log(2)  # the first symbol is not predicted
    section = language._surprises(said)
    ((_, names, rows),) = section.tables
    assert names[:2] == ["what came before", "what came"]
    assert rows[0][0] == "…" + RHYME[:place]
    assert rows[0][1] == "&"
    assert rows[0][2] == place + 1
    assert rows[0][3] == pytest.approx(12)
    coloured = section.figures[1][1]
    assert '<span style="background:rgb(224 118 47/1.00)" title="12.0 bits">&amp;</span>' in coloured


def test_words_and_ends_of_lines_are_written_as_they_are_read():
    said = read(RHYME * 20, unit="word")
    coloured = language._surprises(said).figures[1][1]
    assert coloured.startswith('<pre class="written">the <span')
    assert ">\n</span>" in coloured
    assert language._name(said.units, 3) == "↵"
