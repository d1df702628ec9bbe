"""Each check of the battery catches a cell that is wrong in its way, and says so in words."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

import recurra
from recurra.cells import Cell, cell
from recurra.errors import CellError
from recurra.math import tanh
from recurra.testing import CHECKS, CellTests, ConformanceError, Report, check
from recurra.testing.battery import run
from recurra.testing.subject import FaultError, Subject

# --- a cell that is right --------------------------------------------------------------------------------------------


@cell(state="h n:1", gates="h")
def leaky(z, s, *, a=0.25):
    """Leaky integrator that counts its steps.

    Formula:
        h_t = (1 - a) h_(t-1) + a tanh(W_h x_t + U_h h_(t-1) + b_h)
        n_t = n_(t-1) + 1
    """
    return (1 - a) * s.h + a * tanh(z.h), s.n + 1


def leaky_in_numpy(w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, n: np.ndarray) -> Any:
    outputs = []
    for x_t in x:
        h = 0.75 * h + 0.25 * np.tanh(x_t @ w["W_h"].T + h @ w["U_h"].T + w["b_h"])
        outputs.append(h)
    return np.stack(outputs), (h, n + len(x))


@cell(state="h", gates="a b", recurrent="blocks", biases=2, inputs="c", vectors="v", matrices={"M": ("H", "H")})
def everything(z, s, p, *, heads=2):
    """A bit of all that a declaration can say."""
    return tanh(z.a.x + p.v * z.a.h) * tanh(z.b) + p.M @ s.h + z.c


def everything_in_numpy(w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray) -> Any:
    def times(U: np.ndarray, h: np.ndarray) -> np.ndarray:
        return np.concatenate([part @ block.T for part, block in zip(np.split(h, 2, -1), U, strict=True)], -1)

    outputs = []
    for x_t in x:
        a = np.tanh(x_t @ w["W_a"].T + w["b_a"] + w["v"] * (times(w["U_a"], h) + w["b'_a"]))
        b = np.tanh(x_t @ w["W_b"].T + w["b_b"] + times(w["U_b"], h) + w["b'_b"])
        h = a * b + h @ w["M"].T + x_t @ w["W_c"].T + w["b_c"]
        outputs.append(h)
    return np.stack(outputs), (h,)


@cell(state="h", gates="h")
def running(z, s):
    return tanh(z.h.cumsum(-1))


class TestLeaky(CellTests):
    cell = leaky
    reference = leaky_in_numpy
    state = ("h", "n")
    parameters = {"weight_ih": (5, 3), "weight_hh": (5, 5), "bias": (5,)}  # noqa: RUF012 (as a user writes it)


class TestByName(CellTests):
    cell = "gru"
    input_size = 1
    hidden_size = 2


def test_a_right_cell_is_reported() -> None:
    report = check(everything, hidden_size=6, reference=everything_in_numpy)
    assert set(report.passed) | set(report.left_out) == set(CHECKS)
    assert set(report.left_out) == {"formula"}
    assert report.faults == {}
    assert str(report).splitlines() == [
        "cell everything(heads=2): 20 checks hold",
        "  formula left out: its docstring has no block 'Formula:'",
    ]


def test_a_right_cell_that_cannot_be_written_down_is_reported() -> None:
    report = check(running)
    assert report.faults == {}
    assert report.left_out["backends"] == (
        "it runs step by step and in no other way: cell 'running' cannot be written down as a program "
        "(it takes cumsum of a value)"
    )


# --- cells that are wrong --------------------------------------------------------------------------------------------


@cell(state="h", gates="h")
def misprinted(z, s):
    """A formula without b_h and with a number too many.

    Formula:
        h_t = tanh(W_h x_t + U_h h_(t-1)) + 3
    """
    return tanh(z.h)


def local() -> Cell:
    @cell(state="h", gates="h")
    def inner(z, s):
        return tanh(z.h)

    return inner


@cell(state="h", gates="h")
def noisy(z, s):
    return tanh(z.h + 0.1 * torch.rand_like(s.h))


@cell(state="h", gates="h")
def overwriting(z, s):
    new = tanh(z.h)
    if not torch.is_grad_enabled():
        s.h.mul_(0.5)
    return new + s.h


CALLS: list[None] = []


@cell(state="h", gates="h")
def counting_itself(z, s):
    CALLS.append(None)
    return tanh(z.h + 0.01 * len(CALLS))


LAST: dict[tuple[int, ...], Tensor] = {}


@cell(state="h", gates="h")
def remembering(z, s):
    """It keeps its last state, where no reset, mask or new sequence can reach it."""
    old = LAST.get(tuple(s.h.shape))
    new = tanh(z.h if old is None else z.h + 0.5 * old)
    LAST[tuple(s.h.shape)] = new.detach()
    return new


@cell(state="h", gates="h")
def mixing_rows(z, s):
    return tanh(z.h) - s.h.mean(0)


@cell(state="h", gates="h")
def asking_all_rows(z, s):
    return tanh(z.h) if s.h.max() > 100 else z.h * 0.5


@cell(state="h", gates="h")
def hiding_a_slope(z, s):
    return tanh(z.h) + 0.5 * s.h.detach()


@cell(state="h", gates="h")
def steep_at_the_start(z, s):
    return tanh(z.h) + torch.sqrt(s.h.abs())


class OwnTanh(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *args: Any) -> Tensor:
        value = torch.tanh(args[0])
        ctx.save_for_backward(value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        return grads[0] * (1 - ctx.saved_tensors[0] ** 2)


@cell(state="h", gates="h")
def with_a_backward_of_its_own(z, s):
    return OwnTanh.apply(1.0 * z.h)


@cell(state="h", gates="h")
def branching(z, s):
    return tanh(z.h) if float(z.h.sum()) > 0 else torch.sin(z.h)


TIMES = itertools.count()


@cell(state="h", inputs="g")
def minding_its_calls(z, s):
    """It is written down as it is at one call, and is another at the next."""
    return 0.5 * s.h + z.g * (next(TIMES) % 3)


@cell(state="h", gates="h")
def losing_digits(z, s):
    return tanh(((1 + 1e-6 * z.h) - 1) * 1e6)


@cell(state="h", gates="h", recurrent="diagonal")
def of_another_type(z, s):
    return tanh(z.h.double())


def hasty(w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, n: np.ndarray) -> Any:
    outputs, (_, n) = leaky_in_numpy(w, x, h, n)
    return outputs * 0.99, (outputs[-1] * 0.99, n)


def of_real_parts(w: dict[str, np.ndarray], x: np.ndarray, h: np.ndarray, n: np.ndarray) -> Any:
    return leaky_in_numpy({name: np.real(v) for name, v in w.items()}, np.real(x), np.real(h), n)


WRONG: dict[str, list[tuple[Cell, dict[str, Any], str]]] = {
    "names_and_shapes": [
        (leaky, {"parameters": {"weight_ih": (5, 3)}}, "are expected, but it has {'weight_ih': (5, 3), 'weight_hh'"),
        (leaky, {"state": ("n", "h")}, "a state of n, h is expected, but it is h, n"),
    ],
    "formula": [(misprinted, {}, "b_h is declared, but not in the formula; 3 is in the formula, but not in the body")],
    "copies": [(local(), {}, "a layer of it cannot be pickled: cell 'inner' is not a name of module")],
    "repeatable": [(noisy, {}, "output at step 0, row 0, unit 0 is"), (counting_itself, {}, "the second time, but")],
    "nothing_overwritten": [(overwriting, {}, "but a run overwrites h. A body makes new tensors")],
    "step_is_sequence": [(remembering, {}, "as a sequence")],
    "carried_state": [(remembering, {}, "in one piece (they may differ by")],
    "backward_direction": [(remembering, {}, "forward over the reversed sequence")],
    "stacked_layers": [(remembering, {}, "in a stack of two bidirectional layers, but")],
    "rows_apart": [(mixing_rows, {}, "in a batch, but")],
    "padding": [(mixing_rows, {}, "in a padded batch, but"), (remembering, {}, "alone")],
    "masked_steps": [(mixing_rows, {}, "without the masked steps"), (remembering, {}, "in a batch with a mask")],
    "resets": [(remembering, {}, "with a reset, but")],
    "edges": [(asking_all_rows, {}, "each gives what it should, but RuntimeError: max()")],
    "gradients": [
        (hiding_a_slope, {}, "Jacobian"),
        (steep_at_the_start, {}, "the gradient of state h, where it begins as it does by itself, is not finite"),
    ],
    "second_gradients": [(with_a_backward_of_its_own, {}, "once_differentiable")],
    "forward_mode": [(with_a_backward_of_its_own, {}, "RuntimeError")],
    "vmapped": [(branching, {}, "RuntimeError"), (with_a_backward_of_its_own, {}, "RuntimeError")],
    "backends": [(minding_its_calls, {}, "by 'native', but")],
    "single_precision": [(losing_digits, {}, "in 32 bits, but"), (of_another_type, {}, "is torch.float64")],
    "reference": [
        (leaky, {"reference": hasty}, "output at step 0, row 0, unit 0 is"),
        (leaky, {"reference": of_real_parts}, "the derivative along a random direction is"),
        (leaky, {"reference": lambda w, x, h, n: x}, "the reference should return (outputs, final state)"),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "wrong", "settings", "words"),
    [(name, *one) for name, several in WRONG.items() for one in several],
    ids=[f"{name}-{one[0].name}-{i}" for name, several in WRONG.items() for i, one in enumerate(several)],
)
def test_a_wrong_cell_is_caught(name: str, wrong: Cell, settings: dict[str, Any], words: str) -> None:
    LAST.clear()
    with pytest.raises(FaultError) as caught:
        run(CHECKS[name], Subject(cell=wrong, **settings), {})
    text = str(caught.value)
    assert text.startswith("expected: ")
    assert words in text
    assert text.endswith(CHECKS[name].advice)


def test_every_check_catches_something() -> None:
    assert set(WRONG) == set(CHECKS)


# --- as a function, and as a class -----------------------------------------------------------------------------------


def test_all_faults_of_a_cell_are_told_together() -> None:
    with pytest.raises(ConformanceError) as caught:
        check(mixing_rows)
    lines = str(caught.value).splitlines()
    failing = [line.split()[0] for line in lines if " fails: expected: " in line]
    assert lines[0] == f"cell mixing_rows(): {len(failing)} of {len(CHECKS)} checks fail"
    assert {"rows_apart", "padding"} <= set(failing) <= set(CHECKS) - {"repeatable", "copies", "gradients"}
    assert any(line.startswith("  rows_apart fails: expected: every row of a batch gives what it") for line in lines)
    assert any("A body treats every row by itself" in line for line in lines)


def test_what_is_left_out_needs_a_reason_and_is_told() -> None:
    report = check(local(), leave_out={"copies": "it lives in a function"})
    assert report.left_out["copies"] == "it lives in a function"
    assert "  copies left out: it lives in a function" in str(report)
    with pytest.raises(CellError, match="leave_out: unknown check 'copy'; did you mean 'copies'"):
        check(leaky, leave_out={"copy": "why"})
    with pytest.raises(CellError, match="leave_out: each check with the reason is expected"):
        check(leaky, leave_out={"copies": ""})


def test_a_kink_is_said() -> None:
    report = check(steep_at_the_start, smooth=False)
    assert {"gradients", "second_gradients"} <= set(report.left_out)
    assert "at a kink differences are no derivative" in report.left_out["gradients"]


def test_what_is_no_cell_is_told() -> None:
    with pytest.raises(CellError, match=r"cell: a cell made with recurra\.cell is expected, not <function"):
        check(local)  # type: ignore[arg-type]
    with pytest.raises(CellError, match="unknown cell 'lsmt'; did you mean 'lstm'"):
        check("lsmt")

    class Nameless(CellTests):
        pass

    with pytest.raises(CellError, match="Nameless: no cell is named"):
        Nameless.subject()


def test_a_cell_whose_body_fails_is_told_of_once() -> None:
    @cell(state="h", gates="h")
    def mistaken(z, s):
        return tanh(z.g)

    with pytest.raises(CellError, match="unknown net input 'g'") as caught:
        check(mistaken)
    assert not isinstance(caught.value, ConformanceError)
    with pytest.raises(CellError, match="5 units cannot be shared out among 2 heads") as caught:
        check(everything)
    assert not isinstance(caught.value, ConformanceError)


def test_the_callers_random_numbers_are_left_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check(leaky)
    assert torch.equal(torch.rand(2), expected)


def test_the_class_has_a_test_for_every_check_which_fails_and_skips_in_words() -> None:
    class Mixing(CellTests):
        cell = mixing_rows
        leave_out = {"formula": "not written yet"}  # noqa: RUF012 (as a user writes it)

    own = {name.removeprefix("test_") for name in dir(CellTests) if name.startswith("test_")}
    assert own == set(CHECKS)
    battery: Any = Mixing()
    with pytest.raises(pytest.fail.Exception, match=r"^cell mixing_rows\(\): expected: every row of a batch"):
        battery.test_rows_apart()
    with pytest.raises(pytest.skip.Exception, match="not written yet"):
        battery.test_formula()
    with pytest.raises(pytest.skip.Exception, match="no reference is given"):
        battery.test_reference()
    battery.test_repeatable()


def test_it_is_a_public_name() -> None:
    assert recurra.testing.check is check
    assert isinstance(check("irnn"), Report)
