"""Trees whose nodes may bear a word and a label, laid end to end."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recurra.data.brackets import bracketed
from recurra.data.sequences import AnySchema, steps_of
from recurra.data.settings import PlaceSettings


class TreeSettings(PlaceSettings):
    """Where the trees are and how to read them."""

    lowercase: bool = Field(default=True, description="fold words to lower case for the vocabulary")
    min_count: int = Field(default=1, ge=1, description="words seen less often become the unknown word")
    max_vocabulary: int = Field(
        default=50_000, ge=3, description="largest number of words kept, the most frequent first"
    )
    merge_labels: dict[str, list[str | int]] | None = Field(
        default=None,
        description="classes made of several labels, such as { negative = [0, 1], positive = [3, 4] }; nothing is "
        "asked of nodes with any other label, and trees with such a root are left out (counted and said)",
    )


class TreeSchema(AnySchema):
    """What the training trees settled."""

    vocabulary: list[str] = Field(default_factory=list)  # index -> word, folded; 0 is padding, 1 the unknown word
    classes: list[str] = Field(default_factory=list)  # index -> class
    lowercase: bool = True


@dataclass(frozen=True)
class Trees:
    """N trees, M nodes.

    Attributes:
        words: (M,) int32 indices into the schema's vocabulary; 0 where a node has no word.
        surface: (M,) int32, the word as it is written, an index into `forms`; -1 where there is none.
        forms: The different words as they are written.
        parents: (M,) int64, each node's parent, counted from its tree's first node; -1 for a root.
        labels: (M,) int64 indices into the schema's classes, -1 where unknown or not asked for; None where all are.
        offsets: (N + 1,) int64; tree i has the nodes `offsets[i]` to `offsets[i + 1]`.
        lines: (N,) int64, where each stands in its file, from 1.
    """

    words: Tensor
    surface: Tensor
    forms: Sequence[str]
    parents: Tensor
    labels: Tensor | None
    offsets: Tensor
    lines: Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Nodes of each tree, (N,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    @cached_property
    def roots(self) -> Tensor:
        """(N,) int64, each tree's root among all M nodes."""
        return (self.parents < 0).nonzero().flatten()

    @cached_property
    def over(self) -> np.ndarray:
        """(M,) int64, each node's parent among all M; -1 for a root."""
        first = np.repeat(self.offsets[:-1].numpy(), self.lengths.numpy())
        parents = self.parents.numpy()
        return np.where(parents < 0, -1, parents + first)

    @cached_property
    def child_counts(self) -> np.ndarray:
        """(M,) int64, how many children each node has."""
        return np.bincount(self.over[self.over >= 0], minlength=len(self.over))

    @cached_property
    def words_below(self) -> np.ndarray:
        """(M,) int64, how many words stand at each node and below it."""
        over, counts = self.over, (self.surface >= 0).numpy().astype(np.int64)
        depth, at = np.zeros(len(over), np.int64), over.copy()
        while (at >= 0).any():
            depth[at >= 0] += 1
            at = np.where(at >= 0, over[at], -1)
        for node in np.argsort(-depth, kind="stable"):  # from the deepest up
            if over[node] >= 0:
                counts[over[node]] += counts[node]
        return counts

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Trees":
        """The named trees, in the order given (copied)."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        offsets, nodes = steps_of(self.offsets, chosen)
        return replace(
            self,
            words=self.words[nodes],
            surface=self.surface[nodes],
            parents=self.parents[nodes],
            labels=None if self.labels is None else self.labels[nodes],
            offsets=offsets,
            lines=self.lines[chosen],
        )

    def word(self, node: int) -> str | None:
        """A node's word as it is written."""
        index = int(self.surface[node])
        return None if index < 0 else self.forms[index]

    def children(self, index: int) -> dict[int, list[int]]:
        """The children of each inner node of a tree, all counted among all M nodes."""
        found: dict[int, list[int]] = {}
        for node in range(int(self.offsets[index]), int(self.offsets[index + 1])):
            if (parent := int(self.over[node])) >= 0:
                found.setdefault(parent, []).append(node)
        return found

    def written(self, index: int, labels: Sequence[str]) -> str:
        """A tree in brackets, with these labels, one for each of its nodes; a word at an inner node stands first.

        Where words stand at all leaves and nowhere else, `recurra.data.brackets` reads it back.
        """
        first, children = int(self.offsets[index]), self.children(index)
        parts: list[str] = []
        open_: list[int | str] = [int(self.roots[index])]
        while open_:
            node = open_.pop()
            if isinstance(node, str):
                parts.append(node)
                continue
            word = self.word(node)
            parts.append(f" ({labels[node - first]}" + ("" if word is None else f" {bracketed(word)}"))
            open_ += [")", *reversed(children.get(node, []))]
        return "".join(parts).strip()
