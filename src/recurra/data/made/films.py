"""What films that are drawn have in common: shapes without jagged edges, and how frames become records."""

from typing import ClassVar

import numpy as np

from recurra.data.made.source import Drawn
from recurra.data.records import Records, StepLabels


class Film(Drawn):
    """A source of clips: frames of grey from 0 to 1."""

    task: ClassVar[str] = "frames"


def grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """The middles of the pixels of a square frame, x and y, (size, size) each; the frame goes from 0 to `size`."""
    y, x = np.mgrid[:size, :size] + 0.5
    return x, y


def covered(distance: np.ndarray) -> np.ndarray:
    """How much of each pixel a shape covers, from the signed distance of its middle to the shape's edge, in pixels:
    from 1 half a pixel within it to 0 half a pixel outside."""
    return np.clip(0.5 - distance, 0.0, 1.0)


def records(frames: np.ndarray, name: str, labels: StepLabels | None = None) -> Records:
    """The records of clips of one length.

    Args:
        frames: (N, T, H, W) from 0 to 1; they are kept in steps of 1/255.
        name: What messages call the clips.
        labels: A label for each of the N * T frames.
    """
    count, length, height, width = frames.shape
    return Records(
        values=np.round(255 * frames).astype(np.uint8).reshape(count * length, -1),
        offsets=np.arange(count + 1, dtype=np.int64) * length,
        features=[f"p{y}_{x}" for y in range(height) for x in range(width)],
        step_labels=labels,
        per_step=labels is not None,
        settings={"frame": [height, width, 1]},
        place=lambda index: f"{name}, clip {index}",
    )
