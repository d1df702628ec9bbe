"""Error rates against a distance written otherwise."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.tasks.edits import aligned, confused, counts, edits, error_rate

LETTERS = st.lists(st.sampled_from("abc"), max_size=7)


def distance(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    """By the definition, from the front."""

    @cache
    def rest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return len(a) - i + len(b) - j
        if a[i] == b[j]:
            return rest(i + 1, j + 1)
        return 1 + min(rest(i + 1, j), rest(i, j + 1), rest(i + 1, j + 1))

    return rest(0, 0)


@given(LETTERS, LETTERS)
def test_the_fewest_edits(true: list[str], said: list[str]) -> None:
    found = edits(true, said)
    assert found.total == distance(tuple(true), tuple(said))
    assert found.inserted - found.deleted == len(said) - len(true)
    pairs = aligned(true, said)
    assert [t for t, _ in pairs if t is not None] == true
    assert [s for _, s in pairs if s is not None] == said


def test_by_hand() -> None:
    assert edits(["three", "seven", "two"], ["tree", "seven", "two", "two"]) == (1, 1, 0)
    assert edits("kitten", "sitting") == (2, 1, 0)
    assert edits("", "ab") == (0, 2, 0)


def test_rates_are_over_all_that_is_true() -> None:
    true, said = ["3 7 2", "1", ""], ["3 2", "1", "5"]
    words = counts(true, said, "word")
    np.testing.assert_array_equal(words, [[0, 0, 1, 3], [0, 0, 0, 1], [0, 1, 0, 0]])
    assert float(error_rate(words.sum(0))) == pytest.approx(2 / 4)
    characters = counts(true, said, "character")
    np.testing.assert_array_equal(characters[:, 3], [5, 1, 0])
    assert float(error_rate(characters.sum(0))) == pytest.approx(3 / 6)
    assert float(error_rate(np.zeros(4))) == 0
    assert float(error_rate(counts([""], ["a b"], "word").sum(0))) == 2


def test_what_is_taken_for_what() -> None:
    found = confused(["five nine", "nine one", "one"], ["nine nine", "five one", "one one"])
    assert found == {("five", "nine"): 1, ("nine", "five"): 1, (None, "one"): 1}
