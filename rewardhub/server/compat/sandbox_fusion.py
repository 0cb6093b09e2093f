"""SandboxFusion's ``POST /run_code``: its request and response on the sandbox of this hub.

Field names, defaults and statuses: the public API of bytedance/SandboxFusion. Like there, whatever the
program does is answered with HTTP 200, unknown fields are ignored, and one without ``code`` or with an
unknown language is refused.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from rewardhub.errors import InvalidInput, RewardHubError
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.verifiers.codelib import pytest_mode
from rewardhub.wire.fields import expect

_NAMES = {
    "python": ("python_science", "python_script"), "pytest": (pytest_mode.LANGUAGE,), "nodejs": ("javascript",),
    "cpp": ("cpp",), "c": ("c",), "bash": ("bash",), "sql": ("sql",),
}  # fmt: skip
"""Their names of languages, and ours in the order of preference: Python programs expect NumPy there."""
_COMPILED = ("c", "cpp")
MAX_CODE, MAX_FILES, MAX_FILE_BYTES, MAX_NAME_BYTES = 10_000_000, 100, 16_000_000, 255

_FETCH = """
import base64, json, os
found = {}
for path in PATHS:
    if os.path.isfile(path) and not os.path.islink(path):
        with open(path, "rb") as file: found[path] = base64.b64encode(file.read(2_000_000)).decode()
tell(json.dumps(found).encode())
"""


def run_code(request: Mapping[str, Any]) -> dict[str, Any]:
    """Runs the request's program; blocks. Raises ``InvalidInput`` that names the field at fault.

    ``files`` (base64, or null for none) are put beside the program; ``fetch_files`` are for Python only, and
    fetched where the program ends well. A fault of the sandbox itself is the status ``SandboxError``.
    """
    program, stdin, limits = _parse(request)
    try:
        result = run(program, stdin, limits)
    except RewardHubError as error:
        return _response("SandboxError", error.message, None, None)
    compiles = program.language in _COMPILED
    if compiles and result.verdict is Verdict.COMPILE_ERROR:
        return _response("Failed", "", _outcome(result, late=result.reason.startswith("not done")), None)
    compiled = {"status": "Finished", "execution_time": 0.0, "return_code": 0, "stdout": "", "stderr": ""}
    fine = result.verdict is Verdict.OK and (not program.tests or _tests_passed(result))
    ran = _outcome(result, late=result.verdict is Verdict.TIME_LIMIT)
    if not fine and ran["return_code"] == 0:
        ran["return_code"] = 1  # tests that failed
    return _response("Success" if fine else "Failed", "", compiled if compiles else None, ran, _fetched(result))


def _parse(request: Mapping[str, Any]) -> tuple[Program, str, Limits]:
    code, stdin = request.get("code"), request.get("stdin")
    stdin = "" if stdin is None else stdin
    for name, value in (("code", code), ("stdin", stdin)):
        if not isinstance(value, str) or len(value) > MAX_CODE:
            raise InvalidInput(f"{name} must be a text of at most {MAX_CODE} characters", field=name)
    language = _language(request.get("language"))
    files, fetch = _files(request, language), _fetch_files(request, language)
    time_s = _number(request, "run_timeout", 10.0, 300.0)
    _number(request, "compile_timeout", 10.0, 300.0)
    memory = request.get("memory_limit_MB", -1)
    memory_mb = 1024 if memory in (-1, None) else int(_number(request, "memory_limit_MB", 1024.0, 32_768.0))
    limits = Limits(time_s, memory_mb)
    if language == pytest_mode.LANGUAGE:
        tests = Program("", str(code), language, expressions=(pytest_mode.expression(),), tests=True)
        return tests, str(stdin), limits
    probe = _FETCH.replace("PATHS", repr(fetch)) if fetch else ""
    return Program(str(code), language=language, probe=probe, files=files), str(stdin), limits


def _language(name: Any) -> str:
    ours = next((each for each in _NAMES.get(str(name), ()) if each in languages()), None)
    if ours is None:
        known = sorted(each for each, cards in _NAMES.items() if any(card in languages() for card in cards))
        raise InvalidInput(f"language must be one of {', '.join(known)}", field="language")
    return ours


def _files(request: Mapping[str, Any], language: str) -> tuple[tuple[str, bytes], ...]:
    files = request.get("files")
    files = {} if files is None else files
    if not isinstance(files, Mapping) or len(files) > MAX_FILES:
        raise InvalidInput(f"files must map at most {MAX_FILES} paths to base64", field="files")
    if files and language == pytest_mode.LANGUAGE:
        raise InvalidInput("files are not for pytest", field="files")
    given = []
    for path, content in files.items():
        try:
            given.append((_path(path, "files"), base64.b64decode("" if content is None else content, validate=True)))
        except (binascii.Error, TypeError, ValueError):
            raise InvalidInput(f"files.{path} is not base64", field=f"files.{path}") from None
    taken = {PurePosixPath(path) for path, _ in given}
    if len(taken) < len(given) or any(not taken.isdisjoint(path.parents) for path in taken):
        raise InvalidInput("files name one path twice, or as a file and as a folder", field="files")
    if sum(len(data) for _, data in given) > MAX_FILE_BYTES:
        raise InvalidInput(f"files are over {MAX_FILE_BYTES} bytes", field="files")
    return tuple(given)


def _fetch_files(request: Mapping[str, Any], language: str) -> list[str]:
    paths = request.get("fetch_files")
    paths = [] if paths is None else paths
    if not isinstance(paths, list) or len(paths) > MAX_FILES:
        raise InvalidInput(f"fetch_files must be a list of at most {MAX_FILES} paths", field="fetch_files")
    if paths and language not in _NAMES["python"]:
        raise InvalidInput("fetch_files are for python only", field="fetch_files")
    return [_path(path, "fetch_files") for path in paths]


def _path(path: Any, field: str) -> str:
    parts = PurePosixPath(path).parts if isinstance(path, str) and 0 < len(path) <= 200 else ()
    usable = parts and parts[0] != "/" and ".." not in parts and "\0" not in str(path)
    if not usable or max(len(part.encode("utf-8", "replace")) for part in parts) > MAX_NAME_BYTES:
        raise InvalidInput(f"{field} has {str(path)[:50]!r}, expected a relative path without '..'", field=field)
    return expect(str(path), str, field)


def _number(request: Mapping[str, Any], name: str, default: float, most: float) -> float:
    value = request.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise InvalidInput(f"{name} must be a number in (0, {most:g}]", field=name)
    return float(value)


def _tests_passed(result: Run) -> bool:
    """Whether pytest says that there were tests and that all passed."""
    outcomes = pytest_mode.outcomes(result.values)
    return bool(outcomes) and all(fine for _, fine in outcomes)


def _fetched(result: Run) -> dict[str, str]:
    try:
        found = json.loads(result.told or b"{}")
    except (ValueError, RecursionError):
        return {}
    return {str(path): str(data) for path, data in found.items()} if isinstance(found, dict) else {}


def _code(result: Run) -> int | None:
    """The exit code; None where the time was up."""
    if result.verdict is Verdict.TIME_LIMIT:
        return None
    said = result.reason.removeprefix("exit code ")
    return int(said) if said.lstrip("-").isdigit() else int(result.verdict is not Verdict.OK)


def _outcome(result: Run, *, late: bool) -> dict[str, Any]:
    return {
        "status": "TimeLimitExceeded" if late else "Finished",
        "execution_time": result.wall_s,
        "return_code": None if late else _code(result),
        "stdout": result.stdout.decode("utf-8", "replace"),
        "stderr": result.stderr.decode("utf-8", "replace"),
    }


def _response(
    status: str, message: str, compiled: dict[str, Any] | None, ran: dict[str, Any] | None,
    files: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "status": status, "message": message, "compile_result": compiled, "run_result": ran,
        "executor_pod_name": None, "files": files or {},
    }  # fmt: skip
