"""Schedules, decay and clipping against closed forms and PyTorch's own."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from recurra.learn import TrainSettings
from recurra.learn.optimise import add_decay, clip, learning_rate, make_optimizer


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


def with_gradients(*gradients: list[float]) -> list[nn.Parameter]:
    parameters = []
    for g in gradients:
        p = nn.Parameter(torch.zeros(1, len(g)))
        p.grad = torch.tensor([g])
        parameters.append(p)
    return parameters


def test_clipping_by_norm_keeps_the_direction() -> None:
    a, b = with_gradients([3.0], [0.0, 4.0])
    assert float(clip([a, b], 1.0, 0.0)) == pytest.approx(5.0)
    torch.testing.assert_close(a.grad, torch.tensor([[0.6]]))
    torch.testing.assert_close(b.grad, torch.tensor([[0.0, 0.8]]))


def test_a_short_gradient_is_left_alone() -> None:
    (a,) = with_gradients([0.3, -0.4])
    assert float(clip([a], 1.0, 0.0)) == pytest.approx(0.5)
    torch.testing.assert_close(a.grad, torch.tensor([[0.3, -0.4]]))


def test_clipping_by_value_then_by_norm() -> None:
    (a,) = with_gradients([10.0, -0.5])
    assert float(clip([a], 0.0, 1.0)) == pytest.approx(math.hypot(10, 0.5))
    torch.testing.assert_close(a.grad, torch.tensor([[1.0, -0.5]]))
    (a,) = with_gradients([10.0, -1.0])
    clip([a], 1.0, 1.0)
    torch.testing.assert_close(a.grad, torch.tensor([[0.5, -0.5]]) * 2**0.5)


def test_no_bound_clips_nothing() -> None:
    (a,) = with_gradients([1e6, -3.0])
    clip([a], 0.0, 0.0)
    torch.testing.assert_close(a.grad, torch.tensor([[1e6, -3.0]]))


def test_decay_is_the_penaltys_gradient_and_spares_vectors() -> None:
    torch.manual_seed(0)
    W, b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.randn(4))
    for p in (W, b):
        p.grad = torch.zeros_like(p)
    add_decay([W, b], l1=0.3, l2=0.7)
    copy = W.detach().clone().requires_grad_()
    (0.3 * copy.abs().sum() + 0.7 * copy.square().sum() / 2).backward()
    torch.testing.assert_close(W.grad, copy.grad)
    torch.testing.assert_close(b.grad, torch.zeros(4))


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)]
)
def test_optimisers(name: str, kind: type) -> None:
    parameters = [nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))]
    made = make_optimizer(parameters, settings(optimizer=name, lr=0.1, weight_decay=0.5))
    assert type(made) is kind
    assert [group["weight_decay"] for group in made.param_groups] == [0.5, 0.0]


def test_sgd_takes_the_textbook_step() -> None:
    p = nn.Parameter(torch.tensor([[1.0, 2.0]]))
    made = make_optimizer([p], settings(optimizer="sgd", lr=0.1, momentum=0.0))
    p.grad = torch.tensor([[10.0, -10.0]])
    made.step()
    torch.testing.assert_close(p.detach(), torch.tensor([[0.0, 3.0]]))


@pytest.mark.parametrize("wrong", [{"epochs": 2, "samples": 9}, {"betas": (0.9, 1.0)}, {"lr": 0}, {"batch_size": 0}])
def test_settings_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings(**wrong)
