"""Tests on real data may be skipped on somebody's machine, but not unseen in continuous integration."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

TESTS = """
import pytest

def test_with_data(data_folder):
    if not (data_folder / "set").is_dir():
        pytest.skip("there is no such set")

def test_that_cannot_run_here():
    pytest.skip("for another reason")
"""


@pytest.mark.parametrize(
    ("ci", "data", "present", "outcome"),
    [
        ("true", "data", True, "1 passed, 1 skipped"),
        ("true", "data", False, "1 failed, 1 skipped"),
        ("", "data", False, "2 skipped"),
        ("true", "", False, "2 skipped"),
    ],
)
def test_a_skip_for_want_of_data_fails_where_data_are_promised(
    tmp_path: Path, ci: str, data: str, present: bool, outcome: str
) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text("utf-8"), encoding="utf-8")
    (tmp_path / "test_some.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "data").mkdir()
    if present:
        (tmp_path / "data" / "set").mkdir()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:hypothesispytest",
            "--rootdir",
            tmp_path,
            ".",
        ],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "RECURRA_DATA": str(tmp_path / data) if data else ""},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert outcome in done.stdout.splitlines()[-1], done.stdout
    assert ("this must run on real data, and it did not. Skipped: there is no such set" in done.stdout) == (
        "failed" in outcome
    )
    assert done.returncode == (1 if "failed" in outcome else 0)
