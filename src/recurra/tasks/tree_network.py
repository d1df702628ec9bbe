"""The network over trees: words, a layer from the leaves to the root, a class for each node."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from recurra.cells import CATALOGUE
from recurra.data.trees import Trees, TreeSchema
from recurra.nn.tree import SLSTM, ChildSum, ChildSumLSTM, Forest, NaryLSTM, RecursiveNetwork, TreeLayer
from recurra.tasks.model import Network, Width, cell_faults, cell_of, embedding, head_of

OF_A_NUMBER = ("nary_lstm", "s_lstm", "recursive")
"""Kinds with matrices for each of so many children."""

Share = Annotated[float, Field(ge=0, le=1)]


class TreeModelSettings(BaseModel):
    """The `model.*` settings of tree."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    bidirectional: ClassVar[bool] = False

    kind: Literal["nary_lstm", "child_sum_lstm", "s_lstm", "recursive", "child_sum"] = Field(
        default="nary_lstm",
        description="nary_lstm, child_sum_lstm (Tai et al. 2015), s_lstm (Zhu et al. 2015), recursive (one layer over "
        "the children side by side), child_sum (model.cell over the sum of the children's states)",
    )
    cell: str = Field(
        default="gru", description=f"child_sum: a cell, {', '.join(CATALOGUE)}, or file.py:name for one of your own"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="child_sum: the cell's options")
    children: Width | None = Field(
        default=None,
        description="nary_lstm, s_lstm, recursive: children with a matrix of their own, at most; the most that a node "
        "of the training part has when left out",
    )
    hidden_size: Width = Field(default=150, description="width of a node's state; of recursive, the words' too")
    embedding_size: Width = Field(default=100, description="width of a word's vector")
    embedding_dropout: Share = Field(default=0.0, description="share of the vectors' entries dropped")
    word_dropout: Share = Field(default=0.0, description="share of words taken for the unknown one in training")
    output_dropout: Share = Field(default=0.0, description="share dropped of a node's state before the head")
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers before the classes")
    vectors: str | None = Field(
        default=None, description="file of word vectors to begin with (text of word2vec or GloVe, plain or gz)"
    )
    freeze_vectors: bool = Field(default=False, description="leave those vectors as they are")

    @model_validator(mode="after")
    def _what_a_kind_can_have(self) -> "TreeModelSettings":
        if self.children is not None and self.kind not in OF_A_NUMBER:
            raise ValueError(f"children: {self.kind} takes any number of them; it is to be left out")
        if self.kind != "child_sum":
            for key in ("cell", "options"):
                if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                    raise ValueError(f"{key}: {self.kind} has a step of its own; kind child_sum takes a cell")
        if self.kind == "recursive" and "embedding_size" in self.model_fields_set:
            if self.embedding_size != self.hidden_size:
                raise ValueError(
                    f"embedding_size: of recursive a word's vector is its leaf's state, hidden_size {self.hidden_size} "
                    f"wide, not {self.embedding_size}"
                )
        elif self.kind == "recursive":
            self.embedding_size = self.hidden_size
        return self


@dataclass(frozen=True)
class TreeBatch:
    """B trees.

    Attributes:
        words: (M,) int64 indices into the vocabulary; 0 where a node has no word.
        forest: Their structure.
        labels: (M,) int64, -1 where nothing is known or asked; None where nothing is at all.
        roots: (B,) int64, each tree's root.
    """

    words: Tensor
    forest: Forest
    labels: Tensor | None
    roots: Tensor

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def inputs(self) -> tuple[Tensor, Forest]:
        """What the network is called with."""
        return self.words, self.forest

    @property
    def targets(self) -> Tensor | None:
        """See `labels`."""
        return self.labels

    @property
    def samples(self) -> int:
        """Trees."""
        return len(self)

    @property
    def steps(self) -> int:
        """Nodes."""
        return len(self.words)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "TreeBatch":
        """The batch on another device; none of its numbers has a precision."""
        labels = None if self.labels is None else self.labels.to(device)
        return replace(
            self, words=self.words.to(device), forest=self.forest.to(device), labels=labels, roots=self.roots.to(device)
        )


def batch_of(trees: Trees, indices: Tensor) -> TreeBatch:
    """The batch of some trees."""
    chosen = trees.select(indices)
    return TreeBatch(chosen.words.long(), Forest.from_parents(chosen.over), chosen.labels, chosen.roots)


def most_children(trees: Trees) -> int:
    """The most that a node has."""
    return int(trees.child_counts.max(initial=1))


class TreeNetwork(Network):
    """Words to vectors, a layer over the trees, and a linear or multi-layer head over each node's state.

    Args:
        settings: The `model.*` settings, with `children` settled.
        schema: What the training trees settled.

    Raises:
        RecipeError: A setting that cannot be had.
    """

    def __init__(self, settings: TreeModelSettings, schema: TreeSchema) -> None:
        super().__init__()
        self.settings = settings
        self.word_dropout = settings.word_dropout
        self.embedding = embedding(len(schema.vocabulary), settings.embedding_size)
        self.embedding_dropout = nn.Dropout(settings.embedding_dropout)
        self.recurrent: Any = _layer(settings)  # which stands where other tasks have layers along time
        width = settings.hidden_size
        self.head, width = head_of(width, settings.head, settings.output_dropout)
        self.output = nn.Linear(width, len(schema.classes))

    @property
    def both_ways(self) -> bool:
        """Trees are gone through from the leaves to the root."""
        return False

    @property
    def words(self) -> str:
        """See `Network.words`."""
        s = self.settings
        names = {
            "nary_lstm": f"N-ary Tree-LSTM of {s.children} {'child' if s.children == 1 else 'children'}",
            "child_sum_lstm": "child-sum Tree-LSTM",
            "s_lstm": f"S-LSTM of {s.children} children",
            "recursive": f"recursive network over {s.children} children",
            "child_sum": f"{s.cell} over the sum of the children",
        }
        return f"{names[s.kind]}, {s.hidden_size} units"

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """See `Network.by_symbol`: W and U of the layer over the trees."""
        found: dict[str, list[Tensor]] = {"embedding": [tensors["embedding.weight"]]}
        for symbol, names in (("W", ("weight_ih",)), ("U", ("weight_hh", "weight_ch", "weight_co"))):
            found[symbol] = [tensors[f"recurrent.{n}"] for n in names if f"recurrent.{n}" in tensors]
        after = [v for name, v in tensors.items() if name.startswith(("head.", "output.")) and v.dim() > 1]
        return {**found, "V": after, "head": after}

    def forward(self, words: Tensor, forest: Forest, state: Any = None, rule: Any = None) -> tuple[Tensor, None]:
        """Scores of the classes at every node.

        Args:
            words: (M,) int64.
            forest: The trees.
            state: Nothing: a tree begins at its leaves.
            rule: Nothing but backpropagation goes through trees.

        Returns:
            (M, classes); None.
        """
        if self.word_dropout and self.training:
            dropped = (torch.rand(words.shape, device=words.device) < self.word_dropout) & (words != 0)
            words = words.masked_fill(dropped, 1)
        assert self.embedding is not None
        output, _ = self.recurrent(self.embedding_dropout(self.embedding(words)), forest)
        return self.output(self.head(output)), None


def _layer(settings: TreeModelSettings) -> TreeLayer:
    inputs, units, children = settings.embedding_size, settings.hidden_size, settings.children or 2
    if settings.kind == "nary_lstm":
        return NaryLSTM(inputs, units, children)
    if settings.kind == "s_lstm":
        return SLSTM(inputs, units, children)
    if settings.kind == "recursive":
        return RecursiveNetwork(units, children)
    if settings.kind == "child_sum_lstm":
        return ChildSumLSTM(inputs, units)
    with cell_faults():
        return ChildSum(cell_of(settings.cell, settings.options), inputs, units)
