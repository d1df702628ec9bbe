"""What a tagger says of sentences."""

from dataclasses import dataclass, field, replace

import numpy as np

from recurra.data.sentences import Sentences, SentenceSchema


@dataclass
class Tagging:
    """What a network says of some sentences, in their order.

    Attributes:
        data: The sentences, with what is true of them where it is known.
        schema: What the numbers stand for.
        tags: (S,) int64, the tag said of each word.
        probabilities: (S,) float64, how likely the network holds it.
        surprise: (N,) float64, -log p of each sentence's true tags in nats; NaN where they are not known.
        labels: (N, L) float64, the probability of each label of a sentence; None where there are none.
        warnings: What a person should know of the data.
    """

    data: Sentences
    schema: SentenceSchema
    tags: np.ndarray
    probabilities: np.ndarray
    surprise: np.ndarray
    labels: np.ndarray | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    def first(self, count: int) -> "Tagging":
        """Those of the first `count` sentences."""
        count = min(count, len(self))
        words = int(self.data.offsets[count])
        return replace(
            self,
            data=self.data.select(range(count)),
            tags=self.tags[:words],
            probabilities=self.probabilities[:words],
            surprise=self.surprise[:count],
            labels=None if self.labels is None else self.labels[:count],
        )

    def said(self, index: int) -> list[str]:
        """The tags said of a sentence."""
        return self._named(self.tags, index)

    def true(self, index: int) -> list[str]:
        """Its true tags."""
        assert self.data.tags is not None
        return self._named(self.data.tags.numpy(), index)

    def label(self, index: int) -> str | None:
        """The label said of it; None where there are none."""
        return None if self.labels is None else self.schema.labels[int(self.labels[index].argmax())]

    def _named(self, codes: np.ndarray, index: int) -> list[str]:
        first, stop = int(self.data.offsets[index]), int(self.data.offsets[index + 1])
        return [self.data.names[int(code)] for code in codes[first:stop]]
