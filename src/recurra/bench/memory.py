"""The peak memory of one training step, measured in a process of its own.

    python -m recurra.bench.memory '{"who": "torch.nn", "cell": "lstm", "shape": "B16T4096I32H256", "threads": 2}'

prints the bytes. What counts is what a step needs for itself: the peak of the resident set while it runs, above what
was there before it began (parameters, x, the gradient by y, libraries), less y and the gradients, which it returns.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recurra.bench import cells
from recurra.bench.peers import OURS, PEERS, RECOMPUTING, Peer
from recurra.bench.problem import draw
from recurra.bench.shapes import Shape, parse
from recurra.errors import RunError

COUNTED = ("torch.nn", "eager")
"""The peers whose results are PyTorch's tensors, which are counted."""

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def why_not() -> str | None:
    """Why it cannot be measured here, in words; None where it can."""
    if not os.access(_REFERENCES, os.W_OK):
        return "the peak of a process's memory is read and reset as Linux has it, in /proc/self"
    return None


def measured(who: str, cell: str, shape: Shape, threads: int) -> float:
    """The bytes that somebody's training step needs, in a fresh process.

    Raises:
        RunError: That process ended badly.
    """
    asked = json.dumps({"who": who, "cell": cell, "shape": shape.sizes, "threads": threads})
    done = subprocess.run([sys.executable, "-m", __name__, asked], capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"memory of {who}, {cell}, {shape}: the process ended with status {done.returncode}: {last}")
    return float(done.stdout)


def _peer(name: str) -> Peer:
    return {OURS.name: OURS, RECOMPUTING.name: RECOMPUTING, **PEERS}[name]


def _kilobytes(key: str) -> int:
    """An entry of this process's status."""
    (line,) = (line for line in _STATUS.read_text("ascii").splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1])


def _tensors(found: Any) -> Iterator[Tensor]:
    """The tensors in what a contestant returned."""
    if isinstance(found, Tensor):
        yield found
    else:
        for each in found:
            yield from _tensors(each)


def _step(who: str, cell: str, shape: str, threads: int) -> float:
    """Take one training step here, and tell what it needed."""
    torch.set_num_threads(threads)
    problem = draw(cells.find(cell), parse(shape), "train", threads=threads)
    peer = _peer(who)
    few = draw(problem.cell, problem.shape.with_steps(2), "train", threads=threads)
    peer.make(few).run()  # so that code and threads are there before
    contestant = peer.make(problem)
    before = _kilobytes("VmRSS")
    _REFERENCES.write_text("5", "ascii")  # the peak starts anew
    found = contestant.run()
    peak = _kilobytes("VmHWM")
    returned = sum(v.numel() * v.element_size() for v in _tensors(found))
    return 1024 * (peak - before) - returned


if __name__ == "__main__":
    print(_step(**json.loads(sys.argv[1])))
