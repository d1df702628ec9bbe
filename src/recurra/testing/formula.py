"""A cell's docstring against its declaration: the formula names exactly the cell's parameters and constants."""

import ast
import inspect
import re
import textwrap

from recurra.cells import Cell

SYMBOL = re.compile(r"(?<![\w'])([A-Za-z]+'?_(?!t\b|\()\w+)")
"""A parameter in a formula: W_i, b'_n, v_f; not a value in time such as h_t or h_(t-1)."""

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")

UNWRITTEN = ("split",)
"""Functions whose arguments say how code is laid out, and nothing that a formula writes."""


def section(cell: Cell, title: str) -> str:
    """A block of a cell's docstring: the indented lines below its title, or what stands behind it; "" for none."""
    text = inspect.cleandoc(cell.__doc__ or "")
    found = re.search(rf"^{title}:(.*(?:\n(?: .*)?)*)", text, re.MULTILINE)
    return textwrap.dedent(found[1].strip("\n")).strip() if found else ""


def formula_faults(cell: Cell) -> list[str]:
    """Where the block "Formula:" of a cell's docstring disagrees with its declaration or with the numbers in its body.

    Every parameter stands in the formula under its symbol: W_g, U_g, b_g (b'_g, the second bias) of each gate g,
    vectors and matrices by name. Numbers are compared where the body's source can be read.
    """
    formula = re.sub(r"_\(t-1\)", "", section(cell, "Formula"))
    written = set(SYMBOL.findall(formula))
    faults = [f"{symbol} is declared, but not in the formula" for symbol in sorted({*cell.symbols} - written)]
    faults += [f"{symbol} is in the formula, but not declared" for symbol in sorted(written - {*cell.symbols})]
    body = _body(cell)
    if body is None:
        return faults
    code, numbers = _constants(body), {float(number) for number in NUMBER.findall(formula)}
    faults += [f"{number:g} is in the body, but not in the formula" for number in sorted(code - numbers)]
    faults += [f"{number:g} is in the formula, but not in the body" for number in sorted(numbers - code)]
    return faults


def _body(cell: Cell) -> list[ast.stmt] | None:
    """The statements of a cell's body; None where there is no source to read, or where it is a lambda."""
    try:
        parsed = ast.parse(textwrap.dedent(inspect.getsource(cell.body))).body[0]
    except (OSError, TypeError, SyntaxError):  # typed in by hand, a callable object, a piece of a longer line
        return None
    return parsed.body if isinstance(parsed, ast.FunctionDef) else None


def _constants(body: list[ast.stmt]) -> set[float]:
    """The numbers in some statements."""
    found: set[float] = set()
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in UNWRITTEN:
            waiting += node.args[:1]
            continue
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found.add(float(value))
        waiting += ast.iter_child_nodes(node)
    return found
