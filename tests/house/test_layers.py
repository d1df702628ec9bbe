"""Rules that no single module can keep: imports point downward, nothing is unpickled, no stray addresses."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGE = CHECKOUT / "src" / "recurra"

FLOORS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"testing"},  # for tests alone: nothing of the package may import it
            {"__main__"},
            {"cli"},
            {"run", "bench"},
            {"tasks"},
            {"theory", "analysis"},
            {"learn"},
            {"nn"},
            {"engine"},
            {"cells", "data", "_native"},
            {"math", "errors", "files", "version", "recipes"},
        ),
    )
)
"""The folders and modules of the package, from the top down. Each may import from the floors below it."""

LEVEL = {name: floor for floor, names in enumerate(FLOORS) for name in names}
GROUND = FLOORS[-1]

SOURCES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    """The folder, or the module beside the folders, that a file belongs to: `nn` for `nn/recurrent.py`."""
    return path.parts[0] if len(path.parts) > 1 else path.stem


def imported(tree: ast.Module, path: Path) -> Iterator[tuple[int, str]]:
    """Each line that imports, and the full name that it imports; relative imports are resolved."""
    package = ("recurra", *path.parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join((*above, *(node.module or "").split("."))).strip(".")
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def upward(tree: ast.Module, path: Path) -> list[str]:
    """The imports of a file that do not point downward."""
    here = room(path)
    faults = []
    for line, name in imported(tree, path):
        parts = name.split(".")
        if parts[0] != "recurra":
            continue
        there = parts[1] if len(parts) > 1 else ""
        if there == here or (there in GROUND and here in GROUND):
            continue
        if there not in LEVEL:
            faults.append(f"{path}:{line}: imports {name}, which stands on no floor")
        elif LEVEL[there] <= LEVEL[here]:
            faults.append(f"{path}:{line}: {here} imports {name}, which is not below it")
    return faults


def parsed(path: Path) -> ast.Module:
    return ast.parse((PACKAGE / path).read_text("utf-8"))


@pytest.mark.parametrize("path", [path for path in SOURCES if path != Path("__init__.py")], ids=str)
def test_imports_point_downward(path: Path) -> None:
    assert room(path) in LEVEL, f"{path}: say on which floor {room(path)} stands"
    assert upward(parsed(path), path) == []


@pytest.mark.parametrize(
    ("where", "line", "found"),
    [
        ("cells/lstm.py", "from recurra.engine.eager import run", "which is not below it"),
        ("cells/lstm.py", "from ..nn import Recurrent", "which is not below it"),
        ("cells/lstm.py", "import recurra.data.sequences", "which is not below it"),
        ("engine/eager.py", "from .. import run", "which is not below it"),
        ("errors.py", "import recurra.cells", "which is not below it"),
        ("run/api.py", "from recurra import Recurrent", "which stands on no floor"),
        ("run/api.py", "def f():\n    from recurra import cli", "which is not below it"),
        ("run/api.py", "from recurra.tasks import TASKS", None),
        ("run/api.py", "from . import folder", None),
        ("cells/lstm.py", "from .form import cell", None),
        ("cells/lstm.py", "from ..math import tanh", None),
        ("files.py", "from recurra.errors import RunError", None),
        ("cells/lstm.py", "from torch import nn", None),
    ],
)
def test_the_check_itself_tells_up_from_down(where: str, line: str, found: str | None) -> None:
    faults = upward(ast.parse(line), Path(where))
    assert [found in fault for fault in faults if found] == ([True] if found else [])
    assert bool(faults) == bool(found)


UNSAFE = frozenset({"dill", "cloudpickle", "joblib", "shelve", "marshal"})
"""Modules that run code when they read a file."""

READERS = frozenset({"load", "loads", "Unpickler"})
"""What of `pickle` does the same; its other names (a cell tells how it is copied) are harmless."""


def unsafe(tree: ast.Module, path: Path) -> list[str]:
    """Uses of what runs code that stands in a file."""
    faults = []
    for line, name in imported(tree, path):
        module, _, last = name.rpartition(".")
        if name.split(".")[0] in UNSAFE or (module in ("pickle", "_pickle") and last in (*READERS, "*")):
            faults.append(f"{path}:{line}: {name}")
    pickles = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name in ("pickle", "_pickle")
    }
    forbidden = {"eval", "exec", "builtins.eval", "builtins.exec", "torch.load"}
    forbidden |= {f"{name}.{reader}" for name in pickles for reader in READERS}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        allows = any(
            word.arg == "allow_pickle" and not (isinstance(word.value, ast.Constant) and word.value.value is False)
            for word in node.keywords
        )
        if call in forbidden or allows:
            faults.append(f"{path}:{node.lineno}: {call}")
    return faults


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    assert unsafe(parsed(path), path) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("from pickle import loads", 1),
        ("import pickle\npickle.load(file)", 1),
        ("import pickle as p\np.Unpickler(file)", 1),
        ("import pickle\nraise pickle.PicklingError('no')", 0),
        ("from joblib import load", 1),
        ("torch.load(path)", 1),
        ("numpy.load(path, allow_pickle=True)", 1),
        ("eval(text)", 1),
        ("exec(text, {})", 1),
        ("numpy.load(path, allow_pickle=False)", 0),
        ("layer.eval()", 0),
        ("safetensors.torch.load(data)", 0),
    ],
)
def test_the_check_itself_knows_what_is_unsafe(line: str, count: int) -> None:
    assert len(unsafe(ast.parse(line), Path("run/api.py"))) == count


def test_importing_recurra_alone_is_light() -> None:
    """Public names are brought in when first used: `recurra --help` must not wait for PyTorch."""
    script = (
        "import sys, recurra\n"
        "heavy = {'torch', 'numpy', 'polars', 'sklearn', 'matplotlib', 'pydantic', 'typer'} & set(sys.modules)\n"
        "assert not heavy, f'import recurra brings in {sorted(heavy)}'\n"
        "missing = [name for name in recurra.__all__ if not hasattr(recurra, name)]\n"
        "assert not missing, f'recurra.__all__ promises {missing}'\n"
        "assert 'torch' in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


STRAY = {
    "a machine's path": re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+|opt|mnt)/\w"),
    "a package registry": re.compile(
        "|".join(
            host.replace(".", r"\.")
            for host in (
                "py" + "pi.org",
                "files.python" + "hosted.org",
                "download.py" + "torch.org",
                "registry.np" + "mjs.org",
                "conda." + "anaconda.org",
            )
        )
    ),
}
"""What belongs to one machine or one way of installing, and not into the project."""


def tracked() -> list[Path]:
    """The files of the checkout that are kept in git; in an unpacked source archive, all of them."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True)
    if listing.returncode == 0 and listing.stdout:
        return [path for name in listing.stdout.split("\0") if name and (path := CHECKOUT / name).is_file()]
    kept = ("src", "tests", "docs")
    return [path for folder in kept for path in (CHECKOUT / folder).rglob("*") if path.is_file()]


def test_no_machine_and_no_registry_is_named() -> None:
    files = tracked()
    assert Path(__file__) in files or len(files) > 20
    faults = []
    for path in files:
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue  # an image, a compressed file
        for number, line in enumerate(text.splitlines(), 1):
            faults += [
                f"{path}:{number}: {what}: {line.strip()}" for what, known in STRAY.items() if known.search(line)
            ]
    assert faults == []


@pytest.mark.parametrize(
    ("text", "stray"),
    [
        ("see /" + "work/data", True),
        ("'/" + "home/anna/x'", True),
        ("pip install --index-url https://py" + "pi.org/simple", True),
        ("a/work/b", False),
        ("~/.cache/recurra", False),
        ("framework/x", False),
    ],
)
def test_the_check_itself_knows_what_is_stray(text: str, stray: bool) -> None:
    assert any(known.search(text) for known in STRAY.values()) == stray
