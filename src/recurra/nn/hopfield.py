"""Associative memories: Hopfield's network of two-valued units, and its modern form over real numbers.

Both are recurrent networks without an input, whose states run down an energy until they rest; what they were given to
store are (as long as it is not too much) places of rest, so that a damaged pattern runs into the whole one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from recurra.errors import unknown
from recurra.nn.arguments import whole

Updates = Literal["asynchronous", "synchronous"]
RULES = ("hebbian", "pseudo-inverse")
Rule = Literal["hebbian", "pseudo-inverse"]


@dataclass(frozen=True, eq=False)
class Recall:
    """What a memory runs into.

    Attributes:
        states: (…, N), the states that it came to.
        sweeps: How often all units were updated.
        rest: (…) bool, whether a state is one of rest, which another sweep would leave as it is.
        energies: (sweeps + 1, …), the energy before the first sweep and after each.
    """

    states: Tensor
    sweeps: int
    rest: Tensor
    energies: Tensor


class Hopfield:
    """Hopfield's network (1982): N units of value -1 or 1, each connected with all others, W symmetric.

    A unit takes the sign of what the others say of it, and stays as it is where that is 0:

        s_i ← sign(Σ_j W_ij s_j + b_i)                        W_ij = W_ji, W_ii = 0
        E = -½ Σ_ij W_ij s_i s_j - Σ_i b_i s_i

    One unit after the other (asynchronous), E never rises, and the network comes to rest. All at once (synchronous), it
    comes to rest or to two states in turn (Goles, Fogelman-Soulié & Pellegrin 1985); so run it is a fully connected
    recurrent network, h_t = sign(W h_(t-1) + b).

    Args:
        weights: W, (N, N).
        bias: b, (N,); 0 when left out.

    Raises:
        ValueError: W is not square or not symmetric, a unit is connected with itself, or b has another width.

    Example:
        >>> memory = Hopfield.store([[1, 1, 1, -1, -1, -1], [1, -1, 1, -1, 1, -1]])
        >>> memory.recall([[1, 1, 1, -1, -1, 1]]).states.int().tolist()
        [[1, 1, 1, -1, -1, -1]]
    """

    def __init__(self, weights: Any, bias: Any = None) -> None:
        self.weights = W = torch.as_tensor(weights).double()
        if W.dim() != 2 or len(W) != W.shape[1]:
            raise ValueError(f"weights: a square matrix is expected, not {tuple(W.shape)}")
        if not torch.allclose(W, W.mT, rtol=1e-9, atol=1e-12):
            i, j = divmod(int((W - W.mT).abs().argmax()), len(W))
            raise ValueError(f"weights: W[{i}, {j}] is {W[i, j]:.4g}, W[{j}, {i}] {W[j, i]:.4g}; they are to be equal")
        if W.diagonal().any():
            raise ValueError(f"weights: unit {int(W.diagonal().abs().argmax())} is connected with itself")
        self.bias = W.new_zeros(len(W)) if bias is None else torch.as_tensor(bias).double()
        if self.bias.shape != (len(W),):
            raise ValueError(f"bias: {len(W)} numbers are expected, not {tuple(self.bias.shape)}")

    @classmethod
    def store(cls, patterns: Any, rule: Rule = "hebbian") -> "Hopfield":
        """A network that stores patterns.

        hebbian: W = 1/N Σ_p x_p x_pᵀ (Hopfield 1982, eq. 2): each pattern is added by itself; random patterns are kept
        up to a load of about 0.138 N (Amit, Gutfreund & Sompolinsky 1985), and get in each other's way beyond it.
        pseudo-inverse: W = X⁺ X, the projection on the patterns (Personnaz, Guyon & Dreyfus 1985): every set of fewer
        than N independent patterns is kept exactly, like ones too. Connections of a unit with itself are left out.

        Args:
            patterns: (P, N), of -1 and 1.
            rule: "hebbian" or "pseudo-inverse".

        Raises:
            ValueError: No pattern, patterns of unequal length, values other than -1 and 1, or another rule.
        """
        X = _two_valued("patterns", _patterns(patterns))
        if rule == "hebbian":
            W = X.mT @ X / X.shape[1]
        elif rule == "pseudo-inverse":
            W = torch.linalg.pinv(X) @ X
            W = (W + W.mT) / 2  # equal but for rounding
        else:
            raise ValueError(unknown("rule", rule, RULES))
        return cls(W.fill_diagonal_(0))

    @property
    def units(self) -> int:
        """N."""
        return len(self.bias)

    def energy(self, states: Any) -> Tensor:
        """E of states.

        Args:
            states: (…, N).

        Returns:
            (…).
        """
        s = self._states("states", states)
        return -0.5 * ((s @ self.weights) * s).sum(-1) - s @ self.bias

    def recall(self, probes: Any, *, updates: Updates = "asynchronous", max_sweeps: int = 100, seed: int = 0) -> Recall:
        """Let states run until all rest.

        Args:
            probes: (…, N), of -1 and 1: where to begin.
            updates: "asynchronous", one unit after the other in an order that is drawn anew for each sweep, or
                "synchronous", all at once.
            max_sweeps: Sweeps, at most; a synchronous network can go on between two states for ever.
            seed: Of the orders.

        Raises:
            ValueError: Values other than -1 and 1, another width, or another way of updating.
        """
        s = _two_valued("probes", self._states("probes", probes)).clone()
        whole("max_sweeps", max_sweeps)
        if updates not in ("asynchronous", "synchronous"):
            raise ValueError(unknown("way of updating", updates, ("asynchronous", "synchronous")))
        energies, sweeps = [self.energy(s)], 0
        generator = torch.Generator().manual_seed(seed)
        rest = self._rests(s)
        while sweeps < max_sweeps and not rest.all():
            s = self._at_once(s) if updates == "synchronous" else self._in_turn(s, generator)
            sweeps += 1
            rest = self._rests(s)
            energies.append(self.energy(s))
        return Recall(s, sweeps, rest, torch.stack(energies))

    def _at_once(self, s: Tensor) -> Tensor:
        field = s @ self.weights + self.bias
        return torch.where(field == 0, s, field.sign())

    def _in_turn(self, s: Tensor, generator: torch.Generator) -> Tensor:
        s = s.clone()
        for i in torch.randperm(self.units, generator=generator).tolist():
            field = s @ self.weights[i] + self.bias[i]
            s[..., i] = torch.where(field == 0, s[..., i], field.sign())
        return s

    def _rests(self, s: Tensor) -> Tensor:
        return (self._at_once(s) == s).all(-1)

    def _states(self, name: str, values: Any) -> Tensor:
        s = torch.as_tensor(values).double()
        if s.dim() == 0 or s.shape[-1] != self.units:
            raise ValueError(f"{name}: the last dimension is to be the {self.units} units, not {tuple(s.shape)}")
        return s


class ModernHopfield:
    """The modern Hopfield network over real numbers (Ramsauer et al. 2021), which one step of attention is.

    With the P stored patterns as the rows of X, (P, N), and the largest of their norms M,

        ξ ← Xᵀ softmax(β X ξ)                                                        (their eq. 3)
        E = -1/β log Σ_p exp(β x_pᵀ ξ) + ½ ξᵀ ξ + 1/β log P + ½ M²                    (their eq. 2)

    E never rises. It stores exponentially many patterns in N where they lie apart, and one step is mostly enough. The
    step is attention with the query ξ, and X as keys and values, scores scaled by β.

    Args:
        patterns: X, (P, N) real numbers.
        beta: β, how sharply the nearest pattern is preferred; 1/√N is that of scaled dot-product attention.

    Raises:
        ValueError: No pattern, patterns of unequal length, or β not above 0.
    """

    def __init__(self, patterns: Any, beta: float = 1.0) -> None:
        self.patterns = _patterns(patterns)
        if not beta > 0:
            raise ValueError(f"beta: a number above 0 is expected, not {beta!r}")
        self.beta = beta

    def energy(self, states: Any) -> Tensor:
        """E of states, (…, N): (…)."""
        xi, X, beta = self._states(states), self.patterns, self.beta
        largest = X.square().sum(1).max()
        scores = torch.logsumexp(beta * (xi @ X.mT), -1)
        return (np.log(len(X)) - scores) / beta + 0.5 * xi.square().sum(-1) + 0.5 * largest

    def step(self, states: Any) -> Tensor:
        """One update of states, (…, N)."""
        xi = self._states(states)
        return torch.softmax(self.beta * (xi @ self.patterns.mT), -1) @ self.patterns

    def recall(self, probes: Any, *, max_sweeps: int = 100, tolerance: float = 1e-9) -> Recall:
        """Let states run until none moves by more than `tolerance`.

        Args:
            probes: (…, N): where to begin.
            max_sweeps: Updates, at most.
            tolerance: Largest change of a number in a state that rests.
        """
        xi, sweeps = self._states(probes), 0
        energies, rest = [self.energy(xi)], xi.new_zeros(xi.shape[:-1], dtype=torch.bool)
        while sweeps < whole("max_sweeps", max_sweeps) and not rest.all():
            moved = self.step(xi)
            rest = (moved - xi).abs().amax(-1) <= tolerance
            xi, sweeps = moved, sweeps + 1
            energies.append(self.energy(xi))
        return Recall(xi, sweeps, rest, torch.stack(energies))

    def _states(self, values: Any) -> Tensor:
        xi = torch.as_tensor(values).double()
        if xi.dim() == 0 or xi.shape[-1] != self.patterns.shape[1]:
            width = self.patterns.shape[1]
            raise ValueError(f"states: the last dimension is to be the {width} numbers, not {tuple(xi.shape)}")
        return xi


def _patterns(values: Any) -> Tensor:
    """Patterns as (P, N) in double precision."""
    if isinstance(values, Sequence):
        lengths = list(_lengths(values))
        for number, length in enumerate(lengths):
            if length != lengths[0]:
                raise ValueError(
                    f"patterns: number {number} has {length} values, number 0 has {lengths[0]}; all are to have as many"
                )
        values = np.stack([np.asarray(v, float) for v in values]) if lengths else np.empty((0, 0))
    X = torch.as_tensor(values).double()
    if X.dim() != 2 or not X.numel():
        raise ValueError(f"patterns: a row for each is expected, (P, N), not {tuple(X.shape)}")
    if not X.isfinite().all():
        raise ValueError(f"patterns: number {int((~X.isfinite()).any(1).nonzero()[0])} has values that are not finite")
    return X


def _lengths(values: Sequence[Any]) -> Iterator[int]:
    for number, pattern in enumerate(values):
        try:
            yield len(pattern)
        except TypeError:
            raise ValueError(f"patterns: number {number} is {pattern!r}; a list of numbers is expected") from None


def _two_valued(name: str, values: Tensor) -> Tensor:
    wrong = (values.abs() != 1).nonzero()
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise ValueError(f"{name}: the value at {place} is {float(values[place]):g}; -1 or 1 is expected")
    return values
