"""The eager loop compiled whole by `torch.compile`, which writes all steps out one after another."""

import copy

import torch

from recurra.bench.problem import Contestant, NotHere, Problem, of_module

LONGEST = 50
"""Steps that are compiled in bearable time: 28 take half a minute, 50 a whole one, and 784 would take all day."""


def make(problem: Problem) -> Contestant:
    """The loop, compiled when it first runs; `NotHere` where it is long."""
    if problem.shape.T > LONGEST:
        raise NotHere(f"torch.compile writes out every step; {problem.shape.T} of them would take it too long")
    layer = copy.deepcopy(problem.layer)
    torch.compiler.reset()  # no graph of another size, whose recompilation would be counted
    compiled = torch.compile(layer, dynamic=False)
    return of_module(problem, layer, lambda x: compiled(x, lengths=problem.lengths)[0])
