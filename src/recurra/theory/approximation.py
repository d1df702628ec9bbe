"""Theorem 6.1 as a construction: two feed-forward nets become one fully connected recurrent network.

A dynamical system is s_t = g(s_(t-1), x_t), y_t = o(s_t) (eqs 6.10, 6.11). By the universal approximation theorem a net
of two layers comes as near to g as one likes, and another to the output taken as a function of the same arguments,
y_t = og(s_(t-1), x_t) = o(g(s_(t-1), x_t)). Of these two nets,

    s'_t = f(A s_(t-1) + B x_t + b_1),    s_t = C s'_t + c          (eqs 6.12, 6.13)
    y'_t = f(A' s_(t-1) + B' x_t + b_2),  y_t = D y'_t + d          (eqs 6.14, 6.15)

one network is made whose state is h_t = [s'_t; y'_t]:

    h_t = f(U h_(t-1) + W x_t + b),   y_t = V h_t                   (eqs 6.18, 6.19)
    U = [A C, 0; A' C, 0],  W = [B; B'],  b = [b_1 + A c; b_2 + A' c],  V = [0, D]     (eqs 6.16, 6.17)

Three misprints of the text are mended: 6.14 has A' C s'_(t-1); the state on the right of 6.16 is [s'_(t-1); y'_(t-1)];
and 6.17, like the definition of h, has [s'_t; y'_t]. The text's output layers have no biases: c is taken into b as
above, and d into V by one more unit, whose value never changes. The first state has to satisfy C s'_0 + c = s_0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recurra.cells import elman
from recurra.errors import RecurraError
from recurra.nn import Recurrent

Activation = Callable[[Tensor], Tensor]


class TheoryError(RecurraError, ValueError):
    """Nets that no recurrent network can be made of, or a state that it cannot begin with."""


class TwoLayerNet(nn.Module):
    """A feed-forward net of two layers over a state and an input: C f(A s + B x + b) + c.

    Args:
        state_size: Width S of s.
        input_size: Width X of x.
        hidden_size: Hidden units H.
        output_size: Width of what it puts out; S when left out.
        activation: f, of a tensor.
        dtype: Of its parameters.

    Attributes:
        A: (H, S).
        B: (H, X).
        b: (H,).
        C: (output, H).
        c: (output,).
    """

    def __init__(
        self,
        state_size: int,
        input_size: int,
        hidden_size: int,
        output_size: int | None = None,
        *,
        activation: Activation = torch.tanh,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.activation = activation
        output_size = state_size if output_size is None else output_size
        reach = max(1, state_size + input_size) ** -0.5
        self.A = nn.Parameter(torch.randn(hidden_size, state_size, dtype=dtype) * reach)
        self.B = nn.Parameter(torch.randn(hidden_size, input_size, dtype=dtype) * reach)
        self.b = nn.Parameter(torch.randn(hidden_size, dtype=dtype))
        self.C = nn.Parameter(torch.randn(output_size, hidden_size, dtype=dtype) * max(1, hidden_size) ** -0.5)
        self.c = nn.Parameter(torch.zeros(output_size, dtype=dtype))

    @classmethod
    def of(cls, module: nn.Module, state_size: int | None = None) -> "TwoLayerNet":
        """The same net of a `Sequential(Linear, activation, Linear)` that reads [s; x]; a `TwoLayerNet` stays as it is.

        Args:
            module: The net.
            state_size: How many of its inputs are s; as many as it puts out when left out.

        Raises:
            TheoryError: It is another module.
        """
        if isinstance(module, cls):
            return module
        layers = list(module) if isinstance(module, nn.Sequential) else []
        if len(layers) != 3 or not isinstance(layers[0], nn.Linear) or not isinstance(layers[2], nn.Linear):
            raise TheoryError(
                f"{type(module).__name__}: a TwoLayerNet or a Sequential of Linear, an activation, Linear is expected"
            )
        first, activation, last = layers
        assert isinstance(first, nn.Linear)
        assert isinstance(last, nn.Linear)
        size = last.out_features if state_size is None else state_size
        if first.in_features < size:
            raise TheoryError(f"the first layer reads {first.in_features} values, fewer than the {size} of the state")
        net = cls(
            size,
            first.in_features - size,
            first.out_features,
            last.out_features,
            activation=activation,
            dtype=first.weight.dtype,
        )
        zero = torch.zeros
        with torch.no_grad():
            net.A.copy_(first.weight[:, :size])
            net.B.copy_(first.weight[:, size:])
            net.b.copy_(zero(first.out_features) if first.bias is None else first.bias)
            net.C.copy_(last.weight)
            net.c.copy_(zero(last.out_features) if last.bias is None else last.bias)
        return net

    @property
    def hidden_size(self) -> int:
        """Hidden units."""
        return len(self.b)

    def hidden(self, s: Tensor, x: Tensor) -> Tensor:
        """f(A s + B x + b), (…, H)."""
        return self.activation(s @ self.A.mT + x @ self.B.mT + self.b)

    def forward(self, s: Tensor, x: Tensor) -> Tensor:
        """What it puts out.

        Args:
            s: (…, S).
            x: (…, X).

        Returns:
            (…, output).
        """
        return self.hidden(s, x) @ self.C.mT + self.c


@dataclass(frozen=True, eq=False)
class Approximation:
    """One fully connected recurrent network that is two nets.

    Attributes:
        U: (H, H), where H is the hidden units of both nets, and one more where y's net has a bias at its output.
        W: (H, X).
        b: (H,).
        V: (Y, H).
        C: (S, H): the system's state is C h_t + c.
        c: (S,).
        activation: f.
    """

    U: Tensor
    W: Tensor
    b: Tensor
    V: Tensor
    C: Tensor
    c: Tensor
    activation: Activation

    @property
    def hidden_size(self) -> int:
        """Units."""
        return len(self.b)

    def begin(self, s: Tensor) -> Tensor:
        """A state to begin with that stands for a state of the system: the shortest h with C h + c = s.

        Args:
            s: (…, S).

        Returns:
            (…, H).

        Raises:
            TheoryError: There is none, since C has fewer independent rows than the state has numbers.
        """
        h = (s - self.c) @ torch.linalg.pinv(self.C).mT
        missed = float((self.state(h) - s).abs().max()) if s.numel() else 0.0
        if missed > 1e-8 * (1 + float(s.abs().max())):
            rank = int(torch.linalg.matrix_rank(self.C))
            raise TheoryError(
                f"no state of the network stands for this one: C has rank {rank}, the state {len(self.c)} numbers, and "
                f"the nearest is {missed:.2g} away; the net of g needs more hidden units"
            )
        return h

    def state(self, h: Tensor) -> Tensor:
        """The system's state that a state of the network stands for, (…, S)."""
        return h @ self.C.mT + self.c

    def layer(self) -> Recurrent:
        """The network as a `Recurrent` layer, eq. 6.18, which puts out h; without inputs it reads a zero."""
        inputs = self.W.shape[1]
        cell = elman(activation=self.activation)
        layer = Recurrent(cell, max(1, inputs), self.hidden_size, dtype=self.U.dtype, device=self.U.device)
        W = self.W if inputs else self.U.new_zeros(self.hidden_size, 1)
        layer.load_state_dict({"weight_ih_l0": W, "weight_hh_l0": self.U, "bias_l0": self.b})
        return layer

    @torch.no_grad()
    def run(self, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs and states of the system along a sequence of inputs.

        Args:
            s: (B, S), the state before the first step.
            x: (T, B, X).

        Returns:
            y, (T, B, Y), eq. 6.19; s, (T, B, S).
        """
        read = x if x.shape[-1] else x.new_zeros(*x.shape[:-1], 1)
        h, _ = self.layer()(read, self.begin(s).unsqueeze(0))
        return h @ self.V.mT, self.state(h)


@torch.no_grad()
def approximate(g: nn.Module, og: nn.Module) -> Approximation:
    """One fully connected recurrent network from the nets of a system's transition and output (eqs 6.12-6.19).

    Args:
        g: The net of s_t = g(s_(t-1), x_t): a `TwoLayerNet`, or `Sequential(Linear, activation, Linear)` over [s; x].
        og: The net of y_t = og(s_(t-1), x_t), likewise, with the same activation.

    Returns:
        The network.

    Raises:
        TheoryError: They are no such nets, or do not go together.

    Example:
        >>> g, og = TwoLayerNet(2, 1, 20), TwoLayerNet(2, 1, 10, 3)
        >>> approximate(g, og).hidden_size  # 31, were there a bias at og's output
        30
    """
    state = TwoLayerNet.of(g)
    S = len(state.c)
    output = TwoLayerNet.of(og, S)
    if state.A.shape[1] != S:
        raise TheoryError(f"g: it makes {S} numbers of a state of {state.A.shape[1]}; as many are expected")
    if output.A.shape[1] != S or output.B.shape[1] != state.B.shape[1]:
        raise TheoryError(
            f"og: it reads a state of {output.A.shape[1]} and {output.B.shape[1]} inputs, g {S} and "
            f"{state.B.shape[1]}; both read the same"
        )
    if not _are_alike(state.activation, output.activation):
        raise TheoryError(f"og: its activation is {_name(output.activation)}, g's {_name(state.activation)}")
    if output.C.dtype != state.C.dtype:
        raise TheoryError(f"og: its numbers are {output.C.dtype}, g's {state.C.dtype}")
    f, H = state.activation, state.hidden_size + output.hidden_size
    A, B, b = (torch.cat(pair) for pair in ((state.A, output.A), (state.B, output.B), (state.b, output.b)))
    constant = _constant(f, b) if output.c.any() else None
    if constant is not None:
        A, B, b = (
            torch.cat([A, A.new_zeros(1, S)]),
            torch.cat([B, B.new_zeros(1, B.shape[1])]),
            torch.cat([b, constant]),
        )
    C = A.new_zeros(S, len(b))
    C[:, : state.hidden_size] = state.C
    V = A.new_zeros(len(output.c), len(b))
    V[:, state.hidden_size : H] = output.C
    if constant is not None:
        V[:, H] = output.c / f(constant)
    return Approximation(A @ C, B, b + A @ state.c, V, C, state.c.clone(), f)


def _constant(f: Activation, like: Tensor) -> Tensor:
    """A net input at which f is not 0, (1,)."""
    for z in (1.0, -1.0, 0.5, 2.0, 0.0):
        at = like.new_full((1,), z)
        if float(f(at).abs()) > 1e-3:
            return at
    raise TheoryError(f"og: its output has a bias, and {_name(f)} is 0 wherever it was tried: no unit can carry it")


def _are_alike(one: Activation, other: Activation) -> bool:
    """Whether two activations are the same function, such as two modules of one class with the same settings."""
    if one is other:
        return True
    z = torch.linspace(-5, 5, 101, dtype=torch.float64)
    return bool(torch.equal(one(z), other(z)))


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)
