"""What a file looks like to its reader, before anything is trained on it."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from recurra.data import encode
from recurra.data.load import Reading, ranking
from recurra.data.records import Records
from recurra.data.settings import DataSettings
from recurra.data.sources import find_sources

_SHOWN = 3


@dataclass
class PartDescription:
    """One part of a data set.

    Attributes:
        source: Path, or description.
        format: Name of the format.
        sequences: How many there are.
        steps: How many steps they have together.
        shortest: Steps of the shortest.
        median: Steps of the middle one.
        longest: Steps of the longest.
        classes: classify: how many sequences (or steps) have each label; empty where the file has none.
        asked: classify with a label at every step: how many steps have one.
        targets: regress: name -> smallest, mean, largest; empty where the file has none.
        first: The first sequences as text, with their targets.
    """

    source: str
    format: str
    sequences: int
    steps: int
    shortest: int
    median: float
    longest: int
    classes: dict[str, int] = field(default_factory=dict)
    asked: int | None = None
    targets: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    first: list[str] = field(default_factory=list)


@dataclass
class Description:
    """What a data set looks like to its reader.

    Attributes:
        input: "numbers" or "tokens".
        features: Numbers: a name for each value of a step.
        range: Numbers: smallest and largest value of the training part.
        symbols: Tokens: different symbols in the training part.
        vocabulary: Tokens: symbols that a network would know under these settings, padding and unknown included.
        parts: train, and validation and test where they have files of their own.
        settings: The reading options as found.
        warnings: What a person should know.
    """

    input: str
    features: list[str]
    range: tuple[float, float] | None
    symbols: int | None
    vocabulary: int | None
    parts: dict[str, PartDescription]
    settings: dict[str, object]
    warnings: list[str]

    def to_text(self) -> str:
        """Plain lines for a terminal."""
        lines: list[str] = []
        for name, part in self.parts.items():
            lines += [f"{name}: {part.source} ({part.format})", f"  sequences  {part.sequences:,}"]
            lengths = f"{part.shortest:,} to {part.longest:,}, median {part.median:,.10g}"
            lines.append(
                f"  steps      {part.shortest:,} each" if part.shortest == part.longest else f"  steps      {lengths}"
            )
            if part.classes:
                total = sum(part.classes.values())
                of = "" if part.asked is None else f", at {part.asked:,} of {part.steps:,} steps"
                lines.append(f"  classes    {len(part.classes):,}{of}")
                shown = (
                    sorted(part.classes.items(), key=lambda item: -item[1])[:10]
                    if len(part.classes) > 20
                    else part.classes.items()
                )
                lines += [f"    {label}  {count:,} ({count / total:.1%})" for label, count in shown]
                if len(part.classes) > 20:
                    lines.append(f"    … and {len(part.classes) - 10:,} more")
            for target, (low, mean, high) in part.targets.items():
                lines.append(f"  target     {target}: {low:.6g} to {high:.6g}, mean {mean:.6g}")
            lines += [f"  {'first' if i == 0 else '     '}      {row}" for i, row in enumerate(part.first)]
        if self.input == "tokens":
            lines.append(f"symbols: {self.symbols:,} different, vocabulary of {self.vocabulary:,}")
        else:
            names = ", ".join(self.features[:8]) + (f" … {self.features[-1]}" if len(self.features) > 8 else "")
            low, high = self.range or (np.nan, np.nan)
            lines.append(f"values a step: {len(self.features)} ({names}), from {low:.6g} to {high:.6g}")
        lines += [f"warning: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def describe(source: Any, settings: DataSettings, task: str = "classify") -> Description:
    """Read a data set and say what is in it, without splitting it or asking for more than one class.

    Args:
        source: As for `load_parts`.
        settings: How to read.
        task: "classify" or "regress".

    Raises:
        DataError: As `load_parts`.
    """
    reading = Reading(task, settings)
    sources, warnings = find_sources(source, None, None, task, settings, ranking(task, settings))
    parts: dict[str, PartDescription] = {}
    schema, input, span, symbols, options = None, "", None, None, {}
    for name in ("train", "validation", "test"):
        if name not in sources:
            continue
        records, format = reading.records(sources[name], schema)
        encode.check(records, sources[name].name)
        encode.merge(records, sources[name].name, settings)
        permutation = encode.arrange(records, sources[name].name, settings, schema)
        parts[name] = _part(records, sources[name].name, format, task)
        warnings += records.warnings
        if schema is None:
            everything = np.arange(len(records))
            named = sources[name].name
            schema = encode.learn(
                records, named, everything, task, format, settings, permutation=permutation, strict=False
            )
            symbols = None if records.symbols is None else len(records.symbols)
            input = schema.input
            span = (float(records.values.min()), float(records.values.max())) if symbols is None else None
            options = records.settings
    assert schema is not None  # every data set has a training part
    return Description(
        input=input,
        features=schema.features,
        range=span,
        symbols=symbols,
        vocabulary=len(schema.vocabulary) if symbols is not None else None,
        parts=parts,
        settings=options,
        warnings=warnings,
    )


def _part(records: Records, source: str, format: str, task: str) -> PartDescription:
    lengths = np.diff(records.offsets)
    part = PartDescription(
        source=source,
        format=format,
        sequences=len(records),
        steps=int(lengths.sum()),
        shortest=int(lengths.min()),
        median=float(np.median(lengths)),
        longest=int(lengths.max()),
        first=[_row(records, i, task) for i in range(min(_SHOWN, len(records)))],
    )
    if task == "classify" and records.step_labels is not None:
        counts = Counter()
        for row, steps in zip(records.step_labels.kinds, records.step_labels.counts().tolist(), strict=True):
            counts.update(dict.fromkeys(row, steps))
        part.asked = int((records.step_labels.codes >= 0).sum())
        part.classes = {label: counts[label] for label in encode.sort_classes(counts)}
    elif task == "classify" and records.labels is not None:
        counts = Counter(label for row in records.labels for label in row)
        part.classes = {label: counts[label] for label in encode.sort_classes(counts)}
    elif task == "regress" and records.numbers is not None:
        part.targets = {
            name: (float(column.min()), float(column.mean(dtype=np.float64)), float(column.max()))
            for name, column in zip(records.targets, records.numbers.T, strict=True)
        }
    return part


def _row(records: Records, index: int, task: str) -> str:
    """One sequence with its target, short enough for a line."""
    start, stop = int(records.offsets[index]), int(records.offsets[index + 1])
    target = ""
    if task == "classify" and records.step_labels is not None:
        asked = (records.step_labels[step] for step in range(start, stop))
        shown = [";".join(row) for row in asked if row is not None]
        target = " ".join(shown[:8]) + (" … | " if len(shown) > 8 else " | ")
    elif task == "classify" and records.labels is not None:
        target = ", ".join(records.labels[index]) + " | "
    elif task == "regress" and records.numbers is not None:
        row = records.numbers[start if records.per_step else index]
        target = " ".join(f"{number:.6g}" for number in row) + (" … | " if records.per_step else " | ")
    if records.symbols is not None:
        shown = " ".join(records.symbols[token] for token in records.values[start : min(stop, start + 12)])
        return f"{target}{shown}{' …' if stop - start > 12 else ''}"
    single = records.values.shape[1] == 1
    steps, width = (8, 1) if single else (3, 4)
    rows = records.values[start : min(stop, start + steps)]
    cells = (" ".join(f"{number:.4g}" for number in row[:width]) + (" …" if len(row) > width else "") for row in rows)
    return target + (" " if single else "; ").join(cells) + (" …" if stop - start > steps else "")
