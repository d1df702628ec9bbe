"""That the compiled core is there, and that it is what runs where a layer says so."""

import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import VARIANTS, case, drawn_for, pair, results
from torch.nn.utils.rnn import pack_sequence

import recurra
from recurra.cells import CATALOGUE
from recurra.engine import kernel, layout, native
from recurra.nn import Recurrent


def test_the_core_is_there() -> None:
    """A checkout without it would pass every other test by running eagerly."""
    assert native.why_not() is None
    assert native.core().instruction_sets()[native.core().chosen()]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a kernel has run forward and backward, and the core itself at all."""
    counted: Counter[str] = Counter()

    def counting(word: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            counted[word] += 1
            return call(*args, **options)

        return count

    monkeypatch.setattr(kernel.Kernel, "forward", counting("forward", kernel.Kernel.forward))
    monkeypatch.setattr(kernel.Kernel, "backward", counting("backward", kernel.Kernel.backward))
    monkeypatch.setattr(layout.Laid, "run", counting("core", layout.Laid.run))
    return counted


@pytest.mark.parametrize("name", VARIANTS)
def test_a_layer_runs_once_forward_and_once_backward(name: str, runs: Counter[str]) -> None:
    ours, eager = pair(VARIANTS[name], case(T=5))
    results(eager, case(T=5), drawn_for(eager, case(T=5)))
    assert runs == {}
    results(ours, case(T=5), drawn_for(ours, case(T=5)))
    assert runs == {"forward": 1, "backward": 1, "core": 2}
    assert ours.choice.backend == "native"


def test_every_layer_and_direction_runs_in_the_core(runs: Counter[str]) -> None:
    at = case("lengths reset", T=5, num_layers=2, bidirectional=True, learn_initial_state=True, skip="highway")
    ours, _ = pair(CATALOGUE["lstm"], at)
    results(ours, at, drawn_for(ours, at))
    assert runs == {"forward": 4, "backward": 4, "core": 8}


@pytest.mark.parametrize("T", [3, 9, 50])
def test_steps_that_are_computed_again_are_so_once(T: int, runs: Counter[str]) -> None:
    """Forward in pieces of about √T steps; backward each of them again, and its derivative."""
    at = case(T=T, memory="recompute")
    ours, _ = pair(CATALOGUE["gru"], at)
    results(ours, at, drawn_for(ours, at))
    size = math.isqrt(T - 1) + 1
    pieces = -(-T // size)
    assert runs["backward"] == 1
    assert runs["core"] == 3 * pieces


@pytest.mark.parametrize("name", CATALOGUE)
def test_auto_chooses_the_core(name: str, runs: Counter[str]) -> None:
    layer = Recurrent(name, 3, 4)
    told = recurra.explain(layer)
    layer(torch.randn(5, 2, 3))
    assert (layer.choice.backend, told.backend, told.reason) == ("native", "native", layer.choice.reason)
    assert runs == {"forward": 1, "core": 1}


@pytest.mark.parametrize("name", ["integrator", "min_gru", "min_lstm", "linear_recurrence"])
def test_without_the_core_what_is_affine_runs_in_parallel(
    name: str, runs: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it was not built, and where it cannot run for now."""
    layer, x = Recurrent(name, 3, 4, zoneout=0.1), torch.randn(5, 2, 3)
    assert layer.choice.backend == "scan"
    assert layer.choice.reason.startswith("zoneout does not run in the compiled core, and cell ")
    layer(x)
    monkeypatch.setattr(native, "_loaded", lambda: None)
    layer = Recurrent(name, 3, 4)
    assert layer.choice.backend == "scan"
    layer(x)
    assert runs == {}


DROP_INS = {
    "RNN": lambda: recurra.RNN(3, 4),
    "RNN of relu": lambda: recurra.RNN(3, 4, nonlinearity="relu"),
    "LSTM": lambda: recurra.LSTM(3, 4),
    "LSTM without biases": lambda: recurra.LSTM(3, 4, bias=False),
    "LSTM, projected": lambda: recurra.LSTM(3, 4, proj_size=2),
    "GRU": lambda: recurra.GRU(3, 4),
}


@pytest.mark.parametrize("name", DROP_INS)
def test_a_drop_in_runs_in_the_core(name: str, runs: Counter[str]) -> None:
    layer = DROP_INS[name]()
    output, _ = layer(torch.randn(5, 2, 3))
    assert runs == {"forward": 1, "core": 1}
    output.sum().backward()
    assert runs == {"forward": 1, "backward": 1, "core": 2}
    assert recurra.explain(layer).backend == "native"


def test_packed_sequences_run_in_the_core(runs: Counter[str]) -> None:
    packed = pack_sequence([torch.randn(n, 3) for n in (2, 5, 1)], enforce_sorted=False)
    for layer in (Recurrent("gru", 3, 4, 2, bidirectional=True), recurra.GRU(3, 4, 2, bidirectional=True)):
        runs.clear()
        output, _ = layer(packed)
        output.data.sum().backward()
        assert runs == {"forward": 4, "backward": 4, "core": 8}


def test_nothing_runs_backward_where_nothing_has_a_gradient(runs: Counter[str]) -> None:
    layer = Recurrent("lstm", 3, 4).requires_grad_(False)
    output, _ = layer(torch.randn(5, 2, 3))
    assert not output.requires_grad
    with torch.no_grad():
        Recurrent("lstm", 3, 4)(torch.randn(5, 2, 3))
    assert runs == {"forward": 2, "core": 2}


@pytest.mark.parametrize("name", ["avx512", "avx2", "baseline"])
def test_every_instruction_set_that_runs_here_is_right(name: str) -> None:
    """In a process of its own, since the choice is made once."""
    if not native.core().instruction_sets().get(name):
        pytest.skip(f"{name} was not built, or this processor does not have it")
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import torch
from comparing import VARIANTS, case, check
from recurra.engine import native
assert native.core().chosen() == {name!r}
for one in ("lstm", "gru", "lstm_layer_norm", "slstm, 2 heads", "jordan, 3 outputs", "clockwork", "indrnn"):
    for dtype in (torch.float64, torch.float32):
        check(VARIANTS[one], case("mask reset", T=4, B=30, I=17, H=33, dtype=dtype))
        check(VARIANTS[one], case("lengths", T=5, B=5, H=7, dtype=dtype, memory="recompute", reverse=True))
"""
    environment = {**os.environ, "RECURRA_ISA": name}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
