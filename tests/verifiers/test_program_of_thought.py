"""``program_of_thought``: where an answer may stand, how it is compared, and what fails."""

import pytest

from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.program_of_thought import program_of_thought


def score(text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    group = Group("g", responses=(Response(text),), reference=reference)
    return program_of_thought.bind(params).score(group, [0]).row(0)


RIGHT = {
    "variable": ("ans = 7 * 6", 42),
    "whole float": ("answer = 42.0", 42),
    "rounding error": ("ans = 0.1 + 0.2", 0.3),
    "fraction": ("from fractions import Fraction\nans = Fraction(1, 8)", 0.125),
    "surd of sympy": ("from sympy import sqrt\nresult = sqrt(2)", 1.41421356),
    "root of an equation": ("from sympy import *\nx = symbols('x')\nans = solve(x**3 - 8)[0]", 2),
    "array of numpy": ("import numpy as np\nans = np.linalg.det(np.array([[3., 1.], [2., 4.]]))", 10),
    "optimiser of scipy": ("from scipy.optimize import brentq\nans = brentq(lambda x: x * x - 2, 0, 2)", 1.41421356),
    "function": ("def solution():\n    return 42", "42"),
    "printed": ("print(1)\nprint(' 1,200 ')", 1200),
    "printed percentage": ("print('12%')", 0.12),
    "variable before print": ("ans = 42\nprint('the answer is above')", 42),
    "leaving early": ("ans = 42\nimport sys\nsys.exit()", 42),
    "word": ("print('Paris')", "paris"),
    "yes": ("ans = 3 > 2", "True"),
    "big": ("ans = 2 ** 200", str(2**200)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_answer_is_found_and_equal(name: str) -> None:
    """In a variable, a function or on the last line, with libraries at hand."""
    text, gold = RIGHT[name]
    result = score(f"Think.\n```python\n{text}\n```\nDone.", {"answer": gold})
    assert (result.value, result.status, result.details["verdict"]) == (1.0, Status.OK, "ok"), result


WRONG = {
    "another number": ("ans = 41", "wrong_answer"),
    "no answer": ("x = 42", "wrong_answer"),
    "a list": ("ans = [42]", "wrong_answer"),
    "not a number": ("ans = float('nan')", "wrong_answer"),
    "infinite": ("ans = float('inf')", "wrong_answer"),
    "an exception": ("ans = 42\n1 / 0", "runtime_error"),
    "an exception in the function": ("def solution(): return 1 / 0", "runtime_error"),
    "an exception while it is shown": (
        "class A:\n    def __str__(self): raise ValueError\nans = A()", "runtime_error",
    ),
    "a loop": ("ans = 42\nwhile True: pass", "time_limit"),
    "a loop in the function": ("def solution():\n    while True: pass", "time_limit"),
    "no program": ("The answer is 42.", "runtime_error"),
    "too much output": ("while True: print('42' * 1000)", "output_limit"),
    "a failing exit": ("ans = 42\nimport sys\nsys.exit(1)", "runtime_error"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_program_is_a_verdict(name: str) -> None:
    """0 with the verdict, never a status."""
    text, verdict = WRONG[name]
    result = score(text, {"answer": 42, "limits": {"time_s": 1.5}})
    assert (result.value, result.status, result.details["verdict"]) == (0.0, Status.OK, verdict), result


def test_parameters() -> None:
    """The tolerance and the place of the answer."""
    assert score("ans = 42.1", {"answer": 42}, rel_tol=0.01).value == 1.0
    assert score("ans = 42\nprint(7)", {"answer": 7}, answer_in="stdout").value == 1.0
    assert score("ans = 42\ndef solution(): return 7", {"answer": 7}, answer_in="function").value == 1.0
    assert score("print(7)", {"answer": 7}, answer_in="variable").value == 0.0


@pytest.mark.parametrize("gold", [None, "", " ", True, float("nan"), [1], "x" * 3000])
def test_bad_reference_names_its_field(gold: object) -> None:
    """Before anything runs."""
    result = score("ans = 1", {"answer": gold})
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.answer")


def test_program_sees_the_libraries_only() -> None:
    """Neither this package nor others, nor the host's files."""
    for line in ("import rewardhub", "import pytest", "open('/etc/passwd')", f"open({__file__!r})"):
        assert score(f"{line}\nans = 42", {"answer": 42}).details["verdict"] == "runtime_error"
