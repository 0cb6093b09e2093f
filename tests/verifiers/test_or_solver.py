"""``or_solver``: real models in three libraries, what programs print, and bad references."""

import pytest

from rewardhub.sandbox.languages import languages
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.or_solver import Outcome, or_solver, outcome

ELEVEN = {"objective": 11}

SCIPY = """
from scipy.optimize import linprog
r = linprog([-3, -2], A_ub=[[1, 1], [1, 3]], b_ub=[4, 6], bounds=[(LOW, 3), (0, None)])
print(r.message)
print(None if r.fun is None else -r.fun)
"""
PULP = """
import pulp
m = pulp.LpProblem("plan", pulp.LpMaximize)
x, y = pulp.LpVariable("x", 0, 3), pulp.LpVariable("y", 0)
m += x >= LOW
m += 3 * x + 2 * y
m += x + y <= 4
m += x + 3 * y <= 6
m.solve()
print(pulp.LpStatus[m.status])
if m.status == 1: print("Objective =", pulp.value(m.objective)); print("x =", x.value(), "y =", y.value())
"""
HIGHS = """
import highspy
h = highspy.Highs()
x, y = h.addVariable(LOW, 3), h.addVariable(0)
h.addConstr(x + y <= 4)
h.addConstr(x + 3 * y <= 6)
h.maximize(3 * x + 2 * y)
print(h.getModelStatus())
if "Optimal" in str(h.getModelStatus()): print(h.getObjectiveValue())
"""
MODELS = {"scipy": SCIPY, "pulp": PULP, "highspy": HIGHS}


def score(text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    return or_solver.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


@pytest.mark.parametrize("library", MODELS)
def test_model_is_solved_in_the_sandbox(library: str) -> None:
    """max 3x + 2y, x + y <= 4, x + 3y <= 6, x <= 3 is 11 at (3, 1); with x >= 5 there is no solution."""
    pytest.importorskip(library)
    text = f"Model:\n```python\n{MODELS[library]}\n```"
    right = score(text.replace("LOW", "0"), ELEVEN)
    assert (right.value, right.details["objective"]) == (1.0, 11.0), right
    assert score(text.replace("LOW", "0").replace("3 * x", "2 * x").replace("[-3,", "[-2,"), ELEVEN).value == 0.0
    none = score(text.replace("LOW", "5"), {"status": "infeasible"})
    assert (none.value, none.details["solver_status"]) == (1.0, "infeasible"), none
    assert score(text.replace("LOW", "5"), ELEVEN).value == 0.0
    assert score(text.replace("LOW", "0"), {"status": "infeasible"}).value == 0.0


def test_solvers_are_shown_to_their_language_only() -> None:
    """Nothing but the solvers and what they need is importable, and plain Python programs see none of it."""
    from rewardhub.sandbox.runner import Program, run

    for name in ("matplotlib", "pytest", "rewardhub", "grpc"):
        assert score(f"import {name}\nprint(11)", ELEVEN).details["verdict"] == "runtime_error"
    assert run(Program("import numpy")).verdict == "runtime_error"
    assert score("print(open('/etc/passwd').read())\nprint(11)", ELEVEN).value == 0.0


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        ("11.0", Outcome(11.0)),
        ("Optimal value: 11\nx = 3\ny = 1", Outcome(11.0)),
        ("Objective: 1,234.5\n(3, 1)", Outcome(1234.5)),
        ("objective 12\nobjective = 11", Outcome(11.0)),
        ("profit 7 at x = 3\n11", Outcome(11.0)),
        ("best plan costs 1.1e1", Outcome(11.0)),
        ("P-D objective error : 0.0\nOptimal\n11", Outcome(11.0)),
        ("Infeasible", Outcome(None, "infeasible")),
        ("HighsModelStatus.kUnbounded", Outcome(None, "unbounded")),
        ("kUnboundedOrInfeasible", Outcome(None, "undecided")),
        ("Infeasible at first\nOptimal now\n11", Outcome(11.0)),
        ("feasible, Infeasibilities: 3", Outcome(3.0)),
        ("nan", Outcome()),
        ("", Outcome()),
        ("9" * 400, Outcome(float("inf"))),
    ],
)
def test_what_a_program_says(printed: str, found: Outcome) -> None:
    """The last status that it names, else its objective."""
    assert outcome(printed) == found


def test_failing_programs_are_verdicts() -> None:
    """A crash, a loop, an early end and silence are 0 with their verdict; infinity equals nothing."""
    late = score("while True: pass", ELEVEN | {"limits": {"time_s": 0.5}})
    assert (late.value, late.status, late.details["verdict"]) == (0.0, Status.OK, "time_limit")
    for text, verdict in {
        "print(11.0)\n1/0": "runtime_error", "print(11": "runtime_error", "x = 1": "wrong_answer",
        "print('9' * 400)": "wrong_answer", "x = [0] * 10**10\nprint(11)": "memory_limit",
    }.items():  # fmt: skip
        result = score(text, ELEVEN)
        assert (result.value, result.details["verdict"]) == (0.0, verdict), (text, result)


def test_tolerance() -> None:
    """Relative to the reference; absolute at zero."""
    assert score("print(11.001)", ELEVEN).value == 1.0
    assert score("print(11.002)", ELEVEN).value == 0.0
    assert score("print(11.002)", ELEVEN, rel_tol=1e-3).value == 1.0
    assert score("print(1e-7)", {"objective": 0}).value == 1.0
    assert score("print(1e-3)", {"objective": 0}).value == 0.0


@pytest.mark.parametrize(
    ("reference", "field"),
    [
        ({}, "reference.objective"),
        ({"objective": 1, "status": "infeasible"}, "reference.objective"),
        ({"objective": True}, "reference.objective"),
        ({"objective": float("nan")}, "reference.objective"),
        ({"objective": 10**400}, "reference.objective"),
        ({"status": "optimal"}, "reference.status"),
        ({"status": ["infeasible"]}, "reference.status"),
        ({"objective": 1, "limits": {"time_s": -1}}, "reference.limits.time_s"),
    ],
)
def test_bad_reference_names_its_field(reference: Json, field: str) -> None:
    """Before anything runs, with the blame on the caller."""
    result = score("print(1)", reference)
    assert (result.value, result.blame, result.details["field"]) == (None, "caller", field)


def test_the_solvers_are_a_language_of_their_own() -> None:
    """``code`` may name it too."""
    assert "python_solvers" in languages()
