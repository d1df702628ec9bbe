"""docs/delay.md, and the script behind its figure."""

import re

import torch

from pages import DOCS, check_examples
from scripts import benchmark

PAGE = (DOCS / "delay.md").read_text("utf-8")
delay = benchmark("delay")


def test_every_example_runs_and_prints_what_the_page_says() -> None:
    assert len(check_examples("delay.md")) == 7


def test_the_sign_stands_at_the_beginning_and_nowhere_else() -> None:
    x, positive = delay.made(5, 400, torch.Generator().manual_seed(0))
    assert x.shape == (6, 400, 1)
    assert torch.equal(x[0, :, 0] > 0, positive.bool())
    assert abs(float(positive.mean()) - 0.5) < 0.1
    assert abs(float((x[1:, :, 0] * (2 * positive - 1)).mean())) < 0.02


def test_a_tdnn_tells_what_it_reads_and_no_more() -> None:
    assert delay.Recall("TDNN").layers.receptive_field == 13
    assert delay.accuracy("TDNN", 12, 0, updates=60) > 0.95
    assert abs(delay.accuracy("TDNN", 13, 0, updates=60) - 0.5) < 0.05
    assert delay.accuracy("elman", 13, 0, updates=150) > 0.95


def test_the_table_has_each_network_with_its_parameters() -> None:
    (counts,) = re.findall(r"^\| parameters \| (.*) \|$", PAGE, re.MULTILINE)
    made = [sum(p.numel() for p in delay.Recall(kind).parameters()) for kind in delay.NETWORKS]
    assert counts.replace(",", "").split(" | ") == [str(count) for count in made]
