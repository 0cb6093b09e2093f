"""Connections of callers without a key cost the hub a bounded number of descriptors, and its work none."""

import os
import resource
import socket
from contextlib import ExitStack

import httpx
import pytest

PROGRAM = {"code": "print(1)", "language": "python"}
LIMITS = "[server.limits]\nconcurrency = 100\n"


@pytest.fixture
def few_descriptors():
    """What is started meanwhile inherits a soft limit of 256 open files."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
    yield lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_idle_connections_stop_no_work(serve, few_descriptors, tmp_path):
    """T64, R19: more of them than the soft limit of open files: gRPC keeps so many as it is told, programs still run."""
    (tmp_path / "hub.toml").write_text(LIMITS)
    with serve("--config", str(tmp_path / "hub.toml")) as hub, ExitStack() as held:
        few_descriptors()
        before = len(os.listdir(f"/proc/{hub.pid}/fd"))
        for address, count in ((hub.url.partition("://")[2], 300), (hub.grpc, 900)):
            for _ in range(count):
                held.enter_context(socket.create_connection(address.rsplit(":", 1)))
        with httpx.Client(base_url=hub.url, timeout=60) as http:
            answer = http.post("/run_code", json=PROGRAM)
            assert answer.json()["run_result"]["stdout"] == "1\n"
        assert before + 300 < len(os.listdir(f"/proc/{hub.pid}/fd")) < before + 300 + 400 + 100
