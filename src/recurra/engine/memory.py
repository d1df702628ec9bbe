"""Memory for large arrays, used again once nobody holds it.

A large array that is asked of the operating system costs a page fault for every 4 KiB when it is first written to: in a
training step of a small network that is as long as the arithmetic. So blocks are kept, and given out anew as soon as no
tensor holds them.
"""

import math
import sys
import threading
from collections.abc import Sequence

import torch
from torch import Tensor

SMALL = 1 << 16
"""Bytes below which PyTorch's own allocation is as quick."""

OWN = 3
"""References to a block that is free, as `sys.getrefcount` counts them where it is looked at."""

SCRATCH = 1 << 23
"""Bytes that each thread keeps for what is of use only while one run lasts, and up to which it is given from them."""

LIMIT = 1 << 28
"""Bytes that are kept at most, those in use among them."""


class Blocks:
    """Blocks of memory that are given out as tensors; safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks: list[torch.UntypedStorage] = []  # the one that was used last stands at the end

    def empty(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """A contiguous tensor of the type of `like`, on the CPU, that holds anything."""
        size = math.prod(shape) * like.element_size()
        fills = torch.are_deterministic_algorithms_enabled()  # new memory, so that its use shows
        if size < SMALL or size > LIMIT // 2 or fills:
            return like.new_empty(shape)
        with self._lock:
            block = self._free(size)
            if block is None:
                block = torch.UntypedStorage(size)
            self._blocks.append(block)
            tensor = like.new_empty(0).set_(block, 0, tuple(shape))  # type: ignore[call-overload]
            self._within_limit()
        return tensor

    def zeros(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Likewise, of zeros."""
        return self.empty(shape, like).zero_()

    def _free(self, size: int) -> torch.UntypedStorage | None:
        """The block last used that is free and hardly larger than need be, taken out of its place."""
        for i in range(len(self._blocks) - 1, -1, -1):
            block = self._blocks[i]
            if block.is_shared():  # another process may read it, however long nobody here holds it
                self._blocks.pop(i)
                continue
            fits = size <= block.nbytes() <= size + size // 4
            # Held by no tensor, and as a storage by nobody but this list, this name and the call.
            if fits and torch._C._storage_Use_Count(block._cdata) == 1 and sys.getrefcount(block) == OWN:
                return self._blocks.pop(i)
        return None

    def _within_limit(self) -> None:
        """Let go of what was not used for longest; a block in use is then its tensors' alone."""
        total = sum(block.nbytes() for block in self._blocks)
        while total > LIMIT:
            total -= self._blocks.pop(0).nbytes()


BLOCKS = Blocks()


class _Scratch(threading.local):
    """Memory of a thread that nothing outlives."""

    memory: Tensor | None = None


_SCRATCH = _Scratch()


def scratch(numbers: int, like: Tensor) -> Tensor:
    """Numbers for the run at hand: whoever asks next in this thread is given the same memory."""
    size = numbers * like.element_size()
    if size > SCRATCH or torch.are_deterministic_algorithms_enabled():
        return BLOCKS.empty((numbers,), like)
    if _SCRATCH.memory is None:
        _SCRATCH.memory = torch.empty(SCRATCH, dtype=torch.uint8)
    return _SCRATCH.memory[:size].view(like.dtype)
