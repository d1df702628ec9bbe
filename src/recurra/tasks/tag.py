"""`tag`: every word of a sentence to its tag (eq. 6.22), and perhaps the sentence to its label, learnt together."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from pydantic import Field
from rich.console import Console
from rich.text import Text
from torch import Tensor
from torch.nn import functional as F

from recurra.data.batches import by_length
from recurra.data.schemes import part
from recurra.data.sentence_reader import SentenceReader
from recurra.data.sentences import Sentences, SentenceSchema
from recurra.engine.threads import suited
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.model import RecurrentSettings, begin_with_vectors
from recurra.tasks.scores import FEWEST, accuracy_interval, bootstrap_interval
from recurra.tasks.single_words import feed_forward, most_frequent, tag_counts
from recurra.tasks.tag_scores import entity_counts, entity_scores
from recurra.tasks.tagger import TagBatch, Tagged, Tagger, TagModelSettings, casing_of, spelled_out
from recurra.tasks.tagging import Tagging

AT_ONCE = 128
"""Sentences at once when a network is asked."""

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


class TagTrainSettings(TrainSettings):
    """The `train.*` settings of tag."""

    label_weight: float = Field(
        default=1.0, ge=0, description="weight, in the loss, of the sentence's label beside that of its tags"
    )


class Tag(Task[Sentences, TagBatch, Tagging]):
    """Word to tag, in the sentence it stands in."""

    name = "tag"
    summary = "every word of a sentence to its tag: entities, slots, parts of speech, keywords; perhaps a label beside"
    train_settings = TagTrainSettings
    model_settings = TagModelSettings
    reader = SentenceReader()
    main_metric = "accuracy"
    higher_is_better = True
    samples = "sentences"
    formats = ("text", "jsonl", "csv")
    by_output = ("output.weight", "output.bias", "crf.start", "crf.end")
    by_pair = ("crf.transition",)
    schema: SentenceSchema
    settings: TagTrainSettings

    def __init__(self, schema: SentenceSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, TagTrainSettings)
        super().__init__(schema, settings)
        self.main_metric = "f1" if schema.scheme else "accuracy"
        self._characters = {c: i for i, c in enumerate(schema.characters)}
        self._looks: dict[str, tuple[list[int], int]] = {}  # of each word met so far: its characters, its casing
        self._alone: np.ndarray | None = None

    def data_words(self) -> str:
        """See `Task.data_words`."""
        schema = self.schema
        how = f"entities marked in {schema.scheme.upper()}" if schema.scheme else "each standing for itself"
        labels = f", {len(schema.labels)} labels of sentences" if schema.labels else ""
        return f"{len(schema.vocabulary):,} words, {len(schema.tags)} tags, {how}{labels}"

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        if learn.carry_state:
            raise RecipeError("learn.carry_state: a sentence does not go on where the last one ended; leave it out")

    def network(self, model: TagModelSettings) -> Tagger:
        """See `Task.network`."""
        return Tagger(model, self.schema)

    def build(self, model: TagModelSettings, train: Sentences) -> Tagger:
        """See `Task.build`. Vectors are read from their file; how many words have one is noted in `notes`."""
        network = self.network(model)
        self.notes += begin_with_vectors(network, model, self.schema.vocabulary)
        return network

    def outputs_named(self, schema: SentenceSchema) -> list[str]:
        """See `Task.outputs_named`."""
        return schema.tags

    def unlike(self, schema: SentenceSchema) -> str | None:
        """See `Task.unlike`."""
        if bool(schema.labels) != bool(self.schema.labels):
            has = "labels of sentences" if schema.labels else "no labels of sentences"
            return f"that run has {has}, the new data have {'some' if self.schema.labels else 'none'}"
        return None

    def collate(self, data: Sentences, indices: Tensor) -> TagBatch:
        """See `Task.collate`."""
        lengths = data.lengths[indices]
        T = int(lengths.max())
        equal = bool((lengths == T).all())
        steps = torch.arange(T).unsqueeze(1)
        inside = steps < lengths
        at = data.offsets[indices] + steps.minimum(lengths - 1)
        words = data.words[at].long()
        surface, places = torch.unique(data.surface[at], return_inverse=True)
        looks = [self._look(data.forms[int(i)]) for i in surface.tolist()]
        counts = torch.tensor([max(1, len(spelled)) for spelled, _ in looks])
        codes = torch.zeros(int(counts.max()), len(looks), dtype=torch.int64)
        for column, (spelled, _) in enumerate(looks):
            codes[: len(spelled), column] = torch.tensor(spelled)
        tags = None
        if data.tags is not None:
            known = inside & (data.tags[at] < len(self.schema.tags))
            tags = torch.where(known, data.tags[at], -1)
        return TagBatch(
            words if equal else words.where(inside, 0),
            None if equal else lengths,
            places,
            codes,
            counts,
            torch.tensor([casing for _, casing in looks]),
            tags,
            None if data.labels is None else data.labels[indices],
            indices,
        )

    def _look(self, word: str) -> tuple[list[int], int]:
        if (found := self._looks.get(word)) is None:
            found = self._looks[word] = spelled_out(word, self._characters), casing_of(word)
        return found

    def has_targets(self, batch: TagBatch) -> bool:
        """See `Task.has_targets`."""
        return batch.tags is not None

    def loss(self, network: Tagger, outputs: Tagged, batch: TagBatch) -> Tensor:
        """Nats a word for its tag, and `label_weight` times the nats a sentence for its label."""
        assert batch.tags is not None
        if network.crf is not None:
            likelihood = network.crf.log_likelihood(outputs.tags, batch.tags.clamp(min=0), batch.lengths)
            loss = -likelihood.sum() / batch.steps
        else:
            loss = F.cross_entropy(outputs.tags.flatten(0, 1), batch.tags.flatten(), ignore_index=-1)
        weight = self.settings.label_weight
        if weight and outputs.labels is not None and batch.labels is not None and bool((batch.labels >= 0).any()):
            loss = loss + weight * F.cross_entropy(outputs.labels, batch.labels, ignore_index=-1)
        return loss

    @torch.no_grad()
    def predict(
        self,
        network: Tagger,
        data: Sentences,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Tagging:
        """See `Task.predict`."""
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        count, words = len(data), int(data.offsets[-1])
        tags, probabilities = np.zeros(words, np.int64), np.zeros(words)
        surprise = np.full(count, np.nan)
        labels = np.zeros((count, len(self.schema.labels))) if self.schema.labels else None
        with suited(network, AT_ONCE):
            for indices in by_length(data, AT_ONCE):
                batch = self.collate(data, indices).to(device, dtype)
                outputs, _ = (forward or network)(*batch.inputs)
                said, likely, nats = self._decoded(network, outputs, batch)
                inside = torch.arange(len(said)).unsqueeze(1) < data.lengths[indices]
                at = (data.offsets[indices] + torch.arange(len(said)).unsqueeze(1))[inside].numpy()
                tags[at] = said.cpu()[inside].numpy()
                probabilities[at] = likely.double().cpu()[inside].numpy()
                if nats is not None:
                    surprise[indices.numpy()] = nats.double().cpu().numpy()
                if labels is not None and outputs.labels is not None:
                    labels[indices.numpy()] = outputs.labels.double().softmax(-1).cpu().numpy()
        network.train(was_training)
        return Tagging(data, self.schema, tags, probabilities, surprise, labels)

    def _decoded(self, network: Tagger, outputs: Tagged, batch: TagBatch) -> tuple[Tensor, Tensor, Tensor | None]:
        """The tags said, (T, B), their probabilities, and -log p of each sentence's true tags; NaN where not known."""
        scores, true = outputs.tags.float(), batch.tags
        if network.crf is not None:
            said = network.crf.decode(scores, batch.lengths)
            likely = network.crf.marginals(scores, batch.lengths)
        else:
            said = scores.argmax(-1)
            likely = scores.softmax(-1)
        likely = likely.gather(-1, said.unsqueeze(-1)).squeeze(-1)
        if true is None:
            return said, likely, None
        if network.crf is not None:
            nats = -network.crf.log_likelihood(scores, true.clamp(min=0), batch.lengths)
        else:
            each = F.cross_entropy(scores.flatten(0, 1), true.flatten(), ignore_index=-1, reduction="none")
            nats = each.view_as(true).sum(0)
        inside = torch.ones_like(true, dtype=torch.bool)
        if batch.lengths is not None:
            inside = torch.arange(len(true), device=true.device).unsqueeze(1) < batch.lengths.to(true.device)
        strange = ((true < 0) & inside).any(0)
        return said, likely, nats.masked_fill(strange, torch.nan)

    def scores(self, predictions: Tagging) -> Metrics:
        """f1, precision, recall of entities (where tags mark some); accuracy of words; sequence_accuracy, the share of
        sentences with every tag right; intent_accuracy, of the sentences' labels; loss, nats a word."""
        columns = self._columns(predictions)
        found: Metrics = {}
        if self.schema.scheme:
            precision, recall, f1 = entity_scores(columns["entities"].sum(0)).tolist()
            found = {"f1": f1, "precision": precision, "recall": recall}
        right, words = columns["words"].sum(0).tolist()
        found |= {"accuracy": right / words, "sequence_accuracy": float(columns["whole"].mean())}
        if "labels" in columns:
            found["intent_accuracy"] = float(columns["labels"].mean())
        nats, known = columns["loss"].sum(0).tolist()
        return found | ({"loss": nats / known} if known else {})

    def intervals(self, predictions: Tagging) -> Intervals:
        """Wilson for shares of sentences; bootstrap over whole sentences for the others."""
        columns = self._columns(predictions)
        found: dict[str, tuple[float, float]] = {
            "sequence_accuracy": accuracy_interval(int(columns["whole"].sum()), len(columns["whole"]))
        }
        if "labels" in columns:
            found["intent_accuracy"] = accuracy_interval(int(columns["labels"].sum()), len(columns["labels"]))
        if len(predictions) >= FEWEST:
            found["accuracy"] = bootstrap_interval(columns["words"], _ratio, 0)
            if columns["loss"][:, 1].any():
                found["loss"] = bootstrap_interval(columns["loss"], _ratio, 0)
            if self.schema.scheme:
                for i, name in enumerate(("precision", "recall", "f1")):
                    found[name] = bootstrap_interval(columns["entities"], _Column(i), 0)
        return {name: [float(low), float(high)] for name, (low, high) in found.items()}

    def _columns(self, predictions: Tagging) -> dict[str, np.ndarray]:
        """Numbers of each sentence of which every score is a function of their sums."""
        data, tags = predictions.data, predictions.data.tags
        assert tags is not None
        lengths = data.lengths.numpy()
        right = np.add.reduceat((predictions.tags == tags.numpy()).astype(np.float64), data.offsets.numpy()[:-1])
        known = ~np.isnan(predictions.surprise)
        found = {
            "words": np.stack([right, lengths.astype(np.float64)], 1),
            "whole": right == lengths,
            "loss": np.stack([np.where(known, predictions.surprise, 0.0), lengths * known], 1),
        }
        if self.schema.scheme:
            every = range(len(predictions))
            found["entities"] = entity_counts(
                [predictions.true(i) for i in every], [predictions.said(i) for i in every]
            )
        if predictions.labels is not None and data.labels is not None:
            found["labels"] = predictions.labels.argmax(1) == data.labels.numpy()
        return found

    def baselines(self, train: Sentences, test: Tagging) -> dict[str, Metrics]:
        """`most frequent tag` of each word in the training part, and `single words`: a feed-forward network that sees a
        word without its sentence. The label of a sentence is always the training part's commonest."""
        counts = tag_counts(train, len(self.schema.vocabulary), len(self.schema.tags))
        labels = None
        if train.labels is not None and self.schema.labels:
            often = np.bincount(train.labels.numpy(), minlength=len(self.schema.labels))
            labels = np.broadcast_to(often / often.sum(), (len(test), len(often)))
        found = {}
        for name, said in (("most frequent tag", most_frequent(counts)), ("single words", self.alone(train))):
            found[name] = self.scores(self.by_word(test, said, labels))
        return found

    def alone(self, train: Sentences) -> np.ndarray:
        """The tag that a feed-forward network says of each word of the vocabulary, (V,), trained once."""
        if self._alone is None:
            self._alone = feed_forward(tag_counts(train, len(self.schema.vocabulary), len(self.schema.tags)), 0)
        return self._alone

    def by_word(self, test: Tagging, tags: np.ndarray, labels: np.ndarray | None = None) -> Tagging:
        """The tagging of the same sentences that gives each word of the vocabulary always the same tag, (V,)."""
        said = tags[test.data.words.numpy()]
        unknown = np.full(len(test), np.nan)
        return replace(test, tags=said, probabilities=np.ones(len(said)), surprise=unknown, labels=labels)

    def rows(self, predictions: Tagging, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, step, token, tag, probability` a word; with targets what is true before the tag. Where sentences have
        labels, the one said stands in each of its rows."""
        data = predictions.data
        for i in range(len(predictions)):
            first, tokens, said = int(data.offsets[i]), data.tokens(i), predictions.said(i)
            true = predictions.true(i) if targets and data.tags is not None else None
            for step, token in enumerate(tokens):
                line: dict[str, object] = {"index": i, "step": step, "token": token}
                if true is not None:
                    line["target"] = true[step]
                line |= {"tag": said[step], "probability": float(predictions.probabilities[first + step])}
                if (label := predictions.label(i)) is not None:
                    line["label"] = label
                if data.ids is not None:
                    line["id"] = data.ids[i]
                yield line

    def objects(self, predictions: Tagging) -> Iterator[dict[str, object]]:
        """`tokens` and `tags` a sentence, with its label and id where there are such."""
        for i in range(len(predictions)):
            line: dict[str, object] = {"tokens": predictions.data.tokens(i), "tags": predictions.said(i)}
            if (label := predictions.label(i)) is not None:
                line["label"] = label
            if predictions.data.ids is not None:
                line["id"] = predictions.data.ids[i]
            yield line

    def text(self, predictions: Tagging, colour: bool = False) -> str:
        """A sentence a line, each word with its tag behind a slash (but for O); before it the label in brackets."""
        kinds = list(dict.fromkeys(part(tag)[1] or tag for tag in self.schema.tags if tag != "O"))
        styles = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}
        console = Console(force_terminal=True, color_system="standard", width=1 << 16, legacy_windows=False)
        lines = []
        for i in range(len(predictions)):
            line = Text()
            if (label := predictions.label(i)) is not None:
                line.append(f"[{label}] ", "bold")
            for j, (token, tag) in enumerate(zip(predictions.data.tokens(i), predictions.said(i), strict=True)):
                line.append(" " if j else "")
                if tag == "O":
                    line.append(token)
                else:
                    style = styles.get(part(tag)[1] or tag, "")
                    line.append(token, f"bold {style}")
                    line.append(f"/{tag}", f"dim {style}")
            if colour:
                with console.capture() as captured:
                    console.print(line, end="", soft_wrap=True)
                lines.append(captured.get())
            else:
                lines.append(line.plain)
        return "".join(f"{line}\n" for line in lines)


class _Column:
    """One of the scores of entities, as a function of sums."""

    def __init__(self, index: int) -> None:
        self.index = index

    def __call__(self, sums: np.ndarray) -> np.ndarray:
        return entity_scores(sums)[..., self.index]


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / np.maximum(sums[:, 1], 1)
