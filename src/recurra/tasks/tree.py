"""`tree`: every node of a tree, or its root, to its class (eqs 6.72-6.75)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.tree_reader import TreeReader
from recurra.data.trees import Trees, TreeSchema
from recurra.errors import DataError
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics
from recurra.tasks.model import begin_with_vectors
from recurra.tasks.scores import FEWEST, bootstrap_interval, classify_intervals, classify_scores
from recurra.tasks.structures import StructureTask
from recurra.tasks.tree_network import OF_A_NUMBER, TreeBatch, TreeModelSettings, TreeNetwork, batch_of, most_children


class TreeTrainSettings(TrainSettings):
    """The `train.*` settings of tree."""

    batch_size: int = Field(default=25, ge=1, description="trees of an update")
    nodes: Literal["all", "root"] = Field(
        default="all", description="what is learnt from: every node that has a label, or each tree's root alone"
    )


@dataclass
class Labelled:
    """What a network says of some trees, in their order.

    Attributes:
        data: The trees.
        schema: What the numbers stand for.
        probabilities: (M, C) float64, of each node's classes.
        warnings: What a person should know.
    """

    data: Trees
    schema: TreeSchema
    probabilities: np.ndarray
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def first(self, count: int) -> "Labelled":
        """Those of the first `count` trees."""
        count = min(count, len(self))
        nodes = int(self.data.offsets[count])
        return replace(self, data=self.data.select(range(count)), probabilities=self.probabilities[:nodes])

    @property
    def of_roots(self) -> np.ndarray:
        """(N, C), of each tree's root."""
        return self.probabilities[self.data.roots.numpy()]

    @property
    def true_roots(self) -> np.ndarray:
        """(N,) the roots' classes, -1 where unknown."""
        assert self.data.labels is not None
        return self.data.labels[self.data.roots].numpy()


class Tree(StructureTask[Trees, TreeBatch, Labelled]):
    """Node of a tree to class."""

    name = structure = "tree"
    summary = "every node of a tree, or its root, to its class"
    train_settings = TreeTrainSettings
    model_settings = TreeModelSettings  # pyright: ignore[reportAssignmentType]
    reader = TreeReader()
    main_metric = "accuracy"
    higher_is_better = True
    samples = "trees"
    formats = ("csv", "jsonl", "text")
    by_output = ("output.weight", "output.bias")
    schema: TreeSchema
    settings: TreeTrainSettings

    def data_words(self) -> str:
        """See `Task.data_words`."""
        return f"A step is a node; {len(self.schema.vocabulary):,} words, {len(self.schema.classes)} classes."

    def network(self, model: TreeModelSettings) -> TreeNetwork:
        """See `Task.network`."""
        return TreeNetwork(model, self.schema)

    def build(self, model: TreeModelSettings, train: Trees) -> TreeNetwork:
        """See `Task.build`; `model.children` is settled here, and vectors are read."""
        if model.kind in OF_A_NUMBER and model.children is None:
            model.children = most_children(train)
        network = self.network(model)
        self._check_children(network, train)
        self.notes += begin_with_vectors(network, model, self.schema.vocabulary)
        return network

    def collate(self, data: Trees, indices: Tensor) -> TreeBatch:
        """See `Task.collate`."""
        return batch_of(data, indices)

    def loss(self, network: TreeNetwork, outputs: Tensor, batch: TreeBatch) -> Tensor:
        """Nats a node that has a label, of all nodes or of the roots."""
        assert batch.labels is not None
        labels = batch.labels
        if self.settings.nodes == "root":
            outputs, labels = outputs[batch.roots], labels[batch.roots]
        total = F.cross_entropy(outputs, labels, ignore_index=-1, reduction="sum")
        return total / (labels >= 0).sum().clamp(min=1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """See `StructureTask.probabilities`."""
        return outputs.softmax(-1)

    def predict(
        self,
        network: TreeNetwork,
        data: Trees,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Labelled:
        """See `Task.predict`."""
        self._check_children(network, data)
        return Labelled(data, self.schema, self.told(network, data, forward, device, dtype))

    @staticmethod
    def _check_children(network: TreeNetwork, data: Trees) -> None:
        """Raises DataError where a node has more children than the network has matrices for."""
        slots, counts = network.recurrent.slots, data.child_counts
        if slots and counts.max(initial=0) > slots:
            node = int((counts > slots).argmax())
            tree = int(np.searchsorted(data.offsets.numpy(), node, side="right")) - 1
            raise DataError(
                f"tree {tree + 1} (line {int(data.lines[tree])}): a node has {counts[node]} children, but the network "
                f"is a {network.words}. In training, model.children={counts[node]} makes room; "
                "model.kind=child_sum_lstm takes any number."
            )

    def scores(self, predictions: Labelled) -> Metrics:
        """accuracy, f1 (macro) and loss (nats a tree) of the roots; node_accuracy of all nodes that have a label."""
        found = classify_scores(predictions.true_roots, predictions.of_roots)
        right = self._of_nodes(predictions)
        return found | {"node_accuracy": float(right[:, 0].sum() / right[:, 1].sum())}

    def intervals(self, predictions: Labelled) -> Intervals:
        """Wilson for the accuracy of roots; bootstrap over whole trees for the rest."""
        found = classify_intervals(predictions.true_roots, predictions.of_roots)
        if len(predictions) >= FEWEST:
            found["node_accuracy"] = bootstrap_interval(self._of_nodes(predictions), _ratio, 0)
        return {name: [float(low), float(high)] for name, (low, high) in found.items()}

    @staticmethod
    def _of_nodes(predictions: Labelled) -> np.ndarray:
        """Nodes told rightly, and nodes with a label, of each tree: (N, 2)."""
        assert predictions.data.labels is not None
        labels = predictions.data.labels.numpy()
        right = (predictions.probabilities.argmax(1) == labels) & (labels >= 0)
        columns = np.stack([right, labels >= 0], 1).astype(np.float64)
        return np.add.reduceat(columns, predictions.data.offsets.numpy()[:-1])

    def baselines(self, train: Trees, test: Labelled) -> dict[str, Metrics]:
        """`majority`: always the commonest class of the training part's roots, and of its other nodes."""
        assert train.labels is not None
        classes, said = len(self.schema.classes), np.zeros_like(test.probabilities)
        is_root = test.data.parents.numpy() < 0
        of_root = train.parents < 0
        for among, rows in ((of_root, is_root), (~of_root, ~is_root)):
            labels = train.labels[among & (train.labels >= 0)].numpy()
            counts = np.bincount(labels, minlength=classes) + 0.0
            said[rows] = counts / max(1.0, counts.sum())
        return {"majority": self.scores(replace(test, probabilities=said))}

    def rows(self, predictions: Labelled, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, prediction, p_<class>…` of each tree's root; with targets what is true before the prediction."""
        classes, known = self.schema.classes, targets and predictions.data.labels is not None
        for i, said in enumerate(predictions.of_roots):
            line: dict[str, object] = {"index": i}
            if known:
                true = int(predictions.true_roots[i])
                line["target"] = classes[true] if true >= 0 else ""
            line["prediction"] = classes[int(said.argmax())]
            yield line | {f"p_{name}": float(p) for name, p in zip(classes, said, strict=True)}

    def objects(self, predictions: Labelled) -> Iterator[dict[str, object]]:
        """`tokens`, `parents`, and the `labels` said of all nodes, a tree each."""
        data, labels = predictions.data, self.labels(predictions)
        for i in range(len(predictions)):
            nodes = range(int(data.offsets[i]), int(data.offsets[i + 1]))
            yield {
                "tokens": [data.word(node) for node in nodes],
                "parents": data.parents[nodes.start : nodes.stop].tolist(),
                "labels": labels[nodes.start : nodes.stop],
            }

    def labels(self, predictions: Labelled) -> list[str]:
        """The class said of each node."""
        return [self.schema.classes[k] for k in predictions.probabilities.argmax(1).tolist()]

    def text(self, predictions: Labelled, colour: bool = False) -> str:
        """The trees in brackets, a line each, with the classes said of their nodes."""
        data, labels = predictions.data, self.labels(predictions)
        offsets = data.offsets.tolist()
        return "".join(f"{data.written(i, labels[offsets[i] : offsets[i + 1]])}\n" for i in range(len(predictions)))


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / np.maximum(sums[:, 1], 1)
