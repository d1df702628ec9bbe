"""Graphs of other libraries, of networkx and of PyTorch Geometric, as the mappings that `graph_records` reads."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.data.delimited import short
from recurra.errors import DataError

PARTS = ("train", "validation", "test")

_MASKS = ("train_mask", "val_mask", "test_mask")
_OF_DATA = {"x", "edge_index", "edge_attr", "y", "num_nodes", *_MASKS}


def is_graph(given: Any) -> bool:
    """Whether something is one graph, and no list of them."""
    return isinstance(given, Mapping) or _is_networkx(given) or _is_data(given)


def as_mapping(given: Any, place: str, unread: set[str]) -> Mapping[str, Any]:
    """A graph as a mapping; what it has that is not read is added to `unread`.

    Raises:
        DataError: Something that is no graph, or of which it cannot be told what it means.
    """
    if _is_networkx(given):
        return _from_networkx(given, place, unread)
    if _is_data(given):
        return _from_data(given, place, unread)
    if not isinstance(given, Mapping):
        raise DataError(f"{place}: found {short(repr(given))}; an object with nodes and edges is expected.")
    return given


def plain(values: Any) -> Any:
    """Arrays, tensors and their numbers as lists and numbers of Python."""
    return values.tolist() if hasattr(values, "tolist") else values


def _is_networkx(given: Any) -> bool:
    return hasattr(given, "adj") and any(base.__module__.startswith("networkx.") for base in type(given).__mro__)


def _is_data(given: Any) -> bool:
    return hasattr(given, "edge_index") and hasattr(given, "num_nodes")


def _from_networkx(graph: Any, place: str, unread: set[str]) -> dict[str, Any]:
    """Of nodes and edges `label` and the numbers `x`, of nodes the class `y`; of the graph `label` or `y`.

    An edge of a graph without directions leads both ways, whatever `data.directed` says.
    """
    number = {node: i for i, node in enumerate(graph.nodes)}
    nodes = list(graph.nodes(data=True))
    edges = [(number[a], number[b], told) for a, b, told in graph.edges(data=True)]
    if not graph.is_directed():
        edges += [(b, a, told) for a, b, told in edges if a != b]

    def of(items: list[dict[str, Any]], key: str) -> list[Any] | None:
        values = [item.get(key) for item in items]
        if all(value is None for value in values):
            return None
        if key == "x" and any(value is None for value in values):
            raise DataError(f"{place}: x: some have numbers and some have none; all or none are expected.")
        return values

    of_nodes, of_edges = [told for _, told in nodes], [told for *_, told in edges]
    for what, items, read in (("nodes", of_nodes, {"label", "x", "y"}), ("edges", of_edges, {"label", "x"})):
        unread |= {f"{key} of {what}" for item in items for key in item if key not in read}
    return {
        "nodes": of(of_nodes, "label") or len(nodes),
        "attributes": of(of_nodes, "x"),
        "labels": of(of_nodes, "y"),
        "edges": [(a, b) for a, b, _ in edges],
        "edge_labels": of(of_edges, "label"),
        "edge_attributes": of(of_edges, "x"),
        "label": graph.graph.get("label", graph.graph.get("y")),
        "id": graph.name or None,
    }


def _from_data(data: Any, place: str, unread: set[str]) -> dict[str, Any]:
    """Of PyTorch Geometric: `x`, `edge_index`, `edge_attr` (labels where it is whole numbers, one each), `y`, masks."""
    if hasattr(data, "to_data_list"):
        raise DataError(f"{place}: found a Batch of graphs; the graphs themselves, .to_data_list(), are expected.")
    if not isinstance(data.edge_index, Tensor | np.ndarray) or data.edge_index.ndim != 2:
        what = "nothing" if data.edge_index is None else short(repr(data.edge_index))
        raise DataError(f"{place}: edge_index: found {what}; (2, edges), of no edge (2, 0), is expected.")
    count = int(data.num_nodes)
    unread |= {str(key) for key in (data.keys() if hasattr(data, "keys") else ())} - _OF_DATA
    found: dict[str, Any] = {"nodes": count, "edges": plain(data.edge_index.T), "attributes": data.x}
    if (of_edges := getattr(data, "edge_attr", None)) is not None:
        of_edges = torch.as_tensor(of_edges)
        are_labels = not of_edges.is_floating_point() and of_edges.numel() == len(of_edges)
        found["edge_labels" if are_labels else "edge_attributes"] = of_edges.flatten() if are_labels else of_edges
    if (y := getattr(data, "y", None)) is not None:
        found |= _classes_of_data(y, count, place)
    masks = {name: getattr(data, name, None) for name in _MASKS}
    if any(mask is not None for mask in masks.values()):
        found["parts"] = _parts_of_masks(masks, count, place)
    return found


def _classes_of_data(y: Any, count: int, place: str) -> dict[str, Any]:
    """The class of a graph of `count` nodes (one number or text), or of each of its nodes (as many)."""
    y = plain(y)
    try:
        shape = np.shape(y)
    except ValueError:
        raise DataError(f"{place}: y: found {short(repr(y))}; one class, or one for each node, is expected.") from None
    flat = np.ravel(np.array(y, object)).tolist()
    if shape not in ((), (1,), (1, 1), (count,), (count, 1)):
        of_nodes = f", or one for each of the {count} nodes, is expected" if count > 1 else " is expected"
        where = "y.argmax(1)" if len(shape) == 2 else "y.argmax()"
        column = "one of several tasks: y[:, 0]; " if len(shape) == 2 else ""
        found = "×".join(map(str, shape))
        raise DataError(f"{place}: y: found {found} numbers; one class{of_nodes} ({column}of one-hot: {where}).")
    for value in flat:
        if isinstance(value, float) and not value.is_integer():
            raise DataError(f"{place}: y: found {value:g}; a class, a text or a whole number, is expected.")
    return {"label": flat[0]} if len(flat) == 1 else {"labels": flat}


def _parts_of_masks(masks: Mapping[str, Any], count: int, place: str) -> list[str | None]:
    """The part of each node."""
    parts: list[str | None] = [None] * count
    if masks["train_mask"] is None:
        name = next(name for name, mask in masks.items() if mask is not None)
        raise DataError(f"{place}: {name} without a train_mask; one that says what to learn from is expected.")
    for part, (name, mask) in zip(PARTS, masks.items(), strict=True):
        if mask is None:
            continue
        mask = mask if isinstance(mask, Tensor) else torch.as_tensor(mask)
        if tuple(mask.shape) != (count,) or not ((mask == 0) | (mask == 1)).all():
            found = f"{tuple(mask.shape)} of {str(mask.dtype).removeprefix('torch.')}"
            column = f" (a column, such as {name}[:, 0])" if mask.dim() == 2 else ""
            raise DataError(f"{place}: {name}: found {found}; ({count},) of bool is expected{column}.")
        for node in mask.nonzero().flatten().tolist():
            if parts[node] is not None:
                other = _MASKS[PARTS.index(str(parts[node]))]
                raise DataError(f"{place}: {name}: has node {node} as {other} has; no node in two parts is expected.")
            parts[node] = part
    return parts
