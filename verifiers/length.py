"""``length`` and ``length_reflection``: rewards that depend on how long a response is."""

import math
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field

from rewardhub.errors import ConfigError, InvalidInput
from rewardhub.registry import Example, verifier
from rewardhub.types import Json, Response, Score

Shape = Literal["cosine", "band", "overlong", "gaussian"]
Unit = Literal["tokens", "chars", "words"]
Amount = Annotated[float, Field(ge=-2.0, le=2.0)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]


def _tokens(count: int) -> Response:
    return Response("x", tokens=count)


_RIGHT = {"start": 1.0, "end": 0.5, "limit": 4096}
_WRONG = {"start": -1.0, "end": -0.5, "limit": 4096}
_COGITO = {"start": -0.5, "end": 0.0, "limit": 4096, "beyond": -0.5}
_BAND = {"shape": "band", "low": 320, "high": 512, "start": 0.2}
_DAPO = {"shape": "overlong", "limit": 20_480, "buffer": 4096}
_EXAMPLES = (
    Example(_tokens(0), {}, 1.0, _RIGHT),
    Example(_tokens(1024), {}, 0.75 + 0.25 * math.sqrt(0.5), _RIGHT),
    Example(_tokens(2048), {}, 0.75, _RIGHT),
    Example(_tokens(4096), {}, 0.5, _RIGHT),
    Example(_tokens(8192), {}, 0.5, _RIGHT),
    Example(_tokens(0), {}, -1.0, _WRONG),
    Example(_tokens(1024), {}, -0.75 - 0.25 * math.sqrt(0.5), _WRONG),
    Example(_tokens(2048), {}, -0.75, _WRONG),
    Example(_tokens(4096), {}, -0.5, _WRONG),
    Example(_tokens(8192), {}, -0.5, _WRONG),
    Example(_tokens(2048), {}, -0.25, _COGITO),
    Example(_tokens(4096), {}, -0.5, _COGITO),
    Example(_tokens(400), {}, 0.2, _BAND),
    Example(_tokens(320), {}, 0.2, _BAND),
    Example(_tokens(512), {}, 0.2, _BAND),
    Example(_tokens(513), {}, 0.0, _BAND),
    Example(_tokens(16_384), {}, 0.0, _DAPO),
    Example(_tokens(18_432), {}, -0.5, _DAPO),
    Example(_tokens(20_480), {}, -1.0, _DAPO),
    Example(_tokens(99_999), {}, -1.0, _DAPO),
    Example(_tokens(110), {}, math.exp(-0.16), {"shape": "gaussian", "low": 100, "limit": 125}),
    Example("x" * 2048, {}, 0.75, _RIGHT | {"unit": "chars"}),
    Example("one two", {}, 0.75, {"start": 1.0, "end": 0.5, "limit": 4, "unit": "words"}),
)  # fmt: skip


@verifier("length", range=(-2.0, 2.0), examples=_EXAMPLES)
def length(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    shape: Shape = "cosine",
    unit: Unit = "tokens",
    start: Amount = 1.0,
    end: Amount = 0.0,
    low: Annotated[int, Field(ge=0)] = 0,
    high: Annotated[int, Field(ge=0)] = 0,
    limit: Count = 4096,
    buffer: Count = 1,
    beyond: Amount | None = None,
) -> Score:
    """A shape of the response's length alone, in ``unit``; whether it is right is the recipe's expression.

    - ``cosine``: ``end + (start - end)/2 · (1 + cos(π·min(1, L/limit)))``; from ``limit`` on ``beyond``, if
      given. open-R1: 1→0.5 for right and -1→-0.5 for wrong answers over 4096. VL-Cogito: -0.5→0 for wrong
      ones with ``beyond=-0.5``, times 0.5. Light-IF: 0→1 over 8192.
    - ``band``: ``start`` where low ≤ L ≤ high, else ``end``. GRPO-CARE, Video-R1, VideoRFT: 0.2 in 320..512.
    - ``overlong``: 0 up to limit - buffer, then falling to -1 at ``limit`` (DAPO, Yu et al. 2025).
    - ``gaussian``: ``exp(-(|L - low| / (limit - low))²)`` (SRPO's, whose low and limit follow from the
      response: ``length_reflection``).

    A recipe uses two terms where right and wrong differ: ``where(accuracy > 0, when_right, when_wrong)``.
    Shapes that depend on the group's right answers are expressions. VL-Cogito's dynamic length, with a let
    T of ``g_mean(tokens, where=accuracy > 0)``: ``where(accuracy == 0 and g_count(accuracy > 0) > 0,
    -0.25 * (1 + cos(3.141592653589793 * min(tokens, 2 * T) / T)), 0)``. Observe-R1's bonus: ``where(accuracy > 0
    and tokens > 100 and tokens == g_min(tokens, where=accuracy > 0), 0.2, 0)``.

    Raises ``InvalidInput`` where the unit is tokens and the caller sent no token count.
    """
    size = measured(response, unit)
    return Score(_SHAPES[shape](size, start, end, low, high, limit, buffer, beyond), details={"length": size})


def measured(response: Response, unit: Unit) -> int:
    """The length of a response; raises ``InvalidInput`` where its token count was not sent."""
    if unit == "chars":
        return len(response.text)
    if unit == "words":
        return len(response.text.split())
    if response.tokens is None or response.tokens < 0:
        raise InvalidInput("the length in tokens needs response.tokens", field="response.tokens")
    return response.tokens


def _cosine(
    size: int, start: float, end: float, _low: int, _high: int, limit: int, _buffer: int, beyond: float | None
) -> float:
    if beyond is not None and size >= limit:
        return beyond
    return end + 0.5 * (start - end) * (1.0 + math.cos(math.pi * min(1.0, size / limit)))


def _band(size: int, start: float, end: float, low: int, high: int, *_rest: float | None) -> float:
    if high < low:
        raise ConfigError("high must not be below low", field="high")
    return start if low <= size <= high else end


def _overlong(
    size: int, _start: float, _end: float, _low: int, _high: int, limit: int, buffer: int, _beyond: float | None
) -> float:
    if buffer > limit:
        raise ConfigError("buffer must not exceed limit", field="buffer")
    return min(0.0, max(-1.0, (limit - buffer - size) / buffer))


def _gaussian(size: int, _start: float, _end: float, low: int, _high: int, limit: int, *_rest: float | None) -> float:
    if limit <= low:
        raise ConfigError("limit must be above low", field="limit")
    return bell(size, low, limit)


def bell(size: float, target: float, limit: float) -> float:
    """``exp(-(|size - target| / (limit - target))²)``, in [0, 1]."""
    return math.exp(-(min(1e3, abs(size - target) / (limit - target)) ** 2))


_SHAPES: dict[Shape, Callable[..., float]] = {
    "cosine": _cosine, "band": _band, "overlong": _overlong, "gaussian": _gaussian,
}  # fmt: skip

_FIRST = "<think>" + "t" * 30 + "</think><answer>" + "a" * 20 + "</answer>"
_SHORT = "<think>t</think><answer>a</answer>"
_AGAIN = _FIRST + "<reflection>" + "r" * 10 + "</reflection>"
_REFLECTION = (
    Example(_AGAIN + "<think>" + "t" * 30 + "</think><answer>" + "a" * 20 + "</answer>", {}, math.exp(-0.16)),
    Example(_AGAIN + "<think>" + "t" * 20 + "</think><answer>" + "a" * 20 + "</answer>", {}, 1.0),
    Example(_SHORT + "<reflection>r</reflection>" + _SHORT, {}, math.exp(-1.0)),
    Example(_FIRST, {}, 0.0),
    Example("no tags", {}, 0.0),
)


@verifier("length_reflection", examples=_REFLECTION)
def length_reflection(
    response: Response,
    reference: Json,  # noqa: ARG001  # reads the response alone
    *,
    stretch: Annotated[float, Field(gt=1.0, le=100.0)] = 2.0,
    longest: Annotated[float, Field(gt=1.0, le=100.0)] = 2.5,
) -> Score:
    """SRPO's Gaussian: how near the length of the whole is to twice that of the first attempt.

    ``exp(-(|L - T| / (Tmax - T))²)`` with T = ``stretch`` and Tmax = ``longest`` times the characters in the
    first think and answer; L counts the characters in both attempts and the reflection, tags left out
    (SUSTechBruce/SRPO_MLLMs). Without a second attempt the value is 0.0. Details: ``length``, ``target``.
    """
    if longest <= stretch:
        raise ConfigError("longest must be above stretch", field="longest")
    sizes = _elements(response.text, ("think", "answer", "reflection", "think", "answer"))
    if sizes is None:
        return Score(0.0, details={"reason": "not think, answer, reflection, think, answer"})
    first, whole = sizes[0] + sizes[1], sum(sizes)
    if not first:
        return Score(0.0, details={"reason": "the first attempt is empty"})
    target = stretch * first
    return Score(bell(whole, target, longest * first), details={"length": whole, "target": target})


def _elements(text: str, names: tuple[str, ...]) -> list[int] | None:
    """The lengths of these elements, which follow one another, or None."""
    sizes, position = [], 0
    for name in names:
        begin = text.find(f"<{name}>", position)
        close = text.find(f"</{name}>", begin) if begin >= 0 else -1
        if close < 0:
            return None
        sizes.append(close - begin - len(name) - 2)
        position = close
    return sizes
