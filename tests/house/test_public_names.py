"""Every public name stands in the reference of some page."""

import re
from pathlib import Path
from types import ModuleType

import pytest

import recurra

DOCS = Path(__file__).parents[2] / "docs"
TEXT = "\n".join(page.read_text("utf-8") for page in sorted(DOCS.glob("*.md")))


def documented() -> set[str]:
    """What mkdocs is asked to print the docstring of: objects by their own name, members of modules."""
    names = set()
    for target, members in re.findall(
        r"^::: ([\w.]+)\n(?:    options:\n)?(?:      members: \[(.*)\])?", TEXT, re.MULTILINE
    ):
        names |= {target.rpartition(".")[2], *(member.strip() for member in members.split(","))}
    return names


NAMES = [name for name in recurra.__all__ if not isinstance(getattr(recurra, name), (ModuleType, str))]


@pytest.mark.parametrize("name", [*NAMES, *recurra.nn.__all__])
def test_a_public_name_is_in_the_reference(name: str) -> None:
    assert name in documented()


@pytest.mark.parametrize("name", recurra.testing.__all__)
def test_what_a_test_may_use_is_named_on_its_page(name: str) -> None:
    assert name in (DOCS / "testing.md").read_text("utf-8")
