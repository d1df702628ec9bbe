"""A training set split into parts by seed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recurra.data.settings import PlaceSettings
from recurra.errors import DataError


class Split(NamedTuple):
    """Which sequences belong to which part: rising indices, None for a part that is not split off."""

    train: np.ndarray
    validation: np.ndarray | None
    test: np.ndarray | None
    warnings: list[str]


@dataclass(frozen=True)
class Shares:
    """What is split off the training part, and by which seed.

    Attributes:
        validation: Share of all sequences that go to validation; 0 where that part is there.
        test: Likewise of the test part.
        seed: Of the draw.
    """

    validation: float
    test: float
    seed: int

    @classmethod
    def of(cls, settings: PlaceSettings, there: Collection[str], seed: int) -> "Shares":
        """The shares that settings name, but for the parts that are `there`; `seed` is that of the run."""
        return cls(
            0.0 if "validation" in there else settings.validation_fraction,
            0.0 if "test" in there else settings.test_fraction,
            seed if settings.split_seed is None else settings.split_seed,
        )

    def __getitem__(self, part: str) -> float:
        """The share of a part; 0 for the training part."""
        return {"validation": self.validation, "test": self.test}.get(part, 0.0)

    def split(self, count: int, labels: Sequence[str] | np.ndarray | None = None) -> Split:
        """`split` of so many sequences."""
        return split(count, seed=self.seed, validation_fraction=self.validation, test_fraction=self.test, labels=labels)


def split(
    count: int,
    *,
    seed: int,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.0,
    labels: Sequence[str] | np.ndarray | None = None,
) -> Split:
    """Split `count` sequences into training, validation and test part.

    The test part is drawn first, so that it depends on the seed and its own share alone. With `labels` every part
    keeps the share of each class; the only member of a class stays in training; where a part is smaller than the
    number of classes it is drawn without regard to them, which a warning says.

    Args:
        count: Number of sequences.
        seed: Of the draw.
        validation_fraction: Share of all sequences that go to validation; 0 for none.
        test_fraction: Share of all sequences that go to test; 0 for none.
        labels: A class for each sequence, to keep their shares; None to draw without regard to classes.

    Raises:
        DataError: Too few sequences to leave one in every part.
    """
    if validation_fraction + test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction {validation_fraction:g} and data.test_fraction {test_fraction:g} leave nothing "
            "to train on; expected a sum below 1."
        )
    classes = None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    rest, test, validation = np.arange(count), None, None
    warnings: list[str] = []
    if test_fraction:
        rest, test = _draw(rest, test_fraction, classes, seed, "test", warnings)
    if validation_fraction:
        share = validation_fraction / (1 - test_fraction)
        rest, validation = _draw(rest, share, classes, seed, "validation", warnings)
    return Split(rest, validation, test, warnings)


def _draw(
    indices: np.ndarray, share: float, classes: np.ndarray | None, seed: int, part: str, warnings: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` into those that stay and the share that is drawn, both rising."""
    from sklearn.model_selection import train_test_split  # takes a second to import

    # upwards as in scikit-learn, but 0.1 / 0.9 · 90 = 10.000000000000002 is 10
    size = max(1, int(np.ceil(share * len(indices) - 1e-9)))
    if size >= len(indices):
        raise DataError(
            f"{len(indices)} {'sequence is' if len(indices) == 1 else 'sequences are'} too few to split off a {part} "
            f"part; give it apart (--{part} PATH), or go without: --set data.{part}_fraction=0."
        )
    pool, single, stratify = indices, indices[:0], None
    if classes is not None:
        members = np.bincount(classes[indices])
        number = int((members > 1).sum())
        alone = members[classes[indices]] == 1
        if 1 < number <= size <= (~alone).sum() - number:
            pool, single = indices[~alone], indices[alone]
            stratify = classes[pool]
        elif number > 1:
            warnings.append(f"{part} part: {size} sequences are too few to keep the shares of {number} classes.")
    random = np.random.RandomState(np.random.MT19937(seed))  # takes seeds of any size, as an int here does not
    stay, drawn = train_test_split(pool, test_size=size, random_state=random, stratify=stratify)
    return np.sort(np.concatenate([stay, single])), np.sort(drawn)
