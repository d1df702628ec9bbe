"""Learning from a stream: predict, see what was true, learn, row by row without end.

A stream comes once, so nothing is split off it: every prediction is made before its target is seen, and their scores
are the test. All that the next row depends on is in the checkpoint, so that a run killed at any instant, given the rows
behind its last checkpoint again, ends with the weights of the unbroken run, bit for bit.
"""

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from recurra.data.batches import Batch
from recurra.data.lines import Row
from recurra.data.sequences import Schema
from recurra.errors import RecipeError, RunError, unknown
from recurra.learn import Rule, TruncatedBPTT
from recurra.learn.followed import Followed
from recurra.learn.optimise import REMEMBERED, clip, make_optimizer
from recurra.learn.regularise import add_decay, factors
from recurra.nn import NTM, TDNN
from recurra.run import api, checkpoint
from recurra.run.diverged import is_good
from recurra.run.recipe import Recipe
from recurra.run.running import Scale, Scores
from recurra.run.training import make_fabric, memory_told, rule_refused
from recurra.tasks import TASKS, Classify, Predictions, SequenceTask
from recurra.tasks.classify import ClassifyTrainSettings
from recurra.tasks.model import build
from recurra.tasks.regress import RegressTrainSettings

DROPPED = ("dropout", "input_dropout", "recurrent_dropout", "weight_drop", "zoneout", "output_dropout")

WINDOW = 1000
"""Predictions between two lines of metrics.jsonl where `train.evaluate_every` does not say."""

REMEMBERED_IDS = 10_000
"""Ids whose state was given up that are known again, to tell a person of it."""

Write = Callable[[dict[str, Any]], None]
"""Takes the row of a prediction."""


class DivergedError(RunError):
    """A number is none, and nothing can be learnt any more.

    Args:
        what: Which number, and where in the stream.
        hint: What to try beside a lower learning rate.
    """

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(f"{what}. Try a lower train.lr{hint}")
        self.what, self.hint = what, hint


@dataclass
class Progress:
    """How far a stream was learnt."""

    lines: int = 0  # rows read, those among them that could not be
    samples: int = 0  # rows learnt from
    updates: int = 0
    skipped: int = 0  # rows that could not be read
    seconds: float = 0.0  # spent predicting and learning
    reported: int = 0  # rows learnt from by the last line of metrics
    recent: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])  # since then: losses, norms, updates
    metrics_size: int = 0  # bytes of metrics.jsonl


@dataclass
class Strand:
    """One stream among several that come interleaved: what was carried along with it.

    Attributes:
        rule: The learning rule, with the state and all that it keeps.
        is_new: Whether its first step is still to come, with a rule that another stream had.
        waiting: Where the next value is predicted: the input whose next value has not come, and whether the state
            began anew before it.
        begun: What the rule was when the window under way began, if it goes back; empty where the stream began then.
    """

    rule: Rule
    is_new: bool = False
    waiting: tuple[list[float], bool] | None = None
    begun: dict[str, Tensor] = field(default_factory=dict)


@dataclass
class Step:
    """A step of a window that is gone back through: what it takes to take it again.

    Attributes:
        strand: The stream that took it.
        x: (D,), on the scale of its time.
        reset: Whether the state began anew before it.
        target: What was true; None where that is not known.
        scale: (2, K), what targets were shifted and divided by.
    """

    strand: Strand
    x: Tensor
    reset: bool
    target: np.ndarray | int | None
    scale: Tensor


class Online:
    """A network that learns from a stream, a row at a time.

    Args:
        recipe: The recipe.
        schema: What the first line settled.
        source: A run whose weights it begins with.

    Attributes:
        progress: How far it is.
        scores: How good its predictions were.

    Raises:
        RecipeError: The recipe asks for what cannot be learnt along a stream.
    """

    def __init__(self, recipe: Recipe, schema: Schema, source: "api.Run | None" = None) -> None:
        check(recipe)
        self.recipe, self.schema, self.settings = recipe, schema, recipe.train
        stream = cast(Mapping[str, Any], schema.settings["stream"])
        self.looks_ahead: bool = stream["looks_ahead"]
        device = recipe.train.device
        self.device = torch.device("cpu") if device == "auto" else make_fabric(recipe.train).device
        self.dtype = torch.float64 if recipe.train.precision == "64-true" else torch.float32
        torch.manual_seed(recipe.seed)
        self.task = cast(SequenceTask, TASKS[recipe.task](schema, recipe.train))
        outputs = len(schema.classes) or len(schema.targets)
        with memory_told(recipe):
            self.network = build(recipe.model, schema, outputs, per_step=True)
        self.network.to(self.device, self.dtype)
        own = dict(self.network.named_parameters())
        self.l1 = factors(own, self.network.by_symbol, self.settings.l1, "train.l1")
        self.l2 = factors(own, self.network.by_symbol, self.settings.l2, "train.l2")
        self._weigh_classes()
        scaled = isinstance(recipe.train, RegressTrainSettings) and recipe.train.normalise_targets
        self.input_scale = Scale(len(schema.features), recipe.model.normalise)
        self.target_scale = Scale(outputs, "feature" if scaled else "none")
        self.warnings: list[str] = []
        if source is not None:
            self.warnings += self._warm_start(source)
        self.parameters = {name: p for name, p in own.items() if p.requires_grad}
        fused = self.device.type in ("cpu", "cuda")
        self.optimizer = make_optimizer(self.network.named_parameters(), self.settings, fused=fused)
        self.scores = Scores(self.task, self.settings.evaluate_every or WINDOW)
        self.progress = Progress()
        self.strands: OrderedDict[str, Strand] = OrderedDict()  # the one that was silent for longest comes first
        self._given_up: OrderedDict[str, None] = OrderedDict()
        self._rules = 0
        self._since = self._asked = 0  # rows, and targets among them, since the parameters moved
        self._window: list[Step] = []  # those, where they are gone back through
        self._norms: list[float] = []
        self._before: np.ndarray = np.zeros(0)  # losses before the last checkpoint
        self._scored = 0  # and how many there had been
        self._check_rule()

    def _weigh_classes(self) -> None:
        """Give each class the weight that a table names."""
        if isinstance(self.task, Classify) and isinstance(wanted := self.task.settings.class_weights, dict):
            classes = self.schema.classes
            for label in wanted:
                if label not in classes:
                    raise RecipeError("train.class_weights: " + unknown("class", label, classes))
            self.task.weights = torch.tensor([wanted.get(c, 1.0) for c in classes])

    def _warm_start(self, source: "api.Run") -> list[str]:
        """Take over a run's weights, and with them its scales: it learnt with these."""
        said = api.warm_start(self.network, self.task, source)
        self.input_scale.how = "none"
        if set(self.schema.targets) <= set(source.schema.targets):
            self.target_scale.how = "none"
        return said

    def _check_rule(self) -> None:
        if isinstance(self.network.recurrent, NTM):
            raise RecipeError(
                "model.kind: ntm has a memory beside its state, and a stream is learnt by rules that follow states "
                "alone; recurrent is expected"
            )
        if isinstance(self.network.recurrent, TDNN):
            raise RecipeError(
                "model.kind: tdnn has no recurrence, and a stream is learnt by rules that follow one; recurrent is "
                "expected"
            )
        try:
            self._rule()
        except ValueError as error:
            raise rule_refused(error) from error

    def _rule(self) -> Rule:
        """A rule at the beginning of a stream."""
        rule = self.recipe.learn.make((self.recipe.seed + self._rules) % 2**32)
        rule.begin(self.network.recurrent)
        self._rules += 1
        return rule

    # --- a row ------------------------------------------------------------------------------------------------------

    def take(self, row: Row, write: Write) -> None:
        """Predict, write the prediction, and learn.

        Args:
            row: What a line says.
            write: Is given the prediction, before anything is learnt from its target: `index`, `id` where there are
                several streams, `prediction` and `p_<class>` as `recurra predict` has them, `target` where it is known,
                and `loss`, the mean over the last predictions. Where the next value is predicted: once it came, with
                the prediction of the one after it as `next`.

        Raises:
            DivergedError: A number is none; nothing was changed by it but the state.
        """
        started = time.perf_counter()
        strand = self._strand(row.stream)
        if self.looks_ahead:
            self._take_ahead(strand, row, write)
        else:
            self._take(strand, row, write)
        self.progress.seconds += time.perf_counter() - started

    def _take(self, strand: Strand, row: Row, write: Write) -> None:
        self._see(row.features)
        raw, said = self._said(strand, row.features, row.reset)
        target = None if row.target is None else self._target(row.target)
        if target is not None:
            self.scores.add(said, target)
        try:
            write(self._row(row, said, self._written(row.target)))
        finally:  # where nobody reads any more, this line is still learnt, since the state has moved on with it
            self._learn(strand, raw, target)
            self.progress.lines += 1

    def _take_ahead(self, strand: Strand, row: Row, write: Write) -> None:
        """A value is the target of the one before it."""
        said = None
        value = [row.features[0]]
        reset = row.reset or strand.is_new
        if strand.waiting is not None and not reset:
            raw, said = self._said(strand, *strand.waiting)
            target = self._target(value)
            self.scores.add(said, target)
            self._learn(strand, raw, target)
        strand.waiting, strand.is_new = (row.features, reset), False
        self._see(row.features)
        following = self._next(strand)
        shown = self._row(row, said, value) | {"next": float(following[0])}
        self.progress.lines += 1
        write(shown)

    def _strand(self, name: str) -> Strand:
        """The stream of that id; a new one takes the place of the one that was silent for longest, where it must."""
        found = self.strands.get(name)
        if found is not None:
            self.strands.move_to_end(name)
            return found
        if name in self._given_up and not self.warnings:
            self.warnings.append(
                f"{name!r} came again after its state was given up: data.streams = {self.recipe.data.streams} keeps "
                "so many at a time"
            )
        if len(self.strands) < self.recipe.data.streams:
            found = Strand(self._rule())
        else:
            old, found = self.strands.popitem(last=False)
            found.is_new, found.waiting = True, None
            self._given_up[old] = None
            if len(self._given_up) > REMEMBERED_IDS:
                self._given_up.popitem(last=False)
        self.strands[name] = found
        return found

    def _see(self, features: Sequence[float]) -> None:
        """Take a row's input into the scale, which is then that of all that came, this row among it."""
        self.input_scale.add(np.asarray(features))
        self.input_scale.fill(self.network.mean, self.network.deviation)

    def _input(self, features: Sequence[float]) -> Tensor:
        """(1, 1, D), on a common scale."""
        x = torch.tensor(features, dtype=self.dtype, device=self.device)
        return self.network.inputs(x.view(1, 1, -1))

    def _said(self, strand: Strand, features: Sequence[float], reset: bool) -> tuple[Tensor, np.ndarray]:
        """Take a step: what the network puts out, (outputs,), and what it stands for in the task's own units."""
        reset = reset or strand.is_new
        strand.is_new = False
        x = self._input(features).view(-1)
        if isinstance(strand.rule, TruncatedBPTT):
            self._window.append(Step(strand, x, reset, None, self._target_scale()))
        raw = self._stepped(strand, x, reset)
        return raw, self._values(raw.detach())

    def _stepped(self, strand: Strand, x: Tensor, reset: bool) -> Tensor:
        """What the network puts out, (outputs,), after a step with (D,)."""
        return self.network.output(self.network.head(strand.rule(x, reset=reset or None)))

    def _target_scale(self) -> Tensor:
        return torch.stack([self.network.target_mean, self.network.target_deviation])

    def _values(self, raw: Tensor) -> np.ndarray:
        with torch.no_grad():
            said = self.task.outputs(self.network, raw).double().cpu().numpy()
        if not np.isfinite(said).all():
            raise self._diverged("the network's output is no number")
        return said

    @torch.no_grad()
    def _next(self, strand: Strand) -> np.ndarray:
        """What the network says of the value after the one that waits; the state stays."""
        assert strand.waiting is not None
        features, reset = strand.waiting
        layers = self.network.recurrent
        state = None if reset else Followed(layers).packed(strand.rule.state)
        hidden, _ = layers(self._input(features), state)
        return self._values(self.network.output(self.network.head(hidden.view(-1))))

    def _target(self, said: tuple[str, ...] | list[float]) -> Any:
        """A target as it is scored: a class's number, a set of labels (C,) bool, or numbers (K,)."""
        classes = self.schema.classes
        if not classes:
            return np.asarray(said, dtype=np.float64)
        if self.schema.multi_label:
            return np.array([c in said for c in classes])
        return classes.index(cast(str, said[0]))

    def _written(self, target: tuple[str, ...] | list[float] | None) -> Any:
        """A target as it is written."""
        if target is not None and self.schema.classes:
            return ";".join(cast(tuple[str, ...], target))
        return target

    def _row(self, row: Row, said: np.ndarray | None, target: Any) -> dict[str, Any]:
        """The row of a prediction."""
        outputs = np.zeros((1, len(self.schema.classes) or len(self.schema.targets))) if said is None else said[None]
        shown = next(iter(self.task.rows(Predictions(outputs, None, None, None, self.schema))))
        if said is None:
            shown = dict.fromkeys(shown)
        written: dict[str, Any] = {"index": self.progress.lines}
        if self.schema.settings["id"] is not None:
            written["id"] = row.stream
        written |= {name: value for name, value in shown.items() if name != "index"}
        if self.schema.classes:
            written["target"] = target
        else:
            names = self.schema.targets
            for i, name in enumerate(names):
                written["target" if len(names) == 1 else f"target_{name}"] = None if target is None else target[i]
        return written | {"loss": self.scores.recent_loss}

    # --- learning ---------------------------------------------------------------------------------------------------

    def _learn(self, strand: Strand, raw: Tensor, target: Any) -> None:
        """Learn from a target, or where there is none, only carry on."""
        loss = None
        if target is not None:
            if not self.schema.classes:  # a number is on the scale of all that came, itself among them
                self.target_scale.add(target)
                self.target_scale.fill(self.network.target_mean, self.network.target_deviation)
            loss = self._loss(raw, target)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise self._diverged(f"the loss became {value}")
            if self._window:
                self._window[-1].target, self._window[-1].scale = target, self._target_scale()
            self.progress.samples += 1
            self.progress.recent[0] += value
            self._asked += 1
        whole = strand.rule.step(loss)
        self._since += 1
        learn = self.recipe.learn
        if whole if learn.rule == "tbptt" else self._since >= (learn.k1 or 1):
            self._end_windows()

    def _loss(self, raw: Tensor, target: Any) -> Tensor:
        """What is made small."""
        kind = self.dtype if not self.schema.classes else None
        targets = torch.as_tensor(target, dtype=kind, device=self.device)
        shape = (1, 1) if self.schema.classes and not self.schema.multi_label else (1, 1, -1)
        batch = Batch(raw, None, targets.view(shape), torch.zeros(1, dtype=torch.int64))
        return self.task.loss(self.network, raw.view(1, 1, -1), batch)

    def _end_windows(self) -> None:
        """End what is under way in every stream, and move the parameters.

        Windows of truncated backpropagation end together: one that went on would go back through parameters that have
        moved.
        """
        for strand in self.strands.values():
            strand.rule.finish()
            if isinstance(strand.rule, TruncatedBPTT):
                strand.begun = strand.rule.tensors()
        if self._asked:
            self._move()
        self._since = self._asked = 0
        self._window.clear()

    def _move(self) -> None:
        add_decay(self.parameters, self.l1, self.l2)
        norm = clip(self.parameters, self.settings, self._norms)
        if not math.isfinite(norm):
            raise self._diverged(f"the norm of the gradient became {norm}")
        if self.settings.clip_quantile:
            self._norms = [*self._norms[1 - REMEMBERED :], norm]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.progress.updates += 1
        self.progress.recent[1] += norm
        self.progress.recent[2] += 1

    def _diverged(self, what: str) -> DivergedError:
        bound = f"{self.settings.clip_norm:g}" if self.settings.clip_norm else "none"
        hint = f" or train.clip_norm (now {bound}), or another model.cell"
        return DivergedError(f"{what} at index {self.progress.lines} of the stream", hint)

    def line_of_metrics(self) -> dict[str, Any] | None:
        """A line of metrics.jsonl, where one is due."""
        progress, scores = self.progress, self.scores
        if scores.count == progress.reported or scores.count % len(scores.losses):
            return None
        progress.reported = scores.count
        loss, norm, updates = progress.recent
        progress.recent = [0.0, 0.0, 0.0]
        return {
            "step": progress.updates,
            "rows": progress.lines,
            "samples": progress.samples,
            "lr": self.settings.lr,
            "train_loss": loss / len(scores.losses),
            "gradient_norm": norm / max(1.0, updates),
            "window": scores.window(),
            "so_far": scores.so_far(),
        }

    # --- checkpoints ------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Learn from the window under way, though it is not whole, for weights that are taken away.

        A stream that goes on does so from the window as it was: `save` comes first.
        """
        if self._since:
            self._end_windows()

    def save(self, path: Path) -> None:
        """Write the checkpoint. Of a window under way it holds the gradients so far, or all that they are made of."""
        named: dict[str, Tensor] = {
            **checkpoint.with_prefix("model", self.network.state_dict()),
            **checkpoint.with_prefix("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.with_prefix("input_scale", self.input_scale.tensors()),
            **checkpoint.with_prefix("target_scale", self.target_scale.tensors()),
            **checkpoint.with_prefix("scores", self.scores.tensors()),
            "norms": torch.tensor(self._norms, dtype=torch.float64),
        }
        strands = []
        for k, (name, strand) in enumerate(self.strands.items()):
            goes_back = isinstance(strand.rule, TruncatedBPTT)
            named |= checkpoint.with_prefix(f"strand.{k}", strand.begun if goes_back else strand.rule.tensors())
            strands.append({"id": name, "is_new": strand.is_new, "waiting": strand.waiting})
        if self._since:
            named |= {f"gradient.{name}": p.grad for name, p in self.parameters.items() if p.grad is not None}
            named |= checkpoint.with_prefix("window", self._window_tensors())
        facts = {
            "progress": asdict(self.progress),
            "strands": strands,
            "rules": self._rules,
            "since": [self._since, self._asked],
            "scales": [self.input_scale.how, self.target_scale.how],
        }
        # Copied, since a rule may keep one tensor in several places, which no file of tensors can say.
        checkpoint.write(path, {name: v.detach().clone() for name, v in named.items()}, facts)

        self._is_saved()

    def _is_saved(self) -> None:
        self._before, self._scored = self.scores.recent_losses(), self.scores.count

    def was_good(self) -> bool:
        """Whether the last checkpoint was, as far as the losses behind it say."""
        return is_good(self._before, self.scores.recent_losses(self.scores.count - self._scored))

    def restore(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            RunError: It is damaged.
        """
        try:
            self._restore(*checkpoint.read(path), path)
        except (KeyError, TypeError, ValueError, RuntimeError, RunError) as error:
            said = str(error) if isinstance(error, RunError) else f"{path}: is damaged"
            raise RunError(f"{said}; delete it, and the run begins anew when it is resumed") from error

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any], path: Path) -> None:
        checkpoint.fill(self.network, checkpoint.under_prefix("model", tensors), path)
        checkpoint.restore_optimizer(self.optimizer, checkpoint.under_prefix("optimizer", tensors))
        self.input_scale.how, self.target_scale.how = facts["scales"]
        self.input_scale.restore(checkpoint.under_prefix("input_scale", tensors))
        self.target_scale.restore(checkpoint.under_prefix("target_scale", tensors))
        self.scores.restore(checkpoint.under_prefix("scores", tensors))
        self._norms = tensors["norms"].tolist()
        self.progress = Progress(**facts["progress"])
        self.strands.clear()
        for k, said in enumerate(facts["strands"]):
            rule, kept = self._rule(), checkpoint.under_prefix(f"strand.{k}", tensors)
            if kept:
                rule.restore(kept)
            waiting = None if said["waiting"] is None else tuple(said["waiting"])
            begun = kept if isinstance(rule, TruncatedBPTT) else {}
            self.strands[said["id"]] = Strand(rule, said["is_new"], waiting, begun)
        self._rules = facts["rules"]
        for name, gradient in checkpoint.under_prefix("gradient", tensors).items():
            self.parameters[name].grad = gradient.to(self.device)
        self._take_again(checkpoint.under_prefix("window", tensors))
        self._since, self._asked = facts["since"]
        self._is_saved()

    def _window_tensors(self) -> dict[str, Tensor]:
        """The steps of the window under way, where they are gone back through."""
        if not self._window:
            return {}
        places = {id(strand): k for k, strand in enumerate(self.strands.values())}
        width = len(self.schema.classes) if self.schema.multi_label else len(self.schema.targets)
        unknown = np.zeros(width) if width else 0  # stands where there is no target
        targets = [unknown if step.target is None else step.target for step in self._window]
        return {
            "strand": torch.tensor([places[id(step.strand)] for step in self._window]),
            "x": torch.stack([step.x for step in self._window]),
            "reset": torch.tensor([step.reset for step in self._window]),
            "asked": torch.tensor([step.target is not None for step in self._window]),
            "target": torch.from_numpy(np.stack(targets)),
            "scale": torch.stack([step.scale for step in self._window]),
        }

    def _take_again(self, kept: Mapping[str, Tensor]) -> None:
        """Take the steps of the window under way, with the parameters that have not moved since it began."""
        if not kept:
            return
        network, strands, now = self.network, list(self.strands.values()), self._target_scale()
        scale = (network.target_mean, network.target_deviation)
        for n, k in enumerate(kept["strand"].tolist()):
            target = kept["target"][n].numpy()
            if not kept["asked"][n]:
                target = None
            elif self.schema.multi_label:
                target = target.astype(bool)
            step = Step(strands[k], kept["x"][n].to(self.device), bool(kept["reset"][n]), target, kept["scale"][n])
            for own, value in zip(scale, step.scale, strict=True):
                own.copy_(value)
            raw = self._stepped(step.strand, step.x, step.reset)
            step.strand.rule.step(None if step.target is None else self._loss(raw, step.target))
            self._window.append(step)
        for own, value in zip(scale, now, strict=True):
            own.copy_(value)


def check(recipe: Recipe) -> None:
    """Look whether a recipe can be learnt along a stream.

    Raises:
        RecipeError: It cannot; which key, and what is expected there.
    """
    if not TASKS[recipe.task].streams:
        able = " and ".join(name for name, task in TASKS.items() if task.streams)
        raise RecipeError(f"task: {recipe.task} has no rows with a target each; {able} are learnt from a stream")
    if recipe.learn.rule == "bptt":
        raise RecipeError(
            "learn.rule: bptt goes back from the end, and a stream has none; rtrl, snap1, eprop and uoro go forward, "
            "tbptt goes back through the last steps"
        )
    for name in DROPPED:
        if getattr(recipe.model, name):
            raise RecipeError(
                f"model.{name}: on a stream one pass both predicts and learns, and what predicts drops nothing; "
                "0 is expected"
            )
    if isinstance(recipe.train, ClassifyTrainSettings) and recipe.train.class_weights == "balanced":
        raise RecipeError(
            "train.class_weights: a stream does not tell ahead how rare a class is; none or a table is expected"
        )
    if recipe.train.precision == "bf16-mixed":
        raise RecipeError("train.precision: a stream is learnt in 32-true or 64-true")
    if recipe.data.per_step is False:
        raise RecipeError("data.per_step: on a stream there is a target at every line; leave it out")
    if recipe.task != "classify" and recipe.data.classes is not None:
        raise RecipeError(f"data.classes: {recipe.task} has no classes")
