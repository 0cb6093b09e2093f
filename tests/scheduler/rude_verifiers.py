"""Verifiers that leave their worker other than they found it: an operator's file, loaded by the workers too."""

import decimal
import os
import signal
import subprocess
import sys
import threading
import time

from rewardhub.registry import verifier

KEPT: list[bytearray] = []


def busy():
    """Leaves nobody the interpreter for long."""
    while True:
        sum(range(10_000_000))


@verifier("rude", lane="pool", time_limit_s=1.0)
def rude(response, reference, *, log: str = "") -> float:
    """Does to its process what the response says, or gives its length."""
    text = response.text
    if text == "fork" and os.fork() == 0:
        raise ValueError("in a child")
    if text == "program":
        with subprocess.Popen(["sleep", "300"]) as running, open(log, "w") as pid:
            pid.write(str(running.pid))
            pid.flush()
            running.wait()
    if text == "keep":
        KEPT.append(bytearray(300 << 20))
    if text == "thread":
        threading.Thread(target=busy, daemon=True).start()
    if text == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if text == "alarm":
        signal.setitimer(signal.ITIMER_REAL, 0.2)
    if text == "change":
        sys.setrecursionlimit(300)
        sys.set_int_max_str_digits(700)
        decimal.getcontext().prec = 2
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.chdir("/")
    return len(text) / 100


@verifier("state", lane="pool")
def state(response, reference) -> float:
    """One number for all of the process that others may have changed; waits a little."""
    time.sleep(0.3 if response.text == "wait" else 0)
    handled = signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    found = (os.getcwd(), sys.getrecursionlimit(), sys.get_int_max_str_digits(), decimal.getcontext().prec, handled)
    return float(sum(map(ord, repr(found))))


@verifier("threads", lane="pool")
def threads(response, reference) -> float:
    """How many threads are at work in its process."""
    return float(threading.active_count())


@verifier("roomy", lane="pool")
def roomy(response, reference) -> float:
    """Needs 400 MB for a moment."""
    return len(bytearray(400 << 20)) / (400 << 20)
