"""Running text as one long sequence of symbols: text files of any size, read by pieces, split by position."""

import hashlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from recurra.data.fetch import cache_folder
from recurra.data.opening import check_exists, digest, entries, first_bytes, open_text
from recurra.data.parts import find_parts, listed, role
from recurra.data.reader import Parts, Reader
from recurra.data.sequences import AnySchema
from recurra.data.settings import PlaceSettings
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, made_sources
from recurra.data.split import Shares
from recurra.data.units import SPECIAL, Cut, Unit, Units
from recurra.errors import DataError, RunError
from recurra.files import replacing

PIECE = 1 << 20
"""Characters that are read at once."""

LONGEST = 16
"""Pieces that a line is long at which it is cut behind a word."""

IN_MEMORY = 1 << 26
"""Symbols of a part that are kept in memory; those of a longer one are kept in a file of the cache and mapped."""

SHORTEST = 200
"""Symbols that a text of one line has at least, to be learnt from."""

NAME = "text"
"""What the format is called."""


class CorpusSettings(PlaceSettings):
    """Where a text is, and what it is cut into. The last shares of it are the validation and the test part."""

    validation_fraction: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="share of the text, before the test part, where no validation part is given",
    )
    test_fraction: float = Field(
        default=0.05, ge=0, lt=1, description="share at the end of the text, where no test part is given"
    )
    unit: Unit = Field(default="character", description="what a text is cut into; subwords are pairs of bytes joined")
    cut: Cut = Field(
        default="tokens",
        description="words: tokens, as texts are cut everywhere here, or blanks, for a text that is cut already",
    )
    lowercase: bool = Field(default=False, description="fold the text to lower case")
    line_ends: bool = Field(default=True, description="words: make the end of a line a symbol, </s>")
    min_count: int = Field(default=1, ge=1, description="symbols seen less often become the unknown symbol")
    max_vocabulary: int | None = Field(
        default=None, ge=5, description="most symbols kept, the commonest; when left out 8000 subwords, else all"
    )


class CorpusSchema(AnySchema):
    """The symbols of the training part."""

    units: Units


@dataclass(frozen=True)
class Corpus:
    """A part: one long sequence. Its length is that of `symbols`; `lengths` are those of its lines.

    Attributes:
        symbols: (S,) indices of its symbols, uint16 or int32; in memory or mapped from a file.
        characters: How many characters these stand for.
        units: What the indices mean.
    """

    symbols: np.ndarray
    characters: int
    units: Units

    def __len__(self) -> int:
        return len(self.symbols)

    @cached_property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64, the bounds of the lines, each with its end; one line where the units know no ends."""
        ends = self.units.line_ends
        found = [np.zeros(1, np.int64)]
        for first in range(0, len(self.symbols), PIECE):
            found.append(np.flatnonzero(ends[self.symbols[first : first + PIECE]]) + first + 1)
        bounds = np.concatenate(found)
        return bounds if bounds[-1] == len(self.symbols) else np.append(bounds, len(self.symbols))

    @property
    def lengths(self) -> Tensor:
        """Symbols of each line, (N,) int64."""
        return torch.from_numpy(np.diff(self.offsets))

    def text(self, first: int = 0, stop: int | None = None) -> str:
        """What some of the symbols stand for."""
        return self.units.decode(self.symbols[first:stop].tolist())


@dataclass
class Text:
    """Texts laid end to end, read by pieces and never held as a whole.

    Attributes:
        name: How messages call it.
        files: Paths, an open binary file, or texts themselves.
        encoding: How files are encoded.
    """

    name: str
    files: Sequence[Path | BinaryIO | str]
    encoding: str = "utf-8"

    def pieces(self, first: int = 0, stop: int | None = None) -> Iterator[str]:
        r"""The text from character `first` to `stop`, in pieces that end where a line does, or, in a very long
        line, where a word does. Between two files there is the end of a line.

        Raises:
            DataError: A file that cannot be read, is not text, or not in this encoding, with the place.
        """
        place = 0
        for piece in self._whole():
            if stop is not None and place >= stop:
                return
            part = piece[max(0, first - place) : None if stop is None else stop - place]
            place += len(piece)
            if part:
                yield part

    def _whole(self) -> Iterator[str]:
        ended = True
        for file in self.files:
            if not ended:
                yield "\n"
            for piece in [file] if isinstance(file, str) else self._of(file):
                yield piece
                ended = piece.endswith("\n")

    def _of(self, file: Path | BinaryIO) -> Iterator[str]:
        place, rest = 0, ""
        with open_text(file, self.encoding) as stream:
            while read := stream.read(PIECE):
                if (at := read.find("\0")) >= 0:
                    name = str(file) if isinstance(file, Path) else self.name
                    raise DataError(f"{name}: character {place + at} is NUL, which no text holds; is it a binary file?")
                place += len(read)
                rest += read
                end = rest.rfind("\n") + 1
                if not end and len(rest) > LONGEST * PIECE:
                    end = rest.rfind(" ") + 1 or len(rest)
                if end:
                    yield rest[:end]
                    rest = rest[end:]
        if rest:
            yield rest

    def length(self) -> int:
        """Characters in all."""
        return sum(map(len, self.pieces()))

    def behind_line(self, place: int) -> int:
        """The first place from `place` on that begins a line."""
        seen = 0
        for piece in self.pieces():
            if seen + len(piece) >= place:
                end = piece.find("\n", max(0, place - seen - 1)) + 1
                if end:
                    return seen + end
            seen += len(piece)
        return seen

    def digest(self) -> bytes:
        """The SHA-256 of all that is read."""
        total = hashlib.sha256(self.encoding.encode())
        for file in self.files:
            if isinstance(file, Path):
                total.update(digest(file))
            elif isinstance(file, str):
                total.update(hashlib.sha256(file.encode("utf-8", "surrogatepass")).digest())
        return total.digest()


def encoded(text: Text, units: Units, first: int = 0, stop: int | None = None, key: bytes | None = None) -> Corpus:
    """The symbols of a text, or of a stretch of it.

    Args:
        text: The text.
        units: What it is cut into.
        first: The character to begin with.
        stop: The character before which it ends.
        key: The text's digest, by which the symbols of a long text are found in the cache another time; without it
            they are kept in memory.
    """
    kind = np.dtype(np.uint16 if len(units) <= 1 << 16 else np.int32)
    held: list[np.ndarray] = []
    count = characters = 0
    pieces = text.pieces(first, stop)
    for piece in pieces:
        held.append(units.encoded(piece).astype(kind))
        count, characters = count + len(held[-1]), characters + len(piece)
        if count > IN_MEMORY and key is not None:
            return _in_cache(held, pieces, characters, units, _name(key, units, first, stop))
    symbols = held[0] if len(held) == 1 else np.concatenate(held) if held else np.empty(0, kind)
    return Corpus(symbols, characters, units)


def _name(key: bytes, units: Units, first: int, stop: int | None) -> str:
    """What the symbols of a stretch of a text are called in the cache."""
    said = key + units.model_dump_json().encode() + f"{first} {stop}".encode()
    return hashlib.sha256(said).hexdigest()[:32]


def _in_cache(held: list[np.ndarray], pieces: Iterator[str], characters: int, units: Units, name: str) -> Corpus:
    """Go on with a text that is too long for memory: its symbols in a file, which is mapped."""
    folder = cache_folder() / "symbols"
    kind = held[0].dtype
    if not (found := sorted(folder.glob(f"{name}-*.bin"))):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"{folder}: cannot be made: {error.strerror}; RECURRA_CACHE names another") from error
        with replacing(folder / f"{name}.bin") as partial, partial.open("wb") as file:
            for array in held:
                file.write(array.tobytes())
            held.clear()
            for piece in pieces:
                file.write(units.encoded(piece).astype(kind).tobytes())
                characters += len(piece)
        whole = folder / f"{name}-{characters}.bin"  # the name says what the symbols do not: their characters
        (folder / f"{name}.bin").replace(whole)
        found = [whole]
    characters = int(found[0].stem.rpartition("-")[2])
    return Corpus(np.memmap(found[0], kind, mode="r"), characters, units)


class CorpusReader(Reader[Corpus, CorpusSchema]):
    """Reads text files, folders of them, and folders with parts, as running text."""

    settings = CorpusSettings
    schema = CorpusSchema
    undealt = "parts of a text are taken from its end"

    def parts(
        self,
        source: Any,
        task: str,
        settings: CorpusSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: CorpusSchema | None = None,
    ) -> Parts[Corpus, CorpusSchema]:
        """See `Reader.parts`; what is missing is split off at the end, so that nothing depends on the seed."""
        _check_format(settings.format)
        sources, warnings = find_sources(_given(source), _given(validation), _given(test), task, settings, rank)
        texts = {part: _text(source, settings.encoding, warnings) for part, source in sources.items()}
        shares = Shares.of(settings, texts, seed)
        if kept and kept.units.unit != settings.unit:
            raise DataError(
                f"data.unit: {settings.unit!r}, but the vocabulary that is gone on with is of the unit "
                f"{kept.units.unit!r}."
            )
        bounds = _bounds(texts["train"], shares, settings.unit)
        name = texts["train"].name
        units = kept.units if kept else learn(texts["train"].pieces(*bounds["train"]), settings, name)
        keys = {part: text.digest() for part, text in texts.items()}
        found: dict[str, Corpus] = {}
        for part in PARTS:
            if part in texts and (part == "train" or part not in bounds):
                first, stop = bounds["train"] if part == "train" else (0, None)
                found[part] = encoded(texts[part], units, first, stop, keys[part])
            elif part in bounds:
                found[part] = encoded(texts["train"], units, *bounds[part], keys["train"])
        for part, corpus in found.items():
            _check(corpus, part, texts.get(part, texts["train"]).name, warnings)
        total = hashlib.sha256()
        for part in texts:
            total.update(keys[part])
        said = {part: f"the last {shares[part]:.3g} of {name}" if shares[part] else texts[part].name for part in found}
        if shares.validation and shares.test:
            said["validation"] = f"{shares.validation:.3g} of {name}, before the last {shares.test:.3g}"
        own = settings.model_dump(exclude_defaults=True, include={"encoding"})
        return Parts(
            train=found["train"],
            validation=found.get("validation"),
            test=found.get("test"),
            schema=CorpusSchema(task=task, format=NAME, units=units, settings=own),
            warnings=warnings,
            sources=said,
            fingerprint=total.hexdigest(),
        )

    def describe(self, source: Any, settings: CorpusSettings, task: str) -> str:
        """See `Reader.describe`."""
        parts = self.parts(source, task, settings)
        units = parts.schema.units
        lines = [
            f"{name}: {parts.sources[name]}\n  {units.unit}s{' ' * (11 - len(units.unit))}{len(part):,}\n"
            f"  lines       {len(part.lengths):,}"
            + ("" if units.unit == "character" else f"\n  characters  {part.characters:,}")
            for name, part in parts.named.items()
        ]
        common = ", ".join(repr(symbol) for symbol in units.symbols[len(SPECIAL) : len(SPECIAL) + 10])
        lines.append(f"vocabulary of {len(units):,}, {len(SPECIAL)} special symbols among them; the next are {common}")
        return "\n".join(lines + [f"warning: {warning}" for warning in parts.warnings])

    def part(
        self, source: Any, schema: CorpusSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Corpus, list[str]]:
        """See `Reader.part`. Of a folder with parts the test part is read, else the validation part."""
        _check_format(format)
        warnings: list[str] = []
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        if isinstance(source, str) and is_known(source):
            source = folder_of(source) or made_sources(source, schema.task, {}).popitem()[1]
        found = as_source(_given(source), "the data given")
        if found is None:
            raise DataError("no data; give a path, '-' for standard input, or a list of texts.")
        if isinstance(found.data, Path) and found.data.is_dir() and rank(found.data) is None:
            places = find_parts(found.data, rank)
            path = places.test or places.validation
            if path is None:
                raise DataError(f"{found.data}: holds the parts of a data set but no test part; name one file.")
            warnings.append(f"{found.data}: {path.relative_to(found.data)} is read.")
            found = Source(str(path), path)
        encoding = str(schema.settings.get("encoding", "utf-8"))
        text = _text(found, encoding, warnings)
        corpus = encoded(text, schema.units)
        if len(corpus.symbols) < 2:
            raise DataError(f"{text.name}: {_sized(corpus)}; of two the second can be predicted.")
        _tell_unknown(corpus, text.name, warnings)
        return corpus, warnings


def learn(texts: Iterable[str], settings: CorpusSettings, name: str) -> Units:
    """The symbols of a training part."""
    return Units.learn(
        texts,
        settings.unit,
        size=settings.max_vocabulary,
        min_count=settings.min_count,
        lowercase=settings.lowercase,
        cut=settings.cut,
        lines=settings.line_ends,
        name=name,
    )


def rank(path: Path) -> int | None:
    """0 for a text file, or a folder of texts that are no parts; None for anything else."""
    if not path.is_dir():
        return None if _is_binary(path) else 0
    inside = entries(path)
    if any(role(entry.name) for entry in inside):
        return None
    return 0 if any(entry.is_dir() or rank(entry) == 0 for entry in inside) else None


def _is_binary(path: Path) -> bool:
    return b"\0" in first_bytes(path, 1 << 12)


def _check_format(format: str | None) -> None:
    if format not in (None, NAME):
        raise DataError(f"data.format: {format!r} is none for running text; expected {NAME!r}, or nothing.")


def _given(source: Any) -> Any:
    """Python data as a text: a list of texts; anything else as it is."""
    if isinstance(source, list | tuple) and all(isinstance(text, str) for text in source):
        return Source("the texts given", Text("the texts given", source))
    return source


def _text(source: Source, encoding: str, warnings: list[str]) -> Text:
    """What a source holds, before it is read."""
    data = source.data
    if isinstance(data, Text):
        return data
    if isinstance(data, list) and all(isinstance(path, Path) for path in data):
        return Text(source.name, data)
    if isinstance(data, Path):
        check_exists(data)
        if not data.is_dir():
            return Text(source.name, [data], encoding)
        files = [p for p in sorted(data.rglob("*")) if p.is_file() and not _hidden(p, data)]
        binary = [p for p in files if _is_binary(p)]
        if binary:
            warnings.append(f"{data}: what is no text is left out ({len(binary)}): {listed(binary)}.")
        files = [p for p in files if p not in set(binary)]
        if not files:
            raise DataError(f"{data}: holds no text file; found {listed(entries(data))}.")
        return Text(source.name, files, encoding)
    if hasattr(data, "read"):
        return Text(source.name, [cast(BinaryIO, data)], encoding)
    raise DataError(f"{source.name}: is {type(data).__name__}; a path or a list of texts is expected.")


def _hidden(path: Path, folder: Path) -> bool:
    return any(name.startswith(".") for name in path.relative_to(folder).parts)


def _bounds(text: Text, shares: Shares, unit: Unit) -> dict[str, tuple[int, int | None]]:
    """From which character to which each part goes that is made of the training text."""
    total = shares.validation + shares.test
    if total >= 1:
        raise DataError(
            f"data.validation_fraction {shares.validation:g} and data.test_fraction {shares.test:g} leave nothing to "
            "train on; expected a sum below 1."
        )
    if not total:
        return {"train": (0, None)}
    length = text.length()
    ends = [int(length * (1 - total) + 1e-6), int(length * (1 - shares.test) + 1e-6)]
    if unit != "character":  # no symbol is cut in two
        ends = [text.behind_line(end) for end in ends]
    bounds: dict[str, tuple[int, int | None]] = {"train": (0, ends[0])}
    if shares.validation:
        bounds["validation"] = (ends[0], ends[1] if shares.test else None)
    if shares.test:
        bounds["test"] = (ends[1], None)
    return bounds


def _check(corpus: Corpus, part: str, name: str, warnings: list[str]) -> None:
    """Look whether there is enough of a part, and tell how much of it is unknown.

    Raises:
        DataError: There is not.
    """
    count = len(corpus.symbols)
    if part == "train" and count < SHORTEST and len(corpus.offsets) < 3:
        raise DataError(
            f"{name}: {_sized(corpus)} to train on, in one line; expected a running text, of some thousands at least."
        )
    if count < 2:
        hint = "" if part == "train" else f"; give it apart (--{part} PATH), or go without: data.{part}_fraction = 0"
        raise DataError(f"{name}: {_sized(corpus)} in the {part} part{hint}.")
    if part != "train":
        _tell_unknown(corpus, name if name.endswith(f"({part} part)") else f"{name} ({part} part)", warnings)


def _sized(corpus: Corpus) -> str:
    count, unit = len(corpus.symbols), corpus.units.unit
    return f"holds {count or 'no'} {unit if count == 1 else unit + 's'}"


def _tell_unknown(corpus: Corpus, name: str, warnings: list[str]) -> None:
    """Add a warning that counts the symbols that are unknown; words that a text itself calls so are none of them."""
    if corpus.units.unit == "subword" or (corpus.units.unit == "word" and corpus.units.cut == "blanks"):
        return
    unknown = sum(
        int((corpus.symbols[first : first + PIECE] == SPECIAL.index("<unk>")).sum())
        for first in range(0, len(corpus.symbols), PIECE)
    )
    if unknown:
        count, unit = len(corpus.symbols), corpus.units.unit
        warnings.append(f"{name}: {unknown} of {count} {unit}s ({unknown / count:.2%}) are not in the vocabulary.")
