"""The units of a text: characters, words or pieces of words; cut, numbered, and put together again."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, cached_property
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from recurra.data.tokens import tokenize
from recurra.errors import DataError, MissingExtraError, nearest

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SPECIAL = ("<pad>", "<unk>", "<s>", "</s>")
"""The first symbols of every vocabulary: padding, whatever is not in it, a beginning and an end."""

PAD, UNK, START, END = range(len(SPECIAL))

Unit = Literal["character", "word", "subword"]
Cut = Literal["tokens", "blanks"]

REPLACEMENT = "\ufffd"
"""What stands for a character that is not in the vocabulary."""

_HIGHEST = 0x110000
_SHORT = 4
"""Characters before and behind a place that a message shows."""


class Units(BaseModel):
    """A vocabulary, and how a text is cut into its symbols. Learnt once, from the training part; kept in `schema.json`.

    `character`: every character as it stands, blanks and ends of lines among them. `word`: as `data.tokens` finds them,
    or, of a text that is cut already, whatever stands between ASCII blanks. `subword`: byte pair encoding (Sennrich,
    Haddow & Birch 2016) over the bytes of UTF-8, so that nothing is unknown and every text comes back as it was.

    Attributes:
        unit: What a text is cut into.
        cut: Words: how they are found.
        lowercase: Whether a text is folded to lower case first.
        lines: Words: whether the end of a line is a symbol, `</s>`.
        symbols: Index -> symbol: `SPECIAL`, then the others, the most frequent first (of subwords: in the order in
            which they were joined).
        merges: Subwords: how symbols are joined, as the package `tokenizers` writes it.
    """

    model_config = ConfigDict(extra="forbid")

    unit: Unit
    cut: Cut = "tokens"
    lowercase: bool = False
    lines: bool = False
    symbols: list[str] = Field(min_length=len(SPECIAL))
    merges: str | None = None

    @classmethod
    def learn(
        cls,
        texts: Iterable[str],
        unit: Unit = "word",
        *,
        size: int | None = None,
        min_count: int = 1,
        lowercase: bool = False,
        cut: Cut = "tokens",
        lines: bool = False,
        name: str = "the text",
    ) -> Self:
        """Learn the vocabulary of some texts, which are gone through once.

        Args:
            texts: Sentences, or the pieces of a long text; one that ends in the middle of a word makes two of it.
            unit: What they are cut into.
            size: The most symbols that are kept, the special ones among them; None for all (8000 subwords).
            min_count: Symbols seen less often are left out.
            lowercase: Whether to fold to lower case first.
            cut: Words: "tokens" as `data.tokens` finds them, or "blanks" for what stands between ASCII blanks.
            lines: Words: whether the end of a line is a symbol.
            name: How messages call the texts.

        Raises:
            DataError: Nothing in them, or nothing often enough; or `size` leaves no room.
            MissingExtraError: Subwords without the package `tokenizers`.
        """
        least = len(SPECIAL) + (256 if unit == "subword" else 1)
        if size is not None and size < least:
            what = "the bytes and the special symbols" if unit == "subword" else "the special symbols and one more"
            raise DataError(f"{name}: a vocabulary of {size} is too small; {what} are {least}.")
        if lowercase:
            texts = (text.lower() for text in texts)
        if unit == "subword":
            return cls._learn_subwords(texts, 8000 if size is None else size, min_count, lowercase, name)
        made = cls(unit=unit, cut=cut, lowercase=lowercase, lines=lines and unit == "word", symbols=list(SPECIAL))
        counts = _count_characters(texts) if unit == "character" else made._count_words(texts)
        for special in SPECIAL if unit == "word" else ():
            counts.pop(special, None)
        if not counts:
            raise DataError(f"{name}: holds no {unit}; expected a text.")
        ranked = sorted((symbol for symbol, n in counts.items() if n >= min_count), key=lambda s: (-counts[s], s))
        if not ranked:
            most = max(counts, key=counts.__getitem__)
            raise DataError(
                f"{name}: no {unit} is there {min_count} times; the commonest, {most!r}, is there {counts[most]}."
            )
        made.symbols += ranked if size is None else ranked[: size - len(SPECIAL)]
        return made

    @classmethod
    def _learn_subwords(cls, texts: Iterable[str], size: int, min_count: int, lowercase: bool, name: str) -> Self:
        check_subwords()
        from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

        tokenizer = Tokenizer(models.BPE())
        # Cut behind every end of a line first, so that a text read by lines gives the same symbols as one read whole.
        line = pre_tokenizers.Split(Regex("\n"), "merged_with_previous")
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([line, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=max(2, min_count),
            special_tokens=list(SPECIAL),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        any_text = False

        def given() -> Iterator[str]:
            nonlocal any_text
            for text in texts:
                any_text |= bool(text)
                yield plain(text)

        tokenizer.train_from_iterator(given(), trainer)
        if not any_text:
            raise DataError(f"{name}: is empty; expected a text.")
        # The special symbols keep their numbers, but what looks like one in a text is none.
        bare = Tokenizer(models.BPE(vocab=tokenizer.get_vocab(), merges=_merges(tokenizer)))
        bare.pre_tokenizer, bare.decoder = tokenizer.pre_tokenizer, tokenizer.decoder
        vocabulary = tokenizer.get_vocab()
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        symbols = [piece if i < len(SPECIAL) else _shown(piece) for i, piece in enumerate(pieces)]
        return cls(unit="subword", lowercase=lowercase, symbols=symbols, merges=bare.to_str())

    def __len__(self) -> int:
        return len(self.symbols)

    # --- a text to numbers -------------------------------------------------------------------------------------------

    def encode(self, text: str, strict: bool = False) -> list[int]:
        """The indices of a text's symbols; that of the unknown symbol for those that are not in the vocabulary.

        Raises:
            DataError: With `strict`, a symbol that is not in the vocabulary, with its place.
        """
        return self.encoded(text, strict).tolist()

    def encoded(self, text: str, strict: bool = False) -> np.ndarray:
        """`encode` as an array, (S,) int32: without a loop over characters, for long texts."""
        if self.lowercase:
            text = text.lower()
        if self.unit == "subword":
            pieces = self._tokenizer.encode_batch_fast(_lines(plain(text)), add_special_tokens=False)
            return np.fromiter((i for piece in pieces for i in piece.ids), np.int32)
        if self.unit == "character":
            found = np.take(self._table, _codes(text), mode="clip")
        else:
            found = np.fromiter(map(self._numbers.get, self._words(text), _unknown()), np.int32)
        if strict and (unknown := np.flatnonzero(found == UNK)).size:
            self._refuse(text, int(unknown[0]))
        return found

    def _refuse(self, text: str, place: int) -> None:
        """Raises DataError for the symbol at `place`, unless it is the unknown symbol by its own name."""
        if self.unit == "character":
            symbol, spot = text[place], f"character {place + 1}"
            around = text[max(0, place - _SHORT) : place + 1 + _SHORT]
            known = next((c for c in (symbol.lower(), symbol.upper()) if c in self._known), None)
        else:
            raw = self._words(text)
            place = next((i for i in range(place, len(raw)) if raw[i] not in self._numbers), -1)
            if place < 0:
                return
            words = [word.decode("utf-8", "surrogatepass") for word in raw]
            symbol, spot = words[place], f"word {place + 1}"
            around = " ".join(words[max(0, place - 1) : place + 2])
            known = nearest(symbol, self.symbols[len(SPECIAL) :])
        hint = f"; the nearest that was seen is {known!r}" if known else ""
        raise DataError(f"{spot} of {around!r}: {symbol!r} was never seen in training{hint}.")

    def words(self, text: str) -> list[str]:
        """The words of a text as written, of which `encode` gives the indices."""
        return [word.decode("utf-8", "surrogatepass") for word in self._words(text)]

    def _words(self, text: str) -> list[bytes]:
        """The words of a text, as UTF-8: bytes are split at ASCII blanks alone."""
        if self.cut == "blanks":
            data = text.encode("utf-8", "surrogatepass")
            return (data.replace(b"\n", b" </s> ") if self.lines else data).split()
        if not self.lines:
            return [word.encode("utf-8", "surrogatepass") for word in tokenize(text, lowercase=False)]
        found: list[bytes] = []
        for line in text.split("\n"):
            found += [word.encode("utf-8", "surrogatepass") for word in tokenize(line, lowercase=False)]
            found.append(b"</s>")
        return found[:-1]

    def _count_words(self, texts: Iterable[str]) -> dict[str, int]:
        counts: Counter[bytes] = Counter()
        for text in texts:
            counts.update(self._words(text))
        return {word.decode("utf-8", "surrogatepass"): n for word, n in counts.items()}

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.symbols[len(SPECIAL) :])

    @cached_property
    def _numbers(self) -> dict[bytes, int]:
        """Words: index by symbol. A text that is cut already may name the special ones, as the Penn Treebank does."""
        first = 0 if self.cut == "blanks" else END
        return {s.encode("utf-8", "surrogatepass"): i for i, s in enumerate(self.symbols) if i >= first}

    @cached_property
    def _table(self) -> np.ndarray:
        """Characters: code -> index; the last entry stands for all codes beyond."""
        codes = _codes("".join(self.symbols[len(SPECIAL) :]))
        table = np.full(int(codes.max(initial=0)) + 2, UNK, np.int32)
        table[codes] = np.arange(len(SPECIAL), len(self), dtype=np.int32)
        return table

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        check_subwords()
        from tokenizers import Tokenizer

        assert self.merges is not None
        return Tokenizer.from_str(self.merges)

    # --- numbers to a text -------------------------------------------------------------------------------------------

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some indices. Words are joined by a blank, or begin a line behind `</s>` where that is one's end;
        padding and `<s>` are left out; a character that is unknown is U+FFFD, a word `<unk>`."""
        decoding = Decoding(self)
        return "".join([decoding.feed(i) for i in ids]) + decoding.finish()

    @cached_property
    def line_ends(self) -> np.ndarray:
        """(V,) bool, the symbols with which a line ends; none, of words without `lines`."""
        if self.unit == "word":
            return np.arange(len(self)) == (END if self.lines else -1)
        return np.array([i >= len(SPECIAL) and symbol.endswith("\n") for i, symbol in enumerate(self.symbols)])

    @cached_property
    def _bytes(self) -> list[bytes]:
        """Subwords: the bytes of each."""
        vocabulary = self._tokenizer.get_vocab()
        pieces = sorted(vocabulary, key=vocabulary.__getitem__)
        return [b"" if i < len(SPECIAL) else _raw(piece) for i, piece in enumerate(pieces)]


class Decoding:
    """The text of indices that come one by one, as it grows: what is said of it is final."""

    def __init__(self, units: Units):
        self._units = units
        self._blank = False  # whether the next word has one before it
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, index: int) -> str:
        """What an index adds to the text; of subwords nothing, where a character is not whole yet."""
        units = self._units
        if units.unit == "subword":
            return self._utf8.decode(units._bytes[index])
        if index == END and units.lines:
            self._blank = False
            return "\n"
        if index in (PAD, START, END):
            return ""
        if units.unit == "character":
            return REPLACEMENT if index == UNK else units.symbols[index]
        before, self._blank = " " if self._blank else "", True
        return before + units.symbols[index]

    def finish(self) -> str:
        """What is left of a character that never became whole."""
        return self._utf8.decode(b"", True)


def check_subwords() -> None:
    """Look whether subwords can be had.

    Raises:
        MissingExtraError: They cannot; says the command that installs them.
    """
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("subwords need another package: pip install 'recurra[text]'") from error


def plain(text: str) -> str:
    """A text without halves of characters, which UTF-8 cannot write: `?` for each."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _unknown() -> Iterator[int]:
    while True:
        yield UNK


def _lines(text: str) -> list[str]:
    """The lines of a text with their ends, which are `\\n` alone."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _codes(text: str) -> np.ndarray:
    """The code of each character, (S,) uint32."""
    if text.isascii():
        return np.frombuffer(text.encode("ascii"), np.uint8)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def _count_characters(texts: Iterable[str]) -> dict[str, int]:
    counts = np.zeros(_HIGHEST, np.int64)
    for text in texts:
        here = np.bincount(_codes(text))
        counts[: len(here)] += here
    return {chr(code): int(counts[code]) for code in np.flatnonzero(counts).tolist()}


def _merges(tokenizer: "Tokenizer") -> list[tuple[str, str]]:
    """The pairs that were joined, in order."""
    return [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]


@cache
def _byte_of() -> dict[str, int]:
    """The byte that a character of `tokenizers`' byte alphabet stands for: visible ones of Latin-1 for themselves, the
    others, in order, for those from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [code for code in range(256) if code not in visible]
    return {chr(code): code for code in visible} | {chr(0x100 + i): code for i, code in enumerate(others)}


def _raw(piece: str) -> bytes:
    return bytes(map(_byte_of().__getitem__, piece))


def _shown(piece: str) -> str:
    """A subword as people read it; one that is no whole character as its bytes, `<e2 82>`."""
    raw = _raw(piece)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return f"<{raw.hex(' ')}>"
