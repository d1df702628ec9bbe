"""Every cell of the catalogue on three small tasks: the table of docs/choose.md.

    OMP_NUM_THREADS=1 python benchmarks/choose.py

Each cell is trained twice: with 32 units, and with as many as give it about the parameters of an LSTM of 16. The seeds
of one network are trained side by side, as a batch of networks. The tasks are made on the spot:

- adding: 50 steps of a number from 0 to 1 and a mark; two steps are marked, and the sum of their numbers is to be told
  at the end (Hochreiter & Schmidhuber 1997). What counts is the squared error; that of the mean alone is 1/6.
- counting: strings aⁿbⁿ, and after each symbol which symbols may follow (Gers & Schmidhuber 2001). They are trained up
  to n = 12; what counts is the n up to which every string is right.
- digits: 8 x 8 images of handwritten digits, a row a step, as scikit-learn has them; accuracy on a quarter held out.
"""

import argparse
import copy
import math
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent
from recurra.version import __version__

UNITS, UNITS_OF_LSTM = 32, 16
PEAK, CLIP = 0.01, 1.0
LONGEST, FARTHEST = 12, 100
"""Of the strings aⁿbⁿ: the n that is trained up to, and the n at which a test stops."""


class Network(nn.Module):
    """A recurrent layer and a linear read-out of its outputs."""

    def __init__(self, cell: Cell, inputs: int, units: int, outputs: int) -> None:
        super().__init__()
        self.layer = Recurrent(cell, inputs, units)
        self.out = nn.Linear(self.layer.output_size, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """The outputs at every step, (T, B, outputs)."""
        return self.out(self.layer(x)[0])


@dataclass(frozen=True)
class Task:
    """What is trained and measured, for one network; seeds are stacked in front by the caller.

    Attributes:
        inputs: Width of an input.
        outputs: Width of an output.
        updates: Updates of the training.
        batch: x and what is expected, for one update.
        loss: From outputs and what is expected.
        score: From a function that runs all seeds' networks on one x to a score for each.
        tell: How the scores of the seeds are told.
    """

    inputs: int
    outputs: int
    updates: int
    batch: Callable[[torch.Generator], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Callable[[Tensor], Tensor]], list[float]]
    tell: Callable[[list[float]], str]


def sums(rows: int, generator: torch.Generator, steps: int = 50) -> tuple[Tensor, Tensor]:
    """The adding problem: x (T, B, 2) and the sums (B,); one mark in each half."""
    numbers, marks = torch.rand(steps, rows, generator=generator), torch.zeros(steps, rows)
    half = steps // 2
    for start in (0, half):
        marks[torch.randint(start, start + half, (rows,), generator=generator), torch.arange(rows)] = 1.0
    return torch.stack([numbers, marks], -1), (numbers * marks).sum(0)


def adding() -> Task:
    """Sums of two numbers out of 50."""
    x_test, y_test = sums(500, torch.Generator().manual_seed(10**6))
    return Task(
        inputs=2,
        outputs=1,
        updates=800,
        batch=lambda generator: sums(32, generator),
        loss=lambda out, y: (out[-1, :, 0] - y).square().mean(),
        score=lambda run: (run(x_test)[:, -1, :, 0] - y_test).square().mean(-1).tolist(),
        tell=lambda scores: f"{statistics.median(scores):.4f}",
    )


def strings(longest: int) -> tuple[Tensor, Tensor]:
    """All aⁿbⁿ for n = 1 … longest: symbols (T, B, 2), and what may follow, (T, B, 3): a, b, the end; -1 in padding."""
    steps = 2 * longest
    t, n = torch.arange(steps).unsqueeze(1), torch.arange(1, longest + 1)
    a, b, last = t < n, (t >= n) & (t < 2 * n), t == 2 * n - 1
    follow = torch.stack([a, a | (b & ~last), last], -1).float()
    return torch.stack([a, b], -1).float(), torch.where((a | b).unsqueeze(-1), follow, -1.0)


def counting() -> Task:
    """What follows in aⁿbⁿ."""
    train, (x_test, y_test) = strings(LONGEST), strings(FARTHEST)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        valid = (y >= 0).float()
        every = binary_cross_entropy_with_logits(out, y.clamp(min=0), reduction="none")
        return (every * valid).sum() / valid.sum()

    def score(run: Callable[[Tensor], Tensor]) -> list[float]:
        right = ((run(x_test) > 0) == (y_test > 0)) | (y_test < 0)
        return right.all(-1).all(1).long().cumprod(-1).sum(-1).tolist()

    return Task(
        inputs=2,
        outputs=3,
        updates=800,
        batch=lambda _: train,
        loss=loss,
        score=score,
        tell=lambda scores: " ".join(f"{int(n)}" for n in sorted(scores)),
    )


def digits() -> Task:
    """Handwritten digits, 8 rows of 8."""
    images, labels = load_digits(return_X_y=True)
    split = train_test_split(images / 16, labels, test_size=0.25, stratify=labels, random_state=0)
    x, x_test, y, y_test = (torch.tensor(v) for v in split)
    x, x_test = (v.float().unflatten(1, (8, 8)).transpose(0, 1) for v in (x, x_test))

    def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(y), (64,), generator=generator)
        return x[:, rows], y[rows]

    return Task(
        inputs=8,
        outputs=10,
        updates=300,
        batch=batch,
        loss=lambda out, y: cross_entropy(out[-1], y),
        score=lambda run: (run(x_test)[:, -1].argmax(-1) == y_test).float().mean(-1).tolist(),
        tell=lambda scores: f"{statistics.mean(scores):.3f}",
    )


TASKS = {"adding": adding, "counting": counting, "digits": digits}


def trained(task: Task, cell: Cell, units: int, seeds: int) -> list[float]:
    """The score of each seed."""
    networks = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        networks.append(Network(cell, task.inputs, units, task.outputs))
    parameters, buffers = stack_module_state(networks)  # type: ignore[arg-type]
    base = copy.deepcopy(networks[0]).to("meta")
    generators = [torch.Generator().manual_seed(1000 + seed) for seed in range(seeds)]

    def out(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(base, (p, b), (x,))

    def loss(p: dict[str, Tensor], b: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return task.loss(out(p, b, x), y)

    optimizer = torch.optim.Adam(parameters.values(), lr=PEAK)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK, total_steps=task.updates)
    for _ in range(task.updates):
        x, y = (torch.stack(v) for v in zip(*(task.batch(g) for g in generators), strict=True))
        optimizer.zero_grad()
        torch.vmap(loss)(parameters, buffers, x, y).sum().backward()
        clip([p.grad for p in parameters.values() if p.grad is not None])
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return task.score(lambda x: torch.vmap(out, in_dims=(0, 0, None))(parameters, buffers, x))


def clip(gradients: list[Tensor]) -> None:
    """Each network's gradient is scaled to a norm of 1 where it exceeds that, and left out where it is not finite."""
    norm = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    factor = torch.where(norm.isfinite(), (CLIP / norm).clamp(max=1.0), 0.0)
    for g in gradients:
        g.copy_((g.nan_to_num(0.0, 0.0, 0.0).flatten(1) * factor.unsqueeze(1)).view_as(g))


def count(cell: Cell, inputs: int, units: int) -> int:
    """Parameters of one layer; entries of U that a mask holds at zero are none."""
    mask = cell.mask_of_u(units)
    masked = 0 if mask is None else len(cell.gates) * int((mask == 0).sum())
    return sum(math.prod(shape) for shape in cell.shapes(inputs, units).values()) - masked


def units_of_equal_parameters(cell: Cell, inputs: int) -> int:
    """The units with which a cell comes nearest to the parameters of an LSTM."""
    aim = count(CATALOGUE["lstm"], inputs, UNITS_OF_LSTM)
    return min(range(4, 20 * UNITS), key=lambda units: abs(count(cell, inputs, units) - aim))


def milliseconds(cell: Cell, repeats: int = 30) -> float:
    """The shortest of several times for one run forward and backward, 50 steps of 64 sequences, by one network."""
    network, x = Network(cell, 2, UNITS, 1), torch.rand(50, 64, 2)
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        network(x).sum().backward()
        times.append(time.perf_counter() - begun)
    return 1000 * min(times)


def main() -> None:
    """Train, and print the tables; each row goes to the standard error stream as soon as it is known."""
    parser = argparse.ArgumentParser(description="Every cell on three small tasks: the table of docs/choose.md")
    parser.add_argument("--seeds", type=int, default=3, help="networks of each kind")
    parser.add_argument("--cells", nargs="+", default=list(CATALOGUE), choices=list(CATALOGUE), help="which cells")
    chosen = parser.parse_args()
    tasks = {name: make() for name, make in TASKS.items()}
    begun, rows = time.perf_counter(), {"units": [], "parameters": []}
    for name in chosen.cells:
        cell = CATALOGUE[name]
        equal = [units_of_equal_parameters(cell, task.inputs) for task in tasks.values()]
        for kind, sizes in (("units", [UNITS] * len(tasks)), ("parameters", equal)):
            told = [
                task.tell(trained(task, cell, units, chosen.seeds))
                for task, units in zip(tasks.values(), sizes, strict=True)
            ]
            first = f"{milliseconds(cell):.1f}" if kind == "units" else ", ".join(map(str, dict.fromkeys(sizes)))
            rows[kind].append(f"| `{name}` | {first} | {' | '.join(told)} |")
            print(rows[kind][-1], file=sys.stderr, flush=True)
    print(
        f"{datetime.now(UTC):%Y-%m-%d}, Recurra {__version__}, torch {torch.__version__}, Python "
        f"{platform.python_version()}, threads: {torch.get_num_threads()}, {time.perf_counter() - begun:.0f} s"
    )
    for kind, first in (("units", "ms"), ("parameters", "units")):
        print(f"\nThe same number of {kind}:\n\n| cell | {first} | adding | counting | digits |\n|---|---|---|---|---|")
        print("\n".join(rows[kind]))


if __name__ == "__main__":
    main()
