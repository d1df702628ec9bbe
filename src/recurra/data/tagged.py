"""Files of tagged sentences: columns (CoNLL), CoNLL-U, folders with seq.in and seq.out, JSON lines, plain sentences."""

import json
import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from recurra.data.delimited import short
from recurra.data.opening import entries, name_of, open_text, plain_name
from recurra.data.sentences import SentenceSchema, SentenceSettings
from recurra.data.tokens import tokenize
from recurra.errors import DataError, unknown

HEAD = 400
"""Lines that are looked at to know a format."""

UD_COLUMNS = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")

_BLANKS = re.compile(r"[ \t]+")
_UD_ID = re.compile(r"\d+(?:[-.]\d+)?")
_DOCUMENT = "-DOCSTART-"
_NO_VALUE = "_"
_MARKS = frozenset(".,;:!?()\"'")
TOKENS, TAGS, LABELS = ("tokens", "words"), ("tags", "ner_tags", "pos_tags"), ("label", "intent")


@dataclass
class Tagged:
    """One file's sentences as they stand there.

    Attributes:
        name: How messages call it.
        forms: The different words, in order of first appearance.
        surface: (S,) int32 indices into `forms`.
        offsets: (N + 1,) int64, the bounds of the sentences.
        lines: (S,) the line that each word stands in.
        kinds: The different tags, likewise.
        tags: (S,) int32 indices into `kinds`; None where the file has none.
        labels: The label of each sentence; None where the file has none.
        ids: A name for each sentence where the file gives one.
        settings: The reading options as resolved.
        warnings: What was done that a person should know.
        column: How messages call the column of the tags, where there is one.
        untagged: Why there are no tags, where that can be said.
    """

    name: str
    forms: list[str]
    surface: np.ndarray
    offsets: np.ndarray
    lines: np.ndarray
    kinds: list[str]
    tags: np.ndarray | None
    labels: list[str] | None = None
    ids: list[str] | None = None
    settings: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    column: str = ""
    untagged: str = ""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def check_tags(self) -> None:
        """Raises DataError where there are no tags to measure on."""
        if self.tags is None:
            why = f": {self.untagged}" if self.untagged else ""
            raise DataError(f"{self.name}: has no tags, which are needed to measure on it{why}.")

    def place(self, word: int) -> str:
        """Where a word stands, for messages."""
        return f"{self.name}, line {self.lines[word]}"


class Gathering:
    """Sentences gathered word by word.

    Args:
        name: How messages call the file.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._forms: dict[str, int] = {}
        self._kinds: dict[str, int] = {}
        self._surface, self._tags, self._lines, self._offsets = array("i"), array("i"), array("q"), array("q", [0])
        self.labels: list[str] = []
        self.ids: list[str] = []

    def add(self, word: str, tag: str | None, line: int) -> None:
        """Add a word to the present sentence; `tag` is None in every word or in none."""
        self._surface.append(self._forms.setdefault(word, len(self._forms)))
        self._lines.append(line)
        if tag is not None:
            self._tags.append(self._kinds.setdefault(tag, len(self._kinds)))

    def end(self, label: str | None = None, id: str | None = None) -> None:
        """End the present sentence, where it has a word."""
        if len(self._surface) == self._offsets[-1]:
            return
        self._offsets.append(len(self._surface))
        if label is not None:
            self.labels.append(label)
        if id is not None:
            self.ids.append(id)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def tagged(self, settings: dict[str, object]) -> Tagged:
        """What was gathered.

        Raises:
            DataError: Nothing was.
        """
        if not len(self):
            raise DataError(f"{self.name}: holds no sentences.")
        return Tagged(
            self.name,
            list(self._forms),
            np.array(self._surface, np.int32),
            np.array(self._offsets, np.int64),
            np.array(self._lines, np.int64),
            list(self._kinds),
            np.array(self._tags, np.int32) if len(self._tags) else None,
            labels=self.labels or None,
            ids=self.ids if len(self.ids) == len(self) else None,
            settings=settings,
        )


class TaggedFormat(Protocol):
    """One way of laying out tagged sentences."""

    name: str
    """As given to `--input-format`."""
    summary: str
    """One line for the documentation and for error messages."""

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether a file (or folder) with these first lines is laid out so; `source` is None for an open stream."""
        ...

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """Read everything. With `schema` (from training data) read alike, tags optional; else settle the options.

        Raises:
            DataError: Anything that is not as it should be, with file and line.
        """
        ...


@contextmanager
def numbered(source: Path | BinaryIO, encoding: str) -> Iterator[tuple[list[str], Iterator[tuple[int, str]]]]:
    """The first lines of a file, and all of them with their numbers, each without its end."""
    with open_text(source, encoding) as text:
        head = [line.rstrip("\r\n") for line in islice(text, HEAD)]
        rest = (line.rstrip("\r\n") for line in text)
        yield head, enumerate(chain(head, rest), 1)


def _is_tabbed(head: Iterable[str]) -> bool:
    return any("\t" in line.strip() for line in head if not line.startswith("#"))


def _cells(line: str, tabbed: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabbed else _BLANKS.split(line.strip(" \t"))


def _common_width(head: Sequence[str]) -> tuple[int, float]:
    """The number of columns that most lines have, and their share."""
    tabbed = _is_tabbed(head)
    rows = [len(_cells(line, tabbed)) for line in head if line.strip() and not line.startswith((_DOCUMENT, "# "))]
    if not rows:
        return 0, 0.0
    width, count = Counter(rows).most_common(1)[0]
    return width, count / len(rows)


class Conll:
    """Columns, a word a line, sentences parted by blank lines."""

    name = "conll"
    summary = "CoNLL columns, by blanks or tabs: a word a line, its tag in the last; a blank line ends a sentence"

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether most lines have equally many columns and blank lines part them."""
        if source is not None and source.is_dir():
            return False
        width, share = _common_width(head)
        parted = any(not line.strip() for line in head[:-1]) or any(line.startswith(_DOCUMENT) for line in head)
        suffixed = source is not None and re.search(r"\.(conll\w*|iob\d?|bio|bioes|ner)\b", source.name.lower())
        least = 1 if settings.format == self.name else 2
        return width >= least and share >= 0.6 and bool(parted or suffixed or (_is_tabbed(head) and width > 1))

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`."""
        name = name_of(source)
        gathering = Gathering(name)
        with numbered(source, settings.encoding) as (head, lines):
            tabbed = _is_tabbed(head)
            width, _ = _common_width(head)
            word, tag, untagged = self._columns(head, width, tabbed, name, settings, schema)
            fresh = True  # nothing but blank lines since the last sentence
            for number, line in lines:
                if not line.strip():
                    gathering.end()
                    fresh = True
                    continue
                if line.startswith(_DOCUMENT):
                    gathering.end()
                    continue
                cells = _cells(line, tabbed)
                if len(cells) != width:
                    if fresh and line.startswith("#"):
                        continue
                    parted = "tabs" if tabbed else "blanks"
                    raise DataError(
                        f"{name}, line {number}: {len(cells)} columns found ({short(line.strip())!r}), expected "
                        f"{width}, parted by {parted}."
                    )
                fresh = False
                if not cells[word]:
                    raise DataError(f"{name}, line {number}: the word in column {word + 1} is empty.")
                if tag is not None and not cells[tag]:
                    raise DataError(f"{name}, line {number}: the tag in column {tag + 1} is empty.")
                gathering.add(cells[word], None if tag is None else cells[tag], number)
            gathering.end()
        kept = schema.settings if schema else {"text": settings.text, "target": settings.target, "width": width}
        tagged = gathering.tagged(dict(kept))
        tagged.untagged = untagged
        if tag is not None:
            names = settings.columns or []
            tagged.column = names[tag] if len(names) == width else f"{tag + 1} of {width}"
        return tagged

    def _columns(
        self,
        head: Sequence[str],
        width: int,
        tabbed: bool,
        name: str,
        settings: SentenceSettings,
        schema: SentenceSchema | None,
    ) -> tuple[int, int | None, str]:
        """The columns of the words and of their tags; None for the latter where further data have none, and why."""
        if not width:
            raise DataError(f"{name}: holds no sentences.")
        names = settings.columns
        if names is not None and len(names) != width and schema is None:
            raise DataError(f"{name}: has {width} columns, data.columns names {len(names)}: {', '.join(names)}.")
        word = _column(settings.text, 0, width, names, f"{name}: data.text")
        if schema is None:
            tag = _column(settings.target, width - 1, width, names, f"{name}: data.target")
            if tag == word:
                raise DataError(
                    f"{name}: column {word + 1} of {width} would be both the word and its tag; name another: "
                    "--set data.text=1 --set data.target=2."
                )
            return word, tag, ""
        if width == (trained := schema.settings.get("width")):
            return word, _column(settings.target, width - 1, width, names, f"{name}: data.target"), ""
        # Another number of columns: the tags are those that training data have, or there are none.
        last = [cells[-1] for line in head if len(cells := _cells(line, tabbed)) == width and line.strip()]
        known = set(schema.tags)
        if width > 1 and sum(c in known for c in last) >= len(last) / 2:
            return word, width - 1, ""
        had = "" if trained is None else f" (the training data have {trained})"
        if width == 1:
            return word, None, f"it has one column{had}"
        found, learnt = some(list(dict.fromkeys(last))), some(schema.tags)
        return word, None, f"the last of its {width} columns{had} holds {found}; the run's tags are {learnt}"


def some(names: Sequence[str], most: int = 5) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(map(repr, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")


def _column(wanted: str | int | None, default: int, width: int, names: Sequence[str] | None, what: str) -> int:
    """The column of that name, or number from 1, or from -1 for the last."""
    if wanted is None:
        return default
    if names and wanted in names:
        return list(names).index(str(wanted))
    try:
        number = int(wanted)
    except ValueError:
        known = f" Known: {', '.join(names)}." if names else " data.columns gives columns their names."
        said = unknown("column", str(wanted), names) if names else f"is {wanted!r}, which no column is called;"
        raise DataError(f"{what}: {said if names else said + known}") from None
    if not 1 <= abs(number) <= width:
        raise DataError(f"{what}: is {number}, of {width} columns; expected 1 to {width}, or -1 for the last.")
    return number - 1 if number > 0 else width + number


class ConllU:
    """CoNLL-U, and CoNLL-U Plus, which names its columns in its first line."""

    name = "conllu"
    summary = "CoNLL-U: any column as the tag (data.target: upos, xpos, deprel, …), without ranges and empty nodes"

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether lines have ten columns parted by tabs, the first a number."""
        if source is not None and source.is_dir():
            return False
        if head and head[0].startswith("# global.columns"):
            return True
        rows = [line.split("\t") for line in head if line.strip() and not line.startswith("#")]
        good = sum(len(row) == len(UD_COLUMNS) and bool(_UD_ID.fullmatch(row[0])) for row in rows)
        return bool(rows) and good >= 0.8 * len(rows)

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`."""
        name = name_of(source)
        gathering = Gathering(name)
        columns: Sequence[str] = UD_COLUMNS
        id = None
        filled: set[int] = set()  # columns that hold something where the tag is wanting
        with numbered(source, settings.encoding) as (head, lines):
            if head and (given := re.match(r"# global\.columns\s*=\s*(.+)", head[0])):
                columns = given[1].lower().split()
            number_at = columns.index("id") if "id" in columns else None
            word = _named(settings.text or "form", columns, f"{name}: data.text")
            tag = _named(settings.target or "upos", columns, f"{name}: data.target")
            for number, line in lines:
                if not line.strip():
                    gathering.end(id=id)
                    id = None
                elif line.startswith("#"):
                    if found := re.match(r"#\s*sent_id\s*=\s*(.+)", line):
                        id = found[1].strip()
                else:
                    cells = line.split("\t")
                    if len(cells) != len(columns):
                        raise DataError(
                            f"{name}, line {number}: {len(cells)} columns found ({short(line)!r}), expected "
                            f"{len(columns)}, parted by tabs."
                        )
                    if number_at is not None:
                        if not _UD_ID.fullmatch(cells[number_at]):
                            raise DataError(
                                f"{name}, line {number}: found {short(cells[number_at])!r} as the word's number, "
                                "expected 7, 7-8 (several words in one) or 7.1 (an empty node)."
                            )
                        if not cells[number_at].isdecimal():
                            continue  # its words follow on their own lines, or it stands for none
                    if cells[tag] == _NO_VALUE:
                        filled.update(i for i, cell in enumerate(cells) if cell != _NO_VALUE)
                    gathering.add(cells[word], cells[tag], number)
            gathering.end(id=id)
        tagged = gathering.tagged(dict(schema.settings) if schema else {"target": settings.target or "upos"})
        tagged.column = columns[tag]
        if tagged.kinds == [_NO_VALUE]:
            others = ", ".join(columns[i] for i in sorted(filled - {number_at, word})) or "none"
            if schema is None:
                raise DataError(
                    f"{name}: column {columns[tag]} is '_' throughout, which training cannot learn from; columns that "
                    f"hold something: {others} (--set data.target=NAME)."
                )
            tagged.tags = None
            tagged.untagged = (
                f"column {columns[tag]}, where the run's tags stand, is '_' throughout; columns that hold something: "
                f"{others}"
            )
        return tagged


def _named(wanted: str | int, columns: Sequence[str], what: str) -> int:
    if isinstance(wanted, int) or wanted.lstrip("-").isdecimal():
        return _column(wanted, 0, len(columns), columns, what)
    if wanted.lower() not in columns:
        raise DataError(f"{what}: {unknown('column', wanted, columns)}")
    return list(columns).index(wanted.lower())


class Slots:
    """A folder with seq.in (a sentence a line), seq.out (its tags) and perhaps label (one a sentence)."""

    name = "slots"
    summary = "a folder with seq.in, seq.out and perhaps label: a sentence, its tags and its label a line"

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether a folder has seq.in and seq.out."""
        return source is not None and source.is_dir() and {"seq.in", "seq.out"} <= set(self._files(source))

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`."""
        if not isinstance(source, Path) or not source.is_dir():
            raise DataError(f"{name_of(source)}: is no folder; expected one with seq.in and seq.out.")
        files = self._files(source)
        if "seq.in" not in files:
            raise DataError(f"{source}: holds no seq.in.")
        sentences, tags, labels = (_lines(files.get(f), settings.encoding) for f in ("seq.in", "seq.out", "label"))
        assert sentences is not None
        if tags is None and schema is None:
            raise DataError(f"{source}: holds no seq.out, the tags that training needs.")
        for other, found in (("seq.out", tags), ("label", labels)):
            if found is not None and len(found) != len(sentences):
                raise DataError(
                    f"{files[other]}: {len(found)} lines, but {files['seq.in'].name} has {len(sentences)}; one a "
                    "sentence is expected."
                )
        gathering = Gathering(str(files["seq.in"]))
        for i, sentence in enumerate(sentences):
            words = split_at_blanks(sentence)
            marks = None if tags is None else split_at_blanks(tags[i])
            if not words:
                raise DataError(f"{files['seq.in']}, line {i + 1}: the sentence has no words.")
            if marks is not None and len(marks) != len(words):
                raise DataError(
                    f"{files['seq.out']}, line {i + 1}: {_counted(len(marks), 'tag')} for "
                    f"{_counted(len(words), 'word')} in {files['seq.in'].name}; one a word is expected."
                )
            if labels is not None and not labels[i].strip():
                raise DataError(f"{files['label']}, line {i + 1}: the label is empty.")
            for j, word in enumerate(words):
                gathering.add(word, None if marks is None else marks[j], i + 1)
            gathering.end(label=None if labels is None else labels[i].strip())
        return gathering.tagged(dict(schema.settings) if schema else {})

    def _files(self, folder: Path) -> dict[str, Path]:
        return {plain_name(entry): entry for entry in entries(folder) if entry.is_file()}


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _lines(path: Path | None, encoding: str) -> list[str] | None:
    """The lines of a file, those that are blank at its end left out."""
    if path is None:
        return None
    with open_text(path, encoding) as text:
        found = [line.rstrip("\r\n") for line in text]
    while found and not found[-1].strip():
        found.pop()
    return found


def split_at_blanks(line: str) -> list[str]:
    """The words of a line, parted by blanks: those of ASCII, since others stand inside words."""
    return [word for word in _BLANKS.split(line) if word]


class JsonLines:
    """An object a line with the words and their tags: what `predict` writes, and others do."""

    name = "json-lines"
    summary = 'an object a line: {"tokens": [...], "tags": [...]}, perhaps with "label"'

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Whether the first line is an object with words."""
        if source is not None and source.is_dir():
            return False
        first = next((line for line in head if line.strip()), "")
        return first.lstrip().startswith("{") and any(f'"{key}"' in first for key in TOKENS)

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`."""
        name = name_of(source)
        gathering = Gathering(name)
        keys: tuple[str | None, str | None] | None = None
        with numbered(source, settings.encoding) as (_, lines):
            for number, line in lines:
                if not line.strip():
                    continue
                row = json_object(line, f"{name}, line {number}")
                found = (_first(row, TAGS), _first(row, LABELS))
                words_key = _first(row, TOKENS)
                if keys is None:
                    keys = found
                if found != keys or words_key is None:
                    missing = next((k for k in ("tokens", *keys) if k is not None and k not in row), "tags")
                    raise DataError(f"{name}, line {number}: the object has no {missing!r}, as the first line has.")
                words = _texts(row[words_key], f"{name}, line {number}: {words_key}")
                tags = None if keys[0] is None else _texts(row[keys[0]], f"{name}, line {number}: {keys[0]}")
                if not words:
                    raise DataError(f"{name}, line {number}: the sentence has no words.")
                if tags is not None and len(tags) != len(words):
                    raise DataError(
                        f"{name}, line {number}: {_counted(len(tags), 'tag')} for {_counted(len(words), 'word')}; "
                        "one a word is expected."
                    )
                for j, word in enumerate(words):
                    gathering.add(word, None if tags is None else tags[j], number)
                gathering.end(label=None if keys[1] is None else str(row[keys[1]]))
        return gathering.tagged(dict(schema.settings) if schema else {})


def json_object(line: str, place: str) -> dict[str, Any]:
    """The object that a line of JSON holds.

    Raises:
        DataError: It is none.
    """
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        said = getattr(error, "msg", "too deep")
        raise DataError(f"{place}: is no JSON ({said}); found {short(line.strip())!r}.") from error
    if not isinstance(row, dict):
        raise DataError(f"{place}: holds {short(line.strip())!r}, expected an object in braces.")
    return row


def _first(row: dict[str, Any], keys: Iterable[str]) -> str | None:
    return next((key for key in keys if key in row), None)


def _texts(value: Any, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise DataError(f"{place}: found {short(json.dumps(value, ensure_ascii=False))}, expected a list of words.")
    return value


class Lines:
    """Plain sentences without tags, one a line."""

    name = "sentences"
    summary = "plain text without tags, a sentence a line (predict)"

    def fits(self, source: Path | None, head: Sequence[str], settings: SentenceSettings) -> bool:
        """Never by itself: what is trained on has tags."""
        return False

    def read(self, source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None = None) -> Tagged:
        """See `TaggedFormat.read`.

        Words are parted by blanks. Where the training data have punctuation as words of its own, and no line here has,
        it is cut off first, which a warning says.
        """
        name = name_of(source)
        if schema is None:
            raise DataError(f"{name}: plain sentences have no tags, which training needs.")
        gathering = Gathering(name)
        with numbered(source, settings.encoding) as (head, lines):
            cut = cutter(head, schema)
            for number, line in lines:
                for word in cut(line):
                    gathering.add(word, None, number)
                gathering.end()
        tagged = gathering.tagged(dict(schema.settings))
        if cut is not split_at_blanks:
            tagged.warnings.append(f"{name}: punctuation is cut off from the words, as the training data have it.")
        return tagged


def cutter(head: Iterable[str], schema: SentenceSchema) -> Callable[[str], list[str]]:
    """How plain sentences are cut into words: at blanks, or at punctuation too where that is how training data are."""
    words = [word for line in head for word in split_at_blanks(line)]
    alone = any(word in _MARKS for word in words)
    attached = any(len(word) > 1 and word[-1] in _MARKS for word in words)
    if attached and not alone and {",", "."} & set(schema.vocabulary):
        return lambda line: tokenize(line, "word", lowercase=False)
    return split_at_blanks
