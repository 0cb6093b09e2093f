"""Shared fixtures: the real data folder, a real Redis server, free ports."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real public data, named by REWARDHUB_DATA; skipped where it is unset."""
    name = os.environ.get("REWARDHUB_DATA")
    if not name:
        pytest.skip("REWARDHUB_DATA is not set: the real data is not at hand")
    path = Path(name)
    if not path.is_dir():
        pytest.fail(f"REWARDHUB_DATA={name} is not a folder")
    return path
