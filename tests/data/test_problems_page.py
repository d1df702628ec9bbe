"""The page of problems: its rows are what the command prints, its sources are all that there are."""

import re
import shlex
from pathlib import Path

import pytest

from pages import examples
from recurra.cli import main
from recurra.data.made import MADE, Problem
from recurra.run import recipe, training

PAGE = (Path(__file__).parents[2] / "docs" / "problems.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^```text\n\$ recurra (.*)\n((?:.*\n)*?)```$", PAGE, re.MULTILINE)


@pytest.mark.parametrize(("words", "said"), SHOWN)
def test_rows_are_what_is_printed(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(shlex.split(words)) == 0
    assert capsys.readouterr().out == said


def test_every_problem_has_its_rows_and_options() -> None:
    problems = {name for name, made in MADE.items() if issubclass(made, Problem)}
    assert {words.split()[1] for words, _ in SHOWN} == problems
    assert set(re.findall(r"^<!-- table: options-(\w+) -->$", PAGE, re.MULTILINE)) == problems


def test_every_recipe_it_names_exists() -> None:
    named = set(re.findall(r"^recurra train ([\w-]+)", PAGE, re.MULTILINE)) - {"classify"}
    assert named
    assert named <= set(recipe.built_in())


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "UPDATES", 30)
    (example,) = examples("problems.md")
    accuracy, whole = map(float, example.printed.split())
    assert 0 <= whole <= accuracy <= 1
