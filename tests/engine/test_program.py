"""Programs of steps: what is written down is what the body computes, and the derivative is the one autograd finds."""

import itertools
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import recurra
from recurra.cells import CATALOGUE, Cell, cell
from recurra.engine.adjoint import Adjoint, derive, kept
from recurra.engine.eager import CellStepper
from recurra.engine.interpret import compute
from recurra.engine.program import Graph, Value
from recurra.engine.trace import Step, TraceError, trace
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
from recurra.nn import Recurrent

ROWS, INPUT, HIDDEN = 5, 3, 4
VARIANTS: dict[str, Cell] = {
    **CATALOGUE,
    "jordan, 3 outputs": CATALOGUE["jordan"](output_size=3),
    "lstm_projected, 3": CATALOGUE["lstm_projected"](proj_size=3),
    "slstm, 2 heads": CATALOGUE["slstm"](heads=2),
    "elman, softplus": CATALOGUE["elman"](activation="softplus"),
}


class Run:
    """One step of a cell with random weights, as its body computes it and as its program does."""

    def __init__(self, one: Cell) -> None:
        torch.manual_seed(3)
        layer = Recurrent(one, INPUT, HIDDEN, dtype=torch.float64, backend="eager")
        for p in layer.parameters():
            torch.nn.init.normal_(p, std=0.7)
        place = layer._places[0]
        assert place.use is not None
        self.cell, self.use = one, place.use
        self.weights = {
            k: v.detach().requires_grad_() if isinstance(v, torch.nn.Parameter) else v
            for k, v in layer._weights(place).items()
        }
        self.x = torch.randn(ROWS, INPUT, dtype=torch.float64, requires_grad=True)
        self.old = [
            torch.randint(0, 8, (ROWS, w)).double() if f.is_bookkeeping else torch.randn(ROWS, w, dtype=torch.float64)
            for f, w in zip(one.fields, one.widths(HIDDEN), strict=True)
        ]
        self.old = [v.requires_grad_() for v in self.old]
        stepper = CellStepper(one, self.use, self.weights)
        self.new = stepper(stepper.prepare(self.x.unsqueeze(0))[0], tuple(self.old))
        self.cotangents = [torch.randn_like(v) for v in self.new]
        self.step: Step = trace(one, HIDDEN)

    @property
    def graph(self) -> Graph:
        return self.step.graph

    def leaves(self) -> dict[int, Tensor]:
        """Every value that the step and its derivative begin with."""
        every = (*self.cell.gates, *self.cell.inputs)
        weights = {k: v.detach() for k, v in self.weights.items()}
        x = dict(zip(every, (self.x.detach() @ weights["weight_ih"].T).chunk(len(every), -1), strict=True))
        first = weights.get("bias", weights.get("bias_ih"))
        b = {} if first is None else dict(zip(every, first.chunk(len(every)), strict=True))
        second = weights.get("bias_hh")
        b2 = {} if second is None else dict(zip(self.cell.gates, second.chunk(len(self.cell.gates)), strict=True))
        names, found = [f.name for f in self.cell.fields], {}
        for i, v in enumerate(self.graph.values):
            if v.op == "x":
                found[i] = x[v.name]
                if b and self.cell.biases != "apart":
                    found[i] = found[i] + b[v.name]
                if b2 and v.name not in self.use.parts and v.name in b2:
                    found[i] = found[i] + b2[v.name]
            elif v.op == "bias":
                found[i] = (b2 if v.part else b)[v.name]
            elif v.op in ("vector", "constant"):
                found[i] = weights[v.name][v.part * v.width : (v.part + 1) * v.width].double()
            elif v.op in ("old", "gradient"):
                whole = (self.old if v.op == "old" else self.cotangents)[names.index(v.name)].detach()
                found[i] = whole[:, v.part * v.width : (v.part + 1) * v.width]
        return found

    def matrix(self, name: str) -> Tensor:
        """U of a gate written out, or a further matrix."""
        if name not in self.cell.gates:
            return self.weights[name].detach()
        index, W = self.cell.gates.index(name), self.weights["weight_hh"].detach()
        if self.cell.recurrent == "diagonal":
            return torch.diag(W.chunk(len(self.cell.gates))[index])
        if self.cell.recurrent == "blocks":
            return torch.block_diag(*(head.chunk(len(self.cell.gates))[index] for head in W))
        U = W.chunk(len(self.cell.gates))[index]
        return U * self.weights["mask_hh"].detach() if "mask_hh" in self.weights else U

    def product(self, value: Value, operands: list[Tensor]) -> Tensor:
        M = self.matrix(value.name)
        if value.op in ("U", "M"):
            return torch.cat(operands, -1) @ M[value.part * value.width : (value.part + 1) * value.width].T
        return (operands[0] @ M)[:, value.part * value.width : (value.part + 1) * value.width]

    def compute(self, wanted: list[int], given: dict[int, Tensor]) -> list[Tensor]:
        order = self.graph.needed(wanted, given)
        found = compute(self.graph, order, wanted, given, self.product)
        return [v.expand(ROWS, self.graph[i].width) for i, v in zip(wanted, found, strict=True)]


def new_state(run: Run) -> list[Tensor]:
    leaves = run.leaves()
    return [torch.cat(run.compute(list(parts), leaves), -1) for parts in run.step.new.values()]


def check_derivative(run: Run) -> None:
    """δ of the input, the old state and every parameter, from nothing but what is kept, against autograd."""
    adjoint = derive(run.step)
    graph, leaves = run.graph, run.leaves()
    keep = kept(run.step, adjoint)
    forward = dict(zip(keep, run.compute(keep, leaves), strict=True))
    begun = {i: v for i, v in leaves.items() if graph[i].op in ("gradient", "vector", "constant", "bias")}
    total = torch.stack([(a * b).sum() for a, b in zip(run.new, run.cotangents, strict=True)]).sum()
    wanted = {k: v for k, v in run.weights.items() if v.requires_grad}
    found = torch.autograd.grad(total, [run.x, *run.old, *wanted.values()], materialize_grads=True)
    of_x, of_old, of_weights = (
        found[0],
        found[1 : 1 + len(run.old)],
        dict(zip(wanted, found[1 + len(run.old) :], strict=True)),
    )

    def derived(i: int | None, width: int) -> Tensor:
        if i is None:
            return torch.zeros(ROWS, width, dtype=torch.float64)
        return run.compute([i], {**forward, **begun})[0].expand(ROWS, width)

    every = (*run.cell.gates, *run.cell.inputs)
    net = torch.cat([derived(adjoint.of_x.get(gate), HIDDEN) for gate in every], -1)
    torch.testing.assert_close(net @ run.weights["weight_ih"].detach(), of_x)
    torch.testing.assert_close(net.T @ run.x.detach(), of_weights["weight_ih"])
    for (name, parts), expected in zip(adjoint.of_old.items(), of_old, strict=True):
        widths = [graph[i].width for i in run.step.old[name]]
        got = torch.cat([derived(i, w) for i, w in zip(parts, widths, strict=True)], -1)
        torch.testing.assert_close(got, expected)
    sums = {i: derived(d, graph[i].width).sum(0) for i, d in adjoint.of_fixed.items()}
    for i, got in sums.items():
        if graph[i].op == "vector":
            part = slice(graph[i].part * graph[i].width, (graph[i].part + 1) * graph[i].width)
            if not any(graph[j].fixed and i in graph[j].args for j in sums):
                torch.testing.assert_close(got, of_weights[graph[i].name][part])
    check_products(run, adjoint, {**forward, **begun}, of_weights)


def check_products(run: Run, adjoint: Adjoint, given: dict[int, Tensor], of_weights: dict[str, Tensor]) -> None:
    """The gradient of each U and of each further matrix is the sum of outer products."""
    graph = run.graph
    outer: dict[tuple[str, int], list[Tensor]] = {}
    for i, d in adjoint.of_product.items():
        value = graph[i]
        operand = torch.cat(run.compute(list(value.args), given), -1)
        rows = run.compute([d], given)[0].expand(ROWS, value.width)
        outer.setdefault((value.name, value.part), []).append(rows.T @ operand)
    U = of_weights.get("weight_hh")
    for (name, part), pieces in outer.items():
        found = torch.stack(pieces).sum(0)
        if name not in run.cell.gates:
            torch.testing.assert_close(found, of_weights[name][part * len(found) : (part + 1) * len(found)])
        elif run.cell.recurrent == "dense":
            assert U is not None
            torch.testing.assert_close(found, U.chunk(len(run.cell.gates))[run.cell.gates.index(name)])


@pytest.mark.parametrize("one", VARIANTS.values(), ids=VARIANTS)
def test_a_program_is_what_the_body_computes(one: Cell) -> None:
    run = Run(one)
    torch.testing.assert_close(new_state(run), [v.detach() for v in run.new])


@pytest.mark.parametrize("one", VARIANTS.values(), ids=VARIANTS)
def test_the_derivative_from_what_is_kept_is_autograds(one: Cell) -> None:
    check_derivative(Run(one))


# --- bodies that a test makes up -------------------------------------------------------------------------------------

ONE = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "sin": sin,
    "cos": cos,
    "softplus": softplus,
    "log_sigmoid": log_sigmoid,
    "-": lambda a: -a,
    "1-": lambda a: 1 - a,
    "abs": abs,
    "exp": lambda a: exp(-abs(a)),
    "sqrt": lambda a: sqrt(a * a + 1),
    "log": lambda a: log(a * a + 2),
    "clamp": lambda a: clamp(a, -0.5, 0.8),
    "square": lambda a: a**2,
    "cube": lambda a: (0.5 * a) ** 3,
    "norm": norm,
    "half": lambda a: a / 2,
}
TWO = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / (1 + b * b),
    "max": maximum,
    "min": minimum,
    "where": lambda a, b: where(a > b, 2 * b, a),
    "mean": lambda a, b: split(join(a, b, a), 3)[1],
    "norms": lambda a, b: split(norm(join(a, b)), 2)[0],
    "row": lambda a, b: a * torch.mean(b, -1, keepdim=True),
}


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """A body of random operations on net inputs, old fields and a vector; each value is used at least once."""
    plan = draw(
        st.lists(
            st.tuples(st.sampled_from([*ONE, *TWO, "U"]), st.integers(0, 30), st.integers(0, 30), st.booleans()),
            min_size=3,
            max_size=14,
        )
    )

    def body(z, s, p):
        values = [z.a, s.c, z.b.x, p.v + 0 * s.h, z.b.h, s.h, z.n, p.v * s.c]
        for name, i, j, second in plan:
            a, b = values[i % len(values)], values[j % len(values)]
            if name == "U":
                values.append(z.a(tanh(a + 0 * s.h)))
            elif name in ONE and (name not in TWO or not second):
                values.append(ONE[name](a))
            else:
                values.append(TWO[name](a, b))
        total = values[0]
        for value in values[1:]:
            total = total + tanh(0.3 * value)
        return tanh(total), total + values[-1]

    return cell(state="h c", gates="a b", inputs="n", vectors="v", biases=2)(body)


@settings(max_examples=60)
@given(one=bodies())
def test_cells_that_are_made_up(one: Cell) -> None:
    run = Run(one)
    torch.testing.assert_close(new_state(run), [v.detach() for v in run.new])
    check_derivative(run)


# --- what is simplified, and what is kept ----------------------------------------------------------------------------


def test_nothing_is_there_twice_and_numbers_are_reckoned_beforehand() -> None:
    g = Graph()
    x, y = g.leaf("x", "a", 4), g.leaf("x", "b", 4)
    assert g.apply("add", x, y) == g.apply("add", y, x)
    assert g.apply("sub", x, y) != g.apply("sub", y, x)
    assert g.apply("mul", x, g.number(1)) == x == g.apply("add", g.number(0), x) == g.apply("div", x, g.number(1))
    assert g[g.apply("mul", g.number(3), g.apply("sub", g.number(1), g.number(3)))].number == -6
    assert g.apply("neg", g.apply("neg", x)) == x
    assert g.apply("add", x, g.apply("neg", y)) == g.apply("sub", x, y)
    assert g.apply("mul", x, g.number(-1)) == g.apply("neg", x) == g.apply("sub", g.number(0), x)
    assert g.apply("where", x, y, y) == y
    assert g[g.row_sum([g.number(2)])].number == 2


KEPT = {
    "elman": ["h'", "tanh"],
    "irnn": ["h'", "relu"],
    "integrator": ["tanh"],
    "lstm": ["h'", "c'", "sigmoid", "sigmoid", "sigmoid", "tanh"],
    "lstm_coupled": ["h'", "c'", "sigmoid", "sigmoid", "tanh"],
    "gru": ["h'", "sigmoid", "sigmoid", "tanh"],
    "min_gru": ["h'", "x_n", "sigmoid"],
    "linear_recurrence": ["h'", "x_n"],
}


@pytest.mark.parametrize("name", KEPT)
def test_what_is_kept_is_what_one_would_keep_by_hand(name: str) -> None:
    step = trace(CATALOGUE[name], HIDDEN)
    names = [step.graph[i] for i in kept(step, derive(step))]
    words = {"old": "{0.name}'", "x": "x_{0.name}"}
    assert [words.get(v.op, "{0.op}").format(v) for v in names] == KEPT[name]


@pytest.mark.parametrize("name", ["elman", "gru", "lstm", "lstm_coupled", "residual", "mgu", "min_lstm"])
def test_nothing_smaller_would_do(name: str) -> None:
    """Against all sets of values, tried one after another."""
    step = trace(CATALOGUE[name], HIDDEN)
    adjoint, graph = derive(step), step.graph
    forward = graph.needed(i for parts in step.new.values() for i in parts)
    rows = [i for i in forward if not graph[i].fixed]
    keep = kept(step, adjoint)

    def suffices(chosen: tuple[int, ...]) -> bool:
        fixed = [i for i in forward if graph[i].fixed]
        operands = [a for i in adjoint.of_product for a in graph[i].args]
        left = graph.needed([*adjoint.outputs(), *operands], [*chosen, *fixed])
        return not any(graph[i].op in ("x", "old", "U", "M") for i in left)

    assert suffices(tuple(keep))
    assert not any(suffices(fewer) for fewer in itertools.combinations(rows, len(keep) - 1))


# --- what cannot be written down -------------------------------------------------------------------------------------


class Spike(torch.autograd.Function):
    """A step that is given the slope of something smooth: a surrogate gradient."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        ctx.save_for_backward(args[0])
        return torch.where(args[0] > 0, 1.0, 0.0)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0] / (1 + ctx.saved_tensors[0].abs()) ** 2


def without_slope(z: Any, s: Any) -> Any:
    with torch.no_grad():
        held = tanh(z.a)
    return held * s.h + z.a


CANNOT: dict[str, tuple[Any, str]] = {
    "a derivative of its own": (lambda z, s: Spike.apply(1.0 * z.a), "one of its own (autograd.Function)"),
    "no derivative": (without_slope, "has no derivative (torch.no_grad)"),
    "an index": (lambda z, s: z.a[:, :4] + s.h, "it takes getitem of a value"),
    "a branch": (lambda z, s: tanh(z.a) if z.a is s.h else abs(z.a) if s.h is None else torch.erf(z.a), "erf"),
    "a tensor of its own": (lambda z, s: z.a * torch.ones(4), "it takes a value from outside its body, Tensor"),
    "across rows": (lambda z, s: z.a - z.a.mean(0), "a sum that is not along -1 with keepdim"),
    "softplus": (lambda z, s: torch.nn.functional.softplus(z.a, 2.0), "softplus with another beta than 1"),
    "a size": (lambda z, s: z.a.view(-1, 4), "it takes view of a value"),
    "stacked": (lambda z, s: torch.cat([z.a, s.h]).chunk(2)[0], "cat along 0"),
    "halves": (lambda z, s: join(*split(join(z.a, s.h), 4)[:2]), "chunk of 2 parts in 4 along -1"),
}


@pytest.mark.parametrize(("body", "reason"), CANNOT.values(), ids=CANNOT)
def test_what_cannot_be_written_down_says_why(body: Any, reason: str) -> None:
    one = cell(state="h", gates="a")(lambda z, s: tanh(z.a))
    changed = Cell(**{**vars_of(one), "body": body})
    with pytest.raises(TraceError, match=re.escape(reason)):
        trace(changed, HIDDEN)


def vars_of(one: Cell) -> dict[str, Any]:
    names = ("name", "body", "fields", "gates", "inputs", "vectors", "matrices", "constants", "biases", "recurrent")
    return {name: getattr(one, name) for name in names}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_layer_may_be_made_where_gradients_are_off(mode: Any) -> None:
    with mode():
        assert Recurrent("lstm", 3, 4).choice.backend == "native"


# --- explained -------------------------------------------------------------------------------------------------------


def test_an_explanation() -> None:
    told = recurra.explain(Recurrent("elman", 3, 4))
    assert (told.backend, told.reason) == (
        "native",
        "cell 'elman' is not affine in its state (U_h multiplies the state), "
        "so its steps run in the compiled core, one after another",
    )
    assert told.program == "v1 = x_h + U_h h'\nv2 = tanh(v1)\nh = v2"
    assert told.adjoint == (
        "kept: h'; v2 = tanh(v1)\nv3 = v2 * v2\nv4 = 1 - v3\nv5 = δh * v4\nδx_h = v5\nδh' = U_hᵀ v5\nδU_h += v5 ⊗ h'"
    )
    assert str(told).startswith("elman(activation=tanh)\nbackend: native\nbecause cell 'elman'")


@pytest.mark.parametrize("one", VARIANTS.values(), ids=VARIANTS)
def test_every_cell_is_explained(one: Cell) -> None:
    told = recurra.explain(Recurrent(one, 3, [4, 8], 2))
    assert told.program is not None
    assert told.adjoint is not None
    for f in one.fields:
        assert f"\n{f.name} = " in told.program
    for gate in one.gates:
        assert f"U_{gate} " in told.program
        assert f"δU_{gate} += " in told.adjoint


def test_drop_ins_are_explained() -> None:
    assert "U_n h'" in str(recurra.explain(recurra.GRU(3, 4)).program)
    assert "W_hr" in str(recurra.explain(recurra.LSTM(3, 4, proj_size=2)).program)
    assert "relu" in str(recurra.explain(recurra.RNNCell(3, 4, nonlinearity="relu")).program)
    assert recurra.explain(recurra.LSTMCell(3, 4)).cell == "lstm(forget_bias=1.0)"


def test_what_has_no_program_is_explained_too() -> None:
    told = recurra.explain(Recurrent(lambda x, h: x + h, 4, 4))
    assert (told.backend, told.program, told.adjoint) == ("eager", None, None)
    assert "is a plain function" in told.reason
    odd = cell(state="h", gates="a")(lambda z, s: torch.erf(z.a))
    for backend in ("auto", "eager"):
        told = recurra.explain(Recurrent(odd, 4, 4, backend=backend))
        assert told.program is None
        assert "cannot be written down as a program (it takes erf of a value)" in told.reason
    with pytest.raises(
        TypeError, match=r"a recurra\.Recurrent or a drop-in such as recurra\.LSTM is expected, not Linear"
    ):
        recurra.explain(torch.nn.Linear(2, 2))


def test_layers_of_pytorch_are_told_apart_from_ours() -> None:
    with pytest.raises(TypeError, match=r"not torch\.nn\.GRU, whose kernels are PyTorch's own; recurra\.GRU takes its"):
        recurra.explain(torch.nn.GRU(3, 4))


def test_single_steps_of_a_drop_in_are_explained() -> None:
    told = recurra.explain(recurra.GRUCell(3, 4))
    assert told.backend == "eager"
    assert told.reason.startswith("a call takes one step, in tensor code; recurra.Stream")
