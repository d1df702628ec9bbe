"""The parts of a data set found by the names of files: train, validation, test."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from recurra.data.idx import is_labels
from recurra.data.opening import check_exists, entries, plain_name
from recurra.errors import DataError

ROLES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "t10k"),
}
"""Part -> the words in a name that tell of it, in upper or lower case, set apart by anything but letters and digits."""


@dataclass
class Places:
    """Where each part stands; None for a part that has no file."""

    train: Path
    validation: Path | None = None
    test: Path | None = None
    warnings: list[str] = field(default_factory=list)


def role(name: str) -> str | None:
    """The part that a file's name tells of; None where it tells of none, or of several.

    >>> role("ECG200_TRAIN.tsv"), role("t10k-images-idx3-ubyte.gz"), role("contest.csv")
    ('train', 'test', None)
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower()))
    found = [part for part, names in ROLES.items() if words.intersection(names)]
    return found[0] if len(found) == 1 else None


def find_parts(path: Path, rank: Callable[[Path], int | None], given: frozenset[str] = frozenset()) -> Places:
    """Find the parts of the data set at `path`.

    A file, or a folder in which a format sees one data set, is the training part; where its name says so, the
    files beside it that are called alike are the other parts. In any other folder the parts are found by name.

    Args:
        path: A file or a folder.
        rank: How specific the format is in which a path is laid out, 0 the most; None where no format fits.
        given: Parts that are named elsewhere and not looked for.

    Raises:
        DataError: No such path, no training part, or several files that may be the same part.
    """
    check_exists(path)
    wanted = [part for part in ("validation", "test") if part not in given]
    if not path.is_dir():
        return _beside(path, rank, wanted)
    inside = _entries(path)
    by_role = {part: [entry for entry in inside if role(entry.name) == part] for part in ROLES}
    if by_role["train"]:
        train = _one(by_role["train"], "train", path, rank)
        places = Places(train)
        _note_left_out(places, by_role["train"], train)
    elif rank(path) is not None or role(path.name) == "train":
        return _beside(path, rank, wanted)
    else:
        train = _only(inside, rank)
        if train is None:
            raise DataError(
                f"{path}: holds no training part; found {listed(inside)}. Expected a name with 'train' in it, such as "
                "train.csv, NAME_TRAIN.ts or a folder train, a folder of texts for each class, or one data file."
            )
        places = Places(train, warnings=[f"{path}: no name tells of a training part; {train.name} is taken."])
    places.train = _settled(train, rank)
    for part in wanted:
        if candidates := by_role[part]:
            alike = [entry for entry in candidates if _kind(entry) == _kind(train)]
            alike = alike or [entry for entry in candidates if _ending(entry) == _ending(train)]
            setattr(places, part, _settled(_one(alike or candidates, part, path, rank), rank))
    return places


def _beside(path: Path, rank: Callable[[Path], int | None], wanted: list[str]) -> Places:
    places = Places(_settled(path, rank))
    if role(path.name) != "train":
        return places
    for entry in _entries(path.absolute().parent):
        part = role(entry.name)
        if part in wanted and _kind(entry) == _kind(path) and getattr(places, part) is None:
            setattr(places, part, _settled(path.with_name(entry.name), rank))
            places.warnings.append(
                f"{path.with_name(entry.name)}: lies beside {path.name} and is taken as {part} part."
            )
    return places


def _entries(folder: Path) -> list[Path]:
    """What may be a part: everything visible, but the labels that belong to IDX images."""
    return [entry for entry in entries(folder) if not is_labels(entry)]


def _one(candidates: list[Path], part: str, folder: Path, rank: Callable[[Path], int | None]) -> Path:
    """The entry that a format knows best; the same data set in several formats is met in the UCR archive."""
    if len(candidates) == 1:
        return candidates[0]
    ranked = sorted((place, entry) for entry in candidates if (place := rank(entry)) is not None)
    best = [entry for place, entry in ranked if place == ranked[0][0]]
    if len(best) != 1 or len({_stem(entry) for _, entry in ranked}) != 1:
        option = "--data" if part == "train" else f"--{part}"
        raise DataError(
            f"{folder}: holds several files for the {part} part ({listed(candidates)}); name one: {option} PATH."
        )
    return best[0]


def _note_left_out(places: Places, candidates: list[Path], chosen: Path) -> None:
    if others := [entry.name for entry in candidates if entry != chosen]:
        places.warnings.append(f"{chosen}: is read; {', '.join(others[:5])} beside it left out.")


def _only(inside: list[Path], rank: Callable[[Path], int | None]) -> Path | None:
    """The one data file of a folder; None where there is none, or more than one."""
    data = [entry for entry in inside if role(entry.name) is None and entry.is_file() and rank(entry) is not None]
    return data[0] if len(data) == 1 else None


def _settled(path: Path, rank: Callable[[Path], int | None]) -> Path:
    """A file, or a folder that is one part as it stands, or the one data file in it."""
    if not path.is_dir() or rank(path) is not None:
        return path
    inside = _entries(path)
    if (found := _only(inside, rank)) is None:
        raise DataError(
            f"{path}: no format fits this folder, which holds {listed(inside)}; expected one data file, or a folder of "
            "texts for each class."
        )
    return found


def listed(paths: list[Path]) -> str:
    """Some names, for messages."""
    return ", ".join(path.name for path in paths[:5]) + (", …" if len(paths) > 5 else "") or "nothing"


def _kind(path: Path) -> str:
    """A name without the word for its part, by which files of one data set are known to belong together."""
    words = "|".join(word for names in ROLES.values() for word in names)
    return re.sub(rf"(?<![a-z0-9])({words})(?![a-z0-9])", "", plain_name(path).lower())


def _ending(path: Path) -> str:
    return Path(plain_name(path)).suffix.lower()


def _stem(path: Path) -> str:
    return Path(plain_name(path)).stem.lower()
