"""`RNN`, `LSTM`, `GRU` and their cells in place of PyTorch's: same arguments, weights, results and errors.

Everything but `forward` is inherited, so a class of PyTorch's and its twin here have the same parameters under the same
names, begin with the same values for one seed, and load each other's state. `forward` runs the catalogue's cells, never
PyTorch's kernels, so every transform of PyTorch's goes through: vmap, forward mode, double backward, one compiled
graph. `docs/dropin.md` says what more they can do, and what they cannot.
"""

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from recurra import cells
from recurra.cells import Cell, Use
from recurra.engine import native
from recurra.engine.eager import CellStepper, run
from recurra.engine.fused import Fused, why_not
from recurra.engine.trace import trace
from recurra.nn.arguments import is_autocast


def _with_use(cell: Cell) -> tuple[Cell, Use]:
    return cell, cell.use(hidden_size=2)  # how the body takes its net inputs is the same for every size


_RNN_TANH = _with_use(cells.elman)
_RNN_RELU = _with_use(cells.elman(activation="relu"))
_LSTM = _with_use(cells.lstm)
_LSTM_PROJECTED = _with_use(cells.lstm_projected)
_GRU = _with_use(cells.gru_reset_after)

_OF_MODE = {"RNN_TANH": _RNN_TANH, "RNN_RELU": _RNN_RELU, "LSTM": _LSTM, "GRU": _GRU}
_FUSED: dict[tuple[str, int, int, bool], Fused | None] = {}
"""What runs the layers in the compiled core, by mode, proj_size, hidden_size and whether they have biases."""

_OF_NONLINEARITY = {"tanh": _RNN_TANH, "relu": _RNN_RELU}


def _let_the_compiler_in() -> None:
    """Set `torch._dynamo.config.allow_rnn`.

    PyTorch's compiler knows its recurrent layers by their type and refuses them, because they run kernels that it
    cannot see into; these here inherit the type, not the kernels. It asks before it runs a line of ours, so the setting
    must stand when a layer has been made. Creating any of PyTorch's optimisers imports the compiler as well.
    """
    config: Any = importlib.import_module("torch._dynamo.config")
    config.allow_rnn = True


class _NotScripted:
    """What the layers and the cells have in common."""

    def __prepare_scriptable__(self) -> NoReturn:
        """Called by `torch.jit.script`, which would fail at some line inside.

        Raises:
            RuntimeError: Always.
        """
        name = type(self).__name__
        raise RuntimeError(
            f"torch.jit.script: {name} runs a cell's equations, which TorchScript cannot compile; use torch.compile, "
            f"torch.export or torch.jit.trace, or load its state_dict into PyTorch's own class and script that"
        )


class _Layers(_NotScripted, nn.RNNBase):
    """Layers and directions of one of the catalogue's cells, with PyTorch's parameters."""

    def __init__(self, *args, **kwargs):  # without types, as PyTorch has it: signatures are compared by tools
        super().__init__(*args, **kwargs)
        self._begin()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._begin()  # a copy, or what was pickled, is made without `__init__`

    def _begin(self) -> None:
        _let_the_compiler_in()
        key = self._key
        if key not in _FUSED:
            cell, use = self._cell_and_use
            _FUSED[key] = None if native.why_not() else Fused(cell, use, trace(cell, key[2]), key[2], self.bias)

    @property
    def _key(self) -> tuple[str, int, int, bool]:
        return self.mode, self.proj_size, self.hidden_size, bool(self.bias)

    @property
    def _cell_and_use(self) -> tuple[Cell, Use]:
        return cell_and_use(self)

    @property
    def _flat_weights(self) -> list[Any]:
        """The parameters in PyTorch's order, for its checks; read anew each time, so that none is ever out of date."""
        return [getattr(self, name, None) for name in self._flat_weights_names]

    @_flat_weights.setter
    def _flat_weights(self, weights: list[Any]) -> None:
        """PyTorch keeps a second list of the parameters; here there is none to keep."""

    def forward(self, input: Any, hx: Any = None) -> tuple[Any, Any]:
        """Run the layers over a batch of sequences, as PyTorch's class of the same name does.

        Args:
            input: (T, B, I), (B, T, I) with `batch_first`, one sequence (T, I), or a `PackedSequence`. T and B may be
                0; where T is, the state stays as it was.
            hx: The state before the first step, (layers * directions, B, width) or without B for one sequence; for an
                LSTM a tuple of h and c. None is zero.

        Returns:
            The output of the last layer, laid out as `input`, directions side by side; and the last state.

        Raises:
            ValueError: Dimensions or types that do not fit, in PyTorch's words.
            RuntimeError: Sizes that do not fit, in PyTorch's words.
        """
        batch_sizes = order = back = None
        x = input
        if isinstance(input, PackedSequence):
            x, batch_sizes, order, back = input
        elif x.dim() not in (2, 3):
            self._refuse(input, hx)
        if hx is not None and not self._is_state_beside(hx, x, None if batch_sizes is not None else x.dim()):
            self._refuse(input, hx)
        alone, rows_first = batch_sizes is None and x.dim() == 2, batch_sizes is None and self.batch_first
        if alone:
            x = x.unsqueeze(0 if rows_first else 1)
            hx = None if hx is None else _each(hx, lambda v: v.unsqueeze(1))
        hx = self._zero_state(x, batch_sizes) if hx is None else self.permute_hidden(hx, order)
        self.check_forward_args(x, hx, batch_sizes)

        output, hidden = self._run(x.transpose(0, 1) if rows_first else x, hx, batch_sizes)
        if self.mode == "LSTM" and batch_sizes is None and is_autocast(x.device.type):
            kind = torch.get_autocast_dtype(x.device.type)  # PyTorch's LSTM alone puts out this type throughout
            output, hidden = output.to(kind), _each(hidden, lambda v: v.to(kind))

        if batch_sizes is not None:
            return PackedSequence(output, batch_sizes, order, back), self.permute_hidden(hidden, back)
        if alone:
            return output.squeeze(1), _each(hidden, lambda v: v.squeeze(1))
        return (output.transpose(0, 1) if rows_first else output), hidden

    def _is_state_beside(self, hx: Any, x: Tensor, dimensions: int | None) -> bool:
        """Whether it is as many tensors as the state has fields, on the input's device, of so many dimensions."""
        if (self.mode == "LSTM") == isinstance(hx, Tensor) or (self.mode == "LSTM" and len(hx) != 2):
            return False
        fields = (hx,) if isinstance(hx, Tensor) else hx
        return all(v.device == x.device and dimensions in (None, v.dim()) for v in fields)

    def _refuse(self, input: Any, hx: Any) -> NoReturn:
        """Raise what PyTorch raises: its own checks stand before any of its kernels."""
        super().forward(input, hx)
        raise RuntimeError(f"{type(self).__name__}: input and hx do not fit each other")

    def _zero_state(self, x: Tensor, batch_sizes: Tensor | None) -> Any:
        sizes = [self.get_expected_hidden_size(x, batch_sizes)]
        if isinstance(self, nn.LSTM):
            sizes.append(self.get_expected_cell_size(x, batch_sizes))
        return self._state_of([torch.zeros(size, dtype=x.dtype, device=x.device) for size in sizes])

    def _state_of(self, fields: Sequence[Tensor]) -> Any:
        """As PyTorch has a state: a tuple for an LSTM, else one tensor."""
        return tuple(fields) if self.mode == "LSTM" else fields[0]

    def _run(self, x: Tensor, hx: Any, batch_sizes: Tensor | None) -> tuple[Tensor, Any]:
        """All layers. The input is (T, B, I) or packed, (N, I); so is the output."""
        begun = (hx,) if isinstance(hx, Tensor) else tuple(hx)
        packing = None if batch_sizes is None else _Packing(batch_sizes, x.device)
        directions = 2 if self.bidirectional else 1
        finals = []
        for k in range(self.num_layers):
            inputs = x if packing is None else packing.spread(x)
            outputs = []
            for suffix in (f"_l{k}", f"_l{k}_reverse")[:directions]:
                state = tuple(field[len(finals)] for field in begun)
                output, final = self._along(suffix, inputs, state, None if packing is None else packing.mask)
                outputs.append(output)
                finals.append(final)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
            x = x if packing is None else packing.gather(x)
            if self.dropout and self.training and k < self.num_layers - 1:
                x = F.dropout(x, self.dropout)
        fields = [field[0] if field[0].dim() == 3 else torch.stack(field) for field in zip(*finals, strict=True)]
        return x, self._state_of(fields)

    def _along(
        self, suffix: str, x: Tensor, state: tuple[Tensor, ...], mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One layer and direction: h at every step, and the last state; if it is the only one, with an axis for it."""
        cell, use = self._cell_and_use
        weights = weights_of(self, suffix)
        reverse = suffix.endswith("_reverse")
        fused = _FUSED[self._key]
        if fused is not None and x.numel() and why_not(x, *weights.values(), *state) is None:
            how: Any = {"mask": mask, "reverse": reverse, "leading": self.num_layers == 1 and not self.bidirectional}
            (h,), final = fused.run(weights, x, state, state, fields=1, clean=True, **how)  # padded with zeros
            return h, final
        states, final = run(CellStepper(cell, use, weights), x, state, state, mask=mask, reverse=reverse)
        steps = [state[0] for state in states]
        return torch.stack(steps) if steps else x.new_zeros(0, *final[0].shape), final


class RNN(_Layers, nn.RNN):
    """`torch.nn.RNN`, running `recurra.cells.elman` (Elman 1990): arguments, parameters and results are the same.

    Example:
        >>> output, h = RNN(3, 4, nonlinearity="relu")(torch.zeros(5, 2, 3))
        >>> output.shape, h.shape
        (torch.Size([5, 2, 4]), torch.Size([1, 2, 4]))
    """


class LSTM(_Layers, nn.LSTM):
    """`torch.nn.LSTM`, running `recurra.cells.lstm` or, with `proj_size`, `lstm_projected`; nothing else differs.

    Example:
        >>> output, (h, c) = LSTM(3, 4, proj_size=2)(torch.zeros(5, 2, 3))
        >>> output.shape, h.shape, c.shape
        (torch.Size([5, 2, 2]), torch.Size([1, 2, 2]), torch.Size([1, 2, 4]))
    """


class GRU(_Layers, nn.GRU):
    """`torch.nn.GRU`, running `recurra.cells.gru_reset_after`: arguments, parameters and results are the same.

    Example:
        >>> output, h = GRU(3, 4, bidirectional=True)(torch.zeros(5, 2, 3))
        >>> output.shape, h.shape
        (torch.Size([5, 2, 8]), torch.Size([2, 2, 4]))
    """


class _OneStep(_NotScripted, nn.RNNCellBase):
    """One step of one of the catalogue's cells, with PyTorch's parameters."""

    def _step(self, cell: Cell, use: Use, x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """One step of a batch, (B, I), or of one row, (I,)."""
        alone = x.dim() == 1
        x, state = (x.unsqueeze(0), _each(state, lambda v: v.unsqueeze(0))) if alone else (x, state)
        stepper = CellStepper(cell, use, weights_of(self, suffix=""))
        new = stepper(stepper.prepare(x.unsqueeze(0))[0], state)
        return _each(new, lambda v: v.squeeze(0)) if alone else new

    def _zeros(self, x: Tensor) -> Tensor:
        return torch.zeros(*x.shape[:-1], self.hidden_size, dtype=x.dtype, device=x.device)

    def _fits(self, x: Tensor, state: tuple[Tensor, ...]) -> bool:
        if x.dim() not in (1, 2) or x.shape[-1] != self.input_size:
            return False
        return all(v.shape == (*x.shape[:-1], self.hidden_size) for v in state)

    def _refuse(self, input: Any, hx: Any) -> NoReturn:
        """Raise what PyTorch raises: its own checks stand before any of its kernels."""
        super().forward(input, hx)
        raise RuntimeError(f"{type(self).__name__}: input and hx do not fit each other")


class RNNCell(_OneStep, nn.RNNCell):
    """`torch.nn.RNNCell`, one step of `recurra.cells.elman`: arguments, parameters and results are the same."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state from an input, (B, I) or (I,), and the old state, (B, H) or (H,), zero where None.

        Raises:
            ValueError: Dimensions that do not fit, in PyTorch's words.
            RuntimeError: Sizes or types that do not fit, in PyTorch's words.
        """
        if not self._fits(input, () if hx is None else (hx,)) or self.nonlinearity not in _OF_NONLINEARITY:
            self._refuse(input, hx)
        return self._step(*_OF_NONLINEARITY[self.nonlinearity], input, (self._zeros(input) if hx is None else hx,))[0]


class LSTMCell(_OneStep, nn.LSTMCell):
    """`torch.nn.LSTMCell`, one step of `recurra.cells.lstm`: arguments, parameters and results are the same."""

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The new h and c from an input, (B, I) or (I,), and the old ones, each (B, H) or (H,), zero where None.

        Raises:
            ValueError: Dimensions that do not fit, in PyTorch's words.
            RuntimeError: Sizes or types that do not fit, in PyTorch's words.
        """
        if hx is not None and (isinstance(hx, Tensor) or len(hx) != 2):
            self._refuse(input, hx)
        if not self._fits(input, () if hx is None else tuple(hx)):
            self._refuse(input, hx)
        h, c = self._step(*_LSTM, input, (self._zeros(input),) * 2 if hx is None else tuple(hx))
        return h, c


class GRUCell(_OneStep, nn.GRUCell):
    """`torch.nn.GRUCell`, one step of `recurra.cells.gru_reset_after`: arguments, parameters, results are the same."""

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state from an input, (B, I) or (I,), and the old state, (B, H) or (H,), zero where None.

        Raises:
            ValueError: Dimensions that do not fit, in PyTorch's words.
            RuntimeError: Sizes or types that do not fit, in PyTorch's words.
        """
        if not self._fits(input, () if hx is None else (hx,)):
            self._refuse(input, hx)
        return self._step(*_GRU, input, (self._zeros(input) if hx is None else hx,))[0]


class _Packing:
    """Where the rows of a packed batch stand in a padded one: (N, width) and (T, B, width)."""

    def __init__(self, batch_sizes: Tensor, device: torch.device) -> None:
        self.mask = (torch.arange(int(batch_sizes[0])) < batch_sizes.unsqueeze(1)).to(device)
        self.places = self.mask.flatten().nonzero().squeeze(1)

    def spread(self, data: Tensor) -> Tensor:
        """From packed to padded with zeros."""
        padded = data.new_zeros(self.mask.numel(), data.shape[-1]).index_copy(0, self.places, data)
        return padded.unflatten(0, self.mask.shape)

    def gather(self, padded: Tensor) -> Tensor:
        """From padded to packed."""
        return padded.flatten(0, 1).index_select(0, self.places)


def cell_and_use(module: nn.RNNBase) -> tuple[Cell, Use]:
    """The cell of a drop-in's layers, or of PyTorch's own, and how its body takes its net inputs."""
    if module.proj_size:
        return _LSTM_PROJECTED[0](proj_size=module.proj_size), _LSTM_PROJECTED[1]
    return _OF_MODE[module.mode]


def weights_of(module: nn.Module, suffix: str) -> dict[str, Tensor]:
    """The parameters of one layer and direction as they are now, whatever stands in their place."""
    weights: dict[str, Tensor] = {name: getattr(module, name + suffix) for name in ("weight_ih", "weight_hh")}
    if module.bias:
        weights |= {name: getattr(module, name + suffix) for name in ("bias_ih", "bias_hh")}
    if getattr(module, "proj_size", 0):
        weights["W_hr"] = getattr(module, f"weight_hr{suffix}")
    return weights


def _each(state: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Every tensor of a state changed, be the state one tensor or several."""
    return change(state) if isinstance(state, Tensor) else tuple(change(v) for v in state)


def cell_of(module: nn.Module) -> Cell | None:
    """The cell that a drop-in runs; None for any other module."""
    if isinstance(module, _Layers):
        return module._cell_and_use[0]
    if isinstance(module, RNNCell):
        return _OF_NONLINEARITY[module.nonlinearity][0]
    if isinstance(module, (LSTMCell, GRUCell)):
        return (_LSTM if isinstance(module, LSTMCell) else _GRU)[0]
    return None
