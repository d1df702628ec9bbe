"""The network behind `notes`: frames of a piano roll in, and at every step what is said of the next frame."""

import functools
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.data.rolls import KEYS
from recurra.learn.regularise import Hidden
from recurra.learn.rule import Rule
from recurra.nn.nade import Nade, heated
from recurra.tasks.model import LayerSettings, Network, RecurrentSettings, Width, layers_of

DRAWS = 32
"""Draws by which the probability of a key by itself is found, where keys depend on each other."""


class RollModelSettings(LayerSettings):
    """The `model.*` settings of notes."""

    cell: str = Field(default="lstm", description=RecurrentSettings.model_fields["cell"].description)
    hidden_size: Width | list[Width] = Field(
        default=128, description=RecurrentSettings.model_fields["hidden_size"].description
    )
    bidirectional: bool | None = Field(
        default=None, description="false: what is to be predicted is what the other direction would have read"
    )
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers before the keys")
    output_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share dropped before the keys, alike at every step"
    )
    keys: Literal["independent", "nade"] = Field(
        default="independent",
        description="independent: each key by itself, given the past; nade: each also sees the keys below it in its "
        "own frame, so that chords are drawn as wholes",
    )
    nade_size: int = Field(default=64, ge=1, description="nade: width of the layer through which keys see each other")


class RollModel(Network):
    """Frames in, and at every step what the next frame may be (eq. 6.22 with y_t = x_(t+1)).

    Recurrent layers in one direction or a time-delay network, perhaps hidden layers, and 88 keys.

    Args:
        settings: The `model.*` settings.
    """

    def __init__(self, settings: RollModelSettings) -> None:
        super().__init__()
        self.embedding = None
        self.recurrent = layers_of(settings, KEYS, forward_only=True)
        width = self.recurrent.output_size
        layers: list[nn.Module] = []
        for hidden in settings.head:
            layers += [nn.Linear(width, hidden), nn.ReLU()]
            width = hidden
        self.head = nn.Sequential(*layers)
        self.output: nn.Linear | Nade = (
            nn.Linear(width, KEYS) if settings.keys == "independent" else Nade(width, KEYS, settings.nade_size)
        )
        self.output_dropout = settings.output_dropout

    def start_from(self, frequencies: Tensor) -> None:
        """Begin with keys as often as they sound, (88,), each from above 0 to below 1."""
        layer = self.output if isinstance(self.output, nn.Linear) else self.output.bias
        with torch.no_grad():
            layer.bias.copy_(frequencies.logit())

    def inputs(self, x: Tensor) -> Tensor:
        """What the first recurrent layer reads: the frames as they are."""
        return x

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """What the keys are told by, and the final state.

        Args:
            x: (T, B, 88), the frame before each one.
            lengths: (B,) or None where all have T steps.
            state: The recurrent layers' state to begin with.
            rule: What finds the gradient of the recurrent layers; automatic differentiation where None.

        Returns:
            (T, B, W), for `logits`, `draw` and `probabilities`; the recurrent layers' final state.
        """
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        output, final = run(self.inputs(x), state, lengths=lengths)
        return self.said(output, final, lengths), final

    def step(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """The same of one frame for each row, (B, 88)."""
        output, final = self.recurrent.step(x, state)
        return self.said(output, final, None), final

    def said(self, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
        """What the keys are told by, made of the recurrent layers' output."""
        seen = output
        if self.output_dropout and self.training:  # one mask along time, as in the layers (Gal & Ghahramani 2016)
            keep = 1 - self.output_dropout
            mask = torch.rand(1, *output.shape[1:], device=output.device) < keep
            seen = output * (mask.to(output.dtype) / keep)
        if self.keep_hidden:
            self.hidden = Hidden(output, seen, lengths)
        return self.head(seen)

    def logits(self, seen: Tensor, frames: Tensor) -> Tensor:
        """The logit of each key of frames that are known; of `nade`, given the keys below it as they are.

        Args:
            seen: (M, W), rows of what `forward` returns.
            frames: (M, 88) of zeros and ones.
        """
        seen = self._own(seen)
        return self.output(seen) if isinstance(self.output, nn.Linear) else self.output.logits(seen, frames)

    def _own(self, seen: Tensor) -> Tensor:
        """In the parameters' type: Fabric hands on single precision."""
        return seen.to(next(self.output.parameters()).dtype)

    def nats(self, seen: Tensor, frames: Tensor) -> Tensor:
        """-log p of frames, (M,): the sum over the 88 keys."""
        seen = self._own(seen)
        frames = frames.to(seen.dtype)
        return F.binary_cross_entropy_with_logits(self.logits(seen, frames), frames, reduction="none").sum(-1)

    @torch.no_grad()
    def draw(self, seen: Tensor, uniform: Tensor, temperature: float = 1.0) -> Tensor:
        """Frames drawn, (M, 88) of zeros and ones.

        Args:
            seen: (M, W).
            uniform: (M, 88), random numbers from 0 to 1: a key sounds where its own is below its probability.
            temperature: Logits are divided by it; at 0 a key sounds where that is more probable than not.
        """
        seen = self._own(seen)
        if isinstance(self.output, Nade):
            return self.output.draw(seen, uniform, temperature)[0]
        return (uniform < heated(self.output(seen), temperature)).to(seen.dtype)

    @torch.no_grad()
    def probabilities(self, seen: Tensor) -> Tensor:
        """The probability that each key sounds, by itself, (M, 88); of `nade` about, by draws from seed 0."""
        seen = self._own(seen)
        if isinstance(self.output, Nade):
            return self.output.marginals(seen, DRAWS)
        return self.output(seen).sigmoid()
