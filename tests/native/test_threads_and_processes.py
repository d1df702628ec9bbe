"""The core's threads: however many, in whatever thread or process it is called, what comes out is the same."""

import multiprocessing
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from comparing import TOLERANCE, VARIANTS, case, drawn_for, off, pair, results
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from recurra.engine.kernel import Kernel
from recurra.nn import Recurrent

SOME = ["lstm", "gru", "lstm_layer_norm", "slstm, 2 heads", "jordan, 3 outputs", "indrnn", "clockwork"]
LARGE: dict[str, Any] = {"T": 12, "B": 30, "I": 17, "H": 48}  # enough work for several threads


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that runs are shared out among."""
    used: list[int] = []
    chosen = Kernel._threads

    def choosing(self: Kernel, T: int, B: int) -> int:
        used.append(chosen(self, T, B))
        return used[-1]

    monkeypatch.setattr(Kernel, "_threads", choosing)
    return used


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", SOME)
def test_the_same_whatever_the_number_of_threads(
    name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within rounding: a row left alone is multiplied in another order, and so are sums over rows."""
    sizes = {**LARGE, "B": 50, "T": {"indrnn": 230, "jordan, 3 outputs": 50}.get(name, 12)}
    at = case("mask reset", **sizes, dtype=dtype)
    ours, _ = pair(VARIANTS[name], at)
    on, found, used = drawn_for(ours, at), [], counted(monkeypatch)
    for number in (1, 2, 4, 7):
        torch.set_num_threads(number)
        found.append(results(ours, at, on))
        assert set(used[-2:]) == {number}
    for other in found[1:]:
        for key, value in found[0].items():
            assert off(other[key], value) <= TOLERANCE[dtype], key


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("B", [1, 2, 13, 30])
def test_few_rows_for_many_threads(name: str, B: int) -> None:
    """Who projects the input may hang on the threads, and with it the last bit; nothing more."""
    at = case("lengths", T=60, B=B, I=5, H=48, memory="recompute")
    ours, _ = pair(VARIANTS[name], at)
    on, found = drawn_for(ours, at), []
    for number in (1, 3, 8):
        torch.set_num_threads(number)
        found.append(results(ours, at, on))
    for other in found[1:]:
        for key, value in found[0].items():
            assert off(other[key], value) <= 1e-11, key


def test_a_little_work_is_done_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(4)
    used = counted(monkeypatch)
    layer, _ = pair(VARIANTS["lstm"], case(H=8))
    layer(torch.randn(5, 3, 3, dtype=torch.float64))[0].sum().backward()
    assert set(used) == {1}


def test_several_threads_of_python_at_once() -> None:
    """Each its own layer, and all the same layer; the core lets go of Python's lock, and each call its own memory."""
    torch.set_num_threads(2)
    at = case("mask", **LARGE)
    layers = [pair(VARIANTS[name], at)[0] for name in SOME]
    work = [(layer, drawn_for(layer, at)) for layer in layers] + [(layers[0], drawn_for(layers[0], at, 7))] * 2
    expected = [results(layer, at, on) for layer, on in work]
    wrong: list[str] = []

    def run(k: int) -> None:
        torch.set_num_threads(2)
        layer, on = work[k]
        for _ in range(4):
            leaves = on.x.clone().requires_grad_(), [v.clone().requires_grad_() for v in on.state or ()]
            output, final = layer(leaves[0], leaves[1], **on.flags)
            if not torch.equal(output, expected[k]["output"]):
                wrong.append(f"output of {k}")
            (of_x,) = torch.autograd.grad(output.sum() + final[0].sum(), [leaves[0]])
            if not of_x.isfinite().all():
                wrong.append(f"gradient of {k}")

    running = [threading.Thread(target=run, args=(k,)) for k in range(len(work))]
    for one in running:
        one.start()
    for one in running:
        one.join(60)
    assert not any(one.is_alive() for one in running)
    assert not wrong


def test_gradients_of_several_threads_of_python_at_once() -> None:
    torch.set_num_threads(2)
    at = case("reset", **LARGE)
    layer, _ = pair(VARIANTS["gru"], at)
    x = [torch.randn(at.T, at.B, at.I, dtype=torch.float64) for _ in range(6)]

    def gradients(x: Tensor) -> list[Tensor]:
        return list(torch.autograd.grad(layer(x)[0].square().sum(), list(layer.parameters())))

    expected, found = [gradients(v) for v in x], [[] for _ in x]
    running = [threading.Thread(target=lambda k=k: found[k].extend(gradients(x[k]))) for k in range(len(x))]
    for one in running:
        one.start()
    for one in running:
        one.join(60)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


# --- processes -------------------------------------------------------------------------------------------------------


def _run_in_child(layer: Recurrent, x: Tensor, threads: int, queue: Any) -> None:
    torch.set_num_threads(threads)
    if threads > 1:  # the core has threads of its own then; PyTorch's derivative would wait for its own, which are gone
        with torch.no_grad():
            queue.put((layer(x)[0].numpy(), None))
        return
    output, _ = layer(x.requires_grad_())
    output.sum().backward()
    assert x.grad is not None
    queue.put((output.detach().numpy(), x.grad.numpy()))


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("threads_of_child", [1, 2])
def test_a_child_made_by_fork_after_the_core_ran_with_two_threads(threads_of_child: int) -> None:
    torch.set_num_threads(2)
    layer, _ = pair(VARIANTS["lstm"], case(**LARGE))
    x = torch.randn(LARGE["T"], LARGE["B"], LARGE["I"], dtype=torch.float64, requires_grad=True)
    output, _ = layer(x)
    output.sum().backward()
    assert x.grad is not None
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    arguments = (layer, x.detach().clone(), threads_of_child, queue)
    children = [context.Process(target=_run_in_child, args=arguments, daemon=True) for _ in range(2)]
    for child in children:
        child.start()
    try:
        for _ in children:
            found, of_x = queue.get(timeout=60)
            assert torch.equal(torch.from_numpy(found), output)
            assert of_x is None or torch.equal(torch.from_numpy(of_x), x.grad)
        for child in children:
            child.join(60)
            assert child.exitcode == 0
    finally:
        for child in children:
            child.kill()
    assert torch.equal(layer(x)[0], output)  # and the parent's threads go on


class Features(Dataset[Tensor]):
    """Sequences that a recurrent layer has already read."""

    def __init__(self) -> None:
        self.layer, _ = pair(VARIANTS["gru"], case(**LARGE))
        self.x = torch.randn(6, LARGE["T"], LARGE["B"], LARGE["I"], dtype=torch.float64)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        with torch.no_grad():
            return self.layer(self.x[index])[0]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_workers_of_a_data_loader() -> None:
    """What they send lies in memory that both processes see, and must stay what it is."""
    torch.set_num_threads(2)
    data = Features()
    expected = torch.stack([data[k] for k in range(len(data))])
    loader = DataLoader(data, batch_size=2, num_workers=2, multiprocessing_context="fork")
    found = torch.cat(list(loader))
    assert torch.equal(found, expected)


# --- the processor's own settings ------------------------------------------------------------------------------------


def test_the_callers_subnormal_numbers_stay() -> None:
    """The core takes them for zero while it runs, in its own threads and in the caller's; nobody else sees that."""
    tiny = torch.tensor([1e-310], dtype=torch.float64)
    layer, _ = pair(VARIANTS["lstm"], case(**LARGE))
    x = torch.randn(LARGE["T"], LARGE["B"], LARGE["I"], dtype=torch.float64)
    for number in (1, 2):
        torch.set_num_threads(number)
        torch.set_flush_denormal(False)
        layer(x)[0].sum().backward()
        assert (tiny / 2).item() != 0
        if torch.set_flush_denormal(True):
            layer(x)[0].sum().backward()
            assert (tiny / 2).item() == 0
            torch.set_flush_denormal(False)


def test_subnormal_numbers_cost_nothing() -> None:
    """A state that fades away to nothing: what would be subnormal is zero, and nothing else is lost."""
    layer, eager = pair(VARIANTS["elman, identity"], case(T=3, B=2, I=1, H=3))
    with torch.no_grad():
        for one in (layer, eager):
            one.get_parameter("weight_hh_l0").copy_(1e-3 * torch.eye(3))
            one.get_parameter("bias_l0").zero_()
    x = torch.zeros(110, 2, 1, dtype=torch.float64)
    state = torch.ones(1, 2, 3, dtype=torch.float64)
    found, expected = layer(x, state)[0], eager(x, state)[0]
    assert ((expected != 0) & (expected.abs() < 2.3e-308)).any()
    normal = expected.abs() >= 2.3e-308
    torch.testing.assert_close(found[normal], expected[normal], rtol=1e-12, atol=0)
    assert not found[~normal].any()
