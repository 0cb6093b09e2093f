"""The layout: top-level folders imported under one name, beside third-party packages."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["verifiers", "models"])
def test_folders_are_linked(name):
    """The package holds a link to the top-level folder."""
    link = ROOT / "rewardhub" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"


@pytest.mark.parametrize("name", ["verifiers", "models"])
def test_bare_names_are_refused(name):
    """From the repository root, the bare name is refused instead of shadowing another package."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); import {name}"],
        cwd=ROOT, env={k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"rewardhub.{name}" in done.stderr


def test_a_third_party_verifiers_stays_importable(tmp_path):
    """With a safe path, a package of the same name is importable beside ours."""
    (tmp_path / "verifiers.py").write_text("NAME = 'theirs'\n")
    code = "import verifiers, rewardhub.verifiers; print(verifiers.NAME, rewardhub.verifiers.__name__)"
    environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["theirs", "rewardhub.verifiers"], done.stderr


def test_no_file_shadows_the_standard_library():
    """A script run inside verifiers/ or models/ finds the standard library."""
    names = {path.stem for folder in ("verifiers", "models") for path in (ROOT / folder).rglob("*.py")}
    assert not (names - {"__init__"}) & set(sys.stdlib_module_names)


def test_generated_stubs_name_an_old_generator():
    """The stubs run on protobuf 5, 6 and 7, because their generator is old."""
    assert "Protobuf Python Version: 5.29" in (ROOT / "rewardhub/v1/types_pb2.py").read_text()
