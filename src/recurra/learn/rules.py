"""Learning rules: objects that put the gradient of a batch into the parameters.

The training loop knows nothing of how a gradient is found; it calls `Rule.gradients` and then takes the optimiser's
step. A rule may carry a state from batch to batch; it is part of the checkpoint.
"""

from collections.abc import Callable
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class LearnSettings(BaseModel):
    """The `learn.*` settings of a recipe."""

    model_config = ConfigDict(extra="forbid")

    rule: Literal["bptt"] = Field(
        default="bptt", description="how the gradient is found: bptt, backpropagation through time"
    )
    carry_state: bool = Field(
        default=False,
        description="begin each batch with the state that the last one ended with (its gradient stops there)",
    )


Model = Callable[..., tuple[Tensor, Any]]
"""A model: `(x, lengths, state) -> (outputs, final state)`."""


class Rule(Protocol):
    """How the gradient of a batch is found."""

    state: tuple[Tensor, ...] | None
    """What the rule carries from batch to batch."""

    def gradients(
        self, model: Model, batch: Any, loss: Callable[[Tensor, Any], Tensor], backward: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of the batch's loss to the parameters' `.grad`.

        Args:
            model: The model.
            batch: A `recurra.data.batches.Batch` on the model's device.
            loss: `(outputs, batch) -> scalar`.
            backward: Runs automatic differentiation from a scalar (it may scale it).

        Returns:
            The loss, detached, and the model's outputs, detached.
        """
        ...


class BPTT:
    """Backpropagation through time (eqs 6.29-6.39): the exact gradient over the whole of each sequence.

    Args:
        carry_state: Begin each batch with the state that the last one ended with. The gradient does not cross from
            batch to batch.
    """

    def __init__(self, carry_state: bool = False) -> None:
        self.carry_state = carry_state
        self.state: tuple[Tensor, ...] | None = None

    def gradients(
        self, model: Model, batch: Any, loss: Callable[[Tensor, Any], Tensor], backward: Callable[[Tensor], None]
    ) -> tuple[Tensor, Tensor]:
        """See `Rule.gradients`."""
        outputs, final = model(batch.x, batch.lengths, self.state)
        value = loss(outputs, batch)
        backward(value)
        if self.carry_state:
            self.state = tuple(field.detach() for field in final)
        return value.detach(), outputs.detach()


RULES: dict[str, Callable[[LearnSettings], Rule]] = {"bptt": lambda settings: BPTT(settings.carry_state)}
"""Every learning rule by name."""
