"""docs/online.md: its Python prints what stands below it, and its commands do what the page says."""

import csv
import io
import json
import re
import shlex
from pathlib import Path

import pytest

from pages import check_examples
from recurra.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "online.md").read_text("utf-8")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_python_prints_what_it_says(here: Path) -> None:
    (here / "rows.csv").write_text("value\n" + "".join(f"{7 * i % 13}\n" for i in range(500)))
    assert len(check_examples("online.md")) == 2


def test_its_first_command_writes_what_it_shows(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command, shown = re.findall(r"^```\n(recurra data .*?)\n```\n.*?^```text\n(.*?)^```", PAGE, re.M | re.S)[0]
    source, learner = (shlex.split(part)[1:] for part in command.split("|"))
    assert main([*source, "--lines", "3"]) == 0
    (here / "rows.csv").write_text(capsys.readouterr().out)
    assert main([*learner, "--data", "rows.csv"]) == 0
    found, expected = (list(csv.DictReader(io.StringIO(text))) for text in (capsys.readouterr().out, shown))
    assert len(found) == len(expected) == 3
    for row, other in zip(found, expected, strict=True):
        assert list(row) == list(other)
        for name in row:
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-3, abs=1e-4)
    assert json.loads((here / "runs" / "drifting" / "summary.json").read_text())["stream"]["rows"] == 3
    assert main(["train", "--stream", "--resume", "runs/drifting", "--data", "rows.csv"]) == 0
    assert "3 rows are learnt; the stream goes on with row 4 (index 3)" in capsys.readouterr().err


def test_every_key_that_it_names_is_one() -> None:
    from recurra.run import recipe

    known = {*recipe.keys("classify"), *recipe.keys("regress")}
    named = set(re.findall(r"`((?:data|model|train|learn)\.\w+)", PAGE))
    assert len(named) > 12
    assert named <= known
