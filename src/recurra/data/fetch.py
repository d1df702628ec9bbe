"""Public data sets, downloaded once into a cache folder and checked by SHA-256.

`sets.toml` beside this file says which sets there are and where each comes from. A file takes its name only once it
has arrived whole and is the very file that is expected, so what lies in the cache is always good to use.
"""

import hashlib
import http.client
import os
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from urllib.parse import quote, urlsplit

from recurra.data.made import MADE
from recurra.errors import DataError, unknown
from recurra.files import replacing, sha256
from recurra.version import __version__

ORIGIN = "https://raw.githubusercontent.com"
"""Where public repositories are read from; the environment's RECURRA_MIRROR takes its place."""

TIMEOUT = 30.0
"""Seconds without a byte after which a connection is given up."""

WAITS: tuple[float, ...] = (1.0, 2.0, 4.0)
"""Seconds before each further try at a file, where the fault may pass."""

Progress = Callable[[str, int, int], None]
"""Called as bytes arrive with the file's name, and the bytes of the whole set so far and in all."""

_CHUNK = 1 << 16
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses that a later try may not meet


@dataclass(frozen=True)
class RemoteFile:
    """One file of a set: its name there and here, its size in bytes and its SHA-256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class DataSet:
    """A public data set.

    Attributes:
        name: As given to `fetch`, and the folder's name in the cache.
        summary: One line: what it is.
        repository: Public repository, "owner/name".
        commit: Full commit id.
        folder: Where the files lie in the repository.
        terms: What the repository, or the owner of the data, says about their use.
        files: The files; empty for a set that is not offered.
        withheld: Why it is not offered.
        instead: What to do instead.
    """

    name: str
    summary: str
    repository: str = ""
    commit: str = ""
    folder: str = ""
    terms: str = ""
    files: tuple[RemoteFile, ...] = ()
    withheld: str = ""
    instead: str = ""

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


@cache
def sets() -> Mapping[str, DataSet]:
    """Every set of `sets.toml` by name, those that are not offered included."""
    table = tomllib.loads(resources.files("recurra.data").joinpath("sets.toml").read_text("utf-8"))
    return {
        name: DataSet(name, **{**entry, "files": tuple(RemoteFile(**file) for file in entry.get("files", ()))})
        for name, entry in table.items()
    }


def cache_folder() -> Path:
    """Where fetched sets are kept: $RECURRA_CACHE, else $XDG_CACHE_HOME/recurra, else ~/.cache/recurra."""
    if named := os.environ.get("RECURRA_CACHE"):
        return Path(named)
    if caches := os.environ.get("XDG_CACHE_HOME"):
        return Path(caches) / "recurra"
    try:
        return Path.home() / ".cache" / "recurra"
    except RuntimeError as error:  # a user without a home, as in some containers
        raise DataError("There is no home folder to keep data sets in; name a folder in RECURRA_CACHE.") from error


def fetched(name: str) -> Path | None:
    """The folder of a set that lies whole in the cache, else None. Compares sizes; `fetch` compares the content."""
    folder = cache_folder() / name
    files = sets()[name].files if name in sets() else ()
    whole = files and all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in files
    )
    return folder if whole else None


def fetch(
    name: str,
    folder: str | os.PathLike[str] | None = None,
    base_url: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Download the public data set `name`, and return the folder it lies in.

    Files that are there already are checked and not fetched again. A fault that may pass (a connection that breaks
    off, a server that is busy) is tried again after growing waits.

    Args:
        name: One of `sets()`.
        folder: Where to put it, as a folder called `name`; by default `cache_folder()`.
        base_url: What takes the place of `ORIGIN`; by default the environment's RECURRA_MIRROR, where it is set.
        progress: Told of every piece that arrives.

    Raises:
        DataError: There is no such set, or it is not offered (the text says what to do instead); the server cannot be
            reached or does not have the file; what arrives is not the expected file; a file of that name but
            another content is there already.
        RunError: The folder cannot be written to, or the disk is full.
    """
    chosen = _find(name)
    base = _base(base_url)
    target = (cache_folder() if folder is None else Path(folder)) / name
    done = 0
    for file in chosen.files:
        path = target / file.name
        report = _counted(progress, file, done, chosen.size)
        if _present(path, file):
            report(file.size)
        else:
            place = "/".join(filter(None, (chosen.repository, chosen.commit, chosen.folder, file.name)))
            with replacing(path) as temporary:
                _download(f"{base}/{quote(place)}", temporary, file, report)
        done += file.size
    return target


class _PassingError(Exception):
    """A fault that a later try may not meet."""


def _find(name: str) -> DataSet:
    if name in MADE:
        raise DataError(f"{name}: is part of Recurra; there is nothing to fetch.")
    if name not in sets():
        raise DataError(unknown("data set", name, (each.name for each in sets().values() if each.files)))
    chosen = sets()[name]
    if chosen.withheld:
        raise DataError(f"{name}: is not offered for download: {chosen.withheld}.\nInstead, {chosen.instead}.")
    return chosen


def _base(given: str | None) -> str:
    base = given or os.environ.get("RECURRA_MIRROR") or ORIGIN
    try:
        parts = urlsplit(base)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port)
    except ValueError:  # brackets that do not close, a port that is no number
        good = False
    if not good:
        source = "base_url" if given else "RECURRA_MIRROR"
        raise DataError(f"{source}: {base!r} is not an http or https address.")
    return base.rstrip("/")


def _counted(progress: Progress | None, file: RemoteFile, done: int, total: int) -> Callable[[int], None]:
    if progress is None:
        return lambda received: None
    return lambda received: progress(file.name, done + received, total)


def _present(path: Path, file: RemoteFile) -> bool:
    """Whether the expected file is there; its folder is, afterwards. Another file may be somebody's work: refused."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            return False
        same = path.is_file() and path.stat().st_size == file.size and sha256(path) == file.sha256
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}.") from error
    if not same:
        raise DataError(f"{path}: is there already, but is not the file of this data set; remove it and fetch again.")
    return True


def _download(url: str, path: Path, file: RemoteFile, report: Callable[[int], None]) -> None:
    for wait in WAITS:
        try:
            return _receive(url, path, file, report)
        except _PassingError:
            time.sleep(wait)
    try:
        return _receive(url, path, file, report)
    except _PassingError as error:
        raise DataError(
            f"{url}: {error} ({len(WAITS) + 1} tries).\nIs there a network? RECURRA_MIRROR can name another server."
        ) from error


def _receive(url: str, path: Path, file: RemoteFile, report: Callable[[int], None]) -> None:
    """Write what `url` gives to `path`, and check it."""
    digest = hashlib.sha256()
    received = 0
    with _connected(url) as answer, path.open("wb") as out:
        while piece := _piece(answer):
            received += len(piece)
            if received > file.size:
                break
            digest.update(piece)
            out.write(piece)
            report(received)
        if answer.length and received < file.size:  # of the bytes announced, some did not come
            raise _PassingError(f"the answer broke off after {received:,} of {received + answer.length:,} bytes")
    if received != file.size:
        found = "more" if received > file.size else f"{received:,}"
        raise DataError(f"{url}: is not the expected file: {found} bytes where {file.size:,} are expected.")
    if digest.hexdigest() != file.sha256:
        raise DataError(
            f"{url}: is not the expected file: its SHA-256 is {digest.hexdigest()},\nexpected {file.sha256}."
        )


@contextmanager
def _connected(url: str) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(url, headers={"User-Agent": f"recurra/{__version__}"})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _PASSING:
            raise _PassingError(f"the server answers {error.code} {error.reason}") from error
        raise DataError(f"{url}: the server answers {error.code} {error.reason}.") from error
    except urllib.error.URLError as error:
        raise _PassingError(f"cannot be reached: {error.reason}") from error
    except (OSError, UnicodeError, http.client.HTTPException) as error:
        raise _PassingError(f"cannot be reached: {error}") from error
    with answer:
        yield answer


def _piece(answer: http.client.HTTPResponse) -> bytes:
    try:
        return answer.read(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _PassingError(f"the answer broke off: {error}") from error
