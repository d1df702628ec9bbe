"""Files that hold frames: arrays, animated GIFs, folders of pictures. From each to clips as they stand there."""

import csv
import io
import itertools
import re
import struct
import warnings as python_warnings
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, TypeGuard, cast
from zipfile import BadZipFile

import numpy as np
import torch
from PIL import Image, ImageSequence
from torch.nn.functional import interpolate

from recurra.data.clips import ClipSettings
from recurra.data.opening import check_exists, entries, first_bytes, open_binary, open_text
from recurra.data.parts import listed
from recurra.data.records import Records, StepLabels
from recurra.errors import DataError, unknown

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of files that hold one frame."""

FORMATS = {
    "npz": "NumPy: an array of frames (N, T, H, W) or (N, T, H, W, C) in an archive, perhaps labels beside it",
    "npy": "NumPy: such an array by itself; (T, H, W) is one clip",
    "gif": "an animated GIF, which is one clip, or a folder of them",
    "pictures": "a folder of pictures (PNG, JPEG, …) in the order of their numbers, which is one clip; or a folder of "
    "such folders",
}
"""Every format, as given to `--input-format`, and what it reads."""

_OTHER_FILMS = (".npz", ".npy", ".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg")
"""Endings of further files that hold films, most of which are not read."""

_FRAMES = ("frames", "clips", "videos", "video", "x", "X", "arr_0")
_LABELS = ("labels", "label", "y", "targets")
_DAMAGED = (
    *(
        OSError,
        EOFError,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RuntimeError,
    ),
    *(
        MemoryError,
        TokenError,
        struct.error,
        zlib.error,
        BadZipFile,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ),
)
"""What NumPy, zipfile and Pillow may raise where the bytes of a file are not what its beginning promises, since they
trust the lengths and offsets that it names."""

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as Pillow has it


@dataclass
class Film:
    """Clips as a file has them.

    Attributes:
        frames: (S, H, W, C) uint8 or float32, C being 1 or 3.
        offsets: (N + 1,) int64.
        place: Where clip i stands, for messages.
        format: One of `FORMATS`, or the name of a made source.
        labels: A label for each frame; None without.
        ids: A name for each clip, or None.
        origins: (N,) which film each clip is a piece of; None where none was cut.
        settings: The reading options as resolved.
        warnings: What a person should know.
    """

    frames: np.ndarray
    offsets: np.ndarray
    place: Callable[[int], str]
    format: str
    labels: StepLabels | None = None
    ids: list[str] | None = None
    origins: list[int] | None = None
    settings: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def cut(self, length: int) -> "Film":
        """Each clip in pieces of at most so many frames; a piece of one frame at an end is left out."""
        bounds, origin = [], []
        for clip in range(len(self)):
            first, stop = int(self.offsets[clip]), int(self.offsets[clip + 1])
            for begin in range(first, stop, length):
                if min(begin + length, stop) - begin > 1 or stop - first == 1:
                    bounds.append((begin, min(begin + length, stop)))
                    origin.append((clip, begin - first))
        steps = np.concatenate([np.arange(a, b) for a, b in bounds])
        offsets = np.cumsum([0, *(b - a for a, b in bounds)])
        said = [f", frames {at} to {at + b - a - 1}" for (_, at), (a, b) in zip(origin, bounds, strict=True)]
        place = self.place
        labels = None if self.labels is None else replace(self.labels, codes=self.labels.codes[steps])
        names = [self.ids[clip] if self.ids is not None else str(clip) for clip, _ in origin]
        return replace(
            self,
            frames=self.frames[steps],
            offsets=offsets,
            place=lambda index: place(origin[index][0]) + said[index],
            labels=labels,
            origins=[clip for clip, _ in origin],
            ids=[f"{name}:{at}" for name, (_, at) in zip(names, origin, strict=True)],
        )

    def select(self, clips: np.ndarray) -> "Film":
        """Some of the clips."""
        steps = np.concatenate([np.arange(*self.offsets[i : i + 2].tolist()) for i in clips])
        place, chosen = self.place, clips.tolist()
        return replace(
            self,
            frames=self.frames[steps],
            offsets=np.cumsum([0, *np.diff(self.offsets)[clips]]),
            place=lambda index: place(chosen[index]),
            labels=None if self.labels is None else replace(self.labels, codes=self.labels.codes[steps]),
            ids=None if self.ids is None else [self.ids[i] for i in chosen],
            origins=None if self.origins is None else [self.origins[i] for i in chosen],
        )


def recognised(path: Path, settings: ClipSettings) -> str | None:
    """The format in which a path is laid out; None where none fits. Raises nothing."""
    if settings.format is not None:
        return settings.format if settings.format in FORMATS else None
    if path.is_file():
        head = first_bytes(path, 8)
        if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            return "npz"
        return "npy" if head.startswith(b"\x93NUMPY") else "gif" if head[:4] == b"GIF8" else None
    try:
        inside = entries(path) if path.is_dir() else []
        if _of(inside, (".gif",)):
            return "gif"
        folders = [entry for entry in inside if entry.is_dir()]
        is_film = _of(inside, PICTURES) or any(_of(entries(folder), PICTURES) for folder in folders)
    except DataError:
        return None
    return "pictures" if is_film else None


def read_film(source: Path | BinaryIO, settings: ClipSettings, known: str | None = None) -> Film:
    """The clips of a file, a folder or an open file.

    Args:
        source: It.
        settings: How to read.
        known: The format, where it is not told by `settings`.

    Raises:
        DataError: Anything in it that is not as it should be, with the file.
    """
    if not isinstance(source, Path):
        with open_binary(source) as file:
            data = file.read()
        film = _bytes(data, "standard input", settings)
    else:
        check_exists(source)
        format = settings.format or known or recognised(source, settings)
        if format is None:
            raise DataError(_unfitting(source))
        if format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', format, FORMATS)}")
        if format in ("npz", "npy"):
            with open_binary(source) as file:
                film = _bytes(file.read(), str(source), settings)
        else:
            film = (_gifs if format == "gif" else _pictures)(source, settings)
        if film.labels is None:
            _add_labels(film, source, settings)
    return film


def _unfitting(path: Path) -> str:
    known = f"expected {', '.join(FORMATS)}, named by --input-format"
    if path.is_dir():
        return f"{path}: holds no frames that are known: {listed(entries(path))}; {known}."
    return f"{path}: holds no frames that are known; it starts with the bytes {first_bytes(path, 4).hex(' ')}; {known}."


# --- arrays -----------------------------------------------------------------------------------------------------------


def _bytes(data: bytes, name: str, settings: ClipSettings) -> Film:
    """An npz, an npy or a GIF."""
    if data.startswith(b"GIF8"):
        frames, _ = _decoded(io.BytesIO(data), name, settings)
        return _joined([frames], [name], "gif", None, settings)
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"\x93NUMPY")):
        raise DataError(f"{name}: is neither npz, npy nor GIF; it starts with the bytes {data[:4].hex(' ')}.")
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        arrays = {key: loaded[key] for key in loaded.files} if hasattr(loaded, "files") else {"": loaded}
    except _DAMAGED as error:
        raise DataError(f"{name}: is no NumPy file that can be read ({error}).") from error
    if "" in arrays:
        return in_arrays(arrays[""], None, name, settings, "npy")
    key = _key(arrays, settings.frames, _FRAMES, "frames", name)
    assert key is not None
    wanted = settings.labels if settings.labels in arrays or not is_table(settings.labels) else None
    of_labels = _key(arrays, wanted, _LABELS, "labels", name)
    own = {k: arrays[k] for k in ("lengths", "ids") if k in arrays}
    film = in_arrays(arrays[key], None if of_labels is None else arrays[of_labels], name, settings, "npz", **own)
    film.settings |= {"frames": key} | ({} if of_labels is None else {"labels": of_labels})
    return film


def is_table(labels: str | None) -> TypeGuard[str]:
    """Whether `data.labels` names a file rather than an array."""
    return labels is not None and Path(labels).suffix.lower() in (".csv", ".tsv", ".txt")


def _key(arrays: dict[str, np.ndarray], named: str | None, usual: Sequence[str], what: str, name: str) -> str | None:
    """The array that is meant; frames have to be there, labels need not."""
    if named is not None:
        if named not in arrays:
            raise DataError(f"{name}: data.{what}: {unknown('array', named, arrays)}")
        return named
    if found := next((key for key in usual if key in arrays), None):
        return found
    if what != "frames":
        return None
    films = [key for key, array in arrays.items() if array.ndim >= 3]
    if len(films) != 1:
        raise DataError(
            f"{name}: holds {', '.join(arrays) or 'no array'}; name the one with the frames: --set data.frames=NAME."
        )
    return films[0]


def in_arrays(
    frames: Any,
    labels: Any,
    name: str,
    settings: ClipSettings,
    format: str = "arrays",
    lengths: np.ndarray | None = None,
    ids: np.ndarray | None = None,
) -> Film:
    """Clips of an array (N, T, H, W[, C]), or of a list of arrays (T, H, W[, C]).

    Args:
        frames: They.
        labels: A label for each frame, (N, T), or a list of lists; None without. None, "", NaN and -1 ask for nothing.
        name: What messages call them.
        settings: How to read.
        format: What the format is called.
        lengths: (N,) frames that each clip has, where the others are padding.
        ids: (N,) names of the clips.
    """
    if isinstance(frames, (list, tuple)) and frames and np.ndim(frames[0]) in (3, 4):
        clips = [_clip(each, f"{name}, clip {i}", settings) for i, each in enumerate(frames)]
    else:
        clips = _of_one_array(np.asarray(frames), name, settings)
    if lengths is not None:
        if lengths.shape != (len(clips),) or lengths.dtype.kind not in "iu":
            raise DataError(f"{name}: lengths: {len(clips)} whole numbers are expected, not {lengths.shape}.")
        for i, (clip, length) in enumerate(zip(clips, lengths.tolist(), strict=True)):
            if not 1 <= length <= len(clip):
                raise DataError(f"{name}, clip {i}: its length is {length}; 1 to {len(clip)} is expected.")
        clips = [clip[:length] for clip, length in zip(clips, lengths.tolist(), strict=True)]
    named = None if ids is None else [str(v) for v in np.asarray(ids).reshape(-1).tolist()]
    if named is not None and len(named) != len(clips):
        raise DataError(f"{name}: ids: a name for each of {len(clips)} clips is expected, not {len(named)}.")
    film = _joined(clips, [f"{name}, clip {i}" for i in range(len(clips))], format, named, settings)
    shape = np.shape(frames) if not isinstance(frames, (list, tuple)) else ()
    if settings.axes is None and len(shape) == 4 and shape[-1] in (3, 4) and shape[2] > 2 * shape[3]:
        film.warnings.append(
            f"{name}: an array of shape {tuple(shape)} is read as {shape[0]:,} clips of {shape[1]:,} frames, "
            f"{shape[2]} × {shape[3]} pixels high and wide; if it is one clip with {shape[3]} channels: --set "
            "data.axes=THWC (else NTHW)."
        )
    if labels is not None:
        film.labels = _array_labels(labels, [len(clip) for clip in clips], name)
    return film


def _of_one_array(array: np.ndarray, name: str, settings: ClipSettings) -> list[np.ndarray]:
    """The clips of one array, (T, H, W, C) each."""
    shape = tuple(array.shape)
    axes = settings.axes.upper() if settings.axes else {3: "THW", 4: "NTHW", 5: "NTHWC"}.get(array.ndim)
    if axes is None or len(axes) != array.ndim:
        expected = f"an axis for each of {axes}" if axes else "(N, T, H, W), (N, T, H, W, C) or (T, H, W)"
        raise DataError(f"{name}: an array of shape {shape} is no film; {expected} is expected.")
    for letter in {*"NC"} - {*axes}:
        array, axes = array[..., None], axes + letter
    array = array.transpose([axes.index(letter) for letter in "NTHWC"])
    if array.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"{name}: an array of shape {shape} has {array.shape[-1]} channels, where 1, 3 or 4 are expected; "
            "data.axes names its axes, such as NTCHW."
        )
    if 0 in array.shape:
        raise DataError(f"{name}: an array of shape {shape} holds no frame.")
    return list(_numbers(array, name))


def _clip(array: Any, name: str, settings: ClipSettings) -> np.ndarray:
    """One clip of a list, (T, H, W, C)."""
    array = np.asarray(array)
    if array.ndim == 3:
        array = array[..., None]
    if array.ndim != 4 or array.shape[-1] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(f"{name}: has the shape {tuple(array.shape)}; (T, H, W) or (T, H, W, C) is expected.")
    return _numbers(array, name)


def _numbers(array: np.ndarray, name: str) -> np.ndarray:
    """Bytes as they are, other numbers in single precision."""
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: holds {array.dtype}, where numbers are expected.")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        place = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise DataError(f"{name}: the value at {place} is {array[place]}, where finite numbers are expected.")
    return array


def _array_labels(labels: Any, lengths: list[int], name: str) -> StepLabels:
    """A label for each frame, of an array (N, T) or of lists."""
    if isinstance(labels, torch.Tensor):
        labels = labels.detach().cpu().numpy()
    rows = labels if isinstance(labels, (list, tuple)) else np.asarray(labels)
    if isinstance(rows, np.ndarray) and rows.ndim == 1 and len(lengths) == 1:
        rows = rows[None]
    if len(rows) != len(lengths) or any(np.ndim(row) != 1 for row in rows):
        found = rows.shape if isinstance(rows, np.ndarray) else f"{len(rows)} rows"
        raise DataError(
            f"{name}: labels: a row for each of {len(lengths)} clips is expected, with a label for each frame, not "
            f"{found}."
        )
    every: list[str] = []
    for i, (row, length) in enumerate(zip(rows, lengths, strict=True)):
        if len(row) < length:
            raise DataError(f"{name}, clip {i}: has {length} frames, but {len(row)} labels.")
        every += [_label(v) for v in (row.tolist() if isinstance(row, np.ndarray) else list(row))[:length]]
    return _labels(every)


def _label(value: Any) -> str:
    """A label as text; empty where nothing is asked for."""
    if value is None or value == -1 or (isinstance(value, float) and value != value):
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _labels(every: Sequence[str]) -> StepLabels:
    kinds = {label: code for code, label in enumerate(dict.fromkeys(label for label in every if label))}
    return StepLabels([(label,) for label in kinds], np.array([kinds.get(label, -1) for label in every], np.int64))


# --- pictures ---------------------------------------------------------------------------------------------------------


def _of(inside: Sequence[Path], endings: Sequence[str]) -> list[Path]:
    """The files with one of these endings, in the order of the numbers in their names."""
    return sorted((e for e in inside if e.suffix.lower() in endings and e.is_file()), key=_by_number)


def _by_number(path: Path) -> list[Any]:
    """`frame2.png` before `frame10.png`."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", path.name.lower()) if part
    ]


def _gifs(source: Path, settings: ClipSettings) -> Film:
    files = [source] if source.is_file() else _of(entries(source), (".gif",))
    if not files:
        raise DataError(f"{source}: holds no GIF.")
    clips = []
    for file in files:
        with open_binary(file) as opened:
            clips.append(_decoded(io.BytesIO(opened.read()), str(file), settings)[0])
    film = _joined(clips, [str(file) for file in files], "gif", [file.stem for file in files], settings)
    if source.is_dir():
        film.warnings += _left(source, files, "GIFs")
    return film


def _pictures(source: Path, settings: ClipSettings) -> Film:
    if source.is_file():
        raise DataError(f"{source}: is one picture; a folder of them, in the order of their numbers, is a clip.")
    inside = entries(source)
    folders = [source] if _of(inside, PICTURES) else [entry for entry in inside if entry.is_dir()]
    clips, names, several = [], [], []
    for folder in folders:
        files = _of(entries(folder), PICTURES)
        if not files:
            beside = f", as folders beside it do; every folder in {source} is a clip" if folder != source else ""
            raise DataError(f"{folder}: holds no picture{beside or '; a folder of them is a clip'}.")
        frames = []
        for file in files:
            with open_binary(file) as opened:
                frame, count = _decoded(io.BytesIO(opened.read()), str(file), settings, only_first=True)
            if count > 1:
                several.append(f"{file} ({count:,})")
            if frames and frame.shape[1:3] != frames[0].shape[1:3]:
                raise DataError(_other_size(str(file), frame, str(files[0]), frames[0]))
            frames.append(frame)
            _check_alike(frame, str(file), frames[0], str(files[0]))
        clips.append(np.concatenate([to_channels(frame, max(f.shape[-1] for f in frames)) for frame in frames]))
        names.append(str(folder))
    film = _joined(clips, names, "pictures", [folder.name for folder in folders], settings)
    if several:
        count = f"{len(several):,} pictures hold" if len(several) > 1 else "a picture holds"
        film.warnings.append(
            f"{source}: {count} several frames, of which the first is read; the first such: {several[0]}. A clip is a "
            "folder with a picture for each frame."
        )
    if folders == [source]:
        film.warnings += _left(source, _of(inside, PICTURES), "pictures")
    return film


def _left(source: Path, read: Sequence[Path], kind: str) -> list[str]:
    """A warning of what else a folder holds that shows frames, or may."""
    known = (*PICTURES, ".gif", *_OTHER_FILMS)
    others = [
        entry
        for entry in entries(source)
        if entry not in read and (any(_of(entries(entry), known)) if entry.is_dir() else _of([entry], known))
    ]
    if not others:
        return []
    return [f"{source}: its {len(read):,} {kind} are read; beside them left out: {listed(others)} ({len(others):,})."]


def _decoded(file: io.BytesIO, name: str, settings: ClipSettings, only_first: bool = False) -> tuple[np.ndarray, int]:
    """The frames of a picture or an animation, (T, H, W, C) uint8, or float32 where it holds such numbers, grey where
    it has no colours; and how many there are in the file."""
    frames, count = [], 1
    try:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # of what is strange in a file, and is read all the same
            python_warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                count = int(getattr(image, "n_frames", 1)) if only_first else 0
                for frame in ImageSequence.Iterator(image):
                    frames.append(_pixels(frame, name))
                    if only_first:
                        break
    except _DAMAGED as error:
        what = f"frame {len(frames)} cannot be read" if frames else "is no picture that can be read"
        raise DataError(f"{name}: {what} ({error}).") from error
    stacked = np.stack(frames)
    is_grey = (stacked == stacked[..., :1]).all()
    return _sized(stacked[..., :1] if is_grey else stacked, settings), count or len(frames)


def _pixels(image: Image.Image, name: str) -> np.ndarray:
    """(H, W, 3) uint8; of 16 bits the upper eight, and what is transparent before black. Numbers of 32 bits as they
    are, (H, W, 1) float32."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # PNG has no more than 16 bits
        deep = np.asarray(image).astype(np.int64)
        return np.repeat((deep >> 8).clip(0, 255).astype(np.uint8)[..., None], 3, -1)
    if image.mode in ("I", "F"):
        return _numbers(np.asarray(image), name)[..., None]
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    return np.asarray(image.convert("RGB"))


# --- what all have in common ------------------------------------------------------------------------------------------


def _sized(frames: np.ndarray, settings: ClipSettings) -> np.ndarray:
    """Frames (T, H, W, C) brought to `data.size`."""
    if settings.size is None or list(frames.shape[1:3]) == settings.size:
        return frames
    values = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2))).float()
    sized = interpolate(values, tuple(settings.size), mode="bilinear", antialias=True, align_corners=False).numpy()
    if frames.dtype == np.uint8:
        sized = sized.round().clip(0, 255).astype(np.uint8)
    return sized.transpose(0, 2, 3, 1)


def to_channels(frames: np.ndarray, channels: int) -> np.ndarray:
    """Frames of 1, 3 or 4 channels with another number of them: colours to grey as Pillow does; what is transparent is
    left as it is beneath."""
    if frames.shape[-1] == 4:
        frames = frames[..., :3]
    if frames.shape[-1] == channels:
        return frames
    if channels == 3:
        return np.repeat(frames, 3, -1)
    grey = frames @ _LUMA
    return (grey.round().astype(np.uint8) if frames.dtype == np.uint8 else grey.astype(np.float32))[..., None]


def _joined(
    clips: list[np.ndarray], names: list[str], format: str, ids: list[str] | None, settings: ClipSettings
) -> Film:
    """Clips of one size, end to end."""
    clips = [_sized(clip, settings) for clip in clips]
    for clip, name in zip(clips, names, strict=True):
        _check_alike(clip, name, clips[0], names[0])
        if clip.shape[1:3] != clips[0].shape[1:3]:
            raise DataError(_other_size(name, clip, names[0], clips[0]))
    channels = {"grey": 1, "rgb": 3}.get(settings.colour) or (3 if max(clip.shape[-1] for clip in clips) > 1 else 1)
    clips = [to_channels(clip, channels) for clip in clips]
    return Film(
        frames=np.concatenate(clips),
        offsets=np.cumsum([0, *map(len, clips)]).astype(np.int64),
        place=lambda index: names[index],
        format=format,
        ids=ids,
    )


def _check_alike(clip: np.ndarray, name: str, other: np.ndarray, first: str) -> None:
    """Raises DataError where one of two holds bytes and the other numbers: 255 of one may be the other's 1."""
    if clip.dtype != other.dtype:
        kinds = ["bytes" if frames.dtype == np.uint8 else "other numbers" for frames in (clip, other)]
        raise DataError(f"{name}: holds {kinds[0]}, where {first} holds {kinds[1]}; one kind in all is expected.")


def _other_size(name: str, clip: np.ndarray, first: str, other: np.ndarray) -> str:
    height, width = other.shape[1:3]
    return (
        f"{name}: is {clip.shape[1]} × {clip.shape[2]} pixels high and wide, where {first} is {height} × {width}; "
        f"frames of one size are expected, or one that all are brought to: --set 'data.size=[{height}, {width}]'."
    )


def made_film(records: Records, name: str) -> Film:
    """The clips of a source that needs no file."""
    height, width, channels = cast(list[int], records.settings["frame"])
    return Film(
        frames=records.values.reshape(-1, height, width, channels),
        offsets=records.offsets,
        place=records.place,
        format=name,
        labels=records.step_labels,
    )


# --- labels in a table ------------------------------------------------------------------------------------------------


def _add_labels(film: Film, source: Path, settings: ClipSettings) -> None:
    """Labels of a CSV file: the one that is named, or labels.csv beside the pictures."""
    if is_table(settings.labels):
        path = Path(settings.labels).expanduser()
        if not path.is_absolute() and not path.exists():
            beside = (source if source.is_dir() else source.parent) / path
            path = beside if beside.exists() else path
    elif source.is_dir() and (source / "labels.csv").is_file():
        path = source / "labels.csv"
    elif settings.labels is not None and film.format != "npz":
        raise DataError(f"data.labels: {settings.labels}: a CSV file is expected, with columns clip, frame, label.")
    else:
        return
    names = film.ids if film.ids is not None else [str(i) for i in range(len(film))]
    film.labels = _table_labels(path, names, film.offsets, settings.encoding)


def _table_labels(path: Path, names: list[str], offsets: np.ndarray, encoding: str) -> StepLabels:
    """Labels of a table with columns clip (where there are several), frame and label."""
    every: list[str | None] = [None] * int(offsets[-1])
    lines: dict[int, int] = {}
    clips = {name: i for i, name in enumerate(names)}
    with open_text(path, encoding, newline="") as file:
        first = file.readline()
        between = max(",;\t", key=first.count)  # the comma, where none is there
        reader = csv.reader(itertools.chain([first], file), delimiter=between)
        head = [name.strip().lower() for name in next(reader, [])]
        wanted = ["frame", "label"] if len(names) == 1 and "clip" not in head else ["clip", "frame", "label"]
        for column in wanted:
            if column not in head:
                raise DataError(f"{path}, line 1: {unknown('column', column, head)}; expected {', '.join(wanted)}.")
        at = {column: head.index(column) for column in wanted}
        for row in reader:
            if not row:
                continue
            place = f"{path}, line {reader.line_num}"
            if len(row) != len(head):
                raise DataError(f"{place}: has {len(row)} cells, where the first line has {len(head)}.")
            name = row[at["clip"]].strip() if "clip" in at else names[0]
            clip = clips.get(name, clips.get(Path(name).stem))
            if clip is None:
                raise DataError(f"{place}: {unknown('clip', name, names)}")
            count = int(offsets[clip + 1] - offsets[clip])
            number = row[at["frame"]].strip()
            if not number.isdecimal() or int(number) >= count:
                raise DataError(f"{place}: frame {number!r}: clip {name} has frames 0 to {count - 1}.")
            at_frame, label = int(offsets[clip]) + int(number), row[at["label"]].strip()
            if every[at_frame] not in (None, label):
                raise DataError(
                    f"{place}: frame {number} of clip {name} is {label!r}, but {every[at_frame]!r} in line "
                    f"{lines[at_frame]}; one label is expected."
                )
            every[at_frame], lines[at_frame] = label, reader.line_num
    return _labels([label or "" for label in every])
