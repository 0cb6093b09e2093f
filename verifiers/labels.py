"""``yes_no``, ``label``, ``label_contains`` and ``exact_in_list``: answers that are one label."""

import re
from collections.abc import Sequence

from rewardhub.errors import NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import Normal, gold_labels, printable, reference_texts, said_label, texts_of
from rewardhub.verifiers.answerlib.lanes import if_short
from rewardhub.verifiers.answerlib.scope import LONGEST, Extract, scope_of, without_text_commands

YES = ("yes", "true", "correct")
NO = ("no", "false", "incorrect")

_SOURCES = ("rewardhub.verifiers.tags", "rewardhub.verifiers.answerlib.scope", "rewardhub.verifiers.answerlib.labels")
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_NOT = frozenset({"not", "n't", "never", "isn't", "isn’t", "wasn't", "cannot", "neither", "hardly"})

_YES, _HORSE = {"answer": "yes"}, {"answer": "sea horse"}
_BARE = {"extract": "whole", "normalise": "none", "ignore_case": False}
_LIGHT = {"answer": "traffic light", "aliases": ["stoplight"]}
_SET = {"answer": "1/2", "labels": ["1/2", "0.5", "2/4"]}


@verifier(
    "yes_no",
    sources=_SOURCES,
    examples=(
        Example("True, because it is round.", _YES, 1.0),
        Example("<answer>No</answer>", _YES, 0.0),
        Example("no", {"answer": 0}, 1.0),
        Example("yes", {"answer": True}, 1.0),
        Example("yes and no", _YES, 0.0),
        Example("The answer is not true.", _YES, 0.0),
        Example("yesterday", _YES, None, status=Status.NO_ANSWER),
        Example("oui", {"answer": "oui"}, 1.0, {"yes": ["oui"], "no": ["non"]}),
        Example("yes", {"answer": "maybe"}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def yes_no(
    response: Response, reference: Json, *,
    yes: tuple[str, ...] = YES,
    no: tuple[str, ...] = NO,
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """1.0 where the response says the same of yes and no as ``reference.answer``, else 0.0 with the reason.

    The reference is a word of ``yes`` or ``no``, a boolean, or 1 or 0. The words are looked for as whole
    words, in any case, in the answer tag or box, behind "answer is", or in the whole response; both kinds
    present, or one behind a negation ("not true"), is wrong (the synonyms are Curr-ReFT's).
    """
    positive, negative = ({word.casefold() for word in words} for words in (yes, no))
    wanted = _truth(reference.get("answer"), positive, negative)
    scope = scope_of(response.text, extract)
    words = [match.group().casefold() for match in _WORD.finditer(scope.text[-LONGEST:])]
    places = [index for index, word in enumerate(words) if word in positive or word in negative]
    said = {words[index] in positive for index in places}
    if not said and not scope.stated:
        raise NoAnswer("neither yes nor no in the response")
    reason = "neither yes nor no in the answer" if not said else "both yes and no" if len(said) > 1 else ""
    if any(index and words[index - 1] in _NOT for index in places):
        reason = "negated"
    if not reason and said != {wanted}:
        reason = "the opposite"
    return Score(float(not reason), details={"reason": reason} if reason else {})


@verifier(
    "label",
    sources=_SOURCES,
    examples=(
        Example("<answer>Sea Horse</answer>", _HORSE, 1.0),
        Example("horse", _HORSE, 0.0),
        Example("sea horse", _HORSE, 1.0, _BARE),
        Example("Sea Horse", _HORSE, 0.0, _BARE),
        Example("Golden Retriever.", {"answer": "Golden Retriever"}, 0.0, _BARE),
        Example("Golden Retriever.", {"answer": "Golden Retriever"}, 1.0),
        Example("stoplight", _LIGHT, 1.0),
        Example("lamp", _LIGHT, 0.0),
        Example("NYC", {"answer": "New York City", "aliases": ["NYC", "New York"]}, 1.0),
        Example("0.5", _SET, 0.0),
        Example("1/2", _SET, 1.0),
        Example("one half", _SET, 0.0),
        Example("\\frac{1}{2}", {"answer": "1/2"}, 0.0),
        Example("dog", {"answer": "a dog"}, 1.0, {"normalise": "vqa"}),
        Example("2", {"answer": "two"}, 1.0, {"normalise": "vqa"}),
        Example("cat", {"answer": "cat/kitten"}, 1.0, {"separator": "/"}),
        Example("<answer></answer>", _HORSE, None, status=Status.NO_ANSWER),
        Example("x", {"answer": "\\frac{1}{2}"}, None, status=Status.REFERENCE_UNPARSEABLE),
        Example("x", {"answer": "dog", "labels": ["cat", "cow"]}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def label(
    response: Response, reference: Json, *,
    ignore_case: bool = True,
    normalise: Normal = "edges",
    separator: str = "",
    extract: Extract = "stated",
) -> Score:  # fmt: skip
    """1.0 where the answer is the label ``reference.answer`` (or one of several) or one of its aliases.

    Reference: ``answer``, a text or a list; optionally ``aliases`` (texts that mean the same) and
    ``labels`` (every label there is: the answer must be one, and an answer outside is wrong with that
    reason). Labels are texts and never mathematics: "0.5" is not "1/2", LaTeX in a response is wrong and
    in a reference unusable. ``normalise``: see ``answerlib.labels.normal``; ``separator`` splits a text
    reference into several. CLS-RL's form without thinking is ``extract="whole"``, ``normalise="none"``,
    ``ignore_case=False``.
    """
    texts = [part for text in reference_texts(reference) for part in (text.split(separator) if separator else [text])]
    golds = gold_labels(texts, "reference.answer", normalise, ignore_case)
    golds += _optional(reference, "aliases", normalise, ignore_case)
    known = _optional(reference, "labels", normalise, ignore_case)
    if known and not set(golds) & set(known):
        raise ReferenceUnparseable("reference.answer is not one of reference.labels", field="reference.answer")
    said = said_label(scope_of(response.text, extract).text, normalise, ignore_case)
    if said is None:
        return Score(0.0, details={"reason": "LaTeX or an over-long text is not a label"})
    reason = "" if said in golds else "another label" if not known or said in known else "not in the label set"
    return Score(float(not reason), details={"extracted": printable(said)} | ({"reason": reason} if reason else {}))


def _contains(response: Response, reference: Json, ignore_case: bool = True, extract: Extract = "whole") -> Score:
    golds = reference_texts(reference)
    if reference.get("aliases") is not None:
        golds += reference_texts(reference, "aliases")
    phrases = [_spaced(gold, ignore_case) for gold in golds]
    if not all(phrase.strip() for phrase in phrases):
        raise ReferenceUnparseable("reference.answer has no word", field="reference.answer")
    text = _spaced(scope_of(response.text, extract).text, ignore_case)
    found = any(phrase in text for phrase in phrases)
    return Score(float(found), details={} if found else {"reason": "the label is not in the response"})


_contains_fast = if_short(_contains, 4_000)


@verifier(
    "label_contains",
    lane="pool",
    fast=_contains_fast,
    sources=_SOURCES,
    examples=(
        Example("The athlete does the long jump.", {"answer": "high jump"}, 0.0),
        Example("It shows a High Jump, I think.", {"answer": "high jump"}, 1.0),
        Example("a highly jumpy cat", {"answer": "high"}, 0.0),
        Example("in the big apple", {"answer": "New York", "aliases": ["Big Apple"]}, 1.0),
        Example("", {"answer": "high jump"}, None, status=Status.NO_ANSWER),
    ),
)
def label_contains(
    response: Response, reference: Json, *, ignore_case: bool = True, extract: Extract = "whole"
) -> Score:
    """1.0 where the response contains ``reference.answer`` (one of several) or an alias as whole words.

    Blanks and punctuation between words do not count. Weak supervision as in Video-STaR: nothing is said
    about what else the response contains. Spans of time are ``temporal_iou``'s.
    """
    return _contains(response, reference, ignore_case, extract)


@verifier(
    "exact_in_list",
    sources=_SOURCES,
    examples=(
        Example("<answer>Paris </answer>", {"answer": ["Paris"]}, 1.0),
        Example("six", {"answer": ["6", "six"]}, 1.0),
        Example("paris", {"answer": ["Paris"]}, 0.0),
        Example("paris", {"answer": ["Paris"]}, 1.0, {"ignore_case": True}),
        Example("Paris", {"answer": []}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def exact_in_list(
    response: Response, reference: Json, *, ignore_case: bool = False, extract: Extract = "stated"
) -> Score:
    """1.0 where the answer, blanks around it taken off, is one of ``reference.answer`` (SATORI-R1), else 0.0."""
    golds = [gold.strip() for gold in reference_texts(reference)]
    said = without_text_commands(scope_of(response.text, extract).text)
    if ignore_case:
        golds, said = [gold.casefold() for gold in golds], said.casefold()
    return Score(float(said in golds), details={} if said in golds else {"reason": "not in the list"})


def _optional(reference: Json, key: str, normalise: Normal, ignore_case: bool) -> tuple[str, ...]:
    field = f"reference.{key}"
    if reference.get(key) is None:
        return ()
    return gold_labels(texts_of(reference[key], field), field, normalise, ignore_case)


def _spaced(text: str, ignore_case: bool) -> str:
    """The words of a text with one blank around each."""
    words = _WORD.findall(text.casefold() if ignore_case else text)
    return f" {' '.join(words)} "


def _truth(answer: object, positive: set[str], negative: set[str]) -> bool:
    if answer in (0, 1) and isinstance(answer, int):
        return bool(answer)
    word = answer.strip().casefold() if isinstance(answer, str) else ""
    if (word in positive) == (word in negative):
        known: Sequence[str] = sorted(positive | negative)
        reason = f"reference.answer must be one of {', '.join(known)}"
        raise ReferenceUnparseable(reason, field="reference.answer")
    return word in positive
