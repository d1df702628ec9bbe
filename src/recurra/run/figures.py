"""The figures of a report, as inline SVG that takes its colours and its typeface from the page.

Matplotlib draws with placeholder colours, which are then replaced by the page's CSS variables, so that one drawing
is legible on a light and on a dark ground; text stays text, so that the browser finds the glyphs of any script.
"""

import base64
import functools
import hashlib
import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, ParamSpec
from xml.etree import ElementTree

import numpy as np
from cycler import cycler
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import imsave
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

P = ParamSpec("P")

WIDTH = 420
"""Width of a figure in pixels of the page as designed: two stand side by side on a desk, one fills a phone."""

INK, MUTED, GRID, FIRST, SECOND, THIRD = "#010101", "#010102", "#010103", "#010104", "#010105", "#010106"
VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", FIRST: "first", SECOND: "second", THIRD: "third"}
"""Placeholder colour -> CSS variable of the page."""

POSITIVE, NEGATIVE = (0x3B, 0x82, 0xD0), (0xE0, 0x76, 0x2F)
"""Hues of positive and negative values in heat maps: strong enough on white and on near-black."""

MOST_POINTS = 600
"""A curve of more points than this is drawn by its mean and range over as many stretches."""

FEW_POINTS = 40
"""Up to so many points a noisy curve is drawn as it is, unsmoothed, and any other with a mark at each."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "recurra",  # equal figures are equal bytes
    "text.parse_math": False,  # a class may be called "$5"
    "font.family": ["DejaVu Sans"],
    "font.size": 13,
    "axes.labelsize": 13,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "axes.unicode_minus": True,
    "axes.prop_cycle": cycler(color=[FIRST, SECOND, THIRD]),
    "figure.facecolor": "none",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 13,
    "legend.handlelength": 1.4,
    "path.simplify_threshold": 0.2,
}


@dataclass(frozen=True)
class Line:
    """One curve. A noisy one is drawn faint, with a smoothed line over it; any other with a mark at every point."""

    label: str
    x: np.ndarray
    y: np.ndarray
    colour: str = FIRST
    noisy: bool = False


# How a Matplotlib figure becomes a part of the page


def _drawn(painter: Callable[P, tuple[Figure, str]]) -> Callable[P, Markup]:
    """Make a painter, which returns a figure and its alternative text, return inline SVG."""

    @functools.wraps(painter)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Markup:
        with rc_context(STYLE), warnings.catch_warnings():
            # Text is only measured here; the browser draws it, and has the glyphs that Matplotlib's font lacks.
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from", category=UserWarning)
            warnings.filterwarnings("ignore", message=r"Matplotlib currently does not support", category=UserWarning)
            figure, alternative = painter(*args, **kwargs)
            _mark_lone_points(figure)
            buffer = io.StringIO()
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
        return _inline(buffer.getvalue(), alternative)

    return draw


def _mark_lone_points(figure: Figure) -> None:
    """Give points of unmarked curves that have no neighbour, which a line alone would not show, a mark."""
    for axes in figure.axes:
        for line in axes.get_lines():
            there = np.isfinite(np.asarray(line.get_ydata(), dtype=float))
            beside = np.pad(there, 1)
            lone = there & ~beside[:-2] & ~beside[2:]
            if lone.any() and line.get_marker() in ("None", "", None) and line.get_linestyle() != "None":
                line.set_marker("o")
                line.set_markersize(4)
                line.set_markevery(np.flatnonzero(lone).tolist())


def _inline(drawing: str, alternative: str) -> Markup:
    """A stand-alone SVG file as an element of the page: no namespaces, no names of its own that could clash."""
    alternative = clean(alternative)
    prefix = "f" + hashlib.sha256((drawing + alternative).encode()).hexdigest()[:8]
    root = ElementTree.fromstring(drawing)
    for parent in list(root.iter()):
        for child in list(parent):
            if _plain(child.tag) in {"metadata", "style"}:
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(value for e in root.iter() for value in e.attrib.values())))
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.tail = None
        if element.tag not in {"text", "tspan"}:
            element.text = None
        attributes = {_plain(name): value for name, value in element.attrib.items()}
        if "id" in attributes and attributes["id"] not in used:
            del attributes["id"]
        kept = {name: _attribute(name, value, prefix) for name, value in attributes.items()}
        element.attrib = {name: value for name, value in kept.items() if value}
    for size in ("width", "height", "version"):
        root.attrib.pop(size, None)
    root.attrib |= {"class": "figure", "role": "img", "aria-label": alternative}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, prefix: str) -> str:
    if name == "id":
        return f"{prefix}{value}"
    if name == "href":
        return f"#{prefix}{value[1:]}" if value.startswith("#") else value.replace("\n", "")
    if name in {"d", "x", "y", "points"}:
        return re.sub(r"-?\d+\.\d+", lambda found: f"{float(found[0]):.2f}", value).replace("\n", "")
    if name == "transform" and value.startswith("rotate(-0 "):
        return ""
    if name in {"style", "clip-path"}:
        value = re.sub(r"font-family: [^;]*;? ?", "", value).replace("url(#", f"url(#{prefix}")
        for placeholder, variable in VARIABLES.items():
            value = value.replace(placeholder, f"var(--{variable})")
    return value


def clean(text: str) -> str:
    """Text that may stand in a page: control characters shown by their pictures, halves of characters replaced.

    >>> clean(f"a{chr(0)}b")
    'a␀b'
    """
    text = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", lambda found: chr(0x2400 + ord(found[0])), text)
    return re.sub("[\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def number(value: float, digits: int = 4) -> str:
    """A number as one writes it: 12,500; 0.0312; 4.1e-07; a true minus sign.

    >>> number(12500), number(0.03125), number(-2)
    ('12,500', '0.03125', '−2')
    """
    text = f"{value:.{digits}g}"
    if 1000 <= abs(float(text)) < 1e9:
        text = f"{value:,.0f}"
    return text.replace("-", "−", 1) if text.startswith("-") else text


def _label(axes: Axes, xlabel: str = "", ylabel: str = "", log: bool = False) -> None:
    """The house's labels: the y label lies flat over the axis, where a phone's reader need not turn the head."""
    axes.set_xlabel(clean(xlabel))
    axes.set_title(clean(ylabel), color=MUTED, pad=10)
    plain = FuncFormatter(lambda value, _: number(value))
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(plain)
    axes.xaxis.set_major_formatter(plain)


def _sheet(height: int = 250, width: int = WIDTH) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width / 72, height / 72), layout="constrained")
    return figure, figure.subplots()


# Curves over training


@_drawn
def curves(
    lines: Sequence[Line],
    ylabel: str,
    alternative: str,
    bound: float | None = None,
    log: bool = True,
    xlabel: str = "updates",
) -> tuple[Figure, str]:
    """Curves over the updates of training, or over the rows of a stream.

    Args:
        lines: What to draw; values that are not finite are left out.
        ylabel: What is drawn, with its unit.
        alternative: The figure in words.
        bound: Drawn as a dashed line, such as the bound of clipping.
        log: Whether the axis is logarithmic where the values span more than a factor of 30.
        xlabel: What is counted along it.
    """
    figure, axes = _sheet()
    finite = [_finite(line) for line in lines]
    values = np.concatenate([line.y for line in finite])
    log = log and bool(values.size) and values.min() > 0 and values.max() > 30 * values.min()
    _label(axes, xlabel, ylabel, log)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if log and values.max() < 1000 * values.min():
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))  # powers of ten alone would leave one or two marks
    for line in finite:
        _noisy(axes, line) if line.noisy else _marked(axes, line)
    if bound is not None:
        axes.axhline(bound, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    if sum(bool(line.label) for line in lines) > 1:
        figure.legend(loc="outside lower center", ncols=len(lines), columnspacing=1.4)
    return figure, alternative


def _finite(line: Line) -> Line:
    x, y = np.asarray(line.x, dtype=float), np.asarray(line.y, dtype=float)
    kept = np.isfinite(x) & np.isfinite(y)
    return Line(line.label, x[kept], y[kept], line.colour, line.noisy)


def _marked(axes: Axes, line: Line) -> None:
    marker = "o" if len(line.x) <= FEW_POINTS else ""
    axes.plot(line.x, line.y, color=line.colour, label=line.label, marker=marker, markersize=3.5)


def _noisy(axes: Axes, line: Line) -> None:
    count = len(line.x)
    if count > MOST_POINTS:
        x, low, mean, high = (
            reduce(line.x if i == 0 else line.y, MOST_POINTS // 2)[k] for i, k in enumerate((1, 0, 1, 2))
        )
        axes.fill_between(x, low, high, color=line.colour, alpha=0.22, linewidth=0)
    else:
        x, mean = line.x, line.y
        if count > FEW_POINTS:
            axes.plot(x, mean, color=line.colour, alpha=0.35, linewidth=0.9)
    axes.plot(*smooth(x, mean), color=line.colour, label=line.label)


def smooth(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over a window of a thirtieth of the curve (of whole windows only); one of up to `FEW_POINTS` as it is."""
    window = len(y) // 30
    if len(y) <= FEW_POINTS or window < 2:
        return x, y
    weights = np.full(window, 1 / window)
    return np.convolve(x, weights, "valid"), np.convolve(y, weights, "valid")


def reduce(values: np.ndarray, stretches: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least, mean and greatest value of each of so many stretches of equal length (to within one)."""
    bounds = np.linspace(0, len(values), stretches + 1).astype(int)[:-1]
    counts = np.diff(bounds, append=len(values))
    return (
        np.minimum.reduceat(values, bounds),
        np.add.reduceat(values, bounds) / counts,
        np.maximum.reduceat(values, bounds),
    )


# Predictions of numbers


@_drawn
def agreement(targets: np.ndarray, predictions: np.ndarray, name: str, most: int = 1500) -> tuple[Figure, str]:
    """Predicted against true, with the line on which they agree; at most `most` points, evenly taken."""
    figure, axes = _sheet(300)
    chosen = np.unique(np.linspace(0, len(targets) - 1, most).astype(int)) if len(targets) > most else slice(None)
    x, y = targets[chosen], predictions[chosen]
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = 0.04 * (high - low) or 1.0
    _label(axes, f"true {name}", f"predicted {name}")
    axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.plot([low, high], [low, high], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    # All points as one path of dots (strokes of no length with round ends): a tenth of the bytes of as many markers.
    dots = Outline(np.repeat(np.stack([x, y], axis=1), 2, axis=0), [Outline.MOVETO, Outline.LINETO] * len(x))
    axes.add_patch(PathPatch(dots, edgecolor=FIRST, linewidth=3.2, capstyle="round", alpha=0.6))
    return figure, f"Predicted against true {name}, {len(x)} points from {number(low)} to {number(high)}"


@_drawn
def residuals(errors: np.ndarray, name: str) -> tuple[Figure, str]:
    """How the errors (predicted minus true) are spread, with their mean."""
    figure, axes = _sheet(300)
    _label(axes, f"predicted − true {name}", "how many")
    low, high = float(errors.min()), float(errors.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):  # one value, to rounding: a single bar
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    bars = min(40, max(5, int(len(errors) ** 0.5)))
    axes.hist(errors, bins=bars, range=(low, high), color=FIRST, alpha=0.7)
    axes.axvline(0, color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
    axes.axvline(float(errors.mean()), color=SECOND)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, f"Histogram of {len(errors)} errors of {name}, mean {number(float(errors.mean()))}"


@_drawn
def snapshot(
    time: np.ndarray,
    given: np.ndarray,
    target: np.ndarray,
    prediction: np.ndarray,
    limits: tuple[float, float],
    title: str,
) -> tuple[Figure, str]:
    """Input, target and prediction over time at one moment of training; `limits` of the y axis, shared by all."""
    figure, axes = _sheet(230)
    _label(axes, "time", title)
    axes.set_ylim(*limits)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.plot(time, given, color=MUTED, linestyle="", marker=".", markersize=4, label="input")
    axes.plot(
        time, target, color=FIRST, linestyle="", marker="o", markersize=4.5, markerfacecolor="none", label="target"
    )
    axes.plot(time, prediction, color=SECOND, label="prediction")
    figure.legend(loc="outside lower center", ncols=3, columnspacing=1.4)
    error = float(np.mean(np.square(prediction - target)))
    return figure, f"{title}: input, target and prediction over time; mean squared error {number(error, 2)}"


# Heat maps


@_drawn
def confusion_picture(counts: np.ndarray) -> tuple[Figure, str]:
    """The confusion matrix of many classes as a picture: share of each row, errors in the other hue."""
    figure, axes = _sheet(WIDTH)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    signed = np.sqrt(share) * np.where(np.eye(len(share), dtype=bool), 1, -1)  # the root makes rare errors visible
    axes.imshow(signed_rgba(signed, 1.0), interpolation="none", origin="upper")
    _label(axes, "predicted class", "true class")
    axes.grid(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(8, integer=True))
    return figure, f"Confusion matrix of {len(share)} classes"


@_drawn
def weights_map(weights: np.ndarray, columns: Sequence[str], rows: Sequence[str], name: str) -> tuple[Figure, str]:
    """Weights from 0 to 1 between two texts, the stronger the larger.

    Args:
        weights: (R, C).
        columns: C symbols, above.
        rows: R symbols, on the left.
        name: What it is, for those who do not see it.
    """
    longest = max(map(len, columns), default=0)
    figure, axes = _sheet(60 + 7 * min(longest, 20) + 19 * len(rows))
    axes.imshow(signed_rgba(np.sqrt(weights), 1.0), interpolation="none", aspect="auto")  # the root shows small ones
    axes.grid(False)
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(columns)), [clean(c) for c in columns], rotation=90)
    axes.set_yticks(range(len(rows)), [clean(r) for r in rows])
    axes.tick_params(length=0, labelsize=11)
    axes.spines[:].set_visible(False)
    return figure, name


@_drawn
def state(states: np.ndarray, inputs: np.ndarray | None, limit: float, name: str) -> tuple[Figure, str]:
    """The state over time as a heat map, with the input under it on the same time axis.

    Args:
        states: (T, H); long ones are drawn by the mean of stretches.
        inputs: (T, D) numbers: up to three a step as curves, more as a heat map; None where there are none.
        limit: The state of the strongest colour.
        name: What the sequence is, for the alternative text.
    """
    steps = len(states)
    figure = Figure(figsize=(WIDTH / 72, (250 if inputs is None else 340) / 72), layout="constrained")
    upper, *lower = np.atleast_1d(
        figure.subplots(1 if inputs is None else 2, sharex=True, height_ratios=None if inputs is None else [2.6, 1])
    ).tolist()
    extent = (0.5, steps + 0.5, -0.5, states.shape[1] - 0.5)
    picture = signed_rgba(shortened(states).T, limit)
    upper.imshow(picture, interpolation="none", origin="lower", aspect="auto", extent=extent)
    _label(upper, "" if lower else "time step", "unit of the state")
    for axes in lower:
        assert inputs is not None
        _label(axes, "time step", "input")
        if inputs.shape[1] <= 3:
            for channel, colour in zip(inputs.T, (FIRST, SECOND, THIRD), strict=False):
                axes.plot(np.arange(1, steps + 1), channel, color=colour, linewidth=1.2)
        else:
            picture, _ = value_rgba(shortened(inputs).T, inputs)
            extent = (0.5, steps + 0.5, -0.5, inputs.shape[1] - 0.5)
            axes.imshow(picture, interpolation="none", origin="lower", aspect="auto", extent=extent)
            axes.grid(False)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    for axes in (upper, *lower):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    upper.grid(False)
    upper.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return figure, f"State of {states.shape[1]} units over {steps} steps of {name}"


@_drawn
def over_time(panels: Sequence[tuple[str, np.ndarray]], name: str) -> tuple[Figure, str]:
    """Values over the same steps as heat maps, one below another.

    Args:
        panels: What each is called, and (T, K) numbers, the stronger the larger; each has a scale of its own.
        name: What it is, for those who do not see it.
    """
    tall = [min(max(values.shape[1], 8), 32) for _, values in panels]
    figure = Figure(figsize=(WIDTH / 72, (60 + 4.5 * sum(tall) + 14 * len(panels)) / 72), layout="constrained")
    drawn = np.atleast_1d(figure.subplots(len(panels), sharex=True, height_ratios=tall)).tolist()
    for axes, (label, values) in zip(drawn, panels, strict=True):
        extent = (0.5, len(values) + 0.5, -0.5, values.shape[1] - 0.5)
        picture = signed_rgba(shortened(values).T, float(np.abs(values).max()))
        axes.imshow(picture, interpolation="none", origin="lower", aspect="auto", extent=extent)
        _label(axes, "time step" if axes is drawn[-1] else "", label)
        axes.grid(False)
        axes.yaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    return figure, name


def shortened(values: np.ndarray, most: int = 300) -> np.ndarray:
    """(T, K) with T at most `most`: the mean of each stretch of steps."""
    if len(values) <= most:
        return values
    bounds = np.linspace(0, len(values), most + 1).astype(int)[:-1]
    return np.add.reduceat(values, bounds, axis=0) / np.diff(bounds, append=len(values))[:, None]


def signed_rgba(values: np.ndarray, limit: float) -> np.ndarray:
    """(…) -> (…, 4) uint8: hue by sign, opacity by size, so that zero is the ground of the page, light or dark."""
    hue = np.where((values >= 0)[..., None], POSITIVE, NEGATIVE)
    opacity = np.clip(np.abs(values) / (limit or 1.0), 0, 1)
    return np.concatenate([hue, np.rint(255 * opacity)[..., None]], axis=-1).astype(np.uint8)


def value_rgba(values: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, bool]:
    """Colours for input values, and whether they are plain ink, scaled to the range of `among`.

    Values of one sign (an image's grey levels) become ink of that opacity, others blue and orange around zero.
    """
    low, high = float(np.min(among)), float(np.max(among))
    if low < 0 < high:
        return signed_rgba(values, max(-low, high)), False
    opacity = np.clip((values - low) / ((high - low) or 1.0), 0, 1)
    picture = np.full((*values.shape, 4), 0x80, dtype=np.uint8)
    picture[..., 3] = np.rint(255 * opacity)
    return picture, True


# Small drawings of one sequence


def thumbnail(values: np.ndarray, among: np.ndarray, by_rows: bool, alternative: str) -> Markup:
    """A sequence of many numbers a step as a picture.

    Args:
        values: (T, D).
        among: All values on whose range the colours are scaled.
        by_rows: Whether time runs downward, as in an image read row by row, rather than to the right.
        alternative: The picture in words.
    """
    values = shortened(np.asarray(values, dtype=float), 120)
    picture, ink = value_rgba(values if by_rows else values.T, among)
    if ink:
        picture[..., :3] = 0
    buffer = io.BytesIO()
    imsave(buffer, picture, format="png")
    source = base64.b64encode(buffer.getvalue()).decode()
    shape = "picture" if by_rows else "strip"
    height, width = picture.shape[:2]
    return Markup('<img class="{}{}" alt="{}" width="{}" height="{}" src="data:image/png;base64,{}">').format(
        shape, " ink" if ink else "", alternative, width, height, source
    )


def sparkline(
    channels: Sequence[tuple[np.ndarray, Literal["muted", "first", "second", "third"]]], alternative: str
) -> Markup:
    """A small plot without axes: curves over the same time axis and the same range of values."""
    width, height, margin = 200, 70, 3
    longest = max(len(values) for values, _ in channels)
    everything = np.concatenate([np.asarray(values, dtype=float) for values, _ in channels])
    low, high = float(everything.min()), float(everything.max())
    paths = []
    for values, colour in channels:
        values = np.asarray(values, dtype=float)
        x = np.arange(len(values)) * (width / max(longest - 1, 1))
        if len(values) > 2 * width:
            least, _, greatest = reduce(values, width)
            values, x = np.stack([least, greatest], axis=1).ravel(), np.repeat(np.arange(width), 2) + 0.5
        y = margin + (height - 2 * margin) * (1 - (values - low) / ((high - low) or 1.0))
        if len(values) == 1:
            x, y = np.array([0.0, width]), np.repeat(y, 2)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        paths.append(Markup('<polyline points="{}" style="stroke: var(--{})"/>').format(points, colour))
    return Markup(
        '<svg class="spark" role="img" aria-label="{}" viewBox="0 0 {} {}" preserveAspectRatio="none">{}</svg>'
    ).format(alternative, width, height, Markup("").join(paths))


# What draws itself


@_drawn
def plotted(plot: Callable[[Axes], Any], alternative: str, height: int = 280, ticks: bool = True) -> tuple[Figure, str]:
    """What is drawn by a function of Matplotlib's axes, in the house's style: its colours by number are the page's.

    Args:
        plot: Draws.
        alternative: The figure in words.
        height: In pixels.
        ticks: Whether the vertical axis has numbers.
    """
    figure, axes = _sheet(height)
    plot(axes)
    label = axes.get_ylabel()
    axes.set_ylabel("")
    is_log = axes.get_yscale() == "log"
    _label(axes, axes.get_xlabel(), label, is_log)
    if is_log:
        axes.yaxis.set_major_locator(LogLocator(numticks=7))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    if not ticks:
        axes.yaxis.set_major_locator(NullLocator())
    lines, labels = axes.get_legend_handles_labels()
    if len(labels) > 1:
        figure.legend(lines, labels, loc="outside lower center", ncols=min(3, len(labels)), columnspacing=1.4)
    return figure, alternative


# Several seeds


@_drawn
def seed_dots(
    seeds: Sequence[int], values: np.ndarray, interval: tuple[float, float] | None, label: str, what: str = "seed"
) -> tuple[Figure, str]:
    """The score of each seed (or fold) as a dot, their mean as a line, the interval of the mean as a band."""
    figure, axes = _sheet(240)
    _label(axes, what, label)
    if interval is not None:
        axes.axhspan(*interval, color=FIRST, alpha=0.18, linewidth=0)
    axes.axhline(float(values.mean()), color=FIRST)
    axes.plot(range(len(seeds)), values, color=SECOND, linestyle="", marker="o", markersize=6)
    shown = range(0, len(seeds), max(1, len(seeds) // 10))
    axes.set_xticks(list(shown), [str(seeds[i]) for i in shown])
    axes.set_xlim(-0.6, len(seeds) - 0.4)
    runs = "seeds" if what == "seed" else "runs"
    return figure, f"{label} of {len(seeds)} {runs}, from {number(values.min())} to {number(values.max())}"
