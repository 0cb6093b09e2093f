"""The client is light: it lives inside other people's trainers."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from rewardhub.client import adapters

HEAVY = ["torch", "sympy", "fastapi", "redis", "numpy", "pydantic", "transformers", "PIL", "starlette", "uvicorn"]


@pytest.mark.parametrize(
    "module", ["rewardhub.client", "rewardhub.client.adapters.trl", "rewardhub.client.adapters.verl"]
)
def test_importing_the_client_loads_nothing_heavy(module):
    """None of the heavy packages of hub or models is imported."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("path", sorted(Path(adapters.__file__).parent.glob("*.py")), ids=lambda path: path.stem)
def test_an_adapter_loads_by_its_path(path):
    """Most trainers load a reward by file path, outside any package; none needs its trainer to load."""
    spec = importlib.util.spec_from_file_location("custom_module", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.__doc__


def test_the_client_imports_no_room_above_it():
    """Of RewardHub only the vocabulary, the errors, the wire and the stubs are loaded."""
    code = "import sys, rewardhub.client; print(*sorted({n.split('.')[1] for n in sys.modules if n.startswith('rewardhub.')}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["client", "errors", "types", "v1", "wire"]
