"""What is wrong with a recipe, in words: the key, what was found, what is expected."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from recurra.errors import nearest, unknown

Schema = Mapping[str, Any]
"""The JSON schema of one key: its type and bounds, as pydantic has it."""


def expected(schema: Schema) -> str:
    """What a key takes, in words.

    >>> expected({"type": "integer", "minimum": 1})
    'a whole number from 1'
    >>> expected({"type": "array", "items": {"type": "number", "exclusiveMinimum": 0, "maximum": 1}})
    'a list of numbers above 0 up to 1'
    """
    if "anyOf" in schema:
        return " or ".join(expected(kind) for kind in schema["anyOf"] if kind.get("type") != "null")
    if "enum" in schema or "const" in schema:
        return ", ".join(schema.get("enum") or [schema["const"]])
    match schema.get("type"):
        case "integer":
            return "a whole number" + _bounds(schema)
        case "number":
            return "a number" + _bounds(schema)
        case "boolean":
            return "true or false"
        case "array" if "prefixItems" in schema:
            return f"a list of {len(schema['prefixItems'])} {_several(schema['prefixItems'][0])}"
        case "array":
            return f"a list of {_several(schema['items'])}"
        case "object":
            values = schema.get("additionalProperties")
            return "a table" + (f" of {_several(values)}" if isinstance(values, Mapping) else "")
        case _:
            return "a text"


def choices(schema: Schema) -> list[str]:
    """The words that a key takes; none where it takes no words."""
    kinds = schema.get("anyOf", [schema])
    return [word for kind in kinds for word in kind.get("enum", [kind["const"]] if "const" in kind else [])]


def spelt(values: Mapping[str, Any], schemas: Mapping[str, Schema], within: str = "") -> dict[str, Any]:
    """Tables in which true and false are words where a key takes no truth value: pydantic would take them for 1 and 0.

    >>> spelt({"train": {"lr": True}, "fast": True}, {"train.lr": {"type": "number"}, "fast": {"type": "boolean"}})
    {'train': {'lr': 'true'}, 'fast': True}
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{within}{name}"
        if key in schemas:
            found[name] = _spelt(value, schemas[key])
        else:
            found[name] = spelt(value, schemas, f"{key}.") if isinstance(value, Mapping) else value
    return found


def _spelt(value: Any, schema: Schema) -> Any:
    if isinstance(value, bool):
        return value if _takes_truths(schema) else str(value).lower()
    if isinstance(value, Mapping):
        kinds = [
            kind["additionalProperties"] for kind in schema.get("anyOf", [schema]) if "additionalProperties" in kind
        ]
        return {k: _spelt(v, kinds[0]) if kinds and isinstance(kinds[0], Mapping) else v for k, v in value.items()}
    return value


def _takes_truths(schema: Schema) -> bool:
    if "anyOf" in schema:
        return any(map(_takes_truths, schema["anyOf"]))
    return schema.get("type") == "boolean" or not schema.keys() & {"type", "enum", "const", "$ref"}


def told(
    error: ValidationError,
    values: Mapping[str, Any],
    keys: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    elsewhere: Mapping[str, Sequence[str]],
) -> tuple[str, str]:
    """The key that the first fault is about, and the fault in words.

    Args:
        error: What pydantic found.
        values: The recipe's tables.
        keys: Every key there is -> its field.
        schemas: Every key -> its JSON schema; a table of settings has none.
        elsewhere: Keys that only other tasks have -> these.
    """
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        path += _down(first["input"])
        key = ".".join(path)
        if key in elsewhere:
            others = elsewhere[key]
            tasks = f"tasks {', '.join(others)}" if len(others) > 1 else f"task {others[0]}"
            return key, f"is a key of the {tasks} and not of {values['task']}"
        return key, _unknown_key(path, keys)
    while len(path) > 1 and ".".join(path) not in schemas:  # of a choice of types pydantic names the branch too
        path.pop()
    key = ".".join(path)
    if first["type"] == "missing" and len(path) == len(first["loc"]):
        return key, "is missing"
    if first["type"] == "value_error":
        said = first["msg"].removeprefix("Value error, ")
        name, colon, rest = said.partition(": ")
        if colon and f"{key}.{name}" in schemas:  # what a whole table says of one of its keys
            return f"{key}.{name}", rest
        return key, said
    found = values
    for part in path:
        found = found[part]
    if key not in schemas:
        return key, f"a table of settings is expected (as {key}.KEY = VALUE), not {found!r}"
    words = choices(schemas[key])
    if words and ("anyOf" not in schemas[key] or isinstance(found, str)):
        return key, unknown("value", str(found), map(str, words))
    return key, f"{expected(schemas[key])} is expected, not {found!r}"


def _unknown_key(path: list[str], keys: Iterable[str]) -> str:
    guess = meant(path, keys)
    if guess is not None:
        return f"unknown key; did you mean {guess}?"
    inside = [key for key in keys if key.startswith(path[0] + ".")] if len(path) > 1 else []
    return f"unknown key; known: {', '.join(inside or dict.fromkeys(key.partition('.')[0] for key in keys))}"


def meant(path: list[str], keys: Any) -> str | None:
    """The key that was meant: this name in another table, what a description begins with, or a name that is near."""
    by_name = {key.rpartition(".")[2]: key for key in keys}
    if path[-1] in by_name:
        return by_name[path[-1]]
    words = re.sub(r"[\W_]+", " ", path[-1]).lower().strip()
    for key, field in keys.items():
        described = (field.description or "").lower()
        if words and described.startswith(words) and not described.startswith(words + ":"):  # "tokens: …" says of which
            return key
    if (whole := nearest(".".join(path), keys)) is not None and nearest(path[-1], [whole.rpartition(".")[2]]):
        return whole
    name = nearest(path[-1], by_name)
    return None if name is None else by_name[name]


def _down(value: Any) -> list[str]:
    """The names that lead to the first value inside tables."""
    return [next(iter(value)), *_down(next(iter(value.values())))] if isinstance(value, dict) and value else []


def _bounds(schema: Schema) -> str:
    low, above = schema.get("minimum"), schema.get("exclusiveMinimum")
    high, below = schema.get("maximum"), schema.get("exclusiveMaximum")
    words = f" from {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    if high is not None:
        return words + (f" to {high:g}" if low is not None else f" up to {high:g}")
    return words + (f" to below {below:,.10g}" if below is not None else "")


def _several(schema: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(_several(kind) for kind in schema["anyOf"])
    words = expected(schema)
    if words.startswith("a whole number"):
        return words.replace("a whole number", "whole numbers", 1)
    if words.startswith("a number"):
        return words.replace("a number", "numbers", 1)
    return {"a text": "texts", "true or false": "true or false"}.get(words, words)
