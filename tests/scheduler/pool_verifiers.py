"""Verifiers of the pool tests: an operator's file, loaded by the workers too."""

import os
import time

import numpy as np

from rewardhub.registry import verifier
from rewardhub.types import Score


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


def mortal(text, log):
    """Dies or loops where the text says so, and says so in a file first; else the text's length."""
    if text.startswith(("die", "loop")):
        with open(log, "a") as lines:
            lines.write(f"{os.getpid()} {text}\n")
        if text.startswith("die"):
            os.kill(os.getpid(), 9)
        while True:
            pass
    return len(text) / 100


@verifier("mortal_alone", lane="pool", time_limit_s=0.3)
def mortal_alone(response, reference, *, log: str = "") -> float:
    """Scores responses one by one."""
    return mortal(response.text, log)


@verifier("mortal_whole", lane="pool", scope="group", time_limit_s=0.3)
def mortal_whole(responses, reference, *, log: str = "") -> list[float]:
    """Scores a group as a whole: length over how many there are."""
    return [mortal(response.text, log) / len(responses) for response in responses]


@verifier("diary", lane="pool", time_limit_s=5.0)
def diary(response, reference, *, log: str = "") -> float:
    """Takes as many seconds as the response says, and writes into a file when it began and of which response."""
    if log:
        with open(log, "a") as lines:
            lines.write(f"{time.monotonic()} {response.text}\n")
    time.sleep(float(response.text))
    return 1.0


@verifier("numbers", lane="pool")
def numbers(response, reference) -> Score:
    """The same score, of other types of number than floats; with details without an end where the response says so."""
    details: dict = {"of": np.float32(0.5)}
    if response.text == "endless":
        details["self"] = details
    return Score(np.float32(0.5), confidence=True, steps=(np.float64(0.25), 1), details=details)
