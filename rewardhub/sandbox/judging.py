"""The verdict on a run, decided outside from what its pipes told: the end is believed with the nonce only."""

from rewardhub.errors import InternalError
from rewardhub.sandbox.verdicts import Run, Verdict
from rewardhub.sandbox.watch import Watch


class Lost(InternalError):
    """The process that ran it died under a run: nothing is known of the program."""


def judge(watch: Watch, end: bytes, *, may_leave: bool, by_code: bool = False) -> Run:
    outcome = watch.report.data.decode("utf-8", "replace").split(maxsplit=1)
    cpu_s = peak_mb = 0.0
    code = 0
    if outcome[:1] == ["done"]:
        said, cpu, peak = outcome[1].split()
        code, cpu_s, peak_mb = int(said), float(cpu), int(peak) / 1024
    elif outcome:
        raise InternalError(f"the sandbox failed: {outcome[-1]}")
    elif watch.stopped is None or b"ready" not in watch.lines():
        raise Lost("the sandbox failed: its launcher died")
    lines, values = _told(watch.lines(), end)
    if by_code:
        ending = (Verdict.RUNTIME_ERROR, f"exit code {code}") if code else (Verdict.OK, "")
    else:
        ending = _ending(lines, (end, b"left") if may_leave else (end,), code)
    verdict, reason = _verdict(watch, lines, cpu_s, code) or ending
    cap = watch.limits.output_kb * 1024
    wall_s = round(watch.ended - watch.begun, 4)
    out, err = bytes(watch.out.data[:cap]), bytes(watch.err.data[:cap])
    return Run(verdict, reason, out, err, wall_s, cpu_s, round(peak_mb, 1), values if verdict is Verdict.OK else ())


def _told(lines: list[bytes], end: bytes) -> tuple[list[bytes], tuple[str, ...]]:
    """The lines of the control channel with the end bare, and the values that came with it."""
    values: tuple[str, ...] = ()
    for index, line in enumerate(lines):
        if line.startswith(end + b" "):
            digits = line[len(end) + 1 :].decode("ascii").split(" ")
            values = tuple(bytes.fromhex(each).decode("utf-8", "surrogatepass") for each in digits)
            lines[index] = end
    return lines, values


def _verdict(watch: Watch, lines: list[bytes], cpu_s: float, code: int) -> tuple[Verdict, str] | None:
    """The verdict on what did not come to an end by itself, or did not start."""
    if watch.stopped is Verdict.OUTPUT_LIMIT:
        return Verdict.OUTPUT_LIMIT, f"more than {watch.limits.output_kb} KB of output"
    if watch.stopped is Verdict.MEMORY_LIMIT:
        return Verdict.MEMORY_LIMIT, f"its processes used more than {watch.most_mb} MB together"
    if watch.stopped is Verdict.TIME_LIMIT or cpu_s >= watch.limits.time_s + 1:
        return Verdict.TIME_LIMIT, f"not done after {watch.limits.time_s:g} s"
    if b"ready" not in lines:
        raise InternalError(f"the runtime of the sandbox did not start (exit {code})")
    if b"uncompiled" in lines:
        return Verdict.COMPILE_ERROR, next(iter(_errors(lines)), "does not compile")
    return None if b"started" in lines else (Verdict.COMPILE_ERROR, "the compiler died")


def _errors(lines: list[bytes]) -> list[str]:
    return [line[6:].decode("ascii", "replace") for line in lines if line.startswith(b"error ")]


def _ending(lines: list[bytes], ends: tuple[bytes, ...], code: int) -> tuple[Verdict, str]:
    for line in lines:
        if line.startswith(b"forbidden "):
            return Verdict.PROTOCOL_ERROR, line[10:].decode("ascii", "replace")
    known = (b"", b"ready", b"started", b"process", b"left", *ends)
    if any(line not in known and not line.startswith(b"error ") for line in lines):
        return Verdict.PROTOCOL_ERROR, "wrote to the control channel"
    if any(end in lines for end in ends):
        return Verdict.OK, ""
    errors = _errors(lines)
    if "MemoryError" in errors:
        return Verdict.MEMORY_LIMIT, "MemoryError"
    if b"process" in lines:
        return Verdict.PROCESS_LIMIT, "tried to start a process"
    return Verdict.RUNTIME_ERROR, errors[0] if errors else f"stopped before its end (exit {code})"
