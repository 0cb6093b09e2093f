"""What a hub and its workers write to standard error, whatever a plugin does: JSON lines without anybody's words."""

import json
import shutil
import socket
import subprocess

import httpx
import pytest

PLUGIN = """
import asyncio
import logging
import threading
import warnings

from rewardhub.registry import verifier


class Panic(BaseException):
    pass


class Noisy:
    def __init__(self, text):
        self.text = text

    def __del__(self):
        raise ValueError(self.text)


async def lost(text):
    raise ValueError(text)


def act(text):
    if "warns" in text:
        warnings.warn(text)
    if "logs" in text:
        logging.getLogger("plugin").warning("a line\\n%s", text)
    if "thread" in text:
        thread = threading.Thread(target=Noisy(text).__del__)
        thread.start()
        thread.join()
    if "deletes" in text:
        Noisy(text)
    if "task" in text:
        asyncio.get_running_loop().create_task(lost(text))
    if "panics" in text:
        raise Panic(text)
    if "interrupts" in text:
        raise KeyboardInterrupt(text)
    return 1.0


@verifier("here")
def here(response, reference) -> float:
    return act(response.text)


@verifier("pooled", lane="pool")
def pooled(response, reference) -> float:
    return act(response.text)
"""
FAULTS = ["warns", "logs", "thread", "deletes", "panics"]


def test_a_broken_handshake_writes_no_line_of_its_own(serve, tmp_path, capfd):
    """Anybody can make many."""
    key, cert, config = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "hub.toml"
    order = [
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=hub",
        "-keyout",
        str(key),
        "-out",
        str(cert),
    ]
    subprocess.run([shutil.which("openssl"), *order], check=True, capture_output=True)
    config.write_text(f'[server.tls]\ncert = "{cert}"\nkey = "{key}"\n')
    with serve("--config", str(config)) as hub:
        host, port = hub.grpc.split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            connection.recv(100)
    for line in capfd.readouterr().err.splitlines():
        json.loads(line)


@pytest.mark.parametrize(("recipe", "faults"), [("here", [*FAULTS, "task"]), ("pooled", [*FAULTS, "interrupts"])])
def test_every_line_is_json_and_quotes_nobody(serve, tmp_path, capfd, recipe, faults):
    """Warnings, loggers of others, exceptions that nobody catches: kinds and places only, one line each."""
    plugin = tmp_path / "noisy.py"
    plugin.write_text(PLUGIN)
    with serve("--plugin", str(plugin)) as hub:
        for fault in faults:
            body = {"recipe": recipe, "groups": [{"responses": [f"secret {fault}"]}]}
            assert httpx.post(f"{hub.url}/v1/score", json=body, timeout=60).status_code == 200
    written = capfd.readouterr().err
    lines = [json.loads(line) for line in written.splitlines()]
    assert "secret" not in written
    assert {"UserWarning", "a line"} <= {line["message"].split(" at ")[0] for line in lines}
    assert sum(line["message"] == "an exception was not caught" for line in lines) >= 2
