"""A layer along a batch, as a dynamical system: s_t = f(x_t, s_(t-1)) with known inputs and known states.

A recurrent layer of a trained model reads padded sequences, masked and reset steps, in one direction or two, in several
layers. What is examined is simpler: each layer and direction by itself, with the inputs that it was really given, and
of every sequence the steps that were really taken, one after another. `unrolled` makes the second from the first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from recurra.analysis.result import AnalysisError
from recurra.cells.form import Cell, Stateful
from recurra.engine.eager import State, Stepper
from recurra.nn import Recurrent

Direction = Literal["forward", "backward"]

ROWS_AT_ONCE = 4096
"""Steps whose derivatives are taken together: enough to fill a processor, few enough for its memory."""


def check_derivatives_are_taken() -> None:
    """Raise AnalysisError inside of torch.inference_mode, in which no gradient can be asked for."""
    if torch.is_inference_mode_enabled():
        raise AnalysisError(
            "torch.inference_mode: no derivative can be taken inside of it; torch.no_grad in its place does no harm"
        )


@dataclass(frozen=True, eq=False)
class System:
    """One layer and direction along one batch.

    Its rows are stretches of steps without a gap: a sequence's own steps in the order in which they are taken (so the
    last one first, where it runs backward), cut where the state is reset. Padding and masked steps are in none.

    Attributes:
        name: Which layer and direction, in words.
        depth: Which layer of its stack, from 0.
        direction: Its direction.
        form: The name and fields of the state; a `Cell`, or that of a plain function.
        hidden_size: Width H.
        advance: Takes one step: (x, (N, I); old state, each field (N, width)) -> new state.
        x: (T, B, I) inputs.
        old: The state before each step, each field (T, B, width).
        new: The state after each step.
        lengths: (B,) steps of each row; what stands behind them in `x`, `old` and `new` means nothing.
        places: (T, B, 2) the step and sequence of the batch that each step was.
        gradient: (T, B, S) what of the loss's gradient enters the state at each step, not by way of later states of
            this layer and direction; None without a loss.
    """

    name: str
    depth: int
    direction: Direction
    form: Stateful
    hidden_size: int
    advance: Callable[[Tensor, State], State]
    x: Tensor
    old: State
    new: State
    lengths: Tensor
    places: Tensor
    gradient: Tensor | None = None

    @property
    def cell(self) -> Cell | None:
        """The cell; None for a plain function."""
        return self.form if isinstance(self.form, Cell) else None

    @property
    def steps(self) -> int:
        """Steps of the longest row."""
        return len(self.x)

    @property
    def taken(self) -> Tensor:
        """(T, B), True where there is a step."""
        return torch.arange(self.steps, device=self.lengths.device).unsqueeze(1) < self.lengths

    @property
    def fields(self) -> dict[str, int]:
        """The state fields that hold values of units, with their widths; S in all. Counts of steps are left out."""
        widths = (v.shape[-1] for v in self.new)
        return {f.name: w for f, w in zip(self.form.fields, widths, strict=True) if not f.is_bookkeeping}

    def rows(self, chosen: Tensor) -> "System":
        """Some of its rows alone."""
        T = int(self.lengths[chosen].max())
        return replace(
            self,
            x=self.x[:T, chosen],
            old=tuple(v[:T, chosen] for v in self.old),
            new=tuple(v[:T, chosen] for v in self.new),
            lengths=self.lengths[chosen],
            places=self.places[:T, chosen],
            gradient=None if self.gradient is None else self.gradient[:T, chosen],
        )

    def joined(self, state: Sequence[Tensor]) -> Tensor:
        """The fields that hold values of units, side by side, (…, S)."""
        kept = [v for f, v in zip(self.form.fields, state, strict=True) if not f.is_bookkeeping]
        return torch.cat(kept, -1) if len(kept) > 1 else kept[0]

    def differentiable(self, x: Tensor, old: State) -> tuple[list[Tensor], Tensor]:
        """A step that derivatives can be taken of.

        Returns:
            The fields of the old state that hold values of units, which ask for gradients; and the new state, (N, S).

        Raises:
            AnalysisError: PyTorch is told to take no derivatives.
        """
        check_derivatives_are_taken()
        leaves = [v.detach().requires_grad_(not f.is_bookkeeping) for f, v in zip(self.form.fields, old, strict=True)]
        with torch.enable_grad():
            new = self.joined(self.advance(x, tuple(leaves)))
        return [v for v in leaves if v.requires_grad], new

    def pulled(self, step: int, rows: Tensor, gradient: Tensor) -> Tensor:
        """Gradients by the state before a step from those by the state after it, (N, S), for N of its rows."""
        leaves, new = self.differentiable(self.x[step, rows], tuple(v[step, rows] for v in self.old))
        return _pulled(leaves, new, gradient)

    def jacobians(self, steps: Tensor, rows: Tensor) -> Tensor:
        """D_t = ∂s_t/∂s_(t-1) at N places, (N, S, S): the row is the unit of s_t, the column that of s_(t-1).

        All places are computed together, a unit of s_t after the other.
        """
        pieces = []
        for t, b in zip(steps.split(ROWS_AT_ONCE), rows.split(ROWS_AT_ONCE), strict=True):
            leaves, new = self.differentiable(self.x[t, b], tuple(v[t, b] for v in self.old))
            units = torch.eye(new.shape[1], dtype=new.dtype, device=new.device)
            pieces.append(torch.stack([_pulled(leaves, new, u.expand_as(new), again=True) for u in units], 1))
        return torch.cat(pieces)


def _pulled(leaves: list[Tensor], new: Tensor, gradient: Tensor, again: bool = False) -> Tensor:
    """Gᵀ ∂new/∂leaves, side by side; zero where a leaf is not asked."""
    if not new.requires_grad:  # a cell that asks for none of its old state
        return torch.cat([torch.zeros_like(v) for v in leaves], -1)
    found = torch.autograd.grad(new, leaves, gradient, retain_graph=again, allow_unused=True, materialize_grads=True)
    return torch.cat(found, -1)


@dataclass(frozen=True, eq=False)
class Given:
    """What a layer was called with, time first.

    Attributes:
        x: (T, B, I).
        state: Each field (layers * directions, B, width), or None.
        mask: (T, B), True where a step is taken.
        reset: (T, B), True where the state is reset before the step.
        counted: (T, B), True where a step is to be examined.
        of_output: (T, B, width) the loss's gradient by the output; None without a loss.
        of_states: Its gradients by states that were returned: how many steps had been taken by then, and each field
            (layers * directions, B, width).
    """

    x: Tensor
    state: Any
    mask: Tensor
    reset: Tensor
    counted: Tensor
    of_output: Tensor | None = None
    of_states: Sequence[tuple[int, Sequence[Sequence[Tensor]]]] = ()


@dataclass(eq=False)
class _Run:
    """One layer and direction along the batch, in the order of time.

    Attributes:
        x: (T, B, I) its inputs.
        along: The state after each step, each field (T, B, width); held where none is taken.
        begun: The state before the first step.
        initial: What a reset sets the state to.
        reverse: Whether it runs from the last step to the first.
        gradient: What of the loss's gradient enters at each step, each field (T, B, width); none without a loss.
    """

    x: Tensor
    along: State
    begun: State
    initial: State
    reverse: bool
    gradient: State = ()


def unrolled(layer: Recurrent, given: Given, name: str) -> list[System]:
    """Each layer and direction of a layer along one batch.

    Args:
        layer: The layer, in evaluation mode, time first, its parameters without gradients.
        given: What it was called with, of its type.
        name: What it is called.

    Raises:
        AnalysisError: There is no step to examine, or a plain function does not treat each row by itself.
    """
    systems = []
    for i, run in enumerate(_runs(layer, given)):
        place = layer._places[i]
        depth = i // (2 if layer.bidirectional else 1)
        direction: Direction = "backward" if run.reverse else "forward"
        words = [f"layer {depth + 1} of {layer.num_layers}"] if layer.num_layers > 1 else []
        words += [direction] if layer.bidirectional or run.reverse else []
        system = System(
            name=", ".join([name, *words]),
            depth=depth,
            direction=direction,
            form=layer.form,
            hidden_size=place.hidden_size,
            advance=_Step(layer._stepper(place, run.x), layer.zoneout, layer.form),
            **_stretches(run, given, layer.form),
        )
        if system.cell is None:
            _check_rows_apart(system)
        systems.append(system)
    return systems


@dataclass(frozen=True, eq=False)
class _Step:
    """One step of many rows, zoneout's mean of old and new included."""

    stepper: Stepper
    zoneout: float
    form: Stateful

    def __call__(self, x: Tensor, old: State) -> State:
        new = self.stepper(self.stepper.prepare(x.unsqueeze(0))[0], old)
        if not self.zoneout:
            return new
        return tuple(
            n if f.is_bookkeeping else self.zoneout * o + (1 - self.zoneout) * n
            for f, o, n in zip(self.form.fields, old, new, strict=True)
        )


def _runs(layer: Recurrent, given: Given) -> list[_Run]:
    """Run the layers as `Recurrent.forward` does; keep what each was given, and what the loss asks of its states."""
    x, B = given.x, given.x.shape[1]
    initial = layer._initial(x, B)
    begun = initial if given.state is None else layer._given(given.state, x, layer._layout(x))
    directions, has_loss = 2 if layer.bidirectional else 1, given.of_output is not None
    taken = given.mask.unsqueeze(-1)
    flags: Any = {"mask": given.mask, "reset": given.reset, "clean": False, "tidy": False}
    runs: list[_Run] = []
    added: list[Tensor] = []
    with torch.set_grad_enabled(has_loss):
        below = layer._along_path("x", torch.where(taken, x, x.new_zeros(())), layer.input_layers)
        for k in range(layer.num_layers):
            for i in range(k * directions, (k + 1) * directions):
                place = layer._places[i]
                along, _, _ = layer._run(place, below, begun[i], initial[i], len(layer.form.fields), **flags)
                runs.append(_Run(below.detach(), along, begun[i], initial[i], place.reverse))
            out = torch.cat([run.along[0] for run in runs[-directions:]], -1)
            # What is added here reaches the loss on every way but by later states of the same layer and direction.
            added.append(torch.zeros_like(out, requires_grad=has_loss))
            out = layer._skipped(k, below, out + added[k])
            below = torch.where(taken, out, out.new_zeros(()))
        y = layer._along_path("y", below, layer.output_layers)
    if given.of_output is not None:
        _take_gradients(runs, added, y, given)
    for run in runs:
        run.along = tuple(v.detach() for v in run.along)
    return runs


def _take_gradients(runs: list[_Run], added: list[Tensor], y: Tensor, given: Given) -> None:
    """Put in each run what of the loss's gradient enters its states."""
    asked = [(y, given.of_output)]
    for run in runs:
        run.gradient = tuple(torch.zeros_like(v) for v in run.along)
    for count, fields in given.of_states:
        for i, run in enumerate(runs):
            at = 0 if run.reverse else count - 1
            step, there = _last_taken(run, given, count)
            rows = there.nonzero().flatten()
            for v, entering, field in zip(run.along, run.gradient, fields, strict=True):
                g = field[i].to(v)
                asked.append((v[at], g))
                entering[step[rows], rows] += g[rows]
    asked = [(v, g) for v, g in asked if v.requires_grad]
    outputs, cotangents = zip(*asked, strict=True)
    found = torch.autograd.grad(outputs, added, cotangents, allow_unused=True, materialize_grads=True)
    directions = len(runs) // len(added)
    for k, whole in enumerate(found):
        for run, own in zip(runs[k * directions :], whole.chunk(directions, -1), strict=False):
            run.gradient[0].add_(own)


def _last_taken(run: _Run, given: Given, count: int) -> tuple[Tensor, Tensor]:
    """For each row the last step taken of the first so many, and whether the state afterwards is still that one's."""
    mask, reset = given.mask[:count], given.reset[:count]
    order = torch.arange(count, device=mask.device).unsqueeze(1)
    if run.reverse:
        step = torch.where(mask, order, count).amin(0)
        cut = (reset & (order <= step) & (order > 0)).any(0)
        return step.clamp(max=count - 1), mask.any(0) & ~cut
    step = torch.where(mask, order, -1).amax(0)
    return step.clamp(min=0), mask.any(0) & ~(reset & (order > step)).any(0)


def _stretches(run: _Run, given: Given, form: Stateful) -> dict[str, Any]:
    """The steps that are taken and counted, one after another, as `System` has them.

    Raises:
        AnalysisError: There is none.
    """
    order = torch.arange(len(given.mask), device=given.mask.device)
    resets = given.reset
    if run.reverse:  # the state is reset where the run crosses from a step that says so to the one before
        order = order.flip(0)
        resets = torch.cat([torch.zeros_like(resets[:1]), resets[1:].flip(0)])
    after = tuple(v[order] for v in run.along)
    before = (torch.cat([b.unsqueeze(0), v[:-1]]) for b, v in zip(run.begun, after, strict=True))
    old = tuple(torch.where(resets.unsqueeze(-1), start, v) for start, v in zip(run.initial, before, strict=True))
    counted, stretch = (given.mask & given.counted)[order], resets.cumsum(0)
    of_row, at_step = counted.T.nonzero(as_tuple=True)  # row by row, in order
    if not len(of_row):
        raise AnalysisError("there is no step to examine: every sequence of the batch is empty")
    of_stretch = stretch[at_step, of_row]
    begins = torch.ones_like(of_row, dtype=torch.bool)
    begins[1:] = (of_row[1:] != of_row[:-1]) | (of_stretch[1:] != of_stretch[:-1])
    starts, number = begins.nonzero().flatten(), begins.cumsum(0) - 1
    lengths = torch.bincount(number)
    at = at_step[starts + lengths - 1].repeat(int(lengths.max()), 1)  # behind its end a row repeats its last step
    at[torch.arange(len(number), device=at.device) - starts[number], number] = at_step
    row = of_row[starts].expand_as(at)
    gradient = None
    if run.gradient:
        kept = [v for f, v in zip(form.fields, run.gradient, strict=True) if not f.is_bookkeeping]
        gradient = torch.cat(kept, -1)[order][at, row]
    return {
        "x": run.x[order][at, row],
        "old": tuple(v[at, row] for v in old),
        "new": tuple(v[at, row] for v in after),
        "lengths": lengths,
        "places": torch.stack([order[at], row], -1),
        "gradient": gradient,
    }


def _check_rows_apart(system: System) -> None:
    """Steps are computed together, as rows of one batch, which a plain function may treat in ways of its own."""
    t, b = system.taken.nonzero(as_tuple=True)
    with torch.no_grad():
        found = system.advance(system.x[t, b], tuple(v[t, b] for v in system.old))
    for f, v, expected in zip(system.form.fields, found, system.new, strict=True):
        if not torch.allclose(v, expected[t, b], rtol=1e-4, atol=1e-6):
            raise AnalysisError(
                f"{system.name}: function {system.form.name!r} gives another {f.name} for the same input and state "
                "when all steps are rows of one batch; it must treat each row by itself, and keep nothing between calls"
            )
