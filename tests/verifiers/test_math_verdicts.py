"""Verdicts of the math verifier: catalogue rows, faults of published reward code, policies, statuses."""

from pathlib import Path

import pytest

from rewardhub.errors import ConfigError
from rewardhub.types import Group, Response, Score, Status
from rewardhub.verifiers import mathlib
from rewardhub.verifiers.math_answer import math


def grade(text: str, answer: object, **params: object) -> Score:
    group = Group(id="g", responses=(Response(text),), reference={"answer": answer})
    bound = math.bind(params)
    full = bound.score(group, [0]).row(0)
    fast = bound.try_fast(group, [0]).row(0)
    if fast.status != Status.SKIPPED:
        assert (fast.value, fast.status) == (full.value, full.status)
    return full


def box(answer: str) -> str:
    return rf"Therefore \boxed{{{answer}}}."


@pytest.mark.parametrize("example", math.examples, ids=lambda each: f"{each.response!s}~{each.reference}"[:60])
def test_example(example):
    """Every example of the verifier holds."""
    score = math.bind(example.params).score(example.as_group(), [0]).row(0)
    assert (score.value, score.status) == (example.value, example.status)


EQUAL = [
    ("18.9", "$18.90"), (r"\$18.90", "$18.90"), ("$5", "5"), ("-$5", "-5"), (r"10\,000", "10000"),
    ("25", r"\text{Area} = 25"), ("(1,2)", "(x,y)=(1,2)"), ("x=1, y=2", "(x,y)=(1,2)"), (r"\begin{vmatrix}1&2\\3&4\end{vmatrix}", "-2"),
    (r"\begin{bmatrix}1\\2\end{bmatrix}^T", r"\begin{bmatrix}1&2\end{bmatrix}"), ("1:2", "a:b=1:2"),
    (r"\text{The answer is } 5", "5"), ("Answer: 5", "5"), (r"5{\rm cm}", "5"), ("xyz", "zyx"), (r"\alpha", "α"),
    (r"\sin \pi", "0"), (r"10^{100}+\cos 1-10^{100}", r"\cos 1"),
    (r"\frac{1}{2}", "0.5"), ("7.75", "7 3/4"), ("-7.75", r"-7\frac34"), (r"x=2 \text{ or } x=-2", r"\pm 2"),
    ("1200", "1,200"), ("42", "42.0"), ("1/2", "0.5"), ("3/2", "1.5"), ("1+x", "x+1"), ("18", 18), ("70,000", "70000"),
    ("y=|x+9|", "|x+9|"), ("3.0", "3"), (r"10,\!080", "10080"), (r"\$32,\!348", "32348"), (r"90^\circ", "90"),
    (r"(a+5)(b+2)", "ab+2a+5b+10"), (r"\sqrt{8}", r"2\sqrt2"), (r"\frac{1}{\sqrt3}", r"\frac{\sqrt3}{3}"),
    (r"\frac{x^2-1}{x-1}", "x+1"), (r"\ln 8", r"3\ln 2"), (r"\log_2 8", "3"), (r"\binom{5}{2}", "10"),
    (r"(3,4]", r"\left(3,4\right]"), (r"(9,36)\cup(0,9)", r"(0,9) \cup (9,36)"), ("5=x", "x=5"),
    ("10x - 14y + 22z + 8 = 0", "5x - 7y + 11z + 4 = 0"), ("x y = 1", r"y=\frac{1}{x}"), ("2<x", "x>2"),
    (r"\begin{bmatrix} 0.5 \\ 2 \end{bmatrix}", r"\begin{pmatrix} 1/2 \\ 2 \end{pmatrix}"),
    (r"2\begin{pmatrix} 1 \\ 2 \end{pmatrix}", r"\begin{pmatrix} 2 \\ 4 \end{pmatrix}"),
    (r"1+\sqrt{19},1-\sqrt{19}", r"1 \pm \sqrt{19}"), (r"\tan x", r"\frac{\sin x}{\cos x}"), ("Evelyn", r"\text{Evelyn}"),
    (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"), ("0.333333", "1/3"), (r"3\times10^{-5}", "0.00003"), ("2x-y=-3", "y=2x+3"),
    (r"e^{x+1}", r"e\cdot e^x"), (r"4^n", r"2^{2n}"), (r"\sin 30^\circ", r"\frac12"), (r"½", "0.5"), ("x²+1", "x^2+1"),
    ("2×3", "6"), ("−5", "-5"), (r"\infty", r"+\infty"), (r"4210_{5}", "4210_5"), ("A", r"\text{(A)}"), ("2:4:6", "1:2:3"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), EQUAL)
def test_equal_answers_are_right(answer, gold):
    """Equal answers in different writing are right."""
    assert grade(box(answer), gold).value == 1.0


UNEQUAL = [
    ("act", "cat"), (r"\text{neve}", "even"),
    (r"10^{100}+\sin 1-10^{100}", "0"), (r"\sin(10^{-50})", "0"),
    ("7", "9"), ("10 (or 8)", "10"), ("10 (or 8)", "8"), ("10 or 8", "8"), ("99999999999", "100000000000"),
    ("100000000001", "100000000000"), ("banana", "a red car"), ("3.14", r"\pi"), ("1,234", "(1,2)"), ("1,234", "(1,234)"),
    ("2,1", "(1,2)"), ("(2,1)", "(1,2)"), ("[1,2]", "(1,2)"), ("(1,2)", "(1,2]"), ("y=5", "x=5"), ("2y+3", "2x+3"),
    ("0.33", "1/3"), ("5.0000001", "5"), (r"\sqrt{x^2}", "x"), ("x<2", "x>2"), ("x\\le 2", "x<2"), ("-x<2", "x<-2"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"), ("1,2", "1,2,3"), ("a", "b"),
    ("0.000067", "0.0000672"), (r"-\infty", r"\infty"), (r"\frac{12}{3}", r"\frac{1}{23}"), ("1 2", "12"), ("7 34", "73/4"),
    ("4210_5", "4210_6"), ("2\\%", "20\\%"), ("not 5", "5"), (r"5 \text{ (or 6)}", "5"), ("<answer>", "5"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), UNEQUAL)
def test_unequal_answers_are_wrong(answer, gold):
    """Unequal or hedged answers score 0.0 with status ok and the reason."""
    score = grade(box(answer), gold)
    assert (score.value, score.status) == (0.0, Status.OK)
    assert score.details["verdict"] == "wrong"
    assert score.details["tier"] in {"text", "exact", "symbolic"}
    assert score.details["reason"]


POLICIES = [
    ({"units": "match"}, r"90 \text{ degrees}", r"90^\circ", 1.0), ({"units": "match"}, "15 square inches", r"15\text{ in}^2", 1.0),
    ({"units": "match"}, "15", r"15\text{ in}^2", 0.0),
    ({"list_order": True}, "2,1", "1,2", 0.0), ({"list_order": False}, "2,1", "1,2", 1.0),
    ({"tuple_as_list": False}, "1,2", "(1,2)", 0.0), ({"tuple_as_list": True}, "1,2", "(1,2)", 1.0),
    ({"vector_as_tuple": True}, "(1,2)", r"\begin{pmatrix}1\\2\end{pmatrix}", 1.0),
    ({"vector_as_tuple": False}, "(1,2)", r"\begin{pmatrix}1\\2\end{pmatrix}", 0.0),
    ({"percent": "value"}, "50", r"50\%", 0.0), ({"percent": "either"}, "50", r"50\%", 1.0),
    ({"percent": "value"}, "0.5", r"50\%", 1.0), ({"relation": "keep"}, "x=5", "5", 0.0),
    ({"relation": "rhs"}, "x=5", "5", 1.0), ({"interval_relation": "never"}, "(1,2)", "1<x<2", 0.0),
    ({"interval_relation": "both"}, "x>2", r"(2,\infty)", 1.0), ({"interval_relation": "reference"}, "x>2", r"(2,\infty)", 0.0),
    ({"units": "match"}, r"5\text{ m}", r"5\text{ cm}", 0.0), ({"units": "ignore"}, r"5\text{ m}", r"5\text{ cm}", 1.0),
    ({"units": "match"}, r"5\text{ cm}", r"5\mathrm{cm}", 1.0), ({"decimal_comma": True}, "3,14", "3.14", 1.0),
    ({"decimal_comma": False}, "3,14", "3.14", 0.0), ({"pi_approx": True}, "3.14", r"\pi", 1.0),
    ({"pi_approx": True}, "12.56", r"4\pi", 1.0), ({"pi_approx": True}, "12.6", r"4\pi", 0.0),
    ({"number_words": True}, "seven", "7", 1.0), ({"number_words": True}, r"2 \text{ million}", "2000000", 1.0),
    ({"ignore_case": False}, "X", "x", 0.0), ({"ignore_case": True}, "X", "x", 1.0), ({"decimals": 2}, "0.33", "1/3", 1.0),
    ({"abs_tol": 0.01}, "3.005", "3", 1.0), ({"abs_tol": 0.01}, "3.02", "3", 0.0), ({"rel_tol": 1e-3}, "1000.5", "1000", 1.0),
    ({"rel_tol": 0.9}, "18", "10", 1.0), ({"rel_tol": 0.9}, "20", "10", 0.0), ({"abs_tol": 1}, "8", "7", 1.0),
    ({"abs_tol": 1}, "9", "7", 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("params", "answer", "gold", "value"), POLICIES)
def test_policy(params, answer, gold, value):
    """Each named policy decides its case both ways."""
    assert grade(box(answer), gold, **params).value == value


def test_presets_differ_where_they_say():
    """A preset sets the policies and a parameter wins over it."""
    assert grade(box("3.14"), r"\pi", preset="lenient").value == 1.0
    assert grade(box("3.14"), r"\pi", preset="lenient", pi_approx=False).value == 0.0
    assert grade(box("x=5"), "5", preset="strict").value == 0.0


@pytest.mark.parametrize(
    "answer",
    ["", "   ", "$$", "$x+1", r"\frac{1}{2", "(1,2", "{", float("nan"), float("inf"), "9" * 5000, r"9^{9^{9}}"],
)
def test_unusable_reference(answer):
    """An empty, unbalanced, infinite or too large reference is nobody's zero."""
    score = grade("5", answer)
    assert (score.value, score.status) == (None, Status.REFERENCE_UNPARSEABLE)
    assert score.details["field"] == "reference.answer"


@pytest.mark.parametrize("answer", [None, True, ["5"], {"a": 1}])
def test_reference_of_the_wrong_kind(answer):
    """Only text and numbers are answers."""
    assert grade("5", answer).status == Status.REFERENCE_UNPARSEABLE


@pytest.mark.parametrize("text", ["", "   ", "I do not know.", "<answer></answer>", "{" * 1000])
def test_no_answer(text):
    """A response that holds nothing to score is no_answer, never right and never a failure of ours."""
    assert grade(text, "9").status == Status.NO_ANSWER


def test_words_are_compared_as_text():
    """A reference in plain words is compared as text, whatever its case and wrapping."""
    assert grade("The answer is a red car.", "a red car").value == 1.0
    assert grade("<answer>A Red Car</answer>", "a red car").value == 1.0
    assert grade("<answer>A Red Car</answer>", "a red car", ignore_case=False).value == 0.0
    assert grade("banana", "a red car").value == 0.0
    assert grade(box(r"\text{neve}"), r"\text{even}").value == 0.0


EXTRACTION = [
    (r"\boxed{1} then \boxed{2}", "2"), (r"\boxed{\boxed{3}}", "3"), (r"\fbox{4}", "4"), (r"\boxed 5", "5"),
    ("<answer>6</answer> and 7", "6"), ("<answer>\\boxed{8}</answer> 9", "8"), ("x\n#### 10\n", "10"),
    ("The final answer is $\\frac{1}{2}$. I hope it is correct.", "1/2"), ("Answer: 12", "12"), ("**Answer:** 13", "13"),
    ("the answer is 14.", "14"), ("The answer to the question is 3.5 apples.", "3.5"), ("It costs $5 and then $7.", "7"),
    ("First 3, so we get $x^2+1$", "x^2+1"), ("half, that is 1/2", "1/2"), ("so 1,234.5 in all", "1234.5"),
    ("grows by 12%", "12%"), (r"thus \(x = 4\)", "4"), ("-17", "-17"), ("we get 7 3/4 cups", "7.75"), ("2^5", "32"),
    ("<answer>The total is 42 dollars.</answer>", "42"), ("The answer is 18 since 20 - 2 = 18 and 3 is odd.", "18"),
    ("The answer is (B) because it has 3 sides.", "B"), ("The answer is found by adding. We get 5.", "5"),
    ("The answer is:\n\n$$\n\\frac{1}{2}\n$$", "0.5"), ("Answer: **B**", "B"), ("The answer is 3 + 4 = 7", "7"), (r"\boxed{2} \text{ or } \boxed{-2}", "2"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "gold"), EXTRACTION[:-1])
def test_extraction(text, gold):
    """The answer is found where the declared order says."""
    assert grade(text, gold).value == 1.0


def test_neighbouring_boxes_are_one_list():
    """Two boxes joined by "or" are a list, so that listing guesses never pays."""
    assert grade(r"$\boxed{2}$ or $\boxed{-2}$", r"\pm 2").value == 1.0
    assert grade(r"$\boxed{2}$ or $\boxed{-2}$", "2").value == 0.0


def test_declared_order():
    """``extract`` sets the order of sources, and a source left out is not looked at."""
    text = r"\boxed{1} <answer>2</answer>"
    assert grade(text, "1").value == 1.0
    assert grade(text, "2", extract=["tag", "boxed"]).value == 1.0
    assert grade("just 5", "5", extract=["boxed"]).status == Status.NO_ANSWER


def test_unknown_parameter_names_the_nearest():
    """A wrong parameter is the caller's error."""
    with pytest.raises(ConfigError, match="preset"):
        math.bind({"presett": "strict"})
    with pytest.raises(ConfigError):
        math.bind({"preset": "loose"})


def test_details_say_who_decided():
    """Each tier is named in the details."""
    assert grade(box("x + 1"), "x+1").details["tier"] == "text"
    assert grade(box("0.5"), "1/2").details["tier"] == "exact"
    assert grade(box(r"\sin 2x"), r"2\sin x\cos x").details["tier"] == "symbolic"
    assert grade(box("0.5"), "1/2").details["extracted"] == "0.5"


def test_fast_leaves_only_identities_open():
    """The fast function decides constants and polynomials, and answers None for an identity in x."""
    group = Group(
        id="g", responses=(Response(box(r"\sin 2x")), Response(box("5"))), reference={"answer": r"2\sin x\cos x"}
    )
    column = math.bind({}).try_fast(group, [0, 1])
    assert column is not None
    assert column.statuses == [Status.SKIPPED, Status.OK]
    assert column.values == [None, 0.0]


def test_a_huge_integer_reference():
    """A Python integer of nine thousand digits is too large, and says so."""
    assert grade("5", 10**9000).status == Status.REFERENCE_UNPARSEABLE


def test_the_fingerprint_covers_every_module():
    """A change of any module of the engine changes the fingerprint."""
    modules = {path.stem for path in Path(mathlib.__file__).parent.glob("*.py")} - {"__init__"}
    assert {name.rsplit(".", 1)[1] for name in math.sources} == {*modules, "tags"}
