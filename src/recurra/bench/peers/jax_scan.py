"""The cells in JAX, as somebody who knows it writes them: inputs projected outside the scan, the whole step compiled.

Matrices are laid out as JAX's products like them, (inputs, units). A cell is two functions: `project`, what can be
computed of all inputs at once, and `step`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import lcm
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from recurra.bench.cells import find
from recurra.bench.problem import Contestant, NotHere, Problem, Results, from_arrays

Array = Any
Parameters = dict[str, Array]
State = tuple[Array, ...]

sigmoid, tanh, split = jax.nn.sigmoid, jnp.tanh, partial(jnp.split, axis=-1)


def affine(p: Parameters, x: Array) -> Array:
    """W x + b of all gates and all steps."""
    return x @ p["weight_ih"] + p["bias"]


@dataclass(frozen=True)
class Form:
    """A cell.

    Attributes:
        step: From parameters, what `project` gave for this step, and the state, to the new state, output first.
        project: From parameters and x, (T, B, I), to what each step needs.
        fields: Arrays of (B, H) in the state.
        prepare: What of the parameters is computed once a sequence.
    """

    step: Callable[[Parameters, Any, State], State]
    project: Callable[[Parameters, Array], Any] = affine
    fields: int = 1
    prepare: Callable[[Parameters], Parameters] = dict


def elman(p: Parameters, z: Array, s: State) -> State:
    """Elman's network."""
    return (tanh(z + s[0] @ p["weight_hh"]),)


def lstm(p: Parameters, z: Array, s: State) -> State:
    """Long short-term memory."""
    h, c = s
    i, f, g, o = split(z + h @ p["weight_hh"], 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(c), c


def lstm_peephole(p: Parameters, z: Array, s: State) -> State:
    """LSTM with peepholes."""
    h, c = s
    i, f, g, o = split(z + h @ p["weight_hh"], 4)
    i, f = sigmoid(i + p["v_i"] * c), sigmoid(f + p["v_f"] * c)
    c = f * c + i * tanh(g)
    return sigmoid(o + p["v_o"] * c) * tanh(c), c


def lstm_coupled(p: Parameters, z: Array, s: State) -> State:
    """LSTM with coupled gates."""
    h, c = s
    i, g, o = split(z + h @ p["weight_hh"], 3)
    i = sigmoid(i)
    c = (1 - i) * c + i * tanh(g)
    return sigmoid(o) * tanh(c), c


def norm(x: Array, scale: Array, shift: Array | float = 0.0) -> Array:
    """Layer normalisation of each row."""
    mean = x.mean(-1, keepdims=True)
    centred = x - mean
    return scale * centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) + shift


def project_normed(p: Parameters, x: Array) -> Array:
    """The input's half of layer normalisation, of all steps."""
    return norm(x @ p["weight_ih"], p["a_x"]) + p["bias"]


def lstm_layer_norm(p: Parameters, z: Array, s: State) -> State:
    """LSTM with layer normalisation."""
    h, c = s
    i, f, g, o = split(z + norm(h @ p["weight_hh"], p["a_h"]), 4)
    c = sigmoid(f) * c + sigmoid(i) * tanh(g)
    return sigmoid(o) * tanh(norm(c, p["a_c"], p["d_c"])), c


def by_gate(p: Parameters) -> Parameters:
    """U of the gates and of the candidate apart, once a sequence."""
    H = p["weight_hh"].shape[0]
    return {**p, "U_gates": p["weight_hh"][:, : 2 * H], "U_n": p["weight_hh"][:, 2 * H :]}


def gru(p: Parameters, z: Array, s: State) -> State:
    """GRU as finally published."""
    (h,) = s
    z_r, z_z, z_n = split(z, 3)
    u_r, u_z = split(h @ p["U_gates"], 2)
    r, u = sigmoid(z_r + u_r), sigmoid(z_z + u_z)
    n = tanh(z_n + (r * h) @ p["U_n"])
    return (u * h + (1 - u) * n,)


def project_first_bias(p: Parameters, x: Array) -> Array:
    """The input's half of a GRU with two biases."""
    return x @ p["weight_ih"] + p["bias_ih"]


def gru_reset_after(p: Parameters, z: Array, s: State) -> State:
    """GRU of PyTorch and cuDNN."""
    (h,) = s
    z_r, z_z, z_n = split(z, 3)
    u_r, u_z, u_n = split(h @ p["weight_hh"] + p["bias_hh"], 3)
    r, u = sigmoid(z_r + u_r), sigmoid(z_z + u_z)
    n = tanh(z_n + r * u_n)
    return (u * h + (1 - u) * n,)


PERIODS = (1, 2, 4, 8)


def periods(H: int) -> np.ndarray:
    """The period of each unit, the units shared out in order."""
    return np.array(PERIODS)[np.arange(H) * len(PERIODS) // H]


def project_clocked(p: Parameters, x: Array) -> tuple[Array, Array]:
    """The input's half, and which units move at each step."""
    t = np.arange(len(x)) % lcm(*PERIODS)
    moves = t[:, None] % periods(p["weight_hh"].shape[0]) == 0
    return affine(p, x), jnp.asarray(moves)


def masked(p: Parameters) -> Parameters:
    """U without what a unit may not read, once a sequence."""
    T = periods(p["weight_hh"].shape[0])
    return {**p, "weight_hh": p["weight_hh"] * (T[:, None] >= T)}


def clockwork(p: Parameters, z: tuple[Array, Array], s: State) -> State:
    """Clockwork RNN."""
    (h,), (z_h, moves) = s, z
    return (jnp.where(moves, tanh(z_h + h @ p["weight_hh"]), h),)


def made_up(p: Parameters, z: Array, s: State) -> State:
    """The cell of `recurra.bench.cells`."""
    h, c = s
    a, b, g = split(z + h @ p["weight_hh"], 3)
    a = sigmoid(a + p["v"] * c)
    c = a * c + (1 - a) * tanh(g)
    d = jnp.exp(-jax.nn.relu(b))
    return d * h + (1 - d) * jnp.sin(c), c


FORMS = {
    "elman": Form(elman),
    "lstm": Form(lstm, fields=2),
    "lstm_peephole": Form(lstm_peephole, fields=2),
    "lstm_coupled": Form(lstm_coupled, fields=2),
    "lstm_layer_norm": Form(lstm_layer_norm, project_normed, fields=2),
    "gru": Form(gru, prepare=by_gate),
    "gru_reset_after": Form(gru_reset_after, project_first_bias),
    "clockwork": Form(clockwork, project_clocked, prepare=masked),
    "made_up": Form(made_up, fields=2),
}
"""The cells by the names that they have here."""


def layers(form: Form, parameters: list[Parameters], x: Array) -> Array:
    """Layers on top of each other over a sequence, (T, B, I) to (T, B, H)."""
    for p in parameters:
        p, B, H = form.prepare(p), x.shape[1], p["weight_hh"].shape[0]

        def body(s: State, z: Any, p: Parameters = p) -> tuple[State, Array]:
            s = form.step(p, z, s)
            return s, s[0]

        begun = (jnp.zeros((B, H), x.dtype),) * form.fields
        _, x = lax.scan(body, begun, form.project(p, x))
    return x


def make(problem: Problem) -> Contestant:
    """The cell in JAX, compiled when it first runs; `NotHere` where it is not written down."""
    cell, shape = problem.cell, problem.shape
    if cell.name not in FORMS or cell != find(cell.name):
        raise NotHere(f"cell {cell.name!r} is not written in JAX here")
    if problem.kind == "stream" or problem.lengths is not None:
        raise NotHere("whole sequences of one length are what is written in JAX here")
    form = FORMS[cell.name]
    weights = [_of_layer(problem, k) for k in range(shape.layers)]
    x, dy = jnp.asarray(problem.x.numpy()), jnp.asarray(problem.dy.numpy())
    if problem.kind == "infer":
        forward = jax.jit(partial(layers, form))
        return Contestant(lambda: forward(weights, x).block_until_ready(), from_arrays)

    @jax.jit
    def train(weights: list[Parameters], x: Array, dy: Array) -> tuple[Array, Any]:
        y, backward = jax.vjp(partial(layers, form), weights, x)
        return y, backward(dy)

    return Contestant(lambda: jax.block_until_ready(train(weights, x, dy)), _results)


def _of_layer(problem: Problem, k: int) -> Parameters:
    """The parameters of one layer, without its number, matrices turned over."""
    end = f"_l{k}"
    named = {name.removesuffix(end): v for name, v in problem.weights.items() if name.endswith(end)}
    return {name: jnp.asarray(v.t().contiguous().numpy() if v.dim() == 2 else v.numpy()) for name, v in named.items()}


def _results(found: tuple[Array, tuple[list[Parameters], Array]]) -> Results:
    y, (of_layers, dx) = found
    by_name = {f"{name}_l{k}": v.T for k, layer in enumerate(of_layers) for name, v in layer.items()}
    return from_arrays(y, {"x": dx, **by_name})
