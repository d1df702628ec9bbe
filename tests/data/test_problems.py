"""Problems drawn from a seed, each against its definition computed another way."""

import csv
import io
import re
from collections import Counter
from functools import cache
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data import DataSettings, Sequences, describe, load_part, load_parts
from recurra.data.made import MADE, Problem
from recurra.data.made.drifting import Drifting
from recurra.data.records import Records
from recurra.errors import DataError
from recurra.run.lines import to_csv

PROBLEMS = {name: made for name, made in MADE.items() if issubclass(made, Problem)}
SMALL = {"training": 30, "validation": 12, "test": 15}
SIZES: dict[str, dict[str, Any]] = {
    "adding": {"length": 11},
    "copy": {"delay": 4, "symbols": 3},
    "copy_vectors": {"width": 3, "length": 6},
    "temporal_order": {"length": 20},
    "embedded_reber": {},
    "parity": {"length": 9, "shortest": 2},
    "drifting": {"length": 10},
}


def parts(name: str, **options: Any) -> dict[str, Records]:
    return MADE[name](**SMALL | SIZES[name] | options).parts()


def sequences(records: Records) -> list[np.ndarray]:
    return [records.values[start:stop] for start, stop in pairwise(records.offsets.tolist())]


def symbols(records: Records) -> list[str]:
    """Sequences of one-hot symbols as text; their names must be one letter long."""
    assert set(np.unique(records.values)) <= {0, 1}
    assert (records.values.sum(1) == 1).all()
    return ["".join(records.features[i] for i in rows.argmax(1)) for rows in sequences(records)]


def asked(records: Records) -> list[list[tuple[str, ...] | None]]:
    assert records.step_labels is not None
    return [
        [records.step_labels[step] for step in range(start, stop)] for start, stop in pairwise(records.offsets.tolist())
    ]


# --- each against its definition --------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [2, 3, 10, 11])
def test_adding_asks_for_the_sum_of_one_marked_number_of_each_half(length: int):
    train = parts("adding", training=400, length=length)["train"]
    assert train.numbers is not None
    places: set[tuple[int, int]] = set()
    for rows, target in zip(sequences(train), train.numbers, strict=True):
        value, marker = rows.T
        assert value.min() >= 0
        assert value.max() < 1
        assert sorted(set(marker.tolist())) == ([0, 1] if length > 2 else [1])
        first, second = np.flatnonzero(marker)  # two of them
        assert first < length // 2 <= second
        assert target == pytest.approx([value @ marker], abs=1e-6)
        places.add((int(first), int(second)))
    assert places == set(product(range(length // 2), range(length // 2, length)))
    assert float(train.values[:, 0].mean()) == pytest.approx(0.5, abs=4 * (1 / 12 / len(train.values)) ** 0.5)


def test_who_always_says_1_has_an_error_of_a_sixth():
    numbers = parts("adding", training=5000)["train"].numbers
    assert numbers is not None
    errors = (numbers - 1.0) ** 2
    assert float(errors.mean()) == pytest.approx(1 / 6, abs=4 * float(errors.std()) / 5000**0.5)


@pytest.mark.parametrize("blanks", [False, True])
@pytest.mark.parametrize(("delay", "count", "alphabet"), [(1, 1, 2), (5, 3, 4), (20, 10, 8)])
def test_copy_asks_for_the_symbols_again(delay: int, count: int, alphabet: int, blanks: bool):
    train = parts("copy", delay=delay, symbols=count, alphabet=alphabet, blanks=blanks)["train"]
    assert train.features == [*"abcdefgh"[:alphabet], "blank", "begin"]
    for rows, answers in zip(sequences(train), asked(train), strict=True):
        said = [train.features[i] for i in rows.argmax(1)]
        assert (rows.sum(1) == 1).all()
        shown, rest = said[:count], said[count:]
        assert set(shown) <= set("abcdefgh"[:alphabet])
        assert rest == ["blank"] * (delay - 1) + ["begin"] + ["blank"] * count
        before = [("blank",) if blanks else None] * (delay + count)
        assert answers == [*before, *((symbol,) for symbol in shown)]


@pytest.mark.parametrize(("shortest", "length", "width"), [(1, 1, 1), (2, 5, 3), (1, 20, 8), (9, 4, 2)])
def test_copy_vectors_asks_for_the_vectors_again(shortest: int, length: int, width: int):
    train = parts("copy_vectors", training=300, shortest=shortest, length=length, width=width)["train"]
    assert train.features == [*(f"b{i}" for i in range(1, width + 1)), "end"]
    counts: Counter[int] = Counter()
    for rows, answers in zip(sequences(train), asked(train), strict=True):
        (end,) = np.flatnonzero(rows[:, -1])
        counts[int(end)] += 1
        assert len(rows) == 2 * end + 1
        assert not rows[end:, :-1].any()
        assert answers[: end + 1] == [None] * (end + 1)
        for row, answer in zip(rows[:end], answers[end + 1 :], strict=True):
            assert answer == tuple(f"b{i}" for i, bit in enumerate(row[:-1], 1) if bit)
    assert set(counts) == set(range(min(shortest, length), length + 1))
    shown = train.values[:, :-1].sum() / (sum(n * count for n, count in counts.items()) * width)
    assert shown == pytest.approx(0.5, abs=4 * 0.5 / (300 * min(shortest, length) * width) ** 0.5)


def test_temporal_order_asks_for_the_order_of_two_symbols():
    train = parts("temporal_order", training=800, length=100)["train"]
    assert train.labels is not None
    lengths, first, second = set(), set(), set()
    for text, (label,) in zip(symbols(train), train.labels, strict=True):
        assert re.fullmatch("E[abcd]+[XY][abcd]+[XY][abcd]*B", text)
        one, other = (found.start() for found in re.finditer("[XY]", text))
        assert label == {"XX": "Q", "XY": "R", "YX": "S", "YY": "U"}[text[one] + text[other]]
        lengths.add(len(text))
        first.add(one)
        second.add(other)
    # 800 draws from 11 values leave one out with a chance of 11 (10/11)^800, 1e-32
    assert lengths == set(range(100, 111))
    assert first == set(range(10, 21))
    assert second == set(range(50, 61))
    assert Counter(train.labels).keys() == {("Q",), ("R",), ("S",), ("U",)}


@pytest.mark.parametrize("length", [10, 13, 57])
def test_temporal_order_of_other_lengths(length: int):
    for text in symbols(parts("temporal_order", length=length)["train"]):
        one, other = (found.start() for found in re.finditer("[XY]", text))
        assert length <= len(text) <= length * 11 // 10
        assert length // 10 <= one <= length * 2 // 10
        assert length * 5 // 10 <= other <= length * 6 // 10
        assert text[-1] == "B"


INNER = re.compile("B(TS*X(XT*VP)*(S|XT*VV)|PT*V(V|P(XT*VP)*(S|XT*VV)))E")
"""The Reber grammar as a regular expression, worked out by hand from its graph."""


def accepted(string: str) -> bool:
    return len(string) > 4 and string[:2] + string[-2:] in ("BTTE", "BPPE") and bool(INNER.fullmatch(string[2:-2]))


@cache
def may_follow(prefix: str) -> tuple[str, ...]:
    """The symbols with which some string goes on, by trying every end of the inner string up to those needed."""
    if prefix == "B":
        return ("P", "T")
    longest = 4 if len(prefix) == 2 else 3
    ends = ["".join(end) for length in range(longest + 1) for end in product("BEPSTVX", repeat=length)]
    tails = (*ends, *(f"{end}{prefix[1]}E" for end in ends))
    return tuple(symbol for symbol in "BEPSTVX" if any(accepted(prefix + symbol + tail) for tail in tails))


def test_reber_asks_for_all_symbols_that_may_follow():
    made = parts("embedded_reber")
    for part in made.values():
        for text, answers in zip(symbols(part), asked(part), strict=True):
            assert accepted(text + "E")
            assert answers == [may_follow(text[: i + 1]) for i in range(len(text))]


def test_reber_takes_both_ways_alike():
    texts = symbols(parts("embedded_reber", training=3000, apart=False)["train"])
    assert sum(text[1] == "T" for text in texts) / 3000 == pytest.approx(0.5, abs=4 * 0.5 / 3000**0.5)
    shortest = sum(len(text) == 8 for text in texts) / 3000  # TXS or PVV inside: each of 4 ways, 1/2 each of 3 forks
    assert shortest == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / 3000) ** 0.5)


def test_no_reber_string_is_in_two_parts_unless_they_are_drawn_alike():
    apart, alike = (
        [set(symbols(part)) for part in parts("embedded_reber", training=300, test=300, apart=way).values()]
        for way in (True, False)
    )
    assert not any(one & other for i, one in enumerate(apart) for other in apart[:i])
    assert alike[0] & alike[1]


@pytest.mark.parametrize("way", ["steps", "end"])
def test_parity_of_the_bits_so_far(way: str):
    train = parts("parity", asked=way, training=300)["train"]
    assert {len(rows) for rows in sequences(train)} == set(range(2, 10))
    wanted = [
        ["odd" if sum(rows[: i + 1].ravel().tolist()) % 2 else "even" for i in range(len(rows))]
        for rows in sequences(train)
    ]
    if way == "steps":
        assert train.labels is None
        assert asked(train) == [[(label,) for label in row] for row in wanted]
    else:
        assert train.step_labels is None
        assert train.labels == [(row[-1],) for row in wanted]
    assert float(train.values.mean()) == pytest.approx(0.5, abs=0.05)


def fitted(x: np.ndarray) -> tuple[float, float, float]:
    """φ_1, φ_2 and σ of an autoregressive process of order 2, by least squares."""
    past = np.stack([x[1:-1], x[:-2]], 1)
    first, second = np.linalg.solve(past.T @ past, past.T @ x[2:])
    return float(first), float(second), float(np.std(x[2:] - past @ [first, second]))


@pytest.mark.parametrize("radius", [0.5, 0.95])
def test_drifting_is_the_process_it_is_said_to_be_while_it_stands(radius: float):
    made = Drifting(training=1, length=10_000, hold=1e12, radius=radius)
    x = made.parts()["train"].values[:, 0].astype(np.float64)
    first, second, noise = fitted(x)
    assert second == pytest.approx(-(radius**2), abs=0.02)
    period = 2 * np.pi / np.arccos(first / 2 / radius)
    assert 4 <= period <= 40
    assert made.law(period) == pytest.approx((first, second, noise), abs=0.02)
    assert float(x.var()) == pytest.approx(1, abs=0.35)


def test_drifting_jumps_and_asks_for_the_next_value():
    train = parts("drifting", training=40, length=500, hold=250.0)["train"]
    assert train.numbers is not None
    np.testing.assert_array_equal(train.numbers[:-1], train.values[1:])  # segments follow one another
    periods = []
    for x in np.split(train.values[:, 0].astype(np.float64), 80):  # as long as a law stands, on average
        periods.append(fitted(x)[0])
    assert np.std(periods) > 0.3  # 2 ρ cos(2π/P) over all P; a law that stands would give 0.03


# --- what all have in common ------------------------------------------------------------------------------------------


def same(one: Records, other: Records) -> bool:
    return one.values.shape == other.values.shape and bool((one.values == other.values).all())


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_seed_settles_everything(name: str):
    one, again, other = parts(name), parts(name), parts(name, seed=1)
    assert list(one) == list(again)
    for part in one:
        assert same(one[part], again[part])
        assert not same(one[part], other[part])


@pytest.mark.parametrize("name", PROBLEMS)
def test_parts_and_rows_have_streams_of_their_own(name: str):
    made = MADE[name](**SMALL | SIZES[name])
    assert isinstance(made, Problem)
    drawn = [made.draw(made.stream(part), 12, "") for part in ("train", "validation", "test", "rows")]
    assert not any(same(one, other) for i, one in enumerate(drawn) for other in drawn[:i])


@pytest.mark.parametrize("name", PROBLEMS)
def test_sizes(name: str):
    made = parts(name)
    assert {part: len(records) for part, records in made.items()} == {"train": 30, "validation": 12, "test": 15}
    assert set(parts(name, validation=0)) == {"train", "test"}


@pytest.mark.parametrize(
    "name", [name for name in PROBLEMS if name not in ("temporal_order", "parity", "copy_vectors")]
)
def test_a_larger_part_begins_alike(name: str):
    few, more = (parts(name, training=count)["train"] for count in (10, 30))
    for one, other in zip(sequences(few), sequences(more), strict=False):
        if name == "adding":  # whose numbers are drawn before its places
            one, other = one[:, :1], other[:, :1]
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", PROBLEMS)
def test_options_are_described(name: str):
    for field in PROBLEMS[name].model_fields.values():
        assert field.description
    assert PROBLEMS[name].name == name


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_loaded_and_read_again_from_a_run(name: str):
    options = MADE[name](**SMALL | SIZES[name]).model_dump()
    loaded = load_parts(name, MADE[name].task, DataSettings(options=options))
    records = MADE[name](**options).parts()
    found: dict[str, Sequences | None] = {"train": loaded.train, "validation": loaded.validation, "test": loaded.test}
    for part, data in found.items():
        assert data is not None
        np.testing.assert_array_equal(data.values.numpy(), records[part].values)
    again, _ = load_part(name, loaded.schema)  # the test part, with the options of the training data
    assert loaded.test is not None
    np.testing.assert_array_equal(again.values.numpy(), loaded.test.values.numpy())
    assert again.targets is not None
    assert loaded.test.targets is not None
    np.testing.assert_array_equal(again.targets.numpy(), loaded.test.targets.numpy())


@pytest.mark.parametrize("name", [name for name in PROBLEMS if name != "drifting"])
def test_rows_are_read_again_as_they_were_drawn(name: str, tmp_path: Path):
    options = MADE[name](**SMALL | SIZES[name]).model_dump()
    made = MADE[name](**options)
    assert isinstance(made, Problem)
    drawn = [row for rows in islice(made.rows(), 16) for row in rows]
    (tmp_path / "rows.csv").write_text(to_csv(drawn))
    schema = load_parts(name, made.task, DataSettings(options=options)).schema
    read, warnings = load_part(tmp_path / "rows.csv", schema)
    assert warnings == []
    wanted = made.draw(made.stream("rows"), 16, "")
    np.testing.assert_allclose(read.values.numpy(), wanted.values, rtol=1e-7)
    np.testing.assert_array_equal(read.offsets.numpy(), wanted.offsets)
    assert read.targets is not None
    if wanted.numbers is not None:
        np.testing.assert_allclose(read.targets.numpy(), wanted.numbers, rtol=1e-6)
        return
    classes = np.array(schema.classes)
    steps = wanted.step_labels
    labels = wanted.labels if steps is None else [steps[step] for step in range(len(steps.codes))]
    assert labels is not None
    for i, label in enumerate(labels):
        target = read.targets[i].numpy()
        if label is None:
            assert read.asked is not None
            assert not read.asked[i]
        else:
            said = classes[target].tolist() if target.dtype == bool else [str(classes[target])]
            assert sorted(said) == sorted(label)


def test_rows_go_on_beyond_what_is_drawn_at_once():
    options = SMALL | SIZES["parity"]
    rows = list(islice(MADE["parity"](**options).rows(), 40))
    assert [row[0]["id"] for row in rows] == list(range(40))
    assert len({tuple(line["bit"] for line in row) for row in rows}) > 20


def test_drifting_goes_on_as_one_stream():
    rows = [row for rows in islice(Drifting().rows(), 200) for row in rows]
    assert [row["step"] for row in rows] == list(range(200))
    assert all(one["next"] == other["value"] for one, other in pairwise(rows))


def test_the_rows_of_what_is_not_drawn_end(tmp_path: Path):
    rows = list(MADE["sine"].model_validate({"training": 2}).rows())
    assert [len(row) for row in rows] == [20, 20]
    text = to_csv(row for each in rows for row in each)
    assert [float(row["next"]) for row in csv.DictReader(io.StringIO(text))][:-1] == pytest.approx(
        [float(row["value"]) for row in csv.DictReader(io.StringIO(text))][1:], abs=1e-6
    )


def test_what_is_asked_for_is_described():
    found = describe("copy", DataSettings(options=SMALL | SIZES["copy"]))
    lines = found.to_text().splitlines()
    assert "  classes    8, at 90 of 300 steps" in lines
    assert found.parts["train"].asked == 90
    first = parts("copy")["train"]
    answer = " ".join(row[0] for row in asked(first)[0] if row is not None)
    assert found.parts["train"].first[0].startswith(f"{answer} | ")


# --- images pixel by pixel --------------------------------------------------------------------------------------------


def images(count: int = 6, rows: int = 4, columns: int = 3) -> tuple[np.ndarray, list[str]]:
    x = np.random.default_rng(0).integers(0, 256, (count, rows, columns), np.uint8)
    return x, ["a", "b"] * (count // 2)


WHOLE = DataSettings(validation_fraction=0, test_fraction=0)


def test_pixels_are_read_one_by_one():
    x, y = images()
    data = load_parts((x, y), "classify", WHOLE.model_copy(update={"pixels": True}))
    assert data.schema.features == ["value"]
    np.testing.assert_array_equal(data.train.values.numpy(), x.reshape(-1, 1))
    assert data.train.lengths.tolist() == [12] * 6
    further, _ = load_part(x[:2], data.schema)
    np.testing.assert_array_equal(further.sequence(1).numpy(), x[1].reshape(12, 1))


def test_pixels_of_unequal_lengths():
    x, y = images(2)
    data = load_parts(([x[0], x[1, :2]], y), "classify", WHOLE.model_copy(update={"pixels": True}))
    assert data.train.lengths.tolist() == [12, 6]
    np.testing.assert_array_equal(data.train.sequence(1).numpy()[:, 0], x[1, :2].ravel())


@given(st.integers(0, 2**32), st.booleans())
def test_one_order_for_all_sequences_kept_for_further_data(seed: int, pixels: bool):
    x, y = images()
    settings = WHOLE.model_copy(update={"pixels": pixels, "permute": seed})
    data = load_parts((x, y), "classify", settings)
    flat = x.reshape(6, 12, 1) if pixels else x
    order = data.schema.permutation
    assert sorted(order) == list(range(flat.shape[1]))
    for i in range(6):
        np.testing.assert_array_equal(data.train.sequence(i).numpy(), flat[i][order])
    further, _ = load_part(x[3:], data.schema)
    np.testing.assert_array_equal(further.sequence(0).numpy(), flat[3][order])


def test_the_order_that_was_kept_counts_not_the_seed():
    x, y = images()
    data = load_parts((x, y), "classify", WHOLE.model_copy(update={"permute": 1}))
    schema = data.schema.model_copy(update={"permutation": [3, 1, 0, 2]})
    further, _ = load_part(x, schema)
    np.testing.assert_array_equal(further.sequence(0).numpy(), x[0][[3, 1, 0, 2]])


def test_another_seed_draws_another_order_and_the_targets_stay():
    x, y = images()
    orders = [load_parts((x, y), "classify", WHOLE.model_copy(update={"permute": s, "pixels": True})) for s in (0, 1)]
    assert orders[0].schema.permutation != orders[1].schema.permutation
    assert orders[0].train.targets is not None
    assert orders[0].train.targets.tolist() == [0, 1] * 3


def test_a_length_is_cut_after_the_order_is_changed():
    x, y = images()
    data = load_parts((x, y), "classify", WHOLE.model_copy(update={"permute": 3, "max_length": 2}))
    np.testing.assert_array_equal(data.train.sequence(2).numpy(), x[2][data.schema.permutation[:2]])


FAULTS: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "unequal lengths": (
        ([np.ones((3, 2)), np.ones((4, 2))], ["a", "b"]),
        "classify",
        {"permute": 0},
        r"sequence 1: has 4 steps, expected as many as .*sequence 0: 3, since data\.permute puts",
    ),
    "unequal lengths in pixels": (
        ([np.ones((3, 2)), np.ones((4, 2))], ["a", "b"]),
        "classify",
        {"permute": 0, "pixels": True},
        r"sequence 1: has 8 steps, expected as many as .*sequence 0: 6",
    ),
    "texts": ((["a b", "b a"], ["a", "b"]), "classify", {"pixels": True, "min_count": 1}, "holds text; data.pixels"),
    "pixels of steps with targets": (
        (np.ones((2, 3, 2)), np.ones((2, 3, 1))),
        "regress",
        {"pixels": True},
        r"has a target at every step, of which data\.pixels would make several",
    ),
    "an order of steps with targets": (
        (np.ones((2, 3, 2)), np.ones((2, 3, 1))),
        "regress",
        {"permute": 0},
        r"has a target at every step, so that data\.permute would put them before their causes",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_what_cannot_be_rearranged(case: str):
    data, task, settings, said = FAULTS[case]
    with pytest.raises(DataError, match=said):
        load_parts(data, task, WHOLE.model_copy(update=settings))


def test_further_data_of_another_length():
    x, y = images()
    data = load_parts((x, y), "classify", WHOLE.model_copy(update={"permute": 0}))
    with pytest.raises(
        DataError, match=r"sequence 0: has 3 steps, expected the training data's 4, since data\.permute"
    ):
        load_part(x[:, :3], data.schema)


def test_mnist_pixel_by_pixel(data_folder: Path):
    settings = DataSettings(pixels=True, permute=0, validation_fraction=0)
    images = data_folder / "mnist"
    plain = load_parts(images, "classify", DataSettings(validation_fraction=0))
    permuted = load_parts(images, "classify", settings)
    assert permuted.test is not None
    assert plain.test is not None
    assert permuted.train.lengths.unique().tolist() == [784]
    np.testing.assert_array_equal(
        permuted.test.sequence(7)[:, 0].numpy(), plain.test.sequence(7).numpy().ravel()[permuted.schema.permutation]
    )
