"""From files of the TU format, JSON lines or Python data to what a graph network reads: labels, classes, parts."""

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from recurra.data import tu
from recurra.data.encode import sort_classes
from recurra.data.graph_objects import PARTS as ASKED_IN
from recurra.data.graph_objects import is_graph
from recurra.data.graph_records import GraphRecords, from_lines, from_objects
from recurra.data.graphs import Graphs, GraphSchema, GraphSettings, Target
from recurra.data.opening import check_exists, digest, first_lines, open_binary, open_text
from recurra.data.reader import Parts, Reader
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, told
from recurra.data.split import UNSPLIT, Shares, Split
from recurra.errors import DataError, unknown

FORMATS = ("tu", "jsonl")


class GraphReader(Reader[Graphs, GraphSchema]):
    """Graphs with labels or numbers at their nodes and edges, and a class for each graph or each node."""

    settings = GraphSettings
    schema = GraphSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: GraphSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: GraphSchema | None = None,
    ) -> Parts[Graphs, GraphSchema]:
        """See `Reader.parts`."""
        _check_format(settings.format)
        source, validation, test = (([one] if is_graph(one) else one) for one in (source, validation, test))
        sources, warnings = find_sources(source, validation, test, task, settings, lambda p: _fitting(p, settings))
        sum = hashlib.sha256()
        read = {part: _read(one, settings, settings.format, sum) for part, one in sources.items()}
        target = settings.target or _target(read["train"])
        for part, one in read.items():
            read[part] = _asked(one, target)
            _check_classes(read[part], target, all_graphs=part == "train")
        shares = Shares.of(settings, read, seed)
        by_node = target == "node" and (settings.split or ("nodes" if len(read["train"]) == 1 else "graphs")) == "nodes"
        if settings.split == "nodes" and target == "graph":
            raise DataError("data.split: nodes are drawn where they have classes (data.target = node), not graphs")
        whole, found = read["train"], {"train": read["train"]}
        if whole.parts is not None and target == "node":
            if settings.folds is not None:
                raise DataError(
                    "data.folds: the data have parts of their own, so that none is drawn; leave one of them out."
                )
            found |= {p: one for p, one in _of_masks(whole).items() if p == "train" or p not in read}
            shares, drawn = Shares(0.0, 0.0, shares.seed), None
        elif by_node:
            known = np.flatnonzero(whole.of_nodes >= 0)
            drawn = shares.split(len(known), whole.of_nodes[known])
            found |= _nodes_drawn(whole, known, drawn)
        else:
            drawn = shares.split(len(whole), whole.of_graphs if target == "graph" else None)
            found |= _graphs_drawn(whole, drawn)
        found |= {part: one for part, one in read.items() if part != "train"}
        schema = _learnt(found["train"], settings, target, kept)
        if len(schema.classes) == 1:
            warnings.append(f"{whole.name}: only the class {schema.classes[0]!r} to learn; at least two are expected.")
        if whole.parts is not None and target == "graph":
            warnings.append(f"{whole.name}: parts are of nodes, and graphs have the classes; they are not heeded.")
        parts = {part: _encoded(found[part], schema, strict=True, of=part) for part in PARTS if part in found}
        for one in {id(one): one for one in (*read.values(), *found.values())}.values():
            warnings += one.warnings
        if not any(int(part.edge_offsets[-1]) for part in parts.values()):
            warnings.append(f"{whole.name}: no graph has an edge, so that nodes hear of nothing but themselves.")
        sources_told = told(parts, {**sources, **_masked_sources(found, sources, whole)}, whole.name, shares)
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=[*warnings, *([] if drawn is None else drawn.warnings)],
            sources=sources_told,
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: GraphSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Graphs, list[str]]:
        """See `Reader.part`."""
        _check_format(format)
        settings = self.settings_of(schema)
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        if isinstance(source, str) and is_known(source):
            source = folder_of(source)
        found = as_source([source] if is_graph(source) else source, "the data given")
        if found is None:
            raise DataError("no data; give a path, '-' for standard input, or a list of graphs.")
        if isinstance(found.data, Path) and found.data.is_dir():
            sources, _ = find_sources(found.data, None, None, "graph", settings, lambda p: _fitting(p, settings))
            found = sources.get("test", sources["train"])
        records = _asked(_read(found, settings, format, None), schema.target)
        if targets:
            _check_classes(records, schema.target, all_graphs=True)
        graphs = _encoded(records, schema, strict=targets)
        return graphs, records.warnings

    def describe(self, source: Any, settings: GraphSettings, task: str) -> str:
        """See `Reader.describe`."""
        whole = settings.model_copy(update=UNSPLIT)
        parts = self.parts(source, task, whole)
        lines = [f"classes are those of {'graphs' if parts.schema.target == 'graph' else 'nodes'}"]
        for name, part in parts.named.items():
            lines += [
                f"{name}: {parts.sources[name]} ({parts.schema.format})",
                *_described(part, parts.schema, settings),
            ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


def _described(part: Graphs, schema: GraphSchema, settings: GraphSettings) -> list[str]:
    nodes = part.lengths.numpy()
    edges = part.edge_counts.numpy() if settings.directed else np.array([len(part.pairs(i)) for i in range(len(part))])
    lines = [
        f"  graphs       {len(part):,}",
        f"  nodes        {nodes.sum():,}; {nodes.min():,} to {nodes.max():,} a graph, median {np.median(nodes):,.10g}",
        f"  edges        {edges.sum():,}{'' if settings.directed else ' without direction'}; {edges.min():,} to "
        f"{edges.max():,} a graph, median {np.median(edges):,.10g}",
    ]
    if bare := int((edges == 0).sum()):
        lines.append(f"  without any  {bare:,} graph{'s' * (bare > 1)}")
    of_edges = part.edge_labels.tolist()
    if not settings.directed:
        of_edges = [label for i in range(len(part)) for *_, label in part.pairs(i)]
    for what, names, codes in (
        ("node labels", schema.node_labels, part.nodes.tolist()),
        ("edge labels", schema.edge_labels, of_edges),
        ("classes", schema.classes, [] if part.labels is None else part.labels.tolist()),
    ):
        if names and codes:
            met = Counter(names[code] for code in codes if code >= 0)
            shown = ", ".join(f"{label} {count:,}" for label, count in met.most_common(10))
            lines.append(f"  {what:11}  {len(met):,}: {shown}" + (", …" if len(met) > 10 else ""))
    if schema.attributes or schema.edge_attributes:
        lines.append(f"  numbers      {schema.attributes:,} a node, {schema.edge_attributes:,} an edge")
    return lines


# --- files ------------------------------------------------------------------------------------------------------------


def _check_format(format: str | None) -> None:
    if format is not None and format not in FORMATS:
        raise DataError(f"data.format: {unknown('format', format, FORMATS)}")


def _fitting(path: Path, settings: GraphSettings) -> int | None:
    """0 where a path is laid out in the TU format, 1 as JSON lines of graphs; None where it is neither."""
    try:
        if settings.format in (None, "tu") and tu.is_tu(path):
            return 0
        if path.is_dir() or settings.format == "tu":
            return None
        lines = first_lines(path, 20, settings.encoding)
    except DataError:
        return None
    head = next((line.lstrip() for line in lines if line.strip()), "")
    return 1 if head.startswith("{") and '"edges"' in head else None


def _read(source: Source, settings: GraphSettings, format: str | None, sum: Any) -> GraphRecords:
    """What a source holds, its edges in both directions unless they have one; its bytes are added to `sum`."""
    records = _read_as_it_stands(source, settings, format, sum)
    return records if settings.directed else replace(records, graphs=records.graphs.both_ways())


def _read_as_it_stands(source: Source, settings: GraphSettings, format: str | None, sum: Any) -> GraphRecords:
    data = source.data
    if isinstance(data, Path):
        check_exists(data)
        if format == "tu" or (format is None and tu.is_tu(data)):
            if sum is not None:
                for file in tu.contents(data):
                    sum.update(file.name.encode() + digest(file))
            return tu.read_tu(data, settings.encoding)
        if data.is_dir() or data.suffix.lower() == ".zip":
            raise DataError(
                f"{data}: holds no graphs; expected files of the TU format, such as NAME_A.txt and "
                "NAME_graph_indicator.txt, or JSON lines."
            )
        with open_binary(data):  # an empty or damaged file is told as such
            pass
        if sum is not None:
            sum.update(digest(data))
        with open_text(data, settings.encoding) as stream:
            return from_lines(stream, source.name)
    if hasattr(data, "read"):
        with open_text(io.BytesIO(cast(BinaryIO, data).read()), settings.encoding) as stream:
            return from_lines(stream, source.name)
    if not isinstance(data, Sequence) and not hasattr(data, "__getitem__"):
        raise DataError(f"{source.name}: a list of graphs is expected, such as {{'nodes': …, 'edges': …}}.")
    records = from_objects(((i + 1, data[i]) for i in range(len(data))), source.name, "graph")
    if sum is not None:
        graphs = records.graphs
        sum.update(repr((records.node_labels, records.edge_labels, records.classes, records.node_classes)).encode())
        for each in (graphs.nodes, graphs.attributes, graphs.edges, graphs.edge_labels, graphs.edge_attributes):
            sum.update(each.numpy().tobytes())
        for each in (graphs.offsets.numpy(), graphs.edge_offsets.numpy(), records.of_graphs, records.of_nodes):
            sum.update(each.tobytes())
    return records


# --- what is asked, and of which part ---------------------------------------------------------------------------------


def _target(records: GraphRecords) -> Target:
    """What has classes: graphs, or else nodes."""
    return "node" if (records.of_graphs < 0).all() and (records.of_nodes >= 0).any() else "graph"


def _asked(records: GraphRecords, target: Target) -> GraphRecords:
    """With the labels of nodes for their classes, where these are asked for and the file has no other."""
    if target == "graph" or records.node_classes or records.format != "tu":
        return records
    nodes = records.graphs.nodes
    return replace(
        records,
        graphs=replace(records.graphs, nodes=torch.full_like(nodes, -1)),
        node_labels=[],
        node_classes=records.node_labels,
        of_nodes=nodes.numpy(),
    )


def _check_classes(records: GraphRecords, target: Target, *, all_graphs: bool) -> None:
    """Raises DataError where nothing has a class, or (of graphs) one has none."""
    if target == "node":
        if not (records.of_nodes >= 0).any():
            what = "NAME_node_labels.txt is missing" if records.format == "tu" else "labels, a class for each node"
            raise DataError(f"{records.name}: no node has a class ({what}), which data.target = node needs.")
        return
    without = np.flatnonzero(records.of_graphs < 0)
    if len(without) == len(records):
        what = "NAME_graph_labels.txt is missing" if records.format == "tu" else "label"
        others = " Of networkx and PyTorch Geometric y is read, of the graph or of its nodes."
        hint = others if records.counted == "graph" and records.format != "tu" else ""
        raise DataError(f"{records.name}: no graph has a class ({what}), which training needs.{hint}")
    if len(without) and all_graphs:
        raise DataError(f"{records.place(int(without[0]))}: the graph has no class (label).")


def _of_masks(whole: GraphRecords) -> dict[str, GraphRecords]:
    """The parts of nodes that the data tell themselves, each with all graphs."""
    assert whole.parts is not None
    found = {}
    for code, name in enumerate(ASKED_IN):
        asked = np.where(whole.parts == code, whole.of_nodes, -1)
        if (asked >= 0).any():
            found[name] = replace(whole, of_nodes=asked, warnings=[])
    if "train" not in found:
        raise DataError(f"{whole.name}: parts: no node of the part train has a class, which training needs.")
    return found


def _nodes_drawn(whole: GraphRecords, known: np.ndarray, drawn: Split) -> dict[str, GraphRecords]:
    """Parts of nodes, each with all graphs and the classes of its own nodes alone."""
    found = {}
    for name, indices in (("train", drawn.train), ("validation", drawn.validation), ("test", drawn.test)):
        if indices is not None:
            asked = np.full(len(whole.of_nodes), -1, np.int64)
            asked[known[indices]] = whole.of_nodes[known[indices]]
            found[name] = replace(whole, of_nodes=asked, warnings=[])
    return found


def _graphs_drawn(whole: GraphRecords, drawn: Split) -> dict[str, GraphRecords]:
    found = {"train": whole.select(drawn.train)}
    for name, indices in (("validation", drawn.validation), ("test", drawn.test)):
        if indices is not None:
            found[name] = whole.select(indices)
    return found


def _masked_sources(
    found: dict[str, GraphRecords], sources: dict[str, Source], whole: GraphRecords
) -> dict[str, Source]:
    """For parts that the data tell themselves, what they are called."""
    if whole.parts is None:
        return {}
    return {part: Source(f"{whole.name} (nodes of part {part})", None) for part in found if part not in sources}


# --- labels and classes -----------------------------------------------------------------------------------------------


def _learnt(records: GraphRecords, settings: GraphSettings, target: Target, kept: GraphSchema | None) -> GraphSchema:
    """Labels and classes of the training part."""
    graphs = records.graphs
    names, codes = (
        (records.classes, records.of_graphs) if target == "graph" else (records.node_classes, records.of_nodes)
    )
    classes = sort_classes({names[code] for code in np.unique(codes[codes >= 0]).tolist()})
    met = Counter(records.edge_labels[code] for code in graphs.edge_labels.tolist() if code >= 0)
    schema = GraphSchema(
        task="graph",
        format=records.format,
        settings=settings.model_dump(include={"encoding", "directed"}, exclude_defaults=True),
        target=target,
        classes=classes,
        node_labels=sort_classes({records.node_labels[code] for code in graphs.nodes.unique().tolist() if code >= 0}),
        attributes=graphs.attributes.shape[1],
        edge_labels=sorted(met, key=lambda label: (-met[label], label)),
        edge_attributes=graphs.edge_attributes.shape[1],
    )
    if kept is not None:
        schema = schema.model_copy(update={"node_labels": kept.node_labels, "edge_labels": kept.edge_labels})
    return schema


def _encoded(records: GraphRecords, schema: GraphSchema, *, strict: bool, of: str = "") -> Graphs:
    """Graphs under the labels and classes of a schema, of a part where one is named; what it does not know is told.

    Raises:
        DataError: A class that training did not have, where `strict`, with its place; no labels or other numbers of
            nodes or edges than training had.
    """
    graphs = records.graphs
    _check_alike(records, schema)
    nodes = _codes(records.node_labels, schema.node_labels)[graphs.nodes.numpy()]
    edge_labels = _codes(records.edge_labels, schema.edge_labels)[graphs.edge_labels.numpy()]
    for what, known, codes, old, names, then in (
        ("nodes", schema.node_labels, nodes, graphs.nodes, records.node_labels, "they have none for the network"),
        ("edges", schema.edge_labels, edge_labels, graphs.edge_labels, records.edge_labels, "they count as {0!r}"),
    ):
        strange = (codes < 0) & (old.numpy() >= 0)
        if strange.any():
            shown = ", ".join(sorted({names[code] for code in old.numpy()[strange].tolist()})[:5])
            words = then.format(known[0]) if known else f"its {what} have none, and the network reads none"
            words += ", the commonest" if known and what == "edges" else ""
            records.warnings.append(
                f"{records.name}: {int(strange.sum()):,} of {len(codes):,} {what}{f' of the {of} part' if of else ''} "
                f"have a label that the training part does not have ({shown}); {words}."
            )
    if schema.edge_labels:
        edge_labels = np.maximum(edge_labels, 0)
    per_node = schema.target == "node"
    names, codes = (records.node_classes, records.of_nodes) if per_node else (records.classes, records.of_graphs)
    labels = _codes(names, schema.classes)[codes]
    strange = np.flatnonzero((labels < 0) & (codes >= 0))
    if strict and len(strange):
        first = int(strange[0])
        graph = int(graphs.graph[first]) if per_node else first
        node = f", node {first - int(graphs.offsets[graph])}" if per_node else ""
        label = names[int(codes[first])]
        raise DataError(f"{records.place(graph)}{node}: {unknown('class', label, schema.classes)}")
    return replace(
        graphs,
        nodes=torch.from_numpy(nodes),
        edge_labels=torch.from_numpy(edge_labels),
        labels=torch.from_numpy(labels) if (labels >= 0).any() else None,
        per_node=per_node,
    )


def _codes(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """Index among `names` -> index among `known`, -1 where there is none; the last, -1, is -1."""
    at = {name: i for i, name in enumerate(known)}
    return np.array([*(at.get(name, -1) for name in names), -1], np.int64)


def _check_alike(records: GraphRecords, schema: GraphSchema) -> None:
    """Raises DataError where nodes or edges have other labels or numbers than those of training."""
    graphs = records.graphs
    for what, found, expected in (
        ("a node", graphs.attributes, schema.attributes),
        ("an edge", graphs.edge_attributes, schema.edge_attributes),
    ):
        if len(found) and found.shape[1] != expected:
            said = f"{found.shape[1]} numbers {what}; {expected} are expected, as in training"
            raise DataError(f"{records.name}: {said}.")
    if schema.node_labels and not (graphs.nodes >= 0).any():
        raise DataError(f"{records.name}: no node has a label; labels are expected, as in training.")
    if schema.edge_labels and len(graphs.edge_labels) and not (graphs.edge_labels >= 0).any():
        raise DataError(f"{records.name}: no edge has a label; labels are expected, as in training.")
