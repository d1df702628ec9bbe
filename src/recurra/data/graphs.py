"""Graphs whose nodes and edges may bear labels and numbers, laid end to end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recurra.data.sequences import AnySchema, steps_of
from recurra.data.settings import PlaceSettings

Target = Literal["graph", "node"]


class GraphSettings(PlaceSettings):
    """Where the graphs are and how to read them."""

    target: Target | None = Field(
        default=None,
        description="what has a class: the graph, or each node; found from the data when left out (graph where both "
        "have one). node, in files of the TU format: the node labels are what is to be told, and are not read",
    )
    directed: bool = Field(
        default=False,
        description="whether an edge leads from its first node to its second alone; else every edge that is there in "
        "one direction is taken in both",
    )
    split: Literal["graphs", "nodes"] | None = Field(
        default=None,
        description="target node: whether parts are drawn of whole graphs, or of the nodes of graphs that all parts "
        "see; nodes where there is one graph, when left out",
    )


class GraphSchema(AnySchema):
    """What the training graphs settled."""

    target: Target = "graph"
    classes: list[str] = Field(default_factory=list)  # index -> class
    node_labels: list[str] = Field(default_factory=list)  # index -> label of a node
    attributes: int = 0  # numbers of a node
    edge_labels: list[str] = Field(default_factory=list)  # index -> label of an edge, the commonest first
    edge_attributes: int = 0  # numbers of an edge


@dataclass(frozen=True)
class Graphs:
    """N graphs, M nodes, E edges; an edge without a direction stands there twice.

    Attributes:
        nodes: (M,) int64, each node's label, an index into the schema's `node_labels`; -1 where unknown or none.
        attributes: (M, A) float32, its numbers.
        edges: (2, E) int64, source and target of each edge, counted from its graph's first node.
        edge_labels: (E,) int64, likewise an index, -1 where there is none.
        edge_attributes: (E, B) float32.
        labels: (N,) int64, or (M,) where nodes have classes: indices into the schema's classes, -1 where unknown or
            not asked for; None where all are.
        offsets: (N + 1,) int64; graph i has the nodes `offsets[i]` to `offsets[i + 1]`.
        edge_offsets: (N + 1,) int64, likewise of edges.
        lines: (N,) int64, where each stands in its file, from 1.
        per_node: Whether nodes have classes, and not graphs.
        ids: The graphs' names where the data give them.
    """

    nodes: Tensor
    attributes: Tensor
    edges: Tensor
    edge_labels: Tensor
    edge_attributes: Tensor
    labels: Tensor | None
    offsets: Tensor
    edge_offsets: Tensor
    lines: Tensor
    per_node: bool = False
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Nodes of each graph, (N,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    @property
    def edge_counts(self) -> Tensor:
        """Edges of each graph, (N,) int64; one that goes both ways counts twice."""
        return self.edge_offsets[1:] - self.edge_offsets[:-1]

    @cached_property
    def graph(self) -> Tensor:
        """(M,) int64, the graph of each node."""
        return torch.repeat_interleave(torch.arange(len(self)), self.lengths)

    @cached_property
    def edge_index(self) -> Tensor:
        """(2, E) int64, `edges` counted among all M nodes."""
        return self.edges + torch.repeat_interleave(self.offsets[:-1], self.edge_counts)

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Graphs":
        """The named graphs, in the order given (copied)."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        offsets, nodes = steps_of(self.offsets, chosen)
        edge_offsets, edges = steps_of(self.edge_offsets, chosen)
        labels = self.labels
        if labels is not None:
            labels = labels[nodes if self.per_node else chosen]
        return replace(
            self,
            nodes=self.nodes[nodes],
            attributes=self.attributes[nodes],
            edges=self.edges[:, edges],
            edge_labels=self.edge_labels[edges],
            edge_attributes=self.edge_attributes[edges],
            labels=labels,
            offsets=offsets,
            edge_offsets=edge_offsets,
            lines=self.lines[chosen],
            ids=None if self.ids is None else [self.ids[i] for i in chosen.tolist()],
        )

    def both_ways(self) -> "Graphs":
        """With each edge that is there in one direction alone in the other one too, behind those of its graph."""
        size = int(self.offsets[-1])
        source, target = self.edge_index.numpy()
        lone = np.flatnonzero(~np.isin(target * size + source, source * size + target))
        if not len(lone):
            return self
        graph = np.repeat(np.arange(len(self)), self.edge_counts.numpy())
        order = np.argsort(np.concatenate([graph, graph[lone]]), kind="stable")
        taken = torch.from_numpy(np.concatenate([np.arange(len(graph)), lone])[order])
        turned = torch.from_numpy(order >= len(graph))
        edges = self.edges[:, taken]
        edges[:, turned] = edges[:, turned].flip(0)
        counts = np.bincount(graph, minlength=len(self)) + np.bincount(graph[lone], minlength=len(self))
        return replace(
            self,
            edges=edges,
            edge_labels=self.edge_labels[taken],
            edge_attributes=self.edge_attributes[taken],
            edge_offsets=torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
        )

    def pairs(self, index: int) -> list[tuple[int, int, int]]:
        """The different edges of a graph without their directions: two nodes, counted within it, and a label."""
        own = slice(int(self.edge_offsets[index]), int(self.edge_offsets[index + 1]))
        found: dict[tuple[int, int], int] = {}
        for (a, b), label in zip(self.edges[:, own].T.tolist(), self.edge_labels[own].tolist(), strict=True):
            found.setdefault((min(a, b), max(a, b)), label)
        return [(a, b, label) for (a, b), label in found.items()]
