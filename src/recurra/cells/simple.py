"""Simple recurrent networks: one state, no gates."""

import math

import torch
from torch import Tensor

from recurra.cells.form import cell
from recurra.math import exp, relu, sigmoid, tanh, where


@cell(state="h", gates="h")
def elman(z, s, *, activation=tanh):
    """Simple recurrent network, SRN (Elman 1990), eqs 6.5-6.7.

    `activation` is any function of a tensor: tanh, the logistic function, ReLU, or one of your own.

    Formula:
        z_t = W_h x_t + U_h h_(t-1) + b_h
        h_t = f(z_t)

    Shapes: x_t (B, I); h_t (B, H); W_h (H, I); U_h (H, H); b_h (H,).
    """
    return activation(z.h)


@cell(state="y:output_size", gates="h", matrices={"V_y": ("output_size", "H")}, vectors="b_y:output_size")
def jordan(z, s, p, *, activation=tanh, output_activation=tanh, output_size="H"):
    """Jordan network, whose output is fed back in place of the hidden units (Jordan 1986).

    y is the state and what a layer puts out, `output_size` (O) values, hidden_size unless said. Jordan's state units
    also kept a decaying trace of themselves; here, as in most accounts since, they are the last output alone.

    Formula:
        a_t = f(W_h x_t + U_h y_(t-1) + b_h)
        y_t = g(V_y a_t + b_y)

    Shapes: x_t (B, I); y_t (B, O); a_t (B, H); W_h (H, I); U_h (H, O); b_h (H,); V_y (O, H); b_y (O,).
    """
    a = activation(z.h)
    return output_activation(p.V_y @ a + p.b_y)


@cell(state="h", gates="h", start={"U": "identity"})
def irnn(z, s):
    """Simple recurrent network of rectified linear units that begins as the identity (Le, Jaitly & Hinton 2015).

    U starts at the identity and b at zero, so that a state is at first kept and inputs are added to it. The paper
    draws W from a normal distribution of deviation 0.001; here it is Xavier's, as in every cell.

    Formula:
        h_t = ReLU(W_h x_t + U_h h_(t-1) + b_h)

    Shapes: x_t (B, I); h_t (B, H); W_h (H, I); U_h (H, H); b_h (H,).
    """
    return relu(z.h)


@cell(state="h", gates="h", recurrent="diagonal", start={"U": "unit"})
def indrnn(z, s, *, activation=relu):
    """Independently recurrent network, IndRNN: each unit sees its own past only (Li et al. 2018).

    U starts uniform from 0 to 1; the paper's upper end, the T-th root of a bound on the growth over T steps, tends to 1
    for long sequences.

    Formula:
        h_t = f(W_h x_t + U_h ⊙ h_(t-1) + b_h)

    Shapes: x_t (B, I); h_t (B, H); W_h (H, I); U_h (H,); b_h (H,).
    """
    return activation(z.h)


@cell(state="h", inputs="g")
def integrator(z, s, *, activation=tanh):
    """Sum of what the inputs say, whose gradient neither vanishes nor explodes (Qiu 2020), eq. 6.47.

    `activation` is any function of a tensor; g(x_t) of the equation is one layer, f(W x_t + b).

    Formula:
        h_t = h_(t-1) + f(W_g x_t + b_g)

    Shapes: x_t (B, I); h_t (B, H); W_g (H, I); b_g (H,).
    """
    return s.h + activation(z.g)


@cell(state="h", gates="g")
def residual(z, s, *, activation=tanh):
    """Simple network whose state is added to (Qiu 2020), eq. 6.48.

    The gradient passes by the nonlinearity as it does in a residual network, but nothing is ever forgotten: the state
    grows, and its capacity is used up.

    Formula:
        h_t = h_(t-1) + f(W_g x_t + U_g h_(t-1) + b_g)

    Shapes: x_t (B, I); h_t (B, H); W_g (H, I); U_g (H, H); b_g (H,).
    """
    return s.h + activation(z.g)


def _evenly(shape: tuple[int, ...]) -> Tensor:
    """Such that σ of it is evenly spaced between 0 and 1."""
    return torch.logit((torch.arange(shape[0]) + 0.5) / shape[0])


def _log(longest: float) -> float:
    if not 1 < longest < math.inf:
        raise ValueError(f"longest: a number of steps above 1 is expected, not {longest}")
    return math.log(longest)


@cell(state="h", gates="h", vectors="nu_a", start={"nu_a": _evenly})
def leaky(z, s, p, *, longest=100.0, activation=tanh):
    """Leaky units, each of a pace of its own, which is learnt (Jaeger et al. 2007).

    A unit moves towards its new value by the share a of the way, so that it remembers about 1/a steps, and that much
    of an error passes each step whatever U does. a stays between 1 / T and 1, T being the option `longest`, and
    begins log-uniformly spread over the units; in the paper one a, which is not learnt, serves all units. The
    activation is any function of a tensor.

    Formula:
        a = exp(-log(T) σ(nu_a))
        h_t = (1 - a) ⊙ h_(t-1) + a ⊙ f(W_h x_t + U_h h_(t-1) + b_h)

    Shapes: x_t (B, I); h_t (B, H); W_h (H, I); U_h (H, H); b_h (H,); nu_a (H,).
    """
    a = exp(-_log(longest) * sigmoid(p.nu_a))
    return (1 - a) * s.h + a * activation(z.h)


def _period(hidden_size: int, *, periods: tuple[int, ...]) -> Tensor:
    """The period of each unit: as many units of each, the first ones of the first."""
    if not periods or not all(isinstance(T, int) and T > 0 for T in periods):
        raise ValueError(f"periods: whole numbers above 0 are expected, not {periods}")
    unit = torch.arange(hidden_size)
    return torch.tensor(periods)[unit * len(periods) // hidden_size]


def _cycle(hidden_size: int, *, periods: tuple[int, ...]) -> Tensor:
    """Steps after which the clocks stand as at the start."""
    return torch.tensor(math.lcm(*periods))


def _slower_or_equal(hidden_size: int, *, periods: tuple[int, ...]) -> Tensor:
    """Which unit (row) may read which (column)."""
    T = _period(hidden_size, periods=periods)
    return (T.unsqueeze(1) <= T).float()


@cell(state="h t:1", gates="h", recurrent=_slower_or_equal, constants={"T": _period, "cycle": _cycle})
def clockwork(z, s, p, *, periods=(1, 2, 4, 8)):
    """Clockwork RNN: groups of units that move at every T-th step only (Koutník et al. 2014).

    Units are shared out evenly among `periods`, in order (with fewer units than periods, some periods have none). A
    unit reads units of its own period or a longer one: U is zero elsewhere. t counts the steps since the state began,
    modulo the least common multiple of the periods, and is part of the state, so that it stays right where a state is
    carried on, reset or padded. At t = 0 every unit moves. t is a number of the state's type, so in 16 bits that
    multiple may be 256 at the most (bfloat16; float16: 2048).

    Formula:
        a_t = tanh(W_h x_t + U_h h_(t-1) + b_h)
        h_t = a_t where t_(t-1) mod T = 0, else h_(t-1)
        t_t = (t_(t-1) + 1) mod cycle

    Shapes: x_t (B, I); h_t (B, H); t_t (B, 1); W_h (H, I); U_h (H, H); b_h (H,); constants T (H,), cycle ().
    """
    moves = s.t % p.T == 0
    return where(moves, tanh(z.h), s.h), (s.t + 1) % p.cycle
