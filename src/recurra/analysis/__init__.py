"""Instruments: what becomes of gradients, states and gates in a recurrent layer, inside any model of PyTorch's.

    from recurra import analysis

    print(analysis.gradient_flow(model, x))       # ‖∂L_t/∂s_k‖ against t - k, and how far it reaches
    print(analysis.inspect(model, x))             # all of them, of every layer and direction

Each takes a model and a batch, or what `record` made of them, and gives numbers as arrays, which print, draw themselves
(`.plot()`) and become JSON (`.to_json()`).
"""

from recurra.analysis.capacity import MemoryCapacity, memory_capacity
from recurra.analysis.flow import GradientFlow, gradient_flow
from recurra.analysis.gates import Activity, Gates, gates
from recurra.analysis.inspection import Inspection, Part, inspect
from recurra.analysis.jacobians import (
    LyapunovExponents,
    SpanSingularValues,
    StateJacobians,
    lyapunov_exponents,
    state_jacobians,
)
from recurra.analysis.record import Recording, record
from recurra.analysis.result import AnalysisError
from recurra.analysis.system import System

__all__ = [
    "Activity",
    "AnalysisError",
    "Gates",
    "GradientFlow",
    "Inspection",
    "LyapunovExponents",
    "MemoryCapacity",
    "Part",
    "Recording",
    "SpanSingularValues",
    "StateJacobians",
    "System",
    "gates",
    "gradient_flow",
    "inspect",
    "lyapunov_exponents",
    "memory_capacity",
    "record",
    "state_jacobians",
]
