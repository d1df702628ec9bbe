"""docs/cells.md: its examples run and print what stands below them, its table is the catalogue, its files are there."""

import re
from pathlib import Path

import pytest

from pages import check_examples
from recurra.cells import catalogue_table
from recurra.math import ACTIVATIONS

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "cells.md").read_text("utf-8")


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    ran = check_examples("cells.md", file="my_cells.py")
    assert len(ran) >= 8
    assert len([one for one in ran if one.shown]) >= 7


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
