"""Who competes: ours, and each peer in a file of its own, brought in when it is first asked for.

A file has one function, `make(problem) -> Contestant`, which raises `NotHere` where that peer cannot do the work.
"""

import importlib
import importlib.util
from dataclasses import dataclass

from recurra.bench.problem import Contestant, Problem

INSTALL = "pip install 'recurra[bench]'"


@dataclass(frozen=True)
class Peer:
    """Somebody to be measured against.

    Attributes:
        name: On the command line and in tables.
        module: The file in this folder.
        summary: What it is, in a few words.
        needs: The packages that it needs.
    """

    name: str
    module: str
    summary: str
    needs: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [package for package in self.needs if importlib.util.find_spec(package) is None]

    def make(self, problem: Problem) -> Contestant:
        """Make it ready for a problem.

        Raises:
            NotHere: It cannot do that.
        """
        return importlib.import_module(f"{__name__}.{self.module}").make(problem)


OURS = Peer("ours", "ours", "Recurra, run as it chooses by itself")

RECOMPUTING = Peer("ours, recompute", "ours_recompute", "the same with memory='recompute'")

PEERS = {
    peer.name: peer
    for peer in (
        Peer("torch.nn", "torch_nn", "PyTorch's own layer, or cell where one step at a time is taken"),
        Peer("eager", "eager", "the cell's equations in PyTorch, one step after another, inputs projected once"),
        Peer("compile", "compiled", "the same, compiled whole by torch.compile; up to 50 steps"),
        Peer("jax", "jax_scan", "the same equations in JAX, jit(scan), inputs projected once", ("jax",)),
        Peer("keras", "keras_jax", "Keras's layer on JAX, compiled", ("keras", "jax")),
        Peer("onnxruntime", "onnx_runtime", "ONNX Runtime's operator; inference alone", ("onnx", "onnxruntime")),
    )
}
"""Peers by name."""
