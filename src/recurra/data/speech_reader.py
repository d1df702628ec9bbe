"""The reader of `speech`: recordings as features, with their labels or transcripts."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field

from recurra.data.delimited import short
from recurra.data.reader import Parts, Reader
from recurra.data.recordings import FORMATS, Heard
from recurra.data.sequences import Sequences
from recurra.data.sounds import (
    Joined,
    SoundSettings,
    counted,
    described,
    further,
    in_order,
    kept_settings,
    learn_units,
    read_parts,
    say_short,
    sounds_of,
    texts_of,
)
from recurra.data.spectral import Transform
from recurra.data.speech import Recordings, SpeechSchema
from recurra.data.units import SPECIAL, UNK
from recurra.errors import DataError, unknown


class SpeechSettings(SoundSettings):
    """The `data.*` settings of speech."""

    speed: float = Field(
        default=0.0, ge=0, lt=1, description="training: play each recording faster or slower by up to this share"
    )
    gain: float = Field(default=0.0, ge=0, description="training: make it louder or softer by up to so many decibels")
    noise: float | None = Field(
        default=None,
        description="training: add white noise, its power so many decibels below the recording's at the least",
    )

    @property
    def changes(self) -> bool:
        """Whether training changes the sound."""
        return bool(self.speed or self.gain or self.noise is not None)


class SpeechReader(Reader[Recordings, SpeechSchema]):
    """Reads recordings with labels or transcripts."""

    settings = SpeechSettings
    schema = SpeechSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: SpeechSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SpeechSchema | None = None,
    ) -> Parts[Recordings, SpeechSchema]:
        """See `Reader.parts`."""
        warnings: list[str] = []
        rate = None if kept is None else kept.rate
        read = read_parts(source, settings, validation, test, seed, rate, warnings)
        transform = Transform(settings, read.rate)
        train, plan = read.parts["train"], read.plans["train"]
        texts = texts_of(train, plan)
        assert texts is not None
        classes, units = [], None
        if read.meaning == "label":
            classes = in_order(texts)
            if len(classes) < 2:
                raise DataError(
                    f"{train.name}: every recording is labelled {classes[0]!r}; expected two labels or more."
                )
        else:
            units = learn_units(texts, settings, train.name)
        schema = SpeechSchema(
            task=task,
            format=train.format,
            settings=kept_settings(settings, read.seed),
            rate=read.rate,
            features=transform.names,
            output=read.meaning,
            classes=classes,
            units=units,
        )
        parts = {
            part: _encoded(heard, read.plans[part], schema, transform, part == "train" and settings.changes, warnings)
            for part, heard in read.parts.items()
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
        self, source: Any, schema: SpeechSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Recordings, list[str]]:
        """See `Reader.part`. A folder is read with all that is in it, a WAV file by itself."""
        if format is not None and format not in FORMATS:
            raise DataError(f"--input-format: {unknown('format', format, FORMATS)}")
        settings = self.settings_of(schema).model_copy(update={"format": format, "output": schema.output})
        warnings: list[str] = []
        heard, plan = further(source, settings, schema.rate, targets=targets, warnings=warnings)
        transform = Transform(settings, schema.rate)
        return _encoded(heard, plan, schema, transform, False, warnings), warnings

    def describe(self, source: Any, settings: SpeechSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        schema, texts = parts.schema, parts.train.texts or []
        if schema.output == "label":
            counts = Counter(texts)
            said = [f"labels: {', '.join(f'{label} ({counts[label]:,})' for label in schema.classes[:20])}"]
        else:
            said = [
                f"transcripts: {len(schema.symbols):,} {settings.unit}s; the first: "
                + "; ".join(short(text, 40) for text in texts[:3])
            ]
        return described(parts, schema.rate, lambda part: part.seconds, said)


def _encoded(
    heard: Heard,
    plan: Joined | None,
    schema: SpeechSchema,
    transform: Transform,
    keep_waves: bool,
    warnings: list[str],
) -> Recordings:
    """A part as features and numbers; what training never had is told."""
    sounds, waves, seconds = sounds_of(heard, plan, transform)
    texts = texts_of(heard, plan)
    say_short(sounds, transform, seconds, heard.name, warnings)
    symbols = None
    if texts is not None and schema.output == "label":
        codes = {label: i for i, label in enumerate(schema.classes)}
        targets = [codes.get(text, -1) for text in texts]
        strange = sorted({text for text, code in zip(texts, targets, strict=True) if code < 0})
        if strange:
            count = sum(code < 0 for code in targets)
            warnings.append(
                f"{heard.name}: {counted(count, 'recording')} with labels that the training data do not have, and "
                f"that count as wrong: {', '.join(map(short, strange[:5]))}{', …' if len(strange) > 5 else ''}."
            )
        sounds = replace(sounds, targets=torch.tensor(targets, dtype=torch.int64))
    elif texts is not None:
        symbols = _symbols(texts, schema, heard, warnings)
    return Recordings(sounds, symbols, texts, seconds, waves if keep_waves else None)


def _symbols(texts: list[str], schema: SpeechSchema, heard: Heard, warnings: list[str]) -> Sequences:
    units = schema.units
    assert units is not None
    rows = [units.encoded(text.strip()) for text in texts]
    strange = [i for i, row in enumerate(rows) if (row == UNK).any()]
    if strange:
        found: dict[str, None] = {}
        for i in strange:
            every = list(texts[i].strip()) if units.unit == "character" else units.words(texts[i].strip())
            found |= dict.fromkeys(s for s, code in zip(every, rows[i].tolist(), strict=False) if code == UNK)
        named = ", ".join(repr(symbol) for symbol in list(found)[:5]) + (", …" if len(found) > 5 else "")
        warnings.append(
            f"{heard.name}: {counted(len(strange), 'transcript')} with symbols that the training data do not have, "
            f"which cannot be said: {named}."
        )
    offsets = torch.from_numpy(np.cumsum([0, *map(len, rows)], dtype=np.int64))
    values = np.concatenate([np.empty(0, np.int32), *rows])
    return Sequences(torch.from_numpy(np.maximum(values - len(SPECIAL) + 1, 0)), offsets)
