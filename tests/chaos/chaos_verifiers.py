"""The nonce oracle: scores that only their own prompt and response have. An operator's file."""

import hashlib
import time
from typing import Annotated

from pydantic import Field

from rewardhub.registry import verifier

Milliseconds = Annotated[int, Field(ge=0, le=3_600_000)]


def oracle(prompt: str, response: str) -> float:
    """A value in [0, 1) from the hash of prompt and response."""
    return int.from_bytes(hashlib.sha256(f"{prompt}|{response}".encode()).digest()[:6], "big") / 2**48


@verifier("nonce")
def nonce(response, reference, group) -> float:
    """The oracle, inline."""
    return oracle(group.prompt, response.text)


@verifier("pooled_nonce", lane="pool", time_limit_s=1.0)
def pooled_nonce(response, reference, group, *, busy_ms: Milliseconds = 0, wait_ms: Milliseconds = 0) -> float:
    """The oracle in a worker process, after milliseconds of work or of waiting; some responses never end."""
    time.sleep(wait_ms / 1000)
    until = time.monotonic() + busy_ms / 1000
    while time.monotonic() < until or response.text.startswith("hang"):
        pass
    return oracle(group.prompt, response.text)
