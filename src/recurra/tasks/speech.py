"""`speech`: a recording to its label, or to what was said in it (connectionist temporal classification)."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from recurra.data.batches import by_length
from recurra.data.sequences import Sequences
from recurra.data.sound_changes import Changes
from recurra.data.spectral import Transform
from recurra.data.speech import Recordings, SpeechBatch, SpeechSchema, collate
from recurra.data.speech_reader import SpeechReader
from recurra.data.units import SPECIAL
from recurra.engine.threads import suited
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.learn.rule import Rule
from recurra.nn.ctc import BLANK, Reading, best_path, fewest_steps, losses, prefix_beam
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.edits import RATES, counts, error_rate, rates
from recurra.tasks.hearing import HearingSettings, masked, stacked
from recurra.tasks.model import ModelSettings, Normalise, RecurrentSettings, SequenceModel, scale
from recurra.tasks.scores import FEWEST, accuracy_interval, bootstrap_interval, classify_intervals, classify_scores

AT_ONCE = 64
"""Recordings at once when a network is asked."""


class SpeechModelSettings(HearingSettings, ModelSettings):
    """The `model.*` settings of speech."""

    bidirectional: bool | None = Field(
        default=None, description="run each layer in both directions, transcripts too; so when left out"
    )
    beam: int = Field(
        default=8,
        ge=1,
        description="transcripts: beginnings kept in decoding; 1: the most probable output of each step",
    )


class SpeechTrainSettings(TrainSettings):
    """The `train.*` settings of speech."""

    label_smoothing: float = Field(
        default=0.0, ge=0, lt=1, description="labels: share of the target spread over all classes"
    )


class Recogniser(SequenceModel):
    """Frames in; the classes of the recording out, or at every step the outputs of CTC.

    The scale is learnt for each feature, and is that of its copy in every frame of a step.

    Args:
        settings: The `model.*` settings.
        schema: What the data mean.
    """

    def __init__(self, settings: SpeechModelSettings, schema: SpeechSchema) -> None:
        both = settings if settings.bidirectional is not None else settings.model_copy(update={"bidirectional": True})
        width = settings.stack * len(schema.features)
        super().__init__(both, schema.outputs, input_size=width, per_step=schema.output == "transcript")
        self.hearing = settings

    def scale_from(self, data: Sequences, how: Normalise) -> None:
        """See `SequenceModel.scale_from`."""
        mean, deviation = scale(data.values, "feature" if how == "auto" else how)
        D = data.values.shape[1]
        self.mean.copy_(mean.expand(D).repeat(self.hearing.stack))
        self.deviation.copy_(deviation.expand(D).repeat(self.hearing.stack))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """Outputs and final state.

        Args:
            x: Frames, (T, B, D).
            lengths: (B,) or None where all have T frames.
            state: The recurrent layers' state to begin with.
            rule: What finds the gradient of the recurrent layers; automatic differentiation where None.

        Returns:
            (B, classes), or (⌈T / stack⌉, B, outputs); the recurrent layers' final state.
        """
        x, lengths = stacked(x, lengths, self.hearing.stack)
        steps = self.inputs(x)
        if self.training and (self.hearing.time_masks or self.hearing.band_masks):
            steps = masked(steps, lengths, self.hearing)
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        output, final = run(steps, state, lengths=lengths)
        return self.said(output, final, lengths), final


@dataclass
class Spoken:
    """What a network says of some recordings, in their order.

    Attributes:
        names: How each is called.
        seconds: (N,) how long each is.
        texts: Labels or transcripts as written, where known.
        schema: What the data mean.
        probabilities: Labels: (N, C) float64; else None.
        targets: Labels: (N,) class indices, -1 for one that training never had; None where not known.
        readings: Transcripts: what was read of each; else None.
        losses: Transcripts: (N,) nats, NaN where the steps are too few for the text; None without texts.
        counts: Transcripts: (N,) symbols of each text; None without texts.
        warnings: What a person should know.
    """

    names: list[str]
    seconds: np.ndarray
    texts: list[str] | None
    schema: SpeechSchema
    probabilities: np.ndarray | None = None
    targets: np.ndarray | None = None
    readings: list[Reading] | None = None
    losses: np.ndarray | None = None
    counts: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.names)

    @property
    def said(self) -> list[str]:
        """The label or transcript of each."""
        if self.probabilities is not None:
            return [self.schema.classes[i] for i in self.probabilities.argmax(1)]
        assert self.readings is not None
        assert self.schema.units is not None
        units = self.schema.units
        return [units.decode([s + len(SPECIAL) - 1 for s in reading.symbols]) for reading in self.readings]

    @property
    def labels(self) -> list[str]:
        """The same, by the name that other tasks have for it."""
        return self.said

    @property
    def outputs(self) -> np.ndarray | None:
        """Labels: the probabilities."""
        return self.probabilities

    def first(self, count: int) -> "Spoken":
        """Those of the first `count` recordings."""
        every = {key: None if v is None else v[:count] for key, v in vars(self).items() if key not in _WHOLE}
        return replace(self, **every)


_WHOLE = ("schema", "warnings")


class Speech(Task[Recordings, SpeechBatch, Spoken]):
    """Recording to label, or to transcript."""

    name = "speech"
    summary = "a recording of speech (WAV) to its label, or to what was said in it, by CTC"
    train_settings = SpeechTrainSettings
    model_settings = SpeechModelSettings
    reader = SpeechReader()
    main_metric = "accuracy"
    higher_is_better = True
    samples = "recordings"
    formats = ("text", "jsonl", "csv")
    by_output = ("output.weight", "output.bias", "target_mean", "target_deviation")
    schema: SpeechSchema
    settings: SpeechTrainSettings

    def __init__(self, schema: SpeechSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, SpeechTrainSettings)
        super().__init__(schema, settings)
        self.has_labels = schema.output == "label"
        if not self.has_labels:
            self.main_metric = "wer" if schema.units is not None and schema.units.unit == "word" else "cer"
        own = self.reader.settings_of(schema)
        self._changes = Changes(own, Transform(own, schema.rate)) if own.changes else None
        self._drawn: tuple[Recordings, int, int] | None = None  # the data, seed and epoch of the last plan

    @classmethod
    def is_better_high(cls, metric: str) -> bool:
        """See `Task.is_better_high`."""
        return metric not in ("wer", "cer", "loss")

    def data_words(self) -> str:
        """See `Task.data_words`."""
        schema = self.schema
        own = self.reader.settings_of(schema)
        kind = "logarithms of mel bands" if own.features == "log_mel" else "cepstral coefficients"
        told = (
            f"{len(schema.classes)} labels"
            if self.has_labels
            else f"transcripts of {len(schema.symbols)} {own.unit}s, and a blank"
        )
        return (
            f"{len(schema.features)} numbers ({kind}) every {own.hop:g} ms, of sound at {schema.rate:,} samples a "
            f"second; {told}"
        )

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        assert isinstance(model, SpeechModelSettings)
        if learn.carry_state:
            raise RecipeError("learn.carry_state: a recording does not go on where the last one ended; leave it out")
        if self.settings.error_norm:
            raise RecipeError("train.error_norm: is for networks whose steps are those of the data; it is to be 0 here")
        if not self.has_labels:
            if learn.rule != "bptt":
                raise RecipeError(
                    f"learn.rule: {learn.rule!r} goes forward, and CTC's loss is known at the end only; 'bptt'"
                )
            if self.settings.label_smoothing:
                raise RecipeError("train.label_smoothing: is for labels; for transcripts it is to be 0")

    def network(self, model: SpeechModelSettings) -> Recogniser:
        """See `Task.network`."""
        return Recogniser(model, self.schema)

    def build(self, model: SpeechModelSettings, train: Recordings) -> Recogniser:
        """See `Task.build`. Of recordings too short for their transcripts, which teach nothing, it is told."""
        network = self.network(model)
        network.scale_from(train.sounds, model.normalise)
        short = too_short(train, model.stack)
        if len(short):
            if len(short) == len(train):
                raise RecipeError(
                    f"model.stack: every recording is too short for its transcript with {model.stack} frames to a step"
                )
            self.notes.append(
                f"{len(short):,} of {len(train):,} training recordings have fewer steps than their transcripts take, "
                f"and teach nothing; the first: {train.names[int(short[0])]}. A smaller model.stack or "
                "data.hop gives more."
            )
        return network

    def outputs_named(self, schema: SpeechSchema) -> list[str]:
        """See `Task.outputs_named`."""
        return schema.classes if schema.output == "label" else ["", *schema.symbols]

    def unlike(self, schema: SpeechSchema) -> str | None:
        """See `Task.unlike`."""
        new = self.schema
        if schema.output != new.output:
            return f"that run tells {schema.output}s, the new data have {new.output}s"
        if (schema.rate, schema.features) != (new.rate, new.features):
            return (
                f"that run reads {len(schema.features)} features at {schema.rate:,} samples a second, the new data "
                f"have {len(new.features)} at {new.rate:,}"
            )
        return None

    def plan(self, data: Recordings, *, seed: int, epoch: int) -> list[Tensor]:
        """See `Task.plan`."""
        self._drawn = (data, seed, epoch)
        return super().plan(data, seed=seed, epoch=epoch)

    def collate(self, data: Recordings, indices: Tensor) -> SpeechBatch:
        """See `Task.collate`. The sound of those that are learnt from is changed, in another way in every epoch."""
        if self._changes is None or data.waves is None or self._drawn is None or self._drawn[0] is not data:
            return collate(data, indices)
        _, seed, epoch = self._drawn
        return collate(data, indices, [self._changes(data.waves[i], (seed, epoch, i)) for i in indices.tolist()])

    def has_targets(self, batch: SpeechBatch) -> bool:
        """See `Task.has_targets`; of labels one at least that training had."""
        if batch.targets is None:
            return False
        return not self.has_labels or bool((batch.targets >= 0).any())

    def loss(self, network: Recogniser, outputs: Tensor, batch: SpeechBatch) -> Tensor:
        """Labels: cross entropy in nats a recording. Transcripts: -log of their probability, nats a symbol."""
        assert batch.targets is not None
        if self.has_labels:
            smoothing = self.settings.label_smoothing
            return F.cross_entropy(outputs, batch.targets, label_smoothing=smoothing, ignore_index=-1)
        assert batch.target_lengths is not None
        wanted = batch.targets.clamp(min=1)  # what training never had cannot be said, and stands for any symbol here
        found = losses(outputs.log_softmax(-1), self._steps(network, batch), wanted, batch.target_lengths)
        return found.sum() / max(1, int(batch.target_lengths.sum()))

    @staticmethod
    def _steps(network: Recogniser, batch: SpeechBatch) -> Tensor | None:
        stack = network.hearing.stack
        return None if batch.lengths is None else (batch.lengths + stack - 1) // stack

    def predict(
        self,
        network: Recogniser,
        data: Recordings,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Spoken:
        """See `Task.predict`."""
        return self._predict(network, data, network.hearing.beam, forward, device, dtype)

    def look(
        self,
        network: Recogniser,
        data: Recordings,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Spoken:
        """See `Task.look`: as `predict`, without a beam."""
        return self._predict(network, data, 1, forward, device, dtype)

    @torch.no_grad()
    def _predict(
        self,
        network: Recogniser,
        data: Recordings,
        beam: int,
        forward: Callable[..., tuple[Any, Any]] | None,
        device: torch.device | None,
        dtype: torch.dtype | None,
    ) -> Spoken:
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        said = Spoken(list(data.names), data.seconds, data.texts, self.schema)
        if self.has_labels:
            said.probabilities = np.zeros((len(data), len(self.schema.classes)))
            said.targets = None if data.sounds.targets is None else data.sounds.targets.numpy()
        else:
            said.readings = [Reading([], 0.0)] * len(data)
            if data.symbols is not None:
                said.losses, said.counts = np.zeros(len(data)), data.symbols.lengths.numpy()
        with suited(network, AT_ONCE):
            for indices in by_length(data, AT_ONCE):
                batch = collate(data, indices).to(device, dtype)
                raw, _ = (forward or network)(*batch.inputs)
                rows = indices.numpy()
                if said.probabilities is not None:
                    said.probabilities[rows] = raw.double().softmax(-1).cpu().numpy()
                else:
                    self._read(network, batch, raw.double().log_softmax(-1), beam, said)
        network.train(was_training)
        return said

    def _read(self, network: Recogniser, batch: SpeechBatch, logs: Tensor, beam: int, said: Spoken) -> None:
        """What the outputs of a batch say, and their loss, put where they belong."""
        steps = self._steps(network, batch)
        lengths = [len(logs)] * len(batch) if steps is None else steps.tolist()
        arrays = logs.cpu().numpy()
        assert said.readings is not None
        for row, index in enumerate(batch.indices.tolist()):
            own = arrays[: lengths[row], row]
            said.readings[index] = best_path(own) if beam == 1 else prefix_beam(own, beam)
        if said.losses is not None:
            assert batch.targets is not None
            assert batch.target_lengths is not None
            # A symbol that training never had is numbered as the blank, and such a text has no probability.
            found = losses(logs, steps, batch.targets.clamp(min=1), batch.target_lengths, impossible=float("nan")).cpu()
            strange = torch.zeros(len(batch), dtype=torch.bool)
            owner = torch.repeat_interleave(torch.arange(len(batch)), batch.target_lengths)
            strange[owner[(batch.targets == BLANK).cpu()]] = True
            said.losses[batch.indices.numpy()] = found.masked_fill(strange, torch.nan).numpy()

    def scores(self, predictions: Spoken) -> Metrics:
        """Labels: accuracy, f1 (macro), loss (nats a recording). Transcripts: wer and cer, the words (characters) put
        in, left out and taken for others over those that are true; exact_match; loss (nats a symbol), of those texts
        that can be said at all; too_short, how many have too few steps or a symbol never seen."""
        p = predictions
        if p.probabilities is not None:
            assert p.targets is not None
            return classify_scores(p.targets, p.probabilities)
        assert p.texts is not None
        said = p.said
        found: Metrics = rates(p.texts, said)
        found["exact_match"] = float(np.mean(_right(p.texts, said)))
        if p.losses is not None and p.counts is not None:
            known = ~np.isnan(p.losses)
            if known.any():
                found["loss"] = float(p.losses[known].sum() / max(1, p.counts[known].sum()))
            if not known.all():
                found["too_short"] = float((~known).sum())
        return found

    def intervals(self, predictions: Spoken) -> Intervals:
        """See `Task.intervals`: Wilson for shares of recordings, bootstrap over recordings for all else."""
        p = predictions
        if p.probabilities is not None:
            assert p.targets is not None
            found = classify_intervals(p.targets, p.probabilities)
        else:
            assert p.texts is not None
            said = p.said
            found = {"exact_match": accuracy_interval(int(_right(p.texts, said).sum()), len(said))}
            if len(said) >= FEWEST:
                for name, unit in RATES.items():
                    found[name] = bootstrap_interval(counts(p.texts, said, unit), error_rate, 0)
        return {name: [float(low), float(high)] for name, (low, high) in found.items()}

    def baselines(self, train: Recordings, test: Spoken) -> dict[str, Metrics]:
        """Labels: `majority`. Transcripts: `commonest`, always the training part's commonest."""
        assert train.texts is not None
        commonest = Counter(train.texts).most_common(1)[0][0]
        if test.probabilities is not None:
            share = np.array([train.texts.count(label) for label in self.schema.classes], np.float64) / len(train)
            return {"majority": self.scores(replace(test, probabilities=np.tile(share, (len(test), 1))))}
        assert test.texts is not None
        said = [commonest] * len(test)
        return {"commonest": rates(test.texts, said) | {"exact_match": float(np.mean(_right(test.texts, said)))}}

    def rows(self, predictions: Spoken, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, target, prediction`, then the probabilities of the labels, `p_<label>…`, or the transcript's `score`,
        the logarithm of its probability; and `id`, the file."""
        p = predictions
        for i, said in enumerate(p.said):
            row: dict[str, object] = {"index": i}
            if targets and p.texts is not None:
                row["target"] = p.texts[i]
            row["prediction"] = said
            if p.probabilities is not None:
                row |= {f"p_{c}": float(v) for c, v in zip(self.schema.classes, p.probabilities[i], strict=True)}
            elif p.readings is not None:
                row["score"] = p.readings[i].score
            yield row | {"id": p.names[i]}

    def text(self, predictions: Spoken, colour: bool = False) -> str:
        """A line for each recording: its name, and what is said of it."""
        return "".join(f"{name}\t{said}\n" for name, said in zip(predictions.names, predictions.said, strict=True))


def too_short(data: Recordings, stack: int) -> np.ndarray:
    """Which recordings have fewer steps than their transcripts take."""
    if data.symbols is None:
        return np.empty(0, np.int64)
    steps = (data.lengths + stack - 1) // stack
    needed = [fewest_steps(data.symbols.sequence(i).tolist()) for i in range(len(data))]
    return np.flatnonzero(steps.numpy() < np.array(needed))


def _right(true: list[str], said: list[str]) -> np.ndarray:
    """(N,) bool: which texts are the same, blanks aside."""
    return np.array([a.split() == b.split() for a, b in zip(true, said, strict=True)], bool)
