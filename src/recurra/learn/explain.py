"""Backpropagation through time written out: every error, of every loss at every earlier step.

`δ_(t,k) = ∂L_t/∂z_k`, the error of step t's loss at the net input of step k, comes from `δ_(t,k+1)` (eqs 6.29-6.39);
its outer product with what the parameters multiply at step k, summed over t and k, is the gradient. It is computed with
the derivative that is derived from the cell's program, not by automatic differentiation, whose gradient it equals. The
first factor of eq. 6.32, printed as ∂h_k/∂z_t, is ∂h_k/∂z_k, as in eq. 6.33.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recurra.engine.adjoint import derive
from recurra.engine.influence import Linear, by_parameter
from recurra.engine.interpret import compute
from recurra.engine.program import PRODUCTS, Value
from recurra.engine.reach import Layer, Site
from recurra.engine.trace import TraceError
from recurra.learn.followed import Followed
from recurra.learn.gradients import LossOfStep
from recurra.learn.rule import check_products
from recurra.nn.recurrent import Recurrent


@dataclass(frozen=True, eq=False)
class WrittenOut:
    """Backpropagation through time, written out.

    T steps, B rows of the batch; t counts losses and k steps, both from 0. An error is zero where k > t.

    Attributes:
        losses: (T,), of each step.
        net_inputs: δ_(t,k) at the net input of each gate of each layer, `f_l0`, (T, T, B, H): of t, then k.
        products: Likewise at each product with U (or a further matrix) whose operand, or whose place in the equations,
            is its own, as `n_l0` of a GRU whose reset acts behind the product. Where a net input is the sum of W x
            and U h, the two are the same.
        states: ∂L_t/∂s_k for each state field of each layer, `c_l0`, (T, T, B, width): through the fields that are made
            of it in the same step too.
        shares: Each step's share of the gradient of the summed loss by each parameter, (T, …) of k.
        gradients: Their sums, by the parameter's name in the model.
    """

    losses: Tensor
    net_inputs: dict[str, Tensor]
    products: dict[str, Tensor]
    states: dict[str, Tensor]
    shares: dict[str, Tensor]
    gradients: dict[str, Tensor]

    @property
    def loss(self) -> Tensor:
        """The loss, summed over time (eq. 6.27)."""
        return self.losses.sum()

    def norms(self, state: str) -> Tensor:
        """‖∂L_t/∂s_k‖ of one state field over the batch and its units, (T, T) of t and k."""
        return self.states[state].flatten(2).norm(dim=-1)

    def __str__(self) -> str:
        T, first = len(self.losses), next(iter(self.states))
        last = {name: v[T - 1].flatten(1).norm(dim=-1) for name, v in self.states.items()}
        share = {
            name: torch.linalg.vector_norm(v.flatten(1), dim=-1) / self.gradients[name].norm()
            for name, v in self.shares.items()
        }
        lines = [
            f"{T} step{'s' * (T != 1)}, loss {float(self.loss):.6g}. Errors of the last step's loss at every earlier "
            "state, and the size of every step's share of each gradient, over that of the whole.",
            "",
        ]
        names = [*(f"δ {name}" for name in last), *share]
        width = [max(9, len(name)) for name in names]
        lines.append("step  " + "  ".join(f"{name:>{w}}" for name, w in zip(names, width, strict=True)))
        shown = range(T) if T <= 24 else [*range(8), None, *range(T - 12, T)]
        for k in shown:
            if k is None:
                lines.append(" ...")
                continue
            told = [f"{float(v[k]):.3g}" for v in last.values()]
            told += [f"{float(v[k]):.3g}" if self.gradients[name].any() else "–" for name, v in share.items()]
            cells = "  ".join(f"{each:>{w}}" for each, w in zip(told, width, strict=True))
            lines.append(f"{k:>4}  {cells}")
        past, now = (float(self.norms(first)[T - 1, k]) for k in (0, T - 1))
        if now > 0 and T > 1:
            lines += [
                "",
                f"From step {T - 1} back to step 0 the error at {first} changes by a factor of {past / now:.3g}.",
            ]
        return "\n".join(lines)


def explain_bptt(
    model: nn.Module, x: Tensor, y: Tensor | LossOfStep | None = None, *, loss_fn: LossOfStep | None = None
) -> WrittenOut:
    """Write out backpropagation through time (eqs 6.29-6.39) for a model along a batch.

    Args:
        model: A `Recurrent` in one direction, a drop-in, PyTorch's own layer, or a module that has one such layer and
            puts out something at every step.
        x: What the model takes: (T, B, I), (B, T, I) with `batch_first`, or (T, I).
        y: What is to come out at every step, laid out as the output: class indices (of one axis fewer; cross entropy,
            its mean over the batch) or numbers (mean squared error); the loss is the sum over steps. Or the loss of
            each step itself, `loss_fn(output_t, t)`.
        loss_fn: Likewise, in y's place.

    Returns:
        Every error, every step's share of each gradient, and their sums.

    Raises:
        TypeError: No recurrent layer, or several.
        ValueError: Sizes do not fit, there is no step, a number that goes in or a loss is not finite, the layer reads
            the future or has options that are no part of its cells' steps, or its cell cannot be written down as a
            program.

    Example:
        >>> layer = Recurrent("elman", 3, 4)
        >>> found = explain_bptt(layer, torch.randn(6, 2, 3), torch.randn(6, 2, 4))
        >>> found.net_inputs["h_l0"].shape, found.shares["weight_hh_l0"].shape
        (torch.Size([6, 6, 2, 4]), torch.Size([6, 4, 4]))
    """
    name, module = _recurrent_in(model)
    followed = Followed(module)
    check_products(followed, "what is written out")
    for against in (followed.reads_the_future, followed.beside_its_steps):
        if against is not None:
            raise ValueError(f"layer: {against} is no part of the cells' own steps, whose errors are written out")
    try:
        layers = followed.layers()
    except TraceError as error:
        raise ValueError(f"layer: {followed.form.name!r} cannot be written down as a program: {error}") from error
    if isinstance(x, Tensor) and not x.numel():
        raise ValueError(f"x: at least one step and one row are expected, not {tuple(x.shape)}")
    for parameter, values in model.named_parameters():
        if not values.isfinite().all():
            raise ValueError(f"model: its {parameter} holds {_first(values)}, where finite numbers are expected")
    with _leaf_of(module) as seen:
        returned = model(x)
    output = returned[0] if isinstance(returned, tuple) else returned
    if not seen:
        raise ValueError(f"model: {type(model).__name__} does not run its recurrent layer {name!r}")
    given, leaf = seen[0]
    along = 1 if getattr(module, "batch_first", False) and leaf.dim() == 3 else 0
    for t, x_t in enumerate(given.unbind(along)):
        if not x_t.isfinite().all():
            raise ValueError(f"x: finite numbers are expected, but {_first(x_t)} comes in at step {t}")
    losses = _losses(output.unbind(along), _loss_of(output, y if loss_fn is None else loss_fn, along))
    direct = _direct(losses, leaf)
    inward = _inward(given.detach(), along)
    T, B = inward.shape[:2]
    direct = torch.stack([_inward(g, along) for g in direct])  # (T, T, B, H) of t and k
    weights = [{n: w.detach() for n, w in followed.weights(k).items()} for k in range(followed.count)]
    begun = [tuple(v.detach() for v in fields) for fields in followed.initial(B, inward)]
    errors = [_Errors(layer, w, T, B, inward) for layer, w in zip(layers, weights, strict=True)]
    with torch.no_grad():
        below = inward
        for one, state in zip(errors, begun, strict=True):
            below = one.run(below, state)
        for k in range(T - 1, -1, -1):
            of_output = direct[:, k]
            for one in reversed(errors):
                of_output = one.back(k, of_output)
    return _gathered(followed, f"{name}." if name else "", errors, torch.stack([v.detach() for v in losses]))


class _Errors:
    """The errors of one layer: its steps forward, then back, one after another.

    Args:
        layer: The layer.
        weights: Its parameters and constants.
        T: Steps.
        B: Rows.
        like: A tensor of the type of the parameters.
    """

    def __init__(self, layer: Layer, weights: Mapping[str, Tensor], T: int, B: int, like: Tensor) -> None:
        self.layer, self.weights, self.T, self.B = layer, weights, T, B
        self.like = like.new_empty(0)
        step, graph = layer.tangents.step, layer.graph
        self.adjoint = derive(step, to_parameters=True)
        of_fixed = {i: d for i, d in self.adjoint.of_fixed.items() if graph[i].op in ("bias", "vector")}
        self.at = {i: self.adjoint.of_x[graph[i].name] for i, _ in layer.tangents.sources if graph[i].op == "x"}
        self.at |= {**self.adjoint.of_product, **of_fixed}
        self.wanted = [*self.adjoint.outputs(), *(i for parts in self.adjoint.of_new.values() for i in parts)]
        given = [
            i for i, v in enumerate(graph.values) if v.op in ("x", "old", "bias", "vector", "constant", "gradient")
        ]
        self.order = graph.needed(self.wanted, given)
        self.begins = given
        self.sites = [
            Site(graph[s.value].width, {}, tuple(pieces), sum(p.columns for p in pieces))
            for s in layer.tangents.sources
            if s.value in self.at and (pieces := layer.pieces(s.value))
        ]
        new = lambda width: like.new_zeros(T, T, B, width)  # noqa: E731
        self.gates = {graph[i].name: new(graph[i].width) for i in self.at if graph[i].op == "x"}
        self.products = {i: new(graph[i].width) for i in self.at if graph[i].op in PRODUCTS}
        self.states = {name: new(sum(graph[i].width for i in parts)) for name, parts in layer.tangents.step.new.items()}
        self.carried = [like.new_zeros(T, B, w) for w in layer.widths]
        self.shares: dict[str, Tensor] = {}
        self.steps: list[dict[int, Tensor]] = []
        self.inputs: list[Tensor] = []

    def run(self, x: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Take all steps, (T, B, I); the output of each, (T, B, H)."""
        outputs = []
        for x_t in x:
            self.steps.append(self.layer.begins(self.weights, x_t, state))
            values = self.layer.values(self.weights, x_t, state)
            state = self.layer.new_state(values, self.B)
            self.inputs.append(x_t)
            outputs.append(state[0])
        return torch.stack(outputs)

    def back(self, k: int, of_output: Tensor) -> Tensor:
        """From the errors at what the layer puts out at step k, (T, B, H) of t, to those at its x, (T, B, I)."""
        layer, graph, first = self.layer, self.layer.graph, 0
        given = {}
        for p, (i, width) in enumerate(zip(layer.tangents.new, layer.widths, strict=True)):
            error = self.carried[p]
            if p < layer.outputs:
                error = error + of_output[..., first : first + width]
                first += width
            given[i] = error
        leaves = dict(self.steps[k])
        for name, parts in layer.tangents.step.new.items():
            for q, i in enumerate(parts):
                leaves[graph.leaf("gradient", name, graph[i].width, part=q)] = given[i]
        found = dict(zip(self.wanted, compute(graph, self.order, self.wanted, leaves, self._product), strict=True))

        def error_at(i: int, width: int) -> Tensor:
            return found[i].to(of_output.dtype).expand(self.T, self.B, width)

        for name, parts in self.adjoint.of_new.items():
            self.states[name][:, k] = torch.cat(
                [error_at(i, graph[j].width) for i, j in zip(parts, layer.tangents.step.new[name], strict=True)], -1
            )
        sums = []
        linear = Linear(
            layer, self.weights, layer.values(self.weights, self.inputs[k], self._state(k)), self.B, self.like
        )
        x_error = 0
        for site in self.sites:
            i = site.pieces[0].value
            error = error_at(self.at[i], site.width)
            if graph[i].op == "x":
                self.gates[graph[i].name][:, k] = error
                W = self.weights["weight_ih"].narrow(0, site.pieces[0].first, site.width)
                x_error = x_error + error @ W
            elif i in self.products:
                self.products[i][:, k] = error
            v = linear.inputs(site, self.inputs[k]).expand(-1, site.width, -1)
            sums.append(torch.einsum("tbu,buk->uk", error, v))
        for name, share in by_parameter(layer, sums, self.weights, self.sites).items():
            self.shares.setdefault(name, share.new_zeros(self.T, *share.shape))[k] = share
        p = 0
        for name, parts in self.adjoint.of_old.items():
            for j, i in zip(layer.tangents.step.old[name], parts, strict=True):
                width = graph[j].width
                self.carried[p] = torch.zeros_like(self.carried[p]) if i is None else error_at(i, width)
                p += 1
            if k == 0 and f"initial_{name}" in self.weights:
                own = torch.cat(self.carried[p - len(parts) : p], -1).sum((0, 1))
                self.shares.setdefault(f"initial_{name}", own.new_zeros(self.T, *own.shape))[0] = own
        assert isinstance(x_error, Tensor)
        return x_error

    def _state(self, k: int) -> tuple[Tensor, ...]:
        olds = self.layer.tangents.step.old
        return tuple(torch.cat([self.steps[k][i] for i in parts], -1) for parts in olds.values())

    def _product(self, value: Value, args: list[Tensor]) -> Tensor:
        """A product of the step or of its derivative."""
        if value.op in ("U", "M"):
            return self.layer.product(self.weights, value, args)
        graph = self.layer.graph
        op = value.op[0]
        part = int(value.number)
        forward = next(i for i, v in enumerate(graph.values) if v.op == op and v.name == value.name and v.part == part)
        matrix = self.layer.matrix(self.weights, forward)
        if matrix.dim() == 1:
            return args[0] * matrix
        return args[0] @ self.layer.operand(matrix, forward, value.part)


def _gathered(followed: Followed, prefix: str, errors: list[_Errors], losses: Tensor) -> WrittenOut:
    net_inputs, products, states, shares = {}, {}, {}, {}
    for k, one in enumerate(errors):
        net_inputs |= {f"{gate}_l{k}": v for gate, v in one.gates.items()}
        states |= {f"{name}_l{k}": v for name, v in one.states.items()}
        for i, v in one.products.items():
            value = one.layer.graph[i]
            own = one.gates.get(value.name) if value.op == "U" else None
            name = f"{value.name}_l{k}" + (f".{value.part}" if value.part else "")
            if own is None or not torch.equal(own, v):
                products[name] = v
        names = followed.names(k)
        shares |= {prefix + names[own]: v for own, v in one.shares.items() if own in names}
    trained = dict(followed.module.named_parameters())
    shares = {
        prefix + name: shares.get(prefix + name, p.detach().new_zeros(len(losses), *p.shape))
        for name, p in trained.items()
    }
    gradients = {name: v.sum(0) for name, v in shares.items()}
    return WrittenOut(losses, net_inputs, products, states, shares, gradients)


# --- the model and its losses ----------------------------------------------------------------------------------------


def _recurrent_in(model: nn.Module) -> tuple[str, nn.Module]:
    found = [(name, m) for name, m in model.named_modules() if isinstance(m, (Recurrent, nn.RNNBase))]
    if len(found) != 1:
        named = f"it has {len(found)}: {', '.join(name for name, _ in found)}" if found else "it has none"
        raise TypeError(
            f"model: a Recurrent, LSTM, GRU or RNN, or a module with one of them, is expected; {type(model).__name__} "
            f"is none, and {named}"
            if not found
            else f"model: one recurrent layer is expected, and {named}"
        )
    return found[0]


@contextmanager
def _leaf_of(module: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """While the block runs, the layer's output is a leaf: what the layer took, and that leaf."""
    seen: list[tuple[Tensor, Tensor]] = []

    def hook(module: nn.Module, args: Any, kwargs: Any, returned: Any) -> Any:
        if seen:
            raise ValueError("model: it runs its recurrent layer more than once, and one run is expected")
        x = args[0] if args else kwargs.get("x", kwargs.get("input"))
        if not isinstance(x, Tensor) or len(args) > 1 or set(kwargs) - {"x", "input", "lengths", "state", "hx"}:
            raise ValueError("model: its recurrent layer is expected to be run on a tensor, with nothing besides")
        if any(kwargs.get(name) is not None for name in ("lengths", "state", "hx")):
            raise ValueError("model: its recurrent layer is expected to be run from its first state, without lengths")
        output, *others = returned
        leaf = output.detach().requires_grad_()
        seen.append((x, leaf))
        return leaf, *others

    handle = module.register_forward_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def _loss_of(output: Tensor, y: Any, along: int) -> LossOfStep:
    """The loss of each step."""
    if callable(y) and not isinstance(y, Tensor):
        return cast(LossOfStep, y)
    if not isinstance(y, Tensor):
        raise ValueError(f"y: a tensor, or a function (output_t, t), is expected, not {type(y).__name__}")
    of_classes = not y.is_floating_point()
    expected = tuple(output.shape[:-1]) if of_classes else tuple(output.shape)
    if tuple(y.shape) != expected:
        raise ValueError(f"y: {expected} is expected, as the output is {tuple(output.shape)}, not {tuple(y.shape)}")
    steps = y.unbind(along)

    def loss_of(output_t: Tensor, t: int) -> Tensor:
        return F.cross_entropy(output_t, steps[t]) if of_classes else F.mse_loss(output_t, steps[t])

    return loss_of


def _losses(outputs: tuple[Tensor, ...], loss_of: LossOfStep) -> list[Tensor]:
    losses = []
    for t, output in enumerate(outputs):
        loss = loss_of(output, t)
        if not isinstance(loss, Tensor) or loss.dim():
            found = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
            raise ValueError(f"loss_fn: a scalar is expected at every step, not {found} at step {t}")
        if not loss.isfinite():
            raise ValueError(f"loss: a finite number is expected at every step, but it is {loss.item():g} at step {t}")
        losses.append(loss)
    return losses


def _first(values: Tensor) -> float:
    """The first number that is not finite."""
    return float(values.detach()[~values.isfinite()][0])


def _direct(losses: list[Tensor], leaf: Tensor) -> list[Tensor]:
    """For each loss, its gradient by the outputs of the layer, not through the layer's own steps."""
    found = []
    for loss in losses:
        g = torch.autograd.grad(loss, leaf, retain_graph=True, allow_unused=True)[0] if loss.requires_grad else None
        found.append(torch.zeros_like(leaf) if g is None else g)
    return found


def _inward(v: Tensor, along: int) -> Tensor:
    """To (T, B, …)."""
    return v.unsqueeze(1) if v.dim() == 2 else v.transpose(0, 1) if along else v
