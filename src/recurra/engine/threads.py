"""How many threads a recurrent network is run with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

WORTH_SHARING = 8e6
"""Operations in one step's largest product above which a second thread gains more than waiting for it costs. Below,
threads that wait for each other at every step slow small networks down many times on a busy machine."""


PLACES = 64
"""Places that a kernel of a convolution is laid over, of a frame as small as any."""


@contextmanager
def suited(network: nn.Module, batch_size: int, threads: int = 0) -> Iterator[None]:
    """Run the block with `threads`, or where that is 0 with one for small networks, else with PyTorch's number."""
    before = torch.get_num_threads()
    if not threads:
        weights = [p for name, p in network.named_parameters() if "weight_hh" in name]
        largest = max((p.numel() * (PLACES if p.dim() == 4 else 1) for p in weights), default=0)
        threads = before if 2 * batch_size * largest > WORTH_SHARING else 1
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
