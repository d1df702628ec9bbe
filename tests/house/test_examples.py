"""The examples in the docstrings of the package, run as they stand."""

import doctest
import importlib
from pathlib import Path

import pytest

import recurra

PACKAGE = Path(str(recurra.__file__)).parent
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text("utf-8")]


def name(path: Path) -> str:
    return ".".join(("recurra", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


@pytest.mark.parametrize("path", FILES, ids=name)
def test_examples_give_what_they_say(path: Path) -> None:
    result = doctest.testmod(importlib.import_module(name(path)))
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples() -> None:
    assert {"recurra.errors", "recurra.nn.recurrent", "recurra.nn.dropin"} <= {name(path) for path in FILES}
