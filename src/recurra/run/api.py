"""Everything the command does, as Python calls: `recurra.train(...)`, `recurra.load(run)`."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch

from recurra.analysis.prediction_tree import PredictionTree
from recurra.data import is_known
from recurra.data.clips import ClipSettings
from recurra.data.film import is_table
from recurra.data.made import MADE
from recurra.data.opening import encoding_settable
from recurra.data.pairs import PairSettings
from recurra.data.sequences import AnySchema
from recurra.errors import DataError, RecipeError, RunError
from recurra.files import sha256, unreadable, write_text
from recurra.run import checkpoint, folder
from recurra.run import recipe as recipes
from recurra.run.finish import finish
from recurra.run.folder import RunFolder
from recurra.run.generate import text_model
from recurra.run.generation import generator
from recurra.run.lines import to_csv, to_lines
from recurra.run.present import seeds_content
from recurra.run.recipe import Recipe
from recurra.run.report import write_seeds_report
from recurra.run.training import Listener, Training, memory_told
from recurra.tasks import TASKS, Task
from recurra.tasks.model import Network
from recurra.tasks.tagger import TagModelSettings

MOST_SEEDS = 1000
"""Runs that one call trains at most."""

P = ParamSpec("P")
R = TypeVar("R")


class Run:
    """A finished (or unfinished) run: its recipe, network and scores.

    Args:
        path: The run folder.

    Raises:
        RunError: It is no run folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = RunFolder(path)
        self.folder.check()
        if (self.folder / "seeds.json").is_file():
            one = next(iter(sorted(self.path.glob("seed-*"))), self.folder / "seed-0")
            raise RunError(f"{self.path}: holds the runs of several seeds; name one of them, such as {one}")

    @property
    def path(self) -> Path:
        """The run folder."""
        return self.folder.path

    @property
    def report(self) -> Path:
        """The report, an HTML file."""
        return self.folder / "report.html"

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe, complete."""
        return self.folder.recipe()

    @cached_property
    def schema(self) -> Any:
        """What the data mean: classes, features or vocabulary."""
        return self.folder.schema()

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Scores, sizes and versions."""
        return self.folder.summary()

    @cached_property
    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl."""
        return self.folder.history()

    @cached_property
    def task(self) -> Task[Any, Any, Any]:
        """The task."""
        return TASKS[self.recipe.task](self.schema, self.recipe.train)

    @property
    def main_metric(self) -> str:
        """The metric that the run is judged by."""
        return self.summary.get("main_metric", TASKS[self.recipe.task].main_metric)

    @cached_property
    def network(self) -> Any:
        """The trained network, in evaluation mode, on the CPU.

        Raises:
            RunError: The weights are missing, cut short, or not those that the run ended with.
        """
        path = self.folder / "model.safetensors"
        promised = self.summary["sha256"]
        try:
            found = sha256(path)
        except OSError as error:
            raise unreadable(path, error) from error
        if found != promised:
            raise RunError(f"{path}: is not the file that the run wrote (its SHA-256 is not that in summary.json)")
        return self._filled(checkpoint.read(path)[0], path)

    @cached_property
    def so_far(self) -> tuple[Any, str]:
        """The network as far as the run has come, and what a person should know of it.

        Where no finished one is there, that of the checkpoint: the best weights so far where it holds any, else its
        last. So too where a stream has gone on behind the end that the finished one is of.

        Raises:
            RunError: There is no checkpoint either, or it is damaged.
        """
        path, is_finished = self.folder.checkpoint, (self.folder / "summary.json").is_file()
        if not path.is_file():
            if is_finished:
                return self.network, ""
            raise RunError(
                f"{self.path}: is not finished, and has no checkpoint whose weights could be taken; go on with it: "
                f"{self.folder.go_on}"
            )
        try:
            done = checkpoint.facts(path)["progress"]
            step = done["step"] if "step" in done else done["updates"]
            if is_finished and self.summary.get("updates", step) >= step:
                return self.network, ""
            tensors, _ = checkpoint.read(path)
            weights, which = checkpoint.under_prefix("best", tensors), "best weights so far"
            if weights:
                step = done["best_step"]
            else:
                weights = checkpoint.under_prefix("model", tensors) | checkpoint.under_prefix("mean", tensors)
                which = "weights of its last checkpoint"
        except KeyError as error:
            raise RunError(f"{path}: is damaged") from error
        said = "has gone on since its end" if is_finished else "is not finished"
        return self._filled(weights, path), f"{self.path} {said}: taken are the {which}, after {step:,} updates"

    def _filled(self, weights: Mapping[str, torch.Tensor], path: Path) -> Network:
        """The network with weights that were read from `path`."""
        try:
            network = self.task.network(self.recipe.model)
        except RecipeError as error:
            raise RunError(f"{self.folder / 'recipe.toml'}: {error}") from error
        kinds = {weight.dtype for name, weight in weights.items() if "weight" in name}
        if len(kinds) == 1:
            network.to(kinds.pop())
        checkpoint.fill(network, weights, path)
        return network.eval()

    def predict(self, data: Any, *, input_format: str | None = None) -> Any:
        """What the network says of further sequences.

        Args:
            data: A path, an open binary file, arrays, tensors, a dataframe or texts, as for `train`.
            input_format: How the data are laid out, where that is another way than the training data's.

        Returns:
            Predictions: `.labels` and `.outputs` (probabilities, or numbers); `.rows()` by way of the task.
        """
        return self._predict(data, False, input_format)

    def evaluate(
        self, data: Any = None, *, input_format: str | None = None, settings: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Score the network on data whose targets are known; without data, on the run's own test part.

        Args:
            data: As for `predict`, with its targets.
            input_format: How the data are laid out, where that is another way than the training data's.
            settings: `data.options.*` of the source that the run learnt from, where that is one that needs no file: the
                test part is drawn anew with them, such as sequences longer than any that were learnt from.

        Returns:
            {"metrics": {...}, "intervals": {...}, "sequences": N, "warnings": [...]}.
        """
        if settings:
            if data is not None:
                raise RecipeError(
                    f"{next(iter(settings))} beside data: it is of the source that the run learnt from; one of the two "
                    "is expected"
                )
            return self._scored(self._drawn_with(settings))
        if data is None:
            own = self.summary
            if not own["test"]:
                raise RunError(f"{self.path}: the run had no test part; --data names one")
            count = own["data"]["sequences"]["test"]
            return {
                "metrics": own["test"],
                "intervals": own["test_intervals"],
                "sequences": count,
                "warnings": own["warnings"],
            }
        return self._scored(self._predict(data, True, input_format))

    def _scored(self, said: Any) -> dict[str, Any]:
        return {
            "metrics": self.task.scores(said),
            "intervals": self.task.intervals(said),
            "sequences": len(said),
            "warnings": said.warnings,
        }

    def rows(self, predictions: Any) -> list[dict[str, object]]:
        """Predictions as rows: `index, prediction, p_<class>…`, or as the task has them."""
        return list(self.task.rows(predictions))

    def written(self, predictions: Any, format: str = "csv", colour: bool = False) -> str | bytes:
        """Predictions as the content of a file: a text, or of formats that are none, bytes.

        Args:
            predictions: What `predict` returned.
            format: One of the task's `formats`.
            colour: text: coloured for a terminal.
        """
        if format == "text":
            return self.task.text(predictions, colour)
        if format not in ("csv", "jsonl"):
            return self.task.file(predictions, format)
        return to_csv(self.task.rows(predictions)) if format == "csv" else to_lines(self.task.objects(predictions))

    def generate(self, prompts: Any = None, **options: Any) -> Sequence[Any]:
        """What the network brings forth: texts of a language model, and of other tasks what they have.

        Args:
            prompts: What is gone on with; None (or, of texts, an empty one) begins anew.
            options: language: `length`, `samples`, `temperature`, `top_k`, `top_p`, `repetition_penalty`, `seed`,
                `stop`, `beam`, as `recurra.run.generate.TextModel.generate` has them; other tasks have theirs on their
                pages.

        Returns:
            `samples` of them for each prompt, those of the first prompt first.

        Raises:
            RunError: It is a run of a task that has nothing to go on with.
            DataError: A prompt with a symbol that was never seen in training, or that is no prompt.
            RecipeError: A setting that cannot be.
        """
        return generator(self).generate(self, prompts, **options)

    def tree(
        self, prompt: str = "", *, depth: int = 8, width: int = 3, min_probability: float = 0.02
    ) -> PredictionTree:
        """What may follow a text, by a language model: the prediction tree.

        Args:
            prompt: The text.
            depth: Symbols of a path, at most.
            width: Symbols kept after each, at most.
            min_probability: Paths less probable than this are left out.

        Raises:
            RunError: It is no run of language.
            DataError: A prompt with a symbol that was never seen in training.
            AnalysisError: An argument that cannot be.
        """
        return text_model(self)[0].tree(prompt, depth=depth, width=width, min_probability=min_probability)

    def _predict(self, data: Any, targets: bool, input_format: str | None) -> Any:
        return self._said(*self.task.reader.part(data, self.schema, targets=targets, format=input_format))

    def _drawn_with(self, settings: Mapping[str, Any]) -> Any:
        """What the network says of the test part of its source, drawn with other options."""
        for key in settings:
            if not key.startswith("data.options"):
                raise RecipeError(f"{key}: a run is scored with other options of its source, data.options.*, alone")
        name, known = self.recipe.data.name, getattr(self.schema, "settings", {})
        if name not in MADE or self.recipe.data.path is not None or "options" not in known:
            raise RecipeError(f"{next(iter(settings))}: {self.path} did not learn from a source that has options")
        changed = recipes.load(self.folder / "recipe.toml", settings).data
        own = {**known, "options": changed.options}
        schema = self.schema.model_copy(update={"settings": own})
        return self._said(*self.task.reader.part(name, schema, targets=True))

    def _said(self, part: Any, warnings: list[str]) -> Any:
        network = self.network
        with memory_told(self.recipe):
            said = self.task.predict(network, part, carry_state=self.recipe.learn.carry_state)
        said.warnings = warnings
        return said

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


@dataclass
class Seeds:
    """Runs of one recipe that differ in their seed alone, or in the fold that is their test part.

    Attributes:
        path: The folder that holds their folders.
        runs: The runs, in the order of their seeds, and of one seed in that of their folds.
        summary: Mean and standard deviation of every metric.
    """

    path: Path
    runs: list[Run]
    summary: dict[str, Any]

    @property
    def report(self) -> Path:
        """The report over all seeds."""
        return self.path / "report.html"


def own_random_numbers(call: Callable[P, R]) -> Callable[P, R]:
    """Leave the caller's random numbers as they were: a run draws from its own seed."""

    @wraps(call)
    def wrapped(*args: P.args, **options: P.kwargs) -> R:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            return call(*args, **options)

    return wrapped


@own_random_numbers
def train(
    recipe: str | Path = "classify",
    data: Any = None,
    *,
    validation: Any = None,
    test: Any = None,
    out: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    from_run: str | os.PathLike[str] | None = None,
    input_format: str | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train a network and keep everything in a run folder.

    Args:
        recipe: A built-in recipe, a task ("classify", "regress"), or a TOML file.
        data: A path (file, or folder with parts), or `(x, y)` of arrays, tensors, lists or texts, or a dataframe;
            without it, what the recipe names.
        validation: Likewise, the part that the best weights are chosen on; split off `data` when left out.
        test: Likewise, the part that is scored once at the end.
        out: The run folder; `runs/NAME` when left out.
        settings: Dotted keys of the recipe and their values: `{"train.lr": 1e-3, "model.cell": "gru"}`.
        seed: The run's seed.
        from_run: Begin with the weights (and vocabulary) of that run; of one that is not finished, with those of its
            checkpoint.
        input_format: How the data are laid out; found from the content when left out.
        force: Overwrite a run that stands in the folder.
        listener: What is told how training goes.

    Returns:
        The finished run.

    Raises:
        RecurraError: Anything that a person can mend, in words.
    """
    path, made = _destination(recipe, (data, validation, test), out, settings, seed, from_run, input_format, force)
    return _begin(_prepared(path, made, data, validation, test, listener), force)


@own_random_numbers
def resume(
    path: str | os.PathLike[str],
    data: Any = None,
    *,
    validation: Any = None,
    test: Any = None,
    listener: Listener | None = None,
) -> "Run | Seeds":
    """Go on with a run that was stopped, at whatever instant; it ends with the weights of the unbroken run.

    Args:
        path: The run folder (or that of several seeds).
        data: The data, where they were given as arrays; a path is in the recipe.
        validation: Likewise.
        test: Likewise.
        listener: What is told how training goes.
    """
    kept = RunFolder(path)
    kept.check()
    if (kept / "schema.json").is_file() and "stream" in kept.schema().settings:
        raise RunError(f"{kept.path}: learns from a stream; go on with it: recurra train --stream --resume {kept.path}")
    if (kept / "seeds.json").is_file():
        return _go_through_seeds(kept, data, validation, test, listener)
    return _resume(kept, data, validation, test, listener)


@own_random_numbers
def train_seeds(
    seeds: int,
    recipe: str | Path = "classify",
    data: Any = None,
    *,
    folds: int | None = None,
    validation: Any = None,
    test: Any = None,
    out: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    from_run: str | os.PathLike[str] | None = None,
    input_format: str | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Seeds:
    """Train with several seeds, one after another, and give mean and standard deviation.

    With `folds` each seed is a cross-validation: the data are dealt into so many parts, and there is a run for each
    that is its test part. Which sequences these have is settled by `data.split_seed`, or by the run's seed where that
    is left out.

    Args:
        seeds: How many; they count up from the recipe's seed.
        recipe: This and all further arguments are those of `train`; `out` holds the runs' folders.
        data: See `train`.
        folds: Into how many parts the data are dealt; None where there is one run a seed.
        validation: See `train`.
        test: See `train`.
        out: See `train`.
        settings: See `train`.
        seed: See `train`.
        from_run: See `train`.
        input_format: See `train`.
        force: See `train`.
        listener: See `train`.
    """
    if folds is not None:
        settings = {**(settings or {}), "data.folds": folds, "data.fold": None}
    path, made = _destination(recipe, (data, validation, test), out, settings, seed, from_run, input_format, force)
    most = min(MOST_SEEDS, recipes.SEEDS - made.seed)
    if not 1 <= seeds <= most:
        raise RecipeError(f"seeds: a whole number from 1 to {most:,} is expected, not {seeds}")
    values = list(range(made.seed, made.seed + seeds))
    # Before the folder is made, so that nothing is left behind (or overwritten) by what cannot be trained.
    first = _prepared(
        path / _names(values, folds)[made.seed, 0], _one(made, made.seed, 0), data, validation, test, listener
    )
    told = {"seeds": values} | ({} if folds is None else {"folds": folds})
    kept = folder.create(path, {"recipe.toml": made.to_toml(), "seeds.json": json.dumps(told)}, force)
    return _go_through_seeds(kept, data, validation, test, listener, first)


def load(path: str | os.PathLike[str]) -> Run:
    """A run from its folder."""
    return Run(path)


def _destination(
    recipe: str | Path,
    data: tuple[Any, Any, Any],
    out: str | os.PathLike[str] | None,
    settings: Mapping[str, Any] | None,
    seed: int | None,
    from_run: str | os.PathLike[str] | None,
    input_format: str | None,
    force: bool,
) -> tuple[Path, Recipe]:
    """Where a new run is kept, and its recipe with everything laid over it that was given beside it."""
    path, made = settled(recipe, data, out, settings, seed, from_run, input_format, force)
    for key in made.data.for_streams_alone():
        raise RecipeError(f"data.{key}: is a setting of streams; it goes with --stream")
    return path, made


def settled(
    recipe: str | Path,
    data: tuple[Any, Any, Any],
    out: str | os.PathLike[str] | None,
    settings: Mapping[str, Any] | None,
    seed: int | None,
    from_run: str | os.PathLike[str] | None,
    input_format: str | None,
    force: bool,
    defaults: Mapping[str, Any] | None = None,
) -> tuple[Path, Recipe]:
    """`_destination` of a run of any kind; `defaults` are laid under the recipe."""
    if settings is not None and not isinstance(settings, Mapping):
        raise RecipeError(f"settings: a mapping of dotted keys to values is expected, not {type(settings).__name__}")
    if out is not None and not isinstance(out, (str, os.PathLike)):
        raise RunError(f"out: the path of a folder is expected, not {out!r}")
    changes = dict(settings or {})
    if from_run is not None:
        source = Run(from_run)
        given = [key for key in changes if key.startswith("model.")]
        if given:
            raise RecipeError(
                f"{given[0]}: the network is that of {source.path}, so no model.* can be set beside --from"
            )
        changes["from_run"] = str(source.path.resolve())
        both_ways = source.so_far[0].both_ways  # decided there, where the recipe left it open
        changes["model"] = {**source.recipe.model.model_dump(exclude_none=True), "bidirectional": both_ways}
    if seed is not None:
        changes["seed"] = seed
    if input_format is not None:
        changes["data.format"] = input_format
    for key, value in zip(("path", "validation", "test"), data, strict=True):
        if isinstance(value, str) and value == "-":
            raise DataError("standard input: training reads its data more than once; give a file")
        if key == "path" and isinstance(value, str) and is_known(value):
            changes |= {"data.name": value, "data.path": None}
        elif isinstance(value, (str, os.PathLike)):
            changes[f"data.{key}"] = os.fspath(value)
    try:
        made = _rooted(recipes.load(recipe, changes, defaults))
    except RecipeError:
        if from_run is not None:  # its model may have keys that another task does not know
            source, wanted = Run(from_run), recipes.load(recipe, defaults=defaults).task
            if type(source.task.reader) is not type(TASKS[wanted].reader):
                raise _other_task(source, wanted) from None
        raise
    path = Path(out) if out is not None else Path("runs") / made.name
    if path.name in ("", "..") or path.is_symlink():
        path = path.resolve()
    if made.from_run is not None and path.exists() and path.samefile(made.from_run):
        raise RunError(f"{path}: is the run that --from names; --out names another folder")
    folder.refuse_existing(path, force)
    return path, made


def _other_task(source: Run, task: str) -> RunError:
    return RunError(f"--from {source.path}: that run learnt {source.recipe.task}, whose network is not one of {task}")


def _rooted(recipe: Recipe) -> Recipe:
    """The recipe with every path whole, so that the run is gone on with, and used, from anywhere."""

    def whole(path: str | None) -> str | None:
        return None if path is None else str(Path(path).expanduser().absolute())

    data = {key: whole(getattr(recipe.data, key)) for key in ("path", "validation", "test")}
    if isinstance(recipe.data, PairSettings):
        for key in ("source", "target"):
            value = getattr(recipe.data, key)
            data[key] = whole(value) if value is not None and Path(value).expanduser().is_file() else value
    if isinstance(recipe.data, ClipSettings) and is_table(recipe.data.labels):
        data["labels"] = whole(recipe.data.labels) if Path(recipe.data.labels).is_file() else recipe.data.labels
    file, colon, name = recipe.model.cell.rpartition(":")
    cell = f"{whole(file)}:{name}" if colon and file.endswith(".py") else recipe.model.cell
    model: dict[str, Any] = {"cell": cell}
    if isinstance(recipe.model, TagModelSettings):
        model["vectors"] = whole(recipe.model.vectors)
    return recipe.model_copy(
        update={
            "data": recipe.data.model_copy(update=data),
            "model": recipe.model.model_copy(update=model),
            "from_run": whole(recipe.from_run),
        }
    )


def _prepared(
    path: Path,
    recipe: Recipe,
    data: Any,
    validation: Any,
    test: Any,
    listener: Listener | None,
    kept: AnySchema | None = None,
) -> Training:
    """A training that is ready to run. Nothing is written: what cannot be trained leaves nothing behind."""
    begun = RunFolder(path).checkpoint.is_file()  # and so holds all that it took from another run
    source = Run(recipe.from_run) if recipe.from_run and not begun else None
    if source is not None:
        if type(source.task.reader) is not type(TASKS[recipe.task].reader):
            raise _other_task(source, recipe.task)
        kept = source.schema
    if recipe.data.folds is not None and (why := TASKS[recipe.task].reader.undealt):
        raise RecipeError(f"data.folds: {why}, and are not dealt out; leave it out")
    with encoding_settable():
        parts = TASKS[recipe.task].reader.parts(
            data, recipe.task, recipe.data, validation=validation, test=test, seed=recipe.seed, kept=kept
        )
    training = Training(recipe, parts, RunFolder(path), listener)
    if source is not None:
        parts.warnings.extend(warm_start(training.network, training.task, source))
    return training


def _begin(training: Training, force: bool = False) -> Run:
    """Make the run folder, and train in it."""
    parts = training.parts
    schema = {"format_version": folder.FORMAT, "fingerprint": parts.fingerprint, **parts.schema.model_dump()}
    files = {"recipe.toml": training.recipe.to_toml(), "schema.json": json.dumps(schema, ensure_ascii=False, indent=1)}
    folder.create(training.folder.path, files, force)
    return _to_the_end(training)


def _resume(kept: RunFolder, data: Any, validation: Any, test: Any, listener: Listener | None) -> Run:
    if (kept / "summary.json").is_file():
        return Run(kept.path)
    training = _prepared(kept.path, kept.recipe(), data, validation, test, listener, kept.schema())
    kept.check_data(training.parts.fingerprint)
    return _to_the_end(training)


def _to_the_end(training: Training) -> Run:
    with training.folder.locked():
        if not (training.folder / "summary.json").is_file():  # which another process may have written meanwhile
            training.run()
            finish(training)
    return Run(training.folder.path)


def _go_through_seeds(
    kept: RunFolder, data: Any, validation: Any, test: Any, listener: Listener | None, first: Training | None = None
) -> Seeds:
    """Train, go on with, or take as finished, the run of each seed; then sum them up. `first` is ready to run."""
    recipe, folds = kept.recipe(), kept.folds()
    runs = []
    for (value, fold), name in _names(kept.seeds(), folds).items():
        path = kept / name
        if (path / "recipe.toml").is_file():
            runs.append(_resume(RunFolder(path), data, validation, test, listener))
        else:
            ready = first if first is not None and first.folder.path == path else None
            one = _one(recipe, value, fold)
            runs.append(_begin(ready or _prepared(path, one, data, validation, test, listener)))
            first = None  # its data need not be held any longer
    summary = summarise(recipe, runs, folds)
    write_seeds_report(kept.path, seeds_content(recipe, summary, runs, str(kept.path)))
    write_text(kept / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1))
    return Seeds(kept.path, runs, summary)


def _names(seeds: Sequence[int], folds: int | None) -> dict[tuple[int, int], str]:
    """The folder of each run, by its seed and its fold."""
    if folds is None:
        return {(seed, 0): f"seed-{seed}" for seed in seeds}
    wide = len(str(folds - 1))
    return {(seed, fold): f"seed-{seed}-fold-{fold:0{wide}}" for seed in seeds for fold in range(folds)}


def _one(recipe: Recipe, seed: int, fold: int) -> Recipe:
    """The recipe of one of several runs."""
    data = recipe.data if recipe.data.folds is None else recipe.data.model_copy(update={"fold": fold})
    return recipe.model_copy(update={"seed": seed, "data": data})


def summarise(recipe: Recipe, runs: list[Run], folds: int | None = None) -> dict[str, Any]:
    """Mean and standard deviation of every metric over several runs; with folds, the deviation over these, and over
    seeds that of the mean over folds."""
    found: dict[str, Any] = {
        "format_version": folder.FORMAT,
        "name": recipe.name,
        "task": recipe.task,
        "main_metric": runs[0].main_metric,
        "recipe": recipe.model_dump(),
        "seeds": list(dict.fromkeys(run.summary["seed"] for run in runs)),
        "folds": folds,
        "runs": [run.path.name for run in runs],
    }
    for part in ("test", "validation"):
        names = list(runs[0].summary[part])
        values = {name: [run.summary[part][name] for run in runs] for name in names}
        found[part] = {name: float(np.mean(v)) for name, v in values.items()}
        found[f"{part}_deviation"] = {name: float(np.std(v, ddof=1)) for name, v in values.items() if len(v) > 1}
        if folds is not None and len(runs) > folds:
            means = {name: np.reshape(v, (-1, folds)).mean(1) for name, v in values.items()}
            found[f"{part}_deviation_of_seeds"] = {name: float(np.std(v, ddof=1)) for name, v in means.items()}
    found["baselines"] = {
        baseline: {m: float(np.mean([run.summary["baselines"][baseline][m] for run in runs])) for m in metrics}
        for baseline, metrics in runs[0].summary["baselines"].items()
    }
    for key in ("train_seconds", "samples_seen", "steps_seen"):
        found[key] = sum(run.summary.get(key, 0) for run in runs)  # runs of earlier releases did not count steps
    return found | {"parameters": runs[0].summary["parameters"], "versions": runs[0].summary["versions"]}


@torch.no_grad()
def warm_start(network: Network, task: Task[Any, Any, Any], source: Run) -> list[str]:
    """Copy a run's weights into a new network; returns what a person should know of it.

    The output's rows of what both runs put out are copied by name (classes, targets); those of new ones stay as they
    begin.

    Raises:
        RunError: The run's inputs are not like the new data's.
    """
    old, new = source.schema, task.schema
    if (fault := task.unlike(old)) is not None:
        raise RunError(f"--from {source.path}: {fault}")
    learnt, said = source.so_far
    weights = learnt.state_dict()
    rows_old, rows_new = source.task.outputs_named(old), task.outputs_named(new)
    own = network.state_dict()
    by_output, by_pair = (
        [name for name in names if rows_new and name in own and name in weights]
        for names in (task.by_output, task.by_pair)
    )
    for name, value in weights.items():
        if name not in (*by_output, *by_pair):
            if name not in own or own[name].shape != value.shape:
                raise RunError(
                    f"--from {source.path}: its network is not the one that model.* describes ({name} differs)"
                )
            own[name].copy_(value)
    shared = [name for name in rows_new if name in rows_old]
    at_new, at_old = ([rows.index(name) for name in shared] for rows in (rows_new, rows_old))
    for name in by_output:
        own[name][at_new] = weights[name][at_old]
    for name in by_pair:
        own[name][np.ix_(at_new, at_new)] = weights[name][np.ix_(at_old, at_old)]
    fresh = [name for name in rows_new if name not in rows_old]
    notes = [said] if said else []
    return notes + ([f"new in this run, so learnt from nothing: {', '.join(fresh)}"] if fresh else [])
