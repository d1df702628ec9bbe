"""Trees in brackets: what is written is read back, phrases are learnt from and never measured on, faults are told."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recurra.data import DataSettings, load_part, load_parts
from recurra.data.brackets import Trees, plain, read_trees
from recurra.data.load import choose_format
from recurra.errors import DataError

ALL = DataSettings(validation_fraction=0, test_fraction=0, min_count=1)


@dataclass
class Node:
    """A tree as a person would write it down."""

    label: str
    word: str = ""
    children: "list[Node]" = field(default_factory=list)

    def __str__(self) -> str:
        return f"({self.label} {self.word or ' '.join(map(str, self.children))})"

    def leaves(self) -> list[str]:
        return [self.word] if self.word else [w for child in self.children for w in child.leaves()]

    def below(self) -> "list[Node]":
        """Every node, children before their parent."""
        return [node for child in self.children for node in child.below()] + [self]


words = st.text(st.characters(exclude_characters="() \t\r\n\v\f", exclude_categories=["Cs"]), min_size=1, max_size=4)
labels = st.sampled_from("01234")
nodes = st.recursive(
    st.builds(Node, labels, words),
    lambda inner: st.builds(Node, labels, st.just(""), st.lists(inner, min_size=1, max_size=3)),
    max_leaves=12,
)


def built(trees: Trees) -> list[str]:
    """The trees of the arrays, written down again."""
    bounds = trees.children()
    written: list[str] = []
    for i, label in enumerate(trees.labels):
        children = bounds[0][bounds[1][i] : bounds[1][i + 1]].tolist()
        first, stop = trees.spans[i].tolist()
        inside = " ".join(written[child] for child in children) if children else trees.words[first]
        assert children or stop == first + 1
        written.append(f"({trees.symbols[label]} {inside})")
    return [written[root] for root in trees.roots]


@settings(max_examples=60)
@given(st.lists(nodes, min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read_back(forest: list[Node], indented: bool) -> None:
    text = "\n".join(map(str, forest)) + "\n"
    if indented:
        text = text.replace(" (", "\n  (")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.txt"
        path.write_bytes(text.encode())
        trees = read_trees(path)
    assert built(trees) == list(map(str, forest))
    every = [node for tree in forest for node in tree.below()]
    spans = [trees.words[a:b] for a, b in trees.spans.tolist()]
    assert spans == [node.leaves() for node in every]
    assert [trees.symbols[label] for label in trees.labels] == [node.label for node in every]
    assert np.diff(trees.offsets).tolist() == [len(tree.below()) for tree in forest]
    if not indented:
        assert trees.lines.tolist() == list(range(1, len(forest) + 1))


TRAIN = r"""(3 (2 It) (4 (2 's) (3 (2 a) (4 Film))))
(1 (2 It) (1 (2 's) (0 (2 a) (1 bore))))
(2 (2 A) (2 (2 -LRB-) (2 2\/3)))
"""
DEV = "(4 (2 A) (4 Film))\n(2 It)\n"


def folder_of(tmp_path: Path, train: str = TRAIN, dev: str | None = DEV, test: str | None = DEV) -> Path:
    for name, text in (("train", train), ("dev", dev), ("test", test)):
        if text is not None:
            (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    return tmp_path


def read(part, schema) -> list[tuple[str, str]]:
    """Words and label of each sequence."""
    return [
        (
            " ".join(schema.vocabulary[k] for k in part.sequence(i).tolist()),
            schema.classes[int(part.targets[i])] if part.targets[i] >= 0 else "",
        )
        for i in range(len(part))
    ]


def test_sentences_and_the_labels_of_their_roots(tmp_path: Path) -> None:
    parts = load_parts(folder_of(tmp_path), "classify", ALL)
    assert parts.schema.format == "brackets"
    assert parts.schema.classes == ["1", "2", "3"]
    assert read(parts.train, parts.schema) == [("it 's a film", "3"), ("it 's a bore", "1"), ("a ( 2/3", "2")]
    assert parts.validation is not None
    assert read(parts.validation, parts.schema) == [("a film", ""), ("it", "2")]
    assert any("'4'" in said and "count as wrong" in said for said in parts.warnings)


def test_phrases_are_learnt_from_and_never_measured_on(tmp_path: Path) -> None:
    options = ALL.model_copy(update={"phrases": "all"})
    parts = load_parts(folder_of(tmp_path), "classify", options)
    found = read(parts.train, parts.schema)
    assert len(found) == TRAIN.count("(")
    assert found[:3] == [("it 's a film", "3"), ("it 's a bore", "1"), ("a ( 2/3", "2")]
    assert found[3:10] == [
        ("it", "2"),
        ("'s", "2"),
        ("a", "2"),
        ("film", "4"),
        ("a film", "3"),
        ("'s a film", "4"),
        ("it", "2"),
    ]
    assert parts.validation is not None
    assert parts.test is not None
    assert len(parts.validation) == len(parts.test) == 2

    parts = load_parts(folder_of(tmp_path), "classify", options.model_copy(update={"phrases": "distinct"}))
    assert read(parts.train, parts.schema) == list(dict.fromkeys(found))
    part, _ = load_part(tmp_path / "train.txt", parts.schema, targets=True)
    assert len(part) == 3


@settings(max_examples=30)
@given(st.lists(nodes, min_size=8, max_size=12), st.integers(0, 3), st.sampled_from(["distinct", "all"]))
def test_no_phrase_of_a_sentence_that_is_measured_on_is_learnt(forest: list[Node], seed: int, phrases: str) -> None:
    forest = [*forest, Node("0", "x"), Node("1", "y"), Node("0", "x"), Node("1", "y")]
    marked = [Node(tree.label, "", [tree, Node("0", f"mark{i}")]) for i, tree in enumerate(forest)]
    plain_settings = DataSettings(
        format="brackets", validation_fraction=0.2, test_fraction=0.2, min_count=1, stratify=False
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.txt"
        path.write_bytes("\n".join(map(str, marked)).encode())
        parts = load_parts(path, "classify", plain_settings.model_copy(update={"phrases": phrases}), seed=seed)
        plainly = load_parts(path, "classify", plain_settings, seed=seed)
    counts = {"train": len(plainly.train)}
    for name in ("validation", "test"):
        part = getattr(parts, name)
        assert len(part) == len(getattr(plainly, name))
        counts[name] = len(part)
    assert sum(counts.values()) == len(forest)
    # The mark of a sentence is met where it is learnt from: as itself, and in the whole.
    learnt = {
        word for text, _ in read(parts.train, parts.schema) for word in text.split(" ") if word.startswith("mark")
    }
    assert len(learnt) == counts["train"]
    held = [tree for i, tree in enumerate(marked) if f"mark{i}" not in learnt]
    assert len(held) == counts["validation"] + counts["test"]
    expected = [
        (tuple(w.lower() for w in map(plain, node.leaves())), node.label)
        for tree in marked
        if tree not in held
        for node in tree.below()
    ]
    assert len(parts.train) == len(expected if phrases == "all" else set(expected))


def test_classes_of_several_labels(tmp_path: Path) -> None:
    merged = {"negative": [0, 1], "positive": ["3", 4]}
    options = ALL.model_copy(update={"merge_labels": merged, "phrases": "all"})
    parts = load_parts(folder_of(tmp_path), "classify", options)
    assert parts.schema.classes == ["negative", "positive"]
    assert read(parts.train, parts.schema) == [
        ("it 's a film", "positive"),
        ("it 's a bore", "negative"),
        ("film", "positive"),
        ("a film", "positive"),
        ("'s a film", "positive"),
        ("bore", "negative"),
        ("a bore", "negative"),
        ("'s a bore", "negative"),
    ]
    assert parts.test is not None
    assert read(parts.test, parts.schema) == [("a film", "positive")]
    assert (
        f"{tmp_path / 'dev.txt'}: 1 of 2 sequences have a label that is in no class ('2') and are left out."
        in parts.warnings
    )

    part, said = load_part(tmp_path / "dev.txt", parts.schema)  # to predict, each line has its answer
    assert read(part, parts.schema) == [("a film", "positive"), ("it", "")]
    assert said == [f"{tmp_path / 'dev.txt'}: 1 of 2 sequences have a label that is in no class ('2')."]
    part, _ = load_part(tmp_path / "dev.txt", parts.schema, targets=True)
    assert len(part) == 1


@pytest.mark.parametrize(
    ("merged", "said"),
    [
        ({"bad": [0, 1], "good": [1, 3]}, "data.merge_labels: '1' is there twice"),
        ({"bad": [0, 1], "good": [9]}, "data.merge_labels: unknown label '9'. Known: 0, 1, 2, 3, 4 "),
    ],
)
def test_classes_that_cannot_be(tmp_path: Path, merged: dict[str, list[str | int]], said: str) -> None:
    options = ALL.model_copy(update={"merge_labels": merged, "phrases": "all"})
    with pytest.raises(DataError) as caught:
        load_parts(folder_of(tmp_path), "classify", options)
    assert str(caught.value).startswith(said)


def test_no_sequence_is_left(tmp_path: Path) -> None:
    options = ALL.model_copy(update={"merge_labels": {"bad": [1], "good": [3]}})
    schema = load_parts(folder_of(tmp_path, dev=None, test=None), "classify", options).schema
    (tmp_path / "more.txt").write_text("(2 a)\n")
    with pytest.raises(DataError, match=r"more.txt: 1 of 1 sequences have a label .* \('2'\); none is left."):
        load_part(tmp_path / "more.txt", schema, targets=True)


def test_labels_of_steps_are_merged_too(tmp_path: Path) -> None:
    rows = ["id,t,x,label", *(f"{i},{t},{t / 10},{'abc'[(i + t) % 3]}" for i in range(4) for t in range(6))]
    path = tmp_path / "steps.csv"
    path.write_text("\n".join(rows) + "\n")
    parts = load_parts(path, "classify", ALL.model_copy(update={"merge_labels": {"first": ["a"], "second": ["c"]}}))
    assert parts.schema.classes == ["first", "second"]
    assert parts.train.asked is not None
    assert parts.train.targets is not None
    asked = [(i + t) % 3 != 1 for i in range(4) for t in range(6)]
    assert parts.train.asked.tolist() == asked
    wanted = [(i + t) % 3 // 2 for i in range(4) for t in range(6)]
    assert parts.train.targets[parts.train.asked].tolist() == [
        w for w, there in zip(wanted, asked, strict=True) if there
    ]
    assert any("at 8 of 24 steps the label is in no class" in said for said in parts.warnings)


def test_plain_texts_are_read_under_the_schema(tmp_path: Path) -> None:
    schema = load_parts(folder_of(tmp_path), "classify", ALL).schema
    (tmp_path / "more.txt").write_text("It's a bore (2/3)!\na film\n\n")
    part, _ = load_part(tmp_path / "more.txt", schema)
    assert part.targets is None
    shown = [" ".join(schema.vocabulary[k] for k in part.sequence(i).tolist()) for i in range(2)]
    assert shown == ["it 's a bore ( <unk> <unk> <unk> <unk> <unk>", "a film"]
    with pytest.raises(DataError, match=r"has no labels"):
        load_part(tmp_path / "more.txt", schema, targets=True)
    (tmp_path / "more.txt").write_text("a\n\nb\n")
    with pytest.raises(DataError, match=r"more.txt, line 2: the text is empty"):
        load_part(tmp_path / "more.txt", schema)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(3 (2 a) (2 b)\n(2 c)\n", "line 1, column 1: the tree that begins here does not end: one ')' is missing."),
        ("(2 c)\n(3 (2 a) (2 (2 b\n", "line 2, column 1: the tree that begins here does not end: 3 ')' are missing."),
        ("(2 c) (", "line 1, column 7: the tree that begins here does not end: one ')' is missing."),
        ("(2 c))\n", "line 1, column 6: found ')', which closes nothing; expected a tree, which begins with '('."),
        ("(2 c) d\n", "line 1, column 7: found 'd'; expected a tree, which begins with '('."),
        ("(2 c)\n(3 (2) (2 b))\n", "line 2, column 4: the tree (2) is empty, expected a word or trees."),
        ("(2 c)\n(3 () (2 b))\n", "line 2, column 4: the tree is empty, expected a label and a word: (2 word)."),
        ("(2 c)\n(3 ((2 b)))\n", "line 2, column 5: found '(', expected the label of the bracket before it."),
        ("(((2 b)))\n", "line 1, column 3: found '(', expected the label of the bracket before it."),
        (
            "( (2 b) (2 c))\n",
            "line 1, column 9: found a second tree within a bracket without a label, expected ')'.",
        ),
        ("( (2 b)\n(2 c)\n", "line 1, column 1: the tree that begins here does not end: one ')' is missing."),
        (
            "(3 (2 New York))\n",
            "line 1, column 11: found 'York' after 'New'; a bracket holds one word, or trees: (3 (2 New) (2 York)).",
        ),
        (
            "(3 (2 New) York)\n",
            "line 1, column 12: found 'York' after trees; a bracket holds one word, or trees: (3 (2 New) (2 York)).",
        ),
        (
            "(3 New (2 York))\n",
            "line 1, column 8: found '(' after 'New'; a bracket holds one word, or trees: (3 (2 New) (2 York)).",
        ),
        (
            "(3 (2 a)\n   (good b))\n",
            "line 2, column 4: found the label 'good', expected a whole number as before: 3.",
        ),
        ("(S (2 a) (NP b))\n", "line 1, column 4: found the label '2', expected none as before: S."),
        ("(2 c)\n(2\u00a0x y)\n", "line 2, column 1: found the label '2\\xa0x', expected a whole number as before: 2."),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_trees(path)
    assert str(caught.value) == f"{path}, {said}"


def test_faults_of_settings(tmp_path: Path) -> None:
    path = folder_of(tmp_path)
    with pytest.raises(DataError, match=r"the task regress finds nothing to predict"):
        load_parts(path, "regress", ALL.model_copy(update={"format": "brackets"}))
    with pytest.raises(DataError, match=r"data.unit: character; the leaves of the trees of .* are words"):
        load_parts(path, "classify", ALL.model_copy(update={"unit": "character"}))
    (tmp_path / "t.tsv").write_text("good\ta fine film of note\nbad\ta bore of a film\n" * 3)
    with pytest.raises(DataError, match=r"data.phrases: all: .*t.tsv holds no trees"):
        load_parts(tmp_path / "t.tsv", "classify", ALL.model_copy(update={"phrases": "all"}))
    (tmp_path / "t.tsv").write_text(" \n")
    with pytest.raises(DataError, match=r"t.tsv: holds no trees"):
        read_trees(tmp_path / "t.tsv")


def test_a_bracket_around_a_tree_is_none(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("( (S (NP (DT the)\n (NN dog)) (VBD ran)) )\n((S a))\n(S b)\n")
    trees = read_trees(tmp_path / "x.txt")
    assert [trees.symbols[k] for k in trees.labels] == ["DT", "NN", "NP", "VBD", "S", "S", "S"]
    assert trees.words == ["the", "dog", "ran", "a", "b"]
    assert trees.roots.tolist() == [4, 5, 6]
    assert choose_format(tmp_path / "x.txt", "classify", ALL).name == "brackets"


@pytest.mark.parametrize("text", ["(3 (2 a) (2 b))", "(2 word)", "\n\n  (NP (DT the) (NN dog))", "(3 (2 a)\n  (2 b))"])
def test_is_known_by_its_first_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text + "\n")
    assert choose_format(tmp_path / "x.txt", "classify", ALL).name == "brackets"


@pytest.mark.parametrize("text", ["(a) first\tx y z\n(b) second\tu v w", "word (2 x)", "()", "(really) good"])
def test_is_not_taken_for_trees(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.txt").write_text(text + "\n")
    try:
        found = choose_format(tmp_path / "x.txt", "classify", ALL).name
    except DataError:
        return
    assert found != "brackets"


def test_a_deep_tree(tmp_path: Path) -> None:
    depth = 20_000
    (tmp_path / "x.txt").write_text("(1 " * depth + "(0 a)" + ")" * depth + "\n(0 b)\n")
    trees = read_trees(tmp_path / "x.txt")
    assert np.diff(trees.offsets).tolist() == [depth + 1, 1]
    assert trees.parents[:depth].tolist() == list(range(1, depth + 1))


def test_the_sentiment_treebank(data_folder: Path) -> None:
    folder = data_folder / "sst"
    parts = load_parts(folder, "classify", DataSettings(min_count=1))
    assert parts.schema.classes == ["0", "1", "2", "3", "4"]
    assert parts.validation is not None
    assert parts.test is not None
    assert parts.train.targets is not None
    assert [len(parts.train), len(parts.validation), len(parts.test)] == [8544, 1101, 2210]
    assert [len(part.values) for part in (parts.train, parts.validation, parts.test)] == [163563, 21274, 42405]
    assert parts.train.targets.bincount().tolist() == [1092, 2218, 1624, 2322, 1288]
    for text, trees in ((path.read_bytes().decode(), read_trees(path)) for path in sorted(folder.glob("*.txt"))):
        assert built(trees) == text.rstrip("\n").split("\n")

    merged: dict[str, list[str | int]] = {"negative": [0, 1], "positive": [3, 4]}
    parts = load_parts(folder, "classify", DataSettings(min_count=1, phrases="distinct", merge_labels=merged))
    assert parts.validation is not None
    assert parts.test is not None
    assert [len(parts.validation), len(parts.test)] == [872, 1821]  # the numbers of SST-2
