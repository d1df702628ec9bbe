"""The TU format: a data set of graphs as text files NAME_A.txt, NAME_graph_indicator.txt, … in a folder or an archive.

Morris, Kriege, Bause, Kersting, Mutzel & Neumann, "TUDataset" (2020). Nodes and graphs count from 1 over the whole set.
"""

import zipfile
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import torch

from recurra.data.delimited import short
from recurra.data.graph_records import GraphRecords
from recurra.data.graphs import Graphs
from recurra.data.opening import entries, open_text
from recurra.data.tokens import Numbering
from recurra.errors import DataError

EDGES = "_A.txt"
"""How the name of the file ends by which a data set is known."""

INDICATOR = "_graph_indicator.txt"
"""How that ends which has to be there too."""

KINDS = ("A", "graph_indicator", "graph_labels", "node_labels", "node_attributes", "edge_labels", "edge_attributes")
"""What files of a data set hold."""


def is_tu(path: Path) -> bool:
    """Whether a folder, a zip archive or a file of a data set is laid out so.

    Raises:
        DataError: An archive that is damaged.
    """
    if path.is_dir():
        return any(entry.name.endswith((EDGES, INDICATOR)) for entry in entries(path))
    if path.suffix.lower() == ".zip":
        return any(name.endswith((EDGES, INDICATOR)) for name in _members(path))
    return _stem(path) is not None


def _stem(path: Path) -> str | None:
    """The name of the data set that a file is one of; None where it is of none."""
    for kind in KINDS:
        stem = path.name.removesuffix(f"_{kind}.txt")
        if stem != path.name and (kind == "A" or path.with_name(stem + EDGES).exists()):
            return stem
    return None


def read_tu(path: Path, encoding: str = "utf-8") -> GraphRecords:
    """The graphs of a data set; classes are those of NAME_graph_labels.txt.

    Args:
        path: Its folder, a zip archive that holds it, or its file NAME_A.txt.
        encoding: Of the files.

    Raises:
        DataError: A file that is missing, with the name expected; a line that is not as it should be, with what was
            found and what is expected: an edge that names an absent node or joins two graphs, numbers of graphs that
            do not rise, lines too few or too many.
    """
    files = _Files(path, encoding)
    graph = files.integers("graph_indicator", 1, "the number of the node's graph")
    if graph is None:
        raise files.missing("graph_indicator")
    graph = graph[:, 0]
    _check_rising(graph, files.place("graph_indicator"))
    nodes, count = len(graph), int(graph[-1])
    ends = files.integers("A", 2, "two numbers of nodes, such as 1, 2,", may_be_empty=True)
    if ends is None:
        raise files.missing("A")
    edges = ends - 1
    _check_edges(edges, graph, files.place("A"))
    of_nodes = f"{nodes:,} nodes ({files.place('graph_indicator')})"
    of_edges = f"{len(edges):,} edges ({files.place('A')})"
    node_labels, of_each = files.labels("node_labels", nodes, of_nodes)
    edge_labels, of_edge = files.labels("edge_labels", len(edges), of_edges)
    classes, of_graphs = files.labels("graph_labels", count, f"{count:,} graphs ({files.place('graph_indicator')})")
    attributes = files.numbers("node_attributes", nodes, of_nodes)
    edge_attributes = files.numbers("edge_attributes", len(edges), of_edges)
    of_edges_graph = graph[edges[:, 0]] - 1 if len(edges) else np.zeros(0, np.int64)
    order = np.argsort(of_edges_graph, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(graph - 1, minlength=count))])
    edge_offsets = np.concatenate([[0], np.cumsum(np.bincount(of_edges_graph, minlength=count))])
    local = edges[order].T - offsets[of_edges_graph[order]]
    graphs = Graphs(
        nodes=torch.from_numpy(of_each),
        attributes=torch.from_numpy(attributes),
        edges=torch.from_numpy(np.ascontiguousarray(local)),
        edge_labels=torch.from_numpy(of_edge[order]),
        edge_attributes=torch.from_numpy(edge_attributes[order]),
        labels=None,
        offsets=torch.from_numpy(offsets),
        edge_offsets=torch.from_numpy(edge_offsets),
        lines=torch.arange(1, count + 1),
    )
    return GraphRecords(
        name=str(path),
        graphs=graphs,
        node_labels=node_labels,
        edge_labels=edge_labels,
        classes=classes,
        of_graphs=of_graphs,
        node_classes=[],
        of_nodes=np.full(nodes, -1, np.int64),
        format="tu",
        counted="graph",
        warnings=files.unread(),
    )


def contents(path: Path) -> list[Path]:
    """The files that a data set is read from, to know changed data by."""
    if path.is_dir() or path.name.endswith(EDGES):
        stem = _Files(path, "utf-8").stem
        folder = path if path.is_dir() else path.parent
        return [entry for entry in entries(folder) if entry.name.startswith(f"{stem}_") and entry.suffix == ".txt"]
    return [path]


def _check_rising(graph: np.ndarray, place: str) -> None:
    """Raises DataError where numbers of graphs do not go 1, 1, …, 2, …."""
    step = np.diff(graph, prepend=0)
    wrong = np.flatnonzero((step < 0) | (step > 1) | (graph < 1))
    if not len(wrong):
        return
    line = int(wrong[0])
    now, before = int(graph[line]), int(graph[line - 1]) if line else 0
    if line == 0:
        raise DataError(f"{place}, line 1: graph {now}; 1 is expected, graphs count from 1.")
    if now < before:
        raise DataError(
            f"{place}, line {line + 1}: graph {now} behind graph {before}; numbers that rise are expected, so that the "
            "nodes of a graph stand together."
        )
    raise DataError(
        f"{place}, line {line + 1}: graph {now} behind graph {before}; {before} or {before + 1} is expected, for a "
        "graph has at least one node."
    )


def _check_edges(edges: np.ndarray, graph: np.ndarray, place: str) -> None:
    """Raises DataError where an edge names a node that is not there, or joins two graphs."""
    nodes = len(graph)
    absent = np.flatnonzero(((edges < 0) | (edges >= nodes)).any(1))
    if len(absent):
        line = int(absent[0])
        node = next(int(end) + 1 for end in edges[line] if not 0 <= end < nodes)
        raise DataError(f"{place}, line {line + 1}: names node {node}; one from 1 to {nodes} is expected.")
    joined = np.flatnonzero(graph[edges[:, 0]] != graph[edges[:, 1]])
    if len(joined):
        line = int(joined[0])
        a, b = (int(end) for end in edges[line])
        raise DataError(
            f"{place}, line {line + 1}: joins node {a + 1} of graph {graph[a]} and node {b + 1} of graph {graph[b]}; "
            "two nodes of one graph are expected."
        )


class _Files:
    """The files of a data set by what they hold, such as "A" or "graph_labels".

    Args:
        path: As for `read_tu`.
        encoding: Of the files.
    """

    def __init__(self, path: Path, encoding: str) -> None:
        self.path, self.encoding = path, encoding
        self.archive = not path.is_dir() and path.suffix.lower() == ".zip"
        folder = path if path.is_dir() else path.parent
        self.all = _members(path) if self.archive else [entry.name for entry in entries(folder)]
        if self.archive or path.is_dir():
            names = [name for name in self.all if name.endswith(EDGES)]
        elif path.name.endswith(EDGES):
            names = [path.name]
        else:
            file = path.with_name(f"{_stem(path)}{EDGES}")
            raise DataError(f"{path}: is one file of a data set; name its folder or that of its edges: --data {file}")
        if not names:
            if begun := [name for name in self.all if name.endswith(INDICATOR)]:
                self.stem = begun[0].removesuffix(INDICATOR)
                raise self.missing("A")
            raise DataError(f"{path}: holds no file of edges; the TU format has one, NAME_A.txt.")
        if len(names) > 1:
            one = f"name one of these files: --data {path / names[0]}" if not self.archive else "one is expected"
            raise DataError(f"{path}: holds {len(names)} data sets ({', '.join(sorted(names)[:3])}); {one}.")
        self.stem = names[0][: -len(EDGES)]

    def unread(self) -> list[str]:
        """A warning of files that are called like those of the data set, and are none of them."""
        own = {f"{self.stem}_{kind}.txt": kind for kind in KINDS}
        others = tuple(name[: -len("A.txt")] for name in self.all if name.endswith(EDGES) and name not in own)
        absent = [kind for name, kind in own.items() if name not in self.all]
        told = []
        for name in sorted({*self.all} - {*own}):
            kind = name.removeprefix(f"{self.stem}_").removesuffix(".txt")
            if len(name) != len(self.stem) + len(kind) + 5 or name.startswith(others) or "readme" in kind.lower():
                continue
            near = get_close_matches(kind, absent, 1, 0.9)
            told.append(Path(name).name + (f" (is it {Path(self.stem).name}_{near[0]}.txt?)" if near else ""))
        return [f"{self.path}: not read: {', '.join(told)}."] if told else []

    def place(self, kind: str) -> str:
        """What messages call a file."""
        name = f"{self.stem}_{kind}.txt"
        return str(self.path / name if self.archive or self.path.is_dir() else self.path.with_name(name))

    def missing(self, kind: str) -> DataError:
        """The error for a file that has to be there."""
        return DataError(
            f"{self.place(kind)}: no such file; the TU format has it beside {Path(self.stem).name}{EDGES}, and so it "
            "cannot be told which nodes belong to which graph."
            if kind == "graph_indicator"
            else f"{self.place(kind)}: no such file; the TU format has it, with the edges, if only an empty one."
        )

    def lines(self, kind: str, may_be_empty: bool = False) -> list[str] | None:
        """A file's lines, without blank ones at the end; None where there is no such file."""
        place = Path(self.place(kind))
        if self.archive:
            with zipfile.ZipFile(self.path) as archive:
                member = f"{self.stem}_{kind}.txt"
                if member not in archive.namelist():
                    return None
                try:
                    content = archive.read(member)
                except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
                    raise DataError(f"{place}: cannot be unpacked: {error}.") from error
            if not content:
                return [] if may_be_empty else _empty(place)
            try:
                text = content.decode(self.encoding)
            except UnicodeDecodeError as error:
                line = content[: error.start].count(b"\n") + 1
                raise DataError(f"{place}, line {line}: byte {error.start} is not {self.encoding}.") from error
            return _lines(text.replace("\r\n", "\n"))
        if not place.is_file():
            return None
        if may_be_empty and not place.stat().st_size:
            return []
        with open_text(place, self.encoding) as stream:
            return _lines(stream.read())

    def integers(self, kind: str, columns: int, what: str, may_be_empty: bool = False) -> np.ndarray | None:
        """A file of whole numbers, (lines, columns) int64; None where there is no such file."""
        lines = self.lines(kind, may_be_empty)
        if lines is None:
            return None
        if not lines and not may_be_empty:
            raise DataError(f"{self.place(kind)}: is empty.")
        return _table(lines, columns, np.int64, self.place(kind), f"{what} {'is' if columns == 1 else 'are'} expected")

    def labels(self, kind: str, count: int, of: str) -> tuple[list[str], np.ndarray]:
        """The different labels of a file, and (count,) int64 indices among them; -1 where there is no such file."""
        lines = self.lines(kind, may_be_empty=not count)
        if lines is None:
            return [], np.full(count, -1, np.int64)
        self._check_count(kind, lines, count, of)
        number = Numbering()
        codes = np.empty(count, np.int64)
        for i, line in enumerate(lines):
            label = ",".join(cell.strip() for cell in line.split(","))
            if not label:
                raise DataError(f"{self.place(kind)}, line {i + 1}: is blank; a label is expected.")
            codes[i] = number[label]
        return list(number), codes

    def numbers(self, kind: str, count: int, of: str) -> np.ndarray:
        """A file of numbers, (count, columns) float32, of no column where there is no such file."""
        lines = self.lines(kind, may_be_empty=not count)
        if not lines:
            return np.zeros((count, 0), np.float32)
        self._check_count(kind, lines, count, of)
        columns = lines[0].count(",") + 1
        said = f"{columns} number{'s' * (columns > 1)}, as in line 1, {'are' if columns > 1 else 'is'} expected"
        values = _table(lines, columns, np.float64, self.place(kind), said)
        with np.errstate(over="ignore"):
            single = values.astype(np.float32)
        if not np.isfinite(single).all():
            line = int(np.flatnonzero(~np.isfinite(single).all(1))[0])
            found = short(lines[line])
            raise DataError(f"{self.place(kind)}, line {line + 1}: found {found!r}; finite numbers are expected.")
        return single

    def _check_count(self, kind: str, lines: list[str], count: int, of: str) -> None:
        if len(lines) != count:
            line = min(len(lines), count) + 1
            said = "is missing" if len(lines) < count else f"is too many: {short(lines[count])!r}"
            raise DataError(f"{self.place(kind)}, line {line}: {said}; {len(lines):,} for {of}, one each is expected.")


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{path}: is no whole zip archive, but damaged or cut short ({error}).") from error
    except OSError:
        return []


def _lines(text: str) -> list[str]:
    lines = text.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    return lines


def _empty(place: Path) -> list[str]:
    raise DataError(f"{place}: is empty.")


def _table(lines: list[str], columns: int, kind: type, place: str, expected: str) -> np.ndarray:
    """Lines of numbers with commas between them, (lines, columns)."""
    if not lines:
        return np.zeros((0, columns), kind)
    if all(line.count(",") == columns - 1 for line in lines):
        try:
            return np.array(",".join(lines).split(",")).astype(kind).reshape(-1, columns)
        except (ValueError, OverflowError):
            pass
    for number, line in enumerate(lines, 1):
        cells = line.split(",")
        try:
            if len(cells) == columns and np.array(cells).astype(kind).shape:
                continue
        except (ValueError, OverflowError):
            pass
        raise DataError(f"{place}, line {number}: found {short(line.strip())!r}; {expected}.")
    raise AssertionError("a line was refused among others, and is taken alone")
