"""Every cell of the catalogue against the NumPy reference beside this file: outputs, final state, all gradients."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy_cells as reference
import pytest
import torch
from numpy_cells import ACTIVATIONS, gradients, slope

from recurra.cells import CATALOGUE, Cell
from recurra.nn import Recurrent

Values = dict[str, np.ndarray]

STEPS, ROWS, INPUT, HIDDEN = 5, 3, 4, 6
TOLERANCE = 1e-11
"""Of the largest entry; both sides compute in double precision."""
TOLERANCE_LONG = 1e-9
"""The same for runs of hundreds of steps, over which rounding adds up."""

AFFINE = ("integrator", "min_gru", "min_lstm", "linear_recurrence")
"""The cells that are affine in their state, which a layer runs in parallel over time if it may choose."""

STEP_BY_STEP = (
    "elman",
    "jordan",
    "indrnn",
    "lstm",
    "lstm_peephole",
    "lstm_layer_norm",
    "slstm",
    "gru",
    "gru_reset_after",
)
"""Cells that are also run eagerly; of themselves they run in the core."""

AT_REST = {"m": -np.inf}
"""Where a state field begins, if not at zero."""


class Case(NamedTuple):
    name: str
    function: Callable[..., reference.Run]
    options: dict[str, Any]
    backend: Literal["auto", "eager", "native", "scan"]

    @property
    def cell(self) -> Cell:
        return CATALOGUE[self.name](**self.options)

    def layer(self, **options: Any) -> Recurrent:
        layer = Recurrent(self.cell, INPUT, HIDDEN, backend=self.backend, dtype=torch.float64, **options)
        assert layer.choice.backend == ("native" if self.backend == "auto" else self.backend)
        return layer


def case(
    name: str,
    *activations: str,
    sizes: dict[str, Any] | None = None,
    backend: Literal["auto", "eager", "native", "scan"] = "auto",
    **options: Any,
) -> Case:
    """A cell and the reference of the same name; activations are the options that take one, in order.

    `sizes` are options that the reference reads off its weights.
    """
    function = getattr(reference, name)
    named = dict(zip(("activation", "output_activation"), activations, strict=False))
    functions = (ACTIVATIONS[activation] for activation in activations)
    ours = dict(zip("fg", functions, strict=False))
    return Case(name, partial(function, **ours, **options), {**named, **options, **(sizes or {})}, backend)


CASES = {
    "elman": case("elman"),
    **{f"elman, {f}": case("elman", f) for f in ACTIVATIONS},
    "jordan": case("jordan"),
    "jordan, 2 outputs": case("jordan", sizes={"output_size": 2}),
    "jordan, other activations": case("jordan", "logistic", "identity", sizes={"output_size": 2}),
    "irnn": case("irnn"),
    "indrnn": case("indrnn"),
    "indrnn, tanh": case("indrnn", "tanh"),
    "integrator": case("integrator"),
    "integrator, softplus": case("integrator", "softplus"),
    "residual": case("residual"),
    "residual, relu": case("residual", "relu"),
    "leaky": case("leaky"),
    "leaky, softplus, up to 7 steps": case("leaky", "softplus", longest=7.0),
    "clockwork": case("clockwork"),
    "clockwork, 1 2 3": case("clockwork", periods=(1, 2, 3)),
    "lstm": case("lstm"),
    "lstm_no_forget": case("lstm_no_forget"),
    "lstm_peephole": case("lstm_peephole"),
    "lstm_coupled": case("lstm_coupled"),
    "lstm_projected": case("lstm_projected"),
    "lstm_projected, to 3": case("lstm_projected", sizes={"proj_size": 3}),
    "lstm_layer_norm": case("lstm_layer_norm"),
    "slstm": case("slstm"),
    "slstm, 2 heads": case("slstm", sizes={"heads": 2}),
    "gru": case("gru"),
    "gru_reset_after": case("gru_reset_after"),
    "gru_layer_norm": case("gru_layer_norm"),
    "mgu": case("mgu"),
    "min_gru": case("min_gru"),
    "min_lstm": case("min_lstm"),
    "linear_recurrence": case("linear_recurrence"),
    **{f"{name}, step by step": case(name, backend="eager") for name in (*AFFINE, *STEP_BY_STEP)},
    **{f"{name}, in parallel": case(name, backend="scan") for name in AFFINE},
}


def by_symbol(cell: Cell, parameters: Values) -> Values:
    """The symbols of the equations from one layer's stacked parameters, laid out as docs/conventions.md says."""
    every = (*cell.gates, *cell.inputs)
    found = {}
    for name, value in parameters.items():
        if name == "weight_ih":
            found |= {f"W_{gate}": W for gate, W in zip(every, np.split(value, len(every)), strict=True)}
        elif name == "weight_hh":
            parts = np.split(value, len(cell.gates), axis=1 if value.ndim == 3 else 0)  # (heads, rows, columns)
            found |= {f"U_{gate}": U for gate, U in zip(cell.gates, parts, strict=True)}
        elif name == "bias_hh":
            found |= {f"b'_{gate}": b for gate, b in zip(cell.gates, np.split(value, len(cell.gates)), strict=True)}
        elif name in ("bias", "bias_ih"):
            found |= {f"b_{gate}": b for gate, b in zip(every, np.split(value, len(every)), strict=True)}
        else:
            found[name] = value
    assert set(found) == set(cell.symbols)
    return found


def drawn_parameters(cell: Cell, rng: np.random.Generator) -> Values:
    """Unequal random parameters, stacked."""
    shapes = cell.shapes(INPUT, HIDDEN).items()
    return {name: rng.normal(size=shape) / (2 if name == "weight_hh" else 1) for name, shape in shapes}


def drawn_state(cell: Cell, rng: np.random.Generator) -> Values:
    """A random state; a sum of positive terms, the normaliser n, is positive, and a time t a whole number."""
    state = {}
    for name, width in zip(cell.state_type._fields, cell.widths(HIDDEN), strict=True):
        state[name] = rng.normal(size=(ROWS, width))
        if name == "n":
            state[name] = 0.5 + np.abs(state[name])
        if name == "t":
            state[name] = rng.integers(0, np.lcm.reduce(cell.options["periods"]), (ROWS, width)).astype(float)
    return state


def state_at_rest(cell: Cell) -> Values:
    fields = zip(cell.state_type._fields, cell.widths(HIDDEN), strict=True)
    return {name: np.full((ROWS, width), AT_REST.get(name, 0.0)) for name, width in fields}


def filled(layer: Recurrent, suffix: str, parameters: Values) -> None:
    """Put parameters into one layer and direction."""
    with torch.no_grad():
        for name, value in parameters.items():
            layer.get_parameter(name + suffix).copy_(torch.tensor(value))


def weighted(results: dict[str, Any], weights: dict[str, Any]) -> Any:
    """A loss of many results: their sum by given weights; a time is no function of anything."""
    return sum((results[name] * weights[name]).sum() for name in weights)


def close(found: torch.Tensor, expected: np.ndarray, tolerance: float = TOLERANCE) -> bool:
    difference = np.abs(found.detach().numpy() - expected).max()
    return bool(difference <= tolerance * np.abs(expected).max())


def test_every_cell_has_a_reference() -> None:
    assert {case.name for case in CASES.values()} == set(CATALOGUE)


@pytest.mark.parametrize("given", [True, False], ids=["state given", "at rest"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_final_state_and_gradients(case: Case, given: bool) -> None:
    cell, rng = case.cell, np.random.default_rng(20260901)
    parameters = drawn_parameters(cell, rng)
    state = drawn_state(cell, rng) if given else state_at_rest(cell)
    moved = {name: value for name, value in state.items() if given and name != "t"}
    values = by_symbol(cell, parameters) | {"x": rng.normal(size=(STEPS, ROWS, INPUT))} | moved

    def run(values: Values) -> Values:
        outputs, final = case.function(values, values["x"], *(values.get(name, state[name]) for name in state))
        return {"outputs": outputs, **dict(zip(state, final, strict=True))}

    expected = run(values)
    weights = {name: rng.normal(size=value.shape) for name, value in expected.items() if name != "t"}

    layer = case.layer()
    assert {name.removesuffix("_l0") for name, _ in layer.named_parameters()} == set(parameters)
    filled(layer, "_l0", parameters)
    x = torch.tensor(values["x"], requires_grad=True)
    begun = {name: torch.tensor(value)[None].requires_grad_(name in moved) for name, value in state.items()}
    outputs, final = layer(x, tuple(begun.values()) if given else None)
    found = {"outputs": outputs, **{name: value[0] for name, value in final._asdict().items()}}
    assert set(found) == set(expected)
    for name, value in found.items():
        assert close(value, expected[name]), name

    weighted(found, {name: torch.tensor(weight) for name, weight in weights.items()}).backward()
    slopes = gradients(lambda values: weighted(run(values), weights), values)
    learnt = {name: layer.get_parameter(f"{name}_l0").grad for name in parameters}
    assert all(gradient is not None for gradient in learnt.values())
    found = by_symbol(cell, {name: gradient.numpy() for name, gradient in learnt.items() if gradient is not None})
    for name, leaf in {"x": x, **{name: begun[name] for name in moved}}.items():
        assert leaf.grad is not None, name
        found[name] = leaf.grad.numpy().reshape(slopes[name].shape)
    assert set(found) == set(slopes)
    for name, gradient in found.items():
        assert close(torch.tensor(gradient), slopes[name]), f"the gradient of {name}"


def stacked_run(case: Case, values: Values, suffixes: list[list[str]]) -> Values:
    """Layers of two directions by hand: each run forwards and over the sequence turned round, then put side by side."""
    x, finals = values["x"], []
    for layer in suffixes:
        outputs = []
        for suffix, turn in zip(layer, (1, -1), strict=False):
            ending = f" {suffix}"
            w = {name.removesuffix(ending): value for name, value in values.items() if name.endswith(ending)}
            out, final = case.function(w, x[::turn], *state_at_rest(case.cell).values())
            outputs.append(out[::turn])
            finals.append(final)
        x = np.concatenate(outputs, axis=-1)
    fields = zip(*finals, strict=True)
    return {"outputs": x, **{name: np.stack(f) for name, f in zip(case.cell.state_type._fields, fields, strict=True)}}


def compared_along_a_direction(
    case: Case, layer: Recurrent, suffixes: list[list[str]], steps: int, tolerance: float
) -> None:
    """A layer against the reference: results, and the derivative along a random direction in all values at once."""
    cell, rng = case.cell, np.random.default_rng(11)
    x = torch.tensor(rng.normal(size=(steps, ROWS, INPUT)), requires_grad=True)
    leaves = {**dict(layer.named_parameters()), "x": x}
    directions = {name: rng.normal(size=tuple(leaf.shape)) for name, leaf in leaves.items()}

    def symbols(values: Values) -> Values:
        found = {"x": values["x"]}
        for suffix in (suffix for pair in suffixes for suffix in pair):
            own = {name: values[name + suffix] for name in cell.shapes(INPUT, HIDDEN)}
            found |= {f"{name} {suffix}": value for name, value in by_symbol(cell, own).items()}
        return found

    values = symbols({name: leaf.detach().numpy() for name, leaf in leaves.items()})
    expected = stacked_run(case, values, suffixes)
    outputs, final = layer(x)
    found = {"outputs": outputs, **final._asdict()}
    for name, value in found.items():
        assert close(value, expected[name], tolerance), name

    weights = {name: rng.normal(size=value.shape) for name, value in expected.items() if name != "t"}
    weighted(found, {name: torch.tensor(weight) for name, weight in weights.items()}).backward()

    def loss(values: Values) -> np.ndarray:
        return weighted(stacked_run(case, values, suffixes), weights)

    parts = []
    for name, leaf in leaves.items():
        assert leaf.grad is not None, name
        parts.append(leaf.grad.numpy() * directions[name])
    slope_there = slope(loss, values, symbols(directions))
    scale = sum(np.abs(part).sum() for part in parts)  # what rounding is measured by, since the terms may cancel
    assert abs(sum(part.sum() for part in parts) - slope_there) <= tolerance * scale
    assert abs(slope_there) > 1e-3 * scale, "the direction shows nothing"


@pytest.mark.parametrize(
    "name",
    ["elman", "jordan, 2 outputs", "clockwork", "lstm", "lstm_projected, to 3", "slstm, 2 heads", "gru", "min_gru"],
)
def test_two_bidirectional_layers(name: str) -> None:
    torch.manual_seed(5)
    case = CASES[name]
    layer = case.layer(num_layers=2, bidirectional=True)
    suffixes = [["_l0", "_l0_reverse"], ["_l1", "_l1_reverse"]]
    compared_along_a_direction(case, layer, suffixes, 7, TOLERANCE)


@pytest.mark.parametrize(
    "name", ["lstm", "gru", "slstm", "min_lstm", "linear_recurrence", "linear_recurrence, step by step"]
)
def test_three_hundred_steps(name: str) -> None:
    torch.manual_seed(5)
    case = CASES[name]
    layer = case.layer()
    compared_along_a_direction(case, layer, [["_l0"]], 300, TOLERANCE_LONG)


def exact_slstm(nets: np.ndarray) -> tuple[list[Decimal], Decimal, Decimal]:
    """One unit of the sLSTM without its stabiliser, from net inputs z i f o, (T, 4), in decimals whose exponent has
    hardly a bound: h at every step, the last c and n.
    """
    c, n, outputs = Decimal(0), Decimal(0), []
    for z, i, f, o in ((Decimal(float(value)) for value in row) for row in nets):
        forget, out = 1 / (1 + (-f).exp()), 1 / (1 + (-o).exp())
        c = forget * c + i.exp() * (1 - 2 / (1 + (2 * z).exp()))
        n = forget * n + i.exp()
        outputs.append(out * c / n)
    return outputs, c, n


def slstm_of_net_inputs() -> Recurrent:
    """One unit whose inputs are the net inputs z i f o themselves."""
    layer = Recurrent("slstm", 4, 1, dtype=torch.float64)
    filled(layer, "_l0", {"weight_ih": np.eye(4), "weight_hh": np.zeros((1, 4, 1)), "bias": np.zeros(4)})
    return layer


@pytest.mark.parametrize("size", [80, 800])
def test_slstm_with_large_gates(size: int) -> None:
    rng = np.random.default_rng(3)
    nets = rng.choice([-1.0, 1.0], (9, ROWS, 4)) * size + rng.normal(size=(9, ROWS, 4))
    nets[..., 0] = rng.normal(size=(9, ROWS))  # the cell input z is no gate
    layer = slstm_of_net_inputs()
    x = torch.tensor(nets, requires_grad=True)
    outputs, final = layer(x)
    (outputs.sum() + final.c.sum() + final.n.sum() + final.m.sum()).backward()
    assert x.grad is not None
    for value in (outputs, *final, x.grad, *(p.grad for p in layer.parameters())):
        assert value is not None
        assert value.isfinite().all()
    for row in range(ROWS):
        with localcontext(prec=60, Emax=999_999, Emin=-999_999):
            expected, c, n = exact_slstm(nets[:, row])
            scale = (-Decimal(final.m[0, row].item())).exp()
            wanted = [float(value) for value in (*expected, c * scale, n * scale)]
        found = [*outputs[:, row, 0].tolist(), final.c[0, row].item(), final.n[0, row].item()]
        np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-300)


def test_slstm_stabiliser_is_the_largest_term_of_the_normaliser() -> None:
    """m_T is the largest of log i_k + Σ_(k < j <= T) log f_j, the logarithms of the terms whose sum is n."""
    rng = np.random.default_rng(4)
    nets = rng.normal(size=(9, ROWS, 4)) * 3
    layer = slstm_of_net_inputs()
    _, final = layer(torch.tensor(nets))
    log_i, log_f = nets[..., 1], np.log(reference.logistic(nets[..., 2]))
    largest = np.max([log_i[k] + log_f[k + 1 :].sum(axis=0) for k in range(9)], axis=0)
    np.testing.assert_allclose(final.m[0, :, 0].detach().numpy(), largest, rtol=1e-12)
