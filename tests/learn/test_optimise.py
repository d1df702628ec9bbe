"""Schedules, decay and clipping against closed forms and PyTorch's own."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from recurra.learn import TrainSettings
from recurra.learn.optimise import REMEMBERED, clip, learning_rate, make_optimizer
from recurra.learn.regularise import add_decay


def settings(**values: object) -> TrainSettings:
    return TrainSettings.model_validate(values)


def test_one_cycle_is_pytorchs() -> None:
    total, ours = 90, settings(schedule="one_cycle", lr=0.02, warmup=0.3, final_lr=4e-6)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.02, total_steps=total + 1, pct_start=0.3, div_factor=25, final_div_factor=1e4, cycle_momentum=False
    )
    theirs = []
    for _ in range(total):
        theirs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # PyTorch reaches its peak at step 0.3 * 91 - 1 = 26.3, ours at 27: the same curve, its time a step apart.
    found = [learning_rate(step, total, ours) for step in range(total)]
    assert max(found) == pytest.approx(0.02)
    assert found.index(max(found)) == 27
    assert max(abs(a - b) for a, b in zip(found, theirs, strict=True)) < 0.02 * 0.05


@given(
    schedule=st.sampled_from(["constant", "warmup", "cosine", "one_cycle"]),
    total=st.integers(1, 300),
    warmup=st.floats(0, 0.95),
    final=st.floats(0, 1),
)
def test_every_schedule_stays_within_its_bounds(schedule: str, total: int, warmup: float, final: float) -> None:
    ours = settings(schedule=schedule, lr=0.5, warmup=warmup, final_lr=final)
    rates = [learning_rate(step, total, ours) for step in range(total)]
    assert all(0 <= rate <= 0.5 * (1 + 1e-12) for rate in rates)
    rise = [r for step, r in enumerate(rates) if step < warmup * total]
    if schedule != "constant":
        assert rise == sorted(rise)
    fall = rates[len(rise) :]
    assert fall == sorted(fall, reverse=True)
    if schedule in ("cosine", "one_cycle") and len(fall) > 1:
        assert rates[-1] == pytest.approx(0.5 * final, rel=0.1, abs=0.5 * (1 - math.cos(math.pi / len(fall))))


def test_constant_and_warmup_values() -> None:
    assert {learning_rate(s, 10, settings(schedule="constant", lr=0.1)) for s in range(10)} == {0.1}
    found = [learning_rate(s, 10, settings(schedule="warmup", lr=0.1, warmup=0.4)) for s in range(10)]
    assert found == pytest.approx([0.02, 0.04, 0.06, 0.08, *[0.1] * 6])


def with_gradients(*gradients: list[float]) -> dict[str, nn.Parameter]:
    """Rows of zeros with these gradients."""
    parameters = {}
    for name, g in zip("abcd", gradients, strict=False):
        p = parameters[name] = nn.Parameter(torch.zeros(1, len(g)))
        p.grad = torch.tensor([g])
    return parameters


def clipped(*gradients: list[float], earlier: tuple[float, ...] = (), **bounds: float) -> tuple[list[Tensor], float]:
    """The gradients after clipping, and their norm before."""
    parameters = with_gradients(*gradients)
    before = clip(parameters, settings(**{"clip_norm": 0.0, **bounds}), earlier)
    return [p.grad[0] for p in parameters.values() if p.grad is not None], before


def close(found: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(found, torch.tensor(expected))


def test_clipping_by_norm_keeps_the_direction() -> None:
    (a, b), before = clipped([3.0], [0.0, 4.0], clip_norm=1.0)
    assert before == pytest.approx(5.0)
    close(a, [0.6])
    close(b, [0.0, 0.8])


def test_a_short_gradient_is_left_alone() -> None:
    (a,), before = clipped([0.3, -0.4], clip_norm=1.0)
    assert before == pytest.approx(0.5)
    close(a, [0.3, -0.4])


def test_clipping_by_value_then_by_norm() -> None:
    (a,), before = clipped([10.0, -0.5], clip_value=1.0)
    assert before == pytest.approx(math.hypot(10, 0.5))
    close(a, [1.0, -0.5])
    (a,), _ = clipped([10.0, -1.0], clip_value=1.0, clip_norm=1.0)
    close(a, [0.5**0.5, -(0.5**0.5)])


def test_no_bound_clips_nothing() -> None:
    (a,), before = clipped([1e6, -3.0])
    close(a, [1e6, -3.0])
    assert before == pytest.approx(1e6)


def test_a_gradient_whose_square_is_too_large_for_its_type_keeps_its_direction() -> None:
    (a,), before = clipped([3e25, -4e25], clip_norm=1.0)
    assert before == pytest.approx(5e25)
    close(a, [0.6, -0.8])


@pytest.mark.parametrize("wrong", [math.inf, math.nan])
def test_a_gradient_that_is_no_number_is_told_and_left_alone(wrong: float) -> None:
    (a,), before = clipped([wrong, 2.0], clip_norm=1.0, clip_value=0.1, clip_adaptive=0.1, clip_quantile=0.5)
    assert not math.isfinite(before)
    assert a[1] == 2.0


def test_clipping_to_a_quantile_of_the_norms_so_far() -> None:
    """numpy.percentile over the earlier norms and this one, as in the authors' program."""
    earlier = (1.0, 7.0, 2.0, 6.0)
    (a,), before = clipped([0.0, 10.0], earlier=earlier, clip_quantile=0.3)
    assert before == 10.0
    close(a, [0.0, float(np.percentile([*earlier, 10.0], 30))])
    (a,), _ = clipped([0.0, 0.5], earlier=earlier, clip_quantile=0.3)
    close(a, [0.0, 0.5])
    (a,), _ = clipped([0.0, 10.0], earlier=earlier, clip_quantile=0.9, clip_norm=3.0)
    close(a, [0.0, 3.0])  # the lower of two bounds
    (a,), _ = clipped([0.0, 10.0], clip_quantile=0.3)
    close(a, [0.0, 10.0])  # the first: there is none to measure it by
    forgotten = (*[100.0] * 5, *[1.0] * (REMEMBERED - 1))
    (a,), _ = clipped([0.0, 10.0], earlier=forgotten, clip_quantile=0.999)
    assert 1.0 < float(a[1]) < 2.0


def test_adaptive_clipping_is_by_unit_and_relative_to_its_weights() -> None:
    """Brock et al. 2021, eq. 3, one unit after another by hand."""
    torch.manual_seed(0)
    shapes = {"weight_ih": (4, 3), "weight_hh": (2, 4, 2), "bias": (5,), "diagonal.weight_hh_l0": (6,)}
    parameters = {name: nn.Parameter(torch.randn(shape)) for name, shape in shapes.items()}
    parameters["zero"] = nn.Parameter(torch.zeros(2, 3))
    parameters["output.weight"] = nn.Parameter(torch.randn(2, 3))
    for p in parameters.values():
        p.grad = torch.randn_like(p)
    before = {name: p.grad.clone() for name, p in parameters.items() if p.grad is not None}
    clip(parameters, settings(clip_norm=0.0, clip_adaptive=0.5))
    touched = 0
    for name, p in parameters.items():
        w_of_units, g_of_units = p.detach(), before[name]
        if name == "bias":
            w_of_units, g_of_units = w_of_units[None], g_of_units[None]
        elif p.dim() == 1:
            w_of_units, g_of_units = w_of_units[:, None], g_of_units[:, None]
        units = zip(w_of_units.flatten(0, -2), g_of_units.flatten(0, -2), strict=True)
        expected = []
        for w, g in units:
            ratio = float(g.norm()) / max(float(w.norm()), 1e-3)
            shortened = ratio > 0.5 and not name.startswith("output")
            touched += shortened
            expected.append(g * (0.5 / ratio) if shortened else g)
        assert p.grad is not None
        torch.testing.assert_close(p.grad, torch.stack(expected).reshape(p.shape))
    assert 10 < touched < 27


def gradient_of_penalty(p: nn.Parameter, l1: float | Tensor, l2: float | Tensor) -> Tensor:
    copy = p.detach().clone().requires_grad_()
    ((l1 * copy.abs()).sum() + (l2 * copy.square()).sum() / 2).backward()
    assert copy.grad is not None
    return copy.grad


def test_decay_is_the_penaltys_gradient() -> None:
    torch.manual_seed(0)
    parameters = {name: nn.Parameter(torch.randn(3, 4)) for name in "abcd"}
    for p in parameters.values():
        p.grad = torch.ones_like(p)
    each = torch.rand(3, 4)
    l1, l2 = {"a": 0.3, "b": each}, {"a": 0.7, "c": each}
    add_decay(parameters, l1, l2)
    for name, p in parameters.items():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, 1 + gradient_of_penalty(p, l1.get(name, 0.0), l2.get(name, 0.0)))


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimisers(name: str, kind: type) -> None:
    shapes = {"output.weight": (2, 2), "output.bias": (2,), "recurrent.weight_hh_l0": (3,), "recurrent.v_i_l0": (3,)}
    parameters = {key: nn.Parameter(torch.ones(shape)) for key, shape in shapes.items()}
    made = make_optimizer(parameters.items(), settings(optimizer=name, lr=0.1, weight_decay=0.5))
    assert type(made) is kind
    assert [group["weight_decay"] for group in made.param_groups] == [0.5, 0.0]
    decayed = [key for key, p in parameters.items() if any(p is q for q in made.param_groups[0]["params"])]
    assert decayed == ["output.weight", "recurrent.weight_hh_l0"], "a diagonal U is a matrix"
    assert sum(len(group["params"]) for group in made.param_groups) == len(parameters)


def test_sgd_takes_the_textbook_step() -> None:
    p = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    made = make_optimizer([("p", p)], settings(optimizer="sgd", lr=0.1, momentum=0.0))
    p.grad = torch.tensor([[10.0, -10.0]])
    made.step()
    torch.testing.assert_close(p.detach(), torch.tensor([[0.0, 3.0]]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 2, "samples": 9},
        {"betas": (0.9, 1.0)},
        {"lr": 0},
        {"batch_size": 0},
        {"l2": -1.0},
        {"l2": {"U": -1.0}},
        {"l1": {"U": {"l0": 1.0}}},
        {"clip_quantile": 1.0},
        {"clip_adaptive": -0.1},
        {"activation_l2": -1.0},
        {"temporal_l2": math.inf},
    ],
)
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
