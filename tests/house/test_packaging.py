"""The wheel and the source archive: built here, without a network, and used outside the checkout."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from recurra.engine import native
from recurra.version import __version__

CHECKOUT = Path(__file__).parents[2]


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command that must end well, away from the checkout's own sources; what it printed."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "RECURRA"))}
    done = subprocess.run(words, cwd=cwd, env={**inherited, **environment}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build(kind: str, source: Path, into: Path) -> Path:
    """Build the wheel or the sdist of `source` with the build backend installed here; its path."""
    # What lies in an archive does not depend on how well the core is compiled, and for how many instruction sets.
    quick = (
        "-Ccmake.build-type=Debug",
        "-Ccmake.define.RECURRA_INSTRUCTION_SETS=baseline",
        f"-Cbuild-dir={into}-build",
    )
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", *quick, "--outdir", into, source, cwd=into)
    (built,) = into.iterdir()
    return built


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("sdist", CHECKOUT, tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def unpacked(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive's own folder."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"recurra-{__version__}"


@pytest.fixture(scope="session")
def wheel(unpacked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive: what a packager does, and the harder way."""
    return build("wheel", unpacked, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel installed; the dependencies are those of the environment outside."""
    folder = tmp_path_factory.mktemp("elsewhere") / "environment"
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    python = folder / "bin" / "python"
    run(
        *(sys.executable, "-m", "pip", f"--python={python}", "install", "--quiet", "--no-deps", "--no-index", wheel),
        cwd=folder,
    )
    # As a plain path, so that the files in the outer folder that point back at the checkout are not read.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_the_wheel_holds_the_package_and_all_that_it_reads(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    source = CHECKOUT / "src"
    files = {path for path in (source / "recurra").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    cores = {path for path in files if path.match("_native*.so")}  # the checkout's own
    assert {str(path.relative_to(source)) for path in files - cores} <= held
    assert len([name for name in held if name.startswith("recurra/_native.") and name.endswith(".so")]) == len(cores)
    assert any(name.endswith("/recipes/digits.toml") for name in held)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in held)
    assert not [name for name in held if name.startswith(("tests/", "docs/", "native/"))]


def test_the_source_archive_holds_the_core_tests_and_documentation(unpacked: Path) -> None:
    for name in (
        "Makefile",
        "constraints.txt",
        "mkdocs.yml",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
    ):
        assert (unpacked / name).is_file(), name
    for name in (
        "tests/house/test_packaging.py",
        "tests/conftest.py",
        "docs/index.md",
        "src/recurra/data/sets.toml",
        "src/recurra/_native.pyi",
    ):
        assert (unpacked / name).is_file(), name
    sources = CHECKOUT / "native"
    files = {path.relative_to(CHECKOUT) for path in sources.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert files
    assert {path for path in files if not (unpacked / path).is_file()} == set()
    assert not [path for path in unpacked.rglob("*") if path.name in ("__pycache__", ".venv", "runs", "site")]
    assert not list(unpacked.rglob("*.so"))


def test_the_command_runs_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    command = environment / "bin" / "recurra"
    assert run(command, "--version", cwd=tmp_path) == f"recurra {__version__}\n"
    listed = run(command, "recipes", cwd=tmp_path)
    assert "digits" in listed
    assert 'task = "classify"' in run(command, "recipes", "digits", cwd=tmp_path)


def test_the_core_of_the_wheel_runs(environment: Path, tmp_path: Path) -> None:
    script = "from recurra.engine import native; print(native.why_not() or native.core().__file__)"
    printed = run(environment / "bin" / "python", "-c", script, cwd=tmp_path)
    if native.why_not() is None:
        assert printed.startswith(str(environment))
    else:
        assert "no C++ compiler" in printed


def test_every_module_can_be_imported_outside_the_checkout(environment: Path, tmp_path: Path) -> None:
    script = (
        "import importlib, pkgutil, recurra\n"
        "for module in pkgutil.walk_packages(recurra.__path__, 'recurra.'):\n"
        "    if not module.name.endswith('__main__'):\n"
        "        print(importlib.import_module(module.name).__file__)\n"
    )
    printed = run(environment / "bin" / "python", "-c", script, cwd=tmp_path).splitlines()
    assert len(printed) > 20
    assert {path for path in printed if not path.startswith(str(environment))} == set()
