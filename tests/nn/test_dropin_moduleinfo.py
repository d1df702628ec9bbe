"""PyTorch's own list of inputs and errors for its recurrent modules (ModuleInfo), with the drop-ins in their place."""

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from dropin_pairs import CELLS, LAYERS, OURS, THEIRS, TOLERANCE, assert_close, tensors
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.testing._internal import common_modules

# PyTorch's own, about its LSTM:
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

INFOS = {info.name.removeprefix("nn."): info for info in common_modules.module_db}
EVERY = (*LAYERS, *CELLS)


def inputs(name: str, dtype: torch.dtype, training: bool, requires_grad: bool = True) -> list[Any]:
    options = {"with_packed_sequence": True} if name in ("RNN", "GRU") else {}
    torch.manual_seed(0)
    found = INFOS[name].module_inputs_func(
        INFOS[name], device="cpu", dtype=dtype, requires_grad=requires_grad, training=training, **options
    )
    assert len(found) >= 2
    return list(found)


def twins(name: str, made: Any, dtype: torch.dtype, training: bool) -> tuple[nn.Module, nn.Module]:
    """Both classes with the arguments of an entry of the list and the same values."""
    modules = []
    for kind in (THEIRS[name], OURS[name]):
        torch.manual_seed(1)
        modules.append(kind(*made.args, **made.kwargs, dtype=dtype).train(training))
    return modules[0], modules[1]


def entries(name: str, dtype: torch.dtype, training: bool) -> Iterator[tuple[Any, nn.Module, nn.Module]]:
    for entry in inputs(name, dtype, training):
        yield entry, *twins(name, entry.constructor_input, dtype, training)


def gradients(module: nn.Module, given: Any) -> list[Tensor]:
    """Of everything that needs one, for random cotangents."""
    sources = [v for v in (*tensors(list(given.args)), *module.parameters()) if v.requires_grad]
    found = tensors(module(*given.args, **given.kwargs))
    torch.manual_seed(2)
    return list(torch.autograd.grad(found, sources, [torch.randn_like(v) for v in found]))


def test_the_list_has_all_six() -> None:
    assert set(EVERY) <= INFOS.keys()
    assert all(INFOS[name].module_cls is THEIRS[name] for name in EVERY)


@pytest.mark.parametrize(("dtype", "training"), [(torch.float64, True), (torch.float32, False)])
@pytest.mark.parametrize("name", EVERY)
def test_results_and_gradients(name: str, dtype: torch.dtype, training: bool) -> None:
    packed = 0
    for entry, theirs, ours in entries(name, dtype, training):
        given = entry.forward_input
        packed += isinstance(given.args[0], PackedSequence)
        found, expected = (tensors(m(*given.args, **given.kwargs)) for m in (ours, theirs))
        assert_close(found, expected, TOLERANCE[dtype])
        assert_close(gradients(ours, given), gradients(theirs, given), TOLERANCE[dtype])
        if entry.reference_fn is not None and not isinstance(given.args[0], PackedSequence):
            reference = entry.reference_fn(ours, *given.args, **given.kwargs)
            assert_close(found, tensors(reference), TOLERANCE[dtype])
    assert bool(packed) == (name in ("RNN", "GRU"))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EVERY)
def test_second_gradients(name: str) -> None:
    for entry, _, ours in entries(name, torch.float64, True):
        x, *state = entry.forward_input.args
        if isinstance(x, PackedSequence):
            continue
        fields = tensors(state)

        def run(x: Tensor, *fields: Tensor, ours: nn.Module = ours) -> tuple[Tensor, ...]:
            return tuple(tensors(ours(x, fields if len(fields) > 1 else fields[0] if fields else None)))

        assert torch.autograd.gradcheck(run, (x, *fields), fast_mode=True)
        assert torch.autograd.gradgradcheck(run, (x, *fields), fast_mode=True)


@pytest.mark.parametrize("name", EVERY)
def test_copies_and_tensors_not_in_one_piece(name: str) -> None:
    for entry, _, ours in entries(name, torch.float64, False):
        given = entry.forward_input
        expected = tensors(ours(*given.args, **given.kwargs))
        for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
            assert repr(other) == repr(ours)
            assert_close(tensors(other(*given.args, **given.kwargs)), expected, 0)
        if not isinstance(given.args[0], PackedSequence):
            spread = [torch.stack([v, v], -1)[..., 0] for v in tensors(list(given.args))]
            assert not any(v.is_contiguous() for v in spread)
            fields = tuple(spread[1:]) if len(spread) > 2 else spread[1] if len(spread) > 1 else None
            assert_close(tensors(ours(spread[0], fields)), expected, 1e-12)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("name", EVERY)
def test_errors(name: str, dtype: torch.dtype, training: bool) -> None:
    info = INFOS[name]
    listed: Any = info.module_error_inputs_func
    errors = listed(info, device="cpu", dtype=dtype, requires_grad=False, training=training)
    assert len(errors) >= 4
    for error in errors:
        made, given = error.module_error_input.constructor_input, error.module_error_input.forward_input
        if error.error_on == common_modules.ModuleErrorEnum.CONSTRUCTION_ERROR:
            with pytest.raises(error.error_type, match=error.error_regex):
                OURS[name](*made.args, **made.kwargs)
        else:
            ours = OURS[name](*made.args, **made.kwargs)
            with pytest.raises(error.error_type, match=error.error_regex):
                ours(*given.args, **given.kwargs)
