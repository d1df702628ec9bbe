"""Rules that go forward in time learn from a stream without end in memory that does not grow."""

import ctypes
import gc
import os
from pathlib import Path

import pytest
import torch

from recurra import Recurrent, learn

STATM = Path("/proc/self/statm")
WARM_UP, ALLOWED = 1_500, 2**19


def resident() -> int:
    """Bytes of this process that are in memory, without those that only wait to be used again: what tests before this
    one have left would hide what grows."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    return int(STATM.read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def grown(rule: learn.Rule, steps: int) -> int:
    """By how much the resident set grows, behind a warm-up, while an LSTM learns at every step of a stream."""
    torch.manual_seed(0)
    layer, head = Recurrent("lstm", 2, 16), torch.nn.Linear(16, 2)
    optimizer = torch.optim.SGD([*layer.parameters(), *head.parameters()], lr=0.01)
    rule.begin(layer)
    past, sizes = torch.zeros(2), []
    first = head.weight.detach().clone()
    for t in range(WARM_UP + steps):
        x = torch.rand(2)
        loss = (head(rule(x)) - past).square().mean()
        past = x
        if rule.step(loss):
            optimizer.step()
            optimizer.zero_grad()
        if t + 1 >= WARM_UP and (t + 1) % 500 == 0:
            sizes.append(resident())
    assert torch.equal(head.weight, first) is isinstance(rule, learn.BPTT)  # which has not gone back as yet
    return max(sizes) - sizes[0]


@pytest.mark.skipif(not STATM.exists(), reason="the resident set is read as Linux tells it")
@pytest.mark.parametrize(
    ("rule", "steps"),
    [
        pytest.param(learn.RTRL(), 6_000, id="rtrl"),
        pytest.param(learn.SnAp(1), 4_000, id="snap1"),
        pytest.param(learn.RTRL(backend="eager"), 500, id="rtrl in tensor code"),
        pytest.param(learn.TruncatedBPTT(8, 16), 500, id="tbptt"),
        pytest.param(learn.RTRL(), 1_000_000, id="rtrl, a million", marks=pytest.mark.exhaustive),
    ],
)
def test_a_stream_is_learnt_from_in_constant_memory(rule: learn.Rule, steps: int) -> None:
    assert grown(rule, steps) <= ALLOWED


@pytest.mark.skipif(not STATM.exists(), reason="the resident set is read as Linux tells it")
def test_bptt_on_a_stream_needs_more_and_more() -> None:
    """The instrument sees growth where there is growth."""
    assert grown(learn.BPTT(), 1_000) > 2 * ALLOWED
