"""What every cell of the catalogue has: a formula that its declaration agrees with, a paper, shapes, a table row."""

import pickle
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from recurra import cells
from recurra.cells import CATALOGUE, FAMILIES, Cell, catalogue_table, cell, find
from recurra.errors import CellError
from recurra.math import relu, sigmoid, tanh
from recurra.testing import formula_faults, section

SYMBOL = re.compile(r"(?<![\w'])([A-Za-z]+'?_(?!t\b|\()\w+)")
"""A parameter in a formula: W_i, b'_n, v_f; not a value in time such as h_t or h_(t-1)."""

NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])")


@pytest.mark.parametrize("one", CATALOGUE.values(), ids=CATALOGUE)
def test_every_cell_names_its_paper_its_shapes_and_every_state_field(one: Cell) -> None:
    first = (one.__doc__ or "").partition("\n")[0]
    assert re.search(r"\([A-Z].*\b(19|20)\d\d\b.*\)", first), "the first line names the paper and its year"
    assert first.endswith("."), "the first line is a sentence, since tables show it"
    shapes = section(one, "Shapes")
    for letter in ("x_t (B, I)", *(f"{f.name}_t" for f in one.fields)):
        assert letter in shapes
    for symbol in ("W_", *(["U_"] if one.gates else []), "b_"):
        assert symbol in shapes
    for f in one.fields:
        assert f"{f.name}_t = " in section(one, "Formula"), f"the formula gives {f.name}"


@cell(state="h", gates="a b", vectors="v_a")
def wrong(z, s, p):
    """A cell whose formula lacks v_a and a constant, and has a bias too many.

    Formula:
        h_t = σ(W_a x_t + U_a h_(t-1) + b_a) ⊙ (W_b x_t + U_b h_(t-1) + b_b + b'_b) - 3

    Shapes: none.
    """
    return sigmoid(z.a + p.v_a) * z.b + 2.5


def test_the_check_itself_sees_what_is_wrong() -> None:
    assert formula_faults(wrong) == [
        "v_a is declared, but not in the formula",
        "b'_b is in the formula, but not declared",
        "2.5 is in the body, but not in the formula",
        "3 is in the formula, but not in the body",
    ]


def test_the_catalogue_holds_every_cell_of_its_families() -> None:
    modules = {name for name in sys.modules if re.fullmatch(r"recurra\.cells\.\w+", name)}
    with_cells = {
        name
        for name in modules
        if any(isinstance(v, Cell) and v.body.__module__ == name for v in vars(sys.modules[name]).values())
    }
    assert with_cells == {family.__name__ for family in FAMILIES}
    folder = Path(cells.__file__).parent
    assert {f"recurra.cells.{path.stem}" for path in folder.glob("*.py")} - {"recurra.cells.__init__"} <= modules, (
        "a file of cells that is not among FAMILIES is never imported"
    )
    for name, one in CATALOGUE.items():
        assert one.name == name
        assert getattr(cells, name) is one


def test_parameter_names_and_shapes_are_frozen() -> None:
    """Saved models depend on them."""
    assert {name: one.shapes(3, 8) for name, one in CATALOGUE.items()} == {
        "elman": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,)},
        "jordan": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,), "b_y": (8,), "V_y": (8, 8)},
        "irnn": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,)},
        "indrnn": {"weight_ih": (8, 3), "weight_hh": (8,), "bias": (8,)},
        "integrator": {"weight_ih": (8, 3), "bias": (8,)},
        "residual": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,)},
        "leaky": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,), "nu_a": (8,)},
        "clockwork": {"weight_ih": (8, 3), "weight_hh": (8, 8), "bias": (8,)},
        "lstm": {"weight_ih": (32, 3), "weight_hh": (32, 8), "bias": (32,)},
        "lstm_no_forget": {"weight_ih": (24, 3), "weight_hh": (24, 8), "bias": (24,)},
        "lstm_peephole": {
            "weight_ih": (32, 3),
            "weight_hh": (32, 8),
            "bias": (32,),
            "v_i": (8,),
            "v_f": (8,),
            "v_o": (8,),
        },
        "lstm_coupled": {"weight_ih": (24, 3), "weight_hh": (24, 8), "bias": (24,)},
        "lstm_projected": {"weight_ih": (32, 3), "weight_hh": (32, 8), "bias": (32,), "W_hr": (8, 8)},
        "lstm_layer_norm": {
            "weight_ih": (32, 3),
            "weight_hh": (32, 8),
            "bias": (32,),
            "a_x": (32,),
            "a_h": (32,),
            "a_c": (8,),
            "d_c": (8,),
        },
        "slstm": {"weight_ih": (32, 3), "weight_hh": (1, 32, 8), "bias": (32,)},
        "gru": {"weight_ih": (24, 3), "weight_hh": (24, 8), "bias": (24,)},
        "gru_reset_after": {"weight_ih": (24, 3), "weight_hh": (24, 8), "bias_ih": (24,), "bias_hh": (24,)},
        "gru_layer_norm": {
            "weight_ih": (24, 3),
            "weight_hh": (24, 8),
            "bias": (24,),
            "a_x": (16,),
            "a_h": (16,),
            "a_nx": (8,),
            "a_nh": (8,),
            "d_n": (8,),
        },
        "mgu": {"weight_ih": (16, 3), "weight_hh": (16, 8), "bias": (16,)},
        "min_gru": {"weight_ih": (16, 3), "bias": (16,)},
        "min_lstm": {"weight_ih": (24, 3), "bias": (24,)},
        "linear_recurrence": {"weight_ih": (8, 3), "bias": (8,), "nu_a": (8,)},
    }
    assert {name: (one.gates, one.inputs, [f.name for f in one.fields]) for name, one in CATALOGUE.items()} == {
        "elman": (("h",), (), ["h"]),
        "jordan": (("h",), (), ["y"]),
        "irnn": (("h",), (), ["h"]),
        "indrnn": (("h",), (), ["h"]),
        "integrator": ((), ("g",), ["h"]),
        "residual": (("g",), (), ["h"]),
        "leaky": (("h",), (), ["h"]),
        "clockwork": (("h",), (), ["h", "t"]),
        "lstm": (("i", "f", "g", "o"), (), ["h", "c"]),
        "lstm_no_forget": (("i", "g", "o"), (), ["h", "c"]),
        "lstm_peephole": (("i", "f", "g", "o"), (), ["h", "c"]),
        "lstm_coupled": (("i", "g", "o"), (), ["h", "c"]),
        "lstm_projected": (("i", "f", "g", "o"), (), ["h", "c"]),
        "lstm_layer_norm": (("i", "f", "g", "o"), (), ["h", "c"]),
        "slstm": (("z", "i", "f", "o"), (), ["h", "c", "n", "m"]),
        "gru": (("r", "z", "n"), (), ["h"]),
        "gru_reset_after": (("r", "z", "n"), (), ["h"]),
        "gru_layer_norm": (("r", "z", "n"), (), ["h"]),
        "mgu": (("f", "n"), (), ["h"]),
        "min_gru": ((), ("z", "n"), ["h"]),
        "min_lstm": ((), ("f", "i", "n"), ["h"]),
        "linear_recurrence": ((), ("n",), ["h"]),
    }


def test_lstm_has_four_times_the_parameters_of_a_simple_network() -> None:
    count = {
        name: sum(torch.Size(shape).numel() for shape in CATALOGUE[name].shapes(28, 128).values()) for name in CATALOGUE
    }
    assert count["lstm"] == 4 * count["elman"]
    assert count["gru"] == 3 * count["elman"]


def test_table_has_a_row_for_every_cell_with_a_link_that_leads_somewhere() -> None:
    lines = catalogue_table().splitlines()
    assert len(lines) == 2 + len(CATALOGUE)
    for line, (name, one) in zip(lines[2:], CATALOGUE.items(), strict=True):
        columns = [column.strip() for column in line.strip("|").split("|")]
        assert columns[0] == f"`{name}`"
        assert columns[1] in (one.__doc__ or "")
        assert columns[2:4] == [", ".join(f.name for f in one.fields), ", ".join((*one.gates, *one.inputs))]
        place = re.fullmatch(r"\[(.*)\]\(\1\)", columns[4])
        assert place
        assert f"def {name}(" in (Path(__file__).parents[2] / place[1]).read_text("utf-8")
    assert "](" not in catalogue_table(links=False)


# --- found by name ---------------------------------------------------------------------------------------------------


def test_a_cell_is_found_by_name() -> None:
    assert find("lstm") is CATALOGUE["lstm"] is cells.lstm


def write(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def test_a_cell_or_function_of_ones_own_is_found_in_a_file(tmp_path: Path) -> None:
    write(tmp_path, "SLOPE = 0.25", "beside.py")
    path = write(
        tmp_path,
        """
        from beside import SLOPE
        from recurra.cells import cell
        from recurra.math import tanh

        @cell(state="h", gates="h")
        def leaky(z, s):
            return s.h + SLOPE * tanh(z.h)

        def plain(x, h):
            return h + x
        """,
    )
    found = find(f"{path}:leaky")
    assert isinstance(found, Cell)
    assert found.name == "leaky"
    assert found is find(f"{path}:leaky"), "a file is run once"
    assert found_function(f"{path}:plain")(1, 2) == 3
    assert str(tmp_path) not in sys.path


def test_two_files_of_one_name_are_not_mixed_up(tmp_path: Path) -> None:
    """Nor is a file mistaken for an installed module of its name."""
    for folder, number in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder, f"def f(x, h):\n    return {number}\n", "textwrap.py")
    assert [found_function(f"{tmp_path}/{folder}/textwrap.py:f")(0, 0) for folder in "ab"] == [1, 2]


def test_a_cell_is_found_in_a_module() -> None:
    assert find("recurra.cells.gru:gru") is CATALOGUE["gru"]


FAULTY = "from recurra.cells import cell\n@cell(state='', gates='a')\ndef f(z, s): return z.a"


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("def leaky(x, h): return h", "FILE:leeky", "unknown cell in FILE 'leeky'; did you mean 'leaky'? Known: leaky"),
        ("from recurra import cell\ndef own(x, h): return h", "FILE:sell", "unknown cell in FILE 'sell'. Known: own"),
        ("x = 3", "FILE:y", "unknown cell in FILE 'y'; there is none"),
        ("x = 3", "FILE:x", "'x' in FILE: a cell or a function (x, state) is expected, not int"),
        ("class A: pass", "FILE:A", "'A' in FILE: a cell or a function (x, state) is expected, not type"),
        ("def f(:", "FILE:f", "FILE, line 1: invalid syntax"),
        ("f = undefined", "FILE:f", "FILE, line 1: NameError: name 'undefined' is not defined"),
        ("import nowhere", "FILE:f", "FILE, line 1: ModuleNotFoundError: No module named 'nowhere'"),
        (FAULTY, "FILE:f", "cell 'f': a state is expected, such as state=\"h\""),
        ("", "FILE.py:f", "FILE.py: there is no such file"),
        ("", "nowhere:f", "nowhere: ModuleNotFoundError: No module named 'nowhere'"),
        ("", "lsmt", "unknown cell 'lsmt'; did you mean 'lstm'? Known: CATALOGUE; "
         "one of your own is named as file.py:NAME"),
        ("", "FILE", "unknown cell 'FILE'. Known: CATALOGUE; "
         "one of your own is named as FILE:NAME"),
    ],
)  # fmt: skip
def test_what_is_not_found_is_told(tmp_path: Path, text: str, name: str, message: str) -> None:
    file = str(write(tmp_path, text))
    message = message.replace("FILE", file).replace("CATALOGUE", ", ".join(sorted(CATALOGUE)))
    with pytest.raises(CellError, match=f"^{re.escape(message)}$"):
        find(name.replace("FILE", file))


def test_a_file_that_failed_is_run_again_once_it_is_mended(tmp_path: Path) -> None:
    path = write(tmp_path, "f = undefined")
    with pytest.raises(CellError):
        find(f"{path}:f")
    write(tmp_path, "def f(x, h): return 5")
    assert found_function(f"{path}:f")(0, 0) == 5


def found_function(name: str) -> Callable[..., Any]:
    found = find(name)
    assert not isinstance(found, Cell)
    return found


def test_an_attribute_that_is_no_cell_offers_the_nearest() -> None:
    with pytest.raises(AttributeError, match="unknown cell 'grru'; did you mean 'gru'"):
        cells.grru  # noqa: B018


# --- options, copies, pickles ----------------------------------------------------------------------------------------


def test_options_give_another_cell_and_leave_the_first_alone() -> None:
    one = CATALOGUE["elman"](activation="relu")
    assert one.options["activation"] is relu
    assert CATALOGUE["elman"].options["activation"] is tanh
    assert one != CATALOGUE["elman"]
    assert one(activation=tanh) == CATALOGUE["elman"]
    assert repr(one) == "elman(activation=relu)"
    assert len({one, one(activation=tanh), CATALOGUE["elman"]}) == 2


@pytest.mark.parametrize(
    "one", [*CATALOGUE.values(), CATALOGUE["elman"](activation="sin"), CATALOGUE["lstm"](forget_bias=2)]
)
def test_a_cell_is_pickled_by_its_name_and_options(one: Cell) -> None:
    assert pickle.loads(pickle.dumps(one)) == one


def test_a_cell_declared_inside_a_function_cannot_be_pickled() -> None:
    @cell(state="h", gates="h")
    def inner(z, s):
        return tanh(z.h)

    with pytest.raises(pickle.PicklingError, match="cell 'inner' is not a name of module test_catalogue"):
        pickle.dumps(inner)


def test_a_state_is_pickled() -> None:
    state = CATALOGUE["lstm"].state_type(torch.ones(2), torch.zeros(2))
    again = pickle.loads(pickle.dumps(state))
    assert type(again) is type(state)
    assert again._fields == ("h", "c")
    assert torch.equal(again.h, state.h)
    assert torch.equal(again.c, state.c)
