"""The `data.*` settings of a recipe: where sequences come from and how they are read."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

OF_PARTS = frozenset(
    (
        *("name", "path", "validation", "test", "format"),
        *("validation_fraction", "test_fraction", "split_seed", "folds", "fold"),
    )
)
"""Settings that say where data and their parts are, and so are not those of further data."""


class PlaceSettings(BaseModel):
    """Where data are, and how they are split: what all kinds of data share."""

    model_config = ConfigDict(extra="forbid")

    name: str | None = Field(default=None, description="a known data set or made source: digits, mnist, imdb, sine")
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="a made source's own options, such as length; the page of problems lists them",
    )
    path: str | None = Field(default=None, description="file, or folder with parts (train, valid, test)")
    validation: str | None = Field(default=None, description="file with the validation part")
    test: str | None = Field(default=None, description="file with the test part")
    format: str | None = Field(
        default=None, description="how the file is laid out; found from the content when left out"
    )

    validation_fraction: float = Field(
        default=0.1, ge=0, lt=1, description="share split off the training part, where no validation part is given"
    )
    test_fraction: float = Field(
        default=0.2, ge=0, lt=1, description="share split off the training part, where no test part is given"
    )
    split_seed: int | None = Field(default=None, ge=0, description="seed of the split; the run's seed when left out")
    folds: int | None = Field(
        default=None,
        ge=2,
        description="parts of equal size that the data are dealt into, one of them the test part, instead of "
        "test_fraction; --folds trains on each in turn",
    )
    fold: int | None = Field(default=None, ge=0, description="which of the folds is the test part, from 0; 0")
    encoding: str = Field(default="utf-8", description="how text is encoded")

    @model_validator(mode="after")
    def _a_fold_of_those_there_are(self) -> "PlaceSettings":
        if self.fold is not None and self.folds is None:
            raise ValueError("fold: says which of data.folds is the test part; folds is not set")
        if self.fold is not None and self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold: {self.fold}; one from 0 to {self.folds - 1} is expected, of {self.folds} folds")
        return self

    def for_streams_alone(self) -> list[str]:
        """The keys that are set and that only a stream has."""
        return []


SettingsT = TypeVar("SettingsT", bound=PlaceSettings)


def stored(kind: type[SettingsT], options: Mapping[str, object]) -> SettingsT:
    """The settings among the options that a schema has kept of the training data."""
    return kind.model_validate({key: value for key, value in options.items() if key in kind.model_fields})


class DataSettings(PlaceSettings):
    """Where the sequences are and how to read them. Everything left out is found from the content."""

    stratify: bool = Field(default=True, description="keep the share of each class in every part")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    target: str | list[str] | None = Field(default=None, description="column (or columns) to predict")
    features: list[str] | None = Field(
        default=None, description="columns that make up the input; all others when left out"
    )
    ignore: list[str] = Field(default_factory=list, description="columns to leave out")
    id: str | None = Field(default=None, description="long form: column that tells which sequence a row belongs to")
    time: str | None = Field(default=None, description="long form: column that orders the rows of a sequence")
    text: str | None = Field(default=None, description="column that holds the text")
    label_separator: str | None = Field(
        default=None, description="what stands between several labels of one sequence, such as ';'"
    )
    per_step: bool | None = Field(
        default=None, description="whether there is a target at every step; found from the content when left out"
    )
    merge_labels: dict[str, list[str | int]] | None = Field(
        default=None,
        description="classes made of several labels, such as { negative = [0, 1], positive = [3, 4] }; sequences with "
        "any other label are left out (counted and said)",
    )
    phrases: Literal["none", "distinct", "all"] = Field(
        default="none",
        description="trees: learn from every phrase that has a label, not from whole sentences alone; distinct: each "
        "phrase once; all: as often as it is met. Never measured on",
    )
    lines: Literal["files", "lines"] | None = Field(
        default=None, description="text folders: a file a sample, or a line a sample"
    )

    unit: Literal["word", "character"] = Field(default="word", description="what a text is cut into")
    lowercase: bool = Field(default=True, description="fold texts to lower case")
    min_count: int = Field(default=2, ge=1, description="symbols seen less often become the unknown symbol")
    max_vocabulary: int = Field(
        default=30_000, ge=3, description="largest number of symbols kept, the most frequent first"
    )
    max_length: int | None = Field(
        default=None, ge=1, description="longest sequence kept whole; longer ones are cut (counted and said)"
    )
    keep: Literal["start", "end"] = Field(
        default="start", description="which end of a sequence that is too long is kept"
    )
    pixels: bool = Field(default=False, description="numbers: read the values of a step one by one, each as a step")
    permute: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="read the steps of every sequence in one order, which this seed draws"
    )
    trim_blank: bool = Field(default=False, description="images: end a sequence at its last row that is not blank")

    classes: list[str | int] | None = Field(
        default=None, description="stream: the labels there are, which a stream does not tell ahead"
    )
    reset: str | None = Field(
        default=None,
        description="stream: column that is 1 where the state begins anew before that line, else 0 or empty",
    )
    streams: int = Field(
        default=16,
        ge=1,
        description="stream: ids that have a state of their own at the same time; of more, the one that was silent for "
        "longest begins anew; 1: the state begins anew where the id changes",
    )
    bad_lines: Literal["fail", "skip"] = Field(
        default="fail", description="stream: what is done about a line that cannot be read: stop there, or count it"
    )

    def for_streams_alone(self) -> list[str]:
        """The keys that are set and that only a stream has."""
        return [
            key
            for key in ("classes", "reset", "streams", "bad_lines")
            if getattr(self, key) != type(self).model_fields[key].default
        ]
