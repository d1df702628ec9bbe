"""docs/graphs.md."""

from pages import check_examples


def test_the_examples_print_what_the_page_says() -> None:
    assert len(check_examples("graphs.md")) == 3
