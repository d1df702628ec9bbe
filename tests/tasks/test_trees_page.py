"""docs/trees.md, and the script of its figure."""

from pages import check_examples
from scripts import benchmark


def test_the_example_prints_what_the_page_says() -> None:
    assert len(check_examples("trees.md")) == 1


def test_the_script_compares_the_same_model() -> None:
    """It looks itself whether both have the same gradients."""
    script = benchmark("trees")
    found = script.compared(script.random_trees(30, 6, 0), batches=1, rounds=1)
    assert found["level by level"][0] > found["node by node"][0]
