"""Files opened for reading: unpacked on the way, every fault told as a `DataError` a person can mend."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import shlex
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from recurra.errors import DataError, nearest

COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz"}
"""The endings of compressed files, which are read as they stand."""

LONGEST = 1 << 16
"""Characters of a line that are looked at to know a format."""

_UNPACKING = {"gzip": "zcat", "bzip2": "bzcat", "xz": "xzcat"}
_OPENERS = {"gzip": lambda raw: gzip.GzipFile(fileobj=raw), "bzip2": bz2.BZ2File, "xz": lzma.LZMAFile}


class WrongEncodingError(DataError):
    """A text that is not in the encoding it was read in; says how the file is converted.

    Args:
        found: What was found, and where.
        name: The file's; None for an open stream.
        encoding: What it was read in.
        likely: What it may be in.
        packed: How it is compressed.
    """

    def __init__(self, found: str, name: str | None, encoding: str, likely: str, packed: str | None = None) -> None:
        self.found, self.likely = found, likely
        # iconv does not know "latin-1", but what Python's codec calls itself.
        convert = f"iconv -f {codecs.lookup(likely).name} -t {codecs.lookup(encoding).name}"
        if name is not None:
            file = shlex.quote(name)
            convert = f"{_UNPACKING[packed]} {file} | {convert} > NEW" if packed else f"{convert} {file} > NEW"
        super().__init__(f"{found}; if it is {likely}, convert it: {convert}")


@contextmanager
def encoding_settable() -> Iterator[None]:
    """Where `data.encoding` can be set, say that instead of how to convert a file.

    Raises:
        DataError: For a `WrongEncodingError`.
    """
    try:
        yield
    except WrongEncodingError as error:
        raise DataError(
            f"{error.found}; name the encoding the file has, such as --set data.encoding={error.likely}."
        ) from error


def name_of(source: Path | BinaryIO) -> str:
    """How messages call a source: its path, or "standard input" for an open file."""
    return str(source) if isinstance(source, Path) else "standard input"


def plain_name(path: Path) -> str:
    """A file's name without the ending that compression adds: `train.csv` for `train.csv.gz`."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in COMPRESSED else path.name


def missing(path: Path) -> DataError:
    """The error for a path that does not exist, with the nearest name in its folder."""
    folder = path.parent
    if not folder.is_dir():
        return DataError(f"{path}: no such file, and no folder {folder} either.")
    names = {entry.name.lower(): entry.name for entry in entries(folder)}
    guess = nearest(path.name, names)
    hint = f" Did you mean {folder / names[guess]}?" if guess else ""
    return DataError(f"{path}: no such file or folder.{hint}")


@contextmanager
def open_binary(source: Path | BinaryIO, pipes: bool = False) -> Iterator[BinaryIO]:
    """Open a file, or an open stream such as standard input, for bytes; gzip, bzip2 and xz are unpacked.

    Compression is known by the first bytes, so that a renamed file and standard input are read too. With `pipes` a
    path may be that of a named pipe, which is read once.

    Raises:
        DataError: On opening, where there is no such file (the nearest name is offered), it is a folder, may
            not be read, is empty, or has the ending but not the content of a compressed file. On reading,
            where compressed data are cut short or damaged.
    """
    name = name_of(source)
    if isinstance(source, Path):
        _check_readable(source, pipes)
        try:
            raw = source.open("rb")
        except OSError as error:
            raise DataError(f"{name}: cannot be opened: {error.strerror}.") from error
        try:
            with raw:
                yield _unpacked(raw, source, COMPRESSED.get(source.suffix.lower()))
        finally:
            raw.close()
    else:
        buffered = source if hasattr(source, "peek") else io.BufferedReader(cast(io.RawIOBase, source))
        try:
            yield _unpacked(cast(io.BufferedReader, buffered), source, None)
        finally:
            if buffered is not source:
                cast(io.BufferedReader, buffered).detach()


@contextmanager
def open_text(source: Path | BinaryIO, encoding: str = "utf-8", newline: str | None = None) -> Iterator[TextIO]:
    r"""Open a file, or an open stream such as standard input, for text, unpacked as by `open_binary`.

    A byte order mark at the start of UTF-8 is left out. `newline` is as for `open`; by default `\n`, `\r\n`
    and `\r` end a line.

    Raises:
        DataError: As `open_binary`; an encoding that does not exist; bytes that are not in this encoding,
            with their place in the file (from 0) and the line (from 1), and how it is converted.
    """
    try:
        name = "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding
    except LookupError:
        raise DataError(
            f"data.encoding: {encoding!r} is no encoding Python knows; expected such as utf-8, latin-1."
        ) from None
    with open_binary(source) as binary:
        try:
            text = io.TextIOWrapper(binary, encoding=name, newline=newline)
        except LookupError:  # such as rot13, which does not turn bytes into text
            raise DataError(
                f"data.encoding: {encoding!r} is not an encoding of text; expected such as utf-8."
            ) from None
        try:
            yield text
        except UnicodeDecodeError as error:
            raise cast(_Checked, binary).decoding_fault(error, encoding) from error
        except UnicodeError as error:  # without a place: UTF-16 and UTF-32 begin with a mark, which is missing
            raise DataError(f"{name_of(source)}: is not {encoding} ({error}).") from error
        finally:
            text.detach()


def first_lines(path: Path, count: int = 5, encoding: str = "utf-8", longest: int = LONGEST) -> list[str]:
    """Up to `count` first lines, without their ends, to know a format by; none where it is not text.

    Of a line longer than `longest` characters so many are returned. Raises nothing.
    """
    lines: list[str] = []
    try:
        with open_text(path, encoding) as text:
            while len(lines) < count and (line := text.readline(longest)):
                lines.append(line.rstrip("\r\n"))
                while len(line) == longest and not line.endswith("\n"):
                    line = text.readline(longest)
    except DataError:
        return []
    return [] if any("\0" in line for line in lines) else lines


def first_bytes(path: Path, count: int) -> bytes:
    """Up to `count` first bytes, unpacked, to know a format by; none where unreadable. Raises nothing."""
    try:
        with open_binary(path) as binary:
            return binary.read(count)
    except DataError:
        return b""


def check_exists(path: Path) -> os.stat_result:
    """Look whether there is a file or folder.

    Raises:
        DataError: There is none, and what name is nearest; or it cannot be looked at.
    """
    try:
        return path.stat()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:  # a name too long, a part of the path that is a file, no right to look
        raise DataError(f"{path}: cannot be opened: {error.strerror}.") from error
    except ValueError as error:
        raise DataError(f"{str(path)!r}: is no path ({error}).") from error


def digest(path: Path) -> bytes:
    """The SHA-256 of a file as it stands, packed or not.

    Raises:
        DataError: It cannot be read.
    """
    _check_readable(path)
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from error


def entries(folder: Path) -> list[Path]:
    """What is visible in a folder, in order.

    Raises:
        DataError: It may not be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be read: {error.strerror}.") from error


def _check_readable(path: Path, pipes: bool = False) -> None:
    mode = check_exists(path).st_mode
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder; a file is expected here.")
    if not stat.S_ISREG(mode) and not (pipes and stat.S_ISFIFO(mode)):
        raise DataError(f"{path}: is not a regular file; give '-' to read standard input.")


def _unpacked(raw: io.BufferedReader, source: Path | BinaryIO, promised: str | None) -> BinaryIO:
    """The stream as its content wants it; `promised` is the compression that the file's name tells of."""
    name = name_of(source)
    head = raw.peek(16)[:16]
    if not head:
        raise DataError(f"{name}: is empty.")
    found = _compression(head)
    if promised and found != promised:
        raise DataError(f"{name}: its name says {promised}, but it starts with the bytes {head[:4].hex(' ')}.")
    if not found:
        return cast(BinaryIO, _Checked(raw, source, None))
    checked = _Checked(_OPENERS[found](raw), source, found)
    if not checked.peek(1):
        raise DataError(f"{name}: is empty once unpacked.")
    return cast(BinaryIO, checked)


def _compression(head: bytes) -> str | None:
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bzip2"  # a text may start with BZh, but not with the digits of π or of its root as well
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    return None


class _Checked(io.BufferedIOBase):
    """A stream whose faults on reading are told as `DataError`, and which knows how far it has been read."""

    def __init__(
        self,
        inner: io.BufferedReader | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile,
        source: Path | BinaryIO,
        packed: str | None,
    ):
        self._inner = inner
        self._name = name_of(source)
        self._path = str(source) if isinstance(source, Path) else None
        self._packed = packed
        self._bytes = 0
        self._lines = 0

    def readable(self) -> bool:
        return True

    def peek(self, size: int = 1, /) -> bytes:
        return self._guarded(self._inner.peek, size, count=False)

    def read(self, size: int | None = -1, /) -> bytes:
        return self._guarded(self._inner.read, -1 if size is None else size)

    def read1(self, size: int = -1, /) -> bytes:
        return self._guarded(self._inner.read1, size)

    def readline(self, size: int | None = -1, /) -> bytes:
        return self._guarded(self._inner.readline, -1 if size is None else size)

    def readinto(self, buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto1(self, buffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def decoding_fault(self, error: UnicodeDecodeError, encoding: str) -> WrongEncodingError:
        """Where the bytes that are not text stand. `error.object` ends where the reading has come to."""
        rest = error.object[error.start :]
        place = self._bytes - len(rest)
        line = self._lines - rest.count(b"\n") + 1
        found = error.object[error.start : max(error.end, error.start + 1)][:4].hex(" ")
        likely = "utf-16" if place == 0 and rest[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "latin-1"
        said = f"{self._name}, line {line}: byte {place} ({found}) is not {encoding}"
        return WrongEncodingError(said, self._path, encoding, likely, self._packed)

    def _guarded(self, read, size: int, count: bool = True) -> bytes:
        try:
            data = read(size)
        except EOFError as error:
            raise DataError(f"{self._name}: the {self._packed} data are cut short.") from error
        except (OSError, zlib.error, lzma.LZMAError) as error:
            what = f"the {self._packed} data are damaged" if self._packed else "cannot be read"
            raise DataError(f"{self._name}: {what} ({error}).") from error
        if count:
            self._bytes += len(data)
            self._lines += data.count(b"\n")
        return data
