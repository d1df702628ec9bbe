"""report.html: one self-contained page that shows what a run came to, readable on a phone, in print and in the dark."""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from recurra.files import write_text
from recurra.run import figures
from recurra.run.content import (
    Classified,
    DataSummary,
    Example,
    Part,
    Regressed,
    ReportContent,
    SeedRun,
    SeedsContent,
    Snapshot,
    StateTrace,
    Updates,
    flatten,
)
from recurra.run.figures import FIRST, SECOND, Line, clean, number
from recurra.tasks.scores import confusion, mean_interval, per_class, shared_of

__all__ = [
    "METRICS",
    "Classified",
    "DataSummary",
    "Example",
    "Part",
    "Regressed",
    "ReportContent",
    "SeedRun",
    "SeedsContent",
    "Snapshot",
    "StateTrace",
    "Updates",
    "write_report",
    "write_seeds_report",
]

MATRIX_WITH_NUMBERS = 24
"""Up to so many classes the confusion matrix is a table of numbers, for more a picture."""

MOST_CLASSES = 200
"""Rows of the table of classes; a page with more would be too heavy for a phone."""

MOST_UNITS = 64
"""Units of the state that are drawn: those that vary most."""


def write_report(folder: Path, content: ReportContent) -> Path:
    """Write `report.html` into a run folder, whole or not at all.

    Returns:
        Its path.
    """
    return _write(folder, "report.html.j2", _report(content))


def write_seeds_report(folder: Path, content: SeedsContent) -> Path:
    """Write the `report.html` of several runs, with links to their own, into the folder that holds them.

    Returns:
        Its path.
    """
    return _write(folder, "seeds.html.j2", _seeds(content))


# How values are written


@dataclass(frozen=True)
class _Metric:
    label: str
    unit: Literal["share", "nats", ""] = ""


METRICS = {
    "accuracy": _Metric("accuracy", "share"),
    "sequence_accuracy": _Metric("accuracy of whole sequences, every step right", "share"),
    "f1": _Metric("F1, mean over classes", "share"),
    "f1_micro": _Metric("F1, over all decisions", "share"),
    "hamming_loss": _Metric("Hamming loss, labels wrongly said or left out", "share"),
    "precision": _Metric("precision", "share"),
    "recall": _Metric("recall", "share"),
    "intent_accuracy": _Metric("intent accuracy", "share"),
    "node_accuracy": _Metric("accuracy of nodes that have a label", "share"),
    "exact_match": _Metric("exact match, all of it right", "share"),
    "wer": _Metric("WER, words wrong over words that are true", "share"),
    "cer": _Metric("CER, characters wrong over characters that are true", "share"),
    "loss": _Metric("loss", "nats"),
    "rmse": _Metric("RMSE, root mean squared error"),
    "mae": _Metric("MAE, mean absolute error"),
    "mse": _Metric("MSE, mean squared error"),
    "r2": _Metric("R², variance explained"),
    "fit": _Metric("fit, 1 less the error's norm over that of the outputs about their mean", "share"),
    "one_step_rmse": _Metric("RMSE one step ahead, from the outputs measured before"),
    "mase": _Metric("MASE, absolute error over that of the seasonal naive forecast in training"),
    "smape": _Metric("sMAPE, symmetric percentage error, 0 to 200"),
    "pinball": _Metric("pinball loss, mean over the quantiles"),
    "coverage": _Metric("coverage, truths within the interval", "share"),
    "nll": _Metric("negative log-likelihood, a number", "nats"),
    "scaled_loss": _Metric("loss, in units of the scale"),
    "mse_normalised": _Metric("MSE, normalised"),
    "mae_normalised": _Metric("MAE, normalised"),
    "psnr": _Metric("PSNR, peak signal to noise, in decibels"),
    "ratio": _Metric("error ratio, squared error over that of holding the frame before"),
    "free_mse": _Metric("free MSE, of frames told from frames told before"),
    "free_ratio": _Metric("free error ratio, over that of holding the last frame given"),
}
"""How each metric is called and written; one that is not here goes by its own name."""

LABELS = {
    "tag": {"f1": "F1 of entities"},
    "notes": {
        "nll": "negative log-likelihood, a frame",
        "accuracy": "accuracy of sounding keys",
        "f1": "F1 of sounding keys",
    },
}
"""Task -> metric -> what it is called there."""

BASELINES = {
    "majority": "always the commonest class",
    "counts": "logistic regression on counts, blind to structure",
    "alone": "logistic regression on each node alone",
    "mean": "always the training mean",
    "last_frame": "always the frame before",
    "mean_frame": "always the mean frame",
}
"""What each baseline does, in words."""


def _metric(name: str) -> _Metric:
    """The metric of that name; "accuracy_first_128" is accuracy on the first 128."""
    found = re.fullmatch(r"(\w+)_first_(\d+)", name)
    if found:
        whole = _metric(found[1])
        return _Metric(f"{whole.label}, first {int(found[2]):,} of the test part", whole.unit)
    return METRICS.get(name, _Metric(name.replace("_", " ")))


def _short_label(name: str) -> str:
    """ "rmse" -> "RMSE", without the explanation that follows the comma."""
    return _metric(name).label.partition(",")[0]


def _value(name: str, value: float) -> str:
    unit = _metric(name).unit
    if unit == "share":
        written = f"{100 * value:.2f} %"
        return written.replace("-", "" if float(written[:-2]) == 0 else "−", 1)
    return f"{number(value)} nats" if unit == "nats" else number(value)


def _between(name: str, interval: Sequence[float] | None) -> str:
    """ "98.32 to 98.81 %"."""
    if interval is None:
        return ""
    low, high = (_value(name, bound) for bound in interval)
    unit = high.rpartition(" ")[1] + high.rpartition(" ")[2] if " " in high else ""
    return f"{low.removesuffix(unit)} to {high}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.2g} s" if value < 1 else f"{value:.1f} s"
    minutes, seconds = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds:02} s"


def _short(text: object, most: int = 60) -> str:
    """A text cut in its middle where it is longer than `most` characters."""
    written = clean(str(text))
    if len(written) <= most:
        return written
    return f"{written[: most // 2]}…{written[len(written) - most // 2 + 1 :]}"


def _cell(value: object) -> str:
    """A table's cell: whole numbers in groups of three, others with four digits, texts as they are."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value if isinstance(value, Markup) else _short(value, 200)
    return f"{value:,}" if isinstance(value, int) else number(value)


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@functools.cache
def templates() -> Environment:
    """The pages' templates, with their filters."""
    environment = Environment(
        loader=PackageLoader("recurra.run"),
        autoescape=True,
        finalize=_finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"cell": _cell, "short": _short, "number": number, "seconds": _seconds}
    environment.globals |= {"value": _value, "label": lambda name: _metric(name).label}
    return environment


def _write(folder: Path, template: str, view: Mapping[str, Any]) -> Path:
    path = Path(folder) / "report.html"
    write_text(path, templates().get_template(template).render(view))
    return path


# What the page of one run shows


@dataclass(frozen=True)
class _Figure:
    """A drawing and the words under it."""

    drawing: Markup
    caption: str


def _report(content: ReportContent) -> dict[str, Any]:
    view: dict[str, Any] = {
        "content": content,
        "headline": _headline(content),
        "facts": _facts(content),
        "warnings": _warnings(content),
        "score_rows": _score_rows(content),
        "training": _training(content),
        "snapshots": _snapshots(content.snapshots),
        "several": isinstance(content.result, Classified) and content.result.targets.ndim == 2,
        "counted": "steps" if isinstance(content.result, Classified) and content.result.steps else "sequences",
        "class_rows": [],
        "agreement": [],
        "matrix": None,
        "confusions": [],
        "examples": _examples(content),
        "example_words": _example_words(content),
        "states": _states(content),
        "class_counts": _class_counts(content.data),
        "recipe": _recipe_groups(content.recipe, content.defaults),
        "baseline_words": BASELINES,
        "columns": (ALONG, LAST) if content.along else (content.scored, "validation"),
        "anchors": [re.sub(r"\W+", "-", section.title.lower()).strip("-") for section in content.sections],
    }
    if isinstance(content.result, Classified):
        view |= _classes(content.result)
    elif isinstance(content.result, Regressed):
        view["agreement"] = _agreement(content.result)
    titles = {
        "scores": ("Scores", view["score_rows"]),
        "training": ("Training", view["training"]),
        "snapshots": ("Predictions while it learnt", view["snapshots"]),
        "classes": ("Class by class", view["class_rows"]),
        "agreement": ("Predicted against true", view["agreement"]),
        "examples": ("What it got most wrong", view["examples"]),
        **{anchor: (part.title, True) for anchor, part in zip(view["anchors"], content.sections, strict=True)},
        "states": ("The state along a sequence", view["states"]),
        "data": ("Data", True),
        "again": ("The same run again", True),
        "recipe": ("Recipe", True),
    }
    view["sections"] = {anchor: title for anchor, (title, there) in titles.items() if there}
    return view


def _headline(content: ReportContent) -> dict[str, Any]:
    """The number that the run is judged by, its interval, the baselines beside it, and all of them on one scale."""
    if content.main not in content.test:
        loss = content.updates.loss[-1] if content.updates is not None and len(content.updates.loss) else None
        return {
            "label": "training loss at the last update" if loss is not None else "no test part",
            "value": number(float(loss)) if loss is not None else "–",
            "interval": "",
            "sentence": "There was no test part to score.",
            "baselines": [],
            "scale": None,
        }
    main, value = content.main, content.test[content.main]
    interval = content.intervals.get(main)
    baselines = [
        (BASELINES.get(name, name), _value(main, scores[main]), scores[main])
        for name, scores in content.baselines.items()
        if main in scores
    ]
    return {
        "label": f"{_short_label(main)} along the stream"
        if content.along
        else f"{content.scored} {_short_label(main)}",
        "value": _value(main, value),
        "interval": _between(main, interval),
        "sentence": _sentence(content),
        "baselines": [(words, written) for words, written, _ in baselines],
        "scale": _scale(main, value, interval, [b for *_, b in baselines]),
    }


def _sentence(content: ReportContent) -> str:
    if content.along:
        return f"Each of {content.along:,} predictions was made before its target was seen."
    if content.scored == "validation":
        return "Of the validation part, by which the weights were chosen; there was no test part."
    result = content.result
    if isinstance(result, Classified):
        several = result.targets.ndim == 2
        if several:
            right = int(np.all((result.probabilities >= 0.5) == result.targets, axis=1).sum())
        else:
            right = int((result.probabilities.argmax(1) == result.targets).sum())
        what = "has exactly the right labels" if several else "gets the right class"
        plural = "have exactly the right labels" if several else "get the right class"
        total = len(result.targets)
        counted = "steps of the test sequences" if result.steps else "test sequences"
        said = f"{right:,} of {total:,} {counted} {plural if right != 1 else what}"
        whole = content.test.get("sequence_accuracy")
        return f"{said}." if whole is None else f"{said}; {100 * whole:.2f} % of the sequences are right at every step."
    if isinstance(result, Regressed) and "mae" in content.test:
        spread = float(result.targets.std())
        return (
            f"A prediction is off by {number(content.test['mae'], 3)} on average; "
            f"the true values spread by {number(spread, 3)} (standard deviation)."
        )
    return ""


def _scale(
    main: str, value: float, interval: Sequence[float] | None, baselines: Sequence[float]
) -> dict[str, Any] | None:
    """Places in per cent from the left; shares run from 0 to 1; errors, and rates that are beyond 1, to the worst
    shown."""
    low, high = interval if interval is not None else (value, value)
    worst = max(value, high, *baselines, 0.0)
    end = 1.0 if _metric(main).unit == "share" and worst <= 1 else 1.1 * worst
    if not (np.isfinite(end) and end > 0 and min(value, low, *baselines) >= 0):
        return None
    return {
        "value": 100 * value / end,
        "low": 100 * low / end,
        "width": 100 * (high - low) / end,
        "baselines": [100 * b / end for b in baselines],
        "end": "100 %" if _metric(main).unit == "share" and end == 1 else _value(main, end),
    }


def _facts(content: ReportContent) -> list[tuple[str, str]]:
    facts = [
        ("network", content.model),
        ("parameters", f"{content.parameters:,}" if content.parameters else ""),
        (
            "rows learnt from" if content.along else f"{content.samples} seen",
            f"{content.samples_seen:,}" if content.samples_seen else "",
        ),
        ("training time", _seconds(content.train_seconds) if content.train_seconds else ""),
        (
            "steps a second",
            f"{content.steps_seen / content.train_seconds:,.0f}"
            if content.steps_seen and content.train_seconds
            else "",
        ),
        ("seed", str(content.seed)),
    ]
    return [(name, said) for name, said in facts if said]


def _warnings(content: ReportContent) -> list[str]:
    unknown = int(content.test.get("unknown_labels", 0))
    if not unknown:
        return list(content.warnings)
    said = "sequence carries a label" if unknown == 1 else "sequences carry labels"
    return [
        *content.warnings,
        f"{unknown:,} test {said} that the training part does not have: wrong by rule, and left out of the loss.",
    ]


def _score_rows(content: ReportContent) -> list[dict[str, str]]:
    def cell(scores: Mapping[str, float], name: str) -> str:
        return _value(name, scores[name]) if name in scores else ""

    names = [n for n in {**content.test, **content.validation} if n != "unknown_labels"]
    labels = LABELS.get(content.task, {})
    return [
        {
            "label": labels.get(name, _metric(name).label),
            "test": cell(content.test, name),
            "interval": _between(name, content.intervals.get(name)),
            "validation": cell(content.validation, name),
            **{f"baseline {key}": cell(scores, name) for key, scores in content.baselines.items()},
        }
        for name in names
    ]


ALONG, LAST = "since the start", "last rows"
"""What the columns of scores are called, of a network that learnt from a stream."""


def _training(content: ReportContent) -> list[_Figure]:
    drawn = []
    part, count_of = (LAST, "rows") if content.along else ("validation", "updates")
    steps = np.array([line["step"] for line in content.history], dtype=float)
    measured = _history_metrics(content.history)
    updates = content.updates
    best = ""
    if content.best_step is not None and measured:
        by = f" by {_short_label(content.chosen_by)}" if content.chosen_by not in ("", content.main) else ""
        best = f" The weights kept are those after update {content.best_step:,}, the best on the validation part{by}."
    lines = []
    if updates is not None and len(updates.loss):
        count = np.arange(1, len(updates.loss) + 1, dtype=float)
        lines.append(Line("training", count, np.asarray(updates.loss, dtype=float), FIRST, noisy=True))
    elif content.history:
        lines.append(Line("training", steps, _column(content.history, "train_loss"), FIRST))
    if "loss" in measured:
        lines.append(Line(part, steps, measured["loss"], SECOND))
    if lines:
        caption = "Loss on what is learnt from: lower is better."
        if lines[0].noisy and len(lines[0].y) > figures.FEW_POINTS:
            caption += " The faint line is each batch, the strong one its moving mean."
        if "loss" in measured and not content.along:
            caption += " Where validation rises while training falls, the network begins to learn by heart."
        drawn.append(_Figure(figures.curves(lines, "loss", _words("Loss", lines), xlabel=count_of), caption))
    if content.main in measured and content.main != "loss":
        share = 100.0 if _metric(content.main).unit == "share" else 1.0
        line = Line(part, steps, share * measured[content.main], SECOND)
        label = f"{_short_label(content.main)}, {part}" if content.along else f"{part} {_short_label(content.main)}"
        label += ", %" if share == 100 else ""
        better = "higher" if content.higher_is_better else "lower"
        over = "over so many predictions at a time, made before" if content.along else "on the validation part"
        over += " their targets were seen" if content.along else ""
        caption = f"The metric that the run is judged by, {over}: {better} is better.{best}"
        drawn.append(_Figure(figures.curves([line], label, _words(label, [line]), xlabel=count_of), caption))
    norms = np.empty(0) if updates is None else np.asarray(updates.gradient_norm, dtype=float)
    bound = None if updates is None else updates.clip_norm
    if len(norms):
        line = Line("gradient norm", np.arange(1, len(norms) + 1, dtype=float), norms, FIRST, noisy=True)
    else:
        line = Line("gradient norm", steps, _column(content.history, "gradient_norm"), FIRST)
    if np.isfinite(line.y).any():
        caption = "Norm of the gradient before clipping. Sudden peaks are steps that would have thrown the weights far."
        if bound is not None:
            over = f"{100 * float(np.mean(line.y > bound)):.0f} %"
            caption += (
                f" Dashed: the bound {number(bound)}; above it a gradient is scaled down ({over} of the updates)."
            )
        words = _words("Gradient norm", [line])
        drawn.append(_Figure(figures.curves([line], "gradient norm", words, bound, xlabel=count_of), caption))
    rates = _column(content.history, "lr")
    if len(set(rates[np.isfinite(rates)])) > 1:
        line = Line("learning rate", steps, rates, FIRST)
        drawn.append(
            _Figure(
                figures.curves([line], "learning rate", _words("Learning rate", [line]), log=False),
                "The learning rate as its schedule had it.",
            )
        )
    return drawn


def _column(history: Sequence[Mapping[str, Any]], name: str) -> np.ndarray:
    return np.array([line.get(name, np.nan) for line in history], dtype=float)


def _history_metrics(history: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """metric -> its value on the validation part at each evaluation, NaN where it has none."""
    scores = [line.get("validation") or {} for line in history]
    names = dict.fromkeys(name for line in scores for name in line)
    return {name: np.array([line.get(name, np.nan) for line in scores], dtype=float) for name in names}


def _words(what: str, lines: Sequence[Line]) -> str:
    """A figure of curves for those who do not see it: where each begins and ends."""
    parts = []
    for line in lines:
        values = line.y[np.isfinite(line.y)]
        if len(values):
            parts.append(f"{line.label} from {number(values[0], 3)} to {number(values[-1], 3)}")
    return f"{what} over training: {'; '.join(parts)}"


def _classes(result: Classified) -> dict[str, Any]:
    several = result.targets.ndim == 2
    predictions = result.probabilities >= 0.5 if several else result.probabilities.argmax(1)
    rows = [{**row, "number": i} for i, row in enumerate(per_class(result.targets, predictions, result.classes))]
    largest = sorted(rows, key=lambda row: -row["support"])[:MOST_CLASSES]
    shown = sorted(largest, key=lambda row: row["number"])
    view: dict[str, Any] = {"class_rows": shown, "classes_left_out": len(rows) - len(shown)}
    if several:
        return view
    counts = confusion(result.targets, predictions, len(result.classes))
    off = counts - np.diag(np.diag(counts))
    worst = np.argsort(-off, axis=None, kind="stable")[:10]
    pairs = [np.unravel_index(place, off.shape) for place in worst]
    totals = counts.sum(1)
    view["confusions"] = [
        {
            "true": result.classes[i],
            "predicted": result.classes[j],
            "count": int(off[i, j]),
            "share": off[i, j] / totals[i],
        }
        for i, j in pairs
        if off[i, j]
    ]
    if len(counts) <= MATRIX_WITH_NUMBERS:
        share = counts / np.maximum(totals[:, None], 1)
        view["matrix"] = {
            "classes": list(result.classes),
            "upright": any(len(label) > 4 for label in result.classes),
            "rows": [
                (label, [(int(n), 0.6 * s**0.5) for n, s in zip(row, part, strict=True)])
                for label, row, part in zip(result.classes, counts, share, strict=True)
            ],
        }
    elif len(counts) <= 1000:
        view["matrix_picture"] = figures.confusion_picture(counts)
    return view


def _agreement(result: Regressed, most: int = 6) -> list[_Figure]:
    drawn = []
    for name, targets, predictions in zip(
        result.names[:most], np.asarray(result.targets).T, np.asarray(result.predictions).T, strict=False
    ):
        errors = predictions - targets
        drawn.append(
            _Figure(
                figures.agreement(targets, predictions, name),
                "Each dot is one prediction; on the dashed line it is exact. A cloud flatter than the line means "
                "that the network shies away from extreme values." + _of(len(targets), 1500),
            )
        )
        drawn.append(
            _Figure(
                figures.residuals(errors, name),
                f"How far off the predictions are. Orange: their mean, {number(float(errors.mean()), 3)}; the further "
                "from the dashed zero, the more the network leans to one side.",
            )
        )
    return drawn


def _of(count: int, shown: int) -> str:
    return f" Shown: {shown:,} of {count:,}, evenly taken." if count > shown else ""


def _snapshots(snapshots: Sequence[Snapshot]) -> list[_Figure]:
    if not snapshots:
        return []
    values = np.concatenate([np.concatenate([s.input, s.target, s.prediction]) for s in snapshots])
    margin = 0.06 * (float(values.max()) - float(values.min())) or 1.0
    limits = float(values.min()) - margin, float(values.max()) + margin
    drawn = []
    for s in snapshots:
        error = float(np.mean(np.square(s.prediction - s.target)))
        picture = figures.snapshot(s.time, s.input, s.target, s.prediction, limits, f"after update {s.step:,}")
        drawn.append(
            _Figure(picture, f"After {s.step:,} updates: mean squared error {number(error, 2)} on these steps.")
        )
    return drawn


# Sequences, drawn


@dataclass(frozen=True)
class _Token:
    text: str
    unknown: bool = False
    strength: float = 0.0
    gap: bool = False


def _tokens(
    tokens: Sequence[str], unknown: Sequence[bool] | None, strengths: np.ndarray | None = None, most: int = 80
) -> list[_Token]:
    """The tokens as shown: long texts cut in the middle, with a note of how many are left out."""
    missing = unknown if unknown is not None else [False] * len(tokens)
    strong = strengths if strengths is not None else np.zeros(len(tokens))
    shown = [_Token(_short(t, 40), bool(u), float(s)) for t, u, s in zip(tokens, missing, strong, strict=True)]
    if len(shown) <= most:
        return shown
    note = _Token(f"… {len(shown) - most:,} left out …", gap=True)
    return [*shown[: most // 2], note, *shown[len(shown) - most // 2 :]]


def _examples(content: ReportContent) -> list[dict[str, Any]]:
    numeric = [np.asarray(e.values, dtype=float) for e in content.examples if e.values is not None]
    among = np.concatenate([v.ravel() for v in numeric]) if numeric else np.zeros(1)
    limits = np.array([among.min(), among.max()])
    return [
        {
            "example": example,
            "drawing": _drawing(example, limits, content.images),
            "weights": _bar(example) if example.weights is not None and example.tokens is None else None,
            "tokens": None
            if example.tokens is None
            else _tokens(example.tokens, example.unknown, _strengths(example.weights)),
        }
        for example in content.examples
    ]


SHADED = "The darker a word, the more it counts in the pooling by attention."
BAR = "The bar below a sequence runs over its steps: the darker, the more a step counts in the pooling by attention."


def _bar(example: Example) -> Markup:
    """The weights of the pooling, step by step."""
    weights = np.asarray(example.weights)[:, None]
    heaviest = int(weights.argmax())
    said = f"Weights in the pooling; the heaviest, {number(float(weights.max()), 2)}, at step {heaviest + 1}"
    return figures.thumbnail(weights, np.array([0.0, weights.max()]), False, said)


def _strengths(weights: np.ndarray | None) -> np.ndarray | None:
    """How strongly each step is shaded, by its weight in the pooling: the heaviest most."""
    return None if weights is None else 0.6 * weights / (float(weights.max()) or 1.0)


def shaded(
    tokens: Sequence[str], unknown: Sequence[bool], weights: np.ndarray | None, unit: str, most: int = 80
) -> Markup:
    """A text whose tokens are the darker the more they weigh, as HTML."""
    macros: Any = templates().get_template("parts.html.j2").module
    return macros.text(_tokens(tokens, unknown, _strengths(weights), most), unit)


def _example_words(content: ReportContent) -> str:
    """How to read the drawings of the examples."""
    if not content.examples:
        return ""
    first = content.examples[0]
    if isinstance(content.result, Classified):
        said = "Test sequences given a wrong class, those first whose true class was thought least likely (p)."
        if content.result.steps:
            said = (
                "Test sequences with a wrong step, those first whose true labels were thought least likely; the labels "
            )
            said += "of all steps that have one, in order."
        elif content.result.targets.ndim == 2:
            said = "Test sequences given wrong labels, those first whose true set was thought least likely."
    else:
        said = "Test sequences whose predictions are furthest off, worst first."
    if first.target_steps is not None:
        return f"{said} Blue is true, orange predicted, over time."
    if first.tokens is not None:
        said += " Dotted underlines mark what is not in the vocabulary and so looks alike to the network."
        return said if first.weights is None else f"{said} {SHADED}"
    if content.images:
        return said if first.weights is None else f"{said} {BAR}"
    if first.weights is not None:
        said = f"{said} {BAR}"
    wide = first.values is not None and np.asarray(first.values).shape[1] > 3
    return f"{said} Time runs to the right" + (", a line for each number of a step." if wide else ".")


def _drawing(example: Example, limits: np.ndarray, images: bool) -> Markup | None:
    alternative = f"{example.name}: true {_short(example.truth)}, predicted {_short(example.prediction)}"
    if example.target_steps is not None and example.predicted_steps is not None:
        return figures.sparkline([(example.target_steps, "first"), (example.predicted_steps, "second")], alternative)
    if example.values is None:
        return None
    values = np.asarray(example.values, dtype=float)
    if values.shape[1] <= 3 and not images:
        colours: tuple[Literal["first", "second", "third"], ...] = ("first", "second", "third")
        return figures.sparkline(list(zip(values.T, colours, strict=False)), alternative)
    return figures.thumbnail(values, limits, images, alternative)


def _states(content: ReportContent) -> list[dict[str, Any]]:
    if not content.states:
        return []
    everything = np.concatenate([np.asarray(trace.states, dtype=float) for trace in content.states])
    units = np.sort(np.argsort(-everything.var(0), kind="stable")[:MOST_UNITS])
    last = np.mean([np.asarray(trace.states, dtype=float)[-1, units] for trace in content.states], axis=0)
    units = units[np.argsort(last, kind="stable")]
    limit = float(np.abs(everything[:, units]).max())
    drawn = []
    for trace in content.states:
        states = np.asarray(trace.states, dtype=float)
        moved = np.linalg.norm(np.diff(states, axis=0, prepend=0 * states[:1]), axis=1)
        values = None if trace.values is None else np.asarray(trace.values, dtype=float)
        tokens = None
        if trace.tokens is not None:
            strength = (moved - moved.min()) / (float(np.ptp(moved)) or 1.0)
            tokens = _tokens(trace.tokens, trace.unknown, 0.6 * strength, most=160)
        drawn.append(
            {
                "name": trace.name,
                "drawing": figures.state(states[:, units], values, limit, trace.name),
                "tokens": tokens,
                "limit": number(limit, 2),
                "units": len(units),
                "of": states.shape[1],
            }
        )
    return drawn


# Data and recipe


def _class_counts(data: DataSummary) -> list[dict[str, Any]]:
    parts = [part for part in data.parts if part.counts is not None]
    if not parts:
        return []
    largest = max((max(part.counts, default=0) for part in parts if part.counts is not None), default=0) or 1
    rows = [
        {
            "class": label,
            "counts": [part.counts[i] for part in parts if part.counts is not None],
            "bar": (parts[0].counts or [0])[i] / largest,
        }
        for i, label in enumerate(data.classes)
    ]
    return rows[:MOST_CLASSES]


def _recipe_groups(recipe: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Table of the recipe ("" for the settings outside any) -> its settings."""
    usual = flatten(defaults)
    groups: dict[str, list[dict[str, Any]]] = {}
    for key, value in flatten(recipe).items():
        table, _, name = key.rpartition(".") if "." not in key else key.partition(".")
        groups.setdefault(table, []).append(
            {
                "key": name,
                "value": "–" if value is None or value == [] or value == {} or value == "" else _toml(value),
                "set": bool(usual) and key not in ("name", "description") and usual.get(key, ...) != value,
            }
        )
    return groups


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return ", ".join(_toml(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


# What the page of several seeds shows


def _seeds(content: SeedsContent) -> dict[str, Any]:
    names = [n for n in dict.fromkeys(n for run in content.runs for n in run.test) if n != "unknown_labels"]
    values = {n: np.array([run.test[n] for run in content.runs if n in run.test]) for n in names}
    main = values.get(content.main, np.empty(0))
    shared = shared_of(content.folds)
    interval = mean_interval(main, shared=shared, metric=content.main)
    share = 100.0 if _metric(content.main).unit == "share" else 1.0
    drawn = []
    if len(main) == len(content.runs) and len(main):
        picture = figures.seed_dots(
            [run.seed if run.fold is None else run.fold for run in content.runs],
            share * main,
            None if interval is None else (share * interval[0], share * interval[1]),
            f"test {_short_label(content.main)}" + (", %" if share == 100 else ""),
            "seed" if content.folds is None else "fold",
        )
        caption = "Each dot is one run; the line is their mean"
        caption += ", the band its 95 % interval." if interval is not None else "."
        drawn.append(_Figure(picture, caption))
    lines = []
    for run in content.runs:
        measured = _history_metrics(run.history)
        if content.main in measured:
            steps = np.array([line["step"] for line in run.history], dtype=float)
            lines.append(Line("", steps, share * measured[content.main], SECOND))
    if lines:
        label = f"validation {_short_label(content.main)}" + (", %" if share == 100 else "")
        better = "higher" if content.higher_is_better else "lower"
        what = "seeds" if content.folds is None else "runs"
        drawn.append(
            _Figure(
                figures.curves(lines, label, f"{label} over training, a line for each of {len(lines)} {what}"),
                f"A line for each {what[:-1]}, on its validation part: {better} is better. How far the lines lie apart "
                "shows how much chance there is in a single run.",
            )
        )
    baselines = [
        (BASELINES.get(name, name), _value(content.main, scores[content.main]), scores[content.main])
        for name, scores in content.baselines.items()
        if content.main in scores
    ]
    mean = float(main.mean()) if len(main) else float("nan")
    return {
        "content": content,
        "headline": {
            "label": f"test {_short_label(content.main)}, mean over {content.over}",
            "value": _value(content.main, mean) if len(main) else "–",
            "interval": _between(content.main, interval),
            "sentence": _spread(content.main, main),
            "baselines": [(words, written) for words, written, _ in baselines],
            "scale": _scale(content.main, mean, interval, [b for *_, b in baselines]) if len(main) else None,
        },
        "facts": [
            (name, said)
            for name, said in (
                ("network", content.model),
                ("parameters", f"{content.parameters:,}" if content.parameters else ""),
                ("runs", str(len(content.runs))),
                ("training time, all runs", _seconds(sum(run.train_seconds for run in content.runs))),
            )
            if said
        ],
        "warnings": list(content.warnings),
        "names": names,
        "means": [
            (n, _value(n, float(v.mean())), _deviation(n, v), _between(n, mean_interval(v, shared=shared, metric=n)))
            for n, v in values.items()
        ],
        "figures": drawn,
        "recipe": _recipe_groups(content.recipe, content.defaults),
        "sections": {
            "scores": "Scores over the seeds" if content.folds is None else "Scores over the folds",
            "runs": "Each run",
            "again": "The same runs again",
            "recipe": "Recipe",
        },
    }


def _deviation(name: str, values: np.ndarray) -> str:
    if len(values) < 2:
        return ""
    deviation = float(values.std(ddof=1))
    return f"{100 * deviation:.2f} points" if _metric(name).unit == "share" else number(deviation, 2)


def _spread(name: str, values: np.ndarray) -> str:
    if len(values) < 2:
        return ""
    low, high = float(values.min()), float(values.max())
    return f"Standard deviation {_deviation(name, values)}; the runs range from {_between(name, (low, high))}."
