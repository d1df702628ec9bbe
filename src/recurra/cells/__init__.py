"""The catalogue: every cell by name, each its equations (`recurra.cells.lstm`, `recurra.cells.CATALOGUE["lstm"]`)."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from recurra.cells import gru as _gru
from recurra.cells import lstm as _lstm
from recurra.cells import simple as _simple
from recurra.cells.form import Cell, Use, cell
from recurra.errors import CellError, unknown

FAMILIES: tuple[ModuleType, ...] = (_simple, _lstm, _gru)
"""One module a family of cells; a new family is added here, a new cell needs no entry anywhere."""

CATALOGUE: dict[str, Cell] = {
    name: value for family in FAMILIES for name, value in vars(family).items() if isinstance(value, Cell)
}
"""Every cell of the package by name."""

globals().update(CATALOGUE)


def find(name: str) -> Cell | Callable[..., object]:
    """The cell of that name; `file.py:name` or `package.module:name` brings one of your own.

    Raises:
        CellError: There is none of that name, or the file holds none.
    """
    if ":" not in name:
        if name not in CATALOGUE:
            raise CellError(unknown("cell", name, CATALOGUE) + "; one of your own is named as file.py:name")
        return CATALOGUE[name]
    where, _, attribute = name.rpartition(":")
    module = _module(where)
    found = getattr(module, attribute, None)
    if not callable(found):
        cells = [key for key, value in vars(module).items() if isinstance(value, Cell)]
        raise CellError(unknown(f"cell in {where}", attribute, cells))
    return found


def _module(where: str) -> ModuleType:
    path = Path(where)
    try:
        if path.suffix != ".py":
            return importlib.import_module(where)
        if not path.is_file():
            raise CellError(f"cell {where!r}: there is no such file")
        sys.path.insert(0, str(path.parent.resolve()))
        try:
            return importlib.import_module(path.stem)
        finally:
            sys.path.pop(0)
    except ModuleNotFoundError as error:
        raise CellError(f"cell {where!r}: {error}") from error


__all__ = ["CATALOGUE", "FAMILIES", "Cell", "Use", "cell", "find", *CATALOGUE]
