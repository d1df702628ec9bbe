"""The compiled core, built from native/; absent where there was no C++ compiler (`recurra.engine.native.why_not`)."""

def instruction_sets() -> dict[str, bool]:
    """Every instruction set that the core was built for, from the plainest to the widest, and whether it runs here."""

def chosen() -> str:
    """The instruction set that runs: the widest that this processor has, or what `RECURRA_ISA` names.

    Raises:
        ValueError: `RECURRA_ISA` names a set that was not built, or that this processor does not have.
    """

class Program:
    """A program, made once for a cell, a hidden_size and a type of numbers.

    Raises:
        ValueError: It names a slot, array, matrix or sum that is not there.
    """

    def __init__(
        self,
        instructions: list[tuple[int, int, int, int, int, int]],
        slots: list[tuple[int, int, int, int, int, float]],
        fields: list[tuple[int, int, int, int, int, int, int]],
        matrices: list[tuple[int, int, int]],
        sums: list[tuple[int, int]],
        cleared: list[int],
        arrays: int,
        backward: bool,
        is_double: bool,
    ) -> None: ...

class Layout:
    """Where what a program needs lies among the addresses that a call is given.

    A place is the number of an address and an offset from it in numbers.

    Args:
        program: The program.
        rows: Rows of the batch.
        addresses: How many addresses a call is given.
        arrays: Of each array: address (-1 for none), offset, whether it moves with the step at which a call begins,
            and how far its steps and its rows lie apart.
        packed: Of each matrix or block of one: address and offset; address and offset of its panels; rows, columns,
            numbers from row to row, whether it is transposed.
        panels: Where the panels of each matrix begin.
        last: Of each array whose last step is copied: its number, where to, and how many numbers.
        products: Sums of outer products that are made when the program has run: the places of D, V and D^T V; rows,
            columns of D and of V, numbers from row to row of each of the three, whether it is added to what is there.
        product_threads: Threads that make these.
        tidy: Whether gradients given at steps that are not taken are of no account.

    Raises:
        ValueError: Another number of arrays or matrices than the program has; an address that is not there.
    """

    def __init__(
        self,
        program: Program,
        rows: int,
        addresses: int,
        arrays: list[tuple[int, int, bool, int, int]],
        packed: list[tuple[int, int, int, int, int, int, int, bool]],
        panels: list[tuple[int, int]],
        last: list[tuple[int, int, int, int]],
        products: list[tuple[tuple[int, int], tuple[int, int], tuple[int, int], int, int, int, int, int, int, bool]],
        product_threads: int,
        tidy: bool,
    ) -> None: ...
    def run(
        self,
        addresses: list[int],
        step: int,
        steps: int,
        threads: int,
        from_the_end: bool,
        packs: bool,
        valid: int,
        resets: int,
        more_resets: bool,
    ) -> float:
        """Runs the program over so many steps from `step` on; returns the seconds that the recurrence took.

        Args:
            addresses: What the layout speaks of; it must live and stay where it is during the call.
            step: The first step.
            steps: How many.
            threads: Threads.
            from_the_end: Whether time runs from the last step to the first.
            packs: Whether the matrices are put into panels beforehand.
            valid, resets: Addresses of (T, B) flags from that step on; 0 for none.
            more_resets: Whether flags of resets follow behind the last step.

        Raises:
            ValueError: Another number of addresses than the layout expects.
        """

def packed_size(is_double: bool, rows: int, columns: int, transposed: bool) -> int:
    """The numbers that a matrix, or its transpose, takes in panels."""

def pack(is_double: bool, all: list[tuple[int, int, int, int, bool, int]], threads: int) -> None:
    """Puts matrices into panels.

    Each is (address, rows, columns, numbers from row to row, transposed, address of the panels).
    """

class Stream:
    """Layers that take one step after another, and their state. What addresses name must live as long.

    A layer is: the program; addresses of its arrays, and of its matrices; for each part of the state its width and the
    arrays of the new and of the old one; how many of the parts are put out; the width of x; the array of z and its
    width; to how many columns of z U h is added; addresses of W, U and the bias, 0 for none.

    What makes outputs, for arrays of NumPy and for tensors, is a function and its arguments for one axis and for two.

    Raises:
        ValueError: Layers that do not fit each other, or a program that is no step.
    """

    def __init__(
        self,
        is_double: bool,
        rows: int,
        threads: int,
        layers: list[
            tuple[Program, list[int], list[int], list[tuple[int, int, int]], int, int, int, int, int, int, int, int]
        ],
        tensor_type: type,
        arrays: tuple[object, object, object],
        tensors: tuple[object, object, object],
    ) -> None: ...
    def step(self, x: object, y: object | None) -> object | None:
        """Takes a step, and gives y, or a new one where that is None; None where it can take none with x or y."""
    def block(self, x: object, y: object) -> bool:
        """Takes as many steps as x has; false where it can take none with x or y.

        Raises:
            RuntimeError: Another thread is at a step.
        """
    def read(self, layer: int, part: int, into: int) -> None:
        """Copies a part of a layer's state, (rows, width), to an address."""
    def write(self, layer: int, part: int, from_: int) -> None:
        """Sets a part of a layer's state from an address."""

class Influence:
    """The influence of a layer's parameters on its state, J = D J + I, and the layer's steps (native/influence.hpp).

    Args:
        program: The step, which also writes what its linear part is made of.
        rows: Rows of the batch.
        threads: Threads that share the work, two at most.
        most: Steps that the influence is carried over at once at the most, 1 to 16; before it is read, and before what
            was collected is given, it is carried over those that wait.
        arrays: Of each array of the program: its address, 0 where the core says so itself, and numbers from row to row.
        packed: As a `Layout` has them; addresses count `addresses`.
        addresses: Of the matrices, and of the memory of their panels.
        panels: Where the panels of each matrix begin.
        parts: Of each part of the state: its width, and the arrays of the new and of the old one.
        sizes: How many parts are put out, the width of x, the array of z and its width.
        nets: Of each gate: its first column of z and how many; addresses of W, U and two biases, 0 for none.
        coefficients: Array of the program, or -1 and an address; numbers from row to row; 1, or 0 where one number
            stands for a whole row.
        squares: Matrices: address, 0 where it is made; rows, columns, numbers from row to row.
        vectors: Widths of vectors that are made.
        makings: How matrices and vectors are made, in order: what by, d, a, b, aux, whether it is added to d.
        inputs: What parameters multiply, by site: units, 1 where all have the same; columns; pieces (coefficient, -1
            for x, -2 for one; column; count; units that share numbers of their own, 0 for all).
        groups: Parameters that reach the same numbers of the state.
        through: Groups and members where x enters, and the address of W.
        giving: Which columns of what is collected are the gradient of which numbers of a parameter.

    Raises:
        ValueError: A plan that names what is not there.
    """

    def __init__(
        self,
        program: Program,
        rows: int,
        threads: int,
        most: int,
        arrays: list[tuple[int, int]],
        packed: list[tuple[int, int, int, int, int, int, int, bool]],
        addresses: list[int],
        panels: list[int],
        parts: list[tuple[int, int, int]],
        sizes: list[int],
        nets: list[tuple[int, int, int, int, int, int]],
        coefficients: list[tuple[int, int, int, int]],
        squares: list[tuple[int, int, int, int]],
        vectors: list[int],
        makings: list[tuple[int, int, int, int, int, bool]],
        inputs: list[tuple[int, int, list[tuple[int, int, int, int]]]],
        groups: list[tuple[object, ...]],
        through: list[tuple[int, int, int]],
        giving: list[tuple[int, int, int, int, int, int, int]],
    ) -> None: ...
    def advance(self, x: int, y: int, taken: int) -> None:
        """Takes a step from (rows, I) at x to (rows, H) at y; `taken`, bytes, 0 for rows that take none, or 0."""
    def collect(self, delta: int, below: int) -> None:
        """Adds what a loss gives, from its gradient by the new state, (rows, S); that by x is written to `below`."""
    def give(self, gradients: list[int]) -> None:
        """Adds what was collected to the gradients of the parameters, at these addresses; it is zero from then on."""
    def state(self, part: int, address: int, reads: bool) -> None:
        """Copies a part of the state, (rows, width), to an address, or from there."""
    def influence(self, group: int, address: int, reads: bool) -> None:
        """Copies a group's influence, (rows, rows of the group, columns), to an address, or from there."""
