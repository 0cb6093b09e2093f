"""``code``: extraction, references, cases, and HumanEval."""

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.errors import Unavailable
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers import code_exec
from rewardhub.verifiers.code_exec import code, extract_code


def score(text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    return code.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


def humaneval(data_dir: Path) -> list[Json]:
    """The 164 problems."""
    with gzip.open(data_dir / "humaneval/HumanEval.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def humaneval_values(data_dir: Path, body: str | None) -> list[float | None]:
    """The value of each problem with its canonical solution, or with ``body`` in its place."""

    def one(row: Json) -> float | None:
        suffix = f"{row['test']}\ncheck({row['entry_point']})\n"
        reference = {"language": "python", "prefix": row["prompt"], "suffix": suffix}
        return score(row["canonical_solution"] if body is None else body, reference).value

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, humaneval(data_dir)))


def test_humaneval_canonical_solutions_pass(data_dir: Path) -> None:
    """All 164 canonical solutions are right."""
    assert humaneval_values(data_dir, None) == [1.0] * 164


def test_humaneval_empty_bodies_fail(data_dir: Path) -> None:
    """None of the 164 problems is solved by a body that returns nothing."""
    assert humaneval_values(data_dir, "    return None\n") == [0.0] * 164


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("    return 1", "    return 1"),
        ("\n  x = 1\n\n", "\n  x = 1\n\n"),
        ("```python\nx = 1\n```", "x = 1\n"),
        ("a\n```\nx = 1\n```\nb\n```py\ny = 2\n```\nc", "y = 2\n"),
        ("```python\n    return 1\n```", "    return 1\n"),
        ("~~~\nx\n~~~", "x\n"),
        ("````\n```\nx\n```\n````", "```\nx\n```\n"),
        ("```python\nx = 1", "x = 1"),
        ("```python\nx = '''\n``` not a close\n'''\n```", "x = '''\n``` not a close\n'''\n"),
        ("use `x` or ```x``` here", "use `x` or ```x``` here"),
        ("```\n```", ""),
        ("", ""),
    ],
)
def test_last_fenced_block_is_the_code(text: str, found: str) -> None:
    """The last fenced block as CommonMark reads it, else the whole response unchanged."""
    assert extract_code(text) == found


@given(st.text(st.characters(blacklist_characters="`~")))
def test_text_without_fences_is_unchanged(text: str) -> None:
    """No stripping, whatever the blanks."""
    assert extract_code(text) == text


CASES = {"language": "python", "cases": [{"stdin": "1 2", "stdout": "3\n"}, {"stdin": "5 6\n", "stdout": "11"}]}


def test_cases_and_trailing_blanks() -> None:
    """Every stdout must agree, blanks at the ends of lines and of the text ignored."""
    right = "print(sum(map(int, input().split())), end=' \\n\\n')"
    assert score(right, CASES).value == 1.0
    assert score(right.replace("print(", "print('', "), CASES).value == 0.0
    assert score(right, CASES).details["passed"] == 2
    wrong = score("print(3)", CASES)
    assert (wrong.value, wrong.details["verdict"], wrong.details["passed"]) == (0.0, "wrong_answer", 1)
    assert score("print(3)", CASES, fraction=True).value == 0.5


def test_first_failure_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Later cases are not run once one has failed, unless the fraction counts."""
    runs = []
    monkeypatch.setattr(code_exec, "run", lambda *args, run=code_exec.run: (runs.append(1), run(*args))[1])
    score("print(0)", CASES)
    assert len(runs) == 1
    score("print(0)", CASES, fraction=True)
    assert len(runs) == 3


def test_case_without_stdout_expects_none_in_particular() -> None:
    """The end of the program is what counts then."""
    assert score("print(input())", {"language": "python", "cases": [{"stdin": "x"}]}).value == 1.0


def test_no_cases() -> None:
    """One run with an empty stdin; an empty list of cases needs a suffix that tests something."""
    program = "import sys\nassert sys.stdin.read() == ''"
    assert score(program, {"language": "python"}).value == 1.0
    assert score(program, {"language": "python", "cases": [], "suffix": "\nassert sys"}).value == 1.0
    assert score(program, {"language": "python", "cases": []}).status is Status.REFERENCE_UNPARSEABLE


def test_details_show_no_path_of_the_guard() -> None:
    """What is shown of stderr is about the program."""
    for text in ("def f(", "1 / 0", "import json\njson.loads('{')"):
        details = score(text, {"language": "python"}).details
        assert details["stderr"]
        assert "guard" not in details["stderr"]
        assert "rewardhub" not in details["stderr"]


def test_endless_program_is_wrong_not_late() -> None:
    """A program that never ends is a verdict on the response."""
    endless = score("while True: pass", {"language": "python", "limits": {"time_s": 0.3}})
    assert (endless.value, endless.status, endless.details["verdict"]) == (0.0, Status.OK, "time_limit")
    assert endless.details["isolation_level"]


def test_right_output_without_the_end_is_wrong() -> None:
    """The nonce decides, not the output or the exit code."""
    text = "print(sum(map(int, input().split())), flush=True)\nimport os\nos._exit(0)"
    assert score(text, CASES).value == 0.0


def test_program_is_the_plain_concatenation() -> None:
    """Prefix, code and suffix are one program, even where only the three together are one."""
    reference = {"language": "python", "prefix": "def f(x):\n    if x:\n", "suffix": "    return 2\nassert f(0) == 2\n"}
    assert score("        return 1\n", reference).value == 1.0
    assert score("        return 1\n    return 3\n", reference).value == 0.0
    future = {"language": "python", "prefix": "from __future__ import annotations\n", "suffix": "def g(x: nope): 0\n"}
    assert score("y = 1\n", future).value == 1.0


BAD = {
    "reference.language": [{}, {"language": None}, {"language": 3}, {"language": "cobol"}],
    "reference.prefix": [{"language": "python", "prefix": 3}],
    "reference.suffix": [{"language": "python", "suffix": ["x"]}, {"language": "python", "suffix": "x" * 5_000_000}],
    "reference.cases": [{"language": "python", "cases": bad} for bad in ({}, [], "x", 3, [{}] * 1001)],
    "reference.cases[1]": [{"language": "python", "cases": [{}, 3]}],
    "reference.cases[0].stdin": [{"language": "python", "cases": [{"stdin": 3}]}],
    "reference.cases[0].stdout": [{"language": "python", "cases": [{"stdout": 3.0}]}],
    "reference.cases[0].output": [{"language": "python", "cases": [{"output": "x"}]}],
    "reference.limits": [{"language": "python", "limits": 3}],
    "reference.limits.time": [{"language": "python", "limits": {"time": 3}}],
    "reference.limits.time_s": [
        {"language": "python", "limits": {"time_s": bad}} for bad in (-1, 0, "3", True, None, float("nan"), 1e9)
    ],
    "reference.limits.memory_mb": [{"language": "python", "limits": {"memory_mb": -5}}],
    "reference.limits.output_kb": [{"language": "python", "limits": {"output_kb": float("inf")}}],
}


@pytest.mark.parametrize("field", BAD)
def test_bad_reference_names_its_field(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything runs."""
    monkeypatch.setattr(code_exec, "run", lambda *args: pytest.fail("it ran"))
    for reference in BAD[field]:
        result = score("print(1)", reference)
        assert (result.value, result.blame, result.details["field"]) == (None, "caller", field)


def test_bad_input_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of 10 MB is over the limit by the response; ten thousand cases and negative limits are the caller's."""
    monkeypatch.setattr(code_exec, "run", lambda *args: pytest.fail("it ran"))
    python = {"language": "python"}
    for text, reference, status, field in [
        ("x" * 10_000_000, python, Status.OVER_LIMIT, "response"),
        (
            "x",
            python | {"cases": [{"stdin": "", "stdout": ""}] * 10_000},
            Status.INVALID_INPUT,
            "reference.cases",
        ),
        (
            "x",
            python | {"mode": "asserts", "asserts": ["1 == 1"] * 10_000},
            Status.INVALID_INPUT,
            "reference.asserts",
        ),
        ("x", python | {"limits": {"memory_mb": -1}}, Status.INVALID_INPUT, "reference.limits.memory_mb"),
        ("x", python | {"limits": {"time_s": -1}}, Status.INVALID_INPUT, "reference.limits.time_s"),
        ("x", {"language": "brainfuck"}, Status.INVALID_INPUT, "reference.language"),
    ]:
        result = score(text, reference)
        assert (result.value, result.status, result.details["field"]) == (None, status, field)


def test_nearest_language_is_named() -> None:
    """A misspelt language is answered with the nearest known one."""
    assert "'python'" in score("x", {"language": "pyhton"}).details["reason"]


def test_fault_of_the_sandbox_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage has its status and no value."""

    def fail(*args: object) -> None:
        raise Unavailable("no processes left", retry_after_s=1.0)

    monkeypatch.setattr(code_exec, "run", fail)
    result = score("print(1)", {"language": "python"})
    assert (result.value, result.status) == (None, Status.UNAVAILABLE)


def test_weird_responses_are_verdicts() -> None:
    """NUL, lone surrogates and a megabyte are wrong programs."""
    for text in ("\x00", "x = '\ud800'\nprint(x)", "(" * 1_000_000, "é = 1; 你 = 2; assert 0"):
        result = score(text, {"language": "python"})
        assert (result.value, result.status) == (0.0, Status.OK)
