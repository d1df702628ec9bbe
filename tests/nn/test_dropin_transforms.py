"""Transforms of the drop-ins, against PyTorch's own classes taken one example, one model or one direction at a time."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dropin_pairs import CELLS, LAYERS, assert_close, pair, state_of, tensors
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.nn.utils.rnn import pack_sequence

# PyTorch's own, about its forward mode:
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

STEPS, EXAMPLES, INPUT, HIDDEN = 4, 3, 2, 3
EVERY = (*LAYERS, *CELLS)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(11)


def made(name: str, seed: int = 0) -> tuple[Any, Any]:
    """PyTorch's module and ours in float64; a layer is two of them, in both directions."""
    options = {"num_layers": 2, "bidirectional": True} if name in LAYERS else {}
    return pair(name, INPUT, HIDDEN, dtype=torch.float64, seed=seed, **options)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def examples(name: str) -> Tensor:
    """Inputs of some examples: (examples, T, I) for a layer, (examples, I) for a cell."""
    return random(EXAMPLES, *((STEPS,) if name in LAYERS else ()), INPUT)


def state(module: Any, rows: int | None) -> Any:
    if isinstance(module, nn.RNNBase):
        return state_of(module, rows, torch.float64)
    fields = tuple(random(*(() if rows is None else (rows,)), HIDDEN) for _ in range(2))
    return fields if isinstance(module, nn.LSTMCell) else fields[0]


def loss(module: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
    output, *final = tensors(functional_call(module, parameters, (x,)))
    return output.square().sum() + sum(field.sin().sum() for field in final)


def detached(module: nn.Module) -> dict[str, Tensor]:
    return {key: p.detach() for key, p in module.named_parameters()}


@pytest.mark.parametrize("name", EVERY)
def test_vmap_over_inputs_and_states(name: str) -> None:
    theirs, ours = made(name)
    x, states = examples(name), [state(ours, None) for _ in range(EXAMPLES)]
    found = tensors(vmap(ours)(x))
    assert_close(found, [torch.stack(v) for v in zip(*(tensors(theirs(row)) for row in x), strict=True)], 1e-10)
    if isinstance(states[0], Tensor):
        found = tensors(vmap(ours)(x, torch.stack(states)))
    else:
        found = tensors(vmap(lambda x, h, c: ours(x, (h, c)))(x, *map(torch.stack, zip(*states, strict=True))))
    each = (tensors(theirs(row, hx)) for row, hx in zip(x, states, strict=True))
    assert_close(found, [torch.stack(v) for v in zip(*each, strict=True)], 1e-10)


@pytest.mark.parametrize("name", EVERY)
def test_vmap_over_stacked_weights(name: str) -> None:
    pairs = [made(name, seed=seed) for seed in range(3)]
    x = examples(name).transpose(0, 1) if name in LAYERS else examples(name)
    parameters, buffers = stack_module_state([ours for _, ours in pairs])
    base = copy.deepcopy(pairs[0][1]).to("meta")
    found = tensors(vmap(lambda p, b: functional_call(base, (p, b), (x,)))(parameters, buffers))
    expected = (tensors(theirs(x)) for theirs, _ in pairs)
    assert_close(found, [torch.stack(v) for v in zip(*expected, strict=True)], 1e-10)


@pytest.mark.parametrize("name", EVERY)
def test_gradients_of_each_sample(name: str) -> None:
    theirs, ours = made(name)
    x = examples(name)
    found = vmap(grad(lambda p, x: loss(ours, p, x)), in_dims=(None, 0))(detached(ours), x)
    for b, row in enumerate(x):
        theirs.zero_grad()
        loss(theirs, dict(theirs.named_parameters()), row).backward()
        assert_close([found[key][b] for key in found], [theirs.get_parameter(key).grad for key in found], 1e-10)


@pytest.mark.parametrize("name", EVERY)
def test_jacobians(name: str) -> None:
    theirs, ours = made(name)
    x = examples(name)
    expected = [torch.autograd.functional.jacobian(lambda x: tensors(theirs(x))[0], row) for row in x]
    for found in (jacrev, jacfwd):
        assert_close([found(lambda x: tensors(ours(x))[0])(x[0])], [expected[0]], 1e-10)
        assert_close([vmap(found(lambda x: tensors(ours(x))[0]))(x)], [torch.stack(expected)], 1e-10)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", EVERY)
def test_forward_mode(name: str, dtype: torch.dtype) -> None:
    theirs, ours = made(name)
    x, tangent = examples(name).to(dtype), examples(name).to(dtype)
    x, tangent = (x.transpose(0, 1), tangent.transpose(0, 1)) if name in LAYERS else (x, tangent)
    theirs, ours = theirs.to(dtype), ours.to(dtype)
    parameters = detached(ours)
    directions = {key: torch.randn_like(p) for key, p in parameters.items()}
    found = jvp(lambda p, x: loss(ours, p, x), (parameters, x), (directions, tangent))[1]
    x.requires_grad_()
    loss(theirs, dict(theirs.named_parameters()), x).backward()
    assert x.grad is not None
    expected = (x.grad * tangent).sum()
    for key, direction in directions.items():
        expected = expected + (theirs.get_parameter(key).grad * direction).sum()
    assert_close([found], [expected], 1e-10 if dtype == torch.float64 else 1e-4)


@pytest.mark.parametrize("name", EVERY)
def test_double_backward(name: str) -> None:
    theirs, ours = made(name)
    x, second = examples(name), []
    x = x.transpose(0, 1) if name in LAYERS else x
    hx, direction = state(ours, EXAMPLES), None
    for module in (theirs, ours):
        leaf = x.clone().requires_grad_()
        output = torch.cat([field.flatten() for field in tensors(module(leaf, hx))]).square().sum()
        first = torch.autograd.grad(output, [leaf, *module.parameters()], create_graph=True)
        direction = direction or [torch.randn_like(g) for g in first]
        along = torch.stack([(g * d).sum() for g, d in zip(first, direction, strict=True)]).sum()
        second.append(torch.autograd.grad(along, [leaf, *module.parameters()]))
    assert_close(second[1], second[0], 1e-9)


@pytest.mark.parametrize("name", EVERY)
def test_first_and_second_gradients_by_differences(name: str) -> None:
    options = {"bidirectional": True} if name in LAYERS else {}
    _, ours = pair(name, INPUT, 2, dtype=torch.float64, **options)
    keys, values = zip(*ours.named_parameters(), strict=True)
    x = random(*((2,) if name in LAYERS else ()), 2, INPUT).requires_grad_()

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensors(functional_call(ours, dict(zip(keys, values, strict=True)), (x,))))

    assert torch.autograd.gradcheck(run, (x, *values), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(run, (x, *values), fast_mode=True)


@pytest.mark.parametrize("name", LAYERS)
def test_a_hessian(name: str) -> None:
    theirs, ours = made(name)
    x = random(STEPS, INPUT)
    expected = torch.autograd.functional.hessian(lambda x: loss(theirs, detached(theirs), x), x)
    assert_close([hessian(lambda x: loss(ours, detached(ours), x))(x)], [expected], 1e-9)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", LAYERS)
def test_transforms_of_a_packed_batch(name: str) -> None:
    """Its lengths are the same for all; data may vary."""
    theirs, ours = made(name)
    packed = pack_sequence([random(n, INPUT) for n in (2, 4, 1)], enforce_sorted=False)
    data, tangent = packed.data, torch.randn_like(packed.data)

    def output(module: Callable[..., Any], data: Tensor) -> Tensor:
        return module(packed._replace(data=data))[0].data

    expected = torch.autograd.functional.jacobian(lambda data: output(theirs, data), data)
    assert_close(
        [jvp(lambda data: output(ours, data), (data,), (tangent,))[1]], [expected.mul(tangent).sum((2, 3))], 1e-10
    )  # type: ignore[union-attr]
    assert_close([jacrev(lambda data: output(ours, data))(data)], [expected], 1e-10)  # type: ignore[arg-type]
    several = torch.stack([data, tangent])
    assert_close([vmap(lambda d: output(ours, d))(several)], [torch.stack([output(theirs, d) for d in several])], 1e-10)


compiler = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
"""PyTorch's compiler has warnings of its own."""


def compiled_agrees(name: str, backend: str) -> None:
    torch.compiler.reset()
    theirs, ours = made(name)
    x, other = (v.transpose(0, 1) if name in LAYERS else v for v in (examples(name), examples(name)))
    hx = state(ours, EXAMPLES)
    run = torch.compile(ours, fullgraph=True, backend=backend)
    for v in (x, other):
        assert_close(tensors(run(v)), tensors(theirs(v)), 1e-9)
    output = tensors(run(x, hx))
    assert_close(output, tensors(theirs(x, hx)), 1e-9)
    found = torch.autograd.grad(output[0].square().sum(), list(ours.parameters()))
    expected = torch.autograd.grad(tensors(theirs(x, hx))[0].square().sum(), list(theirs.parameters()))
    assert_close(found, expected, 1e-9)


@compiler
@pytest.mark.parametrize("name", EVERY)
def test_one_graph(name: str) -> None:
    compiled_agrees(name, "eager")


@compiler
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("how", ["made", "copied"])
def test_a_layer_within_a_model_is_compiled_with_it(name: str, how: str) -> None:
    """The compiler refuses PyTorch's own by their type unless it is told; making ours, or a copy, tells it."""
    torch.compiler.reset()
    kept = copy.deepcopy(made(name)) if how == "copied" else None
    config: Any = torch._dynamo.config
    config.allow_rnn = False
    theirs, ours = made(name) if kept is None else copy.deepcopy(kept)
    model = nn.ModuleDict({"recurrent": ours, "head": nn.LazyLinear(2, dtype=torch.float64)})

    @torch.compile(fullgraph=True, backend="eager")
    def run(x: Tensor) -> Tensor:
        return model["head"](model["recurrent"](x)[0])

    x = examples(name).transpose(0, 1)
    expected = model["head"](theirs(x)[0])  # which also tells the head its width
    assert_close([run(x)], [expected], 1e-10)


@compiler
@pytest.mark.exhaustive
@pytest.mark.parametrize("name", EVERY)
def test_one_graph_in_machine_code(name: str) -> None:
    compiled_agrees(name, "inductor")


@compiler
@pytest.mark.parametrize("name", EVERY)
def test_exported_with_any_number_of_rows(name: str) -> None:
    theirs, ours = made(name)
    x = examples(name).transpose(0, 1) if name in LAYERS else examples(name)
    rows = {1 if name in LAYERS else 0: torch.export.Dim("rows", min=2)}
    exported = torch.export.export(ours, (x,), dynamic_shapes=(rows,)).module()
    more = torch.cat([x, 2 * x], 1 if name in LAYERS else 0)
    assert_close(tensors(exported(more)), tensors(theirs(more)), 1e-10)
