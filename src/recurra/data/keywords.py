"""Texts with their keywords, as tagged sentences: each keyword found in its text is marked B-KEY, I-KEY."""

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from recurra.data.delimited import csv_rows, find_name, sniff_separator
from recurra.data.opening import name_of
from recurra.data.sentences import SentenceSchema, SentenceSettings
from recurra.data.tagged import Gathering, Tagged, json_object, numbered
from recurra.data.tokens import tokenize
from recurra.errors import DataError, unknown

KIND = "KEY"
TEXTS = ("text", "abstract", "document", "content", "body", "sentence", "title")
KEYWORDS = ("keywords", "keyphrases", "keyword", "key_phrases", "terms", "phrases")


class Keywords:
    """A table, or an object a line, with a column of texts and one of their keywords."""

    name = "keywords"
    summary = (
        "texts with their keywords: CSV, TSV or JSON lines with columns 'text' and 'keywords' (parted by ';' or ',')"
    )

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether the first line names a column of texts and one of keywords."""
        first = next((line for line in head if line.strip()), "")
        if first.lstrip().startswith("{"):
            return any(f'"{key}"' in first for key in KEYWORDS) and any(f'"{key}"' in first for key in TEXTS)
        separator = settings.separator or sniff_separator(list(head[:200]))
        if not separator:
            return False
        names = [name.strip().strip('"').lower() for name in first.split(separator)]
        wanted = {str(name).lower() for name in (settings.text, settings.target) if name is not None}
        return bool(set(names) & ({*TEXTS} | wanted)) and bool(set(names) & ({*KEYWORDS} | wanted))

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`."""
        name = name_of(source)
        gathering = Gathering(name)
        asked = met = 0
        missed: dict[str, None] = {}  # a set in order
        with numbered(source, settings.encoding) as (head, lines):
            first = next((line for line in head if line.strip()), "")
            rows = self._objects if first.lstrip().startswith("{") else self._table
            for number, text, keywords in rows(lines, head, name, settings):
                words = tokenize(text, "word", lowercase=False)
                if not words:
                    raise DataError(f"{name}, line {number}: the text is empty; every text needs at least one word.")
                tags = None
                if keywords is not None:
                    tags, found = mark(words, keywords)
                    asked, met = asked + len(keywords), met + len(found)
                    if len(missed) < 5:
                        missed |= dict.fromkeys(keyword for keyword in keywords if keyword not in found)
                elif schema is None:
                    raise DataError(f"{name}: has no keywords, which training needs.")
                for j, word in enumerate(words):
                    gathering.add(word, None if tags is None else tags[j], number)
                gathering.end()
        tagged = gathering.tagged(
            dict(schema.settings) if schema else {"text": settings.text, "target": settings.target}
        )
        if met < asked:
            tagged.warnings.append(
                f"{name}: {asked - met} of {asked} keywords do not stand in their text and mark nothing, such as "
                f"{', '.join(map(repr, islice(missed, 5)))}."
            )
        return tagged

    def _objects(
        self, lines: Iterator[tuple[int, str]], head: Sequence[str], name: str, settings: SentenceSettings
    ) -> Iterator[tuple[int, str, list[str] | None]]:
        has_keywords: bool | None = None
        for number, line in lines:
            if not line.strip():
                continue
            place = f"{name}, line {number}"
            row = json_object(line, place)
            text, keywords = _column(settings.text, TEXTS, row), _column(settings.target, KEYWORDS, row)
            if has_keywords is None:
                has_keywords = keywords is not None
            if text is None or (has_keywords and keywords is None):
                wanted = (settings.text or TEXTS[0]) if text is None else (settings.target or KEYWORDS[0])
                raise DataError(f"{place}: {unknown('key', str(wanted), row)}")
            if not isinstance(row[text], str):
                raise DataError(f"{place}: {text} holds no text.")
            value = None if keywords is None else row[keywords]
            yield number, row[text], None if value is None else _keywords(value, settings, place)

    def _table(
        self, lines: Iterator[tuple[int, str]], head: Sequence[str], name: str, settings: SentenceSettings
    ) -> Iterator[tuple[int, str, list[str] | None]]:
        separator = settings.separator or sniff_separator(list(head[:200])) or ","
        texts = (line + "\n" for _, line in lines)
        if separator == "\t":  # whose cells are not quoted
            plain = csv.reader(texts, delimiter="\t", quoting=csv.QUOTE_NONE)
            rows = ((plain.line_num, row) for row in plain if any(cell.strip() for cell in row))
        else:
            rows = csv_rows(texts, separator, 1, name)
        names = [cell.strip() for cell in next(rows, (1, []))[1]]
        text, keywords = _column(settings.text, TEXTS, names), _column(settings.target, KEYWORDS, names)
        if text is None or (settings.target is not None and keywords is None and settings.format is None):
            wanted = settings.text or TEXTS[0] if text is None else settings.target
            raise DataError(f"{name}, line 1: {unknown('column', str(wanted), names)}")
        at = names.index(text), None if keywords is None else names.index(keywords)
        for number, row in rows:
            if len(row) != len(names):
                raise DataError(f"{name}, line {number}: {len(row)} cells found, {len(names)} expected.")
            place = f"{name}, line {number}"
            yield number, row[at[0]], None if at[1] is None else _keywords(row[at[1]], settings, place)


def _column(wanted: str | int | None, usual: Sequence[str], names: Any) -> str | None:
    """The column of that name, or of a usual one; None where there is none."""
    names = list(names)
    if isinstance(wanted, int):
        return names[wanted - 1 if wanted > 0 else wanted] if 1 <= abs(wanted) <= len(names) else None
    for name in (wanted,) if wanted is not None else usual:
        if (found := find_name(name, names)) is not None:
            return names[found]
    return None


def _keywords(value: object, settings: SentenceSettings, place: str) -> list[str]:
    """The keywords of a cell, or of a list."""
    if isinstance(value, str):
        separator = settings.keyword_separator or (";" if ";" in value else ",")
        parts = [part.strip() for part in value.split(separator)]
    elif isinstance(value, list) and all(isinstance(each, str) for each in value):
        parts = [each.strip() for each in value]
    else:
        raise DataError(f"{place}: the keywords are neither a text nor a list of texts.")
    return list(dict.fromkeys(part for part in parts if part))


def mark(words: Sequence[str], keywords: Sequence[str]) -> tuple[list[str], set[str]]:
    """The tags of a text whose keywords are marked wherever they stand, and those of them that do.

    Case does not count, nor does a plural s at a keyword's end. Where keywords overlap the longer one is marked, of two
    as long the one further left.

    >>> mark(["Gated", "units", "gate"], ["gated unit"])
    (['B-KEY', 'I-KEY', 'O'], {'gated unit'})
    """
    folded = [_stem(word) for word in words]
    tags = ["O"] * len(words)
    found: set[str] = set()
    pieces = [(keyword, [_stem(word) for word in tokenize(keyword, "word")]) for keyword in keywords]
    for keyword, wanted in sorted(pieces, key=lambda piece: -len(piece[1])):
        size = len(wanted)
        for i in range(len(words) - size + 1) if size else ():
            if folded[i : i + size] != wanted:
                continue
            found.add(keyword)
            if all(tag == "O" for tag in tags[i : i + size]):
                tags[i : i + size] = [f"B-{KIND}", *[f"I-{KIND}"] * (size - 1)]
    return tags, found


def _stem(word: str) -> str:
    word = word.lower()
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
