"""Recurra: recurrent networks from their equations, and one command that trains, examines and uses them.

Public names are brought in when they are first used, so that `import recurra` alone is quick.
"""

import importlib
from typing import TYPE_CHECKING, Any

from recurra.version import __version__

if TYPE_CHECKING:
    from recurra import analysis, cells, data, learn, math, nn, testing, theory
    from recurra.cells import cell
    from recurra.errors import RecurraError
    from recurra.nn import GRU, LSTM, RNN, GRUCell, LSTMCell, Recurrent, RNNCell, Stream, explain
    from recurra.nn.weights import from_keras, from_onnx, from_torch, to_keras, to_torch
    from recurra.run.api import Run, load, resume, train, train_seeds
    from recurra.run.compare import compare

_PUBLIC = {
    "GRU": "recurra.nn",
    "GRUCell": "recurra.nn",
    "LSTM": "recurra.nn",
    "LSTMCell": "recurra.nn",
    "RNN": "recurra.nn",
    "RNNCell": "recurra.nn",
    "Recurrent": "recurra.nn",
    "RecurraError": "recurra.errors",
    "Run": "recurra.run.api",
    "Stream": "recurra.nn",
    "cell": "recurra.cells",
    "compare": "recurra.run.compare",
    "explain": "recurra.nn",
    "from_keras": "recurra.nn.weights",
    "from_onnx": "recurra.nn.weights",
    "from_torch": "recurra.nn.weights",
    "load": "recurra.run.api",
    "resume": "recurra.run.api",
    "to_keras": "recurra.nn.weights",
    "to_torch": "recurra.nn.weights",
    "train": "recurra.run.api",
    "train_seeds": "recurra.run.api",
}
_MODULES = ("analysis", "cells", "data", "learn", "math", "nn", "testing", "theory")

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "RecurraError",
    "Recurrent",
    "Run",
    "Stream",
    "__version__",
    "analysis",
    "cell",
    "cells",
    "compare",
    "data",
    "explain",
    "from_keras",
    "from_onnx",
    "from_torch",
    "learn",
    "load",
    "math",
    "nn",
    "resume",
    "testing",
    "theory",
    "to_keras",
    "to_torch",
    "train",
    "train_seeds",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"recurra.{name}")
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'recurra' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
