"""The vector functions of the native core against exact results, at every float, and as PyTorch's."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import mpmath
import numpy as np
import pytest
import torch

from scripts import loaded

ROOT = Path(__file__).parents[2]
NATIVE = ROOT / "native"
SOURCES = (NATIVE / "functions.hpp", NATIVE / "tests" / "functions.cpp", NATIVE / "tests" / "reference.cpp")
FLAGS = ("-std=c++17", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-Wall", "-Wextra", "-Werror")
SETS = {  # bytes in a vector, flags, what /proc/cpuinfo must name
    "generic": (16, (), ()),
    "avx2": (32, ("-mavx2", "-mfma"), ("avx2", "fma")),
    "avx512": (
        64,
        ("-mavx512f", "-mavx512dq", "-mavx512vl", "-mavx512bw", "-mfma"),
        ("avx512f", "avx512dq", "avx512vl", "avx512bw", "fma"),
    ),
}
LIMITS = {  # units in the last place
    "exp": 1.5,
    "log": 1.5,
    "tanh": 3.0,
    "sigmoid": 3.0,
    "log_sigmoid": 3.0,
    "softplus": 3.0,
    "sin": 3.0,
    "cos": 3.0,
    "sqrt": 0.5,
    "rsqrt": 1.5,
    "floor": 0.0,
}
BLOCK = 64  # numbers that the functions are called on: a whole number of vectors of every instruction set


class Worst(ctypes.Structure):
    """Where a function is furthest from the exact result."""

    _fields_ = (("distance", ctypes.c_double), ("at", ctypes.c_double), ("got", ctypes.c_double))
    _fields_ += (("right", ctypes.c_double),)


def instruction_sets() -> list[str]:
    """Those that this machine runs."""
    if platform.machine() != "x86_64":
        return ["generic"]
    words = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    return [name for name, (_, _, needed) in SETS.items() if words.issuperset(needed)]


def compiled(compiler: str, folder: Path) -> Path:
    """The library of the functions for all instruction sets, built unless these sources are built already."""
    sets = instruction_sets()
    version = subprocess.run([compiler, "--version"], check=True, capture_output=True).stdout
    words = [version, *(source.read_bytes() for source in SOURCES), repr((FLAGS, SETS, sets)).encode()]
    folder /= hashlib.sha256(b"\0".join(words)).hexdigest()[:16]
    library = folder / "functions.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)

    def run(*words: str) -> None:
        done = subprocess.run([compiler, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    jobs: list[tuple[str, ...]] = [(str(SOURCES[2]), "-o", str(folder / "reference.o"))]
    for name in sets:
        width, flags, _ = SETS[name]
        chosen = (f"-DRECURRA_ISA={name}", f"-DRECURRA_VECTOR_BYTES={width}", *flags)
        jobs.append((str(SOURCES[1]), *chosen, "-o", str(folder / f"{name}.o")))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: run(*FLAGS, "-c", *job), jobs))
    partial = folder / f"functions.{os.getpid()}.so"
    run("-shared", *map(str, sorted(folder.glob("*.o"))), "-o", str(partial))
    partial.rename(library)  # whole or not at all: another run may be looking for it
    return library


class Functions:
    """The functions of one compiler, for every instruction set of this machine."""

    def __init__(self, library: Path) -> None:
        self.library = ctypes.CDLL(str(library))
        self.ways = list(product(instruction_sets(), (False, True)))
        """Instruction sets, with subnormal numbers kept and flushed to zero."""

    def apply(self, name: str, way: tuple[str, bool], *numbers: np.ndarray) -> np.ndarray:
        """A function of one array, or of two."""
        count = len(numbers[0])
        operands = [np.concatenate([x, np.ones(-count % BLOCK, x.dtype)]) for x in numbers]
        operands.append(operands[0])
        out = np.full_like(operands[0], np.nan)
        function = getattr(self.library, f"{out.dtype}_{way[0]}")
        pointers = [ctypes.c_void_p(x.ctypes.data) for x in (out, *operands[:2])]
        assert function(name.encode(), int(way[1]), ctypes.c_int64(len(out)), *pointers)
        return out[:count]

    def worst(self, name: str, numbers: np.ndarray | range) -> list[Worst]:
        """Over these numbers, or over the floats with these bits, the worst in every way."""
        kind = "float32" if isinstance(numbers, range) else str(numbers.dtype)
        sets = [ctypes.cast(getattr(self.library, f"{kind}_{s}"), ctypes.c_void_p).value for s, _ in self.ways]
        found = (Worst * len(sets))()
        flush = (ctypes.c_int * len(sets))(*(int(f) for _, f in self.ways))
        front = (name.encode(), len(sets), (ctypes.c_void_p * len(sets))(*sets), flush)
        count = ctypes.c_int64(len(numbers))
        if isinstance(numbers, range):
            first, step = ctypes.c_uint32(numbers.start), ctypes.c_uint32(numbers.step)
            assert self.library.worst_of_bits(*front, first, step, count, found)
        else:
            sweep = self.library.worst_of_floats if kind == "float32" else self.library.worst_of_doubles
            assert sweep(*front, ctypes.c_void_p(numbers.ctypes.data), count, found)
        return list(found)

    def check(self, name: str, found: list[Worst]) -> None:
        """That none is further from the exact result than it may be."""
        for way, worst in zip(self.ways, found, strict=True):
            told = f"{name}({worst.at!r}) = {worst.got!r}, not {worst.right!r}, {way}: {worst.distance} units"
            assert 0 <= worst.distance <= LIMITS[name], told


COMPILERS = ("g++", "clang++")


@pytest.fixture(scope="module", params=COMPILERS)
def functions(request: pytest.FixtureRequest) -> Functions:
    if shutil.which(request.param) is None:
        pytest.skip(f"there is no {request.param} here")
    return Functions(compiled(request.param, ROOT / "build" / "functions"))


@pytest.fixture(scope="module")
def of_first_compiler() -> Functions:
    compiler = next(filter(shutil.which, COMPILERS), None)
    if compiler is None:
        pytest.skip(f"there is no C++ compiler here, of {' and '.join(COMPILERS)}")
    return Functions(compiled(compiler, ROOT / "build" / "functions"))


def edges(dtype: type) -> np.ndarray:
    """Numbers about which a function may change its mind, with their neighbours."""
    info = np.finfo(dtype)
    bounds = [0.0, info.smallest_subnormal, info.tiny, info.eps, 0.5, 2**-0.5, 2**0.5, 1.0, 2.0, np.pi, 9.0, 10.0, 20.0]
    bounds += [87.0, 88.0, 88.37626, 88.72284, 89.0, 103.97, 104.5, 708.0, 709.0, 709.78, 710.0, 745.13, 746.0, 1e4]
    bounds += [2.0**22, 2.0**23, 2.0**24, 2.0**31, 2.0**52, 2.0**53, 1e30, info.max, np.inf]
    bounds += [n * np.log(2) / 4 for n in range(1, 600)]
    x = np.array([*bounds, *np.negative(bounds)], dtype)
    with np.errstate(over="ignore", under="ignore"):
        return np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf)), [dtype(np.nan)]])


def sample(dtype: type, count: int = 1 << 14) -> np.ndarray:
    """Numbers of every size: where the functions bend, where they overflow, and any bits at all."""
    rng = np.random.default_rng(1)
    whole = np.uint32 if dtype is np.float32 else np.uint64
    bits = rng.integers(0, np.iinfo(whole).max, count, whole, endpoint=True).view(dtype)
    near = [rng.uniform(-b, b, count) for b in (1, 4, 40, 110, 760)]
    small = rng.normal(size=count) * 10.0 ** rng.integers(-9, 1, count)
    return np.concatenate([edges(dtype), bits, *(x.astype(dtype) for x in (*near, small))])


@pytest.mark.parametrize("name", LIMITS)
def test_a_sample_of_all_floats_is_near_the_exact_result(functions: Functions, name: str) -> None:
    functions.check(name, functions.worst(name, range(0, 2**32, 8191)))  # an odd step, so that all low bits come
    functions.check(name, functions.worst(name, sample(np.float32)))


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", LIMITS)
def test_every_float_is_near_the_exact_result(of_first_compiler: Functions, name: str) -> None:
    parts = [range(k, 2**32, 16) for k in range(16)]  # each of all sizes, so that it soon has a bad case to go by
    with ThreadPoolExecutor(2) as pool:  # the library is called without the interpreter's lock
        for found in pool.map(lambda bits: of_first_compiler.worst(name, bits), parts):
            of_first_compiler.check(name, found)


@pytest.mark.parametrize("name", LIMITS)
def test_doubles_are_near_the_exact_result(functions: Functions, name: str) -> None:
    if np.finfo(np.longdouble).nmant <= np.finfo(np.float64).nmant:
        pytest.skip("long double is no wider than double here, so it cannot judge")
    functions.check(name, functions.worst(name, sample(np.float64)))


@pytest.mark.parametrize(
    ("name", "exact"),
    [
        ("exp", mpmath.exp),
        ("log", mpmath.log),
        ("tanh", mpmath.tanh),
        ("sigmoid", lambda x: 1 / (1 + mpmath.exp(-x))),
        ("log_sigmoid", lambda x: -mpmath.log1p(mpmath.exp(-x))),
        ("softplus", lambda x: x if x > 20 else mpmath.log1p(mpmath.exp(x))),
    ],
)
def test_doubles_are_what_many_digits_give(functions: Functions, name: str, exact) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.uniform(-30, 30, 300), rng.uniform(-700, 700, 100), rng.normal(size=100) * 1e-5])
    x = np.abs(x) if name == "log" else x
    with mpmath.workdps(60):
        right = [exact(mpmath.mpf(float(v))) for v in x]
    for way in functions.ways:
        got = functions.apply(name, way, x)
        for v, g, r in zip(x, got, right, strict=True):
            assert abs(mpmath.mpf(float(g)) - r) <= LIMITS[name] * np.spacing(abs(float(r))), (name, way, v, g)


TORCH_UNARY = {
    **{n: getattr(torch, n) for n in ("abs", "sign", "floor", "sqrt", "rsqrt", "exp", "log", "sin", "cos", "tanh")},
    **{n: getattr(torch, n) for n in ("sigmoid", "relu")},
    "log_sigmoid": torch.nn.functional.logsigmoid,
    "softplus": torch.nn.functional.softplus,
}
TORCH_BINARY = {n: getattr(torch, n) for n in ("maximum", "minimum", "pow", "remainder")}
EQUAL = {"abs", "sign", "floor", "relu", "maximum", "minimum", "remainder"}


def same(name: str, got: np.ndarray, expected: torch.Tensor, numbers: list[np.ndarray], way: tuple[str, bool]) -> None:
    """That NaN, infinities, zeros and their signs are where PyTorch has them, and the others are near."""
    want = expected.numpy()
    zero = (got == 0) & (want == 0)
    near = np.isclose(got, want, rtol=0 if name in EQUAL else 8 * np.finfo(got.dtype).eps, atol=0, equal_nan=True)
    near |= (np.abs(got) < np.finfo(got.dtype).tiny) & (np.abs(want) < np.finfo(got.dtype).tiny)  # flushed by either
    wrong = ~near | (zero & (np.signbit(got) != np.signbit(want)))
    told = [(*(x[i] for x in numbers), got[i], want[i]) for i in np.flatnonzero(wrong)[:5]]
    assert not wrong.any(), f"{name}, {way}: of operands, got and expected differ at {told}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TORCH_UNARY)
def test_one_operand_as_pytorch(functions: Functions, name: str, dtype: type) -> None:
    x = sample(dtype, 1 << 12)
    expected = TORCH_UNARY[name](torch.from_numpy(x))
    for way in functions.ways:
        if way[1]:
            continue
        same(name, functions.apply(name, way, x), expected, [x], way)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", TORCH_BINARY)
def test_two_operands_as_pytorch(functions: Functions, name: str, dtype: type) -> None:
    info = np.finfo(dtype)
    special = [0, 0.3, 0.5, 1, 1.5, 2, 3, 7, 1e4, 2.0**24, info.smallest_subnormal, info.tiny, info.max, np.inf, np.nan]
    special = np.array([*special, *np.negative(special)], dtype)
    rng = np.random.default_rng(3)
    a, b = (np.repeat(special, len(special)), np.tile(special, len(special)))
    a = np.concatenate([a, rng.normal(size=5000) * 100, rng.integers(-500, 500, 5000) * 0.1]).astype(dtype)
    b = np.concatenate([b, rng.normal(size=5000), rng.integers(-50, 50, 5000) * 0.1]).astype(dtype)
    if name == "remainder":  # PyTorch gives NaN where x / y overflows, though there is a remainder
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            defined = np.isinf(a) | (b == 0) | np.isfinite(a / b) | np.isnan(a / b)
        a, b = a[defined], b[defined]
    expected = TORCH_BINARY[name](torch.from_numpy(a), torch.from_numpy(b))
    for way in functions.ways:
        if way[1]:
            continue
        same(name, functions.apply(name, way, a, b), expected, [a, b], way)


def test_tanh_is_odd_to_the_last_bit(functions: Functions) -> None:
    x = sample(np.float32)
    x = x[~np.isnan(x)]
    for way in functions.ways:
        assert np.array_equal(functions.apply("tanh", way, x), -functions.apply("tanh", way, -x))


def test_the_polynomials_are_those_that_the_script_fits() -> None:
    script = loaded(NATIVE / "polynomials.py")
    header = "".join(SOURCES[0].read_text(encoding="utf-8").split())
    for fit, which in product(script.fits(), (0, 1)):
        numbers = ",".join(map(repr, script.coefficients(fit, fit.terms[which])))
        assert f"{('float', 'double')[which]}{fit.name}[]={{{numbers}}};" in header, fit.name
