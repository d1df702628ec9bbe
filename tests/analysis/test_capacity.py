"""Memory capacity: against networks whose capacity is known, and the wearing out that eq. 6.48 brings."""

import numpy as np
import pytest
import torch
from by_hand import linear
from torch import nn

from recurra.analysis import AnalysisError, memory_capacity, record
from recurra.cells import CATALOGUE
from recurra.nn import Recurrent


def delay_line(units: int, inputs: int = 1) -> Recurrent:
    """Each unit hands on its value: the last inputs are held as they were."""
    U = torch.diag(torch.ones(units - inputs, dtype=torch.float64), -inputs)
    layer = Recurrent(CATALOGUE["elman"](activation="identity"), inputs, units, dtype=torch.float64)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0").copy_(U)
        layer.get_parameter("weight_ih_l0").copy_(torch.eye(units, inputs))
    return layer


def test_a_delay_line_holds_as_many_inputs_as_it_has_units() -> None:
    found = memory_capacity(delay_line(7), steps=20, lags=12, rows=400)
    np.testing.assert_allclose(found.recalled[-1], [1] * 7 + [0] * 5, atol=0.02)
    np.testing.assert_allclose(found.recalled[-1, :7], 1, atol=1e-4)
    assert found.capacity[-1] == pytest.approx(7, abs=0.02)
    assert found.capacity[0] == pytest.approx(1, abs=1e-3), "after one step there is one input"
    assert found.steps[0] == 1
    assert found.kept > 0.99


def test_two_inputs_share_the_units() -> None:
    found = memory_capacity(delay_line(8, 2), steps=20, lags=12, rows=400)
    assert found.capacity[-1] == pytest.approx(4, abs=0.05)
    assert found.inputs == 2


def test_a_leaky_unit_by_the_formula() -> None:
    """Of h_t = a h_(t-1) + u_t the input of k steps ago has the share (1 - a²) a^(2k) of the variance."""
    a = 0.8
    layer = linear(torch.full((1, 1), a, dtype=torch.float64))
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").copy_(torch.tensor([[1.0, 0.0]]))
    found = memory_capacity(layer, steps=60, lags=10, rows=40_000)
    share = (1 - a * a) * a ** (2 * np.arange(10.0))
    np.testing.assert_allclose(found.recalled[-1], share / 2, atol=0.01)  # of two inputs one is never read
    assert found.size[-1] == pytest.approx(1 / np.sqrt(1 - a * a), rel=0.02)


def test_what_chance_reads_is_not_counted() -> None:
    """A unit that is the second input, and nothing else: of the first, and of all that is past, nothing is there."""
    layer = linear(torch.zeros(1, 1, dtype=torch.float64))
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").copy_(torch.tensor([[0.0, 1.0]]))
    found = memory_capacity(layer, steps=120, at=[120])
    assert found.recalled.shape == (1, 100)
    assert found.capacity[0] == pytest.approx(0.5, abs=0.05)


def test_adding_uses_the_capacity_up_and_gates_do_not() -> None:
    found = {}
    for cell in ("residual", "lstm", "gru"):
        torch.manual_seed(0)
        found[cell] = memory_capacity(Recurrent(cell, 1, 16), steps=200, rows=600)
    residual = found["residual"]
    assert residual.kept < 0.25
    assert "the capacity is used up" in residual.words
    assert residual.size[-1] > 20 * residual.size[2]
    assert residual.saturated[0] < 0.01
    assert residual.saturated[-1] > 0.8
    for cell in ("lstm", "gru"):
        assert found[cell].kept > 0.8
        assert "the capacity lasts" in found[cell].words
        assert found[cell].saturated[-1] < 0.1
        assert found[cell].capacity[-1] > 5 * residual.capacity[-1]


def test_noise_is_like_the_inputs_of_the_layer() -> None:
    """A unit that is far into saturation by the mean of its inputs reads little; by noise of mean 0, much."""
    layer = Recurrent("elman", 1, 4, dtype=torch.float64)
    x = 12 + 0.01 * torch.randn(30, 5, 1, dtype=torch.float64)
    alone, driven = memory_capacity(layer, steps=10, rows=400), memory_capacity(layer, x, steps=10, rows=400)
    assert driven.saturated[-1] > 0.5 > alone.saturated[-1]
    again = memory_capacity(record(layer, x), steps=10, rows=400)
    np.testing.assert_array_equal(again.recalled, driven.recalled)


def test_padding_is_no_input() -> None:
    layer, x = Recurrent("gru", 1, 4), torch.randn(9, 2, 1)
    x[4:, 1] = 1e6
    found = [
        memory_capacity(layer, x, options={"lengths": [9, 4]}, steps=5, rows=200),
        memory_capacity(layer, torch.cat([x[:, 0], x[:4, 1]]).unsqueeze(1), steps=5, rows=200),
    ]
    np.testing.assert_allclose(found[0].recalled, found[1].recalled, rtol=1e-6)


def test_layers_of_pytorch_stacks_and_the_forward_direction() -> None:
    found = memory_capacity(nn.LSTM(1, 4, 2, batch_first=True), depth=1, steps=8, rows=200)
    assert found.name == "LSTM, layer 2 of 2"
    assert found.units == 4
    both = nn.GRU(1, 4, bidirectional=True)
    alone = nn.GRU(1, 4)
    alone.load_state_dict({k: v for k, v in both.state_dict().items() if "reverse" not in k})
    found = [memory_capacity(layer, steps=8, rows=200).recalled for layer in (both, alone)]
    np.testing.assert_allclose(*found, rtol=1e-9)


@pytest.mark.parametrize(
    ("layer", "options", "text"),
    [
        (nn.GRU(1, 2), {"steps": 0}, "steps: a whole number above 0 is expected, not 0"),
        (nn.GRU(1, 2), {"rows": 2.5}, "rows: a whole number above 0 is expected, not 2.5"),
        (
            nn.GRU(1, 2),
            {"steps": 9, "at": [3, 10]},
            "at: whole numbers from 1 to 9 are expected, not 10",
        ),
        (nn.GRU(1, 9), {"rows": 35}, "rows: to read 9 units at least 36 sequences are expected, not 35"),
        (nn.GRU(1, 2), {"at": []}, "at: at least one is expected"),
        (nn.GRU(1, 2), {"at": [3, 2]}, r"at: rising numbers of steps are expected, not \[3, 2\]"),
        (nn.GRU(1, 2), {"at": 3}, "at: whole numbers from 1 to 300 are expected, in a list, not 3"),
        (nn.GRU(1, 2), {"seed": "x"}, "seed: a whole number from 0 to 18446744073709551615 is expected, not 'x'"),
        (nn.GRU(1, 2), {"rwos": 9}, "memory_capacity: unknown argument 'rwos'; did you mean 'rows'"),
        (Recurrent("gru", 1, 2, reverse=True), {}, "it runs backward only, so it holds no past inputs"),
        (nn.GRU(1, 2, 2, bidirectional=True), {}, "it reads layers that run backward, .* ask for depth=0"),
        (nn.Sequential(nn.GRU(1, 2)), {}, "x: what the model is called with is missing"),
    ],
)
def test_what_cannot_be_is_told(layer: nn.Module, options: dict, text: str) -> None:
    with pytest.raises(AnalysisError, match=text):
        memory_capacity(layer, **options)
