"""Sources that need no file: what is embedded in a library, and problems drawn from a seed. A file each."""

from recurra.data.made.adding import Adding
from recurra.data.made.bouncing_balls import BouncingBalls
from recurra.data.made.copy import Copy
from recurra.data.made.copy_vectors import CopyVectors
from recurra.data.made.digits import Digits
from recurra.data.made.drifting import Drifting
from recurra.data.made.moving_shapes import MovingShapes
from recurra.data.made.numerals import Numerals
from recurra.data.made.parity import Parity
from recurra.data.made.prices import Prices
from recurra.data.made.reber import EmbeddedReber
from recurra.data.made.sine import Sine
from recurra.data.made.source import Made, Problem
from recurra.data.made.stdlib import Stdlib
from recurra.data.made.swinging import Swinging
from recurra.data.made.temporal_order import TemporalOrder

MADE: dict[str, type[Made]] = {
    made.name: made
    for made in (
        *(
            Digits,
            Sine,
            Adding,
            Copy,
            CopyVectors,
            TemporalOrder,
            EmbeddedReber,
            Parity,
            Drifting,
            Numerals,
            Prices,
            Stdlib,
        ),
        *(BouncingBalls, MovingShapes, Swinging),
    )
}
"""Every such source by name: what the readers, the recipes and the documentation read."""

__all__ = ["MADE", "Made", "Problem"]
