"""What can be measured: each suite with its cells, shapes, peers and goals."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from recurra.bench import cells, check, memory, recurrence
from recurra.bench.check import Fault
from recurra.bench.figures import Figure, Goal
from recurra.bench.peers import INSTALL, OURS, RECOMPUTING, Peer
from recurra.bench.problem import Contestant, Kind, NotHere, Problem, draw
from recurra.bench.shapes import SIX, Shape, parse
from recurra.bench.timing import Effort, Ratio, Samples, interleaved, ratio
from recurra.engine.layout import seconds_in_core

DROP_INS = ("lstm", "gru_reset_after", "elman")
WITHOUT_TWIN = ("lstm_peephole", "lstm_coupled", "gru", "lstm_layer_norm", "clockwork", cells.made_up.name)
BETTER = "the better of both"
PADDED = "ours, padded"
FORWARD, BOTH = "forward", "forward and backward"
HALF = "half the steps"
MATRIX = 2048
"""Rows and columns of the product that the machine's peak is taken from."""

RECOMPUTED = ", ours recomputing"
MEASURED_PROCESSES = 3
"""What a step needs hardly varies from one process to the next."""


@dataclass(frozen=True)
class Task:
    """One cell and shape of a suite, with who competes and how long.

    Attributes:
        suite: The suite.
        cell: The cell's name.
        shape: The sizes.
        peers: Who competes with ours.
        threads: Threads that each may use.
        effort: How long is measured.
        told: Takes what is worth telling, in words.
    """

    suite: "Suite"
    cell: str
    shape: Shape
    peers: tuple[Peer, ...]
    threads: int
    effort: Effort
    told: Callable[[str], None]

    def __str__(self) -> str:
        return f"{self.suite.name}, {self.cell}, {self.shape}"

    def problem(self, shape: Shape | None = None) -> Problem:
        """The work, of the task's sizes or of others."""
        suite = self.suite
        return draw(cells.find(self.cell), shape or self.shape, suite.kind, threads=self.threads, ragged=suite.ragged)

    def say_how(self, backend: str, reason: str) -> None:
        """Tell it where ours does not run in the core."""
        if backend != "native":
            self.told(f"{self.cell}: ours runs as {backend!r}" + (f": {reason}" if reason else ""))

    def able(self, problem: Problem) -> Iterator[tuple[str, Contestant]]:
        """The peers that are installed and can do this, ready; of the others it is told why not."""
        for peer in self.peers:
            if missing := peer.missing():
                self.told(f"{peer.name} is left out: {' and '.join(missing)} not installed; {INSTALL}")
                continue
            try:
                yield peer.name, peer.make(problem)
            except NotHere as reason:
                self.told(f"{peer.name} is left out of {self}: {reason}")

    def figure(
        self, against: str, found: Ratio, samples: Samples, ours: str, theirs: str, backend: str = "", unit: str = "s"
    ) -> Figure:
        """A figure of this task, with what it is to reach."""
        figure = Figure(self.suite.name, self.cell, self.shape, against, found, samples, ours, theirs, unit, backend)
        single = [goal for goal in self.suite.goals if (goal.least, goal.most) != (None, None)]
        return replace(figure, goal=next((goal for goal in single if goal.concerns(figure)), None))

    def ratios(self, samples: Samples, backend: str) -> list[Figure]:
        """Every contestant's time over ours."""
        return [
            self.figure(name, ratio(samples[name], samples[OURS.name]), samples, OURS.name, name, backend)
            for name in samples
            if name != OURS.name
        ]


@dataclass(frozen=True)
class Suite:
    """A row, or a few rows, of the table.

    Attributes:
        name: On the command line.
        summary: What is measured, in one line.
        value: What a ratio says, in a column's head.
        cells: The cells that are timed unless others are named.
        shapes: Likewise the sizes.
        quick: Likewise the sizes for a first look.
        peers: Likewise the peers.
        measure: From a task to its figures, and what was wrong.
        goals: What the figures are to reach.
        ours: The ways of ours that are timed, and checked before.
        kind: What work it is.
        ragged: Whether rows have lengths of their own.
    """

    name: str
    summary: str
    value: str
    cells: tuple[str, ...]
    shapes: tuple[Shape, ...]
    quick: tuple[Shape, ...]
    peers: tuple[str, ...]
    measure: Callable[[Task], tuple[list[Figure], list[Fault]]]
    goals: tuple[Goal, ...]
    ours: tuple[Peer, ...] = (OURS,)
    kind: Kind = "train"
    ragged: bool = False


# --- the ways to measure ----------------------------------------------------------------------------------------------


def against_peers(task: Task) -> tuple[list[Figure], list[Fault]]:
    """Ours and every peer that can do the work, each of which first has to give what ours gives."""
    runs, backend, faults = _contest(task)
    if len(runs) == 1:
        return [], faults
    return task.ratios(interleaved(runs, task.effort), backend), faults


def _contest(task: Task) -> tuple[dict[str, Callable[[], Any]], str, list[Fault]]:
    """What is timed, by contestant, warmed up and compared; how ours runs; and who differs from ours."""
    problem = task.problem()
    ours = OURS.make(problem)
    task.say_how(ours.backend, ours.reason)
    expected = ours.results(ours.run())
    runs: dict[str, Callable[[], Any]] = {OURS.name: ours.run}
    faults = []
    for name, contestant in task.able(problem):
        if wrong := check.against(contestant, expected):
            faults.append(Fault(task.suite.name, task.cell, task.shape, name, wrong))
        else:
            runs[name] = contestant.run
    return runs, ours.backend, faults


def against_better(task: Task) -> tuple[list[Figure], list[Fault]]:
    """As `against_peers`, and against the quicker of PyTorch's own layer and ONNX Runtime."""
    figures, faults = against_peers(task)
    both = [figure for figure in figures if figure.against in ("torch.nn", "onnxruntime")]
    if len(both) == 2:
        worse = min(both, key=lambda figure: figure.ratio.value)
        figures.append(task.figure(BETTER, worse.ratio, worse.samples, worse.ours, worse.theirs, worse.backend))
    return figures, faults


def against_packing(task: Task) -> tuple[list[Figure], list[Fault]]:
    """As `against_peers` with lengths, and our time against that of a run over all T steps of every row."""
    runs, backend, faults = _contest(task)
    whole = OURS.make(replace(task.problem(), lengths=None))
    whole.run()
    samples = interleaved({**runs, PADDED: whole.run}, task.effort)
    padded = ratio(samples[OURS.name], samples[PADDED])
    figures = task.ratios({name: v for name, v in samples.items() if name != PADDED}, backend)
    return [*figures, task.figure(PADDED, padded, samples, OURS.name, PADDED, backend)], faults


def per_step(task: Task) -> tuple[list[Figure], list[Fault]]:
    """As `against_peers`, the times being those of one step."""
    runs, backend, faults = _contest(task)
    if len(runs) == 1:
        return [], faults
    samples = interleaved(runs, task.effort)
    return task.ratios({name: [v / task.shape.T for v in own] for name, own in samples.items()}, backend), faults


def share_of_peak(task: Task) -> tuple[list[Figure], list[Fault]]:
    """How near the recurrence alone comes to the operations a second of one large matrix product."""
    found = recurrence.alone(task.problem(replace(task.shape, I=1, layers=1)))
    task.say_how(found.backend, "")
    a, b = torch.randn(2, MATRIX, MATRIX)
    runs = {FORWARD: found.forward, BOTH: found.both, "torch.mm": lambda: torch.mm(a, b)}
    for run in runs.values():
        run()
    in_core = {FORWARD: seconds_in_core, BOTH: seconds_in_core} if found.backend == "native" else {}
    samples = interleaved(runs, task.effort, clocks=in_core)
    figures = []
    for passes, name in ((1, FORWARD), (2, BOTH)):
        slower, more = ratio(samples["torch.mm"], samples[name]), passes * found.operations / (2 * MATRIX**3)
        share = Ratio(more * slower.value, more * slower.low, more * slower.high)
        figures.append(task.figure(name, share, samples, name, "torch.mm", found.backend))
    return figures, []


def against_twice_the_steps(task: Task) -> tuple[list[Figure], list[Fault]]:
    """Twice the steps against once."""
    T = task.shape.T
    once, twice = (OURS.make(task.problem(task.shape.with_steps(steps))) for steps in (T, 2 * T))
    runs = {f"T = {2 * T}": twice.run, f"T = {T}": once.run}
    for run in runs.values():
        run()
    samples = interleaved(runs, task.effort)
    ours, theirs = samples
    found = ratio(samples[ours], samples[theirs])
    return [task.figure(HALF, found, samples, ours, theirs, once.backend)], []


def by_memory(task: Task) -> tuple[list[Figure], list[Fault]]:
    """The peak memory of a step, each in processes of its own, against every peer's."""
    if reason := memory.why_not():
        task.told(f"memory is not measured: {reason}")
        return [], []
    able = [name for name, _ in task.able(task.problem(task.shape.with_steps(1)))]
    if beyond := set(able) - set(memory.COUNTED):
        task.told(f"{', '.join(sorted(beyond))}: memory is counted in PyTorch's tensors alone, so left out")
    able = [name for name in able if name in memory.COUNTED]
    ours = {OURS.name: "", RECOMPUTING.name: RECOMPUTED}
    samples: Samples = {name: [] for name in (*ours, *able)}
    for _ in range(task.effort.exactly or MEASURED_PROCESSES):
        for name, own in samples.items():
            own.append(memory.measured(name, task.cell, task.shape, task.threads))
    return [
        task.figure(name + said, ratio(samples[own], samples[name]), samples, own, name, unit="B")
        for name in able
        for own, said in ours.items()
    ], []


# --- the suites -------------------------------------------------------------------------------------------------------


def _shapes(*texts: str) -> tuple[Shape, ...]:
    return tuple(parse(text) for text in texts)


_SIX, _QUICK = _shapes(*SIX), _shapes("small", "rows")
_LONE = _shapes("lone", "few")
_RAGGED = _shapes("B32T50I64H64", "B32T200I64H64", "B32T1000I64H64")
_STEPS = _shapes("B1T200I64H64", "B1T200I256H256")
_LARGE = _shapes("charlm", "wide", "B20T35I650H650", "B16T50I256H256")
_TWICE = _shapes("small", "charlm", "long")
_GREAT = _shapes("B16T4096I32H256")

SUITES = {
    suite.name: suite
    for suite in (
        Suite(
            name="train",
            summary="a training step of the cells that torch.nn has",
            value="times as fast",
            cells=DROP_INS,
            shapes=_SIX,
            quick=_QUICK,
            peers=("torch.nn", "jax", "keras"),
            measure=against_peers,
            goals=(
                Goal("train", "torch.nn", ("lstm",), _SIX, least=1.0, mean=1.4),
                Goal("train", "torch.nn", ("gru_reset_after",), _SIX, least=1.25, mean=2.5),
                Goal("train", "torch.nn", ("elman",), _SIX, least=1.25, mean=2.5),
            ),
        ),
        Suite(
            name="cells",
            summary="a training step of cells that torch.nn does not have",
            value="times as fast",
            cells=WITHOUT_TWIN,
            shapes=(*_SIX, *_LONE[:1]),
            quick=_QUICK[:1],
            peers=("jax", "eager"),
            measure=against_peers,
            goals=(
                Goal("cells", "jax", WITHOUT_TWIN, _SIX, least=1.25, mean=2.4),
                Goal("cells", "eager", WITHOUT_TWIN, _SIX, least=2.0, mean=5.0),
                Goal("cells", "eager", WITHOUT_TWIN, _LONE[:1], least=30.0),
            ),
        ),
        Suite(
            name="lone",
            summary="a training step over one long sequence, or a few",
            value="times as fast",
            cells=DROP_INS[1:],
            shapes=_LONE,
            quick=_LONE[1:],
            peers=("torch.nn",),
            measure=against_peers,
            goals=(Goal("lone", "torch.nn", DROP_INS[1:], _LONE, least=8.0),),
        ),
        Suite(
            name="ragged",
            summary="a training step over sequences of T / 2 to T steps; torch.nn packs them",
            value="times as fast",
            cells=DROP_INS[:1],
            shapes=_RAGGED,
            quick=_RAGGED[:1],
            peers=("torch.nn",),
            measure=against_packing,
            goals=(
                *(
                    Goal("ragged", "torch.nn", ("lstm",), (shape,), least=least)
                    for shape, least in zip(_RAGGED, (2.0, 4.0, 12.0), strict=True)
                ),
                Goal("ragged", PADDED, ("lstm",), _RAGGED, most=1.1),
            ),
            ragged=True,
        ),
        Suite(
            name="infer",
            summary="a forward run without gradients",
            value="times as fast",
            cells=DROP_INS,
            shapes=_SIX,
            quick=_QUICK,
            peers=("torch.nn", "onnxruntime"),
            measure=against_better,
            goals=(
                Goal("infer", BETTER, ("lstm",), _SIX, least=0.95),
                Goal("infer", BETTER, DROP_INS, _SIX, mean=1.5),
            ),
            kind="infer",
        ),
        Suite(
            name="stream",
            summary="one step of one sequence at a time, the state carried",
            value="times as fast",
            cells=DROP_INS[:1],
            shapes=_STEPS,
            quick=_STEPS,
            peers=("torch.nn",),
            measure=per_step,
            goals=(
                Goal("stream", "torch.nn", ("lstm",), _STEPS[:1], least=8.0),
                Goal("stream", "torch.nn", ("lstm",), _STEPS[1:], least=2.5),
            ),
            kind="stream",
        ),
        Suite(
            name="peak",
            summary=f"the recurrence alone beside torch.mm of {MATRIX} x {MATRIX}, in operations a second",
            value="share of the peak",
            cells=DROP_INS,
            shapes=_LARGE,
            quick=_LARGE[:1],
            peers=(),
            measure=share_of_peak,
            goals=(
                Goal("peak", FORWARD, DROP_INS, _LARGE, least=0.85),
                Goal("peak", BOTH, DROP_INS, _LARGE, least=0.80),
            ),
        ),
        Suite(
            name="length",
            summary="a training step over 2 x T steps beside one over T",
            value="times the time",
            cells=DROP_INS,
            shapes=_TWICE,
            quick=_TWICE[:1],
            peers=(),
            measure=against_twice_the_steps,
            goals=(Goal("length", HALF, DROP_INS, _TWICE, most=2.1),),
        ),
        Suite(
            name="memory",
            summary="the peak memory of a training step, above parameters, x, y and their gradients",
            value="times the memory",
            cells=DROP_INS[:1],
            shapes=_GREAT,
            quick=_shapes("B16T512I32H256"),
            peers=("torch.nn",),
            measure=by_memory,
            ours=(OURS, RECOMPUTING),
            goals=(
                Goal("memory", "torch.nn", ("lstm",), _GREAT, most=0.8),
                Goal("memory", "torch.nn" + RECOMPUTED, ("lstm",), _GREAT, most=0.1),
            ),
        ),
    )
}
"""Suites by name, in the order in which they run."""
