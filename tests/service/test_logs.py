"""What a hub and its workers write to standard error, whatever a plugin does: JSON lines without anybody's words."""

import json

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
