"""What a report is made from: plain data, no network and no file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from markupsafe import Markup


@dataclass
class Part:
    """One part of the data: train, validation or test.

    Attributes:
        name: What it is called.
        sequences: How many there are.
        steps: Steps of all of them together.
        shortest: Steps of the shortest.
        median: Steps of the middle one.
        longest: Steps of the longest.
        counts: classify: sequences (or steps) of each class, in the order of the classes.
    """

    name: str
    sequences: int
    steps: int
    shortest: int
    median: float
    longest: int
    counts: Sequence[int] | None = None

    @classmethod
    def of(cls, name: str, lengths: np.ndarray, counts: Sequence[int] | None = None) -> "Part":
        """The part whose sequences have these lengths, (N,), at least one."""
        lengths = np.asarray(lengths)
        return cls(
            name,
            len(lengths),
            int(lengths.sum()),
            int(lengths.min()),
            float(np.median(lengths)),
            int(lengths.max()),
            counts,
        )


@dataclass
class DataSummary:
    """What the run learnt from.

    Attributes:
        sources: Paths or names of the data.
        parts: The parts in order.
        input: Whether a step is numbers or a token.
        features: Numbers: a name for each value of a step.
        vocabulary: Tokens: how many symbols the network knows.
        unit: Tokens: what a token is.
        classes: classify: the labels.
        targets: regress: a name for each number predicted.
        words: What a step is, in place of what the fields above tell.
    """

    sources: Sequence[str]
    parts: Sequence[Part]
    input: Literal["numbers", "tokens"] = "numbers"
    features: Sequence[str] = ()
    vocabulary: int = 0
    unit: Literal["word", "character"] = "word"
    classes: Sequence[str] = ()
    targets: Sequence[str] = ()
    words: str = ""


@dataclass
class Updates:
    """What was measured at every update; update i is entry i − 1.

    Attributes:
        loss: Training loss, (U,).
        gradient_norm: Norm of the gradient before clipping, (U,); empty where it was not kept.
        clip_norm: The bound of clipping by norm, where there is one.
    """

    loss: np.ndarray
    gradient_norm: np.ndarray = field(default_factory=lambda: np.empty(0))
    clip_norm: float | None = None


@dataclass
class Classified:
    """The test part's classes.

    Attributes:
        classes: C labels.
        targets: (N,) indices, -1 for an unknown label; or (N, C) bool, several labels at once.
        probabilities: (N, C).
        steps: Whether the N are steps that have a target, rather than sequences.
    """

    classes: Sequence[str]
    targets: np.ndarray
    probabilities: np.ndarray
    steps: bool = False


@dataclass
class Regressed:
    """The test part's numbers.

    Attributes:
        names: K names.
        targets: (M, K), a row a sequence or a step.
        predictions: (M, K).
    """

    names: Sequence[str]
    targets: np.ndarray
    predictions: np.ndarray


@dataclass
class Example:
    """One sequence, with what is true of it and what the network said.

    Attributes:
        name: Which it is, such as "test sequence 4711".
        truth: What is true, in words or figures.
        prediction: What was said.
        probability: The probability given to what was said.
        truth_probability: The probability given to what is true.
        values: Numbers, (T, D).
        tokens: The symbols of a text as they stood there.
        unknown: For each token whether it is missing from the vocabulary.
        weights: How much each step counts in a pooling by attention, (T,), with a sum of 1.
        target_steps: regress at every step: what is true, (T,).
        predicted_steps: regress at every step: what was said, (T,).
    """

    name: str
    truth: str
    prediction: str
    probability: float | None = None
    truth_probability: float | None = None
    values: np.ndarray | None = None
    tokens: Sequence[str] | None = None
    unknown: Sequence[bool] | None = None
    weights: np.ndarray | None = None
    target_steps: np.ndarray | None = None
    predicted_steps: np.ndarray | None = None


@dataclass
class StateTrace:
    """How the state went along one sequence.

    Attributes:
        name: Which sequence, such as "test sequence 3, class 7".
        states: (T, H).
        values: Numbers that went in, (T, D).
        tokens: Or the symbols that went in.
        unknown: For each token whether it is missing from the vocabulary.
    """

    name: str
    states: np.ndarray
    values: np.ndarray | None = None
    tokens: Sequence[str] | None = None
    unknown: Sequence[bool] | None = None


@dataclass
class Snapshot:
    """One sequence's input, target and prediction at one moment of training; each (T,)."""

    step: int
    time: np.ndarray
    input: np.ndarray
    target: np.ndarray
    prediction: np.ndarray


@dataclass
class Section:
    """A further section of a report, which a task has of its own.

    Attributes:
        title: Its heading.
        words: Paragraphs under it.
        figures: (caption, drawing) in order; a drawing is SVG or HTML.
        tables: (caption, column names, rows of cells); numbers are shown with four digits, texts as they are.
    """

    title: str
    words: Sequence[str] = ()
    figures: Sequence[tuple[str, Markup]] = ()
    tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[object]]]] = ()


@dataclass
class ReportContent:
    """Everything a report shows. What is left empty has no section.

    Attributes:
        title: The recipe's name.
        task: The task's name.
        main: The metric that the run is judged by.
        data: What the run learnt from.
        recipe: The recipe, complete, as nested tables.
        command: What to type to get this run again.
        seed: The run's seed.
        description: What the recipe is, in a line.
        higher_is_better: Of the main metric.
        test: metric -> value on the test part, or what `scored` names.
        intervals: metric -> 95 % interval.
        validation: metric -> value on the validation part, beside the test part.
        baselines: name -> metric -> value on the same part as `test`, of methods that learn nothing.
        scored: The part that `test` is of; "validation" where there is no test part.
        defaults: The recipe as it would be with nothing set: what differs is marked.
        history: The lines of metrics.jsonl.
        best_step: The update whose weights were kept.
        chosen_by: The metric by which they were the best, where it is not the main one.
        updates: What was measured at every update.
        result: The test part, predicted.
        examples: The sequences it got most wrong.
        images: Whether sequences are images read row by row: they are then drawn upright.
        states: The state along a few sequences.
        state_name: Which state it is.
        snapshots: Predictions at moments of training.
        model: The network in a line, such as "2 layers of lstm 128".
        parameters: How many it has.
        samples_seen: Sequences trained on, counted each time.
        samples: What a sample is: "sequences", "symbols".
        steps_seen: Steps of all samples seen, without padding.
        train_seconds: Time spent in training.
        timings: Further times in seconds, by what they were spent on.
        versions: Program -> version.
        warnings: What a person should know.
        finished: When the run ended.
        sections: Further sections, behind the examples.
        along: Where the network learnt from a stream: how many predictions `test` scores, each made before its target
            was seen. `validation` then scores the last of them, and so do the lines of `history`.
    """

    title: str
    task: str
    main: str
    data: DataSummary
    recipe: Mapping[str, Any]
    command: str
    seed: int
    description: str = ""
    higher_is_better: bool = True
    test: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    validation: Mapping[str, float] = field(default_factory=dict)
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    scored: str = "test"
    defaults: Mapping[str, Any] = field(default_factory=dict)
    history: Sequence[Mapping[str, Any]] = ()
    best_step: int | None = None
    chosen_by: str = ""
    updates: Updates | None = None
    result: Classified | Regressed | None = None
    examples: Sequence[Example] = ()
    images: bool = False
    states: Sequence[StateTrace] = ()
    state_name: str = "h, last layer"
    snapshots: Sequence[Snapshot] = ()
    model: str = ""
    parameters: int = 0
    samples_seen: int = 0
    samples: str = "sequences"
    steps_seen: int = 0
    train_seconds: float = 0.0
    timings: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    finished: str = ""
    sections: Sequence[Section] = ()
    along: int = 0


@dataclass
class SeedRun:
    """One of several runs that differ in their seed alone, or in their fold.

    Attributes:
        seed: Its seed.
        folder: Its folder, relative to the one that holds them all.
        test: metric -> value on the test part.
        train_seconds: Time spent in training.
        history: The lines of its metrics.jsonl.
        fold: Which fold was its test part; None where there are none.
    """

    seed: int
    folder: str
    test: Mapping[str, float]
    train_seconds: float = 0.0
    history: Sequence[Mapping[str, Any]] = ()
    fold: int | None = None

    @property
    def name(self) -> str:
        """Which run it is, as tables have it."""
        return str(self.seed) if self.fold is None else f"{self.seed}, fold {self.fold}"


@dataclass
class SeedsContent:
    """Everything a report over several seeds shows; fields as in `ReportContent`.

    Attributes:
        folds: How many runs of each seed there are, with another part of the data for the test; None where one.
    """

    title: str
    task: str
    main: str
    runs: Sequence[SeedRun]
    recipe: Mapping[str, Any]
    command: str
    description: str = ""
    higher_is_better: bool = True
    baselines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    parameters: int = 0
    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    finished: str = ""
    folds: int | None = None

    @property
    def over(self) -> str:
        """What means are over."""
        seeds = len({run.seed for run in self.runs})
        if self.folds is None:
            return f"{seeds} seeds"
        return f"{self.folds} folds" + (f" with {seeds} seeds" if seeds > 1 else "")


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as dotted keys.

    >>> flatten({"model": {"cell": "gru"}, "seed": 1})
    {'model.cell': 'gru', 'seed': 1}
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
