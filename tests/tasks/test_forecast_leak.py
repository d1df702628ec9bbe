"""Nothing of the future is in a forecast: whatever comes behind an origin, all said before stays, to the last bit."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import recurra
from recurra.data.series import SeriesWindows
from recurra.data.series_reader import SeriesReader
from recurra.data.series_settings import SeriesSettings
from recurra.tasks.forecast import Forecast, ForecastTrainSettings
from recurra.tasks.forecaster import ForecasterSettings

ROWS, ORIGIN, HORIZON = 160, 140, 3

KINDS: dict[str, dict[str, Any]] = {
    "direct": {"cell": "gru"},
    "recursive": {"cell": "lstm", "multi_step": "recursive"},
    "both ways": {"cell": "gru", "bidirectional": True},
    "segments": {"cell": "gru", "segment": 4},
    "encoder_decoder": {"cell": "gru", "kind": "encoder_decoder", "attention": "dot"},
    "tdnn": {"kind": "tdnn"},
    "narx": {"kind": "narx"},
    "ar": {"kind": "ar"},
    "linear": {"kind": "linear"},
    "with a linear part": {"cell": "gru", "linear": 5},
}
OUTPUTS = ("point", "quantiles", "gaussian", "student_t")
DATA: list[dict[str, Any]] = [
    {"scaling": "series", "missing": "mask"},
    {"scaling": "window", "missing": "interpolate", "transform": "log"},
    {"scaling": "last", "missing": "forward", "calendar": ["weekday", "month"]},
    {"scaling": "series", "missing": "interpolate", "transform": "sqrt", "difference": [1, 7]},
    {"scaling": "none", "missing": "mask", "difference": 1},
]
FUTURES = ("shuffled", "huge", "missing")


def _frame(future: str | None = None) -> pd.DataFrame:
    """Two targets, a covariate of the past and one known ahead; all but the last replaced from the origin on."""
    random = np.random.default_rng(11)
    walk = np.exp(0.05 * random.normal(size=(ROWS, 2)).cumsum(0)) + np.sin(np.arange(ROWS) * 2 * np.pi / 7)[:, None] + 2
    frame = pd.DataFrame({"date": pd.date_range("2020-01-01", periods=ROWS), "a": walk[:, 0], "b": walk[:, 1]})
    frame["past"], frame["known"] = random.normal(size=ROWS), random.normal(size=ROWS)
    frame.loc[[40, 41, 90, 118, 131, ORIGIN - 2, ORIGIN - 1], "a"] = np.nan
    own = ["a", "b", "past"]
    behind = frame.loc[ORIGIN:, own].to_numpy()
    if future == "shuffled":
        frame.loc[ORIGIN:, own] = random.permutation(behind)
    elif future == "huge":
        frame.loc[ORIGIN:, own] = behind * 1e9
    elif future == "missing":
        gone = np.setdiff1d(np.arange(ORIGIN, ROWS - 1), [ORIGIN + HORIZON - 1])  # in each window something is known
        frame.loc[gone, own] = np.nan
    return frame


def _settings(data: dict[str, Any], past: bool = True) -> dict[str, Any]:
    columns = {"target": ["a", "b"], "past": ["past"] if past else [], "known": ["known"]}
    return {"context": 12, "horizon": HORIZON, "test_end": ROWS, "season": 7} | columns | data


def _until_origin(windows: SeriesWindows) -> SeriesWindows:
    """Those up to the one behind whose origin the future differs."""
    found = windows.select(np.flatnonzero(windows.places[:, 1] <= ORIGIN))
    assert found.places[:, 1].max() == ORIGIN
    return found


def _said(task: Forecast, network: Any, windows: SeriesWindows) -> list[np.ndarray]:
    forecasts = task.predict(network, windows)
    return [forecasts.mean] if forecasts.quantiles is None else [forecasts.mean, forecasts.quantiles]


@pytest.mark.parametrize("kind", KINDS)
def test_no_forecast_knows_what_comes_behind_it(kind: str) -> None:
    """Networks that are not trained, so that all of their weights are at work, over data read anew for each future."""
    stepwise = KINDS[kind].get("multi_step") == "recursive" or kind in ("narx", "ar")  # which have no past covariates
    for (i, data), future in itertools.product(enumerate(DATA), FUTURES):
        said, last = [], []
        for frame in (_frame(), _frame(future)):
            settings = SeriesSettings.model_validate(_settings(data, not stepwise))
            parts = SeriesReader().parts(frame, "forecast", settings)
            task = Forecast(parts.schema, ForecastTrainSettings())
            torch.manual_seed(0)
            model = KINDS[kind] | {"hidden_size": 6, "output": OUTPUTS[i % 4], "paths": 20}
            network = task.build(ForecasterSettings.model_validate(model), parts.train)
            assert parts.validation is not None
            assert parts.test is not None
            task.calibrate(network, parts.validation, False)
            said.append(_said(task, network, _until_origin(parts.test)))
            last.append(_said(task, network, parts.test.select([len(parts.test) - 1])))
        assert not np.array_equal(last[0][0], last[1][0])  # which does see some of what differs
        for one, other in zip(*said, strict=True):
            assert np.isfinite(one).all()
            assert np.array_equal(one, other), (data, future)


@pytest.mark.parametrize("future", FUTURES)
def test_nor_does_a_whole_run(tmp_path: Path, future: str) -> None:
    """Read, trained, chosen by the validation part, calibrated, and asked for its test part."""
    said, others = [], []
    for name, frame in (("as it was", _frame()), (future, _frame(future))):
        settings = {f"data.{key}": value for key, value in _settings(DATA[2]).items()}
        settings |= {"model.hidden_size": 6, "train.epochs": 2, "train.batch_size": 16, "train.lr": 0.01}
        run = recurra.train("forecast", frame, out=tmp_path / name, settings=settings)
        windows, _ = run.task.reader.part(frame, run.schema, targets=True)
        task, windows = run.task, _until_origin(windows)
        assert isinstance(task, Forecast)
        said.append(_said(task, run.network, windows))
        others.append([one.forecasts for one in task.others(windows)])
    for one, other in zip(*said, strict=True):
        assert np.array_equal(one, other)
    for one, other in zip(*others, strict=True):
        assert np.array_equal(one, other)
