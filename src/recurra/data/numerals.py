"""Numbers as people write them in text files."""

import re
from collections.abc import Callable, Sequence

import numpy as np

from recurra.errors import DataError

_NUMBER = re.compile(r"\s*([-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|[-+]?(nan|inf|infinity))\s*", re.IGNORECASE | re.ASCII)


def is_number(field: str) -> bool:
    """Whether a field is a decimal number, NaN or an infinity. `1_000` is none: only Python reads it so."""
    return _NUMBER.fullmatch(field) is not None


def numbers(fields: Sequence[str], place: Callable[[int], str]) -> np.ndarray:
    """The numbers in `fields`, float64; `place(i)` says where field i stands.

    Raises:
        DataError: A field that is no number, named by its place.
    """
    try:
        row = np.array([float(field) for field in fields], np.float64)
    except ValueError:
        pass
    else:
        if not any("_" in field for field in fields):
            return row
    index = next(i for i, field in enumerate(fields) if not is_number(field))
    raise DataError(f"{place(index)} is {quoted(fields[index])}; expected a number.")


def quoted(field: str) -> str:
    """A field as messages show it: in quotes, shortened, or said to be empty or missing."""
    field = field.strip()
    if field in ("", "?"):
        return "empty" if not field else "missing ('?')"
    return repr(field if len(field) <= 40 else field[:37] + "...")


def shortest(label: str) -> str:
    """A label as it is, but a whole number in its shortest form: `1.0000000e+00` is `1`."""
    if is_number(label) and float(label).is_integer() and abs(float(label)) < 2**53:
        return str(int(float(label)))
    return label
