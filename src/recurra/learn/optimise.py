"""Optimisers, learning-rate schedules, clipping and decay."""

import math
from collections.abc import Iterable
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

Decay = Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(BaseModel):
    """The `train.*` settings of a recipe that every task has."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    optimizer: Literal["adam", "adamw", "sgd"] = Field(default="adamw", description="how a step is taken")
    lr: float = Field(default=3e-3, gt=0, description="learning rate (its highest value, under a schedule)")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd: momentum")
    betas: tuple[Decay, Decay] = Field(default=(0.9, 0.999), description="adam, adamw: decay of the two running means")
    weight_decay: float = Field(default=0.0, ge=0, description="the optimiser's weight decay (decoupled in adamw)")
    l1: float = Field(default=0.0, ge=0, description="weight of the sum of |w| over matrices, added to the loss")
    l2: float = Field(default=0.0, ge=0, description="weight of the sum of w²/2 over matrices, added to the loss")
    schedule: Literal["constant", "warmup", "cosine", "one_cycle"] = Field(
        default="one_cycle",
        description="constant; warmup: rises, then constant; cosine: rises, then falls; one_cycle: low, high, lower",
    )
    warmup: float = Field(default=0.2, ge=0, lt=1, description="share of the updates in which the learning rate rises")
    final_lr: float = Field(
        default=0.001, ge=0, le=1, description="cosine, one_cycle: last learning rate over the highest"
    )
    batch_size: int = Field(default=32, ge=1, description="sequences in a batch")
    accumulate: int = Field(default=1, ge=1, description="batches whose gradients make up one update")
    epochs: int | None = Field(
        default=None, ge=1, description="times through the training part; fitted to its size when left out"
    )
    samples: int | None = Field(default=None, ge=1, description="sequences to see in all, instead of epochs")
    clip_norm: float = Field(
        default=1.0, ge=0, description="largest norm of the gradient; a longer one is shortened to it; 0: none"
    )
    clip_value: float = Field(default=0.0, ge=0, description="largest absolute value of a gradient's entry; 0: none")
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
        return self


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings name. Decay spares biases and other vectors."""
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum)
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=settings.lr, betas=settings.betas)


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


@torch.no_grad()
def add_decay(parameters: Iterable[nn.Parameter], l1: float, l2: float) -> None:
    """Add the gradient of `l1 Σ|w| + l2 Σ w²/2` over the matrices (biases and other vectors are spared)."""
    for p in parameters:
        if p.grad is not None and p.dim() > 1:
            if l1:
                p.grad.add_(p.sign(), alpha=l1)
            if l2:
                p.grad.add_(p, alpha=l2)


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], norm: float, value: float) -> Tensor:
    """Clip the gradients, by value first, then by norm; returns the norm that they had before.

    A gradient longer than `norm` is shortened to it, its direction kept (Pascanu et al. 2013). A bound of 0 is none.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    before = nn.utils.get_total_norm(gradients)
    if value:
        for g in gradients:
            g.clamp_(-value, value)
    if norm:
        length = nn.utils.get_total_norm(gradients) if value else before
        factor = (norm / (length + 1e-12)).clamp(max=1.0)
        for g in gradients:
            g.mul_(factor)
    return before
