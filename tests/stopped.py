"""What tests share of runs that are stopped in the middle and gone on with."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from recurra.run.api import Run
from recurra.run.training import Training


class Stopped(Exception):  # noqa: N818
    """As if the machine had gone down."""


@contextmanager
def stopped_after(updates: int) -> Iterator[None]:
    """A training within the block goes down after so many updates, and has to."""
    update, made = Training._update, [0]

    def stopping(self: Training, batches: list[torch.Tensor]) -> None:
        if made[0] == updates:
            raise Stopped
        made[0] += 1
        update(self, batches)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Training, "_update", stopping)
        with pytest.raises(Stopped):
            yield


def check_same_weights(run: Run, other: object) -> None:
    """Two runs have the same weights to the last bit."""
    assert isinstance(other, Run)
    for name, value in run.network.state_dict().items():
        assert torch.equal(value, other.network.state_dict()[name]), name
