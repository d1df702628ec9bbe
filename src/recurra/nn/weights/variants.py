"""Cells of the catalogue with activations of choice, as the layers of ONNX and Keras allow them.

`lstm`, `gru` and `elman` here choose: where a cell of the catalogue is exactly what is asked for they give that one, so
that whatever serves it serves a layer from elsewhere too.
"""

from collections.abc import Callable
from typing import Any

from recurra import cells
from recurra.cells.form import Cell, cell
from recurra.math import sigmoid, tanh

Activation = Callable[..., Any]


@cell(state="h c", gates="i f g o")
def lstm_activated(z, s, *, f=sigmoid, g=tanh, h=tanh):
    """Long short-term memory with activations of choice: the formula of `lstm`, with f, g, h for σ, tanh, tanh."""
    c = f(z.f) * s.c + f(z.i) * g(z.g)
    return f(z.o) * h(c), c


@cell(state="h c", gates="i f g o", vectors="v_i v_f v_o")
def lstm_peephole_activated(z, s, p, *, f=sigmoid, g=tanh, h=tanh):
    """LSTM with peepholes and activations of choice: the formula of `lstm_peephole`, with f, g, h for σ, tanh, tanh."""
    c = f(z.f + p.v_f * s.c) * s.c + f(z.i + p.v_i * s.c) * g(z.g)
    return f(z.o + p.v_o * c) * h(c), c


@cell(state="h c", gates="i g o")
def lstm_coupled_activated(z, s, *, f=sigmoid, g=tanh, h=tanh):
    """Coupled LSTM with activations of choice: the formula of `lstm_coupled`, with f, g, h for σ, tanh, tanh."""
    i = f(z.i)
    c = (1 - i) * s.c + i * g(z.g)
    return f(z.o) * h(c), c


@cell(state="h c", gates="i g o", vectors="v_i v_o")
def lstm_coupled_peephole(z, s, p, *, f=sigmoid, g=tanh, h=tanh):
    """LSTM with coupled gates, peepholes, and activations of choice.

    Formula:
        i_t = f(W_i x_t + U_i h_(t-1) + v_i ⊙ c_(t-1) + b_i)
        g_t = g(W_g x_t + U_g h_(t-1) + b_g)
        c_t = (1 - i_t) ⊙ c_(t-1) + i_t ⊙ g_t
        o_t = f(W_o x_t + U_o h_(t-1) + v_o ⊙ c_t + b_o)
        h_t = o_t ⊙ h(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g, v_i, v_o (H,); likewise i, o.
    """
    i = f(z.i + p.v_i * s.c)
    c = (1 - i) * s.c + i * g(z.g)
    return f(z.o + p.v_o * c) * h(c), c


@cell(state="h", gates="r z n")
def gru_activated(z, s, *, f=sigmoid, g=tanh):
    """Gated recurrent unit with activations of choice: the formula of `gru`, with f, g for σ, tanh."""
    r, u = f(z.r), f(z.z)
    n = g(z.n(r * s.h))
    return u * s.h + (1 - u) * n


@cell(state="h", gates="r z n", biases=2)
def gru_reset_after_activated(z, s, *, f=sigmoid, g=tanh):
    """GRU, reset after the product, with activations of choice: `gru_reset_after`'s formula, with f, g for σ, tanh."""
    r, u = f(z.r), f(z.z)
    n = g(z.n.x + r * z.n.h)
    return u * s.h + (1 - u) * n


def lstm(
    f: Activation = sigmoid,
    g: Activation = tanh,
    h: Activation = tanh,
    *,
    peephole: bool = False,
    coupled: bool = False,
) -> Cell:
    """The LSTM with these activations of the gates, the candidate and the output."""
    if (f, g, h) == (sigmoid, tanh, tanh) and not (peephole and coupled):
        name = "lstm_peephole" if peephole else "lstm_coupled" if coupled else "lstm"
        return cells.CATALOGUE[name]
    if coupled:
        return (lstm_coupled_peephole if peephole else lstm_coupled_activated)(f=f, g=g, h=h)
    return (lstm_peephole_activated if peephole else lstm_activated)(f=f, g=g, h=h)


def gru(f: Activation = sigmoid, g: Activation = tanh, *, reset_after: bool = False) -> Cell:
    """The GRU with these activations of the gates and the candidate."""
    if (f, g) == (sigmoid, tanh):
        return cells.CATALOGUE["gru_reset_after" if reset_after else "gru"]
    return (gru_reset_after_activated if reset_after else gru_activated)(f=f, g=g)


def elman(f: Activation = tanh) -> Cell:
    """The simple recurrent network with this activation."""
    return cells.CATALOGUE["elman"](activation=f)
