"""`graph`: a graph, or each node of one, to its class (eqs 6.76-6.78)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.graph_reader import GraphReader
from recurra.data.graphs import Graphs, GraphSchema
from recurra.errors import DataError
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics
from recurra.tasks.graph_network import MOST, GraphBatch, GraphModelSettings, GraphNetwork, batch_of
from recurra.tasks.scores import FEWEST, classify_intervals, classify_scores, step_intervals
from recurra.tasks.structures import StructureTask


class GraphTrainSettings(TrainSettings):
    """The `train.*` settings of graph."""

    batch_size: int = Field(default=32, ge=1, description="graphs of an update")


@dataclass
class GraphsTold:
    """What a network says of some graphs, in their order.

    Attributes:
        data: The graphs.
        schema: What the numbers stand for.
        probabilities: (N, C) float64, of each graph's classes; (M, C) where nodes have them.
        warnings: What a person should know.
    """

    data: Graphs
    schema: GraphSchema
    probabilities: np.ndarray
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def first(self, count: int) -> "GraphsTold":
        """Those of the first `count` graphs."""
        count = min(count, len(self))
        rows = int(self.data.offsets[count]) if self.data.per_node else count
        return replace(self, data=self.data.select(range(count)), probabilities=self.probabilities[:rows])

    @property
    def truth(self) -> np.ndarray:
        """(N,) or (M,) classes, -1 where unknown or not asked for."""
        labels = self.data.labels
        return np.full(len(self.probabilities), -1) if labels is None else labels.numpy()

    @property
    def labels(self) -> list[str]:
        """The class said of each graph, or of each node."""
        return [self.schema.classes[k] for k in self.probabilities.argmax(1).tolist()]

    @property
    def asked(self) -> np.ndarray:
        """Rows that are scored: all graphs, or the nodes that have a class."""
        return np.flatnonzero(self.truth >= 0) if self.data.per_node else np.arange(len(self.probabilities))


class Graph(StructureTask[Graphs, GraphBatch, GraphsTold]):
    """Graph, or node of a graph, to class."""

    name = structure = "graph"
    summary = "a graph, or each node of one, to its class"
    train_settings = GraphTrainSettings
    model_settings = GraphModelSettings  # pyright: ignore[reportAssignmentType]
    reader = GraphReader()
    main_metric = "accuracy"
    higher_is_better = True
    samples = "graphs"
    inspected = "members.0.recurrent"
    by_output = tuple(
        f"members.{i}.{layer}.{what}"
        for i in range(MOST)
        for layer in ("output", "recurrent.output.2")  # the second of mpnn
        for what in ("weight", "bias")
    )
    schema: GraphSchema
    settings: GraphTrainSettings

    def data_words(self) -> str:
        """See `Task.data_words`."""
        s = self.schema
        what = [f"{len(s.node_labels)} labels of nodes"] if s.node_labels else []
        what += [f"{s.attributes:,} numbers a node"] if s.attributes else []
        what += [f"{len(s.edge_labels)} labels of edges"] if s.edge_labels else []
        what += [f"{s.edge_attributes:,} numbers an edge"] if s.edge_attributes else []
        whose = "graphs" if s.target == "graph" else "nodes"
        return f"A step is a node; {', '.join([*what, f'{len(s.classes)} classes of {whose}'])}."

    def network(self, model: GraphModelSettings) -> GraphNetwork:
        """See `Task.network`."""
        return GraphNetwork(model, self.schema)

    def build(self, model: GraphModelSettings, train: Graphs) -> GraphNetwork:
        """See `Task.build`; the network settles `model.message`.

        Raises:
            DataError: One class alone.
        """
        if len(classes := self.schema.classes) < 2:
            found = f"only the class {classes[0]!r}" if classes else "no class"
            raise DataError(f"{found} in the training data; at least two are expected.")
        network = self.network(model)
        network.learn_scales(train)
        return network

    def unlike(self, schema: GraphSchema) -> str | None:
        """See `Task.unlike`."""
        for what, old, new in (
            ("classes of", schema.target, self.schema.target),
            ("numbers a node:", schema.attributes, self.schema.attributes),
            ("numbers an edge:", schema.edge_attributes, self.schema.edge_attributes),
        ):
            if old != new:
                return f"that run learnt {what} {old}, the new data have {new}"
        return None

    def collate(self, data: Graphs, indices: Tensor) -> GraphBatch:
        """See `Task.collate`."""
        return batch_of(data, indices)

    def loss(self, network: GraphNetwork, outputs: Tensor, batch: GraphBatch) -> Tensor:
        """Nats a graph, or a node that has a class; the mean over members, which learn each by itself."""
        assert batch.labels is not None
        labels = batch.labels.expand(outputs.shape[:2])
        total = F.cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=-1, reduction="sum")
        return total / (labels >= 0).sum().clamp(min=1)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """See `StructureTask.probabilities`: the mean over members."""
        return outputs.softmax(-1).mean(0)

    def predict(
        self,
        network: GraphNetwork,
        data: Graphs,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> GraphsTold:
        """See `Task.predict`."""
        return GraphsTold(data, self.schema, self.told(network, data, forward, device, dtype))

    def scores(self, predictions: GraphsTold) -> Metrics:
        """accuracy, f1 (macro) and loss (nats) of graphs, or of the nodes that have a class."""
        rows = predictions.asked
        return classify_scores(predictions.truth[rows], predictions.probabilities[rows])

    def intervals(self, predictions: GraphsTold) -> Intervals:
        """Wilson for the accuracy, bootstrap for the rest; of nodes bootstrap over whole graphs where there are enough
        of these, since nodes of one graph are not independent."""
        truth, said, rows = predictions.truth, predictions.probabilities, predictions.asked
        if predictions.data.per_node and len(predictions) >= FEWEST:
            found = step_intervals(truth, said, predictions.data.offsets.numpy(), truth >= 0)
            found.pop("sequence_accuracy")
        else:
            found = classify_intervals(truth[rows], said[rows])
        return {name: [float(low), float(high)] for name, (low, high) in found.items()}

    def baselines(self, train: Graphs, test: GraphsTold) -> dict[str, Metrics]:
        """`majority`: always the commonest class; `counts`: logistic regression on how often each label stands in the
        graph, and on the means of its numbers; of nodes `alone`, on what stands at the node itself."""
        assert train.labels is not None
        classes = len(self.schema.classes)
        counts = np.bincount(train.labels[train.labels >= 0].numpy(), minlength=classes) + 0.0
        said = np.tile(counts / counts.sum(), (len(test.probabilities), 1))
        found = {"majority": self.scores(replace(test, probabilities=said))}
        inputs = [_without_structure(part, len(self.schema.node_labels)) for part in (train, test.data)]
        known = train.labels.numpy() >= 0
        if inputs[0].shape[1] and len(np.unique(train.labels.numpy()[known])) > 1:
            from sklearn.linear_model import LogisticRegression  # takes a second to import

            center, spread = inputs[0].mean(0), inputs[0].std(0)
            x, new = ((each - center) / np.where(spread > 0, spread, 1) for each in inputs)
            model = LogisticRegression(max_iter=1000).fit(x[known], train.labels.numpy()[known])
            said = np.zeros_like(test.probabilities)
            said[:, model.classes_] = model.predict_proba(new)
            found["alone" if train.per_node else "counts"] = self.scores(replace(test, probabilities=said))
        return found

    def rows(self, predictions: GraphsTold, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, id, prediction, p_<class>…` of each graph; of nodes `node` behind the index, counted from 0. With
        targets what is true before the prediction, and of nodes those alone that have a class."""
        data, classes, truth = predictions.data, self.schema.classes, predictions.truth
        known = targets and data.labels is not None
        graph, offsets = data.graph.tolist(), data.offsets.tolist()
        for row in predictions.asked.tolist() if known else range(len(predictions.probabilities)):
            index, said = graph[row] if data.per_node else row, predictions.probabilities[row]
            line: dict[str, object] = {"index": index}
            if data.ids is not None:
                line["id"] = data.ids[index]
            if data.per_node:
                line["node"] = row - offsets[index]
            if known:
                line["target"] = classes[truth[row]] if truth[row] >= 0 else ""
            line["prediction"] = classes[int(said.argmax())]
            yield line | {f"p_{name}": float(p) for name, p in zip(classes, said, strict=True)}


def _without_structure(graphs: Graphs, labels: int) -> np.ndarray:
    """What a graph is made of, and not how: how often each label stands in it, how many nodes it has, the means of its
    numbers. Of nodes: the label and numbers of each."""
    rows = graphs.nodes.numpy()
    columns = (rows[:, None] == np.arange(labels)).astype(np.float64)
    numbers = graphs.attributes.numpy().astype(np.float64)
    if graphs.per_node:
        return np.concatenate([columns, numbers], 1)
    sums = np.add.reduceat(np.concatenate([columns, numbers], 1), graphs.offsets.numpy()[:-1])
    sizes = graphs.lengths.numpy()[:, None].astype(np.float64)
    return np.concatenate([sums[:, :labels], sums[:, labels:] / sizes, sizes], 1)
