"""``numeric``, ``regression``, ``count``: the catalogue's rows and the wrong verdicts of public graders."""

import json
import math
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.answerlib.numerals import read_number
from rewardhub.verifiers.answerlib.words import worded_number
from rewardhub.verifiers.numeric import count, numeric, regression

ALL = (numeric, regression, count)


def score(verifier: Verifier, text: str, answer: object, **params: object) -> Score:
    """The score of one response."""
    group = Group("g", responses=(Response(text),), reference={"answer": answer})
    return verifier.bind(params).score(group, [0]).row(0)


@pytest.mark.parametrize(
    ("text", "answer", "params", "value"),
    [
        ("1,200", 1200, {}, 1.0),
        ("1,200", 1200, {"comma_parity": True}, 0.0),
        ("42", 42.0, {}, 1.0),
        ("42", 42.0, {"decimal_parity": True}, 0.0),
        ("42", 42, {"decimal_parity": True, "comma_parity": True}, 1.0),
        ("3.141", "3.142", {}, 1.0),
        ("3", "3.0", {}, 1.0),  # VideoRFT's code gives 0
        ("18.005", 18, {"decimals": None, "abs_tol": 0.01}, 1.0),  # ReFT: tolerance 1e-2
        ("17", 18, {"decimals": None, "abs_tol": 0.01}, 0.0),
        ("11.0", 11, {"decimals": None, "rel_tol": 1e-4}, 1.0),  # optimisation objectives
        ("10.9", 11, {"decimals": None, "rel_tol": 1e-4}, 0.0),
        ("70,000", "70000", {}, 1.0),
    ],
)
def test_catalogue_rows_of_numeric(text: str, answer: object, params: dict, value: float) -> None:
    """Rows A11, A62, A74, B3, B37, B40, B41: the stated values."""
    assert score(numeric, text, answer, **params).value == value


@pytest.mark.parametrize(
    ("text", "answer", "form", "value"),
    [
        ("108", 100, "relative", 0.92), ("108", 100, "mra", 0.9), ("122", 100, "mra", 0.6),
        ("151", 100, "relative", 0.49), ("151", 100, "mra", 0.0), ("12", 10, "relative", 0.8),
        ("12", 10, "mra", 0.6), ("0", 0, "relative", 1.0), ("1e-9", 0, "relative", 0.0), ("0", 0, "mra", 1.0),
        ("250", 100, "relative", 0.0), ("-5", 5, "relative", 0.0), ("-95", -100, "relative", 0.95),
    ],
)  # fmt: skip
def test_catalogue_rows_of_regression(text: str, answer: object, form: str, value: float) -> None:
    """Rows A11, A62, A74, B31, B40: both formulas, and a reference of zero."""
    assert score(regression, text, answer, form=form).value == pytest.approx(value, abs=1e-12)


def test_regression_needs_a_floor_near_zero() -> None:
    """A floor replaces the reference as the scale of the error where that is smaller."""
    assert score(regression, "0.1", 0, floor=1.0).value == pytest.approx(0.9)
    assert score(regression, "100", 101, floor=1.0).value == pytest.approx(1 - 1 / 101)


@pytest.mark.parametrize(
    ("text", "answer", "params", "value"),
    [
        ("07", "7", {}, 1.0), ("1", "1", {}, 1.0), ("7.0", 7, {}, 1.0), ("7.5", 7, {}, 0.0), ("1,000", 1000, {}, 1.0),
        ("<answer>seven</answer>", 7, {}, 0.0), ("seven", 7, {"number_words": True}, 1.0),
        ("The answer is twenty-one.", 21, {"number_words": True}, 1.0),
        ("two hundred and five", 205, {"number_words": True}, 1.0),
        ("The answer is 12.", 12, {"number_words": True}, 1.0),
    ],
)  # fmt: skip
def test_catalogue_rows_of_count(text: str, answer: object, params: dict, value: float) -> None:
    """Rows A39, A64, B4, B35: whole numbers, and words only where asked for."""
    assert score(count, text, answer, **params).value == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 1.0), (" 5\n", 1.0), ("5.", 1.0), ("**5**", 1.0), ("$5", 1.0), ("+5", 1.0), ("5 km", 1.0), ("5km", 1.0),
        ("\\boxed{5}", 1.0), ("<answer>\\boxed{5}</answer>", 1.0), ("<answer>It is 5 apples.</answer>", 1.0),
        ("2 plus 3 makes 5", 1.0), ("The answer is 5 because 2 + 3 = 5.", 1.0), ("Answer: 5 apples, of 9", 1.0),
        ("#### 5", 1.0), ("５", 1.0), ("5,000e-3", 1.0), ("答案是5", 1.0), ("<answer>5 = 5.0</answer>", 1.0),
        ("-5", 0.0), ("−5", 0.0), ("55", 0.0), ("<answer>5 or 6</answer>", 0.0), ("<answer>6 (or 5)</answer>", 0.0),
        ("The answer is 5 or 6.", 0.0), ("The answer is 5 (or 6).", 0.0), ("The answer is 5, maybe 6", 0.0),
        ("<answer>five</answer>", 0.0), ("<answer>5,00</answer>", 0.0), ("<answer>5.0.0</answer>", 0.0),
        ("<answer>0x5</answer>", 0.0), ("<answer>v5</answer>", 0.0), ("<answer>inf</answer>", 0.0),
    ],
)  # fmt: skip
def test_where_the_number_stands(text: str, value: float) -> None:
    """One number in a tag or box, the first behind "answer is", the last of free text; hedges are wrong."""
    assert score(numeric, text, 5).value == value


def test_tolerances_are_the_written_decimals() -> None:
    """0.3 as a tolerance is three tenths, not the binary number below it, and is inclusive."""
    assert score(numeric, "1.3", 1, decimals=None, abs_tol=0.3).value == 1.0
    assert score(numeric, "1.3000000001", 1, decimals=None, abs_tol=0.3).value == 0.0
    assert score(numeric, "13", 10, decimals=None, rel_tol=0.3).value == 1.0


def test_several_numbers_by_declared_rule() -> None:
    """Which of several numbers counts is a parameter, not a guess."""
    for rule, value in (("wrong", 0.0), ("first", 1.0), ("last", 0.0)):
        assert score(numeric, "<answer>5 or 6</answer>", 5, several=rule).value == value


@pytest.mark.parametrize(
    ("text", "answer", "percent", "value"),
    [
        ("12%", 12, "value", 0.0), ("12%", 0.12, "value", 1.0), ("12%", 12, "ignore", 1.0), ("12%", 12, "match", 0.0),
        ("12 %", "12%", "match", 1.0), ("12", "12%", "match", 0.0), ("12", "12%", "ignore", 1.0),
    ],
)  # fmt: skip
def test_percent_rules(text: str, answer: object, percent: str, value: float) -> None:
    """What a percent sign means is a parameter, for numbers and for errors alike."""
    assert score(numeric, text, answer, percent=percent, decimals=6).value == value
    assert (score(regression, text, answer, percent=percent).value == 1.0) == bool(value)


def test_decimal_comma() -> None:
    """Comma and point change places in reference and response."""
    assert score(numeric, "1.200,50", "1200,5", decimal_comma=True, decimals=None).value == 1.0
    assert score(numeric, "3,14", 3.14, decimal_comma=True, decimals=None).value == 1.0
    assert score(numeric, "3,14", 3.14).value == 0.0


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize(
    "answer", ["", "blue", "1/0", None, True, [1], float("nan"), float("inf"), "nan", "inf", "1e999", 10**500, "4 5"]
)
def test_bad_reference_is_no_number(verifier: Verifier, answer: object) -> None:
    """Faults F1 and F2: an unusable reference never earns 1.0, the field is named."""
    for text in ("5", "nan", "blue", ""):
        result = score(verifier, text, answer)
        assert (result.value, result.status) == (None, Status.REFERENCE_UNPARSEABLE)
        assert result.details["field"].startswith("reference.answer")


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
def test_public_wrong_verdicts(verifier: Verifier) -> None:
    """Curr-ReFT pays 1.0 for 7 against 9 and for an empty answer; HumanOmniV2 crashes on an unknown number."""
    assert score(verifier, "7", 9).value < 1.0
    assert score(verifier, "<answer></answer>", 9).status is Status.NO_ANSWER
    assert score(verifier, "", 9).status is Status.NO_ANSWER
    assert score(verifier, "no idea", 9).status is Status.NO_ANSWER
    unknown = score(verifier, "<answer>unknown</answer>", 9)
    assert (unknown.value, unknown.status, unknown.details["reason"]) == (0.0, Status.OK, "no number in the answer")


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize("text", ["9" * 401, "1e309", "1e99999999999", "9" * 20_001, "1" + ",000" * 300])
def test_absurd_numbers_are_wrong(verifier: Verifier, text: str) -> None:
    """A number past the stated digits is wrong with a reason, at once."""
    begun = time.process_time()
    result = score(verifier, f"<answer>{text}</answer>", 5)
    assert (result.value, result.status) == (0.0, Status.OK)
    assert result.details["reason"]
    json.dumps(dict(result.details), allow_nan=False)
    assert time.process_time() - begun < 0.1


@pytest.mark.parametrize("part", ["9,", "1.", "1 ", "-", "$", "9e", "answer is ", "#", "9%", "５", "answer is 5 or "])
def test_linear_time(part: str) -> None:
    """A megabyte of number pieces is read in linear time."""
    text = (part * 1_000_000)[:1_000_000]
    begun = time.process_time()
    for verifier in ALL:
        assert score(verifier, text, 5).status in (Status.OK, Status.NO_ANSWER)
    assert time.process_time() - begun < 3.0


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_every_number_equals_itself(value: float) -> None:
    """Whatever number a caller writes, the same number is right, in every form."""
    assert score(numeric, f"<answer>{value!r}</answer>", value, decimals=None).value == 1.0
    for form in ("relative", "mra"):
        assert score(regression, repr(value), repr(value), form=form).value == 1.0


@given(st.integers(-(10**60), 10**60), st.integers(-(10**60), 10**60))
def test_other_integers_are_wrong(one: int, other: int) -> None:
    """Two integers are equal when they are, grouped or not."""
    assert score(count, f"{one:,}", other).value == float(one == other)
    assert score(numeric, f"{one:,}", other).value == float(one == other)


@given(st.text(alphabet="0123456789.,-+eE%$ /orx", max_size=60))
def test_any_text_is_answered(text: str) -> None:
    """No text of number pieces raises, and no value leaves its range."""
    for verifier in ALL:
        result = score(verifier, text, 5)
        assert result.status in (Status.OK, Status.NO_ANSWER)
        assert result.value is None or 0.0 <= result.value <= 1.0


def test_read_number() -> None:
    """A whole text that is one number, and texts that are none."""
    assert float(read_number("1,234.5e-2").value) == 12.345
    assert [read_number(text) for text in ("", "1 2", "x", "1,2", "--1", "1e", "%")] == [None] * 7


def test_worded_number() -> None:
    """Number words in their usual order, nothing else."""
    assert worded_number("one million two hundred thousand and thirty-four") == 1_200_034
    assert worded_number("nineteen hundred") is None
    for text in ("", "and", "five twenty", "twenty twelve", "hundred", "two million three million", "dog", "zero five"):
        assert worded_number(text) is None


def test_mixed_types_in_one_call() -> None:
    """Faults F10 and F11, and VideoRFT's batch by the first item's type: each item has its own verifier."""
    reference: Json = {"answer": 10}
    group = Group("g", responses=(Response("12"), Response("10")), reference=reference)
    assert numeric.bind({}).score(group, [0, 1]).values == [0.0, 1.0]
    assert regression.bind({}).score(group, [0, 1]).values == [pytest.approx(0.8), 1.0]
    assert math.isclose(score(regression, "12", 10).value, 0.8)


@pytest.mark.parametrize("verifier", [numeric, count], ids=["numeric", "count"])
def test_gold_solutions_of_gsm8k(verifier: Verifier, data_dir: Path) -> None:
    """All 1,319 gold solutions are right, and none is with its final number raised by one."""
    lines = (data_dir / "gsm8k/test.jsonl").read_text(encoding="utf-8").splitlines()
    solutions = [json.loads(line)["answer"] for line in lines]
    values = []
    for solution in solutions:
        work, _, final = solution.rpartition("#### ")
        raised = f"{work}#### {int(final.replace(',', '')) + 1:,}"
        values.append((score(verifier, solution, final).value, score(verifier, raised, final).value))
    assert values == [(1.0, 0.0)] * 1_319


@pytest.mark.parametrize(
    "text",
    [
        "It is 3 or 5", "3 or 5", "5 or maybe 3", "The answer is not 5.", "The answer isn't 5.", "The answer is anything but 5.",
        "5 is not the answer.", "Answer: 5 | 3", "<answer>3</answer> or <answer>5</answer>", "\\boxed{3} or \\boxed{5}",
        "1, 2, 3, 4, 5", "1 2 3 4 5", "\\boxed{\\neq 5}", "\\boxed{<5}", "<think>\\boxed{5}</think>", "<think>The answer is 5",
    ],
)  # fmt: skip
def test_hedges_denials_and_thoughts_never_pay(text: str) -> None:
    """Neither 5 nor 3 is what these state."""
    assert score(numeric, text, 5).value != 1.0
    assert score(numeric, text, 3).value != 1.0
