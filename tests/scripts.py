"""What tests share of Python files that are no part of the package: they are loaded as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def loaded(path: Path, name: str | None = None) -> ModuleType:
    """A file as a module, which stands in `sys.modules`, so that what it defines can be pickled."""
    spec = importlib.util.spec_from_file_location(name or path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def benchmark(name: str) -> ModuleType:
    """A script of benchmarks/; without it, the test or the whole file of tests is skipped."""
    path = BENCHMARKS / f"{name}.py"
    if not path.is_file():
        pytest.skip("benchmarks/ is not part of the source archive", allow_module_level=True)
    return loaded(path, f"benchmark_{name}")
