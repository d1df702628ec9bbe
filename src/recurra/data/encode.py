"""From records as they stand in a file to sequences that a network reads: classes, vocabulary, checks."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Literal, cast

import numpy as np
import torch

from recurra.data.numerals import is_number
from recurra.data.records import Records, StepLabels
from recurra.data.sequences import UNKNOWN, Schema, Sequences
from recurra.data.settings import OF_PARTS, DataSettings, stored
from recurra.errors import DataError, unknown

SPECIAL = ("<pad>", "<unk>")
"""The first two symbols of every vocabulary: padding, and whatever is not in it."""

_PIECE = 1 << 20


def check(records: Records, name: str) -> None:
    """Hold records against what every sequence must be.

    Raises:
        DataError: No sequences, one without steps, or a number that is not finite, with its place.
    """
    lengths = np.diff(records.offsets)
    if not len(lengths):
        raise DataError(f"{name}: holds no sequences.")
    if (empty := np.flatnonzero(lengths == 0)).size:
        what = "tokens" if records.symbols is not None else "steps"
        raise DataError(f"{records.place(int(empty[0]))}: the sequence has no {what}; expected at least one.")
    if records.symbols is None:
        if records.values.dtype != np.uint8:
            records.values = _single(records.values)
        _check_finite(records, records.values, records.features, steps=True)
    if records.numbers is not None:
        records.numbers = _single(records.numbers)
        _check_finite(records, records.numbers, records.targets, steps=records.per_step)


def cut(records: Records, settings: DataSettings) -> None:
    """Shorten sequences beyond `max_length`, in place, and add a warning that counts them."""
    longest = settings.max_length
    lengths = np.diff(records.offsets)
    if longest is None or not (over := lengths > longest).any():
        return
    wanted = np.minimum(lengths, longest)
    skipped = lengths - wanted if settings.keep == "end" else np.zeros_like(lengths)
    offsets = np.concatenate([[0], np.cumsum(wanted)])
    kept = np.repeat(records.offsets[:-1] + skipped - offsets[:-1], wanted)
    kept += np.arange(len(kept))
    records.values = records.values[kept]
    if records.numbers is not None and records.per_step:
        records.numbers = records.numbers[kept]
    if records.step_labels is not None:
        records.step_labels = replace(records.step_labels, codes=records.step_labels.codes[kept])
    records.offsets = offsets
    records.warnings.append(
        f"{over.sum()} of {len(lengths)} sequences are longer than {longest} steps (the longest has "
        f"{lengths.max()}); their {settings.keep} is kept."
    )


def merge(records: Records, name: str, settings: DataSettings, *, measured: bool = True, strict: bool = False) -> None:
    """Give the labels of `merge_labels` their classes' names, in place, and add a warning that counts those without.

    Args:
        records: Checked records.
        name: How messages call them.
        settings: What is merged.
        measured: Whether sequences whose label belongs to no class are left out; else they stay, without a label.
        strict: Whether to refuse a label that no sequence has, as in training data.

    Raises:
        DataError: A label in several classes, or with `strict` in no sequence; no sequence that is left.
    """
    if not settings.merge_labels:
        return
    classes: dict[str, str] = {}
    for name_of_class, members in settings.merge_labels.items():
        for label in map(str, members):
            if label in classes:
                raise DataError(f"data.merge_labels: {label!r} is there twice")
            classes[label] = name_of_class
    labels = labels_of(records)
    if labels is None:
        if strict and records.numbers is not None:
            raise DataError(f"data.merge_labels: {name} holds numbers to predict, no labels.")
        return
    kinds = labels.kinds if isinstance(labels, StepLabels) else labels
    met = {label for row in kinds for label in row}
    if strict and (strange := next((label for label in classes if label not in met), None)) is not None:
        raise DataError(f"data.merge_labels: {unknown('label', strange, sort_classes(met))} ({name})")
    merged = [tuple(dict.fromkeys(classes[label] for label in row if label in classes)) for row in kinds]
    known = np.array([bool(row) for row in merged])
    if isinstance(labels, StepLabels):
        codes = np.where((labels.codes >= 0) & known[labels.codes], labels.codes, -1)
        records.step_labels = StepLabels(merged, codes)
        left_out = int(((labels.codes >= 0) & (codes < 0)).sum())
        if left_out:
            records.warnings.append(
                f"{name}: at {left_out:,} of {len(codes):,} steps the label is in no class; nothing is asked there."
            )
        return
    records.labels = merged
    if known.all() or records.multi_label:
        return
    lost = sort_classes(met - set(classes))
    count = f"{(~known).sum():,} of {len(known):,} sequences"
    said = f"{name}: {count} have a label that is in no class ({_listed(lost, quote=True)})"
    if not measured:
        records.warnings.append(f"{said}.")
        return
    if not known.any():
        raise DataError(f"{said}; none is left.")
    select(records, np.flatnonzero(known))
    records.warnings.append(f"{said} and are left out.")


def select(records: Records, rows: np.ndarray) -> None:
    """Keep these sequences of records whose targets are labels of whole sequences, in place."""
    lengths, place = np.diff(records.offsets)[rows], records.place
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    records.values = records.values[np.repeat(records.offsets[rows] - offsets[:-1], lengths) + np.arange(offsets[-1])]
    records.offsets = offsets
    records.place = lambda index: place(int(rows[index]))
    records.labels = None if records.labels is None else [records.labels[i] for i in rows.tolist()]
    records.ids = None if records.ids is None else [records.ids[i] for i in rows.tolist()]
    records.phrases = None if records.phrases is None else records.phrases.select(rows)


def arrange(records: Records, name: str, settings: DataSettings, schema: Schema | None) -> list[int]:
    """Read each number by itself, and the steps in the order that `settings` draw, or `schema` has: in place.

    Returns:
        The permutation: which step of a sequence is read first, second, …; empty where they are read in order.

    Raises:
        DataError: Texts, targets at every step, or sequences of unequal length, with which this cannot be done.
    """
    if settings.pixels:
        _to_pixels(records, name)
    if settings.permute is None:
        return []
    if records.per_step:
        raise DataError(f"{name}: has a target at every step, so that data.permute would put them before their causes.")
    lengths = np.diff(records.offsets)
    steps = int(lengths[0]) if schema is None else len(schema.permutation)
    if (other := np.flatnonzero(lengths != steps)).size:
        index = int(other[0])
        expected = f"as many as {records.place(0)}: {steps}" if schema is None else f"the training data's {steps}"
        raise DataError(
            f"{records.place(index)}: has {lengths[index]} steps, expected {expected}, since data.permute puts the "
            "steps of all sequences in one order."
        )
    order = schema.permutation if schema else np.random.default_rng(settings.permute).permutation(steps).tolist()
    records.values = records.values.reshape(len(records), steps, *records.values.shape[1:])[:, order].reshape(
        records.values.shape
    )
    return order


def _to_pixels(records: Records, name: str) -> None:
    """Make each value of a step a step of one value, in place."""
    if records.symbols is not None:
        raise DataError(f"{name}: holds text; data.pixels reads the numbers of a step one by one.")
    if records.per_step:
        raise DataError(f"{name}: has a target at every step, of which data.pixels would make several.")
    width = records.values.shape[1]
    records.values = records.values.reshape(-1, 1)
    records.offsets = records.offsets * width
    records.features = ["value"]


def learn(
    records: Records,
    name: str,
    chosen: np.ndarray,
    task: str,
    format: str,
    settings: DataSettings,
    *,
    permutation: Sequence[int] = (),
    vocabulary: Sequence[str] | None = None,
    strict: bool = True,
) -> Schema:
    """What the training data settle: classes, vocabulary, names, and the options under which they were read.

    Args:
        records: Checked records.
        name: How messages call them.
        chosen: Indices of the sequences to train on; only these are looked at.
        task: "classify" or "regress".
        format: Name of the format they were read from.
        settings: How they were read.
        permutation: What `arrange` did with them.
        vocabulary: A vocabulary to keep, of a run that is started from.
        strict: Whether to refuse what cannot be learnt: no targets, one class alone, no vocabulary.

    Raises:
        DataError: With `strict`, no targets or one class alone; no symbol often enough for a vocabulary.
    """
    classes: list[str] = []
    labels = labels_of(records)
    if strict and (labels if task == "classify" else records.numbers) is None:
        what = "labels" if task == "classify" else "numbers to predict"
        raise DataError(f"{name}: has no {what}, which training needs.")
    if strict and settings.per_step not in (None, records.per_step):
        found = "step" if records.per_step else "sequence"
        raise DataError(
            f"{name}: has a target for each {found}, and data.per_step is {str(settings.per_step).lower()}."
        )
    if task == "classify" and labels is not None:
        classes = sort_classes(_met(labels, records, chosen))
        if strict and len(classes) < 2 and not (records.multi_label and classes):
            found = f"only the class {classes[0]!r}" if classes else "no class"
            raise DataError(f"{name}: {found} in the training data; expected at least two.")
        bare = next((i for i in chosen.tolist() if not _asked_at_all(labels, records, i)), None)
        if strict and bare is not None:
            raise DataError(f"{records.place(bare)}: has no label, which training needs.")
    symbols: list[str] = []
    if records.symbols is not None:
        symbols = list(vocabulary) if vocabulary else _vocabulary(records, name, chosen, settings, strict)
    kept = settings.model_dump(exclude={*OF_PARTS, "stratify"}, exclude_defaults=True)
    return Schema(
        task=cast(Literal["classify", "regress"], task),
        format=format,
        input="numbers" if records.symbols is None else "tokens",
        features=list(records.features),
        vocabulary=symbols,
        classes=classes,
        multi_label=records.multi_label,
        targets=list(records.targets),
        per_step=records.per_step,
        permutation=list(permutation),
        settings=kept | records.settings,
    )


def labels_of(records: Records) -> Sequence[tuple[str, ...]] | StepLabels | None:
    """The labels of records, a row a sequence or a step; None where they have none."""
    return records.labels if records.step_labels is None else records.step_labels


def _met(labels: Sequence[tuple[str, ...]] | StepLabels, records: Records, chosen: np.ndarray) -> set[str]:
    """Every label of the chosen sequences."""
    if isinstance(labels, StepLabels):
        wanted = np.zeros(len(records), bool)
        wanted[chosen] = True
        counts = replace(labels, codes=labels.codes[np.repeat(wanted, np.diff(records.offsets))]).counts()
        return {label for kind, count in zip(labels.kinds, counts, strict=True) if count for label in kind}
    return {label for i in chosen.tolist() for label in labels[i]}


def _asked_at_all(labels: Sequence[tuple[str, ...]] | StepLabels, records: Records, index: int) -> bool:
    """Whether a sequence has a label to be learnt; of several at once there may be none."""
    if isinstance(labels, StepLabels):
        return bool((labels.codes[records.offsets[index] : records.offsets[index + 1]] >= 0).any())
    return records.multi_label or bool(labels[index])


def settings_of(schema: Schema) -> DataSettings:
    """The settings under which the training data were read, for further data."""
    return stored(DataSettings, schema.settings)


def encode(records: Records, name: str, schema: Schema) -> tuple[Sequences, list[str]]:
    """Checked records as sequences under a schema, and what a person should know. The records are used up.

    A label that is not among the classes becomes -1 (with several labels: is left out), and is named in a warning.

    Raises:
        DataError: Another kind of input or number of features than the schema's.
    """
    warnings: list[str] = []
    if records.symbols is None:
        _check_features(records, name, schema)
        values = records.values
    else:
        values = _renumbered(records, name, schema)
    targets = asked = None
    labels = labels_of(records)
    if schema.task == "classify" and labels is not None:
        _check_per_step(records, name, schema)
        if isinstance(labels, StepLabels):
            targets, asked = _step_class_targets(records, name, labels, schema, warnings)
        else:
            targets = _class_targets(records, name, labels, schema, warnings)
    elif schema.task == "regress" and records.numbers is not None:
        _check_targets(records, name, records.numbers, schema)
        targets = torch.from_numpy(_own(records.numbers))
    sequences = Sequences(
        values=torch.from_numpy(_own(values)),
        offsets=torch.from_numpy(_own(np.asarray(records.offsets, np.int64))),
        targets=targets,
        per_step=schema.per_step and targets is not None,
        asked=asked,
        ids=records.ids,
    )
    return sequences, records.warnings + warnings


def sort_classes(labels: Iterable[str]) -> list[str]:
    """Labels in order: by value where all are numbers, else as text."""
    labels = list(labels)
    if all(is_number(label) for label in labels):
        return sorted(labels, key=lambda label: (float(label), label))
    return sorted(labels)


def _single(values: np.ndarray) -> np.ndarray:
    """In single precision; what is too large for it becomes infinite, to be refused."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)


def _own(values: np.ndarray) -> np.ndarray:
    """An array that PyTorch may share: writable and in one piece."""
    return np.require(values, requirements=["C", "W"])


def _check_finite(records: Records, values: np.ndarray, names: Sequence[str], *, steps: bool) -> None:
    if values.dtype.kind != "f":
        return
    for start in range(0, len(values), _PIECE):
        piece = values[start : start + _PIECE]
        finite = np.isfinite(piece)
        if not finite.all():
            row, column = (int(index[0]) for index in np.nonzero(~finite))
            value = piece[row, column]
            row += start
            sequence = int(np.searchsorted(records.offsets, row, "right")) - 1 if steps else row
            where = f"step {row - int(records.offsets[sequence]) + 1}" if steps else "the number to predict"
            of = f" of {names[column]}" if len(names) > 1 else ""
            found = "NaN (missing)" if np.isnan(value) else "infinite, or too large for float32"
            raise DataError(f"{records.place(sequence)}: {where}{of} is {found}; expected a finite number.")


def _vocabulary(records: Records, name: str, chosen: np.ndarray, settings: DataSettings, strict: bool) -> list[str]:
    """Padding, the unknown symbol, then symbols by falling count; equal counts in the symbols' own order."""
    symbols = cast(list[str], records.symbols)
    tokens = records.values
    if len(chosen) < len(records):
        wanted = np.zeros(len(records), bool)
        wanted[chosen] = True
        tokens = tokens[np.repeat(wanted, np.diff(records.offsets))]
    counts = np.bincount(tokens, minlength=len(symbols)).tolist()
    frequent = [i for i, count in enumerate(counts) if count >= settings.min_count and symbols[i] not in SPECIAL]
    if strict and not frequent:
        raise DataError(
            f"{name}: no symbol is met {settings.min_count} times, of {len(symbols)} "
            "different ones; lower the bound: --set data.min_count=1."
        )
    frequent.sort(key=lambda i: (-counts[i], symbols[i]))
    return [*SPECIAL, *(symbols[i] for i in frequent[: settings.max_vocabulary - len(SPECIAL)])]


def _renumbered(records: Records, name: str, schema: Schema) -> np.ndarray:
    """The tokens as indices into the vocabulary, changed in place where the array may be written."""
    if schema.input != "tokens":
        raise DataError(f"{name}: holds text, but the network reads numbers ({_listed(schema.features)}).")
    position = {symbol: index for index, symbol in enumerate(schema.vocabulary)}
    table = np.array([position.get(symbol, UNKNOWN) for symbol in cast(list[str], records.symbols)], np.int32)
    values = _own(records.values)
    for start in range(0, len(values), _PIECE):  # piece by piece: an index array is held as int64 meanwhile
        piece = values[start : start + _PIECE]
        piece[:] = table[piece]
    return values


def _check_features(records: Records, name: str, schema: Schema) -> None:
    if schema.input != "numbers":
        raise DataError(f"{name}: holds numbers, but the network reads text.")
    found, expected = records.values.shape[1], len(schema.features)
    if found != expected:
        raise DataError(
            f"{name}: holds {found} {'value' if found == 1 else 'values'} a step ({_listed(records.features)}), "
            f"expected {expected} ({_listed(schema.features)})."
        )


def _check_targets(records: Records, name: str, numbers: np.ndarray, schema: Schema) -> None:
    if numbers.shape[1] != len(schema.targets):
        raise DataError(
            f"{name}: holds {numbers.shape[1]} numbers to predict ({_listed(records.targets)}), expected "
            f"{len(schema.targets)} ({_listed(schema.targets)})."
        )
    _check_per_step(records, name, schema)


def _check_per_step(records: Records, name: str, schema: Schema) -> None:
    if records.per_step != schema.per_step:
        found, expected = ("step", "sequence") if records.per_step else ("sequence", "step")
        raise DataError(f"{name}: holds targets for each {found}, expected for each {expected}.")


def _class_targets(
    records: Records, name: str, labels: Sequence[tuple[str, ...]], schema: Schema, warnings: list[str]
) -> torch.Tensor:
    """The labels of each sequence, (N,) class indices or (N, C) bool."""
    _tell_strange(labels, np.ones(len(labels), np.int64), f"{name}: {{}} of {len(labels)} sequences", schema, warnings)
    _check_single(labels, records.place, schema)
    return _targets(labels, schema)


def _step_class_targets(
    records: Records, name: str, labels: StepLabels, schema: Schema, warnings: list[str]
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The labels of each step, (S,) class indices or (S, C) bool, and which of them are asked for."""
    _tell_strange(labels.kinds, labels.counts(), f"{name}: {{}} of {len(labels.codes)} steps", schema, warnings)
    _check_single(labels.kinds, lambda kind: _place_of_step(records, int((labels.codes == kind).argmax())), schema)
    asked = labels.codes >= 0
    targets = _targets(labels.kinds, schema)[torch.from_numpy(np.where(asked, labels.codes, 0))]
    return targets, None if asked.all() else torch.from_numpy(asked)


def _place_of_step(records: Records, step: int) -> str:
    sequence = int(np.searchsorted(records.offsets, step, "right")) - 1
    return f"{records.place(sequence)}: step {step - int(records.offsets[sequence]) + 1}"


def _tell_strange(
    labels: Sequence[tuple[str, ...]], counts: np.ndarray, of: str, schema: Schema, warnings: list[str]
) -> None:
    """Warn of labels that the training data do not have; row i stands for `counts[i]` of what `of` names."""
    known = set(schema.classes)
    rows = [i for i, row in enumerate(labels) if counts[i] and not known.issuperset(row)]
    if rows:
        strange = {label for i in rows for label in labels[i]} - known
        fate = "it is left out" if schema.multi_label else "they count as wrong"
        warnings.append(
            f"{of.format(int(counts[rows].sum()))} have a label that training data do not "
            f"have ({_listed(sort_classes(strange), quote=True)}); {fate}."
        )


def _check_single(labels: Sequence[tuple[str, ...]], place: Callable[[int], str], schema: Schema) -> None:
    """Hold rows against what one label each allows."""
    several = next((i for i, row in enumerate(labels) if len(row) > 1), None)
    if several is not None and not schema.multi_label:
        raise DataError(f"{place(several)}: has {len(labels[several])} labels, expected one.")


def _targets(labels: Sequence[tuple[str, ...]], schema: Schema) -> torch.Tensor:
    """Class indices, (M,), -1 for a label that is not among the classes; or (M, C) bool, several at once."""
    position = {label: index for index, label in enumerate(schema.classes)}
    if schema.multi_label:
        targets = torch.zeros(len(labels), len(position), dtype=torch.bool)
        for index, row in enumerate(labels):
            targets[index, [position[label] for label in row if label in position]] = True
        return targets
    return torch.tensor([position.get(row[0], -1) if row else -1 for row in labels], dtype=torch.int64)


def _listed(names: Sequence[str], *, quote: bool = False, most: int = 5) -> str:
    shown = [repr(name) if quote else name for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
