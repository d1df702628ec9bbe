"""The checks of the battery, one function each: what must hold of a cell, whatever it computes."""

import copy
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.gradcheck import GradcheckError
from torch.func import functional_call, grad, jvp, vmap

from recurra.nn import Recurrent
from recurra.testing.formula import formula_faults, section
from recurra.testing.reference import compare
from recurra.testing.subject import TOLERANCES, Inapplicable, Results, Subject, fault, joined, same, slopes

STEPS, ROWS = 4, 3


@dataclass(frozen=True)
class Check:
    """One thing that must hold of every cell.

    Attributes:
        name: Its name.
        claim: What must hold, one sentence.
        advice: What to look for in a cell of which it does not hold.
        run: Raises `FaultError` where it does not hold, `Inapplicable` where it does not concern a cell.
    """

    name: str
    claim: str
    advice: str
    run: Callable[[Subject], None]


CHECKS: dict[str, Check] = {}
"""Every check by name, in the order in which they are run."""

TIME = "A body may keep nothing between its steps but the state: no attribute, global variable or counter of its own."
ROW = "A body treats every row by itself: no sum, mean or norm over the batch, no `if` on what all rows hold."
TRACE = "A body is made of PyTorch's functions of the tensors it is given: no .item(), no `if` on values, no NumPy."
OWN = "If the cell is right, the engine is not: please report it with the cell's lines."


def check(advice: str) -> Callable[[Callable[[Subject], None]], Callable[[Subject], None]]:
    """Register a check under its function's name; its docstring's first line is the claim."""

    def register(run: Callable[[Subject], None]) -> Callable[[Subject], None]:
        claim = (run.__doc__ or "").partition("\n")[0].rstrip(".")
        CHECKS[run.__name__] = Check(run.__name__, claim, advice, run)
        return run

    return register


def leaves_of(layer: Recurrent, x: Tensor, state: Sequence[Tensor] = ()) -> dict[str, Tensor]:
    """What slopes are taken of: all parameters, the input, and the fields of a given state that ask for them."""
    fields = zip(layer.state_type._fields, state, strict=False)
    return {
        **dict(layer.named_parameters()),
        "x": x,
        **{f"state {name}": v for name, v in fields if v.requires_grad},
    }


# --- the declaration -------------------------------------------------------------------------------------------------


@check("Saved states and models rely on them; if the change is meant, change what the test expects too.")
def names_and_shapes(subject: Subject) -> None:
    """State fields and parameters have the names and shapes that are declared and expected."""
    cell, layer = subject.cell, subject.layer()
    declared = cell.shapes(subject.input_size, subject.hidden_size)
    made = {name.removesuffix("_l0"): tuple(p.shape) for name, p in layer.named_parameters()}
    if made != declared:
        fault(f"the layer's parameters are {made}, but the cell declares {declared}")
    if [*layer.state_dict()] != [f"{name}_l0" for name in declared]:
        fault(f"what is saved is {[*layer.state_dict()]}, not the parameters alone")
    if subject.parameters is not None and dict(subject.parameters) != declared:
        fault(f"parameters {dict(subject.parameters)} are expected, but it has {declared}")
    fields = layer.state_type._fields
    if subject.state is not None and tuple(subject.state) != fields:
        fault(f"a state of {', '.join(subject.state)} is expected, but it is {', '.join(fields)}")


@check('The block is called "Formula:", and writes each parameter as W_g, U_g, b_g for a gate g, or by its name.')
def formula(subject: Subject) -> None:
    """The formula in the docstring has exactly the cell's parameters and numbers."""
    if not section(subject.cell, "Formula"):
        raise Inapplicable("its docstring has no block 'Formula:'")
    faults = formula_faults(subject.cell)
    if faults:
        fault("; ".join(faults))


@check(
    "Declare it at the top of a module, under the name of its function, and keep nothing in it that cannot be copied."
)
def copies(subject: Subject) -> None:
    """A layer that is copied, pickled, or saved and loaded is the same layer."""
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(STEPS, ROWS)
    try:
        pickle.dumps(layer)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        fault(f"a layer of it cannot be pickled: {error}")
    restore, arguments = subject.cell.__reduce__()[:2]  # what a pickle holds of it; read here without unpickling
    if restore(*arguments) != subject.cell:
        fault("what a pickle holds of it leads to another cell")
    loaded = subject.layer(2, bidirectional=True)
    loaded.load_state_dict(layer.state_dict(), strict=True)
    expected = subject.results(layer, x)
    for again, how in ((copy.deepcopy(layer), "copied"), (loaded, "saved and loaded")):
        same(subject.results(again, x), expected, (f"in a layer that was {how}", "in the layer itself"), tolerance=0.0)


# --- time ------------------------------------------------------------------------------------------------------------


@check(f"{TIME} Nor may it draw random numbers.")
def repeatable(subject: Subject) -> None:
    """The same run again gives the same numbers."""
    layer, x = subject.layer(backend="eager"), subject.inputs(STEPS, ROWS)  # a program would not show it
    first = subject.results(layer, x)
    same(subject.results(layer, x), first, ("the second time", "the first time"), tolerance=0.0)


@check("A body makes new tensors: no +=, no method whose name ends in _, no assignment into a tensor it was given.")
def nothing_overwritten(subject: Subject) -> None:
    """Inputs, given states and parameters are left as they were."""
    layer, x = subject.layer(backend="eager"), subject.inputs(STEPS, ROWS)
    begun = subject.begun(layer, ROWS)
    given = {"x": x, **dict(zip(layer.state_type._fields, begun, strict=True)), **dict(layer.named_parameters())}
    before = {name: v.detach().clone() for name, v in given.items()}
    with torch.no_grad():
        layer(x, begun)
        layer.step(x[0], begun)
    for name, v in given.items():
        if not torch.equal(v, before[name]):
            fault(f"a run overwrites {name}")


@check(TIME)
def step_is_sequence(subject: Subject) -> None:
    """Steps taken one at a time give what the sequence gives."""
    layer, x = subject.layer(2), subject.inputs(STEPS, ROWS).requires_grad_()
    begun = subject.begun(layer, ROWS)
    state, outputs, states = begun, [], []
    for x_t in x:
        output, state = layer.step(x_t, state)
        outputs.append(output)
        states.append(state)
    fields = layer.state_type._fields
    stepped = {"output": torch.stack(outputs)}
    stepped |= {f"final {name}": v for name, v in zip(fields, state, strict=True)}
    stepped |= {name: torch.stack([s[i] for s in states], 1) for i, name in enumerate(fields)}
    between = ("step by step", "as a sequence")
    same(stepped, subject.results(layer, x, begun), between, leaves_of(layer, x=x, state=begun))


@check(f"{TIME} What time it is, if it must know, is a field of the state.")
def carried_state(subject: Subject) -> None:
    """A sequence cut in two, its state carried on, gives what the whole gives."""
    layer, x = subject.layer(2), subject.inputs(STEPS, ROWS).requires_grad_()
    begun = subject.begun(layer, ROWS)
    whole, leaves = subject.results(layer, x, begun), leaves_of(layer, x=x, state=begun)
    for cut in range(STEPS + 1):
        first = subject.results(layer, x[:cut], begun)
        carried = [first[f"final {name}"] for name in layer.state_type._fields]
        parts = joined([first, subject.results(layer, x[cut:], carried)], "step")
        same(parts, whole, (f"cut before step {cut}", "in one piece"), leaves if cut == STEPS // 2 else None)


@check(f"{TIME} {OWN}")
def backward_direction(subject: Subject) -> None:
    """Running backward gives what running forward over the reversed sequence gives."""
    forward, backward = subject.layer(), subject.layer(reverse=True)
    backward.load_state_dict(forward.state_dict())
    x = subject.inputs(STEPS, ROWS).requires_grad_()
    begun = subject.begun(forward, ROWS)
    reset = torch.tensor([[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]]).bool()
    crossed = torch.cat([torch.zeros_like(reset[:1]), reset[1:].flip(0)])  # from step t to t - 1
    turned = subject.results(forward, x.flip(0), begun, reset=crossed)
    turned = {name: v if name.startswith("final") else v.flip(v.dim() - 3) for name, v in turned.items()}
    again = subject.results(backward, x, begun, own=dict(forward.named_parameters()), reset=reset)
    same(again, turned, ("backward", "forward over the reversed sequence"), leaves_of(forward, x=x, state=begun))


@check(f"{TIME} {OWN}")
def stacked_layers(subject: Subject) -> None:
    """Layers and directions run together give what they give one by one."""
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(STEPS, ROWS).requires_grad_()
    begun, below = subject.begun(layer, ROWS), x
    places: list[Results] = []
    for k in range(2):
        for suffix in (f"_l{k}", f"_l{k}_reverse"):
            one = Recurrent(
                subject.cell,
                below.shape[-1],
                subject.hidden_size,
                reverse=suffix.endswith("_reverse"),
                dtype=torch.float64,
            )
            own = {name: layer.get_parameter(name.removesuffix("_l0") + suffix) for name, _ in one.named_parameters()}
            state = [v[len(places) : len(places) + 1] for v in begun]
            places.append(subject.results(one, below, state, own))
        below = torch.cat([place["output"] for place in places[-2:]], -1)
    alone = {name: torch.cat([place[name] for place in places]) for name in places[0]} | {"output": below}
    between = ("in a stack of two bidirectional layers", "layer by layer")
    same(subject.results(layer, x, begun), alone, between, leaves_of(layer, x=x, state=begun))


# --- rows ------------------------------------------------------------------------------------------------------------


@check(ROW)
def rows_apart(subject: Subject) -> None:
    """Every row of a batch gives what it gives alone."""
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(STEPS, ROWS).requires_grad_()
    begun = subject.begun(layer, ROWS)
    rows = [subject.results(layer, x[:, b : b + 1], [v[:, b : b + 1] for v in begun]) for b in range(ROWS)]
    between = ("in a batch", "alone")
    same(subject.results(layer, x, begun), joined(rows, "row"), between, leaves_of(layer, x=x, state=begun))


@check(f"{ROW} {TIME}")
def padding(subject: Subject) -> None:
    """Nothing that stands behind a sequence's length reaches a result or a gradient, be it NaN."""
    lengths = [STEPS, 0, STEPS - 1, 1]
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(STEPS, len(lengths)).requires_grad_()
    begun = subject.begun(layer, len(lengths))
    outside = torch.arange(STEPS).unsqueeze(1) >= torch.tensor(lengths)
    padded = subject.results(layer, x.masked_fill(outside.unsqueeze(-1), torch.nan), begun, lengths=lengths)
    rows = []
    for b, length in enumerate(lengths):
        state = [v[:, b : b + 1] for v in begun]
        alone = subject.results(layer, x[:length, b : b + 1], state)
        rows.append({name: _held(name, v, alone, state, layer, length) for name, v in alone.items()})
    between = ("in a padded batch", "alone")
    same(padded, joined(rows, "row"), between, leaves_of(layer, x=x, state=begun))


def _held(name: str, value: Tensor, run: Results, state: list[Tensor], layer: Recurrent, length: int) -> Tensor:
    """A result of a short sequence, as it stands in a padded batch: outputs are zero there, states are held.

    A forward direction holds its last state, a backward one has not yet left the state that it began with.
    """
    beyond = STEPS - length
    if name.startswith("final") or not beyond:
        return value
    if name == "output":
        return torch.cat([value, value.new_zeros(beyond, *value.shape[1:])])
    began = state[layer.state_type._fields.index(name)]
    backward = torch.arange(len(began)).view(-1, 1, 1) % 2 == 1
    behind = torch.where(backward, began, run[f"final {name}"])
    return torch.cat([value, behind.unsqueeze(1).expand(-1, beyond, -1, -1)], 1)


@check(f"{TIME} {ROW}")
def masked_steps(subject: Subject) -> None:
    """Masked steps might as well not be there, be they NaN, anywhere in a sequence."""
    mask = torch.tensor([[1, 0, 1, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]]).bool()
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(mask.shape[1], len(mask)).requires_grad_()
    masked = subject.results(layer, x.masked_fill(~mask.T.unsqueeze(-1), torch.nan), mask=mask.T)
    kept = [name for name in masked if name == "output" or name.startswith("final")]
    rows = []
    for b, taken in enumerate(mask):
        output, final = layer(x[taken, b : b + 1])
        spread = x.new_zeros(len(taken), 1, output.shape[-1]).masked_scatter(taken.view(-1, 1, 1), output)
        rows.append({"output": spread, **{f"final {name}": v for name, v in final._asdict().items()}})
    between = ("in a batch with a mask", "without the masked steps")
    same({name: masked[name] for name in kept}, joined(rows, "row"), between, leaves_of(layer, x=x))


@check(TIME)
def resets(subject: Subject) -> None:
    """Where it is reset, a sequence begins anew, in both directions."""
    layer, x = subject.layer(2, bidirectional=True), subject.inputs(STEPS, 2).requires_grad_()
    cuts = (1, 3)
    reset = torch.zeros(STEPS, 2, dtype=torch.bool)
    reset[torch.tensor(cuts), torch.arange(2)] = True
    found = {"output": layer(x, reset=reset)[0]}
    pieces = [[layer(part)[0] for part in (x[:cut, b : b + 1], x[cut:, b : b + 1])] for b, cut in enumerate(cuts)]
    expected = {"output": torch.cat([torch.cat(piece) for piece in pieces], 1)}
    same(found, expected, ("with a reset", "cut there"), leaves_of(layer, x=x))


@check(f"{ROW} Sizes of 1 are sizes: squeeze(-1) and the like have no place in a body.")
def edges(subject: Subject) -> None:
    """No steps, no rows, one step of one row: each gives what it should."""
    layer = subject.layer(2, bidirectional=True)
    begun = subject.begun(layer, ROWS)
    none = subject.results(layer, subject.inputs(0, ROWS), begun, lengths=[0] * ROWS)
    if tuple(none["output"].shape) != (0, ROWS, layer.output_size):
        fault(f"of no steps the output is {tuple(none['output'].shape)}, not (0, {ROWS}, {layer.output_size})")
    kept = {f"final {name}": v for name, v in zip(layer.state_type._fields, begun, strict=True)}
    same(none, kept, ("after no steps", "before them"), tolerance=0.0)
    empty = subject.results(layer, subject.inputs(STEPS, 0))
    if tuple(empty["output"].shape) != (STEPS, 0, layer.output_size):
        fault(f"of no rows the output is {tuple(empty['output'].shape)}, not ({STEPS}, 0, {layer.output_size})")
    x = subject.inputs(1, 1).expand(1, 2, -1)
    single, twice = subject.results(layer, x[:, :1]), subject.results(layer, x)
    same(single, {n: v.narrow(v.dim() - 2, 0, 1) for n, v in twice.items()}, ("alone", "beside itself"))


# --- derivatives -----------------------------------------------------------------------------------------------------


def _differentiable(subject: Subject) -> tuple[Callable[..., tuple[Tensor, ...]], list[Tensor]]:
    """A small layer as a function of all that has a slope, its input, its state, its parameters; and those."""
    layer, x = subject.layer(bidirectional=True), subject.inputs(2, 2).requires_grad_()
    begun = subject.begun(layer, 2)
    leaves = leaves_of(layer, x=x, state=begun)

    def run(*values: Tensor) -> tuple[Tensor, ...]:
        given = dict(zip(leaves, values, strict=True))
        state = [given.pop(f"state {f.name}", v) for f, v in zip(subject.cell.fields, begun, strict=True)]
        output, final = functional_call(layer, given, (given.pop("x"), state), {"lengths": [2, 1]})
        return output, *(v for f, v in zip(subject.cell.fields, final, strict=True) if not f.is_bookkeeping)

    return run, [v.detach().requires_grad_() for v in leaves.values()]


def _only_smooth(subject: Subject) -> None:
    if not subject.smooth:
        raise Inapplicable("it is said not to be smooth, and at a kink differences are no derivative")


@check("Something in the body hides a slope (detach, .data) or has a backward of its own that is wrong.")
def gradients(subject: Subject) -> None:
    """Gradients are what finite differences give, and are finite where a state begins."""
    _only_smooth(subject)
    run, values = _differentiable(subject)
    try:
        gradcheck(run, values, fast_mode=True)
    except GradcheckError as error:
        fault(_first_words(error))
    layer, x = subject.layer(), subject.inputs(2, 1).requires_grad_()
    start = subject.cell.initial_state(1, subject.hidden_size, x)
    begun = [v.unsqueeze(0).requires_grad_(bool(v.isfinite().all())) for v in start]  # where one can be learnt
    results = subject.results(layer, x, begun)
    ones = {name: torch.ones_like(v) for name, v in results.items()}
    for name, v in slopes(results, ones, leaves_of(layer, x=x, state=begun)).items():
        if not v.isfinite().all():
            fault(f"{name}, where it begins as it does by itself, is not finite")


def _first_words(error: Exception) -> str:
    return " ".join(str(error).split("\n\n")[0].split())


@check("A function with a backward of its own must be differentiable itself (see `once_differentiable` in PyTorch).")
def second_gradients(subject: Subject) -> None:
    """Gradients of gradients are what finite differences give."""
    _only_smooth(subject)
    run, values = _differentiable(subject)
    try:
        gradgradcheck(run, values, fast_mode=True)
    except GradcheckError as error:
        fault(_first_words(error))


@check(f"{TRACE} A function with a backward of its own needs a jvp too.")
def forward_mode(subject: Subject) -> None:
    """Forward-mode derivatives agree with gradients."""
    run, values = _differentiable(subject)
    directions = tuple(torch.randn_like(v) for v in values)
    with warnings.catch_warnings():
        # PyTorch's own, when its forward mode is used for the first time.
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", DeprecationWarning)
        results, found = jvp(run, tuple(v.detach() for v in values), directions)[:2]
    weights = [torch.randn_like(v) for v in results]
    total = torch.stack([(v * w).sum() for v, w in zip(run(*values), weights, strict=True)]).sum()
    backward = torch.autograd.grad(total, values, materialize_grads=True)
    forward = sum(float((v * w).sum()) for v, w in zip(found, weights, strict=True))
    parts = torch.cat([(g * d).flatten() for g, d in zip(backward, directions, strict=True)])
    if not abs(forward - float(parts.sum())) <= TOLERANCES[torch.float64] * float(parts.abs().sum()):
        fault(f"along a random direction forward mode gives {forward:.6g}, and gradients {float(parts.sum()):.6g}")


@check(TRACE)
def vmapped(subject: Subject) -> None:
    """`vmap` over rows gives what each row gives, and its gradient."""
    layer, x = subject.layer(bidirectional=True), subject.inputs(STEPS, ROWS)
    own = {name: p.detach() for name, p in layer.named_parameters()}

    def run(own: dict[str, Tensor], x: Tensor, length: Tensor) -> Tensor:
        return functional_call(layer, own, (x,), {"lengths": length.reshape(1)})[0]

    lengths = torch.tensor([STEPS, 0, 2])
    rows = x.transpose(0, 1)
    found = {"output": vmap(run, (None, 0, 0), 1)(own, rows, lengths)}
    each = [run(own, row, n) for row, n in zip(rows, lengths, strict=True)]
    same(found, {"output": torch.stack(each, 1)}, ("under vmap", "row by row"))
    gradient = grad(lambda own, x, n: run(own, x, n).square().sum())
    together = vmap(gradient, (None, 0, 0))(own, rows, lengths)
    apart = [gradient(own, row, n) for row, n in zip(rows, lengths, strict=True)]
    expected = {f"the gradient of {name}": torch.stack([one[name] for one in apart]) for name in own}
    together = {f"the gradient of {name}": v for name, v in together.items()}
    same(together, expected, ("for each row under vmap", "row by row"))


# --- ways of running -------------------------------------------------------------------------------------------------


@check(f"{ROW} {OWN}")
def backends(subject: Subject) -> None:
    """Every way of running a layer gives what one step after another gives."""
    plain = subject.layer(2, bidirectional=True, backend="eager")
    steps, own = STEPS + 3, dict(plain.named_parameters())
    x, begun = subject.inputs(steps, ROWS).requires_grad_(), subject.begun(plain, ROWS)
    mask, reset = torch.rand(steps, ROWS) < 0.8, torch.rand(steps, ROWS) < 0.2
    chosen = subject.layer(2, bidirectional=True)
    if chosen.choice.backend == "eager":
        raise Inapplicable("it runs step by step and in no other way: " + chosen.choice.reason)
    others = [chosen]
    if chosen.choice.backend == "native" and chosen.can_scan:
        others.append(subject.layer(2, bidirectional=True, backend="scan"))
    for layer in others:
        for flags in ({}, {"lengths": [steps, 0, STEPS], "mask": mask, "reset": reset}):
            found, expected = (subject.results(one, x, begun, own, **flags) for one in (layer, plain))
            between = (f"by {layer.choice.backend!r}", "step by step")
            same(found, expected, between, leaves_of(plain, x=x, state=begun))


@check(
    "Some step loses digits, such as a difference of near numbers, or makes a tensor of another type than its inputs."
)
def single_precision(subject: Subject) -> None:
    """In 32 bits results and gradients are near those in 64 bits."""
    layer, x = subject.layer(bidirectional=True), subject.inputs(STEPS, ROWS)
    single = subject.layer(bidirectional=True, dtype=torch.float32)
    single.load_state_dict(layer.state_dict())
    layer.load_state_dict(single.state_dict())  # the same numbers, rounded
    x32 = x.float().requires_grad_()
    x64 = x32.detach().double().requires_grad_()
    found, expected = subject.results(single, x32), subject.results(layer, x64)
    for name, v in found.items():
        if v.dtype != torch.float32:
            fault(f"{name} is {v.dtype}, where inputs and parameters are torch.float32")
    between, tolerance = ("in 32 bits", "in 64"), TOLERANCES[torch.float32]
    same({name: v.double() for name, v in found.items()}, expected, between, tolerance=tolerance)
    weights = {name: torch.randn_like(v) for name, v in expected.items()}
    of_single = slopes(found, {name: w.float() for name, w in weights.items()}, leaves_of(single, x=x32))
    of_double = slopes(expected, weights, leaves_of(layer, x=x64))
    same({name: v.double() for name, v in of_single.items()}, of_double, between, tolerance=tolerance)


# --- the numbers -----------------------------------------------------------------------------------------------------


@check("The body and the reference are two readings of the same equations: see which of them the paper has.")
def reference(subject: Subject) -> None:
    """Results, and their derivative, are those of the independent reference."""
    if subject.reference is None:
        raise Inapplicable("no reference is given")
    compare(subject)
