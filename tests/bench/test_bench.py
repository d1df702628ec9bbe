"""`recurra bench`, at sizes that take no time: who takes part, what is checked before, what is told."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from recurra.bench import check, machine, memory
from recurra.bench.cells import find
from recurra.bench.peers import OURS, PEERS, eager, ours, torch_nn
from recurra.bench.problem import Contestant, NotHere, Problem, draw
from recurra.bench.run import Settings, bench
from recurra.bench.shapes import Shape, parse
from recurra.bench.suites import DROP_INS, SUITES, WITHOUT_TWIN
from recurra.cli import main
from recurra.errors import CellError, RecipeError, RunError

TINY = "B3T5I4H6"

Whole = tuple[tuple[str, ...], dict[str, Any], Path, str]
"""The cells that were timed, the JSON, the plot and what was printed."""


class Heard:
    """Notes what a listener is told."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.notes: list[str] = []

    def began(self, what: str, number: int, of: int) -> None:
        assert 1 <= number <= of
        self.begun.append(what)

    def told(self, text: str) -> None:
        self.notes.append(text)


def settings(*suites: str, **changed: Any) -> Settings:
    chosen = {"shapes": [TINY], "peers": ["torch.nn"], "threads": 1, "repeats": 1, **changed}
    return Settings(suites=suites, **chosen)


@pytest.fixture(
    scope="module",
    params=[
        ("gru_reset_after", "made_up"),
        pytest.param((*DROP_INS, *WITHOUT_TWIN), marks=pytest.mark.exhaustive),
    ],
    ids=["some", "all"],
)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """What the command writes, in a process of its own: JAX, once it runs, is not to meet other tests' forks."""
    folder = tmp_path_factory.mktemp("bench")
    words = ["train", "cells", "infer", "--shapes", "B2T3I4H5L2", "--threads", "1", "--repeats", "2"]
    words += ["--cells", ",".join(request.param), "--json", "bench.json", "--plot", "bench.svg"]
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-m", "recurra", "bench", *words],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return request.param, json.loads((folder / "bench.json").read_text("utf-8")), folder / "bench.svg", done.stdout


def test_every_peer_takes_part_in_what_it_can_do(whole: Whole) -> None:
    cells, written, _, _ = whole
    found = {(f["suite"], f["cell"], f["against"]) for f in written["figures"]}
    expected = {(suite, cell, "jax") for suite in ("train", "cells") for cell in cells}
    expected |= {("cells", cell, "eager") for cell in cells}
    twins = set(cells) & set(DROP_INS)
    expected |= {("train", cell, peer) for cell in twins for peer in ("torch.nn", "keras")}
    expected |= {("infer", cell, peer) for cell in twins for peer in ("torch.nn", "onnxruntime", "the better of both")}
    assert found == expected


def test_the_other_suites_have_their_figures() -> None:
    heard = Heard()
    report = bench(settings("ragged", "stream", "length", "lone", cells=["gru_reset_after"], peers=None), heard)
    assert report.faults == []
    ragged, stream, length, lone = (
        [figure for figure in report.figures if figure.suite == name] for name in ("ragged", "stream", "length", "lone")
    )
    assert [figure.against for figure in ragged] == ["torch.nn", "ours, padded"]
    assert [figure.against for figure in (*stream, *length, *lone)] == ["torch.nn", "half the steps", "torch.nn"]
    for figure in (ragged[1], length[0]):
        assert figure.ratio.value == figure.samples[figure.ours][0] / figure.samples[figure.theirs][0]
    assert (length[0].ours, length[0].theirs) == ("T = 10", "T = 5")


def test_the_times_of_a_stream_are_those_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.bench.suites.interleaved", lambda runs, effort: {name: [5.0] for name in runs})
    (figure,) = bench(settings("stream", cells=["lstm"]), Heard()).figures
    assert figure.samples == {"ours": [1.0], "torch.nn": [1.0]}


def test_the_better_of_two_is_the_quicker(whole: Whole) -> None:
    infer = [f for f in whole[1]["figures"] if (f["suite"], f["cell"]) == ("infer", "gru_reset_after")]
    of = {f["against"]: f["ratio"]["value"] for f in infer}
    assert of["the better of both"] == min(of["torch.nn"], of["onnxruntime"])


def test_a_figure_knows_its_goal_where_it_has_one() -> None:
    report = bench(
        settings("train", cells=["lstm", "min_gru"], shapes=["small", TINY], peers=["torch.nn", "eager"]), Heard()
    )
    asked = {(f.cell, str(f.shape), f.against): f.goal.least for f in report.figures if f.goal is not None}
    assert asked == {("lstm", "small", "torch.nn"): 1.0}
    assert len(report.figures) == 6
    (mean,) = report.means
    assert (mean.goal.mean, mean.count, mean.whole) == (1.4, 1, 6)
    assert json.loads(report.to_json())["means"][0]["mean"] == pytest.approx(mean.value)


def test_the_json_has_every_sample_and_says_where_it_was_measured(whole: Whole) -> None:
    found = whole[1]
    assert found["format"] == 1
    assert found["faults"] == []
    assert found["settings"]["threads"] == 1
    assert {"cpu", "processors", "instruction_set", "OMP_WAIT_POLICY"} <= set(found["machine"])
    assert torch.__version__.startswith(found["versions"]["torch"].partition("+")[0])
    assert {"jax", "keras", "onnxruntime", "python"} <= set(found["versions"])
    for figure in found["figures"]:
        (ours, theirs) = (figure["samples"][figure[who]] for who in ("ours", "theirs"))
        assert len(ours) == len(theirs) == 2
        assert min(*ours, *theirs) > 0
        above, below = (
            (ours, theirs) if figure["suite"] == "length" or "padded" in figure["against"] else (theirs, ours)
        )
        assert figure["ratio"]["value"] == pytest.approx(sum(above) / sum(below))
        assert figure["backend"] in ("native", "eager")


def test_the_table_and_the_plot_show_every_figure(whole: Whole) -> None:
    _, found, plot, printed = whole
    for name in {figure["suite"] for figure in found["figures"]}:
        assert f"{name}: {SUITES[name].summary}" in printed
    names = "|".join(re.escape(name) for name in (*PEERS, "the better of both"))
    rows = re.findall(rf"[µm]s  (?:{names}) +\d[\d.]* [µm]s ", printed)
    assert len(rows) == len(found["figures"])
    drawn = plot.read_text("utf-8")
    assert drawn.startswith("<?xml")
    assert drawn.count("clip-path") > len(found["figures"])


# --- peers in this process --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [TINY, "B2T3I4H5L2"])
@pytest.mark.parametrize(("kind", "ragged"), [("train", False), ("train", True), ("infer", False), ("stream", False)])
@pytest.mark.parametrize("cell", [*DROP_INS, *WITHOUT_TWIN])
def test_ours_and_pytorchs_give_what_the_equations_give(cell: str, kind: Any, ragged: bool, shape: str) -> None:
    problem = draw(find(cell), parse(shape), kind, ragged=ragged)
    reference = eager.make(replace(problem, kind="infer" if kind == "stream" else kind))
    expected = reference.results(reference.run())
    if kind == "train":
        assert set(expected) == {"output", "x", *problem.weights}
        assert all(v.any() for v in expected.values())
    assert check.against(OURS.make(problem), expected) is None
    if cell in WITHOUT_TWIN or (kind == "stream" and problem.shape.layers == 2):
        with pytest.raises(NotHere):
            torch_nn.make(problem)
    else:
        assert check.against(torch_nn.make(problem), expected) is None


def test_lengths_are_drawn_from_half_to_all_and_padding_has_no_gradient() -> None:
    problem = draw(find("lstm"), Shape(64, 9, 2, 3), "train", ragged=True)
    assert problem.lengths is not None
    assert (int(problem.lengths.min()), int(problem.lengths.max())) == (5, 9)
    assert all(bool(problem.dy[n:, b].eq(0).all()) for b, n in enumerate(problem.lengths.tolist()))


def test_drawing_leaves_the_random_numbers_of_others_alone() -> None:
    before = torch.get_rng_state()
    draw(find("gru"), parse(TINY), "train")
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # of PyTorch's compiler about PyTorch
def test_the_compiled_loop_gives_what_the_equations_give() -> None:
    problem = draw(find("made_up"), parse(TINY), "train")
    reference = eager.make(problem)
    assert check.against(PEERS["compile"].make(problem), reference.results(reference.run())) is None


def test_the_loop_is_compiled_for_few_steps_only() -> None:
    with pytest.raises(NotHere, match="51 of them"):
        PEERS["compile"].make(draw(find("elman"), Shape(1, 51, 1, 1), "train"))


# --- what is checked before -------------------------------------------------------------------------------------------

Break = Callable[[torch.Tensor], torch.Tensor]


def broken(make: Callable[[Problem], Contestant], name: str, change: Break) -> Callable[[Problem], Contestant]:
    """As `make`, with one result changed."""

    def made(problem: Problem) -> Contestant:
        contestant = make(problem)
        return replace(contestant, results=lambda found: _changed(contestant.results(found), name, change))

    return made


def _changed(results: check.Results, name: str, change: Break) -> check.Results:
    return {**results, name: change(results[name])}


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("output", lambda v: v + 0.01 * v.abs().max(), "output is off by 0.01 of its largest entry"),
        ("weight_hh_l0", lambda v: v * float("nan"), "weight_hh_l0 is not a number"),
        ("x", lambda v: v[1:], r"x: \(5, 3, 4\) is expected, not \(4, 3, 4\)"),
    ],
)
def test_nothing_is_timed_where_ours_is_wrong(
    name: str, change: Break, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "make", broken(ours.make, name, change))
    heard = Heard()
    report = bench(settings("train", cells=["lstm"]), heard)
    assert [fault.who for fault in report.faults] == ["ours"]
    assert re.search(said, str(report.faults[0]))
    assert report.figures == []
    assert not [what for what in heard.begun if what.startswith("timing")]


def test_a_result_that_is_not_given_is_a_fault() -> None:
    one, two = {"output": torch.ones(1), "x": torch.ones(1)}, {"output": torch.ones(1)}
    assert check.difference(one, two) == check.difference(two, one) == "only one of the two gives x"


def test_the_command_ends_with_1_and_prints_no_speed_where_ours_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ours, "make", broken(ours.make, "output", lambda v: 2 * v))
    words = ["--cells", "gru_reset_after,elman", "--shapes", TINY, "--threads", "1", "--peers", "torch.nn"]
    assert main(["bench", "train", *words]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.findall(r"^error: train, (\w+), B3T5I4H6: ours: output is off by", err, re.MULTILINE) == [
        "gru_reset_after",
        "elman",
    ]


def test_what_was_found_is_kept_when_it_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made, calls = torch_nn.make, []

    def interrupted(problem: Problem) -> Contestant:
        calls.append(problem)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return made(problem)

    monkeypatch.setattr(torch_nn, "make", interrupted)
    words = ["--cells", "elman,lstm", "--shapes", TINY, "--threads", "1", "--peers", "torch.nn", "--repeats", "1"]
    assert main(["bench", "train", *words, "--json", str(tmp_path / "bench.json")]) == 130
    out, err = capsys.readouterr()
    assert "elman" in out
    assert err.endswith("stopped; this is what was found by then\n")
    written = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert written["stopped"] is True
    assert [figure["cell"] for figure in written["figures"]] == ["elman"]


def test_a_peer_that_computes_something_else_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_nn, "make", broken(torch_nn.make, "x", lambda v: -v))
    report = bench(settings("train", cells=["lstm"], peers=["torch.nn", "eager"]), Heard())
    assert [fault.who for fault in report.faults] == ["torch.nn"]
    assert [figure.against for figure in report.figures] == ["eager"]


def test_a_peer_that_is_not_installed_is_told_of_once_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "jax" else found(name))
    heard = Heard()
    report = bench(settings("cells", cells=["gru", "mgu"], peers=["jax", "eager"]), heard)
    assert [note for note in heard.notes if "jax" in note] == [
        "jax is left out: jax not installed; pip install 'recurra[bench]'"
    ]
    assert [(figure.cell, figure.against) for figure in report.figures] == [("gru", "eager"), ("mgu", "eager")]


@pytest.mark.parametrize(("load", "count"), [(0.4, 0), (2.0, 1)])
def test_a_busy_machine_is_told_of(load: float, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load", lambda: load)
    heard = Heard()
    bench(settings("lone", cells=["elman"]), heard)
    assert len([note for note in heard.notes if "was not idle" in note]) == count


def test_a_peer_without_the_cell_is_told_of(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from recurra import cell\nfrom recurra.math import tanh\n\n"
        '@cell(state="h", gates="h")\ndef mine(z, s):\n    return tanh(z.h)\n',
        "utf-8",
    )
    heard = Heard()
    report = bench(settings("train", cells=[f"{own}:mine"], peers=["torch.nn", "eager"]), heard)
    assert [figure.against for figure in report.figures] == ["eager"]
    assert "torch.nn is left out of train" in heard.notes[-1]


# --- memory and peak --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(memory.why_not() is not None, reason="a process's peak is read as Linux has it")
def test_memory_is_that_of_what_a_step_keeps() -> None:
    """The eager loop keeps more than ten arrays of (T, B, H), and at any rate less than a hundred."""
    shape = Shape(16, 200, 4, 128)
    array = 4 * shape.T * shape.B * shape.H
    assert 10 < memory.measured("eager", "lstm", shape, 1) / array < 100


@pytest.mark.skipif(memory.why_not() is not None, reason="a process's peak is read as Linux has it")
def test_what_a_step_returns_does_not_count_as_memory_that_it_needs() -> None:
    wide = Shape(16, 200, 2048, 4)  # the gradient by x is by far the largest array
    assert 0 < memory.measured("eager", "elman", wide, 1) < 0.5 * 4 * wide.T * wide.B * wide.I


def test_a_process_that_fails_is_told_of() -> None:
    with pytest.raises(RunError, match=r"memory of eager, no_cell.*unknown cell 'no_cell'"):
        memory.measured("eager", "no_cell", Shape(1, 1, 1, 1), 1)


def test_the_share_of_the_peak_counts_the_operations_of_the_recurrence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.bench.suites.MATRIX", 256)
    shape = parse("B16T7I9H64L2")  # what it is made of is one input and one layer
    report = bench(settings("peak", cells=["gru_reset_after"], shapes=[shape.sizes]), Heard())
    assert [figure.against for figure in report.figures] == ["forward", "forward and backward"]
    for passes, figure in enumerate(report.figures, 1):
        (own,), (product,) = figure.samples[figure.ours], figure.samples["torch.mm"]
        flops = passes * 2 * 7 * 16 * 64 * 3 * 64
        assert figure.ratio.value == pytest.approx(flops / own / (2 * 256**3 / product))


# --- words ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "unknown suite 'trian'; did you mean 'train'?"),
        (["train", "--peers", "torhc.nn"], "unknown peer 'torhc.nn'; did you mean 'torch.nn'?"),
        (["train", "--cells", "lsmt"], "unknown cell 'lsmt'; did you mean 'lstm'?"),
        (["train", "--shapes", "smal"], "unknown shape 'smal'; did you mean 'small'?"),
        (["train", "--threads", "0"], "--threads: a whole number from 1 to"),
        (["train", "--threads", "1000000"], "--threads: a whole number from 1 to"),
        (["train", "--repeats", "0"], "--repeats: a whole number above 0 is expected, not 0"),
        (["train", "--seconds", "nan"], "--seconds: a number above 0 is expected, not nan"),
        (["train", "--plot", "bench.txt"], "--plot: bench.txt: a name that ends with .png, .svg, .pdf is expected"),
        (["train", "--json", "no/bench.json"], "there is no folder no"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bench", "--threads", "1", *words]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


def test_what_stands_there_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bench.json").write_text("mine", "utf-8")
    assert main(["bench", "train", "--json", "bench.json"]) == 2
    assert "exists already; --force" in capsys.readouterr().err
    assert Path("bench.json").read_text("utf-8") == "mine"


def test_a_plain_function_is_no_cell_to_be_timed(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text("def f(x, state):\n    return state\n", "utf-8")
    with pytest.raises(CellError, match=r"a cell declared with recurra\.cell is expected"):
        find(f"{tmp_path / 'f.py'}:f")
    with pytest.raises(RecipeError):
        bench(settings("train", shapes=["rows?"]), Heard())


def test_what_can_be_asked_for_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--list"]) == 0
    listed = capsys.readouterr().out
    assert {*SUITES, *PEERS, "rows", "wordlm"} <= set(listed.split())


@pytest.mark.parametrize(("words", "policy"), [(["bench", "--list"], None), (["recipes"], "PASSIVE")])
def test_waiting_threads_are_left_as_the_peers_users_have_them(
    words: list[str], policy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_WAIT_POLICY", "")  # so that it is put back
    monkeypatch.delenv("OMP_WAIT_POLICY")
    assert main(words) == 0
    assert os.environ.get("OMP_WAIT_POLICY") == policy
