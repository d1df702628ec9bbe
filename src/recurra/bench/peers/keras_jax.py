"""Keras's layers on JAX: its own step inside `jit`, as a Keras model is trained there."""

import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recurra.bench.problem import Contestant, NotHere, Problem, Results, from_arrays
from recurra.cells import CATALOGUE
from recurra.nn import Recurrent
from recurra.nn.weights import from_keras, to_keras

KINDS = {"lstm": "LSTM", "gru_reset_after": "GRU", "elman": "SimpleRNN"}
"""Keras's class of each cell; its GRU is PyTorch's unless told otherwise."""


def make(problem: Problem) -> Contestant:
    """Keras's layer with the cell's weights; `NotHere` where it has none, or runs on something else than JAX."""
    cell, shape = problem.cell, problem.shape
    if cell.name not in KINDS or cell != CATALOGUE[cell.name]:
        raise NotHere(f"Keras has no layer of cell {cell.name!r}")
    if problem.kind == "stream" or problem.lengths is not None:
        raise NotHere("whole sequences of one length are what is given to Keras here")
    keras = _keras()
    made = []
    for k in range(shape.layers):
        one = getattr(keras.layers, KINDS[cell.name])(shape.H, return_sequences=True)
        one.build((shape.B, shape.T, shape.I if k == 0 else shape.H))
        one.set_weights(to_keras(_alone(problem, k)))
        made.append(one)
    values = [[jnp.asarray(v.value) for v in one.trainable_variables] for one in made]
    others = [[jnp.asarray(v.value) for v in one.non_trainable_variables] for one in made]

    def forward(values: list[list[Any]], x: Any) -> Any:
        for one, own, other in zip(made, values, others, strict=True):
            x, _ = one.stateless_call(own, other, x)
        return x

    x, dy = (jnp.asarray(np.ascontiguousarray(v.transpose(0, 1).numpy())) for v in (problem.x, problem.dy))
    if problem.kind == "infer":
        infer = jax.jit(forward)
        return Contestant(lambda: infer(values, x).block_until_ready(), lambda y: from_arrays(y.swapaxes(0, 1)))

    @jax.jit
    def train(values: list[list[Any]], x: Any, dy: Any) -> Any:
        y, backward = jax.vjp(forward, values, x)
        return y, backward(dy)

    def results(found: Any) -> Results:
        y, (gradients, dx) = found
        # Gradients are put in order as weights are.
        ours = [from_keras([np.asarray(v) for v in own], KINDS[cell.name]) for own in gradients]
        by_name = {
            name.replace("_l0", f"_l{k}"): p.detach().numpy()
            for k, one in enumerate(ours)
            for name, p in one.named_parameters()
        }
        return from_arrays(y.swapaxes(0, 1), {"x": dx.swapaxes(0, 1), **by_name})

    return Contestant(lambda: jax.block_until_ready(train(values, x, dy)), results)


def _keras() -> Any:
    """Keras, brought in on JAX, which is chosen when it is first imported."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "jax"
    import keras

    if keras.backend.backend() != "jax":
        raise NotHere(f"Keras runs on {keras.backend.backend()} in this process already")
    return keras


def _alone(problem: Problem, k: int) -> Recurrent:
    """One layer of several as a layer by itself."""
    shape, end = problem.shape, f"_l{k}"
    one = Recurrent(problem.cell, shape.I if k == 0 else shape.H, shape.H, backend="eager")
    one.load_state_dict(
        {name.removesuffix(end) + "_l0": v for name, v in problem.weights.items() if name.endswith(end)}
    )
    return one
