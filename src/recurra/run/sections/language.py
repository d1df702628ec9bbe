"""What the report of a language model shows: what it writes, and where a text surprises it."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import numpy as np
from markupsafe import Markup

from recurra.data.corpus import Corpus
from recurra.data.units import SPECIAL, Units
from recurra.run import figures
from recurra.run.content import Section
from recurra.run.generate import TextModel
from recurra.run.training import Training
from recurra.tasks.language import LanguageModel, Read

LENGTH = {"character": 600, "subword": 250, "word": 150}
"""Symbols that are written."""

PROMPT = {"character": 12, "subword": 5, "word": 3}
"""Symbols behind which the tree begins."""

DEPTH = {"character": 10, "subword": 5, "word": 5}
"""Symbols of the tree's longest paths."""

WAYS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("Each symbol drawn as probable as it is.", {"temperature": 1.0}),
    ("Drawn with temperature 0.7: what is likely becomes likelier.", {"temperature": 0.7}),
    ("The most probable symbol each time.", {"temperature": 0.0}),
)

SHOWN = 700
"""Symbols of the text that is shown symbol by symbol."""

FULL = 12
"""Bits at which the ground of a symbol is as strong as can be."""

PLACES, APART = 12, 20
"""Most surprising places that are listed, and how many symbols they are apart at least."""

CONTEXT = {"character": 40, "subword": 16, "word": 8}
"""Symbols that are shown before such a place."""


def sections(training: Training, part: Corpus, said: Read | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    found = [_written(training, part)]
    return found if said is None or not len(said.nats) else [*found, _surprises(said)]


def _written(training: Training, part: Corpus) -> Section:
    """Texts that the model writes, and what it holds for likely after the beginning of a line of the part."""
    network = cast(LanguageModel, training.network)
    was_training, device = network.training, network.device
    model = TextModel(network.cpu().eval(), part.units)  # which writes on the processor
    unit = part.units.unit
    try:
        texts = [
            (caption, _text_as(model.generate("", length=LENGTH[unit], **options)[0].text.strip("\n")))
            for caption, options in WAYS
        ]
        drawing = Markup(model.tree(_prompt(part), depth=DEPTH[unit], width=3).to_svg())
    finally:
        network.to(device).train(was_training)
    caption = "What may follow the beginning of a line, and how probable it is."
    return Section(
        title="What it writes",
        words=["Each text begins behind the end of a line; all are drawn from the same random numbers."],
        figures=[*texts, (caption, Markup('<div class="tree">{}</div>').format(drawing))],
    )


def _prompt(part: Corpus) -> str:
    """The beginning of a line, to the middle of a word or sentence, as far as the model knows its symbols."""
    count = PROMPT[part.units.unit]
    bounds = part.offsets[:200]
    first = next((int(low) for low, high in pairwise(bounds) if high - low > 2 * count), 0)
    ids = part.symbols[first : first + count].tolist()
    known = next((k for k, i in enumerate(ids) if i < len(SPECIAL)), len(ids))
    return part.units.decode(ids[:known])


def _text_as(text: str) -> Markup:
    return Markup('<pre class="written">{}</pre>').format(text)


def _surprises(said: Read) -> Section:
    bits = said.nats / math.log(2)
    units = said.units
    line = figures.Line("bits", np.arange(1, len(bits) + 1), bits, noisy=True)
    curve = figures.curves(
        [line], f"bits per {units.unit}", f"Surprise along {len(bits)} symbols", log=False, xlabel=f"{units.unit}s"
    )
    rows = []
    for place in _most(bits):
        before = said.symbols[max(0, place + 1 - CONTEXT[units.unit]) : place + 1].tolist()
        came = _name(units, int(said.symbols[place + 1]))
        rows.append(["…" + units.decode(before).replace("\n", "↵"), came, place + 2, float(bits[place])])
    mean = float(bits.mean())
    return Section(
        title="What surprises it",
        words=[
            f"A {units.unit} surprises by -log₂ of the probability that the model gave it, all before it read: "
            f"{figures.number(mean)} bits in the mean, {figures.number(float(np.median(bits)))} in the middle."
        ],
        figures=[
            ("Along the text: the mean over stretches of it, and from the least to the most in each.", curve),
            ("The beginning of the text: the more a symbol surprises, the stronger its ground.", _coloured(said, bits)),
        ],
        tables=[("The most surprising places", ["what came before", "what came", "place", "bits"], rows)],
    )


def _most(bits: np.ndarray) -> list[int]:
    """The most surprising places, not too near each other, the most surprising first."""
    found: list[int] = []
    for place in np.argsort(-bits, kind="stable")[: PLACES * APART].tolist():
        if all(abs(place - other) >= APART for other in found):
            found.append(place)
        if len(found) == PLACES:
            break
    return found


def _name(units: Units, index: int) -> str:
    """A symbol as it is read in a table."""
    symbol = units.symbols[index]
    return {" ": "␣", "\n": "↵", "\t": "⇥", "</s>": "↵"}.get(symbol, symbol.replace("\n", "↵"))


def _coloured(said: Read, bits: np.ndarray) -> Markup:
    """The first symbols, each on a ground as strong as it surprised."""
    units, pieces = said.units, []
    shown: Sequence[int] = said.symbols[:SHOWN].tolist()
    between = " " if units.unit == "word" else ""
    for k, index in enumerate(shown):
        symbol = "\n" if units.lines and units.symbols[index] == "</s>" else units.symbols[index]
        if k == 0:
            pieces.append(Markup("{}{}").format(symbol, between))
            continue
        ground = Markup('<span style="background:rgb(224 118 47/{:.2f})" title="{:.1f} bits">{}</span>{}')
        pieces.append(ground.format(min(1.0, float(bits[k - 1]) / FULL), bits[k - 1], symbol, between))
    return Markup('<pre class="written">{}</pre>').format(Markup("").join(pieces))
