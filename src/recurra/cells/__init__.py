"""The catalogue: every cell by name, each its equations (`recurra.cells.lstm`, `recurra.cells.CATALOGUE["lstm"]`)."""

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from recurra.cells import gru as _gru
from recurra.cells import linear as _linear
from recurra.cells import lstm as _lstm
from recurra.cells import simple as _simple
from recurra.cells.check import FAULTS_OF_CODE
from recurra.cells.form import Cell, Use, cell
from recurra.errors import CellError, unknown

FAMILIES: tuple[ModuleType, ...] = (_simple, _lstm, _gru, _linear)
"""One module a family of cells; a new family is added here, a new cell needs no entry anywhere."""

CATALOGUE: dict[str, Cell] = {
    name: value for family in FAMILIES for name, value in vars(family).items() if isinstance(value, Cell)
}
"""Every cell of the package by name."""

__all__ = ["CATALOGUE", "FAMILIES", "Cell", "Use", "catalogue_table", "cell", "find"]

globals().update(CATALOGUE)  # over the modules of the same names: `recurra.cells.lstm` is the cell


def __getattr__(name: str) -> Cell:
    raise AttributeError(unknown("cell", name, CATALOGUE))


def find(name: str) -> Cell | Callable[..., Any]:
    """The cell of that name; `file.py:name` or `package.module:name` brings one of your own.

    Raises:
        CellError: There is none of that name, or the file cannot be run or holds none.
    """
    where, colon, attribute = name.rpartition(":")
    if not colon:
        if name not in CATALOGUE:
            own = f"{name}:NAME" if name.endswith(".py") else "file.py:NAME"
            raise CellError(f"{unknown('cell', name, CATALOGUE)}; one of your own is named as {own}")
        return CATALOGUE[name]
    module = _module(where)
    found = getattr(module, attribute, None)
    if found is None:
        functions = {k: v for k, v in vars(module).items() if isinstance(v, FunctionType)}
        own = [k for k, v in vars(module).items() if isinstance(v, Cell)]
        own += [k for k, v in functions.items() if v.__module__ == module.__name__]  # not what it imports
        raise CellError(unknown(f"cell in {where}", attribute, own))
    if isinstance(found, type) or not callable(found):
        raise CellError(
            f"{attribute!r} in {where}: a cell or a function (x, state) is expected, not {type(found).__name__}"
        )
    return found


def _module(where: str) -> ModuleType:
    """The module of that name, or what a Python file of that path holds."""
    path = Path(where)
    if path.suffix == ".py" and not path.is_file():
        raise CellError(f"{where}: there is no such file")
    try:
        return _run_file(path) if path.suffix == ".py" else importlib.import_module(where)
    except SyntaxError as error:
        raise CellError(f"{error.filename}, line {error.lineno}: {error.msg}") from error
    except (ImportError, OSError, *FAULTS_OF_CODE) as error:
        if isinstance(error, CellError):
            raise
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == str(path.resolve())]
        place = f"{where}, line {lines[-1]}" if lines else where
        raise CellError(f"{place}: {type(error).__name__}: {error}") from error


def _run_file(path: Path) -> ModuleType:
    """Run a Python file once, under its whole path as the module's name, so that no other module is mistaken for it."""
    name = str(path.resolve())
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent.resolve()))  # so that it can import what stands beside it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        sys.path.pop(0)
    return module


def catalogue_table(links: bool = True) -> str:
    """The catalogue as a Markdown table: name, what it is, state, net inputs, file.

    Args:
        links: Make the file a link, as seen from the top of the checkout.
    """
    lines = ["| cell | what it is | state | net inputs | file |", "|---|---|---|---|---|"]
    for family in FAMILIES:
        file = f"src/recurra/cells/{family.__name__.rpartition('.')[2]}.py"
        for name, one in CATALOGUE.items():
            if vars(family).get(name) is one:
                what = (one.__doc__ or "").partition("\n")[0].rstrip(".")
                state = ", ".join(f.name for f in one.fields)
                inputs = ", ".join((*one.gates, *one.inputs))
                place = f"[{file}]({file})" if links else f"`{file}`"
                lines.append(f"| `{name}` | {what} | {state} | {inputs} | {place} |")
    return "\n".join(lines) + "\n"
