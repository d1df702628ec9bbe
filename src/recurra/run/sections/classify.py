"""What a report shows of classes alone: which words told the network the class, where it pools by attention."""

from typing import Any

import numpy as np
import torch

from recurra.data import Sequences
from recurra.data.sequences import UNKNOWN
from recurra.run.content import Section
from recurra.run.report import shaded
from recurra.run.training import Training
from recurra.tasks import Predictions

MOST_CLASSES = 8
"""Classes of which a sequence is shown."""


def weights(training: Training, part: Sequences, index: int) -> np.ndarray | None:
    """How much each step of a sequence counts in a pooling by attention, (T,); None with any other."""
    network: Any = training.network
    network.eval()
    batch = training.task.collate(part, torch.tensor([index]))
    batch = batch.to(training.fabric.device, next(network.parameters()).dtype)
    found = network.weights(batch.x, batch.lengths)
    return None if found is None else found[:, 0].double().cpu().numpy()


def sections(training: Training, part: Sequences, said: Predictions | None) -> list[Section]:
    """The weights over the words of the texts whose class was rightly told with the most certainty, one a class."""
    schema = training.parts.schema
    if not schema.vocabulary or schema.multi_label or said is None or said.targets is None:
        return []
    if getattr(training.network, "attention", None) is None:
        return []
    figures = []
    for index in _surest(said.targets, said.outputs):
        symbols = part.sequence(index).tolist()
        words = [schema.vocabulary[k] for k in symbols]
        drawing = shaded(
            words, [k == UNKNOWN for k in symbols], weights(training, part, index), training.recipe.data.unit
        )
        name = schema.classes[int(said.targets[index])]
        figures.append((f"{name}, p {said.outputs[index].max():.3f}", drawing))
    if not figures:
        return []
    return [
        Section(
            "What the pooling weighs",
            [
                "Of each class the sequence that was told rightly with the most certainty. The darker a word, the more "
                "its step counts in the pooling by attention; a step has seen the words around it as well, so that a "
                "weight tells where the network looked, not that the word alone decided."
            ],
            figures,
        )
    ]


def _surest(targets: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """Of each class the sequence that was rightly told with the highest probability."""
    right = probabilities.argmax(1) == targets
    counts = np.bincount(targets[right], minlength=probabilities.shape[1])
    largest = np.sort(np.argsort(-counts, kind="stable")[:MOST_CLASSES])
    found = []
    for kind in largest[counts[largest] > 0].tolist():
        of_it = np.flatnonzero(right & (targets == kind))
        found.append(int(of_it[probabilities[of_it, kind].argmax()]))
    return found
