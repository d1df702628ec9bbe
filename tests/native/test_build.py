"""The compiled core: there wherever a compiler is, built for several instruction sets, and never half built."""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from recurra.engine import native
from recurra.errors import MissingExtraError

CHECKOUT = Path(__file__).parents[2]
TOOLS = Path(sys.executable).parent
"""Where cmake and ninja are, and no compiler."""

COMPILER = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++", "CC", "icpx"))), None)

if not (CHECKOUT / "native").is_dir():
    pytest.skip("the sources of the core are not here", allow_module_level=True)

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C++ compiler, so nothing can be built")


def run(
    *words: str | Path, path: str | None = None, cwd: Path = CHECKOUT, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command with another PATH and some more variables, without CXX unless it is given."""
    inherited = {key: value for key, value in os.environ.items() if key not in ("CXX", "CMAKE_ARGS", "RECURRA_ISA")}
    env = {**inherited, "PATH": path or os.environ["PATH"], **(variables or {})}
    return subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=120)


def configure(build: Path, *settings: str, path: str | None = None, **environment: str) -> tuple[int, str]:
    """Let CMake look at the core's sources; how it ended, and its words on one line."""
    words = [TOOLS / "cmake", "-S", CHECKOUT / "native", "-B", build, "-G", "Ninja", *settings]
    done = run(*words, path=path, variables=environment)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what a wheel is built from."""
    folder = tmp_path / "source"
    for name in ("native", "src"):
        shutil.copytree(CHECKOUT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "_native*.so"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, folder)
    return folder


def wheel(source: Path, into: Path, *settings: str, path: str | None = None) -> tuple[int, str]:
    """Build a wheel of `source` as pip does; how it ended, and the words on one line."""
    words = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", into, source]
    done = run(*words, *settings, path=path, cwd=into)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def loaded(**environment: str) -> str:
    """What a new process says of the core: the set that runs, or the error."""
    script = (
        "from recurra.engine import native\n"
        "from recurra.errors import RecurraError\n"
        "try:\n"
        "    print(native.core().chosen())\n"
        "except RecurraError as error:\n"
        "    print(f'{type(error).__name__}: {error}')\n"
    )
    done = run(sys.executable, "-c", script, variables=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# --- the core of this checkout ----------------------------------------------------------------------------------------


@needs_compiler
def test_the_core_is_there_wherever_there_is_a_compiler() -> None:
    assert native.why_not() is None


@needs_compiler
def test_the_widest_set_of_this_processor_runs() -> None:
    sets: Mapping[str, bool] = native.core().instruction_sets()
    assert next(iter(sets)) == "baseline"
    assert sets["baseline"]
    assert loaded() == loaded(RECURRA_ISA="") == [name for name, here in sets.items() if here][-1]
    if sysconfig.get_platform() == "linux-x86_64":
        assert list(sets) == ["baseline", "avx2", "avx512"]
        has = set(Path("/proc/cpuinfo").read_text("utf-8").split())
        assert sets["avx2"] == ({"avx2", "fma"} <= has)
        assert sets["avx512"] == ({"avx512f", "avx512dq", "avx512vl", "avx512bw", "fma"} <= has)


@needs_compiler
def test_another_set_can_be_asked_for() -> None:
    for name, here in native.core().instruction_sets().items():
        found = loaded(RECURRA_ISA=name)
        assert found == name if here else "this processor does not have that instruction set" in found


@needs_compiler
def test_a_set_that_does_not_exist_is_told_with_those_that_do() -> None:
    built = ", ".join(native.core().instruction_sets())
    assert loaded(RECURRA_ISA="avx3") == (
        f"RecipeError: RECURRA_ISA=avx3: there is no such instruction set in this build; built are {built}"
    )


@needs_compiler
def test_code_for_newer_processors_is_never_shared() -> None:
    """Of a function that several files hold (`std::vector`'s, say) the linker keeps the first. So every one that a file
    with flags of its own holds must be in the baseline's too, which is linked before."""
    listing = shutil.which("nm")
    if listing is None:
        pytest.skip("nm, which lists what an object file holds, is not installed")
    tag = sysconfig.get_config_var("py_version_nodot")
    build = next((CHECKOUT / "build").glob(f"editable-cp{tag}-*"), None)
    if build is None:
        pytest.skip("Recurra was not built in this folder")

    def shared(isa: str) -> set[str]:
        files = sorted((build / "CMakeFiles" / f"recurrence_{isa}.dir").glob("*.o"))
        assert {f.name for f in files} == {"recurrence.cpp.o", "influence_kernels.cpp.o"}
        lines = run(listing, "--demangle", "--defined-only", *files).stdout.splitlines()
        symbols = (parts[1:] for line in lines if len(parts := line.split(maxsplit=2)) == 3)
        return {name for kind, name in symbols if kind in "WVu" and f"recurra::{isa}::" not in name}

    plain = shared("baseline")
    for isa in native.core().instruction_sets():
        assert shared(isa) <= plain, isa


def test_a_core_that_was_not_built_is_told_and_a_broken_one_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "recurra._native", None)
    native._loaded.cache_clear()
    try:
        assert "no C++ compiler" in (native.why_not() or "")
        with pytest.raises(MissingExtraError, match="install it again"):
            native.core()
    finally:
        native._loaded.cache_clear()


# --- builds of other kinds --------------------------------------------------------------------------------------------


def test_without_a_compiler_the_package_installs_and_says_so(source: Path, tmp_path: Path) -> None:
    code, said = wheel(source, tmp_path, path=str(TOOLS))
    assert code == 0, said
    assert "installed without its compiled core" in said
    (built,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(built) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(tmp_path / "installed")
    script = "from recurra.engine import native; print(native.__file__, native.why_not())"
    # -S and the path by hand: nothing of the checkout's own installation is seen.
    found = run(
        *(sys.executable, "-S", "-c", script),
        cwd=tmp_path,
        variables={"PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), sysconfig.get_path("purelib")])},
    )
    assert found.stdout.startswith(str(tmp_path / "installed")), found.stderr
    assert "there was no C++ compiler" in found.stdout


@pytest.mark.parametrize("how", ["in PATH", "named by CXX"])
def test_a_broken_compiler_is_no_missing_one(tmp_path: Path, how: str) -> None:
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    if how == "in PATH":
        code, said = configure(tmp_path / "build", path=f"{tmp_path}{os.pathsep}{TOOLS}")
    else:
        code, said = configure(tmp_path / "build", path=str(TOOLS), CXX=str(broken))
    assert code != 0
    assert "is not able to compile a simple test program" in said
    assert "without its compiled core" not in said


@needs_compiler
def test_code_that_does_not_compile_fails_the_install(source: Path, tmp_path: Path) -> None:
    with (source / "native" / "instruction_sets.hpp").open("a", encoding="utf-8") as file:
        file.write("#error 'a fault in the code'\n")
    code, said = wheel(source, tmp_path, "-Cbuild.targets=common")  # what is faulty, and not nanobind before
    assert code != 0
    assert "a fault in the code" in said
    assert not list(tmp_path.glob("*.whl"))


@needs_compiler
def test_an_instruction_set_of_another_processor_is_told_when_building(tmp_path: Path) -> None:
    code, said = configure(tmp_path / "build", "-DRECURRA_INSTRUCTION_SETS=neon512", f"-DCMAKE_CXX_COMPILER={COMPILER}")
    assert code != 0
    assert "unknown instruction set 'neon512'. Known here: baseline" in said
