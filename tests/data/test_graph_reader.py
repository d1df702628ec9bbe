"""Graphs of the TU format, JSON lines and Python: what is read, and what is told where they are none."""

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.graph_reader import GraphReader
from recurra.data.graphs import GraphSettings
from recurra.errors import DataError

ALL: dict[str, Any] = {"validation_fraction": 0.0, "test_fraction": 0.0}

FILES = {
    "A": "1, 2\n2, 1\n2, 3\n3, 2\n5, 4\n4, 5\n",
    "graph_indicator": "1\n1\n1\n2\n2\n3\n",
    "graph_labels": "-1\n1\n1\n",
    "node_labels": "0\n6\n0\n0\n6\n10\n",
    "edge_labels": "1\n1\n0\n0\n1\n1\n",
    "node_attributes": "0.5, 1\n0, 2\n0, 3\n0, 4\n0, 5\n1e-1, 6\n",
}
"""Two chains, of three nodes and of two, and a node alone."""

LINES = [
    {"nodes": ["C", "O", "C"], "edges": [[0, 1], [1, 2]], "edge_labels": ["double", "single"], "label": "ketone"},
    {"nodes": ["C", None], "edges": [[0, 1]], "edge_labels": ["single"], "label": "other", "id": "b"},
    {"nodes": ["O"], "edges": [], "label": "other"},
]


def read(source: Any, **settings: Any) -> Any:
    return GraphReader().parts(source, "graph", GraphSettings(**{**ALL, **settings}))


def data_of_pyg() -> Any:
    """PyTorch Geometric's class, whose import warns of PyTorch's own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch_geometric.data").Data


def written(folder: Path, **changes: str | None) -> Path:
    """The files above, with some of them changed or left out."""
    folder.mkdir(exist_ok=True)
    for kind, text in (FILES | changes).items():
        if text is not None:
            (folder / f"TOY_{kind}.txt").write_text(text, "utf-8")
    return folder


def test_the_tu_format(tmp_path: Path) -> None:
    parts = read(written(tmp_path / "toy"))
    train, schema = parts.train, parts.schema
    assert train.lengths.tolist() == [3, 2, 1]
    assert schema.classes == ["-1", "1"]
    assert train.labels.tolist() == [0, 1, 1]
    assert schema.node_labels == ["0", "6", "10"]  # by value
    assert train.nodes.tolist() == [0, 1, 0, 0, 1, 2]
    assert train.edges.tolist() == [[0, 1, 1, 2, 1, 0], [1, 0, 2, 1, 0, 1]]
    assert train.edge_index.tolist() == [[0, 1, 1, 2, 4, 3], [1, 0, 2, 1, 3, 4]]
    assert [schema.edge_labels[k] for k in train.edge_labels.tolist()] == list("110011")
    assert train.edge_counts.tolist() == [4, 2, 0]
    assert train.attributes[:, 1].tolist() == [1, 2, 3, 4, 5, 6]
    assert train.attributes[5, 0].item() == pytest.approx(0.1)
    turned = train.select([2, 0])
    assert turned.lengths.tolist() == [1, 3]
    assert turned.edge_index.tolist() == [[1, 2, 2, 3], [2, 1, 3, 2]]
    assert turned.labels.tolist() == [1, 0]
    assert turned.pairs(1) == [(0, 1, schema.edge_labels.index("1")), (1, 2, schema.edge_labels.index("0"))]
    assert not parts.warnings


def test_an_archive_and_the_file_of_edges_are_read_alike(tmp_path: Path) -> None:
    folder = written(tmp_path / "toy")
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        for file in folder.iterdir():
            archive.writestr(f"TOY/{file.name}", file.read_bytes())
    whole = read(folder)
    for source in (tmp_path / "toy.zip", folder / "TOY_A.txt"):
        found = read(source)
        assert found.schema == whole.schema
        assert torch.equal(found.train.edges, whole.train.edges)
        assert torch.equal(found.train.attributes, whole.train.attributes)
    assert read(folder / "TOY_A.txt").fingerprint == whole.fingerprint
    (folder / "TOY_graph_labels.txt").write_text("1\n1\n-1\n", "utf-8")
    assert read(folder).fingerprint != whole.fingerprint


def test_edges_are_taken_in_both_directions_unless_they_have_one(tmp_path: Path) -> None:
    lines = "".join(json.dumps(line) + "\n" for line in LINES)
    path = tmp_path / "g.jsonl"
    path.write_text(lines, "utf-8")
    both, one = read(path), read(path, directed=True)
    assert one.train.edges.tolist() == [[0, 1, 0], [1, 2, 1]]
    assert both.train.edges.tolist() == [[0, 1, 1, 2, 0, 1], [1, 2, 0, 1, 1, 0]]
    names = both.schema.edge_labels
    assert names == ["single", "double"]  # the commonest first
    assert [names[k] for k in both.train.edge_labels.tolist()] == ["double", "single"] * 2 + ["single"] * 2
    assert both.train.edge_counts.tolist() == [4, 2, 0]
    assert both.train.ids == ["", "b", ""]
    assert both.train.nodes.tolist() == [0, 1, 0, 0, -1, 1]  # one node has no label
    assert [len(read(path, directed=d).train.pairs(0)) for d in (True, False)] == [2, 2]


@given(st.lists(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12), min_size=1, max_size=5))
def test_both_directions_against_a_plain_loop(edges: list[list[tuple[int, int]]]) -> None:
    graphs = [{"nodes": 5, "edges": pairs, "edge_labels": list(range(len(pairs))), "label": "a"} for pairs in edges]
    found = read(graphs).train
    for i, pairs in enumerate(edges):
        first, stop = int(found.edge_offsets[i]), int(found.edge_offsets[i + 1])
        expected = [*pairs, *((b, a) for a, b in pairs if (b, a) not in pairs)]
        assert list(map(tuple, found.edges[:, first:stop].T.tolist())) == expected


def test_python_objects_of_three_kinds_are_read_alike() -> None:
    Data = data_of_pyg()
    edges, numbers = [(0, 1), (1, 2), (2, 0)], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    network = nx.Graph(label=1)
    network.add_nodes_from((i, {"x": row}) for i, row in enumerate(numbers))
    network.add_edges_from((a, b, {"label": a}) for a, b in edges)
    mine = {"nodes": numbers, "edges": edges, "edge_labels": [0, 1, 2], "label": 1}
    theirs = Data(
        x=torch.tensor(numbers),
        edge_index=torch.tensor(edges).T,
        edge_attr=torch.tensor([0, 1, 2]),
        y=torch.tensor([1]),
    )
    for graphs in ([network], [mine], [theirs], mine):
        parts = read(graphs)
        assert parts.schema.target == "graph"
        assert parts.schema.classes == ["1"]
        assert parts.train.attributes.tolist() == numbers
        seen = {
            (a, b, parts.schema.edge_labels[k])
            for (a, b), k in zip(parts.train.edges.T.tolist(), parts.train.edge_labels.tolist(), strict=True)
        }
        assert {(min(a, b), max(a, b)) for a, b, _ in seen} == {(0, 1), (1, 2), (0, 2)}
        assert len(seen) == 6


def test_nodes_of_one_graph_are_drawn_and_all_parts_see_it() -> None:
    network = nx.karate_club_graph()
    for node in network:
        network.nodes[node]["y"] = network.nodes[node]["club"]
    parts = read(network, validation_fraction=0.25, test_fraction=0.25, split_seed=3)
    assert parts.schema.target == "node"
    assert parts.schema.classes == ["Mr. Hi", "Officer"]
    asked = [part.labels >= 0 for part in parts.named.values()]
    assert [int(a.sum()) for a in asked] == [16, 9, 9]
    assert torch.stack(asked).sum(0).tolist() == [1] * 34  # each node in one part
    for part in parts.named.values():
        assert part.lengths.tolist() == [34]
        assert part.edges.shape[1] == 2 * network.number_of_edges()
    true = [network.nodes[node]["club"] == "Officer" for node in network]
    told = torch.stack([torch.where(part.labels >= 0, part.labels, 0) for part in parts.named.values()]).sum(0)
    assert told.bool().tolist() == true
    with pytest.raises(DataError, match=r"data.split: nodes are drawn where they have classes"):
        read(LINES, split="nodes")


def test_masks_of_nodes_are_kept() -> None:
    Data = data_of_pyg()
    masks = {f"{part}_mask": torch.arange(6) // 2 == i for i, part in enumerate(("train", "val", "test"))}
    data = Data(x=torch.eye(6), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 0, 1, 1, 0]), **masks)
    parts = read(data, test_fraction=0.5)
    assert [part.labels.tolist() for part in parts.named.values()] == [
        [0, 1, -1, -1, -1, -1],
        [-1, -1, 0, 1, -1, -1],
        [-1, -1, -1, -1, 1, 0],
    ]
    assert parts.sources["test"] == "the training data given (nodes of part test)"


def test_labels_of_nodes_as_what_is_told(tmp_path: Path) -> None:
    parts = read(written(tmp_path / "toy"), target="node")
    assert parts.schema.classes == ["0", "6", "10"]
    assert parts.schema.node_labels == []
    assert parts.train.labels.tolist() == [0, 1, 0, 0, 1, 2]
    assert parts.train.nodes.tolist() == [-1] * 6
    assert len(parts.train) == 3  # whole graphs are drawn
    folder = written(tmp_path / "bare", graph_labels=None)
    with pytest.raises(DataError, match=r"bare: no graph has a class \(NAME_graph_labels.txt is missing\)"):
        read(folder)


def test_the_real_molecules(data_folder: Path) -> None:
    """Counts are those of its README, and of the published description."""
    parts = GraphReader().parts(data_folder / "mutag", "graph", GraphSettings(**ALL))
    train = parts.train
    assert train.labels is not None
    assert len(train) == 188
    assert len(train.nodes) == 3371
    assert train.edges.shape[1] == 7442
    assert parts.schema.classes == ["-1", "1"]
    assert train.labels.bincount().tolist() == [63, 125]
    assert parts.schema.node_labels == list("0123456")
    assert parts.schema.edge_labels == list("0123")
    pairs = {(a, b) for a, b in train.edge_index.T.tolist()}
    assert {(b, a) for a, b in pairs} == pairs
    drawn: Any = GraphReader().parts(data_folder / "mutag", "graph", GraphSettings()).named
    assert [part.labels.double().mean().item() for part in drawn.values()] == pytest.approx([0.66] * 3, abs=0.03)


def test_a_part_whose_labels_training_does_not_have(tmp_path: Path) -> None:
    reader, parts = GraphReader(), read(LINES)
    new = [{"nodes": ["Br", "C"], "edges": [[0, 1]], "edge_labels": ["triple"]}]
    found, told = reader.part(new, parts.schema)
    assert found.labels is None
    assert found.nodes.tolist() == [-1, 0]
    assert found.edge_labels.tolist() == [0, 0]
    assert told == [
        "the data given: 1 of 2 nodes have a label that the training part does not have (Br); they have none for the "
        "network.",
        "the data given: 2 of 2 edges have a label that the training part does not have (triple); they count as "
        "'single', the commonest.",
    ]
    with pytest.raises(DataError, match=r"the data given: no graph has a class \(label\)"):
        reader.part(new, parts.schema, targets=True)
    with pytest.raises(DataError, match=r"the data given, graph 1: unknown class 'acid'. Known: ketone, other"):
        reader.part([new[0] | {"label": "acid"}], parts.schema, targets=True)
    with pytest.raises(DataError, match=r"the data given: 2 numbers a node; 0 are expected, as in training"):
        reader.part([{"nodes": [[1, 2]], "edges": []}], parts.schema)
    with pytest.raises(DataError, match=r"the data given: no node has a label; labels are expected, as in training"):
        reader.part([{"nodes": 2, "edges": []}], parts.schema)


def test_graphs_without_edges_are_told() -> None:
    assert not read(LINES).warnings
    bare = [{"nodes": ["a", "b"], "edges": [], "label": i} for i in range(4)]
    assert read(bare).warnings == [
        "the training data given: no graph has an edge, so that nodes hear of nothing but themselves."
    ]


def test_what_is_said_of_data(tmp_path: Path) -> None:
    lines = GraphReader().describe(written(tmp_path / "toy"), GraphSettings(), "graph").splitlines()
    assert lines == [
        "classes are those of graphs",
        f"train: {tmp_path / 'toy'} (tu)",
        "  graphs       3",
        "  nodes        6; 1 to 3 a graph, median 2",
        "  edges        3 without direction; 0 to 2 a graph, median 1",
        "  without any  1 graph",
        "  node labels  3: 0 3, 6 2, 10 1",
        "  edge labels  2: 1 2, 0 1",
        "  classes      2: 1 2, -1 1",
        "  numbers      2 a node, 0 an edge",
    ]


FAULTS: dict[str, tuple[dict[str, str | None], str]] = {
    "an edge to no node": ({"A": "1, 2\n2, 9\n"}, r"TOY_A.txt, line 2: names node 9; one from 1 to 6 is expected"),
    "a node 0": ({"A": "1, 2\n0, 1\n"}, r"TOY_A.txt, line 2: names node 0; one from 1 to 6 is expected"),
    "an edge between graphs": (
        {"A": "1, 2\n3, 4\n"},
        r"TOY_A.txt, line 2: joins node 3 of graph 1 and node 4 of graph 2; two nodes of one graph",
    ),
    "an edge of one node": ({"A": "1, 2\n3\n"}, r"TOY_A.txt, line 2: found '3'; two numbers of nodes, such as 1, 2,"),
    "an edge of words": ({"A": "1, 2\n3, x\n"}, r"TOY_A.txt, line 2: found '3, x'; two numbers of nodes"),
    "a fraction of a node": ({"A": "1, 2\n1.5, 2\n"}, r"TOY_A.txt, line 2: found '1.5, 2'; two numbers of nodes"),
    "a blank line": ({"A": "1, 2\n\n2, 1\n"}, r"TOY_A.txt, line 2: found ''; two numbers of nodes"),
    "graphs that fall": (
        {"graph_indicator": "1\n1\n1\n2\n1\n3\n"},
        r"TOY_graph_indicator.txt, line 5: graph 1 behind graph 2; numbers that rise are expected",
    ),
    "a graph of no node": (
        {"graph_indicator": "1\n1\n1\n2\n2\n4\n"},
        r"TOY_graph_indicator.txt, line 6: graph 4 behind graph 2; 2 or 3 is expected",
    ),
    "graphs from 0": ({"graph_indicator": "0\n0\n0\n1\n1\n2\n"}, r"indicator.txt, line 1: graph 0; 1 is expected"),
    "too few classes": (
        {"graph_labels": "1\n1\n"},
        r"TOY_graph_labels.txt, line 3: is missing; 2 for 3 graphs \(.*TOY_graph_indicator.txt\), one each is expected",
    ),
    "too many labels": (
        {"node_labels": FILES["node_labels"] + "7\n"},
        r"TOY_node_labels.txt, line 7: is too many: '7'; 7 for 6 nodes",
    ),
    "too few edge labels": ({"edge_labels": "1\n"}, r"TOY_edge_labels.txt, line 2: is missing; 1 for 6 edges"),
    "a blank label": ({"graph_labels": "1\n\n1\n"}, r"TOY_graph_labels.txt, line 2: is blank; a label is expected"),
    "numbers too few": (
        {"node_attributes": "0, 1\n0\n0, 1\n0, 1\n0, 1\n0, 1\n"},
        r"TOY_node_attributes.txt, line 2: found '0'; 2 numbers, as in line 1, are expected",
    ),
    "a number that is none": (
        {"node_attributes": "0\n0\nnan\n0\n0\n0\n"},
        r"TOY_node_attributes.txt, line 3: found 'nan'; finite numbers are expected",
    ),
    "no indicator": (
        {"graph_indicator": None},
        r"TOY_graph_indicator.txt: no such file; the TU format has it beside TOY_A.txt",
    ),
    "nothing to learn": ({"graph_labels": None}, r"toy: no graph has a class \(NAME_graph_labels.txt is missing\)"),
    "an empty indicator": ({"graph_indicator": ""}, r"TOY_graph_indicator.txt: is empty"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_of_the_tu_format(name: str, tmp_path: Path) -> None:
    changes, message = FAULTS[name]
    with pytest.raises(DataError, match=message):
        read(written(tmp_path / "toy", **changes))


def test_a_file_of_no_edges_is_no_fault(tmp_path: Path) -> None:
    parts = read(written(tmp_path / "toy", A="", edge_labels=None))
    assert parts.train.edge_counts.tolist() == [0, 0, 0]
    assert "no graph has an edge" in parts.warnings[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"nodes": ["a"]}, r"line 1: edges: found nothing; a list of pairs of nodes, \[\] for none, is"),
        ({"edges": []}, r"line 1: nodes: found nothing; a list with something for each node, or how many"),
        ({"nodes": [], "edges": []}, r"line 1: nodes: found none; a graph has at least one"),
        ({"nodes": "ab", "edges": []}, r"line 1: nodes: found 'ab'; a list with something for each node"),
        ({"nodes": 3, "edges": [[0, 3]]}, r"edges: that of index 0 is \[0, 3\]; two nodes from 0 to 2 are expected"),
        ({"nodes": 3, "edges": [[0, 1], [1]]}, r"line 1: edges: that of index 1 is \[1\]; two nodes from 0 to 2"),
        ({"nodes": 2, "edges": [[0, 1]], "edge_labels": []}, r"line 1: edge_labels: 0 for 1 edges; one for each"),
        ({"nodes": 2, "edges": [], "labels": ["x"]}, r"line 1: labels: 1 for 2 nodes; one for each is expected"),
        ({"nodes": 2, "edges": [], "label": [1]}, r"line 1: label: found \[1\]; a text or a whole number is expected"),
        ({"nodes": [1.5, "a"], "edges": []}, r"line 1: attributes: as many numbers for each of the nodes"),
        ({"nodes": [[1, 2], [1]], "edges": []}, r"line 1: attributes: as many numbers for each of the nodes"),
        ({"nodes": [[1], [float("inf")]], "edges": []}, r"attributes: that of index 1 holds \[inf\]; finite numbers"),
        ({"nodes": 2, "edges": [], "lable": 1}, r"line 1: unknown key 'lable'; did you mean 'label'\?"),
        ({"nodes": 1, "edges": [], "parts": ["tran"]}, r"parts: unknown part 'tran'; did you mean 'train'\?"),
        ({"nodes": 2, "edges": []}, r"g.jsonl: no graph has a class \(label\), which training needs"),
        ([1], r"line 1: found \[1\]; an object with nodes and edges is expected"),
        ({"nodes": 1, "edges": [], "label": float("nan")}, r"line 1: label: found nan; a text or a whole number"),
        ({"nodes": 1, "edges": [], "label": float("inf")}, r"line 1: label: found inf; a text or a whole number"),
        ({"nodes": 1, "edges": [], "label": " "}, r"line 1: label: found ' '; a class is expected, or null for none"),
        ({"nodes": 1, "edges": [], "label": "\ud800"}, r"line 1: label: found '\\ud800', half a character"),
        ({"nodes": ["\udfff"], "edges": []}, r"line 1: nodes: found '\\udfff', half a character"),
        ({"nodes": 1, "edges": [], "id": {"a": 1}}, r"line 1: id: found \{'a': 1\}; a text or a whole number"),
        ({"attributes": 5, "edges": []}, r"line 1: nodes: found nothing; a list with something for each node"),
        ({"nodes": 1, "attributes": 5, "edges": []}, r"line 1: attributes: found 5; a number or a list for each"),
        ({"nodes": [[10**400]], "edges": []}, r"line 1: attributes: as many numbers for each of the nodes"),
        ({"nodes": 10**12, "edges": []}, r"line 1: nodes: found 1e\+12; at most 268,435,456 are expected"),
        ({"nodes": 1, "edges": [], "label": None, "y": 1}, r"line 1: unknown key 'y'; did you mean 'label'\?"),
    ],
)
def test_what_is_no_graph(line: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(json.dumps(line) + "\n", "utf-8")
    with pytest.raises(DataError, match=message):
        read(path, format="jsonl")


def test_graphs_that_are_not_like_the_first(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"graph 2: 1 numbers a node; 2 are expected, as in graph 1"):
        read([{"nodes": [[1, 2]], "edges": [], "label": 1}, {"nodes": [[1]], "edges": [], "label": 1}])
    with pytest.raises(DataError, match=r"graph 2: the graph has no class \(label\)"):
        read([{"nodes": 1, "edges": [], "label": 1}, {"nodes": 1, "edges": []}])
    (tmp_path / "g.jsonl").write_text('{"nodes": 1, "edges": []\n', "utf-8")
    with pytest.raises(DataError, match=r"line 1, column \d+: no JSON"):
        read(tmp_path / "g.jsonl", format="jsonl")
    with pytest.raises(DataError, match=r"data.format: unknown format 'json'; did you mean 'jsonl'\?"):
        read(LINES, format="json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: .*(no training part|no graphs)"):
        read(tmp_path / "empty")
    with pytest.raises(DataError, match=r"labels, a class for each node"):
        read(LINES, target="node")
    one = written(tmp_path / "two")
    (one / "MORE_A.txt").write_text("1, 1\n", "utf-8")
    with pytest.raises(DataError, match=r"two: holds 2 data sets \(MORE_A.txt, TOY_A.txt\); name one of these files"):
        read(one)


def test_attributes_may_be_arrays() -> None:
    graphs = [{"nodes": np.eye(3), "edges": np.array([[0, 1]]), "label": i} for i in range(2)]
    assert read(graphs).train.attributes.tolist() == np.tile(np.eye(3), (2, 1)).tolist()
    edges = [
        {"nodes": 2, "edges": [], "label": 0},
        {"nodes": 2, "edges": [[0, 1]], "edge_attributes": [[7]], "label": 1},
    ]
    assert read(edges).train.edge_attributes.tolist() == [[7], [7]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[" * 100_000, r"line 1: lists are nested too deep; a graph is expected"),
        ('{"nodes": %s, "edges": []}' % ("1" * 5000), r"line 1: a number of thousands of digits is too long"),
        ('{"nodes": 1, "edges": [], "nodes": 2}', r"line 1: key 'nodes' stands there twice; once is expected"),
        ('{"nodes": 1, "edges": [], "label": "a', r"line 1, column 36: no JSON: Unterminated string"),
        ('{"nodes": 1, "edges": []', r"line 1, column 25: no JSON: Expecting ',' delimiter"),
    ],
    ids=["deep", "digits", "twice", "string", "object"],
)
def test_lines_that_json_cannot_read(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "g.jsonl"
    path.write_text(line + "\n", "utf-8")
    with pytest.raises(DataError, match=message):
        read(path, format="jsonl")


def test_numbers_of_other_libraries_are_numbers() -> None:
    edges = np.array([[0, 1], [1, 2]])
    plain = read([{"nodes": ["1", "2", "3"], "edges": edges.tolist(), "label": 1}])
    for changes in (
        {"nodes": list(np.array([1, 2, 3])), "label": np.int64(1)},
        {"nodes": torch.tensor([1, 2, 3]), "label": torch.tensor(1)},
        {"edges": list(zip(*edges.T, strict=True)), "label": np.float32(1)},
        {"edges": list(edges)},
    ):
        found = read([{"nodes": [1, 2, 3], "edges": edges, "label": 1} | changes])
        assert found.schema == plain.schema
        assert torch.equal(found.train.edges, plain.train.edges)
    assert read([{"nodes": np.int64(3), "edges": edges, "label": 1}]).train.lengths.tolist() == [3]
    with pytest.raises(DataError, match=r"nodes: found \{'a'\}; a list with something for each node"):
        read([{"nodes": {"a"}, "edges": [], "label": 1}])


def test_networkx_graphs_of_other_classes_and_without_directions() -> None:
    class Mine(nx.Graph):
        pass

    for order in ([0, 1, 2], [2, 1, 0]):  # which says how networkx turns its edges
        network = Mine(label="a")
        network.add_nodes_from(order)
        network.add_edges_from([(0, 1), (1, 2), (2, 2)], weight=2.0)
        network.nodes[0]["Label"] = "C"
        found = read(network, directed=True)
        pairs = sorted((order[a], order[b]) for a, b in found.train.edges.T.tolist())
        assert pairs == [(0, 1), (1, 0), (1, 2), (2, 1), (2, 2)]
        assert found.warnings == [
            "the training data given: only the class 'a' to learn; at least two are expected.",
            "the training data given: not read: Label of nodes, weight of edges.",
        ]
    one_way = read(nx.DiGraph([(0, 1), (1, 2)], label="a"), directed=True)
    assert one_way.train.edges.tolist() == [[0, 1], [1, 2]]


PYG: dict[str, tuple[dict[str, Any], str]] = {
    "several tasks": ({"y": torch.tensor([[1, 0, 1, 1, 0]])}, r"graph 1: y: found 1×5 numbers; one class, or one for"),
    "tasks as many as nodes": (
        {"y": torch.tensor([[1, 0, 1, 1]])},
        r"y: found 1×4 numbers.*one of several tasks: y\[:",
    ),
    "one-hot nodes": ({"y": torch.eye(3)[[0, 1, 2, 0]]}, r"y: found 4×3 numbers; .*of one-hot: y.argmax\(1\)"),
    "a one-hot graph": ({"y": torch.eye(3)[1]}, r"y: found 3 numbers; .*of one-hot: y.argmax\(\)"),
    "a number": ({"y": torch.tensor([0.3])}, r"graph 1: y: found 0.3; a class, a text or a whole number, is expected"),
    "unknown": ({"y": torch.tensor([float("nan")])}, r"graph 1: y: found nan; a class"),
    "no edge_index": ({"edge_index": None}, r"graph 1: edge_index: found nothing; \(2, edges\), of no edge \(2, 0\)"),
    "a flat edge_index": ({"edge_index": torch.arange(3)}, r"edge_index: found tensor.*; \(2, edges\), of no edge"),
    "uneven classes": ({"y": [[1], [1, 2]]}, r"graph 1: y: found \[\[1\], \[1, 2\]\]; one class, or one for each"),
    "columns": (
        {"train_mask": torch.ones(4, 10, dtype=torch.bool)},
        r"train_mask: found \(4, 10\) of bool; \(4,\) of bool is expected \(a column, such as train_mask\[:, 0\]\)",
    ),
    "indices": ({"train_mask": torch.tensor([0, 1, 2, 3])}, r"train_mask: found \(4,\) of int64; \(4,\) of bool"),
    "too short": ({"train_mask": torch.ones(3, dtype=torch.bool)}, r"train_mask: found \(3,\) of bool; \(4,\)"),
    "too long": ({"train_mask": torch.ones(5, dtype=torch.bool)}, r"train_mask: found \(5,\) of bool; \(4,\)"),
    "in two": (
        {"train_mask": torch.arange(4) < 2, "test_mask": torch.arange(4) > 0},
        r"test_mask: has node 1 as train_mask has; no node in two parts",
    ),
    "test alone": ({"test_mask": torch.arange(4) < 2}, r"graph 1: test_mask without a train_mask; one that says"),
}


@pytest.mark.parametrize("name", PYG)
def test_what_data_of_pytorch_geometric_do_not_say(name: str) -> None:
    changes, message = PYG[name]
    Data = data_of_pyg()
    told = {"x": torch.eye(4), "edge_index": torch.tensor([[0, 1], [1, 2]]), "y": torch.tensor([0, 1, 0, 1])} | changes
    with pytest.raises(DataError, match=message):
        read([Data(**told)])


def test_classes_of_data_of_pytorch_geometric() -> None:
    Data = data_of_pyg()
    Batch = pytest.importorskip("torch_geometric.data").Batch
    bare = {"x": torch.eye(3), "edge_index": torch.tensor([[0, 1], [1, 2]])}
    for y, target, classes in (
        ("a", "graph", ["a"]),
        (["a"], "graph", ["a"]),
        (7, "graph", ["7"]),
        (torch.tensor([[7.0]]), "graph", ["7"]),
        (torch.tensor([[1], [0], [1]]), "node", ["0", "1"]),
        (["a", "b", "a"], "node", ["a", "b"]),
    ):
        schema = read([Data(**bare, y=y)]).schema
        assert (schema.target, schema.classes) == (target, classes)
    graphs = [Data(**bare, y=torch.tensor([i]), edge_weight=torch.ones(2)) for i in range(2)]
    assert read(graphs).warnings == ["the training data given: not read: edge_weight."]
    for batched in (Batch.from_data_list(graphs), [Batch.from_data_list(graphs)]):
        with pytest.raises(DataError, match=r"graph 1: found a Batch of graphs; the graphs themselves, .to_data_list"):
            read(batched)


def test_files_of_the_tu_format_that_are_not_read(tmp_path: Path) -> None:
    folder = written(tmp_path / "toy", node_labels=None)
    for name in ("TOY_node_label.txt", "TOY_graph_attributes.txt", "TOY_readme.txt", "TOYS_foo.txt", "README.txt"):
        (folder / name).write_text("0\n", "utf-8")
    said = "not read: TOY_graph_attributes.txt, TOY_node_label.txt (is it TOY_node_labels.txt?)."
    assert read(folder).warnings == [f"{folder}: {said}"]
    with zipfile.ZipFile(tmp_path / "toy.zip", "w") as archive:
        for file in folder.iterdir():
            archive.writestr(f"TOY/{file.name}", file.read_bytes())
    assert read(tmp_path / "toy.zip").warnings == [f"{tmp_path / 'toy.zip'}: {said}"]


def test_a_data_set_without_its_edges_and_other_files_than_these(tmp_path: Path) -> None:
    folder = written(tmp_path / "toy")
    with pytest.raises(DataError, match=r"TOY_node_labels.txt: is one file of a data set; .* --data .*TOY_A.txt"):
        read(folder / "TOY_node_labels.txt")
    bare = written(tmp_path / "bare", A=None)
    with pytest.raises(DataError, match=r"TOY_A.txt: no such file; the TU format has it, with the edges"):
        read(bare)
    whole, cut, other = (tmp_path / f"{name}.zip" for name in ("whole", "cut", "other"))
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("TOY_A.txt", "1, 2\n")
    cut.write_bytes(whole.read_bytes()[:-30])
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a.txt", "1, 2\n")
    with pytest.raises(DataError, match=r"cut.zip: is no whole zip archive, but damaged or cut short"):
        read(cut)
    with pytest.raises(DataError, match=r"other.zip: holds no graphs; expected files of the TU format"):
        read(other)


def test_labels_that_training_has_none_of_are_told() -> None:
    reader = GraphReader()
    bare = {"nodes": 2, "edges": [[0, 1]]}
    schema = read([bare | {"label": i} for i in range(2)]).schema
    _, told = reader.part([{"nodes": ["C", "O"], "edges": [[0, 1]], "edge_labels": ["s"]}], schema)
    assert told == [
        "the data given: 2 of 2 nodes have a label that the training part does not have (C, O); its nodes have none, "
        "and the network reads none.",
        "the data given: 2 of 2 edges have a label that the training part does not have (s); its edges have none, and "
        "the network reads none.",
    ]
    other = [bare | {"nodes": ["Br", "C"], "label": i} for i in range(2)]
    parts = reader.parts([one | {"nodes": ["C", "C"]} for one in other], "graph", GraphSettings(**ALL), test=other)
    assert parts.warnings == [
        "the test data given: 2 of 4 nodes of the test part have a label that the training part does not have (Br); "
        "they have none for the network."
    ]


def test_what_there_is_not_to_learn() -> None:
    bare = {"nodes": 2, "edges": [[0, 1]]}
    parts = read([bare | {"label": i, "parts": ["train", None]} for i in range(2)])
    assert parts.warnings == [
        "the training data given: parts are of nodes, and graphs have the classes; they are not heeded."
    ]
    with pytest.raises(DataError, match=r"no graph has a class .* Of networkx and PyTorch Geometric y is read"):
        read(nx.karate_club_graph())
