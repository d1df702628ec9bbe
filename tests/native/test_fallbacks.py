"""Where the compiled core cannot run, eager does, with the same numbers; where it is up to the layer, it says so."""

import copy
from typing import Any

import pytest
import torch
from comparing import VARIANTS, case, drawn_for, flat, off, pair, results
from torch import Tensor, nn
from torch.autograd import forward_ad, gradcheck, gradgradcheck
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

import recurra
from recurra.cells import CATALOGUE, cell
from recurra.engine import layout
from recurra.math import join, tanh
from recurra.nn import Recurrent

# PyTorch's own, about its forward mode:
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

SOME = ["lstm", "gru", "lstm_layer_norm", "indrnn", "slstm, 2 heads", "jordan, 3 outputs", "clockwork"]
AT = case(T=4, B=3, H=4)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(4)


@pytest.fixture
def core_is_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core may not run."""

    def run(*args: Any) -> None:
        raise AssertionError("the core ran")

    monkeypatch.setattr(layout.Laid, "run", run)


def both(name: str, **options: Any) -> tuple[Recurrent, Recurrent]:
    """The layer in the core, and eagerly."""
    return pair(VARIANTS[name], case(T=4, B=3, H=4, **options))


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def close(found: Any, expected: Any) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", SOME)
def test_vmap(name: str, core_is_out: None) -> None:
    ours, eager = both(name)
    x = random(5, 4, 3, 3)
    close(vmap(lambda x: ours(x)[0])(x), torch.stack([eager(row)[0] for row in x]))


@pytest.mark.parametrize("name", SOME)
def test_forward_mode(name: str, core_is_out: None) -> None:
    ours, eager = both(name)
    x, tangent = random(4, 3, 3), random(4, 3, 3)
    expected = jvp(lambda x: eager(x)[0], (x,), (tangent,))
    for a, b in zip(jvp(lambda x: ours(x)[0], (x,), (tangent,)), expected, strict=True):
        close(a, b)
    with forward_ad.dual_level():
        dual = forward_ad.unpack_dual(ours(forward_ad.make_dual(x, tangent))[0])
    close(dual.tangent, expected[1])


@pytest.mark.parametrize("name", SOME)
def test_derivatives_of_torch_func(name: str, core_is_out: None) -> None:
    ours, eager = both(name)
    x = random(2, 2, 3)
    of = {key: p.detach() for key, p in ours.named_parameters()}

    def loss(layer: nn.Module, parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,))[0].square().sum()

    found, expected = (grad(lambda p, layer=layer: loss(layer, p, x))(of) for layer in (ours, eager))  # type: ignore[misc]
    for key in of:
        close(found[key], expected[key])
    for transform in (jacrev, jacfwd, hessian):
        a, b = (transform(lambda x, layer=layer: loss(layer, of, x))(x) for layer in (ours, eager))  # type: ignore[misc]
        close(a, b)


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", VARIANTS)
def test_double_backward(name: str, memory: str) -> None:
    """Of everything: the first gradients, which are the core's, and theirs; with masks and resets."""
    at = case("mask reset", T=4, B=3, H=4, memory=memory, reverse=memory == "store")
    ours, eager = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    assert on.state is not None
    found = []
    for layer in (ours, eager):
        leaves = [on.x.clone().requires_grad_(), *(v.clone().requires_grad_() for v in on.state)]
        sources = [*leaves, *layer.parameters()]
        torch.manual_seed(5)
        output, final, every = layer(leaves[0], leaves[1:], **on.flags, return_states=True)
        total = torch.stack([(v * torch.randn_like(v)).sin().sum() for v in flat((output, final, every))]).sum()
        first = torch.autograd.grad(total, sources, create_graph=True, materialize_grads=True)
        along = torch.stack([(g * torch.randn_like(g)).sum() for g in first]).sum()
        found.append([*first, *torch.autograd.grad(along, sources, materialize_grads=True)])
    for k, (a, b) in enumerate(zip(*found, strict=True)):
        assert off(a, b) <= 1e-11, k


@pytest.mark.parametrize(
    "name", ["lstm", "gru", "lstm_projected, 3", "indrnn, logistic", "slstm, 2 heads", "lstm_layer_norm"]
)
def test_first_and_second_gradients_by_differences(name: str) -> None:
    layer = Recurrent(VARIANTS[name], 2, 2, backend="native", dtype=torch.float64)
    keys, values = zip(*layer.named_parameters(), strict=True)
    mask, reset = torch.tensor([[True, True], [True, False]]), torch.tensor([[False, False], [True, False]])

    def run(x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(keys, values, strict=True))
        return tuple(flat(functional_call(layer, given, (x,), {"mask": mask, "reset": reset})[0]))

    leaves = (random(2, 2, 2).requires_grad_(), *(v.detach().normal_(std=0.7).requires_grad_() for v in values))
    assert gradcheck(run, leaves, check_forward_ad=True, check_batched_grad=True, fast_mode=True)
    assert gradgradcheck(run, leaves, fast_mode=True)


class Marked(Tensor):
    """A tensor of another kind that counts what is done with it."""

    seen: list[str]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.seen.append(func.__name__)
        return super().__torch_function__(func, types, args, kwargs)


@pytest.mark.parametrize("name", SOME)
def test_tensor_subclasses(name: str, core_is_out: None) -> None:
    Marked.seen = []
    ours, eager = both(name)
    x = random(4, 3, 3)
    found, _ = ours(x.as_subclass(Marked))
    close(found.as_subclass(Tensor), eager(x)[0])
    assert type(found) is Marked
    assert Marked.seen


@pytest.mark.parametrize("name", SOME)
def test_autocast(name: str, core_is_out: None) -> None:
    """It may choose other types at every step, so it is eager's to see to."""
    ours, eager = (layer.float() for layer in both(name))
    x = random(4, 3, 3).float()
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = ours(x)[0], eager(x)[0]
        assert ours.choice.backend == "eager"
        assert "autocast is on" in ours.choice.reason
    assert torch.equal(found, expected)
    assert ours.choice.backend == "native"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_types_of_numbers(dtype: torch.dtype, core_is_out: None) -> None:
    ours, eager = (layer.to(dtype) for layer in both("gru"))
    x = random(4, 3, 3).to(dtype)
    for key, value in results(ours, AT, drawn_for(ours, AT)).items():
        assert torch.equal(value, results(eager, AT, drawn_for(eager, AT))[key]), key
    assert ours.choice.backend == "eager"
    assert f"not in {dtype}" in ours.choice.reason
    assert ours(x)[0].dtype == dtype
    assert recurra.explain(ours).reason == ours.choice.reason
    assert ours.float().choice.backend == "native"


def test_on_another_device(core_is_out: None) -> None:
    layer = Recurrent("lstm", 3, 4, backend="native", device="meta")
    assert layer(torch.randn(5, 2, 3, device="meta"))[0].shape == (5, 2, 4)
    assert layer.choice.backend == "eager"
    assert "not on meta" in layer.choice.reason


@pytest.mark.parametrize("training", [True, False])
def test_zoneout(training: bool, core_is_out: None) -> None:
    ours, eager = (layer.train(training) for layer in both("lstm", zoneout=0.3))
    x = random(4, 3, 3)
    found = []
    for layer in (ours, eager):
        torch.manual_seed(9)
        found.append(layer(x)[0])
    assert torch.equal(*found)
    assert ours.choice.backend == "eager"
    assert "zoneout" in ours.choice.reason
    assert recurra.explain(ours).backend == "eager"


def test_recurrent_dropout_in_training(core_is_out: None) -> None:
    ours, eager = both("gru", recurrent_dropout=0.4)
    x, found = random(4, 3, 3), []
    for layer in (ours, eager):
        torch.manual_seed(9)
        found.append(layer(x)[0])
    assert torch.equal(*found)
    assert ours.choice.backend == "eager"
    assert "recurrent_dropout" in ours.choice.reason


@pytest.mark.parametrize(
    "options",
    [
        {"recurrent_dropout": 0.4},
        {"dropout": 0.3, "num_layers": 2, "bidirectional": True},
        {"input_dropout": 0.3},
        {"weight_drop": 0.3},
        {"skip": "highway", "num_layers": 2},
        {"input_layers": (3, 5), "output_layers": (4, 2)},
    ],
    ids=str,
)
def test_options_that_the_core_runs_with(options: dict[str, Any]) -> None:
    """Out of training, or beside the recurrence; drawn alike by both."""
    at = case("lengths", T=5, B=3, H=6, **options)
    ours, eager = pair(CATALOGUE["gru"], at)
    training = "recurrent_dropout" not in options
    on, found = drawn_for(ours, at), []
    for layer in (ours.train(training), eager.train(training)):
        torch.manual_seed(9)
        found.append(results(layer, at, on))
    assert ours.choice.backend == "native"
    for key, value in found[0].items():
        assert off(value, found[1][key]) <= 1e-12, key


CANNOT = {
    "another function": (cell(state="h", gates="a")(lambda z, s: torch.erf(z.a)), "it takes erf of a value"),
    "blocks of several values": (
        cell(state="h c", gates="a", recurrent="blocks")(
            lambda z, s, *, heads=2: (tanh(z.a(join(s.h, s.c))), tanh(s.h + s.c))
        ),
        "U_a in blocks multiplies several values side by side",
    ),
    "a matrix times a parameter": (
        cell(state="h", gates="a", vectors="v", matrices={"M": ("H", "H")})(lambda z, s, p: tanh(z.a + p.M @ p.v)),
        "it multiplies M with what is the same for all rows",
    ),
    "another threshold": (
        cell(state="h", gates="a")(lambda z, s: nn.functional.softplus(z.a, threshold=5)),
        "softplus with another beta than 1, or another threshold than 20",
    ),
}


@pytest.mark.parametrize("what", CANNOT)
def test_cells_that_cannot_be_a_program(what: str, core_is_out: None) -> None:
    one, reason = CANNOT[what]
    layer, eager = (Recurrent(one, 3, 4, dtype=torch.float64, backend=backend) for backend in ("auto", "eager"))
    eager.load_state_dict(layer.state_dict())
    x = random(5, 2, 3)
    assert torch.equal(layer(x)[0], eager(x)[0])
    assert layer.choice.backend == "eager"
    assert reason in layer.choice.reason
    with pytest.raises(ValueError, match="backend: 'native' cannot be") as caught:
        Recurrent(one, 3, 4, backend="native")
    assert reason in str(caught.value)


@pytest.mark.parametrize("T", [0, 3])
def test_no_steps_or_no_rows(T: int) -> None:
    for name in SOME:
        ours, eager = both(name)
        x = random(T, 0 if T else 2, 3)
        found, expected = (flat(layer(x, return_states=True)) for layer in (ours, eager))
        for a, b in zip(found, expected, strict=True):
            assert torch.equal(a, b)


def test_a_layer_moved_to_another_type_is_run_in_it() -> None:
    """What was loaded for one type is not used for another."""
    ours, eager = both("lstm")
    x = random(4, 3, 3)
    close(ours(x)[0], eager(x)[0])
    single = copy.deepcopy(ours).float()
    torch.testing.assert_close(single(x.float())[0], eager(x)[0].float(), rtol=1e-5, atol=1e-6)
    assert torch.equal(ours.float()(x.float())[0], single(x.float())[0])
