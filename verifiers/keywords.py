"""``keyword_recall`` and ``phrases``: which of some words or phrases a response mentions."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field

from rewardhub.errors import ConfigError, NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import printable, texts_of
from rewardhub.verifiers.answerlib.lanes import if_short

MAX_KEYWORDS = 1_000
MOST_NAMED = 50
_WORD = re.compile(r"[^\W_]+")
_NO_BLANKS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")
_FIELD = "reference.keywords"

Phrase = Annotated[str, Field(min_length=1, max_length=200)]

_BUS = {"keywords": ["red", "bus", "stop sign"]}


def _recall(response: Response, reference: Json, *, ignore_case: bool = True) -> Score:
    groups = _keywords(reference.get("keywords"))
    if not response.text.strip():
        raise NoAnswer("the response is empty")
    raw = response.text.casefold() if ignore_case else response.text
    spaced = _spaced(raw)
    missing = [
        printable(group[0]) for group in groups if not any(_mentioned(word, raw, spaced, ignore_case) for word in group)
    ]
    return Score(1 - len(missing) / len(groups), details={"missing": missing[:MOST_NAMED]})


@verifier(
    "keyword_recall",
    lane="pool",
    fast=if_short(_recall, 4_000),
    max_chars=100_000,
    sources=("rewardhub.verifiers.answerlib.labels",),
    examples=(
        Example("A red bus is parked.", _BUS, 2 / 3),
        Example("RED BUS, stop-sign", _BUS, 1.0),
        Example("a reddish omnibus", _BUS, 0.0),
        Example("a lorry", {"keywords": [["truck", "lorry"], "bus"]}, 0.5),
        Example("RED", {"keywords": ["red"]}, 0.0, {"ignore_case": False}),
        Example("一辆红色的公交车", {"keywords": ["红色", "公交车", "树"]}, 2 / 3),
        Example("", _BUS, None, status=Status.NO_ANSWER),
        Example("x", {"keywords": []}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def keyword_recall(response: Response, reference: Json, *, ignore_case: bool = True) -> Score:
    """The share of ``reference.keywords`` that the response mentions as whole words, in [0, 1] (PeBR-R1).

    A keyword is a text or a list of texts that mean the same; punctuation between its words does not
    count. A keyword in Chinese or Japanese is looked for anywhere, because nothing stands between words.
    A long list of guesses is not punished: combine with a length or precision term. Details: ``missing``, the first 50.
    """
    return _recall(response, reference, ignore_case=ignore_case)


_EMPTY_TALK = {"listed": ["further research is needed", "consult a professional"]}


def _phrases(
    response: Response, reference: Json, *, listed: Sequence[str], ignore_case: bool = True  # noqa: ARG001
) -> Score:  # fmt: skip
    if any(not _WORD.search(phrase) for phrase in listed):
        raise ConfigError("phrases: listed must hold phrases with a word in each", field="listed")
    raw = response.text.casefold() if ignore_case else response.text
    spaced = _spaced(raw)
    found = [phrase for phrase in listed if _mentioned(phrase, raw, spaced, ignore_case)]
    return Score(float(bool(found)), details={"found": found[:10]})


@verifier(
    "phrases",
    lane="pool",
    fast=if_short(_phrases, 4_000),
    max_chars=100_000,
    sources=("rewardhub.verifiers.answerlib.labels",),
    examples=(
        Example("So further research is needed.", {}, 1.0, _EMPTY_TALK),
        Example("Consult a  professional!", {}, 1.0, _EMPTY_TALK),
        Example("Research is needed further.", {}, 0.0, _EMPTY_TALK),
        Example("", {}, 0.0, _EMPTY_TALK),
        Example("x", {}, None, {"listed": ["..."]}, status=Status.INVALID_INPUT),
    ),
)
def phrases(
    response: Response, reference: Json, *,
    listed: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=MAX_KEYWORDS)],
    ignore_case: bool = True,
) -> Score:  # fmt: skip
    """1.0 where the response holds one of the ``listed`` phrases as whole words, else 0.0.

    Stock phrases that say nothing of the case at hand, as TimeMaster caps them; punctuation between the
    words of a phrase does not count. Details: which were ``found``.
    """
    return _phrases(response, reference, listed=listed, ignore_case=ignore_case)


def _keywords(value: Any) -> list[list[str]]:
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_KEYWORDS:
        raise ReferenceUnparseable(f"{_FIELD} must be 1 to {MAX_KEYWORDS} texts", field=_FIELD)
    groups = [texts_of(item, _FIELD) for item in value]
    if any(not _WORD.search(word) for group in groups for word in group):
        raise ReferenceUnparseable(f"{_FIELD} holds a keyword without a word", field=_FIELD)
    return groups


def _mentioned(keyword: str, raw: str, spaced: str, ignore_case: bool) -> bool:
    keyword = keyword.casefold() if ignore_case else keyword
    return keyword.strip() in raw if _NO_BLANKS.search(keyword) else _spaced(keyword) in spaced


def _spaced(text: str) -> str:
    return f" {' '.join(_WORD.findall(text))} "
