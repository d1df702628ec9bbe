"""scikit-learn's digits."""

from typing import ClassVar

import numpy as np

from recurra.data.made.source import Made
from recurra.data.records import Records


class Digits(Made):
    """The 1,797 handwritten digits of scikit-learn, 8 rows of 8 greys from 0 to 16, read row by row.

    Source: the test set of Alpaydin and Kaynak's "Optical Recognition of Handwritten Digits" (UCI, 1998), embedded in
    scikit-learn.
    """

    name: ClassVar[str] = "digits"
    task: ClassVar[str] = "classify"
    summary: ClassVar[str] = "scikit-learn's 1,797 handwritten digits, a row of 8 greys a step"

    def parts(self) -> dict[str, Records]:
        """See `Made.parts`."""
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
