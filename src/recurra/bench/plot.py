"""The ratios of a benchmark as bars."""

from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from recurra.bench.figures import Figure
from recurra.bench.suites import SUITES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from recurra.bench.report import Report

WIDTH, ROW, MARGIN = 9.0, 0.2, 0.9
"""Inches: of the page, of a bar, and of a suite's title and scale."""

KINDS = ("png", "svg", "pdf")
"""Endings of the files that can be drawn."""

REACHED, MISSED, WITHOUT = "tab:green", "tab:red", "tab:gray"


def draw(report: "Report", path: Path, kind: str) -> None:
    """One part a suite, a bar a figure, its quartiles as a whisker, its goal as a black mark; a logarithmic scale."""
    suites = list(dict.fromkeys(figure.suite for figure in report.figures))
    parts = [[f for f in report.figures if f.suite == name] for name in suites]
    heights = [ROW * len(part) + MARGIN for part in parts]
    canvas = Canvas(figsize=(WIDTH, sum(heights) + MARGIN), layout="constrained")
    FigureCanvasAgg(canvas)
    canvas.suptitle(report.heading().replace("; ", "\n"), fontsize="small")
    axes = canvas.subplots(len(parts), 1, squeeze=False, height_ratios=heights)[:, 0]
    for name, part, ax in zip(suites, parts, axes, strict=True):
        _suite(ax, name, part)
    canvas.savefig(path, format=kind)


def _suite(ax: "Axes", name: str, figures: list[Figure]) -> None:
    suite = SUITES[name]
    values = [figure.ratio.value for figure in figures]
    whiskers = [
        [max(f.ratio.value - f.ratio.low, 0.0) for f in figures],
        [max(f.ratio.high - f.ratio.value, 0.0) for f in figures],
    ]
    places = range(len(figures))
    ax.barh(places, values, xerr=whiskers, color=[_colour(f) for f in figures], height=0.7, ecolor="black")
    bounds = [() if f.goal is None else (f.goal.least, f.goal.most) for f in figures]
    for place, pair in zip(places, bounds, strict=True):
        for bound in pair:
            if bound is not None:
                values.append(bound)
                ax.plot([bound, bound], [place - 0.45, place + 0.45], color="black", linewidth=2)
    ax.set_xscale("log")
    ax.set_xlim(min(0.5, *values) / 1.2, max(2.0, *values) * 1.2)
    ax.axvline(1.0, color="black", linewidth=0.8, linestyle=":")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_yticks(places, [f"{f.cell}, {f.shape}: {f.against}" for f in figures], fontsize="x-small")
    ax.invert_yaxis()
    ax.margins(y=0.01)
    ax.set_title(f"{name}: {suite.summary}", fontsize="small", loc="left")
    ax.set_xlabel(suite.value, fontsize="small")


def _colour(figure: Figure) -> str:
    if figure.goal is None:
        return WITHOUT
    return REACHED if figure.goal.reached(figure.ratio.value) else MISSED
