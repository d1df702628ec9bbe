"""docs/engine.md and docs/streaming.md: their examples run and print what stands below them, their files are there."""

import re

import pytest
import torch

from pages import DOCS, check_examples


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # the exporter's own
@pytest.mark.parametrize(("name", "count"), [("engine.md", 5), ("streaming.md", 5)])
def test_every_example_runs_and_prints_what_the_page_says(name: str, count: int) -> None:
    torch.manual_seed(0)
    assert len(check_examples(name)) == count


def test_the_files_that_are_named_are_there() -> None:
    page = (DOCS / "engine.md").read_text("utf-8")
    rows = re.findall(r"^\| (`[^|]*[/.](?:py|cpp|/)`[^|]*) \|", page, re.MULTILINE)
    assert len(rows) >= 9
    for row in rows:
        folder = ""
        for name in re.findall(r"`([^`]+)`", row):  # `src/recurra/engine/trace.py`, `program.py`: beside the first
            folder = name.rpartition("/")[0] or folder
            assert (DOCS.parent / folder / name.rpartition("/")[2]).exists(), name
