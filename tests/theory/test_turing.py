"""Theorem 6.2: the network that a Turing machine is compiled into takes the machine's steps, exactly."""

from collections import Counter
from fractions import Fraction
from itertools import islice

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from recurra.theory import (
    Configuration,
    EndlessError,
    MachineError,
    Rule,
    TuringMachine,
    compile_turing_machine,
    read,
    shipped,
)

MACHINES = shipped()
NETWORKS = {name: compile_turing_machine(machine) for name, machine in MACHINES.items()}
TAPES = {
    "increment": ["", "0", "1", "1011", "1" * 40, "10" * 30 + "1"],
    "palindrome": ["", "a", "abba", "abab", "aab" * 6 + "baa" * 6, "ab" * 20],
    "multiply": ["11x111=", "x=", "1x=", "x1=", "1111x11111=", "11", "1" * 9 + "x" + "1" * 9 + "="],
    "brackets": ["", "()", ")(", "(()())", "(" * 20 + ")" * 20, "()" * 30 + "("],
    "busy-beaver-2": [""],
    "busy-beaver-3": [""],
    "busy-beaver-4": ["", "1"],
}


def last(name: str, tape: str) -> Configuration:
    """What the network stands for when it halts."""
    return list(NETWORKS[name].run(tape))[-1]


@pytest.mark.parametrize("name", MACHINES)
def test_every_configuration_is_the_machines(name: str) -> None:
    steps = 0
    for tape in [*TAPES[name], MACHINES[name].example]:
        plain, ours = (list(one.run(tape)) for one in (MACHINES[name], NETWORKS[name]))
        assert ours == plain
        steps += len(plain) - 1
    assert steps > 5


def test_ten_thousand_steps() -> None:
    """Nothing is ever rounded, however long it runs: the numbers of this tape have more than a thousand bits."""
    tape = "1" * 9 + "x" + "1" * 11 + "=" + "1" * 300
    ours, plain = (islice(one.run(tape, limit=100_000), 10_001) for one in (NETWORKS["multiply"], MACHINES["multiply"]))
    assert sum(1 for pair in zip(ours, plain, strict=True) if pair[0] == pair[1]) == 10_001


@given(st.integers(0, 2**40))
def test_increment_adds_one(number: int) -> None:
    assert int(last("increment", f"{number:b}").tape(), 2) == number + 1


@given(st.text("ab", max_size=12))
def test_palindromes_are_those_that_python_finds(word: str) -> None:
    assert last("palindrome", word).state == ("accept" if word == word[::-1] else "reject")


@given(st.text("()", max_size=12))
def test_brackets_are_balanced_where_counting_says_so(word: str) -> None:
    depths = [word[: n + 1].count("(") - word[: n + 1].count(")") for n in range(len(word))]
    balanced = min(depths, default=0) >= 0 and (not depths or depths[-1] == 0)
    assert last("brackets", word).state == ("accept" if balanced else "reject")


@given(st.integers(0, 5), st.integers(0, 5))
def test_products_are_pythons(one: int, other: int) -> None:
    given_ = f"{'1' * one}x{'1' * other}="
    assert last("multiply", given_).tape() == given_ + "1" * (one * other)


@pytest.mark.parametrize(("states", "steps", "ones"), [(2, 6, 4), (3, 14, 6), (4, 107, 13)])
def test_busy_beavers_do_what_is_proven_of_them(states: int, steps: int, ones: int) -> None:
    """Rado 1962; Lin and Rado 1965 (whose most ones are written in 14 steps); Brady 1983."""
    name = f"busy-beaver-{states}"
    run = list(NETWORKS[name].run(""))
    assert len(MACHINES[name].working) == states
    assert len(run) - 1 == steps
    assert Counter(run[-1].tape())["1"] == ones


@st.composite
def machines(draw: st.DrawFn) -> TuringMachine:
    """Any machine: up to four states and four symbols, every rule drawn."""
    symbols, states = "_abc"[: draw(st.integers(1, 4))], ["A", "B", "C", "D"][: draw(st.integers(1, 4))]
    rule = st.builds(Rule, st.sampled_from(symbols), st.sampled_from(["L", "S", "R"]), st.sampled_from([*states, "H"]))
    return TuringMachine("any", "_", "A", ("H",), {(q, a): draw(rule) for q in states for a in symbols})


@settings(max_examples=150)
@given(machines(), st.data())
def test_any_machine_on_any_tape(machine: TuringMachine, data: st.DataObject) -> None:
    tape = data.draw(st.text(machine.symbols, max_size=8))
    head = data.draw(st.integers(-3, 10))
    network = compile_turing_machine(machine)
    now, h = machine.begin(tape, head), network.encode(machine.begin(tape, head))
    for _ in range(40):
        assert network.decode(h) == now
        assert h == network.encode(now)
        now, h = machine.advance(now), network.advance(network.advance(h))


def test_only_saturated_linear_units_with_rational_weights() -> None:
    """What runs is h_t = σ(U h_(t-1) + b): a product of the whole matrix, by hand, goes the same way."""
    network = NETWORKS["increment"]
    rows = [
        [network.columns[j].get(i, Fraction(0)) for j in range(network.hidden_size)] for i in range(len(network.units))
    ]
    h = network.encode(network.machine.begin("1011"))
    full = [h.get(i, Fraction(0)) for i in range(network.hidden_size)]
    for _ in range(16):
        z = [
            sum((w * v for w, v in zip(row, full, strict=True)), network.bias.get(i, Fraction(0)))
            for i, row in enumerate(rows)
        ]
        full = [min(Fraction(1), max(Fraction(0), value)) for value in z]
        h = network.advance(h)
        assert {i: v for i, v in enumerate(full) if v} == h
    assert network.decode(h).state == "done"


@pytest.mark.parametrize(("name", "tape"), [("increment", "1011"), ("brackets", "(())"), ("busy-beaver-4", "")])
def test_the_same_as_a_layer(name: str, tape: str) -> None:
    """In double precision, as long as a stack fits into it."""
    network = NETWORKS[name]
    layer, begin = network.layer()
    plain = list(MACHINES[name].run(tape))
    x = torch.zeros(2 * (len(plain) - 1), 1, 1, dtype=torch.float64)
    h, _ = layer(x, begin(plain[0]))
    for t, now in enumerate(plain[1:]):
        expected = begin(now)[0, 0]
        assert torch.equal(h[2 * t + 1, 0], expected), t


def test_one_that_does_not_halt() -> None:
    right = {("A", symbol): Rule(symbol, "R", "A") for symbol in "_1"}
    machine = TuringMachine("endless", "_", "A", ("H",), right)
    with pytest.raises(EndlessError, match=r"^endless: has not halted after 100 steps; it is in state 'A'\."):
        list(compile_turing_machine(machine).run("1", limit=100))


def test_units_that_stand_for_nothing() -> None:
    network = NETWORKS["increment"]
    with pytest.raises(MachineError, match="stand for 0 states"):
        network.decode({})
    h = network.encode(network.machine.begin("1"))
    h[network.units.index("right")] = Fraction(1, 8)  # between the numbers that stand for stacks
    with pytest.raises(MachineError, match="1/8 stands for no stack"):
        network.decode(h)


def test_read_takes_a_name_or_a_file() -> None:
    assert read("increment") == MACHINES["increment"]
