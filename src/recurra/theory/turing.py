"""Theorem 6.2 as a compiler: from a Turing machine's table to the weights of a recurrent network that runs it.

Siegelmann and Sontag (1991, 1995) show that a fully connected recurrent network with rational weights and saturated
linear units computes all that a Turing machine does. (The textbook names the logistic function; the construction needs
the saturated linear one, whose 0 and 1 are reached.) Here it is built:

    h_t = σ(U h_(t-1) + b),   σ(x) = min(1, max(0, x))

The tape is two stacks, what stands left of the head and what stands from the head on, and each stack is one number.
With k symbols, the blank being number 0, a stack with the symbols a_1, a_2, … from its top on is

    q = Σ 2 a_i / B^i,   B the first power of 2 from 2k on,

so that the blanks without end at its bottom are zeros, and numbers whose tops differ lie apart by 1 / B at least. A
unit reads the top exactly: σ(B q - (2a - 1)) is 1 where a_1 ≥ a, and 0 elsewhere. Pushing a is (2a + q) / B, popping it
B q - 2a.

A step of the machine is two of the network. In the first one, sums: the state's units (one of them 1), the two stacks,
and units that read their tops. In the second one, rules: for each state and each symbol under the head (and, where the
head moves left, each symbol on top of the left stack) a unit with the new stack, shut unless all this is so: with n
conditions, σ(new + B (sum of the conditions - n)) is `new` where all hold, and 0 elsewhere. All weights are
rational, and so is all that the network ever holds: it is run with fractions, without any rounding.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.cells import elman
from recurra.nn import Recurrent
from recurra.theory.machine import Configuration, MachineError, TuringMachine

State = dict[int, Fraction]
"""What the units hold, those that are 0 left out."""

STEPS_PER_STEP = 2
"""Steps of the network for one of the machine."""

ONE, ZERO = Fraction(1), Fraction(0)


def saturated_linear(x: Tensor) -> Tensor:
    """σ(x) = min(1, max(0, x))."""
    return x.clamp(0.0, 1.0)


@dataclass(frozen=True, eq=False)
class TuringNetwork:
    """A fully connected network of saturated linear units that is a Turing machine.

    Attributes:
        machine: The machine.
        units: What each unit stands for.
        columns: U by columns: for each unit, the weight with which it enters each unit that it enters.
        bias: b, where it is not 0.
    """

    machine: TuringMachine
    units: tuple[str, ...]
    columns: tuple[Mapping[int, Fraction], ...]
    bias: Mapping[int, Fraction]

    @property
    def hidden_size(self) -> int:
        """Units."""
        return len(self.units)

    @property
    def weights(self) -> int:
        """Entries of U and b that are not 0."""
        return sum(len(column) for column in self.columns) + len(self.bias)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def encode(self, now: Configuration) -> State:
        """What the units hold where the machine is in this configuration."""
        base = _base(self.machine)
        sums = self._at
        h = {sums["state", now.state]: ONE}
        for side, top_first in (("left", now.left[::-1]), ("right", now.right)):
            q = ZERO
            for symbol in reversed(top_first):
                q = (2 * self._number[symbol] + q) / base
            if q:
                h[sums[side, ""]] = q
            top = self._number[top_first[0]] if top_first else 0
            h |= {sums[side, symbol]: ONE for symbol in self.machine.symbols[1 : top + 1]}
        return h

    def decode(self, h: Mapping[int, Fraction]) -> Configuration:
        """The configuration that the units stand for.

        Raises:
            MachineError: They stand for none.
        """
        sums = self._at
        states = [state for state in self.machine.states if h.get(sums["state", state])]
        if len(states) != 1 or h[sums["state", states[0]]] != 1:
            raise MachineError(f"{self.machine.name}: the units stand for {len(states)} states, not for one")
        left, right = (self._symbols(h.get(sums[side, ""], ZERO)) for side in ("left", "right"))
        return Configuration(states[0], tuple(reversed(left)), tuple(right))

    def advance(self, h: Mapping[int, Fraction]) -> State:
        """One step of the network, h_t of h_(t-1); only what is not 0 is ever multiplied."""
        columns, bias, scale = self._whole
        common = lcm(*(value.denominator for value in h.values()))
        z = {i: value * common for i, value in bias.items()}  # sums of whole numbers, over one denominator
        for j, value in h.items():
            whole = value.numerator * (common // value.denominator)
            for i, weight in columns[j]:
                z[i] = z.get(i, 0) + weight * whole
        one = common * scale
        return {i: ONE if value >= one else Fraction(value, one) for i, value in z.items() if value > 0}

    def run(self, tape: str, *, head: int = 0, limit: int = 10_000) -> Iterator[Configuration]:
        """What the network stands for before the first step of the machine, and after each, until it halts.

        Args:
            tape: Symbols, one character a cell.
            head: Which of them is under the head.
            limit: Steps of the machine, at most.

        Raises:
            MachineError: See `TuringMachine.begin`.
            EndlessError: It has not halted after so many steps.
        """
        machine = self.machine
        first = machine.begin(tape, head)
        h = self.encode(first)

        def advance(_: Configuration) -> Configuration:
            nonlocal h
            for _step in range(STEPS_PER_STEP):
                h = self.advance(h)
            return self.decode(h)

        return machine.until_halt(self.decode(h), advance, limit)

    # --- as a layer ---------------------------------------------------------------------------------------------------

    def dense(self) -> tuple[np.ndarray, np.ndarray]:
        """U, (H, H), and b, (H,), in double precision."""
        U, b = np.zeros((self.hidden_size, self.hidden_size)), np.zeros(self.hidden_size)
        for j, column in enumerate(self.columns):
            for i, weight in column.items():
                U[i, j] = float(weight)
        for i, value in self.bias.items():
            b[i] = float(value)
        return U, b

    def layer(self) -> tuple[Recurrent, Any]:
        """The same network as a `Recurrent` layer in double precision, which reads nothing (one input, W = 0).

        It is exact as long as both stacks, log2(B) bits a symbol, are numbers of 53 bits.

        Returns:
            The layer; a function from a configuration to the state, (1, 1, H), to begin with.
        """
        layer = Recurrent(elman(activation=saturated_linear), 1, self.hidden_size, dtype=torch.float64)
        U, b = self.dense()
        values = {"weight_ih_l0": np.zeros((len(b), 1)), "weight_hh_l0": U, "bias_l0": b}
        layer.load_state_dict({name: torch.from_numpy(value) for name, value in values.items()})

        def begin(now: Configuration) -> Tensor:
            h = torch.zeros(1, 1, self.hidden_size, dtype=torch.float64)
            for i, value in self.encode(now).items():
                h[..., i] = float(value)
            return h

        return layer, begin

    # --- what stands where --------------------------------------------------------------------------------------------

    @cached_property
    def _whole(self) -> tuple[list[list[tuple[int, int]]], dict[int, int], int]:
        """U by columns and b as whole numbers, and by how much they are too large."""
        weights = [w for column in self.columns for w in column.values()] + list(self.bias.values())
        scale = lcm(*(w.denominator for w in weights))
        columns = [[(i, int(w * scale)) for i, w in column.items()] for column in self.columns]
        return columns, {i: int(b * scale) for i, b in self.bias.items()}, scale

    @cached_property
    def _number(self) -> dict[str, int]:
        return {symbol: a for a, symbol in enumerate(self.machine.symbols)}

    @cached_property
    def _at(self) -> dict[tuple[str, str], int]:
        return {key: i for i, key in enumerate(_sums(self.machine))}

    def _symbols(self, q: Fraction) -> list[str]:
        """The symbols of a stack, from its top on."""
        symbols, base, found = self.machine.symbols, _base(self.machine), list[str]()
        n, d = q.numerator, q.denominator
        while n:
            digit, n = divmod(n * base, d)
            if digit % 2 or digit >= 2 * len(symbols):
                raise MachineError(f"{self.machine.name}: {q} stands for no stack")
            found.append(symbols[digit // 2])
        return found

    def __str__(self) -> str:
        machine = self.machine
        return (
            f"{machine.name}: {len(machine.states)} states, {len(machine.symbols)} symbols, {len(machine.rules)} rules "
            f"-> {self.hidden_size} units, {self.weights} weights, {STEPS_PER_STEP} steps for each of the machine"
        )


def compile_turing_machine(machine: TuringMachine) -> TuringNetwork:
    """The recurrent network that runs a Turing machine (theorem 6.2; Siegelmann & Sontag 1991).

    Args:
        machine: The machine; `recurra.theory.read` makes one of a file.

    Returns:
        The network, whose configuration equals the machine's after every two steps.

    Example:
        >>> from recurra.theory import read
        >>> network = compile_turing_machine(read("increment"))
        >>> *_, end = network.run("11")
        >>> end.shown("_")
        '[1]00'
    """
    return _Compiler(machine).network()


def _base(machine: TuringMachine) -> int:
    """B: a power of 2, so that a stack that is not too high is a number of floating point as well."""
    return 1 << (2 * len(machine.symbols) - 1).bit_length()


def _sums(machine: TuringMachine) -> list[tuple[str, str]]:
    """The units that hold a configuration: a state each, and for both stacks the number and what reads its top."""
    tops = [(side, symbol) for side in ("left", "right") for symbol in ("", *machine.symbols[1:])]
    return [*(("state", state) for state in machine.states), *tops]


Terms = dict[int, Fraction]


class _Compiler:
    """Builds the rows of U and b."""

    def __init__(self, machine: TuringMachine) -> None:
        self.machine, self.base = machine, _base(machine)
        self.number = {symbol: a for a, symbol in enumerate(machine.symbols)}
        keys = _sums(machine)
        self.at = {key: i for i, key in enumerate(keys)}
        self.names = [" ".join(filter(None, key)) for key in keys]
        self.rows: list[Terms] = [{} for _ in keys]
        self.bias: Terms = {}
        self.next: dict[str, list[int]] = {state: [] for state in machine.states}
        self.stacks: dict[str, list[int]] = {"left": [], "right": []}

    def network(self) -> TuringNetwork:
        for state in self.machine.states:
            self._rules_of(state)
        self._sums_of_rules()
        columns: list[dict[int, Fraction]] = [{} for _ in self.rows]
        for i, row in enumerate(self.rows):
            for j, weight in row.items():
                columns[j][i] = weight
        return TuringNetwork(self.machine, tuple(self.names), tuple(columns), self.bias)

    def _rules_of(self, state: str) -> None:
        """The units of the second step for one state."""
        q = {self.at["state", state]: ONE}
        left, right = ({self.at[side, ""]: ONE} for side in ("left", "right"))
        if state in self.machine.halt:  # where it has halted nothing changes
            self.next[state].append(self._unit(f"{state} stays", {}, ONE, [(q, ZERO)]))
            self.stacks["left"].append(self._unit(f"{state} left", left, ZERO, [(q, ZERO)]))
            self.stacks["right"].append(self._unit(f"{state} right", right, ZERO, [(q, ZERO)]))
            return
        for symbol in self.machine.symbols:
            rule = self.machine.rules[state, symbol]
            a, written, base = self.number[symbol], 2 * self.number[rule.write], self.base
            name, when = f"{state} {symbol}", [(q, ZERO), self._is_top("right", symbol)]
            self.next[rule.next].append(self._unit(name, {}, ONE, when))
            rest = (_times(right, base), Fraction(-2 * a))  # the right stack without its top
            if rule.move == "R":
                pushed = (_times(left, ONE / base), Fraction(written, base))
                self.stacks["left"].append(self._unit(f"{name} left", *pushed, when))
                self.stacks["right"].append(self._unit(f"{name} right", *rest, when))
                continue
            replaced = (_times(rest[0], ONE / base), (rest[1] + written) / base)
            if rule.move == "S":
                self.stacks["left"].append(self._unit(f"{name} left", left, ZERO, when))
                self.stacks["right"].append(self._unit(f"{name} right", *replaced, when))
                continue
            for other in self.machine.symbols:  # what comes under the head from the left
                c, both = 2 * self.number[other], [*when, self._is_top("left", other)]
                popped = (_times(left, base), Fraction(-c))
                pushed = (_times(replaced[0], ONE / base), (replaced[1] + c) / base)
                self.stacks["left"].append(self._unit(f"{name} {other} left", *popped, both))
                self.stacks["right"].append(self._unit(f"{name} {other} right", *pushed, both))

    def _is_top(self, side: str, symbol: str) -> tuple[Terms, Fraction]:
        """1 where the symbol is on top of a stack, else 0: whether it is this one or a later, less whether a later."""
        a, symbols = self.number[symbol], self.machine.symbols
        terms = {self.at[side, symbol]: ONE} if a else {}
        if a + 1 < len(symbols):
            terms[self.at[side, symbols[a + 1]]] = -ONE
        return terms, ZERO if a else ONE

    def _unit(self, name: str, terms: Terms, constant: Fraction, when: Iterable[tuple[Terms, Fraction]]) -> int:
        """A unit with a value that is shut unless all conditions are 1."""
        shut = Fraction(self.base)  # more than any such value can be
        row, bias = dict(terms), constant
        for condition, offset in when:
            for j, weight in condition.items():
                row[j] = row.get(j, ZERO) + shut * weight
            bias += shut * (offset - 1)
        self.names.append(name)
        self.rows.append({j: weight for j, weight in row.items() if weight})
        if bias:
            self.bias[len(self.rows) - 1] = bias
        return len(self.rows) - 1

    def _sums_of_rules(self) -> None:
        """The units of the first step: of all rules, one is open."""
        for state, units in self.next.items():
            self.rows[self.at["state", state]] = dict.fromkeys(units, ONE)
        for side, units in self.stacks.items():
            self.rows[self.at[side, ""]] = dict.fromkeys(units, ONE)
            for a, symbol in enumerate(self.machine.symbols[1:], 1):
                i = self.at[side, symbol]
                self.rows[i] = dict.fromkeys(units, Fraction(self.base))
                self.bias[i] = Fraction(1 - 2 * a)


def _times(terms: Terms, factor: Fraction | int) -> Terms:
    return {j: weight * factor for j, weight in terms.items()}
