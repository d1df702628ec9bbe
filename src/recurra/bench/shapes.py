"""The sizes that are timed: rows, steps, inputs, units, layers."""

import re
from dataclasses import dataclass, field

from recurra.errors import RecipeError, unknown

_WRITTEN = re.compile(r"B(\d+)T(\d+)I(\d+)H(\d+)(?:L(\d+))?", re.IGNORECASE)


@dataclass(frozen=True)
class Shape:
    """Rows B, steps T, inputs I, units H of each layer; two shapes of the same sizes are the same."""

    B: int
    T: int
    I: int  # noqa: E741 (the letter of the equations)
    H: int
    layers: int = 1
    name: str = field(default="", compare=False)

    @property
    def sizes(self) -> str:
        """As it is written on the command line: "B32T50I8H32"."""
        return f"B{self.B}T{self.T}I{self.I}H{self.H}" + (f"L{self.layers}" if self.layers > 1 else "")

    @property
    def work(self) -> int:
        """How much there is to do, in multiplications of a cell with one gate."""
        return self.B * self.T * self.H * (self.I + self.H + 2 * self.H * (self.layers - 1))

    def __str__(self) -> str:
        return self.name or self.sizes

    def with_steps(self, T: int) -> "Shape":
        """The same sizes with another number of steps."""
        return Shape(self.B, T, self.I, self.H, self.layers)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(128, 28, 28, 128, name="rows"),  # MNIST, a row of the image a step
        Shape(50, 50, 128, 256, name="charlm"),
        Shape(32, 50, 8, 32, name="small"),
        Shape(16, 784, 1, 128, name="long"),  # MNIST, a pixel a step
        Shape(64, 100, 256, 512, name="wide"),
        Shape(20, 35, 650, 650, layers=2, name="wordlm"),
        Shape(1, 1000, 64, 64, name="lone"),
        Shape(8, 200, 32, 32, name="few"),
    )
}
"""Shapes by name."""

SIX = ("rows", "charlm", "small", "long", "wide", "wordlm")
"""The shapes that most suites take."""


def parse(text: str) -> Shape:
    """The shape of that name, or of those sizes: "rows", "B32T50I8H32", "B20T35I650H650L2".

    Raises:
        RecipeError: There is none of that name, or a size is 0.
    """
    if text in SHAPES:
        return SHAPES[text]
    if not (found := _WRITTEN.fullmatch(text)):
        raise RecipeError(f"--shapes: {unknown('shape', text, SHAPES)}; sizes are written as B32T50I8H32, layers as L2")
    sizes = [int(digits) for digits in found.groups("1")]
    if 0 in sizes:
        raise RecipeError(f"--shapes: {text!r}: every size is 1 or more")
    B, T, I, H, layers = sizes  # noqa: E741
    return Shape(B, T, I, H, layers)
