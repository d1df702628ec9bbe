"""The page on music says what is true: its Python runs, and a scale that was learnt goes on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pages import examples

PAGE = Path(__file__).parents[2] / "docs" / "notes.md"


def test_the_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    (example,) = examples(PAGE, names)
    assert names["tune"].pitches[:8] == [[pitch] for pitch in (60, 62, 64, 65, 67, 69, 71, 72)]
    assert names["chances"].shape == (4, 88)
    assert example.printed.splitlines()[-1] == "65"
    assert int(np.argmax(names["chances"][-1])) + 21 == 65
