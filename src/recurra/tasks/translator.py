"""The network of `translate`: an encoder, a decoder, and the settings that describe them (eqs 6.23-6.25)."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.data.pairs import Pairs, PairSchema
from recurra.data.units import PAD, START, UNK
from recurra.errors import RecipeError
from recurra.learn.rule import Rule
from recurra.nn import Recurrent
from recurra.nn.attention import Attention
from recurra.nn.cross_entropy import linear_cross_entropy
from recurra.nn.decoder import Bridge, Decoder, DecoderState
from recurra.tasks.model import Network, RecurrentSettings, Width, recurrent_layers


class TranslatorSettings(RecurrentSettings):
    """The `model.*` settings of translate. What `RecurrentSettings` says of layers is so of both sides."""

    bidirectional: bool | None = Field(
        default=None, description="run the encoder's layers in both directions; so when left out, unless bridge = copy"
    )
    decoder_cell: str | None = Field(default=None, description="the decoder's cell, where it is another")
    encoder_size: Width | list[Width] | None = Field(
        default=None, description="width of the encoder's state in each direction; hidden_size when left out"
    )
    encoder_layers: int | None = Field(default=None, ge=1, description="the encoder's layers; num_layers when left out")
    attention: Literal["additive", "dot", "general", "none"] | None = Field(
        default=None,
        description="how the decoder looks at the encoder's states: additive (Bahdanau), dot, general (Luong), none; "
        "when left out general for texts, and none for vectors, which have no steps",
    )
    attention_size: Width | None = Field(default=None, description="additive: width of its hidden layer")
    feeding: Literal["none", "input", "between"] = Field(
        default="none",
        description="whether contexts go back into the decoder: none; input: the last step's vector goes in beside the "
        "symbol, one step after another; between: the layers above the first read the contexts that the first asks for",
    )
    vector_size: Width | None = Field(
        default=None,
        description="width of what is made of state and context; embedding_size where that is tied, else hidden_size",
    )
    bridge: Literal["dense", "copy", "none"] = Field(
        default="dense",
        description="the decoder's first state: a layer of the encoder's last one (or of the vector), that state "
        "itself, or none",
    )
    feed: bool = Field(
        default=False, description="read the encoder's last state (or the vector) at every step of the decoder, too"
    )
    tied: Literal["none", "output", "all"] = Field(
        default="output",
        description="output: the vectors of the target's symbols are the output's weights, too; all: and the source's",
    )
    summary: Literal["last", "mean"] = Field(
        default="last", description="what bridge and feed take of the encoder: its last state, or the mean of all"
    )
    beam: int = Field(default=5, description="texts kept at a time in decoding; 1: always the most probable symbol")
    length_penalty: float = Field(
        default=1.0, ge=0, description="exponent α of the length penalty ((5 + n) / 6)^α (Wu et al. 2016); 0: none"
    )
    temperature: float = Field(
        default=0.0, ge=0, description="draw symbols at this temperature instead of a beam; 0: a beam"
    )
    max_output: int | None = Field(
        default=None,
        ge=1,
        description="most symbols said; when left out twice those of the source and ten more, for a vector twice those "
        "of the longest target in training",
    )
    replace_unknown: bool = Field(
        default=True,
        description="words: put the source's word that attention looks at most in place of an unknown one",
    )


class Translator(Network):
    """A source in, the symbols of a target out.

    The encoder reads the source's symbols (eq. 6.23); the decoder begins from its last state, reads the symbol before
    the one that it is to say, and says one until `</s>`: h_(T+t) = f_2(h_(T+t-1), ŷ_(t-1)), eq. 6.24, whose index of h
    on the right stands as T + t in the source document. With a vector for a source there is no encoder: the vector
    makes the first state, one to sequence.

    Args:
        settings: The `model.*` settings.
        schema: What the data mean.
    """

    embedding: nn.Embedding  # there always is one
    mean: Tensor
    deviation: Tensor
    longest: Tensor

    def __init__(self, settings: TranslatorSettings, schema: PairSchema) -> None:
        super().__init__()
        self.settings, s = settings, settings
        self.is_vector = schema.input == "vector"
        self.own_source_embedding: nn.Embedding | None = None
        kind = ("none" if self.is_vector else "general") if s.attention is None else s.attention
        _check(s, schema, kind)
        symbols = len(schema.target_units)
        self.register_buffer("longest", torch.tensor(0))
        self.register_buffer("mean", torch.zeros(len(schema.features)))
        self.register_buffer("deviation", torch.ones(len(schema.features)))

        summary = len(schema.features)
        if not self.is_vector:
            self.own_source_embedding = self.source_vectors(schema)
            size = s.hidden_size if s.encoder_size is None else s.encoder_size
            depth = s.num_layers if s.encoder_layers is None else s.encoder_layers
            both_ways = s.bridge != "copy" if s.bidirectional is None else s.bidirectional
            options = {
                "hidden_size": size,
                "num_layers": depth,
                "bidirectional": both_ways,
                "input_layers": s.input_layers,
            }
            self.encoder = recurrent_layers(s.model_copy(update=options), self.source_width(schema))
            summary = self.encoder.output_size
        beside = summary if s.feed else 0

        top = s.hidden_size[-1] if isinstance(s.hidden_size, list) else s.hidden_size
        width = s.vector_size or (s.embedding_size if s.tied != "none" else top)
        between = s.feeding == "between" and kind != "none"
        read = s.embedding_size + beside + (width if s.feeding == "input" and kind != "none" else 0)
        own = s.model_copy(
            update={"bidirectional": False}
            | ({} if s.decoder_cell is None else {"cell": s.decoder_cell})
            | (_part(s, 0, 1) if between else {})
        )
        with _as_key("model.decoder_cell" if s.decoder_cell else "model.cell"):
            layers = recurrent_layers(own, read)
        asks, attention, upper = layers.output_size, None, None
        if kind != "none":
            attention = _attention(kind, asks, summary, s.attention_size)
        if between:
            upper = recurrent_layers(own.model_copy(update=_part(s, 1, None)), asks + summary)
        self.decoder = Decoder(
            layers,
            attention,
            feeding=s.feeding if attention is not None else "none",
            upper=upper,
            size=width if attention is not None else None,
            dropout=s.dropout,
        )
        self.bridge = Bridge(summary, layers) if s.bridge == "dense" else None
        self.upper_bridge = Bridge(summary, upper) if s.bridge == "dense" and upper is not None else None
        if s.bridge == "copy":
            _check_copy(self)
        self.narrow = None
        if self.decoder.size != s.embedding_size and s.tied != "none":
            self.narrow = nn.Linear(self.decoder.size, s.embedding_size, bias=False)
        self.embedding = _embedding(symbols, s.embedding_size)  # pyright: ignore[reportIncompatibleVariableOverride]
        self.output = None if s.tied != "none" else nn.Linear(self.decoder.size, symbols, bias=False)
        self.output_bias = nn.Parameter(torch.zeros(symbols))
        self.embedding_dropout = nn.Dropout(s.embedding_dropout)
        self.dropout = nn.Dropout(s.dropout)
        self.output_dropout = nn.Dropout(s.output_dropout)

    @property
    def recurrent(self) -> Recurrent:  # pyright: ignore[reportIncompatibleVariableOverride]  # no part by another name
        """The decoder's layers."""
        return self.decoder.layers

    @property
    def both_ways(self) -> bool:
        """Whether the encoder's layers go in both directions."""
        return not self.is_vector and self.encoder.bidirectional

    @property
    def source_embedding(self) -> nn.Embedding:
        """The vectors of the source's symbols."""
        return self.embedding if self.own_source_embedding is None else self.own_source_embedding

    def source_vectors(self, schema: PairSchema) -> nn.Embedding | None:
        """Vectors of the source's symbols, where they are not those of the target's."""
        return None if self.settings.tied == "all" else _embedding(len(schema.source), self.settings.embedding_size)

    def source_width(self, schema: PairSchema) -> int:
        """Width of what the encoder reads at a step."""
        return self.settings.embedding_size

    def read(self, source: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What the encoder reads of a source, (S, B, width), and its steps."""
        return self._embedded(self.source_embedding, source), lengths

    @property
    def weight(self) -> Tensor:
        """The output layer's weights, (V, width)."""
        return self.embedding.weight if self.output is None else self.output.weight

    def logits(self, ready: Tensor) -> Tensor:
        """The outputs for all symbols, (…, V), of what `forward` returns."""
        return F.linear(ready, self.weight, self.output_bias)

    def learn_from(self, train: Pairs) -> None:
        """Take the scale of vectors, and the length of the longest target, from the training part."""
        assert train.target is not None
        self.longest.fill_(int(train.target.lengths.max()))
        if self.is_vector:
            values = train.source.values.double()
            deviation = values.std(0, correction=0)
            self.mean.copy_(values.mean(0))
            self.deviation.copy_(torch.where(deviation > 1e-12, deviation, torch.ones_like(deviation)))

    def forward(
        self,
        source: Tensor,
        source_lengths: Tensor | None,
        given: Tensor,
        target_lengths: Tensor,
        forcing: float = 1.0,
        state: Any = None,
        rule: Rule | None = None,
    ) -> tuple[Tensor, Any]:
        """What the output layer reads at every step that is no padding.

        Args:
            source: Symbols (S, B), or vectors (1, B, D).
            source_lengths: (B,), or None where all have S steps.
            given: `<s>` and the target's symbols, (T, B).
            target_lengths: (B,), `</s>` counted.
            forcing: Share of the symbols that are the target's, rather than what the network itself says, in training.
            state: Not taken: a source begins anew.
            rule: Not taken: the gradient goes through encoder and decoder by automatic differentiation.

        Returns:
            (M, width), of all steps in order of time and then of rows; and the decoder's final state.
        """
        begun = self.encode(source, source_lengths)
        if forcing < 1 and self.training:
            vectors, final = self._sampling(given, begun, forcing)
        else:
            # Steps behind a target's end are run, too, which nothing before them sees.
            vectors, final = self.decoder(self._embedded(self.embedding, given), begun)
        within = torch.arange(len(given)).unsqueeze(1) < target_lengths
        return self._ready(vectors[within.to(vectors.device)]), final.layers

    def _sampling(self, given: Tensor, state: DecoderState, forcing: float) -> tuple[Tensor, DecoderState]:
        """Scheduled sampling (Bengio et al. 2015): at each step, for each sequence, the true symbol or the most
        probable one of the step before."""
        vectors, said = [], given[0]
        for t in range(len(given)):
            if t:
                forced = torch.rand(given.shape[1], device=given.device) < forcing
                said = torch.where(forced, given[t], said)
            v, state = self.decoder.step(self._embedded(self.embedding, said), state)
            vectors.append(v)
            with torch.no_grad():
                said = self.logits(self._ready(v)).argmax(-1)
        return torch.stack(vectors), state

    def encode(self, source: Tensor, lengths: Tensor | None) -> DecoderState:
        """The state that the decoder begins with."""
        beside = memory = None
        if self.is_vector:
            summary = (source[0] - self.mean) / self.deviation
            final = None
        else:
            read, lengths = self.read(source, lengths)
            states, final = self.encoder(read, lengths=lengths)
            if self.settings.summary == "last":
                directions = 2 if self.encoder.bidirectional else 1
                summary = torch.cat([final[0][i] for i in range(-directions, 0)], -1)
            else:
                counts = states.new_full((len(read[0]),), len(read)) if lengths is None else lengths.to(states)
                summary = states.sum(0) / counts.clamp(min=1).unsqueeze(-1)
            states = self.dropout(states)
            if self.decoder.attention is not None:
                memory = self.decoder.attention.memory(states, lengths)
        if self.settings.feed:
            beside = summary
        B = len(summary)
        if self.settings.bridge == "copy":
            layers = final
        else:
            layers = self._begun(self.recurrent, self.bridge, summary)
        upper = None
        if self.decoder.upper is not None:
            upper = self._begun(self.decoder.upper, self.upper_bridge, summary)
        vector = summary.new_zeros(B, self.decoder.size) if self.decoder.feeding == "input" else None
        return DecoderState(layers, upper, vector, memory, beside)

    @staticmethod
    def _begun(layers: Any, bridge: Bridge | None, summary: Tensor) -> Any:
        if bridge is not None:
            return bridge(summary)
        begun = layers._initial(summary.new_zeros(1, len(summary), layers.input_size), len(summary))
        return layers._gathered([list(row) for row in begun])

    def _embedded(self, vectors: nn.Embedding, symbols: Tensor) -> Tensor:
        if self.settings.word_dropout and self.training:
            dropped = torch.rand(symbols.shape, device=symbols.device) < self.settings.word_dropout
            symbols = symbols.masked_fill(dropped & (symbols > START), UNK)
        return self.embedding_dropout(vectors(symbols) * vectors.embedding_dim**0.5)

    def _ready(self, vectors: Tensor) -> Tensor:
        """What the output layer reads, of the decoder's vectors."""
        vectors = self.output_dropout(vectors)
        return vectors if self.narrow is None else self.narrow(vectors)

    def cross_entropy(
        self, ready: Tensor, wanted: Tensor, smoothing: float = 0.0, products: torch.dtype | None = None
    ) -> Tensor:
        """The sum, over M steps, of the cross entropy with the symbols `wanted`, (M,), in nats; `products` as for
        `linear_cross_entropy`."""
        return linear_cross_entropy(
            ready, self.weight, self.output_bias, wanted, smoothing=smoothing, products=products
        )

    def step(self, symbols: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """One step of decoding: the log-probabilities of the next symbol, (R, V), and the state."""
        v, state = self.decoder.step(self._embedded(self.embedding, symbols), state)
        return F.log_softmax(self.logits(self._ready(v)), -1), state

    def log_probabilities(self, ready: Tensor, wanted: Tensor) -> Tensor:
        """The log-probability of each symbol `wanted`, (M,), float64."""
        pieces = []
        for rows, symbols in zip(ready.split(1024), wanted.split(1024), strict=True):
            logs = F.log_softmax(self.logits(rows.to(self.weight)).double(), -1)
            pieces.append(logs.gather(1, symbols.unsqueeze(1)).squeeze(1))
        return torch.cat(pieces) if pieces else ready.new_zeros(0, dtype=torch.float64)

    def most(self, source_lengths: Tensor) -> Tensor:
        """The most symbols that are said of each source, `</s>` counted, (B,)."""
        if self.settings.max_output is not None:
            return torch.full_like(source_lengths, self.settings.max_output + 1)
        if self.is_vector:
            return torch.full_like(source_lengths, 2 * int(self.longest) + 1)
        return 2 * source_lengths + 10  # of which `</s>` is one on either side

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """See `Network.by_symbol`; those of the encoder and of the decoder are together."""
        found: dict[str, list[Tensor]] = {"embedding": [tensors["embedding.weight"]]}
        if self.own_source_embedding is not None:
            found["embedding"].append(tensors["own_source_embedding.weight"])
        if self.output is not None:
            found["V"] = found["head"] = [tensors["output.weight"]]
        stacks = [("decoder.layers.", self.recurrent), ("decoder.upper.", self.decoder.upper)]
        for prefix, layers in [*stacks, ("encoder.", None if self.is_vector else self.encoder)]:
            if layers is not None:
                own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
                for symbol, views in layers.by_symbol(own).items():
                    found[symbol] = [*found.get(symbol, []), *views]
        return found


def _embedding(symbols: int, width: int) -> nn.Embedding:
    """Vectors of length 1 or so, as the output's weights are to be; they are read √width times as large, so that what
    the layers read has a deviation of 1 (Vaswani et al. 2017, section 3.4)."""
    found = nn.Embedding(symbols, width, padding_idx=PAD)
    with torch.no_grad():
        found.weight.mul_(width**-0.5)
    return found


@contextmanager
def _as_key(key: str) -> Iterator[None]:
    """Tell of a cell that cannot be had by the key that names it."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(re.sub("^model.cell:", f"{key}:", str(error))) from error


def _part(settings: TranslatorSettings, first: int, stop: int | None) -> dict[str, Any]:
    """The settings of some of the layers."""
    sizes = settings.hidden_size
    depth = len(range(settings.num_layers)[first:stop])
    return {"num_layers": depth, "hidden_size": sizes[first:stop] if isinstance(sizes, list) else sizes} | (
        {"input_layers": []} if first else {}
    )


def _attention(kind: Any, query: int, memory: int, hidden: int | None) -> Attention:
    try:
        return Attention(kind, query, memory, hidden_size=hidden)
    except ValueError as error:
        said = str(error).replace("memory_size", "the encoder's width").replace("query_size", "the decoder's")
        raise RecipeError(f"model.attention: {said}") from error


def _check(s: TranslatorSettings, schema: PairSchema, kind: str) -> None:
    """Raises RecipeError for settings that do not go together, or not with these data."""
    if s.beam < 1:
        raise RecipeError(
            f"model.beam: {s.beam} texts are none; 1 takes the most probable symbol at every step, 5 is usual"
        )
    if schema.input == "vector" and kind != "none":
        raise RecipeError(f"model.attention: {kind!r} looks at the steps of a source, and a vector has none; 'none'")
    if schema.input == "vector" and s.bridge == "copy":
        raise RecipeError("model.bridge: 'copy' takes the encoder's state, and a vector has no encoder; 'dense'")
    if kind == "none" and s.feeding != "none":
        raise RecipeError(f"model.feeding: {s.feeding!r} feeds what attention finds, and model.attention is 'none'")
    if kind == "none" and s.bridge == "none" and not s.feed:
        raise RecipeError(
            "model.bridge: 'none' without attention and without model.feed: nothing of the source would be seen"
        )
    if s.feeding == "between" and s.num_layers < 2:
        raise RecipeError("model.feeding: 'between' the first layer and those above it: model.num_layers is 2 or more")
    if s.attention_size is not None and kind != "additive":
        raise RecipeError(f"model.attention_size: is the width of additive attention; model.attention is {kind!r}")
    if s.tied == "all" and not schema.joint:
        raise RecipeError("model.tied: 'all' needs one vocabulary for both sides: data.vocabulary = 'joint'")


def _check_copy(network: Translator) -> None:
    """Raises RecipeError where the encoder's state cannot be the decoder's."""
    encoder, decoder = network.encoder, network.recurrent
    if network.decoder.upper is not None:
        raise RecipeError(
            "model.bridge: 'copy' is for one stack of layers; with model.feeding = 'between' it is 'dense'"
        )
    if encoder.bidirectional:
        raise RecipeError("model.bridge: 'copy' takes one direction's state: model.bidirectional is to be false")
    shapes = [[(encoder.form.name, place.widths) for place in layers._places] for layers in (encoder, decoder)]
    if encoder.form.name != decoder.form.name or shapes[0] != shapes[1]:
        raise RecipeError(
            "model.bridge: 'copy' needs encoder and decoder of one cell, width and depth; 'dense' takes any"
        )
