"""Every block of the README is executed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"(?:<!-- test: (?P<test>[^>]+?) -->\n)?```(?P<language>\w+)\n(?P<text>.*?)```", re.DOTALL)
BLOCKS = [match.groupdict() for match in BLOCK.finditer((ROOT / "README.md").read_text(encoding="utf-8"))]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files that the README shows, as it names them."""
    folder = tmp_path_factory.mktemp("readme")
    for block in BLOCKS:
        kind, _, name = (block["test"] or "").partition(" ")
        if kind in {"file", "verifier"}:
            (folder / name).write_text(block["text"])
    return folder


def run(command, folder):
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=110)


def blocks(kind):
    return [block["text"] for block in BLOCKS if (block["test"] or "").split()[:1] == [kind]]


@pytest.mark.parametrize("text", blocks("shell"))
def test_shell_blocks(folder, text):
    """Each command ends with 0."""
    for line in text.replace("\\\n", " ").splitlines():
        done = run(shlex.split(line), folder)
        assert done.returncode == 0, done.stderr


def test_scored_file(folder):
    """The group file gives the values that a reader expects."""
    from rewardhub.wire.lines import loads

    done = run(["rewardhub", "score", "groups.jsonl", "--recipe", "math"], folder)
    lines = [loads(line) for line in done.stdout.splitlines()]
    found = [[(score["value"], score["status"]) for score in line["scores"]] for line in lines]
    assert found == [[(1.0, "ok"), (0.0, "ok")], [(pytest.approx(1 / 3), "ok")], [(None, "reference_unparseable")]]


def test_client_block(folder):
    """The six lines print what the README says, against a hub started as it says."""
    (code,) = blocks("client")
    printed = BLOCKS[[block["text"] for block in BLOCKS].index(code) + 1]["text"]
    command = ["rewardhub", "serve", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    hub = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        ready = hub.stdout.readline()
        address = ready.split("grpc=")[1].split()[0]
        done = run([sys.executable, "-P", "-c", code.replace("127.0.0.1:8081", address)], folder)
        assert done.stdout == printed, done.stderr
    finally:
        hub.terminate()
        assert hub.wait(timeout=40) == 0
        hub.stdout.close()


def test_own_verifier(folder):
    """The twelve-line verifier passes the contract battery."""
    done = run(["rewardhub", "verifiers", "check", "brevity.py"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (code,) = blocks("verifier")
    assert len([line for line in code.splitlines() if line.strip()]) <= 12


def test_python_blocks(folder):
    """The other Python blocks run."""
    for text in blocks("python"):
        done = run([sys.executable, "-P", "-c", text], folder)
        assert done.returncode == 0, done.stderr


def test_every_block_is_accounted_for():
    """A block is tested, an output, or marked as needing what a test has not."""
    for block in BLOCKS:
        assert block["test"] or block["language"] == "text" or "make demo" in block["text"]


def test_make_targets_exist():
    """The two commands are targets of the Makefile."""
    targets = (ROOT / "Makefile").read_text()
    assert "\ndemo:" in targets
    assert "\ntest:" in targets
