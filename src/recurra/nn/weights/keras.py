"""Weights of the `LSTM`, `GRU` and `SimpleRNN` of Keras 3, there and back."""

import io
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from recurra import cells
from recurra.cells.form import Cell
from recurra.errors import DataError, MissingExtraError, RecipeError, unknown
from recurra.math import relu, sigmoid, tanh
from recurra.nn.recurrent import Recurrent
from recurra.nn.weights import variants
from recurra.nn.weights.gates import Gates, put, split, stack, suffixes, taken
from recurra.nn.weights.variants import Activation

GATES = {"LSTM": "i f g o", "GRU": "z r n", "SimpleRNN": "h"}
"""The order in which Keras stacks the gates of each layer, side by side."""


def linear(x: Tensor) -> Tensor:
    """Keras's "linear"."""
    return x


def leaky_relu(x: Tensor) -> Tensor:
    """Keras's "leaky_relu", whose slope is 0.2."""
    return F.leaky_relu(x, 0.2)


ACTIVATIONS: dict[str, Activation] = {
    "celu": F.celu,
    "elu": F.elu,
    "exponential": torch.exp,
    "gelu": F.gelu,
    "hard_sigmoid": F.hardsigmoid,
    "hard_silu": F.hardswish,
    "hard_swish": F.hardswish,
    "hard_tanh": F.hardtanh,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "log_sigmoid": F.logsigmoid,
    "mish": F.mish,
    "relu": relu,
    "relu6": F.relu6,
    "selu": F.selu,
    "sigmoid": sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "softsign": F.softsign,
    "swish": F.silu,
    "tanh": tanh,
    "tanh_shrink": F.tanhshrink,
}
"""Activations by their names in Keras: those that act on each unit by itself and take no parameter."""


class _Part(NamedTuple):
    """The arrays of one direction, as Keras has them."""

    kernel: np.ndarray
    recurrent: np.ndarray
    bias: np.ndarray | None


def from_keras(
    weights: Sequence[Any] | str | os.PathLike[str],
    kind: str,
    *,
    layer: str | None = None,
    activation: str = "tanh",
    recurrent_activation: str = "sigmoid",
    use_bias: bool | None = None,
    reset_after: bool = True,
    bidirectional: bool | None = None,
    go_backwards: bool = False,
    batch_first: bool = True,
) -> Recurrent:
    """The layer of ours that computes what an `LSTM`, `GRU` or `SimpleRNN` of Keras 3 computes, with its weights.

    A `Bidirectional` one is read too, and gives both outputs side by side, as `merge_mode="concat"` does. With Keras's
    own activations the cells are `lstm`, `gru_reset_after`, `gru` (`reset_after=False`) and `elman`.

    Args:
        weights: What `layer.get_weights()` gives, or the path of a `.weights.h5` or `.keras` file (needs h5py).
        kind: "LSTM", "GRU" or "SimpleRNN".
        layer: In a file, which layer: its name in Keras, or its path in the file, "layers/lstm_1". It can be left out
            where there is only one.
        activation: By its name in Keras, as all that follows is by default what it is there.
        recurrent_activation: Likewise, of the gates; a `SimpleRNN` has none.
        use_bias: None takes it from the number of arrays. Without biases ours begin at zero.
        reset_after: Of a `GRU`.
        bidirectional: None takes it from the number of arrays.
        go_backwards: Run from the last step to the first; not for a `Bidirectional` layer. Ours puts out its states in
            the order of time, Keras in the order of its run.
        batch_first: Inputs are (B, T, I), as in Keras.

    Returns:
        A layer of the arrays' type. States are those of Keras in the same order, h before c.

    Raises:
        DataError: A file that cannot be read as such, or arrays that do not fit the kind or one another.
        RecipeError: A kind, layer or activation that is not known.
        MissingExtraError: A file is given, and h5py is not installed.
    """
    if kind not in GATES:
        raise RecipeError(unknown("kind of layer", str(kind), GATES))
    if isinstance(weights, (str, os.PathLike)):
        arrays, where = _from_file(Path(weights), layer)
    else:
        if layer is not None:
            raise RecipeError(f"layer={layer!r}: only a file has several layers; a list of arrays is one")
        if isinstance(weights, np.ndarray) or not isinstance(weights, Sequence):
            raise RecipeError(f"a list of arrays, or the path of a file, is expected, not {type(weights).__name__}")
        arrays, where = [np.asarray(array) for array in weights], "weights"
    parts = _parts(arrays, kind, where, use_bias, bidirectional, reset_after)
    cell = _cell(kind, _function(activation), _function(recurrent_activation), reset_after)
    I, H = parts[0].kernel.shape[0], parts[0].recurrent.shape[0]  # noqa: E741
    dtype = torch.from_numpy(parts[0].kernel[:0].copy()).dtype
    both = len(parts) == 2
    if both and go_backwards:
        raise RecipeError("go_backwards=True: a layer that runs in both directions has none that is first")
    made = Recurrent(cell, I, H, bidirectional=both, reverse=go_backwards, batch_first=batch_first, dtype=dtype)
    for suffix, part in zip(suffixes(made), parts, strict=True):
        put(made, suffix, _gates(part, GATES[kind]))
    return made


def to_keras(layer: Recurrent, use_bias: bool = True) -> list[np.ndarray]:
    """The arrays of this layer for `set_weights` of Keras's `LSTM`, `GRU` or `SimpleRNN`, or a `Bidirectional` one.

    A `gru` is a `GRU(reset_after=False)`, a `gru_reset_after` a `GRU`, an `elman` a `SimpleRNN`; an activation has to
    be given there by its name.

    Args:
        layer: One layer, in one direction or both.
        use_bias: Whether the layer of Keras has biases. Without them, ours have to be zero.

    Raises:
        RecipeError: Keras has no such layer, or biases would be lost.
    """
    kind = _kind(layer)
    found: list[np.ndarray] = []
    for suffix in suffixes(layer):
        ours, order = taken(layer, suffix), GATES[kind]
        found += [stack(part, order).t().contiguous().cpu().numpy() for part in (ours.W, ours.U)]
        rows = [stack(bias, order) for bias in (ours.b, ours.second) if bias]
        bias = torch.stack(rows) if len(rows) == 2 else rows[0]
        if use_bias:
            found.append(bias.cpu().numpy().copy())
        elif bias.any():
            raise RecipeError("use_bias=False: the layer's biases are not zero, so they would be lost")
    return found


def _kind(layer: Recurrent) -> str:
    """The layer of Keras that has this one's equations."""
    cell = layer.cell
    names = {
        "LSTM": (cells.CATALOGUE["lstm"], variants.lstm_activated),
        "GRU": (
            *(cells.CATALOGUE["gru"], cells.CATALOGUE["gru_reset_after"]),
            *(variants.gru_activated, variants.gru_reset_after_activated),
        ),
        "SimpleRNN": (cells.CATALOGUE["elman"], cells.CATALOGUE["irnn"]),
    }
    bodies = {one.body: kind for kind, known in names.items() for one in known}
    if not isinstance(cell, Cell) or cell.body not in bodies:
        known = ", ".join(sorted(one.name for all_of in names.values() for one in all_of))
        raise RecipeError(f"cell {layer.form.name!r}: Keras has no layer that computes it; it has {known}")
    if "h" in cell.options and cell.options["h"] != cell.options["g"]:
        raise RecipeError(f"cell {cell!r}: Keras's LSTM has one activation for g and h")
    if layer.num_layers > 1:
        raise RecipeError(f"num_layers={layer.num_layers}: a layer of Keras is one; give its layers one by one")
    for option in ("zoneout", "learn_initial_state", "input_layers", "output_layers"):
        if getattr(layer, option):
            raise RecipeError(f"{option}={getattr(layer, option)!r}: Keras's layers do not have it")
    return bodies[cell.body]


def _function(name: str) -> Activation:
    if not isinstance(name, str) or name not in ACTIVATIONS:
        raise RecipeError(unknown("activation", str(name), ACTIVATIONS))
    return ACTIVATIONS[name]


def _cell(kind: str, activation: Activation, recurrent: Activation, reset_after: bool) -> Cell:
    if kind == "LSTM":
        return variants.lstm(recurrent, activation, activation)
    if kind == "GRU":
        return variants.gru(recurrent, activation, reset_after=reset_after)
    return variants.elman(activation)


def _gates(part: _Part, order: str) -> Gates:
    kernel, recurrent = (torch.tensor(np.ascontiguousarray(array.T)) for array in (part.kernel, part.recurrent))
    biases = [] if part.bias is None else [torch.tensor(row) for row in np.atleast_2d(part.bias)]
    first, second = ([split(bias, order) for bias in biases] + [{}, {}])[:2]
    return Gates(W=split(kernel, order), U=split(recurrent, order), b=first, second=second)


def _parts(
    arrays: list[np.ndarray],
    kind: str,
    where: str,
    use_bias: bool | None,
    bidirectional: bool | None,
    reset_after: bool,
) -> list[_Part]:
    """The arrays of each direction, all shapes checked."""
    fitting = {2: (False, False), 3: (True, False), 4: (False, True), 6: (True, True)}
    fitting = {
        count: found
        for count, found in fitting.items()
        if use_bias in (None, found[0]) and bidirectional in (None, found[1])
    }
    if len(arrays) not in fitting:
        expected = " or ".join(map(str, fitting))
        raise DataError(
            f"{where}: {expected} arrays are expected (kernel, recurrent kernel, bias, of each direction), "
            f"found {len(arrays)}"
        )
    biased, both = fitting[len(arrays)]
    each = 2 + biased
    starts = range(0, each * (1 + both), each)
    parts = [_Part(arrays[k], arrays[k + 1], arrays[k + 2] if biased else None) for k in starts]
    G = len(GATES[kind].split())
    I, H = (array.shape[0] if array.ndim else 0 for array in arrays[:2])  # noqa: E741
    bias = (2, G * H) if kind == "GRU" and reset_after else (G * H,)
    expected = {"kernel": (I, G * H), "recurrent kernel": (H, G * H), "bias": bias}
    for part in parts:
        for (name, shape), array in zip(expected.items(), part, strict=True):
            if array is None:
                continue
            if array.shape != shape:
                hint = " (as reset_after says)" if name == "bias" and kind == "GRU" else ""
                raise DataError(f"{where}: {name} of {kind}: {shape} is expected{hint}, found {array.shape}")
            if array.dtype not in (np.float16, np.float32, np.float64):
                raise DataError(f"{where}: {name}: real numbers are expected, not {array.dtype}")
    return parts


# --- files ----------------------------------------------------------------------------------------------------------


class _Stored(NamedTuple):
    """A recurrent layer in a file: its name in Keras, its path there, and the paths of its directions."""

    name: str
    path: str
    parts: list[str]


def _from_file(path: Path, layer: str | None) -> tuple[list[np.ndarray], str]:
    """The arrays of a layer in a file of Keras 3, and words for where they stand."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError("files of Keras need another package: pip install 'recurra[keras]'") from error
    try:
        with h5py.File(_content(path), "r") as file:
            chosen = _chosen(_stored(file), layer, path)
            arrays = [np.asarray(array) for part in chosen.parts for array in _arrays(file, part)]
    except OSError as error:
        if error.errno:
            raise DataError(f"{path}: {os.strerror(error.errno)}") from error
        raise DataError(f"{path}: an HDF5 file of Keras 3 is expected; this is none, or not whole") from error
    return arrays, f"{path}, {chosen.path}"


def _content(path: Path) -> Any:
    """What h5py opens: the file itself, or the weights inside a `.keras` archive."""
    if not zipfile.is_zipfile(path):
        return path
    try:
        with zipfile.ZipFile(path) as archive:
            return io.BytesIO(archive.read("model.weights.h5"))
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: an archive of Keras 3 with model.weights.h5 is expected") from error


def _stored(file: Any) -> list[_Stored]:
    """The recurrent layers of a file: where the variables of a group are a kernel and a recurrent kernel."""
    found: dict[str, list[str]] = {}

    def look(name: str, _: Any) -> None:
        group = name.removesuffix("/vars")
        if group != name and _is_recurrent(_arrays(file, group)):
            path = group.removesuffix("/cell").removesuffix("/forward_layer").removesuffix("/backward_layer")
            found.setdefault(path, []).append(group)

    file.visititems(look)
    layers = []
    for path, groups in found.items():
        group = file.get(f"{path}/vars")
        name = "" if group is None else str(group.attrs.get("name", ""))
        layers.append(_Stored(name, path, sorted(groups, key=lambda one: "/backward_layer" in one)))
    return layers


def _arrays(file: Any, group: str) -> list[Any]:
    variables = file[f"{group}/vars"]
    return [variables[key] for key in sorted(variables, key=lambda key: (len(key), key))]


def _is_recurrent(arrays: list[Any]) -> bool:
    if len(arrays) not in (2, 3) or any(len(array.shape) != 2 for array in arrays[:2]):
        return False
    (_, stacked), (H, also) = (array.shape for array in arrays[:2])
    return stacked == also and H > 0 and stacked in (H, 3 * H, 4 * H)


def _chosen(layers: list[_Stored], layer: str | None, path: Path) -> _Stored:
    if not layers:
        raise DataError(f"{path}: no group of it holds a recurrent layer as Keras 3 writes them")
    if layer is None:
        if len(layers) == 1:
            return layers[0]
        known = ", ".join(f"{one.name} ({one.path})" if one.name else one.path for one in layers)
        raise RecipeError(f"{path}: it has {len(layers)} recurrent layers; name one as layer: {known}")
    for key in ("path", "name"):
        for one in layers:
            if layer == getattr(one, key):
                return one
    known = [name for one in layers for name in (one.name, one.path) if name]
    raise RecipeError(f"{path}: " + unknown("recurrent layer", layer, known))
