"""From files of frames to clips in parts: size, channels, scale and classes settled by the training part."""

import hashlib
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from recurra.data.clips import Clips, ClipSchema, ClipSettings, Target
from recurra.data.encode import sort_classes
from recurra.data.film import FORMATS, Film, in_arrays, is_table, made_film, read_film, recognised, to_channels
from recurra.data.opening import digest
from recurra.data.parts import find_parts, role
from recurra.data.reader import Parts, Reader
from recurra.data.records import Records
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, made_sources, told
from recurra.data.split import Shares, Split
from recurra.errors import DataError, unknown

USUAL = ((0.0, 1.0), (0.0, 255.0))
"""What stands for 0 and 1 where it is not found in the numbers: of floating-point numbers, and of bytes."""

_KEPT = {"range", "frames", "labels", "axes", "colour", "size", "length", "encoding"}


class ClipReader(Reader[Clips, ClipSchema]):
    """Clips of frames, perhaps with a label for each frame."""

    settings = ClipSettings
    schema = ClipSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: ClipSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: ClipSchema | None = None,
    ) -> Parts[Clips, ClipSchema]:
        """See `Reader.parts`."""
        if settings.format is not None and settings.format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', settings.format, FORMATS)}")
        sources, warnings = find_sources(source, validation, test, task, settings, _ranking(settings))
        sum = hashlib.sha256()
        films = {part: _read(given, settings, sum) for part, given in sources.items()}
        whole, name = films["train"], sources["train"].name
        target = _target(whole, settings, name)
        for part in PARTS[1:]:
            if part in films and target == "label" and films[part].labels is None:
                if not sources[part].found:
                    raise DataError(f"{sources[part].name}: has no labels, which are needed to measure on it.")
                warnings.append(
                    f"{sources[part].name}: has no labels and is left out, though its name tells of {part}."
                )
                del films[part]
        films = {part: _ready(film, target, sources[part].name, settings, warnings) for part, film in films.items()}
        origins = _origins(whole, films["train"], settings)
        shares = Shares.of(settings, films, seed)
        drawn = _split(origins, shares, name, len(films["train"].frames))
        rows = np.concatenate([np.arange(*films["train"].offsets[i : i + 2]) for i in drawn.train])
        schema = _learn(films["train"], rows, target, settings, task, name)
        if (low_high := _told_range(schema, films["train"], settings, name)) is not None:
            warnings.append(low_high)
        if kept is not None:
            schema = _going_on(schema, kept, name)
        parts: dict[str, Clips] = {}
        encoded = _encode(films["train"], schema, name, warnings)
        for part, indices in (("validation", drawn.validation), ("test", drawn.test)):
            if indices is not None:
                parts[part] = encoded.select(indices)
        parts["train"] = encoded.select(drawn.train) if parts else encoded
        for part in PARTS[1:]:
            if part in films:
                parts[part] = _encode(films[part], schema, sources[part].name, warnings)
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=[*warnings, *drawn.warnings],
            sources=told(parts, sources, name, shares),
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: ClipSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Clips, list[str]]:
        """See `Reader.part`."""
        if format is not None and format not in FORMATS:
            raise DataError(f"--input-format: {unknown('format', format, FORMATS)}")
        settings = self.settings_of(schema).model_copy(update={"format": format})
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        warnings: list[str] = []
        if isinstance(source, str) and is_known(source):
            options = settings.options if schema.format == source else {}
            source = folder_of(source) or made_sources(source, schema.task, options).popitem()[1]
        given = as_source(source, "the data given")
        if given is None:
            raise DataError("no data; give a path, '-' for standard input, or arrays of frames.")
        if isinstance(given.data, Path) and given.data.is_dir():
            given = _further(given, settings, warnings)
        if is_table(settings.labels):  # that of the training data; further data have their own, of the same name
            beside = given.data if isinstance(given.data, Path) else Path()
            own = (beside if beside.is_dir() else beside.parent) / Path(settings.labels).name
            settings = settings.model_copy(update={"labels": str(own) if own.is_file() else None})
        film = _read(given, settings, hashlib.sha256(), schema)
        if targets and schema.target == "label" and film.labels is None:
            raise DataError(f"{given.name}: has no labels, which are needed to measure on it.")
        told = "next" if targets and schema.target == "next" else "label"  # of a single frame a next one can be told
        film = _ready(film, told, given.name, settings, warnings)
        height, width = film.frames.shape[1:3]
        if (height, width) != (schema.height, schema.width):
            raise DataError(
                f"{given.name}: its frames are {height} × {width} pixels high and wide; the training data had "
                f"{schema.height} × {schema.width}. --set 'data.size=[{schema.height}, {schema.width}]' at training "
                "brings all frames to one size."
            )
        return _encode(film, schema, given.name, warnings), warnings

    def describe(self, source: Any, settings: ClipSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        schema, lines = parts.schema, []
        for name, part in parts.named.items():
            lengths = part.lengths
            lines += [
                f"{name}: {parts.sources[name]} ({schema.format})",
                f"  clips      {len(part):,}",
                f"  frames     {int(lengths.min()):,} to {int(lengths.max()):,}, median {float(lengths.median()):g}",
            ]
        kind = "whole numbers from 0 to 255" if parts.train.frames.dtype == torch.uint8 else "numbers"
        lines.append(f"a frame: {schema.size}, {kind}; {schema.low:g} stands for 0, {schema.high:g} for 1")
        if schema.classes:
            shown = ", ".join(schema.classes[:12]) + (", …" if len(schema.classes) > 12 else "")
            lines.append(f"labels of frames: {len(schema.classes)} ({shown})")
        lines.append(f"told at every frame: {'the next frame' if schema.target == 'next' else 'its label'}")
        return "\n".join(lines + [f"warning: {warning}" for warning in parts.warnings])


def _ranking(settings: ClipSettings) -> Any:
    return lambda path: 0 if recognised(path, settings) is not None else None


def _further(given: Source, settings: ClipSettings, warnings: list[str]) -> Source:
    """What is read of a folder of further data: its test part, else the folder as it stands."""
    folder = given.data
    rank = _ranking(settings.model_copy(update={"format": None}))
    if any(role(entry.name) == "train" for entry in folder.iterdir()):
        places = find_parts(folder, rank)
        if places.test is None:
            raise DataError(f"{folder}: holds the parts of a data set but no test part; name one file.")
        warnings.append(f"{folder}: {places.test.relative_to(folder)} is read.")
        return Source(str(places.test), places.test)
    if rank(folder) is None:
        only = find_parts(folder, rank).train
        return Source(str(only), only)
    return given


def _read(given: Source, settings: ClipSettings, sum: Any, schema: ClipSchema | None = None) -> Film:
    """What a source holds; all that was read goes into the digest `sum`."""
    data = given.data
    if isinstance(data, Path):
        files = sorted(f for f in data.rglob("*") if f.is_file()) if data.is_dir() else [data]
        film = read_film(data, settings)
        for file in files:
            sum.update(digest(file))
    elif hasattr(data, "read"):
        film = read_film(cast(BinaryIO, data), settings)
    elif isinstance(data, Records):
        if "frame" not in data.settings:
            raise DataError(f"{given.name}: holds no frames.")
        film = made_film(data, given.made or "")
        film.settings["options"] = settings.options
    else:
        frames, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
        film = in_arrays(_arrays(frames, given.name), labels, given.name, settings)
    if not isinstance(data, Path):
        sum.update(str((film.frames.shape, film.frames.dtype.str)).encode())
        sum.update(np.ascontiguousarray(film.frames).data)
        sum.update(film.offsets.tobytes())
    if film.labels is not None:
        sum.update(repr(film.labels.kinds).encode() + film.labels.codes.tobytes())
    if schema is not None and film.frames.shape[-1] != schema.channels:
        film.frames = to_channels(film.frames, schema.channels)
    return film


def _arrays(frames: Any, name: str) -> Any:
    """Frames from Python as arrays of NumPy."""
    if isinstance(frames, torch.Tensor):
        return frames.detach().cpu().numpy()
    if isinstance(frames, (list, tuple)):
        return [_arrays(each, name) if isinstance(each, torch.Tensor) else each for each in frames]
    if isinstance(frames, np.ndarray):
        return frames
    raise DataError(
        f"{name}: an array of frames (N, T, H, W) or (N, T, H, W, C), a list of such clips, or (frames, labels) is "
        f"expected, not {type(frames).__name__}."
    )


def _target(film: Film, settings: ClipSettings, name: str) -> Target:
    """What is told at every frame."""
    if settings.target == "label" and film.labels is None:
        raise DataError(f"{name}: has no labels, which data.target = 'label' needs; data.labels names them.")
    if settings.target != "auto":
        return settings.target
    return "next" if film.labels is None else "label"


def _ready(film: Film, target: Target, name: str, settings: ClipSettings, warnings: list[str]) -> Film:
    """A film in pieces of `data.length`, without clips of which no frame has a next one.

    Raises:
        DataError: No clip is left.
    """
    warnings += film.warnings
    if settings.length is not None and int(np.diff(film.offsets).max()) > settings.length:
        count = len(film)
        film = film.cut(settings.length)
        warnings.append(
            f"{name}: {count:,} clip{'s' * (count != 1)} cut into {len(film):,} of at most {settings.length} frames."
        )
    short = np.flatnonzero(np.diff(film.offsets) < 2) if target == "next" else np.empty(0, np.int64)
    if len(short) == len(film):
        raise DataError(f"{name}: no clip has a second frame, which is to be told from the first.")
    if len(short):
        warnings.append(
            f"{name}: {len(short):,} clip{'s' * (len(short) != 1)} of one frame left out; the first: "
            f"{film.place(int(short[0]))}."
        )
        film = film.select(np.flatnonzero(np.diff(film.offsets) > 1))
    return film


def _origins(whole: Film, ready: Film, settings: ClipSettings) -> np.ndarray:
    """(N,) the film that each clip is a piece of."""
    if len(whole) == len(ready) or settings.length is None:
        return np.arange(len(ready))
    return np.array(ready.origins if ready.origins is not None else np.arange(len(ready)))


def _split(origins: np.ndarray, shares: Shares, name: str, frames: int) -> Split:
    """Pieces of a film stay in one part; those of a single film are parted in time, the last for the test."""
    films = np.unique(origins)
    if len(origins) == 1 and (shares.validation or shares.test):
        some = max(2, frames // 10)
        raise DataError(
            f"{name}: is a single clip, of which no part can be split off. With data.length = {some}, say, it is cut "
            f"into clips of {some} frames, which are parted in time, the last for the test; or give parts apart (--test"
            " PATH)."
        )
    if len(films) == len(origins):
        return shares.split(len(origins))
    if len(films) > 1:
        drawn = shares.split(len(films))
        of_films = [None if part is None else np.flatnonzero(np.isin(origins, films[part])) for part in drawn[:3]]
        train, validation, test = of_films
        assert train is not None
        return Split(train, validation, test, drawn.warnings)
    if shares.fold is not None:
        raise DataError("data.folds: a single film is parted in time, and is not dealt out; leave it out.")
    count = len(origins)
    drawn = shares.split(count)  # which tells of too few, and how many there are in each
    sizes = [0 if part is None else len(part) for part in (drawn.validation, drawn.test)]
    first, second = count - sum(sizes), count - sizes[1]
    every = np.arange(count)
    return Split(
        every[:first],
        None if drawn.validation is None else every[first:second],
        None if drawn.test is None else every[second:],
        drawn.warnings,
    )


def _learn(film: Film, rows: np.ndarray, target: Target, settings: ClipSettings, task: str, name: str) -> ClipSchema:
    """Size, channels, scale and classes of the training part, whose frames are `rows`."""
    classes: list[str] = []
    if target == "label":
        assert film.labels is not None
        codes = film.labels.codes[rows]
        classes = sort_classes({film.labels.kinds[code][0] for code in np.unique(codes[codes >= 0]).tolist()})
        if len(classes) < 2:
            found = f"only {classes[0]!r}" if classes else "none"
            raise DataError(f"{name}: at least two different labels are expected in the training part; found {found}.")
    if settings.range is not None:
        low, high = settings.range
    elif film.frames.dtype == np.uint8:
        low, high = USUAL[int(film.frames[rows].max()) != 1]
    else:
        low, high = float(film.frames[rows].min()), float(film.frames[rows].max())
        if low >= 0 and high <= 1:
            low, high = 0.0, 1.0
        elif low == high:
            raise DataError(f"{name}: every value of every frame is {low:g}; there is nothing to be told.")
    _, height, width, channels = film.frames.shape
    kept: dict[str, object] = settings.model_dump(include=_KEPT, exclude_defaults=True) | {
        key: value for key, value in film.settings.items() if value is not None
    }
    return ClipSchema(
        task=task,
        format=film.format,
        settings=kept,
        height=height,
        width=width,
        channels=channels,
        low=low,
        high=high,
        target=target,
        classes=classes,
    )


def _told_range(schema: ClipSchema, film: Film, settings: ClipSettings, name: str) -> str | None:
    """What a person should know of values that lie elsewhere than they may expect."""
    if settings.range is not None:
        return None
    if film.frames.dtype == np.uint8:
        if schema.high == 255:
            return None
        return (
            f"{name}: the largest byte of the training part is 1, which stands for 1; data.range = [0, 255] has them "
            "as dark as they are written."
        )
    if (schema.low, schema.high) == (0.0, 1.0):
        return None
    return (
        f"{name}: values of the training part go from {schema.low:g} to {schema.high:g}, which stand for 0 and 1; "
        "data.range names others."
    )


def _going_on(schema: ClipSchema, kept: ClipSchema, name: str) -> ClipSchema:
    """The schema of clips that an earlier run goes on with: of its scale, where that was found in its own numbers."""
    new = (schema.height, schema.width, schema.channels)
    if new != (kept.height, kept.width, kept.channels):
        raise DataError(f"{name}: its frames are {schema.size}; that run learnt from {kept.size}.")
    usual = (kept.low, kept.high) in USUAL and (schema.low, schema.high) in USUAL
    return schema if usual else schema.model_copy(update={"low": kept.low, "high": kept.high})


def _in_bytes(frames: np.ndarray, trained: bool, name: str, warnings: list[str]) -> bool:
    """Whether 255 stands for 1 in frames: bytes and shares of 1 stand for each other. What is not plain is told.

    Args:
        frames: They.
        trained: Whether it does in the training part.
        name: What messages call them.
        warnings: Where it is told.
    """
    least, largest = float(frames.min()), float(frames.max())
    if frames.dtype == np.uint8:
        return trained or largest > 1  # a mask of 0 and 1 beside shares of 1
    whole = largest > 1 and bool((frames == np.floor(frames)).all())
    found = largest > 1 and (trained or whole)
    if least < 0 or (largest > 1 and not found):
        warnings.append(
            f"{name}: values go from {least:g} to {largest:g}, where those of the training part lie between 0 and "
            f"{USUAL[found][1]:g}; frames that are told are cut to these."
        )
    elif found and not whole and largest < 16:
        warnings.append(f"{name}: the largest value is {largest:g}, where 255 stands for 1 as in the training part.")
    return found


def _encode(film: Film, schema: ClipSchema, name: str, warnings: list[str]) -> Clips:
    """The clips in tensors."""
    frames = torch.from_numpy(np.ascontiguousarray(film.frames.transpose(0, 3, 1, 2)))
    low, high = schema.low, schema.high
    if (low, high) in USUAL and "range" not in schema.settings:
        low, high = USUAL[_in_bytes(film.frames, high == 255, name, warnings)]
    labels = asked = None
    if film.labels is not None and schema.target == "label":
        index = {label: i for i, label in enumerate(schema.classes)}
        of_kind = np.array([index.get(label, -1) for (label,) in film.labels.kinds] + [-1], np.int64)
        labels = torch.from_numpy(of_kind[film.labels.codes])
        has = torch.from_numpy(film.labels.codes >= 0)
        asked = None if bool(has.all()) else has
        strange = [label for (label,) in film.labels.kinds if label not in index]
        if strange:
            count = int(((labels < 0) & has).sum())
            warnings.append(
                f"{name}: {count:,} frame{'s have' if count != 1 else ' has'} a label that the training part does not "
                f"have ({', '.join(strange[:5])}); counted as wrong."
            )
    return Clips(frames, torch.from_numpy(film.offsets), low, high, labels, asked, film.ids)
