"""A split keeps every sequence once, keeps the shares of classes, and draws the test part from its seed alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.split import split
from recurra.errors import DataError


@given(
    st.integers(5, 200),
    st.integers(0, 2**64),
    st.floats(0.0, 0.45),
    st.floats(0.0, 0.45),
    st.integers(1, 12),
    st.booleans(),
)
def test_every_sequence_is_in_one_part(
    count: int, seed: int, validation: float, test: float, classes: int, stratified: bool
):
    labels = np.random.default_rng(seed).integers(0, classes, count) if stratified else None
    try:
        parts = split(count, seed=seed, validation_fraction=validation, test_fraction=test, labels=labels)
    except DataError:
        assert count * (1 - validation - test) < 3  # only where hardly anything is left
        return
    given = [part for part in parts[:3] if part is not None]
    assert sorted(np.concatenate(given).tolist()) == list(range(count))
    assert all((np.diff(part) > 0).all() for part in given)
    assert (parts.test is None) == (test == 0)
    assert (parts.validation is None) == (validation == 0)
    assert len(parts.train) > 0


def test_the_test_part_depends_on_its_seed_alone():
    labels = np.arange(500) % 7
    first = split(500, seed=3, validation_fraction=0.1, test_fraction=0.2, labels=labels)
    for other in (0.0, 0.05, 0.3):
        again = split(500, seed=3, validation_fraction=other, test_fraction=0.2, labels=labels)
        np.testing.assert_array_equal(first.test, again.test)
    assert first.test is not None
    changed = split(500, seed=4, validation_fraction=0.1, test_fraction=0.2, labels=labels).test
    assert changed is not None
    assert not np.array_equal(first.test, changed)


@given(st.integers(12, 120), st.integers(0, 2**64), st.integers(2, 10), st.integers(1, 4), st.booleans())
def test_folds_are_dealt_out(count: int, seed: int, folds: int, classes: int, stratified: bool):
    """Every sequence is in one fold, whose sizes differ by one at most, and so do those of each class."""
    labels = np.random.default_rng(seed).integers(0, classes, count) if stratified else None
    parts = [split(count, seed=seed, validation_fraction=0.1, labels=labels, fold=(i, folds)) for i in range(folds)]
    tests = [part.test for part in parts if part.test is not None]
    members = [0] if labels is None else np.bincount(labels, minlength=classes).tolist()
    alone = [] if labels is None or sum(m > 1 for m in members) < 2 else [c for c, m in enumerate(members) if m == 1]
    in_one = [i for i in range(count) if labels is None or labels[i] not in alone]
    assert sorted(np.concatenate(tests).tolist()) == in_one
    assert np.ptp([len(test) for test in tests]) <= 1
    for k in range(classes if labels is not None else 0):
        assert k in alone or np.ptp([int((labels[test] == k).sum()) for test in tests if labels is not None]) <= 1
    for part in parts:
        given = [each for each in part[:3] if each is not None]
        assert sorted(np.concatenate(given).tolist()) == list(range(count))
        assert len(part.train)


def test_folds_depend_on_the_seed_alone():
    labels = np.arange(100) % 3
    first = split(100, seed=3, labels=labels, fold=(2, 10))
    again = split(100, seed=3, validation_fraction=0.2, labels=labels, fold=(2, 10))
    other = split(100, seed=4, labels=labels, fold=(2, 10))
    assert first.test is not None
    assert again.test is not None
    assert other.test is not None
    np.testing.assert_array_equal(first.test, again.test)
    assert first.test.tolist() != other.test.tolist()
    assert again.validation is not None
    assert len(again.validation) == 20


def test_too_few_for_so_many_folds():
    with pytest.raises(DataError, match=r"data.folds: 8 sequences are too few for 10 folds"):
        split(8, seed=0, fold=(0, 10))
    with pytest.raises(DataError, match=r"data.validation_fraction 0.5 and a test part of one in 2 \(data.folds\)"):
        split(8, seed=0, validation_fraction=0.5, fold=(0, 2))


def test_shares_are_of_all_sequences_and_kept_by_class():
    labels = np.repeat(["a", "b", "c"], [500, 300, 200])
    parts = split(1000, seed=0, validation_fraction=0.1, test_fraction=0.2, labels=labels)
    for part, size in ((parts.train, 700), (parts.validation, 100), (parts.test, 200)):
        assert part is not None
        assert len(part) == size
        found = [int((labels[part] == label).sum()) for label in "abc"]
        assert found == [size * 5 // 10, size * 3 // 10, size * 2 // 10]
    assert not parts.warnings


def test_shares_are_not_rounded_up_for_the_last_bit():
    parts = split(20, seed=0, validation_fraction=0.1, test_fraction=0.3)  # 0.1 / 0.7 · 14 is 2.0000000000000004
    assert [len(part) for part in parts[:3] if part is not None] == [12, 2, 6]


def test_the_only_member_of_a_class_stays_in_training():
    labels = ["a"] * 20 + ["b"] * 20 + ["once"] + ["other"]
    for seed in range(20):
        parts = split(42, seed=seed, validation_fraction=0.2, test_fraction=0.2, labels=labels)
        assert {40, 41} <= set(parts.train.tolist())


def test_a_part_smaller_than_the_number_of_classes_is_drawn_without_regard_to_them():
    parts = split(20, seed=0, test_fraction=0.1, labels=np.arange(20) // 2)
    assert parts.test is not None
    assert len(parts.test) == 2
    assert parts.warnings == ["test part: 2 sequences are too few to keep the shares of 10 classes."]


def test_too_little_to_split():
    with pytest.raises(DataError, match=r"1 sequence is too few to split off a test part; .*data\.test_fraction=0"):
        split(1, seed=0, test_fraction=0.2)
    with pytest.raises(DataError, match=r"1 sequence is too few to split off a validation part"):
        split(2, seed=0, test_fraction=0.2, validation_fraction=0.2)
    with pytest.raises(DataError, match=r"leave nothing to train on; expected a sum below 1"):
        split(100, seed=0, test_fraction=0.5, validation_fraction=0.5)
