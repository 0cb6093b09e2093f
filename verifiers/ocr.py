"""``ocr_wer``, ``ocr_edit`` and ``anls``: how near a transcription is to the gold text, by edit distance."""

from typing import Annotated, Literal

from pydantic import Field
from rapidfuzz.distance import Levenshtein

from rewardhub.errors import ConfigError, NoAnswer
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import reference_texts
from rewardhub.verifiers.answerlib.lanes import if_short
from rewardhub.verifiers.answerlib.scope import tagged

Share = Annotated[float, Field(ge=0, le=1)]

MAX_CHARS = 100_000
_SHORT = 2_000
_SOURCES = tuple(f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.labels", "answerlib.scope"))

_CAT, _KITTEN, _SIX = {"answer": "the cat sat"}, {"answer": "sitting"}, {"answer": ["6", "six"]}


def _wer(response: Response, reference: Json, *, ignore_case: bool = False) -> Score:
    golds = [_cased(gold, ignore_case).split() for gold in reference_texts(reference)]
    said = _cased(_said(response), ignore_case).split()
    rates = [Levenshtein.distance(gold, said, score_cutoff=len(gold)) / len(gold) for gold in golds]
    return Score(max(0.0, 1.0 - min(rates)))


@verifier(
    "ocr_wer",
    lane="pool",
    fast=if_short(_wer, _SHORT),
    max_chars=MAX_CHARS,
    libraries=("rapidfuzz",),
    sources=_SOURCES,
    examples=(
        Example("the cat", _CAT, 2 / 3),
        Example("the cat sat", {"answer": "the cat sat down"}, 0.75),
        Example("a b c d e f", {"answer": "a b"}, 0.0),
        Example("<answer>the  cat\nsat</answer>", _CAT, 1.0),
        Example("The cat sat", _CAT, 2 / 3),
        Example("The cat sat", _CAT, 1.0, {"ignore_case": True}),
        Example("", _CAT, None, status=Status.NO_ANSWER),
        Example("the cat", {"answer": " "}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def ocr_wer(response: Response, reference: Json, *, ignore_case: bool = False) -> Score:
    """max(0, 1 - word error rate), in [0, 1] (OneThinker, GRPO-CARE, HumanOmniV2, VideoRFT).

    The rate is the edit distance between the words, split at blanks, over the number of words of
    ``reference.answer``; of several references the nearest counts. The text is that of the answer tag or
    box, else the whole response; over 100,000 characters are ``over_limit``.
    """
    return _wer(response, reference, ignore_case=ignore_case)


def _edit(
    response: Response, reference: Json, *, ignore_case: bool = False, lower: float = 0.0, upper: float = 1.0
) -> Score:
    if lower > upper:
        raise ConfigError("lower must not be above upper", field="lower")
    golds = [_compact(gold, ignore_case) for gold in reference_texts(reference, empty=True)]
    said = _compact(tagged(response.text), ignore_case)
    if not said and all(golds):
        raise NoAnswer("the response is empty")
    value = max(_similarity(gold, said) for gold in golds)
    return Score(1.0 if value >= upper else 0.0 if value <= lower else value, details={"similarity": value})


@verifier(
    "ocr_edit",
    lane="pool",
    fast=if_short(_edit, _SHORT),
    max_chars=MAX_CHARS,
    libraries=("rapidfuzz",),
    sources=_SOURCES,
    examples=(
        Example("kitten", _KITTEN, 4 / 7),
        Example("hello wurld", {"answer": "hello world"}, 0.9),
        Example("Sale", {"answer": "Sales"}, 0.8),
        Example("abcd", {"answer": "axyz"}, 0.25),
        Example("", {"answer": ""}, 1.0),
        Example("a b c", {"answer": "abc"}, 1.0),
        Example("ABC", {"answer": "abc"}, 0.0),
        Example("ABC", {"answer": "abc"}, 1.0, {"ignore_case": True}),
        Example("kitten", _KITTEN, 0.0, {"lower": 0.6}),
        Example("kitten", _KITTEN, 1.0, {"upper": 0.5}),
        Example("", _KITTEN, None, status=Status.NO_ANSWER),
    ),
)
def ocr_edit(
    response: Response, reference: Json, *, ignore_case: bool = False, lower: Share = 0.0, upper: Share = 1.0
) -> Score:
    """1 - edit distance / the longer length, all blanks removed, in [0, 1] (GLM-4.1V-Thinking).

    At or below ``lower`` it is 0, at or above ``upper`` it is 1. Two empty texts are equal, so a
    reference may be empty; of several references the nearest counts. Details: ``similarity``.
    """
    return _edit(response, reference, ignore_case=ignore_case, lower=lower, upper=upper)


def _anls(
    response: Response, reference: Json, *,
    threshold: float = 0.5, at_threshold: Literal["keep", "zero"] = "keep", ignore_case: bool = True,
) -> Score:  # fmt: skip
    golds = [" ".join(_cased(gold, ignore_case).split()) for gold in reference_texts(reference)]
    said = " ".join(_cased(_said(response), ignore_case).split())
    value = max(_similarity(gold, said) for gold in golds)
    kept = value > threshold or (value == threshold and at_threshold == "keep")
    return Score(value if kept else 0.0, details={"similarity": value})


@verifier(
    "anls",
    lane="pool",
    fast=if_short(_anls, _SHORT),
    max_chars=MAX_CHARS,
    libraries=("rapidfuzz",),
    sources=_SOURCES,
    examples=(
        Example("kitten", _KITTEN, 4 / 7),
        Example("six", _SIX, 1.0),
        Example("abcd", {"answer": "axyz"}, 0.0),
        Example("ab", {"answer": "ax"}, 0.5),
        Example("ab", {"answer": "ax"}, 0.0, {"at_threshold": "zero"}),
        Example("PARIS", {"answer": "Paris"}, 1.0),
        Example("PARIS", {"answer": "Paris"}, 0.0, {"ignore_case": False}),
        Example("", _SIX, None, status=Status.NO_ANSWER),
    ),
)
def anls(
    response: Response, reference: Json, *,
    threshold: Share = 0.5, at_threshold: Literal["keep", "zero"] = "keep", ignore_case: bool = True,
) -> Score:  # fmt: skip
    """The normalised Levenshtein similarity to the nearest of ``reference.answer``, in [0, 1]; 0 when low.

    Biten et al. 2019, "Scene Text Visual Question Answering": 1 - edit distance / the longer length, and
    0 where it is below ``threshold``. Exactly at the threshold it is kept; the paper's rule for the
    distance (NL < 0.5) drops it: ``at_threshold="zero"``. Runs of blanks count as one. Details: ``similarity``.
    """
    return _anls(response, reference, threshold=threshold, at_threshold=at_threshold, ignore_case=ignore_case)


def _said(response: Response) -> str:
    text = tagged(response.text)
    if not text.strip():
        raise NoAnswer("the response is empty")
    return text


def _cased(text: str, ignore_case: bool) -> str:
    return text.casefold() if ignore_case else text


def _compact(text: str, ignore_case: bool) -> str:
    return "".join(_cased(text, ignore_case).split())


def _similarity(one: str, other: str) -> float:
    longer = max(len(one), len(other))
    return 1.0 - Levenshtein.distance(one, other) / longer if longer else 1.0
