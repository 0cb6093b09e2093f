"""``multi_label_f1``, ``jaccard`` and ``list_credit``: answers that are a list of labels."""

from typing import Annotated, NamedTuple

from pydantic import Field

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import Normal, is_latex, reference_texts, split_labels
from rewardhub.verifiers.answerlib.scope import LONGEST, Extract, scope_of, without_text_commands

_SOURCES = ("rewardhub.verifiers.tags", "rewardhub.verifiers.answerlib.scope", "rewardhub.verifiers.answerlib.labels")
MAX_ITEMS = 1_000

_Credit = Annotated[float, Field(ge=0, le=1)]
_STOPS = {"answer": ["B", "C"]}
_AE, _PETS = {"answer": "A, E"}, {"answer": ["cat", "dog", "bird"]}


class _Sets(NamedTuple):
    said: frozenset[str]
    gold: frozenset[str]
    stated: tuple[str, ...] = ()
    reason: str = ""


@verifier(
    "multi_label_f1",
    sources=_SOURCES,
    examples=(
        Example("A, B, E", _AE, 0.8),
        Example("<answer>E,A</answer>", _AE, 1.0),
        Example("A, A, E", _AE, 1.0),
        Example("B", _AE, 0.0),
        Example('<answer>["cat", "dog"]</answer>', _PETS, 0.8),
        Example("<answer></answer>", _AE, None, status=Status.NO_ANSWER),
        Example("A", {"answer": ","}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)  # fmt: skip
def multi_label_f1(
    response: Response, reference: Json, *,
    separators: str = ",;",
    ignore_case: bool = True,
    normalise: Normal = "edges",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """F1 of the set of stated labels against ``reference.answer`` (a text or a list), in [0, 1] (HumanOmniV2).

    Both are split at any of ``separators`` and at line ends; each label counts once. Details:
    ``precision`` (share of the stated ones that are right) and ``recall``.
    """
    sets = _sets(response, reference, separators, normalise, ignore_case, extract)
    common = len(sets.said & sets.gold)
    precision, recall = common / max(1, len(sets.said)), common / len(sets.gold)
    details: dict[str, object] = {"precision": precision, "recall": recall}
    value = 2 * common / (len(sets.said) + len(sets.gold))
    return Score(value, details=details | ({"reason": sets.reason} if sets.reason else {}))


@verifier(
    "jaccard",
    sources=_SOURCES,
    examples=(
        Example("cat, dog", {"answer": "cat, dog, bird"}, 2 / 3),
        Example("<answer>dog cat bird</answer>", _PETS, 1.0),
        Example("Cat", {"answer": "cat"}, 1.0),
        Example("traffic light", {"answer": "traffic light, car"}, 0.5, {"separators": ","}),
        Example("fish", _PETS, 0.0),
    ),
)
def jaccard(
    response: Response, reference: Json, *,
    separators: str = ", ",
    ignore_case: bool = True,
    normalise: Normal = "edges",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """|both| / |either| of the stated labels and those of ``reference.answer``, in [0, 1] (Curr-ReFT).

    Both are split at any of ``separators``, by default commas and blanks, and at line ends.
    """
    sets = _sets(response, reference, separators, normalise, ignore_case, extract)
    value = len(sets.said & sets.gold) / len(sets.said | sets.gold)
    return Score(value, details={"reason": sets.reason} if sets.reason else {})


@verifier(
    "list_credit",
    range=(-MAX_ITEMS, MAX_ITEMS),
    sources=_SOURCES,
    examples=(
        Example("(B, C)", _STOPS, 1.0),
        Example("<answer>B, B, X</answer>", _STOPS, -0.5),
        Example("<answer>X</answer>", _STOPS, -0.5),
        Example("B, X", _STOPS, 1.0, {"credit": 1.0, "penalty": 0.0}),
        Example("", _STOPS, None, status=Status.NO_ANSWER),
    ),
)
def list_credit(
    response: Response, reference: Json, *,
    credit: _Credit = 0.5,
    penalty: _Credit = 0.5,
    separators: str = ",;",
    ignore_case: bool = True,
    normalise: Normal = "edges",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """``credit`` for each stated label that is in ``reference.answer``, minus ``penalty`` for each other one.

    RewardMap's list of stops: a label stated again is a wrong one. Lists are split as by ``multi_label_f1``;
    one of over 1,000 labels has the value of 1,000 wrong ones, LaTeX and an over-long text that of one.
    """
    sets = _sets(response, reference, separators, normalise, ignore_case, extract)
    stated = sets.stated
    if sets.reason:
        return Score(-penalty, details={"reason": sets.reason})
    if len(stated) > MAX_ITEMS:
        return Score(-penalty * MAX_ITEMS, details={"reason": f"over {MAX_ITEMS} labels"})
    right = len(sets.said & sets.gold)
    return Score(credit * right - penalty * (len(stated) - right), details={"right": right, "stated": len(stated)})


def _sets(
    response: Response, reference: Json, separators: str, normalise: Normal, ignore_case: bool, extract: Extract
) -> _Sets:
    texts = reference_texts(reference)
    split = [split_labels(text, separators, normalise, ignore_case) for text in texts]
    gold = frozenset(label for labels in split for label in labels)
    if not gold or any(map(is_latex, texts)):
        raise ReferenceUnparseable("reference.answer holds no label, or LaTeX", field="reference.answer")
    text = without_text_commands(scope_of(response.text, extract).text)
    if len(text) > LONGEST or is_latex(text):
        return _Sets(frozenset(), gold, reason="LaTeX or an over-long text is no list of labels")
    stated = tuple(split_labels(text, separators, normalise, ignore_case))
    if not stated:
        raise NoAnswer("no label in the answer")
    return _Sets(frozenset(stated), gold, stated)
