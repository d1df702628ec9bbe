"""From trees in brackets, JSON lines or Python data to what a tree network reads: vocabulary, classes, parts."""

import hashlib
import io
import json
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from recurra.data import brackets
from recurra.data.delimited import short
from recurra.data.encode import SPECIAL, sort_classes
from recurra.data.opening import check_exists, digest, first_lines, name_of, open_binary, open_text
from recurra.data.reader import Parts, Reader
from recurra.data.sequences import UNKNOWN
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, told
from recurra.data.split import UNSPLIT, Shares
from recurra.data.tokens import Numbering
from recurra.data.trees import Trees, TreeSchema, TreeSettings
from recurra.errors import DataError, unknown

FORMATS = ("brackets", "jsonl")
KEYS = ("tokens", "parents", "labels", "label", "id")


@dataclass
class Grown:
    """Trees as they stand in a file.

    Attributes:
        name: What messages call the file.
        forms: The different words.
        surface: (M,) int32, the word of each node, -1 where it has none.
        parents: (M,) int64, counted from the tree's first node; -1 for a root.
        kinds: The different labels.
        labels: (M,) int64 indices into `kinds`, -1 where there is none.
        offsets: (N + 1,) int64.
        lines: (N,) int64, from 1.
        format: How the file is laid out.
        counted: What `lines` count: a "line" of a file, or a "tree" of a list.
    """

    name: str
    forms: list[str]
    surface: np.ndarray
    parents: np.ndarray
    kinds: list[str]
    labels: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray
    format: str
    counted: str = "line"
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def roots(self) -> np.ndarray:
        """(N,) each tree's root among all M nodes."""
        return np.flatnonzero(self.parents < 0)

    def place(self, node: int) -> str:
        """Where a node's tree stands, for messages."""
        tree = int(np.searchsorted(self.offsets, node, side="right")) - 1
        return f"{self.name}, {self.counted} {self.lines[tree]}"

    def select(self, chosen: np.ndarray) -> "Grown":
        """Those of the named trees."""
        lengths = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        nodes = np.repeat(self.offsets[chosen] - offsets[:-1], lengths) + np.arange(offsets[-1])
        return replace(
            self,
            surface=self.surface[nodes],
            parents=self.parents[nodes],
            labels=self.labels[nodes],
            offsets=offsets,
            lines=self.lines[chosen],
        )


class TreeReader(Reader[Trees, TreeSchema]):
    """Trees with a word at some nodes, mostly the leaves, and a label at every node, some, or the root."""

    settings = TreeSettings
    schema = TreeSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: TreeSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: TreeSchema | None = None,
    ) -> Parts[Trees, TreeSchema]:
        """See `Reader.parts`."""
        if settings.format is not None and settings.format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', settings.format, FORMATS)}")
        sources, warnings = find_sources(source, validation, test, task, settings, lambda p: _fitting(p, settings))
        sum = hashlib.sha256()
        read = {part: _read(one, settings, settings.format, sum) for part, one in sources.items()}
        whole = read["train"]
        if (whole.labels < 0).all():
            raise DataError(f"{whole.name}: no node has a label, which training needs.")
        for part in read:
            read[part] = _merged(read[part], settings)
        shares = Shares.of(settings, read, seed)
        labels = [read["train"].kinds[k] if k >= 0 else "" for k in read["train"].labels[read["train"].roots].tolist()]
        drawn = shares.split(len(read["train"]), labels)
        schema = _learnt(read["train"].select(drawn.train), settings, kept)
        if len(schema.classes) < 2:
            raise DataError(f"{whole.name}: all labels are {schema.classes[0]!r}; two classes or more are expected.")
        found: dict[str, Grown] = {"train": read["train"].select(drawn.train)}
        for part, indices in (("validation", drawn.validation), ("test", drawn.test)):
            if indices is not None:
                found[part] = read["train"].select(indices)
            elif part in read:
                found[part] = read[part]
        parts = {part: _encoded(found[part], schema, strict=True) for part in PARTS if part in found}
        warnings += [warning for one in read.values() for warning in one.warnings]
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=[*warnings, *drawn.warnings],
            sources=told(parts, sources, whole.name, shares),
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: TreeSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Trees, list[str]]:
        """See `Reader.part`."""
        if format is not None and format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', format, FORMATS)}")
        settings = self.settings_of(schema)
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        if isinstance(source, str) and is_known(source):
            source = folder_of(source)
        found = as_source(source, "the data given")
        if found is None:
            raise DataError("no data; give a path, '-' for standard input, or a list of trees.")
        if isinstance(found.data, Path) and found.data.is_dir():
            sources, _ = find_sources(found.data, None, None, "tree", settings, lambda p: _fitting(p, settings))
            found = sources.get("test", sources["train"])
        grown = _read(found, settings, format, None)
        if targets and (grown.labels[grown.roots] < 0).any():
            node = int(grown.roots[grown.labels[grown.roots] < 0][0])
            raise DataError(f"{grown.place(node)}: the tree's root has no label, which evaluating needs.")
        if targets:
            grown = _merged(grown, settings)
        return _encoded(grown, schema, strict=targets), grown.warnings

    def describe(self, source: Any, settings: TreeSettings, task: str) -> str:
        """See `Reader.describe`."""
        whole = settings.model_copy(update=UNSPLIT)
        parts = self.parts(source, task, whole)
        lines: list[str] = []
        for name, part in parts.named.items():
            nodes = part.lengths.numpy()
            lines += [
                f"{name}: {parts.sources[name]} ({parts.schema.format})",
                f"  trees      {len(part):,}",
                f"  nodes      {nodes.sum():,}; {nodes.min()} to {nodes.max()} a tree, median {np.median(nodes):,.10g}",
                f"  children   up to {part.child_counts.max(initial=0)} a node",
                f"  words      {int((part.surface >= 0).sum()):,}",
            ]
            assert part.labels is not None
            for what, codes in (("roots", part.labels[part.roots]), ("nodes", part.labels)):
                met = Counter(parts.schema.classes[k] for k in codes.tolist() if k >= 0)
                shown = ", ".join(f"{label} {count:,}" for label, count in met.most_common(10))
                lines.append(f"  {what:9}  {met.total():,} with a label: {shown}")
        lines.append(f"vocabulary: {len(parts.schema.vocabulary):,} words")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


# --- files ------------------------------------------------------------------------------------------------------------


def _fitting(path: Path, settings: TreeSettings) -> int | None:
    """0 where a file is laid out as trees in brackets, 1 as JSON lines of trees; None where it is neither."""
    if not path.is_file():
        return None
    wanted = settings.format
    try:
        lines = first_lines(path, 20, settings.encoding)
    except DataError:
        return None
    head = next((line.lstrip() for line in lines if line.strip()), "")
    found = "brackets" if head.startswith("(") else "jsonl" if head.startswith("{") and '"parents"' in head else None
    return FORMATS.index(found) if found and wanted in (None, found) else None


def _read(source: Source, settings: TreeSettings, format: str | None, sum: Any) -> Grown:
    """What a source holds; its bytes are added to `sum`."""
    data = source.data
    if isinstance(data, list | tuple):
        grown = _from_objects(enumerate(data, 1), source.name, "tree")
        if sum is not None:
            sum.update(repr((grown.forms, grown.kinds)).encode())
            for each in (grown.surface, grown.parents, grown.labels, grown.offsets):
                sum.update(each.tobytes())
        return grown
    if isinstance(data, Path):
        check_exists(data)
        if data.is_dir():
            raise DataError(f"{data}: holds no part of trees; expected files such as train.txt and test.txt.")
        with open_binary(data):  # an empty or damaged file is told as such
            pass
        if sum is not None:
            sum.update(digest(data))
        head = next((line.lstrip() for line in first_lines(data, 20, settings.encoding) if line.strip()), "")
    elif hasattr(data, "read"):
        data = io.BytesIO(cast(BinaryIO, data).read())
        head = data.getvalue().lstrip()[:1].decode("utf-8", "replace")
    else:
        raise DataError(f"{source.name}: a list of trees is expected, such as {{'tokens': …, 'parents': …}}.")
    if head.startswith("[") and format != "brackets":
        raise DataError(f"{source.name}: is a JSON array; JSON lines are expected, an object (a tree) on each line.")
    format = format or ("jsonl" if head.startswith("{") else "brackets")
    if format == "jsonl":
        with open_text(data, settings.encoding) as stream:
            return _from_objects(_objects(enumerate(stream, 1), source.name), source.name, "line")
    return _from_brackets(brackets.read_trees(data, settings.encoding), name_of(data))


def _from_brackets(trees: brackets.Trees, name: str) -> Grown:
    first = np.repeat(trees.offsets[:-1], np.diff(trees.offsets))
    leaves = np.ones(len(trees.labels), bool)
    leaves[trees.parents[trees.parents >= 0]] = False
    number = Numbering()
    surface = np.full(len(trees.labels), -1, np.int32)
    words = np.array([number[brackets.plain(word)] for word in trees.words], np.int32)
    surface[leaves] = words[trees.spans[leaves, 0]]
    parents = np.where(trees.parents < 0, -1, trees.parents - first)
    labels = trees.labels.astype(np.int64)
    return Grown(name, list(number), surface, parents, trees.symbols, labels, trees.offsets, trees.lines, "brackets")


def _objects(lines: Iterable[tuple[int, str]], name: str) -> Iterator[tuple[int, Any]]:
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {number}, column {error.colno}: no JSON: {error.msg}.") from None
        except RecursionError:
            raise DataError(f"{name}, line {number}: lists within lists without end; a tree is expected.") from None


def _from_objects(objects: Iterable[tuple[int, Any]], name: str, what: str) -> Grown:
    """Trees from objects of Python or JSON: `tokens` and `parents`, `labels` of all nodes or the root's `label`."""
    forms, kinds = Numbering(), Numbering()
    surface, parents, labels = array("i"), array("q"), array("q")
    offsets, places = array("q", [0]), array("q")
    for number, given in objects:
        place = f"{name}, {what} {number}"
        if not isinstance(given, Mapping):
            raise DataError(f"{place}: found {short(repr(given))}; an object with tokens and parents is expected.")
        for key in given:
            if key not in KEYS:
                raise DataError(f"{place}: {unknown('key', str(key), KEYS)}")
        over, words = _list(given, "parents", place), _list(given, "tokens", place)
        said, of_root = given.get("labels"), given.get("label")
        if said is None:
            said = [of_root if parent == -1 else None for parent in over]
        for key, values in (("tokens", words), ("labels", said)):
            if not isinstance(values, list | tuple) or len(values) != len(over):
                found = len(values) if isinstance(values, list | tuple) else repr(values)
                raise DataError(f"{place}: {key}: {found} for {len(over)} parents; one for each node is expected.")
        _check_tree(over, place)
        for word in words:
            if word is not None and (not isinstance(word, str) or not word.strip()):
                raise DataError(f"{place}: tokens: found {short(repr(word))}; a word, or null, is expected.")
            surface.append(-1 if word is None else forms[word])
        parents.extend(over)
        for label in (*said, of_root):
            if isinstance(label, bool) or not isinstance(label, str | Integral | None):
                raise DataError(
                    f"{place}: labels: found {short(repr(label))}; a name or a whole number, or null, is expected."
                )
        if of_root is not None and str(said[over.index(-1)]) != str(of_root):
            raise DataError(
                f"{place}: label is {short(repr(of_root))}, but labels has {short(repr(said[over.index(-1)]))} for the "
                "root; give one of them."
            )
        labels.extend(-1 if label is None else kinds[str(label)] for label in said)
        offsets.append(len(parents))
        places.append(number)
    if not places:
        raise DataError(f"{name}: holds no trees.")
    return Grown(
        name=name,
        forms=list(forms),
        surface=np.array(surface, np.int32),
        parents=np.array(parents, np.int64),
        kinds=list(kinds),
        labels=np.array(labels, np.int64),
        offsets=np.array(offsets, np.int64),
        lines=np.array(places, np.int64),
        format="jsonl",
        counted=what,
    )


def _list(given: Mapping[str, Any], key: str, place: str) -> list[Any]:
    values = given.get(key)
    if not isinstance(values, list | tuple) or not values:
        found = "nothing" if values is None else short(repr(values))
        raise DataError(f"{place}: {key}: found {found}; a list with something for each node is expected.")
    return list(values)


def _check_tree(parents: list[Any], place: str) -> None:
    """Raises DataError where the parents of some nodes make no single tree."""
    count = len(parents)
    for node, parent in enumerate(parents):
        if not isinstance(parent, int) or isinstance(parent, bool) or not -1 <= parent < count:
            raise DataError(
                f"{place}: parents: that of node {node} is {short(repr(parent))}; a node from 0 to {count - 1}, or -1 "
                "for the root, is expected."
            )
    roots = [node for node, parent in enumerate(parents) if parent < 0]
    done = [parent < 0 for parent in parents]
    for node in range(count):
        path = []
        while not done[node]:
            if node in path:
                circle = [*path[path.index(node) :], node][::-1]
                raise DataError(f"{place}: nodes {' → '.join(map(str, circle))} stand below each other, in a circle.")
            path.append(node)
            node = parents[node]
        for each in path:
            done[each] = True
    if len(roots) > 1:
        raise DataError(f"{place}: nodes {roots[0]} and {roots[1]} have no parent (-1); a tree has one root.")


# --- vocabulary and classes -------------------------------------------------------------------------------------------


def _merged(grown: Grown, settings: TreeSettings) -> Grown:
    """With the classes of `merge_labels` in place of the labels; trees with another root are left out."""
    if not settings.merge_labels:
        return grown
    to: dict[str, str] = {}
    for name, members in settings.merge_labels.items():
        for label in map(str, members):
            if label in to:
                raise DataError(f"data.merge_labels: {label!r} is there twice")
            if label not in grown.kinds:
                raise DataError(f"data.merge_labels: {unknown('label', label, grown.kinds)} ({grown.name})")
            to[label] = name
    kinds = list(settings.merge_labels)
    code = np.array([kinds.index(to[kind]) if kind in to else -1 for kind in grown.kinds] + [-1])
    merged = replace(grown, kinds=kinds, labels=code[grown.labels])
    kept = np.flatnonzero(merged.labels[merged.roots] >= 0)
    if len(kept) < len(merged):
        merged.warnings.append(
            f"{grown.name}: {len(merged) - len(kept):,} of {len(merged):,} trees have a root of no class of "
            "data.merge_labels and are left out."
        )
    if not len(kept):
        raise DataError(f"{grown.name}: no tree has a root of a class of data.merge_labels.")
    return merged.select(kept)


def _learnt(grown: Grown, settings: TreeSettings, kept: TreeSchema | None) -> TreeSchema:
    """Vocabulary and classes of the training part."""
    met = Counter[str]()
    counts = np.bincount(grown.surface[grown.surface >= 0], minlength=len(grown.forms))
    for form, count in zip(grown.forms, counts.tolist(), strict=True):
        met[_folded(form, settings.lowercase)] += count
    words = [word for word, count in met.items() if count >= settings.min_count]
    words.sort(key=lambda word: (-met[word], word))
    vocabulary = [*SPECIAL, *words[: settings.max_vocabulary - len(SPECIAL)]]
    classes = sort_classes({grown.kinds[k] for k in np.unique(grown.labels[grown.labels >= 0]).tolist()})
    if settings.merge_labels:
        classes = [name for name in settings.merge_labels if name in classes]
    if kept is not None:
        vocabulary = kept.vocabulary
    return TreeSchema(
        task="tree",
        format=grown.format,
        settings=settings.model_dump(include={"encoding", "merge_labels"}, exclude_defaults=True),
        vocabulary=vocabulary,
        classes=classes,
        lowercase=settings.lowercase if kept is None else kept.lowercase,
    )


def _encoded(grown: Grown, schema: TreeSchema, *, strict: bool) -> Trees:
    """Trees under a vocabulary and classes.

    Raises:
        DataError: A label that training did not have, where `strict`, with its place.
    """
    number = {word: i for i, word in enumerate(schema.vocabulary)}
    of_form = [number.get(_folded(form, schema.lowercase), UNKNOWN) for form in grown.forms]
    codes = np.array([*of_form, 0], np.int32)  # the last, -1, is no word
    at = {name: i for i, name in enumerate(schema.classes)}
    of_kind = np.array([*(at.get(kind, -1) for kind in grown.kinds), -1])
    labels = of_kind[grown.labels]
    strange = np.flatnonzero((labels < 0) & (grown.labels >= 0))
    if strict and len(strange):
        label = grown.kinds[grown.labels[strange[0]]]
        raise DataError(f"{grown.place(int(strange[0]))}: {unknown('label', label, schema.classes)}")
    return Trees(
        words=torch.from_numpy(codes[grown.surface]),
        surface=torch.from_numpy(grown.surface),
        forms=grown.forms,
        parents=torch.from_numpy(grown.parents),
        labels=torch.from_numpy(labels) if (labels >= 0).any() else None,
        offsets=torch.from_numpy(grown.offsets),
        lines=torch.from_numpy(grown.lines),
    )


def _folded(word: str, lowercase: bool) -> str:
    return word.lower() if lowercase else word
