"""The machine and the versions that times were taken with, and the threads that everybody gets."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from recurra.engine import native

PACKAGES = ("recurra", "torch", "numpy", "jax", "jaxlib", "keras", "onnx", "onnxruntime")


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Run the block with so many threads in PyTorch and in Recurra, and in JAX where it was not used before."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    os.environ["NPROC"] = str(count)  # read when JAX first computes something; it has no other way to be told
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load() -> float:
    """How many processes were running in the last minute, on the average; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def facts() -> dict[str, Any]:
    """The processor and what else counts, for the record."""
    return {
        "cpu": _cpu(),
        "processors": processors(),
        "instruction_set": "no core" if native.why_not() else native.core().chosen(),
        "system": platform.platform(),
        "load": round(load(), 2),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY"),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def versions() -> dict[str, str]:
    """Of Python and of every contestant that is installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _cpu() -> str:
    described = Path("/proc/cpuinfo")
    if described.is_file():
        for line in described.read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
