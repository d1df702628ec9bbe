"""Teacher forcing: how much of what a decoder reads is true, as training goes on."""

import math
from typing import Literal

Schedule = Literal["always", "linear", "exponential", "inverse_sigmoid"]
Forcing = Literal[Schedule, "never"]


def forced_share(schedule: Forcing, epoch: int, epochs: int | None, last: float) -> float:
    """Share of true symbols, or numbers, that a decoder reads in an epoch, from 0 (Bengio et al. 2015, section 2.4,
    between 1 and the last share).

    linear: falls evenly. exponential: by the same factor each epoch. inverse_sigmoid: k / (k + e^(i/k)), brought to end
    where it should.

    Args:
        schedule: How it falls.
        epoch: Which epoch.
        epochs: How many there are.
        last: The share in the last of them.
    """
    if schedule == "never":
        return 0.0
    if schedule == "always" or epochs is None or epochs < 2:
        return 1.0
    done = min(1.0, epoch / (epochs - 1))
    if schedule == "linear":
        return 1 - (1 - last) * done
    if schedule == "exponential":
        return max(last, 1e-3) ** done if last else (1e-3**done) * (done < 1)
    falls = [1 / (1 + math.exp(12 * (x - 0.5))) for x in (0.0, done, 1.0)]
    return last + (1 - last) * (falls[1] - falls[2]) / (falls[0] - falls[2])
