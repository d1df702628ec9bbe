"""The network behind the tasks: input, recurrent layers, pooling, head; and the `model.*` settings that describe it."""

import functools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from recurra.cells import CATALOGUE, find
from recurra.cells.check import FAULTS_OF_CODE, OptionError
from recurra.cells.form import Cell
from recurra.data.sequences import PADDING, Schema, Sequences
from recurra.data.vectors import read_vectors
from recurra.errors import CellError, RecipeError, unknown
from recurra.learn.regularise import Hidden
from recurra.learn.rule import Rule
from recurra.math import ACTIVATIONS
from recurra.nn import NTM, TDNN, Recurrent
from recurra.nn.attention import AttentionPool
from recurra.nn.external_memory import DRAWN_ONCE
from recurra.nn.initialise import checked

Width = Annotated[int, Field(ge=1)]
LayersT = TypeVar("LayersT", Recurrent, NTM)
Normalise = Literal["auto", "none", "feature", "global", "unit"]


class RecurrentSettings(BaseModel):
    """The `model.*` settings of recurrent layers: what the networks of all tasks share."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    cell: str = Field(default="gru", description=f"a cell, {', '.join(CATALOGUE)}, or file.py:name for one of your own")
    options: dict[str, Any] = Field(
        default_factory=dict, description="the cell's options, such as forget_bias or activation"
    )
    hidden_size: Width | list[Width] = Field(
        default=64, description="width of the state; one number, or one for each layer"
    )
    num_layers: int = Field(default=1, ge=1, description="recurrent layers")
    bidirectional: bool | None = Field(
        default=None,
        description="run each layer in both directions; when left out, only where there is one output a sequence, "
        "since an output at every step would read the future",
    )
    dropout: float = Field(default=0.0, ge=0, le=1, description="share dropped between layers")
    input_dropout: float = Field(
        default=0.0, ge=0, le=1, description="share of each layer's inputs dropped, alike at every step"
    )
    recurrent_dropout: float = Field(
        default=0.0, ge=0, le=1, description="share of the recurrent state dropped, alike at every step"
    )
    weight_drop: float = Field(default=0.0, ge=0, le=1, description="share of U's entries dropped")
    zoneout: float = Field(default=0.0, ge=0, le=1, description="share of the state's units held at a step")
    skip: Literal["none", "residual", "highway"] = Field(
        default="none", description="connection around each layer but the first"
    )
    learn_initial_state: bool = Field(default=False, description="make the state before the first step a parameter")
    input_layers: list[Width] = Field(
        default_factory=list, description="widths of feed-forward layers between the input and the recurrent layers"
    )
    init: str | dict[str, float | str] = Field(
        default_factory=dict,
        description='how parameters begin: U = "identity", U_o = "orthogonal*1.2", b_f = 2.0, chrono = 784, or one '
        "name for all of them; keys and names on the page of conventions",
    )
    embedding_size: int = Field(default=100, ge=1, description="tokens: width of a symbol's vector")
    embedding_dropout: float = Field(
        default=0.0, ge=0, le=1, description="tokens: share of the vectors' entries dropped"
    )
    word_dropout: float = Field(
        default=0.0, ge=0, le=1, description="tokens: share of symbols taken for the unknown one in training"
    )
    output_dropout: float = Field(default=0.0, ge=0, le=1, description="share dropped before the head")

    @model_validator(mode="after")
    def _a_width_for_each_layer(self) -> "RecurrentSettings":
        if isinstance(self.hidden_size, list) and len(self.hidden_size) != self.num_layers:
            raise ValueError(
                f"hidden_size has {len(self.hidden_size)} widths, num_layers is {self.num_layers}; one number is "
                "expected, or one for each layer"
            )
        return self


DELAY = 5
"""Steps that each layer of a time-delay network reads where nothing is said."""

OF_A_RECURRENCE = ("input_dropout", "recurrent_dropout", "weight_drop", "zoneout", "skip", "learn_initial_state",
                   "input_layers", "init", "options")  # fmt: skip
"""Settings that a time-delay network has no place for."""

OF_A_MEMORY = ("memory", "read_heads", "write_heads", "shift")
"""Settings of a neural Turing machine alone."""


class LayerSettings(RecurrentSettings):
    """The `model.*` settings where a time-delay network or a neural Turing machine may stand in place of recurrent
    layers."""

    kind: Literal["recurrent", "tdnn", "ntm"] = Field(
        default="recurrent",
        description="what runs along the sequence: recurrent layers of model.cell; tdnn: a time-delay network, whose "
        "layers read the last few steps alone; ntm: a neural Turing machine, such layers with a memory beside them",
    )
    delays: list[Width] | None = Field(
        default=None, description=f"tdnn: steps that each layer reads, such as [5, 5]; {DELAY} each when left out"
    )
    activation: str = Field(default="tanh", description=f"tdnn: of its layers, {', '.join(ACTIVATIONS)}")
    memory: tuple[Width, Width] | None = Field(
        default=None, description="ntm: places of the memory and the width of each; [128, 20] when left out"
    )
    read_heads: Width | None = Field(default=None, description="ntm: heads that read; 1 when left out")
    write_heads: Width | None = Field(default=None, description="ntm: heads that write; 1 when left out")
    shift: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="ntm: places that a head can move by in a step, either way; 1 when left out"
    )

    @property
    def has_delays(self) -> bool:
        """Whether a time-delay network is described."""
        return self.kind == "tdnn"

    @property
    def has_memory(self) -> bool:
        """Whether a neural Turing machine is described."""
        return self.kind == "ntm"

    @model_validator(mode="after")
    def _what_a_memory_needs(self) -> "LayerSettings":
        if not self.has_memory:
            for key in OF_A_MEMORY:
                if getattr(self, key) is not None:
                    raise ValueError(f'{key}: is of kind = "ntm"; kind is {self.kind!r}')
            return self
        if self.bidirectional:
            raise ValueError(f"bidirectional: kind = {self.kind!r} goes forward alone; false is expected")
        for key in DRAWN_ONCE:
            if getattr(self, key):
                raise ValueError(
                    f"{key}: is drawn once a sequence, and kind = {self.kind!r} takes one step at a time; it is to be "
                    "left out"
                )
        return self

    @model_validator(mode="after")
    def _what_a_tdnn_can_have(self) -> "LayerSettings":
        if not self.has_delays:
            if self.delays is not None:
                raise ValueError(f'delays: are those of kind = "tdnn"; kind is {self.kind!r}')
            return self
        for key in OF_A_RECURRENCE:
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                raise ValueError(
                    f"{key}: is of recurrent layers, and kind = {self.kind!r} has none; it is to be left out"
                )
        if self.bidirectional:
            raise ValueError(f"bidirectional: kind = {self.kind!r} reads the past alone; false is expected")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: {unknown('function', self.activation, ACTIVATIONS)}")
        self.delays = [DELAY] * self.num_layers if self.delays is None else self.delays
        if len(self.delays) != self.num_layers:
            raise ValueError(f"delays: {len(self.delays)} for {self.num_layers} layers (model.num_layers); one each")
        return self


class ModelSettings(LayerSettings):
    """The `model.*` settings of tasks whose network is a `SequenceModel`."""

    normalise: Normalise = Field(
        default="auto",
        description="numbers: feature (mean 0, deviation 1 each), global (over all), unit (0 to 1 over all), none; "
        "auto: global for images, else feature",
    )
    pool: Literal["last", "mean", "max", "attention"] = Field(
        default="last",
        description="sequence to vector: the last state, mean or largest; attention: a mean whose weights are learnt, "
        "and shown in the report",
    )
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers between pooling and output")


class Network(nn.Module):
    """What training needs of a network, whatever the task.

    Attributes:
        recurrent: The recurrent layers that a learning rule goes through, or the time-delay network or neural Turing
            machine in their place.
        embedding: The vectors of symbols that these layers read; None for numbers.
        keep_hidden: Whether a call leaves in `hidden` what the last recurrent layer put out, for a loss to read.
        hidden: That of the last call, where it is kept.
    """

    recurrent: Recurrent | TDNN | NTM
    embedding: nn.Embedding | None

    def __init__(self) -> None:
        super().__init__()
        self.keep_hidden = False
        self.hidden: Hidden | None = None

    @property
    def both_ways(self) -> bool:
        """What `model.bidirectional` came to."""
        return self.recurrent.bidirectional

    @property
    def words(self) -> str:
        """What the network is, in a few words; empty where the settings of its layers tell."""
        return ""

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Views of the parameters by symbol: those of the recurrent layers (`Recurrent.by_symbol`); "V" (eq. 6.9) or
        "head", the matrices behind them; "embedding".

        Args:
            tensors: Named as the parameters and of their shapes.
        """
        recurrent = {name.removeprefix("recurrent."): v for name, v in tensors.items() if name.startswith("recurrent.")}
        after = [v for name, v in tensors.items() if name.startswith(("head.", "output.")) and v.dim() > 1]
        found = {**self.recurrent.by_symbol(recurrent), "V": after, "head": after}
        return found if self.embedding is None else {**found, "embedding": [tensors["embedding.weight"]]}


class SequenceModel(Network):
    """Sequence in, one vector of outputs a sequence, or one a step.

    Input (an embedding, or numbers brought to a common scale), recurrent layers, pooling (eqs 6.20, 6.21; none where
    there is an output at every step, eq. 6.22), then a linear or multi-layer head.

    Args:
        settings: The `model.*` settings.
        outputs: Width of the output.
        input_size: Values a step, for numbers.
        vocabulary_size: Symbols, for tokens; 0 for numbers.
        per_step: An output at every step instead of one a sequence.
    """

    mean: Tensor
    deviation: Tensor
    target_mean: Tensor
    target_deviation: Tensor

    def __init__(
        self,
        settings: ModelSettings,
        outputs: int,
        *,
        input_size: int = 0,
        vocabulary_size: int = 0,
        per_step: bool = False,
    ) -> None:
        super().__init__()
        self.pool = "none" if per_step else settings.pool
        self.word_dropout = settings.word_dropout
        self.embedding = embedding(vocabulary_size, settings.embedding_size) if vocabulary_size else None
        if vocabulary_size:
            input_size = settings.embedding_size
        self.embedding_dropout = nn.Dropout(settings.embedding_dropout)
        self.register_buffer("mean", torch.zeros(input_size))
        self.register_buffer("deviation", torch.ones(input_size))
        self.register_buffer("target_mean", torch.zeros(outputs))
        self.register_buffer("target_deviation", torch.ones(outputs))
        self.recurrent = layers_of(settings, input_size, forward_only=per_step)
        width = self.recurrent.output_size
        self.attention = AttentionPool(width) if self.pool == "attention" else None
        self.head, width = head_of(width, settings.head, settings.output_dropout)
        self.output = nn.Linear(width, outputs)

    def scale_from(self, data: Sequences, how: Normalise) -> None:
        """Learn from the training part how to bring numbers to a common scale."""
        if self.embedding is not None:
            return
        values = data.values
        if how == "auto":
            how = "global" if values.dtype == torch.uint8 else "feature"
        mean, deviation = scale(values, how)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def inputs(self, x: Tensor) -> Tensor:
        """What the first recurrent layer reads: (T, B, width)."""
        if self.embedding is None:
            return (x - self.mean) / self.deviation
        if self.word_dropout and self.training:
            dropped = (torch.rand(x.shape, device=x.device) < self.word_dropout) & (x != PADDING)
            x = x.masked_fill(dropped, 1)
        return self.embedding_dropout(self.embedding(x))

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """Outputs and final state.

        Args:
            x: Numbers (T, B, D), or token indices (T, B).
            lengths: (B,) or None where all have T steps.
            state: The recurrent layers' state to begin with.
            rule: What finds the gradient of the recurrent layers; automatic differentiation where None.

        Returns:
            (B, outputs), or (T, B, outputs) per step; the recurrent layers' final state.
        """
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        output, final = run(self.inputs(x), state, lengths=lengths)
        return self.said(output, final, lengths), final

    def said(self, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
        """What the network puts out, made of the recurrent layers' output and final state: pooling and head."""
        dropout, *layers = self.head
        seen = dropout(self._pooled(output, final, lengths))
        if self.keep_hidden:
            self.hidden = Hidden(output, seen if self.pool == "none" else output, lengths)
        for layer in layers:
            seen = layer(seen)
        return self.output(seen)

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """As `Network.by_symbol`, and "attention", the matrices of the pooling."""
        found = super().by_symbol(tensors)
        if self.attention is not None:
            found["attention"] = [tensors["attention.hidden.weight"], tensors["attention.query.weight"]]
        return found

    @torch.no_grad()
    def weights(self, x: Tensor, lengths: Tensor | None = None) -> Tensor | None:
        """How much each step counts in the pooling by attention, (T, B); None with any other pooling.

        Args:
            x: See `forward`.
            lengths: See `forward`.
        """
        if self.attention is None:
            return None
        output, _ = self.recurrent(self.inputs(x), lengths=lengths)
        return self.attention(output, lengths)[1]

    def _pooled(self, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
        """One vector a sequence; padding does not count."""
        if self.pool == "none":
            return output
        if self.pool == "last":
            return last_output(self.recurrent, output, final, lengths)
        if self.attention is not None:
            return self.attention(output, lengths)[0]
        if lengths is None:
            return output.mean(0) if self.pool == "mean" else output.amax(0)
        if self.pool == "mean":
            return output.sum(0) / lengths.to(output).unsqueeze(-1)
        padded = torch.arange(len(output), device=output.device).unsqueeze(1) >= lengths.to(output.device)
        return output.masked_fill(padded.unsqueeze(-1), -torch.inf).amax(0)


def build(settings: ModelSettings, schema: Schema, outputs: int, per_step: bool = False) -> SequenceModel:
    """The network for data of this schema."""
    tokens = schema.input == "tokens"
    return SequenceModel(
        settings,
        outputs,
        input_size=0 if tokens else len(schema.features),
        vocabulary_size=len(schema.vocabulary) if tokens else 0,
        per_step=per_step,
    )


def embedding(symbols: int, width: int) -> nn.Embedding:
    """Vectors for so many symbols; that of padding is zero and stays so."""
    found = nn.Embedding(symbols, width, padding_idx=PADDING)
    with torch.no_grad():  # PyTorch's deviation of 1 drowns what words have in common for the first epochs
        found.weight.mul_(0.1)
    return found


def head_of(width: int, hidden: Sequence[int], dropout: float) -> tuple[nn.Sequential, int]:
    """Hidden layers of those widths before what a network puts out, dropout before each and behind the last.

    Returns:
        The layers, (…, width) -> (…, new width); the new width.
    """
    layers: list[nn.Module] = [nn.Dropout(dropout)]
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
        width = size
    return nn.Sequential(*layers), width


@contextmanager
def cell_faults() -> Iterator[None]:
    """What is wrong with a cell, its options or a layer's arguments, as faults of the settings.

    Raises:
        RecipeError: In place of CellError and ValueError.
    """
    try:
        yield
    except CellError as error:
        raise RecipeError(f"model.cell: {error}") from error
    except ValueError as error:
        raise RecipeError(f"model.{error}") from error


def cell_of(name: str, options: Mapping[str, Any]) -> Cell:
    """A cell with its options, where nothing but a cell will do.

    Raises:
        RecipeError: It is a plain function.
        CellError: There is none, or it has no such option.
    """
    found = find(name)
    if not isinstance(found, Cell):
        raise RecipeError(f"model.cell: {name!r} is a plain function; a cell is expected")
    return found(**options) if options else found


def begin_with_vectors(network: Network, settings: Any, vocabulary: Sequence[str]) -> list[str]:
    """Put the vectors of the file `model.vectors`, where one is named, in the place of those drawn.

    Args:
        network: The network, with an embedding of the vocabulary.
        settings: The `model.*` settings: `vectors`, `freeze_vectors`, `embedding_size`.
        vocabulary: The words.

    Returns:
        How many words have one, in a sentence; nothing where no file is named.

    Raises:
        DataError: See `read_vectors`.
    """
    if settings.vectors is None:
        return []
    vectors, there, said = read_vectors(Path(settings.vectors), vocabulary, settings.embedding_size)
    assert network.embedding is not None
    with torch.no_grad():
        network.embedding.weight[there] = vectors[there]
    network.embedding.weight.requires_grad_(not settings.freeze_vectors)
    return [said]


def layers_of(settings: LayerSettings, input_size: int, *, forward_only: bool = False) -> Recurrent | TDNN | NTM:
    """What runs along the sequence, of the kind that the settings name; arguments as of `recurrent_layers`."""
    if settings.has_memory:
        own = {key: getattr(settings, key) for key in OF_A_MEMORY if getattr(settings, key) is not None}
        return recurrent_layers(settings, input_size, forward_only=True, of=NTM, **own)
    if not settings.has_delays:
        return recurrent_layers(settings, input_size, forward_only=forward_only)
    assert settings.delays is not None
    sizes, dropout = settings.hidden_size, settings.dropout
    return TDNN(input_size, sizes, settings.delays, activation=settings.activation, dropout=dropout)


def last_output(layers: Recurrent | TDNN | NTM, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
    """The last layer's state at each sequence's end, that of both directions side by side, (B, width).

    Args:
        layers: The layers.
        output: What they put out, (T, B, width).
        final: Their final state.
        lengths: (B,) or None where all have T steps.
    """
    if isinstance(layers, Recurrent):
        directions = 2 if layers.bidirectional else 1
        return torch.cat([final[0][i] for i in range(-directions, 0)], -1)
    if lengths is None:
        return output[-1]
    ends = (lengths.to(output.device) - 1).view(1, -1, 1).expand(1, -1, output.shape[-1])
    return output.gather(0, ends).squeeze(0)


def recurrent_layers(
    settings: RecurrentSettings,
    input_size: int,
    *,
    forward_only: bool = False,
    of: Callable[..., LayersT] = Recurrent,
    **others: Any,
) -> LayersT:
    """The recurrent layers that the settings describe.

    Args:
        settings: The `model.*` settings.
        input_size: Width of what the first layer reads.
        forward_only: Where the settings leave `bidirectional` open: False, instead of both directions.
        of: What is made, called as `Recurrent` is.
        others: Its arguments that go before what the settings say of them.

    Raises:
        RecipeError: A setting cannot be had; which, and why.
    """
    key = "model.cell"
    try:
        cell = find(settings.cell)
        if settings.options:
            key = "model.options"
            if not isinstance(cell, Cell):
                raise RecipeError(f"{key}: {settings.cell!r} is a plain function, which has none")
            cell = cell(**settings.options)
        if settings.init:
            key = "model.init"
            checked(cell, settings.init)
    except CellError as error:
        raise RecipeError(f"{key}: {error}") from error
    both_ways = settings.bidirectional
    if both_ways is None:
        both_ways = isinstance(cell, Cell) and not forward_only
    try:
        arguments: dict[str, Any] = {
            "num_layers": settings.num_layers,
            "bidirectional": both_ways,
            "dropout": settings.dropout,
            "input_dropout": settings.input_dropout,
            "recurrent_dropout": settings.recurrent_dropout,
            "weight_drop": settings.weight_drop,
            "zoneout": settings.zoneout,
            "skip": None if settings.skip == "none" else settings.skip,
            "learn_initial_state": settings.learn_initial_state,
            "input_layers": settings.input_layers,
            "init": settings.init or None,
        }
        layers = of(cell, input_size, settings.hidden_size, **(arguments | others))
    except OptionError as error:
        raise RecipeError(f"model.options: {error}") from error
    except CellError as error:
        raise RecipeError(f"model.cell: {error}") from error
    except ValueError as error:
        raise RecipeError(f"model: {error}") from error
    if not isinstance(cell, Cell):
        _try(layers)
    return layers


@torch.no_grad()
def _try(layers: Recurrent | NTM) -> None:
    """Run a person's own function once, so that a mistake in it is told of before any training.

    Raises:
        RecipeError: It cannot be run, with the line.
    """
    try:
        layers(torch.zeros(2, 2, layers.input_size))
    except CellError as error:
        raise RecipeError(f"model.cell: {error}") from error
    except FAULTS_OF_CODE as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}, line {last.lineno}"
        raise RecipeError(f"model.cell: {place}: {type(error).__name__}: {error}") from error


def scale(values: Tensor, how: Normalise) -> tuple[Tensor, Tensor]:
    """What to subtract and what to divide by; a feature that does not vary is only shifted."""
    if how == "none":
        return torch.zeros(()), torch.ones(())
    if how == "unit":
        low, high = values.min().double(), values.max().double()
        mean, deviation = low, high - low
    elif how == "global":
        total, square = values.sum(dtype=torch.float64), _sum_of_squares(values).sum()
        mean = total / values.numel()
        deviation = (square / values.numel() - mean**2).clamp(min=0).sqrt()
    else:
        mean = values.sum(0, dtype=torch.float64) / len(values)
        deviation = (_sum_of_squares(values - mean.to(torch.float32)) / len(values)).sqrt()
    return mean.float(), torch.where(deviation > 1e-12, deviation, torch.ones_like(deviation)).float()


def _sum_of_squares(values: Tensor) -> Tensor:
    """Over the steps, in pieces, so that no second copy in double precision is held."""
    return torch.stack([piece.double().square().sum(0) for piece in values.split(1 << 20)]).sum(0)
