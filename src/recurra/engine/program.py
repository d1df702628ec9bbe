"""A cell's step as a short program: every value once, in the order in which it is computed.

A `Graph` holds the values of a step and of its derivative. Each is an operation on earlier values; asking for one that
is there already gives the same one, so nothing is computed twice, and operations on numbers, by one or by zero are done
away with at once. A value has a width: that of its row, or 1 where a row has one number; and it may be the same for
every row, as a parameter is.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

PRODUCTS = frozenset(("U", "Ut", "M", "Mt"))
"""Products with U of a gate, with a further matrix, and with their transposes."""

LEAVES = frozenset(("x", "bias", "old", "vector", "constant", "number", "gradient"))
"""Values that a step begins with: W x of a gate, biases and other parameters, old state fields, numbers; and, for the
derivative, the gradients of the new fields."""


class Value(NamedTuple):
    """One value of a program.

    Attributes:
        op: The operation: one on each number of a row by itself (`recurra.engine.interpret.OPERATIONS`), a product, a
            "row_sum", or one of the leaves.
        args: The values that it is made of, by number.
        name: The gate, state field or parameter that it concerns.
        part: Which part of a parameter that is wider than hidden_size.
        number: What a number is.
        width: Numbers in a row.
        fixed: Whether all rows have the same.
    """

    op: str
    args: tuple[int, ...] = ()
    name: str = ""
    part: int = 0
    number: float = 0.0
    width: int = 1
    fixed: bool = False


class Graph:
    """Values, each there once; made by its methods, named by numbers."""

    def __init__(self) -> None:
        self.values: list[Value] = []
        self._known: dict[Value, int] = {}

    def __getitem__(self, index: int) -> Value:
        return self.values[index]

    def __len__(self) -> int:
        return len(self.values)

    def add(self, value: Value) -> int:
        """The number of this value, which is added if it is not there."""
        if value not in self._known:
            self._known[value] = len(self.values)
            self.values.append(value)
        return self._known[value]

    def number(self, number: float) -> int:
        """A number."""
        return self.add(Value("number", number=float(number), fixed=True))

    def leaf(self, op: str, name: str, width: int, *, part: int = 0, fixed: bool = False) -> int:
        """A value that a step begins with."""
        return self.add(Value(op, name=name, part=part, width=width, fixed=fixed))

    def product(self, op: str, name: str, operand: Sequence[int], width: int, part: int = 0, rows: int = 0) -> int:
        """The product of U (of a gate), of a matrix, or of the transpose of either, with values side by side.

        Args:
            op: "U", "Ut", "M" or "Mt".
            name: The gate or the matrix.
            operand: The values that it multiplies.
            width: Numbers in a row of the product.
            part: Which part of a product that is wider than hidden_size.
            rows: Of a transpose: which part of the matrix's rows.
        """
        return self.add(Value(op, tuple(operand), name, part, number=float(rows), width=width))

    def row_sum(self, args: Sequence[int]) -> int:
        """The sum over a row of one value, or of several side by side."""
        values = [self[i] for i in args]
        if all(v.op == "number" for v in values):
            return self.number(sum(v.number * v.width for v in values))
        if all(v.op == "neg" for v in values):
            return self.apply("neg", self.row_sum([v.args[0] for v in values]))
        return self.add(Value("row_sum", tuple(args), width=1, fixed=all(v.fixed for v in values)))

    def apply(self, op: str, *args: int) -> int:
        """An operation on each number of a row, done away with where its result is known beforehand."""
        known = self._simplified(op, args)
        if known is not None:
            return known
        if op in ("add", "mul", "maximum", "minimum", "eq", "ne"):
            args = tuple(sorted(args))
        values = [self[i] for i in args]
        width = max(v.width for v in values)
        return self.add(Value(op, args, width=width, fixed=all(v.fixed for v in values)))

    def _simplified(self, op: str, args: Sequence[int]) -> int | None:
        """What the result is known to be without computing it; None where it has to be computed."""
        numbers = [v.number if v.op == "number" else None for v in (self[i] for i in args)]
        if None not in numbers and op in ARITHMETIC:
            return self.number(ARITHMETIC[op](*numbers))
        if op == "neg" and self[args[0]].op == "neg":
            return self[args[0]].args[0]
        if op in ("add", "mul"):
            neutral = 0.0 if op == "add" else 1.0
            for number, other in ((numbers[0], args[1]), (numbers[1], args[0])):
                if number == neutral:
                    return other
                if op == "mul" and number == -1.0:
                    return self.apply("neg", other)
        if op == "sub":
            if numbers[1] == 0.0:
                return args[0]
            if numbers[0] == 0.0:
                return self.apply("neg", args[1])
        if op == "div" and numbers[1] == 1.0:
            return args[0]
        if op == "add":
            for negated, other in ((args[1], args[0]), (args[0], args[1])):
                if self[negated].op == "neg":
                    return self.apply("sub", other, self[negated].args[0])
        if op == "where" and args[1] == args[2]:
            return args[1]
        return None

    def needed(self, outputs: Iterable[int], given: Iterable[int] = ()) -> list[int]:
        """The values that outputs are made of, in an order of computation, down to those that are given."""
        found, waiting = set(given), list(outputs)
        first = set(found)
        while waiting:
            i = waiting.pop()
            if i not in found:
                found.add(i)
                waiting += self[i].args
        return sorted(found - first)


ARITHMETIC: dict[str, Callable[..., float]] = {
    "neg": lambda a: -a,
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "sqrt": lambda a: math.sqrt(a) if a >= 0 else math.nan,
}
"""Operations on numbers alone that are done beforehand."""
