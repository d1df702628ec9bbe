"""What the tasks over trees and over graphs share: a network goes along their edges, and not along time."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from recurra.engine.threads import suited
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import BatchT, DataT, SaidT, Task
from recurra.tasks.model import Network

AT_ONCE = 256
"""Structures at once when a network is asked."""


class StructureTask(Task[DataT, BatchT, SaidT]):
    """A class for each of some structures, or for each node of one."""

    structure: ClassVar[str]

    def __init__(self, schema: Any, settings: TrainSettings) -> None:
        super().__init__(schema, settings)
        for key in ("activation_l2", "temporal_l2"):
            if getattr(settings, key):
                raise RecipeError(
                    f"train.{key}: looks at states along time, which {self.structure}s have none of; leave it out"
                )

    def check(self, model: Any, learn: LearnSettings) -> None:
        """See `Task.check`."""
        if learn.carry_state:
            raise RecipeError(
                f"learn.carry_state: a {self.structure} does not go on where the last one ended; leave it out"
            )
        if learn.rule != "bptt":
            raise RecipeError(f"learn.rule: {learn.rule!r} goes along time; over {self.structure}s bptt is expected")

    def outputs_named(self, schema: Any) -> list[str]:
        """See `Task.outputs_named`."""
        return schema.classes

    @abstractmethod
    def probabilities(self, outputs: Tensor) -> Tensor:
        """(rows, classes), of what the network puts out."""

    @torch.no_grad()
    def told(
        self,
        network: Network,
        data: DataT,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> np.ndarray:
        """The probabilities of all data, in their order, (rows, classes) float64; see `Task.predict`."""
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        found = [np.empty((0, len(self.schema.classes)))]
        with suited(network, AT_ONCE):
            for indices in torch.arange(len(data)).split(AT_ONCE):
                batch = self.collate(data, indices).to(device, dtype)
                outputs, _ = (forward or network)(*batch.inputs)
                found.append(self.probabilities(outputs.double()).cpu().numpy())
        network.train(was_training)
        return np.concatenate(found)
