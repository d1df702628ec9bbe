"""Rules that go forward in time: they carry the influence of the parameters on the state along with the state.

At every step the gradient is there at once, in memory that does not grow, so the parameters may move at every step of a
stream that never ends. What is exact while the parameters stand still is an approximation when they move, since the
influence was gathered with the parameters of earlier steps.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor, nn

from recurra.engine import native
from recurra.engine.by_autodiff import ByAutodiff
from recurra.engine.carrying import CarriedStack, why_not_carried
from recurra.engine.eager import State
from recurra.engine.fused import why_not
from recurra.engine.influence import Influence, Stack
from recurra.engine.rank_one import RankOne
from recurra.engine.reach import Layer
from recurra.engine.trace import TraceError
from recurra.errors import unknown
from recurra.learn.followed import Followed
from recurra.learn.rule import Rule, changed, check_fit, check_loss, check_products, chosen
from recurra.nn.recurrent import Choice

Stacked = Literal["exact", "by_layer"]
Backend = Literal["auto", "native", "eager"]
STACKS: tuple[str, ...] = get_args(Stacked)
BACKENDS: tuple[str, ...] = get_args(Backend)


class Forward(Rule):
    """A rule that carries influences forward in time.

    Args:
        stack: How layers on top of each other are followed. "exact": with the influence of each layer's parameters on
            every layer above. "by_layer": each layer by itself; the error comes down from the layer above through the
            present step alone, and so it does to whatever x is made of.
        backend: "native" carries the influence in the compiled core, "eager" in tensor code; "auto" takes the core
            where it can be (`choice` says which that is, and why).

    Attributes:
        choice: How the influence is carried, and why, once the rule has met a layer.

    Raises:
        ValueError: Another word.
    """

    explicit: ClassVar[bool] = True
    is_exact: ClassVar[bool] = True

    def __init__(self, stack: Stacked, backend: Backend = "auto") -> None:
        super().__init__()
        if stack not in STACKS:
            raise ValueError(unknown("stack", str(stack), STACKS))
        if backend not in BACKENDS:
            raise ValueError(unknown("backend", str(backend), BACKENDS))
        self.stack, self.backend = stack, backend
        self.choice: Choice | None = None
        self._carried: tuple[Any, ...] | None = None
        self._pending: _Run | None = None
        self._reached: list[State] | None = None  # the state that the last call of `along` ended with
        self._influences: Any = None

    @property
    def reach(self) -> int | None:
        """Steps within which what a parameter reaches is followed; None for all."""
        return None

    def _follow(self, layer: Layer, rows: int, like: Tensor) -> Any:
        return Influence(layer, rows, like)

    def _check(self, followed: Followed) -> None:
        check_products(followed, self.name)
        future = followed.reads_the_future
        if future is not None:
            raise ValueError(f"layer: {future} reads the future, which {self.name} goes towards; False is expected")
        beside = followed.beside_its_steps
        if beside is not None:
            raise ValueError(
                f"layer: {self.name} follows the cells' own steps, and {beside} is no part of them; "
                "it is to be left out, or the rule to be bptt or tbptt"
            )
        unknown_to_it = followed.not_followed
        if unknown_to_it is not None:
            raise ValueError(
                f"layer: {self.name} follows the parameters of the cells, and {unknown_to_it!r} is none of them; "
                "parametrisations (torch.nn.utils.parametrize) can be followed, or the rule is to be bptt or tbptt"
            )

    def _made(self, followed: Followed, rows: int, like: Tensor, waits: bool) -> Any:
        """The influences of a layer's parameters, all of them zero.

        Args:
            followed: The layer.
            rows: Rows of the batch.
            like: A tensor of the type and on the device of the parameters.
            waits: Whether the core carries them over several steps at once, rather than each by itself.
        """
        across = self.stack == "exact" and followed.count > 1
        try:
            layers = followed.layers(self.reach, self.explicit)
        except TraceError as error:
            if not self.is_exact:
                raise ValueError(
                    f"layer: {self.name} needs the program of cell {followed.form.name!r}: {error}"
                ) from error
            if followed.count > 1:
                raise ValueError(
                    f"layer: cell {followed.form.name!r} cannot be written down as a program ({error}), and such a "
                    f"cell is followed in one layer alone; num_layers is {followed.count}"
                ) from error
            names = list(followed.names(0))
            if not names:
                raise ValueError(f"layer: {followed.form.name!r} has no parameters that are known") from error
            against = "its Jacobians are taken by automatic differentiation, since it is no program"
            self.choice = self._eagerly(f"cell {followed.form.name!r}: {against}")
            return ByAutodiff(followed.step, names, rows, followed.widths[0], like, followed.first_states())
        against = self._why_not_native(layers, across, like)
        if against is None:
            asked = "backend='native' asks for it" if self.backend == "native" else "it can carry every layer"
            self.choice = Choice("native", f"the compiled core carries the influence: {asked}")
            return CarriedStack(layers, rows, like, waits)
        self.choice = self._eagerly(against)
        return Stack(layers, rows, like, across, self._follow)

    def _why_not_native(self, layers: Sequence[Layer], across: bool, like: Tensor) -> str | None:
        """Why the compiled core cannot carry the influence; None where it can."""
        if self.backend == "eager":
            return "backend='eager' asks for tensor code"
        if across:
            return "the influence of layers on those above is carried in tensor code"
        return native.why_not() or why_not(like) or next(filter(None, map(why_not_carried, layers)), None)

    def _eagerly(self, reason: str) -> Choice:
        """Raises ValueError where `backend` asks for what cannot be."""
        if self.backend == "native":
            raise ValueError(f"backend: 'native' cannot be: {reason}")
        return Choice("eager", reason)

    def check(self, layer: nn.Module, learns_below: bool = False) -> None:
        """See `Rule.check`."""
        super().check(layer)
        self._check_below(learns_below)

    def _check_below(self, learns_below: bool) -> None:
        if learns_below and self.stack == "exact":
            raise ValueError(
                f"x: it depends on parameters, whose influence on the state {self.name} does not carry; an x without a "
                "gradient is expected, or stack='by_layer', which has them learn from the present step alone"
            )

    # --- whole sequences --------------------------------------------------------------------------------------------

    def along(
        self, layer: nn.Module, x: Tensor, state: Any = None, *, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Any]:
        """See `Rule.along`."""
        followed = Followed(layer)
        self.check(layer, x.requires_grad)
        given = {} if lengths is None else {"lengths": lengths}
        with torch.no_grad():
            y, final = layer(x, state, **given)
        if not torch.is_grad_enabled():
            return y, final
        single, first = x.dim() == 2, followed.batch_first and x.dim() == 3
        inward = x.unsqueeze(1) if single else x.transpose(0, 1) if first else x
        T, B = inward.shape[:2]
        if state is None:
            begun = [tuple(v.detach() for v in fields) for fields in followed.initial(B, inward.detach())]
        else:
            begun = [
                tuple((v.unsqueeze(0) if single else v).detach() for v in fields) for fields in followed.unpacked(state)
            ]
        carried = self._carried_for(
            followed, inward.new_empty(B, inward.shape[-1]), begun if state is not None else None
        )
        within = None
        if lengths is not None:
            within = torch.arange(T).unsqueeze(1) < torch.as_tensor(lengths).cpu()
            within = None if bool(within.all()) else within.to(x.device)
        parameters = followed.trained()
        flat = [v for fields in followed.unpacked(final) for v in fields]
        self._reached = [tuple(v.unsqueeze(0) if single else v for v in f) for f in followed.unpacked(final)]
        self._pending = _Run(followed, carried, begun, within, first, single, inward.detach())
        y, *flat = _Along.apply(self._pending, x, y, len(flat), list(parameters), *flat, *parameters.values())  # type: ignore[misc]
        fields = len(followed.form.fields)
        states = [tuple(flat[k * fields : (k + 1) * fields]) for k in range(followed.count)]
        return y, followed.packed(states)

    def _carried_for(self, followed: Followed, like: Tensor, begun: Sequence[State] | None) -> Any:
        """The influences of earlier calls, or new ones.

        Args:
            followed: The layer.
            like: (B, I).
            begun: The state with which sequences go on; None where they begin. Rows of it that are not as the last call
                left them have been set to something else since, or run on without a gradient: they begin anew.
        """
        pending, self._pending = self._pending, None
        if pending is not None and not pending.is_done:
            if begun is None:
                self._carried = None  # that run still waits for its gradient, and keeps its influences
            else:
                pending.advance()  # no loss was made of it
        key = id(followed.module), len(like), like.dtype, like.device
        if self._carried is None or self._carried[0] != key:
            self._carried = key, self._made(followed, len(like), like.detach(), waits=True)
        elif begun is None:
            self._carried[1].forget()
        elif self._reached is not None and (moved := changed(self._reached, begun)) is not None:
            self._carried[1].forget(moved)
        return self._carried[1]

    def carried(self) -> dict[str, Tensor]:
        """See `Rule.carried`."""
        if self._pending is not None and not self._pending.is_done:
            self._pending.advance()
        if self._carried is None:
            return {}
        return {f"influence.{n}": v for n, v in enumerate(self._carried[1].tensors())} | self._signs()

    def carry_on(self, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """See `Rule.carry_on`."""
        kept = _numbered("influence", tensors)
        if kept:
            followed, like = Followed(layer), next(layer.parameters()).detach()
            x = like.new_empty(len(kept[0]), followed.input_sizes[0])
            self._carried_for(followed, x, None).restore(kept)
        self._reached = None
        self._draw_on(tensors)

    def _signs(self) -> dict[str, Tensor]:
        """The state of what is drawn at random."""
        return {}

    def _draw_on(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `_signs` gave."""

    # --- a stream ---------------------------------------------------------------------------------------------------

    def _begun(self) -> None:
        followed = self._begun_with()
        self.state = [tuple(v.detach().clone() for v in fields) for fields in self.state]
        like = self.state[0][0].new_zeros(self._rows or 1, followed.input_sizes[0])
        self._influences = self._made(followed, self._rows or 1, like, waits=False)
        self._output: Tensor | None = None
        self._x: Tensor | None = None
        self._count, self._is_late = 0, False

    def _stepped(self, x: Tensor, reset: Tensor | None, taken: Tensor | None) -> Tensor:
        followed = self._begun_with()
        self._check(followed)
        self._check_below(x.requires_grad)
        self._x = x if x.requires_grad else None
        with torch.no_grad():
            if reset is not None:
                self.state = chosen(reset, followed.initial(len(x), x), self.state)
                self._influences.forget(reset)
            weights = [followed.weights(k) for k in range(followed.count)]
            self.state = self._influences.advance(weights, x.detach(), self.state, taken)
        self._output = self.state[-1][0].detach().requires_grad_()
        self._count += 1
        self._output.register_hook(partial(self._told, self._count))
        return self._output

    def _told(self, count: int, gradient: Tensor) -> None:
        """A loss reaches the output of one of the steps."""
        self._is_late |= count != self._count

    def step(self, loss: Tensor | None) -> bool:
        """See `Rule.step`; True after every step."""
        followed = self._begun_with()
        if loss is None:
            return True
        check_loss(loss)
        if self._output is None:
            raise ValueError("loss: a step comes first, rule(x)")
        self._output.grad = None
        loss.backward()
        is_late, self._is_late = self._is_late, False
        if is_late:
            raise ValueError(
                f"loss: it is made of an earlier step's output, and {self.name} learns at every step from the last "
                "one's; a loss of that alone is expected, or the rule to be tbptt, whose windows hold several steps"
            )
        given = self._output.grad
        if given is not None:
            self._learn(followed, given)
        return True

    @torch.no_grad()
    def _learn(self, followed: Followed, given: Tensor) -> None:
        """Add the gradient that the output's gives to the parameters."""
        delta = torch.cat([given, *(torch.zeros_like(v) for v in self.state[-1][1:])], -1)
        below = self._influences.collect(delta, wants_below=self._x is not None)
        if self._x is not None:
            self._x.backward(below)
        with torch.enable_grad():  # what is not a parameter itself is made of some
            weights = [followed.weights(k) for k in range(followed.count)]
            trained = followed.trained(weights)
        made, gradients = [], []
        for name, gradient in _named(followed, self._influences.take(weights)).items():
            tensor = trained.get(name)
            if tensor is None or not tensor.requires_grad:
                continue
            if tensor.is_leaf:
                tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
            else:
                made.append(tensor)
                gradients.append(gradient)
        if made:
            torch.autograd.backward(made, gradients)

    def tensors(self) -> dict[str, Tensor]:
        """See `Rule.tensors`."""
        found = super().tensors()
        return found | {f"influence.{n}": v for n, v in enumerate(self._influences.tensors())} | self._signs()

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Rule.restore`."""
        super().restore(tensors)
        expected = {f"influence.{n}": v for n, v in enumerate(self._influences.tensors())}
        if expected:  # it has none before the first step, where no program is known
            check_fit(tensors, expected, "influence.")
        self._influences.restore(_numbered("influence", tensors))
        self._draw_on(tensors)


class RTRL(Forward):
    """Real-time recurrent learning (Williams & Zipser 1989; eqs 6.40-6.44), exact for every cell.

    Its gradient is that of BPTT while the parameters stand still. A step costs as many numbers of memory as state and
    parameters together multiply, and as many times the state's units of arithmetic, whatever has gone before; where U
    is diagonal, in blocks or masked, what a parameter cannot reach costs nothing.
    """

    name: ClassVar[str] = "rtrl"
    summary: ClassVar[str] = "real-time recurrent learning, exact and forward in time"

    def __init__(self, stack: Stacked = "exact", backend: Backend = "auto") -> None:
        super().__init__(stack, backend)

    def __repr__(self) -> str:
        return f"RTRL(stack={self.stack!r})"


class SnAp(Forward):
    """Sparse n-step approximation of RTRL (Menick et al. 2021).

    A parameter's influence is followed only on the units of the state that it reaches within n steps. For one n with a
    dense U these are the units of its own number, and a step costs little more than it does without learning; two are
    all units, and SnAp(2) is RTRL. Where a cell multiplies twice in one step, as `gru` with its reset before the
    product, parameters of the first product reach all units at once.

    Args:
        n: Steps, from 1 on.

    Raises:
        ValueError: n is none.
    """

    name: ClassVar[str] = "snap"
    summary: ClassVar[str] = "sparse n-step approximation of rtrl"
    is_exact: ClassVar[bool] = False

    def __init__(self, n: int = 1, backend: Backend = "auto") -> None:
        super().__init__("by_layer", backend)
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ValueError(f"n: a whole number of steps from 1 on is expected, not {n!r}")
        self.n = n

    @property
    def reach(self) -> int | None:
        """See `Forward.reach`."""
        return self.n

    def __repr__(self) -> str:
        return f"SnAp({self.n})"


class EProp(Forward):
    """e-prop (Bellec et al. 2020), its learning signal that of the present step, for any cell.

    What passes from step to step through U is left out; what passes within a unit, as c does in an LSTM, is followed:
    an eligibility trace for each parameter.
    """

    name: ClassVar[str] = "eprop"
    summary: ClassVar[str] = "eligibility traces within each unit"
    explicit: ClassVar[bool] = False
    is_exact: ClassVar[bool] = False

    def __init__(self, backend: Backend = "auto") -> None:
        super().__init__("by_layer", backend)


class UORO(Forward):
    """Unbiased online recurrent optimisation (Tallec & Ollivier 2017): an influence of rank one, right on average.

    A step costs about as much as one of backpropagation, and as much memory as the parameters; the gradient is noisy.

    Args:
        seed: What the random signs are drawn by.
    """

    name: ClassVar[str] = "uoro"
    summary: ClassVar[str] = "a random influence of rank one, right on average"
    is_exact: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        super().__init__("by_layer", "eager")
        self.seed = seed
        self._generator = torch.Generator().manual_seed(seed)

    def _follow(self, layer: Layer, rows: int, like: Tensor) -> Any:
        return RankOne(layer, rows, like, self._generator)

    def _signs(self) -> dict[str, Tensor]:
        return {"signs": self._generator.get_state()}

    def _draw_on(self, tensors: Mapping[str, Tensor]) -> None:
        if "signs" in tensors:
            self._generator.set_state(tensors["signs"].cpu())

    def __repr__(self) -> str:
        return f"UORO(seed={self.seed})"


class _Run:
    """A run over sequences whose gradient is found by taking its steps again, forward in time.

    Args:
        followed: The layer.
        influences: Those of its parameters, as they are before the run.
        begun: The state before the run.
        within: (T, B), True where a step is taken; None for all.
        first: Whether rows come first in what the layer takes.
        single: Whether it takes one sequence without an axis for rows.
        x: (T, B, I).
    """

    def __init__(
        self,
        followed: Followed,
        influences: Any,
        begun: list[State],
        within: Tensor | None,
        first: bool,
        single: bool,
        x: Tensor,
    ) -> None:
        self.followed, self.influences, self.begun, self.within = followed, influences, begun, within
        self.first, self.single, self.x, self.is_done = first, single, x, False

    def inward(self, v: Tensor) -> Tensor:
        """From the layout of a call to (T, B, …)."""
        return v.unsqueeze(1) if self.single else v.transpose(0, 1) if self.first else v

    def outward(self, v: Tensor) -> Tensor:
        """The reverse."""
        return v.squeeze(1) if self.single else v.transpose(0, 1) if self.first else v

    @torch.no_grad()
    def advance(self, given: Sequence[Tensor] | None = None, below: Tensor | None = None) -> list[dict[str, Tensor]]:
        """Take the steps, and carry the influences along.

        Args:
            given: The gradients of a loss by the output and by the final states; None where there is no loss.
            below: (T, B, I), in which the gradient by x through each step alone is written.

        Returns:
            The gradients, by layer and parameter.
        """
        if self.is_done:
            raise RuntimeError("the gradient of these steps was found before, and they cannot be taken twice")
        self.is_done = True
        followed, influences, states = self.followed, self.influences, self.begun
        weights = [{n: w.detach() for n, w in followed.weights(k).items()} for k in range(followed.count)]
        fields = len(followed.form.fields)
        along = None if given is None else self.inward(given[0])
        ends = None if given is None else self._ends(given[1:], fields)
        zeros = [torch.zeros_like(v) for v in states[-1][1:]]
        wants = below is not None
        for t, x in enumerate(self.x):
            taken = None if self.within is None else self.within[t]
            states = influences.advance(weights, x, states, taken)
            if along is None or ends is None:
                continue
            delta = along[t] if taken is None else torch.where(taken.unsqueeze(-1), along[t], 0)
            errors = {followed.count - 1: torch.cat([delta, *zeros], -1)}
            last = self._last(t) if ends else None
            if last is not None:
                for k, end in ends.items():
                    own = torch.where(last.unsqueeze(-1), end, 0)
                    errors[k] = errors[k] + own if k in errors else own
            for k, error in errors.items():
                through = influences.collect(error, k, wants)
                if below is not None and through is not None:
                    below[t] += through
        for k, end in (ends or {}).items():  # rows that take no step at all end with the state that they begin with
            still = None if self.within is None else ~self.within.any(0)
            if still is not None and len(self.x) and bool(still.any()):
                influences.collect(torch.where(still.unsqueeze(-1), end, 0), k, False, goes_down=False)
        return influences.take(weights)

    def _ends(self, given: Sequence[Tensor], fields: int) -> dict[int, Tensor]:
        """By layer the gradient of a loss by its final state, (B, S), where there is one."""
        found = {}
        for k in range(self.followed.count):
            own = given[k * fields : (k + 1) * fields]
            if any(bool(v.any()) for v in own):
                found[k] = torch.cat([v.unsqueeze(0) if self.single else v for v in own], -1)
        return found

    def _last(self, t: int) -> Tensor | None:
        """Which rows take their last step at t, (B,); None where none does."""
        is_end = t + 1 == len(self.x)
        if self.within is None:
            return self.x.new_ones(self.x.shape[1], dtype=torch.bool) if is_end else None
        found = self.within[t] if is_end else self.within[t] & ~self.within[t + 1]
        return found if bool(found.any()) else None


class _Along(torch.autograd.Function):
    """What a layer put out, with a gradient that is found forward in time."""

    @staticmethod
    def forward(ctx: Any, run: _Run, x: Tensor, y: Tensor, count: int, names: Sequence[str], *tensors: Tensor) -> Any:
        ctx.run, ctx.count, ctx.names = run, count, names
        return y, *tensors[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        run: _Run = ctx.run
        below = torch.zeros_like(run.x) if ctx.needs_input_grad[1] else None
        found = _named(run.followed, run.advance(gradients, below))
        own = [found.get(name) for name in ctx.names]
        return None, None if below is None else run.outward(below), None, None, None, *[None] * ctx.count, *own


def _named(followed: Followed, found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Gradients by the names of the module's parameters."""
    return {
        name: by_cell[own]
        for k, by_cell in enumerate(found)
        for own, name in followed.names(k).items()
        if own in by_cell
    }


def _numbered(prefix: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    found = []
    while f"{prefix}.{len(found)}" in tensors:
        found.append(tensors[f"{prefix}.{len(found)}"])
    return found
