"""``repetition`` and ``no_repeat``: penalties for saying the same again."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import re2
from numpy.typing import NDArray
from pydantic import Field

from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score

Tokens = Literal["words", "chars"]
Unit = Literal["sentence", "window"]

_FAST = 20_000
_SENTENCE_END = re2.compile(r"[.!?]+\s+|[。！？]+|\n+")

_AGAIN = "a b c a b c a b c"
_TWENTY = {"n": 20, "max_penalty": -2.0}
_REPETITION = (
    Example(_AGAIN, {}, -4 / 7),
    Example("A b c a B c a b C", {}, -4 / 7),
    Example("a b", {}, 0.0),
    Example("a b c d e f", {}, 0.0),
    Example(_AGAIN, {}, 0.0, _TWENTY),
    Example("same " * 40, {}, -2.0 * 20 / 21, _TWENTY),
    Example("same " * 79, {}, -0.5 * 39 / 40, {"n": 40, "max_penalty": -0.5}),
    Example("again " * 24, {}, -0.5 * 4 / 5, {"n": 20, "max_penalty": -0.5}),
    Example("好好好好", {}, -0.5, {"tokens": "chars"}),
    Example("", {}, 0.0),
)  # fmt: skip


def _fast_repetition(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return repetition(response, reference, **parameters) if len(response.text) <= _FAST else None


@verifier(
    "repetition",
    range=(-2.0, 0.0),
    lane="pool",
    fast=_fast_repetition,
    time_limit_s=5.0,
    examples=_REPETITION,
    libraries=("numpy",),
)
def repetition(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    n: Annotated[int, Field(ge=1, le=1000)] = 3,
    max_penalty: Annotated[float, Field(ge=-2.0, le=0.0)] = -1.0,
    tokens: Tokens = "words",
) -> Score:
    """``(1 - distinct n-grams / n-grams) · max_penalty``: 0 without repetition, towards ``max_penalty`` with it.

    Words are lower-cased and stand between white space; a response shorter than ``n`` has no penalty.
    Published settings: n=3, -1 (R1-Reward), n=20, -0.5 for wrong answers (VL-Cogito), n=20, -2
    (Perception-R1), n=40, -0.5 (MMR1, open-R1). Whether only wrong answers are punished is the recipe's
    expression. Details: ``total`` and ``distinct``. N-grams are compared exactly, in O(m log m) for m
    tokens and log n passes.
    """
    lowered = response.text.lower()
    ranks = _ranks(lowered.split()) if tokens == "words" else _characters("".join(lowered.split()))
    grams = _grams(ranks, n)
    if not len(grams):
        return Score(0.0, details={"total": 0, "distinct": 0})
    distinct = int(grams.max()) + 1
    value = (1.0 - distinct / len(grams)) * max_penalty
    return Score(value or 0.0, details={"total": len(grams), "distinct": distinct})


_TWICE = "The cup is red. It is near. The cup is red."
_NO_REPEAT = (
    Example(_TWICE, {}, 0.0),
    Example("The cup is red. It is near.", {}, 1.0),
    Example("The box has 1.5 m. The bag has 1.5 kg.", {}, 1.0),
    Example("Pi is 3.14 here and 2.14 there.", {}, 1.0),
    Example("杯子是红色的。它很近。杯子是红色的。", {}, 0.0, {"least_words": 1}),
    Example(_TWICE, {}, 1.0, {"times": 3}),
    Example("0123456789" * 14, {}, 0.0, {"unit": "window", "times": 10}),
    Example("0123456789" * 13, {}, 1.0, {"unit": "window", "times": 10}),
    Example("", {}, 1.0),
)  # fmt: skip


def _fast_no_repeat(response: Response, reference: Json, **parameters: Any) -> Score | None:
    return no_repeat(response, reference, **parameters) if len(response.text) <= _FAST else None


@verifier(
    "no_repeat",
    lane="pool",
    fast=_fast_no_repeat,
    time_limit_s=5.0,
    examples=_NO_REPEAT,
    libraries=("numpy", "google-re2"),
)
def no_repeat(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    unit: Unit = "sentence",
    times: Annotated[int, Field(ge=2, le=1000)] = 2,
    window: Annotated[int, Field(ge=1, le=1000)] = 50,
    least_words: Annotated[int, Field(ge=1, le=100)] = 2,
) -> Score:
    """0.0 where a sentence, or a window of ``window`` characters, occurs ``times`` times or more, else 1.0.

    Sentences end at . ! ? before white space (a decimal point ends none), at 。！？ and at line ends; case
    and white space do not count, nor do sentences of fewer than ``least_words`` words. A sentence said twice
    is Affordance-R1's rule; a 50-character window seen ten times is GLM-4.1V-Thinking's. Windows may
    overlap. Details: how ``often`` the most frequent one occurs.
    """
    text = response.text
    often = _most_frequent_sentence(text, least_words) if unit == "sentence" else most_frequent_window(text, window)
    details: dict[str, Any] = {"often": often}
    if often >= times:
        return Score(0.0, details=details | {"reason": f"a {unit} occurs {often} times"})
    return Score(1.0, details=details)


def _most_frequent_sentence(text: str, least_words: int) -> int:
    found: Counter[str] = Counter()
    for piece in _SENTENCE_END.split(text):
        words = piece.lower().rstrip(" .!?\t").split()
        if len(words) >= least_words:
            found[" ".join(words)] += 1
    return max(found.values(), default=0)


def most_frequent_window(text: str, window: int) -> int:
    """How often the most frequent stretch of ``window`` characters occurs; 0 in a shorter text."""
    grams = _grams(_characters(text), window)
    return int(np.bincount(grams).max()) if len(grams) else 0


def _ranks(words: Sequence[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.array([known.setdefault(word, len(known)) for word in words], dtype=np.int64)


def _characters(text: str) -> NDArray[np.int64]:
    data = text.encode("utf-32-le", "surrogatepass")
    return np.frombuffer(data, dtype=np.uint32).astype(np.int64)


def _grams(ranks: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """One number per n-gram, equal for equal n-grams and dense from 0, by doubling the length."""
    if len(ranks) < n:
        return ranks[:0]
    grams, length = np.unique(ranks, return_inverse=True)[1], 1
    while length < n:
        step = min(length, n - length)
        pairs = grams[: len(grams) - step] * (int(grams.max()) + 1) + grams[step:]
        grams, length = np.unique(pairs, return_inverse=True)[1], length + step
    return grams
