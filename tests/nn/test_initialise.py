"""How parameters begin: defaults, what a cell's `start` says, and each named initialisation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from recurra import cells
from recurra.cells import cell
from recurra.cells.check import INITIALISATIONS
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


@pytest.mark.parametrize("name", sorted(cells.CATALOGUE))
def test_defaults(name: str) -> None:
    """W uniform in ±√(6 / (I + H)) and U orthogonal, each gate by itself; biases zero, LSTM's forget gate 1."""
    layer = Recurrent(name, 30, 40, 2, bidirectional=True)
    count = len(cells.CATALOGUE[name].gates)
    for suffix, width in (("_l0", 30), ("_l0_reverse", 30), ("_l1", 80), ("_l1_reverse", 80)):
        bound = (6 / (width + 40)) ** 0.5
        for block in parameter(layer, f"weight_ih{suffix}").chunk(count):
            assert block.abs().max() <= bound
            assert block.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        for block in parameter(layer, f"weight_hh{suffix}").chunk(count):
            assert is_orthogonal(block)
        biases = [p for n, p in layer.named_parameters() if n.startswith("bias") and n.endswith(suffix)]
        assert len(biases) == cells.CATALOGUE[name].biases
        for gate in range(count):
            expected = 1.0 if (name, gate) == ("lstm", 1) else 0.0
            assert {v for bias in biases for v in bias.chunk(count)[gate].tolist()} == {expected}


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


NAMED = {
    "xavier": lambda v: v.abs().max() <= (6 / 110) ** 0.5 and v.std() == pytest.approx((2 / 110) ** 0.5, rel=0.1),
    "orthogonal": is_orthogonal,
    "identity": lambda v: torch.equal(v, torch.eye(50, 60)),
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


def test_a_number() -> None:
    block = torch.empty(3)
    fill(block, -torch.inf)
    assert block.isneginf().all()


def test_an_unknown_name() -> None:
    with pytest.raises(ValueError, match="no initialisation is named 'best'"):
        fill(torch.empty(2, 2), "best")
