"""Optimisers, learning-rate schedules and clipping; and the settings of all training."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from recurra.learn.regularise import is_diagonal, is_matrix

Decay = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]


class TrainSettings(BaseModel):
    """The `train.*` settings of a recipe that every task has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adamw", description="how a step is taken")
    lr: float = Field(default=3e-3, gt=0, description="learning rate (its highest value, under a schedule)")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd: momentum")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="adam, adamw: decay of the two running means")
    weight_decay: float = Field(default=0.0, ge=0, description="the optimiser's weight decay (decoupled in adamw)")
    l1: Weight | dict[str, Weight] = Field(
        default=0.0,
        description="weight of the sum of |w|, added to the loss: one number for all matrices, or a table for chosen "
        'ones, such as { U = 1e-4, W_f = 1e-3, "*_l0" = 0 }',
    )
    l2: Weight | dict[str, Weight] = Field(
        default=0.0, description="weight of the sum of w²/2, added to the loss, likewise"
    )
    activation_l2: float = Field(
        default=0.0,
        ge=0,
        description="weight of the mean of h² over what the last recurrent layer puts out, added to the loss",
    )
    temporal_l2: float = Field(
        default=0.0, ge=0, description="weight of the mean of (h_t - h_(t-1))², likewise: a state that changes slowly"
    )
    error_norm: float = Field(
        default=0.0,
        ge=0,
        description="weight of the mean of (‖δ_k ∂s_k/∂s_(k-1)‖ / ‖δ_k‖ - 1)², added to the loss: errors δ that do not "
        "vanish on their way back; many times as much work",
    )
    schedule: Literal["constant", "warmup", "cosine", "one_cycle"] = Field(
        default="one_cycle",
        description="constant; warmup: rises, then constant; cosine: rises, then falls; one_cycle: low, high, lower",
    )
    warmup: float = Field(default=0.2, ge=0, lt=1, description="share of the updates in which the learning rate rises")
    final_lr: float = Field(
        default=0.001, ge=0, le=1, description="cosine, one_cycle: last learning rate over the highest"
    )
    batch_size: int = Field(default=32, ge=1, description="sequences in a batch")
    batch_steps: int | None = Field(
        default=None,
        ge=1,
        description="steps (tokens) in a batch, padding counted, instead of batch_size: many short sequences or few "
        "long ones",
    )
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make up one update")
    epochs: int | None = Field(
        default=None, ge=1, description="times through the training part; fitted to its size when left out"
    )
    samples: int | None = Field(default=None, ge=1, description="sequences to see in all, instead of epochs")
    clip_norm: float = Field(
        default=1.0, ge=0, description="largest norm of the gradient; a longer one is shortened to it; 0: none"
    )
    clip_value: float = Field(default=0.0, ge=0, description="largest absolute value of a gradient's entry; 0: none")
    clip_adaptive: float = Field(
        default=0.0,
        ge=0,
        description="largest norm of the gradient of a unit's weights over the norm of these weights; 0: none",
    )
    clip_quantile: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="shorten gradients to this quantile of the norms so far: 0.1 to what a tenth were below; 0: none",
    )
    early_stopping: int | None = Field(
        default=None, ge=1, description="stop after so many evaluations without a better one (needs a validation part)"
    )
    evaluate_every: int | None = Field(
        default=None, ge=1, description="updates between evaluations; once an epoch when left out"
    )
    select: Literal["best", "last"] = Field(
        default="best", description="keep the weights that did best on the validation part, or the last"
    )
    average: float = Field(
        default=0.0, ge=0, lt=1, description="evaluate and keep a running mean of the weights with this decay; 0: none"
    )
    average_after: int | None = Field(
        default=None,
        ge=1,
        description="evaluations without a better one, after which the plain mean of all further weights is evaluated "
        "and kept (averaged SGD)",
    )
    shuffle: bool = Field(default=True, description="draw a new order for every epoch")
    bucket: bool = Field(default=True, description="put sequences of like length into one batch")
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1, mps")
    precision: Literal["32-true", "bf16-mixed", "64-true"] = Field(
        default="32-true", description="number format, in Lightning Fabric's words"
    )
    threads: int = Field(
        default=0, ge=0, description="processor threads; 0: one for small networks, PyTorch's number for others"
    )
    checkpoint_seconds: float = Field(
        default=30.0, ge=0, description="seconds between checkpoints, apart from those at evaluations"
    )

    @model_validator(mode="after")
    def _either_epochs_or_samples(self) -> "TrainSettings":
        if self.epochs and self.samples:
            raise ValueError("epochs and samples both given; one of them says how long to train")
        if self.batch_steps and self.shuffle and not self.bucket:
            raise ValueError(
                "batch_steps: batches differ in number where sequences are not put together by length; bucket is to be "
                "true"
            )
        if self.average and self.average_after:
            raise ValueError("average and average_after both given; one of them says which mean is kept")
        return self


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]], settings: TrainSettings, fused: bool = False
) -> torch.optim.Optimizer:
    """The optimiser that the settings name, of named parameters. Decay spares biases and other vectors.

    Args:
        parameters: With their names.
        settings: Which optimiser, and its numbers.
        fused: Take a step in one operation a parameter, where PyTorch has it for the device: a third of the time for
            small networks, which counts where a step is taken at every row.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for name, p in parameters if is_matrix(name, p)], "weight_decay": settings.weight_decay},
        {"params": [p for name, p in parameters if not is_matrix(name, p)], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, fused=fused or None)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr, betas=settings.betas, fused=fused or None)


def learning_rate(step: int, total: int, settings: TrainSettings) -> float:
    """The learning rate of update `step` (from 0) of `total`.

    one_cycle starts at lr/25, rises to lr and falls to `final_lr` of it, both along a cosine (Smith & Topin 2018).
    """
    lr, rise = settings.lr, settings.warmup * total
    if settings.schedule == "constant":
        return lr
    if settings.schedule == "one_cycle":
        if step < rise:
            return _along_cosine(lr / 25, lr, step / rise)
        return _along_cosine(lr, lr * settings.final_lr, (step - rise) / max(1, total - 1 - rise))
    if step < rise:
        return lr * (step + 1) / (math.floor(rise) + 1)
    if settings.schedule == "warmup":
        return lr
    return _along_cosine(lr, lr * settings.final_lr, (step - rise) / max(1, total - 1 - rise))


def _along_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * min(1.0, max(0.0, share)))) / 2


REMEMBERED = 1000
"""Norms of so many updates are what `clip_quantile` looks back on."""


@torch.no_grad()
def clip(parameters: Mapping[str, nn.Parameter], settings: TrainSettings, earlier: Sequence[float] = ()) -> float:
    """Clip the gradients: unit by unit, then by value, then by norm. Returns the norm that they had before.

    A gradient longer than `clip_norm` is shortened to it, its direction kept (Pascanu, Mikolov & Bengio 2013); and so
    is one longer than the quantile `clip_quantile` of the norms so far, this one among them (AutoClip; Seetharaman et
    al. 2020; here of the last thousand norms at the most). Where the norm is no finite number nothing is done.

    Args:
        parameters: By name.
        settings: The bounds; one of 0 is none.
        earlier: The norms that earlier calls returned.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    length = _norm(gradients)
    before = float(length)
    if not math.isfinite(before):
        return before
    if settings.clip_adaptive:
        _clip_by_unit(parameters, settings.clip_adaptive)
    if settings.clip_value:
        for g in gradients:
            g.clamp_(-settings.clip_value, settings.clip_value)
    bounds = [settings.clip_norm] if settings.clip_norm else []
    if settings.clip_quantile:
        bounds.append(float(np.quantile([*earlier[-(REMEMBERED - 1) :], before], settings.clip_quantile)))
    if bounds:
        if settings.clip_adaptive or settings.clip_value:
            length = _norm(gradients)
        factor = (min(bounds) / (length + 1e-12)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor)
    return before


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together, in double precision where its square is too large for single."""
    norm = nn.utils.get_total_norm(gradients)
    if norm.isfinite() or norm.device.type == "mps":  # which has no double precision
        return norm
    return nn.utils.get_total_norm([g.double() for g in gradients])


SMALLEST = 1e-3
"""Norm that `clip_adaptive` takes a unit's weights to have at least, so that weights of zero can learn."""


def _clip_by_unit(parameters: Mapping[str, nn.Parameter], bound: float) -> None:
    """Adaptive gradient clipping (Brock et al. 2021, eq. 3), but of the last layer, `output`, which the paper spares.

    The gradient of what one unit multiplies its inputs with, a row of a matrix, is shortened to `bound` times the norm
    of that row; one of a bias or another vector, as a whole.
    """
    for name, p in parameters.items():
        if p.grad is None or name.startswith("output."):
            continue
        rows, slopes = (v.unsqueeze(-1) if is_diagonal(name, p) else v for v in (p, p.grad))
        largest = bound * rows.norm(dim=-1, keepdim=True).clamp(min=SMALLEST)
        slopes.mul_((largest / slopes.norm(dim=-1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0))
