"""What the report of a forecaster shows: forecasts over the truth, errors by horizon, other methods, calibration."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes

from recurra.data.series import SeriesWindows
from recurra.run.content import Section
from recurra.run.figures import FIRST, MUTED, SECOND, THIRD, Line, curves, number, plotted
from recurra.run.training import Training
from recurra.tasks.forecast import Forecast, Forecasts
from recurra.tasks.forecast_baselines import Baseline

DRAWN, SERIES, ROLLING = 6, 3, 240
"""Windows that are drawn, series of which they are, and the steps of a rolling forecast that are."""


def sections(training: Training, part: SeriesWindows, said: Forecasts | None) -> Sequence[Section]:
    """The sections of a forecaster's report; none where there is neither a test nor a validation part."""
    task = training.task
    if said is None or not len(said) or not isinstance(task, Forecast):
        return []
    found = [_drawn(task, said), _beside(task, said)]
    if said.data.horizon > 1:
        found.append(_by_horizon(task, said, task.others(said.data)))
    if said.quantiles is not None:
        found.append(_calibration(training, task, said))
    return found


def _named(task: Forecast, said: Forecasts, which: int, target: int) -> str:
    """A series and target by name, as far as there are several."""
    names = []
    if len(said.data.series) > 1:
        names.append(str(said.data.series.ids[which]))
    if len(task.schema.targets) > 1 or not names:
        names.append(task.schema.targets[target])
    return ", ".join(names)


def _drawn(task: Forecast, said: Forecasts) -> Section:
    """Forecasts with their intervals over what is true."""
    level = said.levels[said.bounds[1]] - said.levels[said.bounds[0]]
    words = [
        f"The line is what is true, the dashed one the forecast, the band its interval of {100 * level:.3g} %. What is "
        "right of an origin has not been seen by its forecast."
    ]
    series = np.unique(said.data.places[:, 0])
    series = series[np.unique(np.linspace(0, len(series) - 1, min(SERIES, len(series))).round().astype(int))]
    targets = range(min(len(task.schema.targets), SERIES))
    pairs = [(int(one), k) for one in series for k in targets][: max(SERIES, 1)]
    figures = []
    for which, k in pairs:
        own = np.flatnonzero(said.data.places[:, 0] == which)
        if said.data.horizon == 1:
            figures.append(_rolling(task, said, own, which, k))
            continue
        each = max(1, DRAWN // len(pairs))
        for w in own[np.unique(np.linspace(0, len(own) - 1, min(each, len(own))).round().astype(int))]:
            figures.append(_window(task, said, int(w), which, k))
    return Section("Forecasts", words, figures)


def _rolling(task: Forecast, said: Forecasts, own: np.ndarray, which: int, k: int) -> tuple[str, Markup]:
    """Forecasts of one step each, one origin after another: the last ones."""
    own = own[-ROLLING:]
    times = _times(task, said.data.times[own, 0])
    name = _named(task, said, which, k)
    truth, mean = said.targets[own, 0, k], said.mean[own, 0, k]

    def paint(axes: Axes) -> None:
        steps = np.arange(len(own))
        if said.lower is not None and said.upper is not None:
            axes.fill_between(steps, said.lower[own, 0, k], said.upper[own, 0, k], color=SECOND, alpha=0.2, linewidth=0)
        axes.plot(steps, truth, color=FIRST, label="true")
        axes.plot(steps, mean, color=SECOND, label="forecast", linestyle=(0, (3, 1.5)))
        _dated(axes, times, steps)

    caption = f"{name}, forecast one step ahead, {times[0]} to {times[-1]}"
    return caption, plotted(paint, f"{caption}: from {_range(mean)}; true {_range(truth)}")


def _window(task: Forecast, said: Forecasts, w: int, which: int, k: int) -> tuple[str, Markup]:
    """One window: the end of its past, and its forecast over the truth."""
    data = said.data
    before = min(data.context, max(2 * data.horizon, 24))
    rows = data.at([w], -before, data.horizon)[:, 0]
    times = _times(task, data.series.times[rows])
    steps = np.arange(-before, data.horizon)
    truth, mean = data.series.targets[rows, k], said.mean[w, :, k]

    def paint(axes: Axes) -> None:
        ahead = steps[before:]
        if said.lower is not None and said.upper is not None:
            axes.fill_between(ahead, said.lower[w, :, k], said.upper[w, :, k], color=SECOND, alpha=0.2, linewidth=0)
        axes.plot(steps, truth, color=FIRST, label="true")
        axes.plot(ahead, mean, color=SECOND, label="forecast", linestyle=(0, (3, 1.5)))
        axes.axvline(-0.5, color=MUTED, linewidth=0.8)
        _dated(axes, times, steps)

    caption = f"{_named(task, said, which, k)}, origin {times[before]}"
    return caption, plotted(paint, f"{caption}: forecast {_range(mean)}; true {_range(truth[before:])}")


def _range(values: np.ndarray) -> str:
    known = values[np.isfinite(values)]
    return f"{number(float(known.min()))} to {number(float(known.max()))}" if len(known) else "unknown"


def _times(task: Forecast, times: np.ndarray) -> list[str]:
    return [str(time) for time in task.schema.axis.written(times)]


def _dated(axes: Axes, times: Sequence[str], steps: np.ndarray) -> None:
    """Three of the times below the axis, for more would run into each other."""
    axes.set_xlabel(f"{times[0]}  to  {times[-1]}; steps")
    if len(steps) > 1:
        axes.set_xlim(float(steps[0]), float(steps[-1]))


def _beside(task: Forecast, said: Forecasts) -> Section:
    """What methods without a network make of the same origins."""
    compared, rows, words = task.compared(said), [], []
    for other, score, paired in sorted(compared, key=lambda item: item[1]):
        cells = ("", "", "") if paired is None else (
            paired.mean, f"{number(paired.low)} to {number(paired.high)}", paired.verdict
        )  # fmt: skip
        rows.append((other.name, score, *cells))
        words.append(f"{other.name}: {other.words}.")
    told = (
        f"From the same origins. The difference is that of the mean {task.compared_by}, the network's less the other "
        "method's: below zero the network is better. Its interval is that of Diebold and Mariano's test, as corrected "
        "by Harvey, Leybourne and Newbold; where it holds zero, the two are not shown to differ."
    )
    heads = ("method", task.main_metric, "difference", "95 % interval", "the network is")
    caption = f"Methods without a network, beside the network's {number(task.scored(said).metrics()[task.main_metric])}"
    return Section("Other methods", [*task.findings_of(compared, said), told, *words], tables=[(caption, heads, rows)])


def _by_horizon(task: Forecast, said: Forecasts, others: Sequence[Baseline]) -> Section:
    """The error of each step ahead."""
    steps = np.arange(said.data.horizon)
    metric = "mse_normalised" if task.settings.normalised_scores else "mae"

    def line(label: str, forecasts: np.ndarray, colour: str) -> Line:
        scored = task.scored_as(said, forecasts)
        return Line(
            label, steps + 1, np.array([scored.metrics(slice(h, h + 1)).get(metric, np.nan) for h in steps]), colour
        )

    lines = [line("network", said.mean, FIRST)]
    best = sorted(others, key=lambda other: task.scored_as(said, other.forecasts).metrics()[task.main_metric])
    lines += [line(other.name, other.forecasts, colour) for other, colour in zip(best, (SECOND, THIRD), strict=False)]
    first, last = lines[0].y[0], lines[0].y[-1]
    alternative = f"{metric} by step ahead: the network's from {number(first)} to {number(last)}"
    drawing = curves(lines, metric.replace("_", " "), alternative, log=False, xlabel="steps ahead")
    words = "How the error grows with the distance from the origin, beside the two best of the other methods."
    return Section("Error by horizon", [words], [("Error of each step ahead", drawing)])


def _calibration(training: Training, task: Forecast, said: Forecasts) -> Section:
    """Whether as many truths lie below each quantile as are to."""
    shares = task.scored(said).shares_below()
    levels = np.array(said.levels)

    def paint(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
        axes.plot(levels, shares, color=FIRST, marker="o", markersize=5)
        axes.set_xlabel("level of the quantile")
        axes.set_ylabel("share of truths below it")

    low, high = said.bounds
    coverage = task.scores(said)["coverage"]
    words = [
        f"An interval of {100 * (levels[high] - levels[low]):.3g} % is to hold as many truths; it holds "
        f"{100 * coverage:.3g} %."
    ]
    if said.loss_name == "scaled_loss" and training.recipe.model.output == "point":
        words.append(
            "The network says one number; the quantiles are those of its errors on the validation part, step by step."
        )
    drawing = plotted(
        paint,
        "Share of truths below each quantile: "
        + ", ".join(f"{level:g}: {share:.3f}" for level, share in zip(levels, shares, strict=True)),
    )
    return Section("Calibration", words, [("Quantiles told, and truths below them", drawing)])
