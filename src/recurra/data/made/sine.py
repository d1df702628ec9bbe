"""A sine wave in segments."""

from typing import ClassVar

import numpy as np
from pydantic import Field

from recurra.data.made.source import Made
from recurra.data.records import Records

SAMPLES = 20
"""Steps of one segment."""


class Sine(Made):
    """A sine wave in segments of half a period, in order: from each sample the next is predicted.

    Segment k has 21 samples of sin over [kπ, (k + 1)π]; the first 20 are the input, the last 20 the targets:
    the often copied first example of `torch.nn.RNN`, a sine from which its lagging copy is made.
    """

    name: ClassVar[str] = "sine"
    task: ClassVar[str] = "regress"
    summary: ClassVar[str] = "a sine wave in segments, in order: the next value at every step"

    training: int = Field(default=100, ge=1, description="segments of the training part")
    test: int = Field(default=20, ge=1, description="segments of the test part, which follow")

    def parts(self) -> dict[str, Records]:
        """See `Made.parts`."""
        return {"train": _segments(0, self.training), "test": _segments(self.training, self.training + self.test)}


def _segments(start: int, stop: int) -> Records:
    waves = np.stack([np.sin(np.linspace(k * np.pi, (k + 1) * np.pi, SAMPLES + 1)) for k in range(start, stop)])
    return Records(
        values=waves[:, :-1].astype(np.float32).reshape(-1, 1),
        offsets=np.arange(stop - start + 1, dtype=np.int64) * SAMPLES,
        features=["value"],
        numbers=waves[:, 1:].astype(np.float32).reshape(-1, 1),
        targets=["next"],
        per_step=True,
        place=lambda index: f"sine, segment {start + index}",
    )
