"""docs/language.md, docs/generate.md, docs/translate.md: their Python runs, and gives what it says."""

from pathlib import Path
from typing import Any

import pytest

from pages import examples


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)


def test_language() -> None:
    names: dict[str, Any] = {}
    assert len(list(examples("language.md", names))) == 1
    assert len(names["said"].nats) == len("to be or what\n") - 1


def test_generate() -> None:
    names: dict[str, Any] = {}
    texts, streamed = (example.printed for example in examples("generate.md", names))
    assert texts.count("to ") >= 2
    assert str(names["tree"]) in texts
    assert names["warning"] == ""
    assert len(streamed) == 20


def test_translate() -> None:
    names: dict[str, Any] = {}
    (example,) = examples("translate.md", names)
    assert names["run"].predict(names["x"]).said == names["y"], example.printed
