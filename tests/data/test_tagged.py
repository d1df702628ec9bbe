"""Files of tagged sentences: every layout, and everything that can be wrong with one."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from recurra.data.schemes import Entity, entities
from recurra.data.sentence_reader import SentenceReader
from recurra.data.sentences import Sentences, SentenceSchema, SentenceSettings
from recurra.errors import DataError

READER = SentenceReader()
WHOLE: dict[str, Any] = {"validation_fraction": 0.0, "test_fraction": 0.0}

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O
German JJ I-NP I-MISC
call NN I-NP O

Peter NNP I-NP I-PER
Blackburn NNP I-NP I-PER
"""

UD = """# sent_id = a-1
# text = I don't know.
1\tI\tI\tPRON\tPRP\t_\t4\tnsubj\t_\t_
2-3\tdon't\t_\t_\t_\t_\t_\t_\t_\t_
2\tdo\tdo\tAUX\tVBP\t_\t4\taux\t_\t_
3\tn't\tnot\tPART\tRB\t_\t4\tadvmod\t_\t_
4\tknow\tknow\tVERB\tVB\t_\t0\troot\t_\tSpaceAfter=No
4.1\tmuch\tmuch\tADV\tRB\t_\t_\t_\t_\t_
5\t.\t.\tPUNCT\t.\t_\t4\tpunct\t_\t_

# sent_id = a-2
1\tNew York\tNew York\tPROPN\tNNP\t_\t0\troot\t_\t_
"""


def read(path: Path, content: str | bytes, name: str = "train.txt", **settings: Any) -> Any:
    """The one part of a file."""
    (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return READER.parts(str(path / name), "tag", SentenceSettings(**{**WHOLE, **settings}))


def tags(part: Sentences, index: int) -> list[str]:
    assert part.tags is not None
    first, stop = int(part.offsets[index]), int(part.offsets[index + 1])
    return [part.names[int(i)] for i in part.tags[first:stop].tolist()]


def said(part: Sentences) -> list[list[tuple[str, str]]]:
    return [list(zip(part.tokens(i), tags(part, i), strict=True)) for i in range(len(part))]


def test_columns(tmp_path: Path) -> None:
    parts = read(tmp_path, CONLL)
    assert said(parts.train) == [
        [("EU", "I-ORG"), ("rejects", "O"), ("German", "I-MISC"), ("call", "O")],
        [("Peter", "I-PER"), ("Blackburn", "I-PER")],
    ]
    assert parts.schema.scheme == "iob1"
    assert parts.schema.vocabulary[:2] == ["<pad>", "<unk>"]
    assert set(parts.schema.vocabulary[2:]) == {"eu", "rejects", "german", "call", "peter", "blackburn"}
    assert "E" in parts.schema.characters  # of the words as they stand
    assert tags(read(tmp_path, CONLL, target=2).train, 0) == ["NNP", "VBZ", "JJ", "NN"]
    named = {"columns": ["form", "pos", "chunk", "ner"], "target": "chunk", "text": "pos"}
    assert said(read(tmp_path, CONLL, **named).train)[1] == [("NNP", "I-NP"), ("NNP", "I-NP")]


def test_columns_by_tabs_may_hold_blanks_and_comments_stand_before_a_sentence(tmp_path: Path) -> None:
    content = "# id 7 of the corpus\nNew York\tB-LOC\n#\tO\n\n\nRome\tB-LOC\n#1\tO\n"
    assert said(read(tmp_path, content).train) == [
        [("New York", "B-LOC"), ("#", "O")],
        [("Rome", "B-LOC"), ("#1", "O")],
    ]


def test_conllu_leaves_out_ranges_and_empty_nodes(tmp_path: Path) -> None:
    part = read(tmp_path, UD, "x.conllu").train
    assert part.tokens(0) == ["I", "do", "n't", "know", "."]
    assert part.tokens(1) == ["New York"]
    assert tags(part, 0) == ["PRON", "AUX", "PART", "VERB", "PUNCT"]
    assert part.ids == ["a-1", "a-2"]
    assert tags(read(tmp_path, UD, target="deprel").train, 0) == ["nsubj", "aux", "advmod", "root", "punct"]
    assert read(tmp_path, UD, target="DEPREL").schema.scheme is None
    plus = "# global.columns = ID FORM UPOS\n1\ta\tDET\n2\tdog\tNOUN\n"
    assert said(read(tmp_path, plus).train) == [[("a", "DET"), ("dog", "NOUN")]]


def write_slots(folder: Path, words: str, tags: str | None, labels: str | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("seq.in", words), ("seq.out", tags), ("label", labels)):
        if content is not None:
            (folder / name).write_text(content)
    return folder


def test_slots_with_labels_in_parts(tmp_path: Path) -> None:
    write_slots(tmp_path / "train", "to rome\nfrom\u00a0x b\nto b\n", "O B-to\nO B-from\nO B-to\n", "go\ncome\ngo\n")
    write_slots(tmp_path / "test", "to b\nto x\n", "O B-to\nO B-via\n", "go\nstay\n")
    parts = READER.parts(str(tmp_path), "tag", SentenceSettings(validation_fraction=0))
    assert said(parts.train)[1] == [("from\u00a0x", "O"), ("b", "B-from")]
    assert parts.schema.labels == ["come", "go"]
    assert parts.train.labels is not None
    assert parts.train.labels.tolist() == [1, 0, 1]
    assert parts.test is not None
    assert parts.test.labels is not None
    assert parts.test.labels.tolist() == [1, -1]
    assert tags(parts.test, 1) == ["O", "B-via"]  # kept, so that it counts among what is to be found
    assert any("1 of 4 words have a tag that training data do not have ('B-via')" in w for w in parts.warnings)
    assert any("1 of 2 sentences have a label that training data do not have ('stay')" in w for w in parts.warnings)


def test_json_lines_and_python_lists(tmp_path: Path) -> None:
    rows = [{"tokens": ["a", "b"], "tags": ["X", "Y"], "label": "l"}, {"tokens": ["c"], "tags": ["X"], "label": "m"}]
    parts = read(tmp_path, "\n".join(map(json.dumps, rows)))
    assert said(parts.train) == [[("a", "X"), ("b", "Y")], [("c", "X")]]
    assert parts.schema.labels == ["l", "m"]
    lists = ([["a", "b"], "c"], [["X", "Y"], "X"], ["l", "m"])
    other = READER.parts(lists, "tag", SentenceSettings(**WHOLE))
    assert said(other.train) == said(parts.train)
    assert other.schema.labels == parts.schema.labels


def schema(path: Path, content: str = CONLL, **settings: Any) -> SentenceSchema:
    return read(path, content, **settings).schema


def test_further_data_are_tagged_or_plain(tmp_path: Path) -> None:
    kept = schema(tmp_path)
    kept = SentenceSchema.model_validate_json(kept.model_dump_json())
    new = tmp_path / "new.txt"
    new.write_text("EU NNP I-NP I-LOC\nx NN I-NP O\n\nEU NNP I-NP O\n")
    part, warnings = READER.part(str(new), kept)
    assert said(part)[0] == [("EU", "I-LOC"), ("x", "O")]
    assert part.words.tolist() == [kept.vocabulary.index("eu"), 1, kept.vocabulary.index("eu")]
    assert "I-LOC" in warnings[-1]
    new.write_text("EU\nx\n\nEU\n")  # no tags: a word a line, or a sentence each
    part, _ = READER.part(str(new), kept)
    assert part.tags is None
    new.write_text("EU NNP I-NP\nx NN I-NP\n\nEU NNP I-NP\n")
    part, _ = READER.part(str(new), kept)
    assert part.tags is None
    assert part.tokens(0) == ["EU", "x"]
    new.write_text("EU rejects Peter\nPeter calls .\n")
    part, _ = READER.part(str(new), kept)
    assert [part.tokens(i) for i in range(2)] == [["EU", "rejects", "Peter"], ["Peter", "calls", "."]]
    part, _ = READER.part(io.BytesIO(new.read_bytes()), kept)
    assert len(part) == 2
    with pytest.raises(DataError, match=r"has no tags, which are needed to measure on it\.$"):
        READER.part(str(new), kept, targets=True)


def test_what_has_no_tags_to_measure_on_is_told_by_its_columns(tmp_path: Path) -> None:
    new = tmp_path / "new.txt"

    def fault(content: str, schema: SentenceSchema, format: str | None = None) -> str:
        new.write_text(content)
        with pytest.raises(DataError) as error:
            READER.part(str(new), schema, targets=True, format=format)
        begun, _, why = str(error.value).partition(" measure on it")
        assert begun == f"{new}: has no tags, which are needed to"
        return why

    kept = schema(tmp_path)
    assert fault("EU rejects Peter\n", kept) == "."
    assert fault("EU\nx\n\nEU\n", kept, "conll") == ": it has one column (the training data have 4)."
    assert fault("EU NNP I-NP\nx NN I-VP\n\nEU NNP I-NP\n", kept) == (
        ": the last of its 3 columns (the training data have 4) holds 'I-NP', 'I-VP'; the run's tags are 'I-MISC', "
        "'I-ORG', 'I-PER', 'O'."
    )
    by_upos = schema(tmp_path, UD)
    rows = ["1\ta\ta\t_\tDT\t_\t2\tdet\t_\t_", "2\tdog\tdog\t_\tNN\t_\t0\troot\t_\t_"]
    untagged = "column upos, where the run's tags stand, is '_' throughout; columns that hold something: "
    assert fault("\n".join(rows), by_upos) == f": {untagged}lemma, xpos, head, deprel."
    assert fault("1\ta" + "\t_" * 8, by_upos) == f": {untagged}none."


def test_plain_sentences_lose_their_punctuation_where_training_data_have_it_apart(tmp_path: Path) -> None:
    kept = schema(tmp_path, UD)
    new = tmp_path / "new.txt"
    new.write_text("I know.\nDo n't, please!\n")
    part, warnings = READER.part(str(new), kept)
    assert part.tokens(0) == ["I", "know", "."]
    assert "punctuation is cut off from the words" in warnings[0]
    new.write_text("I know.com .\n")
    part, warnings = READER.part(str(new), kept)
    assert part.tokens(0) == ["I", "know.com", "."]
    assert not warnings


def test_vocabulary_folds_case_and_digits_and_keeps_what_is_frequent(tmp_path: Path) -> None:
    content = "At X\n1994 N\n\nat X\n1850 N\n\nrare N\n"
    assert schema(tmp_path, content, digits=True, min_count=2).vocabulary[2:] == ["0000", "at"]
    assert schema(tmp_path, content, lowercase=False).vocabulary[2:] == ["1850", "1994", "At", "at", "rare"]
    assert schema(tmp_path, content, max_vocabulary=3).vocabulary[2:] == ["at"]


def test_sentences_beyond_the_limit_are_cut_and_counted(tmp_path: Path) -> None:
    parts = read(tmp_path, CONLL, max_length=3)
    assert parts.train.lengths.tolist() == [3, 2]
    assert any("1 of 2 sentences are longer than 3 words (the longest has 4)" in w for w in parts.warnings)
    assert read(tmp_path, CONLL, max_length=3, keep="end").train.tokens(0) == ["rejects", "German", "call"]


BROKEN = "a B-X\nb I-X\n\nc O\nd I-X\ne I-Y\n\nf B-X\n"


def test_tags_that_break_their_scheme_are_repaired_or_refused(tmp_path: Path) -> None:
    parts = read(tmp_path, BROKEN)
    assert parts.schema.scheme == "iob2"
    assert tags(parts.train, 1) == ["O", "B-X", "B-Y"]
    assert entities(tags(parts.train, 1)) == entities(["O", "I-X", "I-Y"]) == [Entity("X", 1, 2), Entity("Y", 2, 3)]
    (warning,) = parts.warnings
    assert "line 5: the tag 'I-X' after 'O' breaks IOB2 and is taken for 'B-X'" in warning
    with pytest.raises(DataError, match=r"train.txt, line 5: the tag 'I-X' after 'O' breaks IOB2; expected 'B-X'"):
        read(tmp_path, BROKEN, bad_tags="fail")
    alone = read(tmp_path, BROKEN, scheme="none")
    assert tags(alone.train, 1) == ["O", "I-X", "I-Y"]
    assert alone.schema.scheme is None


def test_tags_of_another_kind_keep_their_names(tmp_path: Path) -> None:
    schema = read(tmp_path, BROKEN).schema
    data, warnings = READER.part((["a b"], ["NOUN VERB"]), schema, targets=True)
    assert tags(data, 0) == ["NOUN", "VERB"]
    assert warnings == [
        "the data given: 2 of 2 words have a tag that training data do not have ('NOUN', 'VERB'); they count as wrong. "
        "The run's tags are 'B-X', 'B-Y', 'I-X', 'O'."
    ]
    schema = read(tmp_path, UD).schema
    (tmp_path / "new.txt").write_text("\n\n".join(f"1\ta\ta\t{tag}" + "\t_" * 6 for tag in "XY"))
    assert READER.part(str(tmp_path / "new.txt"), schema, targets=True)[1][0].endswith(
        "('X', 'Y'); they count as wrong. Column upos was read. The run's tags are 'AUX', 'PART', 'PRON', 'PROPN', "
        "'PUNCT' and 1 more."
    )


BAD: dict[str, tuple[str | bytes, dict[str, Any], str]] = {
    "columns": ("a b X\nc d Y\n\ne f\n", {}, r"line 4: 2 columns found \('e f'\), expected 3, parted by blanks"),
    "cells": (UD + "\n1\tx\tX\n", {}, r"train.txt, line 14: 3 columns found .* expected 10, parted by tabs"),
    "number": (UD + "\nx\t" + "\t".join("abcdefghi") + "\n", {}, r"line 14: found 'x' as the word's number"),
    "column": (UD, {"target": "upso"}, r"data.target: unknown column 'upso'; did you mean 'upos'\?"),
    "no such column": (CONLL, {"target": 5}, r"data.target: is 5, of 4 columns; expected 1 to 4"),
    "no name": (CONLL, {"target": "ner"}, r"data.target: is 'ner', which no column is called; data.columns gives"),
    "names": (CONLL, {"columns": ["a", "b"]}, r"has 4 columns, data.columns names 2: a, b"),
    "same": (CONLL, {"text": 4}, r"column 4 of 4 would be both the word and its tag"),
    "not UTF-8": (b"a X\nb Y\n\nc\xff X\n", {"format": "conll"}, r"line 4: byte 10 \(ff\) is not utf-8"),
    "empty": ("", {}, r"train.txt: is empty"),
    "blank": ("\n\n\n", {"format": "conll"}, r"train.txt: holds no sentences"),
    "one tag": ("a X\n\nb X\n", {}, r"only the tag 'X' in the training data; expected at least two"),
    "no tags": ("just a text\nof two lines and more\n", {}, r"no format of tagged sentences fits; its first"),
    "plain": ("a b\nc\n", {"format": "sentences"}, r"plain sentences have no tags, which training needs"),
    "no such format": ("a b\n", {"format": "conl"}, r"data.format: unknown format 'conl'; did you mean 'conll'\?"),
    "scheme": ("a B-X\nb NN\n\nc O\n", {"scheme": "iob2"}, r"line 2: the tag 'NN' is none of iob2"),
    "JSON": ('{"tokens": ["a"], "tags": ["X"]}\n{"tokens": [}\n', {}, r"train.txt, line 2: is no JSON"),
    "JSON counts": ('{"tokens": ["a", "b"], "tags": ["X"]}\n', {}, r"train.txt, line 1: 1 tag for 2 words"),
    "JSON keys": ('{"tokens": ["a"], "tags": ["X"]}\n{"tokens": ["a"]}\n', {}, r"line 2: the object has no 'tags'"),
    "JSON words": ('{"tokens": "a b", "tags": ["X"]}\n', {}, r"line 1: tokens: found \"a b\", expected a list"),
    "no upos": ("1\ta" + "\t_" * 8 + "\n\n1\tb" + "\t_" * 8, {}, r"column upos is '_' throughout.*: none"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, settings, message = BAD[case]
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, **settings)


BAD_SLOTS = {
    "counts": (("a b\nc d e\n", "O O\nO O\n", None), r"seq.out, line 2: 2 tags for 3 words in seq.in; one a word"),
    "lines": (("a\nb\n", "O\n", None), r"seq.out: 1 lines, but seq.in has 2; one a sentence"),
    "labels": (("a\nb\n", "O\nX\n", "l\n"), r"label: 1 lines, but seq.in has 2"),
    "no words": (("a\n\nb\n", "O\n\nX\n", None), r"seq.in, line 2: the sentence has no words"),
    "no label": (("a\nb\n", "O\nX\n", "l\n \nm"), r"label: 3 lines|label, line 2: the label is empty"),
}


@pytest.mark.parametrize("case", BAD_SLOTS)
def test_bad_slots(tmp_path: Path, case: str) -> None:
    files, message = BAD_SLOTS[case]
    write_slots(tmp_path / "train", *files)
    with pytest.raises(DataError, match=message):
        READER.parts(str(tmp_path / "train"), "tag", SentenceSettings(**WHOLE))


def test_a_split_by_seed_settles_nothing_but_from_its_own_part(tmp_path: Path) -> None:
    content = "\n\n".join(f"w{i} {'XY'[i % 2]}" for i in range(50))
    parts = read(tmp_path, content, "train.conll", validation_fraction=0.1, test_fraction=0.2)
    assert [len(part) for part in parts.named.values()] == [35, 5, 10]
    assert len(parts.schema.vocabulary) == 2 + 35
    again = read(tmp_path, content, "train.conll", validation_fraction=0.1, test_fraction=0.2)
    assert again.test is not None
    assert parts.test is not None
    assert again.test.words.tolist() == parts.test.words.tolist()
    assert again.fingerprint == parts.fingerprint


def test_atis_and_english_ewt_as_their_readme_counts_them(data_folder: Path) -> None:
    atis = READER.parts(str(data_folder / "atis"), "tag", SentenceSettings())
    counted = {name: (len(part), int(part.lengths.sum())) for name, part in atis.named.items()}
    assert counted == {"train": (4478, 50497), "validation": (500, 5703), "test": (893, 9164)}
    assert (len(atis.schema.tags), len(atis.schema.labels), atis.schema.scheme) == (120, 21, "iob2")
    for name in ("dev", "test"):
        file = data_folder / "ud_english_ewt" / f"en_ewt-ud-{name}.conllu"
        found = READER.parts(str(file), "tag", SentenceSettings(**WHOLE, validation=str(file), test=str(file)))
        expected = {"dev": (2001, 25147), "test": (2077, 25094)}[name]
        assert (len(found.train), int(found.train.lengths.sum())) == expected
        assert len(found.schema.tags) == 17


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "x.conll.gz").write_bytes(gzip.compress(CONLL.encode()))
    assert len(READER.parts(str(tmp_path / "x.conll.gz"), "tag", SentenceSettings(**WHOLE)).train) == 2
