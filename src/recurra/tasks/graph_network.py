"""The network over graphs: what stands at the nodes, rounds of messages, a read-out, a class for each graph or node."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from recurra.cells import CATALOGUE
from recurra.data.graphs import Graphs, GraphSchema
from recurra.errors import RecipeError
from recurra.nn.graph import GCN, MPNN, MessagePassing, Readout
from recurra.tasks.model import Network, Width, cell_faults, cell_of, head_of

Share = Annotated[float, Field(ge=0, le=1)]
Kind = Literal["edge_types", "edge_network", "network", "linear", "gcn"]


MOST = 32
"""Networks side by side, at most."""


class GraphModelSettings(BaseModel):
    """The `model.*` settings of graph."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)
    bidirectional: ClassVar[bool] = False

    kind: Literal["messages", "gcn", "mpnn"] = Field(
        default="messages",
        description="messages: any cell over rounds of messages, all with the same weights; gcn: graph convolutions, a "
        "layer for each round (Kipf & Welling 2017); mpnn: an edge network, a cell and a read-out of states and "
        "features (Gilmer et al. 2017)",
    )
    cell: str = Field(
        default="gru",
        description=f"what a node makes of what it is told: a cell, {', '.join(CATALOGUE)}, or file.py:name for one of "
        "your own",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the cell's options")
    members: int = Field(
        default=1,
        ge=1,
        le=MOST,
        description="networks side by side that differ in how they begin, whose probabilities are averaged",
    )
    hidden_size: Width = Field(default=32, description="width of a node's state")
    rounds: Width = Field(default=4, description="rounds of messages; gcn: layers")
    begin: Literal["project", "pad"] = Field(
        default="project", description="how a node's state begins: a linear layer of its features, or these and zeros"
    )
    message: Kind | None = Field(
        default=None,
        description="what a node tells a neighbour: a matrix for each label of edges, a matrix that a network makes of "
        "what stands at the edge, a network of both states and the edge, one matrix, or its state by the degrees "
        "(Kipf & Welling); edge_types where edges have labels alone, edge_network where they have numbers, else "
        "linear, when left out",
    )
    message_size: Width | None = Field(default=None, description="width of a message; hidden_size when left out")
    aggregate: Literal["sum", "mean", "max"] = Field(default="sum", description="what a node makes of several messages")
    direction: Literal["in", "out", "both"] = Field(
        default="in",
        description="directed: whether nodes hear those whose edges lead to them, those to which theirs lead, or both",
    )
    readout: Literal["sum", "mean", "max", "set2set"] | None = Field(
        default=None,
        description="target graph: what is read of the nodes' states; sum, or set2set of mpnn, when left out",
    )
    read: Literal["last", "all"] = Field(
        default="last", description="states that are read: those of the last round, or of all rounds side by side"
    )
    label_dropout: Share = Field(default=0.0, description="share of nodes whose label is hidden in training")
    output_dropout: Share = Field(default=0.0, description="share dropped of what is read, before the head")
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers before the classes")

    @model_validator(mode="after")
    def _what_a_kind_can_have(self) -> "GraphModelSettings":
        for key in NOT_OF.get(self.kind, ()):
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                raise ValueError(f"{key}: kind = {self.kind!r} has no choice of it; it is to be left out")
        if self.readout is None:
            self.readout = "set2set" if self.kind == "mpnn" else "sum"
        return self


NOT_OF = {
    "gcn": ("cell", "options", "begin", "message", "message_size", "aggregate", "read"),
    "mpnn": ("begin", "message", "message_size", "aggregate", "read", "output_dropout", "head"),
}
"""Settings that a kind has no place for."""


@dataclass(frozen=True)
class GraphBatch:
    """B graphs as one whose parts are not connected, of M nodes and E edges.

    Attributes:
        nodes: (M,) int64 labels, -1 for none.
        attributes: (M, A) float32.
        edge_index: (2, E) int64, sources above targets.
        edge_labels: (E,) int64, -1 for none.
        edge_attributes: (E, B) float32.
        graph: (M,) int64, the graph of each node.
        size: B.
        labels: (B,) or (M,) int64, -1 where nothing is known or asked; None where nothing is at all.
    """

    nodes: Tensor
    attributes: Tensor
    edge_index: Tensor
    edge_labels: Tensor
    edge_attributes: Tensor
    graph: Tensor
    size: int
    labels: Tensor | None

    def __len__(self) -> int:
        return self.size

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, int]:
        """What the network is called with."""
        at_edges = self.edge_index, self.edge_labels, self.edge_attributes
        return self.nodes, self.attributes, *at_edges, self.graph, self.size

    @property
    def targets(self) -> Tensor | None:
        """See `labels`."""
        return self.labels

    @property
    def samples(self) -> int:
        """Graphs."""
        return self.size

    @property
    def steps(self) -> int:
        """Nodes."""
        return len(self.nodes)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "GraphBatch":
        """The batch on another device, its numbers in another precision."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("nodes", "edge_index", "edge_labels", "graph", "labels")
            if getattr(self, name) is not None
        }
        for name in ("attributes", "edge_attributes"):
            moved[name] = getattr(self, name).to(device, dtype)
        return replace(self, **moved)


def batch_of(graphs: Graphs, indices: Tensor) -> GraphBatch:
    """The batch of some graphs."""
    chosen = graphs.select(indices)
    return GraphBatch(
        nodes=chosen.nodes,
        attributes=chosen.attributes,
        edge_index=chosen.edge_index,
        edge_labels=chosen.edge_labels,
        edge_attributes=chosen.edge_attributes,
        graph=chosen.graph,
        size=len(chosen),
        labels=chosen.labels,
    )


def settle_message(settings: GraphModelSettings, schema: GraphSchema) -> None:
    """Name the message that fits what stands at edges, where none is named."""
    if settings.message is None and settings.kind == "messages":  # edge_types would not see the numbers
        settings.message = (
            "edge_network" if schema.edge_attributes else "edge_types" if schema.edge_labels else "linear"
        )


class GraphMember(nn.Module):
    """What stands at the nodes, rounds of messages, a read-out, and a linear or multi-layer head.

    Args:
        settings: The `model.*` settings, with `message` settled.
        schema: What the training graphs settled.

    Raises:
        RecipeError: A setting that cannot be had.
    """

    def __init__(self, settings: GraphModelSettings, schema: GraphSchema) -> None:
        super().__init__()
        self.settings, self.schema = settings, schema
        self.labels, self.edge_labels = len(schema.node_labels), len(schema.edge_labels)
        self.features = self.labels + schema.attributes or 1
        self.edge_features = self.edge_labels + schema.edge_attributes
        for name, width in (("attribute", schema.attributes), ("edge_attribute", schema.edge_attributes)):
            self.register_buffer(f"{name}_mean", torch.zeros(width))
            self.register_buffer(f"{name}_deviation", torch.ones(width))
        self.recurrent: Any = self._layer()
        if settings.kind == "mpnn":  # which reads the graph itself
            return
        states = settings.rounds + 1 if settings.read == "all" else 1
        width = states * self.recurrent.output_size
        self.readout = Readout(settings.readout or "sum", width) if schema.target == "graph" else None
        width = width if self.readout is None else self.readout.output_size
        self.head, width = head_of(width, settings.head, settings.output_dropout)
        self.output = nn.Linear(width, len(schema.classes))

    def _layer(self) -> nn.Module:
        s = self.settings
        if s.kind == "gcn":
            return GCN(self.features, [s.hidden_size] * s.rounds, direction=s.direction)
        if s.kind == "mpnn" and self.schema.target == "node":
            raise RecipeError("model.kind: mpnn reads whole graphs, and nodes have classes here; messages is expected")
        if s.kind == "mpnn" and not self.edge_features:
            raise RecipeError(
                "model.kind: mpnn reads what stands at edges, which is nothing here; messages is expected"
            )
        sizes = {"edge_types": self.edge_labels, "gcn": 0}
        if s.message == "edge_types" and not self.edge_labels:
            raise RecipeError("model.message: edge_types has a matrix for each label of edges, and they have none here")
        if s.message == "edge_network" and not self.edge_features:
            raise RecipeError("model.message: edge_network reads what stands at edges, which is nothing here")
        with cell_faults():
            cell = cell_of(s.cell, s.options)
            if s.kind == "mpnn":
                sizes_of_all = (self.features, self.edge_features, s.hidden_size, len(self.schema.classes))
                read = s.readout or "set2set"
                return MPNN(*sizes_of_all, rounds=s.rounds, cell=cell, readout=read, direction=s.direction)
            return MessagePassing(
                cell,
                s.hidden_size,
                rounds=s.rounds,
                input_size=self.features,
                begin=s.begin,
                message=s.message or "linear",
                edge_size=sizes.get(s.message or "", self.edge_features),
                message_size=s.message_size,
                aggregate=s.aggregate,
                direction=s.direction,
            )

    @torch.no_grad()
    def learn_scales(self, train: Graphs) -> None:
        """Mean and deviation of the training part's numbers; those that are 0 and 1 alone stay as they are."""
        for name, values in (("attribute", train.attributes), ("edge_attribute", train.edge_attributes)):
            if not values.numel():
                continue
            mean, deviation = values.double().mean(0), values.double().std(0, correction=0)
            plain = ((values == 0) | (values == 1)).all(0) | (deviation == 0)
            getattr(self, f"{name}_mean").copy_(torch.where(plain & (deviation > 0), 0.0, mean))
            getattr(self, f"{name}_deviation").copy_(torch.where(plain, 1.0, deviation))

    def forward(
        self,
        nodes: Tensor,
        attributes: Tensor,
        edge_index: Tensor,
        edge_labels: Tensor,
        edge_attributes: Tensor,
        graph: Tensor,
        size: int,
        state: Any = None,
        rule: Any = None,
    ) -> tuple[Tensor, None]:
        """Scores of the classes of every graph, or of every node.

        Args:
            nodes: As `GraphBatch` has it, and so all but the last two.
            attributes: Numbers of nodes.
            edge_index: Sources above targets.
            edge_labels: Labels of edges.
            edge_attributes: Numbers of edges.
            graph: The graph of each node.
            size: How many graphs.
            state: Nothing: a graph begins with what stands at its nodes.
            rule: Nothing but backpropagation goes through graphs.

        Returns:
            (B, classes) or (M, classes); None.
        """
        x, edges = self.at_nodes(nodes, attributes), self.at_edges(edge_labels, edge_attributes)
        if self.settings.kind == "mpnn":
            return self.recurrent(x, edge_index, edges, graph, size), None
        if self.settings.kind == "gcn":
            h = self.recurrent(x, edge_index).relu()
        elif self.settings.read == "all":
            h = self.recurrent.rounds_of(x, edge_index, edges).transpose(0, 1).flatten(1)
        else:
            h, _ = self.recurrent(x, edge_index, edges)
        if self.readout is not None:
            h = self.readout(h, graph, size)
        return self.output(self.head(h)), None

    def at_nodes(self, labels: Tensor, attributes: Tensor) -> Tensor:
        """(M, features): a 1 for the node's label beside its numbers; a 1 alone where nodes have nothing."""
        like, parts = next(self.parameters()), []
        if self.labels:
            if self.settings.label_dropout and self.training:
                hidden = torch.rand(labels.shape, device=labels.device) < self.settings.label_dropout
                labels = labels.masked_fill(hidden, -1)
            parts.append(_one_hot(labels, self.labels, like))
        if attributes.shape[1]:
            parts.append(_scaled(attributes, self.attribute_mean, self.attribute_deviation))
        return torch.cat(parts, 1) if parts else like.new_ones(len(labels), 1)

    def at_edges(self, labels: Tensor, attributes: Tensor) -> Tensor | None:
        """What stands at edges, as the message takes it: labels, or a 1 for each beside the edge's numbers."""
        if self.settings.message == "edge_types":
            return labels
        if "gcn" in (self.settings.message, self.settings.kind) or not self.edge_features:
            return None
        like = next(self.parameters())
        parts = [_one_hot(labels, self.edge_labels, like)] if self.edge_labels else []
        if attributes.shape[1]:
            parts.append(_scaled(attributes, self.edge_attribute_mean, self.edge_attribute_deviation))
        return torch.cat(parts, 1)


class GraphNetwork(Network):
    """One network over graphs, or several side by side that differ in how they begin.

    Args:
        settings: The `model.*` settings, with `message` settled.
        schema: What the training graphs settled.

    Raises:
        RecipeError: A setting that cannot be had.
    """

    def __init__(self, settings: GraphModelSettings, schema: GraphSchema) -> None:
        super().__init__()
        settle_message(settings, schema)
        self.settings, self.schema = settings, schema
        self.members = nn.ModuleList(GraphMember(settings, schema) for _ in range(settings.members))

    def learn_scales(self, train: Graphs) -> None:
        """See `GraphMember.learn_scales`."""
        for member in self.members:
            cast(GraphMember, member).learn_scales(train)

    @property
    def recurrent(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What stands where other tasks have layers along time; the first member's."""
        return self.members[0].recurrent

    @property
    def both_ways(self) -> bool:
        """A graph is gone through in rounds, in no direction of time."""
        return False

    @property
    def words(self) -> str:
        """See `Network.words`."""
        s = self.settings
        read = f", read by {s.readout}" if self.schema.target == "graph" else ""
        read += f", mean of {s.members} networks" if s.members > 1 else ""
        if s.kind == "gcn":
            return f"{s.rounds} graph convolution{'s' * (s.rounds > 1)} of {s.hidden_size}{read}"
        rounds = f"{s.rounds} round{'s' * (s.rounds > 1)}"
        if s.kind == "mpnn":
            return f"{s.cell} {s.hidden_size} over graphs, {rounds} of an edge network{read}"
        return f"{s.cell} {s.hidden_size} over graphs, {rounds} of {s.message} messages{read}"

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """See `Network.by_symbol`: W of messages and of what the cell reads, U of its state."""
        found: dict[str, list[Tensor]] = {"W": [], "U": [], "V": [], "embedding": []}
        for name, tensor in tensors.items():
            if tensor.dim() < 2:
                continue
            if "update." in name:
                found["U" if "weight_hh" in name else "W"].append(tensor)
            elif "message." in name or "recurrent.weights." in name:
                found["W"].append(tensor)
            elif name.endswith("recurrent.projection.weight") and self.settings.kind == "messages":
                found["embedding"].append(tensor)
            else:
                found["V"].append(tensor)
        return found | {"head": found["V"]}

    def forward(self, *batch: Any) -> tuple[Tensor, None]:
        """Scores of the classes by every member; arguments are those of `GraphMember.forward`.

        Returns:
            (members, B, classes) or (members, M, classes); None.
        """
        return torch.stack([member(*batch)[0] for member in self.members]), None


def _one_hot(labels: Tensor, count: int, like: Tensor) -> Tensor:
    """(…, count), a 1 for each label, zeros for -1."""
    return (labels.unsqueeze(-1) == torch.arange(count, device=labels.device)).to(like.dtype)


def _scaled(values: Tensor, mean: Any, deviation: Any) -> Tensor:
    return (values - mean) / deviation
