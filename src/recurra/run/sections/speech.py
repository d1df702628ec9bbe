"""What the report of a recogniser shows: recordings with what was heard where, and which words are mistaken."""

from collections.abc import Callable, Sequence
from typing import cast
from unicodedata import east_asian_width

import numpy as np
import torch
from markupsafe import Markup
from matplotlib.axes import Axes

from recurra.data.speech import Recordings, collate
from recurra.nn.ctc import BLANK, alignment
from recurra.run.content import Section
from recurra.run.figures import FIRST, INK, WIDTH, clean, plotted, signed_rgba
from recurra.run.training import Training
from recurra.tasks.edits import RATES, confused, counts
from recurra.tasks.scores import most_wrong
from recurra.tasks.speech import Recogniser, Speech, Spoken

DRAWN, WORST, MISTAKES = 4, 12, 20
"""Recordings that are drawn, those that are listed as the worst, and kinds of mistakes, at the most."""

LETTER, ROW = 11, 0.13
"""Size of a word over a recording, and how far apart rows of them are on its vertical axis."""

LONGEST = 12.0
"""Seconds of the longest recording that is drawn."""

Table = tuple[str, Sequence[str], Sequence[Sequence[object]]]


def sections(training: Training, part: Recordings, said: Spoken | None) -> Sequence[Section]:
    """The sections of a recogniser's report; of one without a test or validation part the drawings alone."""
    task, network = cast(Speech, training.task), cast(Recogniser, training.network)
    found = []
    if said is not None and said.texts is not None:
        found.append(_labels(said) if task.has_labels else mistakes(said.texts, said.said, said.names))
    found.append(_heard(training, task, network, part, said))
    return found


def mistakes(true: Sequence[str], said: Sequence[str], names: Sequence[str]) -> Section:
    """Transcripts: mistakes by kind, what is taken for what, and the recordings with the most of them."""
    tables: list[Table] = []
    kinds = []
    for unit in RATES.values():
        sums = counts(true, said, unit).sum(0)
        kinds.append((f"{unit}s", *(int(n) for n in sums[:3]), int(sums[3]), float(sums[:3].sum() / max(1, sums[3]))))
    head = ("of", "taken for another", "put in", "left out", "true", "rate")
    tables.append(("Mistakes by kind, the fewest that make what was said of what is true.", head, kinds))
    among = confused(true, said).most_common(MISTAKES)
    if among:
        rows = [("–" if a is None else a, "–" if b is None else b, count) for (a, b), count in among]
        tables.append(("What is taken for what; – stands for nothing.", ("true", "said", "how often"), rows))
    each = counts(true, said, "word")
    total = each[:, :3].sum(1)
    worst = [i for i in np.argsort(-total, kind="stable")[:WORST].tolist() if total[i]]
    if worst:
        rows = [(names[i], true[i], said[i], int(total[i])) for i in worst]
        tables.append(("Recordings with the most mistakes.", ("recording", "true", "said", "words wrong"), rows))
    right = int((total == 0).sum())
    return Section("Mistakes", [f"{right:,} of {len(true):,} recordings have every word right."], tables=tables)


def _labels(said: Spoken) -> Section:
    """Labels: the recordings that were got most wrong."""
    assert said.probabilities is not None
    assert said.targets is not None
    assert said.texts is not None
    names, p, rows = said.said, said.probabilities, []
    for i in most_wrong(said.targets, p, WORST).tolist():
        rows.append((said.names[i], said.texts[i], names[i], float(p[i].max()), float(p[i, said.targets[i]])))
    right = sum(a == b for a, b in zip(said.texts, names, strict=True))
    head = ("recording", "true", "said", "its probability", "that of the true one")
    tables: list[Table] = [("The recordings that it got most wrong.", head, rows)] if rows else []
    return Section("Mistakes", [f"{right:,} of {len(said):,} recordings are told rightly."], tables=tables)


def _heard(training: Training, task: Speech, network: Recogniser, part: Recordings, said: Spoken | None) -> Section:
    """Some recordings as their features, with what the network put out along them."""
    chosen = chosen_of(part.seconds, None if said is None else said.texts, None if said is None else said.said)
    few = part.select(chosen)
    spoken = cast(Spoken, training.predict(few))
    network.eval()
    batch = collate(few, torch.arange(len(few))).to(training.fabric.device, next(network.parameters()).dtype)
    hop = task.reader.settings_of(task.schema).hop / 1000
    figures = []
    with torch.no_grad():
        outputs = network(*batch.inputs)[0]
    for i in range(len(few)):
        texts, words = few.texts, spoken.said[i]
        caption = f"{few.names[i]}: {words}" + (f"; in truth {texts[i]}" if texts and texts[i] != words else "")
        tracks, rows, draw = None, 1, None
        if not task.has_labels:
            steps = -(-int(few.lengths[i]) // network.hearing.stack)
            tracks = outputs[:steps, i].double().softmax(-1).cpu().numpy()
        if tracks is not None and spoken.readings is not None:
            draw, rows = _tracks(task, tracks, spoken.readings[i].symbols, hop * network.hearing.stack)
        figures.append((clean(caption), picture(few.sounds.sequence(i), hop, caption, draw, rows)))
    if not task.has_labels:
        told = (
            "Below, each recording as its features over time, the low ones at the bottom; above them the probability "
            "of each word or character (blue), with its name where the most probable path says it, and that of the "
            "blank (grey), which says nothing. CTC asks for an order and not for places: most are single spikes."
        )
    else:
        told = "Each recording as its features over time, the low ones at the bottom; the stronger, the more power."
    return Section("What was heard", [told], figures=figures)


def chosen_of(seconds: np.ndarray, true: Sequence[str] | None, said: Sequence[str] | None) -> list[int]:
    """Which recordings are drawn: the first that are not too long, and the first of those that were got wrong."""
    short = [i for i in range(len(seconds)) if seconds[i] <= LONGEST] or [int(seconds.argmin())]
    if true is None or said is None:
        return short[:DRAWN]
    wrong = [i for i in short if said[i].split() != true[i].split()][: DRAWN // 2]
    others = [i for i in short if i not in wrong]
    return [*others[: DRAWN - len(wrong)], *wrong]


def _tracks(
    task: Speech, tracks: np.ndarray, symbols: list[int], step_seconds: float
) -> tuple[Callable[[Axes], None], int]:
    """What is drawn over the features of a recording: probabilities over time, and the symbols where they are said; and
    in how many rows these stand."""
    path = alignment(np.log(np.maximum(tracks, 1e-300)), symbols) or []
    t = (np.arange(len(tracks)) + 0.5) * step_seconds
    names, places, said = task.schema.symbols, [], []
    before = BLANK
    for step, symbol in enumerate(path):
        if symbol not in (BLANK, before):
            run = step + next((k for k, s in enumerate(path[step:]) if s != symbol), len(path) - step)
            places.append(float(t[step + int(tracks[step:run, symbol].argmax())]))
            said.append(clean(names[symbol - 1] if names[symbol - 1].strip() else "␣"))
        before = symbol
    rows = in_rows(places, said, len(tracks) * step_seconds)

    def draw(axes: Axes) -> None:
        axes.plot(t, 1.12 + 0.5 * tracks[:, BLANK], color="#010102", linewidth=0.9, alpha=0.7)
        for symbol in sorted({s for s in path if s != BLANK}):
            axes.plot(t, 1.12 + 0.5 * tracks[:, symbol], color=FIRST, linewidth=1.1)
        for place, word, row in zip(places, said, rows, strict=True):
            axes.text(place, 1.66 + ROW * row, word, ha="center", va="bottom", fontsize=LETTER, color=INK)

    return draw, max(rows, default=0) + 1


def in_rows(places: Sequence[float], words: Sequence[str], seconds: float) -> list[int]:
    """In which row each word stands, from 0, so that none is written over another: the lowest with room for it.

    Args:
        places: Where each is said, in seconds, rising.
        words: They.
        seconds: What the axis is long, over nearly the figure's width.
    """
    ends: list[float] = []
    rows = []
    for place, word in zip(places, words, strict=True):
        letters = sum(1.0 if east_asian_width(letter) in "WF" else 0.6 for letter in word) + 0.5
        half = letters * LETTER / 2 * seconds / (0.93 * WIDTH)
        row = next((i for i, end in enumerate(ends) if end <= place - half), len(ends))
        ends[row : row + 1] = [place + half]
        rows.append(row)
    return rows


def picture(
    features: torch.Tensor,
    hop: float,
    alternative: str,
    above: Callable[[Axes], None] | None = None,
    rows: int = 1,
) -> Markup:
    """The features of a recording, (T, D), over time, a frame every `hop` seconds; what `above` draws stands between
    1.1 and 1.8 of the vertical axis, more than one row of words above that."""
    values = features.double().numpy()
    low, high = np.quantile(values, [0.05, 0.995])
    shown = np.clip((values - low) / max(1e-12, high - low), 0, 1).T

    def plot(axes: Axes) -> None:
        axes.imshow(
            signed_rgba(shown, 1.0),
            interpolation="none",
            origin="lower",
            aspect="auto",
            extent=(0, len(values) * hop, 0, 1),
        )
        axes.grid(False)
        axes.set_xlabel("seconds")
        axes.set_ylim(0, 1 if above is None else 1.8 + ROW * (rows - 1))
        if above is not None:
            above(axes)

    return plotted(plot, alternative, 190 if above is None else 270 + 17 * (rows - 1), ticks=False)
