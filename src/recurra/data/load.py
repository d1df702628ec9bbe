"""Sequences from wherever they are: a file, a folder with parts, a known name, standard input, or Python data."""

import codecs
import hashlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast, runtime_checkable

import numpy as np

from recurra.data import encode, table, text
from recurra.data.arrays import KINDS, is_frame, read_data
from recurra.data.idx import is_labels
from recurra.data.opening import (
    WrongEncodingError,
    check_exists,
    digest,
    entries,
    first_bytes,
    first_lines,
    open_binary,
    open_text,
)
from recurra.data.parts import find_parts, listed, role
from recurra.data.reader import Parts, Reader
from recurra.data.records import FORMATS, Format, Records
from recurra.data.sequences import Schema, Sequences
from recurra.data.settings import DataSettings
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, made_sources, told
from recurra.data.split import Shares, Split
from recurra.errors import DataError, unknown


@runtime_checkable
class HasCompanions(Protocol):
    """A format whose data set lies in several files."""

    def companions(self, path: Path) -> list[Path]:
        """The further files that are read with `path`."""
        ...


def load_parts(
    source: Any,
    task: str,
    settings: DataSettings,
    *,
    validation: Any = None,
    test: Any = None,
    seed: int = 0,
    vocabulary: list[str] | None = None,
) -> Parts[Sequences, Schema]:
    """Read a data set in its parts; those that are missing are split off the training part by seed.

    Args:
        source: A path (a file, or a folder with parts), the name of a known set where there is no such file, Python
            data as `recurra.data.arrays.read_data` takes them, or None: then `settings.path`, else `settings.name`. A
            name is looked for in $RECURRA_DATA, in the cache of fetched sets, and among the sources that need no file.
        task: "classify" or "regress".
        settings: How to read.
        validation: Path or Python data of the validation part; else `settings.validation`, else what `source` has.
        test: Path or Python data of the test part, likewise.
        seed: Of the split, where `settings.split_seed` names none.
        vocabulary: For texts, the vocabulary of an earlier run, to go on with.

    Returns:
        The parts. The test part is drawn before the validation part and so depends on the seed of the split alone.

    Raises:
        DataError: Nothing there, or anything in it that is not as it should be, with file and line.
    """
    reading = Reading(task, settings)
    sources, warnings = find_sources(source, validation, test, task, settings, ranking(task, settings))
    name = sources["train"].name
    records, format = reading.records(sources["train"], None)
    encode.check(records, name)
    encode.merge(records, name, settings, strict=True)
    if settings.phrases != "none" and records.phrases is None:
        raise DataError(f"data.phrases: {settings.phrases}: {name} holds no trees, whose phrases have labels.")
    permutation = encode.arrange(records, name, settings, None)
    encode.cut(records, settings)
    learnt = partial(encode.learn, records, name, permutation=permutation, vocabulary=vocabulary)
    schema = learnt(np.arange(len(records)), task, format, settings)
    apart = _read_apart(reading, sources, schema, warnings)

    shares = Shares.of(settings, apart, seed)
    drawn = _draw(records, name, shares, settings, task)
    shrunk = len(drawn.train) < len(records)
    if shrunk:  # what is not trained on settles nothing
        schema = learnt(drawn.train, task, format, settings)
    whole, said = encode.encode(records, name, schema)
    warnings += [*said, *drawn.warnings]
    del records, learnt
    parts = {
        part: whole.select(indices)
        for part, indices in (("validation", drawn.validation), ("test", drawn.test))
        if indices is not None
    }
    parts["train"] = whole.select(drawn.train) if shrunk else whole
    del whole
    for part in list(apart):
        parts[part], said = encode.encode(apart.pop(part), sources[part].name, schema)
        warnings += said
    return Parts(
        train=parts["train"],
        validation=parts.get("validation"),
        test=parts.get("test"),
        schema=schema,
        warnings=warnings,
        sources=told(parts, sources, name, shares),
        fingerprint=reading.digest.hexdigest(),
    )


def _read_apart(
    reading: "Reading", sources: dict[str, Source], schema: Schema, warnings: list[str]
) -> dict[str, Records]:
    """The records of the parts that stand apart; one that was found by its name alone is left out without targets."""
    apart: dict[str, Records] = {}
    for part in PARTS[1:]:
        if part in sources:
            source = sources[part]
            records = reading.checked(source, schema, targets=not source.found)
            if reading.targets(records) is None:
                warnings.append(
                    f"{source.name}: has no {reading.wanted} and is left out, though its name tells of {part}."
                )
            else:
                apart[part] = records
    return apart


def _draw(records: Records, name: str, shares: Shares, settings: DataSettings, task: str) -> Split:
    """Which sequences each part has. Phrases are learnt from alone, and only those of sentences that are."""
    strata = _strata(records) if settings.stratify and task == "classify" else None
    sentences = np.arange(len(records)) if records.phrases is None else np.flatnonzero(records.phrases.whole)
    drawn = shares.split(len(sentences), strata and [strata[i] for i in sentences])
    if records.phrases is None:
        return drawn
    validation, test = (None if part is None else sentences[part] for part in drawn[1:3])
    held = np.concatenate([part for part in (sentences[:0], validation, test) if part is not None])
    train = records.phrases.apart_from(held)
    said = f"{len(train):,} phrases of {len(np.unique(records.phrases.sentence[train])):,} sentences are learnt from"
    once = ", each once" if settings.phrases == "distinct" else ""
    said = f"{said}{once}; {records.phrases.whole[train].sum():,} of them are whole sentences"
    return Split(train, validation, test, [*drawn.warnings, f"{name}: {said}."])


def _strata(records: Records) -> list[str] | None:
    """The class of each sequence, of which every part is to have its share; None where there may be several."""
    if records.multi_label or records.labels is None:
        return None
    return [row[0] if row else "" for row in records.labels]


def load_part(
    source: Any, schema: Schema, *, targets: bool = False, format: str | None = None
) -> tuple[Sequences, list[str]]:
    """Read further data as the training data were read.

    Args:
        source: A path, the name of a known set, "-" or an open binary file for standard input, or Python data. Of a
            folder with parts the test part is read.
        schema: Of the training data.
        targets: Whether targets must be there.
        format: Name of the format; by default that of the training data, or found from the content.

    Returns:
        The sequences, and what a person should know, such as labels that the training data do not have (-1).

    Raises:
        DataError: Nothing there, no targets where they must be, other features than the training data's, or anything
            else that is not as it should be, with file and line.
    """
    settings = encode.settings_of(schema).model_copy(update={"format": format})
    if isinstance(source, str) and source == "-":
        source = sys.stdin.buffer
    if isinstance(source, str) and is_known(source):
        options = settings.options if schema.format == source else {}
        source = folder_of(source) or made_sources(source, schema.task, options).popitem()[1]
    found = as_source(source, "the data given")
    if found is None:
        raise DataError(f"no data; give a path, '-' for standard input, or {KINDS}.")
    reading = Reading(schema.task, settings)
    warnings: list[str] = []
    if isinstance(found.data, Path) and found.data.is_dir():
        path = _further(found.data, schema, settings)
        if path != found.data:
            warnings.append(f"{found.data}: {path.relative_to(found.data)} is read.")
            found = Source(str(path), path)
    records = reading.checked(found, schema, targets=targets, measured=targets)
    part, said = encode.encode(records, found.name, schema)
    return part, warnings + said


def _further(folder: Path, schema: Schema, settings: DataSettings) -> Path:
    """What is read of a folder of further data: its test part, else what it holds as it stands."""
    rank = ranking(schema.task, settings)
    parts = [entry for entry in entries(folder) if role(entry.name) is not None]
    if parts:
        if not any(role(entry.name) == "train" for entry in parts):
            test = [entry for entry in parts if role(entry.name) == "test" and not is_labels(entry)]
            if len(test) == 1:
                return test[0]
        elif (test := find_parts(folder, rank).test) is not None:
            return test
        raise DataError(f"{folder}: holds the parts of a data set but no single test part; name one file.")
    if schema.input == "tokens" or rank(folder) is not None:
        return folder
    return find_parts(folder, rank).train


class Reading:
    """Reads sources, and keeps a digest of all that was read."""

    def __init__(self, task: str, settings: DataSettings):
        if settings.format is not None and settings.format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', settings.format, FORMATS)}")
        self.task = task
        self.settings = settings
        self.digest = hashlib.sha256()

    def records(self, source: Source, schema: Schema | None) -> tuple[Records, str]:
        """What a source holds, and the name of its format."""
        data = source.data
        if isinstance(data, Path):
            format = choose_format(data, self.task, self.settings, schema)
            for path in _files(data, format):
                self.digest.update(digest(path))
            return format.read(data, self.task, self.settings, schema), format.name
        if hasattr(data, "read"):
            name = self.settings.format or (schema.format if schema else "")
            if name not in FORMATS:
                raise DataError(
                    f"standard input: the training data were no file ({name}); name the format: --input-format "
                    f"{'|'.join(FORMATS)}."
                )
            return FORMATS[name].read(cast(BinaryIO, data), self.task, self.settings, schema), name
        if source.made:
            records, format = data, source.made
        else:
            records = read_data(data, self.task, self.settings, schema, source.name)
            format = _frame_format(records) if is_frame(data) else "arrays"
        _update(self.digest, records)
        return records, format

    def checked(self, source: Source, schema: Schema, *, targets: bool, measured: bool = True) -> Records:
        """What a source of further data holds, checked and cut; where it is not measured on, nothing is left out."""
        records, _ = self.records(source, schema)
        if targets and self.targets(records) is None:
            raise DataError(f"{source.name}: has no {self.wanted}, which are needed to measure on it.")
        encode.check(records, source.name)
        encode.merge(records, source.name, self.settings, measured=measured)
        encode.arrange(records, source.name, self.settings, schema)
        encode.cut(records, self.settings)
        return records

    def targets(self, records: Records) -> object:
        """What is to be predicted, by task; None where records have none."""
        return encode.labels_of(records) if self.task == "classify" else records.numbers

    @property
    def wanted(self) -> str:
        """How messages call what is to be predicted."""
        return "labels" if self.task == "classify" else "numbers to predict"


def choose_format(path: Path, task: str, settings: DataSettings, schema: Schema | None = None) -> Format:
    """The format in which `path` is laid out: the one named, else the training data's, else the first that fits.

    Raises:
        DataError: No such file, or no format that fits; says what was looked at.
    """
    check_exists(path)
    if settings.format is not None:
        return FORMATS[settings.format]
    if not path.is_dir():
        with open_binary(path):  # an empty or damaged file is told as such
            pass
    first = schema.format if schema and schema.format in FORMATS else None
    if first and FORMATS[first].recognises(path, task, settings.model_copy(update={"format": first})):
        return FORMATS[first]
    found = _rank(path, task, settings)
    if found is not None:
        return list(FORMATS.values())[found]
    if first:
        return FORMATS[first]  # whose reader says best what is wrong
    raise _unfitting(path, settings)


def _rank(path: Path, task: str, settings: DataSettings) -> int | None:
    return next((i for i, format in enumerate(FORMATS.values()) if format.recognises(path, task, settings)), None)


OF_ANOTHER_TASK = {b"MThd": ("a MIDI file", "notes")}
"""How files begin that hold sequences of another kind; what they are, and which task reads them."""


def _unfitting(path: Path, settings: DataSettings) -> DataError:
    known = f"name one with --input-format: {', '.join(FORMATS)}."
    if path.is_dir():
        return DataError(f"{path}: no format fits this folder, which holds {listed(entries(path))}; {known}")
    head = first_bytes(path, 1 << 12)
    if head[:4] in OF_ANOTHER_TASK:
        return DataError("{}: is {}, which the task {} reads".format(path, *OF_ANOTHER_TASK[head[:4]]))
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return WrongEncodingError(f"{path}: is text in UTF-16", str(path), settings.encoding, "utf-16")
    if b"\0" in head:
        return DataError(f"{path}: no format fits; it starts with the bytes {head[:8].hex(' ')}; {known}")
    with open_text(path, settings.encoding) as stream:  # a wrong encoding is told as such
        stream.read(1 << 16)
    line = next((line for line in first_lines(path, 20, settings.encoding) if line.strip()), "")
    shown = line if len(line) <= 60 else line[:57] + "..."
    return DataError(f"{path}: no format fits; its first line is {shown!r}; {known}")


def ranking(task: str, settings: DataSettings) -> Callable[[Path], int | None]:
    """How specific the format is in which a path is laid out, 0 the most; None where no format fits."""
    if settings.format is None:
        return lambda path: _rank(path, task, settings)
    named = FORMATS[settings.format]
    return lambda path: 0 if named.recognises(path, task, settings) else None


def _files(path: Path, format: Format) -> list[Path]:
    """Every file that reading `path` reads."""
    if path.is_dir():
        return sorted(entry for entry in path.rglob("*") if entry.is_file())
    return [path, *(format.companions(path) if isinstance(format, HasCompanions) else [])]


def _frame_format(records: Records) -> str:
    """The table format as which a dataframe was read; in a long one the steps' features are columns."""
    if records.symbols is not None:
        return text.LABELLED.name
    long = records.settings.get("features") == records.features and len(records) < len(records.values)
    return table.LONG.name if long else table.WIDE.name


def _update(sum: Any, records: Records) -> None:
    """Add records that come from no file to a SHA-256."""
    for array in (records.values, records.offsets, records.numbers):
        if array is not None:
            sum.update(str((array.shape, array.dtype.str)).encode())
            sum.update(np.ascontiguousarray(array).data)
    labels = records.labels
    if (steps := records.step_labels) is not None:
        sum.update(np.ascontiguousarray(steps.codes).data)
        labels = steps.kinds
    sum.update(repr((records.symbols, labels and list(labels))).encode())


class SequencesReader(Reader[Sequences, Schema]):
    """Sequences with one target each, or one at every step."""

    settings = DataSettings
    schema = Schema

    def parts(
        self,
        source: Any,
        task: str,
        settings: DataSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: Schema | None = None,
    ) -> Parts[Sequences, Schema]:
        """See `load_parts`."""
        vocabulary = kept.vocabulary if kept is not None else None
        return load_parts(
            source, task, settings, validation=validation, test=test, seed=seed, vocabulary=vocabulary or None
        )

    def part(
        self, source: Any, schema: Schema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Sequences, list[str]]:
        """See `load_part`."""
        return load_part(source, schema, targets=targets, format=format)

    def describe(self, source: Any, settings: DataSettings, task: str) -> str:
        """See `Reader.describe`."""
        from recurra.data.describe import describe  # which reads by way of this file

        return describe(source, settings, task).to_text()
