"""`recurra turing`: a machine as a network, step by step."""

import json
from pathlib import Path

import pytest

from recurra.cli import main
from recurra.theory import shipped


def test_machines_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turing"]) == 0
    listed = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == list(shipped())


def test_steps_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turing", "increment", "--tape", "11"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("increment: 3 states, 3 symbols, 6 rules -> ")
    assert [line.split() for line in lines[2:-2]] == [
        ["step", "state", "tape"],
        ["0", "right", "[1]1"],
        ["1", "right", "1[1]"],
        ["2", "right", "11[_]"],
        ["3", "carry", "1[1]"],
        ["4", "carry", "[1]0"],
        ["5", "carry", "[_]00"],
        ["6", "done", "[1]00"],
    ]
    assert lines[-1] == (
        "halted in state 'done' after 6 steps (12 of the network), equal to the plain simulator's at every one"
    )


def test_a_file_of_ones_own_from_a_place_on_the_tape(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "flip.tm").write_text("halt: H\nA 0 1 L A\nA 1 0 L A\nA _ _ S H\n", "utf-8")
    assert main(["turing", str(tmp_path / "flip.tm"), "--tape", "0011", "--head", "2", "--quiet"]) == 0
    shown = capsys.readouterr().out.splitlines()[3:-2]
    assert [line.split() for line in shown] == [["0", "A", "00[1]1"], ["4", "H", "[_]1101"]]


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turing", "brackets", "--tape", "()", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"step": 0, "state": "find", "left": "", "right": "()"}
    assert rows[-1]["state"] == "accept"
    assert [row["step"] for row in rows] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["incremnt"], "incremnt: no such file; unknown machine 'incremnt'; did you mean 'increment'?"),
        (["increment", "--tape", "1a"], "tape: character 2, 'a', is no symbol of 'increment'"),
        (["busy-beaver-4", "--limit", "106"], "busy-beaver-4: has not halted after 106 steps; it is in state"),
        (["increment", "--limit", "-1"], "--limit: a whole number from 0 is expected, not -1"),
        (["increment", "--tape", "101", "--head", "two"], "--head: a whole number is expected, not 'two'"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turing", *words]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_a_long_tape_is_shown_around_the_head(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["turing", "increment", "--tape", "0" * 200]) == 0
    widest = max(len(line) for line in capsys.readouterr().out.splitlines()[2:])
    assert widest < 160
