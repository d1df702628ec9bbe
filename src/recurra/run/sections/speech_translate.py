"""What the report of speech translation shows: mistakes, and which sound the decoder listened to for each word."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import torch
from matplotlib.axes import Axes

from recurra.data.pairs import collate
from recurra.data.spoken_pairs import SpokenPairs
from recurra.run.content import Section
from recurra.run.figures import FIRST, INK, clean
from recurra.run.sections.speech import chosen_of, mistakes, picture
from recurra.run.training import Training
from recurra.tasks.speech_translate import SpeechTranslate, SpeechTranslator
from recurra.tasks.translate import Translations


def sections(training: Training, part: SpokenPairs, said: Translations | None) -> Sequence[Section]:
    """The sections of the report; without a test or validation part the drawings alone."""
    found = []
    if said is not None and said.targets is not None:
        found.append(mistakes(said.targets, said.said, said.sources))
    return [*found, _heard(training, part, said)]


def _heard(training: Training, part: SpokenPairs, said: Translations | None) -> Section:
    """Some recordings as their features, with the weights of attention along them."""
    task, network = cast(SpeechTranslate, training.task), cast(SpeechTranslator, training.network)
    chosen = chosen_of(part.seconds, part.targets, None if said is None else said.said)
    few = part.select(np.array(chosen))
    network.eval()
    batch = collate(few, torch.arange(len(few))).to(training.fabric.device, next(network.parameters()).dtype)
    looks = network.decoder.attention is not None
    best = task.decode(network, batch, network.settings.beam, weights=looks)
    hop = task.reader.settings_of(task.schema).hop / 1000
    units, figures = task.schema.target_units, []
    for i, found in enumerate(best):
        words, true = units.decode(found.symbols), few.targets
        caption = f"{few.sources[i]}: {words}" + (f"; in truth {true[i]}" if true and true[i] != words else "")
        above = None
        if found.watched is not None and len(found.symbols):
            weights = found.watched[: len(found.symbols)].double().cpu().numpy()
            above = _tracks(weights, [units.symbols[s] for s in found.symbols], hop * network.settings.stack)
        figures.append((clean(caption), picture(few.source.sequence(i), hop, caption, above)))
    told = "Each recording as its features over time, the low ones at the bottom; the stronger, the more power."
    if looks:
        told += (
            " Above them, for each word that was said, how much the decoder looked at each moment as it chose it: the "
            "word stands where that was most."
        )
    return Section("What was heard", [told], figures=figures)


def _tracks(weights: np.ndarray, words: Sequence[str], step: float) -> Callable[[Axes], None]:
    """Weights of attention over time, (n, S), each with its word."""
    t = (np.arange(weights.shape[1]) + 0.5) * step

    def draw(axes: Axes) -> None:
        for row, word in zip(weights, words, strict=True):
            axes.plot(t, 1.12 + 0.5 * row / weights.max(), color=FIRST, linewidth=1.1)
            axes.text(t[row.argmax()], 1.66, clean(word), ha="center", va="bottom", fontsize=10, color=INK)

    return draw
