"""The client is light: it lives inside other people's trainers."""

import subprocess
import sys

import pytest

HEAVY = ["torch", "sympy", "fastapi", "redis", "numpy", "pydantic", "transformers", "PIL", "starlette", "uvicorn"]


@pytest.mark.parametrize(
    "module", ["rewardhub.client", "rewardhub.client.adapters.trl", "rewardhub.client.adapters.verl"]
)
def test_importing_the_client_loads_nothing_heavy(module):
    """None of the heavy packages of hub or models is imported."""
    code = f"import sys, {module}; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_client_imports_no_room_above_it():
    """Of RewardHub only the vocabulary, the errors, the wire and the stubs are loaded."""
    code = "import sys, rewardhub.client; print(*sorted({n.split('.')[1] for n in sys.modules if n.startswith('rewardhub.')}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["client", "errors", "types", "v1", "wire"]
