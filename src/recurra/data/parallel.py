"""Where pairs of a source and a target text stand, and what stands there: two files side by side, a table, arrays."""

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from recurra.data.arrays import archived, is_frame
from recurra.data.delimited import Columns, Table, is_parquet, missing_column, open_table, short
from recurra.data.opening import check_exists, entries, first_lines, name_of, open_text, plain_name
from recurra.data.parts import ROLES, role
from recurra.data.settings import DataSettings
from recurra.errors import DataError, nearest

FORMATS = {
    "parallel": "two files, a sentence a line, line i of the one translated by line i of the other",
    "tsv": "a text with a tab between source and target",
    "table": "a table (CSV, Parquet): a column of targets; as source a column of texts, or the columns of numbers",
    "npz": "NumPy .npz with the vectors x, (N, D), and the texts y, (N,)",
    "lines": "a source a line, without targets",
}
"""How pairs may be laid out, by the name given to `--input-format`."""

_SIDES = ({"source", "src", "input"}, {"target", "tgt", "trg", "output"})
"""What a header calls the columns of sources and of targets."""
_LANGUAGE = re.compile(
    "ar|bg|bn|ca|cs|cy|da|de|el|en|eo|es|et|eu|fa|fi|fr|ga|gl|he|hi|hr|hu|id|is|it|ja|ka|ko|la|lt|lv|mk|ms|mt|nb|nl|nn|no|"
    "pl|pt|ro|ru|sk|sl|sq|sr|sv|sw|ta|th|tr|uk|ur|uz|vi|zh"
)
"""Languages that are often met, by their codes (ISO 639-1)."""
_NAME = re.compile(r"\s*\w[\w.-]*\w\s*")
_LOOKED_AT = 100
"""Lines that are compared with the first."""

_ENDINGS = {".tsv": "tsv", ".csv": "table", ".parquet": "table", ".npz": "npz"}


class Spot(NamedTuple):
    """Where one part stands.

    Attributes:
        path: The file; that of the sources where there are two.
        target: The file of the targets, where there are two.
        format: How it is laid out, one of `FORMATS`.
    """

    path: Path
    target: Path | None
    format: str

    @property
    def files(self) -> list[Path]:
        """What is read."""
        return [self.path] if self.target is None else [self.path, self.target]

    def __str__(self) -> str:
        return str(self.path) if self.target is None else f"{self.path}, {self.target.name}"


@dataclass
class Raw:
    """Pairs as they stand somewhere.

    Attributes:
        sources: N texts, or vectors, (N, D) float32.
        targets: N texts; None where there are none.
        place: Where pair i stands, for messages.
        format: How they are laid out.
        features: Vectors: a name for each of the D numbers.
        settings: The reading options as resolved, for further data.
        warnings: What a person should know of how they were read.
    """

    sources: list[str] | np.ndarray
    targets: list[str] | None
    place: Callable[[int], str]
    format: str
    features: list[str] = field(default_factory=list)
    settings: dict[str, object] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.sources)

    def select(self, rows: Sequence[int] | np.ndarray) -> "Raw":
        """The named pairs, in that order."""
        rows = np.asarray(rows, np.int64)
        chosen, place = rows.tolist(), self.place
        return Raw(
            self.sources[rows] if isinstance(self.sources, np.ndarray) else [self.sources[i] for i in chosen],
            None if self.targets is None else [self.targets[i] for i in chosen],
            lambda i: place(chosen[i]),
            self.format,
            self.features,
            self.settings,
        )


class Languages(NamedTuple):
    """The endings of the names of two files that belong together."""

    source: str | None
    target: str | None


# --- where ----------------------------------------------------------------------------------------------------------


def spots(folder: Path, languages: Languages, format: str | None, given: Collection[str] = ()) -> dict[str, Spot]:
    """The parts of a data set in a folder, by name: train, validation, test; but those that are `given` elsewhere.

    Raises:
        DataError: No training part, several files for one part, or languages that are not named and not to be guessed.
    """
    inside = [entry for entry in entries(folder) if entry.is_file()]
    found: dict[str, Spot] = {}
    for part in ROLES:
        of_part = [entry for entry in inside if role(entry.name) == part]
        if not of_part or part in given:
            continue
        stems = _stems(of_part, languages)
        if len(stems) > 1:
            option = "data.path" if part == "train" else f"--{part}"
            raise DataError(
                f"{folder}: holds several sets for the {part} part ({', '.join(stems)}); name one: {option} "
                f"{folder / next(iter(stems))}"
            )
        if stems:
            found[part] = stems.popitem()[1]
        elif format in (None, "tsv", "table", "npz"):
            tables = [entry for entry in of_part if format or table_format(entry)]
            if len(tables) == 1:
                found[part] = Spot(tables[0], None, format or table_format(tables[0]) or "tsv")
    if "train" in found:
        return found
    only = _stems(inside, languages)
    if len(only) == 1 and not found:
        return {"train": only.popitem()[1]}
    raise DataError(_no_training_part(folder, inside, languages))


def _stems(files: list[Path], languages: Languages) -> dict[str, Spot]:
    """The pairs of files that are called alike but for the ending, by the name that they share."""
    source, target = languages
    if source is None or target is None:
        return {}
    by_name = {plain_name(file): file for file in files}
    found = {}
    for name, file in by_name.items():
        if name.endswith(f".{source}"):
            stem = name[: -len(source) - 1]
            if (partner := by_name.get(f"{stem}.{target}")) is not None:
                found[stem] = Spot(file, partner, "parallel")
    return found


def _no_training_part(folder: Path, inside: list[Path], languages: Languages) -> str:
    listed = ", ".join(entry.name for entry in inside[:6]) + (", …" if len(inside) > 6 else "") or "nothing"
    endings = sorted({language(entry) for entry in inside if role(entry.name) == "train"} - {""})
    if languages.source is None or languages.target is None:
        if len(endings) > 1:
            a, b = endings[:2]
            return (
                f"{folder}: holds {', '.join(endings)}; say which is translated into which, such as --set "
                f"data.source={a} --set data.target={b}."
            )
        expected = "expected train.tsv, or train.en and train.de with data.source=en and data.target=de."
        return f"{folder}: holds no training part; found {listed}; {expected}"
    for key, value in languages._asdict().items():
        if endings and value not in endings:
            guess = nearest(value, endings)
            hint = f"; did you mean {guess!r}?" if guess else "."
            return f"{folder}: data.{key}: no file ends with .{value}{hint} There are: {', '.join(endings)}."
    return (
        f"{folder}: holds no training part; found {listed}; expected train.{languages.source} and "
        f"train.{languages.target}."
    )


def spot(path: Path, languages: Languages, format: str | None, *, lonely: bool = False) -> Spot:
    """Where the pairs are that `path` names: a file, or what two files have in common, `train` for `train.en`.

    Args:
        path: A file or the beginning of two files' names.
        languages: Their endings; one that is not named is that of `path`.
        format: How it is laid out, where that is known.
        lonely: Whether a file of sources may have no partner.

    Raises:
        DataError: There is no such file, or it has no partner.
    """
    source, target = languages
    if not path.exists() and source and target and path.parent.is_dir():
        found = _stems([entry for entry in entries(path.parent) if entry.is_file()], languages)
        if path.name in found:
            return found[path.name]
        if guess := nearest(path.name, found):
            raise DataError(
                f"{path}: no files {path.name}.{source} and {path.name}.{target}. Did you mean {path.with_name(guess)}?"
            )
    size = check_exists(path).st_size
    if path.is_file() and not size:
        raise DataError(f"{path}: is empty.")
    if format in ("tsv", "table", "npz", "lines"):
        return Spot(path, None, format)
    if format is None and (kind := table_format(path)):
        return Spot(path, None, kind)
    own = language(path)
    if target is not None and own != target:
        stem = plain_name(path)[: len(plain_name(path)) - len(own) - bool(own)]
        for entry in entries(path.absolute().parent):
            if plain_name(entry) == f"{stem}.{target}":
                return Spot(path, path.with_name(entry.name), "parallel")
    if lonely:
        return Spot(path, None, "lines")
    if target is None:
        raise DataError(
            f"{path}: is one file of lines; name the file with their translations, or its ending: --set data.target=de"
        )
    raise DataError(f"{path}: has no partner that ends with .{target} beside it, with a target for each line.")


def language(path: Path) -> str:
    """The ending of a file's name, that of compression aside: `en` of `train.en.gz`."""
    return Path(plain_name(path)).suffix[1:]


def table_format(path: Path) -> str | None:
    """The format of a file that holds both sides, by its name or its first lines; None where it is none of these."""
    if (kind := _ENDINGS.get(Path(plain_name(path)).suffix.lower())) is not None:
        return kind
    if is_parquet(path):
        return "table"
    lines = [line for line in first_lines(path, 50) if line.strip()]
    return "tsv" if lines and all("\t" in line for line in lines) else None


def beside(path: Path, languages: Languages, format: str | None, given: Collection[str] = ()) -> dict[str, Spot]:
    """The other parts of the data set whose training part is `path`, which lie in the same folder; but those that are
    `given` elsewhere."""
    if role(path.name) != "train":
        return {}
    try:
        found = spots(path.absolute().parent, languages, format, given)
    except DataError:
        return {}
    return {part: where for part, where in found.items() if part != "train"}


# --- what -----------------------------------------------------------------------------------------------------------


def read(where: Spot | BinaryIO, options: DataSettings, settings: dict[str, object], known: Sequence[str] = ()) -> Raw:
    """The pairs that stand somewhere.

    Args:
        where: Where; an open file holds lines, unless `settings` name a format.
        options: `separator`, `header`, `columns`, `encoding` of a table.
        settings: "source" and "target", the columns of a table as named (or as the training data had them), and
            "format" of an open file.
        known: Vectors: the names of the training data's numbers.

    Raises:
        DataError: Anything that is not as it should be, with file and line.
    """
    if isinstance(where, Spot) and where.target is not None:
        return _parallel(where, options.encoding)
    source: Path | BinaryIO = where.path if isinstance(where, Spot) else where
    format = where.format if isinstance(where, Spot) else str(settings.get("format") or "lines")
    if format == "parallel" or format == "lines":
        name = name_of(source)
        return Raw(lines_of(source, options.encoding), None, lambda i: f"{name}, line {i + 1}", "lines")
    if format == "npz":
        return _arrays(source, known)
    columns = (_text(settings.get("source")), _text(settings.get("target")))
    return (_tsv if format == "tsv" else _table)(source, options, columns, known)


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def lines_of(source: Path | BinaryIO, encoding: str) -> list[str]:
    """The lines of a text. They end with a line feed alone: what else Unicode takes for an end would put two files out
    of step."""
    with open_text(source, encoding, newline="\n") as text:
        return [line.rstrip("\r\n") for line in text]


def _parallel(where: Spot, encoding: str) -> Raw:
    assert where.target is not None
    sides = [lines_of(path, encoding) for path in (where.path, where.target)]
    counts = [len(side) for side in sides]
    if counts[0] != counts[1]:
        longer = int(counts[1] > counts[0])
        line = min(counts)
        raise DataError(
            f"{where.path}: has {counts[0]} lines, but {where.target} has {counts[1]}; expected as many. Line "
            f"{line + 1} of {where.files[longer].name} has no partner: {short(sides[longer][line])!r}"
        )
    path = where.path
    return Raw(sides[0], sides[1], lambda i: f"{path}, line {i + 1}", "parallel")


def _tsv(
    source: Path | BinaryIO, options: DataSettings, wanted: tuple[str | None, str | None], known: Sequence[str]
) -> Raw:
    """Cells as they stand between tabs: what looks like a quote is a quotation mark."""
    name = name_of(source)
    lines = lines_of(source, options.encoding)
    first = lines[0].split("\t") if lines else []
    names = options.columns or [f"column_{i + 1}" for i in range(len(first))]
    is_header = any(column is not None and column in first for column in wanted)
    sure = None if is_header or options.header is not None or options.columns else _sure_header(first, lines)
    skipped = int(is_header or sure is not None if options.header is None else options.header)
    if skipped and not options.columns:
        names = [cell.strip() for cell in first]
    places = sure or tuple(_column(name, names, column, i) for i, column in enumerate(wanted))
    warnings: list[str] = []
    if options.header is None and not is_header:
        said = f"{name}: its first line, {', '.join(map(repr, first))}, is read as"
        if sure is not None:
            warnings = [f"{said} the columns' names (data.header=false: as a pair)."]
        elif _looks_like_header(first, lines):
            warnings = [f"{said} a pair, though it looks like the columns' names (data.header=true)."]
        elif len(first) > 1 and any(wanted) and not options.columns:
            said = " and ".join(f"{i + 1} as {wanted[i] or side}" for i, side in enumerate(("source", "target")))
            warnings = [f"{name}: its columns have no names; column {said} (a first line of names says otherwise)."]
    # A further table may have its columns in the same order and no names: it is then told which is read as which.
    named = tuple(
        names[i] if sure is not None and sure[0] > sure[1] else w for i, w in zip(places, wanted, strict=True)
    )
    sides: tuple[list[str], list[str]] = ([], [])
    without_targets = len(first) == 1
    for number, line in enumerate(lines[skipped:], skipped + 1):
        cells = line.split("\t")
        if len(cells) > len(first) or (not without_targets and len(cells) <= max(places)):
            raise DataError(
                f"{name}, line {number}: has {len(cells)} cells (parted by tabs), expected {len(first)}: "
                f"{short(line)!r}"
            )
        sides[0].append(cells[0 if without_targets else places[0]])
        if not without_targets:
            sides[1].append(cells[places[1]])
    return Raw(
        sides[0],
        None if without_targets else sides[1],
        lambda i: f"{name}, line {i + 1 + skipped}",
        "tsv",
        settings={"source": named[0], "target": named[1]},
        warnings=warnings,
    )


def _sure_header(first: Sequence[str], lines: Sequence[str]) -> tuple[int, int] | None:
    """The columns of sources and targets, where the first line of a table names them beyond doubt: as source and
    target, or as two languages by their codes, which no other line is made of."""
    names = [cell.strip().lower() for cell in first]
    sides = [[i for i, name in enumerate(names) if name in called] for called in _SIDES]
    if len(sides[0]) == len(sides[1]) == 1:
        return sides[0][0], sides[1][0]
    if _are_languages(names) and not any(_are_languages(line.lower().split("\t")) for line in lines[1:_LOOKED_AT]):
        return 0, 1
    return None


def _are_languages(names: Sequence[str]) -> bool:
    return len(names) == 2 and names[0] != names[1] and all(map(_LANGUAGE.fullmatch, names))


def _looks_like_header(first: Sequence[str], lines: Sequence[str]) -> bool:
    """Whether the first line of a table has a word in each cell, and hardly another line has."""
    others = [line.split("\t") for line in lines[1:_LOOKED_AT]]
    alike = sum(all(_NAME.fullmatch(cell) for cell in cells) for cells in others)
    named = len(first) > 1 and all(_NAME.fullmatch(cell) for cell in first)
    return named and len(others) > 2 and alike <= len(others) / 20


def _column(name: str, names: Sequence[str], wanted: str | None, default: int) -> int:
    """Which column is meant; one that is named as a language but stands in a table without a header is by its place."""
    if wanted is None or (wanted not in names and all(n == f"column_{i + 1}" for i, n in enumerate(names))):
        return default
    if wanted in names:
        return names.index(wanted)
    guess = nearest(wanted, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    key = ("source", "target")[default]
    raise DataError(
        f"{name}: data.{key} names a column {wanted!r} that is not there{hint} Columns: {', '.join(names)}."
    )


def _table(
    source: Path | BinaryIO, options: DataSettings, wanted: tuple[str | None, str | None], known: Sequence[str]
) -> Raw:
    with open_table(source, options, known) as table:
        columns = _looked_at(table)
        texts = [i for i in range(columns.width) if not columns.numeric(i) and not columns.blank(i)]
        target = table.column(wanted[1], "target") if wanted[1] and (not known or wanted[1] in table.names) else None
        if target is None and texts and not (known and wanted[1]):
            target = texts[-1]
        origin = table.column(wanted[0], "source") if wanted[0] else None
        if origin is None and not known:
            others = [i for i in texts if i != target]
            origin = others[0] if others else None
        if target is None and not known and origin is None:
            raise DataError(f"{table.name}: has no column of texts; expected one that holds the targets.")
        numbers = [i for i in range(columns.width) if i != target] if origin is None else []
        if known:
            for feature in known:
                if feature not in table.names:
                    raise missing_column(table.name, feature, table.names)
            numbers = [table.names.index(feature) for feature in known]
        lines: list[int] = []
        vectors: list[np.ndarray] = []
        sources: list[str] = []
        targets: list[str] = []
        for block in table.blocks():
            lines += block.lines.tolist()
            if target is not None:
                targets += table.strings(block, target)
            if origin is None:
                vectors.append(table.numbers(block, numbers))
            else:
                sources += table.strings(block, origin)
        name, unit, names = table.name, table.unit, table.names
    place = lambda i: f"{name}, {unit} {lines[i]}"  # noqa: E731
    made = np.concatenate(vectors) if vectors else None
    if made is not None and (bad := np.argwhere(np.isnan(made))).size:
        row, column = bad[0].tolist()
        raise DataError(f"{place(row)}, column {names[numbers[column]]!r}: is empty; expected a number.")
    return Raw(
        sources if made is None else made.astype(np.float32),
        targets if target is not None else None,
        place,
        "table",
        features=[names[i] for i in numbers],
        settings={
            "source": None if origin is None else names[origin],
            "target": wanted[1] if target is None else names[target],
        },
    )


def _looked_at(table: Table) -> Columns:
    return Columns(table.names, table.sample, table.header)


def _arrays(source: Path | BinaryIO, known: Sequence[str]) -> Raw:
    name = name_of(source)
    arrays = archived(source)
    if "x" not in arrays or not arrays.keys() <= {"x", "y"}:
        raise DataError(f"{name}: holds the arrays {', '.join(arrays) or 'none'}; expected x, and y or not.")
    return in_python((arrays["x"], arrays["y"]) if "y" in arrays else arrays["x"], name, "npz")


def in_python(data: Any, name: str, format: str = "arrays") -> Raw:
    """Pairs handed over in Python: N sources and N targets, or N sources alone; sources are texts or vectors.

    Raises:
        DataError: Neither, or not as many.
    """
    if is_frame(data):
        raise DataError(f"{name}: is a dataframe; hand over (sources, targets), such as (frame.en, frame.de).")
    sources, targets = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    sources, targets = _plain(sources), None if targets is None else _plain(targets)
    place = lambda i: f"{name}, pair {i}"  # noqa: E731
    features: list[str] = []
    if isinstance(sources, np.ndarray):
        if sources.ndim != 2 or sources.dtype.kind not in "biuf" or not np.isfinite(sources).all():
            raise DataError(
                f"{name}: the sources have shape {sources.shape} and type {sources.dtype}; expected texts, or "
                "vectors of finite numbers, (N, D)."
            )
        sources = sources.astype(np.float32)
        features = [f"x_{i}" for i in range(sources.shape[1])]
    else:
        _check_texts(sources, "source", place)
    if targets is not None:
        if isinstance(targets, np.ndarray):
            raise DataError(f"{name}: the targets are numbers ({targets.dtype}); expected texts.")
        _check_texts(targets, "target", place)
        if len(targets) != len(sources):
            raise DataError(f"{name}: {len(sources)} sources but {len(targets)} targets; expected as many.")
    return Raw(sources, targets, place, format, features)


def _plain(values: Any) -> Any:
    """A list of texts or an array of numbers."""
    if isinstance(values, str) or not hasattr(values, "__len__"):
        return [values]
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    elif hasattr(values, "to_list"):
        values = values.to_list()
    elif hasattr(values, "tolist") and not isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, np.ndarray):
        return values.tolist() if values.dtype.kind in "OUS" else values
    values = list(values)
    return values if not values or isinstance(values[0], str) else np.asarray(values)


def _check_texts(values: Any, what: str, place: Callable[[int], str]) -> None:
    for i, value in enumerate(values):
        if not isinstance(value, str):
            raise DataError(f"{place(i)}: the {what} is {type(value).__name__}; expected a text.")
