"""Records of a system's inputs and outputs, laid end to end, and how they are cut into parts and windows."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from recurra.data.sequences import AnySchema
from recurra.data.settings import DataSettings, PlaceSettings

Span = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]]


def _listed(given: object) -> object:
    return [given] if isinstance(given, str) else given


Names = Annotated[list[str], BeforeValidator(_listed)]


@dataclass(frozen=True)
class Signals:
    """N stretches of R records of a system, which lie end to end.

    Attributes:
        inputs: (S, I) float64, u.
        outputs: (S, K) float64, y; NaN where not measured. None where none is.
        offsets: (R + 1,) int64, the bounds of the records.
        places: (N, 2) int64, first row and steps of each stretch: the records as they are, or windows cut from them,
            which may overlap.
        ids: A name for each record where the data give one.
    """

    inputs: Tensor
    outputs: Tensor | None
    offsets: Tensor
    places: Tensor
    ids: Sequence[str] | None = None

    @classmethod
    def of(cls, records: Sequence[tuple[np.ndarray, np.ndarray | None]], ids: Sequence[str] | None = None) -> "Signals":
        """Whole records, each u (T, I) and y (T, K)."""
        lengths = torch.tensor([len(u) for u, _ in records])
        offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        inputs = torch.from_numpy(np.concatenate([u for u, _ in records]))
        measured = [y for _, y in records if y is not None]
        outputs = torch.from_numpy(np.concatenate(measured)) if len(measured) == len(records) else None
        return cls(inputs, outputs, offsets, torch.stack([offsets[:-1], lengths], 1), ids)

    def __len__(self) -> int:
        return len(self.places)

    @property
    def lengths(self) -> Tensor:
        """Steps of each stretch, (N,) int64."""
        return self.places[:, 1]

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Signals":
        """The named stretches, in the order given."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        return replace(self, places=self.places[chosen])

    def stretch(self, index: int) -> tuple[Tensor, Tensor | None]:
        """u (T, I) and y (T, K) of one stretch: views."""
        first, steps = self.places[index].tolist()
        return self.inputs[first : first + steps], None if self.outputs is None else self.outputs[first : first + steps]

    def records(self) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """u and y of every record, whole."""
        bounds = list(zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True))
        outputs = self.outputs
        return [(self.inputs[a:b].numpy(), None if outputs is None else outputs[a:b].numpy()) for a, b in bounds]

    def windows(self, steps: int, stride: int) -> "Signals":
        """Windows of so many steps, `stride` from one to the next and one at each record's end; a shorter record is a
        window by itself."""
        places = []
        for first, stop in zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True):
            last = stop - steps
            starts = sorted({*range(first, last + 1, stride), last}) if last > first else [first]
            places += [(start, min(steps, stop - first)) for start in starts]
        return replace(self, places=torch.tensor(places, dtype=torch.int64).view(-1, 2))


class SystemSettings(PlaceSettings):
    """The `data.*` settings of simulate: which columns are inputs and outputs, and which rows belong to which part."""

    file: str | None = Field(default=None, description="the file in a known set's folder, where it holds several")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    inputs: Names | None = Field(
        default=None, description="columns of the system's inputs; found by their names when left out, and said"
    )
    outputs: Names | None = Field(default=None, description="columns of its outputs, likewise")
    validation_inputs: Names | None = Field(
        default=None, description="columns of the same file with the inputs of the validation record"
    )
    validation_outputs: Names | None = Field(default=None, description="likewise its outputs")
    test_inputs: Names | None = Field(
        default=None, description="columns of the same file with the inputs of the test record"
    )
    test_outputs: Names | None = Field(default=None, description="likewise its outputs")
    rows: list[Span] | None = Field(
        default=None,
        description="stretches of rows, from 0 and without the last, that are the training records: [[0, 5000]]; all "
        "when left out",
    )
    validation_rows: list[Span] | None = Field(default=None, description="likewise of the validation part")
    test_rows: list[Span] | None = Field(default=None, description="likewise of the test part")
    id: str | None = Field(default=None, description="column that tells which record a row belongs to")
    time: str | None = Field(
        default=None, description="column of times, which must rise evenly; rows are counted when left out"
    )
    period: float | None = Field(
        default=None, gt=0, description="seconds from one row to the next, for the axes of figures"
    )
    window: int = Field(
        default=200,
        ge=0,
        description="steps that are learnt from at once, those that set the state among them; 0: whole records",
    )
    stride: int | None = Field(
        default=None, ge=1, description="rows from one training window to the next; a tenth of a window when left out"
    )

    @property
    def table(self) -> DataSettings:
        """How a delimited file is read."""
        return DataSettings(
            header=self.header, separator=self.separator, columns=self.columns, encoding=self.encoding, format=None
        )

    def columns_of(self, part: str) -> tuple[list[str] | None, list[str] | None]:
        """The columns named for a part, inputs and outputs."""
        if part == "train":
            return self.inputs, self.outputs
        return getattr(self, f"{part}_inputs"), getattr(self, f"{part}_outputs")

    def rows_of(self, part: str) -> list[Span] | None:
        """The stretches of rows named for a part."""
        return self.rows if part == "train" else getattr(self, f"{part}_rows")


class SystemSchema(AnySchema):
    """What the training records settled.

    Attributes:
        inputs: Names of the inputs.
        outputs: Names of the outputs.
        period: Seconds from step to step; None where rows are counted.
        step: From row to row by the column of times, in seconds where these are dates; None without one.
    """

    task: Literal["simulate"]
    inputs: list[str]
    outputs: list[str]
    period: float | None = None
    step: float | None = None
