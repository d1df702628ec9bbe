"""What a learning rule is: an object that finds the gradient of a loss by the parameters of a recurrent layer.

A rule serves in two ways. `along` runs whole sequences, and what it returns can be made a loss of and differentiated by
PyTorch like any layer's output, but the gradient that arrives at the parameters is the rule's. And on a stream that
never ends, `begin`, then for every step a call with the input, and `step` with the loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from recurra.engine.eager import State
from recurra.learn.followed import Followed


class Rule(ABC):
    """How the gradient of a recurrent layer's parameters is found."""

    name: ClassVar[str]
    """What a recipe calls it."""
    summary: ClassVar[str]

    def __init__(self) -> None:
        self._followed: Followed | None = None
        self._rows: int | None = None
        self.state: list[State] = []
        """On a stream: each layer's state, each field (B, width)."""

    # --- whole sequences --------------------------------------------------------------------------------------------

    @abstractmethod
    def along(
        self,
        layer: nn.Module,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
    ) -> tuple[Tensor, Any]:
        """Run a layer over sequences, so that backpropagation from its output gives the parameters the rule's gradient.

        Args:
            layer: A `Recurrent`, a drop-in, or PyTorch's own.
            x: As the layer takes it.
            state: The final state of the call before, where these sequences go on with those of that call; None where
                they begin. No gradient passes into it. Rows that are no longer as that call left them, as where one
                sequence has ended and another begins, have nothing behind them that a gradient could go back to.
            lengths: (B,) steps of each sequence.

        Returns:
            As the layer returns them: the output at every step, and the final state.

        Raises:
            ValueError: The rule cannot take this layer; which part of it, and why.
        """

    def carried(self) -> dict[str, Tensor]:
        """What `along` keeps for sequences that go on in its next call, for a checkpoint."""
        return {}

    def carry_on(self, layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:  # noqa: B027 most keep nothing
        """Go on from what `carried` gave.

        Raises:
            KeyError: Something is missing.
        """

    # --- a stream ---------------------------------------------------------------------------------------------------

    def begin(self, layer: nn.Module, rows: int | None = None) -> Self:
        """Begin a stream with a layer.

        Args:
            layer: A `Recurrent` in one direction, a drop-in, or PyTorch's own.
            rows: Rows B of the batch: streams that take their steps together; None for one, whose x is (I,).

        Returns:
            The rule itself.

        Raises:
            ValueError: The rule cannot take this layer; which part of it, and why. Or `rows` is no number from 1 on.
        """
        followed = Followed(layer)
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise ValueError(
                f"rows: a whole number from 1 on is expected, or None for one without an axis, not {rows!r}"
            )
        check_products(followed, "a stream")
        future = followed.reads_the_future
        if future is not None:
            raise ValueError(f"layer: {future} reads the future, and a stream has none as yet; False is expected")
        self._check(followed)
        self._followed, self._rows = followed, rows
        like = next(layer.parameters(), torch.empty(0))  # a plain function may have none
        like = like.detach().new_empty(rows or 1, followed.input_sizes[0])
        self.state = followed.initial(rows or 1, like)
        self._begun()
        return self

    def __call__(self, x: Tensor, reset: Tensor | bool | None = None, taken: Tensor | None = None) -> Tensor:
        """Take a step of the stream.

        Args:
            x: (I,), or (B, I) where there are rows.
            reset: Whether the state is set to the initial one before the step; (B,) for each row.
            taken: (B,), False for rows that take no step now: a stream that has ended or has nothing to say.

        Returns:
            The output of the last layer, (H,) or (B, H), from which a loss can be made; zeros in rows that take no
            step.

        Raises:
            ValueError: The stream has not begun, or sizes do not fit.
        """
        followed = self._begun_with()
        expected = (self._rows, followed.input_sizes[0]) if self._rows else (followed.input_sizes[0],)
        if not isinstance(x, Tensor) or tuple(x.shape) != expected:
            found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(f"x: a tensor {expected} is expected, not {found}")
        rows = self._rows or 1
        flags = []
        for name, given in (("reset", reset), ("taken", taken)):
            if given is not None:
                given = torch.as_tensor(given, dtype=torch.bool, device=x.device)
                if given.dim() == 0:
                    given = given.expand(rows)
                if tuple(given.shape) != (rows,):
                    raise ValueError(f"{name}: ({rows},) is expected, not {tuple(given.shape)}")
                if (name == "reset" and not given.any()) or (name == "taken" and given.all()):
                    given = None
            flags.append(given)
        output = self._stepped(x if self._rows else x.unsqueeze(0), *flags)
        if flags[1] is not None:  # as a layer does where a step is masked
            output = torch.where(flags[1].unsqueeze(-1), output, 0)
        return output if self._rows else output.squeeze(0)

    @abstractmethod
    def step(self, loss: Tensor | None) -> bool:
        """Learn from the step just taken: add to the gradients, `.grad`, of all parameters that the loss depends on.

        Args:
            loss: A scalar made of the last output; None where there is nothing to learn from at this step.

        Returns:
            Whether the gradients are whole, so that the parameters may move: after every step, or at the end of a
            window.
        """

    def finish(self) -> bool:
        """End what is under way, where a rule adds gradients up over several steps: the stream ends here for now.

        Returns:
            Whether gradients were added.
        """
        return False

    def tensors(self) -> dict[str, Tensor]:
        """Everything that the rest of a stream depends on, for a checkpoint.

        Raises:
            ValueError: The stream has not begun.
        """
        self._begun_with()
        return {f"state.{k}.{i}": v.detach() for k, fields in enumerate(self.state) for i, v in enumerate(fields)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` gave, once the stream has begun anew with a layer of the same sizes.

        Raises:
            KeyError: Something is missing, or of another size or layer.
        """
        self._begun_with()
        expected = {f"state.{k}.{i}": v for k, fields in enumerate(self.state) for i, v in enumerate(fields)}
        check_fit(tensors, expected, "state.")
        self.state = [
            tuple(tensors[f"state.{k}.{i}"].to(v) for i, v in enumerate(fields)) for k, fields in enumerate(self.state)
        ]

    # --- what rules say ---------------------------------------------------------------------------------------------

    def check(self, layer: nn.Module, learns_below: bool = False) -> None:
        """Refuse what the rule cannot take.

        Args:
            layer: A `Recurrent`, a drop-in, or PyTorch's own.
            learns_below: Whether x is made with parameters, such as an embedding.

        Raises:
            TypeError: It is no such layer.
            ValueError: Which part of it the rule cannot take, and why.
        """
        self._check(Followed(layer))

    def _check(self, followed: Followed) -> None:  # noqa: B027 a rule may take every layer
        """`check`, of the layer itself."""

    @abstractmethod
    def _begun(self) -> None:
        """Set up what the rule keeps, at the beginning of a stream."""

    @abstractmethod
    def _stepped(self, x: Tensor, reset: Tensor | None, taken: Tensor | None) -> Tensor:
        """Take a step with (B, I); the output, (B, H)."""

    def _begun_with(self) -> Followed:
        if self._followed is None:
            raise ValueError("the stream has not begun: rule.begin(layer) comes first")
        return self._followed

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def check_products(followed: Followed, what: str) -> None:
    """Refuse a layer whose products are convolutions, for what needs rows of numbers.

    Raises:
        ValueError: It is one.
    """
    if followed.is_of_frames:
        raise ValueError(
            f"layer: its products are convolutions, and {what} needs a state that is a row; the rule bptt, along whole "
            "sequences, takes it"
        )


def check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], prefix: str) -> None:
    """Refuse tensors of a checkpoint that are those of another rule or layer.

    Raises:
        KeyError: One is missing, one too many, or of another shape.
    """
    for name, v in expected.items():
        if name not in tensors:
            raise KeyError(f"{name}: it is missing; this is what another rule or another layer kept")
        if tensors[name].shape != v.shape:
            found = tuple(tensors[name].shape)
            raise KeyError(f"{name}: {tuple(v.shape)} is expected, not {found}; a layer of other sizes kept it")
    for name in tensors:
        if name.startswith(prefix) and name not in expected:
            raise KeyError(f"{name}: there is no place for it; this is what another rule or another layer kept")


def check_loss(loss: object) -> None:
    """Refuse a loss that cannot be learnt from.

    Raises:
        TypeError: It is no tensor.
        ValueError: It is no scalar, or has no gradient.
    """
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss: a tensor made of the last output is expected, or None, not {type(loss).__name__}")
    if loss.dim():
        raise ValueError(f"loss: a scalar is expected, not {tuple(loss.shape)}; loss.sum() or loss.mean() is one")
    if not loss.requires_grad:
        raise ValueError("loss: it has no gradient; one made of the last output is expected, outside torch.no_grad()")


def changed(before: Sequence[State], now: Sequence[State]) -> Tensor | None:
    """Rows in which any layer's state is another one, (B,); None where all are the same."""
    found = None
    for fields, others in zip(before, now, strict=True):
        for a, b in zip(fields, others, strict=True):
            if a.shape != b.shape:
                return torch.ones(len(b), dtype=torch.bool, device=b.device)
            if not torch.equal(a, b):
                rows = (a != b).any(-1)
                found = rows if found is None else found | rows
    return found


def chosen(rows: Tensor | None, yes: Sequence[State], no: Sequence[State]) -> list[State]:
    """For each layer the state of the first where `rows`, (B,), is True, elsewhere of the second; of all where None."""
    if rows is None:
        return list(yes)
    return [
        tuple(torch.where(rows.unsqueeze(-1), a, b) for a, b in zip(first, second, strict=True))
        for first, second in zip(yes, no, strict=True)
    ]
