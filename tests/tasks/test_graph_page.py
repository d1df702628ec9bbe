"""docs/graph.md."""

from pathlib import Path

import pytest

from pages import check_examples


def test_the_example_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where it leaves its run
    assert len(check_examples("graph.md")) == 1
