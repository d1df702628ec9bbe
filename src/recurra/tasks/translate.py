"""`translate`: a text, or a vector, to a text (eqs 6.23-6.25)."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from recurra.data.batches import by_steps, epoch_generator
from recurra.data.pairs import PairBatch, PairReader, Pairs, PairSchema, collate, text_of
from recurra.data.units import END, PAD, START, UNK, Units
from recurra.engine.threads import suited
from recurra.errors import MissingExtraError, RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.nn.cross_entropy import Products, type_of
from recurra.nn.decoder import DecoderState
from recurra.nn.decoding import Hypothesis, Sampler, beam_search, sample
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.model import RecurrentSettings
from recurra.tasks.schedules import Schedule, forced_share
from recurra.tasks.scores import accuracy_interval, bootstrap_interval
from recurra.tasks.translator import Translator, TranslatorSettings

AT_ONCE = 4000
"""Symbols of sources, times beams, that are decoded together: what is usual."""


class TranslateTrainSettings(TrainSettings):
    """The `train.*` settings of translate."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1, description="share of the target spread over all symbols")
    output_products: Products = Field(
        default="full",
        description="number format of the output layer's products in training; bfloat16 takes a third of the time on "
        "processors that have it, and evaluation stays in full",
    )
    forcing: Schedule = Field(
        default="always",
        description="teacher forcing: the decoder reads the true symbols always, or ever less of them as training goes "
        "on, by this schedule (Bengio et al. 2015)",
    )
    forcing_last: float = Field(
        default=0.7, ge=0, le=1, description="share of true symbols that the schedule ends with, in the last epoch"
    )
    choose_by: Literal["loss", "bleu", "chrf", "exact_match"] | None = Field(
        default=None,
        description="what the best weights are chosen by; when left out chrf, which tells better from worse in texts "
        "of fewer than four words, too; for vectors exact_match",
    )
    decoded: int = Field(
        default=500,
        ge=0,
        description="validation sources that are translated at each evaluation in training, the first ones and without "
        "a beam; 0: none, then choose_by = loss",
    )

    @model_validator(mode="after")
    def _what_is_chosen_by_is_there(self) -> "TranslateTrainSettings":
        if not self.decoded and self.choose_by != "loss":
            raise ValueError("decoded: nothing is translated in training, so choose_by is to be 'loss'")
        if self.forcing != "always" and not self.epochs:
            raise ValueError(f"forcing: {self.forcing!r} goes from the first epoch to the last; epochs is to be set")
        return self


@dataclass
class Translations:
    """What a network says of some sources, in their order.

    Attributes:
        sources: As written; empty for vectors.
        said: The texts.
        targets: What is true, where known.
        losses: (N,) float64, -log of the probability of each target, `</s>` included, in nats; None without targets.
        counts: (N,) symbols of each target, `</s>` counted; None without targets.
        scores: (N,) what the beam ordered its texts by; NaN where nothing was decoded.
        ended: (N,) bool: whether each text came to its end before it was cut.
        decoded: How many of the first have been decoded; of the others `said` is empty.
        warnings: What a person should know.
    """

    sources: list[str]
    said: list[str]
    targets: list[str] | None
    losses: np.ndarray | None
    counts: np.ndarray | None
    scores: np.ndarray
    ended: np.ndarray
    decoded: int
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.said)

    def first(self, count: int) -> "Translations":
        """Those of the first `count` sources."""
        cut: dict[str, Any] = {
            key: None if v is None else v[:count] for key, v in vars(self).items() if key not in ("decoded", "warnings")
        }
        return Translations(**cut, decoded=min(self.decoded, count), warnings=self.warnings)


class Translate(Task[Pairs, PairBatch, Translations]):
    """Source to target."""

    name = "translate"
    summary = "a text to a text in another language, or a vector to a text"
    train_settings = TranslateTrainSettings
    model_settings = TranslatorSettings
    reader = PairReader()
    higher_is_better = True
    formats = ("text", "jsonl", "csv")
    samples = "pairs"
    inspected = "decoder.layers"
    at_once: ClassVar[int] = AT_ONCE
    """Steps of sources, times beams, that are decoded together."""
    schema: PairSchema
    settings: TranslateTrainSettings
    main_metric = "bleu"

    def __init__(self, schema: PairSchema, settings: TrainSettings) -> None:
        super().__init__(schema, settings)
        assert isinstance(settings, TranslateTrainSettings)
        self.is_vector = schema.input == "vector"
        self.is_text = schema.input == "tokens"
        self.main_metric = "bleu" if self.is_text else "exact_match"
        if self.is_text:
            check_scores()
        self._epoch = 0

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        if learn.rule != "bptt":
            raise RecipeError(
                f"learn.rule: {learn.rule!r} goes along one sequence; the gradient goes from the target to the source "
                "by bptt"
            )
        if learn.carry_state:
            raise RecipeError("learn.carry_state: every source begins anew; carry_state is to be false")
        if self.is_vector and self.settings.choose_by in ("bleu", "chrf"):
            raise RecipeError(
                "train.choose_by: names are scored as a whole where vectors are read; exact_match or loss"
            )
        for key in ("error_norm", "activation_l2", "temporal_l2"):
            if getattr(self.settings, key):
                raise RecipeError(f"train.{key}: is for networks of one stack of layers; with translate it is to be 0")

    def network(self, model: TranslatorSettings) -> Translator:
        """See `Task.network`."""
        return Translator(model, self.schema)

    def build(self, model: TranslatorSettings, train: Pairs) -> Translator:
        """See `Task.build`."""
        network = self.network(model)
        network.learn_from(train)
        return network

    def unlike(self, schema: PairSchema) -> str | None:
        """See `Task.unlike`."""
        if schema.input != self.schema.input:
            return f"that run reads {_inputs(schema)}, the new data are {_inputs(self.schema)}"
        return None

    def data_words(self) -> str:
        """What a step is, for the report."""
        units = self.schema.target_units
        said = f"{_units(units)}"
        if self.is_vector:
            return f"vectors of {len(self.schema.features)} numbers, to {said}"
        if self.schema.joint:
            return f"{said}, one vocabulary for both sides"
        return f"{_units(self.schema.source)} of sources, {said} of targets"

    def plan(self, data: Pairs, *, seed: int, epoch: int) -> list[Tensor]:
        """See `Task.plan`. Pairs of like length on both sides are put together."""
        self._epoch = epoch
        return plan(data, self.settings, seed=seed, epoch=epoch)

    def collate(self, data: Pairs, indices: Tensor) -> PairBatch:
        """See `Task.collate`."""
        return replace(collate(data, indices), forcing=self.forcing(self._epoch))

    def forcing(self, epoch: int) -> float:
        """Share of true symbols that the decoder reads in an epoch, from 0."""
        s = self.settings
        return forced_share(s.forcing, epoch, s.epochs, s.forcing_last)

    def has_targets(self, batch: PairBatch) -> bool:
        """See `Task.has_targets`."""
        return batch.wanted is not None

    def loss(self, network: Translator, outputs: Tensor, batch: PairBatch) -> Tensor:
        """Cross entropy in nats a symbol of the target, `</s>` counted."""
        wanted, s = batch.true, self.settings
        products = type_of(s.output_products)
        return network.cross_entropy(outputs, wanted, s.label_smoothing, products) / len(wanted)

    def predict(
        self,
        network: Translator,
        data: Pairs,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Translations:
        """See `Task.predict`: the loss of the targets where there are any, and the translations."""
        return self._predict(network, data, len(data), network.settings.beam, forward, device, dtype)

    def look(
        self,
        network: Translator,
        data: Pairs,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Translations:
        """See `Task.look`: as `predict`, but only `train.decoded` sources are translated, without a beam."""
        return self._predict(network, data, min(len(data), self.settings.decoded), 1, forward, device, dtype)

    @property
    def chosen_by(self) -> str:
        """See `Task.chosen_by`."""
        return self.settings.choose_by or ("exact_match" if self.is_vector else "chrf")

    def merit(self, scores: Metrics) -> list[float]:
        """See `Task.merit`."""
        by = self.chosen_by
        return [-scores["loss"]] if by == "loss" else [scores[by], -scores["loss"]]

    @torch.no_grad()
    def _predict(
        self,
        network: Translator,
        data: Pairs,
        decoded: int,
        beam: int,
        forward: Callable[..., tuple[Any, Any]] | None,
        device: torch.device | None,
        dtype: torch.dtype | None,
    ) -> Translations:
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        with suited(network, 64):
            losses = counts = None
            if data.target is not None:
                losses, counts = self._losses(network, data, forward, device, dtype)
            said, scores, ended = self._said(network, data, decoded, beam, device, dtype)
        network.train(was_training)
        return Translations(data.sources, said, data.targets, losses, counts, scores, ended, decoded)

    def _losses(
        self, network: Translator, data: Pairs, forward: Any, device: Any, dtype: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        losses, counts = np.zeros(len(data)), np.zeros(len(data), np.int64)
        for indices in by_size(data, self.at_once):
            batch = collate(data, indices).to(device, dtype)
            ready, _ = (forward or network)(*batch.inputs)
            assert batch.target_lengths is not None
            logs = network.log_probabilities(ready, batch.true).cpu()
            steps, rows = batch.within.nonzero().unbind(1)
            del steps
            losses[indices.numpy()] = -torch.zeros(len(batch), dtype=torch.float64).index_add_(0, rows, logs).numpy()
            counts[indices.numpy()] = batch.target_lengths.numpy()
        return losses, counts

    def _said(
        self, network: Translator, data: Pairs, decoded: int, beam: int, device: Any, dtype: Any
    ) -> tuple[list[str], np.ndarray, np.ndarray]:
        said, scores, ended = [""] * len(data), np.full(len(data), np.nan), np.ones(len(data), bool)
        chosen = torch.arange(decoded)
        if not self.is_vector:  # of an empty source an empty text is said
            chosen = chosen[data.source.lengths[:decoded] > 0]
        only = replace(data, target=None, targets=None)
        for places in by_size(only.select(chosen), max(1, self.at_once // beam)):
            indices = chosen[places]
            batch = collate(only, indices).to(device, dtype)
            for index, best in zip(indices.tolist(), self.decode(network, batch, beam), strict=True):
                said[index] = self._text(network, data, index, best)
                scores[index], ended[index] = best.score, best.ended
        return said, scores, ended

    @torch.no_grad()
    def decode(self, network: Translator, batch: PairBatch, beam: int, *, weights: bool = False) -> list[Hypothesis]:
        """The best text for each source of a batch; with `weights`, or where unknown words are replaced, and with a
        beam, `watched` has the weights of attention at each step, (n, S)."""
        settings = network.settings
        state = network.encode(batch.source, batch.source_lengths)
        begin = torch.full((len(batch),), START, device=batch.source.device)
        lengths = batch.source_lengths
        most = network.most(torch.full((len(batch),), len(batch.source)) if lengths is None else lengths)
        never = [PAD, START] if self._replaces(network) else [PAD, START, UNK]
        if settings.temperature:
            return _drawn(network, state, begin, most, settings.temperature, never, batch.indices)
        found = beam_search(
            network.step,
            state,
            begin,
            end=END,
            max_length=most,
            beam_size=beam,
            alpha=settings.length_penalty,
            forbidden=never,
            reorder=DecoderState.select,
            watch=_weights if weights or self._replaces(network) else None,
        )
        return [best for best, *_ in found]

    def _replaces(self, network: Translator) -> bool:
        """Whether unknown words are said, and replaced by the source's."""
        has_words = self.is_text and {self.schema.source.unit, self.schema.target_units.unit} == {"word"}
        return has_words and network.settings.replace_unknown and network.decoder.attention is not None

    def _text(self, network: Translator, data: Pairs, index: int, best: Hypothesis) -> str:
        """The text of a hypothesis; in place of an unknown word stands the source's that attention looks at most (Luong
        et al. 2015, "Addressing the rare word problem", with attention for the alignment)."""
        units = self.schema.target_units
        if UNK not in best.symbols or best.watched is None:
            return text_of(units, best.symbols)
        words = self.schema.source.words(data.sources[index].strip())
        looked = best.watched[: len(best.symbols), : len(words)].argmax(1).tolist()
        return " ".join(
            words[place] if symbol == UNK else units.symbols[symbol]
            for symbol, place in zip(best.symbols, looked, strict=True)
        )

    def scores(self, predictions: Translations) -> Metrics:
        """loss (nats a symbol of the target), perplexity; of what was translated exact_match, and for texts bleu, chrf
        and length_ratio, the words said over those of the targets."""
        p = predictions
        assert p.targets is not None
        assert p.losses is not None
        assert p.counts is not None
        loss = float(p.losses.sum() / p.counts.sum())
        found: Metrics = {}
        if p.decoded:
            said, true = p.said[: p.decoded], p.targets[: p.decoded]
            if self.is_text:
                found |= text_scores(said, true)
            found["exact_match"] = sum(a == b for a, b in _normal(said, true)) / len(said)
        return {**found, "loss": loss, "perplexity": math.exp(min(loss, 700.0))}

    def intervals(self, predictions: Translations) -> Intervals:
        """See `Task.intervals`: bleu by the bootstrap over sentences (Koehn 2004), exact_match by Wilson."""
        p = predictions
        assert p.targets is not None
        if not p.decoded:
            return {}
        said, true = p.said[: p.decoded], p.targets[: p.decoded]
        right = sum(a == b for a, b in _normal(said, true))
        found = {"exact_match": list(accuracy_interval(right, len(said)))}
        if not self.is_vector and len(said) > 4:
            found["bleu"] = bleu_interval(said, true)
        return found

    def baselines(self, train: Pairs, test: Translations) -> dict[str, Metrics]:
        """`copy`: the source as it stands; `commonest`: always the training part's commonest target."""
        assert test.targets is not None
        assert train.targets is not None
        commonest = max(dict.fromkeys(train.targets), key=_Counts(train.targets))
        found = {}
        for name, said in (("copy", test.sources), ("commonest", [commonest] * len(test))):
            if said:
                pairs = _normal(said, test.targets)
                found[name] = ({} if self.is_vector else text_scores(said, test.targets)) | {
                    "exact_match": sum(a == b for a, b in pairs) / len(said)
                }
        return found

    def rows(self, predictions: Translations, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, source, target, prediction, score`; the target with `targets`, the source where it is a text."""
        p = predictions
        for i, said in enumerate(p.said):
            row: dict[str, object] = {"index": i}
            if p.sources:
                row["source"] = p.sources[i]
            if targets and p.targets is not None:
                row["target"] = p.targets[i]
            yield row | {"prediction": said, "score": None if math.isnan(p.scores[i]) else float(p.scores[i])}

    def text(self, predictions: Translations, colour: bool = False) -> str:
        """A line for each source."""
        return "".join(said.replace("\n", " ") + "\n" for said in predictions.said)


class _Counts:
    """How often each of some texts is there."""

    def __init__(self, texts: list[str]) -> None:
        self.counts: dict[str, int] = {}
        for text in texts:
            self.counts[text] = self.counts.get(text, 0) + 1

    def __call__(self, text: str) -> int:
        return self.counts[text]


def _weights(state: DecoderState) -> Tensor:
    """The weights of attention, (R, S)."""
    assert state.weights is not None
    return state.weights


def _drawn(
    network: Translator,
    state: DecoderState,
    begin: Tensor,
    most: Tensor,
    temperature: float,
    never: list[int],
    indices: Tensor,
) -> list[Hypothesis]:
    """Texts drawn symbol by symbol, each from random numbers of its own."""
    sampler = Sampler(temperature, rows=indices.tolist(), forbidden=never)
    texts: list[list[int]] = [[] for _ in begin]
    done = [False] * len(begin)
    for symbols in sample(network.step, state, begin, int(most.max()), sampler, end=END, reorder=DecoderState.select):
        for row, symbol in enumerate(symbols.tolist()):
            if symbol == END:
                done[row] = True
            elif symbol >= 0 and len(texts[row]) < int(most[row]):
                texts[row].append(symbol)
    return [Hypothesis(text, math.nan, math.nan, ended) for text, ended in zip(texts, done, strict=True)]


# --- batches --------------------------------------------------------------------------------------------------------


def _sizes(data: Pairs) -> tuple[Tensor, Tensor]:
    """The lengths of both sides; of targets `</s>` is counted."""
    target = torch.zeros_like(data.source.lengths) if data.target is None else data.target.lengths + 1
    return data.source.lengths, target


def plan(data: Pairs, settings: TrainSettings, *, seed: int, epoch: int) -> list[Tensor]:
    """The batches of an epoch: pairs in order of both lengths, cut, and the batches put in a random order.

    Of pairs with equal lengths the order is drawn, so that batches differ from epoch to epoch; where cuts lie depends
    on the lengths alone, so that there are as many in each.
    """
    n = len(data)
    generator = epoch_generator(seed, epoch)
    order = torch.randperm(n, generator=generator) if settings.shuffle else torch.arange(n)
    if settings.shuffle and settings.bucket:
        order = order[_by_lengths(data, order)]
    batches = _cut(data, order, settings.batch_size, settings.batch_steps)
    if not (settings.shuffle and settings.bucket):
        return batches
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def by_size(data: Pairs, steps: int) -> list[Tensor]:
    """Every pair once, in batches of like lengths with at most so many symbols on the longer side."""
    return _cut(data, _by_lengths(data, torch.arange(len(data))), len(data), steps)


def _by_lengths(data: Pairs, order: Tensor) -> Tensor:
    """Places in `order`, by the target's length and then by the source's."""
    source, target = (side[order] for side in _sizes(data))
    first = torch.sort(source, stable=True).indices
    return first[torch.sort(target[first], stable=True).indices]


def _cut(data: Pairs, order: Tensor, batch_size: int, steps: int | None) -> list[Tensor]:
    """An order cut into batches of so many pairs, or of at most so many symbols on the longer side, padding counted."""
    if steps is None:
        return list(order.split(batch_size))
    source, target = _sizes(data)
    return by_steps(order, source.maximum(target), steps)


# --- scores ---------------------------------------------------------------------------------------------------------


def check_scores() -> None:
    """Look whether translations can be scored.

    Raises:
        MissingExtraError: They cannot; says the command that installs what is missing.
    """
    try:
        import sacrebleu  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("translations are scored by another package: pip install 'recurra[text]'") from error


def text_scores(said: list[str], true: list[str]) -> Metrics:
    """bleu (13a, cased), chrf (chrF2), both by sacrebleu from 0 to 100, and length_ratio."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    bleu = BLEU().corpus_score(said, [true])
    return {
        "bleu": float(bleu.score),
        "chrf": float(CHRF().corpus_score(said, [true]).score),
        "length_ratio": float(bleu.sys_len / bleu.ref_len) if bleu.ref_len else math.nan,
    }


def signatures() -> dict[str, str]:
    """What sacrebleu calls the scores, so that others can have the same."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    found = {}
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        metric.corpus_score(["a"], [["a"]])
        found[name] = str(metric.get_signature())
    return found


def bleu_counts(said: Sequence[str], true: Sequence[str]) -> np.ndarray:
    """What BLEU is a function of the sums of, (N, 10): for each text the n-grams that are right and those that there
    are, for n from 1 to 4, and the words of both sides."""
    from sacrebleu.metrics.bleu import BLEU

    bleu, rows = BLEU(effective_order=True), []
    for a, b in zip(said, true, strict=True):
        one = bleu.sentence_score(a, [b])
        rows.append([*one.counts, *one.totals, one.sys_len, one.ref_len])
    return np.array(rows, np.float64)


def bleu_of(sums: np.ndarray) -> np.ndarray:
    """BLEU of each row of sums, (…, 10) as `bleu_counts` has them."""
    from sacrebleu.metrics.bleu import BLEU

    def score(row: list[int]) -> float:
        return BLEU.compute_bleu(row[:4], row[4:8], row[8], row[9], smooth_method="exp").score

    return np.array([score([int(v) for v in row]) for row in sums])


def bleu_interval(said: list[str], true: list[str], seed: int = 0) -> list[float]:
    """The middle 95 % of BLEU over test parts drawn anew from the sentences (Koehn 2004)."""
    return list(bootstrap_interval(bleu_counts(said, true), bleu_of, seed, resamples=1000))


def _normal(said: list[str], true: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs to be compared, blanks at the ends aside."""
    return ((a.strip(), b.strip()) for a, b in zip(said, true, strict=True))


def _inputs(schema: PairSchema) -> str:
    return "texts" if schema.input == "tokens" else f"vectors of {len(schema.features)} numbers"


def _units(units: Units) -> str:
    return f"{len(units):,} {units.unit}s"
