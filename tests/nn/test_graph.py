"""Networks over graphs: against a loop over nodes written from the equations, and against PyTorch Geometric."""

import subprocess
import sys
from typing import Any, Literal

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn

from recurra.cells import CATALOGUE, Cell, find
from recurra.errors import CellError, MissingExtraError, RecurraError
from recurra.nn import Recurrent
from recurra.nn.graph import GCN, MPNN, GraphError, MessagePassing, Readout, gated_graph_conv
from recurra.nn.messages import KINDS, Direction, Edges, NormalisedMessage, geometric
from recurra.nn.tree import ChildSum, Forest
from reference import numpy_cells

PYG = geometric()
H, F, TYPES = 8, 3, 4
"""Width of a state (`clockwork` and cells with heads want it even), of an edge's features; types of edges."""


def assert_same(found: Tensor, expected: Any, tolerance: float = 1e-10) -> None:
    """Equal but for rounding in double precision."""
    torch.testing.assert_close(found.detach(), torch.as_tensor(expected).detach(), rtol=tolerance, atol=tolerance)


def randomly(module: nn.Module, seed: int = 0) -> Any:
    """The same module in double precision, all its parameters drawn, none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.5 * torch.randn(p.shape, generator=generator, dtype=torch.float64))
    return module


Graph = tuple[np.ndarray, np.ndarray, int]


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Sources, targets and the number of nodes: also no edges, nodes without neighbours, loops and doubled edges."""
    nodes = draw(st.integers(1, 8))
    ends = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(ends, ends), max_size=16))
    return np.array([u for u, _ in edges], int), np.array([v for _, v in edges], int), nodes


def index_of(graph: Graph) -> Tensor:
    return torch.from_numpy(np.stack(graph[:2]))


def features_for(kind: str, edges: int, seed: int) -> Tensor | None:
    """What stands at the edges."""
    rng = np.random.default_rng(seed)
    if kind == "edge_types":
        return torch.from_numpy(rng.integers(0, TYPES, edges))
    if kind in ("edge_network", "network"):
        return torch.from_numpy(rng.normal(size=(edges, F)))
    return torch.from_numpy(rng.uniform(0.2, 2, edges)) if seed % 2 else None


SIZES = {"edge_types": TYPES, "edge_network": F, "network": F}
I = 5  # noqa: E741
"""Width of a node's features."""


def layer_of(kind: str, cell: str = "gru", **options: Any) -> MessagePassing:
    """Message passing with messages of a kind, all parameters drawn."""
    options = {"rounds": 3, "input_size": I, "message": kind, "edge_size": SIZES.get(kind, 0), **options}
    return randomly(MessagePassing(cell, H, **options))


def neighbours(graph: Graph, direction: Direction) -> list[list[tuple[int, int]]]:
    """For each node, the neighbours that it hears and the edge of each."""
    found: list[list[tuple[int, int]]] = [[] for _ in range(graph[2])]
    for e, (u, v) in enumerate(zip(graph[0].tolist(), graph[1].tolist(), strict=True)):
        if direction in ("in", "both"):
            found[v].append((u, e))
        if direction == "out" or (direction == "both" and u != v):
            found[u].append((v, e))
    return found


def message_by_hand(layer: MessagePassing, kind: str, h: np.ndarray, v: int, u: int, e: Any) -> np.ndarray:
    """f(h_v, h_u, e), as the docstrings of the messages have it."""
    p = {name: w.detach().numpy() for name, w in layer.message.named_parameters()}
    if kind == "linear":
        return (1.0 if e is None else e) * (p["weight"] @ h[u])
    if kind == "edge_types":
        return p["weight"][e] @ h[u]
    if kind == "edge_network":
        inner = np.maximum(p["network.0.weight"] @ e + p["network.0.bias"], 0)
        return (p["network.2.weight"] @ inner + p["network.2.bias"]).reshape(H, H) @ h[u]
    assert kind == "network"
    inner = np.maximum(p["first.weight"] @ np.concatenate([h[v], h[u], e]) + p["first.bias"], 0)
    return p["second.weight"] @ inner + p["second.bias"]


def symbols(update: Recurrent) -> dict[str, np.ndarray]:
    """The cell's parameters as the NumPy reference names them."""
    found = {}
    for symbol, views in update.by_symbol(dict(update.named_parameters())).items():
        values = [view.detach().numpy() for view in views]
        found[symbol] = values[0]
        if symbol[0] == "b" and len(values) == 2:
            found["b'" + symbol[1:]] = values[1]
        elif isinstance(update.cell, Cell) and update.cell.recurrent == "blocks" and symbol[0] == "U":
            found[symbol] = np.stack(values)
    return found


def by_hand(layer: MessagePassing, kind: str, x: np.ndarray, graph: Graph, e: Tensor | None) -> list[np.ndarray]:
    """h before the first round and after each, node by node: eqs 6.76-6.77 and the cells of the NumPy reference."""
    cell = layer.update.form
    w = symbols(layer.update)
    own = getattr(numpy_cells, cell.name)
    heard, reduce = neighbours(graph, layer.direction), {"sum": np.sum, "mean": np.mean, "max": np.max}[layer.aggregate]
    begun = cell.initial_state(1, H, torch.zeros((), dtype=torch.float64))
    states = [[np.pad(x_v, (0, H - I))[None], *(f.numpy() for f in begun[1:])] for x_v in x]
    rounds = [np.concatenate([state[0] for state in states])]
    for _ in range(layer.rounds):
        h, after = rounds[-1], []
        for v, state in enumerate(states):
            told = [message_by_hand(layer, kind, h, v, u, None if e is None else e.numpy()[k]) for u, k in heard[v]]
            m = reduce(told, axis=0) if told else np.zeros(layer.message.size)
            after.append(list(own(w, m[None, None], *state)[1]))
        states = after
        rounds.append(np.concatenate([state[0] for state in states]))
    return rounds


DRAWN: list[Direction] = ["in", "out", "both"]


# --- messages and updates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "gcn"])
@pytest.mark.parametrize("aggregate", ["sum", "mean", "max"])
@given(graph=graphs(), direction=st.sampled_from(DRAWN), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_messages_are_the_equations(
    kind: str, aggregate: Literal["sum", "mean", "max"], graph: Graph, direction: Direction, seed: int
) -> None:
    layer = layer_of(kind, aggregate=aggregate, direction=direction)
    x, e = np.random.default_rng(seed).normal(size=(graph[2], I)), features_for(kind, len(graph[0]), seed)
    found = layer.rounds_of(torch.from_numpy(x), index_of(graph), e)
    assert_same(found, np.stack(by_hand(layer, kind, x, graph, e)))
    h, state = layer(torch.from_numpy(x), index_of(graph), e)
    assert torch.equal(h, found[-1])
    assert h is state[0]


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_cell_is_an_update(name: str) -> None:
    """Over a graph with a loop, a doubled edge, and a node by itself, against the cell's NumPy reference."""
    graph = np.array([0, 1, 1, 2, 3, 3, 4, 0]), np.array([1, 2, 2, 0, 3, 1, 0, 4]), 6
    layer = layer_of("linear", name, rounds=4)
    x = np.random.default_rng(1).normal(size=(6, I))
    assert_same(
        layer.rounds_of(torch.from_numpy(x), index_of(graph)), np.stack(by_hand(layer, "linear", x, graph, None)), 1e-9
    )


def test_linear_messages_of_edges_with_features() -> None:
    layer = layer_of("linear", edge_size=F, rounds=1, message_size=7)
    graph, e = (np.array([0, 1, 1]), np.array([1, 2, 0]), 4), torch.randn(3, F, dtype=torch.float64)
    x = torch.randn(4, I, dtype=torch.float64)
    h = torch.cat([x, x.new_zeros(4, H - I)], 1)
    W, W_e = layer.message.get_parameter("weight"), layer.message.get_parameter("weight_edge")
    told = torch.stack([W @ h[1] + W_e @ e[2], W @ h[0] + W_e @ e[0], W @ h[1] + W_e @ e[1], h.new_zeros(7)])
    assert_same(layer(x, index_of(graph), e)[0], layer.update.step(told, h[None])[0])


def test_types_stand_for_rows_of_ones() -> None:
    """Where a kind of message reads features, types are features with a single 1."""
    graph, types = (np.array([0, 1, 1]), np.array([1, 2, 0]), 3), torch.tensor([2, 0, 1])
    x = torch.randn(3, I, dtype=torch.float64)
    for kind in ("linear", "edge_network", "network"):
        layer = layer_of(kind, edge_size=F)
        assert_same(layer(x, index_of(graph), types)[0], layer(x, index_of(graph), torch.eye(F).double()[types])[0])


def test_a_module_of_ones_own_is_a_message() -> None:
    class Distance(nn.Module):
        def forward(self, h_v: Tensor, h_u: Tensor, e: Tensor) -> Tensor:
            return torch.cat([(h_v - h_u) * e, e], 1)

    layer = randomly(MessagePassing("elman", H, rounds=2, message=Distance(), message_size=H + 1))
    graph, e = (np.array([0, 1, 2]), np.array([1, 1, 0]), 3), torch.randn(3, 1, dtype=torch.float64)
    h = x = torch.randn(3, H, dtype=torch.float64)
    for _ in range(2):
        told = torch.stack(
            [torch.cat([(h[v] - h[u]) * e[k], e[k]]) for k, (u, v) in enumerate([(0, 1), (1, 1), (2, 0)])]
        )
        m = torch.stack([told[2], told[0] + told[1], told.new_zeros(H + 1)])
        h = layer.update.step(m, h[None])[0]
    assert_same(layer(x, index_of(graph), e)[0], h)
    with pytest.raises(ValueError, match=r"message: a tensor \(3, 8\) is expected of it, not \(3, 9\)"):
        MessagePassing("elman", H, rounds=2, message=Distance()).double()(x, index_of(graph), e)


def test_features_begin_the_state() -> None:
    x, index = torch.randn(3, I, dtype=torch.float64), torch.tensor([[0], [1]])
    padded = layer_of("linear", "lstm").rounds_of(x, index)[0]
    assert torch.equal(padded, torch.cat([x, torch.zeros(3, H - I, dtype=torch.float64)], 1))
    wide = torch.randn(3, 20, dtype=torch.float64)
    layer = layer_of("linear", input_size=20, begin="project")
    assert layer.projection is not None
    assert_same(layer.rounds_of(wide, index)[0], wide @ layer.projection.weight.T + layer.projection.bias)


def test_rounds_share_their_weights() -> None:
    """T rounds are one round T times, with the state handed on; more can be asked for than the layer has."""
    layer = layer_of("linear")
    x, index = torch.randn(4, H, dtype=torch.float64), torch.tensor([[0, 1, 2], [1, 2, 3]])
    layer = layer_of("linear", input_size=None)
    once, h = layer_of("linear", input_size=None, rounds=1), x
    for _ in range(5):
        h, _ = once(h, index)
    assert_same(layer(x, index, rounds=5)[0], h)
    assert layer.rounds_of(x, index).shape == (4, 4, H)
    assert {n: p.shape for n, p in layer.named_parameters()} == {n: p.shape for n, p in once.named_parameters()}


def test_options_of_a_cell() -> None:
    layer = MessagePassing("lstm_projected", H, rounds=2, input_size=3, options={"proj_size": 4})
    h, state = layer(torch.randn(3, 3), torch.tensor([[0], [1]]))
    assert (h.shape, state.c.shape, layer.output_size) == ((3, 4), (3, H), 4)
    assert "relu" in repr(MessagePassing(find("elman")(activation="relu"), H, rounds=1).update.cell)
    with pytest.raises(CellError, match="forget_bia"):
        MessagePassing("lstm", H, rounds=2, options={"forget_bia": 1.0})


# --- what holds of every graph ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@given(graph=graphs(), seed=st.integers(0, 99), data=st.data())
@settings(max_examples=15)
def test_nodes_and_edges_in_another_order_are_the_same_graph(
    kind: str, graph: Graph, seed: int, data: st.DataObject
) -> None:
    source, target, M = graph
    if kind == "gcn":  # of several loops with weights one counts, and which is a matter of order
        loops = np.flatnonzero(source == target)
        kept = np.setdiff1d(np.arange(len(source)), loops)
        source, target = source[kept], target[kept]
    layer = layer_of(kind, "lstm", aggregate=data.draw(st.sampled_from(["sum", "mean", "max"])))
    x, e = torch.randn(M, I, dtype=torch.float64), features_for(kind, len(source), seed)
    new = np.array(data.draw(st.permutations(range(M))), int)  # where each node goes
    edges = np.array(data.draw(st.permutations(range(len(source)))), int)
    moved = torch.empty_like(x)
    moved[new] = x
    index = torch.from_numpy(np.stack([new[source][edges], new[target][edges]]))
    found, _ = layer(moved, index, None if e is None else e[edges])
    assert_same(found[new], layer(x, index_of((source, target, M)), e)[0])
    read = [Readout(k, H).double() for k in ("sum", "mean", "max")]
    for readout in [*read, randomly(Readout("set2set", H))]:
        assert_same(readout(found), readout(found[new]))


@pytest.mark.parametrize("kind", KINDS)
def test_many_graphs_are_one_of_unconnected_parts(kind: str) -> None:
    layer, one, two = layer_of(kind), (np.array([0, 1]), np.array([1, 2]), 3), (np.array([1]), np.array([0]), 2)
    x = torch.randn(5, I, dtype=torch.float64)
    parts = [features_for(kind, len(g[0]), 1) for g in (one, two)]
    e = torch.cat([part for part in parts if part is not None])
    both = torch.cat([index_of(one), index_of(two) + 3], 1)
    whole, _ = layer(x, both, e)
    assert_same(whole[:3], layer(x[:3], index_of(one), parts[0])[0])
    assert_same(whole[3:], layer(x[3:], index_of(two), parts[1])[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("M", [0, 1, 3])
def test_graphs_without_edges(kind: str, M: int) -> None:
    """A node is told 0, or with "gcn" its own state."""
    layer = layer_of(kind)
    x, e = torch.randn(M, I, dtype=torch.float64), features_for(kind, 0, 1)
    h = torch.cat([x, x.new_zeros(M, H - I)], 1)
    for _ in range(3):
        h = layer.update.step(h if kind == "gcn" else torch.zeros_like(h), h[None])[0] if M else h
    assert_same(layer(x, torch.empty(2, 0, dtype=torch.int64), e)[0], h)


@pytest.mark.parametrize(
    ("kind", "cell"), [*((kind, "elman") for kind in KINDS), ("linear", "lstm"), ("network", "gru")]
)
def test_gradients(kind: str, cell: str) -> None:
    layer = randomly(MessagePassing(cell, 3, rounds=2, input_size=2, message=kind, edge_size=SIZES.get(kind, 0)))
    index = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 2, 2, 0, 2, 1]])
    e = features_for(kind, 6, 1)
    assert e is not None
    x = torch.randn(5, 2, dtype=torch.float64, requires_grad=True)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, e: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, index, e))[1]

    assert torch.autograd.gradcheck(run, (x, e.requires_grad_(e.is_floating_point()), *layer.parameters()))


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "set2set"])
def test_gradients_of_read_outs(kind: str) -> None:
    readout = randomly(Readout(kind, 3))
    h = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda h: readout(h, torch.tensor([0, 2, 0, 2, 2]), 4), (h,))


# --- chains and trees -------------------------------------------------------------------------------------------------


def without_memory(rounds: int, edge_size: int) -> MessagePassing:
    """h = tanh(m): an Elman cell with W = 1 and U = 0."""
    layer = MessagePassing(
        "elman", H, rounds=rounds, message="linear", edge_size=edge_size, init={"W": "identity", "U": 0.0}
    )
    return layer.double()


def test_along_a_chain_rounds_are_steps() -> None:
    """With what is read at an edge, e = [x_t; 1], and an update that forgets its own state, T rounds over a chain of T
    edges are the simple recurrent network along it: f(h_v, h_u, e) = U h_(t-1) + W x_t + b, and g = tanh."""
    T = 6
    along = randomly(Recurrent("elman", I, H))
    layer, x = without_memory(T, I + 1), torch.randn(T, I, dtype=torch.float64)
    with torch.no_grad():
        layer.message.get_parameter("weight").copy_(along.get_parameter("weight_hh_l0"))
        b = along.get_parameter("bias_l0").unsqueeze(1)
        layer.message.get_parameter("weight_edge").copy_(torch.cat([along.get_parameter("weight_ih_l0"), b], 1))
    steps = torch.arange(T)
    e = torch.cat([x, torch.ones(T, 1, dtype=torch.float64)], 1)
    rounds = layer.rounds_of(torch.zeros(T + 1, H, dtype=torch.float64), torch.stack([steps, steps + 1]), e)
    expected, _ = along(x)
    assert_same(rounds[-1, 1:], expected)
    for t in range(1, T + 1):  # a round is a step: node t is right from round t on, and no sooner
        assert_same(rounds[t:, t], expected[t - 1].expand(T + 1 - t, H))
        assert not torch.allclose(rounds[t - 1, t], expected[t - 1])


@given(data=st.data())
@settings(max_examples=30)
def test_over_trees_and_acyclic_graphs_rounds_are_levels(data: st.DataObject) -> None:
    """Likewise the sum of children of an Elman cell, after as many rounds as the longest path has nodes."""
    M = data.draw(st.integers(1, 8))
    pairs = st.tuples(st.integers(0, M - 1), st.integers(0, M - 1)).filter(lambda p: p[0] < p[1])
    edges = data.draw(st.lists(pairs, max_size=12, unique=True)) if M > 1 else []
    children, parents = (np.array([e[k] for e in edges], int) for k in (0, 1))
    tree = randomly(ChildSum("elman", I, H))
    x = torch.randn(M, I, dtype=torch.float64)
    layer = without_memory(M + 1, I + 1)
    with torch.no_grad():
        layer.message.get_parameter("weight").copy_(tree.get_parameter("weight_hh"))
        b = tree.get_parameter("bias").unsqueeze(1)
        layer.message.get_parameter("weight_edge").copy_(torch.cat([tree.get_parameter("weight_ih"), b], 1))
    # node M + v stays at zero, and its edge brings to v what v reads
    own = torch.cat([x, torch.ones(M, 1, dtype=torch.float64)], 1)
    e = torch.cat([torch.zeros(len(edges), I + 1, dtype=torch.float64), own])
    index = np.stack([np.concatenate([children, np.arange(M) + M]), np.concatenate([parents, np.arange(M)])])
    h, _ = layer(torch.zeros(2 * M, H, dtype=torch.float64), torch.from_numpy(index), e)
    assert_same(h[:M], tree(x, Forest(children, parents, M))[0])


# --- graph convolutions -----------------------------------------------------------------------------------------------


def convolution(layer: GCN, *, loops: bool = True) -> Any:
    """PyTorch Geometric's, with the weights of the first layer."""
    twin = PYG.nn.GCNConv(layer.input_size, layer.sizes[0], add_self_loops=loops).to(layer.weights[0].dtype)
    twin.load_state_dict({"lin.weight": layer.weights[0].detach(), "bias": layer.biases[0].detach()})
    return twin


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(graph=graphs(), loops=st.booleans(), weighted=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_a_convolution_is_pytorch_geometrics(
    dtype: torch.dtype, graph: Graph, loops: bool, weighted: bool, seed: int
) -> None:
    layer = randomly(GCN(I, [H], self_loops=loops), seed).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(graph[2], I, dtype=dtype, generator=generator)
    e = torch.rand(len(graph[0]), dtype=dtype, generator=generator) if weighted else None
    found, expected = layer(x, index_of(graph), e), convolution(layer, loops=loops)(x, index_of(graph), e)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@given(graph=graphs(), weighted=st.booleans(), direction=st.sampled_from(DRAWN), seed=st.integers(0, 99))
@settings(max_examples=60)
def test_convolutions_are_the_papers(graph: Graph, weighted: bool, direction: Direction, seed: int) -> None:
    """Kipf & Welling's eq. 2 with dense matrices, the rows of A being those who hear."""
    rng, M = np.random.default_rng(seed), graph[2]
    kept = graph[0] != graph[1]
    source, target = graph[0][kept], graph[1][kept]
    e = rng.uniform(0.1, 2, len(source)) if weighted else np.ones(len(source))
    A = np.zeros((M, M))
    for u, v, weight in zip(source, target, e, strict=True):
        if direction in ("in", "both"):
            A[v, u] += weight
        if direction in ("out", "both"):
            A[u, v] += weight
    A += np.eye(M)
    D = np.diag(A.sum(1) ** -0.5)
    layer = randomly(GCN(I, [H, 3, 4], activation="tanh", direction=direction), seed)
    x = rng.normal(size=(M, I))
    expected = x
    for number, (W, b) in enumerate(zip(layer.weights, layer.biases, strict=True)):
        expected = D @ A @ D @ expected @ W.detach().numpy().T + b.detach().numpy()
        expected = np.tanh(expected) if number < 2 else expected
    index = torch.from_numpy(np.stack([source, target]))
    assert_same(layer(torch.from_numpy(x), index, torch.from_numpy(e) if weighted else None), expected)


@given(graph=graphs())
@settings(max_examples=20)
def test_convolutions_are_message_passing(graph: Graph) -> None:
    """An update that forgets its own state, and the same matrix in all layers."""
    layer = randomly(MessagePassing("elman", H, rounds=3, message="gcn"))
    network = randomly(GCN(H, [H, H, H], activation="tanh"))
    with torch.no_grad():
        layer.update.get_parameter("weight_hh_l0").zero_()
        for W, b in zip(network.weights, network.biases, strict=True):
            W.copy_(layer.update.get_parameter("weight_ih_l0"))
            b.copy_(layer.update.get_parameter("bias_l0"))
    x = torch.randn(graph[2], H, dtype=torch.float64)
    assert_same(layer(x, index_of(graph))[0], torch.tanh(network(x, index_of(graph))))


def test_dropout_of_convolutions() -> None:
    layer = GCN(I, [H, H], dropout=0.5)
    x, index = torch.randn(4, I), torch.tensor([[0], [1]])
    assert not torch.equal(layer(x, index), layer(x, index))
    layer.eval()
    assert torch.equal(layer(x, index), layer(x, index))


# --- gated graph networks and Gilmer's --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(
    graph=graphs(),
    aggregate=st.sampled_from(["sum", "mean", "max"]),
    weighted=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=30)
def test_a_gated_graph_network_is_pytorch_geometrics(
    dtype: torch.dtype, graph: Graph, aggregate: Literal["sum", "mean", "max"], weighted: bool, seed: int
) -> None:
    twin = randomly(PYG.nn.GatedGraphConv(H, 4, aggr=aggregate), seed).to(dtype)
    with torch.no_grad():
        scale = 2 + len(graph[0]) / 4  # so that no sum of many messages brings its rounding with it
        twin.weight.copy_(twin.weight[:1].expand_as(twin.weight).clone() / scale)  # the same in all rounds
    layer = gated_graph_conv(H, 4, input_size=I, aggregate=aggregate, dtype=dtype)
    ours = {f"update.{name}_l0": value for name, value in twin.rnn.named_parameters()}
    layer.load_state_dict({"message.weight": twin.weight[0].T, **ours})
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(graph[2], I, dtype=dtype, generator=generator)
    e = torch.rand(len(graph[0]), dtype=dtype, generator=generator) / 2 if weighted else None
    found, expected = layer(x, index_of(graph), e)[0], twin(x, index_of(graph), e)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_types_of_edges_have_matrices_of_their_own() -> None:
    """Two types are two graphs over the same nodes, whose messages are added."""
    layer = randomly(gated_graph_conv(H, 1, edge_types=2))
    x, index, types = torch.randn(4, H).double(), torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]]), torch.tensor([0, 1, 1, 0])
    W = layer.message.get_parameter("weight")
    told = torch.stack([W[k] @ x[u] for u, k in ((3, 0), (0, 0), (1, 1), (2, 1))])
    assert_same(layer(x, index, types)[0], layer.update.step(told, x[None])[0])


@given(graph=graphs(), seed=st.integers(0, 99))
@settings(max_examples=20)
def test_an_edge_network_is_pytorch_geometrics(graph: Graph, seed: int) -> None:
    """`NNConv`, whose matrix is that of rows, (in, out): ours turned round."""
    layer = layer_of("edge_network", input_size=None).message
    network = layer.get_submodule("network")
    turned = nn.Sequential(network, nn.Unflatten(1, (H, H)))
    twin = PYG.nn.NNConv(H, H, lambda e: turned(e).mT.flatten(1), root_weight=False, bias=False)
    rng = np.random.default_rng(seed)
    x, e = (torch.from_numpy(rng.normal(size=size)) for size in ((graph[2], H), (len(graph[0]), F)))
    edges = layer.prepare(Edges.of(index_of(graph), x, e), x)
    assert_same(edges.gathered(layer(x, edges), "sum"), twin(x, index_of(graph), e))


@given(graph=graphs(), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_gilmers_network_is_the_papers(graph: Graph, seed: int) -> None:
    """Rounds by hand, the read-out by hand, graph by graph."""
    rng = np.random.default_rng(seed)
    network = randomly(MPNN(I, F, H, 2, rounds=3, steps=4), seed)
    x, e = rng.normal(size=(graph[2], I)), torch.from_numpy(rng.normal(size=(len(graph[0]), F)))
    h = torch.from_numpy(by_hand(network.passing, "edge_network", x, graph, e)[-1])
    graph_of = torch.from_numpy(rng.integers(0, 3, graph[2]))
    nodes = network.projection(torch.cat([h, torch.from_numpy(x)], 1))
    read = set2set(network.readout, nodes.detach().numpy(), graph_of.numpy(), 3, 4)
    expected = network.output(torch.from_numpy(read))
    assert_same(network(torch.from_numpy(x), index_of(graph), e, graph_of, 3), expected)


def test_gilmers_network_takes_any_cell_and_features_wider_than_the_state() -> None:
    network = MPNN(2 * H, TYPES, H, 3, cell="lstm", readout="mean", rounds=2)
    y = network(torch.randn(3, 2 * H), torch.tensor([[0, 1], [1, 2]]), torch.tensor([3, 0]))
    assert y.shape == (1, 3)
    assert network.passing.begin == "project"


# --- read-outs --------------------------------------------------------------------------------------------------------


def sigma(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def set2set(readout: Readout, h: np.ndarray, graph: np.ndarray, graphs: int, steps: int) -> np.ndarray:
    """Vinyals, Bengio & Kudlur 2016, eqs 3-7, graph by graph."""
    p = {name.removeprefix("read.lstm."): v.detach().numpy() for name, v in readout.named_parameters()}
    found = []
    for number in range(graphs):
        own, width = h[graph == number], h.shape[1]
        q, c, star = np.zeros(width), np.zeros(width), np.zeros(2 * width)
        for _ in range(steps):
            z = p["weight_ih_l0"] @ star + p["bias_ih_l0"] + p["weight_hh_l0"] @ q + p["bias_hh_l0"]
            i, f, g, o = np.split(z, 4)
            c = sigma(f) * c + sigma(i) * np.tanh(g)
            q = sigma(o) * np.tanh(c)
            weights = np.exp(own @ q - (own @ q).max(initial=-np.inf))
            star = np.concatenate([q, weights / max(weights.sum(), 1e-300) @ own])
        found.append(star)
    return np.stack(found)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "set2set"])
@given(nodes=st.integers(0, 9), seed=st.integers(0, 99))
@settings(max_examples=30)
def test_read_outs_graph_by_graph(kind: str, nodes: int, seed: int) -> None:
    """In any order of the nodes, also of graphs without nodes; and PyTorch Geometric's of the same parameters."""
    rng = np.random.default_rng(seed)
    h, graph = rng.normal(size=(nodes, H)), rng.integers(0, 4, nodes)
    readout = randomly(Readout(kind, H, steps=5), seed)
    found = readout(torch.from_numpy(h), torch.from_numpy(graph), 4)
    assert found.shape == (4, readout.output_size)
    if kind == "set2set":
        expected = set2set(readout, h, graph, 4, 5)
    else:
        parts = [h[graph == number] for number in range(4)]
        reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[kind]
        expected = np.stack([reduce(part, axis=0) if len(part) else np.zeros(H) for part in parts])
    assert_same(found, expected)
    twins = {"sum": PYG.nn.aggr.SumAggregation, "mean": PYG.nn.aggr.MeanAggregation, "max": PYG.nn.aggr.MaxAggregation}
    twin = PYG.nn.aggr.Set2Set(H, 5).double() if kind == "set2set" else twins[kind]()
    twin.load_state_dict({name.removeprefix("read."): value for name, value in readout.state_dict().items()})
    assert_same(found, twin(torch.from_numpy(h), torch.from_numpy(graph), dim_size=4), 1e-6)


def test_a_read_out_of_one_graph_and_of_as_many_as_have_nodes() -> None:
    h = torch.randn(5, 3)
    readout = Readout("sum", 3)
    assert_same(readout(h), h.sum(0, keepdim=True), 1e-6)
    assert readout(h, torch.tensor([0, 2, 2, 0, 0])).shape == (3, 3)
    assert torch.equal(readout(h[:0]), torch.zeros(1, 3))


# --- what can be wrong ------------------------------------------------------------------------------------------------

X = torch.zeros(4, I)
INDEX = torch.tensor([[0, 1, 2], [1, 2, 3]])


@pytest.mark.parametrize(
    ("edge_index", "text"),
    [
        ([[0, 1, 9], [1, 2, 3]], "edge 2: its source is node 9, of 4 nodes, which are counted from 0"),
        ([[0, 1], [4, 2]], "edge 0: its target is node 4, of 4 nodes"),
        ([[0, 1], [1, -1]], "edge 1: its target is node -1"),
        ([[0, 7], [5, 8]], "edge 0: its target is node 5"),
    ],
)
def test_edges_of_absent_nodes(edge_index: list[list[int]], text: str) -> None:
    for layer in (MessagePassing("gru", H, rounds=1, input_size=I), GCN(I, [H])):
        with pytest.raises(GraphError, match=text) as caught:
            layer(X, torch.tensor(edge_index))
        assert isinstance(caught.value, RecurraError)


@pytest.mark.parametrize(
    ("edge_index", "text"),
    [
        (INDEX.T, r"edge_index: a tensor \(2, E\) is expected, sources above targets, not \(3, 2\)"),
        (INDEX.tolist(), r"edge_index: a tensor \(2, E\) is expected, sources above targets, not list"),
        (INDEX.float(), "edge_index: int64 is expected, not float32"),
        (INDEX.to("meta"), "edge_index: it lies on meta, but the nodes' features on cpu"),
    ],
)
def test_edges_of_another_form(edge_index: Any, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        GCN(I, [H])(X, edge_index)


@pytest.mark.parametrize(
    ("kind", "features", "text"),
    [
        ("linear", torch.ones(2), "edge_features: a row for each of 3 edges is expected, not \\(2,\\)"),
        ("linear", [1, 2, 3], "edge_features: a row for each of 3 edges is expected, not list"),
        ("linear", torch.ones(3, 2), "a weight of each edge, not float32 \\(3, 2\\)"),
        ("linear", torch.ones(3, dtype=torch.int64), "a weight of each edge, not int64 \\(3,\\)"),
        ("edge_types", None, "a type of each edge, not none"),
        ("edge_types", torch.ones(3), "a type of each edge, not float32"),
        ("edge_types", torch.tensor([0, 4, 9]), "edge 1 is of type 4, of 4 types, which are counted from 0"),
        ("edge_network", None, r"edge_features: \(E, 3\) numbers, or \(E,\) types, are expected, not none"),
        ("edge_network", torch.ones(3, 2), r"\(E, 3\) numbers, or \(E,\) types, are expected, not float32 \(3, 2\)"),
        ("network", torch.tensor([0, -1, 0]), "edge 1 is of type -1, of 3 types"),
        ("gcn", torch.tensor([0.0, -0.5, 1.0]), "edge 1 weighs -0.5; 0 or above is expected"),
    ],
)
def test_features_of_edges_that_do_not_fit(kind: str, features: Any, text: str) -> None:
    layer = MessagePassing("gru", H, rounds=1, input_size=I, message=kind, edge_size=SIZES.get(kind, 0))
    with pytest.raises(GraphError, match=text):
        layer(X, INDEX, features)


def test_features_where_none_are_read() -> None:
    layer = MessagePassing("gru", H, rounds=1, input_size=I, message="network")
    with pytest.raises(GraphError, match="edge_features: none are expected, as edge_size is 0, not float32"):
        layer(X, INDEX, torch.ones(3))


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (torch.zeros(4, 6), r"x: \(M, 5\) is expected, a row for each node, not \(4, 6\)"),
        (torch.zeros(4, 1, 5), r"not \(4, 1, 5\)"),
        ([[0.0] * 5], "not list"),
        (X.double(), "x: torch.float32 is expected, as the parameters are, not torch.float64"),
        (X.long(), "x: torch.float32 is expected"),
        (X.to("meta"), "x: it lies on meta, but the parameters on cpu"),
    ],
)
def test_features_of_nodes_that_do_not_fit(x: Any, text: str) -> None:
    for layer in (MessagePassing("gru", H, rounds=1, input_size=I), GCN(I, [H])):
        with pytest.raises(GraphError, match=text):
            layer(x, INDEX)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"message": "edge_type"}, "message: unknown kind 'edge_type'; did you mean 'edge_types'"),
        ({"aggregate": "avg"}, "aggregate: unknown choice 'avg'"),
        ({"direction": "inward"}, "direction: unknown choice 'inward'; did you mean 'in'"),
        ({"begin": "padded"}, "begin: unknown choice 'padded'; did you mean 'pad'"),
        ({"rounds": 0}, "rounds: a whole number above 0 is expected, not 0"),
        ({"input_size": 9}, "input_size: 9 features cannot be padded to a state of 8; begin='project' takes any"),
        ({"edge_size": -1}, "edge_size: a whole number, 0 or above, is expected, not -1"),
        ({"message": "edge_types"}, "edge_size: a whole number above 0 is expected, not 0"),
        ({"message": "gcn", "edge_size": 2}, "edge_size: messages of kind 'gcn' know weights of edges alone"),
        ({"message": "gcn", "message_size": 2}, "message_size: messages of this kind are 8 wide, so None"),
        ({"cell": nn.GRUCell(3, 3)}, "cell: a cell or its name is expected, not GRUCell"),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        MessagePassing(**{"cell": "gru", "hidden_size": H, "rounds": 1, **options})


def test_arguments_of_others_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="kind: unknown read-out 'set2sets'; did you mean 'set2set'"):
        Readout("set2sets", H)
    with pytest.raises(ValueError, match="steps: a whole number above 0"):
        Readout("set2set", H, steps=0)
    with pytest.raises(ValueError, match=r"sizes: the width of at least one layer is expected, not \[\]"):
        GCN(I, [])
    with pytest.raises(ValueError, match="dropout: a share from 0 to 1"):
        GCN(I, [H], dropout=2)
    with pytest.raises(ValueError, match="edge_size"):
        NormalisedMessage(H, 2, H)


@pytest.mark.parametrize(
    ("graph", "graphs", "text"),
    [
        (torch.tensor([0, 1, 2, 3]), 3, "graph: node 3 is of graph 3, of 3, which are counted from 0"),
        (torch.tensor([0, -1, 2, 1]), None, "graph: node 1 is of graph -1, of 3"),
        (torch.tensor([0, 1]), 2, r"graph: int64 \(4,\) is expected, a graph for each node, not int64 \(2,\)"),
        (torch.zeros(4), 1, r"not float32 \(4,\)"),
        ([0, 0, 0, 0], 1, "a graph for each node, not list"),
    ],
)
def test_graphs_that_are_not_there(graph: Any, graphs: int | None, text: str) -> None:
    with pytest.raises(GraphError, match=text):
        Readout("sum", I)(X, graph, graphs)


def test_what_to_install_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch_geometric", None)
    for make in (lambda: MessagePassing("gru", H, rounds=1), lambda: GCN(I, [H]), lambda: Readout("sum", H)):
        with pytest.raises(MissingExtraError, match=r"pip install 'recurra\[graph\]'"):
            make()


def test_nothing_is_brought_in_before_it_is_needed() -> None:
    script = "import sys, recurra.nn.graph; assert 'torch_geometric' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
