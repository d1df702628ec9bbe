"""A memory beside the state: the neural Turing machine, whose controller is any cell of the catalogue."""

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.cells.form import Cell
from recurra.engine.eager import is_readable
from recurra.nn.arguments import Layout, flag, is_autocast, whole, within_lengths
from recurra.nn.recurrent import Recurrent

EMPTY = 1e-6
"""What every entry of the memory begins with (Collier & Beel 2018 learn fastest and most reliably from a constant)."""

TINY = 1e-8
"""Added to the product of two norms, by which a cosine is divided, so that a row of zeros is like none."""

OWN_FIELDS = ("memory", "weightings", "read")
"""Of the state, behind the controller's fields."""

DRAWN_ONCE = ("input_dropout", "recurrent_dropout", "weight_drop")
"""Options of `Recurrent` whose factors are drawn once a sequence, which a layer that is run step by step cannot."""


class Weightings(NamedTuple):
    """What the heads did at every step of a run, (T, B, …), or laid out as its input.

    Attributes:
        reading: (T, B, R, N), the weighting w_t of each read head over the places of the memory.
        writing: (T, B, W, N), that of each write head.
        read: (T, B, R, M), the vectors read, r_t.
        erased: (T, B, W, M), the erase vectors e_t.
        added: (T, B, W, M), the add vectors a_t.
    """

    reading: Tensor
    writing: Tensor
    read: Tensor
    erased: Tensor
    added: Tensor


class NTM(nn.Module):
    """Neural Turing machine (Graves, Wayne & Danihelka 2014): recurrent layers that read and write a memory of N × M.

    The controller, layers of any cell, reads x_t and what was read at the step before. From its output h_t an affine
    map makes for each head a key k_t, its strength β_t = softplus(.), a gate g_t = σ(.), a distribution over shifts
    s_t = softmax(.) and an exponent γ_t = 1 + softplus(.), and for a write head an erase vector e_t = σ(.) and an add
    vector a_t = tanh(.) too. With these (equations of the paper),

        K(u, v) = u ⋅ v / (‖u‖ ‖v‖)                                             (6)
        w_t^c(i) = exp(β_t K(k_t, M_(t-1)(i))) / Σ_j exp(β_t K(k_t, M_(t-1)(j)))  (5)  by content
        w_t^g = g_t w_t^c + (1 - g_t) w_(t-1)                                   (7)  or where the head was
        w'_t(i) = Σ_j w_t^g(j) s_t(i - j)                                       (8)  moved, round the end
        w_t(i) = w'_t(i)^γ_t / Σ_j w'_t(j)^γ_t                                  (9)  and made sharp again
        M'_t(i) = M_(t-1)(i) ⊙ (1 - w_t(i) e_t)                                 (3)  erase, head by head
        M_t(i) = M'_t(i) + w_t(i) a_t                                           (4)  add
        r_t = Σ_i w_t(i) M_t(i)                                                 (2)  read

    All heads find their places in the memory as the last step left it; it is written before it is read. What the paper
    leaves open: a is bounded by tanh, k is not; the memory begins constant (1e-6), every head at place 0. In a network
    it stands where `Recurrent` does: it is called alike, takes lengths, and goes on from a state.

    Args:
        cell: Of the controller: a cell, its name, or a plain function, as `Recurrent` takes it.
        input_size: I.
        hidden_size: Width of the controller's state; one number, or one for each of its layers.
        num_layers: Layers of the controller.
        memory: (N, M), the places of the memory and the width of each.
        read_heads: R.
        write_heads: W.
        shift: How far a head can move in a step, either way; 0: it cannot.
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        device: Where the parameters are made.
        dtype: Their type.
        controller: Further arguments of `Recurrent`. It goes forward, and has no dropout that is drawn once a sequence
            (`input_dropout`, `recurrent_dropout`, `weight_drop`), since it takes one step at a time.

    Parameters are the controller's, `controller.weight_ih_l0` and so on, and of the map `weight_heads` and
    `bias_heads`: their rows are k of all heads, read heads first, then β, g, s and γ of all, then e and a of the write
    heads.

    Attributes:
        output_size: Width of the output, [h_t; r_t]: of the controller's and R M.

    Raises:
        ValueError: An argument that cannot be, named with what is accepted.
        CellError: A cell whose body and declaration disagree.

    Example:
        >>> machine = NTM("lstm", 9, 100, memory=(128, 20))
        >>> output, state = machine(torch.zeros(41, 4, 9))
        >>> output.shape, state.memory.shape, state.weightings.shape
        (torch.Size([41, 4, 120]), torch.Size([128, 4, 20]), torch.Size([2, 4, 128]))
    """

    bidirectional = False
    skip = None
    weight_heads: nn.Parameter
    bias_heads: nn.Parameter

    def __init__(
        self,
        cell: Cell | str | Callable[..., Any],
        input_size: int,
        hidden_size: int | Sequence[int] = 100,
        num_layers: int = 1,
        *,
        memory: tuple[int, int] = (128, 20),
        read_heads: int = 1,
        write_heads: int = 1,
        shift: int = 1,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **controller: Any,
    ) -> None:
        super().__init__()
        if isinstance(memory, str) or not isinstance(memory, Sequence) or len(memory) != 2:
            raise ValueError(f"memory: its places and their width are expected, such as (128, 20), not {memory!r}")
        self.places, self.width = (whole("memory", size) for size in memory)
        self.input_size = whole("input_size", input_size)
        self.read_heads, self.write_heads = whole("read_heads", read_heads), whole("write_heads", write_heads)
        if not isinstance(shift, int) or isinstance(shift, bool) or not 0 <= 2 * shift < self.places:
            most = (self.places - 1) // 2
            raise ValueError(f"shift: from 0 to {most} places is expected in a memory of {self.places}, not {shift!r}")
        self.shift, self.batch_first = shift, flag("batch_first", batch_first)
        _check_controller(controller)
        reads = self.read_heads * self.width
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.controller = Recurrent(cell, self.input_size + reads, hidden_size, num_layers, **controller, **factory)
        if clash := [name for name in self.controller.state_type._fields if name in OWN_FIELDS]:
            raise ValueError(f"cell: its state has a field {clash[0]!r}, as the memory's has; another name is expected")
        self.hidden_size, self.num_layers = self.controller.hidden_size, self.controller.num_layers
        self.output_size = self.controller.output_size + reads
        heads = self.read_heads + self.write_heads
        each = [self.width, 1, 1, 2 * shift + 1, 1]
        self._sizes = [heads * size for size in each] + [self.write_heads * self.width] * 2
        rows = sum(self._sizes)
        self.register_parameter("weight_heads", nn.Parameter(torch.empty(rows, self.controller.output_size, **factory)))
        self.register_parameter("bias_heads", nn.Parameter(torch.empty(rows, **factory)))
        self._reset_heads()

    @property
    def state_type(self) -> Any:
        """The named tuple of the state's fields."""
        return _state_type(self.controller.state_type._fields)

    def reset_parameters(self) -> None:
        """Begin anew, the controller as its cell says, the map of the heads with Glorot's weights and biases of 0."""
        self.controller.reset_parameters()
        self._reset_heads()

    @torch.no_grad()
    def _reset_heads(self) -> None:
        nn.init.xavier_uniform_(self.weight_heads)
        self.bias_heads.zero_()

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Views of the parameters, or of what belongs to them, by symbol: those of the controller (see
        `Recurrent.by_symbol`), and "heads", the matrix that the heads' parts are made with."""
        prefix = "controller."
        own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
        return {**self.controller.by_symbol(own), "heads": [tensors["weight_heads"]]}

    def forward(
        self, x: Tensor, state: Any = None, *, lengths: Any = None, return_weightings: bool = False
    ) -> tuple[Any, ...]:
        """Run the machine over sequences.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or (T, I).
            state: The state to begin with, what a call has returned. Its fields are those of the controller, each
                (layers, B, width); `memory`, (N, B, M); `weightings`, (R + W, B, N), read heads first; and `read`,
                (R, B, M). Without B where x is (T, I).
            lengths: (B,) steps of each sequence; None where all have T. Behind its end the output is zero, and the
                state is that at its end.
            return_weightings: Also return what the heads did at every step.

        Returns:
            The output, [h_t; r_t] at every step, (T, B, output_size) or laid out as x; the final state, a named tuple;
            with `return_weightings`, `Weightings`.

        Raises:
            ValueError: Sizes or types that do not fit, naming the argument, what was found and what is expected.
        """
        layout = self._layout(x)
        x = layout.inward(x)
        T, B = x.shape[:2]
        valid, whole_steps = None, [True] * T
        if lengths is not None:
            valid = within_lengths(lengths, T, B, x.device)
            x = torch.where(valid.unsqueeze(-1), x, 0.0)  # so that no NaN behind an end reaches a gradient
            whole_steps = valid.all(1).tolist() if is_readable(valid) else [False] * T
        now, outputs, done = self._begun(state, x, layout), [], []
        for t, x_t in enumerate(x.unbind(0)):
            new, looked = self._moved(x_t, now)
            said = torch.cat([looked.h, looked.read.flatten(1)], -1)
            if valid is not None and not whole_steps[t]:
                taken = valid[t]
                new = _held(taken, new, now)
                said = torch.where(taken.unsqueeze(-1), said, 0.0)
            now = new
            outputs.append(said)
            if return_weightings:
                done.append(looked)
        output = torch.stack(outputs) if outputs else x.new_zeros(0, B, self.output_size)
        final = self._final(now, layout)
        if not return_weightings:
            return layout.outward(output), final
        return layout.outward(output), final, self._told(done, valid, layout, x)

    def step(self, x_t: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """One step: `x_t`, (B, I) or (I,), and the state so far give the output and the new state."""
        axis = 1 if self.batch_first and x_t.dim() == 2 else 0
        output, state = self(x_t.unsqueeze(axis), state)
        return output.squeeze(axis), state

    def _moved(self, x: Tensor, state: "_Now") -> tuple["_Now", "_Looked"]:
        """One step of B rows: the state after it, and what was done."""
        h, controller = self.controller.step(torch.cat([x, state.read.flatten(1)], -1), state.controller)
        kind = x.device.type
        with (
            torch.autocast(kind, enabled=False) if is_autocast(kind) else nullcontext()
        ):  # what stands in the memory adds up over the steps, which half precision does not bear
            return self._at_memory(h, controller, state)

    def _at_memory(self, h: Tensor, controller: Any, state: "_Now") -> tuple["_Now", "_Looked"]:
        """What the heads do in a step, when the controller has done its part."""
        R, W = self.read_heads, self.write_heads
        parts = F.linear(h.to(self.weight_heads.dtype), self.weight_heads, self.bias_heads).split(self._sizes, -1)
        key, strength, gate, shifts, exponent = (part.unflatten(-1, (R + W, -1)) for part in parts[:5])
        erased, added = (part.unflatten(-1, (W, -1)) for part in parts[5:])
        w = by_content(state.memory, key, F.softplus(strength))
        w = torch.lerp(state.weightings, w, torch.sigmoid(gate))
        w = shifted(w, torch.softmax(shifts, -1))
        w = sharpened(w, 1 + F.softplus(exponent))
        erased, added = torch.sigmoid(erased), torch.tanh(added)
        reading, writing = w.split([R, W], 1)
        memory = written(state.memory, writing, erased, added)
        read = reading @ memory
        return _Now(controller, memory, w, read), _Looked(h, reading, writing, read, erased, added)

    def _layout(self, x: Any) -> Layout:
        if not isinstance(x, Tensor):
            raise ValueError(f"x: a tensor is expected, not {type(x).__name__}")
        if x.dim() not in (2, 3) or x.shape[-1] != self.input_size:
            expected = f"(T, B, {self.input_size}), (B, T, {self.input_size}) or (T, {self.input_size})"
            raise ValueError(f"x: {expected} is expected, not {tuple(x.shape)}")
        return Layout(x.dim() == 2, self.batch_first)

    def _begun(self, state: Any, x: Tensor, layout: Layout) -> "_Now":
        """The state to begin with, the batch first in the memory's parts."""
        B, (R, A) = x.shape[1], (self.read_heads, self.read_heads + self.write_heads)
        if state is None:
            like = self.weight_heads
            memory = like.new_full((B, self.places, self.width), EMPTY)
            weightings = like.new_zeros(B, A, self.places)
            weightings[..., 0] = 1.0
            layers = self.controller
            controller = layers._gathered(
                [list(row) for row in layers._initial(x.new_zeros(1, B, layers.input_size), B)]
            )
            return _Now(controller, memory, weightings, like.new_full((B, R, self.width), EMPTY))
        names = self.state_type._fields
        if not isinstance(state, (tuple, list)) or len(state) != len(names):
            found = len(state) if isinstance(state, (tuple, list)) else type(state).__name__
            raise ValueError(f"state: {len(names)} fields are expected ({', '.join(names)}), not {found}")
        *controller, memory, weightings, read = state
        sizes = {"memory": (self.places, self.width), "weightings": (A, self.places), "read": (R, self.width)}
        inward = []
        for (name, (first, last)), value in zip(sizes.items(), (memory, weightings, read), strict=True):
            expected = (first, last) if layout.single else (first, B, last)
            found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            if found != expected:
                raise ValueError(f"state.{name}: a tensor {expected} is expected, not {found}")
            inward.append(value.unsqueeze(0) if layout.single else value.transpose(0, 1))
        if layout.single:
            controller = [_each(field, lambda v: v.unsqueeze(-2)) for field in controller]
        return _Now(self.controller.state_type(*controller), *inward)

    def _final(self, now: "_Now", layout: Layout) -> Any:
        """The state as a caller has it."""
        memory = [v.transpose(0, 1) for v in (now.memory, now.weightings, now.read)]
        if not layout.single:
            return self.state_type(*now.controller, *memory)
        controller = (_each(field, lambda v: v.squeeze(-2)) for field in now.controller)
        return self.state_type(*controller, *(v.squeeze(1) for v in memory))

    def _told(self, done: list["_Looked"], valid: Tensor | None, layout: Layout, x: Tensor) -> Weightings:
        """Every step together; zeros behind the ends."""
        if done:
            every = [torch.stack(part) for part in list(zip(*done, strict=True))[1:]]
        else:
            N, M, R, W = self.places, self.width, self.read_heads, self.write_heads
            shapes = [(R, N), (W, N), (R, M), (W, M), (W, M)]
            every = [x.new_zeros(0, x.shape[1], *shape) for shape in shapes]
        if valid is not None:
            every = [torch.where(valid[..., None, None], part, 0.0) for part in every]
        return Weightings(*map(layout.outward, every))

    def extra_repr(self) -> str:
        """What `print` shows beside the controller."""
        heads = f"read_heads={self.read_heads}, write_heads={self.write_heads}, shift={self.shift}"
        return f"{self.input_size}, memory=({self.places}, {self.width}), {heads}"


class _Now(NamedTuple):
    """The state between two steps: the controller's; memory (B, N, M), weightings (B, R + W, N), read (B, R, M)."""

    controller: Any
    memory: Tensor
    weightings: Tensor
    read: Tensor


class _Looked(NamedTuple):
    """What was done at a step: h (B, H), then as in `Weightings`, (B, …)."""

    h: Tensor
    reading: Tensor
    writing: Tensor
    read: Tensor
    erased: Tensor
    added: Tensor


def by_content(memory: Tensor, key: Tensor, strength: Tensor) -> Tensor:
    """How much each place is like a key: softmax of β times the cosine (Graves 2014, eqs 5, 6).

    Args:
        memory: M, (B, N, M).
        key: k, (B, A, M), of A heads.
        strength: β > 0, (B, A, 1).

    Returns:
        w^c, (B, A, N), not negative and with a sum of 1.
    """
    norms = torch.linalg.vector_norm(key, dim=-1).unsqueeze(-1) * torch.linalg.vector_norm(memory, dim=-1).unsqueeze(-2)
    return torch.softmax(strength * (key @ memory.mT) / (norms + TINY), -1)


def shifted(w: Tensor, shifts: Tensor) -> Tensor:
    """Circular convolution of a weighting with a distribution over shifts (eq. 8).

    Args:
        w: w^g, (B, A, N).
        shifts: s, (B, A, 2 S + 1): of the shifts -S to S, one of d bringing what is at j to j + d.

    Returns:
        (B, A, N).
    """
    S = shifts.shape[-1] // 2
    if not S:
        return w * shifts
    round_the_end = torch.cat([w[..., -S:], w, w[..., :S]], -1)
    windows = round_the_end.unfold(-1, 2 * S + 1, 1)  # of place i: w(i - S) … w(i + S)
    return (windows @ shifts.flip(-1).unsqueeze(-1)).squeeze(-1)


def sharpened(w: Tensor, exponent: Tensor) -> Tensor:
    """w(i)^γ / Σ_j w(j)^γ (eq. 9).

    Args:
        w: (B, A, N), not negative, and above 0 somewhere.
        exponent: γ ≥ 1, (B, A, 1).
    """
    w = w / w.amax(-1, keepdim=True).detach()  # which leaves what comes of it as it is, but no power vanishes
    w = w**exponent
    return w / w.sum(-1, keepdim=True)


def written(memory: Tensor, w: Tensor, erase: Tensor, add: Tensor) -> Tensor:
    """The memory when all write heads have erased, then all have added (eqs 3, 4).

    Args:
        memory: (B, N, M).
        w: (B, W, N).
        erase: e, (B, W, M), each entry from 0 to 1.
        add: a, (B, W, M).
    """
    kept = 1 - w.unsqueeze(-1) * erase.unsqueeze(-2)
    kept = kept.squeeze(1) if w.shape[1] == 1 else kept.prod(1)
    return torch.baddbmm(memory * kept, w.mT, add)


@cache
def _state_type(controller: tuple[str, ...]) -> Any:
    return namedtuple("NTMState", [*controller, *OWN_FIELDS])


def _each(field: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A field of a state, one tensor or one a layer, changed."""
    return change(field) if isinstance(field, Tensor) else [change(v) for v in field]


def _held(taken: Tensor, new: _Now, old: _Now) -> _Now:
    """The new state of the rows that took the step, (B,), the old one of the others."""
    three, two = taken.view(-1, 1, 1), taken.view(-1, 1)
    memory = (torch.where(three, a, b) for a, b in zip(new[1:], old[1:], strict=True))
    fields = [
        torch.where(two, a, b)
        if isinstance(a, Tensor)
        else [torch.where(two, one, other) for one, other in zip(a, b, strict=True)]
        for a, b in zip(new.controller, old.controller, strict=True)
    ]
    return _Now(type(new.controller)(*fields), *memory)


def _check_controller(options: Mapping[str, Any]) -> None:
    """Raises ValueError where a controller cannot have an option of `Recurrent`."""
    for name in ("bidirectional", "reverse"):
        if options.get(name):
            raise ValueError(f"{name}: a controller takes one step at a time, forward; False is expected")
    for name in DRAWN_ONCE:
        if options.get(name):
            raise ValueError(
                f"{name}: it is drawn once a sequence, which a controller cannot that takes one step at a time; 0 is "
                "expected"
            )
