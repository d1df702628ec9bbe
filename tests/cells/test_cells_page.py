"""docs/cells.md: its examples run and print what stands below them, its table is the catalogue, its files are there."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import pytest

from recurra.cells import catalogue_table
from recurra.math import ACTIVATIONS

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "cells.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    names: dict[str, Any] = {"__name__": "page"}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) >= 8
    assert len([shown for _, shown in blocks if shown]) >= 7
    for code, shown in blocks:
        line = PAGE[: PAGE.index(code)].count("\n")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, "my_cells.py", "exec"), names)
        assert printed.getvalue() == shown, f"docs/cells.md, line {line + 1}"


def test_the_table_is_the_catalogue() -> None:
    found = re.search(r"<!-- catalogue: .*? -->\n\n(.*?)\n<!-- end of the catalogue -->", PAGE, re.DOTALL)
    assert found
    assert found[1] == catalogue_table(links=False), "put recurra.cells.catalogue_table(links=False) between the marks"


def test_the_files_that_it_names_are_there() -> None:
    rows = re.findall(r"^\| (`[^|]*) \|", PAGE[PAGE.index("## Where the files are") :], re.MULTILINE)
    assert len(rows) >= 8
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):  # `src/recurra/cells/simple.py`, `lstm.py`: beside the first
            folder = name.rpartition("/")[0] or folder
            assert (CHECKOUT / folder / name.rpartition("/")[2]).exists(), name


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_activations_that_can_be_named_are_named(name: str) -> None:
    assert f"`{name}`" in PAGE
