"""Associative memories: what is stored rests, energies fall, and the modern form is attention."""

import math
from typing import Any

import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor
from torch.nn import functional as F

from recurra.cells import elman
from recurra.nn import Attention, Hopfield, ModernHopfield, Recurrent

SIGNS = st.sampled_from([-1.0, 1.0])


def drawn(rows: int, units: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 2, (rows, units), generator=generator).double() * 2 - 1


@st.composite
def networks(draw: st.DrawFn) -> tuple[Hopfield, Tensor]:
    """Any symmetric network, and a state."""
    units = draw(st.integers(1, 8))
    half = draw(hnp.arrays(float, (units, units), elements=st.integers(-4, 4).map(float)))
    bias = draw(hnp.arrays(float, units, elements=st.integers(-3, 3).map(float)))
    W = np.tril(half, -1)
    state = draw(hnp.arrays(float, units, elements=SIGNS))
    return Hopfield(W + W.T, bias), torch.from_numpy(state)


def by_hand(memory: Hopfield, state: Tensor) -> float:
    """E as a double sum."""
    W, b, s = memory.weights.tolist(), memory.bias.tolist(), state.tolist()
    units = range(len(s))
    return -0.5 * sum(W[i][j] * s[i] * s[j] for i in units for j in units) - sum(b[i] * s[i] for i in units)


@given(networks())
def test_energies_are_the_double_sum(given_: tuple[Hopfield, Tensor]) -> None:
    memory, state = given_
    assert float(memory.energy(state)) == pytest.approx(by_hand(memory, state))


@given(networks(), st.integers(0, 100))
def test_one_after_the_other_the_energy_never_rises_and_all_comes_to_rest(
    given_: tuple[Hopfield, Tensor], seed: int
) -> None:
    memory, state = given_
    found = memory.recall(state, seed=seed)
    assert bool((found.energies.diff(dim=0) <= 1e-9).all())
    assert bool(found.rest)
    field = memory.weights @ found.states + memory.bias
    assert bool((field * found.states >= 0).all())


@given(networks())
def test_all_at_once_it_rests_or_goes_between_two_states(given_: tuple[Hopfield, Tensor]) -> None:
    memory, state = given_
    found = memory.recall(state, updates="synchronous", max_sweeps=60)
    once = memory.recall(found.states, updates="synchronous", max_sweeps=1).states
    twice = memory.recall(once, updates="synchronous", max_sweeps=1).states
    assert torch.equal(twice, found.states)
    assert bool(found.rest) == torch.equal(once, found.states)


@given(hnp.arrays(float, st.tuples(st.integers(1, 4), st.integers(2, 10)), elements=SIGNS))
def test_hebbs_rule_is_the_sum_of_products(patterns: np.ndarray) -> None:
    N = patterns.shape[1]
    W = Hopfield.store(patterns).weights.numpy()
    for i in range(N):
        for j in range(N):
            told = 0.0 if i == j else sum(p[i] * p[j] for p in patterns) / N
            assert W[i, j] == pytest.approx(told)


def test_few_patterns_are_found_again_from_damaged_ones() -> None:
    patterns = drawn(8, 200)
    probes = patterns.clone()
    probes[:, :40] *= -1
    for updates in ("asynchronous", "synchronous"):
        found = Hopfield.store(patterns).recall(probes, updates=updates)
        assert torch.equal(found.states, patterns)
        assert bool(found.rest.all())


def test_the_pseudo_inverse_keeps_what_hebbs_rule_mixes_up() -> None:
    """As many as half of the units, and alike: each has three quarters of its values in common with the first."""
    patterns = drawn(1, 60).repeat(30, 1)
    generator = torch.Generator().manual_seed(1)
    for row in patterns[1:]:
        row[torch.randperm(60, generator=generator)[:15]] *= -1
    assert torch.linalg.matrix_rank(patterns) == 30
    assert torch.equal(Hopfield.store(patterns, "pseudo-inverse").recall(patterns).states, patterns)
    mixed = Hopfield.store(patterns).recall(patterns).states
    assert int((mixed == patterns).all(1).sum()) <= 3


def test_all_at_once_it_is_a_fully_connected_recurrent_network() -> None:
    bias = torch.full((31,), 0.01)  # so that no unit is left undecided, where sign would make it 0
    memory, probes = Hopfield(Hopfield.store(drawn(4, 31)).weights, bias), drawn(5, 31, seed=2)
    layer = Recurrent(elman(activation=torch.sign), 1, 31, dtype=torch.float64)
    layer.load_state_dict(
        {
            "weight_ih_l0": torch.zeros(31, 1),
            "weight_hh_l0": memory.weights,
            "bias_l0": memory.bias,
        }
    )
    h, _ = layer(torch.zeros(3, 5, 1, dtype=torch.float64), probes.unsqueeze(0))
    for steps in (1, 2, 3):
        found = memory.recall(probes, updates="synchronous", max_sweeps=steps).states
        assert torch.equal(found, h[steps - 1])


def test_the_knee_lies_near_the_capacity_that_theory_gives() -> None:
    """0.138 N (Amit, Gutfreund & Sompolinsky 1985): well below it few units are wrong, well above it many."""
    wrong = {}
    for load in (0.08, 0.22):
        patterns = drawn(round(load * 400), 400, seed=3)
        found = Hopfield.store(patterns).recall(patterns).states
        wrong[load] = float((found != patterns).double().mean())
    assert wrong[0.08] < 0.005
    assert wrong[0.22] > 0.1


# --- the modern form --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("beta", [0.3, 1.0, 8.0])
def test_a_step_is_attention(beta: float) -> None:
    """PyTorch's, and our own in its kind `dot`: the state asks, the patterns are keys and values."""
    torch.manual_seed(0)
    patterns, states = torch.randn(7, 5, dtype=torch.float64), torch.randn(4, 5, dtype=torch.float64)
    found = ModernHopfield(patterns, beta).step(states)
    torch.testing.assert_close(found, F.scaled_dot_product_attention(states, patterns, patterns, scale=beta))
    attention = Attention("dot", 5, 5)
    memory = attention.memory(patterns.unsqueeze(1).expand(-1, 4, -1))
    context, _ = attention(beta * states, memory)
    torch.testing.assert_close(found, context.view(4, 5))


@given(
    hnp.arrays(float, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-3, 3)),
    hnp.arrays(float, 4, elements=st.floats(-3, 3)),
    st.floats(0.1, 10),
)
def test_the_modern_energy_never_rises_and_is_its_equation(
    patterns: np.ndarray, state: np.ndarray, beta: float
) -> None:
    memory = ModernHopfield(patterns, beta)
    found = memory.recall(state, max_sweeps=20)
    assert bool((found.energies.diff(dim=0) <= 1e-9).all())
    scores = math.log(sum(math.exp(beta * (p @ state)) for p in patterns))
    largest = max(float(p @ p) for p in patterns)
    told = -scores / beta + 0.5 * state @ state + math.log(len(patterns)) / beta + 0.5 * largest
    assert float(found.energies[0]) == pytest.approx(told, abs=1e-9)


def test_more_patterns_than_the_classical_network_holds() -> None:
    """Ten times as many as there are units, from damaged ones, in one step."""
    patterns = drawn(640, 64)
    probes = patterns.clone()
    probes[:, :6] *= -1
    found = ModernHopfield(patterns, beta=1.0).step(probes)
    assert torch.equal(found.sign(), patterns)


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        ([[1, -1, 1], [1, -1]], r"patterns: number 1 has 2 values, number 0 has 3; all are to have as many"),
        ([], r"patterns: a row for each is expected, \(P, N\), not \(0, 0\)"),
        ([[1, 0, 1]], r"patterns: the value at \(0, 1\) is 0; -1 or 1 is expected"),
        ([1, -1], r"patterns: number 0 is 1; a list of numbers is expected"),
        (np.ones(3), r"patterns: a row for each is expected, \(P, N\), not \(3,\)"),
        ([[1, float("nan")]], r"patterns: number 0 has values that are not finite"),
    ],
)
def test_patterns_that_cannot_be_stored(patterns: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Hopfield.store(patterns)


def test_what_else_cannot_be() -> None:
    memory = Hopfield.store([[1, -1, 1]])
    with pytest.raises(ValueError, match=r"unknown rule 'hebb'; did you mean 'hebbian'\?"):
        Hopfield.store([[1, -1]], "hebb")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown way of updating 'sync'"):
        memory.recall([[1, 1, 1]], updates="sync")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match=r"probes: the last dimension is to be the 3 units, not \(1, 2\)"):
        memory.recall([[1, 1]])
    with pytest.raises(ValueError, match=r"weights: W\[0, 1\] is 1, W\[1, 0\] 2; they are to be equal"):
        Hopfield([[0, 1], [2, 0]])
    with pytest.raises(ValueError, match="weights: unit 1 is connected with itself"):
        Hopfield([[0, 1], [1, 3]])
    with pytest.raises(ValueError, match="beta: a number above 0 is expected, not 0"):
        ModernHopfield([[1.0, 2.0]], 0)
    with pytest.raises(ValueError, match=r"states: the last dimension is to be the 2 numbers, not \(3,\)"):
        ModernHopfield([[1.0, 2.0]]).step([1, 2, 3])
