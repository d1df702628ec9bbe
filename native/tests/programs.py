"""Writes what recurrence_test.cpp runs, the programs of all cells as the core is given them: `programs.py FILE`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import torch

from recurra.cells import cell
from recurra.engine import kernel
from recurra.engine.fused import Fused
from recurra.engine.kernel import Kernel, Loaded
from recurra.engine.trace import trace
from recurra.math import sigmoid, tanh

sys.path.insert(0, str(Path(__file__).parents[2] / "tests" / "native"))
from comparing import VARIANTS, hidden_size

SIZES = ((1, 1), (7, 0), (17, 5), (33, 0), (367, 70))
"""Units, and columns of x where the core projects it. Odd ones, so that vectors and panels are not full; matrices of
the largest are worth a team of threads."""


@cell(state="h", gates="r u a b", matrices={"M": ("H", "H")})
def products_in_a_row(z, s, p):
    """One right after another, as in no cell of the catalogue: of one's result, and into the place of one's operand."""
    v, w = sigmoid(z.r) * s.h, sigmoid(z.u) * s.h
    return tanh(z.a(v) + z.b(w) + p.M @ (p.M @ s.h))


def words(loaded: Loaded) -> Iterator[object]:
    """A program: its lists, each with its length in front."""
    instructions, slots, fields, sizes, sums, cleared, *_ = loaded.program
    keys = [(".".join(map(str, key)),) for key in loaded.keys]
    matrices = [
        (".".join(map(str, key[:4])), int(key.transposed), *size)
        for key, size in zip(loaded.matrices, sizes, strict=True)
    ]
    for rows in (keys, instructions, slots, fields, matrices, sums, [(slot,) for slot in cleared]):
        yield len(rows)
        for row in rows:
            yield from row


def lines() -> Iterator[str]:
    """For each cell and size its name and three programs: forward, forward with what is kept, backward."""
    for name, form in {**VARIANTS, "products in a row": products_in_a_row}.items():
        for units, projects in SIZES:
            H = hidden_size(form, units)
            made: Kernel = Fused(form, form.use(H), trace(form, H), H).kernel
            yield f"{name.replace(' ', '_')}/{H}/{projects}"
            for kind in ("drop", "keep", "backward"):
                yield " ".join(map(str, words(made.program(kind, torch.float64, projects, projects or 1))))


if __name__ == "__main__":
    recorder = SimpleNamespace(Program=lambda *parts: parts)  # in the core's place: what is handed to it is what counts
    with patch.object(kernel, "core", lambda: recorder):
        Path(sys.argv[1]).write_text("\n".join(lines()) + "\n", encoding="utf-8")
