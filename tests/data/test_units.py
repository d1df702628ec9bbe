"""Units: what is encoded comes back; numbers go by frequency; the pieces of a text give what the whole gives."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recurra.data.units import END, PAD, SPECIAL, START, UNK, Decoding, Units
from recurra.errors import DataError

PROSE = "The cat sat on the mat.\nDon't, said the dog; don't!\n\nThe end — naïve € 🙂.\n"


def test_a_text_of_characters_comes_back_and_the_commonest_are_first():
    units = Units.learn([PROSE], "character")
    assert units.symbols[:4] == list(SPECIAL)
    counts = Counter(PROSE)
    assert units.symbols[4:] == sorted(counts, key=lambda c: (-counts[c], c))
    table = {c: i for i, c in enumerate(units.symbols)}
    assert units.encode(PROSE) == [table[c] for c in PROSE]
    assert units.decode(units.encode(PROSE)) == PROSE


@given(st.text(st.characters(exclude_categories=[])), st.text(st.characters(exclude_categories=[]), min_size=1))
def test_any_text_of_characters(text: str, learnt: str):
    units = Units.learn([learnt], "character")
    assert units.encode(text) == [units.symbols.index(c, 4) if c in learnt else UNK for c in text]
    assert units.decode(units.encode(learnt)) == learnt


@given(st.text())
def test_subwords_give_every_text_back(text: str):
    assert SUBWORDS.decode(SUBWORDS.encode(text)) == text
    assert all(i >= len(SPECIAL) for i in SUBWORDS.encode(text))


SUBWORDS = Units.learn([PROSE] * 3, "subword", size=300)


def test_what_looks_like_a_special_symbol_in_a_text_is_none():
    text = "<pad> and </s>"
    assert SUBWORDS.decode(SUBWORDS.encode(text)) == text
    characters = Units.learn([text], "character")
    assert characters.decode(characters.encode(text)) == text


def test_subwords_join_what_is_common_and_say_what_they_stand_for():
    units = Units.learn(["low lower lowest low\n"] * 9, "subword", size=265)
    assert "low" in units.symbols
    assert len(units.encode("low")) == 1
    assert units.symbols[units.encode("€")[0]] == "<e2>"  # bytes that were never joined
    assert len(units) == len(units.symbols) <= 265


@given(st.lists(st.sampled_from(["ab ", "b\n", "\n", "  ", "né ", "x;", "'s "]), max_size=30), st.integers(0, 29))
def test_a_text_cut_behind_a_line_gives_what_the_whole_gives(parts: list[str], place: int):
    lines = "".join(parts).splitlines(keepends=True)
    head, tail = "".join(lines[:place]), "".join(lines[place:])
    for units in (SUBWORDS, WORDS, BLANKS):
        assert units.encode(head) + units.encode(tail) == units.encode(head + tail), units.unit


WORDS = Units.learn([PROSE], "word", lines=True)
BLANKS = Units.learn(["a <unk> né b b\n"], "word", cut="blanks", lines=True)


def test_words_between_blanks_with_ends_of_lines_as_symbols():
    assert BLANKS.symbols == [*SPECIAL, "b", "a", "né"]
    assert BLANKS.encode("b <unk> zzz\x85\xa0 a\n\n") == [4, UNK, UNK, 5, END, END]
    assert BLANKS.decode([4, UNK, END, 5, 6, PAD, START]) == "b <unk>\na né"
    without = Units.learn(["a b\nc"], "word", cut="blanks")
    assert without.decode(without.encode("a b\nc")) == "a b c"


def test_words_as_the_tokenizer_finds_them():
    units = Units.learn([PROSE], "word", lowercase=True)
    assert units.symbols[4] == "the"
    assert units.decode(units.encode("The dog, DON'T")) == "the dog , do n't"
    assert WORDS.decode(WORDS.encode("The cat\nsaid")) == "The cat\nsaid"


def test_size_and_count_bound_the_vocabulary():
    units = Units.learn(["a a a b b c"], "word", size=6)
    assert units.symbols[4:] == ["a", "b"]
    assert units.encode("c b") == [UNK, 5]
    assert Units.learn(["a a a b b c"], "word", min_count=3).symbols[4:] == ["a"]


def test_it_is_stored_and_read_back():
    for units in (SUBWORDS, WORDS, BLANKS):
        again = Units.model_validate_json(units.model_dump_json())
        assert again.encode(PROSE) == units.encode(PROSE)


def test_a_text_grows_as_its_indices_come():
    decoding = Decoding(SUBWORDS)
    pieces = [decoding.feed(i) for i in SUBWORDS.encode("€ 🙂 the")]
    assert "" in pieces  # a part of a character says nothing yet
    assert "".join(pieces) == "€ 🙂 the"
    decoding = Decoding(SUBWORDS)
    assert decoding.feed(SUBWORDS.encode("€")[0]) == ""
    assert decoding.finish() == "\ufffd"


def test_what_was_never_seen_is_named_with_its_place():
    with pytest.raises(DataError, match=r"character 5 of 'sat ßon': 'ß' was never seen in training\."):
        Units.learn([PROSE], "character").encode("sat ßon", strict=True)
    with pytest.raises(DataError, match=r"character 1 of 'A': 'A' was never seen.*nearest that was seen is 'a'"):
        Units.learn(["abc"], "character").encode("A", strict=True)
    with pytest.raises(DataError, match=r"word 3 of 'cat sitt on': 'sitt' was never seen"):
        WORDS.encode("The cat sitt on", strict=True)
    assert BLANKS.encode("b <unk>", strict=True) == [4, UNK]  # named by its own name
    with pytest.raises(DataError, match="'zz' was never seen"):
        BLANKS.encode("b <unk> zz", strict=True)


def test_nothing_to_learn_from_is_told():
    with pytest.raises(DataError, match="the text: holds no character"):
        Units.learn([""], "character")
    with pytest.raises(DataError, match="book: holds no word"):
        Units.learn(["\n \n"], "word", name="book", lines=True)
    with pytest.raises(DataError, match="is empty"):
        Units.learn([], "subword")
    with pytest.raises(DataError, match="no word is there 5 times; the commonest, 'a', is there 2"):
        Units.learn(["a a b"], "word", min_count=5)
    with pytest.raises(DataError, match="a vocabulary of 100 is too small; the bytes and the special symbols are 260"):
        Units.learn(["a"], "subword", size=100)


def test_the_penn_treebank_has_ten_thousand_words(data_folder: Path):
    text = (data_folder / "ptb" / "ptb.train.txt").read_text("utf-8")
    units = Units.learn([text], cut="blanks", lines=True)
    tokens = units.encoded(text)
    assert len(tokens) == 929_589
    assert len(np.unique(tokens)) == 10_000 == len(units) - 2  # of the special symbols, padding and <s> do not occur
    for part in ("valid", "test"):
        other = (data_folder / "ptb" / f"ptb.{part}.txt").read_text("utf-8")
        units.encode(other, strict=True)
