"""Films that are drawn, each against its definition computed another way."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from recurra.data.made import MADE
from recurra.data.made.bouncing_balls import fly
from recurra.data.made.films import Film, covered, grid
from recurra.data.made.moving_shapes import DIRECTIONS, SHAPES, distance
from recurra.data.records import Records
from recurra.errors import DataError
from recurra.run.recipe import load

FILMS = {name: made for name, made in MADE.items() if issubclass(made, Film)}
SMALL = {"training": 12, "validation": 5, "test": 6, "length": 9}


def parts(name: str, **options: Any) -> dict[str, Records]:
    return MADE[name](**SMALL | options).parts()


def frames(records: Records) -> np.ndarray:
    """(N, T, H, W) from 0 to 1."""
    height, width, _ = records.settings["frame"]  # pyright: ignore[reportGeneralTypeIssues]
    return records.values.reshape(len(records), -1, height, width) / 255


@pytest.mark.parametrize("name", FILMS)
def test_parts_share_nothing_and_are_settled_by_the_seed(name: str) -> None:
    found, again, other = parts(name), parts(name), parts(name, seed=1)
    assert {part: len(records) for part, records in found.items()} == {"train": 12, "validation": 5, "test": 6}
    for part, records in found.items():
        assert records.values.dtype == np.uint8
        assert np.diff(records.offsets).tolist() == [9] * len(records)
        assert np.array_equal(records.values, again[part].values)
        assert not np.array_equal(records.values, other[part].values)
    first = [records.values[:9].tobytes() for records in found.values()]
    assert len(set(first)) == 3
    longer = parts(name, training=20)["train"]
    assert len(longer) == 20
    assert len(np.unique(frames(longer).reshape(20, -1), axis=0)) == 20


# --- balls ------------------------------------------------------------------------------------------------------------


def centre(frame: np.ndarray) -> np.ndarray:
    x, y = grid(len(frame))
    return np.array([(x * frame).sum(), (y * frame).sum()]) / frame.sum()


def folded(place: np.ndarray, low: float, high: float) -> np.ndarray:
    """Where a free flight stands that is mirrored at two walls."""
    span = high - low
    within = np.mod(place - low, 2 * span)
    return low + np.where(within > span, 2 * span - within, within)


def test_one_ball_is_a_straight_line_folded_at_the_walls() -> None:
    films = frames(parts("bouncing_balls", balls=1, radius=3.0, size=20, length=40, fastest=2.5)["train"])
    for film in films:
        found = np.array([centre(frame) for frame in film])
        velocity = np.diff(found[:2], axis=0)[0]
        # Of frames that lie between two impacts, the fold of one straight line; which, the first two frames say unless
        # the ball meets a wall between them.
        if np.all((found[:2] > 3.6) & (found[:2] < 16.4)) and np.linalg.norm(velocity) >= 0.5:
            time = np.arange(6)[:, None]
            np.testing.assert_allclose(found[:6], folded(found[0] + time * velocity, 3.0, 17.0), atol=0.15)
    areas = films.sum((-2, -1))
    np.testing.assert_allclose(areas, np.pi * 9, rtol=0.02)  # no frame shows more or less of it


@given(
    st.integers(0, 2**32 - 1),
    st.floats(0.3, 7.0),
)
@settings(max_examples=60)
def test_impacts_keep_energy_momentum_and_distance(seed: int, time: float) -> None:
    random = np.random.default_rng(seed)
    places = np.array([[3.0, 3.0], [9.0, 4.0], [6.0, 11.0]]) + random.uniform(-0.9, 0.9, (3, 2))
    velocities = random.normal(size=(3, 2)) * 2
    energy = (velocities**2).sum()
    fly(places, velocities, time, 1.0, 14.0)
    assert (velocities**2).sum() == pytest.approx(energy)
    assert places.min() >= 1.0 - 1e-9
    assert places.max() <= 13.0 + 1e-9
    apart = np.linalg.norm(places[:, None] - places, axis=-1) + 9 * np.eye(3)
    assert apart.min() >= 2 - 1e-9


def test_two_balls_meet_as_springs_without_length_would_throw_them_back() -> None:
    """Far from walls momentum is kept; a stiff repulsion, integrated, comes to the same velocities."""
    for seed in range(4):
        random = np.random.default_rng(seed)
        angle = random.uniform(-0.6, 0.6)
        places = np.array([[10.0, 10.0], [14.0, 10.0 + np.sin(angle)]])
        velocities = np.array([[1.0, 0.1], [-0.7, 0.05]])
        before = velocities.sum(0)

        def motion(_: float, s: np.ndarray) -> np.ndarray:
            apart = s[2:4] - s[0:2]
            length = np.linalg.norm(apart)
            force = 4e5 * max(0.0, 2.0 - length) * apart / length
            return np.concatenate([s[4:8], -force, force])

        start = np.concatenate([places.ravel(), velocities.ravel()])
        integrated = solve_ivp(motion, (0, 4), start, rtol=1e-9, atol=1e-10, max_step=0.01).y[:, -1]
        fly(places, velocities, 4.0, 1.0, 100.0)
        np.testing.assert_allclose(velocities.ravel(), integrated[4:], atol=5e-3)
        np.testing.assert_allclose(places.ravel(), integrated[:4], atol=2e-2)
        np.testing.assert_allclose(velocities.sum(0), before)


def test_a_flight_cut_into_pieces_is_the_same_flight() -> None:
    random = np.random.default_rng(3)
    places, velocities = np.array([[3.0, 3.0], [9.0, 4.0]]), random.normal(size=(2, 2)) * 2
    whole = places.copy(), velocities.copy()
    fly(*whole, 10.0, 1.0, 14.0)
    for _ in range(40):
        fly(places, velocities, 0.25, 1.0, 14.0)
    np.testing.assert_allclose(places, whole[0], atol=1e-9)
    np.testing.assert_allclose(velocities, whole[1], atol=1e-9)


def test_edges_are_as_grey_as_pixels_are_covered() -> None:
    """Against the share of 32 × 32 points in each pixel that lie in the disc."""
    x, y = grid(10)
    fine = (np.arange(320) + 0.5) / 32
    inside = np.hypot(*np.meshgrid(fine - 4.7, fine - 5.2)) < 3
    share = inside.reshape(10, 32, 10, 32).mean((1, 3))
    assert np.abs(covered(np.hypot(x - 4.7, y - 5.2) - 3) - share).max() < 0.06


# --- shapes -----------------------------------------------------------------------------------------------------------


def labels(records: Records) -> list[list[str | None]]:
    assert records.step_labels is not None
    every = [records.step_labels[step] for step in range(len(records.values))]
    named = [None if kinds is None else kinds[0] for kinds in every]
    return [named[a:b] for a, b in pairwise(records.offsets.tolist())]


def test_directions_are_where_the_shape_has_moved() -> None:
    train = parts("moving_shapes", noise=0.0, training=60, length=20)["train"]
    met = set()
    for film, named in zip(frames(train), labels(train), strict=True):
        assert named[0] is None
        centres = np.array([centre(frame) for frame in film])
        for moved, label in zip(np.diff(centres, axis=0), named[1:], strict=True):
            assert label is not None
            np.testing.assert_allclose(moved, DIRECTIONS[label], atol=0.06)
            met.add(label)
    assert met == set(DIRECTIONS)
    turned = np.mean([a != b for named in labels(train) for a, b in pairwise(named[1:])])
    assert 0.1 < turned < 0.3  # a tenth at random, and where a wall is in the way


def test_shapes_are_told_by_what_is_drawn() -> None:
    train = parts("moving_shapes", noise=0.0, label="shape", training=40)["train"]
    areas: dict[str, set[float]] = {}
    for film, named in zip(frames(train), labels(train), strict=True):
        (kind,) = set(named)
        assert kind is not None
        areas.setdefault(kind, set()).add(round(float(film.sum((-2, -1)).mean()), 0))
    assert set(areas) == set(SHAPES)
    expected = {"disc": np.pi * 6.25, "square": (2 * 0.85 * 2.5) ** 2, "diamond": 2 * 6.25, "cross": 25 * 5 / 9}
    for kind, found in areas.items():
        assert np.mean(list(found)) == pytest.approx(expected[kind], rel=0.1)


def test_signed_distances_are_negative_within() -> None:
    for kind in SHAPES:
        assert distance(kind, np.array(0.0), np.array(0.0), 2.0) < 0
        assert distance(kind, np.array(2.5), np.array(2.5), 2.0) > 0


def test_noise_has_its_deviation() -> None:
    clean, noisy = (frames(parts("moving_shapes", noise=n)["train"]) for n in (0.0, 0.1))
    grey = (clean == 0) & (noisy > 0)
    # Half of the noise is cut at 0; the mean of the other half is σ √(2/π).
    assert noisy[grey].mean() == pytest.approx(0.1 * (2 / np.pi) ** 0.5, rel=0.1)


# --- a light ----------------------------------------------------------------------------------------------------------


def test_a_light_follows_the_recurrence_of_an_oscillation() -> None:
    """x_(t+1) = 2 cos(2π / P) x_t - x_(t-1) for both coordinates; P is one for the whole clip."""
    train = parts("swinging", length=50, faintest=0.8, training=30)["train"]
    films = frames(train).reshape(30, 50, 4)
    x = 2 * (films[..., 1] - films[..., 0])
    y = 2 * (films[..., 2] - films[..., 0])
    np.testing.assert_allclose(films.sum(-1), 2, atol=0.01)
    np.testing.assert_allclose(films[..., 1] + films[..., 2], 1, atol=0.01)
    for u, v in zip(x, y, strict=True):
        now, sides = np.concatenate([u[1:-1], v[1:-1]]), np.concatenate([u[2:] + u[:-2], v[2:] + v[:-2]])
        factor = float(now @ sides / (now @ now))
        assert np.cos(2 * np.pi / 10) - 0.01 < factor / 2 < np.cos(2 * np.pi / 14) + 0.01
        assert np.abs(sides - factor * now).max() < 0.05


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"data.name": "bouncing_balls", "data.options.slowest": 3.0},
            "slowest is 3, fastest 1.5; it is to be no more",
        ),
        ({"data.name": "bouncing_balls", "data.options.radius": 5.0}, "2 balls of radius 5 leave no room to fly"),
        (
            {"data.name": "moving_shapes", "data.options.radius": 7.5},
            "a shape of 15 pixels cannot move to and fro by 1",
        ),
        ({"data.name": "swinging", "data.options.shortest": 15}, "shortest is 15, longest 14; it is to be no more"),
        ({"data.name": "swinging", "data.options.balls": 2}, "data.options.balls: unknown"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load("frames", options)


def test_they_are_for_frames_alone() -> None:
    from recurra.data import DataSettings, load_parts

    with pytest.raises(DataError, match="'swinging' is made for the task frames, not for classify"):
        load_parts("swinging", "classify", DataSettings())
