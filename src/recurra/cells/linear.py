"""Cells that are linear in their state: their gates see the input alone, so all steps can be computed in parallel."""

import torch
from torch import Tensor

from recurra.cells.form import cell
from recurra.math import exp, log_sigmoid, sigmoid, sqrt, tanh


@cell(state="h", inputs="z n", chrono="-z")
def min_gru(z, s):
    """Minimal GRU, whose gate does not see the state (Feng et al. 2024).

    The paper's own orientation: z admits the new. Its variant for training in logarithms, which makes the candidate
    positive, is not this one.

    Formula:
        z_t = σ(W_z x_t + b_z)
        n_t = W_n x_t + b_n
        h_t = (1 - z_t) ⊙ h_(t-1) + z_t ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_z (H, I); b_z (H,); likewise n.
    """
    u = sigmoid(z.z)
    return (1 - u) * s.h + u * z.n


@cell(state="h", inputs="f i n", chrono="f -i")
def min_lstm(z, s):
    """Minimal LSTM, whose gates do not see the state and are scaled to sum to one (Feng et al. 2024).

    With r = log f - log i, f / (f + i) is σ(r) and i / (f + i) is σ(-r), also where f and i are both too small to be
    divided.

    Formula:
        r_t = log σ(W_f x_t + b_f) - log σ(W_i x_t + b_i)
        n_t = W_n x_t + b_n
        h_t = σ(r_t) ⊙ h_(t-1) + σ(-r_t) ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_f (H, I); b_f (H,); likewise i, n.
    """
    r = log_sigmoid(z.f) - log_sigmoid(z.i)
    return sigmoid(r) * s.h + sigmoid(-r) * z.n


def _decay_on_a_ring(shape: tuple[int, ...]) -> Tensor:
    """Such that a² is uniform from 0.9² to 0.999² (Orvieto et al. 2023, lemma 3.2)."""
    square = torch.empty(shape).uniform_(0.9**2, 0.999**2)
    return (-0.5 * square.log()).log()


@cell(state="h", inputs="n", vectors="nu_a", start={"nu_a": _decay_on_a_ring})
def linear_recurrence(z, s, p):
    """Diagonal linear recurrence, the linear recurrent unit with real eigenvalues (Orvieto et al. 2023).

    Each unit is a moving average of its input, which decays by a, 0 < a < 1, at a step; the factor before the input
    keeps the state's size whatever a is: it is √(1 - a²), written so that no rounding of a to 1 makes it zero. The
    paper's eigenvalues are complex, a e^(iθ); these have θ = 0.

    Formula:
        a = exp(-exp(nu_a))
        u = tanh(exp(nu_a))
        h_t = a ⊙ h_(t-1) + √(2 u / (1 + u)) ⊙ (W_n x_t + b_n)

    Shapes: x_t (B, I); h_t (B, H); W_n (H, I); b_n (H,); nu_a (H,).
    """
    a = exp(-exp(p.nu_a))
    u = tanh(exp(p.nu_a))
    return a * s.h + sqrt(2 * u / (1 + u)) * z.n
