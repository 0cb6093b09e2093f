"""Runs programs on a remote SandboxFusion server instead of here.

It is trusted as its operator set it up: it has neither the guard nor the private channel of this sandbox.
Of a Python program the end is believed when the last line printed is a random one that the last line of
the source prints, with the values of the expressions, which are compared here; of any other the exit code
is. A program may lie about the values, as about all it prints, but what is expected is not there to be read.
"""

import base64
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from rewardhub.errors import InternalError, InvalidInput, Unavailable
from rewardhub.sandbox.program import Program
from rewardhub.sandbox.verdicts import Limits, Run, Verdict

_NAMES = {"javascript": "nodejs"}
_PLAIN = Path(__file__).with_name("plain.py").read_text("utf-8")
_TELL = """
def _tell(expressions, as_json, names, source, end):
    space, told = {{}}, []
    exec(source, space)
    for each in expressions:
        try: text = space["encode"](eval(each, names), as_json=as_json)
        except BaseException as error: text = "!" + type(error).__name__
        told.append(text.encode("utf-8", "surrogatepass").hex())
    print("\\n" + " ".join([end, *told]), flush=True)
_tell({expressions!r}, {as_json!r}, globals(), {source!r}, {end!r})
"""
_SPARE_S = 30.0
"""Seconds on top of a program's own that a busy server may take."""
_COMPILE_S = 30.0


def run_remote(url: str, program: Program, stdin: str, limits: Limits) -> Run:
    """Runs ``program`` by ``POST url``, SandboxFusion's ``/run_code``; blocks.

    Raises ``Unavailable`` where the server cannot be reached, is overloaded or reports a fault of its own,
    ``InvalidInput`` for a program that only the local sandbox can run, ``InternalError`` for an answer of
    another form.
    """
    if program.probe or program.tests:
        raise InvalidInput("a remote sandbox runs no pytest and no probe, only what prints", field="reference.mode")
    end = secrets.token_hex(16) if program.language.startswith("python") else ""
    text = program.text + program.suffix + (_last_lines(program, end) if end else "")
    asked = {
        "code": text, "stdin": stdin, "language": _NAMES.get(program.language, program.language.split("_")[0]),
        "run_timeout": limits.time_s, "compile_timeout": _COMPILE_S, "memory_limit_MB": limits.memory_mb,
        "files": {name: base64.b64encode(data).decode() for name, data in program.files},
    }  # fmt: skip
    begun = time.monotonic()
    said = _post(url, asked, limits.time_s + _COMPILE_S + _SPARE_S)
    if said.get("status") == "SandboxError":
        raise Unavailable(f"the remote sandbox failed: {str(said.get('message'))[:200]}", retry_after_s=5.0)
    try:
        return _verdict(said, program, limits, end, time.monotonic() - begun)
    except (KeyError, TypeError, ValueError) as error:
        raise InternalError(f"the remote sandbox answered in another form: {type(error).__name__}") from None


def _last_lines(program: Program, end: str) -> str:
    if not program.expressions:
        return f"\nprint('\\n{end}', flush=True)\n"
    return _TELL.format(expressions=program.expressions, as_json=program.as_json, source=_PLAIN, end=end)


def _post(url: str, asked: Mapping[str, Any], within_s: float) -> dict[str, Any]:
    try:
        reply = httpx.post(url, json=asked, timeout=within_s, follow_redirects=False)
        if reply.status_code != 200:
            raise Unavailable(f"the remote sandbox answered {reply.status_code}", retry_after_s=5.0)
        said = reply.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise Unavailable(f"no remote sandbox: {type(error).__name__}", retry_after_s=5.0) from None
    if not isinstance(said, dict):
        raise InternalError("the remote sandbox answered in another form")
    return said


def _verdict(said: Mapping[str, Any], program: Program, limits: Limits, end: str, wall_s: float) -> Run:
    compiled, ran = said.get("compile_result"), said.get("run_result")
    if ran is None:
        stderr = str(compiled["stderr"] or "").encode()  # type: ignore[index]
        return Run(Verdict.COMPILE_ERROR, "does not compile", b"", stderr, wall_s)
    stdout, stderr = str(ran["stdout"] or ""), str(ran["stderr"] or "").encode()
    wall_s = float(ran.get("execution_time") or wall_s)
    body, mark, last = stdout.rstrip("\n").rpartition("\n")
    values = _values(last, end) if mark else None
    reached = not end or (values is not None and len(values) == len(program.expressions))
    shown = body.encode() if end and reached else stdout.encode()
    may_leave = program.exit_is_end and not program.suffix and not program.expressions
    verdict, reason = _ending(ran, reached, exit_is_end=may_leave)
    if len(shown) > limits.output_kb * 1024:
        verdict, reason = Verdict.OUTPUT_LIMIT, f"more than {limits.output_kb} KB of output"
    told = values if reached and values else ()
    return Run(verdict, reason, shown[: limits.output_kb * 1024], stderr, wall_s, values=told)


def _values(line: str, end: str) -> tuple[str, ...] | None:
    """The values behind the end in the last line, None where it is not that."""
    said_end, *told = line.split(" ")
    try:
        values = tuple(bytes.fromhex(each).decode("utf-8", "surrogatepass") for each in told)
    except ValueError:
        return None
    return values if said_end == end and all(values) else None


def _ending(ran: Mapping[str, Any], reached: bool, *, exit_is_end: bool) -> tuple[Verdict, str]:
    if ran["status"] == "TimeLimitExceeded":
        return Verdict.TIME_LIMIT, "not done in time"
    if ran["return_code"]:
        return Verdict.RUNTIME_ERROR, f"exit code {int(ran['return_code'])}"
    if reached or exit_is_end:
        return Verdict.OK, ""
    return Verdict.RUNTIME_ERROR, "stopped before its end"
