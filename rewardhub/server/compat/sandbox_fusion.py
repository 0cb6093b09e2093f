"""SandboxFusion's ``POST /run_code``: its request and response on the sandbox of this hub.

Field names and statuses: the public API of bytedance/SandboxFusion. Like there, whatever the program
does is answered with HTTP 200.
"""

from collections.abc import Mapping
from typing import Any

from rewardhub.errors import InvalidInput, RewardHubError, nearest
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict

_NAMES = {"nodejs": "javascript"} | {name: name for name in ("python", "c", "cpp", "bash", "sql")}
_FIELDS = {
    "compile_timeout", "run_timeout", "memory_limit_MB", "code", "stdin", "language", "files", "fetch_files",
}  # fmt: skip
MAX_CODE = 10_000_000


def run_code(request: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the request's program; blocks. Raises ``InvalidInput`` that names the field at fault.

    ``files`` and ``fetch_files`` must be empty. A fault of the sandbox itself is the status
    ``SandboxError``.
    """
    program, stdin, limits = _parse(request)
    try:
        result = run(program, stdin, limits)
    except RewardHubError as error:
        return _response("SandboxError", error.message, None, None)
    if result.verdict is Verdict.COMPILE_ERROR and program.language in ("c", "cpp"):
        return _response("Failed", "", _outcome(result), None)
    compiled = {"status": "Finished", "execution_time": 0.0, "return_code": 0, "stdout": "", "stderr": ""}
    status = "Success" if result.verdict is Verdict.OK else "Failed"
    return _response(status, "", compiled if program.language in ("c", "cpp") else None, _outcome(result))


def _parse(request: Mapping[str, Any]) -> tuple[Program, str, Limits]:
    if unknown := sorted(set(request) - _FIELDS):
        raise InvalidInput(f"unknown field {unknown[0]!r}{nearest(unknown[0], _FIELDS)}", field=unknown[0])
    code, stdin = request.get("code"), request.get("stdin") or ""
    for name, value in (("code", code), ("stdin", stdin)):
        if not isinstance(value, str) or len(value) > MAX_CODE:
            raise InvalidInput(f"{name} must be a text of at most {MAX_CODE} characters", field=name)
    for name in ("files", "fetch_files"):
        if request.get(name):
            raise InvalidInput(f"{name} are not supported", field=name)
    language = _NAMES.get(str(request.get("language")))
    if language not in languages():
        known = sorted(name for name, ours in _NAMES.items() if ours in languages())
        raise InvalidInput(f"language must be one of {', '.join(known)}", field="language")
    time_s = _number(request, "run_timeout", 10.0, 300.0)
    _number(request, "compile_timeout", 10.0, 300.0)
    memory = request.get("memory_limit_MB", -1)
    memory_mb = 1024 if memory in (-1, None) else int(_number(request, "memory_limit_MB", 1024.0, 32_768.0))
    return Program(str(code), language=str(language), exit_is_end=True), str(stdin), Limits(time_s, memory_mb)


def _number(request: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise InvalidInput(f"{name} must be a number in (0, {most:g}]", field=name)
    return float(value)


def _outcome(result: Run) -> dict[str, Any]:
    late = result.verdict is Verdict.TIME_LIMIT
    return {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": result.wall_s,
        "return_code": None if late else int(result.verdict is not Verdict.OK),
        "stdout": result.stdout.decode("utf-8", "replace"),
        "stderr": result.stderr.decode("utf-8", "replace"),
    }


def _response(status: str, message: str, compiled: dict[str, Any] | None, ran: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "status": status, "message": message, "compile_result": compiled, "run_result": ran,
        "executor_pod_name": None, "files": {},
    }  # fmt: skip
