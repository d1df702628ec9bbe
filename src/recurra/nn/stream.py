"""`Stream`: a recurrent network that takes one step after another, as its inputs come."""

import copy
import json
import struct
import zlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from recurra.cells.form import Cell, Stateful
from recurra.engine import native
from recurra.engine.eager import State
from recurra.engine.fused import why_not
from recurra.engine.stepping import SteppedLayer, Steps
from recurra.engine.trace import TraceError
from recurra.errors import DataError, unknown
from recurra.nn.convolutional import ConvRecurrent
from recurra.nn.dropin import cell_and_use, weights_of
from recurra.nn.recurrent import Recurrent

Array = TypeVar("Array", np.ndarray, Tensor)

BACKENDS = ("auto", "eager", "native")

_MARK, _VERSION = b"recurra state\n", 1
_LENGTHS = struct.Struct("<HI")  # version, bytes of the header
_SUM = struct.Struct("<I")  # CRC-32 of everything before it
_NUMPY = {torch.float32: np.dtype(np.float32), torch.float64: np.dtype(np.float64)}


class Stream:
    """A recurrent network that takes one step after another and keeps the state between them.

    It is made for inputs that come one at a time: a step is one call of the compiled core, which holds the state and
    packed copies of the parameters, and nothing is prepared anew. Results are those of `layer.step`, without autograd
    and as in evaluation, whatever mode the model is in. One thread at a time takes steps.

    Args:
        model: A `Recurrent`, a drop-in (`recurra.LSTM`, `GRU`, `RNN`), or PyTorch's own, of any number of layers, in
            one direction. Its parameters are copied: after a change of them, call `refresh`.
        rows: Rows B of the batch: sequences that take their steps together.
        backend: "native" runs the compiled core, "eager" the model itself; "auto" takes the core where it can run, and
            says in `reason` why not. It cannot run plain functions, skip connections, `input_layers`, `output_layers`,
            zoneout, and models on another device or of another type than float32 and float64.

    Attributes:
        backend: "native" or "eager".
        reason: Why, in words.
        rows: Rows of the batch.
        input_size: Numbers in a row of x.
        output_size: Numbers in a row of y.
        dtype: The type in which it computes.

    Raises:
        TypeError: The model is another module.
        ValueError: It runs from the last step to the first or in both directions; or `backend` asks for what cannot be.

    Example:
        >>> stream = Stream(Recurrent("lstm", 3, 4))
        >>> stream.step(np.zeros(3, np.float32)).shape
        (4,)
        >>> stream.block(torch.zeros(10, 3)).shape
        torch.Size([10, 4])
        >>> saved = stream.to_bytes()
        >>> stream.reset()
        >>> stream.load_bytes(saved)
    """

    def __init__(
        self, model: nn.Module, rows: int = 1, *, backend: Literal["auto", "eager", "native"] = "auto"
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(unknown("backend", str(backend), BACKENDS))
        if isinstance(rows, bool) or not isinstance(rows, int) or rows < 1:
            raise ValueError(f"rows: a whole number from 1 on is expected, not {rows!r}")
        self._model, self.rows = _stepped(model), rows
        self.input_size, self.output_size, self.dtype = self._model.sizes_and_type()
        self.backend, self.reason = self._choose(backend)
        self._shapes: dict[tuple[int, ...], tuple[int, ...]] = {(rows, self.input_size): (rows, self.output_size)}
        if rows == 1:
            self._shapes[self.input_size,] = (self.output_size,)
        self._begin(None)

    def _choose(self, backend: str) -> tuple[Literal["native", "eager"], str]:
        against = "backend='eager' asks for it" if backend == "eager" else self._model.why_not_native()
        if against is None:
            how = "asked for by backend='native'" if backend == "native" else "it can run every layer"
            return "native", f"the compiled core takes the steps: {how}"
        if backend == "native":
            raise ValueError(f"backend: 'native' cannot be: {against}")
        return "eager", f"{against}, so steps are taken in tensor code"

    def _begin(self, state: list[State] | None) -> None:
        """Copy the parameters, and go on from a state, or from the first."""
        with torch.no_grad():
            self._first = [tuple(v.detach().clone() for v in fields) for fields in self._model.initial(self.rows)]
            self._steps = self._model.steps(self.rows) if self.backend == "native" else _EagerSteps(self._model)
            self._steps.set_state(self._first if state is None else state)
        self._step: Any = self._steps.core.step if isinstance(self._steps, Steps) else _nothing

    def refresh(self) -> None:
        """Copy the model's parameters anew; the state stays."""
        self._begin(self._steps.state())

    # --- steps -------------------------------------------------------------------------------------------------------

    def step(self, x: Array, out: Array | None = None) -> Array:
        """Take a step.

        Args:
            x: (I,) where there is one row, or (B, I): an array of NumPy, in float32 or float64, or a tensor of the
                model's type.
            out: Where the output is written, an array or tensor as x, of the model's type; a new one where None.

        Returns:
            The output of the last layer, (H,) or (B, H), of the model's type.

        Raises:
            ValueError: A type or size that does not fit.
            RuntimeError: Another thread is at a step.
        """
        y = self._step(x, out)
        return self._run(x, out, along=False) if y is None else y

    def block(self, x: Array, out: Array | None = None) -> Array:
        """Take many steps, which are all known: quicker than each by itself.

        Args:
            x: (T, I) where there is one row, or (T, B, I); as in `step`.
            out: As in `step`.

        Returns:
            The output of the last layer at every step, (T, H) or (T, B, H).

        Raises:
            ValueError: A type or size that does not fit.
            RuntimeError: Another thread is at a step.
        """
        return self._run(x, out, along=True)

    def _run(self, x: Any, out: Any, along: bool) -> Any:
        """Check and convert the arguments, and take the steps."""
        if not isinstance(x, (np.ndarray, Tensor)):
            raise ValueError(f"x: an array of NumPy or a tensor is expected, not {type(x).__name__}")
        given = tuple(x.shape)
        time, one = (given[:1], given[1:]) if along else ((), given)
        if one not in self._shapes or len(time) != along:
            expected = " or ".join(str(("T", *s) if along else s).replace("'", "") for s in self._shapes)
            raise ValueError(f"x: {expected} is expected, not {given}")
        inputs = self._checked(x)
        y = self._place_for(x, out, (*time, *self._shapes[one]))
        if 0 not in time:
            with torch.no_grad():
                self._steps.run(inputs, y)
        return y

    def _checked(self, x: Any) -> Any:
        """The input, of the right type and in the right place, its numbers side by side."""
        if isinstance(x, Tensor):
            if x.dtype != self.dtype:
                raise ValueError(f"x: {self.dtype} is expected, as the parameters are, not {x.dtype}")
            if x.device != self._device:
                raise ValueError(f"x: it lies on {x.device}, but the parameters on {self._device}")
            return x.detach().contiguous()
        if self.dtype not in _NUMPY:
            raise ValueError(f"x: a tensor is expected, since NumPy does not have the parameters' {self.dtype}")
        if x.dtype not in _NUMPY.values():
            raise ValueError(f"x: an array of float32 or float64 is expected, not of {x.dtype}")
        return np.ascontiguousarray(x, self._numpy)

    def _place_for(self, x: Any, out: Any, shape: tuple[int, ...]) -> Any:
        """Where the output goes: checked, or made."""
        is_array = isinstance(x, np.ndarray)
        if out is None:
            return (
                np.empty(shape, self._numpy) if is_array else torch.empty(shape, dtype=self.dtype, device=self._device)
            )
        kind = np.ndarray if is_array else Tensor
        if not isinstance(out, kind):
            raise ValueError(f"out: {kind.__name__} is expected, as x is, not {type(out).__name__}")
        expected = self._numpy if is_array else self.dtype
        if tuple(out.shape) != shape or out.dtype != expected:
            raise ValueError(f"out: {expected} {shape} is expected, not {out.dtype} {tuple(out.shape)}")
        if isinstance(out, np.ndarray):
            usable = out.flags.c_contiguous and out.flags.writeable
        else:
            usable = out.is_contiguous() and out.device == self._device and not out.requires_grad
        if not usable:
            raise ValueError(f"out: numbers side by side on {self._device} that may be written to are expected")
        return out

    @cached_property
    def _numpy(self) -> np.dtype:
        return _NUMPY[self.dtype]

    @cached_property
    def _device(self) -> torch.device:
        return self._first[0][0].device

    # --- state -------------------------------------------------------------------------------------------------------

    @property
    def state(self) -> Any:
        """The state: a named tuple of the cell's fields, each (layers, B, width), or a list where widths differ.

        It is a copy, in the form in which a layer returns its state and takes it. A state that is set may also be of
        one row, (layers, width), where the stream has one.
        """
        columns = zip(*self._steps.state(), strict=True)
        return self._model.form.state_type(
            *(torch.stack(c) if len({v.shape for v in c}) == 1 else list(c) for c in columns)
        )

    @state.setter
    def state(self, state: Any) -> None:
        names = self._model.form.state_type._fields
        fields = (state,) if isinstance(state, Tensor) else state
        if not isinstance(fields, (tuple, list)) or len(fields) != len(names):
            found = f"{len(fields)}" if isinstance(fields, (tuple, list)) else type(state).__name__
            raise ValueError(f"state: {len(names)} field(s) are expected ({', '.join(names)}), not {found}")
        columns = []
        for n, (name, values) in enumerate(zip(names, fields, strict=True)):
            if not isinstance(values, (Tensor, tuple, list)) or len(values) != len(self._first):
                found = len(values) if isinstance(values, (Tensor, tuple, list)) else type(values).__name__
                raise ValueError(f"state.{name}: {len(self._first)} layers are expected, not {found}")
            columns.append([self._as_field(f"state.{name}[{k}]", v, self._first[k][n]) for k, v in enumerate(values)])
        self._steps.set_state(list(zip(*columns, strict=True)))

    def _as_field(self, name: str, value: Any, like: Tensor) -> Tensor:
        expected = tuple(like.shape)
        accepted = [expected, expected[1:]] if self.rows == 1 else [expected]
        if not isinstance(value, Tensor) or tuple(value.shape) not in accepted:
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name}: a tensor {expected} is expected, not {found}")
        return value.detach().to(like).view(expected)

    def reset(self, rows: Sequence[int] | Tensor | np.ndarray | None = None) -> None:
        """Set the state to what it is before the first step.

        Args:
            rows: Numbers of the rows that begin anew, or a truth value for each; None for all of them.

        Raises:
            ValueError: There is no such row.
        """
        if rows is None:
            self._steps.set_state(self._first)
            return
        begins = self._chosen(rows).unsqueeze(1)
        pairs = zip(self._steps.state(), self._first, strict=True)
        self._steps.set_state(
            [tuple(torch.where(begins, f, v) for v, f in zip(now, first, strict=True)) for now, first in pairs]
        )

    def _chosen(self, rows: Any) -> Tensor:
        """(B,), True for the chosen rows."""
        try:
            given = torch.as_tensor(rows, device=self._device)
        except (RuntimeError, TypeError, ValueError):
            given = None
        if given is not None and given.dtype == torch.bool and tuple(given.shape) == (self.rows,):
            return given
        chosen = torch.zeros(self.rows, dtype=torch.bool, device=self._device)
        if given is not None and given.dim() == 1 and not given.numel():
            return chosen
        whole = given is not None and given.dim() == 1 and not given.is_floating_point() and given.dtype != torch.bool
        if given is None or not whole or given.min() < 0 or given.max() >= self.rows:
            expected = f"whole numbers from 0 to {self.rows - 1}, or {self.rows} truth values"
            raise ValueError(f"rows: {expected}, are expected, not {rows!r}")
        chosen[given.long()] = True
        return chosen

    def to_bytes(self) -> bytes:
        """The state as bytes, for `load_bytes` of a stream of the same cell, sizes, rows and type."""
        layers = self._steps.state()
        kind = np.dtype("<f8" if self.dtype == torch.float64 else "<f4")
        header = json.dumps(self._header()).encode()
        numbers = [v.cpu().to(torch.float64).numpy().astype(kind).tobytes() for fields in layers for v in fields]
        whole = b"".join([_MARK, _LENGTHS.pack(_VERSION, len(header)), header, *numbers])
        return whole + _SUM.pack(zlib.crc32(whole))

    def _header(self) -> dict[str, Any]:
        cell = self._model.form
        return {
            "cell": repr(cell) if isinstance(cell, Cell) else cell.name,
            "rows": self.rows,
            "type": str(self.dtype).removeprefix("torch."),
            "widths": [[v.shape[1] for v in fields] for fields in self._first],
        }

    def load_bytes(self, data: bytes | bytearray | memoryview) -> None:
        """Go on from a state that `to_bytes` gave.

        Raises:
            DataError: It is no such state, it is damaged, or it belongs to a stream of another cell or size.
        """
        begun = len(_MARK) + _LENGTHS.size
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise DataError(f"state of a stream: bytes are expected, not {type(data).__name__}")
        data = bytes(data)
        if not data.startswith(_MARK):
            raise DataError("state of a stream: these bytes are none; what Stream.to_bytes gave is expected")
        if len(data) < begun:
            raise DataError(f"state of a stream: cut off after {len(data)} bytes")
        version, length = _LENGTHS.unpack_from(data, len(_MARK))
        if version != _VERSION:
            raise DataError(f"state of a stream: version {version} is unknown; this program reads version {_VERSION}")
        own = self._header()
        wide = 8 if self.dtype == torch.float64 else 4
        if len(data) < begun + length + _SUM.size:
            raise DataError(f"state of a stream: cut off after {len(data)} bytes")
        if _SUM.unpack_from(data, len(data) - _SUM.size)[0] != zlib.crc32(data[: -_SUM.size]):
            raise DataError("state of a stream: damaged or cut off, since its checksum is not that of its bytes")
        found = json.loads(data[begun : begun + length])
        for key, value in own.items():
            if found[key] != value:
                raise DataError(f"state of a stream: {key} {found[key]} stands in it, but the stream has {value}")
        layers, start = [], begun + length
        for fields in self._first:
            layers.append([])
            for v in fields:
                numbers = np.frombuffer(data, f"<f{wide}", v.numel(), start)
                layers[-1].append(torch.from_numpy(numbers.astype(f"=f{wide}")).to(v).view(v.shape))
                start += v.numel() * wide
        self._steps.set_state([tuple(fields) for fields in layers])

    @classmethod
    def from_bytes(cls, model: nn.Module, data: bytes | bytearray | memoryview, **options: Any) -> "Stream":
        """A stream that goes on from a state that `to_bytes` gave.

        Args:
            model: As for a new stream.
            data: The state.
            options: `rows` and `backend` of a new stream.

        Raises:
            DataError: As `load_bytes`.
        """
        stream = cls(model, **options)
        stream.load_bytes(data)
        return stream

    def __repr__(self) -> str:
        sizes = f"input_size={self.input_size}, output_size={self.output_size}, layers={len(self._first)}"
        return f"Stream({self._header()['cell']}, {sizes}, rows={self.rows}, backend={self.backend!r})"


# --- what a stream is made of ----------------------------------------------------------------------------------------


class _OfRecurrent:
    """A `Recurrent`, as a stream sees it."""

    def __init__(self, model: Recurrent) -> None:
        if model.bidirectional:
            raise ValueError("a bidirectional layer reads the future, so it cannot take one step at a time")
        if model.reverse:
            raise ValueError("a layer with reverse=True begins with the last step, so it cannot take one at a time")
        self.model, self.form = model, model.form

    @property
    def _like(self) -> Tensor:
        return next((p for p in self.model.parameters() if p.is_floating_point()), torch.zeros(0))

    def sizes_and_type(self) -> tuple[int, int, torch.dtype]:
        return self.model.input_size, self.model.output_size, self._like.dtype

    def why_not_native(self) -> str | None:
        model = self.model
        if not isinstance(model.cell, Cell):
            return f"{self.form.name!r} is a plain function"
        if model.backend == "eager":
            return "the model's backend='eager' asks for it"
        for name in ("skip", "input_layers", "output_layers", "zoneout"):
            if getattr(model, name):
                return f"{name}={getattr(model, name)!r} is no part of the compiled core"
        return native.why_not() or why_not(self._like) or self._why_untraced()

    def _why_untraced(self) -> str | None:
        try:
            self._layers  # noqa: B018 they are made
        except TraceError as error:
            return f"cell {self.form.name!r} cannot be written down as a program ({error})"
        return None

    @cached_property
    def _layers(self) -> list[SteppedLayer]:
        cell, made = self.model.cell, []
        for place in self.model._places:
            assert isinstance(cell, Cell)
            assert place.use is not None
            made.append(SteppedLayer(cell, place.use, place.hidden_size, place.input_size))
        return made

    def steps(self, rows: int) -> Steps:
        return Steps(self._layers, [self.model._weights(place) for place in self.model._places], rows)

    def initial(self, rows: int) -> list[State]:
        return self.model._initial(self._like.new_empty(rows, self.model.input_size), rows)

    def run(self, model: Any, x: Tensor, layers: list[State]) -> tuple[Tensor, list[State]]:
        columns = [list(column) for column in zip(*layers, strict=True)]
        y, final = model(x, tuple(columns))
        return y, list(zip(*final, strict=True))


class _OfLayers:
    """A drop-in or PyTorch's own recurrent layer, as a stream sees it."""

    def __init__(self, model: nn.RNNBase) -> None:
        if model.bidirectional:
            raise ValueError("a bidirectional layer reads the future, so it cannot take one step at a time")
        self.model = model
        self.cell, self.use = cell_and_use(model)
        self.form: Stateful = self.cell

    @property
    def _like(self) -> Tensor:
        return self.model.get_parameter("weight_ih_l0")

    def sizes_and_type(self) -> tuple[int, int, torch.dtype]:
        return self.model.input_size, self.model.proj_size or self.model.hidden_size, self._like.dtype

    def why_not_native(self) -> str | None:
        return native.why_not() or why_not(self._like)

    @cached_property
    def _layers(self) -> list[SteppedLayer]:
        model = self.model
        widths = [model.input_size, *[model.proj_size or model.hidden_size] * (model.num_layers - 1)]
        return [SteppedLayer(self.cell, self.use, model.hidden_size, w, bool(model.bias)) for w in widths]

    def steps(self, rows: int) -> Steps:
        weights = [weights_of(self.model, f"_l{k}") for k in range(self.model.num_layers)]
        return Steps(self._layers, weights, rows)

    def initial(self, rows: int) -> list[State]:
        return [self.cell.initial_state(rows, self.model.hidden_size, self._like)] * self.model.num_layers

    def run(self, model: Any, x: Tensor, layers: list[State]) -> tuple[Tensor, list[State]]:
        columns = [torch.stack(column) for column in zip(*layers, strict=True)]
        y, final = model(x, tuple(columns) if model.mode == "LSTM" else columns[0])
        return y, list(zip(*(final if model.mode == "LSTM" else (final,)), strict=True))


class _EagerSteps:
    """Steps of a copy of the model in tensor code."""

    def __init__(self, model: _OfRecurrent | _OfLayers) -> None:
        self.of, self.copy = model, copy.deepcopy(model.model).eval().requires_grad_(False)
        self.copy.batch_first = False
        self.layers: list[State] = []

    def run(self, x: Any, y: Any) -> None:
        """Take steps from x to y, both arrays of NumPy or both tensors, with or without axes for time and rows."""
        like = self.layers[0][0]
        inputs = x if isinstance(x, Tensor) else torch.tensor(x, device=like.device)
        inputs = inputs.view(-1, len(like), x.shape[-1])
        found, self.layers = self.of.run(self.copy, inputs, self.layers)
        if isinstance(y, Tensor):
            y.copy_(found.view(y.shape))
        else:
            y[...] = found.cpu().numpy().reshape(y.shape)

    def state(self) -> list[State]:
        return [tuple(v.clone() for v in fields) for fields in self.layers]

    def set_state(self, layers: Sequence[State]) -> None:
        self.layers = [tuple(v.clone() for v in fields) for fields in layers]


def _nothing(x: Any, out: Any) -> None:
    """In the place of the core's step, which gives this where the arguments are not such as it takes."""


def _stepped(model: Any) -> _OfRecurrent | _OfLayers:
    if isinstance(model, ConvRecurrent):
        raise TypeError("model: ConvRecurrent reads frames, and a stream rows of numbers; model.step takes a frame")
    if isinstance(model, Recurrent):
        return _OfRecurrent(model)
    if isinstance(model, nn.RNNBase):
        return _OfLayers(model)
    raise TypeError(f"model: a Recurrent, an LSTM, GRU or RNN is expected, not {type(model).__name__}")
