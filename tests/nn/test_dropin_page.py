"""docs/dropin.md: its examples run and print what stands below them, and what it says of PyTorch is so."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from dropin_pairs import CELLS, LAYERS, OURS, THEIRS, tensors
from torch import Tensor
from torch.func import functional_call, grad, jvp, stack_module_state, vmap

from pages import check_examples


def test_every_example_runs_and_prints_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*LAYERS, *CELLS):
        monkeypatch.setattr(torch.nn, name, THEIRS[name])  # to be put back
    assert len(check_examples("dropin.md")) == 2


def over_inputs(kind: Any) -> None:
    module = kind(2, 3)
    vmap(lambda x: tensors(module(x))[0])(torch.randn(4, *STEPS[kind], 2))


def over_models(kind: Any) -> None:
    modules = [kind(2, 3) for _ in range(2)]
    parameters, _ = stack_module_state(modules)
    x = torch.randn(*STEPS[kind], 5, 2)
    vmap(lambda p: tensors(functional_call(modules[0], p, (x,)))[0])(parameters)


def of_each_sample(kind: Any) -> None:
    module = kind(2, 3)

    def loss(p: dict[str, Tensor], x: Tensor) -> Tensor:
        return tensors(functional_call(module, p, (x,)))[0].sum()

    vmap(grad(loss), in_dims=(None, 0))(dict(module.named_parameters()), torch.randn(4, *STEPS[kind], 2))


def forward_mode(kind: Any) -> None:
    module, x = kind(2, 3), torch.randn(*STEPS[kind], 5, 2)
    jvp(lambda x: tensors(module(x))[0], (x,), (x,))


STEPS = {kinds[name]: (6,) if name in LAYERS else () for kinds in (THEIRS, OURS) for name in (*LAYERS, *CELLS)}
FAIL: list[tuple[Callable[[Any], None], tuple[str, ...]]] = [
    (over_inputs, LAYERS),
    (over_models, (*LAYERS, "LSTMCell")),
    (of_each_sample, ("RNN", "GRU")),
    (forward_mode, ("LSTM",)),
]


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")  # PyTorch's own, as it fails
@pytest.mark.parametrize(("transform", "names"), FAIL, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_more(transform: Callable[[Any], None], names: tuple[str, ...]) -> None:
    """Where PyTorch learns to do it too, the page is to be mended."""
    for name in names:
        transform(OURS[name])
        with pytest.raises(RuntimeError):
            transform(THEIRS[name])
