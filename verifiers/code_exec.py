"""``code``: runs a program with the response's code in it."""

import json
import math
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Annotated

from pydantic import Field

from rewardhub.errors import ReferenceUnparseable, RewardHubError
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.place import place
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Limits, Run, Verdict
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.codelib import pytest_mode
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.verifiers.codelib.reference import Task, parse
from rewardhub.verifiers.codelib.sources import SANDBOX

__all__ = ["code", "extract_code"]

Share = Annotated[float, Field(ge=0, le=1)]

_ADD = {"language": "python", "prefix": "def add(a, b):\n", "suffix": "\nassert add(2, 3) == 5\n"}
_ECHO = {"language": "python", "cases": [{"stdin": "1\n", "stdout": "1"}, {"stdin": "2\n", "stdout": "2\n"}]}

_ASSERTS = {"language": "python", "mode": "asserts", "asserts": ["assert f(2) == (2, 1)", "f(0) == (0, 1)"]}
_SOLUTION = {"language": "python", "mode": "solution", "expected": 3.14, "tolerance": 0.01}
_CALL = {
    "language": "python", "mode": "call", "function": "f",
    "calls": [{"args": [1, "x"], "expected": [1, "x"]}],
}  # fmt: skip
_ODD = "import json, sys\nprint(int(int(json.load(sys.stdin)['stdout']) % 2 == 1))\n"
_JUDGE = {"language": "python", "mode": "judge", "checker": _ODD, "cases": [{"stdin": ""}]}

_TESTS = """
import pytest
from solution import f

@pytest.mark.parametrize("n", [1, 2])
def test_f(n):
    assert f(n) == n
"""
_PYTEST = {"language": "python", "mode": "pytest", "tests": _TESTS}


@verifier(
    "code",
    lane="sandbox",
    signals=False,
    place=place,
    time_limit_s=3600.0,
    sources=SANDBOX,
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
        Example("def f(x): return x, 1", _ASSERTS, 1.0),
        Example("class Same:\n    def __eq__(self, other): return True\ndef f(x): return Same()", _ASSERTS, 0.0),
        Example("def f(x): return x, 0 if x else 1", _ASSERTS, 0.5, params={"fraction": True}),
        Example("def solution():\n    return 22 / 7", _SOLUTION, 1.0),
        Example("def solution():\n    return 3", _SOLUTION, 0.1, params={"ran": 0.1}),
        Example("def solution():\n    return 1 / 0", _SOLUTION, 0.0, params={"ran": 0.1}),
        Example("def f(a, b): return [a, b]", _CALL, 1.0),
        Example("print(9)", _JUDGE, 1.0),
        Example("def f(n): return n", _PYTEST, 1.0),
        Example("def f(n): return 1", _PYTEST, 0.0),
        Example("print(8)", _JUDGE, 0.0),
        Example("", _ECHO, None, status=Status.NO_ANSWER),
        Example("print(1)", {"language": "pyhton"}, None, status=Status.INVALID_INPUT),
        Example(
            "print(1)", {"language": "python", "limits": {"time_s": -1}}, None,
            status=Status.INVALID_INPUT,
        ),
    ),
)  # fmt: skip
def code(
    response: Response, reference: Json, *, fraction: bool = False, exit_is_end: bool = False, ran: Share = 0.0
) -> Score:
    """Whether the program ``prefix + code + suffix`` does what the reference's ``mode`` asks: 1.0 or 0.0.

    The code is the last fenced block of the response, else the whole response unchanged. With
    ``fraction`` the value is the share of passed cases, else the first failure ends the run and a program
    that ended as it should with another result gets ``ran`` (ReFT, arXiv 2401.08967: 0.1). With
    ``exit_is_end`` a program without a suffix may end by ``sys.exit()`` too, as programs for contests do.

    ============  ===================================================================================
    field         meaning
    ============  ===================================================================================
    ``language``  ``python``, or another installed one, for the modes ``program`` and ``judge``
    ``prefix``    text before the code
    ``suffix``    text behind it; control must reach its end
    ``limits``    ``{"time_s": 10, "memory_mb": 1024, "output_kb": 1024}`` of each run
    ``mode``      ``program`` (the default): ``cases``, a list of ``{"stdin", "stdout"}``, each printed
                  as expected, trailing blanks ignored; without ``stdout`` none in particular; without
                  cases one run with an empty stdin
    ..            ``asserts``: ``asserts``, a list of ``expression == expected``; the values of both sides
                  are compared as plain data outside, so that no ``__eq__`` of the program is asked
    ..            ``solution``: ``expected``, a number, text or list that ``solution()`` returns, within
                  ``tolerance``
    ..            ``call``: ``function``, a name or ``Class.method``, and ``calls``, a list of ``{"args",
                  "kwargs", "expected"}`` in JSON (a tuple is a list), within ``tolerance``
    ..            ``pytest``: ``tests``, a file of tests that may import the program as ``solution``; needs
                  pytest; each test function that passed, and whose end was reached, counts
    ..            ``judge``: ``checker``, a program (in ``checker_language``, Python by default) that reads
                  ``{"stdin", "stdout", "expected"}`` as JSON and prints 1 or 0; and ``cases``
    ============  ===================================================================================

    ``tolerance`` is relative and absolute, for numbers, 0 by default. Languages other than Python have
    no end that can be proved, so that their cases must state a stdout. Details: ``verdict``,
    ``isolation_level``, ``passed``, ``cases``, and of the run that failed (else the last) the reason, the end
    of stderr, CPU and wall seconds and peak MB. A fault of the sandbox is ``unavailable`` or
    ``internal_error``.
    """
    task = parse(response, reference, exit_is_end=exit_is_end)
    try:
        runs = _runs(task, stop=not fraction)
    except ReferenceUnparseable:
        raise
    except RewardHubError as error:
        return Score(None, error.status, details={"reason": error.message})
    count = len(task.tests) or len(task.expected) or len(task.cases)
    passed = sum(verdict is Verdict.OK for _, verdict in runs)
    shown, verdict = next((each for each in runs if each[1] is not Verdict.OK), runs[-1])
    details = shown.details() | {
        "verdict": verdict.value, "isolation_level": isolation(), "passed": passed, "cases": count,
    }  # fmt: skip
    other = ran if verdict is Verdict.WRONG_ANSWER else 0.0
    return Score(passed / count if fraction else 1.0 if passed == count else other, details=details)


def _runs(task: Task, *, stop: bool) -> list[tuple[Run, Verdict]]:
    if task.tests:
        return _tests(task)
    return _values(task) if task.expected else _all_cases(task, stop=stop)


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="cases")


# A fork has none of the threads.
os.register_at_fork(after_in_child=_threads.cache_clear)


def _all_cases(task: Task, *, stop: bool) -> list[tuple[Run, Verdict]]:
    """The runs in the order of their cases, up to the first failure if ``stop``.

    The first case runs alone, since most wrong programs fail it; the others run side by side.
    """
    done = [_one_case(task, *task.cases[0])]
    if stop and done[0][1] is not Verdict.OK:
        return done
    for result in _side_by_side(task):
        done.append(result)
        if stop and result[1] is not Verdict.OK:
            break
    return done


def _side_by_side(task: Task) -> Iterator[tuple[Run, Verdict]]:
    ahead = 2 * len(os.sched_getaffinity(0))
    waiting: list[Future[tuple[Run, Verdict]]] = []
    try:
        for case in task.cases[1:]:
            waiting.append(_threads().submit(_one_case, task, *case))
            if len(waiting) >= ahead:
                yield waiting.pop(0).result()
        while waiting:
            yield waiting.pop(0).result()
    finally:
        for each in waiting:
            each.cancel()


def _one_case(task: Task, stdin: str, expected: str | None) -> tuple[Run, Verdict]:
    result = run(task.program, stdin, task.limits)
    if result.verdict is Verdict.OK and task.checker:
        return result, _checked(task.checker, stdin, result, expected, task.limits)
    return result, _compare(result, expected)


def _checked(checker: Program, stdin: str, result: Run, expected: str | None, limits: Limits) -> Verdict:
    asked = json.dumps({"stdin": stdin, "stdout": result.stdout.decode("utf-8", "replace"), "expected": expected})
    judged = run(checker, asked, limits)
    said = judged.stdout.strip()
    if judged.verdict is not Verdict.OK or said not in {b"0", b"1"}:
        reason = judged.reason or f"it printed {said[:50]!r}, expected 0 or 1"
        raise ReferenceUnparseable(f"reference.checker: {reason}", field="reference.checker")
    return Verdict.OK if said == b"1" else Verdict.WRONG_ANSWER


def _compare(result: Run, expected: str | None) -> Verdict:
    if result.verdict is not Verdict.OK or expected is None:
        return result.verdict
    said = result.stdout.decode("utf-8", "replace")
    return Verdict.OK if _trimmed(said) == _trimmed(expected) else Verdict.WRONG_ANSWER


def _trimmed(text: str) -> list[str]:
    """The lines without the blanks at their ends and at the end of the text."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _tests(task: Task) -> list[tuple[Run, Verdict]]:
    """One run of pytest, with a verdict on each test function."""
    result = run(task.program, "", task.limits)
    if len(result.values) != 2:
        return [(result, _silent(result))]
    fine = pytest_mode.passed(task.tests, result.values)
    return [(result, Verdict.OK if each else Verdict.WRONG_ANSWER) for each in fine]


def _values(task: Task) -> list[tuple[Run, Verdict]]:
    """One run for all expressions, with a verdict on each of their values."""
    expected = _expected(task)
    result = run(task.program, "", task.limits)
    if len(result.values) != len(expected):
        return [(result, _silent(result))]
    return [(result, _same(told, wanted, task.tolerance)) for told, wanted in zip(result.values, expected, strict=True)]


def _silent(result: Run) -> Verdict:
    """The verdict on a run that did not tell what it was asked for."""
    return Verdict.PROTOCOL_ERROR if result.verdict is Verdict.OK else result.verdict


def _same(told: str, wanted: str, tolerance: float) -> Verdict:
    if told == wanted:
        return Verdict.OK
    if told.startswith("!"):
        return Verdict.WRONG_ANSWER if told == "!ValueError" else Verdict.RUNTIME_ERROR
    if tolerance and told[0] in "if" and wanted[0] in "if":
        close = math.isclose(_number(told), _number(wanted), rel_tol=tolerance, abs_tol=tolerance)
        return Verdict.OK if close else Verdict.WRONG_ANSWER
    return Verdict.WRONG_ANSWER


def _number(text: str) -> float:
    if text[0] == "f":
        return float.fromhex(text[1:])
    value = int(text[1:], 16)
    return float(value) if value.bit_length() < 1024 else math.inf


def _expected(task: Task) -> list[str]:
    """The encoded expected values; what is no literal is evaluated in a run without the response."""
    sources = tuple(each.source for each in task.expected if each.source)
    found = iter(_evaluated(task.prefix, sources, task.limits) if sources else ())
    return [next(found) if each.source else each.value for each in task.expected]


@lru_cache(256)
def _evaluated(prefix: str, sources: tuple[str, ...], limits: Limits) -> tuple[str, ...]:
    result = run(Program(prefix, expressions=sources), "", limits)
    values = result.values or ("!",) * len(sources)
    for source, value in zip(sources, values, strict=True):
        if value.startswith("!"):
            reason = f"{source[:100]} has no plain value: {value[1:] or result.reason}"
            raise ReferenceUnparseable(reason, field="reference.asserts")
    return values
