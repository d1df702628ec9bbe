"""`frames`: a film to its next frame at every step, from which it goes on by itself; or to a label at every step."""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.batches import by_length
from recurra.data.clip_reader import ClipReader
from recurra.data.clips import ClipBatch, Clips, ClipSchema, collate
from recurra.engine.threads import suited
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.film_model import FilmModel, FilmSettings
from recurra.tasks.model import RecurrentSettings
from recurra.tasks.scores import FEWEST, bootstrap_interval, step_intervals, step_scores

AT_ONCE = 1 << 19
"""Pixels of all steps that are told together when a network is asked; each has some hundred values along the way."""

DARKEST = 1e-12
"""The smallest squared error that a ratio in decibels is taken of."""


class FilmTrainSettings(TrainSettings):
    """The `train.*` settings of frames."""

    loss: Literal["mse", "mae", "bce"] = Field(
        default="mse",
        description="next frame: squared error, absolute error, or binary cross entropy, which takes a pixel for the "
        "probability of white (needs model.output = sigmoid)",
    )
    given: int | None = Field(
        default=None,
        ge=1,
        description="next frame: frames that are read before the network goes on by itself, where that is measured; "
        "half of each clip when left out",
    )
    free: int = Field(
        default=0,
        ge=0,
        description="next frame: frames at the end of each clip that are told in training from frames that the network "
        "told itself, so that it learns to go on",
    )
    free_from: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of the epochs at whose end there are so many; before, ever more are told so, from none on",
    )


@dataclass
class Filmed:
    """What a network says of some clips, in their order.

    Attributes:
        clips: The clips.
        schema: What they mean.
        frames: next: (S, C, H, W) float32 from 0 to 1, behind each frame the one that was told to come next.
        free: next: (N, K) float64, the squared error of each frame that was told from frames told before, by how many
            steps it lies ahead; NaN where a clip has ended.
        held: next: (N, K) likewise of the last frame that was given, held.
        losses: next: (N,) the loss of each clip, a mean over its frames that have a next one.
        probabilities: label: (S, classes) float64.
        warnings: What a person should know.
    """

    clips: Clips
    schema: ClipSchema
    frames: np.ndarray | None = None
    free: np.ndarray | None = None
    held: np.ndarray | None = None
    losses: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) bounds of the clips."""
        return self.clips.offsets.numpy()

    @property
    def targets(self) -> np.ndarray:
        """label: (S,) indices of classes."""
        assert self.clips.labels is not None
        return self.clips.labels.numpy()

    @property
    def asked(self) -> np.ndarray | None:
        """label: (S,) bool, the frames that have a label; None where all have."""
        return None if self.clips.asked is None else self.clips.asked.numpy()

    def first(self, count: int) -> "Filmed":
        """What it says of the first `count` clips."""
        count = min(count, len(self))
        rows = int(self.offsets[count])
        by_frame = {key: getattr(self, key) for key in ("frames", "probabilities")}
        by_clip = {key: getattr(self, key) for key in ("free", "held", "losses")}
        return replace(
            self,
            clips=self.clips.select(torch.arange(count)),
            **{key: None if v is None else v[:rows] for key, v in by_frame.items()},
            **{key: None if v is None else v[:count] for key, v in by_clip.items()},
        )


class Frames(Task[Clips, ClipBatch, Filmed]):
    """A film to its next frames, or to a label at every frame."""

    name = "frames"
    summary = "a film to its next frames, or every frame of it to a label"
    train_settings = FilmTrainSettings
    model_settings = FilmSettings
    reader = ClipReader()
    main_metric = "mse"
    higher_is_better = False
    samples = "clips"
    formats = ("npz", "csv", "jsonl")
    by_output = ("output.weight", "output.bias")
    schema: ClipSchema
    settings: FilmTrainSettings

    def __init__(self, schema: ClipSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, FilmTrainSettings)
        super().__init__(schema, settings)
        self.tells_frames = schema.target == "next"
        if not self.tells_frames:
            self.main_metric = "accuracy"
            self.formats = ("csv", "jsonl")
        self._epoch = 0

    @classmethod
    def is_better_high(cls, metric: str) -> bool:
        """See `Task.is_better_high`."""
        return metric in ("accuracy", "f1", "sequence_accuracy", "psnr")

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        assert isinstance(model, FilmSettings)
        if learn.carry_state:
            raise RecipeError("learn.carry_state: every clip begins anew; carry_state is to be false")
        if model.products == "convolution" and learn.rule != "bptt":
            raise RecipeError(
                f"learn.rule: {learn.rule!r} follows states that are rows; with model.products = 'convolution' it is "
                "to be bptt"
            )
        if self.tells_frames and model.bidirectional:
            raise RecipeError("model.bidirectional: the next frame is the future; it is to be false")
        if self.tells_frames and self.settings.free and learn.rule != "bptt":
            raise RecipeError(
                f"train.free: frames that are told and read again need learn.rule = bptt, not {learn.rule!r}"
            )
        if self.settings.loss == "bce" and model.output != "sigmoid":
            raise RecipeError("train.loss: bce takes a pixel for a probability; model.output is to be 'sigmoid'")
        if self.settings.free and self.settings.epochs is None and self.settings.free_from:
            raise RecipeError("train.free: it grows from epoch to epoch; train.epochs is to be set, or free_from = 0")
        for key in ("error_norm", "activation_l2", "temporal_l2"):
            if getattr(self.settings, key):
                raise RecipeError(f"train.{key}: is for sequences of rows; with frames it is to be 0")

    def network(self, model: FilmSettings) -> FilmModel:
        """See `Task.network`."""
        return FilmModel(model, self.schema)

    def build(self, model: FilmSettings, train: Clips) -> FilmModel:
        """See `Task.build`. Settings that no clip of the training part is long enough for are noted in `notes`."""
        longest, s = int(train.lengths.max()), self.settings
        if self.tells_frames and s.given is not None and s.given >= longest:
            self.notes.append(
                f"train.given = {s.given}: no clip of the training part is longer ({longest} frames at most), so that "
                "behind it none is left to be told freely; what is measured of these is left out."
            )
        if self.tells_frames and s.free > longest - 2:
            self.notes.append(
                f"train.free = {s.free}: of {longest} frames, which the longest clip has, at most {longest - 2} are "
                "told from told ones; more make no difference."
            )
        return self.network(model)

    def outputs_named(self, schema: ClipSchema) -> list[str]:
        """See `Task.outputs_named`."""
        return schema.classes

    def unlike(self, schema: ClipSchema) -> str | None:
        """See `Task.unlike`."""
        new = self.schema
        if schema.target != new.target:
            told = {"next": "next frames", "label": "labels of frames"}
            return f"that run tells {told[schema.target]}, the new data have {told[new.target]}"
        if (schema.channels, schema.height, schema.width) != (new.channels, new.height, new.width):
            return f"that run reads frames of {schema.size}, the new ones are {new.size}"
        return None

    def data_words(self) -> str:
        """See `Task.data_words`."""
        told = "the next one is told" if self.tells_frames else f"its label is told, one of {len(self.schema.classes)}"
        return f"A step is a frame of {self.schema.size}; {told}."

    def plan(self, data: Clips, *, seed: int, epoch: int) -> list[Tensor]:
        """See `Task.plan`."""
        self._epoch = epoch
        return super().plan(data, seed=seed, epoch=epoch)

    def free(self, epoch: int) -> int:
        """Frames at the end of a clip that are told from told ones in an epoch, from 0."""
        s = self.settings
        if not s.free or s.epochs is None:
            return s.free
        whole = s.free_from * s.epochs
        return s.free if epoch + 1 >= whole else int(s.free * (epoch + 1) / whole)

    def collate(self, data: Clips, indices: Tensor) -> ClipBatch:
        """See `Task.collate`."""
        return collate(data, indices, self.schema.target, self.free(self._epoch) if self.tells_frames else 0)

    def few(self, data: Clips, count: int) -> tuple[ClipBatch, str]:
        """See `Task.few`."""
        batch, which = super().few(data, count)
        return replace(batch, free=0), which

    def has_targets(self, batch: ClipBatch) -> bool:
        """See `Task.has_targets`."""
        return self.tells_frames or batch.labels is not None

    def loss(self, network: FilmModel, outputs: Tensor, batch: ClipBatch) -> Tensor:
        """The mean over pixels of all frames that have a next one; for labels, nats a frame that has one."""
        if self.tells_frames:
            each = self._by_frame(network, outputs, batch.frames[1:])
            return each.mean() if batch.within.all() else each[batch.within].mean()
        assert batch.labels is not None
        total = F.cross_entropy(outputs.flatten(0, 1), batch.labels.flatten(), ignore_index=-1, reduction="sum")
        return total / (batch.labels >= 0).sum().clamp(min=1)

    def _by_frame(self, network: FilmModel, outputs: Tensor, wanted: Tensor) -> Tensor:
        """The loss of each frame, (T, B)."""
        if self.settings.loss == "bce":
            return F.binary_cross_entropy_with_logits(outputs, wanted.clamp(0, 1), reduction="none").mean((-3, -2, -1))
        told = torch.sigmoid(outputs) if network.settings.output == "sigmoid" else outputs
        each = F.mse_loss if self.settings.loss == "mse" else F.l1_loss
        return each(told, wanted, reduction="none").mean((-3, -2, -1))

    def predict(
        self,
        network: FilmModel,
        data: Clips,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Filmed:
        """See `Task.predict`: what is told behind each frame, and how far off those told from told ones are."""
        said = self.look(network, data, forward=forward, device=device, dtype=dtype)
        if self.tells_frames:
            said.free, said.held = self._going_on(network, data, device or torch.device("cpu"), dtype)
        return said

    @torch.no_grad()
    def look(
        self,
        network: FilmModel,
        data: Clips,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Filmed:
        """See `Task.look`: as `predict`, but the network does not go on by itself."""
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        rows = len(data.frames)
        found = Filmed(data, self.schema)
        if self.tells_frames:
            found.frames = np.empty((rows, *network.shape), np.float32)
            found.losses = np.zeros(len(data))
        else:
            found.probabilities = np.empty((rows, len(self.schema.classes)))
        with suited(network, 32):
            for indices in self._at_once(data):
                batch = collate(data, indices, "label").to(device, dtype)  # of which every frame is read
                told, _ = (forward or network)(*batch.inputs)
                self._keep(found, network, batch, told)
        network.train(was_training)
        return found

    def _at_once(self, data: Clips) -> list[Tensor]:
        longest = int(data.lengths.max())
        pixels = longest * int(np.prod(data.frames.shape[1:]))
        return by_length(data, max(1, min(256, AT_ONCE // pixels)))

    def _keep(self, found: Filmed, network: FilmModel, batch: ClipBatch, told: Tensor) -> None:
        """Put what was told of a batch in the data's order."""
        offsets = found.offsets
        if found.frames is None:
            assert found.probabilities is not None
            values = torch.softmax(told.double(), -1).cpu().numpy()
        else:
            assert found.losses is not None
            values = network.frame(told).float().cpu().numpy()
            each = self._by_frame(network, told[:-1], batch.frames[1:]).double().cpu()
            for row, (index, length) in enumerate(zip(batch.indices.tolist(), batch.lengths.tolist(), strict=True)):
                if length > 1:
                    found.losses[index] = float(each[: length - 1, row].mean())
        into = found.probabilities if found.frames is None else found.frames
        assert into is not None
        for row, (index, length) in enumerate(zip(batch.indices.tolist(), batch.lengths.tolist(), strict=True)):
            into[offsets[index] : offsets[index + 1]] = values[:length, row]

    def _given(self, length: int) -> int:
        """Frames of a clip that are read before the network goes on by itself; all of it where it is no longer."""
        return min(length, self.settings.given or max(1, length // 2))

    @torch.no_grad()
    def _going_on(
        self, network: FilmModel, data: Clips, device: torch.device, dtype: torch.dtype | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Squared errors by steps ahead, (N, K) each: of frames told from told ones, and of the last given one."""
        lengths = data.lengths.numpy()
        ahead = np.array([length - self._given(int(length)) for length in lengths])
        found = [np.full((len(data), int(ahead.max(initial=0))), np.nan) for _ in range(2)]
        was_training = network.training
        network.eval()
        with suited(network, 32):
            for length in np.unique(lengths[ahead > 0]).tolist():
                given = self._given(length)
                alike = torch.from_numpy(np.flatnonzero(lengths == length))
                pixels = length * int(np.prod(data.frames.shape[1:]))
                for indices in alike.split(max(1, min(256, AT_ONCE // pixels))):
                    frames = collate(data, indices, "label").to(device, dtype).frames
                    true = frames[given:]
                    told = network.generate(frames[:given], length - given)
                    for into, said in zip(found, (told, frames[given - 1]), strict=True):
                        errors = (said - true).double().square().mean((-3, -2, -1))
                        into[indices.numpy(), : length - given] = errors.T.cpu().numpy()
        network.train(was_training)
        return found[0], found[1]

    def scores(self, predictions: Filmed) -> Metrics:
        """next: mse, mae, psnr (decibels), over all pixels of the frames that have a next one, and loss (nats a pixel)
        where that is binary cross entropy; ratio, the squared error over that of the frame before; free_mse and
        free_ratio, of frames told from told ones, against the last given one. label: accuracy, f1, loss,
        sequence_accuracy, of the frames that have a label."""
        if not self.tells_frames:
            p = predictions
            assert p.probabilities is not None
            return step_scores(p.targets, p.probabilities, p.offsets, p.asked)
        sums = _sums(predictions)
        total = sums.sum(0)
        found = _of_errors(total)
        if predictions.losses is not None and self.settings.loss == "bce":  # else it is one of those above
            found["loss"] = float((predictions.losses * sums[:, 0]).sum() / total[0])
        if predictions.free is not None and np.isfinite(predictions.free).any():
            assert predictions.held is not None
            free, held = float(np.nanmean(predictions.free)), float(np.nanmean(predictions.held))
            found |= {"free_mse": free} | ({"free_ratio": free / held} if held else {})
        return found

    def intervals(self, predictions: Filmed) -> Intervals:
        """See `Task.intervals`: the bootstrap over clips."""
        if not self.tells_frames:
            p = predictions
            assert p.probabilities is not None
            found = step_intervals(p.targets, p.probabilities, p.offsets, p.asked)
            return {key: [float(low), float(high)] for key, (low, high) in found.items()}
        if len(predictions) < FEWEST:
            return {}
        sums = _sums(predictions)
        statistics: dict[str, Callable[[np.ndarray], np.ndarray]] = {
            "mse": lambda s: s[:, 1] / s[:, 0],
            "mae": lambda s: s[:, 2] / s[:, 0],
        }
        if sums[:, 3].all():
            statistics["ratio"] = lambda s: s[:, 1] / s[:, 3]
        return {key: list(bootstrap_interval(sums, of, seed=0)) for key, of in statistics.items()}

    def baselines(self, train: Clips, test: Filmed) -> dict[str, Metrics]:
        """next: `last_frame`, always the frame before; `mean_frame`, the training part's mean. label: `majority`,
        always the training part's commonest."""
        if not self.tells_frames:
            assert train.labels is not None
            assert test.probabilities is not None
            known = train.labels if train.asked is None else train.labels[train.asked]
            counts = np.bincount(known.numpy(), minlength=len(self.schema.classes))
            share = np.broadcast_to(counts / counts.sum(), test.probabilities.shape)
            return {"majority": self.scores(replace(test, probabilities=share))}
        clips = test.clips
        mean = _mean_frame(train)
        found = {}
        for name, frames in (
            ("last_frame", clips.scaled(clips.frames).numpy()),
            ("mean_frame", np.broadcast_to(mean, (len(clips.frames), *mean.shape))),
        ):
            found[name] = self.scores(Filmed(clips, self.schema, frames=frames))
        if test.held is not None and np.isfinite(test.held).any():
            found["last_frame"] |= {"free_mse": float(np.nanmean(test.held)), "free_ratio": 1.0}
        return found

    def rows(self, predictions: Filmed, targets: bool = False) -> Iterator[dict[str, object]]:
        """next, a row a clip: `index, frames` (that have a next one), `mse, mae, ratio, free_mse, id`. label, a row a
        frame: `index, step, prediction, p_<class>…, id`, with `target` where it is asked for."""
        if self.tells_frames:
            yield from self._rows_of_clips(predictions)
            return
        p, classes = predictions, self.schema.classes
        assert p.probabilities is not None
        true = p.targets if targets else None
        for i in range(len(p)):
            for step, place in enumerate(range(p.offsets[i], p.offsets[i + 1])):
                if true is not None and p.asked is not None and not p.asked[place]:
                    continue
                line: dict[str, object] = {"index": i, "step": step}
                if true is not None:
                    line["target"] = classes[true[place]] if true[place] >= 0 else ""
                line["prediction"] = classes[int(p.probabilities[place].argmax())]
                line |= {f"p_{c}": float(v) for c, v in zip(classes, p.probabilities[place], strict=True)}
                yield line if p.clips.ids is None else line | {"id": p.clips.ids[i]}

    def _rows_of_clips(self, p: Filmed) -> Iterator[dict[str, object]]:
        sums = _sums(p)
        for i, (count, squared, absolute, before) in enumerate(sums.tolist()):
            line: dict[str, object] = {"index": i, "frames": int(count)}
            line["mse"] = squared / count if count else None
            line["mae"] = absolute / count if count else None
            line["ratio"] = squared / before if before else None
            if p.free is not None:
                line["free_mse"] = float(np.nanmean(p.free[i])) if np.isfinite(p.free[i]).any() else None
            yield line if p.clips.ids is None else line | {"id": p.clips.ids[i]}

    def file(self, predictions: Filmed, format: str) -> bytes:
        """See `Task.file`: an npz of `frames`, (N, T, H, W) or (N, T, H, W, C) in the data's own numbers, behind each
        frame the one told to come next; `lengths`, where clips are of several; `ids`, where they have names."""
        p = predictions
        assert p.frames is not None
        low, high = p.clips.low, p.clips.high
        lengths = p.clips.lengths.numpy()
        frames = np.zeros((len(p), int(lengths.max(initial=0)), *p.frames.shape[1:]), np.float32)
        for i, (first, stop) in enumerate(zip(p.offsets[:-1], p.offsets[1:], strict=True)):
            frames[i, : stop - first] = low + (high - low) * p.frames[first:stop]
        arrays: dict[str, np.ndarray] = {"frames": in_channels_last(frames, p.clips.frames.dtype == torch.uint8)}
        if len(np.unique(lengths)) > 1:
            arrays["lengths"] = lengths
        if p.clips.ids is not None:
            arrays["ids"] = np.array(p.clips.ids)
        return npz(arrays)


def in_channels_last(frames: np.ndarray, as_bytes: bool) -> np.ndarray:
    """Frames (…, C, H, W) as (…, H, W, C), or (…, H, W) of grey; rounded to bytes where these were read."""
    frames = np.moveaxis(frames, -3, -1)
    if as_bytes:
        frames = frames.round().clip(0, 255).astype(np.uint8)
    return frames[..., 0] if frames.shape[-1] == 1 else frames


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as NumPy's archive."""
    held = io.BytesIO()
    np.savez_compressed(held, **arrays)  # pyright: ignore[reportArgumentType] of names that are no options
    return held.getvalue()


def _sums(p: Filmed) -> np.ndarray:
    """(N, 4): for each clip, of the frames that have a next one, how many there are, the sums over them of the mean
    squared and absolute error of a frame, and of the mean squared error of the frame before."""
    assert p.frames is not None
    found = np.zeros((len(p), 4))
    for i in range(len(p)):
        true = p.clips.clip(i).double().numpy()
        told = p.frames[p.offsets[i] : p.offsets[i + 1]].astype(np.float64)
        if len(true) > 1:
            errors, moved = told[:-1] - true[1:], true[1:] - true[:-1]
            pixels = true[0].size
            found[i] = (len(errors), *(v.sum() / pixels for v in (errors**2, np.abs(errors), moved**2)))
    return found


def _of_errors(total: np.ndarray) -> Metrics:
    """The scores that are functions of these sums."""
    count, squared, absolute, before = total
    found: Metrics = {"mse": float(squared / count), "mae": float(absolute / count)}
    found["psnr"] = -10 * math.log10(max(found["mse"], DARKEST))
    return found | ({"ratio": float(squared / before)} if before else {})


def _mean_frame(train: Clips) -> np.ndarray:
    """(C, H, W) from 0 to 1."""
    total = sum(piece.double().sum(0) for piece in train.frames.split(4096))
    return ((total / len(train.frames) - train.low) / (train.high - train.low)).float().numpy()  # pyright: ignore
