"""What a kind of data is to the rest: its parts, how they are read, and the settings and schema that belong to it."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from torch import Tensor

from recurra.data.sequences import AnySchema
from recurra.data.settings import PlaceSettings, stored


class Data(Protocol):
    """One part of a data set, of whatever kind."""

    def __len__(self) -> int:
        """How many sequences there are."""
        ...

    @property
    def lengths(self) -> Tensor:
        """Steps of each sequence, (N,) int64."""
        ...


DataT = TypeVar("DataT", bound=Data)
SchemaT = TypeVar("SchemaT", bound=AnySchema)


@dataclass(frozen=True)
class Parts(Generic[DataT, SchemaT]):
    """The parts of a data set.

    Attributes:
        train: What is learnt from.
        validation: What the best model is chosen by; None where there is none.
        test: What the result is measured on; None where there is none.
        schema: What the training part settled, and all it takes to read further data alike.
        warnings: What a person should know, such as how many sequences were cut.
        sources: Part -> its path, or a description.
        fingerprint: SHA-256 over the content of all that was read, to know changed data by.
    """

    train: DataT
    validation: DataT | None
    test: DataT | None
    schema: SchemaT
    warnings: list[str] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    fingerprint: str = ""

    @property
    def named(self) -> dict[str, DataT]:
        """The parts that there are, by name."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in parts.items() if part is not None}


class Reader(ABC, Generic[DataT, SchemaT]):
    """How data of one kind are read."""

    settings: ClassVar[type[PlaceSettings]]
    """The `data.*` settings of a recipe."""
    schema: ClassVar[type[AnySchema]]
    """What is kept of the training data."""
    undealt: ClassVar[str] = ""
    """Why its data cannot be dealt into folds; empty where they can."""

    @abstractmethod
    def parts(
        self,
        source: Any,
        task: str,
        settings: Any,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SchemaT | None = None,
    ) -> Parts[DataT, SchemaT]:
        """Read a data set in its parts; those that are missing are split off the training part.

        Args:
            source: A path, the name of a known set, Python data, or None for what the settings name.
            task: The task's name.
            settings: How to read, of the class `settings`.
            validation: Path or Python data of the validation part.
            test: Likewise of the test part.
            seed: Of the split.
            kept: The schema of an earlier run, whose vocabulary is gone on with.

        Raises:
            DataError: Nothing there, or anything in it that is not as it should be, with file and line.
        """

    def settings_of(self, schema: SchemaT) -> Any:
        """The settings under which the training data were read, for further data."""
        return stored(self.settings, schema.settings)

    @abstractmethod
    def part(
        self, source: Any, schema: SchemaT, *, targets: bool = False, format: str | None = None
    ) -> tuple[DataT, list[str]]:
        """Read further data as the training data were read; the data, and what a person should know of them.

        Args:
            source: A path, the name of a known set, "-" or an open binary file for standard input, or Python data.
            schema: Of the training data.
            targets: Whether targets must be there.
            format: How the data are laid out, where that is another way than the training data's.

        Raises:
            DataError: As for `parts`; no targets where they must be.
        """

    def describe(self, source: Any, settings: Any, task: str) -> str:
        """What a data set looks like to its reader, as lines for a terminal.

        Args:
            source: As for `parts`.
            settings: How to read, of the class `settings`.
            task: The task's name.

        Raises:
            DataError: As for `parts`.
        """
        parts = self.parts(source, task, settings)
        lines: list[str] = []
        for name, part in parts.named.items():
            lengths = part.lengths
            lines += [
                f"{name}: {parts.sources[name]} ({parts.schema.format})",
                f"  sequences  {len(part):,}",
                f"  steps      {int(lengths.min()):,} to {int(lengths.max()):,}, median {float(lengths.median()):g}",
            ]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])
