"""Recipes: everything that a run depends on, in one TOML file."""

import re
import tomllib
from collections.abc import Mapping
from copy import deepcopy
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, create_model, model_validator
from pydantic.fields import FieldInfo

from recurra.data.fetch import sets
from recurra.data.made import MADE
from recurra.data.opening import check_exists
from recurra.data.settings import PlaceSettings
from recurra.errors import DataError, RecipeError, nearest, unknown
from recurra.learn import LearnSettings
from recurra.run import faults
from recurra.tasks import TASKS

SECTIONS = ("data", "model", "train", "learn", "report")

SEEDS = 2**32
"""How many seeds there are."""

HOW_LONG = ("train.epochs", "train.samples")
"""Two ways to say the same; one laid over a recipe takes the other's place."""


class ReportSettings(BaseModel):
    """The `report.*` settings of a recipe: what is measured and drawn beyond the usual."""

    model_config = ConfigDict(extra="forbid")

    first: int | None = Field(
        default=None, ge=1, description="also score the first so many test sequences by themselves"
    )
    snapshots: list[Annotated[int, Field(ge=1)]] = Field(
        default_factory=list, description="updates at which the predictions of a batch are drawn"
    )


class Recipe(BaseModel):
    """A whole recipe."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="what it is called; the run folder is runs/NAME where --out names none")
    description: str = Field(default="", description="one line that says what it does")
    task: str = Field(description=f"what is learnt: {', '.join(TASKS)}")
    from_run: str | None = Field(default=None, description="run whose weights and vocabulary this one begins with")
    seed: int = Field(
        default=0, ge=0, lt=SEEDS, description="seed of the split, the first weights, the order and the dropout"
    )
    data: SerializeAsAny[Any]  # of the classes that the task has for them
    model: SerializeAsAny[Any]
    train: SerializeAsAny[Any]
    learn: LearnSettings = Field(default_factory=lambda: LearnSettings())
    report: ReportSettings = Field(default_factory=lambda: ReportSettings())

    @model_validator(mode="after")
    def _one_direction_for_rules_that_go_forward(self) -> "Recipe":
        if self.learn.rule != "bptt" and self.model.bidirectional is None:
            self.model.bidirectional = False
        return self

    def to_toml(self) -> str:
        """The recipe as TOML, complete, with what was not given filled in. (TOML has no null: None is left out.)"""
        return tomli_w.dumps(_without_none(self.model_dump()))


def parse(
    values: Mapping[str, Any], source: str, name: str | None = None, given: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe from the tables of a TOML file.

    Args:
        values: The tables.
        source: Where they come from, for messages.
        name: The recipe's name, where the values have none.
        given: Dotted keys among the values that come from elsewhere, so that a fault in them is not the source's.

    Raises:
        RecipeError: A key that does not exist (the nearest that does is offered), or a value that cannot be.
    """
    values = {"name": name or Path(source).stem, **values}
    task = values.get("task")
    if not isinstance(task, str) or task not in TASKS:
        said = (
            unknown("task", str(task), TASKS) if task is not None else f"is missing; known: {', '.join(sorted(TASKS))}"
        )
        raise RecipeError(_placed("task", said, source, given))
    values = faults.spelt(values, _schemas(task))
    try:
        made = _model(task).model_validate(values)
    except ValidationError as error:
        others: dict[str, list[str]] = {}
        for other in TASKS:
            for key in keys(other).keys() - keys(task).keys():
                others.setdefault(key, []).append(other)
        key, said = faults.told(error, values, keys(task), _schemas(task), others)
        raise RecipeError(_placed(key, said, source, given)) from error
    options = _options(made.data, source, given)
    return made.model_copy(update={"data": made.data.model_copy(update={"options": options})})


def _options(data: PlaceSettings, source: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """The options of the made source that a recipe names, complete, with defaults filled in.

    Raises:
        RecipeError: One that it does not have, or a value that cannot be.
    """
    kind = MADE.get(data.name or "")
    if kind is None or not kind.model_fields:
        if data.options:
            having = ", ".join(name for name, one in MADE.items() if one.model_fields)
            known = {*MADE, *sets()}
            guess = nearest(data.name, known) if data.name and data.name not in known else None
            name = f"{data.name!r}; did you mean {guess!r}? Only" if guess else f"{data.name or 'not set'}; only"
            said = f"data.name is {name} these sources have options: {having}"
            raise RecipeError(_placed("data.options", said, source, given))
        return {}
    fields, schemas = kind.model_fields, kind.model_json_schema()["properties"]
    options = faults.spelt(data.options, schemas)
    try:
        return kind.model_validate(options).model_dump()
    except ValidationError as error:
        key, said = faults.told(error, options, fields, schemas, {})
        raise RecipeError(_placed(f"data.options.{key}", said, source, given)) from error


def load(
    name: str | Path, changes: Mapping[str, Any] | None = None, defaults: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe of that name (built in, or a task's default), or in that TOML file, with changes laid over it.

    Args:
        name: A built-in recipe, a task, or the path of a TOML file.
        changes: Dotted keys and their values: `{"train.lr": 0.01}`; None takes a key out. `train.epochs` takes the
            place of `train.samples`, and the reverse.
        defaults: Dotted keys and their values where neither the recipe nor the changes name them.

    Raises:
        RecipeError: There is no such recipe, or it says what cannot be.
    """
    text, changes = str(name), changes or {}
    if text in built_in():
        values, source = built_in()[text], f"recipe {text!r}"
    elif text in TASKS:
        values, source = {"task": text, "description": f"the default for {TASKS[text].summary}"}, f"task {text!r}"
    elif text.endswith(".toml") or Path(text).is_file():
        values, source = _read(Path(text)), text
        text = Path(text).stem
    else:
        kept = Path(text) / "recipe.toml"
        hint = f"; the recipe of that run is {kept}" if kept.is_file() else ""
        raise RecipeError(unknown("recipe, task or TOML file", text, [*built_in(), *TASKS]) + hint)
    values = deepcopy(values)
    for key, value in (defaults or {}).items():
        if not _has(values, key):
            _set(values, key, value)
    for key, value in changes.items():
        _set(values, key, value)
        for other in HOW_LONG if key in HOW_LONG and value is not None else ():
            if other not in changes:
                _set(values, other, None)
    return parse(values, source, text, changes)


@cache
def built_in() -> dict[str, dict[str, Any]]:
    """The tables of every built-in recipe, by name."""
    folder = resources.files("recurra.recipes")
    files = {f.name.removesuffix(".toml"): f for f in folder.iterdir() if f.name.endswith(".toml")}
    return {name: tomllib.loads(file.read_text(encoding="utf-8")) for name, file in sorted(files.items())}


def assignment(text: str) -> tuple[str, Any]:
    """`KEY=VALUE` of the command line: the value as TOML has it, or else as text; `KEY=` alone takes the key out.

    >>> assignment("train.lr=1e-3"), assignment("model.cell=gru"), assignment("data.max_length=")
    (('train.lr', 0.001), ('model.cell', 'gru'), ('data.max_length', None))
    >>> assignment("data.pattern={label}_{speaker}.wav")
    ('data.pattern', '{label}_{speaker}.wav')
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"--set {text!r}: KEY=VALUE is expected, such as train.lr=0.001")
    if not value.strip():
        return key.strip(), None
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError as error:
        is_pattern = re.match(r"\{\w+\}", value.strip())  # such as {label}_{speaker}.wav
        if value.strip()[0] in "{[\"'" and not is_pattern:  # what was to be a table, a list or a quoted text
            said = re.sub(r" \(at .*\)$", "", str(error))
            example = '{ U = 0.1, W = "orthogonal" }, [64, 32] or "a text"'
            raise RecipeError(
                f"{key.strip()}: {value.strip()} is not TOML ({said[:1].lower()}{said[1:]}); a value is written as in "
                f"{example}: texts in quotes, 0.1 rather than .1, no key twice"
            ) from error
        return key.strip(), value.strip()


def keys(task: str) -> dict[str, FieldInfo]:
    """Every dotted key of a task's recipes, with its field (type, default, description)."""
    found = {name: field for name, field in Recipe.model_fields.items() if name not in SECTIONS}
    for section, kind in _sections(task).items():
        found |= {f"{section}.{name}": field for name, field in kind.model_fields.items()}
    return found


def _sections(task: str) -> dict[str, type[BaseModel]]:
    return {
        "data": TASKS[task].reader.settings,
        "model": TASKS[task].model_settings,
        "train": TASKS[task].train_settings,
        "learn": LearnSettings,
        "report": ReportSettings,
    }


@cache
def _model(task: str) -> type[Recipe]:
    """The recipe of one task: `data`, `model` and `train` have the settings of that task."""
    sections = _sections(task)
    data, model, train = (
        (sections[name], Field(default_factory=sections[name])) for name in ("data", "model", "train")
    )
    return create_model("Recipe", __base__=Recipe, data=data, model=model, train=train)


def _schemas(task: str) -> dict[str, Any]:
    """Every dotted key's JSON schema."""
    found = {k: v for k, v in Recipe.model_json_schema()["properties"].items() if k not in SECTIONS}
    for section, kind in _sections(task).items():
        found |= {f"{section}.{k}": v for k, v in kind.model_json_schema()["properties"].items()}
    return found


def _placed(key: str, said: str, source: str, given: Mapping[str, Any] | None) -> str:
    """A fault with its place; what was given beside the source is named without it."""
    beside = any(f"{key}.".startswith(f"{other}.") or other.startswith(f"{key}.") for other in given or ())
    return f"{key}: {said}" if beside else f"{source}: {key}: {said}"


def _read(path: Path) -> dict[str, Any]:
    try:
        check_exists(path)
        return tables(path)
    except DataError as error:
        raise RecipeError(str(error)) from error
    except RecipeError as error:
        if path.suffix == ".toml":
            raise
        raise RecipeError(f"{error}; to train on this file: recurra train classify --data {path}") from error


def tables(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        RecipeError: It cannot be read, or is not TOML; with the line.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}, line {line}: byte {error.start} is not UTF-8, as TOML is") from error
    except tomllib.TOMLDecodeError as error:
        said = re.fullmatch(r"(.*) \(at (.*)\)", str(error), re.DOTALL)
        what, where = (said[1], said[2]) if said else (str(error), "")
        raise RecipeError(f"{path}{where and ', ' + where}: not TOML: {what[:1].lower()}{what[1:]}") from error


def _set(values: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key; None takes it out."""
    *names, last = key.split(".")
    place = values
    for i, name in enumerate(names, 1):
        place = place.setdefault(name, {})
        if not isinstance(place, dict):
            raise RecipeError(f"{key}: {'.'.join(names[:i])} is a value, not a table of settings")
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value


def _has(values: Mapping[str, Any], key: str) -> bool:
    """Whether a dotted key is set."""
    place: Any = values
    for name in key.split("."):
        if not isinstance(place, Mapping) or name not in place:
            return False
        place = place[name]
    return True


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, (list, tuple)):
        return [_without_none(v) for v in value]
    return value
