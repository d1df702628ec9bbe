"""What a task is: a head, a loss, a metric, and how its predictions are written."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor

from recurra.data.batches import Batch, by_length, collate, epoch_plan
from recurra.data.load import SequencesReader
from recurra.data.reader import Data, Reader
from recurra.data.sequences import Schema, Sequences
from recurra.engine.threads import suited
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.model import ModelSettings, Network, RecurrentSettings, SequenceModel
from recurra.tasks.scores import intervals

Metrics = dict[str, float]
Intervals = dict[str, list[float]]


class AnyBatch(Protocol):
    """Some of the data, as a network reads them."""

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the network is called with, before the state to begin with and the rule."""
        ...

    @property
    def samples(self) -> int:
        """What a run counts as its samples: sequences, or symbols where they have no end."""
        ...

    @property
    def steps(self) -> int:
        """Steps that are no padding."""
        ...

    def __len__(self) -> int:
        """Sequences."""
        ...

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Self:
        """The batch on another device, its numbers in another precision."""
        ...


class Said(Protocol):
    """What a network says of some data, in their order."""

    warnings: list[str]

    def __len__(self) -> int:
        """How many sequences."""
        ...

    def first(self, count: int) -> Self:
        """What it says of the first `count` of them."""
        ...


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


DataT = TypeVar("DataT", bound=Data)
BatchT = TypeVar("BatchT", bound=AnyBatch)
SaidT = TypeVar("SaidT", bound=Said)


class Task(ABC, Generic[DataT, BatchT, SaidT]):
    """A kind of problem, made for one data set's schema. One file a task; registered in `recurra.tasks.TASKS`.

    Args:
        schema: What the data mean.
        settings: The `train.*` settings, of the class `train_settings`.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    train_settings: ClassVar[type[TrainSettings]]
    model_settings: ClassVar[type[RecurrentSettings]] = ModelSettings
    reader: ClassVar[Reader[Any, Any]]
    """How the data are read."""
    main_metric: str
    """The metric that a run is judged by; a task may settle it by the data."""
    higher_is_better: ClassVar[bool]
    """Whether more of it is better; where that hangs on the metric, see `is_better_high`."""
    samples: ClassVar[str] = "sequences"
    """What a run counts as its samples."""
    streams: ClassVar[bool] = False
    """Whether it can be learnt from a stream of rows, each of which is a step."""
    inspected: ClassVar[str] = "recurrent"
    """The recurrent layer of the network that instruments look at, by its name there."""
    carries_state: ClassVar[bool] = False
    """Whether each batch goes on where the last one ended."""
    formats: tuple[str, ...] = ("csv", "jsonl")
    """How predictions can be written, the usual way first; "text" is `text`, what is none of "csv", "jsonl" and "text"
    is a `file`. A task may settle it by the data."""
    schema: Any
    settings: Any

    @abstractmethod
    def __init__(self, schema: Any, settings: TrainSettings) -> None:
        self.schema, self.settings = schema, settings
        self.notes: list[str] = []  # what a person should know of how the network was built

    @classmethod
    def is_better_high(cls, metric: str) -> bool:
        """Whether more of a metric that a run may be judged by is better."""
        return cls.higher_is_better

    @property
    def in_windows(self) -> bool:
        """Whether a batch has a target at every step, so that an update can be made in the middle of it."""
        return False

    def data_words(self) -> str:
        """What a step of the data is, in a sentence for the report; empty where the schema tells."""
        return ""

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """Hold the other settings of a recipe against what the task can do.

        Raises:
            RecipeError: One of them cannot be had.
        """

    def check_parts(self, model: Any, parts: Mapping[str, DataT]) -> None:
        """Hold the parts, by name, against the network's settings before anything is learnt.

        Raises:
            DataError: One of them could not be scored afterwards.
        """

    @abstractmethod
    def network(self, model: Any) -> Network:
        """The network for the schema, before it has seen data; `model` is of the class `model_settings`."""

    def build(self, model: Any, train: DataT) -> Network:
        """The network for this data, its scales (and class weights) learnt from the training part."""
        return self.network(model)

    by_output: ClassVar[tuple[str, ...]] = ()
    """Tensors of the network with a row for each thing that it puts out."""
    by_pair: ClassVar[tuple[str, ...]] = ()
    """Those with a row and a column for each."""

    def outputs_named(self, schema: Any) -> list[str]:
        """What the rows of the network's output stand for, where these can be told apart by name."""
        return []

    def unlike(self, schema: Any) -> str | None:
        """Why a run with this schema reads other inputs than this task's; None where they are alike."""
        return None

    def plan(self, data: DataT, *, seed: int, epoch: int) -> list[Tensor]:
        """The batches of an epoch, each the indices of its sequences; as many in every epoch."""
        s = self.settings
        return epoch_plan(
            data, s.batch_size, seed=seed, epoch=epoch, shuffle=s.shuffle, bucket=s.bucket, steps=s.batch_steps
        )

    @abstractmethod
    def collate(self, data: DataT, indices: Tensor) -> BatchT:
        """The batch of these indices."""

    def few(self, data: DataT, count: int) -> tuple[BatchT, str]:
        """At most so many of the data's sequences, evenly taken, in one batch, and which they are in words: "" for all
        of them, else such as "32 of 1,000 sequences"."""
        among: Any = data
        chosen = np.unique(np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int))
        batch = self.collate(among.select(chosen), torch.arange(len(chosen)))
        return batch, "" if len(chosen) == len(data) else f"{len(chosen)} of {len(data):,} {self.samples}"

    def has_targets(self, batch: Any) -> bool:
        """Whether a loss can be made of a batch."""
        return batch.targets is not None

    @abstractmethod
    def loss(self, network: Any, outputs: Any, batch: BatchT) -> Tensor:
        """What is made small: a mean over the batch's sequences, or over its steps that have a target."""

    @abstractmethod
    def predict(
        self,
        network: Any,
        data: DataT,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> SaidT:
        """What a network says of all of the data, in their order.

        Args:
            network: The network; it is put in evaluation mode and left as it was.
            data: The data.
            forward: What is called instead of the network itself: the same under Fabric.
            device: Where to run.
            dtype: In which precision numbers go in.
            carry_state: Run the sequences one after another, each beginning with the state that the last one left.
        """

    def look(
        self,
        network: Any,
        data: DataT,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> SaidT:
        """What a network says while it is in training; as `predict`, where that takes no more than one pass."""
        return self.predict(network, data, forward=forward, device=device, dtype=dtype, carry_state=carry_state)

    def calibrate(self, network: Any, data: DataT, seen: bool) -> None:
        """Learn, after training, what is left to be learnt from data that training has not learnt from.

        Args:
            network: The network, with the weights that are kept.
            data: The validation part; where there is none, the training part.
            seen: Whether it is the training part.
        """

    @abstractmethod
    def scores(self, predictions: SaidT) -> Metrics:
        """Every metric of predictions whose targets are known."""

    @property
    def chosen_by(self) -> str:
        """The metric of the validation part that the best weights are chosen by."""
        return self.main_metric

    def merit(self, scores: Metrics) -> list[float]:
        """What is compared to choose the best weights, the larger the better: the main metric, then the loss."""
        main = scores[self.main_metric]
        return [main if self.is_better_high(self.main_metric) else -main, -scores.get("loss", 0.0)]

    def intervals(self, predictions: SaidT) -> Intervals:
        """The 95 % interval of each metric that has one."""
        return {}

    @abstractmethod
    def baselines(self, train: DataT, test: SaidT) -> dict[str, Metrics]:
        """What other methods, most of them without a network, reach on the same data."""

    def findings(self, train: DataT, test: SaidT) -> list[str]:
        """What else a person should be told of a run's result, a sentence each: on the terminal and in its summary."""
        return []

    @abstractmethod
    def rows(self, predictions: SaidT, targets: bool = False) -> Iterator[dict[str, object]]:
        """The predictions as rows of a table; with `targets`, what is true beside them."""

    def shares(self, predictions: SaidT) -> Iterator[dict[str, object]]:
        """What each item of the test part adds to the metrics, a row each, with an `index` of those that are drawn
        together in an interval; none where `rows` tell it."""
        return iter(())

    def objects(self, predictions: SaidT) -> Iterator[dict[str, object]]:
        """The predictions as JSON objects, a line each."""
        return self.rows(predictions)

    def text(self, predictions: SaidT, colour: bool = False) -> str:
        """The predictions as text, for tasks that have "text" among their formats; coloured for a terminal."""
        raise NotImplementedError(f"{self.name} has no text")

    def file(self, predictions: SaidT, format: str) -> bytes:
        """The predictions as a file of that format, for tasks that have one among their formats."""
        raise NotImplementedError(f"{self.name} has no {format}")


class SequenceTask(Task[Sequences, Batch, Predictions]):
    """A task whose data are sequences with one target each, or one at every step: of these a `SequenceModel`."""

    reader = SequencesReader()
    by_output = ("output.weight", "output.bias", "target_mean", "target_deviation")
    schema: Schema

    def outputs_named(self, schema: Schema) -> list[str]:
        """See `Task.outputs_named`."""
        return schema.classes or schema.targets

    def unlike(self, schema: Schema) -> str | None:
        """See `Task.unlike`."""
        new = self.schema
        if schema.input != new.input or len(schema.features) != len(new.features):
            return f"that run reads {_inputs(schema)}, the new data are {_inputs(new)}"
        if sorted(schema.features) == sorted(new.features) and schema.features != new.features:
            return (
                f"that run reads {', '.join(schema.features)}, the new data have them in another order; data.features "
                "puts them in that one"
            )
        return None

    @property
    def in_windows(self) -> bool:
        """See `Task.in_windows`."""
        return self.schema.per_step

    def collate(self, data: Sequences, indices: Tensor) -> Batch:
        """See `Task.collate`."""
        return collate(data, indices)

    def few(self, data: Sequences, count: int) -> tuple[Batch, str]:
        """See `Task.few`: those (or the steps) whose label the training data have; where none has, all, without."""
        return super().few(_with_targets(data), count)

    @abstractmethod
    def loss(self, network: SequenceModel, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Task.loss`."""

    @abstractmethod
    def outputs(self, network: SequenceModel, outputs: Tensor) -> Tensor:
        """From what the network puts out to probabilities, or to numbers in their own units."""

    def predict(
        self,
        network: SequenceModel,
        data: Sequences,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Predictions:
        """See `Task.predict`."""
        return predict(self, network, data, forward=forward, device=device, dtype=dtype, carry_state=carry_state)

    def intervals(self, predictions: Predictions) -> Intervals:
        """See `Task.intervals`."""
        assert predictions.targets is not None
        kind = "multilabel" if predictions.schema.multi_label else self.name
        found = intervals(kind, predictions.targets, predictions.outputs, predictions.offsets, predictions.asked)
        return {k: [float(low), float(high)] for k, (low, high) in found.items()}


def _with_targets(part: Sequences) -> Sequences:
    """Those (or the steps) whose label the training data have; where none has, all, without labels."""
    if part.targets is None or part.targets.dtype != torch.int64:
        return part
    known = part.targets >= 0
    if part.per_step:
        asked = known if part.asked is None else known & part.asked
        return replace(part, asked=asked) if asked.any() else replace(part, targets=None, asked=None)
    return part.select(known.nonzero().flatten()) if known.any() else replace(part, targets=None)


def _inputs(schema: Schema) -> str:
    if schema.input == "tokens":
        return "texts"
    return f"{len(schema.features)} {'number' if len(schema.features) == 1 else 'numbers'} a step"


@torch.no_grad()
def predict(
    task: SequenceTask,
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
            batch = task.collate(data, indices).to(device, dtype)
            raw, final = (forward or network)(*batch.inputs, state)
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
