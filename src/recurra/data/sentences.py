"""Sentences for tagging: words with the form they stand in, a tag each, and perhaps a label for the whole sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recurra.data.schemes import Scheme
from recurra.data.sequences import AnySchema, steps_of
from recurra.data.settings import PlaceSettings

Column = str | Annotated[int, Field(strict=True)]


class SentenceSettings(PlaceSettings):
    """Where the sentences are and how to read them. Everything left out is found from the content."""

    columns: list[str] | None = Field(default=None, description="conll: names for the columns")
    text: Column | None = Field(
        default=None,
        description="column of the words (keywords: of the text), by name, or counted from 1, or from -1 for the last; "
        "conll: the first, conllu: form",
    )
    target: Column | None = Field(
        default=None,
        description="column of the tags (keywords: of the keywords), likewise; conll: the last, conllu: upos",
    )
    separator: str | None = Field(default=None, description="keywords: what stands between the table's columns")
    keyword_separator: str | None = Field(
        default=None, description="what stands between the keywords of a cell; ';' or ',' when left out"
    )
    scheme: Scheme | Literal["none"] | None = Field(
        default=None,
        description="how tags mark entities: iob1, iob2, iobes, bilou; none: each tag stands for itself; found from "
        "the tags when left out",
    )
    bad_tags: Literal["repair", "fail"] = Field(
        default="repair",
        description="tags that their scheme does not allow there: write them as the entities that the CoNLL evaluation "
        "reads in them (counted and said), or stop at the first",
    )
    lowercase: bool = Field(
        default=True,
        description="fold words to lower case for the vocabulary; characters and casing see them as they are",
    )
    digits: bool = Field(default=False, description="take every digit for a 0 in the vocabulary")
    min_count: int = Field(default=1, ge=1, description="words seen less often become the unknown word")
    max_vocabulary: int = Field(
        default=50_000, ge=3, description="largest number of words kept, the most frequent first"
    )
    max_length: int | None = Field(
        default=None, ge=1, description="longest sentence kept whole; longer ones are cut (counted and said)"
    )
    keep: Literal["start", "end"] = Field(
        default="start", description="which end of a sentence that is too long is kept"
    )


class SentenceSchema(AnySchema):
    """What the training sentences settled."""

    vocabulary: list[str] = Field(default_factory=list)  # index -> word, folded; 0 is padding, 1 the unknown word
    characters: list[str] = Field(default_factory=list)  # likewise of the words as they stand
    tags: list[str] = Field(default_factory=list)  # index -> tag
    labels: list[str] = Field(default_factory=list)  # index -> label of a sentence; empty where they have none
    scheme: Scheme | None = None  # how the tags mark entities; None where they do not
    lowercase: bool = True
    digits: bool = False


@dataclass(frozen=True)
class Sentences:
    """N sentences laid end to end.

    Attributes:
        words: (S,) int32 indices into the schema's vocabulary.
        surface: (S,) int32 indices into `forms`.
        forms: The different words as they stand.
        offsets: (N + 1,) int64; sentence i is `words[offsets[i]:offsets[i + 1]]`.
        names: The schema's tags, then those met here that training data do not have.
        tags: (S,) int64 indices into `names`; None where unknown.
        labels: (N,) int64 indices into the schema's labels, -1 for one that training data do not have; None where
            sentences have none.
        ids: A name for each sentence where the data give one.
    """

    words: Tensor
    surface: Tensor
    forms: Sequence[str]
    offsets: Tensor
    names: Sequence[str]
    tags: Tensor | None = None
    labels: Tensor | None = None
    ids: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Tensor:
        """Words of each sentence, (N,) int64."""
        return self.offsets[1:] - self.offsets[:-1]

    def tokens(self, index: int) -> list[str]:
        """The words of a sentence as they stand."""
        first, stop = int(self.offsets[index]), int(self.offsets[index + 1])
        return [self.forms[int(i)] for i in self.surface[first:stop].tolist()]

    def select(self, indices: Tensor | np.ndarray | Sequence[int]) -> "Sentences":
        """The named sentences, in the order given (copied)."""
        chosen = torch.as_tensor(np.asarray(indices), dtype=torch.int64)
        offsets, steps = steps_of(self.offsets, chosen)
        return replace(
            self,
            words=self.words[steps],
            surface=self.surface[steps],
            offsets=offsets,
            tags=None if self.tags is None else self.tags[steps],
            labels=None if self.labels is None else self.labels[chosen],
            ids=None if self.ids is None else [self.ids[i] for i in chosen.tolist()],
        )
