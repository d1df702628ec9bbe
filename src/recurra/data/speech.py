"""Recordings as features, with what was said in them: what `speech` learns from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recurra.data.sequences import AnySchema, Sequences
from recurra.data.units import SPECIAL, Units

SILENCE = -1
"""The piece of a wave that is silence."""


class SpeechSchema(AnySchema):
    """What the training recordings settled."""

    rate: int  # samples a second
    features: list[str]  # a name for each feature of a frame
    output: Literal["label", "transcript"]
    classes: list[str] = Field(default_factory=list)  # label: index -> label
    units: Units | None = None  # transcript: the symbols

    @property
    def symbols(self) -> list[str]:
        """Transcript: what each output but the blank, which is the first, stands for."""
        assert self.units is not None
        return self.units.symbols[len(SPECIAL) :]

    @property
    def outputs(self) -> int:
        """How many numbers the network puts out, the blank's among them."""
        return len(self.classes) if self.output == "label" else 1 + len(self.symbols)


@dataclass(frozen=True)
class Waves:
    """The sound of N recordings, each one or more pieces of what was recorded, and silence.

    Attributes:
        samples: (S,) float32, all that was recorded, end to end.
        bounds: (R + 1,) int64 bounds of the R pieces in it.
        pieces: (P, 2) int64: which piece, and its samples; or SILENCE, and how long it is.
        offsets: (N + 1,) int64 bounds of the recordings among the pieces.
    """

    samples: np.ndarray
    bounds: np.ndarray
    pieces: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> np.ndarray:
        """The samples of one recording, (n,) float32."""
        found = []
        for piece, count in self.pieces[self.offsets[index] : self.offsets[index + 1]].tolist():
            if piece == SILENCE:
                found.append(np.zeros(count, np.float32))
            else:
                found.append(self.samples[self.bounds[piece] : self.bounds[piece + 1]])
        return found[0] if len(found) == 1 else np.concatenate(found)

    @classmethod
    def of(cls, sounds: Sequence[np.ndarray], plan: Sequence[Sequence[tuple[int, int]]] | None = None) -> "Waves":
        """Of sounds as they are, or put together as a plan says: for each recording its pieces, in order.

        Args:
            sounds: R arrays of samples.
            plan: (which sound, any number) or (SILENCE, samples) for each piece of each recording; None for every
                sound by itself.
        """
        bounds = np.cumsum([0, *map(len, sounds)], dtype=np.int64)
        plan = [[(i, 0)] for i in range(len(sounds))] if plan is None else plan
        flat = [
            (piece, count if piece == SILENCE else int(bounds[piece + 1] - bounds[piece]))
            for pieces in plan
            for piece, count in pieces
        ]
        return cls(
            np.concatenate([np.empty(0, np.float32), *sounds]),
            bounds,
            np.array(flat, np.int64).reshape(-1, 2),
            np.cumsum([0, *map(len, plan)], dtype=np.int64),
        )

    def select(self, rows: Sequence[int]) -> "Waves":
        """The named recordings; what was recorded is shared."""
        chosen = [self.pieces[self.offsets[i] : self.offsets[i + 1]] for i in rows]
        pieces = np.concatenate([np.empty((0, 2), np.int64), *chosen])
        return replace(self, pieces=pieces, offsets=np.cumsum([0, *map(len, chosen)], dtype=np.int64))


@dataclass(frozen=True)
class Recordings:
    """N recordings.

    Attributes:
        sounds: Features, (S, D) float32; `targets` are class indices where labels are told, -1 for one that is not
            among the schema's; `ids` how each recording is called.
        symbols: The transcripts' symbols as the network's outputs, from 1, and 0 for one that training never had; None
            where labels are told, or nothing is known.
        texts: The transcripts, or labels, as written; None where nothing is known.
        seconds: (N,) float64.
        waves: The sound itself, where training changes it; else None.
    """

    sounds: Sequences
    symbols: Sequences | None
    texts: list[str] | None
    seconds: np.ndarray
    waves: Waves | None = None

    def __len__(self) -> int:
        return len(self.sounds)

    @property
    def lengths(self) -> Tensor:
        """Frames of each recording, (N,) int64."""
        return self.sounds.lengths

    @property
    def names(self) -> Sequence[str]:
        """How each recording is called."""
        return self.sounds.ids if self.sounds.ids is not None else [str(i) for i in range(len(self))]

    def select(self, rows: Tensor | np.ndarray | Sequence[int]) -> "Recordings":
        """The named recordings, in the order given."""
        chosen = np.asarray(rows).tolist()
        return Recordings(
            self.sounds.select(rows),
            None if self.symbols is None else self.symbols.select(rows),
            None if self.texts is None else [self.texts[i] for i in chosen],
            self.seconds[np.asarray(rows, np.int64)],
            None if self.waves is None else self.waves.select(chosen),
        )


@dataclass(frozen=True)
class SpeechBatch:
    """B recordings padded to the longest, time first.

    Attributes:
        x: (T, B, D) float32; behind a recording's end anything may stand.
        lengths: (B,) int64 on the CPU; None where all have T frames.
        targets: Class indices, (B,); or the symbols of all transcripts, end to end; None where nothing is known.
        target_lengths: Transcripts: (B,) int64 on the CPU; else None.
        indices: (B,) which of the data's recordings these are.
    """

    x: Tensor
    lengths: Tensor | None
    targets: Tensor | None
    target_lengths: Tensor | None
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Tensor, Tensor | None]:
        """What the network is called with."""
        return self.x, self.lengths

    @property
    def samples(self) -> int:
        """Recordings."""
        return len(self)

    @property
    def steps(self) -> int:
        """Frames that are no padding."""
        return self.x.shape[0] * self.x.shape[1] if self.lengths is None else int(self.lengths.sum())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "SpeechBatch":
        """The batch on another device, its features in another precision."""
        targets = None if self.targets is None else self.targets.to(device)
        return replace(self, x=self.x.to(device, dtype), targets=targets)


def collate(data: Recordings, indices: Tensor, features: Sequence[np.ndarray] | None = None) -> SpeechBatch:
    """Pad the named recordings to one batch.

    Args:
        data: All recordings.
        indices: Which of them, (B,).
        features: What is read instead of their own features, (T_i, D) each.
    """
    if features is None:
        lengths = data.lengths[indices]
        steps = torch.arange(int(lengths.max())).unsqueeze(1)
        x = data.sounds.values[data.sounds.offsets[indices] + steps.minimum(lengths - 1)]
    else:
        lengths = torch.tensor([len(each) for each in features])
        x = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(each) for each in features])
    equal = bool((lengths == lengths[0]).all())
    targets, counts = data.sounds.targets, None
    if targets is not None:
        targets = targets[indices]
    elif data.symbols is not None:
        chosen = data.symbols.select(indices)
        targets, counts = chosen.values.long(), chosen.lengths
    return SpeechBatch(x, None if equal else lengths, targets, counts, indices)
