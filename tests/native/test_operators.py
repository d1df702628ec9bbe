"""The core as PyTorch's compiler, its exporter and its other tools see it: two operators."""

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from comparing import VARIANTS, case, drawn_for, flat, off, pair, results
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import recurra
from recurra.engine import kernel
from recurra.nn import Recurrent

pytestmark = pytest.mark.filterwarnings(  # PyTorch's compiler and exporter have their own
    "ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"
)

SOME = ["lstm", "gru", "lstm_layer_norm", "jordan, 3 outputs", "indrnn"]
SLOW = ["gru_reset_after", "slstm, 2 heads", "clockwork", "lstm_projected, 3", "min_gru"]
EVERY = [*SOME, *(pytest.param(name, marks=pytest.mark.exhaustive) for name in SLOW)]


@pytest.fixture(autouse=True)
def afresh() -> None:
    torch.compiler.reset()
    torch.manual_seed(8)


class Calls(TorchDispatchMode):
    """Notes what the operators are called with, and lets them run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Any, list[Any]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "recurra":
            self.found.setdefault(func, []).append(args)
        return func(*args, **(kwargs or {}))


ALONG, ALONG_BACKWARD = torch.ops.recurra.along.default, torch.ops.recurra.along_backward.default


def detached(arguments: Any, requires_grad: bool = False) -> Any:
    """Arguments of an operator as leaves of their own."""
    if isinstance(arguments, Tensor):
        leaf = arguments.detach().clone()
        return leaf.requires_grad_(requires_grad and leaf.is_floating_point())
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(detached(v, requires_grad) for v in arguments)
    return arguments


@pytest.mark.parametrize(
    ("memory", "flags"), [("store", ""), ("store", "mask reset"), ("recompute", "mask reset"), ("no gradient", "reset")]
)
@pytest.mark.parametrize("name", EVERY)
def test_the_operators_keep_to_what_they_declare(name: str, memory: str, flags: str) -> None:
    """Shapes, types and layouts; that nothing is written to what is given, and nothing given comes out again."""
    memory, no_gradient = ("store", True) if memory == "no gradient" else (memory, False)
    at = case(flags, "output", T=5, H=4, memory=memory, frozen="bias", reverse=bool(flags))
    ours, _ = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    if "mask" in flags:
        on.flags["mask"][:, 0] = True  # where no row takes a step, what is kept for the derivative is anything at all
    with Calls() as calls, torch.set_grad_enabled(not no_gradient):
        if no_gradient:
            ours(on.x, on.state, **on.flags)
        else:
            results(ours, at, on)
    (forward,) = calls.found[ALONG]
    torch.library.opcheck(ALONG, detached(forward))
    if not no_gradient:
        torch.library.opcheck(ALONG, detached(forward, requires_grad=True))
        (backward,) = calls.found[ALONG_BACKWARD]
        torch.library.opcheck(ALONG_BACKWARD, detached(backward))


def compiled_beside_eager(name: str, backend: str, memory: str = "store") -> None:
    at = case("lengths reset", T=6, B=5, H=4, memory=memory, num_layers=2, bidirectional=True)
    ours, eager = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    ours.compile(fullgraph=True, backend=backend)
    expected = results(eager, at, on)
    for key, value in results(ours, at, on).items():
        assert off(value, expected[key]) <= 1e-12, key


@pytest.mark.parametrize("name", EVERY)
def test_one_compiled_graph(name: str) -> None:
    compiled_beside_eager(name, "aot_eager")


@pytest.mark.parametrize("name", ["lstm"])
def test_one_graph_in_machine_code(name: str) -> None:
    compiled_beside_eager(name, "inductor")


@pytest.mark.exhaustive
@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("name", VARIANTS)
def test_every_cell_in_machine_code(name: str, memory: str) -> None:
    compiled_beside_eager(name, "inductor", memory)


def test_steps_are_computed_again_in_a_compiled_graph_too() -> None:
    compiled_beside_eager("gru", "aot_eager", "recompute")


@pytest.mark.parametrize("name", ["LSTM", "GRU"])
def test_a_drop_in_in_one_graph(name: str) -> None:
    layer = getattr(recurra, name)(3, 4, 2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    found = []
    for run in (torch.compile(layer, fullgraph=True, backend="aot_eager"), layer):
        output = run(x)[0]
        found.append([output, *torch.autograd.grad(output.square().sum(), list(layer.parameters()))])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_the_core_runs_in_a_compiled_graph_whatever_the_number_of_steps() -> None:
    """One compilation for the first length, one for every other: nothing is unrolled."""
    ours, eager = pair(VARIANTS["lstm"], case(H=4))
    graphs: list[list[str]] = []

    def seen(module: Any, example: Any) -> Any:
        graphs.append([str(node.target) for node in module.graph.nodes if node.op == "call_function"])
        return module.forward

    run = torch.compile(ours, fullgraph=True, backend=seen)
    for T in (5, 7, 30, 11):
        x = torch.randn(T, 3, 3, dtype=torch.float64)
        torch.testing.assert_close(run(x)[0], eager(x)[0], rtol=1e-12, atol=1e-13)
    assert len(graphs) <= 2
    for graph in graphs:
        assert sum("recurra.along" in target or "recurra::along" in target for target in graph) == 1
        assert len(graph) < 60


def test_a_training_step_in_one_graph() -> None:
    """Forward, loss and backward; the optimiser goes on as with eager."""
    ours, eager = pair(VARIANTS["gru"], case(H=5))
    x, losses = torch.randn(9, 4, 3, dtype=torch.float64), []
    for layer in (ours, eager):
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.5)

        def loss(x: Tensor, layer: Recurrent = layer) -> Tensor:
            return (layer(x)[0] - 0.3).square().mean()

        run = torch.compile(loss, fullgraph=True, backend="aot_eager") if layer is ours else loss
        history = []
        for _ in range(5):
            optimizer.zero_grad()
            value = run(x)
            value.backward()
            optimizer.step()
            history.append(value.item())
        losses.append(history)
    assert losses[0][0] > losses[0][-1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


class Flat(nn.Module):
    """A layer whose results are a plain tuple: what PyTorch saves knows no named tuple made at run time."""

    def __init__(self, layer: Recurrent) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        output, final = self.layer(x)
        return output, *final


@pytest.mark.parametrize("name", ["lstm", pytest.param("slstm, 2 heads", marks=pytest.mark.exhaustive)])
def test_exported_with_any_number_of_steps_and_rows_and_run_elsewhere(name: str, tmp_path: Path) -> None:
    """What is saved holds the program, so another process needs the package, but no cell of that name."""
    layer, eager = pair(VARIANTS[name], case(H=4, num_layers=2, bidirectional=True))
    x = torch.randn(5, 3, 3, dtype=torch.float64)
    sizes = {0: torch.export.Dim("steps", min=2), 1: torch.export.Dim("rows", min=2)}
    exported = torch.export.export(Flat(layer), (x,), dynamic_shapes=(sizes,))
    targets = [str(node.target) for node in exported.graph.nodes]
    assert sum("recurra.along" in target for target in targets) == 4
    torch.export.save(exported, tmp_path / "layer.pt2")
    other = torch.randn(11, 7, 3, dtype=torch.float64)
    torch.save({"x": other, "expected": [v.detach() for v in flat(eager(other))]}, tmp_path / "numbers.pt")
    program = f"""
import torch
import recurra.nn
layer = torch.export.load({str(tmp_path / "layer.pt2")!r}).module()
numbers = torch.load({str(tmp_path / "numbers.pt")!r}, weights_only=True)
torch.testing.assert_close(list(layer(numbers["x"])), numbers["expected"], rtol=1e-12, atol=1e-13)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("memory", ["store", "recompute"])
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("name", ["lstm", "gru", "lstm_projected, 3"])
def test_checkpointed(name: str, use_reentrant: bool, memory: str) -> None:
    ours, _ = pair(VARIANTS[name], case(memory=memory))
    x = torch.randn(6, 3, 3, dtype=torch.float64, requires_grad=True)
    found = []

    def both(x: Tensor) -> tuple[Tensor, Tensor]:
        output, final = ours(x)
        return output, final[0]  # with use_reentrant, what stands within another tuple would have no gradient

    for run in (both, lambda x: checkpoint(both, x, use_reentrant=use_reentrant)):
        output, last = run(x)
        total = output.square().sum() + last.sin().sum()
        for p in ours.parameters():
            p.grad = None
        x.grad = None
        total.backward()
        assert x.grad is not None
        found.append([output, x.grad, *(p.grad for p in ours.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) == 2 + len(list(ours.parameters()))
    # Without a gradient, as a reentrant checkpoint runs first, all steps are projected at once, and piece by piece
    # where they are to be recomputed: a product of other rows, which BLAS may round otherwise.
    bound = 1e-14 if memory == "recompute" else 0.0
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=bound, atol=bound)


def test_a_traced_graph_has_the_operator_and_its_derivative() -> None:
    ours, eager = pair(VARIANTS["gru"], case(H=4))
    x = torch.randn(5, 3, 3, dtype=torch.float64)

    def gradient(layer: Recurrent, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        return torch.autograd.grad(layer(x)[0].square().sum(), x)[0]

    graph = make_fx(lambda x: gradient(ours, x))(x)
    targets = [str(node.target) for node in graph.graph.nodes]
    assert targets.count("recurra.along.default") == targets.count("recurra.along_backward.default") == 1
    other = torch.randn(5, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(graph(other), gradient(eager, other), rtol=1e-12, atol=1e-13)


def test_fake_tensors() -> None:
    """Shapes without numbers; the core must not be given what has no memory."""
    with FakeTensorMode():
        layer = Recurrent("lstm", 3, 4, 2, bidirectional=True, backend="native")
        x = torch.randn(5, 2, 3, requires_grad=True)
        output, final = layer(x)
        output.sum().backward()
    assert output.shape == (5, 2, 8)
    assert final.c.shape == (4, 2, 4)
    assert x.grad is not None
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("name", ["lstm", "lstm_layer_norm", "slstm"])
def test_copied_pickled_and_saved(name: str) -> None:
    at = case(H=4, num_layers=2, bidirectional=True)
    ours, _ = pair(VARIANTS[name], at)
    on = drawn_for(ours, at)
    expected = results(ours, at, on)
    again = Recurrent(name, 3, 4, 2, bidirectional=True, backend="native", dtype=torch.float64)
    again.load_state_dict(ours.state_dict())
    for layer in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), again):
        assert layer.choice.backend == "native"
        for key, value in results(layer, at, on).items():
            assert torch.equal(value, expected[key]), key


def test_pickled_to_another_process(tmp_path: Path) -> None:
    numbers = []
    for layer in (Recurrent("lstm", 3, 4, backend="native"), recurra.GRU(3, 4, 2)):
        x = torch.randn(5, 2, 3)
        numbers.append((layer, x, flat(layer(x))[0].detach()))
    (tmp_path / "layers.pickle").write_bytes(pickle.dumps(numbers))
    program = f"""
import pickle, torch, recurra
for layer, x, expected in pickle.loads(open({str(tmp_path / "layers.pickle")!r}, "rb").read()):
    assert torch.equal(layer(x)[0], expected)
    assert recurra.explain(layer).backend == "native"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_kernel_is_known_again_by_its_key() -> None:
    ours, eager = pair(VARIANTS["lstm_layer_norm"], case(H=4))
    place = ours._places[0]
    assert place.fused is not None
    one = place.fused.kernel
    assert copy.deepcopy(one) is one
    known = pickle.loads(pickle.dumps(one))
    assert known is pickle.loads(pickle.dumps(known))
    del kernel._KERNELS[one.key]
    made = kernel.kernel_of(one.key)
    assert made is not one
    assert made.key == one.key
    place.fused.kernel = made
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x)[0], eager(x)[0], rtol=1e-12, atol=1e-13)
