"""Theorem 6.1: one fully connected network that goes the way of two feed-forward nets."""

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp
from torch import Tensor, nn

from recurra.theory import Lorenz, Pendulum, System, TheoryError, TwoLayerNet, approximate, fit

EXACT = 1e-12


def along(g: nn.Module, og: nn.Module, s: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """The two nets by themselves, step by step: y, s."""
    outputs, states = [], []
    for x_t in x:
        outputs.append(og(s, x_t))
        s = g(s, x_t)
        states.append(s)
    return torch.stack(outputs), torch.stack(states)


def pushes(system: System, steps: int, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    s, _ = system.draw(rows, generator)
    _, x = system.draw(steps * rows, generator)
    return s, x.view(steps, rows, system.input_size)


@pytest.mark.parametrize("system", [Pendulum(), Lorenz()], ids=["pendulum", "lorenz"])
def test_every_step_from_the_nets_own_state_is_theirs(system: System) -> None:
    nets = fit(system, 16, updates=20)
    made = approximate(nets.g, nets.og)
    s, x = pushes(system, 200, 3)
    before = s
    for t, (y, after) in enumerate(zip(*along(nets.g, nets.og, s, x), strict=True)):
        ours, state = made.run(before, x[t : t + 1])
        torch.testing.assert_close(ours[0], y, rtol=0, atol=EXACT)
        torch.testing.assert_close(state[0], after, rtol=0, atol=EXACT)
        before = after


def test_a_thousand_steps_of_a_contracting_system_unbroken() -> None:
    system = Pendulum()
    nets = fit(system, 16, updates=50)
    s, x = pushes(system, 1000, 4)
    for found, expected in zip(approximate(nets.g, nets.og).run(s, x), along(nets.g, nets.og, s, x), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=EXACT)


@pytest.mark.parametrize("activation", [nn.Tanh(), nn.Sigmoid(), nn.ReLU(), nn.ELU(0.5)])
@pytest.mark.parametrize("biased", [True, False])
def test_modules_with_any_activation(activation: nn.Module, biased: bool) -> None:
    def net(outputs: int, hidden: int) -> nn.Sequential:
        layers = nn.Linear(5, hidden, bias=biased), activation, nn.Linear(hidden, outputs, bias=biased)
        return nn.Sequential(*layers).double()

    torch.manual_seed(3)
    g, og = net(3, 8), net(2, 5)
    made = approximate(g, og)
    assert made.hidden_size == 13 + biased  # one more to carry the bias of y
    s, x = torch.randn(4, 3, dtype=torch.float64), torch.randn(20, 4, 2, dtype=torch.float64)
    expected = along(lambda s, x: g(torch.cat([s, x], -1)), lambda s, x: og(torch.cat([s, x], -1)), s, x)  # pyright: ignore[reportArgumentType]
    for found, wanted in zip(made.run(s, x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)


def test_the_matrices_are_those_of_the_text() -> None:
    """Eqs 6.16 and 6.17 block by block."""
    torch.manual_seed(0)
    g, og = TwoLayerNet(2, 1, 4), TwoLayerNet(2, 1, 3, 5)
    made = approximate(g, og)
    zero = torch.zeros
    torch.testing.assert_close(made.U[:4], torch.cat([g.A @ g.C, zero(4, 3)], 1).detach())
    torch.testing.assert_close(made.U[4:], torch.cat([og.A @ g.C, zero(3, 3)], 1).detach())
    torch.testing.assert_close(made.W, torch.cat([g.B, og.B]).detach())
    torch.testing.assert_close(made.V, torch.cat([zero(5, 4), og.C], 1).detach().double())


def test_the_first_state_satisfies_its_equation() -> None:
    torch.manual_seed(0)
    g = TwoLayerNet(3, 1, 6)
    made = approximate(g, TwoLayerNet(3, 1, 4, 1))
    s = torch.randn(10, 3, dtype=torch.float64)
    torch.testing.assert_close(made.state(made.begin(s)), s)
    narrow = approximate(TwoLayerNet(3, 1, 2), TwoLayerNet(3, 1, 4, 1))
    with pytest.raises(TheoryError, match=r"C has rank 2, the state 3 numbers, .* needs more hidden units"):
        narrow.begin(s)


@pytest.mark.parametrize("system", [Pendulum(), Lorenz()], ids=["pendulum", "lorenz"])
def test_systems_are_those_of_the_books(system: Pendulum | Lorenz) -> None:
    """Against SciPy's integrator of eighth order."""

    def slope(_: float, v: np.ndarray) -> list[float]:
        if isinstance(system, Pendulum):
            return [v[1], -np.sin(v[0]) - 0.5 * v[1] + 0.3]
        a, b, c = 10 * v
        return [10 * (b - a) / 10, (a * (28 - c) - b) / 10, (a * b - 8 / 3 * c) / 10]

    s = torch.tensor([[0.7, -0.4, 2.0][: system.state_size]], dtype=torch.float64)
    found = system.advance(s, torch.full((1, system.input_size), 0.3, dtype=torch.float64))
    exact = solve_ivp(slope, (0, system.step), s[0].numpy(), "DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    np.testing.assert_allclose(found[0].numpy(), exact, rtol=1e-5)


def test_more_hidden_units_come_nearer() -> None:
    errors = [fit(Lorenz(), units, updates=60, samples=1000).state_error for units in (2, 4, 12)]
    assert errors[0] > 5 * errors[1]
    assert errors[1] > 2 * errors[2]
    assert errors[2] < 5e-3


def test_the_error_is_that_of_the_net() -> None:
    found = fit(Pendulum(), 4, updates=10, samples=500, seed=5)
    s, x = Pendulum().draw(1000, torch.Generator().manual_seed(5))
    after = Pendulum().advance(s, x)
    missed = (found.g(s[500:], x[500:]) - after[500:]).square().mean().sqrt()
    assert found.state_error == pytest.approx(float(missed / after.std(0).square().mean().sqrt()))


def test_what_does_not_go_together() -> None:
    g = TwoLayerNet(2, 1, 4)
    with pytest.raises(TheoryError, match="Linear: a TwoLayerNet or a Sequential of Linear, an activation, Linear"):
        approximate(nn.Linear(3, 2), g)
    with pytest.raises(TheoryError, match="og: it reads a state of 2 and 2 inputs, g 2 and 1"):
        approximate(g, TwoLayerNet(2, 2, 4))
    with pytest.raises(TheoryError, match="og: its activation is sigmoid, g's tanh"):
        approximate(g, TwoLayerNet(2, 1, 4, activation=torch.sigmoid))
    with pytest.raises(TheoryError, match="g: it makes 3 numbers of a state of 2"):
        approximate(TwoLayerNet(2, 1, 4, 3), g)
    with pytest.raises(TheoryError, match="hidden_size 0"):
        fit(Pendulum(), 0)
