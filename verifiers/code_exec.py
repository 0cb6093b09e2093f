"""``code``: runs a program with the response's code in it."""

import math
from collections.abc import Mapping
from typing import Any

from rewardhub.errors import NoAnswer, ReferenceUnparseable, RewardHubError, nearest
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.languages import languages
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.scorer import need
from rewardhub.types import Json, Response, Score, Status

MAX_CASES = 1000
MAX_TEXT = 4_000_000
"""Characters of prefix, suffix, and each case's stdin and stdout."""
MAX_LIMITS = {"time_s": 300, "memory_mb": 32_768, "output_kb": 65_536}

_FENCES = ("```", "~~~")
_SOURCES = ("runner", "launch", "guard", "namespaces", "seccomp", "languages", "verdicts")

_ADD = {"language": "python", "prefix": "def add(a, b):\n", "suffix": "\nassert add(2, 3) == 5\n"}
_ECHO = {"language": "python", "cases": [{"stdin": "1\n", "stdout": "1"}, {"stdin": "2\n", "stdout": "2\n"}]}


@verifier(
    "code",
    lane="sandbox",
    time_limit_s=3600.0,
    sources=tuple(f"rewardhub.sandbox.{name}" for name in _SOURCES),
    examples=(
        Example("    return a + b", _ADD, 1.0),
        Example("    return a - b", _ADD, 0.0),
        Example("    raise SystemExit(0)", _ADD, 0.0),
        Example("Here it is:\n```python\nprint(input())\n```\nDone.", _ECHO, 1.0),
        Example("print(1)", _ECHO, 0.0),
        Example("print(1)", _ECHO, 0.5, params={"fraction": True}),
        Example("print(input())\nexit()", _ECHO, 0.0),
        Example("print(input())\nexit()", _ECHO, 1.0, params={"exit_is_end": True}),
        Example("print('x'", _ECHO, 0.0),
        Example("", _ECHO, None, status=Status.NO_ANSWER),
        Example("print(1)", {"language": "pyhton"}, None, status=Status.REFERENCE_UNPARSEABLE),
        Example(
            "print(1)", {"language": "python", "limits": {"time_s": -1}}, None,
            status=Status.REFERENCE_UNPARSEABLE,
        ),
    ),
)  # fmt: skip
def code(response: Response, reference: Json, *, fraction: bool = False, exit_is_end: bool = False) -> Score:
    """Whether the program ``prefix + code + suffix`` runs to the end of its suffix on every case and
    prints what the case expects, trailing blanks ignored: 1.0 or 0.0.

    The code is the last fenced block of the response, else the whole response unchanged. Reference:
    ``{"language", "prefix", "suffix", "cases": [{"stdin", "stdout"}], "limits": {"time_s",
    "memory_mb", "output_kb"}}``; without cases it runs once with an empty stdin, and a case
    without ``stdout`` expects none in particular. With ``fraction`` the value is the share of passed
    cases, else the first failure ends the run. With ``exit_is_end`` a program without a suffix may end
    by ``sys.exit()`` too, as programs for contests do. Details: ``verdict``, ``isolation``, ``passed``,
    ``cases``, and of the run that failed (else the last) the reason, the end of stderr, CPU and wall
    seconds and peak MB. A fault of the sandbox is ``unavailable`` or ``internal_error``.
    """
    program, cases, limits = _parse(response, reference, exit_is_end)
    runs: list[Run] = []
    verdicts: list[Verdict] = []
    try:
        for stdin, expected in cases:
            runs.append(run(program, stdin, limits))
            verdicts.append(_compare(runs[-1], expected))
            if verdicts[-1] is not Verdict.OK and not fraction:
                break
    except RewardHubError as error:
        return Score(None, error.status, details={"reason": error.message})
    passed = sum(verdict is Verdict.OK for verdict in verdicts)
    share = passed / len(cases)
    shown = next((i for i, verdict in enumerate(verdicts) if verdict is not Verdict.OK), -1)
    details = runs[shown].details() | {
        "verdict": verdicts[shown].value, "isolation": isolation(), "passed": passed, "cases": len(cases),
    }  # fmt: skip
    return Score(share if fraction else float(passed == len(cases)), details=details)


def extract_code(text: str) -> str:
    """The content of the last fenced block (as in CommonMark, an open one ends with the text), else the
    whole text unchanged. Linear in the length of the text.
    """
    fence = ""
    lines: list[str] = []
    found: str | None = None
    for line in text.splitlines(keepends=True):
        mark = line.strip()
        if fence:
            if mark.startswith(fence) and not mark.strip(fence[0]):
                fence, found = "", "".join(lines)
            else:
                lines.append(line)
        elif mark.startswith(_FENCES) and mark[0] not in mark.lstrip(mark[0]):
            fence, lines = mark[: len(mark) - len(mark.lstrip(mark[0]))], []
    if fence:
        return "".join(lines)
    return text if found is None else found


def _compare(result: Run, expected: str | None) -> Verdict:
    if result.verdict is not Verdict.OK or expected is None:
        return result.verdict
    said = result.stdout.decode("utf-8", "replace")
    return Verdict.OK if _trimmed(said) == _trimmed(expected) else Verdict.WRONG_ANSWER


def _trimmed(text: str) -> list[str]:
    """The lines without the blanks at their ends and at the end of the text."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _parse(
    response: Response, reference: Json, exit_is_end: bool
) -> tuple[Program, list[tuple[str, str | None]], Limits]:
    language = need(reference, "language")
    if language not in languages():
        known = nearest(language, languages())
        raise ReferenceUnparseable(f"unknown language {language!r}{known}", field="reference.language")
    prefix, suffix = _text(reference, "prefix", "reference"), _text(reference, "suffix", "reference")
    cases, limits = _cases(reference), _limits(reference)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    text = (prefix or "") + extract_code(response.text)
    return Program(text, suffix or "", language, exit_is_end), cases, limits


def _text(holder: Mapping[str, Any], key: str, where: str) -> str | None:
    value = holder.get(key)
    if value is not None and not isinstance(value, str):
        raise ReferenceUnparseable(f"{where}.{key} is {type(value).__name__}, expected str", field=f"{where}.{key}")
    if value is not None and len(value) > MAX_TEXT:
        raise ReferenceUnparseable(f"{where}.{key} is over {MAX_TEXT} characters", field=f"{where}.{key}")
    return value


def _cases(reference: Json) -> list[tuple[str, str | None]]:
    cases = reference.get("cases")
    if cases is None or (cases == [] and reference.get("suffix")):
        return [("", None)]
    if not isinstance(cases, list) or not 0 < len(cases) <= MAX_CASES:
        reason = f"reference.cases must be a list of 1 to {MAX_CASES} cases"
        raise ReferenceUnparseable(reason, field="reference.cases")
    return [_case(case, f"reference.cases[{index}]") for index, case in enumerate(cases)]


def _case(case: Any, where: str) -> tuple[str, str | None]:
    if not isinstance(case, Mapping):
        raise ReferenceUnparseable(f"{where} must be an object with stdin and stdout", field=where)
    if unknown := sorted(set(case) - {"stdin", "stdout"}):
        raise ReferenceUnparseable(f"{where} has no field {unknown[0]!r}", field=f"{where}.{unknown[0]}")
    return _text(case, "stdin", where) or "", _text(case, "stdout", where)


def _limits(reference: Json) -> Limits:
    limits = reference.get("limits")
    if limits is None:
        return Limits()
    if not isinstance(limits, Mapping):
        raise ReferenceUnparseable("reference.limits must be an object", field="reference.limits")
    values = {key: _limit(key, value) for key, value in limits.items()}
    whole = {key: math.ceil(value) for key, value in values.items() if key != "time_s"}
    return Limits(time_s=values.get("time_s", Limits().time_s), **whole)


def _limit(key: str, value: Any) -> float:
    field = f"reference.limits.{key}"
    if key not in MAX_LIMITS:
        raise ReferenceUnparseable(f"{field} is unknown{nearest(key, MAX_LIMITS)}", field=field)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= MAX_LIMITS[key]:
        raise ReferenceUnparseable(f"{field} must be a number in (0, {MAX_LIMITS[key]}]", field=field)
    return float(value)
