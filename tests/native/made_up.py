"""Cells that a test makes up: equations, declarations and sizes drawn by hypothesis.

Each value is put within bounds, and what chooses (a maximum, a comparison, a kink) is moved by an odd number, so that a
choice never hangs on how a sum was rounded: two right ways of computing the same cell then agree closely.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from recurra.cells import Cell, cell
from recurra.math import (
    clamp,
    cos,
    exp,
    join,
    log,
    log_sigmoid,
    maximum,
    minimum,
    norm,
    relu,
    sigmoid,
    sin,
    softplus,
    split,
    sqrt,
    tanh,
    where,
)

ODD = 0.0371

ONE: dict[str, Callable[[Any], Any]] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": lambda a: relu(a + ODD),
    "sin": sin,
    "cos": cos,
    "softplus": softplus,
    "log_sigmoid": log_sigmoid,
    "-": lambda a: -a,
    "1-": lambda a: 1 - a,
    "abs": lambda a: abs(a - ODD),
    "exp": lambda a: exp(-a * a),
    "sqrt": lambda a: sqrt(a * a + 1),
    "log": lambda a: log(a * a + 2),
    "clamp": lambda a: clamp(a, -0.5137, 0.8211),
    "square": lambda a: sin(a) ** 2,
    "cube": lambda a: tanh(a) ** 3,
    "power": lambda a: (1.5 + sin(a)) ** 0.7,
    "root": lambda a: (1.5 + cos(a)) ** -0.5,
    "half": lambda a: a / 2,
    "remainder": lambda a: (3 * sin(a) + ODD) % 1.31,
    "sum of the row": lambda a: 0.2 * torch.sum(tanh(a), -1, keepdim=True) + 0 * a,
}
TWO: dict[str, Callable[[Any, Any], Any]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * tanh(b),
    "/": lambda a, b: a / (1 + b * b),
    "max": lambda a, b: maximum(a, b + ODD),
    "min": lambda a, b: minimum(a, b - ODD),
    "where": lambda a, b: where(a > b + ODD, 2 * tanh(b), a),
    "at least": lambda a, b: where(a <= b - ODD, b, sin(a)),
    "one of several": lambda a, b: split(join(a, b, a), 3)[1],
    "a power": lambda a, b: (1.5 + sin(a)) ** tanh(b),
    "times the mean": lambda a, b: a * torch.mean(tanh(b), -1, keepdim=True),
    "fma": lambda a, b: a * sigmoid(b) + b,
    "a choice of rows": lambda a, b: where(torch.mean(b, -1, keepdim=True) > ODD, a, b),
}


def _apart(hidden_size: int, **_: Any) -> Tensor:
    """Numbers that lie apart, so that a row which they are added to is never nearly constant."""
    return torch.linspace(-4.0, 4.0, hidden_size)


def _checked(rows: int, columns: int) -> Tensor:
    return ((torch.arange(rows).unsqueeze(1) + torch.arange(columns)) % 3 > 0).float()


class Body:
    """The equations of a cell that is made up.

    Args:
        ways: How each gate is taken: any of "whole", "parts", "called".
        inputs: Net inputs without U.
        apart: Whether biases are apart.
        fields: Names of the state's fields.
        operand: What gates are called with: "one" value or "two" side by side.
        further: Which of "vectors", "matrix", "narrow matrix", "constants", "norm" it has.
        plan: Operations on earlier values.
        swaps: Whether some fields simply become others.
    """

    def __init__(self, **parts: Any) -> None:
        self.ways: dict[str, str] = parts["ways"]
        self.inputs: Sequence[str] = parts["inputs"]
        self.apart: bool = parts["apart"]
        self.fields: Sequence[str] = parts["fields"]
        self.operand: str = parts["operand"]
        self.further: Sequence[str] = parts["further"]
        self.plan: Sequence[tuple[str, int, int]] = parts["plan"]
        self.swaps: bool = parts["swaps"]
        self.parts = parts

    def net_inputs(self, z: Any, of_state: Sequence[Any]) -> list[Any]:
        found = []
        for k, (gate, way) in enumerate(self.ways.items()):
            net = getattr(z, gate)
            found += [net + 0] if "whole" in way else []
            found += [net.x, net.h] if "parts" in way else []
            found += [net.b + tanh(of_state[0])] if self.apart else []
            if "called" in way:
                a, b = (tanh(of_state[(k + n) % len(of_state)]) for n in (0, 1))
                found.append(net(a if self.operand == "one" else join(a, b)))
        for name in self.inputs:
            net = getattr(z, name)
            found += [net.x, net.b + of_state[0]] if self.apart else [net]
        return found

    def of_fields(self, s: Any, p: Any) -> list[Any]:
        """The old state in values as wide as the hidden state."""
        found = []
        for name in self.fields:
            field = getattr(s, name)
            if name == "w":
                found += split(field, 2)
            elif name == "y":
                found.append(p.of_y @ field)
            elif name == "t":
                found = [found[0] * cos(0.7 * field), *found[1:]] if found else []
            else:
                found.append(field)
        return found

    def __call__(self, z: Any, s: Any, p: Any) -> tuple[Any, ...]:
        of_state = self.of_fields(s, p)
        values = [*self.net_inputs(z, of_state), *of_state]
        if "vectors" in self.further:
            values += [p.v * of_state[0], split(p.u, 2)[1] + tanh(values[0])]
            values[0] = values[0] + split(p.u, 2)[0] * p.v
        if "matrix" in self.further:
            values += split(p.M @ sin(values[0]), 2)
        if "narrow matrix" in self.further:
            values.append(p.out_of_three @ relu(p.into_three @ values[-1] + ODD))
        if "constants" in self.further:
            values.append(values[0] * cos(p.k) + p.n)
        if "norm" in self.further:
            values += [
                norm(0.1 * sin(values[0]) + p.spread),
                split(norm(join(values[-1] + p.spread, sin(values[0]))), 2)[1],
            ]
        for name, i, j in self.plan:
            a, b = values[i % len(values)], values[j % len(values)]
            values.append(ONE[name](a) if name in ONE else TWO[name](a, b))
        total = tanh(values[0])
        for value in values[1:]:
            total = total + tanh(0.3 * value)
        new = {"h": tanh(total / 3), "c": sigmoid(total) + 0.5 * tanh(values[-1]), "t": None, "y": None, "w": None}
        if "t" in self.fields:
            new["t"] = (s.t + 1) % 5
        if "y" in self.fields:
            new["y"] = p.to_y @ tanh(total)
        if "w" in self.fields:
            new["w"] = join(tanh(values[-1]), split(s.w, 2)[0] if self.swaps else cos(total))
        if self.swaps and "c" in self.fields and "h" in self.fields:
            new["c"] = s.h
        return tuple(new[name] for name in self.fields)

    def __repr__(self) -> str:
        return f"Body({self.parts})"


def declared(body: Body, recurrent: str, biases: Any) -> Cell:
    """The cell with these equations."""
    has, widths = body.further, {"w": "w:2H", "y": "y:3", "t": "t:1"}
    matrices = {"M": ("2H", "H")} if "matrix" in has else {}
    matrices |= {"into_three": (3, "H"), "out_of_three": ("H", 3)} if "narrow matrix" in has else {}
    matrices |= {"of_y": ("H", 3), "to_y": (3, "H")} if "y" in body.fields else {}
    constants: dict[str, Callable[..., Tensor]] = {}
    if "constants" in has:
        constants |= {"k": _apart, "n": lambda hidden_size, **_: torch.tensor(0.31)}
    if "norm" in has:
        constants["spread"] = _apart
    first = {"w": lambda H: 2 * H, "y": lambda H: 3}.get(body.fields[0], lambda H: H)
    columns = first if body.operand == "first" else lambda H: 2 * H if body.operand == "two" else H

    def mask(hidden_size: int, **_: Any) -> Tensor:
        return _checked(hidden_size, columns(hidden_size))

    def plain(z: Any, s: Any, p: Any) -> tuple[Any, ...]:
        return body(z, s, p)

    def in_heads(z: Any, s: Any, p: Any, *, heads: int = 2) -> tuple[Any, ...]:
        return body(z, s, p)

    made = cell(
        state=" ".join(widths.get(name, name) for name in body.fields),
        gates=" ".join(body.ways),
        inputs=" ".join(body.inputs),
        vectors="v u:2H" if "vectors" in has else "",
        matrices=matrices,
        constants=constants,
        biases=biases,
        recurrent=mask if recurrent == "mask" else recurrent,  # type: ignore[arg-type]
    )
    return made(in_heads if recurrent == "blocks" else plain)


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    """A cell; each kind of declaration that there is can come up, beside any other that it can stand beside."""
    recurrent = draw(st.sampled_from(["dense", "diagonal", "blocks", "mask", "none"]))
    biases = draw(st.sampled_from([0, 1, 2, "apart"]))
    fields = draw(st.sampled_from(["h", "h c", "h c t", "h w", "h c y", "w h", "y h", "y c w t"])).split()
    if recurrent in ("diagonal", "blocks"):
        fields = sorted(fields, key="hcwyt".index)
        fields = fields if fields[0] in "hc" else ["h", *fields]
    operand = draw(st.sampled_from(["one", "two"]))
    alike = fields[0] in "hc" and operand == "one"  # what gates are called with is as wide as the first field
    if recurrent in ("diagonal", "blocks"):
        operand, alike = "one", True
    kinds = ["whole", "parts", "called", "whole and parts", "parts and called", "whole, parts and called"]
    apart = biases == "apart"
    if not alike:
        kinds = draw(st.sampled_from([["whole", "parts", "whole and parts"], ["called"]]))
        operand = operand if kinds == ["called"] else "first"
    gates = [] if recurrent == "none" else [f"g{k}" for k in range(draw(st.integers(1, 3)))]
    recurrent = "dense" if recurrent == "none" else recurrent
    inputs = [f"n{k}" for k in range(draw(st.integers(0 if gates else 1, 2)))]
    further = draw(st.lists(st.sampled_from(["vectors", "matrix", "narrow matrix", "constants", "norm"]), unique=True))
    steps = st.tuples(st.sampled_from([*ONE, *TWO]), st.integers(0, 30), st.integers(0, 30))
    body = Body(
        ways={gate: draw(st.sampled_from(kinds)) for gate in gates},
        inputs=inputs,
        apart=apart,
        fields=fields,
        operand=operand,
        further=further,
        plan=draw(st.lists(steps, min_size=2, max_size=10)),
        swaps=draw(st.booleans()),
    )
    return declared(body, recurrent, biases)
