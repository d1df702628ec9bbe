"""Recurra, keeping as little as it can of a sequence and computing the rest anew in the backward pass."""

from recurra.bench.peers import ours
from recurra.bench.problem import Contestant, Problem, of_module


def make(problem: Problem) -> Contestant:
    """`Recurrent` with `memory="recompute"`."""
    module = ours.layer(problem, memory="recompute")
    return of_module(problem, module, lambda x: module(x, lengths=problem.lengths)[0])
