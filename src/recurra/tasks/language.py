"""`language`: running text, the next character, word or subword from all that came before it."""

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from recurra.data.corpus import PIECE, Corpus, CorpusReader, CorpusSchema
from recurra.data.units import Units
from recurra.engine.threads import suited
from recurra.errors import DataError, RecipeError
from recurra.learn import LearnSettings
from recurra.learn.backward import detached
from recurra.learn.optimise import TrainSettings
from recurra.learn.regularise import Hidden
from recurra.learn.rule import Rule
from recurra.nn.cross_entropy import Products, type_of
from recurra.nn.softmax import AdaptiveSoftmax, FullSoftmax, SampledSoftmax, Softmax
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.model import Network, RecurrentSettings, Width, recurrent_layers

BLOCKS = 100
"""Stretches of a text over whose means the spread of the loss is taken."""


class LanguageModelSettings(RecurrentSettings):
    """The `model.*` settings of language."""

    cell: str = Field(default="lstm", description=RecurrentSettings.model_fields["cell"].description)
    hidden_size: Width | list[Width] = Field(
        default=256, description=RecurrentSettings.model_fields["hidden_size"].description
    )
    bidirectional: bool | None = Field(
        default=None, description="false: what is to be predicted is what the other direction would have read"
    )
    embedding_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="share of symbols whose vectors are dropped, wherever they stand in a batch",
    )
    output_dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share dropped before the softmax, alike at every step"
    )
    tied: bool = Field(
        default=False,
        description="one matrix for the symbols' vectors and the softmax; embedding_size is then the last layer's "
        "hidden_size",
    )
    softmax: Literal["full", "sampled", "adaptive"] = Field(
        default="full",
        description="full; sampled: the loss in training looks at a draw of symbols; adaptive: rare symbols in groups; "
        "probabilities are exact with each",
    )
    samples: int = Field(default=1000, ge=1, description="sampled: symbols drawn for a batch")
    sample_power: float = Field(
        default=0.75, ge=0, le=1, description="sampled: symbols are drawn by their count to this power; 0: all alike"
    )
    cutoffs: list[Width] = Field(
        default_factory=list,
        description="adaptive: ranks by count at which groups of symbols end; a tenth and a half of them when left out",
    )


class LanguageTrainSettings(TrainSettings):
    """The `train.*` settings of language."""

    batch_size: int = Field(default=32, ge=1, description="stretches of the text that are read side by side")
    window: int = Field(
        default=64, ge=1, description="steps from one update to the next, as far as errors go back; the state is kept"
    )
    window_jitter: float = Field(
        default=0.0, ge=0, lt=1, description="share of the window by which its ends are moved, drawn anew in each epoch"
    )
    output_products: Products = Field(
        default="full",
        description="number format of the full softmax's products in training; bfloat16 takes a third of the time on "
        "processors that have it, and evaluation stays in full",
    )
    evaluate_streams: int = Field(
        default=32, ge=1, description="evaluation: stretches that are read side by side; 1: from beginning to end"
    )
    evaluate_context: int = Field(
        default=512, ge=0, description="evaluation: symbols that are read before each stretch but the first, unscored"
    )


@dataclass(frozen=True)
class Windows:
    """A window of B stretches of a text.

    Attributes:
        x: (T, B) int64, the symbols that are read.
        targets: (T, B) int64, those that follow them.
    """

    x: Tensor
    targets: Tensor
    lengths: None = None

    def __len__(self) -> int:
        return self.x.shape[1]

    @property
    def inputs(self) -> tuple[Tensor, None]:
        """What a network is called with."""
        return self.x, None

    @property
    def samples(self) -> int:
        """Symbols."""
        return self.x.numel()

    @property
    def steps(self) -> int:
        """Symbols."""
        return self.x.numel()

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Windows":
        """The window on another device."""
        return replace(self, x=self.x.to(device), targets=self.targets.to(device))


class LanguageModel(Network):
    """Symbols in, and at every step the distribution of the next one (eq. 6.22 with y_t = x_(t+1)).

    An embedding, recurrent layers in one direction, and a softmax over the vocabulary.

    Args:
        settings: The `model.*` settings.
        symbols: Size V of the vocabulary.

    Raises:
        RecipeError: Settings that cannot stand beside each other.
    """

    def __init__(self, settings: LanguageModelSettings, symbols: int) -> None:
        super().__init__()
        widths = settings.hidden_size
        width = widths[-1] if isinstance(widths, list) else widths
        _check(settings)
        self.embedding = embedding = nn.Embedding(symbols, settings.embedding_size)
        with torch.no_grad():
            embedding.weight.uniform_(-0.1, 0.1)
        self.recurrent = recurrent_layers(settings, settings.embedding_size, forward_only=True)
        if self.recurrent.output_size != width:
            raise RecipeError(f"model.cell: its output is {self.recurrent.output_size} wide, not its state's {width}")
        self.output = _softmax(settings, width, symbols, embedding)
        self.embedding_dropout, self.word_dropout = settings.embedding_dropout, settings.word_dropout
        self.output_dropout = settings.output_dropout

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The parameters' type."""
        return next(self.parameters()).dtype

    def inputs(self, x: Tensor) -> Tensor:
        """What the first recurrent layer reads: (T, B, E)."""
        assert self.embedding is not None
        if self.word_dropout and self.training:
            x = x.masked_fill(torch.rand(x.shape, device=x.device) < self.word_dropout, 1)
        read = self.embedding(x)
        if self.embedding_dropout and self.training:  # the same symbols everywhere (Gal & Ghahramani 2016)
            keep = 1 - self.embedding_dropout
            kept = torch.rand(len(self.embedding.weight), device=x.device) < keep
            read = read * (kept.to(read.dtype) / keep)[x].unsqueeze(-1)
        return read

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """What the softmax reads, and the final state.

        Args:
            x: (T, B) int64, symbols.
            lengths: (B,) steps of each stretch; None where all have T.
            state: The recurrent layers' state to begin with.
            rule: What finds the gradient of the recurrent layers; automatic differentiation where None.

        Returns:
            (T, B, H), for `output`; the recurrent layers' final state.
        """
        run = self.recurrent if rule is None else functools.partial(rule.along, self.recurrent)
        output, final = run(self.inputs(x), state, lengths=lengths)
        return self.said(output, final, lengths), final

    def said(self, output: Tensor, final: Any, lengths: Tensor | None) -> Tensor:
        """What the softmax reads of the recurrent layers' output."""
        seen = output
        if self.output_dropout and self.training:
            keep = 1 - self.output_dropout
            mask = torch.rand(1, *output.shape[1:], device=output.device) < keep
            seen = output * (mask.to(output.dtype) / keep)
        if self.keep_hidden:
            self.hidden = Hidden(output, seen, lengths)
        return seen

    def by_symbol(self, tensors: Any) -> dict[str, list[Tensor]]:
        """See `Network.by_symbol`; where one matrix is both, "V" and "head" are that of the embedding."""
        found = super().by_symbol(tensors)
        return found if found["V"] else {**found, "V": found["embedding"], "head": found["embedding"]}

    @torch.no_grad()
    def read(self, symbols: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Read some symbols, and tell what follows them.

        Args:
            symbols: (T, B) int64.
            state: The state to begin with; None at the beginning of a text.

        Returns:
            (B, V) log-probabilities of the next symbol, in nats; the state behind it.
        """
        hidden, final = self(symbols, None, state)
        return self.output.log_probabilities(hidden[-1]), final

    def step(self, symbols: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """`read` of one symbol for each row, (B,)."""
        return self.read(symbols.unsqueeze(0), state)


def _check(settings: LanguageModelSettings) -> None:
    """Raises RecipeError for settings that cannot stand beside each other."""
    width = settings.hidden_size[-1] if isinstance(settings.hidden_size, list) else settings.hidden_size
    if settings.bidirectional:
        raise RecipeError("model.bidirectional: a language model that reads the future has nothing left to predict")
    if settings.cutoffs and settings.softmax != "adaptive":
        raise RecipeError(f"model.cutoffs: are those of softmax = 'adaptive'; model.softmax is {settings.softmax!r}")
    if settings.tied and settings.embedding_size != width:
        raise RecipeError(
            f"model.tied: a symbol's vector is {settings.embedding_size} wide (model.embedding_size), the last layer's "
            f"state {width} (model.hidden_size); with one matrix for both they are to be the same"
        )
    if settings.tied and settings.softmax == "adaptive":
        raise RecipeError("model.tied: an adaptive softmax has narrower vectors for rare symbols; tied is to be false")


def _softmax(settings: LanguageModelSettings, width: int, symbols: int, embedding: nn.Embedding) -> Softmax:
    tied = embedding if settings.tied else None
    if settings.softmax == "full":
        return FullSoftmax(width, symbols, tied)
    if settings.softmax == "sampled":
        return SampledSoftmax(width, symbols, settings.samples, settings.sample_power, tied)
    groups = 2 if width >= 16 else 1  # each sees a quarter of what the one before it sees
    cutoffs = settings.cutoffs or sorted({max(1, symbols // 10), max(1, symbols // 2)})[:groups]
    try:
        return AdaptiveSoftmax(width, symbols, cutoffs)
    except ValueError as error:
        raise RecipeError(f"model.{error}") from error


@dataclass
class Read:
    """What a model says of a text: how surprised it was at every symbol but the first.

    Attributes:
        nats: (S - 1,) float64, -log p of each symbol given all before it.
        symbols: (S,) indices.
        offsets: (N + 1,) bounds of the text's lines.
        characters: Characters of the text.
        units: What the indices mean.
        warnings: What a person should know.
    """

    nats: np.ndarray
    symbols: np.ndarray
    offsets: np.ndarray
    characters: int
    units: Units
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.symbols)

    def first(self, count: int) -> "Read":
        """What it says of the first `count` symbols."""
        if count >= len(self):
            return self
        symbols = self.symbols[:count]
        bounds = self.offsets[self.offsets < count]
        return replace(
            self,
            nats=self.nats[: max(0, count - 1)],
            symbols=symbols,
            offsets=np.append(bounds, count),
            characters=len(self.units.decode(symbols.tolist())),
        )


class Language(Task[Corpus, Windows, Read]):
    """Running text: the next symbol."""

    name = "language"
    summary = "running text: the next character, word or subword"
    train_settings = LanguageTrainSettings
    model_settings: ClassVar[type[RecurrentSettings]] = LanguageModelSettings
    reader = CorpusReader()
    main_metric = "loss"
    higher_is_better = False
    samples = "symbols"
    carries_state = True
    schema: CorpusSchema
    settings: LanguageTrainSettings

    def __init__(self, schema: CorpusSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, LanguageTrainSettings)
        super().__init__(schema, settings)
        if settings.batch_steps is not None:
            raise RecipeError("train.batch_steps: a text has no sequences; train.batch_size and train.window are it")

    def data_words(self) -> str:
        """See `Task.data_words`."""
        return f"A symbol is a {self.schema.units.unit}, one of {len(self.schema.units):,}."

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        assert isinstance(model, LanguageModelSettings)
        _check(model)

    def network(self, model: LanguageModelSettings) -> LanguageModel:
        """See `Task.network`."""
        return LanguageModel(model, len(self.schema.units))

    def build(self, model: LanguageModelSettings, train: Corpus) -> LanguageModel:
        """See `Task.build`: how often each symbol comes is where the softmax begins."""
        network = self.network(model)
        network.output.learn_counts(torch.from_numpy(counts(train)))
        return network

    def plan(self, data: Corpus, *, seed: int, epoch: int) -> list[Tensor]:
        """The windows of an epoch, each (B, 2): where each stretch's part of it begins and ends.

        Stretch b reads on from window to window. All begin a little further on in every epoch, by less than a window,
        as `(seed, epoch)` draw it, and so errors are cut off at other places.

        Raises:
            RecipeError: The text is too short for so many stretches.
        """
        window, B, steps = self.settings.window, self.settings.batch_size, len(data.symbols) - 1
        if steps < B:
            raise RecipeError(
                f"train.batch_size: a text of {steps + 1} symbols makes no {B} stretches; expected {steps} at the most"
            )
        slack = min(window - 1, steps // (2 * B)) if self.settings.shuffle else 0
        stretch = (steps - slack) // B
        count = max(1, round(stretch / window))
        random = np.random.default_rng((seed, epoch))
        begin = int(random.integers(slack + 1)) + np.arange(B) * stretch
        edges = np.round(np.linspace(0, stretch, count + 1)).astype(np.int64)
        if (most := int(self.settings.window_jitter * (stretch / count) / 2)) and self.settings.shuffle:
            edges[1:-1] += random.integers(-most, most + 1, count - 1)
        return [
            torch.from_numpy(np.stack([begin + low, begin + high], 1))
            for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
        ]

    def collate(self, data: Corpus, indices: Tensor) -> Windows:
        """See `Task.collate`."""
        places = indices[:, 0].numpy()
        steps = np.arange(int(indices[0, 1] - indices[0, 0]) + 1)[:, None]
        window = torch.from_numpy(data.symbols[places + steps].astype(np.int64))
        return Windows(window[:-1], window[1:])

    def few(self, data: Corpus, count: int) -> tuple[Windows, str]:
        """See `Task.few`: so many stretches of the text, of two windows each at the most."""
        steps = min(2 * self.settings.window, len(data.symbols) - 1)
        if steps < 1:
            raise DataError("the text: it has one symbol, which nothing follows; expected two or more")
        begin = np.unique(np.linspace(0, len(data.symbols) - 1 - steps, count).round().astype(np.int64))
        batch = self.collate(data, torch.from_numpy(np.stack([begin, begin + steps], 1)))
        return batch, f"{len(begin)} {'stretch' if len(begin) == 1 else 'stretches'} of {steps:,} symbols"

    def loss(self, network: LanguageModel, outputs: Tensor, batch: Windows) -> Tensor:
        """Cross entropy in nats a symbol."""
        products = type_of(self.settings.output_products)
        hidden = outputs.flatten(0, 1).to(network.dtype)  # Fabric hands on single precision
        return network.output.loss(hidden, batch.targets.flatten(), products) / batch.steps

    @torch.no_grad()
    def predict(
        self,
        network: LanguageModel,
        data: Corpus,
        *,
        forward: Callable[..., tuple[Tensor, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = True,
    ) -> Read:
        """Read a text; every symbol but the first is predicted once, the weights as they are and the state carried.

        It is read in `train.evaluate_streams` stretches side by side, each of which begins `train.evaluate_context`
        symbols before its own first one; with one, from beginning to end.
        """
        run = forward or network
        was_training = network.training
        network.eval()
        steps, wanted = len(data.symbols) - 1, max(1, self.settings.evaluate_context)
        K = max(1, min(self.settings.evaluate_streams, steps // wanted))
        length = -(-steps // K)
        context = min(self.settings.evaluate_context, length) if K > 1 else 0
        begin = np.arange(K) * length
        nats = np.empty((K, length))

        def symbols(first: int, stop: int) -> Tensor:
            """Of every stretch from `first` to `stop`, counted from its beginning; 0 outside the text."""
            places = begin + np.arange(first, stop)[:, None]
            inside = (places >= 0) & (places <= steps)
            found = np.where(inside, data.symbols[places.clip(0, steps)], 0)
            return torch.from_numpy(found.astype(np.int64)).to(device or "cpu")

        with suited(network, K):
            state = None
            if context:
                lengths = torch.tensor([0] + [context] * (K - 1))
                state = run(symbols(-context, 0), lengths, None)[1]
            at_once = max(1, min(length, 1 << 14 if K == 1 else (1 << 13) // K))
            for first in range(0, length, at_once):
                window = symbols(first, min(first + at_once, length) + 1)
                hidden, state = run(window[:-1], None, state)
                state = detached(state)
                said = network.output.nats(hidden.flatten(0, 1).to(network.dtype), window[1:].flatten())
                nats[:, first : first + at_once] = said.reshape(window[1:].shape).t().double().cpu().numpy()
        network.train(was_training)
        return Read(nats.reshape(-1)[:steps], data.symbols, data.offsets, data.characters, self.schema.units)

    def scores(self, predictions: Read) -> Metrics:
        """loss (nats a symbol), bits_per_symbol, perplexity; of words and subwords also bits_per_character, which does
        not depend on how a text is cut."""
        found = _scores(float(predictions.nats.mean()) if len(predictions.nats) else math.nan)
        if self.schema.units.unit != "character":
            first = len(self.schema.units.decode(predictions.symbols[:1].tolist()))
            rest = max(1, predictions.characters - first)
            found["bits_per_character"] = float(predictions.nats.sum()) / math.log(2) / rest
        return found

    def intervals(self, predictions: Read) -> Intervals:
        """95 % intervals by the spread of the means of a hundred stretches of the text, a normal distribution taken."""
        nats = predictions.nats
        size = len(nats) // BLOCKS
        if not size:
            return {}
        means = nats[: size * BLOCKS].reshape(BLOCKS, size).mean(1)
        mean, half = float(nats.mean()), 1.96 * float(means.std(ddof=1)) / math.sqrt(BLOCKS)
        low, high = _scores(mean - half), _scores(mean + half)
        found = {name: [low[name], high[name]] for name in low}
        scores = self.scores(predictions)
        if "bits_per_character" in scores:
            share = scores["bits_per_character"] / scores["bits_per_symbol"]
            found["bits_per_character"] = [share * bound for bound in found["bits_per_symbol"]]
        return found

    def baselines(self, train: Corpus, test: Read) -> dict[str, Metrics]:
        """`unigram`: how often a symbol came in training; `bigram`: given the symbol before it (Kneser–Ney)."""
        found = {"unigram": unigram(counts(train)), "bigram": bigram(train)}
        return {
            name: self.scores(replace(test, nats=model(test.symbols[:-1], test.symbols[1:])))
            for name, model in found.items()
        }

    def rows(self, predictions: Read, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, symbols, loss, perplexity` of every line: its symbols (without the text's first, which nothing
        predicts), the mean loss of these, and its exponential."""
        sums = np.concatenate([[0.0, 0.0], np.cumsum(predictions.nats)])
        bounds = np.maximum(predictions.offsets, 1)
        for index in range(len(bounds) - 1):
            first, stop = int(bounds[index]), int(bounds[index + 1])
            loss = float(sums[stop] - sums[first]) / (stop - first) if stop > first else None
            perplexity = None if loss is None else _perplexity(loss)
            yield {"index": index, "symbols": stop - first, "loss": loss, "perplexity": perplexity}


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0)) if not math.isnan(loss) else loss


def _scores(loss: float) -> Metrics:
    return {"loss": loss, "bits_per_symbol": loss / math.log(2), "perplexity": _perplexity(loss)}


def counts(corpus: Corpus) -> np.ndarray:
    """How often each symbol comes, (V,) int64."""
    total = np.zeros(len(corpus.units), np.int64)
    for first in range(0, len(corpus.symbols), PIECE):
        total += np.bincount(corpus.symbols[first : first + PIECE], minlength=len(total))
    return total


Guess = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From symbols and those that follow them, (N,) each, to -log p of the latter in nats, (N,)."""


def unigram(count: np.ndarray) -> Guess:
    """Symbols by their share, half a time more often than they were seen, so that none is impossible."""
    nats = -np.log((count + 0.5) / (count.sum() + 0.5 * len(count)))
    return lambda before, after: nats[after]


def bigram(corpus: Corpus) -> Guess:
    """Interpolated Kneser–Ney of order two (Kneser & Ney 1995; Chen & Goodman 1999, eq. 2.8 with one discount).

    `p(w | v) = max(c(v w) - D, 0) / c(v) + D n(v ·) / c(v) · q(w)`, n(v ·) the number of different symbols behind v,
    q(w) the share of different symbols before w, which the uniform distribution smooths by one, and
    D = n_1 / (n_1 + 2 n_2) by the pairs that came once and twice.
    """
    V = len(corpus.units)
    keys, pairs = np.empty(0, np.int64), np.empty(0, np.int64)
    for first in range(0, len(corpus.symbols) - 1, 1 << 24):
        piece = corpus.symbols[first : first + (1 << 24) + 1].astype(np.int64)
        here, there = np.unique(piece[:-1] * V + piece[1:], return_counts=True)
        keys, places = np.unique(np.concatenate([keys, here]), return_inverse=True)
        pairs = np.bincount(places, np.concatenate([pairs, there])).astype(np.int64)
    once, twice = int((pairs == 1).sum()), int((pairs == 2).sum())
    D = once / (once + 2 * twice) if once else 0.5
    before, after = keys // V, keys % V
    times = np.bincount(before, pairs, V)
    behind = np.bincount(before, minlength=V)
    q = (np.bincount(after, minlength=V) + 1) / (len(keys) + V)

    def guess(given: np.ndarray, next: np.ndarray) -> np.ndarray:
        given, next = given.astype(np.int64), next.astype(np.int64)
        key = given * V + next
        place = np.searchsorted(keys, key).clip(max=len(keys) - 1)
        seen = np.where(keys[place] == key, pairs[place] - D, 0.0)
        total = np.maximum(times[given], 1)
        spare = np.where(times[given] > 0, D * behind[given] / total, 1.0)
        return -np.log(seen / total + spare * q[next])

    return guess
