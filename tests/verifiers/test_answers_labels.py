"""``yes_no``, ``label`` and its kin, label sets: the catalogue's rows and public graders' wrong verdicts."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardhub.scorer import Verifier
from rewardhub.types import Group, Json, Response, Score, Status
from rewardhub.verifiers.label_sets import jaccard, list_credit, multi_label_f1
from rewardhub.verifiers.labels import exact_in_list, label, label_contains, yes_no
from rewardhub.verifiers.temporal_iou import temporal_iou

ALL = (yes_no, label, label_contains, exact_in_list, multi_label_f1, jaccard, list_credit)
BARE = {"extract": "whole", "normalise": "none", "ignore_case": False}


def score(verifier: Verifier, text: str, reference: Json | str, **params: object) -> Score:
    """The score of one response; a bare text is the answer."""
    full = {"answer": reference} if isinstance(reference, str | bool | int | list) else reference
    return verifier.bind(params).score(Group("g", responses=(Response(text),), reference=full), [0]).row(0)


@pytest.mark.parametrize(
    ("text", "answer", "value"),
    [
        ("True, because it is round.", "yes", 1.0), ("Correct!", "true", 1.0), ("It is incorrect.", "no", 1.0),
        ("NO", "no", 1.0), ("no", "yes", 0.0), ("<answer>yes</answer>", 1, 1.0), ("yes", 0, 0.0), ("no", False, 1.0),
        ("There is no dog. The answer is yes.", "yes", 1.0), ("yes, or rather no", "yes", 0.0),
        ("It is not true", "yes", 0.0), ("The answer is not true.", "no", 0.0), ("That isn't correct.", "yes", 0.0),
        ("<answer>maybe</answer>", "yes", 0.0), ("<think>no no no</think><answer>Yes.</answer>", "yes", 1.0),
    ],
)  # fmt: skip
def test_yes_no(text: str, answer: object, value: float) -> None:
    """Rows B6, B9, B45: whole words, both kinds wrong, "not true" never yes (ThinkLite's judge said so)."""
    assert score(yes_no, text, {"answer": answer}).value == value


def test_yes_no_needs_whole_words() -> None:
    """ "yesterday" and "know" say neither."""
    for text in ("yesterday", "I know nothing", "notrue", "truey"):
        assert score(yes_no, text, "yes").status is Status.NO_ANSWER


@pytest.mark.parametrize("answer", ["maybe", "", None, 2, 0.0, ["yes"]])
def test_yes_no_reference(answer: object) -> None:
    """A reference that is neither is unusable, whatever the response says."""
    assert score(yes_no, "yes", {"answer": answer}).status is Status.REFERENCE_UNPARSEABLE


@pytest.mark.parametrize(
    ("text", "reference", "params", "value"),
    [
        ("<answer>Sea Horse</answer>", "sea horse", {}, 1.0),  # A24
        ("horse", "sea horse", {}, 0.0),
        ("sea horse", "sea horse", BARE, 1.0),
        ("sea horse", "Sea Horse", BARE, 0.0),
        ("<think>x</think><answer>Golden Retriever</answer>", "golden retriever", {}, 1.0),  # B13
        ("golden retriever", "Golden Retriever", BARE, 0.0),
        ("Golden Retriever.", "Golden Retriever", BARE, 0.0),
        ("<answer>Golden Retriever</answer>", "Golden Retriever", BARE, 0.0),
        ("traffic light", {"answer": "traffic light", "aliases": ["stoplight"]}, {}, 1.0),  # B49
        ("stoplight", {"answer": "traffic light", "aliases": ["stoplight"]}, {}, 1.0),
        ("lamp", {"answer": "traffic light", "aliases": ["stoplight"]}, {}, 0.0),
        ("dog", "a dog", {"normalise": "vqa"}, 1.0),  # B62
        ("dog", "a dog", {}, 0.0),
        ("NYC", {"answer": "New York City", "aliases": ["NYC"]}, {}, 1.0),  # B70
        ("ＮＹＣ", {"answer": "New York City", "aliases": ["NYC"]}, {}, 1.0),
        ("\\boxed{\\text{Sea  Horse}}", "sea horse", {}, 1.0),
        ("The answer is: **sea horse**.", "sea horse", {}, 1.0),
        ("The answer to the second question is sea horse.\nIt swims.", "sea horse", {}, 1.0),
        ("The answer is sea horse. Answer:", "sea horse", {}, 1.0),
        ("#### Reasoning\nIt swims.\n#### Answer: sea horse", "sea horse", {}, 1.0),
        ("**Answer:** sea horse", "sea horse", {}, 1.0),
        ("The answer is horse. No, the answer is sea horse.", "sea horse", {}, 1.0),
        ("it's", "its", {"normalise": "vqa"}, 1.0),
        ("two dogs", "2 dogs", {"normalise": "vqa"}, 1.0),
        ("x-ray", "x ray", {"normalise": "vqa"}, 1.0),
        ("blue", "red/blue", {"separator": "/"}, 1.0),  # B9: golds divided by "/"
        ("blue", ["red", "blue"], {}, 1.0),
    ],
)
def test_label_rows(text: str, reference: Json | str, params: dict, value: float) -> None:
    """Rows A24, A37, B9, B13, B49, B62, B70."""
    assert score(label, text, reference, **params).value == value


def test_programs_whose_output_is_a_label() -> None:
    """Row B22: outputs "3", "4", an error, "4" against the label "4" pass as 0, 1, 0, 1."""
    outputs = ("3", "4", "Traceback: ZeroDivisionError", "4")
    assert [score(label, output, "4").value for output in outputs] == [0.0, 1.0, 0.0, 1.0]


def test_numeric_looking_labels_stay_labels() -> None:
    """Fault F20: a symbolic grader equates 1/2, 0.5 and 50 %; a label verifier keeps to the label set."""
    reference = {"answer": "1/2", "labels": ["1/2", "0.5", "50%"]}
    assert [score(label, text, reference).value for text in ("1/2", "0.5", "50%", "2/4")] == [1.0, 0.0, 0.0, 0.0]
    assert score(label, "2/4", reference).details["reason"] == "not in the label set"
    assert score(label, "0.5", reference).details["reason"] == "another label"
    assert score(label, "1.0", "1").value == 0.0


def test_latex_is_no_label() -> None:
    """LaTeX in the response is wrong, in the reference unusable."""
    assert score(label, "\\boxed{\\frac{1}{2}}", "1/2").value == 0.0
    for verifier in (label, multi_label_f1, jaccard, list_credit):
        assert score(verifier, "x", "\\frac{1}{2}").status is Status.REFERENCE_UNPARSEABLE


def test_label_outside_its_own_set_is_unusable() -> None:
    """A reference that its own label set lacks names the field."""
    result = score(label, "dog", {"answer": "dog", "labels": ["cat"]})
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, "reference.answer")


@pytest.mark.parametrize("key", ["aliases", "labels"])
@pytest.mark.parametrize("bad", ["", [""], [3.5], [None], {}, ["..."]])
def test_bad_optional_fields(key: str, bad: object) -> None:
    """Faults in the optional fields are named too."""
    result = score(label, "dog", {"answer": "dog", key: bad})
    assert (result.status, result.details["field"]) == (Status.REFERENCE_UNPARSEABLE, f"reference.{key}")


def test_label_contains() -> None:
    """Row B18: "long jump" is not "high jump"; whole words only, punctuation aside."""
    assert score(label_contains, "He does the long jump.", "high jump").value == 0.0
    assert score(label_contains, "A HIGH-JUMP attempt", "high jump").value == 1.0
    assert score(label_contains, "highjump", "high jump").value == 0.0
    assert score(label_contains, "x" * 50_000 + " high jump", "high jump").value == 1.0
    assert score(label_contains, "anything", "...").status is Status.REFERENCE_UNPARSEABLE


def test_video_labels_that_are_spans() -> None:
    """Row B18: of the two labels, the span is kept at an IoU of 0.946, "high jump" is dropped: 1 of 2."""
    span = score(temporal_iou, "It happens from 5.4 to 9.1 s.", {"time": "5.5 s–9.0 s"}, threshold=0.5)
    assert (span.value, span.details["iou"]) == (1.0, pytest.approx(3.5 / 3.7))
    assert [span.value, score(label_contains, "a long jump", "high jump").value] == [1.0, 0.0]


def test_exact_in_list() -> None:
    """Row A49: blanks around do not count, case does unless told."""
    assert score(exact_in_list, "Paris ", ["Paris"]).value == 1.0
    assert score(exact_in_list, "paris", ["Paris"]).value == 0.0
    assert score(exact_in_list, "Paris, France", ["Paris"]).value == 0.0
    assert score(exact_in_list, "", ["Paris"]).status is Status.NO_ANSWER


def test_multi_label_f1() -> None:
    """Row A11 and fault F10: {A, B, E} against {A, E} has precision 2/3, recall 1, F1 0.8."""
    result = score(multi_label_f1, "<answer>A, B, E</answer>", "A,E")
    assert result.value == pytest.approx(0.8)
    assert (result.details["precision"], result.details["recall"]) == (pytest.approx(2 / 3), 1.0)
    few = score(multi_label_f1, "A", "A,E")
    assert (few.details["precision"], few.details["recall"]) == (1.0, 0.5)


def test_sets_have_no_order_and_no_doubles() -> None:
    """Curr-ReFT's stage 2 joins in order and gives 0 for "C, A" against "A, C"."""
    for verifier in (multi_label_f1, jaccard):
        assert score(verifier, "C, A", "A, C").value == 1.0
        assert score(verifier, "C, A, A, C", "A, C").value == 1.0


def test_list_credit() -> None:
    """Row B45: stops (B, C) earn +1.0, stops (B, B, X) -0.5; a flood of guesses never pays."""
    assert score(list_credit, "(B, C)", ["B", "C"]).value == 1.0
    assert score(list_credit, "(B, B, X)", ["B", "C"]).value == -0.5
    assert score(list_credit, ",".join(map(str, range(1_001))), ["1", "2"]).value == -500.0
    assert score(list_credit, "\\frac{B}{C}", ["B", "C"]).value == -0.5


def test_jaccard() -> None:
    """Row B6: {cat, dog} against {cat, dog, bird}, commas or blanks between."""
    for text in ("cat, dog", "cat dog", "<answer>['cat', 'dog']</answer>"):
        assert score(jaccard, text, "cat, dog, bird").value == pytest.approx(2 / 3)


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize("answer", ["", " ", None, 1.5, [], [[]], {"a": 1}, "x" * 100_001])
def test_bad_references(verifier: Verifier, answer: object) -> None:
    """Fault F1: an unusable reference earns no number, even where the response equals it."""
    for text in ("yes", str(answer)):
        result = score(verifier, text, {"answer": answer})
        assert (result.value, result.status) == (None, Status.REFERENCE_UNPARSEABLE)


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
def test_no_answer(verifier: Verifier) -> None:
    """Curr-ReFT pays for an empty answer because the empty text is in every text."""
    for text in ("", " \n"):
        assert score(verifier, text, "yes").status is Status.NO_ANSWER


@pytest.mark.parametrize("verifier", ALL, ids=lambda verifier: verifier.info.name)
@pytest.mark.parametrize("part", ["a ", "answer is ", "e\u0315\u0300", "\\text{", "a,", "isn't ", "\ud800"])
def test_linear_time(verifier: Verifier, part: str) -> None:
    """A megabyte is read in linear time, lone surrogates and combining marks included."""
    text = (part * 1_000_000)[: verifier.info.max_chars]
    begun = time.process_time()
    assert score(verifier, text, "yes").status in (Status.OK, Status.NO_ANSWER)
    assert time.process_time() - begun < 1.5


WORDS = st.text(alphabet=st.characters(categories=["L", "N"]), min_size=1, max_size=20)


@given(WORDS)
def test_every_label_equals_itself(word: str) -> None:
    """A label is right against itself, in each verifier that takes one."""
    assert score(label, f"<answer>{word}</answer>", word).value == 1.0
    assert score(label_contains, f"it is {word}", word).value == 1.0
    assert score(exact_in_list, word, [word]).value == 1.0


@given(st.lists(WORDS, min_size=1, max_size=6), st.lists(WORDS, min_size=1, max_size=6))
def test_overlaps_are_symmetric(one: list[str], other: list[str]) -> None:
    """F1 and Jaccard are symmetric, in [0, 1], and Jaccard is F1 / (2 - F1)."""
    forth = score(multi_label_f1, ",".join(one), ",".join(other))
    back = score(multi_label_f1, ",".join(other), ",".join(one))
    assert forth.value == pytest.approx(back.value)
    near = score(jaccard, ",".join(one), ",".join(other)).value
    assert 0.0 <= near <= 1.0
    assert near == pytest.approx(forth.value / (2 - forth.value))
