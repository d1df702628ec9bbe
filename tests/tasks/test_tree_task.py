"""The task `tree` by its command: it learns, says every node, and tells what is wrong."""

import gzip
import json
import random
from pathlib import Path

import pytest
import torch

from recurra.cli import main
from recurra.run.api import load, train
from recurra.tasks.tree_network import TreeModelSettings


def made(count: int, seed: int) -> str:
    """Trees over bits whose label at each node is the exclusive or of what stands below: order and depth both count."""
    draw = random.Random(seed)

    def grow(depth: int) -> tuple[str, int]:
        if depth == 0 or draw.random() < 0.25:
            bit = draw.randrange(2)
            return f"({bit} {'one' if bit else 'nil'})", bit
        (left, a), (right, b) = grow(depth - 1), grow(depth - 1)
        return f"({a ^ b} {left} {right})", a ^ b

    return "".join(f"{grow(4)[0]}\n" for _ in range(count))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("parity")
    for part, count, seed in (("train", 400, 0), ("valid", 60, 1), ("test", 80, 2)):
        (path / f"{part}.txt").write_text(made(count, seed), "utf-8")
    return path


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "parity"
    words = ["train", "tree", "--data", str(folder), "--out", str(out)]
    for key in ("model.hidden_size=16", "model.embedding_size=8", "train.epochs=25", "train.lr=0.02"):
        words += ["--set", key]
    assert main(words) == 0
    return out


def test_it_learns_what_no_bag_of_words_can(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["test"]["accuracy"] > 0.97
    assert summary["test"]["node_accuracy"] > 0.97
    assert summary["baselines"]["majority"]["accuracy"] < 0.7
    report = (run / "report.html").read_text("utf-8")
    assert "N-ary Tree-LSTM of 2 children" in report
    assert "Nodes by the words below them" in report
    assert "<circle" in report


def test_predictions(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.txt").write_text("(0 (0 one) (0 (0 nil) (0 one)))\n(0 nil)\n", "utf-8")
    for format, expected in (
        ("text", ["(0 (1 one) (1 (0 nil) (1 one)))", "(0 nil)"]),
        ("jsonl", None),
        ("csv", None),
    ):
        assert main(["predict", str(run), "--data", str(tmp_path / "new.txt"), "--output-format", format]) == 0
        lines = capsys.readouterr().out.splitlines()
        if expected is not None:
            assert lines == expected
        elif format == "jsonl":
            assert json.loads(lines[0]) == {
                "tokens": ["one", "nil", "one", None, None],
                "parents": [4, 3, 3, 4, -1],
                "labels": ["1", "0", "1", "1", "0"],
            }
        else:
            assert lines[0] == "index,prediction,p_0,p_1"
            assert lines[1].startswith("0,0,0.9")


def test_a_node_of_more_children_than_in_training(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new.txt").write_text("(0 one)\n(0 (0 one) (0 nil) (0 one))\n", "utf-8")
    assert main(["predict", str(run), "--data", str(tmp_path / "new.txt")]) == 2
    said = capsys.readouterr().err
    assert "tree 2 (line 2): a node has 3 children, but the network is a N-ary Tree-LSTM of 2 children" in said
    assert "model.kind=child_sum_lstm takes any number" in said


def test_evaluating_and_going_through_python(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--data", str(folder / "test.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert found["metrics"]["accuracy"] == pytest.approx(summary["test"]["accuracy"])
    said = load(run).predict([{"tokens": ["one", "one", None], "parents": [2, 2, -1]}])
    assert len(said) == 1


@pytest.mark.parametrize("kind", ["child_sum_lstm", "s_lstm", "recursive", "child_sum"])
def test_every_kind_learns(kind: str, folder: Path, tmp_path: Path) -> None:
    settings = {"model.kind": kind, "model.hidden_size": 16, "train.epochs": 2, "train.lr": 0.02}
    if kind != "recursive":
        settings["model.embedding_size"] = 8
    found = train("tree", data=folder, out=tmp_path / kind, settings=settings)
    losses = [line["train_loss"] for line in found.history if "train_loss" in line]
    assert torch.tensor(losses).isfinite().all()
    assert found.summary["test"]["node_accuracy"] > 0.5


def test_vectors_of_glove_are_begun_with(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with gzip.open(tmp_path / "glove.3d.txt.gz", "wt", encoding="utf-8") as file:
        file.write("one 0.5 -0.25 1\nelse 9 9 9\n")
    words = ["train", "tree", "--data", str(folder), "--out", str(tmp_path / "run")]
    for one in (f"model.vectors={tmp_path / 'glove.3d.txt.gz'}", "model.embedding_size=3", "model.freeze_vectors=true"):
        words += ["--set", one]
    assert main([*words, "--set", "train.epochs=1", "--set", "model.hidden_size=4"]) == 0
    assert "vectors for 1 of the 2 words of the vocabulary" in capsys.readouterr().err
    run = load(tmp_path / "run")
    vectors = run.network.embedding.weight
    assert vectors[run.schema.vocabulary.index("one")].tolist() == [0.5, -0.25, 1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["learn.rule=rtrl"], "learn.rule: 'rtrl' goes along time; over trees bptt is expected"),
        (["learn.carry_state=true"], "learn.carry_state: a tree does not go on where the last one ended; leave it out"),
        (["train.temporal_l2=0.1"], "train.temporal_l2: looks at states along time"),
        (["model.kind=child_sum", "model.cell=clockwork"], "model.cell: field 't' of 'clockwork' counts steps"),
        (["model.kind=child_sum", "model.children=2"], "children: child_sum takes any number of them"),
        (
            ["model.children=1"],
            "tree 1 (line 1): a node has 2 children, but the network is a N-ary Tree-LSTM of 1 child, 150 units. In "
            "training, model.children=2 makes room",
        ),
        (["model.kind=recursive", "model.cell=lstm"], "cell: recursive has a step of its own; kind child_sum takes"),
        (["model.hiden_size=3"], "did you mean model.hidden_size?"),
    ],
)
def test_settings_that_cannot_be(
    settings: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tree", "--data", str(folder), "--out", str(tmp_path / "run")]
    for one in settings:
        words += ["--set", one]
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_the_words_of_a_recursive_network_are_its_leaves() -> None:
    assert TreeModelSettings(kind="recursive", hidden_size=12).embedding_size == 12
    with pytest.raises(ValueError, match="a word's vector is its leaf's state, hidden_size 12 wide, not 5"):
        TreeModelSettings(kind="recursive", hidden_size=12, embedding_size=5)
