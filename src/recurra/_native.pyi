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
    def run(
        self,
        steps: int,
        rows: int,
        threads: int,
        from_the_end: bool,
        arrays: list[int],
        panels: list[int],
        valid: int,
        resets: int,
        more_resets: bool,
    ) -> None:
        """Runs it. An array is three numbers: its address, and how far its steps and its rows lie apart.

        Raises:
            ValueError: Another number of arrays or matrices than the program has.
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
