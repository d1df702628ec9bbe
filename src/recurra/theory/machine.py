"""Turing machines: their tables as files, and a plain simulator to hold the network against."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

from recurra.errors import RecurraError, unknown

Move = Literal["L", "S", "R"]

MOVES: dict[str, Move] = {"L": "L", "l": "L", "<": "L", "R": "R", "r": "R", ">": "R", "S": "S", "s": "S", "N": "S"}
ANY = "*"
FIELDS = ("name", "about", "blank", "start", "halt", "tape")


class MachineError(RecurraError, ValueError):
    """A Turing machine's table, or a tape, that is not one."""


class EndlessError(MachineError):
    """A machine that has not halted within the limit."""


@dataclass(frozen=True)
class Rule:
    """What a machine does in one state with one symbol under its head."""

    write: str
    move: Move
    next: str


@dataclass(frozen=True)
class Configuration:
    """A machine between two steps.

    Attributes:
        state: That of the finite control.
        left: Symbols left of the head, the nearest last; no blank is the first of them.
        right: The symbol under the head and those right of it; no blank is the last of them, so it can be empty.
    """

    state: str
    left: tuple[str, ...]
    right: tuple[str, ...]

    def shown(self, blank: str, most: int | None = None) -> str:
        """The tape as text, the symbol under the head in brackets.

        Args:
            blank: The symbol of a cell that was never written.
            most: Cells on either side of the head that are shown.

        >>> now = Configuration("q", ("1", "0"), ())
        >>> now.shown("_"), now.shown("_", 1)
        ('10[_]', '…0[_]')
        """
        before, (here, *after) = self.left, self.right or (blank,)
        if most is not None and len(before) > most:
            before = ("…", *before[len(before) - most :])
        if most is not None and len(after) > most:
            after = [*after[:most], "…"]
        return "".join([*before, "[", here, "]", *after])

    def tape(self) -> str:
        """The tape's content, blanks at both ends left out."""
        return "".join(self.left + self.right)


@dataclass(frozen=True)
class TuringMachine:
    """A deterministic machine with one tape that has no end on either side.

    Attributes:
        name: What it is called.
        blank: The symbol of a cell that was never written.
        start: The state that it begins in.
        halt: The states in which it stops.
        rules: (state, symbol) -> what is done; one for each symbol in each state that is no halting one.
        about: What it computes.
        example: A tape to try it on.

    Raises:
        MachineError: A rule is missing, or leads to a state that there is not.
    """

    name: str
    blank: str
    start: str
    halt: tuple[str, ...]
    rules: dict[tuple[str, str], Rule]
    about: str = ""
    example: str = ""

    def __post_init__(self) -> None:
        for symbol in self.symbols:
            if len(symbol) != 1 or symbol.isspace():
                raise MachineError(f"{self.name}: symbol {symbol!r}: one visible character is expected")
        if not self.halt:
            raise MachineError(f"{self.name}: no halting state; without one it cannot end")
        known = {*self.working, *self.halt}
        if self.start not in known:
            raise MachineError(f"{self.name}: start: " + unknown("state", self.start, known))
        for state, symbol in self.rules:
            if state in self.halt:
                raise MachineError(f"{self.name}: state {state!r} halts, and has a rule for symbol {symbol!r}")
        for (state, symbol), rule in self.rules.items():
            if rule.next not in known:
                why = "has no rule of its own and does not halt; " + unknown("state", rule.next, known)
                raise MachineError(f"{self.name}: state {state!r}, symbol {symbol!r}: the next, {rule.next!r}, {why}")
        for state in self.working:
            for symbol in self.symbols:
                if (state, symbol) not in self.rules:
                    raise MachineError(
                        f"{self.name}: state {state!r} has no rule for symbol {symbol!r}; expected a line such as "
                        f"'{state} {symbol} {symbol} R {self.halt[0]}', or one for {ANY!r}, any symbol without its own"
                    )

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """The symbols that its rules read or write, the blank first."""
        named = [s for (_, symbol), rule in self.rules.items() for s in (symbol, rule.write)]
        return tuple(dict.fromkeys([self.blank, *named]))

    @cached_property
    def working(self) -> tuple[str, ...]:
        """The states that have rules."""
        return tuple(dict.fromkeys(state for state, _ in self.rules))

    @property
    def states(self) -> tuple[str, ...]:
        """All states, those that halt last."""
        return (*self.working, *self.halt)

    def begin(self, tape: str, head: int = 0) -> Configuration:
        """The configuration before the first step.

        Args:
            tape: Its symbols, one character a cell; the rest of the tape is blank.
            head: Which of them is under the head, from 0; below 0, or past the last, a blank beside them.

        Raises:
            MachineError: A symbol that no rule reads or writes, with its place.
        """
        for place, symbol in enumerate(tape, 1):
            if symbol not in self.symbols:
                raise MachineError(
                    f"tape: character {place}, {symbol!r}, is no symbol of {self.name!r}; its symbols are "
                    f"{' '.join(self.symbols)} (blank: {self.blank})"
                )
        cells = [*[self.blank] * -head, *tape]
        at = max(0, head)
        cells += [self.blank] * (at + 1 - len(cells))
        return self._trimmed(self.start, cells[:at], cells[at:])

    def advance(self, now: Configuration) -> Configuration:
        """One step; of a machine that has halted, the same configuration."""
        if now.state in self.halt:
            return now
        here, *after = now.right or (self.blank,)
        rule = self.rules[now.state, here]
        left, right = list(now.left), [rule.write, *after]
        if rule.move == "R":
            left.append(right.pop(0))
        elif rule.move == "L":
            right.insert(0, left.pop() if left else self.blank)
        return self._trimmed(rule.next, left, right)

    def run(self, tape: str, *, head: int = 0, limit: int = 10_000) -> Iterator[Configuration]:
        """Every configuration from the first to the halting one.

        Args:
            tape: See `begin`.
            head: See `begin`.
            limit: Steps, at most.

        Raises:
            MachineError: See `begin`.
            EndlessError: It has not halted after so many steps.
        """
        return self.until_halt(self.begin(tape, head), self.advance, limit)

    def until_halt(
        self, first: Configuration, advance: Callable[[Configuration], Configuration], limit: int
    ) -> Iterator[Configuration]:
        """The configurations from one on, by whatever takes the steps; raises EndlessError behind the limit."""
        now = first
        yield now
        for _ in range(limit):
            if now.state in self.halt:
                return
            now = advance(now)
            yield now
        if now.state not in self.halt:
            raise EndlessError(
                f"{self.name}: has not halted after {limit:,} steps; it is in state {now.state!r}. It may never halt, "
                "which nothing can tell in general; a higher limit runs it further"
            )

    def _trimmed(self, state: str, left: list[str], right: list[str]) -> Configuration:
        blank = self.blank
        begin = next((i for i, symbol in enumerate(left) if symbol != blank), len(left))
        end = next((i for i in range(len(right), 0, -1) if right[i - 1] != blank), 0)
        return Configuration(state, tuple(left[begin:]), tuple(right[:end]))


# --- files ------------------------------------------------------------------------------------------------------------


def shipped() -> dict[str, TuringMachine]:
    """The machines that come with the package, by name."""
    folder = resources.files("recurra.theory") / "machines"
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".tm")), key=lambda f: f.name)
    return {f.name.removesuffix(".tm"): from_text(f.read_text("utf-8"), f.name.removesuffix(".tm")) for f in found}


def read(source: str | Path) -> TuringMachine:
    """A machine from its file, or one of those that come with the package by its name.

    Raises:
        MachineError: There is none; or the file is not as `from_text` expects it, with its line.
    """
    path = Path(source)
    if path.is_file():
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise MachineError(f"{path}: byte {error.start} is not UTF-8; a table of text is expected") from error
        return from_text(text, str(path))
    own = shipped()
    if str(source) in own:
        return own[str(source)]
    if path.is_dir():
        raise MachineError(f"{source}: is a folder; a file with a machine's table is expected")
    raise MachineError(f"{source}: no such file; " + unknown("machine", str(source), own))


def from_text(text: str, source: str) -> TuringMachine:
    """A machine from its table.

    One rule a line: `STATE READ WRITE MOVE NEXT`, the move L, R or S (stay). As READ, `*` stands for every symbol
    without a rule of its own in that state; as WRITE, for what was read. `blank: _`, `start: STATE` (else that of the
    first rule) and `halt: STATE …` say the rest; `name:`, `about:` and `tape:` (an example) help people. What follows a
    `;` is a comment.

    Args:
        text: The table.
        source: What to call it in errors, and the machine where it has no name.

    Raises:
        MachineError: A line that is none of these, a second rule for one state and symbol, or what `TuringMachine`
            refuses.
    """
    said: dict[str, str] = {}
    lines: dict[tuple[str, str], int] = {}
    rules: dict[tuple[str, str], Rule] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition(";")[0].split()
        if not words:
            continue
        if words[0].endswith(":") and len(words[0]) > 1:
            _take_field(said, words[0][:-1], words[1:], f"{source}, line {number}")
            continue
        if len(words) != 5:
            raise MachineError(
                f"{source}, line {number}: {len(words)} words; five are expected, STATE READ WRITE MOVE NEXT, or a "
                f"field such as 'halt: done'"
            )
        state, symbol, write, move, after = words
        if move not in MOVES:
            raise MachineError(f"{source}, line {number}: the move is {move!r}; L, R or S is expected")
        for what, sign in (("read", symbol), ("write", write)):
            if len(sign) != 1:
                raise MachineError(
                    f"{source}, line {number}: {sign!r} to {what}; a symbol of one character is expected"
                )
        if (state, symbol) in rules:
            raise MachineError(
                f"{source}, line {number}: a second rule for state {state!r} and symbol {symbol!r}; the first is in "
                f"line {lines[state, symbol]}"
            )
        rules[state, symbol], lines[state, symbol] = Rule(write, MOVES[move], after), number
    if not rules:
        raise MachineError(f"{source}: no rule; lines such as 'STATE READ WRITE MOVE NEXT' are expected")
    blank = said.get("blank", "_")
    if "halt" not in said:
        raise MachineError(f"{source}: no halting state; a line such as 'halt: done' is expected")
    name = said.get("name", Path(source).stem)
    try:
        machine = TuringMachine(
            name=name,
            blank=blank,
            start=said.get("start", next(iter(rules))[0]),
            halt=tuple(said["halt"].split()),
            rules=_spelled_out(rules, blank, said.get("tape", "")),
            about=said.get("about", ""),
            example=said.get("tape", ""),
        )
        machine.begin(machine.example)
    except MachineError as error:
        raise MachineError(f"{source}: {str(error).removeprefix(f'{name}: ')}") from error
    return machine


def _take_field(said: dict[str, str], field: str, words: list[str], place: str) -> None:
    if field not in FIELDS:
        raise MachineError(f"{place}: " + unknown("field", field, FIELDS))
    if field in said:
        raise MachineError(f"{place}: a second {field!r}")
    if not words or (field in ("blank", "start", "tape") and len(words) > 1):
        raise MachineError(f"{place}: {field}: one word is expected, found {' '.join(words) or 'none'}")
    said[field] = " ".join(words)


def _spelled_out(rules: dict[tuple[str, str], Rule], blank: str, tape: str) -> dict[tuple[str, str], Rule]:
    """The rules with every `*` replaced by what it stands for."""
    named = [s for (_, symbol), rule in rules.items() for s in (symbol, rule.write)]
    symbols = [s for s in dict.fromkeys([blank, *named, *tape]) if s != ANY]
    found: dict[tuple[str, str], Rule] = {}
    for (state, symbol), rule in rules.items():
        for one in symbols if symbol == ANY else [symbol]:
            if symbol == ANY and (state, one) in rules:
                continue
            found[state, one] = replace(rule, write=one if rule.write == ANY else rule.write)
    return found
