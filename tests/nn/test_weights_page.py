"""docs/weights.md: its examples run and print what stands below them; what it names is there."""

import contextlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from recurra import cells
from recurra.nn.weights.keras import ACTIVATIONS

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "weights.md").read_text("utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


def test_every_example_runs_and_prints_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "page"}
    blocks = BLOCK.findall(PAGE)
    assert len(blocks) >= 5
    for code, shown in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch says that the exporter which needs no other package is old
            exec(compile(code, "page.py", "exec"), names)
        assert printed.getvalue() == shown, f"docs/weights.md, line {PAGE[: PAGE.index(code)].count(chr(10)) + 1}"


def test_what_it_names_is_there() -> None:
    tables = re.findall(r"^\| .* \| `(\w+)`[^|]*\|$", PAGE, re.MULTILINE)
    assert {name for name in tables if name in cells.CATALOGUE} >= {
        *("lstm", "lstm_projected", "lstm_peephole", "lstm_coupled"),
        *("gru", "gru_reset_after", "elman"),
    }
    assert all((CHECKOUT / name).is_file() for name in re.findall(r"`(tests/[^`]+)`", PAGE))
    assert [name for name in ACTIVATIONS if f"`{name}`" not in PAGE] == []
