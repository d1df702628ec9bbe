"""Texts cut into tokens, and numbered into one flat array as they are read."""

import re
import unicodedata
from array import array
from functools import cache
from typing import Literal

import numpy as np

Unit = Literal["word", "character"]

_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_CLITIC = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b", re.IGNORECASE)
_CJK = (
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
    "\U0001b000-\U0001b16f\U00020000-\U000323af"
)  # Han, Hiragana, Katakana
_PATTERN = r"\d+(?:[.,]\d+)+|{word}(?:'{word})*|'(?:s|re|ve|ll|d|m)\b|{single}"
_ASCII = re.compile(
    _PATTERN.format(word="[a-z0-9]+", single="[!-/:-@\\[-`{-~]"), re.IGNORECASE | re.ASCII
)  # finds in ASCII what the pattern for all scripts finds there, sooner


@cache
def _all_scripts() -> re.Pattern[str]:
    """The word pattern for every script. `re` knows no classes for marks and format characters: made here."""
    joined = [
        chr(code)
        for code in (*range(0x20000), *range(0xE0001, 0xE01F0))  # no mark stands outside these
        if unicodedata.category(chr(code)) in ("Mn", "Mc", "Me", "Cf")
    ]
    marks = "".join(joined) + "\U0001f3fb-\U0001f3ff"  # and the skin tones of emoji
    letter = rf"[^\W_{_CJK}]"
    single = rf"(?:[{_CJK}]|[^\w\s\x00-\x1f\x7f-\x9f{marks}]|_)[{marks}]*"
    return re.compile(_PATTERN.format(word=f"{letter}+(?:[{marks}]+{letter}*)*", single=single), re.IGNORECASE)


def tokenize(text: str, unit: Unit = "word", lowercase: bool = True) -> list[str]:
    """Cut a text into tokens.

    `character`: every character as it stands, blanks included. `word`:

    - a word is a run of letters, digits and marks of any script; an apostrophe inside it belongs to it
      (`o'clock`, `l'homme`), except before the English endings, which are tokens of their own as in the Penn
      Treebank: `don't` is `do`, `n't`; `it's` is `it`, `'s`;
    - a number with points or commas inside is one token: `3.14`, `10,000`;
    - every Chinese or Japanese character is a token (neither script puts blanks between words);
    - every other visible character (punctuation, currency, emoji with what modifies it) is a token;
    - the HTML line break `<br />` counts as a blank.

    Scripts that neither put blanks between words nor are named above (Thai, Lao, Khmer, Burmese) come out as
    long runs; `character` serves them better.

    Args:
        text: Any text.
        unit: What to cut into.
        lowercase: Whether to fold to lower case first.

    Returns:
        The tokens in order; empty where the text has none.

    >>> tokenize("It's 3.5 of 10, don't!<br />OK")
    ['it', "'s", '3.5', 'of', '10', ',', 'do', "n't", '!', 'ok']
    """
    if lowercase:
        text = text.lower()
    if unit == "character":
        return list(text)
    if "<" in text:
        text = _BREAK.sub(" ", text)
    pattern = _ASCII
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).replace("’", "'")
        pattern = _all_scripts()
    if "'" in text:
        text = _CLITIC.sub(r" \g<0>", text)
    return pattern.findall(text)


class Numbering(dict[str, int]):
    """Symbol -> index, growing by one with every symbol not met before."""

    def __missing__(self, symbol: str) -> int:
        self[symbol] = index = len(self)
        return index


class TokenArray:
    """Texts as one flat array of token indices, under a vocabulary that grows as they are added.

    A text is forgotten once added: what is held is four bytes a token and each distinct symbol once.
    """

    def __init__(self, unit: Unit = "word", lowercase: bool = True):
        self._unit: Unit = unit
        self._lowercase = lowercase
        self._numbering = Numbering()
        self._values = array("i")
        self._offsets = array("q", [0])

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def add(self, text: str) -> bool:
        """Add one text as one sequence; False, and nothing added, where it has no token."""
        tokens = tokenize(text, self._unit, self._lowercase)
        if tokens:
            self._values.extend(map(self._numbering.__getitem__, tokens))
            self._offsets.append(len(self._values))
        return bool(tokens)

    @property
    def symbols(self) -> list[str]:
        """Index -> symbol, in order of first appearance."""
        return list(self._numbering)

    @property
    def values(self) -> np.ndarray:
        """(S,) int32, all texts laid end to end: a view, after which nothing can be added."""
        return np.frombuffer(self._values, np.int32)

    @property
    def offsets(self) -> np.ndarray:
        """(N + 1,) int64, the bounds of the texts in `values`: a view, after which nothing can be added."""
        return np.frombuffer(self._offsets, np.int64)
