"""docs/learning.md: its examples run and print what stands below them; its figure and its commands are there."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from recurra import learn
from recurra.learn.rules import NAMES, find

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "learning.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n```text\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[+-]\d+)?(?!\w)")


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == PAGE.count("```python") == 4
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "learning.md", "exec"), names)
        assert NUMBER.sub("#", printed.getvalue()).split() == NUMBER.sub("#", shown).split()
        found, told = ([float(n) for n in NUMBER.findall(text)] for text in (printed.getvalue(), shown))
        np.testing.assert_allclose(found, told, rtol=0.02, atol=0.002)  # of another machine the last digit may differ


def test_every_rule_is_on_the_page() -> None:
    rows = re.findall(r"^\| `(\w+)`, `(\w+)\(", PAGE, re.MULTILINE)
    assert {name for name, _ in rows} == {*NAMES} - {"snap2"}
    for name, kind in rows:
        assert type(find(name)) is getattr(learn, kind)


def test_the_figure_is_there() -> None:
    (link,) = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", PAGE)
    drawing = (CHECKOUT / "docs" / link).read_text("utf-8")
    assert "truncated BPTT" in drawing
    assert "memory, KiB" in drawing
