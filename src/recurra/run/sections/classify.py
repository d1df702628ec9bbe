"""What a report shows of classes alone: which words told the network the class, where it pools by attention; and where
a neural Turing machine reads and writes."""

from typing import Any, cast

import numpy as np
import torch

from recurra.data import Sequences
from recurra.data.sequences import UNKNOWN
from recurra.nn import NTM
from recurra.run.content import Section
from recurra.run.figures import over_time
from recurra.run.report import shaded
from recurra.run.training import Training
from recurra.tasks import Predictions
from recurra.tasks.base import SequenceTask

MOST_CLASSES = 8
"""Classes of which a sequence is shown."""

LONGEST = 120
"""Steps of a sequence of which the memory is shown, from the first on."""


def weights(training: Training, part: Sequences, index: int) -> np.ndarray | None:
    """How much each step of a sequence counts in a pooling by attention, (T,); None with any other."""
    network: Any = training.network
    network.eval()
    batch = training.task.collate(part, torch.tensor([index]))
    batch = batch.to(training.fabric.device, next(network.parameters()).dtype)
    found = network.weights(batch.x, batch.lengths)
    return None if found is None else found[:, 0].double().cpu().numpy()


def sections(training: Training, part: Sequences, said: Predictions | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    return [*_pooled(training, part, said), *_memory(training, part)]


@torch.no_grad()
def _memory(training: Training, part: Sequences) -> list[Section]:
    """Where the heads of a neural Turing machine are along the longest sequence."""
    network: Any = training.network
    if not isinstance(network.recurrent, NTM) or not len(part):
        return []
    network.eval()
    index = int(part.lengths.argmax())
    batch = training.task.collate(part, torch.tensor([index]))
    batch = batch.to(training.fabric.device, next(network.parameters()).dtype)
    x = network.inputs(batch.x[:LONGEST])
    output, final, looked = network.recurrent(x, return_weightings=True)
    panels = [("what goes in", x[:, 0])]
    if network.pool == "none":
        task = cast(SequenceTask, training.task)
        panels.append(("probabilities put out", task.outputs(network, network.said(output, final, None))[:, 0]))
    panels += [(f"places written{of}", v) for of, v in _heads(looked.writing)]
    panels += [(f"places read{of}", v) for of, v in _heads(looked.reading)]
    name = f"sequence {index}"
    numbers = [(label, values.double().cpu().numpy()) for label, values in panels]
    return [
        Section(
            "Where it reads and writes",
            [
                f"The longest sequence, {name}, step by step: how much each head writes to, or reads from, each place "
                "of the memory. A slanting line is a head that goes from place to place, a level one a head that "
                "stays; a jump is a place found by its content."
            ],
            [("", over_time(numbers, f"The memory of a neural Turing machine over the steps of {name}"))],
        )
    ]


def _heads(weightings: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """Each head's weightings, (T, N), and which head it is in words, of (T, 1, A, N)."""
    heads = weightings[:, 0].unbind(1)
    return [("" if len(heads) == 1 else f", head {k + 1}", head) for k, head in enumerate(heads)]


def _pooled(training: Training, part: Sequences, said: Predictions | None) -> list[Section]:
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
