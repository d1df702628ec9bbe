"""What every test may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data sets, named by RECURRA_DATA; tests that need it are skipped where it is absent."""
    named = os.environ.get("RECURRA_DATA")
    if not named:
        pytest.skip("RECURRA_DATA does not name a folder with the real data sets")
    return Path(named)
