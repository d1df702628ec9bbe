"""Tables of the documentation that are read from the code, so that they cannot fall behind it.

A page asks for one by a line of its own: `<!-- table: formats -->`.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from recurra.data import FORMATS
from recurra.data.fetch import sets
from recurra.data.film import FORMATS as FILMS
from recurra.data.made import MADE
from recurra.data.recordings import FORMATS as RECORDINGS
from recurra.data.sentence_reader import FORMATS as TAGGED
from recurra.run import recipe
from recurra.tasks import TASKS

MARKER = re.compile(r"^<!-- table: ([\w-]+) -->$", re.MULTILINE)


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def formats() -> str:
    """Every format, as given to `--input-format`."""
    return table(("format", "what it reads"), ((f"`{each.name}`", each.summary) for each in FORMATS.values()))


def tag_formats() -> str:
    """Every format of tagged sentences, likewise."""
    return table(("format", "what it reads"), ((f"`{each.name}`", each.summary) for each in TAGGED.values()))


def speech_formats() -> str:
    """Every way in which recordings are laid out, likewise."""
    return table(("format", "what it reads"), ((f"`{name}`", summary) for name, summary in RECORDINGS.items()))


def clip_formats() -> str:
    """Every format of films, likewise."""
    return table(("format", "what it reads"), ((f"`{name}`", summary) for name, summary in FILMS.items()))


def fetched_sets() -> str:
    """Every data set that can be downloaded."""
    rows = (
        (f"`{each.name}`", each.summary, f"`{each.repository}`", each.terms, _bytes(each.size))
        for each in sets().values()
        if each.files
    )
    return table(("name", "what it is", "public repository", "terms", "size"), rows)


def withheld_sets() -> str:
    """Every data set that cannot be downloaded, and what to do instead."""
    rows = ((f"`{each.name}`", each.summary, each.withheld, each.instead) for each in sets().values() if each.withheld)
    return table(("name", "what it is", "why not", "instead"), rows)


def made_sources() -> str:
    """Every source that needs no file."""
    return table(
        ("source", "task", "what it is"), ((f"`{name}`", made.task, made.summary) for name, made in MADE.items())
    )


def made_options(name: str) -> str:
    """Every option of a source that needs no file."""
    fields = MADE[name].model_fields.items()
    rows = ((f"`{key}`", _default(field), field.description or "") for key, field in fields)
    return table(("option", "default", "meaning"), rows)


def recipes() -> str:
    """Every built-in recipe."""
    rows = ((f"`{key}`", values["task"], values.get("description", "")) for key, values in recipe.built_in().items())
    return table(("recipe", "task", "what it does"), rows)


def tasks() -> str:
    """Every task."""
    return table(("task", "what it does"), ((f"`{key}`", task.summary) for key, task in TASKS.items()))


def recipe_keys() -> str:
    """Every key of a recipe; those of one task alone say so."""
    known: dict[str, dict[tuple[str, str], list[str]]] = {}
    for task in TASKS:
        for key, field in recipe.keys(task).items():
            said = _default(field), field.description or ""
            known.setdefault(key, {}).setdefault(said, []).append(task)
    rows = []
    for key, kinds in known.items():
        for (default, meaning), where in kinds.items():
            only = "" if len(where) == len(TASKS) else f" ({', '.join(where)}{' only' if len(kinds) == 1 else ''})"
            rows.append((f"`{key}`", default, meaning + only))
    return table(("key", "default", "meaning"), rows)


def settings(task: str, section: str) -> str:
    """Every key of one section of a task's recipes."""
    fields = ((key, field) for key, field in recipe.keys(task).items() if key.startswith(f"{section}."))
    rows = ((f"`{key}`", _default(field), field.description or "") for key, field in fields)
    return table(("key", "default", "meaning"), rows)


def own_settings(task: str, section: str) -> str:
    """The keys of one section that are a task's own, or have another meaning there than in `regress`."""
    usual = {key: field.description for key, field in recipe.keys("regress").items()}
    fields = {key: field for key, field in recipe.keys(task).items() if key.startswith(f"{section}.")}
    rows = (
        (f"`{key}`", _default(field), field.description or "")
        for key, field in fields.items()
        if usual.get(key) != field.description
    )
    return table(("key", "default", "meaning"), rows)


def _bytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"


def _default(field: FieldInfo) -> str:
    value: Any = field.get_default(call_default_factory=True, validated_data={})
    if value is None or value is PydanticUndefined:
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


TABLES: dict[str, Callable[[], str]] = {
    "formats": formats,
    "tag-formats": tag_formats,
    "speech-formats": speech_formats,
    "clip-formats": clip_formats,
    "sets": fetched_sets,
    "withheld": withheld_sets,
    "made": made_sources,
    "recipes": recipes,
    "tasks": tasks,
    "keys": recipe_keys,
    "forecast-data": partial(settings, "forecast", "data"),
    "forecast-model": partial(own_settings, "forecast", "model"),
    "forecast-train": partial(own_settings, "forecast", "train"),
    **{f"options-{name}": partial(made_options, name) for name in MADE},
}


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs for every page: put the tables in. A table that does not exist ends the build."""
    return MARKER.sub(lambda found: TABLES[found[1]](), markdown)
