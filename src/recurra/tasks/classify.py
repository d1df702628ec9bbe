"""`classify`: a sequence, or every step of it, to its class, or to several labels at once (eqs 6.20-6.22)."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.batches import Batch
from recurra.data.sequences import Schema, Sequences
from recurra.errors import RecipeError, unknown
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Metrics, Predictions, SequenceTask
from recurra.tasks.model import ModelSettings, SequenceModel, build
from recurra.tasks.scores import classify_scores, multilabel_scores, step_scores


class ClassifyTrainSettings(TrainSettings):
    """The `train.*` settings of classify."""

    class_weights: Literal["none", "balanced"] | dict[str, Annotated[float, Field(gt=0)]] = Field(
        default="none",
        description="weight of each class in the loss: none, balanced (rare classes count more), or a table of numbers",
    )
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="share of the target spread over all classes")


class Classify(SequenceTask):
    """Sequence to class, or step to class: one label each, or several at once."""

    name = "classify"
    summary = "a sequence, or every step of it, to its class, or to several labels at once"
    train_settings = ClassifyTrainSettings
    main_metric = "accuracy"
    higher_is_better = True
    streams = True

    def __init__(self, schema: Schema, settings: TrainSettings) -> None:
        assert isinstance(settings, ClassifyTrainSettings)
        super().__init__(schema, settings)
        self.settings = settings
        self.weights: Tensor | None = None

    def network(self, model: ModelSettings) -> SequenceModel:
        """See `Task.network`."""
        return build(model, self.schema, len(self.schema.classes), per_step=self.schema.per_step)

    def build(self, model: ModelSettings, train: Sequences) -> SequenceModel:
        """See `Task.build`."""
        network = self.network(model)
        network.scale_from(train, model.normalise)
        self.weights = self._class_weights(train)
        return network

    def _class_weights(self, train: Sequences) -> Tensor | None:
        """The weight of each class, (C,), with mean 1 over the training part's sequences (or steps); for several labels
        at once, how much more a label that is there counts than one that is not."""
        wanted, classes = self.settings.class_weights, self.schema.classes
        if wanted == "none":
            return None
        targets = _known(train)
        if isinstance(wanted, dict):
            for label in wanted:
                if label not in classes:
                    raise RecipeError("train.class_weights: " + unknown("class", label, classes))
        if self.schema.multi_label:
            counts = targets.double().sum(0).clamp(min=1)
            if wanted == "balanced":
                return ((len(targets) - counts) / counts).clamp(min=1).float()
            return torch.tensor([float(wanted.get(c, 1.0)) for c in classes])
        counts = torch.bincount(targets, minlength=len(classes)).double()
        if wanted == "balanced":
            weights = 1 / counts.clamp(min=1)
        else:
            weights = torch.tensor([wanted.get(c, 1.0) for c in classes], dtype=torch.float64)
        return (weights * counts.sum() / (weights * counts).sum()).float()

    def loss(self, network: SequenceModel, outputs: Tensor, batch: Batch) -> Tensor:
        """Cross entropy in nats a sequence, or a step that has a target; for several labels at once, summed over the
        labels."""
        assert batch.targets is not None
        targets = batch.targets
        if self.schema.per_step:
            outputs, targets = (
                values.flatten(0, 1) if batch.asked is None else values[batch.asked] for values in (outputs, targets)
            )
        count = max(1, len(targets))  # of a single step nothing may be asked
        smoothing = self.settings.label_smoothing
        weights = None if self.weights is None else self.weights.to(outputs)
        if not self.schema.multi_label:
            # Summed, since PyTorch's mean divides by the batch's own weights, which would undo them in small batches.
            total = F.cross_entropy(outputs, targets, weight=weights, label_smoothing=smoothing, reduction="sum")
            return total / count
        targets = targets.to(outputs) * (1 - smoothing) + smoothing / 2
        total = F.binary_cross_entropy_with_logits(outputs, targets, pos_weight=weights, reduction="sum")
        return total / count

    def outputs(self, network: SequenceModel, outputs: Tensor) -> Tensor:
        """Probabilities, (B, C), or (T, B, C) per step."""
        return torch.sigmoid(outputs.double()) if self.schema.multi_label else torch.softmax(outputs.double(), -1)

    def scores(self, predictions: Predictions) -> Metrics:
        """accuracy, f1 (macro), loss (nats a sequence), over sequences; with a label at every step over the steps that
        have one, and sequence_accuracy, the share of sequences with every such step right."""
        assert predictions.targets is not None
        said = predictions.targets, predictions.outputs
        if self.schema.per_step:
            assert predictions.offsets is not None
            return step_scores(*said, predictions.offsets, predictions.asked)
        return (multilabel_scores if self.schema.multi_label else classify_scores)(*said)

    def baselines(self, train: Sequences, test: Predictions) -> dict[str, Metrics]:
        """`majority`: always the training part's commonest class (for several labels: those that most have)."""
        targets = _known(train)
        if self.schema.multi_label:
            share = targets.double().mean(0).numpy()
        else:
            counts = np.bincount(targets.numpy(), minlength=len(test.schema.classes))
            share = counts / counts.sum()
        return {"majority": self.scores(replace(test, outputs=np.broadcast_to(share, test.outputs.shape)))}

    def rows(self, predictions: Predictions, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, prediction, p_<class>…`, with the sequence's id and target where they are known.

        With a label at every step there is a `step` behind the index, counted from 0; with targets, only the steps
        that have one are there.
        """
        classes = predictions.schema.classes
        true = predictions.targets if targets else None
        wanted = predictions.asked if targets else None
        offsets = predictions.offsets if predictions.offsets is not None else np.arange(len(predictions) + 1)
        labels = predictions.labels
        for i in range(len(predictions)):
            for step, place in enumerate(range(offsets[i], offsets[i + 1])):
                if wanted is not None and not wanted[place]:
                    continue
                line: dict[str, object] = {"index": i}
                if predictions.offsets is not None:
                    line["step"] = step
                if true is not None:
                    line["target"] = _label(classes, true[place])
                line["prediction"] = labels[place]
                line |= {f"p_{c}": float(p) for c, p in zip(classes, predictions.outputs[place], strict=True)}
                if predictions.ids is not None:
                    line["id"] = predictions.ids[i]
                yield line


def _known(data: Sequences) -> Tensor:
    """The targets that there are: of the sequences, or of the steps that have one."""
    assert data.targets is not None
    return data.targets if data.asked is None else data.targets[data.asked]


def _label(classes: list[str], target: Any) -> str:
    if isinstance(target, np.ndarray):
        return ";".join(c for c, there in zip(classes, target, strict=True) if there)
    return classes[target] if target >= 0 else ""
