"""From ragged sequences to padded batches, in an order that depends on the seed and the epoch alone."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recurra.data.reader import Data
from recurra.data.sequences import Sequences

POOL = 50
"""Batches whose sequences are sorted by length together: enough that lengths in a batch are alike, few enough that
batches still differ from epoch to epoch."""


@dataclass(frozen=True)
class Batch:
    """B sequences padded to the longest.

    Attributes:
        x: Numbers, (T, B, D) float32, or token indices, (T, B) int64; zero (padding) behind a sequence's end.
        lengths: (B,) int64 on the CPU, or None where every sequence has T steps.
        targets: As in `Sequences`, a row a sequence; per step (T, B, K), or (T, B) of class indices.
        asked: Per step: (T, B) bool, the steps that have a target and are no padding; None where all are such.
        indices: (B,) which of the data's sequences these are.
    """

    x: Tensor
    lengths: Tensor | None
    targets: Tensor | None
    indices: Tensor
    asked: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None]:
        """What a network is called with."""
        return self.x, self.lengths

    @property
    def samples(self) -> int:
        """Sequences."""
        return len(self)

    @property
    def steps(self) -> int:
        """Steps that are no padding."""
        return self.x.shape[0] * self.x.shape[1] if self.lengths is None else int(self.lengths.sum())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Batch":
        """The batch on another device, its numbers in another precision."""
        kind = dtype if self.x.is_floating_point() else None
        targets = self.targets
        if targets is not None:
            targets = targets.to(device, dtype if targets.is_floating_point() else None)
        asked = None if self.asked is None else self.asked.to(device)
        return replace(self, x=self.x.to(device, kind), targets=targets, asked=asked)

    def window(self, first: int, stop: int) -> "Batch":
        """Some steps of a batch that has a target at every step."""
        stop = min(stop, len(self.x))
        targets, asked = (None if v is None else v[first:stop] for v in (self.targets, self.asked))
        lengths = None if self.lengths is None else (self.lengths - first).clamp(0, stop - first)
        return replace(self, x=self.x[first:stop], lengths=lengths, targets=targets, asked=asked)

    @property
    def targets_asked(self) -> int:
        """Steps that have a target, of a batch that has one at every step."""
        return int(self.asked.sum()) if self.asked is not None else self.x.shape[0] * self.x.shape[1]


def collate(data: Sequences, indices: Tensor) -> Batch:
    """Pad the named sequences to one batch, time first."""
    lengths = data.lengths[indices]
    T = int(lengths.max())
    equal = bool((lengths == T).all())
    steps = torch.arange(T).unsqueeze(1)
    places = data.offsets[indices] + (steps if equal else steps.minimum(lengths - 1))
    x = data.values[places]
    x = x.float() if x.dim() == 3 else x.long()
    targets = data.targets
    if targets is not None:
        targets = targets[places] if data.per_step else targets[indices]
    asked = data.asked[places] if data.asked is not None else None
    if not equal:
        padded = steps >= lengths
        x = _cleared(x, padded)
        if targets is not None and data.per_step:
            targets = _cleared(targets, padded)
            asked = ~padded if asked is None else asked & ~padded
    return Batch(x, None if equal else lengths, targets, indices, asked)


def _cleared(values: Tensor, padded: Tensor) -> Tensor:
    """Zero where `padded`, (T, B); `values` may have a further axis."""
    return values.masked_fill(padded.unsqueeze(-1) if values.dim() == 3 else padded, 0)


def epoch_plan(
    data: Data, batch_size: int, *, seed: int, epoch: int, shuffle: bool, bucket: bool, steps: int | None = None
) -> list[Tensor]:
    """The batches of one epoch, as the indices of their sequences.

    Drawn from `(seed, epoch)` alone, so that a run taken up again in the middle of an epoch meets the same batches.

    Args:
        data: The sequences.
        batch_size: Sequences in a batch; the last one may have fewer.
        seed: The run's seed.
        epoch: Which epoch, from 0.
        shuffle: Draw an order; else the data's own.
        bucket: Put sequences of like length into one batch, so that little is padded.
        steps: Steps that a batch has at most, padding counted, in place of a number of sequences; a sequence that is
            longer is a batch by itself. As many batches in every epoch, if sequences are put together by length.
    """
    n = len(data)
    batch_size = min(batch_size, max(1, n))
    lengths = data.lengths
    if not shuffle:
        order = torch.arange(n)
        return list(order.split(batch_size)) if steps is None else by_steps(order, lengths, steps)
    generator = epoch_generator(seed, epoch)
    order = torch.randperm(n, generator=generator)
    if not bucket or bool((lengths == lengths[0]).all()):
        return list(order.split(batch_size)) if steps is None else by_steps(order, lengths, steps)
    if steps is not None:  # all together: cut by the lengths alone, however those that are equal are ordered
        batches = by_steps(order[torch.sort(lengths[order], stable=True).indices], lengths, steps)
    else:
        batches = []
        for pool in order.split(batch_size * POOL):
            batches += pool[torch.sort(lengths[pool], stable=True).indices].split(batch_size)
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def epoch_generator(seed: int, epoch: int) -> torch.Generator:
    """The random numbers that settle the order of an epoch."""
    return torch.Generator().manual_seed((seed * 1_000_003 + epoch) % 2**63)


def by_steps(order: Tensor, lengths: Tensor, steps: int) -> list[Tensor]:
    """Cut an order into batches of at most so many steps, padding counted; a longer sequence is one by itself.

    Args:
        order: Indices of sequences, (M,).
        lengths: Steps of each sequence, (N,).
        steps: The most steps.
    """
    sizes, count, longest = [], 0, 0
    for length in lengths[order].tolist():
        longest = max(longest, length)
        if count and (count + 1) * longest > steps:
            sizes.append(count)
            count, longest = 0, length
        count += 1
    return list(order.split([*sizes, count])) if len(order) else []


def by_length(data: Data, batch_size: int) -> list[Tensor]:
    """Every sequence once, in batches of like length: the order in which a model is evaluated."""
    return list(torch.sort(data.lengths, stable=True).indices.split(batch_size))
