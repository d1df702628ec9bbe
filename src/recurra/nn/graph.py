"""Networks over graphs (section 6.8.2): what neighbours tell, what a node makes of it, what is read of the whole graph.

A graph is the features of its nodes, (M, I), and its edges, (2, E), sources above targets; many graphs are one whose
parts are not connected, with the graph of each node beside it. Sums, means and maxima over neighbours and over graphs
are PyTorch Geometric's, `pip install 'recurra[graph]'`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, linear, pad

from recurra.cells import find
from recurra.cells.form import Cell
from recurra.engine.eager import State, is_readable
from recurra.errors import unknown
from recurra.nn.arguments import activation as function_of
from recurra.nn.arguments import check_share, is_autocast, whole, widths_of_path
from recurra.nn.initialise import fill
from recurra.nn.messages import (
    AGGREGATES,
    DIRECTIONS,
    Aggregate,
    Direction,
    Edges,
    GraphError,
    NormalisedMessage,
    geometric,
    message_of,
    told,
)
from recurra.nn.recurrent import Recurrent

__all__ = ["GCN", "MPNN", "GraphError", "MessagePassing", "Readout", "gated_graph_conv"]


class MessagePassing(nn.Module):
    """T rounds over a graph with the same weights: messages, and any cell as what a node makes of them, eqs 6.76-6.77.

    Formula, for a node v with the neighbours u, and the cell's step g:
        m_t^(v) = Σ_u f(h_(t-1)^(v), h_(t-1)^(u), e^(u,v))
        h_t^(v) = g(h_(t-1)^(v), m_t^(v))

    The message is the cell's input, and the node's state its state, of whatever fields it has. A node without
    neighbours is told 0. Where the cell's other fields begin is the cell's to say; h begins with the node's features.

    Args:
        cell: A cell, or the name of one.
        hidden_size: Width H of the state.
        rounds: T.
        input_size: Width I of a node's features; that of h when left out.
        begin: How features become the first h: "pad", with zeros behind them (Li et al. 2016); "project", by a matrix
            and a bias.
        message: f: "linear", "edge_types", "edge_network", "network" or "gcn" (`recurra.nn.messages` has their
            formulas), or a module, called with h_v, h_u, (E, H) each, and e where there is one.
        edge_size: Width F of what stands at an edge, or the number of types; 0: nothing, or a weight.
        message_size: Width of a message; that of h when left out.
        aggregate: "sum" as in the formula, or "mean" or "max" of a node's messages.
        direction: Which neighbours a node hears: "in", those from which an edge leads to it; "out", those to which one
            leads; "both", edges have no direction.
        options: Options of the cell.
        init: How the cell's parameters begin, as for `Recurrent`.
        backend: How the cell is run, as for `Recurrent`.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An argument that cannot be.
        MissingExtraError: PyTorch Geometric is not installed.

    Example:
        >>> layer = MessagePassing("gru", 16, rounds=3, input_size=7, direction="both")
        >>> h, state = layer(torch.eye(7)[[0, 0, 1, 2]], torch.tensor([[0, 1, 2], [1, 2, 3]]))
        >>> h.shape
        torch.Size([4, 16])
    """

    def __init__(
        self,
        cell: Cell | str,
        hidden_size: int,
        *,
        rounds: int,
        input_size: int | None = None,
        begin: Literal["pad", "project"] = "pad",
        message: str | nn.Module = "linear",
        edge_size: int = 0,
        message_size: int | None = None,
        aggregate: Aggregate = "sum",
        direction: Direction = "in",
        options: Mapping[str, Any] | None = None,
        init: str | Mapping[str, Any] | None = None,
        backend: Literal["auto", "eager", "native", "scan"] = "auto",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        geometric()
        found = find(cell) if isinstance(cell, str) else cell
        if not isinstance(found, Cell):
            raise ValueError(f"cell: a cell or its name is expected, not {cell!r}")
        found = found(**(options or {}))
        _check_choice("begin", begin, ("pad", "project"))
        _check_choice("aggregate", aggregate, AGGREGATES)
        _check_choice("direction", direction, DIRECTIONS)
        if isinstance(edge_size, bool) or not isinstance(edge_size, int) or edge_size < 0:
            raise ValueError(f"edge_size: a whole number, 0 or above, is expected, not {edge_size!r}")
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.hidden_size, self.rounds = whole("hidden_size", hidden_size), whole("rounds", rounds)
        self.output_size = found.widths(self.hidden_size)[0]
        self.input_size = self.output_size if input_size is None else whole("input_size", input_size)
        if begin == "pad" and self.input_size > self.output_size:
            raise ValueError(
                f"input_size: {self.input_size} features cannot be padded to a state of {self.output_size}; "
                "begin='project' takes any number"
            )
        self.begin = begin
        self.aggregate: Aggregate = aggregate
        self.direction: Direction = direction
        self.projection = nn.Linear(self.input_size, self.output_size, **factory) if begin == "project" else None
        size = self.output_size if message_size is None else whole("message_size", message_size)
        self.message = message_of(message, self.output_size, edge_size, size, **factory)
        if message_size is not None and self.message.size != message_size:
            raise ValueError(
                f"message_size: messages of this kind are {self.message.size} wide, so None is expected, not {size}"
            )
        self.update = Recurrent(found, self.message.size, self.hidden_size, init=init, backend=backend, **factory)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_features: Tensor | None = None, *, rounds: int | None = None
    ) -> tuple[Tensor, State]:
        """The states of all nodes after the last round.

        Args:
            x: (M, I), the nodes' features.
            edge_index: (2, E) int64, sources above targets, nodes counted from 0.
            edge_features: (E, F), (E,) int64 types, or (E,) weights.
            rounds: Other than the layer's own.

        Returns:
            h, (M, H); all fields of the state, each (M, width).

        Raises:
            GraphError: An edge of a node that there is not, or sizes that do not fit.
        """
        *_, state = self._along(x, edge_index, edge_features, rounds)
        return state[0], state

    def rounds_of(
        self, x: Tensor, edge_index: Tensor, edge_features: Tensor | None = None, *, rounds: int | None = None
    ) -> Tensor:
        """h of all nodes before the first round and after each, (T + 1, M, H); arguments are those of `forward`."""
        return torch.stack([state[0] for state in self._along(x, edge_index, edge_features, rounds)])

    def _along(
        self, x: Tensor, edge_index: Tensor, edge_features: Tensor | None, rounds: int | None
    ) -> Iterator[State]:
        """The state before the first round and after each."""
        check_nodes(x, self.input_size, like=next(self.update.parameters()))
        edges = Edges.of(edge_index, x, edge_features, self.direction)
        edges = self.message.prepare(edges, x)
        state = self.first_state(x)
        yield state
        for _ in range(self.rounds if rounds is None else whole("rounds", rounds)):
            told = edges.gathered(self.message(state[0], edges), self.aggregate)
            _, new = self.update.step(told, tuple(field.unsqueeze(0) for field in state))
            state = self.update.form.state_type(*(field[0] for field in new))
            yield state

    def first_state(self, x: Tensor) -> State:
        """The state before the first round, each field (M, width): h is made of the features, (M, I)."""
        _, *others = self.update.form.initial_state(len(x), self.hidden_size, x)
        h = pad(x, (0, self.output_size - self.input_size)) if self.projection is None else self.projection(x)
        return self.update.form.state_type(h, *others)

    def extra_repr(self) -> str:
        """What is not said by its parts."""
        return f"{self.input_size}, rounds={self.rounds}, aggregate={self.aggregate}, direction={self.direction}"


class Readout(nn.Module):
    """One y for each graph from its nodes' states (eq. 6.78): their sum, mean, maximum, or Set2Set.

    Formula, of Set2Set (Vinyals, Bengio & Kudlur 2016), in a number of steps from q*_0 = 0:
        q_t = LSTM(q*_(t-1))
        α_v = softmax over the graph's nodes of h^(v) · q_t
        q*_t = [q_t; Σ_v α_v h^(v)]

    The text prints y_t = g(…) for 6.78: there is one y, no step, and the read-out is not the update g of 6.77. A graph
    without nodes is read as zeros, but for Set2Set's q.

    Args:
        kind: "sum", "mean", "max" or "set2set".
        hidden_size: Width H of a node's state.
        steps: Of Set2Set.
        device: Of the parameters.
        dtype: Of the parameters.

    Attributes:
        output_size: Width O of what is read: H, or 2 H of Set2Set.

    Raises:
        ValueError: Another kind.
        MissingExtraError: PyTorch Geometric is not installed.
    """

    def __init__(self, kind: str, hidden_size: int, *, steps: int = 3, device: Any = None, dtype: Any = None) -> None:
        super().__init__()
        if kind not in READOUTS:
            raise ValueError("kind: " + unknown("read-out", str(kind), READOUTS))
        self.kind, self.hidden_size = kind, whole("hidden_size", hidden_size)
        kinds = geometric().nn.aggr
        self.output_size = 2 * self.hidden_size if kind == "set2set" else self.hidden_size
        self.read = {
            "sum": kinds.SumAggregation,
            "mean": kinds.MeanAggregation,
            "max": kinds.MaxAggregation,
            "set2set": lambda: kinds.Set2Set(self.hidden_size, whole("steps", steps), device=device, dtype=dtype),
        }[kind]()

    def forward(self, h: Tensor, graph: Tensor | None = None, graphs: int | None = None) -> Tensor:
        """Read.

        Args:
            h: (M, H), the states of the nodes.
            graph: (M,) int64, the graph that each belongs to; all to one when left out.
            graphs: B, how many there are; one more than the last that has a node when left out.

        Returns:
            (B, O).

        Raises:
            GraphError: A graph that there is not, or sizes that do not fit.
        """
        check_nodes(h, self.hidden_size, name="h")
        if graph is None:
            graph, graphs = h.new_zeros(len(h), dtype=torch.int64), 1 if graphs is None else graphs
        if not isinstance(graph, Tensor) or graph.shape != h.shape[:1] or graph.dtype != torch.int64:
            found = told(graph)
            raise GraphError(f"graph: int64 ({len(h)},) is expected, a graph for each node, not {found}")
        if graphs is None:
            graphs = int(graph.max()) + 1 if len(graph) else 0
        if is_readable(graph):
            wrong = ((graph < 0) | (graph >= graphs)).nonzero()
            if len(wrong):
                node = int(wrong[0])
                raise GraphError(
                    f"graph: node {node} is of graph {int(graph[node])}, of {graphs:,}, which are counted from 0"
                )
        return self.read(h, graph, dim_size=graphs)

    def extra_repr(self) -> str:
        """What is read, and its width."""
        return f"{self.kind}, {self.hidden_size}, output_size={self.output_size}"


READOUTS = ("sum", "mean", "max", "set2set")


def gated_graph_conv(
    hidden_size: int,
    rounds: int,
    *,
    input_size: int | None = None,
    edge_types: int = 0,
    aggregate: Aggregate = "sum",
    direction: Direction = "in",
    device: Any = None,
    dtype: Any = None,
) -> MessagePassing:
    """The gated graph network of Li et al. (2016): messages W h_u, a GRU, features padded with zeros.

    It is PyTorch Geometric's `GatedGraphConv` of the same parameters: `message.weight` is its `weight[0].T`, and
    `update.weight_ih_l0` its `rnn.weight_ih`, and so on. There each round has a matrix; here, as in the paper, all have
    the same.

    Args:
        hidden_size: Width H of the state.
        rounds: T.
        input_size: Width I of a node's features, up to H.
        edge_types: How many types of edges, with a matrix each; 0: edges have weights, or nothing.
        aggregate: As for `MessagePassing`.
        direction: As for `MessagePassing`.
        device: Of the parameters.
        dtype: Of the parameters.
    """
    return MessagePassing(
        "gru_reset_after",
        hidden_size,
        rounds=rounds,
        input_size=input_size,
        message="edge_types" if edge_types else "linear",
        edge_size=edge_types,
        aggregate=aggregate,
        direction=direction,
        device=device,
        dtype=dtype,
    )


class GCN(nn.Module):
    """Graph convolutional network (Kipf & Welling 2017), their eq. 2: layers, each with weights of its own.

    Formula, of a layer; e is the weight of an edge, or 1, and each node is its own neighbour, with weight 1:
        d_v = Σ_u e_uv
        m^(v) = Σ_u e_uv h_u / √(d_v d_u)
        h^(v) = f(W m^(v) + b)

    Of equations 6.76-6.77 it is the case in which the update forgets its own state: with the same square W in each
    layer it is `MessagePassing` with messages "gcn", rounds for layers, and an `elman` whose U is zero.

    Args:
        input_size: Width I of a node's features.
        sizes: The width of each layer.
        activation: f of all layers but the last, which is linear; by name or as a function.
        self_loops: Each node is its own neighbour. Where an edge leads from a node to itself, its weight is taken;
            where several do, that of one. Otherwise only the edges that are given count.
        dropout: Share of what each layer reads dropped in training.
        direction: As for `MessagePassing`.
        device: Of the parameters.
        dtype: Of the parameters.

    A layer's parameters are `weights[l]`, (width, width before), and `biases[l]`.

    Raises:
        ValueError: An argument that cannot be.
        MissingExtraError: PyTorch Geometric is not installed.
    """

    def __init__(
        self,
        input_size: int,
        sizes: Sequence[int],
        *,
        activation: Any = "relu",
        self_loops: bool = True,
        dropout: float = 0.0,
        direction: Direction = "in",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        geometric()
        _check_choice("direction", direction, DIRECTIONS)
        check_share("dropout", dropout)
        self.input_size, self.sizes = whole("input_size", input_size), widths_of_path("sizes", sizes)
        if not self.sizes:
            raise ValueError("sizes: the width of at least one layer is expected, not []")
        self.output_size = self.sizes[-1]
        self.activation, self.dropout = function_of(activation, "activation"), dropout
        self.direction: Direction = direction
        self.message = NormalisedMessage(self.input_size, 0, self.input_size, self_loops)
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        pairs = zip((self.input_size, *self.sizes), self.sizes, strict=False)
        self.weights = nn.ParameterList(nn.Parameter(torch.empty(out, into, **factory)) for into, out in pairs)
        self.biases = nn.ParameterList(nn.Parameter(torch.empty(out, **factory)) for out in self.sizes)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """W Xavier-uniform, b zero."""
        for W, b in zip(self.weights, self.biases, strict=True):
            fill(W, "xavier")
            b.zero_()

    def forward(self, x: Tensor, edge_index: Tensor, edge_weights: Tensor | None = None) -> Tensor:
        """The states of all nodes after the last layer.

        Args:
            x: (M, I), the nodes' features.
            edge_index: (2, E) int64, sources above targets, nodes counted from 0.
            edge_weights: (E,); 1 each when left out.

        Returns:
            (M, O).

        Raises:
            GraphError: An edge of a node that there is not, or sizes that do not fit.
        """
        check_nodes(x, self.input_size, like=self.weights[0])
        edges = self.message.prepare(Edges.of(edge_index, x, edge_weights, self.direction), x)
        h = x
        for number, (W, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            if number:
                h = self.activation(h)
            h = linear(dropout(h, self.dropout, self.training), W)  # before the sum: it is the narrower as a rule
            h = edges.gathered(self.message(h, edges), "sum") + b
        return h

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.input_size}, {list(self.sizes)}, direction={self.direction}"


class MPNN(nn.Module):
    """Message passing neural network (Gilmer et al. 2017), their section 5: edge network, GRU and Set2Set.

    Formula, with T rounds, x^(v) the features that h_0^(v) is padded from:
        m_t^(v) = Σ_u A(e_uv) h_(t-1)^(u)
        h_t^(v) = GRU(h_(t-1)^(v), m_t^(v))
        y = W_2 ReLU(W_1 Set2Set({W [h_T^(v); x^(v)] + b}) + b_1) + b_2

    Args:
        input_size: Width I of a node's features.
        edge_size: Width F of an edge's, or the number of their types.
        hidden_size: Width H of the state.
        output_size: Width O of y.
        rounds: T.
        steps: Of Set2Set.
        cell: The update; any cell, or the name of one.
        readout: As for `Readout`.
        direction: As for `MessagePassing`.
        device: Of the parameters.
        dtype: Of the parameters.

    Raises:
        ValueError: An argument that cannot be.
        MissingExtraError: PyTorch Geometric is not installed.
    """

    def __init__(
        self,
        input_size: int,
        edge_size: int,
        hidden_size: int,
        output_size: int,
        *,
        rounds: int = 3,
        steps: int = 3,
        cell: Cell | str = "gru",
        readout: str = "set2set",
        direction: Direction = "in",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self.passing = MessagePassing(
            cell,
            hidden_size,
            rounds=rounds,
            input_size=input_size,
            begin="pad" if input_size <= hidden_size else "project",
            message="edge_network",
            edge_size=edge_size,
            direction=direction,
            **factory,
        )
        H = self.passing.output_size
        self.projection = nn.Linear(H + self.passing.input_size, H, **factory)
        self.readout = Readout(readout, H, steps=steps, **factory)
        self.output_size = whole("output_size", output_size)
        self.output = nn.Sequential(
            nn.Linear(self.readout.output_size, H, **factory), nn.ReLU(), nn.Linear(H, self.output_size, **factory)
        )

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        edge_features: Tensor,
        graph: Tensor | None = None,
        graphs: int | None = None,
    ) -> Tensor:
        """y of each graph.

        Args:
            x: (M, I), the nodes' features.
            edge_index: (2, E) int64, sources above targets, nodes counted from 0.
            edge_features: (E, F), or (E,) int64 types.
            graph: As for `Readout`.
            graphs: Likewise.

        Returns:
            (B, O).

        Raises:
            GraphError: An edge of a node that there is not, or sizes that do not fit.
        """
        h, _ = self.passing(x, edge_index, edge_features)
        return self.output(self.readout(self.projection(torch.cat([h, x], 1)), graph, graphs))


def check_nodes(x: Tensor, width: int, *, name: str = "x", like: Tensor | None = None) -> None:
    """Raises GraphError unless x is a row of so many numbers for each node, of the type and place of `like`."""
    if not isinstance(x, Tensor) or x.dim() != 2 or x.shape[1] != width:
        found = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise GraphError(f"{name}: (M, {width}) is expected, a row for each node, not {found}")
    if like is not None and x.device != like.device:
        raise GraphError(f"{name}: it lies on {x.device}, but the parameters on {like.device}")
    if like is not None and x.dtype != like.dtype and not is_autocast(x.device.type):
        raise GraphError(f"{name}: {like.dtype} is expected, as the parameters are, not {x.dtype}")


def _check_choice(name: str, value: Any, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name}: " + unknown("choice", str(value), known))
