"""Files written whole or not at all."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recurra.errors import RunError


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well, the temporary file takes its place.

    The data reach the disk before the name does (write, fsync, rename, fsync of the folder), so that at no
    instant, a kill or a power cut included, a half-written file stands under `path`. Where the block raises,
    `path` is as it was.

    Raises:
        RunError: The folder cannot be written to, or the disk is full.
    """
    target = Path(path)
    check_place(target, force=True)
    if is_special(target):
        raise RunError(f"{target}: cannot be written: is a device or a pipe")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        temporary.touch()
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(f"{target}: cannot be written: {error.strerror}{_as_it_was(target)}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unreadable(path: Path, error: OSError) -> RunError:
    """The error for a file of a run that cannot be opened."""
    return RunError(f"{path}: is missing" if isinstance(error, FileNotFoundError) else f"{path}: {error.strerror}")


def check_place(path: Path, force: bool) -> None:
    """Look whether a file can stand there, before there is anything to write.

    Raises:
        RunError: There is no such folder, a folder has this name, or, without `force`, a file.
    """
    if not path.parent.is_dir():
        raise RunError(f"{path}: cannot be written: there is no folder {path.parent}")
    if path.is_dir():
        raise RunError(f"{path}: cannot be written: is a folder")
    if path.is_file() and not force:
        raise RunError(f"{path}: exists already; --force overwrites it")


def _as_it_was(target: Path) -> str:
    return "; what stood there before is as it was" if target.exists() else ""


def is_special(path: Path) -> bool:
    """Whether a device or a pipe has this name, such as /dev/stdout: it is written to and never replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; to a device or a pipe, straight."""
    if is_special(Path(path)):
        try:
            Path(path).write_bytes(data)
        except OSError as error:
            raise RunError(f"{path}: cannot be written: {error.strerror}") from error
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
