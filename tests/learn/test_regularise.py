"""Penalties on chosen weights, by symbol, name and pattern; on activations, against sums by hand."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import recurra
from recurra.cells import CATALOGUE
from recurra.errors import RecipeError
from recurra.learn import RTRL, Rule, SnAp, TruncatedBPTT
from recurra.learn.regularise import Hidden, activation_penalty, factors
from recurra.nn import Recurrent
from recurra.tasks.model import ModelSettings, SequenceModel


def network(vocabulary: int = 0, **settings: Any) -> SequenceModel:
    torch.manual_seed(1)
    sizes = {"hidden_size": 4, "embedding_size": 3, **settings}
    return SequenceModel(ModelSettings.model_validate(sizes), 2, input_size=3, vocabulary_size=vocabulary)


def weighed(one: SequenceModel, said: Any) -> dict[str, Any]:
    """What a penalty weighs, as numbers or lists of the rows' numbers."""
    found = factors(dict(one.named_parameters()), one.by_symbol, said, "train.l2")
    told = {}
    for name, v in found.items():
        rows = v.flatten(1).amax(1).tolist() if isinstance(v, Tensor) and v.dim() > 1 else v
        told[name.removeprefix("recurrent.")] = rows.tolist() if isinstance(rows, Tensor) else rows
    return told


def test_one_number_is_for_all_matrices_and_no_vector() -> None:
    one = network(7, cell="indrnn", bidirectional=False, head=[5])
    assert weighed(one, 0.5) == dict.fromkeys(
        ["embedding.weight", "weight_ih_l0", "weight_hh_l0", "head.1.weight", "output.weight"], 0.5
    )
    assert weighed(one, 0.0) == {}
    assert weighed(one, {}) == {}


def test_symbols_stand_for_what_they_stand_for_in_the_equations() -> None:
    one = network(7, cell="lstm_peephole", num_layers=2, bidirectional=True, head=[5])
    places = [f"l{k}{suffix}" for k in (0, 1) for suffix in ("", "_reverse")]
    expected = {
        "W": [f"weight_ih_{place}" for place in places],
        "U": [f"weight_hh_{place}" for place in places],
        "b": [f"bias_{place}" for place in places],
        "v_f": [f"v_f_{place}" for place in places],
        "V": ["head.1.weight", "output.weight"],
        "head": ["head.1.weight", "output.weight"],
        "embedding": ["embedding.weight"],
    }
    for symbol, names in expected.items():
        assert weighed(one, {symbol: 2.0}) == dict.fromkeys(names, 2.0), symbol
    i_f_g_o = np.repeat([0.0, 3.0, 0.0, 0.0], 4).tolist()
    assert weighed(one, {"U_f": 3.0}) == {f"weight_hh_{place}": i_f_g_o for place in places}
    assert weighed(one, {"b_f": 3.0}) == {f"bias_{place}": i_f_g_o for place in places}


def test_each_heads_part_of_a_gate() -> None:
    one = network(cell="slstm", options={"heads": 2}, hidden_size=4, bidirectional=False)
    factor = factors(dict(one.named_parameters()), one.by_symbol, {"U_i": 1.0}, "train.l2")["recurrent.weight_hh_l0"]
    assert isinstance(factor, Tensor)
    assert factor.shape == (2, 8, 2)  # heads, z i f o of two units each, columns
    assert factor.amax(-1).tolist() == [[0, 0, 1, 1, 0, 0, 0, 0]] * 2


def test_the_narrower_goes_before_the_wider_whatever_the_order() -> None:
    one = network(cell="lstm", num_layers=2, bidirectional=False)
    table = {
        "recurrent.weight_hh_l1": 4.0,
        "U_f": 2.0,
        "*_hh_*": 3.0,
        "U": 1.0,
    }
    for order in (list(table), list(table)[::-1]):
        found = weighed(one, {key: table[key] for key in order})
        assert found == {"weight_hh_l0": 3.0, "weight_hh_l1": 4.0}
    gates = weighed(one, {"U_f": 2.0, "U": 1.0, "recurrent.weight_hh_l1": 0.0})
    assert gates == {"weight_hh_l0": [1.0] * 4 + [2.0] * 4 + [1.0] * 8}
    patterns = weighed(one, {"*_l0": 5.0, "*.bias_l?": 6.0, "W": 1.0})
    assert patterns == {"weight_ih_l0": 5.0, "weight_hh_l0": 5.0, "bias_l0": 6.0, "weight_ih_l1": 1.0, "bias_l1": 6.0}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"Uf": 1.0}, "train.l2: unknown parameter 'Uf'; did you mean 'U_f'?"),
        ({"U_z": 1.0}, "train.l2: unknown parameter 'U_z'; did you mean "),
        ({"embedding": 1.0}, "train.l2: unknown parameter 'embedding'"),
        ({"recurrent.weight_hh_l2": 1.0}, "did you mean 'recurrent.weight_hh_l0'?"),
        ({"*_l7": 1.0}, "train.l2: unknown parameter '*_l7'"),
    ],
)
def test_a_name_that_stands_for_nothing(table: dict[str, float], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        weighed(network(cell="lstm", bidirectional=False), table)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_symbols_of_every_cell_cover_its_parameters_without_overlap(name: str) -> None:
    layer = Recurrent(name, 3, 4, 2, bidirectional=True)
    marks = {key: torch.zeros_like(p) for key, p in layer.named_parameters()}
    symbols = layer.by_symbol(marks)
    assert {s.replace("'", "") for s in CATALOGUE[name].symbols} == set(symbols) - {"W", "U", "b"}
    for symbol, views in symbols.items():
        if symbol not in ("W", "U", "b"):
            for view in views:
                view += 1
    assert all((mark == 1).all() for mark in marks.values())
    gates = (*CATALOGUE[name].gates, *CATALOGUE[name].inputs)
    for letter in "WUb":
        of_gates = sum(view.numel() for gate in gates for view in symbols.get(f"{letter}_{gate}", []))
        assert sum(view.numel() for view in symbols.get(letter, [])) == of_gates


# --- activations -----------------------------------------------------------------------------------------------------


def by_hand(h: np.ndarray, m_h: np.ndarray, lengths: list[int], size: float, change: float) -> float:
    """Every step of every sequence by itself."""
    squares = [m_h[t, b] ** 2 for b, n in enumerate(lengths) for t in range(n)]
    changes = [(h[t, b] - h[t - 1, b]) ** 2 for b, n in enumerate(lengths) for t in range(1, n)]
    means = [np.mean(v) if v else 0.0 for v in (squares, changes)]
    return float(size * means[0] + change * means[1])


@given(
    steps=st.integers(1, 6),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=4),
    size=st.floats(0, 3),
    change=st.floats(0, 3),
)
def test_activation_penalties_are_means_over_what_is_no_padding(
    steps: int, lengths: list[int], size: float, change: float
) -> None:
    lengths = [min(n, steps) for n in lengths]
    generator = torch.Generator().manual_seed(3)
    h, m_h = (torch.randn(steps, len(lengths), 2, generator=generator, dtype=torch.float64) for _ in "ab")
    expected = by_hand(h.numpy(), m_h.numpy(), lengths, size, change)
    found = activation_penalty(Hidden(h, m_h, torch.tensor(lengths)), size, change)
    assert float(found) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    if set(lengths) == {steps}:
        assert float(activation_penalty(Hidden(h, m_h, None), size, change)) == pytest.approx(expected, rel=1e-12)


def test_nothing_in_the_padding_has_a_gradient() -> None:
    h = torch.randn(5, 2, 3, requires_grad=True)
    activation_penalty(Hidden(h, h, torch.tensor([2, 5])), 1.0, 1.0).backward()
    assert h.grad is not None
    assert (h.grad[2:, 0] == 0).all()
    assert (h.grad[:2, 0] != 0).all()
    assert (h.grad[:, 1] != 0).all()


def test_a_network_keeps_what_its_last_layer_put_out_where_it_is_asked_to() -> None:
    one = network(num_layers=2, output_dropout=0.5)
    x, lengths = torch.randn(5, 2, 3), torch.tensor([3, 5])

    def hidden(one: SequenceModel, **given: Any) -> Hidden | None:
        one(x, **given)
        return one.hidden

    assert hidden(one) is None
    one.keep_hidden = True
    found = hidden(one, lengths=lengths)
    assert found is not None
    h, m_h, kept = found
    torch.testing.assert_close(h, one.recurrent(one.inputs(x), lengths=lengths)[0])
    assert m_h is h, "dropout is drawn after pooling"
    assert kept is lengths
    each = SequenceModel(ModelSettings(hidden_size=4, output_dropout=0.5), 2, input_size=3, per_step=True)
    each.keep_hidden = True
    found = hidden(each)
    assert found is not None
    h, m_h, _ = found
    stays = m_h != 0
    assert 0 < stays.sum() < stays.numel()
    torch.testing.assert_close(m_h, torch.where(stays, 2 * h, 0.0))


@pytest.mark.parametrize("rule", [RTRL(), SnAp(3), TruncatedBPTT(9)], ids=lambda rule: type(rule).__name__)
@pytest.mark.parametrize("per_step", [True, False])
def test_rules_that_go_forward_in_time_find_their_gradient_too(rule: Rule, per_step: bool) -> None:
    """Exact ones find what backpropagation finds (SnAp-3 of three units, a window longer than the sequence)."""
    torch.manual_seed(2)
    settings = ModelSettings(cell="lstm", hidden_size=3, bidirectional=False)
    one = SequenceModel(settings, 2, input_size=3, per_step=per_step).double()
    one.keep_hidden = True
    x, lengths = torch.randn(7, 2, 3, dtype=torch.float64), torch.tensor([4, 7])

    def gradients(rule: Rule | None) -> list[Tensor]:
        one.zero_grad()
        outputs, _ = one(x, lengths, None, rule)
        assert one.hidden is not None
        (0.01 * outputs.square().mean() + activation_penalty(one.hidden, 0.7, 1.3)).backward()
        return [p.grad.clone() for p in one.parameters() if p.grad is not None]

    for found, expected in zip(gradients(rule), gradients(None), strict=True):
        torch.testing.assert_close(found, expected)


# --- in a run --------------------------------------------------------------------------------------------------------


def series(count: int = 60) -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(2)
    x = [rng.normal(size=(int(n), 2)).astype(np.float32) for n in rng.integers(3, 9, count)]
    return x, ["up" if a[:, 0].sum() > 0 else "down" for a in x]


def trained(tmp_path: Any, **settings: Any) -> SequenceModel:
    base = {"model.cell": "lstm", "model.hidden_size": 6, "train.epochs": 6, "train.lr": 0.02, "train.select": "last"}
    changes = {**base, **{key.replace("__", "."): value for key, value in settings.items()}}
    folder = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
    return recurra.train("classify", series(), out=folder, settings=changes).network


def size_of_u(model: SequenceModel, gate: int) -> float:
    return float(model.recurrent.get_parameter("weight_hh_l0").detach().chunk(4)[gate].norm())


def test_a_run_decays_the_gate_that_is_named_and_no_other(tmp_path: Any) -> None:
    how = {"train__optimizer": "sgd", "train__momentum": 0.0, "train__clip_norm": 0.0, "train__schedule": "constant"}
    plain, decayed = trained(tmp_path, **how), trained(tmp_path, **how, train__l2={"U_f": 5.0})
    updates = 6 * 2
    assert size_of_u(decayed, 1) == pytest.approx((1 - 0.02 * 5.0) ** updates * size_of_u(plain, 1), rel=0.05)
    assert size_of_u(decayed, 0) == pytest.approx(size_of_u(plain, 0), rel=0.05)


def test_a_run_with_activation_penalties_has_smaller_and_slower_states(tmp_path: Any) -> None:
    x = torch.randn(20, 30, 2, generator=torch.Generator().manual_seed(0))

    def size_and_change(model: SequenceModel) -> tuple[float, float]:
        with torch.no_grad():
            h, _ = model.eval().recurrent(x)
        return float(h.square().mean()), float((h[1:] - h[:-1]).square().mean() / h.square().mean())

    plain = size_and_change(trained(tmp_path))
    small = size_and_change(trained(tmp_path, train__activation_l2=30.0))
    slow = size_and_change(trained(tmp_path, train__temporal_l2=30.0))
    assert small[0] < 0.5 * plain[0]
    assert slow[1] < 0.8 * plain[1]
