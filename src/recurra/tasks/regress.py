"""`regress`: a sequence to a number (or several), or a number at every step."""

from collections.abc import Iterator
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.batches import Batch
from recurra.data.sequences import Schema, Sequences
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Metrics, Predictions, SequenceTask
from recurra.tasks.model import ModelSettings, SequenceModel, build
from recurra.tasks.scores import regress_scores


class RegressTrainSettings(TrainSettings):
    """The `train.*` settings of regress."""

    loss: Literal["mse", "mae", "huber"] = Field(
        default="mse", description="squared error, absolute error, or Huber's mix of both"
    )
    normalise_targets: bool = Field(
        default=True,
        description="learn the targets with mean 0 and deviation 1; predictions come in their own units either way",
    )


class Regress(SequenceTask):
    """Sequence to number."""

    name = "regress"
    summary = "a sequence to a number, or a number at every step"
    train_settings = RegressTrainSettings
    main_metric = "rmse"
    higher_is_better = False
    streams = True

    def __init__(self, schema: Schema, settings: TrainSettings) -> None:
        assert isinstance(settings, RegressTrainSettings)
        super().__init__(schema, settings)
        self.settings = settings

    def network(self, model: ModelSettings) -> SequenceModel:
        """See `Task.network`."""
        return build(model, self.schema, len(self.schema.targets), per_step=self.schema.per_step)

    def build(self, model: ModelSettings, train: Sequences) -> SequenceModel:
        """See `Task.build`."""
        network = self.network(model)
        network.scale_from(train, model.normalise)
        if self.settings.normalise_targets:
            assert train.targets is not None
            values = train.targets.double()
            deviation = values.std(0, correction=0)
            network.target_mean.copy_(values.mean(0))
            network.target_deviation.copy_(torch.where(deviation > 1e-12, deviation, 1.0))
        return network

    def loss(self, network: SequenceModel, outputs: Tensor, batch: Batch) -> Tensor:
        """The mean over sequences, or over every step that is not padding, in units of the targets' scale."""
        assert batch.targets is not None
        targets = (batch.targets - network.target_mean) / network.target_deviation
        each = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[self.settings.loss]
        if not self.schema.per_step or batch.lengths is None:
            return each(outputs, targets)
        lengths = batch.lengths.to(outputs.device)
        valid = (torch.arange(len(outputs), device=outputs.device).unsqueeze(1) < lengths).unsqueeze(-1)
        errors = torch.where(valid, each(outputs, targets, reduction="none"), 0.0)
        return errors.sum() / (lengths.sum() * outputs.shape[-1])

    def outputs(self, network: SequenceModel, outputs: Tensor) -> Tensor:
        """Numbers in the targets' own units."""
        return outputs.double() * network.target_deviation + network.target_mean

    def scores(self, predictions: Predictions) -> Metrics:
        """rmse, mae, mse, r2 over sequences, or over all steps."""
        assert predictions.targets is not None
        return regress_scores(predictions.targets, predictions.outputs)

    def baselines(self, train: Sequences, test: Predictions) -> dict[str, Metrics]:
        """`mean`: always the training part's mean."""
        assert train.targets is not None
        mean = train.targets.double().mean(0).numpy()
        constant = Predictions(np.broadcast_to(mean, test.outputs.shape), test.targets, None, None, test.schema)
        return {"mean": self.scores(constant)}

    def rows(self, predictions: Predictions, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, prediction` (a column for each of several targets), with `step` where there is one a step."""
        names = predictions.schema.targets
        true = predictions.targets if targets else None
        offsets = predictions.offsets if predictions.offsets is not None else np.arange(len(predictions) + 1)
        for i in range(len(predictions)):
            for step, place in enumerate(range(offsets[i], offsets[i + 1])):
                line: dict[str, object] = {"index": i}
                if predictions.offsets is not None:
                    line["step"] = step
                for kind, values in (("target", true), ("prediction", predictions.outputs)):
                    if values is not None:
                        for name, value in zip(names, values[place], strict=True):
                            line[kind if len(names) == 1 else f"{kind}_{name}"] = float(value)
                if predictions.ids is not None:
                    line["id"] = predictions.ids[i]
                yield line
