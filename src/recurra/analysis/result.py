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
