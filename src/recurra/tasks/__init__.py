"""The kinds of problem: a file each, registered here."""

from recurra.tasks.base import Metrics, Predictions, Task, predict
from recurra.tasks.classify import Classify
from recurra.tasks.regress import Regress

TASKS: dict[str, type[Task]] = {task.name: task for task in (Classify, Regress)}
"""Every task by name: what the command, the recipes and the documentation read."""

__all__ = ["TASKS", "Classify", "Metrics", "Predictions", "Regress", "Task", "predict"]
