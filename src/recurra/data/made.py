"""Sources that need no file: scikit-learn's digits, and a sine wave."""

from collections.abc import Callable

import numpy as np

from recurra.data.records import Records

SAMPLES = 20
"""Steps of one segment of the sine wave."""


def digits() -> dict[str, Records]:
    """The 1,797 handwritten digits of scikit-learn, 8 rows of 8 greys from 0 to 16, read row by row.

    Source: the test set of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998), embedded in
    scikit-learn.
    """
    from sklearn.datasets import load_digits  # takes a second to import

    images, labels = load_digits(return_X_y=True)
    count, rows, columns = len(images), 8, 8
    return {
        "train": Records(
            values=np.asarray(images).astype(np.uint8).reshape(count * rows, columns),
            offsets=np.arange(count + 1, dtype=np.int64) * rows,
            features=[f"column_{column}" for column in range(columns)],
            labels=[(str(label),) for label in np.asarray(labels).tolist()],
            place=lambda index: f"digits, image {index + 1}",
        )
    }


def sine(training: int = 100, test: int = 20) -> dict[str, Records]:
    """A sine wave in segments of half a period, in order: from each sample the next is predicted.

    Segment k has 21 samples of sin over [kπ, (k + 1)π]; the first 20 are the input, the last 20 the targets:
    the often copied first example of `torch.nn.RNN`, a sine from which its lagging copy is made.

    Args:
        training: Segments 0, 1, … of the training part.
        test: Segments of the test part, which follow.
    """
    return {"train": _segments(0, training), "test": _segments(training, training + test)}


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


MADE: dict[str, tuple[str, Callable[[], dict[str, Records]]]] = {
    "digits": ("classify", digits),
    "sine": ("regress", sine),
}
"""Sources by name: the task they are for, and what gives their parts."""
