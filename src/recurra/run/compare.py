"""Runs compared: scores, differences with their 95 % intervals, and what differs in the recipes.

Runs that learnt from a stream have no test part: their score is that of all predictions, each made before its target
was seen.
"""

import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text
from scipy.optimize import root_scalar
from scipy.stats import norm
from scipy.stats import t as student

from recurra.errors import RunError
from recurra.run.content import flatten
from recurra.run.folder import RunFolder
from recurra.tasks import TASKS
from recurra.tasks.edits import RATES, Unit, counts, error_rate
from recurra.tasks.forecast_scores import statistic
from recurra.tasks.scores import (
    FEWEST,
    REGRESS_STATISTICS,
    Interval,
    accuracy_interval,
    bootstrap_draws,
    mean_interval,
    percentile_interval,
    shared_of,
    squared_and_absolute,
)
from recurra.tasks.tag_scores import entity_counts, entity_scores
from recurra.tasks.translate import bleu_counts, bleu_of

TEXTS = ("classify", "tag", "translate", "speech", "speech-translate", "tree", "graph")
"""Tasks whose targets are labels or texts."""


@dataclass
class ComparedRun:
    """One run, or several that differ in their seed alone.

    Attributes:
        name: What it is called in the table.
        folder: Where it is.
        value: The metric on the test part, or along the stream; the mean over seeds.
        interval: Its 95 % interval; over seeds that of the mean; None along a stream.
        test: Every metric on the test part, or along the stream.
        seeds: The seeds, one for a single run.
        deviation: Standard deviation over seeds, or over folds.
        parameters: How many the network has.
        train_seconds: Time spent in training; the mean over seeds.
        folds: How many folds of the data each seed had for its test part in turn; None where it had one part.
    """

    name: str
    folder: str
    value: float
    interval: Interval | None
    test: dict[str, float]
    seeds: list[int]
    deviation: float | None
    parameters: int
    train_seconds: float
    folds: int | None = None


@dataclass
class Difference:
    """A run's metric less the first run's.

    Attributes:
        value: The difference.
        interval: Its 95 % interval; None where there is too little to tell.
        paired: Whether both were tested on the same items, so that their chances are shared.
        method: How the interval was found, or why there is none.
    """

    value: float
    interval: Interval | None
    paired: bool
    method: str


@dataclass
class Comparison:
    """Runs side by side.

    Attributes:
        task: Their task.
        metric: The metric that is compared.
        higher_is_better: Which way is better.
        runs: In the order given.
        differences: For each run after the first.
        recipe: Each setting that is not the same in all of them -> its values in their order.
        targets: Runs along a stream: how many targets each was scored on; else None.
    """

    task: str
    metric: str
    higher_is_better: bool
    runs: list[ComparedRun]
    differences: list[Difference]
    recipe: dict[str, list[Any]] = field(default_factory=dict)
    targets: int | None = None
    part: str = "test"

    def to_json(self) -> str:
        """The comparison as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1, allow_nan=False)

    def to_text(self, width: int | None = None) -> str:
        """The comparison as tables for a terminal of `width` columns (the present one's when left out)."""
        out = io.StringIO()
        console = Console(file=out, width=width or shutil.get_terminal_size((110, 24)).columns, highlight=False)
        better = "higher" if self.higher_is_better else "lower"
        along = f"{self.metric} along the stream, over {self.targets:,} targets" if self.targets else ""
        console.print(Text(f"{along or f'{self.part} {self.metric}'} ({better} is better)"))
        for table in self._scores(console):
            console.print(table)
        for line in self._words():
            console.print(Text(line))
        if self.recipe:
            console.print(Text("\nwhat differs in the recipes"))
            console.print(self._settings())
        else:
            console.print(Text("\nthe recipes do not differ"))
        return "\n".join(line.rstrip() for line in out.getvalue().splitlines())

    def _scores(self, console: Console) -> list[Table]:
        """One table, or two where one is wider than the console."""
        several = any(len(run.seeds) > 1 for run in self.runs)
        others = [name for name in self.runs[0].test if name != self.metric and "_first_" not in name]
        others = [name for name in others if name != "unknown_labels" and all(name in run.test for run in self.runs)]
        scores: list[tuple[str, list[str]]] = [
            (self.metric, [f"{run.value:.4f}" for run in self.runs]),
            ("95 % interval", [_span(run.interval) for run in self.runs]),
            ("difference", ["", *(f"{difference.value:+.4f}" for difference in self.differences)]),
            ("95 % interval", ["", *(_span(difference.interval, "+") or "none" for difference in self.differences)]),
        ]
        rest = [(name, [f"{run.test[name]:.4f}" for run in self.runs]) for name in others]
        rest.append(("parameters", [f"{run.parameters:,}" for run in self.runs]))
        rest.append(("training", [f"{run.train_seconds:.1f} s" for run in self.runs]))
        if several:
            deviations = ["" if run.deviation is None else f"{run.deviation:.4f}" for run in self.runs]
            rest = [("seeds", [str(len(run.seeds)) for run in self.runs]), ("deviation", deviations), *rest]
            if any(run.folds for run in self.runs):
                rest.insert(1, ("folds", [str(run.folds or "") for run in self.runs]))
        whole = self._table([*scores, *rest])
        wanted = console.measure(whole, options=console.options.update(max_width=1000)).maximum
        return [whole] if wanted <= console.width else [self._table(scores), self._table(rest)]

    def _table(self, columns: Sequence[tuple[str, Sequence[str]]]) -> Table:
        """A table with a row a run."""
        table = Table("run", *(head for head, _ in columns), box=None, pad_edge=False)
        for column in table.columns[1:]:
            column.justify = "right"
        for i, run in enumerate(self.runs):
            table.add_row(*(Text(cell, overflow="fold") for cell in (run.name, *(cells[i] for _, cells in columns))))
        return table

    def _words(self) -> list[str]:
        """How each difference is to be taken."""
        lines = []
        for run, difference in zip(self.runs[1:], self.differences, strict=True):
            said = f"{run.name}: {difference.method}"
            if difference.interval is not None:
                low, high = difference.interval
                if low <= 0 <= high:
                    said += "; 0 is inside: the runs cannot be told apart"
                else:
                    said += f"; {'better' if (low > 0) == self.higher_is_better else 'worse'} than {self.runs[0].name}"
            lines.append(said)
        return lines

    def _settings(self) -> Table:
        table = Table("setting", *(run.name for run in self.runs), box=None, pad_edge=False)
        for key, values in self.recipe.items():
            table.add_row(
                *(Text(str(cell), overflow="fold") for cell in (key, *("–" if v is None else v for v in values)))
            )
        return table


def compare(folders: Sequence[str | os.PathLike[str]], seed: int = 0) -> Comparison:
    """Compare finished runs of one task with the first of them.

    Args:
        folders: Two or more run folders; one that holds several seeds counts as one.
        seed: Seed of the bootstrap.

    Raises:
        RunError: Fewer than two folders, a folder that is no finished run, a file that is missing or damaged, runs
            of different tasks, runs without a test part, or along streams of different lengths.
    """
    if len(folders) < 2:
        raise RunError(f"two or more run folders are expected, not {len(folders)}")
    sources = [_Source(Path(folder)) for folder in folders]
    first = sources[0]
    for other in sources[1:]:
        if other.task != first.task:
            raise RunError(
                f"{other.path}: its task is {other.task}, that of {first.path} is {first.task}; "
                "only runs of one task can be compared"
            )
        _check_streams(first, other)
        if other.part != first.part:
            apart = other if other.part == "validation" else first
            raise RunError(f"{apart.path}: it has no test {apart.metric} to compare; its data had no test part")
    names = [source.path.resolve().name for source in sources]
    if len(set(names)) < len(names):
        names = [str(source.path) for source in sources]
    return Comparison(
        task=first.task,
        metric=first.metric,
        higher_is_better=TASKS[first.task].is_better_high(first.metric),
        runs=[source.described(name) for source, name in zip(sources, names, strict=True)],
        differences=[difference(first, other, seed) for other in sources[1:]],
        recipe=_differing([source.recipe for source in sources]),
        targets=None if first.stream is None else first.stream.targets,
        part=first.part,
    )


def _check_streams(first: "_Source", other: "_Source") -> None:
    """Raise RunError where one of two runs learnt from a stream, or where their streams are not of one length."""
    if (first.stream is None) != (other.stream is None):
        along, apart = (other, first) if first.stream is None else (first, other)
        raise RunError(
            f"{along.path}: it learnt from a stream, and {apart.path} did not; a score along a stream is no test score"
        )
    if first.stream is None or other.stream is None:
        return
    mine, theirs = first.stream, other.stream
    for kind, count, expected in (("rows", theirs.rows, mine.rows), ("targets", theirs.targets, mine.targets)):
        if count != expected:
            raise RunError(
                f"{other.path}: its stream had {count:,} {kind}, that of {first.path} {expected:,}; scores along "
                "streams can be compared over as many only"
            )


# Reading


class _Source:
    """One folder to be compared: a run, or the runs of several seeds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.summary = _summary(path)
        self.task: str = self.summary["task"]
        self.metric = self.summary.get("main_metric", TASKS[self.task].main_metric)
        self.recipe: dict[str, Any] = self.summary["recipe"]
        self.runs = [path]
        if "seeds" in self.summary:
            self.runs = [path / name for name in self.summary["runs"]]
        self.several = "seeds" in self.summary
        self.summaries = [_summary(run) for run in self.runs] if self.several else [self.summary]
        self.stream = _stream(path, self.summary)
        if self.stream is not None and self.metric not in self.stream.scores:
            raise RunError(f"{path}: it has no {self.metric} to compare; no target came along its stream")
        self.part = "test"
        if self.stream is None and not any(summary["test"] for summary in self.summaries):
            self.part = "validation"
        for run, summary in zip(self.runs, self.summaries, strict=True):
            if self.stream is None and self.metric not in summary.get(self.part, {}):
                raise RunError(f"{run}: it has no test {self.metric} to compare; its data had no test part")
        scores = [summary[self.part] if self.stream is None else self.stream.scores for summary in self.summaries]
        self.values = np.array([each[self.metric] for each in scores])
        self.folds: int | None = self.summary.get("folds") if self.several else None
        self.seeds = [(summary["seed"], _fold(summary)) for summary in self.summaries]

    def described(self, name: str) -> ComparedRun:
        """What the table shows of it."""
        interval = self.summary.get(f"{self.part}_intervals", {}).get(self.metric)
        return ComparedRun(
            name=name,
            folder=str(self.path),
            value=float(self.values.mean()),
            interval=mean_interval(self.values, shared=shared_of(self.folds), metric=self.metric)
            if self.several
            else interval and (interval[0], interval[1]),
            test=dict(self.summary[self.part] if self.stream is None else self.stream.scores),
            seeds=list(dict.fromkeys(seed for seed, _ in self.seeds)),
            deviation=float(self.values.std(ddof=1)) if len(self.values) > 1 else None,
            parameters=self.summaries[0]["parameters"],
            train_seconds=float(np.mean([summary["train_seconds"] for summary in self.summaries])),
            folds=self.folds,
        )


def _fold(summary: Mapping[str, Any]) -> int | None:
    """Which fold was a run's test part."""
    data = summary["recipe"].get("data", {})
    return data.get("fold") if data.get("folds") else None


def _summary(path: Path) -> dict[str, Any]:
    """A summary that has everything that is read from it here, of the right kind."""
    summary = RunFolder(path).summary()
    place = path / "summary.json"
    alone = {"seed": int, "parameters": int, "train_seconds": (int, float)}
    kinds = {"task": str, "recipe": dict, "test": dict}
    for key, kind in (kinds | ({"seeds": list, "runs": list} if "seeds" in summary else alone)).items():
        if not isinstance(summary.get(key), kind):
            raise RunError(f"{place}: is damaged: {key!r} is missing or not what it should be")
    if summary["task"] not in TASKS:
        raise RunError(f"{place}: is damaged: there is no task {summary['task']!r}")
    if not all(isinstance(v, (int, float)) for v in summary["test"].values()):
        raise RunError(f"{place}: is damaged: a score in 'test' is not a number")
    return summary


@dataclass
class _Stream:
    """What a run found along its stream.

    Attributes:
        rows: How many rows came.
        targets: How many of them had a target, which its prediction was scored on.
        scores: Of all these predictions.
        plain: Of who learns nothing, by name; the same for the same targets.
    """

    rows: int
    targets: int
    scores: dict[str, float]
    plain: dict[str, Any]


def _stream(path: Path, summary: Mapping[str, Any]) -> _Stream | None:
    """What a run found along its stream; None where it learnt from sequences.

    Raises:
        RunError: It is damaged.
    """
    if "stream" not in summary:
        return None
    place, told = path / "summary.json", summary["stream"]
    if not isinstance(told, dict) or not isinstance(summary.get("samples_seen"), int):
        raise RunError(f"{place}: is damaged: 'stream' or 'samples_seen' is missing or not what it should be")
    for key, kind in {"rows": int, "so_far": dict, "plain": dict}.items():
        if not isinstance(told.get(key), kind):
            raise RunError(f"{place}: is damaged: {key!r} of 'stream' is missing or not what it should be")
    if not all(isinstance(v, (int, float)) for v in told["so_far"].values()):
        raise RunError(f"{place}: is damaged: a score in 'stream' is not a number")
    return _Stream(told["rows"], summary["samples_seen"], told["so_far"], told["plain"])


@dataclass
class _Tested:
    """What a run said of its test part: a row a sequence, or a step."""

    items: pl.DataFrame  # index and, where they are known, id and step
    targets: np.ndarray  # (N,) of text, or (M, K) of numbers
    predictions: np.ndarray
    data: tuple[object, object] = (None, None)  # see `_data_of`

    def same_items(self, other: "_Tested") -> bool:
        """Whether both were tested on the same things, in the same order: other data may have the same targets."""
        are_known = None not in (*self.data, *other.data)
        if are_known and all(mine != theirs for mine, theirs in zip(self.data, other.data, strict=True)):
            return False
        return self.items.equals(other.items) and np.array_equal(self.targets, other.targets)

    def errors(self) -> np.ndarray:
        """See `squared_and_absolute`."""
        return squared_and_absolute(self.targets, self.predictions, self.offsets())

    def right_steps(self) -> np.ndarray:
        """(N, 2): for each sequence how many of its steps are right, and how many there are."""
        right = (self.targets == self.predictions).astype(np.float64)
        return np.add.reduceat(np.stack([right, np.ones(len(right))], 1), self.offsets()[:-1], axis=0)

    def entities(self) -> np.ndarray:
        """See `entity_counts`, of targets and predictions that are tags."""
        bounds = list(pairwise(self.offsets().tolist()))
        true, said = ([list(values[a:b]) for a, b in bounds] for values in (self.targets, self.predictions))
        return entity_counts(true, said).astype(np.float64)

    def nats(self) -> np.ndarray:
        """(N, 2), language: for each line the loss of all its symbols, and how many there are; frames: for each clip
        the squared error of all that were told, and how many."""
        symbols = self.targets.astype(np.float64)
        return np.stack([np.where(symbols > 0, self.predictions, 0.0) * symbols, symbols], 1)

    def frame_nats(self) -> np.ndarray:
        """(N, 2), notes: for each piece the loss of all its frames, and how many there are."""
        nats = np.stack([self.predictions, np.ones(len(self.predictions))], 1)
        return np.add.reduceat(nats, self.offsets()[:-1], axis=0)

    def ngrams(self) -> np.ndarray:
        """See `bleu_counts`, of targets and predictions that are texts."""
        return bleu_counts(self.predictions.tolist(), self.targets.tolist())

    def edits(self, unit: Unit) -> np.ndarray:
        """See `recurra.tasks.edits.counts`, of targets and predictions that are texts."""
        return counts(self.targets.tolist(), self.predictions.tolist(), unit)

    def offsets(self) -> np.ndarray:
        """Where each sequence begins among the rows, and where the last one ends."""
        index = self.items["index"].to_numpy()
        return np.concatenate([[0], np.flatnonzero(index[1:] != index[:-1]) + 1, [len(index)]])


def _tested(run: Path, task: str) -> _Tested:
    path = run / "test_predictions.csv"
    try:
        table = pl.read_csv(path, infer_schema=False, glob=False).fill_null("")
    except FileNotFoundError as error:
        raise RunError(f"{path}: is missing") from error
    except pl.exceptions.PolarsError as error:
        raise RunError(f"{path}: is damaged: {str(error).splitlines()[0]}") from error
    names = ("index", "id", "step", "node")
    items = table.select([name for name in names if name in table.columns])
    values = []
    named = {"tag": ("target", "tag"), "language": ("symbols", "loss"), "notes": ("target", "loss")}
    kinds = named.get(task, ("target", "prediction"))
    if task == "frames" and "frames" in table.columns:  # of next frames, and not of labels
        kinds = ("frames", "mse")
    for kind in kinds:
        names = [name for name in table.columns if name == kind or name.startswith(f"{kind}_")]
        if not names or "index" not in table.columns or not len(table):
            missing = kind if "index" in table.columns else "index"
            raise RunError(f"{path}: is damaged: it has no column {missing!r} or no row")
        try:
            columns = table.select(names)
            are_texts = task in TEXTS or (task == "frames" and kinds[0] == "target")
            if are_texts or kind in ("symbols", "frames") or (task, kind) == ("notes", "target"):
                values.append(columns[kind].to_numpy())
            elif kind in ("loss", "mse"):  # empty where a line has no symbol that is predicted, or a clip one frame
                values.append(columns[kind].replace("", "0").cast(pl.Float64).to_numpy())
            else:
                values.append(columns.cast(pl.Float64).to_numpy())
        except pl.exceptions.PolarsError as error:
            raise RunError(f"{path}: is damaged: column {names[0]!r} is missing or holds no numbers") from error
    if values[0].shape != values[1].shape:
        raise RunError(f"{path}: is damaged: not as many columns of predictions as of targets")
    return _Tested(items, *values, data=_data_of(run))


def _data_of(run: Path) -> tuple[object, object]:
    """What tells the data of a run from others: the digest of what was read, and where its test part is."""
    data = RunFolder(run).summary().get("data", {})
    return data.get("fingerprint"), data.get("sources", {}).get("test")


def _forecast(run: Path, metric: str) -> _Tested | None:
    """What each origin of the test part adds to a metric, and how often; None in runs that kept it not.

    Raises:
        RunError: The file is damaged.
    """
    path = run / "test_shares.csv"
    if not path.is_file():
        return None
    names = ["truth", metric, f"{metric}_count"]
    try:
        table = pl.read_csv(path, infer_schema=False, glob=False)
        items = table.select("index", "series", "time").fill_null("")
        numbers = table.select(names).cast(pl.Float64).to_numpy()
        items = items.with_columns(pl.col("index").cast(pl.Int64))
    except pl.exceptions.PolarsError as error:
        raise RunError(f"{path}: is damaged: {str(error).splitlines()[0]}") from error
    if not len(numbers) or not np.isfinite(numbers).all() or items["index"].null_count():
        raise RunError(f"{path}: is damaged: it has no row, or a cell of {', '.join(names)} holds no number")
    return _Tested(items, numbers[:, 0], numbers[:, 1:], data=_data_of(run))


def _differing(recipes: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Settings that are not the same in all recipes; names and descriptions settle nothing and are passed over."""
    flat = [flatten(recipe) for recipe in recipes]
    keys = [
        key for key in dict.fromkeys(key for recipe in flat for key in recipe) if key not in ("name", "description")
    ]
    found = {key: [recipe.get(key) for recipe in flat] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


# Differences


def difference(first: _Source, other: _Source, seed: int) -> Difference:
    """The main metric of `other` less that of `first`."""
    if first.stream is not None and other.stream is not None:
        value = float(other.values[0] - first.values[0])
        if first.stream.plain != other.stream.plain:
            return Difference(value, None, False, "no interval: not the same stream, its targets were others")
        return Difference(
            value, None, False, "no interval: a stream is one sequence, and only sums are kept of its scores"
        )
    if first.several != other.several:
        value = float(other.values.mean() - first.values.mean())
        return Difference(value, None, False, "no interval: one run against several seeds")
    if first.part == "validation":
        said = "no interval: scores of the validation part, of which no predictions are kept"
        return Difference(float(other.values.mean() - first.values.mean()), None, False, said)
    if first.several:
        return _over_seeds(first, other)
    value = float(other.values[0] - first.values[0])
    if first.task == "forecast":
        return _of_forecasts(first, other, value, seed)
    mine, theirs = _tested(first.runs[0], first.task), _tested(other.runs[0], other.task)
    if first.task == "frames" and first.metric == "mse":
        return _over_sequences(mine, theirs, value, _Tested.nats, _share, seed)
    if first.metric in REGRESS_STATISTICS:
        return _over_sequences(mine, theirs, value, _Tested.errors, REGRESS_STATISTICS[first.metric], seed)
    if first.task == "language":
        return _over_sequences(mine, theirs, value, _Tested.nats, _share, seed)
    if first.task == "notes":
        return _over_sequences(mine, theirs, value, _Tested.frame_nats, _share, seed)
    if first.metric == "bleu":
        return _over_sequences(mine, theirs, value, _Tested.ngrams, bleu_of, seed)
    if first.metric in RATES:
        unit = RATES[first.metric]
        return _over_sequences(mine, theirs, value, lambda tested: tested.edits(unit), error_rate, seed)
    if first.metric == "f1":
        return _over_sequences(mine, theirs, value, _Tested.entities, lambda sums: entity_scores(sums)[..., 2], seed)
    if "node" in mine.items.columns and min(one.items["index"].n_unique() for one in (mine, theirs)) >= FEWEST:
        return _over_sequences(mine, theirs, value, _Tested.right_steps, _share, seed)  # nor are nodes of a graph
    if "step" in mine.items.columns and "step" in theirs.items.columns:  # steps of a sequence are not independent
        return _over_sequences(mine, theirs, value, _Tested.right_steps, _share, seed)
    return _of_accuracy(mine, theirs, value)


def _of_forecasts(first: _Source, other: _Source, value: float, seed: int) -> Difference:
    """Over all origins that the scores are made of, in the blocks of these scores' own intervals."""
    tested = [_forecast(source.runs[0], source.metric) for source in (first, other)]
    for source, one in zip((first, other), tested, strict=True):
        if one is None:
            said = f"no interval: {source.path} has no test_shares.csv, which newer runs have; train it again for one"
            return Difference(value, None, False, said)
    mine, theirs = tested
    assert mine is not None
    assert theirs is not None
    paired = mine.same_items(theirs)
    blocks = [_by_block(one) for one in (mine, theirs)]
    fewest = min(map(len, blocks))
    if fewest < FEWEST:
        said = f"no interval: its origins are too near each other, and make only {fewest} block{'s' * (fewest != 1)}"
        return Difference(value, None, paired, said)
    of = statistic(first.metric)
    draws = bootstrap_draws(blocks[1], of, seed) - bootstrap_draws(blocks[0], of, seed if paired else seed + 1)
    said = (
        f"paired, the same {len(mine.targets):,} origins in {len(blocks[0]):,} blocks (bootstrap)"
        if paired
        else "unpaired, not the same origins (bootstrap over blocks)"
    )
    return Difference(value, percentile_interval(draws), paired, said)


def _by_block(tested: _Tested) -> np.ndarray:
    """The shares of a metric added up by block, (N, 2)."""
    names, block = np.unique(tested.items["index"].to_numpy(), return_inverse=True)
    sums = np.zeros((len(names), tested.predictions.shape[1]))
    np.add.at(sums, block, tested.predictions)
    return sums


def _of_accuracy(first: _Tested, other: _Tested, value: float) -> Difference:
    right, right_other = first.targets == first.predictions, other.targets == other.predictions
    if first.same_items(other):
        gained, lost = int(np.sum(right_other & ~right)), int(np.sum(right & ~right_other))
        interval = paired_share_interval(gained, lost, len(right))
        said = f"paired, the same {len(right):,} items: {gained:,} right only here, {lost:,} only there (Tango)"
        return Difference(value, interval, True, said)
    interval = share_interval(int(right_other.sum()), len(right_other), int(right.sum()), len(right))
    return Difference(value, interval, False, "unpaired, not the same items (Newcombe)")


def _over_sequences(
    first: _Tested,
    other: _Tested,
    value: float,
    sums: Callable[[_Tested], np.ndarray],
    statistic: Callable[[np.ndarray], np.ndarray],
    seed: int,
) -> Difference:
    """By drawing whole sequences anew: `statistic` is a function of the sums of `sums` over them."""
    mine, theirs = sums(first), sums(other)
    paired = first.same_items(other)
    fewest = min(len(mine), len(theirs))
    if fewest < FEWEST:
        return Difference(value, None, paired, f"no interval: only {fewest} test sequence{'s' * (fewest != 1)}")
    # With one seed the same items are drawn for both, which is what pairs them.
    draws = bootstrap_draws(theirs, statistic, seed) - bootstrap_draws(mine, statistic, seed if paired else seed + 1)
    said = (
        f"paired, the same {len(mine):,} sequences (bootstrap)"
        if paired
        else "unpaired, not the same items (bootstrap)"
    )
    return Difference(value, percentile_interval(draws), paired, said)


def _share(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, 1]


def _same_items(run: Path, other: Path, source: _Source) -> bool:
    """Whether two runs of the task and metric of `source` were tested on the same things."""
    if source.task == "forecast":
        mine, theirs = (_forecast(path, source.metric) for path in (run, other))
        return mine is not None and theirs is not None and mine.same_items(theirs)
    return _tested(run, source.task).same_items(_tested(other, source.task))


def _over_seeds(first: _Source, other: _Source) -> Difference:
    value = float(other.values.mean() - first.values.mean())
    if min(len(first.values), len(other.values)) < 2:
        return Difference(value, None, False, "no interval: a single seed")
    paired = first.seeds == other.seeds and all(
        _same_items(a, b, first) for a, b in zip(first.runs, other.runs, strict=True)
    )
    if paired and first.folds is not None:
        said = f"paired over {len(first.seeds)} runs (Student's t, widened for folds: Nadeau & Bengio)"
        return Difference(value, mean_interval(other.values - first.values, shared=shared_of(first.folds)), True, said)
    if paired:
        return Difference(
            value,
            mean_interval(other.values - first.values),
            True,
            f"paired over {len(first.seeds)} seeds (Student's t)",
        )
    if first.folds is not None or other.folds is not None:
        return Difference(value, None, False, "no interval: not the same folds of the same data")
    said = f"unpaired, {len(other.values)} and {len(first.values)} seeds (Welch's t)"
    return Difference(value, welch_interval(other.values, first.values), False, said)


# Intervals of differences


def paired_share_interval(gained: int, lost: int, total: int, level: float = 0.95) -> Interval:
    """Interval of the difference of two shares of the same items, by inverting the score test (Tango 1998).

    It leaves out 0 exactly where McNemar's test, which is the same test at 0, finds a difference.

    Args:
        gained: Items that are right in the second only.
        lost: Items that are right in the first only.
        total: All items.
        level: Share of such intervals that hold the true value.
    """
    z = float(norm.ppf((1 + level) / 2))
    found = (gained - lost) / total

    def score(d: float) -> float:
        """Standard normal if the true difference is `d`; q is then the likeliest share of items lost."""
        a, b, c = 2 * total, -gained - lost + (2 * total - gained + lost) * d, -lost * d * (1 - d)
        q = (max(b * b - 4 * a * c, 0.0) ** 0.5 - b) / (2 * a)
        variance = total * (2 * q + d * (1 - d))
        return (gained - lost - total * d) / variance**0.5 if variance > 0 else 0.0

    edge = 1 - 1e-12
    low = root_scalar(lambda d: score(d) - z, bracket=(-edge, found)).root if found > -1 else -1.0
    high = root_scalar(lambda d: score(d) + z, bracket=(found, edge)).root if found < 1 else 1.0
    return float(low), float(high)


def share_interval(right: int, total: int, right_first: int, total_first: int, level: float = 0.95) -> Interval:
    """Interval of the difference of two shares of different items, from Wilson's of each (Newcombe 1998, method 10)."""
    share, first = right / total, right_first / total_first
    (low, high), (low_first, high_first) = (
        accuracy_interval(right, total, level),
        accuracy_interval(right_first, total_first, level),
    )
    down = ((share - low) ** 2 + (high_first - first) ** 2) ** 0.5
    up = ((high - share) ** 2 + (first - low_first) ** 2) ** 0.5
    return share - first - down, share - first + up


def welch_interval(values: np.ndarray, first: np.ndarray, level: float = 0.95) -> Interval:
    """Welch's interval of the difference of two means, at least two values each, of unequal variance."""
    errors = [v.var(ddof=1) / len(v) for v in (values, first)]
    total = float(sum(errors))
    middle = float(values.mean() - first.mean())
    if total == 0:
        return middle, middle
    freedom = total**2 / sum(e**2 / (len(v) - 1) for e, v in zip(errors, (values, first), strict=True))
    half = float(student.ppf((1 + level) / 2, freedom)) * total**0.5
    return middle - half, middle + half


def _span(interval: Interval | None, sign: str = "") -> str:
    return "" if interval is None else f"{interval[0]:{sign}.4f} to {interval[1]:{sign}.4f}"
