"""Rules that go back in time: backpropagation through whole sequences, or through the last steps of an endless one."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from recurra.engine.eager import State
from recurra.learn.followed import Followed
from recurra.learn.rule import Rule, changed, check_loss, check_products, chosen


class BPTT(Rule):
    """Backpropagation through time (eqs 6.29-6.39): the exact gradient over the whole of each sequence.

    On a stream it adds up the losses of all steps, and goes back through them when `finish` is called: time and memory
    grow with the stream.
    """

    name: ClassVar[str] = "bptt"
    summary: ClassVar[str] = "backpropagation through time, exact"

    def __init__(self) -> None:
        super().__init__()
        self._total: Tensor | None = None

    def along(
        self, layer: nn.Module, x: Tensor, state: Any = None, *, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Any]:
        """See `Rule.along`."""
        return layer(x, detached(state), **_if_given(lengths))

    def _begun(self) -> None:
        self._total = None

    def _stepped(self, x: Tensor, reset: Tensor | None, taken: Tensor | None) -> Tensor:
        return _one_step(self, x, reset, taken)

    def step(self, loss: Tensor | None) -> bool:
        """See `Rule.step`; the gradients are whole when `finish` was called."""
        self._begun_with()
        if loss is not None:
            check_loss(loss)
            self._total = loss if self._total is None else self._total + loss
        return False

    def tensors(self) -> dict[str, Tensor]:
        """See `Rule.tensors`.

        Raises:
            ValueError: Steps are still to be gone back through.
        """
        if self._total is not None:
            raise ValueError("losses are still to be gone back through: tensors are taken after finish()")
        return super().tensors()

    def finish(self) -> bool:
        """Go back through all steps since the beginning, or since the last call."""
        total, self._total = self._total, None
        if total is not None:
            total.backward()
        self.state = [tuple(v.detach() for v in fields) for fields in self.state]
        return total is not None


class TruncatedBPTT(Rule):
    """Truncated backpropagation through time, BPTT(k2; k1) (Williams & Peng 1990).

    After every k1 steps the losses of these are taken back through the last k2 steps, so that each loss is counted
    once, and goes back k2 - k1 + 1 to k2 steps. The state is carried on; its gradient stops. Where k2 is greater than
    k1, the k2 - k1 steps before a window are run again when it begins, with the parameters as they are then.

    Args:
        k1: Steps from one update to the next.
        k2: Steps that are gone back through; k1 where None.

    Raises:
        ValueError: k2 is less than k1, or one of them is no whole number from 1 on.
    """

    name: ClassVar[str] = "tbptt"
    summary: ClassVar[str] = "backpropagation through the last k2 steps, after every k1"

    def __init__(self, k1: int = 32, k2: int | None = None) -> None:
        super().__init__()
        k2 = k1 if k2 is None else k2
        for name, value in (("k1", k1), ("k2", k2)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}: a whole number from 1 on is expected, not {value!r}")
        if k2 < k1:
            raise ValueError(
                f"k2: {k2} steps are gone back through after every {k1}, so some losses would be lost; "
                f"a k2 of {k1} (k1) or more is expected"
            )
        self.k1, self.k2 = k1, k2
        self._window: BPTT | None = None

    def __repr__(self) -> str:
        return f"TruncatedBPTT(k1={self.k1}, k2={self.k2})"

    def _check(self, followed: Followed) -> None:
        check_products(followed, self.name)
        future = followed.reads_the_future
        if future is not None:
            raise ValueError(f"layer: {future} begins at the end of a sequence, which a window of steps does not know")

    # --- whole sequences --------------------------------------------------------------------------------------------

    def along(
        self, layer: nn.Module, x: Tensor, state: Any = None, *, lengths: Tensor | Sequence[int] | None = None
    ) -> tuple[Tensor, Any]:
        """See `Rule.along`. Windows begin with the first step; where `state` is given, with the first of this call."""
        followed = Followed(layer)
        self._check(followed)
        along = 1 if followed.batch_first and x.dim() == 3 else 0
        T = x.shape[along]
        if lengths is not None:
            lengths = torch.as_tensor(lengths)
        state = detached(state)
        if state is None or not self._goes_on(followed, state):
            self._before = None
        before = self._before
        outputs = []
        for first in range(0, T, self.k1):
            window = x.narrow(along, first, min(self.k1, T - first))
            inside = None if lengths is None else (lengths - first).clamp(0, window.shape[along])
            y, state, before = self._run(layer, window, state, inside, before, along)
            outputs.append(y)
        self._before, self._reached = before, None if state is None else followed.unpacked(detached(state))
        if not outputs:
            return layer(x, state)
        return torch.cat(outputs, along), state

    def _goes_on(self, followed: Followed, state: Any) -> bool:
        """Whether the state is that with which the last call ended; where it is another, in whatever row, the steps
        before it do not lead to it, and are left behind."""
        return self._reached is None or changed(self._reached, followed.unpacked(state)) is None

    _reached: "list[State] | None" = None
    _before: "tuple[Tensor, Any, Tensor | None] | None" = None

    def _run(
        self, layer: nn.Module, x: Tensor, state: Any, inside: Tensor | None, before: Any, along: int
    ) -> tuple[Tensor, Any, Any]:
        """Run a window, and the steps before it that its gradient goes back to.

        `before` is the input of steps before it, the state with which they begin, and the lengths of rows in them.
        """
        k = self.k2 - self.k1
        if not k:
            y, state = layer(x, detached(state), **_if_given(inside))
            return y, state, None
        steps = x.shape[along]
        whole, start, lengths = x, state, inside
        if before is not None:
            past, start, past_lengths = before
            whole = torch.cat([past, x], along)
            n = past.shape[along]
            if inside is not None or past_lengths is not None:
                inside = torch.full((_rows(x, along),), steps) if inside is None else inside
                lengths = torch.where(inside > 0, n + inside, n if past_lengths is None else past_lengths)
        y, state = layer(whole, detached(start), **_if_given(lengths))
        total = whole.shape[along]
        kept = min(k, total)
        if kept == total:
            return y.narrow(along, total - steps, steps), state, (whole.detach(), start, lengths)
        with torch.no_grad():  # the state with which the steps that stay begin
            cut = None if lengths is None else lengths.clamp(max=total - kept)
            middle = layer(whole.narrow(along, 0, total - kept), detached(start), **_if_given(cut))[1]
        stays = None if lengths is None else (lengths - (total - kept)).clamp(0, kept)
        before = whole.narrow(along, total - kept, kept).detach(), detached(middle), stays
        return y.narrow(along, total - steps, steps), state, before

    def carried(self) -> dict[str, Tensor]:
        """See `Rule.carried`."""
        if self._before is None:
            return {}
        x, state, lengths = self._before
        fields = () if state is None else (state,) if isinstance(state, Tensor) else tuple(state)
        found = {f"before.{i}": v for i, v in enumerate(fields)} | {"x": x}
        return found if lengths is None else found | {"lengths": lengths}

    def carry_on(self, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
        """See `Rule.carry_on`."""
        self._before, self._reached = None, None
        if "x" in tensors:
            like = next(layer.parameters())
            fields = []
            while f"before.{len(fields)}" in tensors:
                fields.append(tensors[f"before.{len(fields)}"].to(like.device))
            state = None if not fields else fields[0] if isinstance(layer, (nn.RNN, nn.GRU)) else tuple(fields)
            self._before = tensors["x"].to(like.device), state, tensors.get("lengths")

    # --- a stream ---------------------------------------------------------------------------------------------------

    def _begun(self) -> None:
        self._count, self._total = 0, None
        self._past: list[tuple[Tensor, Tensor | None, Tensor | None]] = []  # steps that a window can go back to
        self._past_state = self.state

    def _stepped(self, x: Tensor, reset: Tensor | None, taken: Tensor | None) -> Tensor:
        if x.requires_grad and self.k2 > self.k1:
            raise ValueError(
                f"x: it depends on parameters, which move before the step is run again (k2={self.k2}, k1={self.k1}); "
                "k2 equal to k1 is expected, or an x without a gradient"
            )
        if self._count == 0 and self.k2 > self.k1:
            self.state = self._past_state
            for step in self._past:
                _one_step(self, *step)
        if self.k2 > self.k1:
            self._past.append((x.detach(), reset, taken))
        return _one_step(self, x, reset, taken)

    def step(self, loss: Tensor | None) -> bool:
        """See `Rule.step`; True at the end of each window of k1 steps."""
        self._begun_with()
        if loss is not None:
            check_loss(loss)
            self._total = loss if self._total is None else self._total + loss
        self._count += 1
        return self._end() if self._count >= self.k1 else False

    def finish(self) -> bool:
        """End the window that is under way."""
        return self._end() if self._count else False

    def _end(self) -> bool:
        total, self._total, self._count = self._total, None, 0
        if total is not None:
            total.backward()
        self.state = [tuple(v.detach() for v in fields) for fields in self.state]
        if self.k2 > self.k1:
            extra = len(self._past) - (self.k2 - self.k1)
            if extra > 0:  # move on the state from which the steps that stay are run again
                reached, self.state = self.state, self._past_state
                with torch.no_grad():
                    for step in self._past[:extra]:
                        _one_step(self, *step)
                self._past_state, self.state = self.state, reached
                del self._past[:extra]
        return True

    def tensors(self) -> dict[str, Tensor]:
        """See `Rule.tensors`.

        Raises:
            ValueError: A window is under way, whose losses no tensor holds.
        """
        found = super().tensors()
        if self._count:
            raise ValueError(
                f"a window is under way, {self._count} of {self.k1} steps, and its losses cannot be kept: tensors are "
                "taken where step() returned True, or after finish()"
            )
        for k, fields in enumerate(self._past_state):
            # One that is learnt moves as it is learnt: it is made of the layer's parameters when the stream goes on.
            found |= {f"past.{k}.{i}": v for i, v in enumerate(fields) if not v.requires_grad}
        for n, step in enumerate(self._past):
            found |= {f"step.{n}.{i}": v for i, v in enumerate(step) if v is not None}
        return found

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """See `Rule.restore`."""
        super().restore(tensors)
        named = [[(f"past.{k}.{i}", v) for i, v in enumerate(fields)] for k, fields in enumerate(self._past_state)]
        self._past_state = [
            tuple(v if v.requires_grad and name not in tensors else tensors[name].to(v) for name, v in fields)
            for fields in named
        ]
        self._past = []
        while f"step.{len(self._past)}.0" in tensors:
            n, device = len(self._past), self.state[0][0].device
            x, reset, taken = (tensors.get(f"step.{n}.{i}") for i in range(3))
            assert x is not None
            reset, taken = (None if v is None else v.to(device) for v in (reset, taken))
            self._past.append((x.to(self.state[0][0]), reset, taken))


def detached(state: Any) -> Any:
    """A state without its gradient."""
    if state is None or isinstance(state, Tensor):
        return state if state is None else state.detach()
    values = [detached(v) for v in state]
    return type(state)(*values) if hasattr(state, "_fields") else type(state)(values)


def _rows(x: Tensor, along: int) -> int:
    return x.shape[1 - along] if x.dim() == 3 else 1


def _if_given(lengths: Any) -> dict[str, Any]:
    """PyTorch's own layers know no lengths."""
    return {} if lengths is None else {"lengths": lengths}


def _one_step(rule: Rule, x: Tensor, reset: Tensor | None, taken: Tensor | None) -> Tensor:
    """A step of the layer itself, its gradient going back into the state before."""
    followed = rule._begun_with()
    state = chosen(reset, followed.initial(len(x), x), rule.state) if reset is not None else rule.state
    time = 1 if followed.batch_first else 0
    y, new = followed.module(x.unsqueeze(time), followed.packed(state))
    rule.state = chosen(taken, followed.unpacked(new), state)
    return y.squeeze(time)
