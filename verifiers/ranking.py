"""``cubic_rank``, ``ndcg``, ``recall_at_k`` and ``similarity_gap``: ranked lists against what is relevant."""

import math
import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from rewardhub.errors import InvalidInput, NoAnswer, ReferenceUnparseable
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score, Status
from rewardhub.verifiers.answerlib.labels import texts_of
from rewardhub.verifiers.answerlib.scope import LONGEST
from rewardhub.verifiers.tags import last_boxed, last_tagged

Depth = Annotated[int, Field(ge=1, le=1_000)]

MAX_GAIN = 1_000.0
_SOURCES = tuple(f"rewardhub.verifiers.{name}" for name in ("tags", "answerlib.scope", "answerlib.labels"))
# One class repeated: linear time.
_LIST = re.compile(r"\[([^\[\]]*)\]")
_ITEM = re.compile(r"[^\s,;>\[\]()'\"]+")

_KINDS = ("positive", "negative")
_PAGES, _THREE = {"relevant": [2, 5]}, {"k": 3}
_GAINS = {"gains": {"a": 3, "b": 1, "c": 0}}
_GAPS = {"positive_0": 0.9, "positive_1": 0.8, "negative_0": 0.5, "negative_1": 0.3}


@verifier(
    "cubic_rank",
    sources=_SOURCES,
    examples=(
        Example("<answer>[2, 7, 5]</answer>", _PAGES, (1 + 1 / 27) / (1 + 1 / 8), _THREE),
        Example("[2, 2, 5]", _PAGES, 1.0, _THREE),
        Example("[7, 8, 9, 2]", _PAGES, 0.0, _THREE),
        Example("<rerank>5 > 2 > 7</rerank>", _PAGES, 1.0, {"k": 3, "tag": "rerank"}),
        Example("pages two and five", _PAGES, None, status=Status.NO_ANSWER),
        Example("[2]", {"relevant": []}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def cubic_rank(response: Response, reference: Json, *, k: Depth = 10, tag: str = "answer") -> Score:
    """The sum over the first ``k`` stated ids of 1/j³ for the relevant ones, over its best value, in [0, 1].

    MM-R5: j is the place from 1, the best value has relevant ids in the first min(k, number of relevant)
    places. Reference: ``relevant``, a list of ids. The list is the last [...] of the last ``tag`` or
    box, else all of it (ids divided by commas, blanks or ">"), else the last [...] of the response. An id
    stated twice counts where it stands first, before the list is cut.
    """
    relevant = _relevant(reference)
    stated = _stated_ids(response.text, tag)[:k]
    best = sum(1 / place**3 for place in range(1, min(len(relevant), k) + 1))
    return Score(sum(1 / place**3 for place, item in enumerate(stated, start=1) if item in relevant) / best)


@verifier(
    "ndcg",
    sources=_SOURCES,
    examples=(
        Example("[2, 7, 5]", _PAGES, 1.5 / (1 + 1 / math.log2(3)), _THREE),
        Example("[5, 2]", _PAGES, 1.0),
        Example("[2, 2, 2]", _PAGES, 1 / (1 + 1 / math.log2(3)), _THREE),
        Example("[a, b, c]", _GAINS, 1.0),
        Example("[c, b, a]", _GAINS, (1 / math.log2(3) + 3 / 2) / (3 + 1 / math.log2(3))),
        Example("[c, b, a]", _GAINS, (1 / math.log2(3) + 7 / 2) / (7 + 1 / math.log2(3)), {"exponential": True}),
        Example("[a]", {"gains": {"a": 0}}, None, status=Status.REFERENCE_UNPARSEABLE),
    ),
)
def ndcg(
    response: Response, reference: Json, *, k: Depth = 10, exponential: bool = False, tag: str = "answer"
) -> Score:
    """The normalised discounted cumulative gain of the first ``k`` stated ids, in [0, 1].

    Järvelin and Kekäläinen 2002: the gain at place j is divided by log2(j + 1). Reference: ``relevant``, a
    list of ids of gain 1, or ``gains``, an object from id to a gain of 0 to 1,000; with ``exponential``
    2^gain - 1 is used, for gains up to 30. Lists are read, and repeated ids merged, as by ``cubic_rank``.
    """
    gains = _gains(reference, exponential)
    stated = _stated_ids(response.text, tag)[:k]
    best = _discounted(sorted(gains.values(), reverse=True)[:k])
    return Score(min(1.0, _discounted([gains.get(item, 0.0) for item in stated]) / best))


@verifier(
    "recall_at_k",
    sources=_SOURCES,
    examples=(
        Example("[2, 7, 5]", _PAGES, 0.5, {"k": 2}),
        Example("[2, 7, 5]", _PAGES, 1.0, _THREE),
        Example("[2, 2, 2, 5]", _PAGES, 1.0, {"k": 2}),
        Example("[7]", _PAGES, 0.0),
        Example("[2]", _PAGES, 1.0, {"k": 1, "cut": True}),
    ),
)
def recall_at_k(response: Response, reference: Json, *, k: Depth = 10, cut: bool = False, tag: str = "answer") -> Score:
    """The share of ``reference.relevant`` among the first ``k`` stated ids, in [0, 1].

    ``cut`` divides by min(k, number of relevant) instead, so that 1.0 is within reach at any k. Lists are
    read, and repeated ids merged, as by ``cubic_rank``.
    """
    relevant = _relevant(reference)
    hits = len(relevant & set(_stated_ids(response.text, tag)[:k]))
    return Score(hits / (min(k, len(relevant)) if cut else len(relevant)))


@verifier(
    "similarity_gap",
    range=(-2.0, 2.0),
    examples=(
        Example(Response(signals=_GAPS), {}, 0.45),
        Example(Response(signals=_GAPS | {"positive_1": 0.4}), {}, 0.125),
        Example(Response(signals={"positive_0": 0.2, "negative_0": 0.6}), {}, 0.0),
        Example(Response(signals={"positive_0": 0.2}), {}, None, status=Status.INVALID_INPUT),
    ),
)
def similarity_gap(response: Response, reference: Json) -> float:  # noqa: ARG001  # the trainer knows the numbers
    """How well an embedding tells positives from negatives: the share of positives among the most similar,
    times the gap of the means, in [-2, 2] (UME-R1).

    The trainer sends the cosines as signals named ``positive…`` and ``negative…``. With n positives, the
    share counts the positives among the n largest of all; equal ones count in favour of the negatives.
    Raises ``InvalidInput`` where either kind is missing or a cosine is outside [-1, 1].
    """
    kinds = {kind: [v for name, v in response.signals.items() if name.startswith(kind)] for kind in _KINDS}
    positive, negative = kinds["positive"], kinds["negative"]
    if not positive or not negative or not all(-1.001 <= value <= 1.001 for value in positive + negative):
        reason = "signals must hold cosines in [-1, 1] named positive… and negative…"
        raise InvalidInput(reason, field="signals")
    ranked = sorted([(value, 0) for value in positive] + [(value, -1) for value in negative], key=_by_similarity)
    share = sum(kind == 0 for _, kind in ranked[: len(positive)]) / len(positive)
    gap = sum(positive) / len(positive) - sum(negative) / len(negative)
    return max(-2.0, min(2.0, share * gap))


def _by_similarity(entry: tuple[float, int]) -> tuple[float, int]:
    return -entry[0], entry[1]


def _stated_ids(text: str, tag: str) -> list[str]:
    """The ids of the stated list in order, each once."""
    scope = last_tagged(text, tag) or last_boxed(text)
    lists = _LIST.findall((text if scope is None else scope)[-LONGEST:])
    scope = lists[-1] if lists else scope or ""
    items = [item.casefold().strip(".") for item in _ITEM.findall(scope[:LONGEST])]
    if not items:
        raise NoAnswer("no list of ids in the response")
    return list(dict.fromkeys(items))


def _relevant(reference: Json) -> frozenset[str]:
    field = "reference.relevant"
    return frozenset(_id(text, field) for text in texts_of(reference.get("relevant"), field))


def _gains(reference: Json, exponential: bool) -> dict[str, float]:
    gains, field = reference.get("gains"), "reference.gains"
    if gains is None:
        return dict.fromkeys(_relevant(reference), 1.0)
    valid = isinstance(gains, Mapping) and all(_is_gain(gain) for gain in gains.values())
    if not valid or (exponential and max(gains.values(), default=0) > 30):
        raise ReferenceUnparseable(f"{field} must be an object from id to a gain of 0 to 1,000", field=field)
    found = {_id(str(name), field): 2.0**gain - 1 if exponential else float(gain) for name, gain in gains.items()}
    if not any(found.values()):
        raise ReferenceUnparseable(f"{field} holds no gain above 0", field=field)
    return found


def _is_gain(gain: object) -> bool:
    return isinstance(gain, int | float) and not isinstance(gain, bool) and 0 <= gain <= MAX_GAIN


def _id(text: str, field: str) -> str:
    """An id as it is compared; raises ``ReferenceUnparseable`` for one that no list could state."""
    found = text.strip().casefold().strip(".")
    if not _ITEM.fullmatch(found):
        raise ReferenceUnparseable(f"{field}: {found[:40]!r} is not an id without blanks", field=field)
    return found


def _discounted(gains: list[float]) -> float:
    return sum(gain / math.log2(place + 1) for place, gain in enumerate(gains, start=1))
