"""docs/learning.md: its examples run and print what stands below them; its figure and its commands are there."""

import re
from pathlib import Path

from pages import check_alike, examples
from recurra import learn
from recurra.learn.rules import NAMES, find

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "learning.md").read_text("utf-8")


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    ran = list(examples("learning.md"))
    assert len(ran) == PAGE.count("```python") == 4
    for example in ran:
        check_alike(example, atol=0.002)


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
