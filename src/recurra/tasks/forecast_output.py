"""What a forecast of a number is: the number itself, quantiles of it, or a distribution; its loss, and draws from it.

Numbers are in units of a window's scale. A network puts out M raw values for each number, (..., M); an output says what
they mean.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np
import torch
from scipy import stats
from torch import Tensor
from torch.nn import functional as F

Error = Literal["mse", "mae", "huber"]

LEAST = 1e-4
"""The smallest deviation that a distribution may have, in units of the scale: the likelihood has no bound below it."""


class Output(ABC):
    """A kind of forecast.

    Args:
        levels: The levels of the quantiles that are given of every forecast, rising, each between 0 and 1.

    Attributes:
        width: Raw values M of each number.
        located: How many of them, the first ones, move with the forecast's place: what a linear part is added to.
    """

    name: ClassVar[str]
    width: int = 1
    located: int = 1

    def __init__(self, levels: Sequence[float]) -> None:
        self.levels = tuple(levels)

    @abstractmethod
    def loss(self, raw: Tensor, true: Tensor) -> Tensor:
        """The loss of every number, (...), of raw values (..., M)."""

    @abstractmethod
    def middle(self, raw: Tensor) -> Tensor:
        """The forecast as one number: the mean, or where there is none the median; (...)."""

    def deviation(self, raw: Tensor) -> Tensor | None:
        """The deviation of forecasts that are normal about their middle, (...); None of others."""
        del raw
        return None

    @abstractmethod
    def quantiles(self, raw: Tensor) -> Tensor | None:
        """The quantiles at the levels, (..., Q), none below the one before; None where the output tells of none."""

    @abstractmethod
    def draw(self, raw: Tensor) -> Tensor:
        """A number drawn from each forecast, (...)."""

    def begin(self, deviation: float) -> list[float]:
        """What the M raw values begin with, where the forecast is 0 and its errors have this deviation."""
        del deviation
        return [0.0]


class Point(Output):
    """One number, by the squared, the absolute or Huber's error."""

    name = "point"

    def __init__(self, levels: Sequence[float], error: Error = "mse") -> None:
        super().__init__(levels)
        self.error = error

    def loss(self, raw: Tensor, true: Tensor) -> Tensor:
        """See `Output.loss`."""
        each = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}[self.error]
        return each(raw[..., 0], true, reduction="none")

    def middle(self, raw: Tensor) -> Tensor:
        """See `Output.middle`."""
        return raw[..., 0]

    def quantiles(self, raw: Tensor) -> None:
        """See `Output.quantiles`: it tells of none."""
        return

    def draw(self, raw: Tensor) -> Tensor:
        """See `Output.draw`: the number itself."""
        return raw[..., 0]


class Quantiles(Output):
    """Quantiles at the levels, by the pinball loss (Koenker & Bassett 1978).

    Each level is learnt by itself, so that quantiles may cross; they are put in order where they are read, which makes
    none of them worse (Chernozhukov, Fernández-Val & Galichon 2010).
    """

    name = "quantiles"

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__(levels)
        self.width = self.located = len(self.levels)

    def loss(self, raw: Tensor, true: Tensor) -> Tensor:
        """The mean of the pinball loss over the levels: max(τ e, (τ - 1) e) of the error e = y - q."""
        error = true.unsqueeze(-1) - raw
        levels = raw.new_tensor(self.levels)
        return torch.maximum(levels * error, (levels - 1) * error).mean(-1)

    def begin(self, deviation: float) -> list[float]:
        """See `Output.begin`: those of a normal distribution."""
        return [deviation * float(stats.norm.ppf(level)) for level in self.levels]

    def middle(self, raw: Tensor) -> Tensor:
        """The median, between the levels beside 0.5 where it is not among them."""
        return self._at(raw, torch.full_like(raw[..., 0], 0.5))

    def quantiles(self, raw: Tensor) -> Tensor:
        """See `Output.quantiles`."""
        return raw.sort(-1).values

    def draw(self, raw: Tensor) -> Tensor:
        """From the distribution whose quantiles lie on straight lines between the levels, and that ends at the
        outermost of them."""
        return self._at(raw, torch.rand_like(raw[..., 0]))

    def _at(self, raw: Tensor, level: Tensor) -> Tensor:
        """The quantile at a level for each number."""
        if len(self.levels) == 1:
            return raw[..., 0]
        ordered, levels = self.quantiles(raw), raw.new_tensor(self.levels)
        above = torch.searchsorted(levels, level.contiguous()).clamp(1, len(levels) - 1)
        low, high = (ordered.gather(-1, at.unsqueeze(-1)).squeeze(-1) for at in (above - 1, above))
        share = (level - levels[above - 1]) / (levels[above] - levels[above - 1])
        return low + share.clamp(0, 1) * (high - low)


class Gaussian(Output):
    """A normal distribution, by its likelihood: mean and deviation of each number."""

    name = "gaussian"
    width = 2

    def parameters(self, raw: Tensor) -> tuple[Tensor, ...]:
        """Mean and deviation."""
        return raw[..., 0], LEAST + F.softplus(raw[..., 1])

    def loss(self, raw: Tensor, true: Tensor) -> Tensor:
        """-log of the density, in nats."""
        mean, deviation = self.parameters(raw)
        return 0.5 * ((true - mean) / deviation).square() + deviation.log() + 0.5 * math.log(2 * math.pi)

    def middle(self, raw: Tensor) -> Tensor:
        """See `Output.middle`."""
        return raw[..., 0]

    def quantiles(self, raw: Tensor) -> Tensor:
        """See `Output.quantiles`."""
        mean, deviation = self.parameters(raw)
        standard = raw.new_tensor(stats.norm.ppf(self.levels))
        return mean.unsqueeze(-1) + deviation.unsqueeze(-1) * standard

    def draw(self, raw: Tensor) -> Tensor:
        """See `Output.draw`."""
        mean, deviation = self.parameters(raw)
        return mean + deviation * torch.randn_like(mean)

    def deviation(self, raw: Tensor) -> Tensor:
        """See `Output.deviation`."""
        return self.parameters(raw)[1]

    def begin(self, deviation: float) -> list[float]:
        """See `Output.begin`."""
        return [0.0, _softplus_inverse(deviation)]


class StudentT(Output):
    """Student's t, by its likelihood: place, scale, and degrees of freedom above 2, so that there is a variance."""

    name = "student_t"
    width = 3

    def parameters(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Place, scale and degrees of freedom."""
        return raw[..., 0], LEAST + F.softplus(raw[..., 1]), 2 + LEAST + F.softplus(raw[..., 2])

    def loss(self, raw: Tensor, true: Tensor) -> Tensor:
        """-log of the density, in nats."""
        place, scale, freedom = self.parameters(raw)
        return (
            torch.lgamma(freedom / 2)
            - torch.lgamma((freedom + 1) / 2)
            + 0.5 * (freedom * math.pi).log()
            + scale.log()
            + 0.5 * (freedom + 1) * torch.log1p(((true - place) / scale).square() / freedom)
        )

    def middle(self, raw: Tensor) -> Tensor:
        """See `Output.middle`."""
        return raw[..., 0]

    def quantiles(self, raw: Tensor) -> Tensor:
        """See `Output.quantiles`."""
        place, scale, freedom = (v.unsqueeze(-1) for v in self.parameters(raw))
        standard = stats.t.ppf(np.array(self.levels), freedom.detach().double().cpu().numpy())
        return place + scale * torch.as_tensor(standard).to(raw)

    def draw(self, raw: Tensor) -> Tensor:
        """By Bailey's way from polar coordinates (1994), √(ν (u^(-2/ν) - 1)) cos 2πw, which takes two even numbers for
        each and rejects none: what is drawn for one forecast does not depend on the others."""
        place, scale, freedom = self.parameters(raw)
        u, w = 1 - torch.rand_like(place), torch.rand_like(place)
        radius = (freedom * torch.expm1(-2 / freedom * u.log())).sqrt()
        return place + scale * radius * torch.cos(2 * math.pi * w)

    def begin(self, deviation: float) -> list[float]:
        """See `Output.begin`: about ten degrees of freedom, of which the deviation is 1.12 times the scale."""
        return [0.0, _softplus_inverse(deviation / 1.12), 8.0]


def output(name: str, levels: Sequence[float], error: Error = "mse") -> Output:
    """The output of that name."""
    if name == "point":
        return Point(levels, error)
    return {kind.name: kind for kind in (Quantiles, Gaussian, StudentT)}[name](levels)


def _softplus_inverse(value: float) -> float:
    value = max(value, 10 * LEAST)
    return value + math.log(-math.expm1(-value))
