"""Run layers of Keras on random weights and inputs; a script, in a process of its own since Keras sets up PyTorch.

    python keras_answers.py FOLDER < cases.json

Each case is {"kind", "bidirectional", "masked", "config"}. FOLDER gets case-N.npz with x, mask, initial states, the
arrays of `get_weights()`, and what the layer puts out; and files of models.
"""

import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np

STEPS, ROWS, INPUT, UNITS = 6, 3, 4, 5
LENGTHS = (6, 2, 4)


def answer(case: dict, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The weights, inputs and outputs of one case."""
    layer = getattr(keras.layers, case["kind"])(UNITS, return_sequences=True, return_state=True, **case["config"])
    if case["bidirectional"]:
        layer = keras.layers.Bidirectional(layer)
    layer.build((ROWS, STEPS, INPUT))
    size = 0.05 if "exponential" in case["config"].values() else 0.5  # so that it does not run to infinity
    layer.set_weights([rng.normal(0.0, size, w.shape).astype("float32") for w in layer.get_weights()])
    fields = (2 if case["kind"] == "LSTM" else 1) * (2 if case["bidirectional"] else 1)
    begun = [rng.normal(0.0, 0.5, (ROWS, UNITS)).astype("float32") for _ in range(fields)]
    x = rng.normal(size=(ROWS, STEPS, INPUT)).astype("float32")
    mask = np.arange(STEPS) < np.array(LENGTHS)[:, None] if case["masked"] else None
    output, *states = layer(x, initial_state=[keras.ops.array(one) for one in begun], mask=mask)
    found = {"x": x, "output": keras.ops.convert_to_numpy(output)}
    for name, values in (("begun", begun), ("state", states), ("weight", layer.get_weights())):
        found |= {f"{name}-{k}": keras.ops.convert_to_numpy(value) for k, value in enumerate(values)}
    return found


def save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Save arrays by name."""
    np.savez(path, allow_pickle=False, **arrays)


def main() -> None:
    """Answer every case, and save models."""
    folder, rng = Path(sys.argv[1]), np.random.default_rng(0)
    for n, case in enumerate(json.load(sys.stdin)):
        save(folder / f"case-{n}.npz", answer(case, rng))
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((STEPS, INPUT)),
            layers.Dense(INPUT),
            layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True, dropout=0.1), name="reader"),
            layers.GRU(UNITS, return_sequences=True, name="gru"),
            layers.SimpleRNN(UNITS, return_sequences=True, use_bias=False, name="last"),
        ]
    )
    model.save_weights(folder / "model.weights.h5")
    model.save(folder / "model.keras")
    for layer in model.layers:
        save(folder / f"{layer.name}.npz", {f"weight-{k}": w for k, w in enumerate(layer.get_weights())})
    alone = keras.Sequential([keras.Input((STEPS, INPUT)), layers.GRU(UNITS, name="alone"), layers.Dense(1)])
    alone.save_weights(folder / "alone.weights.h5")
    keras.Sequential([keras.Input((INPUT,)), layers.Dense(2)]).save_weights(folder / "none.weights.h5")


if __name__ == "__main__":
    main()
