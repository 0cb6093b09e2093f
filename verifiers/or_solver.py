"""``or_solver``: runs an optimisation model and compares what it found."""

import math
import re
from typing import Annotated, NamedTuple

from pydantic import Field

from rewardhub.errors import NoAnswer, ReferenceUnparseable, Unavailable
from rewardhub.registry import Example, verifier
from rewardhub.sandbox.languages import languages, missing
from rewardhub.sandbox.place import place
from rewardhub.sandbox.runner import Program, isolation, run
from rewardhub.sandbox.verdicts import Verdict
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.codelib.fences import extract_code
from rewardhub.verifiers.codelib.reference import limits_of
from rewardhub.verifiers.codelib.sources import SANDBOX

LANGUAGE = "python_solvers"
STATUSES = ("infeasible", "unbounded")
_NEAR_ZERO = 1e-6
_TAIL = 20_000
"""Characters at the end of the output that are read."""

_NUMBER = r"[-+]?(?:[0-9][0-9,]*\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
_ALONE = re.compile(rf"\s*({_NUMBER})\s*")
_OBJECTIVE = re.compile(
    rf"(?:objective|optimal)(?: function)?(?: value)?(?: is| of)?\s{{0,20}}[:=]?\s{{0,20}}({_NUMBER})"
)
_ANY = re.compile(rf"(?<![\w.])({_NUMBER})(?![\w.])")
_STATUS = re.compile(
    r"\bk?(infeasible[ _]?or[ _]?unbounded|unbounded[ _]?or[ _]?infeasible|inf_or_unbd"
    r"|infeasible|unbounded|optimal)(?![a-z])"
)

_MODEL = """```python
from scipy.optimize import linprog
found = linprog([-3, -2], A_ub=[[1, 1], [1, 3]], b_ub=[4, 6], bounds=[(0, 3), (0, None)])
print(found.message if found.fun is None else -found.fun)
```"""
_ELEVEN, _NONE, _ENDLESS = {"objective": 11}, {"status": "infeasible"}, {"status": "unbounded"}
_LATE = _ELEVEN | {"limits": {"time_s": 0.5}}


@verifier(
    "or_solver",
    lane="sandbox",
    signals=False,
    place=place,
    time_limit_s=3600.0,
    sources=SANDBOX,
    libraries=("scipy",),
    examples=(
        Example(_MODEL, _ELEVEN, 1.0),
        Example("print(11.0)", _ELEVEN, 1.0),
        Example("print(10.9)", _ELEVEN, 0.0),
        Example("print(10.9)", _ELEVEN, 1.0, {"rel_tol": 0.01}),
        Example("print('Objective: 11.0')\nprint('x = 3, y = 1')", _ELEVEN, 1.0),
        Example("print('The model is infeasible')", _ELEVEN, 0.0),
        Example("print('no idea')", _ELEVEN, 0.0),
        Example("while True: pass", _LATE, 0.0),
        Example(_MODEL.replace("(0, 3)", "(5, 9)"), _NONE, 1.0),
        Example("print(11.0)", _NONE, 0.0),
        Example("print('Status: Unbounded')", _ENDLESS, 1.0),
        Example("print('Status: Unbounded')", _NONE, 0.0),
        Example("", _ELEVEN, None, status=Status.NO_ANSWER),
        Example("print(11)", {"objective": "eleven"}, None, status=Status.REFERENCE_UNPARSEABLE),
        Example("print(11)", {"status": "optimal"}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def or_solver(
    response: Response, reference: Json, *, rel_tol: Annotated[float, Field(ge=0, le=1)] = 1e-4
) -> Score:  # fmt: skip
    """Whether the response's modelling code finds the reference's optimum or its lack of one: 1.0 or 0.0.

    The code, the last fenced block, else the whole response, is a Python program with SciPy, and with
    HiGHS and PuLP where the extra ``solvers`` is installed (CALM, arXiv 2510.04204). ``reference`` is
    ``{"objective": number}``, reached within ``rel_tol`` (1e-6 where it is 0), or ``{"status":
    "infeasible"}`` or ``"unbounded"``, and may have ``limits`` as of ``code``.

    What the program says: the status that it names last, "infeasible" or "unbounded", else its objective:
    the number that is its last line, else the last one behind "objective" or "optimal", else the last one.
    Details: ``verdict``, ``objective``, ``solver_status``, ``reason``, ``isolation_level`` and the run's use.
    """
    wanted = _wanted(reference)
    limits = limits_of(reference)
    if LANGUAGE not in languages():
        raise Unavailable(f"{LANGUAGE} is not installed here: {missing(LANGUAGE)}", retry_after_s=300.0)
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    result = run(Program(extract_code(response.text), language=LANGUAGE), "", limits)
    details = dict(result.details()) | {"isolation_level": isolation()}
    if result.verdict is not Verdict.OK:
        return Score(0.0, details=details)
    said = outcome(result.stdout.decode("utf-8", "replace"))
    reason = _difference(said, wanted, rel_tol)
    verdict = Verdict.WRONG_ANSWER if reason else Verdict.OK
    details |= {"verdict": verdict.value, "objective": said.objective, "solver_status": said.status}
    return Score(float(not reason), details=details | ({"reason": reason} if reason else {}))


class Outcome(NamedTuple):
    """An objective, or a status: ``infeasible``, ``unbounded`` or ``undecided`` between the two."""

    objective: float | None = None
    status: str | None = None


def _wanted(reference: Json) -> Outcome:
    given = [key for key in ("objective", "status") if reference.get(key) is not None]
    if len(given) != 1:
        raise ReferenceUnparseable("the reference needs either objective or status", field="reference.objective")
    value = reference[given[0]]
    if given == ["status"]:
        if value not in STATUSES:
            raise ReferenceUnparseable(f"reference.status must be one of {STATUSES}", field="reference.status")
        return Outcome(status=value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(_float(value)):
        raise ReferenceUnparseable("reference.objective must be a finite number", field="reference.objective")
    return Outcome(float(value))


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def outcome(printed: str) -> Outcome:
    """What a program says that it found."""
    lines = printed[-_TAIL:].strip().lower().splitlines() or [""]
    text = "\n".join(lines)
    if (named := [match[1] for match in _STATUS.finditer(text)]) and named[-1] != "optimal":
        return Outcome(status=named[-1] if named[-1] in STATUSES else "undecided")
    last = _ALONE.fullmatch(lines[-1])
    numbers = [last[1]] if last else _OBJECTIVE.findall(text) or _ANY.findall(text)
    return Outcome(float(numbers[-1].replace(",", "")) if numbers else None)


def _difference(said: Outcome, wanted: Outcome, rel_tol: float) -> str:
    """Why the two differ, or nothing."""
    if wanted.status or said.status:
        same = said.status == wanted.status
        return "" if same else f"it says {said.status or 'optimal'}, not {wanted.status or 'optimal'}"
    if said.objective is None or wanted.objective is None:
        return "it printed no number"
    near_zero = 0.0 if wanted.objective else _NEAR_ZERO
    close = math.isclose(
        said.objective, wanted.objective, rel_tol=0.0, abs_tol=max(rel_tol * abs(wanted.objective), near_zero)
    )
    return "" if close and math.isfinite(said.objective) else "another objective"
