"""What the report of a simulated system shows: measured and simulated along time, the error, and what is left in it."""

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recurra.data.systems import Signals
from recurra.run.content import Section
from recurra.run.figures import FIRST, MUTED, SECOND, number, plotted, reduce
from recurra.run.training import Training
from recurra.tasks.simulate import Simulate, Simulated, fit

RECORDS, OUTPUTS, DRAWN, CLOSE = 3, 4, 1500, 200
"""Records and outputs that are drawn; points of a line at most; steps of the stretch that is drawn close up."""

LAGS = 60


def sections(training: Training, part: Signals, said: Simulated | None) -> list[Section]:
    """The sections of a simulator's report; none where there is neither a test nor a validation part."""
    task = training.task
    if said is None or said.targets is None or not isinstance(task, Simulate):
        return []
    return [_along(task, said), _error(task, said)]


def _names(task: Simulate) -> list[str]:
    return task.schema.outputs[:OUTPUTS]


def _axis(task: Simulate, steps: np.ndarray) -> tuple[np.ndarray, str]:
    period = task.schema.period
    return (steps * period, "seconds") if period else (steps.astype(np.float64), "steps")


def _along(task: Simulate, said: Simulated) -> Section:
    """Measured and simulated outputs of a few records."""
    assert said.targets is not None
    figures: list[tuple[str, Markup]] = []
    for i in range(min(RECORDS, len(said))):
        rows, start = said.rows(i), int(said.starts[i])
        steps = np.arange(start, start + rows.stop - rows.start)
        for k, name in enumerate(_names(task)):
            true, out = said.targets[rows, k], said.outputs[rows, k]
            figures.append(_drawn(task, f"{said.name(i)}, {name}", steps, true, out))
            if len(steps) > 5 * CLOSE:
                worst = int(np.abs(out - true).argmax())
                first = max(0, min(len(steps) - CLOSE, worst - CLOSE // 2))
                close = slice(first, first + CLOSE)
                caption = f"{said.name(i)}, {name}, close up where the error is largest"
                figures.append(_drawn(task, caption, steps[close], true[close], out[close]))
    head = ("record", "output", "steps", "RMSE", "fit, %", "RMSE one step ahead")
    table = []
    for i in range(min(30, len(said))):
        rows = said.rows(i)
        for k, name in enumerate(_names(task)):
            true, out = said.targets[rows, k : k + 1], said.outputs[rows, k : k + 1]
            one = "" if said.ahead is None else _rms(said.ahead[rows, k : k + 1] - true)
            table.append((said.name(i), name, len(true), _rms(out - true), 100 * fit(true, out), one))
    words = [
        "The network is given the inputs, and of the outputs the first "
        f"{int(said.starts.max())} steps alone; from there on it lives on what it has said itself."
    ]
    return Section("Measured and simulated", words, figures, [("Records", head, table)])


def _drawn(task: Simulate, caption: str, steps: np.ndarray, true: np.ndarray, out: np.ndarray) -> tuple[str, Markup]:
    axis, unit = _axis(task, steps)

    def paint(axes: Axes) -> None:
        if len(axis) > DRAWN:  # the band between least and largest of each stretch
            for values, colour, label in ((true, FIRST, "measured"), (out, SECOND, "simulated")):
                low, _, high = reduce(values, DRAWN // 2)
                x = reduce(axis, DRAWN // 2)[1]
                axes.fill_between(x, low, high, color=colour, alpha=0.5, linewidth=0.5, label=label)
        else:
            axes.plot(axis, true, color=FIRST, label="measured")
            axes.plot(axis, out, color=SECOND, label="simulated", linestyle=(0, (3, 1.5)))
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(5))

    rms = _rms(out - true)
    spoken = f"{caption}: measured {_range(true)}, simulated {_range(out)}, root mean squared error {number(rms)}"
    return f"{caption}; RMSE {number(rms)}", plotted(paint, spoken)


def _error(task: Simulate, said: Simulated) -> Section:
    """The error along the first record, and its autocorrelation."""
    assert said.targets is not None
    figures: list[tuple[str, Markup]] = []
    rows, start = said.rows(0), int(said.starts[0])
    axis, unit = _axis(task, np.arange(start, start + rows.stop - rows.start))
    for k, name in enumerate(_names(task)):
        errors = said.outputs[rows, k] - said.targets[rows, k]

        def along(axes: Axes, errors: np.ndarray = errors) -> None:
            if len(axis) > DRAWN:
                low, _, high = reduce(errors, DRAWN // 2)
                axes.fill_between(reduce(axis, DRAWN // 2)[1], low, high, color=SECOND, linewidth=0.5)
            else:
                axes.plot(axis, errors, color=SECOND)
            axes.axhline(0, color=MUTED, linewidth=0.8)
            axes.set_xlabel(unit)
            axes.xaxis.set_major_locator(MaxNLocator(5))

        caption = f"{said.name(0)}, {name}: simulated less measured"
        figures.append((caption, plotted(along, f"{caption}, {_range(errors)}")))
        found = autocorrelation(errors, LAGS)
        bound = 1.96 / len(errors) ** 0.5

        def correlated(axes: Axes, found: np.ndarray = found, bound: float = bound) -> None:
            axes.vlines(np.arange(1, len(found)), 0, found[1:], color=SECOND, linewidth=2)
            for level in (-bound, bound):
                axes.axhline(level, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            axes.axhline(0, color=MUTED, linewidth=0.8)
            axes.set_xlabel("steps apart")

        caption = f"{said.name(0)}, {name}: autocorrelation of the error; between the dashed lines nothing is left"
        spoken = f"{caption}; {number(float(found[1]) if len(found) > 1 else 0.0)} one step apart"
        figures.append((caption, plotted(correlated, spoken)))
    words = [
        "Errors of a free run follow one another, for what was wrong is fed back. If they did not, one lag in twenty "
        "would stand beyond the dashed lines, 1.96 / √n, by chance."
    ]
    return Section("The error", words, figures)


def autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """The autocorrelation of a series at lags 0 to `lags`, (lags + 1,); fewer where it is shorter."""
    about = values - values.mean()
    total = float(about @ about)
    most = min(lags, len(about) - 1)
    return np.array([1.0, *(float(about[k:] @ about[:-k]) / (total or 1.0) for k in range(1, most + 1))])


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _range(values: np.ndarray) -> str:
    return f"{number(float(values.min()))} to {number(float(values.max()))}"
