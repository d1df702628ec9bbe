"""docs/delay.md: its examples run and print what stands below them."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "delay.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    names: dict[str, Any] = {}
    blocks = BLOCK.findall(PAGE)
    assert blocks
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "delay.md", "exec"), names)
        assert printed.getvalue() == shown, f"docs/delay.md, line {PAGE[: PAGE.index(code)].count(chr(10)) + 1}"
