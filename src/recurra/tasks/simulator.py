"""The networks of `simulate`: from a system's inputs, and its first outputs, to all outputs that follow."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.cells.form import cell
from recurra.errors import DataError, unknown
from recurra.learn.rule import Rule
from recurra.math import ACTIVATIONS, clamp, tanh
from recurra.nn import NARX, TDNN, Recurrent
from recurra.nn.decoder import Bridge
from recurra.tasks.model import Network, RecurrentSettings, Width, recurrent_layers


@cell(state="h:size", gates="g", matrices={"W_hg": ("size", "H")}, start={"W_hg": "xavier*0.1"})
def state_space_limited(z, s, p, *, size=4, activation=tanh):
    """`state_space` whose values stay between -1 and 1: levels that cannot pass a brim, whatever flows in.

    Formula:
        h_t = min(max(h_(t-1) + W_hg f(W_g x_t + U_g h_(t-1) + b_g), -1), 1)

    Shapes: x_t (B, I); h_t (B, P); W_g (H, I); U_g (H, P); b_g (H,); W_hg (P, H).
    """
    return clamp(s.h + p.W_hg @ activation(z.g), -1.0, 1.0)


@cell(state="h:size", gates="g", matrices={"W_hg": ("size", "H")}, start={"W_hg": "xavier*0.1"})
def state_space(z, s, p, *, size=4, activation=tanh):
    """Neural state-space model (Suykens, De Moor & Vandewalle 1995), its state added to (eq. 6.48).

    A state of few values, `size` (P), is moved by a network with a hidden layer of H units; the paper's own has no
    h_(t-1) before the sum. W_hg begins small, so that the state stays at first.

    Formula:
        h_t = h_(t-1) + W_hg f(W_g x_t + U_g h_(t-1) + b_g)

    Shapes: x_t (B, I); h_t (B, P); W_g (H, I); U_g (H, P); b_g (H,); W_hg (P, H).
    """
    return s.h + p.W_hg @ activation(z.g)


OF_LAYERS = ("num_layers", "input_dropout", "recurrent_dropout", "weight_drop", "zoneout", "skip", "input_layers",
             "init", "options")  # fmt: skip
OF_TEXTS = ("learn_initial_state", "embedding_dropout", "word_dropout", "output_dropout")
"""Settings that are of layers of a cell alone, and such as have no meaning here."""


class SimulatorSettings(RecurrentSettings):
    """The `model.*` settings of simulate."""

    kind: Literal["state_space", "recurrent", "narx", "tdnn"] = Field(
        default="state_space",
        description="state_space: a state of few values, moved by a network; recurrent: layers of model.cell; narx: a "
        "network that reads the last inputs and outputs; tdnn: one that reads the last inputs alone",
    )
    hidden_size: Width | list[Width] = Field(
        default=16, description="units: of state_space, of narx (a list: of each hidden layer), or of each layer"
    )
    state_size: int = Field(default=4, ge=1, description="state_space: values of the state")
    limits: bool = Field(
        default=False,
        description="state_space: outputs are values of the state themselves, and all of it stays within bounds, "
        "outputs within the range that they have in the training part: a tank that is full, a valve that is shut",
    )
    activation: str = Field(
        default="tanh", description=f"state_space, narx, tdnn: of the hidden units, {', '.join(ACTIVATIONS)}"
    )
    warmup: int = Field(
        default=20, ge=1, description="steps at a record's beginning that set the state, and are not scored"
    )
    encoder_steps: int | None = Field(
        default=None,
        ge=1,
        description="state_space, recurrent: how many of these, the last ones, the state is made of; 20 at most when "
        "left out",
    )
    encoder: list[Width] = Field(
        default_factory=lambda: [32],
        description="state_space, recurrent: hidden layers of the network that makes the first state, beside a linear "
        "map",
    )
    head: list[Width] = Field(
        default_factory=list, description="state_space, recurrent, tdnn: hidden layers between state and output"
    )
    input_delay: int = Field(default=2, ge=0, description="narx: steps that inputs are read back")
    output_delay: int = Field(default=2, ge=1, description="narx: steps that outputs are read back")
    linear: bool = Field(
        default=True, description="narx: a linear model beside the network, fitted by least squares beforehand"
    )
    delays: list[Width] = Field(default_factory=lambda: [30], description="tdnn: steps that each layer reads")
    members: int = Field(
        default=1, ge=1, description="networks that are learnt side by side, and whose mean is the answer"
    )

    @model_validator(mode="after")
    def _fitting(self) -> "SimulatorSettings":
        for key in (*OF_TEXTS, *(() if self.kind == "recurrent" else OF_LAYERS)):
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                said = "has no place in simulate" if key in OF_TEXTS else "is of kind = recurrent"
                raise ValueError(f"{key}: {said}; it is to be left out")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation: {unknown('function', self.activation, ACTIVATIONS)}")
        if self.bidirectional:
            raise ValueError("bidirectional: a simulation does not know the inputs to come; false is expected")
        self.bidirectional = False
        if self.limits and (self.kind != "state_space" or self.head):
            raise ValueError("limits: is of kind = state_space without a head, whose state holds the outputs")
        if self.limits and self.state_size < 2:
            raise ValueError("state_size: holds the outputs, one each (limits = true), and at least one value beside")
        if self.kind == "narx" and self.warmup < max(self.input_delay, self.output_delay):
            raise ValueError(
                f"warmup: {self.warmup} steps do not fill the delays, {max(self.input_delay, self.output_delay)}"
            )
        if self.encoder_steps is not None and self.encoder_steps > self.warmup:
            raise ValueError(f"encoder_steps: {self.encoder_steps} of {self.warmup} steps (model.warmup)")
        if self.kind == "tdnn" and isinstance(self.hidden_size, list) and len(self.hidden_size) != len(self.delays):
            raise ValueError(f"delays: {len(self.delays)} for {len(self.hidden_size)} widths (model.hidden_size)")
        return self

    @model_validator(mode="after")
    def _a_width_for_each_layer(self) -> "SimulatorSettings":
        if self.kind == "recurrent":
            super()._a_width_for_each_layer()  # type: ignore[operator]
        return self

    @property
    def steps_encoded(self) -> int:
        """What `encoder_steps` comes to."""
        return min(self.warmup, 20) if self.encoder_steps is None else self.encoder_steps


class Member(nn.Module):
    """One network, over values brought to mean 0 and deviation 1.

    Args:
        settings: The `model.*` settings.
        inputs: I.
        outputs: K.
    """

    def __init__(self, settings: SimulatorSettings, inputs: int, outputs: int) -> None:
        super().__init__()
        s = settings
        self.warmup, self.read, self.shown = s.warmup, s.steps_encoded, 0
        self.encoder: nn.Module | None = None
        self.bridge: Bridge | None = None
        self.head: nn.Module | None = None
        f = ACTIVATIONS[s.activation]
        if s.kind == "narx":
            self.recurrent: nn.Module = NARX(
                inputs,
                outputs,
                s.hidden_size,
                input_delay=s.input_delay,
                output_delay=s.output_delay,
                activation=s.activation,
                linear=s.linear,
            )
            return
        if s.kind == "tdnn":
            self.recurrent = TDNN(inputs, s.hidden_size, s.delays, activation=s.activation, dropout=s.dropout)
            self.head = _perceptron(self.recurrent.output_size, s.head, outputs)
            return
        if s.kind == "state_space":
            width = s.hidden_size if isinstance(s.hidden_size, int) else s.hidden_size[0]
            own = state_space_limited if s.limits else state_space
            layers = Recurrent(own(size=s.state_size, activation=f), inputs, width)
        else:
            layers = recurrent_layers(s, inputs)
        self.recurrent = layers
        read = self.read * (inputs + outputs)
        self.encoder = _perceptron(read, s.encoder[:-1], s.encoder[-1]) if s.encoder else None
        self.bridge = Bridge(read + (s.encoder[-1] if s.encoder else 0), layers, bounded=s.kind == "recurrent")
        self.shown = outputs if s.limits else 0  # values of the state that are the outputs
        if not self.shown:
            self.head = _perceptron(layers.output_size, s.head, outputs)

    def forward(self, u: Tensor, y: Tensor, ahead: bool = False) -> Tensor:
        """What follows the first n steps: (T - n, B, K).

        Args:
            u: (T, B, I).
            y: (T, B, K), of which the first n steps are read; all, where it is one step `ahead` that is said.
            ahead: Say each step from the true outputs before it, instead of from the network's own.
        """
        n, layers = self.warmup, self.recurrent
        if isinstance(layers, NARX):
            return layers(u[n:], y[n:] if ahead else None, layers.lines(u[:n], y[:n]))[0]
        if isinstance(layers, TDNN):
            return self._output(layers(u)[0][n:])
        if ahead:
            return self._ahead(u, y)
        state = self._state(u[n - self.read : n], y[n - self.read : n])
        return self._output(layers(u[n:], state)[0])

    def _output(self, hidden: Tensor) -> Tensor:
        return hidden[..., : self.shown] if self.head is None else self.head(hidden)

    def _state(self, u: Tensor, y: Tensor) -> Any:
        """The state behind so many steps, from (m, B, I) and (m, B, K)."""
        seen = torch.cat([u, y], -1).transpose(0, 1).flatten(1)
        assert self.bridge is not None
        state = self.bridge(seen if self.encoder is None else torch.cat([seen, torch.tanh(self.encoder(seen))], -1))
        if not self.shown:
            return state
        return type(state)(torch.cat([y[-1:], state.h[..., self.shown :]], -1))

    def _ahead(self, u: Tensor, y: Tensor) -> Tensor:
        """Each step from a state made of the true steps before it: all of them as rows of one batch."""
        n, m, (T, B) = self.warmup, self.read, u.shape[:2]
        rows = [values[n - m : T - 1].unfold(0, m, 1).permute(3, 0, 1, 2).flatten(1, 2) for values in (u, y)]
        said, _ = self.recurrent(u[n:].flatten(0, 1).unsqueeze(0), self._state(*rows))
        return self._output(said).view(T - n, B, -1)


def _perceptron(width: int, hidden: Sequence[int], outputs: int) -> nn.Module:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.Tanh()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, outputs)) if layers else nn.Linear(width, outputs)


class Simulator(Network):
    """One or several networks beside each other, each with its own parameters, and the scales that they share.

    Args:
        settings: The `model.*` settings.
        inputs: I.
        outputs: K.
        one_step: Whether training feeds the true outputs back (series-parallel) instead of the network's own.
    """

    input_mean: Tensor
    input_deviation: Tensor
    output_mean: Tensor
    output_deviation: Tensor

    def __init__(self, settings: SimulatorSettings, inputs: int, outputs: int, *, one_step: bool = False) -> None:
        super().__init__()
        self.embedding, self.one_step, self.limits = None, one_step, settings.limits
        for name, size in (("input", inputs), ("output", outputs)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_deviation", torch.ones(size))
        self._words = _words(settings)
        self.members = nn.ModuleList(Member(settings, inputs, outputs) for _ in range(settings.members))

    @property
    def recurrent(self) -> Any:  # type: ignore[override]  # that of the first network
        """The layers that run along time."""
        return self.members[0].recurrent

    @property
    def words(self) -> str:
        """See `Network.words`."""
        return self._words

    @property
    def warmup(self) -> int:
        """n, the steps that set the state."""
        return self.members[0].warmup  # type: ignore[return-value]

    def by_symbol(self, tensors: Any) -> dict[str, list[Tensor]]:
        """Views of the parameters by symbol: what the layers have, of every network; "V", the matrices behind them."""
        found: dict[str, list[Tensor]] = {}
        for i, member in enumerate(self.members):
            prefix = f"members.{i}.recurrent."
            own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
            layers: Any = member.recurrent
            for symbol, views in layers.by_symbol(own).items():
                found.setdefault(symbol, []).extend(views)
        if any(".head." in name for name in tensors):
            found["V"] = [v for name, v in tensors.items() if ".head." in name and v.dim() > 1]
        return found

    def forward(
        self, u: Tensor, y: Tensor, lengths: Tensor | None = None, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """What each network says of the steps behind the first n, on the common scale: (M, T - n, B, K).

        Args:
            u: Inputs in their own units, (T, B, I).
            y: Outputs, (T, B, K), of which the first n are read; all in training one step ahead.
            lengths: What is padded lies behind what is not, and so changes nothing; not read.
            state: None; a record begins with its own first steps.
            rule: None or backpropagation, which is what autodiff does.
        """
        return torch.stack(self.said(u, y, ahead=self.one_step and self.training)), None

    def said(self, u: Tensor, y: Tensor, *, ahead: bool) -> list[Tensor]:
        """That of each network, (T - n, B, K); see `Member`.

        Raises:
            DataError: There is no step behind the first n.
        """
        if len(u) <= self.warmup:
            raise DataError(
                f"{len(u)} step{'s' * (len(u) != 1)} of a record, and model.warmup takes the first {self.warmup} to "
                "set the state; a longer record is expected"
            )
        u = (u - self.input_mean) / self.input_deviation
        y = (y - self.output_mean) / self.output_deviation
        return [member(u, y, ahead) for member in self.members]

    @torch.no_grad()
    def scale_from(self, u: np.ndarray, y: np.ndarray) -> None:
        """Learn the scales from all steps of the training part, (S, I) and (S, K): mean 0 and deviation 1, or outputs
        from -1 to 1 where these are limits."""
        for name, values in (("input", u), ("output", y)):
            mean, deviation = values.mean(0), spread(values)
            if name == "output" and self.limits:
                mean, deviation = (values.max(0) + values.min(0)) / 2, (values.max(0) - values.min(0)) / 2
            getattr(self, f"{name}_mean").copy_(torch.from_numpy(mean))
            getattr(self, f"{name}_deviation").copy_(torch.from_numpy(deviation))

    @torch.no_grad()
    def begin_with(self, linear: NARX) -> None:
        """Let the linear part of every NARX be a model that was fitted on the common scale, and has the same delays."""
        for member in self.members:
            layers = member.recurrent
            if isinstance(layers, NARX) and layers.linear:
                layers.linear_x.copy_(linear.weight_x)
                layers.linear_y.copy_(linear.weight_y)
                layers.get_parameter(f"bias_l{len(layers.hidden_size)}").copy_(linear.bias_l0)


def _words(s: SimulatorSettings) -> str:
    """The network in a line."""
    size = s.hidden_size if isinstance(s.hidden_size, int) else "-".join(map(str, s.hidden_size))
    delays = f"{s.input_delay} inputs and {s.output_delay} outputs back"
    beside = ", beside a linear model" if s.linear else ""
    said = {
        "state_space": f"state of {s.state_size}, moved by {size} {s.activation} units",
        "recurrent": f"{s.cell} {size}",
        "narx": f"NARX of {size} {s.activation} units, {delays}{beside}",
        "tdnn": f"time-delay network {size} over {'-'.join(map(str, s.delays))} steps",
    }[s.kind]
    return f"mean of {s.members} networks: {said}" if s.members > 1 else said


def least_squares(records: Sequence[tuple[np.ndarray, np.ndarray]], p: int, q: int) -> NARX:
    """ARX: y_t = Σ_(i=0..p) B_i u_(t-i) + Σ_(j=1..q) A_j y_(t-j) + c, fitted one step ahead (eq. 6.3 with a linear f).

    Args:
        records: u (T, I) and y (T, K) of each, on a common scale.
        p: Steps that inputs are read back.
        q: Steps that outputs are read back.
    """
    most = max(p, q)
    rows, targets = [], []
    for u, y in records:
        T = len(u)
        if most < T:
            lagged = [u[most - i : T - i] for i in range(p + 1)] + [y[most - j : T - j] for j in range(1, q + 1)]
            rows.append(np.hstack([*lagged, np.ones((T - most, 1))]))
            targets.append(y[most:])
    design, target = np.concatenate(rows), np.concatenate(targets)
    weights = torch.from_numpy(np.linalg.lstsq(design, target, rcond=None)[0].T)
    model = NARX(records[0][0].shape[1], target.shape[1], [], input_delay=p, output_delay=q, dtype=torch.float64)
    read = model.weight_x.shape[1]
    with torch.no_grad():
        model.weight_x.copy_(weights[:, :read])
        model.weight_y.copy_(weights[:, read:-1])
        model.bias_l0.copy_(weights[:, -1])
    return model


def free_run(model: NARX, u: np.ndarray, y: np.ndarray, warmup: int, *, ahead: bool = False) -> np.ndarray:
    """What a linear model says behind the first steps, (T - n, K), fed its own outputs, or `ahead` the true ones."""
    given, true = torch.from_numpy(u), torch.from_numpy(y)
    with torch.no_grad():
        lines = model.lines(given[:warmup], true[:warmup])
        return model(given[warmup:], true[warmup:] if ahead else None, lines)[0].numpy()


def spread(values: np.ndarray) -> np.ndarray:
    """The deviation of each column, (S, K) -> (K,); of one that never moves its size, and 1 where that is 0."""
    deviation, size = values.std(0), np.abs(values).max(0)
    return np.where(deviation > 1e-12 * size, deviation, np.where(size > 0, size, 1.0))


def scaled(values: np.ndarray, mean: Tensor, deviation: Tensor) -> np.ndarray:
    """Brought to the common scale, in double precision."""
    return (values - mean.double().cpu().numpy()) / deviation.double().cpu().numpy()


def mean_squared(outputs: Tensor, targets: Tensor, valid: Tensor | None) -> Tensor:
    """The mean squared error over networks and steps that are no padding.

    Args:
        outputs: (M, T, B, K).
        targets: (T, B, K).
        valid: (T, B, 1) bool; None where all are.
    """
    errors = F.mse_loss(outputs, targets.expand_as(outputs), reduction="none")
    if valid is None:
        return errors.mean()
    return torch.where(valid, errors, 0.0).sum() / (valid.sum() * errors.shape[-1] * len(outputs))
