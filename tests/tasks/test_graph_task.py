"""The task `graph` by its command: it learns what counting cannot tell, and says what is wrong."""

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import recurra
from recurra.cli import main
from recurra.data.graph_reader import GraphReader
from recurra.data.graphs import GraphSchema, GraphSettings
from recurra.errors import DataError, RecipeError
from recurra.run.api import load, train
from recurra.run.sections.graph import drawing, layout
from recurra.tasks.graph import Graph, GraphsTold, GraphTrainSettings
from recurra.tasks.graph_network import GraphMember, GraphModelSettings, GraphNetwork, batch_of

SMALL = {"model.hidden_size": 16, "model.rounds": 4, "train.lr": 0.01}


def ring(lengths: list[int], draw: random.Random) -> dict[str, Any]:
    """Rings of these lengths, whose nodes have names that are drawn and say nothing."""
    edges, first = [], 0
    for length in lengths:
        edges += [[first + i, first + (i + 1) % length] for i in range(length)]
        first += length
    order = list(range(first))
    draw.shuffle(order)
    return {
        "nodes": [draw.choice("ab") for _ in order],
        "edges": [[order[s], order[t]] for s, t in edges],
        "edge_labels": ["plain"] * len(edges),
        "label": "triangles" if min(lengths) == 3 else "rings",
    }


def rings(count: int, seed: int) -> list[dict[str, Any]]:
    """Triangles beside longer rings: as many nodes and edges, and the same degrees, of both classes."""
    draw = random.Random(seed)
    graphs = []
    for i in range(count):
        one = ring([3, 3, 3, 3] if i % 2 else draw.choice([[4, 4, 4], [6, 6], [5, 7], [12]]), draw)
        marked = draw.randrange(12)  # messages tell of rings where a node stands out
        one["nodes"] = ["x" if node == marked else "a" for node in range(12)]
        graphs.append(one)
    return graphs


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rings")
    for part, count, seed in (("train", 200, 0), ("valid", 40, 1), ("test", 60, 2)):
        (path / f"{part}.jsonl").write_text("".join(json.dumps(g) + "\n" for g in rings(count, seed)), "utf-8")
    return path


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "rings"
    words = ["train", "graph", "--data", str(folder), "--out", str(out), "--set", "train.epochs=25"]
    for key, value in SMALL.items():
        words += ["--set", f"{key}={value}"]
    assert main(words) == 0
    return out


def test_it_learns_what_counting_cannot_tell(run: Path) -> None:
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert summary["test"]["accuracy"] > 0.95
    assert summary["baselines"]["majority"]["accuracy"] == pytest.approx(0.5)
    assert summary["baselines"]["counts"]["accuracy"] < 0.7
    assert summary["recipe"]["model"]["message"] == "edge_types"
    report = (run / "report.html").read_text("utf-8")
    for words in (
        "gru 16 over graphs, 4 rounds of edge_types messages, read by sum",
        "By the number of nodes",
        "<circle",
    ):
        assert words in report


def test_predictions(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = [{**one, "label": None, "id": f"g{i}"} for i, one in enumerate(rings(4, 7))]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(g) + "\n" for g in new), "utf-8")
    assert main(["predict", str(run), "--data", str(tmp_path / "new.jsonl")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "index,id,prediction,p_rings,p_triangles"
    assert [line.split(",")[:3] for line in lines[1:]] == [
        [str(i), f"g{i}", "triangles" if i % 2 else "rings"] for i in range(4)
    ]
    said = load(run).predict(new)
    assert said.labels == ["rings", "triangles"] * 2
    assert said.first(3).labels == said.labels[:3]


def test_evaluating(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(run), "--data", str(folder / "test.jsonl"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    assert found["metrics"]["accuracy"] == pytest.approx(summary["test"]["accuracy"])
    assert found["intervals"]["accuracy"] == pytest.approx(summary["test_intervals"]["accuracy"])


def test_there_is_no_time_to_look_along(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(run)]) == 2
    assert "gru 16 over graphs, 4 rounds" in (said := capsys.readouterr().err)
    assert "the instruments look along time, and it has none" in said


@pytest.mark.parametrize(
    "settings",
    [
        {"model.kind": "gcn"},
        {"model.kind": "mpnn", "model.members": 2},
        {"model.message": "network", "model.read": "all", "model.readout": "set2set"},
        {"model.message": "edge_network", "model.cell": "lstm", "model.begin": "pad", "model.aggregate": "mean"},
        {"model.message": "gcn", "model.cell": "elman", "model.head": [8], "model.readout": "max"},
        {"model.message": "linear", "model.label_dropout": 0.2, "model.message_size": 5, "train.precision": "64-true"},
    ],
)
def test_every_kind_learns(settings: dict[str, Any], tmp_path: Path) -> None:
    done = train("graph", rings(60, 3), out=tmp_path / "run", settings={**SMALL, "train.epochs": 3, **settings})
    assert np.isfinite([line["train_loss"] for line in done.history]).all()
    assert load(done.path).predict(rings(4, 5)).probabilities.shape == (4, 2)


def test_a_batch_is_its_graphs_one_by_one() -> None:
    """Graphs in a batch do not hear of each other; their order and that of their edges do not count."""
    reader = GraphReader()
    parts = reader.parts(rings(8, 0), "graph", GraphSettings(validation_fraction=0, test_fraction=0))
    for settings in ({}, {"kind": "gcn"}, {"kind": "mpnn"}, {"read": "all", "readout": "mean"}):
        task = Graph(parts.schema, GraphTrainSettings())
        network = task.build(GraphModelSettings(hidden_size=8, **settings), parts.train).double().eval()  # type: ignore
        whole = task.predict(network, parts.train, dtype=torch.float64).probabilities
        for i in range(8):
            alone = task.predict(network, parts.train.select([i]), dtype=torch.float64).probabilities
            np.testing.assert_allclose(alone[0], whole[i], rtol=1e-10)
        turned = task.predict(network, parts.train.select(range(7, -1, -1)), dtype=torch.float64).probabilities
        np.testing.assert_allclose(turned[::-1], whole, rtol=1e-10)


def test_probabilities_are_those_of_the_members_averaged() -> None:
    """And each learns as if it were alone: the loss is the mean of theirs."""
    parts = GraphReader().parts(rings(8, 0), "graph", GraphSettings(validation_fraction=0, test_fraction=0))
    task = Graph(parts.schema, GraphTrainSettings())
    network: Any = task.build(GraphModelSettings(hidden_size=8, members=3), parts.train).eval()
    batch = task.collate(parts.train, torch.arange(8))
    with torch.no_grad():
        alone = [member(*batch.inputs)[0] for member in network.members]
    assert not torch.allclose(alone[0], alone[1])
    said = task.predict(network, parts.train).probabilities
    np.testing.assert_allclose(said, np.mean([one.double().softmax(1).numpy() for one in alone], 0), rtol=1e-6)
    losses = [torch.nn.functional.cross_entropy(one, batch.labels).item() for one in alone if batch.labels is not None]
    assert task.loss(network, torch.stack(alone), batch).item() == pytest.approx(np.mean(losses), rel=1e-5)
    assert "mean of 3 networks" in network.words


def test_numbers_are_scaled_as_the_training_part_has_them() -> None:
    draw = np.random.default_rng(0)
    graphs = [
        {
            "nodes": np.stack([draw.normal(5, 3, 6), draw.integers(0, 2, 6), np.full(6, 7.0)], 1),
            "edges": [[0, 1]],
            "label": i,
        }
        for i in range(4)
    ]
    parts = GraphReader().parts(graphs, "graph", GraphSettings(validation_fraction=0, test_fraction=0))
    network: Any = Graph(parts.schema, GraphTrainSettings()).build(GraphModelSettings(hidden_size=8), parts.train)
    batch = batch_of(parts.train, torch.arange(4))
    x = network.members[0].at_nodes(batch.nodes, batch.attributes)
    assert x[:, 0].mean().item() == pytest.approx(0, abs=1e-6)
    assert x[:, 0].std(correction=0).item() == pytest.approx(1, rel=1e-5)
    assert x[:, 1].unique().tolist() == [0, 1]  # what is 0 and 1 alone stays
    assert x[:, 2].unique().tolist() == [0]


def nodes_of_a_chain(count: int) -> dict[str, Any]:
    """A long ring of which a few nodes are marked: is one marked within two steps?"""
    draw = random.Random(0)
    marked = [draw.random() < 0.15 for _ in range(count)]
    near = [any(marked[(i + d) % count] for d in range(-2, 3)) for i in range(count)]
    return {
        "nodes": ["x" if m else "o" for m in marked],
        "edges": [[i, (i + 1) % count] for i in range(count)],
        "labels": [str(n) if draw.random() < 0.8 else None for n in near],
    }


def test_nodes_of_one_graph(tmp_path: Path) -> None:
    chain = nodes_of_a_chain(400)
    settings = {**SMALL, "train.epochs": 100, "model.rounds": 2}
    done = train("graph", chain, out=tmp_path / "run", settings=settings)
    test = done.summary["test"]
    assert test["accuracy"] > 0.95
    assert done.summary["baselines"]["alone"]["accuracy"] < 0.9
    rows = (done.path / "test_predictions.csv").read_text("utf-8").splitlines()
    assert rows[0] == "index,node,target,prediction,p_False,p_True"
    asked = sum(label is not None for label in chain["labels"])
    assert len(rows) - 1 == pytest.approx(0.2 * asked, abs=1)  # the nodes of its own part alone
    said = done.predict(chain)
    assert len(said.labels) == 400
    assert sum(1 for _ in done.task.rows(said)) == 400
    other = train("graph", chain, out=tmp_path / "other", settings={**settings, "model.kind": "gcn", "train.epochs": 1})
    report = (other.path / "report.html").read_text("utf-8")
    assert "what is within two steps of them" in report  # the whole is too large to be drawn
    assert "True (False)" in report or "False (True)" in report
    assert recurra.load(other.path).schema.target == "node"
    assert main(["compare", str(done.path), str(other.path)]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["learn.rule=rtrl"], "learn.rule: 'rtrl' goes along time; over graphs bptt is expected"),
        (["train.temporal_l2=0.1"], "train.temporal_l2: looks at states along time"),
        (["model.cell=grv"], "model.cell: unknown cell 'grv'; did you mean 'gru'?"),
        (["model.kind=gcn", "model.cell=lstm"], "model.cell: kind = 'gcn' has no choice of it"),
        (["model.kind=mpnn", "data.target=node"], "no node has a class (labels, a class for each node)"),
        (["model.begin=pad", "model.hidden_size=1"], "model.input_size: 2 features cannot be padded to a state of 1"),
        (["model.reedout=sum"], "did you mean model.readout?"),
    ],
)
def test_settings_that_cannot_be(
    settings: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "graph", "--data", str(folder), "--out", str(tmp_path / "run")]
    for one in settings:
        words += ["--set", one]
    assert main(words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_messages_that_read_what_is_not_there(tmp_path: Path) -> None:
    bare = [{"nodes": 2, "edges": [[0, 1]], "label": i % 2} for i in range(10)]
    for settings, said in (
        ({"model.message": "edge_types"}, "edge_types has a matrix for each label of edges, and they have none here"),
        ({"model.message": "edge_network"}, "edge_network reads what stands at edges, which is nothing here"),
        ({"model.kind": "mpnn"}, "mpnn reads what stands at edges, which is nothing here"),
    ):
        with pytest.raises(RecipeError, match=said):
            train("graph", bare, out=tmp_path / "run", settings=settings)


class TestDrawings:
    def test_edges_are_as_long_as_each_other(self) -> None:
        """A ring and a ladder lie flat, every edge about 1 long and no two nodes on one place."""
        for nodes, edges in (
            (6, [(i, (i + 1) % 6) for i in range(6)]),
            (10, [(i, i + 1) for i in range(4)] + [(i + 5, i + 6) for i in range(4)] + [(i, i + 5) for i in range(5)]),
        ):
            p = layout(nodes, edges)
            lengths = [np.linalg.norm(p[a] - p[b]) for a, b in edges]
            assert min(lengths) > 0.7
            assert max(lengths) < 1.3
            apart = np.linalg.norm(p[:, None] - p, axis=2) + np.eye(nodes) * 9
            assert apart.min() > 0.7

    @pytest.mark.parametrize(("nodes", "edges"), [(1, []), (2, []), (3, [(0, 1)]), (2, [(0, 0)])])
    def test_graphs_that_are_not_connected(self, nodes: int, edges: list[tuple[int, int]]) -> None:
        p = layout(nodes, edges)
        assert p.shape == (nodes, 2)
        assert np.isfinite(p).all()
        assert nodes == 1 or (np.linalg.norm(p[:, None] - p, axis=2) + np.eye(nodes)).min() > 0.5

    def test_what_is_written_in_them_is_escaped(self) -> None:
        graphs = [{"nodes": ["<b>", "c"], "edges": [[0, 1]], "label": i} for i in range(2)]
        parts = GraphReader().parts(graphs, "graph", GraphSettings(validation_fraction=0, test_fraction=0))
        svg = drawing(GraphsTold(parts.train, parts.schema, np.full((2, 2), 0.5)), 0)
        assert svg.count("<circle") == 2
        assert "<b>" not in svg
        assert "&lt;b&gt;" in svg


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    graphs = [one | {"label": "x"} for one in rings(20, 0)]
    with pytest.raises(DataError, match=r"only the class 'x' in the training data; at least two are expected"):
        train("graph", graphs, out=tmp_path / "run", settings=SMALL)


def test_the_message_left_out_reads_all_that_stands_at_edges() -> None:
    both = GraphSchema(task="graph", format="jsonl", classes=["a", "b"], edge_labels=["s", "t"], edge_attributes=1)
    for changes, message in (
        ({}, "edge_network"),
        ({"edge_labels": []}, "edge_network"),
        ({"edge_attributes": 0}, "edge_types"),
        ({"edge_attributes": 0, "edge_labels": []}, "linear"),
    ):
        network = GraphNetwork(GraphModelSettings(), both.model_copy(update=changes))
        assert network.settings.message == message
    network = GraphNetwork(GraphModelSettings(), both)
    edges = GraphMember(network.settings, both).at_edges(torch.tensor([0, 1]), torch.tensor([[0.5], [2.0]]))
    assert edges is not None
    assert edges.tolist() == [[1, 0, 0.5], [0, 1, 2]]
