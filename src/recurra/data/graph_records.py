"""Graphs as they stand in a file or in Python: objects with nodes and edges, of networkx, of PyTorch Geometric."""

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.data.delimited import short
from recurra.data.graph_objects import PARTS, as_mapping, plain
from recurra.data.graphs import Graphs
from recurra.data.sequences import steps_of
from recurra.data.tokens import Numbering
from recurra.errors import DataError, unknown

KEYS = ("nodes", "attributes", "edges", "edge_labels", "edge_attributes", "label", "labels", "parts", "id")
MEANT = {"x": "attributes", "y": "label", "edge_index": "edges", "edge_attr": "edge_attributes"}
"""What keys of other libraries are called here."""

MOST = 1 << 28
"""Nodes of a graph that can be told by how many there are."""


@dataclass
class GraphRecords:
    """Graphs as they stand in a file.

    Attributes:
        name: What messages call the file.
        graphs: The graphs; labels of nodes and edges are indices into the lists below.
        node_labels: The different labels of nodes.
        edge_labels: The different labels of edges.
        classes: The different classes of graphs.
        of_graphs: (N,) int64 indices into `classes`, -1 where there is none.
        node_classes: The different classes of nodes.
        of_nodes: (M,) int64 indices into `node_classes`, -1 where there is none.
        parts: (M,) int64 indices into `PARTS`, the part in which a node is asked for, -1 for none; None where the data
            do not say.
        format: How the file is laid out.
        counted: What `lines` count: a "line" of a file, or a "graph".
    """

    name: str
    graphs: Graphs
    node_labels: list[str]
    edge_labels: list[str]
    classes: list[str]
    of_graphs: np.ndarray
    node_classes: list[str]
    of_nodes: np.ndarray
    format: str
    parts: np.ndarray | None = None
    counted: str = "line"
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.graphs)

    def place(self, graph: int) -> str:
        """Where a graph stands, for messages."""
        return f"{self.name}, {self.counted} {int(self.graphs.lines[graph])}"

    def select(self, chosen: np.ndarray) -> "GraphRecords":
        """Those of the named graphs."""
        nodes = steps_of(self.graphs.offsets, torch.from_numpy(chosen))[1].numpy()
        return replace(
            self,
            graphs=self.graphs.select(chosen),
            of_graphs=self.of_graphs[chosen],
            of_nodes=self.of_nodes[nodes],
            parts=None if self.parts is None else self.parts[nodes],
            warnings=[],
        )


def from_lines(lines: Iterable[str], name: str) -> GraphRecords:
    """Graphs from JSON lines, an object each; see `from_objects`.

    Raises:
        DataError: A line that is none, with its number.
    """

    def objects() -> Iterator[tuple[int, Any]]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line.rstrip("\r\n"), object_pairs_hook=_once)
            except json.JSONDecodeError as error:
                raise DataError(f"{name}, line {number}, column {error.colno}: no JSON: {error.msg}.") from None
            except RecursionError:
                raise DataError(f"{name}, line {number}: lists are nested too deep; a graph is expected.") from None
            except _TwiceError as error:
                raise DataError(f"{name}, line {number}: key {error} stands there twice; once is expected.") from None
            except ValueError:  # Python's own limit, against numbers that take long to read
                raise DataError(f"{name}, line {number}: a number of thousands of digits is too long.") from None

    return from_objects(objects(), name, "line")


class _TwiceError(Exception):
    """A key that stands in an object twice, of which json takes the last."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        _TwiceError: A key that stands in it twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _TwiceError(repr(next(key for key in keys if keys.count(key) > 1)))
    return found


def from_objects(objects: Iterable[tuple[int, Any]], name: str, counted: str) -> GraphRecords:
    """Graphs from objects of Python or JSON, networkx graphs, or `Data` of PyTorch Geometric.

    Args:
        objects: With their numbers, which messages name. Mappings have `nodes` (a label each, or a list of numbers
            each, or how many there are), `edges` (pairs of nodes, from 0), and where there are such `attributes`,
            `edge_labels`, `edge_attributes`, `label` (the graph's class), `labels` (the nodes'), `parts` and `id`.
        name: What messages call them.
        counted: What the numbers count.

    Raises:
        DataError: Something in them that is not as it should be.
    """
    node_labels, edge_labels, classes, node_classes = Numbering(), Numbering(), Numbering(), Numbering()
    nodes, labels, of_nodes, of_graphs, parts = array("q"), array("q"), array("q"), array("q"), array("q")
    numbers: list[np.ndarray] = []
    edges: list[np.ndarray] = []
    edge_numbers: list[np.ndarray] = []
    sizes, edge_counts, places, ids = array("q"), array("q"), array("q"), []
    have_parts, unread = False, set[str]()
    for number, given in objects:
        place = f"{name}, {counted} {number}"
        given = as_mapping(given, place, unread)
        for key in given:
            if key not in KEYS:
                raise DataError(f"{place}: {unknown('key', str(key), KEYS, MEANT.get(key))}")
        kinds, values = _nodes(given, place)
        count = len(kinds)
        pairs = _edges(given.get("edges"), count, place)
        of_edges = _each(given.get("edge_labels"), len(pairs), "edge_labels", "edges", place)
        of_each = _each(given.get("labels"), count, "labels", "nodes", place)
        own = _each(given.get("parts"), count, "parts", "nodes", place)
        nodes.extend(-1 if kind is None else node_labels[_text(kind, "nodes", place)] for kind in kinds)
        labels.extend(-1 if kind is None else edge_labels[_text(kind, "edge_labels", place)] for kind in of_edges)
        of_nodes.extend(-1 if kind is None else node_classes[_text(kind, "labels", place)] for kind in of_each)
        label = given.get("label")
        of_graphs.append(-1 if label is None else classes[_text(label, "label", place)])
        have_parts = have_parts or given.get("parts") is not None
        parts.extend(-1 if part is None else _part(part, place) for part in own)
        numbers.append(values)
        edges.append(pairs)
        edge_numbers.append(_numbers(given.get("edge_attributes"), len(pairs), "edge_attributes", "edges", place))
        for what, several in (("numbers a node", numbers), ("numbers an edge", edge_numbers)):
            first, last = several[0].shape[1], several[-1].shape[1]
            if what == "numbers an edge" and not len(several[-1]):
                several[-1] = np.zeros((0, first), np.float32)  # a graph without edges does not say how many
            elif first != last:
                if what == "numbers an edge" and not any(map(len, several[:-1])):
                    several[:-1] = [np.zeros((0, last), np.float32)] * (len(several) - 1)
                    continue
                raise DataError(f"{place}: {last} {what}; {first} are expected, as in {counted} {places[0]}.")
        sizes.append(count)
        edge_counts.append(len(pairs))
        places.append(number)
        ids.append(_text(given["id"], "id", place) if given.get("id") is not None else "")
    if not places:
        raise DataError(f"{name}: holds no graphs.")
    graphs = Graphs(
        nodes=_tensor(nodes),
        attributes=torch.from_numpy(np.concatenate(numbers)),
        edges=torch.from_numpy(np.concatenate(edges)).T.contiguous(),
        edge_labels=_tensor(labels),
        edge_attributes=torch.from_numpy(np.concatenate(edge_numbers)),
        labels=None,
        offsets=_bounds(sizes),
        edge_offsets=_bounds(edge_counts),
        lines=_tensor(places),
        ids=ids if any(ids) else None,
    )
    return GraphRecords(
        name=name,
        graphs=graphs,
        node_labels=list(node_labels),
        edge_labels=list(edge_labels),
        classes=list(classes),
        of_graphs=np.array(of_graphs, np.int64),
        node_classes=list(node_classes),
        of_nodes=np.array(of_nodes, np.int64),
        parts=np.array(parts, np.int64) if have_parts else None,
        format="jsonl",
        counted=counted,
        warnings=[f"{name}: not read: {', '.join(sorted(unread))}."] if unread else [],
    )


# --- one object -------------------------------------------------------------------------------------------------------


def _nodes(given: Mapping[str, Any], place: str) -> tuple[list[Any], np.ndarray]:
    """The labels of an object's nodes, None where there is none, and their numbers, (n, A)."""
    nodes: Any = given.get("nodes")
    values: Any = given.get("attributes")
    if nodes is None and hasattr(values, "__len__"):
        nodes = len(values)
    if getattr(nodes, "ndim", None) == 0:
        nodes = plain(nodes)
    if type(nodes) is int:
        if nodes > MOST:
            raise DataError(f"{place}: nodes: found {nodes:.3g}; at most {MOST:,} are expected.")
        labels: list[Any] = [None] * nodes
    elif nodes is None or isinstance(nodes, str | Mapping) or not hasattr(nodes, "__getitem__"):
        found = "nothing" if nodes is None else short(repr(nodes))
        raise DataError(
            f"{place}: nodes: found {found}; a list with something for each node, or how many there are, is expected."
        )
    elif values is None and len(nodes) and _is_numeric(nodes):
        labels, values = [None] * len(nodes), nodes
    else:
        labels = plain(nodes)
    if not labels:
        raise DataError(f"{place}: nodes: found none; a graph has at least one.")
    return labels, _numbers(values, len(labels), "attributes", "nodes", place)


def _is_numeric(nodes: Any) -> bool:
    """Whether nodes are told by numbers, a list or a fraction each, and not by labels."""
    return isinstance(nodes[0], list | tuple | float | np.floating | np.ndarray) or getattr(nodes, "ndim", 1) == 2


def _edges(given: Any, count: int, place: str) -> np.ndarray:
    """An object's edges, (e, 2) int64."""
    if given is None:
        raise DataError(f"{place}: edges: found nothing; a list of pairs of nodes, [] for none, is expected.")
    pairs = plain(given)
    if not isinstance(pairs, list | tuple):
        raise DataError(f"{place}: edges: found {short(repr(given))}; a list of pairs of nodes is expected.")
    pairs = [plain(pair) for pair in pairs]
    for number, pair in enumerate(pairs):
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_node(end, count) for end in pair):
            nodes = f"two nodes from 0 to {count - 1}" if count > 1 else "[0, 0], the one node and itself,"
            ends = "are" if count > 1 else "is"
            raise DataError(f"{place}: edges: that of index {number} is {short(repr(pair))}; {nodes} {ends} expected.")
    return np.array(pairs, np.int64).reshape(-1, 2)


def _is_node(end: Any, count: int) -> bool:
    return isinstance(end, int | np.integer) and not isinstance(end, bool) and 0 <= int(end) < count


def _each(given: Any, count: int, key: str, what: str, place: str) -> list[Any]:
    """A list with something for each node or edge; of None where nothing is given."""
    if given is None:
        return [None] * count
    values = plain(given)
    if not isinstance(values, list | tuple) or len(values) != count:
        found = len(values) if isinstance(values, list | tuple) else short(repr(values))
        raise DataError(f"{place}: {key}: {found} for {count} {what}; one for each is expected.")
    return list(values)


def _numbers(given: Any, count: int, key: str, what: str, place: str) -> np.ndarray:
    """Numbers of nodes or edges, (count, K) float32; K is 0 where nothing is given."""
    if given is None:
        return np.zeros((count, 0), np.float32)
    try:
        values = np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, np.float64)
    except (TypeError, ValueError, OverflowError):
        said = f"as many numbers for each of the {what} are expected, in a list each"
        raise DataError(f"{place}: {key}: {said}.") from None
    if values.ndim == 0:
        raise DataError(f"{place}: {key}: found {short(repr(given))}; a number or a list for each is expected.")
    if values.ndim == 1 and len(values):
        values = values[:, None]
    if len(values) != count:
        raise DataError(f"{place}: {key}: {len(values)} for {count} {what}; one for each is expected.")
    values = values.reshape(count, -1) if count else np.zeros((0, 0))
    with np.errstate(over="ignore"):
        single = values.astype(np.float32)
    if not np.isfinite(single).all():
        row = int(np.flatnonzero(~np.isfinite(single).all(1))[0])
        found = short(repr(values[row].tolist()))
        raise DataError(f"{place}: {key}: that of index {row} holds {found}; finite numbers are expected.")
    return single


def _text(label: Any, key: str, place: str) -> str:
    """A label or class as text; whole numbers that are written as fractions without their `.0`."""
    label = plain(label)
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if isinstance(label, bool | int):
        return str(label)
    if isinstance(label, str):
        if not label.strip() and key in ("label", "labels"):
            raise DataError(f"{place}: {key}: found {label!r}; a class is expected, or null for none.")
        if any("\ud800" <= c <= "\udfff" for c in label):
            raise DataError(f"{place}: {key}: found {label!a}, half a character; a text is expected.")
        return label
    raise DataError(f"{place}: {key}: found {short(repr(label))}; a text or a whole number is expected.")


def _part(name: Any, place: str) -> int:
    if name not in PARTS:
        raise DataError(f"{place}: parts: {unknown('part', str(name), PARTS)}")
    return PARTS.index(name)


def _tensor(values: array) -> Tensor:
    return torch.from_numpy(np.array(values, np.int64))


def _bounds(counts: Sequence[int]) -> Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]))
