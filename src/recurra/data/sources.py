"""Where the parts of a data set come from: paths, names of known sets, made sources, Python data."""

import io
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from recurra.data import fetch
from recurra.data.arrays import is_frame
from recurra.data.made import MADE
from recurra.data.opening import check_exists
from recurra.data.parts import find_parts
from recurra.data.settings import PlaceSettings
from recurra.data.split import Shares
from recurra.errors import DataError, nearest

PARTS = ("train", "validation", "test")

ROOT = "RECURRA_DATA"
"""The environment variable that names a folder with a folder for each known data set."""


@dataclass
class Source:
    """One part before it is read: its name in messages, and a path, an open file, records or Python data."""

    name: str
    data: Any
    made: str | None = None  # the name of a source that needs no file
    found: bool = False  # whether its name alone makes it a part


def is_known(name: str) -> bool:
    """Whether `name` is that of a known data set, and no file or folder here is called so."""
    return name in {*MADE, *fetch.sets()} and not Path(name).exists()


def find_sources(
    source: Any,
    validation: Any,
    test: Any,
    task: str,
    settings: PlaceSettings,
    rank: Callable[[Path], int | None],
) -> tuple[dict[str, Source], list[str]]:
    """Where each part comes from, and warnings; a part that is to be split off is left out.

    Args:
        source: A path, the name of a known set, Python data, or None for what the settings name.
        validation: A path or Python data of that part; None for what the settings or the source have.
        test: Likewise.
        task: The task's name.
        settings: The settings that name places.
        rank: How specific the format is in which a path is laid out, 0 the most; None where no format fits.

    Raises:
        DataError: There is no data, or no such place.
    """
    sources: dict[str, Source] = {}
    for part, given, setting in (("validation", validation, settings.validation), ("test", test, settings.test)):
        if (found := as_source(given if given is not None else setting, f"the {part} data given")) is not None:
            sources[part] = found
    name = settings.name if source is None and settings.path is None else None
    if isinstance(source, str) and is_known(source):
        name = source
    if name is None:
        train = as_source(source if source is not None else settings.path, "the training data given")
    elif (path := folder_of(name)) is not None:
        train = Source(str(path), path)
    else:
        return made_sources(name, task, settings.options) | sources, []
    if train is None:
        raise DataError("no data: name a file or folder (--data PATH), or a set (--set data.name=digits).")
    if hasattr(train.data, "read"):
        raise DataError("standard input: training reads its data more than once; give a file.")
    if not isinstance(train.data, Path):
        return {"train": train} | sources, []
    if isinstance(source, str):
        check_name(source, train.data)
    places = find_parts(train.data, rank, frozenset(sources))
    for part in PARTS:
        if part not in sources and (path := getattr(places, part)) is not None:
            sources[part] = Source(str(path), path, found=True)
    return sources, places.warnings


def check_name(given: str, path: Path) -> None:
    """Where there is no such path, look whether the name of a known set was meant."""
    guess = nearest(given, {*MADE, *fetch.sets()})
    if guess is None:
        return
    try:
        check_exists(path)
    except DataError as error:
        hint = "" if "Did you mean" in str(error) else f" Did you mean the data set {guess}?"
        raise DataError(f"{error}{hint}") from None


def as_source(given: Any, name: str) -> Source | None:
    """A source for what was given; None for nothing."""
    if given is None or isinstance(given, Source):
        return given
    if isinstance(given, str | os.PathLike):
        path = Path(os.fspath(cast(str, given))).expanduser()
        return Source(str(path), path)
    if isinstance(given, io.TextIOBase):
        given = getattr(given, "buffer", None)
        if given is None:
            raise DataError(f"{name}: is an open text; open the file for bytes (mode 'rb').")
    if hasattr(given, "read"):
        return Source("standard input", given)
    return Source("the dataframe" if is_frame(given) else name, given)


def folder_of(name: str) -> Path | None:
    """The folder of a known set; None where it is among the sources that need no file."""
    looked: list[str] = []
    if root := os.environ.get(ROOT):
        if (folder := Path(root).expanduser() / name).exists():
            return folder
        looked.append(f"${ROOT} ({root})")
    else:
        looked.append(f"${ROOT} (not set)")
    if (folder := fetch.fetched(name)) is not None:
        return folder
    looked.append(f"the cache ({fetch.cache_folder()})")
    if name in MADE:
        return None
    offered = [known for known, entry in fetch.sets().items() if entry.files]
    guess = nearest(name, [*MADE, *fetch.sets()])
    if name in offered:
        help = f"Download it with: recurra data fetch {name}; or give your own: --data PATH."
    else:
        hint = f"Did you mean {guess!r}? " if guess and guess != name else ""
        help = f"{hint}Give your own: --data PATH; offered are {', '.join(sorted({*MADE, *offered}))}."
    raise DataError(f"no data set {name!r} in {' or '.join(looked)}. {help}")


def made_sources(name: str, task: str, options: Mapping[str, Any]) -> dict[str, Source]:
    """The parts of a source that needs no file, in the order of PARTS."""
    kind = MADE[name]
    if task != kind.task:
        raise DataError(f"data.name: {name!r} is made for the task {kind.task}, not for {task}.")
    parts = kind.model_validate(options).parts()
    return {part: Source(f"{name} ({part} part)", parts[part], made=name) for part in PARTS if part in parts}


def told(parts: Collection[str], sources: Mapping[str, Source], name: str, shares: Shares) -> dict[str, str]:
    """What `Parts.sources` says of each part that there is, in the order of PARTS.

    Args:
        parts: The parts that there are.
        sources: Where each part comes from that was not split off.
        name: What the others were split off.
        shares: How.
    """
    drawn = {part: f"{shares[part]:.3g}" for part in PARTS}
    if shares.fold is not None:
        drawn["test"] = "fold {} of {}".format(*shares.fold)
    return {
        part: f"{drawn[part]} of {name}, split seed {shares.seed}" if shares[part] else sources[part].name
        for part in PARTS
        if part in parts
    }
