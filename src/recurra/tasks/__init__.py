"""The kinds of problem: a file each, registered here."""

from typing import Any

from recurra.tasks.base import Metrics, Predictions, SequenceTask, Task, predict
from recurra.tasks.classify import Classify
from recurra.tasks.language import Language
from recurra.tasks.regress import Regress
from recurra.tasks.tag import Tag

TASKS: dict[str, type[Task[Any, Any, Any]]] = {task.name: task for task in (Classify, Regress, Tag, Language)}
"""Every task by name: what the command, the recipes and the documentation read."""

__all__ = [
    "TASKS",
    "Classify",
    "Language",
    "Metrics",
    "Predictions",
    "Regress",
    "SequenceTask",
    "Tag",
    "Task",
    "predict",
]
