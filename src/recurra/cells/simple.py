"""Simple recurrent networks: one state, no gates."""

from recurra.cells.form import cell
from recurra.math import tanh


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
