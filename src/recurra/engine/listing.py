"""Prints a step's program and its derivative, a value a line."""

from collections import Counter
from collections.abc import Iterable, Sequence

from recurra.engine.adjoint import Adjoint, kept
from recurra.engine.program import LEAVES, PRODUCTS
from recurra.engine.trace import Step

SIGNS = {
    **{"add": "+", "sub": "-", "mul": "*", "div": "/"},
    **{"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="},
}


class Listing:
    """The names and lines of a graph's values.

    Args:
        step: A cell's step.
        adjoint: Its derivative.
    """

    def __init__(self, step: Step, adjoint: Adjoint) -> None:
        self.step, self.adjoint, self.graph = step, adjoint, step.graph
        self.forward = self.graph.needed(i for parts in step.new.values() for i in parts)
        self.kept = kept(step, adjoint, free=list(step.new)[:1])
        given = {*self.kept, *(i for i in self.forward if self._is_free(i))}
        self.backward = self.graph.needed(adjoint.outputs(), given)
        every = {*self.forward, *self.backward}
        uses = Counter(a for i in every for a in self.graph[i].args)
        self.inline = {i for i in every if self.graph[i].op in PRODUCTS and uses[i] <= 1}
        self.names: dict[int, str] = {}
        for i in sorted(every):
            if self.graph[i].op not in LEAVES and i not in self.inline:
                self.names[i] = f"v{len(self.names) + 1}"

    def _is_free(self, i: int) -> bool:
        value = self.graph[i]
        return value.fixed or (value.op == "old" and value.name == next(iter(self.step.new)))

    def program(self) -> str:
        """The step."""
        lines = list(self._lines(self.forward))
        for name, parts in self.step.new.items():
            lines.append(f"{name} = {', '.join(self.name(i) for i in parts)}")
        return "\n".join(lines)

    def derivative(self) -> str:
        """The derivative of the step, and what it keeps."""
        words = [self.name(i) + (f" = {self._right(i)}" if i in self.names else "") for i in self.kept]
        lines = ["kept: " + ("; ".join(words) or "nothing"), *self._lines(self.backward)]
        a = self.adjoint
        lines += [f"δx_{gate} = {self.name(i)}" for gate, i in a.of_x.items()]
        for name, parts in a.of_old.items():
            lines.append(f"δ{name}' = {', '.join('0' if i is None else self.name(i) for i in parts)}")
        for product, i in a.of_product.items():
            value = self.graph[product]
            lines.append(f"δ{_factor(value.op, value.name)} += {self.name(i)} ⊗ {self._operand(value.args)}")
        lines += [f"δ{self.name(value)} += {self.name(i)}" for value, i in a.of_fixed.items()]
        return "\n".join(lines)

    def _lines(self, order: Iterable[int]) -> Iterable[str]:
        return (f"{self.names[i]} = {self._right(i)}" for i in order if i in self.names)

    def name(self, i: int) -> str:
        """How a value is referred to."""
        value = self.graph[i]
        if i in self.names:
            return self.names[i]
        if value.op == "number":
            return f"{value.number:g}"
        part = f"[{value.part}]" if value.part and value.op != "bias" else ""
        if value.op in ("x", "bias"):
            return f"{'x' if value.op == 'x' else 'b' if not value.part else 'b′'}_{value.name}"
        if value.op in PRODUCTS:
            return self._right(i)
        return {"old": f"{value.name}'", "gradient": f"δ{value.name}"}.get(value.op, value.name) + part

    def _operand(self, args: Sequence[int]) -> str:
        return self.name(args[0]) if len(args) == 1 else "[" + " ".join(self.name(a) for a in args) + "]"

    def _right(self, i: int) -> str:
        value = self.graph[i]
        if value.op in PRODUCTS:
            return f"{_factor(value.op, value.name)} {self._operand(value.args)}"
        names = [self.name(a) for a in value.args]
        if value.op in SIGNS:
            return f"{names[0]} {SIGNS[value.op]} {names[1]}"
        return f"-{names[0]}" if value.op == "neg" else f"{value.op}({', '.join(names)})"


def _factor(op: str, name: str) -> str:
    """U of a gate or a matrix, or the transpose of either."""
    return (f"U_{name}" if op.startswith("U") else name) + ("ᵀ" if op.endswith("t") else "")


def listing(step: Step, adjoint: Adjoint) -> tuple[str, str]:
    """The program of a step, and that of its derivative."""
    found = Listing(step, adjoint)
    return found.program(), found.derivative()
