"""From files of tagged sentences to what a tagger reads: schemes held to, vocabulary, characters, parts."""

import hashlib
import io
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch

from recurra.data.encode import SPECIAL, sort_classes
from recurra.data.keywords import Keywords
from recurra.data.opening import check_exists, digest, entries, open_binary, open_text
from recurra.data.parts import find_parts, listed, role
from recurra.data.reader import Parts, Reader
from recurra.data.schemes import Scheme, entities, find_scheme, is_tag, written
from recurra.data.sentences import Sentences, SentenceSchema, SentenceSettings
from recurra.data.sequences import UNKNOWN
from recurra.data.sources import PARTS, Source, as_source, find_sources, folder_of, is_known, told
from recurra.data.split import UNSPLIT, Shares
from recurra.data.tagged import (
    HEAD,
    Conll,
    ConllU,
    Gathering,
    JsonLines,
    Lines,
    Slots,
    Tagged,
    TaggedFormat,
    cutter,
    some,
    split_at_blanks,
)
from recurra.errors import DataError, unknown

FORMATS: dict[str, TaggedFormat] = {
    each.name: each for each in (ConllU(), JsonLines(), Keywords(), Slots(), Conll(), Lines())
}
"""Every format of tagged sentences by name, in the order in which a file's content is tried."""

TASK = "tag"
_KEPT = ("text", "target", "columns", "separator", "keyword_separator", "scheme", "bad_tags", "encoding", "max_length",
         "keep")  # fmt: skip


class SentenceReader(Reader[Sentences, SentenceSchema]):
    """Sentences with a tag for each word, and perhaps a label for each sentence."""

    settings = SentenceSettings
    schema = SentenceSchema

    def parts(
        self,
        source: Any,
        task: str,
        settings: SentenceSettings,
        *,
        validation: Any = None,
        test: Any = None,
        seed: int = 0,
        kept: SentenceSchema | None = None,
    ) -> Parts[Sentences, SentenceSchema]:
        """See `Reader.parts`."""
        if settings.format is not None and settings.format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', settings.format, FORMATS)}")
        sources, warnings = find_sources(source, validation, test, task, settings, _ranking(settings))
        sum = hashlib.sha256()
        read = {"train": _read(sources["train"], settings, None, sum)}
        scheme = _scheme(read["train"], settings, None)
        whole = read["train"]
        if whole.tags is None:
            raise DataError(f"{whole.name}: has no tags, which training needs.")
        format = whole.settings["format"]
        for part in PARTS[1:]:
            if part in sources:
                beside = SentenceSchema(task=task, format=str(format), settings=_kept(whole, settings))
                beside = beside.model_copy(update={"tags": whole.kinds, "scheme": scheme})
                read[part] = _read(sources[part], settings, beside, sum)
                if read[part].tags is None:
                    if not sources[part].found:
                        read[part].check_tags()
                    warnings.append(
                        f"{read.pop(part).name}: has no tags and is left out, though its name tells of {part}."
                    )
        for tagged in read.values():
            _hold_to_scheme(tagged, scheme, settings)
            _cut(tagged, settings)
        shares = Shares.of(settings, read, seed)
        drawn = shares.split(len(whole))
        schema = learn(whole, drawn.train, scheme, settings, kept)
        parts: dict[str, Sentences] = {}
        encoded = encode(whole, schema, warnings)
        for part, indices in (("validation", drawn.validation), ("test", drawn.test)):
            if indices is not None:
                parts[part] = encoded.select(indices)
        parts["train"] = encoded.select(drawn.train) if parts else encoded
        for part in PARTS[1:]:
            if part in read:
                parts[part] = encode(read[part], schema, warnings)
        return Parts(
            train=parts["train"],
            validation=parts.get("validation"),
            test=parts.get("test"),
            schema=schema,
            warnings=[*warnings, *drawn.warnings],
            sources=told(parts, sources, whole.name, shares),
            fingerprint=sum.hexdigest(),
        )

    def part(
        self, source: Any, schema: SentenceSchema, *, targets: bool = False, format: str | None = None
    ) -> tuple[Sentences, list[str]]:
        """See `Reader.part`."""
        settings = self.settings_of(schema).model_copy(update={"format": format})
        if format is not None and format not in FORMATS:
            raise DataError(f"data.format: {unknown('format', format, FORMATS)}")
        if isinstance(source, str) and source == "-":
            source = sys.stdin.buffer
        if isinstance(source, str) and is_known(source):
            source = folder_of(source)
        found = as_source(source, "the data given")
        if found is None:
            raise DataError("no data; give a path, '-' for standard input, or a list of sentences.")
        warnings: list[str] = []
        if isinstance(found.data, Path) and found.data.is_dir() and _fitting(found.data, settings) is None:
            path = _further(found.data, settings)
            warnings.append(f"{found.data}: {path.relative_to(found.data)} is read.")
            found = Source(str(path), path)
        tagged = _read(found, settings, schema, None)
        if targets:
            tagged.check_tags()
        _hold_to_scheme(tagged, schema.scheme, settings)
        _cut(tagged, settings)
        return encode(tagged, schema, warnings), warnings

    def describe(self, source: Any, settings: SentenceSettings, task: str) -> str:
        """See `Reader.describe`."""
        whole = settings.model_copy(update=UNSPLIT)
        parts = self.parts(source, task, whole)
        lines: list[str] = []
        for name, part in parts.named.items():
            lengths = part.lengths.numpy()
            lines += [
                f"{name}: {parts.sources[name]} ({parts.schema.format})",
                f"  sentences  {len(part):,}",
                f"  words      {lengths.sum():,}; {lengths.min()} to {lengths.max()} a sentence, median "
                f"{np.median(lengths):,.10g}; {len(np.unique(part.words.numpy())):,} different",
            ]
            assert part.tags is not None
            lines += _shares("tags", part.names, part.tags.numpy())
            if part.labels is not None:
                lines += _shares("labels", parts.schema.labels, part.labels.numpy())
            first = zip(part.tokens(0), part.tags[: int(lengths[0])].tolist(), strict=True)
            shown = [word if part.names[tag] == "O" else f"{word}/{part.names[tag]}" for word, tag in first]
            lines.append(f"  first      {' '.join(shown[:20])}{' …' if len(shown) > 20 else ''}")
        scheme = parts.schema.scheme
        lines.append(f"scheme: {scheme.upper() if scheme else 'none, each tag stands for itself'}")
        lines.append(f"vocabulary: {len(parts.schema.vocabulary):,} words, {len(parts.schema.characters):,} characters")
        return "\n".join([*lines, *(f"warning: {warning}" for warning in parts.warnings)])


def _shares(what: str, names: Sequence[str], codes: np.ndarray) -> list[str]:
    """How often each name is met, the most frequent first."""
    met = Counter(names[code] for code in codes.tolist() if code >= 0)
    lines = [f"  {what:<9}  {len(met):,}"]
    lines += [f"    {name}  {count:,} ({count / len(codes):.1%})" for name, count in met.most_common(10)]
    return [*lines, f"    … and {len(met) - 10:,} more"] if len(met) > 10 else lines


def _further(folder: Path, settings: SentenceSettings) -> Path:
    """What is read of a folder of further data: its test part."""
    parts = [entry for entry in entries(folder) if role(entry.name) is not None]
    test = [entry for entry in parts if role(entry.name) == "test"]
    if any(role(entry.name) == "train" for entry in parts):
        found = find_parts(folder, _ranking(settings)).test
        test = [] if found is None else [found]
    if len(test) == 1:
        return test[0]
    raise DataError(f"{folder}: holds no single test part, but {listed(entries(folder))}; name one file.")


def _ranking(settings: SentenceSettings) -> Callable[[Path], int | None]:
    return lambda path: _fitting(path, settings)


def _head(source: Path | BinaryIO, settings: SentenceSettings) -> list[str]:
    """The first lines of a file, to know a format by; none of a folder, or where it is not text."""
    if isinstance(source, Path) and source.is_dir():
        return []
    try:
        with open_text(source, settings.encoding) as text:
            lines = [line.rstrip("\r\n") for _, line in zip(range(HEAD), text, strict=False)]
    except DataError:
        return []
    return [] if any("\0" in line for line in lines) else lines


def _fitting(source: Path | BinaryIO, settings: SentenceSettings) -> int | None:
    """The place of the first format that a source is laid out in; with `settings.format`, 0 where it is that one."""
    head, path = _head(source, settings), source if isinstance(source, Path) else None
    if not isinstance(source, Path):
        source.seek(0)
    named = settings.format
    among = FORMATS.values() if named is None else [FORMATS[named]]
    return next((i for i, format in enumerate(among) if format.fits(path, head, settings)), None)


def _choose(source: Path | BinaryIO, settings: SentenceSettings, schema: SentenceSchema | None) -> TaggedFormat:
    """The format in which a source is laid out; further data that fit none are plain sentences.

    Raises:
        DataError: No such file, or no format that fits; says what was looked at.
    """
    if isinstance(source, Path):
        check_exists(source)
        if not source.is_dir():
            with open_binary(source):  # an empty or damaged file is told as such
                pass
    if settings.format is not None:
        return FORMATS[settings.format]
    trained = schema.format if schema is not None else None
    if trained in FORMATS and _fitting(source, settings.model_copy(update={"format": trained})) is not None:
        return FORMATS[trained]
    found = _fitting(source, settings)
    if found is not None:
        return list(FORMATS.values())[found]
    known = f"name one with --input-format: {', '.join(FORMATS)}."
    if isinstance(source, Path) and source.is_dir():
        raise DataError(f"{source}: no format of tagged sentences fits this folder, which holds "
                        f"{listed(entries(source))}; {known}")  # fmt: skip
    if schema is not None:
        return FORMATS[Lines.name]
    assert isinstance(source, Path)
    with open_text(source, settings.encoding) as text:  # a wrong encoding is told as such
        first = next((line.strip() for line in text if line.strip()), "")
        for _ in text:
            pass
    shown = first if len(first) <= 60 else first[:57] + "..."
    raise DataError(f"{source}: no format of tagged sentences fits; its first line is {shown!r}; {known}")


def _read(source: Source, settings: SentenceSettings, schema: SentenceSchema | None, sum: Any) -> Tagged:
    """What a source holds; its bytes are added to `sum`."""
    data = source.data
    if not isinstance(data, Path) and not hasattr(data, "read"):
        tagged = _from_lists(data, source.name, schema)
        if sum is not None:
            sum.update(repr((tagged.forms, tagged.kinds, tagged.labels)).encode())
            for array in (tagged.surface, tagged.offsets, tagged.tags):
                sum.update(b"" if array is None else array.tobytes())
        tagged.settings["format"] = "lists"
        return tagged
    if not isinstance(data, Path):
        data = io.BytesIO(cast(BinaryIO, data).read())  # looked at, then read
        if not data.getbuffer().nbytes:
            raise DataError(f"{source.name}: is empty.")
    format = _choose(data, settings, schema)
    if sum is not None and isinstance(data, Path):
        files = sorted(entry for entry in data.rglob("*") if entry.is_file()) if data.is_dir() else [data]
        for path in files:
            sum.update(digest(path))
    tagged = format.read(data, settings, schema)
    tagged.settings["format"] = format.name
    return tagged


def _from_lists(data: Any, name: str, schema: SentenceSchema | None) -> Tagged:
    """Sentences from Python: (sentences, tags) or (sentences, tags, labels), or sentences alone; a sentence is a list
    of words, or a text whose words are parted by blanks."""
    given: tuple[Any, ...] = data if isinstance(data, tuple) else (data,)
    if not 1 <= len(given) <= 3 or not all(isinstance(each, list | tuple) for each in given):
        raise DataError(f"{name}: lists are expected: (sentences, tags), or (sentences, tags, labels).")
    sentences: Any = given[0]
    tags: Any = given[1] if len(given) > 1 else None
    labels: Any = given[2] if len(given) > 2 else None
    for what, other in (("tags", tags), ("labels", labels)):
        if other is not None and len(other) != len(sentences):
            raise DataError(f"{name}: {len(sentences)} sentences, but {what} for {len(other)}.")
    if tags is None and schema is None:
        raise DataError(f"{name}: holds no tags, which training needs; (sentences, tags) is expected.")
    gathering = Gathering(name)
    texts = [sentence for sentence in sentences if isinstance(sentence, str)]
    cut = split_at_blanks if schema is None or tags is not None else cutter(texts, schema)
    for i, sentence in enumerate(sentences):
        words = cut(sentence) if isinstance(sentence, str) else list(sentence)
        marks = None if tags is None else (split_at_blanks(tags[i]) if isinstance(tags[i], str) else list(tags[i]))
        if not words or not all(isinstance(word, str) and word for word in words):
            raise DataError(f"{name}: sentence {i + 1}: a list of at least one word is expected.")
        if marks is not None and len(marks) != len(words):
            raise DataError(
                f"{name}: sentence {i + 1}: {len(marks)} tags for {len(words)} words; one a word is expected."
            )
        for j, word in enumerate(words):
            gathering.add(word, None if marks is None else str(marks[j]), i + 1)
        gathering.end(label=None if labels is None else str(labels[i]))
    return gathering.tagged({})


def _kept(tagged: Tagged, settings: SentenceSettings) -> dict[str, object]:
    """The reading options as further files are read."""
    return settings.model_dump(include=set(_KEPT), exclude_defaults=True) | {
        key: value for key, value in tagged.settings.items() if value is not None and key != "format"
    }


def _scheme(tagged: Tagged, settings: SentenceSettings, schema: SentenceSchema | None) -> Scheme | None:
    """How tags mark entities: as named, else as found."""
    if schema is not None:
        return schema.scheme
    if settings.scheme == "none" or tagged.tags is None:
        return None
    found = find_scheme(_sentences_of_tags(tagged))
    if settings.scheme is None:
        return found
    if found is None:
        odd = next((kind for kind in tagged.kinds if kind != "O" and kind[1:2] != "-"), tagged.kinds[0])
        word = int((tagged.tags == tagged.kinds.index(odd)).argmax())
        raise DataError(
            f"{tagged.place(word)}: the tag {odd!r} is none of {settings.scheme}; expected O, B-KIND, I-KIND."
        )
    return settings.scheme


def _sentences_of_tags(tagged: Tagged) -> Any:
    assert tagged.tags is not None
    codes, bounds = tagged.tags.tolist(), tagged.offsets.tolist()
    for first, stop in pairwise(bounds):
        yield [tagged.kinds[code] for code in codes[first:stop]]


def _hold_to_scheme(tagged: Tagged, scheme: Scheme | None, settings: SentenceSettings) -> None:
    """Write tags that their scheme does not allow as the entities that the CoNLL evaluation reads in them, in place.

    Raises:
        DataError: There are such, and `settings.bad_tags` is "fail".
    """
    if scheme is None or tagged.tags is None:
        return
    numbering = {kind: code for code, kind in enumerate(tagged.kinds)}
    codes = tagged.tags.copy()
    broken, first = 0, ""
    for i, tags in enumerate(_sentences_of_tags(tagged)):
        if not all(map(is_tag, tags)):
            continue  # tags of another kind altogether: they keep their names, and count as wrong
        kept = written(entities(tags), len(tags), scheme)
        if kept == tags:
            continue
        start = int(tagged.offsets[i])
        wrong = [j for j, (tag, right) in enumerate(zip(tags, kept, strict=True)) if tag != right]
        broken += 1
        if not first:
            j = wrong[0]
            before = f"after {tags[j - 1]!r}" if j else "at the sentence's start"
            first = f"{tagged.place(start + j)}: the tag {tags[j]!r} {before} breaks {scheme.upper()}"
            if settings.bad_tags == "fail":
                raise DataError(f"{first}; expected {kept[j]!r}, or --set data.bad_tags=repair.")
            first += f" and is taken for {kept[j]!r}"
        for j in wrong:
            codes[start + j] = numbering.setdefault(kept[j], len(numbering))
    if broken:
        tagged.tags, tagged.kinds = codes, list(numbering)
        more = f" (so in {broken} sentences)" if broken > 1 else ""
        tagged.warnings.append(f"{first}{more}.")


def _cut(tagged: Tagged, settings: SentenceSettings) -> None:
    """Shorten sentences beyond `max_length`, in place, and add a warning that counts them."""
    longest, lengths = settings.max_length, np.diff(tagged.offsets)
    if longest is None or not (over := lengths > longest).any():
        return
    wanted = np.minimum(lengths, longest)
    skipped = lengths - wanted if settings.keep == "end" else np.zeros_like(lengths)
    offsets = np.concatenate([[0], np.cumsum(wanted)])
    kept = np.repeat(tagged.offsets[:-1] + skipped - offsets[:-1], wanted)
    kept += np.arange(len(kept))
    tagged.surface, tagged.lines, tagged.offsets = tagged.surface[kept], tagged.lines[kept], offsets
    if tagged.tags is not None:
        tagged.tags = tagged.tags[kept]
    tagged.warnings.append(
        f"{tagged.name}: {over.sum()} of {len(lengths)} sentences are longer than {longest} words (the longest has "
        f"{lengths.max()}); their {settings.keep} is kept."
    )


def fold(form: str, lowercase: bool, digits: bool) -> str:
    """A word as the vocabulary has it.

    >>> fold("Flight", True, False), fold("1994", True, True)
    ('flight', '0000')
    """
    if lowercase:
        form = form.lower()
    return "".join("0" if c.isdigit() else c for c in form) if digits else form


def learn(
    tagged: Tagged,
    chosen: np.ndarray,
    scheme: Scheme | None,
    settings: SentenceSettings,
    kept: SentenceSchema | None = None,
) -> SentenceSchema:
    """What the sentences to train on settle; with `kept`, under the vocabulary of an earlier run.

    Raises:
        DataError: One tag alone, or one label.
    """
    assert tagged.tags is not None
    among = np.zeros(len(tagged), bool)
    among[chosen] = True
    steps = np.repeat(among, np.diff(tagged.offsets))
    counts = np.bincount(tagged.surface[steps], minlength=len(tagged.forms)).tolist()
    words, characters = Counter[str](), Counter[str]()
    lowercase, digits = settings.lowercase, settings.digits
    if kept is not None:
        lowercase, digits = kept.lowercase, kept.digits
    for form, count in zip(tagged.forms, counts, strict=True):
        if count:
            words[fold(form, lowercase, digits)] += count
            for c in form:
                characters[c] += count
    met = np.bincount(tagged.tags[steps], minlength=len(tagged.kinds)).tolist()
    tags = sort_classes(kind for kind, count in zip(tagged.kinds, met, strict=True) if count)
    if len(tags) < 2:
        raise DataError(f"{tagged.name}: only the tag {tags[0]!r} in the training data; expected at least two.")
    labels = [] if tagged.labels is None else sort_classes({tagged.labels[i] for i in chosen.tolist()})
    frequent = [word for word, count in words.items() if count >= settings.min_count and word not in SPECIAL]
    frequent.sort(key=lambda word: (-words[word], word))
    if not frequent:
        raise DataError(f"{tagged.name}: no word is met {settings.min_count} times; lower data.min_count.")
    often = sorted((c for c in characters if c not in SPECIAL), key=lambda c: (-characters[c], c))
    return SentenceSchema(
        task=TASK,
        format=str(tagged.settings["format"]),
        settings=_kept(tagged, settings),
        vocabulary=kept.vocabulary if kept else [*SPECIAL, *frequent[: settings.max_vocabulary - len(SPECIAL)]],
        characters=kept.characters if kept else [*SPECIAL, *often],
        tags=tags,
        labels=labels if len(labels) > 1 else [],
        scheme=scheme,
        lowercase=lowercase,
        digits=digits,
    )


def encode(tagged: Tagged, schema: SentenceSchema, warnings: list[str]) -> Sentences:
    """Sentences under a schema; what a person should know is added to `warnings`."""
    position = {word: i for i, word in enumerate(schema.vocabulary)}
    table = np.array([position.get(fold(f, schema.lowercase, schema.digits), UNKNOWN) for f in tagged.forms], np.int32)
    warnings += tagged.warnings
    tags, names = None, list(schema.tags)
    if tagged.tags is not None:
        numbering = {name: i for i, name in enumerate(names)}
        codes = np.array([numbering.setdefault(kind, len(numbering)) for kind in tagged.kinds], np.int64)
        names = list(numbering)
        values = codes[tagged.tags]
        if strange := int((values >= len(schema.tags)).sum()):
            met = sorted({names[i] for i in values[values >= len(schema.tags)].tolist()})
            said = f"{tagged.name}: {strange} of {len(values)} words have a tag that training data do not have"
            said = f"{said} ({some(met)}); they count as wrong."
            if strange == len(values):
                where = f" Column {tagged.column} was read." if tagged.column else ""
                said = f"{said}{where} The run's tags are {some(schema.tags)}."
            warnings.append(said)
        tags = torch.from_numpy(values)
    labels = None
    if tagged.labels is not None and schema.labels:
        places = {label: i for i, label in enumerate(schema.labels)}
        labels = torch.tensor([places.get(label, -1) for label in tagged.labels], dtype=torch.int64)
        if strange := int((labels < 0).sum()):
            met = sorted({label for label in tagged.labels if label not in places})
            warnings.append(
                f"{tagged.name}: {strange} of {len(labels)} sentences have a label that training data do not have "
                f"({some(met)}); they count as wrong."
            )
    return Sentences(
        words=torch.from_numpy(table[tagged.surface]),
        surface=torch.from_numpy(tagged.surface.astype(np.int32)),
        forms=tagged.forms,
        offsets=torch.from_numpy(tagged.offsets.astype(np.int64)),
        names=names,
        tags=tags,
        labels=labels,
        ids=tagged.ids,
    )
