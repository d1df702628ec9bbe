"""Messages along the edges of graphs, f of equation 6.76: what a node is told by its neighbours."""

import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, one_hot

from recurra.engine.eager import is_readable
from recurra.errors import MissingExtraError, RecurraError, unknown
from recurra.nn.arguments import whole
from recurra.nn.initialise import fill

Direction = Literal["in", "out", "both"]
Aggregate = Literal["sum", "mean", "max"]

DIRECTIONS: tuple[Direction, ...] = ("in", "out", "both")
AGGREGATES: tuple[Aggregate, ...] = ("sum", "mean", "max")


class GraphError(RecurraError, ValueError):
    """A graph that cannot be: an edge of a node that there is not, or features of another number or width."""


def geometric() -> ModuleType:
    """PyTorch Geometric.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)  # of its own classes, as it is imported
            import torch_geometric
    except ImportError as error:
        raise MissingExtraError("networks over graphs need another package: pip install 'recurra[graph]'") from error
    return torch_geometric


@dataclass(frozen=True)
class Edges:
    """The edges of a graph, or of many, along which messages go.

    Attributes:
        source: (E,) int64, the node that each message comes from, u.
        target: (E,) int64, the node that it goes to, v.
        features: What stands at each edge, e: (E, F) or (E,) numbers, (E,) int64 types, or None.
        nodes: How many nodes there are, M.
    """

    source: Tensor
    target: Tensor
    features: Tensor | None
    nodes: int

    @classmethod
    def of(cls, edge_index: Any, x: Tensor, features: Any = None, direction: Direction = "in") -> "Edges":
        """Edges as they are given.

        Args:
            edge_index: (2, E) int64, sources above targets.
            x: The nodes' features, a row for each.
            features: What stands at each edge, a row for each.
            direction: "in", messages go from source to target; "out", from target to source; "both", both ways, with
                the same features, and once along an edge that leads from a node to itself.

        Raises:
            GraphError: An edge of a node that there is not, another shape or type, or another number of features.
        """
        if not isinstance(edge_index, Tensor) or edge_index.dim() != 2 or len(edge_index) != 2:
            found = tuple(edge_index.shape) if isinstance(edge_index, Tensor) else type(edge_index).__name__
            raise GraphError(f"edge_index: a tensor (2, E) is expected, sources above targets, not {found}")
        if edge_index.dtype != torch.int64:
            raise GraphError(f"edge_index: int64 is expected, not {str(edge_index.dtype).removeprefix('torch.')}")
        for name, v in (("edge_index", edge_index), ("edge_features", features)):
            if isinstance(v, Tensor) and v.device != x.device:
                raise GraphError(f"{name}: it lies on {v.device}, but the nodes' features on {x.device}")
        if is_readable(edge_index):
            _check_ends(edge_index, len(x))
        if features is not None and (not isinstance(features, Tensor) or features.shape[:1] != edge_index.shape[1:]):
            found = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise GraphError(f"edge_features: a row for each of {edge_index.shape[1]:,} edges is expected, not {found}")
        source, target = edge_index.flip(0) if direction == "out" else edge_index
        if direction == "both":
            back = (source != target).nonzero().squeeze(1)
            features = None if features is None else torch.cat([features, features[back]])
            source, target = torch.cat([source, target[back]]), torch.cat([target, source[back]])
        return cls(source, target, features, len(x))

    def gathered(self, messages: Tensor, aggregate: Aggregate) -> Tensor:
        """What each node is told, (M, width), from the messages, (E, width); zeros where it has no neighbour."""
        return geometric().utils.scatter(messages, self.target, dim_size=self.nodes, reduce=aggregate)


def _check_ends(edge_index: Tensor, nodes: int) -> None:
    absent = ((edge_index < 0) | (edge_index >= nodes)).nonzero()
    if len(absent):
        edge = int(absent[:, 1].min())
        for name, node in zip(("source", "target"), edge_index[:, edge].tolist(), strict=True):
            if not 0 <= node < nodes:
                raise GraphError(
                    f"edge {edge}: its {name} is node {node}, of {nodes:,} nodes, which are counted from 0"
                )


class Message(nn.Module, ABC):
    """A kind of message, f(h_v, h_u, e) of equation 6.76.

    Attributes:
        size: Width of a message.
    """

    size: int

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """The edges with what is the same in all rounds computed from their features, of the type of `like`."""
        return edges

    @abstractmethod
    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """The messages, (E, size), from the states of all nodes, (M, H), and the edges as they were prepared."""


class LinearMessage(Message):
    """A matrix for the neighbour's state, and one for what stands at the edge.

    Formula:
        f(h_v, h_u, e) = W h_u + W_e e       with edge features of width F
        f(h_v, h_u, e) = e W h_u             without: e is a weight of each edge, or 1
    """

    def __init__(self, hidden_size: int, edge_size: int, size: int, **factory: Any) -> None:
        super().__init__()
        self.size, self.edge_size = size, edge_size
        self.weight = nn.Parameter(torch.empty(size, hidden_size, **factory))
        self.weight_edge = nn.Parameter(torch.empty(size, edge_size, **factory)) if edge_size else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """All Xavier-uniform."""
        for parameter in self.parameters():
            fill(parameter, "xavier")

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """W_e e, or the weights of the edges."""
        if self.weight_edge is None:
            return replace(edges, features=weights_of(edges, like))
        return replace(edges, features=linear(features_of(edges, self.edge_size, like), self.weight_edge))

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        told = linear(h, self.weight).index_select(0, edges.source)
        if edges.features is None:
            return told
        return edges.features * told if self.weight_edge is None else told + edges.features


class TypedMessage(Message):
    """A matrix for each type of edge (Li et al. 2016).

    Formula:
        f(h_v, h_u, e) = W_e h_u
    """

    def __init__(self, hidden_size: int, edge_size: int, size: int, **factory: Any) -> None:
        super().__init__()
        self.size, self.types = size, whole("edge_size", edge_size)
        self.weight = nn.Parameter(torch.empty(self.types, size, hidden_size, **factory))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Each Xavier-uniform."""
        for weight in self.weight:
            fill(weight, "xavier")

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """The row of each message among those of all nodes and types."""
        return replace(edges, features=edges.source * self.types + types_of(edges, self.types))

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        assert edges.features is not None
        by_type = linear(h, self.weight.flatten(0, 1)).view(len(h) * self.types, self.size)
        return by_type.index_select(0, edges.features)


class NetworkOfEdge(Message):
    """A matrix that a network makes of what stands at the edge (Gilmer et al. 2017, section 5, "edge network").

    Formula:
        f(h_v, h_u, e) = A(e) h_u
        A(e) = W_2 ReLU(W_1 e + b_1) + b_2    as a matrix
    """

    def __init__(self, hidden_size: int, edge_size: int, size: int, width: int | None = None, **factory: Any) -> None:
        super().__init__()
        self.size, self.edge_size, self.hidden_size = size, whole("edge_size", edge_size), hidden_size
        width = hidden_size if width is None else width
        self.network = nn.Sequential(
            nn.Linear(self.edge_size, width, **factory), nn.ReLU(), nn.Linear(width, size * hidden_size, **factory)
        )
        with torch.no_grad():
            for parameter in self.network[2].parameters():
                parameter.mul_(hidden_size**-0.5)  # so that A(e) h is about as large as h, whatever the width

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """A(e) of each edge, (E, size, H)."""
        told = self.network(features_of(edges, self.edge_size, like))
        return replace(edges, features=told.view(len(told), self.size, self.hidden_size))

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        assert edges.features is not None
        return (edges.features @ h.index_select(0, edges.source).unsqueeze(2)).squeeze(2)


class NetworkOfPair(Message):
    """A network of both states and what stands at the edge: f in general (Battaglia et al. 2018).

    Formula:
        f(h_v, h_u, e) = W_2 ReLU(W_1 [h_v; h_u; e] + b_1) + b_2
    """

    def __init__(self, hidden_size: int, edge_size: int, size: int, **factory: Any) -> None:
        super().__init__()
        self.size, self.edge_size = size, edge_size
        self.first = nn.Linear(2 * hidden_size + edge_size, hidden_size, **factory)
        self.second = nn.Linear(hidden_size, size, **factory)

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """The part of W_1 that is for e, and b_1."""
        H = (self.first.in_features - self.edge_size) // 2
        if not self.edge_size:
            _check_none(edges, "network")
            return replace(edges, features=self.first.bias.expand(len(edges.source), -1))
        told = features_of(edges, self.edge_size, like)
        return replace(edges, features=linear(told, self.first.weight[:, 2 * H :], self.first.bias))

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        assert edges.features is not None
        H = h.shape[1]
        own, others = linear(h, self.first.weight[:, :H]), linear(h, self.first.weight[:, H : 2 * H])
        inner = own.index_select(0, edges.target) + others.index_select(0, edges.source) + edges.features
        return self.second(inner.relu())


class NormalisedMessage(Message):
    """The neighbour's state, by the degrees of both nodes; each node is its own neighbour (Kipf & Welling 2017).

    Formula, e the weight of an edge, or 1; that of a node with itself is 1 unless it is given:
        f(h_v, h_u, e) = e h_u / √(d_v d_u)
        d_v = Σ_u e_uv
    """

    def __init__(self, hidden_size: int, edge_size: int, size: int, self_loops: bool = True) -> None:
        super().__init__()
        if edge_size:
            raise ValueError(f"edge_size: messages of kind 'gcn' know weights of edges alone, so 0, not {edge_size}")
        self.size, self.self_loops = hidden_size, self_loops

    def prepare(self, edges: Edges, like: Tensor) -> Edges:
        """The nodes' edges with themselves put in, and the factor of each edge."""
        weights = weights_of(edges, like)
        if weights is not None and is_readable(weights) and (weights < 0).any():
            edge = int((weights < 0).nonzero()[0, 0])
            raise GraphError(f"edge_features: edge {edge} weighs {float(weights[edge]):g}; 0 or above is expected")
        index, factor = geometric().nn.conv.gcn_conv.gcn_norm(
            torch.stack([edges.source, edges.target]),
            None if weights is None else weights.squeeze(1),
            edges.nodes,
            add_self_loops=self.self_loops,
            dtype=like.dtype,
        )
        return Edges(index[0], index[1], factor.unsqueeze(1), edges.nodes)

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        assert edges.features is not None
        return edges.features * h.index_select(0, edges.source)


class GivenMessage(Message):
    """A module of your own, called with h_v, h_u, (E, H) each, and e as it was given, if it was."""

    def __init__(self, module: nn.Module, size: int) -> None:
        super().__init__()
        self.module, self.size = module, size

    def forward(self, h: Tensor, edges: Edges) -> Tensor:
        """See `Message.forward`."""
        given = () if edges.features is None else (edges.features,)
        told = self.module(h.index_select(0, edges.target), h.index_select(0, edges.source), *given)
        expected = (len(edges.source), self.size)
        if not isinstance(told, Tensor) or tuple(told.shape) != expected:
            found = tuple(told.shape) if isinstance(told, Tensor) else type(told).__name__
            raise ValueError(f"message: a tensor {expected} is expected of it, not {found}")
        return told


KINDS: dict[str, type[Message]] = {
    "linear": LinearMessage,
    "edge_types": TypedMessage,
    "edge_network": NetworkOfEdge,
    "network": NetworkOfPair,
    "gcn": NormalisedMessage,
}
"""Messages by name."""


def message_of(kind: Any, hidden_size: int, edge_size: int, size: int, **factory: Any) -> Message:
    """A message by its name, or made of a module.

    Raises:
        ValueError: An unknown name, or a size that cannot be.
    """
    if isinstance(kind, Message):
        return kind
    if isinstance(kind, nn.Module):
        return GivenMessage(kind, size)
    if kind not in KINDS:
        raise ValueError("message: " + unknown("kind", str(kind), KINDS))
    if kind == "gcn":
        return NormalisedMessage(hidden_size, edge_size, size)
    return KINDS[kind](hidden_size, edge_size, size, **factory)


def features_of(edges: Edges, size: int, like: Tensor) -> Tensor:
    """Edge features of a width, (E, F); of types, a row with a single 1 for each.

    Raises:
        GraphError: There are none, or of another width.
    """
    e = edges.features
    if e is not None and e.dtype == torch.int64 and e.dim() == 1:
        return one_hot(types_of(edges, size), size).to(like.dtype)
    if e is None or e.dim() != 2 or e.shape[1] != size or not e.is_floating_point():
        raise GraphError(f"edge_features: (E, {size}) numbers, or (E,) types, are expected, not {told(e)}")
    return e.to(like.dtype)


def types_of(edges: Edges, types: int) -> Tensor:
    """Types of edges, (E,).

    Raises:
        GraphError: There are none, or one that is not known.
    """
    e = edges.features
    if e is None or e.dtype != torch.int64 or e.dim() != 1:
        raise GraphError(f"edge_features: (E,) int64 are expected, a type of each edge, not {told(e)}")
    if is_readable(e):
        wrong = ((e < 0) | (e >= types)).nonzero()
        if len(wrong):
            edge = int(wrong[0])
            raise GraphError(
                f"edge_features: edge {edge} is of type {int(e[edge])}, of {types} types, which are counted from 0"
            )
    return e


def weights_of(edges: Edges, like: Tensor) -> Tensor | None:
    """Weights of edges, (E, 1), if there are any.

    Raises:
        GraphError: They are no numbers, or several for each edge.
    """
    e = edges.features
    if e is None:
        return None
    if not e.is_floating_point() or e.numel() != len(e):
        raise GraphError(f"edge_features: (E,) numbers are expected, a weight of each edge, not {told(e)}")
    return e.to(like.dtype).reshape(-1, 1)


def _check_none(edges: Edges, kind: str) -> None:
    if edges.features is not None:
        raise GraphError(f"edge_features: none are expected, as edge_size is 0, not {told(edges.features)}")


def told(given: Any) -> str:
    """What was given in the place of a tensor, in words."""
    if isinstance(given, Tensor):
        return f"{str(given.dtype).removeprefix('torch.')} {tuple(given.shape)}"
    return "none" if given is None else type(given).__name__
