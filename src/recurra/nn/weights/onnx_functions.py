"""The activation functions that ONNX's recurrent operators can be given."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from recurra.math import log_sigmoid, relu, sigmoid, tanh
from recurra.nn.weights.variants import Activation


@dataclass(frozen=True)
class Function:
    """An activation function of ONNX, by its name there.

    Attributes:
        alpha: Its default; None where the function takes none, NaN where it has to be given.
        beta: Likewise.
    """

    alpha: float | None = None
    beta: float | None = None


NAN = float("nan")

FUNCTIONS = {
    "Relu": Function(),
    "Tanh": Function(),
    "Sigmoid": Function(),
    "Affine": Function(1.0, 0.0),
    "LeakyRelu": Function(0.01),
    "ThresholdedRelu": Function(1.0),
    "ScaledTanh": Function(NAN, NAN),
    "HardSigmoid": Function(0.2, 0.5),
    "Elu": Function(1.0),
    "Softsign": Function(),
    "Softplus": Function(),
}
"""Every activation and the defaults of its parameters: those of the operator of the same name. (Affine and ScaledTanh
were operators until ONNX 1.4; ScaledTanh had no defaults.)"""

COMMON = {"Relu": relu, "Tanh": tanh, "Sigmoid": sigmoid, "Softsign": F.softsign}


@dataclass(frozen=True)
class Parametrised:
    """An activation with its parameters, of which the input may be clipped to [-clip, clip]."""

    name: str
    alpha: float
    beta: float
    clip: float | None

    @property
    def __name__(self) -> str:
        """What a cell with this option shows."""
        return self.name

    def __call__(self, x: Tensor) -> Tensor:
        """The function of every entry of x."""
        if self.clip is not None:
            x = torch.clamp(x, -self.clip, self.clip)
        alpha, beta = self.alpha, self.beta
        match self.name:
            case "Affine":
                return alpha * x + beta
            case "LeakyRelu":
                return F.leaky_relu(x, alpha)
            case "ThresholdedRelu":
                return torch.where(x >= alpha, x, 0.0)
            case "ScaledTanh":
                return alpha * tanh(beta * x)
            case "HardSigmoid":
                return torch.clamp(alpha * x + beta, 0.0, 1.0)
            case "Elu":
                return F.elu(x, alpha)
            case "Softplus":
                return -log_sigmoid(-x)  # PyTorch's own softplus is rounded above 20
        return COMMON[self.name](x)


def activation(name: str, alpha: float, beta: float, clip: float | None) -> Activation:
    """The function; PyTorch's own where it is exactly that, so that cells of the catalogue are known again."""
    return COMMON[name] if clip is None and name in COMMON else Parametrised(name, alpha, beta, clip)
