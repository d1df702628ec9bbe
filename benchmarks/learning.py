"""Learning rules beside each other: time, memory, exactness. The figures of docs/learning.md.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/learning.py [PART ...] [--threads 2] [--json FILE] [--plot FILE]

Parts, all of them if none is named; what is compared is timed in turn in one process:

- compare: one pass over a sequence with its gradient, by BPTT, truncated BPTT, RTRL and SnAp-1, against the number of
  steps and against the number of units: time, and what it keeps in memory.
- exact: a step of exact RTRL beside the same influence matrix advanced with `torch.func.jacrev` and `jacfwd`.
- snap: a step of SnAp-1 beside a step of the same layer that does not learn (`recurra.Stream`).
- memory: the resident set of a process that learns online for a million steps.
- agree: BPTT written out, automatic differentiation and RTRL, in float64, for every cell of the catalogue.
"""

import argparse
import ctypes
import gc
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.func import jacfwd, jacrev

from recurra import Recurrent, Stream, learn
from recurra.cells import CATALOGUE
from recurra.engine.carrying import AT_ONCE
from recurra.learn.backward import detached
from recurra.learn.followed import Followed
from recurra.version import __version__

CELLS = ("lstm", "gru", "gru_reset_after")
RULES = {"bptt": "BPTT", "tbptt": "truncated BPTT", "rtrl": "RTRL", "snap1": "SnAp-1"}
WINDOW, INPUTS = 32, 8
LENGTHS, UNITS = (64, 256, 1024, 4096), (8, 16, 32, 64, 128)
OF_UNITS, OF_LENGTHS = 64, 32
"""The steps where units differ, and the units where steps differ."""


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile."""
    low, middle, high = statistics.quantiles(values, n=4)
    return low, middle, high


def number(value: float) -> str:
    """To three digits, or to whole ones."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def told(values: list[float], scale: float = 1.0) -> str:
    """A median with its quartiles."""
    low, middle, high = (number(scale * v) for v in quartiles(values))
    return f"{middle} ({low} to {high})"


def table(head: str, rows: list[str]) -> str:
    """A table of Markdown."""
    return "\n".join([head, "|" + " --- |" * head.count(" |"), *rows])


def seconds(run: Callable[[], object]) -> float:
    """The time of one call."""
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def in_turn(runs: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds a call of each, round by round, in the mean over the calls of a round.

    These are about 20 ms of them, and several times 16, since an influence is carried over as many steps at once: a
    median over calls would leave that out.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    calls = dict.fromkeys(runs, AT_ONCE)
    for number in range(rounds + 1):  # the first goes before
        for name, run in runs.items():
            begun = time.perf_counter()
            for _ in range(calls[name]):
                run()
            spent = (time.perf_counter() - begun) / calls[name]
            if number:
                found[name].append(spent)
            else:
                calls[name] = AT_ONCE * min(100, max(1, int(0.02 / spent / AT_ONCE)))
    return found


def over(times: Mapping[str, list[float]], one: str, other: str) -> list[float]:
    """By round, how many times as long the one takes as the other."""
    return [a / b for a, b in zip(times[one], times[other], strict=True)]


# --- time and memory against steps and units -------------------------------------------------------------------------


class Pass:
    """One pass over a sequence of a batch of one, with the gradient of a loss at every step.

    BPTT takes the sequence as a whole. The others take it in windows of 32 steps, as with `learn.k1 = 32`: state and
    influence are carried on, and the gradients of the windows are added up.
    """

    def __init__(self, rule: str, cell: str, steps: int, units: int) -> None:
        torch.manual_seed(0)
        self.layer = Recurrent(cell, INPUTS, units)
        self.rule = learn.TruncatedBPTT(WINDOW) if rule == "tbptt" else learn.find(rule)
        self.window = steps if rule == "bptt" else WINDOW
        self.x, self.weights = torch.randn(steps, 1, INPUTS), torch.randn(steps, 1, units)

    def __call__(self, look: Callable[[], None] = lambda: None) -> None:
        """Take it; `look` is called where the most is kept for what is to come."""
        for p in self.layer.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad.zero_()
        state = None
        for first in range(0, len(self.x), self.window):
            y, state = self.rule.along(self.layer, self.x[first : first + self.window], state)
            loss = (y * self.weights[first : first + self.window]).sum()
            look()
            loss.backward()
            state = detached(state)
            del loss
            look()


class Mallinfo(ctypes.Structure):
    """What glibc's mallinfo2 returns; see its manual page."""

    _fields_ = [(f"count{k}", ctypes.c_size_t) for k in range(4)]
    _fields_ += [("hblkhd", ctypes.c_size_t), ("usmblks", ctypes.c_size_t), ("fsmblks", ctypes.c_size_t)]
    _fields_ += [("uordblks", ctypes.c_size_t), ("fordblks", ctypes.c_size_t), ("keepcost", ctypes.c_size_t)]


def allocated() -> int:
    """Bytes that this process has allocated and not given back, PyTorch's and the compiled core's alike."""
    gc.collect()
    library = ctypes.CDLL(None)
    library.mallinfo2.restype = Mallinfo
    found = library.mallinfo2()
    return found.uordblks + found.hblkhd


def kept(rule: str, cell: str, steps: int, units: int) -> int:
    """The most bytes that a pass keeps, above parameters, their gradients and the sequence, in a process of its own."""
    receiver, sender = multiprocessing.Pipe(duplex=False)

    def measure() -> None:
        torch.set_num_threads(1)
        for other, size in ((rule, 4), ("tbptt", units)):  # libraries take buffers of their own at first
            Pass(other, cell, 2 * WINDOW, size)()
        run = Pass(rule, cell, steps, units)
        for p in run.layer.parameters():
            p.grad = torch.zeros_like(p)
        gc.freeze()  # what is there now need not be looked through again and again
        before, seen = allocated(), []
        run(lambda: seen.append(allocated()))
        sender.send(max(seen) - before)

    child = multiprocessing.get_context("fork").Process(target=measure)
    child.start()
    child.join()
    if child.exitcode:
        raise RuntimeError(f"memory of {rule}, {cell}: the process ended with status {child.exitcode}")
    return receiver.recv()


def points() -> Iterator[tuple[str, int, int]]:
    """What is measured: along which axis, steps, units."""
    yield from (("steps", steps, OF_LENGTHS) for steps in LENGTHS)
    yield from (("units", OF_UNITS, units) for units in UNITS)


def compare(rounds: int, cells: tuple[str, ...]) -> list[dict[str, Any]]:
    """Time and memory of each rule at each point; memory first, while no threads are there that a child would miss."""
    found = []
    for cell in cells:
        for axis, steps, units in points():
            for rule in RULES:
                row = {"cell": cell, "axis": axis, "steps": steps, "units": units, "rule": rule}
                found.append(row | {"bytes": kept(rule, cell, steps, units)})
    for first in range(0, len(found), len(RULES)):
        own = found[first : first + len(RULES)]
        runs = {row["rule"]: Pass(row["rule"], row["cell"], row["steps"], row["units"]) for row in own}
        for run in runs.values():
            run()
        times = in_turn(runs, rounds if max(seconds(run) for run in runs.values()) < 0.3 else 3)
        for row in own:
            row["seconds"] = times[row["rule"]]
    return found


def size(count: float) -> str:
    """Bytes, to three digits."""
    kilobytes = count / 1024
    return f"{kilobytes:.3g} KiB" if kilobytes < 1000 else f"{kilobytes / 1024:.3g} MiB"


def compared(rows: list[dict[str, Any]]) -> str:
    """The tables."""
    parts = []
    for cell in dict.fromkeys(row["cell"] for row in rows):
        for axis, what in (("steps", f"{OF_LENGTHS} units"), ("units", f"{OF_UNITS} steps")):
            own = [row for row in rows if (row["cell"], row["axis"]) == (cell, axis)]
            lines = []
            for value in dict.fromkeys(row[axis] for row in own):
                by_rule = {row["rule"]: row for row in own if row[axis] == value}
                times = [told([t / r["steps"] for t in r["seconds"]], 1e6) for r in by_rule.values()]
                held = [size(r["bytes"]) for r in by_rule.values()]
                lines.append(f"| {value} | {' | '.join([*times, *held])} |")
            head = f"| {axis} | {' | '.join(f'{r}, µs' for r in RULES.values())} | {' | '.join(RULES.values())} |"
            parts.append(f"`{cell}`, {what}: time a step, median (quartiles), and memory\n\n{table(head, lines)}")
    return "\n\n".join(parts)


def plot(rows: list[dict[str, Any]], path: Path, cell: str = "lstm") -> None:
    """Time and memory against steps and units, in colours for a light and a dark ground."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    ink = "#7d8590"
    style: dict[Any, Any] = {f"{part}.color": ink for part in ("text", "xtick", "ytick")}
    style |= {"axes.labelcolor": ink, "axes.edgecolor": ink, "axes.titlelocation": "left", "axes.titlesize": 11}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "font.size": 11, "legend.frameon": False}
    style |= {"svg.fonttype": "none", "svg.hashsalt": "recurra"}
    colours = dict(zip(RULES, ("#3b82d0", "#2a9d8f", "#e0762f", "#a3608f"), strict=True))
    marks = dict(zip(RULES, "osD^", strict=True))
    with rc_context(style):
        figure = Figure(figsize=(8.4, 6.6), layout="constrained")
        sheets = figure.subplots(2, 2, sharex="col")
        for column, (axis, beside) in enumerate((("steps", f"{OF_LENGTHS} units"), ("units", f"{OF_UNITS} steps"))):
            along: list[int] = []
            for rule in RULES:
                own = [r for r in rows if (r["cell"], r["axis"], r["rule"]) == (cell, axis, rule)]
                along = [row[axis] for row in own]
                low, middle, high = zip(*(quartiles([1e3 * t for t in row["seconds"]]) for row in own), strict=True)
                look = {"color": colours[rule], "marker": marks[rule], "markersize": 5}
                sheets[0, column].plot(along, middle, label=RULES[rule], **look)
                sheets[0, column].fill_between(along, low, high, color=colours[rule], alpha=0.2, linewidth=0)
                sheets[1, column].plot(along, [row["bytes"] / 1024 for row in own], **look)
            sheets[0, column].set_title(f"{'Against the steps' if axis == 'steps' else 'Against the units'}, {beside}")
            sheets[1, column].set_xlabel("steps T" if axis == "steps" else "units H")
            for axes in sheets[:, column]:
                axes.set_xscale("log", base=2)
                axes.set_yscale("log")
            sheets[1, column].set_xticks(along, [str(v) for v in along])
            sheets[1, column].minorticks_off()
        sheets[0, 0].set_ylabel("time of a pass, ms")
        sheets[1, 0].set_ylabel("memory, KiB")
        lines, labels = sheets[0, 0].get_legend_handles_labels()
        figure.legend(lines, labels, loc="outside lower center", ncols=4)
        figure.savefig(path, transparent=True, metadata={"Date": None} if path.suffix == ".svg" else None)


# --- a step of RTRL beside torch.func --------------------------------------------------------------------------------


def written(cell: str, own: Mapping[str, Tensor], x: Tensor, state: Tensor) -> Tensor:
    """A step in plain PyTorch, (I,) and (S,) to (S,): what somebody would write to differentiate it."""
    W, U = own["weight_ih"], own["weight_hh"]
    if cell == "lstm":
        h, c = state.chunk(2)
        i, f, g, o = (W @ x + U @ h + own["bias"]).chunk(4)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.cat([torch.sigmoid(o) * torch.tanh(c), c])
    if cell == "gru":
        r, u, n = (W @ x + own["bias"]).chunk(3)
        U_r, U_u, U_n = U.chunk(3)
        r, u = torch.sigmoid(r + U_r @ state), torch.sigmoid(u + U_u @ state)
        return u * state + (1 - u) * torch.tanh(n + U_n @ (r * state))
    (x_r, x_u, x_n), (h_r, h_u, h_n) = (W @ x + own["bias_ih"]).chunk(3), (U @ state + own["bias_hh"]).chunk(3)
    r, u = torch.sigmoid(x_r + h_r), torch.sigmoid(x_u + h_u)
    return u * state + (1 - u) * torch.tanh(x_n + r * h_n)


class ByFunc:
    """The influence matrix J = ∂s/∂θ, (S, P), advanced as D J + I, both from `torch.func`."""

    def __init__(self, cell: str, layer: Recurrent, differentiate: Callable[..., Any]) -> None:
        self.own = {name.removesuffix("_l0"): p.detach() for name, p in layer.named_parameters()}
        S = sum(Followed(layer).widths[0])
        self.state, like = next(iter(self.own.values())).new_zeros(S), next(iter(self.own.values()))
        self.J = like.new_zeros(S, sum(p.numel() for p in self.own.values()))
        self.sum = like.new_zeros(self.J.shape[1])

        def step(own: Mapping[str, Tensor], x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            new = written(cell, own, x, state)
            return new, new

        self.jacobians = differentiate(step, argnums=(0, 2), has_aux=True)

    def __call__(self, x: Tensor, delta: Tensor) -> None:
        """A step, and what a loss there gives."""
        (at_once, D), self.state = self.jacobians(self.own, x, self.state)
        self.J = torch.addmm(torch.cat([v.flatten(1) for v in at_once.values()], 1), D, self.J)
        self.sum += delta @ self.J

    def take(self) -> dict[str, Tensor]:
        """The gradient so far."""
        parts = self.sum.split([p.numel() for p in self.own.values()])
        return {name: v.view_as(p) for (name, p), v in zip(self.own.items(), parts, strict=True)}


class ByRule:
    """A rule's own step: state, influence, what a loss gives, and the gradients by parameter."""

    def __init__(self, layer: Recurrent, rule: learn.RTRL | learn.SnAp, waits: bool = False) -> None:
        followed, self.rule = Followed(layer), rule.begin(layer)
        like = next(layer.parameters()).detach().new_empty(1, layer.input_size)
        self.influences: Any = rule._made(followed, 1, like, waits)
        self.weights, self.state = [followed.weights(0)], rule.state
        self.S = sum(followed.widths[0])

    def __call__(self, x: Tensor, delta: Tensor) -> dict[str, Tensor]:
        """Take it."""
        with torch.no_grad():
            self.state = self.influences.advance(self.weights, x, self.state)
            self.influences.collect(delta, wants_below=False)
            return self.influences.take(self.weights)[0]


def exact(rounds: int, units: int = 32) -> list[dict[str, Any]]:
    """Exact RTRL beside `torch.func`, after a check in float64 that both find the same."""
    found = []
    for cell in CELLS:
        for dtype in (torch.float64, torch.float32):
            torch.manual_seed(0)
            layer = Recurrent(cell, INPUTS, units, dtype=dtype)
            ours, x = ByRule(layer, learn.RTRL()), torch.randn(1, INPUTS, dtype=dtype)
            delta = torch.zeros(1, ours.S, dtype=dtype)
            delta[:, :units] = torch.randn(units, dtype=dtype)
            theirs = {d.__name__: ByFunc(cell, layer, d) for d in (jacrev, jacfwd)}
            if dtype == torch.float64:
                total: dict[str, Tensor] = {}
                for x_t in torch.randn(20, 1, INPUTS, dtype=dtype):
                    for one in theirs.values():
                        one(x_t[0], delta[0])
                    for name, g in ours(x_t, delta).items():
                        total[name] = total.get(name, 0) + g
                for one in theirs.values():
                    for name, g in one.take().items():
                        torch.testing.assert_close(total[name], g, rtol=1e-10, atol=1e-12)
        runs: dict[str, Callable[[], object]] = {"rtrl": lambda: ours(x, delta)}  # noqa: B023 called within the round
        runs |= {name: lambda one=one: one(x[0], delta[0]) for name, one in theirs.items()}  # noqa: B023
        found.append({"cell": cell, "units": units, "seconds": in_turn(runs, rounds)})
    return found


def exactly(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = []
    for row in rows:
        times = row["seconds"]
        each = [told(times[name], 1e6) for name in times]
        ratios = [told(over(times, name, "rtrl")) for name in ("jacrev", "jacfwd")]
        lines.append(f"| `{row['cell']}` | {' | '.join([*each, *ratios])} |")
    head = "| cell | RTRL, µs | jacrev, µs | jacfwd, µs | jacrev / RTRL | jacfwd / RTRL |"
    return f"A step of exact RTRL, I {INPUTS}, H {rows[0]['units']}, B 1\n\n{table(head, lines)}"


# --- a step of SnAp-1 beside a step --------------------------------------------------------------------------------


def snap(rounds: int, units: int = 128) -> list[dict[str, Any]]:
    """SnAp-1 beside the same layer's step without learning."""
    found = []
    for cell in CELLS:
        for inputs in (32, units):
            torch.manual_seed(0)
            layer = Recurrent(cell, inputs, units)
            x, stream = torch.randn(1, inputs), Stream(layer)
            x_t, y, delta = x[0].clone(), torch.empty(1, units), torch.zeros(1, sum(Followed(layer).widths[0]))
            delta[:, :units] = torch.randn(units)
            ours, within = (ByRule(layer, learn.SnAp(1), waits) for waits in (False, True))
            for one in (ours, within):
                one(x, delta)
            carried = ours.influences.own[0]

            def step(core: Any, x: Tensor = x, y: Tensor = y, delta: Tensor = delta) -> None:
                core.advance(x.data_ptr(), y.data_ptr(), 0)
                core.collect(delta.data_ptr(), 0)

            runs: dict[str, Callable[[], object]] = {
                "step": lambda stream=stream, x_t=x_t: stream.step(x_t),
                "within": partial(step, within.influences.own[0]._core),
                "each": partial(step, carried._core),
                "take": lambda ours=ours, x=x, delta=delta: ours(x, delta),
            }
            numbers = carried.layer.numbers
            row = {"cell": cell, "inputs": inputs, "units": units, "numbers": numbers}
            found.append(row | {"seconds": in_turn(runs, rounds)})
    return found


def snapped(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = []
    for row in rows:
        times = row["seconds"]
        ratios = [told(over(times, name, "step")) for name in ("within", "each", "take")]
        first = f"`{row['cell']}` | {row['inputs']} | {row['numbers']:,} | {told(times['step'], 1e6)}"
        lines.append(f"| {first} | {told(times['within'], 1e6)} | {' | '.join(ratios)} |")
    head = "| cell | I | numbers kept | a step, µs | with SnAp-1, µs | over a step | each by itself | and gradients |"
    return f"A step of SnAp-1, H {rows[0]['units']}, B 1, beside `Stream.step`\n\n{table(head, lines)}"


# --- memory of a stream ----------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def online(rule: learn.Rule, cell: str = "lstm", units: int = 16, inputs: int = 4) -> Iterator[float]:
    """Learn a delay of two steps online, the weights moving at every step, without end: the loss of each."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    layer, head = Recurrent(cell, inputs, units), torch.nn.Linear(units, inputs)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.01)
    rule.begin(layer)
    past = [torch.zeros(inputs)] * 2
    while True:
        x = torch.rand(inputs, generator=generator)
        loss = (head(rule(x)) - past[0]).square().mean()
        past = [*past[1:], x]
        if rule.step(loss):
            optimizer.step()
            optimizer.zero_grad()
        yield loss.item()


def memory(steps: int, warm_up: int = 10_000) -> dict[str, Any]:
    """The resident set every 10,000 steps, the first of them after the warm-up."""
    sizes, losses, recent = [], [], []
    begun = time.perf_counter()
    for number, loss in enumerate(online(learn.RTRL()), 1):
        recent.append(loss)
        if number % 10_000 == 0:
            losses.append(statistics.mean(recent))
            recent.clear()
            if number >= warm_up:
                sizes.append(resident())
        if number == steps:
            break
    spent = time.perf_counter() - begun
    return {"steps": steps, "warm_up": warm_up, "bytes": sizes, "losses": losses, "seconds": spent}


def remembered(found: dict[str, Any]) -> str:
    """The line."""
    sizes = found["bytes"]
    grown = (max(sizes) - sizes[0]) / 2**20
    return (
        f"RTRL online, LSTM of 16 units, {found['steps']:,} steps: resident set {sizes[0] / 2**20:.1f} MiB after "
        f"{found['warm_up']:,} steps, at the most {grown:.2f} MiB more after that; {found['seconds']:.0f} s; loss "
        f"{found['losses'][0]:.4f} in the first 10,000 steps, {found['losses'][-1]:.4f} in the last"
    )


# --- the same gradient three ways ------------------------------------------------------------------------------------


def agree(steps: int = 50, rows: int = 2, inputs: int = 4, units: int = 8) -> list[dict[str, Any]]:
    """For every cell, the largest relative difference over parameters from automatic differentiation of its lines."""
    found = []
    for name, cell in CATALOGUE.items():
        torch.manual_seed(0)
        layer = Recurrent(cell, inputs, units, backend="eager", dtype=torch.float64)
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(0.1 * torch.randn_like(p))
        x = torch.randn(steps, rows, inputs, dtype=torch.float64)
        weights = torch.randn(steps, rows, layer.output_size, dtype=torch.float64)

        def loss(y: Tensor, t: int, weights: Tensor = weights) -> Tensor:
            return (y * weights[t]).sum() + y.square().sum()

        right = learn.gradients(layer, x, loss)
        ways = {
            "written out": learn.explain_bptt(layer, x, loss).gradients,
            "rtrl": learn.gradients(layer, x, loss, learn.RTRL()),
            "rtrl in tensor code": learn.gradients(layer, x, loss, learn.RTRL(backend="eager")),
        }
        row = {way: max(apart(g[n], right[n]) for n in right) for way, g in ways.items()}
        found.append({"cell": name} | row)
    return found


def apart(a: Tensor, b: Tensor) -> float:
    """The norm of a difference over that of the second."""
    return ((a - b).norm() / b.norm().clamp(min=1e-300)).item()


def agreed(rows: list[dict[str, Any]]) -> str:
    """The table."""
    ways = [way for way in rows[0] if way != "cell"]
    lines = [f"| `{row['cell']}` | {' | '.join(f'{row[way]:.1e}' for way in ways)} |" for row in rows]
    lines.append(f"| largest | {' | '.join(f'{max(row[way] for row in rows):.1e}' for way in ways)} |")
    head = f"| cell | {' | '.join(ways)} |"
    return f"Largest relative difference from autograd, float64, 50 steps\n\n{table(head, lines)}"


TELL: dict[str, Callable[[Any], str]] = {
    "compare": compared,
    "exact": exactly,
    "snap": snapped,
    "memory": remembered,
    "agree": agreed,
}


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(TELL)}; all when none is named")
    parser.add_argument("--threads", type=int, default=2, help="threads of PyTorch and the core")
    parser.add_argument("--rounds", type=int, default=21, help="rounds that are timed")
    parser.add_argument("--steps", type=int, default=1_000_000, help="steps of the part memory")
    parser.add_argument("--cells", nargs="+", default=["lstm", "gru_reset_after"], help="cells of the part compare")
    parser.add_argument("--json", type=Path, help="write every sample")
    parser.add_argument("--plot", type=Path, help="draw the part compare: .svg, .png")
    chosen = parser.parse_args()
    unknown = [part for part in chosen.parts if part not in TELL]
    if unknown:
        parser.error(f"part {unknown[0]!r}: one of {', '.join(TELL)} is expected")
    torch.set_num_threads(chosen.threads)
    measure: dict[str, Callable[[], Any]] = {
        "compare": lambda: compare(chosen.rounds, tuple(chosen.cells)),
        "exact": lambda: exact(chosen.rounds),
        "snap": lambda: snap(chosen.rounds),
        "memory": lambda: memory(chosen.steps),
        "agree": agree,
    }
    versions = (
        f"{datetime.now(UTC):%Y-%m-%d}, Recurra {__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, {platform.machine()}, {os.cpu_count()} cores, {chosen.threads} threads"
    )
    print(versions, flush=True)
    found: dict[str, Any] = {"measured": versions}
    for part in chosen.parts or TELL:
        begun = time.perf_counter()
        found[part] = measure[part]()
        print(f"\n{TELL[part](found[part])}\n\n({part}: {time.perf_counter() - begun:.0f} s)", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(found))
    if chosen.plot and "compare" in found:
        plot(found["compare"], chosen.plot)


if __name__ == "__main__":
    main()
