"""A training set split into parts by seed."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from recurra.data.settings import PlaceSettings
from recurra.errors import DataError

UNSPLIT = {"validation_fraction": 0.0, "test_fraction": 0.0, "folds": None, "fold": None}
"""The settings under which nothing is split off."""


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
        fold: Which of how many folds is the test part; None where that is drawn by its share.
    """

    validation: float
    test: float
    seed: int
    fold: tuple[int, int] | None = None

    @classmethod
    def of(cls, settings: PlaceSettings, there: Collection[str], seed: int) -> "Shares":
        """The shares that settings name, but for the parts that are `there`; `seed` is that of the run.

        Raises:
            DataError: The test part is there, and folds are asked for.
        """
        fold = None if settings.folds is None else (settings.fold or 0, settings.folds)
        if fold is not None and "test" in there:
            raise DataError("data.folds: the data have a test part, so that none is drawn; leave one of them out.")
        test = settings.test_fraction if fold is None else 1 / fold[1]
        return cls(
            0.0 if "validation" in there else settings.validation_fraction,
            0.0 if "test" in there else test,
            seed if settings.split_seed is None else settings.split_seed,
            fold,
        )

    def __getitem__(self, part: str) -> float:
        """The share of a part; 0 for the training part."""
        return {"validation": self.validation, "test": self.test}.get(part, 0.0)

    def split(self, count: int, labels: Sequence[str] | np.ndarray | None = None) -> Split:
        """`split` of so many sequences."""
        return split(
            count,
            seed=self.seed,
            validation_fraction=self.validation,
            test_fraction=self.test,
            labels=labels,
            fold=self.fold,
        )


def split(
    count: int,
    *,
    seed: int,
    validation_fraction: float = 0.0,
    test_fraction: float = 0.0,
    labels: Sequence[str] | np.ndarray | None = None,
    fold: tuple[int, int] | None = None,
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
        fold: Which of how many folds is the test part, instead of a share; the folds of one seed are the same for
            each, and every sequence is in one of them (but the only member of a class, which stays in training).

    Raises:
        DataError: Too few sequences to leave one in every part.
    """
    if fold is not None and validation_fraction + 1 / fold[1] >= 1:
        raise DataError(
            f"data.validation_fraction {validation_fraction:g} and a test part of one in {fold[1]} (data.folds) leave "
            "nothing to train on; expected a sum below 1."
        )
    if fold is None and validation_fraction + test_fraction >= 1:
        raise DataError(
            f"data.validation_fraction {validation_fraction:g} and data.test_fraction {test_fraction:g} leave nothing "
            "to train on; expected a sum below 1."
        )
    classes = None if labels is None else np.unique(np.asarray(labels), return_inverse=True)[1].reshape(-1)
    rest, test, validation = np.arange(count), None, None
    warnings: list[str] = []
    if fold is not None:
        test_fraction = 1 / fold[1]
        rest, test = _deal(rest, *fold, classes, seed)
    elif test_fraction:
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


def _deal(
    indices: np.ndarray, fold: int, folds: int, classes: np.ndarray | None, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split `indices` into those that stay and one of so many folds, both rising.

    Each class is shuffled and the classes are dealt out one behind the other, so that folds differ by one sequence at
    most, and by one of each class; scikit-learn's folds do so too, but warn of classes with fewer members than folds.
    """
    random = np.random.RandomState(np.random.MT19937(seed))
    order = random.permutation(indices)
    if classes is not None:
        members = np.bincount(classes[indices])
        order = order[np.argsort(classes[order], kind="stable")]
        order = order[members[classes[order]] > 1] if (members > 1).sum() > 1 else order
    if len(order) < folds:
        raise DataError(f"data.folds: {len(order)} sequences are too few for {folds} folds.")
    drawn = np.sort(order[fold::folds])
    return np.setdiff1d(indices, drawn), drawn
