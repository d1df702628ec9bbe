"""What a benchmark found: as tables, as JSON, as a plot."""

import json
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from recurra.bench.check import Fault
from recurra.bench.figures import Figure, Goal, Mean
from recurra.bench.peers import PEERS
from recurra.bench.shapes import SHAPES, Shape
from recurra.bench.suites import SUITES
from recurra.files import replacing, write_text

if TYPE_CHECKING:
    from recurra.bench.run import Settings

FORMAT = 1
"""Of the JSON; it changes when a reader of the last one would be misled."""

YES, NO = "yes", "no"


@dataclass
class Report:
    """Everything that was found.

    Attributes:
        settings: What was asked for.
        machine: What it was measured on.
        versions: Of everybody.
        date: When it began.
        notes: Who was left out and why, how ours ran; in order, each once.
        faults: Who does not compute what is to be computed.
        figures: The ratios.
        means: Their geometric means.
        stopped: Whether it was interrupted.
    """

    settings: "Settings"
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    date: datetime
    notes: Iterable[str] = ()
    faults: list[Fault] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    means: list[Mean] = field(default_factory=list)
    stopped: bool = False

    def heading(self) -> str:
        """Where it was measured, in one line."""
        packages = ", ".join(f"{name} {version}" for name, version in self.versions.items() if name != "python")
        return (
            f"{self.machine['cpu']}, {self.machine['instruction_set']}, {self.settings.threads} of "
            f"{self.machine['processors']} processors; {packages}"
        )

    def tables(self) -> list[Table]:
        """A table for each suite, and one of the geometric means."""
        suites = dict.fromkeys(figure.suite for figure in self.figures)
        found = [_table(name, [f for f in self.figures if f.suite == name]) for name in suites]
        return [*found, _of_means(self.means)] if self.means else found

    def to_json(self) -> str:
        """All of it, every sample included."""
        return json.dumps(
            {
                "format": FORMAT,
                "date": self.date.isoformat(timespec="seconds"),
                "stopped": self.stopped,
                "settings": asdict(self.settings),
                "machine": dict(self.machine),
                "versions": dict(self.versions),
                "notes": list(self.notes),
                "faults": [str(fault) for fault in self.faults],
                "figures": [_figure(figure) for figure in self.figures],
                "means": [_mean(mean) for mean in self.means],
            },
            ensure_ascii=False,
            indent=1,
        )

    def write_json(self, path: Path) -> None:
        """Write the JSON.

        Raises:
            RunError: The file cannot be written.
        """
        write_text(path, self.to_json() + "\n")

    def write_plot(self, path: Path) -> None:
        """Draw the ratios as bars, as the file's ending says: PNG, SVG or PDF.

        Raises:
            RunError: The file cannot be written.
        """
        from recurra.bench.plot import draw

        with replacing(path) as temporary:
            draw(self, temporary, path.suffix.removeprefix("."))


def choices() -> list[Table]:
    """What can be asked for: suites, shapes and peers, and what each is."""
    suites, shapes, peers = tables = [
        Table("suite", "what is measured", "shapes", "peers", box=None, pad_edge=False),
        Table("shape", "sizes", box=None, pad_edge=False),
        Table("peer", "what it is", "installed", box=None, pad_edge=False),
    ]
    for suite in SUITES.values():
        suites.add_row(suite.name, suite.summary, ", ".join(map(str, suite.shapes)), ", ".join(suite.peers))
    for shape in SHAPES.values():
        shapes.add_row(shape.name, shape.sizes)
    for peer in PEERS.values():
        peers.add_row(peer.name, peer.summary, _yes(not peer.missing()))
    return tables


def quantity(value: float, unit: str) -> str:
    """A time or a size in the unit that suits it: "1.23 ms", "64.0 MB"."""
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    scale, name = next(((s, n) for s, n in ((1.0, "s"), (1e-3, "ms")) if value >= s), (1e-6, "µs"))
    return f"{value / scale:.3g} {name}" if value < 100 * scale else f"{value / scale:.0f} {name}"


def _table(name: str, figures: list[Figure]) -> Table:
    suite = SUITES[name]
    table = Table(title=f"{name}: {suite.summary}", title_justify="left", box=None, pad_edge=False)
    for column in ("cell", "sizes", "ours", "against", "theirs", suite.value, "quartiles", "goal", "reached"):
        table.add_column(column, justify="left" if column in ("cell", "sizes", "against", "reached") else "right")
    last = None
    for figure in figures:
        same = (figure.cell, figure.shape) == last
        last = (figure.cell, figure.shape)
        ratio, goal = figure.ratio, figure.goal
        table.add_row(
            "" if same else figure.cell,
            "" if same else _described(figure.shape),
            quantity(statistics.median(figure.samples[figure.ours]), figure.unit),
            figure.against,
            quantity(statistics.median(figure.samples[figure.theirs]), figure.unit),
            f"{ratio.value:.2f}",
            f"{ratio.low:.2f} to {ratio.high:.2f}",
            "" if goal is None else str(goal),
            "" if goal is None else _yes(goal.reached(ratio.value)),
        )
    return table


def _of_means(means: list[Mean]) -> Table:
    table = Table(title="geometric means", title_justify="left", box=None, pad_edge=False)
    for column in ("suite", "cells", "against", "mean", "of", "goal", "reached"):
        table.add_column(column, justify="right" if column in ("mean", "goal") else "left")
    for mean in means:
        goal = mean.goal
        table.add_row(
            goal.suite,
            ", ".join(goal.cells),
            goal.against,
            f"{mean.value:.2f}",
            f"{mean.count}" if mean.count == mean.whole else f"{mean.count} of {mean.whole}",
            f"≥ {goal.mean:g}",
            _yes(mean.reached),
        )
    return table


def _described(shape: Shape) -> str:
    return f"{shape.name} {shape.sizes}" if shape.name else shape.sizes


def _yes(reached: bool) -> str:
    return YES if reached else NO


def _figure(figure: Figure) -> dict[str, Any]:
    goal = figure.goal
    return {
        "suite": figure.suite,
        "cell": figure.cell,
        "shape": asdict(figure.shape),
        "against": figure.against,
        "ratio": asdict(figure.ratio),
        "says": SUITES[figure.suite].value,
        "goal": _bounds(goal),
        "reached": None if goal is None else goal.reached(figure.ratio.value),
        "backend": figure.backend,
        "unit": figure.unit,
        "ours": figure.ours,
        "theirs": figure.theirs,
        "samples": {name: figure.samples[name] for name in (figure.ours, figure.theirs)},
    }


def _bounds(goal: Goal | None) -> dict[str, float] | None:
    if goal is None:
        return None
    return {name: bound for name in ("least", "most") if (bound := getattr(goal, name)) is not None}


def _mean(mean: Mean) -> dict[str, Any]:
    goal = mean.goal
    return {
        "suite": goal.suite,
        "cells": list(goal.cells),
        "against": goal.against,
        "mean": mean.value,
        "figures": mean.count,
        "of": mean.whole,
        "goal": goal.mean,
        "reached": mean.reached,
    }
