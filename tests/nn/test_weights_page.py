"""docs/weights.md: its examples run and print what stands below them; what it names is there."""

import re
import warnings
from pathlib import Path

import pytest

from pages import check_examples
from recurra import cells
from recurra.nn.weights.keras import ACTIVATIONS

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "weights.md").read_text("utf-8")


def test_every_example_runs_and_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says that the exporter which needs no other package is old
        assert len(check_examples("weights.md")) >= 5


def test_what_it_names_is_there() -> None:
    tables = re.findall(r"^\| .* \| `(\w+)`[^|]*\|$", PAGE, re.MULTILINE)
    assert {name for name in tables if name in cells.CATALOGUE} >= {
        *("lstm", "lstm_projected", "lstm_peephole", "lstm_coupled"),
        *("gru", "gru_reset_after", "elman"),
    }
    assert all((CHECKOUT / name).is_file() for name in re.findall(r"`(tests/[^`]+)`", PAGE))
    assert [name for name in ACTIVATIONS if f"`{name}`" not in PAGE] == []
