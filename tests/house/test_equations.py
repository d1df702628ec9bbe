"""docs/equations.md: every row and cell is there, its links lead to what they name, its formulas are whole."""

import ast
import importlib
import re
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import hypothesis.strategies as st
import markdown
import pytest
from hypothesis import given

from recurra.cells import CATALOGUE, Cell, cell
from recurra.nn import Recurrent

CHECKOUT = Path(__file__).parents[2]
DOCS = CHECKOUT / "docs"
SECTIONS = {"A": 3, "B": 7, "C": 6, "D": 8, "E": 8, "F": 3, "G": 4, "H": 7}
ROWS = [f"{section}{n}" for section, last in SECTIONS.items() for n in range(1, last + 1)]
NOT_BUILT: set[str] = set()
MATHML = "{http://www.w3.org/1998/Math/MathML}"
LINK = re.compile(r'<a href="source/([^"]+)\.html#__codelineno-0-(\d+)"><code>\1:\2</code></a> (\w+)')


@cache
def hook(name: str) -> ModuleType:
    """A module of the folder of pages, as mkdocs brings it in."""
    before = list(sys.path)
    sys.path.insert(0, str(DOCS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path[:] = before


equations, formulas = hook("equations"), hook("formulas")


@cache
def page() -> str:
    return equations.on_page_markdown((DOCS / "equations.md").read_text("utf-8"))


def text_under(heading: str) -> str:
    """What stands below the heading with this anchor."""
    found = re.search(rf"^#+ [^\n]* {{#{heading}}}\n(.*?)(?=^#|\Z)", page(), re.MULTILINE | re.DOTALL)
    assert found, heading
    return found[1]


# --- rows and cells --------------------------------------------------------------------------------------------------


def test_every_row_is_there_once() -> None:
    assert re.findall(r"^### \w+ .* {#(\w+)}$", page(), re.MULTILINE) == ROWS
    assert re.findall(r"^\| \[(\w+)\]\(#\1\) \|", page(), re.MULTILINE) == ROWS


@pytest.mark.parametrize("key", ROWS)
def test_a_row_has_formula_code_and_proof_or_says_that_it_is_not_built(key: str) -> None:
    row, text = equations.rows()[key], text_under(key)
    built = key not in NOT_BUILT
    assert ("Not built yet" in text) != built
    assert ("<math" in text) == built
    assert bool(LINK.search(text)) == built
    assert ("- Proven by: <a" in text) == built
    assert not (row.planned and (row.cells or row.code or row.tests or row.formula))
    for name in row.cells:
        for line in equations.text_of(CATALOGUE[name]).formula:
            assert formulas.mathml(line) in text


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_is_there_with_formula_shapes_size_and_proof(name: str) -> None:
    text, one = text_under(name), CATALOGUE[name]
    assert text.count("<math") == len(equations.text_of(one).formula) + 1
    assert [link[2] for link in LINK.findall(text)][:2] == [name, "test_outputs_final_state_and_gradients"]
    assert "- Shapes: `x_t` (B, I);" in text
    for option in one.options:
        assert f"`{option}=" in text
    parallel = Recurrent(one, 2, 8).can_scan
    assert ("in parallel" in text) == parallel
    assert ("one step after another" in text) != parallel


def test_every_cell_is_in_the_order_of_the_catalogue() -> None:
    assert re.findall(r"^#### (\w+) {#\1}$", page(), re.MULTILINE) == list(CATALOGUE)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("elman", "H I + H^2 + H"),
        ("lstm", "4 H I + 4 H^2 + 4 H"),
        ("lstm_peephole", "4 H I + 4 H^2 + 7 H"),
        ("gru_reset_after", "3 H I + 3 H^2 + 6 H"),
        ("indrnn", "H I + 2 H"),
        ("min_gru", "2 H I + 2 H"),
    ],
)
def test_the_number_of_parameters(name: str, expected: str) -> None:
    assert equations.parameters(CATALOGUE[name]) == expected


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_number_of_parameters_is_that_of_a_layer(name: str) -> None:
    terms = re.findall(r"(\d*) ?(H I|H\^2|H)(?= \+|$)", equations.parameters(CATALOGUE[name]))
    values = {"H I": 12 * 5, "H^2": 12 * 12, "H": 12}
    found = sum(p.numel() for p in Recurrent(name, 5, 12).parameters())
    assert found == sum(int(n or 1) * values[term] for n, term in terms)


# --- links -----------------------------------------------------------------------------------------------------------


def test_every_link_leads_to_the_line_that_defines_what_it_names() -> None:
    links = LINK.findall(page())
    assert len(links) == page().count('href="source/')
    assert len(links) > len(CATALOGUE) * 2
    for file, line, name in links:
        found = (CHECKOUT / file).read_text("utf-8").splitlines()[int(line) - 1]
        assert re.match(rf"(def|class) {name}\b|{name}\b.*=", found), f"{file}:{line}: {name}"


def test_anchors_that_the_page_refers_to_are_there() -> None:
    anchors = set(re.findall(r"{#(\w+)}", page()))
    assert set(re.findall(r"\]\(#(\w+)\)", page())) <= anchors
    assert len(anchors) == len(ROWS) + len(CATALOGUE)


def test_every_test_that_is_named_is_one() -> None:
    for row in equations.rows().values():
        for name in row.tests:
            assert "::test_" in name
            assert equations.place(name)[0].startswith("tests/")


class Module:
    """The functions of a file, and the names that a value at its top is made with."""

    def __init__(self, file: str) -> None:
        body = ast.parse((CHECKOUT / file).read_text("utf-8")).body
        self.functions = {node.name: node for node in body if isinstance(node, ast.FunctionDef)}
        self.values = {
            target.id: node.value
            for node in body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self.values |= {
            node.target.id: node.value
            for node in body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
        }

    def words(self, *nodes: ast.AST) -> Iterator[str]:
        """Every string and name in a piece of code, and in the values that it names."""
        for node in (inner for outer in nodes for inner in ast.walk(outer)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value
            elif isinstance(node, ast.Name):
                yield node.id
                if node.id in self.values:
                    yield from self.words(self.values[node.id])

    def is_about(self, test: str, cell: str) -> bool:
        """Whether a test names the cell, or is parametrised over it or the whole catalogue."""
        function = self.functions[test]
        parametrised = set(self.words(*function.decorator_list))
        called = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)} & self.functions.keys()
        own = set(self.words(*function.body, *(self.functions[name] for name in called)))
        return cell in parametrised | own or "CATALOGUE" in parametrised


@pytest.mark.parametrize("key", [key for key in ROWS if equations.rows()[key].cells])
def test_the_tests_of_a_row_are_about_its_cells(key: str) -> None:
    row = equations.rows()[key]
    for name in equations.tests_of(row):
        file, _, test = name.partition("::")
        about = {one for one in row.cells if Module(file).is_about(test, one)}
        assert about, f"{name} names none of {row.cells}"
    for one in row.cells:
        assert any(
            Module(file).is_about(test, one)
            for file, _, test in (name.partition("::") for name in equations.tests_of(row))
        ), one


def test_the_check_itself_knows_what_a_test_is_about() -> None:
    module = Module("tests/cells/test_statements.py")
    test = "test_e3_without_a_forget_gate_is_an_lstm_that_never_forgets"
    assert module.is_about(test, "lstm_no_forget")
    assert not module.is_about(test, "gru")
    references = Module("tests/reference/test_cells_against_numpy.py")
    assert references.is_about("test_outputs_final_state_and_gradients", "slstm")
    assert not references.is_about("test_outputs_final_state_and_gradients", "unheard_of")
    assert Module("tests/testing/test_catalogue_conformance.py").is_about("test_conforms", "slstm")
    layers = Module("tests/nn/test_recurrent.py")
    assert not layers.is_about("test_skip_connections", "slstm")


@pytest.mark.parametrize("name", ["src/recurra/cells/lstm.py::lsmt", "src/recurra/cells/nowhere.py::lstm", "lstm"])
def test_a_place_that_is_not_there_ends_the_build(name: str) -> None:
    with pytest.raises(ValueError, match=r"docs/equations\.toml: .* is not there"):
        equations.place(name)


def test_a_key_that_is_not_known_ends_the_build() -> None:
    with pytest.raises(ValueError, match=r"docs/equations\.toml, B1: test is none of cells, code,"):
        equations._row_of("B1", {"what": "", "test": []})


@cell(state="h", gates="h")
def without_shapes(z, s):
    """A cell.

    Formula:
        h_t = W_h x_t
    """
    return z.h


def test_a_docstring_in_another_form_ends_the_build() -> None:
    with pytest.raises(ValueError, match="cell 'without_shapes': its docstring has no first line, formula and shapes"):
        equations.text_of(without_shapes)


# --- the page --------------------------------------------------------------------------------------------------------


def test_nothing_raw_is_left_in_the_page() -> None:
    html = markdown.markdown(page(), extensions=["attr_list", "tables", "toc"])
    visible = re.sub(r"<[^>]+>", "", html)
    for left in ("`", "<!--", "{#", "](", "\\", "**", "|", "::"):
        assert left not in visible, visible[max(0, visible.find(left) - 40) :][:80]
    in_prose = re.sub(r"<(code|math)\b.*?</\1>", "", LINK.sub("", html), flags=re.DOTALL)
    in_prose = re.sub(r"<[^>]+>", "", in_prose)
    assert not re.findall(r"\b(?!gru_|lstm_|min_|linear_)\w*_\(?\w+", in_prose), "a symbol is not set as one"


def test_pages_of_the_files_hold_them_line_by_line() -> None:
    made = equations.source_pages()
    assert set(made) == {f"source/{file}.md" for file, _, _ in LINK.findall(page())}
    text = made["source/src/recurra/cells/lstm.py.md"]
    code = (CHECKOUT / "src/recurra/cells/lstm.py").read_text("utf-8")
    assert f'~~~~{{.python linenums="1"}}\n{code}~~~~\n' in text
    assert not [name for name, text in made.items() if text.count("~~~~") != 2], "a fence inside would end it early"


# --- formulas --------------------------------------------------------------------------------------------------------

CASES = {
    "h_0 = 0": "h_{0} = 0",
    "h_t = z_t ⊙ h_(t-1) + (1 - z_t) ⊙ n_t": r"h_{t} = z_{t} \odot h_{t - 1} + ( 1 - z_{t} ) \odot n_{t}",
    "n_t = tanh(r_t ⊙ (U_n h_(t-1) + b'_n))": r"n_{t} = \tanh ( r_{t} \odot ( U_{n} h_{t - 1} + b'_{n} ) )",
    "h_t = W_hr (o_t ⊙ tanh(c_t))": r"h_{t} = W_{\text{hr}} ( o_{t} \odot \tanh ( c_{t} ) )",
    "h_t = i_t / (f_t + i_t) ⊙ n_t": r"h_{t} = \dfrac{i_{t}}{f_{t} + i_{t}} \odot n_{t}",
    "h_t = (a + b) / (c) d / e": r"h_{t} = \dfrac{a + b}{c} \dfrac{d}{e}",
    "h_t = tanh(a) / (b)": r"h_{t} = \dfrac{\tanh ( a )}{b}",
    "a = exp(-exp(nu_a))": r"a = \exp ( -\exp ( \nu_{a} ) )",
    "a = √(1 - a ⊙ a) ⊙ b": r"a = \sqrt{1 - a \odot a} \odot b",
    "a = √((a) + (b))": r"a = \sqrt{( a ) + ( b )}",
    "m = max(log σ(a) + m, -b)": r"m = \max ( \log \, \sigma ( a ) + m, \, -b )",
    "[r z]_(z) = norm([W_r W_z] x_t; a_x)": r"[ r \; z ]_{z} = \text{norm} ( [ W_{r} \; W_{z} ] x_{t}; \, a_{x} )",
    "h = a where t mod T = 0, else b": r"h = a \quad \text{where } t \bmod T = 0, \quad \text{else } b",
    "c_t = g_t where f_t = 0 and i_t = 1": r"c_{t} = g_{t} \quad \text{where } f_{t} = 0 \text{ and } i_{t} = 1",
    "h_t^(l) = f(W^(l) h_t^(l-1) + b^(l))": "h_{t}^{(l)} = f ( W^{(l)} h_{t}^{(l - 1)} + b^{(l)} )",
    "h_t = [h_t^(1); h_t^(2)] ⊕ a": r"h_{t} = [ h_{t}^{(1)} ; \, h_{t}^{(2)} ] \oplus a",
    "h(a, b) ≠ h(b, a)": r"h ( a, \, b ) \neq h ( b, \, a )",
    "∂L_t/∂U = (∂h/∂U)ᵀ g": r"\dfrac{\partial L_{t}}{\partial U} = ( \dfrac{\partial h}{\partial U} )^{\text{T}} g",
    "a = Σ_(t=1)^T Π_(i=k)^(t-1) δ_(t,k) h_tᵀ": r"a = \sum_{t = 1}^{T} \prod_{i = k}^{t - 1} "
    r"\delta_{t, \, k} h_{t}^{\text{T}}",
    "‖δ_t‖ ≤ γ ‖a‖^2 ‖w‖_1": r"\| \delta_{t} \| \le \gamma \| a \|^{2} \| w \|_{1}",
    "g' = c g / ‖g‖ where ‖g‖ > c": r"g' = c \dfrac{g}{\| g \|} \quad \text{where } \| g \| > c",
    "a = diag(f'(z_k)) Uᵀ b": r"a = \text{diag} ( f' ( z_{k} ) ) U^{\text{T}} b",
}


@pytest.mark.parametrize("line", CASES)
def test_a_line_in_latex(line: str) -> None:
    assert formulas.latex(line) == CASES[line]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("h_t = swish(x_t)", "'swish' is no known function, word or symbol"),
        ("h_t = x_t × y_t", "'×' is not part of the notation"),
        ("h_t = (a + b", "')' is expected, but the end is found"),
        ("h_t = a + ", "a symbol, a number or a bracket is expected, but the end is found"),
        ("h_t = a) + b", "the end is expected, but ')' at character 8 is found"),
        ("h_t", "a relation such as '=' is expected, but the end is found"),
        ("h_t = a where b", "a relation such as '=' is expected, but the end is found"),
        ("h_t = a, b else c", "the end is expected, but 'else' at character 12 is found"),
        ("h_t = tanh + a", "what the function is of is expected, but '+' at character 12 is found"),
        ("h_t = a + -b", "a symbol, a number or a bracket is expected, but '-' at character 11 is found"),
        ("h_t = mod a", "a symbol, a number or a bracket is expected, but 'mod' at character 7 is found"),
        ("h_t_s = a", "'_t_s' has two scripts in one place"),
        ("h_(t = a", "'_' is not part of the notation"),
        ("h_(t+) = a", "a symbol, a number or a bracket is expected, but the end is found"),
        ("h_(t=1) = a", "'t=1': the end is expected, but '=' at character 2 is found"),
        ("h_t = ‖a", "'‖' is expected, but the end is found"),
        ("h_t = ‖a (‖b‖) c‖", "a symbol, a number or a bracket is expected, but '‖' at character 11 is found"),
        ("h_t = ᵀ", "a symbol, a number or a bracket is expected, but 'ᵀ' at character 7 is found"),
    ],
)
def test_what_is_not_in_the_notation_ends_the_build(line: str, message: str) -> None:
    with pytest.raises(formulas.FormulaError, match=re.escape(message)):
        formulas.latex(line)


def letters(text: str) -> str:
    return re.sub(r"[^\w]|_", "", text)


def shown(element: ET.Element) -> str:
    """The letters and digits that a formula shows, in reading order."""
    return letters("".join(element.itertext()))


def symbols_in(element: ET.Element) -> set[str]:
    """Every symbol with a subscript, as the docstrings write it: W_i, b'_n."""
    found = set()
    for one in element.iter():
        if one.tag in (f"{MATHML}msub", f"{MATHML}msubsup"):
            prime = "'" if len(one) == 3 and "".join(one[2].itertext()) == "′" else ""
            found.add("".join(one[0].itertext()) + prime + "_" + "".join("".join(one[1].itertext()).split()))
    return found


@pytest.mark.parametrize("one", CATALOGUE.values(), ids=CATALOGUE)
def test_a_cells_formula_becomes_mathml_with_all_its_parameters(one: Cell) -> None:
    lines = equations.text_of(one).formula
    elements = [ET.fromstring(formulas.mathml(line)) for line in lines]
    for line, element in zip(lines, elements, strict=True):
        assert shown(element) == letters(line.replace("nu", "ν"))
    found = set[str]().union(*map(symbols_in, elements))
    assert {symbol.replace("nu", "ν") for symbol in one.symbols} <= found


SYMBOLS = st.sampled_from(
    ["x", "h_t", "h_(t-1)", "W_i", "b'_n", "a_nx", "U^(l)", "h_t^(l-1)", "nu_a", "cycle", "2", "0.5"]
)


def larger(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    bracketed = st.builds("({})".format, inner)
    return st.one_of(
        st.builds("{} + {}".format, inner, inner),
        st.builds("{} - {}".format, inner, bracketed),
        st.builds("(-{})".format, bracketed),
        st.builds("{} ⊙ {}".format, bracketed, SYMBOLS),
        st.builds("{} {}".format, SYMBOLS, bracketed),
        st.builds("{} / {}".format, bracketed, SYMBOLS),
        st.builds("{} / {}".format, SYMBOLS, bracketed),
        st.builds("√{}".format, bracketed),
        st.builds("[{} {}]_(z)".format, SYMBOLS, bracketed),
        st.builds("{}({}, {})".format, st.sampled_from(["max", "norm", "f"]), inner, inner),
        st.builds("{}{}".format, st.sampled_from(["σ", "tanh", "log", "exp"]), bracketed),
    )


@given(st.recursive(SYMBOLS, larger, max_leaves=12), st.recursive(SYMBOLS, larger, max_leaves=4))
def test_any_formula_becomes_mathml_that_shows_what_it_says(value: str, other: str) -> None:
    line = f"h_t = {value} where {other} = 0, else {other}"
    element = ET.fromstring(formulas.mathml(line))
    assert element.tag == f"{MATHML}math"
    assert shown(element) == letters(line.replace("nu_a", "ν_a"))
