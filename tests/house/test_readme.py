"""The front page says what is true: its Python runs, its commands exist, its catalogue is whole."""

import re
from pathlib import Path

import numpy as np
import pytest

from pages import examples
from recurra.cells import CATALOGUE
from recurra.cli import app
from recurra.run import training

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "README.zh.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_catalogue_is_whole(page: Path) -> None:
    found = re.findall(r"^\| `(\w+)` \|", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert found == list(CATALOGUE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_exists(page: Path) -> None:
    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    named = set(re.findall(r"recurra (train|predict|data|recipes|evaluate|compare|\w+) ", page.read_text("utf-8")))
    assert named & known == {"train", "predict", "data", "inspect", "generate", "turing"}
    assert set(re.findall(r"^recurra (\w+)", page.read_text("utf-8"), re.MULTILINE)) <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(60, 5, 2)).astype(np.float32)
    names = {"x": x, "y": np.where(x[:, :, 0].sum(1) > 0, "up", "down"), "new": x[:3]}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "UPDATES", 5)
    assert len(list(examples(page, names))) == 1
    assert names["layer"].output_size == 128
    assert len(names["run"].predict(x[:3]).labels) == 3
