"""Trees from brackets, JSON lines and Python: what is read, and what is told where they are none."""

import json
from pathlib import Path
from typing import Any

import pytest

from recurra.data.tree_reader import TreeReader
from recurra.data.trees import TreeSettings
from recurra.errors import DataError

ALL = {"validation_fraction": 0.0, "test_fraction": 0.0}
BRACKETS = "(3 (2 It) (4 (2 works) (3 well)))\n(1 (2 It) (1 fails))\n"
LINES = [
    {"tokens": ["She", "sees", "stars"], "parents": [1, -1, 1], "labels": ["s", "v", "o"]},
    {"tokens": ["stars", None], "parents": [1, -1], "label": "v"},
]


def read(source: Any, **settings: Any) -> Any:
    return TreeReader().parts(source, "tree", TreeSettings(**{**ALL, **settings}))


def written(tmp_path: Path, text: str, name: str = "trees.txt") -> Path:
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return path


def test_brackets(tmp_path: Path) -> None:
    parts = read(written(tmp_path, BRACKETS))
    train, schema = parts.train, parts.schema
    assert schema.classes == ["1", "2", "3", "4"]
    assert schema.vocabulary == ["<pad>", "<unk>", "it", "fails", "well", "works"]
    assert train.lengths.tolist() == [5, 3]
    assert train.parents.tolist() == [4, 3, 3, 4, -1, 2, 2, -1]
    assert [train.word(i) for i in range(8)] == ["It", "works", "well", None, None, "It", "fails", None]
    assert train.roots.tolist() == [4, 7]
    assert [schema.classes[k] for k in train.labels.tolist()] == ["2", "2", "3", "4", "3", "2", "1", "1"]
    assert train.written(0, ["a", "b", "c", "d", "e"]) == "(e (a It) (d (b works) (c well)))"
    second = train.select([1])
    assert second.written(0, ["x", "y", "z"]) == "(z (x It) (y fails))"


def test_json_lines_and_python(tmp_path: Path) -> None:
    lines = "\n".join(map(json.dumps, LINES)) + "\n"
    from_file, given = read(written(tmp_path, lines, "a.jsonl")), read(LINES)
    for parts in (from_file, given):
        train, schema = parts.train, parts.schema
        assert schema.classes == ["o", "s", "v"]
        assert train.words.tolist() == [schema.vocabulary.index(w) for w in ("she", "sees", "stars", "stars")] + [0]
        assert train.parents.tolist() == [1, -1, 1, 1, -1]
        assert train.labels.tolist() == [1, 2, 0, -1, 2]  # of the second, the root alone has one
    assert from_file.train.written(0, ["a", "b", "c"]) == "(b sees (a She) (c stars))"


def test_what_is_written_in_brackets_is_read_back(tmp_path: Path) -> None:
    words = ["(", ")", "f(x)", "New York", "a/b", None]
    given = [{"tokens": words, "parents": [5, 5, 5, 5, 5, -1], "labels": [1, 2, 1, 2, 1, 2]}] * 3
    text = read(given).train.written(0, ["1", "2", "1", "2", "1", "2"])
    assert text == "(2 (1 -LRB-) (2 -RRB-) (1 f-LRB-x-RRB-) (2 New\u00a0York) (1 a/b))"
    again = read(written(tmp_path, f"{text}\n" * 3)).train
    assert [again.word(i) for i in range(5)] == ["(", ")", "f-LRB-x-RRB-", "New\u00a0York", "a/b"]


def test_classes_made_of_labels(tmp_path: Path) -> None:
    parts = read(written(tmp_path, BRACKETS + "(2 (2 meh) (1 no))\n"), merge_labels={"bad": [1], "good": [3, 4]})
    assert parts.schema.classes == ["bad", "good"]
    assert len(parts.train) == 2
    assert parts.train.labels.tolist() == [-1, -1, 1, 1, 1, -1, 0, 0]
    assert "1 of 3 trees have a root of no class of data.merge_labels" in parts.warnings[0]
    with pytest.raises(DataError, match=r"data.merge_labels: unknown label '9'"):
        read(written(tmp_path, BRACKETS), merge_labels={"bad": [9]})


def test_the_real_treebank(data_folder: Path) -> None:
    parts = TreeReader().parts(data_folder / "sst", "tree", TreeSettings())
    assert [len(part) for part in parts.named.values()] == [8544, 1101, 2210]
    assert parts.schema.classes == ["0", "1", "2", "3", "4"]
    assert parts.train.labels is not None
    roots = parts.train.labels[parts.train.roots]
    assert roots.bincount().tolist() == [1092, 2218, 1624, 2322, 1288]
    assert int((parts.train.surface >= 0).sum()) == 163_563


def test_further_trees_with_and_without_labels(tmp_path: Path) -> None:
    reader, parts = TreeReader(), read(written(tmp_path, BRACKETS))
    found, _ = reader.part([{"tokens": ["It", "flies", None], "parents": [2, 2, -1]}], parts.schema)
    assert found.labels is None
    assert found.words.tolist() == [2, 1, 0]
    with pytest.raises(DataError, match=r"the data given, tree 1: the tree's root has no label"):
        reader.part([{"tokens": ["It"], "parents": [-1]}], parts.schema, targets=True)
    with pytest.raises(DataError, match=r"more.txt, line 2: unknown label '7'"):
        reader.part(written(tmp_path, "(3 (2 a) (2 b))\n(7 (2 a) (2 b))\n", "more.txt"), parts.schema, targets=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "(3 (2 a) (2 b)\n",
            r"trees.txt, line 1, column 1: the tree that begins here does not end: one '\)' is missing",
        ),
        ("(3 (2 a) (2 b)))\n", r"trees.txt, line 1, column 16: found '\)', which closes nothing"),
        ("(3 (2 a) (2))\n", r"trees.txt, line 1, column 10: the tree \(2\) is empty"),
        ('{"tokens": ["a"], "parents": [0]}\n', r"trees.txt, line 1: nodes 0 → 0 stand below each other, in a circle"),
        (
            '{"tokens": ["a", "b", "c"], "parents": [1, 2, 0]}\n',
            r"trees.txt, line 1: nodes 0 → 2 → 1 → 0 stand below each other, in a circle",
        ),
        ('{"tokens": ["a"], "parents": [4]}\n', r"line 1: parents: that of node 0 is 4; a node from 0 to 0, or -1"),
        ('{"tokens": ["a"], "parents": [-1, 0]}\n', r"line 1: tokens: 1 for 2 parents; one for each node"),
        (
            '{"tokens": ["a", "b"], "parents": [-1, -1]}\n',
            r"line 1: nodes 0 and 1 have no parent \(-1\); a tree has one",
        ),
        ('{"tokens": [], "parents": []}\n', r"line 1: parents: found \[\]; a list with something for each node"),
        (
            '{"words": ["a"], "parents": [-1]}\n',
            r"line 1: unknown key 'words'.* Known: id, label, labels, parents, tokens",
        ),
        ('{"tokens": ["a"], "parents": [-1]\n', r"line 1, column \d+: no JSON"),
        ('{"tokens": [3], "parents": [-1], "label": 1}\n', r"line 1: tokens: found 3; a word, or null, is expected"),
        (
            '{"tokens": [" "], "parents": [-1], "label": 1}\n',
            r"line 1: tokens: found ' '; a word, or null, is expected",
        ),
        ('{"tokens": ["a"], "parents": [-1], "label": NaN}\n', r"line 1: labels: found nan; a name or a whole number"),
        ('{"tokens": ["a"], "parents": [-1], "labels": [true]}\n', r"line 1: labels: found True; a name or a whole"),
        (
            '{"tokens": ["a", "b"], "parents": [1, -1], "labels": ["x", "y"], "label": "x"}\n',
            r"line 1: label is 'x', but labels has 'y' for the root; give one of them",
        ),
        ('{"tokens": ["a"], "parents": [-1], "label": 1}\n' * 9, r"trees.txt: all labels are '1'; two classes or more"),
        ('[{"tokens": ["a"], "parents": [-1], "label": 1}]\n', r"trees.txt: is a JSON array; JSON lines are expected"),
        ('{"tokens": ' + "[" * 100_000 + "\n", r"trees.txt, line 1: lists within lists without end"),
        ('{"tokens": ["a"], "parents": [-1]}\n', r"trees.txt: no node has a label, which training needs"),
    ],
)
def test_what_is_no_tree(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(written(tmp_path, text))


def test_a_format_that_there_is_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.format: unknown format 'bracket'; did you mean 'brackets'\?"):
        read(written(tmp_path, BRACKETS), format="bracket")
