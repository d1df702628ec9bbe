"""Memory without a loop (§6.1): autoregression, the time-delay network, and NARX."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike
from scipy.linalg import solve_triangular
from scipy.stats import norm
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.errors import DataError, unknown
from recurra.nn.arguments import Layout, check_dtype, check_share, flag, sizes_of_layers, whole, within_lengths
from recurra.nn.arguments import activation as function_named

Criterion = Literal["aic", "bic"]


@dataclass(frozen=True)
class Forecast:
    """What an autoregression says of the values to come.

    Attributes:
        mean: (..., H) float64, the h-th what is expected h steps ahead.
        deviation: (H,) of the error h steps ahead, σ (Σ_(j<h) ψ_j²)^½; it leaves out that coefficients are estimates.
        level: Share of intervals that hold the true value, where errors are Gaussian and the coefficients right.
    """

    mean: np.ndarray
    deviation: np.ndarray
    level: float

    @property
    def lower(self) -> np.ndarray:
        """(..., H), the lower bounds."""
        return self.mean - self._half

    @property
    def upper(self) -> np.ndarray:
        """(..., H), the upper bounds."""
        return self.mean + self._half

    @property
    def _half(self) -> np.ndarray:
        return float(norm.ppf((1 + self.level) / 2)) * self.deviation


class AR:
    """Autoregressive model, y_t = w_0 + Σ_(i=1..p) w_i y_(t-i) + ε_t with ε_t of mean 0 and variance σ² (eq. 6.2).

    Fitted by least squares over the steps that have p others before them: conditional on the first p, and not by exact
    likelihood. Erratum: the source writes w_p y_(t-p) within the sum.

    >>> model = AR(1).fit([0.0, 4.0, 6.0, 7.0, 7.5])
    >>> float(round(model.intercept, 9)), model.coefficients.round(9).tolist()
    (4.0, [0.5])
    >>> model.forecast([7.5], 2).mean.round(9).tolist()
    [7.75, 7.875]

    Args:
        order: p; 0 for the mean alone.

    Attributes:
        intercept: w_0.
        coefficients: (p,), w_1 to w_p.
        variance: σ², the sum of squared residuals divided by `degrees_of_freedom`.
        observations: n, the steps that were fitted.
        omitted: Steps left out because their value, or one of the p before it, is missing.
        aic: 2 k - 2 log L (Akaike 1974), with Gaussian errors of variance SSR / n, and k = p + 2, as σ² is one too.
        bic: k log n - 2 log L (Schwarz 1978).
        criteria: Where `select` has chosen the order: the criterion of each, from 0 on, over the same steps.
    """

    intercept: float
    coefficients: np.ndarray
    variance: float
    observations: int
    omitted: int
    aic: float
    bic: float
    criteria: np.ndarray | None

    def __init__(self, order: int) -> None:
        if order < 0:
            raise ValueError(f"order: {order}, expected 0 or more")
        self.order = order

    def __repr__(self) -> str:
        return f"AR({self.order})"

    @property
    def degrees_of_freedom(self) -> int:
        """n - p - 1: each coefficient takes one, and the intercept."""
        return self.observations - self.order - 1

    def fit(self, y: ArrayLike | Sequence[ArrayLike]) -> Self:
        """Fit to a series, or to several, which then share one set of coefficients; returns the model itself.

        Args:
            y: (T,) numbers in order of time, NaN where missing; or several such, of any lengths.

        Raises:
            DataError: Too few values, an infinite one, or values that follow a recursion of fewer terms exactly, so
                that the coefficients are not determined.
        """
        p, least = self.order, _Squares(_series(y), self.order)
        if least.rank <= p:
            exact = "are all equal" if least.rank == 1 else f"follow a recursion of order {least.rank - 1} exactly"
            raise DataError(
                f"series: the values {exact}, which leaves the coefficients of order {p} undetermined; an order of at "
                f"most {least.rank - 1} is expected"
            )
        constant, *weights = solve_triangular(least.R, least.projected).tolist()
        self.coefficients = np.array(weights)
        self.intercept = float(least.mean * (1 - self.coefficients.sum()) + least.scale * constant)
        self.observations, self.omitted, self.criteria = least.rows, least.omitted, None
        self.variance = float(least.scale**2 * least.squares[p] / self.degrees_of_freedom)
        self.aic, self.bic = (float(least.criteria(which)[p]) for which in ("aic", "bic"))
        return self

    @classmethod
    def select(cls, y: ArrayLike | Sequence[ArrayLike], max_order: int, criterion: Criterion = "aic") -> "AR":
        """The order from 0 to `max_order` whose criterion is smallest, fitted.

        The criteria are compared over the same steps for each order, those with `max_order` others before them; the
        order chosen is then fitted anew to every step that it can be. Orders that the values leave undetermined are
        not among those compared, and their criterion is NaN.

        Args:
            y: See `fit`.
            max_order: The largest order that may be chosen.
            criterion: "aic" or "bic".

        Raises:
            DataError: See `fit`.
        """
        if criterion not in ("aic", "bic"):
            raise ValueError(unknown("criterion", str(criterion), ["aic", "bic"]))
        series = _series(y)
        least = _Squares(series, cls(max_order).order)
        criteria = least.criteria(criterion)
        criteria[least.rank :] = np.nan
        found = cls(int(np.nanargmin(criteria))).fit(series)
        found.criteria = criteria
        return found

    def weights(self, horizon: int) -> tuple[np.ndarray, np.ndarray]:
        """What the forecasts are made of: that of h steps ahead is a_h + Σ_i B_(h, i) y_(T+1-i), i = 1..p.

        Returns:
            a: (H,). B: (H, p), the latest value first.
        """
        w, p = self.coefficients, self.order
        a, B = np.zeros(p + horizon), np.vstack([np.eye(p)[::-1], np.zeros((horizon, p))])
        for h in range(p, p + horizon):  # the first p rows are the values that are known
            a[h] = self.intercept + w @ a[h - p : h][::-1]
            B[h] = w @ B[h - p : h][::-1]
        return a[p:], B[p:]

    def psi(self, horizon: int) -> np.ndarray:
        """ψ_0 to ψ_(H-1), (H,): what is left of an ε after so many steps, ψ_j = Σ_i w_i ψ_(j-i) with ψ_0 = 1."""
        psi = np.zeros(self.order + horizon)
        for j in range(horizon):
            before = psi[j : j + self.order][::-1]
            psi[j + self.order] = self.coefficients @ before if j else 1.0
        return psi[self.order :]

    def forecast(self, history: ArrayLike, horizon: int, level: float = 0.95) -> Forecast:
        """The values that come after `history`, with intervals.

        Args:
            history: (..., T) numbers in order of time, of which the last p are read; several series at once, or ends
                of one.
            horizon: H, steps ahead.
            level: Share of intervals that are to hold the true value.

        Raises:
            DataError: There are fewer than p values, or one of the last p is missing.
        """
        history, p = _numbers(history), self.order
        if history.shape[-1] < p:
            raise DataError(f"history: has {history.shape[-1]} values, an autoregression of order {p} reads {p}")
        last = history[..., history.shape[-1] - p :][..., ::-1]
        if not np.isfinite(last).all():
            raise DataError(
                f"history: of the last {p} values {int((~np.isfinite(last)).sum())} are missing or infinite"
            )
        a, B = self.weights(horizon)
        deviation = np.sqrt(self.variance * np.cumsum(self.psi(horizon) ** 2))
        return Forecast(a + last @ B.T, deviation, level)

    def one_step(self, y: ArrayLike) -> np.ndarray:
        """What is said of each value from the p before it, (..., T); NaN for the first p, and behind missing ones."""
        y, p = _numbers(y), self.order
        said = np.full(y.shape, np.nan)
        if y.shape[-1] > p:
            lags = sliding_window_view(y, p, -1)[..., :-1, ::-1] if p else np.zeros((*y.shape, 0))
            said[..., p:] = self.intercept + lags @ self.coefficients
        return said


class _Squares:
    """Least squares of every order up to p at once, over the same steps: one factorisation, since the designs nest.

    The values are brought to mean 0 and deviation 1 beforehand, which leaves w_1 to w_p as they are and keeps a series
    far from zero as well determined as one about it.

    Attributes:
        R: (p + 1, p + 1). projected: (p + 1,), Qᵀ y.
        squares: (p + 1,), the sum of squared residuals of each order.
        rank: How many columns, the constant first, do not depend on those before them.
    """

    def __init__(self, series: list[np.ndarray], order: int) -> None:
        every = np.concatenate(series)
        known = every[np.isfinite(every)]
        self.mean, self.scale = (float(known.mean()), float(known.std())) if len(known) else (0.0, 1.0)
        if self.scale <= 8 * np.finfo(np.float64).eps * abs(self.mean):
            self.scale = 1.0
        rows = [sliding_window_view((y - self.mean) / self.scale, order + 1) for y in series if len(y) > order]
        table = np.concatenate(rows) if rows else np.empty((0, order + 1))
        whole = ~np.isnan(table).any(1)
        self.rows, self.omitted = int(whole.sum()), int((~whole).sum())
        if self.rows < order + 2:
            raise DataError(_too_short(series, order, self.rows, self.omitted))
        table = table[whole]
        design = np.column_stack([np.ones(self.rows), table[:, -2::-1]])
        Q, self.R = np.linalg.qr(design)
        target = table[:, -1]
        self.projected = Q.T @ target
        left = target - Q @ self.projected
        tails = np.append(np.cumsum(self.projected[:0:-1] ** 2)[::-1], 0.0)
        self.squares = left @ left + tails
        tolerance = np.finfo(np.float64).eps * self.rows**1.5  # of columns of norm n^½
        dependent = np.abs(np.diag(self.R)) <= tolerance
        self.rank = int(dependent.argmax()) if dependent.any() else order + 1

    def criteria(self, which: str) -> np.ndarray:
        """AIC or BIC of every order, (p + 1,)."""
        n, k = self.rows, np.arange(len(self.squares)) + 2
        with np.errstate(divide="ignore"):  # residuals that are all zero: no order is better
            twice = n * (np.log(2 * np.pi * self.scale**2 * self.squares / n) + 1)
        return twice + (2.0 if which == "aic" else np.log(n)) * k


def _too_short(series: list[np.ndarray], order: int, rows: int, omitted: int) -> str:
    where = f"has {len(series[0])} values" if len(series) == 1 else f"{len(series)} series, the longest of them with "
    where += "" if len(series) == 1 else f"{max(map(len, series))} values"
    found = f"{rows} with {order} others before them" + (f" ({omitted} left out for missing values)" if omitted else "")
    return f"series: {where}, of which {found}; an autoregression of order {order} takes at least {order + 2}"


def _series(y: Any) -> list[np.ndarray]:
    """One series or several, as a list of (T,) float64."""
    if isinstance(y, (list, tuple)) and len(y) and np.ndim(y[0]):
        found = [_numbers(one) for one in y]
    else:
        values = _numbers(y)
        found = [values] if values.ndim == 1 else list(values)
    for i, one in enumerate(found):
        name = "series" if len(found) == 1 else f"series {i}"
        if one.ndim != 1:
            raise DataError(f"{name}: has {one.ndim} axes, expected one, of time")
        if np.isinf(one).any():
            raise DataError(f"{name}: value {int(np.isinf(one).argmax())} is infinite")
    return found


def _numbers(values: Any) -> np.ndarray:
    try:
        found = np.asarray(values, np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"series: numbers are expected: {error}") from error
    if not found.ndim:
        raise DataError(f"series: a single number, {found}, expected several in order of time")
    return found


class TDNN(nn.Module):
    """Time-delay neural network, h_t^(l+1) = f(h_t^(l), …, h_(t-p+1)^(l)), each layer with a p of its own (eq. 6.1).

    f is an activation of a weighted sum. The weights are the same at every step, so that a layer is a causal
    convolution over time (Waibel et al. 1989), and what stands before the first step is zero. In a network it stands
    where `Recurrent` does: it is called alike, takes lengths, and goes on from a state, which here is the delay lines.

    >>> network = TDNN(3, [8, 4], delays=[5, 2])
    >>> output, state = network(torch.zeros(20, 2, 3))
    >>> output.shape, [tuple(line.shape) for line in state], network.receptive_field
    (torch.Size([20, 2, 4]), [(4, 2, 3), (1, 2, 8)], 6)

    Args:
        input_size: I.
        hidden_size: Width of a layer's output; one number, or one for each layer.
        delays: p of each layer, how many steps it reads, the present one among them; one number for a single layer.
        activation: f, by name or as a function.
        dropout: Share of the outputs of every layer but the last that is dropped in training.
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        device: Where the parameters are made.
        dtype: Their type.

    Parameters are `weight_l0`, (H, I, p), the oldest step first, as `torch.nn.Conv1d` has it and begins it, and
    `bias_l0`; so on for every layer.

    Attributes:
        output_size: Width of the output.
        receptive_field: Steps that an output depends on, 1 + Σ (p - 1).
    """

    bidirectional = False
    skip = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        delays: int | Sequence[int],
        *,
        activation: str | Callable[[Tensor], Tensor] = "tanh",
        dropout: float = 0.0,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        given = [delays] if not isinstance(delays, Sequence) else list(delays)
        if not given or isinstance(delays, str):
            raise ValueError(f"delays: a number of steps for each layer is expected, such as [5, 2], not {delays!r}")
        self.delays = [whole("delays", p) for p in given]
        self.input_size, self.num_layers = whole("input_size", input_size), len(self.delays)
        sizes = sizes_of_layers(hidden_size, self.num_layers)
        self.hidden_size = sizes if isinstance(hidden_size, Sequence) else sizes[0]
        self.output_size, self.receptive_field = sizes[-1], 1 + sum(p - 1 for p in self.delays)
        self.activation = function_named(activation, "activation")
        check_share("dropout", dropout)
        check_dtype(dtype)
        self.dropout, self.batch_first = dropout, flag("batch_first", batch_first)
        self._widths = [self.input_size, *sizes[:-1]]
        for k, (width, size, p) in enumerate(zip(self._widths, sizes, self.delays, strict=True)):
            shape = (size, width, p)
            self.register_parameter(f"weight_l{k}", nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
            self.register_parameter(f"bias_l{k}", nn.Parameter(torch.empty(size, device=device, dtype=dtype)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew, as `torch.nn.Conv1d` does: uniform within ±(I p)^-½."""
        for k in range(self.num_layers):
            weight, bias = self._layer(k)
            bound = (weight.shape[1] * weight.shape[2]) ** -0.5
            weight.uniform_(-bound, bound)
            bias.uniform_(-bound, bound)

    def _layer(self, k: int) -> tuple[Tensor, Tensor]:
        return self.get_parameter(f"weight_l{k}"), self.get_parameter(f"bias_l{k}")

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Views of the parameters, or of what belongs to them, by symbol: "W" and "b" of all layers."""
        layers = range(self.num_layers)
        return {"W": [tensors[f"weight_l{k}"] for k in layers], "b": [tensors[f"bias_l{k}"] for k in layers]}

    def forward(
        self, x: Tensor, state: Sequence[Tensor] | None = None, *, lengths: Any = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Outputs and delay lines.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or (T, I).
            state: The delay lines to begin with, what a call has returned: (p - 1, B, I) of each layer, the oldest step
                first, or (p - 1, I) where x is (T, I); zero where None.
            lengths: (B,) steps of each sequence; None where all have T. Behind its end the output is zero, and the
                lines are those at its end.

        Returns:
            (T, B, H), laid out as x; the lines behind the last step.
        """
        layout = _layout(x, self.input_size, self.batch_first)
        x = layout.inward(x)
        T, B = x.shape[:2]
        valid = None if lengths is None else within_lengths(lengths, T, B, x.device).unsqueeze(-1)
        lines = self._lines(state, x, layout)
        final = []
        for k, line in enumerate(lines):
            if valid is not None:
                x = torch.where(valid, x, 0.0)
            weight, bias = self._layer(k)
            held = torch.cat([line, x])
            final.append(_last(held, len(line), valid))
            taken = F.conv1d(held.permute(1, 2, 0), weight, bias) if T else x.new_zeros(B, len(bias), 0)
            x = self.activation(taken).permute(2, 0, 1)
            x = F.dropout(x, self.dropout, self.training and k < self.num_layers - 1)
        if valid is not None:
            x = torch.where(valid, x, 0.0)
        return layout.outward(x), tuple(line.squeeze(1) if layout.single else line for line in final)

    def step(self, x_t: Tensor, state: Sequence[Tensor] | None = None) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step.

        Args:
            x_t: (B, I), or (I,).
            state: See `forward`.

        Returns:
            (B, H), or (H,); the delay lines behind it.
        """
        axis = 1 if self.batch_first and x_t.dim() == 2 else 0
        output, lines = self(x_t.unsqueeze(axis), state)
        return output.squeeze(axis), lines

    def _lines(self, state: Sequence[Tensor] | None, x: Tensor, layout: Layout) -> list[Tensor]:
        shapes = [(p - 1, x.shape[1], width) for p, width in zip(self.delays, self._widths, strict=True)]
        if state is None:
            return [x.new_zeros(shape) for shape in shapes]
        return _given("state", state, shapes, layout)

    def extra_repr(self) -> str:
        """What `print` shows."""
        return f"{self.input_size}, {self.hidden_size}, delays={self.delays}"


class NARXState(NamedTuple):
    """The delay lines of `NARX`, the oldest step first: inputs, (p, B, I), and outputs, (q, B, K)."""

    x: Tensor
    y: Tensor


class NARX(nn.Module):
    """Nonlinear autoregression with outside input, y_t = f(x_t, …, x_(t-p), y_(t-1), …, y_(t-q)) (eq. 6.3).

    f is a feed-forward network of any depth. It is run in two ways, and can be trained in either (Narendra &
    Parthasarathy 1990): one step ahead, where the true outputs are fed back (series-parallel), all steps in one batched
    product; and free, where its own are (parallel), step by step, with the gradient going back through the loop.

    >>> network = NARX(1, 1, [8], input_delay=2, output_delay=3)
    >>> u, y = torch.zeros(20, 4, 1), torch.zeros(20, 4, 1)
    >>> one_step_ahead, _ = network(u, y)
    >>> simulated, state = network(u)
    >>> simulated.shape, state.y.shape
    (torch.Size([20, 4, 1]), torch.Size([3, 4, 1]))

    Args:
        input_size: I.
        output_size: K.
        hidden_size: Widths of f's hidden layers; none for a linear f.
        input_delay: p; 0 for the present input alone.
        output_delay: q, at least 1.
        activation: Of the hidden layers, by name or as a function.
        linear: Add to f's hidden layers a linear function of the same delay lines. It begins as y_(t-1), and they as
            nothing, so that the network learns what each step adds.
        batch_first: Inputs and outputs are (B, T, ...) instead of (T, B, ...).
        device: Where the parameters are made.
        dtype: Their type.

    Parameters are `weight_x`, (H, (p + 1) I), and `weight_y`, (H, q K), of the first layer, the latest step first;
    `weight_l1` and so on of those behind it; `bias_l0` and so on; `linear_x` and `linear_y` of the linear function.
    """

    bidirectional = False
    weight_x: nn.Parameter
    weight_y: nn.Parameter
    bias_l0: nn.Parameter
    linear_x: nn.Parameter
    linear_y: nn.Parameter

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int | Sequence[int] = (),
        *,
        input_delay: int = 1,
        output_delay: int = 1,
        activation: str | Callable[[Tensor], Tensor] = "tanh",
        linear: bool = False,
        batch_first: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.output_size = whole("input_size", input_size), whole("output_size", output_size)
        sizes = [hidden_size] if not isinstance(hidden_size, Sequence) else list(hidden_size)
        self.hidden_size = [whole("hidden_size", size) for size in sizes]
        if linear and not self.hidden_size:
            raise ValueError("linear: without hidden layers f is linear already, so linear is False")
        if not isinstance(input_delay, int) or input_delay < 0:
            raise ValueError(f"input_delay: a whole number from 0 on is expected, not {input_delay!r}")
        self.input_delay, self.output_delay = input_delay, whole("output_delay", output_delay)
        self.activation, self.linear = function_named(activation, "activation"), flag("linear", linear)
        self.batch_first = flag("batch_first", batch_first)
        check_dtype(dtype)
        first, *others = [*self.hidden_size, self.output_size]
        read_x, read_y = (self.input_delay + 1) * self.input_size, self.output_delay * self.output_size
        shapes = {"weight_x": (first, read_x), "weight_y": (first, read_y), "bias_l0": (first,)}
        for k, size in enumerate(others, 1):
            shapes |= {f"weight_l{k}": (size, first), f"bias_l{k}": (size,)}
            first = size
        if linear:
            shapes |= {"linear_x": (self.output_size, read_x), "linear_y": (self.output_size, read_y)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Begin anew: uniform within ±n^-½ for n inputs, as `torch.nn.Linear`; beside a linear function the last of f's
        layers is zero."""
        bound = (self.weight_x.shape[1] + self.weight_y.shape[1]) ** -0.5
        for v in (self.weight_x, self.weight_y, self.bias_l0):
            v.uniform_(-bound, bound)
        for k in range(1, len(self.hidden_size) + 1):
            bound = self.hidden_size[k - 1] ** -0.5
            for name in (f"weight_l{k}", f"bias_l{k}"):
                self.get_parameter(name).uniform_(-bound, bound)
        if self.linear:
            for name in (f"weight_l{len(self.hidden_size)}", f"bias_l{len(self.hidden_size)}"):
                self.get_parameter(name).zero_()
            self.linear_x.zero_()
            self.linear_y.zero_()
            self.linear_y[:, : self.output_size].fill_diagonal_(1.0)

    def by_symbol(self, tensors: Mapping[str, Tensor]) -> dict[str, list[Tensor]]:
        """Views of the parameters, or of what belongs to them, by symbol: "W" multiplies inputs, "U" outputs fed back,
        "V" what the first layer puts out, and so on; "b"."""
        behind = range(1, len(self.hidden_size) + 1)
        beside = ["linear"] if self.linear else []
        return {
            "W": [tensors[f"{name}_x"] for name in ("weight", *beside)],
            "U": [tensors[f"{name}_y"] for name in ("weight", *beside)],
            "V": [tensors[f"weight_l{k}"] for k in behind],
            "b": [tensors[f"bias_l{k}"] for k in (0, *behind)],
        }

    def forward(
        self,
        x: Tensor,
        y: Tensor | None = None,
        state: Sequence[Tensor] | None = None,
        *,
        lengths: Any = None,
    ) -> tuple[Tensor, NARXState]:
        """What the network says of each step, and the delay lines behind the last.

        Args:
            x: (T, B, I), (B, T, I) with `batch_first`, or (T, I).
            y: The true outputs, laid out alike, to be fed back: one step ahead. None: its own are, a free run.
            state: The delay lines to begin with, the oldest step first, such as `lines` or a call has returned; zero
                where None.
            lengths: (B,) steps of each sequence; None where all have T. Behind its end the output is zero, and the
                lines are those at its end.

        Returns:
            (T, B, K), laid out as x; the lines.
        """
        layout = _layout(x, self.input_size, self.batch_first)
        x = layout.inward(x)
        T, B = x.shape[:2]
        valid = None if lengths is None else within_lengths(lengths, T, B, x.device).unsqueeze(-1)
        line_x, line_y = self._begun(state, x, layout)
        if valid is not None:
            x = torch.where(valid, x, 0.0)
        held = torch.cat([line_x, x])
        weight_x, weight_y, bias = self._stacked()
        net = F.linear(_delayed(held, self.input_delay + 1), weight_x, bias)
        if y is None:
            output = self._free(net, line_y, weight_y)
            fed = output
        else:
            fed = layout.inward(y)
            if fed.shape != (T, B, self.output_size):
                expected = tuple(layout.outward(x.new_empty(T, B, self.output_size)).shape)
                raise ValueError(f"y: {expected} is expected, not {tuple(y.shape)}")
            if valid is not None:
                fed = torch.where(valid, fed, 0.0)
            lags = _delayed(torch.cat([line_y, fed[:-1]]), self.output_delay)
            output = self._behind(net + F.linear(lags, weight_y))
        if valid is not None:
            output = torch.where(valid, output, 0.0)
        final = _last(held, self.input_delay, valid), _last(torch.cat([line_y, fed]), self.output_delay, valid)
        lines = (line.squeeze(1) if layout.single else line for line in final)
        return layout.outward(output), NARXState(*lines)

    def step(
        self, x_t: Tensor, state: Sequence[Tensor] | None = None, y_t: Tensor | None = None
    ) -> tuple[Tensor, NARXState]:
        """One step: what the network says of y_t, and the lines behind it.

        Args:
            x_t: (B, I), or (I,).
            state: See `forward`.
            y_t: The true output, (B, K) or (K,), to be fed back; None: what the network says.
        """
        axis = 1 if self.batch_first and x_t.dim() == 2 else 0
        y = None if y_t is None else y_t.unsqueeze(axis)
        output, lines = self(x_t.unsqueeze(axis), y, state)
        return output.squeeze(axis), lines

    def lines(self, x: Tensor, y: Tensor) -> NARXState:
        """The delay lines behind measured steps, to go on from; (T, B, I) and (T, B, K), laid out as in `forward`.

        Raises:
            ValueError: They are fewer than the longer of the delays.
        """
        layout = _layout(x, self.input_size, self.batch_first)
        x, y = layout.inward(x), layout.inward(y)
        p, q = self.input_delay, self.output_delay
        if len(x) < max(p, q):
            raise ValueError(f"x: {max(p, q)} steps fill the delay lines, not {len(x)}")
        found = x[len(x) - p :], y[len(y) - q :]
        return NARXState(*(v.squeeze(1) if layout.single else v for v in found))

    def _begun(self, state: Sequence[Tensor] | None, x: Tensor, layout: Layout) -> list[Tensor]:
        B = x.shape[1]
        shapes = [(self.input_delay, B, self.input_size), (self.output_delay, B, self.output_size)]
        return [x.new_zeros(shape) for shape in shapes] if state is None else _given("state", state, shapes, layout)

    def _stacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """The first layer's weights, and below them those of the linear function: one product serves both."""
        if not self.linear:
            return self.weight_x, self.weight_y, self.bias_l0
        bias = torch.cat([self.bias_l0, self.bias_l0.new_zeros(self.output_size)])
        return torch.cat([self.weight_x, self.linear_x]), torch.cat([self.weight_y, self.linear_y]), bias

    def _behind(self, net: Tensor) -> Tensor:
        """From the net input of the first layer, and the linear function's value beside it, to the output."""
        K = self.output_size
        found, straight = (net[..., :-K], net[..., -K:]) if self.linear else (net, None)
        for k in range(1, len(self.hidden_size) + 1):
            found = F.linear(
                self.activation(found), self.get_parameter(f"weight_l{k}"), self.get_parameter(f"bias_l{k}")
            )
        return found if straight is None else found + straight

    def _free(self, net: Tensor, line: Tensor, weight_y: Tensor) -> Tensor:
        """Feed the network's own outputs back: net holds what the inputs give, (T, B, H)."""
        q, B, K = line.shape
        lags = line.flip(0).transpose(0, 1).reshape(B, q * K)
        weight, said = weight_y.t(), []
        for part in net.unbind(0):
            y = self._behind(torch.addmm(part, lags, weight))
            said.append(y)
            lags = torch.cat([y, lags[:, :-K]], 1) if q > 1 else y
        return torch.stack(said) if said else net.new_zeros(0, B, K)

    def extra_repr(self) -> str:
        """What `print` shows."""
        delays = f"input_delay={self.input_delay}, output_delay={self.output_delay}"
        return f"{self.input_size}, {self.output_size}, {self.hidden_size}, {delays}"


def _layout(x: Tensor, input_size: int, batch_first: bool) -> Layout:
    if x.dim() not in (2, 3) or x.shape[-1] != input_size:
        raise ValueError(f"x: (T, B, {input_size}) or (T, {input_size}) is expected, not {tuple(x.shape)}")
    return Layout(x.dim() == 2, batch_first)


def _given(name: str, state: Sequence[Tensor], shapes: Sequence[tuple[int, ...]], layout: Layout) -> list[Tensor]:
    """The delay lines of a caller, (steps, B, width) each."""
    lines = [line.unsqueeze(1) if layout.single else line for line in state]
    if [tuple(line.shape) for line in lines] != [tuple(shape) for shape in shapes]:
        found = [tuple(line.shape) for line in state]
        expected = [(s[0], s[2]) if layout.single else s for s in shapes]
        raise ValueError(f"{name}: delay lines of {expected} are expected, not {found}")
    return lines


def _delayed(values: Tensor, taps: int) -> Tensor:
    """Each step from the `taps`-th on with those before it beside it, the latest first: (T, B, taps · width)."""
    steps = len(values) - taps + 1
    return torch.cat([values[k : k + steps] for k in range(taps - 1, -1, -1)], -1)


def _last(held: Tensor, steps: int, valid: Tensor | None) -> Tensor:
    """The last steps of (line and) sequence, (steps, B, width): those before its end where that comes earlier."""
    if valid is None:
        return held[len(held) - steps :]
    ends = valid.sum(0).squeeze(-1)  # the line in front is `steps` long, so this is where the last ones begin
    places = torch.arange(steps, device=held.device).unsqueeze(1) + ends
    return held.gather(0, places.unsqueeze(-1).expand(-1, -1, held.shape[-1]))
