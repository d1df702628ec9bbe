"""What runs bring forth by `recurra generate`: a file a task, registered here."""

from typing import Any

from recurra.errors import RunError
from recurra.run.generation.base import Generator
from recurra.run.generation.frames import Films
from recurra.run.generation.language import Text
from recurra.run.generation.notes import Music

GENERATORS: dict[str, Generator] = {one.task: one for one in (Text(), Music(), Films())}
"""By the task's name; a task without an entry has nothing that goes on."""


def generator(run: Any) -> Generator:
    """What brings forth texts, pieces of music, … of a run.

    Args:
        run: A `Run`.

    Raises:
        RunError: It is a run of a task that has nothing to go on with.
    """
    task = run.recipe.task
    if task not in GENERATORS:
        *names, last = GENERATORS
        known = f"{', '.join(names)} or {last}" if names else last
        instead = "recurra predict writes its translations" if task == "translate" else "recurra predict uses it"
        raise RunError(f"{run.path}: is a run of {task}, not of {known}, and has nothing to go on with; {instead}")
    return GENERATORS[task]


__all__ = ["GENERATORS", "Generator", "generator"]
