"""`notes`: polyphonic music, which of the 88 keys sound in the next frame, from all frames before it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.data.batches import Batch, by_length
from recurra.data.batches import collate as collated
from recurra.data.roll_reader import RollReader
from recurra.data.rolls import KEYS, LOWEST, RollSchema
from recurra.data.sequences import Sequences
from recurra.engine.threads import suited
from recurra.errors import RecipeError, RunError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.model import RecurrentSettings
from recurra.tasks.roll_model import RollModel, RollModelSettings
from recurra.tasks.scores import FEWEST, bootstrap_interval

AT_ONCE = 64
"""Pieces at once when a network is asked."""

TRANSPOSED = 0x6B6579
"""Of the random numbers that settle in which key a piece is learnt."""

SOUNDS = 0.5
"""Probability from which on a key is said to sound."""


class NotesTrainSettings(TrainSettings):
    """The `train.*` settings of notes."""


@dataclass
class Heard:
    """What a model says of pieces: of every frame, and of the one behind the last.

    Attributes:
        data: The pieces.
        nats: (S,) float64, -log p of each frame given all before it, summed over the keys.
        probabilities: (S + N, 88) float32, that each key sounds: of every frame of a piece, then of the one behind it;
            None where it was not asked for.
        warnings: What a person should know.
    """

    data: Sequences
    nats: np.ndarray
    probabilities: np.ndarray | None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def first(self, count: int) -> "Heard":
        """What it says of the first `count` pieces."""
        count = min(count, len(self))
        steps = int(self.data.offsets[count])
        return replace(
            self,
            data=self.data.select(np.arange(count)),
            nats=self.nats[:steps],
            probabilities=None if self.probabilities is None else self.probabilities[: steps + count],
        )

    def of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Of one piece: (T, 88) what sounds, and (T + 1, 88) the probabilities."""
        assert self.probabilities is not None
        first, stop = (int(self.data.offsets[k]) for k in (index, index + 1))
        return self.data.sequence(index).numpy(), self.probabilities[first + index : stop + index + 1]

    @property
    def known(self) -> np.ndarray:
        """(S, 88): the probabilities of frames that are known."""
        assert self.probabilities is not None
        further = self.data.offsets[1:].numpy() + np.arange(len(self))
        return np.delete(self.probabilities, further, axis=0)


class Notes(Task[Sequences, Batch, Heard]):
    """Pieces of music: the next frame."""

    name = "notes"
    summary = "polyphonic music: which keys sound next"
    train_settings = NotesTrainSettings
    model_settings = RollModelSettings
    reader = RollReader()
    main_metric = "nll"
    higher_is_better = False
    samples = "pieces"
    schema: RollSchema
    settings: NotesTrainSettings

    def __init__(self, schema: RollSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, NotesTrainSettings)
        super().__init__(schema, settings)

    @property
    def in_windows(self) -> bool:
        """See `Task.in_windows`."""
        return True

    def data_words(self) -> str:
        """See `Task.data_words`."""
        step = self.schema.step
        moved = f", each moved by up to {self.schema.transpose} semitones" if self.schema.transpose else ""
        return (
            f"A frame is {KEYS} keys, {step:g} {'beat' if step == 1 else 'beats'} long; a sequence is a piece{moved}."
        )

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        if model.bidirectional:
            raise RecipeError("model.bidirectional: a network that reads the frames to come has nothing to predict")
        if learn.carry_state:
            raise RecipeError("learn.carry_state: a piece does not go on where the last one ended; leave it out")

    def network(self, model: RollModelSettings) -> RollModel:
        """See `Task.network`."""
        return RollModel(model)

    def build(self, model: RollModelSettings, train: Sequences) -> RollModel:
        """See `Task.build`: how often each key sounds is where its output begins."""
        network = self.network(model)
        network.start_from(torch.from_numpy(frequencies(train)).float())
        return network

    def unlike(self, schema: RollSchema) -> str | None:
        """See `Task.unlike`."""
        if schema.step != self.schema.step:
            return f"its frames are {schema.step:g} beats long (data.step), those of the new data {self.schema.step:g}"
        return None

    def plan(self, data: Sequences, *, seed: int, epoch: int) -> list[Tensor]:
        """See `Task.plan`; where pieces are transposed, (B, 2): which piece, and by how many semitones."""
        batches = super().plan(data, seed=seed, epoch=epoch)
        if not self.schema.transpose:
            return batches
        low, high = room(data, self.schema.transpose)
        random = np.random.default_rng((seed, epoch, TRANSPOSED))
        shifts = torch.from_numpy(random.integers(low, high + 1))
        return [torch.stack([indices, shifts[indices]], 1) for indices in batches]

    def collate(self, data: Sequences, indices: Tensor) -> Batch:
        """See `Task.collate`: the inputs are the frames one step late, behind a silent one; the targets the frames."""
        shifts = None
        if indices.dim() == 2:
            indices, shifts = indices.unbind(1)
        batch = collated(replace(data, targets=data.values, per_step=True), indices)
        frames = batch.x
        if shifts is not None:
            for column, shift in enumerate(shifts.tolist()):
                frames[:, column] = frames[:, column].roll(shift, -1)  # nothing sounds at the end that comes round
        return replace(batch, x=_late(frames)[:-1], targets=frames)

    def loss(self, network: RollModel, outputs: Tensor, batch: Batch) -> Tensor:
        """Nats a frame, all 88 keys together; a mean over frames that are no padding."""
        assert batch.targets is not None
        if batch.asked is None:
            return network.nats(outputs.flatten(0, 1), batch.targets.flatten(0, 1)).mean()
        asked = batch.asked.to(outputs.device)
        return network.nats(outputs[asked], batch.targets[asked]).mean()

    def look(self, network: RollModel, data: Sequences, **options: Any) -> Heard:
        """See `Task.look`: where keys depend on each other, without the probability of each by itself."""
        return self._heard(network, data, marginals=isinstance(network.output, torch.nn.Linear), **options)

    def predict(
        self,
        network: RollModel,
        data: Sequences,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Heard:
        """See `Task.predict`."""
        return self._heard(network, data, forward=forward, device=device, dtype=dtype)

    @torch.no_grad()
    def _heard(
        self,
        network: RollModel,
        data: Sequences,
        *,
        marginals: bool = True,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Heard:
        device, dtype = device or torch.device("cpu"), dtype or next(network.parameters()).dtype
        was_training = network.training
        network.eval()
        steps, count = int(data.offsets[-1]), len(data)
        nats = np.empty(steps)
        said = np.empty((steps + count, KEYS), np.float32) if marginals else None
        with suited(network, AT_ONCE):
            for indices in by_length(data, AT_ONCE):
                frames = collated(data, indices).x.to(device, dtype)
                lengths = data.lengths[indices]
                seen, _ = (forward or network)(_late(frames), lengths + 1)
                inside = torch.arange(len(frames)).unsqueeze(1) < lengths
                at = (data.offsets[indices] + torch.arange(len(frames)).unsqueeze(1))[inside].numpy()
                found = network.nats(seen[:-1][inside.to(device)], frames[inside.to(device)])
                nats[at] = found.double().cpu().numpy()
                if said is not None:
                    further = torch.arange(len(seen)).unsqueeze(1) <= lengths
                    at = (data.offsets[indices] + indices + torch.arange(len(seen)).unsqueeze(1))[further].numpy()
                    said[at] = network.probabilities(seen[further.to(device)]).float().cpu().numpy()
        network.train(was_training)
        if not np.isfinite(nats).all():
            raise RunError(
                "the network's likelihoods hold NaN or infinite values: training diverged; a smaller train.lr or a "
                "bound on the gradient (train.clip_norm) is the usual remedy"
            )
        return Heard(data, nats, said)

    def scores(self, predictions: Heard) -> Metrics:
        """nll, nats a frame, summed over the 88 keys, the mean over all frames of all pieces; and of keys that are said
        to sound (from a probability of 0.5 on): accuracy, precision, recall and f1 over all frames together."""
        sums = self._columns(predictions).sum(0)
        return {name: float(statistic(sums)) for name, statistic in self._statistics(predictions).items()}

    def intervals(self, predictions: Heard) -> Intervals:
        """Bootstrap over whole pieces: frames of one are not independent."""
        if len(predictions) < FEWEST:
            return {}
        columns = self._columns(predictions)
        found = {
            name: bootstrap_interval(columns, statistic, 0) for name, statistic in self._statistics(predictions).items()
        }
        return {name: [float(low), float(high)] for name, (low, high) in found.items()}

    def _statistics(self, predictions: Heard) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
        return STATISTICS if predictions.probabilities is not None else {"nll": STATISTICS["nll"]}

    def _columns(self, predictions: Heard) -> np.ndarray:
        """(N, 5) of each piece: its nats, its frames, keys rightly said to sound, wrongly so, and wrongly not."""
        bounds = predictions.data.offsets.numpy()[:-1]
        columns = [predictions.nats, np.ones(len(predictions.nats)), *np.zeros((3, len(predictions.nats)))]
        if predictions.probabilities is not None:
            true, said = predictions.data.values.numpy() != 0, predictions.known >= SOUNDS
            columns[2:] = [(true & said).sum(1), (said & ~true).sum(1), (true & ~said).sum(1)]
        return np.add.reduceat(np.stack(columns, 1).astype(np.float64), bounds, axis=0)

    def baselines(self, train: Sequences, test: Heard) -> dict[str, Metrics]:
        """`key frequencies`: each key as often as in training, always; `last frame`: by whether the key sounds in the
        frame before, as often as then in training."""
        often, after = frequencies(train), transitions(train)
        before, begins = _before(test.data)
        copied = np.where(begins[:, None], often, np.where(before, after[1], after[0]))
        constant = np.broadcast_to(often, copied.shape)
        return {
            name: self.scores(told(test.data, chances))
            for name, chances in (("key frequencies", constant), ("last frame", copied))
        }

    def rows(self, predictions: Heard, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, step, loss, p_21 … p_108` of every frame and of the one behind the last, whose loss is not known;
        with `targets` `target, prediction, loss` of every frame: the pitches that sound, and those said to."""
        offsets, data = predictions.data.offsets.tolist(), predictions.data
        for index in range(len(predictions)):
            frames, chances = predictions.of(index)
            nats = predictions.nats[offsets[index] : offsets[index + 1]].tolist()
            for step in range(len(frames) + (not targets)):
                row: dict[str, object] = {"index": index, "step": step}
                if data.ids is not None:
                    row["id"] = data.ids[index]
                if targets:
                    row |= {"target": _pitches(frames[step] != 0), "prediction": _pitches(chances[step] >= SOUNDS)}
                row["loss"] = nats[step] if step < len(frames) else None
                if not targets:
                    row |= {f"p_{LOWEST + key}": round(chance, 6) for key, chance in enumerate(chances[step].tolist())}
                yield row


def _late(frames: Tensor) -> Tensor:
    """Frames one step late, behind a silent one: (T, B, 88) to (T + 1, B, 88)."""
    return torch.cat([torch.zeros_like(frames[:1]), frames])


def _pitches(on: np.ndarray) -> str:
    return " ".join(str(LOWEST + key) for key in np.flatnonzero(on).tolist())


def room(data: Sequences, most: int) -> tuple[np.ndarray, np.ndarray]:
    """By how many semitones each piece can be moved down and up, `most` at the most, so that it stays on the keyboard.

    Args:
        data: N pieces.
        most: Semitones.

    Returns:
        Two times (N,) int64, the first from -most to 0, the second from 0 to most.
    """
    sounding = np.add.reduceat(data.values.numpy() != 0, data.offsets.numpy()[:-1], axis=0) > 0
    lowest = np.where(sounding.any(1), sounding.argmax(1), most)
    spare = np.where(sounding.any(1), sounding[:, ::-1].argmax(1), most)
    return -np.minimum(lowest, most), np.minimum(spare, most)


def frequencies(data: Sequences) -> np.ndarray:
    """How often each key sounds, (88,), half a time more often and more seldom than it did, so that none is sure."""
    on = data.values.numpy().sum(0, dtype=np.int64)
    return (on + 0.5) / (len(data.values) + 1)


def transitions(data: Sequences) -> np.ndarray:
    """How often each key sounds by whether it did in the frame before, (2, 88), off first; likewise."""
    before, begins = _before(data)
    now = data.values.numpy() != 0
    found = []
    for was in (~before, before):
        among = was & ~begins[:, None]
        found.append(((among & now).sum(0) + 0.5) / (among.sum(0) + 1))
    return np.stack(found)


def _before(data: Sequences) -> tuple[np.ndarray, np.ndarray]:
    """(S, 88) bool, the frame before each, and (S,) bool, which begin a piece: before these, it means nothing."""
    begins = np.zeros(len(data.values), bool)
    begins[data.offsets.numpy()[:-1]] = True
    before = np.roll(data.values.numpy() != 0, 1, axis=0)
    return before, begins


def told(data: Sequences, chances: np.ndarray) -> Heard:
    """What someone says who gives each key of each frame, (S, 88), a probability; of what comes next, the mean."""
    true = data.values.numpy() != 0
    nats = -np.log(np.where(true, chances, 1 - chances)).sum(1)
    bounds: Sequence[int] = data.offsets[1:].tolist()
    return Heard(data, nats, np.insert(chances, bounds, chances.mean(0), axis=0).astype(np.float32))


def _share(top: Sequence[int], bottom: Sequence[int]) -> Callable[[np.ndarray], np.ndarray]:
    """From sums of columns, (…, 5), to those of some over those of others; 0 where there are none."""

    def share(sums: np.ndarray) -> np.ndarray:
        below = sums[..., bottom].sum(-1)
        return sums[..., top].sum(-1) / np.where(below > 0, below, 1)

    return share


STATISTICS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "nll": _share([0], [1]),
    "accuracy": _share([2], [2, 3, 4]),
    "precision": _share([2], [2, 3]),
    "recall": _share([2], [2, 4]),
    "f1": _share([2, 2], [2, 2, 3, 4]),
}
"""Each score as a function of the sums of nats, frames, and keys rightly said to sound, wrongly so, and wrongly not:
accuracy, precision and recall as Bay, Ehmann & Downie (2009) have them."""
