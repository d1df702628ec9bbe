"""docs/theory.md: its examples print what it says, its table is the command's, and every name is in its reference."""

import re

import pytest

from pages import DOCS, check_examples
from recurra import theory
from recurra.cli import main
from recurra.theory.machine import from_text

PAGE = (DOCS / "theory.md").read_text("utf-8")


def test_an_example_prints_what_the_page_says() -> None:
    assert len(check_examples("theory.md")) == 2


def test_the_command_prints_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    ((words, shown),) = re.findall(r"^```\n\$ recurra (.*?)\n(.*?)^```\n", PAGE, re.MULTILINE | re.DOTALL)
    assert main(words.split()) == 0
    assert capsys.readouterr().out == shown


def test_the_machine_of_the_page_is_the_one_that_comes_along() -> None:
    (table,) = re.findall(r"^```\n(; adds one.*?)^```\n", PAGE, re.MULTILINE | re.DOTALL)
    assert from_text(table, "page").rules == theory.read("increment").rules


def test_every_name_is_in_the_reference() -> None:
    assert set(re.findall(r"members: \[(.*)\]", PAGE)[0].split(", ")) == set(theory.__all__)
