"""Weights of `torch.nn.RNN`, `LSTM` and `GRU`, there and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from recurra import cells
from recurra.cells.form import Cell
from recurra.errors import DataError, RecipeError, unknown
from recurra.nn.recurrent import Recurrent
from recurra.nn.weights.gates import Gates, put, split, stack, suffixes, taken

GATES = {"LSTM": "i f g o", "GRU": "r z n", "RNN": "h"}
"""The order in which PyTorch stacks the gates of each class."""

NONLINEARITIES = {"tanh": torch.tanh, "relu": torch.relu}

NEAREST = {
    "lstm": "torch.nn.LSTM, which is 'lstm'",
    "gru": "torch.nn.GRU, which is 'gru_reset_after'",
    "mgu": "torch.nn.GRU, which is 'gru_reset_after'",
}
"""By a part of a cell's name, the class of PyTorch's that comes nearest."""

WITHOUT_TWIN = (
    "kernel_size",
    "input_dropout",
    "recurrent_dropout",
    "weight_drop",
    "zoneout",
    "skip",
    "learn_initial_state",
    "reverse",
    "input_layers",
    "output_layers",
)
"""Options of `Recurrent` that PyTorch's layers do not have."""


class _Form(NamedTuple):
    """What a layer of PyTorch's is."""

    kind: str
    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    proj_size: int
    bias: bool


def from_torch(
    source: nn.RNNBase | Mapping[str, Tensor],
    name: str | None = None,
    *,
    nonlinearity: str = "tanh",
    batch_first: bool = False,
) -> Recurrent:
    """The layer of ours that computes what a layer of `torch.nn` computes, with its weights.

    An `LSTM` becomes `lstm`, or `lstm_projected` with `proj_size`; a `GRU` becomes `gru_reset_after`; an `RNN` becomes
    `elman`. Of PyTorch's two biases the sum is taken where the cell has one; without biases they begin at zero.

    Args:
        source: A `torch.nn.RNN`, `LSTM` or `GRU`, or a state dict that holds the parameters of one.
        name: In a state dict, where the layer stands: "encoder.rnn" for "encoder.rnn.weight_ih_l0". It can be left
            out where there is only one.
        nonlinearity: Of an `RNN` in a state dict, which does not say it: "tanh" or "relu". A module knows its own.
        batch_first: Likewise, whether inputs are (B, T, I).

    Returns:
        A layer on the same device and of the same type, in training or evaluation as the module is. Weights are copied.

    Raises:
        DataError: The state dict holds no such layer, or one whose tensors do not fit together.
        RecipeError: Another kind of module, or another nonlinearity.
    """
    if isinstance(source, nn.RNNBase):
        nonlinearity = getattr(source, "nonlinearity", nonlinearity)
        layer = _built(dict(source.named_parameters()), nonlinearity, source.batch_first, source.dropout)
        return layer.train(source.training)
    if not isinstance(source, Mapping):
        raise RecipeError(f"torch.nn.RNN, LSTM or GRU, or a state dict, is expected, not {type(source).__name__}")
    return _built(_chosen(source, name), nonlinearity, batch_first, 0.0)


def to_torch(layer: Recurrent) -> nn.RNNBase:
    """The `torch.nn.RNN`, `LSTM` or `GRU` that computes what this layer computes, with its weights.

    Its first bias is ours, the second zero; but those of `gru_reset_after`, which has two, are its own.

    Raises:
        RecipeError: The cell or an option has no twin there; the text names it, and the nearest class.
    """
    cell = layer.cell
    kind, options = _twin(cell if isinstance(cell, Cell) else None, layer.form.name)
    for option in WITHOUT_TWIN:
        if getattr(layer, option, None):
            raise RecipeError(f"{option}={getattr(layer, option)!r}: torch.nn.{kind} does not have it")
    sizes = {layer.hidden_size} if isinstance(layer.hidden_size, int) else set(layer.hidden_size)
    if len(sizes) > 1:
        raise RecipeError(f"hidden_size={layer.hidden_size}: torch.nn.{kind} has layers of one size only")
    (hidden_size,) = sizes
    if "proj_size" in options:
        options["proj_size"] = layer.form.widths(hidden_size)[0]
        if options["proj_size"] >= hidden_size:
            raise RecipeError(
                f"proj_size={options['proj_size']}: torch.nn.LSTM projects to fewer values than hidden_size, "
                f"{hidden_size}"
            )
    like = next(layer.parameters())
    twin = getattr(nn, kind)(
        layer.input_size,
        hidden_size,
        layer.num_layers,
        batch_first=layer.batch_first,
        dropout=layer.dropout,
        bidirectional=layer.bidirectional,
        device=like.device,
        dtype=like.dtype,
        **options,
    )
    with torch.no_grad():
        for suffix in suffixes(layer):
            ours = taken(layer, suffix)
            values = {f"weight_{end}": stack(part, GATES[kind]) for end, part in (("ih", ours.W), ("hh", ours.U))}
            values["bias_ih"] = stack(ours.b, GATES[kind])
            values["bias_hh"] = stack(ours.second, GATES[kind]) if ours.second else torch.zeros_like(values["bias_ih"])
            if ours.extras:
                values["weight_hr"] = ours.extras["W_hr"]
            for name, value in values.items():
                twin.get_parameter(name + suffix).copy_(value)
    return twin.train(layer.training)


def _twin(cell: Cell | None, name: str) -> tuple[str, dict[str, Any]]:
    """The class of PyTorch's that computes a cell, and what it is to be made with."""
    body = cell.body if cell else None
    if cell and body is cells.CATALOGUE["lstm"].body:
        return "LSTM", {}
    if cell and body is cells.CATALOGUE["lstm_projected"].body:
        return "LSTM", {"proj_size": 0}
    if cell and body is cells.CATALOGUE["gru_reset_after"].body:
        return "GRU", {}
    if cell and body is cells.CATALOGUE["elman"].body:
        for nonlinearity, function in NONLINEARITIES.items():
            if cell.options["activation"] is function:
                return "RNN", {"nonlinearity": nonlinearity}
        activation = getattr(cell.options["activation"], "__name__", cell.options["activation"])
        raise RecipeError(f"activation={activation}: torch.nn.RNN has tanh and relu only")
    if cell and body is cells.CATALOGUE["irnn"].body:
        return "RNN", {"nonlinearity": "relu"}
    near = next((text for part, text in NEAREST.items() if part in name.lower()), "torch.nn.RNN, which is 'elman'")
    raise RecipeError(f"cell {name!r}: no layer of torch.nn computes it; the nearest is {near}")


def _chosen(state: Mapping[str, Tensor], name: str | None) -> dict[str, Tensor]:
    """The parameters of the named layer of a state dict, or of the only one, without the name in front."""
    end = "weight_hh_l0"
    known = [str(key)[: -len(end)].rstrip(".") for key in state if str(key).endswith(end)]
    if name is None:
        if len(known) != 1:
            found = f"has {len(known)} recurrent layers ({', '.join(known)}); name one" if known else "has none"
            raise DataError(f"state dict: a recurrent layer with weight_ih_l0, weight_hh_l0 is expected; it {found}")
        name = known[0]
    if name not in known:
        raise DataError("state dict: " + unknown("recurrent layer", name, known))
    prefix = f"{name}." if name else ""
    chosen = {key[len(prefix) :]: value for key, value in state.items() if str(key).startswith(prefix)}
    for key, value in chosen.items():
        if not isinstance(value, Tensor):
            raise DataError(f"{prefix}{key}: a tensor is expected, not {type(value).__name__}")
    return chosen


def _built(weights: dict[str, Tensor], nonlinearity: str, batch_first: bool, dropout: float) -> Recurrent:
    form = _form(weights)
    like = weights["weight_ih_l0"]
    layer = Recurrent(
        _cell(form, nonlinearity),
        form.input_size,
        form.hidden_size,
        form.num_layers,
        bidirectional=form.bidirectional,
        batch_first=batch_first,
        dropout=dropout,
        device=like.device,
        dtype=like.dtype,
    )
    order = GATES[form.kind]
    for suffix in suffixes(layer):

        def by_gate(name: str, suffix: str = suffix) -> dict[str, Tensor]:
            return split(weights[name + suffix].detach(), order)

        put(
            layer,
            suffix,
            Gates(
                W=by_gate("weight_ih"),
                U=by_gate("weight_hh"),
                b=by_gate("bias_ih") if form.bias else {},
                second=by_gate("bias_hh") if form.bias else {},
                extras={"W_hr": weights["weight_hr" + suffix].detach()} if form.proj_size else {},
            ),
        )
    return layer


def _cell(form: _Form, nonlinearity: str) -> Cell:
    if form.kind == "LSTM":
        return (
            cells.CATALOGUE["lstm_projected"](proj_size=form.proj_size) if form.proj_size else cells.CATALOGUE["lstm"]
        )
    if form.kind == "GRU":
        return cells.CATALOGUE["gru_reset_after"]
    if nonlinearity not in NONLINEARITIES:
        raise RecipeError(unknown("nonlinearity", str(nonlinearity), NONLINEARITIES))
    return cells.CATALOGUE["elman"](activation=NONLINEARITIES[nonlinearity])


def _form(weights: dict[str, Tensor]) -> _Form:
    """What layer these parameters are of, all shapes checked."""
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in weights or weights[name].dim() != 2:
            found = "none" if name not in weights else f"{tuple(weights[name].shape)}"
            raise DataError(f"{name}: a matrix is expected, found {found}")
    projection = weights.get("weight_hr_l0")
    P = 0 if projection is None else len(projection)
    H = weights["weight_hh_l0"].shape[1] if projection is None else projection.shape[-1]
    rows = len(weights["weight_hh_l0"])
    kinds = {len(order.split()) * H: kind for kind, order in GATES.items()}
    if rows not in kinds or (P and kinds[rows] != "LSTM"):
        expected = f"{4 * H} rows with a projection" if P else f"{H}, {3 * H} or {4 * H} rows (RNN, GRU, LSTM)"
        raise DataError(f"weight_hh_l0: for a hidden size of {H}, {expected} are expected, found {rows}")
    num_layers = 1
    while f"weight_ih_l{num_layers}" in weights:
        num_layers += 1
    form = _Form(
        kind=kinds[rows],
        input_size=weights["weight_ih_l0"].shape[1],
        hidden_size=H,
        num_layers=num_layers,
        bidirectional="weight_ih_l0_reverse" in weights,
        proj_size=P,
        bias="bias_ih_l0" in weights,
    )
    expected = _shapes(form)
    for name, shape in expected.items():
        found = tuple(weights[name].shape) if name in weights else "none"
        if found != shape:
            raise DataError(f"{name}: {shape} is expected, found {found}")
    if strange := [name for name in weights if name not in expected]:
        raise DataError(unknown(f"parameter of torch.nn.{form.kind}", strange[0], expected))
    return form


def _shapes(form: _Form) -> dict[str, tuple[int, ...]]:
    H, rows = form.hidden_size, len(GATES[form.kind].split()) * form.hidden_size
    out = form.proj_size or H
    shapes: dict[str, tuple[int, ...]] = {}
    for k in range(form.num_layers):
        I = form.input_size if k == 0 else out * (1 + form.bidirectional)  # noqa: E741
        for end in ("", "_reverse")[: 1 + form.bidirectional]:
            suffix = f"_l{k}{end}"
            shapes |= {f"weight_ih{suffix}": (rows, I), f"weight_hh{suffix}": (rows, out)}
            shapes |= {f"bias_{part}{suffix}": (rows,) for part in ("ih", "hh") if form.bias}
            shapes |= {f"weight_hr{suffix}": (form.proj_size, H)} if form.proj_size else {}
    return shapes
