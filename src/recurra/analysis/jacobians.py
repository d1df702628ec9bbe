"""What one step does to a small change of the state: its Jacobian, products of Jacobians, and their growth in the long
run."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from recurra.analysis.record import How, Recording, chosen
from recurra.analysis.result import AnalysisError, Result, check_seed, check_whole, drawn_on, number, whole_numbers
from recurra.analysis.system import Direction, System

MOST_NUMBERS = 1 << 28
"""Of all Jacobians together: 2 GiB in double precision."""

SMALLEST_DRAWN = 1e-12

NUMBERS_AT_ONCE = 1 << 24
"""Of the Jacobians that are held while exponents are summed up."""

SWEEPS, EXACT, ENOUGH = 200, 1e-9, 1e-3
"""How often a product is swept at the most, and the change of its logarithms, over their size, at which it is done:
for numbers, and for a figure."""

WELL_CONDITIONED = 1e8
"""A product whose singular values lie no further apart is multiplied out: they are then exact to eight digits."""

NUMBERS_OF_A_SPAN = 1 << 18
"""Of the Jacobians that are multiplied for one span of `over_spans`: few of many units, many of few."""


@dataclass(frozen=True, eq=False)
class StateJacobians(Result):
    """D_t = ∂s_t/∂s_(t-1) along a batch; NaN at steps that a row does not have.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        fields: The state's fields and their widths, side by side, S in all.
        steps: (n,) the steps, from 0, in the order in which they are taken.
        matrices: (n, B, S, S): the row is the unit of s_t, the column that of s_(t-1).
        singular: (n, B, S) singular values, the largest first: by how much a change grows or shrinks at the step.
        radius: (n, B) spectral radius, the largest absolute eigenvalue.
    """

    name: str
    cell: str
    fields: dict[str, int]
    steps: np.ndarray
    matrices: np.ndarray = field(repr=False, metadata={"json": False})
    singular: np.ndarray = field(repr=False)
    radius: np.ndarray = field(repr=False)

    @property
    def norm(self) -> np.ndarray:
        """(n, B) spectral norms: the largest singular value of each step."""
        return self.singular[..., 0]

    def products(self, span: int, *, most: int | None = None, settled: float = EXACT) -> np.ndarray:
        """Logarithms of the singular values of D_(t+span-1) … D_t, one stretch of so many steps after the other.

        They are found from the factors' triangular parts, so that of a thousand steps the smallest is as exact as the
        largest.

        Args:
            span: How many steps.
            most: So many of all rows' stretches at the most, evenly taken; all when left out.
            settled: How exact (see `log_singular_values`).

        Returns:
            (P, S), a row a stretch that a row of the batch has, the largest first.

        Raises:
            AnalysisError: The steps are not in a row, or fewer.
        """
        if len(self.steps) > 1 and (np.diff(self.steps) != 1).any():
            raise AnalysisError("products: steps one after another are expected; leave out steps=, or give a range")
        check_whole("span", span, 1, len(self.steps))
        if most is not None:
            check_whole("most", most)
        count = len(self.steps) // span
        whole = self.matrices[: count * span].reshape(count, span, *self.matrices.shape[1:])
        there = np.argwhere(~np.isnan(whole[:, -1, :, 0, 0]))
        if most is not None and len(there) > most:
            there = there[np.linspace(0, len(there) - 1, most).round().astype(int)]
        factors = whole[there[:, 0], :, there[:, 1]]  # (P, span, S, S)
        return log_singular_values(torch.from_numpy(factors).transpose(0, 1), settled).numpy()

    def over_spans(self, spans: Sequence[int] | None = None) -> "SpanSingularValues":
        """Singular values of products over spans of steps: 1, 2, 4, … where none are given.

        Raises:
            AnalysisError: The steps are not in a row, or a span is no number of them.
        """
        factors = min(128, max(16, NUMBERS_OF_A_SPAN // self.singular.shape[-1] ** 2))
        if spans is None:
            spans = [1 << k for k in range(min(factors, len(self.steps)).bit_length())]
        spans = whole_numbers("spans", spans, 1, len(self.steps))
        found = [self.products(span, most=max(2, factors // span), settled=ENOUGH) for span in spans]
        there = [i for i, values in enumerate(found) if len(values)]
        middle = [np.median(found[i], 0) for i in there]
        return SpanSingularValues(self.name, self.cell, np.array([spans[i] for i in there]), np.array(middle))

    def __str__(self) -> str:
        rows = (("largest singular value", self.norm), ("smallest", self.singular[..., -1]), ("radius", self.radius))
        lines = [
            f"state Jacobians of {self.name} ({self.cell}), {len(self.steps)} steps, {self.singular.shape[-1]} units"
        ]
        for what, values in rows:
            low, middle, high = np.nanquantile(values, (0, 0.5, 1))
            lines.append(f"  {what:<23} median {number(middle)}, from {number(low)} to {number(high)}")
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """The largest and the median singular value and the spectral radius over the steps, medians over the rows."""
        axes = drawn_on(axes)
        middle = np.median(self.singular, -1)
        for k, (label, values) in enumerate((("largest", self.norm), ("radius", self.radius), ("median", middle))):
            axes.plot(self.steps + 1, np.nanmedian(values, 1), color=f"C{k}", label=label)
        axes.axhline(1.0, color="0.5", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("time step")
        axes.set_ylabel("of ∂s_t/∂s_(t−1)")
        return axes


@dataclass(frozen=True, eq=False)
class SpanSingularValues(Result):
    """What becomes of a change of the state over spans of steps.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        spans: (m,) numbers of steps.
        log_singular: (m, S) logarithms of the singular values of the product of so many Jacobians, the largest first,
            medians over stretches and rows.
    """

    name: str
    cell: str
    spans: np.ndarray
    log_singular: np.ndarray

    def __str__(self) -> str:
        lines = [f"singular values of products of Jacobians of {self.name} ({self.cell})"]
        lines += [f"  {'steps':>7}  {'largest':>9}  {'median':>9}  {'smallest':>9}"]
        for span, logs in zip(self.spans, self.log_singular, strict=True):
            three = (np.exp(v) for v in (logs[0], np.median(logs), logs[-1]))
            lines.append(f"  {span:>7}  " + "  ".join(f"{number(v):>9}" for v in three))
        return "\n".join(lines)

    def plot(self, axes: Any = None) -> Any:
        """Every singular value against the span, on logarithmic axes; the largest and the median are drawn strong.

        What is smaller than 1e-12 is not drawn.
        """
        axes = drawn_on(axes)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        values, middle = np.exp(self.log_singular), np.exp(np.median(self.log_singular, 1))
        values, middle = (np.where(v < SMALLEST_DRAWN, np.nan, v) for v in (values, middle))
        axes.plot(self.spans, values, color="C0", alpha=0.15, linewidth=0.8)
        axes.plot(self.spans, values[:, 0], color="C0", label="largest")
        axes.plot(self.spans, middle, color="C1", label="median")
        axes.axhline(1.0, color="0.5", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("steps multiplied")
        axes.set_ylabel("singular values of the product")
        return axes


def state_jacobians(
    model: nn.Module | Recording | System,
    x: Any = None,
    *,
    depth: int = -1,
    direction: Direction | None = None,
    steps: Sequence[int] | None = None,
    **how: Unpack[How],
) -> StateJacobians:
    """D_t = ∂s_t/∂s_(t-1) at every known state, with singular values and spectral radius, in double precision.

    All steps and rows are computed together, since the states are known.

    Args:
        model: A module with a recurrent layer, or what `record` made of one.
        x: What the module is called with (see `record`).
        depth: Which layer of a stack.
        direction: Which direction of a layer that has both.
        steps: At which steps, from 0, in the order in which they are taken; all when left out.
        **how: Further arguments of `record`.

    Raises:
        AnalysisError: The model cannot be examined (see `record`), there is no such step, or the Jacobians would take
            more memory than 2 GiB.

    Example:
        >>> found = state_jacobians(nn.RNN(3, 8), torch.zeros(20, 2, 3))
        >>> found.matrices.shape, found.singular.shape, found.radius.shape
        ((20, 2, 8, 8), (20, 2, 8), (20, 2))
    """
    system = chosen(model, x, depth, direction, how, state_jacobians)
    at = whole_numbers("steps", range(system.steps) if steps is None else steps, 0, system.steps - 1)
    B, S = system.x.shape[1], sum(system.fields.values())
    if len(at) * B * S * S > MOST_NUMBERS:
        raise AnalysisError(
            f"{system.name}: {len(at):,} steps of {B} sequences with {S} units would take "
            f"{len(at) * B * S * S / (1 << 27):.1f} GiB; give fewer sequences, or steps="
        )
    there = system.taken[at]
    i, b = there.nonzero(as_tuple=True)
    t = torch.as_tensor(at, device=i.device)[i]
    D = system.jacobians(t, b).cpu()
    place = tuple(v.cpu().numpy() for v in (i, b))

    def spread(values: Tensor) -> np.ndarray:
        whole = np.full((len(at), B, *values.shape[1:]), np.nan)
        whole[place] = values.double().numpy()
        return whole

    radius = torch.linalg.eigvals(D).abs().amax(-1)
    return StateJacobians(
        name=system.name,
        cell=system.form.name,
        fields=system.fields,
        steps=np.array(at),
        matrices=spread(D),
        singular=spread(torch.linalg.svdvals(D)),
        radius=spread(radius),
    )


def log_singular_values(factors: Tensor, settled: float = EXACT) -> Tensor:
    """Logarithms of the singular values of a product of square matrices that is never multiplied out.

    The product's QR decomposition is found factor by factor; the triangular factors, transposed, are one product again,
    with the same singular values, and so on: each time the diagonals come nearer to them (Stewart 1997; for products in
    dynamics, Geist, Parlitz & Lauterborn 1990). Where they lie close enough together, the product is multiplied out
    after all.

    Args:
        factors: (n, P, S, S) of P products; the last factor is the leftmost.
        settled: The change of a logarithm, over its size where that is above 1, below which it is taken for exact.

    Returns:
        (P, S), the largest first; -inf for zero.
    """
    factors = factors.double()
    if len(factors) == 1:
        return torch.linalg.svdvals(factors[0]).log()
    found = factors.new_full(factors.shape[1:3], torch.nan)
    waiting, before, parts = torch.arange(factors.shape[1], device=factors.device), found, list(factors.unbind(0))
    for sweep in range(SWEEPS):
        logs = torch.zeros_like(before)
        Q = torch.eye(factors.shape[-1], dtype=torch.float64, device=factors.device).expand_as(parts[0])
        for i, part in enumerate(parts):
            Q, parts[i] = torch.linalg.qr(part @ Q)
            logs = logs + parts[i].diagonal(dim1=-2, dim2=-1).abs().log()
        if sweep:
            change = (logs - before).nan_to_num(0.0).abs() / logs.abs().clamp(min=1.0)
            done = (change <= settled).all(-1)
        else:
            done = logs.amax(-1) - logs.amin(-1) < math.log(WELL_CONDITIONED)
            products = functools.reduce(lambda product, D: D @ product, factors[:, done])
            logs[done] = torch.linalg.svdvals(products).log()
        found[waiting] = logs
        waiting, before = waiting[~done], logs[~done]
        if not len(waiting):
            break
        parts = [part[~done].mT for part in reversed(parts)]
    return found.sort(-1, descending=True).values


@dataclass(frozen=True, eq=False)
class LyapunovExponents(Result):
    """The mean rates, in nats a step, at which changes of the state grow or shrink in the long run.

    Attributes:
        name: Which layer and direction.
        cell: Its cell.
        exponents: (K,) the largest first; means over the rows. A change along the first grows by e^λ at a step.
        error: (K,) their standard errors over the rows; NaN of one row.
        rows: (B, K) those of each row.
        steps: Steps that were averaged over, of all rows together.
        skipped: Steps at the beginning of each row that were not.
    """

    name: str
    cell: str
    exponents: np.ndarray
    error: np.ndarray
    rows: np.ndarray = field(repr=False)
    steps: int
    skipped: int

    @property
    def words(self) -> str:
        """What the largest says, in a sentence."""
        largest = float(self.exponents[0])
        if largest == -np.inf:
            return "A change of the state is gone after a step or a few: nothing is carried on."
        length = self.steps / len(self.rows)
        if abs(largest) * length < math.log(100):
            return f"Over {length:,.0f} steps small differences of the state neither grow much nor die out."
        by = number(np.exp(largest))
        if largest > 0:
            return f"Small differences of the state grow, by {by} at a step: chaos, in which gradients explode."
        steps = math.ceil(math.log(100) / -largest)
        return f"Small differences of the state die out, by {by} at a step: 1 % is left after {steps:,} steps."

    def _derived(self) -> tuple[str, ...]:
        """See `Result`."""
        return ("words",)

    def __str__(self) -> str:
        shown = ", ".join(number(v) for v in self.exponents[:6]) + (", …" if len(self.exponents) > 6 else "")
        return (
            f"Lyapunov exponents of {self.name} ({self.cell}), nats a step, over {self.steps:,} steps\n  {shown}\n"
            f"  {self.words}"
        )

    def plot(self, axes: Any = None, label: str | None = None, colour: str = "C0") -> Any:
        """The exponents in order."""
        axes = drawn_on(axes)
        finite = np.where(np.isfinite(self.exponents), self.exponents, np.nan)
        axes.plot(np.arange(1, len(finite) + 1), finite, color=colour, label=label, marker=".", markersize=4)
        axes.axhline(0.0, color="0.5", linewidth=1, linestyle=(0, (4, 3)))
        axes.set_xlabel("exponent")
        axes.set_ylabel("λ, nats a step")
        return axes


def lyapunov_exponents(
    model: nn.Module | Recording | System,
    x: Any = None,
    *,
    depth: int = -1,
    direction: Direction | None = None,
    count: int | None = None,
    skip: int | None = None,
    seed: int = 0,
    **how: Unpack[How],
) -> LyapunovExponents:
    """Lyapunov exponents along a batch, by repeated QR decomposition (Benettin et al. 1980), in double precision.

    Args:
        model: A module with a recurrent layer, or what `record` made of one.
        x: What the module is called with (see `record`); the longer the sequences, the more exact.
        depth: Which layer of a stack.
        direction: Which direction of a layer that has both.
        count: How many exponents, the largest ones; all when left out.
        skip: Steps at the beginning of each row in which directions settle; a tenth of the longest when left out.
        seed: Of the directions to begin with.
        **how: Further arguments of `record`.

    Raises:
        AnalysisError: The model cannot be examined (see `record`), or no sequence is longer than `skip`.
    """
    check_seed(seed)
    system = chosen(model, x, depth, direction, how, lyapunov_exponents)
    S, T = sum(system.fields.values()), system.steps
    count = S if count is None else count
    check_whole("count", count, 1, S)
    skip = max(1, T // 10) if skip is None else skip
    check_whole("skip", skip, 0)
    long = (system.lengths > skip).nonzero().flatten()
    if not len(long):
        raise AnalysisError(f"skip: no sequence has more than {skip} steps; the longest has {T}")
    lengths = system.lengths[long]
    drawn = torch.randn(len(long), S, count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    Q = torch.linalg.qr(drawn).Q.to(system.new[0])
    sums = Q.new_zeros(len(long), count)
    for steps in torch.arange(T, device=long.device).split(max(1, NUMBERS_AT_ONCE // (len(long) * S * S))):
        t, b = torch.meshgrid(steps, long, indexing="ij")
        D = system.jacobians(t.flatten(), b.flatten()).unflatten(0, t.shape)
        for step, factor in zip(steps.tolist(), D, strict=True):
            going_on = step < lengths
            new, R = torch.linalg.qr(factor @ Q)
            Q = torch.where(going_on[:, None, None], new, Q)
            if step >= skip:
                grown = R.diagonal(dim1=-2, dim2=-1).abs().log()
                sums += torch.where(going_on.unsqueeze(-1), grown, 0.0)
    averaged = lengths - skip
    rows = (sums / averaged.unsqueeze(-1)).sort(-1, descending=True).values.double().cpu().numpy()
    with np.errstate(invalid="ignore"):  # -inf of some rows has no deviation
        error = rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else np.full(count, np.nan)
    return LyapunovExponents(
        name=system.name,
        cell=system.form.name,
        exponents=rows.mean(0),
        error=error,
        rows=rows,
        steps=int(averaged.sum()),
        skipped=skip,
    )
