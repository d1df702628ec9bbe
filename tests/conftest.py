"""What every test may use."""

import os
from collections.abc import Generator
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command does, and before PyTorch is imported

hypothesis.settings.register_profile("untimed", deadline=None)  # what a first call imports is no slowness of the code
hypothesis.settings.load_profile("untimed")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, named by RECURRA_DATA; tests that need it are skipped where it is absent."""
    named = os.environ.get("RECURRA_DATA")
    if not named:
        pytest.skip("RECURRA_DATA does not name a folder with the real data sets")
    return Path(named)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In continuous integration, a test that was to see real data and skipped itself has failed."""
    report = yield
    promised = os.environ.get("CI") and os.environ.get("RECURRA_DATA")
    if promised and report.skipped and "data_folder" in getattr(item, "fixturenames", ()):
        why = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"RECURRA_DATA is set, so this must run on real data, and it did not. {why}"
    return report
