"""The page of equations: every row of docs/equations.toml and every cell of the catalogue, read from the code.

A hook of mkdocs. A page asks for a part by a line of its own, `<!-- equations: rows -->`, or `overview` or `cells`. A
cell's formula, variant, departures and shapes are those of its docstring; nothing of them is written twice. The files
that the page links to become pages of their own, with numbered lines.
"""

import ast
import functools
import inspect
import re
import textwrap
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from formulas import block, mathml
from mkdocs.structure.files import File, InclusionLevel

from recurra.cells import CATALOGUE, FAMILIES, Cell
from recurra.nn import Recurrent

CHECKOUT = Path(__file__).parents[1]
MARKER = re.compile(r"^<!-- equations: (\w+) -->$", re.MULTILINE)
SYMBOL = re.compile(r"(?<![`\w])([A-Za-z]+'?_(?:\w+|\(t-1\)))(?![`\w])")
"""A symbol in running text, which is set as code."""

OF_EVERY_CELL = (
    "tests/reference/test_cells_against_numpy.py::test_outputs_final_state_and_gradients",
    "tests/testing/test_catalogue_conformance.py::test_conforms",
)
"""The tests that every cell has: against a reference written from the paper, and against itself in every other way."""

SECTIONS = {
    "A": "Memory without a loop",
    "B": "Simple recurrent networks",
    "C": "Ways to use one",
    "D": "Learning",
    "E": "Gated cells",
    "F": "Deep and in two directions",
    "G": "Beyond the chain: trees and graphs",
    "H": "Clocks, grids, shortcuts, linear recurrences and memories",
}

RUNS = {
    "scan": "in the compiled core, or all steps in parallel, by a scan",
    "native": "one step after another, in the compiled core",
    "eager": "one step after another",
}
"""What is said of each way of running a cell."""


@dataclass(frozen=True)
class Row:
    """One row of docs/equations.toml; the fields are explained there."""

    key: str
    what: str
    equations: str = ""
    cells: tuple[str, ...] = ()
    formula: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    note: str = ""
    planned: str = ""


@dataclass(frozen=True)
class Text:
    """The parts of a cell's docstring."""

    title: str
    prose: str
    formula: tuple[str, ...]
    shapes: str


@functools.cache
def rows() -> dict[str, Row]:
    """Every row by its identifier, in the order of the file."""
    read = tomllib.loads((CHECKOUT / "docs" / "equations.toml").read_text("utf-8"))
    return {key: _row_of(key, row) for key, row in read.items()}


def _row_of(key: str, row: dict[str, Any]) -> Row:
    known = {field.name for field in fields(Row)} - {"key"}
    if unknown := row.keys() - known:
        raise ValueError(f"docs/equations.toml, {key}: {', '.join(unknown)} is none of {', '.join(sorted(known))}")
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
    return Row(key, **values)


def text_of(cell: Cell) -> Text:
    """A cell's docstring, taken apart: first line, paragraphs, formula, shapes."""
    found = re.fullmatch(
        r"(?P<title>.*?)\n(?P<prose>.*?)\nFormula:\n(?P<formula>(?: .*\n)+)\nShapes: (?P<shapes>.*)",
        inspect.cleandoc(cell.__doc__ or ""),
        re.DOTALL,
    )
    if found is None:
        raise ValueError(f"cell {cell.name!r}: its docstring has no first line, formula and shapes in this order")
    lines = textwrap.dedent(found["formula"]).strip().splitlines()
    return Text(found["title"], found["prose"].strip(), tuple(lines), " ".join(found["shapes"].split()))


@functools.cache
def _definitions(file: str) -> dict[str, int]:
    """The line of each function, class and plain assignment at the top of a file."""
    lines = {}
    for node in ast.parse((CHECKOUT / file).read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            lines[node.name] = node.lineno
        elif isinstance(node, ast.Assign):
            lines |= {target.id: node.lineno for target in node.targets if isinstance(target, ast.Name)}
    return lines


def place(name: str) -> tuple[str, int]:
    """File and line of a "file::name".

    Raises:
        ValueError: The file does not define it.
    """
    file, _, defined = name.partition("::")
    if not (CHECKOUT / file).is_file() or defined not in _definitions(file):
        raise ValueError(f"docs/equations.toml: {name} is not there")
    return file, _definitions(file)[defined]


def source_of(cell: Cell) -> str:
    """The "file::name" of a cell of the catalogue."""
    (family,) = (family for family in FAMILIES if vars(family).get(cell.name) is cell)
    return f"src/{family.__name__.replace('.', '/')}.py::{cell.name}"


def tests_of(row: Row) -> tuple[str, ...]:
    """Every test that shows that a row holds."""
    return (*(OF_EVERY_CELL if row.cells else ()), *row.tests)


def parameters(cell: Cell) -> str:
    """How many parameters one layer has, as a sum of products of H and I; options have their defaults."""

    def count(inputs: int, hidden: int) -> int:
        return sum(functools.reduce(int.__mul__, shape) for shape in cell.shapes(inputs, hidden).values())

    H = 16
    with_input = (count(2, H) - count(1, H)) // H
    squared = ((count(1, 2 * H) - with_input * 2 * H) // 2 - (count(1, H) - with_input * H)) // (H * H)
    plain = count(1, H) // H - with_input - squared * H
    if count(3, 5 * H) != 5 * H * (3 * with_input + 5 * H * squared + plain):
        raise ValueError(f"cell {cell.name!r}: its number of parameters is not a sum of H I, H² and H")
    terms = {"H I": with_input, "H^2": squared, "H": plain}
    return " + ".join(f"{n if n > 1 else ''} {term}".strip() for term, n in terms.items() if n)


# --- Markdown ---------------------------------------------------------------------------------------------------------


def link(name: str) -> str:
    """A "file::name" as a link to its line in the page of the file."""
    file, line = place(name)
    return (
        f'<a href="{_page(file)}.html#__codelineno-0-{line}"><code>{file}:{line}</code></a> {name.partition("::")[2]}'
    )


def overview() -> str:
    """A table of the rows, each with a link to its own text."""
    lines = ["| | what it is | equations | |", "|---|---|---|---|"]
    for row in rows().values():
        state = "not built yet" if row.planned else ", ".join(f"[`{name}`](#{name})" for name in row.cells)
        lines.append(f"| [{row.key}](#{row.key}) | {row.what} | {row.equations} | {state} |")
    return "\n".join(lines)


def all_rows() -> str:
    """The text of every row."""
    parts = []
    for section, title in SECTIONS.items():
        parts.append(f"## {title}")
        parts += [_row(row) for row in rows().values() if row.key[0] == section]
    return "\n\n".join(parts)


def _row(row: Row) -> str:
    parts = [f"### {row.key} {row.what[0].upper()}{row.what[1:]} {{#{row.key}}}"]
    facts = [("Equations", row.equations)]
    if row.planned:
        parts.append(f"Not built yet. Planned: {row.planned}.")
        return "\n\n".join([*parts, _facts(facts)])
    if row.note:
        parts.append(row.note)
    if row.formula:
        parts.append(block(row.formula))
    for name in row.cells:
        text = text_of(CATALOGUE[name])
        parts += [f"[`{name}`](#{name}): {_with_code(text.title)}", _with_code(text.prose), block(text.formula)]
    facts += [
        ("Code", _lines(link(name) for name in (*(source_of(CATALOGUE[cell]) for cell in row.cells), *row.code))),
        ("Proven by", _lines(link(name) for name in tests_of(row))),
    ]
    return "\n\n".join(part for part in [*parts, _facts(facts)] if part)


def cells() -> str:
    """The text of every cell of the catalogue."""
    parts = []
    for family in FAMILIES:
        title = inspect.cleandoc(family.__doc__ or "").partition("\n")[0].partition(":")[0].rstrip(".")
        parts.append(f"### {title}")
        parts += [_cell(one) for one in vars(family).values() if isinstance(one, Cell)]
    return "\n\n".join(parts)


def _cell(cell: Cell) -> str:
    text = text_of(cell)
    count = mathml(f"n = {parameters(cell)}")
    masked = ", those counted that a mask holds at zero" if callable(cell.recurrent) else ""
    layer = Recurrent(cell, 16, 16)
    backend = "scan" if layer.can_scan else layer.choice.backend
    in_rows = ", ".join(f"[{row.key}](#{row.key})" for row in rows().values() if cell.name in row.cells)
    facts = [
        ("Shapes", _with_code(text.shapes)),
        ("Parameters", f"{count}{masked}"),
        ("Options", ", ".join(f"`{key}={_default(value)}`" for key, value in cell.options.items())),
        ("Runs", RUNS[backend]),
        ("Code", link(source_of(cell))),
        ("Rows", in_rows),
        ("Proven by", _lines(link(name) for name in (*OF_EVERY_CELL, *_tests(cell)))),
    ]
    parts = [f"#### {cell.name} {{#{cell.name}}}", _with_code(text.title), _with_code(text.prose)]
    return "\n\n".join(part for part in [*parts, block(text.formula), _facts(facts)] if part)


def _tests(cell: Cell) -> list[str]:
    """The tests of the rows that are this cell alone."""
    return [test for row in rows().values() if row.cells == (cell.name,) for test in row.tests]


def _facts(facts: list[tuple[str, str]]) -> str:
    """A list of what there is to say."""
    return "\n".join(f"- {key}: {value}" for key, value in facts if value)


def _lines(items: Any) -> str:
    return "<br>".join(items)


def _with_code(text: str) -> str:
    """Running text of a docstring with its symbols as code."""
    return SYMBOL.sub(r"`\1`", text)


def _default(value: Any) -> str:
    return getattr(value, "__name__", None) or repr(value)


PARTS = {"overview": overview, "rows": all_rows, "cells": cells}


# --- what mkdocs calls ------------------------------------------------------------------------------------------------


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the parts into the page that asks for them. One that does not exist ends the build."""
    return MARKER.sub(lambda found: PARTS[found[1]](), markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add a page for each file that is linked to."""
    for name, text in source_pages().items():
        files.append(File.generated(config, name, content=text, inclusion=InclusionLevel.NOT_IN_NAV))
    return files


def source_pages() -> dict[str, str]:
    """Each file that is linked to as a page with numbered lines, by the page's name."""
    named = [name for row in rows().values() for name in (*row.code, *tests_of(row))]
    named += [source_of(cell) for cell in CATALOGUE.values()]
    pages = {}
    for file in sorted({name.partition("::")[0] for name in named}):
        code = (CHECKOUT / file).read_text("utf-8")
        head = f"---\nsearch:\n  exclude: true\n---\n# {file}\n"
        pages[f"{_page(file)}.md"] = f'{head}\n~~~~{{.python linenums="1"}}\n{code}~~~~\n'
    return pages


def _page(file: str) -> str:
    """The page of a file, without its suffix."""
    return f"source/{file}"
