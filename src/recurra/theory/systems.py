"""Systems of physics as maps from step to step, and two-layer nets that are fitted to them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from recurra.theory.approximation import TheoryError, TwoLayerNet

RUNGE_KUTTA_STEPS = 10
"""Steps of the classical fourth-order method within one step of a system."""


class System(Protocol):
    """A dynamical system in steps, eqs 6.10 and 6.11."""

    @property
    def state_size(self) -> int:
        """Numbers of a state."""
        ...

    @property
    def input_size(self) -> int:
        """Numbers of an input."""
        ...

    def advance(self, s: Tensor, x: Tensor) -> Tensor:
        """g: the state after a step, (…, S), of the state before it, (…, S), and the input during it, (…, X)."""
        ...

    def observe(self, s: Tensor) -> Tensor:
        """o: what is seen of a state, (…, Y)."""
        ...

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """States and inputs as they come, (count, S) and (count, X)."""
        ...


@dataclass(frozen=True)
class Pendulum:
    """A pendulum that is damped and pushed: θ'' = -sin θ - damping θ' + push, in units of its small swing's √(l / g).

    Its state is (θ, θ'); what is seen of it is where the bob is, (sin θ, -cos θ). With damping it is contracting: two
    that swing below the horizontal and are pushed alike come together.

    Attributes:
        damping: Share of the speed that is lost in a unit of time.
        step: Time of a step.
    """

    damping: float = 0.5
    step: float = 0.2
    state_size: int = 2
    input_size: int = 1

    def advance(self, s: Tensor, x: Tensor) -> Tensor:
        """See `System.advance`; the push, (…, 1), stays the same during the step."""

        def slope(v: Tensor) -> Tensor:
            angle, speed = v.unbind(-1)
            return torch.stack([speed, -angle.sin() - self.damping * speed + x[..., 0]], -1)

        return _runge_kutta(slope, s, self.step)

    def observe(self, s: Tensor) -> Tensor:
        """See `System.observe`."""
        return torch.stack([s[..., 0].sin(), -s[..., 0].cos()], -1)

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """States below the horizontal, |θ| ≤ π / 2 and |θ'| ≤ 1.5, and pushes of 0.5 at the most."""
        u = 2 * torch.rand(count, 3, generator=generator, dtype=torch.float64) - 1
        return u[:, :2] * torch.tensor([torch.pi / 2, 1.5], dtype=torch.float64), 0.5 * u[:, 2:]


@dataclass(frozen=True)
class Lorenz:
    """Lorenz's (1963) three equations of convection, with σ = 10, ρ = 28, β = 8/3: chaotic, and without an input.

    The state is divided by 10, so that its numbers are of the size that nets like; its first two are what is seen.

    Attributes:
        step: Time of a step.
    """

    step: float = 0.02
    state_size: int = 3
    input_size: int = 0

    def advance(self, s: Tensor, x: Tensor) -> Tensor:
        """See `System.advance`; x is (…, 0)."""

        def slope(v: Tensor) -> Tensor:
            a, b, c = (10 * v).unbind(-1)
            return torch.stack([10 * (b - a), a * (28 - c) - b, a * b - 8 / 3 * c], -1) / 10

        return _runge_kutta(slope, s, self.step)

    def observe(self, s: Tensor) -> Tensor:
        """See `System.observe`."""
        return s[..., :2]

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """States near the attractor: 2,000 runs from random places, a while after they began, and a little beside."""
        runs = 2000
        s = torch.randn(runs, 3, generator=generator, dtype=torch.float64) + torch.tensor([0.0, 0.0, 2.5])
        nothing = s.new_zeros(runs, 0)
        found = []
        for step in range(100 + 10 * -(-count // runs)):
            s = self.advance(s, nothing)
            if step >= 100 and step % 10 == 0:
                found.append(s)
        states = torch.cat(found)[:count]
        return states + 0.05 * torch.randn(states.shape, generator=generator, dtype=torch.float64), s.new_zeros(
            count, 0
        )


SYSTEMS: dict[str, Callable[[], System]] = {"pendulum": Pendulum, "lorenz": Lorenz}
"""By name."""


def _runge_kutta(slope: Callable[[Tensor], Tensor], s: Tensor, time: float) -> Tensor:
    """s after some time, by the classical method of fourth order."""
    h = time / RUNGE_KUTTA_STEPS
    for _ in range(RUNGE_KUTTA_STEPS):
        a = slope(s)
        b = slope(s + h / 2 * a)
        c = slope(s + h / 2 * b)
        d = slope(s + h * c)
        s = s + h / 6 * (a + 2 * b + 2 * c + d)
    return s


@dataclass(frozen=True, eq=False)
class Fit:
    """Two nets that stand for a system.

    Attributes:
        g: The net of s_t = g(s_(t-1), x_t).
        og: The net of y_t = og(s_(t-1), x_t).
        state_error: Root mean square error of the state after one step, over the deviation of states, on states and
            inputs that were not fitted to.
        output_error: That of the output.
    """

    g: TwoLayerNet
    og: TwoLayerNet
    state_error: float
    output_error: float


def fit(system: System, hidden_size: int, *, samples: int = 2000, updates: int = 100, seed: int = 0) -> Fit:
    """Fit two-layer nets to a system's transition and output, in double precision.

    The hidden layer begins at random and the output layer with the least squares solution to it; then all weights move
    by the method of Levenberg and Marquardt, and the output layer is solved for once more.

    Args:
        system: The system.
        hidden_size: Hidden units of each of the two nets.
        samples: States and inputs that are fitted to; as many again measure the error.
        updates: Steps of that method.
        seed: Of the samples and first weights.

    Returns:
        The nets, and how far off they are.

    Raises:
        TheoryError: No hidden unit, or fewer samples than hidden units.

    Example:
        >>> few, more = (fit(Pendulum(), units, updates=30) for units in (4, 16))
        >>> more.state_error < few.state_error < 0.1
        True
    """
    if hidden_size < 1 or samples <= hidden_size:
        raise TheoryError(
            f"hidden_size {hidden_size}, samples {samples}: a hidden unit at least is expected, and more samples than "
            "hidden units"
        )
    generator = torch.Generator().manual_seed(seed)
    s, x = system.draw(2 * samples, generator)
    after = system.advance(s, x)
    nets, errors = [], []
    for target in (after, system.observe(after)):
        net = _begun(system, hidden_size, target.shape[-1], generator)
        _fit(net, s[:samples], x[:samples], target[:samples], updates)
        with torch.no_grad():
            missed = net(s[samples:], x[samples:]) - target[samples:]
        nets.append(net.requires_grad_(False))
        errors.append(float(missed.square().mean().sqrt() / target.std(0).square().mean().sqrt()))
    return Fit(nets[0], nets[1], *errors)


def _begun(system: System, hidden_size: int, outputs: int, generator: torch.Generator) -> TwoLayerNet:
    """A net whose first weights are drawn from the generator alone."""
    net = TwoLayerNet(system.state_size, system.input_size, hidden_size, outputs)
    with torch.no_grad():
        for p in (net.A, net.B, net.b):
            p.copy_(torch.randn(p.shape, generator=generator, dtype=torch.float64) * 0.7)
    return net


def _fit(net: TwoLayerNet, s: Tensor, x: Tensor, target: Tensor, updates: int) -> None:
    """Levenberg (1944) and Marquardt's (1963) method for the sum of squares, over all weights."""
    _solve_output(net, s, x, target)
    scale = target.std(0)
    parameters = [net.A, net.B, net.b, net.C, net.c]

    def error(theta: Tensor) -> Tensor:
        with torch.no_grad():
            nn.utils.vector_to_parameters(theta, parameters)
            return (net(s, x) - target) / scale

    theta = nn.utils.parameters_to_vector(parameters).detach()
    missed, damping = error(theta), FIRST_DAMPING
    for _ in range(updates):
        J = _jacobian(net, s, x) / scale.repeat(len(s)).unsqueeze(1)
        curvature, slope = J.mT @ J, J.mT @ missed.flatten()
        while damping < LARGEST_DAMPING:
            damped = curvature + damping * curvature.diagonal().clamp(min=1e-12).diag()
            step = torch.linalg.solve(damped, slope)
            tried = error(theta - step)
            if tried.square().sum() < missed.square().sum():
                theta, missed, damping = theta - step, tried, damping / 5
                break
            damping *= 3
        else:
            break
    error(theta)
    _solve_output(net, s, x, target)


FIRST_DAMPING, LARGEST_DAMPING = 1e-3, 1e10
"""Of Marquardt's damping, as a share of the curvature's diagonal; beyond the largest no step helps."""


def _jacobian(net: TwoLayerNet, s: Tensor, x: Tensor) -> Tensor:
    """What the net puts out by its parameters A, B, b, C, c: (N * outputs, parameters)."""
    with torch.no_grad():
        z = s @ net.A.mT + x @ net.B.mT + net.b
    with torch.enable_grad():
        hidden = net.activation(z.requires_grad_())
        (slope,) = torch.autograd.grad(hidden.sum(), z)
    hidden, C = hidden.detach(), net.C.detach()
    N, outputs = len(s), len(C)
    by_z = slope.unsqueeze(1) * C  # (N, outputs, H)
    by_inputs = [(by_z.unsqueeze(-1) * v[:, None, None]).flatten(2) for v in (s, x)]
    eye = torch.eye(outputs, dtype=s.dtype)
    by_C = (eye[None, :, :, None] * hidden[:, None, None]).flatten(2)
    return torch.cat([*by_inputs, by_z, by_C, eye.expand(N, -1, -1)], 2).flatten(0, 1)


RIDGE = 1e-12
"""Added to the normal equations' diagonal, over its mean: what keeps the output layer's weights of a sensible size."""


@torch.no_grad()
def _solve_output(net: TwoLayerNet, s: Tensor, x: Tensor, target: Tensor) -> None:
    """Set the output layer to the least squares solution."""
    hidden = torch.cat([net.hidden(s, x), s.new_ones(len(s), 1)], 1)
    # ridge as further rows, which is better conditioned than the normal equations
    ridge = (RIDGE * hidden.square().sum(0).mean()).sqrt() * torch.eye(hidden.shape[1], dtype=s.dtype)
    rows = torch.cat([hidden, ridge])
    found = torch.linalg.lstsq(rows, torch.cat([target, target.new_zeros(len(ridge), target.shape[1])])).solution
    net.C.copy_(found[:-1].mT)
    net.c.copy_(found[-1])
