"""The eager engine: which products a step makes, what is read of masks, what a stepper of one's own needs."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from recurra.cells import CATALOGUE, cell
from recurra.engine import eager
from recurra.math import sigmoid, tanh
from recurra.nn import Recurrent

PRODUCTS = ("aten.mm", "aten.addmm", "aten.bmm")


class Counting(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).rpartition(".")[0] in PRODUCTS
        return func(*args, **(kwargs or {}))


def products(one: Any, steps: int) -> int:
    layer = Recurrent(one, 3, 4, backend="eager")
    with Counting() as counting, torch.no_grad():
        layer(torch.zeros(steps, 2, 3))
    return counting.count


@pytest.mark.parametrize(("name", "each"), [("elman", 1), ("lstm", 1), ("gru", 2), ("gru_reset_after", 1)])
def test_one_product_for_all_inputs_and_one_a_step_for_all_gates_of_one_operand(name: str, each: int) -> None:
    assert name in CATALOGUE
    assert [products(name, steps) for steps in (1, 7)] == [1 + each, 1 + 7 * each]


def test_a_cell_without_recurrence_makes_no_product_in_its_steps() -> None:
    one = cell(state="h", inputs="g u")(lambda z, s: sigmoid(z.u) * s.h + z.g)
    assert products(one, 7) == 1


def test_every_kind_of_use_is_found() -> None:
    @cell(state="h c:3", gates="w p c a", inputs="n")
    def one(z, s):
        return tanh(z.w + z.p.h * z.p.x + z.c(s.h) + z.a + z.a(2 * s.h) + z.a.x + z.n), s.c

    use = one.use(5)
    assert use == eager.Use(frozenset("wa"), frozenset("wpa"), frozenset("pa"), frozenset("ca"), 5)


def test_a_gate_that_is_only_called_is_not_multiplied_with_the_state() -> None:
    """Whose width need not be that of what the gate is called with."""

    @cell(state="h", gates="a b", biases="apart")
    def one(z, s):
        two = torch.cat([s.h, 2 * s.h], -1)
        return tanh(z.a(two) + z.b.x + z.b(two) + z.b.b + z.a.b)

    assert one.use(4).of_state == frozenset()
    output, _ = Recurrent(one, 3, 4, backend="eager")(torch.randn(5, 2, 3))
    assert output.shape == (5, 2, 4)


def doubling() -> eager.Stepper:
    """A stepper of one's own: h' = 2 h + x."""

    class Doubling:
        taken: list[float]

        def __init__(self) -> None:
            self.taken = []

        def prepare(self, x: Tensor) -> list[Tensor]:
            return list(x)

        def __call__(self, prepared: Tensor, state: eager.State) -> eager.State:
            self.taken.append(float(prepared.sum()))
            return (2 * state[0] + prepared,)

    return Doubling()


def test_a_step_that_no_row_takes_is_not_run() -> None:
    step: Any = doubling()
    x = torch.tensor([[1.0, 2.0], [10.0, 20.0], [100.0, 200.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True], [False, False], [False, True]])
    zero = (torch.zeros(2, 1),)
    states, final = eager.run(step, x, zero, zero, mask=mask)
    assert step.taken == [3.0, 200.0], "and what is masked reaches no step"
    assert [s[0].flatten().tolist() for s in states] == [[1, 2], [1, 2], [1, 204]]
    assert final[0] is states[-1][0]


def test_backward_in_time() -> None:
    x, zero = torch.tensor([[1.0], [10.0], [100.0]]).unsqueeze(-1), (torch.zeros(1, 1),)
    states, final = eager.run(doubling(), x, (torch.ones(1, 1),), zero, reverse=True)
    assert [float(s[0]) for s in states] == [1 + 2 * (10 + 2 * 102), 10 + 2 * 102, 102]
    assert float(final[0]) == 429
    reset = torch.tensor([[True], [False], [True]])  # crossing from step 2 to 1; nothing is crossed before step 0
    states, _ = eager.run(doubling(), x, (torch.ones(1, 1),), zero, reset=reset, reverse=True)
    assert [float(s[0]) for s in states] == [21, 10, 102]


def test_masks_whose_values_cannot_be_read_give_the_same() -> None:
    """As inside vmap: every step is then treated as one that concerns some rows."""
    layer = Recurrent("lstm", 3, 4, bidirectional=True)
    x = torch.randn(5, 2, 3)
    mask, reset = torch.rand(5, 2) < 0.6, torch.rand(5, 2) < 0.4
    assert eager.is_readable(mask)
    assert not torch.func.vmap(lambda m: torch.tensor(eager.is_readable(m)))(mask).any()
    found = torch.func.vmap(lambda m, r: layer(x, mask=m, reset=r)[0])(mask.unsqueeze(0), reset.unsqueeze(0))
    torch.testing.assert_close(found[0], layer(x, mask=mask, reset=reset)[0])


def test_zoneout_of_one_step() -> None:
    zero, x = (torch.zeros(4, 50),), torch.ones(1, 4, 50)
    _, final = eager.run(doubling(), x, zero, zero, zoneout=0.5, training=True)
    assert set(final[0].unique().tolist()) == {0.0, 1.0}
    _, final = eager.run(doubling(), x, zero, zero, zoneout=0.25, training=False)
    assert final[0].unique().tolist() == [0.75]


def test_a_body_gets_its_parameters_under_their_own_names() -> None:
    seen: dict[str, Any] = {}

    @cell(state="h", gates="g", vectors="v", matrices={"M": ("H", "H")}, constants={"k": lambda H: torch.arange(H)})
    def looking(z, s, p):
        seen.update(v=p.v, k=p.k)
        return p.M @ tanh(z.g * p.v + p.k)

    layer = Recurrent(looking, 2, 3, backend="eager")
    layer(torch.zeros(1, 1, 2))
    assert seen["v"] is layer.get_parameter("v_l0")
    assert seen["k"].tolist() == [0, 1, 2]
