"""The cell's equations in PyTorch, one step after another: what somebody writes whose cell PyTorch does not have.

The inputs of all steps are projected in one product beforehand, and taken apart by `unbind`.
"""

from recurra.bench.problem import Contestant, Problem, of_module


def make(problem: Problem) -> Contestant:
    """The problem's own layer."""
    layer = problem.layer
    return of_module(problem, layer, lambda x: layer(x, lengths=problem.lengths)[0])
