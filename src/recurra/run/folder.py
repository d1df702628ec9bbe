"""The run folder: what stands in it, and how it is made, locked and read.

recipe.toml         the recipe, complete
schema.json         what the data mean: classes, features or vocabulary, reading options
metrics.jsonl       a line an evaluation
checkpoints/        the last state of an unfinished run
model.safetensors   the weights
summary.json        scores, sizes, versions, and the weights' SHA-256
test_predictions.csv, report.html
"""

import fcntl
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recurra.data import Schema
from recurra.errors import RunError
from recurra.files import sync_folder, write_text
from recurra.run import recipe as recipes
from recurra.run.recipe import Recipe

FORMAT = 1
"""Version of the run folder's layout; a folder of a later one is refused."""


class RunFolder:
    """The files of one run.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def checkpoint(self) -> Path:
        """The last checkpoint."""
        return self.path / "checkpoints" / "last.safetensors"

    def check(self) -> None:
        """Raise RunError where the folder is no run, or one of a later version."""
        if not self.path.exists():
            raise RunError(f"{self.path}: there is no such run folder")
        if not (self / "recipe.toml").is_file():
            raise RunError(f"{self.path}: not a run folder (it has no recipe.toml)")
        if (self / "schema.json").is_file():
            version = self._json("schema.json").get("format_version")
            if version != FORMAT:
                raise RunError(
                    f"{self.path}: run folder version {version!r} is not known here; this is version {FORMAT}"
                )

    def recipe(self) -> Recipe:
        """The recipe of the run."""
        self.check()
        path = self / "recipe.toml"
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: damaged: {error}") from error
        return recipes.parse(values, str(path))

    def schema(self) -> Schema:
        """What the run's data mean."""
        self.check()
        values = self._json("schema.json")
        values.pop("format_version", None)
        try:
            return Schema.model_validate(values)
        except ValueError as error:
            raise RunError(f"{self / 'schema.json'}: damaged: {str(error).splitlines()[0]}") from error

    def summary(self) -> dict[str, Any]:
        """Scores, sizes and versions; RunError where the run is not finished."""
        self.check()
        if not (self / "summary.json").is_file():
            raise RunError(f"{self.path}: not finished; `recurra train --resume {self.path}` goes on with it")
        return self._json("summary.json")

    def _json(self, name: str) -> dict[str, Any]:
        path = self / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise RunError(f"{path}: missing") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(f"{path}: damaged: {error}") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from training in this folder at the same time."""
        with (self / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunError(f"{self.path}: another process is training in this folder") from error
            yield


def create(path: Path, files: dict[str, str], force: bool) -> RunFolder:
    """Make a run folder with its first files, whole or not at all.

    Raises:
        RunError: Something stands there already and `force` is False; or, with `force`, what stands there is no run.
    """
    refuse_existing(path, force)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "checkpoints").mkdir(parents=True)
        for name, text in files.items():
            write_text(temporary / name, text)
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise RunError(f"{path}: the run folder cannot be made: {error.strerror}") from error
    return RunFolder(path)


def refuse_existing(path: Path, force: bool) -> None:
    """Raise RunError where a new run would overwrite something it must not."""
    if not path.exists():
        return
    if not force:
        unfinished = (path / "recipe.toml").is_file() and not (path / "summary.json").is_file()
        go_on = f", --resume {path} to go on with it" if unfinished else ""
        raise RunError(f"{path}: exists already; --out names another folder{go_on}, --force overwrites it")
    if not path.is_dir() or (any(path.iterdir()) and not (path / "recipe.toml").is_file()):
        raise RunError(f"{path}: exists and is not a run folder, so --force does not overwrite it")


def remove_partial(folder: Path) -> None:
    """Delete what a killed process left half written."""
    for leftover in [*folder.glob(".*.partial"), *(folder / "checkpoints").glob(".*.partial")]:
        leftover.unlink(missing_ok=True)
