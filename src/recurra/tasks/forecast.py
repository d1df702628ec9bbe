"""`forecast`: series to their numbers to come (eqs 6.1-6.3, and 6.23-6.25 over numbers)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from scipy import stats
from torch import Tensor

from recurra.data.series import SeriesWindows, WindowBatch, cumulated
from recurra.data.series_reader import SeriesReader
from recurra.data.series_settings import SeriesSchema
from recurra.engine.threads import suited
from recurra.errors import RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.forecast_baselines import Baseline, baselines
from recurra.tasks.forecast_scores import Scored, blocks
from recurra.tasks.forecaster import Forecaster, ForecasterSettings, Shape, Window
from recurra.tasks.model import RecurrentSettings
from recurra.tasks.paired import PairedDifference, paired_difference
from recurra.tasks.schedules import Forcing, forced_share

LIKELIHOODS = ("gaussian", "student_t")
"""Outputs whose loss is -log of a density."""

AT_ONCE, DRAWN_AT_ONCE = 256, 1_000_000
"""Windows that are forecast together, and numbers of futures that are drawn together."""

NODES = 9
"""Places at which the inverse of a transform is taken to find its mean."""

FEW = 20
"""Fewer errors than this tell no quantiles: those of a normal distribution of their size are taken."""

Metric = Literal["rmse", "mae", "mse", "mase", "smape", "mse_normalised", "mae_normalised"]
"""What forecasts are judged by: errors of one number, which other methods have as well."""

COMPARED: dict[str, str] = {
    "rmse": "squared error",
    "mse": "squared error",
    "mae": "absolute error",
    "mase": "scaled absolute error",
    "smape": "symmetric percentage error",
    "mse_normalised": "squared normalised error",
    "mae_normalised": "absolute normalised error",
}
"""The loss of one number behind each metric."""


class ForecastTrainSettings(TrainSettings):
    """The `train.*` settings of forecast."""

    loss: Literal["mse", "mae", "huber"] = Field(
        default="mse",
        description="point: squared error, absolute error, or Huber's mix of both; other outputs have their own",
    )
    context_loss: bool | None = Field(
        default=None,
        description="recursive: learn the next number at every step of the context as well; so when left out, unless "
        "windows have a scale of their own, which is made of what lies behind such a step",
    )
    warm_up: int | None = Field(
        default=None,
        ge=0,
        description="steps of the context whose loss does not count; when left out those that the linear part needs, "
        "or else a quarter of the context",
    )
    forcing: Forcing = Field(
        default="always",
        description="teacher forcing: steps behind the origin read the true numbers always, never, or ever less of "
        "them as training goes on, by this schedule (Bengio et al. 2015)",
    )
    forcing_last: float = Field(
        default=0.0, ge=0, le=1, description="share of true numbers that the schedule ends with, in the last epoch"
    )
    metric: Metric | None = Field(
        default=None,
        description="what a run is judged by; when left out rmse for one series of one target, else mase (mae where "
        "the seasonal naive forecast made no error in training)",
    )
    choose_by: Metric | Literal["loss"] | None = Field(
        default=None,
        description="what the best weights are chosen by on the validation part; when left out the metric, for "
        "distributions and quantiles the loss",
    )
    normalised_scores: bool = Field(
        default=False,
        description="tell errors in units of the training part's deviation, too: mse_normalised, mae_normalised",
    )

    @model_validator(mode="after")
    def _a_schedule_has_an_end(self) -> "ForecastTrainSettings":
        if self.forcing not in ("always", "never") and not self.epochs:
            raise ValueError(f"forcing: {self.forcing!r} goes from the first epoch to the last; epochs is to be set")
        for key in ("metric", "choose_by"):
            name = getattr(self, key)
            if name is not None and name.endswith("_normalised") and not self.normalised_scores:
                raise ValueError(f"{key}: {name!r} is told with normalised_scores = true alone")
        return self


@dataclass(frozen=True)
class ForecastBatch:
    """B windows, as a network reads them.

    Attributes:
        windows: The windows.
        forcing: Share of true numbers read behind the origin in training.
    """

    windows: WindowBatch
    forcing: float = 1.0

    @property
    def inputs(self) -> tuple[Window, float]:
        """What a network is called with."""
        return Window.of(self.windows), self.forcing

    @property
    def targets(self) -> Tensor:
        """(H, B, K), scaled."""
        return self.windows.targets

    @property
    def samples(self) -> int:
        """Windows."""
        return len(self.windows)

    @property
    def steps(self) -> int:
        """Steps that are read or forecast."""
        return self.windows.steps

    def __len__(self) -> int:
        return len(self.windows)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "ForecastBatch":
        """The batch on another device, its numbers in another precision."""
        return replace(self, windows=self.windows.to(device, dtype))


@dataclass
class Forecasts:
    """What a network says of some windows, in their order.

    Attributes:
        data: The windows.
        mean: (W, H, K) float64, the forecasts in the targets' own units; of Student's t and of quantiles the median,
            where all steps are forecast at once under a transform.
        quantiles: (W, H, K, Q) float64, at `levels`; None where none were made.
        levels: Rising.
        bounds: Which of them the interval lies between.
        losses: (W,), the sum over a window's known numbers of the loss: where it is a likelihood, of numbers in their
            own units, in nats; else in units of the scale.
        loss_name: "nll", or "scaled_loss".
        counts: (W,), how many these are; but those at which the density has no bound, zeros under a square root.
        warnings: What a person should know.
    """

    data: SeriesWindows
    mean: np.ndarray
    quantiles: np.ndarray | None
    levels: Sequence[float]
    bounds: tuple[int, int]
    losses: np.ndarray
    counts: np.ndarray
    loss_name: str
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.data)

    @cached_property
    def targets(self) -> np.ndarray:
        """What is true, (W, H, K); NaN where it is not known."""
        return self.data.truth

    @property
    def lower(self) -> np.ndarray | None:
        """(W, H, K), the lower bounds."""
        return None if self.quantiles is None else self.quantiles[..., self.bounds[0]]

    @property
    def upper(self) -> np.ndarray | None:
        """(W, H, K), the upper bounds."""
        return None if self.quantiles is None else self.quantiles[..., self.bounds[1]]

    def select(self, indices: Any) -> "Forecasts":
        """Those of some windows."""
        chosen = np.asarray(indices)
        quantiles = None if self.quantiles is None else self.quantiles[chosen]
        return replace(
            self,
            data=self.data.select(chosen),
            mean=self.mean[chosen],
            quantiles=quantiles,
            losses=self.losses[chosen],
            counts=self.counts[chosen],
        )

    def first(self, count: int) -> "Forecasts":
        """Those of the first `count` windows."""
        return self.select(np.arange(min(count, len(self))))


class Forecast(Task[SeriesWindows, ForecastBatch, Forecasts]):
    """Numbers to come."""

    name = "forecast"
    summary = "series to their numbers to come, with intervals"
    train_settings = ForecastTrainSettings
    model_settings = ForecasterSettings
    reader = SeriesReader()
    higher_is_better = False
    samples = "windows"
    schema: SeriesSchema
    settings: ForecastTrainSettings
    main_metric = "rmse"

    def __init__(self, schema: SeriesSchema, settings: TrainSettings) -> None:
        super().__init__(schema, settings)
        assert isinstance(settings, ForecastTrainSettings)
        one = len(schema.targets) == 1 and len(schema.ids) == 1
        self._has_scale = any(value is not None for row in schema.naive for value in row)  # of MASE
        self.main_metric = settings.metric or ("rmse" if one else "mase" if self._has_scale else "mae")
        self._epoch = 0
        self._by_loss = False
        self._others: tuple[SeriesWindows, list[Baseline]] | None = None

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        assert isinstance(model, ForecasterSettings)
        self._by_loss = model.output != "point"  # a distribution is more than its middle
        if learn.rule != "bptt":
            raise RecipeError(
                f"learn.rule: {learn.rule!r} goes along one stack of layers; a forecaster's gradient, which goes "
                "through its own forecasts, is found by bptt"
            )
        if learn.carry_state:
            raise RecipeError("learn.carry_state: every window begins anew; carry_state is to be false")
        for key in ("error_norm", "activation_l2", "temporal_l2"):
            if getattr(self.settings, key):
                raise RecipeError(f"train.{key}: is for networks of one stack of layers; with forecast it is to be 0")
        stepwise = model.recursive or model.kind == "encoder_decoder"
        if self.settings.forcing != "always" and not stepwise:
            raise RecipeError(
                f"train.forcing: {self.settings.forcing!r} is for forecasts made step by step; these are direct"
            )
        if self.settings.context_loss and not model.recursive:
            raise RecipeError("train.context_loss: the next number is forecast at every step by recursive models alone")
        if model.kind in ("ar", "linear") and model.linear_fixed and model.output == "point":
            raise RecipeError("model.linear_fixed: nothing would be left to learn; false is expected")
        for key in ("metric", "choose_by"):
            if getattr(self.settings, key) == "mase" and not self._has_scale:
                raise RecipeError(
                    f"train.{key}: 'mase' divides by the error of the seasonal naive forecast in training, which is 0 "
                    "or unknown here; 'mae'"
                )
        data = self.schema.settings
        if self.settings.normalised_scores and (data["transform"] != "none" or data["difference"]):
            raise RecipeError(
                "train.normalised_scores: the deviation is that of targets as they are; without data.transform and "
                "data.difference"
            )

    def network(self, model: ForecasterSettings) -> Forecaster:
        """See `Task.network`."""
        return Forecaster(model, self._shape(), self.settings.loss)

    def _shape(self) -> Shape:
        s = self.schema
        return Shape(
            targets=len(s.targets),
            past=len(s.past),
            known=len(s.known_names),
            static=len(s.static),
            series=len(s.ids),
            context=s.context,
            horizon=s.horizon,
            masked=s.masked,
        )

    def build(self, model: ForecasterSettings, train: SeriesWindows) -> Forecaster:
        """See `Task.build`."""
        network = self.network(model)
        network.learn_from(train)
        return network

    def unlike(self, schema: SeriesSchema) -> str | None:
        """See `Task.unlike`."""
        new = self.schema
        for key in ("horizon", "context"):
            if getattr(schema, key) != getattr(new, key):
                return (
                    f"that run has a {key} of {getattr(schema, key):,} rows, this one of {getattr(new, key):,}; "
                    f"data.{key} = {getattr(schema, key)}"
                )
        for key, what in (("targets", "targets"), ("past", "past covariates"), ("static", "static covariates")):
            if len(getattr(schema, key)) != len(getattr(new, key)):
                return _other_columns(what, getattr(schema, key), getattr(new, key))
        if schema.known_names != new.known_names:
            return _other_columns("known covariates", schema.known_names, new.known_names)
        if schema.masked != new.masked:
            return (
                "of that run's and the new data one has missing values, and one has not; data.missing = 'interpolate'"
            )
        return None

    def data_words(self) -> str:
        """See `Task.data_words`."""
        s = self.schema
        series = "one series" if len(s.ids) == 1 else f"{len(s.ids):,} series"
        named = ", ".join(s.targets[:8]) + (", …" if len(s.targets) > 8 else "")
        beside = [f"{len(names)} {what}" for names, what in ((s.past, "past"), (s.known_names, "known ahead")) if names]
        covariates = f", with covariates: {', '.join(beside)}" if beside else ""
        return f"{series} of {named}{covariates}; {s.context:,} rows read, {s.horizon:,} forecast"

    def plan(self, data: SeriesWindows, *, seed: int, epoch: int) -> list[Tensor]:
        """See `Task.plan`."""
        self._epoch = epoch
        return super().plan(data, seed=seed, epoch=epoch)

    def collate(self, data: SeriesWindows, indices: Tensor) -> ForecastBatch:
        """See `Task.collate`."""
        s, windows = self.settings, data.batch(indices)
        if list(data.series.ids) != self.schema.ids:  # a vector that is learnt for a series goes by its name
            windows = replace(windows, which=torch.from_numpy(self._places(data))[windows.which])
        return ForecastBatch(windows, forced_share(s.forcing, self._epoch, s.epochs, s.forcing_last))

    def _places(self, data: SeriesWindows) -> np.ndarray:
        """Which of the training series each of the data's is, by name; -1 for a new one."""
        known = {name: i for i, name in enumerate(self.schema.ids)}
        return np.array([known.get(name, -1) for name in data.series.ids])

    def has_targets(self, batch: ForecastBatch) -> bool:
        """See `Task.has_targets`; not of windows of which nothing behind the origin is known yet."""
        return bool(batch.windows.asked.any())

    def loss(self, network: Forecaster, outputs: Tensor, batch: ForecastBatch) -> Tensor:
        """The mean over all numbers that are known, in units of the scale."""
        w, H = batch.windows, batch.windows.horizon
        if not network.stepwise:
            return self._mean(network, outputs, w.targets, w.asked)
        first = 0 if self._with_context(network, w) else len(outputs) - H
        if not first:
            warm = self.settings.warm_up
            if warm is None:
                warm = network.depth - 1 if network.depth else w.context // 4
            first = max(0, min(warm, len(outputs) - H))
        outputs = outputs[first:]
        return self._mean(network, outputs, w.values[-len(outputs) :], w.seen[-len(outputs) :])

    def _with_context(self, network: Forecaster, windows: WindowBatch) -> bool:
        """Whether the steps of the context are learnt from, too."""
        if not network.recursive:
            return False
        wanted = self.settings.context_loss
        return windows.preparation.scaling in ("series", "none") if wanted is None else wanted

    @staticmethod
    def _mean(network: Forecaster, outputs: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
        losses = torch.where(known, network.form.loss(outputs, wanted), 0.0)
        return losses.sum() / known.sum().clamp(min=1)

    def predict(
        self,
        network: Forecaster,
        data: SeriesWindows,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Forecasts:
        """See `Task.predict`."""
        return self._predict(network, data, True, forward, device, dtype)

    def look(
        self,
        network: Forecaster,
        data: SeriesWindows,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Forecasts:
        """See `Task.look`: as `predict`, but of futures that are drawn step by step only the middle one."""
        return self._predict(network, data, False, forward, device, dtype)

    @torch.no_grad()
    def _predict(
        self,
        network: Forecaster,
        data: SeriesWindows,
        drawn: bool,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> Forecasts:
        levels, is_point = network.settings.levels, network.settings.output == "point"
        by_paths = network.stepwise and data.horizon > 1 and not is_point
        has_quantiles = drawn or not (by_paths or is_point)
        shape = (len(data), data.horizon, len(self.schema.targets))
        mean, losses, counts = np.empty(shape), np.zeros(len(data)), np.zeros(len(data), np.int64)
        quantiles = np.empty((*shape, len(levels))) if has_quantiles else None
        numbers = network.settings.paths * data.horizon * len(self.schema.targets)
        at_once = min(AT_ONCE, max(1, DRAWN_AT_ONCE // numbers)) if by_paths and drawn else AT_ONCE
        dtype = dtype or next(network.parameters()).dtype
        was_training = network.training
        network.eval()
        cuda = range(torch.cuda.device_count())
        with suited(network, at_once), torch.random.fork_rng(cuda):
            torch.manual_seed(0)  # of the futures drawn: the same of the same windows
            for indices in torch.arange(len(data)).split(at_once):
                batch = self.collate(data, indices).to(device or torch.device("cpu"), dtype)
                w, rows = batch.windows, indices.numpy()
                raw, _ = (forward or network)(*batch.inputs)
                raw = raw[-w.horizon :]
                wanted, known = (
                    (w.values[-w.horizon :], w.seen[-w.horizon :]) if network.stepwise else (w.targets, w.asked)
                )
                told = self._told(network, w, network.form.loss(raw, wanted).double())
                known = known & (told > -torch.inf)
                losses[rows] = torch.where(known, told, 0.0).sum((0, 2)).cpu()
                counts[rows] = known.sum((0, 2)).cpu()
                middle, spread = self._said(network, w, raw, by_paths, drawn)
                mean[rows] = self._restored(middle, self._deviation(network, raw, by_paths), w)
                if quantiles is not None:
                    assert spread is not None
                    quantiles[rows] = w.restore(spread).movedim(0, -1).transpose(0, 1).cpu().numpy()
        network.train(was_training)
        low, high = (1 - network.settings.interval) / 2, (1 + network.settings.interval) / 2
        bounds = tuple(int(np.argmin(np.abs(np.array(levels) - level))) for level in (low, high))
        name = "nll" if network.settings.output in LIKELIHOODS else "scaled_loss"
        return Forecasts(data, mean, quantiles, levels, (bounds[0], bounds[1]), losses, counts, name)

    @staticmethod
    def _told(network: Forecaster, w: WindowBatch, losses: Tensor) -> Tensor:
        """Losses, (H, B, K), as they are told: a likelihood is that of numbers in their own units; -inf at a zero of
        which the root is taken, where the density has no bound."""
        if network.settings.output not in LIKELIHOODS:
            return losses
        v = w.base + w.targets.double() * w.scale + w.location
        return losses + w.scale.log() + w.preparation.slope(v).log()

    def _said(
        self, network: Forecaster, w: WindowBatch, raw: Tensor, by_paths: bool, drawn: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The forecasts of a batch, (H, B, K) or of several futures (P, H, B, K), and their quantiles, (Q, H, B, K),
        both in the terms of `WindowBatch.targets`, float64."""
        window = Window.of(w)
        if by_paths and drawn:
            found = self._aligned(network, w, network.paths(window, network.settings.paths))
            spread = np.quantile(found.cpu().numpy(), network.settings.levels, axis=0)
            return found, torch.from_numpy(spread).to(found.device)
        if network.stepwise and w.horizon > 1:
            middle, spread = self._aligned(network, w, network.paths(window)), None
        else:
            middle, spread = network.form.middle(raw).double(), network.form.quantiles(raw)
        if network.settings.output == "point":
            return middle, middle + network.errors.double().permute(2, 0, 1).unsqueeze(2)
        return middle, None if spread is None else spread.double().movedim(-1, 0)

    @staticmethod
    def _aligned(network: Forecaster, w: WindowBatch, found: Tensor) -> Tensor:
        """Forecasts made step by step, (…, H, B, K), of which differences go on from each other, as `targets` are."""
        found = found.double()
        if not w.preparation.lags:
            return found
        return (cumulated(found * w.scale + w.location, w.preparation.lags) - w.location) / w.scale

    @staticmethod
    def _deviation(network: Forecaster, raw: Tensor, by_paths: bool) -> Tensor | None:
        """The deviation of normal errors about a batch's forecasts, (H, B, K); None where nothing is known of it."""
        if network.settings.output == "point":
            return network.error_size.double().unsqueeze(1)
        found = None if by_paths else network.form.deviation(raw)
        return None if found is None else found.double()

    @staticmethod
    def _restored(middle: Tensor, deviation: Tensor | None, w: WindowBatch) -> np.ndarray:
        """The mean in own units, (B, H, K): of several futures, (P, H, B, K), theirs; under a transform that of a
        normal distribution about the middle (by Gauss-Hermite quadrature), whose own inverse is a median; where no
        deviation is known, that median."""
        if middle.dim() == 4 or deviation is None or w.preparation.transform == "none":
            found = w.restore(middle)
            return (found.mean(0) if found.dim() == 4 else found).transpose(0, 1).cpu().numpy()
        nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)
        each = (
            wi * w.restore(middle + node * deviation) for node, wi in zip(nodes, weights / weights.sum(), strict=True)
        )
        return sum(each, start=torch.zeros_like(middle)).transpose(0, 1).cpu().numpy()

    @torch.no_grad()
    def calibrate(self, network: Forecaster, data: SeriesWindows, seen: bool) -> None:
        """Keep the quantiles of a point forecast's errors, step by step and target by target, in units of the scale:
        the interval of a forecast is what its errors were on windows that nothing was learnt from.

        Args:
            network: The network.
            data: The validation part; the training part where there is none.
            seen: Whether these were learnt from.
        """
        if network.settings.output != "point" or not len(data):
            return
        if seen:
            self.notes.append(
                "no validation part: intervals are made of errors on the training part, and so too narrow"
            )
        parameter = next(network.parameters())
        was_training = network.training
        network.eval()
        errors = np.empty((len(data), data.horizon, len(self.schema.targets)))
        with suited(network, AT_ONCE):
            for indices in torch.arange(len(data)).split(AT_ONCE):
                w = self.collate(data, indices).to(parameter.device, parameter.dtype).windows
                raw, _ = network(Window.of(w))
                middle, _ = self._said(network, w, raw[-w.horizon :], False, False)
                found = torch.where(w.asked, w.targets.double() - middle, torch.nan)
                errors[indices.numpy()] = found.transpose(0, 1).cpu().numpy()
        network.train(was_training)
        levels, known = np.array(network.settings.levels), np.isfinite(errors).sum(0)
        size = np.sqrt(np.nansum(np.square(errors), 0) / np.maximum(known, 1))
        network.error_size.copy_(torch.from_numpy(size))
        found = size[..., None] * stats.norm.ppf(levels)
        if (enough := known >= FEW).any():
            # The quantile of rank (n + 1) τ, below which another such error lies with probability τ.
            found[enough] = np.nanquantile(errors[:, enough], levels, axis=0, method="weibull").T
        network.errors.copy_(torch.from_numpy(found))

    def scored(self, forecasts: Forecasts) -> Scored:
        """What scores are made of."""
        f, p = forecasts, forecasts.data.preparation
        which = f.data.places[:, 0]
        return Scored(
            truth=f.targets,
            middle=f.mean,
            quantiles=f.quantiles,
            levels=f.levels,
            bounds=f.bounds,
            mase_scale=self._mase_scale(f.data)[which],
            deviation=p.deviation[which] if self.settings.normalised_scores else None,
            blocks=blocks(self._origins(f.data), f.data.horizon),
        )

    @staticmethod
    def _origins(data: SeriesWindows) -> np.ndarray:
        """The time of each window's origin, (W,)."""
        which, origin = data.places.T
        return data.series.times[data.series.offsets[which] + origin]

    def _mase_scale(self, data: SeriesWindows) -> np.ndarray:
        """MASE's scale of each of the data's series and targets; NaN for a series that training did not have."""
        known = np.array(self.schema.naive, dtype=np.float64).reshape(len(self.schema.ids), -1)
        unknown = np.full((1, known.shape[1]), np.nan)
        return np.concatenate([known, unknown])[self._places(data)]

    @property
    def chosen_by(self) -> str:
        """See `Task.chosen_by`."""
        return self.settings.choose_by or ("loss" if self._by_loss else self.main_metric)

    def merit(self, scores: Metrics) -> list[float]:
        """See `Task.merit`."""
        loss = scores["nll"] if "nll" in scores else scores["scaled_loss"]
        # MASE may be unknown of the validation part alone, where it has none of the series that have a scale.
        return [-loss] if self.chosen_by not in scores else [-scores[self.chosen_by], -loss]

    def scores(self, predictions: Forecasts) -> Metrics:
        """rmse, mae, mse, mase, smape (0 to 200); of intervals coverage, and of quantiles pinball, the mean over the
        levels; nll in nats a number, or where no likelihood is learnt scaled_loss. With normalised_scores also
        mse_normalised and mae_normalised."""
        found = self.scored(predictions).metrics()
        if total := predictions.counts.sum():
            found[predictions.loss_name] = float(predictions.losses.sum() / total)
        return found

    def intervals(self, predictions: Forecasts) -> Intervals:
        """See `Task.intervals`."""
        return {name: [low, high] for name, (low, high) in self.scored(predictions).intervals().items()}

    def scored_as(self, forecasts: Forecasts, mean: np.ndarray) -> Scored:
        """What scores are made of where other numbers, (W, H, K), are forecast of the same windows."""
        return self.scored(replace(forecasts, mean=mean, quantiles=None))

    def others(self, data: SeriesWindows) -> list[Baseline]:
        """What methods without a network forecast of the same windows."""
        if self._others is None or self._others[0] is not data:
            self._others = (data, baselines(data, self.schema.season))
        return self._others[1]

    def baselines(self, train: SeriesWindows, test: Forecasts) -> dict[str, Metrics]:
        """Those of `recurra.tasks.forecast_baselines`, from the same origins."""
        return {other.name: self.scored_as(test, other.forecasts).metrics() for other in self.others(test.data)}

    @property
    def compared_by(self) -> str:
        """The loss whose difference to another method's is told."""
        return COMPARED[self.main_metric]

    def compared(self, test: Forecasts) -> list[tuple[Baseline, float, PairedDifference | None]]:
        """Each other method, its score by the main metric, and the network's paired difference to it."""
        own, metric = self.scored(test), self.main_metric
        found = []
        for other in self.others(test.data):
            theirs = self.scored_as(test, other.forecasts)
            paired = paired_difference(
                own.each(metric), theirs.each(metric), self._origins(test.data), test.data.horizon
            )
            found.append((other, theirs.metrics().get(metric, np.nan), paired))
        return found

    def findings(self, train: SeriesWindows, test: Forecasts) -> list[str]:
        """See `Task.findings`: whether the network is better than the best of the other methods."""
        return self.findings_of(self.compared(test), test)

    def findings_of(self, found: list[tuple[Baseline, float, PairedDifference | None]], test: Forecasts) -> list[str]:
        """`findings` of what `compared` has found."""
        best, score, paired = min(found, key=lambda item: item[1])
        own = self.scored(test).metrics()[self.main_metric]
        said = f"{self.main_metric} {own:.4g}, of the best other method, {best.name}, {score:.4g}"
        if paired is None:
            return [f"{said}; too few origins to tell whether that is chance"]
        between = f"{paired.mean:.4g}, 95 % interval {paired.low:.4g} to {paired.high:.4g}"
        verdict = {
            "better": "the network is better",
            "worse": "the network is worse: nothing was gained by it",
            "no different": "which may be chance: the network is not shown to be better",
        }[paired.verdict]
        beaten = [other.name for other, _, one in found if one is not None and one.verdict == "better"]
        others = "beyond chance it is better than " + (", ".join(beaten) if beaten else "none of them")
        told = [f"{said}; difference of the {self.compared_by} {between}: {verdict}"]
        return told if best.name in beaten and len(beaten) == len(found) else [*told, others]

    def rows(self, predictions: Forecasts, targets: bool = False) -> Iterator[dict[str, object]]:
        """`series, time, mean, lower, upper`, with `target` where there are several, and a column for each quantile
        asked for; with `targets` the truth, of origins a horizon apart, so that each time is told once a series."""
        p, axis = predictions, self.schema.axis
        quantiles = p.quantiles
        assert quantiles is not None
        named = [at for at in range(len(p.levels)) if at not in p.bounds and p.levels[at] != 0.5]
        chosen = _apart(p.data) if targets else np.arange(len(p))
        times = axis.written(p.data.times[chosen].ravel()) if len(chosen) else []
        several = len(self.schema.targets) > 1
        for place, w in enumerate(chosen.tolist()):
            name = p.data.series.ids[p.data.places[w, 0]]
            for h in range(p.data.horizon):
                for k, target in enumerate(self.schema.targets):
                    row: dict[str, object] = {"series": name, "time": str(times[place * p.data.horizon + h])}
                    if several:
                        row["target"] = target
                    if targets:
                        truth = float(p.targets[w, h, k])
                        row["truth"] = truth if np.isfinite(truth) else None
                    row["mean"] = float(p.mean[w, h, k])
                    row["lower"], row["upper"] = (float(quantiles[w, h, k, at]) for at in p.bounds)
                    yield row | {f"q{p.levels[at]:g}": float(quantiles[w, h, k, at]) for at in named}

    def shares(self, predictions: Forecasts) -> Iterator[dict[str, object]]:
        """`index` (the block of neighbours that it is drawn with), `series, time` of the first step, the mean truth,
        and for each metric what is added up and how often, of every origin."""
        found, p = self.scored(predictions), predictions
        times = self.schema.axis.written(p.data.times[:, 0]) if len(p) else []
        shares, known = found.shares, np.isfinite(found.truth)
        truth = np.where(known, found.truth, 0.0).sum((1, 2)) / np.maximum(known.sum((1, 2)), 1)
        for w in range(len(p)):
            name = p.data.series.ids[p.data.places[w, 0]]
            row: dict[str, object] = {"index": int(found.blocks[w]), "series": name, "time": str(times[w])}
            row["truth"] = float(truth[w])
            for metric, sums in shares.items():
                row |= {metric: float(sums[w, 0]), f"{metric}_count": int(sums[w, 1])}
            yield row


def _other_columns(what: str, theirs: Sequence[str], ours: Sequence[str]) -> str:
    return f"that run reads {what} {', '.join(theirs) or 'none'}, the new data have {', '.join(ours) or 'none'}"


def _apart(data: SeriesWindows) -> np.ndarray:
    """Windows whose origins are a horizon or more apart in their series, the first ones first."""
    chosen: list[int] = []
    free: dict[int, int] = {}
    for w, (which, origin) in enumerate(data.places.tolist()):
        if origin >= free.get(which, -1):
            chosen.append(w)
            free[which] = origin + data.horizon
    return np.array(chosen, dtype=np.int64)
