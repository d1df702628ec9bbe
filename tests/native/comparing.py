"""A layer in the compiled core beside the same layer run eagerly: outputs, states at every step, and every gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
"""How far the core may be from eager in float64, as a share of the largest number of the tensor, or of `SMALLEST` where
that is larger. Float32 is held against eager in float64 with the same weights, so that eager's own rounding has no part
in it; the worst of the catalogue is layer normalisation, whose derivative takes large numbers from each other."""

SMALLEST = 1e-2

VARIANTS: dict[str, Cell] = {
    **CATALOGUE,
    "elman, relu": CATALOGUE["elman"](activation="relu"),
    "elman, softplus": CATALOGUE["elman"](activation="softplus"),
    "elman, sin": CATALOGUE["elman"](activation="sin"),
    "elman, identity": CATALOGUE["elman"](activation="identity"),
    "indrnn, logistic": CATALOGUE["indrnn"](activation="logistic"),
    "jordan, 3 outputs": CATALOGUE["jordan"](output_size=3, output_activation="identity"),
    "clockwork, periods 1 and 3": CATALOGUE["clockwork"](periods=(1, 3)),
    "lstm_projected, 3": CATALOGUE["lstm_projected"](proj_size=3),
    "slstm, 2 heads": CATALOGUE["slstm"](heads=2),
}
"""Every cell of the catalogue, and those of its options that change the program."""

Cotangents = Literal["all", "output", "final", "last field", "sum", "one step", "strided"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Sizes and options of a run.

    Attributes:
        T, B, I, H: Steps, rows, and the widths of the input and of the state; H is rounded up to whole heads.
        dtype: What the core computes in.
        flags: Which of "lengths", "mask" and "reset" are given, in one text.
        has_state: Whether the state before the first step is given, and has a gradient.
        cotangents: Which results have a gradient, and how it lies in memory; of "output", "final" and "one step" the
            states at every step are not even asked for.
        frozen: Parameters whose names hold this have none.
        of_x: Whether x has one.
        options: Of the layer.
    """

    T: int = 5
    B: int = 3
    I: int = 3  # noqa: E741 the letter of the equations
    H: int = 4
    dtype: torch.dtype = torch.float64
    flags: str = ""
    has_state: bool = True
    cotangents: Cotangents = "all"
    frozen: str = "no such name"
    of_x: bool = True
    options: tuple[tuple[str, Any], ...] = ()

    def __str__(self) -> str:
        words = [f"T{self.T}B{self.B}I{self.I}H{self.H}", str(self.dtype).removeprefix("torch.float")]
        words += [*self.flags.split(), self.cotangents, *(f"{k}={v}" for k, v in self.options)]
        return " ".join(words)


def case(flags: str = "", cotangents: Cotangents = "all", **others: Any) -> Case:
    """A case; what is no field of one is an option of the layer."""
    names = Case.__dataclass_fields__
    options = tuple((k, v) for k, v in others.items() if k not in names)
    return Case(flags=flags, cotangents=cotangents, options=options, **{k: v for k, v in others.items() if k in names})


@dataclass
class Given:
    """What both layers are run on, in float64."""

    x: Tensor
    state: list[Tensor] | None
    flags: dict[str, Tensor]


def hidden_size(cell: Cell, H: int) -> int:
    """H, or more where the units are shared out among heads."""
    heads = cell.options.get("heads", 1) if cell.recurrent == "blocks" else 1
    return -(-H // heads) * heads


def pair(cell: Cell, at: Case, seed: int = 0) -> tuple[Recurrent, Recurrent]:
    """The layer in the compiled core in `at.dtype`, and the eager one in float64, with the same random parameters."""
    torch.manual_seed(seed)
    options = dict(at.options)
    ours = Recurrent(cell, at.I, hidden_size(cell, at.H), **options, backend="native", dtype=at.dtype)
    options.pop("memory", None)
    eager = Recurrent(cell, at.I, hidden_size(cell, at.H), **options, backend="eager", dtype=torch.float64)
    with torch.no_grad():
        for name, p in ours.named_parameters():
            p.normal_(std=min(0.5, 2 / max(at.I, at.H) ** 0.5))  # so that the state is neither lost nor chaotic
            p.requires_grad_(at.frozen not in name)
            other = eager.get_parameter(name)
            other.copy_(p)
            other.requires_grad_(p.requires_grad)
    return ours, eager


def drawn_for(layer: Recurrent, at: Case, seed: int = 1) -> Given:
    """Random inputs, state and flags."""
    torch.manual_seed(seed)
    assert isinstance(layer.cell, Cell)
    x = torch.randn(at.T, at.B, at.I).double()
    places, widths = len(layer._places), layer.cell.widths(hidden_size(layer.cell, at.H))
    state = []
    for field, width in zip(layer.cell.fields, widths, strict=True):
        value = torch.randn(places, at.B, width).double()
        if field.is_bookkeeping:
            value = torch.randint(0, 9, value.shape).double()
        elif (layer.cell.name, field.name) == ("slstm", "n"):
            value = value.abs() + 0.5  # it is divided by: a sum of weights, which are positive
        state.append(value)
    flags = {}
    if "lengths" in at.flags:
        flags["lengths"] = torch.randint(0, at.T + 1, (at.B,))
    if "mask" in at.flags:
        flags["mask"] = torch.rand(at.T, at.B) < 0.7
    if "reset" in at.flags:
        flags["reset"] = torch.rand(at.T, at.B) < 0.3
    if layer.batch_first:
        x, flags = x.transpose(0, 1), {k: v.transpose(0, 1) if v.dim() == 2 else v for k, v in flags.items()}
    return Given(x, state if at.has_state else None, flags)


def flat(results: Any) -> list[Tensor]:
    """Every tensor of what a layer returns."""
    if isinstance(results, Tensor):
        return [results]
    return [tensor for part in results for tensor in flat(part)]


def cotangents(at: Case, output: Tensor, final: Sequence[Tensor], every: Sequence[Tensor]) -> list[Tensor | None]:
    """A gradient, or none, for each result: the output, the last state, all states."""
    results = [output, *final, *every]
    drawn: list[Tensor | None] = [torch.randn(v.shape).to(v.dtype) for v in results]
    if at.cotangents == "sum":
        return [torch.ones((), dtype=v.dtype).expand_as(v) for v in results]
    if at.cotangents == "strided":
        return [torch.randn(v.shape[::-1]).to(v.dtype).permute(*range(v.dim())[::-1]) for v in results]
    if at.cotangents == "one step":
        some = torch.zeros_like(output)
        some[at.B // 2 if at.options and dict(at.options).get("batch_first") else at.T // 2] = 1
        drawn = [some if v is output else None for v in results]
    picked = {"output": [output], "final": final, "last field": every[-1:]}.get(at.cotangents)
    if picked is None:
        return drawn
    return [d if any(v is p for p in picked) else None for v, d in zip(results, drawn, strict=True)]


def results(layer: Recurrent, at: Case, on: Given, seed: int = 2) -> dict[str, Tensor]:
    """What a layer returns, and the gradients of x, of the state and of every parameter."""
    dtype = next(layer.parameters()).dtype
    x = on.x.to(dtype).requires_grad_(at.of_x)
    state = None if on.state is None else [v.to(dtype).requires_grad_() for v in on.state]
    with_states = at.cotangents not in ("output", "final", "one step")  # else one field is asked for at every step
    output, final, *more = layer(x, state, **on.flags, return_states=with_states)
    names = [f"{kind} {name}" for kind in ("last", "every")[: 1 + with_states] for name in layer.state_type._fields]
    finals, everys = flat(final), flat(more)
    torch.manual_seed(seed)
    pairs = zip([output, *finals, *everys], cotangents(at, output, finals, everys), strict=True)
    begun = [(v, g) for v, g in pairs if g is not None and v.requires_grad]
    sources = {name: p for name, p in layer.named_parameters() if p.requires_grad}
    sources |= {"x": x} if at.of_x else {}
    sources |= {} if state is None else dict(zip((f"state {n}" for n in layer.state_type._fields), state, strict=True))
    outputs, gradients = zip(*begun, strict=True)
    found = torch.autograd.grad(outputs, list(sources.values()), gradients, materialize_grads=True)
    values = dict(zip(["output", *names], [output, *finals, *everys], strict=True))
    return {k: v.detach() for k, v in values.items()} | {f"δ {k}": g for k, g in zip(sources, found, strict=True)}


def off(found: Tensor, expected: Tensor) -> float:
    """How far a tensor is from what is expected, as `TOLERANCE` has it; infinite where NaN or infinities differ."""
    assert found.shape == expected.shape
    a, b = found.detach().double(), expected.detach().double()
    finite = b.isfinite()
    if not torch.equal(a[~finite].nan_to_num(0.5), b[~finite].nan_to_num(0.5)) or not a[finite].isfinite().all():
        return float("inf")
    if not finite.any():
        return 0.0
    return float((a[finite] - b[finite]).abs().max() / b[finite].abs().max().clamp_min(SMALLEST))


def distances(cell: Cell, at: Case, seed: int = 0) -> dict[str, float]:
    """How far each result of the core is from eager's."""
    ours, eager = pair(cell, at, seed)
    assert ours.choice.backend == "native"
    on = drawn_for(ours, at, seed + 1)
    expected = results(eager, at, on)
    return {name: off(v, expected[name]) for name, v in results(ours, at, on).items()}


def check(cell: Cell, at: Case, seed: int = 0) -> None:
    """The core and eager agree."""
    wrong = {name: d for name, d in distances(cell, at, seed).items() if not d <= TOLERANCE[at.dtype]}
    assert not wrong, f"{cell!r}, {at}: off by {wrong}"
