"""The reference of the ``code`` verifier: its modes and fields, checked before anything runs."""

import ast
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rewardhub.errors import InvalidInput, NoAnswer, ReferenceUnparseable, nearest
from rewardhub.sandbox.languages import languages, missing
from rewardhub.sandbox.plain import encode
from rewardhub.sandbox.runner import Program
from rewardhub.sandbox.verdicts import Limits
from rewardhub.scorer import need
from rewardhub.types import Json, Response
from rewardhub.verifiers.codelib import pytest_mode
from rewardhub.verifiers.codelib.fences import extract_code

MAX_CASES = 1000
MAX_TEXT = 4_000_000
"""Characters of prefix, suffix, checker, and each case's stdin and stdout."""
MAX_LIMITS = {"time_s": 300, "memory_mb": 32_768, "output_kb": 65_536}


@dataclass(frozen=True, slots=True)
class Task:
    """What to run and what must come of it.

    ``cases`` are pairs of stdin and expected stdout; ``expected`` holds the encoded value of each of
    the program's expressions, or the source of an expression that the reference's own run evaluates;
    ``tests`` says how often each of pytest's tests must come to its end;
    ``checker`` judges a case's output instead of a comparison.
    """

    program: Program
    cases: tuple[tuple[str, str | None], ...]
    limits: Limits
    expected: tuple["Expected", ...] = ()
    tolerance: float = 0.0
    checker: Program | None = None
    prefix: str = ""
    tests: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Expected:
    """An encoded value, or the source of one that is no literal."""

    value: str = ""
    source: str = ""


def parse(response: Response, reference: Json, *, exit_is_end: bool) -> Task:
    """The task; every error names its field.

    Raises ``InvalidInput`` for what cannot be run (mode, language, limits, too many cases),
    ``ReferenceUnparseable`` for what cannot be compared, ``NoAnswer`` for an empty response.
    """
    language = _language(reference, "language")
    mode = reference.get("mode", "program")
    if "mode" not in reference and (stray := _OF_OTHER_MODES & set(reference)):
        reason = f"reference.mode is missing, which reference.{min(stray)} needs"
        raise ReferenceUnparseable(reason, field="reference.mode")
    if not isinstance(mode, str):
        raise ReferenceUnparseable(f"reference.mode is {type(mode).__name__}, expected str", field="reference.mode")
    if mode not in _MODES:
        raise InvalidInput(f"unknown mode {mode!r}{nearest(mode, _MODES)}", field="reference.mode")
    if mode in _OF_VALUES and language != "python":
        raise InvalidInput(f"mode {mode!r} is for python, not {language}", field="reference.mode")
    prefix, suffix = _text(reference, "prefix", "reference") or "", _text(reference, "suffix", "reference") or ""
    limits = limits_of(reference)
    blank = Task(Program("", suffix, language, exit_is_end), (("", None),), limits, prefix=prefix)
    task = _MODES[mode](blank, reference)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    return replace(task, program=replace(task.program, text=prefix + extract_code(response.text)))


def _language(holder: Json, key: str, default: str | None = None) -> str:
    language = default if default and key not in holder else need(holder, key)
    if language not in languages():
        field = f"reference.{key}"
        if lack := missing(language):
            raise InvalidInput(f"{language} is not installed here: {lack}", field=field)
        raise InvalidInput(f"unknown language {language!r}{nearest(language, languages())}", field=field)
    return str(language)


def _program(task: Task, reference: Json) -> Task:
    cases = tuple(_cases(reference))
    if task.program.language != "python" and any(expected is None for _, expected in cases):
        reason = f"{task.program.language} needs cases with a stdout: only its output can speak for a program"
        raise ReferenceUnparseable(reason, field="reference.cases")
    return replace(task, cases=cases)


def _judge(task: Task, reference: Json) -> Task:
    text = _text(reference, "checker", "reference")
    if not text:
        raise ReferenceUnparseable("reference.checker is missing, expected str", field="reference.checker")
    checker = Program(text, language=_language(reference, "checker_language", "python"))
    return replace(task, cases=tuple(_cases(reference)), checker=checker)


def _pytest(task: Task, reference: Json) -> Task:
    tests = _text(reference, "tests", "reference")
    if not tests:
        raise ReferenceUnparseable("reference.tests is missing, expected str", field="reference.tests")
    if task.program.suffix:
        raise ReferenceUnparseable("mode 'pytest' has tests, not a suffix", field="reference.suffix")
    language = _language({}, "language", pytest_mode.LANGUAGE)
    program = Program(
        "", pytest_mode.suffix(tests), language, expressions=(pytest_mode.expression(),), tests=True
    )  # fmt: skip
    return replace(task, program=program, tests=pytest_mode.expected(tests))


def _asserts(task: Task, reference: Json) -> Task:
    lines = _listed(reference, "asserts")
    pairs = [_assert(line, f"reference.asserts[{index}]") for index, line in enumerate(lines)]
    program = replace(task.program, expressions=tuple(left for left, _ in pairs))
    return replace(task, program=program, expected=tuple(right for _, right in pairs))


def _assert(line: Any, field: str) -> tuple[str, Expected]:
    """Both sides of ``expression == expected``, with or without ``assert`` before them."""
    try:
        tree = ast.parse(line.strip()) if isinstance(line, str) and len(line) <= MAX_TEXT else None
        found = tree.body[0] if tree and len(tree.body) == 1 else None
        test = found.test if isinstance(found, ast.Assert) else found.value if isinstance(found, ast.Expr) else None
        if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
            left, right = (
                f"({ast.get_source_segment(line.strip(), side)})" for side in (test.left, test.comparators[0])
            )
            return left, _literal(test.comparators[0], right)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ReferenceUnparseable(f"{field}: {type(error).__name__}", field=field) from None
    raise ReferenceUnparseable(f"{field} is not `expression == expected`", field=field)


def _literal(side: ast.expr, source: str) -> Expected:
    try:
        value = ast.literal_eval(side)
    except (ValueError, TypeError):
        return Expected(source=source)
    return Expected(encode(value))


def _solution(task: Task, reference: Json) -> Task:
    expected = Expected(_plain(reference, "expected", "reference"))
    if isinstance(reference["expected"], Mapping):
        reason = "reference.expected must be a number, a text, a truth value or a list"
        raise ReferenceUnparseable(reason, field="reference.expected")
    program = replace(task.program, expressions=(f"{_function(reference, 'solution')}()",), as_json=True)
    return replace(task, program=program, expected=(expected,), tolerance=_tolerance(reference))


def _call(task: Task, reference: Json) -> Task:
    name = _function(reference, None)
    calls = _listed(reference, "calls")
    made = [_one_call(each, name, f"reference.calls[{index}]") for index, each in enumerate(calls)]
    program = replace(task.program, expressions=tuple(source for source, _ in made), as_json=True)
    return replace(task, program=program, expected=tuple(each for _, each in made), tolerance=_tolerance(reference))


def _one_call(call: Any, name: str, field: str) -> tuple[str, Expected]:
    if not isinstance(call, Mapping):
        raise ReferenceUnparseable(f"{field} must be an object with args and expected", field=field)
    args, keywords = call.get("args", []), call.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(keywords, Mapping):
        raise ReferenceUnparseable(f"{field}.args must be a list, kwargs an object", field=f"{field}.args")
    for given in ("args", "kwargs"):
        if given in call:
            _plain(call, given, field)
    return f"{name}(*{args!r}, **{dict(keywords)!r})", Expected(_plain(call, "expected", field))


def _plain(holder: Json, key: str, where: str) -> str:
    """The encoded JSON value of a field; NaN and infinities are none."""
    field = f"{where}.{key}"
    if key not in holder:
        raise ReferenceUnparseable(f"{field} is missing", field=field)
    try:
        json.dumps(holder[key], allow_nan=False)
        return encode(holder[key], as_json=True)
    except (TypeError, ValueError, RecursionError):
        raise ReferenceUnparseable(f"{field} is not JSON", field=field) from None


def _function(reference: Json, default: str | None) -> str:
    """The name of a function, or of a class and its method, as an expression."""
    name = reference.get("function", default)
    parts = name.split(".") if isinstance(name, str) and len(name) < 1000 else []
    if not 1 <= len(parts) <= 2 or not all(part.isidentifier() for part in parts):
        raise ReferenceUnparseable("reference.function must be a name or Class.method", field="reference.function")
    return "().".join(parts)


def _tolerance(reference: Json) -> float:
    value = reference.get("tolerance", 0.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ReferenceUnparseable("reference.tolerance must be a number from 0", field="reference.tolerance")
    return float(value)


def _listed(reference: Json, key: str) -> list[Any]:
    field, value = f"reference.{key}", reference.get(key)
    if not isinstance(value, list) or not value:
        raise ReferenceUnparseable(f"{field} must be a list of 1 to {MAX_CASES}", field=field)
    if len(value) > MAX_CASES:
        raise InvalidInput(f"{field} has {len(value)} items, at most {MAX_CASES}", field=field)
    return value


_MODES: dict[str, Callable[[Task, Json], Task]] = {
    "program": _program, "asserts": _asserts, "solution": _solution, "call": _call, "judge": _judge,
    "pytest": _pytest,
}  # fmt: skip
_OF_VALUES = ("asserts", "solution", "call", "pytest")
# Without its mode such a field would go unread, and every program that runs would pass.
_OF_OTHER_MODES = frozenset({"asserts", "expected", "calls", "tests", "checker"})


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
    return [_case(case, f"reference.cases[{index}]") for index, case in enumerate(_listed(reference, "cases"))]


def _case(case: Any, where: str) -> tuple[str, str | None]:
    if not isinstance(case, Mapping):
        raise ReferenceUnparseable(f"{where} must be an object with stdin and stdout", field=where)
    if unknown := sorted(set(case) - {"stdin", "stdout"}):
        raise ReferenceUnparseable(f"{where} has no field {unknown[0]!r}", field=f"{where}.{unknown[0]}")
    return _text(case, "stdin", where) or "", _text(case, "stdout", where)


def limits_of(reference: Json) -> Limits:
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
        raise InvalidInput(f"{field} is unknown{nearest(key, MAX_LIMITS)}", field=field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ReferenceUnparseable(f"{field} is {type(value).__name__}, expected a number", field=field)
    if not 0 < value <= MAX_LIMITS[key]:
        raise InvalidInput(f"{field} must be a number in (0, {MAX_LIMITS[key]}]", field=field)
    return float(value)
