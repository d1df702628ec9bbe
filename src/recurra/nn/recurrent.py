"""`Recurrent`: any cell along time, in layers and directions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from recurra.cells import find
from recurra.cells.form import Cell, Start, StateField, Stateful, Use, state_fields
from recurra.engine import eager, native, scan
from recurra.engine.affine import NotAffineError
from recurra.engine.eager import State, where_taken
from recurra.engine.fused import Fused, why_not
from recurra.engine.trace import Step, TraceError, trace
from recurra.errors import unknown
from recurra.nn.arguments import (
    Layout,
    activation,
    check_dtype,
    check_share,
    flag,
    is_autocast,
    sizes_of_layers,
    whole,
    widths_of_path,
    within_lengths,
)
from recurra.nn.initialise import by_symbol, checked, constants, fill, initialise

BACKENDS = ("auto", "eager", "native", "scan")
MEMORIES = ("store", "recompute")
SKIPS = ("residual", "highway")
OPTIONS = ("skip", "learn_initial_state", "input_layers", "output_layers", "init")
SHARES = ("dropout", "input_dropout", "recurrent_dropout", "weight_drop", "zoneout")


class Recurrent(nn.Module):
    """A recurrent layer, or a stack of them, of any cell.

    Args:
        cell: A cell (`recurra.cells.lstm`, one of your own made with `recurra.cell`), the name of one, or a plain
            function or module `f(x_t, state) -> state` of one layer and direction (eq. 6.4). A function's state is
            one tensor; where it is a tuple, the function says so by an attribute, `f.state = "h c"`, and gets and
            returns a tuple (`torch.nn.LSTMCell` need not say it).
        input_size: Width I of an input.
        hidden_size: Width H of the state; one number, or one for each layer.
        num_layers: Layers, each reading the states of the one below (eq. 6.68).
        bidirectional: Run each layer in both directions and put their outputs side by side (eqs 6.69-6.71).
        reverse: Run each layer from the last step to the first.
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        dropout: Share of the outputs of every layer but the last that is dropped in training.
        input_dropout: Share of each layer's inputs dropped in training, the same units at every step of a sequence
            (Gal & Ghahramani 2016).
        recurrent_dropout: Share of what U multiplies dropped in training, the same units at every step (ibid.).
        weight_drop: Share of U's entries dropped in training, for a whole sequence (DropConnect; Merity et al. 2018).
        zoneout: Share of the state's units that keep their old value at a step in training; otherwise the mean of
            both takes its place (Krueger et al. 2017). It concerns every state field but those of a fixed width.
        skip: "residual" adds each layer's input to its output; "highway" mixes the two by a gate (Srivastava et al.
            2015). Where their widths differ, a matrix brings the input to the output's (He et al. 2016). The first
            layer has neither, whatever the width of its input.
        learn_initial_state: The state before the first step is a parameter instead of the cell's start (zero); fields
            of a fixed width (a count of steps) and those that start at infinity are not learnt.
        input_layers: Widths of feed-forward layers that x passes before the first recurrent layer: a deeper path from
            x to h (Pascanu et al. 2014).
        output_layers: Widths of feed-forward layers that the last recurrent layer's states pass: a deeper path from h
            to y. The last one is linear and has no bias, so that one width alone gives y_t = V h_t (eq. 6.9).
        path_activation: What the others of these layers end with, by name or as a function.
        init: How parameters begin, other than the cell says: keys "W", "U", "b" (all gates), "W_f", "U_f", "b_f" (one
            gate), a vector or matrix by name; values a number, "xavier", "orthogonal", "identity", "uniform", "unit",
            "normal", "zeros", "ones", a multiple of one of these such as "orthogonal*1.2", or a function from a shape
            to values; and "chrono" with the longest span of steps to be remembered (Tallec & Ollivier 2018). "uniform"
            alone, for all parameters, is how PyTorch's layers begin.
        memory: "store" keeps every step's activations for the derivative; "recompute" keeps the states at about √T of T
            steps, and computes the rest again from those: a third more work, the same gradients.
        backend: "native" runs the compiled core; "scan" computes all steps in parallel, where the cell is affine in its
            state; "eager" takes one step after another in tensor code. "auto" takes the first of these that can be
            (`layer.choice` says which that is, and why).
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

    _axes: ClassVar[tuple[str, ...]] = ("I",)
    """Of what is read at a step, in a caller's tensor."""
    _steps: ClassVar[type[eager.CellStepper]] = eager.CellStepper

    def __init__(
        self,
        cell: Cell | str | Callable[..., Any],
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        *,
        bidirectional: bool = False,
        reverse: bool = False,
        batch_first: bool = False,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float = 0.0,
        skip: Literal["residual", "highway"] | None = None,
        learn_initial_state: bool = False,
        input_layers: Sequence[int] = (),
        output_layers: Sequence[int] = (),
        path_activation: str | Callable[[Tensor], Tensor] = "tanh",
        init: str | Mapping[str, Start] | None = None,
        memory: Literal["store", "recompute"] = "store",
        backend: Literal["auto", "eager", "native", "scan"] = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.cell = find(cell) if isinstance(cell, str) else cell
        self.form = _form_of(self.cell)
        self.input_size, self.num_layers = whole("input_size", input_size), whole("num_layers", num_layers)
        sizes = sizes_of_layers(hidden_size, self.num_layers)
        self.hidden_size = sizes if isinstance(hidden_size, Sequence) else sizes[0]
        self.bidirectional, self.reverse = flag("bidirectional", bidirectional), flag("reverse", reverse)
        self.batch_first = flag("batch_first", batch_first)
        check_dtype(dtype)
        if bidirectional and reverse:
            raise ValueError("reverse: True cannot stand beside bidirectional=True, which runs both directions")
        self.dropout, self.input_dropout, self.recurrent_dropout = dropout, input_dropout, recurrent_dropout
        self.weight_drop, self.zoneout = weight_drop, zoneout
        for name in SHARES:
            check_share(name, getattr(self, name))
        if skip is not None and skip not in SKIPS:
            raise ValueError(unknown("skip", str(skip), SKIPS))
        if backend not in BACKENDS:
            raise ValueError(unknown("backend", str(backend), BACKENDS))
        if memory not in MEMORIES:
            raise ValueError(unknown("memory", str(memory), MEMORIES))
        self.skip, self.memory, self.backend = skip, memory, backend
        self.learn_initial_state = flag("learn_initial_state", learn_initial_state)
        self.input_layers = widths_of_path("input_layers", input_layers)
        self.output_layers = widths_of_path("output_layers", output_layers)
        self.path_activation = activation(path_activation)
        self.init = init if init is None else checked(self.cell, init)
        self._check_cell()

        self._places: list[_Place] = []
        self._starts: dict[str, Start] = {}
        factory = {"device": device, "dtype": dtype}
        width = self._register_path("x", self.input_size, self.input_layers, factory)
        for k, size in enumerate(sizes):
            below, widths = width, self.form.widths(size)
            for suffix in ("", "_reverse")[: self._directions]:
                self._register(_Place(f"_l{k}{suffix}", bool(suffix) or self.reverse, below, size, widths), factory)
            width = widths[0] * self._directions
            if k and skip:
                self._register_skip(k, below, width, factory)
        self.output_size = self._register_path("y", width, self.output_layers, factory)
        self._chosen = self._choose()
        self.reset_parameters()

    @property
    def state_type(self) -> Any:
        """The named tuple of the state's fields."""
        return self.form.state_type

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _check_cell(self) -> None:
        name, of_u = self.form.name, self.weight_drop or self.recurrent_dropout
        if not isinstance(self.cell, Cell) and (self.num_layers > 1 or self.bidirectional or of_u or self.skip):
            raise ValueError(
                f"function {name!r}: Recurrent does not know its weights, so num_layers is 1, bidirectional False, "
                "skip None, weight_drop and recurrent_dropout 0; a cell declared with recurra.cell can have them all"
            )
        if isinstance(self.cell, Cell) and not self.cell.gates and of_u:
            raise ValueError(f"cell {name!r}: it has no U, so weight_drop and recurrent_dropout are 0")
        endless = [f.name for f in self.form.fields if not math.isfinite(self.form.begins(f))]
        if self.zoneout and endless:
            raise ValueError(f"zoneout: {endless[0]!r} starts at infinity, where it would stay, so zoneout is 0")

    def _choose(self) -> "Choice":
        """How the layers are run on the CPU, and why."""
        if not isinstance(self.cell, Cell):
            return self._eagerly(f"{self.form.name!r} is a plain function, run one step after another")
        if self.backend == "eager":
            return Choice("eager", "backend='eager' asks for it: one step after another")
        name, sizes = self.cell.name, {place.hidden_size for place in self._places}
        try:
            steps = {size: trace(self.cell, size) for size in sizes}
        except TraceError as error:
            return self._eagerly(f"cell {name!r} cannot be written down as a program ({error})")
        absent, against = native.why_not(), None if self.backend == "native" else self._plan(steps)
        if self.backend == "scan":
            if against:
                return self._eagerly(against)
            return Choice("scan", "backend='scan' asks for it: all steps in parallel")
        if self.backend == "native":
            why = "backend='native' asks for it"
        elif against:
            why = against
        elif absent:
            return Choice("scan", f"cell {name!r} is affine in its state, so all steps run in parallel; {absent}")
        else:
            why = f"cell {name!r} is affine in its state, but a scan is slower on a CPU"
        if absent:
            return self._eagerly(f"{why}, and {absent}" if self.backend == "auto" else absent)
        kernels = {}
        for place in self._places:
            assert place.use is not None
            size = place.hidden_size
            place.fused = kernels[size] = kernels.get(size) or Fused(self.cell, place.use, steps[size], size)
        return Choice("native", f"{why}, so its steps run in the compiled core, one after another")

    def _plan(self, steps: Mapping[int, Step]) -> str | None:
        """Make ready a scan; returns why there can be none."""
        assert isinstance(self.cell, Cell)
        if self.memory == "recompute":
            return f"memory={self.memory!r} asks for less than all steps at once"
        try:
            for place in self._places:
                place.plan = scan.Plan(self.cell, steps[place.hidden_size])
        except NotAffineError as error:
            return f"cell {self.cell.name!r} is not affine in its state ({error})"
        return None

    def _eagerly(self, reason: str) -> "Choice":
        """Raises ValueError where `backend` asks for what cannot be."""
        if self.backend in ("native", "scan"):
            raise ValueError(f"backend: {self.backend!r} cannot be: {reason}")
        return Choice("eager", reason)

    @property
    def choice(self) -> "Choice":
        """How the layers are run, and why, as their parameters and options are now."""
        if self._chosen.backend == "native":
            reason = self._not_native_for_now()
            like = next(iter(self.parameters()))
            reason = reason or why_not(like)
            if reason is not None and self.can_scan:
                return Choice("scan", f"{reason}, and cell {self.form.name!r} is affine in its state")
            if reason is not None:
                return Choice("eager", reason)
        if self._chosen.backend == "scan" and not self.can_scan:
            return Choice("eager", "recurrent_dropout in training runs one step after another")
        return self._chosen

    @property
    def can_scan(self) -> bool:
        """Whether all steps can run in parallel, as the options are now; on a CPU the compiled core is quicker."""
        return self._places[0].plan is not None and not (self.recurrent_dropout and self.training)

    def _not_native_for_now(self) -> str | None:
        """Why the compiled core is not used as the options are, though it can run the cell."""
        if self.zoneout:
            return "zoneout does not run in the compiled core"
        if self.recurrent_dropout and self.training:
            return "recurrent_dropout in training runs one step after another"
        return None

    def _register(self, place: "_Place", factory: dict[str, Any]) -> None:
        """Make the parameters and constants of one layer and direction, still empty."""
        self._places.append(place)
        if isinstance(self.cell, Cell):
            place.use = self.cell.use(place.hidden_size)
            for name, shape in self._shapes(place).items():
                self._register_empty(name + place.suffix, shape, factory)
                place.names.append(name)
            like = self.get_parameter("weight_ih" + place.suffix)
            for name, value in constants(self.cell, place.hidden_size).items():
                dtype = like.dtype if value.is_floating_point() else value.dtype
                self.register_buffer(name + place.suffix, like.new_empty(value.shape, dtype=dtype), persistent=False)
                place.names.append(name)
        if self.learn_initial_state:
            for f, width in zip(self.form.fields, place.widths, strict=True):
                if self._is_learnt(f):
                    self._register_empty(f"initial_{f.name}{place.suffix}", (width,), factory, self.form.begins(f))

    def _shapes(self, place: "_Place") -> dict[str, tuple[int, ...]]:
        """Name and shape of the cell's parameters in one layer and direction."""
        assert isinstance(self.cell, Cell)
        return self.cell.shapes(place.input_size, place.hidden_size)

    def _is_learnt(self, field: StateField) -> bool:
        """Whether the field's first value can be a parameter: a clock's and an infinite one stay what they are."""
        return not field.is_bookkeeping and math.isfinite(self.form.begins(field))

    def _register_skip(self, k: int, below: int, width: int, factory: dict[str, Any]) -> None:
        if self.skip == "highway":
            self._register_empty(f"weight_skip_l{k}", (width, below), factory, "xavier")
            near_the_identity = -1.0  # Srivastava et al. 2015
            self._register_empty(f"bias_skip_l{k}", (width,), factory, near_the_identity)
        if below != width:
            self._register_empty(f"weight_project_l{k}", (width, below), factory, "xavier")

    def _register_path(self, letter: str, width: int, layers: Sequence[int], factory: dict[str, Any]) -> int:
        """Make the feed-forward layers before ("x") or after ("y") the recurrent ones; returns the last width."""
        for k, size in enumerate(layers):
            self._register_empty(f"weight_{letter}{k}", (size, width), factory, "xavier")
            if letter == "x" or k < len(layers) - 1:
                self._register_empty(f"bias_{letter}{k}", (size,), factory, 0.0)
            width = size
        return width

    def _register_empty(
        self, name: str, shape: tuple[int, ...], factory: dict[str, Any], start: Start | None = None
    ) -> None:
        """Make a parameter, and note how it begins if that is not the cell's to say."""
        self.register_parameter(name, nn.Parameter(torch.empty(shape, **factory)))
        if start is not None:
            self._starts[name] = start

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew: parameters are drawn, constants set. Parameters of a plain function are left alone."""
        for place in self._places:
            if isinstance(self.cell, Cell):
                weights = self._weights(place)
                for name, value in constants(self.cell, place.hidden_size).items():
                    weights[name].copy_(value)
                initialise(self.cell, weights, self.init)
        for name, start in self._starts.items():
            fill(self.get_parameter(name), start)

    def _weights(self, place: "_Place") -> dict[str, Tensor]:
        return {name: getattr(self, name + place.suffix) for name in place.names}

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Views of the parameters, or of what belongs to them, by symbol of the equations, over layers and directions.

        Args:
            tensors: Named as the parameters and of their shapes: these themselves, their gradients.

        Returns:
            A list for each symbol: "W_f", "U_f", "b_f" of one gate, "W", "U", "b" of all, vectors and matrices by name.
            Nothing for a plain function, whose weights are its own.
        """
        found: dict[str, list[Tensor]] = {}
        if isinstance(self.cell, Cell):
            for place in self._places:
                own = {name: tensors[name + place.suffix] for name in self._shapes(place)}
                for symbol, views in by_symbol(self.cell, own).items():
                    found.setdefault(symbol, []).extend(views)
        return found

    def extra_repr(self) -> str:
        """What `print(layer)` shows."""
        parts = [repr(self.cell) if isinstance(self.cell, Cell) else self.form.name]
        parts += [str(self.input_size), str(self.hidden_size)]
        parts += [f"num_layers={self.num_layers}"] if self.num_layers > 1 else []
        for key in ("bidirectional", "reverse", "batch_first", *SHARES, *OPTIONS):
            if getattr(self, key):
                parts.append(f"{key}={getattr(self, key)!r}")
        return ", ".join(parts)

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        return_states: bool = False,
    ) -> tuple[Any, ...]:
        """Run the layers over sequences.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or one sequence, (T, I); or a `PackedSequence`, which brings its
                lengths: then the output is packed in the same way, while states are those of the rows in the order
                that they had before they were packed.
            state: The state to begin with, as a previous call returned it: a named or plain tuple of the cell's
                fields, each (layers * directions, B, width); one tensor where the cell has one field.
            lengths: (B,) steps of each sequence, in any order, 0 allowed. What follows is padding: nothing that
                stands there, in `x`, `mask` or `reset`, matters.
            mask: (T, B) or (B, T) as `x`, True where valid. A masked step holds the state and puts out zeros.
            reset: Likewise; True where the state is set to the initial state before that step, be it masked or not.
                The backward direction sets it where it crosses from step t to t - 1.
            return_states: Also return every field at every step of every layer.

        Returns:
            The output: the last layer's first state field at every step, directions side by side, (T, B, width) or
            as `x` is laid out; the final state, a named tuple of the cell's fields, each (layers * directions, B,
            width), or a list of them where layers have different widths; with `return_states`, a named tuple of all
            states, each (layers * directions, T, B, width) with T and B as in `x`, or a list.

        Raises:
            ValueError: Sizes or types that do not fit, naming the argument, what was found and what is expected.
        """
        if isinstance(x, PackedSequence):
            return self._forward_packed(x, state, lengths, mask, reset, return_states)
        layout = self._checked_layout(x)
        x = layout.inward(x)
        T, B = x.shape[:2]
        mask, reset = layout.flags("mask", mask, x), layout.flags("reset", reset, x)
        if lengths is not None:
            within = within_lengths(lengths, T, B, x.device)
            mask = within if mask is None else mask & within
            reset = None if reset is None else reset & within
        initial = self._initial(x, B)
        begun = initial if state is None else self._given(state, x, layout)

        if mask is not None and self.input_layers:
            x = where_taken(mask, x)
        x = self._along_path("x", x, self.input_layers)
        fields = len(self.form.fields) if return_states else 1
        runs: list[tuple[State, State, bool]] = []
        how: Any = {"mask": mask, "reset": reset, "tidy": mask is not None and not return_states}
        for k in range(self.num_layers):
            inputs = self._variational(x)
            clean = k > 0 or bool(self.input_layers)
            for i in range(k * self._directions, (k + 1) * self._directions):
                runs.append(self._run(self._places[i], inputs, begun[i], initial[i], fields, clean=clean, **how))
            outputs = [states[0] for states, *_ in runs[-self._directions :]]
            out = self._skipped(k, x, torch.cat(outputs, -1) if self.bidirectional else outputs[0])
            if mask is not None and not all(is_tidy for *_, is_tidy in runs[-self._directions :]):
                out = where_taken(mask, out)
            x = F.dropout(out, self.dropout, self.training and k < self.num_layers - 1)

        y = self._along_path("y", x, self.output_layers)
        if mask is not None and len(self.output_layers) > 1:  # whose biases would not leave a masked step at zero
            y = where_taken(mask, y)
        output = layout.outward(y)
        last = self._gathered([[layout.row(field) for field in final] for _, final, _ in runs])
        if not return_states:
            return output, last
        return output, last, self._gathered([[layout.outward(field) for field in states] for states, *_ in runs])

    def _forward_packed(self, x: PackedSequence, state: Any, *others: Any) -> tuple[Any, ...]:
        """`forward` for packed sequences."""
        lengths, mask, reset, return_states = others
        given = [name for name, v in (("lengths", lengths), ("mask", mask), ("reset", reset)) if v is not None]
        if given:
            raise ValueError(f"{given[0]}: None is expected beside a PackedSequence, which has its own lengths")
        padded, own = pad_packed_sequence(x, self.batch_first)
        output, *rest = self(padded, state, lengths=own, return_states=return_states)
        order = own if x.sorted_indices is None else own[x.sorted_indices.cpu()]
        rows = (
            output if x.sorted_indices is None else output.index_select(0 if self.batch_first else 1, x.sorted_indices)
        )
        packed = pack_padded_sequence(rows, order, self.batch_first)
        return PackedSequence(packed.data, packed.batch_sizes, x.sorted_indices, x.unsorted_indices), *rest

    def _run(
        self,
        place: "_Place",
        x: Tensor,
        state: State,
        initial: State,
        fields: int,
        *,
        clean: bool,
        tidy: bool,
        **flags: Tensor | None,
    ) -> tuple[State, State, bool]:
        """Run one layer and direction: the first so many fields at every step, (T, B, width) each; the last; whether
        there are zeros at masked steps, as `tidy` asks for. `clean`: x is known to be finite there."""
        how: Any = {**flags, "reverse": place.reverse}
        if place.fused is not None and x.numel() and self._not_native_for_now() is None:
            weights = self._weights(place)
            if why_not(x, *weights.values(), *state, *initial) is None:
                if self.weight_drop and self.training:
                    weights["weight_hh"] = F.dropout(weights["weight_hh"], self.weight_drop)
                how |= {"recompute": self.memory == "recompute", "clean": clean, "tidy": tidy}
                return *place.fused.run(weights, x, state, initial, fields=fields, **how), tidy
        how |= {"zoneout": self.zoneout, "training": self.training}
        if place.plan is not None and self.can_scan:
            states, final = scan.run(place.plan, self._weights(place), x, state, initial, **how)
            return states[:fields], final, False
        spared = [f.is_bookkeeping for f in self.form.fields]
        again = self.memory == "recompute" and torch.is_grad_enabled() and eager.is_readable(x)
        run = eager.run_again if again else eager.run  # a compiler and a transform have their own ways with memory
        along, final = run(self._stepper(place, x), x, state, initial, spared=spared, **how)
        return _along_time(along, final, fields), final, False

    def _along_path(self, letter: str, v: Tensor, layers: Sequence[int]) -> Tensor:
        """Through the feed-forward layers before ("x") or after ("y") the recurrent ones."""
        for k in range(len(layers)):
            bias = getattr(self, f"bias_{letter}{k}", None)
            v = F.linear(v, getattr(self, f"weight_{letter}{k}"), bias)
            v = v if bias is None else self.path_activation(v)
        return v

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step of every layer: `x_t`, (B, I) or (I,), and the state so far give the output and the new state.

        Run over a sequence, it gives what `forward` gives (dropout aside, whose factors are drawn anew at each call).

        Raises:
            ValueError: The layer is bidirectional, or sizes do not fit.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional layer reads the future, so it cannot take one step at a time")
        if self.reverse:
            raise ValueError("a layer with reverse=True begins with the last step, so it cannot take one at a time")
        if not isinstance(x_t, Tensor):
            raise ValueError(f"x_t: a tensor is expected, not {type(x_t).__name__}")
        own = len(self._axes)
        if x_t.dim() not in (own, own + 1):
            one = f"({', '.join(self._axes)}{',' if own == 1 else ''})"
            raise ValueError(f"x_t: (B, {', '.join(self._axes)}) or {one} is expected, not {tuple(x_t.shape)}")
        time = 1 if self.batch_first and x_t.dim() == own + 1 else 0
        output, state = self(x_t.unsqueeze(time), state)
        return output.squeeze(time), state

    def _checked_layout(self, x: Tensor) -> "Layout":
        if not isinstance(x, Tensor):
            raise ValueError(f"x: a tensor is expected, not {type(x).__name__}")
        if x.is_nested or x.layout != torch.strided:
            raise ValueError("x: a dense tensor is expected; sequences of several lengths are padded or packed")
        self._check_axes(x)
        if isinstance(self.cell, Cell):
            weight = self._weights(self._places[0])["weight_ih"]
            if x.device != weight.device:
                raise ValueError(f"x: it lies on {x.device}, but the parameters on {weight.device}")
            if x.dtype != weight.dtype and not is_autocast(x.device.type):
                raise ValueError(f"x: {weight.dtype} is expected, as the parameters are, not {x.dtype}")
        return self._layout(x)

    def _check_axes(self, x: Tensor) -> None:
        if x.dim() not in (2, 3):
            raise ValueError(f"x: (T, B, I), (B, T, I) or (T, I) is expected, not {tuple(x.shape)}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"x: input_size is {self.input_size}, but {tuple(x.shape)} ends with {x.shape[-1]}")

    def _layout(self, x: Tensor) -> Layout:
        return Layout(single=x.dim() == 2, rows_first=self.batch_first)

    def _stepper(self, place: "_Place", x: Tensor) -> eager.Stepper:
        if not isinstance(self.cell, Cell):
            return eager.FunctionStepper(self.cell, self.form)
        assert place.use is not None
        weights = self._weights(place)
        drop = None
        if self.weight_drop and self.training:
            weights["weight_hh"] = F.dropout(weights["weight_hh"], self.weight_drop)
        if self.recurrent_dropout and self.training:
            drop = F.dropout(x.new_ones(*x.shape[1:-1], place.use.operand), self.recurrent_dropout)
        return self._steps(self.cell, place.use, weights, drop)

    def _variational(self, x: Tensor) -> Tensor:
        """The input of a layer, the same units dropped at every step."""
        if not (self.input_dropout and self.training):
            return x
        return x * F.dropout(x.new_ones(x.shape[1:]), self.input_dropout)

    def _skipped(self, k: int, below: Tensor, out: Tensor) -> Tensor:
        if k == 0 or self.skip is None:
            return out
        projection = getattr(self, f"weight_project_l{k}", None)
        across = below if projection is None else F.linear(below, projection)
        if self.skip == "residual":
            return across + out
        W, b = getattr(self, f"weight_skip_l{k}"), getattr(self, f"bias_skip_l{k}")
        gate = torch.sigmoid(F.linear(below, W, b))
        return gate * out + (1 - gate) * across

    def _initial(self, x: Tensor, B: int) -> list[State]:
        """The state of each layer and direction before the first step."""
        states = []
        for place in self._places:
            fixed = self._fixed(place, x, B)
            names = [f"initial_{f.name}{place.suffix}" for f in self.form.fields]
            learnt = (getattr(self, name) if name in self._starts else None for name in names)
            states.append(
                tuple(v if own is None else own.expand(v.shape) for v, own in zip(fixed, learnt, strict=True))
            )
        return states

    def _fixed(self, place: "_Place", x: Tensor, B: int) -> State:
        """What the cell's state begins with, where it is not learnt."""
        return self.form.initial_state(B, place.hidden_size, x)

    def _given(self, state: Any, x: Tensor, layout: Layout) -> list[State]:
        """The state that a caller gives, for each layer and direction."""
        names, places, B = self.state_type._fields, len(self._places), x.shape[1]
        fields = (state,) if isinstance(state, Tensor) else state
        if not isinstance(fields, (tuple, list)):
            raise ValueError(f"state: a tuple of {', '.join(names)} is expected, not {type(state).__name__}")
        if len(fields) != len(names):
            raise ValueError(f"state: {len(names)} field(s) are expected ({', '.join(names)}), not {len(fields)}")
        columns = []
        for i, (name, values) in enumerate(zip(names, fields, strict=True)):
            if not isinstance(values, (Tensor, tuple, list)):
                raise ValueError(f"state.{name}: a tensor or list is expected, not {type(values).__name__}")
            rows = list(torch.atleast_1d(values) if isinstance(values, Tensor) else values)
            if len(rows) != places:
                raise ValueError(f"state.{name}: {places} layers * directions are expected, not {len(rows)}")
            for k, place in enumerate(self._places):
                expected = layout.shape(B, place.widths[i])
                found = tuple(rows[k].shape) if isinstance(rows[k], Tensor) else type(rows[k]).__name__
                if found != expected:
                    raise ValueError(f"state.{name}[{k}]: a tensor {expected} is expected, not {found}")
            columns.append([layout.given(row).to(x.dtype) for row in rows])
        return list(zip(*columns, strict=True))

    def _gathered(self, rows: list[list[Tensor]]) -> Any:
        """From a list of fields for each layer and direction to the named tuple, stacked where the widths allow it."""
        fields = [list(field) for field in zip(*rows, strict=True)]
        alike = [all(v.shape == f[0].shape for v in f) for f in fields]
        return self.state_type(*(torch.stack(f) if same else f for f, same in zip(fields, alike, strict=True)))


@dataclass(frozen=True)
class Choice:
    """How a layer is run, and why, in words.

    Attributes:
        backend: "native", in the compiled core; "scan", all steps in parallel; "eager", one after another in tensor
            code.
        reason: Why.
    """

    backend: Literal["eager", "scan", "native"]
    reason: str


@dataclass
class _Place:
    """One layer and direction."""

    suffix: str
    reverse: bool
    input_size: int
    hidden_size: int
    widths: tuple[int, ...]
    use: Use | None = None
    plan: scan.Plan | None = None
    fused: Fused | None = None
    names: list[str] = field(default_factory=list)


def _along_time(states: list[State], final: State, fields: int) -> State:
    """The first so many fields at every step, each (T, B, width)."""
    if not states:
        return tuple(field.new_zeros(0, *field.shape) for field in final[:fields])
    return tuple(torch.stack([state[i] for state in states]) for i in range(fields))


def _form_of(cell: Any) -> Stateful:
    """The name and state of a cell, or of a plain function."""
    if isinstance(cell, Cell):
        return cell
    if isinstance(cell, type) or not callable(cell):
        raise ValueError(f"cell: a cell, its name or a function f(x_t, state) is expected, not {cell!r}")
    if isinstance(cell, (nn.RNNBase, Recurrent)):
        kind = type(cell).__name__
        raise ValueError(f"cell: what takes one step is expected, such as 'lstm'; {kind} runs whole sequences itself")
    declared = getattr(cell, "state", None)
    state = declared if isinstance(declared, str) else "h c" if isinstance(cell, nn.LSTMCell) else "h"
    name = getattr(cell, "__name__", type(cell).__name__).strip("<>")
    return Stateful(name=name, fields=state_fields(state))
