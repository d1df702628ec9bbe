"""What every result of an analysis can do: become JSON, print, and draw itself."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from recurra.errors import RecurraError


class AnalysisError(RecurraError, ValueError):
    """A model, a layer or a batch that cannot be examined as asked."""


def check_whole(name: str, value: Any, least: int = 1, most: int | None = None) -> None:
    """Raise AnalysisError where an argument is no whole number within its bounds."""
    if _is_whole(value, least, most):
        return
    bounds = "above 0" if (least, most) == (1, None) else f"from {least}" + ("" if most is None else f" to {most}")
    raise AnalysisError(f"{name}: a whole number {bounds} is expected, not {value!r}")


def whole_numbers(name: str, values: Any, least: int, most: int) -> list[int]:
    """An argument that is a list of whole numbers within bounds.

    Raises:
        AnalysisError: It is none, or an empty one.
    """
    expected = f"{name}: whole numbers from {least} to {most} are expected, "
    try:
        found = list(values)
    except TypeError as error:
        raise AnalysisError(f"{expected}in a list, not {values!r}") from error
    for value in found:
        if not _is_whole(value, least, most):
            raise AnalysisError(f"{expected}not {value!r}")
    if not found:
        raise AnalysisError(f"{name}: at least one is expected")
    return found


def check_seed(seed: Any) -> None:
    """Raise AnalysisError where a seed is none that PyTorch takes."""
    check_whole("seed", seed, 0, 2**64 - 1)


def _is_whole(value: Any, least: int, most: int | None) -> bool:
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool):
        return False
    return bool(least <= value) and (most is None or bool(value <= most))


class Result(ABC):
    """The numbers that an analysis found, as arrays of NumPy."""

    def to_dict(self) -> dict[str, Any]:
        """All numbers as lists, by name; what is not finite is None, which JSON can say."""
        assert is_dataclass(self)
        found = {f.name: plain(getattr(self, f.name)) for f in fields(self) if f.metadata.get("json", True)}
        return found | {name: plain(getattr(self, name)) for name in self._derived()}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def _derived(self) -> tuple[str, ...]:
        """Names of properties that belong to the numbers."""
        return ()

    @abstractmethod
    def plot(self, axes: Any = None) -> Any:
        """Draw the result on Matplotlib's axes, those of a new figure where none are given; returns the axes."""


def plain(value: Any) -> Any:
    """A value as JSON has it.

    >>> plain({"a": np.array([0.5, np.inf]), "b": (1, "x")})
    {'a': [0.5, None], 'b': [1, 'x']}
    """
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value


def drawn_on(axes: Any) -> Any:
    """The axes given, or those of a new figure."""
    if axes is not None:
        return axes
    from matplotlib import pyplot  # a second to import

    return pyplot.subplots()[1]


def number(value: float) -> str:
    """A number in few digits: 1.23e-08, 0.981, 14."""
    return f"{value:.3g}"
