"""What a recurrent layer inside a model is given when the model runs: watched from outside, for any model of PyTorch's.

Hooks keep the layer's inputs and states. The layer's twin, a `Recurrent` of double precision with the same weights, is
then run over them. For a loss, the hooks hand the model the same outputs as new leaves, so that autograd gives what
the loss asks of each output by itself, whatever the model does with them.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence
from torch.utils._pytree import tree_map

from recurra.analysis.result import AnalysisError
from recurra.analysis.system import Direction, Given, System, check_derivatives_are_taken, unrolled
from recurra.cells.form import Cell
from recurra.errors import unknown
from recurra.nn import ConvRecurrent, Recurrent
from recurra.nn.arguments import Layout, within_lengths
from recurra.nn.weights import from_torch


class How(TypedDict, total=False):
    """Further arguments of every analysis, as `record` has them."""

    options: Mapping[str, Any] | None
    layer: str | nn.Module | None
    lengths: Any
    loss: Callable[[Any], Tensor] | None


@dataclass(frozen=True, eq=False)
class Recording:
    """A recurrent layer along the batch that its model was run on.

    Attributes:
        name: The layer's name in the model.
        layer: The layer's twin: a `Recurrent` with the same weights, without gradients, in evaluation mode.
        given: What it was called with.
        systems: Each layer and direction, in the order of the layers, the forward direction first.
    """

    name: str
    layer: Recurrent
    given: Given
    systems: list[System]

    def system(self, depth: int = -1, direction: Direction | None = None) -> System:
        """One layer and direction.

        Args:
            depth: Which layer of a stack, from 0, or from -1 backwards.
            direction: Which direction; the forward one where the layer has both and nothing is said.

        Raises:
            AnalysisError: There is no such layer or direction.
        """
        layers = self.layer.num_layers
        if not isinstance(depth, int) or not -layers <= depth < layers:
            raise AnalysisError(
                f"depth: {self.name} has {layers} layer{'s' * (layers > 1)}, so a whole number from {-layers} to "
                f"{layers - 1} is expected, not {depth!r}"
            )
        found = [s for s in self.systems if s.depth == depth % layers]
        there = {s.direction: s for s in found}
        if direction is None:
            return found[0]
        if direction not in ("forward", "backward"):
            raise AnalysisError(unknown("direction", str(direction), ("forward", "backward")))
        if direction not in there:
            raise AnalysisError(f"direction: {self.name} runs {found[0].direction} only, not {direction}")
        return there[direction]


def record(
    model: nn.Module,
    x: Any,
    *,
    options: Mapping[str, Any] | None = None,
    layer: str | nn.Module | None = None,
    lengths: Any = None,
    loss: Callable[[Any], Tensor] | None = None,
) -> Recording:
    """Run a model on a batch, and keep what a recurrent layer of it was given.

    The model is run once, in evaluation mode; it and its gradients are left as they were. The layer is a `Recurrent`, a
    drop-in, a `torch.nn.RNN`, `LSTM` or `GRU`, or one of their cells that the model calls at each step. It may take
    padded, packed or single sequences, and be called again and again as long as each call goes on with the state that
    the last one returned.

    Args:
        model: A module that is, or somewhere has, a recurrent layer.
        x: What the model is called with: a tensor, a `PackedSequence`, or a tuple of arguments.
        options: Named arguments that it is called with besides, such as `{"lengths": [3, 5]}`.
        layer: The layer's name, as `model.named_modules()` has it, or the layer itself; the first one when left out.
        lengths: (B,) steps of each sequence that are to be examined, where the layer itself is not told which steps are
            padding.
        loss: From what the model returns to a scalar. The gradients that are examined are then those of this loss;
            else, random ones.

    Returns:
        The layer along that batch, which every analysis takes in the place of a model.

    Raises:
        AnalysisError: The model has no such layer, does not call it, or calls it in a way that is no recurrence; or the
            loss is no scalar, or does not depend on what the layer puts out; or a number that goes in or comes out is
            not finite.

    Example:
        >>> recording = record(nn.LSTM(3, 4, bidirectional=True), torch.zeros(7, 2, 3))
        >>> [system.name for system in recording.systems]
        ['LSTM, forward', 'LSTM, backward']
    """
    if not isinstance(model, nn.Module):
        raise AnalysisError(f"model: a torch.nn.Module is expected, not {type(model).__name__}")
    if options is not None and not (isinstance(options, Mapping) and all(isinstance(key, str) for key in options)):
        raise AnalysisError(f"options: a table of arguments by their names is expected, not {options!r}")
    if loss is not None and not callable(loss):
        raise AnalysisError(
            f"loss: a function from what the model returns to a scalar is expected, not {type(loss).__name__}"
        )
    check_derivatives_are_taken()
    model = getattr(model, "_orig_mod", model)  # of torch.compile, whose whole graph a hook breaks
    name, module = _chosen(model, layer)
    called = name or type(module).__name__
    if isinstance(module, ConvRecurrent):
        raise AnalysisError(
            f"{called}: its products are convolutions and its state a picture; the instruments take states that are "
            "rows of numbers, as those of Recurrent"
        )
    for parameter, values in module.named_parameters():
        if (found := _not_finite(values)) is not None:
            raise AnalysisError(f"{called}: its {parameter} holds {found}, where finite numbers are expected")
    watch = _Watch(module, called, cut=loss is not None)
    with _as_in_use(model), watch.watching(), torch.set_grad_enabled(loss is not None):
        # A PackedSequence is a tuple too, and one argument.
        arguments = x if type(x) is tuple else (x,)
        returned = model(*arguments, **(options or {}))
        if not watch.calls:
            others = [n for n in recurrent_layers(model) if n != name]
            hint = f"; layer= names another one: {', '.join(others)}" if others else ""
            raise AnalysisError(f"{called}: the model does not call this layer when it is run{hint}")
        if loss is not None:
            watch.differentiate(loss(returned))
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # a layer draws its first weights
        twin = _twin(module)
    given = watch.given(twin, lengths)
    _check_finite(f"{called}: its input", given.x, given.mask & given.counted)
    systems = unrolled(twin, given, called)
    for system in systems:
        _check_finite(f"{system.name}: its state", system.joined(system.new), system.taken, system.places)
        if system.gradient is not None:
            _check_finite(
                f"loss: its gradient by the state of {system.name}", system.gradient, system.taken, system.places
            )
    return Recording(called, twin, given, systems)


def recurrent_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The recurrent layers of a model by name; "" is the model itself."""
    found: dict[str, nn.Module] = {}
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if isinstance(module, (Recurrent, nn.RNNBase, nn.RNNCellBase)) and module not in inside:
            found[name] = module
            inside |= set(module.modules())  # a `Recurrent` may run a module as its cell
    return found


def _chosen(model: nn.Module, layer: str | nn.Module | None) -> tuple[str, nn.Module]:
    found = recurrent_layers(model)
    if not found:
        raise AnalysisError(
            f"{type(model).__name__}: a recurrent layer is expected in it (recurra.Recurrent or a drop-in, "
            "torch.nn.RNN, LSTM, GRU or one of their cells), and there is none; a step of your own, f(x_t, state), "
            "becomes one by recurra.Recurrent(f, input_size, hidden_size)"
        )
    if layer is None:
        return next(iter(found.items()))
    if isinstance(layer, nn.Module):
        own = getattr(layer, "_orig_mod", layer)
        for name, module in found.items():
            if module is own:
                return name, module
        known = ", ".join(repr(name) for name in found)
        raise AnalysisError(f"layer: this {type(own).__name__} is no recurrent layer of the model, which has {known}")
    if not isinstance(layer, str):
        raise AnalysisError(f"layer: the name of a layer, or the layer itself, is expected, not {layer!r}")
    if layer not in found:
        raise AnalysisError("layer: " + unknown("recurrent layer", layer, found))
    return layer, found[layer]


def _not_finite(values: Tensor) -> float | None:
    """The first number that is not finite."""
    wrong = values.detach()[~values.isfinite()]
    return float(wrong[0]) if len(wrong) else None


def _check_finite(what: str, values: Tensor, there: Tensor, places: Tensor | None = None) -> None:
    """Raise AnalysisError where one of the numbers (T, B, width) is not finite at a step that is there.

    Args:
        what: What they are, in words.
        values: The numbers.
        there: (T, B), True where they count.
        places: (T, B, 2) the step and sequence that each is of, where that is not its own place.
    """
    wrong = (~values.isfinite().all(-1) & there).nonzero()
    if len(wrong):
        t, b = wrong[0].tolist()
        step, sequence = (t, b) if places is None else places[t, b].tolist()
        raise AnalysisError(
            f"{what} is {_not_finite(values[t, b])} at step {step} of sequence {sequence} (both from 0), where finite "
            "numbers are expected"
        )


@contextmanager
def _as_in_use(model: nn.Module) -> Iterator[None]:
    """The model in evaluation mode, cuDNN aside, which has no derivative then; each of its modules set back after."""
    before = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.backends.cudnn.flags(enabled=False):
            yield
    finally:
        for module, training in before.items():
            module.training = training


def _twin(module: nn.Module) -> Recurrent:
    """The layer once more, as a `Recurrent` of double precision: where its cell is a function of which PyTorch knows no
    parameters, of the precision that it has."""
    if isinstance(module, Recurrent):
        twin = copy.deepcopy(module)
        twin._forward_hooks.clear()
        twin._forward_pre_hooks.clear()
    elif isinstance(module, nn.RNNBase):
        weights = {name: getattr(module, name) for name in module._flat_weights_names}
        twin = from_torch(weights, nonlinearity=getattr(module, "nonlinearity", "tanh"))
    else:
        assert isinstance(module, nn.RNNCellBase)
        names = [name for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh") if getattr(module, name) is not None]
        weights = {f"{name}_l0": getattr(module, name) for name in names}
        twin = from_torch(weights, nonlinearity=getattr(module, "nonlinearity", "tanh"))
    twin.batch_first = False
    twin.eval().requires_grad_(False)
    return twin.double() if isinstance(twin.cell, (Cell, nn.Module)) else twin


# --- watching --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Call:
    """One call of a layer.

    Attributes:
        x: (T, B, I).
        state: The state given, each field (places, B, width), or None.
        mask: (T, B), True where a step is taken.
        reset: (T, B), True where the state is reset before the step.
        output: What the model got as the output, in the layer's own layout; None of a cell, which puts out its state.
        final: What it got as the last state, likewise.
        laid_out: From a tensor laid out like the output to (T, B, width).
        fields: From a state laid out like the last one to fields, each (places, B, width).
    """

    x: Tensor
    state: Any
    mask: Tensor
    reset: Tensor
    output: Tensor | PackedSequence | None
    final: Any
    laid_out: Callable[[Any], Tensor]
    fields: Callable[[Any], tuple[Any, ...]]


class _Watch:
    """Keeps the calls of a layer.

    Args:
        module: The layer.
        name: What it is called.
        cut: Whether the model gets the outputs as new leaves, whose gradients are wanted.
    """

    def __init__(self, module: nn.Module, name: str, cut: bool) -> None:
        self.module, self.name, self.cut = module, name, cut
        self.calls: list[_Call] = []
        self.of_output: Tensor | None = None
        self.of_states: list[tuple[int, Any]] = []

    @contextmanager
    def watching(self) -> Iterator[None]:
        """A hook on the layer for as long as the block runs."""
        handle = self.module.register_forward_hook(self._see, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _see(self, module: nn.Module, args: Any, kwargs: Any, returned: Any) -> Any:
        """Keep one call; returns what the model is to get of it."""
        if self.cut:
            if isinstance(module, Recurrent) and len(returned) > 2:
                raise AnalysisError(
                    f"{self.name}: the model runs it with return_states=True, so a loss may depend on it in ways that "
                    "are not followed here; leave out loss="
                )
            returned = tree_map(_leaf, returned, is_leaf=lambda v: isinstance(v, PackedSequence))
        given = inspect.signature(type(module).forward).bind(module, *args, **kwargs).arguments
        call = _kept(module, given, returned)
        if self.calls:
            self._check_goes_on(call)
        self.calls.append(call)
        return returned

    def _check_goes_on(self, call: _Call) -> None:
        """Raise AnalysisError where a call is no continuation of the one before."""
        before, number = self.calls[-1], len(self.calls) + 1
        if getattr(self.module, "bidirectional", False) or getattr(self.module, "reverse", False):
            raise AnalysisError(f"{self.name}: the model calls it {number} times, which only a forward layer may be")
        same = call.state is not None and call.x.shape[1:] == before.x.shape[1:]
        if same:
            pairs = zip(_tensors(call.state), _tensors(before.fields(before.final)), strict=True)
            same = all(torch.equal(given, returned) for given, returned in pairs)
        if not same:
            raise AnalysisError(
                f"{self.name}: call {number} of it does not go on with the state that call {number - 1} returned, so "
                "they are no one recurrence; examine the layer by itself, with what it is called with"
            )

    def differentiate(self, loss: Any) -> None:
        """Find what a loss asks of each output and state.

        Raises:
            AnalysisError: It is no scalar, or depends on none.
        """
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            found = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise AnalysisError(f"loss: a function that returns a scalar is expected, but it returned {found}")
        if not loss.isfinite().all():
            raise AnalysisError(f"loss: it is {loss.item()}, where a finite number is expected")
        leaves = [v for call in self.calls for v in _tensors((call.output, call.final))]
        found = torch.autograd.grad(loss, leaves, allow_unused=True) if loss.requires_grad else [None] * len(leaves)
        if not any(g is not None and g.any() for g in found):
            raise AnalysisError(f"loss: it does not depend on what {self.name} puts out")
        gradients = {v: torch.zeros_like(v) if g is None else g for v, g in zip(leaves, found, strict=True)}
        outputs, count = [], 0
        for call in self.calls:
            count += len(call.x)
            of_state = call.fields(tree_map(gradients.__getitem__, call.final))
            self.of_states.append((count, of_state))
            if isinstance(call.output, PackedSequence):
                outputs.append(call.laid_out(call.output._replace(data=gradients[call.output.data])))
            elif call.output is not None:
                outputs.append(call.laid_out(gradients[call.output]))
            else:
                outputs.append(torch.zeros_like(of_state[0]))
        self.of_output = torch.cat(outputs)

    def given(self, twin: Recurrent, lengths: Any) -> Given:
        """All calls as one, of the twin's type.

        Raises:
            AnalysisError: The lengths do not fit.
        """
        x = torch.cat([call.x for call in self.calls])
        T, B = x.shape[:2]
        dtype = next((p.dtype for p in twin.parameters()), x.dtype)
        counted = torch.ones(T, B, dtype=torch.bool, device=x.device)
        if lengths is not None:
            try:
                counted = within_lengths(lengths, T, B, x.device)
            except ValueError as error:
                raise AnalysisError(str(error)) from error
        return Given(
            x=x.to(dtype),
            state=self.calls[0].state,
            mask=torch.cat([call.mask for call in self.calls]),
            reset=torch.cat([call.reset for call in self.calls]),
            counted=counted,
            of_output=None if self.of_output is None else self.of_output.to(dtype),
            of_states=self.of_states,
        )


def _leaf(value: Any) -> Any:
    """A tensor of numbers as a leaf that asks for its gradient."""
    if isinstance(value, PackedSequence):
        return value._replace(data=_leaf(value.data))
    return value.detach().requires_grad_() if isinstance(value, Tensor) else value


def _tensors(value: Any) -> list[Tensor]:
    """The tensors of numbers in a state or an output."""
    if value is None:
        return []
    if isinstance(value, PackedSequence):
        return [value.data]
    return [value] if isinstance(value, Tensor) else [v for each in value for v in _tensors(each)]


def _kept(module: nn.Module, given: Mapping[str, Any], returned: Any) -> _Call:
    """A call, time first, from the layer's arguments and from what it returned."""
    is_cell = isinstance(module, nn.RNNCellBase)
    x, state = (given.get(name) for name in (("x", "state") if isinstance(module, Recurrent) else ("input", "hx")))
    output, final = (None, returned) if is_cell else returned[:2]
    lengths, laid_out = given.get("lengths"), None
    if isinstance(x, PackedSequence):
        layout = Layout(single=False, rows_first=False)
        x, lengths = pad_packed_sequence(x)
        laid_out = _padded
    else:
        assert isinstance(x, Tensor)
        layout = Layout(single=x.dim() == (1 if is_cell else 2), rows_first=getattr(module, "batch_first", False))
        x = layout.inward(x.unsqueeze(0) if is_cell else x)
    T, B = x.shape[:2]
    mask, reset = (layout.flags(name, given.get(name), x) for name in ("mask", "reset"))
    mask = torch.ones(T, B, dtype=torch.bool, device=x.device) if mask is None else mask
    within = torch.ones_like(mask) if lengths is None else within_lengths(lengths, T, B, x.device)

    def fields(state: Any) -> tuple[Any, ...]:
        found = (state,) if isinstance(state, Tensor) else tuple(state)
        found = tuple(f.unsqueeze(0) for f in found) if is_cell else found
        if not layout.single:
            return found
        return tuple(f.unsqueeze(1) if isinstance(f, Tensor) else [v.unsqueeze(0) for v in f] for f in found)

    return _Call(
        x=x.detach().clone(),
        state=None if state is None else tree_map(torch.clone, tree_map(torch.detach, fields(state))),
        mask=mask & within,
        reset=torch.zeros_like(mask) if reset is None else reset & within,
        output=output,
        final=final,
        laid_out=laid_out or layout.inward,
        fields=fields,
    )


def _padded(packed: PackedSequence) -> Tensor:
    return pad_packed_sequence(packed)[0]


def chosen(
    model: nn.Module | Recording | System,
    x: Any,
    depth: int,
    direction: Direction | None,
    how: How,
    analysis: Callable[..., Any],
) -> System:
    """The layer and direction that an analysis is asked for.

    Raises:
        AnalysisError: See `recorded`.
    """
    if isinstance(model, System):
        _check_arguments(x, how, analysis, is_run=True)
        return model
    return recorded(model, x, how, analysis).system(depth, direction)


def recorded(model: nn.Module | Recording, x: Any, how: How, analysis: Callable[..., Any]) -> Recording:
    """A recording, made where there is none yet.

    Args:
        model: What the analysis was given.
        x: Likewise.
        how: Its further arguments.
        analysis: The analysis.

    Raises:
        AnalysisError: See `record`; or there is nothing to run a module on, or no such argument.
    """
    _check_arguments(x, how, analysis, is_run=isinstance(model, Recording))
    if isinstance(model, Recording):
        return model
    if x is None:
        raise AnalysisError("x: what the model is called with is missing")
    return record(model, x, **how)


def _check_arguments(x: Any, how: How, analysis: Callable[..., Any], is_run: bool) -> None:
    """Raise AnalysisError where an argument is none of the analysis, or comes after the model was run."""
    for name in how:
        if name not in How.__annotations__:
            own = [p.name for p in inspect.signature(analysis).parameters.values() if p.kind is p.KEYWORD_ONLY]
            known = unknown("argument", name, [*own, *How.__annotations__])
            raise AnalysisError(f"{analysis.__name__}: {known}")
    if is_run and (x is not None or how):
        given = "x" if x is not None else next(iter(how))
        raise AnalysisError(f"{given}: the model was run already; it is an argument of record")
