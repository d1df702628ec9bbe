"""What the report of frames shows: films told frame by frame and by themselves, how errors grow; labels along films."""

from typing import Any, cast

import numpy as np
import torch
from markupsafe import Markup

from recurra.data.clips import Clips
from recurra.run import figures
from recurra.run.content import Section
from recurra.run.pictures import embedded, gif, strip
from recurra.run.training import Training
from recurra.tasks.film_model import FilmModel
from recurra.tasks.frames import Filmed, Frames
from recurra.tasks.scores import confusion, per_class

FILMS, LONGEST = 4, 20
"""Films that are shown, and frames of each at most."""

ROWS = 24
"""Classes in a table at most."""


def sections(training: Training, part: Clips, said: Filmed | None) -> list[Section]:
    """See `recurra.run.sections.SECTIONS`."""
    task = training.task
    assert isinstance(task, Frames)
    if said is None:
        return []
    if not task.tells_frames:
        return [_labels(said)]
    found = [_told(training, part, said)]
    if said.free is not None and said.held is not None and said.free.shape[1] > 1:
        found.append(_errors(said, task))
    return found


def _told(training: Training, part: Clips, said: Filmed) -> Section:
    """A few films: what was to come, what was told of each frame, and how the network goes on by itself."""
    network, task = cast(FilmModel, training.network), cast(Frames, training.task)
    strips: list[tuple[str, Markup]] = []
    moving: list[tuple[str, Markup]] = []
    for index in _evenly(part):
        frames = part.clip(index)
        given = task._given(len(frames))
        free = _going_on(training, network, frames, given)
        told = torch.from_numpy(cast(np.ndarray, said.frames)[said.offsets[index] : said.offsets[index + 1]])
        nothing = torch.full_like(frames[:1], torch.nan)
        rows = [frames, torch.cat([nothing, told[:-1]]), torch.cat([nothing.expand(given, -1, -1, -1), free])]
        stop = min(len(frames), max(LONGEST, min(given + LONGEST // 2, len(frames))))
        first = max(0, stop - LONGEST)
        name = f"clip {index}" if part.ids is None else part.ids[index]
        picture = strip([row[first:stop].numpy() for row in rows], least=24)
        words = f"{name}: true frames, each told from those before, and told from frame {given + 1} on by itself"
        strips.append((f"{name}, frames {first + 1} to {stop}", embedded(picture, "png", words, wide=True)))
        film = torch.cat([frames, torch.full_like(frames[..., :1], 0.5), torch.cat([frames[:given], free])], -1)
        words = f"{name}, moving: left the true film, right the one that goes on by itself from frame {given + 1}"
        moving.append((words, embedded(gif(film.numpy()), "gif", words)))
    return Section(
        "Films",
        [
            "In each picture of three rows the first is the film, the second what was told of each frame when those "
            "before it were seen, the third what the network tells when from there on it reads its own frames alone."
        ],
        [*strips, *moving],
    )


def _evenly(part: Clips) -> list[int]:
    return np.unique(np.linspace(0, len(part) - 1, min(FILMS, len(part))).round().astype(int)).tolist()


@torch.no_grad()
def _going_on(training: Training, network: FilmModel, frames: torch.Tensor, given: int) -> torch.Tensor:
    """What the network tells behind the given frames, to the clip's end; (length, C, H, W)."""
    if given >= len(frames):
        return frames[:0]
    network.eval()
    like = next(network.parameters())
    read = frames[:given].unsqueeze(1).to(training.fabric.device, like.dtype)
    return network.generate(read, len(frames) - given)[:, 0].float().cpu()


def _errors(said: Filmed, task: Frames) -> Section:
    """How errors grow where the network reads its own frames."""
    assert said.free is not None
    assert said.held is not None
    told, held = (np.nanmean(v, 0) for v in (said.free, said.held))
    ahead = np.arange(1, len(told) + 1, dtype=float)
    counts = np.isfinite(said.free).sum(0)
    lines = [
        figures.Line("told by itself", ahead, told, figures.FIRST),
        figures.Line("last given frame held", ahead, held, figures.SECOND),
    ]
    picture = figures.curves(
        lines, "mean squared error", "Squared error by steps ahead", log=False, xlabel="frames ahead"
    )
    better = np.flatnonzero(told >= held)
    words = (
        f"It is nearer the truth than the last given frame as far as {len(told)} frames ahead, the end of the clips."
        if not len(better)
        else f"From {int(better[0]) + 1} frame{'s' * bool(better[0])} ahead on, holding the last given one is as good."
    )
    shown = sorted({0, 1, 2, 4, 9, 19, len(told) - 1} & set(range(len(told))))
    rows = [(int(k + 1), float(told[k]), float(held[k]), int(counts[k])) for k in shown]
    table = ("Mean squared error by steps ahead", ("frames ahead", "told", "held", "clips"), rows)
    return Section("Going on by itself", [words], [("Lower is better.", picture)], [table])


def _labels(said: Filmed) -> Section:
    """How well each class is told, and what is taken for what."""
    p, classes = said, said.schema.classes
    assert p.probabilities is not None
    asked = slice(None) if p.asked is None else p.asked
    true, told = p.targets[asked], p.probabilities[asked].argmax(1)
    known = true >= 0
    found = sorted(per_class(true, told, classes), key=lambda row: -row["support"])[:ROWS]
    rows = [(r["class"], r["support"], r["precision"], r["recall"], r["f1"]) for r in found]
    tables: list[Any] = [
        ("Labels of frames, the commonest first", ("label", "frames", "precision", "recall", "F1"), rows)
    ]
    counts = confusion(true[known], told[known], len(classes))
    off = counts - np.diag(np.diag(counts))
    places = [np.unravel_index(k, off.shape) for k in np.argsort(-off, axis=None, kind="stable")[:10]]
    mistaken = [(classes[i], classes[j], int(off[i, j])) for i, j in places if off[i, j]]
    if mistaken:
        tables.append(("What is taken for what", ("true", "told", "frames"), mistaken))
    return Section(
        "Labels", ["A label is told when its frame is seen, from that and from all before it."], _shown(p), tables
    )


def _shown(p: Filmed) -> list[tuple[str, Markup]]:
    """The films with the most wrong labels, a strip each, and below it what was told of each frame."""
    assert p.probabilities is not None
    told = p.probabilities.argmax(1)
    wrong = (told != p.targets) & (np.ones(len(told), bool) if p.asked is None else p.asked)
    counts = np.add.reduceat(wrong, p.offsets[:-1])
    drawn = []
    for index in np.argsort(-counts, kind="stable")[:FILMS].tolist():
        first, stop = int(p.offsets[index]), min(int(p.offsets[index + 1]), int(p.offsets[index]) + LONGEST)
        name = f"clip {index}" if p.clips.ids is None else p.clips.ids[index]
        picture = strip([p.clips.clip(index)[: stop - first].numpy()], least=24)
        said = []
        for place in range(first, stop):
            asked = p.asked is None or p.asked[place]
            label = p.schema.classes[int(told[place])]
            true = p.schema.classes[p.targets[place]] if asked and p.targets[place] >= 0 else "?"
            said.append("·" if not asked else f"{label} (true {true})" if wrong[place] else label)
        words = f"{name}, {int(counts[index])} wrong: {', '.join(said)}"
        drawn.append((words, embedded(picture, "png", f"{name}: its frames", wide=True)))
    return drawn
