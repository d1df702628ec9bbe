"""Tables of Turing machines: what they may say, and what is told where they do not."""

from pathlib import Path

import pytest

from recurra.theory import Configuration, MachineError, machine
from recurra.theory.machine import from_text

TABLE = """
blank: 0
start: A
halt: H stop
; a comment
A 0 1 R B   ; another
A 1 * l A
B * * S H
"""


def test_a_table_is_read() -> None:
    found = from_text(TABLE, "x.tm")
    assert (found.name, found.blank, found.start, found.halt) == ("x", "0", "A", ("H", "stop"))
    assert found.symbols == ("0", "1")
    assert found.working == ("A", "B")
    assert found.rules["A", "1"] == machine.Rule("1", "L", "A")
    assert found.rules["B", "0"] == machine.Rule("0", "S", "H")
    assert found.rules["B", "1"] == machine.Rule("1", "S", "H")


@pytest.mark.parametrize(
    ("changed", "to", "message"),
    [
        ("A 0 1 R B", "", r"x.tm: state 'A' has no rule for symbol '0'; expected a line such as 'A 0 0 R H'"),
        ("B * * S H", "", r"x.tm: state 'A', symbol '0': the next, 'B', has no rule .* unknown state 'B'"),
        ("B * * S H", "B * * S G", r"x.tm: state 'B', symbol '0': the next, 'G', .* unknown state 'G'"),
        ("B * * S H", "B * * S H\nA 0 0 L A", r"x.tm, line 9: a second rule for state 'A' and symbol '0'; .* line 6$"),
        ("B * * S H", "B * * S", r"x.tm, line 8: 4 words; five are expected"),
        ("A 1 * l A", "A 1 * up A", r"x.tm, line 7: the move is 'up'; L, R or S is expected"),
        ("A 0 1 R B", "A 0 11 R B", r"x.tm, line 6: '11' to write; a symbol of one character is expected"),
        ("halt: H stop", "", r"x.tm: no halting state; a line such as 'halt: done' is expected"),
        ("halt: H stop", "halts: H", r"x.tm, line 4: unknown field 'halts'; did you mean 'halt'\?"),
        ("blank: 0", "blank: 0\nblank: 1", r"x.tm, line 3: a second 'blank'"),
        ("blank: 0", "blank: 0 1", r"x.tm, line 2: blank: one word is expected, found 0 1"),
        ("start: A", "start: a", r"x.tm: start: unknown state 'a'; did you mean 'A'\?"),
        ("halt: H stop", "halt: H B", r"x.tm: state 'B' halts, and has a rule for symbol '0'"),
        ("B * * S H", "B * * S H\ntape: 0112", r"x.tm: state 'A' has no rule for symbol '2'"),
    ],
)
def test_what_is_wrong_is_told(changed: str, to: str, message: str) -> None:
    assert changed in TABLE
    with pytest.raises(MachineError, match=message):
        from_text(TABLE.replace(changed, to), "x.tm")


def test_an_empty_table() -> None:
    with pytest.raises(MachineError, match=r"^x.tm: no rule; lines such as 'STATE READ WRITE MOVE NEXT'"):
        from_text("; nothing\n", "x.tm")


def test_a_file_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^incremnt: no such file; unknown machine .* mean 'increment'\?"):
        machine.read("incremnt")
    with pytest.raises(MachineError, match=r"is a folder; a file with a machine's table is expected"):
        machine.read(tmp_path)
    (tmp_path / "a.tm").write_bytes(b"A \xff 1 R H")
    with pytest.raises(MachineError, match=r"a.tm: byte 2 is not UTF-8"):
        machine.read(tmp_path / "a.tm")


def test_a_tape_with_a_symbol_that_there_is_not() -> None:
    with pytest.raises(MachineError, match=r"^tape: character 3, 'z', is no symbol of 'increment'; .* _ 0 1"):
        machine.read("increment").begin("10z")


def test_configurations_have_one_form() -> None:
    """However many blanks stand at a tape's ends."""
    increment = machine.read("increment")
    assert increment.begin("__1__", 2) == increment.begin("1") == Configuration("right", (), ("1",))
    assert increment.begin("1", 3) == Configuration("right", ("1", "_", "_"), ())
    assert increment.begin("1", -1) == Configuration("right", (), ("_", "1"))


def test_a_machine_that_has_halted_stays() -> None:
    increment = machine.read("increment")
    end = list(increment.run("1"))[-1]
    assert increment.advance(end) == end
