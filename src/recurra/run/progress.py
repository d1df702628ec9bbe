"""How training is shown: a bar with the loss and the time left on a terminal, plain lines elsewhere."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.status import Status
from rich.table import Column
from rich.text import Text

from recurra.run.finish import sizes
from recurra.run.training import Training
from recurra.run.words import counted, describe_model

SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """A listener that writes to a console.

    Args:
        console: Where to write; a bar is drawn if it is a terminal.
        waiting: What is shown there before training and after it; the caller starts and stops it in the end.
    """

    def __init__(self, console: Console, waiting: Status | None = None) -> None:
        self.console, self.waiting = console, waiting or console.status("")
        self.bar: Bar | None = None
        self.folder: Path | None = None
        """Where the run is kept that is (or was last) trained; of several seeds, the folder that holds them all."""

    def begin(self, training: Training) -> None:
        """Say what is trained on what, and draw the bar."""
        self.waiting.stop()
        self.folder = training.folder.path
        if (self.folder.parent / "seeds.json").is_file():
            self.folder = self.folder.parent
        there = sizes(training)
        parts = ", ".join(f"{count:,} {name}" for name, count in there.items())
        samples = counted(sum(there.values()), training.task.samples).partition(" ")[2]
        done = training.progress.step
        parameters = sum(p.numel() for p in training.network.parameters())
        self._say(
            f"{training.recipe.name} (seed {training.recipe.seed}{_fold(training)}): {describe_model(training)}, "
            f"{parameters:,} parameters; {parts} {samples}"
        )
        for warning in training.parts.warnings:
            self._say(f"warning: {warning}")
        if done:
            self._say(f"going on after update {done:,} of {training.total:,}")
        self.total, self.started, self.first, self.said = training.total, time.monotonic(), done, time.monotonic()
        self.loss, self.score, self.metric = float("nan"), "", training.task.main_metric
        if self.console.is_terminal:
            self.bar = Bar(
                TextColumn("training"),
                BarColumn(bar_width=None, table_column=Column(ratio=1, min_width=4)),  # gives way where it is narrow
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[said]}"),
                console=self.console,
                transient=True,
                expand=True,
            )
            self.bar.start()
            self.task = self.bar.add_task("", total=training.total, completed=done, said="")

    def update(self, step: int, loss: float) -> None:
        """Move the bar; elsewhere write a line now and then."""
        self.loss = loss if self.loss != self.loss else 0.9 * self.loss + 0.1 * loss
        if self.bar is not None:
            self.bar.update(self.task, completed=step, said=f"loss {self.loss:.4g}{self.score}")
        elif time.monotonic() - self.said > SECONDS_BETWEEN_LINES:
            self._line(step)

    def evaluation(self, line: dict[str, Any]) -> None:
        """Show the validation part's main score."""
        if "validation" in line:
            self.score = f", {self.metric} {line['validation'][self.metric]:.4g}"
        if self.bar is not None:
            self.bar.update(self.task, said=f"loss {self.loss:.4g}{self.score}")
        elif time.monotonic() - self.said > SECONDS_BETWEEN_LINES or line["step"] >= self.total:
            self._line(line["step"])
        if line.get("stopped_early"):
            self._say(f"stopped after update {line['step']:,}: the validation part has not done better for a while")

    def end(self) -> None:
        """Take the bar away; what follows takes a while for large test parts."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
            self.waiting.update("scoring, and writing the report")
            self.waiting.start()

    def _line(self, step: int) -> None:
        self.said = time.monotonic()
        per_update = (self.said - self.started) / max(1, step - self.first)
        left = f"; {per_update * (self.total - step):.0f} s left" if step < self.total else ""
        validation = self.score.replace(",", "; validation", 1)
        self._say(f"update {step:,} of {self.total:,}, loss {self.loss:.4g}{validation}{left}")

    def _say(self, text: str) -> None:
        shown = Text(text)
        shown.highlight_regex("^warning:", "bold yellow")
        self.console.print(shown, soft_wrap=not self.console.is_terminal)  # on a terminal, lines break between words


def _fold(training: Training) -> str:
    """Which fold is the test part, in words."""
    data = training.recipe.data
    return "" if data.folds is None else f", fold {data.fold or 0} of {data.folds}"
