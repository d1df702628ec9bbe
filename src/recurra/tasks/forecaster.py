"""The network of `forecast`: what reads a window, what its steps ahead are made of, and the settings of both."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from recurra.data.series import SeriesWindows, WindowBatch
from recurra.errors import DataError, RecipeError
from recurra.learn.rule import Rule
from recurra.nn.attention import Attention
from recurra.nn.decoder import Bridge, Decoder, DecoderState, selected
from recurra.tasks.forecast_output import Error, Output, output
from recurra.tasks.model import LayerSettings, Network, Width, head_of, last_output, layers_of, recurrent_layers


class ForecasterSettings(LayerSettings):
    """The `model.*` settings of forecast."""

    kind: Literal["recurrent", "encoder_decoder", "tdnn", "narx", "ar", "linear"] = Field(  # pyright: ignore[reportIncompatibleVariableOverride]
        default="recurrent",
        description="what reads the series: recurrent layers; an encoder and a decoder of them; a time-delay network; "
        "narx, one that goes on from its own forecasts; ar and linear, a linear part by itself, of one step ahead or "
        "of all at once",
    )
    multi_step: Literal["direct", "recursive"] | None = Field(
        default=None,
        description="direct: all steps ahead are put out at once; recursive: one step, which is read for the next; "
        "when left out recursive for narx and ar, else direct",
    )
    output: Literal["point", "quantiles", "gaussian", "student_t"] = Field(
        default="point", description="what is forecast: a number, quantiles of it, or a distribution"
    )
    quantiles: list[float] = Field(
        default=[0.1, 0.5, 0.9],
        description="levels of the quantiles that are told, beside the median and the bounds of the interval",
    )
    interval: float = Field(default=0.95, gt=0, lt=1, description="share of truths that lower and upper are to enclose")
    paths: int = Field(
        default=200,
        ge=2,
        description="futures drawn for each forecast, where one step is drawn after another from a distribution",
    )
    linear: int = Field(
        default=0,
        ge=0,
        description="steps read by a linear part beside the network, an autoregression whose sum with it is put out "
        "(as in LSTNet, Lai et al. 2018); 0: none. Of the kinds ar and linear all that there is; 0 is the context then",
    )
    linear_start: Literal["least_squares", "random"] = Field(
        default="least_squares",
        description="what the linear part begins with: the least squares of the training part, from which the network "
        "learns what is left; or random weights",
    )
    linear_fixed: bool = Field(default=False, description="leave the linear part as it begins")
    apart: bool = Field(
        default=False,
        description="several targets: read each by itself, by one set of weights, instead of all together",
    )
    segment: int = Field(
        default=1,
        ge=1,
        description="rows of the context that make one step of the network (as in SegRNN, Lin et al. 2023), of direct "
        "forecasts",
    )
    series_size: int = Field(
        default=0, ge=0, description="width of a vector learnt for each series (and target, where apart); 0: none"
    )
    attention: Literal["none", "additive", "dot", "general"] = Field(
        default="none", description="encoder_decoder: how the decoder looks at the encoder's states"
    )
    head: list[Width] = Field(default_factory=list, description="widths of hidden layers before the output")
    bidirectional: bool | None = Field(
        default=False, description="direct forecasts and encoders: read the context in both directions"
    )

    @model_validator(mode="after")
    def _levels(self) -> "ForecasterSettings":
        if wrong := [level for level in self.quantiles if not 0 < level < 1]:
            raise ValueError(f"quantiles: {wrong[0]:g} is no level; numbers between 0 and 1 are expected")
        return self

    @property
    def has_delays(self) -> bool:
        """See `LayerSettings`."""
        return self.kind in ("tdnn", "narx")

    @property
    def recursive(self) -> bool:
        """Whether one step is forecast at a time, by layers that go on through the horizon."""
        if self.kind == "encoder_decoder":
            return False
        return self.multi_step == "recursive" if self.multi_step else self.kind in ("narx", "ar")

    @property
    def levels(self) -> list[float]:
        """The levels of the quantiles that are given, rising: those asked for, the median, the interval's bounds."""
        bounds = (round((1 - self.interval) / 2, 6), round((1 + self.interval) / 2, 6))
        return sorted({*self.quantiles, 0.5, *bounds})


class Window(NamedTuple):
    """What a network reads of B windows of C rows and H to be forecast; see `recurra.data.series.WindowBatch`.

    Attributes:
        values: (C + H, B, K), scaled. Those behind the origin are the truth, for training alone.
        seen: (C + H, B, K), 1 where they are known, else 0.
        past: (C, B, P).
        known: (C + H, B, F).
        static: (B, G).
        which: (B,) int64.
    """

    values: Tensor
    seen: Tensor
    past: Tensor
    known: Tensor
    static: Tensor
    which: Tensor

    @classmethod
    def of(cls, batch: WindowBatch) -> "Window":
        """The window of a batch."""
        seen = batch.seen.to(batch.values.dtype)
        return cls(batch.values, seen, batch.past, batch.known, batch.static, batch.which)


class Shape(NamedTuple):
    """The widths and sizes of a task's windows: targets K, past, known and static covariates, series N, C and H; and
    whether training windows have missing numbers, which are then told apart."""

    targets: int
    past: int
    known: int
    static: int
    series: int
    context: int
    horizon: int
    masked: bool


class Carried(NamedTuple):
    """All that the next step ahead depends on, of R rows.

    Attributes:
        layers: The state of the recurrent layers, or of the decoder; None without layers.
        recent: (L, R, K), the last numbers, which the linear part reads.
        known: (H, R, F), the known covariates of the steps ahead.
        fixed: (R, G), what is read at every step.
    """

    layers: Any
    recent: Tensor
    known: Tensor
    fixed: Tensor

    def select(self, rows: Tensor) -> "Carried":
        """The rows named, (R',), which may be named several times."""
        layers = self.layers
        if layers is not None:
            layers = layers.select(rows) if isinstance(layers, DecoderState) else selected(layers, rows)
        recent, known = self.recent.index_select(1, rows), self.known.index_select(1, rows)
        return Carried(layers, recent, known, self.fixed.index_select(0, rows))


class Forecaster(Network):
    """The numbers to come, of those before them.

    A step of the context reads z_t (scaled targets), which of them are known, the covariates of that step, and those of
    the next that are known ahead. From there on, by kind:

        direct           ẑ_(T+1) … ẑ_(T+H) = V h_T (and what the known covariates of each step add)
        recursive        ẑ_(t+1) = V h_t, read in the place of z_(t+1) behind the origin
        encoder_decoder  h_(T+t) = f_2(h_(T+t-1), ẑ_(T+t-1)), ẑ_(T+t) = V h_(T+t): eqs 6.23-6.25 over numbers. (Eq. 6.24
                         of the source has another index of h on the right than T + t - 1, which is meant.)

    To which a linear part adds a_0 + Σ_i a_i z_(t-i), the same for every target and series (`model.linear`).

    Args:
        settings: The `model.*` settings.
        shape: The sizes of what is read.
        error: The error that point forecasts are learnt by.

    Attributes:
        form: What a forecast is.
        stepwise: Whether a step ahead reads the forecast of the one before.
        depth: Steps L that the linear part reads; 0 where there is none.
        errors: (H, K, Q), quantiles of a point forecast's errors on the validation part.
        error_size: (H, K), the root of their mean square.
    """

    errors: Tensor
    error_size: Tensor

    def __init__(self, settings: ForecasterSettings, shape: Shape, error: Error = "mse") -> None:
        super().__init__()
        self.settings, self.shape, s = settings, shape, settings
        _check(s, shape)
        self.embedding = None
        self.form: Output = output(s.output, s.levels, error)
        self.recursive, self.has_decoder = s.recursive, s.kind == "encoder_decoder"
        self.stepwise = self.recursive or self.has_decoder
        self.apart = s.apart and shape.targets > 1
        K, M = 1 if self.apart else shape.targets, self.form.width
        self.steps = 1 if self.stepwise else shape.horizon
        groups = shape.series * (shape.targets if self.apart else 1)
        self.series_vectors = nn.Embedding(groups, s.series_size) if s.series_size else None
        self.has_layers = s.kind not in ("ar", "linear")
        self.depth = s.linear if self.has_layers else s.linear or shape.context
        self.linear = nn.Linear(self.depth, self.steps) if self.depth else None
        self.ahead = None
        if self.has_layers:
            self._make_layers(K * (2 if shape.masked else 1) + shape.past + shape.known, shape.static + s.series_size)
            width = self.decoder.size if self.has_decoder else self.recurrent.output_size
            self.head, width = head_of(width, s.head, s.output_dropout)
            self.output = nn.Linear(width, self.steps * K * M)
            if not self.stepwise and shape.known:
                self.ahead = Ahead(width, shape.known, K * M)
        else:
            self.recurrent = NoLayers()  # pyright: ignore[reportAttributeAccessIssue]  # of which nothing is asked
            self.spread = nn.Parameter(torch.zeros(self.steps, 1, K, M))
        if self.linear is not None:
            self.linear.requires_grad_(not s.linear_fixed)
        self.register_buffer("errors", torch.zeros(shape.horizon, shape.targets, len(s.levels)))
        self.register_buffer("error_size", torch.zeros(shape.horizon, shape.targets))

    def _make_layers(self, read: int, fixed: int) -> None:
        """The layers that read the context, and the decoder."""
        s, K = self.settings, 1 if self.apart else self.shape.targets
        self.recurrent = layers_of(s, s.segment * read + fixed, forward_only=self.recursive)
        if not self.has_decoder:
            return
        one_way = s.model_copy(update={"bidirectional": False, "input_layers": []})
        layers = recurrent_layers(one_way, K + self.shape.known + fixed)
        attention, size = None, None
        if s.attention != "none":
            try:
                attention = Attention(s.attention, layers.output_size, self.recurrent.output_size)
            except ValueError as error:
                raise RecipeError(f"model.attention: {error}") from error
            size = layers.output_size
        self.decoder = Decoder(layers, attention, size=size)
        self.bridge = Bridge(self.recurrent.output_size, layers)

    @property
    def words(self) -> str:
        """See `Network.words`."""
        s, linear = self.settings, f"linear part of {self.depth} steps" if self.depth else ""
        if not self.has_layers:
            return f"{s.kind}, {linear}"
        what = {"encoder_decoder": f"encoder and decoder of {s.cell}", "recurrent": s.cell}.get(s.kind, s.kind)
        layers = f"{s.num_layers} layers of " if s.num_layers > 1 else ""
        named = [f"{layers}{what} {s.hidden_size}", *([f"over {s.delays} steps"] if s.delays else [])]
        named += ["both directions"] if self.both_ways else []
        named += [f"{s.segment} rows a step"] if s.segment > 1 else []
        return ", ".join([*named, *([linear] if linear else [])])

    # --- what a window looks like to the layers ---------------------------------------------------------------------

    def _prepared(self, window: Window) -> tuple[Window, Tensor]:
        """The window, each target by itself where they are apart; and what is read at every step, (B, G)."""
        which, K = window.which, self.shape.targets
        if self.apart:
            T, B, _ = window.values.shape
            values, seen = (v.reshape(T, B * K, 1) for v in (window.values, window.seen))
            past, known = (v.repeat_interleave(K, 1) for v in (window.past, window.known))
            which = (which.unsqueeze(1) * K + torch.arange(K, device=which.device)).flatten()
            window = Window(values, seen, past, known, window.static.repeat_interleave(K, 0), which)
        if self.series_vectors is None:
            return window, window.static
        if bool((which < 0).any()):
            raise DataError(
                "a series that training did not have: model.series_size learns a vector for each by its name"
            )
        return window, torch.cat([window.static, self.series_vectors(which)], -1)

    def _together(self, v: Tensor) -> Tensor:
        """(T, B K, 1, …) as (T, B, K, …), where targets were apart."""
        if not self.apart:
            return v
        return v.reshape(len(v), -1, self.shape.targets, *v.shape[3:])

    def _read(self, values: Tensor, seen: Tensor, past: Tensor, known: Tensor, fixed: Tensor) -> Tensor:
        """What the layers read at T steps, (T, B, width); `known` is that of the steps after them."""
        parts = [values, seen] if self.shape.masked else [values]
        if self.shape.past:
            parts.append(past)
        rows = torch.cat([*parts, known], -1)
        T, B, width = rows.shape
        if (size := self.settings.segment) > 1:
            T //= size
            rows = rows.view(T, size, B, width).transpose(1, 2).reshape(T, B, size * width)
        return torch.cat([rows, fixed.expand(T, B, -1)], -1)

    def _context(self, window: Window, fixed: Tensor) -> Tensor:
        """What the layers read of the context."""
        C = self.shape.context
        return self._read(window.values[:C], window.seen[:C], window.past, window.known[1 : C + 1], fixed)

    # --- what is put out --------------------------------------------------------------------------------------------

    def _raw(self, h: Tensor, steps: int) -> Tensor:
        """The raw values of some steps, (steps, B, K, M), of the state at each, (steps, B, W), or at one, (B, W)."""
        K, M = 1 if self.apart else self.shape.targets, self.form.width
        out = self.output(self.head(h))
        if h.dim() == 3:
            return out.view(steps, -1, K, M)
        return out.view(-1, steps, K, M).transpose(0, 1)

    def _with_linear(self, raw: Tensor, recent: Tensor) -> Tensor:
        """`raw`, moved by the linear part of the numbers before, (T, B, K, L) for T steps, or (B, K, L) for all."""
        if self.linear is None:
            return raw
        found = self.linear(recent)
        found = found.squeeze(-1) if recent.dim() == 4 else found.movedim(-1, 0)
        n = self.form.located
        moved = raw[..., :n] + found.unsqueeze(-1)
        return moved if n == self.form.width else torch.cat([moved, raw[..., n:].expand(*moved.shape[:3], -1)], -1)

    def _recent(self, values: Tensor) -> Tensor:
        """The L numbers up to each step, oldest first: (T, B, K, L); 0 before the first."""
        if not self.depth:
            return values.new_zeros(*values.shape, 0)
        padded = torch.cat([values.new_zeros(self.depth - 1, *values.shape[1:]), values])
        return padded.unfold(0, self.depth, 1)

    def forward(
        self, window: Window, forcing: float = 1.0, state: Any = None, rule: Rule | None = None
    ) -> tuple[Tensor, Any]:
        """The raw values of the steps ahead, each from true numbers before it where forecasts are made step by step.

        Args:
            window: The windows.
            forcing: Share of the numbers behind the origin that are the true ones, rather than the network's own
                forecasts, in training.
            state: Not taken: a window begins anew.
            rule: Not taken: the gradient is found by automatic differentiation.

        Returns:
            (H, B, K, M); recursive, (C - 1 + H, B, K, M), for behind every step of the context, too. And no state.
        """
        window, fixed = self._prepared(window)
        if not self.stepwise:
            return self._together(self._direct(window, fixed)), None
        if forcing < 1 and self.training:
            return self._together(self._sampling(window, fixed, forcing)), None
        C = self.shape.context
        if self.has_decoder:
            begun = self._encoded(window, fixed)
            inputs = self._fed(window.values[C - 1 : -1], window.known[C:], fixed)
            h, _ = self.decoder(inputs, begun)
            raw = self._with_linear(self._raw(h, len(h)), self._recent(window.values[:-1])[C - 1 :])
            return self._together(raw), None
        values, seen = window.values[:-1], window.seen[:-1]
        if self.has_layers:
            h, _ = self.recurrent(self._read(values, seen, window.past, window.known[1:], fixed))
            raw = self._raw(h, len(h))
        else:
            raw = self._none(values)
        return self._together(self._with_linear(raw, self._recent(values))), None

    def _none(self, values: Tensor) -> Tensor:
        """The raw values to which the linear part alone adds, (T, B, K, M)."""
        return self.spread.expand(len(values) if self.stepwise else -1, values.shape[1], -1, -1)

    def _direct(self, window: Window, fixed: Tensor) -> Tensor:
        C = self.shape.context
        if self.has_layers:
            h = self._last(*self.recurrent(self._context(window, fixed)))
            raw = self._raw(h, self.steps)
            if self.ahead is not None:
                raw = raw + self.ahead(self.head(h), window.known[C:]).view_as(raw)
        else:
            raw = self._none(window.values)
        recent = window.values[C - self.depth : C].movedim(0, -1)
        return self._with_linear(raw, recent)

    def _last(self, output: Tensor, final: Any) -> Tensor:
        """The state that has read the whole context, (B, W)."""
        return last_output(self.recurrent, output, final, None)

    # --- step by step -----------------------------------------------------------------------------------------------

    def _encoded(self, window: Window, fixed: Tensor) -> DecoderState:
        """The decoder's first state."""
        states, final = self.recurrent(self._context(window, fixed))
        memory = None if self.decoder.attention is None else self.decoder.attention.memory(states)
        return DecoderState(self.bridge(self._last(states, final)), memory=memory)

    def _fed(self, values: Tensor, known: Tensor, fixed: Tensor) -> Tensor:
        """What the decoder reads at T steps: the numbers before them, and their known covariates."""
        return torch.cat([values, known, fixed.expand(len(values), -1, -1)], -1)

    def begin(self, window: Window, fixed: Tensor) -> tuple[Tensor, Carried]:
        """The raw values of the first step ahead, (B, K, M), and what the next depends on."""
        C = self.shape.context
        values, known = window.values[:C], window.known[C:]
        recent = values[C - max(1, self.depth) :]
        if self.has_decoder:
            return self.next(values[-1], 0, Carried(self._encoded(window, fixed), recent[:-1], known, fixed))
        if self.has_layers:
            h, layers = self.recurrent(self._context(window, fixed))
            raw = self._raw(h[-1:], 1)
        else:
            raw, layers = self._none(values[-1:]), None
        raw = self._with_linear(raw, recent.movedim(0, -1).unsqueeze(0))
        return raw[0], Carried(layers, recent, known, fixed)

    def next(self, values: Tensor, step: int, carried: Carried) -> tuple[Tensor, Carried]:
        """The raw values of a step ahead, counted from 0, (R, K, M), where the one before it had `values`, (R, K)."""
        values, layers = values.unsqueeze(0), carried.layers
        recent = torch.cat([carried.recent, values])[-max(1, self.depth) :]
        known = carried.known[step : step + 1]
        if self.has_decoder:
            h, layers = self.decoder.step(self._fed(values, known, carried.fixed)[0], layers)
            raw = self._raw(h.unsqueeze(0), 1)
        elif self.has_layers:
            # Past covariates are not there behind the origin: `_check` lets none be, unless there is no second step.
            x = self._read(values, torch.ones_like(values), values[..., :0], known, carried.fixed)
            h, layers = self.recurrent(x, layers)
            raw = self._raw(h, 1)
        else:
            raw = self._none(values)
        raw = self._with_linear(raw, recent.movedim(0, -1).unsqueeze(0))
        return raw[0], carried._replace(layers=layers, recent=recent)

    def _sampling(self, window: Window, fixed: Tensor, forcing: float) -> Tensor:
        """The raw values of the steps ahead, each from the true number before it or, for some windows at some steps,
        from the forecast of it, through which the gradient goes, too (scheduled sampling, Bengio et al. 2015, over
        numbers; with a share of 0 the parallel mode of Narendra & Parthasarathy 1990)."""
        ahead, seen = window.values[self.shape.context :], window.seen[self.shape.context :]
        raw, carried = self.begin(window, fixed)
        found = [raw]
        for step in range(1, self.shape.horizon):
            forced = torch.rand(len(fixed), 1, device=fixed.device) < forcing
            values = torch.where(forced & (seen[step - 1] > 0), ahead[step - 1], self.form.middle(raw))
            raw, carried = self.next(values, step, carried)
            found.append(raw)
        return torch.stack(found)

    @torch.no_grad()
    def paths(self, window: Window, count: int | None = None) -> Tensor:
        """Futures drawn step by step, (count, H, B, K); without a count, the one that the middles make, (H, B, K)."""
        window, fixed = self._prepared(window)
        raw, carried = self.begin(window, fixed)
        B, each = len(fixed), count or 1
        if each > 1:
            rows = torch.arange(B, device=fixed.device).repeat_interleave(each)
            raw, carried = raw.index_select(0, rows), carried.select(rows)
        found: list[Tensor] = []
        for step in range(self.shape.horizon):
            if step:
                raw, carried = self.next(found[-1], step, carried)
            found.append(self.form.middle(raw) if count is None else self.form.draw(raw))
        drawn = torch.stack(found).view(self.shape.horizon, B, each, -1).permute(2, 0, 1, 3)
        drawn = drawn.reshape(each, self.shape.horizon, -1, self.shape.targets)
        return drawn[0] if count is None else drawn

    # --- how it begins ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def learn_from(self, train: SeriesWindows) -> None:
        """Begin with the linear part that has the least squares on the training windows, and with their deviation."""
        deviation = torch.ones(self.steps)
        if self.linear is not None and self.settings.linear_start == "least_squares":
            weights, deviation = least_squares(train, self.depth, self.stepwise)
            self.linear.weight.copy_(weights[:, 1:])
            self.linear.bias.copy_(weights[:, 0])
            if self.has_layers:  # which begin with nothing to add
                self.output.weight.zero_()
                if self.ahead is not None:
                    self.ahead.out.weight.zero_()
        begun = torch.tensor([self.form.begin(d) for d in deviation.tolist()])
        if self.has_layers:
            self.output.bias.copy_(
                begun.unsqueeze(1).expand(-1, self.output.bias.numel() // begun.numel(), -1).flatten()
            )
        else:
            self.spread.copy_(begun.view(self.steps, 1, 1, -1).expand_as(self.spread))

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """See `Network.by_symbol`; those of encoder and decoder are together."""
        found = super().by_symbol(tensors)
        if self.has_decoder:
            prefix = "decoder.layers."
            own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
            for symbol, views in self.decoder.layers.by_symbol(own).items():
                found[symbol] = [*found.get(symbol, []), *views]
        return found


class Ahead(nn.Module):
    """What the known covariates of each step ahead add to a direct forecast: V tanh(W h + U u_(T+t) + b).

    Args:
        size: Width of the state.
        known: Known covariates F.
        outputs: What is added to at each step.
    """

    def __init__(self, size: int, known: int, outputs: int) -> None:
        super().__init__()
        width = max(16, min(64, size))
        self.state, self.known = nn.Linear(size, width), nn.Linear(known, width, bias=False)
        self.out = nn.Linear(width, outputs, bias=False)

    def forward(self, h: Tensor, known: Tensor) -> Tensor:
        """(H, B, outputs) for a state (B, size) and covariates (H, B, F)."""
        return self.out(torch.tanh(self.state(h) + self.known(known)))


class NoLayers(nn.Module):
    """Stands where layers would, in a network that has a linear part alone."""

    bidirectional = False
    skip = None

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """It has no parameters."""
        del tensors
        return {}


PIECE = 512
"""Windows that are looked at together in finding the least squares."""


def least_squares(train: SeriesWindows, depth: int, stepwise: bool) -> tuple[Tensor, Tensor]:
    """The linear map from the last numbers to those ahead whose squared error over the training windows is the least.

    Args:
        train: The windows.
        depth: Numbers L that are read.
        stepwise: Map to the next number alone, from every place of a window, each row of the series being mapped to
            once; else from the end of the context to all H steps.

    Returns:
        (1 or H, 1 + L) float64, the constant first; and the deviation of the error, (1 or H,).
    """
    C, K = train.context, train.series.targets.shape[1]
    used = np.zeros(train.series.targets.shape, dtype=bool)
    steps = 1 if stepwise else train.horizon
    products, count = np.zeros((1 + depth + steps, 1 + depth + steps)), 0
    for first in range(0, len(train), PIECE):
        indices = np.arange(first, min(first + PIECE, len(train)))
        batch = train.batch(indices)
        values = batch.values.numpy()
        if stepwise:
            read = np.lib.stride_tricks.sliding_window_view(values[:-1], depth, axis=0)  # (T, B, K, L)
            wanted, known = values[depth:, ..., None], batch.seen.numpy()[depth:]
            rows = train.at(indices, depth - C, train.horizon)[..., None] * K + np.arange(K)
            known = known & ~used.reshape(-1)[rows]
            once = np.zeros(rows.size, dtype=bool)
            once[np.unique(np.where(known, rows, -1), return_index=True)[1]] = True
            known &= once.reshape(rows.shape)
            used.reshape(-1)[rows[known]] = True
        else:
            read, wanted = np.moveaxis(values[C - depth : C], 0, -1), np.moveaxis(batch.targets.numpy(), 0, -1)
            known = batch.asked.numpy().all(0)
        read, wanted = read[known], wanted[known]
        rows = np.concatenate([np.ones((len(read), 1)), read, wanted], 1)
        products += rows.T @ rows
        count += len(rows)
    n = 1 + depth
    # A trifle on the diagonal, so that columns that depend on each other (a constant series) have a solution, too.
    normal = products[:n, :n] + 1e-9 * (1 + products.trace() / len(products)) * np.eye(n)
    weights = np.linalg.solve(normal, products[:n, n:])
    squares = products[n:, n:].diagonal() - (weights * products[:n, n:]).sum(0)
    deviation = np.sqrt(np.maximum(squares / max(1, count), 1e-8))
    return torch.from_numpy(weights.T.copy()), torch.from_numpy(deviation)


def _divisors_about(number: int, wanted: int) -> str:
    """The largest divisor of a number below the one wanted, and the smallest above it, where there is one."""
    divisors = [one for one in range(1, number + 1) if number % one == 0]
    return " and ".join(
        str(one)
        for one in (max(one for one in divisors if one < wanted), *[one for one in divisors if one > wanted][:1])
    )


def _check(s: ForecasterSettings, shape: Shape) -> None:
    """Raises RecipeError for settings that do not go together, or not with these data."""
    stepwise = s.recursive or s.kind == "encoder_decoder"
    if s.kind == "narx" and s.multi_step == "direct":
        raise RecipeError("model.multi_step: 'direct' reads no forecast, which is what narx does; model.kind = 'tdnn'")
    if s.kind == "ar" and s.multi_step == "direct":
        raise RecipeError("model.multi_step: 'direct' is what model.kind = 'linear' is; ar forecasts step by step")
    if s.kind == "linear" and s.multi_step == "recursive":
        raise RecipeError(
            "model.multi_step: 'recursive' is what model.kind = 'ar' is; linear forecasts all steps at once"
        )
    if s.kind == "encoder_decoder" and s.multi_step:
        raise RecipeError(
            "model.multi_step: an encoder_decoder reads its own last forecast, by a decoder; it is to be left out"
        )
    if s.attention != "none" and s.kind != "encoder_decoder":
        raise RecipeError(f"model.attention: {s.attention!r} is the decoder's; model.kind is {s.kind!r}")
    if stepwise and s.segment > 1:
        raise RecipeError("model.segment: rows are read together by direct forecasts alone; 1 here")
    if shape.context % s.segment:
        raise RecipeError(
            f"model.segment: {s.segment} rows a step do not divide data.context, which is {shape.context}; the nearest "
            f"that do are {_divisors_about(shape.context, s.segment)}"
        )
    if s.linear > shape.context:
        raise RecipeError(f"model.linear: reads {s.linear} steps, and data.context is {shape.context}")
    if s.recursive and shape.past and shape.horizon > 1:
        raise RecipeError(
            "model.multi_step: 'recursive' goes on by its own forecasts, and past covariates (data.past) are not "
            "forecast: 'direct', or make them targets"
        )
    if s.bidirectional and (s.recursive or s.kind in ("tdnn", "narx")):
        raise RecipeError("model.bidirectional: what goes on from step to step reads forward; false is expected")
