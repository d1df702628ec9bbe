"""Sections that a task's report has of its own: a file a task, registered here."""

from collections.abc import Callable, Sequence
from typing import Any

from recurra.run.content import Section
from recurra.run.sections import (
    classify,
    forecast,
    frames,
    graph,
    language,
    notes,
    simulate,
    speech,
    speech_translate,
    tag,
    translate,
    tree,
)
from recurra.run.training import Training

Sections = Callable[[Training, Any, Any], Sequence[Section]]
"""Makes a report's sections of a finished training, the part that is shown (test, else validation, else training) and
what the network said of it (None where there is no test and no validation part)."""

SECTIONS: dict[str, Sections] = {
    "classify": classify.sections,
    "forecast": forecast.sections,
    "frames": frames.sections,
    "graph": graph.sections,
    "language": language.sections,
    "notes": notes.sections,
    "simulate": simulate.sections,
    "speech": speech.sections,
    "speech-translate": speech_translate.sections,
    "tag": tag.sections,
    "translate": translate.sections,
    "tree": tree.sections,
}
"""By the task's name; a task without an entry has none."""
