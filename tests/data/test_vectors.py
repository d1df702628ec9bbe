"""Word vectors from files of word2vec and GloVe."""

import gzip
from pathlib import Path

import pytest

from recurra.data.vectors import read_vectors
from recurra.errors import DataError

WORDS = ["<pad>", "<unk>", "the", "new", "rome", ". ."]


def write(path: Path, content: str, packed: bool = False) -> Path:
    path = path / ("v.txt.gz" if packed else "v.txt")
    data = content.encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    return path


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("header", ["", "5 3\n"])
def test_vectors(tmp_path: Path, header: str, packed: bool) -> None:
    """With a header or without; a word with blanks; one as it stands goes before one in capitals, wherever it comes."""
    lines = "Rome 9 9 9\nthe 0.5 -1 2e-1 \nrome 1 2 3\nROME 8 8 8\n. . 4 5 6\nodd\u00a0one 7 7 7\n"
    vectors, there, said = read_vectors(write(tmp_path, header + lines, packed), WORDS, 3)
    assert there.tolist() == [False, False, True, False, True, True]
    assert vectors[2].tolist() == pytest.approx([0.5, -1, 0.2])
    assert vectors[4].tolist() == [1, 2, 3]
    assert vectors[5].tolist() == [4, 5, 6]
    assert not vectors[[0, 1, 3]].any()
    assert "vectors for 3 of the 4 words of the vocabulary (75.0%)" in said


def test_a_word_in_capitals_serves_where_there_is_no_other(tmp_path: Path) -> None:
    vectors, _, _ = read_vectors(write(tmp_path, "NEW 1 2\nNew 3 4\n"), WORDS, 2)
    assert vectors[3].tolist() == [1, 2]


BAD = {
    "header": ("2 4\nthe 1 2 3 4\n", r"v.txt, line 1: vectors of 4 numbers, but model.embedding_size is 3; --set"),
    "wider": ("the 1 2 3 4\n", r"v.txt, line 1: vectors of 4 numbers, but model.embedding_size is 3"),
    "narrower": ("the 1 2\n", r"v.txt, line 1: vectors of 2 numbers, but model.embedding_size is 3"),
    "a short line": ("the 1 2 3\nx 1 2 3\nnew 1 2\n", r"v.txt, line 3: found 'new 1 2', expected a word and 3 numbers"),
    "a long line": ("the 1 2 3\nx 1 2 3\nnew 1 2 3 4\n", r"v.txt, line 3: found 'new 1 2 3 4', expected a word and 3"),
    "a word": ("the 1 2 3\nx 1 2 3\nnew 1 two 3\n", r"v.txt, line 3: found 'new 1 two 3', expected a word"),
    "not finite": ("the 1 nan 3\n", r"v.txt, line 1: a number of 'the' is not finite"),
    "none": ("x 1 2 3\ny 1 2 3\n", r"v.txt: has a vector for none of the 4 words"),
    "empty": ("", r"v.txt: is empty"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    with pytest.raises(DataError, match=message):
        read_vectors(write(tmp_path, content), WORDS, 3)


def test_no_such_file(tmp_path: Path) -> None:
    write(tmp_path, "the 1 2 3\n")
    with pytest.raises(DataError, match=r"no such file or folder. Did you mean .*v.txt\?"):
        read_vectors(tmp_path / "w.txt", WORDS, 3)
