"""Gated recurrent units."""

from recurra.cells.form import cell
from recurra.math import join, norm, sigmoid, split, tanh


@cell(state="h", gates="r z n", chrono="z")
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


@cell(state="h", gates="r z n", biases=2, chrono="z")
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


@cell(
    state="h",
    gates="r z n",
    biases="apart",
    vectors="a_x:2H a_h:2H a_nx a_nh d_n",
    start={"a_x": 1.0, "a_h": 1.0, "a_nx": 1.0, "a_nh": 1.0},
    chrono="z",
)
def gru_layer_norm(z, s, p):
    """Gated recurrent unit with layer normalisation (Ba, Kiros & Hinton 2016, supplement).

    norm(v; a) = a ⊙ (v - mean of v) / √(variance of v + ε) over each row: the two gates at once (2H values, [ ]
    below), the candidate by itself. The reset gate acts after the matrix product. In the paper z admits the new state;
    here, as in every GRU of this file, it keeps the old one. Of the paper's shifts the sum of two is one bias here.

    Formula:
        [r z]_(z) = norm([W_r W_z] x_t; a_x) + norm([U_r U_z] h_(t-1); a_h)
        r_t = σ(r_(z) + b_r)
        z_t = σ(z_(z) + b_z)
        n_t = tanh(norm(W_n x_t; a_nx) + b_n + r_t ⊙ (norm(U_n h_(t-1); a_nh) + d_n))
        h_t = z_t ⊙ h_(t-1) + (1 - z_t) ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_r (H, I); U_r (H, H); b_r (H,); likewise z, n; a_x, a_h (2H,); a_nx, a_nh,
    d_n (H,).
    """
    gates = norm(join(z.r.x, z.z.x), p.a_x) + norm(join(z.r.h, z.z.h), p.a_h)
    z_r, z_z = split(gates, parts=2)
    r, u = sigmoid(z_r + z.r.b), sigmoid(z_z + z.z.b)
    n = tanh(norm(z.n.x, p.a_nx) + z.n.b + r * (norm(z.n.h, p.a_nh) + p.d_n))
    return u * s.h + (1 - u) * n


@cell(state="h", gates="f n", chrono="-f")
def mgu(z, s):
    """Minimal gated unit: one gate that both forgets and resets (Zhou et al. 2016).

    A GRU whose two gates are one; two thirds of its parameters.

    Formula:
        f_t = σ(W_f x_t + U_f h_(t-1) + b_f)
        n_t = tanh(W_n x_t + U_n (f_t ⊙ h_(t-1)) + b_n)
        h_t = (1 - f_t) ⊙ h_(t-1) + f_t ⊙ n_t

    Shapes: x_t (B, I); h_t (B, H); W_f (H, I); U_f (H, H); b_f (H,); likewise n.
    """
    f = sigmoid(z.f)
    n = tanh(z.n(f * s.h))
    return (1 - f) * s.h + f * n
