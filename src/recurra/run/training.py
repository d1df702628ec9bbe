"""The training loop: batches in an order fixed by the seed, a learning rule, an optimiser, and a checkpoint.

Every number that the next update depends on is in the checkpoint, so that a run stopped at any instant and taken up
again ends with the weights of the unbroken run, bit for bit.
"""

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from recurra.data import Parts
from recurra.engine.threads import suited
from recurra.errors import RecipeError, RunError, unknown
from recurra.files import write_text
from recurra.learn import Rule, TrainSettings
from recurra.learn.backward import detached
from recurra.learn.error_norm import error_norm
from recurra.learn.optimise import clip, learning_rate, make_optimizer
from recurra.learn.regularise import activation_penalty, add_decay, factors
from recurra.nn import NTM, Recurrent
from recurra.run import checkpoint, diverged
from recurra.run.folder import RunFolder, remove_partial
from recurra.run.lines import to_lines
from recurra.run.recipe import Recipe
from recurra.tasks import TASKS, SequenceTask, Task
from recurra.tasks.model import Network, SequenceModel

Parameters = dict[str, nn.Parameter]
Update = tuple[float, float, Any, Tensor]
"""Of one update, or of those of one batch: the loss, the norm of the gradient, the last batch and its outputs."""


class Listener(Protocol):
    """What wants to know how training goes: a progress bar, a log."""

    def begin(self, training: "Training") -> None:
        """Training begins, or goes on after `training.progress.step` of `training.total` updates."""
        ...

    def update(self, step: int, loss: float) -> None:
        """An update was made."""
        ...

    def evaluation(self, line: dict[str, Any]) -> None:
        """The network was evaluated; `line` is that of metrics.jsonl."""
        ...

    def end(self) -> None:
        """Training ended."""
        ...


class Silent:
    """A listener that says nothing."""

    def begin(self, training: "Training") -> None:
        """See `Listener`."""

    def update(self, step: int, loss: float) -> None:
        """See `Listener`."""

    def evaluation(self, line: dict[str, Any]) -> None:
        """See `Listener`."""

    def end(self) -> None:
        """See `Listener`."""


@dataclass
class Progress:
    """How far a run is: with the weights, the optimiser's values and the random state, all that the rest depends on."""

    step: int = 0  # updates made
    epoch: int = 0
    position: int = 0  # updates made in this epoch
    samples: int = 0
    steps: int = 0  # of all samples, without padding
    seconds: float = 0.0  # spent training, without evaluation
    best: list[float] | None = None  # the best evaluation so far, as `Task.merit` has it
    best_step: int = 0
    since_best: int = 0  # evaluations since then
    averaged_from: int | None = None  # the update behind which all weights go into the mean, in averaged SGD
    evaluated_step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    finished: bool = False


class Training:
    """One run of one recipe on one data set.

    Args:
        recipe: The recipe.
        parts: The data.
        folder: Where the run is kept.
        listener: What is told how it goes.
    """

    def __init__(
        self, recipe: Recipe, parts: Parts[Any, Any], folder: RunFolder, listener: Listener | None = None
    ) -> None:
        self.recipe, self.parts, self.folder, self.listener = recipe, parts, folder, listener or Silent()
        self.settings = recipe.train
        if self.settings.early_stopping and parts.validation is None:
            raise RecipeError("train.early_stopping: needs a validation part; data.validation_fraction splits one off")
        self.fabric = make_fabric(self.settings)
        torch.manual_seed(recipe.seed)
        self.task: Task[Any, Any, Any] = TASKS[recipe.task](parts.schema, self.settings)
        self.task.check(recipe.model, recipe.learn)
        if recipe.learn.carry_state and (self.settings.batch_size > 1 or self.settings.shuffle):
            raise RecipeError(
                "learn.carry_state: one sequence goes on where the last one ended, so train.batch_size is 1 and "
                "train.shuffle false"
            )
        self.carries_state = recipe.learn.carry_state or self.task.carries_state
        with memory_told(recipe):
            self.network: Network = self.task.build(recipe.model, parts.train)
        self.task.check_parts(recipe.model, parts.named)
        parts.warnings.extend(self.task.notes)
        own = dict(self.network.named_parameters())
        self.l1 = factors(own, self.network.by_symbol, self.settings.l1, "train.l1")
        self.l2 = factors(own, self.network.by_symbol, self.settings.l2, "train.l2")
        self.network.keep_hidden = bool(self.settings.activation_l2 or self.settings.temporal_l2)
        if self.carries_state and self.network.recurrent.bidirectional:
            raise RecipeError(
                f"{'learn.carry_state' if recipe.learn.carry_state else recipe.task}: the state is carried on, and the "
                "backward direction comes from the future: model.bidirectional is to be false"
            )
        self.rule = self._rule()
        self._check_penalties()
        self.state: Any = None  # that sequences begin with which go on where the last one ended
        self.progress = Progress()
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.snapshots: dict[str, Tensor] = {}
        self.best: dict[str, Tensor] = {}
        self.mean_weights: dict[str, Tensor] = {}
        self._planned: tuple[int, list[Tensor]] = (-1, [])
        whole = self.task.carries_state or bool(self.settings.batch_steps)
        self.total = total_updates(self.settings, len(parts.train), len(self._plan(0)), whole)
        self._saved_at, self._saved_step = time.monotonic(), 0

    def _rule(self) -> Rule:
        """The learning rule.

        Raises:
            RecipeError: It cannot take this network or these data; which part of it, and why.
        """
        learn, layers = self.recipe.learn, self.network.recurrent
        rule = learn.make(self.recipe.seed)
        if not isinstance(layers, Recurrent):
            if learn.rule != "bptt":
                raise RecipeError(f"learn.rule: {learn.rule!r} {self._not_followed('follows')}; bptt is expected")
        else:
            try:
                rule.check(layers, learns_below=self.network.embedding is not None)
            except ValueError as error:
                raise rule_refused(error) from error
        if learn.k1 and learn.rule != "tbptt" and not self.task.in_windows:
            raise RecipeError(
                "learn.k1: an update is made of a whole batch here, and not in the middle of it; k1 is to be left out"
                if self.task.carries_state
                else "learn.k1: there is one target a sequence here, so there is nothing to learn from within it; "
                "k1 is to be left out"
            )
        if self._window and self.settings.accumulate > 1:
            raise RecipeError("train.accumulate: learn.k1 makes several updates of one batch; accumulate is to be 1")
        return rule

    def _not_followed(self, follows: str) -> str:
        """Why what follows the states of recurrent layers has nothing to follow here."""
        kind = self.recipe.model.kind
        if isinstance(self.network.recurrent, NTM):
            return f"{follows} states alone, and model.kind = {kind} has a memory beside them"
        return f"{follows} a recurrence along time, which model.kind = {kind} has none of"

    def _check_penalties(self) -> None:
        """Raises RecipeError where a penalty cannot be had with this network or rule."""
        settings, layers = self.settings, self.network.recurrent
        for key in ("temporal_l2", "error_norm"):
            if getattr(settings, key) and self._window == 1:
                raise RecipeError(
                    f"train.{key}: an update after every step sees no two steps; learn.k1 is to be 2 or more"
                )
        if not settings.error_norm:
            return
        if not isinstance(layers, Recurrent):
            raise RecipeError(
                f"train.error_norm: errors {self._not_followed('are followed through')}; it is to be left out"
            )
        if layers.bidirectional:
            raise RecipeError(
                "train.error_norm: errors are followed in one direction: model.bidirectional is to be false"
            )
        if layers.skip:
            raise RecipeError(
                "train.error_norm: errors are followed through the states alone: model.skip is to be none"
            )

    @property
    def _window(self) -> int | None:
        """Steps from one update to the next; None where a batch makes one update."""
        return self.recipe.learn.window if self.task.in_windows else None

    def run(self) -> None:
        """Train from the last checkpoint, or from the start, to the end; then hold the weights that are to be kept.

        Raises:
            RunError: The loss is no longer a number; of the checkpoints the last good one stays.
        """
        with suited(self.network, self.settings.batch_size, self.settings.threads), memory_told(self.recipe):
            self._run()

    def _run(self) -> None:
        optimizer = make_optimizer(self.network.named_parameters(), self.settings)
        self.optimizer = optimizer
        self.model, self.wrapped = self.fabric.setup(self.network, optimizer)
        remove_partial(self.folder.path)
        if self.folder.checkpoint.is_file():
            self._restore()
        progress = self.progress
        self.listener.begin(self)
        self.network.train()
        try:
            while not progress.finished:
                plan = self._epoch()
                for indices in plan[progress.position :]:
                    self._update(indices)
                    if self._evaluation_due(len(plan)):
                        self._evaluate()
                        self._save()
                    elif time.monotonic() - self._saved_at >= self.settings.checkpoint_seconds:
                        self._save()
                    if progress.finished:
                        break
                else:
                    progress.epoch, progress.position = progress.epoch + 1, 0
                    self.state = None  # what is carried goes from the first sequence to the last
        finally:
            self.listener.end()
        self.network.load_state_dict(self._kept())
        validation = self.parts.validation
        told = len(self.task.notes)
        self.task.calibrate(self.network, self.parts.train if validation is None else validation, validation is None)
        self.parts.warnings.extend(self.task.notes[told:])

    def _epoch(self) -> list[list[Tensor]]:
        """The updates of the present epoch, each the indices of its batches."""
        batches = self._plan(self.progress.epoch)
        n = self.settings.accumulate
        return [batches[i : i + n] for i in range(0, len(batches), n)]

    def _plan(self, epoch: int) -> list[Tensor]:
        """The batches of an epoch; those last asked for are kept, since the first epoch's are counted before it."""
        if self._planned[0] != epoch:
            self._planned = epoch, self.task.plan(self.parts.train, seed=self.recipe.seed, epoch=epoch)
        return self._planned[1]

    def _update(self, batches: list[Tensor]) -> None:
        started = time.perf_counter()
        progress, settings = self.progress, self.settings
        parameters = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, self.total, settings)
        given = [
            self.task.collate(self.parts.train, indices).to(self.fabric.device, self._dtype()) for indices in batches
        ]
        update = self._in_windows if self._window else self._at_once
        total, norm, last, outputs = update(given, sum(len(b) for b in given), parameters)
        self.norms.append(norm)
        self.losses.append(total)
        progress.step += 1
        progress.position += 1
        progress.samples += sum(b.samples for b in given)
        progress.steps += sum(b.steps for b in given)
        if settings.average or progress.averaged_from is not None:
            self._average()
        progress.seconds += time.perf_counter() - started
        if progress.step in self.recipe.report.snapshots:
            self._take_snapshot(last, outputs)
        self.listener.update(progress.step, total)

    def _gradients(self, batch: Any, state: Any, share: float = 1.0) -> tuple[float, Tensor, Any]:
        """Add the gradient of a batch's loss, or of so much of it, to the parameters; the loss, the outputs and the
        final state."""
        outputs, final = self.model(*batch.inputs, state, self.rule)
        loss = self._loss(outputs, batch)
        self.fabric.backward(loss if share == 1 else loss * share)
        self.network.hidden = None
        if self.settings.error_norm and (penalty := self._error_norm(batch, state)).requires_grad:
            self.fabric.backward(share * self.settings.error_norm * penalty)
        return float(loss.detach()), _detached(outputs), final

    def _at_once(self, batches: Iterable[Any], sequences: int, parameters: Parameters) -> Update:
        """Make one update of some batches, of so many sequences together."""
        self.wrapped.zero_grad(set_to_none=True)
        total, last = 0.0, None
        for batch in batches:
            share = len(batch) / sequences
            loss, outputs, final = self._gradients(batch, self.state, share)
            total, last = total + loss * share, (batch, outputs)
            self._carry_on(final)
        assert last is not None
        return total, self._move(parameters, total), *last

    def _in_windows(self, batches: Iterable[Any], sequences: int, parameters: Parameters) -> Update:
        """Make an update after every so many steps of a batch, the state carried on."""
        (batch,) = batches
        window = self._window
        assert window is not None
        total, norm, count, state, every = 0.0, 0.0, 0, self.state, []
        for first in range(0, len(batch.x), window):
            piece = batch.window(first, first + window)
            asked = piece.targets_asked
            if asked:
                self.wrapped.zero_grad(set_to_none=True)
                loss, outputs, state = self._gradients(piece, state)
                norm += asked * self._move(parameters, loss)
                total += asked * loss
                count += asked
            else:
                outputs, state = self.model(*piece.inputs, state, self.rule)
            every.append(outputs.detach())
            state = detached(state)
        self._carry_on(state)
        return total / max(1, count), norm / max(1, count), batch, torch.cat(every)

    def _carry_on(self, final: Any) -> None:
        if self.carries_state:
            self.state = detached(final)

    def _move(self, parameters: Parameters, loss: float) -> float:
        """Move the parameters by their gradients; returns the norm that these had.

        Raises:
            RunError: A number is none.
        """
        settings = self.settings
        if not math.isfinite(loss):
            bound = f"{settings.clip_norm:g}" if settings.clip_norm else "none"
            raise self._diverged(f"the loss became {loss}", f" or train.clip_norm (now {bound})")
        add_decay(parameters, self.l1, self.l2)
        norm = clip(parameters, settings, self.norms)
        if not math.isfinite(norm):
            hint = ", a smaller U at the start (model.init), shorter sequences or another model.cell"
            raise self._diverged(f"the norm of the gradient became {norm}", hint)
        self.wrapped.step()
        return norm

    def _diverged(self, what: str, hint: str) -> RunError:
        """The error for a number that is none, which no update may be made of."""
        what = f"{what} at update {self.progress.step + 1}"
        return diverged.told(self.folder, self.recipe, what, self._was_good(), hint)

    def _was_good(self) -> bool:
        """Whether the last checkpoint was, as far as the losses behind it say."""
        return diverged.is_good(self.losses[: self._saved_step], self.losses[self._saved_step :])

    def _loss(self, outputs: Any, batch: Any) -> Tensor:
        """The task's loss, with the penalties on activations."""
        loss = self.task.loss(self.network, outputs, batch)
        if not self.network.keep_hidden:
            return loss
        assert self.network.hidden is not None, "the rule ran the network's parts by themselves"
        return loss + activation_penalty(self.network.hidden, self.settings.activation_l2, self.settings.temporal_l2)

    def _error_norm(self, batch: Any, state: Any) -> Tensor:
        """How much errors grow or shrink on their way back, found without dropout."""
        network: Any = self.network.eval()  # a task that has this takes sequences: see its `check`
        try:
            return error_norm(
                network.recurrent,
                network.inputs(batch.x),
                lambda output, final: self.task.loss(network, network.said(output, final, batch.lengths), batch),
                state=state,
                lengths=batch.lengths,
            )
        finally:
            network.train()

    @torch.no_grad()
    def _average(self) -> None:
        """Move the mean weights towards the present ones: a running mean, faster at first, so that the start is
        forgotten; in averaged SGD the plain mean of all since it began."""
        step = self.progress.step
        if self.progress.averaged_from is not None:
            decay = 1 - 1 / (step - self.progress.averaged_from)
        else:
            decay = min(self.settings.average, (1 + step) / (10 + step))
        for name, p in self.network.named_parameters():
            if name in self.mean_weights:
                self.mean_weights[name].lerp_(p.detach(), 1 - decay)
            else:
                self.mean_weights[name] = p.detach().clone()

    def _evaluation_due(self, updates_in_epoch: int) -> bool:
        progress = self.progress
        if progress.step >= self.total:
            progress.finished = True
            return True
        every = self.settings.evaluate_every
        return progress.step % every == 0 if every else progress.position == updates_in_epoch

    def _evaluate(self) -> None:
        """Score the validation part, keep the weights if they are the best so far, and write a line."""
        progress = self.progress
        losses = self.losses[progress.evaluated_step :]
        norms = self.norms[progress.evaluated_step :]
        line: dict[str, Any] = {
            "step": progress.step,
            "epoch": progress.epoch + 1,
            "samples": progress.samples,
            "lr": self.optimizer.param_groups[0]["lr"],
            "train_loss": sum(losses) / len(losses),
            "gradient_norm": sum(norms) / len(norms),
        }
        if self.parts.validation is not None:
            with self._mean_weights_in_place():
                scores = self.task.scores(self._asked(self.task.look, self.parts.validation))
                line["validation"] = scores
                merit = self.task.merit(scores)
                if progress.best is None or merit > progress.best:
                    progress.best, progress.best_step, progress.since_best = merit, progress.step, 0
                    self.best = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
                else:
                    progress.since_best += 1
            after = self.settings.average_after
            if after is not None and progress.averaged_from is None and progress.since_best >= after:
                progress.averaged_from = progress.step
                line["averaging"] = True
            patience = self.settings.early_stopping
            if patience is not None and progress.since_best >= patience:
                line["stopped_early"] = progress.finished = True
        progress.evaluated_step = progress.step
        progress.history.append(line)
        write_text(self.folder / "metrics.jsonl", to_lines(progress.history))
        self.listener.evaluation(line)

    def predict(self, data: Any) -> Any:
        """What the network says at present."""
        return self._asked(self.task.predict, data)

    def _asked(self, ask: Callable[..., Any], data: Any) -> Any:
        return ask(
            self.network,
            data,
            forward=self.model,
            device=self.fabric.device,
            dtype=self._dtype(),
            carry_state=self.recipe.learn.carry_state,
        )

    @contextmanager
    def _mean_weights_in_place(self) -> Iterator[None]:
        """Put the mean weights in the network for as long as the block runs."""
        if not self.mean_weights:
            yield
            return
        present = {k: v.detach().clone() for k, v in self.network.named_parameters()}
        self.network.load_state_dict({**self.network.state_dict(), **self.mean_weights})
        try:
            yield
        finally:
            self.network.load_state_dict({**self.network.state_dict(), **present})

    def _kept(self) -> dict[str, Tensor]:
        """The weights that the run ends with."""
        if self.settings.select == "best" and self.best:
            return self.best
        return {**self.network.state_dict(), **self.mean_weights}

    def _take_snapshot(self, batch: Any, outputs: Tensor) -> None:
        """Keep what the network said of the first sequence of a batch, before this update."""
        if not isinstance(self.task, SequenceTask):
            return
        per_step, network = self.task.schema.per_step, cast(SequenceModel, self.network)
        values = self.task.outputs(network, outputs[:, :1] if per_step else outputs[:1])
        key = f"{self.progress.step}"
        self.snapshots[f"{key}.input"] = batch.x[:, 0].detach().cpu().clone()
        self.snapshots[f"{key}.output"] = values.detach().cpu().float().clone()
        if batch.targets is not None:
            targets = batch.targets[:, 0] if per_step else batch.targets[0]
            self.snapshots[f"{key}.target"] = targets.detach().cpu().clone()

    def _dtype(self) -> torch.dtype | None:
        return next(self.network.parameters()).dtype

    def _save(self) -> None:
        """Write the checkpoint."""
        tensors = {
            **checkpoint.with_prefix("model", self.network.state_dict()),
            **checkpoint.with_prefix("best", self.best),
            **checkpoint.with_prefix("mean", self.mean_weights),
            **checkpoint.with_prefix("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.with_prefix("snapshot", self.snapshots),
            "losses": torch.tensor(self.losses, dtype=torch.float64),
            "norms": torch.tensor(self.norms, dtype=torch.float64),
            "random.cpu": torch.get_rng_state(),
        }
        if self.fabric.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.fabric.device)
        if self.state is not None:
            tensors |= checkpoint.with_prefix("state", checkpoint.named_parts(self.state))
            tensors |= checkpoint.with_prefix("rule", self.rule.carried())
        diverged.keep(self.folder, self._was_good())
        checkpoint.write(self.folder.checkpoint, tensors, {"progress": asdict(self.progress)})
        self._saved_at, self._saved_step = time.monotonic(), self.progress.step

    def _restore(self) -> None:
        """Go back to the last checkpoint.

        Raises:
            RunError: It is damaged.
        """
        try:
            self._restore_from(*checkpoint.read(self.folder.checkpoint))
        except (KeyError, TypeError, ValueError, RuntimeError, RunError) as error:
            said = str(error) if isinstance(error, RunError) else f"{self.folder.checkpoint}: is damaged"
            raise RunError(f"{said}; delete it, and the run begins anew when it is resumed") from error
        write_text(self.folder / "metrics.jsonl", to_lines(self.progress.history))

    def _restore_from(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        checkpoint.fill(self.network, checkpoint.under_prefix("model", tensors), self.folder.checkpoint)
        self.best = checkpoint.under_prefix("best", tensors)
        self.mean_weights = {k: v.to(self.fabric.device) for k, v in checkpoint.under_prefix("mean", tensors).items()}
        checkpoint.restore_optimizer(self.optimizer, checkpoint.under_prefix("optimizer", tensors))
        self.snapshots = checkpoint.under_prefix("snapshot", tensors)
        self.losses, self.norms = tensors["losses"].tolist(), tensors["norms"].tolist()
        state = checkpoint.under_prefix("state", tensors)
        if state:
            self.state = checkpoint.from_parts({k: v.to(self.fabric.device) for k, v in state.items()})
            self.rule.carry_on(self.network.recurrent, checkpoint.under_prefix("rule", tensors))
        torch.set_rng_state(tensors["random.cpu"])
        if "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.fabric.device)
        self.progress = Progress(**facts["progress"])
        self._saved_step = self.progress.step


def _detached(outputs: Any) -> Any:
    """What a network put out, without what it was made from; a task may have it in several tensors."""
    return outputs.detach() if isinstance(outputs, Tensor) else None


def rule_refused(error: ValueError) -> RecipeError:
    """What a rule says that cannot take a layer, in a recipe's words."""
    said = re.sub(r"(\w+)=(\S+)", r"model.\1 = \2", str(error).removeprefix("layer: "))
    said = said.replace("x: it", "the embedding of tokens").replace("model.stack", "learn.stack")
    return RecipeError(f"learn.rule: {said}")


@contextmanager
def memory_told(recipe: Recipe) -> Iterator[None]:
    """Tell of memory that does not suffice.

    Raises:
        RunError: PyTorch cannot get the memory that it asks for.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        # On a processor PyTorch has no type of its own for this.
        if not isinstance(error, (MemoryError, torch.OutOfMemoryError)) and "allocate memory" not in str(error):
            raise
        size, batch = recipe.model.hidden_size, recipe.train.batch_size
        less = f"lower model.hidden_size (now {size})"
        if getattr(recipe.model, "kind", "") == "ntm":
            less += f", model.memory (now {' × '.join(map(str, recipe.model.memory))})"
        if recipe.learn.rule in ("bptt", "tbptt"):
            hint = f"{less}, train.batch_size (now {batch}) or data.max_length"
        else:  # an influence is carried for each row, and does not grow with the steps
            other = (
                "or take learn.rule = snap1 or tbptt" if recipe.learn.rule != "snap1" else "or take learn.rule = tbptt"
            )
            hint = f"{less} or train.batch_size (now {batch}), {other}"
        raise RunError(f"the memory does not suffice; {hint}") from error


def total_updates(settings: TrainSettings, sequences: int, batches: int, by_share: bool = False) -> int:
    """How many updates a run makes, of so many sequences (or symbols of a text) and batches in an epoch.

    A number of samples is a number of sequences; `by_share`, where a batch may have any number of them, it is a share
    of an epoch. Where neither epochs nor samples are given, enough that a small data set is seen often and a large one
    a few times.
    """
    if settings.samples is not None:
        if by_share:
            return max(1, settings.samples * batches // (sequences * settings.accumulate))
        return max(1, settings.samples // min(settings.batch_size * settings.accumulate, sequences))
    in_epoch = math.ceil(batches / settings.accumulate)
    if settings.epochs is not None:
        return settings.epochs * in_epoch
    return in_epoch * min(LONGEST, max(SHORTEST, math.ceil(UPDATES / in_epoch)))


UPDATES, SHORTEST, LONGEST = 1500, 3, 200
"""Updates aimed at where a recipe names neither epochs nor samples, and the fewest and most epochs that this may be."""


def make_fabric(settings: TrainSettings) -> Fabric:
    """Lightning Fabric on the device and in the precision that the settings name.

    Raises:
        RecipeError: There is no such device here.
    """
    kind, _, index = settings.device.partition(":")
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if kind == "auto":
        kind = "cuda" if available["cuda"] else "cpu"
    if kind not in available:
        raise RecipeError("train.device: " + unknown("device", kind, ["auto", *available]))
    if not available[kind]:
        here = ", ".join(k for k, there in available.items() if there)
        raise RecipeError(f"train.device: {settings.device!r} is not there; this machine has: {here}")
    if index and kind != "cuda":
        raise RecipeError(f"train.device: {settings.device!r}: only cuda devices have numbers, such as cuda:0")
    if index and (not index.isdigit() or int(index) >= torch.cuda.device_count()):
        there = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise RecipeError(f"train.device: {settings.device!r} is not there; this machine has: {there}")
    return Fabric(accelerator=kind, devices=[int(index)] if index else 1, precision=settings.precision)
