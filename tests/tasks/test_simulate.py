"""The task simulate: its records, its networks beside loops in NumPy, and runs from a file to simulated outputs."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from recurra.data.system_reader import SystemReader
from recurra.data.systems import SystemSettings
from recurra.errors import DataError, RecipeError, RunError
from recurra.run import recipe as recipes
from recurra.run.api import resume
from recurra.run.compare import compare
from recurra.run.inspect import inspect
from recurra.run.sections.simulate import autocorrelation
from recurra.tasks.simulate import fit
from recurra.tasks.simulator import Simulator, SimulatorSettings, free_run, least_squares
from stopped import check_same_weights, stopped_after

KINDS = ("state_space", "recurrent", "narx", "tdnn")
TINY = {
    **{"model.warmup": 6, "model.hidden_size": 5, "model.encoder": [4], "data.window": 30, "train.samples": 40},
    **{"train.batch_size": 8},
}

DATA = {key: value for key, value in TINY.items() if not key.startswith("model.")}


def system(steps: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """y_t = 0.6 y_(t-1) - 0.2 y_(t-2) + tanh(u_(t-1)) + 0.3 u_t, and what a second output makes of it."""
    rng = np.random.default_rng(seed)
    u, y = rng.normal(size=steps), np.zeros(steps)
    for t in range(2, steps):
        y[t] = 0.6 * y[t - 1] - 0.2 * y[t - 2] + np.tanh(u[t - 1]) + 0.3 * u[t]
    return u, 5 + 3 * y


def table(path: Path, steps: int = 200, seed: int = 0, **more: Any) -> Path:
    u, y = system(steps, seed)
    pl.DataFrame({"u": u, "y": y} | more).write_csv(path)
    return path


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(5)


def parts(source: Any, **settings: Any) -> Any:
    return SystemReader().parts(source, "simulate", SystemSettings(**settings))


# --- records ----------------------------------------------------------------------------------------------------------


def test_parts_are_cut_in_time_and_windows_lie_within_the_training_part(tmp_path: Path) -> None:
    u, y = system(200)
    found = parts(table(tmp_path / "a.csv"), window=30, stride=7, validation_fraction=0.2, test_fraction=0.1)
    for part, first, stop in (("train", 0, 140), ("validation", 140, 180), ("test", 180, 200)):
        ((a, b),) = found.named[part].records()
        np.testing.assert_allclose(a[:, 0], u[first:stop])
        np.testing.assert_allclose(b[:, 0], y[first:stop])
    starts = [int(first) for first, _ in found.train.places]
    assert starts == [*range(0, 111, 7), 110]
    assert set(found.train.lengths.tolist()) == {30}
    np.testing.assert_allclose(found.train.stretch(2)[0][:, 0].numpy(), u[14:44])
    assert found.schema.inputs + found.schema.outputs == ["u", "y"]
    assert "u taken as input, y as output" in found.warnings[0].replace("'", "")


def test_columns_rows_and_ids_tell_records_apart(tmp_path: Path) -> None:
    u, y = system(90)
    more = {"uv": u[::-1], "yv": y[::-1], "run": ["a"] * 50 + ["b"] * 40}
    path = table(tmp_path / "a.csv", 90, **more)
    by_columns = parts(path, inputs="u", outputs="y", test_inputs="uv", test_outputs="yv", validation_fraction=0)
    np.testing.assert_allclose(by_columns.test.records()[0][1][:, 0], y[::-1])
    assert by_columns.validation is None
    rows = {"rows": [(40, 90)], "validation_rows": [(0, 10), (10, 25)], "test_rows": [(25, 40)]}
    by_rows = parts(path, inputs="u", outputs="y", **rows)
    assert [len(part) for part in (by_rows.validation, by_rows.test)] == [2, 1]
    np.testing.assert_allclose(by_rows.validation.records()[1][0][:, 0], u[10:25])
    by_id = parts(path, inputs="u", outputs="y", id="run", window=0, validation_fraction=0.1, test_fraction=0.1)
    assert by_id.train.lengths.tolist() == [40, 32]
    assert by_id.test.ids == ["a", "b"]
    np.testing.assert_allclose(by_id.test.records()[1][0][:, 0], u[86:90])


def test_a_folder_of_files_and_arrays_are_records_too(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    table(folder / "one.csv", 60)
    table(folder / "two.csv", 50, 1)
    found = parts(folder, window=0, validation_fraction=0.1, test_fraction=0)
    assert (found.train.lengths.tolist(), found.train.ids) == ([54, 45], ["one", "two"])
    records = [system(60), system(50, 1)]
    arrays = ([u for u, _ in records], [torch.from_numpy(y) for _, y in records])
    same = parts(arrays, window=0, validation_fraction=0.1, test_fraction=0)
    torch.testing.assert_close(same.train.outputs, found.train.outputs)
    np.savez(tmp_path / "a.npz", u=records[0][0], y=records[0][1])
    alone = parts(tmp_path / "a.npz", window=0, validation_fraction=0, test_fraction=0)
    np.testing.assert_allclose(alone.train.records()[0][1][:, 0], records[0][1])
    frame = parts(pl.DataFrame({"in": records[0][0], "out": records[0][1]}), validation_fraction=0, test_fraction=0)
    torch.testing.assert_close(frame.train.outputs, alone.train.outputs)


def test_the_benchmarks_are_read_as_they_are(data_folder: Path) -> None:
    tanks = parts(None, **recipes.load("tanks").data.model_dump())
    assert len(tanks.test.inputs) == 1024
    assert len(tanks.train.inputs) + len(tanks.validation.inputs) == 1024
    with (data_folder / "cascaded_tanks" / "dataBenchmark.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["uVal"]]
    assert tanks.test.outputs[:, 0].tolist() == [float(row["yVal"]) for row in rows]
    (first, second), (between,) = (part.records() for part in (tanks.train, tanks.validation))
    both = np.concatenate([record[1][:, 0] for record in (first, between, second)])
    assert both.tolist() == [float(row["yEst"]) for row in rows]
    silverbox = parts(None, **recipes.load("silverbox").data.model_dump())
    assert [len(part.inputs) for part in silverbox.named.values()] == [78140, 8690, 40580]
    assert float(silverbox.test.outputs[0, 0]) == 0.0093978


@pytest.mark.parametrize(
    ("lines", "settings", "text"),
    [
        ("u,y\n1,2\n2,\n3,4\n", {}, r"a.csv, line 3: output 'y' is missing \(1 such\)"),
        ("u,y\n1,2\nnan,3\n3,4\n", {}, r"a.csv, line 3: input 'u' is missing"),
        ("u,y\n1,2\nx,3\n3,4\n", {"inputs": "u", "outputs": "y"}, "line 3.*'x'"),
        ("u,y\n1,7\n2,7\n3,7\n4,7\n", {}, "output 'y' is 7 at every step of the training part; there is nothing"),
        ("u,y\n", {}, "a.csv"),
        ("a,b,c\n1,2,3\n2,3,4\n", {}, r"which columns .* is not told by their names: a, b, c"),
        ("u,y\n1,2\n2,3\n", {"inputs": "uu"}, "data.inputs names a column 'uu' that is not there"),
        ("u,y\n1,2\n2,3\n", {"outputs": "z"}, "data.outputs names a column 'z' that is not there"),
        ("u,y\n1,2\n2,3\n", {"rows": [(0, 3)]}, r"data.rows: \[0, 3\] does not lie within the 2 rows"),
        ("u,y\n1,2\n2,3\n", {"test_rows": [(1, 1)]}, r"data.test_rows: \[1, 1\] does not lie within"),
        ("u,y\n1,2\n2,3\n3,1\n", {"test_fraction": 0.3}, "has 3 steps, too few for a test part"),
        ("u,y\n1,2\n2,3\n3,1\n", {"validation_fraction": 0.7}, "has 3 steps, of which validation and test part take"),
        ("u,y\n1,2\n", {}, "has 1 step; too few to learn from"),
        ("u,y\non,2\noff,3\n", {}, "column 'u' holds 'on', which is no number"),
        ("u,y\n1,2\n2,3\n", {"inputs": ["u", "U"], "outputs": "y"}, "data.inputs: the column 'u' is named twice"),
        ("u,y\n1,2\n2,3\n", {"inputs": "u", "outputs": ["y", "y"]}, "data.outputs: the column 'y' is named twice"),
        ("u,y\n1,2\n2,3\n", {"inputs": ["u", "y"], "outputs": "y"}, "the column 'y' is named in both"),
        (
            "u,y\n1,2\n2,3\n3,4\n4,5\n",
            {"rows": [(0, 3)], "test_rows": [(2, 4)]},
            r"data.test_rows: \[2, 4\] shares the rows 2 to 2 with data.rows;",
        ),
        (
            "u,y\n1,2\n2,3\n3,4\n4,5\n",
            {"validation_rows": [(1, 3)]},
            r"data.validation_rows: \[1, 3\] shares the rows 1 to 2 with data.rows \(all, for data.rows is left out\)",
        ),
        (
            "r,t,u,y\na,0,1,2\na,1,2,3\nb,0,1,2\nb,3,2,3\n",
            {"id": "r", "time": "t"},
            "record 'b': from row to row are 3, in .*record 'a' 1; all records",
        ),
        ("u,y\n1,2\n2,3\n", {"validation_fraction": 0.6, "test_fraction": 0.5}, "leave nothing to train on"),
        (
            "u,y\n1,2\n2,3\n",
            {"inputs": "u", "outputs": "y", "test_inputs": ["u", "y"]},
            "data.test_inputs: 2 columns, data.inputs are 1",
        ),
        ("t,u,y\n0,1,2\n1,2,3\n3,3,4\n4,3,4\n", {"time": "t"}, r"line 4: column 't': 3 comes 2 after 1, .*\(1 such\)"),
        ("t,u,y\n0,1,2\nq,2,3\n", {"time": "t"}, "line 3: column 't': 'q' is no time"),
        ("u,y\n1,2\n2,3\n", {"format": "tabel"}, "data.format: unknown format 'tabel'; did you mean 'table'"),
    ],
)
def test_records_that_cannot_be_used_are_told(lines: str, settings: dict[str, Any], text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(lines)
    with pytest.raises(DataError, match=text):
        parts(tmp_path / "a.csv", **{"validation_fraction": 0, "test_fraction": 0} | settings)


def test_columns_that_nothing_is_read_of_are_told(tmp_path: Path) -> None:
    roles = {"inputs": "u", "outputs": "y"}
    time = [0.5 * i for i in range(40)]
    plain = parts(table(tmp_path / "a.csv", 40, time=time), **roles).warnings
    assert plain[0].startswith(f"{tmp_path / 'a.csv'}: nothing is read of time; data.time names a column of times")
    gap = parts(table(tmp_path / "b.csv", 40, time=[*time[:20], *(t + 0.5 for t in time[20:])]), **roles).warnings
    assert "b.csv, line 22: column 'time': 10.5 comes 1 after 9.5" in gap[1]
    mixed = parts(table(tmp_path / "c.csv", 40, run=["a", "b"] * 20), **roles).warnings
    assert "column 'run' holds 2 different words, and is called as one that tells records apart" in mixed[1]
    assert not parts(table(tmp_path / "d.csv", 40, run=["a", "b"] * 20), id="run", **roles, window=0).warnings


def test_what_is_no_record_in_a_folder_of_records_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    folder.mkdir()
    for name in ("one.csv", "two.csv"):
        table(folder / name, 60)
    (folder / "notes.txt").write_text("taken on\n")
    with pytest.raises(DataError, match=r"records: its tables are records of a system, .*: notes.txt\. Expected"):
        parts(folder)
    run = recurra.train("simulate", table(tmp_path / "system.csv"), settings=TINY)
    with pytest.raises(DataError, match="its tables are records of a system"):
        run.predict(folder)


def test_archives_hold_whole_records(tmp_path: Path) -> None:
    u, y = system(60)
    np.savez(tmp_path / "short.npz", u=u, y=y[:-3])
    with pytest.raises(DataError, match=r"short.npz: 60 steps of inputs, 57 of outputs; as many are expected"):
        parts(tmp_path / "short.npz")
    np.savez(tmp_path / "complex.npz", u=u + 0j, y=y)
    with pytest.raises(DataError, match=r"complex.npz: u: holds complex numbers; real ones are expected"):
        parts(tmp_path / "complex.npz")
    np.savez(tmp_path / "several.npz", u=u.reshape(2, 30, 1), y=y.reshape(2, 30, 1))
    found = parts(tmp_path / "several.npz", window=0, validation_fraction=0, test_fraction=0).train
    np.testing.assert_array_equal(found.records()[1][1][:, 0], y[30:])


def test_records_of_another_step_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "a.csv", t=[0.1 * i for i in range(200)])
    roles = {"data.inputs": "u", "data.outputs": "y", "data.time": "t"}
    run = recurra.train("simulate", path, settings=TINY | roles)
    assert run.schema.step == pytest.approx(0.1)
    other = table(tmp_path / "b.csv", t=[0.2 * i for i in range(200)])
    with pytest.raises(DataError, match=r"b.csv: from row to row are 0.2, in the training data 0.1; .*: resample"):
        run.predict(other)
    assert len(run.predict(table(tmp_path / "c.csv", t=[7 + 0.1 * i for i in range(200)])).outputs) == 194
    told = parts(path, inputs="u", outputs="y", time="t", period=3.0, window=0)
    assert "column 't' rises by 0.1 a row, and data.period says 3 s" in told.warnings[-1]
    assert told.schema.period == 3.0


def test_a_record_that_ends_within_the_warm_up_is_refused(tmp_path: Path) -> None:
    run = recurra.train("simulate", table(tmp_path / "system.csv"), settings=TINY)
    u, y = system(40)
    for ask in (run.predict, run.evaluate):
        with pytest.raises(DataError, match=r"it has 6 steps, and model.warmup takes the first 6 to set the state, so"):
            ask((u[:6], y[:6]))
        with pytest.raises(DataError, match=r"record 1 has 3 steps, and model.warmup"):
            ask(([u, u[:3]], [y, y[:3]]))
    assert run.predict((u[:7], y[:7])).outputs.shape == (1, 1)
    with pytest.raises(DataError, match=r"6 steps of a record, and model.warmup takes the first 6 to set the state"):
        inspect(run.path, (u[:6], y[:6]))
    short = table(tmp_path / "short.csv", 5)
    for part in ("validation", "test"):
        given: Any = {part: short}
        with pytest.raises(DataError, match=f"{part} part: it has 5 steps, and model.warmup takes the first 6"):
            recurra.train("simulate", tmp_path / "system.csv", settings=TINY, out=part, **given)
        assert not (tmp_path / part / "summary.json").exists()


@pytest.mark.parametrize("size", [1e-20, 1e20])
def test_the_size_of_numbers_does_not_matter(size: float, tmp_path: Path) -> None:
    u, y = system(200)
    plain = recurra.train("simulate", (u, y), settings=TINY, out="plain").summary
    sized = recurra.train("simulate", (u / size, y * size), settings=TINY, out="sized").summary
    assert sized["test"]["rmse"] == pytest.approx(plain["test"]["rmse"] * size, rel=1e-3)
    for name in ("linear", "mean"):
        assert sized["baselines"][name]["rmse"] == pytest.approx(plain["baselines"][name]["rmse"] * size, rel=1e-6)


def test_times_give_the_period(tmp_path: Path) -> None:
    dates = [f"2024-01-01 00:00:{second:02}" for second in range(0, 40, 2)]
    path = table(tmp_path / "a.csv", 20, time=dates)
    assert parts(path, time="time").schema.period == 2.0
    assert parts(table(tmp_path / "b.csv", 20, t=[0.1 * i for i in range(20)]), time="t").schema.period == 0.1
    assert parts(path).schema.period is None


def test_a_record_shorter_than_a_window_is_told(tmp_path: Path) -> None:
    found = parts(table(tmp_path / "a.csv", 90), window=100)
    assert found.train.lengths.tolist() == [63]
    assert "1 of 1 training records is shorter than data.window, 100, and a window each" in found.warnings[-1]


def test_a_run_in_double_precision_says_the_same_when_it_is_loaded(tmp_path: Path) -> None:
    settings = TINY | {"train.precision": "64-true", "model.kind": "recurrent", "model.cell": "lstm"}
    run = recurra.train("simulate", table(tmp_path / "system.csv"), settings=settings)
    u, y = (values[160:] for values in system(200))
    again = recurra.load(run.path)
    assert again.evaluate((u, y))["metrics"]["rmse"] == pytest.approx(run.summary["test"]["rmse"], rel=1e-12)


def test_arrays_that_do_not_fit_are_told() -> None:
    u, y = system(40)
    for given, text in (
        ((u, y[:-1]), "40 steps of inputs, 39 of outputs"),
        (([u, u], [y]), "2 records of inputs, 1 of outputs"),
        (u, "has inputs alone; training takes a pair"),
        ((["a"], y), "u: numbers are expected"),
    ):
        with pytest.raises(DataError, match=text):
            parts(given)


# --- networks ---------------------------------------------------------------------------------------------------------


def network(kind: str, **settings: Any) -> Simulator:
    given: dict[str, Any] = {"kind": kind, "hidden_size": 5, "warmup": 7, "encoder_steps": 4, "encoder": [6]}
    if kind == "tdnn":
        given["delays"] = [3]
    found = Simulator(SimulatorSettings(**given | settings), 2, 3).double().eval()
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        found.input_mean.fill_(0.3)
        found.output_deviation.fill_(2.0)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_free_run_reads_the_first_outputs_alone(kind: str) -> None:
    n, made = 7, network(kind, members=2)
    u, y = torch.randn(25, 3, 2, dtype=torch.float64), torch.randn(25, 3, 3, dtype=torch.float64)
    said, _ = made(u, y)
    assert said.shape == (2, 18, 3, 3)
    assert (said[0] - said[1]).abs().max() > 1e-3
    other = y.clone()
    other[n:] = torch.nan
    torch.testing.assert_close(made(u, other)[0], said)
    other[n - 1] += 1
    assert torch.equal(made(u, other)[0], said) == (kind == "tdnn")
    later = u.clone()
    later[20:] += 1
    torch.testing.assert_close(made(later, y)[0][:, : 20 - n], said[:, : 20 - n])
    assert not torch.equal(made(later, y)[0][:, 20 - n :], said[:, 20 - n :])


@pytest.mark.parametrize("kind", ["state_space", "recurrent", "narx"])
def test_one_step_ahead_is_a_free_run_of_one_step_from_each_place(kind: str) -> None:
    n, made = 7, network(kind)
    u, y = torch.randn(19, 2, 2, dtype=torch.float64), torch.randn(19, 2, 3, dtype=torch.float64)
    (ahead,) = made.said(u, y, ahead=True)
    for t in range(n, 19):
        (free,) = made.said(u[t - n : t + 1], y[t - n : t + 1], ahead=False)
        torch.testing.assert_close(ahead[t - n], free[0])


def test_a_state_space_is_its_equation() -> None:
    made = network("state_space", state_size=2)
    weights = {name.removeprefix("members.0."): v.detach().numpy() for name, v in made.named_parameters()}
    u, y = np.random.default_rng(0).normal(size=(12, 2)), np.random.default_rng(1).normal(size=(12, 3))
    said = made(torch.from_numpy(u).unsqueeze(1), torch.from_numpy(y).unsqueeze(1))[0][0, :, 0].detach().numpy()
    x, z = u - 0.3, y / 2
    seen = np.hstack([x[3:7], z[3:7]]).ravel()
    hidden = np.tanh(weights["encoder.weight"] @ seen + weights["encoder.bias"])
    h = weights["bridge.map.weight"] @ np.concatenate([seen, hidden]) + weights["bridge.map.bias"]
    W, U, b, V = (weights[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias", "W_hg"))
    for t in range(7, 12):
        h = h + V @ np.tanh(W @ x[t] + U @ h + b)
        np.testing.assert_allclose(said[t - 7], weights["head.weight"] @ h + weights["head.bias"], atol=1e-12)


def test_outputs_that_are_states_stay_within_their_limits() -> None:
    made = Simulator(SimulatorSettings(hidden_size=5, state_size=3, warmup=4, encoder=[], limits=True), 2, 1).double()
    rng = np.random.default_rng(0)
    u, y = rng.normal(size=(30, 2)), 7 + 3 * rng.uniform(-1, 1, size=(30, 1))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(3)
    made.scale_from(u, y)
    said = made(torch.from_numpy(u).unsqueeze(1), torch.from_numpy(y).unsqueeze(1))[0][0, :, 0, 0].detach().numpy()
    x, low, high = (u - u.mean(0)) / u.std(0), y.min(), y.max()
    z = (y - (low + high) / 2) / ((high - low) / 2)
    weights = {name.removeprefix("members.0."): v.detach().numpy() for name, v in made.named_parameters()}
    h = weights["bridge.map.weight"] @ np.hstack([x[:4], z[:4]]).ravel() + weights["bridge.map.bias"]
    h[0] = z[3, 0]
    W, U, b, V = (weights[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias", "W_hg"))
    for t in range(4, 30):
        h = h + V @ np.tanh(W @ x[t] + U @ h + b)
        h = np.clip(h, -1, 1)
        assert said[t - 4] == pytest.approx(h[0], abs=1e-6)  # the scales are of single precision
    assert np.isclose(abs(said), 1).any()
    assert (abs(said) < 0.9).sum() > 1


def test_least_squares_find_a_linear_system_exactly() -> None:
    rng = np.random.default_rng(0)
    A, B = np.array([[0.5, 0.2], [-0.3, 0.4]]), np.array([[1.0], [0.5]])
    records = []
    for steps in (40, 9, 2):
        u, y = rng.normal(size=(steps, 1)), np.zeros((steps, 2))
        for t in range(1, steps):
            y[t] = A @ y[t - 1] + B @ u[t - 1] + [0.1, -0.2]
        records.append((u, y))
    model = least_squares(records, 1, 1)
    np.testing.assert_allclose(model.weight_y.detach().numpy(), A, atol=1e-12)
    np.testing.assert_allclose(model.weight_x.detach().numpy(), np.hstack([np.zeros((2, 1)), B]), atol=1e-12)
    u, y = records[0]
    np.testing.assert_allclose(free_run(model, u, y, 5), y[5:], atol=1e-10)
    np.testing.assert_allclose(free_run(model, u, y, 5, ahead=True), y[5:], atol=1e-10)


def test_fit_and_autocorrelation_are_their_definitions() -> None:
    rng = np.random.default_rng(0)
    y = rng.normal(size=(50, 2))
    assert fit(y, y) == 1.0
    assert fit(y, np.broadcast_to(y.mean(0), y.shape)) == pytest.approx(0.0)
    found = autocorrelation(y[:, 0], 10)
    about = y[:, 0] - y[:, 0].mean()
    np.testing.assert_allclose(found, [np.sum(about[k:] * about[: 50 - k]) / np.sum(about**2) for k in range(11)])
    assert len(autocorrelation(y[:4, 0], 10)) == 4


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_from_a_table_to_simulated_outputs(kind: str, tmp_path: Path) -> None:
    path = table(tmp_path / "system.csv", 300)
    run = recurra.train("simulate", path, out=kind, settings=TINY | {"model.kind": kind})
    scores = run.summary["test"]
    assert {"rmse", "fit", "mae", "one_step_rmse"} == set(scores)
    assert set(run.summary["baselines"]) == {"linear", "mean"}
    (u, y), n = (a[240:] for a in system(300)), 6
    said = run.predict((u, y))
    assert said.outputs.shape == (54, 1)
    assert scores["rmse"] == pytest.approx(float(np.sqrt(np.mean((said.outputs[:, 0] - y[n:]) ** 2))), rel=1e-5)
    assert run.evaluate((u, y))["metrics"]["rmse"] == pytest.approx(scores["rmse"], rel=1e-6)
    rows = pl.read_csv(run.path / "test_predictions.csv")
    assert rows["step"].to_list() == list(range(n, 60))
    np.testing.assert_allclose(rows["target"], y[n:])
    np.testing.assert_allclose(rows["prediction"], said.outputs[:, 0], rtol=1e-5, atol=1e-5)
    assert "Measured and simulated" in run.report.read_text("utf-8")
    if kind in ("narx", "tdnn"):
        with pytest.raises(RunError, match="and has no recurrence to look into"):
            inspect(run.path)
    else:
        assert inspect(run.path).found.parts


def test_outputs_that_are_not_known_are_done_without(tmp_path: Path) -> None:
    run = recurra.train("simulate", table(tmp_path / "system.csv"), settings=TINY | {"model.kind": "narx"})
    u, y = system(40, 9)
    known = run.predict((u, y))
    begun = y.copy()
    begun[8:] = np.nan
    some = run.predict((u, begun))
    np.testing.assert_allclose(some.outputs, known.outputs, rtol=1e-6)
    assert (some.targets, some.ahead) == (None, None)
    assert "outputs are known for the first 8 of 40 steps" in some.warnings[0]
    alone = run.predict(u)
    assert alone.outputs.shape == (40, 1)
    assert alone.starts.tolist() == [0]
    assert "as if the system had stood still before its first step" in alone.warnings[0]
    pl.DataFrame({"u": u}).write_csv(tmp_path / "inputs.csv")
    np.testing.assert_allclose(run.predict(tmp_path / "inputs.csv").outputs, alone.outputs, rtol=1e-6)
    assert [row["step"] for row in run.rows(alone)] == list(range(40))
    begun[20] = 1.0
    with pytest.raises(DataError, match="outputs are known again, or in part, behind a step without"):
        run.predict((u, begun))
    with pytest.raises(DataError, match="output 'y' is missing"):
        run.evaluate((u, begun))
    with pytest.raises(DataError, match="the column 'y' of the training data is missing"):
        run.evaluate(tmp_path / "inputs.csv")
    with pytest.raises(DataError, match="has no outputs"):
        run.evaluate(u)
    pl.DataFrame({"v": u, "y": y}).write_csv(tmp_path / "other.csv")
    with pytest.raises(DataError, match="the column 'u' of the training data is missing"):
        run.predict(tmp_path / "other.csv")


def test_several_records_are_simulated_each_by_itself(tmp_path: Path) -> None:
    run = recurra.train("simulate", table(tmp_path / "system.csv"), settings=TINY)
    records = [system(steps, seed) for seed, steps in enumerate((40, 25, 7, 30, 26))]
    together = run.predict(([u for u, _ in records], [y for _, y in records]))
    for i, (u, y) in enumerate(records):
        np.testing.assert_allclose(together.outputs[together.rows(i)], run.predict((u, y)).outputs, rtol=1e-5)
    assert together.first(2).outputs.shape == (34 + 19, 1)
    found = run.evaluate(([u for u, _ in records], [y for _, y in records]))
    low, high = found["intervals"]["rmse"]
    assert low <= found["metrics"]["rmse"] <= high


def test_several_outputs_have_columns_of_their_own(tmp_path: Path) -> None:
    _, y = system(200)
    path = table(tmp_path / "system.csv", y2=np.roll(y, 1))
    run = recurra.train("simulate", path, settings=TINY | {"data.outputs": ["y", "y2"]})
    scores = run.summary["test"]
    assert scores["rmse"] == pytest.approx(np.sqrt((scores["rmse_y"] ** 2 + scores["rmse_y2"] ** 2) / 2))
    names = {"target_y", "target_y2", "prediction_y", "prediction_y2", "one_step_y", "one_step_y2"}
    assert names <= set(pl.read_csv(run.path / "test_predictions.csv").columns)


@pytest.mark.parametrize("feedback", ["free", "series_parallel"])
def test_a_narx_learns_what_a_linear_model_cannot_say(feedback: str) -> None:
    settings = {"model.kind": "narx", "train.feedback": feedback, "train.samples": 6000, "train.lr": 0.01}
    settings |= {"data.window": 40, "model.warmup": 5, "model.hidden_size": [6]}
    run = recurra.train("simulate", system(600), settings=settings)
    assert run.summary["test"]["rmse"] < 0.25 * run.summary["baselines"]["linear"]["rmse"]


def test_two_runs_are_set_side_by_side(tmp_path: Path) -> None:
    path = table(tmp_path / "system.csv")
    for name in ("a", "b"):
        recurra.train("simulate", path, out=name, settings=TINY | {"model.state_size": len(name) + ord(name) % 2})
    found = compare(["a", "b"])
    assert found.metric == "rmse"


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"model.warmup": 30}, DataError, "the shortest has 30 steps, and model.warmup takes 30 to set the state"),
        ({"learn.rule": "rtrl"}, RecipeError, "learn.rule: simulate goes back through the windows"),
        ({"learn.carry_state": True, "train.batch_size": 1, "train.shuffle": False}, RecipeError, "learn.carry_state"),
        ({"train.error_norm": 0.1}, RecipeError, "train.error_norm: is not for simulate"),
        ({"train.temporal_l2": 0.1}, RecipeError, "train.temporal_l2: is not for simulate"),
        ({"model.kind": "tdnn", "train.feedback": "series_parallel"}, RecipeError, "train.feedback: model.kind = tdnn"),
        (
            {"model.kind": "narx", "model.output_delay": 9},
            RecipeError,
            "model.warmup: 6 steps do not fill",
        ),
        ({"model.kind": "narx", "model.limits": True}, RecipeError, "model.limits: is of kind = state_space"),
        ({"model.limits": True, "model.state_size": 1}, RecipeError, "model.state_size: holds the outputs"),
        ({"model.zoneout": 0.1}, RecipeError, "model.zoneout: is of kind = recurrent; it is to be left out"),
        ({"model.num_layers": 2}, RecipeError, "model.num_layers: is of kind = recurrent"),
        ({"model.word_dropout": 0.1}, RecipeError, "model.word_dropout: has no place in simulate"),
        (
            {"model.kind": "recurrent", "model.hidden_size": [4, 3]},
            RecipeError,
            "hidden_size has 2 widths, num_layers is 1",
        ),
        ({"model.encoder_steps": 9}, RecipeError, "model.encoder_steps: 9 of 6 steps"),
        ({"model.kind": "nark"}, RecipeError, "model.kind.*did you mean 'narx'"),
        ({"model.activation": "cub"}, RecipeError, "model.activation: unknown function 'cub'; did you mean 'cube'"),
        ({"model.bidirectional": True}, RecipeError, "model.bidirectional: a simulation does not know the inputs to"),
    ],
)
def test_what_cannot_be_learnt_is_told(
    settings: dict[str, Any], error: type[Exception], text: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=text):
        recurra.train("simulate", table(tmp_path / "system.csv"), settings=TINY | settings)


def test_a_run_goes_on_where_it_was_stopped_and_another_begins_with_its_weights(tmp_path: Path) -> None:
    path = table(tmp_path / "system.csv")
    settings = TINY | {"model.members": 2, "model.limits": True, "train.checkpoint_seconds": 0}
    whole = recurra.train("simulate", path, settings=settings, out="whole")
    with stopped_after(3):
        recurra.train("simulate", path, settings=settings, out="stopped")
    resumed = resume("stopped")
    check_same_weights(whole, resumed)
    assert resumed.summary["test"] == whole.summary["test"]
    further = recurra.train("simulate", path, from_run="whole", out="further", settings={"train.lr": 1e-9} | DATA)
    assert further.summary["test"]["rmse"] == pytest.approx(whole.summary["test"]["rmse"], rel=1e-3)
    more = table(tmp_path / "more.csv", y2=system(200)[1])
    with pytest.raises(RunError, match="that run has 1 outputs, the new data have 2"):
        recurra.train("simulate", more, from_run="whole", out="more", settings={"data.outputs": ["y", "y2"]} | DATA)
