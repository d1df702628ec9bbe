"""What a format's reader returns, and the register of formats."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from recurra.data.sequences import Schema
from recurra.data.settings import DataSettings


@dataclass(frozen=True)
class StepLabels:
    """A label, or several, at each of S steps; what many steps have in common is held once.

    Attributes:
        kinds: The different labels, or sets of labels, as written.
        codes: Which of them each step has, (S,) of whole numbers; -1 where nothing is asked for.
    """

    kinds: Sequence[tuple[str, ...]]
    codes: np.ndarray

    def __getitem__(self, step: int) -> tuple[str, ...] | None:
        """The labels of a step; None where nothing is asked for."""
        code = int(self.codes[step])
        return None if code < 0 else self.kinds[code]

    def counts(self) -> np.ndarray:
        """How many steps have each kind, (len(kinds),)."""
        return np.bincount(self.codes[self.codes >= 0], minlength=len(self.kinds))


@dataclass(frozen=True)
class Phrases:
    """Which of N sequences are phrases of others.

    Attributes:
        sentence: (N,) of whole numbers: the sentence that each is, or is a phrase of.
        whole: (N,) bool: those that are sentences.
        kind: (N,) of whole numbers: the same for sequences that are to be learnt from once.
    """

    sentence: np.ndarray
    whole: np.ndarray
    kind: np.ndarray

    def apart_from(self, rows: np.ndarray) -> np.ndarray:
        """The sequences that share no sentence with these rows, one of each kind, the first: rising indices."""
        kept = np.flatnonzero(~np.isin(self.sentence, self.sentence[rows]))
        return kept[np.sort(np.unique(self.kind[kept], return_index=True)[1])]

    def select(self, rows: np.ndarray) -> "Phrases":
        """What is so of these sequences."""
        return Phrases(self.sentence[rows], self.whole[rows], self.kind[rows])


@dataclass
class Records:
    """One file's (or folder's) sequences as they stand there, before classes and vocabulary are settled.

    Attributes:
        values: Numbers, (S, D) float32 or uint8, or provisional token indices, (S,) int32 into `symbols`.
        offsets: (N + 1,) int64, the bounds of the sequences in `values`.
        symbols: Text only: provisional index -> symbol, in order of first appearance.
        features: Numbers only: a name for each of the D values.
        labels: classify: the label, or labels, of each sequence as written; None where the file has none.
        step_labels: classify with a label at every step: those, in place of `labels`.
        numbers: regress: (N, K), or (S, K) with `per_step`; None where the file has none.
        targets: regress: a name for each of the K numbers.
        per_step: Whether there is a target at every step (`step_labels`, or `numbers` with S rows).
        ids: A name for each sequence where the file gives one.
        place: Where sequence i stands, for messages: "mine.csv, line 7".
        settings: The reading options as resolved (columns, separator, header, …), kept in the schema so that
            further files are read alike.
        warnings: What was done that a person should know, such as how many sequences were cut.
        phrases: Which sequences are phrases of others, to be learnt from and never measured on; None where none are.
    """

    values: np.ndarray
    offsets: np.ndarray
    place: Callable[[int], str]
    symbols: list[str] | None = None
    features: list[str] = field(default_factory=list)
    labels: Sequence[tuple[str, ...]] | None = None
    step_labels: StepLabels | None = None
    multi_label: bool = False
    numbers: np.ndarray | None = None
    targets: list[str] = field(default_factory=list)
    per_step: bool = False
    ids: list[str] | None = None
    settings: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    phrases: Phrases | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1


class Format(Protocol):
    """One way of laying out sequences in a file or folder."""

    name: str
    """As given to `--input-format`."""
    summary: str
    """One line for the documentation and for error messages."""

    def recognises(self, path: Path, task: str, settings: DataSettings) -> bool:
        """Whether the content of `path` (a file or a folder) is laid out this way. Reads little, raises nothing."""
        ...

    def read(self, source: Path | BinaryIO, task: str, settings: DataSettings, schema: Schema | None) -> Records:
        """Read everything. With `schema` (from training data) read alike, targets optional; else settle the options.

        Raises:
            DataError: Anything that is not as it should be, with file and line.
        """
        ...


FORMATS: dict[str, Format] = {}
"""Every format by name, in the order in which a file's content is tried against them (most specific first)."""


def register(format: Format) -> Format:
    """Add a format to the register."""
    FORMATS[format.name] = format
    return format
