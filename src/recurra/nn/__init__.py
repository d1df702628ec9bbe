"""Layers."""

from recurra.nn.attention import Attention
from recurra.nn.convolutional import ConvRecurrent
from recurra.nn.delay import AR, NARX, TDNN
from recurra.nn.dropin import GRU, LSTM, RNN, GRUCell, LSTMCell, RNNCell
from recurra.nn.explanation import Explanation, explain
from recurra.nn.external_memory import NTM
from recurra.nn.grid import DepthGrid, Grid
from recurra.nn.hopfield import Hopfield, ModernHopfield
from recurra.nn.recurrent import Recurrent
from recurra.nn.stream import Stream

__all__ = [
    "AR",
    "GRU",
    "LSTM",
    "NARX",
    "NTM",
    "RNN",
    "TDNN",
    "Attention",
    "ConvRecurrent",
    "DepthGrid",
    "Explanation",
    "GRUCell",
    "Grid",
    "Hopfield",
    "LSTMCell",
    "ModernHopfield",
    "RNNCell",
    "Recurrent",
    "Stream",
    "explain",
]
