"""The kinds of problem: a file each, registered here."""

from typing import Any

from recurra.tasks.base import Metrics, Predictions, SequenceTask, Task, predict
from recurra.tasks.classify import Classify
from recurra.tasks.forecast import Forecast
from recurra.tasks.frames import Frames
from recurra.tasks.graph import Graph
from recurra.tasks.language import Language
from recurra.tasks.notes import Notes
from recurra.tasks.regress import Regress
from recurra.tasks.simulate import Simulate
from recurra.tasks.speech import Speech
from recurra.tasks.speech_translate import SpeechTranslate
from recurra.tasks.tag import Tag
from recurra.tasks.translate import Translate
from recurra.tasks.tree import Tree

TASKS: dict[str, type[Task[Any, Any, Any]]] = {
    task.name: task
    for task in (
        Classify,
        Regress,
        Language,
        Tag,
        Translate,
        Forecast,
        Notes,
        Speech,
        SpeechTranslate,
        Simulate,
        Frames,
        Tree,
        Graph,
    )
}
"""Every task by name: what the command, the recipes and the documentation read."""

__all__ = [
    "TASKS",
    "Classify",
    "Forecast",
    "Frames",
    "Graph",
    "Language",
    "Metrics",
    "Notes",
    "Predictions",
    "Regress",
    "SequenceTask",
    "Simulate",
    "Speech",
    "SpeechTranslate",
    "Tag",
    "Task",
    "Translate",
    "Tree",
    "predict",
]
