"""SandboxFusion's ``POST /submit`` for problems whose test cases come with the request, and batches of it.

Request: ``{"dataset", "id", "completion", "config": {"language", "compile_timeout", "run_timeout",
"provided_data": {"test": [{"input": {"stdin"}, "output": {"stdout"}}]}, "extra": {"run_all_cases"}}}``;
response: ``{"id", "accepted", "extracted_code", "full_code", "test_code", "tests": [{"passed",
"exec_info", "test_info"}], "extracted_type", "extra"}``. Data sets that live on their server are not here.
"""

import json
from collections.abc import Mapping
from typing import Any

from rewardhub.errors import InvalidInput, Unavailable
from rewardhub.server.body import MAX_HOLDERS
from rewardhub.server.compat.sandbox_fusion import run_code
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.wire.holders import check_holders

MAX_CASES, MAX_BATCH = 1_000, 1_000
_KIND = "CommonOJDataset"


def submit(request: Mapping[str, Any]) -> dict[str, Any]:
    """Runs a completion on the cases of its request, up to the first failure unless ``run_all_cases``; blocks.

    Raises ``InvalidInput`` that names the field at fault, and ``Unavailable`` for a fault of the sandbox, which is no
    verdict on the completion.
    """
    completion, config = request.get("completion"), request.get("config")
    if not isinstance(completion, str):
        raise InvalidInput("completion must be a text", field="completion")
    if not isinstance(config, Mapping):
        raise InvalidInput("config must be an object", field="config")
    if config.get("dataset_type") not in (None, _KIND):
        raise InvalidInput(f"config.dataset_type must be {_KIND}", field="config.dataset_type")
    data = _provided(config)
    cases, code = _cases(data), extract_code(completion)
    every = bool(_object(config.get("extra") or {}, "config.extra").get("run_all_cases"))
    asked = {"code": code, "language": _language(config, data)} | {
        key: config[key] for key in ("compile_timeout", "run_timeout") if config.get(key) is not None
    }
    tests: list[dict[str, Any]] = []
    for stdin, stdout in cases:
        info = run_code(asked | {"stdin": stdin})
        if info["status"] == "SandboxError":
            raise Unavailable(info["message"], retry_after_s=1.0)
        ran = info["run_result"]
        passed = info["status"] == "Success" and _lines(ran["stdout"]) == _lines(stdout)
        tests.append({
            "passed": passed, "exec_info": info, "test_info": {"input": {"stdin": stdin}, "output": {"stdout": stdout}},
        })  # fmt: skip
        if not (passed or every):
            break
    return {
        "id": request.get("id", 0), "accepted": all(test["passed"] for test in tests), "extracted_code": code,
        "full_code": code, "test_code": None, "tests": tests,
        "extracted_type": "fenced" if code != completion else "heuristic", "extra": None,
    }  # fmt: skip


def batch(request: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The submissions of a batch, ``{"submissions": [...]}``."""
    submissions = request.get("submissions")
    if not isinstance(submissions, list) or not 0 < len(submissions) <= MAX_BATCH:
        raise InvalidInput(f"submissions must be a list of 1 to {MAX_BATCH}", field="submissions")
    return [_object(each, f"submissions[{index}]") for index, each in enumerate(submissions)]


def _provided(config: Mapping[str, Any]) -> Mapping[str, Any]:
    data = config.get("provided_data")
    return _object(data[0] if isinstance(data, list) and len(data) == 1 else data, "config.provided_data")


def _object(value: Any, field: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{field} must be an object", field=field)
    return value


def _language(config: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    labels = data.get("labels")
    if isinstance(labels, str):
        labels = _parsed(labels, "config.provided_data.labels")
    stated = labels.get("programming_language") if isinstance(labels, Mapping) else None
    return str(config.get("language") or stated or "python")


def _parsed(text: str, field: str) -> Any:
    check_holders(text.encode("utf-8", "surrogatepass"), MAX_HOLDERS, field)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{field} is not JSON", field=field) from None


def _cases(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The cases; data sets store them as a list or as its JSON text."""
    field = "config.provided_data.test"
    tests = data.get("test")
    if isinstance(tests, str):
        tests = _parsed(tests, field)
    if not isinstance(tests, list) or not 0 < len(tests) <= MAX_CASES:
        raise InvalidInput(f"{field} must be a list of 1 to {MAX_CASES} cases", field=field)
    return [_case(each, f"{field}[{index}]") for index, each in enumerate(tests)]


def _case(case: Any, field: str) -> tuple[str, str]:
    try:
        stdin, stdout = case["input"]["stdin"], case["output"]["stdout"]
    except (KeyError, TypeError):
        stdin = stdout = None
    if not isinstance(stdin, str) or not isinstance(stdout, str):
        raise InvalidInput(f"{field} must have input.stdin and output.stdout, texts", field=field)
    return stdin, stdout


def _lines(text: str) -> list[str]:
    """The lines without the blanks at their ends and at the end of the text."""
    return [line.rstrip() for line in text.rstrip().splitlines()]
