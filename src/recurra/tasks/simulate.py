"""`simulate`: a system learnt from records of its inputs and outputs, and run on its own (system identification)."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from recurra.data.system_reader import SystemReader
from recurra.data.systems import Signals, SystemSchema
from recurra.engine.threads import suited
from recurra.errors import DataError, RecipeError
from recurra.learn import LearnSettings
from recurra.learn.optimise import TrainSettings
from recurra.tasks.base import Intervals, Metrics, Task
from recurra.tasks.model import RecurrentSettings
from recurra.tasks.scores import FEWEST, bootstrap_interval
from recurra.tasks.simulator import (
    Simulator,
    SimulatorSettings,
    free_run,
    least_squares,
    mean_squared,
    scaled,
    spread,
)

AT_ONCE = 64
"""Records that are simulated together."""

AHEAD_AT_ONCE = 8192
"""Steps of a record that are said one step ahead together."""

Record = tuple[np.ndarray, np.ndarray]
"""u (T, I) and y (T, K)."""

LARGEST_ORDER, STEPS_COMPARED = 10, 4096
"""Of the linear baseline: delays that are tried, and steps of each record that they are compared on."""


class SimulateTrainSettings(TrainSettings):
    """The `train.*` settings of simulate."""

    feedback: Literal["free", "series_parallel"] = Field(
        default="free",
        description="what is fed back in training: the network's own outputs, as in use, or the true ones, one step "
        "ahead",
    )
    evaluate_every: int | None = Field(
        default=100, ge=1, description="updates between evaluations; once an epoch when left out"
    )


@dataclass(frozen=True)
class SystemBatch:
    """B stretches of records, padded to the longest.

    Attributes:
        u: (T, B, I).
        y: (T, B, K); zero where not measured.
        lengths: (B,) int64 on the CPU, or None where all have T steps.
        measured: Whether every output is.
        indices: (B,) which of the data's stretches these are.
    """

    u: Tensor
    y: Tensor
    lengths: Tensor | None
    measured: bool
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """What a network is called with."""
        return self.u, self.y, self.lengths

    @property
    def samples(self) -> int:
        """Windows."""
        return len(self)

    @property
    def steps(self) -> int:
        """Steps that are no padding."""
        return self.u.shape[0] * self.u.shape[1] if self.lengths is None else int(self.lengths.sum())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "SystemBatch":
        """The batch on another device, its numbers in another precision."""
        return replace(self, u=self.u.to(device, dtype), y=self.y.to(device, dtype))


@dataclass
class Simulated:
    """What a network says of some records.

    Attributes:
        data: The records.
        schema: What they mean.
        starts: (N,) the first step of each that is simulated.
        offsets: (N + 1,) bounds of the records among the rows below.
        outputs: (S, K) float64, simulated, in the outputs' own units.
        targets: (S, K) what was measured; None where it was not.
        ahead: (S, K) said one step ahead, from the outputs measured before; None where they were not.
        warnings: What a person should know.
    """

    data: Signals
    schema: SystemSchema
    starts: np.ndarray
    offsets: np.ndarray
    outputs: np.ndarray
    targets: np.ndarray | None
    ahead: np.ndarray | None
    warnings: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.starts)

    def first(self, count: int) -> "Simulated":
        """That of the first `count` records."""
        count = min(count, len(self))
        rows = slice(0, int(self.offsets[count]))
        targets, ahead = (None if v is None else v[rows] for v in (self.targets, self.ahead))
        return replace(
            self,
            data=self.data.select(np.arange(count)),
            starts=self.starts[:count],
            offsets=self.offsets[: count + 1],
            outputs=self.outputs[rows],
            targets=targets,
            ahead=ahead,
        )

    def name(self, index: int) -> str:
        """What a record is called."""
        return self.data.ids[index] if self.data.ids is not None else f"record {index}"

    def rows(self, index: int) -> slice:
        """Where the rows of a record stand."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))


class Simulate(Task[Signals, SystemBatch, Simulated]):
    """Inputs of a system, and its first outputs, to all that follow."""

    name = "simulate"
    summary = "a system's inputs to its outputs, free-running: system identification from records of both"
    train_settings = SimulateTrainSettings
    model_settings = SimulatorSettings
    reader = SystemReader()
    main_metric = "rmse"
    higher_is_better = False
    samples = "windows"
    inspected = "members.0.recurrent"

    def __init__(self, schema: SystemSchema, settings: TrainSettings) -> None:
        assert isinstance(settings, SimulateTrainSettings)
        super().__init__(schema, settings)
        self.settings = settings
        self._linear: tuple[np.ndarray, ...] | None = None

    def data_words(self) -> str:
        """See `Task.data_words`."""
        schema = self.schema
        period = f", {schema.period:g} s from one to the next" if schema.period else ""
        return f"Inputs {', '.join(schema.inputs)}, outputs {', '.join(schema.outputs)} at every step{period}."

    def check(self, model: RecurrentSettings, learn: LearnSettings) -> None:
        """See `Task.check`."""
        assert isinstance(model, SimulatorSettings)
        if learn.rule != "bptt" or learn.k1:
            raise RecipeError(
                "learn.rule: simulate goes back through the windows that data.window cuts; rule is to be bptt, and k1 "
                "left out"
            )
        if learn.carry_state:
            raise RecipeError("learn.carry_state: each window begins with its own first steps; leave it out")
        if self.settings.error_norm:
            raise RecipeError("train.error_norm: is not for simulate, whose state begins anew in each window")
        if self.settings.activation_l2 or self.settings.temporal_l2:
            key = "activation_l2" if self.settings.activation_l2 else "temporal_l2"
            raise RecipeError(f"train.{key}: is not for simulate; train.l2 and train.weight_decay are")
        if self.settings.feedback == "series_parallel" and model.kind == "tdnn":
            raise RecipeError("train.feedback: model.kind = tdnn reads no outputs, so nothing is fed back")

    def check_parts(self, model: SimulatorSettings, parts: Mapping[str, Signals]) -> None:
        """See `Task.check_parts`."""
        for name, part in parts.items():
            if name != "train":
                help = f"a longer record, a larger data.{name}_fraction"
                _check_lengths(f"{name} part", part, part.lengths, model.warmup, help)

    def network(self, model: SimulatorSettings) -> Simulator:
        """See `Task.network`."""
        one_step = self.settings.feedback == "series_parallel"
        return Simulator(model, len(self.schema.inputs), len(self.schema.outputs), one_step=one_step)

    def build(self, model: SimulatorSettings, train: Signals) -> Simulator:
        """See `Task.build`. The linear part of a NARX is fitted beforehand."""
        shortest = int(train.lengths.min())
        if shortest <= model.warmup:
            raise DataError(
                f"training windows: the shortest has {shortest} steps, and model.warmup takes {model.warmup} to set "
                "the state; a longer data.window (and record) or a shorter warm-up is expected"
            )
        network = self.network(model)
        records = _measured(train)
        network.scale_from(*(np.concatenate(values) for values in zip(*records, strict=True)))
        if model.kind == "narx" and model.linear:
            network.begin_with(least_squares(_scaled(network, records), model.input_delay, model.output_delay))
        return network

    def unlike(self, schema: SystemSchema) -> str | None:
        """See `Task.unlike`."""
        for kind in ("inputs", "outputs"):
            theirs, ours = (getattr(one, kind) for one in (schema, self.schema))
            if len(theirs) != len(ours):
                return f"that run has {len(theirs)} {kind}, the new data have {len(ours)}"
        return None

    def collate(self, data: Signals, indices: Tensor) -> SystemBatch:
        """See `Task.collate`."""
        pairs = [data.stretch(i) for i in indices.tolist()]
        known = all(y is not None and bool(torch.isfinite(y).all()) for _, y in pairs)
        outputs = [u.new_zeros(len(u), len(self.schema.outputs)) if y is None else y.nan_to_num() for u, y in pairs]
        return _batch([u for u, _ in pairs], outputs, known, indices)

    def has_targets(self, batch: SystemBatch) -> bool:
        """See `Task.has_targets`."""
        return batch.measured

    def loss(self, network: Simulator, outputs: Tensor, batch: SystemBatch) -> Tensor:
        """The mean squared error behind the first steps, in units of the outputs' deviation."""
        n = network.warmup
        targets = (batch.y[n:] - network.output_mean) / network.output_deviation
        return mean_squared(outputs, targets, _valid(batch, n))

    @torch.no_grad()
    def predict(
        self,
        network: Simulator,
        data: Signals,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Simulated:
        """See `Task.predict`. A record whose first outputs are not all known is simulated from its first step on, as if
        it had stood before with its first input, and the output known or the training part's mean."""
        return self._said(network, data, device, dtype, ahead=True)

    @torch.no_grad()
    def look(
        self,
        network: Simulator,
        data: Signals,
        *,
        forward: Callable[..., tuple[Any, Any]] | None = None,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
        carry_state: bool = False,
    ) -> Simulated:
        """See `Task.look`: free-running alone."""
        return self._said(network, data, device, dtype, ahead=False)

    def _said(
        self, network: Simulator, data: Signals, device: torch.device | None, dtype: torch.dtype | None, ahead: bool
    ) -> Simulated:
        device = device or torch.device("cpu")
        was_training = network.training
        network.eval()
        n, count = network.warmup, len(data)
        prepared = [_begun(*data.stretch(i), network) for i in range(count)]
        whole = torch.tensor([len(u) if pad == 0 else n + 1 for u, _, pad in prepared])
        _check_lengths("the data", data, whole, n, "a longer record")
        measured = data.outputs is not None and bool(torch.isfinite(data.outputs).all())
        outputs: list[np.ndarray] = [np.empty(0)] * count
        one_step: list[np.ndarray] = [np.empty(0)] * count
        lengths = torch.tensor([len(u) for u, *_ in prepared])
        with suited(network, AT_ONCE):
            for indices in torch.sort(lengths, stable=True).indices.split(AT_ONCE):
                chosen = [prepared[i] for i in indices.tolist()]
                batch = _batch([u for u, *_ in chosen], [y for _, y, _ in chosen], measured, indices)
                batch = batch.to(device, dtype or network.output_mean.dtype)
                said = self._own_units(network, network.said(batch.u, batch.y, ahead=False))
                for row, i in enumerate(indices.tolist()):
                    outputs[i] = said[: int(lengths[i]) - n, row]
                    if measured and ahead and prepared[i][2] == 0:
                        u, y = (values[: int(lengths[i]), [row]] for values in (batch.u, batch.y))
                        one_step[i] = self._one_step(network, u, y)
        network.train(was_training)
        starts = np.array([max(0, n - pad) for *_, pad in prepared])
        offsets = np.concatenate([[0], np.cumsum([len(said) for said in outputs])])
        targets = None
        if measured:
            true = [y[start:].numpy() for start, y in zip(starts, self._measured(data), strict=True)]
            targets = np.concatenate(true)
        whole = measured and ahead and all(pad == 0 for *_, pad in prepared)
        return Simulated(
            data,
            self.schema,
            starts,
            offsets,
            np.concatenate(outputs),
            targets,
            np.concatenate(one_step) if whole else None,
        )

    def _one_step(self, network: Simulator, u: Tensor, y: Tensor) -> np.ndarray:
        """One step ahead along one record, (T - n, K): in pieces, since every step is a row of its own."""
        n, said = network.warmup, []
        for first in range(0, len(u) - n, AHEAD_AT_ONCE):
            piece = slice(first, first + n + AHEAD_AT_ONCE)
            said.append(self._own_units(network, network.said(u[piece], y[piece], ahead=True))[:, 0])
        return np.concatenate(said)

    @staticmethod
    def _measured(data: Signals) -> list[Tensor]:
        """The outputs of each stretch, which are known."""
        return [y for _, y in map(data.stretch, range(len(data))) if y is not None]

    @staticmethod
    def _own_units(network: Simulator, said: Sequence[Tensor]) -> np.ndarray:
        """The mean over the networks, float64, in the outputs' own units."""
        mean = torch.stack([each.double() for each in said]).mean(0)
        return (mean * network.output_deviation.double() + network.output_mean.double()).cpu().numpy()

    def scores(self, predictions: Simulated) -> Metrics:
        """rmse, of the free run in the outputs' own units, and of each output where there are several; fit, 1 less the
        error's norm over that of the outputs about their mean, a mean over outputs; mae; one_step_rmse."""
        assert predictions.targets is not None
        errors = predictions.outputs - predictions.targets
        found = {"rmse": _rms(errors), "fit": fit(predictions.targets, predictions.outputs)}
        found["mae"] = float(np.abs(errors).mean())
        if predictions.ahead is not None:
            found["one_step_rmse"] = _rms(predictions.ahead - predictions.targets)
        names = self.schema.outputs
        if len(names) > 1:
            found |= {f"rmse_{name}": _rms(errors[:, k]) for k, name in enumerate(names)}
        return found

    def intervals(self, predictions: Simulated) -> Intervals:
        """Of rmse: bootstrap over whole records, where there are enough."""
        assert predictions.targets is not None
        if len(predictions) < FEWEST:
            return {}
        squares = (predictions.outputs - predictions.targets) ** 2
        sums = np.add.reduceat(squares.mean(1), predictions.offsets[:-1])
        counts = np.diff(predictions.offsets).astype(np.float64)
        low, high = bootstrap_interval(np.stack([sums, counts], 1), lambda s: np.sqrt(s[:, 0] / s[:, 1]), 0)
        return {"rmse": [low, high]}

    def baselines(self, train: Signals, test: Simulated) -> dict[str, Metrics]:
        """`linear`: ARX by least squares, free-running from the same first steps, with the delays that simulate the
        training records best; `mean`: always the training part's mean."""
        said = self.simple(train, test)
        return {name: self.scores(replace(test, outputs=free, ahead=one)) for name, (free, one) in said.items()}

    def simple(self, train: Signals, test: Simulated) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
        """What the baselines say of the same steps, (S, K), and one step ahead."""
        measured = _measured(train)
        scales = []
        for values in zip(*measured, strict=True):
            every = np.concatenate(values)
            scales.append((torch.from_numpy(every.mean(0)), torch.from_numpy(spread(every))))
        records = [(scaled(u, *scales[0]), scaled(y, *scales[1])) for u, y in measured]
        warmup = max(int(test.starts.min()), 1)
        best, least = None, np.inf
        for order in range(1, min(LARGEST_ORDER, warmup) + 1):
            model = least_squares(records, order, order)
            pieces = [(a[:STEPS_COMPARED], b[:STEPS_COMPARED]) for a, b in records if len(a) > warmup]
            with np.errstate(over="ignore", invalid="ignore"):
                error = sum(float(np.square(free_run(model, a, b, warmup) - b[warmup:]).sum()) for a, b in pieces)
            if error < least:
                best, least = model, error
        mean = np.broadcast_to(scales[1][0].numpy(), test.outputs.shape)
        if best is None:
            return {"mean": (mean, None)}
        said, ahead = [], []
        for i, y in enumerate(self._measured(test.data)):
            given, true = scaled(test.data.stretch(i)[0].numpy(), *scales[0]), scaled(y.numpy(), *scales[1])
            start = int(test.starts[i])
            with np.errstate(over="ignore"):
                said.append(free_run(best, given, true, start))
            ahead.append(free_run(best, given, true, start, ahead=True))
        free, one = (scales[1][0].numpy() + np.concatenate(v) * scales[1][1].numpy() for v in (said, ahead))
        return {"linear": (free, one), "mean": (mean, None)}

    def rows(self, predictions: Simulated, targets: bool = False) -> Iterator[dict[str, object]]:
        """`index, step, prediction` (a column for each of several outputs) for every simulated step; with targets, what
        was measured before it, and `one_step` behind."""
        names = self.schema.outputs
        true = predictions.targets if targets else None
        ahead = predictions.ahead if targets else None
        kinds = (("target", true), ("prediction", predictions.outputs), ("one_step", ahead))
        for i in range(len(predictions)):
            start = int(predictions.starts[i])
            rows = predictions.rows(i)
            for step, row in enumerate(range(rows.start, rows.stop), start):
                line: dict[str, object] = {"index": i, "step": step}
                for kind, values in kinds:
                    if values is not None:
                        for name, value in zip(names, values[row], strict=True):
                            line[kind if len(names) == 1 else f"{kind}_{name}"] = float(value)
                if predictions.data.ids is not None:
                    line["id"] = predictions.data.ids[i]
                yield line


def fit(targets: np.ndarray, outputs: np.ndarray) -> float:
    """1 - ‖y - ŷ‖ / ‖y - mean y‖, a mean over outputs (Ljung 1999): 1 where all is right, 0 as good as the mean."""
    about = np.linalg.norm(targets - targets.mean(0), axis=0)
    return float(np.mean(1 - np.linalg.norm(targets - outputs, axis=0) / np.where(about > 0, about, 1.0)))


def _rms(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(errors))))


def _check_lengths(where: str, data: Signals, lengths: Tensor, warmup: int, help: str) -> None:
    """Raise DataError where a record whose outputs are known ends before the first step that would be simulated."""
    short = (lengths <= warmup).nonzero().flatten().tolist()
    if not short:
        return
    first = short[0]
    named = f"record {data.ids[first]!r}" if data.ids is not None else f"record {first}" if len(data) > 1 else "it"
    others = f" ({len(short)} such records)" if len(short) > 1 else ""
    steps = int(lengths[first])
    raise DataError(
        f"{where}: {named} has {steps} step{'s' * (steps != 1)}{others}, and model.warmup takes the first {warmup} to "
        f"set the state, so that none is left to be simulated; {help} or a shorter warm-up is expected"
    )


def _measured(data: Signals) -> list[Record]:
    """u and y of every record of the training part, whole."""
    return [(u, y) for u, y in data.records() if y is not None]


def _scaled(network: Simulator, records: Sequence[Record]) -> list[Record]:
    u, y = ((network.input_mean, network.input_deviation), (network.output_mean, network.output_deviation))
    return [(scaled(a, *u), scaled(b, *y)) for a, b in records]


def _begun(u: Tensor, y: Tensor | None, network: Simulator) -> tuple[Tensor, Tensor, int]:
    """A record with as many known outputs in front as set the state, and how many steps were put there for that."""
    n, mean = network.warmup, network.output_mean.double().cpu()
    if y is None:
        y = u.new_full((len(u), len(mean)), torch.nan)
    whole = torch.isfinite(y).all(1)
    known = len(y) if bool(whole.all()) else int((~whole).to(torch.uint8).argmax())
    pad = max(0, n - known) if known < len(y) else 0
    if not pad:
        return u, y.nan_to_num(), 0
    first = y[0] if known else mean
    return torch.cat([u[:1].expand(pad, -1), u]), torch.cat([first.expand(pad, -1), y.nan_to_num()]), pad


def _batch(inputs: list[Tensor], outputs: list[Tensor], measured: bool, indices: Tensor) -> SystemBatch:
    lengths = torch.tensor([len(u) for u in inputs])
    u, y = pad_sequence(inputs), pad_sequence(outputs)
    return SystemBatch(u, y, None if bool((lengths == lengths[0]).all()) else lengths, measured, indices)


def _valid(batch: SystemBatch, n: int) -> Tensor | None:
    """(T - n, B, 1): the steps behind the first n that are no padding."""
    if batch.lengths is None:
        return None
    steps = torch.arange(n, len(batch.u), device=batch.u.device).unsqueeze(1)
    return (steps < batch.lengths.to(batch.u.device)).unsqueeze(-1)
