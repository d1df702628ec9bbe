"""The derivative of a step, derived from its program, value by value.

With δv for the gradient of the loss by a value v, a value y = op(a, b, …) gives each of its arguments δy times the
partial derivative of op; what several uses give is added up (reverse mode; Griewank & Walther 2008). The result is
again a program, over the same values: those of the step itself that it needs are kept for it, or computed again from
others that are. Which, `kept` decides, so that as few numbers as can be are kept.
"""

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from recurra.engine.program import PRODUCTS, Graph
from recurra.engine.trace import Step


@dataclass(frozen=True)
class Adjoint:
    """The derivative of a step.

    Attributes:
        of_x: δ of each gate's W x + b, by gate.
        of_old: δ of the old state, by field, for each of its parts; None where the step does not depend on it.
        of_fixed: δ of values that are the same for every row, to be added up over rows and steps.
        of_product: δ of each product with U or a matrix, by the product's number.
        of_new: δ of the new state, by field, for each of its parts: what is given, and what comes from the fields that
            are made of it. It need not be computed.
    """

    of_x: dict[str, int]
    of_old: dict[str, tuple[int | None, ...]]
    of_fixed: dict[int, int]
    of_product: dict[int, int]
    of_new: dict[str, tuple[int, ...]]

    def outputs(self) -> list[int]:
        """Every value that has to be computed."""
        old = (i for parts in self.of_old.values() for i in parts if i is not None)
        return [*self.of_x.values(), *old, *self.of_fixed.values(), *self.of_product.values()]


def derive(step: Step, to_parameters: bool = False) -> Adjoint:
    """The derivative of a step: its values are added to the step's graph.

    Args:
        step: The step.
        to_parameters: Go on through values that are the same for every row, down to the parameters they are made of.
    """
    graph, delta = step.graph, {}
    for name, parts in step.new.items():
        for k, i in enumerate(parts):
            given = graph.leaf("gradient", name, graph[i].width, part=k)
            delta[i] = graph.apply("add", delta[i], given) if i in delta else given
    order = graph.needed([i for parts in step.new.values() for i in parts])
    of_product = {}
    for i in reversed(order):
        value = graph[i]
        if i not in delta or (value.fixed and not to_parameters) or not value.args:
            continue
        if value.op in PRODUCTS:
            of_product[i] = delta[i]
        for argument, given in partial(graph, i, delta[i]):
            if graph[argument].op == "number":
                continue
            fitted = given
            if value.op not in PRODUCTS:  # whose operands have widths of their own
                fitted = _fitted(graph, given, graph[argument].width, value.width)
            delta[argument] = graph.apply("add", delta[argument], fitted) if argument in delta else fitted
    zero = {i for i, d in delta.items() if graph[d].op == "number" and graph[d].number == 0}
    found = {i: d for i, d in delta.items() if i not in zero}
    return Adjoint(
        of_x={graph[i].name: d for i, d in found.items() if graph[i].op == "x"},
        of_old={name: tuple(found.get(i) for i in parts) for name, parts in step.old.items()},
        of_fixed={i: d for i, d in found.items() if graph[i].fixed and graph[i].op != "constant"},
        of_product={i: d for i, d in of_product.items() if i not in zero},
        of_new={name: tuple(delta[i] for i in parts) for name, parts in step.new.items()},
    )


def _fitted(graph: Graph, given: int, argument: int, value: int) -> int:
    """A gradient for an argument of this width, where the value that it is an argument of has that one."""
    if argument == 1 and value > 1:  # one number stood for the whole row
        if graph[given].width > 1:
            return graph.row_sum([given])
        return graph.apply("mul", given, graph.number(value))
    return given


def partial(graph: Graph, i: int, d: int) -> Iterator[tuple[int, int]]:
    """What the value i, of gradient d, gives to each of its arguments: d times the partial derivative."""
    value, apply, number = graph[i], graph.apply, graph.number
    op, args = value.op, value.args
    a, b, c = (*args, None, None, None)[:3]

    def times(*factors: int) -> int:
        result = d
        for factor in factors:
            result = apply("mul", result, factor)
        return result

    if op in ("U", "M"):
        for k, operand in enumerate(args):
            width = graph[operand].width
            yield operand, graph.product(f"{op}t", value.name, (d,), width, part=k, rows=value.part)
        return
    if op == "row_sum":
        for operand in args:
            yield operand, d
        return
    assert a is not None
    match op:
        case "add":
            yield from ((a, d), (b, d))  # type: ignore[misc]
        case "sub":
            yield from ((a, d), (b, apply("neg", d)))  # type: ignore[misc]
        case "mul":
            assert b is not None
            yield from ((a, times(b)), (b, times(a)))
        case "div":
            assert b is not None
            over = apply("div", d, b)
            yield a, over
            yield b, apply("neg", apply("mul", over, i))
        case "neg":
            yield a, apply("neg", d)
        case "tanh":
            yield a, times(apply("sub", number(1), apply("mul", i, i)))
        case "sigmoid":
            yield a, times(apply("mul", i, apply("sub", number(1), i)))
        case "relu":
            yield a, apply("where", apply("gt", i, number(0)), d, number(0))
        case "exp":
            yield a, times(i)
        case "log":
            yield a, apply("div", d, a)
        case "sqrt":
            yield a, apply("div", apply("mul", d, number(0.5)), i)
        case "rsqrt":
            yield a, times(apply("mul", number(-0.5), apply("mul", i, apply("mul", i, i))))
        case "sin":
            yield a, times(apply("cos", a))
        case "cos":
            yield a, apply("neg", times(apply("sin", a)))
        case "abs":
            yield a, times(apply("sign", a))
        case "softplus":
            yield a, times(apply("where", apply("gt", a, number(20)), number(1), apply("sigmoid", a)))  # as PyTorch's
        case "log_sigmoid":
            yield a, times(apply("sigmoid", apply("neg", a)))
        case "maximum" | "minimum":
            assert b is not None
            wins = "gt" if op == "maximum" else "lt"
            half = apply("mul", d, number(0.5))  # where both are equal, each has half, as in PyTorch
            tied = apply("where", apply("eq", a, b), half, number(0))
            yield a, apply("where", apply(wins, a, b), d, tied)
            yield b, apply("where", apply(wins, b, a), d, tied)
        case "where":
            assert b is not None
            assert c is not None
            yield b, apply("where", a, d, number(0))
            yield c, apply("where", a, number(0), d)
        case "pow":
            assert b is not None
            yield a, times(apply("mul", b, apply("pow", a, apply("sub", b, number(1)))))
            if graph[b].op != "number":
                yield b, times(apply("mul", i, apply("log", a)))
        case "remainder":
            assert b is not None
            yield a, d
            if graph[b].op not in ("number", "constant"):
                yield b, apply("neg", times(apply("floor", apply("div", a, b))))
        case "floor" | "sign" | "lt" | "le" | "gt" | "ge" | "eq" | "ne":
            return
        case _:
            raise AssertionError(f"{op} has no derivative here")


# --- what is kept ----------------------------------------------------------------------------------------------------


def kept(step: Step, adjoint: Adjoint, free: Iterable[str] = ()) -> list[int]:
    """The values of a step that are kept for its derivative: those that hold the fewest numbers a row.

    Whatever the derivative needs is kept, or made again from what is kept; products are never made again. This is a
    smallest cut of the graph that lies between what a step reads and what its derivative needs, found by the greatest
    flow through it (Ford & Fulkerson 1956). Of several, the one nearest the derivative is taken, where least is left to
    be made again.

    Args:
        step: The step.
        adjoint: Its derivative.
        free: State fields whose values at every step are kept anyway.
    """
    graph = step.graph
    forward = set(graph.needed([i for parts in step.new.values() for i in parts]))
    operands = {a for i in adjoint.of_product for a in graph[i].args}
    derived = [i for i in graph.needed(adjoint.outputs(), given=forward) if i not in forward]
    wanted = {a for i in derived for a in graph[i].args if a in forward} | operands
    wanted |= {i for i in adjoint.outputs() if i in forward}
    wanted = {i for i in wanted if not graph[i].fixed}

    free = set(free)
    stored = {i for name, parts in step.new.items() if name in free for i in parts}

    def cost(i: int) -> float:
        value = graph[i]
        at_hand = i in stored or (value.op == "old" and value.name in free)
        return 0.0 if at_hand else float(value.width)

    network: dict[object, dict[object, float]] = defaultdict(lambda: defaultdict(float))

    def edge(start: object, end: object, capacity: float) -> None:
        network[start][end] += capacity
        network[end][start] += 0.0

    seen, waiting = set(wanted), list(wanted)
    for i in wanted:
        edge(("out", i), "derivative", float("inf"))
    while waiting:
        i = waiting.pop()
        edge(("in", i), ("out", i), cost(i))
        below = [a for a in graph[i].args if not graph[a].fixed]
        if graph[i].op in ("x", "old", *PRODUCTS):
            edge("read", ("in", i), float("inf"))
        elif graph[i].op not in PRODUCTS:
            for a in below:
                edge(("out", a), ("in", i), float("inf"))
                if a not in seen:
                    seen.add(a)
                    waiting.append(a)
    while (path := _path(network, "read", "derivative")) is not None:
        flow = min(network[a][b] for a, b in path)
        for a, b in path:
            network[a][b] -= flow
            network[b][a] += flow
    near = _reaching(network, "derivative")
    cut = [i for i in sorted(seen) if ("out", i) in near and ("in", i) not in near]
    return [i for i in cut if cost(i) > 0 or graph[i].op == "old" or i in stored]


def _path(network: dict[object, dict[object, float]], start: object, end: object) -> list[tuple[object, object]] | None:
    """The shortest way along which something can still flow."""
    before: dict[object, object] = {start: start}
    waiting = deque([start])
    while waiting and end not in before:
        here = waiting.popleft()
        for there, capacity in network[here].items():
            if capacity > 0 and there not in before:
                before[there] = here
                waiting.append(there)
    if end not in before:
        return None
    path = []
    while end != start:
        path.append((before[end], end))
        end = before[end]
    return path[::-1]


def _reaching(network: dict[object, dict[object, float]], end: object) -> set[object]:
    """The places from which something can still flow to the end."""
    found, waiting = {end}, [end]
    while waiting:
        here = waiting.pop()
        for there in network[here]:
            if there not in found and network[there][here] > 0:
                found.add(there)
                waiting.append(there)
    return found
