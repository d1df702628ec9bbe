"""What a task is: a head, a loss, a metric, and how its predictions are written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recurra.data.batches import Batch, by_length, collate
from recurra.data.sequences import Schema, Sequences
from recurra.engine.threads import suited
from recurra.learn.optimise import TrainSettings
from recurra.tasks.model import ModelSettings, SequenceModel

Metrics = dict[str, float]


@dataclass
class Predictions:
    """What a model says of some sequences, in their order.

    Attributes:
        outputs: Float64; classify: probabilities (N, C); regress: numbers in the targets' own units, (N, K); at every
            step the same with S rows.
        targets: What is true, where known: as in `Sequences.targets`.
        offsets: (N + 1,) bounds of the sequences where there is an output at every step, else None.
        ids: The sequences' names where the data give them.
        schema: What the numbers stand for.
        warnings: What a person should know of the data.
        asked: (S,) bool: at every step, those that have a target; None where all have.
    """

    outputs: np.ndarray
    targets: np.ndarray | None
    offsets: np.ndarray | None
    ids: Sequence[str] | None
    schema: Schema
    warnings: list[str] = field(default_factory=list)
    asked: np.ndarray | None = None

    @property
    def labels(self) -> list[str]:
        """classify: the label said of each sequence, or of each step (several labels at once joined by ';')."""
        classes = self.schema.classes
        if self.schema.multi_label:
            return [";".join(c for c, p in zip(classes, row, strict=True) if p >= 0.5) for row in self.outputs]
        return [classes[i] for i in self.outputs.argmax(1)]

    def first(self, count: int) -> "Predictions":
        """Those of the first `count` sequences."""
        rows = count if self.offsets is None else int(self.offsets[min(count, len(self))])
        return replace(
            self,
            outputs=self.outputs[:rows],
            targets=None if self.targets is None else self.targets[:rows],
            asked=None if self.asked is None else self.asked[:rows],
            offsets=None if self.offsets is None else self.offsets[: count + 1],
            ids=None if self.ids is None else self.ids[:count],
        )

    def __len__(self) -> int:
        return len(self.outputs) if self.offsets is None else len(self.offsets) - 1


class Task(ABC):
    """A kind of problem, made for one data set's schema. One file a task; registered in `recurra.tasks.TASKS`.

    Args:
        schema: What the data mean.
        settings: The `train.*` settings, of the class `train_settings`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    train_settings: ClassVar[type[TrainSettings]]
    main_metric: ClassVar[str]
    """The metric that a run is judged by."""
    higher_is_better: ClassVar[bool]
    schema: Schema

    @abstractmethod
    def __init__(self, schema: Schema, settings: TrainSettings) -> None:
        self.schema = schema

    @abstractmethod
    def build(self, model: ModelSettings, train: Sequences) -> SequenceModel:
        """The network for this data, its scales (and class weights) learnt from the training part."""

    @abstractmethod
    def loss(self, network: SequenceModel, outputs: Tensor, batch: Batch) -> Tensor:
        """What is made small: a mean over the batch's sequences, or over its steps that have a target."""

    @abstractmethod
    def outputs(self, network: SequenceModel, outputs: Tensor) -> Tensor:
        """From what the network puts out to probabilities, or to numbers in their own units."""

    @abstractmethod
    def scores(self, predictions: Predictions) -> Metrics:
        """Every metric of predictions whose targets are known."""

    @abstractmethod
    def baselines(self, train: Sequences, test: Predictions) -> dict[str, Metrics]:
        """What a method without learning reaches on the same data."""

    @abstractmethod
    def rows(self, predictions: Predictions, targets: bool = False) -> Iterator[dict[str, object]]:
        """The predictions as rows to be written; with `targets`, what is true beside them."""


@torch.no_grad()
def predict(
    task: Task,
    network: SequenceModel,
    data: Sequences,
    *,
    forward: Callable[..., tuple[Tensor, Any]] | None = None,
    batch_size: int = 256,
    device: torch.device | None = None,
    dtype: torch.dtype | None = None,
    carry_state: bool = False,
) -> Predictions:
    """Run a network over all sequences, those of like length together, and put the results in the data's order.

    Args:
        task: The task.
        network: The network.
        data: The sequences.
        forward: What is called instead of the network itself: the same under Fabric.
        batch_size: Sequences at once.
        device: Where to run.
        dtype: In which precision numbers go in.
        carry_state: Run the sequences one after another, each beginning with the state that the last one left.
    """
    device = device or torch.device("cpu")
    was_training = network.training
    network.eval()
    state = None
    per_step = network.pool == "none"
    plan = list(torch.arange(len(data)).split(1)) if carry_state else by_length(data, batch_size)
    results: list[np.ndarray] = [np.empty(0)] * len(data)
    with suited(network, batch_size):
        for indices in plan:
            batch = collate(data, indices).to(device, dtype)
            raw, final = (forward or network)(batch.x, batch.lengths, state)
            state = final if carry_state else None
            values = task.outputs(network, raw).double().cpu()
            for row, index in enumerate(indices.tolist()):
                length = int(data.lengths[index])
                results[index] = (values[:length, row] if per_step else values[row].unsqueeze(0)).numpy()
    network.train(was_training)
    width = network.output.out_features
    return Predictions(
        outputs=np.concatenate(results) if results else np.empty((0, width)),
        targets=None if data.targets is None else data.targets.numpy(),
        offsets=data.offsets.numpy() if per_step else None,
        ids=data.ids,
        schema=task.schema,
        asked=None if data.asked is None else data.asked.numpy(),
    )
