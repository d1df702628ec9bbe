"""How parameters begin: defaults, what a cell's `start` says, and each named initialisation."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from recurra import cells
from recurra.cells import cell
from recurra.cells.check import INITIALISATIONS
from recurra.errors import CellError
from recurra.math import sigmoid, tanh
from recurra.nn import Recurrent
from recurra.nn.initialise import fill


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(8)


def parameter(layer: Recurrent, name: str) -> Tensor:
    return layer.get_parameter(name).detach()


def is_orthogonal(block: Tensor) -> bool:
    rows, columns = block.shape
    product = block @ block.T if rows <= columns else block.T @ block
    return torch.allclose(product, torch.eye(min(rows, columns)), atol=1e-5)


OTHER_STARTS = {"irnn": "identity", "indrnn": "unit"}
"""Cells whose U begins otherwise than orthogonal."""


def blocks_of_u(layer: Recurrent, name: str) -> list[Tensor]:
    """Each gate's U, or each head's of it."""
    assert isinstance(layer.cell, cells.Cell)
    U, count = parameter(layer, name), len(layer.cell.gates)
    return [block for head in (U if U.dim() == 3 else [U]) for block in head.chunk(count)]


@pytest.mark.parametrize("name", sorted(cells.CATALOGUE))
def test_defaults(name: str) -> None:
    """W uniform in ±√(6 / (I + H)) and U orthogonal, each gate by itself; biases zero, forget gates' 1."""
    one = cells.CATALOGUE[name]
    layer = Recurrent(name, 30, 40, 2, bidirectional=True)
    every = (*one.gates, *one.inputs)
    for suffix, width in (("_l0", 30), ("_l0_reverse", 30), ("_l1", 80), ("_l1_reverse", 80)):
        bound = (6 / (width + 40)) ** 0.5
        for block in parameter(layer, f"weight_ih{suffix}").chunk(len(every)):
            assert block.abs().max() <= bound
            assert block.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        if one.gates:
            mask = one.mask_of_u(40)
            for block in blocks_of_u(layer, f"weight_hh{suffix}"):
                if name in OTHER_STARTS:
                    assert NAMED[OTHER_STARTS[name]](block)
                elif mask is None:
                    assert is_orthogonal(block)
                else:
                    assert ((block != 0) <= (mask == 1)).all()
                    assert is_orthogonal(block[:, -10:]) or (block[:, -10:].norm(dim=0) - 1).abs().max() < 1e-5
        biases = [p for n, p in layer.named_parameters() if n.startswith("bias") and n.endswith(suffix)]
        assert len(biases) == (2 if name == "gru_reset_after" else 1)
        for i, gate in enumerate(every):
            expected = 1.0 if gate == "f" and "forget_bias" in one.options else 0.0
            assert {v for bias in biases for v in bias.chunk(len(every))[i].tolist()} == {expected}
        for v in one.vectors:
            begun = parameter(layer, v.name + suffix)
            if name == "leaky":
                logarithms = torch.sigmoid(begun)  # of the spans, to the base of the longest
                torch.testing.assert_close(logarithms, (torch.arange(40) + 0.5) / 40)
            elif v.name == "nu_a":
                a = torch.exp(-torch.exp(begun))
                assert 0.9 <= a.min() < a.max() <= 0.999
            else:
                assert begun.unique().tolist() == [1.0 if v.name.startswith("a_") else 0.0]
        for m in one.matrices:
            assert 0 < parameter(layer, m.name + suffix).abs().max() <= (6 / 80) ** 0.5


def test_the_forget_gates_bias_is_an_option() -> None:
    layer = Recurrent(cells.lstm(forget_bias=2), 3, 4)
    assert parameter(layer, "bias_l0").tolist() == [0] * 4 + [2] * 4 + [0] * 8


def test_a_seed_gives_the_same_parameters_and_the_next_ones_are_others() -> None:
    torch.manual_seed(1)
    one, other = Recurrent("gru", 3, 4), Recurrent("gru", 3, 4)
    torch.manual_seed(1)
    again = Recurrent("gru", 3, 4)
    assert torch.equal(parameter(one, "weight_hh_l0"), parameter(again, "weight_hh_l0"))
    assert not torch.equal(parameter(one, "weight_hh_l0"), parameter(other, "weight_hh_l0"))


def test_a_highway_gate_begins_near_the_identity() -> None:
    layer = Recurrent("gru", 3, 40, 2, skip="highway")
    assert parameter(layer, "bias_skip_l1").unique().tolist() == [-1.0]
    assert parameter(layer, "weight_skip_l1").abs().max() <= (6 / 80) ** 0.5


def test_a_start_for_all_gates_for_one_and_for_everything_else_of_a_cell() -> None:
    @cell(
        state="h y:2",
        gates="a b",
        inputs="c",
        vectors="v u",
        matrices={"M": (2, "H"), "N": (2, "H")},
        biases=2,
        start={"W": 0.5, "W_b": "ones", "W_c": "zeros", "U_a": "identity", "b": -1.0, "b_c": "first", "v": 3, "M": 7},
    )
    def one(z, s, p, *, first=4.0):
        h = tanh(z.a + z.b + z.c) * p.v + p.u
        return h, p.M @ h + p.N @ h

    layer = Recurrent(one, 3, 4)
    W = parameter(layer, "weight_ih_l0").chunk(3)
    assert [block.unique().tolist() for block in W] == [[0.5], [1.0], [0.0]]
    U = parameter(layer, "weight_hh_l0").chunk(2)
    assert torch.equal(U[0], torch.eye(4))
    assert is_orthogonal(U[1])
    assert [block.unique().tolist() for block in parameter(layer, "bias_ih_l0").chunk(3)] == [[-1.0], [-1.0], [4.0]]
    assert parameter(layer, "bias_hh_l0").unique().tolist() == [0.0]
    assert parameter(layer, "v_l0").unique().tolist() == [3.0]
    assert parameter(layer, "u_l0").unique().tolist() == [0.0]
    assert parameter(layer, "M_l0").unique().tolist() == [7.0]
    assert 0 < parameter(layer, "N_l0").abs().max() <= 1.0


def test_a_diagonal_recurrence() -> None:
    def made(**start: Any) -> Tensor:
        one = cell(state="h", gates="a b", recurrent="diagonal", start=start)(lambda z, s: tanh(z.a) * sigmoid(z.b))
        return parameter(Recurrent(one, 3, 100), "weight_hh_l0")

    assert made().abs().max() <= 0.1
    assert made().abs().max() > 0.09
    assert made(U="identity").unique().tolist() == [1.0]
    assert made(U="orthogonal").unique().tolist() == [-1.0, 1.0]
    assert made(U_b=0.5)[100:].unique().tolist() == [0.5]


def test_each_head_by_itself() -> None:
    @cell(state="h", gates="a b", recurrent="blocks", start={"U_b": "identity"})
    def headed(z, s, *, heads=3):
        return tanh(z.a) * sigmoid(z.b)

    U = parameter(Recurrent(headed, 3, 12), "weight_hh_l0")
    assert U.shape == (3, 8, 4)
    for head in U:
        assert is_orthogonal(head[:4])
        assert torch.equal(head[4:], torch.eye(4))
    assert not torch.equal(U[0, :4], U[1, :4])


def test_what_a_mask_hides_is_zero() -> None:
    one = cell(state="h", gates="a b", recurrent=lambda H: torch.ones(H, H).tril())(lambda z, s: tanh(z.a) * z.b)
    for block in parameter(Recurrent(one, 3, 5), "weight_hh_l0").chunk(2):
        assert torch.equal(block != 0, torch.ones(5, 5).tril() == 1)


def is_identity(v: Tensor) -> bool:
    return torch.equal(v, torch.eye(*v.shape))


NAMED: dict[str, Callable[[Tensor], Any]] = {
    "xavier": lambda v: v.abs().max() <= (6 / 110) ** 0.5 and v.std() == pytest.approx((2 / 110) ** 0.5, rel=0.1),
    "orthogonal": is_orthogonal,
    "identity": is_identity,
    "unit": lambda v: v.min() >= 0 and v.max() <= 1 and v.mean() == pytest.approx(0.5, abs=0.2),
    "uniform": lambda v: v.abs().max() <= 50**-0.5 and v.std() == pytest.approx((1 / 150) ** 0.5, rel=0.1),
    "normal": lambda v: v.abs().max() > 2 / 60**0.5 and v.std() == pytest.approx(60**-0.5, rel=0.1),
    "zeros": lambda v: (v == 0).all(),
    "ones": lambda v: (v == 1).all(),
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", INITIALISATIONS)
def test_named_initialisations(name: str, dtype: torch.dtype) -> None:
    """Of a matrix (50, 60) within a larger one, whose other rows stay as they are."""
    whole = torch.full((52, 60), 9.0, dtype=dtype)
    fill(whole[1:51], name)
    assert (whole[0] == 9).all()
    assert (whole[51] == 9).all()
    if dtype == torch.float64 or name in ("identity", "zeros", "ones"):
        assert NAMED[name](whole[1:51].float())
    else:
        assert whole[1:51].isfinite().all()
        assert whole[1:51].std() > 0


def test_a_function_of_the_shape() -> None:
    block = torch.empty(2, 3)
    fill(block, lambda shape: torch.arange(6.0).reshape(shape))
    assert block.tolist() == [[0, 1, 2], [3, 4, 5]]


# --- what a layer is told -----------------------------------------------------------------------------------------


def test_init_goes_before_what_the_cell_says() -> None:
    layer = Recurrent("lstm_peephole", 3, 4, 2, init={"U": "identity", "U_o": 0.5, "b": 3.0, "v_i": "ones"})
    for k in range(2):
        U = parameter(layer, f"weight_hh_l{k}").chunk(4)
        assert all(is_identity(block) for block in U[:3])
        assert U[3].unique().tolist() == [0.5]
        assert parameter(layer, f"bias_l{k}").unique().tolist() == [3.0]  # the forget gate's too
        assert parameter(layer, f"v_i_l{k}").tolist() == [1.0] * 4
        assert parameter(layer, f"v_f_l{k}").tolist() == [0.0] * 4
        assert 0 < parameter(layer, f"weight_ih_l{k}").abs().max() < 1
    function = Recurrent("gru", 3, 4, init={"b_z": lambda shape: torch.arange(float(shape[0]))})
    assert parameter(function, "bias_l0").tolist() == [0] * 4 + [0, 1, 2, 3] + [0] * 4


def test_uniform_alone_is_how_pytorchs_layers_begin() -> None:
    layer = Recurrent("lstm_peephole", 30, 100, init="uniform")
    for _, p in layer.named_parameters():
        assert 0.09 < p.abs().max() <= 0.1
        assert p.detach().std() == pytest.approx(0.1 / 3**0.5, rel=0.2)


CHRONO = [
    ("lstm", ["f"], ["i"]),
    ("lstm_peephole", ["f"], ["i"]),
    ("lstm_projected", ["f"], ["i"]),
    ("lstm_layer_norm", ["f"], ["i"]),
    ("lstm_coupled", [], ["i"]),
    ("gru", ["z"], []),
    ("gru_reset_after", ["z"], []),
    ("gru_layer_norm", ["z"], []),
    ("mgu", [], ["f"]),
    ("min_gru", [], ["z"]),
    ("min_lstm", ["f"], ["i"]),
]
"""Cells with the gates whose bias is log(u), and those whose bias is -log(u)."""


@pytest.mark.parametrize(("name", "keeps", "admits"), CHRONO)
def test_chrono_initialisation(name: str, keeps: list[str], admits: list[str]) -> None:
    """The bias is ±log(u), u uniform from 1 to T - 1; where two gates have one, a unit's are opposite."""
    one = cells.CATALOGUE[name]
    layer = Recurrent(name, 3, 2000, init={"chrono": 784})
    every = (*one.gates, *one.inputs)
    bias = parameter(layer, "bias_ih_l0" if name == "gru_reset_after" else "bias_l0")
    of_gate = dict(zip(every, bias.chunk(len(every)), strict=True))
    spans = [of_gate[g].exp() for g in keeps] + [(-of_gate[g]).exp() for g in admits]
    for u in spans:
        assert 0.99 <= u.min() < 20
        assert 760 < u.max() <= 783.01
        assert u.mean() == pytest.approx(392, rel=0.05)
        torch.testing.assert_close(u, spans[0])
    for gate in {*every} - {*keeps, *admits}:
        assert of_gate[gate].unique().tolist() == [0.0]


def test_every_cell_with_gates_that_keep_or_admit_is_tried_with_chrono() -> None:
    assert {name for name, _, _ in CHRONO} == {name for name, one in cells.CATALOGUE.items() if one.chrono}


def test_a_multiple_of_a_named_initialisation() -> None:
    """An orthogonal U times 1.2 has the spectral radius 1.2, which is each of its singular values too."""
    U = parameter(
        Recurrent("lstm", 3, 20, init={"U": "orthogonal*1.2", "U_o": "identity * -0.5"}), "weight_hh_l0"
    ).chunk(4)
    for block in U[:3]:
        assert torch.linalg.eigvals(block).abs().max() == pytest.approx(1.2, rel=1e-5)
        assert is_orthogonal(block / 1.2)
    assert torch.equal(U[3], -0.5 * torch.eye(20))
    diagonal = parameter(Recurrent("indrnn", 3, 50, init={"U": "orthogonal*0.3"}), "weight_hh_l0")
    torch.testing.assert_close(diagonal.abs(), torch.full((50,), 0.3))
    assert diagonal.unique().numel() == 2
    declared = cell(state="h", gates="h", start={"U": "identity*2"})(lambda z, s: tanh(z.h))
    assert torch.equal(parameter(Recurrent(declared, 3, 4), "weight_hh_l0"), 2 * torch.eye(4))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("orthogonl*2", "init of 'U': unknown initialisation 'orthogonl'; did you mean 'orthogonal'?"),
        ("orthogonal*", "init of 'U': 'orthogonal*': a number is expected behind the *, such as 'orthogonal*1.2'"),
        ("orthogonal*two", "a number is expected behind the *"),
        ("identity*nan", "a number is expected behind the *"),
    ],
)
def test_a_multiple_that_cannot_be(value: str, said: str) -> None:
    with pytest.raises(CellError, match=re.escape(said)):
        Recurrent("lstm", 3, 4, init={"U": value})


def test_a_number() -> None:
    block = torch.empty(3)
    fill(block, -torch.inf)
    assert block.isneginf().all()


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="no initialisation is named 'best'"):
        fill(torch.empty(2, 2), "best")
