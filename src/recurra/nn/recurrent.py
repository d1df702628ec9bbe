"""`Recurrent`: any cell along time, in layers and directions."""

import copy
from collections import namedtuple
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.cells import find
from recurra.cells.form import Cell, Use
from recurra.engine import eager
from recurra.engine.eager import State
from recurra.errors import unknown
from recurra.nn.initialise import fill, initialise


class Recurrent(nn.Module):
    """A recurrent layer, or a stack of them, of any cell.

    Args:
        cell: A cell (`recurra.cells.lstm`, one of your own made with `recurra.cell`), the name of one, or a plain
            function or module `f(x_t, state) -> state` of one layer and direction (eq. 6.4).
        input_size: Width I of an input.
        hidden_size: Width H of the state; one number, or one for each layer.
        num_layers: Layers, each reading the states of the one below (eq. 6.68).
        bidirectional: Run each layer in both directions and put their outputs side by side (eqs 6.69-6.71).
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: Share of the outputs of every layer but the last that is dropped in training.
        input_dropout: Share of each layer's inputs dropped in training, the same units at every step of a sequence
            (Gal & Ghahramani 2016).
        recurrent_dropout: Share of what U multiplies dropped in training, the same units at every step (ibid.).
        weight_drop: Share of U's entries dropped in training, for a whole sequence (DropConnect; Merity et al. 2018).
        zoneout: Share of the state's units that keep their old value at a step (Krueger et al. 2017).
        skip: "residual" adds each layer's input to its output; "highway" mixes the two by a gate (Srivastava et al.
            2015). The first layer, whose input has another width, has neither.
        learn_initial_state: The state before the first step is a parameter instead of the cell's start (zero).
        backend: "eager", or "auto", which chooses (at present always eager).
        device: Where the parameters are made.
        dtype: Their type.

    Parameters are named as PyTorch's: `weight_ih_l0`, `weight_hh_l0`, `bias_l0` (`bias_ih_l0` and `bias_hh_l0` where
    the cell declares two), further ones such as `v_i_l0`, with `_reverse` for the backward direction; gates are
    stacked in the cell's order. `docs/conventions.md` has every convention on one page.

    Raises:
        ValueError: An argument that cannot be, named with what is accepted.
        CellError: A cell whose body and declaration disagree.

    Example:
        >>> layer = Recurrent("lstm", 28, 128, num_layers=2, bidirectional=True, batch_first=True)
        >>> output, state = layer(torch.zeros(4, 28, 28), lengths=[28, 5, 0, 7])
        >>> output.shape, state.c.shape
        (torch.Size([4, 28, 256]), torch.Size([4, 4, 128]))
    """

    def __init__(
        self,
        cell: Cell | str | Callable[..., Any],
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float = 0.0,
        skip: Literal["residual", "highway"] | None = None,
        learn_initial_state: bool = False,
        backend: Literal["auto", "eager"] = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.cell = find(cell) if isinstance(cell, str) else cell
        _whole("input_size", input_size)
        _whole("num_layers", num_layers)
        sizes = [hidden_size] * num_layers if isinstance(hidden_size, int) else list(hidden_size)
        for size in sizes:
            _whole("hidden_size", size)
        if len(sizes) != num_layers:
            raise ValueError(f"hidden_size: one number, or one for each of {num_layers} layers, not {len(sizes)}")
        for name, share in {
            "dropout": dropout,
            "input_dropout": input_dropout,
            "recurrent_dropout": recurrent_dropout,
            "weight_drop": weight_drop,
            "zoneout": zoneout,
        }.items():
            if not isinstance(share, (int, float)) or not 0 <= share <= 1:
                raise ValueError(f"{name}: a share from 0 to 1, not {share!r}")
        if skip not in (None, "residual", "highway"):
            raise ValueError(unknown("skip", str(skip), ("residual", "highway")))
        if backend not in ("auto", "eager"):
            raise ValueError(unknown("backend", str(backend), ("auto", "eager")))
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bidirectional, self.batch_first = bool(bidirectional), bool(batch_first)
        self.dropout, self.input_dropout, self.recurrent_dropout = dropout, input_dropout, recurrent_dropout
        self.weight_drop, self.zoneout, self.skip, self.backend = weight_drop, zoneout, skip, backend
        self.learn_initial_state = bool(learn_initial_state)

        self._places: list[_Place] = []
        directions = ("", "_reverse") if bidirectional else ("",)
        if isinstance(self.cell, Cell):
            self.state_type = self.cell.state_type
            width = input_size
            for k, size in enumerate(sizes):
                for direction in directions:
                    self._add(_Place(k, f"_l{k}{direction}", size, bool(direction), width), self.cell, device, dtype)
                width = self.cell.widths(size)[0] * len(directions)
                if k and skip:
                    self._check_skip(k, self._places[-1].input_size, width)
                    if skip == "highway":
                        self._add_highway(k, width, device, dtype)
        else:
            if num_layers > 1 or bidirectional or weight_drop or recurrent_dropout:
                raise ValueError(
                    "a plain function has no weights that Recurrent knows: num_layers is 1, bidirectional False, "
                    "weight_drop and recurrent_dropout 0 (declare it with recurra.cell for these)"
                )
            pair = isinstance(self.cell, nn.LSTMCell)
            self.state_type = namedtuple("function_state", ["h", "c"] if pair else ["h"])
            self._places.append(_Place(0, "_l0", sizes[0], False, input_size))
            if learn_initial_state:
                for name in self.state_type._fields:
                    start = torch.zeros(sizes[0], device=device, dtype=dtype)
                    self.register_parameter(f"initial_{name}_l0", nn.Parameter(start))

    def _add(self, place: "_Place", cell: Cell, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        place.use = cell.use(place.hidden_size)
        place.names = list(cell.shapes(place.input_size, place.hidden_size))
        weights = {}
        for name, shape in cell.shapes(place.input_size, place.hidden_size).items():
            weights[name] = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name + place.suffix, weights[name])
        initialise(cell, weights)
        for name, value in cell.constant_values(place.hidden_size).items():
            place.names.append(name)
            kind = dtype if value.is_floating_point() else None
            self.register_buffer(name + place.suffix, value.to(device=device, dtype=kind), persistent=False)
        if self.learn_initial_state:
            first = weights["weight_ih"]
            for f, start in zip(cell.fields, cell.initial_state(1, place.hidden_size, first), strict=True):
                self.register_parameter(f"initial_{f.name}{place.suffix}", nn.Parameter(start[0].clone()))
        self._places.append(place)

    def _add_highway(self, k: int, width: int, device: torch.device | str | None, dtype: torch.dtype | None) -> None:
        weight = nn.Parameter(torch.empty(width, width, device=device, dtype=dtype))
        bias = nn.Parameter(torch.empty(width, device=device, dtype=dtype))
        with torch.no_grad():
            fill(weight, "xavier")
            bias.fill_(-1.0)  # begins near the identity, as Srivastava et al. 2015 advise
        self.register_parameter(f"weight_skip_l{k}", weight)
        self.register_parameter(f"bias_skip_l{k}", bias)

    def _check_skip(self, k: int, below: int, width: int) -> None:
        if below != width:
            raise ValueError(
                f"skip={self.skip!r}: layer {k} reads {below} values and puts out {width}; they must be equal"
            )

    @property
    def output_size(self) -> int:
        """Width of the output: that of the last layer's first state field, times its directions."""
        return self._widths(self._places[-1])[0] * (2 if self.bidirectional else 1)

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        name = (
            self.cell.name if isinstance(self.cell, Cell) else getattr(self.cell, "__name__", type(self.cell).__name__)
        )
        parts = [f"{name}, {self.input_size}, {self.hidden_size}"]
        if self.num_layers > 1:
            parts.append(f"num_layers={self.num_layers}")
        parts += [
            f"{key}={value}"
            for key, value in {
                "bidirectional": self.bidirectional,
                "batch_first": self.batch_first,
                "dropout": self.dropout,
                "input_dropout": self.input_dropout,
                "recurrent_dropout": self.recurrent_dropout,
                "weight_drop": self.weight_drop,
                "zoneout": self.zoneout,
                "skip": self.skip,
                "learn_initial_state": self.learn_initial_state,
            }.items()
            if value
        ]
        return ", ".join(parts)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over sequences.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or one sequence, (T, I).
            state: The state to begin with, as a previous call returned it: a named or plain tuple of the cell's
                fields, each (layers * directions, B, width); one tensor where the cell has one field.
            lengths: (B,) steps of each sequence, in any order, 0 allowed; what follows is padding.
            mask: (T, B) or (B, T) as `x`, True where valid. A masked step holds the state and puts out zeros.
            reset: Likewise; True where the state is set to the initial state before that step. The backward
                direction clears where it crosses from step t to t - 1.
            return_states: Also return every field at every step of every layer.

        Returns:
            The output: the last layer's first state field at every step, directions side by side, (T, B, width) or
            as `x` is laid out; the final state, a named tuple of the cell's fields, each (layers * directions, B,
            width), or a list of them where layers have different widths; with `return_states`, a named tuple of all
            states, each (layers * directions, T, B, width), or a list.

        Raises:
            ValueError: Sizes or types that do not fit, naming the argument, what was found and what is expected.
        """
        single = x.dim() == 2
        if x.dim() not in (2, 3):
            raise ValueError(f"x: (T, B, I), (B, T, I) or (T, I) is expected, not {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ValueError(
                f"x: input_size is {self.input_size}, but the last axis of {tuple(x.shape)} is {x.shape[-1]}"
            )
        rows_first = self.batch_first and not single
        x = x.unsqueeze(1) if single else x.transpose(0, 1) if rows_first else x
        T, B = x.shape[:2]
        if single:
            mask, reset = (None if rows is None else rows.unsqueeze(-1) for rows in (mask, reset))
            lengths = None if lengths is None else torch.as_tensor(lengths).reshape(-1)
        mask = self._steps_by_rows("mask", mask, T, B, rows_first)
        reset = self._steps_by_rows("reset", reset, T, B, rows_first)
        mask = _with_lengths(mask, lengths, T, B, x.device)
        states = self._initial(x, B) if state is None else self._given(state, x, B, single)
        fresh = states if state is None or reset is None else self._initial(x, B)

        finals: list[State] = []
        everything: list[list[State]] = []
        for k in range(self.num_layers):
            places = [p for p in self._places if p.layer == k]
            inputs = self._variational(x, self.input_dropout) if self.input_dropout else x
            outputs = []
            for place in places:
                index = self._places.index(place)
                steps, final = eager.run(
                    self._stepper(place, B, x),
                    inputs,
                    states[index],
                    fresh[index],
                    mask=mask,
                    reset=reset,
                    reverse=place.reverse,
                    zoneout=self.zoneout,
                    training=self.training,
                )
                outputs.append(torch.stack([s[0] for s in steps]) if T else x.new_zeros(0, B, self._widths(place)[0]))
                finals.append(final)
                if return_states:
                    everything.append(steps)
            out = outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)
            if self.skip and k:
                out = self._skipped(k, x, out)
            if mask is not None:
                out = torch.where(mask.unsqueeze(-1), out, out.new_zeros(()))
            x = F.dropout(out, self.dropout, self.training) if self.dropout and k < self.num_layers - 1 else out

        output = x.squeeze(1) if single else x.transpose(0, 1) if rows_first else x
        final_state = self._gathered([[f.squeeze(0) if single else f for f in s] for s in finals])
        if not return_states:
            return output, final_state
        axis = 0 if not rows_first else 1
        steps_of = [
            [torch.stack([s[i] for s in steps], axis) for i in range(len(self.state_type._fields))]
            if T
            else [f.new_zeros((0, *f.shape)).transpose(0, axis) for f in final]
            for steps, final in zip(everything, finals, strict=True)
        ]
        if single:
            steps_of = [[f.squeeze(1) for f in fields] for fields in steps_of]
        return output, final_state, self._gathered(steps_of)

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of every layer: `x_t` (B, I) or (I,) and the state so far give the output and the new state.

        Run over a sequence, it gives what `forward` gives.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional layer reads the future, so it cannot take one step at a time")
        if x_t.dim() not in (1, 2):
            raise ValueError(f"x_t: (B, I) or (I,) is expected, not {tuple(x_t.shape)}")
        x = x_t.unsqueeze(1 if self.batch_first and x_t.dim() == 2 else 0)
        output, state = self(x, state)
        return output.squeeze(1 if self.batch_first and x_t.dim() == 2 else 0), state

    def _stepper(self, place: "_Place", B: int, x: Tensor) -> eager.Stepper:
        if not isinstance(self.cell, Cell):
            return eager.FunctionStepper(self.cell, single=len(self.state_type._fields) == 1)
        assert place.use is not None
        weights = {name: getattr(self, name + place.suffix) for name in place.names}
        if self.weight_drop and self.training and "weight_hh" in weights:
            weights["weight_hh"] = F.dropout(weights["weight_hh"], self.weight_drop)
        drop = None
        if self.recurrent_dropout and self.training:
            drop = F.dropout(x.new_ones(B, place.use.operand), self.recurrent_dropout)
        return eager.CellStepper(self.cell, place.use, weights, drop)

    def _variational(self, x: Tensor, share: float) -> Tensor:
        return x * F.dropout(x.new_ones(x.shape[1:]), share, self.training)

    def _skipped(self, k: int, below: Tensor, out: Tensor) -> Tensor:
        if self.skip == "residual":
            return below + out
        gate = torch.sigmoid(F.linear(below, getattr(self, f"weight_skip_l{k}"), getattr(self, f"bias_skip_l{k}")))
        return gate * out + (1 - gate) * below

    def _widths(self, place: "_Place") -> tuple[int, ...]:
        if isinstance(self.cell, Cell):
            return self.cell.widths(place.hidden_size)
        return (place.hidden_size,) * len(self.state_type._fields)

    def _initial(self, x: Tensor, B: int) -> list[State]:
        states = []
        for place in self._places:
            if self.learn_initial_state:
                starts = [getattr(self, f"initial_{name}{place.suffix}") for name in self.state_type._fields]
                states.append(tuple(start.expand(B, -1) for start in starts))
            elif isinstance(self.cell, Cell):
                states.append(self.cell.initial_state(B, place.hidden_size, x))
            else:
                states.append(tuple(x.new_zeros(B, width) for width in self._widths(place)))
        return states

    def _given(self, state: Any, x: Tensor, B: int, single: bool) -> list[State]:
        names = self.state_type._fields
        fields = (state,) if isinstance(state, Tensor) else tuple(state)
        if len(fields) != len(names):
            raise ValueError(f"state: {len(names)} field(s) are expected ({', '.join(names)}), not {len(fields)}")
        columns = []
        for index, (name, values) in enumerate(zip(names, fields, strict=True)):
            rows = list(values)
            if len(rows) != len(self._places):
                raise ValueError(f"state.{name}: {len(self._places)} layers * directions are expected, not {len(rows)}")
            for i, place in enumerate(self._places):
                expected = (self._widths(place)[index],) if single else (B, self._widths(place)[index])
                if tuple(rows[i].shape) != expected:
                    raise ValueError(f"state.{name}[{i}]: {expected} is expected, not {tuple(rows[i].shape)}")
                rows[i] = rows[i].unsqueeze(0) if single else rows[i]
            columns.append(rows)
        return [tuple(column[i].to(x.dtype) for column in columns) for i in range(len(self._places))]

    def _gathered(self, rows: list[list[Tensor]]) -> Any:
        """From one list of fields a place to the named tuple of fields, stacked where the widths allow it."""
        fields = [[row[i] for row in rows] for i in range(len(self.state_type._fields))]
        return self.state_type(*(torch.stack(f) if len({v.shape for v in f}) == 1 else f for f in fields))

    def _steps_by_rows(self, name: str, rows: Tensor | None, T: int, B: int, rows_first: bool) -> Tensor | None:
        if rows is None:
            return None
        expected = (B, T) if rows_first else (T, B)
        if rows.dtype != torch.bool:
            raise ValueError(f"{name}: a boolean tensor is expected, not {rows.dtype}")
        if tuple(rows.shape) != expected:
            raise ValueError(f"{name}: {expected} is expected, not {tuple(rows.shape)}")
        return rows.transpose(0, 1) if rows_first else rows

    def __deepcopy__(self, memo: dict[int, Any]) -> "Recurrent":
        made = self.__class__.__new__(self.__class__)
        memo[id(self)] = made
        for (
            key,
            value,
        ) in self.__dict__.items():  # a cell is a constant; its named tuple's class cannot be copied
            keep = key == "state_type" or (key == "cell" and isinstance(value, Cell))
            made.__dict__[key] = value if keep else copy.deepcopy(value, memo)
        return made


class _Place:
    """One layer and direction."""

    def __init__(self, layer: int, suffix: str, hidden_size: int, reverse: bool, input_size: int) -> None:
        self.layer, self.suffix, self.hidden_size = layer, suffix, hidden_size
        self.reverse, self.input_size = reverse, input_size
        self.use: Use | None = None
        self.names: list[str] = []


def _with_lengths(
    mask: Tensor | None, lengths: Tensor | Iterable[int] | None, T: int, B: int, device: torch.device
) -> Tensor | None:
    if lengths is None:
        return mask
    steps = torch.as_tensor(lengths, device=device)
    if steps.is_floating_point() or steps.dtype == torch.bool or tuple(steps.shape) != (B,):
        raise ValueError(f"lengths: {B} whole numbers are expected, not {steps.dtype} {tuple(steps.shape)}")
    if not torch.compiler.is_compiling() and not torch._C._functorch.is_functorch_wrapped_tensor(steps) and B:
        low, high = int(steps.min()), int(steps.max())
        if low < 0 or high > T:
            raise ValueError(f"lengths: from 0 to T = {T} is expected, found {low if low < 0 else high}")
    valid = torch.arange(T, device=device).unsqueeze(1) < steps
    return valid if mask is None else valid & mask


def _whole(name: str, value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: a whole number above 0 is expected, not {value!r}")
