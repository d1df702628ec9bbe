"""docs/testing.md: its examples run and print what it says, and its table has every check in its own words."""

import contextlib
import io
import re
import sys
from pathlib import Path

from recurra.testing import CHECKS, TOLERANCES, CellTests, check
from scripts import loaded

PAGE = (Path(__file__).parents[2] / "docs" / "testing.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_every_example_runs_and_prints_what_the_page_says(tmp_path: Path) -> None:
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) == 3
    path = tmp_path / "testing_page_cells.py"
    path.write_text("".join(code for code, _ in blocks), "utf-8")
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            page = loaded(path)  # in a file, so that its cells can be pickled
        settings = {name: getattr(page.TestLeakyByTheBook, name) for name in ("state", "parameters")}
        report = check(page.leaky, reference=page.in_numpy, **settings)
    finally:
        del sys.modules[path.stem]
    assert printed.getvalue() == "".join(shown for _, shown in blocks)
    assert not report.left_out


def test_the_table_has_every_check() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (.*) \|$", PAGE[PAGE.index("## The checks") :].partition("\n## ")[0], re.MULTILINE
    )
    claims = [(one.name, one.claim[:1].lower() + one.claim[1:]) for one in CHECKS.values()]
    assert rows == claims


def test_what_a_test_can_say_is_named() -> None:
    assert [name for name in vars(CellTests)["__annotations__"] if f"`{name}`" not in PAGE] == []
    assert [f"1e-{n}" in PAGE for n in (9, 3)] == [True, True]
    assert sorted(TOLERANCES.values()) == [1e-9, 1e-3]
