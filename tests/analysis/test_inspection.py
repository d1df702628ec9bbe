"""All instruments at once; and what every result can do."""

import dataclasses
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from recurra import analysis
from recurra.analysis.result import Result
from recurra.cells import CATALOGUE
from recurra.nn import Recurrent


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def quick(model: nn.Module, x: Any, **how: Any) -> analysis.Inspection:
    return analysis.inspect(model, x, ends=4, **how)


@pytest.fixture(scope="module")
def found() -> analysis.Inspection:
    torch.manual_seed(0)
    return analysis.inspect(nn.LSTM(3, 6, 2, bidirectional=True), torch.randn(12, 4, 3))


def results(found: analysis.Inspection) -> Iterator[Result]:
    yield found
    for part in found.parts:
        yield from (part, part.flow, part.jacobians, part.spans, part.gates, *part.gates.activities)
        if part.lyapunov is not None:
            yield part.lyapunov
    if found.capacity is not None:
        yield found.capacity


def test_each_layer_and_direction_is_examined(found: analysis.Inspection) -> None:
    expected = [f"LSTM, layer {k} of 2, {d}" for k in (1, 2) for d in ("forward", "backward")]
    assert [part.name for part in found.parts] == expected
    for part in found.parts:
        assert (part.cell, part.units, part.rows, part.steps) == ("lstm", 12, 4, 12)
        assert part.name in str(found)
        assert part.flow.words in " ".join(found.words)
    assert found.capacity is not None
    assert found.capacity.name == "LSTM, layer 1 of 2, forward"


def test_the_parts_are_what_each_instrument_gives_alone(found: analysis.Inspection) -> None:
    torch.manual_seed(0)
    recording = analysis.record(nn.LSTM(3, 6, 2, bidirectional=True), torch.randn(12, 4, 3))
    where: Any = {"depth": 0, "direction": "backward"}
    part = found.parts[1]
    np.testing.assert_array_equal(part.flow.median, analysis.gradient_flow(recording, **where).median)
    assert part.flow.bound == analysis.gradient_flow(recording, **where).bound
    np.testing.assert_array_equal(part.jacobians.singular, analysis.state_jacobians(recording, **where).singular)
    assert part.lyapunov is not None
    np.testing.assert_array_equal(part.lyapunov.exponents, analysis.lyapunov_exponents(recording, **where).exponents)
    np.testing.assert_array_equal(part.gates["f"].mean, analysis.gates(recording, **where)["f"].mean)


def test_every_result_becomes_json_and_draws_itself(found: analysis.Inspection) -> None:
    for result in results(found):
        told = json.loads(result.to_json())
        assert set(told) >= {f.name for f in dataclasses.fields(result) if f.metadata.get("json", True)}  # type: ignore
        axes = Figure().subplots()
        assert result.plot(axes) is axes
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert axes.lines
        assert str(result)
    told = json.loads(found.to_json())
    flow = told["parts"][0]["flow"]
    assert flow["median"] == found.parts[0].flow.median.tolist()
    assert (flow["memory"], flow["verdict"]) == (found.parts[0].flow.memory, "vanishes")
    assert told["words"] == found.words
    assert "matrices" not in told["parts"][0]["jacobians"]


def test_figures_without_axes_are_new_ones() -> None:
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    flow = analysis.gradient_flow(nn.GRU(2, 3), torch.randn(5, 2, 2))
    axes = flow.plot()
    assert axes.figure in [pyplot.figure(n) for n in pyplot.get_fignums()]
    pyplot.close("all")


def test_what_json_cannot_say_is_none() -> None:
    layer = Recurrent("irnn", 2, 3)
    with torch.no_grad():
        layer.get_parameter("bias_l0").fill_(-100)
    told = json.loads(analysis.inspect(layer, torch.randn(8, 2, 2)).to_json())
    assert told["parts"][0]["lyapunov"]["exponents"] == [None] * 3
    assert any("3 of 3 ReLU units of h are dead" in line for line in told["words"])


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell(name: str) -> None:
    inspected = quick(Recurrent(name, 3, 4), torch.randn(8, 3, 3), loss=lambda returned: returned[0][-1].sum())
    told = inspected.to_json()
    assert "NaN" not in told
    (part,) = inspected.parts
    assert part.flow.source == "loss"
    assert part.flow.pairs[0] == 3
    for result in results(inspected):
        result.plot(Figure().subplots())


def test_a_single_step_has_no_way_back() -> None:
    inspected = quick(nn.GRU(2, 3), torch.randn(1, 2, 2))
    (part,) = inspected.parts
    assert part.lyapunov is None
    assert part.flow.words == "A sequence of one step has no way back."
    assert (part.flow.verdict, part.flow.factor) == (None, None)
    assert "multiplies" not in str(part.flow)
    assert part.flow.bound == 0


def test_wide_and_long_are_examined_in_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.analysis.inspection.NUMBERS", 64 * 2 * 16)
    inspected = quick(nn.GRU(2, 4), torch.randn(100, 6, 2), options=None, lengths=[9, 100, 20, 100, 30, 5])
    (part,) = inspected.parts
    assert part.jacobians.matrices.shape == (64, 2, 4, 4)
    assert np.isfinite(part.jacobians.matrices).all(), "the longest two rows"
    assert part.jacobians.steps[[0, -1]].tolist() == [0, 99]
    assert part.rows == 6


def test_a_backward_layer_has_no_memory_of_the_past() -> None:
    assert quick(Recurrent("gru", 2, 3, reverse=True), torch.randn(5, 2, 2)).capacity is None


def test_saturated_and_stuck_units_are_told() -> None:
    layer = Recurrent("gru", 2, 3)
    with torch.no_grad():
        layer.get_parameter("bias_l0").copy_(torch.tensor([9.0] * 3 + [-9.0] * 3 + [9.0] * 3))
    words = " ".join(quick(layer, torch.randn(6, 2, 2)).words)
    assert "The gate r is open 100 % of the time." in words
    assert "The gate z is shut 100 % of the time." in words
    assert "The tanh of n is at an end of its range 100 % of the time" in words
    assert math.isfinite(len(words))
