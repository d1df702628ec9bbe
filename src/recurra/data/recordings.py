"""Recordings from wherever they are: WAV files, folders and archives of them, tables that name them, Python data."""

import hashlib
import io
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from recurra.data.delimited import find_name, open_table
from recurra.data.opening import check_exists, digest, entries, missing, name_of, open_binary
from recurra.data.parts import role
from recurra.data.settings import DataSettings
from recurra.data.wave import Sound, as_sound, at_rate, read_wave
from recurra.errors import DataError, unknown

FORMATS = {
    "folder": "a folder of WAV files: a folder a class, or names by `data.pattern`; or one WAV file",
    "archive": "a tar archive of such files, packed or not, read as it stands",
    "table": "a table (CSV, TSV, Parquet) with a column of files and one of labels or transcripts",
}
"""How recordings are laid out."""

Meaning = Literal["label", "transcript"]

FILE_NAMES = ("file", "filename", "file_name", "path", "wav", "audio", "recording", "clip")
LABEL_NAMES = ("label", "class", "category", "target", "keyword")
TRANSCRIPT_NAMES = ("transcript", "transcription", "text", "sentence", "words", "translation", "normalized_text")
"""Names by which a table's columns are known."""

_OTHER_SOUNDS = (
    *(".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".aac", ".aif", ".aiff", ".au", ".snd", ".wma", ".amr"),
)
"""Endings of files that hold sound and are not read."""

_TABLES = (".csv", ".tsv", ".parquet")


@dataclass
class Recording:
    """One recording.

    Attributes:
        name: How messages and predictions call it.
        sound: What is heard.
        fields: What its name, or its row of a table, tells of it.
        said: Its label or transcript; None where it has none.
        file: The file that a table means.
    """

    name: str
    sound: Sound
    fields: dict[str, str] = field(default_factory=dict)
    said: str | None = None
    file: Path | None = None


@dataclass
class Heard:
    """The recordings of one source.

    Attributes:
        name: How messages call the source.
        recordings: In the order of their names, or of a table's rows.
        format: How they are laid out.
        meaning: What `said` is; None where that cannot be told.
        warnings: What a person should know of how they were found.
    """

    name: str
    recordings: list[Recording]
    format: str
    meaning: Meaning | None = None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.recordings)

    def select(self, rows: Iterable[int]) -> "Heard":
        """The named recordings."""
        return replace(self, recordings=[self.recordings[i] for i in rows])

    def where(self, condition: "Condition") -> np.ndarray:
        """(N,) bool: those that a condition holds of.

        Raises:
            DataError: There is no such field.
        """
        there = {key for r in self.recordings for key in r.fields}
        if not there:
            raise DataError(
                f"{self.name}: data.{condition.setting}: the names tell of no field {condition.field!r}; data.pattern "
                "says what they tell."
            )
        if condition.field not in there:
            raise DataError(f"{self.name}: data.{condition.setting}: {unknown('field', condition.field, there)}")
        return np.array([condition.holds(r.fields.get(condition.field, "")) for r in self.recordings], bool)


class Condition:
    """Which recordings are meant: `speaker=theo`, `speaker=theo,lucas`, `index=0-4`.

    Args:
        text: A field, `=`, and values parted by commas; two whole numbers with a dash between them are all from one to
            the other.
        setting: The setting it stands in.

    Raises:
        DataError: It is written otherwise.
    """

    def __init__(self, text: str, setting: str) -> None:
        self.setting = setting
        key, equals, values = text.partition("=")
        self.field = key.strip()
        self.values = [value.strip() for value in values.split(",")]
        if not equals or not self.field or not all(self.values):
            raise DataError(
                f"data.{setting}: {text!r} is no condition; expected such as 'speaker=theo' or 'index=0-4'."
            )

    def holds(self, found: str) -> bool:
        """Whether a field's value is among those that are meant."""
        for value in self.values:
            bounds = re.fullmatch(r"(\d+)-(\d+)", value)
            if value == found or (
                bounds and found.isascii() and found.isdigit() and int(bounds[1]) <= int(found) <= int(bounds[2])
            ):
                return True
        return False


class Pattern:
    """What a file's name tells: `{label}_{speaker}_{index}.wav`, of which each field in braces is a part of the name.

    Args:
        text: The pattern. Where it has a slash it is of the path's last parts, else of the name alone.

    Raises:
        DataError: No field, a field twice, or a brace without its other.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        pieces = re.split(r"\{(\w+)\}", text)
        self.fields = pieces[1::2]
        twice = [name for name, count in Counter(self.fields).items() if count > 1]
        if not self.fields or any(brace in piece for piece in pieces[::2] for brace in "{}") or twice:
            fault = f"has the field {twice[0]!r} twice" if twice else "has no field in braces, or half a brace"
            raise DataError(f"data.pattern: {text!r} {fault}; expected such as {{label}}_{{speaker}}_{{index}}.wav.")
        self._form = re.compile(
            r"(?:.*/)?" + "".join(re.escape(p) if i % 2 == 0 else f"(?P<{p}>[^/]+?)" for i, p in enumerate(pieces))
        )

    def read(self, path: str, name: str) -> dict[str, str]:
        """The fields of a path, which messages call `name`.

        Raises:
            DataError: It is not as the pattern says.
        """
        found = self._form.fullmatch(path)
        if found is None:
            raise DataError(f"{name}: the name is not as data.pattern says, {self.text!r}.")
        return found.groupdict()


@dataclass(frozen=True)
class Where:
    """What of the settings tells how recordings are found: see `SoundSettings`."""

    pattern: str | None = None
    file: str | None = None
    target: str | None = None
    separator: str | None = None
    header: bool | None = None
    columns: list[str] | None = None
    encoding: str = "utf-8"
    format: str | None = None
    rate: int | None = None
    meaning: Meaning | None = None


# --- parts ----------------------------------------------------------------------------------------------------------


def places(path: Path) -> dict[str, Path]:
    """The parts that a path holds: the tables whose names tell of one, or else archives, or folders; where there are
    none itself, to train on.

    Raises:
        DataError: There is no such path; or two that tell of the same part.
    """
    check_exists(path)
    if not path.is_dir():
        return {"train": path}
    for kind in (_is_table, _is_archive, Path.is_dir):
        found: dict[str, Path] = {}
        for entry in entries(path):
            part = role(entry.name) if kind(entry) else None
            if part in found:
                raise DataError(
                    f"{path}: holds {found[part].name} and {entry.name} for the {part} part; name one of them."
                )
            if part is not None:
                found[part] = entry
        if "train" in found:
            return found
    return {"train": path}


def _is_table(path: Path) -> bool:
    return path.is_file() and path.suffix.lower() in _TABLES


def _is_archive(path: Path) -> bool:
    return path.is_file() and (".tar" in (s.lower() for s in path.suffixes) or path.suffix.lower() == ".tgz")


def _is_wave(name: str) -> bool:
    return _ends(name, (".wav", ".wave"))


def _ends(name: str, endings: Sequence[str]) -> bool:
    """Whether a visible file's name has one of the endings."""
    path = PurePosixPath(name)
    return path.suffix.lower() in endings and not path.name.startswith(".")


# --- reading --------------------------------------------------------------------------------------------------------


def hear(path: Path, where: Where, sum: Any) -> Heard:
    """All recordings at a path; what was read goes into the digest `sum`.

    Raises:
        DataError: There is none, or one that cannot be read; with its name.
    """
    check_exists(path)
    if where.format is not None and where.format not in FORMATS:
        raise DataError(f"data.format: {unknown('format', where.format, FORMATS)}")
    folder = path
    if path.is_dir() and where.format != "folder":
        inside = [entry for entry in entries(path) if _is_table(entry)]
        packed = [entry for entry in entries(path) if _is_archive(entry)]
        for kind, found in (("table", inside), ("archive", packed)):
            if where.format == kind or (where.format is None and len(found) == 1):
                if len(found) != 1:
                    raise DataError(f"{path}: holds {len(found)} files of the format {kind}; name one.")
                path = found[0]
                break
    if path.is_dir():
        heard = _folder(path, where, sum)
    elif where.format == "archive" or (where.format is None and _is_archive(path)):
        heard = _archive(path, where, sum)
    elif where.format == "table" or (where.format is None and _is_table(path)):
        heard = _table(path, where, sum)
    else:
        sum.update(digest(path))
        heard = Heard(str(path), list(_named([(path.name, str(path), _content(path))], where)), "folder")
    if not len(heard):
        raise DataError(" ".join([f"{path}: holds no WAV file.", *heard.warnings]))
    if path != folder:
        _say_beside(heard, folder, path)
    if heard.meaning is None and any(r.said is not None for r in heard.recordings):
        heard.meaning = where.meaning or "label"
    return heard


def _say_beside(heard: Heard, folder: Path, read: Path) -> None:
    """Tell of recordings in a folder that a table, or an archive, in it hides."""
    used = {r.file for r in heard.recordings}
    files = _waves(folder)
    left = [file for file in files if file not in used]
    if left:
        count = f"{len(left):,} of {len(files):,} WAV files beside it"
        said = f"{count}, which it does not name, are left out" if heard.format == "table" else f"{count} are left out"
        heard.warnings.append(
            f"{folder}: {read.name} is read; {said}; the first: {left[0].relative_to(folder).as_posix()}."
        )


def _say_others(heard: Heard, names: Sequence[str]) -> None:
    """Tell of files of sound that are not read."""
    if names:
        files = "1 file" if len(names) == 1 else f"{len(names):,} files"
        heard.warnings.append(
            f"{heard.name}: {files} of sound in other formats than WAV left out; the first: {min(names)}."
        )


def _waves(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if _is_wave(path.name) and path.is_file())


def _content(path: Path) -> bytes:
    if path.stat().st_size == 0:
        return b""  # which the reader of WAV files tells
    with open_binary(path) as file:
        return file.read()


def _folder(folder: Path, where: Where, sum: Any) -> Heard:
    contents = []
    for file in _waves(folder):
        sum.update(digest(file))
        contents.append((file.relative_to(folder).as_posix(), str(file), _content(file)))
    heard = Heard(str(folder), list(_named(contents, where)), "folder")
    others = (path for path in folder.rglob("*") if _ends(path.name, _OTHER_SOUNDS) and path.is_file())
    _say_others(heard, [path.relative_to(folder).as_posix() for path in others])
    return heard


def _archive(path: Path, where: Where, sum: Any) -> Heard:
    sum.update(digest(path))
    contents, others = [], []
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = PurePosixPath(member.name).as_posix()
                if member.isfile() and _is_wave(name):
                    file = cast(BinaryIO, archive.extractfile(member))
                    contents.append((name, f"{path}: {name}", file.read()))
                elif member.isfile() and _ends(name, _OTHER_SOUNDS):
                    others.append(name)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise DataError(f"{path}: is no tar archive that can be read to its end ({error}).") from error
    heard = Heard(str(path), list(_named(sorted(contents), where)), "archive")
    _say_others(heard, others)
    return heard


def _named(contents: Sequence[tuple[str, str, bytes]], where: Where) -> Iterator[Recording]:
    """Recordings of which the names tell: (path inside, name in messages, content) of each."""
    pattern = Pattern(where.pattern) if where.pattern else None
    for inside, name, content in contents:
        fields = {} if pattern is None else pattern.read(inside, name)
        said = fields.get("transcript", fields.get("label"))
        folder = PurePosixPath(inside).parent.name
        if pattern is None and folder:
            said = folder
        yield Recording(inside, read_wave(content, name), fields, said)


def _table(path: Path, where: Where, sum: Any) -> Heard:
    """Recordings that a table names, a row each; the files are looked for from the table's own folder."""
    sum.update(digest(path))
    options = DataSettings(
        header=where.header, separator=where.separator, columns=where.columns, encoding=where.encoding
    )
    known = [name for name in (where.file, where.target) if name]
    recordings: list[Recording] = []
    rows: dict[Path, list[tuple[int, str | None]]] = {}
    with open_table(path, options, known) as table:
        file = table.column(where.file, "file") if where.file else _column(table.names, FILE_NAMES)
        if file is None:
            raise DataError(
                f"{path}: no column is called as one of files ({', '.join(FILE_NAMES[:4])}, …); data.file names it. "
                f"Columns: {', '.join(table.names)}."
            )
        meaning = where.meaning
        if where.target:
            target = table.column(where.target, "target")
            spoken = find_name(table.names[target], TRANSCRIPT_NAMES) is not None
        else:
            target = _column(table.names, TRANSCRIPT_NAMES)
            spoken = target is not None
            if meaning == "label" or target is None:
                by_label = _column(table.names, LABEL_NAMES)
                target = target if by_label is None else by_label
        for block in table.blocks():
            files = table.strings(block, file)
            columns = {name: table.strings(block, i) for i, name in enumerate(table.names) if i != file}
            targets = None if target is None else table.strings(block, target)
            for row, name in enumerate(files):
                place = table.place(int(block.lines[row]))
                if not name:
                    raise DataError(f"{place}, column {table.names[file]!r}: is empty; expected a file.")
                found = _file_of(path.parent, name, place)
                sum.update(digest(found))
                fields = {key: values[row] for key, values in columns.items()}
                said = None if targets is None else targets[row]
                recordings.append(Recording(name, read_wave(_content(found), str(found)), fields, said, found))
                rows.setdefault(found, []).append((int(block.lines[row]), said))
    meaning = meaning or (None if target is None else "transcript" if spoken else "label")
    heard = Heard(str(path), recordings, "table", meaning)
    if where.pattern:
        heard.warnings.append(f"{path}: data.pattern is not heeded, since a table tells of its files.")
    _say_twice(heard, rows)
    return heard


def _say_twice(heard: Heard, rows: Mapping[Path, Sequence[tuple[int, str | None]]]) -> None:
    """Tell of recordings that a table names more than once.

    Raises:
        DataError: One of them has several labels.
    """
    several = {file: found for file, found in rows.items() if len(found) > 1}
    for file, ((line, first), *others) in several.items():
        for other, said in others:
            if heard.meaning == "label" and said != first:
                raise DataError(
                    f"{heard.name}, line {other}: {file.name} is labelled {said!r}, but {first!r} in line {line}; one "
                    "label is expected."
                )
    if several:
        file, found = next(iter(several.items()))
        lines = ", ".join(f"{line:,}" for line, _ in found[:5])
        heard.warnings.append(
            f"{heard.name}: {len(several):,} of {len(rows):,} recordings stand in several rows, so that parts which "
            f"are split off may share them; the first: {file.name} (lines {lines})."
        )


def _column(names: Sequence[str], known: Sequence[str]) -> int | None:
    """The column with one of the known names."""
    lower = [name.strip().lower() for name in names]
    return next((lower.index(name) for name in known if name in lower), None)


def _file_of(folder: Path, name: str, place: str) -> Path:
    """The file that a table means; the ending may be missing, and so may a folder `clips` or `wavs`."""
    given = Path(name).expanduser()
    for base in (folder, folder / "clips", folder / "wavs"):
        for path in (base / given, base / f"{name}.wav"):
            if path.is_file():
                return path
    raise DataError(f"{place}: {missing(folder / given)}")


# --- Python data ----------------------------------------------------------------------------------------------------


def in_python(data: Any, name: str, where: Where) -> Heard:
    """Recordings handed over in Python: sounds, or (sounds, labels or transcripts).

    A sound is an array of samples at `data.rate`, a pair (rate, samples) as `scipy.io.wavfile.read` returns it, or the
    path of a WAV file. None and NaN are no label.

    Raises:
        DataError: It is otherwise.
    """
    sounds, targets = data, None
    if isinstance(data, tuple) and len(data) == 2 and not _has_rate(data):
        sounds, targets = data
    if _is_one(sounds):
        sounds = [sounds]
        targets = None if targets is None else [targets] if isinstance(targets, str) else targets
    if not hasattr(sounds, "__iter__") or isinstance(sounds, Mapping):
        raise DataError(
            f"{name}: is {type(sounds).__name__}; expected sounds, or (sounds, labels), a sound being samples, (rate, "
            "samples) or the path of a WAV file."
        )
    found = [_sound(each, f"{name}, sound {i}", where) for i, each in enumerate(sounds)]
    if not found:
        raise DataError(f"{name}: holds no sound.")
    said: list[str | None] = [None] * len(found)
    if targets is not None:
        wanted: Any = targets
        listed = wanted.tolist() if hasattr(wanted, "tolist") else list(wanted)
        if len(listed) != len(found):
            raise DataError(f"{name}: {len(found)} sounds but {len(listed)} targets; expected as many.")
        said = [None if _is_nothing(target) else str(target) for target in listed]
    meaning = where.meaning or ("transcript" if any(text and " " in text.strip() for text in said) else "label")
    recordings = [Recording(each, sound, {}, text) for (each, sound), text in zip(found, said, strict=True)]
    return Heard(name, recordings, "arrays", meaning if targets is not None else None)


def _is_nothing(target: Any) -> bool:
    """Whether this is None, NaN or what pandas has for it, and no label."""
    try:
        return target is None or bool(target != target)
    except (TypeError, ValueError):  # pandas.NA is neither; an array is no label, as which it is told
        return type(target).__name__ == "NAType"


def _has_rate(given: Any) -> bool:
    """Whether this is a pair (rate, samples)."""
    if not isinstance(given, tuple) or len(given) != 2 or not isinstance(given[0], (int, float, np.number)):
        return False
    return hasattr(given[1], "__len__") and not isinstance(given[1], str)


def _is_one(data: Any) -> bool:
    """Whether this is one sound rather than several."""
    if isinstance(data, (str, os.PathLike)):
        return True
    if _has_rate(data):
        return True
    array = _array(data)
    return array is not None and array.ndim == 1 and array.dtype.kind in "iuf"


def _array(data: Any) -> np.ndarray | None:
    if hasattr(data, "detach"):
        return data.detach().cpu().numpy()
    if hasattr(data, "to_numpy"):
        return data.to_numpy()
    return data if isinstance(data, np.ndarray) else None


def _sound(given: Any, name: str, where: Where) -> tuple[str, Sound]:
    """A sound, and how it is called."""
    if isinstance(given, (str, os.PathLike)):
        path = Path(given).expanduser()
        check_exists(path)
        return str(path), read_wave(_content(path), str(path))
    rate = where.rate
    if _has_rate(given):
        if given[0] != given[0] // 1:
            raise DataError(f"{name}: {given[0]} samples a second; expected a whole number.")
        rate, given = int(given[0]), given[1]
    if rate is None:
        raise DataError(f"{name}: its rate is not known; set data.rate, or give (rate, samples).")
    array = _array(given)
    if array is None:
        try:
            array = np.asarray(given)
        except ValueError as error:  # lists of several lengths
            raise DataError(f"{name}: is no array of samples ({error}).") from error
    _check_width(array, name)
    return name.rpartition(", ")[2], as_sound(array, rate, name)


def _check_width(array: np.ndarray, name: str) -> None:
    """Raises DataError where whole numbers are in a type far wider than they are, as lists and sums of them become:
    beside its full scale they would be silence."""
    bits = 8 * array.dtype.itemsize
    if array.dtype.kind != "i" or bits < 32 or not array.size:
        return
    largest = max(abs(int(array.min())), abs(int(array.max())))
    if 0 < largest < 1 << (15 if bits == 32 else 31):
        raise DataError(
            f"{name}: whole numbers of {bits} bits, of which the largest is {largest:,}; full scale would be "
            f"{2 ** (bits - 1):,}. Expected such as int16, or floating point from -1 to 1."
        )


def from_stream(file: BinaryIO) -> Heard:
    """The one recording that comes from standard input.

    Raises:
        DataError: It is no WAV file.
    """
    name = name_of(file)
    return Heard(name, [Recording(name, read_wave(io.BytesIO(file.read()).getvalue(), name))], "folder")


# --- alike ----------------------------------------------------------------------------------------------------------


def common_rate(heard: Heard) -> int:
    """The rate of most recordings; of several, the lowest."""
    counts = Counter(r.sound.rate for r in heard.recordings)
    return min(counts, key=lambda rate: (-counts[rate], rate))


def alike(heard: Heard, rate: int, warnings: list[str]) -> Heard:
    """The recordings brought to one rate and one channel, which is told; and so is how they were found."""
    recordings = heard.recordings
    warnings += heard.warnings
    other = [r for r in recordings if r.sound.rate != rate]
    if other:
        rates = ", ".join(f"{r:,}" for r in sorted({r.sound.rate for r in other}))
        warnings.append(
            f"{heard.name}: {_counted(other, heard)} at {rates} samples a second brought to {rate:,}; the first: "
            f"{other[0].name}."
        )
    several = [r for r in recordings if r.sound.channels > 1]
    if several:
        warnings.append(
            f"{heard.name}: {_counted(several, heard)} of several channels, of which the mean is taken; the first: "
            f"{several[0].name} ({several[0].sound.channels})."
        )
    kinds = Counter(r.sound.kind for r in recordings)
    if len(kinds) > 1:
        each = ", ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common())
        warnings.append(f"{heard.name}: samples of several widths, all brought to full scale at 1: {each}.")
    made = [
        replace(r, sound=replace(r.sound, samples=at_rate(r.sound.samples, r.sound.rate, rate), rate=rate))
        for r in recordings
    ]
    return replace(heard, recordings=made)


def _counted(some: Sequence[Recording], heard: Heard) -> str:
    return f"{len(some):,} of {len(heard):,} recordings"


def fingerprint(heard: Heard) -> bytes:
    """A SHA-256 of recordings that come from no file."""
    sum = hashlib.sha256()
    for r in heard.recordings:
        sum.update(repr((r.name, r.said, r.sound.rate)).encode())
        sum.update(np.ascontiguousarray(r.sound.samples).data)
    return sum.digest()


def said_of(heard: Heard, words: Mapping[str, str]) -> Heard:
    """The recordings with other words for what was said: `words` has one for each label.

    Raises:
        DataError: A label that has none.
    """
    if not words:
        return heard
    for r in heard.recordings:
        if r.said is not None and r.said not in words:
            raise DataError(f"{r.name}: data.words has no word for {r.said!r}; it has some for {', '.join(words)}.")
    return replace(
        heard, recordings=[replace(r, said=None if r.said is None else words[r.said]) for r in heard.recordings]
    )
