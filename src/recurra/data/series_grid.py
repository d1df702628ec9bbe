"""Rows of tables laid on equal steps of time, as `Series`: put in order, gaps filled in as missing, and told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recurra.data.series import Series
from recurra.data.series_table import Rows
from recurra.data.times import Frequency, found_frequency, written
from recurra.errors import DataError

MOST_FILLED = 1.0
"""Steps filled in for each row that is there: beyond it the rows do not stand at equal steps."""


@dataclass(frozen=True)
class Axis:
    """The steps of time at which series stand.

    Attributes:
        frequency: The steps.
        dated: Whether times are dates.
        first: Of numbers, that which is step 0.
        step: And what a step adds.
    """

    frequency: Frequency
    dated: bool
    first: float = 0.0
    step: float = 1.0

    def written(self, times: np.ndarray) -> list[str]:
        """Times as a file has them."""
        return written(np.asarray(times, np.int64), self.frequency, self.dated, self.first, self.step)


def axis_of(rows: Rows, wanted: Frequency | None) -> Axis:
    """The steps of a table's times; those that settings name where they do.

    Raises:
        DataError: Numbers that are to stand at steps of the calendar.
    """
    if rows.times is not None and not rows.dated and wanted is not None and wanted.unit == "rows":
        return Axis(Frequency("rows", 1), False)
    if rows.times is None:
        if wanted is not None and wanted.unit not in ("rows", "step"):
            raise DataError(
                f"data.frequency: {rows.name} has no dates, so its steps cannot be {wanted.text}; data.time names the "
                "column of times"
            )
        return Axis(Frequency("step", 1), False)
    each = [np.unique(rows.times[rows.code == code]) for code in range(len(rows.ids))]
    if rows.dated:
        found = found_frequency(each, True)
        if wanted is not None and wanted.unit == "rows":
            return Axis(Frequency("rows", 1, base=wanted.base or found), True)
        return Axis(found if wanted is None else wanted, True)
    if wanted is not None and wanted.unit != "step":
        raise DataError(
            f"data.frequency: the times of {rows.name} are numbers, so their steps cannot be {wanted.text}; only rows"
        )
    steps = np.concatenate([np.diff(one) for one in each])
    first = float(min(one[0] for one in each if len(one)))
    if not len(steps):
        return Axis(Frequency("step", 1), False, first, 1.0)
    rounded = np.array([float(f"{step:.9g}") for step in np.unique(steps)])  # 0.3 - 0.2 is not quite 0.1
    counts = [(np.abs(steps - step) <= 1e-6 * step).sum() for step in rounded]
    return Axis(Frequency("step", 1), False, first, float(rounded[int(np.argmax(counts))]))


@dataclass
class Laid:
    """Series on equal steps, and which rows of each come from which part.

    Attributes:
        series: The series, with the covariates of their tables alone, and nothing that is static.
        parts: Part -> (N, 2) int64, the rows of each series that the part's own file gave; equal where it gave none.
        warnings: What a person should know.
    """

    series: Series
    parts: dict[str, np.ndarray]
    warnings: list[str]


def lay(tables: Mapping[str, Rows], axis: Axis, *, ahead: int = 0, strict: bool = False) -> Laid:
    """Put the rows of tables that follow one another on equal steps.

    Args:
        tables: Part -> its rows, in the order of time.
        axis: The steps.
        ahead: Rows that each series has at least behind its last target; filled in where the table has them not.
        strict: Whether a missing value is refused.

    Raises:
        DataError: A time given twice, or off the steps; a part that begins before the one before it ends.
    """
    warnings: list[str] = []
    ids: dict[str, int] = {}
    for rows in tables.values():
        for name in rows.ids:
            ids.setdefault(name, len(ids))
    pieces: list[list[_Piece]] = [[] for _ in ids]
    for part, rows in tables.items():
        _check_order(rows, warnings)
        steps = _steps(rows, axis)
        for code, name in enumerate(rows.ids):
            mine = np.flatnonzero(rows.code == code)
            if rows.times is not None:
                mine = mine[np.argsort(rows.times[mine], kind="stable")]
                _check_twice(rows, mine, axis)
            pieces[ids[name]].append(_Piece(part, rows, mine, None if steps is None else steps[mine]))
    _check_steps(tables, pieces, axis)
    built = [_join(name, pieces[i], axis, ahead, strict) for name, i in ids.items()]
    kept = [one for one in built if one is not None]
    empty = [name for name, one in zip(ids, built, strict=True) if one is None]
    where = next(iter(tables.values())).name
    if not kept:
        raise DataError(f"{where}: holds no number to forecast; every row of its targets is empty.")
    if empty:
        warnings.append(f"{where}: {len(empty)} series without any number left out, the first {empty[0]!r}")
    _tell_gaps(kept, axis, where, warnings)
    lengths = [len(one.times) for one in kept]
    series = Series(
        targets=np.concatenate([one.targets for one in kept]),
        past=np.concatenate([one.past for one in kept]),
        known=np.concatenate([one.known for one in kept]),
        static=np.zeros((len(kept), 0)),
        times=np.concatenate([one.times for one in kept]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ends=np.array([one.end for one in kept], np.int64),
        ids=[one.name for one in kept],
        lines=np.concatenate([one.lines for one in kept]),
    )
    parts = {part: np.array([one.parts.get(part, (0, 0)) for one in kept], np.int64).reshape(-1, 2) for part in tables}
    return Laid(series, parts, warnings)


@dataclass
class _Piece:
    """The rows that one table has of one series, in the order of time."""

    part: str
    rows: Rows
    mine: np.ndarray
    steps: np.ndarray | None  # the times of all rows as int64, as in `Series.times`


@dataclass
class _One:
    """One series on equal steps."""

    name: str
    times: np.ndarray
    targets: np.ndarray
    past: np.ndarray
    known: np.ndarray
    lines: np.ndarray
    end: int
    parts: dict[str, tuple[int, int]]
    filled: np.ndarray  # times of the steps that no row gave


def _check_order(rows: Rows, warnings: list[str]) -> None:
    """Say how many rows are out of order, and which is the first."""
    if rows.times is None:
        return
    order = np.argsort(rows.code, kind="stable")
    times, code = rows.times[order], rows.code[order]
    wrong = order[1:][(np.diff(times) < 0) & (np.diff(code) == 0)]
    if len(wrong):
        lines = np.unique(rows.lines[wrong])
        many = "1 row is" if len(lines) == 1 else f"{len(lines):,} rows are"
        warnings.append(
            f"{rows.name}: {many} earlier than the row before, the first in {rows.unit} {int(lines[0])}; rows are put "
            "in the order of time"
        )


def _check_twice(rows: Rows, mine: np.ndarray, axis: Axis) -> None:
    assert rows.times is not None
    times = rows.times[mine]
    same = np.flatnonzero(np.diff(times) == 0)
    if not len(same):
        return
    one, other = sorted(rows.lines[mine[same[0] : same[0] + 2]].tolist())
    of = f" of series {rows.ids[int(rows.code[mine[0]])]!r}" if len(rows.ids) > 1 else ""
    shown = axis.written(times[same[:1]])[0] if rows.dated else f"{times[same[0]]:g}"
    many = "1 time is" if len(same) == 1 else f"{len(same):,} times are"
    hint = ""
    if rows.beside:
        hint = f" (read from {rows.time!r} alone; where {rows.beside[0]!r} is a part of it, put both into one column)"
    if len(rows.ids) == 1:
        hint += "; where the rows are of several series, data.id names the column that tells"
    raise DataError(
        f"{rows.name}: {many} given twice{of}, the first, {shown}, in the {rows.unit}s {one} and {other}; expected "
        f"each time once{hint}."
    )


def _steps(rows: Rows, axis: Axis) -> np.ndarray | None:
    """Times as in `Series.times`; numbers that are on no step are told of by `_check_steps`."""
    if rows.times is None or (not axis.dated and axis.frequency.unit == "rows"):
        return None
    if axis.dated:
        if not rows.dated:
            raise DataError(f"{rows.name}: its times are numbers; the training data had dates.")
        return rows.times
    if rows.dated:
        raise DataError(f"{rows.name}: its times are dates; the training data had numbers.")
    steps = np.round((rows.times - axis.first) / axis.step)
    return np.clip(steps, -(2.0**53), 2.0**53).astype(np.int64)  # one that is farther off is off the steps, too


def _check_steps(tables: Mapping[str, Rows], pieces: list[list[_Piece]], axis: Axis) -> None:
    """Hold the times of every table against the steps.

    Raises:
        DataError: Some are on none; how many, and the first.
    """
    frequency = axis.frequency
    if frequency.unit == "rows":
        return
    for rows in tables.values():
        if rows.times is None:
            continue
        wrong: list[np.ndarray] = []
        missing = 0
        for some in pieces:
            for piece in some:
                if piece.rows is not rows or piece.steps is None or not len(piece.steps):
                    continue
                if axis.dated:
                    places, on = _best_places(piece.steps, frequency)
                else:
                    places = piece.steps
                    exact = (rows.times[piece.mine] - axis.first) / axis.step
                    on = np.abs(exact - places) < 1e-3
                    on &= np.diff(places, prepend=places[0] - 1) > 0
                wrong.append(piece.mine[~on])
                missing += int(places[-1] - places[0]) + 1 - len(places)
        off = np.sort(np.concatenate(wrong)) if wrong else np.empty(0, np.int64)
        total = len(rows.lines)
        if len(off):
            first = int(off[rows.lines[off].argmin()])
            shown = written(rows.times[[first]], frequency, True)[0] if rows.dated else f"{rows.times[first]:g}"
            many, total = len(np.unique(rows.lines[off])), len(np.unique(rows.lines))
            raise DataError(
                f"{rows.name}: {many:,} of {total:,} times do not stand at the equal steps of the others "
                f"({_step_words(axis)}), the first, {shown}, in {rows.unit} {int(rows.lines[first])}; bring them to "
                "equal steps, or count rows as steps: --set data.frequency=rows."
            )
        if missing > MOST_FILLED * total:
            raise DataError(
                f"{rows.name}: at equal steps ({_step_words(axis)}) {missing:,} rows are missing between {total:,}; "
                "name other steps (--set data.frequency=1d), or count rows as steps: --set data.frequency=rows."
            )


def _best_places(times: np.ndarray, frequency: Frequency) -> tuple[np.ndarray, np.ndarray]:
    """As `Frequency.places`; where most times are off the steps of the first, it is the first that is off."""
    places, on = frequency.places(times)
    if on.mean() < 0.5 and len(times) > 2:
        others, rest = frequency.places(times[1:])
        if rest.mean() > 0.5:
            return np.concatenate([[others[0] - 1], others]), np.concatenate([[False], rest])
    return places, on


def _step_words(axis: Axis) -> str:
    return axis.frequency.words if axis.dated else f"{axis.step:g} apart"


def _join(name: str, pieces: list[_Piece], axis: Axis, ahead: int, strict: bool) -> _One | None:
    """The rows that all tables have of a series, on equal steps; None where none has a target."""
    pieces = [piece for piece in pieces if len(piece.mine)]
    if not any(np.isfinite(piece.rows.targets[piece.mine]).any() for piece in pieces):
        return None
    times: list[np.ndarray] = []
    behind: int | None = None
    for piece in pieces:
        steps = np.arange(len(piece.mine)) if piece.steps is None else piece.steps
        if piece.steps is None:
            steps = steps + (0 if behind is None else behind + 1)
        elif behind is not None and steps[0] <= behind:
            shown = axis.written(np.array([steps[0], behind]))
            raise DataError(
                f"{piece.rows.place(int(piece.mine[0]))}: the {piece.part} part begins at {shown[0]}, where the part "
                f"before it goes on to {shown[1]}; expected it to follow."
            )
        behind = int(steps[-1])
        times.append(steps)
    joined = np.concatenate(times)
    if axis.frequency.unit == "rows" or not axis.dated:
        places = np.arange(len(joined)) if axis.frequency.unit == "rows" else joined - joined[0]
    else:
        places = axis.frequency.places(joined)[0]
    targets = np.concatenate([piece.rows.targets[piece.mine] for piece in pieces])
    some = np.flatnonzero(np.isfinite(targets).any(1))
    start, last = int(places[some[0]]), int(places[some[-1]])
    end = last - start + 1
    has_known = pieces[0].rows.known.shape[1] > 0
    T = max(int(places[-1]) - start + 1 if has_known else end, end + ahead)
    within = (places >= start) & (places < start + T)
    at = places[within] - start

    def spread(get: str) -> np.ndarray:
        values = np.concatenate([getattr(piece.rows, get)[piece.mine] for piece in pieces])[within]
        whole = np.full((T, *values.shape[1:]), np.nan if values.dtype.kind == "f" else 0, values.dtype)
        whole[at] = values
        return whole

    if axis.frequency.unit == "rows":
        grid = np.empty(T, np.int64)
        grid[at] = joined[within]
        if len(at) < T:
            grid[len(at) :] = axis.frequency.ahead(joined[within][-1], np.arange(1, T - len(at) + 1))
    elif axis.dated:
        grid = axis.frequency.ahead(joined[0], start + np.arange(T))
    else:
        grid = joined[0] + start + np.arange(T)
    gone = np.ones(T, bool)
    gone[at] = False
    parts: dict[str, tuple[int, int]] = {}
    first = 0
    for piece, some_times in zip(pieces, times, strict=True):
        own = places[first : first + len(some_times)] - start
        first += len(some_times)
        parts[piece.part] = (max(0, int(own[0])), min(end, int(own[-1]) + 1))
    one = _One(
        name,
        grid,
        spread("targets"),
        spread("past"),
        spread("known"),
        spread("lines"),
        end,
        parts,
        grid[:end][gone[:end]],
    )
    if strict:
        _refuse_missing(one, pieces[0].rows, axis)
    return one


def _refuse_missing(one: _One, rows: Rows, axis: Axis) -> None:
    wrong = np.flatnonzero(~np.isfinite(one.targets[: one.end]).all(1) | ~np.isfinite(one.past[: one.end]).all(1))
    if len(wrong):
        at, line = axis.written(one.times[wrong[:1]])[0], int(one.lines[wrong[0]])
        where = f"{rows.name}, {rows.unit} {line}" if line else rows.name
        of = f" of series {one.name!r}" if one.name else ""
        raise DataError(
            f"{where}: a number is missing at {at}{of} ({len(wrong):,} such steps), and data.missing is 'error'; fill "
            "it in, or take 'mask', 'interpolate' or 'forward'."
        )


def _tell_gaps(kept: Sequence[_One], axis: Axis, where: str, warnings: list[str]) -> None:
    filled = sum(len(one.filled) for one in kept)
    if not filled:
        return
    first = next(one for one in kept if len(one.filled))
    of = f" of series {first.name!r}" if len(kept) > 1 else ""
    steps = sum(one.end for one in kept)
    many = "1 step" if filled == 1 else f"{filled:,} steps"
    warnings.append(
        f"{where}: {many} of {steps:,} {'has' if filled == 1 else 'have'} no row ({_step_words(axis)}), the first "
        f"{axis.written(first.filled[:1])[0]}{of}; taken as missing"
    )
