"""``mcq``: labels, option texts, declared rules, and the answers of public graders that were wrong."""

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.mcq import mcq

DISEASES = {"answer": "B", "options": ["Asthma", "Pneumonia", "Common cold", "Flu (type A)"]}
THIRD = {"answer": "III", "options": ["w", "x", "y", "z"]}


def score(text: str, reference: Json, **params: object) -> Score:
    """The score of one response."""
    return mcq.bind(params).score(Group("g", responses=(Response(text),), reference=reference), [0]).row(0)


@pytest.mark.parametrize(
    "text",
    [
        "B", "b", "(B)", "(b)", "B.", "B)", "(B).", "**B**", "[B]", " B \n", "$B$", "`B`", "B: Pneumonia",
        "B. Pneumonia", "(B) Pneumonia.", "**B.** Pneumonia", "Pneumonia", "pneumonia.", "PNEUMONIA",
        "<answer>B</answer>", "<think>A or C? No: D.</think><answer>(B)</answer>", "<answer> pneumonia </answer>",
        "\\boxed{B}", "So it is $\\boxed{\\text{B}}$.", "\\boxed{\\mathrm{(B)}}", "<answer>\\boxed{B}</answer>",
        "A cat is not it. The answer is B.", "Therefore the answer is (B).", "The correct option is B",
        "Answer: B", "answer：B", "答案是B", "答案：B。", "I choose option b", "The answer is: **B**",
        "First A looked right, but A is wrong. Final answer: B", "B is correct",
        "<answer>A</answer> wait, <answer>B</answer>",
        "A patient coughs. I would say (B)", "The answer is B because A is wrong.", "The answer is B, not A.",
        "<answer>B since A is too small</answer>", "The answer is B. Option A is wrong. I hope this answer helps.",
        "Answer: B\n\nExplanation: A and C are wrong.", "answer = b)",
        "The best choice would be B", "Option: (B)", "Answer B", "<answer>B\n</answer>", "(B) Pneumonia\n",
        "\\boxed{B. Pneumonia}", "**Answer:** **B**", "The correct answer is option B.",
    ],
)  # fmt: skip
def test_right_answers(text: str) -> None:
    """Every usual way to write the right choice earns 1.0."""
    result = score(text, DISEASES)
    assert (result.value, result.details["content_ok"]) == (1.0, True), result


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A", "another choice"), ("Asthma", "another choice"), ("Banana", "no option is named"),
        ("A or B or C", "several options are named"), ("Not A, B", "several options are named"),
        ("A, B", "several options are named"), ("(A) and (B)", "several options are named"),
        ("B. Asthma", "the label and the text name different options"),
        ("A. Pneumonia", "the label and the text name different options"),
        ("E", "no option is named"), ("not pneumonia", "no option is named"), ("AB", "no option is named"),
        ("BB", "no option is named"), ("Bronchitis", "no option is named"), ("2", "not in the requested form"),
        ("<answer></answer>B", "no option is named"), ("B<answer>A</answer>", "another choice"),
        ("The answer is B or A", "several options are named"), ("<answer>A/B</answer>", "several options are named"),
        ("The answer is not A. It is B", "the named option is denied"), ("The answer is A, and B", "several options are named"),
        ("The answer is A because B is wrong", "another choice"), ("The answer is A. Pneumonia", "the label and the text name different options"),
        ("B is tempting, but the right one is C", "several options are named"),
        ("B. or maybe A", "several options are named"),
    ],
)  # fmt: skip
def test_wrong_answers(text: str, reason: str) -> None:
    """What names another option, several or none is wrong, and says why."""
    result = score(text, DISEASES)
    assert (result.value, result.status, result.details["reason"]) == (0.0, Status.OK, reason)


def test_rule_for_several_labels_is_declared() -> None:
    """ "Not A, B" is wrong by default; the first or the last label counts only where it is asked for."""
    assert score("Not A, B", DISEASES).value == 0.0
    assert score("Not A, B", DISEASES, several="last").value == 1.0
    assert score("Not A, B", DISEASES, several="first").value == 0.0
    assert score("Not A, B", {**DISEASES, "answer": "A"}, several="first").value == 1.0


@pytest.mark.parametrize(
    ("text", "label_ok", "content_ok"),
    [("III", True, True), ("iii.", True, True), ("C", False, True), ("3", False, True), ("IV", True, False),
     ("I", True, False), ("II", True, False), ("(III) y", True, True), ("D", False, False), ("y", False, True)],
)  # fmt: skip
def test_requested_label_style(text: str, label_ok: bool, content_ok: bool) -> None:
    """The label's form and the choice are told apart; "I" is not "III"."""
    details = score(text, THIRD, label_style="roman").details
    assert (details["label_ok"], details["content_ok"]) == (label_ok, content_ok)
    assert score(text, THIRD).details["label_ok"] == label_ok


def test_reference_in_another_style_than_requested() -> None:
    """The third option is the third, however the reference writes it."""
    for answer in ("C", "3", "III", "y", "(c)"):
        reference = {"answer": answer, "options": ["w", "x", "y", "z"]}
        assert score("III", reference, label_style="roman").value == 1.0
        assert score("3", reference, label_style="numeric").value == 1.0
        assert score("C", reference, label_style="alpha").value == 1.0
        assert score("C", reference, label_style="roman").value == 0.0


def test_multiple_selection() -> None:
    """A set by default, a sequence where asked for; partial and extra choices are wrong."""
    for answer in ("A, C", "A,C", "AC", "A and C", ["A", "C"], ["w", "y"]):
        reference = {"answer": answer, "options": ["w", "x", "y", "z"]}
        for right in ("A, C", "C, A", "AC", "CA", "A and C", "<answer>A,C</answer>", "(A), (C)"):
            assert score(right, reference).value == 1.0, (answer, right)
        for wrong in ("A", "A, B", "A, B, C", "ABC", "ACC", "B"):
            assert score(wrong, reference).value == 0.0, (answer, wrong)
        assert score("C, A", reference, ordered=True).value == 0.0
        assert score("A, C", reference, ordered=True).value == 1.0


def test_options_with_labels_of_their_own() -> None:
    """An object from label to text."""
    reference = {"answer": "B", "options": {"A": "Paris", "B": "Rome"}}
    assert score("Rome", reference).value == 1.0
    assert score("(B) Rome", reference).value == 1.0
    assert score("A", reference).value == 0.0


def test_options_that_are_numbers() -> None:
    """A number that is an option's text is that option, not its position."""
    reference = {"answer": "3", "options": ["1", "3", "2", "4"]}
    assert score("3", reference).value == 1.0
    assert score("B", reference).value == 1.0
    assert score("2", reference).value == 0.0
    assert score("C", reference).value == 0.0


def test_without_options() -> None:
    """Labels A to Z."""
    assert score("The answer is (J)", {"answer": "J"}).value == 1.0
    assert score("I think it is J", {"answer": "J"}).value == 1.0
    assert score("J", {"answer": "K"}).value == 0.0


@pytest.mark.parametrize(
    "reference",
    [
        {}, {"answer": ""}, {"answer": None}, {"answer": []}, {"answer": True}, {"answer": 1.5}, {"answer": "banana"},
        {"answer": "E", "options": ["a", "b"]}, {"answer": "A", "options": []}, {"answer": "A", "options": ["a"]},
        {"answer": "A", "options": "ab"}, {"answer": "A", "options": [{}, {}]}, {"answer": "x", "options": ["x", "x"]},
        {"answer": ["A", "A"], "options": ["a", "b"]}, {"answer": "A", "options": ["x"] * 27}, {"answer": [["A"]]},
    ],
)  # fmt: skip
def test_unusable_reference_is_no_number(reference: Json) -> None:
    """A reference that names no option is the caller's fault."""
    result = score("A", reference)
    assert (result.value, result.status) == (None, Status.REFERENCE_UNPARSEABLE)


def test_empty_response_has_no_answer() -> None:
    """Nothing to score."""
    assert score(" \n", DISEASES).status is Status.NO_ANSWER


@given(st.text(max_size=60), st.sampled_from("ABCD"))
def test_any_text_is_answered(text: str, answer: str) -> None:
    """Any text gets 0.0, 1.0 or no_answer."""
    result = score(text, {"answer": answer, "options": ["one", "two", "three", "four"]})
    assert result.status in (Status.OK, Status.NO_ANSWER)
    assert result.value in (0.0, 1.0, None)


@given(st.integers(2, 26), st.data())
def test_every_label_verifies_itself_only(count: int, data: st.DataObject) -> None:
    """Each label of each style is right for its own option and wrong for every other."""
    options = [f"text {number} {letter}" for number, letter in zip(range(count), string.ascii_lowercase, strict=False)]
    gold, said = data.draw(st.integers(0, count - 1)), data.draw(st.integers(0, count - 1))
    labels = string.ascii_uppercase
    reference = {"answer": labels[gold], "options": options}
    for text in (labels[said], f"({labels[said]}) {options[said]}", options[said], f"The answer is {labels[said]}."):
        assert score(text, reference).value == float(gold == said)


@pytest.mark.parametrize(
    "part", ["B, ", " ", "(", "answer ", "answer is ", "A and ", "a ", "<answer>", "*", "B,and ", "答案"]
)
def test_linear_time(part: str) -> None:
    """A megabyte of anything is read at once."""
    text = (part * 1_000_000)[:1_000_000]
    for response in (text, f"<answer>{text}</answer>", f"The answer is B,{text}"):
        begun = time.thread_time()
        score(response, DISEASES)
        assert time.thread_time() - begun < 1.5


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>B</think>A", 0.0),
        ("<think>A, no, C</think>B", 1.0),
        ("<think>B</think>", 0.0),
        ("The answer is not B.", 0.0),
        ("<answer>not B</answer>", 0.0),
        ("<think>not B?</think>The answer is B.", 1.0),
    ],
)
def test_thoughts_and_denials_are_no_choice(text, value):
    """What stands in closed thoughts is not chosen, and neither is an option that is ruled out."""
    group = Group("g", "", (Response(text),), {"answer": "B", "options": ["cat", "dog", "bird"]})
    assert mcq.bind({}).score(group, [0]).values == [value]
