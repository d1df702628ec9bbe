"""Which cells are affine in their state, read from their programs.

Where the new state is `a ⊙ s + b`, with a and b made of the input alone, all steps can be computed at once
(`recurra.engine.scan`). The program of such a cell says what a and b are. Only what a later step reads need be so.
"""

from dataclasses import dataclass

from recurra.engine.program import PRODUCTS, Graph
from recurra.engine.trace import Step


class NotAffineError(RuntimeError):
    """Something is done to a state that does not leave it affine."""


@dataclass(frozen=True)
class Affine:
    """A value as `Σ a_k ⊙ s_k + b`.

    Attributes:
        slopes: a by the number of the old state's value.
        rest: b.
    """

    slopes: dict[int, int]
    rest: int


def affine(step: Step) -> dict[str, list[tuple[int, int]] | None]:
    """For each state field a and b, for each of its parts; None for a field that no step reads.

    What no step reads can be anything made of the others, h = o ⊙ tanh(c), say: it is computed once those are known.

    Raises:
        NotAffineError: A field that a later step reads is not affine in itself alone.
    """
    graph, memo = step.graph, {}
    read = set(graph.needed(i for parts in step.new.values() for i in parts))
    found: dict[str, list[tuple[int, int]] | None] = {}
    for name, parts in step.new.items():
        olds = step.old[name]
        if not read & {*olds} and any(graph[i].op == "old" for i in graph.needed(parts)):
            found[name] = None
            continue
        forms = [_affine(graph, new, memo) for new in parts]
        for old, form in zip(olds, forms, strict=True):
            others = [i for i in form.slopes if i != old]
            if others:
                raise NotAffineError(f"its new {name} depends on the old {graph[others[0]].name}")
        zero = graph.number(0)
        found[name] = [(form.slopes.get(old, zero), form.rest) for old, form in zip(olds, forms, strict=True)]
    return found


def _affine(graph: Graph, i: int, memo: dict[int, Affine]) -> Affine:
    if i not in memo:
        memo[i] = _found(graph, i, [_affine(graph, a, memo) for a in graph[i].args])
    return memo[i]


def _found(graph: Graph, i: int, forms: list[Affine]) -> Affine:
    value, apply = graph[i], graph.apply
    if value.op == "old":
        return Affine({i: graph.number(1)}, graph.number(0))
    if not any(form.slopes for form in forms):
        return Affine({}, i)
    if value.op in PRODUCTS:
        raise NotAffineError(f"{value.name if value.op == 'M' else f'U_{value.name}'} multiplies the state")
    zero = graph.number(0)
    if value.op in ("add", "sub", "neg"):
        every = {k for form in forms for k in form.slopes}
        return Affine(
            {k: apply(value.op, *(form.slopes.get(k, zero) for form in forms)) for k in every},
            apply(value.op, *(form.rest for form in forms)),
        )
    if value.op == "where" and not forms[0].slopes:
        condition = forms[0].rest
        every = {k for form in forms[1:] for k in form.slopes}
        return Affine(
            {k: apply("where", condition, *(form.slopes.get(k, zero) for form in forms[1:])) for k in every},
            apply("where", condition, *(form.rest for form in forms[1:])),
        )
    if value.op == "mul":
        if forms[0].slopes and forms[1].slopes:
            raise NotAffineError("it multiplies the state with itself")
        with_state, factor = (forms[0], forms[1].rest) if forms[0].slopes else (forms[1], forms[0].rest)
        slopes = {k: apply("mul", a, factor) for k, a in with_state.slopes.items()}
        return Affine(slopes, apply("mul", with_state.rest, factor))
    if value.op == "div":
        if forms[1].slopes:
            raise NotAffineError("it divides by the state")
        slopes = {k: apply("div", a, forms[1].rest) for k, a in forms[0].slopes.items()}
        return Affine(slopes, apply("div", forms[0].rest, forms[1].rest))
    raise NotAffineError(f"it takes {value.op} of the state")
