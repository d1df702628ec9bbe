"""docs/delay.md: its examples run and print what stands below them."""

from pages import check_examples


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    assert check_examples("delay.md")
