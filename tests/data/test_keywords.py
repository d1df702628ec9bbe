"""Texts with their keywords, read as tagged sentences: small tables, and this project's own pages."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurra
from recurra.data.keywords import mark
from recurra.data.schemes import entities
from recurra.data.sentence_reader import SentenceReader
from recurra.data.sentences import SentenceSettings
from recurra.data.tokens import tokenize
from recurra.errors import DataError

READER = SentenceReader()
DOCS = Path(__file__).parents[2] / "docs"


def read(path: Path, content: str, name: str = "train.tsv", **settings: Any) -> Any:
    (path / name).write_text(content)
    whole = SentenceSettings(validation_fraction=0, test_fraction=0, **settings)
    return READER.parts(str(path / name), "tag", whole)


def marked(part: Any) -> list[list[str]]:
    """The words of every keyword that is marked, by text."""
    found = []
    for i in range(len(part)):
        first, stop = int(part.offsets[i]), int(part.offsets[i + 1])
        tags = [part.names[k] for k in part.tags[first:stop].tolist()]
        found.append([" ".join(part.tokens(i)[e.start : e.stop]) for e in entities(tags)])
    return found


ROWS = [("Gated units learn; gates open.", ["gated unit", "gate"]), ('A "cell" is a cell.', ["cell"])]


def test_tables_and_objects_are_read_alike(tmp_path: Path) -> None:
    expected = [["Gated units", "gates"], ["cell", "cell"]]
    tsv = "text\tkeywords\n" + "".join(f"{text}\t{'; '.join(keys)}\n" for text, keys in ROWS)
    parts = read(tmp_path, tsv)
    assert marked(parts.train) == expected
    assert parts.schema.format == "keywords"
    assert parts.schema.tags == ["B-KEY", "I-KEY", "O"]
    quoted = [(text.replace('"', '""'), ",".join(keys)) for text, keys in ROWS]
    table = "id,Keywords,Abstract\n" + "".join(f'7,"{keys}","{text}"\n' for text, keys in quoted)
    assert marked(read(tmp_path, table, "train.csv").train) == expected
    lines = "\n".join(json.dumps({"text": text, "keyphrases": keys}) for text, keys in ROWS)
    assert marked(read(tmp_path, lines, "train.jsonl").train) == expected
    named = "what\twords\n" + tsv.partition("\n")[2]
    assert marked(read(tmp_path, named, text="what", target="words", format="keywords").train) == expected


def test_overlapping_keywords_and_those_that_do_not_stand_there(tmp_path: Path) -> None:
    words = tokenize("short-term memory and long memory", lowercase=False)
    tags, found = mark(words, ["memory", "short-term memory", "attention"])
    assert tags == ["B-KEY", "I-KEY", "I-KEY", "I-KEY", "O", "O", "B-KEY"]
    assert found == {"memory", "short-term memory"}
    parts = read(tmp_path, "text\tkeywords\na cell and a gate\tcell; attention; loss\nb gate\tgate\n")
    assert any("2 of 4 keywords do not stand in their text and mark nothing, such as 'attention', 'loss'" in w
               for w in parts.warnings)  # fmt: skip
    rows = ["a cell\tcell; loss", "b gate\tgate; loss; bias", "c cell\t" + "; ".join("uvwxyz")]
    parts = read(tmp_path, "text\tkeywords\n" + "\n".join(rows) + "\n")
    assert any("9 of 11 keywords do not" in w and w.endswith(" 'loss', 'bias', 'u', 'v', 'w'.") for w in parts.warnings)


def test_further_texts_need_no_keywords(tmp_path: Path) -> None:
    schema = read(tmp_path, "text\tkeywords\na cell.\tcell\nb gate.\tgate\n").schema
    (tmp_path / "new.txt").write_text("The cell. And more.\n")
    part, _ = READER.part(str(tmp_path / "new.txt"), schema)
    assert part.tokens(0) == ["The", "cell", ".", "And", "more", "."]
    assert part.tags is None


BAD = {
    "no text": ("text\tkeywords\n\tcell\n", r"train.tsv, line 2: the text is empty"),
    "cells": ("text\tkeywords\na cell\n", r"train.tsv, line 2: 1 cells found, 2 expected"),
    "JSON": ('{"text": "a", "keywords": ["a"]}\n{"text": "b", "keywords": 3}\n', r"line 2: the keywords are neither"),
    "key": ('{"text": "a", "keywords": ["a"]}\n{"txt": "b", "keywords": ["b"]}\n', r"line 2: unknown key 'text'; did"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, content)


def sentences() -> list[tuple[str, list[str]]]:
    """The sentences of this project's documentation as plain text, with what they set off: code and emphasis."""
    found = []
    for page in sorted(DOCS.glob("*.md")):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for block in re.split(r"\n\s*\n|(?<=[.:;])\s+", text):
            if block.lstrip().startswith(("#", "|", "<", "!")):
                continue
            terms = re.findall(r"`([^`\n]+)`|\*\*([^*\n]+)\*\*", block)
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", block)
            plain = " ".join(re.sub(r"[`*]", "", plain).split())
            keys = sorted({(a or b).strip() for a, b in terms} - {""})
            if plain and keys:
                found.append((plain, keys))
    return found


def test_keywords_of_this_projects_own_pages(tmp_path: Path) -> None:
    """What the pages set off as code is found again in text where nothing is set off: far better than every word that
    was a keyword somewhere."""
    texts = sentences()
    assert len(texts) > 400
    order = np.random.default_rng(1).permutation(len(texts))
    for name, chosen in (("train", order[100:]), ("test", order[:100])):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "keywords"])
            writer.writerows((texts[i][0], ";".join(k for k in texts[i][1] if ";" not in k)) for i in chosen)
    settings = {"train.epochs": 3, "model.hidden_size": 32, "model.embedding_size": 32, "train.batch_size": 8}
    settings |= {"model.character_size": 15, "model.character_hidden_size": 15, "train.lr": 0.01}
    settings |= {"data.max_length": 120, "model.word_dropout": 0.1, "data.format": "keywords"}
    run = recurra.train("tag", str(tmp_path), out=tmp_path / "run", settings=settings)
    alone = run.summary["baselines"]["most frequent tag"]["f1"]
    assert run.summary["test"]["f1"] > alone + 0.25, run.summary["test"]
    said = run.predict(["Set train.lr, or the seed."])  # cut as the training texts are
    assert said.data.tokens(0) == ["Set", "train", ".", "lr", ",", "or", "the", "seed", "."]
