"""The task of forecasts from files to predictions: every kind by the command, no leak, intervals that hold."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import recurra
from recurra.cli import main
from recurra.errors import DataError, RecipeError, RunError
from recurra.run.api import Run, resume
from recurra.run.words import outcome
from recurra.tasks.forecast import Forecasts

SMALL: dict[str, Any] = {
    "data.context": 8,
    "data.horizon": 3,
    "data.scaling": "series",
    "data.test_stride": 2,
    "model.hidden_size": 4,
    "model.paths": 20,
    "train.epochs": 2,
    "train.batch_size": 16,
}
KINDS: dict[str, dict[str, Any]] = {
    "direct": {"model.kind": "recurrent"},
    "both ways, segments": {
        **{"model.bidirectional": True, "model.segment": 2, "model.linear": 4, "model.series_size": 2},
        **{"data.past": ["event"], "data.known": []},
    },
    "recursive": {"model.multi_step": "recursive", "model.cell": "lstm", "model.output": "gaussian"},
    "encoder and decoder": {"model.kind": "encoder_decoder", "model.attention": "dot", "model.output": "student_t"},
    "tdnn": {"model.kind": "tdnn", "model.delays": [4], "model.output": "quantiles"},
    "narx": {"model.kind": "narx", "train.forcing": "never"},
    "ar": {"model.kind": "ar", "model.linear": 3, "model.output": "quantiles"},
    "linear": {"model.kind": "linear"},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def waves(steps: int = 90, series: int = 1, seed: int = 0) -> pl.DataFrame:
    """Days of one or more noisy weekly waves, in long form, with a covariate that is known ahead."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    frames = []
    for i in range(series):
        event = (rng.random(steps) < 0.2).astype(float)
        load = 20 + 3 * i + 4 * np.sin(2 * np.pi * t / 7 + i) + 2 * event + rng.normal(0, 0.5, steps)
        days = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 1, 1) + pl.duration(days=steps - 1), eager=True)
        frames.append(pl.DataFrame({"shop": f"s{i}", "day": days, "event": event, "load": load}))
    return pl.concat(frames)


LONG = {"data.id": "shop", "data.time": "day", "data.target": "load", "data.known": ["event"]}


def train(frame: pl.DataFrame, **settings: Any) -> Run:
    return recurra.train("forecast", frame, settings=SMALL | LONG | settings, force=True)


def with_future(frame: pl.DataFrame, rows: int = 3) -> pl.DataFrame:
    """The same and some rows more, of which the covariate alone is known."""
    more = []
    for one in frame.partition_by("shop", maintain_order=True):
        last = one["day"][-1]
        days = [last + np.timedelta64(i + 1, "D").astype(object) for i in range(rows)]
        ahead = pl.DataFrame({"shop": one["shop"][0], "day": days, "event": [1.0] * rows, "load": [None] * rows})
        more += [one, ahead.cast(frame.schema)]
    return pl.concat(more)


# By the command


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_trained_evaluated_and_continues_a_file(
    name: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    waves(series=2).write_csv("shops.csv")
    with_future(waves(series=2)).write_csv("ahead.csv")
    settings = SMALL | LONG | KINDS[name]
    given = [f"--set={key}={json.dumps(v) if not isinstance(v, str) else v}" for key, v in settings.items()]
    assert main(["train", "forecast", "--data", "shops.csv", "--out", "run", *given]) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert "of the best other method" in said.out + said.err
    run = recurra.load("run")
    assert set(run.summary["baselines"]) >= {"last value", "seasonal naive", "AR"}
    assert run.summary["findings"][0].startswith("mase ")
    assert {"rmse", "mae", "mase", "smape", "coverage", "pinball"} <= set(run.summary["test"])

    assert main(["predict", "run", "--data", "ahead.csv"]) == 0, capsys.readouterr().err
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [*rows[0]][:5] == ["series", "time", "mean", "lower", "upper"]
    assert [(row["series"], row["time"]) for row in rows] == [
        (f"s{i}", f"2024-03-{31 + k:02d}" if k == 0 else f"2024-04-{k:02d}") for i in range(2) for k in range(3)
    ]
    assert all(float(row["lower"]) <= float(row["mean"]) <= float(row["upper"]) for row in rows)

    assert main(["evaluate", "run", "--data", "shops.csv", "--json"]) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["metrics"]["rmse"] > 0
    report = run.report.read_text("utf-8")
    for heading in ("Forecasts", "Other methods", "Error by horizon", "Calibration"):
        assert heading in report
    without = name in ("tdnn", "narx", "ar", "linear")
    for data in ([], ["--data", "ahead.csv"]):  # of what is to come no loss is known
        assert main(["inspect", "run", *data]) == (2 if without else 0)
        assert ("has no recurrence to look into" in capsys.readouterr().err) == without
        if not without:
            told = json.loads((here / "run" / "inspect.json").read_text("utf-8"))
            assert told["gradients"] == ("random" if data else "loss")


def test_predictions_of_the_test_part_have_the_truth_and_each_time_once() -> None:
    run = train(waves())
    text = (run.path / "test_predictions.csv").read_text("utf-8")
    rows = list(csv.DictReader(io.StringIO(text)))
    times = [row["time"] for row in rows]
    assert len(times) == len(set(times))
    frame = {str(day): load for day, load in waves().select("day", "load").iter_rows()}
    assert all(float(row["truth"]) == pytest.approx(frame[row["time"]]) for row in rows)


def test_a_single_forecast_of_one_step_is_drawn() -> None:
    frame = waves(steps=5).select("day", "load")
    run = recurra.train("forecast", frame, settings={"train.epochs": 1})
    assert run.summary["data"]["sequences"]["test"] == 1
    report = run.report.read_text("utf-8")
    drawing = report.partition(">Forecasts</h2>")[2].partition("</svg>")[0]
    assert "fill: var(--first)" in drawing
    assert "fill: var(--second)" in drawing


def test_several_targets_are_told_by_name_and_quantiles_have_columns() -> None:
    frame = waves().with_columns(heat=pl.col("load") * 2 + 1)
    run = train(frame, **{"data.target": ["load", "heat"], "model.quantiles": [0.25, 0.5]})
    rows = run.rows(run.predict(with_future(waves()).with_columns(heat=pl.col("load") * 2 + 1)))
    assert [*rows[0]] == ["series", "time", "target", "mean", "lower", "upper", "q0.25"]
    assert [row["target"] for row in rows[:4]] == ["load", "heat", "load", "heat"]


def test_it_is_judged_by_mase_for_several_series_and_by_rmse_for_one() -> None:
    assert train(waves(series=2)).main_metric == "mase"
    one = train(waves())
    assert one.main_metric == "rmse"
    assert "test rmse" in outcome(one)
    judged = train(waves(), **{"train.metric": "mse_normalised", "train.normalised_scores": True})
    assert judged.main_metric == "mse_normalised"


def test_series_that_repeat_themselves_exactly_have_no_mase() -> None:
    t = np.arange(90)
    frame = waves(series=2).with_columns(load=pl.Series(np.tile(t % 7, 2) * 1.0 + np.repeat([0, 5], 90)))
    run = train(frame, **{"data.season": 7})
    assert run.main_metric == "mae"
    assert "mase" not in run.summary["test"]
    with pytest.raises(RecipeError, match=r"train.metric: 'mase' divides by the error of the seasonal naive"):
        train(frame, **{"data.season": 7, "train.metric": "mase"})


def test_normalised_errors_are_in_units_of_the_training_rows() -> None:
    run = train(waves(), **{"train.normalised_scores": True})
    rows = run.schema.deviation[0][0]
    assert run.summary["test"]["mse_normalised"] == pytest.approx(run.summary["test"]["mse"] / rows**2)
    train_rows = waves()["load"].to_numpy()[: round(0.7 * 90)]
    assert rows == pytest.approx(train_rows.std(), rel=0.05)


def test_a_run_stopped_and_resumed_ends_with_the_same_weights(here: Path) -> None:
    settings = SMALL | LONG | KINDS["recursive"] | {"train.epochs": 4, "train.average": 0.9}
    waves().write_csv("w.csv")
    whole = recurra.train("forecast", "w.csv", settings=settings, out="whole")

    class Stop:
        """Stops in the middle of an epoch."""

        def begin(self, training: Any) -> None: ...

        def update(self, step: int, loss: float) -> None:
            if step == 7:
                raise KeyboardInterrupt

        def evaluation(self, line: Any) -> None: ...

        def end(self) -> None: ...

    with pytest.raises(KeyboardInterrupt):
        recurra.train("forecast", "w.csv", settings=settings, out="cut", listener=Stop())
    again = resume("cut")
    assert isinstance(again, Run)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_in_double_precision_a_run_says_what_it_said_in_training() -> None:
    run = train(waves(), **KINDS["recursive"] | {"train.precision": "64-true"})
    test = run.task.reader.parts(waves(), "forecast", run.recipe.data).test
    again = run.task.scores(run.task.predict(run.network, test))
    assert again == pytest.approx(run.summary["test"], rel=1e-6)  # Fabric hands outputs on in single precision
    assert run.network.output.weight.dtype == torch.float64


def test_it_goes_on_from_another_runs_weights() -> None:
    first = train(waves(), **{"train.select": "last"})
    data = {key: value for key, value in (SMALL | LONG).items() if not key.startswith("model.")}
    again = recurra.train("forecast", waves(), settings=data, from_run=first.path, out="more")
    assert again.summary["parameters"] == first.summary["parameters"]


def test_another_runs_weights_that_do_not_fit_are_refused_in_words() -> None:
    first = train(waves())
    data = {key: value for key, value in (SMALL | LONG).items() if not key.startswith("model.")}
    for more, said in (
        ({"data.horizon": 5}, "that run has a horizon of 3 rows, this one of 5; data.horizon = 3"),
        ({"data.known": [], "data.past": []}, "that run reads known covariates event, "),
        ({"data.past": ["event"], "data.known": []}, "that run reads past covariates none, the new data have event"),
    ):
        with pytest.raises(RunError) as told:
            recurra.train("forecast", waves(), settings=data | more, from_run=first.path, out="more")
        assert said in str(told.value)


@pytest.mark.parametrize("missing", ["mask", "interpolate", "forward"])
def test_missing_numbers_are_neither_learnt_nor_scored(missing: str) -> None:
    rng = np.random.default_rng(2)
    gone = rng.random(90) < 0.15
    gone[-1] = False
    frame = waves().with_columns(load=pl.when(pl.Series(~gone)).then(pl.col("load")))
    run = train(frame, **KINDS["recursive"] | {"data.missing": missing})
    assert run.schema.masked == (missing == "mask")
    assert all(np.isfinite(value) for value in run.summary["test"].values())
    said = _said(run, frame)
    assert np.isfinite(said.mean).all()
    assert (said.counts < 3).any()
    known = np.isfinite(said.targets)
    assert run.task.scores(said)["mae"] == pytest.approx(np.abs(said.mean - said.targets)[known].mean())


def test_forecasts_are_compared_by_their_errors_at_the_same_times(capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("a", {"model.linear": 4}), ("b", {"model.kind": "linear"})):
        recurra.train("forecast", waves(steps=200), settings=SMALL | LONG | more, out=name)
    assert main(["compare", "a", "b", "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    (one,) = found["differences"]
    scores = [run["value"] for run in found["runs"]]
    assert one["value"] == pytest.approx(scores[1] - scores[0])
    assert one["paired"]
    assert one["interval"][0] < one["value"] < one["interval"][1]


def test_runs_are_compared_over_every_origin_of_their_scores(capsys: pytest.CaptureFixture[str]) -> None:
    """The interval by a bootstrap written anew: blocks of origins drawn, the same ones for both runs."""
    made: dict[str, Run] = {}
    more = {"data.test_stride": 1, "data.horizon": 4}
    for name, epochs in (("a", 1), ("b", 4)):
        settings = SMALL | LONG | more | {"train.epochs": epochs}
        made[name] = recurra.train("forecast", waves(steps=260), settings=settings, out=name)
    errors = {}
    for name, run in made.items():
        said = _said(run, waves(steps=260))
        table = pl.read_csv(run.path / "test_shares.csv")
        said = said.select(np.arange(len(said) - len(table), len(said)))
        squared = np.square(said.mean - said.targets)[:, :, 0].sum(1)
        np.testing.assert_allclose(table["rmse"], squared, rtol=1e-5)
        mean = float(table["rmse"].to_numpy().sum() / table["rmse_count"].to_numpy().sum())
        assert mean == pytest.approx(run.summary["test"]["rmse"] ** 2)
        errors[name] = squared
    n = len(errors["a"])
    block = np.arange(n) // max(4, round(n ** (1 / 3)))
    sums = {name: np.bincount(block, squared) for name, squared in errors.items()}
    sizes = np.bincount(block) * 4
    drawn = np.random.default_rng(1).integers(0, len(sizes), (4000, len(sizes)))
    count = sizes[drawn].sum(1)
    found = np.sqrt(sums["b"][drawn].sum(1) / count) - np.sqrt(sums["a"][drawn].sum(1) / count)

    assert main(["compare", "a", "b", "--json"]) == 0, capsys.readouterr().err
    (one,) = json.loads(capsys.readouterr().out)["differences"]
    assert one["method"] == f"paired, the same {n} origins in {len(sizes)} blocks (bootstrap)"
    low, high = np.quantile(found, [0.025, 0.975])
    assert one["interval"] == pytest.approx([low, high], abs=0.1 * (high - low))
    assert one["interval"][0] < one["value"] < one["interval"][1]

    (made["b"].path / "test_shares.csv").write_text("index,series,time,truth,rmse,rmse_count\n0,,a,1,x,2\n")
    assert main(["compare", "a", "b"]) == 2
    assert "test_shares.csv: is damaged" in capsys.readouterr().err
    (made["b"].path / "test_shares.csv").unlink()
    assert main(["compare", "a", "b", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["differences"]
    assert one["interval"] is None
    assert "b has no test_shares.csv" in one["method"]


def test_runs_judged_by_mase_have_an_interval_too(capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        recurra.train("forecast", waves(steps=200, series=2), settings=SMALL | LONG, out=name, seed=seed)
    assert main(["compare", "a", "b", "--json"]) == 0, capsys.readouterr().err
    found = json.loads(capsys.readouterr().out)
    (one,) = found["differences"]
    assert found["metric"] == "mase"
    assert one["paired"]
    assert one["interval"][0] < one["value"] < one["interval"][1]


# No leak


SCALINGS = ["last", "window", "series"]


@pytest.mark.parametrize(
    ("name", "scaling"),
    [*zip(KINDS, SCALINGS * 3, strict=False), ("direct", "window"), ("direct", "series"), ("recursive", "last")],
)
def test_nothing_behind_an_origin_changes_its_forecast(name: str, scaling: str) -> None:
    frame = waves(series=2)
    lags = {"data.difference": [1, 7], "data.context": 8} if scaling == "window" else {}
    run = train(frame, **KINDS[name] | lags | {"data.scaling": scaling})
    before = _said(run, frame)
    rng = np.random.default_rng(1)
    origin = 60
    for change in ("shuffled", "huge", "missing"):
        load = frame["load"].to_numpy().copy()
        for start in (0, 90):
            late = load[start + origin : start + 90]
            if change == "shuffled":
                rng.shuffle(late)
            else:
                late[:: 1 if change == "huge" else 2] = 1e9 if change == "huge" else np.nan
        after = _said(run, frame.with_columns(load=load))
        at = before.data.places[:, 1] == origin
        assert np.array_equal(before.data.places, after.data.places)
        assert at.sum() == 2
        assert np.array_equal(before.mean[at], after.mean[at]), change
        assert before.quantiles is not None
        assert after.quantiles is not None
        assert np.array_equal(before.quantiles[at], after.quantiles[at]), change
        assert not np.array_equal(before.mean[~at], after.mean[~at])


def _said(run: Any, frame: pl.DataFrame) -> Forecasts:
    """What a run says of every window of a table."""
    windows, _ = run.task.reader.part(frame, run.schema, targets=True)
    return run.task.predict(run.network, windows)


# Intervals


def noise(steps: int = 900) -> pl.DataFrame:
    """An autoregression of order 1 with normal errors."""
    rng = np.random.default_rng(5)
    y = np.zeros(steps)
    for t in range(1, steps):
        y[t] = 0.7 * y[t - 1] + rng.normal()
    return pl.DataFrame({"y": 10 + y})


@pytest.mark.parametrize("output", ["point", "quantiles", "gaussian", "student_t"])
@pytest.mark.parametrize("kind", ["ar", "linear"])
def test_intervals_hold_as_many_truths_as_they_should(kind: str, output: str) -> None:
    settings = {"model.kind": kind, "model.output": output, "model.linear": 2, "data.context": 6, "data.horizon": 4}
    more = {"data.validation_fraction": 0.3, "data.test_fraction": 0.3, "data.calendar": [], "model.interval": 0.9}
    short = {"train.epochs": 3, "train.lr": 1e-3, "data.scaling": "series", "model.paths": 300}
    run = recurra.train("forecast", noise(), settings=settings | more | short)
    assert run.summary["test"]["coverage"] == pytest.approx(0.9, abs=0.05)
    said = _said(run, noise().tail(150))
    assert said.upper is not None
    assert said.lower is not None
    width = (said.upper - said.lower).mean((0, 2))
    wanted = 2 * 1.645 * np.sqrt(np.cumsum(0.49 ** np.arange(4)))
    np.testing.assert_allclose(width, wanted, rtol=0.15)


def test_a_zero_has_no_likelihood_where_its_root_is_taken() -> None:
    rng = np.random.default_rng(0)
    y = np.maximum(0, rng.normal(2, 1.5, 400)) ** 2
    settings = SMALL | {"model.kind": "linear", "model.output": "gaussian", "data.transform": "sqrt"}
    run = recurra.train("forecast", pl.DataFrame({"y": y}), settings=settings | {"data.calendar": []})
    said = _said(run, pl.DataFrame({"y": y}))
    assert said.counts.sum() == (said.targets > 0).sum() < said.targets.size
    assert abs(run.summary["test"]["nll"]) < 10


def test_the_likelihood_is_that_of_numbers_in_their_own_units() -> None:
    """Of a log-normal series, whose density in own units has another factor for every number."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"y": np.exp(2 + 0.3 * rng.normal(size=600))})
    settings = SMALL | {"model.kind": "linear", "model.output": "gaussian", "data.transform": "log", "train.lr": 1e-4}
    run = recurra.train("forecast", frame, settings=settings | {"data.calendar": []})
    said = _said(run, frame)
    assert said.quantiles is not None
    levels = list(said.levels)
    low, middle = (np.log(said.quantiles[..., levels.index(level)]) for level in (0.1, 0.5))
    deviation = (middle - low) / 1.2815515655446004
    y = said.targets
    density = np.exp(-0.5 * ((np.log(y) - middle) / deviation) ** 2) / (y * deviation * np.sqrt(2 * np.pi))
    assert run.task.scores(said)["nll"] == pytest.approx(-np.log(density).mean(), rel=1e-4)


@pytest.mark.parametrize("output", ["point", "gaussian"])
def test_the_mean_under_a_transform_is_the_mean_and_not_the_median(output: str) -> None:
    """Of a log-normal series: e^(μ + σ²/2), where the median is e^μ."""
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({"y": np.exp(1 + 0.8 * rng.normal(size=900))})
    settings = SMALL | {"model.kind": "linear", "model.output": output, "data.transform": "log", "train.lr": 1e-4}
    run = recurra.train("forecast", frame, settings=settings | {"data.calendar": [], "data.validation_fraction": 0.4})
    said = _said(run, frame)
    assert said.quantiles is not None
    assert said.quantiles[..., said.levels.index(0.5)].mean() == pytest.approx(np.e, rel=0.06)
    assert said.mean.mean() == pytest.approx(np.exp(1.32), rel=0.06)


def test_without_a_validation_part_intervals_are_said_to_be_narrow() -> None:
    run = train(waves(), **{"data.validation_fraction": 0.0})
    assert any("no validation part: intervals" in warning for warning in run.summary["warnings"])


# What cannot be


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"learn.rule": "rtrl"}, "learn.rule"),
        ({"learn.carry_state": True, "train.batch_size": 1, "train.shuffle": False}, "learn.carry_state"),
        ({"train.forcing": "never"}, "train.forcing: 'never' is for forecasts made step by step"),
        ({"train.context_loss": True}, "train.context_loss"),
        ({"train.metric": "mse_normalised"}, "is told with normalised_scores = true alone"),
        ({"train.normalised_scores": True, "data.transform": "log"}, "train.normalised_scores"),
        ({"model.kind": "linear", "model.linear_fixed": True}, "model.linear_fixed: nothing would be left"),
        ({"model.kind": "recurent"}, "model.kind"),
        ({"model.delays": [3]}, "model.delays"),
    ],
)
def test_settings_that_cannot_be_are_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError) as told:
        train(waves(), **settings)
    assert said in str(told.value)


def test_a_new_series_has_no_vector_of_its_own() -> None:
    run = train(waves(series=2), **{"model.series_size": 2})
    other = with_future(waves()).with_columns(shop=pl.lit("new"))
    with pytest.raises(DataError, match=r"model.series_size learns a vector for each"):
        run.predict(other)
    swapped = with_future(waves(series=2)).sort("shop", descending=True, maintain_order=True)
    ask: Callable[[pl.DataFrame], dict[Any, Any]] = lambda frame: {  # noqa: E731
        (row["series"], row["time"]): row["mean"] for row in run.rows(run.predict(frame))
    }
    assert ask(swapped) == pytest.approx(ask(with_future(waves(series=2))))
