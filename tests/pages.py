"""What tests of the documentation share: the Python of a page, run as it stands there."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DOCS = Path(__file__).parents[1] / "docs"
_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?(?!\w)")


class Example(NamedTuple):
    """A block of Python that has run.

    Attributes:
        place: The page and the line that it begins in, for messages.
        shown: What the page shows below it; nothing where that is no text.
        printed: What it printed.
    """

    place: str
    shown: str
    printed: str


def examples(page: str | Path, names: dict[str, Any] | None = None, file: str | None = None) -> Iterator[Example]:
    """Run the Python of a page, block after block in one namespace: the page's own lines, and nobody else's.

    Args:
        page: A file of docs/ by its name, or any other by its path.
        names: What is there before; what the blocks name is added.
        file: What Python is told that the blocks stand in; the page.
    """
    path = DOCS / page
    text = path.read_text("utf-8")
    names = {} if names is None else names
    names.setdefault("__name__", "page")
    for block in _BLOCK.finditer(text):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block[1], file or path.name, "exec"), names)
        line = text[: block.start()].count("\n") + 2
        yield Example(f"{path.name}, line {line}", block[2] or "", printed.getvalue())


def check_examples(page: str | Path, names: dict[str, Any] | None = None, file: str | None = None) -> list[Example]:
    """`examples`, each of which is to print what the page shows."""
    ran = list(examples(page, names, file))
    for example in ran:
        assert example.printed == example.shown, example.place
    return ran


def check_alike(example: Example, atol: float = 0) -> None:
    """Look whether an example prints what the page shows, but for the last digits, in which machines differ."""
    printed, shown = example.printed, example.shown
    assert _NUMBER.sub("#", printed).split() == _NUMBER.sub("#", shown).split(), example.place
    found, told = ([float(n) for n in _NUMBER.findall(text)] for text in (printed, shown))
    np.testing.assert_allclose(found, told, rtol=0.02, atol=atol, err_msg=example.place)
