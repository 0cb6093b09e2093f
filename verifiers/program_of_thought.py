"""``program_of_thought``: the answer that a program computes."""

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import NoAnswer, ReferenceUnparseable, Unavailable
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.languages import languages, missing
from rewardhub.sandbox.place import place
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Run, Verdict
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.numerals import as_value, number_of, read_number
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.verifiers.codelib.reference import limits_of
from rewardhub.verifiers.codelib.sources import SANDBOX

LANGUAGE = "python_science"
AnswerIn = Literal["auto", "variable", "function", "stdout"]
_LONGEST = 2_000

# A number becomes the shortest text that reads as the same; what float() cannot take stays as it is shown.
_PROBE = """
def text(value):
    if isinstance(value, str): return value
    if isinstance(value, int): return str(value)
    try: return repr(float(value))
    except (TypeError, ValueError, OverflowError): return str(value)

name = next((each for each in ("ans", "answer", "result") if each in made), None)
if NAMED and name: tell(text(made[name]).encode())
elif CALLED and callable(made.get("solution")): tell(text(made["solution"]()).encode())
"""

_TWELVE, _LATE = {"answer": 12}, {"answer": 12, "limits": {"time_s": 0.5}}
_SOLUTION = "```python\ndef solution():\n    bags = 3\n    return bags * 4\n```"


@verifier(
    "program_of_thought",
    lane="sandbox",
    signals=False,
    place=place,
    time_limit_s=3600.0,
    sources=(*SANDBOX, "rewardhub.verifiers.answerlib.numerals", "rewardhub.verifiers.answerlib.scope"),
    libraries=("numpy", "scipy", "sympy"),
    examples=(
        Example("ans = 3 * 4", _TWELVE, 1.0),
        Example(_SOLUTION, _TWELVE, 1.0),
        Example("print('bags:', 3)\nprint(12.0)", _TWELVE, 1.0),
        Example("from sympy import Rational\nans = Rational(1, 3)", {"answer": "0.3333333"}, 1.0),
        Example("ans = 12.1", _TWELVE, 0.0),
        Example("ans = 12.1", _TWELVE, 1.0, {"rel_tol": 0.01}),
        Example("ans = 12\nprint(13)", _TWELVE, 0.0, {"answer_in": "stdout"}),
        Example("print('New York')", {"answer": "new york"}, 1.0),
        Example("ans = 12 / 0", _TWELVE, 0.0),
        Example("while True: pass", _LATE, 0.0),
        Example("x = 12", _TWELVE, 0.0),
        Example("", _TWELVE, None, status=Status.NO_ANSWER),
        Example("ans = 12", {"answer": ""}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def program_of_thought(
    response: Response, reference: Json, *,
    rel_tol: Annotated[float, Field(ge=0, le=1)] = 1e-4,
    answer_in: AnswerIn = "auto",
) -> Score:  # fmt: skip
    """Whether the response's Python program computes ``reference.answer``, a number or a text: 1.0 or 0.0.

    The program is the last fenced block, else the whole response, and finds NumPy, SciPy and SymPy. Its
    answer is a variable ``ans``, ``answer`` or ``result`` (Program of Thoughts, arXiv 2211.12588), what
    its function ``solution()`` returns (PAL, arXiv 2211.10435), or the last line that it prints: the first
    of these that there is, or the one that ``answer_in`` names. Numbers are equal within ``rel_tol`` of
    the reference, texts whatever their case. The reference may have ``limits`` as of ``code``.
    Details: ``verdict``, ``extracted``, ``reason``, ``isolation_level`` and the run's use.
    """
    gold = _gold(reference)
    limits = limits_of(reference)
    if LANGUAGE not in languages():
        raise Unavailable(f"{LANGUAGE} is not installed here: {missing(LANGUAGE)}", retry_after_s=300.0)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    probe = _PROBE.replace("NAMED", str(answer_in in ("auto", "variable")))
    probe = probe.replace("CALLED", str(answer_in in ("auto", "function")))
    result = run(Program(extract_code(response.text), language=LANGUAGE, probe=probe), "", limits)
    details = dict(result.details()) | {"isolation_level": isolation()}
    if result.verdict is not Verdict.OK:
        return Score(0.0, details=details)
    answer = _answer(result, answer_in)
    reason = _difference(answer, gold, rel_tol)
    verdict = Verdict.WRONG_ANSWER if reason else Verdict.OK
    details |= {"verdict": verdict.value, "extracted": answer}
    return Score(float(not reason), details=details | ({"reason": reason} if reason else {}))


def _gold(reference: Json) -> Fraction | str:
    value = reference.get("answer")
    if isinstance(value, str):
        number = read_number(value)
        if not value.strip() or len(value) > _LONGEST:
            reason = f"reference.answer must be a number or a text of 1 to {_LONGEST} characters"
            raise ReferenceUnparseable(reason, field="reference.answer")
        return as_value(number, "value") if number else value
    return number_of(value, "reference.answer").value


def _answer(result: Run, answer_in: AnswerIn) -> str:
    text = result.told.decode("utf-8", "replace").strip()
    if not text and answer_in in ("auto", "stdout"):
        lines = result.stdout.decode("utf-8", "replace").strip().splitlines()
        text = lines[-1].strip() if lines else ""
    return text[:_LONGEST]


def _difference(answer: str, gold: Fraction | str, rel_tol: float) -> str:
    """Why the two differ, or nothing."""
    if not answer:
        return "the program has no answer"
    if isinstance(gold, str):
        return "" if answer.casefold() == gold.strip().casefold() else "another text"
    number = read_number(answer)
    if number is None:
        return "its answer is no number"
    return "" if abs(as_value(number, "value") - gold) <= Fraction(rel_tol) * abs(gold) else "another number"
