"""What the report of notes shows: a piece beside what was expected, what it writes, and which keys surprise."""

from typing import cast

import numpy as np
from markupsafe import Markup

from recurra.data.midi import METER
from recurra.data.rolls import KEYS, RollSchema, name_of_key
from recurra.data.sequences import Sequences
from recurra.run.content import Section
from recurra.run.figures import number
from recurra.run.generation.notes import compose
from recurra.run.roll_drawing import Roll, drawing
from recurra.run.training import Training
from recurra.tasks.notes import Heard
from recurra.tasks.roll_model import RollModel

SHOWN, WRITTEN, BEGUN = 64, 64, 16
"""Frames of a piece that are shown, frames that are written, and those of a piece that is gone on with."""

MOST_KEYS = 12
"""Keys in the table."""


def sections(training: Training, part: Sequences, said: Heard | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    if said is None:
        return [_written(training, part, 0)]
    middle = _middle(said)
    return [_expected(training, said, middle), _written(training, part, middle), _surprises(said)]


def _middle(said: Heard) -> int:
    """The piece whose loss a frame is in the middle of all."""
    bounds = said.data.offsets.numpy()
    means = np.add.reduceat(said.nats, bounds[:-1]) / np.diff(bounds)
    return int(np.argsort(means, kind="stable")[len(means) // 2])


def _named(data: Sequences, index: int) -> str:
    return f"piece {index}" if data.ids is None else data.ids[index]


def _drawn(rolls: list[Roll], schema: RollSchema) -> Markup:
    return Markup('<div class="tree">{}</div>').format(Markup(drawing(rolls, schema.step, schema.meter or METER)))


def _expected(training: Training, said: Heard, index: int) -> Section:
    frames, chances = said.of(index)
    frames, chances = frames[:SHOWN], chances[: min(SHOWN, len(frames))]
    nats = said.nats[int(said.data.offsets[index]) :][: len(frames)]
    rolls = [Roll(frames, "what sounds"), Roll(frames, "what was expected", chances=chances)]
    words = (
        f"Of {_named(said.data, index)}, whose loss is in the middle of all, "
        f"{'the first ' if len(frames) == SHOWN else ''}{len(frames)} frames: what sounds, and below it how probable "
        "each key was held to be before its frame was heard, the stronger the more; outlines are what came. "
        f"The loss of these frames is {number(float(nats.mean()))} nats a frame."
    )
    return Section("A piece, and what was expected of it", [words], [("", _drawn(rolls, training.parts.schema))])


def _written(training: Training, part: Sequences, index: int) -> Section:
    """Pieces that it draws: one from nothing, one that goes on from the beginning of a piece."""
    network = cast(RollModel, training.network)
    was_training, device = network.training, next(network.parameters()).device
    network.cpu().eval()
    begun = part.sequence(index).numpy()[:BEGUN]
    try:
        (new,) = compose(network, [np.zeros((0, KEYS))], length=WRITTEN)
        (gone_on,) = compose(network, [begun], length=WRITTEN - len(begun) if len(begun) < WRITTEN else 1)
    finally:
        network.to(device).train(was_training)
    rolls = [
        Roll(new, "from nothing"),
        Roll(gone_on, f"from the first {len(begun)} frames of {_named(part, index)}, in grey", given=len(begun)),
    ]
    words = (
        "Each key of each frame is drawn as probable as it is held to be, from seed 0: one draw, not the best of many."
    )
    return Section("What it writes", [words], [("", _drawn(rolls, training.parts.schema))])


def _surprises(said: Heard) -> Section:
    true, chances = said.data.values.numpy() != 0, said.known.astype(np.float64)
    tiny = float(np.finfo(np.float32).tiny)
    nats = -np.log(np.maximum(np.where(true, chances, 1 - chances), tiny)).mean(0)
    rows = []
    for key in np.argsort(-nats, kind="stable")[:MOST_KEYS].tolist():
        sounds, marked = true[:, key], chances[:, key] >= 0.5
        right = int((sounds & marked).sum())
        rows.append(
            (
                name_of_key(key),
                float(nats[key]),
                int(sounds.sum()),
                int(marked.sum()),
                right,
                float(chances[sounds, key].mean()) if sounds.any() else "–",
            )
        )
    begins = np.zeros(len(said.nats), bool)
    begins[said.data.offsets.numpy()[:-1]] = True
    first, rest = float(said.nats[begins].mean()), said.nats[~begins]
    words = [
        f"The first frame of a piece, which has nothing before it, costs {number(first)} nats in the mean, "
        f"{'all others ' + number(float(rest.mean())) if len(rest) else 'and there is no other'}."
    ]
    table = (
        f"The {len(rows)} keys that surprise the most, each by itself",
        (
            "key",
            "nats a frame",
            "frames in which it sounds",
            "said to sound",
            "rightly so",
            "probability where it sounds",
        ),
        rows,
    )
    return Section("Which keys surprise", words, tables=[table])
