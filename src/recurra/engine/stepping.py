"""Layers that take one step after another in the compiled core, with the least that a step can do.

What W and U multiply that is known when a step begins, x and the old h, is brought to net inputs in products of all
gates at once; the program that then runs begins with these. A gate whose U multiplies something else, or whose parts
the cell's equations take apart, has its product in the program.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from recurra.cells.form import Cell, Use
from recurra.engine import lower
from recurra.engine.eager import State
from recurra.engine.fused import Fused
from recurra.engine.kernel import Loaded
from recurra.engine.lower import Form
from recurra.engine.native import core
from recurra.engine.program import Graph
from recurra.engine.trace import Step, trace


def folded(step: Step) -> tuple[Step, tuple[str, ...]]:
    """A step in which W_g x stands for W_g x + U_g h, and the gates g for which it does.

    They are those whose two products are added up at once, U's being with the old h, and are not used apart.
    """
    graph, (first, *_) = step.graph, step.old.values()
    new = [i for parts in step.new.values() for i in parts]
    order = graph.needed(new)
    uses = Counter([*new, *(a for i in order for a in graph[i].args)])
    place_of: dict[int, int] = {}
    out, gates = Graph(), []

    def is_net_input(x: int, product: int) -> bool:
        (a, b), alone = (graph[x], graph[product]), uses[x] == uses[product] == 1
        return len(first) == 1 and alone and (a.op, b.op, b.args) == ("x", "U", first) and a.name == b.name

    for i in sorted({*order, *(i for parts in step.old.values() for i in parts)}):
        value = graph[i]
        if value.op == "add":
            pair = next((p for p in (value.args, value.args[::-1]) if is_net_input(*p)), None)
            if pair is not None:
                gates.append(graph[pair[0]].name)
                place_of[i] = place_of[pair[0]]
                continue
        place_of[i] = out.add(value._replace(args=tuple(place_of[a] for a in value.args)))
    fields = ({name: tuple(place_of[i] for i in parts) for name, parts in v.items()} for v in (step.new, step.old))
    return Step(out, *fields), tuple(gates)


class SteppedLayer:
    """One layer: a cell of one hidden_size.

    Args:
        cell: The cell.
        use: How its body takes its net inputs.
        hidden_size: Units.
        input_size: The width of x.
        has_bias: Whether the layer has biases; a cell's own where None.

    Raises:
        TraceError: The cell cannot be written down as a program.
    """

    def __init__(self, cell: Cell, use: Use, hidden_size: int, input_size: int, has_bias: bool | None = None) -> None:
        self.cell, self.hidden_size, self.input_size = cell, hidden_size, input_size
        step, self.folded = trace(cell, hidden_size), ()
        if not isinstance(cell.recurrent, str) or cell.recurrent == "dense":
            step, self.folded = folded(step)
        self.fused = Fused(cell, use, step, hidden_size, has_bias)
        kernel = self.fused.kernel
        self.gates = (*self.folded, *(g for g in kernel.form.gates if g not in self.folded))
        self.form = Form(self.gates, kernel.form.has_bias, kernel.form.is_diagonal)

    def tensors(self, weights: Mapping[str, Tensor], like: Tensor) -> list[Tensor]:
        """What the kernel is given."""
        state = self.cell.initial_state(1, self.hidden_size, like)
        x = like.new_empty(1, 1, self.input_size)
        return [v.contiguous() for v in self.fused.tensors(weights, x, state, state)]


class Steps:
    """Layers on top of each other in the core, their state, and packed copies of their parameters.

    Args:
        layers: The layers.
        weights: The parameters of each, by the names of `Cell.shapes`.
        rows: Rows of the batch.
    """

    def __init__(self, layers: Sequence[SteppedLayer], weights: Sequence[Mapping[str, Tensor]], rows: int) -> None:
        self.like = weights[0]["weight_ih"].detach()
        self.parts = [list(layer.fused.kernel.parts) for layer in layers]
        self.widths = [list(layer.fused.kernel.parts.values()) for layer in layers]
        self.rows = rows
        self._held: list[object] = []  # what the core points at
        is_double = self.like.dtype == torch.float64
        with torch.no_grad():
            given = [self._layer(layer, w, is_double) for layer, w in zip(layers, weights, strict=True)]
        width = sum(
            width
            for (name, _), width in zip(self.parts[-1], self.widths[-1], strict=True)
            if name == self.parts[-1][0][0]
        )
        shapes = [(width,), (rows, width)]
        arrays = np.empty, *((shape, self.like.numpy().dtype) for shape in shapes)
        tensors = torch.empty_like, *((self.like.new_empty(shape),) for shape in shapes)
        self.core = core().Stream(is_double, rows, torch.get_num_threads(), given, Tensor, arrays, tensors)

    def _layer(self, layer: SteppedLayer, weights: Mapping[str, Tensor], is_double: bool) -> tuple[object, ...]:
        """A layer as the core has it."""
        kernel, H = layer.fused.kernel, layer.hidden_size
        tensors = layer.tensors(weights, self.like)
        low = lower.forward(layer.form, layer.fused.kernel.step, ())
        z = low.array(("z",))
        parts = [(w, low.array(("states", *p)), low.array(("begun", *p))) for p, w in kernel.parts.items()]
        loaded = Loaded(kernel, low, is_backward=False, is_double=is_double, input_size=layer.input_size)
        places = [kernel.constants.get(key) for key in loaded.keys]
        arrays = [None if p is None else tensors[p[0]].narrow(-1, p[1], p[2]).clone() for p in places]
        memory, panels = kernel.packed(loaded, tensors)
        W = torch.cat([_of_gate(tensors[1], kernel.form.gates, g, H) for g in layer.gates])
        bias = None
        if layer.form.has_bias:
            bias = torch.cat([_of_gate(tensors[2], kernel.form.gates, g, H) for g in layer.gates])
        U = None
        if layer.folded:
            whole = tensors[kernel.places["U"]]
            U = self._packed(torch.cat([_of_gate(whole, kernel.spec.gates, g, H) for g in layer.folded]))
        W = self._packed(W)
        self._held += [loaded.program, arrays, memory, bias, U, W]
        return (
            loaded.program,
            [0 if v is None else v.data_ptr() for v in arrays],
            panels,
            parts,
            len(next(iter(kernel.step.old.values()))),
            layer.input_size,
            z,
            len(layer.gates) * H,
            len(layer.folded) * H,
            W.data_ptr(),
            0 if U is None else U.data_ptr(),
            0 if bias is None else bias.data_ptr(),
        )

    def run(self, x: Any, y: Any) -> None:
        """Take steps from x to y, both arrays of NumPy or both tensors, with or without axes for time and rows."""
        taken = self.core.block(*(v.reshape(-1, self.rows, v.shape[-1]) for v in (x, y)))
        assert taken

    def _packed(self, matrix: Tensor) -> Tensor:
        rows, columns = matrix.shape
        is_double = matrix.dtype == torch.float64
        panels = matrix.new_empty(core().packed_size(is_double, rows, columns, False))
        core().pack(is_double, [(matrix.data_ptr(), rows, columns, columns, False, panels.data_ptr())], 1)
        return panels

    def state(self) -> list[State]:
        """The state of each layer, a tensor (rows, width) for each field."""
        found = []
        for k, (parts, widths) in enumerate(zip(self.parts, self.widths, strict=True)):
            fields: dict[str, list[Tensor]] = {}
            for n, ((name, _), width) in enumerate(zip(parts, widths, strict=True)):
                value = self.like.new_empty(self.rows, width)
                self.core.read(k, n, value.data_ptr())
                fields.setdefault(name, []).append(value)
            found.append(tuple(torch.cat(v, -1) for v in fields.values()))
        return found

    def set_state(self, layers: Sequence[State]) -> None:
        """Set the state of each layer."""
        for k, fields in enumerate(layers):
            whole = torch.cat([v.expand(self.rows, -1) for v in fields], -1)
            for n, value in enumerate(whole.split(self.widths[k], -1)):
                value = value.contiguous()
                self.core.write(k, n, value.data_ptr())


def _of_gate(stacked: Tensor, gates: Sequence[str], gate: str, H: int) -> Tensor:
    return stacked.narrow(0, gates.index(gate) * H, H)
