"""docs/external-memory.md, and the script of its figures."""

from pathlib import Path

import numpy as np
import pytest

from pages import check_examples
from scripts import benchmark


def test_the_example_prints_what_the_page_says() -> None:
    assert len(check_examples("external-memory.md")) == 1


def test_the_script_compares_networks_trained_alike(tmp_path: Path) -> None:
    script = benchmark("copying")
    few = {"data.options.training": 32, "data.options.validation": 4, "data.options.test": 4, "data.options.length": 2}
    rows = script.measured(1, tmp_path, (1, 3), few, scored=5)
    assert [row["network"] for row in rows] == list(script.NETWORKS)
    sizes = {row["network"]: row["parameters"] for row in rows}
    assert sizes["LSTM, 76 units"] == pytest.approx(sizes["NTM"], rel=0.05)
    for row in rows:
        assert np.shape(row["errors"]) == (1, 2)
        assert 0 < np.min(row["errors"]) < np.max(row["errors"]) < 1
    run = script.trained("NTM", 0, tmp_path, few)
    shown = script.looked(run, 3)
    assert [(name, values.shape) for name, values in shown] == [
        *(("given", (7, 9)), ("said", (7, 8))),
        *(("written to", (7, 64)), ("read from", (7, 64))),
    ]
    script.plots(rows, shown, tmp_path)
    assert (tmp_path / "copying.svg").read_text("utf-8").count("longest learnt") >= 1
    assert (tmp_path / "copying-heads.svg").is_file()
