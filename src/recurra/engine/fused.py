"""A cell along time in the compiled core, as PyTorch sees it: with derivatives, as operators, with a way back to eager.

`Fused.run` does what `recurra.engine.eager.run` does. In plain code it goes through an `autograd.Function`; where
PyTorch compiles, exports or looks on, through the operators `recurra::along` and `recurra::along_backward`, which say
what shapes they give without being run. A derivative of the derivative is taken from the same program in tensor code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_interpreter_stack, is_legacy_batchedtensor
from torch.autograd import forward_ad
from torch.nn.functional import linear

from recurra.cells.form import Cell, Use
from recurra.engine import eager
from recurra.engine.eager import State
from recurra.engine.interpret import compute
from recurra.engine.kernel import Kernel, Spec, kernel_of
from recurra.engine.layout import DROP, KEEP, RECOMPUTE, Ran
from recurra.engine.program import Value
from recurra.engine.trace import Step

DTYPES = (torch.float32, torch.float64)


class Fused:
    """A cell in the compiled core.

    Args:
        cell: The cell.
        use: How its body takes its net inputs.
        step: Its step, written down.
        hidden_size: Units.
        has_bias: Whether the layer has biases; a cell's own where None.
    """

    def __init__(self, cell: Cell, use: Use, step: Step, hidden_size: int, has_bias: bool | None = None) -> None:
        self.cell, self.use = cell, use
        biases = bool(cell.biases) if has_bias is None else has_bias
        heads = {"diagonal": 0, "blocks": cell.size("heads", hidden_size) if cell.recurrent == "blocks" else 1}
        spec = Spec(
            gates=cell.gates,
            inputs=cell.inputs,
            hidden_size=hidden_size,
            has_bias=biases and cell.biases != "apart",
            heads=heads.get(cell.recurrent, 1) if isinstance(cell.recurrent, str) else 1,
            matrices=tuple(m.name for m in cell.matrices),
        )
        self.kernel = Kernel(spec, step)

    def run(
        self,
        weights: Mapping[str, Tensor],
        x: Tensor,
        state: State,
        initial: State,
        *,
        fields: int,
        mask: Tensor | None = None,
        reset: Tensor | None = None,
        reverse: bool = False,
        recompute: bool = False,
        leading: bool = False,
        clean: bool = False,
        tidy: bool = False,
    ) -> tuple[State, State]:
        """Run along time.

        Args:
            weights: Parameters by the names of `Cell.shapes`, constants, and `mask_hh` where U has a mask.
            x, state, initial, mask, reset, reverse: As in `recurra.engine.eager.run`.
            fields: How many state fields are wanted at every step.
            recompute: Keep the states at some steps and run forward again for the derivative.
            leading: Give the final state an axis in front, of one layer and direction.
            clean: x is known to be finite where no step is taken.
            tidy: Give zeros where no step is taken; else the state that is held there.

        Returns:
            The first so many fields at every step, (T, B, width) each, and the final state, (B, width) or with
            `leading` (1, B, width) each.
        """
        kernel, second = self.kernel, None
        clean, tidy = clean or mask is None, tidy and mask is not None
        by_operator = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack()
        if by_operator and mask is not None and not clean:
            x = _where_taken(mask, x)
        if not by_operator and not kernel.computed and "bias_hh" in weights:
            weights = dict(weights)
            second = weights.pop("bias_hh").contiguous()
        tensors = [v.contiguous() for v in self.tensors(weights, x, state, initial)]
        along, names = kernel.counts[fields], list(kernel.step.old)
        wants = torch.is_grad_enabled() and any(v.requires_grad for v in (*tensors, x if second is None else second))
        mode = (RECOMPUTE if recompute else KEEP) if wants else DROP
        if by_operator:
            outputs = torch.ops.recurra.along(kernel.key, tensors, mask, reset, reverse, fields, mode)
            if mask is not None and tidy:
                outputs = [*(_where_taken(mask, v) for v in outputs[:along]), *outputs[along:]]
            final = outputs[along : along + len(kernel.parts)]
            final = [v.unsqueeze(0) for v in final] if leading else final
        elif wants:
            outputs = _Along.apply(kernel, (mask, reset, reverse, fields, mode, leading, clean, tidy), second, *tensors)
            final = outputs[along:]
        else:
            how = mask, reset, reverse, fields, mode, leading, clean, tidy
            _, ran, outputs = _forward(kernel, how, second, tensors)
            final = ran.final
        return self._by_field(outputs[:along], names[:fields]), self._by_field(final, names)

    def _by_field(self, parts: Sequence[Tensor], names: Sequence[str]) -> State:
        """The parts of each field side by side."""
        rest, fields = list(parts), []
        for name in names:
            count = len(self.kernel.step.old[name])
            fields.append(rest[0] if count == 1 else torch.cat(rest[:count], -1))
            del rest[:count]
        return tuple(fields)

    def tensors(self, weights: Mapping[str, Tensor], x: Tensor, state: State, initial: State) -> list[Tensor]:
        """What the kernel is given, in its order."""
        cell, kernel = self.cell, self.kernel
        bias, alone = eager.biases(cell, self.use, weights)
        tensors = [x, weights["weight_ih"]]
        if kernel.spec.has_bias:
            assert bias is not None
            tensors.append(bias)
        if cell.gates:
            U = weights["weight_hh"]
            if "mask_hh" in weights:
                U = (U.unflatten(0, (len(cell.gates), -1)) * weights["mask_hh"]).flatten(0, 1)
            tensors.append(U.squeeze(0) if kernel.spec.heads == 1 and U.dim() == 3 else U)
        tensors += [weights[m.name] for m in cell.matrices]
        tensors += self._vectors(weights, x, alone)
        for fields in (state, initial):
            for f, value in zip(cell.fields, fields, strict=True):
                widths = [width for (name, _), width in kernel.parts.items() if name == f.name]
                tensors += [value] if len(widths) == 1 else value.split(widths, -1)
        return tensors

    def _vectors(self, weights: Mapping[str, Tensor], x: Tensor, alone: Mapping[str, Tensor]) -> list[Tensor]:
        """What is the same for every row: parameters, constants, and what is computed from them alone."""
        kernel, graph = self.kernel, self.kernel.graph
        apart = eager.biases_apart(self.cell, weights)

        def leaf(value: Value) -> Tensor:
            if value.op == "bias":
                bias = (apart if self.cell.biases == "apart" else alone).get(value.name)
                return x.new_zeros(value.width) if bias is None else bias
            whole = weights[value.name]
            if len(whole) != value.width:  # views that change nothing cost as much as others
                whole = whole.narrow(0, value.part * value.width, value.width)
            return whole if whole.dtype == x.dtype else whole.to(x.dtype)

        order = graph.needed(kernel.vectors)
        leaves = {i: leaf(graph[i]) for i in order if graph[i].op in ("vector", "constant", "bias")}
        found = dict(leaves)
        if kernel.computed:
            rest = graph.needed(kernel.computed, leaves)
            found |= zip(kernel.computed, compute(graph, rest, kernel.computed, leaves), strict=True)
        return [
            found[i] if len(found[i]) == graph[i].width else found[i].expand(graph[i].width) for i in kernel.vectors
        ]


def _where_taken(mask: Tensor, v: Tensor) -> Tensor:
    """As `eager.where_taken`, laid out as the core has it and not as the mask happens to lie."""
    return eager.where_taken(mask, v).contiguous()


def why_not(x: Tensor, *others: Tensor) -> str | None:
    """Why the compiled core cannot take these tensors here, in words; None where it can."""
    if x.device.type != "cpu":
        return f"the compiled core runs on the CPU, not on {x.device}"
    if x.dtype not in DTYPES:
        return f"the compiled core computes in float32 or float64, not in {x.dtype}"
    if torch.compiler.is_compiling():
        return None
    if get_interpreter_stack():
        return "a transform of torch.func is at work"
    if forward_ad._current_level >= 0:
        return "a derivative is taken in forward mode"
    if torch.is_autocast_enabled(x.device.type):
        return "autocast is on"
    if torch._C._get_tracing_state() is not None:
        return "torch.jit.trace is at work"
    for tensor in (x, *others):
        if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
            return f"{type(tensor).__name__} is a tensor of another kind"
    return None


# --- plain code ------------------------------------------------------------------------------------------------------


def _joined(kernel: Kernel, tensors: Sequence[Tensor], second: Tensor | None) -> list[Tensor]:
    """What a kernel is given, from tensors among which the first biases stand alone, and the second ones."""
    joined = list(tensors)
    if second is None:
        return joined
    if not kernel.second_alone and len(second) == len(joined[2]):
        joined[2] = joined[2] + second
        return joined
    H = kernel.spec.hidden_size
    alone = dict(kernel.second_alone)
    pieces = list(joined[2].split(H))
    for k, bias in enumerate(second.split(H)):
        if k in alone:
            joined[alone[k]] = bias
        else:
            pieces[k] = pieces[k] + bias
    joined[2] = torch.cat(pieces)
    return joined


def _of_second(kernel: Kernel, found: Sequence[Tensor | None], second: Tensor) -> Tensor:
    """The gradient of the second biases, from those of what the kernel was given."""
    total = found[2]
    if not kernel.second_alone and total is not None and len(total) == len(second):
        return total
    H = kernel.spec.hidden_size
    pieces = [second.new_zeros(H)] * (len(second) // H) if total is None else list(total.split(H)[: len(second) // H])
    for k, n in kernel.second_alone:
        own = found[n]
        pieces[k] = second.new_zeros(H) if own is None else own
    return torch.cat(pieces)


def _forward(
    kernel: Kernel, how: Any, second: Tensor | None, tensors: Sequence[Tensor]
) -> tuple[list[Tensor], Ran, list[Tensor]]:
    """Run a kernel: what it was given, what it leaves behind, and the state at every step as the caller wants it."""
    mask, *others, clean, tidy = how
    given = _joined(kernel, tensors, second)
    if not clean:
        given[0] = _where_taken(mask, given[0])
    ran = kernel.forward(given, mask, *others)
    return given, ran, [_where_taken(mask, v) for v in ran.along] if tidy else ran.along


class _Along(torch.autograd.Function):
    """A kernel with its derivative. Two biases that are added up are so in here: for autograd that were many steps."""

    @staticmethod
    def forward(ctx: Any, kernel: Kernel, how: Any, second: Tensor | None, *tensors: Tensor) -> Any:
        given, ran, along = _forward(kernel, how, second, tensors)
        mask, reset, ctx.reverse, ctx.fields, ctx.mode, _, clean, ctx.tidy = how
        ctx.kernel, ctx.counts = kernel, (len(tensors), len(along))
        cleaned = None if clean else given[0]
        ctx.save_for_backward(mask, reset, second, cleaned, *tensors, *ran.along, *ran.saved)
        ctx.set_materialize_grads(False)
        return (*along, *ran.final)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        mask, reset, second, cleaned, *rest = ctx.saved_tensors
        (count, along), kernel = ctx.counts, ctx.kernel
        wants_second, *wanted = ctx.needs_input_grad[2:]
        tensors, states, saved = rest[:count], rest[count : count + along], rest[count + along :]
        of_bias, of_along, of_final = [n for _, n in kernel.second_alone], gradients[:along], gradients[along:]
        if wants_second:
            for n in (2, *of_bias):
                wanted[n] = True
        many = any(g is not None and is_legacy_batchedtensor(g) for g in gradients)  # `is_grads_batched`
        if torch.is_grad_enabled() or many:
            with torch.enable_grad():
                given = _joined(kernel, tensors, second)
                given[0] = given[0] if cleaned is None else _where_taken(mask, given[0])
            if ctx.tidy:
                of_along = [None if g is None else _where_taken(mask, g) for g in of_along]
            of_all = [*of_along, *(None if g is None else g.reshape(g.shape[-2:]) for g in of_final)]
            found = _in_tensor_code(kernel, given, of_all, mask, reset, ctx.reverse, ctx.fields, wanted)
        else:
            # Of what was added up nothing is read again, but where all is computed again, or the sum is no net input's.
            reads = ctx.mode != KEEP or kernel.reads_second
            given = _joined(kernel, tensors, second if reads else None)
            given[0] = given[0] if cleaned is None else cleaned
            found = kernel.backward(
                given, states, saved, of_along, of_final, mask, reset, ctx.reverse, ctx.mode, wanted, ctx.tidy
            )
        of_second = None if second is None or not wants_second else _of_second(kernel, found, second)
        return None, None, of_second, *found


def _in_tensor_code(
    kernel: Kernel,
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    fields: int,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of a kernel's tensors, themselves with derivatives: the program is run in tensor code."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        return _derived(kernel, tensors, gradients, mask, reset, reverse, fields, wanted, again)


def _derived(
    kernel: Kernel,
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    fields: int,
    wanted: Sequence[bool],
    again: bool,
) -> list[Tensor | None]:
    tensors = [v.view_as(v) for v in tensors]  # one tensor given in two places has a gradient in each
    places, parts = kernel.places, len(kernel.parts)
    begun, initial = tensors[places["begun"] : places["initial"]], tensors[places["initial"] :]
    step = _GraphStepper(kernel, tensors)
    along, final = eager.run(step, tensors[0], tuple(begun), tuple(initial), mask=mask, reset=reset, reverse=reverse)
    names = list(kernel.step.old)[:fields]
    count = sum(part[0] in names for part in kernel.parts)
    outputs = [*(torch.stack([state[k] for state in along]) for k in range(count)), *final[:parts]]
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    sources = [v for v, w in zip(tensors, wanted, strict=True) if w]
    if not pairs:
        return [None] * len(tensors)
    outputs, given = zip(*pairs, strict=True)
    found = iter(torch.autograd.grad(outputs, sources, given, create_graph=again, allow_unused=True))
    return [next(found) if w else None for w in wanted]


class _GraphStepper:
    """Steps of a program in tensor code, for `recurra.engine.eager.run`; the state goes by parts.

    Args:
        kernel: The kernel.
        tensors: What it is given.
    """

    def __init__(self, kernel: Kernel, tensors: Sequence[Tensor]) -> None:
        self.kernel, self.tensors = kernel, tensors
        graph, step = kernel.graph, kernel.step
        self.new = [(i, graph[step.old[name][k]].width) for name, v in step.new.items() for k, i in enumerate(v)]
        self.old = [i for parts in step.old.values() for i in parts]
        self.fixed = dict(zip(kernel.vectors, tensors[kernel.places["vectors"] :], strict=False))
        self.x = {v.name: i for i, v in enumerate(graph.values) if v.op == "x"}
        self.order = graph.needed([i for i, _ in self.new], [*self.fixed, *self.old, *self.x.values()])

    def prepare(self, x: Tensor) -> Sequence[Tensor]:
        """W x + b of every step."""
        return linear(x, self.tensors[1], self.tensors[2] if self.kernel.spec.has_bias else None).unbind(0)

    def __call__(self, prepared: Tensor, state: State) -> State:
        """One step."""
        z = dict(zip(self.kernel.form.gates, prepared.split(self.kernel.spec.hidden_size, -1), strict=True))
        given = {**self.fixed, **dict(zip(self.old, state, strict=True)), **{i: z[g] for g, i in self.x.items()}}
        found = compute(self.kernel.graph, self.order, [i for i, _ in self.new], given, self._product)
        rows = len(prepared)
        return tuple(v.expand(rows, width) for v, (_, width) in zip(found, self.new, strict=True))

    def _product(self, value: Value, operands: list[Tensor]) -> Tensor:
        spec, H = self.kernel.spec, self.kernel.spec.hidden_size
        rows = len(self.tensors[self.kernel.places["begun"]])
        widths = self.kernel.operands[value.op, value.name]
        wide = [v.expand(rows, w) for v, w in zip(operands, widths, strict=True)]
        v = torch.cat(wide, -1)
        matrix = self.tensors[self.kernel.tensor_of(value.op, value.name)]
        if value.op == "M":
            return linear(v, matrix.narrow(0, value.part * value.width, value.width))
        U, k = matrix, spec.gates.index(value.name)
        if spec.heads == 0:
            return v * U.narrow(0, k * H, H)
        if spec.heads == 1:
            return linear(v, U.narrow(0, k * H, H))
        r = H // spec.heads
        blocks = U.narrow(1, k * r, r)
        return torch.einsum("bhk,hrk->bhr", v.unflatten(-1, (spec.heads, -1)), blocks).flatten(1)


# --- operators -------------------------------------------------------------------------------------------------------


@torch.library.custom_op("recurra::along", mutates_args=(), device_types="cpu")
def _along(
    program: str,
    tensors: list[Tensor],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    fields: int,
    mode: int,
) -> list[Tensor]:
    kernel = kernel_of(program)
    ran = kernel.forward([v.contiguous() for v in tensors], mask, reset, reverse, fields, mode)
    return [*ran.along, *ran.final, *(ran.saved if mode == KEEP else [])]


@_along.register_fake
def _(
    program: str,
    tensors: list[Tensor],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    fields: int,
    mode: int,
) -> list[Tensor]:
    kernel, x = kernel_of(program), tensors[0]
    T, B = x.shape[0], x.shape[1]
    names = list(kernel.step.old)[:fields]
    along = [w for p, w in kernel.parts.items() if p[0] in names]
    saved = kernel.shapes_saved(fields, T, B) if mode == KEEP else []
    final = [x.new_empty(B, w) for w in kernel.parts.values()]
    return [*(x.new_empty(T, B, w) for w in along), *final, *(x.new_empty(shape) for shape in saved)]


@torch.library.custom_op("recurra::along_backward", mutates_args=(), device_types="cpu")
def _along_backward(
    program: str,
    tensors: list[Tensor],
    states: list[Tensor],
    saved: list[Tensor],
    gradients: list[Tensor | None],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    mode: int,
    wanted: list[bool],
) -> list[Tensor]:
    kernel, along = kernel_of(program), len(states)
    found = kernel.backward(
        [v.contiguous() for v in tensors],
        states,
        saved,
        gradients[:along],
        gradients[along:],
        mask,
        reset,
        reverse,
        mode,
        wanted,
    )
    return _apart(
        [torch.zeros_like(v) if g is None else g for g, v, w in zip(found, tensors, wanted, strict=True) if w]
    )


def _apart(tensors: list[Tensor]) -> list[Tensor]:
    """The same values; those behind others in one memory are copied, for an operator's results may not share any."""
    places: set[int] = set()
    found = []
    for tensor in tensors:
        place = tensor.untyped_storage().data_ptr()
        found.append(tensor.clone() if place in places or tensor.storage_offset() else tensor)
        places.add(place)
    return found


@_along_backward.register_fake
def _(
    program: str,
    tensors: list[Tensor],
    states: list[Tensor],
    saved: list[Tensor],
    gradients: list[Tensor | None],
    mask: Tensor | None,
    reset: Tensor | None,
    reverse: bool,
    mode: int,
    wanted: list[bool],
) -> list[Tensor]:
    return [torch.empty_like(v) for v, w in zip(tensors, wanted, strict=True) if w]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    ctx.program, tensors, mask, reset, ctx.reverse, fields, ctx.mode = inputs
    kernel = kernel_of(ctx.program)
    names = list(kernel.step.old)[:fields]
    along = sum(p[0] in names for p in kernel.parts)
    ctx.counts = len(tensors), along
    ctx.outputs = along + len(kernel.parts)
    ctx.wanted = [v.requires_grad for v in tensors]
    ctx.save_for_backward(mask, reset, *tensors, *output[:along], *output[ctx.outputs :])


def _backward(ctx: Any, gradients: list[Tensor | None]) -> Any:
    mask, reset, *rest = ctx.saved_tensors
    count, along = ctx.counts
    tensors, states, saved = rest[:count], rest[count : count + along], rest[count + along :]
    given = [g if g is None else g.contiguous() for g in gradients[: ctx.outputs]]
    found = iter(
        torch.ops.recurra.along_backward(
            ctx.program, tensors, states, saved, given, mask, reset, ctx.reverse, ctx.mode, ctx.wanted
        )
    )
    return None, [next(found) if w else None for w in ctx.wanted], None, None, None, None, None


_along.register_autograd(_backward, setup_context=_setup)
