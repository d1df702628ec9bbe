"""Recipes: everything that a run depends on, in one TOML file."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError

from recurra.data.settings import DataSettings
from recurra.errors import RecipeError, nearest, unknown
from recurra.learn import LearnSettings, TrainSettings
from recurra.tasks import TASKS
from recurra.tasks.model import ModelSettings

SECTIONS = ("data", "model", "train", "learn", "report")


class ReportSettings(BaseModel):
    """The `report.*` settings of a recipe: what is measured and drawn beyond the usual."""

    model_config = ConfigDict(extra="forbid")

    first: int | None = Field(
        default=None, ge=1, description="also score the first so many test sequences by themselves"
    )
    snapshots: list[int] = Field(
        default_factory=list, description="updates at which the predictions of a batch are drawn"
    )


class Recipe(BaseModel):
    """A whole recipe."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    task: str
    from_run: str | None = Field(default=None, description="run whose weights and vocabulary this one begins with")
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="seed of the split, the first weights, the order and the dropout"
    )
    data: DataSettings = Field(default_factory=lambda: DataSettings())
    model: ModelSettings = Field(default_factory=lambda: ModelSettings())
    train: SerializeAsAny[TrainSettings]
    learn: LearnSettings = Field(default_factory=lambda: LearnSettings())
    report: ReportSettings = Field(default_factory=lambda: ReportSettings())

    def to_toml(self) -> str:
        """The recipe as TOML, complete, with what was not given filled in. (TOML has no null: None is left out.)"""
        return tomli_w.dumps(_without_none(self.model_dump()))


def parse(values: Mapping[str, Any], source: str, name: str | None = None) -> Recipe:
    """A recipe from the tables of a TOML file.

    Args:
        values: The tables.
        source: Where they come from, for messages.
        name: The recipe's name, where the values have none.

    Raises:
        RecipeError: A key that does not exist (the nearest that does is offered), or a value that cannot be.
    """
    values = {"name": name or Path(source).stem, **values}
    task = values.get("task")
    if not isinstance(task, str) or task not in TASKS:
        raise RecipeError(
            f"{source}: task: " + (unknown("task", str(task), TASKS) if task else f"missing; known: {', '.join(TASKS)}")
        )
    train = values.get("train", {})
    try:
        if isinstance(train, Mapping):
            values["train"] = TASKS[task].train_settings(**train)
    except ValidationError as error:
        raise RecipeError(_message(error, source, ("train",), task)) from error
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise RecipeError(_message(error, source, (), task)) from error


def load(name: str | Path, changes: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of that name (built in, or a task's default), or in that TOML file, with changes laid over it.

    Args:
        name: A built-in recipe, a task, or the path of a TOML file.
        changes: Dotted keys and their values: `{"train.lr": 0.01}`.

    Raises:
        RecipeError: There is no such recipe, or it says what cannot be.
    """
    text = str(name)
    if text in built_in():
        values, source = built_in()[text], f"recipe {text!r}"
    elif text in TASKS:
        values, source = {"task": text, "description": f"the default for {TASKS[text].summary}"}, f"task {text!r}"
    elif text.endswith(".toml") or Path(text).is_file():
        values, source = _read(Path(text)), text
        text = Path(text).stem
    else:
        raise RecipeError(unknown("recipe, task or TOML file", text, [*built_in(), *TASKS]))
    values = {k: dict(v) if isinstance(v, dict) else v for k, v in values.items()}
    for key, value in (changes or {}).items():
        _set(values, key, value)
    return parse(values, source, text)


@cache
def built_in() -> dict[str, dict[str, Any]]:
    """The tables of every built-in recipe, by name."""
    folder = resources.files("recurra.recipes")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".toml")), key=lambda f: f.name)
    return {f.name.removesuffix(".toml"): tomllib.loads(f.read_text(encoding="utf-8")) for f in files}


def assignment(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of the command line: the value as TOML has it, or else as text.

    >>> assignment("train.lr=1e-3"), assignment("model.cell=gru")
    (('train.lr', 0.001), ('model.cell', 'gru'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: KEY=VALUE is expected, such as train.lr=0.001")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def keys(task: str) -> dict[str, Any]:
    """Every dotted key of a task's recipes, with its field (type, default, description)."""
    found: dict[str, Any] = {"seed": Recipe.model_fields["seed"]}
    sections: dict[str, type[BaseModel]] = {
        "data": DataSettings,
        "model": ModelSettings,
        "train": TASKS[task].train_settings,
        "learn": LearnSettings,
        "report": ReportSettings,
    }
    for section, kind in sections.items():
        found |= {f"{section}.{name}": field for name, field in kind.model_fields.items()}
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: there is no such file") from error
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8: byte {error.start} cannot be read") from error
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}") from error


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    *tables, last = key.split(".")
    place = values
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise RecipeError(f"{key}: {table!r} is a value, not a table of settings")
    place[last] = value


def _message(error: ValidationError, source: str, prefix: tuple[str, ...], task: str) -> str:
    first = error.errors()[0]
    path = [*prefix, *(str(part) for part in first["loc"])]
    # Of a choice of types pydantic names the branch too ("hidden_size.int"); the settings' own keys are enough.
    known = keys(task)
    while len(path) > 1 and ".".join(path[:2]) in known and len(path) > 2:
        path.pop()
    key = ".".join(path)
    if first["type"] == "extra_forbidden":
        valid = [*known, "name", "description", "task"]
        guess = nearest(key, valid) or nearest(path[-1], [k.rpartition(".")[2] for k in valid])
        if guess and guess not in valid:
            guess = next(k for k in valid if k.rpartition(".")[2] == guess)
        hint = (
            f"; did you mean {guess!r}?"
            if guess
            else f" (known: {', '.join(k for k in valid if k.startswith(path[0] + '.'))})"
        )
        return f"{source}: unknown key {key!r}{hint}"
    if first["type"] == "missing":
        return f"{source}: {key}: missing"
    found = first["input"]
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
    if first["type"] == "literal_error":
        allowed = first.get("ctx", {})["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        said = unknown("value", str(found), allowed)
        return f"{source}: {key}: {said}"
    shown = "" if isinstance(found, dict) and len(str(found)) > 60 else f", not {found!r}"
    return f"{source}: {key}: {said}{shown}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value
