"""The run folder: what stands in it, and how it is made, locked and read.

recipe.toml         the recipe, complete
schema.json         what the data mean: classes, features or vocabulary, reading options
metrics.jsonl       a line an evaluation
checkpoints/        the last state of an unfinished run, and one that has shown to be good
model.safetensors   the weights
summary.json        scores, sizes, versions, and the weights' SHA-256
test_predictions.csv, report.html
test_shares.csv     forecast: what each origin adds to every metric
"""

import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from recurra.data.opening import missing
from recurra.errors import RecipeError, RunError
from recurra.files import sync_folder, unreadable, write_text
from recurra.run import recipe as recipes
from recurra.run.recipe import Recipe
from recurra.tasks import TASKS, Classify
from recurra.version import __version__

FORMAT = 1
"""Version of the run folder's layout; a folder of another one is refused."""

SUMMARY = ("task", "recipe", "test", "validation", "baselines", "seed", "sha256")
"""What every run's summary has, of what is read here."""


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

    @property
    def good(self) -> Path:
        """The last one before it that has shown to be good; see `recurra.run.diverged`."""
        return self.path / "checkpoints" / "good.safetensors"

    def check(self) -> None:
        """Raise RunError where the folder is no run, or one of a later version."""
        if not self.path.exists():
            raise RunError(str(missing(self.path)))
        if not (self / "recipe.toml").is_file():
            raise RunError(f"{self.path}: is no run folder (it has no recipe.toml)")
        if (self / "schema.json").is_file():
            version = self._json("schema.json").get("format_version")
            if version != FORMAT:
                raise RunError(
                    f"{self.path}: is a run folder of version {version!r}, but Recurra {__version__} reads version "
                    f"{FORMAT}; another release made it"
                )

    def recipe(self) -> Recipe:
        """The recipe of the run."""
        self.check()
        path = self / "recipe.toml"
        try:
            return recipes.parse(recipes.tables(path), str(path))
        except RecipeError as error:
            raise RunError(str(error)) from error

    def schema(self) -> Any:
        """What the run's data mean: the schema of the task's kind of data."""
        self.check()
        values = self._json("schema.json")
        for key in ("format_version", "fingerprint"):
            values.pop(key, None)
        try:
            task = TASKS.get(values.get("task", ""))
            reader = task.reader if task else Classify.reader
            schema = reader.schema.model_validate(values)
            reader.settings_of(schema)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise RunError(f"{self / 'schema.json'}: is damaged (at {place!r})") from error
        return schema

    def check_data(self, fingerprint: str) -> None:
        """Raise RunError where the data are not those that the run began with."""
        if self._json("schema.json").get("fingerprint") != fingerprint:
            raise RunError(f"{self.path}: the data are not those that this run began with, so it cannot go on")

    def summary(self) -> dict[str, Any]:
        """Scores, sizes and versions; RunError where the run is not finished."""
        self.check()
        if not (self / "summary.json").is_file():
            raise RunError(f"{self.path}: is not finished; go on with it: {self.go_on}")
        values = self._json("summary.json")
        lacking = [key for key in SUMMARY if key not in values and "seeds" not in values]
        if lacking:
            raise RunError(f"{self / 'summary.json'}: is damaged: {lacking[0]!r} is missing")
        return values

    @property
    def go_on(self) -> str:
        """The command that goes on with the run."""
        has_schema = (self / "schema.json").is_file()
        stream = "--stream " if has_schema and "stream" in self.schema().settings else ""
        return f"recurra train {stream}--resume {shlex.quote(str(self.path))}"

    def history(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; none before the first evaluation."""
        path = self / "metrics.jsonl"
        if not path.is_file():
            return []
        found = []
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            try:
                found.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise RunError(f"{path}, line {number}: is damaged: not JSON") from error
        return found

    def seeds(self) -> list[int]:
        """The seeds of a folder that holds several runs."""
        values = self._json("seeds.json").get("seeds")
        if not isinstance(values, list) or not values or not all(isinstance(value, int) for value in values):
            raise RunError(f"{self / 'seeds.json'}: is damaged: 'seeds' is no list of whole numbers")
        return values

    def folds(self) -> int | None:
        """How many folds each seed of a folder that holds several runs goes through; None where it does not."""
        value = self._json("seeds.json").get("folds")
        if value is not None and not isinstance(value, int):
            raise RunError(f"{self / 'seeds.json'}: is damaged: 'folds' is no whole number")
        return value

    def _json(self, name: str) -> dict[str, Any]:
        path = self / name
        try:
            values = json.loads(path.read_bytes())
        except OSError as error:
            raise unreadable(path, error) from error
        except json.JSONDecodeError as error:
            raise RunError(f"{path}, line {error.lineno}: is damaged: not JSON") from error
        except UnicodeDecodeError as error:
            raise RunError(f"{path}: is damaged: byte {error.start} is not UTF-8") from error
        if not isinstance(values, dict):
            raise RunError(f"{path}: is damaged: no JSON object")
        return values

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
    if file := next((parent for parent in path.parents if parent.exists() and not parent.is_dir()), None):
        raise RunError(f"{path}: the run folder cannot be made: {file} is a file")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        (temporary / "checkpoints").mkdir(parents=True)
        for name, text in files.items():
            write_text(temporary / name, text)
    except (OSError, RunError) as error:
        shutil.rmtree(temporary, ignore_errors=True)
        fault = error if isinstance(error, OSError) else error.__cause__
        raise RunError(f"{path}: the run folder cannot be made: {getattr(fault, 'strerror', fault)}") from error
    try:
        _replace(path, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return RunFolder(path)


def _replace(path: Path, new: Path) -> None:
    """Let a new folder take the name of an old one, in which nobody may be training."""
    try:
        if not path.exists():
            new.rename(path)
        else:
            with RunFolder(path).locked():
                old = path.with_name(f".{path.name}.{os.getpid()}.old")
                path.rename(old)
                new.rename(path)
            shutil.rmtree(old, ignore_errors=True)
        sync_folder(path.parent)
    except OSError as error:
        raise RunError(f"{path}: the run folder cannot be made: {error.strerror}") from error


def refuse_existing(path: Path, force: bool) -> None:
    """Raise RunError where a new run would overwrite something it must not."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not force:
        unfinished = (path / "recipe.toml").is_file() and not (path / "summary.json").is_file()
        go_on = f", --resume {path} to go on with it" if unfinished else ""
        raise RunError(f"{path}: exists already; --out names another folder{go_on}, --force overwrites it")
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path}: exists and is not a run folder, so --force does not overwrite it")


def remove_partial(folder: Path) -> None:
    """Delete what a killed process left half written."""
    for leftover in [*folder.glob(".*.partial"), *(folder / "checkpoints").glob(".*.partial")]:
        leftover.unlink(missing_ok=True)
