"""Recordings in their parts, joined where that is asked for, and as features: what all that read sound share."""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, cast
from zlib import crc32

import numpy as np
import torch
from pydantic import Field, model_validator

from recurra.data.parts import role
from recurra.data.reader import Parts
from recurra.data.recordings import (
    Condition,
    Heard,
    Pattern,
    Where,
    alike,
    common_rate,
    fingerprint,
    from_stream,
    hear,
    in_python,
    places,
    said_of,
)
from recurra.data.sequences import Sequences
from recurra.data.settings import OF_PARTS, PlaceSettings
from recurra.data.sources import PARTS, Source, as_source, check_name, folder_of, is_known, told
from recurra.data.spectral import FeatureSettings, Transform
from recurra.data.speech import SILENCE, Waves
from recurra.data.split import Shares
from recurra.data.units import Units
from recurra.errors import DataError, unknown

Share = Annotated[float, Field(ge=0)]


class SoundSettings(FeatureSettings, PlaceSettings):
    """The `data.*` settings of all tasks that read sound."""

    pattern: str | None = Field(
        default=None,
        description="what a file's name tells, such as {label}_{speaker}_{index}.wav; when left out its folder is the "
        "label",
    )
    file: str | None = Field(default=None, description="tables: column that names the files")
    target: str | None = Field(default=None, description="tables: column of labels or transcripts")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    output: Literal["label", "transcript"] | None = Field(
        default=None, description="what is told of a recording; found from names of fields and columns when left out"
    )
    rate: int | None = Field(
        default=None, ge=1, description="samples a second that all are brought to; that of most when left out"
    )
    held_out: str | None = Field(
        default=None,
        description="the test part, by a field of the names: 'speaker=theo', 'speaker=theo,lucas', 'index=0-4'; by "
        "chance when left out",
    )
    held_out_validation: str | None = Field(default=None, description="the validation part, likewise")
    words: dict[str, str] = Field(
        default_factory=dict, description="another word for each label, such as its name in another language"
    )
    join: tuple[int, int] | None = Field(
        default=None,
        description="make sequences of so many recordings, from and to, with silence between: [3, 7]. Those of each "
        "part are made of its own recordings",
    )
    join_by: str | None = Field(
        default=None, description="join: the field that recordings of one sequence share: speaker"
    )
    join_training: int = Field(default=3000, ge=1, description="join: sequences to learn from")
    join_validation: int = Field(default=300, ge=0, description="join: sequences to choose the best weights by")
    join_test: int = Field(default=600, ge=0, description="join: sequences to measure on")
    silence: tuple[Share, Share] = Field(
        default=(0.05, 0.4), description="join: seconds of silence before, between and behind, from and to"
    )
    unit: Literal["word", "character"] = Field(default="word", description="what transcripts are cut into")
    lowercase: bool = Field(default=False, description="fold transcripts to lower case")

    @model_validator(mode="after")
    def _joins_can_be(self) -> "SoundSettings":
        if self.join is not None and not 1 <= self.join[0] <= self.join[1]:
            raise ValueError(f"join: from {self.join[0]} to {self.join[1]} recordings; expected such as [3, 7]")
        if self.silence[0] > self.silence[1]:
            raise ValueError(f"silence: from {self.silence[0]:g} to {self.silence[1]:g} seconds; the least comes first")
        if self.join is not None and self.output == "label":
            raise ValueError("output: several recordings joined have a transcript, not a label; leave output out")
        return self

    @property
    def where(self) -> Where:
        """How recordings are found."""
        return Where(
            **{
                key: getattr(self, key)
                for key in (
                    *("pattern", "file", "target", "separator", "header", "columns", "encoding", "format", "rate"),
                )
            },
            meaning=self.output,
        )


@dataclass
class Read:
    """The parts of a set of recordings, before they are features.

    Attributes:
        parts: Part -> its recordings, at one rate.
        plans: Part -> how they are joined, and what is then said; None where they stand by themselves.
        meaning: What is said of a recording.
        sources: As in `Parts`.
        fingerprint: As in `Parts`.
        rate: Samples a second.
        seed: Of the split and of what is joined.
    """

    parts: dict[str, Heard]
    plans: dict[str, "Joined | None"]
    meaning: Literal["label", "transcript"]
    sources: dict[str, str]
    fingerprint: str
    rate: int
    seed: int


@dataclass
class Joined:
    """Sequences of recordings: for each its pieces as `Waves.of` takes them, what is said, and a name."""

    plan: list[list[tuple[int, int]]]
    said: list[str]
    names: list[str]


def read_parts(
    source: Any, settings: SoundSettings, validation: Any, test: Any, seed: int, rate: int | None, warnings: list[str]
) -> Read:
    """All parts of a set, split and joined as the settings say.

    Args:
        source: As for `Reader.parts`.
        settings: How to read.
        validation: As for `Reader.parts`.
        test: Likewise.
        seed: Of the split, where the settings name none.
        rate: Samples a second, where an earlier run settled it.
        warnings: What a person should know is added here.

    Raises:
        DataError: As for `Reader.parts`.
    """
    if settings.pattern:
        Pattern(settings.pattern)  # before anything is read
    found = _sources(source, settings, validation, test)
    sum = hashlib.sha256()
    heard = {part: _heard(given, settings.where, sum) for part, given in found.items()}
    train = heard["train"]
    meaning = settings.output or train.meaning
    if settings.join is not None:
        meaning = "transcript"
    if meaning is None:
        raise DataError(
            f"{train.name}: nothing tells what was said; expected a folder for each label, names as data.pattern says, "
            "or a table with a column of labels or transcripts."
        )
    rate = settings.rate or rate or common_rate(train)
    for part in heard:
        heard[part] = said_of(alike(heard[part], rate, warnings), settings.words)
        _check_said(heard[part], meaning)
    split_seed = seed if settings.split_seed is None else settings.split_seed
    sources = {part: each.name for part, each in heard.items()}
    _hold_out(heard, settings, meaning, split_seed, sources, warnings)
    if meaning == "transcript":
        heard["train"] = _without_empty(heard["train"], warnings)
        for part in PARTS[1:]:
            if part in heard:
                _say_empty(heard[part], part, warnings)
    plans: dict[str, Joined | None] = dict.fromkeys(heard)
    if settings.join is not None:
        low, high = settings.join
        sizes = {"train": settings.join_training, "validation": settings.join_validation, "test": settings.join_test}
        heard = {part: each for part, each in heard.items() if sizes[part]}
        plans = {part: join(each, settings, rate, split_seed, part, sizes[part]) for part, each in heard.items()}
        sources = {
            part: f"{sizes[part]:,} sequences of {low} to {high} recordings, of {len(each):,} ({sources[part]})"
            for part, each in heard.items()
        }
    sources = {part: sources[part] for part in PARTS if part in heard}
    return Read(heard, plans, meaning, sources, sum.hexdigest(), rate, split_seed)


def _sources(source: Any, settings: SoundSettings, validation: Any, test: Any) -> dict[str, Source]:
    """Where each part comes from that has a place of its own."""
    apart = {
        part: as_source(given if given is not None else setting, f"the {part} data given")
        for part, given, setting in (("validation", validation, settings.validation), ("test", test, settings.test))
    }
    name = settings.name if source is None and settings.path is None else None
    if isinstance(source, str) and is_known(source):
        name = source
    if name is not None:
        path = folder_of(name)
        if path is None:
            raise DataError(f"data.name: {name!r} holds no sound.")
        given: Source | None = Source(str(path), path)
    else:
        given = as_source(settings.path if source is None else source, "the training data given")
    if given is None:
        raise DataError("no data: name a file or folder (--data PATH), or a set (--set data.name=fsdd).")
    if hasattr(given.data, "read"):
        raise DataError("standard input: training reads its data more than once; give a file.")
    found = {"train": given}
    if isinstance(given.data, Mapping):
        found = in_mapping(given)
        if "train" not in found:
            raise DataError(f"{given.name}: has no train part, only {', '.join(found) or 'nothing'}.")
    if isinstance(given.data, Path):
        if isinstance(source, str):
            check_name(source, given.data)
        found = {part: Source(str(path), path) for part, path in places(given.data).items()}
    return found | {part: each for part, each in apart.items() if each is not None}


def in_mapping(given: Source) -> dict[str, Source]:
    """The parts that a mapping from Python names.

    Raises:
        DataError: It names anything else, or a part twice.
    """
    found: dict[str, Source] = {}
    for key, data in given.data.items():
        part = role(str(key))
        if part is None:
            raise DataError(f"{given.name}: {str(key)!r} is no part; expected train, valid and test.")
        if part in found:
            raise DataError(f"{given.name}: names the {part} part twice, the second time as {str(key)!r}.")
        source = as_source(data, f"the {part} data given")
        if source is None:
            raise DataError(f"{given.name}: the {part} part is None; expected sounds with their labels.")
        found[part] = source
    return found


def _heard(given: Source, where: Where, sum: Any) -> Heard:
    if isinstance(given.data, Path):
        return hear(given.data, where, sum)
    heard = in_python(given.data, given.name, where)
    sum.update(fingerprint(heard))
    return heard


def _check_said(heard: Heard, meaning: str) -> None:
    """Raises DataError where a recording has no label; an empty transcript is one."""
    for r in heard.recordings:
        if r.said is None or (meaning == "label" and not r.said.strip()):
            raise DataError(f"{heard.name}: {r.name} has no {meaning}; every recording needs one.")


def _hold_out(
    heard: dict[str, Heard],
    settings: SoundSettings,
    meaning: str,
    seed: int,
    sources: dict[str, str],
    warnings: list[str],
) -> None:
    """Take test and validation part out of the training part: those that a condition names, or that are drawn; which
    these are goes into `sources`."""
    train, drawn_of = heard["train"], heard["train"].name
    for part, key in (("test", "held_out"), ("validation", "held_out_validation")):
        text = getattr(settings, key)
        if text is None:
            continue
        if part in heard:
            raise DataError(f"data.{key}: the data have a {part} part of their own, {heard[part].name}; leave it out.")
        held = train.where(Condition(text, key))
        if held.all() or not held.any():
            raise DataError(
                f"{train.name}: data.{key}: {text!r} holds of {'all' if held.all() else 'none'} of "
                f"{len(train):,} recordings."
            )
        heard[part] = train.select(np.flatnonzero(held))
        train = train.select(np.flatnonzero(~held))
        sources[part] = f"{text} of {train.name}"
    shares = Shares.of(settings, heard, seed)
    drawn = shares.split(
        len(train), [r.said or "" for r in train.recordings] if meaning == "label" or settings.join else None
    )
    warnings += drawn.warnings
    for part, rows in (("validation", drawn.validation), ("test", drawn.test)):
        if rows is not None:
            heard[part] = train.select(rows)
            sources[part] = told({part}, {}, drawn_of, shares)[part]
    heard["train"] = train.select(drawn.train)


def _without_empty(heard: Heard, warnings: list[str]) -> Heard:
    """Without recordings of which nothing is said, which is more often a gap than silence."""
    empty = [r.name for r in heard.recordings if not (r.said or "").strip()]
    if not empty:
        return heard
    if len(empty) == len(heard):
        raise DataError(f"{heard.name}: every transcript is empty.")
    warnings.append(
        f"{heard.name}: {counted(len(empty), 'recording')} with an empty transcript left out of training; the first: "
        f"{empty[0]}."
    )
    return heard.select(i for i, r in enumerate(heard.recordings) if (r.said or "").strip())


def _say_empty(heard: Heard, part: str, warnings: list[str]) -> None:
    empty = [r.name for r in heard.recordings if not (r.said or "").strip()]
    if empty:
        warnings.append(
            f"{heard.name} ({part}): {counted(len(empty), 'recording')} with an empty transcript, of which every word "
            f"said counts as wrong; the first: {empty[0]}."
        )


def counted(count: int, what: str) -> str:
    """So many of something, in words."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def join(heard: Heard, settings: SoundSettings, rate: int, seed: int, part: str, count: int) -> Joined:
    """Draw sequences of recordings that share a field, none twice in one sequence, with silence around each.

    Args:
        heard: What they are made of.
        settings: `join`, `join_by` and `silence`.
        rate: Samples a second.
        seed: Of the draw.
        part: The part, which has random numbers of its own.
        count: Sequences.

    Raises:
        DataError: There are not enough recordings that share the field, or there is no such field.
    """
    assert settings.join is not None
    groups: dict[str, list[int]] = defaultdict(list)
    for i, r in enumerate(heard.recordings):
        if settings.join_by is not None and settings.join_by not in r.fields:
            raise DataError(f"{heard.name}: data.join_by: {unknown('field', settings.join_by, r.fields)}")
        groups[r.fields[settings.join_by] if settings.join_by is not None else ""].append(i)
    fewest = min(groups, key=lambda key: len(groups[key]))
    if len(groups[fewest]) < settings.join[1]:
        of = f" of {settings.join_by} {fewest}" if settings.join_by else ""
        raise DataError(
            f"{heard.name} ({part}): data.join: {len(groups[fewest])} recordings{of} are too few for sequences of up "
            f"to {settings.join[1]}."
        )
    random = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(crc32(b"join"), PARTS.index(part))))
    names, sizes = list(groups), np.array([len(rows) for rows in groups.values()], np.float64)
    joined = Joined([], [], [])
    for index in range(count):
        rows = groups[names[random.choice(len(names), p=sizes / sizes.sum())]]
        chosen = random.choice(rows, int(random.integers(settings.join[0], settings.join[1] + 1)), replace=False)
        gaps = np.rint(random.uniform(*settings.silence, len(chosen) + 1) * rate).astype(int).tolist()
        pieces = [(SILENCE, gaps[0])]
        for i, gap in zip(chosen.tolist(), gaps[1:], strict=True):
            pieces += [(i, 0), (SILENCE, gap)]
        joined.plan.append(pieces)
        joined.said.append(" ".join(heard.recordings[i].said or "" for i in chosen.tolist()))
        joined.names.append(f"{part}-{index}")
    return joined


# --- features -------------------------------------------------------------------------------------------------------


def sounds_of(heard: Heard, plan: Joined | None, transform: Transform) -> tuple[Sequences, Waves, np.ndarray]:
    """The features of recordings, joined as planned, with their sound and their seconds."""
    waves = Waves.of([r.sound.samples for r in heard.recordings], None if plan is None else plan.plan)
    names = [r.name for r in heard.recordings] if plan is None else plan.names
    features, counts, seconds = [], [], []
    for i in range(len(waves)):
        samples = waves[i]
        features.append(transform(samples))
        counts.append(len(features[-1]))
        seconds.append(len(samples) / transform.rate)
    offsets = torch.from_numpy(np.cumsum([0, *counts], dtype=np.int64))
    values = np.concatenate([np.empty((0, len(transform.names)), np.float32), *features])
    return Sequences(torch.from_numpy(values), offsets, ids=names), waves, np.array(seconds)


def texts_of(heard: Heard, plan: Joined | None) -> list[str] | None:
    """What was said in each; None where that is not known of all."""
    if plan is not None:
        return plan.said
    said = [r.said for r in heard.recordings]
    return None if any(text is None for text in said) else cast(list[str], said)


def learn_units(texts: Sequence[str], settings: SoundSettings, name: str) -> Units:
    """The symbols of the training transcripts."""
    return Units.learn(
        (text.strip() for text in texts), settings.unit, cut="blanks", lowercase=settings.lowercase, name=name
    )


def further(
    source: Any, settings: SoundSettings, rate: int, *, targets: bool, warnings: list[str]
) -> tuple[Heard, Joined | None]:
    """Further recordings, at the training data's rate: of a known set the test part as it was in training, else all
    that is there, by themselves.

    Raises:
        DataError: As for `Reader.part`.
    """
    if isinstance(source, str) and source == "-":
        source = sys.stdin.buffer
    if isinstance(source, str) and is_known(source):
        read = read_parts(source, settings, None, None, 0, rate, warnings)
        if "test" not in read.parts:
            raise DataError(f"{source}: the run had no test part; name files.")
        return read.parts["test"], read.plans["test"]
    given = as_source(source, "the data given")
    if given is None:
        raise DataError("no data; give a path, '-' for a WAV file on standard input, or sounds.")
    where = settings.where
    if not targets and where.pattern:
        where = replace(where, pattern=None)  # names may be any where nothing is asked of them
    if hasattr(given.data, "read"):
        heard = from_stream(cast(BinaryIO, given.data))
    elif isinstance(given.data, Path):
        path = given.data
        found = places(path)
        if found["train"] != path:
            if "test" not in found:
                raise DataError(f"{path}: holds the parts of a data set but no test part; name one of them.")
            warnings.append(f"{path}: {found['test'].name} is read.")
            path = found["test"]
        heard = hear(path, where, hashlib.sha256())
    else:
        if isinstance(given.data, Mapping):
            parts = in_mapping(given)
            if "test" not in parts and len(parts) != 1:
                raise DataError(f"{given.name}: has no test part, only {', '.join(parts) or 'nothing'}; name one.")
            given = parts["test"] if "test" in parts else next(iter(parts.values()))
        if isinstance(given.data, Path):
            heard = hear(given.data, where, hashlib.sha256())
        else:
            heard = in_python(given.data, given.name, where)
    heard = alike(heard, rate, warnings)
    if not targets:
        return heard.select(range(len(heard))) if heard.meaning is None else _untold(heard), None
    if heard.meaning is None or any(r.said is None for r in heard.recordings):
        raise DataError(f"{given.name}: does not tell what was said, which is needed to measure on it.")
    return said_of(heard, settings.words), None


def _untold(heard: Heard) -> Heard:
    return replace(heard, recordings=[replace(r, said=None) for r in heard.recordings], meaning=None)


def say_short(part: Sequences, transform: Transform, seconds: np.ndarray, name: str, warnings: list[str]) -> None:
    """Tell of recordings that are shorter than one frame."""
    short_ones = np.flatnonzero(seconds * transform.rate < transform.window)
    if len(short_ones):
        first = part.ids[int(short_ones[0])] if part.ids is not None else str(short_ones[0])
        warnings.append(
            f"{name}: {counted(len(short_ones), 'recording')} shorter than a frame of "
            f"{transform.settings.window:g} ms, filled up with silence; the first: {first}."
        )


def kept_settings(settings: SoundSettings, seed: int) -> dict[str, Any]:
    """What is kept of the settings, to read further data alike."""
    return settings.model_dump(mode="json", exclude={*OF_PARTS}) | {"split_seed": seed}


def described(parts: Parts[Any, Any], rate: int, seconds: Callable[[Any], np.ndarray], said: Sequence[str]) -> str:
    """What a set of recordings looks like to its reader."""
    lines = []
    for name, part in parts.named.items():
        lengths = seconds(part)
        lines += [
            f"{name}: {parts.sources[name]} ({parts.schema.format})",
            f"  recordings {len(part):,}, {lengths.sum():,.1f} s in all",
            f"  seconds    {lengths.min():.2f} to {lengths.max():.2f}, median {float(np.median(lengths)):.2f}",
        ]
    first = parts.schema.features
    lines.append(f"{rate:,} samples a second; {len(first)} features a frame ({first[0]} to {first[-1]})")
    return "\n".join([*lines, *said, *(f"warning: {warning}" for warning in parts.warnings)])


def in_order(labels: Sequence[str]) -> list[str]:
    """The labels there are: whole numbers by size, others by the alphabet."""
    distinct = set(labels)
    if all(label.isascii() and label.isdigit() for label in distinct):
        return sorted(distinct, key=lambda label: (int(label), label))
    return sorted(distinct)
