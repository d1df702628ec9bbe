"""docs/analysis.md and the scripts behind its figures and those of docs/results.md."""

import re
from pathlib import Path

import pytest
import torch

from pages import check_alike, examples
from recurra import analysis
from scripts import benchmark

CHECKOUT = Path(__file__).parents[2]
PAGE = (CHECKOUT / "docs" / "analysis.md").read_text("utf-8")


def test_the_example_prints_what_the_page_says() -> None:
    (example,) = examples("analysis.md")
    check_alike(example)


def test_every_instrument_is_in_the_reference() -> None:
    listed = re.findall(r"members: \[(.*)\]", PAGE)[0].split(", ")
    left_out = {"AnalysisError", "System", "Recording", "Part", "SpanSingularValues"}
    assert set(listed) == set(analysis.__all__) - left_out


def test_every_figure_is_there() -> None:
    for page in ("analysis.md", "results.md"):
        for link in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", (CHECKOUT / "docs" / page).read_text("utf-8")):
            drawing = (CHECKOUT / "docs" / link).read_text("utf-8")
            assert drawing.startswith("<?xml")
            assert "<text" in drawing


def test_the_script_of_results_measures_what_it_says(tmp_path: Path) -> None:
    flow = benchmark("flow")
    x, y = flow.sums(200, torch.Generator().manual_seed(0))
    assert x.shape == (flow.STEPS, 200, 2)
    assert torch.equal(x[: flow.STEPS // 2, :, 1].sum(0), torch.ones(200))
    assert torch.equal(x[flow.STEPS // 2 :, :, 1].sum(0), torch.ones(200))
    torch.testing.assert_close(y, (x[..., 0] * x[..., 1]).sum(0))
    found = {cell: [flow.run(cell, seed=0, updates=2, units=4)] for cell in flow.CELLS}
    for (run,) in found.values():
        assert len(run["before"].ratio) == flow.STEPS
        assert run["before"].ratio[0] == run["after"].ratio[0] == 1
        assert run["before"].error != run["after"].error
    rows = flow.table(found).splitlines()
    assert len(rows) == 2 + 4 + 2
    share = found["lstm"][0]["after"].ratio[100] / found["elman"][0]["after"].ratio[100]
    assert rows[-1] == f"| LSTM over SRN, after | {share:.2g} | |"
    flow.plot(found, tmp_path / "flow.svg")
    assert "after training" in (tmp_path / "flow.svg").read_text("utf-8")


def test_the_first_ratio_by_hand() -> None:
    """The gradient by the state 100 steps back, by autograd with the state given."""
    flow = benchmark("flow")
    torch.manual_seed(0)
    network = flow.Adder("elman", 4).double()
    x, y = flow.sums(1, torch.Generator().manual_seed(10**6))
    x, y = x.double(), y.double()
    states = [torch.zeros(1, 1, 4, dtype=torch.float64)]
    for x_t in x:
        states.append(network.layer(x_t.unsqueeze(0), states[-1])[1].h.detach())
    norms = {}
    for back in (0, 100):
        state = states[flow.STEPS - back].requires_grad_()
        h = network.layer(x[flow.STEPS - back :], state)[1].h if back else state
        norms[back] = torch.autograd.grad((network.out(h[0])[:, 0] - y).square().sum(), state)[0].norm().item()
    found = analysis.gradient_flow(network, x, loss=lambda said: (said - y).square().sum(), bound=False)
    assert found.median[100] == pytest.approx(norms[100] / norms[0], rel=1e-9)
