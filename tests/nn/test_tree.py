"""Layers over trees: against a recursion written from the papers, along chains, in any batch."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from recurra.cells import CATALOGUE
from recurra.errors import RecurraError
from recurra.nn import Recurrent
from recurra.nn.tree import SLSTM, ChildSum, ChildSumLSTM, Forest, NaryLSTM, RecursiveNetwork, TreeError, TreeLayer

D, H = 3, 4


def assert_same(found: Tensor, expected: Tensor | np.ndarray) -> None:
    """Equal but for rounding in double precision."""
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected).detach(), rtol=1e-10, atol=1e-12)


def layers(children: int = 3) -> dict[str, TreeLayer]:
    """One of each kind, in double precision, all parameters drawn."""
    torch.manual_seed(1)
    found: dict[str, TreeLayer] = {
        "child-sum": ChildSumLSTM(D, H, dtype=torch.float64),
        "n-ary": NaryLSTM(D, H, children, dtype=torch.float64),
        "s-lstm": SLSTM(D, H, children, dtype=torch.float64),
        "recursive": RecursiveNetwork(D, children, dtype=torch.float64),
        "gru": ChildSum("gru", D, H, dtype=torch.float64),
        "lstm_peephole": ChildSum("lstm_peephole", D, H, dtype=torch.float64),
    }
    for layer in found.values():
        for p in layer.parameters():
            nn.init.normal_(p, std=0.7)
    return found


@st.composite
def graphs(draw: st.DrawFn, trees: bool = False, most: int = 3) -> tuple[np.ndarray, np.ndarray, int]:
    """Edges (children, parents) of any acyclic graphs, nodes numbered at random, at most so many children each."""
    nodes = draw(st.integers(1, 12))
    numbers = draw(st.permutations(range(nodes)))
    edges = []
    taken: set[int] = set()
    for parent in range(1, nodes):
        below = [n for n in range(parent) if not (trees and n in taken)]
        own = draw(st.lists(st.sampled_from(below), max_size=most, unique=True)) if below else []
        taken |= set(own)
        edges += [(numbers[child], numbers[parent]) for child in own]
    children, parents = (np.array([e[k] for e in edges], int) for k in (0, 1))
    return children, parents, nodes


def sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def by_hand(layer: TreeLayer, kind: str, x: np.ndarray, forest: Forest) -> dict[int, tuple[np.ndarray, ...]]:
    """Each node by itself, from its children's, as the papers have it."""
    children, parents, slots = forest.edges
    p = {name: v.detach().numpy() for name, v in layer.named_parameters()}
    done: dict[int, tuple[np.ndarray, ...]] = {}

    def state(j: int) -> tuple[np.ndarray, ...]:
        if j not in done:
            own = parents == j
            done[j] = one(x[j], {int(s): state(int(c)) for c, s in zip(children[own], slots[own], strict=True)})
        return done[j]

    def one(x_j: np.ndarray, kids: dict[int, tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        if kind == "recursive":
            if not kids:
                return (x_j,)
            side = np.concatenate([kids[s][0] if s in kids else np.zeros(D) for s in range(3)])
            return (np.tanh(p["weight_hh"] @ side + p["bias"]),)
        zi, zf, zg, zo = np.split(p["weight_ih"] @ x_j + p["bias"], 4)
        if kind == "child-sum":
            Ui, Uf, Ug, Uo = np.split(p["weight_hh"], 4)
            total = sum((h for h, _ in kids.values()), np.zeros(H))
            i, g, o = sigma(zi + Ui @ total), np.tanh(zg + Ug @ total), sigma(zo + Uo @ total)
            c = i * g + sum((sigma(zf + Uf @ h) * c for h, c in kids.values()), np.zeros(H))
            return o * np.tanh(c), c
        h, c = (np.concatenate([kids[s][k] if s in kids else np.zeros(H) for s in range(3)]) for k in (0, 1))
        Ui, *Uf, Ug, Uo = np.split(p["weight_hh"], 6)
        peep = np.split(p["weight_ch"], 4) if kind == "s-lstm" else [np.zeros((H, 3 * H))] * 4
        i = sigma(zi + Ui @ h + peep[0] @ c)
        kept = sum(sigma(zf + Uf[k] @ h + peep[1 + k] @ c) * c[k * H : (k + 1) * H] for k in range(3))
        new = i * np.tanh(zg + Ug @ h) + kept
        look = p["weight_co"] @ new if kind == "s-lstm" else 0.0
        return sigma(zo + Uo @ h + look) * np.tanh(new), new

    for j in range(forest.nodes):
        state(j)
    return done


@pytest.mark.parametrize("kind", ["child-sum", "n-ary", "s-lstm", "recursive"])
@given(graph=graphs(), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_any_graph_against_the_equations(kind: str, graph: tuple[np.ndarray, np.ndarray, int], seed: int) -> None:
    layer, forest = layers()[kind], Forest(*graph)
    x = np.random.default_rng(seed).normal(size=(forest.nodes, D))
    output, states = layer(torch.from_numpy(x), forest)
    assert output is states[0]
    expected = by_hand(layer, kind, x, forest)
    for j, state in expected.items():
        for found, told in zip(states, state, strict=True):
            assert_same(found[j], told)


@pytest.mark.parametrize("kind", layers())
@given(graph=graphs(), seed=st.integers(0, 99))
@settings(max_examples=25)
def test_a_batch_is_its_trees_one_by_one(kind: str, graph: tuple[np.ndarray, np.ndarray, int], seed: int) -> None:
    """The graph twice and a chain, laid end to end, against each of them alone."""
    layer, (children, parents, nodes) = layers()[kind], graph
    chain = np.arange(3)
    x = torch.randn(2 * nodes + 4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole = Forest(
        np.concatenate([children, children + nodes, chain + 2 * nodes]),
        np.concatenate([parents, parents + nodes, chain + 2 * nodes + 1]),
        2 * nodes + 4,
    )
    together, _ = layer(x, whole)
    for first, stop, alone in (
        (0, nodes, Forest(*graph)),
        (nodes, 2 * nodes, Forest(*graph)),
        (2 * nodes, 2 * nodes + 4, Forest.chain([4])),
    ):
        assert_same(together[first:stop], layer(x[first:stop], alone)[0])


@pytest.mark.parametrize("name", CATALOGUE)
def test_on_a_chain_every_cell_is_its_layer_along_time(name: str) -> None:
    """Exercise 6-5, for the simple network and all others whose states can be added up."""
    if name in ("clockwork", "slstm"):
        with pytest.raises(ValueError, match="so that states cannot be added"):
            ChildSum(name, D, H)
        return
    layer = ChildSum(name, D, H, dtype=torch.float64)
    for p in layer.parameters():
        nn.init.normal_(p, std=0.5)
    along = Recurrent(name, D, H, dtype=torch.float64)
    along.load_state_dict({f"{key}_l0": value for key, value in layer.state_dict().items()})
    lengths = [5, 1, 3]
    x = torch.randn(9, D, dtype=torch.float64)
    output, states = layer(x, Forest.chain(lengths))
    for rows in (slice(0, 5), slice(5, 6), slice(6, 9)):
        expected, final = along(x[rows])
        assert_same(output[rows], expected)
        for found, last in zip(states, final, strict=True):
            assert_same(found[rows][-1], last[0, 0] if last.dim() == 3 else last[0])


@pytest.mark.parametrize("kind", ["child-sum", "n-ary"])
def test_on_a_chain_tree_lstms_are_the_lstm(kind: str) -> None:
    """Of the same parameters in the same order."""
    torch.manual_seed(2)
    layer = ChildSumLSTM(D, H) if kind == "child-sum" else NaryLSTM(D, H, 1)
    layer.double()
    lstm = Recurrent("lstm", D, H, dtype=torch.float64)
    lstm.load_state_dict({f"{key}_l0": value for key, value in layer.state_dict().items()})
    x = torch.randn(7, D, dtype=torch.float64)
    output, (_, c) = layer(x, Forest.chain([7]))
    expected, final = lstm(x)
    assert_same(output, expected)
    assert_same(c[-1], final.c.flatten())


def test_on_a_chain_the_recursive_network_is_the_simple_one() -> None:
    """Exercise 6-5: ((h_0 x_1) x_2) …, with [U, W] for the matrix over both."""
    layer = RecursiveNetwork(H, dtype=torch.float64)
    nn.init.normal_(layer.bias)
    along = Recurrent("elman", H, H, dtype=torch.float64)
    U, W = layer.weight_hh.detach().chunk(2, 1)
    along.load_state_dict({"weight_ih_l0": W, "weight_hh_l0": U, "bias_l0": layer.bias.detach()})
    x = torch.randn(6, H, dtype=torch.float64)
    # nodes 0-5 read x, node 6 is the state before the first, nodes 7-12 the states
    inner = np.arange(7, 13)
    forest = Forest(np.stack([inner - 1, np.arange(6)], 1).ravel(), np.repeat(inner, 2), 13)
    read = torch.cat([x, torch.zeros(7, H, dtype=torch.float64)])
    assert_same(layer(read, forest)[0][7:], along(x)[0])


@pytest.mark.parametrize("kind", layers())
def test_gradients(kind: str) -> None:
    layer = layers()[kind]
    forest = Forest([0, 1, 2, 3, 2, 5], [2, 2, 4, 4, 6, 6], 7)
    x = torch.randn(7, D, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, forest))[1]

    assert torch.autograd.gradcheck(run, (x, *layer.parameters()))


def test_order_counts_where_it_should() -> None:
    x = torch.randn(3, D, dtype=torch.float64)
    one, other = Forest([0, 1], [2, 2], 3), Forest([1, 0], [2, 2], 3)
    for kind, layer in layers().items():
        root, turned = layer(x, one)[0][2], layer(x, other)[0][2]
        assert torch.allclose(root, turned) == (kind in ("child-sum", "gru", "lstm_peephole")), kind


def test_a_tree_is_as_deep_as_it_is() -> None:
    """All that can be computed at once is: a full binary tree of 1,024 leaves takes ten levels."""
    parents = np.concatenate([np.repeat(np.arange(1024, 2047), 2)[:2046], [-1]])
    forest = Forest.from_parents(parents)
    assert [len(level.nodes) for level in forest.levels] == [512 >> n for n in range(10)]
    assert all(level.held is None and level.made is None and level.arity == 2 for level in forest.levels)


def test_no_tree_at_all_and_leaves_alone() -> None:
    layer = ChildSumLSTM(D, H)
    output, _ = layer(torch.zeros(0, D), Forest([], [], 0))
    assert output.shape == (0, H)
    x = torch.randn(2, D)
    torch.testing.assert_close(layer(x, Forest([], [], 2))[0], layer(x, Forest.from_parents([-1, -1]))[0])


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (([0, 1, 2], [1, 2, 0], 4), r"nodes 2 → 1 → 0 → 2: each stands below the one before it, in a circle"),
        (([0], [0], 1), r"nodes 0 → 0: each stands below"),
        (([0, 1], [2, 5], 4), r"edge 1: its parent is node 5, of 4 nodes, which are counted from 0"),
        (([0, -1], [2, 2], 4), r"edge 1: its child is node -1, of 4 nodes"),
        (([0, 1], [2], 4), r"edges: 2 children and 1 parents; as many are expected"),
        (([0, 1], [2, 2], 4, [1, 1]), r"node 2: two children have slot 1"),
        (([0.5], [1], 4), r"children: a list of whole numbers is expected, not float64 \(1,\)"),
    ],
)
def test_what_is_no_tree(edges: tuple[list[int], ...], message: str) -> None:
    with pytest.raises(TreeError, match=message):
        Forest(*edges)  # pyright: ignore[reportArgumentType]


def test_what_a_layer_cannot_do() -> None:
    forest = Forest([0, 1, 2], [3, 3, 3], 4)
    with pytest.raises(TreeError, match="node 3: a child in slot 2; the layer has 2, from 0"):
        NaryLSTM(D, H, 2)(torch.zeros(4, D), forest)
    with pytest.raises(RecurraError, match=r"x: \(4, 3\) is expected, not \(3, 3\)"):
        ChildSumLSTM(D, H)(torch.zeros(3, D), forest)
    with pytest.raises(ValueError, match="cell: field 't' of 'clockwork' counts steps, so that states cannot be added"):
        ChildSum("clockwork", D, H)
    with pytest.raises(TreeError, match="node 1: its parent is -2; a node, or -1 for a root"):
        Forest.from_parents([-1, -2])
