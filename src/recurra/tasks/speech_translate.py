"""`speech-translate`: speech in one language to a text in another (eqs 6.23-6.25)."""

from collections.abc import Iterator
from typing import Any, Literal, cast

import numpy as np
from pydantic import Field, model_validator
from torch import Tensor, nn

from recurra.data.pairs import Pairs, PairSchema
from recurra.data.spoken_pairs import SpokenPairReader, SpokenPairSchema
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics
from recurra.tasks.edits import RATES, counts, error_rate, rates
from recurra.tasks.hearing import HearingSettings, masked, stacked
from recurra.tasks.model import RecurrentSettings, scale
from recurra.tasks.scores import FEWEST, accuracy_interval, bootstrap_interval
from recurra.tasks.translate import Translate, TranslateTrainSettings, Translations
from recurra.tasks.translator import Translator, TranslatorSettings


class SpeechTranslatorSettings(HearingSettings, TranslatorSettings):
    """The `model.*` settings of speech-translate."""

    tied: Literal["none", "output"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]  # fewer
        default="output", description="output: the vectors of the target's symbols are the output's weights, too"
    )
    max_output: int | None = Field(
        default=None, ge=1, description="most symbols said; when left out twice those of the longest text in training"
    )
    replace_unknown: bool = Field(default=False, description="is for texts; false here")


class SpeechTranslateTrainSettings(TranslateTrainSettings):
    """The `train.*` settings of speech-translate."""

    choose_by: Literal["loss", "wer", "cer", "exact_match"] | None = Field(  # pyright: ignore[reportIncompatibleVariableOverride]  # others
        default=None, description="what the best weights are chosen by; wer when left out"
    )

    @model_validator(mode="after")
    def _what_is_chosen_by_is_there(self) -> "SpeechTranslateTrainSettings":
        if not self.decoded and self.choose_by != "loss":
            raise ValueError("decoded: nothing is translated in training, so choose_by is to be 'loss'")
        return self


class SpeechTranslator(Translator):
    """Frames in, the symbols of a text out: a `Translator` whose encoder reads features.

    Args:
        settings: The `model.*` settings.
        schema: What the data mean.
    """

    settings: SpeechTranslatorSettings

    def source_vectors(self, schema: PairSchema) -> nn.Embedding | None:
        """See `Translator.source_vectors`: features need none."""
        return None

    def source_width(self, schema: PairSchema) -> int:
        """See `Translator.source_width`."""
        return self.settings.stack * len(schema.features)

    def learn_from(self, train: Pairs) -> None:
        """See `Translator.learn_from`: the scale of each feature, too."""
        super().learn_from(train)
        mean, deviation = scale(train.source.values, "feature")
        self.mean.copy_(mean)
        self.deviation.copy_(deviation)

    def read(self, source: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """See `Translator.read`: frames on a common scale, several to a step, some of them hidden in training."""
        steps, lengths = stacked((source - self.mean) / self.deviation, lengths, self.settings.stack)
        if self.training and (self.settings.time_masks or self.settings.band_masks):
            steps = masked(steps, lengths, self.settings)
        return steps, lengths

    def most(self, source_lengths: Tensor) -> Tensor:
        """See `Translator.most`: steps of sound say little of how many symbols there are."""
        if self.settings.max_output is not None:
            return super().most(source_lengths)
        return source_lengths.new_full(source_lengths.shape, 2 * int(self.longest) + 1)


class SpeechTranslate(Translate):
    """Recording to text."""

    name = "speech-translate"
    summary = "a recording of speech (WAV) to a text in another language"
    train_settings = SpeechTranslateTrainSettings
    model_settings = SpeechTranslatorSettings
    reader = SpokenPairReader()
    higher_is_better = False
    samples = "recordings"
    at_once = 40_000
    schema: SpokenPairSchema  # pyright: ignore[reportIncompatibleVariableOverride]  # of its own reader

    def __init__(self, schema: SpokenPairSchema, settings: TrainSettings) -> None:
        super().__init__(schema, settings)
        self.main_metric = "wer"

    @classmethod
    def is_better_high(cls, metric: str) -> bool:
        """See `Task.is_better_high`."""
        return metric == "exact_match"

    def data_words(self) -> str:
        """See `Task.data_words`."""
        schema = self.schema
        return (
            f"{len(schema.features)} numbers every {self.reader.settings_of(schema).hop:g} ms, of sound at "
            f"{schema.rate:,} samples a second; texts of {len(schema.target_units):,} {schema.target_units.unit}s"
        )

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        super().check(model, learn)
        assert isinstance(model, SpeechTranslatorSettings)
        if model.replace_unknown:
            raise RecipeError("model.replace_unknown: a recording has no word that could be taken over; false")

    def network(self, model: TranslatorSettings) -> SpeechTranslator:
        """See `Task.network`."""
        assert isinstance(model, SpeechTranslatorSettings)
        return SpeechTranslator(model, self.schema)

    def unlike(self, schema: PairSchema) -> str | None:
        """See `Task.unlike`."""
        new, old = self.schema, cast(SpokenPairSchema, schema)
        if (old.rate, old.features) != (new.rate, new.features):
            return (
                f"that run reads {len(old.features)} features at {old.rate:,} samples a second, the new data have "
                f"{len(new.features)} at {new.rate:,}"
            )
        return None

    @property
    def chosen_by(self) -> str:
        """See `Task.chosen_by`."""
        return cast(SpeechTranslateTrainSettings, self.settings).choose_by or "wer"

    def merit(self, scores: Metrics) -> list[float]:
        """See `Task.merit`."""
        by = self.chosen_by
        if by == "loss":
            return [-scores["loss"]]
        return [scores[by] if self.is_better_high(by) else -scores[by], -scores["loss"]]

    def scores(self, predictions: Translations) -> Metrics:
        """wer and cer (see `recurra.tasks.edits`) and exact_match of what was translated; loss (nats a symbol of the
        target), perplexity."""
        found = super().scores(predictions)
        p = predictions
        if not p.decoded:
            return found
        assert p.targets is not None
        return rates(p.targets[: p.decoded], p.said[: p.decoded]) | found

    def intervals(self, predictions: Translations) -> Intervals:
        """See `Task.intervals`: Wilson for exact_match, bootstrap over recordings for the rates."""
        p = predictions
        assert p.targets is not None
        if not p.decoded:
            return {}
        true, said = p.targets[: p.decoded], p.said[: p.decoded]
        right = sum(a.split() == b.split() for a, b in zip(true, said, strict=True))
        found = {"exact_match": list(accuracy_interval(right, len(said)))}
        if len(said) >= FEWEST:
            for name, unit in RATES.items():
                found[name] = list(bootstrap_interval(counts(true, said, unit), error_rate, 0))
        return found

    def baselines(self, train: Pairs, test: Translations) -> dict[str, Metrics]:
        """`commonest`: always the training part's commonest text."""
        assert train.targets is not None
        assert test.targets is not None
        said = [max(dict.fromkeys(train.targets), key=train.targets.count)] * len(test)
        right = np.mean([a.split() == b.split() for a, b in zip(test.targets, said, strict=True)])
        return {"commonest": rates(test.targets, said) | {"exact_match": float(right)}}

    def rows(self, predictions: Translations, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, target, prediction, score, id`; the target with `targets`, and for id the recording."""
        for row in super().rows(predictions, targets):
            name = row.pop("source", None)
            yield row | ({} if name is None else {"id": name})

    def text(self, predictions: Translations, colour: bool = False) -> str:
        """A line for each recording: its name, and what is said."""
        pairs: Any = zip(predictions.sources, predictions.said, strict=True)
        return "".join(f"{name}\t{said}\n" for name, said in pairs)
