"""The page on forecasts says what is true: its Python runs and prints what it shows."""

from pathlib import Path

import pytest

from pages import check_examples


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_examples("forecast.md")
