"""Verifiers of the pool tests: an operator's file, loaded by the workers too."""

import os
import time

from rewardhub.registry import verifier


@verifier("obedient", lane="pool", time_limit_s=0.4)
def obedient(response, reference) -> float:
    """Does what the response says: loops, dies, eats memory, or gives its length."""
    text = response.text
    if text == "loop":
        while True:
            pass
    if text == "sleep":
        time.sleep(60)
    if text == "die":
        os._exit(3)
    if text == "eat":
        return float(len(bytearray(8 << 30)))
    if text == "raise":
        raise ValueError("no")
    return len(text) / 100


def known(response, reference):
    """Decides texts that begin with a digit."""
    return 0.5 if response.text[:1].isdigit() else None


@verifier("hybrid", lane="pool", fast=known)
def hybrid(response, reference) -> float:
    """The process that decided what the fast path could not."""
    return float(os.getpid())
