"""Long short-term memory and its variants."""

from recurra.cells.form import cell
from recurra.math import sigmoid, tanh


@cell(state="h c", gates="i f g o", start={"b_f": "forget_bias"})
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
