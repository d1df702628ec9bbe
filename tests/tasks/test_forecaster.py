"""The forecaster's network and its outputs against hand-made loops, SciPy and NumPy in float64."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from recurra.data.series import Preparation, Series, SeriesWindows
from recurra.errors import RecipeError
from recurra.tasks.forecast_output import Gaussian, Point, Quantiles, StudentT, output
from recurra.tasks.forecast_scores import Scored, blocks
from recurra.tasks.forecaster import Forecaster, ForecasterSettings, Shape, Window, least_squares
from recurra.tasks.schedules import forced_share

LEVELS = (0.025, 0.1, 0.5, 0.9, 0.975)

STEPWISE: list[dict[str, Any]] = [
    {"kind": "recurrent", "multi_step": "recursive", "num_layers": 2},
    {"kind": "recurrent", "multi_step": "recursive", "cell": "lstm", "linear": 5, "head": [7]},
    {"kind": "encoder_decoder", "bidirectional": True},
    {"kind": "encoder_decoder", "attention": "general", "linear": 3},
    {"kind": "ar", "linear": 4},
    {"kind": "narx", "delays": [4], "linear": 2},
    {"kind": "tdnn", "multi_step": "recursive", "num_layers": 2, "delays": [3, 2], "activation": "relu"},
]
DIRECT: list[dict[str, Any]] = [
    {"kind": "recurrent", "bidirectional": True, "num_layers": 2},
    {"kind": "recurrent", "segment": 4, "linear": 6, "apart": True, "series_size": 3},
    {"kind": "linear"},
    {"kind": "tdnn", "delays": [6]},
]


def windows(
    n: int = 3, steps: int = 60, targets: int = 2, context: int = 12, horizon: int = 5, seed: int = 0, **more: Any
) -> SeriesWindows:
    """Noisy waves with known covariates and a static one, and every window of them."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)
    waves = [[np.sin(t / 3 + i + k) + 0.2 * rng.standard_normal(steps) for k in range(targets)] for i in range(n)]
    values = np.concatenate([np.stack(one, 1) for one in waves])
    scale = {"transform": "none", "lags": (), "scaling": "series", "missing": "mask"} | more
    series = Series(
        targets=values,
        past=np.empty((len(values), 0)),
        known=rng.standard_normal((len(values), 2)),
        static=rng.standard_normal((n, 1)),
        times=np.tile(t, n),
        offsets=np.arange(n + 1) * steps,
        ends=np.full(n, steps),
        ids=[f"s{i}" for i in range(n)],
        lines=np.zeros(len(values), dtype=np.int64),
    )
    preparation = Preparation(
        mean=np.full((n, targets), 0.1),
        deviation=np.full((n, targets), 0.7),
        past=np.empty((2, 0)),
        known=np.stack([np.zeros(2), np.ones(2)]),
        static=np.array([[0.0], [1.0]]),
        **scale,
    )
    first = context + preparation.before
    places = np.array([(i, at) for i in range(n) for at in range(first, steps - horizon + 1)])
    return SeriesWindows(series, places, context, horizon, preparation)


def shape(data: SeriesWindows, masked: bool = False) -> Shape:
    return Shape(data.series.targets.shape[1], 0, 2, 1, len(data.series), data.context, data.horizon, masked)


def network(data: SeriesWindows, settings: dict[str, Any], masked: bool = False) -> Forecaster:
    """A network with random weights, in float64."""
    torch.manual_seed(1)
    made = Forecaster(ForecasterSettings(hidden_size=6, **settings), shape(data, masked)).double()
    with torch.no_grad():
        for p in made.parameters():
            p.normal_(0, 0.4)
    return made.eval()


# Outputs


def raw(width: int) -> torch.Tensor:
    return torch.randn(4, 3, width, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def test_the_likelihood_of_a_normal_distribution_is_scipys() -> None:
    form, r = Gaussian(LEVELS), raw(2)
    true = torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    deviation = 1e-4 + np.logaddexp(0, r[..., 1].numpy())
    wanted: Any = stats.norm(r[..., 0].numpy(), deviation)
    np.testing.assert_allclose(form.loss(r, true).numpy(), -wanted.logpdf(true.numpy()), rtol=1e-12)
    for at, level in enumerate(LEVELS):
        np.testing.assert_allclose(form.quantiles(r)[..., at].numpy(), wanted.ppf(level), rtol=1e-9)


def test_the_likelihood_of_students_t_is_scipys() -> None:
    form, r = StudentT(LEVELS), raw(3)
    true = 5 * torch.randn(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    place, scale = r[..., 0].numpy(), 1e-4 + np.logaddexp(0, r[..., 1].numpy())
    wanted: Any = stats.t(2 + 1e-4 + np.logaddexp(0, r[..., 2].numpy()), place, scale)
    np.testing.assert_allclose(form.loss(r, true).numpy(), -wanted.logpdf(true.numpy()), rtol=1e-10)
    for at, level in enumerate(LEVELS):
        np.testing.assert_allclose(form.quantiles(r)[..., at].numpy(), wanted.ppf(level), rtol=1e-9)


def test_the_pinball_loss_is_least_at_the_quantiles() -> None:
    form = Quantiles(LEVELS)
    sample = torch.from_numpy(np.random.default_rng(0).gamma(2.0, size=20_001))
    best = torch.quantile(sample, torch.tensor(LEVELS, dtype=torch.float64))
    at_best = float(form.loss(best, sample).mean())
    for moved in (best + 0.05, best - 0.05, best * torch.tensor([1.2, 1, 1, 1, 1])):
        assert float(form.loss(moved, sample).mean()) > at_best
    by_hand = np.mean(
        [np.maximum(a * (3.0 - q), (a - 1) * (3.0 - q)) for a, q in zip(LEVELS, best.tolist(), strict=True)]
    )
    assert float(form.loss(best, torch.tensor(3.0))) == pytest.approx(by_hand)


def test_quantiles_that_cross_are_put_in_order_and_are_no_worse_by_it() -> None:
    form = Quantiles(LEVELS)
    crossed = torch.tensor([0.5, -0.2, 0.1, 2.0, 1.0], dtype=torch.float64)
    ordered = form.quantiles(crossed)
    assert ordered.tolist() == sorted(crossed.tolist())
    assert float(form.middle(crossed)) == 0.5
    for truth in (-1.0, 0.0, 0.3, 0.7, 1.5, 3.0):
        true = torch.tensor(truth, dtype=torch.float64)
        assert float(form.loss(ordered, true)) <= float(form.loss(crossed, true)) + 1e-12


@pytest.mark.parametrize("name", ["quantiles", "gaussian", "student_t"])
def test_draws_have_the_quantiles_that_are_told(name: str) -> None:
    form = output(name, LEVELS)
    torch.manual_seed(5)
    r = torch.tensor(form.begin(0.8), dtype=torch.float64)
    drawn = form.draw(r.expand(100_000, -1)).numpy()
    told = form.quantiles(r)
    assert told is not None
    np.testing.assert_allclose(np.quantile(drawn, LEVELS[1:-1]), told[1:-1].numpy(), atol=0.03)


@pytest.mark.parametrize("name", ["quantiles", "gaussian", "student_t"])
def test_what_an_output_begins_with_has_the_deviation_asked_for(name: str) -> None:
    r = torch.tensor(output(name, LEVELS).begin(0.8), dtype=torch.float64)
    found = output(name, LEVELS).quantiles(r)
    assert found is not None
    np.testing.assert_allclose(found.numpy(), 0.8 * stats.norm.ppf(LEVELS), atol=0.12)


@pytest.mark.parametrize("error", ["mse", "mae", "huber"])
def test_a_point_is_judged_by_its_error(error: Any) -> None:
    form, true = Point(LEVELS, error), torch.tensor([0.0, 3.0], dtype=torch.float64)
    wanted = {"mse": [1.0, 4.0], "mae": [1.0, 2.0], "huber": [0.5, 1.5]}[error]
    assert form.loss(torch.ones(2, 1, dtype=torch.float64), true).tolist() == wanted


# The network


@pytest.mark.parametrize("settings", STEPWISE, ids=str)
def test_a_step_after_another_gives_what_all_steps_give(settings: dict[str, Any]) -> None:
    data = windows()
    made = network(data, settings | {"output": "gaussian"})
    window = Window.of(data.batch([0, 7, 50]))
    along, _ = made(window)
    ready, fixed = made._prepared(window)
    found, carried = made.begin(ready, fixed)
    torch.testing.assert_close(found, along[-data.horizon], rtol=1e-9, atol=1e-11)
    for step in range(1, data.horizon):
        found, carried = made.next(ready.values[data.context + step - 1], step, carried)
        torch.testing.assert_close(found, along[step - data.horizon], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", STEPWISE, ids=str)
def test_a_forecast_is_what_comes_of_writing_each_forecast_in_the_place_of_the_truth(settings: dict[str, Any]) -> None:
    data = windows()
    made = network(data, settings)
    window = Window.of(data.batch([3, 40]))
    C, values = data.context, window.values.clone()
    values[C:] = torch.nan  # the future is not there
    for step in range(data.horizon):
        known = torch.nan_to_num(values, nan=99.0)
        outputs, _ = made(window._replace(values=known))
        values[C + step] = outputs[step - data.horizon, ..., 0]
    torch.testing.assert_close(made.paths(window), values[C:], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("settings", [*STEPWISE, *DIRECT], ids=str)
def test_what_is_behind_the_origin_is_not_read(settings: dict[str, Any]) -> None:
    data = windows()
    made = network(data, settings)
    window = Window.of(data.batch([3, 40, 41]))
    changed = window.values.clone()
    changed[data.context :] = 1e6
    ask = made.paths if made.stepwise else lambda w: made(w)[0]
    assert torch.equal(ask(window), ask(window._replace(values=changed)))
    again = window.values.clone()
    again[data.context - 1] += 1
    assert not torch.allclose(ask(window), ask(window._replace(values=again)))


def test_known_covariates_of_the_steps_ahead_are_read_at_their_own_step() -> None:
    data = windows()
    window = Window.of(data.batch([3]))
    for settings in (
        {"kind": "recurrent"},
        {"kind": "recurrent", "multi_step": "recursive"},
        {"kind": "encoder_decoder"},
    ):
        made = network(data, settings)
        ask = made.paths if made.stepwise else lambda w, made=made: made(w)[0]
        changed = window.known.clone()
        changed[data.context + 2] += 1
        moved = (ask(window._replace(known=changed)) - ask(window)).abs().flatten(1).amax(1)
        assert moved[:2].max() < 1e-12, settings
        assert moved[2] > 1e-6, settings


def test_a_direct_forecast_is_a_loop_by_hand() -> None:
    """Recurrent layers, a linear head, and the linear part, in NumPy."""
    data = windows(targets=1)
    made = network(data, {"kind": "recurrent", "cell": "elman", "linear": 4})
    made.ahead = None
    batch = data.batch([5])
    found = made(Window.of(batch))[0][:, 0, 0, 0].detach().numpy()
    p = {name: v.detach().numpy() for name, v in made.named_parameters()}
    z, known, static = batch.values[:, 0, 0].numpy(), batch.known[:, 0].numpy(), batch.static[0].numpy()
    h = np.zeros(6)
    for t in range(data.context):
        x = np.concatenate([[z[t]], known[t + 1], static])
        net = p["recurrent.weight_ih_l0"] @ x + p["recurrent.weight_hh_l0"] @ h + p["recurrent.bias_l0"]
        h = np.tanh(net)
    wanted = p["output.weight"] @ h + p["output.bias"]
    wanted = wanted + p["linear.weight"] @ z[data.context - 4 : data.context] + p["linear.bias"]
    np.testing.assert_allclose(found, wanted, rtol=1e-10)


def test_targets_apart_are_each_forecast_by_the_same_weights() -> None:
    data = windows(targets=3)
    made = network(data, {"kind": "recurrent", "apart": True, "linear": 3})
    window = Window.of(data.batch([2, 8]))
    found, _ = made(window)
    swapped = torch.tensor([2, 0, 1])
    again, _ = made(window._replace(values=window.values[..., swapped]))
    torch.testing.assert_close(again, found[:, :, swapped])


def test_rows_of_a_segment_are_one_step() -> None:
    data = windows(targets=1)
    made = network(data, {"kind": "recurrent", "segment": 4})
    window, fixed = made._prepared(Window.of(data.batch([2, 9])))
    read = made._context(window, fixed)
    assert read.shape == (3, 2, 4 * 3 + 1)
    wanted = [window.values[4:8, 1, 0].tolist(), window.known[5:9, 1].tolist()]
    assert read[1, 1, :12].view(4, 3).tolist() == [[v, *k] for v, k in zip(*wanted, strict=True)]


def test_missing_numbers_are_told_apart_from_zeros() -> None:
    data = windows()
    made = network(data, {"kind": "recurrent"}, masked=True)
    window = Window.of(data.batch([3]))
    unseen = window.seen.clone()
    unseen[4] = 0
    zero = window.values.clone()
    zero[4] = 0
    one, other = (made(window._replace(values=zero, seen=seen))[0] for seen in (window.seen, unseen))
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("settings", [{"multi_step": "recursive"}, {"kind": "encoder_decoder"}], ids=str)
def test_forcing_mixes_truth_and_forecasts_and_the_gradient_goes_through_these(settings: dict[str, Any]) -> None:
    data = windows()
    made = network(data, settings).train()
    window = Window.of(data.batch([3, 40]))
    own, _ = made(window, 0.0)
    torch.testing.assert_close(own[..., 0], made.paths(window))
    values = window.values.clone().requires_grad_()
    made(window._replace(values=values), 0.0)[0][-1].sum().backward()
    assert values.grad is not None
    assert values.grad[data.context :].abs().max() == 0
    assert values.grad[: data.context].abs().max() > 0
    torch.manual_seed(0)
    mixed, _ = made(window, 0.5)
    assert not torch.allclose(mixed, own)
    assert not torch.allclose(mixed, made(window, 1.0)[0][-data.horizon :])


def test_drawn_futures_go_on_from_what_was_drawn() -> None:
    """An autoregression of order 1 with Gaussian steps: the variance h steps ahead is σ² Σ a^(2 j)."""
    data = windows(n=1, targets=1)
    made = network(data, {"kind": "ar", "linear": 1, "output": "gaussian"})
    assert made.linear is not None
    with torch.no_grad():
        made.linear.weight.fill_(0.8)
        made.linear.bias.zero_()
        made.spread.copy_(torch.tensor(Gaussian(LEVELS).begin(0.5)))
    torch.manual_seed(0)
    window = Window.of(data.batch([4]))
    drawn = made.paths(window, 20_000)[:, :, 0, 0].numpy()
    powers = 0.8 ** np.arange(data.horizon + 1)
    last = float(window.values[data.context - 1, 0, 0])
    np.testing.assert_allclose(drawn.mean(0), last * powers[1:], atol=0.03)
    np.testing.assert_allclose(drawn.std(0), 0.5 * np.sqrt(np.cumsum(powers[:-1] ** 2)), rtol=0.03)
    alike = 0.8 * 0.5 / np.sqrt(0.25 * 1.64)  # of steps 1 and 2
    assert np.corrcoef(drawn[:, 0], drawn[:, 1])[0, 1] == pytest.approx(alike, abs=0.02)


def test_the_linear_part_begins_with_the_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("recurra.tasks.forecaster.PIECE", 7)  # each row is still mapped to once
    data = windows()
    z = (data.series.targets - 0.1) / 0.7
    rows, wanted = [], []
    for i in range(3):
        for k in range(2):
            y = z[i * 60 : (i + 1) * 60, k]
            for t in range(4, 60):
                rows.append([1.0, *y[t - 4 : t]])
                wanted.append(y[t])
    by_hand, *_ = np.linalg.lstsq(np.array(rows), np.array(wanted), rcond=None)
    weights, deviation = least_squares(data, 4, stepwise=True)
    np.testing.assert_allclose(weights[0].numpy(), by_hand, rtol=1e-6)
    residual = np.array(wanted) - np.array(rows) @ by_hand
    assert float(deviation) == pytest.approx(np.sqrt(np.mean(residual**2)), rel=1e-6)


def test_the_linear_part_of_all_steps_begins_with_the_least_squares() -> None:
    data = windows()
    batch = data.batch(np.arange(len(data)))
    rows = batch.values[8:12].permute(1, 2, 0).reshape(-1, 4).numpy()
    wanted = batch.targets.permute(1, 2, 0).reshape(-1, 5).numpy()
    by_hand, *_ = np.linalg.lstsq(np.c_[np.ones(len(rows)), rows], wanted, rcond=None)
    weights, _ = least_squares(data, 4, stepwise=False)
    np.testing.assert_allclose(weights.numpy(), by_hand.T, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["recurrent", "encoder_decoder"])
def test_a_network_beside_a_linear_part_begins_as_that_alone(kind: str) -> None:
    data = windows()
    settings = ForecasterSettings.model_validate({"kind": kind, "hidden_size": 5, "linear": 4})
    made = Forecaster(settings, shape(data)).double()
    made.learn_from(data)
    weights, _ = least_squares(data, 4, stepwise=made.stepwise)
    window = Window.of(data.batch([6]))
    found = made(window)[0][0, 0, :, 0]
    torch.testing.assert_close(found, weights[0, 0] + window.values[8:12, 0].T @ weights[0, 1:], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "narx", "multi_step": "direct"}, "model.multi_step: 'direct' reads no forecast"),
        ({"kind": "ar", "multi_step": "direct"}, "model.kind = 'linear'"),
        ({"kind": "linear", "multi_step": "recursive"}, "model.kind = 'ar'"),
        ({"kind": "encoder_decoder", "multi_step": "direct"}, "it is to be left out"),
        ({"attention": "dot"}, "model.attention: 'dot' is the decoder's; model.kind is 'recurrent'"),
        (
            {"segment": 5},
            "model.segment: 5 rows a step do not divide data.context, which is 12; the nearest that do are 4 and 6",
        ),
        ({"segment": 50}, "data.context, which is 12; the nearest that do are 12"),
        ({"segment": 4, "multi_step": "recursive"}, "model.segment"),
        ({"linear": 13}, "model.linear: reads 13 steps, and data.context is 12"),
        ({"multi_step": "recursive", "bidirectional": True}, "model.bidirectional"),
    ],
)
def test_settings_that_do_not_go_together_are_told(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=r"^model") as told:
        network(windows(), settings)
    assert said in str(told.value)


def test_past_covariates_are_not_there_behind_the_origin() -> None:
    data = windows()
    wide = shape(data)._replace(past=1)
    with pytest.raises(RecipeError, match=r"past covariates \(data.past\) are not forecast"):
        Forecaster(ForecasterSettings(multi_step="recursive"), wide)
    Forecaster(ForecasterSettings(multi_step="recursive"), wide._replace(horizon=1))


def test_levels_hold_the_median_and_the_bounds() -> None:
    assert ForecasterSettings(quantiles=[0.2], interval=0.8).levels == [0.1, 0.2, 0.5, 0.9]
    with pytest.raises(ValueError, match=r"quantiles: 1.2 is no level"):
        ForecasterSettings(quantiles=[1.2])


# Scores


def scored(**more: Any) -> Scored:
    rng = np.random.default_rng(1)
    truth = rng.normal(10, 3, (40, 3, 2))
    truth[5, 1, 0] = np.nan
    middle = truth + rng.normal(0, 1, truth.shape)
    middle[5, 1, 0] = 4.0
    quantiles = middle[..., None] + stats.norm.ppf(LEVELS)
    fields = {
        "truth": truth,
        "middle": middle,
        "quantiles": quantiles,
        "levels": LEVELS,
        "bounds": (0, 4),
        "mase_scale": np.tile([[2.0, 0.5]], (40, 1)),
        "deviation": np.tile([[3.0, 6.0]], (40, 1)),
        "blocks": np.arange(40) // 3,
    }
    return Scored(**(fields | more))


def test_scores_are_those_of_a_loop_by_hand() -> None:
    s = scored()
    assert s.quantiles is not None
    errors, mase, smape, pinball, inside, normal = [], [], [], [], [], []
    for w, h, k in np.ndindex(s.truth.shape):
        y, f = s.truth[w, h, k], s.middle[w, h, k]
        if np.isnan(y):
            continue
        errors.append(f - y)
        mase.append(abs(f - y) / (2.0, 0.5)[k])
        smape.append(200 * abs(f - y) / (abs(f) + abs(y)))
        normal.append((f - y) / (3.0, 6.0)[k])
        q = s.quantiles[w, h, k]
        pinball += [a * (y - b) if y > b else (1 - a) * (b - y) for a, b in zip(LEVELS, q, strict=True)]
        inside.append(q[0] <= y <= q[-1])
    assert s.metrics() == pytest.approx(
        {
            "rmse": np.sqrt(np.mean(np.square(errors))),
            "mae": np.mean(np.abs(errors)),
            "mse": np.mean(np.square(errors)),
            "smape": np.mean(smape),
            "mase": np.mean(mase),
            "mse_normalised": np.mean(np.square(normal)),
            "mae_normalised": np.mean(np.abs(normal)),
            "coverage": np.mean(inside),
            "pinball": np.mean(pinball),
        }
    )
    first = s.metrics(slice(0, 1))
    assert first["mae"] == pytest.approx(np.mean(np.abs(s.middle - s.truth)[:, 0]))


def test_intervals_hold_the_score_and_need_blocks() -> None:
    s = scored()
    found, metrics = s.intervals(), s.metrics()
    assert set(found) == set(metrics)
    assert all(low < metrics[name] < high for name, (low, high) in found.items())
    assert scored(blocks=np.arange(40) // 12).intervals() == {}


def test_a_series_that_never_moved_has_no_mase() -> None:
    scale = np.tile([[0.0, np.nan]], (40, 1))
    assert "mase" not in scored(mase_scale=scale).metrics()


def test_windows_near_each_other_are_one_block() -> None:
    times = np.array([10, 11, 12, 13, 14, 10, 11])
    assert blocks(times, 3).tolist() == [0, 0, 0, 1, 1, 0, 0]
    assert len(np.unique(blocks(np.arange(1000), 1))) == 100


def test_a_forecast_that_is_no_number_is_told() -> None:
    s = scored()
    s.middle[3, 0, 0] = np.nan
    with pytest.raises(Exception, match="the forecasts hold NaN"):
        s.metrics()


def test_teacher_forcing_never_and_by_schedule() -> None:
    assert forced_share("never", 3, None, 0.5) == 0
    assert forced_share("always", 3, 10, 0.5) == 1
    assert [forced_share("linear", e, 5, 0.2) for e in (0, 2, 4)] == pytest.approx([1, 0.6, 0.2])


def test_the_errors_are_torchs() -> None:
    r, true = raw(1), torch.zeros(4, 3, dtype=torch.float64)
    torch.testing.assert_close(Point(LEVELS, "huber").loss(r, true).mean(), F.huber_loss(r[..., 0], true))
