"""Training on a stream: the recipe, the run folder, and the way from line to line until the stream ends.

What `recurra train --stream` does; the learning itself is in `recurra.run.online`.
"""

import json
import os
import resource
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import Any, BinaryIO

from recurra.data.lines import Fault, Lines, open_lines
from recurra.engine.threads import suited
from recurra.errors import DataError, RecipeError, RunError
from recurra.files import sha256, write_text
from recurra.run import api, checkpoint, diverged, folder
from recurra.run import recipe as recipes
from recurra.run.content import DataSummary, Part, ReportContent
from recurra.run.finish import versions
from recurra.run.folder import RunFolder, remove_partial
from recurra.run.lines import to_lines
from recurra.run.online import DivergedError, Online, Progress, Write, check
from recurra.run.present import defaults
from recurra.run.report import write_report
from recurra.run.words import describe_model
from recurra.tasks import TASKS

DEFAULTS: dict[str, Any] = {
    "learn.rule": "rtrl",
    "train.schedule": "constant",
    "train.batch_size": 1,
    "train.select": "last",
}
"""What a recipe does not say, on a stream."""

ALIKE: dict[str, Any] = {
    **dict.fromkeys(("data.name", "data.validation", "data.test", "data.format", "data.text", "data.lines")),
    **dict.fromkeys(("data.max_length", "data.permute", "data.split_seed", "data.folds", "data.fold")),
    **{"data.options": {}, "data.pixels": False, "data.trim_blank": False},
    **{"data.merge_labels": None, "data.phrases": "none"},
    **dict.fromkeys(("train.epochs", "train.samples", "train.early_stopping")),
    **{key: value for key, value in DEFAULTS.items() if key.startswith("train.")},
    **{"train.accumulate": 1, "train.average": 0.0},
    **{"learn.carry_state": False, "report.first": None, "report.snapshots": []},
    **{"train.activation_l2": 0.0, "train.temporal_l2": 0.0, "train.error_norm": 0.0},
}
"""Keys that have one value on every stream: what a recipe says of them is for data that are seen again and again."""

IDLE = {"train.shuffle", "train.bucket", "train.warmup", "train.final_lr", "data.validation_fraction"} | {
    *("data.test_fraction", "data.stratify", "data.keep", "data.unit", "data.lowercase", "data.min_count"),
    *("data.max_vocabulary", "data.per_step", "model.pool", "model.embedding_size"),
}
"""Further keys that say nothing about a stream."""

Tell = Callable[[str], None]
"""Takes words for a person."""

SECONDS_BETWEEN_WORDS = 10.0

SHORTEST = 0.05
"""Seconds from one look to the next, while a line is waited for, whether a checkpoint is due."""

MOST_POINTS = 1000
"""Lines of metrics.jsonl that a report draws; of more, some in between are left out."""

TOLD = 10
"""Bad lines that are told of one by one."""

FEW = 0.01
"""A stream of whose rows no more than this share could be read has failed, though bad lines are skipped."""


class Stop:
    """Ends a stream between two lines, where a signal asks for it.

    Attributes:
        signal: The signal that came; None before.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._waits = False
        self._before: dict[int, Any] = {}
        self._listens = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM for as long as the block runs; a second one does what it did before."""
        self._listens = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if self._listens else ():
            self._before[number] = signal.signal(number, self._came)
        try:
            yield
        finally:
            self._waits = self._listens = False
            self._let_go()

    def _let_go(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _came(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        self._let_go()
        if self._waits:  # nothing is under way, and the next line may never come
            self._waits = False
            raise KeyboardInterrupt

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for input: a signal ends it with KeyboardInterrupt, as one does that came before."""
        self._waits = True
        if self.signal is not None:
            raise KeyboardInterrupt
        try:
            yield
        finally:
            self._waits = False

    @contextmanager
    def meanwhile(self, seconds: float, call: Callable[[], object]) -> Iterator[None]:
        """Call every so many seconds while a line is waited for: it may not come for hours.

        Not more often than every `SHORTEST`, or the calls would leave no time for lines.
        """
        if not self._listens:
            yield
            return
        before = signal.signal(signal.SIGALRM, lambda *_: call() if self._waits else None)
        every = max(seconds, SHORTEST)
        signal.setitimer(signal.ITIMER_REAL, every, every)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@api.own_random_numbers
def train(
    recipe: str | Path,
    source: str | BinaryIO | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    from_run: str | os.PathLike[str] | None = None,
    force: bool = False,
    write: Write,
    tell: Tell = lambda _: None,
    stop: Stop | None = None,
) -> api.Run:
    """Learn from a stream until it ends, and keep everything in a run folder.

    Args:
        recipe: A built-in recipe, a task, or a TOML file; `learn.rule` is rtrl where nothing names one.
        source: A file, a named pipe, an open binary file, or "-" for standard input; where left out, `data.path`,
            else standard input.
        out: The run folder; `runs/NAME` when left out.
        settings: Dotted keys of the recipe and their values.
        seed: The run's seed.
        from_run: Begin with the weights, the scales and the classes of that run.
        force: Overwrite a run that stands in the folder.
        write: Is given the row of each prediction, see `Online.take`.
        tell: Is given words for a person.
        stop: What may end the stream before its end.

    Returns:
        The run.

    Raises:
        RecurraError: Anything that a person can mend, in words.
    """
    settings = dict(settings or {})
    replaced = _replaced(recipe, settings)
    path, made = api.settled(
        recipe, (None, None, None), out, settings | replaced, seed, from_run, None, force, DEFAULTS
    )
    check(made)
    if replaced:
        tell(f"note: on a stream these of the recipe say nothing: {', '.join(sorted(replaced))}")
    run = api.Run(made.from_run) if made.from_run else None
    stop = stop or Stop()
    given = source if source is not None else made.data.path or "-"
    classes = [] if run is None or made.task != "classify" else run.schema.classes
    with ExitStack() as stack:
        with stop.waiting():
            lines = stack.enter_context(open_lines(given, made.task, made.data, classes=classes))
        for note in lines.notes:
            tell(f"{lines.name}: {note}")
        online = Online(made, lines.schema, run)
        schema = {"format_version": folder.FORMAT, "fingerprint": "", **lines.schema.model_dump()}
        files = {"recipe.toml": made.to_toml(), "schema.json": json.dumps(schema, ensure_ascii=False, indent=1)}
        kept = folder.create(path, files, force)
        with kept.locked(), _divergence_told(kept, online, given):
            _along(online, lines, kept, write, tell, stop)
    return api.Run(path)


@api.own_random_numbers
def resume(
    path: str | os.PathLike[str],
    source: str | BinaryIO | None = None,
    *,
    write: Write,
    tell: Tell = lambda _: None,
    stop: Stop | None = None,
) -> api.Run:
    """Go on with a stream after the last checkpoint, whether it was stopped, killed, or at its end.

    Args:
        path: The run folder.
        source: As for `train`. Standard input and pipes go on with the row that `tell` is told of, with or without a
            header; in a file, which begins at its beginning, the rows before it are passed over.
        write: As for `train`.
        tell: As for `train`.
        stop: As for `train`.

    Raises:
        RunError: It is no run on a stream, or its checkpoint is damaged.
        DataError: The stream does not go on.
    """
    kept, stop = RunFolder(path), stop or Stop()
    kept.check()
    schema, recipe = kept.schema(), kept.recipe()
    if "stream" not in schema.settings:
        raise RunError(f"{kept.path}: learns from no stream; go on with it: recurra train --resume {kept.path}")
    begun = kept.checkpoint.is_file()
    online = Online(recipe, schema, api.Run(recipe.from_run) if recipe.from_run and not begun else None)
    given = source if source is not None else recipe.data.path or "-"
    with kept.locked(), ExitStack() as stack:
        if begun:
            with suited(online.network, 1, recipe.train.threads):
                online.restore(kept.checkpoint)
        _cut(kept / "metrics.jsonl", online.progress.metrics_size)
        done = online.progress.lines
        tell(f"{kept.path}: {done:,} rows are learnt; the stream goes on with row {done + 1:,} (index {done})")
        with stop.waiting():
            lines = stack.enter_context(open_lines(given, recipe.task, recipe.data, schema))
            if isinstance(given, str) and given != "-" and stat.S_ISREG(Path(given).expanduser().stat().st_mode):
                passed = lines.skip(done)
                if passed < done:
                    raise DataError(f"{lines.name}: has {passed:,} rows, of which {done:,} are learnt already.")
        with _divergence_told(kept, online, given):
            _along(online, lines, kept, write, tell, stop)
    return api.Run(path)


def outcome(run: api.Run) -> str:
    """What a stream came to, in words."""
    found = run.summary["stream"]
    said = f"{found['rows']:,} rows, {run.summary['samples_seen']:,} learnt from"
    if found["skipped"]:
        said += f", {found['skipped']:,} that could not be read left out"
    metric = run.task.main_metric
    if found["window"]:
        said += f"\n{metric} {found['window'][metric]:.4f} over the last {found['predictions']:,} predictions"
        said += f", {found['so_far'][metric]:.4f} since the start"
        said += "".join(f"; {name}: {scores[metric]:.4f}" for name, scores in found["plain"].items())
    return f"{said}\nreport {run.report}"


def _replaced(recipe: str | Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a recipe says that is otherwise on a stream, with what it is there.

    Raises:
        RecipeError: It was not the recipe that said so, but who asks for this stream.
    """
    loaded = recipes.load(recipe, settings, DEFAULTS)
    if not TASKS[loaded.task].streams:  # which `check` tells
        return {}
    made = loaded.model_dump()
    found = {key: value for key, value in ALIKE.items() if reduce(dict.__getitem__, key.split("."), made) != value}
    for key in settings:
        if key in IDLE or key in found or (key.startswith("data.options.") and settings[key] is not None):
            raise RecipeError(f"{key}: says nothing about a stream, which comes once, a line at a time; leave it out")
    return found


@contextmanager
def _divergence_told(kept: RunFolder, online: Online, source: str | BinaryIO) -> Iterator[None]:
    """Tell of a number that is none.

    Raises:
        RunError: What it was, which checkpoint stays, and how to go on.
    """
    try:
        yield
    except DivergedError as error:
        named = source if isinstance(source, str) else "-"
        raise diverged.told(kept, online.recipe, error.what, online.was_good(), error.hint, named) from error


def _along(online: Online, lines: Lines, kept: RunFolder, write: Write, tell: Tell, stop: Stop) -> None:
    """Learn line by line until the stream ends or is stopped; then write what a finished run has.

    Raises:
        DataError: A line cannot be read. What was learnt before it is kept.
        DivergedError: A number is none.
        OSError: A prediction cannot be written. What was learnt is kept.
    """
    remove_partial(kept.path)
    recipe, network = online.recipe, online.network
    parameters = sum(p.numel() for p in network.parameters())
    tell(
        f"{recipe.name} (seed {recipe.seed}): {describe_model(online)}, {parameters:,} parameters, learning by "
        f"{recipe.learn.rule}"
    )
    try:
        with suited(network, 1, recipe.train.threads):
            _rows(online, lines, kept, write, tell, stop)
    except (DataError, OSError):
        _finish(online, lines, kept)
        raise
    _finish(online, lines, kept)


def _rows(online: Online, lines: Lines, kept: RunFolder, write: Write, tell: Tell, stop: Stop) -> None:
    saved, every = online.progress.lines, online.settings.checkpoint_seconds
    before, bad = replace(online.progress), None
    saved_at = told = time.monotonic()
    warned = 0

    def save() -> None:
        nonlocal saved, saved_at
        if online.progress.lines > saved and time.monotonic() - saved_at >= every:
            _save(online, kept)
            saved, saved_at = online.progress.lines, time.monotonic()

    with stop.meanwhile(every, save):
        while True:
            try:
                with stop.waiting():
                    row = next(lines, None)
            except KeyboardInterrupt:
                tell("stopped" if stop.signal is None else f"stopped by {signal.Signals(stop.signal).name}")
                return
            if row is None:
                _check_read(before, online.progress, bad)
                return
            if isinstance(row, Fault):
                bad = bad or row
                _pass_over(row, online, tell)
            else:
                online.take(row, write)
            if (line := online.line_of_metrics()) is not None:
                _append(kept / "metrics.jsonl", line, online)
            for warning in online.warnings[warned:]:
                tell(f"warning: {warning}")
            warned = len(online.warnings)
            save()
            if time.monotonic() - told >= SECONDS_BETWEEN_WORDS:
                told = time.monotonic()
                _tell_how_far(online, tell)


def _pass_over(fault: Fault, online: Online, tell: Tell) -> None:
    """Count a line that cannot be read.

    Raises:
        DataError: That is not what was asked for.
    """
    if online.recipe.data.bad_lines == "fail":
        raise DataError(fault.said)
    progress = online.progress
    progress.lines += 1
    progress.skipped += 1
    if progress.skipped <= TOLD:
        more = "; further ones are counted and no longer told" if progress.skipped == TOLD else ""
        tell(f"warning: {fault.said.removesuffix('.')}. Skipped{more}.")


def _check_read(before: Progress, after: Progress, bad: Fault | None) -> None:
    """Look whether enough could be read of what came since `before`.

    Raises:
        DataError: Next to nothing could be; or most rows could not, and none was learnt from.
    """
    rows, skipped = after.lines - before.lines, after.skipped - before.skipped
    is_much = rows - skipped > FEW * rows and (2 * skipped < rows or after.samples > before.samples)
    if bad is not None and not is_much:
        raise DataError(
            f"of {rows:,} rows {skipped:,} could not be read, and {after.samples - before.samples:,} were learnt from; "
            f"the first: {bad.said}"
        )


def _tell_how_far(online: Online, tell: Tell) -> None:
    progress = online.progress
    loss = online.scores.recent_loss
    said = "" if loss is None else f", mean loss of the last {online.scores.kept:,} {loss:.4g}"
    tell(f"row {progress.lines:,}{said}; {1e3 * progress.seconds / max(1, progress.lines):.2f} ms a row")


def _append(path: Path, line: Mapping[str, Any], online: Online) -> None:
    """Add a line to the metrics. What a kill leaves of it, the next start cuts off."""
    text = to_lines([line]).encode()
    try:
        with path.open("ab") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from error
    online.progress.metrics_size += len(text)


def _cut(path: Path, size: int) -> None:
    """Cut off what was written after the last checkpoint: it will be written again."""
    if path.is_file() and path.stat().st_size > size:
        os.truncate(path, size)


def _save(online: Online, kept: RunFolder) -> None:
    diverged.keep(kept, online.was_good())
    online.save(kept.checkpoint)


def _finish(online: Online, lines: Lines, kept: RunFolder) -> None:
    """Write the checkpoint, from which the stream can go on, the weights, and last the summary."""
    _save(online, kept)
    online.end()
    recipe, progress, scores = online.recipe, online.progress, online.scores
    (kept / "summary.json").unlink(missing_ok=True)  # it vouches for the weights of an earlier end
    weights = {name: v.cpu() for name, v in online.network.state_dict().items()}
    checkpoint.write(kept / "model.safetensors", weights, {"format_version": folder.FORMAT})
    summary: dict[str, Any] = {
        "format_version": folder.FORMAT,
        "name": recipe.name,
        "task": recipe.task,
        "recipe": recipe.model_dump(),
        "test": {},
        "test_intervals": {},
        "validation": {},
        "baselines": {},
        "stream": {
            "rows": progress.lines,
            "skipped": progress.skipped,
            "predictions": scores.kept,
            "window": scores.window(),
            "so_far": scores.so_far(),
            "plain": scores.plain(),
        },
        "train": {"last_loss": scores.recent_loss, "best_step": progress.updates},
        "train_seconds": progress.seconds,
        "updates": progress.updates,
        "samples_seen": progress.samples,
        "parameters": sum(p.numel() for p in online.network.parameters()),
        "seed": recipe.seed,
        "data": {"sources": {"train": lines.name}, "fingerprint": "", "sequences": {}},
        "warnings": online.warnings,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "versions": versions(),
        "sha256": sha256(kept / "model.safetensors"),
    }
    write_report(kept.path, _report(online, kept, summary))
    write_text(kept / "summary.json", json.dumps(summary, ensure_ascii=False, indent=1))


def _report(online: Online, kept: RunFolder, summary: Mapping[str, Any]) -> ReportContent:
    """Everything the report of a stream shows."""
    recipe, schema, scores, found = online.recipe, online.schema, online.scores, summary["stream"]
    history = kept.history()
    every = -(-len(history) // MOST_POINTS)  # a stream may go on for years, and its report is read today
    rows = found["rows"]
    return ReportContent(
        title=recipe.name,
        description=recipe.description,
        task=recipe.task,
        main=online.task.main_metric,
        higher_is_better=online.task.higher_is_better,
        data=DataSummary(
            sources=list(summary["data"]["sources"].values()),
            parts=[Part("stream", 1, rows, rows, float(rows), rows)],
            features=schema.features,
            classes=schema.classes,
            targets=schema.targets,
        ),
        recipe=recipe.model_dump(),
        defaults=defaults(recipe),
        command=f"recurra train {kept / 'recipe.toml'} --stream --out FOLDER",
        seed=recipe.seed,
        test=found["so_far"],
        validation=found["window"],
        baselines=found["plain"],
        history=[{**line, "step": line["rows"], "validation": line["window"]} for line in history[:: max(1, every)]],
        model=describe_model(online),
        parameters=summary["parameters"],
        samples_seen=summary["samples_seen"],
        train_seconds=summary["train_seconds"],
        versions=summary["versions"],
        warnings=online.warnings,
        finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        along=scores.count,
    )
