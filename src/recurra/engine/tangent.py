"""What a step's new state depends on, read from its program: the matrices of forward-in-time gradients.

A step is made of operations on each number of a row, and of what mixes the numbers of a row: products and sums over it.
Between two mixings everything is element-wise, so one value y depends on another b by one factor a number, which is
again a value of the program: `∂y_j/∂b_j`. What mixes is a matrix. So the state Jacobian `D = ∂s_t/∂s_(t-1)`, and what a
net input or any other place where a parameter enters does to the new state at once, are sums and products of diagonal
matrices, whose entries are values of the program, and of the cell's own matrices. `Tangents` writes them down once for
a cell; `recurra.engine.influence` computes them at every step (Williams & Zipser 1989; eqs 6.40-6.44).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from recurra.engine.adjoint import partial
from recurra.engine.program import PRODUCTS, Graph, Value
from recurra.engine.trace import Step

DIAGONAL_OF_U = -1
"""The part that names the diagonal U of a gate among a program's vectors."""


class Node(NamedTuple):
    """A matrix that is made at every step.

    Attributes:
        op: "parameter", U of a gate or some rows and columns of a further matrix; "row" and "column", of the numbers of
            a value; "scaled", the matrix `args[0]` with the value `value` before its rows or
            behind its columns, by `side`; "product" of two; "sum" of several.
        rows: Its rows.
        columns: Its columns.
        args: Matrices that it is made of, by number.
        value: A value of the program, by number; for a parameter, the product that it belongs to.
        side: "rows" or "columns" of what is scaled; for a parameter, which of the operands' parts, as a number.
    """

    op: Literal["parameter", "row", "column", "scaled", "product", "sum"]
    rows: int
    columns: int
    args: tuple[int, ...] = ()
    value: int = -1
    side: str = ""


class Block(NamedTuple):
    """How one value depends on another: by a diagonal matrix, by a whole one, or by both added up.

    Attributes:
        diagonal: The value of the program that stands on the diagonal, or None.
        matrix: The number of a `Node`, or None.
    """

    diagonal: int | None
    matrix: int | None


class Source(NamedTuple):
    """A place where a parameter enters the step: W x of a gate, a product with U or a matrix, a bias or a vector.

    Attributes:
        value: The value of the program.
        kind: "x", "U", "M", "bias" or "vector".
    """

    value: int
    kind: str


@dataclass
class Tangents:
    """The linear part of a step.

    Args:
        step: The step; the values that factors are made of are added to its graph.
        is_diagonal: Whether U is diagonal, so that a product with it mixes nothing.

    Attributes:
        state: The values of the old state, one part after another, and their widths.
        new: Those of the new state.
        sources: Where parameters enter.
        D: By part of the new state and part of the old one, how the first depends on the second.
        E: By part of the new state and source.
        nodes: The matrices that they are made of, each after those that it is made of itself.
    """

    step: Step
    is_diagonal: bool
    nodes: list[Node] = field(default_factory=list)
    D: dict[tuple[int, int], Block] = field(default_factory=dict)
    E: dict[tuple[int, int], Block] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = self.step.graph
        self._known: dict[Node, int] = {}
        self._slopes: dict[int, dict[int, int]] = {}
        self._forms: dict[int, dict[int, Block]] = {}
        self.state = [i for parts in self.step.old.values() for i in parts]
        self.new = [i for parts in self.step.new.values() for i in parts]
        order = graph.needed(self.new)
        kinds = {"x": "x", "U": "U", "M": "M", "bias": "bias", "vector": "vector"}
        self.sources = [Source(i, kinds[graph[i].op]) for i in order if graph[i].op in kinds]
        places = {source.value: k for k, source in enumerate(self.sources)}
        olds = {i: q for q, i in enumerate(self.state)}
        for p, i in enumerate(self.new):
            for base, block in self._form(i).items():
                if base in olds:
                    self.D[p, olds[base]] = block
                elif base in places:
                    self.E[p, places[base]] = block

    @property
    def graph(self) -> Graph:
        """The program's values."""
        return self.step.graph

    @property
    def widths(self) -> list[int]:
        """The width of each part of the state."""
        return [self.graph[i].width for i in self.state]

    def values(self) -> list[int]:
        """Every value of the program that the matrices are made of."""
        blocks = [*self.D.values(), *self.E.values()]
        found = {b.diagonal for b in blocks if b.diagonal is not None}
        found |= {node.value for node in self.nodes if node.op != "parameter" and node.value >= 0}
        return sorted(found)

    # --- what is element-wise -------------------------------------------------------------------------------------

    def _is_mixing(self, value: Value) -> bool:
        return value.op == "row_sum" or (value.op in PRODUCTS and not (self.is_diagonal and value.op == "U"))

    def _slopes_of(self, target: int) -> dict[int, int]:
        """The factors by which a value depends, number by number, on what is mixed and on what the step begins with."""
        if target not in self._slopes:
            graph, one = self.graph, self.graph.number(1)
            found: dict[int, int] = {}
            delta = {target: one}
            for i in reversed(graph.needed([target])):
                value = graph[i]
                if i not in delta or value.op in ("number", "constant"):
                    continue
                if not value.args or value.op in PRODUCTS or self._is_mixing(value):
                    found[i] = delta[i]
                if value.op in PRODUCTS and not self._is_mixing(value):
                    u = graph.leaf("vector", value.name, value.width, part=DIAGONAL_OF_U, fixed=True)
                    given = [(value.args[0], graph.apply("mul", delta[i], u))]
                elif value.args and not self._is_mixing(value):
                    given = list(partial(graph, i, delta[i]))
                else:
                    given = []
                for argument, slope in given:
                    if graph[argument].op != "number":
                        before = delta.get(argument)
                        delta[argument] = slope if before is None else graph.apply("add", before, slope)
            zero = {i for i, d in found.items() if graph[d].op == "number" and graph[d].number == 0}
            self._slopes[target] = {i: d for i, d in found.items() if i not in zero}
        return self._slopes[target]

    # --- what mixes -----------------------------------------------------------------------------------------------

    def _form(self, target: int) -> dict[int, Block]:
        """How a value depends on every part of the old state and on every source, through whatever lies between."""
        if target not in self._forms:
            graph, wide = self.graph, self.graph[target].width
            diagonals: dict[int, int] = {}
            matrices: dict[int, list[int]] = {}
            for base, slope in self._slopes_of(target).items():
                value = graph[base]
                if value.op != "row_sum":
                    if value.width == wide:
                        diagonals[base] = slope
                    else:  # one number stands for the whole row
                        matrices.setdefault(base, []).append(self._column(slope, wide))
                if self._is_mixing(value):
                    for through, matrix in self._mixed(base).items():
                        matrices.setdefault(through, []).append(self._behind(slope, wide, matrix))
            self._forms[target] = {
                base: Block(diagonals.get(base), self._sum(matrices.get(base, [])))
                for base in sorted({*diagonals, *matrices})
            }
        return self._forms[target]

    def _mixed(self, mixing: int) -> dict[int, int]:
        """How the result of a product, or of a sum over a row, depends on everything: the numbers of matrices."""
        graph, value = self.graph, self.graph[mixing]
        terms: dict[int, list[int]] = {}
        for k, operand in enumerate(value.args):
            columns = graph[operand].width
            matrix = None
            if value.op != "row_sum":
                matrix = self._node(Node("parameter", value.width, columns, value=mixing, side=str(k)))
            for base, block in self._form(operand).items():
                terms.setdefault(base, []).extend(self._times(matrix, block, columns))
        return {base: matrix for base, found in terms.items() if (matrix := self._sum(found)) is not None}

    def _times(self, matrix: int | None, block: Block, columns: int) -> Iterable[int]:
        """A matrix, or a row of ones, times a block that has so many rows."""
        graph = self.graph
        if block.diagonal is not None:
            is_one = graph[block.diagonal].op == "number" and graph[block.diagonal].number == 1
            if matrix is None:
                yield self._node(Node("row", 1, columns, value=block.diagonal))
            elif is_one:
                yield matrix
            else:
                rows = self.nodes[matrix].rows
                yield self._node(Node("scaled", rows, columns, (matrix,), block.diagonal, "columns"))
        if block.matrix is not None:
            if matrix is None:
                matrix = self._node(Node("row", 1, columns, value=graph.number(1)))
            sizes = self.nodes[matrix].rows, self.nodes[block.matrix].columns
            yield self._node(Node("product", *sizes, (matrix, block.matrix)))

    def _behind(self, slope: int, wide: int, matrix: int) -> int:
        """A matrix whose rows, or whose only row, a value is laid on."""
        node, value = self.nodes[matrix], self.graph[slope]
        if node.rows < wide:
            column = self._column(slope, wide)
            return self._node(Node("product", wide, node.columns, (column, matrix)))
        if value.op == "number" and value.number == 1:
            return matrix
        return self._node(Node("scaled", wide, node.columns, (matrix,), slope, "rows"))

    def _column(self, value: int, rows: int) -> int:
        return self._node(Node("column", rows, 1, value=value))

    def _sum(self, terms: list[int]) -> int | None:
        if len(terms) < 2:
            return terms[0] if terms else None
        first = self.nodes[terms[0]]
        return self._node(Node("sum", first.rows, first.columns, tuple(terms)))

    def _node(self, node: Node) -> int:
        if node not in self._known:
            self._known[node] = len(self.nodes)
            self.nodes.append(node)
        return self._known[node]
