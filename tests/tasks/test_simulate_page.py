"""docs/simulate.md."""

from pathlib import Path

from pages import check_examples


def test_the_examples_print_what_the_page_says(tmp_path: Path) -> None:
    assert check_examples("simulate.md", {"folder": tmp_path})
