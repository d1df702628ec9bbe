"""The polynomials of `functions.hpp`: fits them and prints them as they stand there.

Each is fitted at the Chebyshev nodes of its interval (`mpmath.chebyfit`), which is within a small factor of the least
greatest error. Run it after changing an interval or a number of terms; a test compares the header with what it prints.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath
from mpmath import mpf

DIGITS = 60
Number = Any  # mpmath tells no types


class Fit(NamedTuple):
    """A function, where it is needed, and how many terms that takes in float32 and in float64."""

    name: str
    function: Callable[[Number], Number]
    interval: tuple[Number, Number]
    terms: tuple[int, int]


def exp_rest(r: Number) -> Number:
    """P in exp(r) = 1 + r + r² P(r)."""
    return mpmath.hyp1f1(1, 3, r) / 2


def tanh_rest(r: Number) -> Number:
    """P in (exp(2r) - 1) / 2 = r + r² P(r)."""
    return 2 * exp_rest(2 * r)


def log_rest(z: Number) -> Number:
    """L in log((1 + s) / (1 - s)) = 2 s + s z L(z) with z = s²."""
    return 2 * mpmath.hyp2f1(1, mpf(3) / 2, mpf(5) / 2, z) / 3


def sin_rest(z: Number) -> Number:
    """P in sin(r) = r + r z P(z) with z = r²."""
    return -mpmath.hyp1f2(1, 2, mpf(5) / 2, -z / 4) / 6


def cos_rest(z: Number) -> Number:
    """P in cos(r) = 1 - z / 2 + z² P(z) with z = r²."""
    return mpmath.hyp1f2(1, mpf(5) / 2, 3, -z / 4) / 24


def fits() -> list[Fit]:
    """All of them."""
    with mpmath.workdps(DIGITS):
        half = mpmath.log(2) / 2 * mpf("1.0001")  # a little over: the nearest whole multiple of ln 2 is itself rounded
        eighth = mpmath.pi / 4 * mpf("1.0001")
        s = (mpmath.sqrt(2) - 1) / (mpmath.sqrt(2) + 1)
        return [
            Fit("kExp", exp_rest, (-half, half), (5, 11)),
            Fit("kTanh", tanh_rest, (-half / 2, half / 2), (5, 11)),
            Fit("kLog", log_rest, (mpf(0), s * s), (4, 8)),
            Fit("kLog1p", log_rest, (mpf(0), mpf(1) / 9), (5, 12)),
            Fit("kSin", sin_rest, (mpf(0), eighth**2), (3, 6)),
            Fit("kCos", cos_rest, (mpf(0), eighth**2), (3, 6)),
        ]


def coefficients(fit: Fit, terms: int) -> list[float]:
    """The polynomial with this many terms, from the highest power down to the constant."""
    with mpmath.workdps(DIGITS):
        return [float(c) for c in mpmath.chebyfit(fit.function, list(fit.interval), terms)]


def main() -> None:
    """Prints the lines of the header."""
    for kind, which in (("float", 0), ("double", 1)):
        print(f"// {kind}")
        for fit in fits():
            numbers = ", ".join(repr(c) for c in coefficients(fit, fit.terms[which]))
            print(f"static constexpr {kind} {fit.name}[] = {{{numbers}}};")


if __name__ == "__main__":
    main()
