"""The reader of `speech-translate`: recordings as sources, texts in another language as targets."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from recurra.data.delimited import short
from recurra.data.pairs import Pairs, PairSchema, numbered
from recurra.data.reader import Parts, Reader
from recurra.data.recordings import FORMATS, Heard
from recurra.data.sequences import Sequences
from recurra.data.sounds import (
    Joined,
    SoundSettings,
    described,
    further,
    kept_settings,
    learn_units,
    read_parts,
    say_short,
    sounds_of,
    texts_of,
)
from recurra.data.spectral import Transform
from recurra.errors import DataError, unknown


class SpokenPairSettings(SoundSettings):
    """The `data.*` settings of speech-translate. `data.words` makes texts of labels."""


class SpokenPairSchema(PairSchema):
    """What the training recordings and their texts settled."""

    rate: int  # samples a second


@dataclass(frozen=True)
class SpokenPairs(Pairs):
    """Recordings and texts; `sources` are the recordings' names.

    Attributes:
        seconds: (N,) how long each is.
    """

    seconds: np.ndarray

    def select(self, rows: torch.Tensor | np.ndarray) -> "SpokenPairs":
        """See `Pairs.select`."""
        return SpokenPairs(**vars(super().select(rows)), seconds=self.seconds[np.asarray(rows, np.int64)])


class SpokenPairReader(Reader[SpokenPairs, SpokenPairSchema]):
    """Reads recordings with texts; the vocabulary is that of the training part."""

    settings = SpokenPairSettings
    schema = SpokenPairSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: SpokenPairSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SpokenPairSchema | None = None,
    ) -> Parts[SpokenPairs, SpokenPairSchema]:
        """See `Reader.parts`."""
        if settings.output == "label":
            raise DataError("data.output: a translation is a text; 'transcript', or leave it out.")
        settings = settings.model_copy(update={"output": "transcript"})
        warnings: list[str] = []
        rate = None if kept is None else kept.rate
        read = read_parts(source, settings, validation, test, seed, rate, warnings)
        transform = Transform(settings, read.rate)
        train = read.parts["train"]
        texts = texts_of(train, read.plans["train"])
        assert texts is not None
        schema = SpokenPairSchema(
            task=task,
            format=train.format,
            settings=kept_settings(settings, read.seed),
            input="features",
            features=transform.names,
            target_units=learn_units(texts, settings, train.name) if kept is None else kept.target_units,
            rate=read.rate,
        )
        parts = {
            part: _encoded(heard, read.plans[part], schema, transform, warnings) for part, heard in read.parts.items()
        }
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=warnings,
            sources=read.sources,
            fingerprint=read.fingerprint,
        )

    def part(
        self, source: Any, schema: SpokenPairSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[SpokenPairs, list[str]]:
        """See `Reader.part`."""
        if format is not None and format not in FORMATS:
            raise DataError(f"--input-format: {unknown('format', format, FORMATS)}")
        settings = self.settings_of(schema).model_copy(update={"format": format})
        warnings: list[str] = []
        heard, plan = further(source, settings, schema.rate, targets=targets, warnings=warnings)
        return _encoded(heard, plan, schema, Transform(settings, schema.rate), warnings), warnings

    def describe(self, source: Any, settings: SpokenPairSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        texts = parts.train.targets or []
        said = [
            f"texts: {len(parts.schema.target_units):,} {settings.unit}s with the special ones; the first: "
            + "; ".join(short(text, 40) for text in texts[:3])
        ]
        return described(parts, parts.schema.rate, lambda part: part.seconds, said)


def _encoded(
    heard: Heard, plan: Joined | None, schema: SpokenPairSchema, transform: Transform, warnings: list[str]
) -> SpokenPairs:
    """A part as features and numbers."""
    sounds, _, seconds = sounds_of(heard, plan, transform)
    say_short(sounds, transform, seconds, heard.name, warnings)
    texts, target = texts_of(heard, plan), None
    if texts is not None:
        rows = [numbered(schema.target_units, text) for text in texts]
        offsets = torch.from_numpy(np.cumsum([0, *map(len, rows)], dtype=np.int64))
        target = Sequences(torch.from_numpy(np.concatenate([np.empty(0, np.int32), *rows])), offsets)
    names = list(sounds.ids or ())
    return SpokenPairs(replace(sounds, ids=None), target, names, texts, seconds)
