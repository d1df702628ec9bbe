"""Layers."""

from recurra.nn.dropin import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from recurra.nn.explanation import Explanation, explain
from recurra.nn.grid import DepthGrid, Grid
from recurra.nn.recurrent import Recurrent
from recurra.nn.stream import Stream

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "DepthGrid",
    "Explanation",
    "GRUCell",
    "Grid",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "Stream",
    "explain",
]
