"""Word vectors that were trained elsewhere, in the text form of word2vec and GloVe: a word and its numbers a line."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recurra.data.delimited import short
from recurra.data.opening import open_text
from recurra.data.sequences import UNKNOWN
from recurra.errors import DataError

_HEADER = re.compile(r"\d+ \d+\s*")


def read_vectors(path: Path, vocabulary: Sequence[str], width: int) -> tuple[Tensor, Tensor, str]:
    """The vectors of the words in a vocabulary.

    A word that the file writes otherwise than the vocabulary, in capitals, is taken where it does not have the word as
    it stands. A first line with the number of words and of dimensions, as word2vec writes, may be there or not.

    Args:
        path: A text file, plain or compressed.
        vocabulary: Words; the first two, padding and the unknown word, are not looked for.
        width: Numbers a word.

    Returns:
        (V, width) float32, zero where a word has none; (V,) bool, which have one; and how many that are, in words.

    Raises:
        DataError: No such file, vectors of another width, or a line that is not as it should be, with its number.
    """
    wanted = {word: i for i, word in enumerate(vocabulary) if i > UNKNOWN}
    found = np.zeros((len(vocabulary), width), np.float32)
    exact, folded = np.zeros(len(vocabulary), bool), np.zeros(len(vocabulary), bool)
    with open_text(path, newline="\n") as text:
        for number, line in enumerate(text, 1):
            line = line.rstrip(" \r\n")
            if number == 1 and _HEADER.fullmatch(line):
                _check_width(path, number, int(line.split()[1]), width)
                continue
            if not line:
                continue
            word, *cells = line.rsplit(" ", width)  # a word of GloVe's may hold blanks
            if len(cells) != width or (number <= 2 and not _is_number(cells[0])) or _is_wider(word):
                _check_width(path, number, _width(line), width)
                raise DataError(f"{path}, line {number}: found {short(line)!r}, expected a word and {width} numbers.")
            index, as_it_stands = wanted.get(word), True
            if index is None:
                index, as_it_stands = wanted.get(word.lower()), False
            if index is None or exact[index] or (folded[index] and not as_it_stands):
                continue
            try:
                values = np.array(cells, np.float32)
            except ValueError:
                raise DataError(
                    f"{path}, line {number}: found {short(line)!r}, expected a word and {width} numbers."
                ) from None
            if not np.isfinite(values).all():
                raise DataError(f"{path}, line {number}: a number of {word!r} is not finite.")
            found[index] = values
            (exact if as_it_stands else folded)[index] = True
    there = exact | folded
    share = there.sum() / max(1, len(wanted))
    said = f"{path}: has vectors for {there.sum()} of the {len(wanted)} words of the vocabulary ({share:.1%})."
    if not there.any():
        raise DataError(f"{path}: has a vector for none of the {len(wanted)} words of the vocabulary.")
    return torch.from_numpy(found), torch.from_numpy(there), said


def _check_width(path: Path, line: int, found: int, width: int) -> None:
    """Raises DataError where the vectors of a file have another width than the network's."""
    if found != width and found > 1 and line <= 2:
        raise DataError(
            f"{path}, line {line}: vectors of {found} numbers, but model.embedding_size is {width}; "
            f"--set model.embedding_size={found} takes them."
        )


def _width(line: str) -> int:
    """How many numbers stand at a line's end, its first cell not counted."""
    count = 0
    for cell in reversed(line.split(" ")[1:]):
        if not _is_number(cell):
            break
        count += 1
    return count


def _is_wider(word: str) -> bool:
    """Whether what was left for the word ends in numbers of its own."""
    return " " in word and all(_is_number(cell) for cell in word.split(" ")[1:])


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
