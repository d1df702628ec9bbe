"""Trees and other directed acyclic graphs, many at once, in the order in which their nodes can be computed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.errors import RecurraError


class TreeError(RecurraError, ValueError):
    """Edges that are no trees: a node that there is not, or a node below itself."""


@dataclass(frozen=True)
class Level:
    """Nodes that are computed together, after all that stand below them.

    What a level reads stands in a pool: of the last level's pool what is read again, then the last level's nodes, then
    the leaves that are first read here.

    Attributes:
        nodes: (n,) int64, which nodes.
        held: (P,) int64, the rows of the last pool that are read here or later; None where there are none, as in trees.
        made: Which nodes of the last level are read here or later, int64; None where all are.
        leaves: (Q,) int64, which of the leaves are first read here.
        children: (E,) int64, the row of the pool of each edge's child; edges stand by parent, then by slot. None where
            they are the pool's rows as they stand.
        parents: (E,) int64, which of the level's nodes each edge leads to.
        slots: (E,) int64, as the how-manieth child, from 0.
        arity: How many children each of the nodes has, where they are as many and fill the first slots; else None.
    """

    nodes: Tensor
    held: Tensor | None
    made: Tensor | None
    leaves: Tensor
    children: Tensor | None
    parents: Tensor
    slots: Tensor
    arity: int | None


class Forest:
    """The structure of many trees, or of any directed acyclic graphs: what each node is computed from.

    A node has children, each in a slot of its own (first, second, …), or is a leaf. Leaves are all computed at once;
    the others level by level, as late as those that read them allow, so that in a tree the children of a level are
    exactly the level before and leaves.

    Args:
        children: (E,) the child of each edge.
        parents: (E,) its parent.
        nodes: How many nodes there are.
        slots: (E,) as the how-manieth child, from 0; in the order of a parent's edges when left out.

    Attributes:
        nodes: How many nodes there are.
        roots: (R,) int64, the nodes that are nobody's child.
        leaves: (L,) int64, those without children.
        levels: The others, from the bottom to the top.
        widest: The largest number of slots.

    Raises:
        TreeError: An edge names a node that there is not, a node stands below itself, or two children have one slot.

    Example:
        >>> forest = Forest.from_parents([2, 2, 4, 4, -1])  # ((0 1) 3)
        >>> forest.roots.tolist(), forest.leaves.tolist(), [level.nodes.tolist() for level in forest.levels]
        ([4], [0, 1, 3], [[2], [4]])
    """

    def __init__(self, children: Any, parents: Any, nodes: int, slots: Any = None) -> None:
        child, parent = (_whole_numbers(name, v) for name, v in (("children", children), ("parents", parents)))
        if len(child) != len(parent):
            raise TreeError(f"edges: {len(child):,} children and {len(parent):,} parents; as many are expected")
        for name, ends in (("child", child), ("parent", parent)):
            absent = np.flatnonzero((ends < 0) | (ends >= nodes))
            if len(absent):
                raise TreeError(
                    f"edge {absent[0]}: its {name} is node {ends[absent[0]]}, of {nodes:,} nodes, which are counted "
                    "from 0"
                )
        self.nodes = nodes
        slot = _in_order(parent) if slots is None else _whole_numbers("slots", slots)
        order = np.lexsort((slot, parent))
        child, parent, slot = child[order], parent[order], slot[order]
        doubled = np.flatnonzero((np.diff(parent) == 0) & (np.diff(slot) == 0))
        if len(doubled):
            raise TreeError(f"node {parent[doubled[0]]}: two children have slot {slot[doubled[0]]}")
        self._edges = child, parent, slot
        self.widest = int(slot.max()) + 1 if len(slot) else 0
        has_children, is_child = np.zeros(nodes, bool), np.zeros(nodes, bool)
        has_children[parent] = is_child[child] = True
        leaves = np.flatnonzero(~has_children)
        self.leaves, self.roots = torch.from_numpy(leaves), torch.from_numpy(np.flatnonzero(~is_child))
        self.levels = self._planned(_levels(child, parent, has_children), leaves)

    @classmethod
    def from_parents(cls, parents: Any) -> "Forest":
        """Trees from the parent of each node, (M,), -1 for a root; children stand in the order of their numbers.

        Raises:
            TreeError: A parent that there is not, or a node below itself.
        """
        parent = _whole_numbers("parents", parents)
        child = np.flatnonzero(parent >= 0)
        wrong = np.flatnonzero(parent < -1)
        if len(wrong):
            raise TreeError(f"node {wrong[0]}: its parent is {parent[wrong[0]]}; a node, or -1 for a root, is expected")
        return cls(child, parent[child], len(parent))

    @classmethod
    def chain(cls, lengths: Sequence[int]) -> "Forest":
        """Sequences as trees: of each, every step is the one child of the next.

        Args:
            lengths: Steps of each sequence; they are laid end to end.
        """
        bounds = np.cumsum([0, *lengths])
        last = np.zeros(bounds[-1], bool)
        last[bounds[1:] - 1] = True
        return cls.from_parents(np.where(last, -1, np.arange(bounds[-1]) + 1))

    @property
    def edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Child, parent and slot of each edge, (E,) each; by parent, then by slot."""
        return self._edges

    def to(self, device: torch.device | str) -> "Forest":
        """The same on another device."""
        moved = object.__new__(Forest)
        moved.__dict__ |= self.__dict__
        moved.leaves, moved.roots = self.leaves.to(device), self.roots.to(device)
        moved.levels = [
            replace(level, **{name: v.to(device) for name, v in vars(level).items() if isinstance(v, Tensor)})
            for level in self.levels
        ]
        return moved

    def _planned(self, level_of: np.ndarray, leaves: np.ndarray) -> list[Level]:
        """What is done at each level."""
        child, parent, slot = self._edges
        top = int(level_of.max(initial=0))
        reads = level_of[parent]
        first_read, last_read = np.full(self.nodes, top + 1), np.zeros(self.nodes, int)
        np.minimum.at(first_read, child, reads)
        np.maximum.at(last_read, child, reads)
        of_leaf = np.full(self.nodes, -1)
        of_leaf[leaves] = np.arange(len(leaves))
        joining = np.argsort(first_read[leaves], kind="stable")
        joins = np.searchsorted(first_read[leaves][joining], np.arange(1, top + 2))
        by_level = np.argsort(level_of, kind="stable")
        bounds = np.searchsorted(level_of[by_level], np.arange(1, top + 2))
        edges_by_level = np.argsort(reads, kind="stable")
        edge_bounds = np.searchsorted(reads[edges_by_level], np.arange(1, top + 2))
        pool = last = np.empty(0, np.int64)  # which node each of its rows is; the last level's nodes
        at, place = np.full(self.nodes, -1), np.full(self.nodes, -1)
        levels = []
        for number in range(1, top + 1):
            held, made = (np.flatnonzero(last_read[rows] >= number) for rows in (pool, last))
            joined = leaves[joining[joins[number - 1] : joins[number]]]
            pool = np.concatenate([pool[held], last[made], joined])
            nodes = by_level[bounds[number - 1] : bounds[number]]
            own = edges_by_level[edge_bounds[number - 1] : edge_bounds[number]]
            at[pool], place[nodes] = np.arange(len(pool)), np.arange(len(nodes))
            rows, slots, over = at[child[own]], slot[own], place[parent[own]]
            counts = np.bincount(over, minlength=len(nodes))
            is_full = (counts == counts[0]).all() and (slots == _in_order(over)).all()
            levels.append(
                Level(
                    nodes=torch.from_numpy(nodes),
                    held=torch.from_numpy(held) if len(held) else None,
                    made=None if len(made) == len(last) else torch.from_numpy(made),
                    leaves=torch.from_numpy(of_leaf[joined]),
                    children=None if np.array_equal(rows, np.arange(len(pool))) else torch.from_numpy(rows),
                    parents=torch.from_numpy(over),
                    slots=torch.from_numpy(slots),
                    arity=int(counts[0]) if is_full else None,
                )
            )
            last = nodes
        return levels


def _levels(child: np.ndarray, parent: np.ndarray, has_children: np.ndarray) -> np.ndarray:
    """The level of each node, from 1 on; 0 for leaves. As late as possible: one below the first that reads it."""
    nodes = len(has_children)
    above = np.bincount(child, minlength=nodes)  # parents that are not placed yet
    depth, front, placed, distance = np.zeros(nodes, np.int64), np.flatnonzero(above == 0), 0, 0
    starts = np.searchsorted(parent, np.arange(nodes + 1))
    while len(front):  # from the roots down: a node's depth is that of the deepest that reads it, and one
        depth[front] = distance
        placed += len(front)
        counts = starts[front + 1] - starts[front]
        own = np.repeat(starts[front] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        below, times = np.unique(child[own], return_counts=True)
        above[below] -= times
        front = below[above[below] == 0]
        distance += 1
    if placed < nodes:
        raise TreeError(f"nodes {_cycle(child, parent, above > 0)}: each stands below the one before it, in a circle")
    inner = np.flatnonzero(has_children)
    deepest = depth[inner].max(initial=0)
    return np.where(has_children, deepest - depth + 1, 0)


def _cycle(child: np.ndarray, parent: np.ndarray, open_: np.ndarray) -> str:
    """A circle among the nodes that could not be placed, all of which stand below such a one."""
    over = {}
    for c, p in zip(child.tolist(), parent.tolist(), strict=True):
        if open_[c] and open_[p]:
            over[c] = p
    node = next(iter(over))
    seen: list[int] = []
    while node not in seen:
        seen.append(node)
        node = over[node]
    circle = [*seen[seen.index(node) :], node]
    return " → ".join(map(str, circle[::-1]))


def _in_order(parents: np.ndarray) -> np.ndarray:
    """For each edge how many of its parent's stand before it."""
    order = np.argsort(parents, kind="stable")
    sorted_ = parents[order]
    found = np.empty(len(parents), np.int64)
    found[order] = np.arange(len(parents)) - np.searchsorted(sorted_, sorted_)
    return found


def _whole_numbers(name: str, values: Any) -> np.ndarray:
    found = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if found.size == 0:
        return np.empty(0, np.int64)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise TreeError(f"{name}: a list of whole numbers is expected, not {found.dtype} {found.shape}")
    return found.astype(np.int64)
