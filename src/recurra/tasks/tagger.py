"""The network that tags: words with their characters and casing, recurrent layers, a tag for each word."""

import functools
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from recurra.data.schemes import allowed
from recurra.data.sentences import SentenceSchema
from recurra.data.sequences import PADDING, UNKNOWN
from recurra.learn.regularise import Hidden
from recurra.learn.rule import Rule
from recurra.nn import Recurrent
from recurra.nn.crf import CRF
from recurra.tasks.model import (
    LayerSettings,
    Network,
    RecurrentSettings,
    Width,
    embedding,
    head_of,
    last_output,
    layers_of,
    recurrent_layers,
)

LONGEST_WORD = 40
"""Characters of a word that are read; of a longer one as many from either end."""

CASINGS = ("lower", "upper", "title", "mixed", "digits", "none")


class TagModelSettings(LayerSettings):
    """The `model.*` settings of tag."""

    vectors: str | None = Field(
        default=None, description="file of word vectors to begin with (text of word2vec or GloVe, plain or gz)"
    )
    freeze_vectors: bool = Field(default=False, description="leave those vectors as they are")
    character_size: int = Field(default=25, ge=0, description="width of a character's vector; 0: no characters")
    character_hidden_size: int = Field(
        default=50,
        ge=1,
        description="width of the state, in either direction, of the layer that reads a word's characters",
    )
    casing_size: int = Field(
        default=5, ge=0, description="width of the vector for how a word is capitalised, and for digits; 0: none"
    )
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers before the tags")
    crf: bool = Field(
        default=False,
        description="score the tags of a sentence together, by a conditional random field, rather than one by one",
    )
    label_pool: Literal["last", "mean", "max"] = Field(
        default="max", description="sentence label: the last state of both directions, mean or largest of all steps"
    )


class Tagged(NamedTuple):
    """What the network puts out.

    Attributes:
        tags: (T, B, K) scores of the tags.
        labels: (B, L) scores of the sentences' labels; None where they have none.
    """

    tags: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class TagBatch:
    """B sentences padded to the longest.

    Attributes:
        words: (T, B) int64 indices into the vocabulary.
        lengths: (B,) int64 on the CPU, or None where every sentence has T words.
        places: (T, B) int64, which of the batch's W different words each is.
        spelled: (C, W) int64, the characters of those; None where they are not read.
        spelled_lengths: (W,) int64 on the CPU.
        casing: (W,) int64, how each of those is capitalised.
        tags: (T, B) int64, -1 in padding and where unknown; None where unknown throughout.
        labels: (B,) int64, -1 where unknown; None where unknown throughout.
        indices: (B,) which of the data's sentences these are.
    """

    words: Tensor
    lengths: Tensor | None
    places: Tensor
    spelled: Tensor | None
    spelled_lengths: Tensor | None
    casing: Tensor
    tags: Tensor | None
    labels: Tensor | None
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Any, ...]:
        """What the network is called with."""
        return self.words, self.lengths, self.places, self.spelled, self.spelled_lengths, self.casing

    @property
    def samples(self) -> int:
        """Sentences."""
        return len(self)

    @property
    def steps(self) -> int:
        """Words."""
        return self.words.numel() if self.lengths is None else int(self.lengths.sum())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "TagBatch":
        """The batch on another device; none of its numbers has a precision."""
        moved = {
            name: None if value is None else value.to(device)
            for name in ("words", "places", "spelled", "casing", "tags", "labels")
            for value in (getattr(self, name),)
        }
        return replace(self, **moved)


class Tagger(Network):
    """Words in, a tag for each out, and perhaps a label for the sentence.

    A word is its vector, what a recurrent layer in both directions makes of its characters (Ling et al. 2015, Lample et
    al. 2016), and how it is capitalised; then recurrent layers, and a linear or multi-layer head (eq. 6.22).

    Args:
        settings: The `model.*` settings.
        schema: What the data mean.
    """

    def __init__(self, settings: TagModelSettings, schema: SentenceSchema) -> None:
        super().__init__()
        self.word_dropout = settings.word_dropout
        self.embedding = embedding(len(schema.vocabulary), settings.embedding_size)
        width = settings.embedding_size
        self.letters: nn.Embedding | None = None
        self.spelling: Recurrent | None = None
        if settings.character_size:
            self.letters = embedding(len(schema.characters), settings.character_size)
            alone = RecurrentSettings(cell=settings.cell, options=settings.options, bidirectional=True)
            alone = alone.model_copy(update={"hidden_size": settings.character_hidden_size})
            self.spelling = recurrent_layers(alone, settings.character_size)
            width += self.spelling.output_size
        self.casing = nn.Embedding(len(CASINGS), settings.casing_size) if settings.casing_size else None
        width += settings.casing_size
        self.embedding_dropout = nn.Dropout(settings.embedding_dropout)
        self.recurrent = layers_of(settings, width)
        width = self.recurrent.output_size
        self.head, width = head_of(width, settings.head, settings.output_dropout)
        self.output = nn.Linear(width, len(schema.tags))
        self.label_pool = settings.label_pool
        self.labels = nn.Linear(self.recurrent.output_size, len(schema.labels)) if schema.labels else None
        self.crf: CRF | None = None
        if settings.crf:
            masks = [torch.from_numpy(m) for m in allowed(schema.tags, schema.scheme)] if schema.scheme else []
            self.crf = CRF(len(schema.tags), *masks)

    def forward(
        self,
        words: Tensor,
        lengths: Tensor | None,
        places: Tensor,
        spelled: Tensor | None,
        spelled_lengths: Tensor | None,
        casing: Tensor,
        state: Any = None,
        rule: Rule | None = None,
    ) -> tuple[Tagged, Any]:
        """Scores of tags and labels, and the recurrent layers' final state; arguments as in `TagBatch`."""
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        output, final = run(self._read(words, places, spelled, spelled_lengths, casing), state, lengths=lengths)
        dropout, *layers = self.head
        seen = dropout(output)
        if self.keep_hidden:
            self.hidden = Hidden(output, seen, lengths)
        labels = None
        if self.labels is not None:
            labels = self.labels(dropout(self._pooled(output, final, lengths)))
        for layer in layers:
            seen = layer(seen)
        return Tagged(self.output(seen), labels), final

    def _read(
        self, words: Tensor, places: Tensor, spelled: Tensor | None, spelled_lengths: Tensor | None, casing: Tensor
    ) -> Tensor:
        """What the first recurrent layer reads, (T, B, width)."""
        if self.word_dropout and self.training:
            dropped = (torch.rand(words.shape, device=words.device) < self.word_dropout) & (words != PADDING)
            words = words.masked_fill(dropped, UNKNOWN)
        assert self.embedding is not None
        parts = [self.embedding(words)]
        if self.spelling is not None:
            assert self.letters is not None
            assert spelled is not None
            _, final = self.spelling(self.letters(spelled), None, lengths=spelled_lengths)
            parts.append(torch.cat([final[0][0], final[0][1]], -1)[places])
        if self.casing is not None:
            parts.append(self.casing(casing)[places])
        return self.embedding_dropout(torch.cat(parts, -1))

    def _pooled(self, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
        """One vector a sentence; padding does not count."""
        if self.label_pool == "last":
            return last_output(self.recurrent, output, final, lengths)
        if lengths is None:
            return output.mean(0) if self.label_pool == "mean" else output.amax(0)
        if self.label_pool == "mean":
            return output.sum(0) / lengths.to(output).unsqueeze(-1)
        padded = torch.arange(len(output), device=output.device).unsqueeze(1) >= lengths.to(output.device)
        return output.masked_fill(padded.unsqueeze(-1), -torch.inf).amax(0)


def casing_of(word: str) -> int:
    """How a word is capitalised: an index into `CASINGS`.

    >>> [CASINGS[casing_of(word)] for word in ("in", "NATO", "Rome", "iPod", "1994", "A4", "...")]
    ['lower', 'upper', 'title', 'mixed', 'digits', 'digits', 'none']
    """
    if any(c.isdigit() for c in word):
        return CASINGS.index("digits")
    letters = [c for c in word if c.isalpha()]
    if not letters:
        return CASINGS.index("none")
    if word.islower():
        return CASINGS.index("lower")
    if word.isupper() and len(letters) > 1:
        return CASINGS.index("upper")
    return CASINGS.index("title" if letters[0].isupper() and not any(c.isupper() for c in letters[1:]) else "mixed")


def spelled_out(word: str, position: dict[str, int]) -> list[int]:
    """The characters of a word as indices."""
    if len(word) > LONGEST_WORD:
        word = word[: LONGEST_WORD // 2] + word[-(LONGEST_WORD // 2) :]
    return [position.get(c, UNKNOWN) for c in word]
