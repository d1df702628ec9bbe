"""The cells again, in NumPy, written from the papers' equations and from nothing of the package.

Each function runs one direction over a whole sequence. Weights come by their symbol in the equations ("W_i", "U_i",
"b_i"), in double precision or complex: every operation here is analytic (ReLU away from 0), so that a derivative is
found by a complex step, exact to rounding: f'(a) = Im f(a + iε) / ε with ε = 1e-30.

x is (T, B, I). Each returns the outputs, (T, B, H), and the final state as a tuple of (B, H).
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray
Weights = dict[str, Array]


def logistic(a: Array) -> Array:
    return 1 / (1 + np.exp(-a))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": np.tanh,
    "logistic": logistic,
    "relu": lambda a: np.where(np.real(a) > 0, a, 0),
    "softplus": lambda a: np.log(1 + np.exp(a)),
    "sin": np.sin,
}


def elman(w: Weights, x: Array, h: Array, f: Callable[[Array], Array]) -> tuple[Array, tuple[Array, ...]]:
    """Elman 1990: the hidden units see the input and a copy of their own last activations."""
    outputs = []
    for x_t in x:
        h = f(x_t @ w["W_h"].T + h @ w["U_h"].T + w["b_h"])
        outputs.append(h)
    return np.stack(outputs), (h,)


def lstm(w: Weights, x: Array, h: Array, c: Array) -> tuple[Array, tuple[Array, ...]]:
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


def gru(w: Weights, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    """Cho et al. 2014 as published, eqs 5-8 of arXiv 1406.1078v3 with biases: U multiplies r ⊙ h, and z keeps h."""
    outputs = []
    for x_t in x:
        r = logistic(x_t @ w["W_r"].T + h @ w["U_r"].T + w["b_r"])
        z = logistic(x_t @ w["W_z"].T + h @ w["U_z"].T + w["b_z"])
        candidate = np.tanh(x_t @ w["W_n"].T + (r * h) @ w["U_n"].T + w["b_n"])
        h = z * h + (1 - z) * candidate
        outputs.append(h)
    return np.stack(outputs), (h,)


def gru_reset_after(w: Weights, x: Array, h: Array) -> tuple[Array, tuple[Array, ...]]:
    """The form of cuDNN: r multiplies U h and its own bias."""
    outputs = []
    for x_t in x:
        r = logistic(x_t @ w["W_r"].T + w["b_r"] + h @ w["U_r"].T + w["b'_r"])
        z = logistic(x_t @ w["W_z"].T + w["b_z"] + h @ w["U_z"].T + w["b'_z"])
        candidate = np.tanh(x_t @ w["W_n"].T + w["b_n"] + r * (h @ w["U_n"].T + w["b'_n"]))
        h = (1 - z) * candidate + z * h
        outputs.append(h)
    return np.stack(outputs), (h,)


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
