"""What recurrent networks can do, as constructions that run: universal approximation, and Turing machines.

Theorems 6.1 and 6.2 of the textbook, each as a function that builds the network.
"""

from recurra.theory.approximation import Approximation, TheoryError, TwoLayerNet, approximate
from recurra.theory.machine import (
    Configuration,
    EndlessError,
    MachineError,
    Rule,
    TuringMachine,
    from_text,
    read,
    shipped,
)
from recurra.theory.systems import Fit, Lorenz, Pendulum, System, fit
from recurra.theory.turing import TuringNetwork, compile_turing_machine

__all__ = [
    "Approximation",
    "Configuration",
    "EndlessError",
    "Fit",
    "Lorenz",
    "MachineError",
    "Pendulum",
    "Rule",
    "System",
    "TheoryError",
    "TuringMachine",
    "TuringNetwork",
    "TwoLayerNet",
    "approximate",
    "compile_turing_machine",
    "fit",
    "from_text",
    "read",
    "shipped",
]
