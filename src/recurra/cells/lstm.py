"""Long short-term memory and its variants."""

from recurra.cells.form import cell
from recurra.math import exp, join, log_sigmoid, maximum, norm, sigmoid, split, tanh


@cell(state="h c", gates="i f g o", start={"b_f": "forget_bias"}, chrono="f -i")
def lstm(z, s, *, forget_bias=1.0):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000), eqs 6.49-6.57.

    The forget gate's bias starts at `forget_bias`: 1 or 2 lets the cell remember before it has learnt to.
    One of the source documents prints σ for the candidate's tanh; this is the corrected form.

    Formula:
        i_t = σ(W_i x_t + U_i h_(t-1) + b_i)
        f_t = σ(W_f x_t + U_f h_(t-1) + b_f)
        o_t = σ(W_o x_t + U_o h_(t-1) + b_o)
        g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
        c_t = f_t ⊙ c_(t-1) + i_t ⊙ g_t
        h_t = o_t ⊙ tanh(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g (H,); likewise i, f, o.
    """
    i, f, o = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o)
    g = tanh(z.g)
    c = f * s.c + i * g
    return o * tanh(c), c


@cell(state="h c", gates="i g o")
def lstm_no_forget(z, s):
    """LSTM without a forget gate (Hochreiter & Schmidhuber 1997), eq. 6.58.

    The first LSTM: c only ever adds, so it passes its gradient on unchanged and is used up in time. The paper also
    scaled the two squashing functions and cut the gradient short; here they are tanh, and the gradient is whole.

    Formula:
        i_t = σ(W_i x_t + U_i h_(t-1) + b_i)
        o_t = σ(W_o x_t + U_o h_(t-1) + b_o)
        g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
        c_t = c_(t-1) + i_t ⊙ g_t
        h_t = o_t ⊙ tanh(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g (H,); likewise i, o.
    """
    i, o = sigmoid(z.i), sigmoid(z.o)
    g = tanh(z.g)
    c = s.c + i * g
    return o * tanh(c), c


@cell(state="h c", gates="i f g o", vectors="v_i v_f v_o", start={"b_f": "forget_bias"}, chrono="f -i")
def lstm_peephole(z, s, p, *, forget_bias=1.0):
    """LSTM with peephole connections (Gers & Schmidhuber 2000), eqs 6.59-6.61.

    The gates see the internal state through diagonal matrices v: i and f the old one, o the new one. One of the
    source documents says before its equations that all three see the old one; its equation 6.61 is right.

    Formula:
        i_t = σ(W_i x_t + U_i h_(t-1) + v_i ⊙ c_(t-1) + b_i)
        f_t = σ(W_f x_t + U_f h_(t-1) + v_f ⊙ c_(t-1) + b_f)
        g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
        c_t = f_t ⊙ c_(t-1) + i_t ⊙ g_t
        o_t = σ(W_o x_t + U_o h_(t-1) + v_o ⊙ c_t + b_o)
        h_t = o_t ⊙ tanh(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g (H,); likewise i, f, o; v_i, v_f, v_o (H,).
    """
    i = sigmoid(z.i + p.v_i * s.c)
    f = sigmoid(z.f + p.v_f * s.c)
    g = tanh(z.g)
    c = f * s.c + i * g
    o = sigmoid(z.o + p.v_o * c)
    return o * tanh(c), c


@cell(state="h c", gates="i g o", chrono="-i")
def lstm_coupled(z, s):
    """LSTM with coupled input and forget gates, CIFG (Greff et al. 2017), eqs 6.62-6.63.

    It forgets just as much as it admits, f = 1 - i, and has a quarter fewer parameters.

    Formula:
        i_t = σ(W_i x_t + U_i h_(t-1) + b_i)
        o_t = σ(W_o x_t + U_o h_(t-1) + b_o)
        g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
        c_t = (1 - i_t) ⊙ c_(t-1) + i_t ⊙ g_t
        h_t = o_t ⊙ tanh(c_t)

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g (H,); likewise i, o.
    """
    i, o = sigmoid(z.i), sigmoid(z.o)
    g = tanh(z.g)
    c = (1 - i) * s.c + i * g
    return o * tanh(c), c


@cell(
    state="h:proj_size c",
    gates="i f g o",
    matrices={"W_hr": ("proj_size", "H")},
    start={"b_f": "forget_bias"},
    chrono="f -i",
)
def lstm_projected(z, s, p, *, proj_size="H", forget_bias=1.0):
    """LSTM whose output is projected before it is fed back (Sak, Senior & Beaufays 2014).

    What a layer puts out and U multiplies has `proj_size` (P) values, hidden_size unless said: PyTorch's `proj_size`.
    The paper's cell also has peepholes and a second, unfed projection.

    Formula:
        i_t = σ(W_i x_t + U_i h_(t-1) + b_i)
        f_t = σ(W_f x_t + U_f h_(t-1) + b_f)
        o_t = σ(W_o x_t + U_o h_(t-1) + b_o)
        g_t = tanh(W_g x_t + U_g h_(t-1) + b_g)
        c_t = f_t ⊙ c_(t-1) + i_t ⊙ g_t
        h_t = W_hr (o_t ⊙ tanh(c_t))

    Shapes: x_t (B, I); h_t (B, P); c_t (B, H); W_g (H, I); U_g (H, P); b_g (H,); likewise i, f, o; W_hr (P, H).
    """
    i, f, o = sigmoid(z.i), sigmoid(z.f), sigmoid(z.o)
    g = tanh(z.g)
    c = f * s.c + i * g
    return p.W_hr @ (o * tanh(c)), c


@cell(
    state="h c",
    gates="i f g o",
    biases="apart",
    vectors="a_x:4H a_h:4H a_c d_c",
    start={"b_f": "forget_bias", "a_x": 1.0, "a_h": 1.0, "a_c": 1.0},
    chrono="f -i",
)
def lstm_layer_norm(z, s, p, *, forget_bias=1.0):
    """LSTM with layer normalisation (Ba, Kiros & Hinton 2016), their eqs 20-22.

    norm(v; a, d) = a ⊙ (v - mean of v) / √(variance of v + ε) + d over each row. What comes from the input and what
    comes from the state are normalised apart, each over all four gates at once (4H values, [ ] below), then c. The
    paper's two shifts are one bias a gate here, since only their sum counts.

    Formula:
        [i f g o]_(z) = norm([W_i W_f W_g W_o] x_t; a_x) + norm([U_i U_f U_g U_o] h_(t-1); a_h)
        i_t = σ(i_(z) + b_i)
        f_t = σ(f_(z) + b_f)
        o_t = σ(o_(z) + b_o)
        g_t = tanh(g_(z) + b_g)
        c_t = f_t ⊙ c_(t-1) + i_t ⊙ g_t
        h_t = o_t ⊙ tanh(norm(c_t; a_c, d_c))

    Shapes: x_t (B, I); h_t, c_t (B, H); W_g (H, I); U_g (H, H); b_g (H,); likewise i, f, o; a_x, a_h (4H,);
    a_c, d_c (H,).
    """
    x = norm(join(z.i.x, z.f.x, z.g.x, z.o.x), p.a_x)
    h = norm(join(z.i.h, z.f.h, z.g.h, z.o.h), p.a_h)
    z_i, z_f, z_g, z_o = split(x + h, parts=4)
    i, f, o = sigmoid(z_i + z.i.b), sigmoid(z_f + z.f.b), sigmoid(z_o + z.o.b)
    g = tanh(z_g + z.g.b)
    c = f * s.c + i * g
    return o * tanh(norm(c, p.a_c, p.d_c)), c


@cell(
    state="h c n m",
    gates="z i f o",
    recurrent="blocks",
    start={"b_f": "forget_bias", "m": float("-inf")},
)
def slstm(z, s, *, heads=1, forget_bias=1.0):
    """sLSTM, the scalar cell of xLSTM, with an exponential input gate (Beck et al. 2024).

    The units are shared out among `heads`; U is block-diagonal, so that a unit reads its own head alone. n sums the
    weights that c is made with, and m, a running maximum, keeps the exponentials in range without changing h. m
    starts at -∞, where the first step finds nothing to hold on to. The forget gate is the logistic one of the two
    that the paper offers, and its bias starts at one number for all units.

    Formula:
        m_t = max(log σ(W_f x_t + U_f h_(t-1) + b_f) + m_(t-1), W_i x_t + U_i h_(t-1) + b_i)
        i_t = exp(W_i x_t + U_i h_(t-1) + b_i - m_t)
        f_t = exp(log σ(W_f x_t + U_f h_(t-1) + b_f) + m_(t-1) - m_t)
        c_t = f_t ⊙ c_(t-1) + i_t ⊙ tanh(W_z x_t + U_z h_(t-1) + b_z)
        n_t = f_t ⊙ n_(t-1) + i_t
        h_t = σ(W_o x_t + U_o h_(t-1) + b_o) ⊙ c_t / n_t

    Shapes: x_t (B, I); h_t, c_t, n_t, m_t (B, H); W_z (H, I); U_z (H, H) in blocks of H / heads; b_z (H,);
    likewise i, f, o.
    """
    log_f = log_sigmoid(z.f) + s.m
    m = maximum(log_f, z.i)
    i, f = exp(z.i - m), exp(log_f - m)
    c = f * s.c + i * tanh(z.z)
    n = f * s.n + i
    return sigmoid(z.o) * c / n, c, n, m
