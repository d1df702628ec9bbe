"""Gated recurrent units."""

from recurra.cells.form import cell
from recurra.math import sigmoid, tanh


@cell(state="h", gates="r z n")
def gru(z, s):
    """Gated recurrent unit as finally published (Cho et al. 2014), eqs 6.64-6.67.

    The reset gate acts before the matrix product, and the update gate z keeps the old state.
    PyTorch and cuDNN compute `gru_reset_after` instead.

    Formula:
        r_t = σ(W_r x_t + U_r h_(t-1) + b_r)
        z_t = σ(W_z x_t + U_z h_(t-1) + b_z)
        n_t = tanh(W_n x_t + U_n (r_t ⊙ h_(t-1)) + b_n)
        h_t = z_t ⊙ h_(t-1) + (1 - z_t) ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_r (H, I); U_r (H, H); b_r (H,); likewise z, n.
    """
    r, u = sigmoid(z.r), sigmoid(z.z)
    n = tanh(z.n(r * s.h))
    return u * s.h + (1 - u) * n


@cell(state="h", gates="r z n", biases=2)
def gru_reset_after(z, s):
    """Gated recurrent unit with the reset after the matrix product (Cho et al. 2014, first version).

    The form of PyTorch and cuDNN, with two biases a gate; weights of `torch.nn.GRU` mean the same here.

    Formula:
        r_t = σ(W_r x_t + b_r + U_r h_(t-1) + b'_r)
        z_t = σ(W_z x_t + b_z + U_z h_(t-1) + b'_z)
        n_t = tanh(W_n x_t + b_n + r_t ⊙ (U_n h_(t-1) + b'_n))
        h_t = z_t ⊙ h_(t-1) + (1 - z_t) ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_r (H, I); U_r (H, H); b_r, b'_r (H,); likewise z, n.
    """
    r, u = sigmoid(z.r), sigmoid(z.z)
    n = tanh(z.n.x + r * z.n.h)
    return u * s.h + (1 - u) * n
