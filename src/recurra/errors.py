"""Errors that a person can mend: one or two lines that say what was found, what is expected, and where.

The command line prints them without a traceback and ends with status 2; Python callers catch `RecurraError`.
"""

import difflib
from collections.abc import Iterable


class RecurraError(Exception):
    """Base of every error a user can mend: its text says where it is, what was found and what is expected."""


class DataError(RecurraError):
    """A file, table or array that cannot be read as sequences."""


class RecipeError(RecurraError, ValueError):
    """A setting that does not exist or cannot have this value."""


class RunError(RecurraError):
    """A run folder that exists already, is not one, or is damaged."""


class CellError(RecurraError, ValueError):
    """A cell whose declaration and body disagree, or that does not exist."""


class MissingExtraError(RecurraError, ImportError):
    """An optional part that is not installed; the text says the command that installs it."""


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """The valid name most like `name`, or one that begins as it does; None where nothing is near.

    >>> nearest("LTSM", ["GRU", "LSTM"]), nearest("max-pooling", ["mean", "max"]), nearest("x", ["idx"])
    ('LSTM', 'max', None)
    """
    name, names = name.lower(), {v.lower(): v for v in valid}
    if found := difflib.get_close_matches(name, names, n=1, cutoff=0.6):
        return names[found[0]]
    begun = (v for v in names if min(len(v), len(name)) > 1 and (v.startswith(name) or name.startswith(v)))
    return names.get(next(begun, ""))


def unknown(kind: str, name: str, valid: Iterable[str], meant: str | None = None) -> str:
    """The text for a name that is not among the valid ones; the nearest is offered, unless it is said what is `meant`.

    >>> unknown("cell", "lsmt", ["gru", "lstm"])
    "unknown cell 'lsmt'; did you mean 'lstm'? Known: gru, lstm"
    """
    names = sorted(valid)
    if not names:
        return f"unknown {kind} {name!r}; there is none"
    guess = meant or nearest(name, names)
    hint = f"; did you mean {guess!r}?" if guess else "."
    return f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}"
