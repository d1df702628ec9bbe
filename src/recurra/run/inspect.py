"""`recurra inspect`: the instruments of `recurra.analysis` on a run's own network and sequences."""

import json
import os
import re
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from markupsafe import Markup
from rich.table import Table

from recurra.analysis import GradientFlow, Inspection, MemoryCapacity, Part
from recurra.analysis import inspect as inspected
from recurra.engine.threads import suited
from recurra.errors import DataError, RecipeError, RunError
from recurra.files import write_text
from recurra.nn import NARX, NTM, TDNN
from recurra.nn.graph import GCN, MPNN, MessagePassing
from recurra.nn.tree import TreeLayer
from recurra.run.api import Run
from recurra.run.figures import number, plotted
from recurra.run.finish import versions
from recurra.run.report import templates
from recurra.tasks.forecaster import NoLayers

BEGIN, END = "<!-- instruments -->", "<!-- end of instruments -->"
"""Around what is put into report.html, so that it is found again."""

SEQUENCES = 32
"""How many are looked at where nothing is said."""

NO_RECURRENCE = (NARX, TDNN)
"""Networks that the instruments have nothing to measure in."""

COLUMNS: dict[str, Literal["left", "right"]] = {
    "layer": "left",
    "gradient to 1 %": "right",
    "factor": "right",
    "γ": "right",
    "norm": "right",
    "radius": "right",
    "λ": "right",
    "gates and units": "left",
}
"""What stands in a table for each layer and direction."""


@dataclass
class Inspected:
    """What the instruments say of a run.

    Attributes:
        run: The run.
        found: What was found.
        source: The sequences, in words.
        sequences: How many they are.
        has_loss: Whether the gradients are those of the run's own loss; else, where no targets are known, random ones.
        warnings: What a person should know.
        command: What makes it again.
    """

    run: Run
    found: Inspection
    source: str
    sequences: int
    has_loss: bool
    warnings: list[str]
    command: str

    @property
    def page(self) -> Path:
        """The page with the figures."""
        return self.run.path / "inspect.html"

    def to_json(self) -> str:
        """All numbers."""
        told = {
            "format_version": 1,
            "task": self.run.recipe.task,
            "data": self.source,
            "sequences": self.sequences,
            "gradients": "loss" if self.has_loss else "random",
            "versions": versions(),
            "words": self.found.words,
            "inspection": self.found.to_dict(),
        }
        return json.dumps(told, ensure_ascii=False, allow_nan=False)

    def table(self) -> Table:
        """The numbers of each layer and direction, for a terminal."""
        table = Table(title=f"{self.run.path}: {self.source}", title_justify="left", box=None, pad_edge=False)
        for column, justify in COLUMNS.items():
            table.add_column(column, justify=justify)
        for part in self.found.parts:
            table.add_row(*_row(part).values())
        return table

    def write(self) -> None:
        """Write inspect.json and inspect.html into the run folder, and the gradients into its report.

        What an earlier inspection wrote there is replaced.
        """
        view = _view(self)
        write_text(self.run.path / "inspect.json", self.to_json())
        write_text(self.page, templates().get_template("inspect.html.j2").render(view))
        if self.run.report.is_file():
            section = templates().get_template("instruments.html.j2").render(view)
            write_text(self.run.report, into_report(self.run.report.read_text("utf-8"), section))


def inspect(
    path: str | os.PathLike[str], data: Any = None, *, sequences: int = SEQUENCES, input_format: str | None = None
) -> Inspected:
    """Measure gradient flow, Jacobians, gates and memory in the network of a run; nothing is written.

    Args:
        path: The run folder.
        data: Sequences, as for `Run.predict`; the run's own test part when left out, else its validation part.
        sequences: At most so many of them, evenly taken.
        input_format: How `data` is laid out, where that is another way than the training data's.

    Returns:
        What was found; `.write()` puts it into the run folder.

    Raises:
        RecurraError: No run, one that is not finished or damaged, or data that do not fit, in words.
    """
    if not isinstance(sequences, int) or sequences < 1:
        raise RecipeError(f"sequences: a whole number from 1 is expected, not {sequences!r}")
    run = Run(path)
    network, task = run.network, run.task
    if isinstance(network.get_submodule(task.inspected), NTM):
        raise RunError(
            f"{run.path}: its network is a neural Turing machine, and the instruments follow states, not the memory "
            "beside them; its report shows where it reads and writes"
        )
    if isinstance(layers := network.get_submodule(task.inspected), (*NO_RECURRENCE, NoLayers)):
        what = network.words or f"a {type(layers).__name__}"
        raise RunError(f"{run.path}: its network is {what}, and has no recurrence to look into")
    if isinstance(layers, (TreeLayer, MessagePassing, GCN, MPNN)):
        raise RunError(f"{run.path}: its network is {network.words}; the instruments look along time, and it has none")
    if data is None:
        part, source, warnings = _own(run)
    else:
        part, warnings = task.reader.part(data, run.schema, format=input_format)
        source = str(data) if isinstance(data, (str, os.PathLike)) else "the data given"
    if not len(part):
        raise DataError(f"{source}: there is no sequence in it")
    batch, which = task.few(part, sequences)
    batch = batch.to(torch.device("cpu"), next(network.parameters()).dtype)
    loss = (lambda returned: task.loss(network, returned[0], batch)) if task.has_targets(batch) else None
    with suited(network, len(batch)):
        found = inspected(network, batch.inputs, layer=task.inspected, loss=loss)
    if which:
        source = f"{which} of {source}"
    command = _command(run.path, data, sequences, input_format)
    return Inspected(run, found, source, len(batch), loss is not None, warnings, command)


def _command(path: Path, data: Any, sequences: int, input_format: str | None) -> str:
    """The command line of an inspection; DATA stands for sequences that came from Python."""
    words = ["recurra", "inspect", str(path)]
    if data is not None:
        words += ["--data", str(data) if isinstance(data, (str, os.PathLike)) else "DATA"]
    if sequences != SEQUENCES:
        words += ["--sequences", str(sequences)]
    if input_format is not None:
        words += ["--input-format", input_format]
    return shlex.join(words)


def _own(run: Run) -> tuple[Any, str, list[str]]:
    """The run's own test part, else its validation part, else what it was trained on; and which that is."""
    recipe = run.recipe
    if "stream" in run.schema.settings:
        stream = run.summary["data"]["sources"]["train"]
        raise RunError(f"{run.path}: it learnt from a stream ({stream}), and keeps none of its rows; --data names some")
    if recipe.data.path is None and recipe.data.name is None:
        raise RunError(f"{run.path}: its data were given from Python, and are not kept; --data names some")
    parts = run.task.reader.parts(None, recipe.task, recipe.data, seed=recipe.seed, kept=run.schema)
    named = {"test": parts.test, "validation": parts.validation, "training": parts.train}
    name, part = next((name, part) for name, part in named.items() if part is not None and len(part))
    warnings = []
    if parts.fingerprint != run.summary["data"]["fingerprint"]:
        warnings.append("the data are no longer those that the run was trained on")
    return part, f"the {name} part", warnings


def into_report(page: str, section: str) -> str:
    """A report with a section of its own for the instruments, in the place of an earlier one."""
    page = re.sub(f"{BEGIN}.*?{END}\n?", "", page, flags=re.DOTALL)
    before, place, after = page.partition('<section id="data">')
    return f"{before}{BEGIN}\n{section}\n{END}\n{place}{after}" if place else page


# What the pages show


def _view(told: Inspected) -> dict[str, Any]:
    run, found = told.run, told.found
    reach = _furthest(found.parts)
    figures = [_figures(part) for part in found.parts]
    gradients = "the run's own loss" if told.has_loss else "random directions, since no targets are known"
    return {
        "content": {
            "title": run.recipe.name,
            "task": run.recipe.task,
            "description": f"Instruments on {told.source}: where gradients go, and what the state keeps.",
            "finished": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        },
        "headline": {
            "label": "the gradient reaches back" if reach.flow.verdict != "explodes" else "the gradient",
            "value": _reach(reach),
            "interval": "",
            "sentence": found.words[found.parts.index(reach)] if len(found.parts) == 1 else reach.flow.words,
            "baselines": [],
            "scale": None,
        },
        "facts": [
            (
                "network",
                f"{reach.cell}, {', '.join(dict.fromkeys(str(part.units) for part in found.parts))} state units",
            ),
            ("layers and directions", str(len(found.parts))),
            ("sequences", str(told.sequences)),
            ("steps of the longest", f"{max(part.steps for part in found.parts):,}"),
            ("gradients of", gradients),
        ],
        "warnings": told.warnings,
        "sections": {
            "found": "What was found",
            "numbers": "In numbers",
            **{f"part-{k}": _titled(part, found) for k, part in enumerate(found.parts)},
            **({"capacity": "Memory capacity"} if found.capacity is not None else {}),
            "again": "The same again",
        },
        "words": found.words,
        "rows": [_row(part) for part in found.parts],
        "parts": [
            {"title": _titled(part, found), "figures": drawn} for part, drawn in zip(found.parts, figures, strict=True)
        ],
        "flows": [drawn[0] for part, drawn in zip(found.parts, figures, strict=True) if part.flow.span],
        "nowhere": [f"{part.name}: {part.flow.words}" for part in found.parts if not part.flow.span],
        "capacity": None if found.capacity is None else _capacity_figures(found.capacity),
        "command": told.command,
        "versions": versions(),
    }


def _furthest(parts: list[Part]) -> Part:
    """The part that the headline is about: one whose gradient explodes, else that whose gradient reaches furthest."""
    explodes = [part for part in parts if part.flow.verdict == "explodes"]
    return next(iter(explodes), max(parts, key=lambda part: _distance(part.flow)))


def _distance(flow: GradientFlow) -> int:
    """How far a gradient goes back that does not explode; beyond all that was measured where it holds."""
    if flow.memory is not None:
        return flow.memory
    return flow.span + 1 if flow.span else 0


def _reach(part: Part) -> str:
    """How far its gradient reaches, as a headline."""
    flow = part.flow
    if flow.verdict is None:
        return "–"
    if flow.verdict == "explodes":
        return "explodes"
    steps = flow.span if flow.memory is None else flow.memory
    return f"{'> ' if flow.memory is None else ''}{steps:,} step{'' if steps == 1 else 's'}"


def _titled(part: Part, found: Inspection) -> str:
    """ "Layer 2 of 2, backward", without the layer's name in the model."""
    words = part.name.removeprefix(found.name).lstrip(", ")
    return words[:1].upper() + words[1:] if words else "The layer"


def _row(part: Part) -> dict[str, str]:
    """The numbers of the table."""
    exponent = None if part.lyapunov is None else float(part.lyapunov.exponents[0])
    return {
        "name": part.name,
        "reach": _reach(part),
        "factor": "–" if part.flow.factor is None else number(part.flow.factor, 3),
        "bound": "–" if part.flow.bound is None else number(part.flow.bound, 3),
        "norm": number(float(np.nanmedian(part.jacobians.norm)), 3),
        "radius": number(float(np.nanmedian(part.jacobians.radius)), 3),
        "exponent": "–" if exponent is None or not np.isfinite(exponent) else number(exponent, 3),
        "activities": "; ".join(_activity(each) for each in part.gates.activities) or "–",
    }


def _activity(each: Any) -> str:
    if each.kind == "gate":
        return f"{each.name} {each.openness:.2f}"
    share = f"{100 * each.saturated:.0f} %"
    return f"{each.kind} {each.name} " + (f"zero {share}" if each.kind == "relu" else f"saturated {share}")


def _figure(plot: Any, alternative: str, caption: str, height: int = 280) -> dict[str, Markup | str]:
    return {"drawing": plotted(plot, alternative, height), "caption": caption}


def _flow_figure(part: Part) -> dict[str, Any]:
    flow = part.flow
    return _figure(
        flow.plot,
        f"Norm of the gradient against the distance, {part.name}: {flow.words}",
        f"{part.name}: the gradient by the state so many steps back, over what it was where it set out. The line is "
        f"the median of {int(flow.pairs[0]):,} of them, the band holds 80 %; dashed, 1 %. {flow.words}",
    )


def _figures(part: Part) -> list[dict[str, Any]]:
    """Of one layer and direction."""
    drawn = [_flow_figure(part)] if part.flow.span else []
    if part.flow.span and len(part.flow.fields) > 1:
        drawn.append(
            _figure(
                part.flow.plot_fields,
                f"Norm of the gradient by each state field against the distance, {part.name}",
                "The same, by each field of the state: which of them carries the gradient back.",
            )
        )
    if len(part.jacobians.steps) > 1:
        drawn.append(
            _figure(
                part.jacobians.plot,
                f"Singular values and spectral radius of the state Jacobian over time, {part.name}",
                "What one step does to a small change of the state: at the most, along the largest eigenvector, and in "
                "the middle. Above 1 it grows.",
            )
        )
    if len(part.spans.spans) > 1:
        drawn.append(
            _figure(
                part.spans.plot,
                f"Singular values of products of Jacobians over spans, {part.name}",
                "What many steps in a row do. A line that stays near 1 is a direction in which something is kept; in "
                "one that falls it is forgotten.",
            )
        )
    if part.lyapunov is not None and np.isfinite(part.lyapunov.exponents).sum() > 1:
        drawn.append(
            _figure(
                part.lyapunov.plot,
                f"Lyapunov exponents, {part.name}",
                f"Mean growth in each direction of the state, in nats a step. {part.lyapunov.words}",
            )
        )
    if part.gates.activities and part.steps > 1:
        drawn.append(
            _figure(
                part.gates.plot,
                f"Gates over time, {part.name}",
                "How far gates stand open, on average over units and sequences: 1 lets everything through."
                if part.gates.gates
                else "How much of the units is at an end of its range, where little gradient passes.",
            )
        )
    if part.gates.gates:
        drawn.append(
            _figure(
                part.gates.plot_saturation,
                f"Shares of time that units of each gate are open and shut, {part.name}",
                "A dot is a unit of a gate: at the top it is open nearly always, at the right shut nearly always, at "
                "the lower left it makes use of its whole range (after Karpathy et al. 2015).",
            )
        )
    return drawn


def _capacity_figures(capacity: MemoryCapacity) -> list[dict[str, Any]]:
    return [
        _figure(
            capacity.plot,
            f"Memory capacity against the steps taken: {capacity.words}",
            f"How many past inputs a linear regression reads back from {capacity.units} units, after more and more "
            f"steps of noise like the inputs. {capacity.words} Where it falls, the state is used up (eq. 6.48).",
        ),
        _figure(
            capacity.plot_recall,
            "Share of the variance of each past input that is read back, against how many steps ago it was",
            f"After {int(capacity.steps[-1]):,} steps: how much of the input of so many steps ago is still there.",
        ),
    ]
