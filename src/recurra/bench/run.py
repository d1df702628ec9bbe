"""The whole benchmark: what is to be measured, the checks before it, and the report."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol, TypeVar

from recurra.bench import cells, check, machine
from recurra.bench.check import Fault
from recurra.bench.figures import means
from recurra.bench.peers import PEERS, eager
from recurra.bench.report import Report
from recurra.bench.shapes import Shape, parse
from recurra.bench.suites import SUITES, Suite, Task
from recurra.bench.timing import Effort
from recurra.errors import RecipeError, unknown

STEPS_OF_CHECK = 4
"""Of every shape's check but the smallest, which is taken whole: what is wrong with a size shows at once."""

BUSY = 0.5
"""Load from which a machine counts as busy."""

Named = TypeVar("Named")


class Listener(Protocol):
    """Who is told how it goes."""

    def began(self, what: str, number: int, of: int) -> None:
        """What is done now, the how many-th thing of how many."""

    def told(self, text: str) -> None:
        """Something worth telling: who is left out and why, how ours runs."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is asked for; None takes what each suite has.

    Attributes:
        suites: Names of suites; none is all of them.
        cells: Names of cells, one's own as `file.py:name`.
        shapes: Names of shapes, or sizes such as "B32T50I8H32".
        peers: Names of peers.
        threads: Threads of every contestant.
        seconds: Time for each cell and shape.
        repeats: Rounds of each cell and shape, instead of a time.
        quick: A first look: few shapes, few rounds.
    """

    suites: Sequence[str] = ()
    cells: Sequence[str] | None = None
    shapes: Sequence[str] | None = None
    peers: Sequence[str] | None = None
    threads: int = 2
    seconds: float | None = None
    repeats: int | None = None
    quick: bool = False

    def effort(self) -> Effort:
        """How long each piece of work is measured."""
        usual = Effort(1.0, 3) if self.quick else Effort()
        return replace(usual, seconds=usual.seconds if self.seconds is None else self.seconds, exactly=self.repeats)


def bench(settings: Settings, listener: Listener) -> Report:
    """Check that ours computes what the equations say, then time it and its peers in turn.

    Where a check fails nothing is timed, and the report has the faults and no figure. A peer that does not compute what
    ours does is not timed either, and is among the faults. Where timing is interrupted (Ctrl-C), the report has what
    was found by then.

    Raises:
        RecipeError: A name or number that cannot be.
        CellError: A cell that does not exist.
        RunError: A process that measures memory ended badly.
    """
    heard: dict[str, None] = {}

    def told(text: str) -> None:
        if text not in heard:
            heard[text] = None
            listener.told(text)

    tasks = planned(settings, told)
    if (load := machine.load()) > BUSY:
        told(f"the machine was not idle in the last minute (load {load:.2f}); peers whose threads spin suffer most")
    with machine.threads(settings.threads):
        report = Report(settings, machine.facts(), machine.versions(), datetime.now(UTC), notes=heard)
        smallest = _smallest(tasks)
        for number, task in enumerate(tasks, 1):
            listener.began(f"checking {task}", number, len(tasks))
            report.faults += _faults(task, whole=task in smallest)
        if report.faults:
            return report
        try:
            for number, task in enumerate(tasks, 1):
                listener.began(f"timing {task}", number, len(tasks))
                figures, faults = task.suite.measure(task)
                report.figures += figures
                report.faults += faults
        except KeyboardInterrupt:  # what was found by then took long enough to be shown
            report.stopped = True
        report.means = means(report.figures, [goal for suite in SUITES.values() for goal in suite.goals])
    return report


def planned(settings: Settings, told: Callable[[str], None]) -> list[Task]:
    """What is to be measured, suite by suite.

    Raises:
        RecipeError: A name or number that cannot be.
        CellError: A cell that does not exist.
    """
    processors = machine.processors()
    if not 1 <= settings.threads <= processors:
        raise RecipeError(
            f"--threads: a whole number from 1 to {processors}, which this machine has, is expected, "
            f"not {settings.threads}"
        )
    if settings.seconds is not None and not settings.seconds > 0:
        raise RecipeError(f"--seconds: a number above 0 is expected, not {settings.seconds:g}")
    if settings.repeats is not None and settings.repeats < 1:
        raise RecipeError(f"--repeats: a whole number above 0 is expected, not {settings.repeats}")
    suites = [_known("suite", name, SUITES) for name in settings.suites] or list(SUITES.values())
    peers = None if settings.peers is None else [_known("peer", name, PEERS) for name in settings.peers]
    shapes = None if settings.shapes is None else [parse(text) for text in settings.shapes]
    for name in settings.cells or ():
        cells.find(name)

    def tasks(suite: Suite) -> Iterator[Task]:
        chosen: Sequence[Shape] = shapes or (suite.quick if settings.quick else suite.shapes)
        for cell in settings.cells or suite.cells:
            for shape in chosen:
                against = peers if peers is not None else [PEERS[name] for name in suite.peers]
                yield Task(suite, cell, shape, tuple(against), settings.threads, settings.effort(), told)

    return [task for suite in dict.fromkeys(suites) for task in tasks(suite)]


def _known(kind: str, name: str, known: Mapping[str, Named]) -> Named:
    if name not in known:
        raise RecipeError(unknown(kind, name, known))
    return known[name]


def _faults(task: Task, whole: bool) -> Iterator[Fault]:
    """Where ours differs from the cell's equations run one step after another, over all steps or the first few."""
    shape = task.shape if whole else task.shape.with_steps(min(STEPS_OF_CHECK, task.shape.T))
    problem = task.problem(shape)
    reference = eager.make(replace(problem, kind="train" if problem.kind == "train" else "infer"))
    expected = reference.results(reference.run())
    for one in task.suite.ours:
        if wrong := check.against(one.make(problem), expected):
            yield Fault(task.suite.name, task.cell, shape, one.name, wrong)


def _smallest(tasks: Sequence[Task]) -> set[Task]:
    """Of each suite and cell the task that is least work."""
    least: dict[tuple[str, str], Task] = {}
    for task in sorted(tasks, key=lambda task: task.shape.work):
        least.setdefault((task.suite.name, task.cell), task)
    return set(least.values())
