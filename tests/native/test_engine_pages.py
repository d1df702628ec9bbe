"""docs/engine.md and docs/streaming.md: their examples run and print what stands below them, their files are there."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
import torch

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # the exporter's own
@pytest.mark.parametrize(("name", "examples"), [("engine.md", 5), ("streaming.md", 5)])
def test_every_example_runs_and_prints_what_the_page_says(name: str, examples: int) -> None:
    torch.manual_seed(0)
    page = (DOCS / name).read_text("utf-8")
    names: dict[str, Any] = {"__name__": "page"}
    blocks = BLOCK.findall(page)
    assert len(blocks) == examples
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, name, "exec"), names)
        assert printed.getvalue() == shown, f"docs/{name}, line {page[: page.index(code)].count(chr(10)) + 1}"


def test_the_files_that_are_named_are_there() -> None:
    page = (DOCS / "engine.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]*[/.](?:py|cpp|/)`[^|]*) \|", page, re.MULTILINE)
    assert len(rows) >= 9
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):  # `src/recurra/engine/trace.py`, `program.py`: beside the first
            folder = name.rpartition("/")[0] or folder
            assert (DOCS.parent / folder / name.rpartition("/")[2]).exists(), name
