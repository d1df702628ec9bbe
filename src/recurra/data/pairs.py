"""Pairs of a source and a target text, numbered: what `translate` learns from."""

import hashlib
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from recurra.data.delimited import short
from recurra.data.opening import check_exists, digest
from recurra.data.parallel import FORMATS, Languages, Raw, Spot, beside, in_python, language, read, spot, spots
from recurra.data.reader import Parts, Reader
from recurra.data.records import Records
from recurra.data.sequences import AnySchema, Sequences
from recurra.data.settings import OF_PARTS, DataSettings, PlaceSettings
from recurra.data.sources import PARTS, Source, as_source, check_name, folder_of, is_known, made_sources, told
from recurra.data.split import Shares
from recurra.data.units import END, START, Unit, Units
from recurra.errors import DataError, unknown


class PairSettings(PlaceSettings):
    """The `data.*` settings of translate: where pairs are, and how their texts are cut."""

    source: str | None = Field(
        default=None, description="what is translated: the ending of a file's name (en), a column, or a file"
    )
    target: str | None = Field(default=None, description="what it is translated into, likewise")
    header: bool | None = Field(default=None, description="whether a table's first line names its columns")
    separator: str | None = Field(default=None, description="what stands between a table's columns")
    columns: list[str] | None = Field(default=None, description="names for the columns of a table without a header")
    unit: Unit = Field(default="subword", description="what texts are cut into")
    source_unit: Unit | None = Field(default=None, description="that of the sources, where it is another")
    vocabulary: Literal["joint", "apart"] = Field(
        default="joint", description="one vocabulary for both sides, or one for each"
    )
    max_vocabulary: int = Field(default=8000, ge=5, description="most symbols of a vocabulary, the most frequent first")
    max_source_vocabulary: int | None = Field(
        default=None, ge=5, description="apart: that of the sources, where it is another"
    )
    min_count: int = Field(default=1, ge=1, description="symbols seen less often are not in the vocabulary")
    lowercase: bool = Field(default=False, description="fold sources to lower case; targets stay as they are")
    max_length: int | None = Field(
        default=None, ge=1, description="most symbols of a text that is learnt from; longer ones are counted and said"
    )
    too_long: Literal["leave_out", "cut"] = Field(
        default="leave_out",
        description="what is done about a longer one in training; elsewhere a source is cut, and no target",
    )

    @model_validator(mode="after")
    def _joint_is_alike(self) -> "PairSettings":
        if self.vocabulary == "joint":
            for key in ("source_unit", "max_source_vocabulary"):
                if getattr(self, key) is not None:
                    raise ValueError(f"{key}: one vocabulary serves both sides; it goes with vocabulary = 'apart'")
            if self.lowercase and self.unit != "word":
                raise ValueError("lowercase: folds the sources alone, so it goes with vocabulary = 'apart'")
        return self


class PairSchema(AnySchema):
    """What the training pairs settled."""

    input: Literal["tokens", "vector", "features"]
    features: list[str] = Field(default_factory=list)  # vector, or those of each step: a name for each of the numbers
    target_units: Units
    source_units: Units | None = None  # None where the targets' serve both sides, or where there are numbers

    @property
    def source(self) -> Units:
        """The vocabulary of the sources."""
        assert self.input == "tokens"
        return self.target_units if self.source_units is None else self.source_units

    @property
    def joint(self) -> bool:
        """Whether one vocabulary serves both sides."""
        return self.input == "tokens" and self.source_units is None


@dataclass(frozen=True)
class Pairs:
    """N pairs.

    Attributes:
        source: The sources' symbols; or vectors, each a sequence of one step; or features, a vector a step.
        target: The targets' symbols, without `<s>` and `</s>`; None where there are no targets.
        sources: The sources as written, of features their names; empty for vectors.
        targets: The targets as written; None where there are none.
    """

    source: Sequences
    target: Sequences | None
    sources: list[str]
    targets: list[str] | None

    def __len__(self) -> int:
        return len(self.source)

    @property
    def lengths(self) -> Tensor:
        """Symbols (or steps) of each source, of vectors symbols of each target, (N,) int64."""
        is_vector = self.source.values.dim() == 2 and len(self.source.values) == len(self)
        return self.target.lengths if is_vector and self.target is not None else self.source.lengths

    def select(self, rows: Tensor | np.ndarray) -> "Pairs":
        """The named pairs, in the order given."""
        chosen = np.asarray(rows).tolist()
        return Pairs(
            self.source.select(rows),
            None if self.target is None else self.target.select(rows),
            [self.sources[i] for i in chosen] if self.sources else [],
            None if self.targets is None else [self.targets[i] for i in chosen],
        )


class PairReader(Reader[Pairs, PairSchema]):
    """Reads pairs; the vocabularies are those of the training part."""

    settings = PairSettings
    schema = PairSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: PairSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: PairSchema | None = None,
    ) -> Parts[Pairs, PairSchema]:
        """See `Reader.parts`."""
        if settings.format is not None and settings.format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', settings.format, FORMATS)}")
        settings, files = _as_languages(settings, is_placed=source is not None or settings.path is not None)
        warnings: list[str] = []
        sources = _find(source, validation, test, task, settings, files, warnings)
        sum = hashlib.sha256()
        raws = {part: _read(given, settings, sum) for part, given in sources.items()}
        for part, raw in raws.items():
            warnings += raw.warnings
            if raw.targets is None:
                raise DataError(f"{sources[part].name}: has no targets; expected a text for each source.")
        name, raw = sources["train"].name, _without_empty(raws["train"], sources["train"].name, warnings)
        if len(raw) < 2:
            raise DataError(
                f"{name}: holds {len(raw)} pair{'s' * (len(raw) != 1)} to learn from; expected at least two."
            )
        shares = Shares.of(settings, raws, seed)
        drawn = shares.split(len(raw))
        warnings += drawn.warnings
        for part, rows in (("validation", drawn.validation), ("test", drawn.test)):
            if rows is not None:
                raws[part] = raw.select(rows)
        raws["train"] = raw.select(drawn.train) if len(drawn.train) < len(raw) else raw
        schema = _learn(raws["train"], settings, task, name) if kept is None else _kept(raws["train"], kept, name)
        parts = {}
        for part in PARTS:
            if part in raws:
                where = sources[part].name if part in sources else f"{name} ({part} part)"
                parts[part] = _encode(raws[part], schema, settings, where, warnings, learns=part == "train")
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=warnings,
            sources=told(parts, sources, name, shares),
            fingerprint=sum.hexdigest(),
        )

    def describe(self, source: Any, settings: PairSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        schema, lines = parts.schema, []
        for name, part in parts.named.items():
            assert part.target is not None
            assert part.targets is not None
            lines += [f"{name}: {parts.sources[name]} ({schema.format})", f"  pairs      {len(part):,}"]
            if schema.input == "tokens":
                lines.append(f"  sources    {_spread(part.source.lengths)} {schema.source.unit}s")
            lines.append(f"  targets    {_spread(part.target.lengths)} {schema.target_units.unit}s")
            for i in range(min(3, len(part))):
                first = part.sources[i] if part.sources else "a vector"
                lines.append(
                    f"  {'first' if i == 0 else '     '}      {short(first, 50)} | {short(part.targets[i], 50)}"
                )
        if schema.input == "vector":
            more = " …" if len(schema.features) > 8 else ""
            lines.append(f"values of a source: {len(schema.features)} ({', '.join(schema.features[:8])}{more})")
        elif not schema.joint:
            lines.append(f"vocabulary of sources: {len(schema.source):,}")
        kind = "vocabulary of both sides" if schema.joint else "vocabulary of targets"
        lines.append(f"{kind}: {len(schema.target_units):,}")
        return "\n".join(lines + [f"warning: {warning}" for warning in parts.warnings])

    def part(
        self, source: Any, schema: PairSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Pairs, list[str]]:
        """See `Reader.part`. A file of sources, a line each, is read alone, or with its partner where targets must be
        there; so is a folder's test part."""
        settings = self.settings_of(schema).model_copy(update={"format": format})
        if format is not None and format not in FORMATS:
            raise DataError(f"--input-format: {unknown('format', format, FORMATS)}")
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        if isinstance(source, str) and is_known(source):
            options = settings.options if schema.format == source else {}
            source = folder_of(source) or made_sources(source, schema.task, options).popitem()[1]
        given = as_source(source, "the data given")
        if given is None:
            raise DataError("no data; give a path, '-' for standard input, texts, vectors, or (sources, targets).")
        if format is None and hasattr(given.data, "read") and schema.input == "vector" and schema.format in FORMATS:
            settings = settings.model_copy(update={"format": schema.format})  # lines would be no vectors
        warnings: list[str] = []
        if isinstance(given.data, Path):
            given = _further(given.data, settings, schema, targets)
        raw = _read(given, settings, hashlib.sha256(), schema)
        warnings += raw.warnings
        if targets and raw.targets is None:
            raise DataError(f"{given.name}: has no targets, which are needed to measure on it.")
        if schema.input == "vector" and isinstance(raw.sources, list):
            raise DataError(f"{given.name}: holds texts; the training data had {len(schema.features)} numbers each.")
        if schema.input == "tokens" and not isinstance(raw.sources, list):
            raise DataError(f"{given.name}: holds vectors; the training data had texts.")
        _check_width(raw, schema, given.name)
        _say_empty(raw, given.name, warnings)
        return _encode(raw, schema, settings, given.name, warnings), warnings


def _spread(lengths: Tensor) -> str:
    return f"{int(lengths.min()):,} to {int(lengths.max()):,}, median {float(lengths.median()):g}"


def text_of(units: Units, symbols: Iterable[int]) -> str:
    """A text of its symbols, as `numbered` cut it."""
    said = units.decode(symbols)
    return said.removeprefix(" ") if units.unit == "subword" else said


def numbered(units: Units, text: str) -> np.ndarray:
    """The symbols of a text, (S,) int32. Subwords are those of the text behind a blank, so that its first word is the
    same symbol as in the middle of another text."""
    text = text.strip()
    return units.encoded(f" {text}" if units.unit == "subword" and text else text)


# --- where ----------------------------------------------------------------------------------------------------------


def _find(
    source: Any,
    validation: Any,
    test: Any,
    task: str,
    settings: PairSettings,
    files: Spot | None,
    warnings: list[str],
) -> dict[str, Source]:
    """Where each part comes from, each a `Spot`, records, or Python data; `files` are the two that settings name."""
    languages = Languages(settings.source, settings.target)
    apart = {
        part: as_source(given if given is not None else setting, f"the {part} data given")
        for part, given, setting in (("validation", validation, settings.validation), ("test", test, settings.test))
    }
    apart = {part: given for part, given in apart.items() if given is not None}
    is_named = source is None and settings.path is None and files is None
    name = source if isinstance(source, str) and is_known(source) else settings.name if is_named else None
    folder, place = Path(), None if name is None else folder_of(name)
    if name is not None and place is None:
        found = made_sources(name, task, settings.options)
    elif source is None and settings.path is None and files is not None:
        found = {"train": _at(files)}
    else:
        given = as_source(place or (settings.path if source is None else source), "the data given")
        if given is None:
            raise DataError("no data: name a file or folder (--data PATH), or a set (--set data.name=multi30k).")
        if hasattr(given.data, "read"):
            raise DataError("standard input: training reads its data more than once; give a file.")
        found = {"train": given}
        if isinstance(given.data, Path):
            if isinstance(source, str) and not _is_there(given.data, languages):
                check_name(source, given.data)
            folder = given.data if given.data.is_dir() else given.data.parent
            found = _parts_at(given.data, languages, settings.format, apart, warnings)
    for part, given in apart.items():
        if isinstance(given.data, Path):
            path = given.data
            if not path.is_absolute() and not path.parent.joinpath(path.name).exists() and folder != Path():
                beside_it = folder / path  # `test_2016_flickr`, as it is called in the data's own folder
                path = beside_it if beside_it.parent.is_dir() and not _is_there(path, languages) else path
            where = spots(path, languages, settings.format)["train"] if path.is_dir() else None
            given = _at(where or spot(path, languages, settings.format))
        found[part] = given
    return found


def _is_there(path: Path, languages: Languages) -> bool:
    """Whether there are two files that `path` names by what they have in common."""
    return path.parent.is_dir() and any(
        entry.name.startswith(f"{path.name}.{languages.source}") for entry in path.parent.iterdir()
    )


def _as_languages(settings: PairSettings, *, is_placed: bool = False) -> tuple[PairSettings, Spot | None]:
    """The settings with endings for files where `source` and `target` name files, and where these are.

    Raises:
        DataError: One side alone is a file, or a file is missing, or the data are named elsewhere (`is_placed`).
    """
    named = [Path(value).expanduser() if value else None for value in (settings.source, settings.target)]
    is_file = [path is not None and (path.is_file() or len(path.parts) > 1) for path in named]
    if not any(is_file):
        return settings, None
    for key, path in zip(("source", "target"), named, strict=True):
        if path is None:
            raise DataError(f"data.{key}: is not set, though the other side is a file; expected a file, too.")
    source, target = cast(list[Path], named)
    check_exists(source)
    check_exists(target)
    if is_placed:
        raise DataError(
            f"data.source and data.target name the files {source} and {target}, but --data (data.path) says where the "
            "data are, too; leave one of them out, or give endings of files or columns there, such as "
            f"data.source={language(source) or 'en'}."
        )
    endings = {"source": language(source) or None, "target": language(target) or None}
    return settings.model_copy(update=endings), Spot(source, target, "parallel")


def _at(where: Spot) -> Source:
    return Source(str(where), where)


def _parts_at(
    path: Path, languages: Languages, format: str | None, given: Collection[str], warnings: list[str]
) -> dict[str, Source]:
    """The parts in a folder, or that which `path` is, and those that lie beside it."""
    if path.is_dir():
        return {part: _at(where) for part, where in spots(path, languages, format, given).items()}
    train = spot(path, languages, format)
    found = {"train": train}
    if train.target is not None:
        languages = Languages(language(train.path), language(train.target))
    for part, where in beside(train.path, languages, format, given).items():
        warnings.append(f"{where}: lies beside {train.path.name} and is taken as {part} part.")
        found[part] = where
    return {part: _at(where) for part, where in found.items()}


def _further(path: Path, settings: PairSettings, schema: PairSchema, targets: bool) -> Source:
    """What is read of a path of further data."""
    settings, _ = _as_languages(settings)
    languages = Languages(settings.source, settings.target)
    if path.is_dir():
        found = spots(path, languages, settings.format)
        if "test" not in found and len(found) > 1:
            raise DataError(f"{path}: holds the parts of a data set but no test part; name one file.")
        return _at(found.get("test") or found["train"])
    if settings.format is None and schema.format in ("tsv", "table", "npz") and path.is_file():
        where = (
            Spot(path, None, schema.format) if schema.input == "vector" else spot(path, languages, None, lonely=True)
        )
        return _at(where)
    if not targets and path.is_file() and settings.format is None:
        partner = spot(path, languages, None, lonely=True)
        return _at(partner)
    return _at(spot(path, languages, settings.format))


# --- what -----------------------------------------------------------------------------------------------------------


def _read(given: Source, settings: PairSettings, sum: Any, schema: PairSchema | None = None) -> Raw:
    """What a source holds; all that was read goes into the digest `sum`."""
    data = given.data
    options = DataSettings(
        header=settings.header, separator=settings.separator, columns=settings.columns, encoding=settings.encoding
    )
    columns: dict[str, object] = {"source": settings.source, "target": settings.target, "format": settings.format}
    known = schema.features if schema is not None else ()
    if isinstance(data, Spot):
        for file in data.files:
            sum.update(digest(file))
        return read(data, options, columns, known)
    if hasattr(data, "read"):
        return read(cast(BinaryIO, data), options, columns, known)
    if isinstance(data, Records):
        raw = _made(data, given.made or "")
    else:
        raw = in_python(data, given.name)
    sum.update(raw.sources.tobytes() if isinstance(raw.sources, np.ndarray) else repr(raw.sources).encode())
    sum.update(repr(raw.targets).encode())
    return raw


def _made(records: Records, name: str) -> Raw:
    """Pairs of a source that needs no file: a vector, or symbols, and a text as the label."""
    targets = None if records.labels is None else [label for (label,) in records.labels]
    return Raw(np.asarray(records.values, np.float32), targets, records.place, name, features=records.features)


def _is_empty(raw: Raw) -> np.ndarray:
    """(N,) bool: pairs of which a side holds nothing but blanks."""
    empty = np.zeros(len(raw), bool)
    for side in (raw.sources, raw.targets):
        if isinstance(side, list):
            empty |= np.array([not text.strip() for text in side], bool)
    return empty


def _without_empty(raw: Raw, name: str, warnings: list[str]) -> Raw:
    """Without pairs of which a side is empty, which there is nothing to be learnt from."""
    empty = _is_empty(raw)
    if not empty.any():
        return raw
    first = raw.place(int(np.flatnonzero(empty)[0]))
    warnings.append(f"{name}: {_counted(int(empty.sum()), 'pair')} with an empty side left out; the first: {first}.")
    return raw.select(np.flatnonzero(~empty))


def _say_empty(raw: Raw, name: str, warnings: list[str]) -> None:
    if isinstance(raw.sources, list) and (empty := [i for i, text in enumerate(raw.sources) if not text.strip()]):
        warnings.append(
            f"{name}: {_counted(len(empty), 'source')} with nothing in it; the first: {raw.place(empty[0])}. An empty "
            "text is what is said of it."
        )


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _learn(raw: Raw, settings: PairSettings, task: str, name: str) -> PairSchema:
    """The vocabularies of the training part."""
    assert raw.targets is not None
    s, texts = settings, raw.sources if isinstance(raw.sources, list) else []
    kept = settings.model_dump(exclude={*OF_PARTS})
    targets: Iterable[str] = raw.targets
    joint = bool(texts) and s.vocabulary == "joint"
    common: dict[str, Any] = {"min_count": s.min_count, "name": name}
    units = Units.learn(
        _given(chain(texts, targets) if joint else targets, s.unit),
        s.unit,
        size=s.max_vocabulary,
        lowercase=joint and s.lowercase,
        **common,
    )
    source_units = None
    if texts and not joint:
        unit = s.source_unit or s.unit
        size = s.max_source_vocabulary or s.max_vocabulary
        source_units = Units.learn(_given(texts, unit), unit, size=size, lowercase=s.lowercase, **common)
    return PairSchema(
        task=task,
        format=raw.format,
        settings=kept | raw.settings,
        input="tokens" if texts else "vector",
        features=raw.features,
        target_units=units,
        source_units=source_units,
    )


def _given(texts: Iterable[str], unit: Unit) -> Iterator[str]:
    """Texts as `numbered` gives them to the vocabulary."""
    return (f" {text.strip()}" for text in texts) if unit == "subword" else (text.strip() for text in texts)


def _kept(raw: Raw, kept: PairSchema, name: str) -> PairSchema:
    """The schema of an earlier run, which these data go on with."""
    if (kept.input == "tokens") != isinstance(raw.sources, list):
        was, now = ("texts", "vectors") if kept.input == "tokens" else ("vectors", "texts")
        raise DataError(f"{name}: holds {now}; that run learnt from {was}.")
    _check_width(raw, kept, name)
    return kept.model_copy(update={"format": raw.format, "settings": kept.settings | raw.settings})


def _check_width(raw: Raw, schema: PairSchema, name: str) -> None:
    """Raises DataError where vectors are of another width than the training data's."""
    if isinstance(raw.sources, np.ndarray) and raw.sources.shape[1] != len(schema.features):
        raise DataError(
            f"{name}: vectors of {raw.sources.shape[1]} numbers; the training data had {len(schema.features)}."
        )


def _encode(
    raw: Raw, schema: PairSchema, settings: PairSettings, name: str, warnings: list[str], *, learns: bool = False
) -> Pairs:
    """The pairs in numbers; of those that are longer than the limit it is said how many there are."""
    targets = None if raw.targets is None else [numbered(schema.target_units, text) for text in raw.targets]
    limit = settings.max_length
    if isinstance(raw.sources, np.ndarray):
        sources, written = list(raw.sources[:, None]), []
    else:
        sources, written = [numbered(schema.source, text) for text in raw.sources], raw.sources
    if limit is not None:
        long = [i for i, side in enumerate(sources) if isinstance(raw.sources, list) and len(side) > limit]
        long_targets = [i for i, side in enumerate(targets or []) if learns and len(side) > limit]
        over = sorted({*long, *long_targets})
        if over:
            longest = max(len(side[i]) for side in (sources, targets or sources) for i in over)
            leaves = learns and settings.too_long == "leave_out"
            what = "pair" if learns else "source"
            warnings.append(
                f"{name}: {_counted(len(over), what)} longer than data.max_length, {limit} symbols (the longest has "
                f"{longest}), {'left out' if leaves else 'cut'}; the first: {raw.place(over[0])}."
            )
            if leaves:
                left = [i for i in range(len(sources)) if i not in set(over)]
                if not left:
                    raise DataError(f"{name}: all pairs are longer than data.max_length, {limit} symbols.")
                return _encode(raw.select(left), schema, settings, name, warnings, learns=True)
            for i in over:
                if isinstance(raw.sources, list):
                    sources[i] = sources[i][:limit]
                if targets is not None and learns:
                    targets[i] = targets[i][:limit]
    width = None if isinstance(raw.sources, list) else raw.sources.shape[1]
    return Pairs(
        _laid(sources, width),
        None if targets is None else _laid(targets, None),
        list(written),
        raw.targets,
    )


def _laid(rows: list[np.ndarray], width: int | None) -> Sequences:
    """Arrays end to end."""
    offsets = torch.zeros(len(rows) + 1, dtype=torch.int64)
    torch.cumsum(torch.tensor([len(row) for row in rows], dtype=torch.int64), 0, out=offsets[1:])
    empty = np.empty(0, np.int32) if width is None else np.empty((0, width), np.float32)
    return Sequences(torch.from_numpy(np.concatenate([empty, *rows])), offsets)


# --- batches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PairBatch:
    """B pairs padded to the longest, time first.

    Attributes:
        source: Symbols and `</s>`, (S, B) int64, or vectors, (1, B, D) float32.
        source_lengths: (B,) int64 on the CPU, `</s>` counted; None where all have S steps.
        given: What the decoder reads: `<s>` and the target's symbols, (T, B) int64; None without targets.
        wanted: What it is to say: the target's symbols and `</s>`, (T, B) int64; None without targets.
        target_lengths: (B,) int64 on the CPU, `</s>` counted.
        indices: (B,) which of the data's pairs these are.
        forcing: Share of the symbols given that the decoder is to read, rather than its own, in training.
    """

    source: Tensor
    source_lengths: Tensor | None
    given: Tensor | None
    wanted: Tensor | None
    target_lengths: Tensor | None
    indices: Tensor
    forcing: float = 1.0

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Tensor | float | None, ...]:
        """What the network is called with."""
        return (self.source, self.source_lengths, self.given, self.target_lengths, self.forcing)

    @property
    def within(self) -> Tensor:
        """(T, B) bool: the steps of the targets that are no padding, on the CPU."""
        assert self.wanted is not None
        assert self.target_lengths is not None
        return torch.arange(len(self.wanted)).unsqueeze(1) < self.target_lengths

    @property
    def true(self) -> Tensor:
        """What is to be said at those steps, (M,), in order of time and then of rows."""
        assert self.wanted is not None
        return self.wanted[self.within.to(self.wanted.device)]

    @property
    def samples(self) -> int:
        """How many pairs."""
        return len(self)

    @property
    def steps(self) -> int:
        """Symbols of both sides, without padding."""
        own = self.source.shape[0] * len(self) if self.source_lengths is None else int(self.source_lengths.sum())
        return own + (0 if self.target_lengths is None else int(self.target_lengths.sum()))

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "PairBatch":
        """The batch on another device, its numbers in another precision."""
        kind = dtype if self.source.is_floating_point() else None
        given, wanted = (None if v is None else v.to(device) for v in (self.given, self.wanted))
        return replace(self, source=self.source.to(device, kind), given=given, wanted=wanted)


def collate(pairs: Pairs, indices: Tensor) -> PairBatch:
    """Pad the named pairs to one batch."""
    source, lengths = _padded(pairs.source, indices)
    given = wanted = target_lengths = None
    if pairs.target is not None:
        target, counts = _padded(pairs.target, indices)
        target_lengths = counts + 1
        start = torch.full((1, len(indices)), START)
        given = torch.cat([start, target])
        wanted = torch.cat([target, torch.zeros_like(start)])
        wanted[counts, torch.arange(len(indices))] = END
    if source.dim() == 2:
        source = torch.cat([source, torch.zeros(1, len(indices), dtype=torch.int64)])
        source[lengths, torch.arange(len(indices))] = END
        lengths = lengths + 1
    equal = bool((lengths == len(source)).all())
    return PairBatch(source, None if equal else lengths, given, wanted, target_lengths, indices)


def _padded(data: Sequences, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The named sequences, (T, B) or (T, B, D), zero behind their ends; and their lengths, (B,)."""
    lengths = data.lengths[indices]
    T = int(lengths.max()) if len(lengths) else 0
    steps = torch.arange(T).unsqueeze(1)
    places = data.offsets[indices] + steps.minimum((lengths - 1).clamp(min=0))
    if not len(data.values):
        places = places[:0]
    x = data.values[places.clamp(max=max(0, len(data.values) - 1))]
    padded = steps >= lengths
    x = x.masked_fill(padded.unsqueeze(-1) if x.dim() == 3 else padded, 0)
    return (x.float() if x.dim() == 3 else x.long()), lengths
