"""Windows of series: what a network reads of them, how it is undone, and that nothing of the future is in it."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from recurra.data.series import Missing, Preparation, Scaling, Series, SeriesWindows, Transform, cumulated, differenced

K, P, F, G = 2, 2, 3, 1
CONTEXT, HORIZON = 9, 5
LAGS = [(), (1,), (3,), (1, 3), (7,)]
SCALINGS: list[Scaling] = ["series", "window", "last", "none"]
MISSING: list[Missing] = ["mask", "interpolate", "forward"]
TRANSFORMS: list[Transform] = ["none", "log", "log1p", "sqrt"]


def _windows(
    lags: tuple[int, ...] = (),
    scaling: Scaling = "series",
    missing: Missing = "mask",
    transform: Transform = "none",
    gaps: float = 0.0,
) -> SeriesWindows:
    """Every window of two series."""
    random = np.random.default_rng(5)
    lengths = np.array([40, 31])
    S = int(lengths.sum())
    targets = np.exp(random.normal(size=(S, K)).cumsum(0) * 0.2) + 0.5
    targets[random.random((S, K)) < gaps] = np.nan
    series = Series(
        targets=targets,
        past=np.where(random.random((S, P)) < gaps, np.nan, random.normal(3, 2, (S, P))),
        known=random.normal(3, 2, (S, F)),
        static=random.normal(size=(2, G)),
        times=np.arange(S),
        offsets=np.array([0, 40, 71]),
        ends=lengths,
        ids=["a", "b"],
        lines=np.arange(S) + 2,
    )
    mean, deviation = random.normal(size=(2, K)), random.uniform(0.5, 2, (2, K))
    past, known, static = (np.stack([random.normal(size=n), random.uniform(0.5, 2, n)]) for n in (P, F, G))
    preparation = Preparation(transform, lags, scaling, missing, mean, deviation, past, known, static)
    first = CONTEXT + preparation.before
    places = [(i, o) for i in range(2) for o in range(first, int(lengths[i]) - HORIZON + 1)]
    return SeriesWindows(series, np.array(places), CONTEXT, HORIZON, preparation)


@pytest.mark.parametrize("lags", LAGS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_forecasts_are_undone(lags: tuple[int, ...], scaling: Scaling) -> None:
    for transform, gaps, missing in itertools.product(TRANSFORMS, (0.0, 0.2), MISSING):
        windows = _windows(lags, scaling, missing, transform, gaps)
        batch = windows.batch(torch.arange(len(windows)))
        truth = windows.truth.transpose(1, 0, 2)
        asked = batch.asked.numpy()
        assert (np.isfinite(truth) == asked).all() or missing == "mask"
        assert asked.mean() > 0.7
        np.testing.assert_allclose(batch.restore(batch.targets).numpy()[asked], truth[asked], rtol=1e-9)
        if not gaps:
            back = batch.restore(batch.values[CONTEXT:], "recursive")
            np.testing.assert_allclose(back.numpy(), truth, rtol=1e-9)


def test_a_window_is_what_its_rows_say() -> None:
    """Against a loop over windows, written apart."""
    windows = _windows((1, 3), "window", "forward", "log", gaps=0.15)
    chosen = np.array([3, 0, len(windows) - 1, 20])
    batch, p, series = windows.batch(chosen), windows.preparation, windows.series
    for b, window in enumerate(chosen):
        which, origin = windows.places[window]
        row = int(series.offsets[which] + origin)
        for k in range(K):
            v = [float(np.log(y)) for y in series.targets[row - CONTEXT - 4 : row, k]]
            known = [x for x in v if x == x]
            for i in range(len(v)):
                if v[i] != v[i]:
                    v[i] = v[i - 1] if i else known[0]
            once = [v[i] - v[i - 1] for i in range(1, len(v))]
            w = [once[i] - once[i - 3] for i in range(3, len(once))]
            own = float(np.sqrt(np.var(w) + (0.01 * p.deviation[which, k]) ** 2))
            np.testing.assert_allclose(batch.values[:CONTEXT, b, k], np.array(w) / own, atol=1e-9)
            assert batch.scale[b, k].item() == pytest.approx(own, rel=1e-12)
            level, slopes = v[-1], once[-3:]
            for h in range(HORIZON):
                level += slopes[h % 3]
                assert batch.base[h, b, k].item() == pytest.approx(level, rel=1e-10)
        known = (series.known[row - CONTEXT : row + HORIZON] - p.known[0]) / p.known[1]
        np.testing.assert_allclose(batch.known[:, b], known, rtol=1e-12)
        np.testing.assert_allclose(batch.static[b], (series.static[which] - p.static[0]) / p.static[1], rtol=1e-12)


def test_what_is_missing_is_told_apart_or_filled() -> None:
    line = np.arange(40.0)[:, None].repeat(K, 1)
    line[[12, 13, 15], 0] = np.nan
    expected = {"mask": [0, 0, 14, 0], "forward": [11, 11, 14, 14], "interpolate": [12, 13, 14, 15]}
    for missing in MISSING:
        wanted = expected[missing]
        windows = _windows((), "none", missing)
        series = replace(windows.series, targets=np.concatenate([line, windows.series.targets[40:]]))
        windows = replace(windows, series=series)
        batch = windows.batch([8])  # its context has the rows 8 to 16
        assert batch.values[4:8, 0, 0].tolist() == wanted
        assert batch.seen[4:8, 0, 0].tolist() == ([False, False, True, False] if missing == "mask" else [True] * 4)
        cut = windows.batch([7])  # the rows 7 to 15: nothing behind the last gap is known yet
        assert cut.values[8, 0, 0].item() == (0 if missing == "mask" else 14)


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_nothing_of_the_future_is_in_a_window(scaling: Scaling, missing: Missing) -> None:
    """Whatever stands behind the origin, the context, its scale and its base are the same to the last bit."""
    for lags, transform in itertools.product(LAGS, TRANSFORMS):
        windows = _windows(lags, scaling, missing, transform, gaps=0.15)
        series = windows.series
        for index in (0, 5, len(windows) - 1):
            before = windows.batch([index])
            which, origin = windows.places[index]
            row, end = int(series.offsets[which] + origin), int(series.offsets[which + 1])
            for stranger in (np.nan, 1e9, None):
                targets, past = series.targets.copy(), series.past.copy()
                for values in (targets, past):
                    future = values[row:end]
                    future[:] = future[::-1].copy() if stranger is None else stranger
                other = replace(windows, series=replace(series, targets=targets, past=past))
                after = other.batch([index])
                assert not np.array_equal(other.truth[index], windows.truth[index])
                for name in ("values", "seen"):
                    assert torch.equal(getattr(after, name)[:CONTEXT], getattr(before, name)[:CONTEXT])
                for name in ("past", "known", "static", "location", "scale", "base"):
                    assert torch.equal(getattr(after, name), getattr(before, name)), name


def test_differences_add_up() -> None:
    values = np.random.default_rng(0).normal(size=(30, 2, 3))
    for lags in LAGS:
        empty = np.concatenate([np.zeros((sum(lags), 2, 3)), values])
        assert torch.allclose(cumulated(torch.tensor(differenced(empty, lags)), lags), torch.tensor(values))


def test_a_batch_goes_to_another_precision() -> None:
    batch = _windows((1,)).batch([1, 2]).to(torch.device("cpu"), torch.float32)
    assert batch.values.dtype == batch.known.dtype == torch.float32
    assert batch.restore(batch.targets).dtype == torch.float64
    assert (len(batch), batch.context, batch.horizon, batch.steps) == (2, CONTEXT, HORIZON, 2 * (CONTEXT + HORIZON))
