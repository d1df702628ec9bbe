"""The cells again, in NumPy, written from the papers' equations and from nothing of the package.

Each function runs one direction over a whole sequence. Weights come by their symbol in the equations ("W_i", "U_i",
"b_i"), in double precision or complex: every operation here is analytic, but where real parts are compared (ReLU, a
maximum, a clock), so that a derivative is found by a complex step, exact to rounding away from ties:
f'(a) = Im f(a + iε) / ε with ε = 1e-30.

x is (T, B, I). Each returns the outputs, (T, B, width), and the final state as a tuple of (B, width).
"""

from collections.abc import Callable, Sequence
from math import lcm

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]
Run = tuple[Array, tuple[Array, ...]]
Function = Callable[[Array], Array]


def logistic(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


def relu(a: Array) -> Array:
    return np.where(np.real(a) > 0, a, 0)


def greater(a: Array, b: Array) -> Array:
    return np.where(np.real(a) > np.real(b), a, b)


def layer_norm(a: Array, gain: Array, shift: Array | float = 0.0) -> Array:
    """Ba, Kiros & Hinton 2016, eq. 4, with the ε that keeps a row of equal values finite."""
    mean = a.mean(axis=-1, keepdims=True)
    variance = ((a - mean) ** 2).mean(axis=-1, keepdims=True)
    return gain * (a - mean) / np.sqrt(variance + 1e-5) + shift


ACTIVATIONS: dict[str, Function] = {
    "tanh": np.tanh,
    "logistic": logistic,
    "relu": relu,
    "softplus": lambda a: np.log(1 + np.exp(a)),
    "sin": np.sin,
    "identity": lambda a: a,
}


# --- simple cells ----------------------------------------------------------------------------------------------------


def elman(w: Weights, x: Array, h: Array, f: Function = np.tanh) -> Run:
    """Elman 1990: the hidden units see the input and a copy of their own last activations."""
    outputs = []
    for x_t in x:
        h = f(x_t @ w["W_h"].T + h @ w["U_h"].T + w["b_h"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def jordan(w: Weights, x: Array, y: Array, f: Function = np.tanh, g: Function = np.tanh) -> Run:
    """Jordan 1986: the hidden units see the input and the last output."""
    outputs = []
    for x_t in x:
        hidden = f(x_t @ w["W_h"].T + y @ w["U_h"].T + w["b_h"])
        y = g(hidden @ w["V_y"].T + w["b_y"])
        outputs.append(y)
    return np.stack(outputs), (y,)


def irnn(w: Weights, x: Array, h: Array) -> Run:
    """Le, Jaitly & Hinton 2015: an Elman network of rectified linear units (begun at U = I)."""
    return elman(w, x, h, relu)


def indrnn(w: Weights, x: Array, h: Array, f: Function = relu) -> Run:
    """Li et al. 2018, eq. 2: each unit sees the input and its own last state alone."""
    outputs = []
    for x_t in x:
        h = f(x_t @ w["W_h"].T + w["U_h"] * h + w["b_h"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def integrator(w: Weights, x: Array, h: Array, f: Function = np.tanh) -> Run:
    """Eq. 6.47, h_t = h_(t-1) + g(x_t): the terms do not depend on the state, so the state is their running sum."""
    outputs = h + np.cumsum(f(x @ w["W_g"].T + w["b_g"]), axis=0)
    return outputs, (outputs[-1],)


def residual(w: Weights, x: Array, h: Array, f: Function = np.tanh) -> Run:
    """Eq. 6.48: h_t = h_(t-1) + g(x_t, h_(t-1))."""
    outputs = []
    for x_t in x:
        h = h + f(x_t @ w["W_g"].T + h @ w["U_g"].T + w["b_g"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def leaky(w: Weights, x: Array, h: Array, f: Function = np.tanh, longest: float = 100.0) -> Run:
    """Jaeger et al. 2007, eq. 2 with a = 1, a leaking rate γ of each unit's own, from 1 to 1 / longest."""
    rate = longest ** -logistic(w["nu_a"])
    outputs = []
    for x_t in x:
        h = h + rate * (f(x_t @ w["W_h"].T + h @ w["U_h"].T + w["b_h"]) - h)
        outputs.append(h)
    return np.stack(outputs), (h,)


def clockwork(w: Weights, x: Array, h: Array, t: Array, periods: Sequence[int] = (1, 2, 4, 8)) -> Run:
    """Koutník et al. 2014: modules with clocks; a module moves when its period divides the time, else it rests.

    A module reads itself and the modules that are as slow as it or slower. Units are shared out among the periods in
    order. Each row of the batch has its own time, that of its first step being t.
    """
    n = h.shape[1]
    T_of = [periods[k * len(periods) // n] for k in range(n)]
    U = np.array([[w["U_h"][i, j] if T_of[j] >= T_of[i] else 0.0 for j in range(n)] for i in range(n)])
    outputs = []
    for x_t in x:
        moved = np.tanh(x_t @ w["W_h"].T + h @ U.T + w["b_h"])
        h = np.array([[moved[b, k] if t[b, 0] % T_of[k] == 0 else h[b, k] for k in range(n)] for b in range(len(h))])
        t = (t + 1) % lcm(*periods)
        outputs.append(h)
    return np.stack(outputs), (h, t)


# --- long short-term memory ------------------------------------------------------------------------------------------


def lstm(w: Weights, x: Array, h: Array, c: Array) -> Run:
    """Gers, Schmidhuber & Cummins 2000: Hochreiter & Schmidhuber's cell of 1997 with a forget gate, no peepholes."""
    outputs = []
    for x_t in x:
        y_in = logistic(x_t @ w["W_i"].T + h @ w["U_i"].T + w["b_i"])
        y_forget = logistic(x_t @ w["W_f"].T + h @ w["U_f"].T + w["b_f"])
        y_out = logistic(x_t @ w["W_o"].T + h @ w["U_o"].T + w["b_o"])
        candidate = np.tanh(x_t @ w["W_g"].T + h @ w["U_g"].T + w["b_g"])
        c = c * y_forget + y_in * candidate
        h = y_out * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), (h, c)


def lstm_no_forget(w: Weights, x: Array, h: Array, c: Array) -> Run:
    """Hochreiter & Schmidhuber 1997 with the squashing functions of eqs 6.49-6.54; eq. 6.58: c only adds up."""
    outputs = []
    for x_t in x:
        y_in = logistic(x_t @ w["W_i"].T + h @ w["U_i"].T + w["b_i"])
        y_out = logistic(x_t @ w["W_o"].T + h @ w["U_o"].T + w["b_o"])
        c = c + y_in * np.tanh(x_t @ w["W_g"].T + h @ w["U_g"].T + w["b_g"])
        h = y_out * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), (h, c)


def lstm_peephole(w: Weights, x: Array, h: Array, c: Array) -> Run:
    """Gers & Schmidhuber 2000, eqs 6.59-6.61: the gates see the cell; the output gate sees it after its update."""
    outputs = []
    for x_t in x:
        y_in = logistic(x_t @ w["W_i"].T + h @ w["U_i"].T + w["v_i"] * c + w["b_i"])
        y_forget = logistic(x_t @ w["W_f"].T + h @ w["U_f"].T + w["v_f"] * c + w["b_f"])
        c = c * y_forget + y_in * np.tanh(x_t @ w["W_g"].T + h @ w["U_g"].T + w["b_g"])
        y_out = logistic(x_t @ w["W_o"].T + h @ w["U_o"].T + w["v_o"] * c + w["b_o"])
        h = y_out * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), (h, c)


def lstm_coupled(w: Weights, x: Array, h: Array, c: Array) -> Run:
    """Greff et al. 2017 (CIFG), eqs 6.62-6.63: what is not let in is kept."""
    outputs = []
    for x_t in x:
        y_in = logistic(x_t @ w["W_i"].T + h @ w["U_i"].T + w["b_i"])
        y_out = logistic(x_t @ w["W_o"].T + h @ w["U_o"].T + w["b_o"])
        candidate = np.tanh(x_t @ w["W_g"].T + h @ w["U_g"].T + w["b_g"])
        c = c + y_in * (candidate - c)
        h = y_out * np.tanh(c)
        outputs.append(h)
    return np.stack(outputs), (h, c)


def lstm_projected(w: Weights, x: Array, r: Array, c: Array) -> Run:
    """Sak, Senior & Beaufays 2014 without peepholes or non-recurrent projection: r_t = W_rm m_t is fed back."""
    outputs = []
    for x_t in x:
        y_in = logistic(x_t @ w["W_i"].T + r @ w["U_i"].T + w["b_i"])
        y_forget = logistic(x_t @ w["W_f"].T + r @ w["U_f"].T + w["b_f"])
        y_out = logistic(x_t @ w["W_o"].T + r @ w["U_o"].T + w["b_o"])
        c = y_forget * c + y_in * np.tanh(x_t @ w["W_g"].T + r @ w["U_g"].T + w["b_g"])
        m = y_out * np.tanh(c)
        r = m @ w["W_hr"].T
        outputs.append(r)
    return np.stack(outputs), (r, c)


def lstm_layer_norm(w: Weights, x: Array, h: Array, c: Array) -> Run:
    """Ba, Kiros & Hinton 2016, eqs 20-22: the net inputs of all four gates are normalised as one row."""
    W, U, b = (np.concatenate([w[f"{letter}_{gate}"] for gate in "ifgo"]) for letter in "WUb")
    outputs = []
    for x_t in x:
        net = layer_norm(x_t @ W.T, w["a_x"]) + layer_norm(h @ U.T, w["a_h"]) + b
        net_i, net_f, net_g, net_o = np.split(net, 4, axis=-1)
        c = logistic(net_f) * c + logistic(net_i) * np.tanh(net_g)
        h = logistic(net_o) * np.tanh(layer_norm(c, w["a_c"], w["d_c"]))
        outputs.append(h)
    return np.stack(outputs), (h, c)


def slstm(w: Weights, x: Array, h: Array, c: Array, n: Array, m: Array) -> Run:
    """Beck et al. 2024 (xLSTM), the scalar cell: exponential input gate, stabiliser m, a normaliser n beside c.

    Each head's U multiplies that head's part of h alone: U_g is (heads, H / heads, H / heads).
    """

    def net(gate: str, x_t: Array, h: Array) -> Array:
        heads = np.split(h, len(w[f"U_{gate}"]), axis=-1)
        mixed = [h_k @ U_k.T for h_k, U_k in zip(heads, w[f"U_{gate}"], strict=True)]
        return x_t @ w[f"W_{gate}"].T + np.concatenate(mixed, axis=-1) + w[f"b_{gate}"]

    outputs = []
    for x_t in x:
        z, log_i = np.tanh(net("z", x_t, h)), net("i", x_t, h)
        log_f, o = -np.log1p(np.exp(-net("f", x_t, h))), logistic(net("o", x_t, h))
        new_m = greater(log_f + m, log_i)
        i, f = np.exp(log_i - new_m), np.exp(log_f + m - new_m)
        c, n, m = f * c + i * z, f * n + i, new_m
        h = o * c / n
        outputs.append(h)
    return np.stack(outputs), (h, c, n, m)


# --- gated recurrent units -------------------------------------------------------------------------------------------


def gru(w: Weights, x: Array, h: Array) -> Run:
    """Cho et al. 2014 as published, eqs 5-8 of arXiv 1406.1078v3 with biases: U multiplies r ⊙ h, and z keeps h."""
    outputs = []
    for x_t in x:
        r = logistic(x_t @ w["W_r"].T + h @ w["U_r"].T + w["b_r"])
        z = logistic(x_t @ w["W_z"].T + h @ w["U_z"].T + w["b_z"])
        candidate = np.tanh(x_t @ w["W_n"].T + (r * h) @ w["U_n"].T + w["b_n"])
        h = z * h + (1 - z) * candidate
        outputs.append(h)
    return np.stack(outputs), (h,)


def gru_reset_after(w: Weights, x: Array, h: Array) -> Run:
    """The form of cuDNN: r multiplies U h and its own bias."""
    outputs = []
    for x_t in x:
        r = logistic(x_t @ w["W_r"].T + w["b_r"] + h @ w["U_r"].T + w["b'_r"])
        z = logistic(x_t @ w["W_z"].T + w["b_z"] + h @ w["U_z"].T + w["b'_z"])
        candidate = np.tanh(x_t @ w["W_n"].T + w["b_n"] + r * (h @ w["U_n"].T + w["b'_n"]))
        h = (1 - z) * candidate + z * h
        outputs.append(h)
    return np.stack(outputs), (h,)


def gru_layer_norm(w: Weights, x: Array, h: Array) -> Run:
    """Ba, Kiros & Hinton 2016, supplement, with z keeping the old state: both gates are normalised as one row."""
    W, U, b = (np.concatenate([w[f"{letter}_{gate}"] for gate in "rz"]) for letter in "WUb")
    outputs = []
    for x_t in x:
        net = layer_norm(x_t @ W.T, w["a_x"]) + layer_norm(h @ U.T, w["a_h"]) + b
        r, z = np.split(logistic(net), 2, axis=-1)
        from_input = layer_norm(x_t @ w["W_n"].T, w["a_nx"]) + w["b_n"]
        from_state = layer_norm(h @ w["U_n"].T, w["a_nh"], w["d_n"])
        h = z * h + (1 - z) * np.tanh(from_input + r * from_state)
        outputs.append(h)
    return np.stack(outputs), (h,)


def mgu(w: Weights, x: Array, h: Array) -> Run:
    """Zhou et al. 2016, the minimal gated unit: one gate forgets and resets."""
    outputs = []
    for x_t in x:
        f = logistic(x_t @ w["W_f"].T + h @ w["U_f"].T + w["b_f"])
        candidate = np.tanh(x_t @ w["W_n"].T + (f * h) @ w["U_n"].T + w["b_n"])
        h = (1 - f) * h + f * candidate
        outputs.append(h)
    return np.stack(outputs), (h,)


# --- cells that are affine in their state ----------------------------------------------------------------------------


def min_gru(w: Weights, x: Array, h: Array) -> Run:
    """Feng et al. 2024, minGRU: gate and candidate see the input alone, and z lets the candidate in."""
    outputs = []
    for x_t in x:
        z = logistic(x_t @ w["W_z"].T + w["b_z"])
        h = (1 - z) * h + z * (x_t @ w["W_n"].T + w["b_n"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def min_lstm(w: Weights, x: Array, h: Array) -> Run:
    """Feng et al. 2024, minLSTM: the two gates see the input alone and are scaled to a sum of 1."""
    outputs = []
    for x_t in x:
        f = logistic(x_t @ w["W_f"].T + w["b_f"])
        i = logistic(x_t @ w["W_i"].T + w["b_i"])
        h = f / (f + i) * h + i / (f + i) * (x_t @ w["W_n"].T + w["b_n"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def linear_recurrence(w: Weights, x: Array, h: Array) -> Run:
    """Orvieto et al. 2023 (LRU) with real eigenvalues a = exp(-exp(ν)), written out as the sum that it is:

    h_t = a^t h_0 + Σ_(k <= t) a^(t-k) √(1 - a²) (W_n x_k + b_n).
    """
    a = np.exp(-np.exp(w["nu_a"]))
    inputs = np.sqrt(1 - a**2) * (x @ w["W_n"].T + w["b_n"])
    outputs = []
    for t in range(1, len(x) + 1):
        powers = a ** np.arange(t - 1, -1, -1)[:, None]
        outputs.append(a**t * h + (powers[:, None] * inputs[:t]).sum(axis=0))
    return np.stack(outputs), (outputs[-1],)


# --- derivatives -----------------------------------------------------------------------------------------------------


def gradients(loss: Callable[[dict[str, Array]], Array], values: dict[str, Array]) -> dict[str, Array]:
    """The derivative of a real loss with respect to every entry of every array, by complex steps."""
    found = {}
    for name, value in values.items():
        gradient = np.empty(value.shape)
        for place in np.ndindex(value.shape):
            moved = value.astype(complex)
            moved[place] += 1e-30j
            gradient[place] = np.imag(loss({**values, name: moved})) / 1e-30
        found[name] = gradient
    return found


def slope(loss: Callable[[dict[str, Array]], Array], values: dict[str, Array], directions: dict[str, Array]) -> float:
    """The derivative of a real loss along one direction in all arrays at once, by one complex step."""
    moved = {name: value + 1e-30j * directions[name] for name, value in values.items()}
    return float(np.imag(loss(moved)) / 1e-30)
