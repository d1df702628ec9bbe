"""The penalty on errors that grow or shrink, against its definition written out with explicit Jacobians."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd.functional import jacobian

import recurra
from recurra.cells import CATALOGUE
from recurra.errors import RecipeError
from recurra.learn.error_norm import error_norm
from recurra.nn import Recurrent

STEPS, ROWS, INPUT, HIDDEN = 6, 3, 2, 4
LENGTHS = torch.tensor([6, 2, 4])


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(4)


def an_error(output: Tensor, final: Any) -> Tensor:
    """A loss in which every step and the end have a part."""
    steps = torch.arange(1, len(output) + 1, dtype=output.dtype).view(-1, 1, 1)
    return (output * steps).sin().sum() + sum(v.square().sum() for field in final[:1] for v in field)


def numbers(layer: Recurrent, state: Any) -> Tensor:
    """All units of a state in one row; what only counts steps is no unit."""
    fields = zip(state, layer.form.fields, strict=True)
    return torch.cat([v.flatten() for field, f in fields if not f.is_bookkeeping for v in field])


def with_numbers(layer: Recurrent, state: Any, row: Tensor) -> Any:
    """The state with these units in place of its own."""
    parts = []
    for field, f in zip(state, layer.form.fields, strict=True):
        count = 0 if f.is_bookkeeping else field.numel()
        parts.append(row[:count].view_as(field) if count else field)
        row = row[count:]
    return layer.state_type(*parts)


def written_out(layer: Recurrent, x: Tensor, lengths: Tensor, state: Any = None) -> Tensor:
    """Ω as in the paper: each sequence by itself, errors as derivatives of the loss by every state, Jacobians whole."""
    terms = []
    for b, n in enumerate(lengths.tolist()):
        states, s = [], None if state is None else layer.state_type(*(v[:, b : b + 1] for v in state))
        for x_k in x[:n, b : b + 1]:
            _, s = layer.step(x_k, s)
            states.append(s)
        loss = an_error(torch.stack([s[0][-1] for s in states]), states[-1])
        fields = [v for s in states for v in s]
        of_fields = iter(torch.autograd.grad(loss, fields, materialize_grads=True))
        errors = [numbers(layer, [next(of_fields) for _ in s]) for s in states]
        for k in range(1, n):
            before = layer.state_type(*(v.detach() for v in states[k - 1]))

            def step(row: Tensor, x_k: Tensor = x[k, b : b + 1], before: Any = before) -> Tensor:
                return numbers(layer, layer.step(x_k, with_numbers(layer, before, row))[1])

            J = jacobian(step, numbers(layer, before), create_graph=True)
            assert isinstance(J, Tensor)
            terms.append(((errors[k] @ J).norm() / errors[k].norm() - 1) ** 2)
    return torch.stack(terms).mean()


def gradients(layer: Recurrent, value: Tensor) -> list[Tensor]:
    if not value.requires_grad:  # Jacobians that no parameter moves, as the integrator's
        return [torch.zeros_like(p) for p in layer.parameters()]
    return list(torch.autograd.grad(value, list(layer.parameters()), materialize_grads=True))


CASES = [*((name, 1) for name in CATALOGUE), ("gru", 2), ("lstm_peephole", 2), ("clockwork", 2)]


@pytest.mark.parametrize(("name", "layers"), CASES)
def test_it_is_the_papers_regulariser(name: str, layers: int) -> None:
    layer = Recurrent(name, INPUT, HIDDEN, layers, dtype=torch.float64)
    x = torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64)
    found, expected = error_norm(layer, x, an_error, lengths=LENGTHS), written_out(layer, x, LENGTHS)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    for name, a, b in zip(
        dict(layer.named_parameters()), gradients(layer, found), gradients(layer, expected), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-12, msg=lambda m, name=name: f"{name}: {m}")


def test_it_goes_on_from_a_state() -> None:
    layer = Recurrent("lstm", INPUT, HIDDEN, dtype=torch.float64)
    x = torch.randn(STEPS, ROWS, INPUT, dtype=torch.float64)
    _, state = layer(torch.randn(3, ROWS, INPUT, dtype=torch.float64))
    every = torch.full((ROWS,), STEPS)
    torch.testing.assert_close(error_norm(layer, x, an_error, state=state), written_out(layer, x, every, state))


def test_what_is_padding_does_not_matter() -> None:
    layer, x = Recurrent("gru", INPUT, HIDDEN), torch.randn(STEPS, ROWS, INPUT)
    other = x.clone()
    for b, n in enumerate(LENGTHS.tolist()):
        other[n:, b] = 100.0
    first, second = (error_norm(layer, values, an_error, lengths=LENGTHS) for values in (x, other))
    assert float(first.detach()) == float(second.detach())
    assert all(torch.equal(*both) for both in zip(gradients(layer, first), gradients(layer, second), strict=True))


def test_an_error_that_is_too_small_for_its_type_still_counts() -> None:
    """U = I / 1000 over 60 steps: the error at the first is 1e-180; its ratio is what it was."""
    layer = Recurrent(CATALOGUE["elman"](activation="identity"), 1, 3, init={"U": "identity*0.001"})
    found = error_norm(layer, torch.randn(60, 2, 1), lambda output, final: output[-1].sum())
    assert float(found.detach()) == pytest.approx((1 - 0.001) ** 2, rel=1e-5)
    assert all(gradient.isfinite().all() for gradient in gradients(layer, found))


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_where_no_error_is_passed_on_there_is_nothing(steps: int) -> None:
    """Rectified units that are off, and sequences of one step."""
    init = {"b": -50.0} if steps == 5 else {}
    layer = Recurrent(CATALOGUE["elman"](activation="relu"), 1, 3, init=init)
    found = error_norm(layer, torch.randn(steps, 2, 1), lambda output, final: final[0].square().sum())
    assert float(found.detach()) == 0.0
    if steps == 5:
        assert all((gradient == 0).all() for gradient in gradients(layer, found))


# --- in a run --------------------------------------------------------------------------------------------------------


def series() -> tuple[list[np.ndarray], list[str]]:
    rng = np.random.default_rng(5)
    x = [rng.normal(size=(int(n), 2)).astype(np.float32) for n in rng.integers(6, 12, 40)]
    return x, ["up" if a[0, 0] > 0 else "down" for a in x]


def trained(folder: Any, **settings: Any) -> Any:
    base = {
        "model.cell": "elman",
        "model.bidirectional": False,
        "model.hidden_size": 8,
        "model.init": {"U": "orthogonal*0.4"},
        "model.input_dropout": 0.2,
        "train.samples": 600,
        "train.lr": 0.02,
        "train.select": "last",
    }
    changes = {**base, **{key.replace("__", "."): value for key, value in settings.items()}}
    return recurra.train("classify", series(), out=folder, settings=changes).network


def test_a_run_with_it_lets_errors_through(tmp_path: Any) -> None:
    def passed(name: str, weight: float) -> float:
        """The share of a random error at the last step that arrives ten steps back, median over sequences."""
        layer = trained(tmp_path / name, train__error_norm=weight).recurrent
        x = torch.randn(11, 50, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
        layer(x)[0][-1].sum().backward()
        assert x.grad is not None
        return float((x.grad[0].norm(dim=-1) / x.grad[-1].norm(dim=-1)).median())

    assert passed("with", 2.0) > 10 * passed("without", 0.0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"model__bidirectional": True},
            "train.error_norm: errors are followed in one direction: model.bidirectional is",
        ),
        (
            {"model__num_layers": 2, "model__skip": "residual"},
            "train.error_norm: errors are followed through the states alone: model.skip is to be none",
        ),
    ],
)
def test_where_it_cannot_be_had(tmp_path: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        trained(tmp_path / "run", train__error_norm=1.0, **settings)


@pytest.mark.parametrize("key", ["temporal_l2", "error_norm"])
def test_updates_after_every_step_see_no_two_steps(tmp_path: Any, key: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(f"train.{key}: an update after every step sees no two steps")):
        recurra.train("sine", out=tmp_path / "run", settings={"learn.rule": "rtrl", "learn.k1": 1, f"train.{key}": 1.0})
