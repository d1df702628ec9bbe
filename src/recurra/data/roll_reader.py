"""From files of music to what `notes` reads: pieces found, held to the keyboard, parts."""

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from recurra.data.opening import check_exists, digest, entries, open_binary
from recurra.data.parts import find_parts, listed, role
from recurra.data.reader import Parts, Reader
from recurra.data.rolls import (
    FORMATS,
    KEYS,
    Gathered,
    RollSchema,
    RollSettings,
    fitting,
    from_json,
    from_midi,
    from_python,
    midi_files,
    name_of_key,
)
from recurra.data.sequences import Sequences
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, told
from recurra.data.split import UNSPLIT, Shares
from recurra.errors import DataError, unknown

_KEPT = ("file", "step", "outside", "pedal", "trim", "encoding")


class RollReader(Reader[Sequences, RollSchema]):
    """Pieces of music as frames of 88 keys; their `values` are (S, 88) uint8."""

    settings = RollSettings
    schema = RollSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: RollSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: RollSchema | None = None,
    ) -> Parts[Sequences, RollSchema]:
        """See `Reader.parts`. A file may hold all parts."""
        _check_format(settings.format, "data.format")
        sum = hashlib.sha256()
        sources, warnings = _sources(source, validation, test, task, settings)
        read = {part: _read(given, settings, settings.format, sum) for part, given in sources.items()}
        whole = read["train"]
        if whole.within:
            if "train" not in whole.within:
                raise DataError(f"{whole.name}: has no train part, only {', '.join(whole.within)}.")
            read = {**whole.within, **{part: _only(read[part], part) for part in PARTS[1:] if part in read}}
            sources = {part: sources.get(part, Source(found.name, None)) for part, found in read.items()}
            sources["train"] = Source(read["train"].name, None)
        read = {part: _only(found, part) for part, found in read.items()}
        for found in read.values():
            warnings += found.warnings
            _without_silent(found, warnings)
        whole = read["train"]
        shares = Shares.of(settings, read, seed)
        drawn = shares.split(len(whole.pieces))
        parts: dict[str, Sequences] = {}
        everything = _laid_out(whole)
        for part, rows in (("validation", drawn.validation), ("test", drawn.test)):
            if rows is not None:
                parts[part] = everything.select(rows)
        train = everything.select(drawn.train) if parts else everything
        for part in PARTS[1:]:
            if part in read:
                parts[part] = _laid_out(read[part])
        schema = RollSchema(
            task=task,
            format=whole.format,
            settings=settings.model_dump(include=set(_KEPT), exclude_defaults=True),
            step=settings.step,
            transpose=settings.transpose,
            tempo=float(np.median(whole.tempos)) if whole.tempos else None if kept is None else kept.tempo,
            meter=Counter(whole.meters).most_common(1)[0][0] if whole.meters else None if kept is None else kept.meter,
        )
        return Parts(
            train=_cut(train, settings.max_length, whole.name, warnings),
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=[*warnings, *drawn.warnings],
            sources=told({"train", *parts}, sources, whole.name, shares),
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: RollSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Sequences, list[str]]:
        """See `Reader.part`. Of data with parts the test part is read."""
        _check_format(format, "--input-format")
        settings = self.settings_of(schema)
        found, warnings = read_pieces(source, settings, format)
        _without_silent(found, warnings)
        return _laid_out(found), warnings

    def describe(self, source: Any, settings: RollSettings, task: str) -> str:
        """See `Reader.describe`."""
        whole = settings.model_copy(update={**UNSPLIT, "max_length": None})
        parts = self.parts(source, task, whole)
        lines: list[str] = []
        for name, part in parts.named.items():
            lengths, keys = part.lengths.numpy(), np.flatnonzero(part.values.numpy().any(0))
            lines += [
                f"{name}: {parts.sources[name]} ({parts.schema.format})",
                f"  pieces     {len(part):,}",
                f"  frames     {lengths.sum():,}; {lengths.min():,} to {lengths.max():,} a piece, median "
                f"{np.median(lengths):,.10g}; {int((~part.values.bool().any(1)).sum()):,} of them silent",
                f"  notes      {part.values.float().sum() / len(part.values):.2f} a frame, from "
                f"{name_of_key(int(keys[0]))} to {name_of_key(int(keys[-1]))}",
            ]
            if part.ids is not None:
                lines.append(f"  first      {part.ids[0]}")
        schema = parts.schema
        how = [f"a frame: {schema.step:g} {'beat' if schema.step == 1 else 'beats'}"]
        if schema.tempo is not None and schema.meter is not None:
            how += [f"{schema.tempo:.4g} beats a minute", f"{schema.meter[0]}/{schema.meter[1]}"]
        lines.append("; ".join(how))
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


def read_pieces(source: Any, settings: RollSettings, format: str | None = None) -> tuple[Gathered, list[str]]:
    """Further pieces, from a path, "-", an open file, the name of a known set or Python data; and what to know of them.

    Raises:
        DataError: As `Reader.part`.
    """
    if isinstance(source, str) and source == "-":
        source = sys.stdin.buffer
    if isinstance(source, str) and is_known(source):
        source = folder_of(source)
    given = as_source(source, "the data given")
    if given is None:
        raise DataError("no data; give a path, '-' for standard input, or pieces.")
    warnings: list[str] = []
    if isinstance(given.data, Path) and given.data.is_dir() and fitting(given.data, format) is None:
        named = given.data / settings.file if settings.file is not None else None
        path = named if named is not None and named.is_file() else _further(given.data, format)
        warnings.append(f"{given.data}: {path.relative_to(given.data)} is read.")
        given = Source(str(path), path)
    found = _read(given, settings, format, hashlib.sha256())
    if found.within:
        part = "test" if "test" in found.within else next(iter(found.within))
        found = found.within[part]
        if len(found.pieces):
            warnings.append(f"{given.name}: its {part} part is read.")
    return found, warnings + found.warnings


# --- where -----------------------------------------------------------------------------------------------------------


def _check_format(format: str | None, key: str) -> None:
    if format is not None and format not in FORMATS:
        raise DataError(f"{key}: {unknown('format', format, FORMATS)}")


def _sources(
    source: Any, validation: Any, test: Any, task: str, settings: RollSettings
) -> tuple[dict[str, Source], list[str]]:
    """Where each part comes from."""
    rank = _ranking(settings)
    if not isinstance(source, Mapping):
        folder = _folder(source, settings)
        if folder is not None and settings.file is not None:
            source = folder / settings.file
            check_exists(source)
        elif folder is not None and rank(folder) is None:
            several = [path for path in entries(folder) if rank(path) == 0 and role(path.name) is None]
            if len(several) > 1 and not any(role(path.name) == "train" for path in entries(folder)):
                raise DataError(
                    f"{folder}: holds several sets of pieces ({listed(several)}); name one: --set data.file="
                    f"{several[0].name}"
                )
        elif folder is not None and role(folder.name) != "train":  # a word such as "train" in a song's name is no part
            apart = {
                part: as_source(setting if given is None else given, f"the {part} data given")
                for part, given, setting in (
                    ("validation", validation, settings.validation),
                    ("test", test, settings.test),
                )
            }
            there = {part: found for part, found in apart.items() if found is not None}
            return {"train": Source(str(folder), folder), **there}, []
    return find_sources(source, validation, test, task, settings, rank)


def _folder(source: Any, settings: RollSettings) -> Path | None:
    """The folder that the data are looked for in."""
    given = settings.path if source is None else source
    if given is None:  # a recipe's own name is that of a set, whatever lies here under it
        return None if settings.name is None else folder_of(settings.name)
    if isinstance(given, str) and is_known(given):
        return folder_of(given)
    if not isinstance(given, str | Path):
        return None
    path = Path(given).expanduser()
    return path if path.is_dir() else None


def _ranking(settings: RollSettings) -> Callable[[Path], int | None]:
    return lambda path: fitting(path, settings.format)


def _further(folder: Path, format: str | None) -> Path:
    """What is read of a folder of further data: its test part, or its one file."""
    inside = entries(folder)
    if any(role(entry.name) == "train" for entry in inside):
        found = find_parts(folder, lambda path: fitting(path, format)).test
        test = [] if found is None else [found]
    else:
        test = [entry for entry in inside if role(entry.name) == "test"]
        test = test or [entry for entry in inside if fitting(entry, format) is not None]
    if len(test) == 1:
        return test[0]
    raise DataError(f"{folder}: holds no single test part, but {listed(inside)}; name one file.")


# --- what ------------------------------------------------------------------------------------------------------------


def _read(source: Source, settings: RollSettings, format: str | None, sum: Any) -> Gathered:
    """What a source holds; its content is added to `sum`."""
    data = source.data
    if isinstance(data, Path):
        check_exists(data)
        place = fitting(data, format)
        if place is None:
            raise DataError(_no_format(data, format))
        for path in midi_files(data) if data.is_dir() else [data]:
            sum.update(digest(path))
        return (from_json, from_midi)[place](data, settings)
    if hasattr(data, "read"):
        with open_binary(cast(BinaryIO, data)) as file:
            content = file.read()
        return (from_midi if content[:4] == b"MThd" else from_json)(io.BytesIO(content), settings)
    found = from_python(_with_numpy(data), source.name, settings)
    for name, part in (found.within or {"": found}).items():
        sum.update(name.encode())
        for piece in part.pieces:
            sum.update(len(piece).to_bytes(8) + piece.tobytes())
    return found


def _no_format(path: Path, format: str | None) -> str:
    expected = "pieces as JSON, or MIDI files" if format is None else f"the format {format}"
    if path.is_dir():
        return f"{path}: holds no {expected}, but {listed(entries(path))}."
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        return f"{path}: is empty."
    return f"{path}: is not {expected}; it begins with the bytes {head.hex(' ')}."


def _with_numpy(data: Any) -> Any:
    """Tensors as arrays."""
    if isinstance(data, torch.Tensor):
        return data.detach().cpu().numpy()
    if isinstance(data, Mapping):
        return {key: _with_numpy(value) for key, value in data.items()}
    if isinstance(data, list | tuple) and any(isinstance(each, torch.Tensor) for each in data):
        return [_with_numpy(each) for each in data]
    return data


def _only(found: Gathered, part: str) -> Gathered:
    """The pieces of one part, where the source may have several in it."""
    if not found.within:
        return found
    if part not in found.within:
        raise DataError(f"{found.name}: has no {part} part, only {', '.join(found.within)}.")
    return found.within[part]


def _without_silent(found: Gathered, warnings: list[str]) -> None:
    """Leave out pieces in which no note sounds, in place.

    Raises:
        DataError: None is left.
    """
    sound = [i for i, piece in enumerate(found.pieces) if piece.any()]
    if not sound:
        held = "no piece" if not found.pieces else "no note"
        raise DataError(f"{found.name}: holds {held}; expected pieces in which at least one of the {KEYS} keys sounds.")
    silent = len(found.pieces) - len(sound)
    if silent:
        first = next(i for i, piece in enumerate(found.pieces) if not piece.any())
        which = f"piece {first + 1}" if found.ids is None else found.ids[first]
        many = f"{silent} pieces have" if silent > 1 else "1 piece has"
        warnings.append(f"{found.name}: {many} no note ({'the first is ' if silent > 1 else ''}{which}), left out.")
        found.pieces = [found.pieces[i] for i in sound]
        found.ids = None if found.ids is None else [found.ids[i] for i in sound]


def _laid_out(found: Gathered) -> Sequences:
    """The pieces end to end."""
    lengths = torch.tensor([0, *map(len, found.pieces)])
    return Sequences(torch.from_numpy(np.concatenate(found.pieces)), lengths.cumsum(0), ids=found.ids)


def _cut(train: Sequences, longest: int | None, name: str, warnings: list[str]) -> Sequences:
    """Pieces longer than `longest` become several."""
    if longest is None or not bool((train.lengths > longest).any()):
        return train
    bounds, ids = [0], []
    for i, length in enumerate(train.lengths.tolist()):
        first = int(train.offsets[i])
        bounds += [first + min(stop, length) for stop in range(longest, length + longest, longest)]
        ids += [train.ids[i] if train.ids is not None else ""] * (-(-length // longest))
    count = int((train.lengths > longest).sum())
    warnings.append(
        f"{name}: {count} of {len(train)} training pieces are longer than {longest} frames (the longest has "
        f"{int(train.lengths.max()):,}) and become several."
    )
    return Sequences(train.values, torch.tensor(bounds), ids=None if train.ids is None else ids)
