"""Figures that run along with a stream, in memory that does not grow: scales, and how good predictions were."""

from collections.abc import Mapping
from math import log, sqrt
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.tasks import Metrics, Predictions, Task
from recurra.tasks.model import Normalise

SMALLEST = 1e-12
"""What varies less than this is only shifted."""


class Scale:
    """What brings the numbers of a stream to a common scale: mean and deviation of all that came so far.

    In double precision, by the update of Welford (1962) in the form for several values at once (Chan, Golub & LeVeque
    1979). Nothing is known of numbers that have not come.

    Args:
        width: How many numbers a row has.
        how: As `model.normalise`: each by itself ("feature"), all of them together ("global"), from the least to the
            greatest ("unit"), or not at all ("none").
    """

    def __init__(self, width: int, how: Normalise) -> None:
        self.how = "feature" if how == "auto" else how
        self.count = 0
        own = width if self.how == "feature" else 1
        self.mean, self.squares = np.zeros(own), np.zeros(own)
        self.low, self.high = np.inf, -np.inf

    def add(self, values: np.ndarray) -> None:
        """Take in a row, (D,)."""
        if self.how == "none":
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        rows = values[None] if self.how == "feature" else values[:, None]
        n, total = len(rows), self.count + len(rows)
        mean = rows.mean(0)
        apart = mean - self.mean
        self.squares += np.square(rows - mean).sum(0) + np.square(apart) * (self.count * n / total)
        self.mean += apart * (n / total)
        self.count = total

    def fill(self, mean: Tensor, deviation: Tensor) -> None:
        """Write what is to be subtracted and what is to be divided by; before anything came, 0 and 1."""
        if self.how == "none" or not self.count:
            return
        if self.how == "unit":
            shift, spread = np.array([self.low]), np.array([self.high - self.low])
        else:
            shift, spread = self.mean, np.sqrt(self.squares / self.count)
        mean.copy_(torch.from_numpy(shift))
        deviation.copy_(torch.from_numpy(np.where(spread > SMALLEST, spread, 1.0)))

    def tensors(self) -> dict[str, Tensor]:
        """All that the rest depends on."""
        ends = np.array([self.count, self.low, self.high])
        return {name: torch.from_numpy(v.copy()) for name, v in vars(self).items() if name in ("mean", "squares")} | {
            "ends": torch.from_numpy(ends)
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        self.mean, self.squares = tensors["mean"].numpy().copy(), tensors["squares"].numpy().copy()
        count, self.low, self.high = tensors["ends"].tolist()
        self.count = int(count)


class Scores:
    """How good the predictions were that were made before their targets were seen.

    The last `window` of them are kept and scored as a task scores a test part; of those before only sums are kept.

    Args:
        task: The task.
        window: How many.
    """

    def __init__(self, task: Task, window: int) -> None:
        self.task, schema = task, task.schema
        self.several, self.is_classes = schema.multi_label, bool(schema.classes)
        width = len(schema.classes) or len(schema.targets)
        shape = (window, width) if self.several or not self.is_classes else (window,)
        kind = bool if self.several else np.int64 if self.is_classes else np.float64
        self.outputs, self.targets = np.zeros((window, width)), np.zeros(shape, kind)
        self.losses = np.zeros(window)
        self.count = 0
        self.sums = dict.fromkeys(("loss", "right", "absolute", "plain", "plain_absolute"), 0.0)
        self.met = np.zeros(width)  # regress: the sum of the targets; classify: how often each class came

    def add(self, outputs: np.ndarray, target: Any) -> None:
        """Take in a prediction, (C,) probabilities or (K,) numbers, and what was true."""
        place = self.count % len(self.losses)
        self.outputs[place], self.targets[place] = outputs, target
        self.losses[place] = loss = self._loss(outputs, target)
        self.sums["loss"] += loss
        if not self.is_classes:
            self.sums["absolute"] += float(np.abs(outputs - target).mean())
            if self.count:
                plain = self.met / self.count - target
                self.sums["plain"] += float(np.square(plain).mean())
                self.sums["plain_absolute"] += float(np.abs(plain).mean())
        elif self.several:
            self.sums["right"] += float(np.array_equal(outputs >= 0.5, target))
        else:
            self.sums["right"] += float(outputs.argmax() == target)
            self.sums["plain"] += float(self.count > 0 and self.met.argmax() == target)
        if self.is_classes and not self.several:
            self.met[target] += 1
        else:
            self.met += target
        self.count += 1

    def _loss(self, outputs: np.ndarray, target: Any) -> float:
        """The squared error; or how unlikely the true class was held to be, or the true set of labels, in nats."""
        if not self.is_classes:
            return float(np.square(outputs - target).mean())
        tiny = np.finfo(np.float64).tiny
        if self.several:
            return float(-np.log(np.maximum(np.where(target, outputs, 1 - outputs), tiny)).sum())
        return -log(max(float(outputs[target]), tiny))

    @property
    def kept(self) -> int:
        """How many predictions are kept."""
        return min(self.count, len(self.losses))

    @property
    def recent_loss(self) -> float | None:
        """The mean loss of the last `window` predictions."""
        return float(self.losses[: self.count].mean()) if self.count else None

    def recent_losses(self, count: int | None = None) -> np.ndarray:
        """The last `count` losses, as far as they are kept; all that are, where None."""
        n = self.kept if count is None else min(count, self.kept)
        return self.losses[(self.count - n + np.arange(n)) % len(self.losses)]

    def window(self) -> Metrics:
        """The task's scores over the last `window` predictions."""
        n = self.kept
        if not n:
            return {}
        offsets = np.array([0, n])  # the order does not matter to any score
        found = self.task.scores(Predictions(self.outputs[:n], self.targets[:n], offsets, None, self.task.schema))
        found.pop("sequence_accuracy", None)  # there is one sequence without end
        return found

    def so_far(self) -> Metrics:
        """Scores since the stream began."""
        if not self.count:
            return {}
        loss = self.sums["loss"] / self.count
        if self.is_classes:
            return {"accuracy": self.sums["right"] / self.count, "loss": loss}
        return {"rmse": sqrt(loss), "mae": self.sums["absolute"] / self.count, "mse": loss}

    def plain(self) -> dict[str, Metrics]:
        """Scores since the second target of who always says the mean so far, or the class that came most often."""
        if self.count < 2 or self.several:
            return {}
        n = self.count - 1
        if self.is_classes:
            return {"commonest so far": {"accuracy": self.sums["plain"] / n}}
        mse = self.sums["plain"] / n
        return {"mean so far": {"rmse": sqrt(mse), "mae": self.sums["plain_absolute"] / n, "mse": mse}}

    def tensors(self) -> dict[str, Tensor]:
        """All that the rest depends on."""
        n = self.kept
        kept = {"outputs": self.outputs[:n], "targets": self.targets[:n], "losses": self.losses[:n], "met": self.met}
        kept |= {"sums": np.array([self.count, *self.sums.values()])}
        return {name: torch.from_numpy(v.copy()) for name, v in kept.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave."""
        for name in ("outputs", "targets", "losses"):
            kept = tensors[name].numpy()
            getattr(self, name)[: len(kept)] = kept
        self.met = tensors["met"].numpy().copy()
        count, *sums = tensors["sums"].tolist()
        self.count, self.sums = int(count), dict(zip(self.sums, sums, strict=True))
