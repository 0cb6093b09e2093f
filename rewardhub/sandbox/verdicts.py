"""What a run came to, and the limits it ran under."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Verdict(StrEnum):
    """What the program did. Every one is a verdict on the response; a fault of the sandbox itself is
    raised, never returned.
    """

    OK = "ok"
    WRONG_ANSWER = "wrong_answer"
    RUNTIME_ERROR = "runtime_error"
    COMPILE_ERROR = "compile_error"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    PROCESS_LIMIT = "process_limit"
    PROTOCOL_ERROR = "protocol_error"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one run: wall time in seconds, memory in MB on top of the bare runtime's, and kilobytes of
    output on each of stdout and stderr. CPU time is bounded by the wall time, rounded up, plus one.
    """

    time_s: float = 10.0
    memory_mb: int = 1024
    output_kb: int = 1024


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run. ``ok`` means that control reached the end of the program; whether the output
    is the expected one is for the caller to compare. Times in seconds, memory in MB. ``values`` are
    those of the program's expressions as :func:`rewardhub.sandbox.plain.encode` writes them, or ``!``
    and the name of the exception that came instead; ``told`` is what a script's probe told.
    """

    verdict: Verdict
    reason: str = ""
    stdout: bytes = b""
    stderr: bytes = b""
    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_mb: float = 0.0
    values: tuple[str, ...] = ()
    told: bytes = b""

    def details(self) -> dict[str, Any]:
        """What a score's details say of this run; at most the last 500 bytes of stderr."""
        tail = self.stderr[-500:].decode("utf-8", "replace")
        said = {"verdict": self.verdict.value, "reason": self.reason, "stderr": tail}
        used = {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "peak_mb": self.peak_mb}
        return {key: text for key, text in said.items() if text} | used
